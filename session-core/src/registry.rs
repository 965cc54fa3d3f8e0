//! `SessionRegistry`: the live table, and for a while what was in it. The list is the truth at any instant.
//!
//! A session enters when it is opened and leaves in the moment it is cut, on every way out; limits are
//! counted in the same table under the same lock, so they cannot drift from it. There are limits of the
//! server and of each site; accounts of two sites are two, whatever their names. Not global: each server
//! has its own; where several count together, each is told what the others have ([`Counts`]), and the limits of an
//! address, a network and an account hold for all of it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};
use crate::history::{Ended, History, HistoryBounds};
use crate::reason::Reason;
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
    /// Of one network of clients; see [`network`].
    pub per_network: usize,
    /// Of one account, logged in.
    pub per_user: usize,
    /// Not logged in yet.
    pub unauthenticated: usize,
}

/// The network that an address counts for: the 24 bits before it, of IPv6 the 64 that one customer has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(a) => {
            let [x, y, z, _] = a.octets();
            IpAddr::from([x, y, z, 0])
        }
        IpAddr::V6(a) => {
            let [x, y, z, w, ..] = a.segments();
            IpAddr::from([x, y, z, w, 0, 0, 0, 0])
        }
    }
}

/// How many sessions there are, by what limits count that hold over several servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// By site and client address.
    pub addresses: BTreeMap<String, BTreeMap<IpAddr, usize>>,
    /// By site and account, those that are logged in.
    pub users: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Counts {
    /// Counts what another server has as well.
    pub fn add(&mut self, other: Counts) {
        for (site, addresses) in other.addresses {
            let here = self.addresses.entry(site).or_default();
            for (address, n) in addresses {
                let count = here.entry(address).or_default();
                *count = count.saturating_add(n);
            }
        }
        for (site, users) in other.users {
            let here = self.users.entry(site).or_default();
            for (user, n) in users {
                let count = here.entry(user).or_default();
                *count = count.saturating_add(n);
            }
        }
    }

    /// By address, at a site or at all of them.
    fn at(&self, site: Option<&str>) -> impl Iterator<Item = &BTreeMap<IpAddr, usize>> {
        self.addresses.iter().filter(move |(name, _)| site.is_none_or(|s| s == *name)).map(|(_, all)| all)
    }

    /// How many come from an address.
    fn near(&self, site: Option<&str>, address: IpAddr) -> usize {
        self.at(site).filter_map(|all| all.get(&address)).fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// How many come from its network.
    fn around(&self, site: Option<&str>, address: IpAddr) -> usize {
        let wanted = network(address);
        let all = self.at(site).flatten().filter(|(a, _)| network(**a) == wanted);
        all.fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }

    fn of_user(&self, site: &str, user: &str) -> usize {
        self.users.get(site).and_then(|users| users.get(user)).copied().unwrap_or(0)
    }
}

/// How far a limit is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Of this site; `None` is the whole server.
    pub site: Option<Arc<str>>,
    /// `sessions`, `unauthenticated`, `per_address`, `per_network` or `per_user`.
    pub limit: &'static str,
    /// How many count now; of the last three, for the address, network or account that has the most.
    pub used: usize,
    /// How many may; 0 means no limit.
    pub max: usize,
}

/// The content of all sessions of a site that speak one protocol, those that are over among them, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The site.
    pub site: Arc<str>,
    /// What is spoken.
    pub protocol: &'static str,
    /// From clients.
    pub uploaded: u64,
    /// To clients.
    pub downloaded: u64,
}

struct Entry {
    session: Arc<Session>,
    site: Arc<str>,
    /// Who is logged in.
    user: Option<Arc<str>>,
}

#[derive(Default)]
struct Table {
    sessions: BTreeMap<SessionId, Entry>,
    caps: Caps,
    sites: HashMap<Arc<str>, Caps>,
    /// What other servers have.
    elsewhere: Counts,
    /// Content of the sessions that are over, by site and protocol: from clients, and to them.
    moved: BTreeMap<(Arc<str>, &'static str), (u64, u64)>,
}

/// What a session has moved, from its client and to it.
fn content(session: &Session) -> (u64, u64) {
    let stats = session.stats();
    (stats.uploaded.load(Ordering::Relaxed), stats.downloaded.load(Ordering::Relaxed))
}

impl Table {
    /// How far the limits of a site are used, or those of the server.
    fn fill(&self, site: Option<Arc<str>>) -> [Fill; 5] {
        let caps = site.as_ref().map_or(self.caps, |site| self.sites.get(site).copied().unwrap_or_default());
        let of = site.as_deref();
        let (mut all, mut waiting) = (0, 0);
        let (mut near, mut around) = (HashMap::<_, usize>::new(), HashMap::<_, usize>::new());
        let mut users = HashMap::<_, usize>::new();
        for e in self.sessions.values().filter(|e| of.is_none_or(|s| *e.site == *s)) {
            all += 1;
            match &e.user {
                Some(user) => *users.entry((&*e.site, &**user)).or_default() += 1,
                None => waiting += 1,
            }
            if let Some(address) = e.session.peer_address() {
                *near.entry(address).or_default() += 1;
                *around.entry(network(address)).or_default() += 1;
            }
        }
        for (address, n) in self.elsewhere.at(of).flatten() {
            *near.entry(*address).or_default() += n;
            *around.entry(network(*address)).or_default() += n;
        }
        for (site, elsewhere) in self.elsewhere.users.iter().filter(|(s, _)| of.is_none_or(|of| of == *s)) {
            for (user, n) in elsewhere {
                *users.entry((site.as_str(), user.as_str())).or_default() += n;
            }
        }
        let most = |counts: &mut dyn Iterator<Item = usize>| counts.max().unwrap_or(0);
        [
            ("sessions", all, caps.total),
            ("unauthenticated", waiting, caps.unauthenticated),
            ("per_address", most(&mut near.into_values()), caps.per_address),
            ("per_network", most(&mut around.into_values()), caps.per_network),
            ("per_user", most(&mut users.into_values()), caps.per_user),
        ]
        .map(|(limit, used, max)| Fill { site: site.clone(), limit, used, max })
    }

    /// Whether one more fits among those of `site`, or of the server where that is `None`.
    fn room(&self, site: Option<&str>, address: Option<IpAddr>) -> Result<()> {
        let (caps, words) = match site {
            None => (self.caps, "this server has as many sessions as it may"),
            Some(site) => (
                self.sites.get(site).copied().unwrap_or_default(),
                "this site has as many sessions as it may",
            ),
        };
        if caps == Caps::default() {
            return Ok(());
        }
        let (mut all, mut waiting, mut near, mut around) = (0, 0, 0, 0);
        for e in self.sessions.values().filter(|e| site.is_none_or(|s| *e.site == *s)) {
            all += 1;
            waiting += usize::from(e.user.is_none());
            if let (Some(a), Some(b)) = (address, e.session.peer_address()) {
                near += usize::from(a == b);
                around += usize::from(caps.per_network != 0 && network(a) == network(b));
            }
        }
        if let Some(address) = address {
            if caps.per_address != 0 {
                near += self.elsewhere.near(site, address);
            }
            if caps.per_network != 0 {
                around += self.elsewhere.around(site, address);
            }
        }
        let full = |n: usize, cap: usize| cap != 0 && n >= cap;
        if full(all, caps.total) {
            return Err(too_many(words));
        }
        if full(waiting, caps.unauthenticated) {
            return Err(too_many("too many connections are logging in"));
        }
        if full(near, caps.per_address) {
            return Err(too_many("too many sessions from this address").because(Reason::AddressLimit));
        }
        if full(around, caps.per_network) {
            return Err(too_many("too many sessions from this network").because(Reason::AddressLimit));
        }
        Ok(())
    }
}

/// The live sessions of one server.
#[derive(Default)]
pub struct SessionRegistry {
    table: Mutex<Table>,
    history: History,
    node: OnceLock<Arc<str>>,
    left: Notify,
    changed: Notify,
}

impl SessionRegistry {
    /// An empty table with these limits.
    pub fn new(caps: Caps) -> Arc<Self> {
        let registry = SessionRegistry::default();
        registry.lock().caps = caps;
        Arc::new(registry)
    }

    /// How the server is called among others, for those who look at sessions; the first name stays.
    pub fn set_node(&self, name: &str) {
        let _ = self.node.set(name.into());
    }

    /// How the server is called; empty where nobody said it.
    pub fn node(&self) -> &str {
        self.node.get().map_or("", |name| name)
    }

    /// Changes the limits; sessions that are there stay.
    pub fn set_caps(&self, caps: Caps) {
        self.lock().caps = caps;
    }

    /// Changes the limits of the sites, besides those of the server. A site that is not named has none.
    pub fn set_site_caps(&self, sites: impl IntoIterator<Item = (Arc<str>, Caps)>) {
        self.lock().sites = sites.into_iter().collect();
    }

    /// Changes how much is remembered of sessions that are over.
    pub fn set_history(&self, bounds: HistoryBounds) {
        self.history.set_bounds(bounds);
    }

    /// The sessions that are over, the last one first, as far as they are remembered.
    pub fn ended(&self) -> Vec<Arc<Ended>> {
        self.history.list()
    }

    /// The session of this id that is over, or the only one whose id begins with it.
    pub fn find_ended(&self, id: &str) -> Option<Arc<Ended>> {
        self.history.find(id)
    }

    pub(crate) fn remember(&self, session: &Session, ending: &Ending) {
        self.history.add(Ended::new(session, ending));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a session from this address would fit now; [`SessionRegistry::open`] decides. Errors:
    /// `Throttled`.
    pub fn has_room(&self, site: &str, address: IpAddr) -> Result<()> {
        let table = self.lock();
        let address = Some(address.to_canonical());
        table.room(None, address)?;
        table.room(Some(site), address)
    }

    /// Opens a session and enters it. Errors: `Throttled` when a limit is reached.
    pub fn open(self: &Arc<Self>, setup: Setup) -> Result<Arc<Session>> {
        let address: Option<IpAddr> = setup.peer.map(|p| p.ip().to_canonical());
        let mut table = self.lock();
        table.room(None, address)?;
        table.room(Some(&setup.site), address)?;
        let site = Arc::clone(&setup.site);
        let session = Session::registered(setup, Arc::downgrade(self));
        let entry = Entry { session: Arc::clone(&session), site, user: None };
        table.sessions.insert(session.id().clone(), entry);
        drop(table);
        self.changed.notify_one();
        Ok(session)
    }

    /// Another site takes the session over. Errors: `Throttled` when it has as many as it may.
    pub(crate) fn relocate(&self, id: &SessionId, site: &Arc<str>) -> Result<()> {
        let mut table = self.lock();
        let (here, address) = match table.sessions.get(id) {
            Some(e) => (Arc::clone(&e.site), e.session.peer_address()),
            None => return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended")),
        };
        if here == *site {
            return Ok(());
        }
        table.room(Some(site), address)?;
        if let Some(e) = table.sessions.get_mut(id) {
            e.site = Arc::clone(site);
        }
        drop(table);
        self.changed.notify_one();
        Ok(())
    }

    /// Counts a login; `max` is the account's own limit, 0 for none. Errors: `Throttled` when the account
    /// has as many sessions as it may.
    pub(crate) fn claim(&self, id: &SessionId, user: &Arc<str>, max: usize) -> Result<()> {
        let mut table = self.lock();
        let Some(site) = table.sessions.get(id).map(|e| Arc::clone(&e.site)) else {
            return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"));
        };
        let same =
            |(key, e): &(&SessionId, &Entry)| *key != id && e.site == site && e.user.as_ref() == Some(user);
        let n = table.sessions.iter().filter(same).count();
        let of_site = table.sites.get(&site).map_or(0, |c| c.per_user);
        // The account's own limit is one that must be exact over all servers: who lets it in has asked for that
        // (`Authenticator::make_room`).
        let all = n.saturating_add(table.elsewhere.of_user(&site, user));
        if [(table.caps.per_user, all), (of_site, all), (max, n)]
            .into_iter()
            .any(|(cap, n)| cap != 0 && n >= cap)
        {
            return Err(too_many("this account has as many sessions as it may"));
        }
        if let Some(e) = table.sessions.get_mut(id) {
            e.user = Some(Arc::clone(user));
        }
        drop(table);
        self.changed.notify_one();
        Ok(())
    }

    /// Nobody is logged in to the session any more.
    pub(crate) fn release(&self, id: &SessionId) {
        if let Some(e) = self.lock().sessions.get_mut(id) {
            e.user = None;
        }
        self.left.notify_one();
        self.changed.notify_one();
    }

    pub(crate) fn remove(&self, id: &SessionId) {
        let mut table = self.lock();
        if let Some(e) = table.sessions.remove(id) {
            let (up, down) = content(&e.session);
            let sum = table.moved.entry((e.site, e.session.protocol().name())).or_default();
            *sum = (sum.0.saturating_add(up), sum.1.saturating_add(down));
        }
        drop(table);
        self.left.notify_one();
        self.changed.notify_one();
    }

    /// What all sessions have moved since the server began, those that are over up to their end.
    pub fn moved(&self) -> Vec<Moved> {
        let table = self.lock();
        let mut all = table.moved.clone();
        for e in table.sessions.values() {
            let (up, down) = content(&e.session);
            let sum = all.entry((Arc::clone(&e.site), e.session.protocol().name())).or_default();
            *sum = (sum.0.saturating_add(up), sum.1.saturating_add(down));
        }
        drop(table);
        let moved =
            |((site, protocol), (uploaded, downloaded))| Moved { site, protocol, uploaded, downloaded };
        all.into_iter().map(moved).collect()
    }

    /// How far each limit is used, of the server and of every site that has limits.
    pub fn fill(&self) -> Vec<Fill> {
        let table = self.lock();
        let mut sites: Vec<_> = table.sites.keys().map(|site| Some(Arc::clone(site))).collect();
        sites.sort();
        std::iter::once(None).chain(sites).flat_map(|site| table.fill(site)).collect()
    }

    /// Waits until somebody has left since the last wait, for one who waits.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// What other servers have to be told where limits count together.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for e in self.lock().sessions.values() {
            if let Some(address) = e.session.peer_address() {
                let of_site = counts.addresses.entry(e.site.to_string()).or_default();
                *of_site.entry(address).or_default() += 1;
            }
            if let Some(user) = &e.user {
                let of_site = counts.users.entry(e.site.to_string()).or_default();
                *of_site.entry(user.to_string()).or_default() += 1;
            }
        }
        counts
    }

    /// What all other servers have together, from now on.
    pub fn set_elsewhere(&self, counts: Counts) {
        self.lock().elsewhere = counts;
    }

    /// Waits until [`SessionRegistry::counts`] may have changed since the last wait, for one who waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The live sessions, oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.values().map(|e| Arc::clone(&e.session)).collect()
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
        if let Some(e) = table.sessions.get(&key) {
            return Some(Arc::clone(&e.session));
        }
        let mut matching =
            table.sessions.range(key..).take_while(|(k, _)| !id.is_empty() && k.as_str().starts_with(id));
        match (matching.next(), matching.next()) {
            (Some((_, e)), None) => Some(Arc::clone(&e.session)),
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
    Error::new(ErrorKind::Throttled).with_detail(words).because(Reason::ConnectionLimit)
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
        let registry = SessionRegistry::new(Caps {
            total: 3,
            per_address: 2,
            per_network: 0,
            per_user: 1,
            unauthenticated: 2,
        });
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

    #[tokio::test]
    async fn accounts_of_two_sites_are_two() {
        let registry = SessionRegistry::new(Caps { per_user: 1, ..Caps::default() });
        let at = |site: &str| Setup { site: site.into(), ..setup(1) };
        let (a, b) = (registry.open(at("a")).unwrap(), registry.open(at("b")).unwrap());
        a.log_in(Account::named("u"), vec![]).unwrap();
        b.log_in(Account::named("u"), vec![]).unwrap();
        let c = registry.open(at("a")).unwrap();
        let e = c.log_in(Account::named("u"), vec![]).err().unwrap();
        assert_eq!((e.kind(), e.reason()), (ErrorKind::Throttled, Reason::ConnectionLimit));
        // A login that is given back makes room, and a session does not stand in its own way.
        a.log_out();
        c.log_in(Account::named("u"), vec![]).unwrap();
    }

    #[tokio::test]
    async fn a_session_goes_to_another_site_only_where_there_is_room() {
        let registry = SessionRegistry::new(Caps::default());
        registry.set_site_caps([(Arc::from("b"), Caps { total: 1, ..Caps::default() })]);
        let at = |site: &str| Setup { site: site.into(), ..setup(1) };
        let (one, two) = (registry.open(at("a")).unwrap(), registry.open(at("a")).unwrap());
        one.move_to("b", Arc::default()).unwrap();
        one.move_to("b", Arc::default()).unwrap();
        assert_eq!(two.move_to("b", Arc::default()).err().unwrap().kind(), ErrorKind::Throttled);
        assert_eq!((&*one.site(), &*two.site()), ("b", "a"));
        assert!(registry.open(at("b")).is_err());
        one.move_to("a", Arc::default()).unwrap();
        two.move_to("b", Arc::default()).unwrap();
        two.log_in(Account::named("u"), vec![]).unwrap();
        assert_eq!(two.move_to("a", Arc::default()).err().unwrap().kind(), ErrorKind::Refused);
    }

    #[tokio::test]
    async fn what_other_servers_have_counts_for_addresses_networks_and_accounts() {
        let caps = Caps { per_address: 3, per_network: 5, per_user: 2, total: 4, unauthenticated: 4 };
        let (here, there) = (SessionRegistry::new(caps), SessionRegistry::new(caps));
        let from = |registry: &Arc<SessionRegistry>, a: &str| {
            let mut setup = setup(1);
            setup.peer = Some((a.parse::<IpAddr>().unwrap(), 1).into());
            registry.open(setup)
        };
        let far = [from(&there, "192.0.2.1").unwrap(), from(&there, "::ffff:192.0.2.1").unwrap()];
        far[0].log_in(Account::named("u"), vec![]).unwrap();
        // As it comes from another server.
        let told = serde_json::to_string(&there.counts()).unwrap();
        here.set_elsewhere(serde_json::from_str(&told).unwrap());
        let near = from(&here, "192.0.2.1").unwrap();
        let refused = from(&here, "192.0.2.1").err().unwrap();
        assert_eq!((refused.kind(), refused.reason()), (ErrorKind::Throttled, Reason::AddressLimit));
        near.log_in(Account::named("u"), vec![]).unwrap();
        let second = from(&here, "192.0.2.2").unwrap();
        assert!(second.log_in(Account::named("u"), vec![]).is_err(), "u has two");
        second.log_in(Account { max_sessions: 1, ..Account::named("v") }, vec![]).unwrap();
        // Of the network there are four; of two servers more.
        let mut both = there.counts();
        both.add(there.counts());
        assert_eq!(both.users["site"]["u"], 2);
        here.set_elsewhere(both);
        assert_eq!(from(&here, "192.0.2.3").err().unwrap().reason(), Reason::AddressLimit);
        // What is this server's own limit, nobody else uses up; of another site nothing counts here.
        here.set_caps(Caps { total: 4, unauthenticated: 4, ..Caps::default() });
        assert!(from(&here, "192.0.2.3").is_ok());
        here.set_caps(Caps::default());
        here.set_site_caps([(Arc::from("other"), Caps { per_address: 1, ..Caps::default() })]);
        let at = |site: &str| Setup { site: site.into(), peer: Some(([192, 0, 2, 1], 9).into()), ..setup(1) };
        assert!(here.open(at("other")).is_ok());
        here.changed().await;
    }

    #[test]
    fn a_network_has_only_so_many() {
        let registry = SessionRegistry::new(Caps { per_network: 2, ..Caps::default() });
        let from = |a: &str| {
            let mut setup = setup(1);
            setup.peer = Some((a.parse::<IpAddr>().unwrap(), 1).into());
            registry.open(setup)
        };
        let _kept = [from("192.0.2.1").unwrap(), from("::ffff:192.0.2.200").unwrap()];
        assert!(from("192.0.2.9").is_err());
        let _more =
            [from("192.0.3.1").unwrap(), from("2001:db8::1").unwrap(), from("2001:db8::2:1").unwrap()];
        assert!(from("2001:db8::3").is_err());
        assert!(from("2001:db8:0:1::1").is_ok());
    }

    /// Two hundred logins at once, of which five may be: never more, and each slot comes back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn an_accounts_own_limit_is_exact() {
        let registry = SessionRegistry::new(Caps::default());
        let mut tasks = Vec::new();
        for port in 0..200 {
            let session = registry.open(setup(port)).unwrap();
            tasks.push(tokio::spawn(async move {
                let account = Account { max_sessions: 5, ..Account::named("u") };
                let inside = session.log_in(account, vec![]).is_ok();
                (session, inside)
            }));
        }
        let mut inside = Vec::new();
        for task in tasks {
            let (session, came_in) = task.await.unwrap();
            if came_in { inside.push(session) } else { session.close(ending()).await }
        }
        assert_eq!(inside.len(), 5);
        for session in inside {
            session.close(ending()).await;
        }
        assert!(registry.is_empty());
        assert_eq!(registry.ended().len(), 200);
    }

    #[tokio::test]
    async fn what_was_moved_stays_and_limits_say_how_far_they_are_used() {
        let registry = SessionRegistry::new(Caps { total: 9, per_address: 5, ..Caps::default() });
        registry.set_site_caps([(Arc::from("site"), Caps { per_user: 2, ..Caps::default() })]);
        let [a, b] = [1, 2].map(|port| registry.open(setup(port)).unwrap());
        a.log_in(Account::named("u"), vec![]).unwrap();
        a.stats().uploaded.fetch_add(7, Ordering::Relaxed);
        b.stats().downloaded.fetch_add(3, Ordering::Relaxed);
        let moved =
            |up, down| vec![Moved { site: "site".into(), protocol: "SFTP", uploaded: up, downloaded: down }];
        assert_eq!(registry.moved(), moved(7, 3));
        let fill = |site: Option<&str>, limit| {
            let all = registry.fill();
            let f = all.iter().find(|f| f.site.as_deref() == site && f.limit == limit).unwrap();
            (f.used, f.max)
        };
        assert_eq!(fill(None, "sessions"), (2, 9));
        assert_eq!(fill(None, "unauthenticated"), (1, 0));
        assert_eq!(fill(None, "per_address"), (2, 5));
        assert_eq!(fill(Some("site"), "per_user"), (1, 2));
        let users = BTreeMap::from([("site".to_owned(), BTreeMap::from([("u".to_owned(), 4)]))]);
        registry.set_elsewhere(Counts { users, ..Counts::default() });
        assert_eq!(fill(Some("site"), "per_user"), (5, 2), "what other servers have counts");
        a.close(ending()).await;
        b.close(ending()).await;
        assert_eq!(registry.moved(), moved(7, 3), "what is over was moved still");
        assert_eq!(fill(None, "sessions"), (0, 9));
    }
}
