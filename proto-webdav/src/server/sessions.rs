//! Sessions of HTTP: who has shown which credential from where.
//!
//! A session is known by its credential, the address of its client, the protocol and the site. What is kept
//! of the credential is a digest under a key of this process. It is judged again after a while, and as soon
//! as the site's accounts have changed; a credential that is not good any more ends its session. Of requests
//! that come at once with a new credential one logs in and the others wait for it.
//!
//! A session ends when nothing moved for the idle time, or when it was cut; then its connections are closed
//! and, if somebody ended it, its credential is not taken for a while. What is remembered is bounded by the
//! sessions that the site lets in and by the connections that wait for a login.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::auth::{Authenticator, Credential, Login, Secret, Site, Step, still_good};
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::gate::SessionFs;
use session_core::lifecycle::Lifecycle;
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Protocol, Session};
use tokio::time::Instant;

use super::connection::Connection;
use super::options::WebdavServerOptions;

type Key = [u8; 32];

/// What a request shows of who sends it.
pub(super) struct Shown {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// A session with what its requests need.
pub(super) struct Client {
    pub(super) session: Arc<Session>,
    pub(super) fs: SessionFs,
    /// What we call ourselves to it.
    pub(super) software: String,
    key: Key,
    /// Who judged the credential, and when.
    verified: Mutex<(Arc<dyn Authenticator>, Instant)>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    requests: AtomicUsize,
}

/// A request under way: its session is not idle.
pub(super) struct Busy(Arc<Client>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.session.touch();
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A request begins, on this connection.
    pub(super) fn busy(self: &Arc<Self>, connection: &Arc<Connection>) -> Busy {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.session.touch();
        lock(&self.connections).insert(connection.id, Arc::clone(connection));
        Busy(Arc::clone(self))
    }

    /// The connection is over.
    pub(super) fn leave(&self, connection: u64) {
        if lock(&self.connections).remove(&connection).is_some() {
            self.session.touch();
        }
    }

    fn is_idle(&self, options: &WebdavServerOptions) -> Option<Duration> {
        let alone = lock(&self.connections).is_empty();
        let most = if alone { options.linger.or(options.idle) } else { options.idle };
        let left = most?.saturating_sub(self.session.idle());
        Some(if self.requests.load(Ordering::Acquire) > 0 { left.max(MOMENT) } else { left })
    }
}

/// How soon an idle session is looked at again, at least and at most.
const MOMENT: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_secs(1);

enum Seat {
    Free,
    Taken(Arc<Client>),
    /// Somebody ended the session: not before this time.
    Held(Instant),
}

type Place = Arc<tokio::sync::Mutex<Seat>>;

/// The sessions of one server, through every change of its options.
pub struct Sessions {
    key: Key,
    places: Mutex<HashMap<Key, Place>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// Why a request does not get in.
pub(super) enum Out {
    /// Its credential is not good.
    Rejected,
    /// Not now, whatever the credential.
    Refused(Error),
}

impl Sessions {
    /// None yet. Errors: `Internal`, without randomness.
    pub fn new() -> Result<Arc<Self>> {
        let mut key = Key::default();
        getrandom::fill(&mut key)
            .map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness"))?;
        Ok(Arc::new(Sessions { key, places: Mutex::default() }))
    }

    fn digest(&self, site: &str, protocol: Protocol, peer: Option<IpAddr>, shown: Option<&Shown>) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        add(site.as_bytes());
        add(protocol.name().as_bytes());
        add(peer.map(|p| p.to_string()).unwrap_or_default().as_bytes());
        if let Some(shown) = shown {
            add(shown.user.as_bytes());
            add(shown.password.expose().as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    fn place(&self, key: Key) -> Place {
        Arc::clone(
            lock(&self.places).entry(key).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Seat::Free))),
        )
    }

    /// The place is not needed any more, unless somebody else waits at it.
    fn vacate(&self, key: &Key, place: Place) {
        let mut places = lock(&self.places);
        // Ours and the table's.
        let alone = Arc::strong_count(&place) <= 2;
        let is_free = place.try_lock().is_ok_and(|seat| matches!(*seat, Seat::Free));
        if alone && is_free {
            places.remove(key);
        }
    }

    /// The session of whoever shows this, logged in now if there is none. `None` is the account of strangers.
    pub(super) async fn enter(
        self: &Arc<Self>,
        site: &Arc<dyn Site>,
        options: &Arc<WebdavServerOptions>,
        connection: &Arc<Connection>,
        shown: Option<&Shown>,
        software: &str,
    ) -> std::result::Result<Arc<Client>, Out> {
        let (protocol, peer) = (connection.protocol(), Some(connection.peer.ip().to_canonical()));
        let key = self.digest(&site.name(), protocol, peer, shown);
        let place = self.place(key);
        let mut seat = place.lock().await;
        let entered = self.sit(&mut seat, key, site, options, connection, shown, software).await;
        if entered.is_err() && matches!(*seat, Seat::Free) {
            drop(seat);
            self.vacate(&key, place);
        }
        entered
    }

    #[allow(clippy::too_many_arguments, reason = "all of it is what a login is made of")]
    async fn sit(
        self: &Arc<Self>,
        seat: &mut Seat,
        key: Key,
        site: &Arc<dyn Site>,
        options: &Arc<WebdavServerOptions>,
        connection: &Arc<Connection>,
        shown: Option<&Shown>,
        software: &str,
    ) -> std::result::Result<Arc<Client>, Out> {
        let anonymous = options.anonymous.clone().map(|user| Shown { user, password: Secret::default() });
        let Some(shown) = shown.or(anonymous.as_ref()) else { return Err(Out::Rejected) };
        match seat {
            Seat::Held(until) if *until > Instant::now() => return Err(Out::Refused(held(*until))),
            // Cut, and not tidied away yet.
            Seat::Taken(client) if client.session.is_cut() => {
                if is_held(client.session.ending().as_ref()) && !options.hold.is_zero() {
                    let until = Instant::now() + options.hold;
                    *seat = Seat::Held(until);
                    return Err(Out::Refused(held(until)));
                }
            }
            Seat::Taken(client) => {
                if self.is_still_good(client, site, options, shown).await {
                    return Ok(Arc::clone(client));
                }
                let words = Ending::new("the credential is not good any more", Actor::Server);
                client.session.cut(words.because(Reason::AccountClosed));
            }
            Seat::Free | Seat::Held(_) => {}
        }
        *seat = Seat::Free;
        let client = self.log_in(key, site, options, connection, shown, software).await?;
        *seat = Seat::Taken(Arc::clone(&client));
        tokio::spawn(Arc::clone(self).watch(Arc::clone(&client), Arc::clone(options)));
        Ok(client)
    }

    async fn is_still_good(
        &self,
        client: &Client,
        site: &Arc<dyn Site>,
        options: &WebdavServerOptions,
        shown: &Shown,
    ) -> bool {
        let now = site.authenticator();
        let (then, at) = lock(&client.verified).clone();
        if Arc::as_ptr(&then).cast::<()>() == Arc::as_ptr(&now).cast::<()>()
            && at.elapsed() < options.remember
        {
            return true;
        }
        let credential = Credential::Password(shown.password.clone());
        if !still_good(&client.session, &*now, &shown.user, &credential).await {
            return false;
        }
        *lock(&client.verified) = (now, Instant::now());
        true
    }

    async fn log_in(
        &self,
        key: Key,
        site: &Arc<dyn Site>,
        options: &WebdavServerOptions,
        connection: &Arc<Connection>,
        shown: &Shown,
        software: &str,
    ) -> std::result::Result<Arc<Client>, Out> {
        let begun = Instant::now();
        let protocol = connection.protocol();
        let session = site.begin(protocol, connection.peer, connection.local).await.map_err(Out::Refused)?;
        // Whatever way out is taken, a request that was given up included, the session is closed.
        let mut owed = Owed(Some(Arc::clone(&session)));
        if let Some(tls) = &connection.tls {
            session.set_tls(tls);
        }
        session.set_client_version(software.as_bytes());
        let mut ours = "Ferry".to_owned();
        session.decide(Lifecycle::SoftwareId { id: &mut ours }).await;
        session.greeted();
        let authenticator = site.authenticator();
        let credential = Credential::Password(shown.password.clone());
        let mut login = Login::new(Arc::clone(&session), Arc::clone(&authenticator), 1);
        let Step::Accepted(identity) = login.attempt(&shown.user, &credential).await else {
            tokio::time::sleep_until(begun + options.rejection_time).await;
            if session.ending().is_some_and(|e| e.code == Reason::Banned) {
                connection.cut.cancel();
            }
            owed.close(Ending::new("the login failed", Actor::Server).because(Reason::WrongCredentials))
                .await;
            return Err(Out::Rejected);
        };
        let fs = match site.mount(&session, &identity).await {
            Ok(fs) => fs,
            Err(e) => {
                session.note_error(&e);
                owed.close(Ending::new(e.peer_words(), Actor::Server).because(Reason::NoHome)).await;
                return Err(Out::Refused(e));
            }
        };
        owed.0 = None;
        Ok(Arc::new(Client {
            session,
            fs,
            software: ours,
            key,
            verified: Mutex::new((authenticator, Instant::now())),
            connections: Mutex::default(),
            requests: AtomicUsize::new(0),
        }))
    }

    /// Sees a session to its end.
    async fn watch(self: Arc<Self>, client: Arc<Client>, options: Arc<WebdavServerOptions>) {
        let session = Arc::clone(&client.session);
        let ending = loop {
            let left = client.is_idle(&options);
            if left.is_some_and(|left| left.is_zero()) {
                break Ending::new("idle for too long", Actor::Server).because(Reason::IdleTimeout);
            }
            tokio::select! {
                () = session.cancel_token().cancelled() => {
                    break session.ending().unwrap_or_else(|| Ending::new("the session was ended", Actor::Server));
                }
                () = tokio::time::sleep(left.unwrap_or(LOOK).clamp(MOMENT, LOOK)) => {}
            }
        };
        session.cut(ending.clone());
        let hold = if is_held(Some(&ending)) { options.hold } else { Duration::ZERO };
        let place = self.place(client.key);
        {
            let mut seat = place.lock().await;
            if matches!(&*seat, Seat::Taken(there) if Arc::ptr_eq(there, &client)) {
                *seat = if hold.is_zero() { Seat::Free } else { Seat::Held(Instant::now() + hold) };
            }
        }
        for connection in lock(&client.connections).drain().map(|(_, c)| c) {
            connection.cut.cancel();
        }
        session.close(ending).await;
        tokio::time::sleep(hold).await;
        {
            let mut seat = place.lock().await;
            if matches!(*seat, Seat::Held(until) if until <= Instant::now()) {
                *seat = Seat::Free;
            }
        }
        self.vacate(&client.key, place);
    }
}

/// A session that nobody else closes.
struct Owed(Option<Arc<Session>>);

impl Owed {
    async fn close(&mut self, ending: Ending) {
        if let Some(session) = self.0.take() {
            session.close(ending).await;
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let Some(session) = self.0.take() else { return };
        let ending = Ending::new("the client left", Actor::Client).because(Reason::ConnectionFailed);
        session.cut(ending.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { session.close(ending).await });
        }
    }
}

/// Whether somebody meant the client to stay away.
fn is_held(ending: Option<&Ending>) -> bool {
    ending.is_some_and(|e| matches!(e.actor, Actor::Admin(_) | Actor::Hook) || e.code == Reason::Banned)
}

fn held(until: Instant) -> Error {
    let wait = until.saturating_duration_since(Instant::now());
    Error::new(ErrorKind::Throttled)
        .with_detail("the session was ended")
        .with_retry(Retry::Later(Some(wait)))
        .because(Reason::Administrator)
}
