//! MLST and MLSD lines, read (RFC 3659, section 7): facts, a space, a name.
//!
//! Names are bytes and one segment; a line whose name is none (a path, `..`) is no entry. Facts that are not
//! known or make no sense are left out; only the line's form and its name can make it fail.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use session_core::metadata::{DirEntry, FileType, Metadata};
use session_core::path::check_name;

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// An entry of the directory.
    Entry(DirEntry),
    /// The directory itself or the one above it.
    Own(Metadata),
    /// A line that is no such thing.
    Bad,
}

/// Reads one line of MLSD, without its end.
pub fn entry(line: &Bytes) -> Parsed {
    let Some((own, metadata, name)) = facts(line) else { return Parsed::Bad };
    if own || matches!(&name[..], b"." | b"..") {
        return Parsed::Own(metadata);
    }
    if check_name(&name).is_err() {
        return Parsed::Bad;
    }
    Parsed::Entry(DirEntry { name, metadata })
}

/// Reads the line of an MLST reply: what the entry is, whatever the server calls it.
pub fn metadata(line: &Bytes) -> Option<Metadata> {
    let line = match line.first() {
        Some(b' ') => line.slice(1..),
        _ => line.clone(),
    };
    facts(&line).map(|(_, metadata, _)| metadata)
}

/// What a link holds, by the line of an MLST reply; `None` where the line does not tell. The target may hold
/// neither a space nor a semicolon there (RFC 3659, section 7.2): servers leave such ones out.
pub fn link_target(line: &Bytes) -> Option<Bytes> {
    let line = line.strip_prefix(b" ").unwrap_or(line);
    let facts = line.get(..line.iter().position(|b| *b == b' ')?)?;
    let kind = facts.split(|b| *b == b';').find_map(|f| cut_head(f, b"type="))?;
    let target = cut_head(kind, b"os.unix=slink:").or_else(|| cut_head(kind, b"os.unix=symlink:"))?;
    (!target.is_empty()).then(|| Bytes::copy_from_slice(target))
}

/// What stands behind a head in letters of either case.
fn cut_head<'a>(text: &'a [u8], head: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = text.split_at_checked(head.len())?;
    first.eq_ignore_ascii_case(head).then_some(rest)
}

fn facts(line: &Bytes) -> Option<(bool, Metadata, Bytes)> {
    // The first space ends the facts: none of them holds one.
    let end = line.iter().position(|b| *b == b' ')?;
    let facts = line.get(..end)?;
    let name = line.slice(end + 1..);
    if !facts.is_empty() && facts.last() != Some(&b';') {
        return None;
    }
    let mut metadata = Metadata::new(FileType::File, 0);
    let mut own = false;
    let mut typed = false;
    for fact in facts.split(|b| *b == b';').filter(|f| !f.is_empty()) {
        let at = fact.iter().position(|b| *b == b'=')?;
        let (key, value) = (fact.get(..at)?, fact.get(at + 1..)?);
        // Names are bytes, and a link's target is one.
        let value = &*String::from_utf8_lossy(value);
        match std::str::from_utf8(key).unwrap_or_default().to_ascii_lowercase().as_str() {
            "type" => {
                typed = true;
                let kind = value.to_ascii_lowercase();
                metadata.file_type = match kind.as_str() {
                    "file" => FileType::File,
                    "dir" => FileType::Directory,
                    "cdir" | "pdir" => {
                        own = true;
                        FileType::Directory
                    }
                    link if link.starts_with("os.unix=slink") || link.starts_with("os.unix=symlink") => {
                        FileType::Symlink
                    }
                    _ => FileType::Other,
                };
            }
            "size" | "sizd" => metadata.size = value.parse().unwrap_or(0),
            "modify" => metadata.modified = time(value),
            "create" => metadata.created = time(value),
            // pyftpdlib writes it as Python does, `0o644`.
            "unix.mode" => {
                let digits = value.strip_prefix("0o").unwrap_or(value);
                metadata.mode = u32::from_str_radix(digits, 8).ok().map(|m| m & 0o7777);
            }
            "unix.uid" => metadata.uid = value.parse().ok(),
            "unix.gid" => metadata.gid = value.parse().ok(),
            // Some write numbers here.
            "unix.owner" => match value.parse() {
                Ok(uid) => metadata.uid = Some(uid),
                Err(_) => metadata.owner = Some(Arc::from(value)),
            },
            "unix.group" => match value.parse() {
                Ok(gid) => metadata.gid = Some(gid),
                Err(_) => metadata.group = Some(Arc::from(value)),
            },
            "unix.ownername" => metadata.owner = Some(Arc::from(value)),
            "unix.groupname" => metadata.group = Some(Arc::from(value)),
            _ => {}
        }
    }
    if !typed && name.last() == Some(&b'/') {
        metadata.file_type = FileType::Directory;
    }
    if metadata.is_dir() {
        metadata.size = 0;
    }
    Some((own, metadata, name))
}

/// `YYYYMMDDHHMMSS`, with a fraction or without, in UTC (RFC 3659, section 2.3).
pub fn time(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // A server of the last century counts 19100 for 2000.
    let whole = match whole.strip_prefix("191") {
        Some(rest) if whole.len() == 15 => format!("20{rest}"),
        _ => whole.to_owned(),
    };
    if whole.len() != 14 || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to)?.parse::<i16>().ok();
    let small = |from: usize| i8::try_from(part(from, from + 2)?).ok();
    let date = Date::new(part(0, 4)?, small(4)?, small(6)?).ok()?;
    let second = small(12)?.min(59); // a leap second has no place in the model
    let at = date.to_datetime(Time::new(small(8)?, small(10)?, second, 0).ok()?);
    let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let mut nanos = 0;
    for (n, digit) in fraction.bytes().take(9).enumerate() {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        nanos += u32::from(digit) * 10_u32.pow(8 - u32::try_from(n).ok()?);
    }
    Some(SystemTime::from(at) + Duration::from_nanos(u64::from(nanos)))
}

/// The same, written: whole seconds, with a fraction where there is one.
pub fn time_text(time: SystemTime) -> Option<String> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    let at = jiff::Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()?;
    Some(at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S").to_string())
}

/// Entry for fuzzing: any line; what comes out holds.
pub fn fuzz(data: &[u8]) {
    let line = Bytes::copy_from_slice(data);
    let _ = metadata(&line);
    let _ = link_target(&line);
    if let Parsed::Entry(e) = entry(&line) {
        assert!(check_name(&e.name).is_ok());
        if let Some(modified) = e.metadata.modified
            && let Some(text) = time_text(modified)
        {
            assert!(time(&text).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &'static [u8]) -> Parsed {
        entry(&Bytes::from_static(line))
    }

    #[test]
    fn entries_are_read_with_their_facts() {
        let Parsed::Entry(e) = read(b"Type=file;Size=1024990;Modify=20260101120000.25;UNIX.mode=0644;UNIX.owner=1000;UNIX.group=staff;Perm=r; a  b ") else {
            panic!("no entry")
        };
        assert_eq!(&e.name[..], b"a  b ");
        assert_eq!((e.metadata.size, e.metadata.mode), (1_024_990, Some(0o644)));
        assert_eq!((e.metadata.uid, e.metadata.group.as_deref()), (Some(1000), Some("staff")));
        let since = e.metadata.modified.unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!((since.as_secs(), since.subsec_millis()), (1_767_268_800, 250));
        for (line, kind) in [
            (&b"type=dir;sizd=4096; d"[..], FileType::Directory),
            (b"type=OS.unix=slink:/etc/x; l", FileType::Symlink),
            (b"type=OS.unix=chr-1/2; c", FileType::Other),
            (b" plain", FileType::File),
        ] {
            let Parsed::Entry(e) = entry(&Bytes::copy_from_slice(line)) else { panic!("{line:?}") };
            assert_eq!((e.metadata.file_type, e.metadata.size), (kind, 0));
        }
    }

    #[test]
    fn a_link_tells_what_it_holds() {
        for (line, target) in [
            (&b" type=OS.unix=slink:/etc/x;modify=20200101000000; /l"[..], Some(&b"/etc/x"[..])),
            (b"Type=OS.UNIX=slink:\xff\xfe;Perm=; l", Some(b"\xff\xfe")),
            (b"size=4;type=OS.unix=symlink:../a=b:c; l", Some(b"../a=b:c")),
            (b" type=OS.unix=slink:; /l", None),
            (b" type=OS.unix=symlink; /l", None),
            (b" type=file; type=OS.unix=slink:/x;", None),
            (b"type=OS.unix=slink:/x;", None),
        ] {
            let line = Bytes::copy_from_slice(line);
            assert_eq!(link_target(&line).as_deref(), target, "{line:?}");
        }
        let bytes = Bytes::from_static(b"type=OS.unix=slink:\xff; l");
        assert!(metadata(&bytes).unwrap().is_symlink());
    }

    #[test]
    fn no_name_leads_out_of_its_directory() {
        for line in
            [&b"type=file; ../x"[..], b"type=file; a/b", b"type=file; ", b"type=file;x", b"file a", b""]
        {
            assert_eq!(entry(&Bytes::copy_from_slice(line)), Parsed::Bad, "{line:?}");
        }
        assert!(matches!(read(b"type=cdir; /home"), Parsed::Own(_)));
        assert!(matches!(read(b"type=dir; .."), Parsed::Own(_)));
        let one = metadata(&Bytes::from_static(b" type=dir;modify=20200101000000; /some/where")).unwrap();
        assert!(one.is_dir());
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, secs) in [
            ("19700101000000", Some(0)),
            ("20260229000000", None),
            ("20240229235960", Some(1_709_251_199)),
            ("191000101000000", Some(946_684_800)),
            ("2026", None),
            ("20260101 12000", None),
        ] {
            let got = time(text).map(|t| t.duration_since(UNIX_EPOCH).unwrap().as_secs());
            assert_eq!(got, secs, "{text}");
        }
        assert_eq!(
            time_text(UNIX_EPOCH + Duration::from_secs(946_684_800)).as_deref(),
            Some("20000101000000")
        );
    }
}
