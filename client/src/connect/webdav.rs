//! Opening a place over WebDAV: in the clear only where the URL says so.
//!
//! A path is that of the server's URLs, so one connection serves all that is WebDAV's on a host; the path of
//! the URL is only where it is looked for first.

use std::sync::Arc;

use proto_webdav::client::{WebdavConnectOptions, certificate_of, connect};
use session_core::auth::Account;
use session_core::batch::Decider;
use session_core::error::Result;
use session_core::path::VPath;
use session_core::session::Protocol;
use session_core::trust::Certificate;

use super::again::patient;
use super::certificate::own_certificate;
use super::steps::{entered, opening};
use super::{CHANNELS, Connected, Line, Options, Scheme, guard};

/// The options of a connection. Errors: a proxy of the environment that is none.
pub(super) fn options_of(options: &Options) -> Result<WebdavConnectOptions> {
    let secure = options.scheme == Scheme::Davs;
    let port = options.port.unwrap_or(if secure { 443 } else { 80 });
    let mut dav = WebdavConnectOptions::new(options.host.clone(), port);
    dav.secure = secure;
    dav.home = VPath::absolute(&options.dav.path)?;
    dav.proxy = options.way(port)?;
    dav.family = options.family.unwrap_or_default();
    dav.source = options.source;
    dav.reach = options.reach.clone();
    dav.user = options.user.clone();
    dav.password = options.password.clone();
    dav.token = options.dav.token.clone();
    dav.secrets_in_the_clear = options.dav.secrets_in_the_clear;
    dav.tls.fingerprints = options.certificates.clone();
    dav.connections = options.channels.unwrap_or(CHANNELS);
    dav.timeout = options.timeout.unwrap_or(dav.timeout);
    #[cfg(feature = "ftp")]
    if let Some((oldest, newest)) = options.ftp.tls {
        (dav.tls.minimum, dav.tls.maximum) = (oldest, newest);
    }
    Ok(dav)
}

pub(super) async fn certificate(options: &Options) -> Result<Certificate> {
    certificate_of(options_of(options)?).await
}

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let mut dav = options_of(&options)?;
    dav.tls.certificate = own_certificate(&options, &*decider).await?;
    let protocol = if dav.secure { Protocol::Webdavs } else { Protocol::Webdav };
    let session = options.around.session(protocol, &options.host);
    dav.session = Some(Arc::clone(&session));
    let account = Account::named(dav.user.as_deref().unwrap_or("anonymous"));
    let user = Arc::clone(&account.name);
    let (remote, identity) = opening(&session, &user, async {
        let remote = Arc::new(connect(dav, decider).await?);
        let identity = entered(&session, account, remote.methods(), None).await?;
        Ok((remote, identity))
    })
    .await?;
    let fs = patient(Arc::clone(&remote) as _, remote.home(), options.reconnect);
    let home = remote.home().clone();
    guard(session, &identity, (options.around.files(fs), home), Line::Webdav(remote))
}
