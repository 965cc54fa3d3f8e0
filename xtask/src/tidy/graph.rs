//! The rules about crates: who may know whom, where versions live, what is inherited, equal features.
//!
//! Read from the manifests themselves, because cargo's answer no longer shows what was inherited.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::{Table, Value};

use crate::fault::{Result, While};
use crate::repo;

/// The manifest of a member, and the folder it was found in.
struct Member {
    folder: String,
    manifest: Table,
}

/// One dependency as a member's manifest writes it.
struct Dependency<'a> {
    name: &'a str,
    value: &'a Value,
}

pub(super) fn rules() -> Result<Vec<(&'static str, Vec<String>)>> {
    let root = manifest(&repo::root().join("Cargo.toml"))?;
    let mut members = Vec::new();
    for folder in strings(lookup(&root, &["workspace", "members"])) {
        let manifest = manifest(&repo::root().join(&folder).join("Cargo.toml"))?;
        members.push(Member { folder, manifest });
    }
    let names: BTreeSet<String> = members.iter().map(|member| member.folder.clone()).collect();
    let mut faults: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for member in &members {
        faults.entry("arrows of the crate graph").or_default().extend(arrows(member, &names));
        faults.entry("versions live in the workspace").or_default().extend(versions(member));
        faults.entry("members inherit").or_default().extend(inherited(member));
    }
    let mut rules: Vec<_> = faults.into_iter().collect();
    rules.push(("equal features in -p server and --workspace", features()?));
    Ok(rules)
}

fn manifest(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).doing(|| format!("reading {}", path.display()))?;
    text.parse().doing(|| format!("reading {}", path.display()))
}

fn lookup<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every dependency of a manifest: normal, build, dev, and those of single targets.
fn dependencies(manifest: &Table) -> Vec<Dependency<'_>> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut found = Vec::new();
    for table in std::iter::once(manifest).chain(targets) {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let entries = table.get(kind).and_then(Value::as_table);
            let entries = entries.into_iter().flatten();
            found.extend(entries.map(|(name, value)| Dependency { name, value }));
        }
    }
    found
}

/// Whether `from` may know `to`; tests included.
fn may_know(from: &str, to: &str) -> bool {
    match from {
        "server" => to != "xtask",
        "client" => to == "session-core" || to.starts_with("proto-"),
        _ if from.starts_with("proto-") => to == "session-core",
        // session-core and xtask know nobody; neither does a member that this rule has not heard of.
        _ => false,
    }
}

fn arrows(member: &Member, names: &BTreeSet<String>) -> Vec<String> {
    let known = dependencies(&member.manifest);
    // A crate may be its own development dependency: that switches on a feature for its tests.
    let wrong = known
        .iter()
        .filter(|d| names.contains(d.name) && d.name != member.folder && !may_know(&member.folder, d.name));
    wrong.map(|dependency| format!("{} must not know {}", member.folder, dependency.name)).collect()
}

fn versions(member: &Member) -> Vec<String> {
    let inherits = |value: &Value| value.get("workspace").and_then(Value::as_bool) == Some(true);
    let known = dependencies(&member.manifest);
    let wrong = known.iter().filter(|d| !inherits(d.value) && d.name != member.folder);
    wrong.map(|d| format!("{}/Cargo.toml: `{}` is not `workspace = true`", member.folder, d.name)).collect()
}

fn inherited(member: &Member) -> Vec<String> {
    let mut faults = Vec::new();
    let folder = &member.folder;
    let inherits = |path: &[&str]| lookup(&member.manifest, path).and_then(Value::as_bool) == Some(true);
    if !inherits(&["lints", "workspace"]) {
        faults.push(format!("{folder}/Cargo.toml: no `[lints] workspace = true`"));
    }
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        if !inherits(&["package", key, "workspace"]) {
            faults.push(format!("{folder}/Cargo.toml: no `{key}.workspace = true`"));
        }
    }
    let name = lookup(&member.manifest, &["package", "name"]).and_then(Value::as_str);
    if name != folder.rsplit('/').next() {
        faults.push(format!("{folder}: the package is called {name:?}, not as its folder"));
    }
    faults
}

/// What `-p server` builds must be what `--workspace` builds, or each of the two commands builds the
/// heavy dependencies anew.
fn features() -> Result<Vec<String>> {
    let format = ["-e", "normal", "-f", "{p} with {f}"];
    let alone = repo::tree(&[&["-p", "server"], &format[..]].concat())?;
    let together = repo::tree(&[&["--workspace"], &format[..]].concat())?;
    Ok(differing(&alone, &together))
}

fn differing(alone: &[String], together: &[String]) -> Vec<String> {
    let known: BTreeSet<&str> = together.iter().map(String::as_str).collect();
    let wrong = alone.iter().filter(|line| !known.contains(line.as_str()));
    wrong.map(|line| format!("-p server builds `{line}`, --workspace does not")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(folder: &str, manifest: &str) -> Member {
        Member { folder: folder.to_owned(), manifest: manifest.parse().unwrap() }
    }

    #[test]
    fn arrows_point_down_only() {
        for (from, to, allowed) in [
            ("session-core", "proto-sftp", false),
            ("proto-sftp", "session-core", true),
            ("proto-sftp", "proto-ftp", false),
            ("client", "proto-ftp", true),
            ("client", "server", false),
            ("server", "client", true),
            ("server", "xtask", false),
            ("xtask", "session-core", false),
            ("newcomer", "session-core", false),
        ] {
            assert_eq!(may_know(from, to), allowed, "{from} → {to}");
        }
        let names = BTreeSet::from(["server".to_owned()]);
        let client = member("client", "[target.'cfg(unix)'.dev-dependencies]\nserver.workspace = true");
        assert_eq!(arrows(&client, &names), ["client must not know server"]);
    }

    #[test]
    fn versions_and_lints_are_inherited() {
        let own =
            member("client", "[package]\nname = 'x'\n[dependencies]\nbytes = '1'\nrand = { path = '' }");
        assert_eq!(versions(&own).len(), 2);
        assert_eq!(inherited(&own).len(), 7);
        let good = member("client", "[dependencies]\nbytes = { workspace = true, features = [] }");
        assert!(versions(&good).is_empty());
    }

    #[test]
    fn a_feature_more_is_seen() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(differing(&lines("a with x"), &lines("a with x\nb with")).len(), 0);
        assert_eq!(differing(&lines("a with x"), &lines("a with x,y")).len(), 1);
    }
}
