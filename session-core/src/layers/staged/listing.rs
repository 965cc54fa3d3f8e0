//! A directory's pages with the owner's uploads merged in.
//!
//! The store's pages pass through one by one; only the names of the owner's own entries in the directory
//! are held beside them. An entry that the store lists too is given in its place with what the owner sees
//! of it; the others are put in where their order asks for it, or at the end. An upload that is
//! published while the directory is read is given once, whether the store still shows it or not.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;

use super::Staged;
use crate::error::{ErrorKind, Result};
use crate::fs::*;
use crate::metadata::DirEntry;
use crate::path::VPath;

/// The most entries that a page of its own holds.
const PAGE: usize = 1000;

struct Merged {
    staged: Staged,
    dir: VPath,
    inner: Listing,
    order: Order,
    /// Names not given yet, in their order.
    own: VecDeque<Bytes>,
    ended: bool,
}

impl Staged {
    pub(super) async fn merged(&self, dir: &VPath, options: &ListOptions) -> Result<Listing> {
        let mut own = self.area.table().children(&self.owner, dir);
        let inner = self.store().list(dir, options).await?;
        if own.is_empty() {
            return Ok(inner);
        }
        // A store that does not sort ignores order and start; the gate does both.
        let ordered = self.store().capabilities().ordered_list;
        let order = if ordered { options.order } else { Order::Any };
        if let (true, Some(after)) = (order != Order::Any, &options.after) {
            own.retain(|name| name > after);
        }
        let own = own.into();
        Ok(Box::new(Merged { staged: self.clone(), dir: dir.clone(), inner, order, own, ended: false }))
    }
}

/// What the owner sees under one of its names, if there still is something.
async fn look(staged: &Staged, dir: &VPath, name: Bytes) -> Result<Option<DirEntry>> {
    let path = dir.join(&name)?;
    let found = match staged.view(&path) {
        Some(view) => staged.area.describe(view).await,
        None => staged.store().stat(&path, Follow::No).await,
    };
    match found {
        Ok(metadata) => Ok(Some(DirEntry { name, metadata })),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Merged {
    /// Gives the names that come before `entry`.
    async fn before(&mut self, entry: &DirEntry, page: &mut Vec<DirEntry>) -> Result<()> {
        let mut key = entry.name.to_vec();
        if self.order == Order::Key && entry.metadata.is_dir() {
            key.push(b'/');
        }
        while let Some(name) = self.own.pop_front_if(|name| **name < *key && **name != *entry.name) {
            page.extend(look(&self.staged, &self.dir, name).await?);
        }
        Ok(())
    }
}

#[async_trait]
impl Pages for Merged {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        while !self.ended {
            let Some(theirs) = self.inner.next_page().await? else {
                self.ended = true;
                break;
            };
            if self.own.is_empty() {
                return Ok(Some(theirs));
            }
            let mut page = Vec::with_capacity(theirs.len());
            for mut entry in theirs {
                if self.order != Order::Any {
                    self.before(&entry, &mut page).await?;
                }
                if let Ok(at) = self.own.binary_search(&entry.name) {
                    self.own.remove(at);
                    let path = self.dir.join(&entry.name)?;
                    if let Some(view) = self.staged.view(&path) {
                        entry.metadata = self.staged.area.describe(view).await?;
                    }
                }
                page.push(entry);
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        let mut page = Vec::new();
        while page.len() < PAGE
            && let Some(name) = self.own.pop_front()
        {
            page.extend(look(&self.staged, &self.dir, name).await?);
        }
        Ok((!page.is_empty()).then_some(page))
    }
}
