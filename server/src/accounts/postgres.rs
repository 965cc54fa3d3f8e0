//! The accounts in what several nodes share: rows of one stream of `crate::shared`.
//!
//! A change that was judged by what another node has changed meanwhile is refused, and judged anew by the desk.
//! Deliberately absent: tables and lines (`crate::shared`), what the records mean.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::error::{Error, ErrorKind, Result};

use super::rows::{Kind, Row};
use super::{AccountStore, Change, Contents, News, Revision};
use crate::shared::{Follow, Fresh, Hub, Record, Stream};

/// The stream in the database.
const STREAM: &str = "accounts";

/// See the module.
pub(super) struct PostgresStore {
    stream: Stream,
}

impl PostgresStore {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        PostgresStore { stream: Stream::new(hub, STREAM) }
    }
}

fn record(change: &Change) -> Result<Record> {
    let Row { kind, site, name, text, changed } = Row::of(change)?;
    let (kind, changed) = (kind.name().to_owned(), changed.cast_signed());
    Ok(Record { kind, site, name, text, changed, expires: None, only_if_there: false })
}

fn change(record: Record) -> Result<Change> {
    let damaged = |what: &str| {
        Error::new(ErrorKind::Corrupt)
            .with_detail(format!("in the database that nodes share, {what} is damaged"))
    };
    let Record { kind, site, name, text, changed, .. } = record;
    let kind =
        Kind::ALL.into_iter().find(|k| k.name() == kind).ok_or_else(|| damaged("the kind of a row"))?;
    let changed = u64::try_from(changed).unwrap_or(0);
    Row { kind, site, name, text, changed }.change().map_err(|what| damaged(&what))
}

fn contents(records: Vec<Record>) -> Result<Contents> {
    let mut all = Contents::default();
    for record in records {
        all.apply(change(record)?);
    }
    Ok(all)
}

#[async_trait]
impl AccountStore for PostgresStore {
    async fn load(&self) -> Result<(Contents, Revision)> {
        let (records, revision) = self.stream.all().await?;
        Ok((contents(records)?, revision))
    }

    async fn apply(&self, changes: Vec<Change>, seen: Revision, actor: &str) -> Result<Revision> {
        let records = changes.iter().map(record).collect::<Result<Vec<_>>>()?;
        self.stream.put(records, Some(seen), actor).await
    }

    async fn news(&self, seen: Revision) -> Result<Option<News>> {
        Ok(match self.stream.since(seen).await? {
            Fresh::Nothing => None,
            Fresh::All(records, revision) => Some(News::All(contents(records)?, revision)),
            Fresh::Some(records, revision, by) => {
                let changes = records.into_iter().map(change).collect::<Result<_>>()?;
                Some(News::Changes(changes, revision, by))
            }
        })
    }

    fn follow(&self) -> Option<Follow> {
        Some(self.stream.hub().follow())
    }
}
