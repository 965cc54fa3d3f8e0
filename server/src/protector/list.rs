//! Lists of networks, each with why and until when: those that may not connect, those that are never blocked, and
//! those that alone may connect.
//!
//! Entries of administrators stay until they are removed, or for the time that was named; those of the
//! protector end by themselves, and are lengthened each time somebody comes from there all the same. The
//! list is a file that survives a restart, replaced as a whole. Looking an address up costs one step for
//! each length of prefix in use, however many entries there are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;

use super::shared::{Mark, Marks};

/// Entries made by the protector, at most; the ones that end first make room.
const MOST: usize = 100_000;

/// Which list a network is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Those that alone may connect, where the settings say so.
    Allow,
    /// Those that may not.
    Deny,
    /// Those that are never struck and never blocked.
    Safe,
}

impl List {
    /// All of them.
    pub(crate) const ALL: [List; 3] = [List::Allow, List::Deny, List::Safe];

    /// As the API, files and nodes call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            List::Allow => "allow",
            List::Deny => "bans",
            List::Safe => "safe",
        }
    }

    /// Its file among those of this folder.
    pub(super) fn file(self, folder: &Path) -> PathBuf {
        folder.join(self.name()).with_extension("json")
    }
}

/// A network on a list: one that may not connect, where no other is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who may not.
    #[serde(with = "as_text")]
    pub network: IpNet,
    /// Since when, seconds since 1970.
    pub since: u64,
    /// Until when, seconds since 1970; `None` until it is removed.
    pub until: Option<u64>,
    /// Why.
    pub reason: String,
    /// Who did it: `protector`, or an administrator.
    pub by: String,
    /// How often somebody came from there since.
    #[serde(default)]
    pub hits: u64,
}

mod as_text {
    use ipnet::IpNet;
    use serde::de::{Deserialize, Deserializer, Error as _};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(network: &IpNet, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(network)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<IpNet, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|_| D::Error::custom("this is no network"))
    }
}

impl Ban {
    /// The entry as the API shows it.
    pub fn to_json(&self) -> serde_json::Value {
        let time = |s: u64| timestamp(UNIX_EPOCH + Duration::from_secs(s));
        serde_json::json!({
            "network": self.network.to_string(),
            "since": time(self.since),
            "until": self.until.map(time),
            "reason": self.reason,
            "by": self.by,
            "hits": self.hits,
        })
    }

    fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The entries.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockList {
    entries: HashMap<IpNet, Ban>,
    /// How many entries there are of each length of prefix, of IPv4 and of IPv6.
    lengths: [BTreeMap<u8, usize>; 2],
    /// How many of them are the protector's.
    automatic: usize,
    /// What other nodes do not know yet, where there are any.
    pub(super) marks: Option<Marks>,
}

/// What is entered by rules, not by a person.
pub(super) const PROTECTOR: &str = "protector";

fn family(net: &IpNet) -> usize {
    usize::from(matches!(net, IpNet::V6(_)))
}

impl BlockList {
    /// Reads what [`BlockList::save`] wrote; a file that is not there is an empty list. Errors: a file that
    /// cannot be read or understood: who was blocked must not come in by that.
    pub(super) fn load(file: &Path) -> Result<Self> {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => {
                return Err(Error::from(e).with_detail(format!("{} cannot be read", file.display())));
            }
        };
        let bans: Vec<Ban> = serde_json::from_slice(&text).map_err(|e| {
            Error::new(ErrorKind::Corrupt)
                .with_detail(format!("{} is no list of networks", file.display()))
                .with_hint("repair it, or move it away to begin with an empty one")
                .with_source(e)
        })?;
        let mut list = Self::default();
        bans.into_iter().for_each(|b| list.put(b));
        Ok(list)
    }

    /// Writes the list. Blocks. Errors: those of the disk; then the old file stands.
    pub(super) fn save(&self, file: &Path) -> Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let failed = |e: std::io::Error| {
            Error::from(e).with_detail(format!("the list {} cannot be written", file.display()))
        };
        let bans = self.all();
        let text =
            serde_json::to_vec_pretty(&bans).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
        let temporary = file.with_extension("new");
        let mut open = std::fs::OpenOptions::new();
        let mut out =
            open.write(true).create(true).truncate(true).mode(0o600).open(&temporary).map_err(failed)?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(failed)?;
        std::fs::rename(&temporary, file).map_err(failed)
    }

    /// All entries, by network.
    pub(super) fn all(&self) -> Vec<Ban> {
        let mut all: Vec<_> = self.entries.values().cloned().collect();
        all.sort_by_key(|b| b.network);
        all
    }

    /// Enters a ban in place of one for the same network, for other nodes too.
    pub(super) fn put(&mut self, mut ban: Ban) {
        ban.network = ban.network.trunc();
        self.mark(&ban.network, Mark::New);
        self.enter(ban);
    }

    /// Takes the ban of exactly this network away, from other nodes too.
    pub(super) fn remove(&mut self, network: &IpNet) -> Option<Ban> {
        let ban = self.forget(network)?;
        self.mark(&ban.network, Mark::Gone);
        Some(ban)
    }

    /// Other nodes are to know it.
    pub(super) fn mark(&mut self, network: &IpNet, mark: Mark) {
        if let Some(marks) = &mut self.marks {
            marks.set(*network, mark);
        }
    }

    pub(super) fn get(&self, network: &IpNet) -> Option<&Ban> {
        self.entries.get(network)
    }

    pub(super) fn get_mut(&mut self, network: &IpNet) -> Option<&mut Ban> {
        self.entries.get_mut(network)
    }

    /// Enters a ban on this node.
    pub(super) fn enter(&mut self, ban: Ban) {
        self.forget(&ban.network);
        if ban.by == PROTECTOR {
            if self.automatic >= MOST {
                let mine = self.entries.values().filter(|b| b.by == PROTECTOR);
                if let Some(first) = mine.min_by_key(|b| b.until).map(|b| b.network) {
                    self.forget(&first);
                }
            }
            self.automatic += 1;
        }
        if let Some(lengths) = self.lengths.get_mut(family(&ban.network)) {
            *lengths.entry(ban.network.prefix_len()).or_default() += 1;
        }
        self.entries.insert(ban.network, ban);
    }

    /// Takes the ban of exactly this network away, on this node.
    pub(super) fn forget(&mut self, network: &IpNet) -> Option<Ban> {
        let ban = self.entries.remove(&network.trunc())?;
        self.automatic -= usize::from(ban.by == PROTECTOR);
        if let Some(lengths) = self.lengths.get_mut(family(&ban.network))
            && let Some(n) = lengths.get_mut(&ban.network.prefix_len())
        {
            *n -= 1;
            if *n == 0 {
                lengths.remove(&ban.network.prefix_len());
            }
        }
        Some(ban)
    }

    /// The ban that this address is under, the widest one; those that are over go.
    pub(super) fn find(&mut self, address: IpAddr, now: u64) -> Option<&mut Ban> {
        self.find_among(address, now, |_| true)
    }

    /// The same of what a person entered.
    pub(super) fn find_entered(&mut self, address: IpAddr, now: u64) -> Option<&mut Ban> {
        self.find_among(address, now, |ban| ban.by != PROTECTOR)
    }

    fn find_among(&mut self, address: IpAddr, now: u64, is_one: impl Fn(&Ban) -> bool) -> Option<&mut Ban> {
        let host = IpNet::from(address.to_canonical());
        let mut hit = None;
        let mut over = Vec::new();
        for length in self.lengths.get(family(&host))?.keys() {
            let Ok(net) = IpNet::new(host.addr(), *length) else { continue };
            let net = net.trunc();
            match self.entries.get(&net) {
                Some(ban) if ban.is_over(now) => over.push(net),
                Some(ban) if is_one(ban) => {
                    hit = Some(net);
                    break;
                }
                _ => {}
            }
        }
        for net in over {
            self.forget(&net);
        }
        self.entries.get_mut(&hit?)
    }

    /// Takes those away that are over; whether there was one.
    pub(super) fn tidy(&mut self, now: u64) -> bool {
        let over: Vec<_> = self.entries.values().filter(|b| b.is_over(now)).map(|b| b.network).collect();
        for net in &over {
            self.forget(net);
        }
        !over.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(network: &str, until: Option<u64>, by: &str) -> Ban {
        let network = crate::config::parse_network(network).unwrap();
        Ban { network, since: 0, until, reason: "r".into(), by: by.into(), hits: 0 }
    }

    #[test]
    fn an_address_is_found_in_any_network_around_it() {
        let mut list = BlockList::default();
        for net in ["192.0.2.0/24", "198.51.100.7", "2001:db8::/64", "10.1.2.3/8"] {
            list.put(ban(net, None, "admin"));
        }
        let found =
            |list: &mut BlockList, a: &str| list.find(a.parse().unwrap(), 5).map(|b| b.network.to_string());
        assert_eq!(found(&mut list, "192.0.2.200").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(found(&mut list, "::ffff:192.0.2.200").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(found(&mut list, "198.51.100.7").as_deref(), Some("198.51.100.7/32"));
        assert_eq!(found(&mut list, "198.51.100.8"), None);
        assert_eq!(found(&mut list, "10.200.0.1").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(found(&mut list, "2001:db8::ffff").as_deref(), Some("2001:db8::/64"));
        assert_eq!(found(&mut list, "2001:db8:0:1::"), None);
        assert!(list.remove(&"10.0.0.0/8".parse().unwrap()).is_some());
        assert_eq!(found(&mut list, "10.200.0.1"), None);
    }

    #[test]
    fn what_is_over_is_gone() {
        let mut list = BlockList::default();
        list.put(ban("192.0.2.1", Some(10), PROTECTOR));
        list.put(ban("192.0.2.0/24", Some(20), PROTECTOR));
        assert!(list.find("192.0.2.1".parse().unwrap(), 9).is_some());
        let still = list.find("192.0.2.1".parse().unwrap(), 10).map(|b| b.network.prefix_len());
        assert_eq!(still, Some(24));
        assert!(list.tidy(20) && list.all().is_empty() && !list.tidy(30));
        assert_eq!(list.automatic, 0);
    }

    #[test]
    fn the_file_holds_everything_and_a_bad_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bans.json");
        assert!(BlockList::load(&file).unwrap().all().is_empty());
        let mut list = BlockList::default();
        list.put(ban("2001:db8::/64", Some(99), PROTECTOR));
        list.put(ban("192.0.2.1", None, "admin uid 0"));
        list.save(&file).unwrap();
        assert_eq!(BlockList::load(&file).unwrap().all(), list.all());
        std::fs::write(&file, "[{]").unwrap();
        assert_eq!(BlockList::load(&file).err().unwrap().kind(), ErrorKind::Corrupt);
    }
}
