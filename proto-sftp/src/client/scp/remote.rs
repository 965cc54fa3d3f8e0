//! `ScpRemote`: a server's files as a [`Filesystem`], by SCP and by the server's shell.
//!
//! What the server can do is found out once: whether there is a shell, how its `ls` writes, which programs it has. Where
//! there is one, everything but the bytes is its work; where there is none, files are read and written, looked at
//! and listed, directories are made, and nothing else. Where there is a shell and no `scp`, `cat` moves the bytes.
//!
//! Deliberately absent: text modes, changes in place; without a shell also continued uploads (the capabilities say so,
//! and the refusals why).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{
    Algorithm, File, Filesystem, Follow, ListOptions, Listing, ListingOf, OpenOptions, Replace, Space,
};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::manage::{self, Host, PROBE};
use super::read::ReadFile;
use super::shell::{Lines, Transfer};
use super::words::error_of;
use super::write::WriteFile;
use super::{bare, list};
use crate::ssh::connect::SshConnection;

/// What a remote is made of.
pub(super) struct Remote {
    pub(super) lines: Arc<Lines>,
    host: Option<Host>,
}

/// A server's files. Cheap to clone; clones share the channels of the connection.
#[derive(Clone)]
pub struct ScpRemote(Arc<Remote>);

impl std::fmt::Debug for ScpRemote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScpRemote").field("host", &self.0.host).finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn shell(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    fn host(&self, operation: OperationKind) -> Result<&Host> {
        self.host.as_ref().ok_or_else(|| {
            Error::unsupported(operation)
                .with_detail("the server runs scp and no shell, and scp cannot do that")
        })
    }

    /// Whether `scp` is there. Without a shell it is all there is.
    pub(super) fn has_scp(&self) -> bool {
        self.host.as_ref().is_none_or(|host| host.has("scp"))
    }

    /// Whether a file can be added to.
    pub(super) fn adds(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.has("cat") && host.has("wc"))
    }

    /// Whether a file can be read from its middle.
    pub(super) fn can_tail(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.has("tail-from"))
    }

    pub(super) fn granularity(&self) -> Duration {
        self.host.as_ref().map_or(Duration::from_secs(1), |host| host.dialect.granularity())
    }

    /// Runs a script, which must end well.
    pub(super) async fn script(&self, script: &[u8]) -> Result<Bytes> {
        self.lines.run(script).await?.good()
    }

    /// Starts a program that moves a file. Errors: those of channels; `Throttled`.
    pub(super) async fn transfer(&self, command: &[u8]) -> Result<Transfer> {
        self.lines.transfer(command, self.host.is_some()).await
    }

    /// What an entry is. Errors: `NotFound`, `NotADirectory`, `PermissionDenied`.
    pub(super) async fn look(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        match &self.host {
            Some(host) => host.looked(&self.script(&host.look(path, follow)).await?, follow),
            None => bare::look(self, path).await,
        }
    }

    /// What can be set. Errors: `InvalidArgument`, `Unsupported`.
    pub(super) fn settable(&self, a: &Attributes) -> Result<()> {
        self.host(OperationKind::SetAttributes)?;
        settable(a)
    }

    /// The same of a file to come, which `scp` is told a mode and a time of.
    pub(super) fn settable_at_open(&self, a: &Attributes) -> Result<()> {
        settable(a)?;
        match self.host {
            None if a.uid.or(a.gid).is_some() => self.settable(a),
            _ => Ok(()),
        }
    }

    pub(super) async fn set(&self, path: &VPath, a: &Attributes, follow: Follow) -> Result<()> {
        self.settable(a)?;
        if a.is_empty() {
            return self.look(path, follow).await.map(drop);
        }
        self.script(&manage::set(path, a, follow)?).await.map(drop)
    }

    /// Sets what a file written whole shall have, and says what it is now.
    pub(super) async fn finish(&self, path: &VPath, a: &Attributes, size: u64) -> Result<Metadata> {
        let told = || Metadata { mode: a.mode, modified: a.modified, ..Metadata::new(FileType::File, size) };
        let Some(host) = &self.host else { return Ok(told()) };
        // One crossing of the line for both. What cannot be set fails; what cannot be looked at may.
        let mut script = Vec::new();
        if !a.is_empty() {
            script.extend_from_slice(&[b"{ ", &manage::set(path, a, Follow::Yes)?[..], b"\n} && "].concat());
        }
        script.extend_from_slice(&[b"{ ", &host.look(path, Follow::Yes)[..], b" || echo unseen; }"].concat());
        let done = self.lines.run(&script).await?;
        let errors = done.errors.clone();
        let said = done.good()?;
        if said.starts_with(b"unseen") {
            let e = error_of(1, &errors);
            return match e.kind() {
                // Where a user may put and not look, or what was put was put away, the other side's last word stands.
                ErrorKind::NotFound | ErrorKind::PermissionDenied => Ok(told()),
                _ => Err(e),
            };
        }
        host.looked(&said, Follow::Yes)
    }
}

fn settable(a: &Attributes) -> Result<()> {
    if a.mode.is_some_and(|m| m > 0o7777) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("mode bits above 7777"));
    }
    if a.size.is_some() || !a.properties.is_empty() {
        return Err(Error::unsupported(OperationKind::SetAttributes));
    }
    Ok(())
}

impl ScpRemote {
    /// Finds out what the server can do; `time` is what its shell is given to answer.
    ///
    /// Errors: `Refused` if the server opens no channel, `Disconnected`, `TimedOut`; `Unsupported` where its shell has no
    /// `ls`, or where it has neither `scp` nor `cat`. That there is no shell is no error.
    pub async fn connect(connection: SshConnection, time: Duration) -> Result<ScpRemote> {
        let lines = Lines::new(connection, time)?;
        let host = match lines.run(PROBE).await {
            Ok(said) => Some(Host::read(&said.out)?),
            Err(e) if e.kind() == ErrorKind::Unsupported => None,
            Err(e) => return Err(e),
        };
        if host.as_ref().is_some_and(|host| !host.has("scp") && !host.has("cat")) {
            return Err(Error::new(ErrorKind::Unsupported).with_detail("the server has neither scp nor cat"));
        }
        Ok(ScpRemote(Arc::new(Remote { lines, host })))
    }

    /// Where a login begins; the root where there is no shell to ask.
    pub fn home(&self) -> VPath {
        self.0.host.as_ref().map_or_else(VPath::root, |host| host.home.clone())
    }

    /// Whether the server has a shell for this account.
    pub fn has_shell(&self) -> bool {
        self.0.host.is_some()
    }
}

#[async_trait]
impl Filesystem for ScpRemote {
    fn capabilities(&self) -> Capabilities {
        let bare = Capabilities {
            write: true,
            create_dir: true,
            empty_dirs: true,
            precise_errors: true,
            follows_links: true,
            mtime_granularity: self.0.granularity(),
            ..Capabilities::none()
        };
        let Some(host) = &self.0.host else { return bare };
        Capabilities {
            remove: true,
            rename: true,
            rename_replaces: true,
            set_times: true,
            set_mode: true,
            set_owner: true,
            symlinks: host.has("readlink"),
            hard_links: true,
            server_copy: host.has("cp"),
            space: host.has("df"),
            checksums: host.sums(),
            append: self.0.adds(),
            continue_write: self.0.adds(),
            canonicalize: host.has("readlink"),
            ..bare
        }
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        self.0.look(path, follow).await
    }

    async fn list(&self, dir: &VPath, _: &ListOptions) -> Result<Listing> {
        let entries = match &self.0.host {
            Some(host) => list::entries(&self.0, dir, host.dialect).await?,
            None => bare::list(&self.0, dir).await?,
        };
        Ok(Box::new(ListingOf::new(entries)))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        if options.write {
            return Ok(WriteFile::open(Arc::clone(&self.0), path, options).await?);
        }
        if options.if_match.is_some() {
            return Err(Error::unsupported(OperationKind::Open).with_detail("SCP knows no conditions"));
        }
        Ok(ReadFile::open(Arc::clone(&self.0), path).await?)
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.0.settable_at_open(attributes)?;
        if self.0.host.is_none() {
            return bare::create_dir(&self.0, path, attributes).await;
        }
        self.0.script(&manage::create_dir(path, attributes.mode)).await?;
        let rest = Attributes { mode: None, ..attributes.clone() };
        if rest.is_empty() {
            return Ok(());
        }
        self.0.set(path, &rest, Follow::Yes).await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.0.host(OperationKind::RemoveFile)?;
        self.0.script(&manage::remove_file(path)).await.map(drop)
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.0.host(OperationKind::RemoveDir)?;
        if path.is_root() {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("the root cannot be removed"));
        }
        self.0.script(&manage::remove_dir(path)).await.map(drop)
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.0.host(OperationKind::Rename)?;
        if to != from && to.starts_with(from) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a directory moved into itself"));
        }
        if to == from {
            self.0.look(from, Follow::No).await?;
            return if replace == Replace::Yes { Ok(()) } else { Err(Error::new(ErrorKind::AlreadyExists)) };
        }
        self.0.script(&manage::rename(from, to, replace)).await.map(drop)
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        self.0.set(path, attributes, follow).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let host = self.0.host(OperationKind::Copy)?;
        if !host.has("cp") {
            return Err(Error::unsupported(OperationKind::Copy));
        }
        if to == from {
            let found = self.0.look(from, Follow::Yes).await?;
            return match replace {
                _ if found.is_dir() => Err(Error::new(ErrorKind::IsADirectory)),
                Replace::Yes => Ok(()),
                Replace::No => Err(Error::new(ErrorKind::AlreadyExists)),
            };
        }
        self.0.script(&manage::copy(from, to, replace)).await.map(drop)
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        if !self.0.host(OperationKind::Symlink)?.has("readlink") {
            return Err(Error::unsupported(OperationKind::Symlink));
        }
        if target.is_empty() || target.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a link holds a path"));
        }
        self.0.script(&manage::symlink(target, at)).await.map(drop)
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        self.0.host(OperationKind::HardLink)?;
        self.0.script(&manage::hard_link(from, to)).await.map(drop)
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        if !self.0.host(OperationKind::ReadLink)?.has("readlink") {
            return Err(Error::unsupported(OperationKind::ReadLink));
        }
        let said = self.0.script(&manage::read_link(path)).await?;
        Ok(said.slice(..said.len().saturating_sub(usize::from(said.ends_with(b"\n")))))
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        if !self.0.host(OperationKind::Canonicalize)?.has("readlink") {
            return Err(Error::unsupported(OperationKind::Canonicalize));
        }
        let said = self.0.script(&manage::canonicalize(path)).await?;
        VPath::absolute(said.strip_suffix(b"\n").unwrap_or(&said))
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        if !self.0.host(OperationKind::Space)?.has("df") {
            return Err(Error::unsupported(OperationKind::Space));
        }
        let said = self.0.script(&manage::space(path)).await?;
        manage::room(&said).ok_or_else(|| {
            Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's df says what is not understood")
        })
    }

    async fn checksum(
        &self,
        path: &VPath,
        algorithm: Algorithm,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes> {
        let host = self.0.host(OperationKind::Checksum)?;
        let done = self.0.lines.run(&host.sum(path, algorithm, &range)?).await?;
        if done.code != 0 {
            done.good()?;
            return Err(ErrorKind::Internal.into());
        }
        manage::digest(algorithm, &done.out, &done.errors)
    }
}
