//! Operations on names: stat, make, remove, rename, copy, link, space.
//!
//! Each acts on a name in a directory that is held by handle. `Replace::No` is the kernel's own
//! (`RENAME_NOREPLACE`); on a filesystem without it a file is linked under its new name and unlinked
//! under the old one, a directory is renamed onto an empty one made for it, and only where neither works
//! does a check come before the rename, which another process can race.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType as Kind, Mode, OFlags, RenameFlags, StatVfsMountFlags};
use rustix::io::{Errno, retry_on_intr};

use super::attrs::{self, Attached, Target};
use super::resolve::{self, Want};
use super::{FsyncPolicy, Store, stage, sync_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Follow, Replace, Space};
use crate::lease::Lease;
use crate::metadata::{Attributes, Metadata};
use crate::operation::OperationKind;
use crate::path::VPath;

/// How much is copied between two looks at whether anybody still waits for it.
const STEP: usize = 16 << 20;

pub(super) fn stat(store: &Store, path: &VPath, follow: Follow) -> Result<Metadata> {
    let (mut metadata, from) = if path.is_root() {
        (attrs::metadata(&attrs::look_at(store.root.fd())?), Attached::Path(attrs::magic(store.root.fd())))
    } else {
        let place = store.root.place(path, Want::Existing, ErrorKind::Internal)?;
        let stat = attrs::look(&place.dir, place.name)?;
        if attrs::kind(&stat) == Kind::Symlink {
            if follow == Follow::Yes {
                return Err(resolve::link(path.clone(), &place.dir, place.name)?);
            }
            return Ok(attrs::metadata(&stat));
        }
        let metadata = attrs::metadata(&stat);
        if !store.capabilities.properties {
            return Ok(metadata);
        }
        let found = attrs::properties(&Attached::name(&place.dir, place.name));
        return Ok(Metadata { properties: found, ..metadata });
    };
    if store.capabilities.properties {
        metadata.properties = attrs::properties(&from);
    }
    Ok(metadata)
}

pub(super) fn create_dir(store: &Store, lease: &Lease, path: &VPath, attributes: &Attributes) -> Result<()> {
    attrs::check(attributes, Kind::Directory, store.capabilities.properties)?;
    let place = store.root.place(path, Want::New, ErrorKind::AlreadyExists)?;
    let mode = Mode::from_raw_mode(attributes.mode.unwrap_or(0o777) & 0o777);
    lease.unless_cut(|| Ok(rustix::fs::mkdirat(&place.dir, place.name, mode)?))?;
    if attributes.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let set = || {
        let fd = rustix::fs::openat(&place.dir, place.name, flags, Mode::empty())?;
        attrs::apply(Target::Handle(fd.as_fd()), attributes)
    };
    set().inspect_err(|_| {
        let _ = rustix::fs::unlinkat(&place.dir, place.name, AtFlags::REMOVEDIR);
    })
}

pub(super) fn remove_file(store: &Store, lease: &Lease, path: &VPath) -> Result<()> {
    let place = store.root.place(path, Want::Existing, ErrorKind::IsADirectory)?;
    lease.unless_cut(|| match rustix::fs::unlinkat(&place.dir, place.name, AtFlags::empty()) {
        // What POSIX says of a directory; Linux says EISDIR.
        Err(Errno::PERM) if is_dir(&place.dir, place.name) => Err(Error::new(ErrorKind::IsADirectory)),
        done => Ok(done?),
    })
}

pub(super) fn remove_dir(store: &Store, lease: &Lease, path: &VPath) -> Result<()> {
    let place = store.root.place(path, Want::Existing, ErrorKind::PermissionDenied)?;
    lease.unless_cut(|| match rustix::fs::unlinkat(&place.dir, place.name, AtFlags::REMOVEDIR) {
        Err(Errno::EXIST) => Err(Error::new(ErrorKind::NotEmpty)),
        done => Ok(done?),
    })
}

fn is_dir(dir: impl AsFd, name: &[u8]) -> bool {
    attrs::look(dir, name).is_ok_and(|stat| attrs::kind(&stat) == Kind::Directory)
}

pub(super) fn rename(store: &Store, lease: &Lease, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
    let old = store.root.place(from, Want::Existing, ErrorKind::InvalidArgument)?;
    if to != from && to.starts_with(from) {
        attrs::look(&old.dir, old.name)?;
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the new name is below the old one"));
    }
    let at_root = if replace == Replace::No { ErrorKind::AlreadyExists } else { ErrorKind::NotEmpty };
    let new = store.root.place(to, Want::New, at_root)?;
    lease.unless_cut(|| rename_at(old.dir.as_fd(), old.name, new.dir.as_fd(), new.name, replace))?;
    if store.options.fsync == FsyncPolicy::Full {
        sync_dir(&new.dir)?;
    }
    Ok(())
}

/// One rename, from a name in a directory to another.
pub(super) fn rename_at(
    old_dir: BorrowedFd<'_>,
    old: &[u8],
    new_dir: BorrowedFd<'_>,
    new: &[u8],
    replace: Replace,
) -> Result<()> {
    let kernel = match replace {
        Replace::Yes => rustix::fs::renameat(old_dir, old, new_dir, new),
        Replace::No => rustix::fs::renameat_with(old_dir, old, new_dir, new, RenameFlags::NOREPLACE),
    };
    match kernel {
        Err(Errno::INVAL | Errno::NOSYS) if replace == Replace::No => {
            rename_without_help(old_dir, old, new_dir, new)
        }
        Err(Errno::EXIST) if replace == Replace::Yes => Err(Error::new(ErrorKind::NotEmpty)),
        done => Ok(done?),
    }
}

/// `Replace::No` on a filesystem that knows no `RENAME_NOREPLACE`.
pub(super) fn rename_without_help(
    old_dir: BorrowedFd<'_>,
    old: &[u8],
    new_dir: BorrowedFd<'_>,
    new: &[u8],
) -> Result<()> {
    if attrs::kind(&attrs::look(old_dir, old)?) == Kind::Directory {
        rustix::fs::mkdirat(new_dir, new, Mode::RWXU)?;
        return rustix::fs::renameat(old_dir, old, new_dir, new).map_err(|e| {
            let _ = rustix::fs::unlinkat(new_dir, new, AtFlags::REMOVEDIR);
            e.into()
        });
    }
    match rustix::fs::linkat(old_dir, old, new_dir, new, AtFlags::empty()) {
        Ok(()) => Ok(rustix::fs::unlinkat(old_dir, old, AtFlags::empty())?),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => match attrs::look(new_dir, new) {
            Ok(_) => Err(Error::new(ErrorKind::AlreadyExists)),
            Err(Errno::NOENT) => Ok(rustix::fs::renameat(old_dir, old, new_dir, new)?),
            Err(e) => Err(e.into()),
        },
        Err(e) => Err(e.into()),
    }
}

pub(super) fn set_attributes(
    store: &Store,
    lease: &Lease,
    path: &VPath,
    attributes: &Attributes,
    follow: Follow,
) -> Result<()> {
    let mut flags = OFlags::PATH;
    if follow == Follow::No {
        flags |= OFlags::NOFOLLOW;
    }
    let fd = store.root.open(path, flags, Mode::empty(), Want::Existing)?;
    let kind = attrs::kind(&attrs::look_at(&fd)?);
    attrs::check(attributes, kind, store.capabilities.properties)?;
    lease.unless_cut(|| attrs::apply(Target::Handle(fd.as_fd()), attributes))
}

pub(super) fn symlink(store: &Store, lease: &Lease, target: &[u8], at: &VPath) -> Result<()> {
    if !store.capabilities.symlinks {
        return Err(Error::unsupported(OperationKind::Symlink));
    }
    if target.is_empty() || target.contains(&0) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a link cannot hold this"));
    }
    let place = store.root.place(at, Want::New, ErrorKind::AlreadyExists)?;
    lease.unless_cut(|| Ok(rustix::fs::symlinkat(target, &place.dir, place.name)?))
}

pub(super) fn read_link(store: &Store, path: &VPath) -> Result<Bytes> {
    if !store.capabilities.symlinks {
        return Err(Error::unsupported(OperationKind::ReadLink));
    }
    let place = store.root.place(path, Want::Existing, ErrorKind::InvalidArgument)?;
    let target = rustix::fs::readlinkat(&place.dir, place.name, Vec::new())?;
    Ok(Bytes::from(target.into_bytes()))
}

/// Of a symbolic link the link itself gets another name, as `link(2)` does here.
pub(super) fn hard_link(store: &Store, lease: &Lease, from: &VPath, to: &VPath) -> Result<()> {
    if !store.capabilities.hard_links {
        return Err(Error::unsupported(OperationKind::HardLink));
    }
    let old = store.root.place(from, Want::Existing, ErrorKind::IsADirectory)?;
    let new = store.root.place(to, Want::New, ErrorKind::AlreadyExists)?;
    lease.unless_cut(|| match rustix::fs::linkat(&old.dir, old.name, &new.dir, new.name, AtFlags::empty()) {
        Err(Errno::PERM) if is_dir(&old.dir, old.name) => Err(Error::new(ErrorKind::IsADirectory)),
        done => Ok(done?),
    })
}

pub(super) fn space(store: &Store, path: &VPath) -> Result<Space> {
    let fd = store.root.open(path, OFlags::PATH, Mode::empty(), Want::Existing)?;
    let s = rustix::fs::fstatvfs(&fd)?;
    let bytes = |blocks: u64| blocks.saturating_mul(s.f_frsize);
    Ok(Space {
        block_size: s.f_frsize,
        total: bytes(s.f_blocks),
        free: bytes(s.f_bfree),
        available: bytes(s.f_bavail),
        entries: s.f_files,
        entries_free: s.f_ffree,
        max_name: s.f_namemax,
        read_only: s.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Tells a copy on the pool that nobody waits for it any more.
pub(super) struct GiveUp(pub(super) Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Copies content, permission bits and properties into a staged file and publishes that.
pub(super) fn copy(
    store: &Store,
    lease: &Lease,
    from: &VPath,
    to: &VPath,
    replace: Replace,
    given_up: &AtomicBool,
) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let source = store.root.open(from, flags, Mode::empty(), Want::Existing)?;
    let stat = attrs::look_at(&source)?;
    match attrs::kind(&stat) {
        Kind::RegularFile => {}
        Kind::Directory => return Err(Error::new(ErrorKind::IsADirectory)),
        _ => return Err(Error::new(ErrorKind::PermissionDenied).with_detail("this is not a regular file")),
    }
    // Told before the work, and once more by the publishing itself.
    let place = store.root.place(to, Want::New, ErrorKind::IsADirectory)?;
    match attrs::look(&place.dir, place.name) {
        Ok(_) if replace == Replace::No => return Err(Error::new(ErrorKind::AlreadyExists)),
        Ok(there) if attrs::kind(&there) == Kind::Directory => {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        Ok(_) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let (id, target) = store.area.make(store, to, b"")?;
    let mut undo = stage::Undo(Some((store, id.clone())));
    copy_content(&source, &target, &mut || {
        if given_up.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Canceled));
        }
        lease.unless_cut(|| Ok(()))
    })?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(attrs::mode(&stat) & 0o777))?;
    if store.capabilities.properties {
        attrs::attach(source.as_fd(), target.as_fd(), |name| name.starts_with(b"user."))?;
    }
    store.area.publish(store, lease, &id, to, replace, false)?;
    undo.0 = None;
    Ok(())
}

/// All of `source` into the empty `target`: shared blocks where the disk can, else copied by the kernel,
/// else by us. `look` ends it.
fn copy_content(source: &OwnedFd, target: &OwnedFd, look: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let (mut read, mut written) = (0, 0);
    loop {
        look()?;
        match rustix::fs::copy_file_range(source, Some(&mut read), target, Some(&mut written), STEP) {
            Ok(0) if written > 0 => return Ok(()),
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    // Some filesystems (those that make content up) give nothing to the kernel's own copying.
    let mut at = written;
    let mut buf = vec![0; 256 << 10];
    loop {
        look()?;
        let n = retry_on_intr(|| rustix::io::pread(source, &mut *buf, at))?;
        let Some(mut left) = buf.get(..n).filter(|b| !b.is_empty()) else { return Ok(()) };
        while !left.is_empty() {
            let n = retry_on_intr(|| rustix::io::pwrite(target, left, at))?;
            at += n as u64;
            left = left.get(n..).unwrap_or_default();
        }
    }
}
