//! What other nodes change of the accounts comes into force here: their users' sessions end as if it had been
//! changed on this node, their secrets reach handlers.
//!
//! It is taken up when the database tells of it, from time to time besides, and before a change of this node is
//! judged. Deliberately absent: how it is read (`super::postgres`), what putting it in force means (the daemon).

use session_core::error::{ErrorKind, Result};

use super::desk::{Desk, Touched};
use super::{Change, Changed};

impl Touched {
    /// What changes touch that were made elsewhere.
    pub(super) fn by(changes: &[Change]) -> Self {
        let mut touched = Touched::Nothing;
        for change in changes {
            touched = match (touched, change) {
                (_, Change::Secret(..)) | (Touched::Secrets, _) => Touched::Secrets,
                (_, Change::Site(..)) | (Touched::Sites, _) => Touched::Sites,
                // Whoever is in it, by whatever way.
                (_, Change::Group(..)) | (Touched::AllUsers, _) => Touched::AllUsers,
                (touched, Change::Token(..)) => touched,
                (Touched::Users(mut keys), Change::User(key, _)) => {
                    keys.push(key.clone());
                    Touched::Users(keys)
                }
                (Touched::Nothing, Change::User(key, _)) => Touched::Users(vec![key.clone()]),
            };
        }
        touched
    }
}

impl Desk {
    /// Puts in force what other nodes have changed. The caller has its turn. Errors: those of the database.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let Some(Changed { touched, by }) = self.accounts.catch_up().await? else { return Ok(()) };
        tracing::info!(actor = by, "accounts: changed by another node");
        if let Err(e) = self.serving.renew(touched, &by).await {
            tracing::error!("what another node changed is not in force yet: {e:#}");
        }
        Ok(())
    }

    /// Follows the other nodes, where there are any, until it is dropped.
    pub(crate) async fn follow(&self) {
        let Some(mut others) = self.accounts.follow() else { return };
        let mut believed = true;
        loop {
            let done = {
                let _turn = self.accounts.turn().await;
                self.catch_up().await
            };
            others.looked(&done);
            if let Err(e) = &done
                && e.kind() != ErrorKind::Internal
            {
                tracing::error!("accounts of other nodes are not taken up: {e:#}");
            }
            let was = std::mem::replace(&mut believed, self.accounts.is_believed());
            if was && !believed {
                tracing::error!(
                    "stored accounts do not log in any more: the database was not reached for too long"
                );
            }
            others.wait().await;
        }
    }
}
