//! One script and one scenario for each case, run unchanged over every protocol against a real `ferryd`: the script is
//! bound to every event, and the list of events that it sees is the same for every protocol.
//!
//! A scenario is a file: what stands in the home, what a client does, and the events, those that the client
//! waits for and those that it does not, each in order. What a protocol forces to be different stands in one
//! table, with its reason (`gaps`). `UPDATE=1` writes the lists anew from what SFTP shows. Last, the same script runs on
//! the client instead, around the same steps. Paths are those below what a protocol has for files: of S3 a bucket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod gaps;
mod on_client;

#[allow(dead_code, unreachable_pub, reason = "another test's, which uses all of it")]
#[path = "../daemon/support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use client::connect::{Connected, open_url};
use serde_json::Value;
use session_core::batch::Unattended;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow, OpenOptions, Replace};
use session_core::metadata::Attributes;
use session_core::script::{EVENTS, event};
use session_core::session::{Actor, Ending};

use crate::gaps::Gaps;
use crate::support::*;

/// The script of all scenarios, bound to every event: it tells what it sees, and refuses where a path asks
/// for it.
const SCRIPT: &str = "\
Log('@', CtxEvent(), CtxRelPath(), CtxRelTargetPath());
if (CtxRelPath().endsWith('/veto-' + CtxEvent())) Session.BlockOperation('not here: ' + CtxEvent());
";

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
}

/// Those that the client waits for and those that it does not, each in order.
fn apart(lines: &[String]) -> (Vec<&String>, Vec<&String>) {
    lines.iter().partition(|l| event(l.split(' ').next().unwrap()).is_some_and(|e| e.awaited))
}

struct Place {
    server: Server,
    way: Way,
    /// Who runs the script where the server does not.
    client: Option<on_client::Client>,
}

impl Place {
    fn new(way: Way, client: Option<on_client::Client>) -> Self {
        let mut config = EVERYWHERE.to_owned() + &user_everywhere("alice");
        for e in EVENTS.iter().filter(|e| client.is_none() && !OF_ONE_PROTOCOL.contains(&e.name)) {
            config += &format!("[[hooks]]\nevent = \"{}\"\nfile = \"all.js\"\n", e.name);
        }
        Place { server: Server::configured(&config, &[("all.js", SCRIPT)]), way, client }
    }

    /// As the table of gaps calls it.
    fn name(&self) -> &'static str {
        if self.client.is_some() { "client" } else { self.way.scheme }
    }

    async fn login(&self, user: &str, password: &str) -> Result<Connected> {
        // One connection: one session of the server.
        let mut options = self.way.options(&self.server, user, password).channels(1);
        if let Some(client) = &self.client {
            options = options.handlers(&client.handlers);
        }
        open_url(options, Arc::new(Unattended)).await
    }

    /// A line of the script with its paths as a scenario has them.
    fn below_base(&self, line: &str) -> String {
        let below = |word: &str| match word.strip_prefix(self.way.base()) {
            Some("") => "/".to_owned(),
            Some(below) if below.starts_with('/') => below.to_owned(),
            _ => word.to_owned(),
        };
        line.split(' ').map(below).collect::<Vec<_>>().join(" ")
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
            words.strip_prefix("@ ").map(|w| self.below_base(w.trim_end()))
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
        std::fs::create_dir_all(home.join(self.way.text("").trim_start_matches('/'))).unwrap();
        for words in scenario.steps("given") {
            let at = home.join(self.way.text(words[0]).trim_start_matches('/'));
            match words.get(1) {
                Some(text) => std::fs::write(at, text).unwrap(),
                None => std::fs::create_dir(at).unwrap(),
            }
        }
    }

    /// Plays a scenario; what is wrong with what was seen.
    async fn run(&self, scenario: &Scenario, gaps: &mut Gaps) -> Vec<String> {
        let (name, mut wrong) = (&scenario.name, Vec::new());
        if !gaps.is_played(name) {
            return wrong;
        }
        self.empty_home(scenario);
        let from = self.mark();
        let mut connected = None;
        for words in scenario.steps("do").into_iter().chain(scenario.steps("refused")) {
            let is_step = !matches!(words[0], "login" | "quit");
            let is_wordless = is_step && gaps.is_wordless(name);
            let is_refused = scenario.steps("refused").contains(&words) || is_wordless;
            match self.act(&words, &mut connected).await {
                Ok(()) if is_refused => wrong.push(format!("{name}: {words:?} was let")),
                Ok(()) => {}
                Err(e) if !is_refused => wrong.push(format!("{name}: {words:?}: {e:#}")),
                Err(e) if is_wordless && e.kind() != ErrorKind::Unsupported => {
                    wrong.push(format!("{name}: {words:?} has words: {e:#}"));
                }
                Err(e) if is_step && !is_wordless && !format!("{e:#}").contains("not here: ") => {
                    wrong.push(format!("{name}: {words:?} without the handler's words: {e:#}"));
                }
                Err(_) => {}
            }
        }
        if let Some(connected) = connected {
            connected.close().await;
        }
        let closed = || self.seen(from).iter().any(|l| l == "OnConnectionClose");
        until("the end of the session", closed).await;
        let seen = self.seen(from);
        if std::env::var_os("UPDATE").is_some() && self.name() == "sftp" {
            let (awaited, after) = apart(&seen);
            let all: Vec<_> = awaited.into_iter().chain(after).map(String::as_str).collect();
            let text = format!("{}events\n  {}\n", scenario.head, all.join("\n  "));
            std::fs::write(&scenario.file, text).unwrap();
            return wrong;
        }
        let list = match self.client {
            Some(_) => on_client::shown(&scenario.events),
            None => scenario.events.clone(),
        };
        let expected = gaps.expected(name, &list);
        let seen = gaps.without_besides(name, seen, &expected);
        let ((seen_a, seen_b), (expected_a, expected_b)) = (apart(&seen), apart(&expected));
        for (seen, expected, what) in [(seen_a, expected_a, ""), (seen_b, expected_b, " not")] {
            if seen != expected {
                wrong.push(format!("{name}: what is{what} awaited: {seen:#?}, and not {expected:#?}"));
            }
        }
        wrong
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
            ["put", at, text] => put(c, &self.way.text(at), text).await,
            ["get", at, text] => {
                let read = get(c, &self.way.text(at)).await?;
                assert_eq!(read, *text);
                Ok(())
            }
            ["list", at] => names(c, &self.way.text(at)).await.map(drop),
            ["mkdir", at] => c.fs().create_dir(&self.way.at(at), &Attributes::none()).await,
            ["rmdir", at] => c.fs().remove_dir(&self.way.at(at)).await,
            ["delete", at] => c.fs().remove_file(&self.way.at(at)).await,
            ["rename", from, to] => c.fs().rename(&self.way.at(from), &self.way.at(to), Replace::No).await,
            ["chmod", at, mode] => {
                let mode = u32::from_str_radix(mode, 8).unwrap();
                c.fs().set_attributes(&self.way.at(at), &Attributes::mode(mode), Follow::Yes).await
            }
            // The connection is lost in the midst of an upload.
            ["cut", at, text] => {
                // So much, and so much more to come, that nobody keeps it back.
                let content = Bytes::from(text.repeat(200_000));
                let size = content.len() as u64;
                let options = OpenOptions { size_hint: Some(2 * size), ..OpenOptions::create() };
                let file = c.fs().open(&self.way.at(at), &options).await?;
                file.write_at(0, content.slice(..content.len() / 2)).await?;
                file.write_at(size / 2, content.slice(content.len() / 2..)).await?;
                let arrived = |v: &Value| v["bytesReceived"].as_u64().is_some_and(|n| n >= size / 2);
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
    let place = Place::new(Way::of(scheme), client);
    let mut gaps = Gaps::of(place.name());
    let mut wrong = Vec::new();
    for file in files {
        wrong.extend(place.run(&Scenario::read(&file), &mut gaps).await);
    }
    wrong.extend(gaps.stale());
    assert!(wrong.is_empty(), "over {}: {}", place.name(), wrong.join("\n"));
}

/// A test for each way.
macro_rules! ways {
    ($($name:ident $scheme:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                all($scheme, None).await;
            }
        )*

        #[test]
        fn no_way_is_left_out() {
            assert!(WAYS.iter().map(|way| way.scheme).eq([$($scheme),*]));
        }
    };
}

ways! {
    sftp_shows_what_the_lists_say "sftp";
    scp_shows_what_the_lists_say "scp";
    ftp_shows_what_the_lists_say "ftp";
    ftps_shows_what_the_lists_say "ftps";
    webdav_shows_what_the_lists_say "dav";
    webdavs_shows_what_the_lists_say "davs";
    s3_shows_what_the_lists_say "s3plain";
    s3s_shows_what_the_lists_say "s3";
}
