//! Our client of FTP on their servers by ways that most do not go: active mode, certificates of clients, HOST,
//! copies between two servers.
//!
//! Driven by the example `client` of `proto-ftp`. Each case starts servers of its own that allow that way
//! alone, so that what passes went by it. Of theirs, ProFTPD alone knows SSCN, and none knows CPSV.

use std::path::{Path, PathBuf};

use super::{holds, is_absent, make, says};
use crate::fault::{Result, While, ensure};
use crate::peers::servers::{Endpoint, Kit, Over, Scheme, ftp_proftpd, make_certificate, vsftpd};
use crate::process::{Run, write};

/// A test of a way to a server of theirs.
pub(in crate::peers) struct WayCase {
    pub(in crate::peers) name: &'static str,
    /// The peer that it needs, by name.
    pub(in crate::peers) peer: &'static str,
    pub(in crate::peers) run: fn(&Way) -> Result<()>,
}

/// What a case starts from.
pub(in crate::peers) struct Way<'a> {
    pub(in crate::peers) kit: &'a Kit,
    /// The example.
    pub(in crate::peers) client: &'a Path,
}

const fn case(name: &'static str, peer: &'static str, run: fn(&Way) -> Result<()>) -> WayCase {
    WayCase { name, peer, run }
}

#[rustfmt::skip]
pub(in crate::peers) const WAYS: &[WayCase] = &[
    case("ways::vsftpd_active", "vsftpd", |way| active_vsftpd(way, Scheme::Ftp)),
    case("ways::vsftpd_active_tls", "vsftpd", |way| active_vsftpd(way, Scheme::Ftpes)),
    case("ways::proftpd_active", "proftpd", |way| active_proftpd(way, Scheme::Ftp)),
    case("ways::proftpd_active_tls", "proftpd", |way| active_proftpd(way, Scheme::Ftpes)),
    case("ways::vsftpd_asks_for_certificates", "vsftpd", certificates_of_vsftpd),
    case("ways::proftpd_asks_for_certificates", "proftpd", certificates_of_proftpd),
    case("ways::proftpd_host", "proftpd", host_of_proftpd),
    case("ways::proftpd_copies_to_another", "proftpd", between_proftpds),
    case("ways::proftpd_copies_to_another_under_tls", "proftpd", between_proftpds_under_tls),
];

type Starts = fn(&Kit, Scheme, Over<'_>) -> Result<Endpoint>;

impl Way<'_> {
    fn start(&self, starts: Starts, scheme: Scheme, lines: &[String]) -> Result<Endpoint> {
        starts(self.kit, scheme, Over { lines, ..Over::default() })
    }

    /// Our client, told where to go, with these flags.
    fn run(&self, endpoint: &Endpoint, flags: &[String], what: &str, folder: &str) -> Result<Run> {
        let at = &endpoint.at;
        let security = if at.scheme == Scheme::Ftp { "plain" } else { "explicit" };
        let run = Run::new(self.client).args(flags).args([security, &at.host, &at.port.to_string()]);
        Ok(run.args([&at.user, &at.password]).args([what, folder]))
    }

    /// Files there and back.
    fn round(&self, endpoint: &Endpoint, flags: &[String]) -> Result<()> {
        says(&self.run(endpoint, flags, "round", &endpoint.at.folder)?.text()?, "there and back")
    }

    /// A client's certificate that vouches for itself, and the flags that show it.
    fn certificate(&self, name: &str) -> Result<(PathBuf, Vec<String>)> {
        let (certificate, _) = make_certificate(&self.kit.join(""), name)?;
        let key = self.kit.join(&format!("{name}.key"));
        let flags =
            vec![format!("--certificate={}", certificate.display()), format!("--key={}", key.display())];
        Ok((certificate, flags))
    }
}

fn active() -> Vec<String> {
    vec!["--active".to_owned()]
}

fn goes_active_only(way: &Way, endpoint: &Endpoint) -> Result<()> {
    way.round(endpoint, &active())?;
    // The other way is closed: what passed went by this one.
    way.run(endpoint, &[], "round", &endpoint.at.folder)?.finish()?.refused().map(drop)
}

fn active_vsftpd(way: &Way, scheme: Scheme) -> Result<()> {
    goes_active_only(way, &way.start(vsftpd, scheme, &["pasv_enable=NO".to_owned()])?)
}

fn active_proftpd(way: &Way, scheme: Scheme) -> Result<()> {
    let lines = ["<Limit EPSV PASV>", "  DenyAll", "</Limit>"].map(str::to_owned);
    goes_active_only(way, &way.start(ftp_proftpd, scheme, &lines)?)
}

/// The one that is believed, none at all, and one that nobody knows.
fn certificates(way: &Way, starts: Starts, asks: impl Fn(&Path) -> Vec<String>) -> Result<()> {
    let (ours, shown) = way.certificate("own")?;
    let (_, strange) = way.certificate("strange")?;
    let endpoint = way.start(starts, Scheme::Ftpes, &asks(&ours))?;
    way.round(&endpoint, &shown)?;
    for flags in [Vec::new(), strange] {
        way.run(&endpoint, &flags, "round", &endpoint.at.folder)?.finish()?.refused()?;
    }
    Ok(())
}

fn certificates_of_vsftpd(way: &Way) -> Result<()> {
    let asks = |authority: &Path| {
        vec![
            "require_cert=YES".to_owned(),
            "validate_cert=YES".to_owned(),
            format!("ca_certs_file={}", authority.display()),
        ]
    };
    certificates(way, vsftpd, asks)
}

fn certificates_of_proftpd(way: &Way) -> Result<()> {
    let asks = |authority: &Path| {
        vec!["TLSVerifyClient on".to_owned(), format!("TLSCACertificateFile {}", authority.display())]
    };
    certificates(way, ftp_proftpd, asks)
}

/// Two hosts at one port; who comes in is in another folder at each.
fn host_of_proftpd(way: &Way) -> Result<()> {
    let folder = |name: &str| {
        let folder = way.kit.join(name);
        std::fs::create_dir_all(&folder).doing(|| format!("making {}", folder.display()))?;
        write(&folder.join("who"), name)?;
        Ok(format!("DefaultChdir {}", folder.display()))
    };
    let mut lines = vec![folder("main")?];
    let blue = ["<VirtualHost 127.0.0.1>", "ServerName blue", "ServerAlias blue.example", "Port {port}"];
    let login = ["AuthOrder mod_auth_file.c", "AuthUserFile {place}passwd", "RequireValidShell off"];
    let more = ["RootLogin on", "UseFtpUsers off", "WtmpLog off", "DelayEngine off"];
    lines.extend(blue.iter().chain(&login).chain(&more).map(|line| (*line).to_owned()));
    lines.extend([folder("blue")?, "</VirtualHost>".to_owned()]);
    let endpoint = way.start(ftp_proftpd, Scheme::Ftp, &lines)?;
    let at = |host: &str| vec![format!("--host={host}")];
    for (flags, who) in [(Vec::new(), "main"), (at("blue.example"), "blue")] {
        let said = way.run(&endpoint, &flags, "cat", "who")?.text()?;
        ensure!(said.lines().last() == Some(who), "{flags:?} leads to:\n{said}");
    }
    let done = way.run(&endpoint, &at("red.example"), "cat", "who")?.finish()?.refused()?;
    says(&done.stderr, "red.example")
}

fn between_proftpds(way: &Way) -> Result<()> {
    let foreign = ["AllowForeignAddress on".to_owned()];
    let start = || way.start(ftp_proftpd, Scheme::Ftp, &foreign);
    let (source, target) = (start()?, start()?);
    let content = make(&source.root.join("f"), 3)?;
    says(&between(way, &source, &target, &[])?.text()?, "bytes copied")?;
    holds(&target.root.join("g"), &content)
}

/// By SSCN. Its servers cannot be told whom to expect, so the user must allow it; the one that begins TLS
/// believes its authorities only, and data between two servers resume no session.
fn between_proftpds_under_tls(way: &Way) -> Result<()> {
    let mut lines = vec!["AllowForeignAddress on".to_owned(), "TLSOptions NoSessionReuseRequired".to_owned()];
    let source = way.start(ftp_proftpd, Scheme::Ftpes, &lines)?;
    let authority = source.at.certificate.as_deref().unwrap_or(Path::new(""));
    lines.push(format!("TLSCACertificateFile {}", authority.display()));
    let target = way.start(ftp_proftpd, Scheme::Ftpes, &lines)?;
    let content = make(&source.root.join("f"), 3)?;
    let done = between(way, &source, &target, &[])?.finish()?.refused()?;
    says(&done.stderr, "make sure of each other")?;
    is_absent(&target.root.join("g"))?;
    says(&between(way, &source, &target, &["--unverified".to_owned()])?.text()?, "bytes copied")?;
    holds(&target.root.join("g"), &content)
}

/// The file `f` of one becomes `g` of the other.
fn between(way: &Way, source: &Endpoint, target: &Endpoint, flags: &[String]) -> Result<Run> {
    let other = [format!("--other={}", target.at.port)];
    way.run(source, &[&other, flags].concat(), "between", "")
}
