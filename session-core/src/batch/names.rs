//! Characters that names may not have on a disk, replaced on the way there and put back on the way back.

/// What becomes of such characters: each byte of one is `%` and two hexadecimal digits, or another character. The
/// model is WinSCP's (`ReplaceInvalidChars`, `LocalInvalidChars`), which does so because of Windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidChars {
    chars: String,
    by: Option<char>,
}

/// What Windows takes in no name.
const WINDOWS: &str = "/\\:*?\"<>|";

impl Default for InvalidChars {
    fn default() -> Self {
        InvalidChars::new(WINDOWS)
    }
}

impl InvalidChars {
    /// These characters, `%` and control characters, as codes.
    pub fn new(chars: &str) -> Self {
        InvalidChars { chars: chars.to_owned(), by: None }
    }

    /// The same, each replaced by one character. Nothing is put back then.
    #[must_use]
    pub fn replaced_by(mut self, by: char) -> Self {
        self.by = Some(by);
        self
    }

    /// The characters.
    pub fn chars(&self) -> &str {
        &self.chars
    }

    /// What they are replaced by; `None` for their codes.
    pub fn by(&self) -> Option<char> {
        self.by
    }

    fn is_invalid(&self, c: char) -> bool {
        c.is_ascii_control() || self.chars.contains(c)
    }

    /// A name as it is on a disk. What is not UTF-8 stays.
    pub fn to_local(&self, name: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(name) else { return name.to_vec() };
        let mut out = String::with_capacity(text.len());
        let mut buffer = [0; 4];
        for (at, c) in text.char_indices() {
            // A code that stood in the name already must not be taken for one of ours.
            let looks_like_code =
                c == '%' && self.by.is_none() && self.code(name.get(at..).unwrap_or_default()).is_some();
            match self.by {
                _ if !self.is_invalid(c) && !looks_like_code => out.push(c),
                Some(by) => out.push(by),
                None => c.encode_utf8(&mut buffer).bytes().for_each(|b| out.push_str(&format!("%{b:02X}"))),
            }
        }
        out.into_bytes()
    }

    /// A name as it was before [`to_local`](Self::to_local).
    pub fn to_remote(&self, name: &[u8]) -> Vec<u8> {
        if self.by.is_some() {
            return name.to_vec();
        }
        let mut out = Vec::with_capacity(name.len());
        let mut rest = name;
        while let Some((&first, after)) = rest.split_first() {
            match self.code(rest) {
                Some(byte) => {
                    out.push(byte);
                    rest = rest.get(3..).unwrap_or_default();
                }
                None => {
                    out.push(first);
                    rest = after;
                }
            }
        }
        out
    }

    /// The byte whose code begins here, if it is one that is replaced: never a slash or a zero, whatever was said.
    fn code(&self, rest: &[u8]) -> Option<u8> {
        let [b'%', high, low, ..] = rest else { return None };
        let digit = |b: &u8| char::from(*b).to_digit(16);
        let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
        let c = char::from(byte);
        // Bytes of a longer character are ours if one of the characters has them.
        let is_ours = if byte.is_ascii() {
            c == '%' || self.is_invalid(c)
        } else {
            self.chars.chars().any(|c| c.encode_utf8(&mut [0; 4]).as_bytes().contains(&byte))
        };
        (is_ours && byte != b'/' && byte != 0).then_some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_comes_back() {
        let windows = InvalidChars::default();
        for (name, local) in [
            (&b"a:b?.txt"[..], &b"a%3Ab%3F.txt"[..]),
            (b"100%", b"100%"),
            (b"a%3Ab", b"a%253Ab"),
            (b"a%25b", b"a%2525b"),
            (b"tab\there", b"tab%09here"),
            (b"a%zzb%", b"a%zzb%"),
            ("ä|€".as_bytes(), "ä%7C€".as_bytes()),
            (b"\xff:", b"\xff:"),
        ] {
            assert_eq!(windows.to_local(name), local, "{}", name.escape_ascii());
            assert_eq!(windows.to_remote(local), name, "{}", local.escape_ascii());
        }
        let euro = InvalidChars::new("€");
        assert_eq!(euro.to_local("1€".as_bytes()), b"1%E2%82%AC");
        assert_eq!(euro.to_remote(b"1%E2%82%AC"), "1€".as_bytes());
    }

    #[test]
    fn no_code_leads_out_of_a_directory() {
        let all = InvalidChars::default();
        assert_eq!(all.to_remote(b"..%2Fetc%00"), b"..%2Fetc%00");
        let by = InvalidChars::default().replaced_by('_');
        assert_eq!(
            (by.to_local(b"a:b%3A"), by.to_remote(b"a_b%3A")),
            (b"a_b%3A".to_vec(), b"a_b%3A".to_vec())
        );
    }
}
