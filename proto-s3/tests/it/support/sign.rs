//! Signature Version 4 as clients make it, written for tests apart from what verifies it.

use std::time::{SystemTime, UNIX_EPOCH};

use session_core::digest::Hasher;
use session_core::fs::Algorithm;

use super::SECRET;

pub const HOST: &str = "s3.test";
const REGION: &str = "us-east-1";

pub fn sha256(data: &[u8]) -> String {
    hex(&digest(&[data]))
}

fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    parts.iter().for_each(|p| hasher.update(p));
    hasher.finish().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// RFC 2104.
fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    let key = if key.len() > 64 { digest(&[key]) } else { key.to_vec() };
    block[..key.len()].copy_from_slice(&key);
    let (inner, outer) = (block.map(|b| b ^ 0x36), block.map(|b| b ^ 0x5c));
    digest(&[&outer, &digest(&[&inner, data])])
}

fn encode(text: &str, slash: bool) -> String {
    let one = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        b'/' if !slash => "/".to_owned(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let digits = |a: u8, b: u8| u8::from_str_radix(std::str::from_utf8(&[a, b]).unwrap(), 16).unwrap();
        out.push(if b == b'%' { digits(bytes.next().unwrap(), bytes.next().unwrap()) } else { b });
    }
    String::from_utf8(out).unwrap()
}

/// Year, month and day of so many days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let leap = |y: u64| y.is_multiple_of(4) && !y.is_multiple_of(100) || y.is_multiple_of(400);
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

/// A request that nobody signs.
pub fn plain(line: &str, fields: &[&str]) -> String {
    let mut head = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n");
    fields.iter().for_each(|f| head += &format!("{f}\r\n"));
    head
}

/// Who signs, with what, and when.
#[derive(Clone)]
pub struct Signer {
    pub key: String,
    pub secret: String,
    /// Seconds since 1970.
    pub now: u64,
}

impl Signer {
    pub fn new(key: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Signer { key: key.to_owned(), secret: SECRET.to_owned(), now }
    }

    /// `20260131T235959Z`.
    pub fn stamp(&self) -> String {
        let (year, month, day) = civil(self.now / 86_400);
        let (hour, minute, second) = (self.now / 3600 % 24, self.now / 60 % 60, self.now % 60);
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    fn scope(&self) -> String {
        format!("{}/{REGION}/s3/aws4_request", &self.stamp()[..8])
    }

    /// The signature of a text.
    pub fn sign(&self, text: &str) -> String {
        let stamp = self.stamp();
        let mut key = hmac(format!("AWS4{}", self.secret).as_bytes(), &stamp.as_bytes()[..8]);
        for part in [REGION, "s3", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        hex(&hmac(&key, text.as_bytes()))
    }

    fn canonical(
        &self,
        line: &str,
        extra: &[(String, String)],
        fields: &[(String, String)],
        hash: &str,
    ) -> String {
        let (method, url) = line.split_once(' ').unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let mut pairs: Vec<(String, String)> = extra.to_vec();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name), decode(value)));
        }
        let mut pairs: Vec<_> = pairs.iter().map(|(n, v)| (encode(n, true), encode(v, true))).collect();
        pairs.sort();
        let query: Vec<_> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let lines: String = fields.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let names = Self::names(fields);
        let path = encode(&decode(path), false);
        format!("{method}\n{path}\n{}\n{lines}\n{names}\n{hash}", query.join("&"))
    }

    fn names(fields: &[(String, String)]) -> String {
        fields.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(";")
    }

    fn to_sign(&self, canonical: &str) -> String {
        let hash = sha256(canonical.as_bytes());
        format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", self.stamp(), self.scope())
    }

    /// The head of a request of which all fields are signed, and its signature. `hash` is that of the content, or
    /// the word in its place.
    pub fn seal(&self, line: &str, fields: &[&str], hash: &str) -> (String, String) {
        let pair = |f: &&str| {
            let (name, value) = f.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let mut all: Vec<_> = fields.iter().map(pair).collect();
        all.push(("host".into(), HOST.into()));
        all.push(("x-amz-date".into(), self.stamp()));
        all.push(("x-amz-content-sha256".into(), hash.into()));
        all.sort();
        let signature = self.sign(&self.to_sign(&self.canonical(line, &[], &all, hash)));
        let mut head = format!("{line} HTTP/1.1\r\n");
        all.iter().for_each(|(n, v)| head += &format!("{n}: {v}\r\n"));
        let (key, scope, names) = (&self.key, self.scope(), Self::names(&all));
        head += &format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, \
             Signature={signature}\r\n"
        );
        (head, signature)
    }

    pub fn head(&self, line: &str, fields: &[&str], hash: &str) -> String {
        self.seal(line, fields, hash).0
    }

    /// The URL with its signature, good for so many seconds, of a line `GET /path`.
    pub fn presigned(&self, line: &str, seconds: u64) -> String {
        let extra: Vec<(String, String)> = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("X-Amz-Credential", format!("{}/{}", self.key, self.scope())),
            ("X-Amz-Date", self.stamp()),
            ("X-Amz-Expires", seconds.to_string()),
            ("X-Amz-SignedHeaders", "host".to_owned()),
        ]
        .map(|(n, v)| (n.to_owned(), v))
        .to_vec();
        let fields = [("host".to_owned(), HOST.to_owned())];
        let canonical = self.canonical(line, &extra, &fields, "UNSIGNED-PAYLOAD");
        let signature = self.sign(&self.to_sign(&canonical));
        let url = line.split_once(' ').unwrap().1;
        let more: Vec<_> = extra.iter().map(|(n, v)| format!("{n}={}", encode(v, true))).collect();
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}{}&X-Amz-Signature={signature}", more.join("&"))
    }

    /// Content in signed chunks, behind a head with this signature.
    pub fn chunks(&self, seed: &str, pieces: &[&[u8]]) -> Vec<u8> {
        let mut before = seed.to_owned();
        let mut body = Vec::new();
        for piece in pieces.iter().copied().chain([&b""[..]]) {
            let text = format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{before}\n{}\n{}",
                self.stamp(),
                self.scope(),
                sha256(b""),
                sha256(piece)
            );
            before = self.sign(&text);
            body.extend_from_slice(format!("{:x};chunk-signature={before}\r\n", piece.len()).as_bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body
    }
}
