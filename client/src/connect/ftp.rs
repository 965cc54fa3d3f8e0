//! Opening a place over FTP: in the clear only where the URL says so.

use std::sync::Arc;

use proto_ftp::client::{FtpConnectOptions, Security, connect};
use session_core::auth::Account;
use session_core::batch::Decider;
use session_core::error::Result;
use session_core::fs::Filesystem;
use session_core::session::{Protocol, Session, Setup};

use super::{Connected, Line, Options, Scheme, guard};

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
    let fs = Arc::clone(&remote) as Arc<dyn Filesystem>;
    guard(session, Account::named(options.user.as_str()), methods, (fs, home), Line::Ftp(remote))
}
