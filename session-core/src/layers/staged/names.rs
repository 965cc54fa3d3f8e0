//! Operations that change names, with staged entries beside what is published.
//!
//! An operation on a file concerns the caller's own entries and what is published; other owners' entries
//! stay where they are. One on a directory concerns everybody's entries below it.

use std::sync::Arc;

use super::Staged;
use super::finish::finish;
use super::table::Fate;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::path::VPath;

impl Staged {
    /// Marks the owner's entries at `path` as removed.
    fn doom_own(&self, path: &VPath) {
        {
            let mut table = self.area.table();
            for serial in table.own(&self.owner, path) {
                table.doom(serial, Fate::Removed);
            }
        }
        self.area.kick();
    }

    fn has_own(&self, path: &VPath) -> bool {
        !self.area.table().own(&self.owner, path).is_empty()
    }

    fn anything_below(&self, dir: &VPath) -> bool {
        !self.area.table().below(dir).is_empty()
    }

    pub(super) async fn remove_staged_file(&self, path: &VPath) -> Result<()> {
        if !self.has_own(path) {
            return self.store().remove_file(path).await;
        }
        let hold = self.area.hold(vec![path.clone()]).await;
        let (this, path) = (self.clone(), path.clone());
        finish(async move {
            let _hold = hold;
            let seen = this.view(&path).is_some();
            match this.store().remove_file(&path).await {
                Err(e) if !(seen && e.kind() == ErrorKind::NotFound) => return Err(e),
                _ => {}
            }
            this.doom_own(&path);
            Ok(())
        })
        .await
    }

    pub(super) async fn remove_unstaged_dir(&self, path: &VPath) -> Result<()> {
        if self.view(path).is_some() {
            return Err(Error::new(ErrorKind::NotADirectory));
        }
        // Held, so that no upload begins in a directory that is going away.
        let _hold = self.area.hold(vec![path.clone()]).await;
        if self.anything_below(path) {
            return Err(
                Error::new(ErrorKind::NotEmpty).with_detail("an unfinished upload lies in the directory")
            );
        }
        self.store().remove_dir(path).await
    }

    pub(super) async fn rename_staged(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let hold = self.area.hold(vec![from.clone(), to.clone()]).await;
        if from == to {
            return match self.view(from) {
                Some(_) => Ok(()),
                None => self.store().rename(from, to, replace).await,
            };
        }
        let (this, from, to) = (self.clone(), from.clone(), to.clone());
        finish(async move {
            let _hold = hold;
            this.rename_held(&from, &to, replace).await
        })
        .await
    }

    async fn rename_held(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        if self.view(to).is_some() && replace == Replace::No {
            return Err(Error::new(ErrorKind::AlreadyExists));
        }
        if self.anything_below(to) && !to.starts_with(from) {
            return Err(Error::new(ErrorKind::NotEmpty)
                .with_detail("an unfinished upload lies in the directory that would be replaced"));
        }
        let staged = self.view(from).is_some();
        let mut moved = true;
        if staged {
            match self.store().stat(from, Follow::No).await {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => moved = false,
                Err(e) => return Err(e),
            }
        }
        let mut replaces = true;
        if moved {
            self.store().rename(from, to, replace).await?;
        } else {
            replaces = self.may_be_published(to, replace).await?;
        }
        {
            let mut table = self.area.table();
            for serial in table.own(&self.owner, to) {
                table.doom(serial, Fate::Removed);
            }
            for serial in table.own(&self.owner, from) {
                table.retarget(serial, to.clone());
                if let Some(slot) = table.get_mut(serial) {
                    slot.overwrites = replaces;
                    slot.exclusive &= !replaces;
                    // The condition was on what stood at the old name.
                    slot.if_match = None;
                }
            }
            for serial in table.below(from) {
                let new = table.get(serial).and_then(|slot| slot.path.rebase(from, to));
                if let Some(new) = new {
                    table.retarget(serial, new);
                }
            }
        }
        self.area.kick();
        Ok(())
    }

    /// Whether an upload that is renamed to `to` would replace something there; fails if it may not.
    async fn may_be_published(&self, to: &VPath, replace: Replace) -> Result<bool> {
        match self.store().stat(to, Follow::No).await {
            Ok(there) if there.is_dir() => Err(Error::new(ErrorKind::IsADirectory)),
            Ok(_) if replace == Replace::No => Err(Error::new(ErrorKind::AlreadyExists)),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let parent = to.parent().unwrap_or_else(VPath::root);
                match self.store().stat(&parent, Follow::Yes).await? {
                    parent if parent.is_dir() => Ok(false),
                    _ => Err(Error::new(ErrorKind::NotADirectory)),
                }
            }
            Err(e) => Err(e),
        }
    }

    pub(super) async fn copy_published(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        if !self.store().capabilities().server_copy || (!self.has_own(from) && !self.has_own(to)) {
            return self.store().copy(from, to, replace).await;
        }
        self.finished(from)?;
        if replace == Replace::No {
            self.free(to)?;
            return self.store().copy(from, to, replace).await;
        }
        let hold = self.area.hold(vec![to.clone()]).await;
        let (this, from, to) = (self.clone(), from.clone(), to.clone());
        finish(async move {
            let _hold = hold;
            this.store().copy(&from, &to, replace).await?;
            // The owner sees the copy, not an upload that was given up before it.
            let area = Arc::clone(&this.area);
            {
                let mut table = area.table();
                for serial in table.own(&this.owner, &to) {
                    table.discard_parked(serial);
                }
            }
            area.kick();
            Ok(())
        })
        .await
    }
}
