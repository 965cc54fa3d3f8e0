//! Listings of a tree with mounts: errors in the caller's words, and mount points among the entries.

use std::collections::VecDeque;

use async_trait::async_trait;

use super::{Mounts, is_hidden};
use crate::error::Result;
use crate::fs::{ListOptions, Listing, Order, Pages};
use crate::metadata::DirEntry;
use crate::path::VPath;

/// A part's pages.
pub(super) struct MovedPages {
    pub(super) mounts: Mounts,
    pub(super) dir: VPath,
    pub(super) inner: Listing,
}

#[async_trait]
impl Pages for MovedPages {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        let page = self.inner.next_page().await;
        page.map_err(|e| self.mounts.told(&self.mounts.place(&self.dir), e))
    }
}

/// A name that mounts make in a directory.
pub(super) struct Own {
    pub(super) entry: DirEntry,
    pub(super) folded: bool,
    /// A mount point: what else has the name is hidden. Otherwise it leads to one, and a directory that is
    /// there stands for it.
    pub(super) is_point: bool,
}

impl Own {
    fn is(&self, name: &[u8]) -> bool {
        self.entry.name == name || self.folded && super::folded(&self.entry.name) == super::folded(name)
    }
}

/// A part's pages with the names of mounts among them, each given once: in its place where there is an order,
/// at the end where there is none.
pub(super) struct Overlaid {
    inner: Option<Listing>,
    /// Not given yet, in their order.
    own: VecDeque<Own>,
    /// Names of mounts that were given.
    given: Vec<Own>,
    order: Order,
    /// The directory may be missing in the part.
    may_miss: bool,
}

fn key(entry: &DirEntry, order: Order) -> Vec<u8> {
    let mut key = entry.name.to_vec();
    if order == Order::Key && entry.metadata.is_dir() {
        key.push(b'/');
    }
    key
}

impl Overlaid {
    pub(super) fn new(inner: Listing, mut own: Vec<Own>, options: ListOptions, may_miss: bool) -> Self {
        let order = options.order;
        own.sort_by_cached_key(|o| key(&o.entry, order));
        let (mut own, mut given) = (VecDeque::from(own), Vec::new());
        if let (true, Some(after)) = (order != Order::Any, &options.after) {
            // They were given before; what they hide stays hidden.
            while let Some(o) = own.pop_front_if(|o| key(&o.entry, order)[..] <= after[..]) {
                given.push(o);
            }
        }
        Overlaid { inner: Some(inner), own, given, order, may_miss }
    }

    /// One entry of the part, after the mounts' names that come before it.
    fn lay(&mut self, entry: DirEntry, page: &mut Vec<DirEntry>) {
        let hidden = |o: &Own| o.is(&entry.name) && (o.is_point || !entry.metadata.is_dir());
        if self.given.iter().any(|o| o.is(&entry.name)) || self.own.iter().any(hidden) {
            return;
        }
        if self.order != Order::Any {
            let at = key(&entry, self.order);
            while let Some(o) = self.own.pop_front_if(|o| key(&o.entry, self.order) < at) {
                page.push(o.entry.clone());
                self.given.push(o);
            }
        }
        if let Some(at) = self.own.iter().position(|o| o.is(&entry.name)) {
            self.given.extend(self.own.remove(at));
        }
        page.push(entry);
    }
}

#[async_trait]
impl Pages for Overlaid {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        while let Some(inner) = &mut self.inner {
            let theirs = match inner.next_page().await {
                // A directory that only mounts make, told with the first page.
                Err(e) if self.may_miss && is_hidden(&e) => None,
                theirs => theirs?,
            };
            let Some(theirs) = theirs else {
                self.inner = None;
                break;
            };
            // It is there.
            self.may_miss = false;
            let mut page = Vec::with_capacity(theirs.len());
            for entry in theirs {
                self.lay(entry, &mut page);
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        let rest: Vec<_> = self.own.drain(..).map(|o| o.entry).collect();
        Ok((!rest.is_empty()).then_some(rest))
    }
}
