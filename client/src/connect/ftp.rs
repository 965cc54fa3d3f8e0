//! Opening a place over FTP: in the clear only where the URL says so.

use std::sync::Arc;

use proto_ftp::client::{DataMode, FtpConnectOptions, Security, certificate_of, connect};
use session_core::auth::Account;
use session_core::batch::Decider;
use session_core::error::Result;
use session_core::net::dial::bare;
use session_core::session::Protocol;
use session_core::trust::Certificate;

use super::again::patient;
use super::certificate::own_certificate;
use super::steps::{entered, opening};
use super::{Connected, Line, Options, Scheme, guard};

/// The options of a connection. Errors: a proxy of the environment that is none.
pub(super) fn options_of(options: &Options) -> Result<FtpConnectOptions> {
    let security = match options.scheme {
        Scheme::Ftpes => Security::Explicit,
        Scheme::Ftps => Security::Implicit,
        _ => Security::Plain,
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
    if let Some(given) = options.channels {
        (ftp.connections, ftp.far_connections) = (given, given);
    }
    ftp.timeout = options.timeout.unwrap_or(ftp.timeout);
    ftp.keepalive = options.keepalive.unwrap_or(ftp.keepalive);
    if options.ftp.active {
        ftp.mode = DataMode::Active;
    }
    ftp.account = options.ftp.account.clone();
    ftp.after_login = options.after_login.clone();
    ftp.host_name = options.ftp.virtual_host.then(|| bare(&options.host).to_owned());
    ftp.trust_passive_address = options.ftp.named_address;
    let how = options.ftp.listed_by;
    ftp.time_offset = how.time_offset;
    (ftp.facts, ftp.resume_tls) = (!how.without_facts, !how.without_resumption);
    if let Some((oldest, newest)) = options.ftp.tls {
        (ftp.tls.minimum, ftp.tls.maximum) = (oldest, newest);
    }
    Ok(ftp)
}

pub(super) async fn certificate(options: &Options) -> Result<Certificate> {
    certificate_of(options_of(options)?).await
}

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let mut ftp = options_of(&options)?;
    ftp.tls.certificate = own_certificate(&options, &*decider).await?;
    let protocol = if ftp.security == Security::Plain { Protocol::Ftp } else { Protocol::Ftps };
    let session = options.around.session(protocol, &options.host);
    ftp.session = Some(Arc::clone(&session));
    let account = Account::named(ftp.user.as_str());
    let user = Arc::clone(&account.name);
    let (remote, identity) = opening(&session, &user, async {
        let remote = Arc::new(connect(ftp, decider).await?);
        let identity = entered(&session, account, remote.methods().to_vec(), None).await?;
        Ok((remote, identity))
    })
    .await?;
    let home = remote.home().clone();
    let fs = patient(Arc::clone(&remote) as _, remote.home(), options.reconnect);
    guard(session, &identity, (options.around.files(fs), home), Line::Ftp(remote))
}
