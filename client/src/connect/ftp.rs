//! Opening a place over FTP: in the clear only where the URL says so.

use std::sync::Arc;

use async_trait::async_trait;
use proto_ftp::client::{FtpConnectOptions, FtpRemote, Security, certificate_of, connect};
use session_core::auth::Account;
use session_core::batch::Decider;
use session_core::error::{ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::session::{Protocol, Session, Setup};
use session_core::trust::Certificate;

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

/// The options of a connection. Errors: a proxy of the environment that is none.
fn options_of(options: &Options) -> Result<FtpConnectOptions> {
    let security = match options.scheme {
        Scheme::Ftpes => Security::Explicit,
        Scheme::Ftps => Security::Implicit,
        Scheme::Ftp | Scheme::Sftp => Security::Plain,
    };
    let usual = if security == Security::Implicit { 990 } else { 21 };
    let user = options.user.clone().unwrap_or_else(|| "anonymous".to_owned());
    let mut ftp = FtpConnectOptions::new(options.host.clone(), options.port.unwrap_or(usual), user);
    ftp.proxy = options.way(ftp.port)?;
    ftp.family = options.family.unwrap_or_default();
    ftp.source = options.source;
    ftp.reach = options.reach.clone();
    ftp.password = options.password.clone();
    ftp.security = security;
    ftp.tls.fingerprints = options.certificates.clone();
    ftp.connections = options.channels;
    ftp.timeout = options.timeout.unwrap_or(ftp.timeout);
    ftp.keepalive = options.keepalive.unwrap_or(ftp.keepalive);
    Ok(ftp)
}

pub(super) async fn certificate(options: &Options) -> Result<Certificate> {
    certificate_of(options_of(options)?).await
}

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let mut ftp = options_of(&options)?;
    let protocol = if ftp.security == Security::Plain { Protocol::Ftp } else { Protocol::Ftps };
    let session = Session::new(Setup::new(protocol, options.host.as_str()));
    ftp.session = Some(Arc::clone(&session));
    let account = Account::named(ftp.user.as_str());
    let remote = Arc::new(connect(ftp, decider).await?);
    let (home, methods) = (remote.home().clone(), remote.methods().to_vec());
    let mut fs = Arc::clone(&remote) as Arc<dyn Filesystem>;
    if !options.reconnect.is_zero() {
        let again = Arc::new(Again(Arc::clone(&remote))) as Arc<dyn Connect>;
        fs = Arc::new(Reconnecting::new(fs, again, options.reconnect, Arc::new(SystemTimer)));
    }
    guard(session, account, methods, (fs, home), Line::Ftp(remote))
}
