//! Content that comes as a stream, whose size nobody knows before its end.
//!
//! It gets its name when all of it has arrived, by the means that every file has (`super::part`); until then what
//! stood under the name stands. In place is written where the target has no other way: a link, a name without room
//! for another beside it, a server that renames nothing. A stream cannot be told twice: nothing is continued.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use session_core::batch::{Guarantee, TransferOptions, Verify};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Filesystem, Follow, OpenOptions};
use session_core::gate::SessionFs;
use session_core::metadata::{Attributes, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::bin::{put_back, recycle};
use super::given::keep_owner;
use super::limit::Limiter;
use super::part::{Kept, is_lost, publish, temporary};
use super::tracker::{Item, Tracker};
use super::verify::Verifier;

/// Bytes of one write, and how many are under way.
const WRITE: (usize, usize) = (256 << 10, 16);

/// A stream under way: counted, held to a speed and stopped by who looks at it (`crate::live`).
pub(crate) struct Flow {
    /// How far it is; how much there is to come nobody knows.
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) stop: CancellationToken,
}

impl Flow {
    /// One that has not begun.
    pub(crate) fn new(options: &TransferOptions) -> Arc<Self> {
        let limiter = Arc::new(Limiter::of(options));
        Arc::new(Flow { tracker: Tracker::new(), limiter, stop: CancellationToken::new() })
    }

    /// A file of it begins; it is over when the result is dropped.
    pub(crate) fn begin(&self, name: String) -> Arc<Item> {
        self.tracker.found(0);
        self.tracker.begin(name, 0)
    }

    /// Waits until so many bytes may move. Errors: `Canceled` once it is stopped.
    pub(crate) async fn pass(&self, bytes: usize) -> Result<()> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ErrorKind::Canceled.into()),
            () = self.limiter.pass(bytes) => Ok(()),
        }
    }

    /// How much is asked for at once, of `most`, and how often of `times`, so that what is on its way beyond the
    /// limit is little.
    pub(crate) fn ahead(&self, most: usize, times: usize) -> (usize, usize) {
        if self.limiter.is_open() { (most, times) } else { (self.limiter.chunk(most), 2.min(times)) }
    }
}

/// Writes all of `content` to a file, which it replaces, and gives its size and how it got its name.
///
/// Where there is a bin, the old file goes there, and comes back if the new one does not come. Of the options these
/// count: temporary names, permission bits (without any, those of the old file are kept where the target sets some,
/// and its owner where the account may give files away), verification of the size. Broken off, by an error or by
/// `flow`, the old content stands and nothing is left beside it that could be removed; dropped, there may be a
/// `.filepart`; written in place, the file may hold a part. Errors: those of the stream and of the target;
/// `Canceled`; `Corrupt` where the size is another.
pub(crate) async fn write(
    target: &SessionFs,
    content: impl AsyncRead + Send + Unpin,
    to: &VPath,
    options: &TransferOptions,
    flow: &Flow,
    bin: Option<&VPath>,
) -> Result<(u64, Guarantee)> {
    let capabilities = target.capabilities_at(to);
    let (old, hidden) = match target.stat(to, Follow::No).await {
        Err(e) if is_lost(&e) => return Err(e),
        // Who may put files and see none can neither rename nor look at them.
        Err(e) => (None, e.kind() == ErrorKind::PermissionDenied),
        Ok(m) => (Some(m), false),
    };
    let apart = options.temporary_names
        && !hidden
        && capabilities.rename
        && !capabilities.whole_files
        && old.as_ref().is_none_or(Metadata::is_file);
    let part = if apart { temporary(to, capabilities.max_name) } else { None };
    let keeps = part.is_some() && options.preserve_modes && capabilities.set_mode;
    let kept = old.as_ref().filter(|_| keeps && !options.ignore_attribute_errors).and_then(|m| m.mode);
    let mode = options.permissions.or(kept.map(|mode| mode & 0o777));
    let written = part.as_ref().unwrap_or(to);
    let bin = bin.filter(|_| old.as_ref().is_some_and(Metadata::is_file));
    let mut aside = match bin {
        Some(bin) if part.is_none() => Some(recycle(target, to, bin).await?),
        _ => None,
    };
    let file = match target.open_file(written, &OpenOptions::create()).await {
        Ok(file) => file,
        Err(e) => {
            put_back(target, &mut aside, to, &e).await;
            return Err(e);
        }
    };
    let item = flow.begin(to.display());
    let filled = async {
        let size = tokio::select! {
            biased;
            () = flow.stop.cancelled() => return Err(ErrorKind::Canceled.into()),
            size = pump(content, &*file, &flow.limiter, &item) => size?,
        };
        let attributes = mode.map_or_else(Attributes::none, Attributes::mode);
        let new = file.commit(&CommitOptions { expected_size: Some(size), attributes }).await?;
        if part.is_some() {
            keep_owner(target, written, old.as_ref(), &new).await;
        }
        if options.verify != Verify::None && !hidden {
            Verifier::size(target, written, size).await?;
        }
        Ok(size)
    };
    let size = match filled.await {
        Ok(size) => size,
        Err(e) => {
            // The first error is the one to tell.
            if file.abort().await.is_err() && part.is_some() {
                let _ = target.remove_file(written).await;
            }
            put_back(target, &mut aside, to, &e).await;
            return Err(e);
        }
    };
    let Some(part) = part else {
        let whole = capabilities.whole_files;
        return Ok((size, if whole { Guarantee::AtomicCommit } else { Guarantee::InPlace }));
    };
    let published = async {
        if let Some(bin) = bin {
            aside = Some(recycle(target, to, bin).await?);
        }
        let missing = old.is_none() || aside.is_some();
        publish(target, &part, to, missing, &mut Kept::default()).await
    };
    match published.await {
        Ok(_) if aside.is_some() => Ok((size, Guarantee::RenameWindow)),
        Ok(guarantee) => Ok((size, guarantee)),
        Err(e) => {
            put_back(target, &mut aside, to, &e).await;
            if !is_lost(&e) {
                let _ = target.remove_file(&part).await;
            }
            Err(e)
        }
    }
}

/// Writes go on while more of the content is waited for.
async fn pump(
    mut content: impl AsyncRead + Send + Unpin,
    file: &dyn File,
    limiter: &Limiter,
    item: &Item,
) -> Result<u64> {
    let mut offset = 0;
    let mut writes = FuturesUnordered::new();
    loop {
        let mut chunk = BytesMut::with_capacity(WRITE.0);
        let mut ended = false;
        while chunk.len() < WRITE.0 && !ended {
            tokio::select! {
                biased;
                Some(written) = writes.next(), if !writes.is_empty() => written?,
                read = content.read_buf(&mut chunk) => ended = read.map_err(broken)? == 0,
            }
        }
        if !chunk.is_empty() {
            let len = chunk.len();
            limiter.pass(len).await;
            item.moved(len as u64);
            writes.push(file.write_at(offset, chunk.freeze()));
            offset += len as u64;
        }
        while writes.len() >= WRITE.1 || (ended && !writes.is_empty()) {
            if let Some(written) = writes.next().await {
                written?;
            }
        }
        if ended {
            return Ok(offset);
        }
    }
}

/// What a stream of the caller failed with; an error of ours inside keeps its kind.
fn broken(e: io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) => Error::from(e).at(OperationKind::Read, None),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use session_core::auth::Account;
    use session_core::fs_ext::FilesystemExt;
    use session_core::intercept::Chain;
    use session_core::session::{Protocol, Session, Setup};
    use session_core::store::memory::MemoryStore;
    use tokio::io::ReadBuf;

    #[tokio::test]
    async fn what_a_stream_replaces_has_its_mode_and_owner() {
        let session = Session::new(Setup::new(Protocol::Sftp, "test"));
        let identity = session.log_in(Account::named("a"), vec![]).unwrap();
        let store = Arc::new(MemoryStore::default());
        let target = session.guard(&identity, store, Chain::new(vec![])).unwrap();
        let at = VPath::absolute("/f").unwrap();
        target.write_all(&at, bytes::Bytes::from_static(b"old")).await.unwrap();
        let was = Attributes { uid: Some(7), gid: Some(8), mode: Some(0o604), ..Attributes::none() };
        target.set_attributes(&at, &was, Follow::No).await.unwrap();
        let options = TransferOptions::default();
        let flow = Flow::new(&options);
        let written = write(&target, &b"newer"[..], &at, &options, &flow, None).await.unwrap();
        assert_eq!(written, (5, Guarantee::AtomicRename));
        let now = target.stat(&at, Follow::No).await.unwrap();
        assert_eq!((now.size, now.uid, now.gid), (5, Some(7), Some(8)));
        assert_eq!(now.mode.map(|mode| mode & 0o777), Some(0o604));
    }

    /// Breaks after its first piece.
    struct Cut(bool);

    impl AsyncRead for Cut {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(Err(io::Error::other("cut")));
            }
            into.put_slice(b"half");
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_went_to_the_bin_comes_back_where_the_stream_breaks() {
        let session = Session::new(Setup::new(Protocol::Sftp, "test"));
        let identity = session.log_in(Account::named("a"), vec![]).unwrap();
        let target = session.guard(&identity, Arc::new(MemoryStore::default()), Chain::new(vec![])).unwrap();
        let [at, bin] = ["/f", "/bin"].map(|path| VPath::absolute(path).unwrap());
        target.write_all(&at, bytes::Bytes::from_static(b"old")).await.unwrap();
        target.create_dir_all(&bin).await.unwrap();
        for temporary_names in [true, false] {
            let options = TransferOptions { temporary_names, ..TransferOptions::default() };
            write(&target, Cut(false), &at, &options, &Flow::new(&options), Some(&bin)).await.unwrap_err();
            assert_eq!(target.stat(&at, Follow::No).await.unwrap().size, 3, "{temporary_names}");
        }
        let options = TransferOptions::default();
        let written =
            write(&target, &b"new"[..], &at, &options, &Flow::new(&options), Some(&bin)).await.unwrap();
        assert_eq!(written, (3, Guarantee::RenameWindow));
    }
}
