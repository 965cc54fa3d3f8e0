//! Parts of limits that hold over all nodes: quotas of content, and of what is transferred.
//!
//! Each node has a part of each limit (a *lease*) and asks the database only when that is used up; the parts of all
//! nodes are never more than the limit, under a lock of the database that is the limit's, so what is refused may be
//! refused too early and nothing is let through that does not fit. Where the others hold what they do not use, they
//! are told to give it back, and the node waits for that a moment. What a node uses is told every few seconds.
//!
//! A node that died keeps its part, for what it holds is on its disk: when it is back, it counts what is there and
//! gives back the rest; of what is transferred it has moved all of its part. Without the database a node uses what
//! it has, and beyond that nothing is let through.
//!
//! Deliberately absent: what is counted (`session_core::layers::quota`, `crate::transfers`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use session_core::error::{Error, ErrorKind, Result};
use session_core::layers::quota::share::{Apply, Ask, Grant, Grants, Held, Holder, ahead};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Row};

use super::Hub;
use super::orders::BEAT;
use crate::postgres::failed;

/// What tells nodes that somebody needs what they do not use.
pub(super) const CHANNEL: &str = "ferry_leases";

/// How long somebody who writes or reads waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is asked for ahead: 16 MiB, or so many files.
const AHEAD: u64 = 16 << 20;

/// For how long, and how often, a node looks whether others have given something back.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(50);

/// What the database knows of this node's parts.
#[derive(Default)]
struct Told {
    line: u64,
    held: HashMap<String, (u64, u64)>,
}

/// The parts of one node.
pub(crate) struct Leases {
    hub: Arc<Hub>,
    /// Held while parts are asked for or given back, so that the database has no less than this node believes.
    turn: Mutex<Told>,
    /// Everything that a former run held is counted; nothing is given back before.
    settled: AtomicBool,
    holders: Vec<Weak<dyn Holder>>,
}

/// The log has why.
fn unknown() -> Error {
    Error::new(ErrorKind::Throttled)
        .with_detail("how much is left over all servers is not known at the moment")
        .with_hint("try again later")
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// The part of a node that has `had`, of what the others leave; no larger than before where it needs more than that.
fn part(ask: &Ask, others: u64, had: u64) -> u64 {
    let left = ask.limit.saturating_sub(others);
    let wanted = ask.need.saturating_add(ahead(ask.limit, AHEAD));
    let granted = if ask.need <= left { wanted.min(left) } else { 0 };
    // What it uses is a fact, and what it had it may be using by now.
    granted.max(ask.used).max(had)
}

impl Leases {
    /// Of what `holders` use. They are told by whoever makes them to ask here.
    pub(crate) fn new(hub: Arc<Hub>, holders: Vec<Weak<dyn Holder>>) -> Arc<Self> {
        Arc::new(Leases { hub, turn: Mutex::default(), settled: AtomicBool::new(false), holders })
    }

    /// Tells what is used and gives back what is not, until it is dropped.
    pub(crate) async fn serve(&self) {
        let mut follow = self.hub.follow_leases();
        let mut wanted = false;
        loop {
            let done = self.exchange(!wanted).await;
            follow.looked(&done);
            wanted = match done {
                Ok(()) => timeout(BEAT, follow.heard()).await.is_ok(),
                Err(_) => {
                    follow.wait().await;
                    false
                }
            };
        }
    }

    /// Gives back all that is not used: the node is about to leave.
    pub(crate) async fn leave(&self) -> Result<()> {
        self.exchange(false).await
    }

    async fn exchange(&self, keeps_some: bool) -> Result<()> {
        let mut told = self.turn.lock().await;
        let is_settled = self.settled.load(Ordering::SeqCst);
        let spare = |limit| match (is_settled, keeps_some) {
            (false, _) => u64::MAX,
            (true, true) => ahead(limit, AHEAD).saturating_mul(2),
            (true, false) => 0,
        };
        let holders: Vec<_> = self.holders.iter().filter_map(Weak::upgrade).collect();
        let mut held: Vec<Held> = holders.iter().flat_map(|h| h.give_back(&spare)).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        held.retain(|h| h.until.is_none_or(|until| until > signed(now)));
        let keys: HashSet<String> = held.iter().map(|h| h.key.clone()).collect();
        let (line, known) = (told.line, told.held.clone());
        let node = self.hub.node().to_owned();
        let work = self.hub.with(move |client, made| {
            Box::pin(async move {
                let is_new = made != line;
                let fresh: Vec<Held> = held
                    .into_iter()
                    .filter(|h| is_new || known.get(&h.key) != Some(&(h.used, h.may)))
                    .collect();
                if !fresh.is_empty() {
                    put(client, &node, &fresh).await?;
                }
                let elsewhere = elsewhere(client, &node, is_new).await?;
                Ok((fresh, elsewhere, own(client, &node).await?, made))
            })
        });
        let (fresh, elsewhere, own, made) = work.await?;
        if told.line != made {
            told.held.clear();
            told.line = made;
        }
        told.held.retain(|key, _| keys.contains(key));
        told.held.extend(fresh.into_iter().map(|h| (h.key, (h.used, h.may))));
        if own < told.held.len() as u64 {
            // Somebody took this node for one that does not come back: it tells everything anew.
            told.held.clear();
        }
        holders.iter().for_each(|h| h.heard(&elsewhere));
        Ok(())
    }

    /// What a former run held is counted: what is not used of it is given back from now on.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::SeqCst);
    }

    /// The limits of which this node's former run had more than it was told to use. Errors: those of the database.
    pub(crate) async fn unsettled(&self) -> Result<HashSet<String>> {
        let node = self.hub.node().to_owned();
        self.hub.with(move |client, _| Box::pin(unsettled(client, node))).await
    }

    /// What a node held counts no more: it does not come back. How many limits that were. Errors: those of the
    /// database; `PreconditionFailed` for a node that is there.
    pub(crate) async fn forget(&self, node: &str) -> Result<u64> {
        let node = node.to_owned();
        self.hub.with(move |client, _| Box::pin(forget(client, node))).await
    }
}

#[async_trait]
impl Grants for Leases {
    async fn ask(&self, wish: &Ask, apply: Apply<'_>) -> Result<Grant> {
        let mut looks = 0;
        loop {
            let granted = {
                let mut told = self.turn.lock().await;
                let (node, asked) = (self.hub.node().to_owned(), wish.clone());
                let last = looks == LOOKS;
                let work =
                    self.hub.with_soon(PATIENCE, move |client, _| Box::pin(claim(client, node, asked, last)));
                let claimed = work.await.map_err(|_| unknown())?;
                // The next exchange tells anew what is used.
                told.held.remove(&wish.key);
                apply(claimed.0);
                claimed
            };
            let (grant, is_held) = granted;
            if grant.may >= wish.need || !is_held || looks == LOOKS {
                return Ok(grant);
            }
            looks += 1;
            sleep(LOOK).await;
        }
    }
}

/// Also whether what is missing is held by others who do not use it; they are told then, unless nobody waits for it.
async fn claim(client: &mut Client, node: String, ask: Ask, last: bool) -> Result<(Grant, bool)> {
    let work = client.transaction().await.map_err(failed)?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1281716595))";
    work.execute(lock, &[&ask.key]).await.map_err(failed)?;
    // Another statement, which sees what was claimed before.
    let sql = "SELECT least(coalesce(sum(may) FILTER (WHERE node <> $2), 0), 9e18)::bigint,
                      least(coalesce(sum(used) FILTER (WHERE node <> $2), 0), 9e18)::bigint,
                      coalesce(max(may) FILTER (WHERE node = $2), 0)::bigint
               FROM ferry_leases WHERE key = $1";
    let row = work.query_one(sql, &[&ask.key, &node]).await.map_err(failed)?;
    let number = |n| row.try_get(n).map(unsigned).map_err(failed);
    let (others, elsewhere, had) = (number(0)?, number(1)?, number(2)?);
    let may = part(&ask, others, had);
    put_in(&work, &node, &[Held { key: ask.key, until: ask.until, used: ask.used, may }]).await?;
    let is_held = may < ask.need && ask.need <= ask.limit.saturating_sub(elsewhere);
    if is_held && !last {
        work.batch_execute(&format!("NOTIFY {CHANNEL}")).await.map_err(failed)?;
    }
    work.commit().await.map_err(failed)?;
    Ok((Grant { may, elsewhere, had }, is_held))
}

async fn put(client: &Client, node: &str, held: &[Held]) -> Result<()> {
    put_in(client, node, held).await?;
    client.execute("DELETE FROM ferry_leases WHERE until < now()", &[]).await.map_err(failed).map(|_| ())
}

async fn put_in(client: &impl tokio_postgres::GenericClient, node: &str, held: &[Held]) -> Result<()> {
    let keys: Vec<&str> = held.iter().map(|h| h.key.as_str()).collect();
    let used: Vec<i64> = held.iter().map(|h| signed(h.used)).collect();
    let may: Vec<i64> = held.iter().map(|h| signed(h.may)).collect();
    let until: Vec<Option<f64>> = held.iter().map(|h| h.until.map(|t| t as f64)).collect();
    let sql = "INSERT INTO ferry_leases (key, node, used, may, until, changed)
               SELECT h.key, $1::text, h.used, h.may, to_timestamp(h.until), now()
               FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::float8[]) AS h (key, used, may, until)
               ON CONFLICT (key, node) DO UPDATE
               SET used = excluded.used, may = excluded.may, until = excluded.until, changed = excluded.changed";
    client.execute(sql, &[&node, &keys, &used, &may, &until]).await.map_err(failed).map(|_| ())
}

/// What the others use of what somebody has told anew in the last moments; of everything on a line that is new.
async fn elsewhere(client: &Client, node: &str, everything: bool) -> Result<Vec<(String, u64)>> {
    let sql = "SELECT key, least(coalesce(sum(used) FILTER (WHERE node <> $1), 0), 9e18)::bigint
               FROM ferry_leases
               WHERE $2 OR key IN (SELECT key FROM ferry_leases WHERE changed > now() - interval '60 s')
               GROUP BY key";
    let rows = client.query(sql, &[&node, &everything]).await.map_err(failed)?;
    let read = |row: &Row| Ok((row.try_get(0)?, unsigned(row.try_get(1)?)));
    rows.iter().map(|row| read(row).map_err(failed)).collect()
}

/// How many parts the database knows of a node.
async fn own(client: &Client, node: &str) -> Result<u64> {
    let sql = "SELECT count(*) FROM ferry_leases WHERE node = $1";
    let row = client.query_one(sql, &[&node]).await.map_err(failed)?;
    row.try_get(0).map(unsigned).map_err(failed)
}

async fn unsettled(client: &Client, node: String) -> Result<HashSet<String>> {
    let sql = "SELECT key FROM ferry_leases WHERE node = $1 AND may > used AND until IS NULL";
    let rows = client.query(sql, &[&node]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
}

async fn forget(client: &Client, node: String) -> Result<u64> {
    let alive = format!(
        "SELECT EXISTS (SELECT FROM ferry_nodes WHERE node = $1 AND seen > now() - interval '{} s')",
        super::orders::ALIVE
    );
    let row = client.query_one(&alive, &[&node]).await.map_err(failed)?;
    if row.try_get(0).map_err(failed)? {
        let words = format!("the node '{node}' is there, and what it holds counts");
        return Err(Error::new(ErrorKind::PreconditionFailed).with_detail(words));
    }
    client.execute("DELETE FROM ferry_leases WHERE node = $1", &[&node]).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_is_needed_and_some_more_within_the_limit() {
        let ask = |used, need| Ask { key: "k".into(), limit: 1600, used, need, until: None };
        assert_eq!(part(&ask(0, 10), 0, 0), 110);
        assert_eq!(part(&ask(0, 10), 1500, 0), 100);
        assert_eq!(part(&ask(0, 100), 1500, 0), 100);
        assert_eq!(part(&ask(0, 101), 1500, 0), 0);
        // What is there is a fact, even where the others have everything; and nothing is taken back by asking.
        assert_eq!(part(&ask(300, 301), 1600, 0), 300);
        assert_eq!(part(&ask(0, 10), 1600, 40), 40);
        let huge = Ask { limit: u64::MAX, ..ask(0, 1) };
        assert_eq!(part(&huge, 0, 0), 1 + AHEAD);
    }
}
