//! Listings behind the gate: cut with their session, filtered by the chain, sorted where the store cannot.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Asked, SessionFs, or_cut};
use crate::error::{Error, ErrorKind, Result};
use crate::event::OperationId;
use crate::fs::*;
use crate::intercept::{Interceptor, Visibility};
use crate::metadata::DirEntry;
use crate::operation::OperationKind;
use crate::path::VPath;

/// The most bytes of names that the gate holds to sort a listing for a store that cannot.
const MAX_SORTED: usize = 256 << 20;

/// A listing behind the gate: cancelled with its session, filtered by the chain.
pub(super) struct GuardedPages {
    pub(super) fs: SessionFs,
    pub(super) id: OperationId,
    pub(super) path: VPath,
    pub(super) filters: Vec<Arc<dyn Interceptor>>,
    pub(super) hide: Vec<Bytes>,
    pub(super) inner: Listing,
}

#[async_trait]
impl Pages for GuardedPages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        loop {
            let at = |e: Error| e.at(OperationKind::List, Some(&self.path));
            let lease = self.fs.admit().map_err(at)?;
            let session = Arc::clone(&self.fs.0.session);
            let page = or_cut(&session, lease.within(self.inner.next_page())).await;
            let Some(mut page) = page.map_err(|e| e.at(OperationKind::List, Some(&self.path)))? else {
                return Ok(None);
            };
            if !self.filters.is_empty() {
                let asked = Asked { id: self.id, started: Instant::now(), hop: 0 };
                let cx = self.fs.cx(&asked);
                page.retain_mut(|entry| {
                    self.filters.iter().all(|f| f.entry(&cx, &self.path, entry) == Visibility::Keep)
                });
            }
            if !self.hide.is_empty() {
                page.retain(|entry| !self.hide.iter().any(|pattern| matches_pattern(pattern, &entry.name)));
            }
            // A page whose entries were all hidden is not the end of the listing.
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }
}

/// Whether `name` matches a pattern in which `*` stands for any bytes and `?` for one.
pub(crate) fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p, n));
                p += 1;
            }
            (Some(b'?'), Some(_)) => (p, n) = (p + 1, n + 1),
            (Some(a), Some(b)) if a == b => (p, n) = (p + 1, n + 1),
            // Mismatch: the last star takes one byte more.
            _ => match star {
                Some((at, from)) if from < name.len() => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// All of a listing, sorted in memory. Errors: `TooLarge`.
pub(super) async fn sorted(mut pages: Listing, options: &ListOptions) -> Result<Listing> {
    let mut all = Vec::new();
    let mut bytes = 0usize;
    while let Some(page) = pages.next_page().await? {
        bytes += page.iter().map(|e| e.name.len() + std::mem::size_of::<DirEntry>()).sum::<usize>();
        if bytes > MAX_SORTED {
            return Err(
                Error::new(ErrorKind::TooLarge).with_detail("the directory is too large to be sorted")
            );
        }
        all.extend(page);
    }
    let key = |e: &DirEntry| {
        let mut key = e.name.to_vec();
        if options.order == Order::Key && e.metadata.is_dir() {
            key.push(b'/');
        }
        key
    };
    all.sort_by_cached_key(key);
    if let Some(after) = &options.after {
        all.retain(|e| key(e)[..] > after[..]);
    }
    Ok(Box::new(ListingOf::new(all)))
}
