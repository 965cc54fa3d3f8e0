//! Listings: MLSD in pages while it arrives, LIST where there is nothing better.
//!
//! A listing is complete or it ends in an error: the end is told only after the server's final reply. LIST
//! is kept until then, since its times need the server's zone, which one MDTM tells. MLSD is kept too as soon
//! as somebody else needs its connection.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Follow, Listing, ListingOf, Pages};
use session_core::metadata::{DirEntry, FileType};
use session_core::net::places::Yields;
use session_core::path::VPath;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::machine::Command;
use super::refine::as_kind;
use super::remote::Remote;
use super::transfer::{Ask, Transfer};
use crate::listing::facts_parser::{self, Parsed};
use crate::listing::parse::{ListParser, Listed};

/// Entries of a page.
const PAGE: usize = 1000;
/// How much is read at a time.
const PIECE: usize = 64 * 1024;
/// The longest line of MLSD.
const MAX_LINE: usize = 64 * 1024;
/// The most that is kept of an MLSD, bytes.
const MAX_KEPT: usize = 256 << 20;
/// The most that a LIST may hold.
const MAX_ENTRIES: usize = 10_000_000;
/// Zones are multiples of a quarter of an hour.
const QUARTER: i64 = 15 * 60;

pub(super) async fn open(remote: &Arc<Remote>, dir: &VPath) -> Result<Listing> {
    let opened =
        if remote.facts().lists_facts() { facts(remote, dir).await } else { list(remote, dir).await };
    match opened {
        // Some servers take it for the listing of one entry, others refuse it: which it is must be known.
        Err(e)
            if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument) && e.wire().is_some() =>
        {
            match remote.look(dir, Follow::Yes).await {
                Ok(m) if !m.is_dir() => Err(as_kind(&e, ErrorKind::NotADirectory)),
                Ok(_) => Err(as_kind(&e, ErrorKind::PermissionDenied)),
                Err(_) => Err(as_kind(&e, ErrorKind::NotFound)),
            }
        }
        opened => opened,
    }
}

async fn facts(remote: &Arc<Remote>, dir: &VPath) -> Result<Listing> {
    let ask = Ask::new(Command::with("MLSD", remote.wire_path(dir)?));
    let transfer = Transfer::open(&remote.pool, &ask).await?;
    let source = Arc::new(Source(Mutex::new(Rest::Stream(Box::new(transfer)))));
    let weak: Weak<Source> = Arc::downgrade(&source);
    remote.pool.places.register(weak);
    Ok(Box::new(Facts { remote: Arc::clone(remote), source, ended: false, buf: BytesMut::new(), skipped: 0 }))
}

/// Where the rest of a listing comes from.
enum Rest {
    /// The data connection.
    Stream(Box<Transfer>),
    /// Memory: somebody needed the connection.
    Kept(AbortOnDropHandle<Result<BytesMut>>),
    /// A call has it, or had it and was given up.
    Taken,
}

struct Source(Mutex<Rest>);

impl Source {
    /// More of the listing; `false` at its end.
    async fn read(&self, buf: &mut BytesMut) -> Result<bool> {
        let mut from = self.0.lock().await;
        match &mut *from {
            Rest::Stream(_) => {
                let Rest::Stream(mut transfer) = std::mem::replace(&mut *from, Rest::Taken) else {
                    return Err(Error::new(ErrorKind::Internal));
                };
                if transfer.read(buf, PIECE).await? == 0 {
                    transfer.finish().await?;
                    return Ok(false);
                }
                *from = Rest::Stream(transfer);
                Ok(true)
            }
            Rest::Kept(reading) => {
                let rest = reading.await;
                *from = Rest::Taken;
                buf.unsplit(rest.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))??);
                Ok(false)
            }
            Rest::Taken => {
                Err(Error::new(ErrorKind::Canceled).with_detail("an earlier call did not come to its end"))
            }
        }
    }
}

impl Yields for Source {
    fn give_up(&self) -> bool {
        let Ok(mut from) = self.0.try_lock() else { return false };
        match std::mem::replace(&mut *from, Rest::Taken) {
            Rest::Stream(transfer) => {
                *from = Rest::Kept(AbortOnDropHandle::new(tokio::spawn(keep(transfer))));
                true
            }
            other => {
                *from = other;
                false
            }
        }
    }

    fn is_at_work(&self) -> bool {
        false
    }
}

/// All that is still to come.
async fn keep(mut transfer: Box<Transfer>) -> Result<BytesMut> {
    let mut all = BytesMut::new();
    while transfer.read(&mut all, PIECE).await? > 0 {
        if all.len() > MAX_KEPT {
            return Err(too_large());
        }
    }
    transfer.finish().await?;
    Ok(all)
}

fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge).with_detail("the listing is larger than what can be kept of it")
}

struct Facts {
    remote: Arc<Remote>,
    source: Arc<Source>,
    ended: bool,
    buf: BytesMut,
    skipped: u64,
}

/// The next line without its end; the rest too where nothing follows.
fn next_line(buf: &mut BytesMut, last: bool) -> Option<Bytes> {
    let line = match buf.iter().position(|b| *b == b'\n') {
        Some(end) => {
            let mut line = buf.split_to(end + 1);
            line.truncate(end);
            line
        }
        None if last && !buf.is_empty() => buf.split(),
        None => return None,
    };
    let mut line = line.freeze();
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    Some(line)
}

impl Facts {
    fn take(&mut self, page: &mut Vec<DirEntry>, last: bool) {
        while page.len() < PAGE
            && let Some(line) = next_line(&mut self.buf, last)
        {
            if line.is_empty() {
                continue;
            }
            match facts_parser::entry(&line) {
                Parsed::Entry(mut entry) => {
                    entry.name = self.remote.name_from_wire(entry.name);
                    page.push(entry);
                }
                Parsed::Own(_) => {}
                Parsed::Bad => {
                    self.skipped += 1;
                    self.remote.skipped_line(&line);
                }
            }
        }
    }
}

#[async_trait]
impl Pages for Facts {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        let mut page = Vec::new();
        loop {
            self.take(&mut page, self.ended);
            if page.len() >= PAGE || (self.ended && !page.is_empty()) {
                if self.remote.pool.places.is_wanted() {
                    self.source.give_up();
                }
                return Ok(Some(page));
            }
            if self.ended {
                return Ok(None);
            }
            if self.buf.len() > MAX_LINE {
                return Err(
                    Error::new(ErrorKind::PeerMisbehaved).with_detail("a line of the listing has no end")
                );
            }
            if !self.source.read(&mut self.buf).await? {
                self.ended = true;
                warn(self.skipped);
            }
        }
    }
}

fn warn(skipped: u64) {
    if skipped > 0 {
        tracing::warn!(lines = skipped, "lines of a listing were not understood and are left out");
    }
}

async fn list(remote: &Arc<Remote>, dir: &VPath) -> Result<Listing> {
    let Some((entries, skipped)) = lines(remote, dir).await? else {
        return Ok(Box::new(ListingOf::new(Vec::new())));
    };
    warn(skipped);
    let offset = zone(remote, dir, &entries).await;
    let entries = entries.into_iter().map(|l| finished(remote, l, offset)).collect();
    Ok(Box::new(ListingOf::new(entries)))
}

/// What LIST shows of a link: `name -> target`. `None` where it shows no such link.
pub(super) async fn link(remote: &Remote, path: &VPath) -> Result<Option<Bytes>> {
    let Some(parent) = path.parent() else { return Ok(None) };
    let Some((entries, _)) = lines(remote, &parent).await? else { return Ok(None) };
    // An arrow may be part of the name: only what stands behind the whole name is the target.
    let wire = remote.wire_path(path)?;
    let cut = wire.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let head = [wire.get(cut..).unwrap_or_default(), b" -> "].concat();
    let shown = entries.iter().filter_map(|l| l.link.as_ref());
    Ok(shown.filter_map(|l| l.strip_prefix(&head[..]).map(|t| l.slice_ref(t))).next())
}

/// The lines of LIST; `None` where the server says that there is nothing to list.
async fn lines(remote: &Remote, dir: &VPath) -> Result<Option<(VecDeque<Listed>, u64)>> {
    let facts = remote.facts();
    // A path as LIST's argument would be read as a pattern, or as options: the server goes there instead.
    let path = remote.wire_path(dir)?;
    let first = facts.absolute.then(|| Command::with("CWD", path.clone()));
    let unix = facts.system.to_ascii_uppercase().starts_with("UNIX");
    let command = match (facts.absolute, unix) {
        (true, true) => Command::with("LIST", "-a"),
        (true, false) => Command::new("LIST"),
        (false, _) if path.is_empty() => Command::new("LIST"),
        (false, _) => Command::with("LIST", path),
    };
    let ask = Ask { first, ..Ask::new(command) };
    let transfer = match Transfer::open(&remote.pool, &ask).await {
        // Options are not known everywhere.
        Err(e) if unix && e.wire().is_some_and(|w| matches!(w.code, 500..=504)) => {
            let plain = Ask { first: ask.first.clone(), ..Ask::new(Command::new("LIST")) };
            Transfer::open(&remote.pool, &plain).await
        }
        // An empty directory is no error, though some say so.
        Err(e) if e.wire().is_some_and(is_empty) => return Ok(None),
        begun => begun,
    }?;
    read(remote, transfer).await.map(Some)
}

fn is_empty(wire: &session_core::error::WireReply) -> bool {
    let text = wire.text.to_ascii_lowercase();
    matches!(wire.code, 450 | 550) && (text.contains("no files") || text.contains("no members"))
}

async fn read(remote: &Remote, mut transfer: Transfer) -> Result<(VecDeque<Listed>, u64)> {
    let now = Timestamp::try_from(remote.pool.dialer.session.now()).unwrap_or_default();
    let offset = remote.pool.dialer.learned(|l| l.time_offset).unwrap_or(0);
    let zone = Offset::from_seconds(-offset).unwrap_or(Offset::UTC);
    let mut parser = ListParser::new(zone.to_datetime(now));
    let mut entries = VecDeque::new();
    let mut buf = BytesMut::new();
    loop {
        let n = transfer.read(&mut buf, PIECE).await?;
        while let Some(line) = next_line(&mut buf, n == 0) {
            let before = parser.skipped();
            if let Some(listed) = parser.line(&line) {
                entries.push_back(listed);
            }
            if parser.skipped() > before {
                remote.skipped_line(&line);
            }
        }
        if n == 0 {
            break;
        }
        if entries.len() > MAX_ENTRIES || buf.len() > MAX_LINE {
            return Err(too_large());
        }
    }
    transfer.finish().await?;
    Ok((entries, parser.skipped()))
}

/// Seconds between the server's clock and UTC: told, known, or found by asking for the time of one file.
async fn zone(remote: &Arc<Remote>, dir: &VPath, entries: &VecDeque<Listed>) -> i32 {
    if let Some(known) = remote.pool.dialer.learned(|l| l.time_offset) {
        return known;
    }
    let sample = entries.iter().filter(|l| l.timed && l.entry.metadata.file_type == FileType::File);
    let Some((local, name)) =
        sample.filter_map(|l| Some((l.local?, &l.entry.name))).max_by_key(|(at, _)| *at)
    else {
        return 0;
    };
    let Ok(path) = dir.join(remote.name_from_wire(name.clone())) else { return 0 };
    let found = match remote.modified(&path).await {
        Ok(Some(utc)) => seconds_between(local, utc),
        _ => Some(0),
    };
    // An answer that is no zone is a file that was changed meanwhile.
    let Some(offset) = found else { return 0 };
    remote.pool.dialer.learned(|l| l.time_offset = Some(offset));
    offset
}

fn seconds_between(local: DateTime, utc: SystemTime) -> Option<i32> {
    let local = local.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let utc = Timestamp::try_from(utc).ok()?.as_second();
    let difference = utc - local;
    // Listings have no seconds.
    let rounded = (difference as f64 / QUARTER as f64).round() as i64 * QUARTER;
    let near = (difference - rounded).abs() <= 90;
    (near && rounded.abs() <= 15 * 3600).then(|| i32::try_from(rounded).ok()).flatten()
}

fn finished(remote: &Remote, listed: Listed, offset: i32) -> DirEntry {
    let mut entry = listed.entry;
    if entry.metadata.modified.is_none()
        && let Some(local) = listed.local
        && let Ok(at) = local.to_zoned(TimeZone::UTC)
        // A date without time is no hour's: the zone moves it to another day only.
        && let Ok(at) = at.timestamp().checked_add(jiff::SignedDuration::from_secs(i64::from(offset)))
    {
        entry.metadata.modified = Some(at.into());
    }
    entry.name = remote.name_from_wire(entry.name);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_from_one_file() {
        let local = DateTime::constant(2026, 3, 1, 14, 30, 0, 0);
        let utc = |text| facts_parser::time(text).unwrap();
        assert_eq!(seconds_between(local, utc("20260301123012")), Some(-7200));
        assert_eq!(seconds_between(local, utc("20260301090059")), Some(-19_800));
        assert_eq!(seconds_between(local, utc("20260301143000")), Some(0));
        assert_eq!(seconds_between(local, utc("20260301143700")), None);
        assert_eq!(seconds_between(local, utc("20260401143000")), None);
    }

    #[test]
    fn lines_are_cut_at_any_end() {
        let mut buf = BytesMut::from(&b"a\r\nb\nc"[..]);
        let mut all = Vec::new();
        while let Some(line) = next_line(&mut buf, false) {
            all.push(line);
        }
        assert_eq!(all, ["a", "b"]);
        assert_eq!(next_line(&mut buf, true).as_deref(), Some(&b"c"[..]));
        assert_eq!(next_line(&mut buf, true), None);
    }
}
