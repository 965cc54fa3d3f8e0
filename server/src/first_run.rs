//! The first start: a data folder, a configuration, one user with a random password that is shown once.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use crate::config;
use crate::users::password;

/// The user that is made.
const USER: &str = "ferry";

/// What was made.
pub struct FirstRun {
    config: PathBuf,
    password: String,
}

/// Makes the data folder (mode 0700) and in it `ferryd.toml` (mode 0600) and the user's home. Errors: those
/// of the disk; `AlreadyExists` if another start was quicker.
pub fn make(data: &Path) -> Result<FirstRun> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|e| {
        Error::from(e).with_detail(format!("the data folder {} cannot be made", data.display()))
    })?;
    let password = random_password()?;
    let hash = password::hash(&Secret::new(password.as_str()))
        .map_err(|words| Error::new(ErrorKind::Internal).with_detail(words))?;
    let mut text = config::sample().replace("\ndata = \"data\"\n", "\ndata = \".\"\n");
    text.push_str(&format!(
        "\n# Made at the first start. Another password: ferryd hash-password\n\
         [[users]]\nname = \"{USER}\"\npassword = \"{hash}\"\n"
    ));
    let config = data.join("ferryd.toml");
    write_new(&config, &text)?;
    let home = data.join("homes").join(USER);
    std::fs::create_dir_all(&home)?;
    std::fs::write(home.join("welcome.txt"), "This file is served by ferryd.\n")?;
    Ok(FirstRun { config, password })
}

/// Writes a file that must not exist, readable by its owner alone. Errors: `AlreadyExists`.
pub fn write_new(file: &Path, text: &str) -> Result<()> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut out = opened.map_err(|e| {
        let exists = e.kind() == std::io::ErrorKind::AlreadyExists;
        let words = if exists { "exists, and is not overwritten" } else { "cannot be written" };
        Error::from(e).with_detail(format!("{} {words}", file.display()))
    })?;
    out.write_all(text.as_bytes())?;
    Ok(())
}

impl FirstRun {
    /// What the user reads, with commands to copy: for SFTP, and for FTP where it is served. Each is an
    /// address and what the server is known by there.
    pub fn words(&self, sftp: (SocketAddr, String), ftp: Option<(SocketAddr, String)>) -> String {
        let (address, fingerprint) = sftp;
        let (host, port) = (address.ip(), address.port());
        let url_host = |host: IpAddr| if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
        let url = format!("sftp://{USER}@{}:{port}", url_host(host));
        let ftp = ftp.map_or_else(String::new, |(at, certificate)| {
            let url = format!("ftpes://{USER}@{}:{}", url_host(at.ip()), at.port());
            format!(
                "
or over FTP with TLS:

  cargo run --release -q -p client -- ls --certificate {certificate} {url}/
"
            )
        });
        format!(
            "
This is the first start. The configuration is {config}
The user '{USER}' has this password, shown only now: {password}

Try it from another terminal:

  export FERRY_PASSWORD='{password}'
  cargo run --release -q -p client -- ls --host-key {fingerprint} {url}/
  cargo run --release -q -p client -- put --host-key {fingerprint} README.md {url}/
  cargo run --release -q -p client -- get --host-key {fingerprint} {url}/README.md .

or with OpenSSH, which asks for the password:

  sftp -P {port} {USER}@{host}
{ftp}
See who is there, and end a session:

  cargo run --release -q -p server -- sessions
  cargo run --release -q -p server -- sessions kill --user {USER}

",
            config = self.config.display(),
            password = self.password,
        )
    }
}

/// Twenty letters and digits that are not mistaken for each other: 114 bits.
fn random_password() -> Result<String> {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut out = String::new();
    while out.len() < 20 {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::new(ErrorKind::Internal).with_detail(format!("no random numbers: {e}")))?;
        // What would favour the first letters is thrown away.
        let fair = u8::try_from(256 - 256 % LETTERS.len()).unwrap_or(u8::MAX);
        for b in bytes.into_iter().filter(|b| *b < fair) {
            if let Some(letter) = LETTERS.get(usize::from(b) % LETTERS.len())
                && out.len() < 20
            {
                out.push(char::from(*letter));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn makes_a_configuration_that_loads_without_a_fault_and_logs_its_user_in() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("d");
        let first = make(&data).unwrap();
        let (config, faults) = Config::load(&data.join("ferryd.toml")).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(config.users.len(), 1);
        assert_eq!(config.data, data);
        assert!(config.users[0].home.join("welcome.txt").exists());
        let text = std::fs::read_to_string(data.join("ferryd.toml")).unwrap();
        assert!(!text.contains(&first.password), "the password itself is on disk");
        assert_eq!(make(&data).err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert_eq!(first.password.len(), 20);
        assert_ne!(random_password().unwrap(), random_password().unwrap());
        let ftp = (([127, 0, 0, 1], 2021).into(), "ab:cd".to_string());
        let words = first.words((([127, 0, 0, 1], 2022).into(), "SHA256:x".to_string()), Some(ftp));
        assert!(words.contains("--certificate ab:cd ftpes://ferry@127.0.0.1:2021/"), "{words}");
        assert!(words.contains("sftp -P 2022 ferry@127.0.0.1") && words.contains(&first.password));
    }
}
