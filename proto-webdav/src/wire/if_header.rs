//! The `If` field (RFC 4918, section 10.4): state tokens and etags that must hold, of the resource itself or
//! of others.
//!
//! The field is bounded; what is not understood fails the request, never passes it.

use session_core::error::{Error, ErrorKind, Result};

/// Conditions in one field, at most.
pub const MAX_CONDITIONS: usize = 256;

/// The field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct If {
    /// One of these must hold.
    pub lists: Vec<List>,
}

/// Conditions on one resource, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The URL of the resource; `None` for the one of the request.
    pub resource: Option<String>,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// It must not hold.
    pub not: bool,
    /// What.
    pub what: What,
}

/// What must hold, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The resource has this etag, as written with its quotes.
    Etag(String),
    /// The resource is locked with this token.
    Token(String),
}

impl If {
    /// Reads the field. Errors: `InvalidArgument`.
    pub fn parse(field: &str) -> Result<Self> {
        let bad = || Error::new(ErrorKind::InvalidArgument).with_detail("the If field cannot be understood");
        let mut rest = field.trim();
        let mut lists: Vec<List> = Vec::new();
        let mut resource: Option<String> = None;
        let mut total = 0;
        let tagged = rest.starts_with('<');
        // A tag needs a list behind it.
        let mut waits = false;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('<') {
                if !tagged || waits {
                    return Err(bad());
                }
                let (url, after) = after.split_once('>').ok_or_else(bad)?;
                resource = Some(url.trim().to_owned());
                waits = true;
                rest = after.trim_start();
                continue;
            }
            rest = rest.strip_prefix('(').ok_or_else(bad)?.trim_start();
            waits = false;
            let mut conditions = Vec::new();
            loop {
                if let Some(after) = rest.strip_prefix(')') {
                    rest = after.trim_start();
                    break;
                }
                let after =
                    rest.get(..3).filter(|w| w.eq_ignore_ascii_case("not")).and_then(|_| rest.get(3..));
                let not = after.is_some();
                rest = after.unwrap_or(rest).trim_start();
                let what = if let Some(after) = rest.strip_prefix('<') {
                    let (token, after) = after.split_once('>').ok_or_else(bad)?;
                    rest = after;
                    What::Token(token.to_owned())
                } else {
                    let after = rest.strip_prefix('[').ok_or_else(bad)?;
                    let (etag, after) = etag(after).ok_or_else(bad)?;
                    rest = after.trim_start().strip_prefix(']').ok_or_else(bad)?;
                    What::Etag(etag.to_owned())
                };
                total += 1;
                if total > MAX_CONDITIONS {
                    return Err(bad());
                }
                conditions.push(Condition { not, what });
                rest = rest.trim_start();
            }
            if conditions.is_empty() {
                return Err(bad());
            }
            lists.push(List { resource: resource.clone(), conditions });
        }
        if lists.is_empty() || waits { Err(bad()) } else { Ok(If { lists }) }
    }

    /// Every token that is shown.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.lists.iter().flat_map(|l| &l.conditions).filter_map(|c| match &c.what {
            What::Token(token) => Some(token.as_str()),
            What::Etag(_) => None,
        })
    }
}

/// An etag at the beginning, with what follows.
fn etag(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let opaque = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?;
    let end = opaque.find('"')? + 1;
    let skipped = text.len() - opaque.len();
    text.split_at_checked(skipped + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(resource: Option<&str>, conditions: &[(bool, What)]) -> List {
        let conditions = conditions.iter().map(|(not, what)| Condition { not: *not, what: what.clone() });
        List { resource: resource.map(str::to_owned), conditions: conditions.collect() }
    }

    fn token(text: &str) -> What {
        What::Token(text.into())
    }

    fn tag(text: &str) -> What {
        What::Etag(text.into())
    }

    #[test]
    fn the_examples_of_the_standard() {
        let parsed = If::parse("(<urn:uuid:1> [\"I am an ETag\"]) ([\"I am another ETag\"])").unwrap();
        assert_eq!(
            parsed.lists,
            [
                list(None, &[(false, token("urn:uuid:1")), (false, tag("\"I am an ETag\""))]),
                list(None, &[(false, tag("\"I am another ETag\""))]),
            ]
        );
        let parsed = If::parse("(Not <urn:uuid:1> <urn:uuid:2>)").unwrap();
        assert_eq!(parsed.lists, [list(None, &[(true, token("urn:uuid:1")), (false, token("urn:uuid:2"))])]);
        assert_eq!(parsed.tokens().collect::<Vec<_>>(), ["urn:uuid:1", "urn:uuid:2"]);
        let parsed = If::parse("(<urn:uuid:1>) (Not <DAV:no-lock>)").unwrap();
        assert_eq!(parsed.lists.len(), 2);
        let parsed = If::parse(
            "</resource1> (<urn:uuid:1> [W/\"A weak ETag\"]) ([\"strong ETag\"]) <http://h/b>([\"x)]>\"])",
        )
        .unwrap();
        assert_eq!(
            parsed.lists,
            [
                list(Some("/resource1"), &[(false, token("urn:uuid:1")), (false, tag("W/\"A weak ETag\""))]),
                list(Some("/resource1"), &[(false, tag("\"strong ETag\""))]),
                list(Some("http://h/b"), &[(false, tag("\"x)]>\""))]),
            ]
        );
    }

    #[test]
    fn what_is_not_understood_does_not_pass() {
        for bad in [
            "",
            "()",
            "(",
            "(<a>",
            "<a>",
            "<a> <b> (<c>)",
            "(<a>) <r> (<b>)",
            "x",
            "(x)",
            "([a])",
            "([\"a)",
            "(Not)",
            "(Not Not <a>)",
            "(<a>) x",
            "(<a>)) ",
            "(\u{e9}<a>)",
            "(no<a>)",
        ] {
            assert!(If::parse(bad).is_err(), "{bad}");
        }
        let many = |n: usize| If::parse(&format!("({})", "<a>".repeat(n)));
        assert!(many(MAX_CONDITIONS).is_ok() && many(MAX_CONDITIONS + 1).is_err());
    }
}
