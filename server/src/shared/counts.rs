//! How many sessions the other nodes have, for limits that hold for all of them together.
//!
//! Each node writes its counts when they change, at most once a second, and reads those of the others when it is
//! told. So limits of addresses, networks and accounts are asked without the database, of what the others had a
//! moment ago: in that moment a few more come in than may be. A node that is not heard of counts no more; without
//! the database each node counts alone.
//!
//! Deliberately absent: `sessions` of an account, which is exact (`super::claims`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use session_core::error::{Error, ErrorKind, Result};
use session_core::registry::{Counts, SessionRegistry};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::Hub;
use super::orders::{ALIVE, BEAT};
use crate::postgres::failed;

/// What tells that a node has other counts.
pub(super) const CHANNEL: &str = "ferry_counts";

/// The time between two exchanges, at least.
const PAUSE: Duration = Duration::from_secs(1);

/// What a node has written, and at which revision; nothing where it is the one that is known.
type Row = (String, i64, Option<String>);

/// What this node knows, on one line.
#[derive(Default)]
struct Known {
    line: u64,
    told: Option<Counts>,
    others: HashMap<String, (i64, Counts)>,
}

/// The counts of one node among the others.
pub(crate) struct Elsewhere {
    hub: Arc<Hub>,
    run: String,
    registry: Arc<SessionRegistry>,
}

impl Elsewhere {
    /// `run` is the process, as orders know it.
    pub(super) fn new(hub: Arc<Hub>, run: String, registry: &Arc<SessionRegistry>) -> Self {
        Elsewhere { hub, run, registry: Arc::clone(registry) }
    }

    /// Exchanges counts, until it is dropped.
    pub(crate) async fn serve(&self) {
        let mut follow = self.hub.follow_counts();
        let mut known = Known::default();
        loop {
            let done = self.exchange(&mut known).await;
            follow.looked(&done);
            if done.is_err() {
                known = Known::default();
                self.registry.set_elsewhere(Counts::default());
                follow.wait().await;
                continue;
            }
            // A flood of connections is not a flood of writing.
            sleep(PAUSE).await;
            // Also when nothing happens: who is not heard of counts no more.
            let _ = timeout(BEAT, async {
                tokio::select! {
                    () = self.registry.changed() => {}
                    () = follow.wait() => {}
                }
            })
            .await;
        }
    }

    async fn exchange(&self, known: &mut Known) -> Result<()> {
        let own = self.registry.counts();
        let is_told = known.told.as_ref() == Some(&own);
        let text = serde_json::to_string(&own).map_err(|_| Error::from(ErrorKind::Internal))?;
        let (line, run) = (known.line, self.run.clone());
        let there: Vec<_> =
            known.others.iter().map(|(run, (revision, _))| (run.clone(), *revision)).collect();
        let work = self.hub.with(move |client, made| {
            Box::pin(async move {
                // On another line all is told and read anew: what is true for a moment only may have been lost.
                let is_new = made != line;
                if is_new || !is_told {
                    put(client, &run, &text).await?;
                }
                read(client, &run, if is_new { Vec::new() } else { there }).await.map(|rows| (rows, made))
            })
        });
        let (mut rows, line) = work.await?;
        known.line = line;
        // One that slept was swept out by the others, and tells anew.
        known.told = rows.iter().any(|(run, ..)| *run == self.run).then_some(own);
        rows.retain(|(run, ..)| *run != self.run);
        if take(&mut known.others, rows) {
            let mut all = Counts::default();
            known.others.values().for_each(|(_, counts)| all.add(counts.clone()));
            self.registry.set_elsewhere(all);
        }
        Ok(())
    }
}

/// Takes up what was read of those who are there; whether anything is other than before.
fn take(others: &mut HashMap<String, (i64, Counts)>, rows: Vec<Row>) -> bool {
    let before = others.len();
    others.retain(|run, _| rows.iter().any(|(there, ..)| there == run));
    let mut changed = others.len() != before;
    for (run, revision, text) in rows {
        let Some(text) = text else { continue };
        // What a newer node writes otherwise is as good as nothing.
        others.insert(run, (revision, serde_json::from_str(&text).unwrap_or_default()));
        changed = true;
    }
    changed
}

async fn put(client: &Client, run: &str, text: &str) -> Result<()> {
    let sql = "
        INSERT INTO ferry_counts AS known (run, revision, counts) VALUES ($1, 1, $2)
        ON CONFLICT (run) DO UPDATE SET revision = known.revision + 1, counts = excluded.counts";
    client.execute(sql, &[&run, &text]).await.map_err(failed)?;
    client.batch_execute(&format!("NOTIFY {CHANNEL}")).await.map_err(failed)
}

/// What there is of nodes that are alive, this one's among it.
async fn read(client: &Client, run: &str, known: Vec<(String, i64)>) -> Result<Vec<Row>> {
    let sql = format!(
        "SELECT c.run, c.revision, CASE WHEN k.run IS NULL AND c.run <> $1 THEN c.counts END
         FROM ferry_counts AS c JOIN ferry_nodes AS n USING (run)
         LEFT JOIN unnest($2::text[], $3::bigint[]) AS k (run, revision)
             ON k.run = c.run AND k.revision = c.revision
         WHERE n.seen > now() - interval '{ALIVE} s'"
    );
    let (runs, revisions): (Vec<String>, Vec<i64>) = known.into_iter().unzip();
    let rows = client.query(&sql, &[&run, &runs, &revisions]).await.map_err(failed)?;
    let row = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    rows.iter().map(|r| row(r).map_err(failed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_counts_no_more_and_what_is_known_is_not_read_again() {
        let counts = |n: usize| format!(r#"{{"users":{{"s":{{"u":{n}}}}},"newer":1}}"#);
        let mut others = HashMap::new();
        let row = |run: &str, revision, text: Option<String>| (run.to_owned(), revision, text);
        assert!(take(&mut others, vec![row("a", 1, Some(counts(2))), row("b", 7, Some(counts(3)))]));
        assert!(!take(&mut others, vec![row("a", 1, None), row("b", 7, None)]));
        let users = |others: &HashMap<String, (i64, Counts)>| {
            let mut all: Vec<_> = others.values().map(|(_, c)| c.users["s"]["u"]).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(users(&others), [2, 3]);
        assert!(take(&mut others, vec![row("a", 2, Some(counts(9)))]));
        assert_eq!(users(&others), [9]);
        assert!(take(&mut others, vec![row("a", 3, Some("[]".into()))]));
        assert_eq!(others["a"], (3, Counts::default()));
    }
}
