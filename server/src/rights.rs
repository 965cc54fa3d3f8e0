//! What handlers are told of a user: `User.GetPermissions` and `User.GetQuota`.
//!
//! Permissions are those of the rules that the session was guarded with; the quota is read from the book when it is
//! asked for. Not here: name filters, transfer quotas.

use std::sync::Arc;

use session_core::layers::quota::Book;
use session_core::path::VPath;
use session_core::policy::Permissions;
use session_core::session::{Quota, Rights};

use crate::config::{self, Config, User};
use crate::stores::bounds_home;

/// Of one user.
pub(crate) struct UserRights {
    permissions: Permissions,
    read_only: bool,
    book: Arc<Book>,
    by: String,
}

impl UserRights {
    pub(crate) fn of(config: &Config, user: &User, book: &Arc<Book>) -> Arc<Self> {
        Arc::new(UserRights {
            permissions: Permissions::new(config::rules(user)),
            read_only: user.read_only,
            book: Arc::clone(book),
            by: bounds_home(config, user),
        })
    }
}

impl Rights for UserRights {
    fn permissions(&self, path: &VPath) -> Vec<&'static str> {
        let here = self.permissions.at(path);
        let here = if self.read_only { here.intersection(config::reading()) } else { here };
        here.iter().map(|p| p.name()).collect()
    }

    fn quota(&self) -> Option<Quota> {
        let (used, limits) = self.book.bound_by(&self.by)?;
        let (most_bytes, most_files) = (limits.bytes, limits.files);
        Some(Quota { bytes: used.bytes, files: used.files, most_bytes, most_files })
    }
}
