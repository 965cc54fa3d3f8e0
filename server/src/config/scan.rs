//! `[scan]`: who looks at uploads before they are published, and where goes what must not be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use session_core::fs::Algorithm;

use super::fault::{Fault, Source, Step};
use super::{Hook, OnError, Parking, Staging, values};
use crate::scan::{IcapAddress as Address, icap_address};

words! {
    /// What becomes of an upload that the scanner objects to.
    Infected {
        /// It is thrown away.
        #[default]
        Refuse,
        /// A copy goes into the quarantine.
        Quarantine,
    }
}

/// The scanner and the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Scan {
    /// The socket of clamd: a path, or `host:port`; without it clamd is not asked.
    pub clamd: Option<String>,
    /// A service of ICAP: `icap://host/service`, `icaps:` over TLS; without it none is asked.
    pub icap: Option<String>,
    /// Authorities as PEM that vouch for it, beside the system's.
    pub authorities: Option<PathBuf>,
    /// The most time of one upload, its wait for a connection included.
    #[serde(deserialize_with = "values::duration")]
    pub time: Duration,
    /// Uploads that are scanned at once.
    pub connections: usize,
    /// The largest upload that is scanned, bytes; 0 for what the scanner itself takes.
    pub largest: u64,
    /// What becomes of larger ones.
    pub larger: OnError,
    /// What becomes of an upload that could not be scanned.
    pub on_error: OnError,
    /// What becomes of one that the scanner objects to.
    pub infected: Infected,
    /// The digest that is made on the way.
    #[serde(deserialize_with = "digest")]
    pub digest: Option<Algorithm>,
    /// The folder of what must not be published; never empty once loaded, and outside every home.
    pub quarantine: PathBuf,
    /// The most bytes that are kept there; what would be more is thrown away.
    pub quarantine_size: u64,
}

impl Default for Scan {
    fn default() -> Self {
        Scan {
            clamd: None,
            icap: None,
            authorities: None,
            time: Duration::from_secs(60),
            connections: 8,
            largest: 0,
            larger: OnError::Block,
            on_error: OnError::Block,
            infected: Infected::default(),
            digest: None,
            quarantine: PathBuf::new(),
            quarantine_size: 1 << 30,
        }
    }
}

impl Scan {
    /// Whether uploads are looked at.
    pub fn is_on(&self) -> bool {
        self.clamd.is_some() || self.icap.is_some()
    }

    /// Makes paths absolute.
    pub(super) fn complete(&mut self, data: &Path, join: impl Fn(&Path) -> PathBuf) {
        self.quarantine = match self.quarantine.as_os_str().is_empty() {
            true => data.join("quarantine"),
            false => join(&self.quarantine),
        };
        self.authorities = self.authorities.take().map(|f| join(&f));
        // A name with a slash is a file; a host has none.
        if let Some(clamd) = self.clamd.as_mut().filter(|c| c.contains('/')) {
            *clamd = join(Path::new(clamd)).to_string_lossy().into_owned();
        }
    }
}

fn digest<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Algorithm>, D::Error> {
    let name = String::deserialize(d)?;
    let words = || serde::de::Error::custom(format!("'{name}' is no digest: blake3, sha256 and others"));
    Algorithm::parse(&name).map(Some).ok_or_else(words)
}

/// Faults between the scanner, the handlers that judge, and how a site's uploads are staged: nothing may
/// pass them by.
pub(super) fn check(scan: &Scan, staging: &Staging, hooks: &[Hook], source: &Source<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let at = |table: &str, key: &str| [Step::Key(table.into()), Step::Key(key.into())];
    let judged = hooks.iter().any(|h| h.event == "BeforeCommit");
    if staging.parking == Parking::Publish && (judged || scan.is_on()) {
        let words = "uploads that break off would be published unseen: there is a scanner or a handler of BeforeCommit";
        faults.push(source.fault_at(&at("staging", "parking"), words));
    }
    let address = scan.icap.as_deref().map(icap_address).transpose();
    match (&scan.authorities, &address) {
        (_, Err(words)) => faults.push(source.fault_at(&at("scan", "icap"), words)),
        (Some(_), Ok(address)) if !address.as_ref().is_some_and(Address::is_secure) => {
            let words = "there is nobody to vouch for: authorities are those of 'icaps:'";
            faults.push(source.fault_at(&at("scan", "authorities"), words));
        }
        _ => {}
    }
    if !scan.is_on() {
        return faults;
    }
    if !staging.enabled {
        let words = "uploads that are scanned must be staged";
        faults.push(source.fault_at(&at("staging", "enabled"), words));
    }
    if !staging.off.is_empty() {
        let words = "what is uploaded there would pass the scanner by";
        faults.push(source.fault_at(&at("staging", "off"), words));
    }
    for (key, zero) in [("time", scan.time.is_zero()), ("connections", scan.connections == 0)] {
        if zero {
            faults.push(source.fault_at(&at("scan", key), "nothing could be scanned"));
        }
    }
    faults
}
