//! What several nodes share: a database of PostgreSQL (`[database]`), and one line to it.
//!
//! The line is made when it is needed, and anew when it broke; who waits on it is woken by every change that
//! some node makes (`NOTIFY`) and when it breaks. Tables are made and brought up to date in one transaction by
//! whichever node comes first, with copies of the old ones kept beside them (`ferry_records_v1`); what a newer
//! ferryd wrote is refused. Whether the database is reached is told in the log when it changes, once.
//!
//! `records` are rows that are read as a whole once and by their changes from then on; `orders` is what one node
//! has the others do; `claims`, `codes`, `counts`, `leases` and `strikes` are what all nodes count together. Deliberately
//! absent: what they mean; another try of what failed (those who follow try again, who asked is told).

mod claims;
mod codes;
mod counts;
mod leases;
mod orders;
mod records;
mod strikes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, GenericClient};

pub(crate) use self::claims::Claims;
pub(crate) use self::codes::Codes;
pub(crate) use self::counts::Elsewhere;
pub(crate) use self::leases::Leases;
#[cfg(test)]
pub(crate) use self::orders::Answer;
pub(crate) use self::orders::{Orders, Others, Said};
pub(crate) use self::records::{Fresh, Record, Stream};
pub(crate) use self::strikes::{Strikes, Told};
use crate::config::Config;
use crate::hooks;
use crate::postgres::{Way, failed, url};

/// Each brings the tables from the version before it to the next. They are never changed, only added to.
const STEPS: &[&str] = &[
    "
CREATE TABLE ferry_schema (version integer NOT NULL);
INSERT INTO ferry_schema VALUES (0);
CREATE TABLE ferry_state (stream text PRIMARY KEY, revision bigint NOT NULL);
CREATE TABLE ferry_records (
    stream text NOT NULL, kind text NOT NULL, site text NOT NULL, name text NOT NULL,
    record text, changed bigint NOT NULL, expires bigint,
    revision bigint NOT NULL, changed_by text NOT NULL,
    PRIMARY KEY (stream, kind, site, name));
CREATE INDEX ferry_records_revision ON ferry_records (stream, revision);
CREATE INDEX ferry_records_gone ON ferry_records (changed) WHERE record IS NULL;
CREATE INDEX ferry_records_over ON ferry_records (expires) WHERE expires IS NOT NULL;
",
    // What is true for a moment only: nothing of it is worth a log, or outlives a crash.
    "
CREATE UNLOGGED TABLE ferry_nodes (
    run text PRIMARY KEY, node text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(), seen timestamptz NOT NULL DEFAULT now());
CREATE UNLOGGED TABLE ferry_orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL, words text NOT NULL, until timestamptz NOT NULL);
CREATE UNLOGGED TABLE ferry_answers (
    id bigint NOT NULL REFERENCES ferry_orders ON DELETE CASCADE,
    run text NOT NULL, answer text NOT NULL, PRIMARY KEY (id, run));
CREATE UNLOGGED TABLE ferry_claims (
    session text PRIMARY KEY, run text NOT NULL, site text NOT NULL, account text NOT NULL);
CREATE INDEX ferry_claims_of ON ferry_claims (site, account);
",
    "
CREATE TABLE ferry_steps (
    site text NOT NULL, account text NOT NULL, step bigint NOT NULL, PRIMARY KEY (site, account));
CREATE TABLE ferry_recovery (hash text PRIMARY KEY, used timestamptz NOT NULL DEFAULT now());
",
    "
CREATE UNLOGGED TABLE ferry_counts (run text PRIMARY KEY, revision bigint NOT NULL, counts text NOT NULL);
CREATE UNLOGGED TABLE ferry_strikes (
    address inet NOT NULL, weight bigint NOT NULL, at timestamptz NOT NULL, until timestamptz NOT NULL);
CREATE INDEX ferry_strikes_of ON ferry_strikes USING spgist (address);
CREATE INDEX ferry_strikes_over ON ferry_strikes (until);
",
    "
CREATE TABLE ferry_leases (
    key text NOT NULL, node text NOT NULL, used bigint NOT NULL, may bigint NOT NULL,
    until timestamptz, changed timestamptz NOT NULL, PRIMARY KEY (key, node));
CREATE INDEX ferry_leases_of ON ferry_leases (node);
CREATE INDEX ferry_leases_changed ON ferry_leases (changed);
CREATE INDEX ferry_leases_over ON ferry_leases (until) WHERE until IS NOT NULL;
",
    // Of a site's own protector; no name is the server's.
    "
ALTER TABLE ferry_strikes ADD COLUMN site text NOT NULL DEFAULT '';
",
];

/// Tables of which copies are kept before they are brought up to date, as far as there are any: all that is true for
/// longer than a moment.
const KEPT: [&str; 5] = ["ferry_state", "ferry_records", "ferry_steps", "ferry_recovery", "ferry_leases"];

/// Who brings the tables up to date holds this lock: "Ferr".
const LOCK: i64 = 0x4665_7272;

/// The most time that bringing tables up to date may take.
const UPGRADE: Duration = Duration::from_secs(600);

/// The pauses between tries to reach the database: the first one, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// One node's line to what all share.
pub(crate) struct Hub {
    way: Way,
    time: Duration,
    poll: Duration,
    node: String,
    line: Mutex<Option<Client>>,
    /// How many lines were made so far.
    made: AtomicU64,
    /// Whether the last question was answered.
    reached: AtomicBool,
    /// Counts what was heard of changes, of orders, of sessions, and of parts that are needed.
    heard: Arc<watch::Sender<u64>>,
    ordered: Arc<watch::Sender<u64>>,
    counted: Arc<watch::Sender<u64>>,
    wanted: Arc<watch::Sender<u64>>,
}

impl Hub {
    /// The one that a configuration asks for; reaches nothing yet. Errors: `InvalidArgument` for a secret that
    /// is missing.
    pub(crate) fn new(config: &Config) -> Result<Option<Arc<Self>>> {
        let asked = &config.database;
        let Some(text) = &asked.url else { return Ok(None) };
        let url = url(text).map_err(hooks::invalid)?;
        // Those that are in the database cannot open it.
        let secrets = hooks::secrets_of(&config.scripts, std::collections::BTreeMap::new())?;
        let secret = asked.password_secret.as_ref();
        let password = secret.map(|s| hooks::secret_named(&secrets, s, "[database]")).transpose()?;
        let private = asked.is_private(&url);
        Ok(Some(Arc::new(Hub {
            way: Way::new(url, password.as_ref(), private, asked.authorities.clone(), asked.time),
            time: asked.time,
            poll: asked.poll,
            node: asked.node(),
            line: Mutex::new(None),
            made: AtomicU64::new(0),
            reached: AtomicBool::new(true),
            heard: Arc::new(watch::Sender::new(0)),
            ordered: Arc::new(watch::Sender::new(0)),
            counted: Arc::new(watch::Sender::new(0)),
            wanted: Arc::new(watch::Sender::new(0)),
        })))
    }

    /// How this node is called.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Whether the last question was answered.
    pub(crate) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// For waiting until somebody has changed something.
    pub(crate) fn follow(&self) -> Follow {
        self.follow_what(&self.heard)
    }

    /// The same for orders and what is answered to them.
    fn follow_orders(&self) -> Follow {
        self.follow_what(&self.ordered)
    }

    /// The same for the counts of sessions.
    fn follow_counts(&self) -> Follow {
        self.follow_what(&self.counted)
    }

    /// The same for parts of limits that somebody needs.
    fn follow_leases(&self) -> Follow {
        self.follow_what(&self.wanted)
    }

    fn follow_what(&self, heard: &watch::Sender<u64>) -> Follow {
        Follow { poll: self.poll, heard: heard.subscribe(), failures: 0 }
    }

    /// Has `work` done on the line, which nobody else uses meanwhile; it is told how many lines were made so
    /// far. Errors: `Internal` for what is wrong with the database, with its words; `Corrupt`,
    /// `PreconditionFailed` and `Unsupported` are those of `work`.
    async fn with<T>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Client, u64) -> BoxFuture<'a, Result<T>>,
    ) -> Result<T> {
        let mut line = self.line.lock().await;
        let done = async {
            if line.as_ref().is_none_or(Client::is_closed) {
                *line = None;
                *line = Some(self.open().await?);
            }
            let client = line.as_mut().ok_or(ErrorKind::Internal)?;
            let work = work(client, self.made.load(Ordering::Relaxed));
            timeout(self.time, work).await.map_err(|_| late())?
        };
        let done = done.await;
        let is_own = |e: &Error| {
            matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::PreconditionFailed | ErrorKind::Unsupported)
        };
        match done {
            Ok(answer) => {
                if !self.reached.swap(true, Ordering::Relaxed) {
                    tracing::info!("the database that nodes share is reached again");
                }
                Ok(answer)
            }
            Err(e) if is_own(&e) => Err(e),
            Err(e) => {
                if matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut) {
                    *line = None;
                }
                let told = format!("the database that nodes share cannot be used: {e:#}");
                if self.reached.swap(false, Ordering::Relaxed) {
                    tracing::error!("{told}");
                }
                Err(Error::new(ErrorKind::Internal).with_detail(told))
            }
        }
    }

    /// The same for somebody who waits for it: not for long, and not at all while the last question was not answered.
    /// Those who follow find out when it is reached again.
    async fn with_soon<T>(
        &self,
        patience: Duration,
        work: impl for<'a> FnOnce(&'a mut Client, u64) -> BoxFuture<'a, Result<T>>,
    ) -> Result<T> {
        let told = |words: &'static str| Error::new(ErrorKind::Internal).with_detail(words);
        if !self.is_reached() {
            return Err(told("the database that nodes share is not reached"));
        }
        let late = |_| told("the database that nodes share takes too long");
        timeout(patience, self.with(work)).await.map_err(late)?
    }

    async fn open(&self) -> Result<Client> {
        let (mut client, mut messages) =
            timeout(self.time, self.way.connect()).await.map_err(|_| late())??;
        let all = [&self.heard, &self.ordered, &self.counted, &self.wanted].map(Arc::clone);
        tokio::spawn(async move {
            let [heard, ordered, counted, wanted] = &all;
            while let Some(Ok(said)) = messages.next().await {
                if let AsyncMessage::Notification(told) = said {
                    let of = match told.channel() {
                        orders::CHANNEL => ordered,
                        counts::CHANNEL => counted,
                        leases::CHANNEL => wanted,
                        _ => heard,
                    };
                    of.send_modify(|n| *n += 1);
                }
            }
            // It is gone: who follows makes a new one.
            all.iter().for_each(|of| of.send_modify(|n| *n += 1));
        });
        let version = timeout(self.time, version_of(&client, STEPS)).await.map_err(|_| late())??;
        if version < STEPS.len() {
            timeout(UPGRADE, bring_up_to_date(&mut client, STEPS)).await.map_err(|_| late())??;
        }
        let [orders, counts, leases] = [orders::CHANNEL, counts::CHANNEL, leases::CHANNEL];
        let listen = format!("LISTEN ferry; LISTEN {orders}; LISTEN {counts}; LISTEN {leases}");
        timeout(self.time, client.batch_execute(&listen)).await.map_err(|_| late())?.map_err(failed)?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(client)
    }
}

fn late() -> Error {
    Error::new(ErrorKind::TimedOut).with_detail("the database takes too long")
}

/// How many steps were taken. Errors: `Unsupported` for what a newer program wrote.
async fn version_of(client: &impl GenericClient, steps: &[&str]) -> Result<usize> {
    let there = client.query_one("SELECT to_regclass('ferry_schema') IS NOT NULL", &[]).await;
    if !there.and_then(|row| row.try_get::<_, bool>(0)).map_err(failed)? {
        return Ok(0);
    }
    let row = client.query_one("SELECT version FROM ferry_schema", &[]).await.map_err(failed)?;
    let version: i32 = row.try_get(0).map_err(failed)?;
    match usize::try_from(version) {
        Ok(version) if version <= steps.len() => Ok(version),
        _ => Err(Error::new(ErrorKind::Unsupported)
            .with_detail("the tables in the database that nodes share are a newer ferryd's")
            .with_hint("bring this node up to date as well")),
    }
}

/// Takes the steps that are missing, in one transaction; one node does it, the others wait.
async fn bring_up_to_date(client: &mut Client, steps: &[&str]) -> Result<()> {
    let work = client.transaction().await.map_err(failed)?;
    let wait = format!("SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({LOCK})");
    work.batch_execute(&wait).await.map_err(failed)?;
    let version = version_of(&work, steps).await?;
    let missing = steps.get(version..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    if version > 0 {
        for table in KEPT {
            let there = work.query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&table]).await;
            if !there.and_then(|row| row.try_get(0)).map_err(failed)? {
                continue;
            }
            let copy = format!("{table}_v{version}");
            let keep = format!("DROP TABLE IF EXISTS {copy}; CREATE TABLE {copy} AS TABLE {table}");
            work.batch_execute(&keep).await.map_err(failed)?;
        }
        tracing::info!(
            version,
            "the tables that nodes share are brought up to date; copies of them are kept"
        );
    }
    for step in missing {
        work.batch_execute(step).await.map_err(failed)?;
    }
    let mark = format!("UPDATE ferry_schema SET version = {}", steps.len());
    work.batch_execute(&mark).await.map_err(failed)?;
    work.commit().await.map_err(failed)
}

/// Waits for changes of others.
pub(crate) struct Follow {
    poll: Duration,
    heard: watch::Receiver<u64>,
    failures: u32,
}

impl Follow {
    /// Waits until something was heard, or for the time between two looks; after failures longer each time,
    /// and by some chance, so that nodes do not come all at once.
    pub(crate) async fn wait(&mut self) {
        if self.failures == 0 {
            let _ = timeout(self.poll, self.heard.changed()).await;
            return;
        }
        let mut chance = [0];
        let _ = getrandom::fill(&mut chance);
        tokio::time::sleep(pause(self.failures, chance[0])).await;
        self.heard.mark_unchanged();
    }

    /// Waits until something was heard, however long.
    async fn heard(&mut self) {
        let _ = self.heard.changed().await;
    }

    /// What became of a look.
    pub(crate) fn looked<T>(&mut self, done: &Result<T>) {
        self.failures = if done.is_ok() { 0 } else { self.failures.saturating_add(1) };
    }
}

/// From the half of the pause to all of it.
fn pause(failures: u32, chance: u8) -> Duration {
    let (first, longest) = PAUSES;
    let whole = first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest);
    whole / 2 + (whole / 2) * u32::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(1, 255), Duration::from_millis(500));
        assert_eq!(pause(1, 0), Duration::from_millis(250));
        assert_eq!(pause(3, 255), Duration::from_secs(2));
        for failures in [7, 8, 100, u32::MAX] {
            assert_eq!(pause(failures, 255), PAUSES.1);
        }
    }

    #[tokio::test]
    async fn who_follows_looks_when_told_and_from_time_to_time() {
        let heard = watch::Sender::new(0);
        let follow = |poll| Follow { poll, heard: heard.subscribe(), failures: 0 };
        // Would wait for ever, or not at all.
        let mut told = follow(Duration::MAX);
        heard.send_modify(|n| *n += 1);
        told.wait().await;
        follow(Duration::from_millis(1)).wait().await;
        // What broke tells nothing: the pause is kept, and what was heard meanwhile is known by the look.
        told.looked(&Err::<(), _>(Error::from(ErrorKind::Internal)));
        heard.send_modify(|n| *n += 1);
        let began = std::time::Instant::now();
        told.wait().await;
        assert!(began.elapsed() >= PAUSES.0 / 2);
        assert!(!told.heard.has_changed().unwrap());
        told.looked(&Ok(()));
        assert_eq!(told.failures, 0);
    }
}
