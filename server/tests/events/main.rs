//! One script and one scenario for each case, run unchanged over SFTP, FTP and FTPS against a real `ferryd`:
//! the script is bound to every event, and the list of events that it sees is the same for every protocol.
//!
//! A scenario is a file: what stands in the home, what a client does, and the events, those that the client
//! waits for and those that it does not, each in order. What a protocol forces to be different stands in one
//! table, with its reason. `UPDATE=1` writes the lists anew from what SFTP shows. Last, the same script runs on the
//! client instead, around the same steps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod on_client;

#[allow(dead_code, unreachable_pub, reason = "another test's, which uses all of it")]
#[path = "../daemon/support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::connect::{Connected, Options, open_url};
use client::url::Url;
use serde_json::Value;
use session_core::batch::Unattended;
use session_core::error::{Error, Result};
use session_core::fs::{Filesystem as _, Follow, Replace};
use session_core::metadata::Attributes;
use session_core::script::{EVENTS, event};
use session_core::session::{Actor, Ending};

use crate::support::*;

/// The script of all scenarios, bound to every event: it tells what it sees, and refuses where a path asks
/// for it.
const SCRIPT: &str = "\
Log('@', CtxEvent(), CtxRelPath(), CtxRelTargetPath());
if (CtxRelPath().endsWith('/veto-' + CtxEvent())) Session.BlockOperation('not here: ' + CtxEvent());
";

/// A protocol's scheme, an event that it shows more or less of than the list says, and why.
struct Difference {
    scheme: &'static str,
    /// Only in this scenario; empty: in all.
    scenario: &'static str,
    event: &'static str,
    /// How many lines of the list this protocol has not; negative: how many it has besides.
    fewer: i32,
    #[allow(dead_code, reason = "for who reads the table")]
    reason: &'static str,
}

const fn difference(
    scheme: &'static str,
    scenario: &'static str,
    event: &'static str,
    fewer: i32,
    reason: &'static str,
) -> Difference {
    Difference { scheme, scenario, event, fewer, reason }
}

const NO_CHANNELS: &str = "FTP has no channels: the filesystem is there after the login";
const ASKED_AGAIN: &str =
    "an SSH client that knows the password offers it a second way, as an answer to a question";

const TRIES: &str = "a client knows of one login that failed, in however many ways it tried";
const ELSEWHERE: &str = "a client does not hear who ended the session at the server";

/// What the protocols force. The lists are SFTP's; those of the client are what it has events for
/// ([`client::hooks::ABSENT`] says which it has not, and why).
const DIFFERENCES: &[Difference] = &[
    difference("ftp", "", "BeforeOpenSFTP", 1, NO_CHANNELS),
    difference("ftps", "", "BeforeOpenSFTP", 1, NO_CHANNELS),
    difference("ftp", "login-bad", "OnAuthInteractiveSetQuestions", 2, ASKED_AGAIN),
    difference("ftps", "login-bad", "OnAuthInteractiveSetQuestions", 2, ASKED_AGAIN),
    difference("ftp", "login-bad", "OnAuthInteractive", 1, ASKED_AGAIN),
    difference("ftps", "login-bad", "OnAuthInteractive", 1, ASKED_AGAIN),
    difference("ftp", "login-bad", "OnAuthFail", 1, ASKED_AGAIN),
    difference("ftps", "login-bad", "OnAuthFail", 1, ASKED_AGAIN),
    difference("client", "login-bad", "OnAuthFail", 1, TRIES),
    difference("client", "kill", "OnSessionTerminated", 1, ELSEWHERE),
];

/// Commands are each protocol's own; a handler of them is tested elsewhere.
const OF_ONE_PROTOCOL: &[&str] = &["BeforeCommand"];

/// A scenario file.
struct Scenario {
    name: String,
    file: PathBuf,
    /// Its lines up to the list.
    head: String,
    events: Vec<String>,
}

impl Scenario {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let (head, events) = text.split_once("events\n").unwrap_or((&text, ""));
        Scenario {
            name: file.file_stem().unwrap().to_str().unwrap().into(),
            file: file.to_path_buf(),
            head: head.into(),
            events: events.lines().map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect(),
        }
    }

    fn steps(&self, word: &str) -> Vec<Vec<&str>> {
        let lines = self.head.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let words = lines.map(|l| l.split(' ').collect::<Vec<_>>());
        words.filter(|w| w[0] == word).map(|w| w[1..].to_vec()).collect()
    }

    /// What this protocol is to show.
    fn expected(&self, scheme: &str) -> Vec<String> {
        let mut lines = self.events.clone();
        for d in DIFFERENCES.iter().filter(|d| d.scheme == scheme) {
            if !d.scenario.is_empty() && d.scenario != self.name {
                continue;
            }
            for _ in 0..d.fewer {
                // The last: what is there besides comes after what is common.
                let is_it = |l: &String| l.split(' ').next() == Some(d.event);
                if let Some(at) = lines.iter().rposition(is_it) {
                    lines.remove(at);
                }
            }
        }
        lines
    }
}

/// Those that the client waits for and those that it does not, each in order.
fn apart(lines: &[String]) -> (Vec<&String>, Vec<&String>) {
    lines.iter().partition(|l| event(l.split(' ').next().unwrap()).is_some_and(|e| e.awaited))
}

struct Place {
    server: Server,
    scheme: &'static str,
    port: u16,
    fingerprint: Option<String>,
    /// Who runs the script where the server does not.
    client: Option<on_client::Client>,
}

impl Place {
    fn new(scheme: &'static str, client: Option<on_client::Client>) -> Self {
        let mut config = "[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n".to_string();
        for protocol in ["sftp", "ftp", "ftps"] {
            config += &format!("[[listeners]]\nprotocol = \"{protocol}\"\nport = 0\n");
        }
        config += &user("alice");
        for e in EVENTS.iter().filter(|e| client.is_none() && !OF_ONE_PROTOCOL.contains(&e.name)) {
            config += &format!("[[hooks]]\nevent = \"{}\"\nfile = \"all.js\"\n", e.name);
        }
        let server = Server::configured(&config, &[("all.js", SCRIPT)]);
        let (code, out, err) = server.ask(&["status", "--json"]);
        assert_eq!(code, 0, "{err}");
        let status: Value = serde_json::from_str(&out).unwrap();
        let all = status["listeners"].as_array().unwrap();
        let mine = all.iter().find(|l| l["protocol"] == scheme).unwrap();
        Place {
            port: u16::try_from(mine["port"].as_u64().unwrap()).unwrap(),
            fingerprint: mine["fingerprints"][0].as_str().filter(|_| scheme != "ftp").map(str::to_string),
            server,
            scheme,
            client,
        }
    }

    async fn login(&self, user: &str, password: &str) -> Result<Connected> {
        let url = Url {
            scheme: self.scheme.into(),
            user: Some(user.into()),
            password: None,
            fingerprint: self.fingerprint.clone(),
            host: "127.0.0.1".into(),
            port: Some(self.port),
            path: b"/".to_vec(),
        };
        // One connection: one session of the server.
        let mut options = Options::from_url(&url)?.password(Some(password.into())).channels(1);
        if let Some(client) = &self.client {
            options = options.handlers(&client.handlers);
        }
        open_url(options, Arc::new(Unattended)).await
    }

    /// How much was logged so far.
    fn mark(&self) -> usize {
        self.client.as_ref().map_or_else(|| self.server.log().len(), on_client::Client::mark)
    }

    /// What the script saw since `from`, a place in the log.
    fn seen(&self, from: usize) -> Vec<String> {
        if let Some(client) = &self.client {
            return client.seen(from);
        }
        let log = self.server.log();
        let lines = log.get(from..).unwrap_or_default().lines();
        let message = |line: &str| {
            let v: Value = serde_json::from_str(line).ok()?;
            let words = v["fields"]["message"].as_str().or(v["message"].as_str())?;
            words.strip_prefix("@ ").map(|w| w.trim_end().to_string())
        };
        lines.filter_map(message).collect()
    }

    fn empty_home(&self, scenario: &Scenario) {
        let home = self.server.home("alice");
        std::fs::create_dir_all(&home).unwrap();
        // The folder itself is held open by the server.
        for entry in std::fs::read_dir(&home).unwrap() {
            let at = entry.unwrap().path();
            let gone = if at.is_dir() { std::fs::remove_dir_all(&at) } else { std::fs::remove_file(&at) };
            gone.unwrap();
        }
        for words in scenario.steps("given") {
            let at = home.join(words[0].trim_start_matches('/'));
            match words.get(1) {
                Some(text) => std::fs::write(at, text).unwrap(),
                None => std::fs::create_dir(at).unwrap(),
            }
        }
    }

    async fn run(&self, scenario: &Scenario) {
        self.empty_home(scenario);
        let from = self.mark();
        let mut connected = None;
        for words in scenario.steps("do").into_iter().chain(scenario.steps("refused")) {
            let is_refused = scenario.steps("refused").contains(&words);
            let said = self.act(&words, &mut connected).await;
            match said {
                Ok(()) => assert!(!is_refused, "{}: it was let: {words:?}", scenario.name),
                Err(e) => {
                    assert!(is_refused, "{}: {words:?}: {e:#}\n{}", scenario.name, self.server.log());
                    if words[0] != "login" {
                        assert!(format!("{e:#}").contains("not here: "), "{}: {e:#}", scenario.name);
                    }
                }
            }
        }
        if let Some(connected) = connected {
            connected.close().await;
        }
        let closed = || self.seen(from).iter().any(|l| l == "OnConnectionClose");
        until("the end of the session", closed).await;
        let seen = self.seen(from);
        if std::env::var_os("UPDATE").is_some() {
            if self.scheme == "sftp" && self.client.is_none() {
                let (awaited, after) = apart(&seen);
                let all: Vec<_> = awaited.into_iter().chain(after).map(String::as_str).collect();
                let text = format!("{}events\n  {}\n", scenario.head, all.join("\n  "));
                std::fs::write(&scenario.file, text).unwrap();
            }
            return;
        }
        let expected = match self.client {
            Some(_) => on_client::expected(scenario),
            None => scenario.expected(self.scheme),
        };
        let ((seen_a, seen_b), (expected_a, expected_b)) = (apart(&seen), apart(&expected));
        assert_eq!(seen_a, expected_a, "{} over {}: what is awaited", scenario.name, self.scheme);
        assert_eq!(seen_b, expected_b, "{} over {}: what is not awaited", scenario.name, self.scheme);
    }

    /// The connection is gone; a client that has handlers tells them.
    async fn lose(&self, connected: &mut Option<Connected>) {
        if let (Some(connected), true) = (connected.take(), self.client.is_some()) {
            connected.close().await;
        }
    }

    async fn act(&self, words: &[&str], connected: &mut Option<Connected>) -> Result<()> {
        if let ["login", user, secret] = words {
            let secret = if *secret == "right" { PASSWORD } else { secret };
            *connected = Some(self.login(user, secret).await?);
            return Ok(());
        }
        if words == ["quit"] {
            connected.take().unwrap().close().await;
            return Ok(());
        }
        let c = connected.as_ref().unwrap();
        match words {
            ["put", at, text] => put(c, at, text).await,
            ["get", at, text] => {
                let read = get(c, at).await?;
                assert_eq!(read, *text);
                Ok(())
            }
            ["list", at] => names(c, at).await.map(drop),
            ["mkdir", at] => c.fs().create_dir(&path(at), &Attributes::none()).await,
            ["rmdir", at] => c.fs().remove_dir(&path(at)).await,
            ["delete", at] => c.fs().remove_file(&path(at)).await,
            ["rename", from, to] => c.fs().rename(&path(from), &path(to), Replace::No).await,
            ["chmod", at, mode] => {
                let mode = u32::from_str_radix(mode, 8).unwrap();
                c.fs().set_attributes(&path(at), &Attributes::mode(mode), Follow::Yes).await
            }
            // The connection is lost in the midst of an upload.
            ["cut", at, text] => {
                let file = begin(c, at, text).await?;
                let arrived = |v: &Value| v["bytesReceived"] == text.len();
                until("the bytes to arrive", || self.server.sessions().iter().any(arrived)).await;
                c.session().cut(Ending::new("lost", Actor::Client));
                drop(file);
                self.lose(connected).await;
                Ok(())
            }
            ["kill"] => {
                let (code, _, err) = self.server.ask(&["sessions", "kill", "--user", "alice"]);
                assert_eq!(code, 0, "{err}");
                self.lose(connected).await;
                Ok(())
            }
            other => Err(Error::refused(format!("no such step: {other:?}"))),
        }
    }
}

/// Every scenario, one after the other, each with a session of its own.
async fn all(scheme: &'static str, client: Option<on_client::Client>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 14, "{files:?}");
    let place = Place::new(scheme, client);
    for file in files {
        place.run(&Scenario::read(&file)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sftp_shows_what_the_lists_say() {
    all("sftp", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ftp_shows_what_the_lists_say() {
    all("ftp", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ftps_shows_what_the_lists_say() {
    all("ftps", None).await;
}
