//! Directories behind symbolic links: which way led to a directory, and whether a link leads back on it.
//!
//! Few servers tell where a path really is, and most tell what a link holds. So a directory is known by what the links
//! on the way to it hold, one after the other, and a link is a loop where it leads to a directory that stands on the
//! way to the link itself (as `find -L` has it). Where other links stand in between the texts, a loop may be gone once
//! around before it is seen; no way has more than [`MOST`] links.
//!
//! Deliberately absent: remembering what was copied. A directory to which two links lead is copied twice.

use std::sync::Arc;

use session_core::error::Result;
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::metadata::Metadata;
use session_core::path::VPath;
use tokio::sync::mpsc::UnboundedSender;

use super::queue::{Finds, Look, Pair};
use super::run::{Batch, item};

/// Links on one way; as many as systems follow in one path.
const MOST: usize = 40;

/// The way to a directory, from the last link on it.
pub(super) struct Trail {
    /// Where that link is, as the walk sees it; at the beginning, what was named.
    from: VPath,
    /// Where it leads.
    real: VPath,
    above: Option<Arc<Trail>>,
    links: usize,
}

impl Trail {
    /// The beginning of a way. Errors: those of a link that cannot be read.
    pub(super) async fn begin(fs: &SessionFs, named: &VPath) -> Result<Arc<Trail>> {
        let real = resolve(fs, named.clone()).await?;
        Ok(Arc::new(Trail { from: named.clone(), real, above: None, links: 0 }))
    }

    /// Where `dir`, which this way leads to, is.
    fn place(&self, dir: &VPath) -> VPath {
        dir.rebase(&self.from, &self.real).unwrap_or_else(|| dir.clone())
    }

    /// Whether `place` is one of the directories on the way to `dir`.
    fn holds(&self, dir: &VPath, place: &VPath) -> bool {
        if place.starts_with(&self.real) && self.place(dir).starts_with(place) {
            return true;
        }
        match (&self.above, self.from.parent()) {
            (Some(above), Some(dir)) => above.holds(&dir, place),
            _ => false,
        }
    }

    /// The way through a link at `at`, which leads to a directory; `None` for a loop. Errors: those of reading links.
    pub(super) async fn through(self: &Arc<Self>, fs: &SessionFs, at: &VPath) -> Result<Option<Arc<Trail>>> {
        let dir = at.parent().unwrap_or_else(VPath::root);
        let real = held(&self.place(&dir), &fs.read_link(at).await?)?;
        let real = resolve(fs, real).await?;
        if self.links >= MOST || self.holds(&dir, &real) {
            return Ok(None);
        }
        let (above, links) = (Some(Arc::clone(self)), self.links + 1);
        Ok(Some(Arc::new(Trail { from: at.clone(), real, above, links })))
    }
}

/// What a link in `dir` that holds `text` leads to.
fn held(dir: &VPath, text: &[u8]) -> Result<VPath> {
    VPath::parse(dir, text)
}

/// Where a path leads if it is a link itself, and so on; the path where nobody knows.
async fn resolve(fs: &SessionFs, mut path: VPath) -> Result<VPath> {
    for _ in 0..MOST {
        let Ok(text) = fs.read_link(&path).await else { break };
        path = held(&path.parent().unwrap_or_else(VPath::root), &text)?;
    }
    Ok(path)
}

impl Batch {
    /// Has the directory looked into to which a link leads, unless it is on the way to the link.
    pub(super) async fn lead(
        &self,
        (from, to): (VPath, VPath),
        metadata: Metadata,
        within: &Arc<Pair>,
        tell: &UnboundedSender<Finds>,
    ) {
        let Some(trail) = &within.trail else { return };
        let trail = match trail.through(self.source(), &from).await {
            Ok(Some(trail)) => Some(trail),
            Ok(None) => {
                let why = "a symbolic link that leads back to a directory around it";
                return self.skip(item(&from, &to, 0), why);
            }
            Err(e) => return self.fail(Some(item(&from, &to, 0)), e),
        };
        let (root, within, metadata) = (within.root.clone(), Some(Arc::clone(within)), Some(metadata));
        let look = Look { from, to, root, within, metadata, trail };
        let _ = tell.send(Finds { looks: vec![look], ..Finds::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(path: &str) -> VPath {
        VPath::absolute(path).unwrap()
    }

    #[test]
    fn a_way_holds_the_directories_that_it_went_through() {
        let root = Arc::new(Trail { from: p("/t"), real: p("/real/t"), above: None, links: 0 });
        // /t/a/l leads to /other; what lies below it stands on a way of its own.
        let through =
            Trail { from: p("/t/a/l"), real: p("/other"), above: Some(Arc::clone(&root)), links: 1 };
        for (place, is_on_it) in [
            ("/other", true),
            ("/other/b", true),
            ("/other/b/c", true),
            ("/other/b/c/d", false),
            ("/other/x", false),
            ("/real/t", true),
            ("/real/t/a", true),
            ("/real/t/a/l", false),
            ("/real/t/z", false),
            ("/real", false),
            ("/t", false),
        ] {
            assert_eq!(through.holds(&p("/t/a/l/b/c"), &p(place)), is_on_it, "{place}");
        }
        assert_eq!(through.place(&p("/t/a/l/b")), p("/other/b"));
        assert_eq!(held(&p("/other/b"), b"../x").unwrap(), p("/other/x"));
    }
}
