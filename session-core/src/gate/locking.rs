//! Locks through the gate: asked for, prolonged and given back as any other operation.
//!
//! Enforcement is [`Locks`]'s, in the chain. A site without a table of locks answers `Unsupported`.

use std::sync::Arc;
use std::time::Duration;

use super::{Inner, SessionFs, nothing};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Filesystem, Follow};
use crate::locks::{Lock, LockRequest, Locks};
use crate::operation::{self as op, OperationKind};
use crate::path::VPath;

impl SessionFs {
    /// The same, with locks kept by `locks`; the chain holds it too.
    pub fn locking(&self, locks: Arc<Locks>) -> SessionFs {
        self.with(Some(locks), Arc::clone(&self.0.tokens))
    }

    /// The same for one request that shows these tokens.
    pub fn holding(&self, tokens: Arc<[Arc<str>]>) -> SessionFs {
        self.with(self.0.locks.clone(), tokens)
    }

    fn with(&self, locks: Option<Arc<Locks>>, tokens: Arc<[Arc<str>]>) -> SessionFs {
        SessionFs(Arc::new(Inner {
            session: Arc::clone(&self.0.session),
            epoch: self.0.epoch,
            fs: Arc::clone(&self.0.fs),
            chain: Arc::clone(&self.0.chain),
            locks,
            tokens,
        }))
    }

    /// Locks what is at `path`, or the name where nothing is. Errors: `Locked`, `Throttled` beyond what an
    /// account may hold, `Unsupported`.
    pub async fn lock(&self, path: &VPath, request: &LockRequest) -> Result<Lock> {
        let record = op::Lock { path: path.clone(), deep: request.deep, exclusive: request.exclusive };
        let session = Arc::clone(self.session());
        let request = request.clone();
        self.on_lock(record, move |locks, path| locks.lock(&session, path, &request)).await
    }

    /// Gives the lock with this token, which covers `path`, `time` from now on. Errors: `PreconditionFailed`
    /// where there is no such lock of this account, `Unsupported`.
    pub async fn refresh_lock(&self, path: &VPath, token: &str, time: Option<Duration>) -> Result<Lock> {
        let record = op::Lock { path: path.clone(), deep: false, exclusive: false };
        let token: Arc<str> = token.into();
        self.on_lock(record, move |locks, path| locks.refresh(path, &token, time)).await
    }

    async fn on_lock(
        &self,
        record: op::Lock,
        act: impl Fn(&Locks, &VPath) -> Result<Lock> + Send + Sync + 'static,
    ) -> Result<Lock> {
        let (kept, act) = (self.0.locks.clone(), Arc::new(act));
        self.pass(
            record,
            move |fs, r| {
                let (kept, act) = (kept.clone(), Arc::clone(&act));
                Box::pin(async move {
                    let locks = kept.ok_or_else(|| Error::unsupported(OperationKind::Lock))?;
                    resolve(fs, &r.path).await?;
                    act(&locks, &r.path)
                })
            },
            nothing,
        )
        .await
    }

    /// Gives back the lock with this token. Errors: as those of [`SessionFs::refresh_lock`].
    pub async fn unlock(&self, path: &VPath, token: &str) -> Result<()> {
        let (kept, token) = (self.0.locks.clone(), Arc::<str>::from(token));
        self.pass(
            op::Unlock { path: path.clone() },
            move |fs, r| {
                let (kept, token) = (kept.clone(), Arc::clone(&token));
                Box::pin(async move {
                    let locks = kept.ok_or_else(|| Error::unsupported(OperationKind::Unlock))?;
                    resolve(fs, &r.path).await?;
                    locks.unlock(&r.path, &token)
                })
            },
            nothing,
        )
        .await
    }

    /// The locks that cover `path`. No operation: nobody is asked.
    pub fn locks_at(&self, path: &VPath) -> Vec<Lock> {
        self.0.locks.as_ref().map(|l| l.table().covering(path)).unwrap_or_default()
    }

    /// The locks that were made for something below `path`, in the order of their paths. No operation.
    pub fn locks_below(&self, path: &VPath) -> Vec<Lock> {
        self.0.locks.as_ref().map(|l| l.table().below(path)).unwrap_or_default()
    }

    /// The locks that keep this client, by the tokens that it has shown, from moving or removing `path` with all that
    /// is below it, in the order of their paths. No operation.
    pub fn locks_against(&self, path: &VPath) -> Vec<Lock> {
        self.0.locks.as_ref().map(|l| l.against(&self.0.tokens, path)).unwrap_or_default()
    }
}

/// A link on the way is the gate's to follow; nothing there is fine.
async fn resolve(fs: &dyn Filesystem, path: &VPath) -> Result<()> {
    match fs.stat(path, Follow::Yes).await {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
