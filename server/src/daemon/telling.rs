//! What the outbox does not know is looked up in the stores: at start, and for what was cut off while running.

use std::sync::{Arc, Weak};
use std::time::Duration;

use session_core::error::Result;

use super::Daemon;
use crate::outbox::{Intent, Outbox, Outcome, recover};
use crate::site::FerrySite;

/// Time to look at one store; after it nobody knows.
const LOOK: Duration = Duration::from_secs(10);

/// How long calls of a session that was cut may still run, with some room.
const QUIET: Duration = Duration::from_secs(2);

/// Gives everything that a former run began its outcome, before anybody can change the stores. Errors: those
/// of the file.
pub(super) async fn look_back(outbox: &Outbox, sites: &[Arc<FerrySite>]) -> Result<()> {
    if !outbox.exists() {
        return Ok(());
    }
    let (mut told, mut nothing) = (0_u32, 0_u32);
    for intent in outbox.intents().await? {
        let id = intent.id.clone();
        let outcome = look(intent, sites).await;
        match outcome {
            Outcome::Happened(_) => told += 1,
            Outcome::Nothing => nothing += 1,
        }
        outbox.settle(id, outcome);
    }
    if told + nothing > 0 {
        tracing::info!(target: "outbox", told, nothing, "what a former run left without an outcome was looked up");
    }
    Ok(())
}

/// The same for what was cut off, until the daemon is gone.
pub(super) async fn keep_looking(outbox: Arc<Outbox>, daemon: Weak<Daemon>) {
    loop {
        let found = outbox.unclear_ones().await;
        tokio::time::sleep(QUIET).await;
        let Some(sites) = daemon.upgrade().map(|d| d.served().sites.clone()) else { return };
        for id in found {
            match outbox.intent_of(id.clone()).await {
                Ok(Some(intent)) => outbox.settle(id, look(intent, &sites).await),
                Ok(None) => {}
                Err(e) => tracing::error!(target: "outbox", "an event waits for the next start: {e:#}"),
            }
        }
    }
}

async fn look(intent: Intent, sites: &[Arc<FerrySite>]) -> Outcome {
    let Some(site) = sites.iter().find(|s| s.config().site == intent.site) else {
        return recover::outcome(&intent, None, false).await;
    };
    match tokio::time::timeout(LOOK, site.look_back(&intent)).await {
        Ok(outcome) => outcome,
        Err(_) => recover::outcome(&intent, None, false).await,
    }
}
