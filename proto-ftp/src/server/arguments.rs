//! Arguments of commands that are more than a path: numbers, modes, quotes, times.

use bytes::Bytes;
use session_core::path::display_bytes;

use crate::listing::stamp;
use crate::wire::reply::Reply;

pub(super) fn refused(code: u16, words: impl Into<Bytes>) -> Reply {
    Reply::new(code, words)
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Reply> {
    std::str::from_utf8(bytes).map_err(|_| refused(501, "this argument is no text"))
}

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.len() <= 19 && bytes.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(bytes).ok()?.parse().ok()).flatten()
}

/// The first word and the rest behind one space.
pub(super) fn word(argument: &Bytes) -> (&[u8], Bytes) {
    let end = argument.iter().position(|b| *b == b' ').unwrap_or(argument.len());
    (argument.get(..end).unwrap_or_default(), argument.slice(argument.len().min(end + 1)..))
}

/// Permission bits in octal.
pub(super) fn mode(digits: &[u8]) -> Result<u32, Reply> {
    let bad = || refused(501, format!("'{}' is no mode in octal", display_bytes(digits)));
    let octal = (1..=5).contains(&digits.len()) && digits.iter().all(|b| (b'0'..=b'7').contains(b));
    if !octal {
        return Err(bad());
    }
    let bits = digits.iter().fold(0u32, |n, b| n * 8 + u32::from(b - b'0'));
    if bits > 0o7777 { Err(bad()) } else { Ok(bits) }
}

/// A SHA-256 in hexadecimal digits, perhaps with colons between pairs.
pub(super) fn sha256(digits: &[u8]) -> Option<[u8; 32]> {
    let digits: Vec<u8> = digits.iter().copied().filter(|b| *b != b':').collect();
    let pairs = digits.chunks(2).map(|pair| {
        let whole = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
        u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|_| whole)?, 16).ok()
    });
    pairs.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// What stands before the closing quote, quotes within doubled, and what follows.
pub(super) fn unquote(raw: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        match (raw.get(at)?, raw.get(at + 1)) {
            (b'"', Some(b'"')) => {
                out.push(b'"');
                at += 2;
            }
            (b'"', _) => return Some((out, raw.get(at + 1..).unwrap_or_default())),
            (b, _) => {
                out.push(*b);
                at += 1;
            }
        }
    }
}

/// Two words, each perhaps in quotes; without quotes the first ends at the first space.
pub(super) fn two(raw: &Bytes) -> Option<(Vec<u8>, Vec<u8>)> {
    let (first, rest) = match raw.strip_prefix(b"\"") {
        Some(quoted) => unquote(quoted).and_then(|(f, r)| Some((f, r.strip_prefix(b" ")?.to_vec())))?,
        None => {
            let (first, rest) = word(raw);
            (first.to_vec(), rest.to_vec())
        }
    };
    let second = match rest.strip_prefix(b"\"") {
        Some(quoted) => unquote(quoted).filter(|(_, r)| r.is_empty())?.0,
        None => rest,
    };
    (!first.is_empty() && !second.is_empty()).then_some((first, second))
}

/// `YYYYMMDDHHMM[SS] path`, or the longer form `path atime mtime ctime UTC`.
pub(super) fn utime(rest: &Bytes) -> Result<(Vec<u8>, std::time::SystemTime), Reply> {
    let bad = || refused(501, "SITE UTIME YYYYMMDDHHMM[SS] path");
    let whole = |digits: &[u8]| match digits.len() {
        12 => stamp::parse(&[digits, b"00"].concat()),
        _ => stamp::parse(digits),
    };
    let (first, path) = word(rest);
    if let Some(time) = whole(first)
        && !path.is_empty()
    {
        return Ok((path.to_vec(), time));
    }
    let parts: Vec<&[u8]> = rest.rsplitn(5, |b| *b == b' ').collect();
    match parts.as_slice() {
        [utc, _changed, modified, _accessed, path] if utc.eq_ignore_ascii_case(b"UTC") => {
            Ok((path.to_vec(), whole(modified).ok_or_else(bad)?))
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_modes_are_read() {
        assert_eq!(unquote(b"a\"\"b\" rest").unwrap(), (b"a\"b".to_vec(), &b" rest"[..]));
        assert_eq!(unquote(b"open"), None);
        let pair = |raw: &'static [u8]| two(&Bytes::from_static(raw));
        assert_eq!(pair(b"a b c").unwrap(), (b"a".to_vec(), b"b c".to_vec()));
        assert_eq!(pair(b"\"a b\" \"c d\"").unwrap(), (b"a b".to_vec(), b"c d".to_vec()));
        assert_eq!(pair(b"a"), None);
        assert_eq!(mode(b"0755").unwrap(), 0o755);
        assert!(mode(b"17777").is_err() && mode(b"").is_err() && mode(b"8").is_err());
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(sha256(&b"aB".repeat(32)), Some([0xab; 32]));
        assert_eq!(sha256(["0f"; 32].join(":").as_bytes()), Some([15; 32]));
        for bad in [&b"0f".repeat(31)[..], &b"0g".repeat(32), &b"+f".repeat(32), b""] {
            assert_eq!(sha256(bad), None);
        }
    }
}
