//! What a connection may do, as russh asks it: the login, then channels for SFTP and the commands that are
//! built in, and nothing else.
//!
//! Every request that opens something is put to `Session::decide` with its kind and refused whatever the
//! verdict, but for the subsystem `sftp` and the commands of `server::scp`. A shell or another command is
//! answered in words on standard error and exit status 1, so that whoever typed `ssh host` sees why.
//! Whatever waits here gives up when the session is cut.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind};
use session_core::gate::SessionFs;
use session_core::lifecycle::{ChannelKind, Lifecycle, Verdict};
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Protocol, Session};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::auth::{Dialogue, Outcome};
use super::channel::{self, ChannelReader, ChannelWriter, Fate, Flow};
use super::listen::SshServerOptions;
use crate::server::Driver;
use crate::server::scp::Builtin;

/// Channels that one connection may open in its life. russh keeps a little of each that we closed first.
const MOST_CHANNELS: usize = 4096;
/// How long a client is given to close a channel itself once everything was said.
const CLOSING: Duration = Duration::from_millis(100);
/// Standard error.
const STDERR: u32 = 1;
const NO_SHELL: &str = "this server offers no shell";

/// What a connection's supervisor and its handler share.
pub(crate) struct Shared {
    pub(crate) session: Arc<Session>,
    pub(crate) site: Arc<dyn Site>,
    pub(crate) options: Arc<SshServerOptions>,
    pub(crate) flow: Arc<Flow>,
    /// The transport's.
    pub(crate) cut: CancellationToken,
    pub(crate) logged_in: AtomicBool,
    pub(crate) channels: AtomicUsize,
    over: Mutex<Option<Ending>>,
    ended: Notify,
}

impl Shared {
    pub(crate) fn new(
        session: Arc<Session>,
        site: Arc<dyn Site>,
        options: Arc<SshServerOptions>,
        cut: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Shared {
            session,
            site,
            options,
            flow: Arc::default(),
            cut,
            logged_in: AtomicBool::new(false),
            channels: AtomicUsize::new(0),
            over: Mutex::new(None),
            ended: Notify::new(),
        })
    }

    /// Asks the supervisor to end the connection. The first reason stands.
    fn end(&self, reason: &'static str, code: Reason) {
        self.over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| Ending::new(reason, Actor::Server).because(code));
        self.ended.notify_one();
    }

    /// Waits until somebody asked for the end.
    pub(crate) async fn over(&self) -> Ending {
        loop {
            let ending = self.over.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match ending {
                Some(ending) => return ending,
                None => self.ended.notified().await,
            }
        }
    }
}

/// Why russh's loop is left.
#[derive(Debug)]
pub(crate) enum Fault {
    /// russh's own.
    Ssh(russh::Error),
    /// Ours.
    Ours(Error),
}

impl From<russh::Error> for Fault {
    fn from(e: russh::Error) -> Self {
        Fault::Ssh(e)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Fault::Ours(e)
    }
}

struct Open {
    reader: ChannelReader,
    writer: ChannelWriter<Msg>,
    fate: Arc<Fate>,
}

/// Counts a channel until it has ended.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.channels.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.channels.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One connection, as russh sees it.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    dialogue: Dialogue,
    open: HashMap<ChannelId, Open>,
    opened: usize,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let dialogue =
            Dialogue::new(Arc::clone(&shared.session), shared.site.authenticator(), shared.options.tries);
        Connection { shared, dialogue, open: HashMap::new(), opened: 0 }
    }

    fn answer(&self, outcome: session_core::error::Result<Outcome>) -> Result<Auth, Fault> {
        match outcome? {
            Outcome::Answer(auth) => Ok(auth),
            Outcome::Exhausted => {
                self.shared.end("too many failed logins", Reason::TooManyTries);
                Ok(Auth::reject())
            }
        }
    }

    /// Whether hooks object; what is asked for is refused all the same.
    async fn mention(&self, kind: ChannelKind) -> Result<(), Fault> {
        let session = &self.shared.session;
        unless_cut(session, session.decide(Lifecycle::OpenChannel(kind))).await?;
        Ok(())
    }

    /// Says in words why something is not there, and ends the channel.
    fn refuse(&mut self, id: ChannelId, words: &str, ssh: &mut russh::server::Session) -> Result<(), Fault> {
        ssh.channel_success(id)?;
        ssh.extended_data(id, STDERR, Bytes::from(format!("{words}\r\n")))?;
        ssh.exit_status_request(id, 1)?;
        ssh.eof(id)?;
        ssh.close(id)?;
        self.open.remove(&id);
        Ok(())
    }

    /// Serves a channel from now on, if it may be opened.
    async fn begin(
        &mut self,
        id: ChannelId,
        kind: ChannelKind,
        service: Service,
        ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let counted = Counted::new(&shared);
        match unless_cut(&shared.session, self.mount(kind)).await? {
            Ok(fs) => {
                let Some(open) = self.open.remove(&id) else { return Ok(()) };
                ssh.channel_success(id)?;
                tokio::spawn(serve(shared, service, fs, open, counted));
                Ok(())
            }
            Err(e) => {
                shared.session.note_error(&e);
                self.refuse(id, e.peer_words(), ssh)
            }
        }
    }

    /// Asks whether a channel of this kind may be opened, and for what it serves.
    async fn mount(&mut self, kind: ChannelKind) -> Result<SessionFs, Error> {
        let session = &self.shared.session;
        let Some(identity) = self.dialogue.identity() else {
            return Err(Error::new(ErrorKind::Unauthenticated));
        };
        if session.is_draining() {
            return Err(Error::refused("the server is shutting down"));
        }
        if let Verdict::Refuse(e) = session.decide(Lifecycle::OpenChannel(kind)).await {
            return Err(e);
        }
        self.shared.site.mount(session, identity).await
    }
}

async fn unless_cut<T>(session: &Session, work: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::select! {
        biased;
        () = session.cancel_token().cancelled() => Err(Fault::Ours(Error::new(ErrorKind::Canceled))),
        done = work => Ok(done),
    }
}

/// What is served on a channel.
enum Service {
    Sftp,
    Command(Builtin),
}

/// Serves a channel to its end.
async fn serve(shared: Arc<Shared>, service: Service, fs: SessionFs, open: Open, counted: Counted) {
    let Open { reader, writer, fate } = open;
    let writer = Arc::new(writer);
    let out = Arc::clone(&writer);
    let run = async {
        match service {
            Service::Sftp => Driver::new(fs).run(reader, out).await.map(|()| 0),
            Service::Command(builtin) => builtin.run(fs, reader, out).await,
        }
    };
    let result = AssertUnwindSafe(run).catch_unwind().await;
    if fate.flooded.is_cancelled() {
        shared.end("the client sends and takes nothing", Reason::ProtocolBroken);
        return;
    }
    let status = match result {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            tracing::debug!(session = %shared.session.id(), %error, "a channel ended");
            1
        }
        Err(_) => {
            tracing::error!(session = %shared.session.id(), "what served a channel panicked");
            shared.end("internal error", Reason::Internal);
            return;
        }
    };
    drop(counted);
    // The client may close first, which russh likes better; most do at once.
    if writer.finish().await.is_ok() && writer.exit(status).await.is_ok() {
        let _ = tokio::time::timeout(CLOSING, fate.gone.cancelled()).await;
        let _ = writer.close().await;
    }
}

impl Handler for Connection {
    type Error = Fault;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Fault> {
        Ok(self.shared.options.banner.clone())
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Fault> {
        let done = unless_cut(&self.shared.session, self.dialogue.none(user)).await?;
        self.answer(done)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Fault> {
        let done = unless_cut(&self.shared.session, self.dialogue.password(user, password)).await?;
        self.answer(done)
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Fault> {
        let work = self.dialogue.offered(user, offer.public_key, offer.algorithm);
        let done = unless_cut(&self.shared.session, work).await?;
        self.answer(done)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Fault> {
        let work = self.dialogue.key(user, key.public_key, key.algorithm);
        let done = unless_cut(&self.shared.session, work).await?;
        self.answer(done)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Fault> {
        let done = unless_cut(&self.shared.session, self.dialogue.certificate(user, certificate)).await?;
        self.answer(done)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Fault> {
        let answers = response.map(|r| r.map(|a| a.to_vec()).collect::<Vec<_>>());
        let done = unless_cut(&self.shared.session, self.dialogue.interactive(user, answers)).await?;
        self.answer(done)
    }

    async fn auth_succeeded(&mut self, _ssh: &mut russh::server::Session) -> Result<(), Fault> {
        self.shared.logged_in.store(true, Ordering::SeqCst);
        self.shared.session.touch();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        self.open.retain(|_, open| !open.fate.gone.is_cancelled());
        let waiting = self.open.len();
        let shared = &self.shared;
        self.opened += 1;
        if shared.session.is_draining()
            || waiting + shared.channels.load(Ordering::SeqCst) >= shared.options.max_channels
            || self.opened > MOST_CHANNELS
        {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        let (read, write) = channel.split();
        let (reader, writer, fate) = channel::begin(read, write, &shared.flow, shared.cut.clone());
        self.open.insert(id, Open { reader, writer, fate });
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _ssh: &mut russh::server::Session) -> Result<(), Fault> {
        self.open.remove(&id);
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        if name != "sftp" || !self.open.contains_key(&id) {
            ssh.channel_failure(id)?;
            return Ok(());
        }
        self.shared.session.set_protocol(Protocol::Sftp);
        self.begin(id, ChannelKind::Sftp, Service::Sftp, ssh).await
    }

    async fn shell_request(&mut self, id: ChannelId, ssh: &mut russh::server::Session) -> Result<(), Fault> {
        self.mention(ChannelKind::Shell).await?;
        self.refuse(id, NO_SHELL, ssh)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        if !self.open.contains_key(&id) {
            return Ok(ssh.channel_failure(id)?);
        }
        let builtin = if self.shared.options.commands {
            Builtin::parse(command)
        } else {
            Err(Error::new(ErrorKind::Unsupported).with_detail("this server offers SFTP only"))
        };
        match builtin {
            Ok(builtin) => {
                if builtin.is_copy() {
                    self.shared.session.set_protocol(Protocol::Scp);
                }
                self.begin(id, ChannelKind::Command, Service::Command(builtin), ssh).await
            }
            Err(e) => {
                self.mention(ChannelKind::Command).await?;
                self.refuse(id, e.peer_words(), ssh)
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "russh's signature")]
    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        Ok(ssh.channel_failure(id)?)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        Ok(ssh.channel_failure(id)?)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        Ok(ssh.channel_failure(id)?)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        self.mention(ChannelKind::ClientForward).await?;
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _ssh: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        self.mention(ChannelKind::ClientForward).await?;
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        _address: &str,
        _port: &mut u32,
        _ssh: &mut russh::server::Session,
    ) -> Result<bool, Fault> {
        self.mention(ChannelKind::ServerForward).await?;
        Ok(false)
    }

    async fn streamlocal_forward(
        &mut self,
        _path: &str,
        _ssh: &mut russh::server::Session,
    ) -> Result<bool, Fault> {
        self.mention(ChannelKind::ServerForward).await?;
        Ok(false)
    }
}
