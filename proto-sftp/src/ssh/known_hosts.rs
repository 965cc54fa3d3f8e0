//! `known_hosts` files: read whole, asked about a host, appended to. The format is in sshd(8).
//!
//! Understands hashed names, `[host]:port`, wildcards and negation, `@cert-authority` and `@revoked`,
//! several files. A line that makes no sense is passed over, as OpenSSH does; a file that cannot be read
//! is an error, because the answer "unknown" would then be a guess. A host that is known by a key of
//! another type counts as changed: whoever stands in between could else choose a type that is not there.
//!
//! Adding a line is one append: what others add meanwhile stays, links are followed, nothing is
//! rewritten. Deliberately absent: removing lines, look-up by address beside the name.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use session_core::error::{Error, ErrorKind, Result};
use session_core::trust::Known;
use sha1::{Digest as _, Sha1};

/// The largest file that is read, bytes.
const LARGEST: u64 = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    None,
    Authority,
    Revoked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// Salt and digest of one name.
    Hashed(Vec<u8>, [u8; 20]),
    /// Patterns, each with whether it excludes.
    Patterns(Vec<(bool, String)>),
}

#[derive(Clone, Debug)]
struct Entry {
    file: usize,
    line: usize,
    marker: Marker,
    hosts: Hosts,
    algorithm: String,
    blob: Vec<u8>,
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// The records of some files.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
    entries: Vec<Entry>,
}

impl KnownHosts {
    /// Reads files, in order; one that is not there counts as empty. Blocks. Errors: those of reading,
    /// `TooLarge` above 32 MiB.
    pub fn load(files: &[PathBuf]) -> Result<Self> {
        let mut known = KnownHosts { files: files.to_vec(), entries: Vec::new() };
        for (number, path) in files.iter().enumerate() {
            let text = match read(path) {
                Ok(Some(text)) => text,
                Ok(None) => {
                    let words = format!("'{}' is too large for a list of hosts", path.display());
                    return Err(Error::new(ErrorKind::TooLarge).with_detail(words));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    let words = format!("cannot read '{}': {e}", path.display());
                    return Err(Error::from(e).with_detail(words));
                }
            };
            known.parse(number, &text);
        }
        Ok(known)
    }

    fn parse(&mut self, file: usize, text: &[u8]) {
        for (number, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = String::from_utf8_lossy(line);
            if let Some((marker, hosts, algorithm, blob)) = parse_line(&line) {
                self.entries.push(Entry { file, line: number + 1, marker, hosts, algorithm, blob });
            }
        }
    }

    fn of<'a>(&'a self, host: &str, port: u16) -> impl Iterator<Item = &'a Entry> {
        let name = name_of(host, port);
        self.entries.iter().filter(move |e| e.hosts.matches(&name))
    }

    fn place(&self, entry: &Entry) -> Place {
        Place { file: self.files.get(entry.file).cloned().unwrap_or_default(), line: entry.line }
    }

    /// What is known of this key for this host, and the record that says so.
    pub fn look_up(&self, host: &str, port: u16, blob: &[u8]) -> (Known, Option<Place>) {
        if let Some(place) = self.revoked(host, port, blob) {
            return (Known::Revoked, Some(place));
        }
        let mut other = None;
        for entry in self.of(host, port).filter(|e| e.marker == Marker::None) {
            if entry.blob == blob {
                return (Known::Matches, Some(self.place(entry)));
            }
            other.get_or_insert(entry);
        }
        match other {
            Some(entry) => (Known::Changed, Some(self.place(entry))),
            None => (Known::Unknown, None),
        }
    }

    /// Whether a key, of a host or of an authority, is marked as revoked for this host.
    pub fn revoked(&self, host: &str, port: u16, blob: &[u8]) -> Option<Place> {
        let entry = self.of(host, port).find(|e| e.marker == Marker::Revoked && e.blob == blob)?;
        Some(self.place(entry))
    }

    /// Whether this key may certify this host.
    pub fn is_authority(&self, host: &str, port: u16, blob: &[u8]) -> bool {
        self.of(host, port).any(|e| e.marker == Marker::Authority && e.blob == blob)
    }

    /// Whether any authority is known for this host.
    pub fn has_authority(&self, host: &str, port: u16) -> bool {
        self.of(host, port).any(|e| e.marker == Marker::Authority)
    }

    /// The types of the keys on record for this host, so that the server is asked for one of them.
    pub fn key_types(&self, host: &str, port: u16) -> Vec<&str> {
        self.of(host, port).filter(|e| e.marker == Marker::None).map(|e| e.algorithm.as_str()).collect()
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut text)?;
    Ok((text.len() as u64 <= LARGEST).then_some(text))
}

fn parse_line(line: &str) -> Option<(Marker, Hosts, String, Vec<u8>)> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    if first.starts_with('#') {
        return None;
    }
    let (marker, hosts) = match first {
        "@cert-authority" => (Marker::Authority, words.next()?),
        "@revoked" => (Marker::Revoked, words.next()?),
        _ if first.starts_with('@') => return None,
        _ => (Marker::None, first),
    };
    let hosts = Hosts::parse(hosts)?;
    let algorithm = words.next()?.to_owned();
    let blob = words.next()?.trim_end_matches('=');
    let blob = STANDARD_NO_PAD.decode(blob).ok()?;
    // The blob begins with its type; a line that says otherwise is nobody's record.
    let (len, rest) = blob.split_first_chunk::<4>()?;
    let named = rest.get(..u32::from_be_bytes(*len) as usize)?;
    (named == algorithm.as_bytes()).then_some((marker, hosts, algorithm, blob))
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if let Some(hashed) = text.strip_prefix("|1|") {
            let (salt, digest) = hashed.split_once('|')?;
            let digest = STANDARD.decode(digest).ok()?.try_into().ok()?;
            return Some(Hosts::Hashed(STANDARD.decode(salt).ok()?, digest));
        }
        let patterns = text.split(',').filter(|p| !p.is_empty()).map(|p| match p.strip_prefix('!') {
            Some(p) => (true, p.to_ascii_lowercase()),
            None => (false, p.to_ascii_lowercase()),
        });
        Some(Hosts::Patterns(patterns.collect()))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Hosts::Hashed(salt, digest) => hmac_sha1(salt, name.as_bytes()) == *digest,
            Hosts::Patterns(patterns) => {
                let mut found = false;
                for (excludes, pattern) in patterns {
                    if wildcard(pattern.as_bytes(), name.as_bytes()) {
                        if *excludes {
                            return false;
                        }
                        found = true;
                    }
                }
                found
            }
        }
    }
}

/// A host as it is written in the file: the port only where it is not 22.
fn name_of(host: &str, port: u16) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Whether `pattern` with `*` and `?` covers all of `text`; never more than their product in steps.
pub(crate) fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

/// RFC 2104 over SHA-1, which the format of hashed names prescribes.
fn hmac_sha1(key: &[u8], text: &[u8]) -> [u8; 20] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block.iter_mut().zip(Sha1::digest(key)).for_each(|(b, k)| *b = k);
    } else {
        block.iter_mut().zip(key).for_each(|(b, k)| *b = *k);
    }
    let inner = Sha1::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha1::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

/// Puts a key on record: one line appended to `file`, which is made (0600, in a folder 0700) where it is
/// not there. `hashed` hides the name, as OpenSSH's `HashKnownHosts`. Blocks. Errors: those of writing;
/// `InvalidArgument` for a name that cannot stand in the file.
pub fn remember(
    file: &Path,
    host: &str,
    port: u16,
    algorithm: &str,
    blob: &[u8],
    hashed: bool,
) -> Result<()> {
    let failed = |e: io::Error| {
        let words = format!("cannot write '{}': {e}", file.display());
        Error::from(e).with_detail(words)
    };
    let mut name = name_of(host, port);
    // What is a pattern, a list or a comment in the file is no name.
    let odd =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '*' | '?' | '!' | '#' | '|' | '@');
    if name.is_empty() || name.contains(odd) {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("the host name '{host}' cannot be put on record")));
    }
    if hashed {
        let mut salt = [0; 20];
        getrandom::fill(&mut salt)
            .map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness from the system"))?;
        let digest = hmac_sha1(&salt, name.as_bytes());
        name = format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(digest));
    }
    let mut line = format!("{name} {algorithm} {}\n", STANDARD.encode(blob));
    if let Some(folder) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut out =
        fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file).map_err(failed)?;
    // A last line without its end would swallow ours.
    if out.metadata().map_err(failed)?.len() > 0 {
        let mut last = [0];
        out.seek(SeekFrom::End(-1)).and_then(|_| out.read_exact(&mut last)).map_err(failed)?;
        if last != *b"\n" {
            line.insert(0, '\n');
        }
    }
    out.write_all(line.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(algorithm: &str, fill: u8) -> Vec<u8> {
        let mut b = (algorithm.len() as u32).to_be_bytes().to_vec();
        b.extend(algorithm.as_bytes());
        b.extend([0, 0, 0, 4, fill, fill, fill, fill]);
        b
    }

    fn known(text: &str) -> KnownHosts {
        let mut k = KnownHosts { files: vec!["file".into()], entries: Vec::new() };
        k.parse(0, text.as_bytes());
        k
    }

    fn line(hosts: &str, algorithm: &str, fill: u8) -> String {
        format!("{hosts} {algorithm} {} a comment\n", STANDARD.encode(blob(algorithm, fill)))
    }

    const ED: &str = "ssh-ed25519";

    #[test]
    fn plain_names_ports_lists_wildcards_and_negation() {
        let text = format!(
            "# a comment\n\nnonsense\n{}{}{}",
            line("One.example,two.example", ED, 1),
            line("[one.example]:2222", ED, 2),
            line("*.net,!bad.net", ED, 3)
        );
        let k = known(&text);
        let ask = |host: &str, port, fill| k.look_up(host, port, &blob(ED, fill));
        assert_eq!(ask("one.EXAMPLE", 22, 1), (Known::Matches, Some(Place { file: "file".into(), line: 4 })));
        assert_eq!(ask("two.example.", 22, 1).0, Known::Matches);
        assert_eq!(ask("one.example", 2222, 2).0, Known::Matches);
        let (changed, place) = ask("one.example", 2222, 1);
        assert_eq!((changed, place.unwrap().to_string().as_str()), (Known::Changed, "file:5"));
        assert_eq!(ask("one.example", 2223, 1).0, Known::Unknown);
        assert_eq!(ask("good.net", 22, 3).0, Known::Matches);
        assert_eq!(ask("bad.net", 22, 3).0, Known::Unknown);
        assert_eq!(ask("net", 22, 3).0, Known::Unknown);
    }

    #[test]
    fn another_type_of_key_is_a_change_not_a_stranger() {
        let k = known(&line("h", "ssh-rsa", 1));
        assert_eq!(k.look_up("h", 22, &blob(ED, 1)).0, Known::Changed);
        assert_eq!(k.key_types("h", 22), ["ssh-rsa"]);
    }

    #[test]
    fn revoked_wins_and_authorities_are_no_host_keys() {
        let text = format!(
            "{}@revoked {}@cert-authority {}",
            line("h", ED, 1),
            line("*", ED, 1),
            line("*.example", ED, 9)
        );
        let k = known(&text);
        assert_eq!(k.look_up("h", 22, &blob(ED, 1)).0, Known::Revoked);
        assert!(k.is_authority("a.example", 22, &blob(ED, 9)));
        assert!(!k.is_authority("a.example", 22, &blob(ED, 1)));
        assert!(k.has_authority("a.example", 22) && !k.has_authority("a.test", 22));
        assert_eq!(k.look_up("a.example", 22, &blob(ED, 9)).0, Known::Unknown);
    }

    #[test]
    fn a_hashed_name_is_found() {
        let salt = STANDARD.encode([7; 20]);
        let digest = STANDARD.encode(hmac_sha1(&[7; 20], b"[example.org]:2200"));
        let k = known(&line(&format!("|1|{salt}|{digest}"), ED, 4));
        assert_eq!(k.look_up("example.org", 2200, &blob(ED, 4)).0, Known::Matches);
        assert_eq!(k.look_up("example.org", 22, &blob(ED, 4)).0, Known::Unknown);
        // RFC 2202, cases 2 and 6.
        let hex = |d: [u8; 20]| d.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let case2 = hmac_sha1(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(case2), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let case6 = hmac_sha1(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(case6), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    }

    #[test]
    fn lines_that_lie_or_are_cut_off_are_passed_over() {
        let mut text = line("h", "ssh-rsa", 1).replace("ssh-rsa ", "ssh-ed25519 ");
        text += "h ssh-ed25519\nh\n@unknown h ssh-ed25519 AAAA\n|1|x|y ssh-ed25519 AAAA\nh ssh-ed25519 !!!\n";
        assert!(known(&text).entries.is_empty());
    }

    #[test]
    fn what_is_remembered_is_found_and_the_rest_of_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/known_hosts");
        for (port, hashed) in [(22, false), (2222, false), (22, true), (2022, true)] {
            let host = format!("h{port}{hashed}.example");
            remember(&file, &host, port, ED, &blob(ED, 5), hashed).unwrap();
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(text.contains(&host), !hashed);
            let k = KnownHosts::load(std::slice::from_ref(&file)).unwrap();
            assert_eq!(k.look_up(&host, port, &blob(ED, 5)).0, Known::Matches, "{text}");
        }
        fs::write(&file, "# mine, without an end of line").unwrap();
        remember(&file, "h", 22, ED, &blob(ED, 6), false).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# mine, without an end of line\nh ssh-ed25519 "), "{text}");
        for bad in ["a b", "a,b", "*", "", "a\nb"] {
            let e = remember(&file, bad, 22, ED, &blob(ED, 6), false).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(KnownHosts::load(&[dir.path().join("none")]).unwrap().entries.is_empty());
        assert!(KnownHosts::load(&[dir.path().to_path_buf()]).is_err());
    }

    #[test]
    fn wildcards_cover_what_they_say_and_cost_little() {
        for (p, t, yes) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("?", "", false),
            ("a?", "ab", true),
            ("**b", "aab", true),
        ] {
            assert_eq!(wildcard(p.as_bytes(), t.as_bytes()), yes, "{p} {t}");
        }
        let begun = std::time::Instant::now();
        assert!(!wildcard("*a".repeat(100).as_bytes(), "ab".repeat(5000).as_bytes()));
        assert!(begun.elapsed().as_secs() < 1);
    }
}
