//! Opening a place: options, trust, login, and the guarded filesystem that comes of it.
//!
//! No answer never means yes: a host that is not known is asked about or refused. A session of the client
//! is the same type as a session of the server; its gate counts and cancels in the same way.

#[cfg(feature = "ftp")]
mod ftp;
#[cfg(feature = "sftp")]
mod sftp;

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
use session_core::trust::{CertificateFingerprint, Fingerprint};

use crate::url::Url;

/// Channels of one connection (SFTP) or connections (FTP) that a transfer is given at most; also the most
/// that may be asked for. sshd grants ten channels.
const CHANNELS: usize = 8;

/// How a remote is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// FTP in the clear.
    Ftp,
    /// FTP that turns to TLS, or fails.
    Ftpes,
    /// FTP over TLS from the first byte.
    Ftps,
    /// SFTP.
    Sftp,
}

/// How to reach and trust a remote. The host-key policy is part of every connection: without a pinned
/// key and without a record, an unknown host is asked about, and refused where nobody answers.
#[derive(Clone, Debug)]
pub struct Options {
    scheme: Scheme,
    host: String,
    port: u16,
    user: String,
    password: Option<Secret>,
    identities: Vec<PathBuf>,
    host_keys: Vec<Fingerprint>,
    certificates: Vec<CertificateFingerprint>,
    known_hosts: Option<PathBuf>,
    accept_new: bool,
    timeout: Duration,
    channels: usize,
    reconnect: Duration,
}

impl Options {
    /// What a URL says; the rest as a person would want it. Errors: `InvalidArgument` for a fingerprint
    /// that is none, or where no user is named and the environment names none.
    pub fn from_url(url: &Url) -> Result<Self> {
        let scheme = match url.scheme.as_str() {
            "ftp" => Scheme::Ftp,
            "ftpes" => Scheme::Ftpes,
            "ftps" => Scheme::Ftps,
            _ => Scheme::Sftp,
        };
        let user = match &url.user {
            Some(user) => user.clone(),
            // As curl, lftp and WinSCP do it.
            None if scheme != Scheme::Sftp => "anonymous".to_string(),
            None => std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).map_err(|_| {
                Error::new(ErrorKind::InvalidArgument)
                    .with_detail("no user is named")
                    .with_hint("write it into the URL: sftp://user@host/path")
            })?,
        };
        let mut options = Options {
            scheme,
            host: url.host.clone(),
            port: url.port_or_default(),
            user,
            password: url.password.clone(),
            identities: Vec::new(),
            host_keys: Vec::new(),
            certificates: Vec::new(),
            known_hosts: None,
            accept_new: false,
            timeout: Duration::from_secs(20),
            channels: CHANNELS,
            reconnect: Duration::ZERO,
        };
        let pinned: Vec<String> = url.fingerprint.clone().into_iter().collect();
        options = match scheme {
            Scheme::Sftp => options.host_keys(&pinned)?,
            Scheme::Ftp | Scheme::Ftpes | Scheme::Ftps => options.certificates(&pinned)?,
        };
        Ok(options)
    }

    /// Log in with these private keys.
    pub fn identities(mut self, files: Vec<PathBuf>) -> Self {
        self.identities = files;
        self
    }

    /// Trust only these host keys.
    pub fn host_keys(mut self, texts: &[String]) -> Result<Self> {
        for text in texts {
            self.host_keys.push(Fingerprint::parse(text)?);
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

    /// For how long a lost connection is tried to be had again, which begins anew whenever bytes have moved;
    /// zero (the default): not at all. What is safe to repeat then is (see [`crate::reconnect`]).
    pub fn reconnect(mut self, budget: Duration) -> Self {
        self.reconnect = budget;
        self
    }

    /// Channels (SFTP) or connections (FTP) for one transfer; 0 leaves it to the line.
    pub fn channels(mut self, channels: usize) -> Self {
        if channels > 0 {
            self.channels = channels.min(CHANNELS);
        }
        self
    }
}

/// What has to be ended in good order.
enum Line {
    #[cfg(feature = "ftp")]
    Ftp(Arc<proto_ftp::client::FtpRemote>),
    Local,
    #[cfg(feature = "sftp")]
    Ssh(Arc<sftp::Dialer>),
}

/// An open place.
pub struct Connected {
    fs: SessionFs,
    home: VPath,
    session: Arc<Session>,
    line: Line,
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
        match self.line {
            #[cfg(feature = "ftp")]
            Line::Ftp(remote) => remote.close().await,
            Line::Local => {}
            #[cfg(feature = "sftp")]
            Line::Ssh(dialer) => dialer.close().await,
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
    guard(session, Account::named("local"), Vec::new(), (Arc::new(store), home), Line::Local)
}

fn guard(
    session: Arc<Session>,
    account: Account,
    methods: Vec<&'static str>,
    (fs, home): (Arc<dyn Filesystem>, VPath),
    line: Line,
) -> Result<Connected> {
    let identity = session.log_in(account, methods)?;
    let fs = session.guard(&identity, fs, Chain::new(Vec::new()))?;
    Ok(Connected { fs, home, session, line })
}

/// Connects and logs in. Errors: `Disconnected`, `TimedOut`, `Unauthenticated` (login and trust),
/// `Refused`, `Unsupported` for what this build does not speak. Dropped, it closes what was opened.
pub async fn open_url(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    match options.scheme {
        #[cfg(feature = "ftp")]
        Scheme::Ftp | Scheme::Ftpes | Scheme::Ftps => ftp::open(options, decider).await,
        #[cfg(feature = "sftp")]
        Scheme::Sftp => sftp::open(options, decider).await,
        #[cfg(not(all(feature = "ftp", feature = "sftp")))]
        _ => {
            let _ = decider;
            Err(Error::new(ErrorKind::Unsupported).with_detail("this build does not speak that protocol"))
        }
    }
}
