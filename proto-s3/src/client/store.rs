//! The store behind a remote: the SDK's clients by region, and the calls that all parts of the remote make.
//!
//! A bucket lies in a region, and AWS answers a request made for another one with the right one: it is
//! remembered, and the request made again, once. So is a request that was signed with a clock that is wrong,
//! which the SDK has seen by then. Nothing else is repeated here.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::RequestPayer;
use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::{FileType, Metadata};
use session_core::path::VPath;

use super::http::Lines;
use super::options::S3ConnectOptions;
use super::refine::{self, Failed};
use super::remove::Removals;
use super::sums::Sums;
use crate::keyspace::Place;

/// Directories without a marker that are remembered.
const IMPLIED: usize = 100_000;
/// How many keys are remembered as what they were a moment ago, and how long.
const RECENT: (usize, Duration) = (250_000, Duration::from_secs(30));

/// What was seen a moment ago, by hash, and since when it is gathered.
struct Recent {
    since: Instant,
    seen: HashSet<u64>,
}

impl Recent {
    fn new() -> Self {
        Recent { since: Instant::now(), seen: HashSet::new() }
    }

    fn add(&mut self, hash: u64) {
        if self.since.elapsed() > RECENT.1 {
            *self = Recent::new();
        }
        if self.seen.len() < RECENT.0 {
            self.seen.insert(hash);
        }
    }

    fn has(&self, hash: u64) -> bool {
        self.seen.contains(&hash) && self.since.elapsed() <= RECENT.1
    }

    /// Forgets it; whether it was there.
    fn take(&mut self, hash: u64) -> bool {
        self.seen.remove(&hash) && self.since.elapsed() <= RECENT.1
    }
}

pub(super) struct Store {
    pub(super) lines: Lines,
    pub(super) options: S3ConnectOptions,
    /// Whether uploads carry checksums of S3's kind.
    pub(super) sums: Sums,
    /// How clients are made, but for the region.
    base: aws_sdk_s3::config::Builder,
    /// The region of buckets of which nothing is known.
    region: Mutex<String>,
    regions: Mutex<HashMap<String, String>>,
    clients: Mutex<HashMap<String, Client>>,
    /// Directories that were seen to be there by what they hold, and not by a marker of their own.
    implied: Mutex<HashSet<(String, String)>>,
    /// Objects that a listing told of.
    listed: Mutex<Recent>,
    /// Paths that were directories, and no objects: it is asked first whether they are that still.
    dirs: Mutex<Recent>,
    hashing: RandomState,
    pub(super) removals: Removals,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub(super) fn new(
        lines: Lines,
        options: S3ConnectOptions,
        base: aws_sdk_s3::config::Builder,
        region: String,
        sums: Sums,
    ) -> Store {
        let removals = Removals::of(&options.lacks);
        Store {
            lines,
            options,
            sums,
            base,
            region: Mutex::new(region),
            regions: Mutex::default(),
            clients: Mutex::default(),
            implied: Mutex::default(),
            listed: Mutex::new(Recent::new()),
            dirs: Mutex::new(Recent::new()),
            hashing: RandomState::new(),
            removals,
        }
    }

    /// The region in which a bucket is taken to lie; without a bucket, the one that new buckets get.
    pub(super) fn region_of(&self, bucket: Option<&str>) -> String {
        let known = bucket.and_then(|b| lock(&self.regions).get(b).cloned());
        known.unwrap_or_else(|| lock(&self.region).clone())
    }

    /// The client for what is asked of this bucket.
    pub(super) fn client(&self, bucket: Option<&str>) -> Client {
        let region = self.region_of(bucket);
        let mut clients = lock(&self.clients);
        clients
            .entry(region.clone())
            .or_insert_with(|| Client::from_conf(self.base.clone().region(Region::new(region)).build()))
            .clone()
    }

    /// Remembers where a bucket lies; `false` if that was known.
    fn learn(&self, bucket: Option<&str>, region: String) -> bool {
        if self.region_of(bucket) == region {
            return false;
        }
        match bucket {
            Some(bucket) => {
                lock(&self.regions).insert(bucket.to_owned(), region);
            }
            None => *lock(&self.region) = region,
        }
        true
    }

    /// Calls an operation on this bucket, where it lies. Errors: those of the store, as kinds.
    pub(super) async fn call<T, E, F>(
        &self,
        bucket: Option<&str>,
        operation: impl Fn(Client) -> F + Send,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = std::result::Result<T, Failed<E>>> + Send,
    {
        let e = match operation(self.client(bucket)).await {
            Ok(done) => return Ok(done),
            Err(e) => e,
        };
        let moved = refine::region_told(&e).is_some_and(|region| self.learn(bucket, region));
        if moved || refine::is_skew(&e) {
            return operation(self.client(bucket)).await.map_err(refine::error);
        }
        Err(refine::error(e))
    }

    pub(super) fn payer(&self) -> Option<RequestPayer> {
        self.options.requester_pays.then_some(RequestPayer::Requester)
    }

    /// What the object `key` is. Errors: `NotFound`, also for a marker of a directory.
    pub(super) async fn head(&self, bucket: &str, key: &str) -> Result<Metadata> {
        if key.is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        let told = self
            .call(Some(bucket), |c| {
                c.head_object().bucket(bucket).key(key).set_request_payer(self.payer()).send()
            })
            .await?;
        let size = size_of(told.content_length())?;
        if key.ends_with('/') && size == 0 {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(object(size, told.last_modified(), told.e_tag()))
    }

    /// Up to two keys that begin with `prefix`.
    pub(super) async fn some_under(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let told = self
            .call(Some(bucket), |c| {
                c.list_objects_v2()
                    .bucket(bucket)
                    .prefix(prefix)
                    .max_keys(2)
                    .encoding_type(aws_sdk_s3::types::EncodingType::Url)
                    .set_request_payer(self.payer())
                    .send()
            })
            .await?;
        let is_encoded = told.encoding_type().is_some();
        told.contents().iter().filter_map(|o| o.key()).map(|k| super::list::decoded(k, is_encoded)).collect()
    }

    /// Whether there is a directory at `place`.
    pub(super) async fn is_dir(&self, place: &Place) -> Result<bool> {
        match place {
            Place::Root => Ok(true),
            Place::Bucket(bucket) => match self.head_bucket(bucket).await {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
                Err(e) => Err(e),
            },
            Place::Object { bucket, .. } => Ok(!self.some_under(bucket, &place.prefix()).await?.is_empty()),
        }
    }

    /// Makes sure of a bucket. One that may not be looked at is there all the same.
    pub(super) async fn head_bucket(&self, bucket: &str) -> Result<()> {
        match self.call(Some(bucket), |c| c.head_bucket().bucket(bucket).send()).await {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
            done => done.map(drop),
        }
    }

    /// What `path` is: an object, or a directory of objects. Errors: `NotFound`, `PermissionDenied`.
    pub(super) async fn look(&self, path: &VPath) -> Result<Metadata> {
        let place = Place::of(path)?;
        let directory = || Metadata::new(FileType::Directory, 0);
        match &place {
            Place::Root => Ok(directory()),
            Place::Bucket(bucket) => self.head_bucket(bucket).await.map(|()| directory()),
            Place::Object { bucket, key } => {
                let hash = self.hashing.hash_one((bucket, key));
                if lock(&self.dirs).has(hash) {
                    match self.is_dir(&place).await {
                        Ok(true) => return Ok(directory()),
                        _ => lock(&self.dirs).take(hash),
                    };
                }
                let e = match self.head(bucket, key).await {
                    Ok(seen) => return Ok(seen),
                    // Who may list and not look, or the other way round, sees what there is to see.
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => e,
                    Err(e) => return Err(e),
                };
                match self.is_dir(&place).await {
                    Ok(true) => {
                        // One that may not be looked at may be an object all the same.
                        if e.kind() == ErrorKind::NotFound {
                            lock(&self.dirs).add(hash);
                        }
                        Ok(directory())
                    }
                    Ok(false) => Err(e),
                    Err(no) if e.kind() == ErrorKind::NotFound => Err(no),
                    Err(_) => Err(e),
                }
            }
        }
    }

    /// Makes sure that what is put at `path` has a directory to be in. Errors: `NotFound`, `NotADirectory`.
    pub(super) async fn needs_parent(&self, path: &VPath) -> Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        let place = Place::of(&parent)?;
        if self.is_dir(&place).await? {
            return Ok(());
        }
        Err(Error::new(match &place {
            Place::Object { bucket, key } if self.head(bucket, key).await.is_ok() => ErrorKind::NotADirectory,
            _ => ErrorKind::NotFound,
        })
        .with_detail(format!("'{parent}' is no directory")))
    }

    /// Remembers that a listing told of these objects: who removes them next need not look again.
    pub(super) fn saw(&self, bucket: &str, keys: impl Iterator<Item = String>) {
        let mut listed = lock(&self.listed);
        for key in keys {
            listed.add(self.hashing.hash_one((bucket, key.as_str())));
        }
    }

    /// Remembers that there is an object now, which may have been a directory before.
    pub(super) fn made(&self, bucket: &str, key: &str) {
        lock(&self.dirs).take(self.hashing.hash_one((bucket, key)));
    }

    /// Whether a listing told of the object a moment ago; forgets it.
    pub(super) fn was_seen(&self, bucket: &str, key: &str) -> bool {
        lock(&self.listed).take(self.hashing.hash_one((bucket, key)))
    }

    /// Remembers that a directory was seen with or without a marker.
    pub(super) fn saw_dir(&self, bucket: &str, prefix: &str, marked: bool) {
        let mut implied = lock(&self.implied);
        let key = (bucket.to_owned(), prefix.to_owned());
        if marked {
            implied.remove(&key);
        } else if implied.len() < IMPLIED {
            implied.insert(key);
        }
    }

    /// Whether a directory was there by what it held when it was last seen; forgets it.
    pub(super) fn was_implied(&self, bucket: &str, prefix: &str) -> bool {
        lock(&self.implied).remove(&(bucket.to_owned(), prefix.to_owned()))
    }
}

/// What an object is.
pub(super) fn object(size: u64, modified: Option<&DateTime>, etag: Option<&str>) -> Metadata {
    Metadata {
        modified: modified.and_then(time),
        etag: etag.map(bare_etag),
        ..Metadata::new(FileType::File, size)
    }
}

/// A time, in whole seconds: a listing tells more than a look.
pub(super) fn time(at: &DateTime) -> Option<SystemTime> {
    let seconds = at.secs();
    let from = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(from) } else { UNIX_EPOCH.checked_add(from) }
}

pub(super) fn bare_etag(etag: &str) -> std::sync::Arc<str> {
    let etag = etag.trim();
    etag.strip_prefix('"').and_then(|e| e.strip_suffix('"')).unwrap_or(etag).into()
}

/// The condition of an etag.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// A size that a store tells. Errors: `PeerMisbehaved`.
pub(super) fn size_of(told: Option<i64>) -> Result<u64> {
    told.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| {
        Error::new(ErrorKind::PeerMisbehaved).with_detail("the store does not tell the size of an object")
    })
}
