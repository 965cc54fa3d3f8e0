//! `Pooled`: several channels to one remote as one filesystem.
//!
//! A server grants each channel a window of its own (OpenSSH: 2 MiB), so over a long line one channel
//! moves at most a window for each round trip. Large files are written in stripes over all channels:
//! every handle is open before any is closed, and the first one, which made the file, closes last. Other
//! calls go to the channels in turn.
//!
//! Not here: channels that come and go. A lost connection takes all channels with it, and is replaced by
//! [`crate::reconnect`] as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use session_core::error::Result;
use session_core::fs::{CommitOptions, File, Filesystem, Lent, OpenOptions};
use session_core::layer::Layer;
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;
use tokio::sync::OnceCell;

/// Files of at least this size are striped.
const STRIPED_FROM: u64 = 8 << 20;

/// Bytes that go to one channel before the next one has its turn.
const STRIPE: u64 = 1 << 20;

/// Several channels as one filesystem.
pub struct Pooled {
    members: Vec<Arc<dyn Filesystem>>,
    first: Arc<dyn Filesystem>,
    turn: AtomicUsize,
}

impl Pooled {
    /// Pools `first` with `others`, which must lead to the same place.
    pub fn new(first: Arc<dyn Filesystem>, others: Vec<Arc<dyn Filesystem>>) -> Self {
        let mut members = vec![Arc::clone(&first)];
        members.extend(others);
        Pooled { members, first, turn: AtomicUsize::new(0) }
    }

    fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len()
    }

    fn member(&self, at: usize) -> &Arc<dyn Filesystem> {
        self.members.get(at).unwrap_or(&self.first)
    }
}

#[async_trait]
impl Layer for Pooled {
    fn inner(&self) -> &dyn Filesystem {
        &**self.member(self.next())
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        let at = self.next();
        let main = self.member(at).open(path, options).await?;
        let large = options.size_hint.is_some_and(|n| n >= STRIPED_FROM);
        if !options.write || options.append || !large || self.members.len() < 2 {
            return Ok(main);
        }
        let others = self.members.iter().enumerate().filter(|(n, _)| *n != at);
        let stripes =
            others.map(|(_, fs)| Stripe { fs: Arc::clone(fs), file: OnceCell::new() }).collect::<Vec<_>>();
        let reopen = OpenOptions { read: options.read, write: true, ..OpenOptions::default() };
        Ok(Arc::new(Striped { main, stripes, path: path.clone(), reopen }))
    }
}

/// One more channel's handle of a file, opened when its first stripe comes.
struct Stripe {
    fs: Arc<dyn Filesystem>,
    file: OnceCell<Option<Arc<dyn File>>>,
}

/// A file that is open on several channels.
struct Striped {
    main: Arc<dyn File>,
    stripes: Vec<Stripe>,
    path: VPath,
    reopen: OpenOptions,
}

impl Striped {
    /// The handle that this offset belongs to; the first one where another cannot be had.
    async fn at(&self, offset: u64) -> &Arc<dyn File> {
        let n = usize::try_from((offset / STRIPE) % (self.stripes.len() as u64 + 1)).unwrap_or(0);
        let Some(stripe) = n.checked_sub(1).and_then(|n| self.stripes.get(n)) else { return &self.main };
        let opened =
            stripe.file.get_or_init(|| async { stripe.fs.open(&self.path, &self.reopen).await.ok() });
        opened.await.as_ref().unwrap_or(&self.main)
    }

    fn opened(&self) -> impl Iterator<Item = &Arc<dyn File>> {
        self.stripes.iter().filter_map(|s| s.file.get()).flatten()
    }
}

#[async_trait]
impl File for Striped {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        self.main.read_into(offset, len, buf).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        self.at(offset).await.write_at(offset, data).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        self.main.metadata().await
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.main.set_attributes(attributes).await
    }

    async fn sync(&self) -> Result<()> {
        try_join_all(self.opened().map(|f| f.sync())).await?;
        self.main.sync().await
    }

    async fn settle(&self) -> Result<()> {
        try_join_all(self.opened().map(|f| f.settle())).await?;
        self.main.settle().await
    }

    async fn lend(&self, range: std::ops::Range<u64>) -> Result<Option<Lent>> {
        self.main.lend(range).await
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        // Every write of the others has arrived before the first handle seals the file.
        let plain = CommitOptions::default();
        try_join_all(self.opened().map(|f| f.commit(&plain))).await?;
        self.main.commit(options).await
    }

    async fn park(&self) -> Result<()> {
        try_join_all(self.opened().map(|f| f.park())).await?;
        self.main.park().await
    }

    async fn abort(&self) -> Result<()> {
        try_join_all(self.opened().map(|f| f.park())).await?;
        self.main.abort().await
    }
}
