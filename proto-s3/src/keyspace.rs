//! Keys of objects and virtual paths, reversibly. The only place where a slash in a key means a directory.
//!
//! `/bucket/a/b` is the object `a/b` in `bucket`, and the directory of all keys that begin with `a/b/`. A key
//! may hold what is no name: an empty segment (`a//b`, `/a`, `a/`), `.` and `..`. One escape makes names of
//! them: of a segment that is nothing, `.` or `..`, perhaps behind some [`ESCAPE`]s, the name has one
//! [`ESCAPE`] more. All other segments are names as they are, so that every key has one path and every path
//! one key: `a//b` is `/bucket/a/∅/b`, and an object `a/` with content is the file `/bucket/a/∅`.
//!
//! What cannot be the other is `InvalidPath`, never another key: names that are not UTF-8, keys with a NUL or of
//! more than 1,024 bytes. A segment that is longer than a store's names is that store's `InvalidPath`.

use session_core::error::{Error, ErrorKind, Result};
use session_core::path::{VPath, display_bytes};

/// What stands before a segment that would be no name.
pub const ESCAPE: char = '\u{2205}';
/// The longest key, in bytes of UTF-8.
pub const MAX_KEY: usize = 1024;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The list of buckets.
    Root,
    /// A bucket.
    Bucket(String),
    /// An object, a directory of objects, or both.
    Object {
        /// The bucket.
        bucket: String,
        /// The key. Empty for the name [`ESCAPE`] directly in a bucket, which can only be a directory.
        key: String,
    },
}

impl Place {
    /// What `path` names. Errors: `InvalidPath`.
    pub fn of(path: &VPath) -> Result<Place> {
        let mut segments = path.segments();
        let Some(bucket) = segments.next() else { return Ok(Place::Root) };
        let bucket = bucket_of(bucket)?;
        let mut key: Option<String> = None;
        for name in segments {
            let segment = segment_of(name)?;
            match &mut key {
                None => key = Some(segment),
                Some(key) => {
                    key.push('/');
                    key.push_str(&segment);
                }
            }
        }
        match key {
            None => Ok(Place::Bucket(bucket)),
            Some(key) if key.len() > MAX_KEY => Err(Error::new(ErrorKind::InvalidPath)
                .with_detail(format!("a key has {MAX_KEY} bytes at most, this one {}", key.len()))),
            Some(key) => Ok(Place::Object { bucket, key }),
        }
    }

    /// What every key in this directory begins with; empty for a bucket and for the root.
    pub fn prefix(&self) -> String {
        match self {
            Place::Root | Place::Bucket(_) => String::new(),
            Place::Object { key, .. } => format!("{key}/"),
        }
    }

    /// The path of it. Errors: `InvalidPath` for a key with a NUL, a path that is too long.
    pub fn path(&self) -> Result<VPath> {
        match self {
            Place::Root => Ok(VPath::root()),
            Place::Bucket(bucket) => VPath::root().join(bucket),
            Place::Object { bucket, key } => path_of(bucket, key),
        }
    }
}

/// The path of the object `key` in `bucket`. Errors: `InvalidPath` for a key with a NUL, a path that is too
/// long, a bucket that is no name.
pub fn path_of(bucket: &str, key: &str) -> Result<VPath> {
    let mut path = VPath::root().join(bucket)?;
    for segment in key.split('/') {
        path = path.join(name_of(segment))?;
    }
    Ok(path)
}

/// The name that stands for a segment of a key.
pub fn name_of(segment: &str) -> String {
    if is_special(segment) { format!("{ESCAPE}{segment}") } else { segment.to_owned() }
}

/// The segment of a key that a name stands for. Errors: `InvalidPath` for a name that is not UTF-8.
pub fn segment_of(name: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(name).map_err(|_| {
        Error::new(ErrorKind::InvalidPath)
            .with_detail(format!("keys are UTF-8, '{}' is not", display_bytes(name)))
    })?;
    match text.strip_prefix(ESCAPE) {
        Some(rest) if is_special(rest) => Ok(rest.to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Whether a segment, or what a name has behind its first [`ESCAPE`], is one that needs the escape.
fn is_special(segment: &str) -> bool {
    matches!(segment.trim_start_matches(ESCAPE), "" | "." | "..")
}

/// Whether this can be a bucket's name: what AWS allows today, and the longer names, capitals and underscores of
/// older buckets and other stores.
pub fn is_bucket_name(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && !name.contains("..")
}

fn bucket_of(name: &[u8]) -> Result<String> {
    match std::str::from_utf8(name) {
        Ok(text) if is_bucket_name(text) => Ok(text.to_owned()),
        _ => Err(Error::new(ErrorKind::InvalidPath)
            .with_detail(format!("'{}' cannot be the name of a bucket", display_bytes(name)))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(bucket: &str, key: &str) -> Place {
        Place::Object { bucket: bucket.into(), key: key.into() }
    }

    #[test]
    fn keys_that_are_no_paths_have_one_all_the_same() {
        for (key, path) in [
            ("a/b", "/bucket/a/b"),
            ("a//b", "/bucket/a/∅/b"),
            ("/a", "/bucket/∅/a"),
            ("a/", "/bucket/a/∅"),
            ("a/../b/.", "/bucket/a/∅../b/∅."),
            ("a/∅/∅∅../∅x", "/bucket/a/∅∅/∅∅∅../∅x"),
            ("a.b/...", "/bucket/a.b/..."),
            ("", "/bucket/∅"),
        ] {
            let path = VPath::absolute(path).unwrap();
            assert_eq!(path_of("bucket", key).unwrap(), path, "{key}");
            assert_eq!(Place::of(&path).unwrap(), object("bucket", key), "{path}");
            assert_eq!(object("bucket", key).path().unwrap(), path);
        }
    }

    #[test]
    fn a_directory_is_a_prefix() {
        let prefix = |path: &str| Place::of(&VPath::absolute(path).unwrap()).unwrap().prefix();
        assert_eq!(prefix("/"), "");
        assert_eq!(prefix("/bucket"), "");
        assert_eq!(prefix("/bucket/a/b"), "a/b/");
        assert_eq!(prefix("/bucket/∅"), "/");
        assert_eq!(prefix("/bucket/a/∅"), "a//");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        let kind = |path: &[u8]| Place::of(&VPath::absolute(path).unwrap()).map_err(|e| e.kind());
        assert_eq!(kind(b"/bucket/\xff"), Err(ErrorKind::InvalidPath));
        assert_eq!(kind(b"/no bucket/a"), Err(ErrorKind::InvalidPath));
        assert_eq!(kind(b"/ab"), Err(ErrorKind::InvalidPath));
        let long = |n: usize| kind(format!("/bucket/{}", "x".repeat(n)).as_bytes());
        assert!(long(MAX_KEY).is_ok());
        assert_eq!(long(MAX_KEY + 1), Err(ErrorKind::InvalidPath));
        assert_eq!(path_of("bucket", "a\0").unwrap_err().kind(), ErrorKind::InvalidPath);
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof!["[∅.]{0,4}", "[a-z∅. ]{0,6}", "\\PC{0,8}"].prop_map(|s: String| s.replace('/', ""))
    }

    proptest! {
        #[test]
        fn every_key_comes_back(segments in proptest::collection::vec(segment(), 1..8)) {
            let key = segments.join("/");
            let path = path_of("bucket", &key).unwrap();
            prop_assert_eq!(path.depth(), segments.len() + 1);
            prop_assert_eq!(Place::of(&path).unwrap(), object("bucket", &key));
        }

        #[test]
        fn every_path_comes_back(names in proptest::collection::vec(segment(), 1..8)) {
            let mut path = VPath::absolute("/bucket").unwrap();
            for name in &names {
                if let Ok(deeper) = path.join(name) {
                    path = deeper;
                }
            }
            let place = Place::of(&path).unwrap();
            prop_assert_eq!(place.path().unwrap(), path);
        }
    }
}
