//! Keeps both files of a conflict: the target's steps aside under a name of its own, which the source gets, too.
//!
//! A run that died on the way is gone on with where what it left is just that: the file under its new name, nothing
//! or the copy under the old one.

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::path::VPath;

use super::Side;
use super::apply::{Runner, look, metadata};
use super::base::kept_name;
use super::decide::Facts;
use super::difference::Difference;

/// The most files of one name that are kept.
const MOST: u32 = 1000;

impl Runner {
    /// Copies the source's file, whose facts are `facts`, and keeps the target's; gives the bytes that crossed.
    /// `again`: it was begun before this run.
    pub(super) async fn copy_beside(
        &self,
        d: &Difference,
        target: Side,
        facts: &Facts,
        again: bool,
    ) -> Result<u64> {
        let source = target.other();
        let (from, to) = (d.place(source, &self.sides)?, d.place(target, &self.sides)?);
        let copied = again && self.was_copied(d, target, facts).await?;
        let aside = copied || (again && look(self.sides.get(target), &to).await?.is_none());
        if !aside {
            self.unchanged(d, target).await?;
        }
        let fs = &self.sides.get(target).fs;
        let Some((here, there)) = self.names(d, (&from, &to), target, aside).await? else {
            // Somebody took away what had stepped aside.
            self.unchanged(d, target).await?;
            return Err(
                Error::new(ErrorKind::AlreadyExists).with_detail("too many conflicts of one name are kept")
            );
        };
        if !aside {
            fs.rename(&to, &here, Replace::No).await?;
        }
        let mut bytes = 0;
        if !copied {
            bytes = match self.batch(target).copy_one(&from, &to, &metadata(facts), false).await {
                Ok(receipt) => receipt.sent,
                Err(e) => {
                    // Where this fails, it stays under its new name, and the first failure is told.
                    let _ = fs.rename(&here, &to, Replace::No).await;
                    return Err(e);
                }
            };
        }
        let kept = fs.stat(&here, Follow::Yes).await?;
        let old = Facts::of(&kept);
        let text = self.is_text(source, &here, &there, &old);
        if aside
            && let Some(now) = look(self.sides.get(source), &there).await?
            && self.is_copy(&old, &now, source, text)
        {
            return Ok(bytes);
        }
        self.batch(source).announce([kept.size]);
        Ok(bytes + self.batch(source).copy_one(&here, &there, &kept, false).await?.sent)
    }

    /// The name for what is kept, on the target and on the source: one that is free on both, or where it stepped
    /// `aside` before, the one that it has.
    async fn names(
        &self,
        d: &Difference,
        (from, to): (&VPath, &VPath),
        target: Side,
        aside: bool,
    ) -> Result<Option<(VPath, VPath)>> {
        let (root, other) = (self.sides.get(target), self.sides.get(target.other()));
        let parents = (from.parent().unwrap_or_else(VPath::root), to.parent().unwrap_or_else(VPath::root));
        let step = root.fs.capabilities().mtime_granularity;
        for number in 1..MOST {
            let name = kept_name(to.name(), target, number);
            let (here, there) = (parents.1.join(&name)?, parents.0.join(&name)?);
            let found = match aside {
                true => {
                    let now = look(root, &here).await?;
                    d.facts(target).zip(now).is_some_and(|(then, now)| then.still(&now, step))
                }
                false => !root.fs.exists(&here).await? && !other.fs.exists(&there).await?,
            };
            if found {
                return Ok(Some((here, there)));
            }
        }
        Ok(None)
    }
}
