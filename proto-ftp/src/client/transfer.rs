//! A command with a data connection, from the port to the final reply.
//!
//! Round trips are saved where no server minds: the port is asked for ahead of its use, the data connection
//! is opened while the command is on its way, TLS does not wait for the server's consent. A transfer has
//! succeeded only when the server said so after the end of data; whatever else happens is an error.
//! Dropping a transfer hangs its data connection up and leaves the control connection to be settled.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use session_core::error::{Error, ErrorKind, Result, Retry};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::data::{self, Data, Way};
use super::features::ServerKind;
use super::machine::{Command, Token};
use super::options::DataMode;
use super::passive;
use super::pool::{Lease, Pool};
use super::refine::{error_of, is_unknown};
use crate::wire::reply::Reply;

/// A port that was asked for longer ago is not trusted any more.
const FRESH: Duration = Duration::from_secs(5);
/// How long the server's own words are waited for when the data connection broke.
const WORDS: Duration = Duration::from_secs(5);
/// Logins whose TLS sessions were used up before the next ones speak TLS 1.2.
const DRY: u32 = 2;
/// How long a server may take to hear ABOR while data flows.
const HEARD: Duration = Duration::from_secs(2);
/// How long the final reply may take beyond the usual: the server may be publishing a large file.
const PUBLISH: u32 = 6;

pub(super) struct Transfer {
    lease: Lease,
    data: Data,
    token: Token,
    last: Option<Reply>,
    probed: Option<Reply>,
}

/// What is asked of the server.
pub(super) struct Ask {
    /// The command that moves data.
    pub(super) command: Command,
    /// Where to begin.
    pub(super) from: u64,
    /// As text.
    pub(super) text: bool,
    /// What must succeed right before it.
    pub(super) first: Option<Command>,
    /// A question that is asked along the way.
    pub(super) probe: Option<Command>,
    /// The data goes to the server.
    pub(super) uploads: bool,
}

impl Ask {
    pub(super) fn new(command: Command) -> Self {
        Ask { command, from: 0, text: false, first: None, probe: None, uploads: false }
    }
}

impl Transfer {
    /// Begins one on a connection of the pool. An idle connection may have ended unnoticed, or have used up
    /// the TLS sessions that the server wants resumed: then once more on another one; nothing was moved yet.
    pub(super) async fn open(pool: &std::sync::Arc<Pool>, ask: &Ask) -> Result<Transfer> {
        let turn = if ask.uploads { Some(pool.turn().await?) } else { None };
        let lease = Self::lease(pool).await?;
        let fresh = lease.fresh;
        let mut begun = Self::begin(lease, ask).await;
        if let Err(e) = &begun
            && Self::is_worth_another(pool, e, fresh)
        {
            begun = Self::begin(Self::lease(pool).await?, ask).await;
        }
        let mut transfer = begun?;
        transfer.lease.turn = turn;
        Ok(transfer)
    }

    /// Whether it was the connection's fault.
    fn is_worth_another(pool: &Pool, e: &Error, fresh: bool) -> bool {
        let code = e.wire().map(|w| w.code);
        let stale = !fresh && e.kind() == ErrorKind::Disconnected && matches!(code, None | Some(421));
        let unresumed = code == Some(522) && pool.dialer.learned(|l| l.only_tls12);
        stale || unresumed
    }

    /// A connection with something left to be resumed: servers that want that would refuse the others.
    async fn lease(pool: &std::sync::Arc<Pool>) -> Result<Lease> {
        loop {
            let lease = pool.lease().await?;
            if lease.fresh || lease.tls.as_ref().is_none_or(|t| t.tickets() != Some(0)) {
                return Ok(lease);
            }
            // Where this happens again the server gives no tickets with data connections (ProFTPD), and TLS
            // 1.2 serves better.
            pool.dialer.learned(|l| {
                l.dry += 1;
                l.only_tls12 |= l.dry > DRY;
            });
            lease.hang_up();
        }
    }

    /// Begins one. Errors: the server's refusal, or why there is no data connection.
    pub(super) async fn begin(mut lease: Lease, ask: &Ask) -> Result<Transfer> {
        let way = way(&mut lease).await?;
        let mut before = Vec::new();
        if lease.text != ask.text {
            let form = if ask.text { "A" } else { "I" };
            before.push(lease.submit(&Command::with("TYPE", form))?);
            lease.text = ask.text;
        }
        if let Some(first) = &ask.first {
            before.push(lease.submit(first)?);
        }
        let probe = match &ask.probe {
            Some(probe) => Some(lease.submit(probe)?),
            None => None,
        };
        let restart = if ask.from > 0 {
            Some(lease.submit(&Command::with("REST", ask.from.to_string()))?)
        } else {
            None
        };
        let token = lease.submit(&ask.command)?;
        lease.transfers += 1;
        let pool = std::sync::Arc::clone(lease.pool());
        let dialer = &pool.dialer;
        let compressed = dialer.learned(|l| l.compressed);
        let tls = match &lease.tls {
            Some(_) if !dialer.options.resume_tls => Some(dialer.tls_login().map_err(Error::from)?),
            tls => tls.clone(),
        };
        let dry = tls.as_ref().is_some_and(|t| t.tickets() == Some(0));
        let opening = data::open(way, dialer, tls, compressed, ask.uploads);
        let mut opening = std::pin::pin!(opening);
        let mut opened: Option<Result<Data>> = None;
        let first = {
            let asking = lease.begun(token);
            let mut asking = std::pin::pin!(asking);
            loop {
                tokio::select! {
                    biased;
                    first = &mut asking => break first,
                    data = &mut opening, if opened.is_none() => {
                        if data.is_err() {
                            // The server's words tell more, if it has any.
                            opened = Some(data);
                            match tokio::time::timeout(WORDS, &mut asking).await {
                                Ok(first) => break first,
                                Err(_) => break Ok((true, Reply::new(150, ""))),
                            }
                        }
                        opened = Some(data);
                    }
                }
            }
        };
        let (goes_on, reply) = match first {
            Ok(first) => first,
            Err(e) => return Err(e),
        };
        for token in before {
            let reply = lease.answer(token).await?;
            if reply.code >= 300 {
                return Err(error_of(&reply));
            }
        }
        if !goes_on && reply.code >= 300 {
            if dry && matches!(reply.code, 425 | 522 | 421 | 450) {
                // The server wants a resumed session and its tickets are used up.
                dialer.learned(|l| l.only_tls12 = true);
                lease.hang_up();
            }
            return Err(error_of(&reply));
        }
        if let Some(restart) = restart {
            let reply = lease.answer(restart).await?;
            if reply.code != 350 {
                // The data begins somewhere else than was asked for: the transfer is dropped.
                let e = error_of(&reply);
                return Err(if is_unknown(&reply) {
                    e.with_hint("the server cannot begin in the middle of a file")
                } else {
                    e
                });
            }
        }
        let opened = match opened {
            Some(opened) => opened,
            None => opening.await,
        };
        let data = match opened {
            Ok(data) => data,
            Err(e) => {
                // The answer that is still owed may take the server's own time-out: not worth waiting for.
                lease.hang_up();
                return Err(e);
            }
        };
        if data.wire().speaks_tls13() && dry {
            tracing::debug!("a data connection without a resumed TLS session");
        }
        let probed = match probe {
            Some(probe) => Some(lease.answer(probe).await?),
            None => None,
        };
        let last = (!goes_on).then_some(reply);
        Ok(Transfer { lease, data, token, last, probed })
    }

    /// The answer to the question that was asked along the way.
    pub(super) fn probed(&self) -> Option<&Reply> {
        self.probed.as_ref()
    }

    /// Appends up to `len` bytes of content; 0 at the end of data, which only [`Transfer::finish`] makes a
    /// success.
    pub(super) async fn read(&mut self, buf: &mut BytesMut, len: usize) -> Result<usize> {
        match self.data.read(buf, len).await {
            Ok(n) => {
                self.lease.pool().places.moves();
                Ok(n)
            }
            Err(e) => Err(self.broken(e).await),
        }
    }

    /// Sends all of `data`.
    pub(super) async fn write(&mut self, data: &[u8]) -> Result<()> {
        match self.data.write(data).await {
            Ok(()) => {
                self.lease.pool().places.moves();
                Ok(())
            }
            Err(e) => Err(self.broken(e).await),
        }
    }

    /// Why the data connection broke: the server's words where it has some.
    async fn broken(&mut self, e: io::Error) -> Error {
        if self.lease.pool().dialer.cut.is_cancelled() {
            return Error::new(ErrorKind::Canceled);
        }
        let late = e.kind() == io::ErrorKind::TimedOut;
        if self.last.is_none() && !late {
            match self.lease.answer_within(self.token, WORDS).await {
                Ok(reply) => self.last = Some(reply),
                Err(e) if e.kind() != ErrorKind::TimedOut => return e,
                Err(_) => {}
            }
        }
        if let Some(reply) = self.last.as_ref().filter(|r| r.code >= 300) {
            return error_of(reply);
        }
        let kind = if late { ErrorKind::TimedOut } else { ErrorKind::Disconnected };
        Error::new(kind)
            .with_detail(format!("the data connection broke: {e}"))
            .with_source(e)
            .with_retry(Retry::AfterReconnect)
    }

    /// Ends a transfer whose data has ended: the server's verdict. Gives the control connection back; where
    /// another transfer is likely its port is on the way already.
    pub(super) async fn finish(mut self) -> Result<(Reply, Lease)> {
        let ahead = self.lease.transfers > 1;
        if ahead {
            // The server has sent all and reads commands again.
            ask_ahead(&mut self.lease);
        }
        // Some servers wait for our end before they say their last word, and the kernel may wait with the
        // acknowledgement of theirs: 40 ms for each file.
        self.data.hang_up().await;
        self.verdict().await
    }

    /// Ends an upload: end of data, then the verdict.
    pub(super) async fn finish_writing(mut self) -> Result<(Reply, Lease)> {
        if let Err(e) = self.data.end().await {
            return Err(self.broken(e).await);
        }
        self.verdict().await
    }

    async fn verdict(mut self) -> Result<(Reply, Lease)> {
        let reply = match self.last.take() {
            Some(reply) => reply,
            None => {
                let patience = self.lease.pool().dialer.options.timeout * PUBLISH;
                let waiting = self.lease.answer_within(self.token, patience);
                tokio::pin!(waiting);
                let reply = tokio::select! {
                    biased;
                    () = self.data.drain() => waiting.await?,
                    reply = &mut waiting => reply?,
                };
                // TLS tickets that came with the handshake: the next connection needs one.
                self.data.take_waiting();
                reply
            }
        };
        if reply.code >= 300 {
            return Err(error_of(&reply));
        }
        Ok((reply, self.lease))
    }

    /// Asks the server to throw away what it got (ABOR), and hangs the data connection up. The final reply
    /// of the upload comes back, and the connection where it is of more use.
    pub(super) async fn abort(self) -> (Option<Reply>, Option<Lease>) {
        let Transfer { mut lease, data, token, last, .. } = self;
        let abor = lease.submit(&Command::new("ABOR"));
        if lease.flush().await.is_err() {
            return (last, None);
        }
        // The end of data could overtake the word: a server that listens is given the time to hear it. vsftpd
        // listens only after the data has ended.
        let deaf = lease.pool().dialer.facts.get().is_some_and(|f| f.kind == ServerKind::Vsftpd);
        let mut last = last;
        if last.is_none() && !deaf {
            last = lease.try_answer(token, HEARD).await;
        }
        drop(data);
        let last = match last {
            Some(last) => Some(last),
            None => lease.answer_within(token, WORDS).await.ok(),
        };
        // Some servers answer once to both.
        let second = match abor {
            Ok(abor) => lease.answer_within(abor, Duration::from_secs(2)).await.is_ok(),
            Err(_) => false,
        };
        let lease = if last.is_some() && second { Some(lease) } else { None };
        (last, lease)
    }

    /// Breaks off so that the server can tell it from an end: the control connection goes first.
    pub(super) fn hang_up(self) {
        let Transfer { lease, data, .. } = self;
        lease.hang_up();
        drop(data);
    }
}

fn passive_command(lease: &Lease) -> Command {
    let epsv = lease.peer.is_ipv6() && !is_mapped(lease) || !lease.pool().dialer.learned(|l| l.no_epsv);
    Command::new(if epsv { "EPSV" } else { "PASV" })
}

fn is_mapped(lease: &Lease) -> bool {
    lease.peer.ip().to_canonical().is_ipv4()
}

/// Asks for the next transfer's port without waiting.
pub(super) fn ask_ahead(lease: &mut Lease) {
    let passive = lease.pool().dialer.options.mode == DataMode::Passive;
    if passive && lease.ahead.is_none() {
        let command = passive_command(lease);
        if let Ok(token) = lease.submit(&command) {
            lease.ahead = Some((token, Instant::now()));
        }
    }
}

/// Agrees on how the data connection comes about.
async fn way(lease: &mut Lease) -> Result<Way> {
    if lease.pool().dialer.options.mode == DataMode::Active {
        return active(lease).await;
    }
    let ahead = lease.ahead.take();
    if let Some((token, asked)) = ahead {
        let reply = lease.answer(token).await?;
        if asked.elapsed() < FRESH
            && let Some(way) = way_of(lease, &reply)
        {
            return Ok(way);
        }
    }
    let command = passive_command(lease);
    let reply = lease.call(&command).await?;
    if let Some(way) = way_of(lease, &reply) {
        return Ok(way);
    }
    if command.verb() == "EPSV" && (lease.peer.is_ipv4() || is_mapped(lease)) {
        let reply = lease.call(&Command::new("PASV")).await?;
        if let Some(way) = way_of(lease, &reply) {
            // Remembered for all connections to this server.
            lease.pool().dialer.learned(|l| l.no_epsv = true);
            return Ok(way);
        }
        return Err(refusal(&reply));
    }
    Err(refusal(&reply))
}

fn refusal(reply: &Reply) -> Error {
    if reply.code >= 400 {
        return error_of(reply).with_hint("the server opens no passive port; try active mode");
    }
    Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's passive port cannot be understood")
}

fn way_of(lease: &Lease, reply: &Reply) -> Option<Way> {
    if let Some(port) = passive::extended(reply) {
        return Some(Way::To(std::net::SocketAddr::new(lease.peer.ip(), port), lease.peer));
    }
    let told = passive::passive(reply)?;
    let trust = lease.pool().dialer.options.trust_passive_address;
    Some(Way::To(passive::target(told, lease.peer, trust), lease.peer))
}

async fn active(lease: &mut Lease) -> Result<Way> {
    let listener = TcpListener::bind((lease.local.ip(), 0)).await?;
    let address = listener.local_addr()?;
    let mut command = Command::with("EPRT", passive::extended_port(address));
    let plain = passive::port(address).map(|p| Command::with("PORT", p));
    if let Some(plain) = plain.as_ref().filter(|_| lease.pool().dialer.learned(|l| l.no_epsv)) {
        command = plain.clone();
    }
    let mut reply = lease.call(&command).await?;
    if reply.code >= 300
        && let Some(plain) = plain.filter(|p| p.verb() != command.verb())
    {
        reply = lease.call(&plain).await?;
        if reply.code < 300 {
            lease.pool().dialer.learned(|l| l.no_epsv = true);
        }
    }
    if reply.code >= 300 {
        return Err(error_of(&reply).with_hint("the server does not connect to us; try passive mode"));
    }
    Ok(Way::From(listener, lease.peer))
}
