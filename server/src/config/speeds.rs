//! `[[speeds]]`: how fast content moves, by the client's network and the direction.
//!
//! Every table that an address fits holds for it, besides the limits of its account. Bytes per second; 0 for no
//! limit.

use ipnet::IpNet;
use serde::Deserialize;

use super::fault::{Fault, Source, Step};
use super::values;

words! {
    /// Who shares a limit.
    Per {
        /// Each client address has its own.
        Address,
        /// All that the table is for.
        #[default]
        All,
        /// Each session has its own.
        Session,
    }
}

/// How fast content moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Speed {
    /// In both directions together.
    pub both: u64,
    /// From the server.
    pub download: u64,
    /// To the server.
    pub upload: u64,
}

impl Speed {
    /// Whether it limits nothing.
    pub fn is_none(&self) -> bool {
        *self == Speed::default()
    }
}

/// A limit of some clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SpeedRule {
    /// Where they come from; empty: from anywhere.
    #[serde(default, deserialize_with = "values::networks")]
    pub networks: Vec<IpNet>,
    /// In both directions together.
    #[serde(default)]
    pub both: u64,
    /// From the server.
    #[serde(default)]
    pub download: u64,
    /// To the server.
    #[serde(default)]
    pub upload: u64,
    /// Who shares it.
    #[serde(default)]
    pub per: Per,
}

impl SpeedRule {
    /// How fast.
    pub fn speed(&self) -> Speed {
        Speed { both: self.both, download: self.download, upload: self.upload }
    }
}

/// Faults between values.
pub(super) fn check(speeds: &[SpeedRule], source: &Source<'_>) -> Vec<Fault> {
    let none = speeds.iter().enumerate().filter(|(_, s)| s.speed().is_none());
    none.map(|(i, _)| {
        source.fault_at(
            &[Step::Key("speeds".into()), Step::Index(i)],
            "it limits nothing: say both, upload or download",
        )
    })
    .collect()
}
