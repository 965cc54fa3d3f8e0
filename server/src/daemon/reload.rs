//! Another configuration comes into force while sessions go on: the file's, read anew, or that of the database.
//!
//! Everything is made before anything changes (`super::making`); listeners that stay keep their sockets, sites that
//! stay their sessions, and those that are gone end theirs.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::making::{self, Ready};
use super::{Daemon, Served, differences, keeping, limit, lock};
use crate::accounts::Contents;
use crate::config::Config;
use crate::listen::Bound;
use crate::log::parse_level;

/// What is read anew.
pub(super) enum Anew {
    /// The file, and the database with it.
    File,
    /// The sites of the database; the file stays as it was read.
    Stored,
}

impl Daemon {
    /// What is asked for now: what a change of the database leaves to the file is as it was read.
    async fn wanted(&self, anew: Anew) -> Result<Config> {
        let served = self.served();
        let file = match anew {
            Anew::Stored => (*served.config).clone(),
            Anew::File => {
                self.common.accounts.refresh().await?;
                let again = Arc::clone(&self.reload);
                let read = tokio::task::spawn_blocking(move || {
                    let config = again()?;
                    parse_level(&config.log.level)?;
                    Ok::<_, Error>(config)
                });
                read.await.map_err(|_| Error::from(ErrorKind::Internal))??
            }
        };
        making::with_stored(&file, &self.common.accounts.contents(), Some(&served))
    }

    fn bound(&self) -> Vec<(String, crate::config::Listener)> {
        lock(&self.serving).bound.iter().map(|b| (b.site.clone(), b.asked.clone())).collect()
    }

    /// Makes ready what these contents would serve with these sites changed, and throws it away. Errors: as of a
    /// reload.
    pub(super) async fn rehearse(&self, after: &Contents, changed: &[String]) -> Result<()> {
        let _one = self.reloading.lock().await;
        let served = self.served();
        let (mut config, _) = after.with_sites(&served.config);
        config.stored.retain(|s| served.site(&s.name).is_some() || changed.contains(&s.name));
        making::ready(&config, Some(&served), &self.bound(), &self.common).await.map(|_| ())
    }

    /// Puts in force what is read anew; a fault changes nothing. The caller holds `reloading`. The answer says what
    /// changed and how many sessions were ended, because their account or site is gone.
    pub(super) async fn read_anew(&self, anew: Anew, actor: &str) -> Result<(Vec<String>, usize)> {
        let wanted = self.wanted(anew).await?;
        let old = self.served();
        let ready = making::ready_without_unusable(&wanted, Some(&old), &self.bound(), &self.common).await?;
        let Ready { config: new, read, sites: prepared, sockets } = ready;
        let identities = read.identities();
        let sites_now: Vec<_> = prepared.iter().map(|(s, _)| Arc::clone(s)).collect();
        let servers = read.servers(&sites_now, &self.http)?;
        if let Some((_, Some(tls))) = &self.admin {
            // A certificate that was renewed; one that cannot be read leaves the old one in force.
            tls.reload()?;
        }
        // The last step that can fail for a fault of the configuration; nothing has changed before it.
        self.journal.set_audit(new.log.audit.as_ref())?;
        if let Some(logging) = &self.logging {
            logging.set_level(&new.log.level)?;
        }
        let mut changes = differences::told(&old.config, &new);
        limit(&self.common, &new);
        self.common.outbox.set(new.outbox.clone());
        self.common.protector.set(new.protector.clone());
        let mut ended = 0;
        let (mut sites, mut fresh) = (Vec::new(), Vec::new());
        for (site, prepared) in prepared {
            match prepared {
                Some(prepared) => ended += site.replace(prepared),
                None => {
                    site.announce();
                    fresh.push(Arc::clone(&site));
                }
            }
            sites.push(site);
        }
        let gone = old.sites.iter().filter(|s| !sites.iter().any(|n| Arc::ptr_eq(n, s)));
        ended += gone.map(|s| s.abolish()).sum::<usize>();
        *self.served.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Served { config: Arc::new(new), sites });
        if !fresh.is_empty() {
            tokio::spawn(keeping::count_groups(fresh));
        }
        {
            let mut serving = lock(&self.serving);
            let mut old: Vec<Option<Bound>> = serving.bound.drain(..).map(Some).collect();
            for socket in sockets {
                if let Some(b) = &socket.made {
                    changes.push(format!("listening on {}", b.address));
                }
                let stays = socket.from.and_then(|i| old.get_mut(i)?.take());
                serving.bound.extend(socket.made.or(stays).map(|mut b| {
                    b.site = socket.site;
                    b
                }));
            }
            changes.extend(old.iter().flatten().map(|b| format!("no longer listening on {}", b.address)));
            if serving.identities != identities {
                changes.push("other host keys or certificates".into());
                serving.identities = identities;
            }
            self.listen(&mut serving, &servers)?;
        }
        tracing::info!(ended, changes = changes.join("; "), "the configuration was read anew");
        self.journal.note("reloaded", json!({ "actor": actor, "ended": ended, "changes": changes }));
        Ok((changes, ended))
    }

    /// Reads the configuration anew; a bad one changes nothing. The answer says what changed and how many
    /// sessions were ended, because their account is gone.
    pub async fn reload(&self, actor: &str) -> Result<Value> {
        let _one = self.reloading.lock().await;
        match self.read_anew(Anew::File, actor).await {
            Ok((changes, ended)) => Ok(json!({ "reloaded": true, "ended": ended, "changes": changes })),
            Err(e) => {
                self.journal.note("reload-failed", json!({ "actor": actor, "reason": format!("{e:#}") }));
                Err(e)
            }
        }
    }
}
