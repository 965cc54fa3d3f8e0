//! A directory in pages: `getdents` and one `statx` per entry, relative to the directory's handle.
//!
//! Memory is one page, whatever the size of the directory. An entry that vanishes between the two calls
//! was not there during the whole listing and is left out; so are the store's own names. Any other error
//! ends the listing. A directory that may be read but not searched gives names and types only. The order
//! is the disk's.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FileType as Kind, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::attrs::Attached;
use super::resolve::{Want, is_reserved};
use super::{Store, attrs};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{ListOptions, Pages};
use crate::metadata::{DirEntry, FileType, Metadata};
use crate::path::VPath;

/// A page is ended by the first full buffer after this many entries.
const PAGE: usize = 512;
/// Room for at most 512 directory records, so that a page holds less than 1,024 entries.
const BUFFER: usize = 12 << 10;

/// An open listing.
pub(super) struct LocalPages {
    store: Arc<Store>,
    /// Properties are given, too.
    properties: bool,
    /// `None` at the end, after an error, and after a page that was given up.
    state: Option<State>,
    ended: bool,
    first: bool,
}

struct State {
    fd: OwnedFd,
    buffer: Box<[MaybeUninit<u8>]>,
}

/// Opens `dir` for a listing.
pub(super) fn open(store: &Arc<Store>, dir: &VPath, options: &ListOptions) -> Result<LocalPages> {
    let fd = store.root.open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), Want::Existing)?;
    let state = Some(State { fd, buffer: vec![MaybeUninit::uninit(); BUFFER].into_boxed_slice() });
    let properties = options.properties && store.capabilities.properties;
    Ok(LocalPages { store: Arc::clone(store), properties, state, ended: false, first: true })
}

/// A page, and whether there may be more.
fn page(state: &mut State, properties: bool) -> Result<(Vec<DirEntry>, bool)> {
    let mut entries = Vec::new();
    let mut records = RawDir::new(state.fd.as_fd(), &mut state.buffer);
    loop {
        if records.is_buffer_empty() && entries.len() >= PAGE {
            return Ok((entries, true));
        }
        let record = match records.next() {
            None => return Ok((entries, false)),
            Some(Err(Errno::INTR)) => continue,
            Some(record) => record?,
        };
        let name = record.file_name();
        let bytes = name.to_bytes();
        if bytes == b"." || bytes == b".." || is_reserved(bytes) {
            continue;
        }
        let metadata = match attrs::look(&state.fd, name) {
            Ok(stat) => {
                let mut metadata = attrs::metadata(&stat);
                if properties && !metadata.is_symlink() {
                    metadata.properties = attrs::properties(&Attached::name(&state.fd, bytes));
                }
                metadata
            }
            Err(Errno::NOENT) => continue,
            Err(Errno::ACCESS) => Metadata::new(coarse(record.file_type()), 0),
            Err(e) => return Err(e.into()),
        };
        entries.push(DirEntry { name: Bytes::copy_from_slice(bytes), metadata });
    }
}

fn coarse(kind: Kind) -> FileType {
    match kind {
        Kind::RegularFile => FileType::File,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        _ => FileType::Other,
    }
}

#[async_trait]
impl Pages for LocalPages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        if self.ended {
            return Ok(None);
        }
        let Some(mut state) = self.state.take() else {
            return Err(Error::new(ErrorKind::Canceled).with_detail("the listing was given up"));
        };
        let properties = self.properties;
        let next = move |_: &crate::lease::Lease| {
            let (entries, more) = page(&mut state, properties)?;
            Ok((entries, more.then_some(state)))
        };
        // Most directories end with their first page; the pages of a long one take their time.
        let first = std::mem::replace(&mut self.first, false);
        let pool = &self.store.pool;
        let (entries, state) = if first { pool.quick(next).await? } else { pool.slow(next).await? };
        self.ended = state.is_none();
        self.state = state;
        Ok((!entries.is_empty()).then_some(entries))
    }
}

/// The names in a directory that is known by its handle, without `.` and `..`.
pub(super) fn names(dir: impl AsFd) -> Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut records = RawDir::new(fd.as_fd(), &mut buffer);
    let mut out = Vec::new();
    while let Some(record) = records.next() {
        let record = record?;
        let name = record.file_name().to_bytes();
        if name != b"." && name != b".." {
            out.push(name.to_vec());
        }
    }
    Ok(out)
}
