//! PostObject: a form of a browser that puts a file into a bucket ("POST Object", "Creating a POST policy",
//! "Calculating a signature" for forms of Signature Version 4).
//!
//! The library would take the whole file into memory, so forms are read here; it reads the policy. Who signed the
//! policy is found out before anything else, the policy is held against the fields before the file is looked at, and
//! the file becomes the body of a PutObject, with what that has of gates, staging and digests. A file that is longer
//! or shorter than the policy allows breaks that off: nothing is published.
//!
//! Every field must be named by the policy, but for its own and those that begin with `x-ignore-`. Without a
//! signature, the form is the account's of strangers, who are sent nowhere afterwards.

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::hmac;
use bytes::Bytes;
use futures_util::stream;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::{Method, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{ETag, Metadata, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp, TimestampFormat};
use s3s::host::S3Host as _;
use s3s::path::S3Path;
use s3s::post_policy::{PostPolicy, PostPolicyCondition};
use s3s::{S3ErrorCode, S3Request, S3Result};
use session_core::error::{Error, ErrorKind};
use session_core::net::http::{Body, Intake, empty, full, set};
use tokio::sync::mpsc;

use super::exchange::{Exchange, refuse, said};
use super::guard::Signed;
use super::service::Hosts;
use super::write;
use crate::keyspace;
use crate::wire::form::{Fields, FormReader, Piece};

/// Fields that the policy need not name.
const FREE: [&str; 3] = ["file", "policy", "x-amz-signature"];
/// What stands for itself in a URL.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

fn denied(words: String) -> s3s::S3Error {
    s3s::S3Error::with_message(S3ErrorCode::AccessDenied, words)
}

/// Answers a form. Errors: as the client is told.
pub(super) async fn post(
    x: &Arc<Exchange>,
    head: Parts,
    mut intake: Intake,
    hosts: &Hosts,
) -> S3Result<Response<Body>> {
    let bucket = bucket(&head, hosts)?;
    if x.signed != Signed::Not {
        return Err(refuse(S3ErrorCode::InvalidArgument, "only one way to sign a request is allowed"));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|f| f.to_str().ok()).unwrap_or_default();
    let mut reader = FormReader::new(kind).map_err(|e| malformed(&e))?;
    let mut fields = loop {
        match reader.next_piece().map_err(|e| malformed(&e))? {
            Some(Piece::Fields(fields)) => break fields,
            Some(Piece::Content(_) | Piece::End) => {}
            None => match intake.next().await.map_err(|e| said(&e))? {
                Some(bytes) => reader.push(&bytes),
                None => return Err(refuse(S3ErrorCode::MalformedPOSTRequest, "the form breaks off")),
            },
        }
    };
    expand(&mut fields);
    let key = fields.get("key").filter(|key| !key.is_empty()).map(str::to_owned);
    let key = key.ok_or_else(|| refuse(S3ErrorCode::InvalidArgument, "the form says no key"))?;
    let signer = signer(x, &fields).await?;
    let place = S3Path::Object { bucket: bucket.as_str().into(), key: key.as_str().into() };
    x.enter(signer.as_deref(), "PostObject", &place).await?;
    let bounds = match signer {
        Some(_) => allowed(&fields, &bucket)?,
        None => 0..=u64::MAX,
    };
    let (source, mut pieces) = mpsc::channel(4);
    let body = StreamingBlob::wrap(stream::poll_fn(move |cx| pieces.poll_recv(cx)));
    let request = S3Request {
        input: input(&fields, &bucket, &key, body)?,
        method: head.method,
        uri: head.uri,
        headers: HeaderMap::new(),
        extensions: head.extensions,
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    };
    let mut put = std::pin::pin!(write::put(x, request));
    let mut feed = std::pin::pin!(feed(x, intake, reader, source, bounds));
    let stored = tokio::select! {
        biased;
        stored = &mut put => stored,
        () = &mut feed => put.as_mut().await,
    };
    let host = head.headers.get(header::HOST).and_then(|f| f.to_str().ok()).unwrap_or_default();
    let url = format!(
        "{}://{host}/{bucket}/{}",
        if x.connection.tls.is_some() { "https" } else { "http" },
        utf8_percent_encode(&key, KEPT)
    );
    Ok(answer(&fields, signer.is_some(), &url, (&bucket, &key), &stored?.output))
}

/// The bucket that the form is sent to.
fn bucket(head: &Parts, hosts: &Hosts) -> S3Result<String> {
    let field = head.headers.get(header::HOST).and_then(|f| f.to_str().ok());
    let host = head.uri.authority().map(|a| a.as_str()).or(field).unwrap_or_default();
    let path = head.uri.path().trim_matches('/');
    let parsed = hosts.parse_host_header(host)?;
    let bucket = match parsed.bucket() {
        Some(bucket) if path.is_empty() => bucket,
        Some(_) => "",
        None => path,
    };
    if head.method != Method::POST || bucket.contains('/') || bucket.is_empty() {
        return Err(refuse(S3ErrorCode::MethodNotAllowed, "a form is sent to its bucket, by POST"));
    }
    if !keyspace::is_bucket_name(bucket) {
        return Err(refuse(S3ErrorCode::InvalidBucketName, "no bucket can have this name"));
    }
    Ok(bucket.to_owned())
}

fn malformed(e: &Error) -> s3s::S3Error {
    let code = match e.kind() {
        ErrorKind::TooLarge => S3ErrorCode::MaxPostPreDataLengthExceededError,
        _ => S3ErrorCode::MalformedPOSTRequest,
    };
    s3s::S3Error::with_message(code, e.peer_words().to_owned())
}

/// `${filename}` is what the file is called where it comes from, in every field but those that are signed as they
/// are.
fn expand(fields: &mut Fields) {
    for (name, value) in &mut fields.fields {
        if !FREE.contains(&name.as_str()) {
            *value = value.replace("${filename}", &fields.file_name);
        }
    }
}

/// The access key that signed the policy; `None` for a form that nobody signed. Errors: `SignatureDoesNotMatch`.
async fn signer(x: &Exchange, fields: &Fields) -> S3Result<Option<String>> {
    let bad = |words| refuse(S3ErrorCode::InvalidArgument, words);
    if fields.get("signature").is_some() || fields.get("awsaccesskeyid").is_some() {
        return Err(refuse(S3ErrorCode::InvalidRequest, "forms are signed with AWS4-HMAC-SHA256"));
    }
    let (policy, signature) = match (fields.get("policy"), fields.get("x-amz-signature")) {
        (Some(policy), Some(signature)) => (policy, signature),
        (None, None) => return Ok(None),
        _ => return Err(bad("a policy and its signature come together")),
    };
    if fields.get("x-amz-algorithm") != Some("AWS4-HMAC-SHA256") {
        return Err(bad("forms are signed with AWS4-HMAC-SHA256"));
    }
    // An id may hold slashes.
    let mut scope = fields.get("x-amz-credential").unwrap_or_default().rsplitn(5, '/');
    let (Some("aws4_request"), Some("s3"), Some(region), Some(day), Some(id)) =
        (scope.next(), scope.next(), scope.next(), scope.next(), scope.next())
    else {
        return Err(bad("the x-amz-credential of the form is none"));
    };
    if day.len() != 8 || fields.get("x-amz-date").and_then(|at| at.split('T').next()) != Some(day) {
        return Err(bad("the x-amz-date of the form is not that of its credential"));
    }
    let secret = x.secret(id).await?;
    let sign = |key: &[u8], data: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data.as_bytes());
    let mut key = sign(format!("AWS4{}", secret.expose()).as_bytes(), day);
    for part in [region, "s3", "aws4_request"] {
        key = sign(key.as_ref(), part);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    let good = from_hex(signature).is_some_and(|s| hmac::verify(&key, policy.as_bytes(), &s).is_ok());
    if !good {
        return Err(refuse(
            S3ErrorCode::SignatureDoesNotMatch,
            "the policy of the form was not signed like this",
        ));
    }
    Ok(Some(id.to_owned()))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// How long the file may be, if the policy allows the rest. Errors: `AccessDenied`, `InvalidPolicyDocument`.
fn allowed(fields: &Fields, bucket: &str) -> S3Result<RangeInclusive<u64>> {
    let policy = PostPolicy::from_base64(fields.get("policy").unwrap_or_default()).map_err(|_| {
        refuse(S3ErrorCode::InvalidPolicyDocument, "the policy of the form cannot be understood")
    })?;
    if policy.expiration <= Timestamp::from(SystemTime::now()) {
        return Err(denied("invalid according to policy: it has expired".to_owned()));
    }
    let (mut least, mut most) = (0, u64::MAX);
    let value = |field: &str| match field {
        // Where the form is sent to counts, whatever it says.
        "bucket" => Some(bucket),
        field => fields.get(field),
    };
    for condition in &policy.conditions {
        let (field, holds) = match condition {
            PostPolicyCondition::Eq { field, value: due } => (field, value(field) == Some(due.as_str())),
            PostPolicyCondition::StartsWith { field, prefix } => {
                (field, value(field).is_some_and(|value| begins(field, value, prefix)))
            }
            PostPolicyCondition::ContentLengthRange { min, max } => {
                (least, most) = (least.max(*min), most.min(*max));
                continue;
            }
        };
        if !holds {
            return Err(denied(format!(
                "invalid according to policy: the condition of '{field}' does not hold"
            )));
        }
    }
    let named = |name: &str| {
        policy.conditions.iter().any(|condition| match condition {
            PostPolicyCondition::Eq { field, .. } | PostPolicyCondition::StartsWith { field, .. } => {
                field == name
            }
            PostPolicyCondition::ContentLengthRange { .. } => false,
        })
    };
    for (n, (name, _)) in fields.fields.iter().enumerate() {
        let free = FREE.contains(&name.as_str()) || name.starts_with("x-ignore-");
        if !free && !named(name) {
            return Err(denied(format!("invalid according to policy: it does not name the field '{name}'")));
        }
        // Of two, the condition would hold for one and the other might count.
        if fields.fields.iter().take(n).any(|(earlier, _)| earlier == name) {
            return Err(refuse(S3ErrorCode::InvalidArgument, "a field of the form comes twice"));
        }
    }
    Ok(least..=most)
}

/// Whether a value begins like this; of media types in a list, each.
fn begins(field: &str, value: &str, prefix: &str) -> bool {
    match field {
        "content-type" => value.split(',').all(|one| one.trim_start().starts_with(prefix)),
        _ => value.starts_with(prefix),
    }
}

/// What the fields ask for.
fn input(fields: &Fields, bucket: &str, key: &str, body: StreamingBlob) -> S3Result<PutObjectInput> {
    let mut asked = PutObjectInput::builder();
    asked.set_bucket(bucket.to_owned());
    asked.set_key(key.to_owned());
    asked.set_body(Some(body));
    let mut metadata = Metadata::default();
    for (name, value) in &fields.fields {
        let value = Some(value.clone()).filter(|v| !v.is_empty());
        match name.as_str() {
            "acl" => {
                asked.set_acl(value.map(Into::into));
            }
            "cache-control" => {
                asked.set_cache_control(value);
            }
            "content-disposition" => {
                asked.set_content_disposition(value);
            }
            "content-encoding" => {
                asked.set_content_encoding(value);
            }
            "content-language" => {
                asked.set_content_language(value);
            }
            "content-type" => {
                asked.set_content_type(value);
            }
            "expires" => {
                let at = value.and_then(|v| Timestamp::parse(TimestampFormat::HttpDate, &v).ok());
                asked.set_expires(at);
            }
            "tagging" => {
                asked.set_tagging(value);
            }
            "x-amz-checksum-crc32" => {
                asked.set_checksum_crc32(value);
            }
            "x-amz-checksum-crc32c" => {
                asked.set_checksum_crc32c(value);
            }
            "x-amz-checksum-crc64nvme" => {
                asked.set_checksum_crc64nvme(value);
            }
            "x-amz-checksum-sha1" => {
                asked.set_checksum_sha1(value);
            }
            "x-amz-checksum-sha256" => {
                asked.set_checksum_sha256(value);
            }
            "x-amz-storage-class" => {
                asked.set_storage_class(value.map(Into::into));
            }
            "x-amz-website-redirect-location" => {
                asked.set_website_redirect_location(value);
            }
            name if name.starts_with("x-amz-server-side-encryption")
                || name.starts_with("x-amz-object-lock") =>
            {
                return Err(refuse(S3ErrorCode::NotImplemented, "nothing is encrypted or locked here"));
            }
            name => {
                if let (Some(name), Some(value)) = (name.strip_prefix("x-amz-meta-"), value) {
                    metadata.insert(name.to_owned(), value);
                }
            }
        }
    }
    asked.set_metadata(Some(metadata).filter(|m| !m.is_empty()));
    asked.build().map_err(|_| refuse(S3ErrorCode::InternalError, "the form could not be read"))
}

/// Hands the file on as it comes. Why it does not is put aside: the library keeps no causes.
async fn feed(
    x: &Exchange,
    mut intake: Intake,
    mut reader: FormReader,
    source: mpsc::Sender<io::Result<Bytes>>,
    bounds: RangeInclusive<u64>,
) {
    let mut came = 0u64;
    let fault = loop {
        match reader.next_piece() {
            Ok(Some(Piece::Content(bytes))) => {
                came += bytes.len() as u64;
                if came > *bounds.end() {
                    break Error::new(ErrorKind::TooLarge)
                        .with_detail("the file is longer than the policy of the form allows");
                }
                if source.send(Ok(bytes)).await.is_err() {
                    return;
                }
            }
            Ok(Some(Piece::End)) if came < *bounds.start() => {
                break Error::new(ErrorKind::InvalidArgument)
                    .with_detail("the file is shorter than the policy of the form allows")
                    .with_wire(400, "EntityTooSmall");
            }
            Ok(Some(Piece::End)) => return,
            Ok(Some(Piece::Fields(_))) => {}
            Ok(None) => match intake.next().await {
                Ok(Some(bytes)) => reader.push(&bytes),
                Ok(None) => break Error::new(ErrorKind::Corrupt).with_detail("the form breaks off"),
                Err(e) => break e,
            },
            Err(e) => break e,
        }
    };
    *x.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    let _ = source.send(Err(io::Error::other("the file did not arrive"))).await;
}

/// What a browser is told: where to go on, or that it is done.
fn answer(
    fields: &Fields,
    signed: bool,
    url: &str,
    (bucket, key): (&str, &str),
    stored: &PutObjectOutput,
) -> Response<Body> {
    let tag = match &stored.e_tag {
        Some(ETag::Strong(tag) | ETag::Weak(tag)) => format!("\"{tag}\""),
        None => String::new(),
    };
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let onward = fields.get("success_action_redirect").or(fields.get("redirect"));
    let onward = onward.filter(|to| signed && (to.starts_with("https://") || to.starts_with("http://")));
    let mut answer = match (onward, fields.get("success_action_status")) {
        (Some(to), _) => {
            let mark = if to.contains('?') { '&' } else { '?' };
            let to =
                format!("{to}{mark}bucket={}&key={}&etag={}", encoded(bucket), encoded(key), encoded(&tag));
            let mut answer = empty(303);
            set(&mut answer, header::LOCATION, &to);
            answer
        }
        (None, Some("201")) => {
            let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let xml = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{}</Location><Bucket>{}</Bucket>\
                 <Key>{}</Key><ETag>{}</ETag></PostResponse>",
                text(url),
                text(bucket),
                text(key),
                text(&tag)
            );
            let mut answer = empty(201);
            *answer.body_mut() = full(xml.into());
            set(&mut answer, header::CONTENT_TYPE, "application/xml");
            set(&mut answer, header::LOCATION, url);
            answer
        }
        (None, status) => {
            let mut answer = empty(if status == Some("200") { 200 } else { 204 });
            set(&mut answer, header::LOCATION, url);
            answer
        }
    };
    set(&mut answer, HeaderName::from_static("etag"), &tag);
    answer
}
