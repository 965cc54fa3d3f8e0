//! Forms of browsers with a file in them (RFC 7578, in the bytes of RFC 2046), as they arrive: the fields, then the
//! content of the file.
//!
//! Bytes go in as they come. Fields, their number and the heads of parts are bounded; of the file nothing is kept but
//! what may be the beginning of its end. The file is the part called `file`, and the last one that counts (Amazon S3,
//! "POST Object"). No I/O.

use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};

/// All fields together, and the head of a part, bytes.
const MAX_FIELDS: usize = 32 << 10;
/// Fields of a form.
const MAX_COUNT: usize = 100;
/// The longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The fields of a form, and the name of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Names in lower case, with values, in their order.
    pub fields: Vec<(String, String)>,
    /// What the file is called where it comes from, without directories.
    pub file_name: String,
}

impl Fields {
    /// The value of a field, by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What of a form has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// All fields: the file begins.
    Fields(Fields),
    /// Some of the file.
    Content(Bytes),
    /// The file has ended.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Before,
    /// Behind a boundary.
    Boundary,
    /// In the head of a part.
    Head,
    /// In a field; its name was read last.
    Field,
    /// In the file.
    File,
    /// The file has ended.
    Behind,
}

/// See the module.
#[derive(Debug)]
pub struct FormReader {
    /// The boundary as it stands between parts, with the line end before it.
    delimiter: Vec<u8>,
    pending: BytesMut,
    state: State,
    name: String,
    fields: Fields,
    /// Bytes of fields and heads.
    held: usize,
}

fn bad(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

fn too_much() -> Error {
    Error::new(ErrorKind::TooLarge).with_detail("the fields of the form are too much")
}

/// The parameter of a field like `form-data; name="a"; filename="b"`.
fn parameter(field: &str, name: &str) -> Option<String> {
    let mut rest = field.split_once(';')?.1;
    loop {
        let (key, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            // Browsers write quotes in names as %22, some programs as \".
            Some(quoted) => {
                let mut end = None;
                let mut escaped = false;
                for (at, c) in quoted.char_indices() {
                    match c {
                        '"' if !escaped => {
                            end = Some(at);
                            break;
                        }
                        '\\' => escaped = !escaped,
                        _ => escaped = false,
                    }
                }
                let end = end?;
                (quoted.get(..end)?, quoted.get(end + 1..)?)
            }
            None => value.split_at(value.find(';').unwrap_or(value.len())),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim_end().replace("\\\"", "\""));
        }
        rest = after.trim_start().strip_prefix(';')?;
    }
}

impl FormReader {
    /// For a body of this `Content-Type`. Errors: `InvalidArgument` for one that is no form, or has no boundary.
    pub fn new(content_type: &str) -> Result<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("multipart/form-data") {
            return Err(bad("a form comes as multipart/form-data"));
        }
        let boundary = parameter(content_type, "boundary").unwrap_or_default();
        let fits = (1..=MAX_BOUNDARY).contains(&boundary.len())
            && boundary.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if !fits {
            return Err(bad("the form says no boundary"));
        }
        Ok(FormReader {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            // The first boundary may stand at the very beginning.
            pending: BytesMut::from(&b"\r\n"[..]),
            state: State::Before,
            name: String::new(),
            fields: Fields::default(),
            held: 0,
        })
    }

    /// Takes the next bytes, behind the file none.
    pub fn push(&mut self, data: &[u8]) {
        if self.state != State::Behind {
            self.pending.extend_from_slice(data);
        }
    }

    /// The next piece; `None` where more bytes are needed. Errors: `InvalidArgument`, `TooLarge` for fields beyond
    /// their bounds.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        loop {
            match self.state {
                State::Before => match self.find() {
                    Some(at) => self.pass(at),
                    None if self.pending.len() > MAX_FIELDS => return Err(too_much()),
                    None => return Ok(None),
                },
                State::Boundary => match self.pending.get(..2) {
                    None => return Ok(None),
                    Some(b"\r\n") => self.state = State::Head,
                    Some(b"--") => return Err(bad("the form has no file")),
                    Some(_) => return Err(bad("the form cannot be understood")),
                },
                State::Head => {
                    // With the line end of the boundary, so that a head without a line ends, too.
                    let Some(end) = self.pending.windows(4).position(|w| w == b"\r\n\r\n") else {
                        return self.wait();
                    };
                    let head = self.pending.split_to(end + 4);
                    self.hold(head.len())?;
                    if self.head(&head)? {
                        self.state = State::File;
                        return Ok(Some(Piece::Fields(std::mem::take(&mut self.fields))));
                    }
                    // A value may be empty: its end is the line end of the head.
                    self.state = State::Field;
                }
                State::Field => {
                    let Some(at) = self.find() else { return self.wait() };
                    let value = self.pending.split_to(at);
                    self.hold(value.len())?;
                    let value = String::from_utf8(value.to_vec())
                        .map_err(|_| bad("a field of the form is not UTF-8"))?;
                    if self.fields.fields.len() >= MAX_COUNT {
                        return Err(too_much());
                    }
                    self.fields.fields.push((std::mem::take(&mut self.name), value));
                    self.pass(0);
                }
                State::File => {
                    let end = self.find();
                    // What may be the beginning of the end waits.
                    let left = || (self.pending.len() + 1).saturating_sub(self.delimiter.len());
                    let safe = end.unwrap_or_else(left);
                    if safe > 0 {
                        return Ok(Some(Piece::Content(self.pending.split_to(safe).freeze())));
                    }
                    if end.is_none() {
                        return Ok(None);
                    }
                    self.pending.clear();
                    self.state = State::Behind;
                    return Ok(Some(Piece::End));
                }
                State::Behind => return Ok(None),
            }
        }
    }

    /// Whether the file has ended.
    pub fn is_over(&self) -> bool {
        self.state == State::Behind
    }

    fn wait(&self) -> Result<Option<Piece>> {
        if self.held + self.pending.len() > MAX_FIELDS { Err(too_much()) } else { Ok(None) }
    }

    fn hold(&mut self, bytes: usize) -> Result<()> {
        self.held += bytes;
        if self.held > MAX_FIELDS { Err(too_much()) } else { Ok(()) }
    }

    /// Where the next boundary begins.
    fn find(&self) -> Option<usize> {
        let (mut from, first) = (0, *self.delimiter.first()?);
        while let Some(at) = self.pending.get(from..)?.iter().position(|b| *b == first) {
            from += at;
            if self.pending.get(from..)?.starts_with(&self.delimiter) {
                return Some(from);
            }
            from += 1;
        }
        None
    }

    /// Goes behind the boundary that begins there.
    fn pass(&mut self, at: usize) {
        let _ = self.pending.split_to(at + self.delimiter.len());
        self.state = State::Boundary;
    }

    /// Reads the head of a part; whether it is that of the file.
    fn head(&mut self, head: &[u8]) -> Result<bool> {
        let head = std::str::from_utf8(head).map_err(|_| bad("the form is not UTF-8"))?;
        let (mut name, mut file_name) = (None, None);
        for (field, value) in head.split("\r\n").filter_map(|line| line.split_once(':')) {
            if field.eq_ignore_ascii_case("content-disposition") {
                name = parameter(value, "name");
                file_name = parameter(value, "filename");
            }
        }
        self.name = name.ok_or_else(|| bad("a field of the form has no name"))?.to_ascii_lowercase();
        if self.name != "file" {
            return Ok(false);
        }
        let called = file_name.unwrap_or_default();
        // Some browsers tell the whole path.
        self.fields.file_name = called.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPE: &str = "multipart/form-data; boundary=\"a b\"";

    fn form(content: &[u8]) -> Vec<u8> {
        let mut out = b"--a b\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\nuploads/${filename}\r\n\
            --a b\r\ncontent-disposition: form-data; name=empty\r\nX: y\r\n\r\n\r\n\
            --a b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\a \\\"b\\\".txt\"\r\n\
            Content-Type: text/plain\r\n\r\n"
            .to_vec();
        out.extend_from_slice(content);
        out.extend_from_slice(
            b"\r\n--a b\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\ngo\r\n--a b--\r\n",
        );
        out
    }

    /// All of a form that comes in pieces of this size.
    fn read(body: &[u8], size: usize) -> Result<(Fields, Vec<u8>, bool)> {
        let mut reader = FormReader::new(TYPE)?;
        let (mut fields, mut content) = (Fields::default(), Vec::new());
        for piece in body.chunks(size.max(1)) {
            reader.push(piece);
            while let Some(piece) = reader.next_piece()? {
                match piece {
                    Piece::Fields(all) => fields = all,
                    Piece::Content(bytes) => content.extend_from_slice(&bytes),
                    Piece::End => {}
                }
            }
        }
        Ok((fields, content, reader.is_over()))
    }

    #[test]
    fn a_form_is_read_in_pieces_of_any_size() {
        let content = b"line\r\n--a c\r\n\r\n--a\r\n\r\n";
        for size in [1, 2, 3, 7, 1000] {
            let (fields, got, over) = read(&form(content), size).unwrap();
            assert_eq!(fields.get("key"), Some("uploads/${filename}"));
            assert_eq!(fields.get("empty"), Some(""));
            assert_eq!(fields.file_name, "a \"b\".txt");
            assert!(got == content && over, "{size}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for kind in [
            "text/plain",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=a",
        ] {
            assert!(FormReader::new(kind).is_err(), "{kind}");
        }
        assert!(read(b"--a b--\r\n", 100).is_err());
        assert!(read(b"--a bc\r\n\r\n", 100).is_err());
        assert!(read(b"--a b\r\nX: y\r\n\r\nvalue\r\n--a b--", 100).is_err());
        // It breaks off.
        assert!(!read(&form(b"x")[..250], 100).unwrap().2);
    }

    #[test]
    fn nothing_grows_without_bound() {
        let kind = |body: &[u8]| read(body, 1000).map(drop).map_err(|e| e.kind());
        let head = b"--a b\r\nContent-Disposition: form-data; name=a\r\n\r\n".to_vec();
        let long = [head.clone(), vec![b'x'; MAX_FIELDS + 1]].concat();
        assert_eq!(kind(&long), Err(ErrorKind::TooLarge));
        assert_eq!(kind(&vec![b'x'; 2 * MAX_FIELDS]), Err(ErrorKind::TooLarge));
        assert_eq!(kind(&[&b"--a b\r\n"[..], &vec![b'x'; MAX_FIELDS]].concat()), Err(ErrorKind::TooLarge));
        let many = [head, b"\r\n".to_vec()].concat().repeat(MAX_COUNT + 2);
        assert_eq!(kind(&many), Err(ErrorKind::TooLarge));
        // Of a file that goes on and on nothing is kept.
        let mut reader = FormReader::new(TYPE).unwrap();
        reader.push(&form(b"")[..form(b"").len() - 70]);
        for _ in 0..100 {
            reader.push(&[b'\r'; 10_000]);
            while reader.next_piece().unwrap().is_some() {}
            assert!(reader.pending.len() <= reader.delimiter.len());
        }
    }

    proptest! {
        #[test]
        fn any_content_comes_through(content in any::<Vec<u8>>(), size in 1..40usize) {
            let (_, got, over) = read(&form(&content), size).unwrap();
            prop_assert!(over);
            prop_assert_eq!(got, content);
        }

        #[test]
        fn anything_else_is_refused_or_waits(body in "(\r\n|--a b|-|x|: |name=|form-data;|\"|file){0,40}", size in 1..40usize) {
            let _ = read(body.as_bytes(), size);
        }
    }
}
