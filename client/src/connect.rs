//! Opening a place: options, trust, login, and the guarded filesystem that comes of it.
//!
//! No answer never means yes: a host that is not known is asked about or refused. A session of the client
//! is the same type as a session of the server; its gate counts and cancels in the same way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use session_core::auth::{Account, Secret};
use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};
use session_core::store::local::{FsyncPolicy, LocalOptions, LocalStore};
use session_core::trust::Fingerprint;

#[cfg(feature = "sftp")]
use futures_util::future::join_all;
#[cfg(feature = "sftp")]
use proto_sftp::{client::Config as SftpConfig, ssh::connect::SshConnection};

#[cfg(feature = "sftp")]
use crate::pooled::Pooled;
use crate::url::Url;

/// A line with at least this delay is given several channels.
#[cfg(feature = "sftp")]
const LONG_LINE: Duration = Duration::from_millis(8);

/// Channels of one connection that a long line is given; also the most that may be asked for. sshd grants ten.
const CHANNELS: usize = 8;

/// How to reach and trust a remote. The host-key policy is part of every connection: without a pinned
/// key and without a record, an unknown host is asked about, and refused where nobody answers.
#[derive(Clone, Debug)]
pub struct Options {
    host: String,
    port: u16,
    user: String,
    password: Option<Secret>,
    identities: Vec<PathBuf>,
    fingerprints: Vec<Fingerprint>,
    known_hosts: Option<PathBuf>,
    accept_new: bool,
    timeout: Duration,
    channels: usize,
}

impl Options {
    /// What a URL says; the rest as a person would want it. Errors: `InvalidArgument` for a fingerprint
    /// that is none, or where no user is named and the environment names none.
    pub fn from_url(url: &Url) -> Result<Self> {
        let user = match &url.user {
            Some(user) => user.clone(),
            None => std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).map_err(|_| {
                Error::new(ErrorKind::InvalidArgument)
                    .with_detail("no user is named")
                    .with_hint("write it into the URL: sftp://user@host/path")
            })?,
        };
        let fingerprints = url.fingerprint.iter().map(|f| Fingerprint::parse(f)).collect::<Result<_>>()?;
        Ok(Options {
            host: url.host.clone(),
            port: url.port_or_default(),
            user,
            password: url.password.clone(),
            identities: Vec::new(),
            fingerprints,
            known_hosts: None,
            accept_new: false,
            timeout: Duration::from_secs(20),
            channels: CHANNELS,
        })
    }

    /// Log in with these private keys.
    pub fn identities(mut self, files: Vec<PathBuf>) -> Self {
        self.identities = files;
        self
    }

    /// Trust only these host keys.
    pub fn fingerprints(mut self, texts: &[String]) -> Result<Self> {
        for text in texts {
            self.fingerprints.push(Fingerprint::parse(text)?);
        }
        Ok(self)
    }

    /// Look host keys up in this file instead of the user's own.
    pub fn known_hosts(mut self, file: Option<PathBuf>) -> Self {
        self.known_hosts = file;
        self
    }

    /// Put an unknown host's key on record without asking.
    pub fn accept_new(mut self, yes: bool) -> Self {
        self.accept_new = yes;
        self
    }

    /// The password, where the URL has none.
    pub fn password(mut self, password: Option<String>) -> Self {
        self.password = self.password.or(password.map(Secret::new));
        self
    }

    /// Give up connecting after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Channels for one transfer; 0 leaves it to the line.
    pub fn channels(mut self, channels: usize) -> Self {
        if channels > 0 {
            self.channels = channels.min(CHANNELS);
        }
        self
    }
}

/// An open place.
pub struct Connected {
    fs: SessionFs,
    home: VPath,
    session: Arc<Session>,
    #[cfg(feature = "sftp")]
    connection: Option<SshConnection>,
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

    /// Ends it in good order.
    pub async fn close(self) {
        #[cfg(feature = "sftp")]
        if let Some(connection) = self.connection {
            connection.close().await;
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
    guard(session, Account::named("local"), Vec::new(), Arc::new(store), home)
}

fn guard(
    session: Arc<Session>,
    account: Account,
    methods: Vec<&'static str>,
    fs: Arc<dyn Filesystem>,
    home: VPath,
) -> Result<Connected> {
    let identity = session.log_in(account, methods)?;
    let fs = session.guard(&identity, fs, Chain::new(Vec::new()))?;
    Ok(Connected {
        fs,
        home,
        session,
        #[cfg(feature = "sftp")]
        connection: None,
    })
}

/// Connects and logs in. Errors: `Disconnected`, `TimedOut`, `Unauthenticated` (login and trust),
/// `Refused`. Dropped, it closes what was opened.
#[cfg(feature = "sftp")]
pub async fn open_url(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    use proto_sftp::ssh::connect::{ConnectOptions, HostKeyPolicy, connect};

    let session = Session::new(Setup::new(Protocol::Sftp, options.host.as_str()));
    let mut ssh = ConnectOptions::new(options.host.clone(), options.port, options.user.clone());
    ssh.password = options.password.clone();
    ssh.identities = options.identities.clone();
    ssh.fingerprints = options.fingerprints.clone();
    ssh.known_hosts = options.known_hosts.clone().map(|file| vec![file]);
    if options.accept_new {
        ssh.policy = HostKeyPolicy::AcceptNew;
    }
    ssh.timeout = options.timeout;
    ssh.session = Some(Arc::clone(&session));
    let connection = connect(ssh, decider).await?;
    // A short line is not helped by more channels; a long one is bound by the window of each.
    let more = if connection.delay() >= LONG_LINE { options.channels.saturating_sub(1) } else { 0 };
    let config = SftpConfig::default();
    let others = join_all((0..more).map(|_| connection.sftp(&config)));
    let (first, others) = tokio::join!(connection.sftp(&config), others);
    let first = Arc::new(first?);
    let home = first.home().clone();
    let others: Vec<Arc<dyn Filesystem>> =
        others.into_iter().flatten().map(|r| Arc::new(r) as Arc<dyn Filesystem>).collect();
    let fs: Arc<dyn Filesystem> =
        if others.is_empty() { first } else { Arc::new(Pooled::new(first, others)) };
    let methods = connection.methods().to_vec();
    let mut connected = guard(session, Account::named(options.user.as_str()), methods, fs, home)?;
    connected.connection = Some(connection);
    Ok(connected)
}

/// Connects and logs in. This build has no protocol: `Unsupported`.
#[cfg(not(feature = "sftp"))]
pub async fn open_url(_: Options, _: Arc<dyn Decider>) -> Result<Connected> {
    Err(Error::new(ErrorKind::Unsupported).with_detail("this build has no remote protocol"))
}
