//! Ranges of bytes, asked for and sent (RFC 9110, section 14).
//!
//! What cannot be understood is no range at all, and the whole is sent. Ranges that overlap become one; more
//! of them than a client has a use for are not served in pieces.

use std::ops::Range;

/// Ranges in one answer, at most.
pub const MAX_RANGES: usize = 16;

/// What a `Range` field comes to for content of a certain size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no range, or none that is understood.
    All,
    /// These, not empty, in order of the file, apart from each other.
    Parts(Vec<Range<u64>>),
    /// Nothing of it is there.
    Nothing,
}

/// What `field` wants of `size` bytes.
pub fn wanted(field: &str, size: u64) -> Wanted {
    let Some((unit, set)) = field.split_once('=') else { return Wanted::All };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::All;
    }
    let mut parts = Vec::new();
    let mut understood = 0;
    for spec in set.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        understood += 1;
        if understood > MAX_RANGES {
            return Wanted::All;
        }
        let Some((from, to)) = spec.split_once('-') else { return Wanted::All };
        let range = match (number(from.trim()), number(to.trim())) {
            (Some(Some(from)), Some(None)) => from..size,
            (Some(Some(from)), Some(Some(to))) if from <= to => from..to.saturating_add(1).min(size),
            (Some(None), Some(Some(last))) => size.saturating_sub(last)..size,
            _ => return Wanted::All,
        };
        if range.start < range.end {
            parts.push(range);
        }
    }
    if understood == 0 {
        return Wanted::All;
    }
    parts.sort_by_key(|r| r.start);
    let mut apart: Vec<Range<u64>> = Vec::with_capacity(parts.len());
    for next in parts {
        match apart.last_mut() {
            Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
            _ => apart.push(next),
        }
    }
    if apart.is_empty() { Wanted::Nothing } else { Wanted::Parts(apart) }
}

/// `None` for what is no number, `Some(None)` for nothing at all.
#[allow(clippy::option_option, reason = "absent and wrong are two things here")]
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Larger than any file is a number all the same.
    Some(Some(text.parse().unwrap_or(u64::MAX)))
}

/// `Content-Range` of a part.
pub fn content_range(part: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1))
}

/// `Content-Range` of a request: the part of a file that its body holds, and the size of the whole where it
/// is known. `None` for what is not understood.
pub fn parse_content_range(field: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (unit, rest) = field.trim().split_once(' ')?;
    let (span, size) = rest.trim().split_once('/')?;
    let (from, to) = span.split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let size = if size == "*" { None } else { Some(number(size)??) };
    let (from, to) = (number(from)??, number(to)??);
    let end = to.checked_add(1)?;
    (from <= to && size.is_none_or(|s| end <= s)).then_some((from..end, size))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range it is")]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_sorted_and_joined() {
        for (field, parts) in [
            ("bytes=0-0", vec![0..1]),
            ("bytes=5-", vec![5..10]),
            ("bytes=-3", vec![7..10]),
            ("bytes=-30", vec![0..10]),
            ("bytes=2-99999999999999999999999", vec![2..10]),
            ("bytes=8-9, 0-1", vec![0..2, 8..10]),
            ("bytes=0-3,2-5,6-6", vec![0..7]),
            ("Bytes = 1-2", vec![1..3]),
            ("bytes=20-30,1-1", vec![1..2]),
        ] {
            assert_eq!(wanted(field, 10), Wanted::Parts(parts), "{field}");
        }
        for field in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(wanted(field, 10), Wanted::Nothing, "{field}");
        }
        let many = format!("bytes={}", "0-0,".repeat(MAX_RANGES + 1));
        for field in
            ["", "bytes", "bytes=", "lines=1-2", "bytes=2-1", "bytes=a-b", "bytes=--1", "bytes=1", &many]
        {
            assert_eq!(wanted(field, 10), Wanted::All, "{field}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nothing);
    }

    #[test]
    fn a_part_that_is_sent_says_where_it_belongs() {
        assert_eq!(parse_content_range("bytes 0-4/10"), Some((0..5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5..10, None)));
        let written = content_range(&(5..10), 10);
        assert_eq!(parse_content_range(&written), Some((5..10, Some(10))));
        for bad in [
            "",
            "bytes */10",
            "bytes 4-3/10",
            "bytes 0-10/10",
            "lines 0-1/2",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
