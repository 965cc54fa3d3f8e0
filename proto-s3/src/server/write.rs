//! PutObject: received, verified, then published in one step, or nothing at all.
//!
//! An upload of S3 is never continued, so what breaks off is thrown away, and nobody sees it before it is whole.
//! Directories that a key needs are made with it, and marked as made for it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use s3s::dto::{ETag, ETagCondition, PutObjectInput, PutObjectOutput, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{CommitOptions, File as _, Filesystem as _, OpenOptions};
use session_core::gate::{SessionFile, SessionFs};
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use super::digest::{Digest, hex, sums};
use super::exchange::{Exchange, refuse};
use super::object::{EMPTY, Found, Kept, Spot, Stamp, implied, is_bucket, is_implied, look};

/// How often the directories of a key are made anew because somebody removed them meanwhile.
const AGAIN: usize = 3;

/// An upload that is thrown away unless it was published.
pub(super) struct Upload(Option<Arc<SessionFile>>);

impl Upload {
    pub(super) fn new(file: Arc<SessionFile>) -> Self {
        Upload(Some(file))
    }

    pub(super) fn file(&self) -> S3Result<&Arc<SessionFile>> {
        self.0.as_ref().ok_or_else(|| refuse(S3ErrorCode::InternalError, "the upload is over"))
    }

    pub(super) async fn publish(&mut self, options: &CommitOptions) -> session_core::error::Result<Metadata> {
        let Some(file) = &self.0 else { return Err(ErrorKind::Closed.into()) };
        let published = file.commit(options).await?;
        self.0 = None;
        Ok(published)
    }

    /// It goes on, as somebody else's.
    pub(super) fn keep(&mut self) {
        self.0 = None;
    }

    pub(super) async fn abort(&mut self) {
        if let Some(file) = self.0.take() {
            let _ = file.abort().await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { file.abort().await });
        }
    }
}

/// Refuses what a client demands of the store and would believe to have: encryption, locks, access for others,
/// tags. What is only ever advice is left aside.
macro_rules! demands {
    ($input:expr) => {{
        let input = &$input;
        let encrypted = input.sse_customer_key.is_some()
            || input.sse_customer_algorithm.is_some()
            || input.ssekms_key_id.is_some()
            || input.server_side_encryption.is_some();
        let locked = input.object_lock_mode.is_some()
            || input.object_lock_legal_hold_status.is_some()
            || input.object_lock_retain_until_date.is_some();
        let granted = input.grant_full_control.is_some()
            || input.grant_read.is_some()
            || input.grant_read_acp.is_some()
            || input.grant_write_acp.is_some();
        let acl = input.acl.as_ref().map(|acl| acl.as_str());
        $crate::server::write::demanded(
            encrypted,
            locked || input.tagging.is_some(),
            granted || acl.is_some_and(|acl| acl != "private" && acl != "bucket-owner-full-control"),
            input.storage_class.as_ref().map(|class| class.as_str()),
        )
    }};
}

pub(super) use demands;

pub(super) fn demanded(encrypted: bool, more: bool, granted: bool, class: Option<&str>) -> S3Result<()> {
    if encrypted || more {
        let words = if encrypted { "nothing is encrypted here" } else { "locks and tags are not kept here" };
        return Err(refuse(S3ErrorCode::NotImplemented, words));
    }
    if granted {
        let words = "who may do what is said by the server's configuration alone";
        return Err(refuse(S3ErrorCode::AccessControlListNotSupported, words));
    }
    if class.is_some_and(|class| class != "STANDARD") {
        return Err(refuse(S3ErrorCode::InvalidStorageClass, "there is one storage class: STANDARD"));
    }
    Ok(())
}

/// What a client wants to be kept with an object.
macro_rules! kept {
    ($input:expr) => {{
        let mut kept =
            $crate::server::object::Kept { content_type: $input.content_type.clone(), ..Default::default() };
        kept.put("cache-control", $input.cache_control.clone());
        kept.put("content-disposition", $input.content_disposition.clone());
        kept.put("content-encoding", $crate::server::write::encoding($input.content_encoding.as_deref()));
        kept.put("content-language", $input.content_language.clone());
        kept.put("expires", $crate::server::write::http_date($input.expires.as_ref()));
        for (name, value) in $input.metadata.iter().flatten() {
            kept.put(&format!("{}{name}", $crate::server::object::META), Some(value.clone()));
        }
        kept
    }};
}

pub(super) use kept;

/// The encoding of the content: `aws-chunked` is that of its way to us.
pub(super) fn encoding(field: Option<&str>) -> Option<String> {
    let codings = field?.split(',').map(str::trim).filter(|c| !c.eq_ignore_ascii_case("aws-chunked"));
    Some(codings.collect::<Vec<_>>().join(",")).filter(|rest| !rest.is_empty())
}

pub(super) fn http_date(at: Option<&s3s::dto::Timestamp>) -> Option<String> {
    let mut text = Vec::new();
    at?.format(s3s::dto::TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// Judges the conditions of a write.
pub(super) fn judge(
    x: &Exchange,
    there: Option<&Found>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let failed =
        || x.fail(Error::new(ErrorKind::PreconditionFailed).with_detail("the condition does not hold"));
    let is = |condition: &ETagCondition| match (condition.as_etag(), there) {
        (None, there) => there.is_some(),
        (Some(_), None) => false,
        (Some(ETag::Strong(tag)), Some(there)) => *tag == there.etag(),
        (Some(ETag::Weak(_)), Some(_)) => false,
    };
    match (if_match, there) {
        (Some(_), None) => return Err(x.fail(ErrorKind::NotFound.into())),
        (Some(condition), Some(_)) if !is(condition) => return Err(failed()),
        _ => {}
    }
    if if_none_match.is_some_and(is) {
        return Err(failed());
    }
    Ok(())
}

/// How a file is opened that is to be whole or nothing.
pub(super) fn whole(
    size: Option<u64>,
    there: Option<&Found>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> OpenOptions {
    OpenOptions {
        apart: true,
        // What must not be there is not there when it is published, either.
        exclusive: if_none_match.is_some_and(ETagCondition::is_any),
        if_match: there.filter(|_| if_match.is_some()).and_then(|f| f.metadata.etag.clone()),
        size_hint: size,
        ..OpenOptions::create()
    }
}

/// Opens a file, making the directories that it needs. Errors: as the client is told.
pub(super) async fn open(x: &Exchange, spot: &Spot, options: &OpenOptions) -> S3Result<Arc<SessionFile>> {
    let fs = x.fs()?;
    let mut tries = 0;
    loop {
        match fs.open_file(&spot.path, options).await {
            Err(e) if e.kind() == ErrorKind::NotFound && tries < AGAIN => {
                tries += 1;
                parents(x, spot).await?;
            }
            opened => return opened.map_err(|e| x.fail_write(e)),
        }
    }
}

/// Makes the directories above a key. Errors: as the client is told.
pub(super) async fn parents(x: &Exchange, spot: &Spot) -> S3Result<()> {
    let fs = x.fs()?;
    let mut missing = Vec::new();
    let mut dir = spot.path.parent();
    loop {
        let Some(at) = dir.filter(|d| *d != spot.bucket) else {
            is_bucket(fs, &spot.bucket).await.map_err(|e| x.fail_bucket(e))?;
            break;
        };
        if look(fs, &at).await.map_err(|e| x.fail(e))?.is_some() {
            break;
        }
        dir = at.parent();
        missing.push(at);
    }
    for at in missing.iter().rev() {
        make(fs, at, &implied(fs, at, true)).await.map_err(|e| x.fail_write(e))?;
    }
    Ok(())
}

async fn make(fs: &SessionFs, at: &VPath, attributes: &Attributes) -> session_core::error::Result<()> {
    match fs.create_dir(at, attributes).await {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Receives a body into a file from `at` on. How much it was.
pub(super) async fn receive(
    x: &Exchange,
    body: Option<StreamingBlob>,
    file: &Arc<SessionFile>,
    at: u64,
    digest: &mut Digest,
) -> S3Result<u64> {
    let Some(mut body) = body else { return Ok(0) };
    let mut came = 0;
    let mut next = body.next().await;
    while let Some(piece) = next {
        let piece: Bytes = piece.map_err(|_| x.unreceived())?;
        digest.update(&piece);
        let n = piece.len() as u64;
        // While one piece is written the next one comes.
        let (written, following) = tokio::join!(file.write_at(at + came, piece), body.next());
        written.map_err(|e| x.fail(e))?;
        came += n;
        next = following;
    }
    Ok(came)
}

/// The content must have the size that was announced.
pub(super) fn complete(x: &Exchange, came: u64, announced: Option<i64>) -> S3Result<()> {
    match announced.and_then(|n| u64::try_from(n).ok()) {
        Some(n) if n != came => {
            let e = Error::new(ErrorKind::Corrupt)
                .with_detail("the body does not have the size that was announced");
            Err(x.fail_as(e, 400, "IncompleteBody"))
        }
        _ => Ok(()),
    }
}

pub(super) async fn put(
    x: &Exchange,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let input = req.input;
    demands!(input)?;
    if input.website_redirect_location.is_some() {
        return Err(refuse(S3ErrorCode::NotImplemented, "nothing is served as a website here"));
    }
    if input.write_offset_bytes.is_some() {
        // What comes is the end of an object alone: it must not take the place of the whole.
        return Err(refuse(S3ErrorCode::NotImplemented, "nothing is added to objects here"));
    }
    let fs = x.fs()?;
    let spot = Spot::of(&input.bucket, &input.key).map_err(|e| x.fail(e))?;
    let kept: Kept = kept!(input);
    if kept.is_too_large() {
        return Err(too_large());
    }
    let is_conditional = input.if_match.is_some() || input.if_none_match.is_some();
    // What stands there matters to a condition, to a directory that the key may mean, and for properties that would
    // be kept with the new content.
    let matters = is_conditional || spot.dir.is_some() || fs.capabilities_at(&spot.path).properties;
    let there = match if matters { spot.find(fs).await } else { Ok(None) } {
        // Who may put and not look puts: whether it may replace what stands there is asked when it is opened.
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Refused) && !is_conditional => {
            None
        }
        found => found.map_err(|e| x.fail(e))?,
    };
    judge(x, there.as_ref(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let size = input.content_length.and_then(|n| u64::try_from(n).ok());
    let mut digest =
        Digest::new(input.content_md5.as_deref(), sums!(input), &req.headers, req.trailing_headers)?;
    if let (Some(dir), Some(0), true) = (&spot.dir, size, there.as_ref().is_none_or(|t| t.marker)) {
        return mark(x, &spot, dir, input.body, digest).await;
    }
    let replaced = there.as_ref().filter(|t| !t.marker);
    let options = whole(size, replaced, input.if_match.as_ref(), input.if_none_match.as_ref());
    let mut upload = Upload::new(open(x, &spot, &options).await?);
    let stored = async {
        let came = receive(x, input.body, upload.file()?, 0, &mut digest).await?;
        complete(x, came, input.content_length)?;
        let (md5, sums) = digest.finish()?;
        let stamp = Stamp::new(fs, &spot.path);
        let attributes = stamp.attributes(&kept, &hex(&md5), came, replaced.map(|t| &t.metadata));
        let options = CommitOptions { expected_size: Some(came), attributes };
        let published = upload.publish(&options).await.map_err(|e| x.fail_write(e))?;
        Ok((stamp.etag(&hex(&md5), came, &published), sums))
    };
    let stored: S3Result<_> = stored.await;
    if stored.is_err() {
        upload.abort().await;
    }
    let (tag, sums) = stored?;
    Ok(S3Response::new(PutObjectOutput {
        e_tag: Some(ETag::Strong(tag)),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..PutObjectOutput::default()
    }))
}

/// Nothing under a key that ends in a slash: a directory, made on purpose.
async fn mark(
    x: &Exchange,
    spot: &Spot,
    dir: &VPath,
    body: Option<StreamingBlob>,
    mut digest: Digest,
) -> S3Result<S3Response<PutObjectOutput>> {
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            let piece: Bytes = piece.map_err(|_| x.unreceived())?;
            digest.update(&piece);
        }
    }
    digest.finish()?;
    mark_dir(x, spot, dir).await?;
    let e_tag = Some(ETag::Strong(EMPTY.to_owned()));
    Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
}

/// Makes a directory on purpose, or makes one that is there one of its own.
pub(super) async fn mark_dir(x: &Exchange, spot: &Spot, dir: &VPath) -> S3Result<()> {
    let fs = x.fs()?;
    match look(fs, dir).await.map_err(|e| x.fail(e))? {
        Some(there) if is_implied(&there) => {
            let attributes = implied(fs, dir, false);
            let follow = session_core::fs::Follow::Yes;
            fs.set_attributes(dir, &attributes, follow).await.map_err(|e| x.fail(e))?;
        }
        Some(there) if there.is_dir() => {}
        Some(_) => return Err(x.fail_write(ErrorKind::NotADirectory.into())),
        None => {
            // The directory is the parent of what the key would be as a file.
            let above = Spot { bucket: spot.bucket.clone(), path: dir.clone(), dir: None };
            parents(x, &above).await?;
            make(fs, dir, &Attributes::none()).await.map_err(|e| x.fail_write(e))?;
        }
    }
    Ok(())
}

pub(super) fn too_large() -> S3Error {
    let code = S3ErrorCode::MetadataTooLarge;
    refuse(code, "what is kept with an object has 2 KiB at most")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_a_body_is_no_encoding_of_its_content() {
        assert_eq!(encoding(Some("aws-chunked")), None);
        assert_eq!(encoding(Some("gzip,aws-chunked")).as_deref(), Some("gzip"));
        assert_eq!(encoding(Some("aws-chunked, gzip, br")).as_deref(), Some("gzip,br"));
        assert_eq!(encoding(None), None);
    }
}
