//! `[ssh]`: what the listeners of SSH serve besides SFTP.
//!
//! Deliberately absent: host keys (`host_keys` of the file), numbers and times (`[limits]`), algorithms.

use serde::Deserialize;

/// How SSH is served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ssh {
    /// Whether SCP and the commands for checksums are answered; without them there is SFTP only.
    pub commands: bool,
}

impl Default for Ssh {
    fn default() -> Self {
        Ssh { commands: true }
    }
}
