//! The decider of a session: what the options answer by themselves, then whoever was given to it.
//!
//! Every question that reaches somebody is told as an event first. What the options give up (any host key,
//! any certificate) is told as a warning.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::batch::{Answer, Decider, Query};
use session_core::net::dial::bare;
use session_core::trust::TrustDecision;

use super::event::{Event, Hub};
use super::options::{SessionOptions, SshHostKeyPolicy};

/// Answers for a session.
pub(super) struct SessionDecider {
    hub: Arc<Hub>,
    inner: Arc<dyn Decider>,
    /// The server of which any key is accepted; not a host that is gone over.
    any_key: Option<(String, u16)>,
    any_certificate: bool,
}

impl SessionDecider {
    pub(super) fn new(hub: Arc<Hub>, inner: Arc<dyn Decider>, options: &SessionOptions) -> Self {
        SessionDecider {
            hub,
            inner,
            any_key: (options.ssh_host_key_policy == SshHostKeyPolicy::GiveUpSecurityAndAcceptAny)
                .then(|| (bare(&options.host_name).to_owned(), options.port_or_default())),
            any_certificate: options.accept_any_certificate,
        }
    }
}

#[async_trait]
impl Decider for SessionDecider {
    async fn decide(&self, query: Query) -> Answer {
        match &query {
            Query::HostKey { key, .. }
                if self
                    .any_key
                    .as_ref()
                    .is_some_and(|(host, port)| (host, *port) == (&key.host, key.port)) =>
            {
                self.hub.warn(format!("any host key is accepted: {}", key.winscp_fingerprint()));
                return Answer::Trust(TrustDecision::Accept);
            }
            Query::Certificate { certificate } if self.any_certificate => {
                self.hub.warn(format!("any certificate is accepted: {}", certificate.fingerprint()));
                return Answer::Trust(TrustDecision::Accept);
            }
            _ => {}
        }
        self.hub.emit(Event::Query(query.clone()));
        self.inner.decide(query).await
    }
}
