//! `Mounts`: several filesystems under one root, as virtual folders.
//!
//! A mount point is a directory wherever it lies: what its parent holds under that name is hidden, and
//! directories on the way to it that nobody made are shown. Each path belongs to the deepest mount at or
//! above it. A mount point, and what leads to one, is neither removed nor renamed nor replaced. Renames and
//! hard links across mounts are `CrossDevice`; a copy across them is made through this process. Names of
//! mount points follow the case rule of the filesystem that they hide a name of, so that no spelling gets
//! past them. A symbolic link never leads out of a mounted folder: others may have put it there.
//!
//! Stands above staging, so it has none of its primitives. Absent: a watch for mounts that come and go.

mod pages;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use self::pages::{MovedPages, Overlaid, Own};
use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::layer::FileLayer;
use crate::metadata::{Attributes, DirEntry, FileType, Metadata};
use crate::operation::OperationKind;
use crate::path::VPath;

/// How much a copy across mounts moves at once, bytes.
const PIECE: usize = 256 << 10;

/// A filesystem and its place.
#[derive(Clone)]
pub struct Mount {
    /// Where its root is; not `/`.
    pub at: VPath,
    /// What is there.
    pub fs: Arc<dyn Filesystem>,
    /// Its root is asked for its metadata when the directory above is listed. Off for what may be slow or
    /// away, so that it delays nobody who only looks at the rest.
    pub described: bool,
}

/// One segment of a mount point.
struct Segment {
    name: Bytes,
    /// Upper and lower case are the same there.
    folded: bool,
}

impl Segment {
    fn is(&self, name: &[u8]) -> bool {
        self.name == name || self.folded && folded(&self.name) == folded(name)
    }
}

fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}

/// One filesystem of the tree.
struct Part {
    segments: Vec<Segment>,
    fs: Arc<dyn Filesystem>,
    described: bool,
}

impl Part {
    /// Whether `path` is the mount point or below it.
    fn covers(&self, path: &VPath) -> bool {
        let mut names = path.segments();
        self.segments.iter().all(|s| names.next().is_some_and(|name| s.is(name)))
    }

    /// Whether the mount point is strictly below `path`.
    fn is_below(&self, path: &VPath) -> bool {
        path.depth() < self.segments.len() && self.segments.iter().zip(path.segments()).all(|(s, n)| s.is(n))
    }

    /// A path of the whole, which it covers, as the part knows it; and the mount point as it was spelled.
    fn inner(&self, path: &VPath) -> (VPath, VPath) {
        let mut point = path.clone();
        for _ in self.segments.len()..path.depth() {
            point = point.parent().unwrap_or_else(VPath::root);
        }
        let inner = path.rebase(&point, &VPath::root()).unwrap_or_else(VPath::root);
        (inner, point)
    }
}

struct Tree {
    root: Part,
    /// The deepest first.
    mounts: Vec<Part>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Mounts(Arc<Tree>);

/// Where a path leads.
struct Place<'a> {
    part: &'a Part,
    /// The path in the part.
    path: VPath,
    /// The part's mount point in the caller's spelling.
    point: VPath,
    /// It is a mount point.
    is_point: bool,
    /// A mount lies below it.
    leads: bool,
}

impl Place<'_> {
    /// It stays where it is and what it is.
    fn is_fixed(&self) -> bool {
        self.is_point || self.leads
    }
}

fn fixed() -> Error {
    Error::new(ErrorKind::PermissionDenied).with_detail("this folder is configured and stays as it is")
}

fn nothing_here() -> Error {
    Error::new(ErrorKind::PermissionDenied).with_detail("nothing can be made in this folder")
}

/// A directory of which nothing is known but that it is there.
fn plain_directory() -> Metadata {
    Metadata { mode: Some(0o755), ..Metadata::new(FileType::Directory, 0) }
}

/// What a store says of a name that is hidden by a directory of ours.
fn is_hidden(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) || e.as_link().is_some()
}

impl Mounts {
    /// `root` with `mounts` in it, which may lie in each other. Errors: `InvalidArgument` for one at the
    /// root, and for two at one place.
    pub fn new(root: Arc<dyn Filesystem>, mut mounts: Vec<Mount>) -> Result<Self> {
        mounts.sort_by_key(|m| m.at.depth());
        let mut tree =
            Tree { root: Part { segments: Vec::new(), fs: root, described: true }, mounts: Vec::new() };
        for mount in mounts {
            let invalid = |words| Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
            if mount.at.is_root() {
                return invalid("a folder cannot be mounted at the root".to_owned());
            }
            let outer = tree.part(&mount.at);
            if outer.segments.len() == mount.at.depth() {
                return invalid(format!("two folders are mounted at {}", mount.at));
            }
            let folded = !outer.fs.capabilities().case_sensitive;
            let of_outer = outer.segments.iter().map(|s| s.folded).chain(std::iter::repeat(folded));
            let segments = mount.at.segments().zip(of_outer);
            let segments =
                segments.map(|(name, folded)| Segment { name: Bytes::copy_from_slice(name), folded });
            let segments = segments.collect();
            tree.mounts.insert(0, Part { segments, fs: mount.fs, described: mount.described });
        }
        Ok(Mounts(Arc::new(tree)))
    }

    fn place(&self, path: &VPath) -> Place<'_> {
        let part = self.0.part(path);
        let (inner, point) = part.inner(path);
        Place {
            part,
            path: inner,
            point,
            is_point: !path.is_root() && part.segments.len() == path.depth(),
            leads: self.0.mounts.iter().any(|m| m.is_below(path)),
        }
    }

    /// Two places in one filesystem. Errors: `CrossDevice`.
    fn same<'a>(&self, a: &Place<'a>, b: &Place<'a>) -> Result<()> {
        if std::ptr::eq(a.part, b.part) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::CrossDevice).with_detail("the two paths are in different folders"))
    }

    /// An error of a part as it looks from outside.
    fn told(&self, place: &Place<'_>, error: Error) -> Error {
        let up = |p: &VPath| p.rebase(&VPath::root(), &place.point);
        let error = error.map_path(up).map_link(up);
        let Some(link) = error.as_link() else { return error };
        if self.place(&link.at).is_fixed() {
            // A directory of ours hides it.
            return Error::new(ErrorKind::NotFound);
        }
        let base = link.at.parent().unwrap_or_else(VPath::root);
        let stays = |target: &VPath| std::ptr::eq(self.0.part(target), place.part);
        let is_ours = std::ptr::eq(place.part, &self.0.root);
        match VPath::parse(&base, &link.target) {
            Ok(target) if is_ours || stays(&target) => error,
            Ok(_) => Error::refused("the symbolic link leads out of its folder"),
            Err(e) => e,
        }
    }

    /// What becomes of a failed attempt to make something.
    fn unmade(&self, place: &Place<'_>, path: &VPath, error: Error) -> Error {
        let in_ours = || path.parent().is_some_and(|dir| self.place(&dir).leads);
        if error.kind() == ErrorKind::NotFound && !place.is_point && in_ours() {
            return nothing_here();
        }
        self.told(place, error)
    }

    /// An open file whose errors name paths as the caller knows them.
    fn file(&self, place: &Place<'_>, inner: Arc<dyn File>) -> Arc<dyn File> {
        if place.point.is_root() {
            return inner;
        }
        Arc::new(MovedFile { inner, point: place.point.clone() })
    }

    /// The names in `dir` that mounts make: mount points, and what leads to them.
    async fn own(&self, dir: &VPath) -> Vec<Own> {
        let depth = dir.depth();
        let mut own: Vec<Own> = Vec::new();
        for mount in self.0.mounts.iter().rev().filter(|m| m.is_below(dir)) {
            let Some(segment) = mount.segments.get(depth) else { continue };
            if own.iter().any(|o| segment.is(&o.entry.name)) {
                continue;
            }
            let is_point = mount.segments.len() == depth + 1;
            let metadata = match is_point && mount.described {
                true => mount.fs.stat(&VPath::root(), Follow::Yes).await.ok().filter(Metadata::is_dir),
                false => None,
            };
            let metadata = metadata.unwrap_or_else(plain_directory);
            let entry = DirEntry { name: segment.name.clone(), metadata };
            own.push(Own { entry, folded: segment.folded, is_point });
        }
        own
    }
}

impl Tree {
    fn part(&self, path: &VPath) -> &Part {
        self.mounts.iter().find(|m| m.covers(path)).unwrap_or(&self.root)
    }
}

#[async_trait]
impl Filesystem for Mounts {
    fn capabilities(&self) -> Capabilities {
        self.0.root.fs.capabilities()
    }

    fn capabilities_at(&self, path: &VPath) -> Capabilities {
        let place = self.place(path);
        place.part.fs.capabilities_at(&place.path)
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        let place = self.place(path);
        match place.part.fs.stat(&place.path, follow).await {
            Ok(m) if m.is_dir() || !place.leads => Ok(m),
            Ok(_) => Ok(plain_directory()),
            Err(e) if place.leads && !place.path.is_root() && is_hidden(&e) => Ok(plain_directory()),
            Err(e) => Err(self.told(&place, e)),
        }
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let place = self.place(dir);
        let listing = place.part.fs.list(&place.path, options).await;
        let moved = |inner| MovedPages { mounts: self.clone(), dir: dir.clone(), inner };
        if !place.leads {
            return match listing {
                Ok(inner) if place.point.is_root() => Ok(inner),
                Ok(inner) => Ok(Box::new(moved(inner))),
                Err(e) => Err(self.told(&place, e)),
            };
        }
        let inner: Listing = match listing {
            Ok(inner) => Box::new(moved(inner)),
            Err(e) if !place.path.is_root() && is_hidden(&e) => Box::new(ListingOf::new(Vec::new())),
            Err(e) => return Err(self.told(&place, e)),
        };
        // A part that does not sort ignores order and start; whoever asked does both.
        let ordered = place.part.fs.capabilities_at(&place.path).ordered_list;
        let options = if ordered { options.clone() } else { ListOptions::default() };
        let may_miss = !place.path.is_root();
        Ok(Box::new(Overlaid::new(inner, self.own(dir).await, options, may_miss)))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        let place = self.place(path);
        if place.is_fixed() {
            let kind = if options.exclusive { ErrorKind::AlreadyExists } else { ErrorKind::IsADirectory };
            return Err(kind.into());
        }
        match place.part.fs.open(&place.path, options).await {
            Ok(file) => Ok(self.file(&place, file)),
            Err(e) if options.create => Err(self.unmade(&place, path, e)),
            Err(e) => Err(self.told(&place, e)),
        }
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        let place = self.place(path);
        if place.is_fixed() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let made = place.part.fs.create_dir(&place.path, attributes).await;
        made.map_err(|e| self.unmade(&place, path, e))
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        let place = self.place(path);
        if place.is_fixed() {
            return Err(ErrorKind::IsADirectory.into());
        }
        place.part.fs.remove_file(&place.path).await.map_err(|e| self.told(&place, e))
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        let place = self.place(path);
        if place.is_point {
            return Err(fixed());
        }
        if place.leads {
            return Err(Error::new(ErrorKind::NotEmpty).with_detail("a configured folder lies in it"));
        }
        place.part.fs.remove_dir(&place.path).await.map_err(|e| self.told(&place, e))
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (source, target) = (self.place(from), self.place(to));
        if source.is_fixed() {
            return Err(fixed());
        }
        if target.is_fixed() {
            return Err(if replace == Replace::No { ErrorKind::AlreadyExists.into() } else { fixed() });
        }
        if let Err(e) = self.same(&source, &target) {
            // What is missing is missing, wherever it should have gone.
            self.stat(from, Follow::No).await?;
            return Err(e);
        }
        match source.part.fs.rename(&source.path, &target.path, replace).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.stat(from, Follow::No).await?;
                Err(self.unmade(&target, to, e))
            }
            done => done.map_err(|e| self.told(&source, e)),
        }
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let place = self.place(path);
        match place.part.fs.set_attributes(&place.path, attributes, follow).await {
            Err(e) if place.leads && !place.path.is_root() && is_hidden(&e) => Err(fixed()),
            done => done.map_err(|e| self.told(&place, e)),
        }
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (source, target) = (self.place(from), self.place(to));
        if self.same(&source, &target).is_err() {
            return self.copy_across(from, to, replace).await;
        }
        if source.is_fixed() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if target.is_fixed() {
            let kind =
                if replace == Replace::No { ErrorKind::AlreadyExists } else { ErrorKind::IsADirectory };
            return Err(kind.into());
        }
        source.part.fs.copy(&source.path, &target.path, replace).await.map_err(|e| self.told(&source, e))
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        let place = self.place(at);
        if place.is_fixed() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        place.part.fs.symlink(target, &place.path).await.map_err(|e| self.unmade(&place, at, e))
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let (source, target) = (self.place(from), self.place(to));
        if source.is_fixed() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if target.is_fixed() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.same(&source, &target)?;
        source.part.fs.hard_link(&source.path, &target.path).await.map_err(|e| self.told(&source, e))
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        let place = self.place(path);
        if place.is_fixed() && place.part.fs.capabilities_at(&place.path).symlinks {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("not a symbolic link"));
        }
        place.part.fs.read_link(&place.path).await.map_err(|e| self.told(&place, e))
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        let place = self.place(path);
        let found = place.part.fs.canonicalize(&place.path).await.map_err(|e| self.told(&place, e))?;
        found.rebase(&VPath::root(), &place.point).ok_or_else(|| ErrorKind::InvalidPath.into())
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        let place = self.place(path);
        match place.part.fs.space(&place.path).await {
            Err(e) if place.leads && !place.path.is_root() && is_hidden(&e) => {
                place.part.fs.space(&VPath::root()).await.map_err(|e| self.told(&place, e))
            }
            answer => answer.map_err(|e| self.told(&place, e)),
        }
    }

    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        let place = self.place(path);
        let sum = place.part.fs.checksum(&place.path, algorithm, range).await;
        sum.map_err(|e| self.told(&place, e))
    }
}

impl Mounts {
    /// A copy through this process. The target appears at its commit.
    async fn copy_across(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        if !self.capabilities_at(to).server_copy {
            return Err(Error::unsupported(OperationKind::Copy));
        }
        let metadata = self.stat(from, Follow::Yes).await?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let source = self.open(from, &OpenOptions::read()).await?;
        let exclusive = replace == Replace::No;
        let options = OpenOptions {
            exclusive,
            truncate: !exclusive,
            size_hint: Some(metadata.size),
            ..OpenOptions::create()
        };
        let target = self.open(to, &options).await?;
        match pump(&*source, &*target).await {
            Ok(size) => {
                let options = CommitOptions { expected_size: Some(size), ..CommitOptions::default() };
                target.commit(&options).await.map(|_| ())
            }
            Err(e) => {
                // The first error is the one that tells.
                let _ = target.abort().await;
                Err(e)
            }
        }
    }
}

async fn pump(source: &dyn File, target: &dyn File) -> Result<u64> {
    let mut at = 0;
    loop {
        let piece = source.read_into(at, PIECE, BytesMut::with_capacity(PIECE)).await?;
        if piece.is_empty() {
            return Ok(at);
        }
        let len = piece.len() as u64;
        target.write_at(at, piece.freeze()).await?;
        at += len;
    }
}

/// An open file of a mount.
struct MovedFile {
    inner: Arc<dyn File>,
    point: VPath,
}

impl MovedFile {
    fn told(&self, e: Error) -> Error {
        e.map_path(|p| p.rebase(&VPath::root(), &self.point))
    }
}

#[async_trait]
impl FileLayer for MovedFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        self.inner.read_into(offset, len, buf).await.map_err(|e| self.told(e))
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        self.inner.write_at(offset, data).await.map_err(|e| self.told(e))
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.inner.metadata().await.map_err(|e| self.told(e))
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.inner.set_attributes(attributes).await.map_err(|e| self.told(e))
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await.map_err(|e| self.told(e))
    }

    async fn settle(&self) -> Result<()> {
        self.inner.settle().await.map_err(|e| self.told(e))
    }

    async fn lend(&self, range: Range<u64>) -> Result<Option<Lent>> {
        self.inner.lend(range).await.map_err(|e| self.told(e))
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        self.inner.commit(options).await.map_err(|e| self.told(e))
    }

    async fn park(&self) -> Result<()> {
        self.inner.park().await.map_err(|e| self.told(e))
    }

    async fn abort(&self) -> Result<()> {
        self.inner.abort().await.map_err(|e| self.told(e))
    }
}
