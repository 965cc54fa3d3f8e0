//! Reads a multistatus (RFC 4918, sections 13 and 14) while it arrives.
//!
//! Bytes go in as they come, whole `response` elements come out; nothing else is kept, so that a listing of
//! any length takes as much memory as its longest entry. No I/O. Depth, attributes, namespaces, texts and
//! the size of one answer are bounded, a document type is refused, and of entities only those of XML itself
//! are known. An element's own end tag must follow, and the document must end: a listing that was cut short
//! is an error, never a short listing.
//!
//! Deliberately absent: encodings other than UTF-8, the structure within a property beyond its children's
//! names (its text is all the text in it).

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;

/// The namespace of WebDAV.
pub const DAV: &str = "DAV:";

/// The longest tag, comment or run of text.
const MAX_TOKEN: usize = 64 << 10;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;
/// Attributes of one element.
const MAX_ATTRIBUTES: usize = 64;
/// Namespaces in scope.
const MAX_NAMESPACES: usize = 256;
/// What one answer may hold, bytes.
const MAX_ANSWER: usize = 256 << 10;

/// A property that was told or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Property {
    /// The namespace of its name.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The status of its `propstat`.
    pub status: u16,
    /// All text in it, trimmed.
    pub text: String,
    /// The elements directly in it: namespace and name.
    pub children: Vec<(String, String)>,
}

/// One `response` element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it is about, as sent: percent-encoded, absolute or not.
    pub hrefs: Vec<String>,
    /// The status of the whole, where there is one.
    pub status: Option<u16>,
    /// The properties, refused ones included.
    pub properties: Vec<Property>,
    /// Names of the conditions that did not hold (RFC 4918, section 16).
    pub conditions: Vec<String>,
    /// The server's words.
    pub description: String,
}

impl Answer {
    /// The property, if it was told.
    pub fn property(&self, namespace: &str, name: &str) -> Option<&Property> {
        let is_it = |p: &&Property| p.status == 200 && p.name == name && p.namespace == namespace;
        self.properties.iter().find(is_it)
    }
}

/// What an open element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Description,
    Failure,
    FailureChild,
    Href,
    Multistatus,
    Other,
    Prop,
    Property,
    Propstat,
    PropstatStatus,
    Response,
    Status,
    Within,
}

/// Where the bytes that are not parsed yet break off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    Cdata,
    Comment,
    Instruction,
    Quoted(u8),
    Tag,
    Text,
}

/// See the module.
#[derive(Debug)]
pub struct MultistatusReader {
    pending: Vec<u8>,
    scan: Scan,
    /// How far `pending` was looked at.
    looked: usize,
    /// Open elements: what they are, and their names as sent.
    open: Vec<(Node, String)>,
    /// Namespaces in scope: the depth at which they were named, the prefix, the name.
    spaces: Vec<(usize, String, String)>,
    answer: Answer,
    /// Bytes of `answer`.
    held: usize,
    /// Where the properties of the open `propstat` begin, and its status.
    propstat: (usize, u16),
    text: String,
    /// The root element has ended.
    ended: bool,
}

impl Default for MultistatusReader {
    fn default() -> Self {
        Self::new()
    }
}

fn bad(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::PeerMisbehaved).with_detail(words)
}

fn broken(e: quick_xml::Error) -> Error {
    bad("the server's XML cannot be understood").with_source(e)
}

impl MultistatusReader {
    /// Nothing was read yet.
    pub fn new() -> Self {
        MultistatusReader {
            pending: Vec::new(),
            scan: Scan::Text,
            looked: 0,
            open: Vec::new(),
            spaces: Vec::new(),
            answer: Answer::default(),
            held: 0,
            propstat: (0, 0),
            text: String::new(),
            ended: false,
        }
    }

    /// Takes the next bytes, gives the answers that they complete. Errors: `PeerMisbehaved`; nothing may be
    /// fed afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Answer>> {
        self.pending.extend_from_slice(bytes);
        let whole = self.scan()?;
        let mut done = Vec::new();
        if whole > 0 {
            let rest = self.pending.split_off(whole);
            let tokens = std::mem::replace(&mut self.pending, rest);
            self.looked -= whole;
            self.parse(&tokens, &mut done)?;
        }
        if self.pending.len() > MAX_TOKEN {
            return Err(bad("the server's XML has a tag or text that is too long"));
        }
        Ok(done)
    }

    /// The bytes have ended. Errors: `PeerMisbehaved` where the document has not.
    pub fn end(self) -> Result<()> {
        if self.ended && self.pending.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        Err(bad("the server's answer breaks off before its end"))
    }

    /// How many of the pending bytes are whole tokens, text before a tag included.
    fn scan(&mut self) -> Result<usize> {
        let mut whole = 0;
        loop {
            let rest = self.pending.get(self.looked..).unwrap_or_default();
            let step = match self.scan {
                Scan::Text => match rest.iter().position(|b| *b == b'<') {
                    None => {
                        self.looked = self.pending.len();
                        return Ok(whole);
                    }
                    Some(at) => {
                        self.looked += at;
                        match opening(rest.get(at..).unwrap_or_default())? {
                            None => return Ok(whole),
                            Some((scan, len)) => {
                                self.scan = scan;
                                len
                            }
                        }
                    }
                },
                Scan::Tag => match rest.iter().position(|b| matches!(b, b'>' | b'"' | b'\'')) {
                    None => rest.len(),
                    Some(at) => {
                        self.scan = match rest.get(at) {
                            Some(b'>') => Scan::Text,
                            Some(quote) => Scan::Quoted(*quote),
                            None => Scan::Tag,
                        };
                        at + 1
                    }
                },
                Scan::Quoted(quote) => match rest.iter().position(|b| *b == quote) {
                    None => rest.len(),
                    Some(at) => {
                        self.scan = Scan::Tag;
                        at + 1
                    }
                },
                Scan::Comment => self.until(b"-->"),
                Scan::Cdata => self.until(b"]]>"),
                Scan::Instruction => self.until(b"?>"),
            };
            if step == 0 {
                return Ok(whole);
            }
            self.looked += step;
            if self.scan == Scan::Text {
                if self.looked - whole > MAX_TOKEN {
                    return Err(bad("the server's XML has a tag or text that is too long"));
                }
                whole = self.looked;
            }
        }
    }

    /// How far to go for what ends like that; its last bytes are looked at again where it has not ended.
    fn until(&mut self, end: &[u8]) -> usize {
        let rest = self.pending.get(self.looked..).unwrap_or_default();
        match rest.windows(end.len()).position(|w| w == end) {
            Some(at) => {
                self.scan = Scan::Text;
                at + end.len()
            }
            None => rest.len().saturating_sub(end.len() - 1),
        }
    }

    fn parse(&mut self, tokens: &[u8], done: &mut Vec<Answer>) -> Result<()> {
        let tokens = std::str::from_utf8(tokens).map_err(|_| bad("the server's XML is not UTF-8"))?;
        let mut reader = Reader::from_str(tokens);
        let config = reader.config_mut();
        // Elements go over several pieces: their ends are checked here.
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        loop {
            match reader.read_event().map_err(broken)? {
                Event::Start(e) => self.start(&e)?,
                Event::Empty(e) => {
                    self.start(&e)?;
                    self.finish(e.name().as_ref(), done)?;
                }
                Event::End(e) => self.finish(e.name().as_ref(), done)?,
                Event::Text(e) => self.add_text(&e)?,
                Event::CData(e) => self.add_text(&e)?,
                Event::GeneralRef(e) => {
                    let mut utf8 = [0; 4];
                    let c =
                        reference(&e).ok_or_else(|| bad("the server's XML names an entity of its own"))?;
                    self.add_text(c.encode_utf8(&mut utf8))?;
                }
                Event::Decl(e) => {
                    let encoding = e.encoding().and_then(std::result::Result::ok);
                    let known = encoding.is_none_or(|e| {
                        e.eq_ignore_ascii_case("utf-8") || e.eq_ignore_ascii_case("us-ascii")
                    });
                    if !known {
                        return Err(bad("the server's XML is not UTF-8"));
                    }
                }
                Event::DocType(_) => return Err(bad("the server's XML declares a document type")),
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => return Ok(()),
            }
        }
    }

    fn start(&mut self, e: &BytesStart<'_>) -> Result<()> {
        if self.ended {
            return Err(bad("the server's XML goes on behind its end"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(bad("the server's XML is nested too deeply"));
        }
        let depth = self.open.len() + 1;
        for (n, attribute) in e.attributes().enumerate() {
            if n >= MAX_ATTRIBUTES || self.spaces.len() >= MAX_NAMESPACES {
                return Err(bad("the server's XML has too many attributes"));
            }
            let attribute = attribute.map_err(|e| broken(e.into()))?;
            let prefix = match attribute.key.as_ref() {
                "xmlns" => "",
                key => match key.strip_prefix("xmlns:") {
                    Some(prefix) => prefix,
                    None => continue,
                },
            };
            let value = quick_xml::escape::unescape(&attribute.value).map_err(|e| broken(e.into()))?;
            self.hold(prefix.len() + value.len())?;
            self.spaces.push((depth, prefix.to_owned(), value.into_owned()));
        }
        let raw = e.name().as_ref().to_owned();
        let (space, name) = self.name_of(&raw)?;
        let parent = self.open.last().map(|(node, _)| *node);
        let node = self.node(parent, space, name)?;
        self.open.push((node, raw));
        Ok(())
    }

    /// What an element is, by where it stands; what is to be remembered of it is.
    fn node(&mut self, parent: Option<Node>, space: String, name: String) -> Result<Node> {
        let dav = (space == DAV).then_some(name.as_str());
        Ok(match (parent, dav) {
            (None, Some("multistatus")) => Node::Multistatus,
            (None, _) => return Err(bad(format!("the server answers with '{}'", shown(&name)))),
            (Some(Node::Multistatus), Some("response")) => {
                self.answer = Answer::default();
                self.held = 0;
                Node::Response
            }
            (Some(Node::Response), Some("href")) => Node::Href,
            (Some(Node::Response), Some("status")) => Node::Status,
            (Some(Node::Response), Some("propstat")) => {
                self.propstat = (self.answer.properties.len(), 0);
                Node::Propstat
            }
            (Some(Node::Propstat), Some("prop")) => Node::Prop,
            (Some(Node::Propstat), Some("status")) => Node::PropstatStatus,
            (Some(Node::Response | Node::Propstat), Some("error")) => Node::Failure,
            (Some(Node::Response | Node::Propstat), Some("responsedescription")) => Node::Description,
            (Some(Node::Failure), _) => {
                self.hold(name.len())?;
                self.answer.conditions.push(name);
                Node::FailureChild
            }
            (Some(Node::Prop), _) => {
                self.hold(space.len() + name.len() + size_of::<Property>())?;
                self.answer.properties.push(Property { namespace: space, name, ..Property::default() });
                self.text.clear();
                return Ok(Node::Property);
            }
            (Some(Node::Property), _) => {
                self.hold(space.len() + name.len())?;
                if let Some(property) = self.answer.properties.last_mut() {
                    property.children.push((space, name));
                }
                // The text goes on.
                return Ok(Node::Within);
            }
            (Some(Node::Within), _) => return Ok(Node::Within),
            _ => Node::Other,
        })
        .inspect(|_| self.text.clear())
    }

    fn finish(&mut self, raw: &str, done: &mut Vec<Answer>) -> Result<()> {
        let Some((node, name)) = self.open.pop() else {
            return Err(bad("the server's XML ends what it did not begin"));
        };
        if name != raw {
            return Err(bad("the server's XML ends another element than the open one"));
        }
        let depth = self.open.len();
        while self.spaces.last().is_some_and(|(at, ..)| *at > depth) {
            self.spaces.pop();
        }
        let text = self.text.trim_ascii().to_owned();
        match node {
            Node::Href => {
                self.hold(text.len())?;
                self.answer.hrefs.push(text);
            }
            Node::Status => self.answer.status = Some(status(&text)?),
            Node::PropstatStatus => self.propstat.1 = status(&text)?,
            Node::Property => {
                if let Some(property) = self.answer.properties.last_mut() {
                    property.text = text;
                }
            }
            Node::Propstat => {
                let (from, status) = self.propstat;
                for property in self.answer.properties.iter_mut().skip(from) {
                    property.status = status;
                }
            }
            Node::Description => {
                self.answer.description = shown(&text);
            }
            Node::Response => {
                if self.answer.hrefs.is_empty() {
                    return Err(bad("the server answers about nothing: a response without href"));
                }
                done.push(std::mem::take(&mut self.answer));
            }
            Node::Multistatus => self.ended = true,
            Node::Failure | Node::FailureChild | Node::Other | Node::Prop | Node::Within => {}
        }
        Ok(())
    }

    fn add_text(&mut self, text: &str) -> Result<()> {
        match self.open.last().map(|(node, _)| *node) {
            Some(
                Node::Description
                | Node::Href
                | Node::Property
                | Node::PropstatStatus
                | Node::Status
                | Node::Within,
            ) => {
                self.hold(text.len())?;
                self.text.push_str(text);
                Ok(())
            }
            Some(_) => Ok(()),
            // Blanks and a byte order mark may stand outside.
            None if text.chars().all(|c| c.is_ascii_whitespace() || c == '\u{feff}') => Ok(()),
            None => Err(bad("the server's answer is no XML")),
        }
    }

    fn hold(&mut self, bytes: usize) -> Result<()> {
        self.held += bytes;
        if self.held > MAX_ANSWER {
            return Err(bad("the server's answer about one entry is too long"));
        }
        Ok(())
    }

    /// Namespace and name of what was sent with or without a prefix.
    fn name_of(&self, raw: &str) -> Result<(String, String)> {
        let (prefix, local) = raw.split_once(':').unwrap_or(("", raw));
        let space = self.spaces.iter().rev().find(|(_, p, _)| p == prefix);
        match space {
            Some((.., space)) => Ok((space.clone(), local.to_owned())),
            None if prefix.is_empty() => Ok((String::new(), local.to_owned())),
            None => Err(bad("the server's XML uses a namespace that it does not name")),
        }
    }
}

/// What begins here, and how many bytes say so; `None` where more bytes are needed to know.
fn opening(rest: &[u8]) -> Result<Option<(Scan, usize)>> {
    const KINDS: [(&[u8], Scan); 3] =
        [(b"<!--", Scan::Comment), (b"<![CDATA[", Scan::Cdata), (b"<?", Scan::Instruction)];
    for (mark, scan) in KINDS {
        if rest.starts_with(mark) {
            return Ok(Some((scan, mark.len())));
        }
        if mark.starts_with(rest) {
            return Ok(None);
        }
    }
    if rest.starts_with(b"<!") {
        return Err(bad("the server's XML declares a document type"));
    }
    Ok(Some((Scan::Tag, 1)))
}

/// The character that a reference without `&` and `;` stands for.
fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "apos" => Some('\''),
        "gt" => Some('>'),
        "lt" => Some('<'),
        "quot" => Some('"'),
        _ => {
            let digits = name.strip_prefix('#')?;
            let number = match digits.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => digits.parse().ok()?,
            };
            char::from_u32(number).filter(|c| *c != '\0')
        }
    }
}

/// The code of a status line.
fn status(text: &str) -> Result<u16> {
    let code = text.split_ascii_whitespace().nth(1).and_then(|c| c.parse().ok());
    code.filter(|c| (100..=999).contains(c))
        .ok_or_else(|| bad(format!("the server's status '{}' is none", shown(text))))
}

fn shown(text: &str) -> String {
    display_bytes(text.as_bytes().get(..300).unwrap_or(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LISTING: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<!-- a > comment --><D:multistatus xmlns:D="DAV:" xmlns:x='urn:"x">'>
 <D:response><D:href>/dav/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype>
  <x:colour>r&#233;d &amp; <![CDATA[<blue>]]></x:colour></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>
  <D:propstat><D:prop><D:getetag/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response>
 <response xmlns="DAV:"><href>
   http://h/dav/a%20b </href><status>HTTP/1.1 423 Locked</status><error><lock-token-submitted/></error>
   <responsedescription>no</responsedescription></response>
</D:multistatus>
"#;

    fn read(parts: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Answer>> {
        let mut reader = MultistatusReader::new();
        let mut out = Vec::new();
        for part in parts {
            out.extend(reader.feed(&part)?);
        }
        reader.end().map(|()| out)
    }

    fn refused(document: &str) {
        let e = read([document.as_bytes().to_vec()]).map(drop).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PeerMisbehaved, "{document:.80}");
    }

    #[test]
    fn answers_come_whole_whatever_the_prefixes_are() {
        let answers = read([LISTING.as_bytes().to_vec()]).unwrap();
        let [dir, locked] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!(dir.hrefs, ["/dav/"]);
        let kind = dir.property(DAV, "resourcetype").unwrap();
        assert_eq!(kind.children, [("DAV:".to_owned(), "collection".to_owned())]);
        assert_eq!(dir.property("urn:\"x\">", "colour").unwrap().text, "réd & <blue>");
        assert_eq!(dir.property(DAV, "getetag"), None);
        assert_eq!(dir.properties.last().unwrap().status, 404);
        assert_eq!((locked.status, locked.hrefs[0].as_str()), (Some(423), "http://h/dav/a%20b"));
        assert_eq!(
            (locked.conditions.as_slice(), locked.description.as_str()),
            (&["lock-token-submitted".to_owned()][..], "no")
        );
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(cuts in proptest::collection::vec(1usize..40, 1..200)) {
            let mut rest = LISTING.as_bytes();
            let mut parts = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, more) = rest.split_at((*cut).min(rest.len()));
                parts.push(part.to_vec());
                rest = more;
            }
            prop_assert_eq!(read(parts).unwrap(), read([LISTING.as_bytes().to_vec()]).unwrap());
        }

        #[test]
        fn no_bytes_make_it_panic(junk in proptest::collection::vec(prop_oneof![Just(b'<'), Just(b'>'), Just(b'!'), Just(b'-'), Just(b'&'), any::<u8>()], 0..200)) {
            let _ = read([junk]);
        }
    }

    #[test]
    fn a_document_that_breaks_off_is_an_error_wherever_it_does() {
        let whole = LISTING.trim_end().len();
        for cut in 0..whole {
            assert!(read([LISTING.as_bytes()[..cut].to_vec()]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_could_grow_without_bound_is_refused() {
        let open = "<multistatus xmlns='DAV:'>";
        refused("<!DOCTYPE x [<!ENTITY a 'b'>]><multistatus xmlns='DAV:'/>");
        refused(&format!("{open}<response><href>&lol;</href></response></multistatus>"));
        refused(&format!("{open}{}", "<a>".repeat(40)));
        refused(&format!("{open}<response><href>{}</href></response></multistatus>", "x".repeat(70_000)));
        refused(&format!("{open}<response>{}", "<href>/aaaaaaaaaaaaaaaaaaaaaaaaaaaa</href>".repeat(20_000)));
        let many: String = (0..80).map(|n| format!(" xmlns:n{n}='u'")).collect();
        refused(&format!("<multistatus xmlns='DAV:'{many}/>"));
        refused(&format!("{open}<!-- {}", "x".repeat(70_000)));
    }

    #[test]
    fn what_is_no_multistatus_is_refused() {
        refused("<html><body>hello</body></html>");
        refused("hello");
        refused("");
        refused("<multistatus xmlns='DAV:'></other>");
        refused("<d:multistatus/>");
        refused("<multistatus xmlns='DAV:'><response/></multistatus>");
        refused(
            "<multistatus xmlns='DAV:'><response><href>/</href><status>fine</status></response></multistatus>",
        );
        refused("<multistatus xmlns='DAV:'/><multistatus xmlns='DAV:'/>");
        refused("<?xml version='1.0' encoding='utf-16'?><multistatus xmlns='DAV:'/>");
        assert_eq!(read([b"\xef\xbb\xbf<multistatus xmlns='DAV:'/>\n".to_vec()]).unwrap(), []);
    }
}
