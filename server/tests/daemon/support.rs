//! A real `ferryd` process with a folder of its own, and clients for it.

#[allow(dead_code, reason = "not all tests use all of it")]
#[path = "ways.rs"]
mod ways;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use client::connect::{Connected, Options, open_url};
use client::url::Url;
use serde_json::Value;
use session_core::batch::Unattended;
use session_core::error::Result;
use session_core::fs::*;
use session_core::path::VPath;

#[allow(unused_imports, reason = "not all tests use all of it")]
pub use self::ways::{EVERYWHERE, WAYS, Way, user_everywhere};

/// Every account's password.
pub const PASSWORD: &str = "correct horse";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `[[users]]` table of a user with the password; more keys may follow.
pub fn user(name: &str) -> String {
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    format!("\n[[users]]\nname = \"{name}\"\npassword = '{hash}'\n")
}

/// Waits until `what` holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never came to pass: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Exit code, output, errors.
pub fn ferryd(data: &Path, args: &[&str]) -> (i32, String, String) {
    let out = command(data).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap().replace(data.to_str().unwrap(), "DATA");
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// The same, with something to read.
pub fn ferryd_reads(data: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    use std::io::Write as _;
    let mut command = command(data);
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap().replace(data.to_str().unwrap(), "DATA");
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// The program that is tested: the one built with the tests, or the one that `cargo xtask soak --programs` names.
fn program() -> std::ffi::OsString {
    std::env::var_os("FERRY_SOAK_FERRYD").unwrap_or_else(|| env!("CARGO_BIN_EXE_ferryd").into())
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(program());
    for name in ["FERRYD_CONFIG", "FERRYD_CONTROL", "FERRYD_LOG"] {
        command.env_remove(name);
    }
    command.env("FERRYD_DATA", data);
    command
}

/// A running server. Dropping it kills the process.
pub struct Server {
    child: Child,
    pub data: PathBuf,
    pub port: u16,
    pub fingerprint: String,
    /// As the ready line has them.
    listeners: Vec<Value>,
    /// The error stream so far.
    log: Arc<Mutex<String>>,
    _dir: Option<tempfile::TempDir>,
}

impl Server {
    /// Serves `config`, with these files beside it.
    pub fn start(config: &str, files: &[(&str, &str)]) -> Server {
        Server::run(config, files, &["--listen", "127.0.0.1:0"])
    }

    /// The same, listening where `config` says.
    pub fn configured(config: &str, files: &[(&str, &str)]) -> Server {
        Server::run(config, files, &[])
    }

    fn run(config: &str, files: &[(&str, &str)], flags: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{config}")).unwrap();
        let mut server = Server::with(dir.path(), flags);
        server._dir = Some(dir);
        server
    }

    /// Serves what is in `data`, listening where it says.
    pub fn at_own(data: &Path) -> Server {
        Server::with(data, &[])
    }

    /// Serves what is in `data`.
    pub fn at(data: &Path) -> Server {
        Server::with(data, &["--listen", "127.0.0.1:0"])
    }

    fn with(data: &Path, flags: &[&str]) -> Server {
        let mut child = command(data)
            .arg("--json")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut errors, into) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut line = String::new();
            while errors.read_line(&mut line).is_ok_and(|n| n > 0) {
                into.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("no ready line: {line:?} {e}\n{}", log.lock().unwrap()));
        assert_eq!(ready["event"], "ready");
        assert_eq!(ready["pid"], child.id());
        let listener = &ready["listeners"][0];
        std::thread::spawn(move || out.read_to_string(&mut String::new()));
        Server {
            child,
            data: data.to_path_buf(),
            port: u16::try_from(listener["port"].as_u64().unwrap()).unwrap(),
            fingerprint: listener["fingerprints"][0].as_str().unwrap().into(),
            listeners: ready["listeners"].as_array().unwrap().clone(),
            log,
            _dir: None,
        }
    }

    /// The port where this site serves this protocol.
    pub fn port_of(&self, site: &str, protocol: &str) -> u16 {
        let is = |l: &&Value| l["site"] == site && l["protocol"] == protocol;
        u16::try_from(self.listeners.iter().find(is).unwrap()["port"].as_u64().unwrap()).unwrap()
    }

    pub fn fingerprint_at(&self, port: u16) -> String {
        let at = self.listeners.iter().find(|l| l["port"] == port);
        at.map_or_else(|| self.fingerprint.clone(), |l| l["fingerprints"][0].as_str().unwrap().into())
    }

    pub fn options(&self, user: &str, password: &str) -> Options {
        self.options_at("sftp", self.port, user, password)
    }

    /// At another port, `sftp` or `ftp` in the clear.
    pub fn options_at(&self, scheme: &str, port: u16, user: &str, password: &str) -> Options {
        let url = Url {
            scheme: scheme.into(),
            user: Some(user.into()),
            password: None,
            fingerprint: (scheme == "sftp").then(|| self.fingerprint_at(port)),
            host: "127.0.0.1".into(),
            port: Some(port),
            path: b"/".to_vec(),
        };
        Options::from_url(&url).unwrap().password(Some(password.into()))
    }

    pub async fn try_login(&self, user: &str, password: &str) -> Result<Connected> {
        open_url(self.options(user, password), Arc::new(Unattended)).await
    }

    pub async fn login(&self, user: &str) -> Connected {
        self.try_login(user, PASSWORD).await.unwrap_or_else(|e| panic!("{user}: {e:#}\n{}", self.log()))
    }

    /// A command that asks this server.
    pub fn ask(&self, args: &[&str]) -> (i32, String, String) {
        ferryd(&self.data, args)
    }

    /// The live sessions, as `sessions --json` prints them.
    pub fn sessions(&self) -> Vec<Value> {
        let (code, out, err) = self.ask(&["sessions", "--json"]);
        assert_eq!(code, 0, "{err}");
        out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log with these words in it.
    pub async fn logged(&self, words: &[&str]) -> Value {
        let find = || self.log().lines().find(|l| words.iter().all(|w| l.contains(w))).map(str::to_string);
        until(&format!("{words:?} in the log"), || find().is_some()).await;
        serde_json::from_str(&find().unwrap()).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The exit code, once the process has ended.
    pub async fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        until("the end of the process", || child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }

    pub fn home(&self, user: &str) -> PathBuf {
        self.data.join("homes").join(user)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn path(text: &str) -> VPath {
    VPath::absolute(text).unwrap()
}

/// Opens for writing and writes, without an end.
pub async fn begin(c: &Connected, at: &str, content: &str) -> Result<Arc<dyn File>> {
    let file = c.fs().open(&path(at), &OpenOptions::create()).await?;
    file.write_at(0, Bytes::copy_from_slice(content.as_bytes())).await?;
    Ok(file)
}

pub async fn put(c: &Connected, at: &str, content: &str) -> Result<()> {
    begin(c, at, content).await?.commit(&CommitOptions::default()).await.map(|_| ())
}

pub async fn get(c: &Connected, at: &str) -> Result<String> {
    let file = c.fs().open(&path(at), &OpenOptions::read()).await?;
    let read = file.read_into(0, 1 << 16, BytesMut::new()).await?;
    Ok(String::from_utf8(read.to_vec()).unwrap())
}

pub async fn names(c: &Connected, dir: &str) -> Result<Vec<String>> {
    let mut listing = c.fs().list(&path(dir), &ListOptions::default()).await?;
    let mut names = Vec::new();
    while let Some(page) = listing.next_page().await? {
        names.extend(page.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()));
    }
    names.sort();
    Ok(names)
}
