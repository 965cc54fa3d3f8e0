//! The client's machine: ids, what each one waits for, the greeting and what it taught. Pure.
//!
//! Contract: feed one input ([`Machine::submit`], [`Machine::receive`], [`Machine::forget`],
//! [`Machine::end`]), then drain [`Machine::poll`] (for whoever waits) and [`Machine::poll_send`] (for
//! the wire) until both are empty. The two are separate because two tasks drain them.
//!
//! Promises: replies in any order; a reply that fits no request, a reply of the wrong type, and bytes
//! that are no SFTP end the connection with `PeerMisbehaved`. A forgotten request's reply is thrown
//! away, and a handle that comes late is closed. Content of WRITE and DATA is never copied here.
//!
//! Deliberately absent: clocks, limits on how much is asked (the driver's), what a reply means.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::{VPath, display_bytes};

use crate::status;
use crate::wire::extension::decode_limits;
use crate::wire::packet::VERSION;
use crate::wire::{Extended, Extension, Extensions, Frames, FromServer, Init, Reply, Request, Version};

/// Content of this size and above travels as its own chunk; smaller content is copied behind its header.
const OWN_CHUNK: usize = 16 * 1024;
/// Small packets are collected into chunks of about this size.
const CHUNK: usize = 32 * 1024;
/// The length of a request that every server of version 3 must take (draft section 3).
const USUAL_LEN: u32 = 32 * 1024;
/// The longest content asked for or sent in one request, whatever the server allows: with its header it
/// stays below what both OpenSSH and we accept as a packet.
const MAX_LEN: u32 = 255 * 1024;
/// The draft's bound for a handle.
const MAX_HANDLE: usize = 256;

/// A request under way. Unique until its reply was polled or it was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u32);

/// What the greeting taught about the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Negotiated {
    /// What it announced.
    pub extensions: Extensions,
    /// The longest READ, in bytes.
    pub read_len: u32,
    /// The longest WRITE, in bytes of content.
    pub write_len: u32,
    /// How many handles it keeps open; `None` if it does not say.
    pub max_handles: Option<u64>,
    /// Where relative paths begin; the root if the server would not tell.
    pub home: VPath,
    /// The server works off what concerns one handle in the order of arrival, so that FSETSTAT and
    /// CLOSE may follow WRITEs at once. Known of servers that announce `fsync@openssh.com`; others
    /// (Go's) run requests side by side.
    pub ordered: bool,
}

impl Negotiated {
    /// Whether the server has `extension`.
    pub fn has(&self, extension: Extension) -> bool {
        self.extensions.has(extension)
    }
}

/// What the machine has to say.
#[derive(Clone, Debug)]
pub enum Event {
    /// The greeting is over; requests may be submitted.
    Ready(Arc<Negotiated>),
    /// The answer to a request.
    Reply(Token, Reply),
    /// Nothing more will come; every request that is still open has failed with this. Said once.
    Ended(Error),
}

/// Which reply a request may get, beside a STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Any,
    Attrs,
    Data(u32),
    Extended,
    Handle,
    Home,
    Limits,
    Name,
    Status,
}

impl Expect {
    fn of(request: &Request) -> Self {
        match request {
            Request::Close { .. }
            | Request::Fsetstat { .. }
            | Request::Mkdir { .. }
            | Request::Remove { .. }
            | Request::Rename { .. }
            | Request::Rmdir { .. }
            | Request::Setstat { .. }
            | Request::Symlink { .. }
            | Request::Write { .. } => Expect::Status,
            Request::Open { .. } | Request::Opendir { .. } => Expect::Handle,
            Request::Unknown { .. } => Expect::Any,
            Request::Fstat { .. } | Request::Lstat { .. } | Request::Stat { .. } => Expect::Attrs,
            Request::Read { len, .. } => Expect::Data(*len),
            Request::Readdir { .. } | Request::Readlink { .. } | Request::Realpath { .. } => Expect::Name,
            Request::Extended(e) => match e {
                Extended::CheckFileHandle { .. }
                | Extended::CheckFileName { .. }
                | Extended::Fstatvfs { .. }
                | Extended::Limits
                | Extended::Statvfs { .. }
                | Extended::UsersGroupsById { .. } => Expect::Extended,
                Extended::ExpandPath { .. } | Extended::HomeDirectory { .. } => Expect::Name,
                Extended::CopyData { .. }
                | Extended::Fsync { .. }
                | Extended::Hardlink { .. }
                | Extended::Lsetstat { .. }
                | Extended::PosixRename { .. }
                | Extended::VendorId { .. } => Expect::Status,
                Extended::Unknown { .. } => Expect::Any,
            },
        }
    }

    /// What is wrong with `reply`, if anything is.
    fn fault(self, reply: &Reply) -> Option<&'static str> {
        match (self, reply) {
            (Expect::Any | Expect::Status | Expect::Home | Expect::Limits, Reply::Status { .. }) => None,
            (_, Reply::Status { code: 0, .. }) => Some("the server says ok where it owes an answer"),
            (_, Reply::Status { .. }) | (Expect::Any, _) => None,
            (Expect::Attrs, Reply::Attrs(_)) => None,
            (Expect::Data(asked), Reply::Data(data)) => {
                (data.len() > asked as usize).then_some("the server sends more than was asked")
            }
            (Expect::Extended | Expect::Limits, Reply::Extended(_)) => None,
            (Expect::Handle, Reply::Handle(handle)) => {
                (handle.len() > MAX_HANDLE).then_some("the server sends a handle that is too long")
            }
            (Expect::Name | Expect::Home, Reply::Name(_)) => None,
            _ => Some("the server's answer does not fit the request"),
        }
    }
}

struct Waiting {
    expect: Expect,
    forgotten: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// INIT was sent.
    Greeting,
    /// VERSION came; so many answers about limits and home are still out.
    Learning(u8),
    Ready,
    Ended(Error),
}

/// One SFTP conversation, seen from the client.
pub struct Machine {
    frames: Frames,
    state: State,
    /// The first bytes that came, to explain what came instead of SFTP.
    first: Vec<u8>,
    next_id: u32,
    waiting: HashMap<u32, Waiting>,
    learned: Negotiated,
    events: VecDeque<Event>,
    sends: VecDeque<Bytes>,
    tail: BytesMut,
    queued: usize,
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new()
    }
}

impl Machine {
    /// A new conversation; the greeting is ready to be sent.
    pub fn new() -> Self {
        let mut machine = Machine {
            frames: Frames::default(),
            state: State::Greeting,
            first: Vec::new(),
            next_id: 0,
            waiting: HashMap::new(),
            learned: Negotiated {
                extensions: Extensions::default(),
                read_len: USUAL_LEN,
                write_len: USUAL_LEN,
                max_handles: None,
                home: VPath::root(),
                ordered: false,
            },
            events: VecDeque::new(),
            sends: VecDeque::new(),
            tail: BytesMut::new(),
            queued: 0,
        };
        Init { version: VERSION, extensions: Vec::new() }.encode(&mut machine.tail);
        machine.queued = machine.tail.len();
        machine
    }

    /// Puts a request into the queue. Errors: the one that ended the connection; `Internal` before the
    /// greeting is over.
    pub fn submit(&mut self, request: Request) -> Result<Token> {
        match &self.state {
            State::Ready => Ok(self.enqueue(Expect::of(&request), request)),
            State::Ended(e) => Err(e.clone()),
            State::Greeting | State::Learning(_) => {
                Err(Error::new(ErrorKind::Internal).with_detail("a request before the greeting was over"))
            }
        }
    }

    /// Puts a request into the queue whose reply nobody wants. Nothing if the connection has ended.
    pub fn submit_forgotten(&mut self, request: Request) {
        if let Ok(token) = self.submit(request) {
            self.forget(token);
        }
    }

    /// Nobody waits for this request any more: its reply will be thrown away, a handle that it brings
    /// closed.
    pub fn forget(&mut self, token: Token) {
        if let Some(waiting) = self.waiting.get_mut(&token.0) {
            waiting.forgotten = true;
        }
    }

    fn enqueue(&mut self, expect: Expect, request: Request) -> Token {
        let mut id = self.next_id;
        while self.waiting.contains_key(&id) {
            id = id.wrapping_add(1); // after a wrap; far fewer than 2^32 requests are under way
        }
        self.next_id = id.wrapping_add(1);
        self.waiting.insert(id, Waiting { expect, forgotten: false });
        let had = self.tail.len();
        match request {
            Request::Write { handle, offset, data } if data.len() >= OWN_CHUNK => {
                Request::encode_write_header(id, &handle, offset, data.len(), &mut self.tail);
                self.queued += self.tail.len() - had + data.len();
                self.sends.push_back(self.tail.split().freeze());
                self.sends.push_back(data);
            }
            request => {
                if self.tail.capacity() == had {
                    self.tail.reserve(1024);
                }
                request.encode(id, &mut self.tail);
                self.queued += self.tail.len() - had;
                if self.tail.len() >= CHUNK {
                    self.sends.push_back(self.tail.split().freeze());
                }
            }
        }
        Token(id)
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Requests without a reply, the forgotten ones included.
    pub fn outstanding(&self) -> usize {
        self.waiting.len()
    }

    /// The next bytes for the wire.
    pub fn poll_send(&mut self) -> Option<Bytes> {
        let chunk = match self.sends.pop_front() {
            Some(chunk) => chunk,
            None if self.tail.is_empty() => return None,
            None => self.tail.split().freeze(),
        };
        self.queued -= chunk.len();
        Some(chunk)
    }

    /// What happened.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes what came from the wire, cut anywhere. Ignored once the connection has ended.
    pub fn receive(&mut self, chunk: Bytes) {
        if matches!(self.state, State::Greeting) && self.first.len() < 256 {
            let room = 256 - self.first.len();
            self.first.extend(chunk.iter().take(room));
        }
        self.frames.push(chunk);
        while !matches!(self.state, State::Ended(_)) {
            let packet = match self.frames.next_frame() {
                Ok(Some(frame)) => FromServer::decode(frame),
                Ok(None) => return,
                Err(e) => Err(e),
            };
            let taken = match packet {
                Ok(FromServer::Version(v)) => self.greeted(v),
                Ok(FromServer::Reply(id, reply)) => self.reply(id, reply),
                Err(e) => Err(self.no_sftp(e.into())),
            };
            if let Err(e) = taken {
                self.end(e);
            }
        }
    }

    /// The wire has ended: every open request fails with `error`. The first word stands.
    pub fn end(&mut self, error: Error) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        self.state = State::Ended(error.clone());
        self.waiting.clear();
        self.sends.clear();
        self.tail = BytesMut::new();
        self.queued = 0;
        self.frames = Frames::new(0);
        self.events.push_back(Event::Ended(error));
    }

    /// What the end of the incoming stream means now.
    pub fn eof(&self) -> Error {
        let e = Error::new(ErrorKind::Disconnected);
        match self.state {
            State::Greeting if !self.first.is_empty() => self.no_sftp(e),
            State::Greeting => e
                .with_detail("the server closed the channel before SFTP began")
                .with_hint("check that the SFTP subsystem is switched on and the account may use it"),
            _ => e,
        }
    }

    /// `e`, with an explanation where the server talked text before SFTP began.
    fn no_sftp(&self, e: Error) -> Error {
        let text: Vec<u8> = self.first.iter().copied().take_while(|b| *b != b'\r' && *b != b'\n').collect();
        let printable = text.iter().take(4).filter(|b| matches!(b, b' '..=b'~' | b'\t' | 0x1b)).count() == 4;
        if !matches!(self.state, State::Greeting) || !printable {
            return e;
        }
        let shown = text.get(..text.len().min(80)).unwrap_or_default();
        e.with_detail(format!("the server sent text instead of SFTP: '{}'", display_bytes(shown))).with_hint(
            "a login script on the server may print something; it must be silent without a terminal",
        )
    }

    fn greeted(&mut self, v: Version) -> Result<()> {
        if !matches!(self.state, State::Greeting) {
            return Err(misbehaved("a second greeting"));
        }
        if v.version < VERSION {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail(format!("the server speaks SFTP version {} only", v.version)));
        }
        if v.version > VERSION {
            return Err(misbehaved("the server chose a version that was not offered"));
        }
        self.first = Vec::new();
        self.learned.extensions = Extensions::new(v.extensions);
        self.learned.ordered = self.learned.has(Extension::Fsync);
        let mut asked = 1;
        if self.learned.has(Extension::Limits) {
            self.enqueue(Expect::Limits, Request::Extended(Extended::Limits));
            asked += 1;
        }
        self.enqueue(Expect::Home, Request::Realpath { path: Bytes::from_static(b".") });
        self.state = State::Learning(asked);
        Ok(())
    }

    fn reply(&mut self, id: u32, reply: Reply) -> Result<()> {
        let Some(waiting) = self.waiting.remove(&id) else {
            return Err(misbehaved("an answer to nothing that was asked"));
        };
        if let Some(fault) = waiting.expect.fault(&reply) {
            return Err(misbehaved(fault));
        }
        match waiting.expect {
            Expect::Limits => self.limits(reply)?,
            Expect::Home => self.home(&reply),
            _ if waiting.forgotten => {
                if let Reply::Handle(handle) = reply {
                    self.submit_forgotten(Request::Close { handle });
                }
                return Ok(());
            }
            _ => {
                self.events.push_back(Event::Reply(Token(id), reply));
                return Ok(());
            }
        }
        if let State::Learning(left) = self.state {
            self.state = match left.saturating_sub(1) {
                0 => {
                    self.events.push_back(Event::Ready(Arc::new(self.learned.clone())));
                    State::Ready
                }
                left => State::Learning(left),
            };
        }
        Ok(())
    }

    /// A server that announces limits and then refuses to tell them is taken at the usual ones.
    fn limits(&mut self, reply: Reply) -> Result<()> {
        let Reply::Extended(body) = reply else { return Ok(()) };
        let limits = decode_limits(body)?;
        // A packet holds up to 1 KiB beside its content. 0 means no limit of that kind.
        let packet = if limits.max_packet_len == 0 { u64::MAX } else { limits.max_packet_len };
        let packet = packet.saturating_sub(1024).max(512);
        let len = |limit: u64| {
            let limit = if limit == 0 { u64::MAX } else { limit };
            u32::try_from(limit.min(packet)).map_or(MAX_LEN, |l| l.clamp(1, MAX_LEN))
        };
        self.learned.read_len = len(limits.max_read_len);
        self.learned.write_len = len(limits.max_write_len);
        self.learned.max_handles = (limits.max_open_handles != 0).then_some(limits.max_open_handles);
        Ok(())
    }

    fn home(&mut self, reply: &Reply) {
        if let Reply::Name(names) = reply
            && let Some(name) = names.first()
            && let Ok(home) = VPath::absolute(&name.name)
        {
            self.learned.home = home;
        }
    }
}

fn misbehaved(what: &'static str) -> Error {
    Error::new(ErrorKind::PeerMisbehaved).with_detail(what)
}

/// The error that a reply of the wrong type would be; the machine lets none through.
pub(super) fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Status { code, message, .. } => status::error(*code, message)
            .unwrap_or_else(|| misbehaved("the server says ok where it owes an answer")),
        _ => misbehaved("the server's answer does not fit the request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_use_are_skipped_when_the_count_wraps() {
        let mut machine = Machine { state: State::Ready, ..Machine::new() };
        let mut stat = || machine.submit(Request::Stat { path: Bytes::new() }).unwrap();
        let first = [stat(), stat()];
        machine.next_id = u32::MAX;
        let mut stat = || machine.submit(Request::Stat { path: Bytes::new() }).unwrap();
        assert_eq!(first, [Token(0), Token(1)]);
        assert_eq!([stat(), stat(), stat()], [Token(u32::MAX), Token(2), Token(3)]);
        assert_eq!(machine.outstanding(), 5);
    }
}
