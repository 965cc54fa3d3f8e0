//! Opening a place: options, trust, login, and the guarded filesystem that comes of it.
//!
//! No answer never means yes: a host that is not known is asked about or refused. A session of the client
//! is the same type as a session of the server; its gate counts and cancels in the same way. What the caller
//! leaves open is decided by the URL, for SFTP by `ssh_config` where it is to be read, else by what is usual.

#[cfg(any(feature = "ftp", feature = "s3", feature = "webdav"))]
mod again;
#[cfg(any(feature = "ftp", feature = "s3", feature = "webdav"))]
mod certificate;
mod execute;
mod explain;
#[cfg(feature = "ftp")]
mod ftp;
mod requests;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod s3_stores;
#[cfg(feature = "sftp")]
mod sftp;
mod steps;
#[cfg(feature = "webdav")]
mod webdav;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use session_core::auth::{Account, Secret};
use session_core::batch::Decider;
use session_core::error::Result;
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::net::dial::Family;
use session_core::net::proxy::{Proxy, environment};
use session_core::net::reach::Reach;
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Identity, Protocol, Session, Setup};
use session_core::store::local::{FsyncPolicy, LocalOptions, LocalStore};
use session_core::trust::{CertificateFingerprint, Fingerprint};

use crate::encrypted::FileKey;
use crate::log::SessionLog;
use crate::url::Url;
use execute::Means;
use steps::Around;

pub use execute::{Executor, Exit, Said, Sink, quoted};
pub use explain::{Explained, Setting, explain};
#[cfg(feature = "sftp")]
pub use proto_sftp::ssh::config::{ConfigUse, Hop, HopLogin};
#[cfg(feature = "sftp")]
pub use proto_sftp::ssh::keys::Agent;
pub use requests::RequestLimit;
#[cfg(feature = "s3")]
pub use s3::{Checksums, Putting, S3Options, S3Role, UrlStyle};
#[cfg(feature = "ftp")]
pub use session_core::net::client_tls::TlsVersion;

/// Channels of one connection (SFTP) or connections (FTP, WebDAV) that a transfer is given at most; also the most
/// that may be asked for. sshd grants ten channels.
const CHANNELS: usize = 8;

/// How a remote is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// WebDAV in the clear.
    Dav,
    /// WebDAV over TLS.
    Davs,
    /// FTP in the clear.
    Ftp,
    /// FTP that turns to TLS, or fails.
    Ftpes,
    /// FTP over TLS from the first byte.
    Ftps,
    /// S3 over TLS.
    S3,
    /// S3 in the clear.
    S3Plain,
    /// SCP, and the shell where there is one.
    Scp,
    /// SFTP.
    Sftp,
}

/// How to reach and trust a remote. The host-key policy is part of every connection: without a pinned
/// key and without a record, an unknown host is asked about, and refused where nobody answers.
#[derive(Clone, Debug)]
pub struct Options {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
    user: Option<String>,
    password: Option<Secret>,
    phrase: Option<Secret>,
    certificates: Vec<CertificateFingerprint>,
    timeout: Option<Duration>,
    channels: Option<usize>,
    lines: usize,
    reconnect: Duration,
    family: Option<Family>,
    source: Option<IpAddr>,
    reach: Reach,
    keepalive: Option<Option<Duration>>,
    proxy: Option<Proxy>,
    proxy_of_environment: bool,
    around: Around,
    #[cfg_attr(
        not(any(feature = "ftp", feature = "sftp")),
        allow(dead_code, reason = "what only FTP and SSH run")
    )]
    after_login: Vec<Vec<u8>>,
    #[cfg_attr(not(feature = "ftp"), allow(dead_code, reason = "what only FTP asks for"))]
    ftp: FtpOptions,
    #[cfg_attr(not(feature = "webdav"), allow(dead_code, reason = "what only WebDAV asks for"))]
    dav: DavOptions,
    #[cfg(feature = "s3")]
    s3: S3Options,
    #[cfg_attr(not(feature = "sftp"), allow(dead_code, reason = "what only SFTP asks for"))]
    ssh: SshOptions,
}

/// What only FTP asks for, and WebDAV of what belongs to TLS.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "ftp"), allow(dead_code, reason = "what only FTP asks for"))]
struct FtpOptions {
    active: bool,
    account: Option<Secret>,
    virtual_host: bool,
    named_address: bool,
    listed_by: FtpListing,
    client_certificate: Option<PathBuf>,
    #[cfg(feature = "ftp")]
    tls: Option<(TlsVersion, TlsVersion)>,
}

/// How FTP lists, and how its data connections are opened, where that is not as usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FtpListing {
    /// What is added to the server's local times to get UTC, seconds; found out where it is `None`.
    pub time_offset: Option<i32>,
    /// Without MLSD.
    pub without_facts: bool,
    /// Data connections resume no TLS session.
    pub without_resumption: bool,
}

/// What only WebDAV asks for, and S3 of what belongs to URLs.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "webdav"), allow(dead_code, reason = "what only WebDAV asks for"))]
struct DavOptions {
    path: Vec<u8>,
    token: Option<Secret>,
    secrets_in_the_clear: bool,
}

/// What only SFTP asks for.
#[derive(Clone, Debug, Default)]
struct SshOptions {
    identities: Vec<PathBuf>,
    keys: Vec<Secret>,
    #[cfg_attr(not(feature = "sftp"), allow(dead_code, reason = "what only SFTP asks for"))]
    new_password: Option<Secret>,
    user_certificates: Vec<PathBuf>,
    host_keys: Vec<Fingerprint>,
    host_key_alias: Option<String>,
    no_questions: bool,
    known_hosts: Option<PathBuf>,
    accept_new: bool,
    only_given: bool,
    keepalive_max: Option<usize>,
    #[cfg_attr(not(feature = "sftp"), allow(dead_code, reason = "what only SFTP asks for"))]
    spoken: SshSpoken,
    #[cfg(feature = "sftp")]
    agent: Option<Agent>,
    #[cfg(feature = "sftp")]
    jump: Option<Vec<Hop>>,
    #[cfg(feature = "sftp")]
    config: ConfigUse,
}

/// What is spoken over SSH, and how long keys hold; nothing said is what the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshSpoken {
    /// As `Ciphers` in ssh_config(5).
    pub ciphers: Option<String>,
    /// As `KexAlgorithms`.
    pub kex: Option<String>,
    /// As `HostKeyAlgorithms`.
    pub host_keys: Option<String>,
    /// Bytes in either direction after which keys are exchanged anew, 1 MiB to 1 GiB.
    pub rekey_bytes: Option<u64>,
    /// The same by time.
    pub rekey_time: Option<Duration>,
    /// What serves SFTP there: a command instead of the subsystem.
    pub sftp_server: Option<String>,
}

impl Options {
    /// What a URL says; the rest as a person would want it. Errors: `InvalidArgument` for a fingerprint
    /// that is none.
    pub fn from_url(url: &Url) -> Result<Self> {
        let scheme = match url.scheme.as_str() {
            "dav" | "http" => Scheme::Dav,
            "davs" | "https" => Scheme::Davs,
            "ftp" => Scheme::Ftp,
            "ftpes" => Scheme::Ftpes,
            "ftps" => Scheme::Ftps,
            "s3" => Scheme::S3,
            "s3plain" => Scheme::S3Plain,
            "scp" => Scheme::Scp,
            _ => Scheme::Sftp,
        };
        let mut options = Options {
            scheme,
            host: url.host.clone(),
            port: url.port,
            user: url.user.clone(),
            password: url.password.clone(),
            phrase: None,
            certificates: Vec::new(),
            timeout: None,
            channels: None,
            lines: 1,
            reconnect: Duration::ZERO,
            family: None,
            source: None,
            reach: Reach::default(),
            keepalive: None,
            proxy: None,
            proxy_of_environment: false,
            around: Around::default(),
            after_login: Vec::new(),
            ftp: FtpOptions::default(),
            dav: DavOptions { path: url.path.clone(), ..DavOptions::default() },
            #[cfg(feature = "s3")]
            s3: S3Options::default(),
            ssh: SshOptions::default(),
        };
        if !options.is_ssh() {
            if matches!(scheme, Scheme::Ftp | Scheme::Ftpes | Scheme::Ftps) {
                // As curl, lftp and WinSCP do it.
                options.user.get_or_insert_with(|| "anonymous".to_owned());
            }
            options.port = Some(url.port_or_default());
        }
        let pinned: Vec<String> = url.fingerprint.clone().into_iter().collect();
        match scheme {
            Scheme::Scp | Scheme::Sftp => options.host_keys(&pinned),
            _ => options.certificates(&pinned),
        }
    }

    /// Whether SSH is spoken.
    pub fn is_ssh(&self) -> bool {
        matches!(self.scheme, Scheme::Scp | Scheme::Sftp)
    }

    /// Log in with these private keys.
    pub fn identities(mut self, files: Vec<PathBuf>) -> Self {
        self.ssh.identities = files;
        self
    }

    /// Log in with these private keys, given as text in any format that is read from files.
    pub fn keys(mut self, texts: Vec<Secret>) -> Self {
        self.ssh.keys = texts;
        self
    }

    /// The phrase to try on encrypted keys before anybody is asked for one, where none is given yet: on those of
    /// SSH, and on the one of [`client_certificate`](Self::client_certificate).
    pub fn phrase(mut self, phrase: Option<Secret>) -> Self {
        self.phrase = self.phrase.or(phrase);
        self
    }

    /// Certificates for the user's keys, beside those that stand next to their key.
    pub fn user_certificates(mut self, files: Vec<PathBuf>) -> Self {
        self.ssh.user_certificates = files;
        self
    }

    /// Log in with the keys that are given here and no others: neither an agent's nor those in the home of who
    /// runs this program.
    pub fn only_given_keys(mut self) -> Self {
        self.ssh.only_given = true;
        self
    }

    /// Where the SSH agent is; where this is not said, the configuration's or the environment's.
    #[cfg(feature = "sftp")]
    pub fn agent(mut self, agent: Agent) -> Self {
        self.ssh.agent = Some(agent);
        self
    }

    /// Which `ssh_config` is read; none where this is not said.
    #[cfg(feature = "sftp")]
    pub fn ssh_config(mut self, which: ConfigUse) -> Self {
        self.ssh.config = which;
        self
    }

    /// SFTP servers to go over, the first to be reached first. Each is checked and entered by itself; none is
    /// given the target's password. An empty list goes over none, whatever the configuration says.
    #[cfg(feature = "sftp")]
    pub fn jump(mut self, hops: Option<Vec<Hop>>) -> Self {
        self.ssh.jump = hops;
        self
    }

    /// Reach the host, or the first of those that are gone over, by this way; `Direct` for none, whatever
    /// configuration and environment say.
    pub fn proxy(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Take the proxy that `ALL_PROXY` names and `NO_PROXY` does not exclude, where nobody names a way.
    pub fn proxy_of_environment(mut self, yes: bool) -> Self {
        self.proxy_of_environment = yes;
        self
    }

    /// Which addresses of the host are tried; with a proxy, of the proxy.
    pub fn family(mut self, family: Option<Family>) -> Self {
        self.family = family;
        self
    }

    /// The address of this machine from which to connect.
    pub fn source(mut self, address: Option<IpAddr>) -> Self {
        self.source = address;
        self
    }

    /// Which addresses may be connected to.
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// How often a silent server is asked whether it is there (`Some(None)`: never; `None`: as usual), and,
    /// over SFTP, how often it may fail to answer.
    pub fn keepalive(mut self, every: Option<Option<Duration>>, most: Option<usize>) -> Self {
        self.keepalive = every;
        self.ssh.keepalive_max = most;
        self
    }

    /// Trust only these host keys.
    pub fn host_keys(mut self, texts: &[String]) -> Result<Self> {
        for text in texts {
            self.ssh.host_keys.push(Fingerprint::parse(text)?);
        }
        Ok(self)
    }

    /// Trust only these certificates.
    pub fn certificates(mut self, texts: &[String]) -> Result<Self> {
        for text in texts {
            self.certificates.push(CertificateFingerprint::parse(text)?);
        }
        Ok(self)
    }

    /// Look the host's key up under this name, whatever the host and the port are.
    pub fn host_key_alias(mut self, name: Option<String>) -> Self {
        self.ssh.host_key_alias = name;
        self
    }

    /// Log in without answering questions of the server (keyboard-interactive).
    pub fn no_questions(mut self, yes: bool) -> Self {
        self.ssh.no_questions = yes;
        self
    }

    /// What is spoken over SSH with the target.
    pub fn spoken(mut self, spoken: SshSpoken) -> Self {
        self.ssh.spoken = spoken;
        self
    }

    /// Commands that run on each connection once it is logged in, also when it was lost and is had again: over SSH each
    /// in a shell of its own in the login folder, over FTP as raw lines. One that fails fails the login.
    pub fn after_login(mut self, lines: Vec<Vec<u8>>) -> Self {
        self.after_login = lines;
        self
    }

    /// FTP: let the server open data connections (active mode).
    pub fn active(mut self, yes: bool) -> Self {
        self.ftp.active = yes;
        self
    }

    /// FTP: the account (ACCT), for servers that want one.
    pub fn account(mut self, account: Option<Secret>) -> Self {
        self.ftp.account = account;
        self
    }

    /// FTP: say before the login which host is meant (HOST, RFC 7151).
    pub fn virtual_host(mut self, yes: bool) -> Self {
        self.ftp.virtual_host = yes;
        self
    }

    /// FTP: open data connections to the address that the server names, where that is a public one.
    pub fn named_address(mut self, yes: bool) -> Self {
        self.ftp.named_address = yes;
        self
    }

    /// FTP: how listings are had, and what data connections resume.
    pub fn ftp_listing(mut self, how: FtpListing) -> Self {
        self.ftp.listed_by = how;
        self
    }

    /// TLS: the oldest and the newest version that may be spoken; 1.2 and 1.3 where this is not said.
    #[cfg(feature = "ftp")]
    pub fn tls_versions(mut self, oldest: TlsVersion, newest: TlsVersion) -> Self {
        self.ftp.tls = Some((oldest, newest));
        self
    }

    /// TLS: the user's own certificate, with those above it: PKCS#12, or PEM with the key in the same file, or in
    /// the one of the same name that ends in `.key`. A key may be encrypted ([`phrase`](Self::phrase)).
    pub fn client_certificate(mut self, file: Option<PathBuf>) -> Self {
        self.ftp.client_certificate = file;
        self
    }

    /// WebDAV: show this token instead of user and password.
    pub fn token(mut self, token: Option<Secret>) -> Self {
        self.dav.token = token;
        self
    }

    /// WebDAV: a password may be told in the clear over a network, where the server wants nothing else.
    pub fn secrets_in_the_clear(mut self, yes: bool) -> Self {
        self.dav.secrets_in_the_clear = yes;
        self
    }

    /// S3: what only S3 asks for.
    #[cfg(feature = "s3")]
    pub fn s3(mut self, change: impl FnOnce(&S3Options) -> S3Options) -> Self {
        self.s3 = change(&self.s3);
        self
    }

    /// Look host keys up in this file instead of the user's own.
    pub fn known_hosts(mut self, file: Option<PathBuf>) -> Self {
        self.ssh.known_hosts = file;
        self
    }

    /// Put an unknown host's key on record without asking.
    pub fn accept_new(mut self, yes: bool) -> Self {
        self.ssh.accept_new = yes;
        self
    }

    /// The password, where the URL has none.
    pub fn password(mut self, password: Option<String>) -> Self {
        self.password = self.password.or(password.map(Secret::new));
        self
    }

    /// SSH: the password that shall hold from now on, where the server asks for one because the old one has expired.
    /// It must ask by questions (keyboard-interactive).
    #[cfg(feature = "sftp")]
    pub fn new_password(mut self, password: Option<Secret>) -> Self {
        self.ssh.new_password = password;
        self
    }

    /// Give up connecting after this time; 20 seconds where neither this nor the configuration says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// For how long a lost connection is tried to be had again, which begins anew whenever bytes have moved;
    /// zero (the default): not at all. What is safe to repeat then is (see [`crate::reconnect`]).
    pub fn reconnect(mut self, budget: Duration) -> Self {
        self.reconnect = budget;
        self
    }

    /// Ask these interceptors at the steps of the connection's life and about every operation on the remote.
    pub fn interceptors(mut self, chain: Arc<Chain>) -> Self {
        self.around.chain = chain;
        self
    }

    /// Ask no more of the remote in a second than this allows, which all that are given the same share.
    pub fn request_limit(mut self, limit: Option<Arc<RequestLimit>>) -> Self {
        self.around.limit = limit;
        self
    }

    /// Encrypt what is new on the remote under this key, and read what was encrypted under it.
    pub fn file_key(mut self, key: Option<Arc<FileKey>>) -> Self {
        self.around.key = key;
        self
    }

    /// Write what is said to the remote and what it answers to this log.
    pub fn log(mut self, log: Option<&SessionLog>) -> Self {
        self.around.talk = log.map(SessionLog::talk).unwrap_or_default();
        self
    }

    /// Run these handlers, and no others.
    #[cfg(feature = "hooks")]
    pub fn handlers(self, handlers: &crate::hooks::Handlers) -> Self {
        self.interceptors(handlers.chain())
    }

    /// Channels (SFTP) or connections (FTP, WebDAV) for one transfer; 0 leaves it to the line.
    pub fn channels(mut self, channels: usize) -> Self {
        if channels > 0 {
            self.channels = Some(channels.min(CHANNELS));
        }
        self
    }

    /// Connections of one login over SFTP: what is large goes over all of them at once. At most sixteen, as many
    /// as the server grants. FTP has its own ([`channels`](Self::channels)).
    pub fn lines(mut self, lines: usize) -> Self {
        self.lines = lines.clamp(1, 16);
        self
    }

    /// The way where only caller and environment are asked.
    #[cfg_attr(
        not(any(feature = "ftp", feature = "s3", feature = "webdav")),
        allow(dead_code, reason = "SFTP asks its configuration in between")
    )]
    fn way(&self, port: u16) -> Result<Proxy> {
        match &self.proxy {
            Some(proxy) => Ok(proxy.clone()),
            None if self.proxy_of_environment => environment::proxy_for(&self.host, port),
            None => Ok(Proxy::Direct),
        }
    }
}

/// What has to be ended in good order.
enum Line {
    #[cfg(feature = "ftp")]
    Ftp(Arc<proto_ftp::client::FtpRemote>),
    Local,
    #[cfg(feature = "s3")]
    S3(Arc<proto_s3::client::S3Remote>),
    #[cfg(feature = "sftp")]
    Ssh(Arc<sftp::Dialer>),
    #[cfg(feature = "webdav")]
    Webdav(Arc<proto_webdav::client::WebdavRemote>),
}

/// An open place.
pub struct Connected {
    fs: SessionFs,
    home: VPath,
    session: Arc<Session>,
    line: Line,
    warnings: Vec<String>,
}

impl Connected {
    /// Its filesystem, behind the gate of its session.
    pub fn fs(&self) -> &SessionFs {
        &self.fs
    }

    /// Where relative paths begin.
    pub fn home(&self) -> &VPath {
        &self.home
    }

    /// Its session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What the user should know of the configuration that was read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What runs commands there.
    pub fn executor(&self) -> Executor {
        let means = match &self.line {
            #[cfg(feature = "ftp")]
            Line::Ftp(remote) => Means::Ftp(Arc::clone(remote)),
            Line::Local => Means::None,
            #[cfg(feature = "s3")]
            Line::S3(_) => Means::None,
            #[cfg(feature = "sftp")]
            Line::Ssh(dialer) => Means::Ssh(Arc::clone(dialer)),
            #[cfg(feature = "webdav")]
            Line::Webdav(_) => Means::None,
        };
        Executor::new(means, Arc::clone(&self.session))
    }

    /// The store, where it is one of S3: for what S3 has beside files.
    #[cfg(feature = "s3")]
    pub fn s3(&self) -> Option<&Arc<proto_s3::client::S3Remote>> {
        match &self.line {
            Line::S3(remote) => Some(remote),
            _ => None,
        }
    }

    /// The server, where it is one of WebDAV: for its locks.
    #[cfg(feature = "webdav")]
    pub fn webdav(&self) -> Option<&Arc<proto_webdav::client::WebdavRemote>> {
        match &self.line {
            Line::Webdav(remote) => Some(remote),
            _ => None,
        }
    }

    /// Ends it in good order.
    pub async fn close(self) {
        match self.line {
            #[cfg(feature = "ftp")]
            Line::Ftp(remote) => remote.close().await,
            Line::Local => {}
            #[cfg(feature = "s3")]
            Line::S3(remote) => remote.close().await,
            #[cfg(feature = "sftp")]
            Line::Ssh(dialer) => dialer.close().await,
            #[cfg(feature = "webdav")]
            Line::Webdav(remote) => remote.close().await,
        }
        self.session.close(Ending::new("done", Actor::Client)).await;
    }
}

/// The disk of this machine. Errors: those of reading the current directory.
pub fn open_local() -> Result<Connected> {
    use std::os::unix::ffi::OsStrExt;
    // What a client writes it can write again; a server decides otherwise.
    let options = LocalOptions { fsync: FsyncPolicy::Never, ..LocalOptions::default() };
    let store = LocalStore::open("/", options)?;
    let cwd = std::env::current_dir()?;
    let home = VPath::absolute(cwd.as_os_str().as_bytes())?;
    let session = Session::new(Setup::new(Protocol::Local, "local"));
    let identity = session.log_in(Account::named("local"), Vec::new())?;
    guard(session, &identity, (Arc::new(store), home), Line::Local)
}

fn guard(
    session: Arc<Session>,
    identity: &Identity,
    (fs, home): (Arc<dyn Filesystem>, VPath),
    line: Line,
) -> Result<Connected> {
    let chain = session.chain();
    if !chain.links().is_empty() {
        // What a handler does itself, nobody is asked about.
        session.lend_files(Arc::clone(&fs), Arc::default());
    }
    let fs = session.guard(identity, fs, chain)?;
    Ok(Connected { fs, home, session, line, warnings: Vec::new() })
}

/// The key of a server of SFTP or SCP, without trusting it and without a login. `kinds`: host key algorithms in the
/// order in which they are wanted; any where there are none. Errors: those of connecting.
#[cfg(feature = "sftp")]
pub async fn host_key(
    options: Options,
    kinds: &[String],
    decider: Arc<dyn Decider>,
) -> Result<session_core::trust::HostKey> {
    sftp::host_key(options, kinds, decider).await
}

/// The certificate of a server of FTPS, S3 or WebDAV, without believing it and without a login. Errors:
/// `InvalidArgument` in the clear; those of connecting.
#[cfg(any(feature = "ftp", feature = "s3", feature = "webdav"))]
pub async fn certificate(options: &Options) -> Result<session_core::trust::Certificate> {
    match options.scheme {
        #[cfg(feature = "webdav")]
        Scheme::Dav | Scheme::Davs => webdav::certificate(options).await,
        #[cfg(feature = "s3")]
        Scheme::S3 | Scheme::S3Plain => s3::certificate(options).await,
        #[cfg(feature = "ftp")]
        _ => ftp::certificate(options).await,
        #[cfg(not(feature = "ftp"))]
        _ => Err(session_core::error::ErrorKind::Unsupported.into()),
    }
}

/// Connects and logs in. Errors: `Disconnected`, `TimedOut`, `Unauthenticated` (login and trust),
/// `Refused`, `Unsupported` for what this build does not speak. Dropped, it closes what was opened.
pub async fn open_url(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    // Boxed: a login of any protocol is a future larger than all that surround it.
    match options.scheme {
        #[cfg(feature = "ftp")]
        Scheme::Ftp | Scheme::Ftpes | Scheme::Ftps => Box::pin(ftp::open(options, decider)).await,
        #[cfg(feature = "s3")]
        Scheme::S3 | Scheme::S3Plain => Box::pin(s3::open(options, decider)).await,
        #[cfg(feature = "sftp")]
        Scheme::Scp | Scheme::Sftp => Box::pin(sftp::open(options, decider)).await,
        #[cfg(feature = "webdav")]
        Scheme::Dav | Scheme::Davs => Box::pin(webdav::open(options, decider)).await,
        #[cfg(not(all(feature = "ftp", feature = "s3", feature = "sftp", feature = "webdav")))]
        _ => {
            let _ = decider;
            use session_core::error::{Error, ErrorKind};
            Err(Error::new(ErrorKind::Unsupported).with_detail("this build does not speak that protocol"))
        }
    }
}
