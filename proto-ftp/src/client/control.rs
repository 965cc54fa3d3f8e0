//! The driver of one control connection: a socket around the machine.
//!
//! Whoever holds a `Control` drives it; there is no task behind it. Every wait is bounded. All calls may be
//! dropped at any await: what was not sent stays queued, what was not read is read by the next call.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt as _;
use rustls::ProtocolVersion;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::{Refused, TlsLogin, server_fingerprint, words_of};
use session_core::path::display_bytes;
use session_core::session::Session;
use session_core::talk::Talk;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::machine::{Command, Machine, Output, Token};
use super::stream::CutStream;
use crate::wire::reply::Reply;

/// A socket with TLS or without.
pub(super) enum Wire {
    Gone,
    Plain(CutStream),
    Tls(Box<TlsStream<CutStream>>),
}

impl Wire {
    /// The socket below, while there is one.
    pub(super) fn socket(&self) -> Option<&tokio::net::TcpStream> {
        match self {
            Wire::Gone => None,
            Wire::Plain(stream) => Some(stream.socket()),
            Wire::Tls(stream) => Some(stream.get_ref().0.socket()),
        }
    }

    /// TLS in words.
    pub(super) fn tls_words(&self) -> Option<String> {
        match self {
            Wire::Tls(stream) => Some(words_of(stream.get_ref().1)),
            _ => None,
        }
    }

    /// The SHA-256 of the server's certificate, in hexadecimal digits.
    pub(super) fn fingerprint(&self) -> Option<String> {
        match self {
            Wire::Tls(stream) => server_fingerprint(stream.get_ref().1),
            _ => None,
        }
    }

    pub(super) fn speaks_tls13(&self) -> bool {
        matches!(self, Wire::Tls(s) if s.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3))
    }

    fn gone() -> io::Error {
        io::Error::from(io::ErrorKind::NotConnected)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Gone => Poll::Ready(Err(Wire::gone())),
            Wire::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Wire::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Gone => Poll::Ready(Err(Wire::gone())),
            Wire::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Wire::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Gone => Poll::Ready(Ok(())),
            Wire::Plain(s) => Pin::new(s).poll_flush(cx),
            Wire::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Gone => Poll::Ready(Ok(())),
            Wire::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Wire::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// One control connection.
pub(super) struct Control {
    machine: Machine,
    wire: Wire,
    inbox: VecDeque<Output>,
    input: BytesMut,
    session: Arc<Session>,
    talk: Talk,
    timeout: Duration,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// What data connections resume.
    pub(super) tls: Option<TlsLogin>,
    /// A passive port that was asked for ahead of its use, and when.
    pub(super) ahead: Option<(Token, Instant)>,
    /// The last command whose answer nobody needs.
    aside: Option<Token>,
    /// TYPE A is set.
    pub(super) text: bool,
    /// When it was last used.
    pub(super) used: Instant,
    /// When it was last used, or asked whether it is there.
    pub(super) asked: Instant,
    /// Transfers so far.
    pub(super) transfers: u64,
}

impl Control {
    /// Around a connected socket; the token is the greeting's.
    pub(super) fn new(
        stream: CutStream,
        session: Arc<Session>,
        timeout: Duration,
    ) -> Result<(Control, Token)> {
        let (machine, greeting) = Machine::new();
        let (peer, local) = (stream.socket().peer_addr()?, stream.socket().local_addr()?);
        let talk = session.talk().line();
        talk.note(|| format!("connected to {peer}"));
        let control = Control {
            machine,
            wire: Wire::Plain(stream),
            inbox: VecDeque::new(),
            input: BytesMut::new(),
            session,
            talk,
            timeout,
            peer,
            local,
            tls: None,
            ahead: None,
            aside: None,
            text: false,
            used: Instant::now(),
            asked: Instant::now(),
            transfers: 0,
        };
        Ok((control, greeting))
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Ends it without a word, at once: the server sees the connection end.
    pub(super) fn hang_up(&mut self) {
        self.wire = Wire::Gone;
    }

    /// Moves the connection out. What stays behind is dead.
    pub(super) fn take(&mut self) -> Control {
        let dead = Control {
            machine: Machine::new().0,
            wire: Wire::Gone,
            inbox: VecDeque::new(),
            input: BytesMut::new(),
            session: Arc::clone(&self.session),
            talk: self.talk.clone(),
            tls: None,
            ahead: None,
            aside: None,
            ..*self
        };
        std::mem::replace(self, dead)
    }

    /// Whether it is of no more use.
    pub(super) fn is_dead(&self) -> bool {
        self.machine.ended().is_some() || matches!(self.wire, Wire::Gone)
    }

    /// Whether an answer is owed to somebody who is gone.
    pub(super) fn is_owed(&self) -> bool {
        self.machine.pending_behind(self.aside) > usize::from(self.ahead.is_some())
    }

    /// Queues a command; it goes out with the next wait.
    pub(super) fn submit(&mut self, command: &Command) -> Result<Token> {
        let token = self.machine.submit(command)?;
        self.talk.sent(|| format!("{command:?}"));
        Ok(token)
    }

    /// Queues a command whose answer nobody needs: it goes out with the next one.
    pub(super) fn mention(&mut self, command: &Command) -> Result<()> {
        self.aside = Some(self.submit(command)?);
        Ok(())
    }

    /// From now on names go byte by byte, and none is doubled.
    pub(super) fn without_telnet(&mut self) {
        self.machine.without_telnet();
    }

    /// Sends what is queued. Errors end the dialogue.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        let sending = async {
            while !self.machine.to_send().is_empty() {
                let n = self.wire.write(self.machine.to_send()).await?;
                if n == 0 {
                    return Err(io::Error::from(io::ErrorKind::WriteZero));
                }
                self.machine.to_send().advance(n);
            }
            self.wire.flush().await
        };
        match tokio::time::timeout_at(deadline, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.lost(e)),
            Err(_) => Err(self.late()),
        }
    }

    fn lost(&mut self, e: io::Error) -> Error {
        let error = if self.session.is_cut() { Error::new(ErrorKind::Canceled) } else { Error::from(e) };
        // The server's last words explain more than a broken pipe.
        self.read_now();
        self.machine.lost(error.clone());
        self.machine.ended().cloned().unwrap_or(error)
    }

    fn late(&mut self) -> Error {
        let e = Error::new(ErrorKind::TimedOut).with_detail("the server does not answer");
        self.machine.lost(e.clone());
        e
    }

    /// Takes what is there without waiting.
    pub(super) fn read_now(&mut self) {
        while !self.is_dead() {
            self.input.reserve(4096);
            match self.wire.read_buf(&mut self.input).now_or_never() {
                Some(Ok(0)) => self.ended(),
                Some(Ok(_)) => self.take_input(),
                Some(Err(e)) => self.machine.lost(Error::from(e)),
                None => return,
            }
        }
    }

    fn ended(&mut self) {
        self.machine.lost(
            Error::new(ErrorKind::Disconnected).with_detail("the server closed the control connection"),
        );
    }

    fn take_input(&mut self) {
        self.machine.receive(&self.input);
        self.input.clear();
        while let Some(output) = self.machine.poll() {
            if let Output::Done(_, reply) | Output::Begun(_, reply) = &output {
                for line in &reply.lines {
                    self.talk.heard(|| format!("{} {}", reply.code, display_bytes(line)));
                }
                self.session.note_status(u32::from(reply.code));
            }
            if !matches!(output, Output::Ended(_)) {
                self.inbox.push_back(output);
            }
        }
    }

    /// Sends what is queued and waits for more from the server.
    async fn pump(&mut self, deadline: Instant) -> Result<()> {
        if !self.machine.to_send().is_empty() {
            self.flush().await?;
        }
        if let Some(e) = self.machine.ended() {
            return Err(e.clone());
        }
        self.input.reserve(4096);
        match tokio::time::timeout_at(deadline, self.wire.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => {
                self.ended();
                Err(self.machine.ended().cloned().unwrap_or_else(|| Error::new(ErrorKind::Disconnected)))
            }
            Ok(Ok(_)) => {
                self.take_input();
                Ok(())
            }
            Ok(Err(e)) => Err(self.lost(e)),
            Err(_) => Err(self.late()),
        }
    }

    fn find(&mut self, mut wanted: impl FnMut(&Output) -> bool) -> Option<Output> {
        let at = self.inbox.iter().position(&mut wanted)?;
        self.inbox.remove(at)
    }

    async fn wait(&mut self, deadline: Instant, mut wanted: impl FnMut(&Output) -> bool) -> Result<Output> {
        loop {
            if let Some(found) = self.find(&mut wanted) {
                return Ok(found);
            }
            self.pump(deadline).await?;
        }
    }

    /// The final answer to `token`, waited for at most `patience`.
    pub(super) async fn answer_within(&mut self, token: Token, patience: Duration) -> Result<Reply> {
        let deadline = Instant::now() + patience;
        let found = self.wait(deadline, |o| matches!(o, Output::Done(t, _) if *t == token)).await?;
        self.used = Instant::now();
        self.asked = self.used;
        match found {
            Output::Done(_, reply) => Ok(reply),
            _ => Err(Error::new(ErrorKind::Internal)),
        }
    }

    /// The final answer to `token` if it comes in time; if not, it may still come.
    pub(super) async fn try_answer(&mut self, token: Token, patience: Duration) -> Option<Reply> {
        let far = patience + self.timeout;
        tokio::time::timeout(patience, self.answer_within(token, far)).await.ok()?.ok()
    }

    /// The final answer to `token`.
    pub(super) async fn answer(&mut self, token: Token) -> Result<Reply> {
        self.answer_within(token, self.timeout).await
    }

    /// The first answer to a transfer: `true` with it if data follows, else it was the final one.
    pub(super) async fn begun(&mut self, token: Token) -> Result<(bool, Reply)> {
        let deadline = Instant::now() + self.timeout;
        let of = |o: &Output| matches!(o, Output::Done(t, _) | Output::Begun(t, _) if *t == token);
        match self.wait(deadline, of).await? {
            Output::Begun(_, reply) => Ok((true, reply)),
            Output::Done(_, reply) => Ok((false, reply)),
            Output::Ended(e) => Err(e),
        }
    }

    /// One command and its answer.
    pub(super) async fn call(&mut self, command: &Command) -> Result<Reply> {
        let token = self.submit(command)?;
        self.answer(token).await
    }

    /// Several commands in one flight, and their answers.
    pub(super) async fn calls(&mut self, commands: &[Command]) -> Result<Vec<Reply>> {
        let tokens = commands.iter().map(|c| self.submit(c)).collect::<Result<Vec<_>>>()?;
        let mut replies = Vec::with_capacity(tokens.len());
        for token in tokens {
            replies.push(self.answer(token).await?);
        }
        Ok(replies)
    }

    /// Reads every answer that is owed, for nobody. `false` if the connection is of no more use.
    pub(super) async fn settle(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_owed() {
            if self.pump(deadline).await.is_err() {
                return false;
            }
        }
        self.forget_answers();
        !self.is_dead()
    }

    /// Throws away answers that nobody waits for.
    pub(super) fn forget_answers(&mut self) {
        let ahead = self.ahead.map(|(token, _)| token);
        self.inbox.retain(|o| matches!(o, Output::Done(t, _) if Some(*t) == ahead));
    }

    /// Puts TLS around the connection. What the server said in the clear before must have been read: it is
    /// `PeerMisbehaved` to say more.
    pub(super) async fn start_tls(&mut self, login: TlsLogin) -> std::result::Result<(), Refused> {
        if !self.machine.is_quiet() || !self.inbox.is_empty() || !self.input.is_empty() {
            return Err(Refused::Error(
                Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail("the server sent something between its consent and TLS"),
            ));
        }
        self.start_tls_first(login).await
    }

    /// The same before anything was said.
    pub(super) async fn start_tls_first(&mut self, login: TlsLogin) -> std::result::Result<(), Refused> {
        let Wire::Plain(stream) = std::mem::replace(&mut self.wire, Wire::Gone) else {
            return Err(Refused::Error(Error::new(ErrorKind::Internal)));
        };
        let shaking = login.connect(stream);
        let stream = match tokio::time::timeout(self.timeout, shaking).await {
            Ok(done) => done?,
            Err(_) => {
                let e = Error::new(ErrorKind::TimedOut).with_detail("the server does not answer to TLS");
                return Err(Refused::Error(e.with_hint("it may not speak TLS on this port")));
            }
        };
        self.wire = Wire::Tls(Box::new(stream));
        if let Some(words) = self.wire.tls_words() {
            self.talk.note(|| format!("TLS: {words}"));
            self.session.set_tls(&words);
        }
        self.tls = Some(login);
        Ok(())
    }

    /// Asks the idle server whether it is there; being asked is no use.
    pub(super) async fn still_there(&mut self) -> bool {
        let used = self.used;
        if let Some((token, _)) = self.ahead.take()
            && self.answer(token).await.is_err()
        {
            return false;
        }
        let there = self.call(&Command::new("NOOP")).await.is_ok();
        self.used = used;
        there
    }

    /// Says good-bye and hangs up. The answer says nothing, and over a long way it takes a round trip: nobody
    /// waits for it.
    pub(super) async fn quit(mut self) {
        let bye = async {
            // What is left unread would make the system take the good-bye back.
            self.read_now();
            if self.submit(&Command::new("QUIT")).is_ok() {
                let _ = self.flush().await;
            }
            let _ = self.wire.shutdown().await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), bye).await;
    }
}
