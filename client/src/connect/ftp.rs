//! Opening a place over FTP: in the clear only where the URL says so.

use std::sync::Arc;

use async_trait::async_trait;
use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security, connect};
use session_core::auth::Account;
use session_core::batch::Decider;
use session_core::error::{ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::session::{Protocol, Session, Setup};

use super::{Connected, Line, Options, Scheme, guard};
use crate::reconnect::{Connect, Reconnecting, SystemTimer};

/// The remote opens connections as it needs them, with the login that it knows: all that is left is to see
/// whether it can.
struct Again(Arc<FtpRemote>);

#[async_trait]
impl Connect for Again {
    async fn connect(&self) -> Result<Arc<dyn Filesystem>> {
        match self.0.stat(self.0.home(), Follow::Yes).await {
            // Whatever it answers, it answers.
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Err(e),
            _ => Ok(Arc::clone(&self.0) as Arc<dyn Filesystem>),
        }
    }
}

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let (protocol, security) = match options.scheme {
        Scheme::Ftpes => (Protocol::Ftps, Security::Explicit),
        Scheme::Ftps => (Protocol::Ftps, Security::Implicit),
        Scheme::Ftp | Scheme::Sftp => (Protocol::Ftp, Security::Plain),
    };
    let session = Session::new(Setup::new(protocol, options.host.as_str()));
    let mut ftp = FtpConnectOptions::new(options.host.clone(), options.port, options.user.clone());
    ftp.password = options.password.clone();
    ftp.security = security;
    ftp.tls.fingerprints = options.certificates.clone();
    ftp.connections = options.channels;
    ftp.timeout = options.timeout;
    ftp.session = Some(Arc::clone(&session));
    let remote = Arc::new(connect(ftp, decider).await?);
    let (home, methods) = (remote.home().clone(), remote.methods().to_vec());
    let mut fs = Arc::clone(&remote) as Arc<dyn Filesystem>;
    if !options.reconnect.is_zero() {
        let again = Arc::new(Again(Arc::clone(&remote))) as Arc<dyn Connect>;
        fs = Arc::new(Reconnecting::new(fs, again, options.reconnect, Arc::new(SystemTimer)));
    }
    guard(session, Account::named(options.user.as_str()), methods, (fs, home), Line::Ftp(remote))
}
