//! What operations give back: results that list everything, facts about files, permissions.
//!
//! A batch lists each of its operations, and in `failures` each failure exactly once; an operation that
//! failed names its failure by its place in that list, a failure that belongs to none (a listing) stands
//! there alone. Fields that a server does not tell are `None`, never made up.

use std::fmt;
use std::time::SystemTime;

use session_core::batch::Given;
use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::{FileType, Metadata};
use session_core::path::{VPath, display_bytes};

use crate::sync::Note;

/// On which side something lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This machine.
    Local,
    /// The server.
    Remote,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// In place; bytes that crossed.
    Done(u64),
    /// Not done.
    Failed,
    /// Left alone, and why.
    Skipped(&'static str),
}

/// One file of a transfer. (`TransferEventArgs`)
#[derive(Clone, Debug)]
pub struct Transfer {
    /// From which side.
    pub side: Side,
    /// The whole path of the source. (`FileName`)
    pub source: VPath,
    /// The whole path of the target. (`Destination`)
    pub destination: VPath,
    /// Size in bytes, as the source said.
    pub length: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// The failure's place in the result's list; `None` in an event, which comes before there is one.
    pub failure: Option<usize>,
    /// The failure itself. (`Error`)
    pub error: Option<Error>,
    /// The time that the target was given; `None` where its own was left. (`Touch`)
    pub touch: Option<Touch>,
    /// The permissions that the target was given; `None` where its own were left. (`Chmod`)
    pub chmod: Option<Chmod>,
    /// The removal of the source, where one was asked for and the file had arrived; not in an event.
    pub removal: Option<Removal>,
}

impl Transfer {
    /// Says what the target was given.
    pub(super) fn with(mut self, given: &Given) -> Self {
        let path = || self.destination.clone();
        let error = given.modified_error.clone();
        self.touch = given.modified.map(|modified| Touch { path: path(), modified, error });
        let error = given.mode_error.clone();
        let bits = given.mode.map(|mode| FilePermissions(mode & 0o7777));
        self.chmod = bits.map(|permissions| Chmod { path: path(), permissions, error });
        self
    }
}

/// A time that was set on a file that was moved. (`TouchEventArgs`)
#[derive(Clone, Debug)]
pub struct Touch {
    /// The file. (`FileName`)
    pub path: VPath,
    /// The time of its last change. (`LastWriteTime`)
    pub modified: SystemTime,
    /// Why it was refused, where that is no failure (`ignore_attribute_errors`); else a refusal is the failure of the
    /// transfer. (`Error`)
    pub error: Option<Error>,
}

/// Permissions that were set on a file that was moved. (`ChmodEventArgs`)
#[derive(Clone, Debug)]
pub struct Chmod {
    /// The file. (`FileName`)
    pub path: VPath,
    /// The permissions. (`FilePermissions`)
    pub permissions: FilePermissions,
    /// As of [`Touch`]. (`Error`)
    pub error: Option<Error>,
}

/// One removal. (`RemovalEventArgs`)
#[derive(Clone, Debug)]
pub struct Removal {
    /// What was to be removed. (`FileName`)
    pub path: VPath,
    /// It was a directory.
    pub directory: bool,
    /// Where it was moved to, if there is a recycle bin.
    pub recycled: Option<VPath>,
    /// Its failure in the result's list.
    pub failure: Option<usize>,
    /// The failure itself. (`Error`)
    pub error: Option<Error>,
}

macro_rules! result {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $ty,)*
            /// Every failure, once.
            pub failures: Vec<Error>,
        }

        impl $name {
            /// Every failure, once.
            pub fn failures(&self) -> &[Error] {
                &self.failures
            }

            /// Whether nothing failed.
            pub fn is_success(&self) -> bool {
                self.failures.is_empty()
            }

            /// The first failure as an error.
            pub fn check(&self) -> Result<()> {
                self.failures.first().map_or(Ok(()), |e| Err(e.clone()))
            }
        }
    };
}

result! {
    /// The result of a transfer. (`TransferOperationResult`)
    TransferResult {
        /// Every file.
        transfers: Vec<Transfer>,
        /// Directories that were made at the target.
        directories: Vec<VPath>,
    }
}

result! {
    /// The result of a removal. (`RemovalOperationResult`)
    RemovalResult {
        /// Every entry, in the order in which they went.
        removals: Vec<Removal>,
    }
}

result! {
    /// The result of a synchronisation. (`SynchronizationResult`)
    SynchronizationResult {
        /// Files that went to the server.
        uploads: Vec<Transfer>,
        /// Files that came from it.
        downloads: Vec<Transfer>,
        /// What was removed from the directory that changes.
        removals: Vec<Removal>,
        /// Directories that were made, and on which side.
        directories: Vec<(Side, VPath)>,
        /// What was left alone, and why.
        notes: Vec<Note>,
    }
}

impl RemovalResult {
    pub(super) fn fail(&mut self, error: Error) -> usize {
        self.failures.push(error);
        self.failures.len() - 1
    }
}

/// A remote entry. (`RemoteFileInfo`)
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteFileInfo {
    /// The whole path. (`FullName`)
    pub path: VPath,
    /// All that the server told.
    pub metadata: Metadata,
}

impl RemoteFileInfo {
    /// The name for people: bytes that are not UTF-8 are shown as `\xNN`. The bytes: `path.name()`.
    pub fn name(&self) -> String {
        display_bytes(self.path.name())
    }

    /// The whole path for people.
    pub fn full_name(&self) -> String {
        self.path.display()
    }

    /// `D`, `L`, `-`, and `?` for what is none of them.
    pub fn file_type(&self) -> char {
        match self.metadata.file_type {
            FileType::Directory => 'D',
            FileType::File => '-',
            FileType::Other => '?',
            FileType::Symlink => 'L',
        }
    }

    /// Size in bytes; 0 for directories.
    pub fn length(&self) -> u64 {
        if self.is_directory() { 0 } else { self.metadata.size }
    }

    /// When the content was changed, where that is known.
    pub fn last_write_time(&self) -> Option<SystemTime> {
        self.metadata.modified
    }

    /// Permissions, where they are known.
    pub fn file_permissions(&self) -> Option<FilePermissions> {
        self.metadata.mode.map(|mode| FilePermissions(mode & 0o7777))
    }

    /// The owner by name, else by number.
    pub fn owner(&self) -> Option<String> {
        let m = &self.metadata;
        m.owner.as_ref().map(ToString::to_string).or_else(|| m.uid.map(|n| n.to_string()))
    }

    /// The group by name, else by number.
    pub fn group(&self) -> Option<String> {
        let m = &self.metadata;
        m.group.as_ref().map(ToString::to_string).or_else(|| m.gid.map(|n| n.to_string()))
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.metadata.is_dir()
    }
}

/// What a path or a mask names.
#[derive(Clone, Debug)]
pub struct Matching {
    /// It was a mask.
    pub masked: bool,
    /// The directory that was looked into.
    pub directory: VPath,
    /// What was found, by the bytes of the names.
    pub files: Vec<RemoteFileInfo>,
}

/// A directory with what it holds. (`RemoteDirectoryInfo`)
#[derive(Clone, Debug, Default)]
pub struct RemoteDirectoryInfo {
    /// The entries by the bytes of their names; `.` and `..` are never among them.
    pub files: Vec<RemoteFileInfo>,
}

/// Permission bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilePermissions(u32);

/// The bits of `rwxrwxrwx` from left to right.
const BITS: [(u32, char); 9] = [
    (0o400, 'r'),
    (0o200, 'w'),
    (0o100, 'x'),
    (0o040, 'r'),
    (0o020, 'w'),
    (0o010, 'x'),
    (0o004, 'r'),
    (0o002, 'w'),
    (0o001, 'x'),
];

/// The bits that change the letter of an execute bit, with that letter.
const SPECIAL: [(u32, u32, char); 3] = [(0o100, 0o4000, 's'), (0o010, 0o2000, 's'), (0o001, 0o1000, 't')];

impl FilePermissions {
    /// From a number up to `0xFFF`. Errors: `InvalidArgument`.
    pub fn from_numeric(bits: u32) -> Result<Self> {
        if bits > 0o7777 {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("permissions have twelve bits"));
        }
        Ok(FilePermissions(bits))
    }

    /// From three or four octal digits. Errors: `InvalidArgument`.
    pub fn from_octal(text: &str) -> Result<Self> {
        let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match u32::from_str_radix(text, 8) {
            Ok(bits) if digits => Ok(FilePermissions(bits)),
            _ => Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is not three or four octal digits"))),
        }
    }

    /// From nine characters such as `rwxr-sr-t`. Errors: `InvalidArgument`.
    pub fn from_text(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is not nine characters such as 'rwxr-xr-x'"))
        };
        let chars: Vec<char> = text.chars().collect();
        if chars.len() != BITS.len() {
            return Err(bad());
        }
        let mut bits = 0;
        for (c, (bit, letter)) in chars.iter().zip(BITS) {
            let special = SPECIAL.iter().find(|(execute, ..)| *execute == bit);
            match (*c, special) {
                ('-', _) => {}
                (c, _) if c == letter => bits |= bit,
                (c, Some((_, extra, small))) if c == *small => bits |= bit | extra,
                (c, Some((_, extra, small))) if c == small.to_ascii_uppercase() => bits |= extra,
                _ => return Err(bad()),
            }
        }
        Ok(FilePermissions(bits))
    }

    /// As a number.
    pub fn numeric(self) -> u32 {
        self.0
    }

    /// Three octal digits, four where one of the upper three bits is set.
    pub fn octal(self) -> String {
        format!("{:03o}", self.0)
    }

    /// Nine characters.
    pub fn text(self) -> String {
        BITS.iter()
            .map(|(bit, letter)| {
                let set = self.0 & bit != 0;
                let extra = SPECIAL.iter().find(|(execute, extra, _)| execute == bit && self.0 & extra != 0);
                match (set, extra) {
                    (true, Some((_, _, small))) => *small,
                    (false, Some((_, _, small))) => small.to_ascii_uppercase(),
                    (true, None) => *letter,
                    (false, None) => '-',
                }
            })
            .collect()
    }

    /// Whether all of these bits are set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// The same with these bits set or not.
    pub fn with(self, bits: u32, set: bool) -> Self {
        FilePermissions(if set { self.0 | bits & 0o7777 } else { self.0 & !bits })
    }
}

impl fmt::Display for FilePermissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_text_octal_and_number() {
        for (bits, text, octal) in [
            (0o644, "rw-r--r--", "644"),
            (0o755, "rwxr-xr-x", "755"),
            (0o4755, "rwsr-xr-x", "4755"),
            (0o4644, "rwSr--r--", "4644"),
            (0o2071, "---rws--x", "2071"),
            (0o1777, "rwxrwxrwt", "1777"),
            (0o1666, "rw-rw-rwT", "1666"),
            (0, "---------", "000"),
        ] {
            let p = FilePermissions::from_numeric(bits).unwrap();
            assert_eq!((p.text().as_str(), p.octal().as_str(), p.numeric()), (text, octal, bits));
            assert_eq!(FilePermissions::from_text(text).unwrap(), p);
            assert_eq!(FilePermissions::from_octal(octal).unwrap(), p);
        }
        for bits in 0..=0o7777 {
            let p = FilePermissions::from_numeric(bits).unwrap();
            assert_eq!(FilePermissions::from_text(&p.text()).unwrap(), p);
        }
        for bad in ["rwx", "rwxrwxrwz", "srwxrwxrw", "rwsrwtrwx", "rwxrwxrws"] {
            assert!(FilePermissions::from_text(bad).is_err(), "{bad}");
        }
        for bad in ["64", "00644", "648", "+64", ""] {
            assert!(FilePermissions::from_octal(bad).is_err(), "{bad}");
        }
        assert!(FilePermissions::from_numeric(0o10000).is_err());
    }
}
