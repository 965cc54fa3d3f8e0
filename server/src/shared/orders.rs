//! What one node has the others do: an order goes to every node that is alive, and each answers.
//!
//! A node is alive while it is heard of; one that is not answers nobody and is swept out by the others. A process is
//! a node: two of one name are two, and each of them says so in its log. An order is carried out until its time is
//! over, by each node once; who asked waits for a shorter time, and is told who did not answer until then. Rows
//! are written only when somebody asks, but for one of each node every few seconds, which tells that it is alive.
//!
//! Deliberately absent: what orders mean (`crate::control`), and who may give them: whoever writes to the database
//! of the accounts may do anything.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::registry::SessionRegistry;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_postgres::{Client, Row};

use super::{Claims, Elsewhere, Hub};
use crate::postgres::failed;

/// What tells of orders and answers.
pub(super) const CHANNEL: &str = "ferry_orders";

/// Between two signs of life.
pub(super) const BEAT: Duration = Duration::from_secs(5);

/// How long a node counts that is not heard of, in seconds, and how long it stays to be looked at.
pub(super) const ALIVE: u32 = 15;
const KEPT: u32 = 60;

/// The orders that one node gives at a time; more wait.
const GIVEN: usize = 8;

/// The orders that one node carries out at a time; more wait.
const TAKEN: usize = 32;

/// Another node, as the database tells of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// How long ago it was heard of.
    pub(crate) quiet: Duration,
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// It did what it was asked for.
    Done(Value),
    /// It could not, in its words.
    Failed(String),
    /// Nothing, until now.
    Nothing,
}

/// The answer of one node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) node: String,
    pub(crate) said: Said,
}

/// The other nodes.
#[async_trait]
pub(crate) trait Others: Send + Sync {
    /// Has every other node do something within `lasts`, and waits for the answers, at most so long as `patience`
    /// says. Errors: those of the database: then nobody was asked, unless a line broke at the last moment.
    async fn ask(&self, order: Value, patience: Duration, lasts: Duration) -> Result<Vec<Answer>>;
}

/// Carries out what another node asks for.
pub(crate) type CarryOut = Arc<dyn Fn(Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// One node among the others.
pub(crate) struct Orders {
    hub: Arc<Hub>,
    /// Which process this is.
    run: String,
    given: Semaphore,
    /// The others, as they were when last looked at.
    others: Mutex<Vec<Node>>,
    /// Another process has the name of this one.
    doubled: AtomicBool,
}

impl Orders {
    /// Not heard of yet. Errors: `Internal` where there is no randomness.
    pub(crate) fn new(hub: Arc<Hub>) -> Result<Arc<Self>> {
        let mut run = [0; 16];
        getrandom::fill(&mut run).map_err(|_| Error::from(ErrorKind::Internal))?;
        Ok(Arc::new(Orders {
            hub,
            run: session_core::digest::hex(&run),
            given: Semaphore::new(GIVEN),
            others: Mutex::default(),
            doubled: AtomicBool::new(false),
        }))
    }

    /// The places that this process has for sessions.
    pub(crate) fn claims(&self, registry: &Arc<SessionRegistry>) -> Arc<Claims> {
        Claims::new(Arc::clone(&self.hub), self.run.clone(), registry)
    }

    /// The counts that this process tells the others, and they it.
    pub(crate) fn counts(&self, registry: &Arc<SessionRegistry>) -> Elsewhere {
        Elsewhere::new(Arc::clone(&self.hub), self.run.clone(), registry)
    }

    /// Tells the others that this node is there. Errors: those of the database.
    pub(crate) async fn announce(&self) -> Result<()> {
        self.beat().await
    }

    /// The other nodes, as they were a moment ago.
    pub(crate) fn others(&self) -> Vec<Node> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells that this node is there, and does what others ask for, until it is dropped.
    pub(crate) async fn serve(&self, carry_out: CarryOut) {
        let mut follow = self.hub.follow_orders();
        let mut beat = Instant::now();
        let taken = Arc::new(Semaphore::new(TAKEN));
        // Those that were begun, of this line: on another one the numbers may begin anew.
        let (mut line, mut begun) = (0, HashSet::new());
        loop {
            let done = async {
                if Instant::now() >= beat {
                    self.beat().await?;
                    beat = Instant::now() + BEAT;
                }
                self.look().await
            };
            let done = done.await;
            follow.looked(&done);
            let Ok((orders, of)) = done else {
                follow.wait().await;
                continue;
            };
            if line != of {
                begun.clear();
                line = of;
            }
            let all: HashSet<i64> = orders.iter().map(|(id, _)| *id).collect();
            begun.retain(|id| all.contains(id));
            let mut waits = false;
            for (id, order) in orders {
                if begun.contains(&id) {
                    continue;
                }
                let Ok(permit) = Arc::clone(&taken).try_acquire_owned() else {
                    waits = true;
                    break;
                };
                begun.insert(id);
                let (hub, run, work) = (Arc::clone(&self.hub), self.run.clone(), carry_out(order));
                tokio::spawn(async move {
                    let text = match work.await {
                        Ok(done) => json!({ "done": done }),
                        Err(e) => json!({ "failed": e.to_string() }),
                    };
                    let text = text.to_string();
                    // One that is not written is one that was not heard; the log says why.
                    let _ = hub.with(move |client, _| Box::pin(answer(client, id, run, text))).await;
                    drop(permit);
                });
            }
            if waits {
                // Somebody is done soon, and then there is room.
                let _ = timeout(BEAT, taken.acquire()).await;
                continue;
            }
            let _ = timeout(beat.saturating_duration_since(Instant::now()), follow.wait()).await;
        }
    }

    /// Nobody waits for this node any more. A database that cannot be reached finds that out by itself.
    pub(crate) async fn leave(&self) {
        let run = self.run.clone();
        let _ = self.hub.with(move |client, _| Box::pin(leave(client, run))).await;
    }

    async fn beat(&self) -> Result<()> {
        let (run, node) = (self.run.clone(), self.hub.node().to_owned());
        let (others, doubled) = self.hub.with(move |client, _| Box::pin(beat(client, run, node))).await?;
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = others;
        if self.doubled.swap(doubled, Ordering::Relaxed) != doubled && doubled {
            let node = self.hub.node();
            tracing::error!(
                node,
                "another ferryd over the same database is called as this one: name them apart (node of [database])"
            );
        }
        Ok(())
    }

    /// What there is to do, and on which line.
    async fn look(&self) -> Result<(Vec<(i64, Value)>, u64)> {
        let run = self.run.clone();
        self.hub
            .with(move |client, line| Box::pin(async move { Ok((orders(client, run).await?, line)) }))
            .await
    }
}

#[async_trait]
impl Others for Orders {
    async fn ask(&self, order: Value, patience: Duration, lasts: Duration) -> Result<Vec<Answer>> {
        let _turn = self.given.acquire().await.map_err(|_| Error::from(ErrorKind::Closed))?;
        let mut follow = self.hub.follow_orders();
        let (run, words) = (self.run.clone(), order.to_string());
        let given =
            self.hub.with_soon(patience, move |client, _| Box::pin(give(client, run, words, lasts))).await?;
        let Some((id, nodes)) = given else { return Ok(Vec::new()) };
        let end = Instant::now() + patience;
        let mut said = HashMap::new();
        loop {
            match self.hub.with(move |client, _| Box::pin(answers(client, id))).await {
                Ok(answers) => said = answers,
                // The line broke: what was ordered stands, whoever has heard of it.
                Err(_) if Instant::now() < end => {}
                Err(_) => break,
            }
            let is_all = nodes.iter().all(|(run, _)| said.contains_key(run));
            if is_all || Instant::now() >= end {
                break;
            }
            let _ = timeout(end.saturating_duration_since(Instant::now()), follow.wait()).await;
        }
        let answer = |(run, node)| Answer { node, said: said.remove(&run).unwrap_or(Said::Nothing) };
        let all: Vec<_> = nodes.into_iter().map(answer).collect();
        if all.iter().all(|a| a.said != Said::Nothing) {
            let _ = self.hub.with(move |client, _| Box::pin(forget(client, id))).await;
        }
        Ok(all)
    }
}

async fn leave(client: &mut Client, run: String) -> Result<()> {
    client.execute("DELETE FROM ferry_nodes WHERE run = $1", &[&run]).await.map_err(failed)?;
    client.execute("DELETE FROM ferry_counts WHERE run = $1", &[&run]).await.map_err(failed)?;
    client.execute("DELETE FROM ferry_claims WHERE run = $1", &[&run]).await.map_err(failed).map(|_| ())
}

/// The others, and whether one of them has this one's name.
async fn beat(client: &mut Client, run: String, node: String) -> Result<(Vec<Node>, bool)> {
    let own =
        "INSERT INTO ferry_nodes (run, node) VALUES ($1, $2) ON CONFLICT (run) DO UPDATE SET seen = now()";
    client.execute(own, &[&run, &node]).await.map_err(failed)?;
    let sweep = format!(
        "DELETE FROM ferry_nodes WHERE seen < now() - interval '{KEPT} s';
         DELETE FROM ferry_claims AS c WHERE NOT EXISTS (SELECT FROM ferry_nodes AS n WHERE n.run = c.run);
         DELETE FROM ferry_counts AS c WHERE NOT EXISTS (SELECT FROM ferry_nodes AS n WHERE n.run = c.run);
         DELETE FROM ferry_orders WHERE until < now() - interval '{KEPT} s'"
    );
    client.batch_execute(&sweep).await.map_err(failed)?;
    // One that was killed a moment ago was not heard of since this one began.
    let others = "
        SELECT o.node, extract(epoch FROM now() - o.seen)::float8, o.node = own.node AND o.seen > own.since
        FROM ferry_nodes AS o, ferry_nodes AS own WHERE own.run = $1 AND o.run <> $1 ORDER BY o.node, o.run";
    let rows = client.query(others, &[&run]).await.map_err(failed)?;
    let (mut all, mut doubled) = (Vec::with_capacity(rows.len()), false);
    for row in rows {
        let quiet: f64 = row.try_get(1).map_err(failed)?;
        let quiet = Duration::try_from_secs_f64(quiet.max(0.0)).unwrap_or_default();
        doubled |= row.try_get::<_, bool>(2).map_err(failed)? && quiet < Duration::from_secs(ALIVE.into());
        all.push(Node { name: row.try_get(0).map_err(failed)?, quiet });
    }
    Ok((all, doubled))
}

/// The order's number and whom it is for; `None` where there is nobody.
async fn give(
    client: &mut Client,
    run: String,
    words: String,
    lasts: Duration,
) -> Result<Option<(i64, Vec<(String, String)>)>> {
    let alive = format!(
        "SELECT run, node FROM ferry_nodes
         WHERE run <> $1 AND seen > now() - interval '{ALIVE} s' ORDER BY node, run"
    );
    let rows = client.query(&alive, &[&run]).await.map_err(failed)?;
    let node = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let nodes: Vec<_> = rows.iter().map(node).collect::<Result<_, _>>().map_err(failed)?;
    if nodes.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "INSERT INTO ferry_orders (run, words, until)
         VALUES ($1, $2, now() + $3 * interval '1 s') RETURNING id, pg_notify('{CHANNEL}', '')::text"
    );
    let row = client.query_one(&sql, &[&run, &words, &lasts.as_secs_f64()]).await.map_err(failed)?;
    Ok(Some((row.try_get(0).map_err(failed)?, nodes)))
}

/// What this node was not heard to have done, the oldest first.
async fn orders(client: &mut Client, run: String) -> Result<Vec<(i64, Value)>> {
    // Those under way are among them, and as many more.
    let sql = format!(
        "SELECT id, words FROM ferry_orders AS o
         WHERE run <> $1 AND until > now()
             AND NOT EXISTS (SELECT FROM ferry_answers AS a WHERE a.id = o.id AND a.run = $1)
         ORDER BY id LIMIT {}",
        2 * TAKEN
    );
    let rows = client.query(&sql, &[&run]).await.map_err(failed)?;
    let read = |row: &Row| {
        let words: &str = row.try_get(1)?;
        Ok((row.try_get(0)?, serde_json::from_str(words).unwrap_or_default()))
    };
    rows.iter().map(|row| read(row).map_err(failed)).collect()
}

async fn answer(client: &mut Client, id: i64, run: String, text: String) -> Result<()> {
    // Who asked may have gone, with the order.
    let sql = format!(
        "WITH said AS (
             INSERT INTO ferry_answers
             SELECT id, $2::text, $3::text FROM ferry_orders WHERE id = $1 FOR KEY SHARE
             ON CONFLICT DO NOTHING RETURNING id)
         SELECT pg_notify('{CHANNEL}', '')::text FROM said"
    );
    client.query(&sql, &[&id, &run, &text]).await.map_err(failed).map(|_| ())
}

async fn answers(client: &mut Client, id: i64) -> Result<HashMap<String, Said>> {
    let sql = "SELECT run, answer FROM ferry_answers WHERE id = $1";
    let rows = client.query(sql, &[&id]).await.map_err(failed)?;
    let read = |row: &Row| Ok((row.try_get(0)?, said(row.try_get(1)?)));
    rows.iter().map(|row| read(row).map_err(failed)).collect()
}

async fn forget(client: &mut Client, id: i64) -> Result<()> {
    client.execute("DELETE FROM ferry_orders WHERE id = $1", &[&id]).await.map_err(failed).map(|_| ())
}

fn said(text: &str) -> Said {
    let mut answer: Value = serde_json::from_str(text).unwrap_or_default();
    match (answer.get_mut("done").map(Value::take), answer.get("failed")) {
        (Some(done), _) => Said::Done(done),
        (None, Some(Value::String(words))) => Said::Failed(words.clone()),
        _ => Said::Failed("its answer is not understood".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_became_of_it() {
        assert_eq!(said(r#"{"done":{"a":1}}"#), Said::Done(json!({ "a": 1 })));
        assert_eq!(said(r#"{"done":null}"#), Said::Done(Value::Null));
        assert_eq!(said(r#"{"failed":"no"}"#), Said::Failed("no".into()));
        for odd in ["", "7", "{}", r#"{"failed":7}"#] {
            assert!(matches!(said(odd), Said::Failed(_)), "{odd}");
        }
    }
}
