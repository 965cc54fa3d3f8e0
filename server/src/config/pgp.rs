//! `[pgp]`: the GnuPG that handlers with the grant `pgp` use, and its home.
//!
//! Passphrases stand in the secrets of `[scripts]` and are named here, by the fingerprints of their keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::hooks::pgp::Settings;
use serde::Deserialize;
use session_core::script::Fingerprint;

use super::fault::{Fault, Source, Step};
use super::values;

/// How PGP is done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pgp {
    /// GnuPG: a whole path, or a name.
    pub program: PathBuf,
    /// Its home, where the keys are; without it there is no PGP. Nobody else may look into it.
    pub home: Option<PathBuf>,
    /// The names of the secrets that open secret keys, by their fingerprints.
    pub passphrases: BTreeMap<Fingerprint, String>,
    /// The most time of a call.
    #[serde(deserialize_with = "values::duration")]
    pub time: Duration,
    /// The most bytes of content, on either side.
    pub size: u64,
    /// Calls at once.
    pub processes: usize,
}

impl Default for Pgp {
    fn default() -> Self {
        let usual = Settings::at(PathBuf::new());
        Pgp {
            program: usual.program,
            home: None,
            passphrases: BTreeMap::new(),
            time: usual.time,
            size: usual.size,
            processes: usual.processes,
        }
    }
}

impl Pgp {
    /// Faults between values.
    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Fault> {
        let key = |k: &str| Step::Key(k.into());
        let is_named = self.program.is_absolute() || self.program.components().count() == 1;
        let without_home = self.home.is_none() && *self != Pgp::default();
        [
            ("program", !is_named, "a program is named by its whole path, or by its name alone"),
            ("home", without_home, "this has no effect without a 'home', where the keys are"),
            ("time", self.time.is_zero(), "this takes some time"),
            ("processes", self.processes == 0, "nobody could ask"),
        ]
        .into_iter()
        .filter(|(_, wrong, _)| *wrong)
        .map(|(k, _, words)| source.fault_at(&[key("pgp"), key(k)], words))
        .collect()
    }

    /// Makes paths absolute.
    pub(super) fn complete(&mut self, join: impl Fn(&Path) -> PathBuf) {
        self.home = self.home.take().map(|home| join(&home));
    }
}
