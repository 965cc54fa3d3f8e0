//! The certificate that a server shows, without believing it and without a login.

use std::sync::Arc;

use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::Refused;
use session_core::session::{Protocol, Session, Setup};
use session_core::trust::{Certificate, CertificateFingerprint};

use super::login::Dialer;
use super::options::{FtpConnectOptions, Security};

/// Shows the certificate of a server. Nothing is asked, and nothing is said behind the handshake. Errors:
/// `InvalidArgument` where no TLS is asked for; those of connecting.
pub async fn certificate_of(mut options: FtpConnectOptions) -> Result<Certificate> {
    if options.security == Security::Plain {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("a server shows no certificate in the clear")
            .with_hint("ask with ftpes:// or ftps://"));
    }
    let session = match &options.session {
        Some(session) => Arc::clone(session),
        None => Session::new(Setup::new(Protocol::Ftps, options.host.as_str())),
    };
    // No certificate has this digest: whatever comes is shown and refused.
    options.tls.fingerprints = vec![CertificateFingerprint::Sha256([0; 32])];
    match Dialer::new(options, session).await?.enter(None).await {
        Err(Refused::Certificate(certificate)) => Ok(*certificate),
        Err(Refused::Error(e)) => Err(e),
        Ok(_) => Err(Error::new(ErrorKind::Internal)),
    }
}
