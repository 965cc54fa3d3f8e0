//! ATTRS (draft section 5): what an entry is and what to set on it.
//!
//! Times are unsigned 32-bit seconds since 1970 (they reach to 2106); a time outside is clamped. Owner
//! and group travel only together, as do the two times: where a store knows only one of a pair, the
//! access time takes the other's value and an owner is left out. Extended pairs are carried, not
//! understood.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use russh_sftp::protocol::FileAttr;
use session_core::metadata::{Attributes, FileType, Metadata};

use super::codec::{Malformed, Reader, put_string};

const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// The ATTRS compound. `None` is a field whose flag is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Size in bytes.
    pub size: Option<u64>,
    /// Numeric owner and group.
    pub owner: Option<(u32, u32)>,
    /// Unix mode, type bits included (`0o100644`).
    pub mode: Option<u32>,
    /// Access and modification time, seconds since 1970.
    pub times: Option<(u32, u32)>,
    /// Extended pairs, name and value.
    pub extended: Vec<(Bytes, Bytes)>,
}

impl Attrs {
    /// Reads the compound. A packet that ends before it means none, as old clients send.
    pub fn decode(r: &mut Reader) -> Result<Self, Malformed> {
        if r.is_empty() {
            return Ok(Attrs::default());
        }
        let flags = FileAttr::from_bits_retain(r.u32()?);
        let mut attrs = Attrs::default();
        if flags.contains(FileAttr::SIZE) {
            attrs.size = Some(r.u64()?);
        }
        if flags.contains(FileAttr::UIDGID) {
            attrs.owner = Some((r.u32()?, r.u32()?));
        }
        if flags.contains(FileAttr::PERMISSIONS) {
            attrs.mode = Some(r.u32()?);
        }
        if flags.contains(FileAttr::ACMODTIME) {
            attrs.times = Some((r.u32()?, r.u32()?));
        }
        if flags.contains(FileAttr::EXTENDED) {
            // The count is the peer's word; the pairs that are there bound what is allocated.
            for _ in 0..r.u32()? {
                attrs.extended.push((r.string()?, r.string()?));
            }
        }
        Ok(attrs)
    }

    /// Appends the compound.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut flags = FileAttr::empty();
        flags.set(FileAttr::SIZE, self.size.is_some());
        flags.set(FileAttr::UIDGID, self.owner.is_some());
        flags.set(FileAttr::PERMISSIONS, self.mode.is_some());
        flags.set(FileAttr::ACMODTIME, self.times.is_some());
        flags.set(FileAttr::EXTENDED, !self.extended.is_empty());
        out.put_u32(flags.bits());
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some((uid, gid)) = self.owner {
            out.put_u32(uid);
            out.put_u32(gid);
        }
        if let Some(mode) = self.mode {
            out.put_u32(mode);
        }
        if let Some((accessed, modified)) = self.times {
            out.put_u32(accessed);
            out.put_u32(modified);
        }
        if !self.extended.is_empty() {
            out.put_u32(u32::try_from(self.extended.len()).unwrap_or(u32::MAX));
            for (name, value) in &self.extended {
                put_string(out, name);
                put_string(out, value);
            }
        }
    }

    /// What a server tells of an entry. The type is always told, with the bits that a store without
    /// permissions would have.
    pub fn of(m: &Metadata) -> Self {
        let (kind, usual) = match m.file_type {
            FileType::Directory => (TYPE_DIRECTORY, 0o755),
            FileType::File => (TYPE_FILE, 0o644),
            FileType::Symlink => (TYPE_SYMLINK, 0o777),
            FileType::Other => (0, 0o644),
        };
        Attrs {
            size: Some(m.size),
            owner: m.uid.zip(m.gid),
            mode: Some(kind | (m.mode.unwrap_or(usual) & 0o7777)),
            times: m.modified.or(m.accessed).map(|modified| {
                (to_seconds(m.accessed.unwrap_or(modified)), to_seconds(m.modified.unwrap_or(modified)))
            }),
            extended: Vec::new(),
        }
    }

    /// What a client learns of an entry. Without a mode the entry passes for a file.
    pub fn to_metadata(&self) -> Metadata {
        let file_type = match self.mode.map(|m| m & TYPE_MASK) {
            None | Some(TYPE_FILE) => FileType::File,
            Some(TYPE_DIRECTORY) => FileType::Directory,
            Some(TYPE_SYMLINK) => FileType::Symlink,
            Some(_) => FileType::Other,
        };
        let mut m = Metadata::new(file_type, self.size.unwrap_or(0));
        m.mode = self.mode.map(|m| m & 0o7777);
        m.uid = self.owner.map(|o| o.0);
        m.gid = self.owner.map(|o| o.1);
        m.accessed = self.times.map(|t| from_seconds(t.0));
        m.modified = self.times.map(|t| from_seconds(t.1));
        m
    }

    /// What a server is asked to set. Type bits and extended pairs are ignored.
    pub fn to_attributes(&self) -> Attributes {
        Attributes {
            size: self.size,
            mode: self.mode.map(|m| m & 0o7777),
            uid: self.owner.map(|o| o.0),
            gid: self.owner.map(|o| o.1),
            accessed: self.times.map(|t| from_seconds(t.0)),
            modified: self.times.map(|t| from_seconds(t.1)),
            ..Attributes::default()
        }
    }

    /// What a client asks to set. A single time or a single owner cannot be sent: `known` (the entry as
    /// it is) gives the other one; without it the pair is left out.
    pub fn asking(a: &Attributes, known: Option<&Metadata>) -> Self {
        let uid = a.uid.or(known.and_then(|k| k.uid));
        let gid = a.gid.or(known.and_then(|k| k.gid));
        let accessed = a.accessed.or(known.and_then(|k| k.accessed));
        let modified = a.modified.or(known.and_then(|k| k.modified));
        Attrs {
            size: a.size,
            owner: if a.uid.is_some() || a.gid.is_some() { uid.zip(gid) } else { None },
            mode: a.mode.map(|m| m & 0o7777),
            times: if a.accessed.is_some() || a.modified.is_some() {
                accessed.zip(modified).map(|(a, m)| (to_seconds(a), to_seconds(m)))
            } else {
                None
            },
            extended: Vec::new(),
        }
    }
}

/// Whole seconds since 1970, clamped to what the wire can say.
pub fn to_seconds(t: SystemTime) -> u32 {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => u32::try_from(d.as_secs()).unwrap_or(u32::MAX),
        Err(_) => 0,
    }
}

/// The time `s` seconds after 1970.
pub fn from_seconds(s: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::from(s))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
    }

    pub(crate) fn any_attrs() -> impl Strategy<Value = Attrs> {
        (
            any::<Option<u64>>(),
            any::<Option<(u32, u32)>>(),
            any::<Option<u32>>(),
            any::<Option<(u32, u32)>>(),
            proptest::collection::vec((bytes(), bytes()), 0..3),
        )
            .prop_map(|(size, owner, mode, times, extended)| Attrs {
                size,
                owner,
                mode,
                times,
                extended,
            })
    }

    proptest! {
        #[test]
        fn attrs_round_trip(attrs in any_attrs()) {
            let mut out = BytesMut::new();
            attrs.encode(&mut out);
            let mut r = Reader::new(out.freeze());
            prop_assert_eq!(Attrs::decode(&mut r).unwrap(), attrs);
            prop_assert!(r.is_empty());
        }

        #[test]
        fn what_a_store_knows_survives_the_wire(mode in 0u32..0o10000, size: u64, t: u32, a: u32, ids: (u32, u32)) {
            for file_type in [FileType::Directory, FileType::File, FileType::Symlink, FileType::Other] {
                let mut m = Metadata::new(file_type, size);
                m.mode = Some(mode);
                m.modified = Some(from_seconds(t));
                m.accessed = Some(from_seconds(a));
                m.uid = Some(ids.0);
                m.gid = Some(ids.1);
                prop_assert_eq!(Attrs::of(&m).to_metadata(), m);
            }
        }
    }

    #[test]
    fn times_outside_the_wire_are_clamped() {
        assert_eq!(to_seconds(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(to_seconds(UNIX_EPOCH + Duration::from_secs(1 << 33)), u32::MAX);
        // Beyond 2038, where signed seconds would end.
        assert_eq!(to_seconds(from_seconds(0xF000_0000)), 0xF000_0000);
    }

    #[test]
    fn a_single_time_needs_its_other_half() {
        let only = Attributes::times(None, Some(from_seconds(9)));
        assert_eq!(Attrs::asking(&only, None).times, None);
        let mut known = Metadata::new(FileType::File, 0);
        known.accessed = Some(from_seconds(4));
        assert_eq!(Attrs::asking(&only, Some(&known)).times, Some((4, 9)));
    }

    #[test]
    fn a_false_count_of_pairs_is_an_error_not_an_allocation() {
        let mut r = Reader::new(Bytes::from_static(b"\x80\0\0\0\xff\xff\xff\xff\0\0\0\x01a\0\0\0\0"));
        assert!(Attrs::decode(&mut r).is_err());
    }
}
