//! The server's side of the dialogue, pure: bytes in, replies and calls out.
//!
//! Contract: feed one input (`receive`, `complete`, `tell`, `end_of_input`), then `poll` until it is empty
//! and take the output; time and addresses come with the answers to calls. One command at a time is carried
//! out and replies are in the order of commands; while a transfer runs, ABOR is seen wherever it stands
//! among what waits, and STAT where it is next.
//!
//! It owns what FTP keeps between commands: the working directory, type, mode, offsets, what RNFR named.
//! Deliberately absent: sockets, users, files, time, and whatever passes a data connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind};
use session_core::fs::Algorithm;
use session_core::metadata::Attributes;
use session_core::path::VPath;
use session_core::reason::Reason;
use session_core::session::{Actor, Argument, Ending};

use super::options::{ControlPolicy, DataPolicy};
use super::table::{self, Row, Takes, Verb};
use crate::listing::facts::Facts;
use crate::status;
use crate::wire::command::{Command, Malformed};
use crate::wire::line::{Line, Lines};
use crate::wire::reply::Reply;

/// What is kept of commands that wait, beyond one line, bytes.
const WAITING: usize = 16 * 1024;
/// Lines that are no commands, before a login, until the connection ends: it speaks something else.
const NONSENSE: u32 = 10;

/// What a machine must know of its server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// AUTH TLS is offered.
    pub tls: bool,
    /// TLS is there from the beginning.
    pub implicit: bool,
    /// Whether the control connection must be protected.
    pub control: ControlPolicy,
    /// Whether data connections must be protected.
    pub data: DataPolicy,
    /// The longest line.
    pub max_line: usize,
    /// PORT and EPRT are served.
    pub active: bool,
    /// MODE Z is served.
    pub mode_z: bool,
    /// TYPE A changes line ends.
    pub ascii: bool,
    /// Data may go to and from other servers.
    pub foreign: bool,
}

impl Default for Settings {
    /// Plain FTP.
    fn default() -> Self {
        Settings {
            tls: false,
            implicit: false,
            control: ControlPolicy::Allow,
            data: DataPolicy::Deny,
            max_line: 4096,
            active: false,
            mode_z: true,
            ascii: true,
            foreign: false,
        }
    }
}

/// How a listing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// LIST.
    Long,
    /// MLSD.
    Facts(Facts),
    /// NLST.
    Names,
}

/// What is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Show {
    /// How.
    pub form: Form,
    /// A directory, or one entry.
    pub path: VPath,
    /// The entry itself rather than what it holds.
    pub itself: bool,
    /// Only names that fit.
    pub pattern: Option<Bytes>,
    /// Stands before each name in a list of names.
    pub prefix: Bytes,
}

/// What a data connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A listing.
    Show(Show),
    /// A download.
    Retrieve {
        /// The file.
        path: VPath,
        /// Which of its bytes.
        range: Range<u64>,
    },
    /// An upload.
    Store {
        /// The file; with `unique`, the name to begin with.
        path: VPath,
        /// Where the first byte goes.
        offset: u64,
        /// Everything goes to the end.
        append: bool,
        /// A name of our choice.
        unique: bool,
        /// What ALLO announced.
        expected: Option<u64>,
    },
}

/// TLS with another server at the other end of the data connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// We are the client of TLS (SSCN ON, CPSV).
    pub begins: bool,
    /// The SHA-256 of the certificate that it must show.
    pub peer: Option<[u8; 32]>,
}

/// A transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What moves.
    pub what: What,
    /// Line ends are changed.
    pub ascii: bool,
    /// It is compressed, at this level.
    pub level: Option<u32>,
    /// Under TLS.
    pub private: bool,
    /// With another server.
    pub foreign: Option<Foreign>,
}

/// What the machine wants done. One at a time; each is answered by `complete`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "fields are what their names say")]
pub enum Call {
    /// An answer to the question of a login: `NeedsAnswer`, `LoggedIn`, `Rejected`, `Exhausted`.
    Answer(Secret),
    /// The address of an active data connection: `Ok`.
    Active(SocketAddr),
    /// Whether hooks object: `Ok`.
    Ask { verb: &'static str, argument: String },
    /// A directory to be in: `Ok`.
    ChangeDir(VPath),
    /// What the client calls itself: `Ok`.
    Client(Bytes),
    /// A copy: `Ok`.
    Copy { from: VPath, to: VPath },
    /// A new directory: `Ok`.
    CreateDir(VPath),
    /// A digest: `Digest`.
    Digest { path: VPath, algorithm: Algorithm, range: Range<u64> },
    /// Whether there is an entry: `Ok`.
    Exists(VPath),
    /// The facts of one entry: `Lines` with one.
    Facts { path: VPath, facts: Facts },
    /// Another site: `Words` of its greeting.
    Host(String),
    /// The last words: `Words`.
    Leave,
    /// The user leaves, the connection stays: `Words` of a greeting.
    LogOut,
    /// The time of the last change: `Time`.
    Modified(VPath),
    /// Carries out what was opened: `Moved`.
    Move,
    /// Opens what a data connection is for: `Opened`.
    Open(Transfer),
    /// A port for a data connection: `Address`. With `family`, only if that is ours.
    Passive { extended: bool, family: Option<u8> },
    /// A password: `NeedsAnswer`, `LoggedIn`, `Rejected`, `Exhausted`.
    Password(Secret),
    /// A directory removed: `Ok`.
    RemoveDir(VPath),
    /// A file removed: `Ok`.
    RemoveFile(VPath),
    /// A rename: `Ok`.
    Rename { from: VPath, to: VPath },
    /// Attributes: `Ok`.
    SetAttributes { path: VPath, attributes: Box<Attributes> },
    /// A listing in the reply: `Lines`.
    Show(Show),
    /// A size: `Number`.
    Size(VPath),
    /// Room: `Number`.
    Space(VPath),
    /// The handshake; the reply before it must have left: `Ok`.
    StartTls,
    /// A symbolic link: `Ok`.
    Symlink { target: Bytes, at: VPath },
    /// A name to log in with: `Ok` where a password is wanted, `NeedsAnswer`; `LoggedIn` where what TLS has
    /// shown is enough.
    User(String),
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "fields are what their names say")]
pub enum Done {
    Ok,
    Address(SocketAddr),
    Digest { digest: Bytes, range: Range<u64> },
    Exhausted,
    Lines(Vec<Bytes>),
    LoggedIn { home: VPath, words: Vec<Bytes> },
    Moved { bytes: u64 },
    NeedsAnswer(String),
    Number(u64),
    Opened { size: Option<u64>, name: Option<VPath> },
    Rejected,
    Time(SystemTime),
    Words(Vec<Bytes>),
}

/// Why a call failed, with the code where the place knows better than the kind.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The reply's code.
    pub code: Option<u16>,
    /// What failed.
    pub error: Error,
}

impl Fault {
    /// With a code of its own.
    pub fn with_code(code: u16, error: Error) -> Self {
        Fault { code: Some(code), error }
    }

    fn reply(&self) -> Reply {
        status::with_code(self.code.unwrap_or_else(|| status::code(self.error.kind())), &self.error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault { code: None, error }
    }
}

/// What the machine wants of its driver.
#[derive(Debug)]
pub enum Output {
    /// The transfer that runs is to be given up; its call still gets its answer.
    Abort,
    /// A command begins: the session notes it. Secrets are masked.
    Begin {
        /// The verb.
        verb: &'static str,
        /// Its argument.
        argument: Argument,
    },
    /// A call.
    Call(Call),
    /// The connection ends, once everything is sent.
    Close(Ending),
    /// The command that runs is over.
    End,
    /// A failure of the dialogue that no call knows of: the session notes it.
    Failed(Error),
    /// STAT wants to know how things are: `tell` is the answer.
    Status {
        /// The command that runs, where one does.
        during: Option<&'static str>,
    },
}

/// Where the command that runs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Hooks are asked.
    Asked,
    /// It is called.
    Called,
    /// Its data moves.
    Moving,
}

struct Current {
    row: &'static Row,
    name: &'static str,
    argument: Bytes,
    stage: Stage,
}

/// What a command leads to.
pub(super) enum Step {
    /// A call; more follows with its answer.
    Call(Call),
    /// A call whose answer needs nothing but this reply.
    CallThen(Call, Reply),
    /// A call after this reply.
    ReplyThen(Reply, Call),
    /// The end of the command.
    Reply(Reply),
    /// STAT.
    Status,
}

/// The dialogue of one connection.
pub struct Machine {
    pub(super) settings: Settings,
    lines: Lines,
    out: BytesMut,
    status: Option<u16>,
    outputs: VecDeque<Output>,
    current: Option<Current>,
    /// The reply to a call that went well, where it is known before.
    then: Option<Reply>,
    ended: bool,
    closed: bool,
    quitting: bool,
    nonsense: u32,
    pub(super) state: State,
}

/// What FTP keeps between commands.
pub(super) struct State {
    pub(super) secure: bool,
    pub(super) logged_in: bool,
    pub(super) user: bool,
    pub(super) anonymous: bool,
    pub(super) asked: bool,
    pub(super) cwd: VPath,
    pub(super) ascii: bool,
    pub(super) compressed: bool,
    pub(super) level: u32,
    pub(super) rest: u64,
    pub(super) rang: Option<(u64, u64)>,
    pub(super) allo: Option<u64>,
    pub(super) rename_from: Option<VPath>,
    pub(super) copy_from: Option<VPath>,
    /// Where the client will be once it was found that one can be there.
    pub(super) next_dir: Option<VPath>,
    pub(super) pbsz: bool,
    pub(super) private: bool,
    /// SSCN and what OPTS SSCN told of the other server.
    pub(super) foreign: Foreign,
    /// CPSV was sent for the next transfer.
    pub(super) cpsv: bool,
    pub(super) epsv_all: bool,
    pub(super) data: bool,
    pub(super) facts: Facts,
    pub(super) algorithm: Algorithm,
}

impl State {
    fn new(secure: bool, private: bool) -> Self {
        State {
            secure,
            logged_in: false,
            user: false,
            anonymous: false,
            asked: false,
            cwd: VPath::root(),
            ascii: true,
            compressed: false,
            level: 6,
            rest: 0,
            rang: None,
            allo: None,
            rename_from: None,
            copy_from: None,
            next_dir: None,
            pbsz: private,
            private,
            foreign: Foreign::default(),
            cpsv: false,
            epsv_all: false,
            data: false,
            facts: Facts::ALL,
            algorithm: Algorithm::Sha256,
        }
    }
}

impl Machine {
    /// A machine before its greeting.
    pub fn new(settings: Settings) -> Self {
        let implicit = settings.implicit;
        Machine {
            lines: Lines::new(settings.max_line),
            settings,
            out: BytesMut::new(),
            status: None,
            outputs: VecDeque::new(),
            current: None,
            then: None,
            ended: false,
            closed: false,
            quitting: false,
            nonsense: 0,
            state: State::new(implicit, implicit),
        }
    }

    /// Says the greeting.
    pub fn greet(&mut self, words: Vec<Bytes>) {
        self.reply(&Reply::lines(220, words));
    }

    /// Takes what arrived on the control connection.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.lines.receive(bytes);
        if self.is_moving() && self.lines.holds(b"ABOR") {
            self.outputs.push_back(Output::Abort);
        }
    }

    /// Nothing more arrives.
    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// Whether input has ended and the client did not say goodbye: it is gone.
    pub fn client_vanished(&self) -> bool {
        self.ended && !self.quitting && !self.lines.holds(b"QUIT")
    }

    /// Whether more input may be taken.
    pub fn wants_input(&self) -> bool {
        !self.closed && !self.ended && self.lines.len() <= self.settings.max_line + WAITING
    }

    /// Whether no command runs and none waits.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.outputs.is_empty()
    }

    /// Whether a transfer runs.
    pub fn is_moving(&self) -> bool {
        self.current.as_ref().is_some_and(|c| c.stage == Stage::Moving)
    }

    /// Whether the dialogue is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether somebody is logged in.
    pub fn is_logged_in(&self) -> bool {
        self.state.logged_in
    }

    /// Replies that wait to be sent.
    pub fn take_output(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).freeze())
    }

    /// The code of the last reply, once.
    pub fn take_status(&mut self) -> Option<u16> {
        self.status.take()
    }

    /// Ends the dialogue with these words.
    pub fn close(&mut self, code: u16, words: &str, ending: Ending) {
        if !self.closed {
            self.reply(&Reply::new(code, words.to_owned()));
            self.shut(ending);
        }
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        self.status = Some(reply.code);
        reply.encode(&mut self.out);
    }

    fn shut(&mut self, ending: Ending) {
        self.closed = true;
        self.lines.discard();
        self.outputs.push_back(Output::Close(ending));
    }

    /// What is to be done next; `None` until there is another input.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.closed {
                return None;
            }
            if let Some(current) = &self.current {
                // While data moves only STAT is answered, and only where it is next (RFC 959, 4.1.3).
                if current.stage == Stage::Moving && self.next_is_stat() {
                    let during = Some(current.name);
                    self.lines.next_line();
                    self.outputs.push_back(Output::Status { during });
                    continue;
                }
                return None;
            }
            match self.lines.next_line() {
                Some(Line::Text(line)) => self.begin(&line),
                Some(Line::TooLong) => self.nonsense("the line is too long"),
                None if self.ended => self.shut(Ending::new("the client left", Actor::Client)),
                None => return None,
            }
        }
    }

    fn next_is_stat(&self) -> bool {
        self.lines.begins_with(b"STAT")
    }

    fn nonsense(&mut self, words: &'static str) {
        self.refuse_line(words, Reason::ProtocolBroken);
    }

    fn refuse_line(&mut self, words: &'static str, why: Reason) {
        self.reply(&Reply::new(500, words));
        let e = Error::new(ErrorKind::PeerMisbehaved).with_detail(words).because(why);
        self.outputs.push_back(Output::Failed(e));
        self.nonsense += 1;
        if self.nonsense >= NONSENSE && !self.state.logged_in {
            let ending = Ending::new("the client does not speak FTP", Actor::Server);
            self.close(421, "this is not FTP", ending.because(Reason::ProtocolBroken));
        }
    }

    /// One command from its line.
    fn begin(&mut self, line: &Bytes) {
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(Malformed::Verb) => return self.nonsense("this is no command"),
            Err(Malformed::Argument) => {
                self.reply(&Reply::new(501, "an argument holds no control characters"));
                return;
            }
        };
        let word = command.verb.as_str();
        let Some((row, name)) = table::row(word) else {
            // A browser that was lured here must not get far.
            if !self.state.logged_in && matches!(word, "GET" | "POST" | "PUT" | "HEAD" | "CONNECT") {
                let ending = Ending::new("the client does not speak FTP", Actor::Server);
                return self.close(421, "this is not HTTP", ending.because(Reason::ProtocolBroken));
            }
            return self.refuse_line("this command is not known", Reason::CommandDenied);
        };
        let masked = matches!(row.verb, Verb::Pass | Verb::Acct) && !command.argument.is_empty();
        let shown = if masked { "***".into() } else { String::from_utf8_lossy(&command.argument) };
        let argument = if shown.is_empty() { Argument::None } else { Argument::Text(shown.as_ref().into()) };
        self.outputs.push_back(Output::Begin { verb: name, argument });
        let asked = shown.into_owned();
        if let Err(reply) = self.admits(row, &command.argument) {
            self.reply(&reply);
            self.outputs.push_back(Output::End);
            return;
        }
        let current = Current { row, name, argument: command.argument, stage: Stage::Asked };
        if row.operation.is_none() {
            self.current = Some(current);
            self.outputs.push_back(Output::Call(Call::Ask { verb: name, argument: asked }));
            return;
        }
        self.current = Some(current);
        self.carry_out();
    }

    /// What the row says, asked in one place.
    fn admits(&self, row: &Row, argument: &[u8]) -> Result<(), Reply> {
        let s = &self.state;
        if !s.secure && !row.clear {
            let credentials = matches!(row.verb, Verb::User | Verb::Pass | Verb::Acct);
            let refuse = match self.settings.control {
                ControlPolicy::Allow => false,
                ControlPolicy::Require => true,
                ControlPolicy::RequireCredentials => match row.verb {
                    Verb::User => !is_anonymous(argument),
                    Verb::Pass | Verb::Acct => !s.anonymous,
                    _ => false,
                },
            };
            if refuse {
                return Err(Reply::new(if credentials { 530 } else { 534 }, "TLS is required: AUTH TLS"));
            }
        }
        if row.login && !s.logged_in {
            return Err(Reply::new(530, "log in with USER and PASS"));
        }
        if row.takes == Takes::Something && argument.is_empty() {
            return Err(Reply::new(501, format!("{} {}", row.name, row.help)));
        }
        if row.data {
            if self.settings.data == DataPolicy::Require && !s.private {
                return Err(Reply::new(521, "data must be protected: PROT P"));
            }
            if !s.data {
                return Err(Reply::new(425, "no data connection: EPSV or PASV first"));
            }
        }
        Ok(())
    }

    /// Carries out what was asked for.
    fn carry_out(&mut self) {
        let Some(current) = &mut self.current else { return };
        current.stage = Stage::Called;
        let (row, argument) = (current.row, current.argument.clone());
        let step = self.step(row, &argument);
        match step {
            Ok(Step::Reply(reply)) | Err(reply) => self.finish(&reply),
            Ok(Step::Call(call)) => self.outputs.push_back(Output::Call(call)),
            Ok(Step::CallThen(call, reply)) => {
                self.then = Some(reply);
                self.outputs.push_back(Output::Call(call));
            }
            Ok(Step::ReplyThen(reply, call)) => {
                self.reply(&reply);
                // What was sent in the clear must not act under TLS (RFC 4217, section 15.1).
                self.lines.discard();
                self.outputs.push_back(Output::Call(call));
            }
            Ok(Step::Status) => self.outputs.push_back(Output::Status { during: None }),
        }
    }

    fn finish(&mut self, reply: &Reply) {
        self.reply(reply);
        self.current = None;
        self.then = None;
        self.outputs.push_back(Output::End);
    }

    /// The answer to STAT.
    pub fn tell(&mut self, lines: Vec<Bytes>) {
        let reply = Reply::lines(211, lines);
        if self.is_moving() {
            self.reply(&reply);
        } else {
            self.finish(&reply);
        }
    }

    /// The answer to a call.
    pub fn complete(&mut self, result: Result<Done, Fault>) {
        let Some(current) = &self.current else { return };
        let (row, stage, argument) = (current.row, current.stage, current.argument.clone());
        let done = match result {
            Ok(done) => done,
            Err(fault) => return self.failed(row, &fault),
        };
        if stage == Stage::Asked {
            return self.carry_out();
        }
        if let Some(reply) = self.then.take() {
            if let Some(dir) = self.state.next_dir.take() {
                self.state.cwd = dir;
            }
            return self.finish(&reply);
        }
        match (row.verb, done) {
            (_, Done::Opened { size, name }) => self.opened(size, name.as_ref()),
            (_, Done::Moved { bytes }) => {
                self.finish(&Reply::new(226, format!("Transfer complete, {bytes} bytes")));
            }
            (Verb::Auth, _) => self.secured(),
            (Verb::Quit, Done::Words(words)) => {
                self.finish(&Reply::lines(221, words));
                self.shut(Ending::new("the client left", Actor::Client));
            }
            (Verb::Pass | Verb::Acct, Done::Exhausted) => {
                self.finish(&Reply::new(530, "Login incorrect"));
                self.close(
                    421,
                    "too many failed logins",
                    Ending::new("too many failed logins", Actor::Server).because(Reason::TooManyTries),
                );
            }
            (_, done) => {
                let reply = self.answered(row, &argument, done);
                self.finish(&reply);
            }
        }
    }

    fn failed(&mut self, row: &'static Row, fault: &Fault) {
        let reply = fault.reply();
        self.forget(row.verb);
        self.finish(&reply);
        if row.verb == Verb::Auth {
            // After 234 there is nothing to go back to.
            self.out.clear();
            let ending = Ending::new("the TLS handshake failed", Actor::Client);
            self.shut(ending.because(Reason::HandshakeFailed));
        }
    }

    /// The file is open, or the listing begun: the data may come.
    fn opened(&mut self, size: Option<u64>, name: Option<&VPath>) {
        let words = match (name, size) {
            (Some(name), _) => {
                // RFC 1123, section 4.1.2.9: this form and no other.
                [b"FILE: ", name.as_bytes()].concat()
            }
            (None, Some(size)) => format!("Opening data connection ({size} bytes)").into_bytes(),
            (None, None) => b"Opening data connection".to_vec(),
        };
        self.reply(&Reply::new(150, words));
        if let Some(current) = &mut self.current {
            current.stage = Stage::Moving;
        }
        self.outputs.push_back(Output::Call(Call::Move));
        if self.lines.holds(b"ABOR") {
            self.outputs.push_back(Output::Abort);
        }
    }

    /// TLS stands: nothing from before is left (RFC 4217, section 4.2).
    fn secured(&mut self) {
        self.lines.discard();
        self.state = State::new(true, false);
        self.current = None;
        self.outputs.push_back(Output::End);
    }

    /// The user has left: all but TLS is as in the beginning.
    pub(super) fn reset(&mut self) {
        self.state = State::new(self.state.secure, self.settings.implicit);
    }
}

/// The names that RFC 1635 gives to everybody.
pub(super) fn is_anonymous(user: &[u8]) -> bool {
    user.eq_ignore_ascii_case(b"anonymous") || user.eq_ignore_ascii_case(b"ftp")
}
