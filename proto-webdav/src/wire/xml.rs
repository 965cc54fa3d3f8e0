//! XML as WebDAV uses it (XML 1.0; Namespaces in XML): small documents, read whole and within bounds.
//!
//! No document type, no entity but the five of XML and numbers of characters, UTF-8 only: nothing is ever
//! looked up or expanded (RFC 4918, section 20.6). Bytes, depth, elements and attributes are bounded; what
//! goes beyond is refused, as is what is not well formed.

use std::fmt::Write as _;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use session_core::error::{Error, ErrorKind, Result};

/// WebDAV's own namespace.
pub const DAV: &str = "DAV:";
/// The namespace of the prefix `xml`.
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// Levels of elements.
const MAX_DEPTH: usize = 32;
/// Elements of a document.
const MAX_ELEMENTS: usize = 4096;
/// Attributes of an element, declarations of namespaces among them.
const MAX_ATTRIBUTES: usize = 32;
/// Declarations of namespaces that hold at one place.
const MAX_SCOPE: usize = 256;

/// The name of an element, an attribute or a property.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The namespace; empty for none.
    pub space: Arc<str>,
    /// The name in it.
    pub local: Arc<str>,
}

impl Name {
    /// A name in a namespace.
    pub fn new(space: impl Into<Arc<str>>, local: impl Into<Arc<str>>) -> Self {
        Name { space: space.into(), local: local.into() }
    }

    /// One of WebDAV's own.
    pub fn dav(local: &str) -> Self {
        Name::new(DAV, local)
    }

    /// Whether it is WebDAV's own of this name.
    pub fn is_dav(&self, local: &str) -> bool {
        *self.space == *DAV && *self.local == *local
    }

    /// As properties are named in the model: `{namespace}name`.
    pub fn key(&self) -> String {
        format!("{{{}}}{}", self.space, self.local)
    }

    /// The inverse of [`Name::key`]; `None` for what is no name of a property of ours, or cannot be written as
    /// an element.
    pub fn from_key(key: &str) -> Option<Self> {
        // A local name holds no brace.
        let (space, local) = key.strip_prefix('{')?.rsplit_once('}')?;
        (is_ncname(local) && is_text(space)).then(|| Name::new(space, local))
    }
}

/// Whether XML can hold the character (XML 1.0, section 2.2).
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether XML can hold the text.
pub fn is_text(text: &str) -> bool {
    text.chars().all(is_char)
}

/// A name without a colon. Beyond ASCII every letter-like character passes.
fn is_ncname(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || (!c.is_ascii() && c.is_alphanumeric());
    let rest = |c: char| first(c) || c.is_ascii_digit() || matches!(c, '-' | '.' | '\u{b7}');
    let mut chars = text.chars();
    chars.next().is_some_and(first) && chars.all(rest)
}

/// An element with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: Name,
    /// Its attributes, without declarations of namespaces.
    pub attributes: Vec<(Name, String)>,
    /// What it holds, in order.
    pub children: Vec<Node>,
}

/// What an element holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, decoded. Two of them never stand beside each other.
    Text(String),
}

impl Element {
    /// An empty one.
    pub fn new(name: Name) -> Self {
        Element { name, attributes: Vec::new(), children: Vec::new() }
    }

    /// The elements in it.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|n| match n {
            Node::Element(e) => Some(e),
            Node::Text(_) => None,
        })
    }

    /// WebDAV's own element of this name in it, the first one.
    pub fn dav(&self, local: &str) -> Option<&Element> {
        self.elements().find(|e| e.name.is_dav(local))
    }

    /// All text in it, also that of elements below.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.collect_text(&mut out);
        out
    }

    fn collect_text(&self, out: &mut String) {
        for node in &self.children {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Element(e) => e.collect_text(out),
            }
        }
    }

    /// Whether it holds nothing but text and has no attributes.
    pub fn is_plain(&self) -> bool {
        self.attributes.is_empty() && self.elements().next().is_none()
    }

    fn push_text(&mut self, text: &str) {
        match self.children.last_mut() {
            Some(Node::Text(there)) => there.push_str(text),
            _ if text.is_empty() => {}
            _ => self.children.push(Node::Text(text.to_owned())),
        }
    }

    /// Writes it so that it can stand anywhere: every element says its own namespace.
    pub fn write(&self, out: &mut String) {
        self.write_within(None, out);
    }

    fn write_within(&self, outer: Option<&str>, out: &mut String) {
        let Name { space, local } = &self.name;
        let _ = write!(out, "<{local}");
        if outer != Some(space) {
            out.push_str(" xmlns=\"");
            escape_into(space, out);
            out.push('"');
        }
        for (n, (name, value)) in self.attributes.iter().enumerate() {
            match &*name.space {
                "" => {
                    let _ = write!(out, " {}=\"", name.local);
                }
                XML => {
                    let _ = write!(out, " xml:{}=\"", name.local);
                }
                space => {
                    let _ = write!(out, " xmlns:a{n}=\"");
                    escape_into(space, out);
                    let _ = write!(out, "\" a{n}:{}=\"", name.local);
                }
            }
            escape_into(value, out);
            out.push('"');
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for node in &self.children {
            match node {
                Node::Text(text) => escape_into(text, out),
                Node::Element(e) => e.write_within(Some(space), out),
            }
        }
        let _ = write!(out, "</{local}>");
    }
}

/// Text as it can stand between tags and in attributes. What XML cannot hold becomes U+FFFD.
pub fn escape_into(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' => out.push('\n'),
            c if is_char(c) => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
}

/// The same as a text of its own.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(text, &mut out);
    out
}

fn bad(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

/// The prefixes that hold at a place.
#[derive(Default)]
struct Scope {
    /// Prefix and namespace, the inner ones last.
    declared: Vec<(String, Arc<str>)>,
    /// How many there were when each open element began.
    marks: Vec<usize>,
}

impl Scope {
    fn find(&self, prefix: &str) -> Option<Arc<str>> {
        if prefix == "xml" {
            return Some(XML.into());
        }
        let found = self.declared.iter().rev().find(|(p, _)| p == prefix).map(|(_, space)| Arc::clone(space));
        found.or_else(|| prefix.is_empty().then(|| "".into())).filter(|s| prefix.is_empty() || !s.is_empty())
    }

    fn name(&self, raw: &str, is_element: bool) -> Result<Name> {
        let split = raw.split_once(':');
        let (prefix, local) = split.unwrap_or(("", raw));
        if !is_ncname(local) || (split.is_some() && !is_ncname(prefix)) {
            return Err(bad("the XML holds a name that is none"));
        }
        if prefix.is_empty() && !is_element {
            return Ok(Name::new("", local));
        }
        let space = self.find(prefix).ok_or_else(|| bad("the XML uses a prefix that it does not declare"))?;
        Ok(Name::new(space, local))
    }
}

/// A whole document. Errors: `InvalidArgument`.
pub fn parse(document: &[u8]) -> Result<Element> {
    let text = std::str::from_utf8(document).map_err(|_| bad("the XML is not UTF-8"))?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut scope = Scope::default();
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|_| bad("the XML is not well formed"))?;
        let text = match event {
            Event::Start(ref tag) | Event::Empty(ref tag) => {
                elements += 1;
                if root.is_some() {
                    return Err(bad("the XML has more than one root"));
                }
                if open.len() >= MAX_DEPTH || elements > MAX_ELEMENTS {
                    return Err(bad("the XML is nested too deep or holds too much"));
                }
                scope.marks.push(scope.declared.len());
                open.push(element(tag, &mut scope)?);
                if matches!(event, Event::Empty(_)) {
                    close(&mut open, &mut scope, &mut root);
                }
                continue;
            }
            Event::End(_) => {
                // That it closes what was opened last is the reader's to see to.
                close(&mut open, &mut scope, &mut root);
                continue;
            }
            Event::Text(ref text) => line_ends(text),
            Event::CData(ref data) => line_ends(data),
            Event::GeneralRef(ref name) => reference(name)?.to_string(),
            Event::Comment(_) | Event::PI(_) => continue,
            Event::Decl(ref declaration) => {
                let words = declaration.to_ascii_lowercase();
                if words.contains("encoding") && !words.contains("utf-8") && !words.contains("us-ascii") {
                    return Err(bad("the XML is not UTF-8"));
                }
                continue;
            }
            Event::DocType(_) => return Err(bad("a document type is not taken")),
            Event::Eof => break,
        };
        if !text.chars().all(is_char) {
            return Err(bad("the XML holds characters that XML cannot hold"));
        }
        match open.last_mut() {
            Some(element) => element.push_text(&text),
            None if text.trim().is_empty() => {}
            None => return Err(bad("the XML holds text outside its root")),
        }
    }
    if !open.is_empty() {
        return Err(bad("the XML ends too early"));
    }
    root.ok_or_else(|| bad("the XML is empty"))
}

/// Line ends as XML sees them (XML 1.0, section 2.11).
fn line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn close(open: &mut Vec<Element>, scope: &mut Scope, root: &mut Option<Element>) {
    let mark = scope.marks.pop().unwrap_or(0);
    scope.declared.truncate(mark);
    if let Some(done) = open.pop() {
        match open.last_mut() {
            Some(outer) => outer.children.push(Node::Element(done)),
            None => *root = Some(done),
        }
    }
}

fn element(tag: &BytesStart<'_>, scope: &mut Scope) -> Result<Element> {
    let mut plain: Vec<(String, String)> = Vec::new();
    for (count, attribute) in tag.attributes().enumerate() {
        if count >= MAX_ATTRIBUTES {
            return Err(bad("the XML holds an element with too many attributes"));
        }
        let attribute = attribute.map_err(|_| bad("the XML is not well formed"))?;
        let key: &str = attribute.key.as_ref();
        let value = attribute_value(&attribute.value)?;
        let prefix = if key == "xmlns" { Some("") } else { key.strip_prefix("xmlns:") };
        match prefix {
            Some(prefix) => {
                if !prefix.is_empty() && (value.is_empty() || prefix == "xml" || prefix == "xmlns") {
                    return Err(bad("the XML declares a prefix that cannot be"));
                }
                if scope.declared.len() >= MAX_SCOPE {
                    return Err(bad("the XML declares too many namespaces"));
                }
                scope.declared.push((prefix.to_owned(), value.into()));
            }
            None => plain.push((key.to_owned(), value)),
        }
    }
    let mut out = Element::new(scope.name(tag.name().as_ref(), true)?);
    for (key, value) in plain {
        let name = scope.name(&key, false)?;
        if out.attributes.iter().any(|(there, _)| *there == name) {
            return Err(bad("the XML holds an attribute twice"));
        }
        out.attributes.push((name, value));
    }
    Ok(out)
}

/// The value of an attribute, its references resolved.
fn attribute_value(raw: &str) -> Result<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, after) = after.split_once(';').ok_or_else(|| bad("the XML is not well formed"))?;
        out.push_str(&spaces(before));
        out.push(reference(name)?);
        rest = after;
    }
    out.push_str(&spaces(rest));
    if out.contains('<') && raw.contains('<') || !out.chars().all(is_char) {
        return Err(bad("the XML holds characters that XML cannot hold"));
    }
    Ok(out)
}

/// White space in attributes is spaces (XML 1.0, section 3.3.3).
fn spaces(text: &str) -> String {
    line_ends(text).replace(['\n', '\t'], " ")
}

fn reference(name: &str) -> Result<char> {
    let unknown = || bad("the XML refers to an entity that is not known here");
    let number = match name {
        "amp" => return Ok('&'),
        "apos" => return Ok('\''),
        "gt" => return Ok('>'),
        "lt" => return Ok('<'),
        "quot" => return Ok('"'),
        _ => name.strip_prefix('#').ok_or_else(unknown)?,
    };
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |hex| (hex, 16));
    if digits.is_empty() || digits.len() > 8 || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(unknown());
    }
    let code = u32::from_str_radix(digits, radix).map_err(|_| unknown())?;
    char::from_u32(code).filter(|c| is_char(*c)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(document: &str) -> bool {
        parse(document.as_bytes()).is_err()
    }

    #[test]
    fn names_text_and_attributes_are_resolved() {
        let document = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<!-- c --><a:x xmlns:a=\"DAV:\" xmlns=\"urn:n\">\
            <y k='1' a:k=\"&lt;&#65;\t\">a&amp;b<![CDATA[<&]]>\r\n&#x41;</y><z xmlns=''/></a:x>";
        let root = parse(document.as_bytes()).unwrap();
        assert!(root.name.is_dav("x"));
        let y = root.elements().next().unwrap();
        assert_eq!(y.name, Name::new("urn:n", "y"));
        assert_eq!(y.text(), "a&b<&\nA");
        assert_eq!(y.attributes, [(Name::new("", "k"), "1".into()), (Name::dav("k"), "<A ".into())]);
        assert_eq!(root.elements().nth(1).unwrap().name, Name::new("", "z"));
        // Written, it is the same again, wherever it stands.
        let mut out = String::new();
        root.write(&mut out);
        assert_eq!(parse(out.as_bytes()).unwrap(), root);
        let within = format!("<o xmlns='urn:other'>{out}</o>");
        assert_eq!(parse(within.as_bytes()).unwrap().elements().next(), Some(&root));
    }

    #[test]
    fn nothing_is_looked_up_and_nothing_is_expanded() {
        assert!(refused("<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><x>&a;</x>"));
        assert!(refused("<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><x>&b;</x>"));
        assert!(refused("<!DOCTYPE x><x/>"));
        for entity in
            ["&a;", "&nbsp;", "&#0;", "&#x110000;", "&#xD800;", "&;", "&#;", "&#x;", "&#99999999999;"]
        {
            assert!(refused(&format!("<x>{entity}</x>")), "{entity}");
            assert!(refused(&format!("<x a='{entity}'/>")), "{entity}");
        }
    }

    #[test]
    fn there_are_bounds() {
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert!(!refused(&deep(MAX_DEPTH)) && refused(&deep(MAX_DEPTH + 1)) && refused(&deep(100_000)));
        assert!(refused(&format!("<x>{}</x>", "<a/>".repeat(MAX_ELEMENTS))));
        let spaces: String = (0..100_000).map(|n| format!(" xmlns:n{n}='urn:{n}'")).collect();
        assert!(refused(&format!("<x{spaces}/>")));
        let nested: String = (0..20)
            .map(|n| {
                let some: String = (0..30).map(|m| format!(" xmlns:n{n}x{m}='urn:x'")).collect();
                format!("<a{some}>")
            })
            .collect();
        assert!(refused(&format!("{nested}{}", "</a>".repeat(20))));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for document in [
            "",
            " ",
            "x",
            "<x>",
            "<x></y>",
            "<x/><y/>",
            "<x/>text",
            "<p:x/>",
            "<x a='1' a='2'/>",
            "<x a='<'/>",
            "<x xmlns:p='urn:a' xmlns:q='urn:a' p:a='' q:a=''/>",
            "<x xmlns:p=''/>",
            "<x xmlns:xml='urn:a'/>",
            "<:x/>",
            "<x:/>",
            "<x>\u{1}</x>",
            "</x>",
            "<x a=1/>",
            "<1/>",
            "<?xml version='1.0' encoding='utf-16'?><x/>",
        ] {
            assert!(refused(document), "{document}");
        }
        assert!(parse(b"<x>\xff</x>").is_err());
    }

    #[test]
    fn names_of_properties_go_into_the_model_and_back() {
        for name in [Name::dav("a"), Name::new("", "b"), Name::new("urn:x}y", "c")] {
            assert_eq!(Name::from_key(&name.key()), Some(name));
        }
        for key in ["colour", "{}", "{DAV:}a b", "{DAV:", "{DAV:}<x>", "{a\u{1}}b"] {
            assert_eq!(Name::from_key(key), None, "{key}");
        }
        let mut out = String::new();
        escape_into("a<b>&\"\u{0}\r", &mut out);
        assert_eq!(out, "a&lt;b&gt;&amp;&quot;\u{fffd}&#13;");
    }
}
