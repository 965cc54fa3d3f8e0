//! A site with its users in memory, a server of SSH for it on loopback, and a client that connects.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::keys::Agent;
use proto_sftp::ssh::{ConnectOptions, HostKeys, SshServer, SshServerOptions};
use session_core::auth::*;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, Result};
use session_core::event::{Event, EventSink, What};
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Cx, Interceptor};
use session_core::lifecycle::{ChannelKind, Lifecycle, Verdict};
use session_core::operation::Operation;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::{Clock, Ending, Identity, Protocol, Session, Setup};
use session_core::trust::Fingerprint;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{Served, Store};

/// One user: what is needed to get in, in order.
#[derive(Clone, Default)]
pub struct User {
    pub password: Option<&'static str>,
    pub keys: Vec<String>,
    pub authority: Option<String>,
    pub questions: Vec<(&'static str, &'static str)>,
    /// Methods that must all be passed; empty: any one.
    pub factors: Vec<Method>,
}

pub struct Users(pub Mutex<BTreeMap<&'static str, User>>);

#[async_trait]
impl Authenticator for Users {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::PublicKey, Method::Password, Method::Interactive]
    }

    async fn questions(&self, _session: &Arc<Session>, user: &str) -> Vec<Question> {
        let users = self.0.lock().unwrap();
        let asked = users.get(user).map(|u| u.questions.clone()).unwrap_or_default();
        let asked = if asked.is_empty() { vec![("Password: ", "\u{0}never")] } else { asked };
        let question = |(prompt, answer): (&str, &str)| Question {
            prompt: prompt.to_owned(),
            echo: prompt.starts_with("Name"),
            check: Check::Equals(Secret::new(answer)),
        };
        asked.into_iter().map(question).collect()
    }

    async fn verify(
        &self,
        session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        passed: &[Method],
    ) -> Proof {
        let users = self.0.lock().unwrap();
        let Some(found) = users.get(user) else { return Proof::Rejected("no such user".into()) };
        let good = match credential {
            Credential::AccessKey(_)
            | Credential::Certificate(_)
            | Credential::Digest(_)
            | Credential::Token(_) => false,
            Credential::Password(p) => found.password.is_some_and(|w| p.expose() == w),
            Credential::Key(k) => match &k.certificate {
                None => found.keys.contains(&k.openssh),
                Some(c) => {
                    found.authority.as_ref() == Some(&c.authority)
                        && c.principals.iter().any(|p| p == user)
                        && c.unknown_critical.is_empty()
                        && c.source_address.as_ref().is_none_or(|a| {
                            a.split(',')
                                .any(|a| Some(a.to_owned()) == session.peer_address().map(|p| p.to_string()))
                        })
                }
            },
            Credential::Answers(pairs) => {
                pairs.iter().all(|(q, a)| matches!(&q.check, Check::Equals(s) if s == a))
            }
        };
        if !good {
            return Proof::Rejected("wrong".into());
        }
        let mut have = passed.to_vec();
        have.push(credential.method());
        let missing: Vec<_> = found.factors.iter().copied().filter(|f| !have.contains(f)).collect();
        if !found.factors.is_empty() && !found.factors.contains(&credential.method()) {
            return Proof::Rejected("not a factor of this account".into());
        }
        if missing.is_empty() { Proof::Complete(Account::named(user)) } else { Proof::More(missing) }
    }

    async fn vouched(&self, _session: &Arc<Session>, _user: &str) -> Option<Account> {
        None
    }
}

/// Notes every event, and what kinds of channel were asked for.
#[derive(Default)]
pub struct Notes {
    pub events: Mutex<Vec<Event>>,
    pub channels: Mutex<Vec<ChannelKind>>,
    pub closes: AtomicUsize,
    pub rename: Mutex<Option<&'static str>>,
    pub refuse_sftp: Mutex<Option<&'static str>>,
}

impl EventSink for Notes {
    fn emit(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

pub struct NotesLink(pub Arc<Notes>);

#[async_trait]
impl Interceptor for NotesLink {
    fn interests(&self) -> session_core::operation::OperationSet {
        session_core::operation::OperationSet::NONE
    }

    async fn decide(&self, _session: Option<&Arc<Session>>, step: Lifecycle<'_>) -> Verdict {
        match step {
            Lifecycle::OpenChannel(kind) => {
                self.0.channels.lock().unwrap().push(kind);
                if kind == ChannelKind::Sftp
                    && let Some(words) = *self.0.refuse_sftp.lock().unwrap()
                {
                    return Verdict::Refuse(Error::refused(words));
                }
            }
            Lifecycle::SoftwareId { id } => {
                if let Some(other) = *self.0.rename.lock().unwrap() {
                    *id = other.to_owned();
                }
            }
            Lifecycle::Close(_) => {
                self.0.closes.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Verdict::Pass
    }
}

pub struct TestSite {
    pub registry: Arc<SessionRegistry>,
    pub users: Arc<Users>,
    pub store: Arc<Store>,
    pub notes: Arc<Notes>,
    pub clock: Mutex<Clock>,
    pub refuse: Mutex<Option<&'static str>>,
    /// `mount` panics, or every operation does.
    pub panics: Mutex<Option<Panics>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Panics {
    Mount,
    Operation,
}

struct PanicLink;

#[async_trait]
impl Interceptor for PanicLink {
    fn interests(&self) -> session_core::operation::OperationSet {
        session_core::operation::OperationSet::ALL
    }

    async fn before(&self, _cx: &Cx<'_>, _operation: Operation<'_>) -> Result<()> {
        panic!("on purpose");
    }
}

#[async_trait]
impl Site for TestSite {
    fn name(&self) -> Arc<str> {
        "test".into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        if let Some(words) = *self.refuse.lock().unwrap() {
            return Err(Error::refused(words));
        }
        let mut setup = Setup::new(protocol, "test");
        setup.peer = Some(peer);
        setup.local = Some(local);
        setup.chain = Chain::new(vec![Arc::new(NotesLink(Arc::clone(&self.notes)))]);
        setup.sink = Some(Arc::clone(&self.notes) as Arc<dyn EventSink>);
        setup.clock = Arc::clone(&self.clock.lock().unwrap());
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.users) as Arc<dyn Authenticator>
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let panics = *self.panics.lock().unwrap();
        assert!(panics != Some(Panics::Mount), "on purpose");
        let chain = match panics {
            Some(_) => Chain::new(vec![Arc::new(PanicLink)]),
            None => Arc::default(),
        };
        session.guard(identity, Arc::new(Served(Arc::clone(&self.store))), chain)
    }
}

/// A server on loopback.
pub struct Running {
    pub site: Arc<TestSite>,
    pub port: u16,
    pub keys: HostKeys,
    pub shutdown: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub fn options() -> SshServerOptions {
    let mut options = SshServerOptions::new(HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap());
    options.rejection_time = Duration::from_millis(20);
    options
}

pub async fn start(options: SshServerOptions) -> Running {
    let site = Arc::new(TestSite {
        registry: SessionRegistry::new(Caps::default()),
        users: Arc::new(Users(Mutex::default())),
        store: Store::new(),
        notes: Arc::default(),
        clock: Mutex::new(session_core::session::system_clock()),
        refuse: Mutex::new(None),
        panics: Mutex::new(None),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shutdown = CancellationToken::new();
    let keys = options.host_keys.clone();
    let server = SshServer::new(options, Arc::clone(&site) as Arc<dyn Site>).unwrap();
    let token = shutdown.clone();
    tokio::spawn(async move { server.serve(listener, token).await });
    Running { site, port, keys, shutdown }
}

impl Running {
    pub fn user(&self, name: &'static str, user: User) {
        self.site.users.0.lock().unwrap().insert(name, user);
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let shown = self.keys.fingerprints().remove(0);
        Fingerprint::parse(shown.split(' ').nth(1).unwrap()).unwrap()
    }

    /// Options of a client that trusts this server and knows no key.
    pub fn client(&self, user: &str) -> ConnectOptions {
        let mut options = ConnectOptions::new("127.0.0.1", self.port, user);
        options.fingerprints = vec![self.fingerprint()];
        options.agent = Agent::Off;
        options.identities = vec!["/nonexistent".into()];
        options.timeout = Duration::from_secs(10);
        options
    }

    pub fn with_password(&self, user: &str, password: &str) -> ConnectOptions {
        let mut options = self.client(user);
        options.password = Some(Secret::new(password));
        options
    }

    /// The one session that is there.
    pub async fn session(&self) -> Arc<Session> {
        eventually("a session", || self.site.registry.list().into_iter().next()).await
    }

    pub fn failures(&self) -> Vec<(String, String)> {
        let events = self.site.notes.events.lock().unwrap();
        events
            .iter()
            .filter_map(|e| match &e.what {
                What::LoginFailed { method, reason, .. } => Some(((*method).to_owned(), reason.to_string())),
                _ => None,
            })
            .collect()
    }

    /// Waits until every session is over; answers how the last one ended.
    pub async fn over(&self) -> Ending {
        eventually("the end of all sessions", || self.site.registry.is_empty().then_some(())).await;
        eventually("the last event", || {
            let events = self.site.notes.events.lock().unwrap();
            events.iter().rev().find_map(|e| match &e.what {
                What::Closed(ending) => Some(ending.clone()),
                _ => None,
            })
        })
        .await
    }
}

pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come");
}

/// Answers from a list, and notes what it was asked.
#[derive(Default)]
pub struct Script {
    pub answers: Mutex<Vec<Answer>>,
    pub asked: Mutex<Vec<Query>>,
}

impl Script {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Arc::new(Script { answers: Mutex::new(answers), asked: Mutex::default() })
    }
}

#[async_trait]
impl Decider for Script {
    async fn decide(&self, query: Query) -> Answer {
        self.asked.lock().unwrap().push(query.clone());
        self.answers.lock().unwrap().pop().unwrap_or_else(|| query.unattended())
    }
}

pub fn secret(s: &str) -> Answer {
    Answer::Secret(Secret::new(s))
}

pub fn at(seconds: u64) -> Clock {
    Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
