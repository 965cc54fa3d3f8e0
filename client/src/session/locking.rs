//! Locks of WebDAV: asked for, held while the session is open, given back. Elsewhere all of it is `Unsupported`.
//!
//! Dropped, the server may have done what was asked; a lock whose token nobody got ends with its time.
//! Handlers are not asked: nothing of this changes a file. WinSCP locks in its windows only, not in its class.

use std::sync::Arc;
use std::time::Duration;

use proto_webdav::client::WebdavRemote;
use session_core::error::Result;
use session_core::locks::{Lock, LockRequest};
use session_core::path::VPath;

use super::core::Session;

impl Session {
    /// Locks a file, or a directory with all below it (`deep`), against changes by others. The lock is kept
    /// alive, and shown with whatever this session changes there, until it is given back or the session is
    /// closed. Dropped, there may be a lock whose token nobody has: it ends with its time. Errors: `Locked`,
    /// `NotFound`, `PermissionDenied`, `Unsupported`.
    pub async fn lock(&self, path: impl AsRef<[u8]>, request: &LockRequest) -> Result<Lock> {
        self.over_webdav(path, |remote, path| async move { remote.lock(&path, request).await }).await
    }

    /// Lets a lock last `time` from now on, also one of another session of the same user. Dropped, it lasts that
    /// long or as long as before. Errors: `PreconditionFailed` for one that is not there.
    pub async fn refresh_lock(
        &self,
        path: impl AsRef<[u8]>,
        token: &str,
        time: Option<Duration>,
    ) -> Result<Lock> {
        self.over_webdav(path, |remote, path| async move { remote.refresh_lock(&path, token, time).await })
            .await
    }

    /// Gives a lock back, also one of another session of the same user. Dropped, it is given back or not. Errors:
    /// `PreconditionFailed` for one that is not there.
    pub async fn unlock(&self, path: impl AsRef<[u8]>, token: &str) -> Result<()> {
        self.over_webdav(path, |remote, path| async move { remote.unlock(&path, token).await }).await
    }

    async fn over_webdav<T, F>(
        &self,
        path: impl AsRef<[u8]>,
        work: impl FnOnce(Arc<WebdavRemote>, VPath) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.beside(path.as_ref(), |open| open.webdav.clone(), "locks are WebDAV's", work).await
    }
}
