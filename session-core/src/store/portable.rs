//! A directory of this machine as a [`Filesystem`], with nothing but the standard library: for systems that the
//! [local store](super::local) does not know.
//!
//! What it can do is what `Capabilities` say; beside the local store it lacks staging and so atomic commits (content
//! goes in place), conditional writes, copies inside the store, free space, properties, and files lent to the kernel.
//! It sets no times of a link itself. Off Unix it has neither modes, owners nor symbolic links, and names are UTF-8.
//! Every call goes to the pool.
//!
//! It follows no link: a path is looked at name by name before it is used. Between the look and the use another
//! *process* could put a link there, which the local store cannot be led over; `Replace::No` is a look before the
//! rename, too. So it serves whoever trusts the other processes of the machine, not strangers beside them.

use std::fs::{File as StdFile, FileTimes};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::Mutex as Turns;

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Link, Result};
use crate::fs::*;
use crate::lease::{self, Lease};
use crate::metadata::{Attributes, DirEntry, FileType, Metadata};
use crate::operation::OperationKind;
use crate::path::VPath;

/// The most that one read gives, in bytes: a bound on memory, not a promise.
const MAX_READ: usize = 4 << 20;

/// Entries of a page.
const PAGE: usize = 1000;

/// A directory of this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PortableStore(Arc<Store>);

#[derive(Debug)]
struct Store {
    root: PathBuf,
    /// Held by what looks at names before it changes them.
    names: Mutex<()>,
}

fn denied(words: &'static str) -> Error {
    Error::new(ErrorKind::PermissionDenied).with_detail(words)
}

#[cfg(unix)]
fn name_of(bytes: &[u8]) -> Result<&Path> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn name_of(bytes: &[u8]) -> Result<&Path> {
    let bad = |words| Error::new(ErrorKind::InvalidPath).with_detail(words);
    let text = std::str::from_utf8(bytes).map_err(|_| bad("a name here is UTF-8"))?;
    // A drive, a stream of a file, or another way to set names apart would lead out.
    if text.contains(['\\', ':']) {
        return Err(bad("a name here has neither a colon nor a backslash"));
    }
    Ok(Path::new(text))
}

fn bytes_of(name: &std::ffi::OsStr) -> Bytes {
    Bytes::copy_from_slice(name.as_encoded_bytes())
}

fn times_of(metadata: &std::fs::Metadata, into: &mut Metadata) {
    into.modified = metadata.modified().ok();
    into.accessed = metadata.accessed().ok();
    into.created = metadata.created().ok();
}

/// What the system says, as the model says it.
fn metadata_of(metadata: &std::fs::Metadata) -> Metadata {
    let kind = metadata.file_type();
    let file_type = match () {
        () if kind.is_symlink() => FileType::Symlink,
        () if kind.is_dir() => FileType::Directory,
        () if kind.is_file() => FileType::File,
        () => FileType::Other,
    };
    let sized = matches!(file_type, FileType::File | FileType::Symlink);
    let mut told = Metadata::new(file_type, if sized { metadata.len() } else { 0 });
    times_of(metadata, &mut told);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        told.mode = Some(metadata.mode() & 0o7777);
        (told.uid, told.gid) = (Some(metadata.uid()), Some(metadata.gid()));
        told.links = Some(metadata.nlink());
    }
    told
}

/// Refuses what cannot be set, before anything is.
fn check(attributes: &Attributes, file_type: FileType) -> Result<()> {
    if attributes.mode.is_some_and(|mode| mode > 0o7777) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("permission bits are at most 7777"));
    }
    let owned = attributes.uid.is_some() || attributes.gid.is_some();
    if !attributes.properties.is_empty() || !cfg!(unix) && (attributes.mode.is_some() || owned) {
        return Err(Error::unsupported(OperationKind::SetAttributes));
    }
    match (attributes.size, file_type) {
        (Some(_), FileType::Directory) => Err(Error::new(ErrorKind::IsADirectory)),
        (Some(_), FileType::Symlink | FileType::Other) => {
            Err(Error::new(ErrorKind::InvalidArgument).with_detail("only a file has a size"))
        }
        (Some(size), FileType::File) if i64::try_from(size).is_err() => {
            Err(Error::new(ErrorKind::OutOfRange))
        }
        _ => Ok(()),
    }
}

/// Sets what is set on a path that is no link, or on an open file: size, owner, mode, times.
fn apply(path: &Path, open: Option<&StdFile>, attributes: &Attributes) -> Result<()> {
    if let Some(size) = attributes.size {
        match open {
            Some(file) => file.set_len(size)?,
            None => std::fs::OpenOptions::new().write(true).open(path)?.set_len(size)?,
        }
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if attributes.uid.is_some() || attributes.gid.is_some() {
            match open {
                Some(file) => std::os::unix::fs::fchown(file, attributes.uid, attributes.gid)?,
                None => std::os::unix::fs::chown(path, attributes.uid, attributes.gid)?,
            }
        }
        if let Some(mode) = attributes.mode {
            let mode = std::fs::Permissions::from_mode(mode);
            match open {
                Some(file) => file.set_permissions(mode)?,
                None => std::fs::set_permissions(path, mode)?,
            }
        }
    }
    let mut times = FileTimes::new();
    if let Some(accessed) = attributes.accessed {
        times = times.set_accessed(accessed);
    }
    if let Some(modified) = attributes.modified {
        times = times.set_modified(modified);
    }
    if attributes.accessed.is_some() || attributes.modified.is_some() {
        match open {
            Some(file) => file.set_times(times)?,
            None => StdFile::open(path)?.set_times(times)?,
        }
    }
    Ok(())
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a path is here, once nothing on the way to it is a link; with `Follow::Yes`, its end neither.
    fn at(&self, path: &VPath, follow: Follow) -> Result<PathBuf> {
        let (mut here, mut at) = (self.root.clone(), VPath::root());
        let mut segments = path.segments().peekable();
        while let Some(name) = segments.next() {
            here.push(name_of(name)?);
            at = at.join(name)?;
            let last = segments.peek().is_none();
            let found = match std::fs::symlink_metadata(&here) {
                Ok(found) => found,
                Err(e) if last && e.kind() == std::io::ErrorKind::NotFound => break,
                Err(e) => return Err(e.into()),
            };
            if found.is_symlink() && (!last || follow == Follow::Yes) {
                let target = std::fs::read_link(&here)?.into_os_string().into_encoded_bytes();
                return Err(Error::link(Link { at, target }));
            }
            if !last && !found.is_dir() {
                return Err(Error::new(ErrorKind::NotADirectory));
            }
        }
        Ok(here)
    }

    /// The same for an entry that has a name. Errors: `at_root` for the root.
    fn entry(&self, path: &VPath, at_root: ErrorKind) -> Result<PathBuf> {
        if path.is_root() {
            return Err(Error::new(at_root));
        }
        self.at(path, Follow::No)
    }

    fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        Ok(metadata_of(&std::fs::symlink_metadata(self.at(path, follow)?)?))
    }

    fn open(&self, path: &VPath, options: &OpenOptions) -> Result<(StdFile, PathBuf, bool)> {
        options.check()?;
        if options.text || options.if_match.is_some() {
            return Err(Error::unsupported(OperationKind::Open));
        }
        if options.create {
            check(&options.attributes, FileType::File)?;
        }
        let _names = self.lock();
        let here = self.at(path, if options.exclusive { Follow::No } else { Follow::Yes })?;
        let there = match std::fs::symlink_metadata(&here) {
            Ok(_) if options.exclusive => return Err(Error::new(ErrorKind::AlreadyExists)),
            Ok(found) if found.is_dir() => return Err(Error::new(ErrorKind::IsADirectory)),
            // A pipe would keep the call waiting for its other end.
            Ok(found) if !found.is_file() => {
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail("this is no regular file"));
            }
            Ok(_) => true,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && options.create => false,
            Err(e) => return Err(e.into()),
        };
        let mut how = std::fs::OpenOptions::new();
        // What is appended to by several handles is the system's to keep apart.
        how.read(options.read).write(options.write).append(options.append).create_new(!there);
        #[cfg(unix)]
        if let Some(mode) = options.attributes.mode {
            use std::os::unix::fs::OpenOptionsExt as _;
            how.mode(mode & 0o777);
        }
        let file = how.open(&here)?;
        if !there && !options.attributes.is_empty() {
            apply(&here, Some(&file), &options.attributes).inspect_err(|_| {
                let _ = std::fs::remove_file(&here);
            })?;
        }
        if there && options.truncate {
            file.set_len(0)?;
        }
        Ok((file, here, !there))
    }

    fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        check(attributes, FileType::Directory)?;
        let here = self.entry(path, ErrorKind::AlreadyExists)?;
        std::fs::create_dir(&here)?;
        apply(&here, None, attributes).inspect_err(|_| {
            let _ = std::fs::remove_dir(&here);
        })
    }

    fn remove_file(&self, path: &VPath) -> Result<()> {
        let here = self.entry(path, ErrorKind::IsADirectory)?;
        if std::fs::symlink_metadata(&here)?.is_dir() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        Ok(std::fs::remove_file(here)?)
    }

    fn remove_dir(&self, path: &VPath) -> Result<()> {
        let here = self.entry(path, ErrorKind::PermissionDenied)?;
        if !std::fs::symlink_metadata(&here)?.is_dir() {
            return Err(Error::new(ErrorKind::NotADirectory));
        }
        Ok(std::fs::remove_dir(here)?)
    }

    fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let _names = self.lock();
        let old = self.entry(from, ErrorKind::InvalidArgument)?;
        let moved = std::fs::symlink_metadata(&old)?;
        if to != from && to.starts_with(from) {
            return Err(
                Error::new(ErrorKind::InvalidArgument).with_detail("the new name is below the old one")
            );
        }
        let at_root = if replace == Replace::No { ErrorKind::AlreadyExists } else { ErrorKind::NotEmpty };
        let new = self.entry(to, at_root)?;
        match std::fs::symlink_metadata(&new) {
            Ok(_) if replace == Replace::No => return Err(Error::new(ErrorKind::AlreadyExists)),
            Ok(there) if there.is_dir() && !moved.is_dir() => {
                return Err(Error::new(ErrorKind::IsADirectory));
            }
            Ok(there) if !there.is_dir() && moved.is_dir() => {
                return Err(Error::new(ErrorKind::NotADirectory));
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        Ok(std::fs::rename(old, new)?)
    }

    fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let here = self.at(path, follow)?;
        let found = metadata_of(&std::fs::symlink_metadata(&here)?);
        check(attributes, found.file_type)?;
        if !found.is_symlink() {
            return apply(&here, None, attributes);
        }
        // Of a link itself the standard library sets the owner and nothing else.
        let others = Attributes { uid: None, gid: None, ..attributes.clone() };
        if !others.is_empty() {
            return Err(Error::unsupported(OperationKind::SetAttributes));
        }
        #[cfg(unix)]
        std::os::unix::fs::lchown(&here, attributes.uid, attributes.gid)?;
        Ok(())
    }

    #[cfg(unix)]
    fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a link cannot hold this"));
        }
        Ok(std::os::unix::fs::symlink(name_of(target)?, self.entry(at, ErrorKind::AlreadyExists)?)?)
    }

    #[cfg(not(unix))]
    fn symlink(&self, _: &[u8], _: &VPath) -> Result<()> {
        Err(Error::unsupported(OperationKind::Symlink))
    }

    fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let old = self.entry(from, ErrorKind::IsADirectory)?;
        let new = self.entry(to, ErrorKind::AlreadyExists)?;
        if std::fs::symlink_metadata(&old)?.is_dir() {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        Ok(std::fs::hard_link(old, new)?)
    }

    fn read_link(&self, path: &VPath) -> Result<Bytes> {
        if !cfg!(unix) {
            return Err(Error::unsupported(OperationKind::ReadLink));
        }
        let here = self.entry(path, ErrorKind::InvalidArgument)?;
        if !std::fs::symlink_metadata(&here)?.is_symlink() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("this is no symbolic link"));
        }
        Ok(Bytes::from(std::fs::read_link(here)?.into_os_string().into_encoded_bytes()))
    }
}

/// Runs a call on the pool, with the lease of the current one.
async fn hop<T: Send + 'static>(call: impl FnOnce(&Lease) -> Result<T> + Send + 'static) -> Result<T> {
    let lease = lease::current();
    let Ok(handle) = Handle::try_current() else { return call(&lease) };
    match handle.spawn_blocking(move || call(&lease)).await {
        Ok(out) => out,
        Err(e) if e.is_cancelled() => Err(Error::new(ErrorKind::Canceled).with_source(e)),
        Err(e) => Err(Error::new(ErrorKind::Internal).with_source(e)),
    }
}

impl PortableStore {
    /// Opens the directory `root` as a store. Its own path may run over links; nothing below does.
    ///
    /// Blocks. Errors: `NotFound`, `NotADirectory`, `PermissionDenied`.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::fs::canonicalize(root)?;
        if !std::fs::metadata(&root)?.is_dir() {
            return Err(Error::new(ErrorKind::NotADirectory));
        }
        Ok(PortableStore(Arc::new(Store { root, names: Mutex::default() })))
    }

    async fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.0);
        hop(move |_| call(&store)).await
    }

    /// A change, which a session that was cut does not begin.
    async fn change<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.0);
        hop(move |lease| lease.unless_cut(|| call(&store))).await
    }
}

#[async_trait]
impl Filesystem for PortableStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            write: true,
            create_dir: true,
            remove: true,
            rename: true,
            rename_replaces: true,
            random_write: true,
            continue_write: true,
            append: true,
            truncate: true,
            set_times: true,
            set_mode: cfg!(unix),
            set_owner: cfg!(unix),
            symlinks: cfg!(unix),
            hard_links: true,
            empty_dirs: true,
            case_sensitive: cfg!(all(unix, not(target_vendor = "apple"))),
            precise_errors: true,
            mtime_granularity: Duration::from_nanos(if cfg!(unix) { 1 } else { 100 }),
            ..Capabilities::none()
        }
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        let path = path.clone();
        self.read(move |store| store.stat(&path, follow)).await
    }

    async fn list(&self, dir: &VPath, _: &ListOptions) -> Result<Listing> {
        let dir = dir.clone();
        let entries = self.read(move |store| {
            let here = store.at(&dir, Follow::Yes)?;
            if !std::fs::symlink_metadata(&here)?.is_dir() {
                return Err(Error::new(ErrorKind::NotADirectory));
            }
            Ok(std::fs::read_dir(here)?)
        });
        Ok(Box::new(Entries(Some(entries.await?))))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let (path, wanted) = (path.clone(), options.clone());
        let call = move |store: &Store| store.open(&path, &wanted);
        let (file, here, made) = if options.write { self.change(call).await } else { self.read(call).await }?;
        Ok(Arc::new(PortableFile {
            open: Arc::new(Turns::new(Some(file))),
            path: here,
            made,
            read: options.read,
            write: options.write,
            append: options.append,
        }))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        let (path, attributes) = (path.clone(), attributes.clone());
        self.change(move |store| store.create_dir(&path, &attributes)).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        let path = path.clone();
        self.change(move |store| store.remove_file(&path)).await
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        let path = path.clone();
        self.change(move |store| store.remove_dir(&path)).await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.change(move |store| store.rename(&from, &to, replace)).await
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let (path, attributes) = (path.clone(), attributes.clone());
        self.change(move |store| store.set_attributes(&path, &attributes, follow)).await
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        let (target, at) = (target.to_vec(), at.clone());
        self.change(move |store| store.symlink(&target, &at)).await
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.change(move |store| store.hard_link(&from, &to)).await
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        let path = path.clone();
        self.read(move |store| store.read_link(&path)).await
    }
}

/// A listing under way; `None` when it has ended.
struct Entries(Option<std::fs::ReadDir>);

#[async_trait]
impl Pages for Entries {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        let Some(mut entries) = self.0.take() else { return Ok(None) };
        let (page, rest) = hop(move |_| {
            let mut page = Vec::new();
            while page.len() < PAGE {
                let Some(entry) = entries.next() else { return Ok((page, None)) };
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Ok(found) => metadata_of(&found),
                    // It went while it was listed.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(e.into()),
                };
                page.push(DirEntry { name: bytes_of(&entry.file_name()), metadata });
            }
            Ok((page, Some(entries)))
        })
        .await?;
        self.0 = rest;
        Ok((!page.is_empty()).then_some(page))
    }
}

/// An open file. Calls take turns in the order in which they came, so none is in flight when it ends.
struct PortableFile {
    /// `None` once the end was said.
    open: Arc<Turns<Option<StdFile>>>,
    path: PathBuf,
    made: bool,
    read: bool,
    write: bool,
    append: bool,
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed)
}

/// Whether a path still leads to an open file; where nobody can tell, it does not.
fn leads_to(path: &Path, file: &StdFile) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let identity = |m: &std::fs::Metadata| (m.dev(), m.ino());
        let there = std::fs::symlink_metadata(path).ok();
        there.zip(file.metadata().ok()).is_some_and(|(a, b)| identity(&a) == identity(&b))
    }
    #[cfg(not(unix))]
    {
        let _ = (path, file);
        false
    }
}

impl PortableFile {
    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut StdFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut open = Arc::clone(&self.open).lock_owned().await;
        hop(move |_| call(open.as_mut().ok_or_else(closed)?)).await
    }

    /// The end, with what was open.
    async fn end<T: Send + 'static>(
        &self,
        call: impl FnOnce(StdFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut open = Arc::clone(&self.open).lock_owned().await;
        hop(move |_| call(open.take().ok_or_else(closed)?)).await
    }
}

#[async_trait]
impl File for PortableFile {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        if !self.read {
            self.with(|_| Ok(())).await?;
            return Err(denied("not opened for reading"));
        }
        self.with(move |file| {
            if i64::try_from(offset).is_err() {
                return Ok(buf);
            }
            file.seek(SeekFrom::Start(offset))?;
            let had = buf.len();
            buf.resize(had + len.min(MAX_READ), 0);
            let mut filled = had;
            while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match file.read(rest) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e.into()),
                }
            }
            buf.truncate(filled);
            Ok(buf)
        })
        .await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let (write, append) = (self.write, self.append);
        let mut open = Arc::clone(&self.open).lock_owned().await;
        hop(move |lease| {
            let file = open.as_mut().ok_or_else(closed)?;
            if !write {
                return Err(denied("not opened for writing"));
            }
            if data.is_empty() {
                return Ok(());
            }
            lease.unless_cut(|| {
                let offset = if append { file.metadata()?.len() } else { offset };
                let end = offset.checked_add(data.len() as u64);
                if end.is_none_or(|end| i64::try_from(end).is_err()) {
                    return Err(Error::new(ErrorKind::OutOfRange));
                }
                if !append {
                    file.seek(SeekFrom::Start(offset))?;
                }
                Ok(file.write_all(&data)?)
            })
        })
        .await
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.with(|file| Ok(metadata_of(&file.metadata()?))).await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let (attributes, write, path) = (attributes.clone(), self.write, self.path.clone());
        self.with(move |file| {
            check(&attributes, FileType::File)?;
            if attributes.size.is_some() && !write {
                return Err(denied("not opened for writing"));
            }
            apply(&path, Some(file), &attributes)
        })
        .await
    }

    async fn sync(&self) -> Result<()> {
        self.with(|file| Ok(file.sync_all()?)).await
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        check(&options.attributes, FileType::File)?;
        let (path, options) = (self.path.clone(), options.clone());
        self.end(move |file| {
            let size = file.metadata()?.len();
            if let Some(expected) = options.expected_size.filter(|expected| *expected != size) {
                return Err(Error::new(ErrorKind::Corrupt)
                    .with_detail(format!("{expected} bytes were expected, {size} arrived")));
            }
            apply(&path, Some(&file), &options.attributes)?;
            Ok(metadata_of(&file.metadata()?))
        })
        .await
    }

    async fn park(&self) -> Result<()> {
        self.end(|_| Ok(())).await
    }

    async fn abort(&self) -> Result<()> {
        let (path, made) = (self.path.clone(), self.made);
        self.end(move |file| {
            if made && leads_to(&path, &file) {
                std::fs::remove_file(&path)?;
            }
            Ok(())
        })
        .await
    }
}
