//! From a host name to a control connection that is logged in.
//!
//! TLS that is asked for is had or there is no login; the data connections are protected with it (PROT P).
//! A certificate that nobody vouches for ends the connection; only then the decider is asked, and a yes
//! opens a new connection that accepts exactly that certificate. A password is sent once per connection and
//! asked for once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::net::client_tls::{ClientTls, Refused, TlsVersion};
use session_core::session::{Protocol, Session};
use session_core::trust::TrustDecision;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::features::Facts;
use super::machine::{Command, text_of};
use super::options::{Encoding, FtpConnectOptions, Security};
use super::raw::command_of;
use super::refine::error_of;
use super::stream::{CutStream, Sockets};
use crate::wire::reply::Reply;

/// What every login of one remote shares.
pub(super) struct Dialer {
    pub(super) options: FtpConnectOptions,
    pub(super) session: Arc<Session>,
    pub(super) cut: CancellationToken,
    tls: Option<Arc<ClientTls>>,
    address: OnceLock<SocketAddr>,
    password: Mutex<Option<Secret>>,
    pub(super) facts: OnceLock<Facts>,
    /// What was learned on the way.
    pub(super) learned: Mutex<Learned>,
    /// What the cut ends.
    pub(super) sockets: Arc<Sockets>,
}

/// What is learned while working, for the next connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned {
    /// How long USER took to be answered.
    pub(super) delay: Duration,
    /// How the login went.
    pub(super) methods: Vec<&'static str>,
    /// TLS in words.
    pub(super) tls_words: Option<String>,
    /// EPSV does not work here.
    pub(super) no_epsv: bool,
    /// Logins whose sessions of TLS 1.3 were used up.
    pub(super) dry: u32,
    /// Sessions of TLS 1.3 run out: the next login speaks TLS 1.2, where the options allow it.
    pub(super) only_tls12: bool,
    /// Compression was agreed on.
    pub(super) compressed: bool,
    /// Seconds between the server's local time and UTC.
    pub(super) time_offset: Option<i32>,
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl Dialer {
    pub(super) async fn new(options: FtpConnectOptions, session: Arc<Session>) -> Result<Dialer> {
        let tls = if options.security == Security::Plain {
            None
        } else {
            session.set_protocol(Protocol::Ftps);
            let (host, port, tls) = (options.bare_host().to_owned(), options.port, options.tls.clone());
            // The authorities are files.
            let made = tokio::task::spawn_blocking(move || ClientTls::new(&host, port, &tls)).await;
            Some(Arc::new(made.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))??))
        };
        let password = Mutex::new(options.password.clone());
        let cut = session.cancel_token().child_token();
        let sockets = Arc::<Sockets>::default();
        let (ended, to_end) = (cut.clone(), Arc::clone(&sockets));
        tokio::spawn(async move {
            ended.cancelled().await;
            to_end.end();
        });
        let learned = Learned { time_offset: options.time_offset, ..Learned::default() };
        Ok(Dialer {
            options,
            session,
            cut,
            tls,
            address: OnceLock::new(),
            password,
            facts: OnceLock::new(),
            learned: Mutex::new(learned),
            sockets,
        })
    }

    pub(super) fn learned<T>(&self, f: impl FnOnce(&mut Learned) -> T) -> T {
        f(&mut self.learned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection that is logged in. Without a decider nobody is asked anything.
    pub(super) async fn open(&self, decider: Option<&dyn Decider>) -> Result<Control> {
        // A certificate, perhaps that of another machine behind the same name, is asked about twice at most.
        for _ in 0..2 {
            match self.enter(decider).await {
                Ok(control) => return Ok(control),
                Err(Refused::Error(e)) => return Err(e),
                Err(Refused::Certificate(certificate)) => {
                    let (Some(tls), Some(decider)) = (&self.tls, decider) else {
                        return Err(Refused::Certificate(certificate).into());
                    };
                    if !self.options.tls.fingerprints.is_empty() {
                        return Err(Refused::Certificate(certificate).into());
                    }
                    let query = Query::Certificate { certificate: certificate.clone() };
                    match decider.decide(query).await {
                        Answer::Trust(TrustDecision::Accept | TrustDecision::AcceptAndRemember) => {
                            tls.accept(&certificate);
                        }
                        _ => return Err(Refused::Certificate(certificate).into()),
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Unauthenticated)
            .with_detail("the server shows another certificate each time"))
    }

    /// One try: a certificate that is not believed is handed to the caller.
    pub(super) async fn enter(&self, decider: Option<&dyn Decider>) -> Result<Control, Refused> {
        let stream = self.dial().await.map_err(Refused::Error)?;
        let stream = CutStream::new(stream, self, None).map_err(|e| Refused::Error(e.into()))?;
        let (mut control, greeting) =
            Control::new(stream, Arc::clone(&self.session), self.options.timeout).map_err(Refused::Error)?;
        if self.options.security == Security::Implicit {
            self.start_implicit(&mut control).await?;
        }
        let greeting = control.answer(greeting).await.map_err(|e| Refused::Error(unwelcome(e)))?;
        if greeting.code != 220 {
            return Err(Refused::Error(error_of(&greeting)));
        }
        if self.options.security == Security::Explicit {
            let auth = control.call(&Command::with("AUTH", "TLS")).await.map_err(Refused::Error)?;
            if auth.code != 234 {
                return Err(Refused::Error(
                    Error::new(ErrorKind::Unsupported)
                        .with_detail("the server offers no TLS")
                        .with_wire(u32::from(auth.code), text_of(&auth))
                        .with_hint("without TLS everybody on the way can read the password: ask for ftp:// if that is meant"),
                ));
            }
            let login = self.tls_login()?;
            control.start_tls(login).await?;
        }
        self.session.greeted();
        self.session.authenticating();
        self.log_in(&mut control, decider).await.map_err(Refused::Error)?;
        self.settle_in(&mut control, &greeting).await.map_err(Refused::Error)?;
        self.say_first(&mut control).await.map_err(Refused::Error)?;
        Ok(control)
    }

    /// TLS that resumes nothing yet.
    pub(super) fn tls_login(&self) -> Result<session_core::net::client_tls::TlsLogin, Refused> {
        let tls = self.tls.as_ref().ok_or_else(|| Refused::Error(Error::new(ErrorKind::Internal)))?;
        let newest = self.learned(|l| l.only_tls12).then_some(TlsVersion::V12);
        Ok(tls.login(newest))
    }

    /// Under implicit TLS the greeting comes after the handshake, so nothing may have been said before it.
    async fn start_implicit(&self, control: &mut Control) -> Result<(), Refused> {
        let login = self.tls_login()?;
        control.start_tls_first(login).await
    }

    /// Reaches the host: the address of the first connection, else each of its addresses in turn.
    async fn dial(&self) -> Result<TcpStream> {
        let dial = self.options.dial(self.options.bare_host(), self.options.port);
        let stream = match self.address.get() {
            Some(known) => dial.tcp_to(&[*known]).await?,
            None => dial.tcp().await?,
        };
        keep_alive(&stream);
        if self.options.proxy.is_direct()
            && let Ok(address) = stream.peer_addr()
        {
            let _ = self.address.set(address);
            self.session.reached(address, stream.local_addr().ok());
        }
        Ok(stream)
    }

    /// Reaches the passive port of a server whose control connection leads to `peer`. An upload is reset
    /// whenever it is dropped before its end: the server must not take what has arrived, or nothing at all,
    /// for the whole file.
    pub(super) async fn dial_data(
        &self,
        port: SocketAddr,
        peer: SocketAddr,
        uploads: bool,
    ) -> Result<TcpStream> {
        let options = &self.options;
        // What the control connection leads to is the proxy; it knows the server by the name it was given.
        let host = if !options.proxy.is_direct() && port.ip() == peer.ip() {
            options.bare_host().to_owned()
        } else {
            port.ip().to_string()
        };
        let mut dial = options.dial(host, port.port());
        dial.reset_on_drop = uploads;
        if options.proxy.is_direct() { dial.tcp_to(&[port]).await } else { dial.tcp().await }
    }

    async fn password(&self, decider: Option<&dyn Decider>) -> Result<Secret> {
        let known = self.password.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let who = format!("{}@{}", self.options.user, self.options.host);
        let answer = match decider {
            Some(decider) => decider.decide(Query::Password { who }).await,
            None => Answer::Abort,
        };
        let Answer::Secret(secret) = answer else {
            return Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail("the server wants a password and none was given"));
        };
        *self.password.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret.clone());
        Ok(secret)
    }

    async fn log_in(&self, control: &mut Control, decider: Option<&dyn Decider>) -> Result<()> {
        if let Some(host) = &self.options.host_name {
            let reply = control.call(&Command::with("HOST", host.clone())).await?;
            // A server that does not know the verb has one host only (RFC 7151, section 3.2.2).
            if !matches!(reply.code, 220 | 500 | 502) {
                return Err(error_of(&reply));
            }
        }
        let mut protect = self.options.security != Security::Plain;
        let user = control_user(&self.options.user);
        let began = Instant::now();
        let mut methods = Vec::new();
        let mut reply = if protect {
            let ask = [Command::with("PBSZ", "0"), Command::with("PROT", "P"), user];
            let mut replies = control.calls(&ask).await?;
            let user = replies.pop();
            protect = replies.iter().any(|r| r.code >= 300);
            user.ok_or_else(|| Error::new(ErrorKind::Internal))?
        } else {
            control.call(&user).await?
        };
        let delay = began.elapsed();
        if reply.code == 331 {
            let password = self.password(decider).await?;
            methods.push("password");
            reply = control.call(&Command::secret("PASS", password.expose())).await?;
        }
        if reply.code == 332 {
            let account = self.options.account.as_ref().ok_or_else(|| {
                Error::new(ErrorKind::Unauthenticated)
                    .with_detail("the server wants an account (ACCT) and none was given")
            })?;
            methods.push("account");
            reply = control.call(&Command::secret("ACCT", account.expose())).await?;
        }
        if !matches!(reply.code, 200..=299) {
            return Err(refused(&reply, &self.options));
        }
        if methods.is_empty() {
            methods.push(if reply.code == 232 { "certificate" } else { "none" });
        }
        if protect {
            // Some servers want it after the login only.
            let replies = control.calls(&[Command::with("PBSZ", "0"), Command::with("PROT", "P")]).await?;
            if let Some(no) = replies.last().filter(|r| r.code >= 300) {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail("the server does not protect data connections")
                    .with_wire(u32::from(no.code), text_of(no)));
            }
        }
        let words = control.wire().tls_words();
        self.learned(|l| {
            l.delay = delay;
            l.methods = methods;
            l.tls_words = words;
        });
        Ok(())
    }

    /// Says what the caller wants to be said on every connection.
    async fn say_first(&self, control: &mut Control) -> Result<()> {
        for line in &self.options.after_login {
            let reply = control.call(&command_of(line)?).await?;
            if reply.code >= 400 {
                return Err(error_of(&reply).with_hint("a command that is sent after each login was refused"));
            }
        }
        Ok(())
    }

    /// Learns what the server can do, once, and says how this connection is to work.
    async fn settle_in(&self, control: &mut Control, greeting: &Reply) -> Result<()> {
        let mut ask = Vec::new();
        let first = self.facts.get().is_none();
        if self.facts.get().is_some_and(|facts| !facts.speaks_telnet()) {
            control.without_telnet();
        }
        if first {
            ask.extend([
                Command::new("FEAT"),
                Command::new("SYST"),
                Command::with("SITE", "HELP"),
                Command::new("PWD"),
            ]);
        }
        ask.push(Command::with("TYPE", "I"));
        if let Some(facts) = self.facts.get() {
            ask.extend(self.habits(facts));
        }
        let mut replies = control.calls(&ask).await?.into_iter();
        if first
            && let (Some(feat), Some(syst), Some(site), Some(pwd)) =
                (replies.next(), replies.next(), replies.next(), replies.next())
        {
            let mut facts = Facts::learn(greeting, &feat, &syst, &site, &pwd);
            if !self.options.facts {
                facts.features.retain(|name, _| name != "MLSD" && name != "MLST");
            }
            if !facts.speaks_telnet() {
                control.without_telnet();
            }
            let more = self.habits(&facts);
            let _ = self.facts.set(facts);
            if more.iter().any(|c| c.verb() == MODE) {
                let answers = control.calls(&more).await?;
                self.took(&more, &answers);
            } else {
                // Nobody needs the answers: they go out with what comes next, which saves a round trip.
                for command in &more {
                    control.mention(command)?;
                }
            }
        }
        if let Some(no) = replies.next().filter(|r| r.code >= 300) {
            return Err(error_of(&no));
        }
        if !first {
            let rest: Vec<Reply> = replies.collect();
            self.took(ask.get(1..).unwrap_or_default(), &rest);
        }
        Ok(())
    }

    /// What is said to a server that knows it.
    fn habits(&self, facts: &Facts) -> Vec<Command> {
        let mut out = Vec::new();
        if facts.has("CLNT") {
            out.push(Command::with("CLNT", "Ferry"));
        }
        if facts.has("UTF8") && self.options.encoding == Encoding::Bytes {
            out.push(Command::with("OPTS", "UTF8 ON"));
        }
        if let Some(list) = facts.facts_to_ask() {
            out.push(Command::with("OPTS", list));
        }
        if self.options.compress && facts.value("MODE").to_ascii_uppercase().contains('Z') {
            out.push(Command::with(MODE, "Z"));
        }
        out
    }

    fn took(&self, asked: &[Command], answers: &[Reply]) {
        let z = asked.iter().zip(answers).find(|(c, _)| c.verb() == MODE);
        if let Some((_, reply)) = z {
            self.learned(|l| l.compressed = reply.code < 300);
        }
    }
}

/// The habit whose answer counts.
const MODE: &str = "MODE";

fn control_user(user: &str) -> Command {
    Command::with("USER", user.as_bytes().to_vec())
}

/// A server that ends the connection instead of greeting has too many, or does not want this one.
fn unwelcome(e: Error) -> Error {
    match e.wire() {
        Some(wire) if wire.code == 421 => Error::new(ErrorKind::Throttled)
            .with_detail(format!("the server takes no more connections: {}", wire.text))
            .with_wire(421, wire.text.clone())
            .with_retry(Retry::Later(None)),
        _ => e,
    }
}

fn refused(reply: &Reply, options: &FtpConnectOptions) -> Error {
    if matches!(reply.code, 400..=429 | 431..=499) {
        return error_of(reply);
    }
    let e = Error::new(ErrorKind::Unauthenticated)
        .with_detail(format!("the login of '{}' was refused: {}", options.user, text_of(reply)))
        .with_wire(u32::from(reply.code), text_of(reply));
    if options.security == Security::Plain && text_of(reply).to_ascii_uppercase().contains("TLS") {
        return e.with_hint("the server wants TLS: use ftpes://");
    }
    e
}

/// Idle control connections are kept in the tables of whatever lies between, also while data flows and no
/// command may be sent.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(30));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(30));
}
