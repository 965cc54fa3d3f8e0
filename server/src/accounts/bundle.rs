//! Export and import: sites, users, groups and secrets as one file of JSON.
//!
//! Passwords, recovery codes and the tokens of accounts are hashes already. What cannot be a hash (the keys of
//! one-time codes, what is kept for Digest, the secrets of hooks) is left out unless it is asked for; a user whose
//! codes were left out comes back switched off rather than without its second factor, unless the database still
//! has its key. An import is taken as a whole or not at all. Tokens of the API belong to one server and are never
//! in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::desk::{Plan, Touched, bad, is_declared, judge};
use super::{Change, Contents, Key, Stored, seconds_now, sites};
use crate::config::{Config, Record, group, is_user_name};

/// What the file says it is.
const FORMAT: &str = "ferry-accounts";
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    site: String,
    name: String,
    record: Record,
    /// Its one-time codes were left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    codes_left_out: bool,
    /// Its access keys were left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keys_left_out: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteEntry {
    name: String,
    record: Record,
}

/// Whether secrets of access keys stand in the record itself.
fn has_secret_keys(record: &Record) -> bool {
    let keys = record.get("access_keys").and_then(Value::as_array);
    keys.into_iter().flatten().any(|key| key.get("secret").is_some())
}

/// Everything but the tokens.
pub(super) fn export(contents: &Contents, secrets: bool) -> Value {
    let user = |((site, name), stored): (&Key, &Arc<Stored>)| {
        let mut record = stored.record.clone();
        let left_out = !secrets && record.remove("totp").is_some();
        if left_out {
            record.remove("recovery");
        }
        if !secrets {
            // As good as the password, other than a hash of it.
            record.remove("digest");
        }
        let keys_left_out = !secrets && has_secret_keys(&record) && record.remove("access_keys").is_some();
        json!(Entry {
            site: site.clone(),
            name: name.clone(),
            record,
            codes_left_out: left_out,
            keys_left_out,
        })
    };
    let group = |((site, name), stored): (&Key, &Arc<Stored>)| {
        let record = stored.record.clone();
        json!(Entry {
            site: site.clone(),
            name: name.clone(),
            record,
            codes_left_out: false,
            keys_left_out: false,
        })
    };
    let site = |(name, stored): (&String, &Arc<Stored>)| {
        json!(SiteEntry { name: name.clone(), record: stored.record.clone() })
    };
    let mut bundle = json!({
        "format": FORMAT,
        "version": VERSION,
        "sites": contents.sites.iter().map(site).collect::<Vec<_>>(),
        "groups": contents.groups.iter().map(group).collect::<Vec<_>>(),
        "users": contents.users.iter().map(user).collect::<Vec<_>>(),
    });
    if let Some(map) = bundle.as_object_mut().filter(|_| secrets) {
        let all = contents.secrets.iter().map(|(k, v)| (k.clone(), v.expose().into()));
        map.insert("secrets".into(), Value::Object(all.collect()));
    }
    bundle
}

fn entries<T: DeserializeOwned>(bundle: &Record, key: &str) -> Result<Vec<T>> {
    let list = bundle.get(key).cloned().unwrap_or_else(|| json!([]));
    // A parser's message may quote a value.
    serde_json::from_value(list).map_err(|_| bad(format!("'{key}' is no list of what an export holds")))
}

/// What an import changes. `replace` lets it take the place of what is there. Errors: faults of what it
/// holds, all of them at once; doubles.
pub(super) fn plan(before: Contents, file: &Config, bundle: &Record, replace: bool) -> Result<Plan> {
    if bundle.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(bad("this is no export of accounts"));
    }
    if bundle.get("version").and_then(Value::as_u64) != Some(VERSION) {
        return Err(Error::new(ErrorKind::Unsupported).with_detail("this export is of another version"));
    }
    let mut faults = Vec::new();
    let mut changes = Vec::new();
    let mut switched_off = Vec::new();
    let mut seen = BTreeSet::new();
    let now = seconds_now();
    let mut with_sites = before.clone();
    for SiteEntry { name, record } in entries(bundle, "sites")? {
        if !seen.insert(("site", (name.clone(), String::new()))) {
            faults.push(format!("site '{name}' comes twice"));
        } else if before.sites.contains_key(&name) && !replace {
            faults.push(format!("site '{name}' is there already"));
        }
        let change = Change::Site(name, Some(Arc::new(Stored { record, changed: now })));
        with_sites.apply(change.clone());
        changes.push(change);
    }
    let (sites_before, sites_after) = (sites::all(&before, file), sites::judged(&before, &with_sites, file)?);
    let sites = &sites_after;
    let mut admit = |what: &'static str, key: &Key, there: bool| {
        let (site, name) = key;
        if !seen.insert((what, key.clone())) {
            faults.push(format!("{what} '{name}' comes twice"));
        } else if !sites.iter().any(|s| s.site == *site) {
            faults.push(format!("{what} '{name}': there is no site '{site}'"));
        } else if is_declared(file, site, name, what) {
            faults.push(format!("{what} '{name}' stands in the configuration file"));
        } else if there && !replace {
            faults.push(format!("{what} '{name}' is there already"));
        }
    };
    for entry in entries::<Entry>(bundle, "groups")? {
        let key = (entry.site, entry.name);
        admit("group", &key, before.groups.contains_key(&key));
        group(&key.1, &entry.record).map_err(|words| bad(format!("group '{}': {words}", key.1)))?;
        changes.push(Change::Group(key, Some(Arc::new(Stored { record: entry.record, changed: now }))));
    }
    for entry in entries::<Entry>(bundle, "users")? {
        let key = (entry.site, entry.name);
        let there = before.users.get(&key);
        admit("user", &key, there.is_some());
        let mut record = entry.record;
        if entry.codes_left_out {
            let kept = there.filter(|old| old.record.contains_key("totp"));
            for part in ["totp", "recovery"] {
                if let Some(value) = kept.and_then(|old| old.record.get(part)) {
                    record.insert(part.into(), value.clone());
                }
            }
            if kept.is_none() {
                record.insert("enabled".into(), false.into());
                switched_off.push(key.1.clone());
            }
        }
        if entry.keys_left_out
            && let Some(kept) = there.and_then(|old| old.record.get("access_keys"))
        {
            record.insert("access_keys".into(), kept.clone());
        }
        let same_password = there.filter(|old| old.record.get("password") == record.get("password"));
        if let Some(kept) = same_password.and_then(|old| old.record.get("digest")) {
            record.entry("digest").or_insert_with(|| kept.clone());
        }
        changes.push(Change::User(key, Some(Arc::new(Stored { record, changed: now }))));
    }
    for (name, value) in bundle.get("secrets").and_then(Value::as_object).into_iter().flatten() {
        if before.secrets.contains_key(name) && !replace {
            faults.push(format!("secret '{name}' is there already"));
        }
        if !is_user_name(name) {
            return Err(bad("the name of a secret is none"));
        }
        let value = value.as_str().ok_or_else(|| bad(format!("secret '{name}' is no text")))?;
        changes.push(Change::Secret(name.clone(), Some(Secret::new(value))));
    }
    if !faults.is_empty() {
        let rest = faults.len().saturating_sub(10);
        faults.truncate(10);
        let more = if rest > 0 { format!("\nand {rest} more") } else { String::new() };
        let e = Error::new(ErrorKind::AlreadyExists).with_detail(faults.join("\n") + &more);
        return Err(e.with_hint("nothing was imported; --replace takes the place of what is in the database"));
    }
    let mut after = before.clone();
    changes.iter().for_each(|change| after.apply(change.clone()));
    let keys: Vec<Key> = after.users.keys().cloned().collect();
    judge((&before, &sites_before), (&after, &sites_after), &keys)?;
    let count = |is: fn(&Change) -> bool| changes.iter().filter(|c| is(c)).count();
    let (users, groups) =
        (count(|c| matches!(c, Change::User(..))), count(|c| matches!(c, Change::Group(..))));
    let secrets = count(|c| matches!(c, Change::Secret(..)));
    let sites = count(|c| matches!(c, Change::Site(..)));
    Ok(Plan {
        touched: match (secrets, sites) {
            (0, 0) => Touched::AllUsers,
            (0, _) => Touched::Sites,
            _ => Touched::Secrets,
        },
        answer: Map::from_iter([
            ("sites".into(), sites.into()),
            ("users".into(), users.into()),
            ("groups".into(), groups.into()),
            ("secrets".into(), secrets.into()),
            ("switchedOff".into(), json!(switched_off)),
        ]),
        words: format!("imported {sites} sites, {users} users, {groups} groups, {secrets} secrets"),
        changes,
    })
}
