//! Their servers of FTP: in the clear, and with TLS where data connections must resume the control
//! connection's session, as far as each can ask for it.
//!
//! vsftpd and Pure-FTPd are written for root and are not started without it.

use std::path::{Path, PathBuf};

use super::{Address, Endpoint, Kit, LOOPBACK, PASSWORD, Place, READY, Scheme, Starter, USER, with_slash};
use crate::fault::{Result, While, ensure};
use crate::install::is_root;
use crate::peers::cases::ours::Trait;
use crate::peers::program;
use crate::process::{Run, Server, read, set_mode, write};

/// Those that start as root work as this one, whom every Debian has: no rights, and a home folder that is
/// there, which vsftpd wants to see.
pub(super) const NOBODY: &str = "daemon";

const fn starter(
    name: &'static str,
    peer: &'static str,
    start: fn(&Kit) -> Result<Endpoint>,
    lacks: &'static [Trait],
) -> Starter {
    Starter { name, peer, start, lacks }
}

pub(in crate::peers) const FTP_SERVERS: &[Starter] = &[
    starter("vsftpd", "vsftpd", |kit| vsftpd(kit, Scheme::Ftp, Over::default()), VSFTPD_LACKS),
    starter("vsftpd-tls", "vsftpd", |kit| vsftpd(kit, Scheme::Ftpes, Over::default()), VSFTPD_LACKS),
    starter("proftpd-ftp", "proftpd", |kit| proftpd(kit, Scheme::Ftp, Over::default()), FTP_LACKS),
    starter("proftpd-tls", "proftpd", |kit| proftpd(kit, Scheme::Ftpes, Over::default()), FTP_LACKS),
    starter("pure-ftpd", "pure-ftpd", |kit| pure_ftpd(kit, Scheme::Ftp, Over::default()), FTP_LACKS),
    starter("pure-ftpd-tls", "pure-ftpd", |kit| pure_ftpd(kit, Scheme::Ftpes, Over::default()), FTP_LACKS),
    starter("pyftpdlib", "pyftpdlib", |kit| pyftpdlib(kit, Scheme::Ftp), PYFTPDLIB_LACKS),
    starter("pyftpdlib-tls", "pyftpdlib", |kit| pyftpdlib(kit, Scheme::Ftpes), PYFTPDLIB_LACKS),
    starter("rclone-ftp", "rclone", rclone, RCLONE_LACKS),
];

/// Over what folder, with which ports for data, and with what more in the configuration, where it matters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Over<'a> {
    pub(crate) root: Option<&'a Path>,
    pub(crate) passive: Option<(u16, u16)>,
    /// Whole lines, of vsftpd and ProFTPD; `{port}` and `{place}` are the server's port and its own folder,
    /// with a slash at the end.
    pub(crate) lines: &'a [String],
}

/// What the protocol has no words for, names that the servers' own commands stumble over, and uploads that
/// broke off, which ours does not continue over FTP.
const FTP_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Space,
    Trait::OddNames,
    Trait::AnyNames,
    Trait::Leftovers,
];

/// The same, and it takes a byte that Telnet has doubled for two, which nothing that it says tells.
const PYFTPDLIB_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Space,
    Trait::OddNames,
    Trait::AnyNames,
    Trait::ByteNames,
    Trait::Leftovers,
];

/// Its anonymous users may not change modes.
const VSFTPD_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Space,
    Trait::OddNames,
    Trait::AnyNames,
    Trait::Modes,
    Trait::Leftovers,
];

/// It keeps neither modes nor times, nor what broke off.
const RCLONE_LACKS: &[Trait] = &[
    Trait::Times,
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Space,
    Trait::OddNames,
    Trait::AnyNames,
    Trait::ByteNames,
    Trait::Modes,
    Trait::Leftovers,
];

/// A key and a certificate for this machine, signed by itself, in one folder: `NAME.pem` and `NAME.key`,
/// and both in `NAME.both`. Returns the certificate and its fingerprint.
pub(in crate::peers) fn make_certificate(dir: &Path, name: &str) -> Result<(PathBuf, String)> {
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    program("openssl")?
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "30", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2,DNS:localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .finish()?
        .succeeded()?;
    let mut both = read(&key)?;
    both.extend(read(&certificate)?);
    write(&dir.join(format!("{name}.both")), both)?;
    set_mode(&dir.join(format!("{name}.both")), 0o600)?;
    let run = program("openssl")?.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let printed = run.arg(&certificate).text()?;
    let fingerprint = printed.trim().rsplit('=').next().unwrap_or_default().to_lowercase();
    ensure!(fingerprint.len() == 95, "openssl prints no fingerprint: {printed}");
    Ok((certificate, fingerprint))
}

impl Place {
    /// Starts a server of FTP or WebDAV and waits for its port.
    pub(super) fn serve_with_password(
        self,
        run: Run,
        scheme: Scheme,
        user: &str,
        folder: &str,
    ) -> Result<Endpoint> {
        let clear = matches!(scheme, Scheme::Ftp | Scheme::Dav);
        let tls = (!clear).then(|| self.certificate()).transpose()?;
        let mut server = Server::start(&self.adopted(run)?)?;
        server.port(self.port, READY)?;
        let (certificate, fingerprint) = tls.unzip();
        let at = Address {
            scheme,
            host: LOOPBACK.to_owned(),
            port: self.port,
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
            certificate,
            folder: folder.to_owned(),
            known_hosts: self.path("known_hosts"),
            fingerprint: fingerprint.unwrap_or_default(),
        };
        Ok(Endpoint {
            at,
            others: Vec::new(),
            owner: None,
            root: self.root,
            control: None,
            server,
            _dir: self.dir,
        })
    }

    /// Lines of a configuration with what only this place knows.
    fn filled(&self, lines: &[String]) -> Vec<String> {
        let (port, place) = (self.port.to_string(), self.path("").display().to_string());
        lines.iter().map(|line| line.replace("{port}", &port).replace("{place}", &place)).collect()
    }

    /// The certificate, made once.
    pub(super) fn certificate(&self) -> Result<(PathBuf, String)> {
        let (certificate, note) = (self.path("tls.pem"), self.path("tls.fingerprint"));
        if certificate.exists() {
            return Ok((certificate, String::from_utf8_lossy(&read(&note)?).into_owned()));
        }
        let (certificate, fingerprint) = make_certificate(&self.path(""), "tls")?;
        write(&note, &fingerprint)?;
        Ok((certificate, fingerprint))
    }
}

/// The hash of the password; SHA-256 crypt, because what some of them choose takes seconds.
pub(super) fn password_hash() -> Result<String> {
    Ok(program("openssl")?.args(["passwd", "-5", PASSWORD]).text()?.trim().to_owned())
}

/// This very program as a server that keeps nothing, by the command of that name.
pub(crate) fn floor(kit: &Kit, command: &str) -> Result<Endpoint> {
    let place = Place::new(kit, command)?;
    let program = std::env::current_exe().doing(|| "finding this program".to_owned())?;
    let run = Run::new(program).args([command, &place.port.to_string()]);
    place.serve_with_password(run, Scheme::Ftp, USER, "/")
}

/// vsftpd serves its anonymous user, because others would need accounts of the machine.
pub(crate) fn vsftpd(kit: &Kit, scheme: Scheme, over: Over<'_>) -> Result<Endpoint> {
    ensure!(is_root(), "vsftpd is not started without the rights of root");
    let mut place = Place::new(kit, "vsftpd")?;
    // It serves nobody a folder that may be written to, only folders in it.
    let (empty, mut cage) = (place.path("empty"), place.path("cage"));
    place.root = cage.join("files");
    for folder in [&empty, &place.root] {
        std::fs::create_dir_all(folder).doing(|| format!("making {}", folder.display()))?;
    }
    set_mode(&place.path(""), 0o755)?;
    set_mode(&place.root, 0o777)?;
    if let Some(root) = over.root {
        (cage, place.root) = (root.to_path_buf(), root.to_path_buf());
    }
    let mut lines = vec![
        "listen=YES".to_owned(),
        "listen_address=127.0.0.1".to_owned(),
        format!("listen_port={}", place.port),
        "background=NO".to_owned(),
        "anonymous_enable=YES".to_owned(),
        "no_anon_password=YES".to_owned(),
        "local_enable=NO".to_owned(),
        "write_enable=YES".to_owned(),
        "anon_upload_enable=YES".to_owned(),
        "anon_mkdir_write_enable=YES".to_owned(),
        "anon_other_write_enable=YES".to_owned(),
        "anon_world_readable_only=NO".to_owned(),
        "anon_umask=022".to_owned(),
        format!("anon_root={}", cage.display()),
        format!("ftp_username={NOBODY}"),
        "mdtm_write=YES".to_owned(),
        "xferlog_enable=NO".to_owned(),
        "max_clients=4000".to_owned(),
        "max_per_ip=0".to_owned(),
        "seccomp_sandbox=NO".to_owned(),
        format!("secure_chroot_dir={}", empty.display()),
    ];
    if let Some((from, to)) = over.passive {
        lines.extend([format!("pasv_min_port={from}"), format!("pasv_max_port={to}")]);
    }
    if scheme != Scheme::Ftp {
        place.certificate()?;
        lines.extend([
            "ssl_enable=YES".to_owned(),
            "allow_anon_ssl=YES".to_owned(),
            "force_anon_logins_ssl=YES".to_owned(),
            "force_anon_data_ssl=YES".to_owned(),
            "require_ssl_reuse=YES".to_owned(),
            "ssl_ciphers=HIGH".to_owned(),
            format!("rsa_cert_file={}", place.path("tls.pem").display()),
            format!("rsa_private_key_file={}", place.path("tls.key").display()),
        ]);
    }
    lines.extend(place.filled(over.lines));
    let config = place.path("vsftpd.conf");
    write(&config, lines.join("\n") + "\n")?;
    set_mode(&config, 0o600)?;
    let run = program("vsftpd")?.arg(&config);
    let folder = if over.root.is_some() { "/" } else { "/files/" };
    let endpoint = place.serve_with_password(run, scheme, "anonymous", folder)?;
    Ok(Endpoint { owner: Some(NOBODY), ..endpoint })
}

/// ProFTPD without a cage, so that it needs no rights; mod_tls demands resumed sessions by itself.
pub(crate) fn proftpd(kit: &Kit, scheme: Scheme, over: Over<'_>) -> Result<Endpoint> {
    let mut place = Place::new(kit, "proftpd")?;
    if let Some(root) = over.root {
        place.root = root.to_path_buf();
    }
    let mut lines = place.proftpd(&password_hash()?)?;
    lines.extend([
        "UseFtpUsers off".to_owned(),
        "DelayEngine off".to_owned(),
        "AllowRetrieveRestart on".to_owned(),
        // It shows a hundred thousand names otherwise, and not one more.
        "ListOptions \"\" maxfiles 1000000".to_owned(),
    ]);
    if let Some((from, to)) = over.passive {
        lines.push(format!("PassivePorts {from} {to}"));
    }
    if scheme != Scheme::Ftp {
        place.certificate()?;
        lines.insert(0, "LoadModule mod_tls.c".to_owned());
        lines.insert(0, "ModulePath /usr/lib/proftpd".to_owned());
        lines.extend([
            "TLSEngine on".to_owned(),
            "TLSRequired on".to_owned(),
            format!("TLSECCertificateFile {}", place.path("tls.pem").display()),
            format!("TLSECCertificateKeyFile {}", place.path("tls.key").display()),
            format!("TLSLog {}", place.path("tls.log").display()),
            "TLSRenegotiate none".to_owned(),
        ]);
        set_mode(&place.path("tls.key"), 0o600)?;
    }
    lines.extend(place.filled(over.lines));
    let config = place.path("config");
    write(&config, lines.join("\n") + "\n")?;
    let run = program("proftpd")?.args(["--nodaemon", "--config"]).arg(&config);
    let folder = with_slash(&place.root);
    place.serve_with_password(run, scheme, USER, &folder)
}

/// Pure-FTPd with an account of its own.
pub(crate) fn pure_ftpd(kit: &Kit, scheme: Scheme, over: Over<'_>) -> Result<Endpoint> {
    ensure!(is_root(), "Pure-FTPd is not started without the rights of root");
    let mut place = Place::new(kit, "pure-ftpd")?;
    let number = |flag: &str| Ok(Run::new("id").args([flag, NOBODY]).text()?.trim().to_owned());
    let (uid, gid) = (number("-u")?, number("-g")?);
    for path in [place.path(""), place.root.clone()] {
        set_mode(&path, 0o777)?;
    }
    if let Some(root) = over.root {
        place.root = root.to_path_buf();
    }
    let (accounts, database) = (place.path("accounts"), place.path("accounts.pdb"));
    let hash = password_hash()?;
    let line = format!("{USER}:{hash}:{uid}:{gid}::{}/./::::::::::::\n", place.root.display());
    write(&accounts, line)?;
    set_mode(&accounts, 0o600)?;
    program("pure-pw")?.arg("mkdb").arg(&database).arg("-f").arg(&accounts).finish()?.succeeded()?;
    let mut run = program("pure-ftpd")?
        .args(["-S", &format!("127.0.0.1,{}", place.port), "-l", &format!("puredb:{}", database.display())])
        .args(["-u", "1", "-c", "4000", "-C", "4000", "-H", "-U", "000:000", "-A", "-L", "1000000:10"]);
    if let Some((from, to)) = over.passive {
        run = run.args(["-p", &format!("{from}:{to}")]);
    }
    if scheme != Scheme::Ftp {
        place.certificate()?;
        run = run.args(["-Y", "2", &format!("-2{}", place.path("tls.both").display())]);
    }
    let endpoint = place.serve_with_password(run, scheme, USER, "/")?;
    Ok(Endpoint { owner: Some(NOBODY), ..endpoint })
}

const PYFTPDLIB: &str = "
import sys, logging
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer
port, root, user, password, pem = sys.argv[1:]
logging.basicConfig(level=logging.WARNING)
handler = TLS_FTPHandler if pem else FTPHandler
if pem:
    handler.certfile = pem
    handler.tls_control_required = handler.tls_data_required = True
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user(user, password, root, perm='elradfmwMT')
server = FTPServer(('127.0.0.1', int(port)), handler, backlog=1000)
server.max_cons, server.max_cons_per_ip = 5000, 0
server.serve_forever()
";

fn pyftpdlib(kit: &Kit, scheme: Scheme) -> Result<Endpoint> {
    let place = Place::new(kit, "pyftpdlib")?;
    let mut pem = PathBuf::new();
    if scheme != Scheme::Ftp {
        place.certificate()?;
        pem = place.path("tls.both");
    }
    let run = program("python")?.args(["-c", PYFTPDLIB, &place.port.to_string()]).arg(&place.root);
    place.serve_with_password(run.args([USER, PASSWORD]).arg(pem), scheme, USER, "/")
}

/// rclone's: an object store's idea of files. Its TLS protects the control connection alone, which no client
/// wants.
fn rclone(kit: &Kit) -> Result<Endpoint> {
    let place = Place::new(kit, "rclone")?;
    let run = place.rclone("ftp")?.args(["--user", USER, "--pass", PASSWORD]).arg(&place.root);
    place.serve_with_password(run, Scheme::Ftp, USER, "/")
}
