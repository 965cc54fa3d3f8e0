//! The SSH client: connect, check the host key, log in, open SFTP channels.
//!
//! The host key is decided in this order: a pinned fingerprint, the records, the user; without an answer
//! it is refused. A changed or revoked key is never asked about. Not here yet: `ssh_config`, jump hosts,
//! proxies, client certificates.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use russh::client::{Config, Handle, Handler};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Disconnect, Limits, SshId};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::session::Session;
use session_core::trust::{Fingerprint, HostKey, Known, TrustDecision};
use tokio::net::TcpStream;

use super::algorithms::preferred;
use super::channel::{self, ChannelReader, ChannelWriter};
use super::known_hosts::{self, Records};
use super::login;
use super::stream::CutStream;

/// What is done about a host that is not on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HostKeyPolicy {
    /// Put its key on record without asking.
    AcceptNew,
    /// Ask; nobody there: refuse.
    #[default]
    Ask,
    /// Refuse.
    Strict,
}

/// How to reach, trust and log in to a server.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// The password, where one was given.
    pub password: Option<Secret>,
    /// Private keys; empty means the user's own in `~/.ssh`.
    pub identities: Vec<PathBuf>,
    /// Ask the agent of `SSH_AUTH_SOCK`.
    pub agent: bool,
    /// Only these host keys; empty means the records.
    pub fingerprints: Vec<Fingerprint>,
    /// Record files; the first one is written to.
    pub known_hosts: Vec<PathBuf>,
    /// Hosts that are not on record.
    pub policy: HostKeyPolicy,
    /// Time to connect and exchange keys.
    pub timeout: Duration,
    /// Window granted for each channel, bytes: what can be under way towards us.
    pub window: u32,
}

impl ConnectOptions {
    /// Options with the user's own files and a question for unknown hosts.
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let known_hosts = match &home {
            Some(home) => vec![home.join(".ssh/known_hosts"), home.join(".ssh/known_hosts2")],
            None => Vec::new(),
        };
        ConnectOptions {
            host: host.into(),
            port,
            user: user.into(),
            password: None,
            identities: Vec::new(),
            agent: true,
            fingerprints: Vec::new(),
            known_hosts,
            policy: HostKeyPolicy::Ask,
            timeout: Duration::from_secs(20),
            window: 16 << 20,
        }
    }
}

/// A logged-in connection. Dropping it closes it.
pub struct SshConnection {
    handle: Handle<Client>,
    /// The methods that the login passed.
    pub methods: Vec<&'static str>,
    /// What the server called itself.
    pub server: String,
    /// The name of the cipher.
    pub cipher: String,
    /// From the request to the answer of the key exchange's last round trip, roughly the line's delay.
    pub delay: Duration,
}

/// Connects and logs in. Dropped, it closes what was opened.
///
/// Errors: `Disconnected` and `TimedOut` (the way there), `Refused` (the host key), `Unauthenticated`
/// (with the methods that were tried), `PeerMisbehaved`.
pub async fn connect(
    options: &ConnectOptions,
    session: &Arc<Session>,
    decider: &Arc<dyn Decider>,
) -> Result<SshConnection> {
    let (socket, delay) = dial(options).await?;
    let _ = socket.set_nodelay(true);
    let records = Records::read(&options.known_hosts, &options.host, options.port)?;
    let learned = Arc::new(Mutex::new(Learned::default()));
    let mut wanted = preferred();
    prefer_known(&mut wanted, &records);
    let config = Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Ferry")),
        limits: Limits::default(),
        window_size: options.window,
        maximum_packet_size: 64 << 10,
        channel_buffer_size: 1000,
        preferred: wanted,
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 3,
        nodelay: true,
        ..Config::default()
    };
    let client = Client {
        options: options.clone(),
        records,
        decider: Arc::clone(decider),
        learned: Arc::clone(&learned),
    };
    let stream = CutStream::new(socket, Arc::clone(session));
    let shaken = russh::client::connect_stream(Arc::new(config), stream, client);
    // A question about the host key may take a user longer than any line.
    let patience = options.timeout + Duration::from_secs(300);
    let result = match tokio::time::timeout(patience, shaken).await {
        Ok(result) => result,
        Err(_) => return Err(Error::new(ErrorKind::TimedOut).with_detail("the key exchange took too long")),
    };
    let refusal = lock(&learned).refusal.take();
    if let Some(e) = refusal {
        return Err(e);
    }
    let mut handle = result.map_err(|e| transport(e, options))?;
    let methods = login::run(&mut handle, options, decider).await?;
    let learned = lock(&learned);
    Ok(SshConnection {
        handle,
        methods,
        server: learned.server.clone(),
        cipher: learned.cipher.clone(),
        delay,
    })
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn dial(options: &ConnectOptions) -> Result<(TcpStream, Duration)> {
    let who = format!("{}:{}", options.host, options.port);
    let deadline = tokio::time::Instant::now() + options.timeout;
    let late = || {
        Error::new(ErrorKind::TimedOut)
            .with_detail(format!("{who} does not answer"))
            .with_hint("check host, port and firewall")
    };
    let found =
        tokio::time::timeout_at(deadline, tokio::net::lookup_host((options.host.as_str(), options.port)));
    let addresses: Vec<SocketAddr> = match found.await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(e)) => {
            return Err(Error::new(ErrorKind::Disconnected)
                .with_detail(format!("the host '{}' is not found", options.host))
                .with_source(e)
                .with_retry(Retry::Never));
        }
        Err(_) => return Err(late()),
    };
    let mut last = None;
    for address in addresses {
        let begin = tokio::time::Instant::now();
        match tokio::time::timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok((socket, begin.elapsed())),
            Ok(Err(e)) => last = Some(e),
            Err(_) => return Err(late()),
        }
    }
    let e = Error::new(ErrorKind::Disconnected).with_detail(format!("cannot connect to {who}"));
    Err(match last {
        Some(source) => e.with_source(source),
        None => e,
    })
}

/// A server that has several keys is asked for one that is on record.
fn prefer_known(preferred: &mut russh::Preferred, records: &Records) {
    let types = records.key_types();
    let known = |a: &Algorithm| match a {
        Algorithm::Rsa { .. } => types.contains(&"ssh-rsa"),
        other => types.contains(&other.as_str()),
    };
    let (mut first, rest): (Vec<_>, Vec<_>) = preferred.key.iter().cloned().partition(known);
    first.extend(rest);
    preferred.key = Cow::Owned(first);
    if records.has_authorities() {
        preferred.host_key_certificates = Cow::Owned(vec![
            Algorithm::Ed25519,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        ]);
    }
}

/// An error of the transport, in our kinds.
pub(super) fn transport(e: Failure, options: &ConnectOptions) -> Error {
    let who = format!("{}:{}", options.host, options.port);
    let Failure(e) = e;
    match e {
        russh::Error::IO(io) => Error::from(io),
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::SendError | russh::Error::RecvError => {
            Error::new(ErrorKind::Disconnected).with_detail(format!("{who} closed the connection"))
        }
        russh::Error::ConnectionTimeout
        | russh::Error::KeepaliveTimeout
        | russh::Error::InactivityTimeout => {
            Error::new(ErrorKind::TimedOut).with_detail(format!("{who} does not answer"))
        }
        russh::Error::NoCommonAlgo { kind, ours, theirs } => Error::new(ErrorKind::Unsupported)
            .with_detail(format!("no common {kind:?} algorithm with {who}"))
            .with_hint(format!("the server offers {}; we offer {}", theirs.join(", "), ours.join(", "))),
        other => Error::new(ErrorKind::PeerMisbehaved)
            .with_detail(format!("the SSH exchange with {who} failed"))
            .with_source(other),
    }
}

/// The library's error, as its trait wants one.
#[derive(Debug)]
pub struct Failure(pub(super) russh::Error);

impl From<russh::Error> for Failure {
    fn from(e: russh::Error) -> Self {
        Failure(e)
    }
}

#[derive(Default)]
struct Learned {
    refusal: Option<Error>,
    server: String,
    cipher: String,
}

/// The library's view of us.
pub(super) struct Client {
    options: ConnectOptions,
    records: Records,
    decider: Arc<dyn Decider>,
    learned: Arc<Mutex<Learned>>,
}

impl Client {
    fn host_key(&self, key: &PublicKey) -> HostKey {
        use md5::Digest as _;
        let blob = key.to_bytes().unwrap_or_default();
        HostKey {
            host: self.options.host.clone(),
            port: self.options.port,
            algorithm: key.algorithm().to_string(),
            bits: match key.algorithm() {
                Algorithm::Ed25519 => Some(256),
                Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 } => Some(256),
                Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 } => Some(384),
                Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 } => Some(521),
                _ => key.key_data().rsa().map(|rsa| rsa.key_size()),
            },
            sha256: sha2::Sha256::digest(&blob).into(),
            md5: md5::Md5::digest(&blob).into(),
            blob,
        }
    }

    async fn judge(&self, key: &PublicKey) -> Result<()> {
        let shown = self.host_key(key);
        let who = format!("{}:{}", self.options.host, self.options.port);
        let fingerprint = shown.fingerprint();
        if !self.options.fingerprints.is_empty() {
            return if self.options.fingerprints.iter().any(|f| f.matches(&shown)) {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Unauthenticated)
                    .with_detail(format!("the host key of {who} is not the one that is pinned"))
                    .with_hint(format!("the server shows {fingerprint}")))
            };
        }
        let (known, place) = self.records.judge(key);
        let stands = place.map(|p| format!("{}:{}", p.file.display(), p.line)).unwrap_or_default();
        match known {
            Known::Matches => return Ok(()),
            Known::Revoked => {
                return Err(Error::new(ErrorKind::Unauthenticated)
                    .with_detail(format!("the host key of {who} is revoked ({stands})")));
            }
            Known::Changed => {
                return Err(Error::new(ErrorKind::Unauthenticated)
                    .with_detail(format!(
                        "the host key of {who} has changed: somebody may be between you and the server"
                    ))
                    .with_hint(format!(
                        "the server shows {fingerprint}; if that is right, remove the old key at {stands}"
                    )));
            }
            Known::Unknown => {}
        }
        let decision = match self.options.policy {
            HostKeyPolicy::AcceptNew => TrustDecision::AcceptAndRemember,
            HostKeyPolicy::Strict => TrustDecision::Reject,
            HostKeyPolicy::Ask => match self.decider.decide(Query::HostKey { key: shown, known }).await {
                Answer::Trust(decision) => decision,
                _ => TrustDecision::Reject,
            },
        };
        match decision {
            TrustDecision::Accept => Ok(()),
            TrustDecision::AcceptAndRemember => match self.options.known_hosts.first() {
                Some(file) => known_hosts::append(file, &self.options.host, self.options.port, key),
                None => Ok(()),
            },
            TrustDecision::Reject => Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("the host key of {who} is not known"))
                .with_hint(format!(
                    "the server shows {fingerprint}; pin it with --host-key, or give --accept-new"
                ))),
        }
    }

    fn judge_certificate(&self, certificate: &russh::keys::Certificate) -> Result<()> {
        let authority = PublicKey::from(certificate.signature_key().clone());
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let names = certificate.valid_principals();
        let good = certificate.cert_type() == CertType::Host
            && self.records.trusts_authority(&authority)
            && names.iter().any(|n| n.eq_ignore_ascii_case(&self.options.host))
            && certificate.critical_options().iter().next().is_none()
            && certificate.validate_at(now, std::iter::once(&authority.fingerprint(HashAlg::Sha256))).is_ok();
        if good {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unauthenticated)
            .with_detail(format!("the host certificate of {} is not good", self.options.host)))
    }
}

impl Handler for Client {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let result = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.judge(key).await,
            PublicKeyOrCertificate::Certificate(certificate) => self.judge_certificate(certificate),
        };
        match result {
            Ok(()) => Ok(true),
            Err(e) => {
                lock(&self.learned).refusal = Some(e);
                Ok(false)
            }
        }
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        names: &russh::Names,
        session: &mut russh::client::Session,
    ) -> Result<(), Failure> {
        let mut learned = lock(&self.learned);
        learned.cipher = names.cipher.as_ref().to_string();
        learned.server = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        Ok(())
    }
}

impl SshConnection {
    /// Opens a channel and starts the SFTP subsystem on it. Errors: `Refused` where the server says no,
    /// `Disconnected`.
    pub async fn open_sftp(&self) -> Result<(ChannelReader, ChannelWriter<russh::client::Msg>)> {
        let lost = |e: russh::Error| match e {
            russh::Error::ChannelOpenFailure(reason) => {
                Error::refused(format!("the server opens no channel: {reason:?}"))
            }
            e => Error::new(ErrorKind::Disconnected).with_source(e),
        };
        let mut channel = self.handle.channel_open_session().await.map_err(lost)?;
        channel.request_subsystem(true, "sftp").await.map_err(lost)?;
        // Nothing but the answer comes before the first packet of ours.
        loop {
            match channel.wait().await {
                Some(russh::ChannelMsg::Success) => break,
                Some(russh::ChannelMsg::Failure) => {
                    return Err(Error::refused("the server offers no SFTP"));
                }
                Some(russh::ChannelMsg::WindowAdjusted { .. } | russh::ChannelMsg::ExtendedData { .. }) => {}
                _ => {
                    return Err(Error::new(ErrorKind::Disconnected)
                        .with_detail("the server closed the channel before SFTP began"));
                }
            }
        }
        Ok(channel::split(channel))
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Ends it in good order; waits at most a moment.
    pub async fn close(self) {
        let polite = self.handle.disconnect(Disconnect::ByApplication, "", "en");
        let _ = tokio::time::timeout(Duration::from_millis(100), polite).await;
        let _ = tokio::time::timeout(Duration::from_millis(200), self.handle).await;
    }
}
