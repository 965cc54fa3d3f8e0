//! HTTP CONNECT, in bytes (RFC 9110, section 9.3.6; RFC 9112, sections 2 to 4; RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Failure, Login, Side, Target, misbehaved};
use crate::auth::Secret;
use crate::error::{Error, ErrorKind};

/// The largest head of an answer, bytes.
pub const LARGEST: usize = 16 * 1024;
/// How many interim answers (1xx) are passed over.
const INTERIM: usize = 8;

/// The request.
pub fn request(target: &Target, login: Option<&Login>) -> Secret {
    let mut out = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(login) = login {
        let pair = Secret::new(format!("{}:{}", login.user, login.password.expose()));
        out += &format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair.expose()));
    }
    out += "\r\n";
    Secret::new(out)
}

/// The head of an answer, as it comes in.
#[derive(Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    interim: usize,
}

impl Head {
    /// Takes one byte; `true` when the head is whole. Errors: one that is no head, or too long.
    pub fn push(&mut self, byte: u8) -> Result<bool, Failure> {
        const BEGINS: &[u8] = b"HTTP/1.";
        if BEGINS.get(self.bytes.len()).is_some_and(|b| *b != byte) {
            return Err(misbehaved("the proxy does not speak HTTP"));
        }
        if self.bytes.len() >= LARGEST {
            return Err(misbehaved("the proxy's answer is too long"));
        }
        self.bytes.push(byte);
        if !(self.bytes.ends_with(b"\r\n\r\n") || self.bytes.ends_with(b"\n\n")) {
            return Ok(false);
        }
        if matches!(self.status()?.0, 100..=199) {
            self.interim += 1;
            if self.interim > INTERIM {
                return Err(misbehaved("the proxy never comes to an answer"));
            }
            self.bytes.clear();
            return Ok(false);
        }
        Ok(true)
    }

    fn status(&self) -> Result<(u16, String), Failure> {
        let line = self.bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut words = line.splitn(3, |b| *b == b' ');
        let (_, code, reason) =
            (words.next(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let digits = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
        let code = std::str::from_utf8(code).ok().filter(|_| digits).and_then(|c| c.parse().ok());
        let code = code.ok_or_else(|| misbehaved("the proxy's answer has no status"))?;
        let reason = crate::path::display_bytes(reason.get(..reason.len().min(200)).unwrap_or_default());
        Ok((code, reason))
    }

    /// What a whole head says.
    pub fn judge(&self, target: &Target) -> Result<(), Failure> {
        let (code, reason) = self.status()?;
        let (side, kind, words) = match code {
            200..=299 => return Ok(()),
            407 | 401 => {
                (Side::Proxy, ErrorKind::Unauthenticated, "the proxy wants a login, or another, for")
            }
            403 | 405 | 451 => (Side::Proxy, ErrorKind::Refused, "the proxy's rules forbid"),
            404 => (Side::Target, ErrorKind::NotFound, "the proxy cannot find"),
            429 => (Side::Proxy, ErrorKind::Throttled, "the proxy has too much to do for"),
            502 | 503 => (Side::Target, ErrorKind::Disconnected, "the proxy does not reach"),
            504 => (Side::Target, ErrorKind::TimedOut, "the proxy gets no answer in time from"),
            _ => (Side::Proxy, ErrorKind::Refused, "the proxy does not connect to"),
        };
        let mut e = Error::new(kind)
            .with_detail(format!("{words} '{target}': {code} {reason}"))
            .with_wire(u32::from(code), reason);
        if kind == ErrorKind::Unauthenticated {
            e = e.with_hint(
                "give it in the proxy's URL: http://user:password@host:port; only Basic is spoken",
            );
        }
        Err((side, e))
    }
}
