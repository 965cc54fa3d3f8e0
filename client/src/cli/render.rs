//! How results look: text for people, JSON lines for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, Stdout, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use session_core::error::Error;
use session_core::event::timestamp;
use session_core::metadata::{FileType, Metadata};
use session_core::path::display_bytes;

use super::exit;
use super::lines::{self, Kind};

/// The standard output, buffered. A reader that went away is not an error.
pub(super) struct Out(BufWriter<Stdout>);

impl Out {
    pub(super) fn new() -> Self {
        Out(BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    pub(super) fn line(&mut self, text: &str) {
        self.raw(text.as_bytes());
        self.raw(b"\n");
    }

    pub(super) fn json(&mut self, kind: &Kind, fields: Value) {
        self.line(&lines::line(kind, fields).to_string());
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        check(self.0.write_all(bytes));
    }

    pub(super) fn flush(&mut self) {
        check(self.0.flush());
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.flush();
    }
}

#[allow(clippy::exit, reason = "a broken pipe ends a filter quietly, a full disk does not")]
fn check(result: io::Result<()>) {
    match result {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => {
            eprintln!("error: cannot write the output: {e}");
            std::process::exit(i32::from(exit::FAILED));
        }
    }
}

/// What people read of a list: the first so many of a kind.
const SHOWN: usize = 10;

/// What was left alone, with why: the first few of each reason, and how many more there are.
pub(super) fn left_alone<N: Display>(all: impl Iterator<Item = (N, &'static str)>) -> Vec<String> {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    let mut lines = Vec::new();
    for (name, why) in all {
        let count = match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                reasons.push((why, 1));
                1
            }
        };
        if count <= SHOWN {
            lines.push(format!("skipped '{name}': {why}"));
        }
    }
    let more = reasons.into_iter().filter(|(_, count)| *count > SHOWN);
    lines.extend(more.map(|(why, count)| format!("and {} more: {why}", count - SHOWN)));
    lines
}

/// An error as JSON.
pub(super) fn error_json(e: &Error) -> Value {
    let mut v = json!({ "kind": e.kind().name(), "message": e.to_string() });
    if let Some(map) = v.as_object_mut() {
        if let Some(path) = e.path() {
            map.insert("path".into(), String::from_utf8_lossy(path.as_bytes()).into());
        }
        if let Some(operation) = e.operation() {
            map.insert("operation".into(), operation.name().into());
        }
        if let Some(wire) = e.wire() {
            map.insert("wire".into(), json!({ "code": wire.code, "text": wire.text }));
        }
        if let Some(hint) = e.hint() {
            map.insert("hint".into(), hint.into());
        }
    }
    v
}

/// Tells an error that ended the command, and gives its exit code.
pub(super) fn failure(e: &Error, json: bool) -> ExitCode {
    complain(e, json);
    exit::of(e.kind()).into()
}

/// Tells an error.
pub(super) fn complain(e: &Error, json: bool) {
    if json {
        eprintln!("{}", lines::line(&lines::ERROR, json!({ "error": error_json(e) })));
    } else {
        eprintln!("error: {e:#}");
    }
}

/// Tells what is not as it should be, and stops nothing.
pub(super) fn warn(words: &str, json: bool) {
    if json {
        eprintln!("{}", lines::line(&lines::WARNING, json!({ "words": words })));
    } else {
        eprintln!("warning: {words}");
    }
}

/// An entry as JSON.
pub(super) fn entry_json(place: &str, name: &[u8], m: &Metadata) -> Value {
    let mut v = json!({
        "place": place,
        "name": String::from_utf8_lossy(name),
        "type": m.file_type.name(),
        "size": m.size,
    });
    if let Some(map) = v.as_object_mut() {
        if std::str::from_utf8(name).is_err() {
            map.insert("name_hex".into(), session_core::digest::hex(name).into());
        }
        for (key, time) in [("modified", m.modified), ("accessed", m.accessed), ("created", m.created)] {
            if let Some(time) = time {
                map.insert(key.into(), timestamp(time).into());
            }
        }
        for (key, n) in [("uid", m.uid), ("gid", m.gid)] {
            if let Some(n) = n {
                map.insert(key.into(), n.into());
            }
        }
        if let Some(mode) = m.mode {
            map.insert("mode".into(), format!("{mode:04o}").into());
        }
        if let Some(links) = m.links {
            map.insert("links".into(), links.into());
        }
        if let Some(etag) = &m.etag {
            map.insert("etag".into(), etag.to_string().into());
        }
    }
    v
}

/// One line of `ls -l`.
pub(super) fn long_line(name: &[u8], m: &Metadata) -> String {
    let owner = |named: &Option<std::sync::Arc<str>>, id: Option<u32>| {
        named.as_ref().map(ToString::to_string).or(id.map(|n| n.to_string())).unwrap_or_else(|| "-".into())
    };
    format!(
        "{}{} {:>3} {:>8} {:>8} {:>12} {} {}",
        kind_letter(m.file_type),
        m.mode.map_or_else(|| "?????????".into(), mode_text),
        m.links.map_or_else(|| "-".into(), |n| n.to_string()),
        owner(&m.owner, m.uid),
        owner(&m.group, m.gid),
        m.size,
        m.modified.map_or_else(|| " ".repeat(16), date),
        display_bytes(name)
    )
}

fn kind_letter(t: FileType) -> char {
    match t {
        FileType::Directory => 'd',
        FileType::File => '-',
        FileType::Other => '?',
        FileType::Symlink => 'l',
    }
}

/// `rwxr-xr-x` with the set-id and sticky bits.
pub(super) fn mode_text(mode: u32) -> String {
    let mut out = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = (mode >> shift) & 7;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// `2026-11-21 05:30`, UTC.
pub(super) fn date(time: SystemTime) -> String {
    let text = timestamp(time);
    text.get(..16).map_or_else(|| seconds(time), |t| t.replace('T', " "))
}

fn seconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or_else(|_| "?".into(), |d| d.as_secs().to_string())
}

/// So many files, for people.
pub(super) fn files(count: u64) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

/// Bytes for people, in powers of 1024.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// All commands with their help, as Markdown.
pub(super) fn reference(command: &mut clap::Command, out: &mut dyn Write) -> io::Result<()> {
    command.build();
    let mut commands: Vec<clap::Command> =
        command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    for c in &mut commands {
        writeln!(out, "### `ferry {}`\n\n```text", c.get_name())?;
        for line in c.render_long_help().to_string().lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out, "```\n")?;
    }
    writeln!(out, "```text\n{}\n```", exit::TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_for_each_reason() {
        let many = (0..25).map(|n| (n, "there")).chain([(99, "odd")]);
        let lines = left_alone(many);
        assert_eq!((lines.len(), lines[0].as_str()), (12, "skipped '0': there"));
        assert_eq!(lines[10..], ["skipped '99': odd", "and 15 more: there"]);
    }

    #[test]
    fn looks_as_people_know_it() {
        assert_eq!(mode_text(0o644), "rw-r--r--");
        assert_eq!(mode_text(0o4755), "rwsr-xr-x");
        assert_eq!(mode_text(0o1644), "rw-r--r-T");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(date(UNIX_EPOCH), "1970-01-01 00:00");
    }
}
