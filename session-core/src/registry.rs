//! `SessionRegistry`: the live table. The list is the truth at any instant.
//!
//! A session enters when it is opened and leaves in the moment it is cut, on every way out; limits are
//! counted in the same table under the same lock, so they cannot drift from it. Not global: each server
//! has its own.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::session::{Ending, Session, SessionId, Setup, Terminated};

/// How long `terminate` waits for quiet.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How many sessions there may be; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// In all.
    pub total: usize,
    /// Of one client address.
    pub per_address: usize,
    /// Of one account, logged in.
    pub per_user: usize,
    /// Not logged in yet.
    pub unauthenticated: usize,
}

#[derive(Default)]
struct Table {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    users: HashMap<SessionId, Arc<str>>,
    caps: Caps,
}

/// The live sessions of one server.
#[derive(Default)]
pub struct SessionRegistry {
    table: Mutex<Table>,
}

impl SessionRegistry {
    /// An empty table with these limits.
    pub fn new(caps: Caps) -> Arc<Self> {
        let registry = SessionRegistry::default();
        registry.lock().caps = caps;
        Arc::new(registry)
    }

    /// Changes the limits; sessions that are there stay.
    pub fn set_caps(&self, caps: Caps) {
        self.lock().caps = caps;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session and enters it. Errors: `Throttled` when a limit is reached.
    pub fn open(self: &Arc<Self>, setup: Setup) -> Result<Arc<Session>> {
        let address: Option<IpAddr> = setup.peer.map(|p| p.ip().to_canonical());
        let mut table = self.lock();
        let full = |n: usize, cap: usize| cap != 0 && n >= cap;
        let Caps { total, per_address, unauthenticated, .. } = table.caps;
        if full(table.sessions.len(), total) {
            return Err(too_many("this server has as many sessions as it may"));
        }
        if full(table.sessions.len() - table.users.len(), unauthenticated) {
            return Err(too_many("too many connections are logging in"));
        }
        if per_address != 0
            && let Some(a) = address
        {
            let n = table.sessions.values().filter(|s| s.peer_address() == Some(a)).count();
            if n >= per_address {
                return Err(too_many("too many sessions from this address"));
            }
        }
        let session = Session::registered(setup, Arc::downgrade(self));
        table.sessions.insert(session.id().clone(), Arc::clone(&session));
        Ok(session)
    }

    /// Counts a login. Errors: `Throttled` when the account has as many sessions as it may.
    pub(crate) fn claim(&self, id: &SessionId, user: &Arc<str>) -> Result<()> {
        let mut table = self.lock();
        if !table.sessions.contains_key(id) {
            return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"));
        }
        let n = table.users.values().filter(|u| *u == user).count();
        if table.caps.per_user != 0 && n >= table.caps.per_user {
            return Err(too_many("this account has as many sessions as it may"));
        }
        table.users.insert(id.clone(), Arc::clone(user));
        Ok(())
    }

    pub(crate) fn remove(&self, id: &SessionId) {
        let mut table = self.lock();
        table.sessions.remove(id);
        table.users.remove(id);
    }

    /// The live sessions, oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session of this id, or of the only id that begins with it.
    pub fn find(&self, id: &str) -> Option<Arc<Session>> {
        let table = self.lock();
        let key = SessionId::from(id);
        if let Some(s) = table.sessions.get(&key) {
            return Some(Arc::clone(s));
        }
        let mut matching =
            table.sessions.range(key..).take_while(|(k, _)| !id.is_empty() && k.as_str().starts_with(id));
        match (matching.next(), matching.next()) {
            (Some((_, s)), None) => Some(Arc::clone(s)),
            _ => None,
        }
    }

    /// Ends a session in any state; returns when it is quiet, or after [`PATIENCE`] with what is still
    /// in flight. Errors: `NotFound`.
    pub async fn terminate(&self, id: &str, ending: Ending) -> Result<Terminated> {
        let session = self
            .find(id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound).with_detail(format!("no live session '{id}'")))?;
        Ok(session.terminate(ending, PATIENCE).await)
    }
}

fn too_many(words: &'static str) -> Error {
    Error::new(ErrorKind::Throttled).with_detail(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Account;
    use crate::session::{Actor, Protocol};
    use std::collections::BTreeSet;

    fn setup(port: u16) -> Setup {
        let mut setup = Setup::new(Protocol::Sftp, "site");
        setup.peer = Some(([127, 0, 0, 1], port).into());
        setup
    }

    fn ending() -> Ending {
        Ending::new("test", Actor::Server)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_list_is_the_truth_under_churn() {
        let registry = SessionRegistry::new(Caps::default());
        let mut tasks = Vec::new();
        for t in 0..8u16 {
            let registry = Arc::clone(&registry);
            tasks.push(tokio::spawn(async move {
                let mut mine = Vec::new();
                for n in 0..400u16 {
                    let s = registry.open(setup(t)).unwrap();
                    assert!(registry.find(s.id().as_str()).is_some(), "open and not listed");
                    match n % 4 {
                        0 => s.close(ending()).await,
                        1 => {
                            registry.terminate(s.id().as_str(), ending()).await.unwrap();
                        }
                        2 => {
                            s.log_in(Account::named("u"), vec![]).unwrap();
                            let (a, b) = (Arc::clone(&s), Arc::clone(&s));
                            let (_, cut) = tokio::join!(async move { a.close(ending()).await }, async move {
                                b.cut(ending())
                            });
                            let _ = cut;
                        }
                        _ => {
                            mine.push(s);
                            continue;
                        }
                    }
                    assert!(registry.find(s.id().as_str()).is_none(), "ended and still listed");
                }
                mine
            }));
        }
        let mut alive = BTreeSet::new();
        for t in tasks {
            alive.extend(t.await.unwrap().into_iter().map(|s| s.id().clone()));
        }
        let listed: BTreeSet<_> = registry.list().iter().map(|s| s.id().clone()).collect();
        assert_eq!(listed, alive);
    }

    #[tokio::test]
    async fn limits_count_exactly_and_free_their_slots() {
        let registry =
            SessionRegistry::new(Caps { total: 3, per_address: 2, per_user: 1, unauthenticated: 2 });
        let a = registry.open(setup(1)).unwrap();
        let b = registry.open(setup(2)).unwrap();
        assert_eq!(registry.open(setup(3)).err().unwrap().kind(), ErrorKind::Throttled);
        a.log_in(Account::named("u"), vec![]).unwrap();
        assert_eq!(b.log_in(Account::named("u"), vec![]).err().unwrap().kind(), ErrorKind::Throttled);
        a.close(ending()).await;
        b.log_in(Account::named("u"), vec![]).unwrap();
        assert!(registry.open(setup(3)).is_ok());
    }

    #[tokio::test]
    async fn finds_by_the_beginning_of_an_id_only_if_it_is_unique() {
        let registry = SessionRegistry::new(Caps::default());
        let a = registry.open(setup(1)).unwrap();
        assert!(registry.find(a.id().as_str()).is_some());
        assert!(registry.find(&a.id().as_str()[..31]).is_some());
        assert!(registry.find("").is_none());
        let _b = registry.open(setup(1)).unwrap();
        assert!(registry.find(&a.id().as_str()[..2]).is_none());
    }
}
