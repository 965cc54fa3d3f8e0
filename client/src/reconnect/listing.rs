//! A listing that starts over when the connection was lost, and gives no name twice.
//!
//! Names that were given are remembered by their digest, sixteen bytes each.

use std::collections::HashSet;

use async_trait::async_trait;
use session_core::digest::Hasher;
use session_core::error::Result;
use session_core::fs::{Algorithm, ListOptions, Listing, Pages};
use session_core::metadata::DirEntry;
use session_core::path::VPath;

use super::{Patience, Reconnecting, is_lost};

pub(super) struct Resumed {
    remote: Reconnecting,
    dir: VPath,
    options: ListOptions,
    number: u64,
    inner: Listing,
    given: HashSet<Box<[u8]>>,
    /// It began anew: what comes may have been given.
    again: bool,
    patience: Patience,
}

/// The digest of a name, cut to what cannot collide by accident or by will.
fn key(name: &[u8]) -> Box<[u8]> {
    let mut hasher = Hasher::new(Algorithm::Blake3);
    hasher.update(name);
    hasher.finish().get(..16).unwrap_or_default().into()
}

impl Resumed {
    pub(super) async fn open(remote: Reconnecting, dir: VPath, options: ListOptions) -> Result<Self> {
        let mut patience = Patience::new(remote.0.budget);
        let (number, inner) = begin(&remote, &dir, &options, &mut patience).await?;
        Ok(Resumed { remote, dir, options, number, inner, given: HashSet::new(), again: false, patience })
    }
}

async fn begin(
    remote: &Reconnecting,
    dir: &VPath,
    options: &ListOptions,
    patience: &mut Patience,
) -> Result<(u64, Listing)> {
    loop {
        let line = remote.0.line();
        match line.fs.list(dir, options).await {
            Ok(inner) => return Ok((line.number, inner)),
            Err(e) if is_lost(&e) => remote.0.replace(line.number, e, patience).await?,
            Err(e) => return Err(e),
        }
    }
}

#[async_trait]
impl Pages for Resumed {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        loop {
            let page = match self.inner.next_page().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(None),
                Err(e) if is_lost(&e) => {
                    self.remote.0.replace(self.number, e, &mut self.patience).await?;
                    let begun = begin(&self.remote, &self.dir, &self.options, &mut self.patience).await?;
                    (self.number, self.inner) = begun;
                    self.again = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            self.remote.0.advanced(page.len() as u64);
            let again = self.again;
            let new: Vec<DirEntry> =
                page.into_iter().filter(|e| self.given.insert(key(&e.name)) || !again).collect();
            // A page is never empty: one that holds nothing new is left out.
            if !new.is_empty() {
                return Ok(Some(new));
            }
        }
    }
}
