//! Sites of the database: what the desk says of them, and how a change of them is judged.
//!
//! A change is refused where the site could not be as it stands, or where accounts that can be used could not any
//! more. A site goes with its accounts, or not while it has some. What is said of a site holds no secrets: of the URLs
//! of its webhooks there is the host.
//!
//! Deliberately absent: what a site is (`crate::config`), what serving it takes (the daemon, [`InForce::rehearse`]).
//!
//! [`InForce::rehearse`]: super::desk::InForce::rehearse

use std::sync::Arc;

use serde_json::{Map, Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::desk::{Asked, Plan, Touched, bad, judge, merge, missing, moment, taken, text};
use super::{Change, Contents, Key, Stored, seconds_now};
use crate::config::{Config, Record};

/// The sites that a change puts in place.
pub(super) fn given(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Site(name, Some(_)) => Some(name.clone()),
        _ => None,
    };
    changes.iter().filter_map(name).collect()
}

/// All that can be: those of the file, and those of the database.
pub(super) fn all(contents: &Contents, file: &Config) -> Vec<Arc<Config>> {
    contents.with_sites(file).0.each_site().into_iter().map(Arc::new).collect()
}

/// The same after a change. Errors: `AlreadyExists` for a double, `InvalidArgument` for sites that cannot be after
/// it, and could before.
pub(super) fn judged(before: &Contents, after: &Contents, file: &Config) -> Result<Vec<Arc<Config>>> {
    let (config, wrong) = after.with_sites(file);
    let (_, was_wrong) = before.with_sites(file);
    let same = |name: &String| before.sites.get(name) == after.sites.get(name);
    let mut faults = wrong.iter().filter(|f| !(same(&f.site) && was_wrong.iter().any(|w| w.site == f.site)));
    match faults.next() {
        None => Ok(config.each_site().into_iter().map(Arc::new).collect()),
        Some(fault) if fault.double => Err(declared(&fault.site)),
        Some(first) => {
            let told: Vec<_> = std::iter::once(first).chain(faults).map(ToString::to_string).collect();
            Err(bad(told.join("\n")))
        }
    }
}

fn declared(name: &str) -> Error {
    taken(format!("the site '{name}' stands in the configuration file"))
        .with_hint("change it there, then `ferryd reload`")
}

fn is_declared(file: &Config, name: &str) -> bool {
    let of_file = file.with_stored(std::iter::empty()).0;
    of_file.each_site().iter().any(|s| s.site.eq_ignore_ascii_case(name))
}

/// The keys of the users and groups that are kept for a site.
fn accounts(contents: &Contents, site: &str) -> (Vec<Key>, Vec<Key>) {
    let of = |keys: &mut dyn Iterator<Item = &Key>| keys.filter(|k| k.0 == site).cloned().collect();
    (of(&mut contents.users.keys()), of(&mut contents.groups.keys()))
}

/// A site that is added or changed. Errors: `AlreadyExists`, `InvalidArgument`, `NotFound`.
pub(super) fn plan(
    before: Contents,
    file: &Config,
    asked: Asked,
    name: &str,
    mut body: Record,
) -> Result<Plan> {
    let adds = asked == Asked::AddSite;
    let name = &if adds { text(&body, "name")?.to_string() } else { name.to_string() };
    if adds {
        body.remove("name");
    }
    if is_declared(file, name) {
        return Err(declared(name));
    }
    let mut record = match (adds, before.sites.get(name)) {
        (true, Some(_)) => return Err(taken(format!("there is a site '{name}' already"))),
        (true, None) => Record::new(),
        (false, Some(stored)) => stored.record.clone(),
        (false, None) => return Err(missing("site", name)),
    };
    merge(&mut record, body);
    let change = Change::Site(name.clone(), Some(Arc::new(Stored { record, changed: seconds_now() })));
    let mut after = before.clone();
    after.apply(change.clone());
    let (sites_before, sites_after) = (all(&before, file), judged(&before, &after, file)?);
    // Of every site: what holds where there is one only may not hold beside others.
    let keys: Vec<Key> = after.users.keys().cloned().collect();
    judge((&before, &sites_before), (&after, &sites_after), &keys)?;
    let mut answer = Map::from_iter([("site".into(), show(&after, file, name)?)]);
    if let Some(words) = after.with_sites(file).0.unreached(name) {
        answer.insert("warning".into(), words.into());
    }
    let what = if adds { "added" } else { "changed" };
    Ok(Plan {
        changes: vec![change],
        touched: Touched::Sites,
        answer,
        words: format!("{what} site '{name}'"),
    })
}

/// A site that is taken away; `accounts` with what is kept for it. Errors: `NotEmpty`, `NotFound`.
pub(super) fn removal(before: Contents, file: &Config, name: &str, with_accounts: bool) -> Result<Plan> {
    if !before.sites.contains_key(name) {
        return Err(if is_declared(file, name) { declared(name) } else { missing("site", name) });
    }
    let (users, groups) = accounts(&before, name);
    let mut changes = vec![Change::Site(name.into(), None)];
    // Those of a site of the file of that name are not its own.
    let its_own = !is_declared(file, name);
    if its_own && !with_accounts && users.len() + groups.len() > 0 {
        return Err(Error::new(ErrorKind::NotEmpty)
            .with_detail(format!("the site '{name}' has {} users and {} groups", users.len(), groups.len()))
            .with_hint("remove them first, or with it: --accounts (accounts=yes); files stay"));
    }
    let mut answer = Map::from_iter([("removed".into(), name.into())]);
    if its_own {
        answer.extend([("users".into(), users.len().into()), ("groups".into(), groups.len().into())]);
        changes.extend(users.into_iter().map(|key| Change::User(key, None)));
        changes.extend(groups.into_iter().map(|key| Change::Group(key, None)));
    }
    Ok(Plan { changes, touched: Touched::Sites, answer, words: format!("removed site '{name}'") })
}

/// All of them.
pub(super) fn list(contents: &Contents, file: &Config) -> Value {
    let (config, wrong) = contents.with_sites(file);
    let of_file = config.each_site().len() - config.stored.len();
    let mut sites: Vec<Value> = Vec::new();
    for (n, site) in config.each_site().iter().enumerate() {
        let source = if n < of_file { "file" } else { "database" };
        sites.push(shown(contents, site, source));
    }
    for fault in wrong {
        sites.push(json!({ "name": fault.site, "source": "database", "unusable": fault.words }));
    }
    for site in &mut sites {
        let stored = site.get("name").and_then(Value::as_str).and_then(|name| contents.sites.get(name));
        if let (Some(stored), Some(map)) = (stored, site.as_object_mut())
            && map.get("source").is_some_and(|s| s == "database")
        {
            map.insert("changed".into(), moment(stored.changed).into());
            map.insert("record".into(), Value::Object(without_secrets(&stored.record)));
        }
    }
    json!({ "sites": sites })
}

/// One of them. Errors: `NotFound`.
pub(super) fn show(contents: &Contents, file: &Config, name: &str) -> Result<Value> {
    let all = list(contents, file);
    let sites = all.get("sites").and_then(Value::as_array).into_iter().flatten();
    sites
        .clone()
        .find(|s| s.get("name").is_some_and(|n| n == name))
        .cloned()
        .ok_or_else(|| missing("site", name))
}

fn shown(contents: &Contents, site: &Config, source: &str) -> Value {
    let listener = |l: &crate::config::Listener| json!({ "protocol": l.protocol.name(), "address": l.address.to_string(), "port": l.port });
    let (users, groups) = accounts(contents, &site.site);
    json!({
        "name": site.site,
        "source": source,
        "hosts": site.hosts,
        "listeners": site.listeners.iter().map(listener).collect::<Vec<_>>(),
        "users": site.users.len() + users.len(),
        "groups": site.groups.len() + groups.len(),
        "hooks": site.hooks.len(),
        "data": site.data.display().to_string(),
    })
}

/// What stands behind the host of a URL may be a secret.
fn without_secrets(record: &Record) -> Record {
    let mut record = record.clone();
    for key in ["directories", "webhooks"] {
        let tables = record.get_mut(key).and_then(Value::as_array_mut);
        for url in tables.into_iter().flatten().filter_map(|w| w.get_mut("url")) {
            let text = url.as_str().unwrap_or_default();
            let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
            *url = format!("{scheme}://{}/…", rest.split(['/', '?', '#']).next().unwrap_or_default()).into();
        }
    }
    record
}
