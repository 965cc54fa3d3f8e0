//! The certificate that a server shows, without believing it and without a login.

use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::{ClientTls, Refused};
use session_core::trust::{Certificate, CertificateFingerprint};

use super::options::S3ConnectOptions;

/// Shows the certificate of a server. Nothing is asked, and nothing is said behind the handshake. Errors:
/// `InvalidArgument` where no TLS is asked for; those of connecting.
pub async fn certificate_of(mut options: S3ConnectOptions) -> Result<Certificate> {
    if !options.secure {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("a server shows no certificate in the clear")
            .with_hint("ask with s3://"));
    }
    // No certificate has this digest: whatever comes is shown and refused.
    options.tls.fingerprints = vec![CertificateFingerprint::Sha256([0; 32])];
    let tls = ClientTls::new(options.bare_host(), options.port, &options.tls)?;
    let stream = options.dial().open().await?;
    match tokio::time::timeout(options.timeout, tls.login(None).connect(stream)).await {
        Err(_) => Err(Error::new(ErrorKind::TimedOut)),
        Ok(Err(Refused::Certificate(certificate))) => Ok(*certificate),
        Ok(Err(Refused::Error(e))) => Err(e),
        Ok(Ok(_)) => Err(Error::new(ErrorKind::Internal)),
    }
}
