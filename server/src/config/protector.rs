//! `[protector]`: what keeps misbehaving clients out, and how soon.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::fault::{Fault, Source, Step};
use super::values;

/// How strict the protector is; each level takes in the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Failed logins, broken protocols, weak algorithms.
    Permissive,
    /// Commands that are not known.
    #[default]
    Normal,
    /// Names of things that do not exist.
    Strict,
    /// Whatever makes no sense.
    Paranoid,
}

/// The settings of the protector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProtectorSettings {
    /// Whether offences are counted. The block list is in force all the same.
    pub enabled: bool,
    /// What is an offence.
    pub level: Level,
    /// How heavy the strikes within the window may get before the address is blocked.
    pub strikes: u32,
    /// How long a strike counts.
    #[serde(deserialize_with = "values::duration")]
    pub window: Duration,
    /// How long an address is blocked; zero for ever.
    #[serde(deserialize_with = "values::duration")]
    pub ban: Duration,
    /// How much longer each time it comes back meanwhile, in percent of that.
    pub growth: u32,
    /// The weight of a login that failed.
    pub login: u32,
    /// That of a login as somebody who does not exist.
    pub unknown_user: u32,
    /// That of more connections than there may be.
    pub limit: u32,
    /// That of a connection that leaves without a login.
    pub reset: u32,
    /// That of everything else.
    pub offence: u32,
    /// Connections of one address in a minute; 0 for no limit.
    pub rate: u32,
    /// Who is never struck and never blocked.
    #[serde(deserialize_with = "values::networks")]
    pub safe: Vec<IpNet>,
    /// Whether only those may connect who are allowed to, or safe.
    pub only_allowed: bool,
    /// Who may connect then.
    #[serde(deserialize_with = "values::networks")]
    pub allow: Vec<IpNet>,
}

impl Default for ProtectorSettings {
    fn default() -> Self {
        ProtectorSettings {
            enabled: true,
            level: Level::default(),
            strikes: 15,
            window: Duration::from_secs(30 * 60),
            ban: Duration::from_secs(30 * 60),
            growth: 50,
            login: 1,
            unknown_user: 2,
            limit: 3,
            reset: 0,
            offence: 1,
            rate: 0,
            safe: vec![
                IpNet::V4(Ipv4Net::new_assert([127, 0, 0, 0].into(), 8)),
                IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
            ],
            only_allowed: false,
            allow: Vec::new(),
        }
    }
}

impl ProtectorSettings {
    /// Whether an address is on the safe list.
    pub fn is_safe(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.safe.iter().any(|net| net.contains(&address))
    }

    /// Whether an address is on the list of those who may connect.
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow.iter().any(|net| net.contains(&address))
    }

    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Fault> {
        let at = |key: &str| [Step::Key("protector".into()), Step::Key(key.into())];
        let mut faults = Vec::new();
        if !(1..=10_000).contains(&self.strikes) {
            faults.push(source.fault_at(&at("strikes"), "from 1 to 10000 strikes"));
        }
        if self.window.is_zero() {
            faults.push(source.fault_at(&at("window"), "a strike counts for some time"));
        }
        if !self.allow.is_empty() && !self.only_allowed {
            let words = "everybody may connect: 'only_allowed = true' makes this count";
            faults.push(source.fault_at(&at("allow"), words));
        }
        faults
    }
}
