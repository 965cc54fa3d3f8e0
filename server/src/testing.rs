//! A server for the tests of others: every protocol on a free port of loopback, folders, keys and a certificate that go
//! away with it, and what was done, to assert on.
//!
//! It is the whole of `ferryd` in the process of the test: staging, permissions, handlers, the audit. What shall go wrong
//! is said by handlers (`Session.BlockOperation()`, `Sleep()`), by a folder that is taken away, or by
//! [`TestServer::end_sessions`]. Nothing of it is for production: its passwords are hashed at the least cost. Other
//! languages start the program itself: `ferryd --config FILE --json` prints its ports as one line of JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use session_core::error::{Error, ErrorKind, Result};
use session_core::session::{Actor, Ending};
use tempfile::TempDir;

use crate::config::{Config, ListenerProtocol};
use crate::daemon::Daemon;
use crate::journal::Journal;

/// What is served.
const PROTOCOLS: [ListenerProtocol; 7] = [
    ListenerProtocol::Sftp,
    ListenerProtocol::Ftp,
    ListenerProtocol::Ftps,
    ListenerProtocol::Webdav,
    ListenerProtocol::Webdavs,
    ListenerProtocol::S3,
    ListenerProtocol::S3s,
];

/// How long the record of what was done may take to be complete.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that is to be started.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    users: BTreeMap<String, String>,
    hooks: Vec<(String, String)>,
    lines: String,
}

impl Setup {
    /// An account with this password, and a home of its own. Over S3 its name is the access key and the password its
    /// secret.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.insert(name.to_owned(), password.to_owned());
        self
    }

    /// A handler in JavaScript for an event.
    #[must_use]
    pub fn hook(mut self, event: &str, source: &str) -> Self {
        self.hooks.push((event.to_owned(), source.to_owned()));
        self
    }

    /// Further tables of `ferryd.toml`, as `[limits]` and what belongs to it.
    #[must_use]
    pub fn config(mut self, tables: &str) -> Self {
        self.lines.push_str(tables);
        self.lines.push('\n');
        self
    }

    /// Starts it, inside of a runtime. Errors: `InvalidArgument` for a configuration that makes no sense, by line, and
    /// for handlers that do not compile; those of the disk and of the sockets.
    pub async fn start(self) -> Result<TestServer> {
        let dir = tempfile::tempdir()?;
        let audit = dir.path().join("audit.jsonl");
        let file = dir.path().join("ferryd.toml");
        std::fs::write(&file, self.text(dir.path(), &audit)?)?;
        let config = read(&file)?;
        let journal = Arc::new(Journal::default());
        journal.set_audit(config.log.audit.as_ref())?;
        let reload = Arc::new(move || read(&file));
        let daemon = Daemon::start(config, Arc::clone(&journal), None, reload).await?;
        Ok(TestServer { daemon, journal, audit, users: self.users, dir })
    }

    fn text(&self, dir: &Path, audit: &Path) -> Result<String> {
        let mut text = format!("data = \"data\"\n[log]\naudit = {:?}\n", audit.display().to_string());
        for protocol in PROTOCOLS {
            let _ = write!(text, "[[listeners]]\nprotocol = \"{}\"\nport = 0\n", protocol.name());
        }
        // Both ways of FTP, so that clients without TLS can be tried.
        text.push_str("[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n");
        for (name, password) in &self.users {
            let home = dir.join("homes").join(name);
            std::fs::create_dir_all(&home)?;
            let hash = bcrypt::hash(password, 4)
                .map_err(|e| Error::new(ErrorKind::InvalidArgument).with_detail(e.to_string()))?;
            let (home, key) =
                (home.display().to_string(), format!("{{ id = {name:?}, secret = {password:?} }}"));
            let _ = write!(
                text,
                "[[users]]\nname = {name:?}\npassword = {hash:?}\nhome = {home:?}\naccess_keys = [{key}]\n"
            );
        }
        for (n, (event, source)) in self.hooks.iter().enumerate() {
            let handler = dir.join(format!("handler-{n}.js"));
            std::fs::write(&handler, source)?;
            let _ =
                write!(text, "[[hooks]]\nevent = {event:?}\nfile = {:?}\n", handler.display().to_string());
        }
        text.push_str(&self.lines);
        Ok(text)
    }
}

fn read(file: &Path) -> Result<Config> {
    // The environment of a test is not the server's.
    let (config, _) = Config::load_with(file, &|_| None).map_err(|faults| {
        let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::new(ErrorKind::InvalidArgument).with_detail(words.join("\n"))
    })?;
    Ok(config)
}

/// A server that runs. Dropped, its folders are gone, and it answers until its runtime ends; see
/// [`TestServer::stop`].
pub struct TestServer {
    daemon: Arc<Daemon>,
    journal: Arc<Journal>,
    audit: PathBuf,
    users: BTreeMap<String, String>,
    dir: TempDir,
}

impl TestServer {
    /// One with this account.
    pub fn with_user(name: &str, password: &str) -> Setup {
        Setup::default().user(name, password)
    }

    /// The port of a protocol. Errors: `NotFound` after the end.
    pub fn port(&self, protocol: ListenerProtocol) -> Result<u16> {
        let all = self.daemon.addresses();
        let found = all.into_iter().find(|(name, _)| *name == protocol.name());
        Ok(found.ok_or(ErrorKind::NotFound)?.1.port())
    }

    /// Where an account is over a protocol, as `client` and `ferry` take it: without the password. FTP is
    /// the one that turns to TLS. Errors: as [`TestServer::port`].
    pub fn url(&self, protocol: ListenerProtocol, user: &str) -> Result<String> {
        let scheme = match protocol {
            ListenerProtocol::Sftp => "sftp",
            ListenerProtocol::Ftp => "ftpes",
            ListenerProtocol::Ftps => "ftps",
            ListenerProtocol::Webdav => "dav",
            ListenerProtocol::Webdavs => "davs",
            ListenerProtocol::S3 => "s3plain",
            ListenerProtocol::S3s => "s3",
        };
        Ok(format!("{scheme}://{user}@127.0.0.1:{}/", self.port(protocol)?))
    }

    /// What the server is known by: over SFTP the host key (`SHA256:…`), else the certificate's SHA-256 in pairs
    /// of hexadecimal digits. Errors: `NotFound` in the clear and after the end.
    pub fn fingerprint(&self, protocol: ListenerProtocol) -> Result<String> {
        Ok(self.daemon.first(protocol).ok_or(ErrorKind::NotFound)?.1)
    }

    /// The password of an account of [`Setup::user`].
    pub fn password(&self, user: &str) -> Option<&str> {
        self.users.get(user).map(String::as_str)
    }

    /// The folder that an account has as its home, whether there is such an account or not.
    pub fn home(&self, user: &str) -> PathBuf {
        self.dir.path().join("homes").join(user)
    }

    /// Everything that was done so far, in order: the records of the audit (`docs/audit.md`). Blocks until they are
    /// complete. Errors: `TimedOut`; those of the disk.
    pub fn events(&self) -> Result<Vec<Value>> {
        self.journal.flush(PATIENCE).ok_or(ErrorKind::TimedOut)?;
        let text = std::fs::read_to_string(&self.audit)?;
        let line =
            |line| serde_json::from_str(line).map_err(|e| Error::new(ErrorKind::Corrupt).with_source(e));
        text.lines().map(line).collect()
    }

    /// Ends every session, in whatever it does, as an administrator would; how many.
    pub async fn end_sessions(&self, reason: &str) -> usize {
        self.daemon.end_sessions(Ending::new(reason.to_owned(), Actor::Admin("test".into()))).await
    }

    /// Ends it at once, sessions first.
    pub async fn stop(self) {
        self.daemon.finish(std::future::ready(())).await;
    }
}
