//! The client: reaches a server, makes sure that it is the right one, logs in, opens channels.
//!
//! Trust is decided before anything else is said: a pinned fingerprint, else `known_hosts` with its
//! authorities and revocations, else the policy. No answer is a no. Time that a person takes to answer
//! does not count against the time-out.
//!
//! Places left, no stubs: jump hosts and proxies come in where `dial` makes the stream; `ssh_config`
//! fills [`ConnectOptions`]; client certificates and PPK see [`super::keys`].

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use md5::{Digest as _, Md5};
use russh::client::{self, DisconnectReason, Handle, Handler};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use russh::{ChannelOpenFailure, Disconnect, Limits, SshId};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};
use session_core::trust::{Fingerprint, HostKey, Known, TrustDecision};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::algorithms::Algorithms;
use super::channel::{self, ChannelReader, ChannelWriter, Flow};
use super::keys::Agent;
use super::known_hosts::{self, KnownHosts, wildcard};
use super::login::ClientLogin;
use super::stream::{CutStream, Stall};
use crate::client::{Config, SftpRemote};

/// How long a good-bye may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// How much of a banner is kept, bytes.
const BANNER: usize = 16 * 1024;

/// Which addresses of a host are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Family {
    /// All, in the order in which the system names them.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// What to do about a host whose key is not on record. A changed or revoked key is an error always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HostKeyPolicy {
    /// Put it on record and go on.
    AcceptNew,
    /// Ask the decider; unattended, that is a no.
    #[default]
    Ask,
    /// Break off.
    Strict,
}

/// How to reach, trust and enter a server.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The host: a name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Which addresses.
    pub family: Family,
    /// Who logs in.
    pub user: String,
    /// The password, if it is known beforehand.
    pub password: Option<Secret>,
    /// Key files; where none is named, the defaults in `~/.ssh`.
    pub identities: Vec<PathBuf>,
    /// Where the agent is.
    pub agent: Agent,
    /// Trust one of these host keys and no other.
    pub fingerprints: Vec<Fingerprint>,
    /// The files of known hosts, the first being the one that is added to. `None`: the user's and the
    /// system's.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// Unknown hosts.
    pub policy: HostKeyPolicy,
    /// Hide the names that are put on record.
    pub hash_names: bool,
    /// How long each step may take: reaching the host, the key exchange, each answer of the login, the
    /// opening of a channel.
    pub timeout: Duration,
    /// How often a silent server is asked whether it is there.
    pub keepalive: Option<Duration>,
    /// How often it may fail to answer.
    pub keepalive_max: usize,
    /// What the server may send on a channel before it is granted more, bytes: rate × delay is lost
    /// above it. A grant, not a buffer.
    pub window: u32,
    /// The largest packet the server may send, 32 to 64 KiB.
    pub max_packet: u32,
    /// Bytes in either direction after which keys are exchanged anew.
    pub rekey_bytes: u64,
    /// What is spoken.
    pub algorithms: Algorithms,
    /// The session that counts and cuts; one is made where none is given.
    pub session: Option<Arc<Session>>,
}

impl ConnectOptions {
    /// The usual, for this host and user.
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>) -> Self {
        ConnectOptions {
            host: host.into(),
            port,
            family: Family::default(),
            user: user.into(),
            password: None,
            identities: Vec::new(),
            agent: Agent::default(),
            fingerprints: Vec::new(),
            known_hosts: None,
            policy: HostKeyPolicy::default(),
            hash_names: false,
            timeout: Duration::from_secs(20),
            keepalive: Some(Duration::from_secs(30)),
            keepalive_max: 3,
            window: 16 << 20,
            max_packet: 64 * 1024 - 1,
            rekey_bytes: 1 << 30,
            algorithms: Algorithms::default(),
            session: None,
        }
    }

    fn known_hosts_files(&self) -> Vec<PathBuf> {
        if let Some(files) = &self.known_hosts {
            return files.clone();
        }
        let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
        let own = home.map(|h| PathBuf::from(h).join(".ssh/known_hosts"));
        own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect()
    }

    /// The host without the brackets that a URL puts around an address.
    fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&self.host)
    }

    fn config(&self, known: &KnownHosts) -> client::Config {
        let host = self.bare_host();
        let types = known.key_types(host, self.port);
        let pinned: Vec<String> = self.fingerprints.iter().map(ToString::to_string).collect();
        let mut algorithms = self.algorithms.clone();
        if !types.is_empty() || !pinned.is_empty() {
            algorithms = algorithms.prefer_keys(|a| {
                let name = if matches!(a, Algorithm::Rsa { .. }) { "ssh-rsa" } else { a.as_str() };
                types.contains(&name) || pinned.iter().any(|p| p.split(' ').next() == Some(name))
            });
        }
        if self.fingerprints.is_empty() && known.has_authority(host, self.port) {
            algorithms = algorithms.ask_for_certificates();
        }
        let rekey = usize::try_from(self.rekey_bytes).unwrap_or(usize::MAX).clamp(1 << 20, 1 << 30);
        client::Config {
            client_id: SshId::Standard("SSH-2.0-Ferry".into()),
            preferred: algorithms.preferred(),
            limits: Limits::new(rekey, rekey, Duration::from_secs(3600)),
            window_size: self.window.clamp(64 * 1024, 512 << 20),
            maximum_packet_size: self.max_packet.clamp(32 * 1024, 64 * 1024 - 1),
            channel_buffer_size: 128,
            inactivity_timeout: None,
            // Ours: russh asks during the login, too, where a server may take it for an offence.
            keepalive_interval: None,
            nodelay: true,
            ..client::Config::default()
        }
    }
}

/// What a connection's parts share.
pub(crate) struct Shared {
    fate: watch::Sender<Option<Error>>,
    asking: AtomicUsize,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    refusal: Option<Error>,
    cipher: String,
    server: String,
    banner: String,
    host_key: Option<HostKey>,
    delay: Duration,
}

/// While it lives, somebody is being asked, and time does not count.
pub(crate) struct Asking<'a>(&'a Shared);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Shared {
            fate: watch::Sender::new(None),
            asking: AtomicUsize::new(0),
            facts: Mutex::default(),
        })
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_delay(&self, delay: Duration) {
        self.facts().delay = delay;
    }

    pub(crate) fn asking(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Ordering::SeqCst);
        Asking(self)
    }

    /// Why the connection ended, once it has.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.fate.borrow().clone()
    }

    /// Waits until the connection has ended, and says why.
    pub(crate) async fn fate(&self) -> Error {
        let mut fate = self.fate.subscribe();
        let ended = fate.wait_for(Option::is_some).await;
        ended.ok().and_then(|e| e.clone()).unwrap_or_else(|| Error::new(ErrorKind::Disconnected))
    }

    fn end(&self, e: Error) {
        self.fate.send_if_modified(|fate| {
            let first = fate.is_none();
            fate.get_or_insert(e);
            first
        });
    }

    /// Waits for `work` at most `time`, not counting the time in which somebody is being asked.
    pub(crate) async fn bounded<T>(&self, time: Duration, work: impl Future<Output = T>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        let mut by = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep_until(by) => {
                    if self.asking.load(Ordering::SeqCst) == 0 {
                        return Err(Error::new(ErrorKind::TimedOut).with_detail("the server does not answer"));
                    }
                    by = Instant::now() + time;
                }
            }
        }
    }

    /// A failure of russh, put into our words; the reason of a refusal or an end stands before it.
    pub(crate) fn error_of(&self, e: russh::Error) -> Error {
        if let Some(refusal) = self.facts().refusal.clone() {
            return refusal;
        }
        self.ended().unwrap_or_else(|| error_of(e))
    }
}

fn error_of(e: russh::Error) -> Error {
    use russh::Error as E;
    match e {
        E::NoCommonAlgo { ref kind, ref theirs, .. } => Error::new(ErrorKind::Unsupported)
            .with_detail(format!("the server and we have no {kind:?} algorithm in common"))
            .with_hint(format!("the server offers {}", display_bytes(theirs.join(", ").as_bytes()))),
        E::IO(e) => Error::from(e),
        E::Disconnect | E::HUP | E::SendError | E::RecvError => {
            Error::new(ErrorKind::Disconnected).with_source(e)
        }
        E::KeepaliveTimeout => {
            Error::new(ErrorKind::Disconnected).with_detail("the server does not answer any more")
        }
        E::ConnectionTimeout | E::InactivityTimeout => Error::new(ErrorKind::TimedOut).with_source(e),
        E::Join(_) => Error::new(ErrorKind::Internal).with_source(e),
        _ => Error::new(ErrorKind::PeerMisbehaved).with_source(e),
    }
}

/// What russh tells us, and what it asks us about the server.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    trust: Trust,
}

struct Trust {
    host: String,
    port: u16,
    fingerprints: Vec<Fingerprint>,
    known: KnownHosts,
    record: Option<PathBuf>,
    policy: HostKeyPolicy,
    hash_names: bool,
    session: Arc<Session>,
    decider: Arc<dyn Decider>,
}

impl Trust {
    /// Whether this is the right server. Errors: `Unauthenticated`, with the reason and where it stands.
    async fn judge(&self, shared: &Shared, offered: &PublicKeyOrCertificate) -> Result<()> {
        let key = host_key(&self.host, self.port, &offered.public_key())?;
        shared.facts().host_key = Some(key.clone());
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
        let (known, place) = self.known.look_up(&self.host, self.port, &key.blob);
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
        let work =
            move || known_hosts::remember(&file, &key.host, key.port, &key.algorithm, &key.blob, hashed);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(%error, "the host key was accepted but is not on record");
        }
        Ok(())
    }

    /// Whether an authority for this host vouches for the key. Errors: `Unauthenticated` if it or the key is
    /// revoked. What it does not vouch for is judged by the key alone.
    fn certified(&self, certificate: &Certificate) -> Result<bool> {
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        let blob = blob_of(&authority)?;
        if let Some(place) = self.known.revoked(&self.host, self.port, &blob) {
            return Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("the authority for '{}' is revoked", self.host))
                .with_hint(format!("it is marked so in {place}")));
        }
        let key = blob_of(&PublicKey::new(certificate.public_key().clone(), ""))?;
        if let Some(place) = self.known.revoked(&self.host, self.port, &key) {
            return Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("the host key of '{}' is revoked", self.host))
                .with_hint(format!("it is marked so in {place}")));
        }
        let now = self.session.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let host = self.host.to_ascii_lowercase();
        let named = |p: &String| wildcard(p.to_ascii_lowercase().as_bytes(), host.as_bytes());
        Ok(self.known.is_authority(&self.host, self.port, &blob)
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
fn host_key(host: &str, port: u16, key: &PublicKey) -> Result<HostKey> {
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

/// russh's error is ours, with its words kept.
#[derive(Debug)]
pub(crate) struct Fault(russh::Error);

impl From<russh::Error> for Fault {
    fn from(e: russh::Error) -> Self {
        Fault(e)
    }
}

impl Handler for Watch {
    type Error = Fault;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        match self.trust.judge(&self.shared, offered).await {
            Ok(()) => Ok(true),
            Err(e) => {
                self.shared.facts().refusal = Some(e);
                Ok(false)
            }
        }
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        names: &russh::Names,
        ssh: &mut client::Session,
    ) -> Result<(), Fault> {
        let mut facts = self.shared.facts();
        names.cipher.as_ref().clone_into(&mut facts.cipher);
        facts.server = display_bytes(ssh.remote_sshid().get(..255).unwrap_or(ssh.remote_sshid()));
        drop(facts);
        self.trust.session.set_tls(names.cipher.as_ref());
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _ssh: &mut client::Session) -> Result<(), Fault> {
        let mut facts = self.shared.facts();
        let room = BANNER.saturating_sub(facts.banner.len());
        let lines = banner.lines().map(|l| display_bytes(l.as_bytes())).collect::<Vec<_>>().join("\n");
        facts.banner.extend(lines.chars().take(room / 4));
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Fault>) -> Result<(), Fault> {
        self.shared.end(match reason {
            DisconnectReason::ReceivedDisconnect(info) => Error::new(ErrorKind::Disconnected).with_detail(
                format!("the server ended the connection: {}", display_bytes(info.message.as_bytes())),
            ),
            DisconnectReason::Error(Fault(e)) => error_of(e),
        });
        Ok(())
    }

    // A server opens nothing here. russh would accept these two.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: russh::Channel<client::Msg>,
        _address: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _ssh: &mut client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: russh::Channel<client::Msg>,
        _path: &str,
        reply: client::ChannelOpenHandle,
        _ssh: &mut client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}

/// Reaches the host: each of its addresses in turn, with its share of the time.
async fn dial(options: &ConnectOptions) -> Result<TcpStream> {
    let by = Instant::now() + options.timeout;
    let host = options.bare_host();
    let name = format!("{}:{}", options.host, options.port);
    let late = || Error::new(ErrorKind::TimedOut).with_detail(format!("'{name}' cannot be reached in time"));
    let found = tokio::time::timeout_at(by, tokio::net::lookup_host((host, options.port)))
        .await
        .map_err(|_| late())?
        .map_err(|e| {
            Error::new(ErrorKind::NotFound)
                .with_detail(format!("the host '{host}' cannot be found: {e}"))
                .with_hint("check its spelling and the name service")
        })?;
    let fits = |a: &SocketAddr| match options.family {
        Family::Any => true,
        Family::V4 => a.is_ipv4(),
        Family::V6 => a.is_ipv6(),
    };
    let addresses: Vec<SocketAddr> = found.filter(fits).collect();
    let mut last = Error::new(ErrorKind::NotFound)
        .with_detail(format!("the host '{host}' has no address of the kind that was asked for"));
    for (i, address) in addresses.iter().enumerate() {
        let left = by.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(e)) => {
                let words = format!("'{name}' ({}) cannot be reached: {e}", address.ip());
                last = Error::from(e).with_detail(words);
            }
            Err(_) => last = late(),
        }
    }
    Err(last)
}

struct Inner {
    handle: Handle<Watch>,
    shared: Arc<Shared>,
    flow: Arc<Flow>,
    session: Arc<Session>,
    transport: CancellationToken,
    _dead_at_last: DropGuard,
    methods: Vec<&'static str>,
    timeout: Duration,
}

/// A connection that is logged in. Cheap to clone; dropping the last clone cuts it, its channels with it.
#[derive(Clone)]
pub struct SshConnection(Arc<Inner>);

/// Connects, checks the server's key and logs in.
///
/// Errors: `NotFound` (no such host), `Disconnected` (refused, lost, ended by the server with its words),
/// `TimedOut`, `Unauthenticated` (the host key, with the reason and where it stands; the login, with
/// what was tried), `Unsupported` (nothing in common), `PeerMisbehaved`, `Canceled`. Dropping the future
/// gives up.
pub async fn connect(options: ConnectOptions, decider: Arc<dyn Decider>) -> Result<SshConnection> {
    let session = match &options.session {
        Some(session) => Arc::clone(session),
        None => Session::new(Setup::new(Protocol::Sftp, options.host.as_str())),
    };
    let canceled = session.cancel_token().clone();
    tokio::select! {
        biased;
        () = canceled.cancelled() => Err(Error::new(ErrorKind::Canceled)),
        connected = enter(options, session, decider) => connected,
    }
}

async fn enter(
    options: ConnectOptions,
    session: Arc<Session>,
    decider: Arc<dyn Decider>,
) -> Result<SshConnection> {
    let files = options.known_hosts_files();
    let record = files.first().cloned();
    // A pinned key needs no records, and is not stopped by one that cannot be read.
    let known = if options.fingerprints.is_empty() {
        tokio::task::spawn_blocking(move || KnownHosts::load(&files))
            .await
            .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))?
    } else {
        KnownHosts::default()
    };
    let config = Arc::new(options.config(&known));
    let stream = dial(&options).await?;

    let transport = session.cancel_token().child_token();
    let dead_at_last = transport.clone().drop_guard();
    let ahead = config.window_size as usize + (4 << 20);
    let stream = CutStream::new(stream, Arc::clone(&session), transport.clone(), ahead);
    let stall = stream.stall();
    let shared = Shared::new();
    let trust = Trust {
        host: options.bare_host().to_owned(),
        port: options.port,
        fingerprints: options.fingerprints.clone(),
        known,
        record,
        policy: options.policy,
        hash_names: options.hash_names,
        session: Arc::clone(&session),
        decider: Arc::clone(&decider),
    };
    let watch = Watch { shared: Arc::clone(&shared), trust };
    let greet = client::connect_stream(config, stream, watch);
    let mut handle = shared.bounded(options.timeout, greet).await?.map_err(|Fault(e)| shared.error_of(e))?;
    session.authenticating();
    let methods = ClientLogin::new(&mut handle, &shared, &options, decider).run().await?;

    let inner = Arc::new(Inner {
        handle,
        shared,
        flow: Arc::default(),
        session,
        transport,
        _dead_at_last: dead_at_last,
        methods,
        timeout: options.timeout,
    });
    if let Some(keepalive) = options.keepalive {
        let max = u32::try_from(options.keepalive_max.max(1)).unwrap_or(3);
        tokio::spawn(guard(Arc::downgrade(&inner), stall, inner.transport.clone(), keepalive, max));
    }
    Ok(SshConnection(inner))
}

/// Asks a silent server whether it is there, and cuts the connection when it does not answer, or takes
/// nothing.
async fn guard(
    inner: Weak<Inner>,
    stall: Arc<Stall>,
    transport: CancellationToken,
    keepalive: Duration,
    max: u32,
) {
    let (mut heard, mut missed) = (0, 0);
    loop {
        tokio::select! {
            () = transport.cancelled() => return,
            () = tokio::time::sleep(keepalive) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let now = inner.session.stats().wire_in.load(Ordering::Relaxed);
        missed = if now == heard { missed + 1 } else { 0 };
        heard = now;
        let words = if missed > max {
            "the server does not answer any more"
        } else if stall.elapsed() >= keepalive * max {
            "the server takes nothing any more"
        } else {
            // What cannot even be queued is not answered either, and counts as that.
            let _ = tokio::time::timeout(keepalive, inner.handle.send_keepalive(true)).await;
            continue;
        };
        inner.shared.end(Error::new(ErrorKind::Disconnected).with_detail(words));
        transport.cancel();
        return;
    }
}

impl SshConnection {
    /// Opens a channel with the subsystem `sftp` on it. Several may be open at once. Errors: `Refused` if
    /// the server opens no (more) channel, `TimedOut`, `Disconnected`; from the reader, `Unsupported` if it
    /// has no such subsystem.
    pub async fn open_sftp(&self) -> Result<(ChannelReader, ChannelWriter<client::Msg>)> {
        let inner = &*self.0;
        let opening = async {
            let channel = inner.handle.channel_open_session().await.map_err(|e| match e {
                russh::Error::ChannelOpenFailure(why) => {
                    Error::refused(format!("the server opens no channel: {why:?}"))
                }
                other => inner.shared.error_of(other),
            })?;
            let (read, write) = channel.split();
            // What is sent next is in order behind the request: a refusal ends the reader, and nothing waits.
            write.request_subsystem(true, "sftp").await.map_err(|e| inner.shared.error_of(e))?;
            Ok::<_, Error>((read, write))
        };
        let (read, write) = inner.shared.bounded(inner.timeout, opening).await??;
        let (reader, writer, _) = channel::begin(read, write, &inner.flow, inner.transport.clone());
        Ok((reader, writer))
    }

    /// A filesystem over a channel of its own.
    pub async fn sftp(&self, config: &Config) -> Result<SftpRemote> {
        let (reader, writer) = self.open_sftp().await?;
        SftpRemote::connect(reader, writer, config).await
    }

    /// Waits until the connection has ended, and says why.
    pub async fn disconnected(&self) -> Error {
        tokio::select! {
            biased;
            ended = self.0.shared.fate() => ended,
            () = self.0.transport.cancelled() => {
                self.0.shared.ended().unwrap_or_else(|| Error::new(ErrorKind::Disconnected))
            }
        }
    }

    /// Says good-bye, then cuts; ends the session with it. Queued output is given half a second.
    pub async fn close(&self) {
        let inner = &*self.0;
        let bye = async {
            let sent = inner.handle.disconnect(Disconnect::ByApplication, "", "").await;
            if sent.is_ok() {
                self.disconnected().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, bye).await;
        inner.transport.cancel();
        inner.session.close(Ending::new("closed", Actor::Client)).await;
    }

    /// The session that counts its bytes; cutting it cuts the connection.
    pub fn session(&self) -> &Arc<Session> {
        &self.0.session
    }

    /// The methods that the login passed, in order.
    pub fn methods(&self) -> &[&'static str] {
        &self.0.methods
    }

    /// The server's key.
    pub fn host_key(&self) -> Option<HostKey> {
        self.0.shared.facts().host_key.clone()
    }

    /// How long the probe of the login took: two round trips at most, and the server's thinking.
    pub fn delay(&self) -> Duration {
        self.0.shared.facts().delay
    }

    /// How the server names itself.
    pub fn server_version(&self) -> String {
        self.0.shared.facts().server.clone()
    }

    /// The cipher.
    pub fn cipher(&self) -> String {
        self.0.shared.facts().cipher.clone()
    }

    /// What the server said before the login, cleaned; empty if nothing.
    pub fn banner(&self) -> String {
        self.0.shared.facts().banner.clone()
    }
}
