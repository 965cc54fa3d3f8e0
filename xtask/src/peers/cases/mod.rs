//! Cases: tests with a peer on the other side of ours, each in a folder of its own on the server.
//!
//! Theirs on our server ([`theirs`]), ours on each of their servers and on our own ([`ours`]), and what only
//! our server can do or must withstand ([`daemon`]). Every case looks at the disk below the server as well as
//! at what the client says; a case that needs more than the protocol has asks for ferryd's own program.

pub(super) mod daemon;
pub(super) mod ftp;
pub(super) mod ours;
pub(super) mod python;
pub(super) mod s3_client;
pub(super) mod theirs;
pub(super) mod ways;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::servers::{Address, Endpoint, Kit};
use crate::fault::{Result, While, ensure};
use crate::process::{read, set_mode, write};

/// A test of their client on our server.
pub(super) struct Case {
    /// As it stands in the list of known failures: `CLIENT::what_it_does`.
    pub(super) name: &'static str,
    /// The peer that it needs, by name.
    pub(super) peer: &'static str,
    pub(super) run: fn(&Scene) -> Result<()>,
}

/// Where a case happens: a server, and a folder of its own on either side.
pub(super) struct Scene<'a> {
    pub(super) kit: &'a Kit,
    pub(super) at: Address,
    /// The folder on the disk below the server.
    pub(super) root: PathBuf,
    /// The same as the client sees it, with a slash at the end. No blank in it.
    pub(super) folder: String,
    /// The client's folder.
    pub(super) local: PathBuf,
    /// Ours, for the cases that use it.
    pub(super) ferry: &'a Path,
    pub(super) endpoint: &'a Endpoint,
}

/// More cases than there are in one run.
pub(super) const FOLDERS: usize = 900;

/// The name of the folder of a case.
pub(super) fn folder_name(number: usize) -> String {
    format!("case-{number}")
}

impl<'a> Scene<'a> {
    pub(super) fn new(kit: &'a Kit, endpoint: &'a Endpoint, ferry: &'a Path) -> Result<Self> {
        Self::at(kit, endpoint, &endpoint.at, ferry)
    }

    /// The same, by another way to that server.
    pub(super) fn at(kit: &'a Kit, endpoint: &'a Endpoint, at: &Address, ferry: &'a Path) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        ensure!(number < FOLDERS, "there are more cases than folders for them");
        let name = folder_name(number);
        let (root, local) = (endpoint.root.join(&name), kit.join(&name));
        for path in [&root, &local] {
            std::fs::create_dir_all(path).doing(|| format!("making {}", path.display()))?;
        }
        let at = at.clone();
        Ok(Self { kit, folder: format!("{}{name}/", at.folder), at, root, local, ferry, endpoint })
    }

    /// A name in the client's folder.
    pub(super) fn here(&self, name: impl AsRef<Path>) -> PathBuf {
        self.local.join(name)
    }

    /// A name in the server's folder, on the disk.
    pub(super) fn there(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// A name in the server's folder, as a client says it.
    pub(super) fn remote(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }
}

/// Beyond any packet and no multiple of any block.
pub(super) const SIZE: usize = 1_300_021;

/// Bytes of a seed; see [`super::clients::content`].
pub(super) fn bytes(seed: usize) -> Vec<u8> {
    super::clients::content(seed).into_iter().take(SIZE).collect()
}

/// Makes a file with such bytes, a mode that no umask gives, and a time long ago.
pub(super) fn make(path: &Path, seed: usize) -> Result<Vec<u8>> {
    let content = bytes(seed);
    write(path, &content)?;
    set_mode(path, 0o640)?;
    set_time(path, OLD)?;
    Ok(content)
}

/// A time long ago, in whole seconds, as protocols carry them.
pub(super) const OLD: u64 = 1_500_000_123;

pub(super) fn set_time(path: &Path, seconds: u64) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_modified(time)).doing(|| format!("setting the time of {}", path.display()))
}

/// Errors unless the file holds these bytes.
pub(super) fn holds(path: &Path, content: &[u8]) -> Result<()> {
    let found = read(path)?;
    ensure!(
        found == content,
        "{} holds {} bytes, not the {} that it should",
        path.display(),
        found.len(),
        content.len()
    );
    Ok(())
}

pub(super) fn is_absent(path: &Path) -> Result<()> {
    ensure!(path.symlink_metadata().is_err(), "{} should not be there", path.display());
    Ok(())
}

/// Errors unless the mode is this one.
pub(super) fn has_mode(path: &Path, mode: u32) -> Result<()> {
    let found = metadata(path)?.permissions().mode() & 0o7777;
    ensure!(found == mode, "{} has the mode {found:o}, not {mode:o}", path.display());
    Ok(())
}

/// Errors unless it was changed at this second.
pub(super) fn has_time(path: &Path, seconds: u64) -> Result<()> {
    let found = metadata(path)?.mtime();
    ensure!(u64::try_from(found) == Ok(seconds), "{} is of {found}, not {seconds}", path.display());
    Ok(())
}

fn metadata(path: &Path) -> Result<std::fs::Metadata> {
    path.metadata().doing(|| format!("looking at {}", path.display()))
}

/// Errors unless the text holds the word.
pub(super) fn says(text: &str, word: &str) -> Result<()> {
    ensure!(text.contains(word), "no `{word}` in:\n{text}");
    Ok(())
}

/// What a name on some disk may be, as far as a client can carry it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Everything but the slash and the zero byte.
    Any,
    /// UTF-8 without control characters.
    Printable,
}

/// Awkward names.
pub(super) fn awkward(names: Names) -> Vec<OsString> {
    let mut all: Vec<Vec<u8>> = [
        "two words",
        " blank in front",
        "blank behind ",
        "quotes ' and \"",
        "back\\slash",
        "glob *[a]?{b,c}",
        "-dash",
        "--option",
        ".hidden",
        "...",
        "semicolon; ampersand & pipe |",
        "dollar $HOME `tick`",
        "percent %41 %",
        "hash # question ?",
        "colon: at @ plus +",
        "~",
        "ünïcödé Ω 日本語 🦀",
        // The same letter composed and decomposed: two names.
        "e\u{301}",
        "\u{e9}",
        "CON",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    all.push(vec![b'n'; 255]);
    if names == Names::Any {
        all.push(b"tab\tnew\nline\rescape\x1b".to_vec());
        all.push(b"not \xff\xfe UTF-8".to_vec());
        all.push(b"\x80".to_vec());
    }
    all.into_iter().map(OsString::from_vec).collect()
}

/// Makes a folder with those names as files, a folder with an awkward name in it, an empty folder and an
/// empty file.
pub(super) fn make_tree(path: &Path, names: Names) -> Result<()> {
    let inner = path.join("in ner").join("deeper ünd déeper");
    let empty = path.join("empty folder");
    for dir in [path, &inner, &empty] {
        std::fs::create_dir_all(dir).doing(|| format!("making {}", dir.display()))?;
    }
    for (number, name) in awkward(names).iter().enumerate() {
        let at = if number % 2 == 0 { path } else { &inner };
        let content = format!("content {number}\n").repeat(number * 40 + 1);
        write(&at.join(name), content)?;
    }
    write(&path.join("empty file"), [])?;
    write(&path.join("large"), bytes(5))
}

/// Makes a tree of names that everybody carries as they are; some rewrite blanks at the ends and the like.
pub(super) fn plain_tree(path: &Path) -> Result<()> {
    let inner = path.join("in ner").join("ünï 日本");
    for dir in [&inner, &path.join("empty")] {
        std::fs::create_dir_all(dir).doing(|| "making folders".to_owned())?;
    }
    for (number, name) in ["file", "two words", "in ner/other", "in ner/ünï 日本/third"].iter().enumerate()
    {
        make(&path.join(name), number)?;
    }
    Ok(())
}

/// Errors unless both folders hold the same, all the way down.
pub(super) fn same_tree(one: &Path, other: &Path) -> Result<()> {
    let (left, right) = (listed(one)?, listed(other)?);
    for name in &left {
        ensure!(right.contains(name), "{} is missing in {}", shown(name), other.display());
    }
    for name in &right {
        ensure!(left.contains(name), "{} is too much in {}", shown(name), other.display());
    }
    for name in left {
        let (here, there) = (one.join(&name), other.join(&name));
        ensure!(here.is_dir() == there.is_dir(), "{} is another kind of thing", shown(&name));
        if here.is_dir() {
            same_tree(&here, &there)?;
        } else {
            holds(&there, &read(&here)?)?;
        }
    }
    Ok(())
}

/// The names in a folder.
pub(super) fn listed(path: &Path) -> Result<Vec<OsString>> {
    let entries = std::fs::read_dir(path).doing(|| format!("listing {}", path.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.doing(|| format!("listing {}", path.display()))?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Errors unless the folder holds just these names.
pub(super) fn holds_names(path: &Path, names: &[&str]) -> Result<()> {
    let found = listed(path)?;
    let mut wanted: Vec<&OsStr> = names.iter().map(OsStr::new).collect();
    wanted.sort_unstable();
    ensure!(found == wanted, "{} holds {found:?}, not {wanted:?}", path.display());
    Ok(())
}

fn shown(name: &OsStr) -> String {
    String::from_utf8_lossy(name.as_bytes()).escape_debug().to_string()
}
