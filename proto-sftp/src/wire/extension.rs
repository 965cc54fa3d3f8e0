//! Extensions: their names, what a server announces, the bodies of requests and replies.
//!
//! OpenSSH's are described in its PROTOCOL file, sections 4.1 to 4.12; `copy-data`, `home-directory`
//! and `check-file-*` in draft-ietf-secsh-filexfer-extensions-00; `vendor-id` in
//! draft-ietf-secsh-filexfer-09, section 4.4. A name that is not known is kept with its body
//! ([`Extended::Unknown`]), so that a server can answer it and a client can try what we do not know.

use bytes::{BufMut, Bytes, BytesMut};
pub use russh_sftp::extensions::{LimitsExtension as Limits, Statvfs};

use super::attrs::Attrs;
use super::codec::{Malformed, Reader, put_string};

macro_rules! extensions {
    ($( $(#[$doc:meta])* $variant:ident $name:literal $data:literal; )*) => {
        /// The extensions that are known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Extension { $( $(#[$doc])* $variant, )* }

        impl Extension {
            /// All of them.
            pub const ALL: &'static [Extension] = &[$(Extension::$variant),*];

            /// The name on the wire.
            pub fn name(self) -> &'static str { match self { $(Extension::$variant => $name),* } }

            /// What stands beside the name in VERSION.
            pub fn data(self) -> &'static str { match self { $(Extension::$variant => $data),* } }

            /// The extension called `name`.
            pub fn parse(name: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|e| e.name().as_bytes() == name)
            }
        }
    };
}

extensions! {
    /// Digest of an open file, in the form of the older drafts; also the announcement that names the
    /// algorithms.
    CheckFile "check-file" "sha256,sha512,sha384,blake3,sha1,md5,crc32";
    /// Digest of an open file.
    CheckFileHandle "check-file-handle" "1";
    /// Digest of a file by name.
    CheckFileName "check-file-name" "1";
    /// Copy between two handles on the server.
    CopyData "copy-data" "1";
    /// Tilde expansion.
    ExpandPath "expand-path@openssh.com" "1";
    /// Free space by handle.
    Fstatvfs "fstatvfs@openssh.com" "2";
    /// Force to disk.
    Fsync "fsync@openssh.com" "1";
    /// Hard links.
    Hardlink "hardlink@openssh.com" "1";
    /// A user's home.
    HomeDirectory "home-directory" "1";
    /// The server's limits.
    Limits "limits@openssh.com" "1";
    /// Attributes of a link itself.
    Lsetstat "lsetstat@openssh.com" "1";
    /// Rename that replaces.
    PosixRename "posix-rename@openssh.com" "1";
    /// Free space by path.
    Statvfs "statvfs@openssh.com" "2";
    /// Names of numeric owners.
    UsersGroupsById "users-groups-by-id@openssh.com" "1";
    /// Who the client is.
    VendorId "vendor-id" "";
}

/// The name under which servers of version 3 announce their line end.
pub const NEWLINE: &str = "newline@vandyke.com";

/// The body of an EXTENDED request.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // fields are the specifications'
pub enum Extended {
    /// `check-file-handle`; with `old`, `check-file`.
    CheckFileHandle {
        handle: Bytes,
        check: CheckFile,
        old: bool,
    },
    CheckFileName {
        path: Bytes,
        check: CheckFile,
    },
    /// `read_len` 0 means up to the end.
    CopyData {
        read_handle: Bytes,
        read_offset: u64,
        read_len: u64,
        write_handle: Bytes,
        write_offset: u64,
    },
    ExpandPath {
        path: Bytes,
    },
    Fstatvfs {
        handle: Bytes,
    },
    Fsync {
        handle: Bytes,
    },
    Hardlink {
        from: Bytes,
        to: Bytes,
    },
    HomeDirectory {
        user: Bytes,
    },
    Limits,
    Lsetstat {
        path: Bytes,
        attrs: Attrs,
    },
    PosixRename {
        from: Bytes,
        to: Bytes,
    },
    Statvfs {
        path: Bytes,
    },
    Unknown {
        name: Bytes,
        body: Bytes,
    },
    UsersGroupsById {
        uids: Vec<u32>,
        gids: Vec<u32>,
    },
    VendorId {
        vendor: Bytes,
        product: Bytes,
        version: Bytes,
        build: u64,
    },
}

/// What `check-file-*` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckFile {
    /// Algorithms that the client accepts, best first, separated by commas.
    pub algorithms: Bytes,
    /// First byte.
    pub offset: u64,
    /// How many bytes; 0 means up to the end.
    pub len: u64,
    /// One digest for each block of this size; 0 means one for all.
    pub block_size: u32,
}

impl CheckFile {
    fn decode(r: &mut Reader) -> Result<Self, Malformed> {
        Ok(CheckFile { algorithms: r.string()?, offset: r.u64()?, len: r.u64()?, block_size: r.u32()? })
    }

    fn encode(&self, out: &mut BytesMut) {
        put_string(out, &self.algorithms);
        out.put_u64(self.offset);
        out.put_u64(self.len);
        out.put_u32(self.block_size);
    }
}

/// A string that holds a sequence of numbers.
fn numbers(list: &[u8]) -> Result<Vec<u32>, Malformed> {
    let (words, rest) = list.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Malformed::new("a list of numbers with a part of one"));
    }
    Ok(words.iter().map(|w| u32::from_be_bytes(*w)).collect())
}

fn put_numbers(out: &mut BytesMut, list: &[u32]) {
    out.put_u32(u32::try_from(list.len() * 4).unwrap_or(u32::MAX));
    for n in list {
        out.put_u32(*n);
    }
}

impl Extended {
    /// Reads name and body.
    pub fn decode(r: &mut Reader) -> Result<Self, Malformed> {
        let name = r.string()?;
        let Some(extension) = Extension::parse(&name) else {
            let body = std::mem::replace(r, Reader::new(Bytes::new())).rest();
            return Ok(Extended::Unknown { name, body });
        };
        Ok(match extension {
            Extension::CheckFile | Extension::CheckFileHandle => Extended::CheckFileHandle {
                handle: r.string()?,
                check: CheckFile::decode(r)?,
                old: extension == Extension::CheckFile,
            },
            Extension::CheckFileName => {
                Extended::CheckFileName { path: r.string()?, check: CheckFile::decode(r)? }
            }
            Extension::CopyData => Extended::CopyData {
                read_handle: r.string()?,
                read_offset: r.u64()?,
                read_len: r.u64()?,
                write_handle: r.string()?,
                write_offset: r.u64()?,
            },
            Extension::ExpandPath => Extended::ExpandPath { path: r.string()? },
            Extension::Fstatvfs => Extended::Fstatvfs { handle: r.string()? },
            Extension::Fsync => Extended::Fsync { handle: r.string()? },
            Extension::Hardlink => Extended::Hardlink { from: r.string()?, to: r.string()? },
            Extension::HomeDirectory => Extended::HomeDirectory { user: r.string()? },
            Extension::Limits => Extended::Limits,
            Extension::Lsetstat => Extended::Lsetstat { path: r.string()?, attrs: Attrs::decode(r)? },
            Extension::PosixRename => Extended::PosixRename { from: r.string()?, to: r.string()? },
            Extension::Statvfs => Extended::Statvfs { path: r.string()? },
            Extension::UsersGroupsById => {
                Extended::UsersGroupsById { uids: numbers(&r.string()?)?, gids: numbers(&r.string()?)? }
            }
            Extension::VendorId => Extended::VendorId {
                vendor: r.string()?,
                product: r.string()?,
                version: r.string()?,
                build: r.u64()?,
            },
        })
    }

    /// The name on the wire.
    pub fn name(&self) -> &[u8] {
        let known = match self {
            Extended::CheckFileHandle { old: false, .. } => Extension::CheckFileHandle,
            Extended::CheckFileHandle { old: true, .. } => Extension::CheckFile,
            Extended::CheckFileName { .. } => Extension::CheckFileName,
            Extended::CopyData { .. } => Extension::CopyData,
            Extended::ExpandPath { .. } => Extension::ExpandPath,
            Extended::Fstatvfs { .. } => Extension::Fstatvfs,
            Extended::Fsync { .. } => Extension::Fsync,
            Extended::Hardlink { .. } => Extension::Hardlink,
            Extended::HomeDirectory { .. } => Extension::HomeDirectory,
            Extended::Limits => Extension::Limits,
            Extended::Lsetstat { .. } => Extension::Lsetstat,
            Extended::PosixRename { .. } => Extension::PosixRename,
            Extended::Statvfs { .. } => Extension::Statvfs,
            Extended::Unknown { name, .. } => return name,
            Extended::UsersGroupsById { .. } => Extension::UsersGroupsById,
            Extended::VendorId { .. } => Extension::VendorId,
        };
        known.name().as_bytes()
    }

    /// Appends name and body.
    pub fn encode(&self, out: &mut BytesMut) {
        put_string(out, self.name());
        match self {
            Extended::CheckFileHandle { handle, check, .. } => {
                put_string(out, handle);
                check.encode(out);
            }
            Extended::CheckFileName { path, check } => {
                put_string(out, path);
                check.encode(out);
            }
            Extended::CopyData { read_handle, read_offset, read_len, write_handle, write_offset } => {
                put_string(out, read_handle);
                out.put_u64(*read_offset);
                out.put_u64(*read_len);
                put_string(out, write_handle);
                out.put_u64(*write_offset);
            }
            Extended::ExpandPath { path: s }
            | Extended::Statvfs { path: s }
            | Extended::Fstatvfs { handle: s }
            | Extended::Fsync { handle: s }
            | Extended::HomeDirectory { user: s } => put_string(out, s),
            Extended::Hardlink { from, to } | Extended::PosixRename { from, to } => {
                put_string(out, from);
                put_string(out, to);
            }
            Extended::Limits => {}
            Extended::Lsetstat { path, attrs } => {
                put_string(out, path);
                attrs.encode(out);
            }
            Extended::Unknown { body, .. } => out.put_slice(body),
            Extended::UsersGroupsById { uids, gids } => {
                put_numbers(out, uids);
                put_numbers(out, gids);
            }
            Extended::VendorId { vendor, product, version, build } => {
                put_string(out, vendor);
                put_string(out, product);
                put_string(out, version);
                out.put_u64(*build);
            }
        }
    }
}

/// What a server announced in VERSION, as a client asks about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(Vec<(Bytes, Bytes)>);

impl Extensions {
    /// From the pairs of a VERSION packet.
    pub fn new(pairs: Vec<(Bytes, Bytes)>) -> Self {
        Extensions(pairs)
    }

    /// What stands beside `name`.
    pub fn data(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, data)| data)
    }

    /// Whether `extension` is there in the version that we speak. Servers disagree about the data of
    /// those that are not OpenSSH's, so only OpenSSH's are compared.
    pub fn has(&self, extension: Extension) -> bool {
        let name = extension.name();
        match self.data(name) {
            None => false,
            Some(data) => !name.ends_with("@openssh.com") || data == extension.data().as_bytes(),
        }
    }
}

/// The body of the reply to `limits@openssh.com`.
pub fn encode_limits(limits: &Limits) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    out.put_u64(limits.max_packet_len);
    out.put_u64(limits.max_read_len);
    out.put_u64(limits.max_write_len);
    out.put_u64(limits.max_open_handles);
    out.freeze()
}

/// Reads the reply to `limits@openssh.com`; 0 means that the server sets no limit.
pub fn decode_limits(body: Bytes) -> Result<Limits, Malformed> {
    let mut r = Reader::new(body);
    Ok(Limits {
        max_packet_len: r.u64()?,
        max_read_len: r.u64()?,
        max_write_len: r.u64()?,
        max_open_handles: r.u64()?,
    })
}

/// In [`Statvfs::flags`]: writes are refused.
pub const STATVFS_READ_ONLY: u64 = 1;

/// The body of the reply to `statvfs@openssh.com`.
pub fn encode_statvfs(s: &Statvfs) -> Bytes {
    let mut out = BytesMut::with_capacity(88);
    for field in [
        s.block_size,
        s.fragment_size,
        s.blocks,
        s.blocks_free,
        s.blocks_avail,
        s.inodes,
        s.inodes_free,
        s.inodes_avail,
        s.fs_id,
        s.flags,
        s.name_max,
    ] {
        out.put_u64(field);
    }
    out.freeze()
}

/// Reads the reply to `statvfs@openssh.com`.
pub fn decode_statvfs(body: Bytes) -> Result<Statvfs, Malformed> {
    let mut r = Reader::new(body);
    Ok(Statvfs {
        block_size: r.u64()?,
        fragment_size: r.u64()?,
        blocks: r.u64()?,
        blocks_free: r.u64()?,
        blocks_avail: r.u64()?,
        inodes: r.u64()?,
        inodes_free: r.u64()?,
        inodes_avail: r.u64()?,
        fs_id: r.u64()?,
        flags: r.u64()?,
        name_max: r.u64()?,
    })
}

/// The reply to `check-file-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The algorithm that the server chose.
    pub algorithm: Bytes,
    /// The digests, one after the other.
    pub digests: Bytes,
}

impl Checked {
    /// The body of the reply; in the older form the words `check-file` come first.
    pub fn encode(&self, old: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.digests.len());
        if old {
            put_string(&mut out, Extension::CheckFile.name().as_bytes());
        }
        put_string(&mut out, &self.algorithm);
        out.put_slice(&self.digests);
        out.freeze()
    }

    /// Reads the reply in either form: servers disagree.
    pub fn decode(body: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let mut algorithm = r.string()?;
        if algorithm == Extension::CheckFile.name().as_bytes() {
            algorithm = r.string()?;
        }
        Ok(Checked { algorithm, digests: r.rest() })
    }
}

/// The body of the reply to `users-groups-by-id@openssh.com`: a name for each id, empty where unknown.
pub fn encode_names<S: AsRef<[u8]>>(users: &[S], groups: &[S]) -> Bytes {
    let mut out = BytesMut::new();
    for list in [users, groups] {
        let mut names = BytesMut::new();
        for name in list {
            put_string(&mut names, name.as_ref());
        }
        put_string(&mut out, &names);
    }
    out.freeze()
}

/// Reads the reply to `users-groups-by-id@openssh.com`: users, groups.
pub fn decode_names(body: Bytes) -> Result<(Vec<Bytes>, Vec<Bytes>), Malformed> {
    fn list(packed: Bytes) -> Result<Vec<Bytes>, Malformed> {
        let mut r = Reader::new(packed);
        let mut names = Vec::new();
        while !r.is_empty() {
            names.push(r.string()?);
        }
        Ok(names)
    }
    let mut r = Reader::new(body);
    Ok((list(r.string()?)?, list(r.string()?)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
    }

    fn any_check() -> impl Strategy<Value = CheckFile> {
        (bytes(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
            |(algorithms, offset, len, block_size)| CheckFile { algorithms, offset, len, block_size },
        )
    }

    pub(crate) fn any_extended() -> impl Strategy<Value = Extended> {
        use super::super::attrs::tests::any_attrs;
        prop_oneof![
            (bytes(), any_check(), any::<bool>())
                .prop_map(|(handle, check, old)| { Extended::CheckFileHandle { handle, check, old } }),
            (bytes(), any_check()).prop_map(|(path, check)| Extended::CheckFileName { path, check }),
            (bytes(), any::<u64>(), any::<u64>(), bytes(), any::<u64>()).prop_map(
                |(read_handle, read_offset, read_len, write_handle, write_offset)| Extended::CopyData {
                    read_handle,
                    read_offset,
                    read_len,
                    write_handle,
                    write_offset
                }
            ),
            bytes().prop_map(|path| Extended::ExpandPath { path }),
            bytes().prop_map(|handle| Extended::Fstatvfs { handle }),
            bytes().prop_map(|handle| Extended::Fsync { handle }),
            (bytes(), bytes()).prop_map(|(from, to)| Extended::Hardlink { from, to }),
            bytes().prop_map(|user| Extended::HomeDirectory { user }),
            Just(Extended::Limits),
            (bytes(), any_attrs()).prop_map(|(path, attrs)| Extended::Lsetstat { path, attrs }),
            (bytes(), bytes()).prop_map(|(from, to)| Extended::PosixRename { from, to }),
            bytes().prop_map(|path| Extended::Statvfs { path }),
            bytes().prop_map(|body| Extended::Unknown { name: Bytes::from_static(b"x@y"), body }),
            (proptest::collection::vec(any::<u32>(), 0..4), proptest::collection::vec(any::<u32>(), 0..4))
                .prop_map(|(uids, gids)| Extended::UsersGroupsById { uids, gids }),
            (bytes(), bytes(), bytes(), any::<u64>()).prop_map(|(vendor, product, version, build)| {
                Extended::VendorId { vendor, product, version, build }
            }),
        ]
    }

    #[test]
    fn names_are_unique_and_parse() {
        for e in Extension::ALL {
            assert_eq!(Extension::parse(e.name().as_bytes()), Some(*e));
        }
        assert_eq!(Extension::parse(b"limits"), None);
    }

    #[test]
    fn limits_and_space_round_trip() {
        let l = decode_limits(encode_limits(&Limits {
            max_packet_len: 1,
            max_read_len: 2,
            max_write_len: 3,
            max_open_handles: 4,
        }))
        .unwrap();
        assert_eq!((l.max_packet_len, l.max_read_len, l.max_write_len, l.max_open_handles), (1, 2, 3, 4));
        let wire: Vec<u8> = (1..=11u64).flat_map(u64::to_be_bytes).collect();
        let s = decode_statvfs(Bytes::from(wire.clone())).unwrap();
        assert_eq!((s.block_size, s.blocks_avail, s.name_max), (1, 5, 11));
        assert_eq!(encode_statvfs(&s), wire);
        assert!(decode_statvfs(Bytes::from(wire).slice(..87)).is_err());
    }

    #[test]
    fn digests_are_read_in_either_form() {
        let c = Checked { algorithm: Bytes::from_static(b"md5"), digests: Bytes::from_static(b"0123") };
        assert_eq!(Checked::decode(c.encode(false)).unwrap(), c);
        assert_eq!(Checked::decode(c.encode(true)).unwrap(), c);
        assert_ne!(c.encode(false), c.encode(true));
    }

    #[test]
    fn names_of_owners_round_trip() {
        let body = encode_names(&["root", ""], &["staff"]);
        let (users, groups) = decode_names(body).unwrap();
        assert_eq!(users, ["root", ""]);
        assert_eq!(groups, ["staff"]);
    }

    #[test]
    fn an_extension_in_another_version_is_not_there() {
        let pair = |n: &'static str, d: &'static str| (Bytes::from(n), Bytes::from(d));
        let e = Extensions::new(vec![
            pair("statvfs@openssh.com", "1"),
            pair("limits@openssh.com", "1"),
            pair("check-file", ""),
        ]);
        assert!(!e.has(Extension::Statvfs));
        assert!(e.has(Extension::Limits));
        assert!(e.has(Extension::CheckFile));
        assert!(!e.has(Extension::Fsync));
    }
}
