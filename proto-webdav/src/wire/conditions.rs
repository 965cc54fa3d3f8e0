//! Conditions of HTTP (RFC 9110, section 13): what must hold of a resource before a request is carried out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use session_core::metadata::Metadata;

use super::date;

/// The conditions of a request, as sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-Match`.
    pub if_match: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a str>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'a str>,
}

/// What they come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They hold.
    Go,
    /// The client has it already: 304.
    NotModified,
    /// One does not hold: 412.
    Failed,
}

/// The validator of content, as sent: strong where the store has one, else weak from size and time. `None`
/// for what has no content.
pub fn etag(metadata: &Metadata) -> Option<String> {
    if metadata.is_dir() {
        return None;
    }
    match metadata.etag.as_deref() {
        Some(tag) if tag.bytes().all(|b| b == b'!' || (b > b'"' && b < 0x7f)) => Some(format!("\"{tag}\"")),
        _ => {
            let since = metadata.modified?.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(format!("W/\"{:x}-{:x}\"", metadata.size, since.as_nanos()))
        }
    }
}

impl Conditions<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }

    /// Whether they hold of what is there (section 13.2.2). `reads` for GET and HEAD.
    pub fn judge(&self, there: Option<&Metadata>, reads: bool) -> Verdict {
        let tag = there.and_then(etag);
        let modified = there.and_then(|m| m.modified).map(whole);
        if let Some(wanted) = self.if_match {
            if !matches(wanted, there.is_some(), tag.as_deref(), true) {
                return Verdict::Failed;
            }
        } else if let Some(since) = self.if_unmodified_since.and_then(date::parse_http)
            && modified.is_none_or(|m| m > since)
        {
            return Verdict::Failed;
        }
        if let Some(unwanted) = self.if_none_match {
            if matches(unwanted, there.is_some(), tag.as_deref(), false) {
                return if reads { Verdict::NotModified } else { Verdict::Failed };
            }
        } else if reads
            && let Some(since) = self.if_modified_since.and_then(date::parse_http)
            && modified.is_some_and(|m| m <= since)
        {
            return Verdict::NotModified;
        }
        Verdict::Go
    }
}

/// Whether a range may be served: `If-Range` names the very content that is there (section 13.1.5).
pub fn if_range(field: &str, there: &Metadata) -> bool {
    let field = field.trim();
    if field.starts_with('"') || field.starts_with("W/") {
        return !field.starts_with("W/") && etag(there).as_deref() == Some(field);
    }
    date::parse_http(field).is_some_and(|at| there.modified.map(whole) == Some(at))
}

/// In whole seconds, as HTTP says times.
fn whole(time: SystemTime) -> SystemTime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        Err(_) => time,
    }
}

/// Whether one of the tags in `field` is that of what is there.
fn matches(field: &str, exists: bool, tag: Option<&str>, strong: bool) -> bool {
    if field.trim() == "*" {
        return exists;
    }
    let Some(tag) = tag else { return false };
    let opaque = |t: &str| t.strip_prefix("W/").unwrap_or(t).to_owned();
    tags(field).any(|t| if strong { t == tag && !t.starts_with("W/") } else { opaque(t) == opaque(tag) })
}

/// The etag of a field that names exactly one, without its quotes, if it is a strong one: what a store can
/// hold against what is there when it publishes.
pub fn single(field: &str) -> Option<&str> {
    let mut all = tags(field);
    match (all.next(), all.next()) {
        (Some(tag), None) => tag.strip_prefix('"')?.strip_suffix('"'),
        _ => None,
    }
}

/// The tags of a list. A comma may stand in one.
fn tags(field: &str) -> impl Iterator<Item = &str> {
    let mut rest = field;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let opaque = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let end = rest.len() - opaque.len() + opaque.find('"')? + 1;
        let (tag, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::metadata::FileType;

    fn file() -> Metadata {
        Metadata {
            etag: Some("a".into()),
            modified: Some(UNIX_EPOCH + Duration::from_millis(784_111_777_500)),
            ..Metadata::new(FileType::File, 3)
        }
    }

    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn tags_come_before_times() {
        let f = file();
        let none = Conditions::default();
        let judge = |c: Conditions<'_>, reads| c.judge(Some(&f), reads);
        for (field, go) in
            [("\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("W/\"a\"", false)]
        {
            let verdict = if go { Verdict::Go } else { Verdict::Failed };
            assert_eq!(judge(Conditions { if_match: Some(field), ..none }, true), verdict, "{field}");
        }
        for (field, same) in
            [("\"a\"", true), ("W/\"a\"", true), ("*", true), ("\"a,\", \"b\"", false), ("", false)]
        {
            let c = Conditions { if_none_match: Some(field), if_modified_since: Some(AT), ..none };
            let (read, write) =
                if same { (Verdict::NotModified, Verdict::Failed) } else { (Verdict::Go, Verdict::Go) };
            assert_eq!((judge(c, true), judge(c, false)), (read, write), "{field}");
        }
        let since = |at| Conditions { if_modified_since: Some(at), ..none };
        assert_eq!(judge(since(AT), true), Verdict::NotModified);
        assert_eq!(judge(since(AT), false), Verdict::Go);
        assert_eq!(judge(since(BEFORE), true), Verdict::Go);
        assert_eq!(judge(since("nonsense"), true), Verdict::Go);
        let until = |at| Conditions { if_unmodified_since: Some(at), ..none };
        assert_eq!(judge(until(AT), false), Verdict::Go);
        assert_eq!(judge(until(BEFORE), false), Verdict::Failed);
    }

    #[test]
    fn of_what_is_not_there() {
        let none = Conditions::default();
        assert_eq!(Conditions { if_match: Some("*"), ..none }.judge(None, false), Verdict::Failed);
        assert_eq!(Conditions { if_none_match: Some("*"), ..none }.judge(None, false), Verdict::Go);
        assert_eq!(Conditions { if_unmodified_since: Some(AT), ..none }.judge(None, false), Verdict::Failed);
    }

    #[test]
    fn a_range_is_of_the_very_content() {
        let f = file();
        assert!(if_range("\"a\"", &f) && if_range(AT, &f));
        assert!(
            !if_range("\"b\"", &f) && !if_range("W/\"a\"", &f) && !if_range(BEFORE, &f) && !if_range("", &f)
        );
        let weak = Metadata { etag: None, ..f };
        assert!(etag(&weak).unwrap().starts_with("W/") && !if_range(&etag(&weak).unwrap(), &weak));
        let odd = Metadata { etag: Some("a\"b".into()), ..weak };
        assert!(etag(&odd).unwrap().starts_with("W/"));
        assert_eq!(single("\"a\""), Some("a"));
        assert_eq!((single("\"a\", \"b\""), single("W/\"a\""), single("*")), (None, None, None));
    }
}
