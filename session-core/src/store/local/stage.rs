//! The staging area: files that exist but have no name for anybody, until they are published.
//!
//! A staged file has no name at all at first where the disk can do that (see [`super::unnamed`]). Then it
//! lies in the folder `.ferry-stage` (mode 0700) at the root of the store. It lies beside
//! its target, as `.ferry-stage.<id>`, where that folder cannot be made, where the target is on another
//! mount, and where the target's directory hands an access list down. Either way the name is invisible
//! and unreachable by path. Its note lies next to it as `<name>.note`.
//!
//! A staged file beside its target is found again after a restart by a small file `<id>.at` in the
//! folder. Where there is no folder either, it is found by its id, but `staged` names only those of this
//! process. An id stops working when the directory beside it is renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use rustix::fs::{AtFlags, FileType as Kind, Gid, Mode, OFlags, Statx, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use super::file::{LocalFile, Origin};
use super::resolve::{Dir, STAGE, Want};
use super::unnamed::{self, Made, Nameless, Unnamed};
use super::{FsyncPolicy, Store, attrs, entries, list, sync_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Replace, Stage, StageEntry, StageId};
use crate::lease::Lease;
use crate::metadata::Metadata;
use crate::path::VPath;

/// The longest note, in bytes.
const MAX_NOTE: u64 = 1 << 20;
/// The longest one that is tried as a link.
const MAX_LINKED: usize = 1000;

/// The staging area of a store.
#[derive(Default)]
pub(super) struct Area {
    /// The folder, once it was made.
    folder: Mutex<Option<Arc<OwnedFd>>>,
    /// Staged files that no folder knows of.
    strays: Mutex<BTreeSet<Arc<str>>>,
    /// Those that have no name yet; they belong to the folder.
    nameless: Nameless,
}

/// Where a staged file lies.
enum Spot<'r> {
    Folder(Arc<OwnedFd>, String),
    Beside(Dir<'r>, String),
}

impl Spot<'_> {
    fn dir(&self) -> BorrowedFd<'_> {
        match self {
            Spot::Folder(fd, _) => fd.as_fd(),
            Spot::Beside(dir, _) => dir.as_fd(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Spot::Folder(_, name) | Spot::Beside(_, name) => name,
        }
    }

    fn note(&self) -> String {
        format!("{}.note", self.name())
    }
}

fn not_staged() -> Error {
    Error::new(ErrorKind::NotFound).with_detail("there is no such staged file")
}

fn is_key(key: &str) -> bool {
    key.len() == 32 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The two parts of an id: the key, and the directory where it is not the folder.
fn parse(id: &StageId) -> Result<(&str, Option<VPath>)> {
    let (key, dir) = match id.0.split_once('.') {
        None => (&*id.0, None),
        Some((key, dir)) => {
            let bytes = BASE64.decode(dir).map_err(|_| not_staged())?;
            (key, Some(VPath::absolute(bytes).map_err(|_| not_staged())?))
        }
    };
    if is_key(key) { Ok((key, dir)) } else { Err(not_staged()) }
}

/// Removes what is there, if it is there.
fn remove(dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Keeps a few bytes under a name. A symbolic link that leads nowhere holds them where it can: one call and
/// no block of the disk, where a file takes three and one.
fn put(dir: BorrowedFd<'_>, name: &str, content: &[u8]) -> Result<()> {
    if content.len() <= MAX_LINKED && !content.contains(&0) {
        match retry_on_intr(|| rustix::fs::symlinkat(content, dir, name)) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(Errno::EXIST.into()),
            // A disk without links, or with short ones.
            Err(_) => {}
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))?;
    let mut left = content;
    while !left.is_empty() {
        let n = retry_on_intr(|| rustix::io::write(&fd, left))?;
        left = left.get(n..).unwrap_or_default();
    }
    Ok(())
}

fn fetch(dir: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::empty())) {
        Err(Errno::LOOP) => return Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()),
        fd => fd?,
    };
    let mut out = Vec::new();
    std::fs::File::from(fd).take(MAX_NOTE).read_to_end(&mut out)?;
    Ok(out)
}

/// Removes a staged file again unless it was kept.
pub(super) struct Undo<'a>(pub(super) Option<(&'a Store, StageId)>);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some((store, id)) = self.0.take() {
            let _ = store.area.unstage(store, &id);
        }
    }
}

impl Area {
    /// The folder; `None` where it cannot be made or is not ours alone.
    fn folder(&self, store: &Store, make: bool) -> Option<Arc<OwnedFd>> {
        let mut slot = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = &*slot {
            return Some(Arc::clone(fd));
        }
        let root = store.root.fd();
        if make {
            let _ = rustix::fs::mkdirat(root, STAGE, Mode::RWXU);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(root, STAGE, flags, Mode::empty()).ok()?;
        let stat = attrs::look_at(&fd).ok()?;
        // Somebody else's folder could be emptied under us.
        if stat.stx_uid != rustix::process::geteuid().as_raw() {
            return None;
        }
        if attrs::mode(&stat) & 0o777 != 0o700 {
            rustix::fs::chmod(attrs::magic(&fd), Mode::RWXU).ok()?;
        }
        let fd = Arc::new(fd);
        *slot = Some(Arc::clone(&fd));
        Some(fd)
    }

    /// The folder was removed while we held it.
    fn forget_folder(&self) {
        *self.folder.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn spot<'s>(&self, store: &'s Store, id: &StageId) -> Result<Spot<'s>> {
        match parse(id)? {
            (key, None) => {
                let folder = self.folder(store, false).ok_or_else(not_staged)?;
                Ok(Spot::Folder(folder, key.to_owned()))
            }
            (key, Some(dir)) => {
                Ok(Spot::Beside(store.root.dir(&dir, Want::Existing)?, format!("{STAGE}.{key}")))
            }
        }
    }

    /// Makes a staged file for `near`, or opens one that was made before.
    pub(super) fn stage(&self, store: &Arc<Store>, stage: &Stage) -> Result<(StageId, LocalFile)> {
        let (id, fd) = match stage {
            Stage::New { near, note } => self.make(store, near, note)?,
            Stage::Reopen(id) => (id.clone(), self.reopen(store, id)?),
        };
        let stat = attrs::look_at(&fd)?;
        if attrs::kind(&stat) != Kind::RegularFile {
            return Err(not_staged());
        }
        let origin = Origin::Staged(id.clone());
        Ok((id, LocalFile::new(store, fd, origin, (true, true), attrs::device(&stat))))
    }

    /// Makes a new staged file and opens it for reading and writing.
    pub(super) fn make(&self, store: &Store, near: &VPath, note: &[u8]) -> Result<(StageId, Arc<OwnedFd>)> {
        if note.len() as u64 > MAX_NOTE {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("the note is too long"));
        }
        let place = store.root.place(near, Want::New, ErrorKind::IsADirectory)?;
        let parent = mount_and_stat(place.dir.as_fd())?;
        let beside = parent.stx_mnt_id != store.root_mount.stx_mnt_id
            || attrs::device(&parent) != attrs::device(&store.root_mount);
        let key = uuid::Uuid::now_v7().simple().to_string();
        if !beside {
            for _ in 0..2 {
                let Some(folder) = self.folder(store, true) else { break };
                let made = match self.nameless.make(place.dir.as_fd(), folder.as_fd(), &key) {
                    Ok(Some(made)) => Ok(made),
                    // What a directory hands down in its ACL, a file gets only where it is made.
                    Ok(None) if attrs::has_default_acl(place.dir.as_fd()) => break,
                    Ok(None) => create(folder.as_fd(), &key).map(Made::Named),
                    Err(e) => Err(e),
                };
                match made {
                    Ok(made) => {
                        // A directory that hands its group down does so for what was made elsewhere, too.
                        if let Made::Named(fd) = &made
                            && attrs::mode(&parent) & 0o2000 != 0
                        {
                            let _ = rustix::fs::fchown(fd, None, Some(Gid::from_raw(parent.stx_gid)));
                        }
                        let id = StageId(key.as_str().into());
                        let fd = match made {
                            Made::Named(fd) => {
                                annotate(&Spot::Folder(folder, key), note)?;
                                Arc::new(fd)
                            }
                            Made::Unnamed(fd) => {
                                let fd = Arc::new(fd);
                                self.nameless.put(&id, Unnamed { fd: Arc::clone(&fd), note: note.into() });
                                fd
                            }
                        };
                        return Ok((id, fd));
                    }
                    Err(Errno::NOENT) => self.forget_folder(),
                    Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => break,
                    Err(e) => return Err(e.into()),
                }
            }
        }
        let dir = near.parent().unwrap_or_else(VPath::root);
        let id = StageId(format!("{key}.{}", BASE64.encode(dir.as_bytes())).into());
        let spot = Spot::Beside(place.dir, format!("{STAGE}.{key}"));
        let fd = create(spot.dir(), spot.name())?;
        annotate(&spot, note)?;
        let known = self
            .folder(store, true)
            .is_some_and(|folder| put(folder.as_fd(), &format!("{key}.at"), id.0.as_bytes()).is_ok());
        if !known {
            self.strays.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&id.0));
        }
        Ok((id, Arc::new(fd)))
    }

    #[cfg(test)]
    pub(super) fn can_be_unnamed(&self) -> bool {
        self.nameless.is_possible()
    }

    /// As on a disk that cannot make files without names.
    #[cfg(test)]
    pub(super) fn name_all(&self) {
        self.nameless.forbid();
    }

    /// Gives a staged file that has none its name and its note, so that a restart finds it.
    pub(super) fn keep(&self, store: &Store, id: &StageId) -> Result<()> {
        self.nameless.named(id, |file| self.name(store, id, file))
    }

    fn name(&self, store: &Store, id: &StageId, file: &Unnamed) -> Result<()> {
        let mut again = true;
        loop {
            let folder = self.folder(store, true).ok_or_else(not_staged)?;
            match unnamed::link(file.fd.as_fd(), folder.as_fd(), id.0.as_bytes()) {
                Ok(()) => return annotate(&Spot::Folder(folder, id.0.to_string()), &file.note),
                Err(Errno::NOENT) if again => self.forget_folder(),
                Err(e) => return Err(e.into()),
            }
            again = false;
        }
    }

    fn reopen(&self, store: &Store, id: &StageId) -> Result<Arc<OwnedFd>> {
        if let Some(file) = self.nameless.get(id) {
            return Ok(file.fd);
        }
        let spot = self.spot(store, id)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || retry_on_intr(|| rustix::fs::openat(spot.dir(), spot.name(), flags, Mode::empty()));
        match open() {
            Ok(fd) => Ok(Arc::new(fd)),
            // The uploader may have asked for a file that not even its owner can write.
            Err(Errno::ACCESS) => {
                let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let handle = rustix::fs::openat(spot.dir(), spot.name(), path, Mode::empty())?;
                let mode = Mode::from_raw_mode(attrs::mode(&attrs::look_at(&handle)?));
                let chmod = |mode| rustix::fs::chmod(attrs::magic(&handle), mode);
                chmod(mode | Mode::RUSR | Mode::WUSR)?;
                let fd = open();
                chmod(mode)?;
                Ok(Arc::new(fd?))
            }
            Err(Errno::NOENT) => Err(not_staged()),
            Err(e) => Err(e.into()),
        }
    }

    /// Gives a staged file its name in one step.
    pub(super) fn publish(
        &self,
        store: &Store,
        lease: &Lease,
        id: &StageId,
        to: &VPath,
        replace: Replace,
        keep: bool,
    ) -> Result<Metadata> {
        if let Some(file) = self.nameless.get(id) {
            let linked = self.link(store, lease, &file, to);
            if let Ok(Some(metadata)) = linked {
                self.nameless.take(id);
                return Ok(metadata);
            }
            // It is not published, or something must make room: as every other from here on.
            self.keep(store, id)?;
            linked?;
        }
        let spot = self.spot(store, id)?;
        let place = store.root.place(to, Want::New, ErrorKind::IsADirectory)?;
        let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let staged = match rustix::fs::openat(spot.dir(), spot.name(), path, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(not_staged()),
            Err(e) => return Err(e.into()),
        };
        match rustix::fs::openat(&place.dir, place.name, path, Mode::empty()) {
            Ok(_) if replace == Replace::No => return Err(Error::new(ErrorKind::AlreadyExists)),
            Ok(old) => {
                let stat = attrs::look_at(&old)?;
                match attrs::kind(&stat) {
                    Kind::Directory => return Err(Error::new(ErrorKind::IsADirectory)),
                    Kind::RegularFile if keep => attrs::keep(old.as_fd(), &stat, staged.as_fd())?,
                    _ => {}
                }
            }
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        if store.options.fsync != FsyncPolicy::Never {
            let file = match store_open(&spot, OFlags::RDONLY) {
                Err(Errno::ACCESS) => store_open(&spot, OFlags::WRONLY)?,
                file => file?,
            };
            retry_on_intr(|| rustix::fs::fsync(&file))?;
        }
        lease.unless_cut(|| {
            entries::rename_at(spot.dir(), spot.name().as_bytes(), place.dir.as_fd(), place.name, replace)
        })?;
        let _ = self.clean(store, &spot, id);
        if store.options.fsync == FsyncPolicy::Full {
            sync_dir(&place.dir)?;
        }
        let mut metadata = attrs::metadata(&attrs::look_at(&staged)?);
        if store.capabilities.properties {
            metadata.properties = attrs::properties(&attrs::Attached::Path(attrs::magic(&staged)));
        }
        Ok(metadata)
    }

    /// Publishes a file that has no name; `None` where its target is taken, or cannot be linked to.
    fn link(&self, store: &Store, lease: &Lease, file: &Unnamed, to: &VPath) -> Result<Option<Metadata>> {
        let place = store.root.place(to, Want::New, ErrorKind::IsADirectory)?;
        if store.options.fsync != FsyncPolicy::Never {
            retry_on_intr(|| rustix::fs::fsync(&file.fd))?;
        }
        let linked =
            lease.unless_cut(|| match unnamed::link(file.fd.as_fd(), place.dir.as_fd(), place.name) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST | Errno::XDEV) => Ok(false),
                Err(e) => Err(e.into()),
            })?;
        if !linked {
            return Ok(None);
        }
        if store.options.fsync == FsyncPolicy::Full {
            sync_dir(&place.dir)?;
        }
        let mut metadata = attrs::metadata(&attrs::look_at(&file.fd)?);
        if store.capabilities.properties {
            metadata.properties = attrs::properties(&attrs::Attached::Open(file.fd.as_fd()));
        }
        Ok(Some(metadata))
    }

    /// Throws a staged file away; missing is fine.
    pub(super) fn unstage(&self, store: &Store, id: &StageId) -> Result<()> {
        if self.nameless.take(id).is_some() {
            return Ok(());
        }
        let spot = match self.spot(store, id) {
            Ok(spot) => spot,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        remove(spot.dir(), spot.name())?;
        self.clean(store, &spot, id)
    }

    /// Removes what belongs to a staged file that is gone.
    fn clean(&self, store: &Store, spot: &Spot<'_>, id: &StageId) -> Result<()> {
        remove(spot.dir(), &spot.note())?;
        if let Spot::Beside(..) = spot {
            self.strays.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.0);
            if let (key, Some(folder)) = (parse(id)?.0, self.folder(store, false)) {
                remove(folder.as_fd(), &format!("{key}.at"))?;
            }
        }
        Ok(())
    }

    /// Every staged file that can be found, oldest first.
    pub(super) fn staged(&self, store: &Store) -> Result<Vec<StageEntry>> {
        let mut ids: BTreeMap<String, StageId> = BTreeMap::new();
        let mut add = |id: StageId| ids.insert(id.0.to_string(), id);
        if let Some(folder) = self.folder(store, false) {
            for name in list::names(folder.as_fd())? {
                let Ok(name) = String::from_utf8(name) else { continue };
                if is_key(&name) {
                    add(StageId(name.into()));
                } else if name.ends_with(".at")
                    && let Ok(id) = fetch(folder.as_fd(), &name)
                    && let Ok(id) = String::from_utf8(id)
                {
                    add(StageId(id.into()));
                }
            }
        }
        for id in self.strays.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            add(StageId(Arc::clone(id)));
        }
        let mut out = Vec::new();
        for id in ids.into_values() {
            let Ok(spot) = self.spot(store, &id) else { continue };
            let stat = match attrs::look(spot.dir(), spot.name()) {
                Ok(stat) if attrs::kind(&stat) == Kind::RegularFile => stat,
                Ok(_) | Err(Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            };
            let note = match fetch(spot.dir(), &spot.note()) {
                Ok(note) => note,
                Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
                Err(e) => return Err(e),
            };
            let modified = attrs::metadata(&stat).modified;
            out.push(StageEntry { id, note: Bytes::from(note), size: stat.stx_size, modified });
        }
        out.extend(self.nameless.entries());
        out.sort_by(|a, b| a.id.0.cmp(&b.id.0));
        Ok(out)
    }
}

fn create(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666)))
}

fn store_open(spot: &Spot<'_>, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(spot.dir(), spot.name(), flags, Mode::empty()))
}

/// Writes the note; without it the staged file goes again.
fn annotate(spot: &Spot<'_>, note: &[u8]) -> Result<()> {
    if note.is_empty() {
        return Ok(());
    }
    put(spot.dir(), &spot.note(), note).inspect_err(|_| {
        let _ = remove(spot.dir(), &spot.note());
        let _ = remove(spot.dir(), spot.name());
    })
}

/// What a directory is, with the mount it is on.
pub(super) fn mount_and_stat(dir: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let mut stat = rustix::fs::statx(dir, "", flags, attrs::WANTED | StatxFlags::MNT_ID)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        stat.stx_mnt_id = 0;
    }
    Ok(stat)
}
