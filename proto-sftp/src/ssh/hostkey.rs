//! Host keys of a server: loaded from OpenSSH's private key files, made on first start.
//!
//! A key that is made is written whole, mode 0600, under a temporary name, and then linked to its own:
//! it appears complete or not at all, and never replaces one that is there. A key file that others may
//! read is refused, as OpenSSH does. Ed25519 unless asked otherwise. Files are read and written in place:
//! this runs at start, not while serving. Deliberately absent: encrypted host keys, rotation.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PrivateKey, key::safe_rng};
use session_core::error::{Error, ErrorKind, Result};

/// What kind of host key to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HostKeyKind {
    /// ecdsa-sha2-nistp256.
    Ecdsa,
    /// ssh-ed25519.
    #[default]
    Ed25519,
    /// RSA with 3,072 bits.
    Rsa,
}

impl HostKeyKind {
    /// The name of the file by OpenSSH's habit: `ssh_host_ed25519_key`.
    pub fn file_name(self) -> &'static str {
        match self {
            HostKeyKind::Ecdsa => "ssh_host_ecdsa_key",
            HostKeyKind::Ed25519 => "ssh_host_ed25519_key",
            HostKeyKind::Rsa => "ssh_host_rsa_key",
        }
    }
}

/// The host keys of a server, with certificates for them where there are any.
#[derive(Clone, Default)]
pub struct HostKeys {
    pub(crate) keys: Vec<PrivateKey>,
    pub(crate) certificates: Vec<Certificate>,
}

impl std::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.fingerprints()).finish()
    }
}

impl HostKeys {
    /// No key yet; a server cannot be made of that.
    pub fn new() -> Self {
        HostKeys::default()
    }

    /// A fresh key in memory, for tests and short lives. Errors: `Internal`.
    pub fn ephemeral(kind: HostKeyKind) -> Result<Self> {
        Ok(HostKeys { keys: vec![generate(kind)?], certificates: Vec::new() })
    }

    /// Adds the key in `path`. Errors: those of reading; `PermissionDenied` if others may read it;
    /// `InvalidArgument` if it is no private key, or an encrypted one.
    pub fn load(mut self, path: &Path) -> Result<Self> {
        self.keys.push(load(path)?);
        Ok(self)
    }

    /// Adds the key in `path`, and makes it first where there is none; tells whether it was made. Errors
    /// as [`HostKeys::load`], and those of writing.
    pub fn load_or_make(mut self, path: &Path, kind: HostKeyKind) -> Result<(Self, bool)> {
        let made = match fs::symlink_metadata(path) {
            Ok(_) => false,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => make(path, kind)?,
            Err(e) => return Err(at(path, "read", e)),
        };
        self.keys.push(load(path)?);
        Ok((self, made))
    }

    /// Adds a host certificate for one of the keys. Errors: those of reading; `InvalidArgument` if it is
    /// none, or for another key.
    pub fn load_certificate(mut self, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| at(path, "read", e))?;
        let bad = |why: &str| {
            Error::new(ErrorKind::InvalidArgument).with_detail(format!("'{}' {why}", path.display()))
        };
        let certificate =
            Certificate::from_openssh(text.trim()).map_err(|_| bad("holds no OpenSSH certificate"))?;
        if !self.keys.iter().any(|k| k.public_key().key_data() == certificate.public_key()) {
            return Err(bad("certifies another key than those of this server"));
        }
        self.certificates.push(certificate);
        Ok(self)
    }

    /// Each key: algorithm and `SHA256:…`.
    pub fn fingerprints(&self) -> Vec<String> {
        let show = |k: &PrivateKey| format!("{} {}", k.algorithm().as_str(), k.fingerprint(HashAlg::Sha256));
        self.keys.iter().map(show).collect()
    }

    /// Each public key in OpenSSH's one-line form, as a line of `known_hosts` without the host.
    pub fn public_lines(&self) -> Vec<String> {
        self.keys
            .iter()
            .filter_map(|k| k.public_key().to_openssh().ok())
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn at(path: &Path, what: &str, e: std::io::Error) -> Error {
    let words = format!("cannot {what} the host key '{}': {e}", path.display());
    Error::from(e).with_detail(words)
}

fn load(path: &Path) -> Result<PrivateKey> {
    let metadata = fs::metadata(path).map_err(|e| at(path, "read", e))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::PermissionDenied)
            .with_detail(format!("others may read the host key '{}'", path.display()))
            .with_hint(format!("chmod 600 '{}'", path.display())));
    }
    let text = fs::read_to_string(path).map_err(|e| at(path, "read", e))?;
    russh::keys::decode_secret_key(&text, None).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{}' holds no usable private key: {e}", path.display()))
            .with_hint("a host key must not be encrypted; ssh-keygen -p -N '' takes the phrase off")
    })
}

fn generate(kind: HostKeyKind) -> Result<PrivateKey> {
    let failed = |e: russh::keys::ssh_key::Error| {
        Error::new(ErrorKind::Internal).with_detail("cannot make a host key").with_source(e)
    };
    let mut rng = safe_rng();
    match kind {
        HostKeyKind::Ecdsa => {
            PrivateKey::random(&mut rng, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }).map_err(failed)
        }
        HostKeyKind::Ed25519 => PrivateKey::random(&mut rng, Algorithm::Ed25519).map_err(failed),
        HostKeyKind::Rsa => RsaKeypair::random(&mut rng, 3072).map(PrivateKey::from).map_err(failed),
    }
}

/// Makes a key file; `false` if somebody else was quicker.
fn make(path: &Path, kind: HostKeyKind) -> Result<bool> {
    let text = generate(kind)?
        .to_openssh(LineEnding::LF)
        .map_err(|e| Error::new(ErrorKind::Internal).with_detail("cannot write a host key").with_source(e))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| at(path, "write", e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link, not a rename: it fails where a key has appeared meanwhile.
        match fs::hard_link(&temporary, path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    })();
    let _ = fs::remove_file(&temporary);
    let made = written.map_err(|e| at(path, "write", e))?;
    if made {
        let _ = fs::File::open(folder).and_then(|f| f.sync_all());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_private_and_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys").join(HostKeyKind::Ed25519.file_name());
        let (first, made) = HostKeys::new().load_or_make(&path, HostKeyKind::Ed25519).unwrap();
        assert!(made);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
        let (again, made) = HostKeys::new().load_or_make(&path, HostKeyKind::Ed25519).unwrap();
        assert!(!made);
        assert_eq!(first.fingerprints(), again.fingerprints());
        assert!(!format!("{first:?}").contains("PRIVATE"));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(HostKeys::new().load(&path).unwrap_err().kind(), ErrorKind::PermissionDenied);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "not a key").unwrap();
        assert_eq!(HostKeys::new().load(&path).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(HostKeys::new().load(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_key_that_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        assert!(make(&path, HostKeyKind::Ecdsa).unwrap());
        let text = fs::read(&path).unwrap();
        assert!(!make(&path, HostKeyKind::Ed25519).unwrap());
        assert_eq!(fs::read(&path).unwrap(), text);
    }
}
