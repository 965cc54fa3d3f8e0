//! CopyObject, and where the content of a copied part comes from.
//!
//! The store copies where it can; else the content passes through here. What is kept with the object goes along,
//! unless the request says what to keep instead; the ETag is that of the source.

use std::sync::Arc;

use hyper::HeaderMap;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, MetadataDirective, Timestamp,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{CommitOptions, File as _, Filesystem as _, Follow, OpenOptions, Replace};
use session_core::gate::SessionFile;

use super::digest::{Digest, hex};
use super::exchange::{Exchange, refuse};
use super::multipart::move_content;
use super::object::{Found, Kept, Spot, Stamp, etag, look};
use super::read::{Conditions, Verdict};
use super::write::{Upload, demands, kept, mark_dir, open, parents, too_large, whole};

/// The conditions on the source of a copy.
macro_rules! conditions {
    ($input:expr) => {
        $crate::server::read::Conditions {
            if_match: $input.copy_source_if_match.as_ref(),
            if_none_match: $input.copy_source_if_none_match.as_ref(),
            if_modified_since: $input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.as_ref(),
        }
    };
}
pub(super) use conditions;

/// Where content comes from.
pub(super) struct Source {
    pub(super) spot: Spot,
    pub(super) found: Found,
    pub(super) size: u64,
    /// `None` for a directory, which has none.
    pub(super) file: Option<Arc<SessionFile>>,
}

impl Source {
    /// What a request names, once the conditions hold. Errors: as the client is told.
    async fn find(x: &Exchange, named: &CopySource, conditions: &Conditions<'_>) -> S3Result<Source> {
        let CopySource::Bucket { bucket, key, version_id } = named else {
            return Err(refuse(S3ErrorCode::NotImplemented, "access points are not known here"));
        };
        if version_id.as_deref().is_some_and(|id| id != "null") {
            let e = Error::new(ErrorKind::NotFound).with_detail("there are no versions here");
            return Err(x.fail_as(e, 404, "NoSuchVersion"));
        }
        let fs = x.fs()?;
        let spot = Spot::of(bucket, key).map_err(|e| x.fail(e))?;
        let Some(found) = spot.find(fs).await.map_err(|e| x.fail(e))? else {
            return match spot.bucket(fs).await {
                Err(e) => Err(x.fail_bucket(e)),
                Ok(()) => Err(x.fail(Error::new(ErrorKind::NotFound).with_detail("there is no such object"))),
            };
        };
        if conditions.judge(&found.etag(), found.metadata.modified) != Verdict::Go {
            let words = "the condition on the source does not hold";
            return Err(x.fail(Error::new(ErrorKind::PreconditionFailed).with_detail(words)));
        }
        Ok(Source { spot, size: found.size(), found, file: None })
    }

    /// The same, open.
    pub(super) async fn open(
        x: &Exchange,
        named: &CopySource,
        conditions: &Conditions<'_>,
    ) -> S3Result<Source> {
        let mut source = Source::find(x, named, conditions).await?;
        if !source.found.marker {
            let file = x.fs()?.open_file(&source.spot.path, &OpenOptions::read()).await;
            let file = file.map_err(|e| x.fail(e))?;
            source.size = file.metadata().await.map_err(|e| x.fail(e))?.size;
            source.file = Some(file);
        }
        Ok(source)
    }
}

/// The range that a copied part is of: `bytes=0-9`, in whole there.
pub(super) fn range(x: &Exchange, text: &str, size: u64) -> S3Result<std::ops::Range<u64>> {
    let odd = || refuse(S3ErrorCode::InvalidArgument, "the range of the source is not understood");
    let (from, to) = text.strip_prefix("bytes=").and_then(|r| r.split_once('-')).ok_or_else(odd)?;
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<u64>().ok()).flatten();
    let (from, to) = (digits(from).ok_or_else(odd)?, digits(to).ok_or_else(odd)?);
    if from > to || to >= size {
        return Err(x.fail(Error::new(ErrorKind::OutOfRange).with_detail("the source has nothing there")));
    }
    Ok(from..to + 1)
}

pub(super) async fn copy(
    x: &Exchange,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let input = req.input;
    demands!(input)?;
    let replaces =
        input.metadata_directive.as_ref().is_some_and(|d| d.as_str() == MetadataDirective::REPLACE);
    let fs = x.fs()?;
    let conditions = conditions!(input);
    let source = Source::find(x, &input.copy_source, &conditions).await?;
    let to = Spot::of(&input.bucket, &input.key).map_err(|e| x.fail(e))?;
    let itself = source.spot.path == to.path;
    if itself && !replaces {
        let words = "an object is copied onto itself only to change what is kept with it";
        return Err(refuse(S3ErrorCode::InvalidRequest, words));
    }
    if source.found.marker {
        let Some(dir) = &to.dir else {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "a directory is copied to a key that ends in a slash",
            ));
        };
        mark_dir(x, &to, dir).await?;
        return Ok(done(source.found.etag(), Some(fs.session().now())));
    }
    let kept: Kept = match replaces {
        true => kept!(input),
        false => Kept::of(&source.spot.path, &source.found.metadata),
    };
    if kept.is_too_large() {
        return Err(too_large());
    }
    let stamp = Stamp::new(fs, &to.path);
    let tag = Some(source.found.etag()).filter(|t| is_digest(t));
    if let (true, Some(tag)) = (itself || fs.capabilities_at(&to.path).server_copy, &tag) {
        if !itself {
            by_the_store(x, &source.spot, &to).await?;
        }
        let attributes = stamp.attributes(&kept, tag, source.size, Some(&source.found.metadata));
        let set = match attributes.is_empty() {
            true => Ok(()),
            false => fs.set_attributes(&to.path, &attributes, Follow::Yes).await,
        };
        match set {
            Ok(()) => {}
            // The copy is there; who may not change properties has it as the store made it.
            Err(e) if !itself && matches!(e.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied) => {}
            Err(e) => return Err(x.fail(e)),
        }
        let now = look(fs, &to.path).await.map_err(|e| x.fail(e))?;
        let now = now.ok_or_else(|| x.fail(ErrorKind::NotFound.into()))?;
        return Ok(done(etag(&now), now.modified));
    }
    let there = to.find(fs).await.map_err(|e| x.fail(e))?.filter(|t| !t.marker);
    let source = Source::open(x, &input.copy_source, &conditions).await?;
    let Some(from) = &source.file else { return Err(x.fail(ErrorKind::NotFound.into())) };
    let mut upload = Upload::new(open(x, &to, &whole(Some(source.size), None, None, None)).await?);
    let copied = async {
        let mut digest = Digest::new(None, s3s::dto::Checksum::default(), &HeaderMap::new(), None)?;
        let target = (upload.file()?, 0);
        let moved = move_content(from, 0..source.size, target, |piece| digest.update(piece));
        moved.await.map_err(|e| x.fail(e))?;
        let (md5, _) = digest.finish()?;
        let tag = hex(&md5);
        let attributes = stamp.attributes(&kept, &tag, source.size, there.as_ref().map(|t| &t.metadata));
        let options = CommitOptions { expected_size: Some(source.size), attributes };
        let published = upload.publish(&options).await.map_err(|e| x.fail_write(e))?;
        Ok(done(stamp.etag(&tag, source.size, &published), published.modified))
    };
    let copied: S3Result<_> = copied.await;
    if copied.is_err() {
        upload.abort().await;
    }
    copied
}

/// Whether an ETag is a digest of the content, which is that of a copy, too.
fn is_digest(tag: &str) -> bool {
    let (digits, rest) = tag.split_at_checked(32).unwrap_or(("", ""));
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (rest.is_empty() || rest.strip_prefix('-').is_some_and(number))
}

async fn by_the_store(x: &Exchange, from: &Spot, to: &Spot) -> S3Result<()> {
    let fs = x.fs()?;
    match fs.copy(&from.path, &to.path, Replace::Yes).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            parents(x, to).await?;
            fs.copy(&from.path, &to.path, Replace::Yes).await.map_err(|e| x.fail_write(e))
        }
        copied => copied.map_err(|e| x.fail_write(e)),
    }
}

fn done(tag: String, modified: Option<std::time::SystemTime>) -> S3Response<CopyObjectOutput> {
    let result = CopyObjectResult {
        e_tag: Some(ETag::Strong(tag)),
        last_modified: modified.map(Timestamp::from),
        ..CopyObjectResult::default()
    };
    S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_told_from_what_a_store_says() {
        for (tag, is) in [
            ("5eb63bbbe01eeed093cb22bb8f5acdc3", true),
            ("5eb63bbbe01eeed093cb22bb8f5acdc3-12", true),
            ("5eb63bbbe01eeed093cb22bb8f5acdc3-", false),
            ("5eb63bbbe01eeed093cb22bb8f5acdc3-x", false),
            ("12-3-16d4c8a9b8f00000", false),
            ("7-0", false),
            ("", false),
        ] {
            assert_eq!(is_digest(tag), is, "{tag}");
        }
    }
}
