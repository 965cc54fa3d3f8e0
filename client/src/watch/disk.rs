//! Changes on a disk of this machine, as the system tells of them (inotify and its kin, by `notify`).
//!
//! Nothing queues up: what is told is put into a bounded set of directories at once. Where the system lost
//! count, everything has changed. What masks leave out is not listened to, though it is watched. A directory
//! that came is surely watched before anybody looks into it, so that nothing falls between the two.
//!
//! Not here: what links lead to; disks of other machines, of whose changes by others no system tells.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;
use tokio::sync::Notify;

use super::dirty::Dirty;
use crate::mask::{FileMask, Filter, Subject};
use crate::sync::is_unfinished;

/// What takes part, by the names of directories.
pub(super) struct Chosen {
    pub(super) mask: FileMask,
    pub(super) filter: Option<Filter>,
    /// The root as masks see it.
    pub(super) root: VPath,
}

impl Chosen {
    /// Whether every directory above the entry at `path`, below the root, takes part.
    fn reaches(&self, path: &[u8]) -> bool {
        crate::sync::above(path).filter(|dir| !dir.is_empty()).all(|dir| {
            let Ok(at) = VPath::parse(&self.root, dir) else { return false };
            let parent = at.parent().unwrap_or_else(VPath::root);
            let subject = Subject {
                parent: parent.as_bytes(),
                name: at.name(),
                root: &self.root,
                directory: true,
                size: None,
                modified: None,
            };
            self.mask.matches(&subject) && self.filter.as_ref().is_none_or(|f| f.matches(&subject))
        })
    }
}

/// What was heard.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) dirty: Dirty,
    /// Entries that came, below the root: directories among them are to be watched. Each is dirty, too, so
    /// that they are bounded alike.
    came: BTreeSet<Box<[u8]>>,
    /// Changes were lost: everything has changed.
    pub(super) lost: bool,
    /// Why it cannot go on.
    pub(super) broken: Option<Error>,
}

struct Shared {
    heard: Mutex<Heard>,
    wake: Arc<Notify>,
    root: PathBuf,
    chosen: Chosen,
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, told: notify::Result<notify::Event>) {
        let event = match told {
            Ok(event) => event,
            Err(e) => {
                let mut heard = self.heard();
                match e.kind {
                    notify::ErrorKind::MaxFilesWatch => heard.broken = Some(wrong(&e)),
                    // Whatever it was, something may have been missed.
                    _ => heard.lose(),
                }
                drop(heard);
                return self.wake.notify_one();
            }
        };
        if event.need_rescan() {
            self.heard().lose();
            return self.wake.notify_one();
        }
        let comes = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            // Reading changes nothing; we read ourselves.
            EventKind::Access(_) => return,
            EventKind::Create(kind) => kind != CreateKind::File,
            EventKind::Modify(ModifyKind::Name(mode)) => mode != RenameMode::From,
            _ => false,
        };
        let goes = matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::From)))
            || matches!(
                event.kind,
                EventKind::Remove(RemoveKind::Any | RemoveKind::Folder | RemoveKind::Other)
            );
        let mut heard = self.heard();
        let mut any = false;
        for path in &event.paths {
            let Ok(path) = path.strip_prefix(&self.root) else { continue };
            let path = path.as_os_str().as_bytes();
            if path.is_empty() {
                if goes {
                    heard.broken = Some(
                        Error::new(ErrorKind::NotFound)
                            .with_detail(format!("'{}', which was watched, is gone", self.root.display())),
                    );
                    any = true;
                }
                continue;
            }
            let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            if is_unfinished(name) || !self.chosen.reaches(path) {
                continue;
            }
            any = true;
            if comes {
                heard.came(path);
            } else {
                heard.dirty.changed(path);
            }
        }
        drop(heard);
        if any {
            self.wake.notify_one();
        }
    }
}

impl Heard {
    fn lose(&mut self) {
        self.lost = true;
        self.came.clear();
        self.dirty.everything();
    }

    fn came(&mut self, path: &[u8]) {
        self.dirty.came(path);
        // Where everything is looked at, everything is watched anew.
        if self.dirty.is_all() {
            self.came.clear()
        } else {
            {
                self.came.insert(path.into());
            }
        }
    }
}

fn wrong(e: &notify::Error) -> Error {
    match &e.kind {
        notify::ErrorKind::Io(io) => {
            let words = e.to_string();
            Error::from(std::io::Error::from(io.kind())).with_detail(words)
        }
        notify::ErrorKind::PathNotFound => Error::new(ErrorKind::NotFound).with_detail(e.to_string()),
        notify::ErrorKind::MaxFilesWatch => Error::new(ErrorKind::QuotaExceeded)
            .with_detail("the system watches no more directories for this user")
            .with_hint("raise fs.inotify.max_user_watches, or compare now and then with --poll alone"),
        _ => Error::new(ErrorKind::Internal).with_detail(e.to_string()),
    }
}

/// A directory of this machine, listened to with all below it.
pub(super) struct Disk {
    shared: Arc<Shared>,
    watcher: Arc<Mutex<RecommendedWatcher>>,
}

impl Disk {
    /// Listens; `wake` is notified of each change. Errors: `NotFound`, those of the system.
    pub(super) async fn listen(root: &Path, chosen: Chosen, wake: Arc<Notify>) -> Result<Self> {
        // The system tells of paths as they are and not as they were named.
        let root = root.to_owned();
        blocking(move || {
            let root = root.canonicalize()?;
            let shared = Arc::new(Shared { heard: Mutex::default(), wake, root: root.clone(), chosen });
            let hears = Arc::clone(&shared);
            let config = Config::default().with_follow_symlinks(false);
            let watcher = RecommendedWatcher::new(move |told| hears.hear(told), config);
            let mut watcher = watcher.map_err(|e| wrong(&e))?;
            watcher.watch(&root, RecursiveMode::Recursive).map_err(|e| wrong(&e))?;
            Ok(Disk { shared, watcher: Arc::new(Mutex::new(watcher)) })
        })
        .await
    }

    /// Whether something was heard since the last [`take`](Self::take).
    pub(super) fn has_heard(&self) -> bool {
        let heard = self.shared.heard();
        !heard.dirty.is_empty() || heard.broken.is_some()
    }

    /// What was heard since the last time. Directories that came are watched when this returns. Errors: what
    /// broke it.
    pub(super) async fn take(&self) -> Result<Heard> {
        let mut heard = std::mem::take(&mut *self.shared.heard());
        if let Some(e) = heard.broken.take() {
            return Err(e);
        }
        let (watcher, root) = (Arc::clone(&self.watcher), self.shared.root.clone());
        let mut came = std::mem::take(&mut heard.came);
        if heard.dirty.is_all() {
            came = BTreeSet::from([Box::default()]);
        }
        if came.is_empty() {
            return Ok(heard);
        }
        blocking(move || {
            let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
            let mut last: Option<Box<[u8]>> = None;
            for path in came {
                if last.as_deref().is_some_and(|last| crate::sync::above(&path).any(|dir| dir == last)) {
                    continue;
                }
                let at = root.join(OsStr::from_bytes(&path));
                if !std::fs::symlink_metadata(&at).is_ok_and(|m| m.is_dir()) {
                    continue;
                }
                match watcher.watch(&at, RecursiveMode::Recursive) {
                    // It went while it was looked at: of that we hear.
                    Err(e) if matches!(e.kind, notify::ErrorKind::PathNotFound) && !path.is_empty() => {}
                    watched => watched.map_err(|e| wrong(&e))?,
                }
                last = Some(path);
            }
            Ok(())
        })
        .await?;
        Ok(heard)
    }

    #[cfg(test)]
    pub(super) fn overflow(&self) {
        let lost = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        self.shared.hear(Ok(lost));
    }
}

async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(|_| ErrorKind::Internal)?
}
