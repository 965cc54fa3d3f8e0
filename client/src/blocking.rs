//! The [`session`](crate::session) for programs without a runtime: the same members, each waited for.
//!
//! A session owns two threads, shared by its clones and by what it gives out; they go with the last of them. Calls
//! may run at once from any number of threads, and [`Session::abort`] ends them from any other one. There is no second
//! logic: a call is the call of the same name over there, whose page says what it promises.
//!
//! Inside a runtime a call works, too, but blocks the thread it is on, so that other tasks of that thread stand
//! still: use `spawn_blocking`, or the asynchronous session. It never panics for it.

#[cfg(feature = "s3")]
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use session_core::batch::{Decider, TransferOptions};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Follow, Space};
use session_core::intercept::Chain;
use session_core::metadata::Metadata;
use session_core::path::VPath;
use session_core::session::Snapshot;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, ReadBuf};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::connect::RequestLimit;
use crate::hash::Proof;
use crate::log::SessionLog;
use crate::session::{
    self, CommandResult, EnumerationOptions, Event, FilePermissions, Matching, RemoteDirectoryInfo,
    RemoteFileInfo, Removal, RemovalResult, SessionOptions, Subscription, SynchronizationOptions,
    SynchronizationResult, Transfer, TransferResult,
};
use crate::sync::Difference;

/// Bytes that a source is asked for at once, and such pieces that wait to be sent.
const PIECE: (usize, usize) = (256 << 10, 4);

/// A runtime that may be dropped anywhere.
struct Runs(Option<Runtime>);

impl Runs {
    fn new() -> Result<Arc<Self>> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("ferry").enable_all().build()?;
        Ok(Arc::new(Runs(Some(runtime))))
    }

    /// Waits for a call. A thread that belongs to a runtime may not drive another one, so a thread beside it does.
    fn wait<T: Send>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let runtime = self.0.as_ref().ok_or(ErrorKind::Closed)?;
        if Handle::try_current().is_err() {
            return runtime.block_on(call);
        }
        std::thread::scope(|scope| {
            let beside = std::thread::Builder::new().spawn_scoped(scope, || runtime.block_on(call))?;
            let broken = |_| Error::new(ErrorKind::Internal).with_detail("the call broke down");
            beside.join().unwrap_or_else(|e| Err(broken(e)))
        })
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        // To wait for it is not allowed inside of a runtime, and nothing is left to wait for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// See the module's header and [`session::Session`].
#[derive(Clone)]
pub struct Session {
    inner: session::Session,
    runs: Arc<Runs>,
}

/// Members that are waited for.
macro_rules! awaited {
    ($(fn $name:ident($($arg:ident: $kind:ty),* $(,)?) -> $out:ty;)*) => {
        impl Session {
            $(
                #[doc = concat!(
                    "[`", stringify!($name), "`](crate::session::Session::", stringify!($name), "), waited for."
                )]
                #[allow(clippy::too_many_arguments, reason = "as there")]
                pub fn $name(&self, $($arg: $kind),*) -> Result<$out> {
                    self.runs.wait(self.inner.$name($($arg),*))
                }
            )*
        }
    };
}

awaited! {
    fn open(options: SessionOptions, decider: Arc<dyn Decider>) -> ();
    fn close() -> ();
    fn scan_fingerprint(options: &SessionOptions, algorithm: &str) -> String;
    fn execute_command(command: &str, directory: impl AsRef<[u8]> + Send + Sync) -> CommandResult;
    fn create_directory(path: impl AsRef<[u8]> + Send + Sync) -> ();
    fn create_directories(path: impl AsRef<[u8]> + Send + Sync) -> ();
    fn remove_empty_directory(path: impl AsRef<[u8]> + Send + Sync) -> ();
    fn move_file(
        source: impl AsRef<[u8]> + Send + Sync,
        target: impl AsRef<[u8]> + Send + Sync,
    ) -> Vec<(VPath, VPath)>;
    fn duplicate_file(
        source: impl AsRef<[u8]> + Send + Sync,
        target: impl AsRef<[u8]> + Send + Sync,
    ) -> Vec<(VPath, VPath)>;
    fn duplicate_files(
        source: impl AsRef<[u8]> + Send + Sync,
        target: impl AsRef<[u8]> + Send + Sync,
    ) -> Vec<(VPath, VPath)>;
    fn chmod(path: impl AsRef<[u8]> + Send + Sync, permissions: FilePermissions) -> ();
    fn chown(path: impl AsRef<[u8]> + Send + Sync, uid: Option<u32>, gid: Option<u32>) -> ();
    fn touch(path: impl AsRef<[u8]> + Send + Sync, modified: Option<SystemTime>) -> ();
    fn create_symbolic_link(
        link: impl AsRef<[u8]> + Send + Sync,
        target: impl AsRef<[u8]> + Send + Sync,
    ) -> ();
    fn create_hard_link(link: impl AsRef<[u8]> + Send + Sync, file: impl AsRef<[u8]> + Send + Sync) -> ();
    fn read_link(path: impl AsRef<[u8]> + Send + Sync) -> Vec<u8>;
    fn list_directory(path: impl AsRef<[u8]> + Send + Sync) -> RemoteDirectoryInfo;
    fn matching(path: impl AsRef<[u8]> + Send + Sync) -> Matching;
    fn matching_local(path: impl AsRef<Path> + Send + Sync) -> Matching;
    fn get_file_info(path: impl AsRef<[u8]> + Send + Sync) -> RemoteFileInfo;
    fn try_get_file_info(path: impl AsRef<[u8]> + Send + Sync) -> Option<RemoteFileInfo>;
    fn file_exists(path: impl AsRef<[u8]> + Send + Sync) -> bool;
    fn stat(path: impl AsRef<[u8]> + Send + Sync, follow: Follow) -> Metadata;
    fn calculate_file_checksum(algorithm: &str, path: impl AsRef<[u8]> + Send + Sync) -> (Vec<u8>, Proof);
    fn space(path: impl AsRef<[u8]> + Send + Sync) -> Space;
    fn remove_files(path: impl AsRef<[u8]> + Send + Sync) -> RemovalResult;
    fn remove_file(path: impl AsRef<[u8]> + Send + Sync) -> Removal;
    fn remove_entry(path: impl AsRef<[u8]> + Send + Sync) -> RemovalResult;
    fn get_files(
        remote: impl AsRef<[u8]> + Send + Sync,
        local: impl AsRef<Path> + Send + Sync,
        remove: bool,
        options: &TransferOptions,
    ) -> TransferResult;
    fn put_files(
        local: impl AsRef<Path> + Send + Sync,
        remote: impl AsRef<[u8]> + Send + Sync,
        remove: bool,
        options: &TransferOptions,
    ) -> TransferResult;
    fn get_files_to_directory(
        remote_directory: impl AsRef<[u8]> + Send + Sync,
        local_directory: impl AsRef<Path> + Send + Sync,
        mask: Option<&str>,
        remove: bool,
        options: &TransferOptions,
    ) -> TransferResult;
    fn put_files_to_directory(
        local_directory: impl AsRef<Path> + Send + Sync,
        remote_directory: impl AsRef<[u8]> + Send + Sync,
        mask: Option<&str>,
        remove: bool,
        options: &TransferOptions,
    ) -> TransferResult;
    fn get_file_to_directory(
        remote: impl AsRef<[u8]> + Send + Sync,
        local_directory: impl AsRef<Path> + Send + Sync,
        remove: bool,
        options: &TransferOptions,
    ) -> Transfer;
    fn put_file_to_directory(
        local: impl AsRef<Path> + Send + Sync,
        remote_directory: impl AsRef<[u8]> + Send + Sync,
        remove: bool,
        options: &TransferOptions,
    ) -> Transfer;
    fn synchronize_directories(
        local: impl AsRef<Path> + Send + Sync,
        remote: impl AsRef<[u8]> + Send + Sync,
        options: &SynchronizationOptions,
    ) -> SynchronizationResult;
    fn keep_remote_directory_up_to_date(
        local: impl AsRef<Path> + Send + Sync,
        remote: impl AsRef<[u8]> + Send + Sync,
        options: &SynchronizationOptions,
        stop: &CancellationToken,
        tell: &mut (dyn FnMut(SynchronizationResult) + Send),
    ) -> ();
}

#[cfg(feature = "s3")]
awaited! {
    fn about(path: impl AsRef<[u8]> + Send + Sync) -> session::About;
    fn alter(
        path: impl AsRef<[u8]> + Send + Sync,
        wanted: &crate::connect::Putting,
        without: &[String],
    ) -> ();
    fn tags(path: impl AsRef<[u8]> + Send + Sync) -> BTreeMap<String, String>;
    fn set_tags(path: impl AsRef<[u8]> + Send + Sync, tags: &BTreeMap<String, String>) -> ();
    fn versions(path: impl AsRef<[u8]> + Send + Sync) -> Vec<session::Version>;
    fn restore_version(path: impl AsRef<[u8]> + Send + Sync, id: &str) -> ();
}

impl Session {
    /// A session that is not open, and its threads. Errors: those of starting them.
    pub fn new() -> Result<Self> {
        Ok(Session { inner: session::Session::new(), runs: Runs::new()? })
    }

    /// The asynchronous session that this one is; its calls belong on a runtime.
    pub fn session(&self) -> &session::Session {
        &self.inner
    }

    /// See [`session::Session::abort`].
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// See [`session::Session::opened`].
    pub fn opened(&self) -> bool {
        self.inner.opened()
    }

    /// See [`session::Session::home_path`].
    pub fn home_path(&self) -> Result<VPath> {
        self.inner.home_path()
    }

    /// See [`session::Session::options`].
    pub fn options(&self) -> Result<SessionOptions> {
        self.inner.options()
    }

    /// See [`session::Session::snapshot`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.inner.snapshot()
    }

    /// See [`session::Session::set_reconnect_time`].
    pub fn set_reconnect_time(&self, budget: Duration) {
        self.inner.set_reconnect_time(budget);
    }

    /// See [`session::Session::reconnect_time`].
    pub fn reconnect_time(&self) -> Duration {
        self.inner.reconnect_time()
    }

    /// See [`session::Session::set_log`].
    pub fn set_log(&self, log: Option<SessionLog>) {
        self.inner.set_log(log);
    }

    /// See [`session::Session::set_request_limit`].
    pub fn set_request_limit(&self, limit: Option<Arc<RequestLimit>>) {
        self.inner.set_request_limit(limit);
    }

    /// See [`session::Session::set_interceptors`].
    pub fn set_interceptors(&self, chain: Arc<Chain>) {
        self.inner.set_interceptors(chain);
    }

    /// See [`session::Session::set_handlers`].
    #[cfg(feature = "hooks")]
    pub fn set_handlers(&self, handlers: &crate::hooks::Handlers) {
        self.inner.set_handlers(handlers);
    }

    /// See [`session::Session::set_progress_interval`].
    pub fn set_progress_interval(&self, interval: Duration) {
        self.inner.set_progress_interval(interval);
    }

    /// See [`session::Session::events`]; the iterator waits for the next one.
    pub fn events(&self) -> impl Iterator<Item = Event> + Send + 'static {
        Waiting { stream: self.inner.events(), runs: Arc::clone(&self.runs) }
    }

    /// See [`session::Session::on_event`]; it is called back on a thread of the session.
    pub fn on_event(&self, handler: impl Fn(&Event) + Send + Sync + 'static) -> Subscription {
        self.inner.on_event(handler)
    }

    /// See [`session::Session::enumerate_remote_files`]; the iterator waits for the next one.
    pub fn enumerate_remote_files(
        &self,
        path: impl AsRef<[u8]>,
        mask: &str,
        options: EnumerationOptions,
    ) -> Result<impl Iterator<Item = Result<RemoteFileInfo>> + Send + 'static> {
        let stream = self.inner.enumerate_remote_files(path, mask, options)?;
        Ok(Waiting { stream, runs: Arc::clone(&self.runs) })
    }

    /// See [`session::Session::get_file`]; what it gives reads and jumps as a file does.
    pub fn get_file(&self, path: impl AsRef<[u8]> + Send + Sync) -> Result<RemoteReader> {
        let inner = self.runs.wait(self.inner.get_file(path))?;
        Ok(RemoteReader { inner, runs: Arc::clone(&self.runs) })
    }

    /// See [`session::Session::put_file`]. The content is read on the thread that calls.
    pub fn put_file(
        &self,
        mut content: impl Read,
        path: impl AsRef<[u8]> + Send + Sync,
        options: &TransferOptions,
    ) -> Result<u64> {
        let runtime = self.runs.0.as_ref().ok_or(ErrorKind::Closed)?;
        let (pieces, received) = mpsc::channel(PIECE.1);
        let (inner, path, options) = (self.inner.clone(), path.as_ref().to_vec(), options.clone());
        let written = runtime.spawn(async move {
            inner.put_file(Pieces { received, piece: Bytes::new() }, path, &options).await
        });
        loop {
            let mut piece = vec![0; PIECE.0];
            let read = loop {
                match content.read(&mut piece) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            let sent = match read {
                Ok(0) => break,
                Ok(n) => {
                    piece.truncate(n);
                    Ok(Bytes::from(piece))
                }
                Err(e) => Err(e),
            };
            let over = sent.is_err();
            // Who takes nothing more says why below.
            let taken =
                self.runs.wait(async { pieces.send(sent).await.map_err(|_| ErrorKind::Closed.into()) });
            if over || taken.is_err() {
                break;
            }
        }
        drop(pieces);
        self.runs.wait(async {
            written.await.unwrap_or_else(|e| Err(Error::new(ErrorKind::Canceled).with_source(e)))
        })
    }

    /// See [`session::Session::compare_directories`].
    pub fn compare_directories(
        &self,
        local: impl AsRef<Path> + Send + Sync,
        remote: impl AsRef<[u8]> + Send + Sync,
        options: &SynchronizationOptions,
    ) -> Result<Comparison> {
        let inner = self.runs.wait(self.inner.compare_directories(local, remote, options))?;
        Ok(Comparison { inner, runs: Arc::clone(&self.runs) })
    }
}

/// See [`session::Comparison`], which it is.
pub struct Comparison {
    inner: session::Comparison,
    runs: Arc<Runs>,
}

impl Comparison {
    /// See [`session::Comparison::resolve`].
    pub fn resolve(&self, difference: &Difference) -> Result<SynchronizationResult> {
        self.runs.wait(self.inner.resolve(difference))
    }
}

impl Deref for Comparison {
    type Target = session::Comparison;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

/// A remote file being read. Dropping it ends the reading.
pub struct RemoteReader {
    inner: session::RemoteReader,
    runs: Arc<Runs>,
}

impl RemoteReader {
    /// The size of the file when it was opened.
    pub fn size(&self) -> u64 {
        self.inner.size()
    }
}

/// What a reader says of a session's threads that are gone.
fn unread(e: Error) -> io::Error {
    io::Error::other(e)
}

impl Read for RemoteReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let inner = &mut self.inner;
        self.runs.wait(async { Ok(inner.read(buf).await) }).unwrap_or_else(|e| Err(unread(e)))
    }
}

impl Seek for RemoteReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let inner = &mut self.inner;
        self.runs.wait(async { Ok(inner.seek(to).await) }).unwrap_or_else(|e| Err(unread(e)))
    }
}

/// A stream as an iterator.
struct Waiting<S> {
    stream: S,
    runs: Arc<Runs>,
}

impl<T: Send, S: Stream<Item = T> + Send + Unpin> Iterator for Waiting<S> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let stream = &mut self.stream;
        self.runs.wait(async { Ok(stream.next().await) }).ok().flatten()
    }
}

/// What the calling thread reads, where it is sent.
struct Pieces {
    received: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        use std::task::{Poll, ready};
        if self.piece.is_empty() {
            match ready!(self.received.poll_recv(cx)) {
                Some(piece) => self.piece = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece.split_to(n));
        Poll::Ready(Ok(()))
    }
}
