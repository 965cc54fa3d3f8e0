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

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::{Connection, Working};
use super::options::HttpOptions;
use crate::auth::{Authenticator, Credential, Login, Method, Secret, Site, Step, still_good};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::gate::SessionFs;
use crate::lifecycle::Lifecycle;
use crate::reason::Reason;
use crate::session::{Actor, Ending, Protocol, Running, Session};

type Key = [u8; 32];

/// What a request shows of who sends it.
#[derive(Debug)]
pub enum Shown {
    /// A name and its password.
    Password(String, Secret),
    /// A key of this account that signed the request: the signature was found to be good.
    AccessKey(String, Arc<str>),
    /// What this account keeps for Digest: an answer that was made with it was found to be good.
    Digest(String, Secret),
    /// A token that says to be this account's.
    Token(String, Secret),
}

impl Shown {
    fn user(&self) -> &str {
        match self {
            Shown::AccessKey(user, _)
            | Shown::Digest(user, _)
            | Shown::Password(user, _)
            | Shown::Token(user, _) => user,
        }
    }

    fn credential(&self) -> Credential {
        match self {
            Shown::Password(_, password) => Credential::Password(password.clone()),
            Shown::AccessKey(_, id) => Credential::AccessKey(Arc::clone(id)),
            Shown::Digest(_, key) => Credential::Digest(key.clone()),
            Shown::Token(_, token) => Credential::Token(token.clone()),
        }
    }

    /// What makes it this one: its kind, and what it consists of.
    fn parts(&self) -> [&[u8]; 3] {
        match self {
            Shown::Password(user, password) => [b"password", user.as_bytes(), password.expose().as_bytes()],
            Shown::AccessKey(user, id) => [b"access key", user.as_bytes(), id.as_bytes()],
            Shown::Digest(user, key) => [b"digest", user.as_bytes(), key.expose().as_bytes()],
            Shown::Token(user, token) => [b"token", user.as_bytes(), token.expose().as_bytes()],
        }
    }
}

/// A login that a protocol itself found to be none.
pub struct FailedLogin<'a> {
    /// The name that it was tried with.
    pub user: &'a str,
    /// How it was tried.
    pub method: Method,
    /// Why it is none, for the log.
    pub words: &'a str,
    /// What the client calls itself.
    pub software: &'a str,
}

/// A session with what its requests need.
pub struct Client {
    /// The session.
    pub session: Arc<Session>,
    /// Its files.
    pub fs: SessionFs,
    /// What we call ourselves to it.
    pub software: String,
    key: Key,
    /// Who judged the credential, and when.
    verified: Mutex<(Arc<dyn Authenticator>, Instant)>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    /// Its last connection went.
    alone: Notify,
    requests: AtomicUsize,
}

/// Something that goes on between requests: its session is not idle.
pub struct Held(Arc<Client>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request under way: its session is not idle.
pub struct Busy(Arc<Client>);

/// What keeps a session and a connection from being idle, for as long as the answer takes.
pub struct InFlight {
    connection: Arc<Connection>,
    session: Arc<Session>,
    _parts: (Busy, Working, Running),
}

impl InFlight {
    /// A request of `client` on `connection`.
    pub fn new(
        connection: &Arc<Connection>,
        client: &Arc<Client>,
        working: Working,
        running: Running,
    ) -> Self {
        InFlight {
            connection: Arc::clone(connection),
            session: Arc::clone(&client.session),
            _parts: (client.busy(connection), working, running),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.connection.count(&self.session);
    }
}

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
    pub fn busy(self: &Arc<Self>, connection: &Arc<Connection>) -> Busy {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.session.touch();
        lock(&self.connections).insert(connection.id, Arc::clone(connection));
        Busy(Arc::clone(self))
    }

    /// The session is not idle until this is dropped, whatever its connections do.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Held(Arc::clone(self))
    }

    /// The connection is over.
    pub(super) fn leave(&self, connection: u64) {
        let mut connections = lock(&self.connections);
        if connections.remove(&connection).is_some() {
            self.session.touch();
            if connections.is_empty() {
                self.alone.notify_one();
            }
        }
    }

    fn is_idle(&self, options: &HttpOptions) -> Option<Duration> {
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
    /// What protocols keep between requests, by its type.
    shared: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// Why a request does not get in.
pub enum Out {
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
        Ok(Arc::new(Sessions { key, places: Mutex::default(), shared: Mutex::default() }))
    }

    /// A mark on this data that nobody else can make: a digest of it under a key of this process.
    pub fn mark(&self, data: &[u8]) -> [u8; 32] {
        // Not to be taken for the digest of a credential, which has lengths in front.
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"\xff mark \xff").update(data);
        *hasher.finalize().as_bytes()
    }

    /// What a protocol keeps between requests, through every change of its options: one of each type.
    pub fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut shared = lock(&self.shared);
        let one = shared.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        Arc::clone(one).downcast().unwrap_or_default()
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
        shown.into_iter().flat_map(Shown::parts).for_each(add);
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
    pub async fn enter(
        self: &Arc<Self>,
        site: &Arc<dyn Site>,
        options: &Arc<HttpOptions>,
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
        options: &Arc<HttpOptions>,
        connection: &Arc<Connection>,
        shown: Option<&Shown>,
        software: &str,
    ) -> std::result::Result<Arc<Client>, Out> {
        let anonymous = options.anonymous.clone().map(|user| Shown::Password(user, Secret::default()));
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
        options: &HttpOptions,
        shown: &Shown,
    ) -> bool {
        let now = site.authenticator();
        let (then, at) = lock(&client.verified).clone();
        if Arc::as_ptr(&then).cast::<()>() == Arc::as_ptr(&now).cast::<()>()
            && at.elapsed() < options.remember
        {
            return true;
        }
        if !still_good(&client.session, &*now, shown.user(), &shown.credential()).await {
            return false;
        }
        *lock(&client.verified) = (now, Instant::now());
        true
    }

    async fn log_in(
        &self,
        key: Key,
        site: &Arc<dyn Site>,
        options: &HttpOptions,
        connection: &Arc<Connection>,
        shown: &Shown,
        software: &str,
    ) -> std::result::Result<Arc<Client>, Out> {
        let begun = Instant::now();
        let greeted = greet(site, connection, software).await.map_err(Out::Refused)?;
        let Greeted { session, mut owed, software: ours } = greeted;
        let authenticator = site.authenticator();
        let mut login = Login::new(Arc::clone(&session), Arc::clone(&authenticator), 1);
        let Step::Accepted(identity) = login.attempt(shown.user(), &shown.credential()).await else {
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
            alone: Notify::new(),
            requests: AtomicUsize::new(0),
        }))
    }

    /// A login that the protocol itself found to be none: a session of its own, which ends with it. What we call
    /// ourselves to its client, unless something refuses the session, which has told of it then.
    pub async fn reject(
        &self,
        site: &Arc<dyn Site>,
        options: &HttpOptions,
        connection: &Connection,
        failed: FailedLogin<'_>,
    ) -> Option<String> {
        let begun = Instant::now();
        let greeted = greet(site, connection, failed.software).await.ok()?;
        let Greeted { session, mut owed, software } = greeted;
        let mut login = Login::new(Arc::clone(&session), site.authenticator(), 1);
        login.fail(failed.user, failed.method, failed.words).await;
        tokio::time::sleep_until(begun + options.rejection_time).await;
        if session.ending().is_some_and(|e| e.code == Reason::Banned) {
            connection.cut.cancel();
        }
        owed.close(Ending::new("the login failed", Actor::Server).because(Reason::WrongCredentials)).await;
        Some(software)
    }

    /// Sees a session to its end.
    async fn watch(self: Arc<Self>, client: Arc<Client>, options: Arc<HttpOptions>) {
        let session = Arc::clone(&client.session);
        let ending = loop {
            let left = client.is_idle(&options);
            if left.is_some_and(|left| left.is_zero()) {
                // Who leaves says nothing: its connections are gone, and it does not come back.
                break match lock(&client.connections).is_empty() {
                    true => Ending::new("the client left", Actor::Client),
                    false => Ending::new("idle for too long", Actor::Server).because(Reason::IdleTimeout),
                };
            }
            tokio::select! {
                () = session.cancel_token().cancelled() => {
                    break session.ending().unwrap_or_else(|| Ending::new("the session was ended", Actor::Server));
                }
                // From now on another time holds.
                () = client.alone.notified() => {}
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

/// A session that has begun on a connection. Whatever becomes of its login, a request that was given up included, it is
/// closed.
struct Greeted {
    session: Arc<Session>,
    owed: Owed,
    /// What we call ourselves to it.
    software: String,
}

/// Begins a session whose client calls itself `software`. Errors: the site's refusal.
async fn greet(site: &Arc<dyn Site>, connection: &Connection, software: &str) -> Result<Greeted> {
    let session = site.begin(connection.protocol(), connection.peer, connection.local).await?;
    let owed = Owed(Some(Arc::clone(&session)));
    if let Some(tls) = &connection.tls {
        session.set_tls(tls);
    }
    session.set_client_version(software.as_bytes());
    let mut ours = "Ferry".to_owned();
    session.decide(Lifecycle::SoftwareId { id: &mut ours }).await;
    session.greeted();
    Ok(Greeted { session, owed, software: ours })
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
