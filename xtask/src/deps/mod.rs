//! `cargo xtask deps`: what we let in from outside.
//!
//! Always, without any network of its own: banned packages, licences, minimum safe versions, one crypto
//! provider. Where `cargo audit` is installed and reaches the database: advisories; else a loud line.
//! Licences are what each package says of itself; its files are not read.

mod spdx;
mod version;

use std::time::Duration;

use serde_json::Value;
use toml::Table;

use crate::Verdict;
use crate::fault::{Result, While};
use crate::flags::Flags;
use crate::process::Run;
use crate::repo;
use crate::report::Report;
use version::Version;

pub(crate) const USAGE: &str = "cargo xtask deps

Checks every dependency that a build of the workspace with all features takes in: banned packages,
licences, minimum safe versions, one version of the crypto provider, and, where `cargo audit` is
installed and its database can be reached, advisories.";

/// Packages that must not be built, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("ring", "one crypto provider: aws-lc-rs"),
    ("openssl", "one TLS: rustls"),
    ("openssl-sys", "one TLS: rustls"),
    ("native-tls", "one TLS: rustls"),
];

/// Packages of which only one version may be built.
const SINGLE: &[&str] = &["aws-lc-rs", "aws-lc-sys", "rustls", "russh", "tokio", "hyper"];

/// The lowest version without a known hole, with the reason. In `Cargo.lock`, whatever is built.
const SAFE: &[(&str, &str, &str)] = &[
    ("aws-lc-sys", "0.39.0", "RUSTSEC-2026-0044 to -0048"),
    ("h2", "0.4.16", "RUSTSEC-2026-0258: empty DATA frames"),
    ("quick-xml", "0.41.0", "RUSTSEC-2026-0194, -0195: quadratic time, unbounded namespaces"),
    ("russh", "0.60.3", "RUSTSEC-2026-0153, -0154: unbounded allocation"),
    ("russh-cryptovec", "0.60.3", "RUSTSEC-2026-0153, -0154: unbounded allocation"),
    ("rustls", "0.23.18", "RUSTSEC-2024-0399: panic in the acceptor"),
    ("rustls-webpki", "0.103.13", "RUSTSEC-2026-0104, -0098, -0099, -0049"),
];

/// Advisories that we live with, with the reason.
const ACCEPTED: &[(&str, &str)] = &[(
    "RUSTSEC-2023-0071",
    "rsa: timing of decryption; no fixed version exists, we only sign with RSA and only when asked for",
)];

const AUDIT: Duration = Duration::from_secs(90);

pub(crate) fn run(flags: Flags) -> Result<Verdict> {
    flags.end()?;
    let mut report = Report::default();
    stage(&mut report)?;
    println!("{} checks hold, {} do not", report.passed, report.failed);
    Ok(Verdict::from_faults(report.failed))
}

pub(crate) fn stage(report: &mut Report) -> Result<()> {
    let built = built()?;
    println!("{} packages", built.len());
    let locked = locked()?;
    for (name, faults) in [
        ("banned packages", banned(&built)),
        ("one version", doubled(&built)),
        ("licences", licences(&built)),
        ("minimum safe versions", unsafe_versions(&locked)),
    ] {
        for fault in &faults {
            println!("  {fault}");
        }
        report.count(faults.is_empty(), format!("{name}: {} faults", faults.len()));
    }
    advisories(report)
}

/// A package as cargo would build it.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

/// Everything a build with all features takes in, the workspace itself too. Test-only dependencies
/// count: they run on our machines.
fn built() -> Result<Vec<Package>> {
    let lines = repo::tree(&["--workspace", "--all-features", "-e", "normal,build,dev", "-f", "{p}|{l}"])?;
    Ok(lines.iter().filter_map(|line| package(line)).collect())
}

/// Reads `name v1.2.3 (proc-macro)|MIT`.
fn package(line: &str) -> Option<Package> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let name = words.next()?.to_owned();
    let version = words.next()?.strip_prefix('v')?.to_owned();
    // A package that stands in the tree already is marked.
    let licence = licence.trim_end_matches("(*)").trim();
    Some(Package { name, version, licence: licence.to_owned() })
}

/// Name and version of everything in `Cargo.lock`.
fn locked() -> Result<Vec<(String, String)>> {
    let path = repo::root().join("Cargo.lock");
    let text = std::fs::read_to_string(&path).doing(|| "reading Cargo.lock".to_owned())?;
    let lock: Table = text.parse().doing(|| "reading Cargo.lock".to_owned())?;
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let field = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    Ok(packages.filter_map(|p| Some((field(p, "name")?, field(p, "version")?))).collect())
}

fn banned(built: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, why) in BANNED {
        for package in built.iter().filter(|package| package.name == *name) {
            let version = &package.version;
            faults.push(format!("{name} {version} is built; {why} (`cargo tree -i {name}` tells by whom)"));
        }
    }
    faults
}

fn doubled(built: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for name in SINGLE {
        let mut versions: Vec<&str> = built
            .iter()
            .filter(|package| package.name == *name)
            .map(|package| package.version.as_str())
            .collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > 1 {
            faults.push(format!("{name} is built in {} versions: {}", versions.len(), versions.join(", ")));
        }
    }
    faults
}

fn licences(built: &[Package]) -> Vec<String> {
    let judged = built.iter().map(|package| (package, spdx::allowed(&package.licence)));
    let wrong = judged.filter_map(|(package, verdict)| Some((package, verdict.err()?)));
    wrong.map(|(package, why)| format!("{} {}: {why}", package.name, package.version)).collect()
}

fn unsafe_versions(locked: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, minimum, why) in SAFE {
        for (_, version) in locked.iter().filter(|(locked, _)| locked == name) {
            match (Version::parse(version), Version::parse(minimum)) {
                (Some(have), Some(need)) if have >= need => {}
                _ => faults.push(format!("{name} {version} is older than {minimum}: {why}")),
            }
        }
    }
    faults
}

fn advisories(report: &mut Report) -> Result<()> {
    if !repo::has_cargo_command("audit") {
        report.note("advisories: `cargo audit` is not installed (cargo install cargo-audit --locked)");
        return Ok(());
    }
    let mut run = Run::new(repo::cargo()).args(["audit", "--json"]).dir(repo::root()).limit(AUDIT);
    for (id, _) in ACCEPTED {
        run = run.args(["--ignore", id]);
    }
    // It says by its exit status neither whether it reached the database nor what it found.
    let done = match run.finish() {
        Ok(done) => done,
        Err(fault) => {
            report.note(format!("advisories: {fault}"));
            return Ok(());
        }
    };
    match audited(&done.stdout) {
        None => report.note(format!("advisories: the database was not reached: {}", done.stderr.trim())),
        Some(found) => {
            for advisory in &found {
                println!("  {advisory}");
            }
            report.count(found.is_empty(), format!("advisories: {} open", found.len()));
        }
    }
    Ok(())
}

/// The open advisories in a report of `cargo audit --json`; `None` if it is no report.
fn audited(text: &str) -> Option<Vec<String>> {
    let report: Value = serde_json::from_str(text).ok()?;
    let list = report.get("vulnerabilities")?.get("list")?.as_array()?;
    let line = |entry: &Value| {
        let text = |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or("?").to_owned();
        format!("{} {}: {}", text("/package/name"), text("/advisory/id"), text("/advisory/title"))
    };
    Some(list.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(lines: &[&str]) -> Vec<Package> {
        lines.iter().map(|line| package(line).unwrap()).collect()
    }

    #[test]
    fn what_is_banned_or_doubled_is_found() {
        let built =
            packages(&["ring v0.17.0|ISC", "rustls v0.23.1|MIT", "rustls v0.22.0|MIT", "syn v2.0.0|MIT"]);
        assert_eq!(banned(&built).len(), 1);
        assert_eq!(doubled(&built).len(), 1);
    }

    #[test]
    fn lines_of_cargo_tree_are_read() {
        let read = package("async-trait v0.1.92 (proc-macro)|MIT OR Apache-2.0").unwrap();
        assert_eq!((read.name.as_str(), read.version.as_str()), ("async-trait", "0.1.92"));
        assert_eq!(read.licence, "MIT OR Apache-2.0");
        assert_eq!(package("x v1.0.0 (/p)|MIT (*)").unwrap().licence, "MIT");
        assert_eq!(licences(&packages(&["x v1.0.0|", "y v1.0.0|MIT"])).len(), 1);
    }

    #[test]
    fn an_old_version_is_found() {
        let lock = |name: &str, version: &str| vec![(name.to_owned(), version.to_owned())];
        assert_eq!(unsafe_versions(&lock("h2", "0.4.15")).len(), 1);
        assert_eq!(unsafe_versions(&lock("h2", "0.10.0")).len(), 0);
        assert_eq!(unsafe_versions(&lock("rustls", "0.23.18-rc.1")).len(), 1);
        assert_eq!(unsafe_versions(&lock("other", "0.0.1")).len(), 0);
        for (_, minimum, _) in SAFE {
            assert!(Version::parse(minimum).is_some());
        }
    }

    #[test]
    fn a_report_of_cargo_audit_is_told_from_a_failure() {
        assert!(audited("error: couldn't fetch advisory database").is_none());
        assert_eq!(audited(r#"{"vulnerabilities":{"list":[]}}"#).unwrap().len(), 0);
        let one = r#"{"vulnerabilities":{"list":[{"advisory":{"id":"R-1","title":"bad"},"package":{"name":"x"}}]}}"#;
        assert_eq!(audited(one).unwrap(), ["x R-1: bad"]);
    }
}
