//! DeleteObject and DeleteObjects. What is not there is removed already.
//!
//! A directory that was made only to hold objects goes with the last of them.

use std::collections::BTreeSet;

use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow, ListOptions};
use session_core::gate::SessionFs;
use session_core::path::VPath;

use super::exchange::{Exchange, refuse, said};
use super::object::{Spot, implied, is_bucket, is_implied, is_nothing, look};
use super::write::judge;

/// The most objects of one request.
const MOST: usize = 1000;

/// Removes an object; `false` where there was none. Errors: those of the gate, but for what means that nothing is there.
async fn remove(fs: &SessionFs, spot: &Spot) -> Result<bool> {
    // A file of a name that ends in a slash is rare: nobody is asked for its removal where there is none.
    if spot.dir.is_none() || look(fs, &spot.path).await?.is_some() {
        match fs.remove_file(&spot.path).await {
            Ok(()) => return Ok(true),
            Err(e) if is_nothing(e.kind()) || e.kind() == ErrorKind::IsADirectory => {}
            Err(e) => return Err(e),
        }
    }
    let Some(dir) = &spot.dir else { return Ok(false) };
    let there = look(fs, dir).await?.filter(|m| m.is_dir() && !is_implied(m));
    let Some(there) = there else { return Ok(false) };
    if is_empty(fs, dir).await? {
        return match fs.remove_dir(dir).await {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotEmpty) => Ok(true),
            removed => removed.map(|()| true),
        };
    }
    // From now on it is there for what it holds.
    let attributes = implied(fs, dir, true);
    if !attributes.is_empty() && there.properties.is_some() {
        fs.set_attributes(dir, &attributes, Follow::Yes).await?;
    }
    Ok(true)
}

async fn is_empty(fs: &SessionFs, dir: &VPath) -> Result<bool> {
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    Ok(pages.next_page().await?.is_none())
}

/// Removes directories that hold nothing any more and were made for what they held, from `dir` up to the
/// bucket. That it fails is no failure of who removed the object.
async fn tidy(fs: &SessionFs, bucket: &VPath, dir: Option<VPath>) {
    let mut next = dir;
    // A store that keeps no properties knows of none that was.
    while let Some(dir) =
        next.filter(|d| d != bucket && d.starts_with(bucket)).filter(|d| fs.capabilities_at(d).properties)
    {
        let made_for_it =
            matches!(look(fs, &dir).await, Ok(Some(there)) if there.is_dir() && is_implied(&there));
        if !made_for_it || !is_empty(fs, &dir).await.unwrap_or(false) || fs.remove_dir(&dir).await.is_err() {
            return;
        }
        next = dir.parent();
    }
}

/// Removes all that is in a bucket, if it is nothing but directories that were made for objects. False, as soon as
/// there is something else.
pub(super) async fn sweep(fs: &SessionFs, bucket: &VPath) -> Result<bool> {
    let mut to_enter = vec![bucket.clone()];
    let mut dirs = Vec::new();
    while let Some(dir) = to_enter.pop() {
        let options = ListOptions { properties: true, ..ListOptions::default() };
        let mut pages = fs.list(&dir, &options).await?;
        while let Some(page) = pages.next_page().await? {
            for entry in page {
                if !entry.metadata.is_dir() || !is_implied(&entry.metadata) {
                    return Ok(false);
                }
                to_enter.push(dir.join(&entry.name)?);
            }
        }
        if dir != *bucket {
            dirs.push(dir);
        }
    }
    // Those below come after those above.
    for dir in dirs.iter().rev() {
        fs.remove_dir(dir).await?;
    }
    Ok(true)
}

/// The directory that an object is in, as far as nothing but it need be there.
fn above(spot: &Spot) -> Option<VPath> {
    match &spot.dir {
        Some(dir) => dir.parent(),
        None => spot.path.parent(),
    }
}

pub(super) async fn one(
    x: &Exchange,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = req.input;
    let fs = x.fs()?;
    let spot = Spot::of(&input.bucket, &input.key).map_err(|e| x.fail(e))?;
    if let Some(condition) = &input.if_match {
        is_bucket(fs, &spot.bucket).await.map_err(|e| x.fail_bucket(e))?;
        let there = spot.find(fs).await.map_err(|e| x.fail(e))?;
        judge(x, there.as_ref(), Some(condition), None)?;
    }
    if !remove(fs, &spot).await.map_err(|e| x.fail(e))? {
        is_bucket(fs, &spot.bucket).await.map_err(|e| x.fail_bucket(e))?;
    }
    tidy(fs, &spot.bucket, above(&spot)).await;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(super) async fn many(
    x: &Exchange,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let input = req.input;
    let fs = x.fs()?;
    if input.delete.objects.len() > MOST {
        return Err(refuse(S3ErrorCode::MalformedXML, "a request removes a thousand objects at most"));
    }
    let bucket = super::buckets::at(x, &input.bucket)?;
    is_bucket(fs, &bucket).await.map_err(|e| x.fail_bucket(e))?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    let mut emptied = BTreeSet::new();
    let quiet = input.delete.quiet == Some(true);
    for object in input.delete.objects {
        let removed = async {
            let spot = Spot::of(&input.bucket, &object.key)?;
            if let Some(ETag::Strong(tag) | ETag::Weak(tag)) = &object.e_tag {
                let there = spot.find(fs).await?;
                if there.is_none_or(|t| t.etag() != *tag) {
                    return Err(Error::new(ErrorKind::PreconditionFailed));
                }
            }
            remove(fs, &spot).await?;
            emptied.extend(above(&spot));
            Ok(())
        };
        match removed.await {
            Ok(()) if quiet => {}
            Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() }),
            // A session that was cut removes nothing more.
            Err(e) if matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Unauthenticated) => {
                return Err(x.fail(e));
            }
            Err(e) => {
                let told = said(&e);
                errors.push(s3s::dto::Error {
                    code: Some(told.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: told.message().map(str::to_owned),
                    ..s3s::dto::Error::default()
                });
            }
        }
    }
    // The deepest first, so that what holds them is looked at when they are gone.
    for dir in emptied.into_iter().rev() {
        tidy(fs, &bucket, Some(dir)).await;
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}
