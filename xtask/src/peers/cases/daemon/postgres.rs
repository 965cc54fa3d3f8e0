//! A PostgreSQL of Debian's, with a password and a certificate of ours.

use std::path::{Path, PathBuf};

use super::services::{READY, certificate};
use crate::fault::{Fault, Result, While};
use crate::install::is_root;
use crate::peers::servers::LOOPBACK;
use crate::process::{Run, Server, TempDir, free_port, set_mode, write};

/// What it takes from `ferry`.
const PASSWORD: &str = "hunter2";

/// A server that runs until it is dropped.
pub(super) struct Postgres {
    /// Its own folder: who runs it may not enter ours.
    base: TempDir,
    port: u16,
    pub(super) certificate: PathBuf,
    server: Option<Server>,
}

/// A program that must not be root.
fn as_postgres(name: &str) -> Result<Run> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").doing(|| "looking for PostgreSQL".to_owned())?;
    let mut found: Vec<_> = versions.flatten().map(|v| v.path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    let path = found.pop().ok_or_else(|| Fault::new(format!("no program `{name}` of PostgreSQL")))?;
    Ok(match is_root() {
        true => Run::new("setpriv")
            .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"])
            .arg(path),
        false => Run::new(path),
    })
}

impl Postgres {
    pub(super) fn start() -> Result<Self> {
        let base = TempDir::new("postgres")?;
        let dir = base.join("");
        set_mode(&dir, 0o755)?;
        let certificate = certificate(&dir, "server")?;
        let phrase = base.join("phrase");
        write(&phrase, format!("{PASSWORD}\n"))?;
        if is_root() {
            Run::new("chown").args(["-R", "postgres:"]).arg(&dir).finish()?.succeeded()?;
        }
        set_mode(&dir.join("server.key"), 0o600)?;
        as_postgres("initdb")?
            .args(["-U", "ferry", "-A", "scram-sha-256", "--no-sync", "--pwfile"])
            .arg(&phrase)
            .arg("-D")
            .arg(base.join("data"))
            .limit(READY)
            .finish()?
            .succeeded()?;
        let mut postgres = Self { base, port: free_port()?, certificate, server: None };
        postgres.go_on()?;
        Ok(postgres)
    }

    /// Starts it where it was stopped.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let dir = self.base.join("");
        let run = as_postgres("postgres")?
            .arg("-D")
            .arg(dir.join("data"))
            .args(["-h", LOOPBACK, "-p"])
            .arg(self.port.to_string())
            .args(["-c", "ssl=on", "-c", "fsync=off", "-k"])
            .arg(&dir)
            .arg("-c")
            .arg(format!("ssl_cert_file={}", self.certificate.display()))
            .arg("-c")
            .arg(format!("ssl_key_file={}", dir.join("server.key").display()));
        let mut server = Server::start(&run)?;
        server.line(READY, |line| line.contains("ready to accept connections"))?;
        self.server = Some(server);
        Ok(())
    }

    /// It is gone without a word.
    pub(super) fn stop(&mut self) {
        self.server = None;
    }

    pub(super) fn url(&self, host: &str) -> String {
        format!("postgres://ferry@{host}:{}/postgres", self.port)
    }

    /// A file of secrets with its password, as `db`.
    pub(super) fn secret(&self, dir: &Path) -> Result<PathBuf> {
        let file = dir.join("secrets.toml");
        write(&file, format!("db = \"{PASSWORD}\"\n"))?;
        set_mode(&file, 0o600)?;
        Ok(file)
    }

    /// What a statement tells, as bare text.
    pub(super) fn ask(&self, statement: &str) -> Result<String> {
        Run::new("psql")
            .env("PGPASSWORD", PASSWORD)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", LOOPBACK, "-U", "ferry", "-p"])
            .arg(self.port.to_string())
            .args(["-d", "postgres", "-c", statement])
            .text()
    }
}
