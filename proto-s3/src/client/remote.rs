//! `S3Remote`: the buckets of a store, and their objects, as a [`Filesystem`].
//!
//! The first level of a path is a bucket. A directory is what several keys begin with; one that is made has a
//! marker of its own, an empty object `name/`, and one without a marker is gone with its last object. An object
//! appears as a whole when it is committed. Nothing else in S3 is one step: a rename is a copy and a removal,
//! and of a directory it is `CrossDevice`: whoever renames it copies object by object and sees how far it came.
//! What a file replaces, and whether its directory is there, is looked at first, and may change meanwhile.
//!
//! Deliberately absent: writes other than of whole objects, times, modes, owners, links, staging.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use session_core::batch::Decider;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File, Filesystem, Follow, ListOptions, Listing, OpenOptions, Replace};
use session_core::metadata::{Attributes, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};

use super::copy;
use super::http::{Lines, Way};
use super::list;
use super::login;
use super::options::{S3ConnectOptions, UrlStyle};
use super::read::ReadFile;
use super::refine::as_kind;
use super::remove::remove;
use super::store::Store;
use super::sums::{Sums, calculation};
use super::write::WriteFile;
use crate::keyspace::{MAX_KEY, Place};

/// Where a bucket lies until it says otherwise.
const REGION: &str = "us-east-1";
/// The largest object, bytes.
const MAX_SIZE: u64 = 5 << 40;

/// A store's buckets and objects. Cheap to clone; clones share the connections. Dropping the last one closes
/// them.
#[derive(Clone)]
pub struct S3Remote {
    store: Arc<Store>,
    method: &'static str,
}

impl std::fmt::Debug for S3Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Remote").field("host", &self.store.options.host).finish_non_exhaustive()
    }
}

/// Finds out who signs, connects, makes sure of the store, and learns where the home's bucket lies.
///
/// Errors: `NotFound` (no such host, no such bucket), `Disconnected`, `TimedOut`, `Unauthenticated` (the
/// certificate, with its fingerprint; the credentials), `Refused`, `InvalidArgument` (the options), `InvalidPath`
/// (the home), `PeerMisbehaved`, `Canceled`. Dropping the future gives up.
pub async fn connect(options: S3ConnectOptions, decider: Arc<dyn Decider>) -> Result<S3Remote> {
    let session = match &options.session {
        Some(session) => Arc::clone(session),
        None => Session::new(Setup::new(Protocol::S3, options.host.as_str())),
    };
    let canceled = session.cancel_token().clone();
    let entering = async {
        session.greeted();
        session.authenticating();
        let (dial, tls) = (options.dial(), options.tls.clone());
        let way = Way { dial, tls, timeout: options.timeout, to_store: true };
        let lines = Lines::new(way, session);
        lines.ask(Some(decider));
        let remote = enter(options, lines.clone()).await;
        // Later there is nobody to ask.
        lines.ask(None);
        remote
    };
    tokio::select! {
        biased;
        () = canceled.cancelled() => Err(Error::new(ErrorKind::Canceled)),
        entered = entering => entered,
    }
}

async fn enter(options: S3ConnectOptions, lines: Lines) -> Result<S3Remote> {
    let home = Place::of(&options.home)?;
    let mut region = options.region.clone().or_else(|| options.region_of_host());
    let signed = login::sign(&options, &lines, region.as_deref()).await?;
    let aws = options.is_aws();
    let endpoint = if aws {
        // AWS has an endpoint for each region; another one for all is named by the environment.
        signed.endpoint
    } else {
        let host = options.bare_host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let scheme = if options.secure { "https" } else { "http" };
        let usual = if options.secure { 443 } else { 80 };
        // The usual port is not part of the host that is signed.
        let port = if options.port == usual { String::new() } else { format!(":{}", options.port) };
        Some(format!("{scheme}://{host}{port}"))
    };
    if aws && !options.secure {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("AWS is spoken to over TLS")
            .with_hint("use s3://"));
    }
    region = region.or(signed.region);
    let real_aws = aws && endpoint.is_none();
    let sums = Sums::of(options.checksums, real_aws, &options.lacks, options.learns.clone());
    let path_style = match options.style {
        UrlStyle::Auto => !real_aws,
        UrlStyle::Path => true,
        UrlStyle::Virtual => false,
    };
    let mut base = aws_sdk_s3::config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(lines.clone())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(calculation(sums.are_taken()))
        .response_checksum_validation(match sums.are_taken() {
            true => ResponseChecksumValidation::WhenSupported,
            false => ResponseChecksumValidation::WhenRequired,
        })
        .force_path_style(path_style);
    base = match signed.provider {
        Some(provider) => base.credentials_provider(provider),
        None => base.allow_no_auth(),
    };
    if let Some(endpoint) = endpoint {
        base = base.endpoint_url(endpoint);
    }
    let region = region.unwrap_or_else(|| REGION.to_owned());
    let store = Arc::new(Store::new(lines, options, base, region, sums));
    probe(&store, &home, signed.method == "none").await?;
    Ok(S3Remote { store, method: signed.method })
}

/// Makes sure of the store, by what tells the most: a listing, whose refusal has a body.
async fn probe(store: &Store, home: &Place, anonymous: bool) -> Result<()> {
    let asked = match home {
        Place::Root if anonymous => return Ok(()),
        Place::Root => store.call(None, |c| c.list_buckets().max_buckets(1).send()).await.map(drop),
        Place::Bucket(bucket) | Place::Object { bucket, .. } => store
            .call(Some(bucket), |c| {
                c.list_objects_v2()
                    .bucket(bucket)
                    .prefix(home.prefix())
                    .max_keys(1)
                    .set_request_payer(store.payer())
                    .send()
            })
            .await
            .map(drop),
    };
    match asked {
        // Who may not list may read or write all the same; what is to be made is not there yet.
        Err(e)
            if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
                && e.wire().is_some() =>
        {
            Ok(())
        }
        done => done,
    }
}

impl S3Remote {
    /// Where relative paths begin.
    pub fn home(&self) -> &VPath {
        &self.store.options.home
    }

    /// The session that counts its bytes; cutting it ends every connection at once.
    pub fn session(&self) -> &Arc<Session> {
        self.store.lines.session()
    }

    /// What the login took: `none`, `key`, `environment` or `role`.
    pub fn methods(&self) -> Vec<&'static str> {
        vec![self.method]
    }

    /// How the server names itself.
    pub fn server_version(&self) -> String {
        self.store.lines.server().to_owned()
    }

    /// TLS in words, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`; `None` in the clear.
    pub fn tls_words(&self) -> Option<String> {
        self.store.lines.tls_words().map(str::to_owned)
    }

    /// The region in which the home's bucket lies, as far as is known.
    pub fn region(&self) -> String {
        match Place::of(self.home()) {
            Ok(Place::Bucket(bucket) | Place::Object { bucket, .. }) => self.store.region_of(Some(&bucket)),
            _ => self.store.region_of(None),
        }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Ends every connection and the session. Transfers under way are cut.
    pub async fn close(&self) {
        self.store.lines.close();
        self.session().close(Ending::new("closed", Actor::Client)).await;
    }
}

/// What can be set over this wire: nothing. Errors: `Unsupported`; nothing was sent.
pub(super) fn settable(a: &Attributes) -> Result<()> {
    if a.is_empty() { Ok(()) } else { Err(Error::unsupported(OperationKind::SetAttributes)) }
}

/// The bucket and the key that a file at `path` has. Errors: `IsADirectory` for the root and for buckets,
/// `InvalidPath`.
pub(super) fn object_at(path: &VPath) -> Result<(String, String)> {
    match Place::of(path)? {
        Place::Root | Place::Bucket(_) => Err(ErrorKind::IsADirectory.into()),
        Place::Object { key, .. } if key.is_empty() => Err(ErrorKind::InvalidPath.into()),
        Place::Object { bucket, key } => Ok((bucket, key)),
    }
}

impl Store {
    pub(super) async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        self.call(Some(bucket), |c| {
            c.delete_object().bucket(bucket).key(key).set_request_payer(self.payer()).send()
        })
        .await
        .map(drop)
    }

    async fn make_bucket(&self, bucket: &str) -> Result<()> {
        let region = self.region_of(None);
        // The first region is the one without a name.
        let place = (region != REGION).then(|| {
            let at = BucketLocationConstraint::from(region.as_str());
            CreateBucketConfiguration::builder().location_constraint(at).build()
        });
        let made = self.call(None, |c| {
            c.create_bucket().bucket(bucket).set_create_bucket_configuration(place.clone()).send()
        });
        made.await.map(drop)
    }

    async fn make_marker(&self, bucket: &str, prefix: &str) -> Result<()> {
        self.call(Some(bucket), |c| {
            c.put_object()
                .bucket(bucket)
                .key(prefix)
                .body(ByteStream::from_static(b""))
                .content_type("application/x-directory")
                .set_request_payer(self.payer())
                .send()
        })
        .await?;
        self.saw_dir(bucket, prefix, true);
        Ok(())
    }

    /// What is the matter with `path` that nothing but a directory, or nothing at all, may be at.
    async fn free_for_dir(&self, path: &VPath, bucket: &str, key: &str, prefix: &str) -> Result<()> {
        let (seen, below, parent) =
            tokio::join!(self.head(bucket, key), self.some_under(bucket, prefix), self.needs_parent(path));
        match seen {
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
            Err(e) => return Err(e),
        }
        if !below?.is_empty() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        parent
    }

    async fn remove_prefix(&self, bucket: &str, key: &str, prefix: &str) -> Result<()> {
        let below = self.some_under(bucket, prefix).await?;
        if below.iter().any(|k| k != prefix) {
            return Err(ErrorKind::NotEmpty.into());
        }
        if below.is_empty() {
            // Without a marker it was gone with the last that it held, and that is what is wanted.
            return match self.head(bucket, key).await {
                Ok(_) => Err(ErrorKind::NotADirectory.into()),
                Err(_) if self.was_implied(bucket, prefix) => Ok(()),
                Err(e) => Err(e),
            };
        }
        if self.marker_has_content(bucket, prefix).await? {
            return Err(ErrorKind::NotEmpty.into());
        }
        self.was_implied(bucket, prefix);
        self.delete(bucket, prefix).await
    }

    /// Whether what is called like a directory's marker is an object of its own.
    async fn marker_has_content(&self, bucket: &str, prefix: &str) -> Result<bool> {
        match self.head(bucket, prefix).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

#[async_trait]
impl Filesystem for S3Remote {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            write: true,
            create_dir: true,
            remove: true,
            rename: true,
            rename_replaces: true,
            empty_dirs: true,
            whole_files: true,
            conditional_write: true,
            server_copy: true,
            ordered_list: true,
            precise_errors: true,
            follows_links: true,
            max_name: MAX_KEY,
            max_size: MAX_SIZE,
            ..Capabilities::none()
        }
    }

    async fn stat(&self, path: &VPath, _: Follow) -> Result<Metadata> {
        self.store.look(path).await
    }

    async fn list(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        list::open(Arc::clone(&self.store), Place::of(dir)?, options).await
    }

    async fn open(&self, path: &VPath, options: &OpenOptions) -> Result<Arc<dyn File>> {
        options.check()?;
        if options.write {
            return Ok(WriteFile::open(Arc::clone(&self.store), path, options).await?);
        }
        let (bucket, key) = object_at(path)?;
        let opened: Result<Arc<dyn File>> = if options.size_hint.is_some() && options.if_match.is_none() {
            // Whoever knows the size is going to read all of it.
            ReadFile::begun(Arc::clone(&self.store), (bucket, key)).await.map(|f| f as Arc<dyn File>)
        } else {
            match self.store.head(&bucket, &key).await {
                Ok(known) if options.if_match.is_some() && options.if_match != known.etag => {
                    return Err(Error::new(ErrorKind::PreconditionFailed));
                }
                Ok(known) => Ok(ReadFile::of(Arc::clone(&self.store), (bucket, key), known)),
                Err(e) => Err(e),
            }
        };
        match opened {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                Err(match self.store.is_dir(&Place::of(path)?).await {
                    Ok(true) => ErrorKind::IsADirectory.into(),
                    _ => e,
                })
            }
            opened => opened,
        }
    }

    async fn create_dir(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        settable(attributes)?;
        let place = Place::of(path)?;
        match &place {
            Place::Root => Err(ErrorKind::AlreadyExists.into()),
            Place::Bucket(bucket) => {
                // The first region answers "made" of a bucket that was there.
                if self.store.is_dir(&place).await? {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                self.store.make_bucket(bucket).await
            }
            Place::Object { bucket, key } => {
                let prefix = place.prefix();
                self.store.free_for_dir(path, bucket, key, &prefix).await?;
                self.store.make_marker(bucket, &prefix).await
            }
        }
    }

    async fn remove_file(&self, path: &VPath) -> Result<()> {
        let (bucket, key) = object_at(path)?;
        if self.store.was_seen(&bucket, &key) {
            return remove(&self.store, &bucket, &key).await;
        }
        // A removal of what is not there succeeds.
        match self.store.head(&bucket, &key).await {
            Ok(_) => remove(&self.store, &bucket, &key).await,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(match self.store.is_dir(&Place::of(path)?).await {
                    Ok(true) => ErrorKind::IsADirectory.into(),
                    _ => e,
                })
            }
            Err(e) => Err(e),
        }
    }

    async fn remove_dir(&self, path: &VPath) -> Result<()> {
        let place = Place::of(path)?;
        match &place {
            Place::Root => {
                Err(Error::new(ErrorKind::PermissionDenied).with_detail("the root cannot be removed"))
            }
            Place::Bucket(bucket) => {
                self.store.call(Some(bucket), |c| c.delete_bucket().bucket(bucket).send()).await.map(drop)
            }
            Place::Object { bucket, key } => self.store.remove_prefix(bucket, key, &place.prefix()).await,
        }
    }

    async fn set_attributes(&self, path: &VPath, attributes: &Attributes, _: Follow) -> Result<()> {
        settable(attributes)?;
        self.store.look(path).await.map(drop)
    }

    async fn rename(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        if from.is_root() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the root cannot be moved"));
        }
        if to != from && to.starts_with(from) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a directory moved into itself"));
        }
        let source = self.store.look(from).await?;
        if source.is_dir() {
            copy::dir_may_go(&self.store, to, replace).await?;
            return Err(Error::new(ErrorKind::CrossDevice)
                .with_detail("S3 has no rename of directories: their objects are copied one by one")
                .with_hint("'ferry mv' does that, as a job that can be gone on with"));
        }
        if from == to {
            return if replace == Replace::Yes { Ok(()) } else { Err(ErrorKind::AlreadyExists.into()) };
        }
        let copied = copy::object(&self.store, (from, &source), to, replace).await;
        // Who was faster has taken it away.
        copied.map_err(|e| {
            if e.kind() == ErrorKind::PreconditionFailed { as_kind(&e, ErrorKind::NotFound) } else { e }
        })?;
        let (bucket, key) = object_at(from)?;
        self.store.delete(&bucket, &key).await
    }

    async fn copy(&self, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
        let source = self.store.look(from).await?;
        if source.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if from == to {
            return if replace == Replace::Yes { Ok(()) } else { Err(ErrorKind::AlreadyExists.into()) };
        }
        copy::object(&self.store, (from, &source), to, replace).await
    }
}
