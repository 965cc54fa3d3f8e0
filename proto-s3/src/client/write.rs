//! A file that is being written: one PUT, or parts.
//!
//! Bytes go in order. A call ahead of its turn waits a moment for those before it; a gap or a step back is
//! `Unsupported`, as is changing an object in place: an object is replaced as a whole. A file up to the size of
//! a part is kept until it is committed and goes in one piece. A larger one goes in parts, several at a time, as
//! it comes; what waits in memory is bounded (`put`).
//!
//! Nothing is seen of it before the commit: `commit` puts it, or completes the upload, under the conditions that
//! it was opened with. `park`, a drop and `abort` abort the upload, so that no parts are left to be paid for; where
//! it is kept (`upload`), only `abort` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, OpenOptions, Unfinished};
use session_core::in_order::{InOrder, broken};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::sync::Mutex;

use super::about::says;
use super::copy::no_id;
use super::put::{Put, at_a_time, part_size};
use super::refine::as_kind;
use super::remote::{object_at, settable};
use super::store::{Store, bare_etag, quoted};
use super::sums::{algorithm, how};
use super::upload::{Upload, Words};
use crate::keyspace::Place;

enum State {
    /// No part was sent.
    Held(BytesMut),
    /// Parts go; the rest is the next one.
    Parts(Box<Upload>, BytesMut),
    /// It failed, or a write was given up half way.
    Broken,
    /// Committed, parked, aborted or failed.
    Ended,
}

struct Inner {
    state: State,
    /// Where the next byte goes.
    at: u64,
    /// A commit failed; an abort may follow.
    failed: bool,
    /// It was committed or parked: no upload is this file's any more.
    over: bool,
    /// The upload outlives this file.
    kept: Option<Words>,
}

pub(super) struct WriteFile {
    store: Arc<Store>,
    bucket: String,
    key: String,
    options: OpenOptions,
    inner: Mutex<Inner>,
    turns: InOrder,
    /// The size of its parts, where an upload that it goes on with has said so.
    part: Option<u64>,
    /// Bytes that did not have to be sent.
    spared: Arc<AtomicU64>,
}

impl WriteFile {
    /// Opens for writing. Where any may be replaced and the size is known, nothing is looked at: whether it can
    /// be stored is told by its commit. Errors: as `Filesystem::open`.
    pub(super) async fn open(store: Arc<Store>, path: &VPath, options: &OpenOptions) -> Result<Arc<Self>> {
        settable(&options.attributes)?;
        if options.append {
            return Err(Error::unsupported(OperationKind::Open)
                .with_detail("S3 has no way to add to an object")
                .with_hint("write it anew"));
        }
        let (bucket, key) = object_at(path)?;
        let any = options.create && options.truncate && !options.exclusive && options.if_match.is_none();
        let unfinished = options.unfinished.as_deref().filter(|_| options.truncate).and_then(Words::parse);
        if !(any && (options.size_hint.is_some() || unfinished.is_some())) {
            Self::there(&store, path, (&bucket, &key), options).await?;
        }
        let spared = Arc::default();
        let state = State::Held(BytesMut::new());
        let mut inner = Inner { state, at: 0, failed: false, over: false, kept: None };
        let mut part = None;
        if let Some(words) = unfinished
            && let Some(upload) =
                Upload::reopen(&store, (&bucket, &key), &words, options.size_hint, &spared).await?
        {
            part = Some(words.part);
            inner.state = State::Parts(Box::new(upload), BytesMut::new());
            inner.kept = Some(words);
        }
        Ok(Arc::new(WriteFile {
            store,
            bucket,
            key,
            options: options.clone(),
            inner: Mutex::new(inner),
            turns: InOrder::new("S3"),
            part,
            spared,
        }))
    }

    /// Whether the file may be written as is wanted.
    async fn there(
        store: &Store,
        path: &VPath,
        (bucket, key): (&str, &str),
        options: &OpenOptions,
    ) -> Result<()> {
        let prefix = Place::of(path)?.prefix();
        let (seen, below, parent) = tokio::join!(
            store.head(bucket, key),
            store.some_under(bucket, &prefix),
            store.needs_parent(path)
        );
        let seen = match seen {
            Ok(seen) => Some(seen),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            // Who may write and not look finds out when it is committed.
            Err(e) if e.kind() == ErrorKind::PermissionDenied && options.create => None,
            Err(e) => return Err(e),
        };
        let Some(seen) = seen else {
            return match below {
                Ok(below) if !below.is_empty() => Err(ErrorKind::IsADirectory.into()),
                _ if options.if_match.is_some() => Err(ErrorKind::PreconditionFailed.into()),
                _ if !options.create => Err(ErrorKind::NotFound.into()),
                Err(e) if e.kind() != ErrorKind::PermissionDenied => Err(e),
                _ => match parent {
                    Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
                    parent => parent,
                },
            };
        };
        if options.exclusive {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if options.if_match.is_some() && options.if_match != seen.etag {
            return Err(ErrorKind::PreconditionFailed.into());
        }
        if !options.truncate {
            return Err(Error::unsupported(OperationKind::Open)
                .with_detail("S3 replaces an object as a whole")
                .with_hint("write it anew"));
        }
        Ok(())
    }

    /// The size of the part with this number.
    fn part(&self, number: u64) -> usize {
        let size = self
            .part
            .unwrap_or_else(|| part_size(self.store.options.part_size, self.options.size_hint, number));
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    async fn begin(&self) -> Result<Box<Upload>> {
        let put = &self.store.options.putting;
        let tags = (!put.tags.is_empty()).then(|| put.tagging());
        let said = put.said(&self.key);
        let begin = |summed| {
            let (tags, said) = (&tags, &said);
            self.store.again(move || {
                self.store.call(Some(&self.bucket), move |c| {
                    says!(c.create_multipart_upload(), said)
                        .bucket(&self.bucket)
                        .key(&self.key)
                        .set_tagging(tags.clone())
                        .set_checksum_algorithm(algorithm(summed))
                        .set_request_payer(self.store.payer())
                        .send()
                })
            })
        };
        let (begun, summed) = self.store.sums.sent(begin).await?;
        let id = begun.upload_id().ok_or_else(no_id)?.to_owned();
        Ok(Box::new(Upload::new(&self.store, (&self.bucket, &self.key), id, summed, &self.spared)))
    }

    /// Takes bytes in, and sends what is full. A full part waits for the byte after it: the last part is the
    /// commit's.
    async fn take(&self, state: State, mut data: Bytes) -> Result<State> {
        let (mut upload, mut rest) = match state {
            State::Held(held) => (None, held),
            State::Parts(upload, rest) => (Some(upload), rest),
            ended => return Ok(ended),
        };
        while !data.is_empty() {
            let full = self.part(upload.as_ref().map_or(1, |u| u.next));
            if rest.len() >= full {
                let mut begun = match upload.take() {
                    Some(upload) => upload,
                    None => self.begin().await?,
                };
                let parallel = at_a_time(self.store.options.parallel, full as u64);
                begun.send(std::mem::take(&mut rest).freeze(), parallel).await?;
                upload = Some(begun);
                continue;
            }
            if upload.is_some() && rest.capacity() < full {
                rest.reserve(full - rest.len());
            }
            let piece = data.split_to(data.len().min(full - rest.len()));
            rest.extend_from_slice(&piece);
        }
        Ok(match upload {
            None => State::Held(rest),
            Some(upload) => State::Parts(upload, rest),
        })
    }

    /// Writes in turn; the guard is the turn.
    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        let at = |inner: &mut Inner| match inner.state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            State::Broken => Err(broken()),
            _ => Ok((!data.is_empty()).then_some(inner.at)),
        };
        let mut inner = self.turns.turn(&self.inner, offset, at).await?;
        if data.is_empty() {
            return Ok(());
        }
        let end = inner.at + data.len() as u64;
        // Taken out while it moves: a call that is dropped half way leaves a file that is broken.
        let state = std::mem::replace(&mut inner.state, State::Broken);
        inner.state = self.take(state, data).await?;
        inner.at = end;
        drop(inner);
        self.turns.moves();
        Ok(())
    }

    /// The conditions that the store shall hold the commit to.
    fn conditions(&self) -> (Option<String>, Option<String>) {
        let none = self.options.exclusive.then(|| "*".to_owned());
        (self.options.if_match.as_ref().map(|e| quoted(e)), none)
    }

    async fn put(&self, data: Bytes) -> Result<Option<String>> {
        let put = &self.store.options.putting;
        let tags = (!put.tags.is_empty()).then(|| put.tagging());
        let (matches, none) = self.conditions();
        let conditional = matches.is_some() || none.is_some();
        let said = put.said(&self.key);
        let once = |summed| {
            let (tags, said, matches, none, data) = (&tags, &said, &matches, &none, &data);
            self.store.call(Some(&self.bucket), move |c| {
                let asked = says!(c.put_object(), said)
                    .bucket(&self.bucket)
                    .key(&self.key)
                    .set_tagging(tags.clone())
                    .set_checksum_algorithm(algorithm(summed))
                    .set_request_payer(self.store.payer())
                    .set_if_match(matches.clone())
                    .set_if_none_match(none.clone())
                    .body(ByteStream::from(data.clone()));
                let asked = asked.customize().config_override(how(summed));
                let unsigned = self.store.unsigned_bodies();
                async move { if unsigned { asked.disable_payload_signing() } else { asked }.send().await }
            })
        };
        // Done twice, a condition would fail by our own doing.
        let send = |summed| async move {
            if conditional { once(summed).await } else { self.store.again(|| once(summed)).await }
        };
        let (told, summed) = self.store.sums.sent(send).await?;
        if summed {
            self.store.sums.learn(told.checksum_crc32());
        }
        Ok(told.e_tag().map(str::to_owned))
    }

    async fn complete(&self, upload: &mut Upload, rest: Bytes) -> Result<Option<String>> {
        let full = self.part(upload.next) as u64;
        upload.send(rest, at_a_time(self.store.options.parallel, full)).await?;
        let parts = upload.settle().await?;
        let (matches, none) = self.conditions();
        let told = self
            .store
            .call(Some(&self.bucket), |c| {
                c.complete_multipart_upload()
                    .bucket(&self.bucket)
                    .key(&self.key)
                    .upload_id(&upload.id)
                    .multipart_upload(parts.clone())
                    .set_if_match(matches.clone())
                    .set_if_none_match(none.clone())
                    .set_request_payer(self.store.payer())
                    .send()
            })
            .await?;
        upload.completed = true;
        Ok(told.e_tag().map(str::to_owned))
    }

    /// The end of data, and the store's word on it.
    async fn finish(&self, inner: &mut Inner, options: &CommitOptions) -> Result<Metadata> {
        let size = inner.at;
        let state = match std::mem::replace(&mut inner.state, State::Ended) {
            State::Broken => return Err(broken()),
            state => state,
        };
        if let Some(expected) = options.expected_size.filter(|e| *e != size) {
            return Err(Error::new(ErrorKind::Corrupt)
                .with_detail(format!("the file has {size} bytes, {expected} were expected")));
        }
        inner.failed = true;
        let done = match state {
            State::Held(held) if held.is_empty() && self.key.ends_with('/') => {
                return Err(Error::new(ErrorKind::InvalidPath)
                    .with_detail("an empty object of this name is the marker of a directory"));
            }
            State::Held(held) => self.put(held.freeze()).await,
            State::Parts(mut upload, rest) => self.complete(&mut upload, rest.freeze()).await,
            State::Broken | State::Ended => return Err(Error::new(ErrorKind::Closed)),
        };
        let etag = done.map_err(|e| match e.kind() {
            ErrorKind::PreconditionFailed if self.options.exclusive => as_kind(&e, ErrorKind::AlreadyExists),
            // Two who were to be the only one met.
            ErrorKind::Locked if self.options.exclusive => as_kind(&e, ErrorKind::AlreadyExists),
            _ => e,
        })?;
        (inner.failed, inner.over) = (false, true);
        self.store.made(&self.bucket, &self.key);
        Ok(Metadata { etag: etag.as_deref().map(bare_etag), ..Metadata::new(FileType::File, size) })
    }
}

#[async_trait]
impl File for WriteFile {
    async fn read_into(&self, _: u64, _: usize, _: BytesMut) -> Result<BytesMut> {
        if !self.options.read {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for reading"));
        }
        Err(Error::unsupported(OperationKind::Read)
            .with_detail("S3 cannot read an object while it is written"))
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Error::new(ErrorKind::OutOfRange));
        }
        self.write(offset, data).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        let inner = self.inner.lock().await;
        match inner.state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            _ => Ok(Metadata::new(FileType::File, inner.at)),
        }
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        settable(attributes)
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        settable(&options.attributes)?;
        let mut inner = self.inner.lock().await;
        if matches!(inner.state, State::Ended) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let done = self.finish(&mut inner, options).await;
        self.turns.moves();
        done
    }

    async fn keep(&self) -> Result<Option<Unfinished>> {
        let mut inner = self.inner.lock().await;
        if inner.kept.is_none() {
            let part = self.part(1) as u64;
            let Some(size) = self.options.size_hint.filter(|size| *size > part) else { return Ok(None) };
            let (mut upload, rest) = match std::mem::replace(&mut inner.state, State::Broken) {
                // Begun before there is anything to send, so that nothing is sent that nobody knows of.
                State::Held(rest) => (self.begin().await?, rest),
                State::Parts(upload, rest) => (upload, rest),
                State::Broken => return Err(broken()),
                State::Ended => {
                    inner.state = State::Ended;
                    return Err(Error::new(ErrorKind::Closed));
                }
            };
            let (checksums, id) = (upload.summed, upload.id.clone());
            inner.kept = Words { part, size, checksums, id }.usable();
            upload.keeps = inner.kept.is_some();
            inner.state = State::Parts(upload, rest);
        }
        let spared = self.spared.load(Ordering::Relaxed);
        Ok(inner.kept.as_ref().map(|words| Unfinished { words: words.text(), spared }))
    }

    async fn park(&self) -> Result<()> {
        let mut inner = self.inner.lock().await;
        let state = std::mem::replace(&mut inner.state, State::Ended);
        self.turns.moves();
        if matches!(state, State::Ended) {
            return Err(Error::new(ErrorKind::Closed));
        }
        inner.over = true;
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        let mut inner = self.inner.lock().await;
        let state = std::mem::replace(&mut inner.state, State::Ended);
        self.turns.moves();
        let failed = std::mem::take(&mut inner.failed);
        let thrown = match (state, &inner.kept) {
            (State::Parts(mut upload, _), kept) => {
                // Waited for, so that whoever looks afterwards finds nothing.
                upload.jobs.shutdown().await;
                let thrown = self.store.throw_away(&self.bucket, &self.key, &upload.id).await;
                upload.completed = thrown.is_ok();
                // One that is not kept is tried again by its drop.
                if kept.is_some() { thrown } else { Ok(()) }
            }
            // It broke off half way, and the store has it still.
            (_, Some(words)) if !inner.over => {
                self.store.throw_away(&self.bucket, &self.key, &words.id).await
            }
            (State::Ended, _) if !failed => return Err(Error::new(ErrorKind::Closed)),
            _ => Ok(()),
        };
        if thrown.is_ok() {
            inner.kept = None;
        }
        thrown
    }
}
