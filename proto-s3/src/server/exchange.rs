//! One request on its way through the library: whose it is, and what becomes of its failures.
//!
//! The library asks for the secret of an access key, verifies the signature, and asks whether the operation may
//! go on; then the session is entered, and not before. An access key that is not known and a signature that is
//! wrong are failed logins: they are logged, shown to hooks and counted by the protector.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Error, S3ErrorCode, S3Result};
use session_core::auth::{AccessKey, Secret};
use session_core::error::{Error, ErrorKind, Retry};
use session_core::gate::SessionFs;
use session_core::net::http::{Client, Connection, InFlight, Out, Shown, Working};
use session_core::path::VPath;
use session_core::reason::Reason;
use session_core::session::Argument;

use super::guard::Signed;
use super::options::S3ServerOptions;
use super::service::Service;
use super::table::Row;
use crate::{keyspace, status};

/// What is known of one request.
pub(super) struct Exchange {
    pub(super) service: Arc<Service>,
    pub(super) connection: Arc<Connection>,
    /// What the client calls itself.
    pub(super) software: String,
    /// The number that its answer has.
    pub(super) id: String,
    pub(super) signed: Signed,
    /// Whether its body comes in chunks with signatures of their own.
    pub(super) chunks_signed: bool,
    pub(super) working: Mutex<Option<Working>>,
    /// The access key that was asked for, and whose it is.
    key: Mutex<Option<(String, Option<AccessKey>)>>,
    client: OnceLock<Arc<Client>>,
    flight: Mutex<Option<InFlight>>,
    /// Why its body did not arrive.
    pub(super) broken: Mutex<Option<Error>>,
    /// Its body is taken into memory in whole: it is no larger than XML may be.
    bounded: AtomicBool,
    noted: AtomicBool,
}

/// The same, as the library wants it: one value for each of its questions.
#[derive(Clone)]
pub(super) struct Api(pub(super) Arc<Exchange>);

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A refusal of our own, before anything was done.
pub(super) fn refuse(code: S3ErrorCode, words: &'static str) -> S3Error {
    S3Error::with_message(code, words)
}

/// A failure in the words of S3. What its cause says is for the log.
pub(super) fn said(e: &Error) -> S3Error {
    let slow = e.reason() == Reason::DataTimeout || e.reason() == Reason::TooSlow;
    let (code, word) = if slow { (400, "RequestTimeout") } else { status::code(e.kind()) };
    said_as(e, code, word)
}

/// The same with the words of a place that knows better.
pub(super) fn said_as(e: &Error, code: u16, word: &str) -> S3Error {
    let words = match e.hint() {
        Some(hint) => format!("{} ({hint})", e.peer_words()),
        None => e.peer_words().to_owned(),
    };
    let mut said = S3Error::with_message(
        S3ErrorCode::from_bytes(word.as_bytes()).unwrap_or(S3ErrorCode::InternalError),
        words,
    );
    if let Ok(code) = StatusCode::from_u16(code) {
        said.set_status_code(code);
    }
    if let Retry::Later(Some(wait)) = e.retry() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        said.set_headers(headers);
    }
    said
}

impl Exchange {
    pub(super) fn new(
        service: &Arc<Service>,
        connection: &Arc<Connection>,
        working: Working,
        software: String,
        id: String,
        signed: Signed,
        chunks_signed: bool,
    ) -> Arc<Self> {
        Arc::new(Exchange {
            service: Arc::clone(service),
            connection: Arc::clone(connection),
            software,
            id,
            signed,
            chunks_signed,
            working: Mutex::new(Some(working)),
            key: Mutex::default(),
            client: OnceLock::new(),
            flight: Mutex::default(),
            broken: Mutex::default(),
            bounded: AtomicBool::new(false),
            noted: AtomicBool::new(false),
        })
    }

    pub(super) fn options(&self) -> &S3ServerOptions {
        &self.service.options
    }

    /// The session, once it was entered.
    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.client.get()
    }

    /// Its files.
    pub(super) fn fs(&self) -> S3Result<&SessionFs> {
        let internal = || refuse(S3ErrorCode::InternalError, "nobody has logged in");
        self.client.get().map(|c| &c.fs).ok_or_else(internal)
    }

    /// What keeps the session from being idle until the answer is sent.
    pub(super) fn take_flight(&self) -> Option<InFlight> {
        lock(&self.flight).take()
    }

    /// A failure behind the gate, or before it, told to the client and noted once.
    pub(super) fn fail(&self, e: Error) -> S3Error {
        self.note(&e);
        self.numbered(said(&e))
    }

    /// The same where the place knows better words than the kind's.
    pub(super) fn fail_as(&self, e: Error, code: u16, word: &str) -> S3Error {
        self.note(&e);
        self.numbered(said_as(&e, code, word))
    }

    /// The same of a bucket.
    pub(super) fn fail_bucket(&self, e: Error) -> S3Error {
        match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => self.fail_as(e, 404, "NoSuchBucket"),
            ErrorKind::AlreadyExists => self.fail_as(e, 409, "BucketAlreadyOwnedByYou"),
            _ => self.fail(e),
        }
    }

    /// The same of a write: what stands in the way is no missing object.
    pub(super) fn fail_write(&self, e: Error) -> S3Error {
        match e.kind() {
            ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
                let words = "an object and a prefix of others cannot have the same name here";
                self.fail_as(e.with_detail(words), 400, "InvalidArgument")
            }
            _ => self.fail(e),
        }
    }

    /// How large the body may be.
    pub(super) fn most(&self) -> u64 {
        if self.bounded.load(Ordering::Acquire) { self.options().max_body as u64 } else { u64::MAX }
    }

    /// Why the body did not arrive, where nobody has told of it.
    pub(super) fn take_broken(&self) -> Option<S3Error> {
        let e = lock(&self.broken).take()?;
        Some(match e.kind() {
            ErrorKind::TooLarge => self.fail_as(e, 400, "MaxMessageLengthExceeded"),
            _ => self.fail(e),
        })
    }

    /// Why the body did not arrive: what was found on its way to the library, else what the library found.
    pub(super) fn unreceived(&self) -> S3Error {
        match lock(&self.broken).take() {
            Some(e) if e.wire().is_some() => {
                let (code, word) = e.wire().map(|w| (w.code, w.text.clone())).unwrap_or_default();
                self.fail_as(e, u16::try_from(code).unwrap_or(400), &word)
            }
            Some(e) if e.kind() == ErrorKind::Corrupt => self.fail_as(e, 400, "IncompleteBody"),
            Some(e) => self.fail(e),
            None => {
                let e =
                    Error::new(ErrorKind::Corrupt).with_detail("the content is not the one that was signed");
                match self.chunks_signed {
                    true => self.fail_as(e, 403, "SignatureDoesNotMatch"),
                    false => self.fail_as(e, 400, "XAmzContentSHA256Mismatch"),
                }
            }
        }
    }

    fn numbered(&self, mut said: S3Error) -> S3Error {
        said.set_request_id(self.id.clone());
        said
    }

    fn note(&self, e: &Error) {
        // The gate has told of what failed behind it.
        if !self.noted.swap(true, Ordering::AcqRel)
            && e.operation().is_none()
            && let Some(client) = self.client.get()
        {
            client.session.note_error(e);
        }
    }

    /// The answer has this status. Failures that nobody has told of are told of now.
    pub(super) fn settled(&self, code: u16) {
        if let Some(client) = self.client.get() {
            client.session.note_status(u32::from(code));
            if code >= 400 && !self.noted.load(Ordering::Acquire) {
                let e = Error::new(status::kind_of_status(code)).with_detail("the request was refused");
                client.session.note_error(&e);
            }
        }
    }

    /// The failed login that this request was, if it was one: the name that it was tried with, and why it failed.
    pub(super) fn failed_login(&self, code: u16) -> Option<(String, &'static str)> {
        if self.client.get().is_some() || code != 403 {
            return None;
        }
        Some(match lock(&self.key).take()? {
            (id, None) => (id, "an access key that is not known"),
            (_, Some(key)) => (key.user.to_string(), "a signature that is wrong"),
        })
    }

    /// The secret of an access key that a request is said to be signed with. Errors: `InvalidAccessKeyId`.
    pub(super) async fn secret(&self, id: &str) -> S3Result<Secret> {
        let found = self.service.site.authenticator().access_key(id).await;
        let secret = found.as_ref().map(|key| key.secret.clone());
        *lock(&self.key) = Some((id.chars().take(128).collect(), found));
        secret.ok_or_else(|| refuse(S3ErrorCode::InvalidAccessKeyId, "the access key is not known here"))
    }

    /// Enters the session of whoever signed. Errors: as the client is told.
    ///
    /// `verified` is the access key whose signature the library found to be good.
    pub(super) async fn enter(
        &self,
        verified: Option<&str>,
        operation: &str,
        place: &S3Path,
    ) -> S3Result<()> {
        let known = lock(&self.key).clone();
        let shown = match (verified, known) {
            (Some(verified), Some((id, Some(key)))) if id == verified => {
                Some(Shown::AccessKey(key.user.to_string(), id.into()))
            }
            // Forms of POST are signed, if at all, in themselves.
            (None, None) if self.signed == Signed::Not => None,
            _ => return Err(refuse(S3ErrorCode::AccessDenied, "the request is not signed")),
        };
        if shown.is_none() && self.options().anonymous.is_none() {
            return Err(refuse(S3ErrorCode::AccessDenied, "requests must be signed here"));
        }
        let Some(row) = Row::find(operation) else {
            return Err(refuse(S3ErrorCode::NotImplemented, "this operation is not known here"));
        };
        let service = &self.service;
        let entered = service
            .sessions
            .enter(&service.site, &service.http, &self.connection, shown.as_ref(), &self.software)
            .await;
        let client = entered.map_err(|out| match out {
            Out::Rejected => {
                self.service.strike(&self.connection);
                refuse(S3ErrorCode::AccessDenied, "this access key may not be used")
            }
            Out::Refused(e) => said(&e),
        })?;
        self.connection.belongs_to(&client);
        let argument = match place {
            S3Path::Root => Argument::Path(VPath::root()),
            S3Path::Bucket { bucket } => argument(VPath::root().join(&**bucket), bucket),
            S3Path::Object { bucket, key } => argument(keyspace::path_of(bucket, key), key),
        };
        let words = argument_words(&argument);
        let running = client.session.begin_command(row.name, argument);
        if let Some(working) = lock(&self.working).take() {
            *lock(&self.flight) = Some(InFlight::new(&self.connection, &client, working, running));
        }
        let client = self.client.get_or_init(|| client);
        self.bounded.store(row.has_list, Ordering::Release);
        if row.operation.is_none() {
            client.session.command(row.name, &words).await.map_err(|e| self.fail(e))?;
        }
        Ok(())
    }
}

fn argument(path: session_core::error::Result<VPath>, text: &str) -> Argument {
    match path {
        Ok(path) => Argument::Path(path),
        Err(_) => Argument::Text(text.chars().take(256).collect::<String>().into()),
    }
}

fn argument_words(argument: &Argument) -> String {
    match argument {
        Argument::Path(path) => path.display().to_string(),
        Argument::Text(text) => text.to_string(),
        _ => String::new(),
    }
}

#[async_trait]
impl S3Auth for Api {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        self.0.secret(id).await.map(|secret| SecretKey::from(secret.expose()))
    }
}

#[async_trait]
impl S3Access for Api {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name();
        let verified = cx.credentials().map(|c| c.access_key.as_str());
        self.0.enter(verified, operation, cx.s3_path()).await
    }
}
