//! Uploads in parts that were begun and neither completed nor given up: they are paid for and seen nowhere else.
//!
//! Reached from the remote alone, not through the filesystem. Whose they are, nobody can tell from here: who throws
//! them away says how old they must be.

use std::time::SystemTime;

use aws_sdk_s3::types::EncodingType;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

use super::list::decoded;
use super::remote::S3Remote;
use super::store::time;
use crate::keyspace::Place;

/// Pages that are read at most: a million uploads.
const PAGES: usize = 1000;

/// An upload that was begun and is not completed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// The bucket.
    pub bucket: String,
    /// The key that its object would have.
    pub key: String,
    /// Its id.
    pub id: String,
    /// When it was begun.
    pub begun: Option<SystemTime>,
}

impl S3Remote {
    /// The uploads to what lies at or below `path`, in the order of keys. Errors: `InvalidArgument` for the root:
    /// each bucket has its own.
    pub async fn uploads(&self, path: &VPath) -> Result<Vec<Pending>> {
        let (bucket, prefix) = match Place::of(path)? {
            Place::Root => {
                return Err(Error::new(ErrorKind::InvalidArgument)
                    .with_detail("uploads are listed by bucket")
                    .with_hint("name one: s3://bucket"));
            }
            Place::Bucket(bucket) => (bucket, String::new()),
            Place::Object { bucket, key } => (bucket, key),
        };
        let store = self.store();
        let (mut all, mut next) = (Vec::new(), (None, None));
        for _ in 0..PAGES {
            let told = store
                .call(Some(&bucket), |c| {
                    let (key_marker, id_marker): (Option<String>, Option<String>) = next.clone();
                    c.list_multipart_uploads()
                        .bucket(&bucket)
                        .prefix(&prefix)
                        .encoding_type(EncodingType::Url)
                        .set_key_marker(key_marker)
                        .set_upload_id_marker(id_marker)
                        .set_request_payer(store.payer())
                        .send()
                })
                .await?;
            let is_encoded = told.encoding_type().is_some();
            for upload in told.uploads() {
                let key = decoded(upload.key().unwrap_or_default(), is_encoded)?;
                // Names that only begin like ours are others'.
                let below = key.strip_prefix(&prefix);
                let ours = below.is_some_and(|r| prefix.is_empty() || r.is_empty() || r.starts_with('/'));
                if let Some(id) = upload.upload_id().filter(|_| ours) {
                    let begun = upload.initiated().and_then(time);
                    all.push(Pending { bucket: bucket.clone(), key, id: id.to_owned(), begun });
                }
            }
            let marker = told.next_key_marker().map(|k| decoded(k, is_encoded)).transpose()?;
            let going = (marker.filter(|k| !k.is_empty()), told.next_upload_id_marker().map(str::to_owned));
            if told.is_truncated() != Some(true) || going.0.is_none() || going == next {
                return Ok(all);
            }
            next = going;
        }
        Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("the store's list of uploads has no end"))
    }

    /// Throws an upload away; one that is not there any more is fine. Errors: those of the store.
    pub async fn abort_upload(&self, upload: &Pending) -> Result<()> {
        self.store().throw_away(&upload.bucket, &upload.key, &upload.id).await
    }
}
