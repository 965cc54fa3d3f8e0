//! What a session is called and where it is in its life: id, protocol, state, ending, identity.
//!
//! Deliberately absent: how a session moves from state to state.

use std::fmt;
use std::sync::Arc;

use crate::auth::Account;
use crate::reason::Reason;

/// The id of a session: unique, sortable by start, the same in live view, log, events and hooks.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// A new one.
    pub fn generate() -> Self {
        SessionId(uuid::Uuid::now_v7().simple().to_string().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SessionId {
    fn from(s: &str) -> Self {
        SessionId(s.into())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of protocols, as scripts and live sessions show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// FTP without TLS on the control connection.
    Ftp,
    /// FTP over TLS, explicit or implicit.
    Ftps,
    /// A local or in-process filesystem.
    Local,
    /// S3 over HTTP or HTTPS.
    S3,
    /// SCP over SSH.
    Scp,
    /// SFTP over SSH.
    Sftp,
    /// WebDAV over HTTP.
    Webdav,
    /// WebDAV over HTTPS.
    Webdavs,
}

impl Protocol {
    /// `SFTP`, `SCP`, `FTP`, `FTPS`, `WEBDAV`, `WEBDAVS`, `S3`, `LOCAL`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ftp => "FTP",
            Protocol::Ftps => "FTPS",
            Protocol::Local => "LOCAL",
            Protocol::S3 => "S3",
            Protocol::Scp => "SCP",
            Protocol::Sftp => "SFTP",
            Protocol::Webdav => "WEBDAV",
            Protocol::Webdavs => "WEBDAVS",
        }
    }
}

/// Who ended a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// An administrator, by name where one is known.
    Admin(Arc<str>),
    /// The client.
    Client,
    /// A hook.
    Hook,
    /// A rule of the server: time-out, limit, shutdown.
    Server,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Admin(name) if name.is_empty() => f.write_str("admin"),
            Actor::Admin(name) => write!(f, "admin {name}"),
            Actor::Client => f.write_str("client"),
            Actor::Hook => f.write_str("hook"),
            Actor::Server => f.write_str("server"),
        }
    }
}

/// Why a session ended, and who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The reason in words; what the client is told.
    pub reason: Arc<str>,
    /// The reason as a number.
    pub code: Reason,
    /// Who.
    pub actor: Actor,
}

impl Ending {
    /// An ending. Its number follows from who it was; [`Ending::because`] says more.
    pub fn new(reason: impl Into<Arc<str>>, actor: Actor) -> Self {
        let code = match actor {
            Actor::Admin(_) => Reason::Administrator,
            Actor::Client => Reason::Done,
            Actor::Hook => Reason::Hook,
            Actor::Server => Reason::Internal,
        };
        Ending { reason: reason.into(), code, actor }
    }

    /// The same, with this number.
    pub fn because(self, code: Reason) -> Self {
        Ending { code, ..self }
    }
}

/// Where a session is in its life.
#[derive(Clone, Debug)]
pub enum State {
    /// Connected; nothing was exchanged.
    Connecting,
    /// The greeting was sent.
    Greeted,
    /// A login is under way.
    Authenticating,
    /// Logged in.
    Ready(Identity),
    /// Finishing what it does; nothing new is taken.
    Draining(Option<Identity>),
    /// Over.
    Closed(Option<Identity>, Ending),
}

impl State {
    /// The name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Greeted => "greeted",
            State::Authenticating => "authenticating",
            State::Ready(_) => "ready",
            State::Draining(_) => "draining",
            State::Closed(..) => "closed",
        }
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        match self {
            State::Ready(i) => Some(i),
            State::Draining(i) | State::Closed(i, _) => i.as_ref(),
            _ => None,
        }
    }
}

/// Proof that somebody logged in to a certain session. Only [`super::Session::log_in`] makes one.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) account: Arc<Account>,
    pub(super) session: SessionId,
    pub(super) epoch: u64,
}

impl Identity {
    /// The account.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}
