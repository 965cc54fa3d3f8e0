//! Removals that come side by side go in one request: DeleteObjects, up to a thousand keys.
//!
//! The first one goes by itself; what comes while it is on its way goes together, and so on: nobody waits for company,
//! and a single removal is a single DELETE. A store that has no such request, or takes none of ours, is asked one by
//! one from then on, also by later connections that are told so ([`Lack`]).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::stream::{StreamExt as _, iter};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::about::code_of;
use super::options::Lack;
use super::put::add_md5;
use super::refine::answered;
use super::store::Store;

/// The most keys of one request.
const MOST: usize = 1000;
/// Requests at a time, where each is for one key.
const AT_A_TIME: usize = 32;

/// A key, and who waits for it.
type Waiting = (String, oneshot::Sender<Result<()>>);

/// What is to be removed, by bucket. A bucket that has an entry has a task that works on it.
#[derive(Default)]
pub(super) struct Removals {
    waiting: Mutex<HashMap<String, VecDeque<Waiting>>>,
    one_by_one: AtomicBool,
}

impl Removals {
    /// Of a store that is known to have nothing of this.
    pub(super) fn of(lacks: &[Lack]) -> Self {
        let one_by_one = AtomicBool::new(lacks.contains(&Lack::ManyRemovals));
        Removals { one_by_one, ..Removals::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next keys of a bucket; `None` when there are none, and then nobody works on it any more.
    fn next(&self, bucket: &str) -> Option<Vec<Waiting>> {
        let mut all = self.lock();
        let waiting = all.get_mut(bucket)?;
        if waiting.is_empty() {
            all.remove(bucket);
            return None;
        }
        let take = waiting.len().min(MOST);
        Some(waiting.drain(..take).collect())
    }
}

/// Removes an object; one that is not there is fine. Dropping the future does not hold the removal back. Errors: those
/// of the store.
pub(super) async fn remove(store: &Arc<Store>, bucket: &str, key: &str) -> Result<()> {
    // XML cannot carry every key.
    if key.contains(char::is_control) {
        return store.delete(bucket, key).await;
    }
    let (done, told) = oneshot::channel();
    let is_first = {
        let mut all = store.removals.lock();
        let is_first = !all.contains_key(bucket);
        all.entry(bucket.to_owned()).or_default().push_back((key.to_owned(), done));
        is_first
    };
    if is_first {
        let (store, bucket) = (Arc::clone(store), bucket.to_owned());
        tokio::spawn(async move {
            while let Some(some) = store.removals.next(&bucket) {
                store.remove_some(&bucket, some).await;
            }
        });
    }
    told.await.unwrap_or_else(|_| Err(ErrorKind::Canceled.into()))
}

impl Store {
    async fn remove_some(&self, bucket: &str, mut some: Vec<Waiting>) {
        if some.len() > 1 && !self.removals.one_by_one.load(Ordering::Relaxed) {
            let keys: Vec<&str> = some.iter().map(|(key, _)| key.as_str()).collect();
            match self.delete_all(bucket, &keys).await {
                Ok(failed) => {
                    for (key, done) in some {
                        // Several may wait for the same key.
                        let _ = done.send(failed.get(&key).cloned().map_or(Ok(()), Err));
                    }
                    return;
                }
                Err(e) if is_unknown(&e) => {
                    if !self.removals.one_by_one.swap(true, Ordering::Relaxed) {
                        self.options.learns.tell(Lack::ManyRemovals);
                    }
                }
                Err(e) => {
                    for (_, done) in some {
                        let _ = done.send(Err(e.clone()));
                    }
                    return;
                }
            }
        }
        let each = some.drain(..).map(|(key, done)| async move {
            let _ = done.send(self.delete(bucket, &key).await);
        });
        iter(each).buffer_unordered(AT_A_TIME).collect::<()>().await;
    }

    /// Removes objects in one request; gives those that were not removed, and why. Errors: those of the store; also
    /// where it tells of one that is not for a key of ours.
    async fn delete_all(&self, bucket: &str, keys: &[&str]) -> Result<HashMap<String, Error>> {
        let named = keys.iter().map(|key| ObjectIdentifier::builder().key(*key).build());
        let named: std::result::Result<Vec<_>, _> = named.collect();
        let invalid = |e| Error::new(ErrorKind::InvalidArgument).with_source(e);
        let delete = Delete::builder().set_objects(Some(named.map_err(invalid)?)).quiet(true).build();
        let delete = delete.map_err(invalid)?;
        let told = self
            .again(|| {
                self.call(Some(bucket), |c| {
                    c.delete_objects()
                        .bucket(bucket)
                        .delete(delete.clone())
                        .set_request_payer(self.payer())
                        .customize()
                        .mutate_request(add_md5)
                        .send()
                })
            })
            .await?;
        let mut failed = HashMap::new();
        for e in told.errors() {
            let error = answered(200, e.code().unwrap_or_default(), e.message().unwrap_or_default(), None);
            let key = e.key().unwrap_or_default();
            if !keys.contains(&key) {
                return Err(error);
            }
            // A key that was not there is removed.
            if error.kind() != ErrorKind::NotFound {
                failed.insert(key.to_owned(), error);
            }
        }
        Ok(failed)
    }
}

/// Whether a store does not know such a request, or not the way we make it.
fn is_unknown(e: &Error) -> bool {
    e.kind() == ErrorKind::Unsupported
        || matches!(
            code_of(e),
            "InvalidArgument"
                | "InvalidDigest"
                | "InvalidRequest"
                | "MalformedXML"
                | "MethodNotAllowed"
                | "MissingContentMD5"
        )
}
