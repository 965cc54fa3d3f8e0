//! Rows that every node holds a copy of: read as a whole once, and by their changes from then on.
//!
//! The rows of a stream are numbered by its revision, which grows by one with every change under a lock, so that
//! what was read up to a revision is complete. What is taken away stays for a day as a row without a text; who
//! was away for longer has a new line by then and reads everything anew. What ends by itself (`expires`) is
//! swept out by whoever writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use session_core::error::{Error, ErrorKind, Result};
use tokio_postgres::{Client, IsolationLevel, Row};

use super::Hub;
use crate::postgres::failed;

/// How long it stays to be read that something was taken away, seconds.
const GONE: i64 = 86_400;

/// A row.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: String,
    pub(crate) site: String,
    pub(crate) name: String,
    /// `None` for what is taken away.
    pub(crate) text: Option<String>,
    /// Seconds since 1970.
    pub(crate) changed: i64,
    /// When it ends by itself, seconds since 1970.
    pub(crate) expires: Option<i64>,
    /// To be put only where there is one that was not taken away.
    pub(crate) only_if_there: bool,
}

/// What there is since a revision.
pub(crate) enum Fresh {
    /// Everything, as of this revision: there may be less than before.
    All(Vec<Record>, u64),
    /// Nothing.
    Nothing,
    /// These changes, which lead to this revision; who made the last one.
    Some(Vec<Record>, u64, String),
}

/// The rows of one kind of things.
pub(crate) struct Stream {
    hub: Arc<Hub>,
    name: &'static str,
    /// The line on which everything was read, by its number.
    read_on: AtomicU64,
}

impl Stream {
    pub(crate) fn new(hub: Arc<Hub>, name: &'static str) -> Self {
        Stream { hub, name, read_on: AtomicU64::new(0) }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Everything, and the revision that it is. Errors: those of the database.
    pub(crate) async fn all(&self) -> Result<(Vec<Record>, u64)> {
        let name = self.name;
        let read = self.hub.with(move |client, made| {
            Box::pin(async move { everything(client, name).await.map(|(all, r)| (all, r, made)) })
        });
        let (all, revision, made) = read.await?;
        self.read_on.store(made, Ordering::Relaxed);
        Ok((all, revision))
    }

    /// What has changed since `seen`; everything on a line that is new. Errors: those of the database.
    pub(crate) async fn since(&self, seen: u64) -> Result<Fresh> {
        let (name, read_on) = (self.name, self.read_on.load(Ordering::Relaxed));
        let read = self.hub.with(move |client, made| {
            Box::pin(async move {
                let now = revision(client, name).await?;
                let fresh = match (made == read_on, now.cmp(&seen)) {
                    (true, std::cmp::Ordering::Equal) => Fresh::Nothing,
                    (true, std::cmp::Ordering::Greater) => changes(client, name, seen, now).await?,
                    // The database was put back to what it was, or may have been.
                    _ => {
                        let (all, revision) = everything(client, name).await?;
                        Fresh::All(all, revision)
                    }
                };
                Ok((fresh, made))
            })
        });
        let (fresh, made) = read.await?;
        if matches!(fresh, Fresh::All(..)) {
            self.read_on.store(made, Ordering::Relaxed);
        }
        Ok(fresh)
    }

    /// Puts these in place, all or none; the revision that this makes. Errors: `PreconditionFailed` where
    /// somebody has changed something since `seen`; those of the database: a line that broke at the last moment
    /// leaves it open whether it was done.
    pub(crate) async fn put(&self, records: Vec<Record>, seen: Option<u64>, by: &str) -> Result<u64> {
        let name = self.name;
        let by = format!("{by} on {}", self.hub.node());
        self.hub.with(move |client, _| Box::pin(put(client, name, records, seen, by))).await
    }
}

fn number(n: i64) -> Result<u64> {
    u64::try_from(n).map_err(|_| Error::new(ErrorKind::Corrupt).with_detail("a revision below zero"))
}

async fn revision(client: &Client, stream: &str) -> Result<u64> {
    let sql = "SELECT revision FROM ferry_state WHERE stream = $1";
    let row = client.query_opt(sql, &[&stream]).await.map_err(failed)?;
    number(row.map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?)
}

const COLUMNS: &str = "kind, site, name, record, changed, expires";

fn record(row: &Row) -> Result<Record> {
    let read = || {
        Ok(Record {
            kind: row.try_get(0)?,
            site: row.try_get(1)?,
            name: row.try_get(2)?,
            text: row.try_get(3)?,
            changed: row.try_get(4)?,
            expires: row.try_get(5)?,
            only_if_there: false,
        })
    };
    read().map_err(failed)
}

async fn everything(client: &mut Client, stream: &str) -> Result<(Vec<Record>, u64)> {
    let work = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let work = work.start().await.map_err(failed)?;
    let now = work.query_opt("SELECT revision FROM ferry_state WHERE stream = $1", &[&stream]).await;
    let now = now.and_then(|row| row.map_or(Ok(0), |row| row.try_get(0))).map_err(failed)?;
    let sql = format!("SELECT {COLUMNS} FROM ferry_records WHERE stream = $1 AND record IS NOT NULL");
    let rows = work.query(&sql, &[&stream]).await.map_err(failed)?;
    let all = rows.iter().map(record).collect::<Result<_>>()?;
    work.commit().await.map_err(failed)?;
    Ok((all, number(now)?))
}

/// There are some: the revision is `now` at least.
async fn changes(client: &Client, stream: &str, seen: u64, now: u64) -> Result<Fresh> {
    let sql = format!(
        "SELECT {COLUMNS}, revision, changed_by FROM ferry_records
         WHERE stream = $1 AND revision > $2 ORDER BY revision"
    );
    let rows = client.query(&sql, &[&stream, &seen.cast_signed()]).await.map_err(failed)?;
    let (mut last, mut by) = (now, String::new());
    if let Some(row) = rows.last() {
        last = number(row.try_get(6).map_err(failed)?)?.max(now);
        by = row.try_get(7).map_err(failed)?;
    }
    Ok(Fresh::Some(rows.iter().map(record).collect::<Result<_>>()?, last, by))
}

async fn put(
    client: &mut Client,
    stream: &str,
    records: Vec<Record>,
    seen: Option<u64>,
    by: String,
) -> Result<u64> {
    let work = client.transaction().await.map_err(failed)?;
    // Whoever changes something holds this row until it is done.
    let turn = "INSERT INTO ferry_state VALUES ($1, 1)
                ON CONFLICT (stream) DO UPDATE SET revision = ferry_state.revision + 1 RETURNING revision";
    let row = work.query_one(turn, &[&stream]).await.map_err(failed)?;
    let revision: i64 = row.try_get(0).map_err(failed)?;
    if seen.is_some_and(|seen| seen.cast_signed() != revision - 1) {
        return Err(Error::new(ErrorKind::PreconditionFailed)
            .with_detail("another node has changed something meanwhile"));
    }
    // Of two rows of one name the later one counts; a statement touches a row once.
    let mut rows = std::collections::BTreeMap::new();
    for record in &records {
        rows.insert((&record.kind, &record.site, &record.name), record);
    }
    fn column<'a, T>(rows: &[&'a Record], of: impl Fn(&'a Record) -> T) -> Vec<T> {
        rows.iter().map(|r| of(r)).collect()
    }
    let rows: Vec<&Record> = rows.into_values().collect();
    let sql = "
        INSERT INTO ferry_records
        SELECT $1::text, r.kind, r.site, r.name, r.record,
            CASE WHEN r.record IS NULL THEN extract(epoch FROM now())::bigint ELSE r.changed END,
            r.expires, $8::bigint, $9::text
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $10::bool[])
            AS r (kind, site, name, record, changed, expires, only_if_there)
        WHERE NOT r.only_if_there OR EXISTS (
            SELECT FROM ferry_records AS f WHERE f.stream = $1 AND f.kind = r.kind AND f.site = r.site
                AND f.name = r.name AND f.record IS NOT NULL)
        ON CONFLICT (stream, kind, site, name) DO UPDATE SET record = excluded.record,
            changed = excluded.changed, expires = excluded.expires,
            revision = excluded.revision, changed_by = excluded.changed_by";
    let texts = column(&rows, |r| r.text.as_deref());
    work.execute(
        sql,
        &[
            &stream,
            &column(&rows, |r| r.kind.as_str()),
            &column(&rows, |r| r.site.as_str()),
            &column(&rows, |r| r.name.as_str()),
            &texts,
            &column(&rows, |r| r.changed),
            &column(&rows, |r| r.expires),
            &revision,
            &by,
            &column(&rows, |r| r.only_if_there),
        ],
    )
    .await
    .map_err(failed)?;
    let sweep = format!(
        "DELETE FROM ferry_records WHERE record IS NULL AND changed < extract(epoch FROM now())::bigint - {GONE};
         DELETE FROM ferry_records WHERE expires < extract(epoch FROM now())::bigint - {GONE}"
    );
    work.batch_execute(&sweep).await.map_err(failed)?;
    work.execute("SELECT pg_notify('ferry', $1)", &[&stream]).await.map_err(failed)?;
    work.commit().await.map_err(failed)?;
    number(revision)
}
