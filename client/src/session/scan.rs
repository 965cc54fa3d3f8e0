//! Fingerprints of servers, without a login: the key or certificate is looked at and the connection is given up.
//!
//! Nothing is trusted and nothing is put on record.
//!
//! Not here: certificates that an authority vouches for; nobody is asked about those.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::trust::{Certificate, HostKey, TrustDecision};

use super::core::Session;
use super::options::{SessionOptions, SshHostKeyPolicy};
use crate::connect::open_url;

/// Notes what is shown, and says no.
#[derive(Default)]
struct Note(Mutex<Option<Shown>>);

enum Shown {
    Certificate(Box<Certificate>),
    HostKey(HostKey),
}

#[async_trait]
impl Decider for Note {
    async fn decide(&self, query: Query) -> Answer {
        let unattended = query.unattended();
        let shown = match query {
            Query::HostKey { key, .. } => Shown::HostKey(key),
            Query::Certificate { certificate } => Shown::Certificate(certificate),
            _ => return unattended,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Answer::Trust(TrustDecision::Reject)
    }
}

impl Session {
    /// The fingerprint of a server: `SHA-256` or `MD5` of a host key as `ssh-ed25519 256 …`, `SHA-256` or `SHA-1`
    /// of a certificate as `aa:bb:…`; the name in any case, with or without dashes. User, password and what is
    /// pinned do not matter. Dropped, the connection is given up. Errors: `Unsupported` for a digest that is not
    /// known and for a protocol without keys, `Disconnected`, `TimedOut`; `Closed` while the session is open.
    pub async fn scan_fingerprint(&self, options: &SessionOptions, algorithm: &str) -> Result<String> {
        self.told(self.scanned(options, algorithm).await)
    }

    async fn scanned(&self, options: &SessionOptions, algorithm: &str) -> Result<String> {
        if self.opened() {
            return Err(Error::new(ErrorKind::Closed).with_detail("the session is open"));
        }
        let digest = algorithm.replace('-', "").to_ascii_lowercase();
        let ssh = options.is_ssh();
        let known = match digest.as_str() {
            "sha256" => ssh || options.is_tls(),
            "md5" => ssh,
            "sha1" => options.is_tls(),
            _ => false,
        };
        if !ssh && !options.is_tls() {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("only servers of SSH and TLS have fingerprints"));
        }
        if !known {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail(format!("'{algorithm}' is not a digest of fingerprints here"))
                .with_hint("host keys have SHA-256 and MD5, certificates SHA-256 and SHA-1"));
        }
        let stranger = SessionOptions {
            user_name: Some("nobody".into()),
            password: None,
            new_password: None,
            ssh_host_key_fingerprint: None,
            // An empty record: whatever is shown is unknown, and asked about.
            known_hosts: ssh.then(|| "/dev/null".into()),
            ssh_host_key_policy: SshHostKeyPolicy::Check,
            ssh_private_key: None,
            ssh_private_key_path: None,
            private_key_passphrase: None,
            tls_host_certificate_fingerprint: None,
            accept_any_certificate: false,
            ..options.clone()
        };
        let note = Arc::new(Note::default());
        let outcome = open_url(stranger.to_connect()?, Arc::clone(&note) as Arc<dyn Decider>).await;
        let shown = note.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match shown {
            Some(Shown::HostKey(key)) if digest == "md5" => {
                let pairs: Vec<String> = key.md5.iter().map(|b| format!("{b:02x}")).collect();
                let bits = key.bits.map(|n| format!("{n} ")).unwrap_or_default();
                Ok(format!("{} {bits}{}", key.algorithm, pairs.join(":")))
            }
            Some(Shown::HostKey(key)) => Ok(key.winscp_fingerprint()),
            Some(Shown::Certificate(certificate)) if digest == "sha1" => Ok(certificate.sha1_fingerprint()),
            Some(Shown::Certificate(certificate)) => Ok(certificate.fingerprint()),
            None => match outcome {
                Ok(line) => {
                    line.close().await;
                    Err(Error::new(ErrorKind::Unsupported)
                        .with_detail("an authority vouches for the certificate, so it was not shown")
                        .with_hint("what an authority vouches for needs no fingerprint"))
                }
                Err(e) => Err(e),
            },
        }
    }
}
