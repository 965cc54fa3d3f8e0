//! `Limiter`: bytes per second over all files of one batch, or of several that share it; and the pause.
//!
//! One account of time, paid in the order of asking. A file asks for one chunk at a time, so files take
//! turns and a large one does not keep small ones out. A chunk passes whole and the next one waits until it
//! is paid for. The rate may be changed while it is in use, by hand or by a timetable: who waits already
//! waits by the new one. While it is paused nothing passes; what had passed before arrives.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Zoned;
use session_core::batch::Timetable;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How far ahead of its rate it may run after a rest.
const BURST: Duration = Duration::from_millis(250);

/// The timetable is looked at that often at least: clocks are set, and machines sleep.
const LOOK: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub struct Limiter {
    rate: AtomicU64,
    paused: AtomicBool,
    /// There is a timetable.
    scheduled: AtomicBool,
    schedule: Mutex<Option<Schedule>>,
    paid_until: Mutex<Option<Instant>>,
    changed: Notify,
}

#[derive(Debug)]
struct Schedule {
    table: Timetable,
    /// When it is looked at again.
    look: Option<Instant>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limiter {
    /// At most `bytes_per_second`; 0 is no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Limiter { rate: AtomicU64::new(bytes_per_second), ..Limiter::default() }
    }

    /// What a timetable says for the time that it is.
    pub fn scheduled(table: Timetable) -> Self {
        let limiter = Limiter::default();
        *lock(&limiter.schedule) = Some(Schedule { table, look: None });
        limiter.scheduled.store(true, Ordering::Relaxed);
        limiter.look(Instant::now(), Zoned::now);
        limiter
    }

    /// As options say.
    pub fn of(options: &session_core::batch::TransferOptions) -> Self {
        match &options.timetable {
            Some(table) => Self::scheduled(table.clone()),
            None => Self::new(options.limit),
        }
    }

    /// The rate, bytes per second; 0 is no limit.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Changes the rate, also for who waits already. A timetable ends with that.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.scheduled.store(false, Ordering::Relaxed);
        *lock(&self.schedule) = None;
        self.change(bytes_per_second);
    }

    /// Lets nothing pass any more, or again.
    pub fn pause(&self, yes: bool) {
        if self.paused.swap(yes, Ordering::Relaxed) != yes {
            *lock(&self.paid_until) = None;
            self.changed.notify_waiters();
        }
    }

    /// Whether nothing passes.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Waits for the end of a pause.
    pub(crate) async fn unpaused(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_paused() {
                return;
            }
            changed.await;
        }
    }

    /// Whether everything passes at once.
    pub(super) fn is_open(&self) -> bool {
        self.rate() == 0 && !self.is_paused() && !self.scheduled.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` may move. Dropped while it waits, the bytes stay paid for.
    pub(super) async fn pass(&self, bytes: usize) {
        loop {
            let now = Instant::now();
            // What this changes itself is no news.
            let look = self.look(now, Zoned::now);
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_paused() {
                changed.await;
                continue;
            }
            let Some(start) = self.take(bytes, now) else { return };
            let look = look.filter(|look| *look < start);
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(look.unwrap_or(start)) => {
                    if look.is_none() {
                        return;
                    }
                    self.give_back(bytes);
                }
            }
        }
    }

    /// The length of a chunk under this limit: small enough that waiting is smooth.
    pub(super) fn chunk(&self, most: usize) -> usize {
        match self.rate() {
            0 => most,
            rate => usize::try_from(rate / 8).unwrap_or(most).clamp(4096, most),
        }
    }

    fn change(&self, bytes_per_second: u64) {
        if self.rate.swap(bytes_per_second, Ordering::Relaxed) != bytes_per_second {
            *lock(&self.paid_until) = None;
            self.changed.notify_waiters();
        }
    }

    /// Looks at the timetable where it is time to, and says when it is next.
    fn look(&self, now: Instant, wall: impl FnOnce() -> Zoned) -> Option<Instant> {
        if !self.scheduled.load(Ordering::Relaxed) {
            return None;
        }
        let mut schedule = lock(&self.schedule);
        let schedule = schedule.as_mut()?;
        if let Some(look) = schedule.look.filter(|look| now < *look) {
            return Some(look);
        }
        let wall = wall();
        let day = u16::try_from(wall.weekday().to_monday_zero_offset()).unwrap_or(0);
        let (hour, minute, second) = (wall.hour(), wall.minute(), wall.second());
        let part = |n: i8| u16::try_from(n).unwrap_or(0);
        let minute = (day * 24 + part(hour)) * 60 + part(minute);
        let rest = u64::from(schedule.table.next(minute)) * 60 - u64::from(part(second)).min(59);
        let look = now + Duration::from_secs(rest).min(LOOK);
        schedule.look = Some(look);
        let rate = schedule.table.at(minute);
        self.change(rate);
        Some(look)
    }

    fn take(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let cost = self.cost(bytes)?;
        let mut paid = lock(&self.paid_until);
        let floor = now.checked_sub(BURST).unwrap_or(now);
        let start = paid.map_or(floor, |p| p.max(floor));
        *paid = Some(start + cost);
        Some(start)
    }

    /// Bytes that were paid for and did not move.
    fn give_back(&self, bytes: usize) {
        let Some(cost) = self.cost(bytes) else { return };
        let mut paid = lock(&self.paid_until);
        *paid = paid.and_then(|p| p.checked_sub(cost));
    }

    /// `None` where nothing costs anything.
    fn cost(&self, bytes: usize) -> Option<Duration> {
        let rate = self.rate();
        #[allow(clippy::cast_precision_loss, reason = "a duration")]
        (rate > 0).then(|| Duration::from_secs_f64((bytes as f64 / rate as f64).min(86_400.0)))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    #[test]
    fn grants_the_rate_in_the_order_of_asking() {
        let limiter = Limiter::new(1000);
        let now = Instant::now();
        let starts: Vec<_> = (0..10).filter_map(|_| limiter.take(1000, now)).collect();
        assert_eq!(starts[9] - starts[0], Duration::from_secs(9));
        assert!(starts.windows(2).all(|w| w[0] < w[1]));
        // After a rest only the burst is saved up.
        let later = now + Duration::from_secs(3600);
        assert_eq!(limiter.take(1, later), Some(later - BURST));
        limiter.set_rate(0);
        assert_eq!(limiter.take(1 << 40, later), None);
    }

    #[test]
    fn chunks_fit_the_rate() {
        assert_eq!(Limiter::new(0).chunk(100_000), 100_000);
        assert_eq!(Limiter::new(80_000).chunk(100_000), 10_000);
        assert_eq!(Limiter::new(1).chunk(100_000), 4096);
    }

    /// Whether it still waits.
    async fn waits(pass: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *pass).poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn who_waits_already_waits_by_the_new_rate() {
        let limiter = Limiter::new(1);
        limiter.pass(3600).await;
        let mut one = Box::pin(limiter.pass(1000));
        assert!(waits(&mut one).await);
        limiter.set_rate(1 << 40);
        one.await;
        limiter.set_rate(1);
        limiter.pass(3600).await;
        let mut one = Box::pin(limiter.pass(1));
        let mut other = Box::pin(limiter.pass(1));
        assert!(waits(&mut one).await && waits(&mut other).await);
        limiter.set_rate(0);
        one.await;
        other.await;
        assert!(limiter.is_open());
    }

    #[tokio::test]
    async fn nothing_passes_in_a_pause() {
        let limiter = Limiter::new(0);
        assert!(limiter.is_open());
        limiter.pause(true);
        assert!(!limiter.is_open() && limiter.is_paused());
        let mut one = Box::pin(limiter.pass(1));
        let mut other = Box::pin(limiter.unpaused());
        // Whatever the rate is.
        for rate in [0, 1 << 40, 0] {
            limiter.set_rate(rate);
            assert!(waits(&mut one).await && waits(&mut other).await);
        }
        limiter.pause(false);
        one.await;
        other.await;
    }

    #[test]
    fn what_did_not_move_is_not_paid_for() {
        let limiter = Limiter::new(10);
        let now = Instant::now();
        limiter.take(1000, now);
        let start = limiter.take(10, now);
        limiter.give_back(10);
        assert_eq!(limiter.take(10, now), start);
    }

    #[test]
    fn a_timetable_changes_the_rate_when_its_time_comes() {
        let limiter = Limiter::scheduled(Timetable::parse("08:00,1000 18:00,off").unwrap());
        let at = |text: &str| text.parse::<Zoned>().unwrap();
        let now = Instant::now();
        *lock(&limiter.schedule) =
            Some(Schedule { table: Timetable::parse("08:00,1000 18:00,off").unwrap(), look: None });
        let next = limiter.look(now, || at("2026-11-21T17:59:50+01:00[Europe/Berlin]"));
        assert_eq!((limiter.rate(), next), (1000, Some(now + Duration::from_secs(10))));
        // Not before its time, whatever the wall says.
        limiter.look(now + Duration::from_secs(9), || at("2026-11-21T18:00:00+01:00[Europe/Berlin]"));
        assert_eq!(limiter.rate(), 1000);
        let then = now + Duration::from_secs(10);
        let next = limiter.look(then, || at("2026-11-21T18:00:00+01:00[Europe/Berlin]"));
        assert_eq!((limiter.rate(), next), (0, Some(then + LOOK)));
        assert!(!limiter.is_open(), "the next entry must be noticed");
        limiter.set_rate(7);
        assert_eq!((limiter.rate(), limiter.look(then + LOOK * 2, Zoned::now)), (7, None));
    }
}
