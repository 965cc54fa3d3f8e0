//! The audit's file: what is written is kept in order and once, over full disks, restarts and rotations.
//!
//! A record that was sealed waits in a bounded buffer until the disk takes it; when that is full nothing more
//! is sealed, and what is turned away is counted. A new file begins when the old one would grow over the size,
//! when a day or an hour (UTC) is over, or when the file was moved away and is opened anew. Old files are
//! called after the time of the change, and beyond the number that is kept the oldest go.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use session_core::error::{Error, Result};
use session_core::event::timestamp;

use super::chain::{self, Head, OPENED};
use super::{AuditFormat, AuditSettings, Rotate, line_of, w3c};

/// The most bytes that wait for the disk.
const WAITING: usize = 4 << 20;

/// From here on the disk is asked, though more may come at once.
const EAGER: usize = 64 << 10;

/// How much of a file's end is looked at for its last record.
const TAIL: u64 = 1 << 20;

/// An open audit file.
pub(super) struct AuditFile {
    settings: AuditSettings,
    file: File,
    /// Sealed, and not on the disk.
    waiting: Vec<u8>,
    /// Bytes of the file, those that wait included.
    size: u64,
    /// The day or the hour that it began in.
    period: u64,
    head: Head,
}

impl AuditFile {
    /// Opens the file, which is made with mode 0600, and begins or continues its chain. Errors: those of
    /// opening and reading it.
    pub(super) fn open(settings: &AuditSettings) -> Result<Self> {
        let (file, size, period) = open(settings)?;
        let mut this = AuditFile {
            settings: settings.clone(),
            file,
            waiting: Vec::new(),
            size,
            period,
            head: Head::default(),
        };
        let (found, torn) = match size {
            0 => (last_of_the_old(settings), 0),
            _ => tail(&settings.file, size)?,
        };
        this.head = found.unwrap_or_default();
        if torn > 0 {
            this.push(b"\n");
        }
        this.begin(torn);
        Ok(this)
    }

    /// How records are written.
    pub(super) fn format(&self) -> AuditFormat {
        self.settings.format
    }

    /// Where the chain stands.
    pub(super) fn head(&self) -> &str {
        &self.head.value
    }

    /// Whether something waits for the disk.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes a record; false where there is no room for it.
    pub(super) fn put(&mut self, body: impl FnOnce(u64) -> String, now: SystemTime) -> bool {
        if self.waiting.len() >= EAGER {
            // Whether it succeeds is seen by what is left.
            let _ = self.flush();
        }
        if self.waiting.len() >= WAITING {
            return false;
        }
        self.turn(now);
        self.seal(body);
        true
    }

    fn seal(&mut self, body: impl FnOnce(u64) -> String) {
        let body = body(self.head.sequence + 1);
        let line = self.head.seal(self.settings.format, &body);
        self.push(line.as_bytes());
    }

    fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
    }

    /// What the server says of its audit.
    pub(super) fn note(&mut self, name: &str, value: &Value, now: SystemTime) -> bool {
        let format = self.settings.format;
        self.put(|n| line_of(format, n, &timestamp(now), name, value), now)
    }

    /// The first record of a file or of a run.
    fn begin(&mut self, torn: u64) {
        let (now, format) = (timestamp(SystemTime::now()), self.settings.format);
        if self.size == 0 && format == AuditFormat::W3c {
            self.push(w3c::head(&now).as_bytes());
        }
        let value = json!({ "previous": self.head.value, "torn": torn });
        self.seal(|n| line_of(format, n, &now, OPENED, &value));
    }

    /// Writes what waits. What the disk does not take goes on waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            let rest = self.waiting.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match self.file.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.waiting.drain(..written);
        result
    }

    /// Forces everything to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }

    /// Begins a new file where it is time.
    fn turn(&mut self, now: SystemTime) {
        let period = period(self.settings.rotate, now);
        let full = self.settings.size > 0 && self.size >= self.settings.size;
        // Clocks and records may go back a little.
        if (period <= self.period && !full) || self.size == 0 {
            return;
        }
        // What waits belongs into the old file; if the disk does not take it, it is no time to turn.
        if self.flush().is_err() {
            return;
        }
        let result =
            self.file.sync_data().and_then(|()| std::fs::rename(&self.settings.file, self.aside(now)));
        let period = self.period.max(period);
        match result {
            Ok(()) => self.reopen(),
            Err(e) => self.stay(&e.into()),
        }
        // By the records' clock, not by the file's.
        self.period = period;
        self.prune();
    }

    /// Goes on by other settings; of another form, in a new file.
    pub(super) fn change(&mut self, settings: AuditSettings) {
        if settings.format != self.settings.format && self.size > 0 {
            let aside = self.aside(SystemTime::now());
            if let Err(e) = self.flush().and_then(|()| std::fs::rename(&self.settings.file, aside)) {
                tracing::error!(error = %e, "the audit keeps its form: it cannot begin a new file");
                return;
            }
        }
        self.settings = settings;
        self.reopen();
    }

    /// Opens the file anew, after it was moved away. Where that fails the old one goes on.
    pub(super) fn reopen(&mut self) {
        if let Err(e) = self.flush() {
            tracing::error!(error = %e, "the audit goes on in the old file: it cannot be written");
            return;
        }
        match open(&self.settings) {
            Ok((file, size, period)) => {
                tracing::info!(head = self.head.value, "the audit goes on in a new file");
                (self.file, self.size, self.period) = (file, size, period);
                self.begin(0);
            }
            Err(e) => self.stay(&e),
        }
    }

    /// The file that is open goes on; a new one is tried when as much again was written.
    fn stay(&mut self, e: &Error) {
        tracing::error!("the audit goes on in the old file: {e:#}");
        self.size = 1;
    }

    /// What a full file is called.
    fn aside(&self, now: SystemTime) -> PathBuf {
        let time: String = timestamp(now).chars().filter(|c| !matches!(c, ':' | '-')).collect();
        let time = time.split('.').next().unwrap_or_default().to_string() + "Z";
        let (stem, end) = parts(&self.settings.file);
        // Later ones sort behind, several of one second too: record numbers only grow.
        let name = format!("{stem}-{time}-{:012}{end}", self.head.sequence);
        self.settings.file.with_file_name(name)
    }

    fn prune(&self) {
        let keep = self.settings.keep;
        let all = old_files(&self.settings.file);
        if keep == 0 || all.len() <= keep {
            return;
        }
        for file in all.iter().take(all.len() - keep) {
            if let Err(e) = std::fs::remove_file(file) {
                tracing::warn!(error = %e, file = %file.display(), "an old audit file cannot be removed");
            }
        }
    }
}

/// A file's name before its extension, and the extension with its dot.
fn parts(file: &Path) -> (String, String) {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let end = file.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    (stem, end)
}

/// The files that were set aside, the oldest first.
pub(super) fn old_files(file: &Path) -> Vec<PathBuf> {
    let (stem, end) = parts(file);
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let is_ours = |name: &str| {
        let middle =
            name.strip_prefix(&stem).and_then(|n| n.strip_prefix('-')).and_then(|n| n.strip_suffix(&end));
        middle.and_then(|m| m.split_once("Z-")).is_some_and(|(time, number)| {
            time.len() == 15
                && time.bytes().all(|b| b.is_ascii_digit() || b == b'T')
                && number.len() >= 12
                && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<_> =
        entries.filter(|e| e.file_name().to_str().is_some_and(is_ours)).map(|e| e.path()).collect();
    all.sort();
    all
}

fn open(settings: &AuditSettings) -> Result<(File, u64, u64)> {
    let path = &settings.file;
    let named = |e: io::Error| {
        Error::from(e).with_detail(format!("the audit file {} cannot be opened", path.display()))
    };
    let file = File::options().append(true).create(true).mode(0o600).open(path).map_err(named)?;
    let metadata = file.metadata().map_err(named)?;
    let since = match metadata.len() {
        0 => SystemTime::now(),
        _ => metadata.modified().unwrap_or_else(|_| SystemTime::now()),
    };
    Ok((file, metadata.len(), period(settings.rotate, since)))
}

fn period(rotate: Rotate, time: SystemTime) -> u64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match rotate {
        Rotate::Day => seconds / 86_400,
        Rotate::Hour => seconds / 3600,
        Rotate::Never => 0,
    }
}

/// The last record of the newest file that was set aside.
fn last_of_the_old(settings: &AuditSettings) -> Option<Head> {
    let newest = old_files(&settings.file).pop()?;
    let size = std::fs::metadata(&newest).ok()?.len();
    tail(&newest, size).ok()?.0
}

/// The last record of a file, and how many bytes of a torn one stand behind it.
fn tail(path: &Path, size: u64) -> Result<(Option<Head>, u64)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let torn = (bytes.len() - whole) as u64;
    let lines = bytes.get(..whole).unwrap_or_default().split(|b| *b == b'\n').rev();
    let record = lines.filter_map(|l| std::str::from_utf8(l).ok()).find_map(|line| {
        let (body, value) = chain::open(line)?;
        Some(Head { sequence: chain::read(body)?.sequence, value: value.to_string() })
    });
    Ok((record, torn))
}
