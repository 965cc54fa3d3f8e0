//! From a virtual path to a handle, never leaving the root and never following a link.
//!
//! A path is opened in one step with `openat2` and `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
//! RESOLVE_NO_MAGICLINKS` (openat2(2)). Where a sandbox refuses that call (found out once, when the store is opened),
//! and after an `ELOOP` to find the link, the path is walked component by component with `O_NOFOLLOW`, which is as
//! safe and only slower. There is no check that a later use relies on.
//!
//! The store's own names (see [`STAGE`]) are no path of anybody: `NotFound`, or `InvalidPath` where one
//! would be made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, ErrorKind, Link, Result};
use crate::path::VPath;

/// The staging folder at the root; with a dot and more behind it, a staged file beside its target.
pub(super) const STAGE: &str = ".ferry-stage";

/// Whether `name` belongs to the store and is invisible.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    name.strip_prefix(STAGE.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
}

/// What a caller wants of a path: an entry that is there, or a place for a new one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Existing,
    New,
}

fn check(path: &VPath, want: Want) -> Result<()> {
    if !path.segments().any(is_reserved) {
        return Ok(());
    }
    Err(match want {
        Want::Existing => Error::new(ErrorKind::NotFound),
        Want::New => Error::new(ErrorKind::InvalidPath).with_detail("this name is reserved"),
    })
}

/// A directory by handle (`O_PATH`).
pub(super) enum Dir<'r> {
    Root(BorrowedFd<'r>),
    Below(OwnedFd),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Dir::Root(fd) => fd.as_fd(),
            Dir::Below(fd) => fd.as_fd(),
        }
    }
}

/// An entry by the handle of its directory and its name.
pub(super) struct Place<'r, 'p> {
    pub(super) dir: Dir<'r>,
    pub(super) name: &'p [u8],
}

/// The root of a store.
pub(super) struct Root {
    fd: OwnedFd,
    /// `openat2` is refused here.
    walks: AtomicBool,
}

impl Root {
    /// Opens the directory `path`, which is the administrator's own and may run over links.
    pub(super) fn open_root(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        let probe = rustix::fs::openat2(&fd, ".", flags, Mode::empty(), RESOLVE);
        let walks = matches!(probe, Err(Errno::NOSYS | Errno::PERM | Errno::INVAL));
        Ok(Root { fd, walks: AtomicBool::new(walks) })
    }

    /// The root's handle.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Walks from now on, as where `openat2` is refused.
    #[cfg(test)]
    pub(super) fn walk_only(&self) {
        self.walks.store(true, Ordering::Relaxed);
    }

    /// Opens `path` with `flags` (and `O_CLOEXEC`). A link, in the middle or at the end, is
    /// [`Error::link`]; with `O_PATH | O_NOFOLLOW` a link at the end is opened itself.
    pub(super) fn open(&self, path: &VPath, flags: OFlags, mode: Mode, want: Want) -> Result<OwnedFd> {
        check(path, want)?;
        self.open_unchecked(path, flags, mode)
    }

    fn open_unchecked(&self, path: &VPath, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if !self.walks.load(Ordering::Relaxed) {
            let relative = match path.as_bytes().strip_prefix(b"/") {
                None | Some(b"") => b".",
                Some(relative) => relative,
            };
            loop {
                match rustix::fs::openat2(&self.fd, relative, flags, mode, RESOLVE) {
                    Ok(fd) => return Ok(fd),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(Errno::LOOP) => break,
                    Err(Errno::NOSYS) => {
                        self.walks.store(true, Ordering::Relaxed);
                        break;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        self.walk(path, flags, mode)
    }

    /// Opens a directory as a handle for `*at` calls.
    pub(super) fn dir(&self, path: &VPath, want: Want) -> Result<Dir<'_>> {
        if path.is_root() {
            return Ok(Dir::Root(self.fd()));
        }
        self.open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), want).map(Dir::Below)
    }

    /// The directory that holds `path`, by handle, and the name in it. The root has none: `at_root`.
    pub(super) fn place<'p>(&self, path: &'p VPath, want: Want, at_root: ErrorKind) -> Result<Place<'_, 'p>> {
        check(path, want)?;
        let Some(parent) = path.parent() else { return Err(Error::new(at_root)) };
        Ok(Place { dir: self.dir(&parent, want)?, name: path.name() })
    }

    fn walk(&self, path: &VPath, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let mut dir = Dir::Root(self.fd());
        let mut at = VPath::root();
        let mut segments = path.segments().peekable();
        while let Some(name) = segments.next() {
            at = at.join(name)?;
            if segments.peek().is_none() {
                return last(&dir, name, at, flags, mode);
            }
            let through = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = retry_on_intr(|| rustix::fs::openat(&dir, name, through, Mode::empty()))?;
            match type_of(&fd)? {
                FileType::Directory => dir = Dir::Below(fd),
                FileType::Symlink => return Err(link(at, &fd, "")?),
                _ => return Err(Error::new(ErrorKind::NotADirectory)),
            }
        }
        Ok(retry_on_intr(|| rustix::fs::openat(&dir, ".", flags, mode))?)
    }
}

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The end of a walk: `name` in `dir`, which is `at`.
fn last(dir: &Dir<'_>, name: &[u8], at: VPath, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    match retry_on_intr(|| rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW, mode)) {
        Ok(fd) => {
            let itself = OFlags::PATH | OFlags::NOFOLLOW;
            if flags.contains(OFlags::PATH) && !flags.contains(itself) && type_of(&fd)? == FileType::Symlink {
                return Err(link(at, &fd, "")?);
            }
            Ok(fd)
        }
        // With `O_DIRECTORY` a link is "not a directory".
        Err(e @ (Errno::LOOP | Errno::NOTDIR)) => Err(link(at, dir, name).unwrap_or_else(|_| e.into())),
        Err(e) => Err(e.into()),
    }
}

/// The answer to a link `at`: its text is read from `name` in `dir`.
pub(super) fn link<P: rustix::path::Arg>(at: VPath, dir: impl AsFd, name: P) -> Result<Error> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes();
    Ok(Error::link(Link { at, target }))
}

/// The type of what a handle stands for.
pub(super) fn type_of(fd: impl AsFd) -> Result<FileType> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(fd, "", flags, StatxFlags::TYPE)?;
    Ok(FileType::from_raw_mode(stat.stx_mode.into()))
}
