//! `Guard`: where the protector learns of offences, as an interceptor of every session of a site.
//!
//! Everything that fails in a session passes here as an error with its reason, whatever the protocol; what
//! a connection ended with is the other source. When an address is blocked, its sessions that are not
//! logged in end, and the one that struck out.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use session_core::error::{Error, ErrorKind};
use session_core::intercept::Interceptor;
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::operation::OperationSet;
use session_core::reason::Reason;
use session_core::registry::SessionRegistry;
use session_core::session::{Actor, Ending, Session};

use super::{Protector, Strike};

/// The interceptor.
pub struct Guard {
    protector: Arc<Protector>,
    registry: Weak<SessionRegistry>,
}

impl Guard {
    /// Tells `protector`, and ends sessions of `registry`.
    pub fn new(protector: Arc<Protector>, registry: &Arc<SessionRegistry>) -> Self {
        Guard { protector, registry: Arc::downgrade(registry) }
    }

    fn strike(&self, session: &Session, strike: Strike) {
        let Some(address) = session.peer_address() else { return };
        let Some(ban) = self.protector.strike(address, strike) else { return };
        let ending = || Ending::new("too many offences", Actor::Server).because(Reason::Banned);
        session.cut(ending());
        for other in self.registry.upgrade().map(|r| r.list()).unwrap_or_default() {
            let inside = other.peer_address().is_some_and(|a| ban.network.contains(&a))
                && self.protector.site().is_none_or(|site| other.site() == *site);
            if inside && other.identity().is_none() {
                other.cut(ending());
            }
        }
    }
}

/// What a failure is, if it is an offence at some level.
fn offence(e: &Error) -> Option<Strike> {
    match (e.reason(), e.kind()) {
        (Reason::UnknownUser, _) => Some(Strike::UnknownUser),
        // A rule about a good account is no offence of its client.
        (Reason::ConnectionLimit | Reason::Hook | Reason::OutsideHours | Reason::ProtocolDenied, _) => None,
        (_, ErrorKind::Unauthenticated) if e.operation().is_none() => Some(Strike::Login),
        (Reason::CommandDenied, ErrorKind::PeerMisbehaved) => Some(Strike::Command),
        (Reason::ProtocolBroken, ErrorKind::PeerMisbehaved) => Some(Strike::Protocol),
        (_, ErrorKind::NotFound) => Some(Strike::Missing),
        (
            _,
            ErrorKind::InvalidArgument
            | ErrorKind::InvalidPath
            | ErrorKind::OutOfRange
            | ErrorKind::Unsupported,
        ) => Some(Strike::Deviation),
        _ => None,
    }
}

#[async_trait]
impl Interceptor for Guard {
    fn interests(&self) -> OperationSet {
        OperationSet::NONE
    }

    fn failed(&self, session: &Session, error: &Error) {
        if let Some(strike) = offence(error) {
            self.strike(session, strike);
        }
    }

    async fn written(&self) {
        self.protector.written().await;
    }

    async fn decide(&self, session: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        if matches!(step, Lifecycle::AuthResult { success: false, .. }) {
            // The client is told after this.
            self.written().await;
        }
        let (Lifecycle::Close(ending), Some(session)) = (step, session) else { return Verdict::Pass };
        let strike = match ending.code {
            Reason::WeakCipher => Some(Strike::Algorithms),
            Reason::ProtocolBroken => Some(Strike::Protocol),
            Reason::ConnectionFailed | Reason::Done | Reason::HandshakeFailed | Reason::LoginTimeout
                if session.identity().is_none() && session.requested_user().is_empty() =>
            {
                Some(Strike::Reset)
            }
            _ => None,
        };
        if let Some(strike) = strike {
            self.strike(session, strike);
        }
        self.written().await;
        Verdict::Pass
    }
}
