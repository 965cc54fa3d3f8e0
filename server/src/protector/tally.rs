//! `Tally`: what other nodes do not know yet of what this one has counted.
//!
//! Bounded: what is counted while nobody can be told goes, the oldest first; this node's own counting has it all the
//! same. Deliberately absent: how it is told (`crate::shared`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::Strike;
use crate::shared::Told;

/// Strikes that wait, at most.
const MOST: usize = 10_000;

/// Networks that begin anew and wait for it to be told, at most.
const ANEW: usize = 1000;

#[derive(Clone, Copy)]
struct Struck {
    address: IpAddr,
    at: SystemTime,
    weight: u32,
    strike: Strike,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Tally {
    /// The oldest first.
    fresh: VecDeque<Struck>,
    anew: HashSet<IpNet>,
}

/// Some of it, on its way to the others.
pub(super) struct Bunch {
    fresh: Vec<Struck>,
    pub(super) anew: Vec<IpNet>,
}

impl Tally {
    /// `address` is the one that strikes are counted for.
    pub(super) fn add(&mut self, address: IpAddr, at: SystemTime, weight: u32, strike: Strike) {
        if self.fresh.len() >= MOST {
            self.fresh.pop_front();
        }
        self.fresh.push_back(Struck { address, at, weight, strike });
    }

    /// What was counted in a network is over, for the others too.
    pub(super) fn begin_anew(&mut self, network: IpNet) {
        if self.anew.len() < ANEW {
            self.anew.insert(network);
        }
    }

    /// The same on this node.
    pub(super) fn forget(&mut self, network: &IpNet) {
        self.fresh.retain(|s| !network.contains(&s.address));
    }

    /// Whether an address begins anew, and the others do not know it.
    pub(super) fn begins_anew(&self, address: IpAddr) -> bool {
        self.anew.iter().any(|network| network.contains(&address))
    }

    /// Some of it, the oldest first; nothing where there is nothing.
    pub(super) fn take(&mut self, most: usize) -> Option<Bunch> {
        if self.fresh.is_empty() && self.anew.is_empty() {
            return None;
        }
        let fresh = self.fresh.drain(..most.min(self.fresh.len())).collect();
        Some(Bunch { fresh, anew: self.anew.drain().collect() })
    }

    /// What could not be told: it is told later, but what has begun anew meanwhile.
    pub(super) fn put_back(&mut self, bunch: Bunch) {
        for struck in bunch.fresh.into_iter().rev() {
            if self.fresh.len() < MOST && !self.begins_anew(struck.address) {
                self.fresh.push_front(struck);
            }
        }
        bunch.anew.into_iter().for_each(|network| self.begin_anew(network));
    }
}

impl Bunch {
    /// Whether there were as many strikes as it may hold, and perhaps more.
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.fresh.len() >= most
    }

    /// The strikes that count still.
    pub(super) fn told(&self, now: SystemTime, window: Duration) -> Vec<Told> {
        let told = |s: &Struck| {
            let age = now.duration_since(s.at).unwrap_or_default();
            (age < window).then_some(Told { address: s.address, weight: s.weight, age })
        };
        self.fresh.iter().filter_map(told).collect()
    }

    /// The last strike of each address.
    pub(super) fn last(&self) -> HashMap<IpAddr, Strike> {
        self.fresh.iter().map(|s| (s.address, s.strike)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_too_old_is_not_told() {
        let mut tally = Tally::default();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for n in 0..MOST as u64 + 5 {
            tally.add(ip(1), start + Duration::from_secs(n), 1, Strike::Login);
        }
        for n in 0..ANEW as u32 + 5 {
            tally.begin_anew(IpNet::from(IpAddr::from(n.to_be_bytes())));
        }
        assert_eq!((tally.fresh.len(), tally.anew.len()), (MOST, ANEW));
        let bunch = tally.take(10).unwrap();
        assert!(bunch.is_full(10) && !bunch.is_full(11));
        assert_eq!((bunch.fresh.len(), bunch.fresh[0].at), (10, start + Duration::from_secs(5)));
        let told = bunch.told(start + Duration::from_secs(25), Duration::from_secs(15));
        assert_eq!(told.len(), 4);
        assert_eq!(told[0], Told { address: ip(1), weight: 1, age: Duration::from_secs(14) });
    }

    #[test]
    fn what_could_not_be_told_is_told_later_unless_it_begins_anew() {
        let mut tally = Tally::default();
        let now = SystemTime::now();
        for (n, strike) in [(1, Strike::Login), (2, Strike::Login), (1, Strike::Protocol)] {
            tally.add(ip(n), now, 1, strike);
        }
        let bunch = tally.take(9).unwrap();
        assert!(tally.take(9).is_none());
        assert_eq!(bunch.last()[&ip(1)], Strike::Protocol);
        tally.begin_anew(IpNet::from(ip(2)));
        assert!(tally.begins_anew(ip(2)) && !tally.begins_anew(ip(1)));
        tally.put_back(bunch);
        let again = tally.take(9).unwrap();
        assert!(again.fresh.iter().all(|s| s.address == ip(1)) && again.fresh.len() == 2);
        assert_eq!(again.anew, [IpNet::from(ip(2))]);
        tally.put_back(again);
        tally.forget(&IpNet::from(ip(1)));
        assert!(tally.take(9).unwrap().fresh.is_empty());
    }
}
