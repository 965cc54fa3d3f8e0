//! The client's side of the dialogue, pure: commands in, bytes out; bytes in, answers out.
//!
//! Contract: [`Machine::submit`] a command or [`Machine::receive`] bytes, then [`Machine::poll`] until it
//! is empty. Commands may be submitted before earlier ones are answered (pipelining); answers carry the
//! token of their command. FTP has no numbers: the n-th command is answered by the n-th final reply.
//!
//! Promises: no byte of one answer reaches another command; a server that says more than it was asked, or
//! nonsense, ends the dialogue; 421 ends it with the server's words, whoever was waiting. No I/O, no clock.
//! Deliberately absent: what a reply means (`refine`), the data connection, time-outs (the driver's).

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use suppaftp::Status;

use crate::wire::reply::Reply;
use crate::wire::reply_parser::ReplyParser;

/// Commands that may wait for an answer.
const MAX_PENDING: usize = 64;
/// The longest command, bytes.
const MAX_COMMAND: usize = 16 * 1024;

/// Which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

/// A command: a verb and its argument.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    verb: &'static str,
    argument: Option<Bytes>,
    secret: bool,
}

impl Command {
    /// A verb alone.
    pub const fn new(verb: &'static str) -> Self {
        Command { verb, argument: None, secret: false }
    }

    /// With an argument.
    pub fn with(verb: &'static str, argument: impl Into<Bytes>) -> Self {
        Command { verb, argument: Some(argument.into()), secret: false }
    }

    /// With an argument that nobody may see.
    pub fn secret(verb: &'static str, argument: &str) -> Self {
        Command { verb, argument: Some(Bytes::copy_from_slice(argument.as_bytes())), secret: true }
    }

    /// A whole line as it stands, which nobody may see: there may be anything in it.
    pub fn raw(line: impl Into<Bytes>) -> Self {
        Command { verb: "", argument: Some(line.into()), secret: true }
    }

    /// The verb.
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// Whether a 1xx reply comes before the final one, with data between.
    fn transfers(&self) -> bool {
        matches!(self.verb, "RETR" | "STOR" | "STOU" | "APPE" | "LIST" | "NLST" | "MLSD")
    }

    /// Writes it. A byte 255 is doubled (RFC 959, section 3.2.2: Telnet) unless the server takes bytes as they come.
    /// Errors: `InvalidPath` for what cannot stand in a line.
    fn encode(&self, out: &mut BytesMut, telnet: bool) -> Result<()> {
        let argument = self.argument.as_deref().unwrap_or_default();
        if argument.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(Error::new(ErrorKind::InvalidPath)
                .with_detail("FTP has no way to name what holds a line end or a NUL"));
        }
        if argument.len() > MAX_COMMAND {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("a command that is too long"));
        }
        out.reserve(self.verb.len() + argument.len() + 3);
        out.put_slice(self.verb.as_bytes());
        if self.argument.is_some() && !self.verb.is_empty() {
            out.put_u8(b' ');
        }
        for part in argument.split_inclusive(|b| *b == 255) {
            out.put_slice(part);
            if telnet && part.last() == Some(&255) {
                out.put_u8(255);
            }
        }
        out.put_slice(b"\r\n");
        Ok(())
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.verb)?;
        match &self.argument {
            // Of a line as it stands, the verb.
            Some(line) if self.secret && self.verb.is_empty() => {
                let verb = line.split(|b| *b == b' ').next().unwrap_or_default();
                write!(f, "{} …", display_bytes(verb))
            }
            Some(_) if self.secret => f.write_str(" …"),
            Some(argument) => write!(f, " {}", display_bytes(argument)),
            None => Ok(()),
        }
    }
}

/// What the machine wants or tells.
#[derive(Clone, Debug)]
pub enum Output {
    /// The data connection may be used; the final answer follows.
    Begun(Token, Reply),
    /// The final answer.
    Done(Token, Reply),
    /// The dialogue has ended; nothing follows.
    Ended(Error),
}

struct Pending {
    token: Token,
    transfers: bool,
    begun: bool,
}

/// The dialogue.
pub struct Machine {
    parser: ReplyParser,
    pending: VecDeque<Pending>,
    out: BytesMut,
    events: VecDeque<Output>,
    next: u64,
    ended: Option<Error>,
    /// The server undoes what Telnet asks for.
    telnet: bool,
}

impl Machine {
    /// A dialogue that begins with the server's greeting, which answers the first token.
    pub fn new() -> (Self, Token) {
        let token = Token(0);
        let greeting = Pending { token, transfers: false, begun: false };
        let machine = Machine {
            parser: ReplyParser::default(),
            pending: VecDeque::from([greeting]),
            out: BytesMut::new(),
            events: VecDeque::new(),
            next: 1,
            ended: None,
            telnet: true,
        };
        (machine, token)
    }

    /// From now on bytes go as they are: to a server that takes them so.
    pub fn without_telnet(&mut self) {
        self.telnet = false;
    }

    /// Puts a command into the queue. Errors: `InvalidPath`, `TooLarge`, `Throttled` (too many wait), or
    /// why the dialogue has ended; nothing was queued.
    pub fn submit(&mut self, command: &Command) -> Result<Token> {
        if let Some(e) = &self.ended {
            return Err(e.clone());
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Error::new(ErrorKind::Throttled).with_detail("too many commands wait for an answer"));
        }
        command.encode(&mut self.out, self.telnet)?;
        let token = Token(self.next);
        self.next += 1;
        self.pending.push_back(Pending { token, transfers: command.transfers(), begun: false });
        Ok(token)
    }

    /// The bytes to be sent; whoever sends them takes them off the head.
    pub fn to_send(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Takes what arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.ended.is_some() {
            return;
        }
        self.parser.receive(bytes);
        loop {
            match self.parser.next_reply() {
                Ok(Some(reply)) => self.replied(reply),
                Ok(None) => return,
                Err(malformed) => {
                    self.end(Error::new(ErrorKind::PeerMisbehaved).with_detail(malformed.words()).with_hint(
                        "the server may speak another protocol, or TLS from the first byte, on this port",
                    ))
                }
            }
            if self.ended.is_some() {
                return;
            }
        }
    }

    /// The server closed the connection, or it broke.
    pub fn lost(&mut self, why: Error) {
        self.end(why);
    }

    fn replied(&mut self, reply: Reply) {
        if Status::from(u32::from(reply.code)) == Status::NotAvailable {
            let e = Error::new(ErrorKind::Disconnected)
                .with_detail(format!("the server ended the connection: {}", text_of(&reply)))
                .with_wire(421, text_of(&reply));
            return self.end(e);
        }
        let Some(pending) = self.pending.front_mut() else {
            let e = Error::new(ErrorKind::PeerMisbehaved)
                .with_detail(format!("the server says unasked: {} {}", reply.code, text_of(&reply)))
                .with_wire(u32::from(reply.code), text_of(&reply));
            return self.end(e);
        };
        if reply.code < 200 {
            // Of several preliminary replies (120, marks) the first is the one that tells.
            if pending.transfers && !std::mem::replace(&mut pending.begun, true) {
                self.events.push_back(Output::Begun(pending.token, reply));
            }
            return;
        }
        if let Some(pending) = self.pending.pop_front() {
            self.events.push_back(Output::Done(pending.token, reply));
        }
    }

    fn end(&mut self, e: Error) {
        if self.ended.is_none() {
            self.ended = Some(e.clone());
            self.pending.clear();
            self.out.clear();
            self.events.push_back(Output::Ended(e));
        }
    }

    /// The next thing to tell.
    pub fn poll(&mut self) -> Option<Output> {
        self.events.pop_front()
    }

    /// How many commands wait for their final answer, of those behind `aside`.
    pub fn pending_behind(&self, aside: Option<Token>) -> usize {
        self.pending.iter().filter(|p| Some(p.token) > aside).count()
    }

    /// Why it has ended, once it has.
    pub fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// Whether nothing of the server's waits to be read. Before TLS begins this must hold: what was said
    /// in the clear must not be believed later.
    pub fn is_quiet(&self) -> bool {
        self.parser.is_empty() && self.pending.is_empty() && self.events.is_empty()
    }
}

/// A reply's words, cleaned, in one line.
pub fn text_of(reply: &Reply) -> String {
    let lines: Vec<String> = reply
        .lines
        .iter()
        .filter(|l| !l.is_empty())
        .take(8)
        .map(|l| display_bytes(l.get(..512).unwrap_or(l)).trim().to_owned())
        .collect();
    lines.join(" ")
}
