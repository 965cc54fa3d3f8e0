//! Conveniences over any [`Filesystem`], as an extension trait with one implementation, so that no layer
//! can lose them.
//!
//! Everything here is made of the plain operations and passes whatever stands around them (gate, layers).
//! Nothing that descends follows a symbolic link: a link is removed or reported, never entered. Dropping a
//! future stops between two operations; what was done stays done.
//!
//! Deliberately absent: recursive copies and parallelism (see [`crate::batch`]).

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::{CommitOptions, Filesystem, Follow, ListOptions, OpenOptions};
use crate::metadata::{Attributes, DirEntry, FileType, Metadata};
use crate::path::VPath;

/// How much is read or written by one call, bytes.
const STEP: usize = 256 * 1024;

/// The most entries that [`FilesystemExt::list_all`] gives, and that a walk keeps in mind.
pub const MAX_ENTRIES: usize = 1_000_000;

/// Where a walk ends with `TooLarge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Levels below the start; entries at that depth are reported, not entered.
    pub depth: usize,
    /// Entries reported.
    pub entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { depth: 256, entries: MAX_ENTRIES }
    }
}

/// What every filesystem can do beside its own operations.
#[async_trait]
pub trait FilesystemExt {
    /// The whole content of a file of at most `limit` bytes. Errors: those of `open`; `TooLarge`.
    async fn read_to_vec(&self, path: &VPath, limit: usize) -> Result<Vec<u8>>;

    /// Makes or replaces a file with this content and commits it. A failed write is aborted.
    async fn write_all(&self, path: &VPath, data: Bytes) -> Result<Metadata>;

    /// Whether there is an entry, a link counting as one. Errors other than "missing" are errors.
    async fn exists(&self, path: &VPath) -> Result<bool>;

    /// Makes a directory and those above it; it may be there. Errors: `NotADirectory` where something
    /// else is.
    async fn create_dir_all(&self, path: &VPath) -> Result<()>;

    /// Removes an entry with all below it; links are removed, not followed. Missing is `NotFound`. The
    /// root is emptied and stays.
    async fn remove_dir_all(&self, path: &VPath) -> Result<()>;

    /// A whole listing, by the bytes of the names. `TooLarge` beyond [`MAX_ENTRIES`].
    async fn list_all(&self, dir: &VPath) -> Result<Vec<DirEntry>>;

    /// Everything below `dir`, a directory before what is in it, names in order; links are not entered.
    /// `TooLarge` where there is more than `bounds` allow.
    async fn walk(&self, dir: &VPath, bounds: Bounds) -> Result<Vec<(VPath, Metadata)>>;
}

fn too_large(words: &'static str) -> Error {
    Error::new(ErrorKind::TooLarge).with_detail(words)
}

#[async_trait]
impl<F: Filesystem + ?Sized> FilesystemExt for F {
    async fn read_to_vec(&self, path: &VPath, limit: usize) -> Result<Vec<u8>> {
        let file = self.open(path, &OpenOptions::read()).await?;
        let mut buf = BytesMut::new();
        loop {
            let before = buf.len();
            // One byte beyond the limit tells a file that just fits from one that does not.
            let want = STEP.min((limit - before).saturating_add(1));
            buf = file.read_into(before as u64, want, buf).await?;
            if buf.len() == before {
                return Ok(buf.into());
            }
            if buf.len() > limit {
                return Err(too_large("the file is larger than what is wanted of it"));
            }
        }
    }

    async fn write_all(&self, path: &VPath, data: Bytes) -> Result<Metadata> {
        let size = data.len() as u64;
        let options = OpenOptions { size_hint: Some(size), ..OpenOptions::create() };
        let file = self.open(path, &options).await?;
        let mut left = data;
        let mut offset = 0;
        while !left.is_empty() {
            let piece = left.split_to(STEP.min(left.len()));
            let n = piece.len() as u64;
            if let Err(e) = file.write_at(offset, piece).await {
                // The first error is the one that tells.
                let _ = file.abort().await;
                return Err(e);
            }
            offset += n;
        }
        file.commit(&CommitOptions { expected_size: Some(size), ..CommitOptions::default() }).await
    }

    async fn exists(&self, path: &VPath) -> Result<bool> {
        match self.stat(path, Follow::No).await {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn create_dir_all(&self, path: &VPath) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        loop {
            match self.stat(&at, Follow::Yes).await {
                Ok(metadata) if metadata.is_dir() => break,
                Ok(_) => return Err(Error::new(ErrorKind::NotADirectory)),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            let Some(parent) = at.parent() else { break };
            missing.push(std::mem::replace(&mut at, parent));
        }
        for dir in missing.iter().rev() {
            match self.create_dir(dir, &Attributes::none()).await {
                Ok(()) => {}
                // Somebody else was faster, perhaps with something that is no directory.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    if !self.stat(dir, Follow::Yes).await?.is_dir() {
                        return Err(Error::new(ErrorKind::NotADirectory));
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    async fn remove_dir_all(&self, path: &VPath) -> Result<()> {
        /// What is left to do, the last one first.
        enum Step {
            Enter(VPath),
            Leave(VPath),
        }
        if !self.stat(path, Follow::No).await?.is_dir() {
            return self.remove_file(path).await;
        }
        let gone_is_fine = |done: Result<()>| match done {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        };
        let mut steps = vec![Step::Enter(path.clone())];
        while let Some(step) = steps.pop() {
            match step {
                Step::Leave(dir) if dir.is_root() => {}
                Step::Leave(dir) => gone_is_fine(self.remove_dir(&dir).await)?,
                Step::Enter(dir) => {
                    steps.push(Step::Leave(dir.clone()));
                    let mut pages = match self.list(&dir, &ListOptions::default()).await {
                        Ok(pages) => pages,
                        Err(e) if e.kind() == ErrorKind::NotFound => continue,
                        Err(e) => return Err(e),
                    };
                    while let Some(page) = pages.next_page().await? {
                        for entry in page {
                            let at = dir.join(&entry.name)?;
                            if entry.metadata.is_dir() {
                                steps.push(Step::Enter(at));
                            } else {
                                gone_is_fine(self.remove_file(&at).await)?;
                            }
                        }
                        if steps.len() > MAX_ENTRIES {
                            return Err(too_large("there are too many directories"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn list_all(&self, dir: &VPath) -> Result<Vec<DirEntry>> {
        let mut pages = self.list(dir, &ListOptions::default()).await?;
        let mut all = Vec::new();
        while let Some(page) = pages.next_page().await? {
            all.extend(page);
            if all.len() > MAX_ENTRIES {
                return Err(too_large("the directory holds too many entries"));
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn walk(&self, dir: &VPath, bounds: Bounds) -> Result<Vec<(VPath, Metadata)>> {
        let mut out: Vec<(VPath, Metadata)> = Vec::new();
        let mut left: Vec<(VPath, Metadata, usize)> = Vec::new();
        let mut enter = Some((dir.clone(), 0));
        loop {
            if let Some((dir, depth)) = enter.take() {
                for entry in self.list_all(&dir).await?.into_iter().rev() {
                    left.push((dir.join(&entry.name)?, entry.metadata, depth + 1));
                }
                if out.len() + left.len() > bounds.entries {
                    return Err(too_large("the tree holds too many entries"));
                }
            }
            let Some((path, metadata, depth)) = left.pop() else { return Ok(out) };
            if metadata.file_type == FileType::Directory && depth < bounds.depth {
                enter = Some((path.clone(), depth));
            }
            out.push((path, metadata));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn p(path: &str) -> VPath {
        VPath::absolute(path).unwrap()
    }

    #[tokio::test]
    async fn a_tree_is_made_walked_and_removed_without_following_links() {
        let fs: std::sync::Arc<dyn Filesystem> = std::sync::Arc::new(MemoryStore::new());
        fs.create_dir_all(&p("/a/b/c")).await.unwrap();
        fs.create_dir_all(&p("/a/b/c")).await.unwrap();
        fs.create_dir_all(&p("/kept")).await.unwrap();
        fs.write_all(&p("/kept/file"), Bytes::from_static(b"x")).await.unwrap();
        fs.write_all(&p("/a/b/file"), Bytes::from(vec![7; STEP + 1])).await.unwrap();
        fs.symlink(b"/kept", &p("/a/b/c/link")).await.unwrap();
        let walked = fs.walk(&p("/a"), Bounds::default()).await.unwrap();
        let paths: Vec<_> = walked.iter().map(|(path, _)| path.display()).collect();
        assert_eq!(paths, ["/a/b", "/a/b/c", "/a/b/c/link", "/a/b/file"]);
        let shallow = fs.walk(&p("/"), Bounds { depth: 1, entries: 10 }).await.unwrap();
        assert_eq!(shallow.len(), 2);
        let narrow = fs.walk(&p("/"), Bounds { depth: 9, entries: 3 }).await;
        assert_eq!(narrow.unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(fs.create_dir_all(&p("/kept/file/x")).await.unwrap_err().kind(), ErrorKind::NotADirectory);
        fs.remove_dir_all(&p("/a")).await.unwrap();
        assert!(!fs.exists(&p("/a")).await.unwrap());
        assert!(fs.exists(&p("/kept/file")).await.unwrap());
        assert_eq!(fs.remove_dir_all(&p("/a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn reading_stops_at_the_limit() {
        let fs = MemoryStore::new();
        fs.write_all(&p("/f"), Bytes::from_static(b"12345")).await.unwrap();
        assert_eq!(fs.read_to_vec(&p("/f"), 5).await.unwrap(), b"12345");
        assert_eq!(fs.read_to_vec(&p("/f"), 4).await.unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
