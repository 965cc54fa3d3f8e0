//! GET and HEAD (RFC 9110, sections 9.3 and 14): files in whole or in parts, a page for a directory.
//!
//! A file is described as it was when it was opened, so that length and content are of one version. What a
//! browser could run is never run in the name of this server: files are attachments, in a sandbox.

use std::collections::VecDeque;
use std::ops::Range;

use hyper::Response;
use hyper::header::{self, HeaderValue};
use session_core::error::ErrorKind;
use session_core::fs::{File as _, Filesystem as _, Follow, OpenOptions};
use session_core::metadata::Metadata;
use session_core::net::http::{Part, send};

use super::respond::{Answer, Body, Failure, empty, set};
use super::service::Call;
use super::{guard, page, properties};
use crate::wire::conditions::{etag, if_range};
use crate::wire::date;
use crate::wire::range::{self, Wanted};

/// What a browser may do with a file: nothing.
const SANDBOX: &str = "sandbox; default-src 'none'";

pub(super) async fn get(call: Call, with_body: bool) -> Answer {
    let for_people = call.field("accept").is_some_and(|a| a.contains("text/html"));
    if !with_body || call.target.slash || for_people || !guard::conditions(&call).is_empty() {
        let there = call.fs.stat(&call.target.path, Follow::Yes).await?;
        if there.is_dir() {
            return directory(call, with_body).await;
        }
        if let Some(answer) = guard::check_read(&call, &there)? {
            return Ok(answer);
        }
        if !with_body {
            let mut response = described(&call, &there);
            set(&mut response, header::CONTENT_LENGTH, &there.size.to_string());
            return Ok(response);
        }
    }
    let file = match call.fs.open_file(&call.target.path, &OpenOptions::read()).await {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::IsADirectory => return directory(call, with_body).await,
        Err(e) => return Err(e.into()),
    };
    let there = file.metadata().await?;
    let fresh = call.field("if-range").is_none_or(|field| if_range(field, &there));
    let wanted = match call.field("range").filter(|_| fresh) {
        Some(field) => range::wanted(field, there.size),
        None => Wanted::All,
    };
    let mut response = described(&call, &there);
    match wanted {
        Wanted::All => {
            set(&mut response, header::CONTENT_LENGTH, &there.size.to_string());
            *response.body_mut() = send(file, VecDeque::from([Part::Content(0..there.size)]), call.flight);
        }
        Wanted::Nothing => {
            let failure = Failure::new(416, ErrorKind::OutOfRange, "the file has nothing there");
            let mut response = failure.response();
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", there.size));
            return Ok(response);
        }
        Wanted::Parts(parts) => {
            *response.status_mut() = hyper::StatusCode::PARTIAL_CONTENT;
            let mut pieces = VecDeque::new();
            match parts.as_slice() {
                [part] => {
                    let words = range::content_range(part, there.size);
                    set(&mut response, header::CONTENT_RANGE, &words);
                    pieces.push_back(Part::Content(part.clone()));
                }
                _ => pieces = multipart(&mut response, &parts, there.size)?,
            }
            let length: u64 = pieces.iter().map(Part::size).sum();
            set(&mut response, header::CONTENT_LENGTH, &length.to_string());
            *response.body_mut() = send(file, pieces, call.flight);
        }
    }
    Ok(response)
}

async fn directory(call: Call, with_body: bool) -> Answer {
    if !call.options.pages {
        return Err(Failure::new(405, ErrorKind::IsADirectory, "this is a directory"));
    }
    if !call.target.slash {
        // Names on the page are relative to the directory.
        let mut response = empty(301);
        set(&mut response, header::LOCATION, &call.href(&call.target.path, true));
        return Ok(response);
    }
    page::directory(call, with_body).await
}

/// The head of an answer about a file.
fn described(call: &Call, there: &Metadata) -> Response<Body> {
    let mut response = empty(200);
    if let Some(tag) = etag(there) {
        set(&mut response, header::ETAG, &tag);
    }
    if let Some(at) = there.modified.and_then(date::http) {
        set(&mut response, header::LAST_MODIFIED, &at);
    }
    set(&mut response, header::CONTENT_TYPE, &properties::content_type(&call.target.path, there));
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Several parts, each with what it is (RFC 9110, section 14.6).
fn multipart(
    response: &mut Response<Body>,
    parts: &[Range<u64>],
    size: u64,
) -> Result<VecDeque<Part>, Failure> {
    let mut random = [0u8; 12];
    getrandom::fill(&mut random).map_err(|_| ErrorKind::Internal)?;
    let boundary: String = random.iter().map(|b| format!("{b:02x}")).collect();
    let was = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|t| t.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let mut pieces = VecDeque::new();
    for (n, part) in parts.iter().enumerate() {
        let before = if n == 0 { "" } else { "\r\n" };
        let range = range::content_range(part, size);
        let head = format!("{before}--{boundary}\r\nContent-Type: {was}\r\nContent-Range: {range}\r\n\r\n");
        pieces.push_back(Part::Words(head.into()));
        pieces.push_back(Part::Content(part.clone()));
    }
    pieces.push_back(Part::Words(format!("\r\n--{boundary}--\r\n").into()));
    set(response, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    Ok(pieces)
}
