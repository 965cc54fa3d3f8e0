//! `SftpRemote`: a server's files as a [`Filesystem`].
//!
//! A virtual path is the server's absolute path, byte for byte. The server follows its own links. Kinds
//! of errors are as precise as the model's contract wants, at the price of a question after a failure
//! whose status leaves a choice (`refine`). Replacing by rename needs `posix-rename`: without it the
//! answer is `Unsupported`, never a removal before the rename.
//!
//! Deliberately absent: staging (`atomic_commit` is off: the server may stage, we cannot know), named
//! properties, locks. Times have whole seconds. SYMLINK is sent in OpenSSH's order of arguments.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{
    Algorithm, File, Filesystem, Follow, ListOptions, Listing, OpenOptions, Replace, Space,
};
use session_core::metadata::{Attributes, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::talk::Talk;

use super::driver::{Client, Config, Incoming, Outgoing};
use super::file::{SftpFile, needs_known};
use super::listing::{self, Counted};
use super::machine::{Negotiated, unexpected};
use super::refine::{bad_message, is_failure, is_missing, settable};
use crate::wire::extension::{CheckFile, Checked, STATVFS_READ_ONLY, decode_names, decode_statvfs};
use crate::wire::{Attrs, Extended, Extension, OpenFlags, Reply, Request};

/// What a server is asked to copy at a time, bytes.
const COPIED: u64 = 64 << 20;

/// The path as it goes over the wire.
pub(super) fn raw(path: &VPath) -> Bytes {
    Bytes::copy_from_slice(path.as_bytes())
}

/// A server's files. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct SftpRemote {
    client: Client,
}

impl SftpRemote {
    /// Greets the server over a pair of streams. Errors as [`Client::connect`].
    pub async fn connect(
        incoming: impl Incoming,
        outgoing: impl Outgoing,
        config: &Config,
    ) -> Result<SftpRemote> {
        Self::connect_telling(incoming, outgoing, config, Talk::default()).await
    }

    /// The same; what is said goes to `talk`.
    pub async fn connect_telling(
        incoming: impl Incoming,
        outgoing: impl Outgoing,
        config: &Config,
        talk: Talk,
    ) -> Result<SftpRemote> {
        Ok(SftpRemote { client: Client::connect(incoming, outgoing, config, talk).await? })
    }

    /// The conversation below.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the greeting taught.
    pub fn negotiated(&self) -> &Negotiated {
        self.client.negotiated()
    }

    /// Where the account begins: what relative paths are relative to.
    pub fn home(&self) -> &VPath {
        &self.negotiated().home
    }

    /// A path as a user writes it: relative to the home, `~` and `~user` where the server expands them
    /// (`expand-path@openssh.com`; `~` alone works everywhere).
    pub async fn expand(&self, path: &[u8]) -> Result<VPath> {
        let Some(rest) = path.strip_prefix(b"~") else { return VPath::parse(self.home(), path) };
        if self.has(Extension::ExpandPath) {
            let path = Bytes::copy_from_slice(path);
            return self.named(Request::Extended(Extended::ExpandPath { path })).await;
        }
        match rest.first() {
            None | Some(b'/') => VPath::parse(self.home(), rest.strip_prefix(b"/").unwrap_or(rest)),
            Some(_) => Err(Error::unsupported(OperationKind::Canonicalize)
                .with_detail("the server does not tell other users' homes")),
        }
    }

    /// The names of numeric owners and groups, in the order asked, empty where the server knows none.
    /// `Unsupported` without `users-groups-by-id@openssh.com`.
    pub async fn owner_names(&self, uids: Vec<u32>, gids: Vec<u32>) -> Result<(Vec<Bytes>, Vec<Bytes>)> {
        if !self.has(Extension::UsersGroupsById) {
            return Err(Error::unsupported(OperationKind::Stat));
        }
        let (users, groups) = (uids.len(), gids.len());
        let body = self.extended(Extended::UsersGroupsById { uids, gids }).await?;
        let names = decode_names(body)?;
        if names.0.len() != users || names.1.len() != groups {
            return Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the server names more or fewer owners than asked"));
        }
        Ok(names)
    }

    fn has(&self, extension: Extension) -> bool {
        self.negotiated().has(extension)
    }

    fn need(&self, extension: Extension, operation: OperationKind) -> Result<()> {
        if self.has(extension) { Ok(()) } else { Err(Error::unsupported(operation)) }
    }

    async fn done(&self, request: Request) -> Result<()> {
        self.client.call(request).await.map(|_| ())
    }

    async fn extended(&self, request: Extended) -> Result<Bytes> {
        match self.client.call(Request::Extended(request)).await? {
            Reply::Extended(body) => Ok(body),
            reply => Err(unexpected(&reply)),
        }
    }

    /// A request that is answered by one name.
    async fn name(&self, request: Request) -> Result<Bytes> {
        match self.client.call(request).await? {
            Reply::Name(names) => match names.into_iter().next() {
                Some(name) => Ok(name.name),
                None => Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("an answer without a name")),
            },
            reply => Err(unexpected(&reply)),
        }
    }

    /// A request that is answered by one absolute path.
    async fn named(&self, request: Request) -> Result<VPath> {
        VPath::absolute(self.name(request).await?)
    }

    /// Whether the server computes digests, and under which request.
    fn checks(&self) -> bool {
        self.has(Extension::CheckFileName)
            || self.has(Extension::CheckFileHandle)
            || self.has(Extension::CheckFile)
    }

    /// OPEN, counted; what else the answer needs is the caller's.
    async fn handle(&self, path: &VPath, flags: OpenFlags, attrs: Attrs) -> Result<Bytes> {
        let counted = self.count()?;
        let handle = self.open_handle(path, flags, attrs).await?;
        counted.keep();
        Ok(handle)
    }

    fn count(&self) -> Result<Counted<'_>> {
        self.client.handle_opens()?;
        Ok(Counted(Some(&self.client)))
    }

    async fn open_handle(&self, path: &VPath, flags: OpenFlags, attrs: Attrs) -> Result<Bytes> {
        match self.client.call(Request::Open { path: raw(path), flags: flags.bits(), attrs }).await? {
            Reply::Handle(handle) => Ok(handle),
            reply => Err(unexpected(&reply)),
        }
    }

    /// What an OPEN for reading finds out on the way: the STAT flies with it.
    async fn open_to_read(&self, path: &VPath, flags: OpenFlags) -> Result<(Bytes, Option<u64>)> {
        let stat = self.client.send(Request::Stat { path: raw(path) }).await?;
        let handle = self.handle(path, flags, Attrs::default()).await?;
        let held = Held { client: &self.client, handle: Some(handle) };
        let size = match stat.await {
            Ok(Reply::Attrs(attrs)) => {
                let m = attrs.to_metadata();
                if m.is_dir() {
                    return Err(Error::new(ErrorKind::IsADirectory));
                }
                // Files of the kernel (procfs) say 0 and hold something.
                (m.is_file() && m.size > 0).then_some(m.size)
            }
            Ok(reply) => return Err(unexpected(&reply)),
            Err(_) => None,
        };
        Ok((held.keep(), size))
    }

    async fn set(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        let mut known = None;
        let mut link = follow == Follow::No;
        if needs_known(attributes) || attributes.is_empty() {
            known = Some(self.client.look(path, link).await?);
            if attributes.is_empty() {
                return Ok(());
            }
        }
        if link && (attributes.size.is_some() || !self.has(Extension::Lsetstat)) {
            // Only a link needs lsetstat, and only a file has a size to set.
            let m = match &known {
                Some(m) => m.clone(),
                None => self.client.look(path, true).await?,
            };
            if !m.is_symlink() {
                link = false;
            } else if attributes.size.is_some() {
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a link has no size to set"));
            } else {
                return Err(Error::unsupported(OperationKind::SetAttributes)
                    .with_detail("the server cannot change a link itself"));
            }
        }
        let attrs = Attrs::asking(attributes, known.as_ref());
        let path = raw(path);
        self.done(if link {
            Request::Extended(Extended::Lsetstat { path, attrs })
        } else {
            Request::Setstat { path, attrs }
        })
        .await
    }

    /// `copy` between two handles. The target is not emptied first but cut afterwards, so that a copy
    /// onto another name of the same file destroys nothing.
    async fn copy_open(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (source, _) = match self.open_to_read(from, OpenFlags::READ).await {
            Ok(opened) => opened,
            Err(e) => return Err(self.client.open_failed(from, false, e).await),
        };
        let source = Held { client: &self.client, handle: Some(source) };
        let stat = match self.client.call(Request::Fstat { handle: source.handle()? }).await? {
            Reply::Attrs(attrs) => attrs.to_metadata(),
            reply => return Err(unexpected(&reply)),
        };
        let exclusive = replace == Replace::No;
        let mut flags = OpenFlags::WRITE | OpenFlags::CREATE;
        flags.set(OpenFlags::EXCLUDE, exclusive);
        let attrs = Attrs { mode: stat.mode, ..Attrs::default() };
        let target = match self.handle(to, flags, attrs).await {
            Ok(handle) => Held { client: &self.client, handle: Some(handle) },
            Err(e) => return Err(self.client.open_failed(to, exclusive, e).await),
        };
        let copied = self.copy_pieces(&source, &target, stat.size).await;
        let cut = match copied {
            Ok(()) => {
                let attrs = Attrs { size: Some(stat.size), ..Attrs::default() };
                self.done(Request::Fsetstat { handle: target.handle()?, attrs }).await
            }
            Err(e) => Err(e),
        };
        let closed = self.done(Request::Close { handle: target.release()? }).await;
        if let (Err(_), true) = (&cut, exclusive) {
            let _ = self.done(Request::Remove { path: raw(to) }).await;
        }
        cut.and(closed)
    }

    /// Copies `size` bytes between two handles, a piece at a time: a server may do nothing else meanwhile.
    async fn copy_pieces(&self, source: &Held<'_>, target: &Held<'_>, size: u64) -> Result<()> {
        let mut at = 0;
        while at < size {
            let read_len = (size - at).min(COPIED);
            let piece = Extended::CopyData {
                read_handle: source.handle()?,
                read_offset: at,
                read_len,
                write_handle: target.handle()?,
                write_offset: at,
            };
            self.done(Request::Extended(piece)).await?;
            at += read_len;
        }
        Ok(())
    }
}

/// A handle that is closed in the background unless it is handed on.
struct Held<'a> {
    client: &'a Client,
    handle: Option<Bytes>,
}

impl Held<'_> {
    fn handle(&self) -> Result<Bytes> {
        self.handle.clone().ok_or_else(|| Error::new(ErrorKind::Internal))
    }

    /// Whoever takes it closes and uncounts it.
    fn keep(mut self) -> Bytes {
        self.handle.take().unwrap_or_default()
    }

    /// Whoever takes it closes it; it counts no more.
    fn release(mut self) -> Result<Bytes> {
        self.client.handle_closes();
        self.handle.take().ok_or_else(|| Error::new(ErrorKind::Internal))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.client.handle_closes();
            self.client.send_forgotten(Request::Close { handle });
        }
    }
}

#[async_trait]
impl Filesystem for SftpRemote {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            write: true,
            create_dir: true,
            remove: true,
            rename: true,
            rename_replaces: self.has(Extension::PosixRename),
            random_write: true,
            continue_write: true,
            append: true,
            truncate: true,
            set_times: true,
            set_mode: true,
            set_owner: true,
            symlinks: true,
            hard_links: self.has(Extension::Hardlink),
            empty_dirs: true,
            server_copy: self.has(Extension::CopyData),
            space: self.has(Extension::Statvfs),
            checksums: self.checks(),
            canonicalize: true,
            precise_errors: true,
            follows_links: true,
            mtime_granularity: Duration::from_secs(1),
            ..Capabilities::none()
        }
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        match self.client.look(path, follow == Follow::No).await {
            Ok(m) => Ok(m),
            Err(e) if is_missing(&e) => Err(self.client.missing(path, e).await),
            Err(e) => Err(bad_message(e, &[path])),
        }
    }

    async fn list(&self, dir: &VPath, _: &ListOptions) -> Result<Listing> {
        match listing::open(&self.client, dir).await {
            Ok(listing) => Ok(Box::new(listing)),
            Err(e) => Err(self.client.list_failed(dir, e).await),
        }
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        settable(&options.attributes)?;
        if options.if_match.is_some() {
            return Err(Error::unsupported(OperationKind::Open)
                .with_detail("SFTP has no condition on what is opened"));
        }
        let mut flags = OpenFlags::empty();
        flags.set(OpenFlags::READ, options.read);
        flags.set(OpenFlags::WRITE, options.write);
        flags.set(OpenFlags::APPEND, options.append);
        flags.set(OpenFlags::CREATE, options.create);
        flags.set(OpenFlags::TRUNCATE, options.truncate);
        flags.set(OpenFlags::EXCLUDE, options.exclusive);
        let mut owed = Attributes::none();
        // Our own server stages: what an abort must leave alone has to be known before.
        let stages = self.has(Extension::CheckFileHandle) && self.negotiated().ordered;
        let before = if stages && options.truncate && !options.exclusive {
            Some(self.client.send(Request::Lstat { path: raw(path) }).await?)
        } else {
            None
        };
        let opened = if !options.write {
            match options.size_hint {
                // Whoever knows the size has just seen that it is a file.
                Some(size) => self.handle(path, flags, Attrs::default()).await.map(|h| (h, Some(size))),
                None => self.open_to_read(path, flags).await,
            }
        } else {
            let mut attrs = Attrs::default();
            if options.create {
                // OPEN carries the mode of a new file; the rest is set at the end, and only on a file
                // that is known to be new.
                attrs.mode = options.attributes.mode;
                let rest = Attributes { mode: None, ..options.attributes.clone() };
                if options.exclusive {
                    owed = options.attributes.clone();
                } else if !rest.is_empty()
                    && self.client.look(path, false).await.is_err_and(|e| is_missing(&e))
                {
                    owed = rest;
                }
            }
            self.handle(path, flags, attrs).await.map(|h| (h, None))
        };
        match opened {
            Ok((handle, size)) => {
                let held = Held { client: &self.client, handle: Some(handle) };
                let replaces = match before {
                    Some(before) => before.await.is_ok(),
                    None => false,
                };
                let (client, path) = (self.client.clone(), raw(path));
                Ok(Arc::new(SftpFile::new(client, held.keep(), path, options, owed, size, replaces)))
            }
            Err(e) if e.wire().is_none() => Err(e),
            Err(e) => Err(self.client.open_failed(path, options.exclusive, e).await),
        }
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        settable(attributes)?;
        let attrs = Attrs { mode: attributes.mode, ..Attrs::default() };
        if let Err(e) = self.done(Request::Mkdir { path: raw(path), attrs }).await {
            return Err(self.client.create_failed(path, e).await);
        }
        // MKDIR carries the mode through the server's mask and nothing else.
        if attributes.is_empty() {
            return Ok(());
        }
        self.set(path, attributes, Follow::Yes).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        match self.done(Request::Remove { path: raw(path) }).await {
            Err(e) => Err(self.client.remove_failed(path, e).await),
            done => done,
        }
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.client.forget_directories();
        match self.done(Request::Rmdir { path: raw(path) }).await {
            Err(e) => Err(self.client.remove_dir_failed(path, e).await),
            done => done,
        }
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let (old, new) = (raw(from), raw(to));
        let request = match replace {
            Replace::No => Request::Rename { from: old, to: new },
            Replace::Yes => {
                self.need(Extension::PosixRename, OperationKind::Rename).map_err(|e| {
                    e.with_detail("the server cannot replace a file by renaming (posix-rename)")
                })?;
                Request::Extended(Extended::PosixRename { from: old, to: new })
            }
        };
        self.client.forget_directories();
        match self.done(request).await {
            Err(e) => Err(self.client.rename_failed(from, to, replace == Replace::Yes, e).await),
            done => done,
        }
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        settable(attributes)?;
        match self.set(path, attributes, follow).await {
            Err(e) if is_missing(&e) => Err(self.client.missing(path, e).await),
            Err(e) if is_failure(&e) && attributes.size.is_some() => {
                match self.client.look(path, false).await {
                    Ok(m) if m.is_dir() => Err(super::refine::as_kind(&e, ErrorKind::IsADirectory)),
                    _ => Err(e),
                }
            }
            Err(e) => Err(bad_message(e, &[path])),
            done => done,
        }
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.need(Extension::CopyData, OperationKind::Copy)?;
        if from == to {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a file copied onto itself"));
        }
        self.copy_open(from, to, replace).await
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        let text = Bytes::copy_from_slice(target);
        match self.done(Request::Symlink { target: text, link: raw(at) }).await {
            Err(e) if is_failure(&e) && (target.is_empty() || target.contains(&0)) => {
                Err(super::refine::as_kind(&e, ErrorKind::InvalidArgument))
            }
            Err(e) => Err(self.client.create_failed(at, e).await),
            done => done,
        }
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        self.need(Extension::Hardlink, OperationKind::HardLink)?;
        match self.done(Request::Extended(Extended::Hardlink { from: raw(from), to: raw(to) })).await {
            Err(e) if is_missing(&e) && self.client.look(from, true).await.is_err() => {
                Err(self.client.missing(from, e).await)
            }
            Err(e) => {
                let e = self.client.create_failed(to, e).await;
                if is_failure(&e) && self.client.look(from, true).await.is_ok_and(|m| m.is_dir()) {
                    return Err(super::refine::as_kind(&e, ErrorKind::IsADirectory));
                }
                Err(e)
            }
            done => done,
        }
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        match self.name(Request::Readlink { path: raw(path) }).await {
            Err(e) if is_missing(&e) => Err(self.client.missing(path, e).await),
            Err(e) if is_failure(&e) && self.client.look(path, true).await.is_ok_and(|m| !m.is_symlink()) => {
                Err(super::refine::as_kind(&e, ErrorKind::InvalidArgument))
            }
            Err(e) => Err(bad_message(e, &[path])),
            done => done,
        }
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        match self.named(Request::Realpath { path: raw(path) }).await {
            Err(e) if is_missing(&e) => Err(self.client.missing(path, e).await),
            Err(e) => Err(bad_message(e, &[path])),
            done => done,
        }
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        self.need(Extension::Statvfs, OperationKind::Space)?;
        let body = match self.extended(Extended::Statvfs { path: raw(path) }).await {
            Ok(body) => body,
            Err(e) if is_missing(&e) => return Err(self.client.missing(path, e).await),
            Err(e) => return Err(bad_message(e, &[path])),
        };
        let s = decode_statvfs(body)?;
        // Servers count blocks in fragments (statvfs(3)); a few leave that field empty.
        let unit = if s.fragment_size == 0 { s.block_size } else { s.fragment_size };
        Ok(Space {
            block_size: s.block_size,
            total: s.blocks.saturating_mul(unit),
            free: s.blocks_free.saturating_mul(unit),
            available: s.blocks_avail.saturating_mul(unit),
            entries: s.inodes,
            entries_free: s.inodes_free,
            max_name: s.name_max,
            read_only: s.flags & STATVFS_READ_ONLY != 0,
        })
    }

    async fn checksum(&self, path: &VPath, algorithm: Algorithm, range: Range<u64>) -> Result<Bytes> {
        if !self.checks() {
            return Err(Error::unsupported(OperationKind::Checksum));
        }
        if range.is_empty() && range.start > 0 {
            // A length of 0 means up to the end on the wire.
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a digest of an empty range"));
        }
        let len = if range.end == u64::MAX { 0 } else { range.end.saturating_sub(range.start) };
        let check = CheckFile {
            algorithms: Bytes::from_static(algorithm.name().as_bytes()),
            offset: range.start,
            len,
            block_size: 0,
        };
        let body = if self.has(Extension::CheckFileHandle) && !self.has(Extension::CheckFileName) {
            let handle = match self.handle(path, OpenFlags::READ, Attrs::default()).await {
                Ok(handle) => Held { client: &self.client, handle: Some(handle) },
                Err(e) => return Err(self.client.open_failed(path, false, e).await),
            };
            let handle = handle.handle()?;
            self.extended(Extended::CheckFileHandle { handle, check, old: false }).await?
        } else {
            match self.extended(Extended::CheckFileName { path: raw(path), check }).await {
                Ok(body) => body,
                Err(e) => return Err(self.client.open_failed(path, false, e).await),
            }
        };
        let checked = Checked::decode(body)?;
        if checked.algorithm != algorithm.name().as_bytes() {
            return Err(
                Error::new(ErrorKind::PeerMisbehaved).with_detail("a digest of another kind than asked")
            );
        }
        Ok(checked.digests)
    }
}
