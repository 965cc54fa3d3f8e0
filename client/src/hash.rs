//! Digests of files: by the store where it can, else by reading.

use bytes::{Bytes, BytesMut};
use session_core::digest::Hasher;
use session_core::error::{ErrorKind, Result};
use session_core::fs::{Algorithm, File, Filesystem, OpenOptions};
use session_core::gate::SessionFs;
use session_core::path::VPath;

/// How a digest came about: which proof a caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The store computed it; the content did not cross.
    Store,
    /// The content was read and hashed here.
    Read,
    /// A program of the server computed it (`sha256sum` and its kin); the content did not cross.
    Shell,
}

impl Proof {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Proof::Store => "store",
            Proof::Read => "read",
            Proof::Shell => "shell",
        }
    }
}

/// The digest of a whole file. Errors: those of reading it.
pub async fn digest(fs: &SessionFs, path: &VPath, algorithm: Algorithm) -> Result<(Bytes, Proof)> {
    if fs.capabilities().checksums {
        match fs.checksum(path, algorithm, 0..u64::MAX).await {
            Ok(digest) => return Ok((digest, Proof::Store)),
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            Err(e) => return Err(e),
        }
    }
    Ok((read(fs, path, algorithm).await?, Proof::Read))
}

/// The digest of a whole file that is read for it. Errors: those of reading it.
pub async fn read(fs: &SessionFs, path: &VPath, algorithm: Algorithm) -> Result<Bytes> {
    let file = fs.open_file(path, &OpenOptions::read()).await?;
    let mut hasher = Some(Hasher::new(algorithm));
    let mut offset = 0;
    loop {
        let buf = file.read_into(offset, 1 << 20, BytesMut::with_capacity(1 << 20)).await?;
        if buf.is_empty() {
            break;
        }
        offset += buf.len() as u64;
        // Hashing a megabyte takes milliseconds: not on a runtime thread.
        let Some(mut h) = hasher.take() else { break };
        hasher = tokio::task::spawn_blocking(move || {
            h.update(&buf);
            h
        })
        .await
        .ok();
    }
    let hasher = hasher.ok_or(ErrorKind::Internal)?;
    Ok(hasher.finish())
}
