//! `Remembering`: answers a question that was answered before, so that connecting again asks nobody.
//!
//! Passwords and phrases are given again once for each connection: a second question means that the
//! answer was wrong, and goes to whoever decides. A host key or certificate that was trusted stays trusted
//! while it is the same. Codes of one use are never given again. In memory only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::trust::TrustDecision;

#[derive(Default)]
struct Memory {
    secrets: HashMap<String, Secret>,
    /// Given on this connection already.
    given: Vec<String>,
    /// Blobs of host keys and fingerprints of certificates.
    trusted: Vec<Vec<u8>>,
}

/// See the module.
pub struct Remembering {
    decider: Arc<dyn Decider>,
    memory: Mutex<Memory>,
}

impl Remembering {
    /// Asks `decider` what is not known yet.
    pub fn new(decider: Arc<dyn Decider>) -> Self {
        Remembering { decider, memory: Mutex::default() }
    }

    /// A new connection is begun: what is known may be given again.
    pub fn begin(&self) {
        self.memory().given.clear();
    }

    /// Answers for one more connection of the same login: with what is known, and else as if nobody were there.
    pub fn silently(self: &Arc<Self>) -> Arc<dyn Decider> {
        Arc::new(Silent { of: Arc::clone(self), given: Mutex::default() })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes two questions the same.
fn secret_key(query: &Query) -> Option<String> {
    match query {
        Query::Password { who } => Some(format!("password {who}")),
        Query::Passphrase { key } => Some(format!("passphrase {key}")),
        _ => None,
    }
}

fn trust_key(query: &Query) -> Option<Vec<u8>> {
    match query {
        Query::HostKey { key, .. } => Some(key.blob.clone()),
        Query::Certificate { certificate } => Some(certificate.fingerprint().into_bytes()),
        _ => None,
    }
}

/// See [`Remembering::silently`].
struct Silent {
    of: Arc<Remembering>,
    given: Mutex<Vec<String>>,
}

#[async_trait]
impl Decider for Silent {
    async fn decide(&self, query: Query) -> Answer {
        let memory = self.of.memory();
        if let Some(key) = secret_key(&query) {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = memory.secrets.get(&key).filter(|_| !given.contains(&key)) {
                given.push(key);
                return Answer::Secret(known.clone());
            }
        }
        if trust_key(&query).is_some_and(|key| memory.trusted.contains(&key)) {
            return Answer::Trust(TrustDecision::Accept);
        }
        query.unattended()
    }
}

#[async_trait]
impl Decider for Remembering {
    async fn decide(&self, query: Query) -> Answer {
        let secret = secret_key(&query);
        let trust = trust_key(&query);
        {
            let mut memory = self.memory();
            if let Some(key) = &secret
                && !memory.given.contains(key)
                && let Some(known) = memory.secrets.get(key).cloned()
            {
                memory.given.push(key.clone());
                return Answer::Secret(known);
            }
            if trust.as_ref().is_some_and(|key| memory.trusted.contains(key)) {
                return Answer::Trust(TrustDecision::Accept);
            }
        }
        let answer = self.decider.decide(query).await;
        let mut memory = self.memory();
        match (&answer, secret, trust) {
            (Answer::Secret(value), Some(key), _) => {
                memory.given.push(key.clone());
                memory.secrets.insert(key, value.clone());
            }
            (Answer::Trust(TrustDecision::Accept | TrustDecision::AcceptAndRemember), _, Some(key)) => {
                memory.trusted.push(key);
            }
            _ => {}
        }
        answer
    }
}
