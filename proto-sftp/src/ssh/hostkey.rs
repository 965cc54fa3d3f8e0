//! Host keys: read from OpenSSH key files, made where there is none.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub use russh::keys::PrivateKey;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg};
use session_core::error::{Error, ErrorKind, Result};

/// Reads a host key. Errors: `NotFound`, `PermissionDenied` (also where others may read it), `Corrupt`.
pub fn load(path: &Path) -> Result<PrivateKey> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::new(ErrorKind::PermissionDenied)
            .with_detail(format!("the host key {} may be read by others", path.display()))
            .with_hint(format!("chmod 600 {}", path.display())));
    }
    let text = std::fs::read(path)?;
    let key = PrivateKey::from_openssh(text).map_err(|e| {
        Error::new(ErrorKind::Corrupt)
            .with_detail(format!("{} is not an OpenSSH private key", path.display()))
            .with_source(e)
    })?;
    if key.is_encrypted() {
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail(format!("the host key {} is encrypted", path.display())));
    }
    Ok(key)
}

/// Reads the key at `path`, or makes an ed25519 key there (mode 0600, in one step). The second value
/// tells whether it was made.
pub fn load_or_create(path: &Path) -> Result<(PrivateKey, bool)> {
    match load(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        other => return other.map(|key| (key, false)),
    }
    let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)
        .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Another process may have made one meanwhile: the first one stands.
    match std::fs::hard_link(&temporary, path) {
        Ok(()) => {
            std::fs::remove_file(&temporary)?;
            Ok((key, true))
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&temporary)?;
            load(path).map(|key| (key, false))
        }
        Err(e) => Err(e.into()),
    }
}

/// `SHA256:…` of a host key.
pub fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let (made, new) = load_or_create(&path).unwrap();
        let (read, again) = load_or_create(&path).unwrap();
        assert!(new && !again);
        assert_eq!(fingerprint(&made), fingerprint(&read));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load(&path).unwrap_err().kind(), ErrorKind::PermissionDenied);
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
