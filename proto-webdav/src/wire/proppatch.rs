//! What a PROPPATCH changes (RFC 4918, sections 9.2 and 14.19), what an extended MKCOL sets (RFC 5689), and how
//! the value of a property is kept.
//!
//! A value that is text and nothing else is kept as that text, so that others than WebDAV can read and set
//! it. Any other is kept as its whole element, which says its own namespaces and therefore begins with `<`;
//! so is text that begins with one.

use bytes::Bytes;
use session_core::error::{Error, ErrorKind, Result};

use super::xml::{self, Element, Name};

/// Changes that one request may ask for.
pub const MAX_CHANGES: usize = 256;
/// The longest value of a property, bytes.
pub const MAX_VALUE: usize = 64 * 1024;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The property goes.
    Remove(Name),
    /// The property is this.
    Set(Element),
}

impl Change {
    /// Of which property.
    pub fn name(&self) -> &Name {
        match self {
            Change::Remove(name) => name,
            Change::Set(element) => &element.name,
        }
    }
}

fn bad(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

/// Reads the body of a PROPPATCH, in its order. Errors: `InvalidArgument`, `TooLarge` for a value.
pub fn parse(body: &[u8]) -> Result<Vec<Change>> {
    let root = xml::parse(body)?;
    if !root.name.is_dav("propertyupdate") {
        return Err(bad("the body is no propertyupdate"));
    }
    let changes = changes(&root)?;
    if changes.is_empty() { Err(bad("nothing is to be changed")) } else { Ok(changes) }
}

/// Reads the body of an extended MKCOL: what the new collection has. Errors: as of [`parse`].
pub fn parse_mkcol(body: &[u8]) -> Result<Vec<Change>> {
    let root = xml::parse(body)?;
    if !root.name.is_dav("mkcol") {
        return Err(bad("the body is no mkcol"));
    }
    let changes = changes(&root)?;
    if changes.iter().any(|c| matches!(c, Change::Remove(_))) {
        return Err(bad("a new collection has nothing to remove"));
    }
    Ok(changes)
}

fn changes(root: &Element) -> Result<Vec<Change>> {
    let mut out = Vec::new();
    for step in root.elements() {
        let sets = step.name.is_dav("set");
        if !sets && !step.name.is_dav("remove") {
            continue;
        }
        for property in step.elements().filter(|e| e.name.is_dav("prop")).flat_map(Element::elements) {
            if out.len() >= MAX_CHANGES {
                return Err(bad("too many properties are changed at once"));
            }
            if sets && value(property).len() > MAX_VALUE {
                return Err(
                    Error::new(ErrorKind::TooLarge).with_detail("the value of a property is too long")
                );
            }
            out.push(if sets {
                Change::Set(property.clone())
            } else {
                Change::Remove(property.name.clone())
            });
        }
    }
    Ok(out)
}

/// The value of a property, as it is kept.
pub fn value(property: &Element) -> Bytes {
    if property.is_plain() {
        let text = property.text();
        if !text.starts_with('<') {
            return text.into();
        }
    }
    let mut out = String::new();
    property.write(&mut out);
    out.into()
}

/// The element of a property from what is kept of it. `None` for what XML cannot hold.
pub fn property(name: &Name, value: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(value).ok()?;
    if text.starts_with('<')
        && let Ok(element) = xml::parse(value)
        && element.name == *name
    {
        return Some(element);
    }
    let mut element = Element::new(name.clone());
    if !text.is_empty() {
        element.children.push(xml::Node::Text(text.to_owned()));
    }
    Some(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(inner: &str) -> Result<Vec<Change>> {
        parse(format!("<D:propertyupdate xmlns:D='DAV:' xmlns='urn:x'>{inner}</D:propertyupdate>").as_bytes())
    }

    #[test]
    fn changes_come_in_their_order() {
        let all = update(
            "<D:set><D:prop><a>1</a><b/></D:prop></D:set><D:remove><D:prop><a/></D:prop></D:remove>\
             <other/><D:set><D:prop><a>2</a></D:prop></D:set>",
        )
        .unwrap();
        let words: Vec<_> = all
            .iter()
            .map(|c| match c {
                Change::Remove(n) => format!("-{}", n.key()),
                Change::Set(e) => format!("{}={}", e.name.key(), e.text()),
            })
            .collect();
        assert_eq!(words, ["{urn:x}a=1", "{urn:x}b=", "-{urn:x}a", "{urn:x}a=2"]);
        assert!(update("").is_err() && update("<D:set/>").is_err() && parse(b"<x/>").is_err());
        let many = format!("<D:set><D:prop>{}</D:prop></D:set>", "<a/>".repeat(MAX_CHANGES + 1));
        assert!(update(&many).is_err());
        let long = format!("<D:set><D:prop><a>{}</a></D:prop></D:set>", "x".repeat(MAX_VALUE + 1));
        assert_eq!(update(&long).unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(parse_mkcol(b"<mkcol xmlns='DAV:'><remove><prop><a/></prop></remove></mkcol>").is_err());
        assert_eq!(
            parse_mkcol(b"<mkcol xmlns='DAV:'><set><prop><a/></prop></set></mkcol>").unwrap().len(),
            1
        );
    }

    #[test]
    fn a_value_comes_back_as_it_was_set() {
        for inner in [
            "<a>plain &amp; simple</a>",
            "<a></a>",
            "<a>&lt;looks like a tag/&gt;</a>",
            "<a xml:lang='en'>words</a>",
            "<a><b xmlns='urn:y' k='v' xmlns:z='urn:z' z:k='w'>deep<c xmlns=''/></b> tail</a>",
        ] {
            let set = update(&format!("<D:set><D:prop>{inner}</D:prop></D:set>")).unwrap();
            let Change::Set(element) = &set[0] else { panic!() };
            assert_eq!(property(&element.name, &value(element)).as_ref(), Some(element), "{inner}");
        }
        let plain = property(&Name::new("urn:x", "a"), b"set by somebody else").unwrap();
        assert_eq!(plain.text(), "set by somebody else");
        assert_eq!(property(&Name::dav("a"), b"<broken").unwrap().text(), "<broken");
        assert_eq!(property(&Name::dav("a"), b"<b xmlns='DAV:'/>").unwrap().text(), "<b xmlns='DAV:'/>");
        assert_eq!(property(&Name::dav("a"), b"\xff"), None);
    }
}
