//! LIST as `ls -l` writes it, for people and for clients that know nothing better.
//!
//! Times are UTC: hour and minute within half a year, the year otherwise. CR, LF and NUL in a name become
//! `?`. What the store does not know is filled as `ls` would be expected to: one link, owner `-`.

use std::time::{Duration, SystemTime};

use session_core::metadata::{FileType, Metadata};

use super::stamp::{Civil, digits};

/// Half a year, as `ls` counts it.
const RECENT: Duration = Duration::from_secs(31_556_952 / 2);
/// How far ahead of our clock a time may be and still count as recent.
const AHEAD: Duration = Duration::from_secs(86_400);

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

fn padded(out: &mut Vec<u8>, words: &[u8], width: usize, left: bool) {
    let pad = width.saturating_sub(words.len());
    if !left {
        out.extend(std::iter::repeat_n(b' ', pad));
    }
    out.extend(words.iter().map(|b| if b.is_ascii_control() || *b == b' ' { b'_' } else { *b }));
    if left {
        out.extend(std::iter::repeat_n(b' ', pad));
    }
}

fn permissions(out: &mut Vec<u8>, metadata: &Metadata) {
    let (kind, usual) = match metadata.file_type {
        FileType::Directory => (b'd', 0o755),
        FileType::File => (b'-', 0o644),
        FileType::Other => (b'p', 0o600),
        FileType::Symlink => (b'l', 0o777),
    };
    let mode = metadata.mode.unwrap_or(usual);
    out.push(kind);
    for (shift, special, set, unset) in
        [(6, 0o4000, b's', b'S'), (3, 0o2000, b's', b'S'), (0, 0o1000, b't', b'T')]
    {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { b'r' } else { b'-' });
        out.push(if bits & 2 != 0 { b'w' } else { b'-' });
        out.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => set,
            (false, true) => unset,
            (true, false) => b'x',
            (false, false) => b'-',
        });
    }
}

/// Writes one entry without line end. `link` is what a symbolic link holds, where it is known; `now` tells
/// recent times from old ones.
pub fn write(out: &mut Vec<u8>, name: &[u8], metadata: &Metadata, link: Option<&[u8]>, now: SystemTime) {
    permissions(out, metadata);
    let mut number = Vec::with_capacity(20);
    digits(&mut number, metadata.links.unwrap_or(1), 1);
    out.push(b' ');
    padded(out, &number, 3, false);
    let owner = |name: Option<&str>, number: Option<u32>| match (name, number) {
        (Some(name), _) => name.to_owned(),
        (None, Some(n)) => n.to_string(),
        (None, None) => "-".to_owned(),
    };
    out.push(b' ');
    padded(out, owner(metadata.owner.as_deref(), metadata.uid).as_bytes(), 8, true);
    out.push(b' ');
    padded(out, owner(metadata.group.as_deref(), metadata.gid).as_bytes(), 8, true);
    number.clear();
    digits(&mut number, metadata.size, 1);
    out.push(b' ');
    padded(out, &number, 12, false);
    out.push(b' ');
    date(out, metadata.modified.unwrap_or(SystemTime::UNIX_EPOCH), now);
    out.push(b' ');
    super::name(out, name);
    if let Some(target) = link {
        out.extend_from_slice(b" -> ");
        super::name(out, target);
    }
}

fn date(out: &mut Vec<u8>, time: SystemTime, now: SystemTime) {
    let c = Civil::of(time);
    out.extend_from_slice(MONTHS.get(usize::from(c.month) - 1).copied().unwrap_or(b"Jan"));
    out.push(b' ');
    if c.day < 10 {
        out.push(b' ');
    }
    digits(out, u64::from(c.day), 1);
    out.push(b' ');
    let recent = match now.duration_since(time) {
        Ok(age) => age < RECENT,
        Err(ahead) => ahead.duration() < AHEAD,
    };
    if recent {
        digits(out, u64::from(c.hour), 2);
        out.push(b':');
        digits(out, u64::from(c.minute), 2);
    } else {
        out.push(b' ');
        digits(out, c.year.clamp(0, 9999).unsigned_abs(), 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &[u8], metadata: &Metadata, link: Option<&[u8]>, now: u64) -> String {
        let mut out = Vec::new();
        write(&mut out, name, metadata, link, SystemTime::UNIX_EPOCH + Duration::from_secs(now));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn lines_look_like_those_of_ls() {
        let mut file = Metadata::new(FileType::File, 1234);
        file.modified = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        file.mode = Some(0o4755);
        file.uid = Some(1000);
        let now = 1_700_100_000;
        assert_eq!(
            line(b"a b", &file, None, now),
            "-rwsr-xr-x   1 1000     -                1234 Nov 14 22:13 a b"
        );
        assert!(line(b"f", &file, None, now + 200 * 86_400).contains(" Nov 14  2023 f"));
        assert!(line(b"f", &file, None, 1_699_000_000).contains(" Nov 14  2023 f"));
        let link = Metadata::new(FileType::Symlink, 3);
        assert!(line(b"l\r\n", &link, Some(b"t\n"), now).ends_with("Jan  1  1970 l?? -> t?"));
        let mut dir = Metadata::new(FileType::Directory, 0);
        dir.mode = Some(0o1776);
        dir.owner = Some("a b".into());
        assert!(line(b"d", &dir, None, now).starts_with("drwxrwxrwT   1 a_b "));
    }
}
