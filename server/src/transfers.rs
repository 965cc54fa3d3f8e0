//! How much content accounts and groups have moved in their period, and whether they may move more.
//!
//! What a chunk needs is taken before it moves, from everybody who bounds it or from nobody, so that transfers
//! side by side cannot move more than is left; what a read did not get is given back. Near the end a read is
//! taken for no more than its file still has. What a client sent counts, whatever became of it.
//!
//! The counts are written every few seconds and at the end of the process: one that is killed forgets what moved
//! since. Servers that count together have parts of each limit ([`share`]): one that was killed has moved all of its
//! part, so that nothing is forgotten. Deliberately absent: periods in other zones than UTC.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::{Direction, OperationId, timestamp};
use session_core::intercept::{Cx, Interceptor};
use session_core::layers::quota::share::{Ask, Grant, Grants, Held, Holder, Share};
use session_core::operation::{Operation, OperationKind, OperationSet, Outcome, Record};
use session_core::session::{Session, SessionId};

use crate::config::{Config, Transfer, User};

const DAY: u64 = 86_400;

/// Reads under way above which those of sessions that are gone are looked for.
const UNDER_WAY: usize = 4096;

/// The days of the longest period.
const LONGEST: i64 = 31;

/// How often something is tried anew because others took what was granted.
const TRIES: u32 = 16;

/// What is counted: the words of keys.
const WHAT: [&str; 3] = ["upload", "download", "both"];

/// What somebody has moved, on this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    /// The first day of the period, since 1970-01-01.
    since: i64,
    upload: u64,
    download: u64,
    /// Both together, and what a process that was killed may have moved.
    #[serde(default)]
    both: u64,
    /// This server's parts, where several count together.
    #[serde(skip)]
    shares: [Share; 3],
    /// The limits when something was last taken.
    #[serde(skip)]
    limits: [u64; 3],
}

impl Moved {
    fn used(&self) -> [u64; 3] {
        [self.upload, self.download, self.both]
    }

    /// Counts what moves in a direction, by `change`.
    fn change(&mut self, direction: Direction, change: impl Fn(u64) -> u64) {
        let of = match direction {
            Direction::Download => &mut self.download,
            Direction::Upload => &mut self.upload,
        };
        *of = change(*of);
        self.both = change(self.both);
    }

    fn of(&mut self, what: usize) -> Option<&mut u64> {
        [&mut self.upload, &mut self.download, &mut self.both].into_iter().nth(what)
    }
}

/// Which limits hold for a direction.
fn limits_of(limits: &Transfer, direction: Direction) -> [u64; 3] {
    match direction {
        Direction::Download => [0, limits.download, limits.both],
        Direction::Upload => [limits.upload, 0, limits.both],
    }
}

/// Somebody, and how much may be moved.
type Bound = (Arc<str>, Transfer);

#[derive(Default)]
struct Book {
    moved: BTreeMap<String, Moved>,
    changed: bool,
}

/// The counts of a server.
#[derive(Default)]
pub(crate) struct Transfers {
    book: Mutex<Book>,
    /// Who counts for all servers, where there are several.
    grants: OnceLock<Arc<dyn Grants>>,
}

/// Why nothing was taken.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// This is left, on this server.
    Full(u64),
    /// These parts are too small.
    Short(Vec<Ask>),
}

/// When nothing of a period counts any more, whatever its length.
fn over(since: i64) -> Option<i64> {
    Some(since.saturating_add(LONGEST).saturating_mul(DAY.cast_signed()))
}

/// Which limit of whom, in which period; the same on every server.
fn key(what: usize, who: &str, since: i64) -> String {
    format!("{} of {who} since {since}", WHAT.get(what).unwrap_or(&""))
}

fn day_of(now: SystemTime) -> i64 {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds / DAY).unwrap_or(i64::MAX)
}

/// What is left of a limit, and whether there is one.
fn left(limit: u64, moved: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit.saturating_sub(moved) }
}

impl Transfers {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits hold over several servers from now on.
    pub(crate) fn count_together(&self, grants: Arc<dyn Grants>) {
        let _ = self.grants.set(grants);
    }

    /// Takes `bytes` from everybody, or from nobody, on this server.
    fn try_take(&self, bounds: &[Bound], direction: Direction, bytes: u64, day: i64) -> Result<(), Stop> {
        let mut book = self.book();
        let together = self.grants.get().is_some();
        let (mut room, mut short) = (u64::MAX, Vec::new());
        for (who, limits) in bounds {
            let moved = book.moved.entry((**who).to_owned()).or_default();
            let since = limits.period.start(day);
            if moved.since != since {
                *moved = Moved { since, ..Moved::default() };
            }
            moved.limits = [limits.upload, limits.download, limits.both];
            let of = limits_of(limits, direction).into_iter().zip(moved.used()).zip(moved.shares).enumerate();
            for (what, ((limit, used), share)) in of {
                room = room.min(left(limit, used));
                let need = used.saturating_add(bytes);
                if together && limit > 0 && need > share.may {
                    short.push(Ask { key: key(what, who, since), limit, used, need, until: over(since) });
                }
            }
        }
        if bytes > room {
            return Err(Stop::Full(room));
        }
        if !short.is_empty() {
            return Err(Stop::Short(short));
        }
        for (who, _) in bounds {
            if let Some(moved) = book.moved.get_mut(&**who) {
                moved.change(direction, |n| n.saturating_add(bytes));
            }
        }
        book.changed = true;
        Ok(())
    }

    /// Takes `bytes` from everybody, or from nobody. Errors: `QuotaExceeded`; nobody can be asked for a larger part.
    async fn take(&self, bounds: &[Bound], direction: Direction, bytes: u64, day: i64) -> Result<()> {
        for _ in 0..TRIES {
            let (asks, grants) = match (self.try_take(bounds, direction, bytes, day), self.grants.get()) {
                (Ok(()), _) => return Ok(()),
                (Err(Stop::Short(asks)), Some(grants)) => (asks, grants),
                (Err(_), _) => return Err(used_up()),
            };
            for ask in asks {
                let apply = |granted: Grant| self.granted(&ask.key, granted);
                if grants.ask(&ask, &apply).await?.may < ask.need {
                    return Err(used_up());
                }
            }
        }
        Err(used_up())
    }

    fn granted(&self, of: &str, granted: Grant) {
        let mut book = self.book();
        let parts = of.split_once(" of ").and_then(|(what, rest)| Some((what, rest.rsplit_once(" since ")?)));
        let Some((what, (who, since))) = parts else { return };
        let Some(what) = WHAT.iter().position(|w| *w == what) else { return };
        // Another period may have begun meanwhile.
        let moved = book.moved.get_mut(who).filter(|m| m.since.to_string() == since);
        let Some(moved) = moved else { return };
        let first = moved.shares.get(what).is_some_and(|s| !s.asked);
        if first && let Some(used) = moved.of(what) {
            // A process that was killed may have moved all of its part.
            *used = (*used).max(granted.had);
        }
        if let Some(share) = moved.shares.get_mut(what) {
            *share = Share { may: granted.may, elsewhere: granted.elsewhere, asked: true };
        }
        book.changed = true;
    }

    /// Counts what has moved already.
    fn add(&self, bounds: &[Bound], direction: Direction, bytes: u64) {
        let mut book = self.book();
        for (who, _) in bounds {
            if let Some(moved) = book.moved.get_mut(&**who) {
                moved.change(direction, |n| n.saturating_add(bytes));
            }
        }
    }

    /// Gives back what did not move; nothing where a new period has begun since `day`.
    fn give_back(&self, bounds: &[Bound], direction: Direction, bytes: u64, day: i64) {
        let mut book = self.book();
        for (who, limits) in bounds {
            if let Some(moved) = book.moved.get_mut(&**who).filter(|m| m.since == limits.period.start(day)) {
                moved.change(direction, |n| n.saturating_sub(bytes));
            }
        }
    }

    /// What was moved by whom, in their present periods.
    pub(crate) fn report(&self, users: &[(Arc<Config>, Arc<User>)], now: SystemTime) -> Value {
        let (book, day) = (self.book(), day_of(now));
        let mut all: BTreeMap<Arc<str>, Transfer> = BTreeMap::new();
        for (config, user) in users {
            all.extend(bounds_of(config, user));
        }
        let line = |(who, limits): (&Arc<str>, &Transfer)| {
            let since = limits.period.start(day);
            let moved = book.moved.get(&**who).copied().filter(|m| m.since == since).unwrap_or_default();
            let begun = UNIX_EPOCH + Duration::from_secs(u64::try_from(since).unwrap_or(0) * DAY);
            let [upload, download, both] = moved.shares.map(|share| share.elsewhere);
            json!({
                "who": &**who, "period": limits.period.name(), "since": timestamp(begun),
                "moved": { "upload": moved.upload, "download": moved.download, "both": moved.both },
                "elsewhere": { "upload": upload, "download": download, "both": both },
                "limits": { "upload": limits.upload, "download": limits.download, "both": limits.both },
            })
        };
        all.iter().map(line).collect::<Vec<_>>().into()
    }

    /// Takes what a former run left in `file`. Blocks. A file that is not understood is as good as none.
    pub(crate) fn load(&self, file: &Path) {
        let Ok(text) = std::fs::read(file) else { return };
        match serde_json::from_slice::<BTreeMap<String, Moved>>(&text) {
            Ok(mut moved) => {
                for m in moved.values_mut() {
                    m.both = m.both.max(m.upload.saturating_add(m.download));
                }
                self.book().moved = moved;
            }
            Err(e) => tracing::warn!(file = %file.display(), "counts of transfers are not understood: {e}"),
        }
    }

    /// Writes what has changed since the last time. Blocks. Errors: those of the disk.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let text = {
            let mut book = self.book();
            if !std::mem::take(&mut book.changed) {
                return Ok(());
            }
            serde_json::to_vec(&book.moved).map_err(|e| Error::from(std::io::Error::other(e)))?
        };
        let written = write(file, &text);
        if written.is_err() {
            self.book().changed = true;
        }
        written
    }
}

impl Holder for Transfers {
    fn give_back(&self, spare: &dyn Fn(u64) -> u64) -> Vec<Held> {
        let mut all = Vec::new();
        for (who, moved) in &mut self.book().moved {
            let (used, since, until) = (moved.used(), moved.since, over(moved.since));
            let each = moved.shares.iter_mut().zip(moved.limits).zip(used).enumerate();
            for (what, ((share, limit), used)) in each.filter(|(_, ((share, _), _))| share.asked) {
                share.may = share.may.min(used.saturating_add(spare(limit)));
                all.push(Held { key: key(what, who, since), until, used, may: share.may.max(used) });
            }
        }
        all
    }

    fn heard(&self, elsewhere: &[(String, u64)]) {
        if elsewhere.is_empty() {
            return;
        }
        let by_key: HashMap<&str, u64> = elsewhere.iter().map(|(key, used)| (key.as_str(), *used)).collect();
        for (who, moved) in &mut self.book().moved {
            let since = moved.since;
            for (what, share) in moved.shares.iter_mut().enumerate() {
                if let Some(used) = by_key.get(key(what, who, since).as_str()) {
                    share.elsewhere = *used;
                }
            }
        }
    }
}

fn write(file: &Path, text: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(text)?;
    out.sync_all()?;
    Ok(std::fs::rename(&new, file)?)
}

fn bounds_of(config: &Config, user: &User) -> Vec<Bound> {
    let of_user = (Arc::from(format!("user {} of {}", user.name, config.site)), user.transfer);
    let of_groups = user
        .total_transfers
        .iter()
        .map(|(group, limits)| (Arc::from(format!("group {group} of {}", config.site)), *limits));
    std::iter::once(of_user).chain(of_groups).filter(|(_, limits)| !limits.is_none()).collect()
}

/// A read that has taken its share.
struct Taken {
    session: Weak<Session>,
    bytes: u64,
    day: i64,
}

/// Counts the transfers of one session's user, and refuses what is too much.
pub(crate) struct Counted {
    transfers: Arc<Transfers>,
    bounds: Vec<Bound>,
    reads: Mutex<HashMap<(SessionId, OperationId), Taken>>,
}

impl Counted {
    /// `None` where nothing bounds the user.
    pub(crate) fn new(transfers: &Arc<Transfers>, config: &Config, user: &User) -> Option<Arc<Self>> {
        let bounds = bounds_of(config, user);
        let counted = Counted { transfers: Arc::clone(transfers), bounds, reads: Mutex::default() };
        (!counted.bounds.is_empty()).then(|| Arc::new(counted))
    }

    fn reads(&self) -> MutexGuard<'_, HashMap<(SessionId, OperationId), Taken>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn used_up() -> Error {
    Error::new(ErrorKind::QuotaExceeded).with_detail("as much was transferred as this account may for now")
}

#[async_trait]
impl Interceptor for Counted {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[OperationKind::Read, OperationKind::Write])
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        let day = day_of(cx.session.now());
        let take = |direction, bytes| self.transfers.take(&self.bounds, direction, bytes, day);
        match operation {
            Operation::Write(w) => take(Direction::Upload, w.len as u64).await,
            Operation::Read(r) => {
                let mut bytes = r.len as u64;
                if take(Direction::Download, bytes).await.is_err() {
                    // It asks for more than there may be in the file.
                    let size = cx.peek.stat(&r.path).await.map_err(|_| used_up())?.size;
                    bytes = bytes.min(size.saturating_sub(r.offset));
                    take(Direction::Download, bytes).await?;
                }
                let taken = Taken { session: Arc::downgrade(cx.session), bytes, day };
                let mut reads = self.reads();
                if reads.len() >= UNDER_WAY {
                    // A session that was cut in the middle of a read does not come back for it.
                    reads.retain(|_, t| t.session.upgrade().is_some_and(|s| !s.is_cut()));
                }
                reads.insert((cx.session.id().clone(), cx.id), taken);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn after(&self, cx: &Cx<'_>, record: &Record, outcome: &Outcome) {
        if !matches!(record, Record::Read(_)) {
            return;
        }
        let Some(taken) = self.reads().remove(&(cx.session.id().clone(), cx.id)) else { return };
        let got = outcome.result.as_ref().map_or(0, |done| done.bytes);
        // A file that grew meanwhile gives more than was taken for it: that counts, too.
        match got.checked_sub(taken.bytes) {
            Some(more) => self.transfers.add(&self.bounds, Direction::Download, more),
            None => {
                self.transfers.give_back(&self.bounds, Direction::Download, taken.bytes - got, taken.day);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Period;

    fn bound(who: &str, limits: Transfer) -> Bound {
        (who.into(), limits)
    }

    /// Without other servers.
    fn take(t: &Transfers, bounds: &[Bound], direction: Direction, bytes: u64, day: i64) -> Result<(), u64> {
        t.try_take(bounds, direction, bytes, day).map_err(|stop| match stop {
            Stop::Full(left) => left,
            Stop::Short(asks) => panic!("{asks:?}"),
        })
    }

    fn moved(t: &Transfers, who: &str) -> (u64, u64) {
        t.book().moved.get(who).map_or((0, 0), |m| (m.upload, m.download))
    }

    #[test]
    fn it_is_taken_from_all_or_from_none_and_begins_anew() {
        let t = Transfers::default();
        let month = Transfer { period: Period::Month, both: 100, ..Transfer::default() };
        let day = Transfer { download: 30, ..Transfer::default() };
        let bounds = [bound("user", day), bound("group", month)];
        // 2024-02-29 and the day after.
        let (last, first) = (19_782, 19_783);
        assert_eq!(take(&t, &bounds, Direction::Download, 20, last), Ok(()));
        assert_eq!(take(&t, &bounds, Direction::Download, 20, last), Err(10));
        assert_eq!((moved(&t, "user"), moved(&t, "group")), ((0, 20), (0, 20)));
        assert_eq!(take(&t, &bounds, Direction::Upload, 80, last), Ok(()));
        assert_eq!(take(&t, &bounds, Direction::Upload, 1, last), Err(0));
        t.give_back(&bounds, Direction::Download, 5, last);
        assert_eq!(take(&t, &bounds, Direction::Download, 5, last), Ok(()));
        assert_eq!(take(&t, &bounds, Direction::Download, 30, first), Ok(()));
        assert_eq!((moved(&t, "user"), moved(&t, "group")), ((0, 30), (0, 30)));
        // What was taken yesterday is not given back today.
        t.give_back(&bounds, Direction::Download, 5, last);
        assert_eq!(moved(&t, "user"), (0, 30));
    }

    #[test]
    fn side_by_side_no_more_moves_than_may() {
        let t = Transfers::default();
        let bounds = [bound("user", Transfer { both: 10_007, ..Transfer::default() })];
        let got: u64 = std::thread::scope(|scope| {
            let work = |n: u64| {
                let (t, bounds) = (&t, &bounds);
                scope.spawn(move || {
                    let direction = if n.is_multiple_of(2) { Direction::Upload } else { Direction::Download };
                    (0..1000).filter(|_| t.try_take(bounds, direction, 7, 0).is_ok()).count() as u64 * 7
                })
            };
            let threads: Vec<_> = (0..4).map(work).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(got, 10_003);
    }

    #[test]
    fn counts_survive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("transfers.json");
        let bounds = [bound("user", Transfer { both: 10, ..Transfer::default() })];
        let first = Transfers::default();
        first.save(&file).unwrap();
        assert!(!file.exists(), "nothing has changed");
        take(&first, &bounds, Direction::Upload, 9, 5).unwrap();
        first.save(&file).unwrap();
        let second = Transfers::default();
        second.load(&file);
        assert_eq!(take(&second, &bounds, Direction::Upload, 2, 5), Err(1));
        std::fs::write(&file, "not json").unwrap();
        Transfers::default().load(&file);
    }
}
