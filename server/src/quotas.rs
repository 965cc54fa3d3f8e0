//! The book of quotas of a server, through its restarts.
//!
//! What was counted is written when the server ends in good order, and taken (and removed) when it starts; after
//! any other end every store is counted anew when somebody first comes to it.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::error::{Error, Result};
use session_core::layers::quota::{Book, Metered, Usage};

/// See the module.
#[derive(Default)]
pub struct Quotas {
    /// The counts of this run.
    pub book: Arc<Book>,
    saved: Mutex<HashMap<String, Usage>>,
}

impl Quotas {
    fn saved(&self) -> MutexGuard<'_, HashMap<String, Usage>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a former run left in `file`. Blocks. A file that is not understood is as good as none.
    /// Errors: one that cannot be removed, because it would be believed once too often.
    pub fn take(&self, file: &Path) -> Result<()> {
        let Ok(text) = std::fs::read(file) else { return Ok(()) };
        std::fs::remove_file(file)?;
        match serde_json::from_slice(&text) {
            Ok(saved) => *self.saved() = saved,
            Err(e) => tracing::warn!(file = %file.display(), "counts of quotas are not understood: {e}"),
        }
        Ok(())
    }

    /// What a former run counted at a place, once.
    pub fn known(&self, place: &str) -> Option<Usage> {
        self.saved().remove(place)
    }

    /// Writes what was counted, and what nobody came to. To be called when nothing changes any more. Blocks.
    pub fn save(&self, file: &Path, counted: &[Metered]) -> Result<()> {
        let mut all = self.saved().clone();
        all.extend(counted.iter().map(Metered::account).map(|a| (a.place().to_owned(), a.published())));
        if all.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_vec(&all).map_err(|e| Error::from(std::io::Error::other(e)))?;
        let new: PathBuf = file.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        out.write_all(&text)?;
        out.sync_all()?;
        Ok(std::fs::rename(&new, file)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::layers::quota::Limits;
    use session_core::store::memory::MemoryStore;

    #[tokio::test]
    async fn what_was_counted_is_believed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("quotas.json");
        let text = r#"{"folder a": {"bytes": 5, "files": 1}, "folder b": {"bytes": 7, "files": 2}}"#;
        std::fs::write(&file, text).unwrap();
        let first = Quotas::default();
        first.take(&file).unwrap();
        assert!(!file.exists());
        assert_eq!(first.known("folder a"), Some(Usage { bytes: 5, files: 1 }));
        assert_eq!(first.known("folder a"), None);
        let account = first.book.account("folder a", "user u", Limits::default(), &[]);
        // Bounded, and open without being counted.
        first.book.account("folder c", "user u", Limits::default(), &[]);
        let counted = Metered::new(Arc::new(MemoryStore::new()), account).await.unwrap();
        counted.restore(Usage { bytes: 9, files: 3 });
        first.save(&file, &[counted]).unwrap();
        let second = Quotas::default();
        second.take(&file).unwrap();
        // What nobody came to is handed on, what somebody did is what it is now.
        assert_eq!(second.known("folder b"), Some(Usage { bytes: 7, files: 2 }));
        assert_eq!(second.known("folder a"), Some(Usage { bytes: 9, files: 3 }));
        assert_eq!(second.known("folder c"), None);
        std::fs::write(&file, "not json").unwrap();
        Quotas::default().take(&file).unwrap();
        assert!(!file.exists());
    }
}
