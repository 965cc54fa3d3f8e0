//! Properties that somebody has set and that the server keeps as they are (dead ones; RFC 4918, section 4), by the
//! model's names and values.
//!
//! A name of the form `{namespace}name` is that element, its value text, or the whole element where it begins with
//! `<`. Any other name, and names in namespaces whose properties are the server's own, stand in a namespace of ours,
//! with name and value escaped: what is set comes back as it was, whatever its bytes.
//!
//! Deliberately absent: properties that follow from what is there (`props`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Properties;

use super::props::{MICROSOFT, OWNCLOUD};
use crate::wire::KEEPS_PROPERTIES;
use crate::wire::multistatus_reader::Answer;
use crate::wire::proppatch;
use crate::wire::xml::{self, Element, Name, Node};

/// Ours, for names that are none of XML.
const OURS: &str = "urn:ferry:property";
/// Namespaces of which a server tells what it knows itself.
const LIVE: &[&str] = &[
    "",
    xml::DAV,
    MICROSOFT,
    OWNCLOUD,
    "http://apache.org/dav/props/",
    "http://nextcloud.org/ns",
    "http://open-cloud-mesh.org/ns",
    "http://open-collaboration-services.org/ns",
    "http://sabredav.org/ns",
    "urn:ferry:dav",
];

/// Asks for everything that is known of an entry.
pub(super) const ALL: &str =
    r#"<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>"#;

/// Whether a server that names itself like this, and speaks these classes of WebDAV, keeps properties. Others refuse
/// them, or forget them.
pub(super) fn keeps(server: &str, classes: &str, is_owncloud: bool) -> bool {
    let server = server.to_ascii_lowercase();
    is_owncloud
        || classes.contains(KEEPS_PROPERTIES)
        || ["apache", "wsgidav"].iter().any(|name| server.starts_with(name))
}

/// What stands for a name of the model.
fn name_of(key: &str) -> Name {
    match Name::from_key(key) {
        Some(name) if *name.space != *OURS && !LIVE.contains(&&*name.space) => name,
        _ => Name::new(OURS, escaped(key)),
    }
}

/// Any text as a name of XML: letters and digits stand for themselves, all else for its bytes.
fn escaped(key: &str) -> String {
    let mut out = String::new();
    for b in key.bytes() {
        if b.is_ascii_alphabetic() || (b.is_ascii_digit() && !out.is_empty()) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("_{b:02X}"));
        }
    }
    out
}

/// The inverse of [`escaped`].
fn unescaped(local: &str) -> Option<String> {
    let (mut out, mut bytes) = (Vec::new(), local.bytes());
    while let Some(b) = bytes.next() {
        if b == b'_' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// The element that sets a property. Errors: `InvalidArgument` for a value that XML cannot hold.
fn element(name: Name, value: &[u8]) -> Result<Element> {
    if *name.space == *OURS {
        let text = percent_encode(value, NON_ALPHANUMERIC).to_string();
        let mut element = Element::new(name);
        if !text.is_empty() {
            element.children.push(Node::Text(text));
        }
        return Ok(element);
    }
    let holds = std::str::from_utf8(value).is_ok_and(xml::is_text);
    proppatch::property(&name, value).filter(|_| holds).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail("a property of WebDAV is text: this value cannot be one")
    })
}

/// The body of a PROPPATCH that makes these changes. Errors: `InvalidArgument`.
pub(super) fn request(changes: &BTreeMap<String, Option<Bytes>>) -> Result<String> {
    let mut out = "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:propertyupdate xmlns:D=\"DAV:\">".to_owned();
    for (key, value) in changes {
        if key.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a property has a name"));
        }
        let name = name_of(key);
        let (step, element) = match value {
            Some(value) => ("set", element(name, value)?),
            None => ("remove", Element::new(name)),
        };
        out.push_str(&format!("<D:{step}><D:prop>"));
        element.write(&mut out);
        out.push_str(&format!("</D:prop></D:{step}>"));
    }
    out.push_str("</D:propertyupdate>");
    Ok(out)
}

/// The property that an element of an answer is, if it is one that was set.
fn property(element: &Element) -> Option<(String, Bytes)> {
    let name = &element.name;
    if *name.space == *OURS {
        let value: Vec<u8> = percent_decode_str(element.text().trim()).collect();
        return Some((unescaped(&name.local)?, value.into()));
    }
    (!LIVE.contains(&&*name.space)).then(|| (name.key(), proppatch::value(element)))
}

/// What is kept of the one thing that a multistatus is about. Errors: `InvalidArgument` for what is no XML.
pub(super) fn read(multistatus: &[u8]) -> Result<Properties> {
    let root = xml::parse(multistatus)?;
    let told = |e: &&Element| e.name.is_dav("propstat") && e.dav("status").is_some_and(is_told);
    let response = root.dav("response");
    let all = response.into_iter().flat_map(Element::elements).filter(told);
    let all = all.filter_map(|e| e.dav("prop")).flat_map(Element::elements);
    Ok(Arc::new(all.filter_map(property).collect()))
}

/// `HTTP/1.1 200 OK`.
fn is_told(status: &Element) -> bool {
    status.text().split_ascii_whitespace().nth(1) == Some("200")
}

/// What is kept of an entry of a listing; those that are no text are left out.
pub(super) fn of_entry(answer: &Answer) -> Properties {
    let plain = answer.properties.iter().filter(|p| p.status == 200 && p.children.is_empty());
    let all = plain.filter_map(|p| {
        let mut element = Element::new(Name::new(p.namespace.as_str(), p.name.as_str()));
        element.children.push(Node::Text(p.text.clone()));
        property(&element)
    });
    Arc::new(all.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a server that keeps them tells of what it was asked to set.
    fn kept(changes: &BTreeMap<String, Option<Bytes>>) -> Properties {
        let asked = xml::parse(request(changes).unwrap().as_bytes()).unwrap();
        let mut out = "<D:multistatus xmlns:D='DAV:'><D:response><D:propstat><D:prop>".to_owned();
        for property in asked.elements().filter_map(|step| step.dav("prop")).flat_map(Element::elements) {
            property.write(&mut out);
        }
        out.push_str(
            "<D:getetag>\"x\"</D:getetag></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>",
        );
        out.push_str(
            "<D:propstat><D:prop><x:gone xmlns:x='urn:x'/></D:prop><D:status>HTTP/1.1 404 No</D:status>",
        );
        read((out + "</D:propstat></D:response></D:multistatus>").as_bytes()).unwrap()
    }

    fn one(key: &str, value: &[u8]) -> BTreeMap<String, Option<Bytes>> {
        [(key.to_owned(), Some(Bytes::copy_from_slice(value)))].into()
    }

    #[test]
    fn names_with_namespaces_are_elements_and_others_are_ours() {
        let body = request(&one("{urn:x}colour", b"a < b")).unwrap();
        assert!(body.contains("<colour xmlns=\"urn:x\">a &lt; b</colour>"), "{body}");
        for (key, value) in [
            ("{urn:x}colour", &b"blue"[..]),
            ("{urn:x}e", b"<e xmlns=\"urn:x\"><f>1</f></e>"),
            ("{DAV:}getcontenttype", b"text/x"),
            ("{urn:ferry:property}a", b"1"),
            ("colour", b"blue\xff\0 "),
            ("a", b""),
            ("1 \u{e4}_", b"<"),
        ] {
            let read = kept(&one(key, value));
            assert_eq!(read.iter().map(|(k, v)| (k.as_str(), &v[..])).collect::<Vec<_>>(), [(key, value)]);
        }
        let e = request(&one("{urn:x}colour", b"\xff")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(request(&one("{urn:x}colour", b"\x01")).is_err());
    }

    #[test]
    fn servers_are_known_by_their_names() {
        assert!(keeps("Ferry", "1, <urn:ferry:dav:properties>", false) && !keeps("Ferry", "1, 2", false));
        assert!(keeps("Apache/2.4", "1,2", false) && keeps("nginx", "1", true));
        assert!(!keeps("nginx/1.22", "1", false) && !keeps("rclone/v1.70", "1, 2", false));
    }

    proptest! {
        #[test]
        fn any_property_without_a_namespace_comes_back(key in ".+", value in any::<Vec<u8>>()) {
            prop_assume!(!key.starts_with('{'));
            prop_assert_eq!(kept(&one(&key, &value)).get(&key).map(|v| v.to_vec()), Some(value));
        }
    }
}
