//! Digests for `check-file`: computed in pieces on the blocking pool, so that no runtime thread is held.

use bytes::{Bytes, BytesMut};
use session_core::digest::{self, Hasher};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, File};

use crate::wire::extension::CheckFile;

/// How much is read and hashed at once.
const CHUNK: usize = 256 * 1024;
/// The smallest block of its own digest (draft-ietf-secsh-filexfer-extensions-00, section 3).
const MIN_BLOCK: u32 = 256;
/// The most bytes of digests in one reply.
const MAX_DIGESTS: u64 = 200 * 1024;

/// The first algorithm of the client's list that we have. Errors: `Unsupported`.
pub(super) fn choose(check: &CheckFile) -> Result<Algorithm> {
    String::from_utf8_lossy(&check.algorithms)
        .split(',')
        .find_map(|name| Algorithm::parse(name.trim()))
        .ok_or_else(|| Error::new(ErrorKind::Unsupported).with_detail("none of these digests is known"))
}

/// The end of the range that is asked for, cut to the content of `size` bytes. Errors:
/// `InvalidArgument` for a block size that the draft does not allow, `TooLarge` for too many blocks.
pub(super) fn range(check: &CheckFile, algorithm: Algorithm, size: u64) -> Result<std::ops::Range<u64>> {
    if check.block_size != 0 && check.block_size < MIN_BLOCK {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("blocks have at least {MIN_BLOCK} bytes")));
    }
    let start = check.offset.min(size);
    let end = if check.len == 0 { size } else { check.offset.saturating_add(check.len).min(size) };
    if check.block_size != 0 {
        let blocks = (end - start).div_ceil(u64::from(check.block_size));
        if blocks.saturating_mul(digest::len(algorithm) as u64) > MAX_DIGESTS {
            return Err(Error::new(ErrorKind::TooLarge)
                .with_detail("too many blocks for one reply, ask for a shorter range"));
        }
    }
    Ok(start..end)
}

/// The digests of a range of `file`, one for each block. Errors: those of reading; `Corrupt` if the file
/// ends before the range does.
pub(super) async fn of_file(file: &dyn File, check: &CheckFile, algorithm: Algorithm) -> Result<Bytes> {
    let range = range(check, algorithm, file.metadata().await?.size)?;
    let block = if check.block_size == 0 { u64::MAX } else { u64::from(check.block_size) };
    let mut digests = BytesMut::new();
    let mut hasher = Hasher::new(algorithm);
    let mut in_block = 0u64;
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
        let chunk = file.read_into(at, want, BytesMut::with_capacity(want)).await?;
        if chunk.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt).with_detail("the file became shorter meanwhile"));
        }
        at += chunk.len() as u64;
        let work = tokio::task::spawn_blocking(move || {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let room = usize::try_from(block - in_block).unwrap_or(usize::MAX);
                let (now, later) = rest.split_at(rest.len().min(room));
                hasher.update(now);
                in_block += now.len() as u64;
                if in_block == block {
                    let full = std::mem::replace(&mut hasher, Hasher::new(algorithm));
                    digests.extend_from_slice(&full.finish());
                    in_block = 0;
                }
                rest = later;
            }
            (hasher, digests, in_block)
        });
        (hasher, digests, in_block) = work
            .await
            .map_err(|e| Error::new(ErrorKind::Internal).with_detail("a digest failed").with_source(e))?;
    }
    if in_block > 0 || check.block_size == 0 {
        digests.extend_from_slice(&hasher.finish());
    }
    Ok(digests.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offset: u64, len: u64, block_size: u32) -> CheckFile {
        CheckFile { algorithms: Bytes::from_static(b"whirlpool,SHA-256,md5"), offset, len, block_size }
    }

    #[test]
    fn the_clients_first_known_choice_is_taken() {
        assert_eq!(choose(&check(0, 0, 0)).unwrap(), Algorithm::Sha256);
        let none = CheckFile { algorithms: Bytes::from_static(b"whirlpool"), ..CheckFile::default() };
        assert_eq!(choose(&none).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn ranges_are_cut_and_blocks_bounded() {
        let a = Algorithm::Md5;
        assert_eq!(range(&check(10, 0, 0), a, 100).unwrap(), 10..100);
        assert_eq!(range(&check(10, 20, 0), a, 100).unwrap(), 10..30);
        assert_eq!(range(&check(200, u64::MAX, 0), a, 100).unwrap(), 100..100);
        assert_eq!(range(&check(0, 0, 255), a, 100).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(range(&check(0, 0, 256), a, 1 << 30).unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(range(&check(0, 1 << 20, 256), a, 1 << 30).is_ok());
    }
}
