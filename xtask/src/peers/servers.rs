//! Their servers, each on a free port of the loopback, with keys and folders of their own.
//!
//! They run as whoever runs the test: root or not. Nothing outside a temporary folder is written, except
//! `/run/sshd`, which sshd demands of root. Everyone logs in by the one key of the [`Kit`]; rclone and
//! ProFTPD also take [`PASSWORD`]. All of it ends when the [`Endpoint`] is dropped.

mod dav;
mod ftp;
mod s3;
mod scp;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use self::dav::{BUILT_SERVERS, DAV_SERVERS};
pub(crate) use self::dav::{apache, nginx};
pub(super) use self::ftp::{FTP_SERVERS, make_certificate};
pub(crate) use self::ftp::{Over, floor, proftpd as ftp_proftpd, pure_ftpd, vsftpd};
pub(crate) use self::s3::{ensure_s3s_fs, s3s_fs};
pub(super) use self::scp::{SCP_QUICK, SCP_SERVERS};
use super::cases::ours::Trait;
use super::cases::{FOLDERS, folder_name};
use super::program;
use crate::fault::{Fault, Result, While, ensure};
use crate::install::is_root;
use crate::process::{Run, Server, TempDir, find_program, free_port, read, set_mode, write};

/// The password where a server of theirs is given one.
pub(super) const PASSWORD: &str = "correct horse 1";
/// The name where a server of theirs lets us choose it.
const USER: &str = "ferry";
/// The access key of a user of ours, where one is given: id and secret.
const ACCESS_KEY: (&str, &str) = ("FKPEER", "the secret of the peers of S3");

/// The line that gives it, for the table of a user.
pub(crate) fn access_keys() -> String {
    let (id, secret) = ACCESS_KEY;
    format!("access_keys = [{{ id = \"{id}\", secret = \"{secret}\" }}]")
}

/// Where servers are.
pub(crate) const LOOPBACK: &str = "127.0.0.1";
const READY: Duration = Duration::from_secs(20);

/// A server that can be started.
pub(super) struct Starter {
    pub(super) name: &'static str,
    pub(super) peer: &'static str,
    pub(super) start: fn(&Kit) -> Result<Endpoint>,
    /// What it cannot do.
    pub(super) lacks: &'static [Trait],
}

pub(super) const SERVERS: &[Starter] = &[
    Starter { name: "sshd", peer: "sshd", start: sshd, lacks: &[] },
    Starter { name: "dropbear", peer: "dropbear", start: dropbear, lacks: &[] },
    Starter { name: "proftpd", peer: "proftpd", start: proftpd, lacks: &[] },
    Starter { name: "rclone-serve", peer: "rclone", start: rclone, lacks: RCLONE_LACKS },
];

/// What arrives is in its cache first, and there is more that an object store has no idea of.
const RCLONE_LACKS: &[Trait] =
    &[Trait::Links, Trait::HardLinks, Trait::Modes, Trait::AnyNames, Trait::ByteNames, Trait::Leftovers];

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// SCP, and the shell where there is one.
    Scp,
    Sftp,
    /// FTP in the clear.
    Ftp,
    /// FTP that turns to TLS.
    Ftpes,
    /// FTP over TLS from the first byte.
    Ftps,
    /// WebDAV in the clear.
    Dav,
    /// WebDAV over TLS.
    Davs,
    /// S3 in the clear; what is a user and a password elsewhere is the access key.
    S3,
}

impl Scheme {
    /// As it stands in a URL of ours.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Scp => "scp",
            Scheme::Sftp => "sftp",
            Scheme::Ftp => "ftp",
            Scheme::Ftpes => "ftpes",
            Scheme::Ftps => "ftps",
            Scheme::Dav => "dav",
            Scheme::Davs => "davs",
            Scheme::S3 => "s3plain",
        }
    }

    /// Whether files go by connections of their own.
    pub(crate) fn has_ports_for_data(self) -> bool {
        matches!(self, Scheme::Ftp | Scheme::Ftpes | Scheme::Ftps)
    }
}

/// Where a server on the loopback is, and how to log in to it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// For servers that know no keys.
    pub(crate) password: String,
    /// The server's certificate, for who is told whom to trust; `None` without TLS.
    pub(crate) certificate: Option<PathBuf>,
    /// The folder that it serves, as a client sees it; ends in a slash.
    pub(crate) folder: String,
    /// A file for OpenSSH and those who read its format; holds the server's key.
    pub(crate) known_hosts: PathBuf,
    /// Of the host key `SHA256:…`, of a certificate its SHA-256 in pairs of digits, for those who want to be told.
    pub(crate) fingerprint: String,
}

impl Address {
    /// The same server behind another port. Errors: its key cannot be written down for that port.
    pub(crate) fn behind(&self, port: u16) -> Result<Self> {
        let mut known = String::from_utf8_lossy(&read(&self.known_hosts)?).into_owned();
        let here = format!("[127.0.0.1]:{} ", self.port);
        let lines: Vec<String> = known
            .lines()
            .filter_map(|line| line.strip_prefix(&here))
            .map(|key| format!("[127.0.0.1]:{port} {key}\n"))
            .collect();
        ensure!(
            !lines.is_empty(),
            "{} does not hold the key of port {}",
            self.known_hosts.display(),
            self.port
        );
        if !known.ends_with('\n') {
            known.push('\n');
        }
        write(&self.known_hosts, known + &lines.concat())?;
        Ok(Self { port, ..self.clone() })
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) at: Address,
    /// Other ways to the same folder.
    others: Vec<Address>,
    /// Whose rights the server has, if they are not those of whoever runs us.
    owner: Option<&'static str>,
    /// The folder that it serves, on this disk.
    pub(crate) root: PathBuf,
    /// Where ours is controlled; `None` of theirs.
    pub(crate) control: Option<PathBuf>,
    server: Server,
    /// Dropped after the server.
    _dir: TempDir,
}

impl Endpoint {
    /// The way by which it is spoken to like this. Errors: there is none.
    pub(crate) fn by(&self, scheme: Scheme) -> Result<&Address> {
        let found = [&self.at].into_iter().chain(&self.others).find(|at| at.scheme == scheme);
        found.ok_or_else(|| Fault::new(format!("the server does not speak {}", scheme.name())))
    }

    /// Lets the server read and change what we made.
    pub(super) fn hand_over(&self, path: &Path) -> Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        Run::new("chown").args(["-hR", owner]).arg(path).finish()?.succeeded().map(drop)
    }

    /// What the server said.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    /// The last lines of it, for a fault.
    pub(crate) fn tail(&self) -> String {
        self.server.tail(15)
    }

    /// Waits until the server has said a line that is wanted; returns it.
    pub(crate) fn line(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.server.line(READY, is_wanted)
    }

    /// The process at the head of the server's tree.
    pub(crate) fn process(&self) -> u32 {
        self.server.id()
    }
}

/// The client's side of every test: a folder and a key pair.
#[derive(Debug)]
pub(crate) struct Kit {
    /// Where it and the servers have their folders.
    base: PathBuf,
    /// Servers run below a process that adopts what they leave behind, so that its CPU can be read.
    adopts: bool,
    dir: TempDir,
    /// OpenSSH's form, unencrypted, ed25519.
    pub(crate) key: PathBuf,
    /// The same in PuTTY's form; absent if `puttygen` is.
    pub(crate) ppk: PathBuf,
}

impl Kit {
    pub(crate) fn new() -> Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// With everything in a folder of the caller's choice, and with servers whose CPU is to be read.
    pub(crate) fn measured(base: &Path) -> Result<Self> {
        Ok(Self { adopts: true, ..Self::below(base)? })
    }

    fn below(base: &Path) -> Result<Self> {
        let dir = TempDir::below(base, "kit")?;
        let key = dir.join("key");
        make_key(&key, "ed25519")?;
        let ppk = dir.join("key.ppk");
        if find_program("puttygen").is_some() {
            program("puttygen")?.arg(&key).args(["-O", "private", "-o"]).arg(&ppk).finish()?.succeeded()?;
        }
        Ok(Self { base: base.to_path_buf(), adopts: false, dir, key, ppk })
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn public(&self) -> PathBuf {
        self.dir.join("key.pub")
    }
}

fn make_key(path: &Path, kind: &str) -> Result<()> {
    let run = program("ssh-keygen")?.args(["-q", "-t", kind, "-N", "", "-C", "test", "-f"]);
    run.arg(path).finish()?.succeeded().map(drop)
}

/// What each server gets before it starts.
struct Place {
    dir: TempDir,
    root: PathBuf,
    host_key: PathBuf,
    port: u16,
    adopts: bool,
}

/// Runs a program and waits for it and for all orphans below it: what they cost becomes its own cost. 36 is
/// `PR_SET_CHILD_SUBREAPER`. sshd's sessions leave orphans when a client goes without a word.
const ADOPT: &str = "
import sys, os, ctypes
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
main = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
while os.wait()[0] != main:
    pass
";

impl Place {
    fn new(kit: &Kit, name: &str) -> Result<Self> {
        let dir = TempDir::below(&kit.base, name)?;
        let root = dir.join("root");
        std::fs::create_dir(&root).doing(|| format!("making {}", root.display()))?;
        let host_key = dir.join("host_key");
        make_key(&host_key, "ed25519")?;
        Ok(Self { root, host_key, port: free_port()?, dir, adopts: kit.adopts })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn adopted(&self, run: Run) -> Result<Run> {
        if self.adopts { Ok(run.below(program("python3")?.args(["-c", ADOPT]))) } else { Ok(run) }
    }

    /// Starts it and waits for its port.
    fn serve(self, run: Run, user: &str, folder: &str) -> Result<Endpoint> {
        let mut server = Server::start(&self.adopted(run)?)?;
        server.port(self.port, READY)?;
        let at = self.address(user, folder)?;
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

    /// rclone as a server of a protocol; accounts and the folder follow.
    fn rclone(&self, protocol: &str) -> Result<Run> {
        // It remembers for a moment what a folder held, so what comes later must be there before. (With no moment
        // at all, its sweeping timer runs without a pause and takes the machine from everybody else.)
        for number in 0..FOLDERS {
            let folder = self.root.join(folder_name(number));
            std::fs::create_dir(&folder).doing(|| format!("making {}", folder.display()))?;
        }
        // Without a cache it takes the bytes of a file in their order and on one handle alone.
        let run = program("rclone")?.args(["serve", protocol, "--config", "", "--vfs-cache-mode", "writes"]);
        // Files appear on the disk as soon as they are closed.
        let run = run.args(["--vfs-write-back", "0s", "--dir-cache-time", "10ms", "--cache-dir"]);
        Ok(run.arg(self.path("cache")).args(["--addr", &format!("{LOOPBACK}:{}", self.port)]))
    }

    /// What ProFTPD is told whatever it speaks: who it is, its port, its one account, which is whoever runs us.
    fn proftpd(&self, hash: &str) -> Result<Vec<String>> {
        let (name, uid, gid) = me()?;
        let group = Run::new("id").arg("-gn").text()?;
        let passwd = self.path("passwd");
        write(&passwd, format!("{USER}:{hash}:{uid}:{gid}::{}:/bin/sh\n", self.root.display()))?;
        set_mode(&passwd, 0o600)?;
        Ok(vec![
            "ServerName test".to_owned(),
            "ServerType standalone".to_owned(),
            "DefaultAddress 127.0.0.1".to_owned(),
            "SocketBindTight on".to_owned(),
            "UseIPv6 off".to_owned(),
            "UseReverseDNS off".to_owned(),
            format!("Port {}", self.port),
            format!("User {name}"),
            format!("Group {}", group.trim()),
            "RootLogin on".to_owned(),
            "RequireValidShell off".to_owned(),
            "AuthOrder mod_auth_file.c".to_owned(),
            format!("AuthUserFile {}", passwd.display()),
            format!("PidFile {}", self.path("pid").display()),
            format!("ScoreboardFile {}", self.path("scoreboard").display()),
            "WtmpLog off".to_owned(),
            "TransferLog none".to_owned(),
            format!("SystemLog {}", self.path("system.log").display()),
            format!("DelayTable {}", self.path("delay").display()),
            "AllowOverwrite on".to_owned(),
            "AllowStoreRestart on".to_owned(),
            "MaxInstances none".to_owned(),
        ])
    }

    /// What a client must know.
    fn address(&self, user: &str, folder: &str) -> Result<Address> {
        let public = self.path("host_key.pub");
        let key = String::from_utf8_lossy(&read(&public)?).into_owned();
        let known_hosts = self.path("known_hosts");
        write(&known_hosts, format!("[127.0.0.1]:{} {key}", self.port))?;
        let printed = program("ssh-keygen")?.arg("-lf").arg(&public).text()?;
        let fingerprint = printed.split(' ').nth(1).unwrap_or_default().to_owned();
        ensure!(fingerprint.starts_with("SHA256:"), "ssh-keygen prints no fingerprint: {printed}");
        Ok(Address {
            scheme: Scheme::Sftp,
            host: LOOPBACK.to_owned(),
            port: self.port,
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
            certificate: None,
            folder: folder.to_owned(),
            known_hosts,
            fingerprint,
        })
    }
}

/// Name, uid and gid of whoever runs us.
fn me() -> Result<(String, String, String)> {
    let ask = |flag: &str| Ok(Run::new("id").arg(flag).text()?.trim().to_owned());
    Ok((ask("-un")?, ask("-u")?, ask("-g")?))
}

fn with_slash(path: &Path) -> String {
    format!("{}/", path.display())
}

/// OpenSSH's server. As root it wants its folder for privilege separation and its full path.
pub(super) fn sshd(kit: &Kit) -> Result<Endpoint> {
    serve_sshd(Place::new(kit, "sshd")?, kit, None)
}

/// The same with more lines of configuration, and an RSA key for hosts of which they speak.
pub(super) fn sshd_with(kit: &Kit, lines: &str) -> Result<Endpoint> {
    let place = Place::new(kit, "sshd")?;
    if lines.contains("rsa") {
        std::fs::remove_file(&place.host_key).doing(|| "removing a key".to_owned())?;
        make_key(&place.host_key, "rsa")?;
    }
    let subsystem = format!("Subsystem sftp internal-sftp -d {}\n{lines}", place.root.display());
    serve_sshd(place, kit, Some(&subsystem))
}

/// The same over a folder that is there already.
pub(crate) fn sshd_over(kit: &Kit, root: &Path) -> Result<Endpoint> {
    serve_sshd(Place { root: root.to_path_buf(), ..Place::new(kit, "sshd")? }, kit, None)
}

/// What a configuration of ours gets beyond what a new user has.
#[derive(Debug, Default)]
pub(crate) struct Extra<'a> {
    /// The folder to be served, if it is there already.
    pub(crate) root: Option<&'a Path>,
    /// Handlers: event and source. None at all: one that does nothing before each upload.
    pub(crate) hooks: &'a [(&'a str, &'a str)],
    /// Lines of the configuration, in tables of their own.
    pub(crate) lines: &'a str,
    /// Lines in the table of the user.
    pub(crate) user: &'a str,
    /// Lines in the table of FTP.
    pub(crate) ftp: &'a str,
    /// The lines of the limits. None at all: such as no case reaches.
    pub(crate) limits: &'a str,
}

/// Ours, as a new user gets it, with one hook bound.
pub(super) fn ferryd(kit: &Kit, program: &Path) -> Result<Endpoint> {
    ferryd_with(kit, program, &Extra::default())
}

/// The same with more configuration.
pub(crate) fn ferryd_with(kit: &Kit, program: &Path, extra: &Extra<'_>) -> Result<Endpoint> {
    let mut place = Place::new(kit, "ferryd")?;
    if let Some(root) = extra.root {
        place.root = root.to_path_buf();
    }
    let authorized = place.path("authorized_keys");
    write(&authorized, read(&kit.public())?)?;
    let (certificate, fingerprint) = make_certificate(&place.path(""), "tls")?;
    let empty = [("BeforeFileUpload", "")];
    let hooks = if extra.hooks.is_empty() { &empty } else { extra.hooks };
    let high = "sessions = 12000\nper_address = 12000\nper_user = 12000\nunauthenticated = 1000";
    let limits = if extra.limits.is_empty() { high } else { extra.limits };
    let mut text = format!(
        "data = {:?}\nhost_keys = [{:?}]\n[[listeners]]\nport = 0\n\
         [[listeners]]\nprotocol = \"ftp\"\nport = 0\n[[listeners]]\nprotocol = \"ftps\"\nport = 0\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\n[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n{}\n\
         [limits]\n{limits}\n\
         [[users]]\nname = \"{USER}\"\nkeys_file = {:?}\npassword = {:?}\nhome = {:?}\n{}\n",
        place.path("data"),
        place.host_key,
        certificate,
        place.path("tls.key"),
        extra.ftp,
        authorized,
        ftp::password_hash()?,
        place.root,
        extra.user
    );
    for (number, (event, source)) in hooks.iter().enumerate() {
        let file = place.path(&format!("hook-{number}.js"));
        write(&file, source)?;
        text += &format!("[[hooks]]\nevent = \"{event}\"\nfile = {file:?}\n");
    }
    let config = place.path("ferryd.toml");
    write(&config, text + extra.lines)?;
    let run = Run::new(program).args(["--json", "--config"]).arg(&config).env("HOME", place.path(""));
    let ready = |line: &str| line.contains("\"event\":\"ready\"");
    let (mut server, root) = (Server::start(&place.adopted(run)?)?, place.root.clone());
    let line = server.line(READY, ready)?;
    let said: serde_json::Value = serde_json::from_str(&line).doing(|| format!("reading `{line}`"))?;
    let Some(port) = port_of(&said, 0) else { crate::fault::bail!("no port in the ready line `{line}`") };
    place.port = port;
    let control = said.get("control").and_then(|path| path.as_str()).map(PathBuf::from);
    let at = place.address(USER, "/")?;
    let mut others = Vec::new();
    for (number, (_, scheme)) in FERRYD_FTP.iter().enumerate() {
        // The first of FTP's listeners speaks both in the clear and, when asked, TLS.
        let listener = if *scheme == Scheme::Ftps { 2 } else { 1 };
        let tls = (*scheme != Scheme::Ftp).then(|| (certificate.clone(), fingerprint.clone()));
        let (certificate, fingerprint) = tls.unzip();
        let fingerprint = fingerprint.unwrap_or_default();
        let port = port_of(&said, listener);
        let Some(port) = port else { crate::fault::bail!("no listener {number} in the ready line `{line}`") };
        others.push(Address { scheme: *scheme, port, certificate, fingerprint, ..at.clone() });
    }
    let http = [("webdav", Scheme::Dav, USER, PASSWORD), ("s3", Scheme::S3, ACCESS_KEY.0, ACCESS_KEY.1)];
    for (protocol, scheme, user, password) in http {
        let listeners = said.get("listeners").and_then(|all| all.as_array()).into_iter().flatten();
        let mut speaks =
            listeners.map(|l| l.get("protocol").and_then(|name| name.as_str()) == Some(protocol));
        let Some(port) = speaks.position(|it| it).and_then(|listener| port_of(&said, listener)) else {
            continue;
        };
        let (user, password) = (user.to_owned(), password.to_owned());
        let folder = if scheme == Scheme::S3 { s3::bucket(&root) } else { at.folder.clone() };
        others.push(Address { scheme, port, user, password, folder, ..at.clone() });
    }
    Ok(Endpoint { at, others, owner: None, root, control, server, _dir: place.dir })
}

/// The port of a listener in the line by which ours says that it is ready.
fn port_of(said: &serde_json::Value, listener: usize) -> Option<u16> {
    let address = said.pointer(&format!("/listeners/{listener}/address"))?.as_str()?;
    address.rsplit(':').next()?.parse().ok()
}

/// Ours by the ways of FTP.
pub(super) const FERRYD_FTP: &[(&str, Scheme)] =
    &[("ferryd-ftp", Scheme::Ftp), ("ferryd-ftpes", Scheme::Ftpes), ("ferryd-ftps", Scheme::Ftps)];

/// What FTP has no words for.
pub(super) const FERRYD_FTP_LACKS: &[Trait] =
    &[Trait::HostKey, Trait::HardLinks, Trait::AnyNames, Trait::Leftovers, Trait::Links, Trait::Space];

/// What ours does otherwise: a broken upload is parked, out of sight of the disk.
pub(super) const FERRYD_LACKS: &[Trait] = &[Trait::Leftovers];

/// With the subsystem of SFTP, or with a line in its place.
fn serve_sshd(place: Place, kit: &Kit, instead: Option<&str>) -> Result<Endpoint> {
    if is_root() {
        std::fs::create_dir_all("/run/sshd").doing(|| "making /run/sshd".to_owned())?;
        set_mode(Path::new("/run/sshd"), 0o755)?;
    }
    let authorized = place.path("authorized_keys");
    write(&authorized, read(&kit.public())?)?;
    let config = place.path("config");
    let lines = [
        format!("ListenAddress 127.0.0.1:{}", place.port),
        format!("HostKey {}", place.host_key.display()),
        format!("AuthorizedKeysFile {}", authorized.display()),
        instead.map_or_else(
            || format!("Subsystem sftp internal-sftp -d {}", place.root.display()),
            str::to_owned,
        ),
        "PidFile none".to_owned(),
        // The keys lie below the folder for temporary files, which anybody may write to.
        "StrictModes no".to_owned(),
        "UsePAM no".to_owned(),
        "PermitRootLogin yes".to_owned(),
        "PasswordAuthentication no".to_owned(),
        "KbdInteractiveAuthentication no".to_owned(),
        // A test opens connections as quickly as it can.
        "MaxStartups 1000".to_owned(),
        "LogLevel INFO".to_owned(),
    ];
    write(&config, lines.join("\n") + "\n")?;
    let (user, ..) = me()?;
    let run = program("sshd")?.args(["-D", "-e", "-f"]).arg(&config);
    let folder = with_slash(&place.root);
    place.serve(run, &user, &folder)
}

/// Dropbear with OpenSSH's sftp-server. It finds its keys only below the home folder of the account, so it
/// is shown an account of its own, by a library that answers in place of `/etc/passwd`.
pub(super) fn dropbear(kit: &Kit) -> Result<Endpoint> {
    let place = Place::new(kit, "dropbear")?;
    let (_, uid, gid) = me()?;
    let ssh = place.root.join(".ssh");
    std::fs::create_dir(&ssh).doing(|| format!("making {}", ssh.display()))?;
    write(&ssh.join("authorized_keys"), read(&kit.public())?)?;
    for (path, mode) in [(&place.root, 0o755), (&ssh, 0o700), (&ssh.join("authorized_keys"), 0o600)] {
        set_mode(path, mode)?;
    }
    let (passwd, group) = (place.path("passwd"), place.path("group"));
    write(&passwd, format!("{USER}:*:{uid}:{gid}::{}:/bin/sh\n", place.root.display()))?;
    write(&group, format!("{USER}:x:{gid}:\n"))?;
    let key = place.path("dropbear_key");
    program("dropbearconvert")?
        .args(["openssh", "dropbear"])
        .arg(&place.host_key)
        .arg(&key)
        .finish()?
        .succeeded()?;
    // 2022.83 offers rsa-sha2 with no RSA key loaded, and ends the connection of a client that takes it.
    let rsa = place.path("rsa_key");
    program("dropbearkey")?.args(["-t", "rsa", "-s", "2048", "-f"]).arg(&rsa).finish()?.succeeded()?;
    let run = program("dropbear")?
        .args(["-F", "-E", "-s", "-p", &format!("127.0.0.1:{}", place.port), "-r"])
        .arg(&key)
        .arg("-r")
        .arg(&rsa)
        .arg("-P")
        .arg(place.path("pid"))
        .env("LD_PRELOAD", "libnss_wrapper.so")
        .env("NSS_WRAPPER_PASSWD", passwd)
        .env("NSS_WRAPPER_GROUP", group);
    let folder = with_slash(&place.root);
    let public = program("dropbearkey")?.args(["-y", "-f"]).arg(&rsa).text()?;
    let public = public.lines().find(|line| line.starts_with("ssh-rsa ")).unwrap_or_default().to_owned();
    let endpoint = place.serve(run, USER, &folder)?;
    // rclone takes the RSA key whatever it knows of the host.
    let mut known = read(&endpoint.at.known_hosts)?;
    known.extend_from_slice(format!("[127.0.0.1]:{} {public}\n", endpoint.at.port).as_bytes());
    write(&endpoint.at.known_hosts, known)?;
    Ok(endpoint)
}

/// ProFTPD with mod_sftp. It reads keys in the form of RFC 4716 and accounts from its own file.
pub(super) fn proftpd(kit: &Kit) -> Result<Endpoint> {
    let place = Place::new(kit, "proftpd")?;
    let keys = place.path("keys");
    let exported = program("ssh-keygen")?.args(["-e", "-m", "RFC4716", "-f"]).arg(kit.public()).text()?;
    write(&keys, exported)?;
    set_mode(&place.host_key, 0o600)?;
    let config = place.path("config");
    let mut lines = vec!["ModulePath /usr/lib/proftpd".to_owned(), "LoadModule mod_sftp.c".to_owned()];
    lines.extend(place.proftpd(&ftp::password_hash()?)?);
    lines.extend([
        "SFTPEngine on".to_owned(),
        format!("SFTPLog {}", place.path("sftp.log").display()),
        format!("SFTPHostKey {}", place.host_key.display()),
        format!("SFTPAuthorizedUserKeys file:{}", keys.display()),
        "SFTPAuthMethods publickey password".to_owned(),
    ]);
    write(&config, lines.join("\n") + "\n")?;
    let run = program("proftpd")?.args(["--nodaemon", "--config"]).arg(&config);
    let folder = with_slash(&place.root);
    place.serve(run, USER, &folder)
}

/// rclone's server: an object store's idea of files, made to look like SFTP.
pub(super) fn rclone(kit: &Kit) -> Result<Endpoint> {
    let place = Place::new(kit, "rclone")?;
    let authorized = place.path("authorized_keys");
    write(&authorized, read(&kit.public())?)?;
    let run = place.rclone("sftp")?.args(["--user", USER, "--pass", PASSWORD, "--authorized-keys"]);
    let run = run.arg(&authorized).arg("--key").arg(&place.host_key).arg(&place.root);
    place.serve(run, USER, "/")
}
