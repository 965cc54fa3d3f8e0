//! Progress of a batch, counted without locks on the data path.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use session_core::batch::Progress;

/// Counts what a batch has done; shared with whoever draws it.
pub struct Tracker {
    began: Instant,
    files_done: AtomicU64,
    files_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    scanning: AtomicBool,
    current: Mutex<Vec<Weak<Item>>>,
    window: Mutex<Window>,
}

/// The rate over the last seconds.
#[derive(Default)]
struct Window {
    samples: std::collections::VecDeque<(Instant, u64)>,
}

/// One file in work.
pub(crate) struct Item {
    name: Arc<str>,
    done: AtomicU64,
    sent: AtomicU64,
    furthest: AtomicU64,
    total: u64,
    tracker: Arc<Tracker>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tracker {
    /// A tracker at zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Tracker {
            began: Instant::now(),
            files_done: AtomicU64::new(0),
            files_total: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            scanning: AtomicBool::new(true),
            current: Mutex::default(),
            window: Mutex::default(),
        })
    }

    pub(super) fn found(&self, bytes: u64) {
        self.files_total.fetch_add(1, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file of this size is in place already.
    pub(crate) fn was_there(&self, bytes: u64) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn scanned(&self) {
        self.scanning.store(false, Ordering::Relaxed);
    }

    pub(super) fn begin(self: &Arc<Self>, name: String, total: u64) -> Arc<Item> {
        let item = Arc::new(Item {
            name: name.into(),
            done: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            furthest: AtomicU64::new(0),
            total,
            tracker: Arc::clone(self),
        });
        let mut current = lock(&self.current);
        current.retain(|w| w.strong_count() > 0);
        current.push(Arc::downgrade(&item));
        item
    }

    /// How far the batch is now; the rate is that of the last five seconds between calls.
    pub fn progress(&self) -> Progress {
        let bytes_done = self.bytes_done.load(Ordering::Relaxed);
        let now = Instant::now();
        let mut window = lock(&self.window);
        window.samples.push_back((now, bytes_done));
        while window.samples.len() > 2
            && window.samples.front().is_some_and(|(t, _)| now.duration_since(*t).as_secs_f64() > 5.0)
        {
            window.samples.pop_front();
        }
        let first = window.samples.front().copied().filter(|(t, _)| *t < now);
        let (since, from) = first.unwrap_or((self.began, 0));
        let seconds = now.duration_since(since).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = if seconds > 0.0 { bytes_done.saturating_sub(from) as f64 / seconds } else { 0.0 };
        Progress {
            files_done: self.files_done.load(Ordering::Relaxed),
            files_total: self.files_total.load(Ordering::Relaxed),
            bytes_done,
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
            scanning: self.scanning.load(Ordering::Relaxed),
            current: lock(&self.current)
                .iter()
                .filter_map(Weak::upgrade)
                .map(|i| (Arc::clone(&i.name), i.done.load(Ordering::Relaxed), i.total))
                .collect(),
            rate,
            elapsed: self.began.elapsed(),
        }
    }
}

impl Item {
    /// Work begins, or begins again, at this offset.
    pub(super) fn at(&self, offset: u64) {
        let before = self.done.swap(offset, Ordering::Relaxed);
        // Modulo 2^64, so that a step back is a step like any other.
        self.tracker.bytes_done.fetch_add(offset.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Bytes that crossed so far, those that crossed twice counted twice.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// So many of the bytes that were moved did not cross: the target had them.
    pub(super) fn spared(&self, bytes: u64) {
        let _ =
            self.sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(bytes)));
    }

    /// How far it ever came: what is sent again is no progress.
    pub(super) fn furthest(&self) -> u64 {
        self.furthest.load(Ordering::Relaxed)
    }

    pub(crate) fn moved(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.furthest.fetch_max(done, Ordering::Relaxed);
        self.tracker.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.tracker.files_done.fetch_add(1, Ordering::Relaxed);
    }
}
