//! A site whose users a test has made, over a store with staging and locks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::auth::{Authenticator, Site};
use crate::error::Result;
use crate::event::{Event, EventSink};
use crate::fs::Filesystem;
use crate::gate::SessionFs;
use crate::intercept::{Chain, Interceptor};
use crate::layers::staged::{Owner, Staged, StagingArea, StagingPolicy};
use crate::locks::{LockTable, Locks};
use crate::net::server_tls::{ServerTls, ServerTlsOptions, self_signed};
use crate::registry::{Caps, SessionRegistry};
use crate::session::{Identity, Protocol, Session, Setup};
use crate::store::memory::{MemoryOptions, MemoryStore};

/// Keeps every event.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<Event>>);

impl EventSink for Notes {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// The moment at which it always is: that of HTTP's own example (RFC 9110, section 5.6.7).
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// A site without a configuration: whoever logs in has the whole store.
pub struct TestSite<U> {
    /// Its sessions.
    pub registry: Arc<SessionRegistry>,
    /// What it serves.
    pub store: Arc<dyn Filesystem>,
    /// Where uploads wait.
    pub area: Arc<StagingArea>,
    /// Who has locked what.
    pub locks: Arc<LockTable>,
    /// Who may log in.
    pub users: Mutex<Arc<U>>,
    /// What happened.
    pub notes: Arc<Notes>,
    /// Asked at every step, before and after login.
    pub links: Mutex<Vec<Arc<dyn Interceptor>>>,
}

impl<U: Authenticator + Default + 'static> TestSite<U> {
    /// Over this store.
    pub fn over(store: Arc<dyn Filesystem>) -> Arc<Self> {
        let area = StagingArea::new(Arc::clone(&store), StagingPolicy::default(), Arc::new(then)).unwrap();
        Arc::new(TestSite {
            registry: SessionRegistry::new(Caps::default()),
            store,
            area,
            locks: Arc::default(),
            users: Mutex::default(),
            notes: Arc::default(),
            links: Mutex::default(),
        })
    }

    /// Over a store in memory, where it is always the same moment.
    pub fn in_memory() -> Arc<Self> {
        let options = MemoryOptions { clock: Arc::new(then), ..MemoryOptions::default() };
        Self::over(Arc::new(MemoryStore::with(options)))
    }
}

#[async_trait]
impl<U: Authenticator + 'static> Site for TestSite<U> {
    fn name(&self) -> Arc<str> {
        "test".into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        let mut setup = Setup::new(protocol, "test");
        setup.peer = Some(peer);
        setup.local = Some(local);
        setup.chain = Chain::new(self.links.lock().unwrap().clone());
        setup.sink = Some(Arc::clone(&self.notes) as Arc<dyn EventSink>);
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.users.lock().unwrap()) as Arc<dyn Authenticator>
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let account = identity.account();
        let owner = if account.shared {
            Owner::session(session.id().as_str())
        } else {
            Owner::account(Arc::clone(&account.name))
        };
        let staged = Staged::new(owner, Arc::clone(&self.area));
        let locks = Locks::new(Arc::clone(&self.locks), Arc::clone(&account.name), Duration::from_secs(600));
        let mut links = self.links.lock().unwrap().clone();
        links.insert(0, Arc::clone(&locks) as Arc<dyn Interceptor>);
        Ok(session.guard(identity, Arc::new(staged), Chain::new(links))?.locking(locks))
    }
}

/// TLS with a certificate of its own, for as long as the folder is there.
pub fn tls() -> (tempfile::TempDir, Arc<ServerTls>) {
    let dir = tempfile::tempdir().unwrap();
    let files = self_signed(dir.path(), &["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let options = ServerTlsOptions { certificates: vec![files], ..ServerTlsOptions::default() };
    (dir, ServerTls::new(options).unwrap())
}
