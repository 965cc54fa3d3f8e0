//! What S3 has beside files: older versions of an object, and URLs that others may use for a time.
//!
//! Reached from the remote alone, not through the filesystem. A URL is made here and now, without a request; it
//! does what its maker may do at the time when it is used, and ends with the maker's credentials at the latest.
//!
//! Deliberately absent: removing versions for good.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::EncodingType;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

use super::copy::source_name;
use super::list::decoded;
use super::refine;
use super::remote::{S3Remote, object_at};
use super::store::{bare_etag, size_of, time};

/// The longest time that a URL may hold (Signature Version 4).
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a URL lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presign {
    /// Read the object.
    Get,
    /// Write it.
    Put,
}

/// A version of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Its id; `null` for one from before versions were kept.
    pub id: String,
    /// When it was written.
    pub modified: Option<SystemTime>,
    /// Its size; 0 of a removal.
    pub size: u64,
    /// Its etag; none of a removal.
    pub etag: Option<std::sync::Arc<str>>,
    /// It is what is there now.
    pub latest: bool,
    /// It says that the object was removed.
    pub removed: bool,
}

impl S3Remote {
    /// A URL by which whoever has it may read or write the object at `path` until `expires` has passed. Errors:
    /// `InvalidArgument` (too long, or no time at all), `IsADirectory`, `Unauthenticated` where nobody logs in.
    pub async fn presign(&self, path: &VPath, what: Presign, expires: Duration) -> Result<String> {
        let (bucket, key) = object_at(path)?;
        if expires.is_zero() || expires > LONGEST {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a URL holds for a week at most"));
        }
        if self.methods() == ["none"] {
            return Err(Error::new(ErrorKind::Unauthenticated)
                .with_detail("a URL is signed by somebody, and nobody logs in"));
        }
        let config = PresigningConfig::expires_in(expires)
            .map_err(|e| Error::new(ErrorKind::InvalidArgument).with_source(e))?;
        let store = self.store();
        let client = store.client(Some(&bucket));
        let signed = match what {
            Presign::Get => {
                let asked = client.get_object().bucket(bucket).key(key).set_request_payer(store.payer());
                asked.presigned(config).await.map_err(refine::error)?
            }
            Presign::Put => {
                let asked = client.put_object().bucket(bucket).key(key).set_request_payer(store.payer());
                asked.presigned(config).await.map_err(refine::error)?
            }
        };
        Ok(signed.uri().to_owned())
    }

    /// The versions of the object at `path`, the newest first. A bucket that keeps none has one. Errors:
    /// `NotFound` where there never was such an object.
    pub async fn versions(&self, path: &VPath) -> Result<Vec<Version>> {
        let (bucket, key) = object_at(path)?;
        let store = self.store();
        let (mut all, mut next) = (Vec::new(), (None, None));
        loop {
            let told = store
                .call(Some(&bucket), |c| {
                    let (key_marker, id_marker): (Option<String>, Option<String>) = next.clone();
                    c.list_object_versions()
                        .bucket(&bucket)
                        .prefix(&key)
                        .encoding_type(EncodingType::Url)
                        .set_key_marker(key_marker)
                        .set_version_id_marker(id_marker)
                        .set_request_payer(store.payer())
                        .send()
                })
                .await?;
            let is_encoded = told.encoding_type().is_some();
            let before = all.len();
            // Keys that only begin like ours come behind it.
            let mut behind = false;
            for version in told.versions() {
                if decoded(version.key().unwrap_or_default(), is_encoded)? != key {
                    behind = true;
                    continue;
                }
                all.push(Version {
                    id: version.version_id().unwrap_or("null").to_owned(),
                    modified: version.last_modified().and_then(time),
                    size: size_of(version.size())?,
                    etag: version.e_tag().map(bare_etag),
                    latest: version.is_latest().unwrap_or(false),
                    removed: false,
                });
            }
            for marker in told.delete_markers() {
                if decoded(marker.key().unwrap_or_default(), is_encoded)? != key {
                    behind = true;
                    continue;
                }
                all.push(Version {
                    id: marker.version_id().unwrap_or("null").to_owned(),
                    modified: marker.last_modified().and_then(time),
                    size: 0,
                    etag: None,
                    latest: marker.is_latest().unwrap_or(false),
                    removed: true,
                });
            }
            let key_marker =
                told.next_key_marker().map(|k| decoded(k, is_encoded)).transpose()?.filter(|k| !k.is_empty());
            let goes_on = told.is_truncated() == Some(true) && !(behind && all.len() == before);
            if !goes_on || key_marker.is_none() {
                break;
            }
            next = (key_marker, told.next_version_id_marker().map(str::to_owned));
        }
        if all.is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        all.sort_by(|a, b| b.latest.cmp(&a.latest).then(b.modified.cmp(&a.modified)));
        Ok(all)
    }

    /// Makes an older version of the object at `path` the newest, by a copy; nothing is lost. Objects of up to
    /// 5 GiB. Errors: `NotFound` (no such version), `InvalidArgument` (a removal is no content).
    pub async fn restore(&self, path: &VPath, id: &str) -> Result<()> {
        let (bucket, key) = object_at(path)?;
        let store = self.store();
        let named = source_name(&bucket, &key, Some(id));
        store
            .call(Some(&bucket), |c| {
                c.copy_object()
                    .bucket(&bucket)
                    .key(&key)
                    .copy_source(&named)
                    .set_request_payer(store.payer())
                    .send()
            })
            .await
            .map(drop)
    }
}
