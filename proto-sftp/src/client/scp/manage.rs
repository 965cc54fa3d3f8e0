//! What a shell is asked for beside bytes: scripts of POSIX, and what their output means.
//!
//! Programs of Unix do more than the model allows: `mv`, `ln` and `cp` go into a directory that stands where a name is
//! meant, `rm` may ask, `touch` makes files. So what would go too far is looked at first, in the same script;
//! between the look and the deed somebody else may have changed it. Paths are absolute, so that none begins with a dash.
//!
//! What the model refuses is said in the words of the system, which [`super::words`] reads like any other's.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, Follow, Replace, Space};
use session_core::metadata::{Attributes, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::shell::quoted;

use super::words::error_of;
use crate::wire::longname::{civil, unix};
use crate::wire::ls::{Dialect, read_known};

/// What the shell's host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) dialect: Dialect,
    /// Where a login begins.
    pub(super) home: VPath,
    /// Programs, and what of them works.
    has: BTreeSet<String>,
}

const SUMS: [(Algorithm, &str, usize); 6] = [
    (Algorithm::Blake3, "b3sum", 32),
    (Algorithm::Md5, "md5sum", 16),
    (Algorithm::Sha1, "sha1sum", 20),
    (Algorithm::Sha256, "sha256sum", 32),
    (Algorithm::Sha384, "sha384sum", 48),
    (Algorithm::Sha512, "sha512sum", 64),
];

/// Finds out what is there. The last line is the path of the login folder, whatever that holds.
pub(super) const PROBE: &[u8] = b"if ls -lad -b --full-time / >/dev/null 2>&1; then echo ls-gnu
elif ls -lad --full-time / >/dev/null 2>&1; then echo ls-full
elif ls -lad -b -T / >/dev/null 2>&1; then echo ls-bsd
elif ls -lad / >/dev/null 2>&1; then echo ls-plain; fi
for ferry in b3sum cat cp df md5sum scp sha1sum sha256sum sha384sum sha512sum tail wc
do command -v $ferry >/dev/null 2>&1 && echo $ferry
done
[ \"`echo ab | head -c 1 2>/dev/null`\" = a ] && echo head
[ \"`echo ab | tail -c +2 2>/dev/null`\" = b ] && echo tail-from
[ \"`readlink -f / 2>/dev/null`\" = / ] && echo readlink
echo home
pwd";

impl Host {
    /// Reads what [`PROBE`] said. Errors: `Unsupported` where files cannot even be listed.
    pub(super) fn read(said: &[u8]) -> Result<Host> {
        let at = said.windows(6).position(|w| w == b"\nhome\n");
        let (facts, home) = match at {
            Some(at) => (said.get(..at), said.get(at + 6..)),
            None => (None, None),
        };
        let (facts, home) = (facts.unwrap_or_default(), home.unwrap_or_default());
        let has: BTreeSet<String> =
            facts.split(|b| *b == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let dialects = [
            ("ls-gnu", Dialect::Gnu),
            ("ls-full", Dialect::Full),
            ("ls-bsd", Dialect::Bsd),
            ("ls-plain", Dialect::Plain),
        ];
        let dialect = dialects.iter().find(|(name, _)| has.contains(*name)).map(|(_, dialect)| *dialect);
        let dialect = dialect
            .ok_or_else(|| Error::new(ErrorKind::Unsupported).with_detail("the server's shell has no ls"))?;
        let home = home.strip_suffix(b"\n").unwrap_or(home);
        let home = Some(home).filter(|home| home.first() == Some(&b'/'));
        let home = home.and_then(|home| VPath::absolute(home).ok()).unwrap_or_else(VPath::root);
        Ok(Host { dialect, home, has })
    }

    pub(super) fn has(&self, what: &str) -> bool {
        self.has.contains(what)
    }

    pub(super) fn sums(&self) -> bool {
        self.has("head") && SUMS.iter().any(|(_, program, _)| self.has(program))
    }

    /// Looks at one entry.
    pub(super) fn look(&self, path: &VPath, follow: Follow) -> Vec<u8> {
        let follow = if follow == Follow::Yes { "-L " } else { "" };
        let options = self.dialect.options();
        [format!("ls -l -a -d {follow}{options} ").as_bytes(), &quoted(path.as_bytes())].concat()
    }

    /// Reads what that said.
    pub(super) fn looked(&self, said: &[u8], follow: Follow) -> Result<Metadata> {
        let line = said.split(|b| *b == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
        let found = read_known(line, SystemTime::now()).ok_or_else(|| {
            Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's ls says what is not understood")
        })?;
        // Some show a link that leads nowhere where the file behind it is wanted.
        if follow == Follow::Yes && found.is_symlink() {
            return Err(Error::new(ErrorKind::NotFound).with_detail("the link leads nowhere"));
        }
        Ok(found)
    }

    /// The digest of a range.
    pub(super) fn sum(&self, path: &VPath, algorithm: Algorithm, range: &Range<u64>) -> Result<Vec<u8>> {
        let known = SUMS.iter().find(|(known, program, _)| *known == algorithm && self.has(program));
        let Some((_, program, _)) = known.filter(|_| self.has("head")) else {
            return Err(Error::unsupported(OperationKind::Checksum)
                .with_detail(format!("the server has no program for {}", algorithm.name())));
        };
        let path = quoted(path.as_bytes());
        let len = range.end.saturating_sub(range.start);
        let from = match range.start {
            0 => format!("head -c {len}"),
            start => format!("tail -c +{} | head -c {len}", start + 1),
        };
        Ok([
            b"[ ! -d ",
            &path[..],
            b" ] || { echo is a directory >&2; false; } && { ",
            from.as_bytes(),
            b"; } < ",
        ]
        .concat()
        .into_iter()
        .chain(path.iter().copied())
        .chain(format!(" | {program}").into_bytes())
        .collect())
    }
}

/// Reads a digest. Whatever is said on errors means that it is not of the content.
pub(super) fn digest(algorithm: Algorithm, said: &[u8], errors: &[u8]) -> Result<Bytes> {
    if !errors.trim_ascii().is_empty() {
        return Err(error_of(1, errors));
    }
    let size = SUMS.iter().find(|(known, ..)| *known == algorithm).map_or(0, |(.., size)| *size);
    let word = said.trim_ascii_start();
    let digits = word.get(..size * 2).filter(|digits| !digits.is_empty());
    let pairs = digits.and_then(|digits| {
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>()
    });
    pairs.map(Bytes::from).ok_or_else(|| {
        Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's program gives no digest")
    })
}

/// A script out of words and paths.
fn script(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn create_dir(path: &VPath, mode: Option<u32>) -> Vec<u8> {
    let mode = mode.map(|mode| format!("-m {mode:04o} ")).unwrap_or_default();
    script(&[b"mkdir ", mode.as_bytes(), &quoted(path.as_bytes())])
}

pub(super) fn remove_file(path: &VPath) -> Vec<u8> {
    script(&[b"rm ", &quoted(path.as_bytes())])
}

pub(super) fn remove_dir(path: &VPath) -> Vec<u8> {
    script(&[b"rmdir ", &quoted(path.as_bytes())])
}

/// Sets variables to paths, which are then words of a script however they are spelt.
fn with(from: &[u8], to: &[u8], rest: &str) -> Vec<u8> {
    // What is not there is told by who looks for it, with the reason.
    let head = b"if [ ! -e \"$f\" ] && [ ! -h \"$f\" ]; then ls -d \"$f\" >/dev/null\n";
    script(&[b"f=", &quoted(from), b"; t=", &quoted(to), b"\n", head, rest.as_bytes(), b"\nfi"])
}

pub(super) fn rename(from: &VPath, to: &VPath, replace: Replace) -> Vec<u8> {
    let there = "elif [ -e \"$t\" ] || [ -h \"$t\" ]; then\n";
    let rest = match replace {
        // A link is made or not, in one step; what cannot be linked is moved, as is what knows no links. Who finds
        // the old name gone was not the first to move it.
        Replace::No => format!(
            "{there}echo File exists >&2; false
elif [ -f \"$f\" ] && [ ! -h \"$f\" ] && ln \"$f\" \"$t\" 2>/dev/null; then rm \"$f\" || {{ rm -f \"$t\"; false; }}
{there}echo File exists >&2; false
else mv -f \"$f\" \"$t\""
        ),
        Replace::Yes => format!(
            "elif [ -d \"$t\" ] && [ ! -h \"$t\" ]; then
if [ -d \"$f\" ] && [ ! -h \"$f\" ]; then rmdir \"$t\" && mv -f \"$f\" \"$t\"
else echo Is a directory >&2; false; fi
{there}if [ -d \"$f\" ] && [ ! -h \"$f\" ]; then echo Not a directory >&2; false
elif [ -d \"$t\" ]; then rm -f \"$t\" && mv -f \"$f\" \"$t\"
elif [ \"$f\" -ef \"$t\" ] 2>/dev/null; then :
else mv -f \"$f\" \"$t\"; fi
else mv -f \"$f\" \"$t\""
        ),
    };
    with(from.as_bytes(), to.as_bytes(), &rest)
}

pub(super) fn copy(from: &VPath, to: &VPath, replace: Replace) -> Vec<u8> {
    let exists = match replace {
        Replace::No => "elif [ -e \"$t\" ] || [ -h \"$t\" ]; then echo File exists >&2; false\n",
        Replace::Yes => "",
    };
    let rest = format!(
        "elif [ -d \"$f\" ]; then echo Is a directory >&2; false
{exists}elif [ -d \"$t\" ]; then echo Is a directory >&2; false
else cp \"$f\" \"$t\""
    );
    with(from.as_bytes(), to.as_bytes(), &rest)
}

pub(super) fn hard_link(from: &VPath, to: &VPath) -> Vec<u8> {
    let rest = "elif [ -e \"$t\" ] || [ -h \"$t\" ]; then echo File exists >&2; false
elif [ -d \"$f\" ] && [ ! -h \"$f\" ]; then echo Operation not permitted >&2; false
else ln \"$f\" \"$t\"";
    with(from.as_bytes(), to.as_bytes(), rest)
}

pub(super) fn symlink(target: &[u8], at: &VPath) -> Vec<u8> {
    script(&[
        b"t=",
        &quoted(at.as_bytes()),
        b"\nif [ -e \"$t\" ] || [ -h \"$t\" ]; then echo File exists >&2; false\nelse ln -s -- ",
        &quoted(target),
        b" \"$t\"\nfi",
    ])
}

pub(super) fn read_link(path: &VPath) -> Vec<u8> {
    let rest = "elif [ -h \"$f\" ]; then readlink \"$f\"\nelse echo Invalid argument >&2; false";
    with(path.as_bytes(), b"", rest)
}

pub(super) fn canonicalize(path: &VPath) -> Vec<u8> {
    script(&[b"f=", &quoted(path.as_bytes()), b"\nls -d -L \"$f\" >/dev/null && readlink -f \"$f\""])
}

pub(super) fn space(path: &VPath) -> Vec<u8> {
    script(&[b"df -k -P ", &quoted(path.as_bytes())])
}

/// Reads what `df` said: a line of titles, then one that ends in four numbers and the place. POSIX.1-2017, `df`.
pub(super) fn room(said: &[u8]) -> Option<Space> {
    let text = String::from_utf8_lossy(said);
    let words: Vec<&str> = text.lines().skip(1).flat_map(str::split_whitespace).collect();
    let percent = words.iter().position(|word| {
        *word == "-" || word.strip_suffix('%').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    })?;
    let kilobytes = |back: usize| {
        let word = words.get(percent.checked_sub(back)?)?;
        word.parse::<u64>().ok()?.checked_mul(1024)
    };
    let (total, used, available) = (kilobytes(3)?, kilobytes(2)?, kilobytes(1)?);
    Some(Space {
        block_size: 1024,
        total,
        free: total.saturating_sub(used).max(available),
        available,
        entries: 0,
        entries_free: 0,
        max_name: 255,
        read_only: false,
    })
}

/// `-t` of `touch`, UTC.
fn stamp(time: SystemTime) -> Result<String> {
    let seconds = unix(time);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    if !(1..=9999).contains(&year) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a year of more than four digits"));
    }
    let s = seconds.rem_euclid(86_400);
    Ok(format!("{year:04}{month:02}{day:02}{:02}{:02}.{:02}", s / 3600, s / 60 % 60, s % 60))
}

/// Sets attributes, those of a link itself only where they can be.
pub(super) fn set(path: &VPath, a: &Attributes, follow: Follow) -> Result<Vec<u8>> {
    let mut steps = Vec::new();
    match (a.uid, a.gid) {
        (Some(uid), Some(gid)) => steps.push(format!("chown $h {uid}:{gid}")),
        (Some(uid), None) => steps.push(format!("chown $h {uid}")),
        (None, Some(gid)) => steps.push(format!("chgrp $h {gid}")),
        (None, None) => {}
    }
    if let Some(mode) = a.mode {
        steps.push(format!("chmod {mode:04o}"));
    }
    // `touch` makes what is missing unless it is told not to, and is silent then.
    for (flag, time) in [("-a", a.accessed), ("-m", a.modified)] {
        if let Some(time) = time {
            steps.push(format!("touch $h -c {flag} -t {}", stamp(time)?));
        }
    }
    let steps: Vec<String> = steps.into_iter().map(|step| format!(" && {step} \"$f\"")).collect();
    let link: &[u8] = match (follow, a.mode) {
        (Follow::Yes, _) => b"ls -d -L \"$f\" >/dev/null",
        (Follow::No, None) => b"if [ -h \"$f\" ]; then h=-h; fi; ls -d \"$f\" >/dev/null",
        (Follow::No, Some(_)) => {
            b"if [ -h \"$f\" ]; then echo the mode of a link is not supported >&2; false; else ls -d \"$f\" >/dev/null; fi"
        }
    };
    Ok(script(&[b"h=; f=", &quoted(path.as_bytes()), b"\n", link, steps.concat().as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_has_is_read_whatever_its_home_is_called() {
        let host = Host::read(b"ls-full\ncat\nscp\nsha256sum\nhead\nhome\n/home/alice\nhome\nb\n").unwrap();
        assert_eq!((host.dialect, host.home.as_bytes()), (Dialect::Full, &b"/home/alice\nhome\nb"[..]));
        assert!(host.has("scp") && !host.has("readlink") && host.sums());
        assert_eq!(Host::read(b"cat\nhome\n/\n").unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(Host::read(b"").is_err());
    }

    #[test]
    fn room_is_read_as_posix_writes_it() {
        let gnu = b"Filesystem     1024-blocks    Used Available Capacity Mounted on\n/dev/vda 263174212 28 240 10% /a b\n";
        let room = super::room(gnu).unwrap();
        assert_eq!((room.total, room.available), (263_174_212 * 1024, 240 * 1024));
        assert!(super::room(b"Filesystem\nmap -hosts 0 0 0 100% /net\n").is_some());
        // A long name on a line of its own.
        assert!(super::room(b"Filesystem\nserver:/a/long/name\n 10 5 5 50% /\n").is_some());
        assert!(super::room(b"df: /x: No such file\n").is_none());
    }

    #[test]
    fn digests_are_of_content_or_errors() {
        let md5 = b"d41d8cd98f00b204e9800998ecf8427e  -\n";
        assert_eq!(digest(Algorithm::Md5, md5, b"").unwrap().len(), 16);
        assert_eq!(
            digest(Algorithm::Md5, md5, b"sh: cannot open /x: No such file\n").unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(digest(Algorithm::Sha1, md5, b"").unwrap_err().kind(), ErrorKind::PeerMisbehaved);
        assert!(digest(Algorithm::Md5, b"", b"").is_err());
    }

    #[test]
    fn times_are_stamps_of_touch() {
        let at = |s: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(s);
        assert_eq!(stamp(at(1_795_295_120)).unwrap(), "202611212105.20");
        assert_eq!(
            stamp(std::time::UNIX_EPOCH - std::time::Duration::from_secs(1)).unwrap(),
            "196912312359.59"
        );
        assert!(stamp(at(300_000_000_000)).is_err());
    }
}
