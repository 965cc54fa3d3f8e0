//! Properties: those that follow from what is there (RFC 4918, section 15; RFC 4331), and those that somebody
//! has set and that are kept as they are.
//!
//! What is kept goes before what follows, where both could answer. Properties that cost a look of their own
//! (quota) are given only to who names them.

use std::time::{Duration, SystemTime};

use session_core::fs::Space;
use session_core::locks::Lock;
use session_core::metadata::{Attributes, Metadata};
use session_core::net::http::type_of;
use session_core::path::VPath;

use crate::wire::conditions::etag;
use crate::wire::multistatus::Value;
use crate::wire::xml::{Element, Name};
use crate::wire::{date, href, lock, proppatch};

/// The namespace of Apache's properties, in which davfs2 asks whether a file can be run.
const APACHE: &str = "http://apache.org/dav/props/";
/// The namespace of Explorer's properties.
const MICROSOFT: &str = "urn:schemas-microsoft-com:";
/// Our own.
pub(super) const FERRY: &str = "urn:ferry:dav";

/// The properties of WebDAV that nobody sets.
const PROTECTED: &[&str] = &[
    "creationdate",
    "getcontentlength",
    "getetag",
    "lockdiscovery",
    "quota-available-bytes",
    "quota-used-bytes",
    "resourcetype",
    "supportedlock",
];
/// Those that are given to who asks for all.
const USUAL: &[&str] = &[
    "creationdate",
    "displayname",
    "getcontentlength",
    "getcontenttype",
    "getetag",
    "getlastmodified",
    "lockdiscovery",
    "resourcetype",
    "supportedlock",
];

/// Whether what is kept of an entry has to be known to answer for this name.
pub(super) fn is_kept(name: &Name) -> bool {
    match &*name.space {
        crate::wire::xml::DAV => !PROTECTED.contains(&&*name.local) && &*name.local != "getlastmodified",
        APACHE => &*name.local != "executable",
        FERRY => &*name.local != "mode",
        _ => true,
    }
}

/// What is known of an entry.
pub(super) struct Subject<'a> {
    pub(super) path: &'a VPath,
    pub(super) metadata: &'a Metadata,
    /// The locks that cover it.
    pub(super) locks: Vec<Lock>,
    /// Whether there are locks at all.
    pub(super) lockable: bool,
    pub(super) space: Option<Space>,
    pub(super) prefix: &'a str,
}

/// The type that a file is said to have: one that was set, or what its name says.
pub(super) fn content_type(path: &VPath, metadata: &Metadata) -> String {
    let set = metadata.properties.as_ref().and_then(|p| p.get("{DAV:}getcontenttype"));
    let set = set.and_then(|v| std::str::from_utf8(v).ok());
    let fits = |t: &&str| t.contains('/') && t.bytes().all(|b| (0x20..0x7f).contains(&b)) && t.len() < 256;
    set.filter(fits).map_or_else(|| type_of(path.name()).to_owned(), str::to_owned)
}

impl Subject<'_> {
    /// The value of a property; `None` where there is none.
    pub(super) fn value(&self, name: &Name) -> Option<Value> {
        if is_kept(name)
            && let Some(kept) = self.metadata.properties.as_ref().and_then(|p| p.get(&name.key()))
        {
            return proppatch::property(name, kept).map(Value::Whole);
        }
        let m = self.metadata;
        let text = |t: String| Some(Value::Text(t));
        match (&*name.space, &*name.local) {
            (crate::wire::xml::DAV, local) => match local {
                "creationdate" => text(m.created.and_then(date::internet)?),
                "displayname" => text(String::from_utf8_lossy(self.path.name()).into_owned()),
                "getcontentlength" if m.is_file() => text(m.size.to_string()),
                "getcontenttype" if m.is_file() => text(content_type(self.path, m)),
                "getetag" => text(etag(m)?),
                "getlastmodified" => text(m.modified.and_then(date::http)?),
                "lockdiscovery" if self.lockable => {
                    let root = |l: &Lock| href::write(&l.root, false, self.prefix);
                    Some(Value::Inner(lock::discovery(&self.locks, root)))
                }
                "quota-available-bytes" if m.is_dir() => text(self.space?.available.to_string()),
                "quota-used-bytes" if m.is_dir() => {
                    text(self.space.map(|s| s.total.saturating_sub(s.free))?.to_string())
                }
                "resourcetype" if m.is_dir() => Some(Value::Inner("<D:collection/>".to_owned())),
                "resourcetype" => Some(Value::Empty),
                "supportedlock" if self.lockable => Some(Value::Inner(lock::SUPPORTED.to_owned())),
                _ => None,
            },
            (APACHE, "executable") if m.is_file() => {
                text(if m.mode? & 0o111 != 0 { "T" } else { "F" }.to_owned())
            }
            (FERRY, "mode") => text(format!("{:04o}", m.mode?)),
            (MICROSOFT, "Win32CreationTime") => text(m.created.and_then(date::http)?),
            (MICROSOFT, "Win32LastAccessTime") => text(m.accessed.and_then(date::http)?),
            (MICROSOFT, "Win32LastModifiedTime") => text(m.modified.and_then(date::http)?),
            _ => None,
        }
    }

    /// The names of what it has.
    pub(super) fn names(&self) -> Vec<Name> {
        let mut names: Vec<_> =
            USUAL.iter().map(|n| Name::dav(n)).filter(|n| self.value(n).is_some()).collect();
        let kept = self.metadata.properties.iter().flat_map(|p| p.keys());
        let kept = kept.filter_map(|k| Name::from_key(k)).filter(is_kept);
        names.extend(kept.filter(|n| *n.space != *crate::wire::xml::DAV || !USUAL.contains(&&*n.local)));
        names
    }
}

/// What setting or removing a property comes to.
pub(super) enum Effect {
    /// It is kept, or what is kept goes.
    Kept,
    /// An attribute is set.
    Live,
    /// Nobody sets it.
    Protected,
    /// That is no value for it.
    Invalid,
}

/// What becomes of a property that is set (`Some`) or removed; attributes that follow go to `attributes`.
pub(super) fn change(
    name: &Name,
    set: Option<&Element>,
    there: &Metadata,
    attributes: &mut Attributes,
) -> Effect {
    let text = set.map(Element::text);
    let time = |read: fn(&str) -> Option<SystemTime>| text.as_deref().and_then(|t| read(t.trim()));
    match (&*name.space, &*name.local) {
        (crate::wire::xml::DAV, local) if PROTECTED.contains(&local) => Effect::Protected,
        (crate::wire::xml::DAV, "getlastmodified") | (MICROSOFT, "Win32LastModifiedTime") => {
            match (set, time(either)) {
                (Some(_), Some(at)) => {
                    attributes.modified = Some(at);
                    Effect::Live
                }
                (Some(_), None) => Effect::Invalid,
                (None, _) => Effect::Protected,
            }
        }
        (MICROSOFT, "Win32LastAccessTime") => match (set, time(either)) {
            (Some(_), Some(at)) => {
                attributes.accessed = Some(at);
                Effect::Live
            }
            (Some(_), None) => Effect::Invalid,
            (None, _) => Effect::Protected,
        },
        (APACHE, "executable") => match (text.as_deref().map(str::trim), there.mode) {
            (_, mode) if mode.is_none() || there.is_dir() => Effect::Protected,
            (Some("T"), Some(mode)) => {
                // For whom reading is allowed.
                attributes.mode = Some(mode | ((mode & 0o444) >> 2));
                Effect::Live
            }
            (Some("F"), Some(mode)) => {
                attributes.mode = Some(mode & !0o111);
                Effect::Live
            }
            (Some(_), _) => Effect::Invalid,
            (None, _) => Effect::Protected,
        },
        (FERRY, "mode") => match text.as_deref().map(|t| u32::from_str_radix(t.trim(), 8)) {
            Some(Ok(mode)) if mode <= 0o7777 => {
                attributes.mode = Some(mode);
                Effect::Live
            }
            Some(_) => Effect::Invalid,
            None => Effect::Protected,
        },
        _ => Effect::Kept,
    }
}

/// A time in either form, no earlier than 1970: clients that have none say 0 or 1601.
fn either(text: &str) -> Option<SystemTime> {
    let at = date::parse_http(text).or_else(|| date::parse_internet(text))?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since >= Duration::ZERO).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::metadata::FileType;
    use std::sync::Arc;

    #[test]
    fn what_is_kept_is_shown_and_what_follows_is_not_overwritten() {
        let mut metadata = Metadata::new(FileType::File, 3);
        let kept = [
            ("{DAV:}displayname", "A name"),
            ("{DAV:}getetag", "forged"),
            ("{urn:x}p", "v"),
            ("from-s3", "x"),
        ];
        let kept = kept.iter().map(|(k, v)| ((*k).to_owned(), bytes::Bytes::from_static(v.as_bytes())));
        metadata.properties = Some(Arc::new(kept.collect()));
        let path = VPath::absolute("/f.txt").unwrap();
        let subject = Subject {
            path: &path,
            metadata: &metadata,
            locks: vec![],
            lockable: false,
            space: None,
            prefix: "",
        };
        let shown = |name: &Name| match subject.value(name) {
            Some(Value::Whole(e)) => e.text(),
            Some(Value::Text(t)) => t,
            other => format!("{other:?}"),
        };
        assert_eq!(shown(&Name::dav("displayname")), "A name");
        assert_eq!(shown(&Name::dav("getetag")), "None");
        assert_eq!(shown(&Name::dav("getcontenttype")), "text/plain");
        let names: Vec<_> = subject.names().iter().map(Name::key).collect();
        assert_eq!(
            names,
            [
                "{DAV:}displayname",
                "{DAV:}getcontentlength",
                "{DAV:}getcontenttype",
                "{DAV:}resourcetype",
                "{urn:x}p"
            ]
        );
    }
}
