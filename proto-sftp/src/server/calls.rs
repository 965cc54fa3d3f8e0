//! The machine's calls, carried out over the gate: what each becomes of the filesystem's operations.
//!
//! Each function makes one call and answers one outcome; what it opens it hands back. Nothing here
//! decides order, bounds or status codes.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{
    Algorithm, CommitOptions, File, Filesystem, ListOptions, Listing, OpenOptions, Space,
};
use session_core::gate::{SessionFile, SessionFs};
use session_core::metadata::{Attributes, DirEntry};
use session_core::path::VPath;

use super::digest;
use super::machine::{Done, entry_size, page_size};
use crate::wire::Statvfs;
use crate::wire::extension::{self, CheckFile, Checked};

/// An open file. A write that failed is remembered: what it left behind must not be published.
pub(super) struct OpenFile {
    file: Arc<SessionFile>,
    failed: Mutex<Option<Error>>,
}

/// A listing under way.
pub(super) struct Directory {
    pages: Listing,
    rest: VecDeque<DirEntry>,
    failed: Option<Error>,
}

/// What a handle stands for.
#[derive(Clone)]
pub(super) enum Object {
    File(Arc<OpenFile>),
    Directory(Arc<tokio::sync::Mutex<Directory>>),
}

/// Names of numeric owners, learned from listings of this session. Bounded; what is not in it is
/// answered as unknown.
#[derive(Default)]
pub(super) struct Owners {
    users: BTreeMap<u32, Arc<str>>,
    groups: BTreeMap<u32, Arc<str>>,
}

const MAX_OWNERS: usize = 1024;

impl Owners {
    fn learn(&mut self, entries: &[DirEntry]) {
        for m in entries.iter().map(|e| &e.metadata) {
            for (names, id, name) in [(&mut self.users, m.uid, &m.owner), (&mut self.groups, m.gid, &m.group)]
            {
                if let (Some(id), Some(name)) = (id, name)
                    && names.len() < MAX_OWNERS
                {
                    names.entry(id).or_insert_with(|| Arc::clone(name));
                }
            }
        }
    }

    fn answer(&self, uids: &[u32], gids: &[u32]) -> Bytes {
        let look = |names: &BTreeMap<u32, Arc<str>>, ids: &[u32]| -> Vec<Arc<str>> {
            ids.iter().map(|id| names.get(id).cloned().unwrap_or_default()).collect()
        };
        extension::encode_names(
            &look(&self.users, uids).iter().map(|s| s.as_bytes()).collect::<Vec<_>>(),
            &look(&self.groups, gids).iter().map(|s| s.as_bytes()).collect::<Vec<_>>(),
        )
    }
}

/// What the calls of one session share.
pub(super) struct Shared {
    pub(super) fs: SessionFs,
    owners: Mutex<Owners>,
}

impl Shared {
    pub(super) fn new(fs: SessionFs) -> Arc<Self> {
        Arc::new(Shared { fs, owners: Mutex::default() })
    }

    pub(super) async fn open(&self, path: &VPath, mut options: OpenOptions) -> Result<Object> {
        if !self.fs.capabilities_at(path).set_mode {
            options.attributes.mode = None;
        }
        let file = self.fs.open_file(path, &options).await?;
        Ok(Object::File(Arc::new(OpenFile { file, failed: Mutex::new(None) })))
    }

    pub(super) async fn list(&self, path: &VPath) -> Result<Object> {
        let pages = self.fs.list(path, &ListOptions::default()).await?;
        let directory = Directory { pages, rest: VecDeque::new(), failed: None };
        Ok(Object::Directory(Arc::new(tokio::sync::Mutex::new(directory))))
    }

    pub(super) async fn page(&self, directory: &tokio::sync::Mutex<Directory>) -> Result<Done> {
        let entries = directory.lock().await.take().await?;
        if entries.is_empty() {
            return Ok(Done::Eof);
        }
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).learn(&entries);
        Ok(Done::Entries(entries, self.fs.session().now()))
    }

    pub(super) fn names(&self, uids: &[u32], gids: &[u32]) -> Done {
        Done::Body(self.owners.lock().unwrap_or_else(PoisonError::into_inner).answer(uids, gids))
    }

    pub(super) async fn create_dir(&self, path: &VPath, mut attributes: Attributes) -> Result<Done> {
        if !self.fs.capabilities_at(path).set_mode {
            attributes.mode = None;
        }
        self.fs.create_dir(path, &attributes).await.map(|()| Done::Ok)
    }

    /// Only the own home is told: whether another user exists is nobody's business.
    pub(super) fn home(&self, user: &[u8]) -> Result<Done> {
        if user.is_empty() || user == self.fs.session().user_id().as_bytes() {
            return Ok(Done::Path(Bytes::from_static(b"/")));
        }
        Err(Error::new(ErrorKind::NotFound).with_detail("only the own home is known"))
    }

    pub(super) async fn space(&self, path: &VPath) -> Result<Done> {
        Ok(Done::Body(extension::encode_statvfs(&statvfs(&self.fs.space(path).await?))))
    }

    /// The digest of a file by name: by the store where it can, else by reading.
    pub(super) async fn check_name(&self, path: &VPath, check: &CheckFile) -> Result<Done> {
        let algorithm = digest::choose(check)?;
        if check.block_size == 0 && self.fs.capabilities_at(path).checksums {
            let size = self.fs.stat(path, session_core::fs::Follow::Yes).await?.size;
            let range = digest::range(check, algorithm, size)?;
            match self.fs.checksum(path, algorithm, range).await {
                Ok(digests) => return Ok(checked(algorithm, digests, false)),
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                Err(e) => return Err(e),
            }
        }
        let file = self.fs.open_file(path, &OpenOptions::read()).await?;
        Ok(checked(algorithm, digest::of_file(&*file, check, algorithm).await?, false))
    }
}

fn checked(algorithm: Algorithm, digests: Bytes, old: bool) -> Done {
    let algorithm = Bytes::from_static(algorithm.name().as_bytes());
    Done::Body(Checked { algorithm, digests }.encode(old))
}

fn statvfs(s: &Space) -> Statvfs {
    let block = s.block_size.max(1);
    Statvfs {
        block_size: block,
        fragment_size: block,
        blocks: s.total / block,
        blocks_free: s.free / block,
        blocks_avail: s.available / block,
        inodes: s.entries,
        inodes_free: s.entries_free,
        inodes_avail: s.entries_free,
        fs_id: 0,
        flags: if s.read_only { extension::STATVFS_READ_ONLY } else { 0 },
        name_max: s.max_name,
    }
}

impl Directory {
    /// Entries for one packet; none at the end. An error is told after what came before it.
    async fn take(&mut self) -> Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        let mut size = 0;
        loop {
            while let Some(entry) = self.rest.pop_front() {
                let more = entry_size(&entry);
                if !entries.is_empty() && size + more > page_size() {
                    self.rest.push_front(entry);
                    return Ok(entries);
                }
                size += more;
                entries.push(entry);
            }
            if let Some(e) = &self.failed {
                return if entries.is_empty() { Err(e.clone()) } else { Ok(entries) };
            }
            match self.pages.next_page().await {
                Ok(Some(page)) => self.rest = page.into(),
                Ok(None) => {
                    // Asked again, an ended listing stays ended.
                    self.pages = Box::new(session_core::fs::ListingOf::new(Vec::new()));
                    return Ok(entries);
                }
                Err(e) => self.failed = Some(e),
            }
        }
    }
}

impl OpenFile {
    pub(super) fn file(&self) -> &SessionFile {
        &self.file
    }

    pub(super) async fn read(&self, offset: u64, len: usize, buf: BytesMut) -> Result<Done> {
        self.file.read_into(offset, len, buf).await.map(Done::Content)
    }

    pub(super) async fn write(&self, offset: u64, data: Bytes) -> Result<Done> {
        match self.file.write_at(offset, data).await {
            Ok(()) => Ok(Done::Ok),
            Err(e) => {
                self.note_failure(&e);
                Err(e)
            }
        }
    }

    fn note_failure(&self, e: &Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| e.clone());
    }

    /// CLOSE of a written file: the verdict. After a failed write nothing is published; what arrived is
    /// kept for its owner, and the CLOSE fails as the write did.
    pub(super) async fn commit(&self) -> Result<Done> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(e) = failed {
            self.file.park().await?;
            return Err(e);
        }
        self.file.commit(&CommitOptions::default()).await.map(|_| Done::Ok)
    }

    pub(super) async fn check(&self, check: &CheckFile, old: bool) -> Result<Done> {
        let algorithm = digest::choose(check)?;
        Ok(checked(algorithm, digest::of_file(&*self.file, check, algorithm).await?, old))
    }

    /// Copies a range, `len` 0 meaning up to the end as it is now.
    pub(super) async fn copy_to(&self, offset: u64, len: u64, to: &OpenFile, to_offset: u64) -> Result<Done> {
        const CHUNK: u64 = 256 * 1024;
        let size = self.file.metadata().await?.size;
        let end = if len == 0 { size } else { offset.saturating_add(len).min(size) };
        let mut at = offset;
        while at < end {
            let want = usize::try_from((end - at).min(CHUNK)).unwrap_or(0);
            let chunk = self.file.read_into(at, want, BytesMut::with_capacity(want)).await?;
            if chunk.is_empty() {
                break;
            }
            let n = chunk.len() as u64;
            to.write(to_offset.saturating_add(at - offset), chunk.freeze()).await?;
            at += n;
        }
        Ok(Done::Ok)
    }
}
