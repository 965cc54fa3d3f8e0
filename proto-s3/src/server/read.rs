//! GetObject, HeadObject and GetObjectAttributes: conditions (RFC 9110, section 13), ranges, what is kept with the
//! object.
//!
//! An object is described as it was when it was opened, so that length, ETag and content are of one version.

use std::collections::VecDeque;
use std::ops::Range as Bytes;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{self, HeaderMap, HeaderValue};
use s3s::dto::{
    ETag, ETagCondition, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ObjectAttributes, Range, StorageClass, StreamingBlob,
    Timestamp,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{File as _, OpenOptions};
use session_core::gate::SessionFile;
use session_core::net::http::{Part, send};

use super::exchange::{Exchange, refuse};
use super::guard::Signed;
use super::object::{Found, Kept, Spot, is_nothing};

/// The conditions of a read.
pub(super) struct Conditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

/// What they come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    NotModified,
    Failed,
}

impl Conditions<'_> {
    fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }

    /// Whether they hold of an object (RFC 9110, section 13.2.2).
    pub(super) fn judge(&self, tag: &str, modified: Option<SystemTime>) -> Verdict {
        let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|t| t.value() == tag);
        let after = |at: &Timestamp| modified.is_some_and(|m| seconds(&Timestamp::from(m)) > seconds(at));
        match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) if !is(condition) => return Verdict::Failed,
            (None, Some(at)) if after(at) => return Verdict::Failed,
            _ => {}
        }
        match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) if is(condition) => Verdict::NotModified,
            (None, Some(at)) if !after(at) => Verdict::NotModified,
            _ => Verdict::Go,
        }
    }
}

/// Seconds since 1970, whole ones, as HTTP says times.
fn seconds(at: &Timestamp) -> i64 {
    let mut text = Vec::new();
    // What cannot be written is before everything.
    let _ = at.format(s3s::dto::TimestampFormat::EpochSeconds, &mut text);
    let text = std::str::from_utf8(&text).unwrap_or_default();
    text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(i64::MIN)
}

macro_rules! conditions {
    ($input:expr) => {
        Conditions {
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        }
    };
}

/// The fields that a request wants in place of those of the object, if it wants any.
macro_rules! overrides {
    ($input:expr) => {{
        let input = &$input;
        let pairs = [
            (header::CACHE_CONTROL, input.response_cache_control.clone()),
            (header::CONTENT_DISPOSITION, input.response_content_disposition.clone()),
            (header::CONTENT_ENCODING, input.response_content_encoding.clone()),
            (header::CONTENT_LANGUAGE, input.response_content_language.clone()),
            (header::CONTENT_TYPE, input.response_content_type.clone()),
            (header::EXPIRES, super::write::http_date(input.response_expires.as_ref())),
        ];
        pairs
    }};
}

/// What both answers say of an object.
macro_rules! described {
    ($output:ident, $found:expr, $kept:expr, $range:expr, $size:expr) => {{
        let (kept, range, size): (&Kept, Option<&Bytes<u64>>, u64) = ($kept, $range, $size);
        let length = range.map_or(size, |r| r.end - r.start);
        $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: kept.get("cache-control"),
            content_disposition: kept.get("content-disposition"),
            content_encoding: kept.get("content-encoding"),
            content_language: kept.get("content-language"),
            content_length: i64::try_from(length).ok(),
            content_range: range.map(|r| format!("bytes {}-{}/{size}", r.start, r.end.saturating_sub(1))),
            content_type: kept.content_type.clone(),
            e_tag: Some(ETag::Strong($found.etag())),
            expires: kept.get("expires").and_then(|t| http_time(&t)),
            last_modified: $found.metadata.modified.map(Timestamp::from),
            metadata: Some(kept.meta().collect()),
            ..$output::default()
        }
    }};
}

fn http_time(text: &str) -> Option<Timestamp> {
    Timestamp::parse(s3s::dto::TimestampFormat::HttpDate, text).ok()
}

/// The only version there is has no name.
fn version(x: &Exchange, id: Option<&str>) -> S3Result<()> {
    match id {
        None | Some("" | "null") => Ok(()),
        Some(_) => {
            let e = Error::new(ErrorKind::NotFound).with_detail("there are no versions here");
            Err(x.fail_as(e, 404, "NoSuchVersion"))
        }
    }
}

/// The bytes that are wanted of so many; `None` for all.
fn wanted(x: &Exchange, range: Option<&Range>, part: Option<i32>, size: u64) -> S3Result<Option<Bytes<u64>>> {
    let out = || {
        let mut e = x.fail(Error::new(ErrorKind::OutOfRange).with_detail("the object has nothing there"));
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        e.set_headers(headers);
        e
    };
    match (range, part) {
        (Some(_), Some(_)) => {
            Err(refuse(S3ErrorCode::InvalidRequest, "a range and a part number are not wanted together"))
        }
        (None, None | Some(1)) => Ok(None),
        (None, Some(_)) => Err(out()),
        (Some(range), None) => range.check(size).map(Some).map_err(|_| out()),
    }
}

/// What there is to describe, once the conditions hold. Errors: as the client is told.
async fn judged(x: &Exchange, spot: &Spot, conditions: &Conditions<'_>) -> S3Result<Found> {
    let found = spot.find(x.fs()?).await.map_err(|e| x.fail(e))?;
    let Some(found) = found else { return Err(missing(x, spot).await) };
    hold(x, &found, conditions)?;
    Ok(found)
}

/// What is missing, the object or its bucket.
async fn missing(x: &Exchange, spot: &Spot) -> s3s::S3Error {
    match x.fs() {
        Err(e) => e,
        Ok(fs) => match spot.bucket(fs).await {
            Err(e) => x.fail_bucket(e),
            Ok(()) => no_object(x),
        },
    }
}

fn no_object(x: &Exchange) -> s3s::S3Error {
    x.fail(Error::new(ErrorKind::NotFound).with_detail("there is no such object"))
}

fn hold(x: &Exchange, found: &Found, conditions: &Conditions<'_>) -> S3Result<()> {
    let tag = found.etag();
    match conditions.judge(&tag, found.metadata.modified) {
        Verdict::Go => Ok(()),
        Verdict::Failed => {
            Err(x.fail(Error::new(ErrorKind::PreconditionFailed).with_detail("the condition does not hold")))
        }
        Verdict::NotModified => {
            let e = Error::new(ErrorKind::PreconditionFailed).with_detail("the client has it already");
            let mut e = x.fail_as(e, 304, "NotModified");
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
                headers.insert(header::ETAG, value);
            }
            e.set_headers(headers);
            Err(e)
        }
    }
}

/// Strangers get what is there, not what a link makes of it.
fn overridden(x: &Exchange, pairs: [(header::HeaderName, Option<String>); 6]) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        if x.signed == Signed::Not {
            let words = "fields of the answer are chosen by signed requests only";
            return Err(refuse(S3ErrorCode::InvalidRequest, words));
        }
        let bad =
            |_| refuse(S3ErrorCode::InvalidArgument, "a field of the answer is wanted that cannot be sent");
        headers.insert(name, HeaderValue::from_str(&value).map_err(bad)?);
    }
    Ok(headers)
}

pub(super) async fn head(
    x: &Exchange,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = req.input;
    version(x, input.version_id.as_deref())?;
    let headers = overridden(x, overrides!(input))?;
    let spot = Spot::of(&input.bucket, &input.key).map_err(|e| x.fail(e))?;
    // An answer without a body has no word for what is missing: nobody looks for the bucket.
    let found = spot.find(x.fs()?).await.map_err(|e| x.fail(e))?.ok_or_else(|| no_object(x))?;
    hold(x, &found, &conditions!(input))?;
    let size = found.size();
    let range = wanted(x, input.range.as_ref(), input.part_number, size)?;
    let kept = kept_of(&spot, &found);
    let output = described!(HeadObjectOutput, found, &kept, range.as_ref(), size);
    Ok(S3Response::with_headers(output, headers))
}

/// Parts and checksums are not kept beyond an upload: they are left out, as of objects that never had any.
pub(super) async fn attributes(
    x: &Exchange,
    req: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let input = req.input;
    version(x, input.version_id.as_deref())?;
    // The library splits no list that stands in one field.
    let asked: Vec<&str> =
        input.object_attributes.iter().flat_map(|a| a.as_str().split(',')).map(str::trim).collect();
    let known = [
        ObjectAttributes::CHECKSUM,
        ObjectAttributes::ETAG,
        ObjectAttributes::OBJECT_PARTS,
        ObjectAttributes::OBJECT_SIZE,
        ObjectAttributes::STORAGE_CLASS,
    ];
    if asked.is_empty() || !asked.iter().all(|a| known.contains(a)) {
        let words = "what can be asked for is Checksum, ETag, ObjectParts, ObjectSize, StorageClass";
        return Err(refuse(S3ErrorCode::InvalidArgument, words));
    }
    let spot = Spot::of(&input.bucket, &input.key).map_err(|e| x.fail(e))?;
    let none = Conditions {
        if_match: None,
        if_none_match: None,
        if_modified_since: None,
        if_unmodified_since: None,
    };
    let found = judged(x, &spot, &none).await?;
    let is_asked = |name| asked.contains(&name);
    let size = i64::try_from(found.size()).ok();
    let standard = StorageClass::from_static(StorageClass::STANDARD);
    Ok(S3Response::new(GetObjectAttributesOutput {
        e_tag: is_asked(ObjectAttributes::ETAG).then(|| ETag::Strong(found.etag())),
        last_modified: found.metadata.modified.map(Timestamp::from),
        object_size: size.filter(|_| is_asked(ObjectAttributes::OBJECT_SIZE)),
        storage_class: is_asked(ObjectAttributes::STORAGE_CLASS).then_some(standard),
        ..GetObjectAttributesOutput::default()
    }))
}

fn kept_of(spot: &Spot, found: &Found) -> Kept {
    match found.marker {
        true => Kept { content_type: Some("application/x-directory".to_owned()), ..Kept::default() },
        false => Kept::of(&spot.path, &found.metadata),
    }
}

pub(super) async fn get(
    x: &Exchange,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = req.input;
    version(x, input.version_id.as_deref())?;
    let headers = overridden(x, overrides!(input))?;
    let fs = x.fs()?;
    let spot = Spot::of(&input.bucket, &input.key).map_err(|e| x.fail(e))?;
    let conditions = conditions!(input);
    if !conditions.is_empty() {
        // Nothing is opened that will not be sent.
        judged(x, &spot, &conditions).await?;
    }
    let file = match fs.open_file(&spot.path, &OpenOptions::read()).await {
        Ok(file) => Some(file),
        Err(e) if is_nothing(e.kind()) || e.kind() == ErrorKind::IsADirectory => None,
        Err(e) => return Err(x.fail(e)),
    };
    let found = match &file {
        Some(file) => Found { metadata: file.metadata().await.map_err(|e| x.fail(e))?, marker: false },
        None if spot.dir.is_none() => return Err(missing(x, &spot).await),
        None => judged(x, &spot, &conditions).await?,
    };
    hold(x, &found, &conditions)?;
    let size = found.size();
    let range = wanted(x, input.range.as_ref(), input.part_number, size)?;
    let kept = kept_of(&spot, &found);
    let mut output = described!(GetObjectOutput, found, &kept, range.as_ref(), size);
    output.body = Some(match file {
        Some(file) => content(file, range.unwrap_or(0..size)),
        None => StreamingBlob::from(s3s::Body::empty()),
    });
    Ok(S3Response::with_headers(output, headers))
}

fn content(file: Arc<SessionFile>, range: Bytes<u64>) -> StreamingBlob {
    let body = send(file, VecDeque::from([Part::Content(range)]), ());
    StreamingBlob::from(s3s::Body::http_body_unsync(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn tags_come_before_times() {
        let tag = |t: &str| ETagCondition::parse_http_header(t.as_bytes()).unwrap();
        let (same, other, any) = (tag("\"a\""), tag("\"b\""), tag("*"));
        let at = |s| Timestamp::from(UNIX_EPOCH + Duration::from_secs(s));
        let (before, then) = (at(784_111_776), at(784_111_777));
        let modified = Some(UNIX_EPOCH + Duration::from_millis(784_111_777_500));
        let none = || Conditions {
            if_match: None,
            if_none_match: None,
            if_modified_since: None,
            if_unmodified_since: None,
        };
        for (c, verdict) in [
            (none(), Verdict::Go),
            (Conditions { if_match: Some(&same), if_unmodified_since: Some(&before), ..none() }, Verdict::Go),
            (Conditions { if_match: Some(&any), ..none() }, Verdict::Go),
            (Conditions { if_match: Some(&other), ..none() }, Verdict::Failed),
            (Conditions { if_unmodified_since: Some(&before), ..none() }, Verdict::Failed),
            (Conditions { if_unmodified_since: Some(&then), ..none() }, Verdict::Go),
            (Conditions { if_none_match: Some(&same), ..none() }, Verdict::NotModified),
            (Conditions { if_none_match: Some(&any), ..none() }, Verdict::NotModified),
            (
                Conditions { if_none_match: Some(&other), if_modified_since: Some(&then), ..none() },
                Verdict::Go,
            ),
            (Conditions { if_modified_since: Some(&then), ..none() }, Verdict::NotModified),
            (Conditions { if_modified_since: Some(&before), ..none() }, Verdict::Go),
        ] {
            assert_eq!(c.judge("a", modified), verdict);
        }
    }
}
