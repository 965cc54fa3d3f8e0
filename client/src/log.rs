//! The log of a session: what is said to servers and what they answer, in a file.
//!
//! A line has a mark (`>` said, `<` heard, `.` what became of a connection, `!` what went wrong), the local time to the
//! millisecond, the number of the connection, and the text. What is told, and that no secret is, stands in
//! [`session_core::talk`]; this writes it. The file is opened to be appended to, and only its owner may read one that is
//! made. Any number of sessions may share one, also of several processes: each line is one write.
//!
//! A log that cannot be written any more ends nothing: [`SessionLog::fault`] says so.
//!
//! Deliberately absent: names with patterns, files that are begun anew at a size (`logrotate` does that), content.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Zoned;
use session_core::error::{Error, ErrorKind, Result};
use session_core::talk::{TARGET, Talk};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

/// How much is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// The life of connections, and what failed (`-1`).
    Reduced,
    /// Requests and answers too, but for those that carry content (`0`).
    #[default]
    Normal,
    /// Those, too, and the headers of HTTP (`1`, `2`).
    Debug,
}

impl FromStr for LogLevel {
    type Err = Error;

    /// WinSCP's numbers. Errors: `Unsupported` for a star, which would log passwords; `InvalidArgument`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "-1" => Ok(LogLevel::Reduced),
            "0" => Ok(LogLevel::Normal),
            "1" | "2" => Ok(LogLevel::Debug),
            _ if text.ends_with('*') => {
                Err(Error::new(ErrorKind::Unsupported).with_detail("passwords are never logged"))
            }
            _ => Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is no level of a log: it is -1, 0, 1 or 2"))),
        }
    }
}

/// A log on disk. Cheap to clone; it is closed with its last session.
#[derive(Clone)]
pub struct SessionLog {
    talk: Talk,
    file: Arc<LogFile>,
}

impl fmt::Debug for SessionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionLog(…)")
    }
}

struct LogFile {
    file: File,
    fault: Mutex<Option<Error>>,
}

impl LogFile {
    fn line(&self, mark: char, line: u64, text: &str) {
        let time = Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        let whole = format!("{mark} {time} [{line}] {text}\n");
        if let Err(e) = (&self.file).write_all(whole.as_bytes()) {
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e.into());
        }
    }
}

impl SessionLog {
    /// Opens a file to append to, or makes it. Errors: `InvalidArgument` for a name that ends in `.xml` (as WinSCP has
    /// it: that is another log); those of opening.
    pub fn open(path: &Path, level: LogLevel) -> Result<SessionLog> {
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml")) {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("a log of what is said is no XML")
                .with_hint("'ferry script --xmllog' writes what was done as XML"));
        }
        let file = File::options().append(true).create(true).mode(0o600).open(path).map_err(|e| {
            let words = format!("the log '{}' cannot be written: {e}", path.display());
            Error::from(e).with_detail(words)
        })?;
        let file = Arc::new(LogFile { file, fault: Mutex::default() });
        file.line('.', 0, &format!("ferry {}, {level:?} log", env!("CARGO_PKG_VERSION")));
        let level = match level {
            LogLevel::Reduced => LevelFilter::INFO,
            LogLevel::Normal => LevelFilter::DEBUG,
            LogLevel::Debug => LevelFilter::TRACE,
        };
        let writer = Writer { file: Arc::clone(&file), level };
        Ok(SessionLog { talk: Talk::to(Dispatch::new(Registry::default().with(writer))), file })
    }

    /// Where a session tells.
    pub(crate) fn talk(&self) -> Talk {
        self.talk.clone()
    }

    /// What went wrong first while it was written, if anything did.
    pub fn fault(&self) -> Option<Error> {
        self.file.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes what is told, up to a level.
struct Writer {
    file: Arc<LogFile>,
    level: LevelFilter,
}

impl<S: Subscriber> Layer<S> for Writer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut told = Told { mark: '.', line: 0, text: String::new() };
        event.record(&mut told);
        self.file.line(told.mark, told.line, &told.text);
    }
}

struct Told {
    mark: char,
    line: u64,
    text: String,
}

impl Visit for Told {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "line" {
            self.line = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "mark" {
            self.mark = value.chars().next().unwrap_or('.');
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        }
    }
}
