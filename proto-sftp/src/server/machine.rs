//! The server's machine: give it bytes and the outcomes of calls, then poll until it is empty.
//!
//! Pure: no I/O, no clock, no filesystem. It cuts packets, plans them by the table, keeps the order that
//! [`super::order`] demands, bounds what runs and what waits, and writes the replies. Replies leave in
//! whatever order their calls end; the protocol allows that.
//!
//! Promises: every request that was decoded is answered exactly once; nothing a peer sends makes it
//! panic or hold more than [`Bounds`] say; without input wanted ([`Machine::wants_input`]) the driver
//! must not give any, which is how a slow reader or a slow store slows the peer.
//! Standard: draft-ietf-secsh-filexfer-02.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Follow, OpenOptions, Replace};
use session_core::metadata::{Attributes, DirEntry, Metadata};
use session_core::path::VPath;
use session_core::session::Argument;

use super::handles::{self, Handles};
use super::order::Footprint;
use super::outbox::{Outbox, PIECE};
use super::table::{self, Effect, Plan, Planned, Planner};
use crate::status;
use crate::wire::codec::Frame;
use crate::wire::packet::{self, DATA_HEADER, FromClient, Init, Version, data_header, kind};
use crate::wire::{Attrs, Extension, Frames, MAX_FRAME, Reply, Request, extension, longname};

/// What a session may hold at once.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Calls running.
    pub max_running: usize,
    /// Requests taken in and not answered, running ones included.
    pub max_requests: usize,
    /// Bytes of content that requests hold before no more input is wanted.
    pub max_held: usize,
    /// Bytes of replies ready or promised by running reads.
    pub max_promised: usize,
    /// Open handles.
    pub max_handles: usize,
    /// Longest packet told to clients that ask.
    pub max_packet: usize,
    /// Most bytes of one READ; the rest of a longer one is left to the next.
    pub max_read: usize,
}

impl Default for Bounds {
    /// 64 calls, 256 requests, 4 MiB in, 8 MiB out, 1,024 handles, packets of 256 KiB.
    fn default() -> Self {
        Bounds {
            max_running: 64,
            max_requests: 256,
            max_held: 4 << 20,
            max_promised: 8 << 20,
            max_handles: 1024,
            max_packet: 256 * 1024,
            max_read: 255 * 1024,
        }
    }
}

/// Which call an outcome belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a call is about.
#[derive(Clone, Debug, PartialEq)]
pub enum At {
    /// An open file.
    Handle(u64),
    /// A path.
    Path(VPath),
}

/// What the driver is asked to do. `handle` is the number under which it keeps what it opened.
#[derive(Debug)]
#[allow(missing_docs)] // fields are named after the operations' own
pub enum Call {
    CheckFile {
        at: At,
        check: Box<extension::CheckFile>,
        old: bool,
    },
    /// Forget a directory or a file that was only read.
    Close {
        handle: u64,
    },
    /// Ask the session whether a command that is no operation may pass.
    Command {
        verb: &'static str,
        argument: String,
    },
    /// Publish a written file and forget it.
    Commit {
        handle: u64,
    },
    CopyData {
        source: u64,
        source_offset: u64,
        len: u64,
        target: u64,
        target_offset: u64,
    },
    CreateDir {
        path: VPath,
        attributes: Box<Attributes>,
    },
    HardLink {
        from: VPath,
        to: VPath,
    },
    HomeDirectory {
        user: Bytes,
    },
    /// Begin a listing.
    List {
        handle: u64,
        path: VPath,
    },
    /// Names of numeric owners.
    Names {
        uids: Vec<u32>,
        gids: Vec<u32>,
    },
    Open {
        handle: u64,
        path: VPath,
        options: Box<OpenOptions>,
    },
    /// The next entries of a listing.
    Page {
        handle: u64,
    },
    /// Read after what `buf` holds (room for a header) and give it back as [`Done::Content`].
    Read {
        handle: u64,
        offset: u64,
        len: usize,
        buf: BytesMut,
    },
    ReadLink {
        path: VPath,
    },
    RemoveDir {
        path: VPath,
    },
    RemoveFile {
        path: VPath,
    },
    Rename {
        from: VPath,
        to: VPath,
        replace: Replace,
    },
    SetAttributes {
        at: At,
        attributes: Box<Attributes>,
        follow: Follow,
    },
    Space {
        path: VPath,
    },
    Stat {
        at: At,
        follow: Follow,
    },
    Symlink {
        target: Bytes,
        link: VPath,
    },
    Sync {
        handle: u64,
    },
    Write {
        handle: u64,
        offset: u64,
        data: Bytes,
    },
}

/// How a call succeeded.
#[derive(Debug)]
pub enum Done {
    /// The body of an extended reply.
    Body(Bytes),
    /// The buffer of a read with what was read; nothing read is the end of file.
    Content(BytesMut),
    /// The end of a listing.
    Eof,
    /// Entries of a listing, no more than [`page_size`] allows, and the time for `ls`-like lines.
    Entries(Vec<DirEntry>, SystemTime),
    /// What an entry is.
    Metadata(Metadata),
    /// Nothing to tell.
    Ok,
    /// A path.
    Path(Bytes),
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Output {
    /// Make this call and give its outcome to [`Machine::complete`].
    Call {
        /// The call's name.
        token: Token,
        /// The request's name.
        verb: &'static str,
        /// What it is about, for the live view.
        argument: Argument,
        /// The call.
        call: Call,
    },
    /// The peer broke the protocol or was turned away: nothing more is read. What arrived before is
    /// still carried out and answered.
    Close(Error),
    /// A request was turned down before any call was made.
    Rejected(Error),
}

#[derive(Debug)]
struct Active {
    id: u32,
    verb: &'static str,
    footprint: Footprint,
    blockers: usize,
    waiting: Option<(Call, Argument)>,
    effect: Effect,
    held: usize,
    promised: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but INIT is understood.
    Fresh,
    /// INIT is being asked about.
    Greeting,
    Open,
    /// No more input is looked at.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    bounds: Bounds,
    home: VPath,
    link_first: bool,
    state: State,
    frames: Frames,
    handles: Handles,
    active: BTreeMap<Token, Active>,
    ready: VecDeque<Token>,
    renames: Vec<(Token, (VPath, VPath))>,
    next: u64,
    running: usize,
    held: usize,
    promised: usize,
    outbox: Outbox,
    outputs: VecDeque<Output>,
    last_status: Option<u32>,
}

/// How many replies may lie ready before no further call is begun.
const OUT_READY: usize = 2 * PIECE;
/// The most bytes of one NAME packet: every client takes packets of 34,000 bytes (draft section 3).
const NAME_BYTES: usize = 32_000;

/// How much of a NAME packet an entry takes, at most. A page holds entries up to [`page_size`].
pub fn entry_size(entry: &DirEntry) -> usize {
    let names = [&entry.metadata.owner, &entry.metadata.group].map(|n| n.as_ref().map_or(8, |n| n.len()));
    2 * entry.name.len() + names.iter().sum::<usize>() + 140
}

/// The most that the entries of a page may add up to; one entry may be larger.
pub fn page_size() -> usize {
    NAME_BYTES
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new(Bounds::default())
    }
}

impl Machine {
    /// A machine for a new session.
    pub fn new(bounds: Bounds) -> Self {
        Machine {
            handles: Handles::new(bounds.max_handles),
            bounds,
            home: VPath::root(),
            link_first: false,
            state: State::Fresh,
            frames: Frames::new(MAX_FRAME),
            active: BTreeMap::new(),
            ready: VecDeque::new(),
            renames: Vec::new(),
            next: 0,
            running: 0,
            held: 0,
            promised: 0,
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            last_status: None,
        }
    }

    /// The same machine with relative paths beginning at `home` instead of the root.
    pub fn with_home(mut self, home: VPath) -> Self {
        self.home = home;
        self
    }

    /// The same machine for a client that sends SYMLINK in the draft's order, the link before its target.
    pub fn with_link_first(mut self, yes: bool) -> Self {
        self.link_first = yes;
        self
    }

    /// Bytes from the peer.
    pub fn receive(&mut self, bytes: Bytes) {
        if self.state != State::Closed {
            self.frames.push(bytes);
            self.decode();
        }
    }

    /// The peer has sent all it will. What was taken in is still carried out.
    pub fn end_of_input(&mut self) {
        // Whole packets may wait in the frames for room; they are decoded as room comes.
        self.decode();
    }

    /// Whether the driver may give more bytes.
    pub fn wants_input(&self) -> bool {
        self.state != State::Closed
            && (self.active.is_empty()
                || (self.active.len() < self.bounds.max_requests
                    && self.held + self.frames.buffered() < self.bounds.max_held))
    }

    /// What to do next; `None` until there is more input or an outcome, or until output was taken.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let begin = self.running < self.bounds.max_running
                && self.outbox.len() < OUT_READY
                && (self.running == 0 || self.outbox.len() + self.promised < self.bounds.max_promised);
            if begin && let Some(token) = self.ready.pop_front() {
                if let Some(output) = self.begin(token) {
                    return Some(output);
                }
                continue;
            }
            // Room may have come since the last packet was decoded.
            if self.decode() == 0 {
                return None;
            }
        }
    }

    fn begin(&mut self, token: Token) -> Option<Output> {
        let active = self.active.get_mut(&token)?;
        let (mut call, argument) = active.waiting.take()?;
        if let Call::Read { len, buf, .. } = &mut call {
            *buf = self.outbox.room(DATA_HEADER + *len);
            buf.resize(DATA_HEADER, 0);
            active.promised = *len;
            self.promised += *len;
        }
        self.running += 1;
        Some(Output::Call { token, verb: active.verb, argument, call })
    }

    /// The outcome of a call.
    pub fn complete(&mut self, token: Token, outcome: Result<Done>) {
        let Some(entry) = self.active.remove(&token) else { return };
        self.running = self.running.saturating_sub(1);
        self.held -= entry.held.min(self.held);
        self.promised -= entry.promised.min(self.promised);
        self.renames.retain(|(t, _)| *t != token);
        match (&entry.effect, outcome.is_ok()) {
            (Effect::Opens(handle), true) => self.handles.opened(*handle),
            (Effect::Opens(handle), false) | (Effect::Closes(handle), _) => self.handles.remove(*handle),
            (Effect::Renames(from, to, last), true) => self.handles.renamed(from, to, *last),
            _ => {}
        }
        if entry.effect == Effect::Greets {
            self.greet(outcome);
            return;
        }
        self.answer(entry.id, entry.effect, outcome);
        for (later, other) in self.active.range_mut(token..) {
            if other.blockers > 0 && entry.footprint.holds_back(&other.footprint) {
                other.blockers -= 1;
                if other.blockers == 0 {
                    self.ready.push_back(*later);
                }
            }
        }
    }

    /// The next piece for the transport; ask when it is free, so that replies gather while it is not.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.outbox.take()
    }

    /// Whether every request is answered and every reply taken.
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.outbox.is_empty() && self.outputs.is_empty()
    }

    /// Gives back the memory that only work needs; for when the machine is idle and nothing arrives.
    pub fn relax(&mut self) {
        self.outbox.relax();
        if self.active.is_empty() {
            self.ready.shrink_to_fit();
        }
    }

    /// Whether the peer broke the protocol, or was turned away.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Nothing more is looked at and nothing waiting is begun; calls that run may still complete.
    pub fn stop(&mut self) {
        self.state = State::Closed;
        self.ready.clear();
        self.active.retain(|_, a| a.waiting.is_none());
        self.held = 0;
    }

    /// How many handles are open or being opened.
    pub fn open_handles(&self) -> usize {
        self.handles.len()
    }

    /// The code of the last STATUS since this was last asked.
    pub fn take_status(&mut self) -> Option<u32> {
        self.last_status.take()
    }

    /// Decodes what is there as far as there is room; answers how many packets.
    fn decode(&mut self) -> usize {
        let mut count = 0;
        while matches!(self.state, State::Fresh | State::Open)
            && self.active.len() < self.bounds.max_requests
            && (self.held < self.bounds.max_held || self.active.is_empty())
        {
            let frame = match self.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(e) => {
                    self.close(e.into());
                    break;
                }
            };
            count += 1;
            match (FromClient::decode(frame), self.state) {
                (Ok(FromClient::Init(init)), State::Fresh) => self.init(&init),
                (Ok(FromClient::Request(id, request)), State::Open) => self.request(id, request),
                (Ok(FromClient::Init(_)), _) => {
                    self.close(Error::new(ErrorKind::PeerMisbehaved).with_detail("a second INIT"));
                }
                (_, State::Fresh) => {
                    self.close(
                        Error::new(ErrorKind::PeerMisbehaved).with_detail("the first packet is no INIT"),
                    );
                }
                (Ok(FromClient::Request(..)), _) => {}
                (Err(e), _) => match e.id {
                    Some(id) => self.reject(id, e.into()),
                    None => self.close(e.into()),
                },
            }
        }
        count
    }

    fn init(&mut self, init: &Init) {
        if init.version < packet::VERSION {
            self.close(Error::new(ErrorKind::Unsupported).with_detail(format!(
                "the client speaks version {} of SFTP, not {}",
                init.version,
                packet::VERSION
            )));
            return;
        }
        self.state = State::Greeting;
        let version = init.version.to_string();
        self.enqueue(
            0,
            "INIT",
            Plan {
                call: Call::Command { verb: "INIT", argument: version.clone() },
                footprint: Footprint::default(),
                argument: Argument::Text(version.into()),
                effect: Effect::Greets,
            },
        );
    }

    fn greet(&mut self, outcome: Result<Done>) {
        if let Err(e) = outcome {
            self.close(e);
            return;
        }
        if self.state != State::Greeting {
            return;
        }
        self.state = State::Open;
        let pair = |name: &'static str, data: &'static str| {
            (Bytes::from_static(name.as_bytes()), Bytes::from_static(data.as_bytes()))
        };
        let mut extensions: Vec<_> = Extension::ALL
            .iter()
            .filter(|e| **e != Extension::VendorId)
            .map(|e| pair(e.name(), e.data()))
            .collect();
        extensions.push(pair(extension::NEWLINE, "\n"));
        let version = Version { version: packet::VERSION, extensions };
        self.outbox.write(|out| version.encode(out));
    }

    fn request(&mut self, id: u32, request: Request) {
        let request = match request {
            Request::Symlink { target, link } if self.link_first => {
                Request::Symlink { target: link, link: target }
            }
            other => other,
        };
        let renames: Vec<_> = self.renames.iter().map(|(_, r)| r.clone()).collect();
        let mut planner =
            Planner { handles: &mut self.handles, renames: &renames, bounds: &self.bounds, home: &self.home };
        let (verb, planned) = table::plan(&mut planner, request);
        match planned {
            Ok(Planned::Answer(reply)) => self.reply(id, &reply),
            Ok(Planned::Call(plan)) => self.enqueue(id, verb, *plan),
            Err(e) => self.reject(id, e),
        }
    }

    fn enqueue(&mut self, id: u32, verb: &'static str, plan: Plan) {
        let Plan { call, footprint, argument, effect } = plan;
        let token = Token(self.next);
        self.next += 1;
        let blockers = self.active.values().filter(|a| a.footprint.holds_back(&footprint)).count();
        let held = if let Call::Write { data, .. } = &call { data.len() } else { 0 };
        self.held += held;
        if let Effect::Renames(from, to, _) = &effect {
            self.renames.push((token, (from.clone(), to.clone())));
        }
        if blockers == 0 {
            self.ready.push_back(token);
        }
        let waiting = Some((call, argument));
        self.active
            .insert(token, Active { id, verb, footprint, blockers, waiting, effect, held, promised: 0 });
    }

    fn reject(&mut self, id: u32, e: Error) {
        self.reply(id, &status::reply(&e));
        self.outputs.push_back(Output::Rejected(e));
    }

    fn close(&mut self, e: Error) {
        self.state = State::Closed;
        self.outputs.push_back(Output::Close(e));
    }

    fn reply(&mut self, id: u32, reply: &Reply) {
        if let Reply::Status { code, .. } = reply {
            self.last_status = Some(*code);
        }
        self.outbox.write(|out| reply.encode(id, out));
    }

    fn answer(&mut self, id: u32, effect: Effect, outcome: Result<Done>) {
        let reply = match outcome {
            Err(e) => status::reply(&e),
            Ok(Done::Content(buf)) => {
                self.content(id, buf);
                return;
            }
            Ok(Done::Entries(entries, now)) if !entries.is_empty() => {
                self.outbox.write(|out| names(out, id, &entries, now));
                return;
            }
            Ok(Done::Entries(..) | Done::Eof) => status::eof(),
            Ok(Done::Body(body)) => Reply::Extended(body),
            Ok(Done::Metadata(m)) => Reply::Attrs(Attrs::of(&m)),
            Ok(Done::Path(path)) => Reply::path(path),
            Ok(Done::Ok) => match effect {
                Effect::Answers(reply) => reply,
                Effect::Opens(handle) => Reply::Handle(handles::to_wire(handle)),
                _ => status::ok(),
            },
        };
        self.reply(id, &reply);
    }

    fn content(&mut self, id: u32, mut buf: BytesMut) {
        let len = buf.len().saturating_sub(DATA_HEADER);
        match buf.get_mut(..DATA_HEADER) {
            Some(header) if len > 0 => {
                header.copy_from_slice(&data_header(id, len));
                self.outbox.push(buf);
            }
            _ => {
                // Gives the memory back before the STATUS is written.
                drop(buf);
                self.reply(id, &status::eof());
            }
        }
    }
}

/// Writes a NAME packet.
fn names(out: &mut BytesMut, id: u32, entries: &[DirEntry], now: SystemTime) {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut line = BytesMut::new();
    let mut frame = Frame::begin(out, kind::NAME).u32(id).u32(count);
    for entry in entries {
        line.clear();
        longname::write(&mut line, &entry.name, &entry.metadata, now);
        frame = frame.string(&entry.name).string(&line).with(|out| Attrs::of(&entry.metadata).encode(out));
    }
    frame.end();
}
