//! Opening a place over S3: who signs, and how the store is spoken to.
//!
//! A URL's user is the id of a key, its password the key's secret, which is asked for where it is missing. Without
//! a user nobody signs, unless the environment may be asked ([`S3Options::environment`]): then what AWS's own
//! tools would use is used. One connection serves all buckets; the path of the URL is where the store is tried.

use std::path::PathBuf;
use std::sync::Arc;

use proto_s3::client::{Learns, S3ConnectOptions, S3Login, certificate_of, connect};
use session_core::auth::{Account, Secret};
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;
use session_core::session::Protocol;
use session_core::trust::Certificate;

use super::again::patient;
use super::certificate::own_certificate;
use super::s3_stores::Known;
use super::steps::{entered, opening};
use super::{CHANNELS, Connected, Line, Options, Scheme, guard};

pub use proto_s3::client::{Checksums, Putting, S3Role, UrlStyle};

/// What only S3 asks for.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// Where nobody is named, ask the environment of this process, as AWS's own tools do. Never for places that
    /// others may name: they would be entered in the name of this machine.
    pub environment: bool,
    /// The profile of the environment; its own choice where it is `None`.
    pub profile: Option<String>,
    /// The token of a key that holds for a time.
    pub session_token: Option<Secret>,
    /// A role to take on with the login.
    pub role: Option<S3Role>,
    /// The region; found out where it is `None`.
    pub region: Option<String>,
    /// How a bucket stands in a URL.
    pub style: UrlStyle,
    /// Checksums of S3's kind.
    pub checksums: Checksums,
    /// The directory in which it is written down what stores were found not to have, for later connections; nothing is
    /// where it is `None`.
    pub known_stores: Option<PathBuf>,
    /// The requester pays.
    pub requester_pays: bool,
    /// What is asked for with what is written.
    pub putting: Putting,
    /// Keys of one page of a listing.
    pub page: Option<u16>,
}

/// The options of a connection, but for who signs. Errors: a proxy of the environment that is none.
pub(super) fn options_of(options: &Options) -> Result<S3ConnectOptions> {
    let secure = options.scheme == Scheme::S3;
    let port = options.port.unwrap_or(if secure { 443 } else { 80 });
    let mut s3 = S3ConnectOptions::new(options.host.clone(), port);
    s3.secure = secure;
    s3.home = VPath::absolute(&options.dav.path)?;
    s3.proxy = options.way(port)?;
    s3.family = options.family.unwrap_or_default();
    s3.source = options.source;
    s3.reach = options.reach.clone();
    s3.tls.fingerprints = options.certificates.clone();
    s3.parallel = options.channels.unwrap_or(CHANNELS);
    s3.timeout = options.timeout.unwrap_or(s3.timeout);
    let only = &options.s3;
    s3.region = only.region.clone();
    s3.style = only.style;
    s3.role = only.role.clone();
    s3.requester_pays = only.requester_pays;
    s3.checksums = only.checksums;
    if let Some(dir) = &only.known_stores {
        let scheme = if secure { "s3" } else { "s3plain" };
        let known = Known::new(dir, format!("{scheme}://{}:{port}", options.host));
        s3.lacks = known.lacks();
        s3.learns = Learns::new(move |lack| known.note(lack));
    }
    s3.putting = only.putting.clone();
    s3.page = only.page;
    #[cfg(feature = "ftp")]
    if let Some((oldest, newest)) = options.ftp.tls {
        (s3.tls.minimum, s3.tls.maximum) = (oldest, newest);
    }
    Ok(s3)
}

/// Who signs. Errors: `Unauthenticated` where nobody tells the secret of a key.
async fn login(options: &Options, decider: &dyn Decider) -> Result<S3Login> {
    let only = &options.s3;
    let Some(id) = options.user.clone() else {
        return Ok(match only.environment || only.profile.is_some() {
            true => S3Login::Environment { profile: only.profile.clone() },
            false => S3Login::Anonymous,
        });
    };
    let secret = match &options.password {
        Some(secret) => secret.clone(),
        None => {
            let who = format!("{id}@{}", options.host);
            match decider.decide(Query::Password { who }).await {
                Answer::Secret(secret) => secret,
                _ => {
                    return Err(Error::new(ErrorKind::Unauthenticated)
                        .with_detail("the secret of the access key is not known"));
                }
            }
        }
    };
    Ok(S3Login::Key { id, secret, token: only.session_token.clone() })
}

pub(super) async fn certificate(options: &Options) -> Result<Certificate> {
    certificate_of(options_of(options)?).await
}

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let mut s3 = options_of(&options)?;
    s3.tls.certificate = own_certificate(&options, &*decider).await?;
    s3.login = login(&options, &*decider).await?;
    let session = options.around.session(Protocol::S3, &options.host);
    s3.session = Some(Arc::clone(&session));
    let account = Account::named(match &s3.login {
        S3Login::Key { id, .. } => id.as_str(),
        S3Login::Environment { profile } => profile.as_deref().unwrap_or("environment"),
        S3Login::Anonymous => "anonymous",
    });
    let user = Arc::clone(&account.name);
    let (remote, identity) = opening(&session, &user, async {
        let remote = Arc::new(connect(s3, decider).await?);
        let identity = entered(&session, account, remote.methods(), None).await?;
        Ok((remote, identity))
    })
    .await?;
    let fs = patient(Arc::clone(&remote) as _, remote.home(), options.reconnect);
    let home = remote.home().clone();
    guard(session, &identity, (options.around.files(fs), home), Line::S3(remote))
}
