//! A directory, as the other side's `ls` prints it.
//!
//! Read to its end at once: a listing that somebody leaves lying would hold up all that goes over the connection.
//! Complete, or an error; bounded. A line that is none, as a name with a line end makes it where `ls` escapes
//! nothing, is an error and never an entry. What GNU's `ls` could not look at is an entry of which only the name is
//! known; what vanished meanwhile is none.

use std::time::SystemTime;

use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::DirEntry;
use session_core::path::{VPath, display_bytes};
use session_core::shell::quoted;

use super::remote::Remote;
use super::words::{error_of, kind_of};
use crate::wire::ls::{Dialect, Line, read};

/// The most entries of a directory.
pub(super) const MOST: usize = 1_000_000;

/// What is in `dir`. Errors: `NotFound`, `NotADirectory`, `PermissionDenied`; `TooLarge`; `PeerMisbehaved` for lines that
/// are none.
pub(super) async fn entries(remote: &Remote, dir: &VPath, dialect: Dialect) -> Result<Vec<DirEntry>> {
    // With a slash behind it, a link is followed and a file is none.
    let slash: &[u8] = if dir.is_root() { b"" } else { b"/" };
    let path = quoted(&[dir.as_bytes(), slash].concat());
    let now = SystemTime::now();
    let mut lease = remote.lines.shell().await?;
    let shell = lease.shell()?;
    shell.start(&[format!("ls -l -a {} ", dialect.options()).as_bytes(), &path].concat()).await?;
    let (mut entries, mut opened) = (Vec::new(), false);
    while let Some(line) = shell.line().await? {
        match read(&line, dialect, now) {
            Line::Entry { .. } if entries.len() >= MOST => {
                return Err(Error::new(ErrorKind::TooLarge).with_detail("the directory holds too much"));
            }
            Line::Entry { name, metadata, .. } => entries.push(DirEntry { name, metadata }),
            Line::Dots => opened = true,
            Line::Nothing => opened |= !line.is_empty(),
            Line::Foreign => {
                let line = display_bytes(line.get(..200).unwrap_or(&line));
                return Err(Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail(format!("the server's ls says what is not understood: {line}"))
                    .with_hint("a name with a line end in it cannot be listed on this host"));
            }
        }
    }
    let (code, errors) = shell.end().await?;
    lease.give_back();
    let harmless = |line: &[u8]| match kind_of(line) {
        _ if line.trim_ascii().is_empty() => true,
        Some(ErrorKind::NotFound) => true,
        // Others leave out what they may not look at.
        Some(ErrorKind::PermissionDenied) => dialect == Dialect::Gnu,
        _ => false,
    };
    if code == 0 || opened && errors.split(|b| *b == b'\n').all(harmless) {
        return Ok(entries);
    }
    Err(error_of(code, &errors))
}
