//! `Digest` credentials of a request (RFC 7616, section 3.4): read, and nothing judged.
//!
//! Only `qop=auth` with a count is understood: older answers (RFC 2069) can be played again. Names come as bytes in
//! UTF-8, from older clients in Latin-1, or in the form of RFC 8187. Hashed names (`userhash`) are not offered.

use percent_encoding::percent_decode_str;

/// By what an answer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5; where nothing is said, too.
    Md5,
    /// SHA-256.
    Sha256,
}

/// What a client answers to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Who it says to be.
    pub user: String,
    /// What it logs in to.
    pub realm: String,
    /// The challenge.
    pub nonce: String,
    /// The target of the request, as it stands in the answer.
    pub uri: String,
    /// The answer, in hexadecimal digits.
    pub response: String,
    /// How it was made.
    pub algorithm: Algorithm,
    /// How often the challenge was answered, this time included; as it stands in the answer.
    pub nc: String,
    /// The same as a number, never 0.
    pub count: u32,
    /// The client's own part.
    pub cnonce: String,
}

/// The longest field that is read.
const LONGEST: usize = 8 << 10;

/// Reads what follows `Digest `. `None` for what is no answer to a challenge of ours.
pub fn parse(field: &[u8]) -> Option<Credentials> {
    let text = match std::str::from_utf8(field.get(..LONGEST).unwrap_or(field)) {
        Ok(text) => text.to_owned(),
        Err(_) => field.iter().copied().map(char::from).collect(),
    };
    if field.len() > LONGEST {
        return None;
    }
    let parameters = parameters(&text)?;
    let mut twice = parameters.iter().enumerate();
    if twice.any(|(n, (name, _))| parameters.iter().take(n).any(|(other, _)| other == name)) {
        return None;
    }
    let of = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let user = match (of("username"), of("username*")) {
        (Some(user), None) => user,
        (None, Some(coded)) => {
            let (charset, rest) = coded.split_once('\'')?;
            let (_, coded) = rest.split_once('\'')?;
            let is_utf8 = charset.eq_ignore_ascii_case("utf-8");
            let decoded = percent_decode_str(coded).decode_utf8().ok().filter(|_| is_utf8)?;
            decoded.into_owned()
        }
        _ => return None,
    };
    let algorithm = match of("algorithm").map(|a| a.to_ascii_lowercase()).as_deref() {
        None | Some("md5") => Algorithm::Md5,
        Some("sha-256") => Algorithm::Sha256,
        Some(_) => return None,
    };
    let hashed = of("userhash").is_some_and(|h| h.eq_ignore_ascii_case("true"));
    let auth = of("qop").is_some_and(|q| q.eq_ignore_ascii_case("auth"));
    let nc = of("nc").filter(|n| n.len() == 8 && n.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let count = u32::from_str_radix(&nc, 16).ok().filter(|n| *n > 0)?;
    let cnonce = of("cnonce").filter(|c| !c.is_empty())?;
    if hashed || !auth {
        return None;
    }
    Some(Credentials {
        user,
        realm: of("realm")?,
        nonce: of("nonce")?,
        uri: of("uri")?,
        response: of("response")?,
        algorithm,
        nc,
        count,
        cnonce,
    })
}

/// `name=value, name="value"`, names in lower case, values as they mean. `None` where it is something else.
fn parameters(text: &str) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_*".contains(&b);
        if name.is_empty() || !name.bytes().all(fits) {
            return None;
        }
        let after = after.trim_start();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                let (value, left) = after.split_at_checked(end)?;
                let value = Some(value.trim()).filter(|v| !v.contains('"'))?;
                (value.to_owned(), left)
            }
        };
        out.push((name.to_ascii_lowercase(), value));
        let left = left.trim_start();
        rest = match left.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if left.is_empty() => left,
            None => return None,
        };
    }
    Some(out)
}

/// What stands before the closing quotation mark, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((out, text.get(at + 1..)?)),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616, section 3.9.1, with its commas at odd places.
    const FIELD: &str = "username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                         algorithm=SHA-256, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                         nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\" , qop=auth,\
                         response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\",\
                         opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    #[test]
    fn an_answer_is_read() {
        let read = parse(FIELD.as_bytes()).unwrap();
        assert_eq!((read.user.as_str(), read.uri.as_str()), ("Mufasa", "/dir/index.html"));
        assert_eq!((read.algorithm, read.count, read.nc.as_str()), (Algorithm::Sha256, 1, "00000001"));
        assert_eq!(read.nonce, "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v");
        let named = |name: &str| parse(FIELD.replace("username=\"Mufasa\"", name).as_bytes()).map(|c| c.user);
        assert_eq!(named("username*=UTF-8''J%C3%A4s%C3%B8n").as_deref(), Some("Jäsøn"));
        assert_eq!(named(r#"username="a\"b\\c, d""#).as_deref(), Some("a\"b\\c, d"));
        let latin: Vec<u8> = FIELD.replace("Mufasa", "J\u{e4}s").chars().map(|c| c as u8).collect();
        assert_eq!(parse(&latin).unwrap().user, "Jäs");
        assert_eq!(
            parse(FIELD.replace("algorithm=SHA-256,", "").as_bytes()).unwrap().algorithm,
            Algorithm::Md5
        );
        assert!(parse(FIELD.replace("qop=auth", "qop=\"auth\"").as_bytes()).is_some());
    }

    #[test]
    fn what_could_be_played_again_or_is_none_is_not_read() {
        for (good, bad) in [
            ("qop=auth", "qop=auth-int"),
            ("qop=auth,", ""),
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=00000000"),
            ("nc=00000001", "nc=0000000g"),
            ("SHA-256", "SHA-256-sess"),
            ("SHA-256", "SHA-512-256"),
            ("username=\"Mufasa\"", "username=\"a\", username*=UTF-8''a"),
            ("username=\"Mufasa\"", "username*=ISO-8859-1''a"),
            ("username=\"Mufasa\"", "username=\"a\", userhash=true"),
            ("realm=", "uri=\"/other\", realm="),
            ("uri=\"/dir", "uri=/dir"),
        ] {
            assert_eq!(parse(FIELD.replace(good, bad).as_bytes()), None, "{bad}");
        }
        for bad in ["", "username", "username=\"a", "username=\"a\" realm=\"b\"", "=a", &"a".repeat(9000)] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
