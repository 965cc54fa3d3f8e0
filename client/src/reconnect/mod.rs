//! `Reconnecting`: a remote that is connected to again when the connection was lost.
//!
//! A layer below the gate. A call that finds the connection lost has it replaced, one attempt for all who
//! wait, within a budget of time per call ([`Patience`]), and is made again where that is safe:
//! - what only looks (stat, list, read, digests, space), and what leads to the same end when done twice
//!   (attributes, opening to write anew);
//! - what removes, makes a directory or renames, where what is found afterwards may be its own effect, which
//!   then counts as done;
//! - never a copy, a link, an exclusive creation or an append: they fail, and say so.
//!
//! A file of some size that is read goes on at its offset if it is still the same file. One that is
//! written cannot: what was on its way is lost with the connection. Its calls fail with
//! [`Retry::Later`] and no wait, which tells the engine to continue it. A listing that broke starts over and leaves out
//! what it gave already. Time, pauses and chance come from outside ([`Timer`]).

mod file;
mod listing;
mod patience;
mod remember;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::fs::{
    Algorithm, File, Filesystem, Follow, ListOptions, Listing, OpenOptions, Replace, Space,
};
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use self::file::{ReadFile, WriteFile};
use self::listing::Resumed;
pub use self::patience::Patience;
pub use self::remember::Remembering;

/// How to get a filesystem, the first time and again.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Connects and logs in; what was connected before is of no more use. Errors: a lost or refused
    /// connection is tried again, everything else is final.
    async fn connect(&self) -> Result<Arc<dyn Filesystem>>;
}

/// Time and chance.
#[async_trait]
pub trait Timer: Send + Sync {
    /// Now.
    fn now(&self) -> Instant;
    /// Waits.
    async fn sleep(&self, pause: Duration);
    /// A number between 0 and 1.
    fn chance(&self) -> f64;
}

/// The time of this machine.
#[derive(Debug, Default)]
pub struct SystemTimer;

#[async_trait]
impl Timer for SystemTimer {
    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    fn chance(&self) -> f64 {
        // A hasher of the standard library is seeded at random.
        use std::hash::{BuildHasher, RandomState};
        let bits = RandomState::new().hash_one(0u8) >> 11;
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let chance = bits as f64 / (1u64 << 53) as f64;
        chance
    }
}

/// A connection, with its number.
#[derive(Clone)]
struct Line {
    number: u64,
    fs: Arc<dyn Filesystem>,
}

struct Shared {
    connect: Arc<dyn Connect>,
    timer: Arc<dyn Timer>,
    budget: Duration,
    line: Mutex<Line>,
    /// Held by who connects.
    connecting: tokio::sync::Mutex<()>,
    /// Bytes that moved, for patience.
    moved: AtomicU64,
    /// Connections that were lost.
    breaks: AtomicU64,
}

/// See the module. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Reconnecting(Arc<Shared>);

/// Whether the connection is lost.
fn is_lost(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut)
}

/// A final failure: nothing above tries again.
fn given_up(e: Error) -> Error {
    e.with_retry(Retry::Never)
}

/// Lost, but only for now: whoever can do it again may.
fn try_again(e: Error) -> Error {
    e.with_retry(Retry::Later(Some(Duration::ZERO)))
}

impl Reconnecting {
    /// Takes over the connection `first`, which `connect` made.
    pub fn new(
        first: Arc<dyn Filesystem>,
        connect: Arc<dyn Connect>,
        budget: Duration,
        timer: Arc<dyn Timer>,
    ) -> Self {
        Reconnecting(Arc::new(Shared {
            connect,
            timer,
            budget,
            line: Mutex::new(Line { number: 0, fs: first }),
            connecting: tokio::sync::Mutex::default(),
            moved: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
        }))
    }

    /// How often the connection was replaced.
    pub fn breaks(&self) -> u64 {
        self.0.breaks.load(Ordering::Relaxed)
    }

    /// One call, made again as long as the connection is lost and there is patience. `call` is told whether
    /// it was begun before.
    async fn again<T, W>(&self, call: impl Fn(Arc<dyn Filesystem>, bool) -> W) -> Result<T>
    where
        W: Future<Output = Result<T>>,
    {
        let mut patience = Patience::new(self.0.budget);
        let mut begun = false;
        loop {
            let line = self.0.line();
            let e = match call(Arc::clone(&line.fs), begun).await {
                Err(e) if is_lost(&e) => e,
                done => return done,
            };
            begun = true;
            self.0.replace(line.number, e, &mut patience).await?;
        }
    }

    /// One call that is not made again once it was begun.
    async fn once<T, W>(&self, call: impl FnOnce(Arc<dyn Filesystem>) -> W) -> Result<T>
    where
        W: Future<Output = Result<T>>,
    {
        match call(self.0.line().fs).await {
            Err(e) if is_lost(&e) => Err(given_up(
                e.with_hint("it is not known whether it was done: look before it is done again"),
            )),
            done => done,
        }
    }
}

impl Shared {
    fn guard(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> Line {
        self.guard().clone()
    }

    fn advanced(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Replaces the connection `number`, which `e` says is lost; at once if somebody did it already.
    /// Errors: what ended the last attempt, when the budget is used up or connecting fails for good.
    async fn replace(&self, number: u64, e: Error, patience: &mut Patience) -> Result<()> {
        patience.begins(self.timer.now(), self.moved.load(Ordering::Relaxed));
        let _turn = self.connecting.lock().await;
        let mut last = e;
        loop {
            if self.line().number != number {
                return Ok(());
            }
            let moved = self.moved.load(Ordering::Relaxed);
            let Some(pause) = patience.lost(self.timer.now(), moved, self.timer.chance()) else {
                return Err(given_up(last));
            };
            self.timer.sleep(pause).await;
            match self.connect.connect().await {
                Ok(fs) => {
                    *self.guard() = Line { number: number + 1, fs };
                    self.breaks.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(e) if may_pass(&e) => last = e,
                Err(e) => return Err(given_up(e)),
            }
        }
    }
}

/// Whether connecting, which went well before, may go well again: the network or its names are away, or
/// the server still counts the connection that was lost.
fn may_pass(e: &Error) -> bool {
    is_lost(e) || matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Refused | ErrorKind::Throttled)
}

/// What is found done after a call was begun is taken for its own effect.
async fn unless_done<T: Send>(
    begun: bool,
    kind: ErrorKind,
    result: Result<T>,
    done: impl Future<Output = Option<T>> + Send,
) -> Result<T> {
    match result {
        Err(e) if begun && e.kind() == kind => done.await.ok_or(e),
        result => result,
    }
}

#[async_trait]
impl Filesystem for Reconnecting {
    fn capabilities(&self) -> Capabilities {
        self.0.line().fs.capabilities()
    }

    async fn stat(&self, path: &VPath, follow: Follow) -> Result<Metadata> {
        self.again(|fs, _| async move { fs.stat(path, follow).await }).await
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        Ok(Box::new(Resumed::open(self.clone(), dir.clone(), options.clone()).await?))
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        if !options.write {
            return Ok(Arc::new(ReadFile::open(self.clone(), path.clone(), options.clone()).await?));
        }
        let file = if options.exclusive || options.append {
            self.once(|fs| async move { fs.open(path, options).await }).await?
        } else {
            self.again(|fs, _| async move { fs.open(path, options).await }).await?
        };
        Ok(Arc::new(WriteFile::new(self.clone(), file)))
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        self.again(|fs, begun| async move {
            let made = fs.create_dir(path, attributes).await;
            unless_done(begun, ErrorKind::AlreadyExists, made, async {
                fs.stat(path, Follow::No).await.ok().filter(Metadata::is_dir).map(|_| ())
            })
            .await
        })
        .await
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        self.again(|fs, begun| async move {
            unless_done(begun, ErrorKind::NotFound, fs.remove_file(path).await, async { Some(()) }).await
        })
        .await
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        self.again(|fs, begun| async move {
            unless_done(begun, ErrorKind::NotFound, fs.remove_dir(path).await, async { Some(()) }).await
        })
        .await
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.again(|fs, begun| {
            async move {
                if begun && from != to {
                    // Done already: the old name is gone and the new one is there.
                    let gone =
                        fs.stat(from, Follow::No).await.is_err_and(|e| e.kind() == ErrorKind::NotFound);
                    if gone {
                        return fs.stat(to, Follow::No).await.map(|_| ());
                    }
                }
                fs.rename(from, to, replace).await
            }
        })
        .await
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, follow: Follow) -> Result<()> {
        self.again(|fs, _| async move { fs.set_attributes(path, attributes, follow).await }).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        self.once(|fs| async move { fs.copy(from, to, replace).await }).await
    }

    async fn symlink(&self, target: &[u8], at: &VPath) -> Result<()> {
        self.once(|fs| async move { fs.symlink(target, at).await }).await
    }

    async fn hard_link(&self, from: &VPath, to: &VPath) -> Result<()> {
        self.once(|fs| async move { fs.hard_link(from, to).await }).await
    }

    async fn read_link(&self, path: &VPath) -> Result<Bytes> {
        self.again(|fs, _| async move { fs.read_link(path).await }).await
    }

    async fn canonicalize(&self, path: &VPath) -> Result<VPath> {
        self.again(|fs, _| async move { fs.canonicalize(path).await }).await
    }

    async fn space(&self, path: &VPath) -> Result<Space> {
        self.again(|fs, _| async move { fs.space(path).await }).await
    }

    async fn checksum(
        &self,
        path: &VPath,
        algorithm: Algorithm,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes> {
        self.again(|fs, _| {
            let range = range.clone();
            async move { fs.checksum(path, algorithm, range).await }
        })
        .await
    }
}
