//! PUT (RFC 9110, section 9.3.4): received, then published in one step, or kept unfinished.
//!
//! A body that breaks off is parked, as a lost connection is on every protocol. A part of a file, told by
//! `Content-Range`, goes into the upload that its account has begun, or changes the file that is there; the
//! upload is published by the part that ends it. The answer to a part that does not is 202.

use std::ops::Range;
use std::sync::Arc;

use hyper::header::{self, HeaderName};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File as _, OpenOptions};
use session_core::gate::SessionFile;
use session_core::metadata::{Attributes, Metadata};
use session_core::net::http::Intake;

use super::guard;
use super::respond::{Answer, Failure, empty, set};
use super::service::Call;
use crate::wire::conditions::{self, etag};
use crate::wire::{date, range};

pub(super) async fn put(mut call: Call) -> Answer {
    if call.target.slash || call.target.path.is_root() {
        return Err(Failure::new(405, ErrorKind::IsADirectory, "a directory cannot be written"));
    }
    let path = call.target.path.clone();
    let part = part(&call)?;
    let there = guard::there(&call.fs, &path).await?;
    if there.as_ref().is_some_and(Metadata::is_dir) {
        return Err(Failure::new(405, ErrorKind::IsADirectory, "a directory cannot be written"));
    }
    guard::check(&call, there.as_ref())?;
    let announced =
        call.body.announced().or_else(|| call.field("x-expected-entity-length")?.trim().parse().ok());
    let begins = part.as_ref().is_none_or(|(range, size)| range.start == 0 && size.is_some());
    let options = OpenOptions {
        write: true,
        create: true,
        truncate: begins,
        // What must not be there is not there when it is published, either.
        exclusive: begins && call.field("if-none-match").is_some_and(|f| f.trim() == "*"),
        if_match: call.field("if-match").and_then(conditions::single).map(Into::into),
        size_hint: part.as_ref().map_or(announced, |(_, size)| *size),
        ..OpenOptions::default()
    };
    let opened = call.fs.open_file(&path, &options).await;
    let file = opened.map_err(|e| match e.kind() {
        // There is no directory to put it in.
        ErrorKind::NotFound => Failure::with_code(e, 409),
        _ => guard::locked(&call, &path, e),
    })?;
    let modified = call.field("x-oc-mtime").and_then(date::parse_seconds);
    let attributes = Attributes { modified, ..Attributes::none() };
    let done = match &part {
        None => whole(&mut call.body, &file, attributes).await.map(Some),
        Some((range, size)) => piece(&mut call.body, &file, range, *size, begins, attributes).await,
    };
    let written = done.map_err(|e| guard::locked(&call, &path, e))?;
    let mut response = empty(match (&written, &there) {
        (None, _) => 202,
        (Some(_), None) => 201,
        (Some(_), Some(_)) => 204,
    });
    if let Some(tag) = written.as_ref().and_then(etag) {
        set(&mut response, header::ETAG, &tag);
    }
    if let Some(at) = written.and_then(|m| m.modified).and_then(date::http) {
        set(&mut response, header::LAST_MODIFIED, &at);
    }
    if modified.is_some() {
        set(&mut response, HeaderName::from_static("x-oc-mtime"), "accepted");
    }
    Ok(response)
}

/// A range of a file, and how large the file is in whole, where that is told.
type Part = (Range<u64>, Option<u64>);

/// The part of the file that the body is, where it is one.
fn part(call: &Call) -> Result<Option<Part>, Failure> {
    let Some(field) = call.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let part = field.to_str().ok().and_then(range::parse_content_range);
    let Some((range, size)) = part else {
        return Err(Failure::new(
            400,
            ErrorKind::InvalidArgument,
            "the Content-Range field cannot be understood",
        ));
    };
    if call.body.announced().is_some_and(|n| n != range.end - range.start) {
        return Err(Failure::new(400, ErrorKind::InvalidArgument, "the body has not the size of its range"));
    }
    Ok(Some((range, size)))
}

/// Everything that comes, from `at` on; how much it was. What fails parks the file.
async fn receive(body: &mut Intake, file: &Arc<SessionFile>, at: u64, most: u64) -> Result<u64> {
    let received = async {
        let mut came = 0;
        let mut next = body.next().await?;
        while let Some(piece) = next {
            let n = piece.len() as u64;
            if came + n > most {
                let words = "the body is longer than its range";
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
            }
            // While one piece is written the next one comes.
            let (written, following) = tokio::join!(file.write_at(at + came, piece), body.next());
            written?;
            came += n;
            next = following?;
        }
        Ok(came)
    };
    match received.await {
        Ok(came) => Ok(came),
        Err(e) => {
            let _ = file.park().await;
            Err(e)
        }
    }
}

async fn whole(body: &mut Intake, file: &Arc<SessionFile>, attributes: Attributes) -> Result<Metadata> {
    let came = receive(body, file, 0, u64::MAX).await?;
    file.commit(&CommitOptions { expected_size: Some(came), attributes }).await
}

async fn piece(
    body: &mut Intake,
    file: &Arc<SessionFile>,
    range: &Range<u64>,
    size: Option<u64>,
    begins: bool,
    attributes: Attributes,
) -> Result<Option<Metadata>> {
    let park = |e: Error| async {
        let _ = file.park().await;
        Err(e)
    };
    if !begins && file.metadata().await?.size < range.start {
        return park(Error::new(ErrorKind::OutOfRange).with_detail("what comes before that part is missing"))
            .await;
    }
    let came = receive(body, file, range.start, range.end - range.start).await?;
    if came < range.end - range.start {
        return park(Error::new(ErrorKind::Corrupt).with_detail("the body has not the size of its range"))
            .await;
    }
    if size.is_some_and(|size| range.end < size) {
        file.park().await?;
        return Ok(None);
    }
    file.commit(&CommitOptions { expected_size: size, attributes }).await.map(Some)
}
