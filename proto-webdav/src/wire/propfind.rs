//! What a PROPFIND asks for (RFC 4918, sections 9.1 and 14.20).

use session_core::error::{Error, ErrorKind, Result};

use super::xml::{self, Name};

/// Properties that one request may name.
pub const MAX_NAMES: usize = 256;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Propfind {
    /// All that cost nothing, and these.
    All(Vec<Name>),
    /// The names of all that are there.
    Names,
    /// These.
    Named(Vec<Name>),
}

impl Propfind {
    /// Reads a body; an empty one asks for all. Errors: `InvalidArgument`.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Propfind::All(Vec::new()));
        }
        let root = xml::parse(body)?;
        if !root.name.is_dav("propfind") {
            return Err(bad("the body is no propfind"));
        }
        let names = |of: &str| -> Result<Vec<Name>> {
            let names: Vec<_> =
                root.dav(of).into_iter().flat_map(|e| e.elements()).map(|e| e.name.clone()).collect();
            if names.len() > MAX_NAMES {
                return Err(bad("too many properties are asked for at once"));
            }
            Ok(names)
        };
        let asked = ["allprop", "prop", "propname"].into_iter().filter(|n| root.dav(n).is_some());
        match asked.collect::<Vec<_>>()[..] {
            ["allprop"] => Ok(Propfind::All(names("include")?)),
            ["prop"] => Ok(Propfind::Named(names("prop")?)),
            ["propname"] => Ok(Propfind::Names),
            _ => Err(bad("a propfind asks for one thing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> Result<Propfind> {
        Propfind::parse(format!("<D:propfind xmlns:D='DAV:'>{inner}</D:propfind>").as_bytes())
    }

    #[test]
    fn a_propfind_asks_for_one_thing() {
        assert_eq!(Propfind::parse(b" \r\n").unwrap(), Propfind::All(vec![]));
        assert_eq!(parse("<D:propname/>").unwrap(), Propfind::Names);
        assert_eq!(parse("<D:allprop/>").unwrap(), Propfind::All(vec![]));
        let include = parse("<D:allprop/><D:include><D:x/></D:include>").unwrap();
        assert_eq!(include, Propfind::All(vec![Name::dav("x")]));
        let named =
            parse("<ext xmlns='urn:x'/><D:prop><D:a/><b xmlns='urn:x'/><c xmlns=''/></D:prop>").unwrap();
        assert_eq!(named, Propfind::Named(vec![Name::dav("a"), Name::new("urn:x", "b"), Name::new("", "c")]));
        assert_eq!(parse("<D:prop/>").unwrap(), Propfind::Named(vec![]));
        for bad in ["", "<D:x/>", "<D:allprop/><D:propname/>", "<D:prop/><D:allprop/>"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&format!("<D:prop>{}</D:prop>", "<D:a/>".repeat(MAX_NAMES + 1))).is_err());
        assert!(Propfind::parse(b"<x/>").is_err());
    }
}
