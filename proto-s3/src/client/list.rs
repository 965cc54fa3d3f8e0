//! Directories in pages: ListObjectsV2 by prefix and delimiter; the root lists the buckets.
//!
//! A page is asked for when it is wanted, and in the order of keys, which is the store's own. Where names are
//! to be in the order of names, the listing is read whole and sorted, within a bound. An object and a directory
//! of one name are two entries: a listing that kept one of them back would not be complete. A directory's own
//! marker is no entry. Keys come percent-encoded where the store can do that, since XML cannot carry them all.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};
use bytes::Bytes;
use percent_encoding::percent_decode;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{ListOptions, Listing, ListingOf, Order, Pages};
use session_core::metadata::{DirEntry, FileType, Metadata};
use session_core::path::check_name;

use super::store::{Store, object, size_of, time};
use crate::keyspace::{Place, is_bucket_name, name_of, segment_of};

/// The most entries that are sorted here.
const MAX_SORTED: usize = 1_000_000;

/// Opens a listing. Errors: `NotFound`, `NotADirectory`, `TooLarge` (too many to be sorted by name).
pub(super) async fn open(store: Arc<Store>, place: Place, options: &ListOptions) -> Result<Listing> {
    let (bucket, key) = match place {
        Place::Root => {
            let all = Buckets { store, next: None, ended: false };
            // There are thousands at most, and they cannot be listed after a name.
            return if options.order == Order::Any { Ok(Box::new(all)) } else { sorted(all, options).await };
        }
        Place::Bucket(bucket) => (bucket, None),
        Place::Object { bucket, key } => (bucket, Some(key)),
    };
    let after = options.after.clone().filter(|_| options.order == Order::Key);
    let objects = Objects::open(store, bucket, key, after).await?;
    if options.order == Order::Name { sorted(objects, options).await } else { Ok(Box::new(objects)) }
}

/// What an entry is sorted by.
fn sort_key(entry: &DirEntry, order: Order) -> Vec<u8> {
    let mut key = entry.name.to_vec();
    if order == Order::Key && entry.metadata.is_dir() {
        key.push(b'/');
    }
    key
}

async fn sorted(mut pages: impl Pages, options: &ListOptions) -> Result<Listing> {
    let mut all = Vec::new();
    while let Some(page) = pages.next_page().await? {
        all.extend(page);
        if all.len() > MAX_SORTED {
            return Err(Error::new(ErrorKind::TooLarge)
                .with_detail("the directory is too large to be sorted by name"));
        }
    }
    all.sort_by_cached_key(|e| sort_key(e, options.order));
    if let Some(after) = &options.after {
        all.retain(|e| sort_key(e, options.order)[..] > after[..]);
    }
    Ok(Box::new(ListingOf::new(all)))
}

/// The buckets.
struct Buckets {
    store: Arc<Store>,
    next: Option<String>,
    ended: bool,
}

#[async_trait]
impl Pages for Buckets {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        while !self.ended {
            self.ended = true;
            let told = self
                .store
                .call(None, |c| c.list_buckets().set_continuation_token(self.next.clone()).send())
                .await?;
            self.next = told.continuation_token().filter(|t| !t.is_empty()).map(str::to_owned);
            let mut page = Vec::new();
            for bucket in told.buckets() {
                let name = bucket.name().unwrap_or_default();
                if !is_bucket_name(name) {
                    return Err(Error::new(ErrorKind::PeerMisbehaved)
                        .with_detail("the store tells of a bucket whose name cannot be"));
                }
                let created = bucket.creation_date().and_then(time);
                page.push(DirEntry {
                    name: Bytes::copy_from_slice(name.as_bytes()),
                    metadata: Metadata { created, ..Metadata::new(FileType::Directory, 0) },
                });
            }
            self.ended = self.next.is_none();
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}

/// One page as it came.
#[derive(Default)]
struct Page {
    objects: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    next: Option<String>,
    is_encoded: bool,
}

/// The objects and directories directly below a prefix.
struct Objects {
    store: Arc<Store>,
    bucket: String,
    prefix: String,
    /// Begin after this key of a listing.
    after: Option<Bytes>,
    /// The page that was read to see whether there is a directory.
    first: Option<Page>,
    next: Option<String>,
    ended: bool,
}

impl Objects {
    async fn open(
        store: Arc<Store>,
        bucket: String,
        key: Option<String>,
        after: Option<Bytes>,
    ) -> Result<Objects> {
        let prefix = key.as_ref().map_or_else(String::new, |key| format!("{key}/"));
        let mut all = Objects { store, bucket, prefix, after, first: None, next: None, ended: false };
        let page = all.fetch().await?;
        let is_nothing = page.objects.is_empty() && page.prefixes.is_empty() && page.next.is_none();
        if let (true, Some(key)) = (is_nothing, &key) {
            // Nothing behind a name is not nothing.
            let behind =
                all.after.is_some() && !all.store.some_under(&all.bucket, &all.prefix).await?.is_empty();
            if !behind {
                let kind = match all.store.head(&all.bucket, key).await {
                    Ok(_) => ErrorKind::NotADirectory,
                    Err(_) => ErrorKind::NotFound,
                };
                return Err(kind.into());
            }
        }
        if !all.prefix.is_empty() && all.after.is_none() {
            // The marker is the first of all keys with this prefix.
            let first = page.objects.first().and_then(Object::key).unwrap_or_default();
            let marked = decoded(first, page.is_encoded)? == all.prefix;
            all.store.saw_dir(&all.bucket, &all.prefix, marked);
        }
        all.first = Some(page);
        Ok(all)
    }

    async fn fetch(&self) -> Result<Page> {
        let after = match (&self.after, &self.next) {
            (Some(after), None) => {
                let name = after.strip_suffix(b"/").unwrap_or(after);
                let slash = if name.len() == after.len() { "" } else { "/" };
                Some(format!("{}{}{slash}", self.prefix, segment_of(name)?))
            }
            _ => None,
        };
        let told = self
            .store
            .call(Some(&self.bucket), |c| {
                c.list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(&self.prefix)
                    .delimiter("/")
                    .encoding_type(EncodingType::Url)
                    .set_max_keys(self.store.options.page.map(i32::from))
                    .set_start_after(after.clone())
                    .set_continuation_token(self.next.clone())
                    .set_request_payer(self.store.payer())
                    .send()
            })
            .await?;
        let next = told.next_continuation_token().filter(|t| !t.is_empty()).map(str::to_owned);
        if told.is_truncated() == Some(true) && next.is_none() {
            return Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the store has more to list and does not say how to go on"));
        }
        if next.is_some() && next == self.next {
            return Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the store lists the same page again and again"));
        }
        Ok(Page {
            next: next.filter(|_| told.is_truncated() != Some(false)),
            is_encoded: told.encoding_type() == Some(&EncodingType::Url),
            objects: told.contents.unwrap_or_default(),
            prefixes: told.common_prefixes.unwrap_or_default(),
        })
    }

    /// The name of a key, which must lie directly below the prefix; `None` for the directory itself.
    fn name(&self, key: &str, is_encoded: bool, directory: bool) -> Result<Bytes> {
        let no = || {
            Error::new(ErrorKind::PeerMisbehaved)
                .with_detail("the store lists a key that is not in the directory")
        };
        let key = decoded(key, is_encoded)?;
        let rest = key.strip_prefix(&self.prefix).ok_or_else(no)?;
        let segment = if directory { rest.strip_suffix('/').ok_or_else(no)? } else { rest };
        if segment.contains('/') {
            return Err(no());
        }
        let name = name_of(segment);
        check_name(name.as_bytes())?;
        Ok(Bytes::from(name))
    }

    fn entries(&self, page: &Page) -> Result<Vec<DirEntry>> {
        let mut entries = Vec::with_capacity(page.objects.len() + page.prefixes.len());
        let seen = page.objects.iter().filter_map(|o| decoded(o.key()?, page.is_encoded).ok());
        self.store.saw(&self.bucket, seen.filter(|key| *key != self.prefix));
        for told in &page.objects {
            let key = told.key().unwrap_or_default();
            let size = size_of(told.size())?;
            if size == 0 && decoded(key, page.is_encoded)? == self.prefix {
                continue;
            }
            let name = self.name(key, page.is_encoded, false)?;
            let metadata = object(size, told.last_modified(), told.e_tag());
            entries.push(DirEntry { name, metadata });
        }
        for told in &page.prefixes {
            let name = self.name(told.prefix().unwrap_or_default(), page.is_encoded, true)?;
            entries.push(DirEntry { name, metadata: Metadata::new(FileType::Directory, 0) });
        }
        // The two lists of a page are each in the order of keys.
        entries.sort_by_cached_key(|e| sort_key(e, Order::Key));
        if let Some(after) = &self.after {
            entries.retain(|e| sort_key(e, Order::Key)[..] > after[..]);
        }
        Ok(entries)
    }
}

#[async_trait]
impl Pages for Objects {
    async fn next_page(&mut self) -> Result<Option<Vec<DirEntry>>> {
        while !self.ended {
            self.ended = true;
            let page = match self.first.take() {
                Some(page) => page,
                None => self.fetch().await?,
            };
            let entries = self.entries(&page)?;
            self.next = page.next;
            self.ended = self.next.is_none();
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
        }
        Ok(None)
    }
}

/// A key as it is. Errors: `PeerMisbehaved` for one that is not UTF-8.
pub(super) fn decoded(key: &str, is_encoded: bool) -> Result<String> {
    if !is_encoded {
        return Ok(key.to_owned());
    }
    // As in forms, a plus is a space; one that is meant is encoded.
    let spaced: Vec<u8> = key.bytes().map(|b| if b == b'+' { b' ' } else { b }).collect();
    String::from_utf8(percent_decode(&spaced).collect()).map_err(|_| {
        Error::new(ErrorKind::PeerMisbehaved).with_detail("the store lists a key that is not UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_where_they_are_encoded() {
        assert_eq!(decoded("a%20b+c%2Bd/%C3%A4%01", true).unwrap(), "a b c+d/ä\u{1}");
        assert_eq!(decoded("a%20b+c", false).unwrap(), "a%20b+c");
        assert_eq!(decoded("%ff", true).unwrap_err().kind(), ErrorKind::PeerMisbehaved);
    }
}
