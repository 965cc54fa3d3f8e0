//! A recycle bin: a directory where entries go under a name that says when, and from where they come back if what
//! they stepped aside for did not come.

use std::time::SystemTime;

use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;
use session_core::fs::{Filesystem, Replace};
use session_core::gate::SessionFs;
use session_core::path::VPath;

use super::part::is_lost;

/// Names that are tried before giving up.
const TRIES: u32 = 100;

/// Moves an entry into the bin as `name-yyyymmdd-hhnnss.ext`, and never over another.
pub(crate) async fn recycle(fs: &SessionFs, path: &VPath, bin: &VPath) -> Result<VPath> {
    let now = timestamp(SystemTime::now());
    let digits: String = now.chars().filter(char::is_ascii_digit).collect();
    let stamp = format!("{}-{}", digits.get(..8).unwrap_or_default(), digits.get(8..14).unwrap_or_default());
    let name = path.name();
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at_checked(dot).unwrap_or((name, b""));
    for n in 0..TRIES {
        let more = if n == 0 { String::new() } else { format!("-{n}") };
        let to = bin.join([stem, format!("-{stamp}{more}").as_bytes(), extension].concat())?;
        match fs.rename(path, &to, Replace::No).await {
            Ok(()) => return Ok(to),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::new(ErrorKind::AlreadyExists).with_detail("the recycle bin holds too many of that name"))
}

/// Puts back what stepped aside for a file that did not come. Where that fails, or the connection is lost, it stays in
/// the bin, and the first error is the one to tell.
pub(super) async fn put_back(fs: &SessionFs, recycled: &mut Option<VPath>, to: &VPath, e: &Error) {
    if is_lost(e) {
        return;
    }
    if let Some(from) = recycled.take() {
        let _ = fs.rename(&from, to, Replace::No).await;
    }
}
