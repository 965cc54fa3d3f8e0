//! A directory in pages: PROPFIND of depth 1, read as it comes.
//!
//! An answer about what does not lie directly in the directory is an error: a listing is complete, or it is
//! none. The connection is not counted as somebody's place, because a listing cannot be given up and gone on
//! with, and whoever walks a tree has several open.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::StatusCode;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Listing, Pages};
use session_core::metadata::{DirEntry, Metadata};
use session_core::path::VPath;

use super::body::In;
use super::call::{Ask, Wire};
use super::kept;
use super::place::{Place, encode};
use super::props;
use super::refine;
use crate::wire::multistatus_reader::{Answer, MultistatusReader};

/// Entries of a page.
const PAGE: usize = 1000;

/// Opens a listing; `kept`: with the properties that are kept. Errors: `NotFound`, `NotADirectory`; those of the
/// wire.
pub(super) async fn open(wire: &Wire, dir: &VPath, kept: bool) -> Result<Listing> {
    let body = if kept { kept::ALL } else { props::ENTRY };
    let ask = Ask::dav("PROPFIND", encode(dir, true))?.depth("1").xml(body);
    let answered = wire.call(ask).await?.success().await?;
    if answered.status != StatusCode::MULTI_STATUS {
        return Err(refine::no_webdav(answered.status));
    }
    let mut pages = DavPages {
        body: answered.body.keep(),
        reader: Some(MultistatusReader::new()),
        place: wire.lines.place().clone(),
        dir: dir.clone(),
        kept,
        ready: VecDeque::new(),
        is_dir: false,
        failed: false,
    };
    // What is no directory is told at once, and a directory tells of itself first.
    while pages.ready.is_empty() && pages.reader.is_some() && !pages.is_dir {
        pages.read_on().await?;
    }
    Ok(Box::new(pages))
}

struct DavPages {
    body: In,
    /// Gone once the end was read.
    reader: Option<MultistatusReader>,
    place: Place,
    dir: VPath,
    kept: bool,
    ready: VecDeque<DirEntry>,
    /// The directory has told of itself.
    is_dir: bool,
    /// It broke: what was read since is not to be given as if it were all.
    failed: bool,
}

impl DavPages {
    async fn read_on(&mut self) -> Result<()> {
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        let Some(bytes) = self.body.next().await? else {
            reader.end()?;
            return if self.is_dir {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail("the server lists nothing, not even the directory"))
            };
        };
        for answer in reader.feed(&bytes)? {
            self.take(&answer)?;
        }
        self.reader = Some(reader);
        Ok(())
    }

    fn take(&mut self, answer: &Answer) -> Result<()> {
        let href = answer.hrefs.first().map(String::as_bytes).unwrap_or_default();
        let path = self.place.path_of(href, &self.dir)?;
        if path == self.dir {
            refine::failure(answer)?;
            if !props::metadata(answer).is_dir() {
                return Err(Error::new(ErrorKind::NotADirectory));
            }
            self.is_dir = true;
            return Ok(());
        }
        if path.parent().as_ref() != Some(&self.dir) {
            return Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail(format!("the server tells of '{path}' in a listing of '{}'", self.dir)));
        }
        match answer.status {
            // It went away while it was listed.
            Some(404 | 410) => return Ok(()),
            _ => refine::failure(answer)?,
        }
        let name = Bytes::copy_from_slice(path.name());
        let properties = self.kept.then(|| kept::of_entry(answer));
        self.ready.push_back(DirEntry { name, metadata: Metadata { properties, ..props::metadata(answer) } });
        Ok(())
    }
}

#[async_trait]
impl Pages for DavPages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        if self.failed {
            return Err(Error::new(ErrorKind::Closed));
        }
        while self.ready.len() < PAGE && self.reader.is_some() {
            self.failed = true;
            self.read_on().await?;
            self.failed = false;
        }
        let most = self.ready.len().min(PAGE);
        let page: Vec<_> = self.ready.drain(..most).collect();
        Ok((!page.is_empty()).then_some(page))
    }
}
