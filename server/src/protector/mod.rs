//! `Protector`: counts what misbehaving clients do, and keeps them out for a while.
//!
//! Each offence is a strike with a weight; as many as allowed within the window block the address (of IPv6,
//! its /64) on every protocol and site. How strict it is, one level says: *permissive* strikes for failed
//! logins, broken protocols and weak algorithms; *normal* for commands that are not known besides; *strict*
//! for names of things that do not exist besides; *paranoid* for whatever makes no sense. A block grows each
//! time its address comes back. Addresses on the safe list are never struck and never blocked. What is
//! counted is bounded; who is logged in elsewhere from a blocked address stays.
//!
//! Beside the block list there are two more, of those who are safe and of those who may connect, where only they
//! may (`only_allowed`); who is safe always may. Several nodes may share the lists, and count strikes together
//! (`shared`). A site may have a protector of its own (`sites`). Asked before anything is read from a connection.
//! Deliberately absent: blocking of accounts (a stranger could lock a user out), strikes across a restart (lists
//! survive it).

mod guard;
mod list;
mod shared;
mod sites;
mod tally;
mod tell;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::lifecycle;
use session_core::reason::Reason;
use session_core::registry::network;
use session_core::session::Clock;
use tokio::sync::Notify;

pub use self::guard::Guard;
pub use self::list::{Ban, List};
use self::list::{BlockList, PROTECTOR, seconds};
use self::shared::Mark;
pub(crate) use self::shared::Shared;
use self::sites::OfSite;
use self::tally::Tally;
use self::tell::Kept;
pub(crate) use self::tell::tell;
pub use crate::config::{Level, ProtectorSettings as Settings};

/// Addresses whose strikes are counted at once; the one that was quiet longest makes room.
const COUNTED: usize = 100_000;

/// The longest that a block grows to.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// An offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// Nothing in common with the client's algorithms.
    Algorithms,
    /// A command that is not known.
    Command,
    /// Something that makes no sense.
    Deviation,
    /// More connections than there may be.
    Limit,
    /// A login that failed.
    Login,
    /// Something that does not exist.
    Missing,
    /// A broken protocol.
    Protocol,
    /// A connection that went away before a login.
    Reset,
    /// A login as somebody who does not exist.
    UnknownUser,
}

impl Strike {
    /// The name in logs and events.
    pub fn name(self) -> &'static str {
        match self {
            Strike::Algorithms => "algorithms",
            Strike::Command => "command",
            Strike::Deviation => "deviation",
            Strike::Limit => "limit",
            Strike::Login => "login",
            Strike::Missing => "missing",
            Strike::Protocol => "protocol",
            Strike::Reset => "reset",
            Strike::UnknownUser => "unknown-user",
        }
    }

    /// What it weighs under these settings; 0 where it does not count.
    fn weight(self, s: &Settings) -> u32 {
        let from = |level: Level| if s.level >= level { s.offence } else { 0 };
        match self {
            Strike::Algorithms | Strike::Protocol => s.offence,
            Strike::Command => from(Level::Normal),
            Strike::Deviation => from(Level::Paranoid),
            Strike::Limit => s.limit,
            Strike::Login => s.login,
            Strike::Missing => from(Level::Strict),
            Strike::Reset => s.reset,
            Strike::UnknownUser => s.unknown_user,
        }
    }
}

/// Something that the protector did, for those who watch it.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A network came onto the block list.
    Added(Ban),
    /// A blocked address came back.
    Hit {
        /// Which.
        address: IpAddr,
        /// The ban that it is under.
        ban: Ban,
    },
    /// A network came onto another list, or was taken from it, by whom.
    Listed {
        /// Which list.
        list: List,
        /// The network.
        entry: Ban,
        /// Whether it is on the list now.
        there: bool,
        /// Who did it.
        by: String,
    },
    /// A ban was taken away, by whom.
    Removed(Ban, String),
    /// A client was given a strike.
    Struck {
        /// Which.
        address: IpAddr,
        /// For what.
        strike: Strike,
        /// How heavy it is.
        weight: u32,
        /// How heavy all of the window are, on this node.
        sum: u32,
        /// How heavy they may get.
        of: u32,
    },
}

impl Notice {
    /// The name in the audit.
    pub fn name(&self) -> &'static str {
        match self {
            Notice::Added(_) => "ban-added",
            Notice::Hit { .. } => "ban-hit",
            Notice::Listed { .. } => "list-changed",
            Notice::Removed(..) => "ban-removed",
            Notice::Struck { .. } => "strike",
        }
    }

    /// What it says, as one object.
    pub fn to_json(&self) -> Value {
        match self {
            Notice::Added(ban) => json!({ "ban": ban.to_json() }),
            Notice::Hit { address, ban } => json!({ "address": address.to_string(), "ban": ban.to_json() }),
            Notice::Listed { list, entry, there, by } => json!({
                "list": list.name(), "there": there, "entry": entry.to_json(), "actor": by,
            }),
            Notice::Removed(ban, by) => json!({ "ban": ban.to_json(), "actor": by }),
            Notice::Struck { address, strike, weight, sum, of } => json!({
                "address": address.to_string(), "offence": strike.name(), "weight": weight, "sum": sum, "of": of,
            }),
        }
    }
}

impl Notice {
    /// What handlers are told; `None` where there is no event for it.
    pub fn told(&self) -> Option<lifecycle::Notice> {
        let of = |ban: &Ban| ban.to_json();
        let (address, facts) = match self {
            Notice::Added(ban) => (ban.network.network(), of(ban)),
            Notice::Hit { address, ban } => (*address, of(ban)),
            Notice::Listed { .. } | Notice::Removed(..) => return None,
            Notice::Struck { address, .. } => (*address, self.to_json()),
        };
        Some(lifecycle::Notice { address, facts })
    }
}

/// Who watches, and is told of which site it is, if of one; must not wait.
pub type Watcher = Box<dyn Fn(Notice, Option<&str>) + Send + Sync>;

#[derive(Default)]
struct Count {
    /// When, and how heavy; the oldest first.
    strikes: VecDeque<(SystemTime, u32)>,
    /// Connections that may come now, in thousandths, and when that was.
    tokens: Option<(u64, SystemTime)>,
    last: Option<SystemTime>,
}

#[derive(Default)]
struct State {
    settings: Settings,
    list: BlockList,
    safe: BlockList,
    allow: BlockList,
    counts: HashMap<IpAddr, Count>,
    /// What other nodes do not know yet of strikes, where there are any.
    tally: Option<Tally>,
}

impl State {
    /// Blocks an address, and begins to count it anew.
    fn block(&mut self, address: IpAddr, now: SystemTime, reason: String) -> Ban {
        let network = blocked(address);
        self.begin_anew(&network);
        let since = seconds(now);
        let until = (!self.settings.ban.is_zero()).then(|| since.saturating_add(self.settings.ban.as_secs()));
        let ban = Ban { network, since, until, reason, by: PROTECTOR.into(), hits: 0 };
        self.list.put(ban.clone());
        ban
    }

    /// What was counted in a network is over, on all nodes.
    fn begin_anew(&mut self, network: &IpNet) {
        self.forget(network);
        if let Some(tally) = &mut self.tally {
            tally.begin_anew(*network);
        }
    }

    /// The same on this node, which has learned of it from another.
    fn forget(&mut self, network: &IpNet) {
        if *network == blocked(network.addr()) {
            self.counts.remove(&network.addr());
        } else {
            self.counts.retain(|a, _| !network.contains(a));
        }
        if let Some(tally) = &mut self.tally {
            tally.forget(network);
        }
    }

    fn of(&mut self, list: List) -> &mut BlockList {
        match list {
            List::Allow => &mut self.allow,
            List::Deny => &mut self.list,
            List::Safe => &mut self.safe,
        }
    }

    fn is_safe(&mut self, address: IpAddr, now: SystemTime) -> bool {
        self.settings.is_safe(address) || self.safe.find(address, seconds(now)).is_some()
    }

    /// Whether somebody there is among those who may connect; who is safe is not asked.
    fn is_allowed(&mut self, address: IpAddr, now: SystemTime) -> bool {
        !self.settings.only_allowed
            || self.settings.is_allowed(address)
            || self.allow.find(address, seconds(now)).is_some()
    }
}

/// Who of a list an address is.
type Find = fn(&mut BlockList, IpAddr, u64) -> Option<&mut Ban>;

/// The lists, the counting and the files.
pub struct Protector {
    state: Mutex<State>,
    folder: Option<PathBuf>,
    clock: Clock,
    changed: Notify,
    watcher: OnceLock<Watcher>,
    kept: OnceLock<Arc<Kept>>,
    /// The site that it is for; the server's is for all others.
    of: Option<OfSite>,
    sites: Mutex<BTreeMap<Arc<str>, Weak<Protector>>>,
    site_changed: Notify,
}

/// The address that strikes are counted for: of IPv6 its /64, which one host can use as it likes.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => network(v6),
    }
}

/// The network that is blocked for an address.
fn blocked(address: IpAddr) -> IpNet {
    match counted(address) {
        v4 @ IpAddr::V4(_) => IpNet::from(v4),
        v6 @ IpAddr::V6(_) => IpNet::new(v6, 64).unwrap_or_else(|_| IpNet::from(v6)),
    }
}

impl Protector {
    /// With the lists in `folder`, if one is named. Blocks. Errors: those of the files.
    pub fn new(settings: Settings, folder: Option<PathBuf>, clock: Clock) -> Result<Arc<Self>> {
        let mut state = State { settings, ..State::default() };
        if let Some(folder) = &folder {
            for list in List::ALL {
                *state.of(list) = BlockList::load(&list.file(folder))?;
            }
        }
        Ok(Arc::new(Protector::with(state, folder, clock)))
    }

    fn with(state: State, folder: Option<PathBuf>, clock: Clock) -> Self {
        Protector {
            state: Mutex::new(state),
            folder,
            clock,
            changed: Notify::new(),
            watcher: OnceLock::new(),
            kept: OnceLock::new(),
            of: None,
            sites: Mutex::default(),
            site_changed: Notify::new(),
        }
    }

    /// Tells everything from now on to one watcher; a second one is not taken.
    pub fn watch(&self, watcher: Watcher) {
        let _ = self.watcher.set(watcher);
    }

    /// Waits until what others are to be told of all that was done so far is on disk.
    pub(crate) async fn written(&self) {
        if let Some(kept) = self.server().kept.get() {
            kept.written().await;
        }
    }

    fn tell(&self, notice: Notice) {
        if let Some(watcher) = self.server().watcher.get() {
            watcher(notice, self.site().map(AsRef::as_ref));
        }
    }

    /// The server's.
    fn server(&self) -> &Protector {
        self.of.as_ref().map_or(self, |of| &of.server)
    }

    /// What is to be written changed.
    fn touch(&self) {
        match &self.of {
            Some(of) => of.server.site_changed.notify_one(),
            None => self.changed.notify_one(),
        }
    }

    /// Whether somebody at this address is safe: by these settings, or by the server's list.
    fn is_safe(&self, state: &mut State, address: IpAddr, now: SystemTime) -> bool {
        state.is_safe(address, now)
            || self.of.as_ref().is_some_and(|of| of.server.is_entered(List::Safe, address, now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other settings; what was counted stays.
    pub fn set(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    /// Whether somebody at this address may connect. Errors: `Refused` while it is blocked, `Throttled` for
    /// more connections in a minute than there may be.
    pub fn admit(&self, address: IpAddr) -> Result<()> {
        let now = (self.clock)();
        if self.bars(address, now)? {
            return Ok(());
        }
        let mut state = self.lock();
        let State { settings, counts, .. } = &mut *state;
        let rate = u64::from(settings.rate);
        if rate != 0 {
            make_room(counts);
            let count = counts.entry(counted(address)).or_default();
            let full = rate * 1000;
            let (had, then) = count.tokens.unwrap_or((full, now));
            let passed =
                u64::try_from(now.duration_since(then).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
            let tokens = had.saturating_add(passed.saturating_mul(rate) / 60).min(full);
            count.last = Some(now);
            if tokens < 1000 {
                // What was earned so far is kept by keeping the time.
                count.tokens = Some((had, then));
                drop(state);
                self.strike(address, Strike::Limit);
                return Err(Error::new(ErrorKind::Throttled)
                    .with_detail("too many connections from this address in a minute")
                    .because(Reason::RateLimit));
            }
            count.tokens = Some((tokens - 1000, now));
        }
        Ok(())
    }

    /// The same for a connection that was admitted already, maybe at another site: it is not counted again.
    pub(crate) fn receive(&self, address: IpAddr) -> Result<()> {
        self.bars(address, (self.clock)()).map(|_| ())
    }

    /// Whether somebody there is safe. Errors: `Refused`, while it may not connect.
    fn bars(&self, address: IpAddr, now: SystemTime) -> Result<bool> {
        let mut state = self.lock();
        if self.is_safe(&mut state, address, now) {
            return Ok(true);
        }
        let server = self.of.as_ref().map(|of| &of.server);
        let is_allowed = state.is_allowed(address, now)
            || server.is_some_and(|server| server.is_entered(List::Allow, address, now));
        drop(state);
        // At a site with rules of its own the server's list holds for what a person entered.
        server.map_or(Ok(()), |server| server.refuse(address, now, BlockList::find_entered))?;
        self.refuse(address, now, BlockList::find)?;
        if !is_allowed {
            tracing::debug!(%address, "an address that is not on the list of those who may connect");
            return Err(
                Error::refused("connections from this address are not taken").because(Reason::AddressDenied)
            );
        }
        Ok(false)
    }

    /// Refuses who is blocked by what `find` finds, and counts it as a hit.
    fn refuse(&self, address: IpAddr, now: SystemTime, find: Find) -> Result<()> {
        let mut state = self.lock();
        let State { settings, list, .. } = &mut *state;
        if let Some(ban) = find(list, address, seconds(now)) {
            ban.hits += 1;
            if ban.by == PROTECTOR
                && let Some(until) = ban.until
            {
                let more = settings.ban.as_secs().saturating_mul(u64::from(settings.growth)) / 100;
                let longest = seconds(now).saturating_add(LONGEST.as_secs());
                ban.until = Some(until.saturating_add(more).min(longest.max(until)));
            }
            let (network, ban) = (ban.network, ban.clone());
            list.mark(&network, Mark::Hit);
            drop(state);
            self.touch();
            tracing::debug!(%address, %network, "a blocked address came back");
            self.tell(Notice::Hit { address, ban });
            return Err(Error::refused("connections from this address are not taken").because(Reason::Banned));
        }
        Ok(())
    }

    /// Counts an offence. The ban that it led to, if it did.
    pub fn strike(&self, address: IpAddr, strike: Strike) -> Option<Ban> {
        let now = (self.clock)();
        let mut state = self.lock();
        let weight = strike.weight(&state.settings);
        if !state.settings.enabled || weight == 0 || self.is_safe(&mut state, address, now) {
            return None;
        }
        let State { settings, counts, tally, .. } = &mut *state;
        make_room(counts);
        let count = counts.entry(counted(address)).or_default();
        count.last = Some(now);
        count.strikes.push_back((now, weight));
        let fresh = |then: SystemTime| now.duration_since(then).is_ok_and(|age| age < settings.window);
        while count.strikes.front().is_some_and(|(then, _)| !fresh(*then)) {
            count.strikes.pop_front();
        }
        let sum = count.strikes.iter().fold(0u32, |n, (_, w)| n.saturating_add(*w));
        // As many as can matter: each weighs one at least.
        while count.strikes.len() > settings.strikes as usize {
            count.strikes.pop_front();
        }
        let of = settings.strikes;
        tracing::info!(%address, strike = strike.name(), weight, sum, of, "strike");
        let notice = Notice::Struck { address, strike, weight, sum, of };
        if sum < of {
            let told = tally.as_mut().map(|tally| tally.add(counted(address), now, weight, strike)).is_some();
            drop(state);
            if told {
                self.touch();
            }
            self.tell(notice);
            return None;
        }
        let reason = format!("{sum} strikes, the last one for: {}", strike.name());
        let ban = state.block(address, now, reason);
        drop(state);
        self.tell(notice);
        self.tell_ban(&ban);
        Some(ban)
    }

    /// Takes up how heavy all strikes of an address are that was struck here, on all nodes. The ban that it led to,
    /// if it did.
    fn weigh(&self, address: IpAddr, sum: u32, strike: Strike) -> Option<Ban> {
        let now = (self.clock)();
        let mut state = self.lock();
        let is_over = state.tally.as_ref().is_none_or(|tally| tally.begins_anew(address));
        if sum < state.settings.strikes
            || !state.settings.enabled
            || is_over
            || state.is_safe(address, now)
            || state.list.find(address, seconds(now)).is_some()
        {
            return None;
        }
        let reason = format!("{sum} strikes on all nodes, the last one for: {}", strike.name());
        let ban = state.block(address, now, reason);
        drop(state);
        self.tell_ban(&ban);
        Some(ban)
    }

    fn tell_ban(&self, ban: &Ban) {
        self.touch();
        tracing::warn!(network = %ban.network, reason = ban.reason, "an address was blocked");
        self.tell(Notice::Added(ban.clone()));
    }

    /// Blocks a network, until it is removed or for a time, and writes the list. Blocks the thread. Errors:
    /// those of the disk.
    pub fn add(&self, network: IpNet, time: Option<Duration>, reason: String, by: String) -> Result<Ban> {
        self.add_to(List::Deny, network, time, reason, by)
    }

    /// The same for any list.
    pub fn add_to(
        &self,
        list: List,
        network: IpNet,
        time: Option<Duration>,
        reason: String,
        by: String,
    ) -> Result<Ban> {
        let since = seconds((self.clock)());
        let until = time.map(|t| since.saturating_add(t.as_secs().max(1)));
        let ban = Ban { network: network.trunc(), since, until, reason, by, hits: 0 };
        self.lock().of(list).put(ban.clone());
        self.touch();
        self.tell(match list {
            List::Deny => Notice::Added(ban.clone()),
            _ => Notice::Listed { list, entry: ban.clone(), there: true, by: ban.by.clone() },
        });
        self.save_one(list)?;
        Ok(ban)
    }

    /// Takes a ban away, at every site, and what was counted for its addresses, and writes the lists. Blocks the
    /// thread. Errors: `NotFound`, those of the disk.
    pub fn remove(&self, network: &IpNet, by: &str) -> Result<Ban> {
        let mut removed = self.remove_from(List::Deny, network, by);
        for site in self.of_sites() {
            match site.remove_from(List::Deny, network, by) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                of_site if removed.is_ok() => removed = removed.and_then(|ban| of_site.map(|_| ban)),
                of_site => removed = of_site,
            }
        }
        removed
    }

    /// The same for any list.
    pub fn remove_from(&self, list: List, network: &IpNet, by: &str) -> Result<Ban> {
        let mut state = self.lock();
        let ban = state.of(list).remove(network).ok_or_else(|| {
            let command = if list == List::Deny { "ban" } else { list.name() };
            Error::new(ErrorKind::NotFound)
                .with_detail(format!("{network} is not on the list"))
                .with_hint(format!("'ferryd {command} list' shows the networks as they were entered"))
        })?;
        if list == List::Deny {
            state.begin_anew(&ban.network);
        }
        drop(state);
        self.touch();
        self.tell(match list {
            List::Deny => Notice::Removed(ban.clone(), by.to_string()),
            _ => Notice::Listed { list, entry: ban.clone(), there: false, by: by.to_string() },
        });
        self.save_one(list)?;
        Ok(ban)
    }

    /// The bans in force, by network: the server's, and then those of single sites with their site.
    pub fn bans(&self) -> Vec<(Option<Arc<str>>, Ban)> {
        let of = |p: &Protector| p.entries(List::Deny).into_iter().map(|b| (p.site().cloned(), b)).collect();
        let mut all: Vec<_> = of(self);
        self.of_sites().iter().for_each(|site| all.extend(of(site)));
        all
    }

    /// What is on a list now, by network.
    pub fn entries(&self, list: List) -> Vec<Ban> {
        let now = seconds((self.clock)());
        let mut state = self.lock();
        if state.of(list).tidy(now) {
            self.touch();
        }
        state.of(list).all()
    }

    /// What the settings put on a list besides, and whether the list is in force.
    pub fn declared(&self, list: List) -> (Vec<IpNet>, bool) {
        let state = self.lock();
        let settings = &state.settings;
        match list {
            List::Allow => (settings.allow.clone(), settings.only_allowed),
            List::Deny => (Vec::new(), true),
            List::Safe => (settings.safe.clone(), true),
        }
    }

    /// Whether this address is blocked; does not count as a hit.
    pub fn is_banned(&self, address: IpAddr) -> bool {
        let now = (self.clock)();
        let mut state = self.lock();
        !state.is_safe(address, now) && state.list.find(address, seconds(now)).is_some()
    }

    /// Seconds since 1970.
    fn now(&self) -> u64 {
        seconds((self.clock)())
    }

    /// Waits until a list changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Writes the block list, which changes by itself, to its file. Blocks. Errors: those of the disk.
    pub fn save(&self) -> Result<()> {
        self.save_one(List::Deny)
    }

    fn save_one(&self, list: List) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        // Written under the lock: of two writers the later one has the later list.
        self.lock().of(list).save(&list.file(folder))
    }
}

/// Keeps the counting bounded.
fn make_room(counts: &mut HashMap<IpAddr, Count>) {
    if counts.len() >= COUNTED {
        // Half of them at once, so that a flood does not search for each.
        let mut times: Vec<_> = counts.values().filter_map(|c| c.last).collect();
        times.sort_unstable();
        let middle = times.get(times.len() / 2).copied();
        counts.retain(|_, c| c.last > middle);
    }
}

#[cfg(test)]
mod tests;
