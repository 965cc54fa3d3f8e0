//! Entries for fuzzing: one for each parser that sees a peer. Each takes any bytes and must return.
//!
//! `fuzz/` holds the targets; the corpus in `fuzz/corpus/` also runs in `cargo test`.

use session_core::path::VPath;

use super::conditions::{self, Conditions};
use super::depth::Depth;
use super::if_header::If;
use super::multistatus::{self, Propstat, Value};
use super::multistatus_reader::{Answer, MultistatusReader};
use super::propfind::Propfind;
use super::xml::{self, Element};
use super::{date, digest, href, lock, proppatch, range};

/// Bodies: what is read is written and read again, the same.
pub fn bodies(data: &[u8]) {
    if let Ok(root) = xml::parse(data) {
        let mut out = String::new();
        root.write(&mut out);
        assert_eq!(xml::parse(out.as_bytes()).as_ref().ok(), Some(&root));
        kept(&root);
    }
    let _ = Propfind::parse(data);
    let _ = proppatch::parse(data);
    let _ = proppatch::parse_mkcol(data);
    if let Ok((lock, _)) = lock::read(data, None) {
        assert!(!lock.token.contains(['<', '>', ' ', '\r', '\n']));
    }
    if let Ok(Some(request)) = lock::parse(data, true, None) {
        // The owner's words stand in answers to others: they are well formed there.
        let shown = format!("<D:owner xmlns:D=\"DAV:\">{}</D:owner>", request.words);
        assert!(xml::parse(shown.as_bytes()).is_ok());
    }
}

/// A property is given as it was set, in whatever answer.
fn kept(property: &Element) {
    let value = proppatch::value(property);
    let Some(back) = proppatch::property(&property.name, &value) else { return };
    assert_eq!(back, *property);
    let group = Propstat {
        status: 200,
        properties: vec![(property.name.clone(), Value::Whole(back))],
        condition: None,
    };
    let mut out = multistatus::HEAD.to_owned();
    multistatus::properties("/x", &[group], &mut out);
    out.push_str(multistatus::TAIL);
    // It stands three levels deeper than it was sent, which may be too deep to be read back by us.
    if let Ok(root) = xml::parse(out.as_bytes()) {
        let found =
            root.elements().next().and_then(|r| r.dav("propstat")?.dav("prop")?.elements().next().cloned());
        assert_eq!(found.as_ref(), Some(property));
    }
}

/// Fields: each line is one.
pub fn fields(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines() {
        let _ = Depth::parse(line);
        let _ = digest::parse(line.as_bytes());
        let _ = date::parse_seconds(line);
        if let Some(at) = date::parse_http(line)
            && let Some(written) = date::http(at)
        {
            assert_eq!(date::parse_http(&written), Some(at));
        }
        let _ = lock::parse_timeout(line);
        let _ = lock::parse_token(line);
        let _ = range::parse_content_range(line);
        let all = Conditions {
            if_match: Some(line),
            if_none_match: Some(line),
            if_modified_since: Some(line),
            if_unmodified_since: Some(line),
        };
        let _ = all.judge(None, true);
        let _ = conditions::single(line);
        if let range::Wanted::Parts(parts) = range::wanted(line, 1000) {
            assert!(!parts.is_empty() && parts.iter().all(|p| p.start < p.end && p.end <= 1000));
            assert!(parts.is_sorted_by(|a, b| a.end < b.start));
        }
        if let Ok(parsed) = If::parse(line) {
            assert!(!parsed.lists.is_empty() && parsed.lists.iter().all(|l| !l.conditions.is_empty()));
        }
        if let Ok(target) = href::parse(line, "") {
            let again = href::parse(&href::write(&target.path, target.slash, ""), "");
            assert_eq!(again.map(|t| t.path).ok(), VPath::absolute(target.path.as_bytes()).ok());
        }
        let _ = href::parse_url(line, "localhost", "/dav");
    }
}

/// What a server answers: the same, however it is cut on its way.
pub fn answers(data: &[u8]) {
    let read = |piece: usize| -> Option<Vec<Answer>> {
        let mut reader = MultistatusReader::new();
        let mut all = Vec::new();
        for piece in data.chunks(piece) {
            all.extend(reader.feed(piece).ok()?);
        }
        reader.end().ok().map(|()| all)
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(7));
}
