//! A site over a directory, all of it to everybody who comes in. Of tests of several crates, and an example.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use session_core::auth::{Authenticator, Site};
use session_core::error::Result;
use session_core::gate::SessionFs;
use session_core::registry::SessionRegistry;
use session_core::session::{Identity, Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};

/// The site.
pub struct FolderSite {
    /// Who is let in.
    pub who: Arc<dyn Authenticator>,
    /// Who is there.
    pub registry: Arc<SessionRegistry>,
    /// The directory.
    pub root: PathBuf,
}

#[async_trait]
impl Site for FolderSite {
    fn name(&self) -> Arc<str> {
        "folder".into()
    }

    async fn admit(&self, protocol: Protocol, peer: SocketAddr, local: SocketAddr) -> Result<Arc<Session>> {
        let mut setup = Setup::new(protocol, "folder");
        setup.peer = Some(peer);
        setup.local = Some(local);
        self.registry.open(setup)
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.who)
    }

    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<SessionFs> {
        let store = LocalStore::open(&self.root, LocalOptions::default())?;
        session.guard(identity, Arc::new(store), Arc::default())
    }
}
