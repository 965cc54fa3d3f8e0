//! What an ambiguous status means: version 3 says *failure* for most things and *no such file* for
//! three.
//!
//! A failed call asks again (LSTAT, STAT, one READDIR) where the model's contract names a more precise
//! kind. Only failures pay for it, and only those whose status leaves a choice; the first reply of the
//! server stays in the error. What changes between the failure and the question makes the answer a
//! guess; it is never an excuse to report success.

use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::{Attributes, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::driver::Client;
use super::machine::unexpected;
use super::remote::raw;
use crate::wire::{Reply, Request, StatusCode};

/// The longest name and path of the servers that answer *bad message* for longer ones.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;

/// What can be set over this wire. Errors: `InvalidArgument`, `Unsupported`; nothing was sent.
pub(super) fn settable(a: &Attributes) -> Result<()> {
    if a.mode.is_some_and(|m| m > 0o7777) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("mode bits above 7777"));
    }
    if !a.properties.is_empty() {
        return Err(Error::unsupported(OperationKind::SetAttributes));
    }
    Ok(())
}

/// The same server's reply under another kind.
pub(super) fn as_kind(e: &Error, kind: ErrorKind) -> Error {
    let refined = Error::new(kind);
    match e.wire() {
        Some(wire) => refined.with_wire(wire.code, wire.text.clone()),
        None => refined,
    }
}

fn has_code(e: &Error, code: StatusCode) -> bool {
    e.wire().is_some_and(|w| w.code == code as u32)
}

/// *Failure*: anything. False once the kind was found out.
pub(super) fn is_failure(e: &Error) -> bool {
    has_code(e, StatusCode::Failure) && e.kind() == ErrorKind::Internal
}

/// *No such file*: also a file where a directory is needed.
pub(super) fn is_missing(e: &Error) -> bool {
    has_code(e, StatusCode::NoSuchFile)
}

fn is_too_long(path: &[u8]) -> bool {
    path.len() > PATH_MAX || path.split(|b| *b == b'/').any(|name| name.len() > NAME_MAX)
}

/// The end of an upload failed: a server that stands in front of another may learn only then that the name is too
/// long.
pub(super) fn not_published(e: Error, path: &[u8]) -> Error {
    if is_failure(&e) && is_too_long(path) { as_kind(&e, ErrorKind::InvalidPath) } else { e }
}

/// *Bad message* in answer to a request that was well formed: OpenSSH's word for `EINVAL` and
/// `ENAMETOOLONG`. Others, we among them, say *failure* to a name that is too long.
pub(super) fn bad_message(e: Error, paths: &[&VPath]) -> Error {
    let bad = has_code(&e, StatusCode::BadMessage);
    if !bad && !is_failure(&e) {
        return e;
    }
    match (paths.iter().any(|p| is_too_long(p.as_bytes())), bad) {
        (true, _) => as_kind(&e, ErrorKind::InvalidPath),
        (false, true) => as_kind(&e, ErrorKind::InvalidArgument),
        (false, false) => e,
    }
}

impl Client {
    /// STAT or LSTAT, as it is answered.
    pub(super) async fn look(&self, path: &VPath, link: bool) -> Result<Metadata> {
        let path = raw(path);
        let request = if link { Request::Lstat { path } } else { Request::Stat { path } };
        match self.call(request).await? {
            Reply::Attrs(attrs) => Ok(attrs.to_metadata()),
            reply => Err(unexpected(&reply)),
        }
    }

    /// *No such file* for `path`: `NotADirectory` if something above it is none. Directories seen lately
    /// are not asked about again, so that looking for many missing files costs one question more, not
    /// one each.
    pub(super) async fn missing(&self, path: &VPath, e: Error) -> Error {
        let mut above = path.parent();
        while let Some(dir) = above {
            if dir.is_root() || self.was_directory(&dir) {
                break;
            }
            match self.look(&dir, false).await {
                Ok(m) if m.is_dir() => {
                    self.is_directory(&dir);
                    break;
                }
                Ok(_) => return as_kind(&e, ErrorKind::NotADirectory),
                Err(look) if is_missing(&look) => above = dir.parent(),
                Err(_) => break,
            }
        }
        e
    }

    /// Why an OPEN failed.
    pub(super) async fn open_failed(&self, path: &VPath, exclusive: bool, e: Error) -> Error {
        let e = bad_message(e, &[path]);
        if is_missing(&e) {
            return self.missing(path, e).await;
        }
        if !is_failure(&e) {
            return e;
        }
        match self.look(path, exclusive).await {
            Ok(_) if exclusive => as_kind(&e, ErrorKind::AlreadyExists),
            Ok(m) if m.is_dir() => as_kind(&e, ErrorKind::IsADirectory),
            _ => e,
        }
    }

    /// Why a MKDIR, a SYMLINK or a link to `path` failed, which must not exist.
    pub(super) async fn create_failed(&self, path: &VPath, e: Error) -> Error {
        let e = bad_message(e, &[path]);
        if path.is_root() {
            return as_kind(&e, ErrorKind::AlreadyExists);
        }
        if is_missing(&e) {
            return self.missing(path, e).await;
        }
        if is_failure(&e) && self.look(path, true).await.is_ok() {
            return as_kind(&e, ErrorKind::AlreadyExists);
        }
        e
    }

    /// Why a REMOVE failed.
    pub(super) async fn remove_failed(&self, path: &VPath, e: Error) -> Error {
        let e = bad_message(e, &[path]);
        if is_missing(&e) {
            return self.missing(path, e).await;
        }
        // Linux says that it is a directory, others that it is not permitted.
        let unclear = is_failure(&e) || has_code(&e, StatusCode::PermissionDenied);
        if unclear && self.look(path, true).await.is_ok_and(|m| m.is_dir()) {
            return as_kind(&e, ErrorKind::IsADirectory);
        }
        e
    }

    /// Why an RMDIR failed.
    pub(super) async fn remove_dir_failed(&self, path: &VPath, e: Error) -> Error {
        let e = bad_message(e, &[path]);
        if !is_missing(&e) && !is_failure(&e) {
            return e;
        }
        match self.look(path, true).await {
            Ok(m) if !m.is_dir() => as_kind(&e, ErrorKind::NotADirectory),
            Ok(_) if is_failure(&e) && self.holds_entries(path).await => as_kind(&e, ErrorKind::NotEmpty),
            Ok(_) => e,
            Err(_) if is_missing(&e) => self.missing(path, e).await,
            Err(_) => e,
        }
    }

    /// Why an OPENDIR failed.
    pub(super) async fn list_failed(&self, path: &VPath, e: Error) -> Error {
        let e = bad_message(e, &[path]);
        if !is_missing(&e) && !is_failure(&e) {
            return e;
        }
        match self.look(path, false).await {
            Ok(m) if !m.is_dir() => as_kind(&e, ErrorKind::NotADirectory),
            Ok(_) => e,
            Err(_) if is_missing(&e) => self.missing(path, e).await,
            Err(_) => e,
        }
    }

    /// Why a rename failed.
    pub(super) async fn rename_failed(&self, from: &VPath, to: &VPath, replace: bool, e: Error) -> Error {
        if to != from && to.starts_with(from) {
            return as_kind(&e, ErrorKind::InvalidArgument);
        }
        let e = bad_message(e, &[from, to]);
        if !is_missing(&e) && !is_failure(&e) {
            return e;
        }
        let Ok(source) = self.look(from, true).await else {
            return if is_missing(&e) { self.missing(from, e).await } else { e };
        };
        let Ok(target) = self.look(to, true).await else {
            return if is_missing(&e) { self.missing(to, e).await } else { e };
        };
        if !replace {
            return as_kind(&e, ErrorKind::AlreadyExists);
        }
        match (source.is_dir(), target.is_dir()) {
            (false, true) => as_kind(&e, ErrorKind::IsADirectory),
            (true, false) => as_kind(&e, ErrorKind::NotADirectory),
            (true, true) if self.holds_entries(to).await => as_kind(&e, ErrorKind::NotEmpty),
            _ => e,
        }
    }

    /// Whether a directory is known to hold anything.
    async fn holds_entries(&self, dir: &VPath) -> bool {
        let Ok(mut listing) = super::listing::open(self, dir).await else { return false };
        matches!(session_core::fs::Pages::next_page(&mut listing).await, Ok(Some(_)))
    }
}
