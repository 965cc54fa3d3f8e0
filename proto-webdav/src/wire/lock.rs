//! What a LOCK asks for and answers (RFC 4918, sections 9.10 and 14).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use session_core::error::{Error, ErrorKind, Result};
use session_core::locks::{Lock, LockRequest};
use session_core::path::VPath;

use super::xml::{self, Element, Node};

/// The longest owner, bytes.
pub const MAX_OWNER: usize = 4096;

/// Reads the body of a LOCK; `None` where there is none, which asks for a longer life of a lock. `deep` and
/// `time` come from fields. Errors: `InvalidArgument`, `TooLarge`.
pub fn parse(body: &[u8], deep: bool, time: Option<Duration>) -> Result<Option<LockRequest>> {
    let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let root = xml::parse(body)?;
    if !root.name.is_dav("lockinfo") {
        return Err(bad("the body is no lockinfo"));
    }
    let scope = root.dav("lockscope").ok_or_else(|| bad("the lock has no scope"))?;
    let exclusive = match (scope.dav("exclusive").is_some(), scope.dav("shared").is_some()) {
        (true, false) => true,
        (false, true) => false,
        _ => return Err(bad("a lock is exclusive or shared")),
    };
    if root.dav("locktype").and_then(|t| t.dav("write")).is_none() {
        return Err(bad("there are locks against writing only"));
    }
    let mut words = String::new();
    for node in root.dav("owner").map(|o| o.children.as_slice()).unwrap_or_default() {
        match node {
            Node::Text(text) => xml::escape_into(text, &mut words),
            Node::Element(element) => element.write(&mut words),
        }
    }
    if words.len() > MAX_OWNER {
        return Err(Error::new(ErrorKind::TooLarge).with_detail("the owner of the lock is too long"));
    }
    Ok(Some(LockRequest { exclusive, deep, words: words.into(), time }))
}

/// The body of a LOCK that asks for a new lock; the words are text.
pub fn request(request: &LockRequest) -> String {
    let scope = if request.exclusive { "exclusive" } else { "shared" };
    let mut owner = String::new();
    if !request.words.is_empty() {
        owner = format!("<D:owner>{}</D:owner>", xml::escape(&request.words));
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:{scope}/>\
         </D:lockscope><D:locktype><D:write/></D:locktype>{owner}</D:lockinfo>"
    )
}

/// What an answer to LOCK tells of the lock with this token, or of the only one where the answer has no field that
/// names it; and what it calls the root, which is not looked at here. Owner and account are the words of its maker;
/// `left` is [`Duration::MAX`] where there is no end. Errors: `InvalidArgument` for an answer that tells of no such
/// lock.
pub fn read(body: &[u8], token: Option<&str>) -> Result<(Lock, String)> {
    let bad = |words: &'static str| Error::new(ErrorKind::InvalidArgument).with_detail(words);
    let root = xml::parse(body)?;
    let found = root.dav("lockdiscovery").ok_or_else(|| bad("the answer tells of no lock"))?;
    let href = |active: &Element, name| {
        active.dav(name).and_then(|e| e.dav("href")).map(|e| e.text().trim().to_owned()).unwrap_or_default()
    };
    let mut all = found.elements().filter(|e| e.name.is_dav("activelock"));
    let active = match token {
        Some(token) => all.find(|a| href(a, "locktoken") == token),
        None => all.next(),
    };
    let active = active.ok_or_else(|| bad("the answer does not tell of the lock"))?;
    let token: Arc<str> = href(active, "locktoken").into();
    // It goes into fields of later requests.
    if token.is_empty() || !token.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'<' && b != b'>') {
        return Err(bad("the token of the lock is no URI"));
    }
    let text = |name| active.dav(name).map(Element::text).unwrap_or_default();
    let words: Arc<str> = text("owner").trim().into();
    Ok((
        Lock {
            token,
            root: VPath::root(),
            exclusive: active.dav("lockscope").is_some_and(|s| s.dav("exclusive").is_some()),
            deep: text("depth").trim().eq_ignore_ascii_case("infinity"),
            account: Arc::clone(&words),
            words,
            left: parse_timeout(&text("timeout")).unwrap_or(Duration::MAX),
        },
        href(active, "lockroot"),
    ))
}

/// The `Timeout` field: the first wish that is understood; `None` for as long as may be.
pub fn parse_timeout(field: &str) -> Option<Duration> {
    for wish in field.split(',').map(str::trim) {
        if wish.eq_ignore_ascii_case("infinite") {
            return None;
        }
        let seconds = wish.get(..7).filter(|w| w.eq_ignore_ascii_case("second-")).and_then(|_| wish.get(7..));
        if let Some(Ok(seconds)) = seconds.map(str::parse::<u64>) {
            return Some(Duration::from_secs(seconds.min(u64::from(u32::MAX))));
        }
    }
    None
}

/// The token in a `Lock-Token` field.
pub fn parse_token(field: &str) -> Option<Arc<str>> {
    let token = field.trim().strip_prefix('<')?.strip_suffix('>')?;
    (!token.is_empty()).then(|| token.into())
}

/// What `lockdiscovery` holds; `href` writes a path.
pub fn discovery(locks: &[Lock], href: impl Fn(&Lock) -> String) -> String {
    let mut out = String::new();
    for lock in locks {
        let scope = if lock.exclusive { "exclusive" } else { "shared" };
        let depth = if lock.deep { "infinity" } else { "0" };
        let _ = write!(
            out,
            "<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/></D:lockscope>\
             <D:depth>{depth}</D:depth>"
        );
        if !lock.words.is_empty() {
            let _ = write!(out, "<D:owner>{}</D:owner>", lock.words);
        }
        // Rounded up: what was asked for is what is shown.
        let left = lock.left.as_secs() + u64::from(lock.left.subsec_nanos() > 0);
        let _ = write!(
            out,
            "<D:timeout>Second-{left}</D:timeout><D:locktoken><D:href>{}</D:href></D:locktoken>\
             <D:lockroot><D:href>{}</D:href></D:lockroot></D:activelock>",
            xml::escape(&lock.token),
            xml::escape(&href(lock))
        );
    }
    out
}

/// What `supportedlock` holds.
pub const SUPPORTED: &str = "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/>\
    </D:locktype></D:lockentry><D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/>\
    </D:locktype></D:lockentry>";

/// The body of an answer to LOCK.
pub fn answer(lock: &Lock, href: impl Fn(&Lock) -> String) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:prop xmlns:D=\"DAV:\"><D:lockdiscovery>{}</D:lockdiscovery>\
         </D:prop>\n",
        discovery(std::slice::from_ref(lock), href)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(inner: &str) -> Result<Option<LockRequest>> {
        parse(format!("<lockinfo xmlns='DAV:'>{inner}</lockinfo>").as_bytes(), true, None)
    }

    #[test]
    fn a_lock_is_asked_for_and_shown() {
        let scope = "<lockscope><exclusive/></lockscope><locktype><write/></locktype>";
        let asked = info(&format!("{scope}<owner><href>me</href> &lt;x&gt;</owner>")).unwrap().unwrap();
        assert!(asked.exclusive && asked.deep);
        let lock = Lock {
            token: "urn:uuid:1".into(),
            root: VPath::root(),
            exclusive: true,
            deep: true,
            words: asked.words,
            account: "a".into(),
            left: Duration::from_millis(1500),
        };
        let shown = answer(&lock, |_| "/a&b/".to_owned());
        let root = xml::parse(shown.as_bytes()).unwrap();
        let active = root.dav("lockdiscovery").unwrap().dav("activelock").unwrap();
        assert_eq!(active.dav("timeout").unwrap().text(), "Second-2");
        assert_eq!(active.dav("owner").unwrap().dav("href").unwrap().text(), "me");
        assert_eq!(active.dav("owner").unwrap().text(), "me <x>");
        assert_eq!(active.dav("lockroot").unwrap().text(), "/a&b/");
        let (read_back, at) = read(shown.as_bytes(), Some("urn:uuid:1")).unwrap();
        assert_eq!((&*read_back.token, &*read_back.words, &*at), ("urn:uuid:1", "me <x>", "/a&b/"));
        assert_eq!((read_back.exclusive, read_back.deep), (true, true));
        assert_eq!(read_back.left, Duration::from_secs(2));
        assert!(read(shown.as_bytes(), Some("urn:uuid:2")).is_err());
        assert!(read(shown.replace("urn:uuid:1", "a&gt;b").as_bytes(), None).is_err());
        assert!(xml::parse(format!("<s xmlns:D='DAV:'>{SUPPORTED}</s>").as_bytes()).is_ok());
        assert_eq!(parse(b"", false, None).unwrap(), None);
        let long = format!("{scope}<owner>{}</owner>", "x".repeat(MAX_OWNER + 1));
        assert_eq!(info(&long).unwrap_err().kind(), ErrorKind::TooLarge);
        for bad in [
            "",
            scope.strip_suffix("<locktype><write/></locktype>").unwrap(),
            "<lockscope><exclusive/><shared/></lockscope><locktype><write/></locktype>",
            "<lockscope/><locktype><write/></locktype>",
            "<lockscope><shared/></lockscope><locktype><read/></locktype>",
        ] {
            assert!(info(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_client_asks_for_is_understood() {
        for (exclusive, words) in [(true, ""), (false, "me & <you>")] {
            let asked = LockRequest { exclusive, deep: false, words: words.into(), time: None };
            let read = parse(request(&asked).as_bytes(), false, None).unwrap().unwrap();
            assert_eq!(read, LockRequest { words: xml::escape(words).into(), ..asked });
        }
    }

    #[test]
    fn times_and_tokens() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(parse_timeout("Second-600"), seconds(600));
        assert_eq!(parse_timeout("Infinite, Second-4100000000"), None);
        assert_eq!(parse_timeout("Extend-1, second-9"), seconds(9));
        assert_eq!(parse_timeout("Second-99999999999"), seconds(u64::from(u32::MAX)));
        assert_eq!(parse_timeout("Second-"), None);
        assert_eq!(parse_timeout("Sec\u{e9}nd-1"), None);
        assert_eq!(parse_token(" <urn:x> ").as_deref(), Some("urn:x"));
        assert_eq!(parse_token("urn:x"), None);
        assert_eq!(parse_token("<>"), None);
    }
}
