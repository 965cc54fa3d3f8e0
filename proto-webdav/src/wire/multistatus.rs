//! Writes a multistatus body (RFC 4918, section 13), piece by piece: nothing here holds a whole answer.

use std::fmt::Write as _;

use super::xml::{self, Element, Name};

/// What comes before the first response.
pub const HEAD: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">\n";
/// What comes after the last one.
pub const TAIL: &str = "</D:multistatus>\n";

/// The value of a property in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing in it, or nothing told of it.
    Empty,
    /// A text.
    Text(String),
    /// XML in which `D` stands for `DAV:`, made here.
    Inner(String),
    /// The whole element, as it is kept.
    Whole(Element),
}

/// Properties that have the same status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propstat {
    /// The status.
    pub status: u16,
    /// The properties.
    pub properties: Vec<(Name, Value)>,
    /// The name of a condition that did not hold, in `DAV:`.
    pub condition: Option<&'static str>,
}

/// The status line of a response in the body.
fn status_line(status: u16, out: &mut String) {
    let _ = write!(out, "<D:status>HTTP/1.1 {status} {}</D:status>", crate::status::words(status));
}

/// One property.
pub fn property(name: &Name, value: &Value, out: &mut String) {
    if let Value::Whole(element) = value {
        element.write(out);
        return;
    }
    let (open, close) = if &*name.space == xml::DAV {
        (format!("<D:{}", name.local), format!("</D:{}>", name.local))
    } else {
        let space = xml::escape(&name.space);
        (format!("<{} xmlns=\"{space}\"", name.local), format!("</{}>", name.local))
    };
    out.push_str(&open);
    match value {
        Value::Text(text) if !text.is_empty() => {
            out.push('>');
            xml::escape_into(text, out);
            out.push_str(&close);
        }
        Value::Inner(inner) if !inner.is_empty() => {
            out.push('>');
            out.push_str(inner);
            out.push_str(&close);
        }
        _ => out.push_str("/>"),
    }
}

fn condition(name: &str, out: &mut String) {
    let _ = write!(out, "<D:error><D:{name}/></D:error>");
}

/// Groups of properties, those without any left out, unless there is nothing else to say.
pub fn propstats(groups: &[Propstat], out: &mut String) {
    let all_empty = groups.iter().all(|g| g.properties.is_empty());
    for (n, group) in groups.iter().enumerate() {
        if group.properties.is_empty() && !(all_empty && n == 0) {
            continue;
        }
        out.push_str("<D:propstat><D:prop>");
        for (name, value) in &group.properties {
            property(name, value, out);
        }
        out.push_str("</D:prop>");
        status_line(group.status, out);
        if let Some(name) = group.condition {
            condition(name, out);
        }
        out.push_str("</D:propstat>");
    }
}

/// The properties of one resource.
pub fn properties(href: &str, groups: &[Propstat], out: &mut String) {
    out.push_str("<D:response><D:href>");
    xml::escape_into(href, out);
    out.push_str("</D:href>");
    propstats(groups, out);
    out.push_str("</D:response>\n");
}

/// What became of one resource; `about` is a condition of RFC 4918, section 16, that did not hold.
pub fn outcome(href: &str, status: u16, about: Option<&str>, words: &str, out: &mut String) {
    out.push_str("<D:response><D:href>");
    xml::escape_into(href, out);
    out.push_str("</D:href>");
    status_line(status, out);
    if let Some(name) = about {
        condition(name, out);
    }
    if !words.is_empty() {
        out.push_str("<D:responsedescription>");
        xml::escape_into(words, out);
        out.push_str("</D:responsedescription>");
    }
    out.push_str("</D:response>\n");
}

/// The body of a failure: the condition that did not hold (RFC 4918, section 16), with the resources it is
/// about, and what a person may read.
pub fn error(condition: &str, hrefs: &[String], words: &str) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:error xmlns:D=\"DAV:\">");
    if hrefs.is_empty() {
        let _ = write!(out, "<D:{condition}/>");
    } else {
        let _ = write!(out, "<D:{condition}>");
        for href in hrefs {
            out.push_str("<D:href>");
            xml::escape_into(href, &mut out);
            out.push_str("</D:href>");
        }
        let _ = write!(out, "</D:{condition}>");
    }
    if !words.is_empty() {
        let _ = write!(out, "<message xmlns=\"urn:ferry:dav\">{}</message>", xml::escape(words));
    }
    out.push_str("</D:error>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_well_formed_whatever_stands_in_it() {
        let mut out = HEAD.to_owned();
        let nasty = "<&>\"'\u{0}\u{ffff}";
        let groups = [
            Propstat {
                status: 200,
                properties: vec![
                    (Name::dav("displayname"), Value::Text(nasty.into())),
                    (Name::dav("resourcetype"), Value::Inner("<D:collection/>".into())),
                    (Name::new(nasty, "x"), Value::Text(nasty.into())),
                    (Name::new("", "y"), Value::Empty),
                ],
                condition: None,
            },
            Propstat { status: 404, properties: vec![], condition: None },
            Propstat {
                status: 403,
                properties: vec![(Name::dav("getetag"), Value::Empty)],
                condition: Some("cannot-modify-protected-property"),
            },
        ];
        properties("/a&b", &groups, &mut out);
        properties("/nothing", &[Propstat { status: 200, properties: vec![], condition: None }], &mut out);
        outcome("/c", 423, Some("x"), nasty, &mut out);
        out.push_str(TAIL);
        let root = xml::parse(out.as_bytes()).unwrap();
        assert_eq!(root.elements().count(), 3);
        let first = root.elements().next().unwrap();
        assert_eq!(first.dav("href").unwrap().text(), "/a&b");
        assert_eq!(first.elements().filter(|e| e.name.is_dav("propstat")).count(), 2);
        let names: Vec<_> =
            first.dav("propstat").unwrap().dav("prop").unwrap().elements().map(|e| e.name.key()).collect();
        assert_eq!(names.len(), 4);
        assert_eq!(names[3], "{}y");
        assert!(root.elements().nth(1).unwrap().dav("propstat").is_some());
        let text = error("lock-token-submitted", &["/a&b".into()], nasty);
        assert!(xml::parse(text.as_bytes()).unwrap().dav("lock-token-submitted").is_some());
    }
}
