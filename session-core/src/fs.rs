//! `Filesystem` and `File`: the waist of the model.
//!
//! What a client gets from a remote and what a server serves are the same two traits. Four methods must
//! be written (`capabilities`, `stat`, `list`, `open`); every other one answers `Unsupported` until a
//! store writes it, and the matching capability says so. A true wrapper implements [`crate::layer::Layer`]
//! instead, whose defaults forward.
//!
//! Rules for every method:
//! - Paths are virtual and parsed. Errors carry a kind and a cause; the gate adds operation and path.
//! - Stores that keep bytes do not follow symbolic links, neither in the middle of a path nor, with
//!   [`Follow::Yes`], at its end: they answer [`Error::link`] and the gate starts over.
//! - Dropping a returned future cancels the call as soon as it can be; work handed to the operating
//!   system may still finish. What was not committed never shows under its final name on a store with
//!   `atomic_commit`.
//!
//! Deliberately absent: a working directory, users, seek positions, a recursive remove (see
//! [`crate::fs_ext`]), URLs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Attributes, DirEntry, Metadata};
use crate::operation::OperationKind;
use crate::path::VPath;

/// Whether an operation acts on a symbolic link or on what it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Act on the link itself.
    No,
    /// Act on what it points to.
    Yes,
}

/// Whether a rename, copy or publish may replace an existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Fail with `AlreadyExists`.
    No,
    /// Replace a file in one step.
    Yes,
}

/// How a file is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenOptions {
    /// Reading is wanted.
    pub read: bool,
    /// Writing is wanted.
    pub write: bool,
    /// Make the file if it is missing.
    pub create: bool,
    /// Start with no content.
    pub truncate: bool,
    /// Fail with `AlreadyExists` if the file exists. Needs `create`.
    pub exclusive: bool,
    /// Every write goes to the end, whatever its offset.
    pub append: bool,
    /// The content is text: its lines end in LF here, and on the other side as it likes (FTP's TYPE A).
    /// Offsets and sizes count the bytes of this side, which nobody knows before the end is reached;
    /// `metadata` may tell the other side's. Needs [`Capabilities::text`], or the gate refuses.
    pub text: bool,
    /// The size to come, where the caller knows it; object stores and quotas want it.
    pub size_hint: Option<u64>,
    /// Attributes of a newly made file.
    pub attributes: Attributes,
    /// Only if the current content has this etag; else `PreconditionFailed`.
    pub if_match: Option<Arc<str>>,
    /// The upload is whole or nothing (S3): nobody sees or joins it before it is published, its owner
    /// included, and what ends without a commit is thrown away. Of a file written anew; where uploads are not
    /// staged it means nothing.
    pub apart: bool,
    /// One that is apart outlives this file, its session and the process, under this name of the caller's that no
    /// other has: what ends without a commit is kept. [`File::keep`] tells whether the store can do that.
    pub lasting: Option<Arc<str>>,
    /// Go on with the unfinished upload that these words name ([`File::keep`]), where the store still has it and
    /// it is one of this file; else, and where `size_hint` is another size, begin anew. The content is written from
    /// its beginning all the same: what the store holds of it is compared with it, and only the rest is sent. Of a
    /// file written anew. Of one that is apart, whose file is neither made nor emptied by this, all that was written
    /// is there and any of it may be written anew; `NotFound` where it is over.
    pub unfinished: Option<Arc<str>>,
}

impl OpenOptions {
    /// For reading.
    pub fn read() -> Self {
        OpenOptions { read: true, ..Self::default() }
    }

    /// For writing a file anew: made if missing, emptied if not.
    pub fn create() -> Self {
        OpenOptions { write: true, create: true, truncate: true, ..Self::default() }
    }

    /// For changing an existing file in place.
    pub fn update() -> Self {
        OpenOptions { read: true, write: true, ..Self::default() }
    }

    /// Refuses combinations that mean nothing: `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        let bad = if !self.read && !self.write {
            "a file is opened for reading, writing or both"
        } else if (self.create || self.truncate || self.append) && !self.write {
            "create, truncate and append need writing"
        } else if self.exclusive && !self.create {
            "exclusive needs create"
        } else if self.lasting.is_some() && !self.apart {
            "only what stands apart is lasting"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidArgument).with_detail(bad))
    }
}

/// In which order a listing comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As the store has it.
    #[default]
    Any,
    /// By the bytes of the name.
    Name,
    /// By the bytes of the name, a directory's ending in a slash (S3's key order).
    Key,
}

/// What a listing should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// The order; a store without `ordered_list` ignores it and the gate sorts.
    pub order: Order,
    /// Begin after this name (needs an order).
    pub after: Option<Bytes>,
    /// Properties are wanted with the entries, where the store keeps them; it may give them anyway.
    pub properties: bool,
}

/// A directory in pages. A listing is complete or it ends in an error: after `Ok(None)` every entry
/// that was there during the whole listing has been given exactly once, `.` and `..` never.
#[async_trait]
pub trait Pages: Send {
    /// The next page, never empty; `None` at the end. After an error there is nothing more to ask.
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>>;
}

/// An open listing. Dropping it closes it.
pub type Listing = Box<dyn Pages>;

/// A listing that is already in memory, given out in pages of at most 1,000 entries.
pub struct ListingOf(std::vec::IntoIter<DirEntry>);

impl ListingOf {
    /// Wraps `entries`.
    pub fn new(entries: Vec<DirEntry>) -> Self {
        ListingOf(entries.into_iter())
    }
}

#[async_trait]
impl Pages for ListingOf {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        let page: Vec<_> = self.0.by_ref().take(1000).collect();
        Ok((!page.is_empty()).then_some(page))
    }
}

/// How a written file is published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitOptions {
    /// The size the writer believes it sent; another size is `Corrupt` and nothing is published.
    pub expected_size: Option<u64>,
    /// Set on the content before it appears.
    pub attributes: Attributes,
}

/// An upload that a store keeps although nobody writes it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The store's own words for it, one line without secrets: they open it again.
    pub words: Arc<str>,
    /// Bytes written so far that were not sent, because the store had them from before.
    pub spared: u64,
}

/// What sealing came to.
pub enum Sealed {
    /// The content stands still and is held back until `commit`.
    Content(Arc<dyn File>),
    /// This handle's use is over and publishes nothing: others hold the upload open, or its path was
    /// removed.
    Done(Metadata),
    /// Nothing is held back here: what was written shows already.
    Open,
}

/// Free space, in bytes and entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Block size of the answer, bytes.
    pub block_size: u64,
    /// All bytes.
    pub total: u64,
    /// Free bytes.
    pub free: u64,
    /// Free bytes for this user.
    pub available: u64,
    /// All entries (inodes); 0 where the store does not count.
    pub entries: u64,
    /// Free entries.
    pub entries_free: u64,
    /// Longest name.
    pub max_name: u64,
    /// Writes are refused.
    pub read_only: bool,
}

/// A digest by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// BLAKE3, 32 bytes.
    Blake3,
    /// CRC-32 (ISO 3309), 4 bytes, big endian.
    Crc32,
    /// MD5: against accidents only.
    Md5,
    /// SHA-1: against accidents only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::Blake3,
        Algorithm::Crc32,
        Algorithm::Md5,
        Algorithm::Sha1,
        Algorithm::Sha256,
        Algorithm::Sha384,
        Algorithm::Sha512,
    ];

    /// The lower-case name that SFTP's `check-file` and the CLI use.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Blake3 => "blake3",
            Algorithm::Crc32 => "crc32",
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The algorithm called `name`, with or without a dash, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('-', "");
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// A descriptor lent for the operating system's own copying (`sendfile`, `splice`), with the account
/// that must be told of every byte.
pub struct Lent {
    /// The open file.
    pub fd: Arc<OwnedFd>,
    /// The range that may be sent, cut to the content.
    pub range: Range<u64>,
    /// Who counts.
    pub account: Arc<dyn LentAccount>,
}

/// Counts, throttles and cuts what moves past the gate through a lent descriptor.
#[async_trait]
pub trait LentAccount: Send + Sync {
    /// `n` bytes were moved. Fails once the session is cut; may wait, to throttle.
    async fn advance(&self, n: u64) -> Result<()>;
}

/// The store's own name of a file being staged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(pub Arc<str>);

/// A staged file that the store still keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct StageEntry {
    /// Its name.
    pub id: StageId,
    /// What was noted when it was made.
    pub note: Bytes,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
}

/// Which staged file is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// A new one, on the device that will hold `near`, with a note that survives a restart.
    New {
        /// The path to be published later.
        near: VPath,
        /// The stager's own words, given back by `staged`.
        note: Bytes,
    },
    /// One that was made before, with its content.
    Reopen(StageId),
}

/// The waist: a tree of named entries. Object-safe; shared as `Arc<dyn Filesystem>`.
#[async_trait]
pub trait Filesystem: Send + Sync {
    /// What this filesystem can do. Cheap; does not change while it is open.
    fn capabilities(&self) -> Capabilities;

    /// What it can do at `path`, where that is not the same everywhere ([`crate::layers::mounts`]). What is
    /// done to a path is decided by this; `capabilities` is what holds at the root.
    fn capabilities_at(&self, path: &VPath) -> Capabilities {
        let _ = path;
        self.capabilities()
    }

    /// What `path` is. Errors: `NotFound`, `NotADirectory`, `PermissionDenied`, a link.
    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata>;

    /// The entries of `dir` in pages. Errors: `NotFound`, `NotADirectory`, `PermissionDenied`, a link.
    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing>;

    /// Opens a file. Errors: `NotFound`, `AlreadyExists` (exclusive), `IsADirectory`,
    /// `InvalidArgument`, `PreconditionFailed`, `PermissionDenied`, `NoSpace`, a link.
    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>>;

    /// Makes one directory. Errors: `AlreadyExists`, `NotFound` (the parent), `PermissionDenied`.
    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        let _ = (path, attributes);
        Err(Error::unsupported(OperationKind::CreateDir))
    }

    /// Removes a file or a link (never what it points to). Errors: `NotFound`, `IsADirectory`.
    async fn remove_file(&self, path: &VPath) -> Result<()> {
        let _ = path;
        Err(Error::unsupported(OperationKind::RemoveFile))
    }

    /// Removes a directory, only if it is empty. Errors: `NotFound`, `NotADirectory`, `NotEmpty`.
    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        let _ = path;
        Err(Error::unsupported(OperationKind::RemoveDir))
    }

    /// Renames an entry. A directory replaces nothing but an empty directory. Errors: `NotFound`,
    /// `AlreadyExists`, `InvalidArgument` (into itself), `NotEmpty`, `CrossDevice`.
    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let _ = (from, to, replace);
        Err(Error::unsupported(OperationKind::Rename))
    }

    /// Sets attributes. Errors: `Unsupported` for an attribute whose capability is off, before any other
    /// one is set.
    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let _ = (path, attributes, follow);
        Err(Error::unsupported(OperationKind::SetAttributes))
    }

    /// Copies a file inside the store. The target appears in one step where `atomic_commit` is on.
    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let _ = (from, to, replace);
        Err(Error::unsupported(OperationKind::Copy))
    }

    /// Makes a symbolic link at `at` that holds `target` (bytes, not checked).
    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        let _ = (target, at);
        Err(Error::unsupported(OperationKind::Symlink))
    }

    /// Makes `to` another name of the file `from`.
    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let _ = (from, to);
        Err(Error::unsupported(OperationKind::HardLink))
    }

    /// What a symbolic link holds. Errors: `InvalidArgument` if it is none.
    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        let _ = path;
        Err(Error::unsupported(OperationKind::ReadLink))
    }

    /// The path without links, as the other side sees it.
    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        let _ = path;
        Err(Error::unsupported(OperationKind::Canonicalize))
    }

    /// How much room there is where `path` lies.
    async fn space(&self, path: &VPath) -> Result<Space> {
        let _ = path;
        Err(Error::unsupported(OperationKind::Space))
    }

    /// The digest of a range of a file, computed by the other side.
    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        let _ = (path, algorithm, range);
        Err(Error::unsupported(OperationKind::Checksum))
    }

    /// A staged file: opened for reading and writing, invisible until published. A primitive for
    /// `layers::staged`; never reached through the gate. A store may lose it in a crash as long as it is small
    /// and was never flushed.
    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        let _ = stage;
        Err(Error::unsupported(OperationKind::Open))
    }

    /// Publishes a staged file under `to` in one step, keeping mode and extended attributes of a file
    /// that it replaces where `keep` is set; the staged file is gone afterwards.
    async fn publish(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        let _ = (id, to, replace, keep);
        Err(Error::unsupported(OperationKind::Commit))
    }

    /// Throws a staged file away. Missing is fine.
    async fn unstage(&self, id: &StageId) -> Result<()> {
        let _ = id;
        Err(Error::unsupported(OperationKind::Abort))
    }

    /// The staged files that the store keeps, also from before a restart.
    async fn staged(&self) -> Result<Vec<StageEntry>> {
        Err(Error::unsupported(OperationKind::List))
    }
}

/// An open file. `&self` everywhere: several calls may be in flight. The store promises nothing of the
/// order of calls in flight; what a session orders is its protocol machine's business.
///
/// A file opened for writing ends in exactly one of `commit`, `park`, `abort`: the first one wins and
/// waits for calls in flight, later calls answer `Closed`. A commit that failed has ended the file, or
/// leaves it to be ended: who gives it up calls `abort`, and `Closed` is a good answer then. A drop
/// without an ending is `park`. A file opened for reading needs no ending.
#[async_trait]
pub trait File: Send + Sync {
    /// Appends at most `len` bytes from `offset` to `buf`, after what it already holds, and gives it
    /// back; nothing appended means end of file. May give fewer bytes before the end.
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut>;

    /// Writes all of `data` at `offset`, or fails. Writing nothing changes nothing. A remote may answer
    /// while `data` is on its way: later calls on this file come after it, and `sync` and `commit` fail if
    /// it did not arrive.
    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let _ = (offset, data);
        Err(Error::unsupported(OperationKind::Write))
    }

    /// What the file is now, with the size as received so far.
    async fn metadata(&self) -> Result<Metadata>;

    /// Sets attributes of the open file.
    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let _ = attributes;
        Err(Error::unsupported(OperationKind::SetAttributes))
    }

    /// Makes what was written so far survive a power loss.
    async fn sync(&self) -> Result<()> {
        Err(Error::unsupported(OperationKind::Sync))
    }

    /// Waits until the other side has taken every write that was answered before this call, or gives the
    /// first error; writes that come meanwhile are not waited for. Where a write is answered when it is
    /// there, and on a file that is written in order (without `random_write`), there is nothing to wait for.
    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Lets the store keep the unfinished upload behind this file: from now on a `park`, a drop and the end of
    /// the process leave it there, until its words open it again ([`OpenOptions::unfinished`]) or an `abort`
    /// throws it away. `None` where an upload ends with its file, and for one that is too small to be worth it:
    /// then nothing has changed. May be asked again at any time, also after the end, for what was spared.
    async fn keep(&self) -> Result<Option<Unfinished>> {
        Ok(None)
    }

    /// A descriptor for `sendfile`, or `None` where the bytes must pass through this process.
    async fn lend(&self, range: Range<u64>) -> Result<Option<Lent>> {
        let _ = range;
        Ok(None)
    }

    /// Ends the writing without publishing, so that the content can be judged: later writes through any
    /// handle fail. With attributes and expected size as for `commit`, which follows with no attributes,
    /// or `park`, or `abort`. Errors: those of `commit`.
    async fn seal(&self, options: &CommitOptions) -> Result<Sealed> {
        let _ = options;
        Ok(Sealed::Open)
    }

    /// The verdict on what was written: published, or an error and the old content stays.
    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        let _ = options;
        Err(Error::unsupported(OperationKind::Commit))
    }

    /// Keeps what arrived, for its owner to continue; nothing is published.
    async fn park(&self) -> Result<()> {
        Ok(())
    }

    /// Throws away what was written; the old content stays where the store can promise it.
    async fn abort(&self) -> Result<()> {
        Err(Error::unsupported(OperationKind::Abort))
    }
}

/// Properties by name, as `Metadata` carries them.
pub type Properties = Arc<BTreeMap<String, Bytes>>;
