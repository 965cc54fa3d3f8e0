//! Whether what is at the target is what the source holds: by digest where somebody computes one, else by
//! size.
//!
//! Which digest the other side knows is found out once for a batch, at its first file, and computed while
//! later ones stream. Where a file was continued, what was not streamed is read once more on a side that
//! is local, or, for `Strict`, wherever it is. An empty file is proved by its size.

use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use session_core::batch::{Digest, Proof, Verify};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, Filesystem, Follow};
use session_core::gate::SessionFs;
use session_core::path::VPath;
use session_core::session::Protocol;

use crate::hash;

/// Asked for in this order. The last ones find accidents only, which is what is looked for.
const ORDER: [Algorithm; 7] = [
    Algorithm::Sha256,
    Algorithm::Blake3,
    Algorithm::Sha512,
    Algorithm::Sha384,
    Algorithm::Sha1,
    Algorithm::Md5,
    Algorithm::Crc32,
];

/// What the digests of one side are, as far as it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    NotAsked,
    One(Algorithm),
    /// It computes none of ours.
    Nothing,
}

/// How a batch verifies, with what it learned of both sides.
pub(super) struct Verifier {
    level: Verify,
    wanted: Option<Algorithm>,
    source: Mutex<Known>,
    target: Mutex<Known>,
}

/// A file to be looked at.
pub(super) struct Checked<'a> {
    pub(super) source: &'a SessionFs,
    pub(super) from: &'a VPath,
    pub(super) target: &'a SessionFs,
    /// Where it is now, which may be its temporary name.
    pub(super) at: &'a VPath,
    pub(super) size: u64,
}

pub(super) fn is_local(fs: &SessionFs) -> bool {
    fs.session().protocol() == Protocol::Local
}

impl Verifier {
    pub(super) fn new(level: Verify, wanted: Option<Algorithm>) -> Self {
        Verifier { level, wanted, source: Mutex::default(), target: Mutex::default() }
    }

    /// The digest to compute while streaming, if one is of use.
    pub(super) fn streams(&self, source: &SessionFs, target: &SessionFs) -> Option<Algorithm> {
        if self.wanted.is_some() {
            return self.wanted;
        }
        let computed = match self.level {
            Verify::Size | Verify::None => return None,
            Verify::Strict => true,
            Verify::Auto => self.computes(&self.target, target) || self.computes(&self.source, source),
        };
        let known = [&self.target, &self.source].into_iter().find_map(|side| match self.known(side) {
            Known::One(algorithm) => Some(algorithm),
            _ => None,
        });
        computed.then(|| known.unwrap_or(Algorithm::Sha256))
    }

    /// Whether the size of what was renamed is looked at once more.
    pub(super) fn looks(&self) -> bool {
        self.level != Verify::None
    }

    fn known(&self, side: &Mutex<Known>) -> Known {
        *side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn computes(&self, side: &Mutex<Known>, fs: &SessionFs) -> bool {
        fs.capabilities().checksums && self.known(side) != Known::Nothing
    }

    /// The digest that a side computes of its own file, by the first algorithm that it knows.
    async fn ask(
        &self,
        side: &Mutex<Known>,
        fs: &SessionFs,
        path: &VPath,
        streamed: Option<Algorithm>,
    ) -> Result<Option<(Algorithm, Bytes)>> {
        if !self.computes(side, fs) {
            return Ok(None);
        }
        let candidates: Vec<Algorithm> = match self.known(side) {
            Known::One(algorithm) => vec![algorithm],
            _ => streamed.into_iter().chain(ORDER).collect(),
        };
        for algorithm in candidates {
            match fs.checksum(path, algorithm, 0..u64::MAX).await {
                Ok(digest) => {
                    *side.lock().unwrap_or_else(PoisonError::into_inner) = Known::One(algorithm);
                    return Ok(Some((algorithm, digest)));
                }
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidArgument) => {}
                // It would, but not for this file or this user: another way may do.
                Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Refused) => {
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
        }
        *side.lock().unwrap_or_else(PoisonError::into_inner) = Known::Nothing;
        Ok(None)
    }

    /// Looks at a file that was moved. `streamed` is the digest of all that went through here. Errors:
    /// `Corrupt` where content differs, `Unsupported` where `Strict` has no proof, those of asking.
    pub(super) async fn check(
        &self,
        file: &Checked<'_>,
        streamed: Option<Digest>,
    ) -> Result<(Proof, Option<Digest>)> {
        let mut digest = streamed;
        if let (Some(wanted), None) = (self.wanted, &digest) {
            digest = Some(read(file.source, file.from, wanted).await?);
        }
        if file.size == 0 || matches!(self.level, Verify::Size | Verify::None) {
            return Ok((Proof::Size, digest));
        }
        let strict = self.level == Verify::Strict;
        let by = digest.as_ref().map(|d| d.algorithm);
        let theirs = self.ask(&self.target, file.target, file.at, by).await?;
        if let Some((algorithm, theirs)) = theirs
            && let Some(ours) = self.ours(file, &digest, algorithm, strict).await?
        {
            same(&ours.value, &theirs, "the target's")?;
            return Ok((Proof::TargetDigest, digest.or(Some(ours))));
        }
        let vouched = self.ask(&self.source, file.source, file.from, by).await?;
        if let Some((algorithm, theirs)) = &vouched {
            // What arrived is either what streamed by, or what stands on a local disk.
            let arrived = match &digest {
                Some(d) if d.algorithm == *algorithm => Some(d.clone()),
                _ if is_local(file.target) => Some(read(file.target, file.at, *algorithm).await?),
                _ => None,
            };
            if let Some(arrived) = arrived {
                same(&arrived.value, theirs, "the source's")?;
                if !strict {
                    return Ok((Proof::SourceDigest, digest.or(Some(arrived))));
                }
            }
        }
        if !strict {
            return Ok((Proof::Size, digest));
        }
        let algorithm = by.unwrap_or(Algorithm::Sha256);
        let ours = match &digest {
            Some(d) => d.clone(),
            None => read(file.source, file.from, algorithm).await?,
        };
        let theirs = match read(file.target, file.at, algorithm).await {
            Ok(theirs) => theirs,
            Err(e) if super::part::is_lost(&e) => return Err(e),
            Err(e) => {
                return Err(Error::new(ErrorKind::Unsupported)
                    .with_detail("the content at the target cannot be proved")
                    .with_hint(
                        "the target computes no digest and cannot be read; --verify=size asks for less",
                    )
                    .with_source(e));
            }
        };
        same(&ours.value, &theirs.value, "the target's")?;
        Ok((Proof::Reread, Some(ours)))
    }

    /// Our own digest of the content, if it can be had for what it is worth.
    async fn ours(
        &self,
        file: &Checked<'_>,
        digest: &Option<Digest>,
        algorithm: Algorithm,
        strict: bool,
    ) -> Result<Option<Digest>> {
        match digest {
            Some(d) if d.algorithm == algorithm => Ok(Some(d.clone())),
            _ if strict || is_local(file.source) => read(file.source, file.from, algorithm).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Looks at the size under the final name.
    pub(super) async fn size(target: &SessionFs, at: &VPath, size: u64) -> Result<()> {
        let found = target.stat(at, Follow::Yes).await?;
        right_size(found.size, size)
    }
}

/// Errors: `Corrupt` unless the sizes agree.
pub(super) fn right_size(found: u64, size: u64) -> Result<()> {
    if found == size {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt)
        .with_detail(format!("the target holds {found} bytes, the source {size}")))
}

fn same(ours: &Bytes, theirs: &Bytes, whose: &'static str) -> Result<()> {
    if ours == theirs {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt)
        .with_detail(format!("{whose} digest is not that of what was sent"))
        .with_hint("the file at the target must not be trusted; run the command again"))
}

async fn read(fs: &SessionFs, path: &VPath, algorithm: Algorithm) -> Result<Digest> {
    let value = hash::read(fs, path, algorithm).await?;
    Ok(Digest { algorithm, value })
}
