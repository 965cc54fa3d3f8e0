//! What an ICAP server says (RFC 3507): the head of an answer, where its parts lie, chunks, and what was found.
//!
//! Bytes in, values out: whatever a peer says, a value or `None` comes of it. Nothing here reads or waits; how much
//! is read is bounded by the caller. It needs the standard library alone, so that the fuzz target is this very file.

use std::ops::Range;

/// The head of an answer, of ICAP or of HTTP within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The three digits.
    pub(super) status: u16,
    /// Names and values; a value that goes on in further lines has them parted by line feeds.
    fields: Vec<(String, String)>,
}

/// A part of an encapsulated message (RFC 3507, 4.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The head of an HTTP request.
    RequestHead,
    /// The head of an HTTP response.
    ResponseHead,
    /// The body of a request.
    RequestBody,
    /// The body of a response.
    ResponseBody,
    /// The body of an answer to OPTIONS.
    OptionsBody,
    /// There is no body.
    NoBody,
}

/// Where the parts of an encapsulated message lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// The heads and their bytes, one after the other from 0.
    pub(super) heads: Vec<(Part, Range<usize>)>,
    /// The body, behind them.
    pub(super) body: Part,
    /// Where it begins: the bytes of all heads.
    pub(super) heads_end: usize,
}

/// Bytes as text; what is no UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Lines without their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

impl Head {
    /// A head up to its empty line, of a message of `protocol` (`ICAP`, `HTTP`). `None` where it is none.
    pub(super) fn parse(bytes: &[u8], protocol: &str) -> Option<Head> {
        let mut lines = lines(bytes);
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let (version, rest) = first.strip_prefix(protocol)?.strip_prefix('/')?.split_once(' ')?;
        let (major, minor) = version.split_once('.')?;
        if major != "1" || minor.is_empty() || !minor.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = rest.split(' ').next()?;
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut head = Head { status: digits.parse().ok().filter(|s| *s >= 100)?, fields: Vec::new() };
        for line in lines {
            match line.first() {
                None => break,
                // A line that begins so goes on with the value before it.
                Some(b' ' | b'\t') => {
                    let (_, value) = head.fields.last_mut()?;
                    value.push('\n');
                    value.push_str(text(line).trim());
                }
                Some(_) => {
                    let at = line.iter().position(|b| *b == b':')?;
                    let (name, value) = line.split_at_checked(at)?;
                    let is_token = |b: &u8| b.is_ascii_graphic() && *b != b':';
                    if name.is_empty() || !name.iter().all(is_token) {
                        return None;
                    }
                    let value = text(value.get(1..)?).trim().to_owned();
                    head.fields.push((text(name), value));
                }
            }
        }
        Some(head)
    }

    /// The first field of this name, whatever its case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether a list has this word.
    pub(super) fn lists(&self, name: &str, word: &str) -> bool {
        let fields = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        fields.flat_map(|(_, value)| value.split([',', '\n'])).any(|w| w.trim().eq_ignore_ascii_case(word))
    }

    /// A field that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// Where the encapsulated parts lie. `None` where that is not said, said twice, or makes no sense.
    pub(super) fn parts(&self) -> Option<Parts> {
        let mut said = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case("encapsulated"));
        let (_, list) = said.next()?;
        if said.next().is_some() {
            return None;
        }
        let mut heads: Vec<(Part, Range<usize>)> = Vec::new();
        let mut last: Option<(Part, usize)> = None;
        for part in list.split(',') {
            let (name, at) = part.trim().split_once('=')?;
            let at: usize = at.trim().parse().ok()?;
            match last {
                None if at != 0 => return None,
                // Behind a body comes nothing, and what lies in between is a head.
                Some((part, from)) => {
                    let is_head = matches!(part, Part::RequestHead | Part::ResponseHead);
                    if !is_head || at < from || heads.iter().any(|(known, _)| *known == part) {
                        return None;
                    }
                    heads.push((part, from..at));
                }
                None => {}
            }
            let part = match name.trim().to_ascii_lowercase().as_str() {
                "req-hdr" => Part::RequestHead,
                "res-hdr" => Part::ResponseHead,
                "req-body" => Part::RequestBody,
                "res-body" => Part::ResponseBody,
                "opt-body" => Part::OptionsBody,
                "null-body" => Part::NoBody,
                _ => return None,
            };
            last = Some((part, at));
        }
        match last? {
            (Part::RequestHead | Part::ResponseHead, _) => None,
            (body, heads_end) => Some(Parts { heads, body, heads_end }),
        }
    }

    /// What the scanner calls what it found; `None` where it says of nothing that it was found.
    pub(super) fn threat(&self) -> Option<String> {
        let named =
            |name: &str| Some(name.trim()).filter(|n| !n.is_empty()).unwrap_or("something").to_owned();
        if let Some(found) = self.field("X-Infection-Found") {
            // `Type=0; Resolution=2; Threat=Eicar;`
            let threat = found.split(';').find_map(|part| {
                let (name, value) = part.split_once('=')?;
                name.trim().eq_ignore_ascii_case("threat").then_some(value)
            });
            return Some(named(threat.unwrap_or(found)));
        }
        if let Some(id) = self.field("X-Virus-ID") {
            return Some(named(id));
        }
        // How many, then of each a file, a name, a number and what was done, a line each.
        let mut lines = self.field("X-Violations-Found")?.split('\n').map(str::trim);
        let count = lines.next().unwrap_or_default();
        (count != "0").then(|| named(lines.nth(1).unwrap_or(count)))
    }
}

/// The size of a chunk as its line says it, without the line's end; extensions mean nothing. `None` for what is none.
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let digits = line.split(|b| *b == b';').next()?.trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
