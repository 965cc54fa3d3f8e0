//! Properties: which are asked for, and what they say of an entry (RFC 4918, section 15; RFC 4331).

use std::time::{SystemTime, UNIX_EPOCH};

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Space;
use session_core::metadata::{FileType, Metadata};

use super::options::SetTimes;
use crate::wire::date;
use crate::wire::multistatus_reader::{Answer, DAV};

/// The namespace of ownCloud and its kin.
pub(super) const OWNCLOUD: &str = "http://owncloud.org/ns";
/// The namespace of Windows.
pub(super) const MICROSOFT: &str = "urn:schemas-microsoft-com:";

/// What an entry is.
pub(super) const ENTRY: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/>"#,
    "<D:getcontentlength/><D:getlastmodified/><D:creationdate/><D:getetag/></D:prop></D:propfind>"
);

/// What a place is, and what kind of server this is.
pub(super) const PLACE: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:" xmlns:o="http://owncloud.org/ns"><D:prop>"#,
    "<D:resourcetype/><D:quota-available-bytes/><D:quota-used-bytes/><o:id/></D:prop></D:propfind>"
);

/// A date of HTTP (RFC 9110, section 5.6.7), or of ISO 8601.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    date::parse_http(text).or_else(|| date::parse_internet(text))
}

fn out_of_bounds() -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail("a time that cannot be written")
}

/// Whole seconds since 1970, rounded down. Errors: `InvalidArgument` for a time out of bounds.
pub(super) fn seconds(time: SystemTime) -> Result<i64> {
    let whole = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).ok(),
        Err(e) => {
            let before = e.duration();
            let more = u64::from(before.subsec_nanos() > 0);
            i64::try_from(before.as_secs() + more).ok().map(|s| -s)
        }
    };
    // What HTTP can write can be set.
    whole.filter(|_| date::http(time).is_some()).ok_or_else(out_of_bounds)
}

/// A validator without its quotes; none where it is weak, as it may stand while the content changes.
pub(super) fn etag(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix('"')?.strip_suffix('"')?;
    (!inner.is_empty() && !inner.contains('"')).then_some(inner)
}

/// What the answer's entry is.
pub(super) fn metadata(answer: &Answer) -> Metadata {
    let text = |name| answer.property(DAV, name).map(|p| p.text.as_str()).filter(|t| !t.is_empty());
    let is_dir = match answer.property(DAV, "resourcetype") {
        Some(kind) => kind.children.iter().any(|(space, name)| space == DAV && name == "collection"),
        // Some tell nothing of the kind; a directory's href ends in a slash (RFC 4918, section 5.2).
        None => answer.hrefs.first().is_some_and(|h| h.ends_with('/')),
    };
    let kind = if is_dir { FileType::Directory } else { FileType::File };
    let size = if is_dir { None } else { text("getcontentlength").and_then(|t| t.parse().ok()) };
    let mut found = Metadata::new(kind, size.unwrap_or(0));
    found.modified = text("getlastmodified").and_then(time);
    found.created = text("creationdate").and_then(time);
    found.etag = text("getetag").and_then(etag).map(Into::into);
    found
}

/// How much room the answer tells of.
pub(super) fn space(answer: &Answer) -> Option<Space> {
    let number = |name| answer.property(DAV, name)?.text.parse::<i64>().ok();
    // ownCloud's kin tell by negative numbers that there is no bound, or none that is known.
    let available = u64::try_from(number("quota-available-bytes")?).ok()?;
    let used = number("quota-used-bytes").and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Some(Space {
        block_size: 1,
        total: used.saturating_add(available),
        free: available,
        available,
        entries: 0,
        entries_free: 0,
        max_name: 255,
        read_only: false,
    })
}

/// The property that sets a time in this way, and the request that does it.
pub(super) fn setting(way: SetTimes, at: SystemTime) -> Result<((&'static str, &'static str), String)> {
    let (space, name, value) = match way {
        SetTimes::LastModified => (DAV, "getlastmodified", date::http(at).ok_or_else(out_of_bounds)?),
        SetTimes::OwnCloud => (DAV, "lastmodified", seconds(at)?.to_string()),
        SetTimes::Win32 => (MICROSOFT, "Win32LastModifiedTime", date::http(at).ok_or_else(out_of_bounds)?),
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop>\
         <x:{name} xmlns:x=\"{space}\">{value}</x:{name}></D:prop></D:set></D:propertyupdate>"
    );
    Ok(((space, name), body))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::multistatus_reader::Property;

    #[test]
    fn times_go_both_ways() {
        let at = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(time("Sun, 06 Nov 1994 08:49:37 GMT"), Some(at));
        assert_eq!(time("1994-11-06T08:49:37Z"), Some(at));
        assert_eq!(time("yesterday"), None);
        assert_eq!(seconds(at + Duration::from_millis(999)).unwrap(), 784_111_777);
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_millis(500)).unwrap(), -1);
        let (_, body) = setting(SetTimes::Win32, at).unwrap();
        assert!(body.contains(">Sun, 06 Nov 1994 08:49:37 GMT</"), "{body}");
        let (_, body) = setting(SetTimes::OwnCloud, at).unwrap();
        assert!(body.contains("<x:lastmodified xmlns:x=\"DAV:\">784111777</"), "{body}");
    }

    #[test]
    fn only_strong_validators_are_told() {
        assert_eq!(etag("\"a-b\""), Some("a-b"));
        assert_eq!(etag("W/\"a\""), None);
        assert_eq!(etag("a"), None);
        assert_eq!(etag("\"\""), None);
    }

    fn answer(href: &str, properties: &[(&str, &str)]) -> Answer {
        let property = |(name, text): &(&str, &str)| Property {
            namespace: DAV.into(),
            name: (*name).into(),
            status: 200,
            text: (*text).into(),
            children: Vec::new(),
        };
        Answer {
            hrefs: vec![href.to_owned()],
            properties: properties.iter().map(property).collect(),
            ..Answer::default()
        }
    }

    #[test]
    fn what_is_not_told_is_not_made_up() {
        let m =
            metadata(&answer("/a", &[("getcontentlength", "5"), ("getetag", ""), ("getlastmodified", "x")]));
        assert_eq!((m.file_type, m.size, m.modified, m.etag), (FileType::File, 5, None, None));
        assert_eq!(metadata(&answer("/a/", &[("getcontentlength", "5")])).file_type, FileType::Directory);
        assert_eq!(space(&answer("/", &[("quota-available-bytes", "-3")])), None);
        let told = space(&answer("/", &[("quota-available-bytes", "7"), ("quota-used-bytes", "3")])).unwrap();
        assert_eq!((told.total, told.free), (10, 7));
    }
}
