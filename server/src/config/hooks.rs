//! The handlers of events and what they may reach: `[[hooks]]` and `[scripts]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use session_core::script::{EVENTS, EngineLimits, Grant, event};

use super::fault::{Fault, Source, Step, nearest};
use super::{OnError, values};

/// A handler of an event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Hook {
    /// The event's name.
    pub event: String,
    /// The script; a module where it ends in `.mjs`.
    pub file: PathBuf,
    /// For whom; empty: for all.
    #[serde(default)]
    pub users: Vec<String>,
    /// Lower runs earlier.
    #[serde(default)]
    pub priority: i32,
    /// What its failure means.
    #[serde(default)]
    pub on_error: OnError,
    /// Its own limit of time.
    #[serde(default, deserialize_with = "values::some_duration")]
    pub time: Option<Duration>,
    /// What it may do besides deciding.
    #[serde(default, deserialize_with = "grants")]
    pub grant: Vec<Grant>,
}

/// What all handlers share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Scripts {
    /// Modules are imported from here; empty: from the folder of the handler's own file.
    pub folder: PathBuf,
    /// Handlers that run at once. As `memory`, `time` and `output`: changes with the next start.
    pub threads: usize,
    /// Memory of one handler, bytes.
    pub memory: usize,
    /// Time of every handler that has none of its own; without it, what its event allows.
    #[serde(deserialize_with = "values::some_duration")]
    pub time: Option<Duration>,
    /// Bytes of log of one call.
    pub output: usize,
    /// A TOML file of names and secrets, for `GetSecret`; nobody else may read it.
    pub secrets: Option<PathBuf>,
    /// Folders of this machine that handlers with the grant `local` may work in.
    pub folders: Vec<PathBuf>,
    /// Other servers may be spoken to in the clear.
    pub allow_clear: bool,
    /// Private networks that `fetch` and clients of other servers may reach.
    #[serde(deserialize_with = "values::networks")]
    pub networks: Vec<IpNet>,
    /// Programs that `Exec` may run, by name.
    pub programs: BTreeMap<String, PathBuf>,
    /// The most time of a program.
    #[serde(deserialize_with = "values::duration")]
    pub program_time: Duration,
    /// The most bytes of a program's output, and of its errors.
    pub program_output: usize,
}

impl Default for Scripts {
    fn default() -> Self {
        let limits = EngineLimits::default();
        Scripts {
            folder: PathBuf::new(),
            threads: limits.threads,
            memory: limits.memory,
            time: limits.time,
            output: limits.output,
            secrets: None,
            folders: Vec::new(),
            allow_clear: false,
            networks: Vec::new(),
            programs: BTreeMap::new(),
            program_time: Duration::from_secs(30),
            program_output: 64 << 10,
        }
    }
}

impl Scripts {
    /// The engine's limits.
    pub fn limits(&self) -> EngineLimits {
        EngineLimits {
            threads: self.threads,
            memory: self.memory,
            time: self.time,
            output: self.output,
            ..EngineLimits::default()
        }
    }

    /// Faults between values.
    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let key = |k: &str| Step::Key(k.into());
        for (name, zero) in [("threads", self.threads == 0), ("memory", self.memory < 1 << 20)] {
            if zero {
                let words =
                    if name == "threads" { "no handler could run" } else { "a handler needs 1 MiB at least" };
                faults.push(source.fault_at(&[key("scripts"), key(name)], words));
            }
        }
        for (name, path) in &self.programs {
            if !path.is_absolute() {
                let at = [key("scripts"), key("programs"), key(name)];
                faults.push(source.fault_at(&at, "a program is named by its whole path"));
            }
        }
        faults
    }

    /// Makes paths absolute.
    pub(super) fn complete(&mut self, join: impl Fn(&Path) -> PathBuf) {
        if !self.folder.as_os_str().is_empty() {
            self.folder = join(&self.folder);
        }
        self.secrets = self.secrets.take().map(|f| join(&f));
        for folder in &mut self.folders {
            *folder = join(folder);
        }
    }
}

fn grants<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Grant>, D::Error> {
    let names = Vec::<String>::deserialize(d)?;
    let known: Vec<_> = Grant::ALL.iter().map(|g| g.name()).collect();
    let parse = |name: String| {
        Grant::parse(&name).ok_or_else(|| {
            let words = format!("there is no grant '{name}': there are {}", known.join(", "));
            serde::de::Error::custom(words)
        })
    };
    names.into_iter().map(parse).collect()
}

/// Faults between values.
pub(super) fn check(hooks: &[Hook], source: &Source<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let key = |k: &str| Step::Key(k.into());
    for (i, hook) in hooks.iter().enumerate() {
        let at = [key("hooks"), Step::Index(i), key("event")];
        if event(&hook.event).is_none() {
            let mut fault = source.fault_at(&at, format!("'{}' is not an event", hook.event));
            let names: Vec<_> = EVENTS.iter().map(|e| e.name).collect();
            fault.hint = nearest(&hook.event, &names).map(|n| format!("did you mean '{n}'?"));
            faults.push(fault);
        }
    }
    faults
}
