//! MLST and MLSD as a server writes them: facts, a space, the name (RFC 3659, section 7).
//!
//! A fact that the store does not know is left out. `perm` says what the protocol allows for such an
//! entry; whether this user may is found out by trying. A link is `OS.unix=slink:` and what it holds.
//! CR, LF and NUL in a name become `?`: no name can forge an entry. How a client reads facts is
//! `facts_parser.rs`'s.

use session_core::metadata::{FileType, Metadata};

use super::stamp;

/// A fact by its place in [`FACTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts(u8);

const TYPE: u8 = 1;
const SIZE: u8 = 2;
const MODIFY: u8 = 4;
const PERM: u8 = 8;
const MODE: u8 = 16;
const OWNER: u8 = 32;
const GROUP: u8 = 64;

/// Every fact by name, in the order in which they are written.
pub const FACTS: [(&str, u8); 7] = [
    ("type", TYPE),
    ("size", SIZE),
    ("modify", MODIFY),
    ("perm", PERM),
    ("UNIX.mode", MODE),
    ("UNIX.owner", OWNER),
    ("UNIX.group", GROUP),
];

impl Facts {
    /// All of them.
    pub const ALL: Facts = Facts(127);

    /// Those that a client names (`type;size;`); unknown ones are passed over.
    pub fn parse(list: &[u8]) -> Self {
        let wanted = list.split(|b| *b == b';');
        let bit = |name: &[u8]| {
            FACTS.iter().find(|f| f.0.as_bytes().eq_ignore_ascii_case(name.trim_ascii())).map_or(0, |f| f.1)
        };
        Facts(wanted.fold(0, |set, name| set | bit(name)))
    }

    /// Their names as FEAT shows them, an asterisk behind each that is on.
    pub fn feature(self) -> String {
        FACTS.iter().map(|f| format!("{}{};", f.0, if self.0 & f.1 != 0 { "*" } else { "" })).collect()
    }

    /// Their names as the answer to OPTS MLST shows them.
    pub fn names(self) -> String {
        FACTS.iter().filter(|f| self.0 & f.1 != 0).map(|f| format!("{};", f.0)).collect()
    }

    fn has(self, fact: u8) -> bool {
        self.0 & fact != 0
    }
}

/// What an entry is to the directory that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The directory itself.
    Current,
    /// An entry of it, or one asked for alone.
    Entry,
}

/// Writes one entry without line end. `link` is what a symbolic link holds, where it is known.
pub fn write(
    out: &mut Vec<u8>,
    facts: Facts,
    place: Place,
    name: &[u8],
    metadata: &Metadata,
    link: Option<&[u8]>,
) {
    if facts.has(TYPE) {
        out.extend_from_slice(match (metadata.file_type, place) {
            (FileType::Directory, Place::Current) => b"type=cdir;",
            (FileType::Directory, Place::Entry) => b"type=dir;",
            (FileType::File, _) => b"type=file;",
            (FileType::Symlink, _) => b"type=OS.unix=slink:",
            (FileType::Other, _) => b"type=OS.unix=other;",
        });
        if metadata.is_symlink() {
            // What no fact can hold is left out, never changed: who needs it asks LIST.
            let fits = |b: &u8| !matches!(b, b';' | b' ' | b'\r' | b'\n' | 0);
            out.extend_from_slice(link.filter(|t| t.iter().all(fits)).unwrap_or_default());
            out.push(b';');
        }
    }
    if facts.has(SIZE) && metadata.is_file() {
        out.extend_from_slice(b"size=");
        stamp::digits(out, metadata.size, 1);
        out.push(b';');
    }
    if facts.has(MODIFY)
        && let Some(modified) = metadata.modified
    {
        out.extend_from_slice(b"modify=");
        stamp::write(out, modified, true);
        out.push(b';');
    }
    if facts.has(PERM) {
        out.extend_from_slice(match metadata.file_type {
            FileType::Directory => b"perm=cdeflmp;",
            FileType::File => b"perm=adfrw;".as_slice(),
            FileType::Symlink | FileType::Other => b"perm=df;",
        });
    }
    if facts.has(MODE)
        && let Some(mode) = metadata.mode
    {
        out.extend_from_slice(b"UNIX.mode=");
        octal(out, mode & 0o7777);
        out.push(b';');
    }
    let mut owner = |fact: u8, head: &[u8], name: Option<&str>, number: Option<u32>| {
        if !facts.has(fact) {
            return;
        }
        let number = number.map(|n| n.to_string());
        let Some(words) = name.or(number.as_deref()) else { return };
        out.extend_from_slice(head);
        out.extend(words.bytes().map(|b| if b == b';' || b.is_ascii_control() { b'?' } else { b }));
        out.push(b';');
    };
    owner(OWNER, b"UNIX.owner=", metadata.owner.as_deref(), metadata.uid);
    owner(GROUP, b"UNIX.group=", metadata.group.as_deref(), metadata.gid);
    out.push(b' ');
    super::name(out, name);
}

fn octal(out: &mut Vec<u8>, mode: u32) {
    for shift in [9, 6, 3, 0] {
        out.push(b'0' + ((mode >> shift) & 7) as u8);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn line(facts: Facts, name: &[u8], metadata: &Metadata, link: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write(&mut out, facts, Place::Entry, name, metadata, link);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn entries_of_every_kind() {
        let mut file = Metadata::new(FileType::File, 42);
        file.modified = Some(UNIX_EPOCH + Duration::from_secs(86_400));
        file.mode = Some(0o640);
        file.uid = Some(7);
        file.group = Some("staff;x".into());
        assert_eq!(
            line(Facts::ALL, b"a b", &file, None),
            "type=file;size=42;modify=19700102000000;perm=adfrw;UNIX.mode=0640;UNIX.owner=7;UNIX.group=staff?x; a b"
        );
        assert_eq!(line(Facts::parse(b"SIZE;nothing;"), b"f", &file, None), "size=42; f");
        let link = Metadata::new(FileType::Symlink, 0);
        assert_eq!(line(Facts::parse(b"type;"), b"l", &link, Some(b"/x")), "type=OS.unix=slink:/x; l");
        for awkward in [&b"a b"[..], b"a;b", b"a\nb"] {
            assert_eq!(line(Facts::parse(b"type;"), b"l", &link, Some(awkward)), "type=OS.unix=slink:; l");
        }
        let dir = Metadata::new(FileType::Directory, 4096);
        assert_eq!(line(Facts::parse(b"type;size"), b"d", &dir, None), "type=dir; d");
        assert_eq!(line(Facts::parse(b""), b"d", &dir, None), " d");
    }

    #[test]
    fn no_name_forges_an_entry() {
        let file = Metadata::new(FileType::File, 0);
        let got = line(Facts::parse(b"type"), b"a\r\ntype=dir; b\0", &file, None);
        assert_eq!(got, "type=file; a??type=dir; b?");
    }

    #[test]
    fn features_show_what_is_on() {
        assert_eq!(
            Facts::parse(b"type;unix.mode").feature(),
            "type*;size;modify;perm;UNIX.mode*;UNIX.owner;UNIX.group;"
        );
        assert_eq!(Facts::parse(b"unix.mode;type").names(), "type;UNIX.mode;");
    }
}
