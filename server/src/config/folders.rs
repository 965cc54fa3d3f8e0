//! `[[folders]]`: virtual folders, of an account, of its groups, of everybody on the site.
//!
//! Each is a place in the tree of an account (`path`) and what is there: a folder of this machine, or of a
//! gateway. An account
//! sees its own, then those of its groups in their order, then the site's; where two are at one path, the one
//! that comes first. `permissions` are paths within the folder; without them the account's rules hold there as
//! everywhere. A rule of the account for the same path replaces the folder's, but nothing makes a folder
//! writable that is `read_only`.

use std::path::PathBuf;

use serde::Deserialize;
use session_core::path::VPath;
use session_core::policy::{Permission, PermissionSet, Rule};

use super::fault::{Fault, Source, Step};
use super::{Config, Quota, User, far_path, values};

/// A virtual folder.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Folder {
    /// Where users see it.
    #[serde(deserialize_with = "values::path")]
    pub path: VPath,
    /// The folder of this machine, or the path on the gateway; `%u` and `%username%` are the user's name.
    #[serde(default)]
    pub folder: PathBuf,
    /// On which gateway it is; on this machine without one.
    #[serde(default)]
    pub gateway: Option<String>,
    /// Nothing is changed there.
    #[serde(default)]
    pub read_only: bool,
    /// What it may hold, whoever put it there.
    #[serde(default)]
    pub quota: Quota,
    /// What is allowed in it, by paths within it.
    #[serde(default, deserialize_with = "values::some_permissions")]
    pub permissions: Option<Vec<Rule>>,
}

/// What reading needs.
/// What is left of permissions where nothing may be changed.
pub(crate) fn reading() -> PermissionSet {
    PermissionSet::of(&[Permission::List, Permission::Get, Permission::FollowSymlinks])
}

fn at(rules: &[Rule], path: &VPath) -> PermissionSet {
    let nearest = rules.iter().filter(|r| path.starts_with(&r.path)).max_by_key(|r| r.path.depth());
    nearest.map_or(PermissionSet::NONE, |r| r.allow)
}

/// What an account may do where: its own rules and those of its folders.
pub fn rules(user: &User) -> Vec<Rule> {
    let own = &user.permissions;
    let mut all = own.clone();
    for folder in &user.folders {
        let inside = folder.permissions.iter().flatten();
        let moved = inside.filter_map(|r| {
            Some(Rule { path: r.path.rebase(&VPath::root(), &folder.path)?, allow: r.allow })
        });
        // Rules within a folder say all of it: what they leave out is refused.
        let nothing = folder.permissions.is_some().then_some(PermissionSet::NONE);
        let top = Rule { path: folder.path.clone(), allow: nothing.unwrap_or_else(|| at(own, &folder.path)) };
        for rule in moved.chain([top]) {
            if !all.iter().any(|r| r.path == rule.path) {
                all.push(rule);
            }
        }
    }
    for rule in &mut all {
        let folders = user.folders.iter().filter(|f| rule.path.starts_with(&f.path));
        if folders.max_by_key(|f| f.path.depth()).is_some_and(|f| f.read_only) {
            rule.allow = rule.allow.intersection(reading());
        }
    }
    all
}

/// Gives an account folders where it has none.
pub(super) fn add(folders: &[Folder], user: &mut User) {
    for folder in folders {
        if !user.folders.iter().any(|f| f.path == folder.path) {
            user.folders.push(folder.clone());
        }
    }
}

/// The lists of a site as they stand in its file, with the steps to each.
fn lists(config: &Config) -> Vec<(Vec<Step>, &[Folder])> {
    let key = |k: &str| Step::Key(k.into());
    let mut all = vec![(vec![key("folders")], &config.folders[..])];
    for (i, group) in config.groups.iter().enumerate() {
        all.push((vec![key("groups"), Step::Index(i), key("folders")], &group.folders));
    }
    for (i, user) in config.users.iter().enumerate() {
        all.push((vec![key("users"), Step::Index(i), key("folders")], &user.folders));
    }
    all
}

/// Faults between values. What accounts inherited stands behind their own and is told where it was written.
pub(super) fn check(config: &Config, source: &Source<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (steps, folders) in lists(config) {
        for (n, folder) in folders.iter().enumerate() {
            let here = |k: &str| [&steps[..], &[Step::Index(n), Step::Key(k.into())]].concat();
            if !source.has_at(&[&steps[..], &[Step::Index(n)]].concat()) {
                break;
            }
            if folder.path.is_root() {
                let words = "a folder is mounted below the root; what is at the root is 'home'";
                faults.push(source.fault_at(&here("path"), words));
            }
            if folders.iter().take(n).any(|f| f.path == folder.path) {
                faults.push(source.fault_at(&here("path"), format!("'{}' has two folders", folder.path)));
            }
            if folder.folder.as_os_str().is_empty() {
                faults.push(source.fault_at(&here("path"), "what is mounted there is said by 'folder'"));
            }
            faults.extend(folder.quota.check(&here("quota"), source));
            if folder.gateway.is_some() && !folder.quota.is_none() {
                faults.push(source.fault_at(&here("quota"), "what a gateway holds is not counted"));
            }
            if let Some(name) = &folder.gateway {
                if !config.gateways.iter().any(|g| g.name == *name) {
                    faults.push(source.fault_at(&here("gateway"), format!("there is no gateway '{name}'")));
                } else if let Err(words) = far_path(&folder.folder, "user") {
                    faults.push(source.fault_at(&here("folder"), words));
                }
            }
        }
    }
    faults
}
