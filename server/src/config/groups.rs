//! `[[groups]]`: what several accounts have in common.
//!
//! A key that an account's table does not have is that of its groups, the first one that has it; a key that
//! it has stands, also if it says what is the default. A table (`permissions`, `filters`, `custom`) is taken
//! as a whole; `folders` add up (`super::folders`), and every group's `total_quota` and `total_transfer` hold. In
//! `home`, `start` and `certificate_names`, `%u` and `%username%` are the account's name, wherever they stand. A
//! group may be in groups: they come right behind it. An account is in the groups that it names itself.
//!
//! Deliberately absent: secrets of groups (passwords, keys, certificates, codes).

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::Deserialize;
use session_core::auth::Method;
use session_core::path::VPath;
use session_core::policy::{Filter, Rule};
use session_core::session::Protocol;

use super::fault::{Fault, Source, Step, nearest};
use super::{Folder, Quota, Store, Transfer, User, folders, values};
use crate::users::hours::Window;

/// What the accounts of a group have where they say nothing else.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of `User`")]
pub struct Group {
    /// Its name, as accounts name it.
    #[serde(deserialize_with = "values::user_name")]
    pub name: String,
    /// The groups that it is in.
    #[serde(default)]
    pub groups: Vec<String>,
    pub home: Option<PathBuf>,
    pub gateway: Option<String>,
    pub store: Option<Store>,
    pub quota: Option<Quota>,
    /// What the homes of its accounts may hold together.
    pub total_quota: Option<Quota>,
    #[serde(default)]
    pub folders: Vec<Folder>,
    #[serde(default, deserialize_with = "values::some_networks")]
    pub addresses: Option<Vec<IpNet>>,
    #[serde(default, deserialize_with = "values::some_certificate_names")]
    pub certificate_names: Option<Vec<String>>,
    #[serde(default, deserialize_with = "values::some_methods")]
    pub require: Option<Vec<Method>>,
    pub enabled: Option<bool>,
    pub shared: Option<bool>,
    pub read_only: Option<bool>,
    pub speed_limit: Option<u64>,
    pub upload_limit: Option<u64>,
    pub download_limit: Option<u64>,
    pub transfer: Option<Transfer>,
    /// What its accounts may move together.
    pub total_transfer: Option<Transfer>,
    #[serde(default, deserialize_with = "values::some_permissions")]
    pub permissions: Option<Vec<Rule>>,
    #[serde(default, deserialize_with = "values::some_filters")]
    pub filters: Option<Vec<Filter>>,
    #[serde(default, deserialize_with = "values::moment")]
    pub expires: Option<SystemTime>,
    #[serde(default, deserialize_with = "values::some_hours")]
    pub hours: Option<Vec<Window>>,
    #[serde(default, deserialize_with = "values::some_protocols")]
    pub protocols: Option<Vec<Protocol>>,
    pub sessions: Option<usize>,
    pub start: Option<String>,
    pub custom: Option<BTreeMap<String, String>>,
}

impl Group {
    /// Gives `user` what it does not have: `has` are the keys of its table and those given before.
    fn give(&self, user: &mut User, has: &mut HashSet<String>) {
        fn one<T: Clone>(has: &mut HashSet<String>, key: &str, from: &Option<T>, to: &mut T) {
            if let Some(value) = from
                && has.insert(key.into())
            {
                *to = value.clone();
            }
        }
        one(has, "home", &self.home, &mut user.home);
        one(has, "gateway", &self.gateway.clone().map(Some), &mut user.gateway);
        one(has, "store", &self.store, &mut user.store);
        one(has, "quota", &self.quota, &mut user.quota);
        one(has, "addresses", &self.addresses, &mut user.addresses);
        one(has, "certificate_names", &self.certificate_names, &mut user.certificate_names);
        one(has, "require", &self.require, &mut user.require);
        one(has, "enabled", &self.enabled, &mut user.enabled);
        one(has, "shared", &self.shared, &mut user.shared);
        one(has, "read_only", &self.read_only, &mut user.read_only);
        one(has, "speed_limit", &self.speed_limit, &mut user.speed_limit);
        one(has, "upload_limit", &self.upload_limit, &mut user.upload_limit);
        one(has, "download_limit", &self.download_limit, &mut user.download_limit);
        one(has, "transfer", &self.transfer, &mut user.transfer);
        one(has, "permissions", &self.permissions, &mut user.permissions);
        one(has, "filters", &self.filters, &mut user.filters);
        one(has, "expires", &self.expires.map(Some), &mut user.expires);
        one(has, "hours", &self.hours, &mut user.hours);
        one(has, "protocols", &self.protocols, &mut user.protocols);
        one(has, "sessions", &self.sessions, &mut user.sessions);
        one(has, "start", &self.start, &mut user.start);
        one(has, "custom", &self.custom, &mut user.custom);
        folders::add(&self.folders, user);
        user.total_quotas.extend(self.total_quota.map(|q| (self.name.clone(), q)));
        user.total_transfers.extend(self.total_transfer.map(|t| (self.name.clone(), t)));
    }
}

/// Gives `user` what its groups have, and theirs, each where it stands; `has` are the keys of the user's
/// own table. Err: a group that is not there, or is in itself.
pub(super) fn give_all(
    user: &mut User,
    mut has: HashSet<String>,
    find: &dyn Fn(&str) -> Option<Group>,
) -> Result<(), String> {
    for group in line(&user.groups, find)? {
        group.give(user, &mut has);
    }
    Ok(())
}

/// These groups and those that they are in, in the order in which they give, each once. Err: a group that is
/// not there, or is in itself.
pub(crate) fn line(names: &[String], find: &dyn Fn(&str) -> Option<Group>) -> Result<Vec<Group>, String> {
    fn follow(
        name: &str,
        find: &dyn Fn(&str) -> Option<Group>,
        way: &mut Vec<String>,
        line: &mut Vec<Group>,
    ) -> Result<(), String> {
        if way.iter().any(|n| n == name) {
            return Err(format!("the group '{name}' is in itself, by {}", way.join(", ")));
        }
        if line.iter().any(|g| g.name == name) {
            return Ok(());
        }
        let group = find(name).ok_or_else(|| format!("there is no group '{name}'"))?;
        let above = group.groups.clone();
        line.push(group);
        way.push(name.to_string());
        for name in &above {
            follow(name, find, way, line)?;
        }
        way.pop();
        Ok(())
    }
    let mut line = Vec::new();
    for name in names {
        follow(name, find, &mut Vec::new(), &mut line)?;
    }
    Ok(line)
}

/// Gives every user what its groups have. The faults: names of groups that come twice or are not there,
/// groups that are in themselves.
pub(super) fn inherit(groups: &[Group], users: &mut [User], source: &Source<'_>) -> Vec<Fault> {
    let key = |k: &str| Step::Key(k.into());
    let mut faults = Vec::new();
    let known: Vec<_> = groups.iter().map(|g| g.name.as_str()).collect();
    let find = |name: &str| groups.iter().find(|g| g.name == name).cloned();
    // The fault of the names in one table, if they have one: at the name that is not there.
    let fault = |table: &str, i: usize, names: &[String], words: String| {
        let at = [key(table), Step::Index(i), key("groups")];
        match names.iter().position(|n| !known.contains(&n.as_str())) {
            Some(n) => {
                let name = names.get(n).map_or("", String::as_str);
                let mut fault = source
                    .fault_at(&[&at[..], &[Step::Index(n)]].concat(), format!("there is no group '{name}'"));
                fault.hint = nearest(name, &known).map(|n| format!("did you mean '{n}'?"));
                fault
            }
            None => source.fault_at(&at, words),
        }
    };
    let mut sound = true;
    for (i, group) in groups.iter().enumerate() {
        if groups.iter().take(i).any(|g| g.name == group.name) {
            let at = [key("groups"), Step::Index(i), key("name")];
            faults.push(source.fault_at(&at, format!("there is another group '{}'", group.name)));
        }
        if let Err(words) = line(std::slice::from_ref(&group.name), &find) {
            sound = false;
            // Told where it is, not at everybody who is led there.
            let here = group.groups.iter().any(|n| !known.contains(&n.as_str()))
                || words.starts_with(&format!("the group '{}' ", group.name));
            if here {
                faults.push(fault("groups", i, &group.groups, words));
            }
        }
        for (name, quota) in [("quota", &group.quota), ("total_quota", &group.total_quota)] {
            let at = [key("groups"), Step::Index(i), key(name)];
            faults.extend(quota.iter().flat_map(|q| q.check(&at, source)));
        }
    }
    // Names of groups meant something to hooks only, before there were groups.
    if groups.is_empty() {
        return faults;
    }
    let mut tables = source.keys_of_each("users").into_iter();
    for (i, user) in users.iter_mut().enumerate() {
        let has = tables.next().unwrap_or_default();
        if let Err(words) = give_all(user, has, &find)
            && (sound || user.groups.iter().any(|n| !known.contains(&n.as_str())))
        {
            faults.push(fault("users", i, &user.groups, words));
        }
    }
    faults
}

/// Where a user begins: `start` with the user's name in it. The name is one plain segment.
pub(super) fn start_of(user: &User) -> Result<VPath, String> {
    values::parse_path(&with_name(&user.start, &user.name))
}

/// A template with the name of a user, which was found to be one plain segment.
pub(super) fn with_name(template: &str, name: &str) -> String {
    template.replace("%username%", name).replace("%u", name)
}
