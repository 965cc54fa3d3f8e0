//! Places that are had again after their connection was lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_core::error::{ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::path::VPath;

use crate::reconnect::{Connect, Reconnecting, SystemTimer};

/// A remote that opens connections as it needs them, with the login that it knows: all that is left is to see
/// whether it can.
struct Again {
    remote: Arc<dyn Filesystem>,
    home: VPath,
}

#[async_trait]
impl Connect for Again {
    async fn connect(&self) -> Result<Arc<dyn Filesystem>> {
        match self.remote.stat(&self.home, Follow::Yes).await {
            // Whatever it answers, it answers.
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Err(e),
            _ => Ok(Arc::clone(&self.remote)),
        }
    }
}

/// `remote`, which opens connections by itself, with patience for that; as it is where there is none.
pub(super) fn patient(remote: Arc<dyn Filesystem>, home: &VPath, patience: Duration) -> Arc<dyn Filesystem> {
    if patience.is_zero() {
        return remote;
    }
    let again = Arc::new(Again { remote: Arc::clone(&remote), home: home.clone() });
    lasting(remote, again, patience)
}

/// `fs`, opened anew by `again` whenever it is lost; as it is where there is no patience.
pub(super) fn lasting(
    fs: Arc<dyn Filesystem>,
    again: Arc<dyn Connect>,
    patience: Duration,
) -> Arc<dyn Filesystem> {
    if patience.is_zero() {
        return fs;
    }
    Arc::new(Reconnecting::new(fs, again, patience, Arc::new(SystemTimer)))
}
