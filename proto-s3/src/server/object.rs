//! Objects as files: where a key stands, what is kept with an object, its ETag.
//!
//! Kept are properties of the file (house rule: WebDAV sees them, a rename over any protocol keeps them): the
//! content type under WebDAV's name, the other fields in one property, and the ETag with the size and time of the
//! content that it is of, so that a change over another protocol makes it void. Of content without such a
//! property, and of stores that keep none, the ETag is the store's own validator, in a form that no client takes
//! for an MD5.
//!
//! A key that ends in a slash is a directory that was made on purpose: no object is there, and yet it is found,
//! empty. A directory that was made only to hold an object is marked as such and found by nobody.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow};
use session_core::gate::SessionFs;
use session_core::metadata::{Attributes, Metadata};
use session_core::net::http::type_of;
use session_core::path::VPath;

use crate::keyspace;

/// The ETag of the content, its size, its time in nanoseconds since 1970.
const ETAG: &str = "{urn:ferry:s3}etag";
/// Fields that are given back as they came, one a line.
const FIELDS: &str = "{urn:ferry:s3}fields";
/// A directory that was made only to hold an object.
const IMPLIED: &str = "{urn:ferry:s3}implied";
const TYPE: &str = "{DAV:}getcontenttype";
/// Before the names of what clients keep with an object.
pub(super) const META: &str = "x-amz-meta-";
/// What an object without content has.
pub(super) const EMPTY: &str = "d41d8cd98f00b204e9800998ecf8427e";
/// The most that clients may keep with an object, bytes of names and values.
const MAX_META: usize = 2048;
/// What does not stand in a line as it is.
const ODD: &AsciiSet = &CONTROLS.add(b'%');

/// Where a key stands.
pub(super) struct Spot {
    pub(super) bucket: VPath,
    /// The file.
    pub(super) path: VPath,
    /// The directory that the key means if there is no such file.
    pub(super) dir: Option<VPath>,
}

impl Spot {
    /// Errors: `InvalidPath`.
    pub(super) fn of(bucket: &str, key: &str) -> Result<Spot> {
        let path = keyspace::path_of(bucket, key)?;
        let dir = if key.ends_with('/') { path.parent() } else { None };
        Ok(Spot { bucket: VPath::root().join(bucket)?, path, dir })
    }

    /// What is there. Errors: those of the gate, but for what means "nothing".
    pub(super) async fn find(&self, fs: &SessionFs) -> Result<Option<Found>> {
        if let Some(there) = look(fs, &self.path).await?
            && !there.is_dir()
        {
            return Ok(Some(Found { metadata: there, marker: false }));
        }
        let Some(dir) = &self.dir else { return Ok(None) };
        let there = look(fs, dir).await?;
        Ok(there.filter(|m| m.is_dir() && !is_implied(m)).map(|metadata| Found { metadata, marker: true }))
    }

    /// Errors: `NotFound` where the bucket is none.
    pub(super) async fn bucket(&self, fs: &SessionFs) -> Result<()> {
        is_bucket(fs, &self.bucket).await
    }
}

/// Errors: `NotFound` where there is no bucket.
pub(super) async fn is_bucket(fs: &SessionFs, bucket: &VPath) -> Result<()> {
    match look(fs, bucket).await? {
        Some(there) if there.is_dir() => Ok(()),
        _ => Err(Error::new(ErrorKind::NotFound).with_detail("there is no such bucket")),
    }
}

/// What stands at a path; nothing also below a file, or under a name that the store cannot have.
pub(super) async fn look(fs: &SessionFs, path: &VPath) -> Result<Option<Metadata>> {
    match fs.look(path, Follow::Yes).await {
        Err(e) if is_nothing(e.kind()) => Ok(None),
        found => found,
    }
}

/// Whether whoever reads a key is told by this that nothing is there: a name that is too long for the store is a key
/// like any other, of no object.
pub(super) fn is_nothing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidPath | ErrorKind::NotADirectory | ErrorKind::NotFound)
}

/// An object that is there.
pub(super) struct Found {
    pub(super) metadata: Metadata,
    /// It is a directory.
    pub(super) marker: bool,
}

impl Found {
    pub(super) fn etag(&self) -> String {
        if self.marker { EMPTY.to_owned() } else { etag(&self.metadata) }
    }

    pub(super) fn size(&self) -> u64 {
        if self.marker { 0 } else { self.metadata.size }
    }
}

fn property<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    metadata.properties.as_ref()?.get(name).and_then(|v| std::str::from_utf8(v).ok())
}

/// Whether a directory was made only to hold an object.
pub(super) fn is_implied(metadata: &Metadata) -> bool {
    property(metadata, IMPLIED).is_some()
}

/// What makes a directory one of its own (`None`), or one that was made only to hold an object.
pub(super) fn implied(fs: &SessionFs, path: &VPath, yes: bool) -> Attributes {
    let mut attributes = Attributes::none();
    if fs.capabilities_at(path).properties {
        attributes.properties.insert(IMPLIED.to_owned(), yes.then(|| Bytes::from_static(b"1")));
    }
    attributes
}

/// Nanoseconds since 1970.
fn nanos(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// The ETag of a file's content, without quotes.
pub(super) fn etag(metadata: &Metadata) -> String {
    if let Some(kept) = property(metadata, ETAG) {
        let mut words = kept.split(' ');
        let (tag, size, at) = (words.next(), words.next(), words.next());
        let same = size.and_then(|s| s.parse().ok()) == Some(metadata.size)
            && at.and_then(|a| a.parse().ok()) == metadata.modified.map(nanos);
        if let (Some(tag), true) = (tag, same) {
            return tag.to_owned();
        }
    }
    let plain = |t: &&str| t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match metadata.etag.as_deref().filter(plain) {
        Some(tag) if tag.contains('-') => tag.to_owned(),
        Some(tag) => format!("{tag}-0"),
        None => format!("{:x}-{:x}", metadata.size, metadata.modified.map(nanos).unwrap_or_default()),
    }
}

/// What is kept with an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) content_type: Option<String>,
    /// By their names in lower case; those of clients begin with [`META`].
    pub(super) fields: BTreeMap<String, String>,
}

impl Kept {
    /// That of an object. Its type may be what its name says.
    pub(super) fn of(path: &VPath, metadata: &Metadata) -> Kept {
        let fits = |t: &&str| t.contains('/') && t.bytes().all(|b| (0x20..0x7f).contains(&b));
        let set = property(metadata, TYPE).filter(fits);
        let content_type = set.unwrap_or_else(|| type_of(path.name())).to_owned();
        let lines = property(metadata, FIELDS).unwrap_or_default().lines();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            let plain = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
            Some((plain(name)?, plain(value)?))
        };
        Kept { content_type: Some(content_type), fields: lines.filter_map(field).collect() }
    }

    pub(super) fn put(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.fields.insert(name.to_ascii_lowercase(), value);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.fields.get(name).cloned()
    }

    /// What clients keep, by their names for it.
    pub(super) fn meta(&self) -> impl Iterator<Item = (String, String)> {
        self.fields.iter().filter_map(|(k, v)| Some((k.strip_prefix(META)?.to_owned(), v.clone())))
    }

    /// Whether clients keep more than they may.
    pub(super) fn is_too_large(&self) -> bool {
        self.meta().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_META
    }
}

/// What a file gets when it is published.
pub(super) struct Stamp {
    /// When that is, as exactly as the store knows times.
    at: SystemTime,
    keeps: bool,
    times: bool,
}

impl Stamp {
    /// Of a file that is published at `path` now.
    pub(super) fn new(fs: &SessionFs, path: &VPath) -> Stamp {
        let capabilities = fs.capabilities_at(path);
        let now = fs.session().now();
        let since = nanos(now);
        let step = capabilities.mtime_granularity.as_nanos().max(1);
        let whole = u64::try_from(since - since % step).unwrap_or_default();
        let at = UNIX_EPOCH.checked_add(Duration::from_nanos(whole)).unwrap_or(now);
        Stamp { at, keeps: capabilities.properties, times: capabilities.set_times }
    }

    /// The attributes; `there` is what will be replaced, whose properties a store would keep.
    pub(super) fn attributes(
        &self,
        kept: &Kept,
        etag: &str,
        size: u64,
        there: Option<&Metadata>,
    ) -> Attributes {
        let mut attributes = Attributes::none();
        if self.times {
            attributes.modified = Some(self.at);
        }
        if !self.keeps {
            return attributes;
        }
        let had =
            |name: &str| there.is_some_and(|m| m.properties.as_ref().is_some_and(|p| p.contains_key(name)));
        let mut set = |name: &str, value: String| {
            // An empty value hides the one that would be kept.
            if !value.is_empty() || had(name) {
                attributes.properties.insert(name.to_owned(), Some(value.into()));
            }
        };
        let tag = format!("{etag} {size} {}", nanos(self.at));
        set(ETAG, if self.times { tag } else { String::new() });
        set(TYPE, kept.content_type.clone().unwrap_or_default());
        let line = |(k, v): (&String, &String)| {
            format!("{}: {}\n", utf8_percent_encode(k, ODD), utf8_percent_encode(v, ODD))
        };
        set(FIELDS, kept.fields.iter().map(line).collect());
        attributes
    }

    /// The ETag of what was published with these attributes and is `there` now.
    pub(super) fn etag(&self, etag: &str, size: u64, there: &Metadata) -> String {
        let kept = self.keeps && self.times && there.size == size && there.modified == Some(self.at);
        if kept { etag.to_owned() } else { self::etag(there) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::metadata::FileType;
    use std::sync::Arc;

    fn file(properties: &[(&str, &str)]) -> Metadata {
        let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), Bytes::copy_from_slice(v.as_bytes()));
        Metadata {
            etag: Some("5".into()),
            modified: Some(UNIX_EPOCH + Duration::new(7, 8)),
            properties: Some(Arc::new(properties.iter().map(pair).collect())),
            ..Metadata::new(FileType::File, 3)
        }
    }

    #[test]
    fn an_etag_is_of_the_very_content() {
        assert_eq!(etag(&file(&[(ETAG, "abc 3 7000000008")])), "abc");
        for void in ["abc 4 7000000008", "abc 3 7000000009", "abc", "", "abc 3"] {
            assert_eq!(etag(&file(&[(ETAG, void)])), "5-0", "{void}");
        }
        assert_eq!(etag(&Metadata { etag: Some("1-2-3".into()), ..file(&[]) }), "1-2-3");
        assert_eq!(etag(&Metadata { etag: Some("a\"b".into()), ..file(&[]) }), "3-1a13b8608");
        assert_eq!(etag(&Metadata { etag: None, ..file(&[]) }), "3-1a13b8608");
    }

    #[test]
    fn what_is_kept_comes_back() {
        let path = VPath::absolute("/b/a.txt").unwrap();
        let mut kept = Kept { content_type: Some("text/x-odd".into()), ..Kept::default() };
        kept.put("Cache-Control", Some("no-cache".into()));
        kept.put("x-amz-meta-colour", Some("grün: 100%\nb: c".into()));
        kept.put("expires", None);
        let stamp = Stamp { at: UNIX_EPOCH + Duration::new(7, 8), keeps: true, times: true };
        let set = stamp.attributes(&kept, "abc", 3, None);
        assert_eq!(set.modified, Some(stamp.at));
        let properties: Vec<_> =
            set.properties.iter().map(|(k, v)| (k.clone(), v.clone().unwrap())).collect();
        let there = Metadata { properties: Some(Arc::new(properties.into_iter().collect())), ..file(&[]) };
        assert_eq!(Kept::of(&path, &there), kept);
        assert_eq!(etag(&there), "abc");
        assert_eq!(kept.meta().collect::<Vec<_>>(), [("colour".to_owned(), "grün: 100%\nb: c".to_owned())]);
        // What replaces it has nothing of it.
        let set = stamp.attributes(&Kept::default(), "x", 1, Some(&there));
        assert_eq!(set.properties.get(FIELDS), Some(&Some(Bytes::new())));
        assert_eq!(set.properties.get(TYPE), Some(&Some(Bytes::new())));
        assert_eq!(Kept::of(&path, &file(&[(TYPE, ""), (FIELDS, "")])).content_type.unwrap(), "text/plain");
        let none = Stamp { keeps: false, ..stamp };
        assert!(none.attributes(&kept, "abc", 3, Some(&there)).properties.is_empty());
    }

    #[test]
    fn a_slash_at_the_end_may_mean_a_directory() {
        let spot = |key: &str| Spot::of("bucket", key).unwrap();
        assert_eq!(spot("a/").dir, Some(VPath::absolute("/bucket/a").unwrap()));
        assert_eq!(spot("a/").path, VPath::absolute("/bucket/a/∅").unwrap());
        assert_eq!(spot("a").dir, None);
        assert_eq!(spot("a/../b").path, VPath::absolute("/bucket/a/∅../b").unwrap());
    }
}
