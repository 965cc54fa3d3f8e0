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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

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
    Event(Arc<Who>, Box<Event>),
    Reopen,
    Flush(SyncSender<()>),
}

/// One output: a bounded queue and the thread that empties it. Cheap to clone.
#[derive(Clone)]
pub struct Output {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
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
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new().name(name.into()).spawn(move || write(&entries, sink, &counter))?;
        Ok(Output { queue, dropped })
    }

    fn push(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many entries are dropped and not yet reported.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&self) {
        self.push(Entry::Reopen);
    }

    /// Waits until everything pushed so far is written, at most `patience`. Blocks the thread.
    pub fn flush(&self, patience: Duration) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
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

fn write(entries: &Receiver<Entry>, mut sink: Sink, dropped: &AtomicU64) {
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
        let lost = dropped.swap(0, Ordering::Relaxed);
        let mut result = Ok(());
        if lost > 0 {
            let line = json!({ "event": "dropped", "count": lost }).to_string() + "\n";
            result = sink.put(line.as_bytes());
        }
        result = result.and(match entry {
            Entry::Line(line) => sink.put(&line),
            Entry::Event(who, event) => sink.put((who.describe(&event).to_string() + "\n").as_bytes()),
            Entry::Reopen => {
                let _ = sink.flush();
                sink.reopen();
                Ok(())
            }
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
/// operator could use.
pub fn parse_level(level: &str) -> Result<EnvFilter> {
    let text = match level {
        "error" | "warn" | "info" => format!("{level},russh=warn"),
        other => other.to_string(),
    };
    EnvFilter::try_new(text).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{level}' is no log level"))
            .with_hint("write error, warn, info, debug, trace, or a filter such as info,russh=debug")
            .with_source(e)
    })
}

/// Whose events they are; what an event itself does not say.
#[derive(Debug)]
struct Who {
    address: String,
    protocol: &'static str,
    user: OnceLock<Arc<str>>,
}

impl Who {
    fn describe(&self, event: &Event) -> Value {
        let mut v = event.to_json();
        if let Some(map) = v.as_object_mut() {
            map.insert("address".into(), self.address.clone().into());
            map.insert("protocol".into(), self.protocol.into());
            if let Some(user) = self.user.get() {
                map.insert("user".into(), (**user).into());
            }
        }
        v
    }
}

/// The events of all sessions: to the log what an operator wants to see, to the audit file everything.
#[derive(Default)]
pub struct Journal {
    audit: Mutex<Option<(PathBuf, Output)>>,
}

impl Journal {
    /// Sets the audit file, or none; the same one is opened anew. Errors: those of opening it; then the
    /// old one stands.
    pub fn set_audit(&self, path: Option<&Path>) -> Result<()> {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        match (path, &*audit) {
            (Some(new), Some((old, output))) if new == old => output.reopen(),
            (Some(new), _) => *audit = Some((new.to_path_buf(), Output::file(new)?)),
            (None, _) => *audit = None,
        }
        Ok(())
    }

    /// Waits until the audit file has everything, at most `patience`. Blocks the thread.
    pub fn flush(&self, patience: Duration) {
        if let Some(output) = self.audit() {
            output.flush(patience);
        }
    }

    /// Events that were dropped and not yet reported.
    pub fn dropped(&self) -> u64 {
        self.audit().map_or(0, |o| o.dropped())
    }

    fn audit(&self) -> Option<Output> {
        let audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit.as_ref().map(|(_, output)| output.clone())
    }

    /// The sink of one session.
    pub fn sink(&self, address: impl Into<String>, protocol: &'static str) -> Arc<dyn EventSink> {
        let who = Who { address: address.into(), protocol, user: OnceLock::new() };
        Arc::new(SessionSink { who: Arc::new(who), audit: self.audit() })
    }
}

struct SessionSink {
    who: Arc<Who>,
    audit: Option<Output>,
}

impl EventSink for SessionSink {
    fn emit(&self, event: Event) {
        let (session, address) = (&event.session, &self.who.address);
        match &event.what {
            What::LoginFailed { user, method, reason } => {
                let user = escape(user);
                tracing::warn!(target: AUTH, %user, %address, %method, %session, ?reason, "login failed");
            }
            What::LoggedIn { user, methods } => {
                let _ = self.who.user.set(Arc::clone(user));
                let (user, methods) = (escape(user), methods.join(","));
                tracing::info!(target: AUTH, %user, %address, %methods, %session, "logged in");
            }
            What::Closed(ending) => {
                let (reason, actor) = (&*ending.reason, &ending.actor);
                tracing::info!(%address, %session, ?reason, %actor, "session closed");
            }
            What::Connected => tracing::debug!(%address, %session, "connected"),
            What::Started { .. } | What::Ended { .. } | What::Transfer(_) => {}
        }
        if let Some(audit) = &self.audit {
            audit.push(Entry::Event(Arc::clone(&self.who), Box::new(event)));
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
    use session_core::auth::Account;
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
        let output = Output { queue, dropped: Arc::default() };
        for n in 0..4 {
            output.push(Entry::Line(format!("\"{n}\"\n").into_bytes()));
        }
        assert_eq!(output.dropped(), 3);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let dropped = Arc::clone(&output.dropped);
        drop(output);
        write(&entries, Sink::File(path.clone(), open(&path).unwrap()), &dropped);
        let lines = lines(&path);
        assert_eq!(lines[0], json!({ "event": "dropped", "count": 3 }));
        assert_eq!(lines[1], "0");
    }

    #[test]
    fn a_failed_login_is_one_line_that_a_name_cannot_forge() {
        let (queue, entries) = sync_channel(8);
        let output = Output { queue, dropped: Arc::default() };
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
}
