//! The driver: runs one connection's machine over its sockets and its guarded filesystem.
//!
//! Calls are answered one after the other, as FTP has it; only a transfer runs beside the control
//! connection, which goes on being read. Replies gather until there is something to wait for: what a small
//! file needs leaves in one piece. Before an upload is published, the control connection is looked at: a
//! client that is gone does not get its half file published, it is parked.
//!
//! Who supervises it (`listen.rs`) drops the future when the session is cut; sockets, listener and files
//! end with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_immediate;
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File as _;
use session_core::gate::SessionFs;
use session_core::lifecycle::Lifecycle;
use session_core::net::server_tls;
use session_core::reason::Reason;
use session_core::session::{Actor, Argument, Ending, Protocol, Running, Session};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::calls;
use super::control::Control;
use super::data::{Data, Guard, Ports};
use super::login::{Attempt, Entrance};
use super::machine::{Call, Done, Fault, Machine, Output, Settings};
use super::options::{DataPolicy, FtpServerOptions, Messages};
use super::transfer::{self, Moved, Opened, Upload};
use super::words::expand;

/// How often idle times and the like are looked at, at least.
const TICK: Duration = Duration::from_secs(5);
/// How long to wait for what the system says is there.
const GLANCE: Duration = Duration::from_millis(50);

/// What the supervisor made.
pub(super) struct Setting {
    pub(super) session: Arc<Session>,
    pub(super) site: Arc<dyn Site>,
    pub(super) options: Arc<FtpServerOptions>,
    pub(super) ports: Arc<Ports>,
    /// The addresses of the control connection, as they really are: theirs, ours.
    pub(super) addresses: (SocketAddr, SocketAddr),
}

/// One connection.
pub(super) struct Driver {
    session: Arc<Session>,
    options: Arc<FtpServerOptions>,
    machine: Machine,
    entrance: Entrance,
    fs: Option<SessionFs>,
    data: Data,
    guard: Option<Guard>,
    opened: Option<Opened>,
    running: Option<Running>,
    ending: Option<Ending>,
}

impl Driver {
    /// A driver before its greeting. Errors: `Disconnected`.
    pub(super) fn new(setting: Setting, control: &Control) -> Result<Self> {
        let Setting { session, site, options, ports, addresses } = setting;
        let settings = Settings {
            tls: options.tls.is_some(),
            implicit: options.implicit_tls,
            control: options.control(),
            data: options.data(),
            max_line: options.max_line,
            active: options.active,
            mode_z: options.mode_z,
            ascii: options.ascii,
            foreign: options.foreign_data && options.data() != DataPolicy::Deny,
        };
        let socket = control.addresses()?;
        let data = Data::new(Arc::clone(&options), ports, Arc::clone(&session), socket, addresses);
        let hosts = options.hosts.clone();
        let entrance =
            Entrance::new(Arc::clone(&session), site, hosts, options.tries, options.rejection_time);
        Ok(Driver {
            session,
            machine: Machine::new(settings),
            entrance,
            fs: None,
            data,
            guard: None,
            opened: None,
            running: None,
            ending: None,
            options,
        })
    }

    /// Serves to the end of the connection.
    pub(super) async fn run(&mut self, control: &mut Control) -> Ending {
        if self.options.implicit_tls
            && let Err(e) = self.start_tls(control).await
        {
            tracing::debug!(session = %self.session.id(), error = %e, "no TLS");
            return Ending::new("the TLS handshake failed", Actor::Client).because(Reason::HandshakeFailed);
        }
        let mut banner = self.messages().banner.clone();
        self.session.decide(Lifecycle::SoftwareId { id: &mut banner }).await;
        let words = expand(&banner, &self.session, &self.session.site());
        self.machine.greet(words);
        match self.serve(control).await {
            Ok(ending) => ending,
            Err(_) => Ending::new("the client left", Actor::Client).because(Reason::ConnectionFailed),
        }
    }

    /// An error is that of the control connection.
    async fn serve(&mut self, control: &mut Control) -> std::io::Result<Ending> {
        loop {
            while let Some(output) = self.machine.poll() {
                self.act(output, control).await?;
            }
            self.flush(control).await?;
            if let Some(ending) = self.ending.take() {
                return Ok(ending);
            }
            let wake = self.tick();
            let machine = &mut self.machine;
            tokio::select! {
                read = control.read(|bytes| machine.receive(bytes)), if machine.wants_input() => {
                    if read? == 0 {
                        self.machine.end_of_input();
                    } else {
                        self.session.touch();
                    }
                }
                () = tokio::time::sleep(wake) => self.look_around(),
            }
        }
    }

    fn tick(&self) -> Duration {
        let idle = self.options.idle.map(|i| i.saturating_sub(self.session.idle()));
        let soonest = idle.into_iter().chain(self.data.expires()).min().unwrap_or(TICK);
        soonest.clamp(Duration::from_millis(50), TICK)
    }

    /// Whether the connection has to end although the client does not want it.
    fn look_around(&mut self) {
        self.data.expire();
        if self.session.is_draining() {
            let words = "the server is shutting down";
            let ending = Ending::new(words, Actor::Server).because(Reason::Stopping);
            self.machine.close(421, words, ending);
        } else if let Some(idle) = self.options.idle
            && self.machine.is_logged_in()
            && self.session.idle() >= idle
        {
            let words = "idle for too long";
            let ending = Ending::new(words, Actor::Server).because(Reason::IdleTimeout);
            self.machine.close(421, words, ending);
        }
    }

    async fn flush(&mut self, control: &mut Control) -> std::io::Result<()> {
        if let Some(code) = self.machine.take_status() {
            self.session.note_status(u32::from(code));
        }
        let Some(bytes) = self.machine.take_output() else { return Ok(()) };
        self.session.greeted();
        // A client that takes no replies is as good as gone.
        match tokio::time::timeout(self.options.data_time, control.send(&bytes)).await {
            Ok(sent) => sent,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }

    async fn act(&mut self, output: Output, control: &mut Control) -> std::io::Result<()> {
        match output {
            Output::Abort => {}
            Output::Begin { verb, argument } => {
                self.running = Some(self.session.begin_command(verb, argument));
            }
            Output::End => {
                // What one command was told does not get lost in the replies of those behind it.
                if let Some(code) = self.machine.take_status() {
                    self.session.note_status(u32::from(code));
                }
                self.running = None;
            }
            Output::Failed(e) => {
                self.session.note_error(&e);
                self.session.written().await;
            }
            Output::Close(ending) => self.ending = Some(ending),
            Output::Status { .. } => self.tell(),
            Output::Call(Call::StartTls) => {
                self.flush(control).await?;
                let done = self.start_tls(control).await;
                self.machine.complete(done.map(|()| Done::Ok).map_err(Fault::from));
            }
            Output::Call(Call::Move) => self.transfer(control).await?,
            Output::Call(call) => {
                let result = self.call(call, control).await;
                self.machine.complete(result);
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        let user = match self.session.identity() {
            Some(identity) => format!("Logged in as {}", identity.account().name),
            None => "Not logged in".to_owned(),
        };
        let mut lines = vec![Bytes::from_static(b"Status:"), Bytes::from(user)];
        if let Some(peer) = self.session.peer_address() {
            lines.push(format!("Connected from {peer}").into());
        }
        lines.extend(transfer::progress(&self.session));
        lines.push(Bytes::from_static(b"End"));
        self.machine.tell(lines);
    }

    /// What is said to people at the site where they are.
    fn messages(&self) -> &Messages {
        self.entrance.messages().unwrap_or(&self.options.messages)
    }

    fn words(&self, message: &str) -> Vec<Bytes> {
        expand(message, &self.session, &self.entrance.site().name())
    }

    async fn call(&mut self, call: Call, control: &Control) -> Result<Done, Fault> {
        match call {
            Call::Active(to) => self.data.active(to).map(|()| Done::Ok),
            Call::Answer(answer) => {
                let attempt = self.entrance.answer(answer).await;
                self.enter(attempt).await
            }
            Call::Ask { verb, argument } => {
                self.session.command(verb, &argument).await?;
                Ok(Done::Ok)
            }
            Call::Client(name) => {
                self.session.set_client_version(&name);
                Ok(Done::Ok)
            }
            Call::Host(name) => {
                let name = name.trim_start_matches('[').trim_end_matches(']');
                if !self.entrance.go_to(name).await {
                    let e = Error::new(ErrorKind::NotFound)
                        .with_detail("no such host is served here")
                        .because(Reason::UnknownHost);
                    return Err(Fault::with_code(504, e));
                }
                Ok(Done::Words(self.words(&self.messages().banner)))
            }
            Call::Leave => Ok(Done::Words(self.words(&self.messages().exit))),
            Call::LogOut => {
                self.fs = None;
                self.opened = None;
                self.data.discard().await;
                self.entrance.leave(self.options.tries).await;
                Ok(Done::Words(self.words(&self.messages().banner)))
            }
            Call::Open(what) => {
                self.data.check()?;
                let is_here = !self.options.sendfile_to_neighbours
                    && self.session.peer_address().is_some_and(|ip| ip.is_loopback());
                let opened = transfer::open(self.filesystem()?, what, is_here).await;
                match opened {
                    Ok((opened, done)) => {
                        self.opened = Some(opened);
                        Ok(done)
                    }
                    Err(e) => {
                        self.data.discard().await;
                        Err(e.into())
                    }
                }
            }
            Call::Passive { extended, family } => {
                self.data.passive(extended, family).await.map(Done::Address)
            }
            Call::Password(password) => {
                let attempt = self.entrance.password(password).await;
                self.enter(attempt).await
            }
            Call::User(user) => {
                self.entrance.user(&user).await;
                let shown = control.tls().zip(self.options.tls.as_ref());
                match shown.and_then(|(connection, tls)| tls.client_certificate(connection)) {
                    None => Ok(Done::Ok),
                    Some(certificate) => {
                        let attempt = self.entrance.certificate(certificate).await;
                        self.enter(attempt).await
                    }
                }
            }
            call => Ok(calls::carry_out(self.filesystem()?, call).await?),
        }
    }

    fn filesystem(&self) -> Result<&SessionFs> {
        self.fs.as_ref().ok_or_else(|| Error::new(ErrorKind::Unauthenticated))
    }

    async fn enter(&mut self, attempt: Attempt) -> Result<Done, Fault> {
        let identity = match attempt {
            Attempt::Answer(done) => return Ok(done),
            Attempt::In(identity) => identity,
        };
        match self.entrance.mount(&identity).await {
            Ok(fs) => {
                self.fs = Some(fs);
                let words = self.words(&self.messages().welcome);
                Ok(Done::LoggedIn { home: identity.account().home.clone(), words })
            }
            Err(e) => {
                self.entrance.leave(self.options.tries).await;
                Err(Fault::with_code(530, e))
            }
        }
    }

    /// The handshake of the control connection. Errors: `PeerMisbehaved`, `TimedOut`.
    async fn start_tls(&mut self, control: &mut Control) -> Result<()> {
        let failed = || Error::new(ErrorKind::PeerMisbehaved).with_detail("the TLS handshake failed");
        let Some(tls) = &self.options.tls else { return Err(failed()) };
        let Some(stream) = control.take_plain() else { return Err(failed()) };
        let bond = tls.bond()?;
        let shake = TlsAcceptor::from(bond.first).accept(stream);
        let stream = tokio::time::timeout(self.options.data_time, shake)
            .await
            .map_err(|_| Error::new(ErrorKind::TimedOut).with_detail("the TLS handshake took too long"))?
            .map_err(|e| failed().with_source(e))?;
        // Whoever was logged in in the clear is not any more.
        self.fs = None;
        self.entrance.leave(self.options.tries).await;
        let connection = stream.get_ref().1;
        let name = connection.server_name().map(str::to_owned);
        self.session.set_protocol(Protocol::Ftps);
        self.session.set_tls(&server_tls::describe(connection));
        if let Some(name) = name {
            // A name that no site has is the certificate's problem, not ours.
            self.entrance.go_to(&name).await;
        }
        *control = Control::Tls(Box::new(stream));
        self.guard = Some(Guard {
            config: bond.later,
            reuse: self.options.require_session_reuse,
            name: control.tls().and_then(|c| c.server_name()).map(str::to_owned),
            certificate: control.tls().and_then(|c| c.peer_certificates()).and_then(<[_]>::first).cloned(),
        });
        Ok(())
    }

    /// Runs what was opened, beside the control connection.
    async fn transfer(&mut self, control: &mut Control) -> std::io::Result<()> {
        let Some(opened) = self.opened.take() else {
            self.machine.complete(Err(Error::new(ErrorKind::Internal).into()));
            return Ok(());
        };
        let (abort, gone) = (CancellationToken::new(), CancellationToken::new());
        let pace = (self.options.data_time, self.options.minimum_rate);
        let result = {
            let work = opened.run(&mut self.data, self.guard.clone(), pace, abort.clone(), gone.clone());
            let mut work = Box::pin(work);
            // A small file is through before anybody has to wait; its replies leave together.
            match poll_immediate(&mut work).await {
                Some(result) => result,
                None => {
                    let beside = Beside {
                        session: &self.session,
                        options: &self.options,
                        machine: &mut self.machine,
                        abort: &abort,
                        gone: &gone,
                    };
                    beside.until(work, control).await?
                }
            }
        };
        self.session.touch();
        let result = match result {
            Ok(Moved::All(bytes)) => Ok(Done::Moved { bytes }),
            Ok(Moved::Received(upload)) => self.judge(upload, control).await,
            Err(fault) => {
                self.session.note_error(&fault.error);
                Err(fault)
            }
        };
        self.machine.complete(result);
        Ok(())
    }

    /// The end of an upload: published, or kept because its client is gone.
    async fn judge(&mut self, upload: Upload, control: &mut Control) -> Result<Done, Fault> {
        self.glance(control).await;
        let gone = self.machine.client_vanished().then_some("the client is gone");
        if let Some(words) = upload.doubt.or(gone) {
            let _ = upload.file.park().await;
            let e = Error::new(ErrorKind::Corrupt).with_detail(words).with_hint("what arrived is kept");
            self.session.note_error(&e);
            return Err(e.into());
        }
        let bytes = transfer::commit(&upload).await?;
        Ok(Done::Moved { bytes })
    }

    /// Takes what the control connection holds now, its end above all. The reactor may not know of it yet:
    /// the system is asked.
    async fn glance(&mut self, control: &mut Control) {
        if !self.machine.wants_input() {
            return;
        }
        let machine = &mut self.machine;
        let holds = control.holds();
        if matches!(holds, Ok(false)) {
            return;
        }
        let read = control.read(|bytes| machine.receive(bytes));
        if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(GLANCE, read).await {
            self.machine.end_of_input();
        }
    }
}

/// How much later than the end of its control connection a client's data connection may come.
const LATE: Duration = Duration::from_secs(1);

/// The control connection while a transfer runs.
struct Beside<'a> {
    session: &'a Arc<Session>,
    options: &'a FtpServerOptions,
    machine: &'a mut Machine,
    abort: &'a CancellationToken,
    gone: &'a CancellationToken,
}

impl Beside<'_> {
    async fn until<T>(
        self,
        mut work: std::pin::Pin<Box<impl Future<Output = T>>>,
        control: &mut Control,
    ) -> std::io::Result<T> {
        let Beside { session, options, machine, abort, gone } = self;
        let late = tokio::time::sleep(LATE);
        tokio::pin!(late);
        let mut ended = false;
        loop {
            while let Some(output) = machine.poll() {
                match output {
                    Output::Abort => abort.cancel(),
                    Output::Status { .. } => {
                        drop(session.begin_command("STAT", Argument::None));
                        let mut lines = vec![Bytes::from_static(b"Status:")];
                        lines.extend(transfer::progress(session));
                        lines.push(Bytes::from_static(b"End"));
                        machine.tell(lines);
                    }
                    Output::Failed(e) => session.note_error(&e),
                    _ => {}
                }
            }
            if let Some(code) = machine.take_status() {
                session.note_status(u32::from(code));
            }
            if let Some(bytes) = machine.take_output() {
                tokio::time::timeout(options.data_time, control.send(&bytes))
                    .await
                    .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            }
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                read = control.read(|bytes| machine.receive(bytes)), if machine.wants_input() => {
                    // A client that is gone may have sent all the same: the data connection tells.
                    if matches!(read, Ok(0) | Err(_)) {
                        machine.end_of_input();
                        ended = true;
                        late.as_mut().reset(tokio::time::Instant::now() + LATE);
                    }
                }
                () = &mut late, if ended && !gone.is_cancelled() => gone.cancel(),
            }
        }
    }
}

/// The last words to a client whose session was ended.
pub(super) async fn farewell(control: &mut Control, words: &str, patience: Duration) {
    let mut out = bytes::BytesMut::new();
    crate::wire::reply::Reply::new(421, words.to_owned()).encode(&mut out);
    let by = Instant::now() + patience;
    let _ = tokio::time::timeout_at(by, async {
        if control.send(&out).await.is_ok() {
            control.finish().await;
        }
    })
    .await;
}
