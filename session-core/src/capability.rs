//! `Capabilities`: what a filesystem can do, as plain facts.
//!
//! The law of honesty, checked by the conformance suite: a method answers `Unsupported` if and only if
//! its capability is off, and then nothing has changed. A field is named after the operation it allows,
//! or after the promise it makes.

use std::time::Duration;

/// What a filesystem can do. Build one with `..Capabilities::none()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Files can be opened for writing.
    pub write: bool,
    /// Directories can be made and removed.
    pub create_dir: bool,
    /// Files can be removed.
    pub remove: bool,
    /// Entries can be renamed.
    pub rename: bool,
    /// `rename` can replace an existing file in one step.
    pub rename_replaces: bool,
    /// Writes may go to any offset, in any order, also into an existing file.
    pub random_write: bool,
    /// An existing file can be continued: opened for writing without truncation, and written in order
    /// from its end on. True wherever `random_write` is; where only this is true, a write that leaves a
    /// gap or goes back answers `Unsupported`.
    pub continue_write: bool,
    /// Files can be opened for appending.
    pub append: bool,
    /// Files can be opened as text.
    pub text: bool,
    /// Size can be set on an existing file.
    pub truncate: bool,
    /// Modification times can be set.
    pub set_times: bool,
    /// Permission bits can be set.
    pub set_mode: bool,
    /// Numeric owners can be set (the store may still say `PermissionDenied`).
    pub set_owner: bool,
    /// Symbolic links can be made and read.
    pub symlinks: bool,
    /// Hard links can be made.
    pub hard_links: bool,
    /// A directory exists on its own, without a file in it.
    pub empty_dirs: bool,
    /// Names that differ only by case are different names.
    pub case_sensitive: bool,
    /// New content appears in one step at commit: `stage` and `publish` work.
    pub atomic_commit: bool,
    /// What is written under a name shows at its commit, whole, or not at all: there is no need to write under
    /// another name first. Says nothing of `stage` and `publish`.
    pub whole_files: bool,
    /// `OpenOptions::if_match` is honoured.
    pub conditional_write: bool,
    /// `copy` works inside the store.
    pub server_copy: bool,
    /// `list` honours `ListOptions::order` by itself.
    pub ordered_list: bool,
    /// Named properties are kept.
    pub properties: bool,
    /// `space` works.
    pub space: bool,
    /// `checksum` works without reading the content over the wire.
    pub checksums: bool,
    /// `canonicalize` asks the other side.
    pub canonicalize: bool,
    /// `lock` works.
    pub locks: bool,
    /// Multipart uploads work.
    pub multipart: bool,
    /// "Missing" and "not allowed" are told apart.
    pub precise_errors: bool,
    /// The store follows links on its own side (a remote): it never answers with a link.
    pub follows_links: bool,
    /// The finest step of modification times.
    pub mtime_granularity: Duration,
    /// The longest name, in bytes.
    pub max_name: usize,
    /// The largest file, in bytes.
    pub max_size: u64,
}

impl Capabilities {
    /// Can list, stat and read; nothing else.
    pub const fn none() -> Self {
        Capabilities {
            write: false,
            create_dir: false,
            remove: false,
            rename: false,
            rename_replaces: false,
            random_write: false,
            continue_write: false,
            append: false,
            text: false,
            truncate: false,
            set_times: false,
            set_mode: false,
            set_owner: false,
            symlinks: false,
            hard_links: false,
            empty_dirs: false,
            case_sensitive: true,
            atomic_commit: false,
            whole_files: false,
            conditional_write: false,
            server_copy: false,
            ordered_list: false,
            properties: false,
            space: false,
            checksums: false,
            canonicalize: false,
            locks: false,
            multipart: false,
            precise_errors: false,
            follows_links: false,
            mtime_granularity: Duration::from_secs(1),
            max_name: 255,
            max_size: i64::MAX as u64,
        }
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::none()
    }
}
