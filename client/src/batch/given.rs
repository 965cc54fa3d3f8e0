//! What a file gets beside its content: time and permission bits, and what becomes of the one that it replaces.
//!
//! A time or permissions that a target refuses fail the file, unless the options say that this is none
//! (`ignore_attribute_errors`): then each is tried by itself, and the receipt says what was refused.

use session_core::batch::Given;
use session_core::error::{Error, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::gate::SessionFs;
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use super::bin::recycle;
use super::copy::{Copy, Existing};
use super::part::{Kept, is_lost};
use super::verify::is_local;

impl Copy<'_> {
    /// The permission bits that the target shall have.
    pub(super) fn mode(&self) -> Option<u32> {
        if !self.target.capabilities().set_mode || self.existing == Existing::Hidden {
            return None;
        }
        self.options
            .permissions
            .or_else(|| self.metadata.mode.filter(|_| self.options.preserve_modes).map(|m| m & 0o777))
    }

    /// Whether nobody may write the source.
    fn is_read_only(&self) -> bool {
        self.metadata.mode.is_some_and(|mode| mode & 0o222 == 0)
    }

    /// What is set on the file at its end. A file that replaces `old` under a temporary name keeps its
    /// permission bits where nothing else is said.
    pub(super) fn attributes(&self, old: Option<&Metadata>) -> Attributes {
        let capabilities = self.target.capabilities();
        let mut attributes = Attributes::none();
        // Who may not look at files may not change what they have; the upload does not fail for that.
        if self.existing == Existing::Hidden {
            return attributes;
        }
        if self.options.preserve_times && capabilities.set_times {
            attributes.modified = self.metadata.modified;
            attributes.accessed = self.metadata.accessed.or(self.metadata.modified);
        }
        if capabilities.set_mode {
            attributes.mode = match (self.options.permissions, self.mode()) {
                (Some(permissions), _) => Some(permissions & 0o7777),
                (None, Some(mode)) => Some(mode).filter(|m| m & 0o200 == 0),
                (None, None)
                    if self.options.preserve_read_only && is_local(self.target) && self.is_read_only() =>
                {
                    Some(0o444)
                }
                (None, None) => old.and_then(|m| m.mode),
            };
        }
        attributes
    }

    /// What the file in its place was given. Where refusals are no failures it is only now, and what was refused is
    /// said. Errors: a lost connection.
    pub(super) async fn given(&self, at: &VPath) -> Result<Given> {
        let wanted = self.attributes(None);
        let mut given =
            Given { modified: wanted.modified, mode: self.mode().or(wanted.mode), ..Given::default() };
        if !self.options.ignore_attribute_errors {
            return Ok(given);
        }
        if !wanted.is_empty() && self.refused(at, &wanted).await?.is_some() {
            let times = Attributes { mode: None, ..wanted.clone() };
            given.modified_error = self.refused(at, &times).await?;
            let mode = Attributes { mode: wanted.mode, ..Attributes::none() };
            given.mode_error = self.refused(at, &mode).await?;
        }
        Ok(given)
    }

    /// Why a target does not take these. Errors: a lost connection.
    async fn refused(&self, at: &VPath, attributes: &Attributes) -> Result<Option<Error>> {
        if attributes.is_empty() {
            return Ok(None);
        }
        match self.target.set_attributes(at, attributes, Follow::Yes).await {
            Err(e) if is_lost(&e) => Err(e),
            set => Ok(set.err()),
        }
    }

    /// Moves the file that is to be replaced into the bin, where there is one, and once only: what another attempt
    /// finds under the name is its own. Links are no files: what they lead to is written. Errors: those of the
    /// target, and then nothing was moved.
    pub(super) async fn recycle_old(&self, kept: &mut Kept) -> Result<()> {
        if let (Some(bin), None) = (self.bin, &kept.recycled)
            && self.old().await?.is_some_and(|old| old.is_file())
        {
            kept.recycled = Some(recycle(self.target, self.to, bin).await?);
        }
        Ok(())
    }
}

/// Gives a part the owner and the group of the file that it will replace. Who may not do so owns the file then.
pub(super) async fn keep_owner(target: &SessionFs, part: &VPath, old: Option<&Metadata>, new: &Metadata) {
    let Some(old) = old.filter(|old| (old.uid, old.gid) != (new.uid, new.gid)) else { return };
    let is_known = old.uid.is_some() && old.gid.is_some() && new.uid.is_some();
    if is_known && target.capabilities().set_owner {
        let owner = Attributes { uid: old.uid, gid: old.gid, ..Attributes::none() };
        let _ = target.set_attributes(part, &owner, Follow::No).await;
    }
}
