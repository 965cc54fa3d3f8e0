//! What an entry is: `Metadata` as a store reports it, `Attributes` as a caller sets them, `DirEntry`.
//!
//! A field that a store does not know is `None`, never a made-up value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

/// What kind of entry this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A device, a socket, a pipe.
    Other,
    /// A symbolic link.
    Symlink,
}

impl FileType {
    /// The name in JSON and scripts.
    pub fn name(self) -> &'static str {
        match self {
            FileType::Directory => "directory",
            FileType::File => "file",
            FileType::Other => "other",
            FileType::Symlink => "symlink",
        }
    }
}

/// What a store reports of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The kind of entry.
    pub file_type: FileType,
    /// Size in bytes; 0 where it has no meaning.
    pub size: u64,
    /// Last change of the content, as precise as `Capabilities::mtime_granularity`.
    pub modified: Option<SystemTime>,
    /// Last access.
    pub accessed: Option<SystemTime>,
    /// Creation.
    pub created: Option<SystemTime>,
    /// Unix permission bits (`0o7777`), without the type.
    pub mode: Option<u32>,
    /// Numeric owner.
    pub uid: Option<u32>,
    /// Numeric group.
    pub gid: Option<u32>,
    /// The owner's name.
    pub owner: Option<Arc<str>>,
    /// The group's name.
    pub group: Option<Arc<str>>,
    /// Number of hard links.
    pub links: Option<u64>,
    /// A validator that changes whenever the content does (RFC 9110, section 8.8.3), without quotes.
    pub etag: Option<Arc<str>>,
    /// Named properties (WebDAV dead properties, S3 metadata), where they were asked for.
    pub properties: Option<Arc<BTreeMap<String, Bytes>>>,
}

impl Metadata {
    /// Metadata of the given kind and size, all else unknown.
    pub fn new(file_type: FileType, size: u64) -> Self {
        Metadata {
            file_type,
            size,
            modified: None,
            accessed: None,
            created: None,
            mode: None,
            uid: None,
            gid: None,
            owner: None,
            group: None,
            links: None,
            etag: None,
            properties: None,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type == FileType::File
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type == FileType::Symlink
    }
}

/// What a caller sets. `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Truncate or extend to this many bytes.
    pub size: Option<u64>,
    /// Unix permission bits; bits above `0o7777` are refused with `InvalidArgument`.
    pub mode: Option<u32>,
    /// Numeric owner.
    pub uid: Option<u32>,
    /// Numeric group.
    pub gid: Option<u32>,
    /// Last access.
    pub accessed: Option<SystemTime>,
    /// Last change.
    pub modified: Option<SystemTime>,
    /// Properties to set (`Some`) or to remove (`None`).
    pub properties: BTreeMap<String, Option<Bytes>>,
}

impl Attributes {
    /// Nothing to set.
    pub fn none() -> Self {
        Self::default()
    }

    /// Only permission bits.
    pub fn mode(mode: u32) -> Self {
        Attributes { mode: Some(mode), ..Self::default() }
    }

    /// Only a size.
    pub fn size(size: u64) -> Self {
        Attributes { size: Some(size), ..Self::default() }
    }

    /// Only times.
    pub fn times(accessed: Option<SystemTime>, modified: Option<SystemTime>) -> Self {
        Attributes { accessed, modified, ..Self::default() }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `self` sets, and for the rest what `earlier` set.
    pub fn over(mut self, earlier: Attributes) -> Attributes {
        self.size = self.size.or(earlier.size);
        self.mode = self.mode.or(earlier.mode);
        self.uid = self.uid.or(earlier.uid);
        self.gid = self.gid.or(earlier.gid);
        self.accessed = self.accessed.or(earlier.accessed);
        self.modified = self.modified.or(earlier.modified);
        for (k, v) in earlier.properties {
            self.properties.entry(k).or_insert(v);
        }
        self
    }
}

/// One entry of a directory. The name is one checked segment.
#[derive(Clone, Debug, PartialEq)]
pub struct DirEntry {
    /// The name, bytes.
    pub name: Bytes,
    /// What it is; of a link, the link itself.
    pub metadata: Metadata,
}
