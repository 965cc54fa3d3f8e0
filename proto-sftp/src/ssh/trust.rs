//! Whether a server is the right one: pins, records, authorities, and whoever is asked about the rest.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use md5::{Digest as _, Md5};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::session::Session;
use session_core::trust::{Fingerprint, HostKey, Known, TrustDecision};

use super::connect::Shared;
use super::known_hosts::{self, KnownHosts, wildcard};
use super::options::HostKeyPolicy;

pub(super) struct Trust {
    pub(super) host: String,
    pub(super) port: u16,
    /// Name and port on record.
    pub(super) on_record: (String, u16),
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) known: KnownHosts,
    pub(super) record: Option<PathBuf>,
    pub(super) policy: HostKeyPolicy,
    pub(super) hash_names: bool,
    pub(super) session: Arc<Session>,
    pub(super) decider: Arc<dyn Decider>,
}

impl Trust {
    /// Whether this is the right server. Errors: `Unauthenticated`, with the reason and where it stands.
    pub(super) async fn judge(&self, shared: &Shared, offered: &PublicKeyOrCertificate) -> Result<()> {
        let key = host_key(&self.host, self.port, &offered.public_key())?;
        let (name, port) = (self.on_record.0.as_str(), self.on_record.1);
        let no = |words: String| Error::new(ErrorKind::Unauthenticated).with_detail(words);
        let shown = key.fingerprint();
        if !self.fingerprints.is_empty() {
            if self.fingerprints.iter().any(|f| f.matches(&key)) {
                return Ok(());
            }
            return Err(no(format!("the host key of '{}' is not the pinned one, but {shown}", self.host))
                .with_hint("if the server's key was changed on purpose, pin the new one"));
        }
        if let PublicKeyOrCertificate::Certificate(certificate) = offered
            && self.certified(certificate)?
        {
            return Ok(());
        }
        let (known, place) = self.known.look_up(name, port, &key.blob);
        let at = place.map(|p| p.to_string()).unwrap_or_default();
        match known {
            Known::Matches => Ok(()),
            Known::Revoked => Err(no(format!("the host key of '{}' is revoked: {shown}", self.host))
                .with_hint(format!("it is marked so in {at}"))),
            Known::Changed => Err(no(format!(
                "the host key of '{}' has changed: {} {shown}",
                self.host, key.algorithm
            ))
            .with_hint(format!(
                "somebody may be in between; if the key was changed on purpose, remove the old one: {at}"
            ))),
            Known::Unknown => self.unknown(shared, key).await,
        }
    }

    async fn unknown(&self, shared: &Shared, key: HostKey) -> Result<()> {
        let decision = match self.policy {
            HostKeyPolicy::AcceptNew => TrustDecision::AcceptAndRemember,
            HostKeyPolicy::Strict => TrustDecision::Reject,
            HostKeyPolicy::Ask => {
                let _asking = shared.asking();
                match self.decider.decide(Query::HostKey { key: key.clone(), known: Known::Unknown }).await {
                    Answer::Trust(decision) => decision,
                    _ => TrustDecision::Reject,
                }
            }
        };
        match decision {
            TrustDecision::Accept => Ok(()),
            TrustDecision::AcceptAndRemember => self.remember(key).await,
            TrustDecision::Reject => Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!(
                    "the host '{}' is not known and was not accepted: {} {}",
                    self.host,
                    key.algorithm,
                    key.fingerprint()
                ))
                .with_hint("compare the fingerprint with the server's, then pin it or accept new hosts")),
        }
    }

    /// A record that cannot be written is not fatal: the answer was yes.
    async fn remember(&self, key: HostKey) -> Result<()> {
        let Some(file) = self.record.clone() else { return Ok(()) };
        let hashed = self.hash_names;
        let (name, port) = self.on_record.clone();
        let work = move || known_hosts::remember(&file, &name, port, &key.algorithm, &key.blob, hashed);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(%error, "the host key was accepted but is not on record");
        }
        Ok(())
    }

    /// Whether an authority for this host vouches for the key. Errors: `Unauthenticated` if it or the key is
    /// revoked. What it does not vouch for is judged by the key alone.
    fn certified(&self, certificate: &Certificate) -> Result<bool> {
        let (name, port) = (self.on_record.0.as_str(), self.on_record.1);
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        let blob = blob_of(&authority)?;
        if let Some(place) = self.known.revoked(name, port, &blob) {
            return Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("the authority for '{}' is revoked", self.host))
                .with_hint(format!("it is marked so in {place}")));
        }
        let key = blob_of(&PublicKey::new(certificate.public_key().clone(), ""))?;
        if let Some(place) = self.known.revoked(name, port, &key) {
            return Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("the host key of '{}' is revoked", self.host))
                .with_hint(format!("it is marked so in {place}")));
        }
        let now = self.session.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let host = name.to_ascii_lowercase();
        let named = |p: &String| wildcard(p.to_ascii_lowercase().as_bytes(), host.as_bytes());
        Ok(self.known.is_authority(name, port, &blob)
            && certificate.cert_type() == CertType::Host
            && (certificate.valid_after()..certificate.valid_before()).contains(&now)
            && certificate.valid_principals().iter().any(named)
            && certificate.critical_options().is_empty()
            && !matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa)
            && certificate.verify_signature().is_ok())
    }
}

fn blob_of(key: &PublicKey) -> Result<Vec<u8>> {
    key.to_bytes().map_err(|e| {
        Error::new(ErrorKind::PeerMisbehaved).with_detail("a host key that has no form").with_source(e)
    })
}

/// A server's key, as shown and compared.
pub(super) fn host_key(host: &str, port: u16, key: &PublicKey) -> Result<HostKey> {
    let blob = blob_of(key)?;
    let algorithm = match key.algorithm() {
        Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
        other => other.as_str().to_owned(),
    };
    let bits = key.key_data().rsa().map(|rsa| rsa.key_size());
    Ok(HostKey {
        host: host.to_owned(),
        port,
        algorithm,
        bits,
        sha256: key.fingerprint(HashAlg::Sha256).sha256().unwrap_or_default(),
        md5: Md5::digest(&blob).into(),
        blob,
    })
}
