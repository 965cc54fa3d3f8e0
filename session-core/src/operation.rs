//! Operations as values: what the gate shows to interceptors.
//!
//! Each operation has a typed record; [`Operation`] borrows one of them. An interceptor may rewrite the
//! record in `before`; the refusals then run once more on the new one.

use std::ops::Range;

use bytes::Bytes;

use crate::error::Error;
use crate::fs::{Algorithm, Follow, ListOptions, OpenOptions, Replace};
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;
use crate::verdict::Finding;

/// A typed record as the gate handles it.
pub(crate) trait Reified: Clone + PartialEq + Send + std::marker::Sync {
    const KIND: OperationKind;
    fn as_operation(&mut self) -> Operation<'_>;
    fn to_record(&self) -> Record;
}

macro_rules! operations {
    ($( $(#[$doc:meta])* $name:ident $code:literal $words:literal { $( $(#[$fdoc:meta])* $field:ident : $ty:ty ),* $(,)? } )*) => {
        /// The kind of an operation, without its arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum OperationKind { $( $(#[$doc])* $name, )* }

        impl OperationKind {
            /// Every kind.
            pub const ALL: &'static [OperationKind] = &[$(OperationKind::$name),*];

            /// The name in events, logs and JSON: `remove-file`.
            pub fn name(self) -> &'static str { match self { $(OperationKind::$name => $code),* } }

            /// What follows "cannot …" in a message.
            pub fn words(self) -> &'static str { match self { $(OperationKind::$name => $words),* } }
        }

        $( $(#[$doc])* #[derive(Clone, Debug, PartialEq)] pub struct $name { $( $(#[$fdoc])* pub $field: $ty, )* } )*

        /// One operation with its arguments, borrowed from the gate.
        #[derive(Debug)]
        pub enum Operation<'a> { $( $(#[$doc])* $name(&'a mut $name), )* }

        impl Operation<'_> {
            /// The kind.
            pub fn kind(&self) -> OperationKind { match self { $(Operation::$name(_) => OperationKind::$name),* } }

            /// The same operation, lent on.
            pub fn reborrow(&mut self) -> Operation<'_> { match self { $(Operation::$name(r) => Operation::$name(r)),* } }

            /// A copy of the record.
            pub fn to_record(&self) -> Record { match self { $(Operation::$name(r) => Record::$name((**r).clone())),* } }
        }

        /// One operation with its arguments, owned: what `After…` hooks and events get.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record { $( $(#[$doc])* $name($name), )* }

        impl Record {
            /// The kind.
            pub fn kind(&self) -> OperationKind { match self { $(Record::$name(_) => OperationKind::$name),* } }

            /// The record, to be lent.
            pub fn as_operation(&mut self) -> Operation<'_> { match self { $(Record::$name(r) => Operation::$name(r)),* } }
        }

        $( impl From<$name> for Record { fn from(r: $name) -> Record { Record::$name(r) } } )*

        $( impl Reified for $name {
            const KIND: OperationKind = OperationKind::$name;
            fn as_operation(&mut self) -> Operation<'_> { Operation::$name(self) }
            fn to_record(&self) -> Record { Record::$name(self.clone()) }
        } )*
    };
}

operations! {
    /// A file thrown away by its writer.
    Abort "abort" "discard" {
        /// The path it would have had.
        path: VPath,
        /// Bytes received.
        size: u64,
    }
    /// The path without links.
    Canonicalize "canonicalize" "resolve" {
        /// What is resolved.
        path: VPath,
    }
    /// A digest made by the store.
    Checksum "checksum" "checksum" {
        /// Of which file.
        path: VPath,
        /// Which digest.
        algorithm: Algorithm,
        /// Over which bytes.
        range: Range<u64>,
    }
    /// The end of an upload: the moment of the verdict.
    Commit "commit" "publish" {
        /// The path that receives the content.
        path: VPath,
        /// Bytes received.
        size: u64,
        /// Whether a file is replaced, where that is known.
        replaces: Option<bool>,
        /// Attributes to publish with.
        attributes: Attributes,
        /// This close publishes nothing: other handles are open, or the path was removed. Known in `after`.
        early: bool,
        /// What those found who judged the content. Known in `after`.
        findings: Vec<Finding>,
    }
    /// A copy inside the store.
    Copy "copy" "copy" {
        /// Source.
        from: VPath,
        /// Target.
        to: VPath,
        /// Whether a file may be replaced.
        replace: Replace,
    }
    /// A new directory.
    CreateDir "create-dir" "create the directory" {
        /// Where.
        path: VPath,
        /// With which attributes.
        attributes: Attributes,
    }
    /// A second name of a file.
    HardLink "hard-link" "link" {
        /// The file.
        from: VPath,
        /// The new name.
        to: VPath,
    }
    /// A listing.
    List "list" "list" {
        /// The directory.
        path: VPath,
        /// Order and start.
        options: ListOptions,
        /// Names to leave out: each a name, or a pattern with `*` and `?`.
        hide: Vec<Bytes>,
    }
    /// A lock, or a longer life for one.
    Lock "lock" "lock" {
        /// What is locked.
        path: VPath,
        /// With all below it.
        deep: bool,
        /// Nobody else may hold one.
        exclusive: bool,
    }
    /// An open, for reading or writing.
    Open "open" "open" {
        /// The file.
        path: VPath,
        /// How.
        options: OpenOptions,
    }
    /// An upload kept unfinished.
    Park "park" "park" {
        /// The path it will have.
        path: VPath,
        /// Bytes received.
        size: u64,
    }
    /// One chunk read.
    Read "read" "read" {
        /// Of which file.
        path: VPath,
        /// From where.
        offset: u64,
        /// At most how many bytes.
        len: usize,
    }
    /// What a link holds.
    ReadLink "read-link" "read the link" {
        /// The link.
        path: VPath,
    }
    /// A directory removed.
    RemoveDir "remove-dir" "remove the directory" {
        /// Which.
        path: VPath,
    }
    /// A file removed.
    RemoveFile "remove-file" "remove" {
        /// Which.
        path: VPath,
    }
    /// A rename.
    Rename "rename" "rename" {
        /// Source.
        from: VPath,
        /// Target.
        to: VPath,
        /// Whether a file may be replaced.
        replace: Replace,
    }
    /// Attributes set.
    SetAttributes "set-attributes" "set the attributes of" {
        /// Of which entry.
        path: VPath,
        /// Which.
        attributes: Attributes,
        /// Of a link or of what it points to.
        follow: Follow,
    }
    /// Free space asked for.
    Space "space" "read the free space of" {
        /// Where.
        path: VPath,
    }
    /// Attributes read.
    Stat "stat" "read the attributes of" {
        /// Of which entry.
        path: VPath,
        /// Of a link or of what it points to.
        follow: Follow,
    }
    /// A symbolic link made.
    Symlink "symlink" "create the link" {
        /// Where.
        path: VPath,
        /// What it holds.
        target: Bytes,
    }
    /// Content forced to disk.
    Sync "sync" "flush" {
        /// Of which file.
        path: VPath,
    }
    /// A lock given back.
    Unlock "unlock" "unlock" {
        /// What was locked, or something below it.
        path: VPath,
    }
    /// One chunk written.
    Write "write" "write" {
        /// Of which file.
        path: VPath,
        /// Where.
        offset: u64,
        /// How many bytes.
        len: usize,
    }
}

impl OperationKind {
    /// Whether it is asked for each chunk of a transfer, so that only interested interceptors see it.
    pub fn is_chunk(self) -> bool {
        matches!(self, OperationKind::Read | OperationKind::Write)
    }
}

impl Record {
    /// The path that the operation is about; of two, the source.
    pub fn path(&self) -> &VPath {
        match self {
            Record::Abort(r) => &r.path,
            Record::Canonicalize(r) => &r.path,
            Record::Checksum(r) => &r.path,
            Record::Commit(r) => &r.path,
            Record::Copy(r) => &r.from,
            Record::CreateDir(r) => &r.path,
            Record::HardLink(r) => &r.from,
            Record::List(r) => &r.path,
            Record::Lock(r) => &r.path,
            Record::Open(r) => &r.path,
            Record::Park(r) => &r.path,
            Record::Read(r) => &r.path,
            Record::ReadLink(r) => &r.path,
            Record::RemoveDir(r) => &r.path,
            Record::RemoveFile(r) => &r.path,
            Record::Rename(r) => &r.from,
            Record::SetAttributes(r) => &r.path,
            Record::Space(r) => &r.path,
            Record::Stat(r) => &r.path,
            Record::Symlink(r) => &r.path,
            Record::Sync(r) => &r.path,
            Record::Unlock(r) => &r.path,
            Record::Write(r) => &r.path,
        }
    }

    /// The second path of a rename, copy or hard link.
    pub fn target(&self) -> Option<&VPath> {
        match self {
            Record::Copy(r) => Some(&r.to),
            Record::HardLink(r) => Some(&r.to),
            Record::Rename(r) => Some(&r.to),
            _ => None,
        }
    }
}

impl Operation<'_> {
    /// The paths of the operation, each with whether a link at its very end is followed.
    pub(crate) fn paths(&mut self) -> [Option<(&mut VPath, bool)>; 2] {
        match self {
            Operation::Abort(r) => [Some((&mut r.path, false)), None],
            Operation::Canonicalize(r) => [Some((&mut r.path, true)), None],
            Operation::Checksum(r) => [Some((&mut r.path, true)), None],
            Operation::Commit(r) => [Some((&mut r.path, false)), None],
            Operation::Copy(r) => [Some((&mut r.from, true)), Some((&mut r.to, false))],
            Operation::CreateDir(r) => [Some((&mut r.path, false)), None],
            Operation::HardLink(r) => [Some((&mut r.from, false)), Some((&mut r.to, false))],
            Operation::List(r) => [Some((&mut r.path, true)), None],
            Operation::Lock(r) => [Some((&mut r.path, true)), None],
            Operation::Open(r) => {
                let follow = !r.options.exclusive;
                [Some((&mut r.path, follow)), None]
            }
            Operation::Park(r) => [Some((&mut r.path, false)), None],
            Operation::Read(r) => [Some((&mut r.path, false)), None],
            Operation::ReadLink(r) => [Some((&mut r.path, false)), None],
            Operation::RemoveDir(r) => [Some((&mut r.path, false)), None],
            Operation::RemoveFile(r) => [Some((&mut r.path, false)), None],
            Operation::Rename(r) => [Some((&mut r.from, false)), Some((&mut r.to, false))],
            Operation::SetAttributes(r) => {
                let follow = r.follow == Follow::Yes;
                [Some((&mut r.path, follow)), None]
            }
            Operation::Space(r) => [Some((&mut r.path, true)), None],
            Operation::Stat(r) => {
                let follow = r.follow == Follow::Yes;
                [Some((&mut r.path, follow)), None]
            }
            Operation::Symlink(r) => [Some((&mut r.path, false)), None],
            Operation::Sync(r) => [Some((&mut r.path, false)), None],
            Operation::Unlock(r) => [Some((&mut r.path, true)), None],
            Operation::Write(r) => [Some((&mut r.path, false)), None],
        }
    }
}

/// A set of operation kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OperationSet(u32);

impl OperationSet {
    /// No kind.
    pub const NONE: OperationSet = OperationSet(0);
    /// Every kind, chunks too.
    pub const ALL: OperationSet = OperationSet(u32::MAX);

    /// Every kind but the chunks of transfers.
    pub fn without_chunks() -> Self {
        Self::ALL.except(OperationKind::Read).except(OperationKind::Write)
    }

    /// These kinds.
    pub fn of(kinds: &[OperationKind]) -> Self {
        OperationSet(kinds.iter().fold(0, |set, k| set | Self::bit(*k)))
    }

    /// Without `kind`.
    pub fn except(self, kind: OperationKind) -> Self {
        OperationSet(self.0 & !Self::bit(kind))
    }

    /// Of both.
    pub fn union(self, other: Self) -> Self {
        OperationSet(self.0 | other.0)
    }

    /// Whether `kind` is in it.
    pub fn contains(self, kind: OperationKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    fn bit(kind: OperationKind) -> u32 {
        1 << (kind as u32)
    }
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `Ok`, or the error as the client sees it.
    pub result: Result<Done, Error>,
    /// How long it took, from before the first interceptor.
    pub elapsed: std::time::Duration,
}

/// What a successful operation tells besides its success.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// Bytes of content moved by this call.
    pub bytes: u64,
    /// The metadata that a stat or a commit answered.
    pub metadata: Option<Metadata>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_every_kind() {
        assert!(OperationKind::ALL.len() <= 32);
        for k in OperationKind::ALL {
            assert!(OperationSet::ALL.contains(*k));
            assert_eq!(OperationSet::without_chunks().contains(*k), !k.is_chunk());
        }
    }
}
