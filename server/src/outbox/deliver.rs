//! Tells receivers what is due, several at a time, and plans what failed anew.
//!
//! A receiver that is slow or down holds up its own lines alone. A pause doubles from failure to failure, up
//! to a bound, and is between half and all of it, so that what failed together does not come back together;
//! a longer one that the receiver asks for (`Retry-After`) is kept, within the bound.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use session_core::error::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::database::{self, Due};
use super::{Outbox, now};
use crate::config::Outbox as Settings;
use crate::notify::receiver::Failure;

/// The longest sleep: a clock that was set does not stop anything for longer.
const LOOK: Duration = Duration::from_secs(60);

/// After a fault of the disk.
const FAULT: Duration = Duration::from_secs(5);

/// A delivery under way.
type Name = (String, String);

impl Outbox {
    /// Tells until `stop` fires; what is under way then is told again with the next start.
    pub(crate) async fn deliver(self: Arc<Self>, stop: CancellationToken) {
        let mut under_way: HashSet<Name> = HashSet::new();
        let mut calls: JoinSet<Name> = JoinSet::new();
        loop {
            let sleep = match self.begin(&mut under_way, &mut calls).await {
                Ok(sleep) => sleep,
                Err(e) => {
                    tracing::error!(target: "outbox", "nothing can be told: {e:#}");
                    FAULT
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                Some(ended) = calls.join_next() => match ended {
                    Ok(name) => {
                        under_way.remove(&name);
                    }
                    // It can be told again once the process is new.
                    Err(e) => tracing::error!(target: "outbox", "a delivery broke off: {e}"),
                },
            }
        }
    }

    /// Begins what is due; how long until there is more.
    async fn begin(
        self: &Arc<Self>,
        under_way: &mut HashSet<Name>,
        calls: &mut JoinSet<Name>,
    ) -> Result<Duration> {
        if !self.exists() {
            return Ok(LOOK);
        }
        let (at, most) = (now(), self.settings().connections);
        let busy: Vec<Name> = under_way.iter().cloned().collect();
        let (found, next) = self
            .run(move |c| {
                let mut found = Vec::new();
                for receiver in database::receivers(c)? {
                    let calls = busy.iter().filter(|(of, _)| *of == receiver).count();
                    let due = database::due(c, &receiver, at, most)?;
                    let idle =
                        due.into_iter().filter(|d| !busy.iter().any(|b| b.0 == d.receiver && b.1 == d.id));
                    found.extend(idle.take(most.saturating_sub(calls)));
                }
                Ok((found, database::next_due(c, at)?))
            })
            .await?;
        for due in found {
            let name = (due.receiver.clone(), due.id.clone());
            under_way.insert(name.clone());
            let outbox = Arc::clone(self);
            calls.spawn(async move {
                outbox.tell_one(due).await;
                name
            });
        }
        let until = next.map(|next| Duration::from_millis(u64::try_from(next - at).unwrap_or(0)));
        Ok(until.map_or(LOOK, |until| until.min(LOOK)))
    }

    async fn tell_one(&self, due: Due) {
        let told = match self.receiver(&due.receiver) {
            Some(receiver) => receiver.call(&due.id, &due.body).await,
            None => Err(Failure::new("no webhook and no command of this name is configured")),
        };
        let (receiver, id) = (due.receiver.clone(), due.id.clone());
        let written = match told {
            // Who is told afterwards has nothing to refuse.
            Ok(_) => self.run(move |c| database::delivered(c, &receiver, &id, now())).await,
            Err(failure) => {
                let settings = self.settings();
                let at = now();
                let again = again(&settings, &due, &failure, at, random());
                match again {
                    Some(_) => tracing::warn!(
                        target: "outbox", receiver, event = id, attempts = due.attempts + 1, "not told yet: {}", failure.words
                    ),
                    None => tracing::error!(
                        target: "outbox", receiver, event = id, "given up, it is a dead letter: {}", failure.words
                    ),
                }
                self.run(move |c| {
                    let words = &failure.words;
                    database::undelivered(c, (&receiver, &id), words, again, settings.dead, at)
                })
                .await
            }
        };
        if let Err(e) = written {
            tracing::error!(target: "outbox", "what was told is not written, and is told again: {e:#}");
            tokio::time::sleep(FAULT).await;
        }
    }
}

/// When it is tried again; never after its time. `chance` is from 0 to 1.
pub(super) fn again(settings: &Settings, due: &Due, failure: &Failure, now: i64, chance: f64) -> Option<i64> {
    let give_up = i64::try_from(settings.give_up.as_millis()).unwrap_or(i64::MAX);
    if now.saturating_sub(due.first.unwrap_or(now)) >= give_up {
        return None;
    }
    let doubled = settings.retry.saturating_mul(1u32.checked_shl(due.attempts.min(31)).unwrap_or(u32::MAX));
    let pause = doubled.min(settings.longest).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
    let pause = pause.max(failure.pause.unwrap_or_default().min(settings.longest));
    Some(now.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)))
}

fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without random numbers there is no jitter, and all else goes on.
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
