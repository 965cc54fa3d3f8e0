//! `quota`: how much a home or a virtual folder may hold.
//!
//! Of a user: its home; where several users share one, all of their quotas hold for it. Of a folder: what is
//! there, whoever put it. `total_quota` of a group: the homes of its members together. What a gateway holds is
//! not counted.

use serde::Deserialize;
use session_core::layers::quota::Limits;

use super::fault::{Fault, Source, Step};

/// How much there may be; 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Bytes; an upload that would exceed them is cut.
    pub bytes: u64,
    /// Bytes from which nothing new is begun.
    pub soft_bytes: u64,
    /// Files and links.
    pub files: u64,
    /// Files and links from which nothing new is begun.
    pub soft_files: u64,
}

impl Quota {
    /// As a store is bounded by it.
    pub fn limits(&self) -> Limits {
        let Quota { bytes, soft_bytes, files, soft_files } = *self;
        Limits { bytes, soft_bytes, files, soft_files }
    }

    /// Whether it limits nothing.
    pub fn is_none(&self) -> bool {
        *self == Quota::default()
    }

    /// Faults between its values; `at` leads to it.
    pub(super) fn check(&self, at: &[Step], source: &Source<'_>) -> Vec<Fault> {
        let wrong =
            [("soft_bytes", self.soft_bytes, self.bytes), ("soft_files", self.soft_files, self.files)];
        let wrong = wrong.into_iter().filter(|(_, soft, hard)| *hard > 0 && soft > hard);
        wrong
            .map(|(name, ..)| {
                let at = [at, &[Step::Key(name.into())]].concat();
                source.fault_at(&at, "a soft limit is not above the hard one: it would never be reached")
            })
            .collect()
    }
}
