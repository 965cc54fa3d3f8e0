//! `LockTable`: who has asked that nobody else changes what, and `Locks`, which sees to it on every protocol.
//!
//! The model is WebDAV's write lock (RFC 4918, sections 6 and 7): it covers an entry, or an entry with all
//! below it; of a directory it also covers which entries are in it; it never keeps anybody from reading.
//! Whoever has it proves so with the token, and only the account that made it may. A protocol without tokens
//! can show none: its clients wait, those of the same account too.
//!
//! There is one table for a store, however many sites and accounts use it. A lock ends with its time, with
//! the session that made it, and with what it covers; a rename does not carry it along. Times and numbers
//! are bounded. Deliberately absent: locks that outlive the process, byte ranges, read locks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::intercept::{Cx, Interceptor};
use crate::operation::{Operation, OperationKind, OperationSet, Outcome, Record};
use crate::path::VPath;
use crate::session::Session;

/// Locks of one account in one store, at most.
pub const MAX_PER_ACCOUNT: usize = 1000;
/// Locks in one store, at most.
pub const MAX_LOCKS: usize = 20_000;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// Nobody else may have one.
    pub exclusive: bool,
    /// With all below it.
    pub deep: bool,
    /// The client's own words about who it is; shown to others.
    pub words: Arc<str>,
    /// For how long; `None` for as long as may be.
    pub time: Option<Duration>,
}

/// A lock as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// What proves that one has it: a URI, never given out twice.
    pub token: Arc<str>,
    /// What it was made for.
    pub root: VPath,
    /// Nobody else has one.
    pub exclusive: bool,
    /// It covers all below.
    pub deep: bool,
    /// The words of its maker.
    pub words: Arc<str>,
    /// The account that made it.
    pub account: Arc<str>,
    /// How long it still lasts.
    pub left: Duration,
}

struct Entry {
    lock: Lock,
    session: Weak<Session>,
    ends: Instant,
}

impl Entry {
    fn is_alive(&self, now: Instant) -> bool {
        self.ends > now && self.session.upgrade().is_some_and(|s| !s.is_cut())
    }

    fn show(&self, now: Instant) -> Lock {
        Lock { left: self.ends.saturating_duration_since(now), ..self.lock.clone() }
    }
}

/// The locks of one store.
#[derive(Default)]
pub struct LockTable {
    /// By what they were made for.
    locks: Mutex<BTreeMap<VPath, Vec<Entry>>>,
}

type Table<'a> = MutexGuard<'a, BTreeMap<VPath, Vec<Entry>>>;

/// The path and all above it.
fn upwards(path: &VPath) -> impl Iterator<Item = VPath> {
    std::iter::successors(Some(path.clone()), VPath::parent)
}

impl LockTable {
    fn table(&self) -> Table<'_> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that cover `path`: made for it, or deep and made for something above.
    pub fn covering(&self, path: &VPath) -> Vec<Lock> {
        let (table, now) = (self.table(), Instant::now());
        if table.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        for at in upwards(path) {
            let here = table.get(&at).into_iter().flatten();
            let here = here.filter(|e| e.is_alive(now) && (e.lock.deep || at == *path));
            out.extend(here.map(|e| e.show(now)));
        }
        out
    }

    /// Those made for something below `path`.
    pub fn below(&self, path: &VPath) -> Vec<Lock> {
        let (table, now) = (self.table(), Instant::now());
        let after =
            table.range(path.clone()..).take_while(|(at, _)| at.as_bytes().starts_with(path.as_bytes()));
        let below = after.filter(|(at, _)| at.starts_with(path) && *at != path);
        below.flat_map(|(_, all)| all).filter(|e| e.is_alive(now)).map(|e| e.show(now)).collect()
    }

    /// Whether there is none at all: then nothing needs a look.
    fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    fn add(&self, session: &Arc<Session>, lock: Lock) -> Result<Lock> {
        let now = Instant::now();
        let mut table = self.table();
        table.retain(|_, all| {
            all.retain(|e| e.is_alive(now));
            !all.is_empty()
        });
        let clash = |e: &Entry, at: &VPath| {
            let meets = *at == lock.root
                || (e.lock.deep && lock.root.starts_with(at))
                || (lock.deep && at.starts_with(&lock.root));
            meets && (lock.exclusive || e.lock.exclusive)
        };
        if table.iter().any(|(at, all)| all.iter().any(|e| clash(e, at))) {
            return Err(Error::new(ErrorKind::Locked));
        }
        let all = table.values().flatten();
        let (count, own) =
            all.fold((0, 0), |(n, own), e| (n + 1, own + usize::from(e.lock.account == lock.account)));
        if count >= MAX_LOCKS || own >= MAX_PER_ACCOUNT {
            return Err(
                Error::new(ErrorKind::Throttled).with_detail("there are as many locks as there may be")
            );
        }
        let entry = Entry { ends: now + lock.left, session: Arc::downgrade(session), lock: lock.clone() };
        table.entry(lock.root.clone()).or_default().push(entry);
        Ok(lock)
    }

    /// Runs `act` on the lock with this token that covers `path` and belongs to `account`.
    fn find<T>(
        &self,
        path: &VPath,
        token: &str,
        account: &str,
        act: impl FnOnce(&mut Vec<Entry>, usize, Instant) -> T,
    ) -> Result<T> {
        let now = Instant::now();
        let mut table = self.table();
        for at in upwards(path) {
            let Some(all) = table.get_mut(&at) else { continue };
            let is_it = |e: &Entry| {
                *e.lock.token == *token
                    && *e.lock.account == *account
                    && (e.lock.deep || at == *path)
                    && e.is_alive(now)
            };
            if let Some(n) = all.iter().position(is_it) {
                let done = act(all, n, now);
                if all.is_empty() {
                    table.remove(&at);
                }
                return Ok(done);
            }
        }
        Err(Error::new(ErrorKind::PreconditionFailed).with_detail("there is no such lock here"))
    }

    /// What is gone has no locks.
    fn forget(&self, path: &VPath) {
        let mut table = self.table();
        if !table.is_empty() {
            table.retain(|at, _| !at.starts_with(path));
        }
    }
}

/// The interceptor of one login.
pub struct Locks {
    table: Arc<LockTable>,
    account: Arc<str>,
    longest: Duration,
}

impl Locks {
    /// Locks in `table`, made by `account` (a name that no other account of the store has), of which none is
    /// given for more than `longest` at a time.
    pub fn new(table: Arc<LockTable>, account: impl Into<Arc<str>>, longest: Duration) -> Arc<Self> {
        Arc::new(Locks { table, account: account.into(), longest })
    }

    pub(crate) fn table(&self) -> &LockTable {
        &self.table
    }

    fn time(&self, asked: Option<Duration>) -> Duration {
        asked.unwrap_or(self.longest).min(self.longest).max(Duration::from_secs(1))
    }

    pub(crate) fn lock(&self, session: &Arc<Session>, path: &VPath, request: &LockRequest) -> Result<Lock> {
        let token = format!("urn:uuid:{}", uuid::Uuid::now_v7().hyphenated());
        self.table.add(
            session,
            Lock {
                token: token.into(),
                root: path.clone(),
                exclusive: request.exclusive,
                deep: request.deep,
                words: Arc::clone(&request.words),
                account: Arc::clone(&self.account),
                left: self.time(request.time),
            },
        )
    }

    pub(crate) fn refresh(&self, path: &VPath, token: &str, time: Option<Duration>) -> Result<Lock> {
        let time = self.time(time);
        let found = self.table.find(path, token, &self.account, |all, n, now| {
            all.get_mut(n).map(|e| {
                e.ends = now + time;
                e.show(now)
            })
        })?;
        found.ok_or_else(|| ErrorKind::Internal.into())
    }

    pub(crate) fn unlock(&self, path: &VPath, token: &str) -> Result<()> {
        self.table.find(path, token, &self.account, |all, n, _| drop(all.remove(n)))
    }

    /// Whether the client has one of these: each is exclusive and alone, or all are shared.
    fn opens(&self, tokens: &[Arc<str>], locks: &[Lock]) -> bool {
        locks.is_empty() || locks.iter().any(|l| *l.account == *self.account && tokens.contains(&l.token))
    }

    fn need(&self, cx: &Cx<'_>, locks: &[Lock]) -> Result<()> {
        if self.opens(cx.tokens, locks) { Ok(()) } else { Err(Error::new(ErrorKind::Locked)) }
    }

    /// The locks of everything that changes with a tree, its name among them: of each group one must be had.
    fn groups_of_tree(&self, path: &VPath) -> Vec<Vec<Lock>> {
        let mut groups = vec![self.table.covering(path)];
        groups.extend(path.parent().map(|dir| self.table.covering(&dir)));
        let mut by_root: BTreeMap<VPath, Vec<Lock>> = BTreeMap::new();
        for lock in self.table.below(path) {
            by_root.entry(lock.root.clone()).or_default().push(lock);
        }
        groups.extend(by_root.into_values());
        groups
    }

    /// Those that keep the client of these tokens from changing a tree, in the order of their paths.
    pub(crate) fn against(&self, tokens: &[Arc<str>], path: &VPath) -> Vec<Lock> {
        let groups = self.groups_of_tree(path).into_iter().filter(|group| !self.opens(tokens, group));
        let mut locks: Vec<Lock> = groups.flatten().collect();
        locks.sort_by(|a, b| (&a.root, &a.token).cmp(&(&b.root, &b.token)));
        locks.dedup_by(|a, b| a.token == b.token);
        locks
    }

    /// The entry itself changes.
    fn need_entry(&self, cx: &Cx<'_>, path: &VPath) -> Result<()> {
        self.need(cx, &self.table.covering(path))
    }

    /// A name comes or goes: that changes the directory, too.
    fn need_name(&self, cx: &Cx<'_>, path: &VPath) -> Result<()> {
        self.need_entry(cx, path)?;
        path.parent().map_or(Ok(()), |dir| self.need_entry(cx, &dir))
    }

    /// All of a tree changes.
    fn need_tree(&self, cx: &Cx<'_>, path: &VPath) -> Result<()> {
        self.groups_of_tree(path).iter().try_for_each(|locks| self.need(cx, locks))
    }

    /// Content is put at a name that may be new.
    async fn need_to_put(&self, cx: &Cx<'_>, path: &VPath) -> Result<()> {
        self.need_entry(cx, path)?;
        let above = path.parent().map(|dir| self.table.covering(&dir)).unwrap_or_default();
        if self.need(cx, &above).is_err() && cx.peek.stat(path).await.is_err() {
            return Err(Error::new(ErrorKind::Locked));
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Locks {
    fn interests(&self) -> OperationSet {
        OperationSet::of(&[
            OperationKind::Commit,
            OperationKind::Copy,
            OperationKind::CreateDir,
            OperationKind::HardLink,
            OperationKind::Open,
            OperationKind::RemoveDir,
            OperationKind::RemoveFile,
            OperationKind::Rename,
            OperationKind::SetAttributes,
            OperationKind::Symlink,
        ])
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if self.table.is_empty() {
            return Ok(());
        }
        match operation {
            // It may have been locked since it was opened.
            Operation::Commit(r) => self.need_entry(cx, &r.path),
            Operation::Copy(r) => self.need_to_put(cx, &r.to).await,
            Operation::CreateDir(r) => self.need_name(cx, &r.path),
            Operation::HardLink(r) => self.need_name(cx, &r.to),
            Operation::Open(r) if r.options.write => self.need_to_put(cx, &r.path).await,
            Operation::RemoveDir(r) => self.need_tree(cx, &r.path),
            Operation::RemoveFile(r) => self.need_name(cx, &r.path),
            Operation::Rename(r) => {
                self.need_tree(cx, &r.from)?;
                self.need_tree(cx, &r.to)
            }
            Operation::SetAttributes(r) => self.need_entry(cx, &r.path),
            Operation::Symlink(r) => self.need_name(cx, &r.path),
            _ => Ok(()),
        }
    }

    fn after(&self, _: &Cx<'_>, record: &Record, outcome: &Outcome) {
        if outcome.result.is_err() {
            return;
        }
        match record {
            Record::RemoveDir(r) => self.table.forget(&r.path),
            Record::RemoveFile(r) => self.table.forget(&r.path),
            Record::Rename(r) => self.table.forget(&r.from),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
