//! What comes out of order for a far end that is written in order (FTP, WebDAV, S3, SCP).
//!
//! A write ahead of its turn is answered and kept, and goes on as soon as what comes before it is there: in memory up
//! to a window for each upload, which is what a client with many writes under way needs, beyond it on the disk. There
//! the uploads of a server share one bound; what does not fit is refused (`NoSpace`). A file of the spool has no name,
//! so that nothing of it outlives its upload or the server; what a crash between its making and the loss of its name
//! leaves is removed at the next start.
//!
//! What is sent cannot be changed: bytes that come twice are refused, also where the first of them still wait, and so
//! is a commit while some are missing. A parked upload is what the far end has: what waited is lost, and whoever
//! continues it begins there.
//!
//! Not here: files that are not begun anew, whose first offset only the far end knows: those wait for their turn.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File};
use session_core::in_order::broken;
use session_core::layer::FileLayer;
use session_core::metadata::Metadata;
use session_core::operation::OperationKind;
use tokio::sync::Mutex;

/// How much of one upload waits in memory, bytes.
const WINDOW: usize = 1 << 20;

/// How much of all uploads waits on the disk, bytes.
const CAP: u64 = 4 << 30;

/// How many pieces of one upload wait; neighbours on the disk are one.
const PIECES: usize = 10_000;

/// What a piece takes of a disk at least, bytes.
const BLOCK: u64 = 4096;

/// How much is read from the disk at a time, bytes.
const STEP: usize = 256 << 10;

/// The part of the disk that the uploads of a server share.
pub(super) struct Spool {
    dir: OnceLock<PathBuf>,
    cap: u64,
    used: AtomicU64,
}

impl Default for Spool {
    fn default() -> Self {
        Spool { dir: OnceLock::new(), cap: CAP, used: AtomicU64::new(0) }
    }
}

impl Spool {
    /// Is in this folder, which is emptied: nothing of a former run is of use. Blocks. Errors: those of the disk.
    pub(super) fn open(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let _ = self.dir.set(dir.to_path_buf());
        Ok(())
    }

    /// A file without a name. Blocks.
    fn file(&self) -> Result<fs::File> {
        let Some(dir) = self.dir.get() else { return Err(full()) };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join(uuid::Uuid::now_v7().simple().to_string());
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    fn reserve(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.cap);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

fn full() -> Error {
    Error::new(ErrorKind::NoSpace)
        .with_detail("too much of this upload came before what it begins with")
        .with_hint("the server behind this folder is written in order: send the file from its beginning on")
}

fn refused(words: &str) -> Error {
    Error::unsupported(OperationKind::Write)
        .with_detail(format!("the server behind this folder is written in order: {words}"))
}

/// Blocking work of a disk.
async fn disk<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?
}

/// The part of the spool that one upload has, at the offsets of the upload.
struct Kept {
    file: Arc<fs::File>,
    spool: Arc<Spool>,
    reserved: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.spool.used.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

enum Piece {
    Memory(Bytes),
    /// So many bytes.
    Disk(u64),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Memory(data) => data.len() as u64,
            Piece::Disk(len) => *len,
        }
    }
}

#[derive(Default)]
struct Ahead {
    /// Where the far end is.
    at: u64,
    /// What waits, by its offset.
    pieces: BTreeMap<u64, Piece>,
    /// How much of it waits in memory.
    held: usize,
    kept: Option<Kept>,
    /// A write to the far end failed or was given up: what it has is not known.
    broken: bool,
    /// It was committed, parked or given up.
    ended: bool,
}

impl Ahead {
    /// Errors: some of it has come already.
    fn is_new(&self, offset: u64, end: u64) -> Result<()> {
        let before = self.pieces.range(..end).next_back();
        if offset < self.at || before.is_some_and(|(at, piece)| at + piece.len() > offset) {
            return Err(refused("bytes cannot be written twice"));
        }
        Ok(())
    }

    /// Keeps what comes too early.
    async fn keep(&mut self, spool: &Arc<Spool>, offset: u64, data: Bytes) -> Result<()> {
        if self.pieces.len() >= PIECES {
            return Err(full());
        }
        if self.held + data.len() <= WINDOW {
            self.held += data.len();
            // What it is cut from may be larger.
            self.pieces.insert(offset, Piece::Memory(Bytes::copy_from_slice(&data)));
            return Ok(());
        }
        let kept = match &mut self.kept {
            Some(kept) => kept,
            none => {
                let maker = Arc::clone(spool);
                let file = disk(move || maker.file()).await?;
                none.insert(Kept { file: Arc::new(file), spool: Arc::clone(spool), reserved: 0 })
            }
        };
        let mut len = data.len() as u64;
        let room = len.next_multiple_of(BLOCK);
        if !spool.reserve(room) {
            return Err(full());
        }
        kept.reserved += room;
        let file = Arc::clone(&kept.file);
        disk(move || Ok(file.write_all_at(&data, offset)?)).await?;
        let mut begin = offset;
        if let Some(Piece::Disk(after)) = self.pieces.get(&(offset + len)) {
            let after = *after;
            self.pieces.remove(&(offset + len));
            len += after;
        }
        if let Some((at, Piece::Disk(before))) = self.pieces.range(..offset).next_back()
            && at + before == offset
        {
            (begin, len) = (*at, len + before);
        }
        self.pieces.insert(begin, Piece::Disk(len));
        Ok(())
    }

    async fn send(&mut self, far: &dyn File, data: Bytes) -> Result<()> {
        let len = data.len() as u64;
        far.write_at(self.at, data).await?;
        self.at += len;
        Ok(())
    }

    /// Sends what is due now, and all that waited for it.
    async fn go_on(&mut self, far: &dyn File, data: Bytes) -> Result<()> {
        self.send(far, data).await?;
        while let Some(piece) = self.pieces.remove(&self.at) {
            match piece {
                Piece::Memory(data) => {
                    self.held -= data.len();
                    self.send(far, data).await?;
                }
                Piece::Disk(len) => {
                    let end = self.at + len;
                    while self.at < end {
                        let Some(kept) = &self.kept else { return Err(ErrorKind::Internal.into()) };
                        let (file, at) = (Arc::clone(&kept.file), self.at);
                        let step = STEP.min(usize::try_from(end - at).unwrap_or(STEP));
                        let data = disk(move || {
                            let mut data = vec![0; step];
                            file.read_exact_at(&mut data, at)?;
                            Ok(Bytes::from(data))
                        });
                        self.send(far, data.await?).await?;
                    }
                }
            }
        }
        if self.pieces.is_empty() {
            self.kept = None;
        }
        Ok(())
    }
}

/// A file that is written anew over there, in order, by whoever writes it in any.
pub(super) struct InTurn {
    far: Arc<dyn File>,
    spool: Arc<Spool>,
    ahead: Mutex<Ahead>,
}

impl InTurn {
    pub(super) fn new(far: Arc<dyn File>, spool: Arc<Spool>) -> Self {
        InTurn { far, spool, ahead: Mutex::default() }
    }

    /// Errors: the far end does not have all that was answered.
    async fn whole(&self) -> Result<()> {
        match &*self.ahead.lock().await {
            ahead if ahead.broken => Err(broken()),
            ahead if !ahead.pieces.is_empty() => Err(refused("bytes cannot be left out")),
            _ => Ok(()),
        }
    }

    /// What waits is wanted no more, and nothing more is.
    async fn end(&self) {
        let mut ahead = self.ahead.lock().await;
        ahead.pieces.clear();
        (ahead.held, ahead.kept, ahead.ended) = (0, None, true);
    }
}

#[async_trait]
impl FileLayer for InTurn {
    fn inner(&self) -> &dyn File {
        &*self.far
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(ErrorKind::OutOfRange)?;
        if data.is_empty() {
            return self.far.write_at(offset, data).await;
        }
        let mut ahead = self.ahead.lock().await;
        if ahead.ended {
            return Err(ErrorKind::Closed.into());
        }
        if ahead.broken {
            return Err(broken());
        }
        ahead.is_new(offset, end)?;
        if offset > ahead.at {
            return ahead.keep(&self.spool, offset, data).await;
        }
        ahead.broken = true;
        ahead.go_on(&*self.far, data).await?;
        ahead.broken = false;
        Ok(())
    }

    async fn metadata(&self) -> Result<Metadata> {
        let mut told = self.far.metadata().await?;
        let ahead = self.ahead.lock().await;
        if let Some((at, piece)) = ahead.pieces.last_key_value() {
            told.size = told.size.max(at + piece.len());
        }
        Ok(told)
    }

    async fn sync(&self) -> Result<()> {
        self.whole().await?;
        self.far.sync().await
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        self.whole().await?;
        let published = self.far.commit(options).await?;
        self.end().await;
        Ok(published)
    }

    async fn park(&self) -> Result<()> {
        self.end().await;
        self.far.park().await
    }

    async fn abort(&self) -> Result<()> {
        self.end().await;
        self.far.abort().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use bytes::BytesMut;
    use session_core::metadata::FileType;

    use super::*;

    /// A far end that takes what comes next and nothing else.
    #[derive(Default)]
    struct Strict {
        content: StdMutex<Vec<u8>>,
        fails_at: Option<u64>,
    }

    #[async_trait]
    impl File for Strict {
        async fn read_into(&self, _: u64, _: usize, buf: BytesMut) -> Result<BytesMut> {
            Ok(buf)
        }

        async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
            let mut content = self.content.lock().unwrap();
            assert_eq!(offset, content.len() as u64);
            if self.fails_at == Some(offset) {
                return Err(ErrorKind::Disconnected.into());
            }
            content.extend_from_slice(&data);
            Ok(())
        }

        async fn metadata(&self) -> Result<Metadata> {
            Ok(Metadata::new(FileType::File, self.content.lock().unwrap().len() as u64))
        }

        async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
            self.metadata().await
        }
    }

    fn spool(cap: u64) -> (tempfile::TempDir, Arc<Spool>) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool { cap, ..Spool::default() };
        spool.open(&dir.path().join("spool")).unwrap();
        (dir, Arc::new(spool))
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// Offsets and lengths of the pieces of `len` bytes, in order.
    fn cuts(len: usize, step: usize) -> Vec<std::ops::Range<usize>> {
        (0..len).step_by(step).map(|at| at..len.min(at + step)).collect()
    }

    async fn commit(file: &InTurn) -> Result<Metadata> {
        File::commit(file, &CommitOptions::default()).await
    }

    #[tokio::test]
    async fn any_order_is_put_in_order_and_nothing_stays_behind() {
        let (dir, spool) = spool(CAP);
        let data = Bytes::from(content(5_000_000));
        let mut backwards = cuts(data.len(), 32_000);
        backwards.reverse();
        let mut halves = cuts(data.len(), 50_001);
        halves.rotate_left(60);
        let mut odd = cuts(data.len(), 70_000);
        odd.sort_by_key(|r| (r.start / 70_000 % 2 == 0, r.start));
        for order in [cuts(data.len(), 100_000), backwards, halves, odd] {
            let far = Arc::new(Strict::default());
            let file = InTurn::new(Arc::clone(&far) as _, Arc::clone(&spool));
            let mut most = 0;
            for range in order {
                File::write_at(&file, range.start as u64, data.slice(range)).await.unwrap();
                let ahead = file.ahead.lock().await;
                assert!(ahead.held <= WINDOW);
                most = most.max(ahead.pieces.len());
                // Neighbours on the disk are one.
                assert!(ahead.pieces.values().filter(|p| matches!(p, Piece::Disk(_))).count() < 45);
            }
            assert_eq!(commit(&file).await.unwrap().size, data.len() as u64);
            assert!(*far.content.lock().unwrap() == data, "after at most {most} that waited");
            assert_eq!(spool.used.load(Ordering::Relaxed), 0);
        }
        assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_missing_comes_twice_or_is_too_much_is_refused() {
        let (_dir, spool) = spool(3 * BLOCK);
        let far = Arc::new(Strict::default());
        let file = InTurn::new(Arc::clone(&far) as _, Arc::clone(&spool));
        let write = |at: u64, len: usize| File::write_at(&file, at, Bytes::from(vec![1; len]));
        write(0, 10).await.unwrap();
        write(20, WINDOW).await.unwrap();
        assert_eq!(File::metadata(&file).await.unwrap().size, 20 + WINDOW as u64);
        for (at, len) in [(5, 1), (9, 20), (15, 6), (20, 1), (1000, 10), (19 + WINDOW as u64, 2)] {
            let e = write(at, len).await.unwrap_err();
            assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("twice"), "{at}: {e}");
        }
        let e = commit(&file).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("left out"), "{e}");
        let beyond = 20 + WINDOW as u64;
        write(beyond, 2 * BLOCK as usize).await.unwrap();
        let e = write(beyond + 3 * BLOCK, 2 * BLOCK as usize).await.unwrap_err();
        assert!(e.kind() == ErrorKind::NoSpace && e.to_string().contains("too much"), "{e}");
        // What was refused can come in its turn.
        write(10, 10).await.unwrap();
        assert_eq!(spool.used.load(Ordering::Relaxed), 0);
        write(beyond + 2 * BLOCK, BLOCK as usize).await.unwrap();
        write(u64::MAX, 1).await.unwrap_err();
        assert_eq!(commit(&file).await.unwrap().size, beyond + 3 * BLOCK);
        // What is given up leaves nothing.
        let file = InTurn::new(Arc::new(Strict::default()), Arc::clone(&spool));
        File::write_at(&file, 1, Bytes::from(vec![1; WINDOW])).await.unwrap();
        File::write_at(&file, 1 + WINDOW as u64, Bytes::from(vec![1; 10])).await.unwrap();
        assert_eq!(spool.used.load(Ordering::Relaxed), BLOCK);
        File::park(&file).await.unwrap();
        assert_eq!(spool.used.load(Ordering::Relaxed), 0);
        assert_eq!(
            File::write_at(&file, 1, Bytes::from_static(b"x")).await.unwrap_err().kind(),
            ErrorKind::Closed
        );
    }

    #[tokio::test]
    async fn what_failed_over_there_is_no_whole_file() {
        let (_dir, spool) = spool(CAP);
        let far = Strict { fails_at: Some(4), ..Strict::default() };
        let file = InTurn::new(Arc::new(far), spool);
        File::write_at(&file, 4, Bytes::from_static(b"late")).await.unwrap();
        let e = File::write_at(&file, 0, Bytes::from_static(b"soon")).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Disconnected);
        assert_eq!(commit(&file).await.unwrap_err().kind(), ErrorKind::Canceled);
        assert_eq!(
            File::write_at(&file, 8, Bytes::from_static(b"x")).await.unwrap_err().kind(),
            ErrorKind::Canceled
        );
    }

    #[test]
    fn a_former_run_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("spool");
        fs::create_dir(&at).unwrap();
        fs::write(at.join("left"), "x").unwrap();
        let spool = Spool::default();
        spool.open(&at).unwrap();
        assert!(!at.exists());
        spool.file().unwrap();
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    }
}
