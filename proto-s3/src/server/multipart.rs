//! Multipart uploads: begun, filled part by part, published once (see `uploads` for how parts are kept).

use bytes::BytesMut;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CopyPartResult, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ETag, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Part as ListedPart, StorageClass, Timestamp,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{CommitOptions, File as _, Filesystem as _, OpenOptions};
use session_core::gate::SessionFile;
use session_core::metadata::Attributes;
use session_core::net::http::Client;
use std::sync::Arc;

use super::buckets;
use super::copy::{self, Source};
use super::digest::{Digest, hex, sums};
use super::exchange::{Exchange, refuse};
use super::object::{Spot, Stamp, is_bucket};
use super::options::S3ServerOptions;
use super::uploads::{Begun, Multipart, Owner, Part, Uploads, new_id};
use super::write::{Upload, complete, demands, judge, kept, open, receive, too_large, whole};

/// The most parts, and the largest one.
const MOST: i32 = 10_000;
const LARGEST: u64 = 5 << 30;
/// The most entries of a listing.
const LISTED: i32 = 1000;
/// How much is moved at once.
const PIECE: usize = 256 * 1024;

async fn uploads(x: &Exchange) -> Arc<Uploads> {
    let all: Arc<Uploads> = x.service.sessions.shared();
    if let Some(folder) = &x.options().uploads_at {
        all.load(folder, x.options().upload_time).await;
    }
    all
}

fn client(x: &Exchange) -> S3Result<&Arc<Client>> {
    x.client().ok_or_else(|| refuse(S3ErrorCode::InternalError, "nobody has logged in"))
}

fn owner(x: &Exchange) -> S3Result<Owner> {
    let session = &client(x)?.session;
    let nobody = || refuse(S3ErrorCode::InternalError, "nobody has logged in");
    let identity = session.identity().ok_or_else(nobody)?;
    let account = identity.account();
    let own = account.shared || account.anonymous;
    Ok(Owner {
        site: x.service.site.name(),
        account: Arc::clone(&account.name),
        session: own.then(|| session.id().as_str().to_owned()),
    })
}

fn none(x: &Exchange) -> S3Error {
    let e = Error::new(ErrorKind::NotFound).with_detail("there is no such upload; it may be over");
    x.fail_as(e, 404, "NoSuchUpload")
}

async fn find(x: &Exchange, id: &str, bucket: &str, key: &str) -> S3Result<Arc<Multipart>> {
    uploads(x).await.find(id, &owner(x)?, bucket, key).ok_or_else(|| none(x))
}

/// The file of an upload, opened again in this session where the one that had it is over; `None` where the store has
/// it no more.
async fn reopened(x: &Exchange, upload: &Multipart) -> S3Result<Option<Arc<SessionFile>>> {
    let _alone = upload.opening.lock().await;
    if let Some(file) = upload.opened() {
        return Ok(Some(file));
    }
    let id: Arc<str> = upload.id.as_str().into();
    let options = OpenOptions { apart: true, unfinished: Some(Arc::clone(&id)), ..OpenOptions::update() };
    let file = match x.fs()?.open_file(&upload.spot.path, &options).await {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|e| x.fail_write(e))?,
    };
    // Where nothing is staged any more, what was opened is the object that stands there.
    let kept = file.keep().await.map_err(|e| x.fail(e))?;
    if kept.is_none_or(|kept| kept.words != id) {
        return Ok(None);
    }
    upload.goes_on(&file, client(x)?);
    Ok(Some(file))
}

/// The same for whoever needs it. Errors: `NoSuchUpload`, and then nobody finds it any more.
async fn file(x: &Exchange, upload: &Multipart) -> S3Result<Arc<SessionFile>> {
    if let Some(file) = reopened(x, upload).await? {
        return Ok(file);
    }
    uploads(x).await.over(upload, None);
    Err(none(x))
}

pub(super) async fn create(
    x: &Exchange,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = req.input;
    demands!(input)?;
    let fs = x.fs()?;
    let spot = Spot::of(&input.bucket, &input.key).map_err(|e| x.fail(e))?;
    let kept = kept!(input);
    if kept.is_too_large() {
        return Err(too_large());
    }
    let there = spot.find(fs).await.map_err(|e| x.fail(e))?.filter(|t| !t.marker);
    let id = new_id().map_err(|e| x.fail(e))?;
    // Parts that do not stand in order are read to put them in order.
    let lasting = Some(id.as_str().into());
    let options = OpenOptions { read: true, lasting, ..whole(None, there.as_ref(), None, None) };
    let mut file = Upload::new(open(x, &spot, &options).await?);
    // A store may keep it by other words, for who sends all of it again.
    let kept_by = file.file()?.keep().await.map_err(|e| x.fail(e))?;
    let begun = Begun {
        lasts: kept_by.is_some_and(|by| *by.words == *id),
        id,
        owner: owner(x)?,
        bucket: input.bucket.clone(),
        key: input.key.clone(),
        ordered: !fs.capabilities_at(&spot.path).random_write,
        spot,
        kept,
        file: Arc::clone(file.file()?),
        client: Arc::clone(client(x)?),
    };
    let S3ServerOptions { uploads_at, upload_time, max_uploads, .. } = x.options();
    let all = uploads(x).await;
    let upload = all.begin(begun, uploads_at.as_deref(), *upload_time, *max_uploads).await;
    let upload = upload.map_err(|e| x.fail(e))?;
    file.keep();
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload.id.clone()),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: input.checksum_type,
        ..CreateMultipartUploadOutput::default()
    }))
}

/// Errors: `InvalidArgument` for a number that no part has.
fn number(number: i32) -> S3Result<i32> {
    if (1..=MOST).contains(&number) {
        return Ok(number);
    }
    Err(refuse(S3ErrorCode::InvalidArgument, "parts have numbers from 1 to 10,000"))
}

pub(super) async fn part(
    x: &Exchange,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = req.input;
    let number = number(input.part_number)?;
    let upload = find(x, &input.upload_id, &input.bucket, &input.key).await?;
    let Some(size) = input.content_length.and_then(|n| u64::try_from(n).ok()) else {
        return Err(refuse(S3ErrorCode::MissingContentLength, "the size of a part is to be known before it"));
    };
    if size > LARGEST {
        return Err(refuse(S3ErrorCode::EntityTooLarge, "a part has 5 GiB at most"));
    }
    let mut digest =
        Digest::new(input.content_md5.as_deref(), sums!(input), &req.headers, req.trailing_headers)?;
    let file = file(x, &upload).await?;
    let turn = upload.turn(number, size, x.options().data_time).await.map_err(|e| failed(x, e))?;
    let landing = Landing { upload: &upload, number, part: None };
    let came = receive(x, input.body, &file, turn.at, &mut digest).await?;
    complete(x, came, input.content_length)?;
    let (md5, sums) = digest.finish()?;
    let modified = x.fs()?.session().now();
    let part = Part { at: turn.at, size: came, md5, sums: sums.clone(), modified, former: false };
    landing.lands(part).await.map_err(|e| x.fail(e))?;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(ETag::Strong(hex(&md5))),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..UploadPartOutput::default()
    }))
}

/// An upload that is over is no missing object.
fn failed(x: &Exchange, e: Error) -> S3Error {
    if e.kind() == ErrorKind::NotFound { none(x) } else { x.fail(e) }
}

/// A part on its way: whatever way it ends, those that wait for it hear of it.
struct Landing<'a> {
    upload: &'a Multipart,
    number: i32,
    part: Option<Part>,
}

impl Landing<'_> {
    /// It has arrived, and is written down before its client hears of it. Errors: those of the disk.
    async fn lands(mut self, part: Part) -> session_core::error::Result<()> {
        self.upload.keep(self.number, &part).await?;
        self.part = Some(part);
        Ok(())
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.upload.arrived(self.number, self.part.take());
    }
}

pub(super) async fn part_copy(
    x: &Exchange,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = req.input;
    let number = number(input.part_number)?;
    let upload = find(x, &input.upload_id, &input.bucket, &input.key).await?;
    let source = Source::open(x, &input.copy_source, &copy::conditions!(input)).await?;
    let range = match input.copy_source_range.as_deref() {
        Some(text) => copy::range(x, text, source.size)?,
        None => 0..source.size,
    };
    if range.end - range.start > LARGEST {
        return Err(refuse(S3ErrorCode::EntityTooLarge, "a part has 5 GiB at most"));
    }
    let size = range.end - range.start;
    let target = file(x, &upload).await?;
    let turn = upload.turn(number, size, x.options().data_time).await.map_err(|e| failed(x, e))?;
    let landing = Landing { upload: &upload, number, part: None };
    let mut digest = Digest::new(None, s3s::dto::Checksum::default(), &hyper::HeaderMap::new(), None)?;
    if let Some(file) = &source.file {
        let to = (&target, turn.at);
        move_content(file, range, to, |piece| digest.update(piece)).await.map_err(|e| x.fail(e))?;
    }
    let (md5, sums) = digest.finish()?;
    let modified = x.fs()?.session().now();
    let part = Part { at: turn.at, size, md5, sums, modified, former: false };
    landing.lands(part).await.map_err(|e| x.fail(e))?;
    let result = CopyPartResult {
        e_tag: Some(ETag::Strong(hex(&md5))),
        last_modified: Some(Timestamp::from(modified)),
        ..CopyPartResult::default()
    };
    let output = UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() };
    Ok(S3Response::new(output))
}

/// Moves a range of one file into another. Errors: `Corrupt` where the source became shorter.
pub(super) async fn move_content(
    from: &Arc<SessionFile>,
    range: std::ops::Range<u64>,
    (to, at): (&Arc<SessionFile>, u64),
    mut seen: impl FnMut(&[u8]) + Send,
) -> session_core::error::Result<()> {
    let (mut from_at, mut to_at) = (range.start, at);
    while from_at < range.end {
        let want = usize::try_from(range.end - from_at).unwrap_or(PIECE).min(PIECE);
        let piece = from.read_into(from_at, want, BytesMut::with_capacity(want)).await?.freeze();
        if piece.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt).with_detail("the source became shorter meanwhile"));
        }
        seen(&piece);
        let n = piece.len() as u64;
        to.write_at(to_at, piece).await?;
        (from_at, to_at) = (from_at + n, to_at + n);
    }
    Ok(())
}

/// The parts that a client names, in order, each the one that it means.
fn chosen(upload: &Multipart, named: &[CompletedPart]) -> S3Result<Vec<(i32, Part)>> {
    let invalid = || refuse(S3ErrorCode::InvalidPart, "a part is not there, or is not the one that is named");
    if named.is_empty() {
        return Err(refuse(S3ErrorCode::MalformedXML, "an upload has one part at least"));
    }
    let there = upload.parts();
    let mut before = 0;
    let mut parts = Vec::with_capacity(named.len());
    for name in named {
        let number = name.part_number.ok_or_else(invalid)?;
        if number <= before {
            return Err(refuse(
                S3ErrorCode::InvalidPartOrder,
                "parts are named in the order of their numbers",
            ));
        }
        before = number;
        let part = there.get(&number).ok_or_else(invalid)?;
        if name.e_tag.as_ref().is_some_and(|tag| tag.value() != hex(&part.md5)) {
            return Err(invalid());
        }
        let differs =
            |named: &Option<String>, is: &Option<String>| named.is_some() && is.is_some() && named != is;
        let s = &part.sums;
        if differs(&name.checksum_crc32, &s.checksum_crc32)
            || differs(&name.checksum_crc32c, &s.checksum_crc32c)
            || differs(&name.checksum_crc64nvme, &s.checksum_crc64nvme)
            || differs(&name.checksum_sha1, &s.checksum_sha1)
            || differs(&name.checksum_sha256, &s.checksum_sha256)
        {
            return Err(invalid());
        }
        parts.push((number, part.clone()));
    }
    Ok(parts)
}

/// The MD5 of the MD5s of the parts, and how many there are.
fn tag_of(parts: &[(i32, Part)]) -> String {
    let mut md5 = Md5::new();
    parts.iter().for_each(|(_, p)| md5.update(&p.md5));
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

pub(super) async fn finish(
    x: &Exchange,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = req.input;
    let all = uploads(x).await;
    let output = |etag: String| CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        e_tag: Some(ETag::Strong(etag)),
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        ..CompleteMultipartUploadOutput::default()
    };
    let Some(upload) = all.find(&input.upload_id, &owner(x)?, &input.bucket, &input.key) else {
        // Its client did not hear that it was published.
        return match all.published(&input.upload_id, &owner(x)?) {
            Some(etag) => Ok(S3Response::new(output(etag))),
            None => Err(none(x)),
        };
    };
    let fs = x.fs()?;
    let there = upload.spot.find(fs).await.map_err(|e| x.fail(e))?;
    judge(x, there.as_ref(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let named = input.multipart_upload.as_ref().and_then(|m| m.parts.as_deref()).unwrap_or_default();
    let parts = chosen(&upload, named)?;
    let size: u64 = parts.iter().map(|(_, p)| p.size).sum();
    if input.mpu_object_size.is_some_and(|n| u64::try_from(n).ok() != Some(size)) {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "the parts do not come to the size that was announced",
        ));
    }
    if !upload.end() {
        let e = Error::new(ErrorKind::Locked).with_detail("the upload is being completed already");
        return Err(x.fail(e));
    }
    let ending = Ending { all: &all, upload: &upload, etag: None, over: false };
    let published = publish(x, &upload, &parts, size, &sums!(input), ending).await?;
    Ok(S3Response::new(output(published)))
}

/// An upload that is being published: whatever way that ends, it is over or may be completed again.
struct Ending<'a> {
    all: &'a Uploads,
    upload: &'a Multipart,
    etag: Option<String>,
    over: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.over || self.etag.is_some() {
            self.all.over(self.upload, self.etag.as_deref());
        } else {
            self.upload.again();
        }
    }
}

async fn publish(
    x: &Exchange,
    upload: &Multipart,
    parts: &[(i32, Part)],
    size: u64,
    wanted: &s3s::dto::Checksum,
    mut ending: Ending<'_>,
) -> S3Result<String> {
    let mut at = 0;
    let mut in_order = true;
    for (_, part) in parts {
        in_order &= part.at == at;
        at += part.size;
    }
    let tag = tag_of(parts);
    // What it replaces may be another since it was begun.
    let fs = x.fs()?;
    let there = upload.spot.find(fs).await.map_err(|e| x.fail(e))?.filter(|t| !t.marker);
    let Some(file) = &reopened(x, upload).await? else {
        ending.over = true;
        // A server that was killed may have published it and told nobody.
        if there.is_some_and(|there| there.etag() == tag) {
            ending.etag = Some(tag.clone());
            return Ok(tag);
        }
        return Err(none(x));
    };
    prove(x, upload, file, parts).await?;
    let stamp = Stamp::new(fs, &upload.spot.path);
    let attributes = stamp.attributes(&upload.kept, &tag, size, there.as_ref().map(|t| &t.metadata));
    let options = CommitOptions { expected_size: Some(size), attributes };
    if in_order {
        if file.metadata().await.map_err(|e| x.fail(e))?.size != size {
            file.set_attributes(&Attributes::size(size)).await.map_err(|e| x.fail(e))?;
        }
        verify(x, file, size, wanted).await?;
        let committed = file.commit(&options).await;
        let published = committed.map_err(|e| {
            // A verdict against the content has thrown it away.
            let is_fault = matches!(
                e.kind(),
                ErrorKind::Canceled | ErrorKind::Disconnected | ErrorKind::NoSpace | ErrorKind::TimedOut
            );
            ending.over = !is_fault;
            x.fail_write(e)
        })?;
        ending.etag = Some(stamp.etag(&tag, size, &published));
    } else {
        let whole = whole(Some(size), None, None, None);
        let whole = OpenOptions { read: true, ..whole };
        let mut ordered = Upload::new(open(x, &upload.spot, &whole).await?);
        let mut at = 0;
        for (_, part) in parts {
            let to = (ordered.file()?, at);
            let range = part.at..part.at + part.size;
            move_content(file, range, to, |_| ()).await.map_err(|e| x.fail(e))?;
            at += part.size;
        }
        verify(x, ordered.file()?, size, wanted).await?;
        let published = ordered.publish(&options).await.map_err(|e| x.fail_write(e))?;
        ending.etag = Some(stamp.etag(&tag, size, &published));
        let _ = file.abort().await;
    }
    Ok(ending.etag.clone().unwrap_or_default())
}

/// Parts that a former run took are still what it took: a power cut may have kept less of them than of what is known
/// of them. Errors: `InvalidPart`, and then that part has to come again.
async fn prove(
    x: &Exchange,
    upload: &Multipart,
    file: &Arc<SessionFile>,
    parts: &[(i32, Part)],
) -> S3Result<()> {
    for (number, part) in parts.iter().filter(|(_, part)| part.former) {
        let mut md5 = Md5::new();
        let range = part.at..part.at + part.size;
        let read = each_piece(file, range, |piece| md5.update(piece)).await;
        if read.as_ref().is_err_and(|e| e.kind() != ErrorKind::Corrupt) {
            return read.map_err(|e| x.fail(e));
        }
        if read.is_err() || md5.finalize() != part.md5 {
            upload.drop_part(*number).await.map_err(|e| x.fail(e))?;
            let words = "a part was lost when the server was cut off: send it again";
            return Err(refuse(S3ErrorCode::InvalidPart, words));
        }
    }
    Ok(())
}

/// The whole must come to what the client says of it, if it says so. A digest of parts' digests says nothing that
/// the parts have not said.
async fn verify(
    x: &Exchange,
    file: &Arc<SessionFile>,
    size: u64,
    wanted: &s3s::dto::Checksum,
) -> S3Result<()> {
    let whole = |sum: &Option<String>| sum.clone().filter(|s| !s.contains('-'));
    let wanted = s3s::dto::Checksum {
        checksum_crc32: whole(&wanted.checksum_crc32),
        checksum_crc32c: whole(&wanted.checksum_crc32c),
        checksum_crc64nvme: whole(&wanted.checksum_crc64nvme),
        checksum_sha1: whole(&wanted.checksum_sha1),
        checksum_sha256: whole(&wanted.checksum_sha256),
        ..s3s::dto::Checksum::default()
    };
    if wanted == s3s::dto::Checksum::default() {
        return Ok(());
    }
    let mut digest = Digest::new(None, wanted, &hyper::HeaderMap::new(), None)?;
    each_piece(file, 0..size, |piece| digest.update(piece)).await.map_err(|e| x.fail(e))?;
    digest.finish().map(|_| ())
}

/// Reads a range. Errors: `Corrupt` where the file is shorter.
async fn each_piece(
    file: &Arc<SessionFile>,
    range: std::ops::Range<u64>,
    mut seen: impl FnMut(&[u8]) + Send,
) -> session_core::error::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
        let piece = file.read_into(at, want, BytesMut::with_capacity(want)).await?;
        if piece.is_empty() {
            return Err(ErrorKind::Corrupt.into());
        }
        seen(&piece);
        at += piece.len() as u64;
    }
    Ok(())
}

pub(super) async fn abort(
    x: &Exchange,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = req.input;
    let upload = find(x, &input.upload_id, &input.bucket, &input.key).await?;
    let file = file(x, &upload).await?;
    if !upload.end() {
        return Err(none(x));
    }
    uploads(x).await.over(&upload, None);
    match file.abort().await {
        Err(e) if e.kind() != ErrorKind::Closed => Err(x.fail(e)),
        _ => Ok(S3Response::new(AbortMultipartUploadOutput::default())),
    }
}

fn initiator(x: &Exchange) -> Option<Initiator> {
    buckets::owner(x).map(|o| Initiator { display_name: o.display_name, id: o.id })
}

fn standard() -> Option<StorageClass> {
    Some(StorageClass::from_static(StorageClass::STANDARD))
}

pub(super) async fn parts(
    x: &Exchange,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let upload = find(x, &input.upload_id, &input.bucket, &input.key).await?;
    let most = input.max_parts.unwrap_or(LISTED).clamp(0, LISTED);
    let after = input.part_number_marker.unwrap_or(0);
    let one = |(number, part): (&i32, &Part)| ListedPart {
        part_number: Some(*number),
        e_tag: Some(ETag::Strong(hex(&part.md5))),
        size: i64::try_from(part.size).ok(),
        last_modified: Some(Timestamp::from(part.modified)),
        checksum_crc32: part.sums.checksum_crc32.clone(),
        checksum_crc32c: part.sums.checksum_crc32c.clone(),
        checksum_crc64nvme: part.sums.checksum_crc64nvme.clone(),
        checksum_sha1: part.sums.checksum_sha1.clone(),
        checksum_sha256: part.sums.checksum_sha256.clone(),
    };
    let all = upload.parts();
    let mut rest = all.range(after.saturating_add(1)..).map(one);
    let parts: Vec<_> = rest.by_ref().take(usize::try_from(most).unwrap_or_default()).collect();
    let more = most > 0 && rest.next().is_some();
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(after),
        next_part_number_marker: parts.last().and_then(|p| p.part_number).filter(|_| more),
        max_parts: Some(most),
        is_truncated: Some(more),
        parts: Some(parts),
        initiator: initiator(x),
        owner: buckets::owner(x),
        storage_class: standard(),
        ..ListPartsOutput::default()
    }))
}

pub(super) async fn list(
    x: &Exchange,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    let bucket = buckets::at(x, &input.bucket)?;
    is_bucket(x.fs()?, &bucket).await.map_err(|e| x.fail_bucket(e))?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let most = usize::try_from(input.max_uploads.unwrap_or(LISTED).clamp(0, LISTED)).unwrap_or_default();
    let (key, id) = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
    let all = uploads(x).await.of(&owner(x)?, &input.bucket);
    // Behind the key, or behind the upload of the key.
    let start = match (&id, all.iter().position(|u| Some(&u.id) == id.as_ref() && u.key == key)) {
        (Some(_), Some(at)) => at + 1,
        _ => all.iter().position(|u| u.key > key).filter(|_| !key.is_empty()).unwrap_or(if key.is_empty() {
            0
        } else {
            all.len()
        }),
    };
    let mut rest = all.iter().skip(start).filter(|u| u.key.starts_with(&prefix));
    let these: Vec<_> = rest.by_ref().take(most).collect();
    let more = most > 0 && rest.next().is_some();
    let last = these.last().filter(|_| more);
    let one = |u: &&Arc<Multipart>| MultipartUpload {
        key: Some(u.key.clone()),
        upload_id: Some(u.id.clone()),
        initiated: Some(Timestamp::from(u.started)),
        initiator: initiator(x),
        owner: buckets::owner(x),
        storage_class: standard(),
        ..MultipartUpload::default()
    };
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix,
        key_marker: input.key_marker,
        upload_id_marker: input.upload_id_marker,
        next_key_marker: last.map(|u| u.key.clone()),
        next_upload_id_marker: last.map(|u| u.id.clone()),
        max_uploads: i32::try_from(most).ok(),
        is_truncated: Some(more),
        uploads: Some(these.iter().map(one).collect()),
        ..ListMultipartUploadsOutput::default()
    }))
}
