//! A listing: READDIRs that fly together, in pages as the server cuts them.
//!
//! Begins with three requests, so that a small directory is there after OPENDIR and one more round trip,
//! and doubles while pages come, within [`DEPTH`] requests and [`HELD`] bytes. Complete or an error: the
//! end is believed when every request in flight was answered. A name that is no name (a slash in it)
//! is `PeerMisbehaved`: skipping it would be a gap, keeping it a way out of the target directory.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::poll_immediate;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Pages;
use session_core::metadata::{DirEntry, FileType};
use session_core::path::{VPath, check_name};

use super::driver::{Call, Client};
use super::machine::unexpected;
use super::remote::raw;
use crate::wire::{Name, Reply, Request};

/// READDIRs in flight at the beginning and at most.
const BEGIN: usize = 3;
const DEPTH: usize = 64;
/// What the answers in flight may come to, judged by those that came.
const HELD: usize = 4 << 20;
/// Answers without an entry, one after the other, before the server is taken for broken.
const EMPTY: usize = 1000;

pub(super) struct SftpListing {
    client: Client,
    handle: Bytes,
    flying: VecDeque<Call>,
    depth: usize,
    largest: usize,
    empty: usize,
    end: bool,
    failed: Option<Error>,
}

/// OPENDIR.
pub(super) async fn open(client: &Client, dir: &VPath) -> Result<SftpListing> {
    client.handle_opens()?;
    let counted = Counted(Some(client));
    match client.call(Request::Opendir { path: raw(dir) }).await? {
        Reply::Handle(handle) => {
            counted.keep();
            Ok(SftpListing {
                client: client.clone(),
                handle,
                flying: VecDeque::new(),
                depth: BEGIN,
                largest: 0,
                empty: 0,
                end: false,
                failed: None,
            })
        }
        reply => Err(unexpected(&reply)),
    }
}

/// A handle counted before it is there; uncounted again if it does not come.
pub(super) struct Counted<'a>(pub(super) Option<&'a Client>);

impl Counted<'_> {
    /// The handle is there, and whoever holds it counts it.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.0 {
            client.handle_closes();
        }
    }
}

impl SftpListing {
    fn page(&mut self, names: Vec<Name>) -> Result<Vec<DirEntry>> {
        let size: usize = names.iter().map(|n| n.name.len() + n.longname.len() + 64).sum();
        self.largest = self.largest.max(size);
        self.depth = (self.depth * 2).min(HELD / self.largest.max(1)).clamp(1, DEPTH);
        let mut page = Vec::with_capacity(names.len());
        for n in names {
            if n.name == ".."[..] || n.name == "."[..] {
                continue;
            }
            if let Err(e) = check_name(&n.name) {
                return Err(Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail("the server lists a name that cannot be one")
                    .with_source(e));
            }
            let mut metadata = n.attrs.to_metadata();
            if n.attrs.mode.is_none() {
                // Some servers tell the type only in the line for people.
                metadata.file_type = match n.longname.first() {
                    Some(b'd') => FileType::Directory,
                    Some(b'l') => FileType::Symlink,
                    _ => metadata.file_type,
                };
            }
            page.push(DirEntry { name: n.name, metadata });
        }
        Ok(page)
    }

    async fn step(&mut self) -> Result<Option<Vec<DirEntry>>> {
        loop {
            // Taken out only once it is answered: a page that is given up must not be lost.
            let here = match self.flying.front_mut() {
                Some(first) => poll_immediate(first).await,
                None if self.end => return Ok(None),
                None => None,
            };
            // More is asked only when nothing is here: answers that came together with the end do not
            // cause questions after it.
            let reply = match here {
                Some(reply) => reply,
                None => {
                    while !self.end && self.flying.len() < self.depth {
                        let request = Request::Readdir { handle: self.handle.clone() };
                        self.flying.push_back(self.client.send(request).await?);
                    }
                    let Some(first) = self.flying.front_mut() else { return Ok(None) };
                    first.await
                }
            };
            self.flying.pop_front();
            match reply {
                Ok(Reply::Name(names)) => {
                    let page = self.page(names)?;
                    if !page.is_empty() {
                        self.empty = 0;
                        return Ok(Some(page));
                    }
                    self.empty += 1;
                    if self.empty > EMPTY {
                        return Err(Error::new(ErrorKind::PeerMisbehaved)
                            .with_detail("the server goes on without listing anything"));
                    }
                }
                Ok(reply) => return Err(unexpected(&reply)),
                Err(e) if e.kind() == ErrorKind::OutOfRange => self.end = true,
                Err(e) => return Err(e),
            }
        }
    }
}

#[async_trait]
impl Pages for SftpListing {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        if let Some(e) = &self.failed {
            return Err(e.clone());
        }
        let page = self.step().await;
        if let Err(e) = &page {
            self.failed = Some(e.clone());
            self.flying.clear();
        }
        page
    }
}

impl Drop for SftpListing {
    fn drop(&mut self) {
        self.flying.clear();
        self.client.handle_closes();
        self.client.send_forgotten(Request::Close { handle: self.handle.clone() });
    }
}
