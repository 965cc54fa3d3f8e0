//! The SSH server: accepts connections, drives logins, hands SFTP channels to the SFTP driver.
//!
//! Each connection is a session of the site; whatever way it ends, the session is closed exactly once.
//! Time to log in, tries, idle time and channels are bounded. Only the SFTP subsystem is served: shells,
//! commands and forwarding are shown to the hooks and refused. A session's cipher stays empty: the SSH
//! library tells it to clients only.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Response, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Limits, MethodKind, MethodSet, SshId};
use session_core::auth::{
    Credential, Login, Method, Question, Secret, SignedKey, Site, Step, UserCertificate,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::lifecycle::{ChannelKind, Lifecycle, Verdict};
use session_core::session::{Actor, Ending, Identity, Protocol, Session};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::algorithms::preferred;
use super::channel::{self, ChannelWriter};
use super::stream::CutStream;
use crate::server::Driver;

/// How a listener behaves.
#[derive(Clone, Debug)]
pub struct SshServerOptions {
    /// The host keys, preferred first.
    pub keys: Vec<PrivateKey>,
    /// Failed attempts before the connection ends.
    pub tries: u32,
    /// Time from connect to login.
    pub login_time: Duration,
    /// Time without any traffic of commands; zero for none.
    pub idle_time: Duration,
    /// Keep-alives: how often, and how many may go unanswered.
    pub keepalive: (Duration, usize),
    /// SFTP channels of one connection.
    pub channels: usize,
    /// What is sent before login.
    pub banner: Option<String>,
    /// What the server calls itself, after `SSH-2.0-`.
    pub software: String,
}

impl Default for SshServerOptions {
    fn default() -> Self {
        SshServerOptions {
            keys: Vec::new(),
            tries: 6,
            login_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(15 * 60),
            keepalive: (Duration::from_secs(30), 3),
            channels: 10,
            banner: None,
            software: "Ferry".into(),
        }
    }
}

/// An SSH server over a site.
pub struct SshServer {
    site: Arc<dyn Site>,
    options: SshServerOptions,
}

impl SshServer {
    /// A server with these host keys. Errors: `InvalidArgument` without any.
    pub fn new(site: Arc<dyn Site>, options: SshServerOptions) -> Result<Arc<Self>> {
        if options.keys.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("an SSH server needs a host key"));
        }
        Ok(Arc::new(SshServer { site, options }))
    }

    fn config(&self, software: &str) -> Config {
        let options = &self.options;
        Config {
            server_id: SshId::Standard(Cow::Owned(format!("SSH-2.0-{}", clean_id(software)))),
            methods: method_set(&[Method::PublicKey, Method::Password, Method::Interactive]),
            auth_rejection_time: Duration::from_millis(300),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: options.keys.clone(),
            limits: Limits::default(),
            window_size: 4 << 20,
            maximum_packet_size: 64 << 10,
            channel_buffer_size: 1000,
            event_buffer_size: 64,
            preferred: preferred(),
            // `Login` counts; this is only the library's own end stop.
            max_auth_attempts: usize::try_from(options.tries).unwrap_or(100).saturating_mul(4).max(20),
            inactivity_timeout: None,
            keepalive_interval: Some(options.keepalive.0),
            keepalive_max: options.keepalive.1,
            nodelay: true,
            ..Config::default()
        }
    }

    /// Accepts until `shutdown` fires; connections live on, each until its own end.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let me = Arc::clone(&self);
                    tasks.spawn(async move { me.connection(socket, peer).await });
                }
                Err(e) => {
                    // Out of descriptors: give others time to close some.
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Serves one connection to its end.
    pub async fn connection(self: Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let Ok(local) = socket.local_addr() else { return };
        let session = match self.site.admit(Protocol::Sftp, peer, local).await {
            Ok(session) => session,
            Err(e) => {
                tracing::info!(%peer, reason = e.peer_words(), "connection refused");
                return;
            }
        };
        let _ = socket.set_nodelay(true);
        let run = AssertUnwindSafe(self.run(Arc::clone(&session), socket)).catch_unwind().await;
        let ending = match run {
            Ok(ending) => ending,
            Err(_) => Ending::new("a fault of the server", Actor::Server),
        };
        session.close(ending).await;
    }

    async fn run(self: &Arc<Self>, session: Arc<Session>, socket: TcpStream) -> Ending {
        let mut software = self.options.software.clone();
        session.decide(Lifecycle::SoftwareId { id: &mut software }).await;
        let config = self.config(&software);
        let handler = Connection {
            login: Login::new(Arc::clone(&session), self.site.authenticator(), self.options.tries),
            server: Arc::clone(self),
            session: Arc::clone(&session),
            identity: None,
            asked: None,
            channels: HashMap::new(),
        };
        let stream = CutStream::new(socket, Arc::clone(&session));
        let begun = tokio::time::timeout(
            self.options.login_time,
            russh::server::run_stream(Arc::new(config), stream, handler),
        );
        let running = match begun.await {
            Ok(Ok(running)) => running,
            Ok(Err(e)) => return Ending::new(e.to_string(), Actor::Client),
            Err(_) => return Ending::new("no greeting in time", Actor::Server),
        };
        session.greeted();
        let handle = running.handle();
        let watched = async {
            let reason = self.watch(&session).await;
            let polite = handle.disconnect(Disconnect::ByApplication, reason.into(), "en".into());
            let _ = tokio::time::timeout(Duration::from_millis(50), polite).await;
            // Time for the words to leave; then the stream is cut with the session.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ending::new(reason, Actor::Server)
        };
        tokio::select! {
            ended = running => match ended {
                Ok(()) => Ending::new("the client left", Actor::Client),
                Err(e) => Ending::new(e.to_string(), Actor::Client),
            },
            () = session.cancel_token().cancelled() => {
                let words = session.ending().map_or_else(|| "ended".into(), |e| e.reason.to_string());
                let polite = handle.disconnect(Disconnect::ByApplication, words, "en".into());
                let _ = tokio::time::timeout(Duration::from_millis(50), polite).await;
                Ending::new("ended", Actor::Server)
            }
            ending = watched => ending,
        }
    }

    /// Waits until a limit of time is passed, and names it.
    async fn watch(&self, session: &Session) -> &'static str {
        tokio::time::sleep(self.options.login_time).await;
        if session.identity().is_none() {
            return "no login in time";
        }
        if self.options.idle_time.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let left = self.options.idle_time.saturating_sub(session.idle());
            if left.is_zero() && session.leases().in_flight() == 0 {
                return "idle for too long";
            }
            tokio::time::sleep(left.max(Duration::from_secs(1))).await;
        }
    }
}

/// An identification is one line of printable ASCII (RFC 4253, section 4.2).
fn clean_id(text: &str) -> String {
    let clean: String = text.chars().filter(|c| c.is_ascii_graphic()).take(200).collect();
    if clean.is_empty() { "Ferry".into() } else { clean }
}

/// The library's view of one connection.
struct Connection {
    server: Arc<SshServer>,
    session: Arc<Session>,
    login: Login,
    identity: Option<Identity>,
    /// The questions that were put to the client.
    asked: Option<Vec<Question>>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

/// An error that ends the connection.
#[derive(Debug)]
pub struct Ended(String);

impl From<russh::Error> for Ended {
    fn from(e: russh::Error) -> Self {
        Ended(match e {
            russh::Error::Disconnect | russh::Error::HUP => "the client left".into(),
            other => other.to_string(),
        })
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn method_set(methods: &[Method]) -> MethodSet {
    let kinds: Vec<MethodKind> = methods
        .iter()
        .filter_map(|m| match m {
            Method::Interactive => Some(MethodKind::KeyboardInteractive),
            Method::Password => Some(MethodKind::Password),
            Method::PublicKey => Some(MethodKind::PublicKey),
            Method::None => None,
        })
        .collect();
    MethodSet::from(kinds.as_slice())
}

impl Connection {
    fn answer(&mut self, step: Step) -> Result<Auth, Ended> {
        Ok(match step {
            Step::Accepted(identity) => {
                self.identity = Some(identity);
                Auth::Accept
            }
            Step::Partial(next) => {
                Auth::Reject { proceed_with_methods: Some(method_set(&next)), partial_success: true }
            }
            Step::Rejected(methods) => {
                Auth::Reject { proceed_with_methods: Some(method_set(&methods)), partial_success: false }
            }
            Step::Exhausted => return Err(Ended("too many failed logins".into())),
        })
    }

    async fn attempt(&mut self, user: &str, credential: Credential) -> Result<Auth, Ended> {
        let step = self.login.attempt(user, &credential).await;
        self.answer(step)
    }

    /// Asks the hooks about a channel; what is not SFTP is refused whatever they say.
    async fn refuse(&self, kind: ChannelKind) {
        self.session.decide(Lifecycle::OpenChannel(kind)).await;
    }

    /// Says on the error stream why there is no shell, and ends the channel.
    async fn explain(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.remove(&id) else { return };
        tokio::spawn(async move {
            let words = Bytes::from_static(b"this server offers SFTP only\r\n");
            let _ = channel.extended_data_bytes(1, words).await;
            let _ = channel.exit_status(1).await;
            let _ = channel.eof().await;
            let _ = channel.close().await;
        });
    }

    async fn start_sftp(&mut self, id: ChannelId) -> Result<(), Error> {
        let identity = self.identity.clone().ok_or(ErrorKind::Unauthenticated)?;
        if let Verdict::Refuse(e) = self.session.decide(Lifecycle::OpenChannel(ChannelKind::Sftp)).await {
            return Err(e);
        }
        let fs = self.server.site.mount(&self.session, &identity).await?;
        let channel = self.channels.remove(&id).ok_or(ErrorKind::InvalidArgument)?;
        let session = Arc::clone(&self.session);
        let (reader, writer) = channel::split(channel);
        let writer = Arc::new(writer);
        tokio::spawn(async move {
            let run = AssertUnwindSafe(Driver::new(fs).run(reader, Arc::clone(&writer))).catch_unwind().await;
            finish(&session, &writer, run.unwrap_or_else(|_| Err(ErrorKind::Internal.into()))).await;
        });
        Ok(())
    }
}

async fn finish(session: &Session, writer: &ChannelWriter<Msg>, result: Result<()>) {
    let status = match result {
        Ok(()) => 0,
        Err(e) => {
            tracing::debug!(session = %session.id(), error = %e, "an SFTP channel ended");
            1
        }
    };
    let _ = writer.half().exit_status(status).await;
    writer.finish().await;
}

fn signed_key(key: &PublicKey, algorithm: &Algorithm) -> SignedKey {
    SignedKey {
        algorithm: algorithm.to_string(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        openssh: one_line(key),
        certificate: None,
    }
}

fn one_line(key: &PublicKey) -> String {
    let mut key = key.clone();
    key.set_comment("");
    key.to_openssh().unwrap_or_default().trim().to_string()
}

/// SHA-1 signatures are refused; the algorithm is the one that made the signature.
fn is_weak(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

impl Handler for Connection {
    type Error = Ended;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Ended> {
        self.login.begin(user).await;
        let methods = self.login.methods().await;
        Ok(Auth::Reject { proceed_with_methods: Some(method_set(&methods)), partial_success: false })
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Ended> {
        self.attempt(user, Credential::Password(Secret::new(password))).await
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Ended> {
        if is_weak(offer.algorithm) {
            return Ok(Auth::reject());
        }
        let key = signed_key(offer.public_key, offer.algorithm);
        Ok(if self.login.may_offer(user, &key).await { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Ended> {
        if is_weak(key.algorithm) {
            return Ok(Auth::reject());
        }
        let key = signed_key(key.public_key, key.algorithm);
        self.attempt(user, Credential::Key(key)).await
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Ended> {
        let now = self.session.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let authority = PublicKey::from(certificate.signature_key().clone());
        let valid = certificate.cert_type() == CertType::User
            && !is_weak(&certificate.algorithm())
            && certificate.validate_at(now, std::iter::once(&authority.fingerprint(HashAlg::Sha256))).is_ok();
        let mut source_address = None;
        let mut unknown_critical = Vec::new();
        for (name, value) in certificate.critical_options().iter() {
            if name == "source-address" {
                source_address = Some(value.clone());
            } else {
                unknown_critical.push(name.clone());
            }
        }
        if !valid {
            // Judged all the same, as a certificate that nobody trusts: time and words are those of any
            // other failure.
            unknown_critical.push("not valid".into());
        }
        let public = PublicKey::from(certificate.public_key().clone());
        let mut key = signed_key(&public, &certificate.algorithm());
        key.certificate = Some(UserCertificate {
            authority: one_line(&authority),
            principals: certificate.valid_principals().to_vec(),
            key_id: certificate.key_id().to_string(),
            serial: certificate.serial(),
            source_address,
            unknown_critical,
        });
        self.attempt(user, Credential::Key(key)).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Ended> {
        match (response, self.asked.take()) {
            (Some(response), Some(questions)) => {
                let answers: Vec<Secret> = response
                    .take(questions.len())
                    .map(|a| Secret::new(String::from_utf8_lossy(&a).into_owned()))
                    .collect();
                let pairs = if answers.len() == questions.len() {
                    questions.into_iter().zip(answers).collect()
                } else {
                    Vec::new()
                };
                self.attempt(user, Credential::Answers(pairs)).await
            }
            _ => {
                let questions = self.login.questions(user).await;
                if questions.is_empty() {
                    return self.attempt(user, Credential::Answers(Vec::new())).await;
                }
                let prompts: Vec<_> =
                    questions.iter().map(|q| (Cow::Owned(q.prompt.clone()), q.echo)).collect();
                self.asked = Some(questions);
                Ok(Auth::Partial { name: "".into(), instructions: "".into(), prompts: prompts.into() })
            }
        }
    }

    async fn auth_succeeded(&mut self, session: &mut russh::server::Session) -> Result<(), Ended> {
        self.session.set_client_version(session.remote_sshid());
        Ok(())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Ended> {
        Ok(self.server.options.banner.clone())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Ended> {
        if self.identity.is_none() || self.channels.len() >= self.server.options.channels {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut russh::server::Session) -> Result<(), Ended> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Ended> {
        let result = if name == "sftp" {
            self.start_sftp(id).await
        } else {
            Err(Error::refused("only the subsystem 'sftp' is served"))
        };
        match result {
            Ok(()) => session.channel_success(id)?,
            Err(e) => {
                self.session.note_error(&e);
                session.channel_failure(id)?;
            }
        }
        Ok(())
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut russh::server::Session,
    ) -> Result<(), Ended> {
        self.refuse(ChannelKind::Shell).await;
        session.channel_success(id)?;
        self.explain(id).await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _command: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Ended> {
        self.refuse(ChannelKind::Command).await;
        session.channel_success(id)?;
        self.explain(id).await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Ended> {
        self.refuse(ChannelKind::ClientForward).await;
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        _address: &str,
        _port: &mut u32,
        _session: &mut russh::server::Session,
    ) -> Result<bool, Ended> {
        self.refuse(ChannelKind::ServerForward).await;
        Ok(false)
    }
}
