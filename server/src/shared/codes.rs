//! One-time codes that were used, on any node: a code is good where it is shown first, and nowhere again.
//!
//! The database decides, in one statement, which of two nodes was first. Where it cannot be asked no code is taken:
//! somebody who has seen one must not be let in by a broken line.
//!
//! Deliberately absent: whether a code is right (`crate::users::totp`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_core::error::Result;
use tokio_postgres::Client;

use super::Hub;
use crate::postgres::failed;
use crate::users::totp::{Once, Used, is_recovery_hash};

/// How long somebody who logs in waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all nodes know of used codes.
pub(crate) struct Codes(Arc<Hub>);

impl Codes {
    /// With the recovery codes that were used here and stand in `file`. Errors: those of the database, and a file
    /// that is there and cannot be read.
    pub(crate) async fn open(hub: Arc<Hub>, file: &Path) -> Result<Arc<Self>> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e.into()),
        };
        let hashes: Vec<_> = text.lines().filter(|l| is_recovery_hash(l)).map(str::to_owned).collect();
        if !hashes.is_empty() {
            hub.with(move |client, _| Box::pin(spend(client, hashes))).await?;
        }
        Ok(Arc::new(Codes(hub)))
    }
}

#[async_trait]
impl Once for Codes {
    async fn take(&self, site: &str, user: &str, used: &Used) -> Result<bool> {
        let (site, user, used) = (site.to_owned(), user.to_owned(), used.clone());
        self.0.with_soon(PATIENCE, move |client, _| Box::pin(take(client, site, user, used))).await
    }
}

async fn spend(client: &mut Client, hashes: Vec<String>) -> Result<()> {
    let sql = "INSERT INTO ferry_recovery (hash) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&hashes]).await.map_err(failed).map(|_| ())
}

async fn take(client: &mut Client, site: String, user: String, used: Used) -> Result<bool> {
    let rows = match used {
        Used::Step(step) => {
            let sql = "
                INSERT INTO ferry_steps AS known (site, account, step) VALUES ($1, $2, $3)
                ON CONFLICT (site, account) DO UPDATE SET step = excluded.step WHERE known.step < excluded.step";
            client.execute(sql, &[&site, &user, &step.cast_signed()]).await
        }
        Used::Recovery(hash) => {
            let sql = "INSERT INTO ferry_recovery (hash) VALUES ($1) ON CONFLICT DO NOTHING";
            client.execute(sql, &[&hash]).await
        }
    };
    rows.map(|rows| rows == 1).map_err(failed)
}
