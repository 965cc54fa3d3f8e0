//! Buckets: the directories of the root.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
    DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
    Timestamp,
};
use s3s::{S3Request, S3Response, S3Result};
use session_core::error::ErrorKind;
use session_core::fs::{Filesystem as _, ListOptions, Order};
use session_core::metadata::Attributes;
use session_core::path::VPath;

use super::exchange::Exchange;
use super::object::is_bucket;
use crate::keyspace::is_bucket_name;

/// The path of a bucket. Errors: as the client is told.
pub(super) fn at(x: &Exchange, bucket: &str) -> S3Result<VPath> {
    VPath::root().join(bucket).map_err(|e| x.fail_bucket(e))
}

/// Whose everything is.
pub(super) fn owner(x: &Exchange) -> Option<Owner> {
    let identity = x.client()?.session.identity()?;
    let name = identity.account().name.to_string();
    Some(Owner { display_name: Some(name.clone()), id: Some(name) })
}

pub(super) async fn list(
    x: &Exchange,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let fs = x.fs()?;
    let prefix = req.input.prefix.unwrap_or_default();
    let options = ListOptions { order: Order::Name, ..ListOptions::default() };
    let mut pages = fs.list(&VPath::root(), &options).await.map_err(|e| x.fail(e))?;
    let mut buckets = Vec::new();
    while let Some(page) = pages.next_page().await.map_err(|e| x.fail(e))? {
        for entry in page.into_iter().filter(|e| e.metadata.is_dir()) {
            // Other directories cannot be asked for, whatever they hold.
            let name = std::str::from_utf8(&entry.name).ok().filter(|n| is_bucket_name(n));
            let Some(name) = name.filter(|n| n.starts_with(&prefix)) else { continue };
            let made = entry.metadata.created.or(entry.metadata.modified);
            buckets.push(Bucket {
                name: Some(name.to_owned()),
                creation_date: made.map(Timestamp::from),
                ..Bucket::default()
            });
        }
    }
    let output =
        ListBucketsOutput { buckets: Some(buckets), owner: owner(x), ..ListBucketsOutput::default() };
    Ok(S3Response::new(output))
}

pub(super) async fn head(
    x: &Exchange,
    req: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    let bucket = at(x, &req.input.bucket)?;
    is_bucket(x.fs()?, &bucket).await.map_err(|e| x.fail_bucket(e))?;
    let mut headers = HeaderMap::new();
    if let Ok(region) = HeaderValue::from_str(&x.options().region) {
        headers.insert(HeaderName::from_static("x-amz-bucket-region"), region);
    }
    Ok(S3Response::with_headers(HeadBucketOutput::default(), headers))
}

pub(super) async fn location(
    x: &Exchange,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let bucket = at(x, &req.input.bucket)?;
    is_bucket(x.fs()?, &bucket).await.map_err(|e| x.fail_bucket(e))?;
    let region = &x.options().region;
    // The oldest region has no name here.
    let named = (region != "us-east-1").then(|| BucketLocationConstraint::from(region.clone()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: named }))
}

pub(super) async fn versioning(
    x: &Exchange,
    req: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let bucket = at(x, &req.input.bucket)?;
    is_bucket(x.fs()?, &bucket).await.map_err(|e| x.fail_bucket(e))?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub(super) async fn create(
    x: &Exchange,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let bucket = at(x, &req.input.bucket)?;
    x.fs()?.create_dir(&bucket, &Attributes::none()).await.map_err(|e| x.fail_bucket(e))?;
    let location = Some(format!("/{}", req.input.bucket));
    Ok(S3Response::new(CreateBucketOutput { location }))
}

pub(super) async fn delete(
    x: &Exchange,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let bucket = at(x, &req.input.bucket)?;
    let fs = x.fs()?;
    let mut removed = fs.remove_dir(&bucket).await;
    // What uploads that came to nothing have left is nobody's.
    if removed.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotEmpty)
        && super::remove::sweep(fs, &bucket).await.map_err(|e| x.fail(e))?
    {
        removed = fs.remove_dir(&bucket).await;
    }
    removed.map_err(|e| match e.kind() {
        ErrorKind::NotEmpty => x.fail_as(e, 409, "BucketNotEmpty"),
        _ => x.fail_bucket(e),
    })?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}
