//! The log: lines for people or JSON on the error stream. What happened in sessions is `journal` and `audit`.
//!
//! Whoever logs never waits for a pipe: lines go through a bounded queue to one thread; what does not fit is
//! dropped, counted, and the count written as soon as there is room.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

/// The target of lines about logins; stable, for those who count failures.
pub(crate) const AUTH: &str = "auth";

/// Entries that may wait for an output.
const QUEUED: usize = 16_384;

enum Entry {
    Line(Vec<u8>),
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
        Output::start(io::stderr())
    }

    fn start(to: impl Write + Send + 'static) -> Result<Output> {
        let (queue, entries) = sync_channel(QUEUED);
        let dropped = Arc::<AtomicU64>::default();
        let theirs = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".into()).spawn(move || write(&entries, to, &theirs))?;
        Ok(Output { queue, dropped })
    }

    fn push(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
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

fn write(entries: &Receiver<Entry>, mut to: impl Write, dropped: &AtomicU64) {
    // A stream that takes nothing has nobody to tell of it.
    for entry in entries {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let line = json!({ "event": "dropped", "count": lost }).to_string() + "\n";
            let _ = to.write_all(line.as_bytes());
        }
        match entry {
            Entry::Line(line) => drop(to.write_all(&line)),
            Entry::Flush(done) => {
                let _ = to.flush();
                let _ = done.send(());
            }
        }
    }
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
/// operator could use, the TLS library nothing below `error`: it warns of every client that comes by address. The
/// library of S3 says nothing unless it is named: it calls every refusal an error, and tells signatures.
pub fn parse_level(level: &str) -> Result<EnvFilter> {
    let text = match level {
        "error" | "warn" | "info" => format!("{level},russh=warn,rustls=error,s3s=off"),
        other if other.contains("s3s") => other.to_string(),
        other => format!("{other},s3s=off"),
    };
    EnvFilter::try_new(text).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{level}' is no log level"))
            .with_hint("write error, warn, info, debug, trace, or a filter such as info,russh=debug")
            .with_source(e)
    })
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
pub(crate) mod tests {
    use super::*;

    /// What is written, for tests of others too.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn output(&self) -> Output {
            Output::start(self.clone()).unwrap()
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_reported() {
        let (queue, entries) = sync_channel(1);
        let output = Output { queue, dropped: Arc::default() };
        for n in 0..4 {
            output.push(Entry::Line(format!("\"{n}\"\n").into_bytes()));
        }
        let (dropped, mut written) = (Arc::clone(&output.dropped), Written::default());
        drop(output);
        write(&entries, &mut written, &dropped);
        assert_eq!(written.text(), "{\"count\":3,\"event\":\"dropped\"}\n\"0\"\n");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(parse_level("info").is_ok() && parse_level("info,russh=debug").is_ok());
        assert!(parse_level("debug").unwrap().to_string().contains("s3s=off"));
        assert!(!parse_level("info,s3s=debug").unwrap().to_string().contains("s3s=off"));
        assert_eq!(parse_level("loud=very").err().unwrap().kind(), ErrorKind::InvalidArgument);
    }
}
