//! A site whose users a test has made, over a store with staging and locks, and a server for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::{Authenticator, Site};
use crate::error::{Error, Result};
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
    /// What it is called.
    pub name: &'static str,
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
    /// Why nobody is admitted.
    pub refuse: Mutex<Option<&'static str>>,
}

impl<U: Authenticator + Default + 'static> TestSite<U> {
    /// Over this store.
    pub fn over(store: Arc<dyn Filesystem>) -> Arc<Self> {
        Self::named("test", store)
    }

    /// Over this store, with a name of its own.
    pub fn named(name: &'static str, store: Arc<dyn Filesystem>) -> Arc<Self> {
        let area = StagingArea::new(Arc::clone(&store), StagingPolicy::default(), Arc::new(then)).unwrap();
        Arc::new(TestSite {
            name,
            registry: SessionRegistry::new(Caps::default()),
            store,
            area,
            locks: Arc::default(),
            users: Mutex::default(),
            notes: Arc::default(),
            links: Mutex::default(),
            refuse: Mutex::default(),
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
        self.name.into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        if let Some(words) = *self.refuse.lock().unwrap() {
            return Err(Error::refused(words));
        }
        let mut setup = Setup::new(protocol, self.name);
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

/// A server for a site on loopback, until it is dropped.
pub struct Running<U> {
    /// What it serves.
    pub site: Arc<TestSite<U>>,
    /// Where it is.
    pub address: SocketAddr,
    /// Ends it.
    pub shutdown: CancellationToken,
    /// Ends when it has ended.
    pub serving: JoinHandle<()>,
}

impl<U> Drop for Running<U> {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl<U: Authenticator + 'static> Running<U> {
    /// Starts one.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(
        site: Arc<TestSite<U>>,
        serve: impl FnOnce(Arc<dyn Site>, TcpListener, CancellationToken) -> F,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(Arc::clone(&site) as Arc<dyn Site>, listener, shutdown.clone()));
        Running { site, address, shutdown, serving }
    }

    /// Waits for that.
    pub async fn until(&self, what: &str, done: impl Fn() -> bool) {
        super::until(what, done).await;
    }

    /// The only session there is.
    pub fn session(&self) -> Arc<Session> {
        let mut all = self.site.registry.list();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

/// TLS with a certificate of its own, for as long as the folder is there.
pub fn tls() -> (tempfile::TempDir, Arc<ServerTls>) {
    let dir = tempfile::tempdir().unwrap();
    let files = self_signed(dir.path(), &["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let options = ServerTlsOptions { certificates: vec![files], ..ServerTlsOptions::default() };
    (dir, ServerTls::new(options).unwrap())
}
