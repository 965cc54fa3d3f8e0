//! Local paths of scripts that were written for Windows: a backslash sets parts apart, and a letter names a
//! drive, which is a directory here.
//!
//! A path with a drive that stands for nothing is an error that names the switch. A local name that holds a
//! backslash cannot be written in a script.

use std::path::{Path, PathBuf};

use session_core::error::{Error, ErrorKind, Result};

/// Which directories drives stand for.
#[derive(Clone, Debug, Default)]
pub struct Drives(Vec<(char, PathBuf)>);

impl Drives {
    /// No drive at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `D:=DIR`. Errors: `InvalidArgument` for what is not of that form, or a drive named twice.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let bad = |why: &str| {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is no drive: {why}"))
                .with_hint("write it as D:=/some/directory")
        };
        let (drive, dir) = text.split_once('=').ok_or_else(|| bad("there is no equals sign"))?;
        let mut letters = drive.strip_suffix(['\\', '/']).unwrap_or(drive).chars();
        let letter = match (letters.next(), letters.next(), letters.next()) {
            (Some(letter), Some(':') | None, None) if letter.is_ascii_alphabetic() => {
                letter.to_ascii_uppercase()
            }
            _ => return Err(bad("a drive is a letter")),
        };
        if dir.is_empty() {
            return Err(bad("there is no directory"));
        }
        if self.0.iter().any(|(known, _)| *known == letter) {
            return Err(bad("it was given before"));
        }
        self.0.push((letter, PathBuf::from(dir)));
        Ok(())
    }

    /// The path here of a path in a script, still relative where it was; a slash at its end stays. Errors:
    /// `InvalidArgument` for a drive that stands for nothing, for a path relative to a drive, for a share.
    pub fn path(&self, text: &str) -> Result<String> {
        let slashes = text.replace('\\', "/");
        if text.starts_with("\\\\") {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is a share of Windows, and those cannot be opened here"))
                .with_hint("mount it, and write where it is mounted"));
        }
        let mut chars = slashes.chars();
        let (Some(letter), Some(':')) = (chars.next(), chars.next()) else { return Ok(slashes) };
        if !letter.is_ascii_alphabetic() {
            return Ok(slashes);
        }
        let letter = letter.to_ascii_uppercase();
        let rest = chars.as_str();
        let Some((_, dir)) = self.0.iter().find(|(known, _)| *known == letter) else {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}': the drive {letter}: stands for no directory"))
                .with_hint(format!("say which: --drive {letter}:=DIR")));
        };
        if !rest.is_empty() && !rest.starts_with('/') {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!(
                    "'{text}' is relative to a drive's own directory, which there is not here"
                ))
                .with_hint(format!("write it from the root of the drive: {letter}:\\{rest}")));
        }
        let dir = dir.to_string_lossy();
        Ok(format!("{}{}", dir.trim_end_matches('/'), if rest.is_empty() { "/" } else { rest }))
    }

    /// The same, from this directory on where it is relative.
    pub fn from(&self, cwd: &Path, text: &str) -> Result<PathBuf> {
        let path = self.path(text)?;
        if path.starts_with('/') {
            return Ok(PathBuf::from(path));
        }
        let cwd = cwd.to_string_lossy();
        Ok(PathBuf::from(format!("{}/{path}", cwd.trim_end_matches('/'))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_stand_for_directories() {
        let mut drives = Drives::new();
        drives.add("D:=/data").unwrap();
        drives.add("c=/").unwrap();
        for (text, path) in [
            ("d:\\a\\b*.txt", "/data/a/b*.txt"),
            ("D:\\", "/data/"),
            ("D:", "/data/"),
            ("C:\\x\\", "/x/"),
            ("a\\b", "a/b"),
            ("\\a", "/a"),
            ("/a/b", "/a/b"),
            ("*.*", "*.*"),
            ("", ""),
        ] {
            assert_eq!(drives.path(text).unwrap(), path, "{text}");
        }
        let e = drives.path("e:\\x").unwrap_err();
        assert!(format!("{e:#}").contains("--drive E:=DIR"), "{e:#}");
        for bad in ["\\\\server\\share", "d:x"] {
            assert!(drives.path(bad).is_err(), "{bad}");
        }
        for bad in ["", "D", "D:", "1:=/x", "DD=/x", "X:=", "d:=/other"] {
            assert!(drives.clone().add(bad).is_err(), "{bad}");
        }
        let cwd = Path::new("/base/u");
        assert_eq!(drives.from(cwd, "x\\").unwrap().as_os_str(), "/base/u/x/");
        assert_eq!(drives.from(cwd, "D:\\x").unwrap(), Path::new("/data/x"));
    }
}
