//! `Error`: what went wrong, in one small kind for handling and a chain for reporting.
//!
//! Match on [`Error::kind`]; print with `{e:#}`; never match text. Stores create a kind and a cause;
//! the gate adds the operation and the virtual path, so that a real path cannot leak. The wire code of
//! an error is chosen by each protocol's `status.rs` and nowhere else.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::operation::OperationKind;
use crate::path::VPath;
use crate::reason::Reason;

/// The result of anything in the model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for handling. Exhaustive on purpose: a new kind breaks every protocol's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The entry exists and may not be replaced.
    AlreadyExists,
    /// The operation was given up: its session ended or its caller asked for it.
    Canceled,
    /// The file or session has already ended (committed, parked, aborted, closed).
    Closed,
    /// Content differs from its digest or its size.
    Corrupt,
    /// A rename across two file systems.
    CrossDevice,
    /// The connection to a remote was lost.
    Disconnected,
    /// A fault of ours; the details are in the log.
    Internal,
    /// An argument makes no sense.
    InvalidArgument,
    /// A path that cannot exist here.
    InvalidPath,
    /// A directory stands where a file is needed.
    IsADirectory,
    /// Too many symbolic links, or a link where none may be followed.
    LinkLoop,
    /// Locked by another session, or an unfinished upload that cannot be read.
    Locked,
    /// The store is full.
    NoSpace,
    /// A file stands where a directory is needed.
    NotADirectory,
    /// The directory holds entries.
    NotEmpty,
    /// No such entry.
    NotFound,
    /// A range beyond the content, or a number outside what is possible.
    OutOfRange,
    /// The peer broke its protocol.
    PeerMisbehaved,
    /// The store said no.
    PermissionDenied,
    /// A condition (etag, existence) does not hold.
    PreconditionFailed,
    /// The account's quota is used up.
    QuotaExceeded,
    /// A policy or a hook said no; the detail carries its words.
    Refused,
    /// Too much at once; try later.
    Throttled,
    /// A deadline passed.
    TimedOut,
    /// A file, a name or a request is larger than allowed.
    TooLarge,
    /// Nobody is logged in, or the credentials are wrong.
    Unauthenticated,
    /// This store or this peer cannot do that.
    Unsupported,
}

impl ErrorKind {
    /// Every kind, in order.
    pub const ALL: [ErrorKind; 27] = [
        ErrorKind::AlreadyExists,
        ErrorKind::Canceled,
        ErrorKind::Closed,
        ErrorKind::Corrupt,
        ErrorKind::CrossDevice,
        ErrorKind::Disconnected,
        ErrorKind::Internal,
        ErrorKind::InvalidArgument,
        ErrorKind::InvalidPath,
        ErrorKind::IsADirectory,
        ErrorKind::LinkLoop,
        ErrorKind::Locked,
        ErrorKind::NoSpace,
        ErrorKind::NotADirectory,
        ErrorKind::NotEmpty,
        ErrorKind::NotFound,
        ErrorKind::OutOfRange,
        ErrorKind::PeerMisbehaved,
        ErrorKind::PermissionDenied,
        ErrorKind::PreconditionFailed,
        ErrorKind::QuotaExceeded,
        ErrorKind::Refused,
        ErrorKind::Throttled,
        ErrorKind::TimedOut,
        ErrorKind::TooLarge,
        ErrorKind::Unauthenticated,
        ErrorKind::Unsupported,
    ];

    /// The words a user reads when there is no better detail: lower case, no full stop.
    pub fn words(self) -> &'static str {
        match self {
            ErrorKind::AlreadyExists => "already exists",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Closed => "already closed",
            ErrorKind::Corrupt => "content is corrupt",
            ErrorKind::CrossDevice => "cannot rename across file systems",
            ErrorKind::Disconnected => "connection lost",
            ErrorKind::Internal => "internal error",
            ErrorKind::InvalidArgument => "invalid argument",
            ErrorKind::InvalidPath => "invalid path",
            ErrorKind::IsADirectory => "is a directory",
            ErrorKind::LinkLoop => "too many symbolic links",
            ErrorKind::Locked => "locked",
            ErrorKind::NoSpace => "no space left",
            ErrorKind::NotADirectory => "not a directory",
            ErrorKind::NotEmpty => "directory not empty",
            ErrorKind::NotFound => "no such file or directory",
            ErrorKind::OutOfRange => "out of range",
            ErrorKind::PeerMisbehaved => "the peer broke the protocol",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::PreconditionFailed => "precondition failed",
            ErrorKind::QuotaExceeded => "quota exceeded",
            ErrorKind::Refused => "refused",
            ErrorKind::Throttled => "too many requests",
            ErrorKind::TimedOut => "timed out",
            ErrorKind::TooLarge => "too large",
            ErrorKind::Unauthenticated => "not logged in",
            ErrorKind::Unsupported => "not supported",
        }
    }

    /// The kind's name in JSON, events and scripts: `not-found`.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::AlreadyExists => "already-exists",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Closed => "closed",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::CrossDevice => "cross-device",
            ErrorKind::Disconnected => "disconnected",
            ErrorKind::Internal => "internal",
            ErrorKind::InvalidArgument => "invalid-argument",
            ErrorKind::InvalidPath => "invalid-path",
            ErrorKind::IsADirectory => "is-a-directory",
            ErrorKind::LinkLoop => "link-loop",
            ErrorKind::Locked => "locked",
            ErrorKind::NoSpace => "no-space",
            ErrorKind::NotADirectory => "not-a-directory",
            ErrorKind::NotEmpty => "not-empty",
            ErrorKind::NotFound => "not-found",
            ErrorKind::OutOfRange => "out-of-range",
            ErrorKind::PeerMisbehaved => "peer-misbehaved",
            ErrorKind::PermissionDenied => "permission-denied",
            ErrorKind::PreconditionFailed => "precondition-failed",
            ErrorKind::QuotaExceeded => "quota-exceeded",
            ErrorKind::Refused => "refused",
            ErrorKind::Throttled => "throttled",
            ErrorKind::TimedOut => "timed-out",
            ErrorKind::TooLarge => "too-large",
            ErrorKind::Unauthenticated => "unauthenticated",
            ErrorKind::Unsupported => "unsupported",
        }
    }
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// The same call may succeed, after the given wait where one is known.
    Later(Option<Duration>),
    /// The same call may succeed on a new connection.
    AfterReconnect,
}

/// The raw answer of a peer: its code and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireReply {
    /// The protocol's own number (SFTP status, FTP reply, HTTP status).
    pub code: u32,
    /// The peer's text, as sent.
    pub text: String,
}

/// A store's answer when the path runs over a symbolic link: it does not follow, the gate does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The path of the link itself.
    pub at: VPath,
    /// What the link holds.
    pub target: Vec<u8>,
}

/// What failed, on what, why, and whether a retry can help. One pointer wide.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    retry: Option<Retry>,
    reason: Option<Reason>,
    operation: Option<OperationKind>,
    path: Option<VPath>,
    detail: Option<Cow<'static, str>>,
    hint: Option<Cow<'static, str>>,
    wire: Option<WireReply>,
    link: Option<Link>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind and nothing more.
    pub fn new(kind: ErrorKind) -> Self {
        Error(Box::new(Inner {
            kind,
            retry: None,
            reason: None,
            operation: None,
            path: None,
            detail: None,
            hint: None,
            wire: None,
            link: None,
            source: None,
        }))
    }

    /// A policy's or a hook's refusal in its own words.
    pub fn refused(words: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Refused).with_detail(words)
    }

    /// "This store cannot do that", naming the operation.
    pub fn unsupported(operation: OperationKind) -> Self {
        let mut e = Error::new(ErrorKind::Unsupported);
        e.0.operation = Some(operation);
        e
    }

    /// The answer of a store that met a symbolic link; `LinkLoop` to whoever does not follow it.
    pub fn link(link: Link) -> Self {
        let mut e = Error::new(ErrorKind::LinkLoop);
        e.0.link = Some(link);
        e
    }

    /// Sets the words that replace the kind's own.
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Sets the line that tells the user what to do about it.
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the cause.
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Keeps the peer's raw reply.
    pub fn with_wire(mut self, code: u32, text: impl Into<String>) -> Self {
        self.0.wire = Some(WireReply { code, text: text.into() });
        self
    }

    /// Overrides what the kind says about retrying.
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = Some(retry);
        self
    }

    /// Says more exactly why than the kind does.
    pub fn because(mut self, reason: Reason) -> Self {
        self.0.reason = Some(reason);
        self
    }

    /// Adds operation and virtual path. The innermost gate's word stands: a path that is there is kept.
    pub fn at(mut self, operation: OperationKind, path: Option<&VPath>) -> Self {
        self.0.operation.get_or_insert(operation);
        if self.0.path.is_none() {
            self.0.path = path.cloned();
        }
        self
    }

    /// The same error as seen in another name space: its path is replaced.
    pub fn map_path(mut self, f: impl FnOnce(&VPath) -> Option<VPath>) -> Self {
        self.0.path = self.0.path.as_ref().and_then(f);
        self
    }

    /// The same error with its link moved to another name space.
    pub fn map_link(mut self, f: impl FnOnce(&VPath) -> Option<VPath>) -> Self {
        if let Some(link) = self.0.link.as_mut()
            && let Some(at) = f(&link.at)
        {
            link.at = at;
        }
        self
    }

    /// For handling.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Why, as a number for reports.
    pub fn reason(&self) -> Reason {
        self.0.reason.unwrap_or_else(|| Reason::of(self.0.kind))
    }

    /// What was being done.
    pub fn operation(&self) -> Option<OperationKind> {
        self.0.operation
    }

    /// On which virtual path.
    pub fn path(&self) -> Option<&VPath> {
        self.0.path.as_ref()
    }

    /// The words beside the kind.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The cure, where one is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The peer's raw reply.
    pub fn wire(&self) -> Option<&WireReply> {
        self.0.wire.as_ref()
    }

    /// The link that a store met.
    pub fn as_link(&self) -> Option<&Link> {
        self.0.link.as_ref()
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        if let Some(retry) = self.0.retry {
            return retry;
        }
        match self.0.kind {
            ErrorKind::Disconnected => Retry::AfterReconnect,
            ErrorKind::Throttled | ErrorKind::TimedOut | ErrorKind::Locked => Retry::Later(None),
            _ => Retry::Never,
        }
    }

    /// The words for a peer: the detail where there is one, else the kind's words. Never a cause, so
    /// nothing of the machine leaks.
    pub fn peer_words(&self) -> &str {
        self.detail().unwrap_or_else(|| self.kind().words())
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Error::new(kind)
    }
}

impl From<io::Error> for Error {
    /// The kind of an operating system's error. `EPERM` and `EACCES` are the store's no; what has no
    /// kind of its own is `Internal` with the cause kept.
    fn from(e: io::Error) -> Self {
        use io::ErrorKind as K;
        let kind = match e.kind() {
            K::NotFound => ErrorKind::NotFound,
            K::PermissionDenied | K::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
            K::AlreadyExists => ErrorKind::AlreadyExists,
            K::NotADirectory => ErrorKind::NotADirectory,
            K::IsADirectory => ErrorKind::IsADirectory,
            K::DirectoryNotEmpty => ErrorKind::NotEmpty,
            K::CrossesDevices => ErrorKind::CrossDevice,
            K::StorageFull => ErrorKind::NoSpace,
            K::QuotaExceeded => ErrorKind::QuotaExceeded,
            K::FileTooLarge => ErrorKind::TooLarge,
            K::InvalidFilename => ErrorKind::InvalidPath,
            K::InvalidInput => ErrorKind::InvalidArgument,
            K::TimedOut => ErrorKind::TimedOut,
            K::Unsupported => ErrorKind::Unsupported,
            K::ConnectionReset
            | K::ConnectionAborted
            | K::ConnectionRefused
            | K::NotConnected
            | K::BrokenPipe
            | K::UnexpectedEof
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown => ErrorKind::Disconnected,
            K::ResourceBusy => ErrorKind::Locked,
            _ => match e.raw_os_error() {
                Some(40) => ErrorKind::LinkLoop,       // ELOOP
                Some(23 | 24) => ErrorKind::Throttled, // ENFILE, EMFILE
                Some(95) => ErrorKind::Unsupported,    // EOPNOTSUPP
                _ => ErrorKind::Internal,
            },
        };
        Error::new(kind).with_source(e)
    }
}

impl fmt::Display for Error {
    /// `{e}`: what failed on what. `{e:#}`: with the chain of causes and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            write!(f, "cannot {}", operation.words())?;
            if let Some(path) = &self.0.path {
                write!(f, " '{path}'")?;
            }
            f.write_str(": ")?;
        } else if let Some(path) = &self.0.path {
            write!(f, "'{path}': ")?;
        }
        f.write_str(self.peer_words())?;
        if f.alternate() {
            if let Some(wire) = &self.0.wire
                && wire.text != self.peer_words()
            {
                write!(
                    f,
                    ": the peer answered {} '{}'",
                    wire.code,
                    crate::path::display_bytes(wire.text.as_bytes())
                )?;
            }
            let mut said = self.peer_words().to_owned();
            let mut source = std::error::Error::source(self);
            while let Some(s) = source {
                let words = s.to_string();
                if !says(&said, &words) {
                    write!(f, ": {words}")?;
                    said = words;
                }
                source = s.source();
            }
            if let Some(hint) = &self.0.hint {
                write!(f, "\nhint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// Whether the words of a cause were said already: they often are made of it, and the system's own words of a kind
/// say no more than the kind does.
fn says(said: &str, cause: &str) -> bool {
    let bare = cause.split_once(" (os error ").map_or(cause, |(words, _)| words);
    said.ends_with(cause) || said.to_ascii_lowercase().ends_with(&bare.to_ascii_lowercase())
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("Error");
        d.field("kind", &self.0.kind);
        if let Some(o) = &self.0.operation {
            d.field("operation", o);
        }
        if let Some(p) = &self.0.path {
            d.field("path", p);
        }
        if let Some(t) = &self.0.detail {
            d.field("detail", t);
        }
        if let Some(w) = &self.0.wire {
            d.field("wire", w);
        }
        if let Some(l) = &self.0.link {
            d.field("link", l);
        }
        if let Some(s) = &self.0.source {
            d.field("source", s);
        }
        d.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_sentence_with_its_chain_and_hint() {
        let e = Error::from(io::Error::from(io::ErrorKind::NotFound))
            .with_hint("check the spelling")
            .at(OperationKind::Stat, Some(&VPath::absolute("/a").unwrap()));
        assert_eq!(e.to_string(), "cannot read the attributes of '/a': no such file or directory");
        assert!(format!("{e:#}").ends_with("\nhint: check the spelling"));
    }

    #[test]
    fn a_cause_is_told_once() {
        let missing = || io::Error::from_raw_os_error(2);
        let own = Error::from(missing()).with_detail(format!("the file 'x' cannot be read: {}", missing()));
        assert_eq!(format!("{own:#}"), "the file 'x' cannot be read: No such file or directory (os error 2)");
        assert_eq!(format!("{:#}", Error::from(missing())), "no such file or directory");
        let more = Error::from(io::Error::other("the disk is on fire"));
        assert!(format!("{more:#}").ends_with(": the disk is on fire"), "{more:#}");
    }

    #[test]
    fn the_list_of_kinds_is_complete_and_names_are_unique() {
        let names: std::collections::HashSet<_> = ErrorKind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn the_innermost_path_stands() {
        let inner = VPath::absolute("/inner").unwrap();
        let e = Error::new(ErrorKind::NotFound)
            .at(OperationKind::Open, Some(&inner))
            .at(OperationKind::List, Some(&VPath::root()));
        assert_eq!(e.path(), Some(&inner));
        assert_eq!(e.operation(), Some(OperationKind::Open));
    }
}
