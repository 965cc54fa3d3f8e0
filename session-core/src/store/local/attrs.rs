//! Attributes: what `statx` says as `Metadata`, and `Attributes` set on a handle or an open file.
//!
//! Properties are extended attributes named `user.ferry.<name>`. What is set by path goes through an
//! `O_PATH` handle and `/proc/self/fd`, so no name is resolved twice and no read permission is needed;
//! mode, size and properties by path therefore need `/proc`.
//!
//! Order of setting: size, owner, mode, properties, times (each disturbs what comes later, never what
//! came before). A store cannot set all of them in one step: after an error some may be set.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{
    AtFlags, FileType as Kind, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::Properties;
use crate::metadata::{Attributes, FileType, Metadata};

/// Before a property's name.
const PREFIX: &str = "user.ferry.";
/// The longest extended attribute name, in bytes (xattr(7)).
const MAX_XATTR_NAME: usize = 255;
/// The most that is read of one file's list of attributes or of one attribute (xattr(7)).
const MAX_XATTR: usize = 64 * 1024;

/// A file's access list (acl(5)).
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// What is asked of `statx`.
pub(super) const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// What `name` in `dir` is; the link itself of a link.
pub(super) fn look<P: Arg>(dir: impl AsFd, name: P) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    retry_stat(dir.as_fd(), name, flags)
}

/// What a handle or an open file is.
pub(super) fn look_at(fd: impl AsFd) -> Result<Statx, Errno> {
    retry_stat(fd.as_fd(), "", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
}

fn retry_stat<P: Arg>(fd: BorrowedFd<'_>, name: P, flags: AtFlags) -> Result<Statx, Errno> {
    name.into_with_c_str(|name| retry_on_intr(|| rustix::fs::statx(fd, name, flags, WANTED)))
}

/// The kind of what was looked at.
pub(super) fn kind(stat: &Statx) -> Kind {
    Kind::from_raw_mode(stat.stx_mode.into())
}

/// The device of what was looked at.
pub(super) fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

/// The permission bits of what was looked at.
pub(super) fn mode(stat: &Statx) -> u32 {
    u32::from(stat.stx_mode) & 0o7777
}

/// The validator: inode, size and modification time.
pub(super) fn etag(stat: &Statx) -> Arc<str> {
    let mtime = i128::from(stat.stx_mtime.tv_sec) * 1_000_000_000 + i128::from(stat.stx_mtime.tv_nsec);
    format!("{:x}-{:x}-{:x}", stat.stx_ino, stat.stx_size, mtime).into()
}

/// What was looked at, as the model says it.
pub(super) fn metadata(stat: &Statx) -> Metadata {
    let file_type = match kind(stat) {
        Kind::RegularFile => FileType::File,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        _ => FileType::Other,
    };
    let is_file = file_type == FileType::File;
    let sized = is_file || file_type == FileType::Symlink;
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    Metadata {
        modified: system_time(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        accessed: system_time(stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
        created: if has_birth { system_time(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { None },
        mode: Some(mode(stat)),
        uid: Some(stat.stx_uid),
        gid: Some(stat.stx_gid),
        links: Some(stat.stx_nlink.into()),
        etag: is_file.then(|| etag(stat)),
        ..Metadata::new(file_type, if sized { stat.stx_size } else { 0 })
    }
}

fn system_time(seconds: i64, nanos: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base?.checked_add(Duration::from_nanos(nanos.into()))
}

fn timespec(time: SystemTime) -> Result<Timespec> {
    let bad = || Error::new(ErrorKind::OutOfRange).with_detail("this time cannot be set");
    let seconds = |d: Duration| i64::try_from(d.as_secs()).map_err(|_| bad());
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Ok(Timespec { tv_sec: seconds(after)?, tv_nsec: after.subsec_nanos().into() }),
        Err(e) => {
            let before = e.duration();
            let whole = -seconds(before)?;
            Ok(match before.subsec_nanos() {
                0 => Timespec { tv_sec: whole, tv_nsec: 0 },
                nanos => Timespec { tv_sec: whole - 1, tv_nsec: (1_000_000_000 - nanos).into() },
            })
        }
    }
}

/// What attributes are set on.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// A handle (`O_PATH`).
    Handle(BorrowedFd<'a>),
    /// An open regular file.
    Open(BorrowedFd<'a>),
}

impl<'a> Target<'a> {
    fn fd(self) -> BorrowedFd<'a> {
        match self {
            Target::Handle(fd) | Target::Open(fd) => fd,
        }
    }
}

/// The path by which the kernel reaches what a handle stands for. It resolves to that very entry.
pub(super) fn magic(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Refuses what can be refused before anything is set.
pub(super) fn check(attributes: &Attributes, kind: Kind, properties: bool) -> Result<()> {
    let bad = |words: &'static str| Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
    if !attributes.properties.is_empty() && !properties {
        return Err(Error::new(ErrorKind::Unsupported).with_detail("this disk keeps no properties"));
    }
    if attributes.mode.is_some_and(|m| m > 0o7777) {
        return bad("permission bits go up to 7777");
    }
    if kind == Kind::Symlink && (attributes.mode.is_some() || !attributes.properties.is_empty()) {
        return bad("a link has neither permission bits nor properties of its own");
    }
    if let Some(size) = attributes.size {
        if kind == Kind::Directory {
            return Err(Error::new(ErrorKind::IsADirectory));
        }
        if kind != Kind::RegularFile {
            return bad("only a file has a size");
        }
        if i64::try_from(size).is_err() {
            return Err(Error::new(ErrorKind::TooLarge));
        }
    }
    for name in attributes.properties.keys() {
        if name.is_empty() || name.contains('\0') {
            return bad("this is no name of a property");
        }
        if PREFIX.len() + name.len() > MAX_XATTR_NAME {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("the property's name is too long"));
        }
    }
    for time in [attributes.accessed, attributes.modified].into_iter().flatten() {
        timespec(time)?;
    }
    Ok(())
}

/// Sets `attributes`, which were checked.
pub(super) fn apply(target: Target<'_>, attributes: &Attributes) -> Result<()> {
    if let Some(size) = attributes.size {
        match target {
            Target::Open(fd) => retry_on_intr(|| rustix::fs::ftruncate(fd, size))?,
            Target::Handle(fd) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let file = rustix::fs::open(magic(fd), flags, Mode::empty()).map_err(no_proc)?;
                retry_on_intr(|| rustix::fs::ftruncate(&file, size))?;
            }
        }
    }
    if attributes.uid.is_some() || attributes.gid.is_some() {
        let whole = |id: Option<u32>| match id {
            Some(u32::MAX) => Err(Error::new(ErrorKind::InvalidArgument).with_detail("this is no owner")),
            id => Ok(id),
        };
        let uid = whole(attributes.uid)?.map(Uid::from_raw);
        let gid = whole(attributes.gid)?.map(Gid::from_raw);
        rustix::fs::chownat(target.fd(), "", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    if let Some(mode) = attributes.mode {
        let mode = Mode::from_raw_mode(mode);
        match target {
            Target::Open(fd) => rustix::fs::fchmod(fd, mode)?,
            Target::Handle(fd) => rustix::fs::chmod(magic(fd), mode).map_err(no_proc)?,
        }
    }
    for (name, value) in &attributes.properties {
        set_xattr(target, format!("{PREFIX}{name}").as_bytes(), value.as_deref())?;
    }
    if attributes.accessed.is_some() || attributes.modified.is_some() {
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let one = |time: Option<SystemTime>| time.map_or(Ok(omit), timespec);
        let times = Timestamps {
            last_access: one(attributes.accessed)?,
            last_modification: one(attributes.modified)?,
        };
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(target.fd(), "", &times, flags)?;
    }
    Ok(())
}

fn no_proc(e: Errno) -> Error {
    let error = Error::from(e);
    if e == Errno::NOENT {
        return Error::new(ErrorKind::Internal)
            .with_source(error)
            .with_hint("attributes are set through /proc, which seems not to be mounted");
    }
    error
}

fn set_xattr(target: Target<'_>, name: &[u8], value: Option<&[u8]>) -> Result<()> {
    let flags = XattrFlags::empty();
    let done = match (target, value) {
        (Target::Open(fd), Some(value)) => rustix::fs::fsetxattr(fd, name, value, flags),
        (Target::Open(fd), None) => rustix::fs::fremovexattr(fd, name),
        (Target::Handle(fd), Some(value)) => rustix::fs::setxattr(magic(fd), name, value, flags),
        (Target::Handle(fd), None) => rustix::fs::removexattr(magic(fd), name),
    };
    match (done, value) {
        (Err(Errno::NODATA), None) => Ok(()),
        (Err(Errno::RANGE), _) => {
            Err(Error::new(ErrorKind::TooLarge).with_detail("the property is too large"))
        }
        (done, _) => Ok(done?),
    }
}

/// Whether the disk below a directory takes `user.` attributes. Changes nothing.
pub(super) fn probe_properties(dir: BorrowedFd<'_>) -> bool {
    let found = rustix::fs::getxattr(magic(dir), "user.ferry", &mut [0u8; 8]);
    matches!(found, Ok(_) | Err(Errno::NODATA | Errno::RANGE))
}

/// Whether what is made in a directory inherits an access list from it (acl(5)).
pub(super) fn has_default_acl(dir: BorrowedFd<'_>) -> bool {
    let found = rustix::fs::getxattr(magic(dir), "system.posix_acl_default", &mut [0u8; 8]);
    matches!(found, Ok(_) | Err(Errno::RANGE))
}

/// Where extended attributes are read.
pub(super) enum Attached<'a> {
    /// Of an open file.
    Open(BorrowedFd<'a>),
    /// By a path that resolves to the entry itself.
    Path(String),
    /// Of a name in a directory, a link itself.
    Name(Vec<u8>),
}

impl Attached<'_> {
    /// Of `name` in `dir`.
    pub(super) fn name(dir: impl AsFd, name: &[u8]) -> Self {
        let mut path = magic(dir).into_bytes();
        path.push(b'/');
        path.extend_from_slice(name);
        Attached::Name(path)
    }

    fn list(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Attached::Open(fd) => rustix::fs::flistxattr(fd, buf),
            Attached::Path(path) => rustix::fs::listxattr(path, buf),
            Attached::Name(path) => rustix::fs::llistxattr(path.as_slice(), buf),
        }
    }

    fn value(&self, name: &[u8], buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Attached::Open(fd) => rustix::fs::fgetxattr(fd, name, buf),
            Attached::Path(path) => rustix::fs::getxattr(path, name, buf),
            Attached::Name(path) => rustix::fs::lgetxattr(path.as_slice(), name, buf),
        }
    }

    /// All names, in order of the disk.
    fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let list = sized(|buf| self.list(buf))?;
        Ok(list.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect())
    }

    fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        sized(|buf| self.value(name, buf))
    }
}

/// Reads something whose size is not known: a small buffer first, then the largest there can be.
fn sized(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0u8; 256];
    match read(&mut small) {
        Ok(n) => return Ok(small.get(..n).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    let mut large = vec![0u8; MAX_XATTR];
    let n = read(&mut large)?;
    large.truncate(n);
    Ok(large)
}

static NO_PROPERTIES: LazyLock<Properties> = LazyLock::new(Properties::default);

/// The properties of an entry; `None` where they cannot be read. A name that is not UTF-8 is none of
/// ours and left out.
pub(super) fn properties(from: &Attached<'_>) -> Option<Properties> {
    let names = from.names().ok()?;
    let mut found = BTreeMap::new();
    for name in names {
        let Some(ours) = name.strip_prefix(PREFIX.as_bytes()) else { continue };
        let Ok(ours) = std::str::from_utf8(ours) else { continue };
        match from.get(&name) {
            Ok(value) => found.insert(ours.to_owned(), Bytes::from(value)),
            Err(Errno::NODATA) => continue,
            Err(_) => return None,
        };
    }
    Some(if found.is_empty() { Arc::clone(&NO_PROPERTIES) } else { Arc::new(found) })
}

/// Gives the entry behind `to` what the file behind `from` has: owner (where permitted), access list,
/// `user.` attributes that `to` has not got, mode. Used before `to` replaces `from`.
pub(super) fn keep(from: BorrowedFd<'_>, from_stat: &Statx, to: BorrowedFd<'_>) -> Result<()> {
    // New content never inherits set-user-id or set-group-id: a write in place would clear them too.
    let bits = mode(from_stat) & 0o777;
    let now = look_at(to)?;
    if (now.stx_uid, now.stx_gid) != (from_stat.stx_uid, from_stat.stx_gid) {
        let (uid, gid) = (Uid::from_raw(from_stat.stx_uid), Gid::from_raw(from_stat.stx_gid));
        let whole = rustix::fs::chownat(to, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
        if whole.is_err() {
            // The group alone is often permitted.
            let _ = rustix::fs::chownat(to, "", None, Some(gid), AtFlags::EMPTY_PATH);
        }
    }
    let target = Target::Handle(to);
    match Attached::Path(magic(from)).get(ACCESS_LIST) {
        Ok(list) => set_xattr(target, ACCESS_LIST, Some(&list))?,
        // None: then none that the new file inherited from its directory either.
        Err(Errno::NODATA) => set_xattr(target, ACCESS_LIST, None)?,
        Err(Errno::OPNOTSUPP) => {}
        Err(e) => return Err(no_proc(e)),
    }
    attach(from, to, |name| name.starts_with(b"user."))?;
    rustix::fs::chmod(magic(to), Mode::from_raw_mode(bits)).map_err(no_proc)
}

/// Copies the extended attributes that `wanted` picks and `to` has not got.
pub(super) fn attach(from: BorrowedFd<'_>, to: BorrowedFd<'_>, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
    let old = Attached::Path(magic(from));
    let names = match old.names() {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(no_proc(e)),
    };
    let target = Target::Handle(to);
    let has = Attached::Path(magic(to)).names().unwrap_or_default();
    for name in names.into_iter().filter(|n| wanted(n)) {
        if has.contains(&name) {
            continue;
        }
        match old.get(&name) {
            Ok(value) => set_xattr(target, &name, Some(&value))?,
            // Gone meanwhile, or not for us to read.
            Err(Errno::NODATA | Errno::ACCESS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_survive() {
        for (seconds, nanos) in [(-1, 1), (-1, 999_999_999), (-86_400, 0), (0, 0), (5, 7), (i64::MIN / 8, 3)]
        {
            let time = system_time(seconds, nanos).unwrap();
            let back = timespec(time).unwrap();
            assert_eq!((back.tv_sec, back.tv_nsec), (seconds, nanos.into()));
        }
    }
}
