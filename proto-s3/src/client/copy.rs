//! Copies inside the store: the content does not come here.
//!
//! An object of up to 5 GiB is copied in one request, a larger one in parts. The source must be the one that was
//! looked at. What the object is said to be (type, metadata) comes along; class, encryption and ACL are those
//! that this connection asks for, since S3 does not copy them. An object that is copied onto itself has all of it
//! said anew ([`anew`]).

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MetadataDirective};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Replace;
use session_core::metadata::Metadata;
use session_core::path::VPath;

use super::about::{Said, says};
use super::put::{Put, tagging};
use super::refine::as_kind;
use super::remote::object_at;
use super::store::{Store, quoted};
use crate::keyspace::Place;

/// The largest object that one request copies, bytes.
const WHOLE: u64 = 5 << 30;
/// The parts of a larger one, bytes.
const PART: u64 = 512 << 20;
/// Parts that are copied at a time.
const AT_A_TIME: usize = 8;

/// What a path in a header may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Makes sure of what a copy would replace. Errors: `IsADirectory`, `AlreadyExists`, `NotFound` (the parent).
async fn may_go(store: &Store, to: &VPath, (bucket, key): (&str, &str), replace: Replace) -> Result<()> {
    let place = Place::of(to)?;
    let prefix = place.prefix();
    let (seen, below, parent) =
        tokio::join!(store.head(bucket, key), store.some_under(bucket, &prefix), store.needs_parent(to));
    match seen {
        Ok(_) if replace == Replace::No => return Err(ErrorKind::AlreadyExists.into()),
        Ok(_) => return Ok(()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
        Err(e) => return Err(e),
    }
    if !below?.is_empty() {
        return Err(ErrorKind::IsADirectory.into());
    }
    parent
}

/// Whether a directory could go to `to`, if it could be renamed at all. Errors: `NotADirectory`, `NotEmpty`,
/// `AlreadyExists`, `NotFound`.
pub(super) async fn dir_may_go(store: &Store, to: &VPath, replace: Replace) -> Result<()> {
    match store.look(to).await {
        Err(e) if e.kind() == ErrorKind::NotFound => store.needs_parent(to).await,
        Err(e) => Err(e),
        Ok(_) if replace == Replace::No => Err(ErrorKind::AlreadyExists.into()),
        Ok(there) if !there.is_dir() => Err(ErrorKind::NotADirectory.into()),
        Ok(_) => match Place::of(to)? {
            Place::Object { bucket, key } => {
                let prefix = format!("{key}/");
                let below = store.some_under(&bucket, &prefix).await?;
                if below.iter().any(|k| *k != prefix) { Err(ErrorKind::NotEmpty.into()) } else { Ok(()) }
            }
            _ => Err(ErrorKind::NotEmpty.into()),
        },
    }
}

/// Copies the object at `from`, which was seen to be `source`. Errors: those of the target; `NotFound` where the
/// source is gone, `PreconditionFailed` where it has changed.
pub(super) async fn object(
    store: &Store,
    (from, source): (&VPath, &Metadata),
    to: &VPath,
    replace: Replace,
) -> Result<()> {
    let (bucket, key) = object_at(to)?;
    may_go(store, to, (&bucket, &key), replace).await?;
    let (from_bucket, from_key) = object_at(from)?;
    let named = source_name(&from_bucket, &from_key, None);
    let from = (from_bucket.as_str(), from_key.as_str());
    Job { store, from, named, source, to: (&bucket, &key), replace, said: None }.run().await
}

/// Copies the object at `path`, which was seen to be `source`, onto itself, with this said of it and nothing else;
/// its tags stay. Errors: `PreconditionFailed` where it has changed.
pub(super) async fn anew(store: &Store, path: &VPath, source: &Metadata, said: &Said) -> Result<()> {
    let (bucket, key) = object_at(path)?;
    let itself = (bucket.as_str(), key.as_str());
    let named = source_name(&bucket, &key, None);
    let replace = Replace::Yes;
    Job { store, from: itself, named, source, to: itself, replace, said: Some(said) }.run().await
}

struct Job<'a> {
    store: &'a Store,
    from: (&'a str, &'a str),
    /// The source as a header names it.
    named: String,
    source: &'a Metadata,
    to: (&'a str, &'a str),
    replace: Replace,
    /// What is said of the copy, where that is not what is said of the source.
    said: Option<&'a Said>,
}

impl Job<'_> {
    async fn run(self) -> Result<()> {
        match self.said {
            _ if self.source.size > WHOLE => self.in_parts().await,
            Some(said) => self.itself(said).await,
            None => self.whole().await,
        }
    }

    fn condition(&self) -> Option<String> {
        self.source.etag.as_ref().map(|e| quoted(e))
    }

    async fn whole(&self) -> Result<()> {
        let put = &self.store.options.putting;
        let tag = (!put.tags.is_empty()).then(|| put.tagging());
        self.store
            .call(Some(self.to.0), |c| {
                c.copy_object()
                    .bucket(self.to.0)
                    .key(self.to.1)
                    .copy_source(&self.named)
                    .set_copy_source_if_match(self.condition())
                    .set_storage_class(put.class())
                    .set_acl(put.canned())
                    .set_server_side_encryption(put.sse())
                    .set_ssekms_key_id(put.kms_key.clone())
                    .set_tagging_directive(
                        tag.is_some().then_some(aws_sdk_s3::types::TaggingDirective::Replace),
                    )
                    .set_tagging(tag.clone())
                    .set_request_payer(self.store.payer())
                    .send()
            })
            .await
            .map(drop)
    }

    async fn itself(&self, said: &Said) -> Result<()> {
        self.store
            .call(Some(self.to.0), |c| {
                let asked = c
                    .copy_object()
                    .bucket(self.to.0)
                    .key(self.to.1)
                    .copy_source(&self.named)
                    .set_copy_source_if_match(self.condition())
                    .metadata_directive(MetadataDirective::Replace);
                says!(asked, said).set_request_payer(self.store.payer()).send()
            })
            .await
            .map(drop)
    }

    /// What one request would bring along is fetched and told.
    async fn said_of_source(&self) -> Result<Said> {
        let told = self
            .store
            .call(Some(self.from.0), |c| {
                c.head_object()
                    .bucket(self.from.0)
                    .key(self.from.1)
                    .set_if_match(self.condition())
                    .set_request_payer(self.store.payer())
                    .send()
            })
            .await?;
        let put = &self.store.options.putting;
        Ok(Said {
            class: put.class(),
            encryption: put.sse(),
            kms_key: put.kms_key.clone(),
            lock: None,
            locked_until: None,
            hold: None,
            acl: put.canned(),
            ..Said::of(&told)
        })
    }

    /// The tags, which parts do not bring along. Who may not see them copies without; an object keeps its own.
    async fn tags(&self) -> Result<Option<String>> {
        let put = &self.store.options.putting;
        if self.said.is_none() && !put.tags.is_empty() {
            return Ok(Some(put.tagging()));
        }
        match self.store.tags(self.from.0, self.from.1).await {
            Ok(tags) => Ok(Some(tagging(tags.iter())).filter(|t| !t.is_empty())),
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied && self.said.is_none() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn in_parts(&self) -> Result<()> {
        let store = self.store;
        let fetched = match self.said {
            Some(_) => None,
            None => Some(self.said_of_source().await?),
        };
        let Some(said) = self.said.or(fetched.as_ref()) else { return Err(ErrorKind::Internal.into()) };
        let tags = self.tags().await?;
        let begun = store
            .call(Some(self.to.0), |c| {
                let asked = c.create_multipart_upload().bucket(self.to.0).key(self.to.1);
                says!(asked, said).set_tagging(tags.clone()).set_request_payer(store.payer()).send()
            })
            .await?;
        let id = begun.upload_id().ok_or_else(no_id)?.to_owned();
        let done = self.parts(&id).await;
        if done.is_err() {
            let _ = store.abort_upload(self.to.0, self.to.1, &id).await;
        }
        done
    }

    async fn parts(&self, id: &str) -> Result<()> {
        use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
        let size = self.source.size;
        let length = PART.max(size.div_ceil(10_000));
        let count = i32::try_from(size.div_ceil(length)).map_err(|_| ErrorKind::TooLarge)?;
        let parts: Vec<CompletedPart> = iter(1..=count)
            .map(|number| self.part(id, number, length))
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let none = (self.replace == Replace::No).then(|| "*".to_owned());
        self.store
            .call(Some(self.to.0), |c| {
                c.complete_multipart_upload()
                    .bucket(self.to.0)
                    .key(self.to.1)
                    .upload_id(id)
                    .multipart_upload(all.clone())
                    .set_if_none_match(none.clone())
                    .set_request_payer(self.store.payer())
                    .send()
            })
            .await
            .map(drop)
            .map_err(|e| match e.kind() {
                ErrorKind::PreconditionFailed => as_kind(&e, ErrorKind::AlreadyExists),
                _ => e,
            })
    }

    async fn part(&self, id: &str, number: i32, length: u64) -> Result<CompletedPart> {
        let first = u64::try_from(number - 1).unwrap_or_default() * length;
        let last = (first + length).min(self.source.size) - 1;
        let told = self
            .store
            .call(Some(self.to.0), |c| {
                c.upload_part_copy()
                    .bucket(self.to.0)
                    .key(self.to.1)
                    .upload_id(id)
                    .part_number(number)
                    .copy_source(&self.named)
                    .copy_source_range(format!("bytes={first}-{last}"))
                    .set_copy_source_if_match(self.condition())
                    .set_request_payer(self.store.payer())
                    .send()
            })
            .await?;
        let etag = told.copy_part_result().and_then(|r| r.e_tag()).ok_or_else(no_id)?;
        Ok(CompletedPart::builder().part_number(number).e_tag(etag).build())
    }
}

/// An object, or a version of it, as a header names it.
pub(super) fn source_name(bucket: &str, key: &str, version: Option<&str>) -> String {
    let named = format!("{bucket}/{}", utf8_percent_encode(key, PLAIN));
    match version {
        Some(id) => format!("{named}?versionId={}", utf8_percent_encode(id, NON_ALPHANUMERIC)),
        None => named,
    }
}

/// An answer without what it is all about.
pub(super) fn no_id() -> Error {
    Error::new(ErrorKind::PeerMisbehaved).with_detail("the store does not name what it has made")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_so_that_nothing_in_it_means_anything() {
        assert_eq!(source_name("b", "a b/ä?x=%41+#", None), "b/a%20b/%C3%A4%3Fx%3D%2541%2B%23");
        assert_eq!(source_name("b", "a-b_c.d~", Some("v/1")), "b/a-b_c.d~?versionId=v%2F1");
    }
}
