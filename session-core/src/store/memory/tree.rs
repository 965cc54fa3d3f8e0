//! The tree of a memory store: nodes by number, names that lead to them, and the operations on names.
//!
//! Everything here runs under the store's one lock and never waits. A node lives as long as a name, an
//! open file or the staging area holds it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::content::Content;
use crate::error::{Error, ErrorKind, Link, Result};
use crate::fs::{Follow, Order, Properties, Replace};
use crate::metadata::{Attributes, DirEntry, FileType, Metadata};
use crate::path::VPath;

/// The number of the root.
pub(super) const ROOT: u64 = 1;
/// The longest name, in bytes.
pub(super) const MAX_NAME: usize = 255;
/// The longest text of a symbolic link, in bytes.
const MAX_LINK: usize = 4095;
/// The longest name and the longest value of a property, in bytes.
const MAX_PROPERTY: (usize, usize) = (255, 64 * 1024);

pub(super) enum Body {
    File(Content),
    Dir(BTreeMap<Bytes, u64>),
    Link(Bytes),
}

pub(super) struct Node {
    pub(super) body: Body,
    pub(super) mode: u32,
    uid: u32,
    gid: u32,
    accessed: SystemTime,
    pub(super) modified: SystemTime,
    created: SystemTime,
    pub(super) properties: Properties,
    /// Names that lead here.
    links: u64,
    /// Open files and staged entries that hold it.
    pub(super) held: u64,
    /// Grows with every change of the content.
    version: u64,
}

impl Node {
    pub(super) fn file_type(&self) -> FileType {
        match self.body {
            Body::File(_) => FileType::File,
            Body::Dir(_) => FileType::Directory,
            Body::Link(_) => FileType::Symlink,
        }
    }

    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.size(),
            Body::Dir(_) => 0,
            Body::Link(target) => target.len() as u64,
        }
    }

    pub(super) fn metadata(&self, id: u64) -> Metadata {
        let is_file = matches!(self.body, Body::File(_));
        Metadata {
            modified: Some(self.modified),
            accessed: Some(self.accessed),
            created: Some(self.created),
            mode: Some(self.mode),
            uid: Some(self.uid),
            gid: Some(self.gid),
            links: Some(self.links),
            etag: is_file.then(|| self.etag(id)),
            properties: (self.file_type() != FileType::Symlink).then(|| Arc::clone(&self.properties)),
            ..Metadata::new(self.file_type(), self.size())
        }
    }

    pub(super) fn etag(&self, id: u64) -> Arc<str> {
        format!("{id:x}-{:x}", self.version).into()
    }

    /// The content has changed.
    pub(super) fn touch(&mut self, now: SystemTime) {
        self.modified = now;
        self.version += 1;
    }
}

/// Refuses what can be refused before anything is set.
pub(super) fn check(attributes: &Attributes, file_type: FileType) -> Result<()> {
    let bad = |words: &'static str| Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
    if attributes.mode.is_some_and(|m| m > 0o7777) {
        return bad("permission bits go up to 7777");
    }
    if file_type == FileType::Symlink && (attributes.mode.is_some() || !attributes.properties.is_empty()) {
        return bad("a link has neither permission bits nor properties of its own");
    }
    if attributes.uid == Some(u32::MAX) || attributes.gid == Some(u32::MAX) {
        return bad("this is no owner");
    }
    if let Some(size) = attributes.size {
        match file_type {
            FileType::File => {}
            FileType::Directory => return Err(Error::new(ErrorKind::IsADirectory)),
            _ => return bad("only a file has a size"),
        }
        if i64::try_from(size).is_err() {
            return Err(Error::new(ErrorKind::TooLarge));
        }
    }
    for (name, value) in &attributes.properties {
        if name.is_empty() || name.contains('\0') {
            return bad("this is no name of a property");
        }
        if name.len() > MAX_PROPERTY.0 || value.as_ref().is_some_and(|v| v.len() > MAX_PROPERTY.1) {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("the property is too large"));
        }
    }
    Ok(())
}

/// A staged file.
pub(super) struct Staged {
    pub(super) node: u64,
    pub(super) note: Bytes,
}

pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    used: u64,
    limit: Option<u64>,
    owner: (u32, u32),
    pub(super) staged: BTreeMap<u64, Staged>,
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound)
}

impl Tree {
    pub(super) fn new(limit: Option<u64>, owner: (u32, u32), now: SystemTime) -> Self {
        let mut tree =
            Tree { nodes: HashMap::new(), next: ROOT, used: 0, limit, owner, staged: BTreeMap::new() };
        let root = tree.insert(Body::Dir(BTreeMap::new()), 0o755, now);
        if let Some(root) = tree.nodes.get_mut(&root) {
            root.links = 1;
        }
        tree
    }

    /// A new node that nothing holds yet.
    pub(super) fn insert(&mut self, body: Body, mode: u32, now: SystemTime) -> u64 {
        let id = self.next;
        self.next += 1;
        let (uid, gid) = self.owner;
        let node = Node {
            body,
            mode,
            uid,
            gid,
            accessed: now,
            modified: now,
            created: now,
            properties: Properties::default(),
            links: 0,
            held: 0,
            version: 0,
        };
        self.nodes.insert(id, node);
        id
    }

    pub(super) fn node(&self, id: u64) -> Result<&Node> {
        self.nodes.get(&id).ok_or_else(|| Error::new(ErrorKind::Internal))
    }

    pub(super) fn node_mut(&mut self, id: u64) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(|| Error::new(ErrorKind::Internal))
    }

    pub(super) fn used(&self) -> (u64, Option<u64>) {
        (self.used, self.limit)
    }

    fn dir(&self, id: u64) -> Result<&BTreeMap<Bytes, u64>> {
        match &self.node(id)?.body {
            Body::Dir(entries) => Ok(entries),
            _ => Err(Error::new(ErrorKind::NotADirectory)),
        }
    }

    /// The names of a directory that is about to change.
    fn dir_mut(&mut self, id: u64, now: SystemTime) -> Result<&mut BTreeMap<Bytes, u64>> {
        let node = self.node_mut(id)?;
        match &mut node.body {
            Body::Dir(entries) => {
                node.modified = now;
                Ok(entries)
            }
            _ => Err(Error::new(ErrorKind::NotADirectory)),
        }
    }

    fn lookup(&self, dir: u64, name: &[u8]) -> Result<Option<u64>> {
        let entries = self.dir(dir)?;
        if name.len() > MAX_NAME {
            return Err(Error::new(ErrorKind::InvalidPath).with_detail("the name is too long"));
        }
        Ok(entries.get(name).copied())
    }

    /// `link` if `id` is a symbolic link at `path`.
    fn refuse_link(&self, id: u64, path: &VPath) -> Result<()> {
        match &self.node(id)?.body {
            Body::Link(target) => Err(Error::link(Link { at: path.clone(), target: target.to_vec() })),
            _ => Ok(()),
        }
    }

    /// The directory that holds `path` and the name in it. The root has none: `at_root`.
    fn place<'p>(&self, path: &'p VPath, at_root: ErrorKind) -> Result<(u64, &'p [u8])> {
        let Some(parent) = path.parent() else { return Err(Error::new(at_root)) };
        let (mut at, mut walked) = (ROOT, VPath::root());
        for name in parent.segments() {
            walked = walked.join(name)?;
            at = self.lookup(at, name)?.ok_or_else(not_found)?;
            self.refuse_link(at, &walked)?;
        }
        self.dir(at)?;
        Ok((at, path.name()))
    }

    /// The node at `path`; with [`Follow::Yes`] not a link.
    pub(super) fn find(&self, path: &VPath, follow: Follow) -> Result<u64> {
        if path.is_root() {
            return Ok(ROOT);
        }
        let (dir, name) = self.place(path, ErrorKind::Internal)?;
        let id = self.lookup(dir, name)?.ok_or_else(not_found)?;
        if follow == Follow::Yes {
            self.refuse_link(id, path)?;
        }
        Ok(id)
    }

    /// Gives `id` another name.
    fn attach(&mut self, dir: u64, name: &[u8], id: u64, now: SystemTime) -> Result<()> {
        self.dir_mut(dir, now)?.insert(Bytes::copy_from_slice(name), id);
        self.node_mut(id)?.links += 1;
        Ok(())
    }

    /// Takes a name away, and with the last one the node.
    fn detach(&mut self, dir: u64, name: &[u8], now: SystemTime) -> Result<()> {
        if let Some(id) = self.dir_mut(dir, now)?.remove(name) {
            let node = self.node_mut(id)?;
            node.links = node.links.saturating_sub(1);
            self.reap(id);
        }
        Ok(())
    }

    /// An open file or a staged entry lets go.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.held = node.held.saturating_sub(1);
        }
        self.reap(id);
    }

    fn reap(&mut self, id: u64) {
        if self.nodes.get(&id).is_some_and(|n| n.links == 0 && n.held == 0)
            && let Some(node) = self.nodes.remove(&id)
            && let Body::File(content) = node.body
        {
            self.used = self.used.saturating_sub(content.used());
        }
    }

    /// Makes an entry at `path`: the node and its name in one step.
    fn make(
        &mut self,
        path: &VPath,
        body: Body,
        mode: u32,
        attributes: &Attributes,
        now: SystemTime,
    ) -> Result<u64> {
        let (dir, name) = self.place(path, ErrorKind::AlreadyExists)?;
        if self.lookup(dir, name)?.is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists));
        }
        let id = self.insert(body, mode, now);
        let done = self.apply(id, attributes, now).and_then(|()| self.attach(dir, name, id, now));
        done.inspect_err(|_| self.reap(id)).map(|()| id)
    }

    pub(super) fn make_file(
        &mut self,
        path: &VPath,
        attributes: &Attributes,
        now: SystemTime,
    ) -> Result<u64> {
        self.make(path, Body::File(Content::default()), 0o644, attributes, now)
    }

    pub(super) fn make_dir(&mut self, path: &VPath, attributes: &Attributes, now: SystemTime) -> Result<()> {
        check(attributes, FileType::Directory)?;
        self.make(path, Body::Dir(BTreeMap::new()), 0o755, attributes, now).map(drop)
    }

    pub(super) fn make_link(&mut self, path: &VPath, target: &[u8], now: SystemTime) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a link cannot hold this"));
        }
        if target.len() > MAX_LINK {
            return Err(Error::new(ErrorKind::InvalidPath).with_detail("the link's text is too long"));
        }
        let body = Body::Link(Bytes::copy_from_slice(target));
        self.make(path, body, 0o777, &Attributes::none(), now).map(drop)
    }

    pub(super) fn hard_link(&mut self, from: &VPath, to: &VPath, now: SystemTime) -> Result<()> {
        let id = self.find(from, Follow::No)?;
        let (dir, name) = self.place(to, ErrorKind::AlreadyExists)?;
        if self.lookup(dir, name)?.is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists));
        }
        if self.node(id)?.file_type() == FileType::Directory {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        self.attach(dir, name, id, now)
    }

    pub(super) fn remove_file(&mut self, path: &VPath, now: SystemTime) -> Result<()> {
        let (dir, name) = self.place(path, ErrorKind::IsADirectory)?;
        let id = self.lookup(dir, name)?.ok_or_else(not_found)?;
        if self.node(id)?.file_type() == FileType::Directory {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        self.detach(dir, name, now)
    }

    pub(super) fn remove_dir(&mut self, path: &VPath, now: SystemTime) -> Result<()> {
        let (dir, name) = self.place(path, ErrorKind::PermissionDenied)?;
        let id = self.lookup(dir, name)?.ok_or_else(not_found)?;
        if !self.dir(id)?.is_empty() {
            return Err(Error::new(ErrorKind::NotEmpty));
        }
        self.detach(dir, name, now)
    }

    pub(super) fn rename(
        &mut self,
        from: &VPath,
        to: &VPath,
        replace: Replace,
        now: SystemTime,
    ) -> Result<()> {
        let (old_dir, old) = self.place(from, ErrorKind::InvalidArgument)?;
        let id = self.lookup(old_dir, old)?.ok_or_else(not_found)?;
        if to != from && to.starts_with(from) {
            return Err(
                Error::new(ErrorKind::InvalidArgument).with_detail("the new name is below the old one")
            );
        }
        let at_root = if replace == Replace::No { ErrorKind::AlreadyExists } else { ErrorKind::NotEmpty };
        let (new_dir, new) = self.place(to, at_root)?;
        if let Some(there) = self.lookup(new_dir, new)? {
            if replace == Replace::No {
                return Err(Error::new(ErrorKind::AlreadyExists));
            }
            // Two names of one file: nothing to do (POSIX, rename()).
            if there == id {
                return Ok(());
            }
            match (&self.node(id)?.body, &self.node(there)?.body) {
                (Body::Dir(_), Body::Dir(entries)) if !entries.is_empty() => {
                    return Err(Error::new(ErrorKind::NotEmpty));
                }
                (Body::Dir(_), Body::Dir(_)) => {}
                (Body::Dir(_), _) => return Err(Error::new(ErrorKind::NotADirectory)),
                (_, Body::Dir(_)) => return Err(Error::new(ErrorKind::IsADirectory)),
                _ => {}
            }
            self.detach(new_dir, new, now)?;
        }
        self.attach(new_dir, new, id, now)?;
        self.detach(old_dir, old, now)
    }

    /// Gives the file `id` the name `to`, as publishing and copying do. `keep`: owner, permission bits and
    /// missing properties come from a file that is replaced.
    pub(super) fn publish(
        &mut self,
        id: u64,
        to: &VPath,
        replace: Replace,
        keep: bool,
        now: SystemTime,
    ) -> Result<()> {
        let (dir, name) = self.place(to, ErrorKind::IsADirectory)?;
        if let Some(there) = self.lookup(dir, name)? {
            let old = self.node(there)?;
            match old.file_type() {
                _ if replace == Replace::No => return Err(Error::new(ErrorKind::AlreadyExists)),
                FileType::Directory => return Err(Error::new(ErrorKind::IsADirectory)),
                FileType::File if keep => {
                    let (mode, uid, gid) = (old.mode, old.uid, old.gid);
                    let mut properties = BTreeMap::clone(&old.properties);
                    let new = self.node_mut(id)?;
                    (new.mode, new.uid, new.gid) = (mode, uid, gid);
                    properties.extend(new.properties.iter().map(|(k, v)| (k.clone(), v.clone())));
                    new.properties = Arc::new(properties);
                }
                _ => {}
            }
            self.detach(dir, name, now)?;
        }
        self.attach(dir, name, id, now)
    }

    /// Takes the name `path` away if it still leads to `id`.
    pub(super) fn discard(&mut self, path: &VPath, id: u64, now: SystemTime) -> Result<()> {
        let (dir, name) = self.place(path, ErrorKind::IsADirectory)?;
        if self.lookup(dir, name)? == Some(id) { self.detach(dir, name, now) } else { Ok(()) }
    }

    fn content(&self, id: u64) -> Result<&Content> {
        match &self.node(id)?.body {
            Body::File(content) => Ok(content),
            _ => Err(Error::new(ErrorKind::Internal)),
        }
    }

    /// The content of a regular file.
    pub(super) fn read(&self, id: u64, offset: u64, len: usize, out: &mut bytes::BytesMut) -> Result<()> {
        self.content(id)?.read(offset, len, out);
        Ok(())
    }

    /// Writes all or nothing: `NoSpace`.
    pub(super) fn write(&mut self, id: u64, offset: u64, data: &[u8], now: SystemTime) -> Result<()> {
        let grown = self.used.saturating_add(self.content(id)?.growth(offset, data.len()));
        if self.limit.is_some_and(|limit| grown > limit) {
            return Err(Error::new(ErrorKind::NoSpace));
        }
        let node = self.node_mut(id)?;
        if let Body::File(content) = &mut node.body {
            content.write(offset, data);
        }
        node.touch(now);
        self.used = grown;
        Ok(())
    }

    pub(super) fn resize(&mut self, id: u64, size: u64, now: SystemTime) -> Result<()> {
        let node = self.node_mut(id)?;
        let Body::File(content) = &mut node.body else { return Err(Error::new(ErrorKind::Internal)) };
        let before = content.used();
        content.resize(size);
        let freed = before - content.used();
        node.touch(now);
        self.used = self.used.saturating_sub(freed);
        Ok(())
    }

    /// A copy of the content, permission bits and properties of the file `id`, held by nothing.
    pub(super) fn duplicate(&mut self, id: u64, now: SystemTime) -> Result<u64> {
        let node = self.node(id)?;
        let content = self.content(id)?.clone();
        let (mode, properties) = (node.mode & 0o777, Arc::clone(&node.properties));
        let grown = self.used.saturating_add(content.used());
        if self.limit.is_some_and(|limit| grown > limit) {
            return Err(Error::new(ErrorKind::NoSpace));
        }
        self.used = grown;
        let copy = self.insert(Body::File(content), mode, now);
        self.node_mut(copy)?.properties = properties;
        Ok(copy)
    }

    /// Throws away a node that got no name.
    pub(super) fn forget(&mut self, id: u64) {
        self.reap(id);
    }

    /// Sets what was checked.
    pub(super) fn apply(&mut self, id: u64, attributes: &Attributes, now: SystemTime) -> Result<()> {
        if let Some(size) = attributes.size {
            self.resize(id, size, now)?;
        }
        let node = self.node_mut(id)?;
        node.mode = attributes.mode.unwrap_or(node.mode);
        node.uid = attributes.uid.unwrap_or(node.uid);
        node.gid = attributes.gid.unwrap_or(node.gid);
        node.accessed = attributes.accessed.unwrap_or(node.accessed);
        node.modified = attributes.modified.unwrap_or(node.modified);
        if !attributes.properties.is_empty() {
            let properties = Arc::make_mut(&mut node.properties);
            for (name, value) in &attributes.properties {
                match value {
                    Some(value) => properties.insert(name.clone(), value.clone()),
                    None => properties.remove(name),
                };
            }
        }
        Ok(())
    }

    /// The entries of a directory in order, after a name.
    pub(super) fn list(&self, path: &VPath, order: Order, after: Option<&[u8]>) -> Result<Vec<DirEntry>> {
        let id = self.find(path, Follow::Yes)?;
        let mut entries = Vec::new();
        for (name, id) in self.dir(id)? {
            entries.push(DirEntry { name: name.clone(), metadata: self.node(*id)?.metadata(*id) });
        }
        let key = |e: &DirEntry| {
            let mut key = e.name.to_vec();
            if order == Order::Key && e.metadata.is_dir() {
                key.push(b'/');
            }
            key
        };
        if order == Order::Key {
            entries.sort_by_cached_key(key);
        }
        if let Some(after) = after.filter(|_| order != Order::Any) {
            entries.retain(|e| key(e).as_slice() > after);
        }
        Ok(entries)
    }
}
