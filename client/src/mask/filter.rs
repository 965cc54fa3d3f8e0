//! Filter files in the manner of `.gitignore`, for those who prefer them to masks (gitignore(5)).
//!
//! Patterns are relative to the root of the operation on either side; the last one that matches decides, `!`
//! takes back, a slash at the end is for directories, `**` spans directories. Case is told apart. What is
//! ignored takes no part, and a directory that is ignored is not entered.
//!
//! Not here: filter files found in the trees themselves, and git's own rules of the user or the system.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use session_core::batch::{Candidate, Selection};
use session_core::error::{Error, ErrorKind, Result};

use super::{Subject, below};

/// The largest filter file, in bytes.
const MAX_FILE: usize = 1 << 20;

/// A filter. Cheap to clone.
#[derive(Clone)]
pub struct Filter(Arc<Gitignore>);

impl Filter {
    /// Parses the lines of a filter file. Errors: `InvalidArgument` with the line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_FILE {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the filter file is too large"));
        }
        let mut builder = GitignoreBuilder::new("/");
        for (n, line) in text.lines().enumerate() {
            builder.add_line(None, line).map_err(|e| {
                Error::new(ErrorKind::InvalidArgument)
                    .with_detail(format!("line {} of the filter file is wrong: {e}", n + 1))
            })?;
        }
        let built = builder.build().map_err(|e| {
            Error::new(ErrorKind::InvalidArgument).with_detail(format!("the filter file is wrong: {e}"))
        })?;
        Ok(Filter(Arc::new(built)))
    }

    /// The filter as a batch takes it: its patterns begin at a directory that was named, and at that of a file.
    pub fn selection(self) -> Selection {
        Selection::new(move |c: &Candidate<'_>| {
            let is_named = c.path == c.root;
            if is_named && c.metadata.is_dir() {
                return true;
            }
            let root = if is_named { c.root.parent() } else { None };
            self.matches(&Subject::new(c.path, root.as_ref().unwrap_or(c.root), c.metadata))
        })
    }

    /// Whether an entry takes part. Directories above it are not looked at: what is ignored is not
    /// entered. What lies outside of the root is not judged.
    pub fn matches(&self, entry: &Subject<'_>) -> bool {
        let Some(parent) = below(entry.parent, entry.root) else { return true };
        let mut path = Vec::with_capacity(parent.len() + entry.name.len() + 1);
        path.extend_from_slice(parent);
        path.push(b'/');
        path.extend_from_slice(entry.name);
        !self.0.matched(Path::new(OsStr::from_bytes(&path)), entry.directory).is_ignore()
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({} patterns)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use session_core::path::VPath;

    use super::*;

    #[test]
    fn as_git_reads_it() {
        let text = "# a comment\n\n*.o\n!keep.o\n/top\nbuild/\ndoc/*.txt\n**/deep/**\n\\#literal\nsp\\ \n";
        let filter = Filter::parse(text).unwrap();
        let takes = |path: &str| {
            let root = VPath::absolute("/r").unwrap();
            let directory = path.ends_with('/');
            let at = VPath::absolute(format!("/r/{path}")).unwrap();
            let (parent, name) = crate::mask::split_last(at.as_bytes());
            filter.matches(&Subject { parent, name, root: &root, directory, size: None, modified: None })
        };
        for (path, wanted) in [
            ("a.o", false),
            ("x/a.o", false),
            ("keep.o", true),
            ("a.O", true),
            ("top", false),
            ("x/top", true),
            ("build/", false),
            ("x/build/", false),
            ("build", true),
            ("doc/a.txt", false),
            ("doc/x/a.txt", true),
            ("x/deep/y", false),
            ("#literal", false),
            ("sp ", false),
            ("\u{e4}", true),
        ] {
            assert_eq!(takes(path), wanted, "{path}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let e = Filter::parse("ok\n[z-a]\n").unwrap_err();
        assert!(e.to_string().contains("line 2 of the filter file"), "{e}");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
}
