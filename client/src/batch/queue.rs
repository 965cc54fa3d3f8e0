//! What a batch has found and not begun.
//!
//! Listings run ahead of the transfers, so that totals are known early, but not without end: while very many files
//! wait, no directory is begun. One that was begun is read to its end, because a server lets no listing lie, and a
//! connection with one is no good for anything else; so files that wait are kept as little as they can be. What is
//! looked at and what is moved have bounds of their own: neither ever waits for the other's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use session_core::error::Result;
use session_core::metadata::{FileType, Metadata};
use session_core::path::VPath;
use tokio::sync::OnceCell;

use super::links::Trail;
use super::run::{Job, LARGE, SMALL_PER_SLOT};

/// While more files than these wait, no further directory is looked into.
const AHEAD: usize = 50_000;

/// Something to look at: a directory, or what somebody named.
pub(super) struct Look {
    pub(super) from: VPath,
    pub(super) to: VPath,
    /// The source that was named.
    pub(super) root: VPath,
    /// The directory in which it was found.
    pub(super) within: Option<Arc<Pair>>,
    /// `None` for one that was named and not looked at.
    pub(super) metadata: Option<Metadata>,
    /// The way to it, where links are followed.
    pub(super) trail: Option<Arc<Trail>>,
}

/// A directory and where it goes.
pub(super) struct Pair {
    pub(super) from: VPath,
    pub(super) to: VPath,
    /// The source that was named.
    pub(super) root: VPath,
    /// The one around it.
    pub(super) above: Option<Arc<Pair>>,
    /// The way to it, where links are followed.
    pub(super) trail: Option<Arc<Trail>>,
    /// The directory itself, where this batch is to make it.
    pub(super) metadata: Option<Metadata>,
    /// Whether this batch made the one that it goes to, so that nothing was in it; not set before it is there.
    pub(super) made: OnceCell<bool>,
}

impl Pair {
    /// One that is there.
    pub(super) fn there(from: VPath, to: VPath) -> Arc<Pair> {
        let made = OnceCell::new_with(Some(false));
        Arc::new(Pair { root: from.clone(), from, to, above: None, trail: None, metadata: None, made })
    }
}

/// A file as a listing showed it, in little: a million of them may wait.
pub(super) struct Waiting {
    within: Arc<Pair>,
    name: Box<[u8]>,
    /// Its name at the target, where that is another one.
    renamed: Option<Box<[u8]>>,
    file_type: FileType,
    size: u64,
    modified: Option<SystemTime>,
    accessed: Option<SystemTime>,
    mode: Option<u32>,
}

impl Waiting {
    /// An entry of this name of a directory, which gets another one.
    pub(super) fn new(within: &Arc<Pair>, name: &[u8], renamed: &[u8], metadata: &Metadata) -> Self {
        Waiting {
            within: Arc::clone(within),
            renamed: (renamed != name).then(|| renamed.into()),
            name: name.into(),
            file_type: metadata.file_type,
            size: metadata.size,
            modified: metadata.modified,
            accessed: metadata.accessed,
            mode: metadata.mode,
        }
    }

    /// Its size, where it is a file.
    pub(super) fn size(&self) -> Option<u64> {
        (self.file_type == FileType::File).then_some(self.size)
    }

    /// The directory in which it was found.
    pub(super) fn within(&self) -> &Arc<Pair> {
        &self.within
    }

    /// Whether it is a symbolic link that may lead to a directory to go into.
    pub(super) fn may_lead(&self) -> bool {
        self.file_type == FileType::Symlink && self.within.trail.is_some()
    }

    /// Where it is, where it goes, and what moving it needs to know of it. Errors: `InvalidPath`.
    pub(super) fn whole(&self) -> Result<(VPath, VPath, Metadata)> {
        let metadata = Metadata {
            modified: self.modified,
            accessed: self.accessed,
            mode: self.mode,
            ..Metadata::new(self.file_type, self.size)
        };
        let renamed = self.renamed.as_ref().unwrap_or(&self.name);
        Ok((self.within.from.join(&self.name)?, self.within.to.join(renamed)?, metadata))
    }
}

/// What a look found.
#[derive(Default)]
pub(super) struct Finds {
    pub(super) looks: Vec<Look>,
    pub(super) files: Vec<Waiting>,
}

/// What waits.
pub(super) struct Queue {
    looks: VecDeque<Look>,
    files: VecDeque<Waiting>,
}

impl Queue {
    /// What somebody named.
    pub(super) fn of(jobs: Vec<Job>) -> Self {
        let named = |job: Job| Look {
            root: job.from.clone(),
            from: job.from,
            to: job.to,
            within: None,
            metadata: None,
            trail: None,
        };
        Queue { looks: jobs.into_iter().map(named).collect(), files: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.files.is_empty()
    }

    /// Takes in what was found. Directories come before those that were found earlier, so that the tree is walked in
    /// its depth and few are known at a time.
    pub(super) fn add(&mut self, found: Finds) {
        for look in found.looks.into_iter().rev() {
            self.looks.push_front(look);
        }
        self.files.extend(found.files);
    }

    pub(super) fn has_looks(&self) -> bool {
        !self.looks.is_empty()
    }

    /// Whether a look may begin: there is one, and few files wait.
    pub(super) fn may_look(&self) -> bool {
        self.has_looks() && self.files.len() < AHEAD
    }

    pub(super) fn look(&mut self) -> Option<Look> {
        self.looks.pop_front()
    }

    /// What the next file takes of the slots; `None` where there is none.
    pub(super) fn weight(&self) -> Option<u32> {
        let next = self.files.front()?;
        let is_large = next.size().is_some_and(|size| size >= LARGE);
        Some(if is_large { u32::try_from(SMALL_PER_SLOT).unwrap_or(1) } else { 1 })
    }

    pub(super) fn file(&mut self) -> Option<Waiting> {
        self.files.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(path: &str) -> VPath {
        VPath::absolute(path).unwrap()
    }

    fn look(path: &str) -> Look {
        let metadata = Some(Metadata::new(FileType::Directory, 0));
        Look { from: p(path), to: p(path), root: p("/"), within: None, metadata, trail: None }
    }

    #[test]
    fn a_tree_is_walked_in_its_depth_and_in_order() {
        let mut queue =
            Queue::of(vec![Job { from: p("/a"), to: p("/x") }, Job { from: p("/b"), to: p("/y") }]);
        assert!(queue.look().is_some_and(|l| l.from == p("/a") && l.metadata.is_none()));
        queue.add(Finds { looks: vec![look("/a/1"), look("/a/2")], files: Vec::new() });
        let mut order = Vec::new();
        while let Some(l) = queue.look() {
            order.push(l.from);
        }
        assert_eq!(order, [p("/a/1"), p("/a/2"), p("/b")]);
    }

    #[test]
    fn no_directory_is_begun_while_very_many_files_wait() {
        let mut queue = Queue::of(vec![Job { from: p("/a"), to: p("/x") }]);
        let within = Pair::there(p("/d"), p("/e"));
        let file = || Waiting::new(&within, b"f", b"f", &Metadata::new(FileType::File, 1));
        queue.add(Finds { looks: Vec::new(), files: (0..AHEAD).map(|_| file()).collect() });
        assert!(queue.has_looks() && !queue.may_look());
        assert!(queue.file().is_some() && queue.may_look());
    }

    #[test]
    fn a_file_that_waits_is_little_and_whole_again_when_its_turn_comes() {
        assert!(std::mem::size_of::<Waiting>() <= 120);
        let within = Pair::there(p("/d"), p("/e"));
        let mut metadata = Metadata::new(FileType::File, LARGE);
        (metadata.mode, metadata.modified) = (Some(0o640), Some(SystemTime::UNIX_EPOCH));
        let mut queue = Queue::of(Vec::new());
        queue.add(Finds { looks: Vec::new(), files: vec![Waiting::new(&within, b"F", b"f", &metadata)] });
        assert_eq!(queue.weight(), u32::try_from(SMALL_PER_SLOT).ok());
        assert_eq!(queue.file().unwrap().whole().unwrap(), (p("/d/F"), p("/e/f"), metadata));
        assert!(queue.is_empty());
    }
}
