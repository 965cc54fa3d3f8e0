//! One file from a source to a target.
//!
//! Chunks are read and written side by side within a window that grows while the answers take long, so
//! the transfer is bound by the line and not by its delay; memory is bounded by the largest window. A
//! file of some size goes to a temporary name first and is renamed when it is complete; what is left
//! there by an interruption is continued a little before its end, after blocks of it were compared with the
//! source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use session_core::batch::{Overwrite, Resume, TransferOptions};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, Filesystem, Follow, OpenOptions, Replace};
use session_core::gate::{SessionFile, SessionFs};
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use super::tracker::Item;

/// Bytes of one chunk: one request of OpenSSH's largest size, seven of the smallest that everybody takes.
const CHUNK: usize = 224 << 10;

/// Chunks in flight: at the beginning and at most.
const WINDOW: (usize, usize) = (8, 256);

/// How far before its end an interrupted file is continued: chunks arrive in any order, so everything
/// that may have been in flight is sent again.
const STEP_BACK: u64 = (WINDOW.1 * CHUNK) as u64;

/// Before it is continued, this many blocks of it are compared with the source: the first, the last, and
/// others evenly between.
const SAMPLES: u64 = 16;

/// Bytes of one such block.
const SAMPLE: u64 = 64 << 10;

/// The temporary name of a target, beside it (the suffix is WinSCP's).
pub(super) fn temporary(target: &VPath) -> Result<VPath> {
    let parent = target.parent().unwrap_or_else(VPath::root);
    let mut name = target.name().to_vec();
    name.truncate(240);
    name.extend_from_slice(b".filepart");
    parent.join(name)
}

/// What is known of the target before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nobody may look: the account puts files and sees none.
    Hidden,
    /// It is not there.
    Missing,
    /// It is there, and may be replaced.
    There,
    /// Nobody looked.
    Unknown,
}

/// What is copied.
pub(super) struct Copy<'a> {
    pub(super) source: &'a SessionFs,
    pub(super) from: &'a VPath,
    pub(super) metadata: &'a Metadata,
    pub(super) target: &'a SessionFs,
    pub(super) to: &'a VPath,
    pub(super) existing: Existing,
    pub(super) options: &'a TransferOptions,
    pub(super) item: &'a Item,
}

impl Copy<'_> {
    /// Copies, and gives the bytes that crossed. Dropped in the middle, it leaves at most a temporary
    /// file. Errors: those of either side; `Corrupt` where sizes do not agree in the end.
    pub(super) async fn run(&self) -> Result<u64> {
        let size = self.metadata.size;
        let hidden = self.existing == Existing::Hidden;
        let can_rename = self.target.capabilities().rename && !hidden;
        if self.options.temporary_names && can_rename && size >= self.options.temporary_from {
            return self.through_temporary(size).await;
        }
        let source = self.source.open_file(self.from, &self.read_options()).await?;
        // What cannot be looked at cannot be asked about: only a new file is written, unless any may be.
        let exclusive = hidden && self.options.overwrite != Overwrite::Always;
        let create = OpenOptions { exclusive, ..OpenOptions::create() };
        let target = self.target.open_file(self.to, &self.create_options(create)).await?;
        self.pump(&*source, &*target, 0).await?;
        self.commit(&*target).await?;
        Ok(size)
    }

    async fn through_temporary(&self, size: u64) -> Result<u64> {
        let part = temporary(self.to)?;
        let source = self.source.open_file(self.from, &self.read_options()).await?;
        let mut begin = 0;
        let mut target = None;
        if self.options.resume == Resume::Auto
            && let Some((file, have)) = self.interrupted(&part, &*source, size).await?
        {
            target = Some(file);
            begin = have;
        }
        let target = match target {
            Some(target) => target,
            None => self.target.open_file(&part, &self.create_options(OpenOptions::create())).await?,
        };
        self.item.moved(begin);
        self.pump(&*source, &*target, begin).await?;
        self.commit(&*target).await?;
        let replaces = self.target.capabilities().rename_replaces;
        if replaces || self.existing == Existing::Missing {
            let replace = if replaces { Replace::Yes } else { Replace::No };
            self.target.rename(&part, self.to, replace).await?;
        } else {
            self.replace_by_hand(&part).await?;
        }
        Ok(size - begin)
    }

    /// For a target that cannot replace in one step: the old file steps aside, so that at no moment
    /// there is neither the old nor the new content.
    async fn replace_by_hand(&self, part: &VPath) -> Result<()> {
        match self.target.rename(part, self.to, Replace::No).await {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => return other,
        }
        let mut name = self.to.name().to_vec();
        name.truncate(240);
        name.extend_from_slice(b".replaced");
        let aside = self.to.parent().unwrap_or_else(VPath::root).join(name)?;
        self.target.rename(self.to, &aside, Replace::No).await?;
        if let Err(e) = self.target.rename(part, self.to, Replace::No).await {
            // Put the old one back; the first error is the one to tell.
            let _ = self.target.rename(&aside, self.to, Replace::No).await;
            return Err(e);
        }
        self.target.remove_file(&aside).await
    }

    fn read_options(&self) -> OpenOptions {
        OpenOptions { size_hint: Some(self.metadata.size), ..OpenOptions::read() }
    }

    fn create_options(&self, mut options: OpenOptions) -> OpenOptions {
        options.size_hint = Some(self.metadata.size);
        let hidden = self.existing == Existing::Hidden;
        if self.options.preserve_modes && self.target.capabilities().set_mode && !hidden {
            // The owner's write bit stays on while the file is being written.
            options.attributes.mode = self.metadata.mode.map(|m| (m & 0o777) | 0o200);
        }
        options
    }

    /// What an earlier run left, if it is a beginning of this source.
    async fn interrupted(
        &self,
        part: &VPath,
        source: &dyn File,
        size: u64,
    ) -> Result<Option<(Arc<SessionFile>, u64)>> {
        if !self.target.capabilities().random_write || size <= STEP_BACK {
            return Ok(None);
        }
        let good = match self.target.stat(part, Follow::No).await {
            Ok(m) if m.is_file() && m.size <= size && m.size > STEP_BACK => m.size - STEP_BACK,
            _ => return Ok(None),
        };
        let Ok(target) = self.target.open_file(part, &OpenOptions::update()).await else { return Ok(None) };
        if same_samples(source, &*target, good).await? {
            return Ok(Some((target, good)));
        }
        target.park().await?;
        Ok(None)
    }

    /// Moves everything from `begin` on.
    async fn pump(&self, source: &dyn File, target: &dyn File, begin: u64) -> Result<()> {
        let size = self.metadata.size;
        let mut window = WINDOW.0;
        let mut next = begin;
        let mut in_flight = FuturesUnordered::new();
        let mut round = Round::begin(window);
        loop {
            while next < size && in_flight.len() < window {
                let len = CHUNK.min(usize::try_from(size - next).unwrap_or(CHUNK));
                in_flight.push(self.chunk(source, target, next, len));
                next += len as u64;
            }
            let Some(done) = in_flight.next().await else { break };
            window = round.ended(done?, window);
        }
        if begin == size || size == 0 {
            // Nothing was read: a source that grew or shrank must still be noticed.
            let extra = source.read_into(size, 1, BytesMut::with_capacity(1)).await?;
            if !extra.is_empty() {
                return Err(changed());
            }
        }
        Ok(())
    }

    async fn chunk(&self, source: &dyn File, target: &dyn File, offset: u64, len: usize) -> Result<Duration> {
        let begin = Instant::now();
        let mut buf = BytesMut::with_capacity(len);
        while buf.len() < len {
            let had = buf.len();
            buf = source.read_into(offset + had as u64, len - had, buf).await?;
            if buf.len() == had {
                return Err(changed());
            }
        }
        target.write_at(offset, buf.freeze()).await?;
        self.item.moved(len as u64);
        Ok(begin.elapsed())
    }

    async fn commit(&self, target: &dyn File) -> Result<()> {
        let capabilities = self.target.capabilities();
        let mut attributes = Attributes::none();
        // Who may not look at files may not change what they have; the upload does not fail for that.
        let dates = self.existing != Existing::Hidden;
        if self.options.preserve_times && capabilities.set_times && dates {
            attributes.modified = self.metadata.modified;
            attributes.accessed = self.metadata.accessed.or(self.metadata.modified);
        }
        if self.options.preserve_modes && capabilities.set_mode && dates {
            attributes.mode = self.metadata.mode.map(|m| m & 0o777).filter(|m| m & 0o200 == 0);
        }
        let options = CommitOptions { expected_size: Some(self.metadata.size), attributes };
        let published = target.commit(&options).await?;
        if published.size != self.metadata.size {
            return Err(Error::new(ErrorKind::Corrupt).with_detail(format!(
                "the target holds {} bytes, the source {}",
                published.size, self.metadata.size
            )));
        }
        Ok(())
    }
}

fn changed() -> Error {
    Error::new(ErrorKind::Corrupt)
        .with_detail("the source changed while it was read")
        .with_hint("run the command again when nothing writes to it")
}

/// Whether the first `end` bytes look the same on both sides. Errors are the source's; a target that
/// cannot be read is another file.
async fn same_samples(source: &dyn File, target: &dyn File, end: u64) -> Result<bool> {
    let step = end.saturating_sub(SAMPLE) / (SAMPLES - 1);
    let mut samples: FuturesUnordered<_> = (0..SAMPLES)
        .map(|n| async move {
            let (from, to) = (n * step, (n * step + SAMPLE).min(end));
            let ours = read_exactly(source, from, to).await?;
            Ok::<_, Error>(read_exactly(target, from, to).await.is_ok_and(|theirs| theirs == ours))
        })
        .collect();
    while let Some(same) = samples.next().await {
        if !same? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn read_exactly(file: &dyn File, begin: u64, end: u64) -> Result<BytesMut> {
    let len = usize::try_from(end - begin).unwrap_or(usize::MAX);
    let mut buf = BytesMut::with_capacity(len);
    while buf.len() < len {
        let had = buf.len();
        buf = file.read_into(begin + had as u64, len - had, buf).await?;
        if buf.len() == had {
            return Err(changed());
        }
    }
    Ok(buf)
}

/// Decides whether the window grows: it does while a chunk takes long although the window is full, which
/// means that the line is long and not that it is slow.
struct Round {
    began: Instant,
    left: usize,
    chunks: usize,
    waited: Duration,
    best: f64,
}

impl Round {
    fn begin(window: usize) -> Self {
        Round { began: Instant::now(), left: window, chunks: window, waited: Duration::ZERO, best: 0.0 }
    }

    fn ended(&mut self, took: Duration, window: usize) -> usize {
        self.waited += took;
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return window;
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = self.chunks as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let mean = self.waited / u32::try_from(self.chunks).unwrap_or(u32::MAX).max(1);
        // Doubling helped last time, or was not tried yet.
        let grows = mean > Duration::from_millis(4) && rate > self.best * 1.15 && window < WINDOW.1;
        let next = if grows { (window * 2).min(WINDOW.1) } else { window };
        *self = Round { best: self.best.max(rate), ..Round::begin(next) };
        next
    }
}
