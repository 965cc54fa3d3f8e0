//! Servers of SSH whose administrators keep to other lists than ours: those that speak what FIPS 140 allows and nothing
//! else, which are reached as any other, and old ones, which are reached by who names what they need and by nobody else.

use super::Stage;
use crate::fault::{Result, ensure};
use crate::peers::cases::{holds, make, says};
use crate::peers::drive;
use crate::peers::servers::{Endpoint, sshd_with};
use crate::process::{Run, write};

/// What is said to OpenSSH's server, and what a client's ssh_config has to say for it.
const OLD: &[(&str, &str)] = &[
    ("HostKeyAlgorithms ssh-rsa", "HostKeyAlgorithms +ssh-rsa"),
    ("KexAlgorithms diffie-hellman-group14-sha1", "KexAlgorithms +diffie-hellman-group14-sha1"),
    ("KexAlgorithms diffie-hellman-group1-sha1", "KexAlgorithms +diffie-hellman-group1-sha1"),
    ("KexAlgorithms diffie-hellman-group-exchange-sha1", "KexAlgorithms +diffie-hellman-group-exchange-sha1"),
    ("Ciphers aes128-cbc\nMACs hmac-sha2-256", "Ciphers +aes128-cbc"),
    ("Ciphers aes256-ctr\nMACs hmac-sha1", "MACs +hmac-sha1"),
];

const STRICT: &[&str] = &[
    "KexAlgorithms ecdh-sha2-nistp256\nCiphers aes256-gcm@openssh.com",
    "KexAlgorithms ecdh-sha2-nistp521\nCiphers aes128-ctr\nMACs hmac-sha2-256",
    "KexAlgorithms diffie-hellman-group-exchange-sha256\nCiphers aes256-ctr\nMACs hmac-sha2-512",
    "KexAlgorithms diffie-hellman-group14-sha256",
    "KexAlgorithms diffie-hellman-group16-sha512\nHostKeyAlgorithms rsa-sha2-512",
    "KexAlgorithms diffie-hellman-group18-sha512",
];

fn ferry(stage: &Stage, endpoint: &Endpoint, config: &str) -> Run {
    drive::ferry(stage.kit, stage.ferry, &endpoint.at).args(["--ssh-config", config])
}

/// There and back.
fn round(stage: &Stage, endpoint: &Endpoint, config: &str) -> Result<()> {
    let (from, back) = (stage.kit.join("algorithms"), stage.kit.join("algorithms-back"));
    let content = make(&from, 77)?;
    let url = drive::ferry_url(&endpoint.at, &format!("{}file", endpoint.at.folder));
    ferry(stage, endpoint, config).arg("put").arg(&from).arg(&url).finish()?.succeeded()?;
    ferry(stage, endpoint, config).arg("get").arg(&url).arg(&back).finish()?.succeeded()?;
    holds(&back, &content)
}

pub(super) fn strict_servers_are_reached(stage: &Stage) -> Result<()> {
    for lines in STRICT {
        round(stage, &sshd_with(stage.kit, lines)?, "none")?;
    }
    Ok(())
}

pub(super) fn old_servers_are_reached_if_named(stage: &Stage) -> Result<()> {
    let config = stage.kit.join("ssh_config");
    for (lines, named) in OLD {
        let endpoint = sshd_with(stage.kit, lines)?;
        let url = drive::ferry_url(&endpoint.at, &endpoint.at.folder);
        let refused = ferry(stage, &endpoint, "none").arg("ls").arg(&url).finish()?;
        ensure!(refused.code == Some(7), "with '{lines}', ls ends with {:?}", refused.code);
        says(&refused.stderr, &format!("'{named}'"))?;
        write(&config, format!("Host 127.0.0.1\n  {named}\n"))?;
        round(stage, &endpoint, &config.display().to_string())?;
    }
    Ok(())
}
