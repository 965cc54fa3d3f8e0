//! A little store for these tests: every call yields before and after its effect, so that a caller can
//! give up at each point; counters show what happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::task::yield_now;

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::metadata::{Attributes, DirEntry, FileType, Metadata};
use crate::path::VPath;

#[derive(Clone)]
struct Content {
    data: Vec<u8>,
    mode: u32,
    version: u64,
}

type Shared = Arc<Mutex<Content>>;

#[derive(Clone)]
enum Node {
    Dir,
    File(Shared),
}

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<VPath, Node>,
    staged: BTreeMap<StageId, (Shared, Bytes)>,
    next: u64,
    fail_publish: Option<ErrorKind>,
    publishes: usize,
    slow: usize,
    /// What is staged may be lost.
    forgets: bool,
    /// The size beyond which files find no room.
    room: Option<usize>,
}

pub(in crate::layers) struct Little {
    tree: Arc<Mutex<Tree>>,
    pub(in crate::layers) ordered: bool,
    /// Entries on a page.
    pub(in crate::layers) page: usize,
}

impl Little {
    pub(in crate::layers) fn new() -> Self {
        let mut tree = Tree::default();
        tree.nodes.insert(VPath::root(), Node::Dir);
        Little { tree: Arc::new(Mutex::new(tree)), ordered: false, page: 3 }
    }

    /// One that promises nothing of what is staged.
    pub(in crate::layers) fn forgetting() -> Self {
        let store = Little::new();
        store.tree().forgets = true;
        store
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap()
    }

    /// The next publish fails with this.
    pub(in crate::layers) fn fail_publish(&self, kind: ErrorKind) {
        self.tree().fail_publish = Some(kind);
    }

    /// How often a publish was asked for.
    pub(in crate::layers) fn publishes(&self) -> usize {
        self.tree().publishes
    }

    /// Writes take this many steps from now on.
    pub(in crate::layers) fn slow_writes(&self, steps: usize) {
        self.tree().slow = steps;
    }

    /// Files beyond this size find no room from now on.
    pub(in crate::layers) fn fill(&self, room: usize) {
        self.tree().room = Some(room);
    }

    /// Takes a directory away with all that is published in it, behind everybody's back.
    pub(in crate::layers) fn vanish(&self, dir: &VPath) {
        self.tree().nodes.retain(|path, _| !path.starts_with(dir));
    }

    fn file(&self, path: &VPath) -> Result<Shared> {
        match self.tree().nodes.get(path) {
            Some(Node::File(file)) => Ok(Arc::clone(file)),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

fn describe(content: &Content) -> Metadata {
    Metadata {
        mode: Some(content.mode),
        modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(content.version)),
        etag: Some(content.version.to_string().into()),
        ..Metadata::new(FileType::File, content.data.len() as u64)
    }
}

impl Tree {
    fn parent(&self, path: &VPath) -> Result<()> {
        match self.nodes.get(&path.parent().unwrap()) {
            Some(Node::Dir) => Ok(()),
            Some(_) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn fresh(&mut self) -> Shared {
        self.next += 1;
        Arc::new(Mutex::new(Content { data: Vec::new(), mode: 0o644, version: self.next }))
    }

    fn children(&self, dir: &VPath) -> Vec<VPath> {
        self.nodes.keys().filter(|p| p.parent().as_ref() == Some(dir)).cloned().collect()
    }
}

#[async_trait]
impl Filesystem for Little {
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
            set_mode: true,
            empty_dirs: true,
            atomic_commit: true,
            conditional_write: true,
            server_copy: true,
            ordered_list: self.ordered,
            ..Capabilities::none()
        }
    }

    async fn stat(&self, path: &VPath, _: Follow) -> Result<Metadata> {
        yield_now().await;
        match self.tree().nodes.get(path) {
            Some(Node::Dir) => Ok(Metadata::new(FileType::Directory, 0)),
            Some(Node::File(file)) => Ok(describe(&file.lock().unwrap())),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        yield_now().await;
        let mut entries: Vec<_> = {
            let tree = self.tree();
            if !tree.nodes.contains_key(dir) {
                return Err(ErrorKind::NotFound.into());
            }
            let entry = |p: VPath| DirEntry {
                name: Bytes::copy_from_slice(p.name()),
                metadata: match &tree.nodes[&p] {
                    Node::Dir => Metadata::new(FileType::Directory, 0),
                    Node::File(file) => describe(&file.lock().unwrap()),
                },
            };
            tree.children(dir).into_iter().map(entry).collect()
        };
        let key = |e: &DirEntry| {
            let slash: &[u8] = if options.order == Order::Key && e.metadata.is_dir() { b"/" } else { b"" };
            [&e.name[..], slash].concat()
        };
        if self.ordered && options.order != Order::Any {
            entries.sort_by_key(key);
            if let Some(after) = &options.after {
                entries.retain(|e| e.name > *after);
            }
        } else {
            entries.reverse();
        }
        struct Paged(Vec<DirEntry>, usize);
        #[async_trait]
        impl Pages for Paged {
            async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
                yield_now().await;
                let page: Vec<_> = self.0.drain(..self.1.min(self.0.len())).collect();
                Ok((!page.is_empty()).then_some(page))
            }
        }
        Ok(Box::new(Paged(entries, self.page)))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        yield_now().await;
        let file = match self.file(path) {
            Err(e) if e.kind() == ErrorKind::NotFound && options.create => {
                let mut tree = self.tree();
                tree.parent(path)?;
                let file = tree.fresh();
                tree.nodes.insert(path.clone(), Node::File(Arc::clone(&file)));
                file
            }
            other => other?,
        };
        if options.truncate {
            file.lock().unwrap().data.clear();
        }
        Ok(Arc::new(Open { file, tree: Arc::clone(&self.tree) }))
    }

    async fn create_dir(&self, path: &VPath, _: &Attributes) -> Result<()> {
        yield_now().await;
        let mut tree = self.tree();
        tree.parent(path)?;
        if tree.nodes.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        tree.nodes.insert(path.clone(), Node::Dir);
        Ok(())
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        yield_now().await;
        self.file(path)?;
        self.tree().nodes.remove(path);
        yield_now().await;
        Ok(())
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        yield_now().await;
        let mut tree = self.tree();
        match tree.nodes.get(path) {
            Some(Node::Dir) if !tree.children(path).is_empty() => Err(ErrorKind::NotEmpty.into()),
            Some(Node::Dir) => {
                tree.nodes.remove(path);
                Ok(())
            }
            Some(_) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        yield_now().await;
        {
            let mut tree = self.tree();
            if !tree.nodes.contains_key(from) {
                return Err(ErrorKind::NotFound.into());
            }
            tree.parent(to)?;
            if replace == Replace::No && tree.nodes.contains_key(to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let moved: Vec<_> = tree.nodes.keys().filter(|p| p.starts_with(from)).cloned().collect();
            for path in moved {
                let node = tree.nodes.remove(&path).unwrap();
                tree.nodes.insert(path.rebase(from, to).unwrap(), node);
            }
        }
        yield_now().await;
        Ok(())
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, _: Follow) -> Result<()> {
        yield_now().await;
        let file = self.file(path)?;
        Open { file, tree: Arc::clone(&self.tree) }.set_attributes(attributes).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        yield_now().await;
        let content = self.file(from)?.lock().unwrap().clone();
        let mut tree = self.tree();
        if replace == Replace::No && tree.nodes.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        tree.nodes.insert(to.clone(), Node::File(Arc::new(Mutex::new(content))));
        Ok(())
    }

    async fn stage(&self, stage: &Stage) -> Result<(StageId, Arc<dyn File>)> {
        yield_now().await;
        let answer = {
            let mut tree = self.tree();
            let (id, file) = match stage {
                Stage::New { near, note } => {
                    tree.parent(near)?;
                    let file = tree.fresh();
                    let id = StageId(format!("s{}", tree.next).into());
                    tree.staged.insert(id.clone(), (Arc::clone(&file), note.clone()));
                    (id, file)
                }
                Stage::Reopen(id) => {
                    let (file, _) = tree.staged.get(id).ok_or(ErrorKind::NotFound)?;
                    (id.clone(), Arc::clone(file))
                }
            };
            (id, Arc::new(Open { file, tree: Arc::clone(&self.tree) }) as Arc<dyn File>)
        };
        yield_now().await;
        Ok(answer)
    }

    async fn publish(&self, id: &StageId, to: &VPath, replace: Replace, keep: bool) -> Result<Metadata> {
        let lease = crate::lease::current();
        self.tree().publishes += 1;
        yield_now().await;
        let metadata = lease.unless_cut(|| {
            let mut tree = self.tree();
            if let Some(kind) = tree.fail_publish.take() {
                return Err(kind.into());
            }
            tree.parent(to)?;
            let file = tree.staged.get(id).ok_or(ErrorKind::NotFound)?.0.clone();
            match tree.nodes.get(to) {
                Some(Node::Dir) => return Err(ErrorKind::IsADirectory.into()),
                Some(_) if replace == Replace::No => return Err(ErrorKind::AlreadyExists.into()),
                Some(Node::File(old)) if keep => {
                    let mode = old.lock().unwrap().mode;
                    file.lock().unwrap().mode = mode;
                }
                _ => {}
            }
            tree.staged.remove(id);
            tree.nodes.insert(to.clone(), Node::File(Arc::clone(&file)));
            Ok(describe(&file.lock().unwrap()))
        })?;
        yield_now().await;
        Ok(metadata)
    }

    async fn unstage(&self, id: &StageId) -> Result<()> {
        yield_now().await;
        self.tree().staged.remove(id);
        Ok(())
    }

    async fn staged(&self) -> Result<Vec<StageEntry>> {
        let tree = self.tree();
        let entry = |(id, (file, note)): (&StageId, &(Shared, Bytes))| StageEntry {
            id: id.clone(),
            note: note.clone(),
            size: file.lock().unwrap().data.len() as u64,
            modified: None,
        };
        Ok(tree.staged.iter().map(entry).collect())
    }
}

struct Open {
    file: Shared,
    tree: Arc<Mutex<Tree>>,
}

impl Open {
    fn changed(&self) -> MutexGuard<'_, Content> {
        let version = {
            let mut tree = self.tree.lock().unwrap();
            tree.next += 1;
            tree.next
        };
        let mut content = self.file.lock().unwrap();
        content.version = version;
        content
    }
}

#[async_trait]
impl File for Open {
    async fn read_into(&self, offset: u64, len: usize, mut buf: BytesMut) -> Result<BytesMut> {
        yield_now().await;
        let content = self.file.lock().unwrap();
        let rest = content.data.get(offset as usize..).unwrap_or_default();
        buf.extend_from_slice(&rest[..len.min(rest.len())]);
        Ok(buf)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let steps = 1 + self.tree.lock().unwrap().slow;
        for _ in 0..steps {
            yield_now().await;
        }
        let end = offset as usize + data.len();
        if self.tree.lock().unwrap().room.is_some_and(|room| end > room) {
            return Err(ErrorKind::NoSpace.into());
        }
        {
            let mut content = self.changed();
            if content.data.len() < end {
                content.data.resize(end, 0);
            }
            content.data[offset as usize..end].copy_from_slice(&data);
        }
        yield_now().await;
        Ok(())
    }

    async fn metadata(&self) -> Result<Metadata> {
        yield_now().await;
        Ok(describe(&self.file.lock().unwrap()))
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        yield_now().await;
        let mut content = self.changed();
        if let Some(size) = attributes.size {
            content.data.resize(size as usize, 0);
        }
        content.mode = attributes.mode.unwrap_or(content.mode);
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn keep(&self) -> Result<Option<Unfinished>> {
        yield_now().await;
        let keeps = !self.tree.lock().unwrap().forgets;
        Ok(keeps.then(|| Unfinished { words: "kept".into(), spared: 0 }))
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        self.metadata().await
    }

    async fn abort(&self) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported))
    }
}
