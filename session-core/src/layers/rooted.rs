//! `Rooted`: a directory of a filesystem as a filesystem of its own.
//!
//! Paths are moved under the root on the way in; what a listing of links, a canonical path or an error
//! says is moved back on the way out, so nothing inside learns where its root lies. As in a `chroot`, the
//! target of a symbolic link belongs to the tree that it is read in: it is neither changed nor checked
//! here (the gate resolves it, below the root). A root that is itself reached over a link is refused.
//!
//! Deliberately absent: making the root; the site does that before anybody logs in.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::layer::{FileLayer, Layer};
use crate::metadata::{Attributes, DirEntry, Metadata};
use crate::path::VPath;

/// The sub-tree `root` of a filesystem.
pub struct Rooted {
    inner: Arc<dyn Filesystem>,
    root: VPath,
}

impl Rooted {
    /// The tree below `root` of `inner`.
    pub fn new(inner: Arc<dyn Filesystem>, root: VPath) -> Self {
        Rooted { inner, root }
    }

    /// The path of `path` in the filesystem around. `InvalidPath` where it grows too long for a path.
    fn outer(&self, path: &VPath) -> Result<VPath> {
        let moved = path.rebase(&VPath::root(), &self.root);
        moved
            .filter(|p| p.as_bytes().len() <= crate::path::MAX_PATH)
            .ok_or_else(|| Error::new(ErrorKind::InvalidPath).with_detail("the path is too long"))
    }
}

fn inside(root: &VPath, error: Error) -> Error {
    let up = |p: &VPath| p.rebase(root, &VPath::root());
    if error.as_link().is_some_and(|link| up(&link.at).is_none_or(|at| at.is_root())) {
        return Error::new(ErrorKind::LinkLoop).with_detail("the root of this tree is a symbolic link");
    }
    error.map_path(up).map_link(up)
}

#[async_trait]
impl Layer for Rooted {
    fn inner(&self) -> &dyn Filesystem {
        &*self.inner
    }

    fn capabilities_at(&self, path: &VPath) -> Capabilities {
        match self.outer(path) {
            Ok(path) => self.inner.capabilities_at(&path),
            Err(_) => self.inner.capabilities_at(&self.root),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities_at(&self.root)
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        self.inner.stat(&self.outer(path)?, follow).await.map_err(|e| inside(&self.root, e))
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let inner = self.inner.list(&self.outer(dir)?, options).await.map_err(|e| inside(&self.root, e))?;
        Ok(Box::new(RootedPages { inner, root: self.root.clone() }))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let inner = self.inner.open(&self.outer(path)?, options).await.map_err(|e| inside(&self.root, e))?;
        Ok(Arc::new(RootedFile { inner, root: self.root.clone() }))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.inner.create_dir(&self.outer(path)?, attributes).await.map_err(|e| inside(&self.root, e))
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.inner.remove_file(&self.outer(path)?).await.map_err(|e| inside(&self.root, e))
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        refuse_root(path)?;
        self.inner.remove_dir(&self.outer(path)?).await.map_err(|e| inside(&self.root, e))
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        refuse_root(from)?;
        refuse_root(to)?;
        let (from, to) = (self.outer(from)?, self.outer(to)?);
        self.inner.rename(&from, &to, replace).await.map_err(|e| inside(&self.root, e))
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let path = self.outer(path)?;
        self.inner.set_attributes(&path, attributes, follow).await.map_err(|e| inside(&self.root, e))
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (from, to) = (self.outer(from)?, self.outer(to)?);
        self.inner.copy(&from, &to, replace).await.map_err(|e| inside(&self.root, e))
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        self.inner.symlink(target, &self.outer(at)?).await.map_err(|e| inside(&self.root, e))
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        let (from, to) = (self.outer(from)?, self.outer(to)?);
        self.inner.hard_link(&from, &to).await.map_err(|e| inside(&self.root, e))
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        self.inner.read_link(&self.outer(path)?).await.map_err(|e| inside(&self.root, e))
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        let outer = self.inner.canonicalize(&self.outer(path)?).await.map_err(|e| inside(&self.root, e))?;
        outer.rebase(&self.root, &VPath::root()).ok_or_else(|| {
            Error::new(ErrorKind::PermissionDenied).with_detail("the path leads out of this tree")
        })
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        self.inner.space(&self.outer(path)?).await.map_err(|e| inside(&self.root, e))
    }

    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        let path = self.outer(path)?;
        self.inner.checksum(&path, algorithm, range).await.map_err(|e| inside(&self.root, e))
    }

    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        let stage = match stage {
            Stage::New { near, note } => Stage::New { near: self.outer(near)?, note: note.clone() },
            Stage::Reopen(id) => Stage::Reopen(id.clone()),
        };
        let (id, inner) = self.inner.stage(&stage).await.map_err(|e| inside(&self.root, e))?;
        Ok((id, Arc::new(RootedFile { inner, root: self.root.clone() })))
    }

    async fn publish(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        let to = self.outer(to)?;
        self.inner.publish(id, &to, replace, keep).await.map_err(|e| inside(&self.root, e))
    }
}

fn refuse_root(path: &VPath) -> Result<()> {
    if path.is_root() {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the root stays where it is"));
    }
    Ok(())
}

struct RootedPages {
    inner: Listing,
    root: VPath,
}

#[async_trait]
impl Pages for RootedPages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        self.inner.next_page().await.map_err(|e| inside(&self.root, e))
    }
}

/// An open file whose errors may name paths (a remote behind a gate of its own).
struct RootedFile {
    inner: Arc<dyn File>,
    root: VPath,
}

#[async_trait]
impl FileLayer for RootedFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        self.inner.read_into(offset, len, buf).await.map_err(|e| inside(&self.root, e))
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        self.inner.write_at(offset, data).await.map_err(|e| inside(&self.root, e))
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.inner.metadata().await.map_err(|e| inside(&self.root, e))
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.inner.set_attributes(attributes).await.map_err(|e| inside(&self.root, e))
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await.map_err(|e| inside(&self.root, e))
    }

    async fn lend(&self, range: Range<u64>) -> Result<Option<Lent>> {
        self.inner.lend(range).await.map_err(|e| inside(&self.root, e))
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        self.inner.commit(options).await.map_err(|e| inside(&self.root, e))
    }

    async fn park(&self) -> Result<()> {
        self.inner.park().await.map_err(|e| inside(&self.root, e))
    }

    async fn abort(&self) -> Result<()> {
        self.inner.abort().await.map_err(|e| inside(&self.root, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Link;
    use crate::layers::staged::tests::store::Little;
    use crate::operation::OperationKind;

    fn p(path: &str) -> VPath {
        VPath::absolute(path).unwrap()
    }

    /// Answers for some paths as a store over links and a gated remote would.
    struct Odd(Little);

    #[async_trait]
    impl Layer for Odd {
        fn inner(&self) -> &dyn Filesystem {
            &self.0
        }

        async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
            let link = |at: &str| Err(Error::link(Link { at: p(at), target: b"/x".to_vec() }));
            match path.as_bytes() {
                b"/homes/ann/link/f" => link("/homes/ann/link"),
                b"/homes/bob/f" => link("/homes/bob"),
                b"/homes/ann/remote" => {
                    Err(Error::from(ErrorKind::NotFound).at(OperationKind::Stat, Some(path)))
                }
                b"/homes/ann/odd" => {
                    Err(Error::from(ErrorKind::NotFound).at(OperationKind::Stat, Some(&p("/etc"))))
                }
                _ => self.0.stat(path, follow).await,
            }
        }

        async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
            Ok(if path == &p("/homes/ann/out") { p("/etc") } else { path.clone() })
        }
    }

    async fn bench() -> (Arc<Odd>, Rooted) {
        let store = Arc::new(Odd(Little::new()));
        for dir in ["/homes", "/homes/ann"] {
            store.0.create_dir(&p(dir), &Attributes::none()).await.unwrap();
        }
        let rooted = Rooted::new(Arc::clone(&store) as _, p("/homes/ann"));
        (store, rooted)
    }

    #[tokio::test]
    async fn paths_lie_below_the_root() {
        let (store, rooted) = bench().await;
        let fs: &dyn Filesystem = &rooted;
        fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        let file = fs.open(&p("/d/f"), &OpenOptions::create()).await.unwrap();
        file.write_at(0, Bytes::from_static(b"abc")).await.unwrap();
        fs.rename(&p("/d/f"), &p("/g"), Replace::No).await.unwrap();
        assert_eq!(store.0.stat(&p("/homes/ann/g"), Follow::No).await.unwrap().size, 3);
        let page = fs.list(&VPath::root(), &ListOptions::default()).await.unwrap().next_page().await.unwrap();
        assert_eq!(page.unwrap().len(), 2);
        let near = Stage::New { near: p("/d/s"), note: Bytes::new() };
        let (id, _) = fs.stage(&near).await.unwrap();
        fs.publish(&id, &p("/d/s"), Replace::No, false).await.unwrap();
        assert_eq!(store.0.stat(&p("/homes/ann/d/s"), Follow::No).await.unwrap().size, 0);
        assert_eq!(fs.remove_dir(&VPath::root()).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
        let long = VPath::absolute(vec![b'x'; crate::path::MAX_PATH - 1]).unwrap();
        assert_eq!(fs.stat(&long, Follow::No).await.unwrap_err().kind(), ErrorKind::InvalidPath);
    }

    #[tokio::test]
    async fn links_errors_and_canonical_paths_are_told_from_the_root() {
        let (_, rooted) = bench().await;
        let fs: &dyn Filesystem = &rooted;
        let e = fs.stat(&p("/link/f"), Follow::Yes).await.unwrap_err();
        assert_eq!(e.as_link(), Some(&Link { at: p("/link"), target: b"/x".to_vec() }));
        assert_eq!(fs.stat(&p("/remote"), Follow::Yes).await.unwrap_err().path(), Some(&p("/remote")));
        assert_eq!(fs.stat(&p("/odd"), Follow::Yes).await.unwrap_err().path(), None);
        assert_eq!(fs.canonicalize(&p("/d")).await.unwrap(), p("/d"));
        assert_eq!(fs.canonicalize(&p("/out")).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_root_behind_a_link_is_refused_without_a_link() {
        let store = Arc::new(Odd(Little::new()));
        let rooted = Rooted::new(store, p("/homes/bob"));
        let e = Filesystem::stat(&rooted, &p("/f"), Follow::Yes).await.unwrap_err();
        assert_eq!((e.kind(), e.as_link()), (ErrorKind::LinkLoop, None));
    }
}
