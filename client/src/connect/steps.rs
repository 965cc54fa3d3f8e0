//! The steps of a connection's life that interceptors are shown on a client, in the order of a server.
//!
//! Whoever refuses at the first step keeps the client from connecting. A login that failed is shown and ends the
//! session; so does whatever else keeps a place from being opened, so the last step is always the close. A connection
//! that is had again after it was lost belongs to the session that stands: nothing is asked a second time.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use session_core::auth::{Account, Method};
use session_core::error::{ErrorKind, Result};
use session_core::fs::Filesystem;
use session_core::intercept::{Chain, Interceptor};
use session_core::lifecycle::{ChannelKind, Lifecycle, Verdict};
use session_core::path::display_bytes;
use session_core::session::{Actor, Ending, Identity, Protocol, Session, Setup, State};
use session_core::talk::Talk;

use super::requests::RequestLimit;
use crate::encrypted::{Encrypted, FileKey};

/// The interceptors of the sessions that are opened with some options.
#[derive(Clone, Default)]
pub(super) struct Around {
    pub(super) chain: Arc<Chain>,
    /// Asked before all others.
    pub(super) limit: Option<Arc<RequestLimit>>,
    /// Where what is said is told.
    pub(super) talk: Talk,
    /// What encrypts files before they leave.
    pub(super) key: Option<Arc<FileKey>>,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Around({}, {:?})", self.chain.links().len(), self.limit)
    }
}

impl Around {
    /// A remote, with what stands around it.
    #[cfg(any(feature = "ftp", feature = "s3", feature = "sftp", feature = "webdav"))]
    pub(super) fn files(&self, fs: Arc<dyn Filesystem>) -> Arc<dyn Filesystem> {
        match &self.key {
            Some(key) => Arc::new(Encrypted::new(fs, Arc::clone(key))),
            None => fs,
        }
    }

    /// A session of the client with this host.
    pub(super) fn session(&self, protocol: Protocol, host: &str) -> Arc<Session> {
        let chain = match &self.limit {
            Some(limit) => {
                let first = Arc::clone(limit) as Arc<dyn Interceptor>;
                Chain::new(std::iter::once(first).chain(self.chain.links().iter().cloned()).collect())
            }
            None => Arc::clone(&self.chain),
        };
        Session::new(Setup { chain, talk: self.talk.clone(), ..Setup::new(protocol, host) })
    }
}

/// What a verdict refuses.
pub(super) fn let_pass(verdict: Verdict) -> Result<()> {
    match verdict {
        Verdict::Refuse(e) => Err(e),
        Verdict::Pass | Verdict::Authenticated => Ok(()),
    }
}

/// Opens a place for `user` unless somebody refuses; where that fails, the session has ended.
pub(super) async fn opening<T>(
    session: &Arc<Session>,
    user: &str,
    open: impl Future<Output = Result<T>>,
) -> Result<T> {
    session.ask_for(user);
    let talk = session.talk().clone();
    talk.note(|| {
        format!(
            "opening {:?} at {} as '{}'",
            session.protocol(),
            session.site(),
            display_bytes(user.as_bytes())
        )
    });
    let asked = let_pass(session.decide(Lifecycle::AuthRequest { user }).await);
    session.decide(Lifecycle::AuthRequestResult { user, allowed: asked.is_ok() }).await;
    let opened = match asked {
        Ok(()) => open.await,
        Err(e) => Err(e),
    };
    if let Err(e) = &opened {
        session.note_error(e);
        talk.failed(e);
        // A server that is not trusted was not asked.
        if e.kind() == ErrorKind::Unauthenticated && matches!(session.state(), State::Authenticating) {
            let step = Lifecycle::AuthResult { user, method: Method::None, success: false };
            session.decide(step).await;
        }
        session.close(Ending::new("not opened", Actor::Client)).await;
    }
    opened
}

/// The login is complete. `channel`: what is asked for next; refused, it is not. Errors: `Refused`; those of
/// [`Session::log_in`].
pub(super) async fn entered(
    session: &Arc<Session>,
    account: Account,
    methods: Vec<&'static str>,
    channel: Option<ChannelKind>,
) -> Result<Identity> {
    let user = Arc::clone(&account.name);
    let method = methods.last().and_then(|name| Method::parse(name)).unwrap_or(Method::None);
    let identity = session.log_in(account, methods)?;
    session.decide(Lifecycle::AuthResult { user: &user, method, success: true }).await;
    if let Some(kind) = channel {
        let_pass(session.decide(Lifecycle::OpenChannel(kind)).await)?;
    }
    Ok(identity)
}
