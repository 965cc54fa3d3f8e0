//! The sessions of accounts that may have only so many, counted over all nodes.
//!
//! A login claims a place before it is let in: under a lock of the database that is the account's, so that of two
//! nodes only one takes the last place. A place is given back soon after its session is over or logged out, and
//! those of a node that is not heard of count no more. Without the database each node counts its own.
//!
//! Deliberately absent: limits of the server and of sites, which are each node's own (`session_core::registry`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use session_core::auth::Account;
use session_core::error::{Error, ErrorKind, Result};
use session_core::reason::Reason;
use session_core::registry::SessionRegistry;
use session_core::session::Session;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::Hub;
use super::orders::{ALIVE, BEAT};
use crate::postgres::failed;
use crate::users::directory::Room;

/// How long somebody who logs in waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a place is kept for a login that was not finished.
const RESERVED: Duration = Duration::from_secs(10);

/// A place: session, site and account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    session: String,
    site: String,
    account: String,
}

#[derive(Default)]
struct State {
    /// What the database was told.
    told: HashSet<Place>,
    /// Logins that are about to be let in.
    reserved: HashMap<Place, Instant>,
}

/// The places of one node.
pub(crate) struct Claims {
    hub: Arc<Hub>,
    run: String,
    registry: Arc<SessionRegistry>,
    state: Mutex<State>,
}

fn place(session: &Session, account: &Account) -> Place {
    Place {
        session: session.id().to_string(),
        site: session.site().to_string(),
        account: account.name.to_string(),
    }
}

impl Claims {
    /// `run` is the process, as orders know it.
    pub(super) fn new(hub: Arc<Hub>, run: String, registry: &Arc<SessionRegistry>) -> Arc<Self> {
        Arc::new(Claims { hub, run, registry: Arc::clone(registry), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has a place now.
    fn present(&self) -> HashSet<Place> {
        let mut present = HashSet::new();
        let sessions = self.registry.list();
        for session in &sessions {
            if let Some(identity) = session.identity().filter(|i| i.account().max_sessions != 0) {
                present.insert(place(session, identity.account()));
            }
        }
        let mut state = self.lock();
        let lives = |place: &Place| sessions.iter().any(|s| s.id().as_str() == place.session);
        state
            .reserved
            .retain(|place, since| since.elapsed() < RESERVED && !present.contains(place) && lives(place));
        present.extend(state.reserved.keys().cloned());
        present
    }

    /// Tells what has changed, until it is dropped.
    pub(crate) async fn serve(&self) {
        loop {
            // One that fails is repeated: what was told is noted only then.
            let _ = self.tell().await;
            let _ = timeout(BEAT, self.registry.left()).await;
        }
    }

    async fn tell(&self) -> Result<()> {
        let present = self.present();
        let gone: Vec<Place> = self.lock().told.difference(&present).cloned().collect();
        if gone.is_empty() && present.is_empty() {
            return Ok(());
        }
        let run = self.run.clone();
        let (left, kept) = (gone.clone(), present.iter().cloned().collect::<Vec<_>>());
        self.hub.with(move |client, _| Box::pin(tell(client, run, left, kept))).await?;
        let mut state = self.lock();
        gone.iter().for_each(|place| {
            state.told.remove(place);
        });
        state.told.extend(present);
        Ok(())
    }
}

#[async_trait]
impl Room for Claims {
    async fn make(&self, session: &Session, account: &Account) -> Result<()> {
        let place = place(session, account);
        let most = i64::try_from(account.max_sessions).unwrap_or(i64::MAX);
        {
            let mut state = self.lock();
            state.told.insert(place.clone());
            state.reserved.insert(place.clone(), Instant::now());
        }
        // Of this node only those that are there: what was not told yet is over all the same.
        let same = |p: &Place| (&p.site, &p.account) == (&place.site, &place.account);
        let own: Vec<_> = self.present().into_iter().filter(same).map(|p| p.session).collect();
        let (run, wanted) = (self.run.clone(), place.clone());
        let claimed = self
            .hub
            .with_soon(PATIENCE, move |client, _| Box::pin(claim(client, run, wanted, own, most)))
            .await;
        match claimed {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.lock().reserved.remove(&place);
                Err(Error::new(ErrorKind::Throttled)
                    .with_detail("this account has as many sessions as it may, over all nodes")
                    .because(Reason::ConnectionLimit))
            }
            // The log has it.
            Err(_) => Ok(()),
        }
    }
}

async fn claim(client: &mut Client, run: String, place: Place, own: Vec<String>, most: i64) -> Result<bool> {
    let work = client.transaction().await.map_err(failed)?;
    let Place { session, site, account } = &place;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 1181037177))";
    work.execute(lock, &[site, account]).await.map_err(failed)?;
    // Another statement, which sees what was claimed before.
    let sql = format!(
        "INSERT INTO ferry_claims (session, run, site, account)
         SELECT $1::text, $2::text, $3::text, $4::text WHERE $5::bigint > (
             SELECT count(*) FROM ferry_claims AS c WHERE c.site = $3 AND c.account = $4 AND c.session <> $1
                 AND CASE WHEN c.run = $2 THEN c.session = ANY($6::text[]) ELSE EXISTS (
                     SELECT FROM ferry_nodes AS n
                     WHERE n.run = c.run AND n.seen > now() - interval '{ALIVE} s') END)
         ON CONFLICT (session) DO UPDATE SET site = excluded.site, account = excluded.account"
    );
    let rows = work.execute(&sql, &[session, &run, site, account, &most, &own]).await.map_err(failed)?;
    work.commit().await.map_err(failed)?;
    Ok(rows == 1)
}

async fn tell(client: &mut Client, run: String, gone: Vec<Place>, kept: Vec<Place>) -> Result<()> {
    fn column(places: &[Place], of: impl Fn(&Place) -> &String) -> Vec<&String> {
        places.iter().map(of).collect()
    }
    if !gone.is_empty() {
        // One session may have gone from one account to another.
        let sql = "DELETE FROM ferry_claims AS c USING unnest($1::text[], $2::text[]) AS g (session, account)
                   WHERE c.session = g.session AND c.account = g.account";
        let sessions = column(&gone, |p| &p.session);
        client.execute(sql, &[&sessions, &column(&gone, |p| &p.account)]).await.map_err(failed)?;
    }
    if !kept.is_empty() {
        // What a crash of the database took away, or who swept out this node.
        let sql = "INSERT INTO ferry_claims (session, run, site, account)
                   SELECT k.session, $1::text, k.site, k.account
                   FROM unnest($2::text[], $3::text[], $4::text[]) AS k (session, site, account)
                   ON CONFLICT DO NOTHING";
        let sessions = column(&kept, |p| &p.session);
        let (sites, accounts) = (column(&kept, |p| &p.site), column(&kept, |p| &p.account));
        client.execute(sql, &[&run, &sessions, &sites, &accounts]).await.map_err(failed)?;
    }
    Ok(())
}
