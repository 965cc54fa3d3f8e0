//! The lists of several nodes: what one blocks or lets in again, calls safe or allows, the others do too.
//!
//! Each node asks its own lists, never the database: what it changes goes there soon, in bunches, and what others
//! change comes from there. Of one ban that two nodes lengthen, the longer counts; who was let in again is not
//! blocked by a hit that was counted meanwhile. While the database cannot be reached each node goes on with what
//! it has.
//!
//! Strikes are told in the same way: a node blocks by its own counting at once, and by that of all nodes when it is
//! told what it comes to, a second later. A login waits for neither.
//!
//! What a site's own protector counts and blocks is shared by the nodes that have a site of that name, apart from the
//! server's and every other site's. A site that comes while the server runs is taken up within a moment.
//!
//! Deliberately absent: events for handlers and records of the audit on nodes other than the one where it came
//! about; the log says it there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ipnet::IpNet;
use session_core::error::Result;
use session_core::reason::Reason;
use session_core::registry::SessionRegistry;
use session_core::session::{Actor, Ending};
use tokio::sync::Mutex;

use super::list::{BlockList, PROTECTOR};
use super::{Ban, List, Protector};
use crate::shared::{Fresh, Hub, Record, Stream, Strikes};

/// What a row of each list's stream is called.
const KIND: &str = "ban";

/// The stream of what sites' own protectors blocked, by site.
const OF_SITES: &str = "site-bans";

/// The rows of one writing, at most.
const BUNCH: usize = 1000;

/// The time between two writings, at least.
const WRITTEN: Duration = Duration::from_secs(1);

/// How a ban was changed on this node, and the others do not know it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It was taken away.
    Gone,
    /// Somebody came from there: it counts where the ban is in force still.
    Hit,
    /// It was entered.
    New,
}

/// What the others do not know yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(HashMap<IpNet, Mark>);

impl Marks {
    pub(super) fn set(&mut self, network: IpNet, mark: Mark) {
        let known = self.0.entry(network).or_insert(mark);
        if mark != Mark::Hit {
            *known = mark;
        }
    }

    fn is_new(&self, network: &IpNet) -> bool {
        self.0.get(network) == Some(&Mark::New)
    }

    fn is_gone(&self, network: &IpNet) -> bool {
        self.0.get(network) == Some(&Mark::Gone)
    }

    /// Some of them, the important ones first.
    fn take(&mut self, most: usize) -> Vec<(IpNet, Mark)> {
        let mut all: Vec<_> = self.0.iter().map(|(network, mark)| (*network, *mark)).collect();
        all.sort_by_key(|(network, mark)| (*mark == Mark::Hit, *network));
        all.truncate(most);
        for (network, _) in &all {
            self.0.remove(network);
        }
        all
    }

    /// What was taken and not written: what has come since stands.
    fn put_back(&mut self, marks: Vec<(IpNet, Mark)>) {
        for (network, mark) in marks {
            match self.0.get(&network) {
                Some(Mark::Gone | Mark::New) => {}
                _ => {
                    self.0.insert(network, mark);
                }
            }
        }
    }
}

fn record(site: &str, network: IpNet, mark: Mark, ban: Option<&Ban>) -> Option<Record> {
    let text = match (mark, ban) {
        (Mark::Gone, None) => None,
        // It has ended meanwhile, or was entered again and is marked again.
        (Mark::Hit | Mark::New, None) | (Mark::Gone, Some(_)) => return None,
        (_, Some(ban)) => Some(serde_json::to_string(ban).ok()?),
    };
    Some(Record {
        kind: KIND.into(),
        site: site.to_owned(),
        name: network.to_string(),
        changed: ban.map_or(0, |b| b.since.cast_signed()),
        expires: ban.and_then(|b| b.until).map(u64::cast_signed),
        only_if_there: mark == Mark::Hit,
        text,
    })
}

/// A row: the network, and its ban if there is one. `None` for what cannot be read.
fn read(record: Record) -> Option<(IpNet, Option<Ban>)> {
    let network = record.name.parse().ok()?;
    let ban = record.text.map(|text| serde_json::from_str::<Ban>(&text)).transpose().ok()?;
    Some((network, ban.filter(|ban| ban.network == network)))
}

impl BlockList {
    /// Takes up what another node has. The ban that this node did not have, or had from another time.
    fn learn(&mut self, network: IpNet, theirs: Option<Ban>, now: u64) -> Option<Ban> {
        let marks = self.marks.as_mut()?;
        let Some(theirs) = theirs.filter(|ban| ban.until.is_none_or(|until| until > now)) else {
            if !marks.is_new(&network) {
                self.forget(&network);
            }
            return None;
        };
        if marks.is_gone(&network) {
            return None;
        }
        let is_new = marks.is_new(&network);
        match self.get_mut(&network) {
            Some(ours) if (ours.since, &ours.by) == (theirs.since, &theirs.by) => {
                ours.hits = ours.hits.max(theirs.hits);
                ours.until = ours.until.zip(theirs.until).map(|(a, b)| a.max(b));
                None
            }
            // Written soon, and then the others have it.
            Some(ours) if is_new && ours.since > theirs.since => None,
            _ => {
                self.enter(theirs.clone());
                Some(theirs)
            }
        }
    }
}

/// One list in the database, by its name.
struct Part {
    list: List,
    stream: Stream,
    /// Whose list it is.
    protector: Arc<Protector>,
    /// The revision that was read.
    seen: Mutex<u64>,
}

impl Part {
    /// The site in its rows: no name is the server.
    fn site(&self) -> &str {
        self.protector.site().map_or("", AsRef::as_ref)
    }
}

/// The exchange of one node with the others.
pub(crate) struct Shared {
    parts: [Part; 3],
    /// Those of sites with a protector of their own.
    of_sites: Mutex<Vec<Arc<Part>>>,
    strikes: Strikes,
    hub: Arc<Hub>,
    protector: Arc<Protector>,
    registry: Weak<SessionRegistry>,
}

impl Shared {
    /// Reads what the others have; from now on what this node changes is for them too. A list in `folder` is from
    /// before it was shared: it is taken over and put aside. Errors: those of the database and of the files.
    pub(crate) async fn open(
        hub: Arc<Hub>,
        protector: &Arc<Protector>,
        registry: &Arc<SessionRegistry>,
        folder: &Path,
    ) -> Result<Arc<Self>> {
        let part = |list: List| Part {
            list,
            stream: Stream::new(Arc::clone(&hub), list.name()),
            protector: Arc::clone(protector),
            seen: Mutex::new(0),
        };
        let parts = List::ALL.map(part);
        let (protector, registry) = (Arc::clone(protector), Arc::downgrade(registry));
        let strikes = Strikes::new(Arc::clone(&hub));
        let of_sites = Mutex::default();
        let shared = Shared { parts, of_sites, strikes, hub, protector, registry };
        for part in &shared.parts {
            shared.begin(part, &part.list.file(folder)).await?;
        }
        Ok(Arc::new(shared))
    }

    /// Takes up the sites that have a protector of their own and were not there before. Errors: those of the database
    /// and of the files.
    pub(crate) async fn join_sites(&self) -> Result<()> {
        let mut there = self.of_sites.lock().await;
        // One that only this knows is of a site that asks for none any more.
        there.retain(|part| Arc::strong_count(&part.protector) > 1);
        for site in self.protector.of_sites() {
            if there.iter().any(|part| Arc::ptr_eq(&site, &part.protector)) {
                continue;
            }
            let Some(file) = site.own_file(List::Deny) else { continue };
            let stream = Stream::new(Arc::clone(&self.hub), OF_SITES);
            let part = Part { list: List::Deny, stream, protector: site, seen: Mutex::new(0) };
            self.begin(&part, &file).await?;
            there.push(Arc::new(part));
        }
        Ok(())
    }

    async fn begin(&self, part: &Part, file: &Path) -> Result<()> {
        let before = BlockList::load(file)?;
        {
            let mut state = part.protector.lock();
            state.tally.get_or_insert_default();
            // What a site blocked since it was made is new to the others.
            let list = state.of(part.list);
            let bans = list.all().into_iter().filter(|ban| before.get(&ban.network).is_none());
            let bans: Vec<_> = bans.collect();
            list.marks = Some(Marks::default());
            bans.into_iter().for_each(|ban| list.put(ban));
        }
        let (all, revision) = part.stream.all().await?;
        *part.seen.lock().await = revision;
        self.learn(part, all, true);
        let bans = before.all();
        if !bans.is_empty() {
            bans.into_iter().for_each(|ban| part.protector.lock().of(part.list).put(ban));
            while self.write(part).await? {}
        }
        if file.exists() {
            let aside = file.with_extension("json.taken");
            std::fs::rename(file, &aside)?;
            tracing::info!(file = %aside.display(), "this list is one that nodes share; what was here was taken over");
        }
        Ok(())
    }

    /// Writes what is marked, or a bunch of it; whether there is more. Errors: those of the database; then it
    /// is marked still.
    async fn write(&self, part: &Part) -> Result<bool> {
        let (marks, records, more) = {
            let mut state = part.protector.lock();
            let list = state.of(part.list);
            let Some(mut marks) = list.marks.take() else { return Ok(false) };
            let taken = marks.take(BUNCH);
            let ban = |network: &IpNet| list.get(network);
            let told = |(n, m): &(IpNet, Mark)| record(part.site(), *n, *m, ban(n));
            let records: Vec<_> = taken.iter().filter_map(told).collect();
            let more = !marks.0.is_empty();
            list.marks = Some(marks);
            (taken, records, more)
        };
        if records.is_empty() {
            return Ok(more);
        }
        let put = part.stream.put(records, None, "a list of networks").await;
        if put.is_err()
            && let Some(left) = &mut part.protector.lock().of(part.list).marks
        {
            left.put_back(marks);
        }
        put.map(|_| more)
    }

    /// Tells what was counted, or a bunch of it, and blocks who has struck out on all nodes together; whether there
    /// is more. Errors: those of the database; then it is told later.
    async fn count(&self, protector: &Protector) -> Result<bool> {
        let now = (protector.clock)();
        let (bunch, window) = {
            let mut state = protector.lock();
            let window = state.settings.window;
            let Some(bunch) = state.tally.as_mut().and_then(|tally| tally.take(BUNCH)) else {
                return Ok(false);
            };
            (bunch, window)
        };
        let site = protector.site().map_or("", AsRef::as_ref);
        let told = self.strikes.tell(site, bunch.anew.clone(), bunch.told(now, window), window);
        let sums = match told.await {
            Ok(sums) => sums,
            Err(e) => {
                if let Some(tally) = &mut protector.lock().tally {
                    tally.put_back(bunch);
                }
                return Err(e);
            }
        };
        let last = bunch.last();
        for (address, sum) in sums {
            let Some(strike) = last.get(&address) else { continue };
            if let Some(ban) = protector.weigh(address, sum, *strike) {
                self.end_sessions(&ban, protector);
            }
        }
        Ok(bunch.is_full(BUNCH))
    }

    /// Takes up rows; whether they are all there are.
    fn learn(&self, part: &Part, records: Vec<Record>, all: bool) {
        let (of, protector) = (part.list, &part.protector);
        let mine = records.into_iter().filter(|record| record.site == part.site());
        let rows: Vec<_> = mine.filter_map(read).collect();
        let now = protector.now();
        let mut fresh = Vec::new();
        {
            let mut state = protector.lock();
            let list = state.of(of);
            if all {
                let there: std::collections::HashSet<IpNet> = rows.iter().map(|(n, _)| *n).collect();
                for ban in list.all().into_iter().filter(|b| !there.contains(&b.network)) {
                    list.learn(ban.network, None, now);
                }
            }
            let mut changed = Vec::new();
            for (network, ban) in rows {
                let gone = ban.is_none() && list.get(&network).is_some();
                let new = list.learn(network, ban, now);
                if gone || new.is_some() {
                    changed.push(network);
                }
                fresh.extend(new);
            }
            // Whoever blocked it, or let it in again, has the others begin to count anew.
            if of == List::Deny {
                changed.iter().for_each(|network| state.forget(network));
            }
        }
        for ban in fresh {
            if of != List::Deny {
                let (list, network) = (of.name(), ban.network);
                tracing::info!(list, %network, by = ban.by, "put on a list by another node");
                continue;
            }
            let (site, network) = (part.site(), ban.network);
            tracing::info!(site, %network, by = ban.by, reason = ban.reason, "blocked by another node");
            self.end_sessions(&ban, protector);
        }
    }

    /// As it is done where the ban came about: who was blocked by hand is out, whoever struck out does not get in.
    fn end_sessions(&self, ban: &Ban, protector: &Protector) {
        let by_hand = ban.by != PROTECTOR;
        let actor = if by_hand { Actor::Admin(ban.by.as_str().into()) } else { Actor::Server };
        let ending =
            Ending::new("connections from this address are not taken", actor).because(Reason::Banned);
        for session in self.registry.upgrade().map(|r| r.list()).unwrap_or_default() {
            let inside = session.peer_address().is_some_and(|a| ban.network.contains(&a));
            let inside = inside && protector.site().is_none_or(|site| *site == session.site());
            if inside && (by_hand || session.identity().is_none()) {
                session.cut(ending.clone());
            }
        }
    }

    async fn read(&self, part: &Part) -> Result<()> {
        let mut seen = part.seen.lock().await;
        match part.stream.since(*seen).await? {
            Fresh::Nothing => {}
            Fresh::All(records, revision) => {
                self.learn(part, records, true);
                *seen = revision;
            }
            Fresh::Some(records, revision, _) => {
                self.learn(part, records, false);
                *seen = revision;
            }
        }
        Ok(())
    }

    /// Exchanges until it is dropped.
    pub(crate) async fn exchange(&self) {
        let mut others = self.hub.follow();
        loop {
            let done = async {
                self.join_sites().await?;
                let of_sites = self.of_sites.lock().await.clone();
                // Before the list, which it may add to.
                while self.count(&self.protector).await? {}
                for part in &of_sites {
                    while self.count(&part.protector).await? {}
                }
                for part in self.parts.iter().chain(of_sites.iter().map(|part| &**part)) {
                    while self.write(part).await? {}
                    self.read(part).await?;
                }
                Ok(())
            };
            let done = done.await;
            others.looked(&done);
            if done.is_ok() {
                // A flood of hits is not a flood of writing.
                tokio::time::sleep(WRITTEN).await;
                tokio::select! {
                    () = self.protector.changed() => {}
                    () = self.protector.site_changed() => {}
                    () = others.wait() => {}
                }
            } else {
                others.wait().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(network: &str, since: u64, until: Option<u64>, hits: u64) -> Ban {
        let network = network.parse().unwrap();
        Ban { network, since, until, reason: "r".into(), by: PROTECTOR.into(), hits }
    }

    fn list(bans: &[Ban]) -> BlockList {
        let mut list = BlockList::default();
        list.marks = Some(Marks::default());
        bans.iter().for_each(|b| list.enter(b.clone()));
        list
    }

    fn marks(list: &mut BlockList) -> Vec<(String, Mark)> {
        let all = list.marks.as_mut().unwrap().take(10);
        all.into_iter().map(|(n, m)| (n.to_string(), m)).collect()
    }

    #[test]
    fn what_this_node_changes_is_told_and_what_it_learns_is_not() {
        let (net, other) = ("192.0.2.1/32", "192.0.2.2/32");
        let mut ours = list(&[]);
        ours.put(ban(net, 5, Some(50), 0));
        ours.learn(other.parse().unwrap(), Some(ban(other, 5, Some(50), 0)), 9).unwrap();
        assert_eq!(marks(&mut ours), [(net.to_string(), Mark::New)]);
        ours.mark(&net.parse().unwrap(), Mark::Hit);
        assert_eq!(marks(&mut ours), [(net.to_string(), Mark::Hit)]);
        ours.remove(&net.parse().unwrap());
        ours.learn(other.parse().unwrap(), None, 9);
        assert_eq!(marks(&mut ours), [(net.to_string(), Mark::Gone)]);
        // What ends by itself everywhere is told by nobody.
        ours.put(ban(net, 5, Some(50), 0));
        marks(&mut ours);
        assert!(ours.tidy(60) && marks(&mut ours).is_empty() && ours.all().is_empty());
    }

    #[test]
    fn of_two_nodes_the_longer_ban_counts_and_a_removal_wins() {
        let net: IpNet = "192.0.2.1/32".parse().unwrap();
        let mut ours = list(&[ban("192.0.2.1/32", 5, Some(50), 3)]);
        assert!(ours.learn(net, Some(ban("192.0.2.1/32", 5, Some(80), 2)), 9).is_none());
        assert_eq!(ours.all()[0], ban("192.0.2.1/32", 5, Some(80), 3));
        assert!(ours.learn(net, Some(ban("192.0.2.1/32", 7, Some(60), 0)), 9).is_some(), "another one");
        assert!(ours.learn(net, Some(ban("192.0.2.1/32", 7, Some(8), 0)), 9).is_none(), "it is over");
        assert!(ours.all().is_empty());
        // Removed here, and not told yet: what comes from there is older.
        let mut ours = list(&[ban("192.0.2.1/32", 5, Some(50), 3)]);
        ours.remove(&net);
        assert!(ours.learn(net, Some(ban("192.0.2.1/32", 5, Some(90), 9)), 9).is_none());
        assert!(ours.all().is_empty());
        // Entered here, and not told yet: nobody could remove it.
        let mut ours = list(&[]);
        ours.put(ban("192.0.2.1/32", 5, Some(50), 0));
        ours.learn(net, None, 9);
        assert_eq!(ours.all().len(), 1);
        assert!(ours.learn(net, Some(ban("192.0.2.1/32", 4, Some(99), 0)), 9).is_none());
        assert_eq!(ours.all()[0].since, 5);
    }

    #[test]
    fn a_hit_is_written_only_where_the_ban_is_in_force() {
        let net: IpNet = "192.0.2.0/24".parse().unwrap();
        let there = ban("192.0.2.0/24", 5, Some(50), 1);
        let new = record("shop", net, Mark::New, Some(&there)).unwrap();
        assert_eq!(new.site, "shop");
        assert!(!new.only_if_there && new.expires == Some(50));
        assert_eq!(read(new).unwrap(), (net, Some(there.clone())));
        assert!(record("", net, Mark::Hit, Some(&there)).unwrap().only_if_there);
        assert!(record("", net, Mark::Hit, None).is_none() && record("", net, Mark::New, None).is_none());
        let gone = record("", net, Mark::Gone, None).unwrap();
        assert_eq!(read(gone).unwrap(), (net, None));
        assert!(record("", net, Mark::Gone, Some(&there)).is_none(), "it is there again, and marked again");
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let nets: Vec<IpNet> =
            (0..3u8).map(|n| IpNet::from(std::net::IpAddr::from([192, 0, 2, n]))).collect();
        let mut marks = Marks::default();
        marks.set(nets[0], Mark::Hit);
        marks.set(nets[1], Mark::New);
        marks.set(nets[2], Mark::Gone);
        marks.set(nets[1], Mark::Hit);
        let some = marks.take(2);
        assert_eq!(some, [(nets[1], Mark::New), (nets[2], Mark::Gone)], "hits can wait");
        marks.set(nets[2], Mark::New);
        marks.set(nets[1], Mark::Hit);
        marks.put_back(some);
        assert_eq!(
            marks.take(9),
            [(nets[1], Mark::New), (nets[2], Mark::New), (nets[0], Mark::Hit)],
            "what came since stands"
        );
    }
}
