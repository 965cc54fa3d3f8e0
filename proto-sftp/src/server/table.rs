//! The table of requests: for each its name, its packet, its operation, and how it is planned.
//!
//! One text makes the rows (for help, logs and documentation) and the `match` that plans a request, so a
//! request without a row does not compile. Paths are parsed here, at the edge, against the
//! account's home. Planning needs only the table of handles; it decides what a request touches
//! ([`Footprint`]) and which call answers it.

use bytes::Bytes;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Follow, OpenOptions, Replace};
use session_core::metadata::Attributes;
use session_core::operation::OperationKind;
use session_core::path::{VPath, display_bytes};
use session_core::session::Argument;

use super::handles::{Handles, Kind};
use super::machine::{At, Bounds, Call};
use super::order::{Access, Footprint};
use crate::wire::extension::{self, CheckFile, Extended};
use crate::wire::packet::kind;
use crate::wire::{Attrs, Limits, OpenFlags, Reply, Request};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name in logs and live sessions.
    pub verb: &'static str,
    /// The packet type; extensions share one.
    pub packet: u8,
    /// What the gate sees; `None` for commands, which are not operations.
    pub operation: Option<OperationKind>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Planned {
    /// It is answered at once.
    Answer(Reply),
    /// It needs a call.
    Call(Box<Plan>),
}

/// A call to be made when its turn comes.
#[derive(Debug)]
pub struct Plan {
    /// The call.
    pub call: Call,
    /// What it touches.
    pub footprint: Footprint,
    /// What a live view shows.
    pub argument: Argument,
    /// What its success does to the machine.
    pub effect: Effect,
}

/// What the success of a call does to the machine, and what is answered then.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answers this.
    Answers(Reply),
    /// The handle is gone, whether the call succeeded or not.
    Closes(u64),
    /// The greeting is done.
    Greets,
    /// Answers what the call says.
    None,
    /// The handle is open; without success it is gone.
    Opens(u64),
    /// Handles up to this number move along.
    Renames(VPath, VPath, u64),
}

macro_rules! rows {
    ($p:ident: $( $verb:literal $packet:ident $operation:expr, $pattern:pat => $plan:expr; )*) => {
        /// Every request that a client can make.
        pub static TABLE: &[Row] = &[$( Row { verb: $verb, packet: kind::$packet, operation: $operation } ),*];

        /// Plans a request. Errors are answered with their status.
        pub fn plan($p: &mut Planner<'_>, request: Request) -> (&'static str, Result<Planned>) {
            match request {
                $( $pattern => ($verb, $plan), )*
            }
        }
    };
}

use OperationKind as O;

rows! { p:
    "CLOSE" CLOSE Some(O::Commit), Request::Close { handle } => p.close(&handle);
    "FSETSTAT" FSETSTAT Some(O::SetAttributes), Request::Fsetstat { handle, attrs } => p.fsetstat(&handle, &attrs);
    "FSTAT" FSTAT Some(O::Stat), Request::Fstat { handle } => p.fstat(&handle);
    "LSTAT" LSTAT Some(O::Stat), Request::Lstat { path } => p.stat(&path, Follow::No);
    "MKDIR" MKDIR Some(O::CreateDir), Request::Mkdir { path, attrs } => p.mkdir(&path, &attrs);
    "OPEN" OPEN Some(O::Open), Request::Open { path, flags, attrs } => p.open(&path, flags, &attrs);
    "OPENDIR" OPENDIR Some(O::List), Request::Opendir { path } => p.opendir(&path);
    "READ" READ Some(O::Read), Request::Read { handle, offset, len } => p.read(&handle, offset, len);
    "READDIR" READDIR Some(O::List), Request::Readdir { handle } => p.readdir(&handle);
    "READLINK" READLINK Some(O::ReadLink), Request::Readlink { path } => p.readlink(&path);
    "REALPATH" REALPATH None, Request::Realpath { path } => p.realpath("REALPATH", &path);
    "REMOVE" REMOVE Some(O::RemoveFile), Request::Remove { path } => p.remove(&path);
    "RENAME" RENAME Some(O::Rename), Request::Rename { from, to } => p.rename(&from, &to, Replace::No);
    "RMDIR" RMDIR Some(O::RemoveDir), Request::Rmdir { path } => p.rmdir(&path);
    "SETSTAT" SETSTAT Some(O::SetAttributes), Request::Setstat { path, attrs } => p.setstat(&path, &attrs, Follow::Yes);
    "STAT" STAT Some(O::Stat), Request::Stat { path } => p.stat(&path, Follow::Yes);
    "SYMLINK" SYMLINK Some(O::Symlink), Request::Symlink { target, link } => p.symlink(target, &link);
    "WRITE" WRITE Some(O::Write), Request::Write { handle, offset, data } => p.write(&handle, offset, data);
    "CHECK-FILE-HANDLE" EXTENDED Some(O::Checksum),
        Request::Extended(Extended::CheckFileHandle { handle, check, old }) => p.check_handle(&handle, check, old);
    "CHECK-FILE-NAME" EXTENDED Some(O::Checksum),
        Request::Extended(Extended::CheckFileName { path, check }) => p.check_name(&path, check);
    "COPY-DATA" EXTENDED Some(O::Write),
        Request::Extended(Extended::CopyData { read_handle, read_offset, read_len, write_handle, write_offset }) =>
            p.copy_data((&read_handle, read_offset, read_len), (&write_handle, write_offset));
    "EXPAND-PATH" EXTENDED None, Request::Extended(Extended::ExpandPath { path }) => p.expand_path(&path);
    "FSTATVFS" EXTENDED Some(O::Space), Request::Extended(Extended::Fstatvfs { handle }) => p.fstatvfs(&handle);
    "FSYNC" EXTENDED Some(O::Sync), Request::Extended(Extended::Fsync { handle }) => p.fsync(&handle);
    "HARDLINK" EXTENDED Some(O::HardLink), Request::Extended(Extended::Hardlink { from, to }) => p.hardlink(&from, &to);
    "HOME-DIRECTORY" EXTENDED None, Request::Extended(Extended::HomeDirectory { user }) => p.home(user);
    "LIMITS" EXTENDED None, Request::Extended(Extended::Limits) => Ok(p.limits());
    "LSETSTAT" EXTENDED Some(O::SetAttributes),
        Request::Extended(Extended::Lsetstat { path, attrs }) => p.setstat(&path, &attrs, Follow::No);
    "POSIX-RENAME" EXTENDED Some(O::Rename),
        Request::Extended(Extended::PosixRename { from, to }) => p.rename(&from, &to, Replace::Yes);
    "STATVFS" EXTENDED Some(O::Space), Request::Extended(Extended::Statvfs { path }) => p.statvfs(&path);
    "USERS-GROUPS-BY-ID" EXTENDED None,
        Request::Extended(Extended::UsersGroupsById { uids, gids }) => p.names(uids, gids);
    "VENDOR-ID" EXTENDED None,
        Request::Extended(Extended::VendorId { vendor, product, version, .. }) => p.vendor(&vendor, &product, &version);
    "UNKNOWN" EXTENDED None, Request::Unknown { kind, .. } => Err(Error::new(ErrorKind::Unsupported)
        .with_detail(format!("the packet type {kind} is not known")));
    "EXTENDED" EXTENDED None, Request::Extended(Extended::Unknown { name, .. }) => Err(Error::new(ErrorKind::Unsupported)
        .with_detail(format!("the extension '{}' is not known", display_bytes(&name))));
}

/// How many places an open file may be in before its CLOSE waits for everything.
const MAX_WHEREABOUTS: usize = 8;

/// How many owners may be asked for at once: the reply must fit a packet.
const MAX_IDS: usize = 1024;

/// What planning needs.
pub struct Planner<'a> {
    /// The open handles.
    pub handles: &'a mut Handles,
    /// Renames that have arrived and are not done, in order.
    pub renames: &'a [(VPath, VPath)],
    /// The session's bounds.
    pub bounds: &'a Bounds,
    /// Where relative paths begin.
    pub home: &'a VPath,
}

fn call(call: Call, footprint: Footprint, argument: Argument) -> Result<Planned> {
    call_with(call, footprint, argument, Effect::None)
}

fn call_with(call: Call, footprint: Footprint, argument: Argument, effect: Effect) -> Result<Planned> {
    Ok(Planned::Call(Box::new(Plan { call, footprint, argument, effect })))
}

fn one(path: &VPath) -> Argument {
    Argument::Path(path.clone())
}

/// Of a new entry only the mode is set, as OpenSSH does; a size is a hint.
fn new_attributes(attrs: &Attrs) -> Attributes {
    Attributes { mode: attrs.mode.map(|m| m & 0o7777), ..Attributes::default() }
}

impl Planner<'_> {
    fn path(&self, raw: &[u8]) -> Result<VPath> {
        VPath::parse(self.home, raw)
    }

    /// A file that the peer names: its number, its path, and what it may do.
    fn file(&self, wire: &[u8]) -> Result<(u64, VPath, bool, bool)> {
        let (number, handle) = self.handles.get(wire)?;
        match handle.kind {
            Kind::File { write, append } => Ok((number, handle.path.clone(), write, append)),
            Kind::Directory => {
                Err(Error::new(ErrorKind::InvalidArgument).with_detail("the handle is a directory's"))
            }
        }
    }

    /// The paths that an entry at `path` may have by the time a request that arrives now is run. Where
    /// that becomes intricate, the root stands for all of them.
    fn whereabouts(&self, path: &VPath) -> Vec<VPath> {
        let mut paths = vec![path.clone()];
        for (from, to) in self.renames {
            let mut moved: Vec<_> = paths.iter().filter_map(|p| p.rebase(from, to)).collect();
            moved.retain(|p| !paths.contains(p));
            paths.extend(moved);
            if paths.len() > MAX_WHEREABOUTS {
                return vec![VPath::root()];
            }
        }
        paths
    }

    fn close(&mut self, handle: &[u8]) -> Result<Planned> {
        let (number, h) = self.handles.get(handle)?;
        let path = h.path.clone();
        let written = matches!(h.kind, Kind::File { write: true, .. });
        let mut footprint = Footprint::uses(number, Access::Barrier);
        if written {
            footprint.changes = true;
            footprint.paths = self.whereabouts(&path);
        }
        self.handles.closing(number);
        let what = if written { Call::Commit { handle: number } } else { Call::Close { handle: number } };
        call_with(what, footprint, Argument::Path(path), Effect::Closes(number))
    }

    fn open(&mut self, raw: &[u8], flags: u32, attrs: &Attrs) -> Result<Planned> {
        let path = self.path(raw)?;
        let flags = OpenFlags::from_bits_retain(flags);
        let create = flags.contains(OpenFlags::CREATE);
        let truncate = flags.contains(OpenFlags::TRUNCATE);
        let append = flags.contains(OpenFlags::APPEND);
        let write = flags.contains(OpenFlags::WRITE) || create || truncate || append;
        let options = OpenOptions {
            // No access at all is read access, as OpenSSH has it.
            read: flags.contains(OpenFlags::READ) || !write,
            write,
            create,
            truncate,
            exclusive: create && flags.contains(OpenFlags::EXCLUDE),
            append,
            size_hint: attrs.size,
            attributes: new_attributes(attrs),
            ..OpenOptions::default()
        };
        let footprint =
            if create || truncate { Footprint::changes(&[&path]) } else { Footprint::looks_at(&path) };
        let argument = one(&path);
        let handle = self.handles.reserve(Kind::File { write, append }, path.clone())?;
        let open = Call::Open { handle, path, options: Box::new(options) };
        call_with(open, footprint, argument, Effect::Opens(handle))
    }

    fn opendir(&mut self, raw: &[u8]) -> Result<Planned> {
        let path = self.path(raw)?;
        let handle = self.handles.reserve(Kind::Directory, path.clone())?;
        let (footprint, argument) = (Footprint::looks_at(&path), one(&path));
        call_with(Call::List { handle, path }, footprint, argument, Effect::Opens(handle))
    }

    fn readdir(&mut self, wire: &[u8]) -> Result<Planned> {
        let (handle, h) = self.handles.get(wire)?;
        if h.kind != Kind::Directory {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the handle is a file's"));
        }
        let path = h.path.clone();
        let mut footprint = Footprint::uses(handle, Access::Barrier);
        footprint.paths = self.whereabouts(&path);
        call(Call::Page { handle }, footprint, Argument::Path(path))
    }

    fn read(&mut self, wire: &[u8], offset: u64, len: u32) -> Result<Planned> {
        let (handle, path, ..) = self.file(wire)?;
        let len = (len as usize).min(self.bounds.max_read);
        let footprint = Footprint::uses(handle, Access::read(offset, len as u64));
        call(Call::Read { handle, offset, len, buf: Default::default() }, footprint, Argument::Path(path))
    }

    fn write(&mut self, wire: &[u8], offset: u64, data: Bytes) -> Result<Planned> {
        let (handle, path, write, append) = self.file(wire)?;
        if !write {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for writing"));
        }
        let access =
            if append { Access::Write(0, u64::MAX) } else { Access::write(offset, data.len() as u64) };
        let footprint = Footprint::uses(handle, access);
        call(Call::Write { handle, offset, data }, footprint, Argument::Path(path))
    }

    fn fstat(&mut self, wire: &[u8]) -> Result<Planned> {
        let (handle, h) = self.handles.get(wire)?;
        let path = h.path.clone();
        let argument = one(&path);
        match h.kind {
            // The size that it tells is that after every earlier write.
            Kind::File { .. } => {
                let footprint = Footprint::uses(handle, Access::read(0, u64::MAX));
                call(Call::Stat { at: At::Handle(handle), follow: Follow::No }, footprint, argument)
            }
            Kind::Directory => {
                let footprint = Footprint::looks_at(&path);
                call(Call::Stat { at: At::Path(path), follow: Follow::Yes }, footprint, argument)
            }
        }
    }

    fn fsetstat(&mut self, wire: &[u8], attrs: &Attrs) -> Result<Planned> {
        let (handle, path, ..) = self.file(wire)?;
        let set = Call::SetAttributes {
            at: At::Handle(handle),
            attributes: Box::new(attrs.to_attributes()),
            follow: Follow::No,
        };
        call(set, Footprint::uses(handle, Access::Barrier), Argument::Path(path))
    }

    fn fsync(&mut self, wire: &[u8]) -> Result<Planned> {
        let (handle, path, ..) = self.file(wire)?;
        call(Call::Sync { handle }, Footprint::uses(handle, Access::Barrier), Argument::Path(path))
    }

    fn stat(&mut self, raw: &[u8], follow: Follow) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::looks_at(&path), one(&path));
        call(Call::Stat { at: At::Path(path), follow }, footprint, argument)
    }

    fn setstat(&mut self, raw: &[u8], attrs: &Attrs, follow: Follow) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::changes(&[&path]), one(&path));
        let attributes = Box::new(attrs.to_attributes());
        call(Call::SetAttributes { at: At::Path(path), attributes, follow }, footprint, argument)
    }

    fn mkdir(&mut self, raw: &[u8], attrs: &Attrs) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::changes(&[&path]), one(&path));
        call(Call::CreateDir { path, attributes: Box::new(new_attributes(attrs)) }, footprint, argument)
    }

    fn remove(&mut self, raw: &[u8]) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::changes(&[&path]), one(&path));
        call(Call::RemoveFile { path }, footprint, argument)
    }

    fn rmdir(&mut self, raw: &[u8]) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::changes(&[&path]), one(&path));
        call(Call::RemoveDir { path }, footprint, argument)
    }

    fn rename(&mut self, from: &[u8], to: &[u8], replace: Replace) -> Result<Planned> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        let footprint = Footprint::changes(&[&from, &to]);
        let argument = Argument::Paths(from.clone(), to.clone());
        let effect = Effect::Renames(from.clone(), to.clone(), self.handles.last());
        call_with(Call::Rename { from, to, replace }, footprint, argument, effect)
    }

    fn hardlink(&mut self, from: &[u8], to: &[u8]) -> Result<Planned> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        let footprint = Footprint::changes(&[&from, &to]);
        let argument = Argument::Paths(from.clone(), to.clone());
        call(Call::HardLink { from, to }, footprint, argument)
    }

    fn symlink(&mut self, target: Bytes, link: &[u8]) -> Result<Planned> {
        let link = self.path(link)?;
        let (footprint, argument) = (Footprint::changes(&[&link]), one(&link));
        call(Call::Symlink { target, link }, footprint, argument)
    }

    fn readlink(&mut self, raw: &[u8]) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::looks_at(&path), one(&path));
        call(Call::ReadLink { path }, footprint, argument)
    }

    /// No file need be there: clients ask for the path that they are about to make.
    fn realpath(&mut self, verb: &'static str, raw: &[u8]) -> Result<Planned> {
        let path = self.path(raw)?;
        let answer = Reply::path(Bytes::copy_from_slice(path.as_bytes()));
        let argument = one(&path);
        let ask = Call::Command { verb, argument: path.display() };
        call_with(ask, Footprint::default(), argument, Effect::Answers(answer))
    }

    fn expand_path(&mut self, raw: &[u8]) -> Result<Planned> {
        let rest = match raw.strip_prefix(b"~") {
            None => raw,
            Some([]) => &[],
            Some([b'/', rest @ ..]) => rest,
            Some(_) => {
                return Err(Error::new(ErrorKind::NotFound).with_detail("only the own home is known"));
            }
        };
        self.realpath("EXPAND-PATH", rest)
    }

    fn home(&mut self, user: Bytes) -> Result<Planned> {
        let argument = Argument::Text(display_bytes(&user).into());
        call(Call::HomeDirectory { user }, Footprint::default(), argument)
    }

    fn statvfs(&mut self, raw: &[u8]) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::looks_at(&path), one(&path));
        call(Call::Space { path }, footprint, argument)
    }

    fn fstatvfs(&mut self, wire: &[u8]) -> Result<Planned> {
        let path = self.handles.get(wire)?.1.path.clone();
        let argument = one(&path);
        call(Call::Space { path }, Footprint::default(), argument)
    }

    fn names(&mut self, uids: Vec<u32>, gids: Vec<u32>) -> Result<Planned> {
        if uids.len() + gids.len() > MAX_IDS {
            return Err(Error::new(ErrorKind::TooLarge)
                .with_detail(format!("at most {MAX_IDS} ids are looked up at once")));
        }
        call(Call::Names { uids, gids }, Footprint::default(), Argument::None)
    }

    fn vendor(&mut self, vendor: &[u8], product: &[u8], version: &[u8]) -> Result<Planned> {
        let words = [vendor, product, version].map(display_bytes).join(" ");
        let argument = Argument::Text(words.as_str().into());
        call(Call::Command { verb: "VENDOR-ID", argument: words }, Footprint::default(), argument)
    }

    fn limits(&mut self) -> Planned {
        let b = self.bounds;
        Planned::Answer(Reply::Extended(extension::encode_limits(&Limits {
            max_packet_len: b.max_packet as u64,
            max_read_len: b.max_read as u64,
            max_write_len: b.max_read as u64,
            max_open_handles: b.max_handles as u64,
        })))
    }

    fn check_handle(&mut self, wire: &[u8], check: CheckFile, old: bool) -> Result<Planned> {
        let (handle, path, ..) = self.file(wire)?;
        let footprint = Footprint::uses(handle, Access::read(0, u64::MAX));
        let what = Call::CheckFile { at: At::Handle(handle), check: Box::new(check), old };
        call(what, footprint, Argument::Path(path))
    }

    fn check_name(&mut self, raw: &[u8], check: CheckFile) -> Result<Planned> {
        let path = self.path(raw)?;
        let (footprint, argument) = (Footprint::looks_at(&path), one(&path));
        let what = Call::CheckFile { at: At::Path(path), check: Box::new(check), old: false };
        call(what, footprint, argument)
    }

    fn copy_data(&mut self, from: (&[u8], u64, u64), to: (&[u8], u64)) -> Result<Planned> {
        let ((source, source_path, ..), (target, target_path, write, append)) =
            (self.file(from.0)?, self.file(to.0)?);
        if !write {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for writing"));
        }
        if source == target {
            return Err(
                Error::new(ErrorKind::InvalidArgument).with_detail("source and target are the same handle")
            );
        }
        let len = if from.2 == 0 { u64::MAX } else { from.2 };
        let writes = if append { Access::Write(0, u64::MAX) } else { Access::write(to.1, len) };
        let footprint = Footprint {
            handles: [Some((source, Access::read(from.1, len))), Some((target, writes))],
            ..Footprint::default()
        };
        let copy = Call::CopyData { source, source_offset: from.1, len: from.2, target, target_offset: to.1 };
        call(copy, footprint, Argument::Paths(source_path, target_path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_of_the_draft_has_its_row() {
        for packet in kind::OPEN..=kind::SYMLINK {
            assert_eq!(TABLE.iter().filter(|r| r.packet == packet).count(), 1, "packet {packet}");
        }
        let verbs: std::collections::HashSet<_> = TABLE.iter().map(|r| r.verb).collect();
        assert_eq!(verbs.len(), TABLE.len(), "names are unique");
    }

    #[test]
    fn every_extension_has_its_row() {
        // `check-file` is the older form of `check-file-handle`; two rows are for what is not known.
        let rows = TABLE.iter().filter(|r| r.packet == kind::EXTENDED).count();
        assert_eq!(rows, extension::Extension::ALL.len() - 1 + 2);
    }
}
