//! Logs: lines for people or JSON on the error stream, and an audit file of every event.
//!
//! Whoever logs never waits for a disk or a pipe: lines go through a bounded queue to one thread for each
//! output; what does not fit is dropped, counted, and the count written as soon as there is room. A
//! failed login gives one stable line (`login failed user=… address=… method=… session=…`), its user name
//! escaped so that it cannot forge a field. Secrets do not come here: their type does not print.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Event, EventSink, What};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

/// The target of lines about logins; stable, for those who count failures.
const AUTH: &str = "auth";

/// Entries that may wait for an output.
const QUEUED: usize = 16_384;

enum Entry {
    Line(Vec<u8>),
    Event(Box<Said>),
    /// Nothing to write: the writer looks at its orders.
    Wake,
    Flush(SyncSender<()>),
}

/// One output: a bounded queue and the thread that empties it. Cheap to clone.
#[derive(Clone)]
pub struct Output {
    queue: SyncSender<Entry>,
    orders: Arc<Orders>,
}

/// What reaches the writer past a full queue.
#[derive(Default)]
struct Orders {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

impl Output {
    /// Lines to the standard error stream.
    pub fn stderr() -> Result<Output> {
        Output::start("log", Sink::Stderr)
    }

    /// Lines appended to a file, which is made with mode 0600. Errors: those of opening it.
    pub fn file(path: &Path) -> Result<Output> {
        let sink = Sink::File(path.to_path_buf(), open(path)?);
        Output::start("audit", sink)
    }

    fn start(name: &str, sink: Sink) -> Result<Output> {
        let (queue, entries) = sync_channel(QUEUED);
        let orders = Arc::<Orders>::default();
        let theirs = Arc::clone(&orders);
        std::thread::Builder::new().name(name.into()).spawn(move || write(&entries, sink, &theirs))?;
        Ok(Output { queue, orders })
    }

    fn push(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.orders.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many entries are dropped and not yet reported.
    pub fn dropped(&self) -> u64 {
        self.orders.dropped.load(Ordering::Relaxed)
    }

    /// Opens the file anew, after it was moved away. Never lost: what waits in the queue goes to the new
    /// file already.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
        // A full queue wakes the writer anyway.
        let _ = self.queue.try_send(Entry::Wake);
    }

    /// Waits until everything pushed so far is written, at most `patience`. Blocks the thread.
    pub fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (done, wait) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => entry = back,
                Err(_) => return,
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

enum Sink {
    Stderr,
    File(PathBuf, BufWriter<File>),
}

fn open(path: &Path) -> Result<BufWriter<File>> {
    let file = File::options().append(true).create(true).mode(0o600).open(path).map_err(|e| {
        Error::from(e).with_detail(format!("the audit file {} cannot be opened", path.display()))
    })?;
    Ok(BufWriter::with_capacity(64 << 10, file))
}

impl Sink {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stderr => io::stderr().lock().write_all(line),
            Sink::File(_, file) => file.write_all(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stderr => Ok(()),
            Sink::File(_, file) => file.flush(),
        }
    }

    fn reopen(&mut self) {
        if let Sink::File(path, file) = self {
            match open(path) {
                Ok(new) => *file = new,
                Err(e) => tracing::error!("{e}; the audit goes on in the old file"),
            }
        }
    }
}

fn write(entries: &Receiver<Entry>, mut sink: Sink, orders: &Orders) {
    let is_audit = matches!(sink, Sink::File(..));
    let mut said = false;
    loop {
        let entry = match entries.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                let _ = sink.flush();
                match entries.recv() {
                    Ok(entry) => entry,
                    Err(_) => break,
                }
            }
        };
        if orders.reopen.swap(false, Ordering::Acquire) {
            let _ = sink.flush();
            sink.reopen();
        }
        let lost = orders.dropped.swap(0, Ordering::Relaxed);
        let mut result = Ok(());
        if lost > 0 {
            let line = json!({ "event": "dropped", "count": lost }).to_string() + "\n";
            result = sink.put(line.as_bytes());
        }
        result = result.and(match entry {
            Entry::Line(line) => sink.put(&line),
            Entry::Event(said) => sink.put((said.to_json().to_string() + "\n").as_bytes()),
            Entry::Wake => Ok(()),
            Entry::Flush(done) => {
                let result = sink.flush();
                let _ = done.send(());
                result
            }
        });
        match result {
            Ok(()) => said = false,
            // Once per fault, or a full disk would fill the other log too.
            Err(e) if is_audit && !said => {
                said = true;
                tracing::error!(error = %e, "the audit file cannot be written");
            }
            Err(_) => {}
        }
    }
    let _ = sink.flush();
}

/// A line on its way to an [`Output`].
pub struct Line {
    output: Output,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.output.push(Entry::Line(std::mem::take(&mut self.bytes)));
        }
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { output: self.clone(), bytes: Vec::new() }
    }
}

type SetLevel = Box<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// The process's log, once it has begun.
pub struct Logging {
    /// Where lines go.
    pub output: Output,
    filter: SetLevel,
}

impl Logging {
    /// Begins the log of this process. Errors: `InvalidArgument` for a level that is none, or if the log
    /// began already.
    pub fn start(json: bool, level: &str) -> Result<Logging> {
        let output = Output::stderr()?;
        let (filter, handle) = reload::Layer::new(parse_level(level)?);
        let registry = tracing_subscriber::registry().with(filter);
        let began = if json {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
            registry.with(layer.with_writer(output.clone())).try_init()
        } else {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let layer = tracing_subscriber::fmt::layer().with_ansi(colour);
            registry.with(layer.with_writer(output.clone())).try_init()
        };
        began.map_err(|e| Error::new(ErrorKind::InvalidArgument).with_detail(e.to_string()))?;
        let filter = move |level: &str| {
            let filter = parse_level(level)?;
            handle.reload(filter).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))
        };
        Ok(Logging { output, filter: Box::new(filter) })
    }

    /// Changes the level. Errors: `InvalidArgument`.
    pub fn set_level(&self, level: &str) -> Result<()> {
        (self.filter)(level)
    }
}

/// A level (`info`) or a filter (`info,russh=debug`). The SSH library says little below `warn` that an
/// operator could use, the TLS library nothing below `error`: it warns of every client that comes by address.
pub fn parse_level(level: &str) -> Result<EnvFilter> {
    let text = match level {
        "error" | "warn" | "info" => format!("{level},russh=warn,rustls=error"),
        other => other.to_string(),
    };
    EnvFilter::try_new(text).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{level}' is no log level"))
            .with_hint("write error, warn, info, debug, trace, or a filter such as info,russh=debug")
            .with_source(e)
    })
}

/// An event, and what it does not say itself.
struct Said {
    address: Arc<str>,
    protocol: &'static str,
    /// Who was logged in when it happened.
    user: Option<Arc<str>>,
    event: Event,
}

impl Said {
    fn to_json(&self) -> Value {
        let mut v = self.event.to_json();
        if let Some(map) = v.as_object_mut() {
            map.insert("address".into(), (*self.address).into());
            map.insert("protocol".into(), self.protocol.into());
            if let Some(user) = &self.user {
                // A failed login names the user that was asked for.
                map.entry("user").or_insert_with(|| (**user).into());
            }
        }
        v
    }
}

/// The events of all sessions: to the log what an operator wants to see, to the audit file everything.
#[derive(Default)]
pub struct Journal {
    audit: Audit,
}

/// Read by every event, written by a reload.
type Audit = Arc<RwLock<Option<(PathBuf, Output)>>>;

impl Journal {
    /// Sets the audit file, or none, for the sessions that are there too; the same one is opened anew.
    /// Errors: those of opening it; then the old one stands.
    pub fn set_audit(&self, path: Option<&Path>) -> Result<()> {
        let new = match (path, self.current()) {
            (Some(path), Some((old, output))) if path == old => {
                output.reopen();
                return Ok(());
            }
            (Some(path), _) => Some((path.to_path_buf(), Output::file(path)?)),
            (None, _) => None,
        };
        *self.audit.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Waits until the audit file has everything, at most `patience`. Blocks the thread.
    pub fn flush(&self, patience: Duration) {
        if let Some((_, output)) = self.current() {
            output.flush(patience);
        }
    }

    /// Events that were dropped and not yet reported.
    pub fn dropped(&self) -> u64 {
        self.current().map_or(0, |(_, output)| output.dropped())
    }

    fn current(&self) -> Option<(PathBuf, Output)> {
        self.audit.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sink of one session.
    pub fn sink(&self, address: impl Into<Arc<str>>, protocol: &'static str) -> Arc<dyn EventSink> {
        let audit = Arc::clone(&self.audit);
        Arc::new(SessionSink { address: address.into(), protocol, user: Mutex::default(), audit })
    }
}

struct SessionSink {
    address: Arc<str>,
    protocol: &'static str,
    /// The last one who logged in.
    user: Mutex<Option<Arc<str>>>,
    audit: Audit,
}

impl EventSink for SessionSink {
    fn emit(&self, event: Event) {
        let (session, address) = (&event.session, &self.address);
        match &event.what {
            What::LoginFailed { user, method, reason, code } => {
                let (user, sub_status) = (escape(user), code.number());
                tracing::warn!(
                    target: AUTH, %user, %address, %method, %session, ?reason, sub_status, "login failed"
                );
            }
            What::LoggedIn { user, methods } => {
                *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(user));
                let (user, methods) = (escape(user), methods.join(","));
                tracing::info!(target: AUTH, %user, %address, %methods, %session, "logged in");
            }
            What::Closed(ending) => {
                let (reason, actor, sub_status) = (&*ending.reason, &ending.actor, ending.code.number());
                tracing::info!(%address, %session, ?reason, %actor, sub_status, "session closed");
            }
            What::Connected => tracing::debug!(%address, %session, "connected"),
            What::Started { .. } | What::Ended { .. } | What::Transfer(_) => {}
        }
        if let Some((_, audit)) = &*self.audit.read().unwrap_or_else(PoisonError::into_inner) {
            let user = self.user.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let address = Arc::clone(&self.address);
            audit.push(Entry::Event(Box::new(Said { address, protocol: self.protocol, user, event })));
        }
    }
}

/// A user name as a field that cannot end early: letters, digits and a few marks as they are, everything
/// else as `%XX` of its bytes; at most 128 bytes of the name.
pub fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for b in name.bytes().take(128) {
        if b.is_ascii_alphanumeric() || b"._@-+".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    if out.is_empty() { "-".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::auth::{
        Account, Authenticator, Check, Credential, Login, Method, Proof, Question, Secret, Step,
    };
    use session_core::reason::Reason;
    use session_core::session::{Actor, Ending, Protocol, Session, Setup};

    fn session(journal: &Journal) -> Arc<Session> {
        let mut setup = Setup::new(Protocol::Sftp, "site");
        setup.sink = Some(journal.sink("192.0.2.7", "SFTP"));
        Session::new(setup)
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[tokio::test]
    async fn the_audit_file_has_every_event_with_address_and_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let journal = Journal::default();
        journal.set_audit(Some(&path)).unwrap();
        let s = session(&journal);
        s.log_in(Account::named("alice"), vec!["password"]).unwrap();
        s.close(Ending::new("done", Actor::Client)).await;
        journal.flush(Duration::from_secs(5));
        let lines = lines(&path);
        let names: Vec<_> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["connected", "logged-in", "closed"]);
        assert!(lines.iter().all(|l| l["address"] == "192.0.2.7" && l["session"] == s.id().as_str()));
        assert_eq!(lines[2]["user"], "alice");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("a"), dir.path().join("a.1"));
        let journal = Journal::default();
        journal.set_audit(Some(&path)).unwrap();
        let _first = session(&journal);
        journal.flush(Duration::from_secs(5));
        std::fs::rename(&path, &old).unwrap();
        journal.set_audit(Some(&path)).unwrap();
        let _second = session(&journal);
        journal.flush(Duration::from_secs(5));
        assert_eq!((lines(&old).len(), lines(&path).len()), (1, 1));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_reported() {
        let (queue, entries) = sync_channel(1);
        let output = Output { queue, orders: Arc::default() };
        for n in 0..4 {
            output.push(Entry::Line(format!("\"{n}\"\n").into_bytes()));
        }
        assert_eq!(output.dropped(), 3);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let orders = Arc::clone(&output.orders);
        drop(output);
        write(&entries, Sink::File(path.clone(), open(&path).unwrap()), &orders);
        let lines = lines(&path);
        assert_eq!(lines[0], json!({ "event": "dropped", "count": 3 }));
        assert_eq!(lines[1], "0");
    }

    #[test]
    fn a_failed_login_is_one_line_that_a_name_cannot_forge() {
        let (queue, entries) = sync_channel(8);
        let output = Output { queue, orders: Arc::default() };
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(output).finish();
        let journal = Journal::default();
        let session = session(&journal);
        let sink = journal.sink("192.0.2.7", "SFTP");
        tracing::subscriber::with_default(subscriber, || {
            sink.emit(Event {
                sequence: 1,
                session: session.id().clone(),
                time: std::time::SystemTime::now(),
                what: What::LoginFailed {
                    user: "root address=127.0.0.1\nlogin failed".into(),
                    method: "password",
                    reason: "no such\nuser".into(),
                    code: Reason::WrongCredentials,
                },
            });
        });
        let Ok(Entry::Line(line)) = entries.try_recv() else { panic!("no line") };
        assert!(entries.try_recv().is_err());
        let line = String::from_utf8(line).unwrap();
        let id = session.id();
        let stable = format!(
            "login failed user=root%20address%3D127.0.0.1%0Alogin%20failed address=192.0.2.7 \
             method=password session={id}"
        );
        assert!(line.contains(&stable), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(parse_level("info").is_ok() && parse_level("info,russh=debug").is_ok());
        assert_eq!(parse_level("loud=very").err().unwrap().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn every_session_is_in_order_and_without_gaps_whoever_writes_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let journal = Journal::default();
        journal.set_audit(Some(&path)).unwrap();
        let (sessions, logins) = (8, 100);
        std::thread::scope(|scope| {
            for _ in 0..sessions {
                scope.spawn(|| {
                    let s = session(&journal);
                    for _ in 0..logins {
                        s.log_in(Account::named("u"), vec!["password"]).unwrap();
                        s.log_out();
                    }
                });
            }
        });
        journal.flush(Duration::from_secs(5));
        let mut seen = std::collections::HashMap::<String, u64>::new();
        for line in lines(&path) {
            let last = seen.entry(line["session"].as_str().unwrap().into()).or_default();
            assert_eq!(line["sequence"], *last + 1);
            *last += 1;
        }
        assert_eq!(seen.values().copied().collect::<Vec<_>>(), vec![logins + 1; sessions]);
    }

    #[tokio::test]
    async fn an_event_has_the_user_of_its_own_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let journal = Journal::default();
        journal.set_audit(Some(&path)).unwrap();
        let sink = journal.sink("192.0.2.7", "SFTP");
        let mut setup = Setup::new(Protocol::Sftp, "site");
        setup.sink = Some(Arc::clone(&sink));
        let s = Session::new(setup);
        for user in ["alice", "bob"] {
            s.log_in(Account::named(user), vec![]).unwrap();
            s.log_out();
        }
        let what = What::LoginFailed {
            user: "carol".into(),
            method: "password",
            reason: "no".into(),
            code: Reason::default(),
        };
        sink.emit(Event { sequence: 1, session: s.id().clone(), time: std::time::SystemTime::now(), what });
        s.close(Ending::new("done", Actor::Client)).await;
        journal.flush(Duration::from_secs(5));
        let users: Vec<_> = lines(&path).iter().map(|l| l["user"].as_str().map(str::to_string)).collect();
        let user = |name: &str| Some(name.to_string());
        assert_eq!(users, [None, user("alice"), user("bob"), user("carol"), user("bob")]);
    }

    #[test]
    fn another_audit_file_or_none_counts_for_sessions_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        let journal = Journal::default();
        let s = session(&journal);
        for path in [Some(&first), Some(&second), None] {
            journal.set_audit(path.map(PathBuf::as_path)).unwrap();
            s.log_in(Account::named("u"), vec![]).unwrap();
            s.log_out();
            journal.flush(Duration::from_secs(5));
        }
        assert_eq!(
            journal.set_audit(Some(dir.path())).err().map(|e| e.kind()),
            Some(ErrorKind::IsADirectory)
        );
        // The thread of the first ends with it, and writes what it had.
        let one = |path: &Path| {
            (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(2));
                lines(path).len() == 1
            })
        };
        assert!(one(&first) && one(&second));
    }

    #[test]
    fn a_full_queue_loses_neither_a_flush_nor_a_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("a"), dir.path().join("a.1"));
        let (queue, entries) = sync_channel(1);
        let output = Output { queue, orders: Arc::default() };
        let sink = Sink::File(path.clone(), open(&path).unwrap());
        output.push(Entry::Line(b"1\n".to_vec()));
        std::fs::rename(&path, &old).unwrap();
        output.reopen();
        let orders = Arc::clone(&output.orders);
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            write(&entries, sink, &orders);
        });
        output.flush(Duration::from_secs(5));
        assert_eq!(lines(&path), [json!(1)]);
        assert_eq!((lines(&old).len(), output.dropped()), (0, 0));
        drop(output);
        writer.join().unwrap();
    }

    /// Nobody may in, and the password is in the reason of nothing.
    struct Nobody;

    #[async_trait::async_trait]
    impl Authenticator for Nobody {
        async fn methods(&self, _: &Arc<Session>, _: &str) -> Vec<Method> {
            vec![Method::Password]
        }

        async fn questions(&self, _: &Arc<Session>, _: &str) -> Vec<Question> {
            Vec::new()
        }

        async fn verify(&self, _: &Arc<Session>, _: &str, credential: &Credential, _: &[Method]) -> Proof {
            Proof::Rejected(format!("{credential:?} is wrong").into())
        }

        async fn vouched(&self, _: &Arc<Session>, _: &str) -> Option<Account> {
            None
        }
    }

    #[tokio::test]
    async fn no_line_has_a_secret_even_where_a_credential_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let (audit, log) = (dir.path().join("audit"), dir.path().join("log"));
        let output = Output::file(&log).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(output.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let journal = Journal::default();
        journal.set_audit(Some(&audit)).unwrap();
        let s = session(&journal);
        let mut login = Login::new(Arc::clone(&s), Arc::new(Nobody), 3);
        let secret = "correct horse battery";
        let question = Question { prompt: "Password:".into(), echo: false, check: Check::Password };
        for credential in [
            Credential::Password(Secret::new(secret)),
            Credential::Answers(vec![(question, Secret::new(secret))]),
        ] {
            assert!(matches!(login.attempt("alice", &credential).await, Step::Rejected(_)));
        }
        s.close(Ending::new("done", Actor::Client)).await;
        journal.flush(Duration::from_secs(5));
        output.flush(Duration::from_secs(5));
        for (path, mark) in [(audit, "login-failed"), (log, "login failed user=alice")] {
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text.matches(mark).count(), 2, "{text}");
            assert!(!text.contains("horse"), "{text}");
        }
    }
}
