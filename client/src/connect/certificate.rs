//! The user's own certificate for TLS: which file holds what.

use std::path::{Path, PathBuf};

use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::ClientCertificate;

/// The largest certificate that is read, bytes.
const LARGEST: u64 = 1 << 20;

/// Certificate and key, wherever the key stands. Errors: those of reading; `InvalidArgument` for a file that is
/// no PEM, `Unsupported` where the key is encrypted.
pub(super) async fn own_certificate(chain: PathBuf) -> Result<ClientCertificate> {
    let read = tokio::task::spawn_blocking(move || read(chain)).await;
    read.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?
}

fn read(chain: PathBuf) -> Result<ClientCertificate> {
    let read = |path: &Path| {
        let failed = |e: std::io::Error| {
            let words = format!("cannot read the certificate '{}': {e}", path.display());
            Error::from(e).with_detail(words)
        };
        if std::fs::metadata(path).map_err(failed)?.len() > LARGEST {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{}' is too large for a certificate", path.display())));
        }
        std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).map_err(failed)
    };
    let text = read(&chain)?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{}' holds no certificate in PEM form", chain.display()))
            .with_hint("PKCS#12 is not read: openssl pkcs12 -in FILE -out FILE.pem -nodes"));
    }
    let beside = chain.with_extension("key");
    let (key, text) = if text.contains("PRIVATE KEY-----") || !beside.is_file() {
        (chain.clone(), text)
    } else {
        let text = read(&beside)?;
        (beside, text)
    };
    if text.contains("ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail(format!("the key in '{}' is encrypted, which is not read for TLS", key.display())));
    }
    Ok(ClientCertificate { chain, key })
}
