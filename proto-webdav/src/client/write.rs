//! A file that is being written: a PUT.
//!
//! Bytes go in order. A call ahead of its turn waits a moment for those before it; a gap or a step back is
//! `Unsupported`, as is changing a file in place: PUT replaces the whole. A small file is kept until it is
//! committed and goes in one piece, so that it is sent again where the server asks for it and never seen in
//! part. A larger one flows while it is written; where its length was told, the last piece waits for the
//! commit, because a server that has all bytes has the file.
//!
//! A large file goes to Nextcloud in chunks (`chunks`), and can be kept.
//!
//! `commit` is the end of the body, the server's final word, the time, and a look at the size: all of it, or
//! an error. The look is left out of a small file whose answer has a strong ETag, which a server may send only where
//! it has stored what was sent as it was (RFC 9110, section 9.3.4), and only once a look has shown of this server
//! that such an ETag is the file's. `park`, a drop and `abort` break the request off: what becomes of its beginning
//! is the server's business, most throw it away. `abort` removes a new file that is there all the same.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hyper::Method;
use hyper::header::{ETAG, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File, OpenOptions, Unfinished};
use session_core::in_order::{InOrder, broken};
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::operation::OperationKind;
use session_core::path::VPath;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use super::body::{Out, Piece};
use super::call::{Answered, Ask};
use super::chunks::{Chunked, Kept, OC_MTIME};
use super::options::SetTimes;
use super::place::encode;
use super::props;
use super::refine::{as_kind, status_of};
use super::remote::{Remote, Times, settable};
use crate::wire::date;

/// A body under way.
struct Flow {
    source: mpsc::Sender<Piece>,
    sending: JoinHandle<Result<Answered>>,
    /// The length that was told, and the last piece, which waits for the commit.
    told: Option<(u64, Bytes)>,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Flow {
    /// Nobody waits for it any more: its connection closes, and the body is torn.
    fn drop(&mut self) {
        self.sending.abort();
    }
}

enum State {
    /// Nothing was sent.
    Held(BytesMut),
    /// Chunks go.
    Chunks(Box<Chunked>),
    /// Data flows.
    Open(Box<Flow>),
    /// It failed, or a write was given up half way: what arrived is not known. `true` where the server has
    /// refused it, so that what stands there is not ours.
    Broken(bool),
    /// Committed, parked, aborted or failed.
    Ended,
}

struct Inner {
    state: State,
    /// Where the next byte goes.
    at: u64,
    owed: Attributes,
    /// A commit failed; an abort may follow.
    failed: bool,
    /// The server has taken the file, or may have.
    stored: bool,
    /// The upload outlives this file.
    kept: Option<Kept>,
    /// It was committed or parked: no upload is this file's any more.
    over: bool,
}

pub(super) struct WriteFile {
    remote: Arc<Remote>,
    path: VPath,
    options: OpenOptions,
    /// The file was there before it was opened, as far as is known.
    existed: Option<bool>,
    inner: Mutex<Inner>,
    turns: InOrder,
    /// Bytes that did not have to be sent.
    spared: Arc<AtomicU64>,
}

impl WriteFile {
    /// Opens for writing. A small file of a size that is known is not looked at where any may be replaced:
    /// whether it can be stored is told by its commit.
    pub(super) async fn open(remote: Arc<Remote>, path: &VPath, options: &OpenOptions) -> Result<Arc<Self>> {
        settable(&remote, &options.attributes)?;
        if options.append {
            return Err(Error::unsupported(OperationKind::Open)
                .with_detail("WebDAV has no way to add to a file")
                .with_hint("write it anew"));
        }
        let hold = remote.options.hold as u64;
        let small = options.size_hint.is_some_and(|n| n <= hold);
        let any = options.create && options.truncate && !options.exclusive && options.if_match.is_none();
        let existed = if any && small { None } else { Some(Self::there(&remote, path, options).await?) };
        let spared = Arc::default();
        let mut chunked = Chunked::open(&remote, path, options, &spared).await?;
        let kept = chunked.as_mut().filter(|c| c.goes_on()).map(Chunked::keep);
        let flows = chunked.is_none() && (hold == 0 || options.size_hint.is_some_and(|n| n > hold));
        let file = WriteFile {
            path: path.clone(),
            options: options.clone(),
            existed,
            inner: Mutex::new(Inner {
                state: match chunked {
                    Some(chunked) => State::Chunks(Box::new(chunked)),
                    None => State::Held(BytesMut::new()),
                },
                at: 0,
                owed: if existed == Some(true) { Attributes::none() } else { options.attributes.clone() },
                failed: false,
                stored: false,
                kept,
                over: false,
            }),
            turns: InOrder::new("WebDAV"),
            spared,
            remote,
        };
        if flows {
            let flow = file.begin().await?;
            file.inner.lock().await.state = State::Open(flow);
        }
        Ok(Arc::new(file))
    }

    /// Whether the file is there, and may be written as is wanted.
    async fn there(remote: &Remote, path: &VPath, options: &OpenOptions) -> Result<bool> {
        let seen = match remote.look(path).await {
            Ok(m) => Some(m),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if let Some(wanted) = &options.if_match
            && seen.as_ref().and_then(|m| m.etag.as_ref()) != Some(wanted)
        {
            return Err(Error::new(ErrorKind::PreconditionFailed));
        }
        match seen {
            Some(_) if options.exclusive => Err(Error::new(ErrorKind::AlreadyExists)),
            Some(m) if m.is_dir() => Err(Error::new(ErrorKind::IsADirectory)),
            Some(_) if !options.truncate => Err(Error::unsupported(OperationKind::Open)
                .with_detail("WebDAV replaces a file as a whole")
                .with_hint("write it anew")),
            Some(_) => Ok(true),
            None if options.create => Ok(false),
            None => Err(Error::new(ErrorKind::NotFound)),
        }
    }

    /// The request, with the conditions that the server shall hold it to.
    fn ask(&self, owed: &Attributes) -> Result<Ask> {
        let mut ask =
            Ask::new(Method::PUT, encode(&self.path, false)).patience(self.remote.options.patience());
        if self.options.exclusive {
            ask = ask.with(IF_NONE_MATCH, "*")?.once();
        } else if let Some(etag) = &self.options.if_match {
            ask = ask.with(IF_MATCH, &format!("\"{etag}\""))?.once();
        } else if !self.options.create {
            ask = ask.with(IF_MATCH, "*")?;
        }
        // Who does not know it takes no notice of it.
        if matches!(self.remote.times(), Times::By(SetTimes::OwnCloud | SetTimes::Win32) | Times::Unsure)
            && let Some(time) = owed.modified
        {
            ask = ask.with(OC_MTIME, &props::seconds(time)?.to_string())?;
        }
        self.remote.under_locks(ask, &[&self.path])
    }

    /// Begins a body that flows.
    async fn begin(&self) -> Result<Box<Flow>> {
        let wire = &self.remote.wire;
        if wire.may_grow_stale() {
            // What flows cannot be sent again: the login is made fresh by what can.
            let fresh = wire.call(Ask::new(Method::OPTIONS, encode(&self.path, false))).await?;
            let _ = fresh.body.beginning().await;
        }
        let turn = wire.lines.turn().await?;
        let slot = wire.lines.slot().await?;
        let length = self.options.size_hint;
        let (source, out) = Out::flow(length);
        let ask = self.ask(&Attributes::none())?.flow(out, slot);
        let remote = Arc::clone(&self.remote);
        let sending = tokio::spawn(async move { remote.wire.call(ask).await });
        let told = length.map(|n| (n, Bytes::new()));
        Ok(Box::new(Flow { source, sending, told, _turn: turn }))
    }

    /// Hands a piece to the body. Errors: the server's answer, if it did not wait for the end.
    async fn send(&self, flow: &mut Flow, piece: Bytes) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        // Reaching the server and agreeing on TLS may take as long as a step each.
        let patience = self.remote.options.timeout * 3;
        let sent = if flow.sending.is_finished() {
            Ok(Err(()))
        } else {
            tokio::time::timeout(patience, flow.source.send(Piece::Data(piece)))
                .await
                .map(|r| r.map_err(drop))
        };
        match sent {
            Ok(Ok(())) => {
                self.remote.wire.lines.places.moves();
                Ok(())
            }
            Ok(Err(())) => Err(match self.answered(flow).await {
                Ok(_) => Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail("the server had its answer ready before the upload had ended"),
                Err(e) => e,
            }),
            Err(_) => Err(Error::new(ErrorKind::TimedOut)
                .with_detail("the server takes nothing of the upload any more")),
        }
    }

    /// The server's answer to the PUT, a success.
    async fn answered(&self, flow: &mut Flow) -> Result<Answered> {
        let answer = tokio::time::timeout(self.remote.options.patience(), &mut flow.sending).await;
        let answer = answer
            .map_err(|_| {
                Error::new(ErrorKind::TimedOut).with_detail("the server does not answer to the upload")
            })?
            .map_err(|e| Error::new(ErrorKind::Canceled).with_source(e))?;
        let done = match answer {
            Ok(answered) => answered.success().await,
            Err(e) => Err(e),
        };
        match done {
            Ok(answered) => Ok(answered),
            Err(e) => Err(self.why(e).await),
        }
    }

    /// What the refusal of a PUT means.
    async fn why(&self, e: Error) -> Error {
        match status_of(&e) {
            Some(412) if self.options.exclusive => as_kind(&e, ErrorKind::AlreadyExists),
            Some(412) if self.options.if_match.is_none() && self.options.create => {
                self.remote.lost_lock(&self.path, &e).unwrap_or(e)
            }
            Some(412) if self.options.if_match.is_none() => as_kind(&e, ErrorKind::NotFound),
            _ => self.remote.why_not_stored(&self.path, e).await,
        }
    }

    /// Writes in turn; the guard is the turn.
    async fn put(&self, offset: u64, data: Bytes) -> Result<()> {
        let at = |inner: &mut Inner| match inner.state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            State::Broken(_) => Err(broken()),
            _ => Ok((!data.is_empty()).then_some(inner.at)),
        };
        let mut inner = self.turns.turn(&self.inner, offset, at).await?;
        if data.is_empty() {
            return Ok(());
        }
        let end = inner.at + data.len() as u64;
        // Of chunks, nothing stands under the name.
        let apart = matches!(inner.state, State::Chunks(_));
        // Taken out while it moves: a call that is dropped half way leaves a file that is broken.
        let moved = match std::mem::replace(&mut inner.state, State::Broken(apart)) {
            State::Chunks(mut chunked) => chunked.take(data).await.map(|()| State::Chunks(chunked)),
            State::Held(mut held) if end <= self.remote.options.hold as u64 => {
                held.extend_from_slice(&data);
                Ok(State::Held(held))
            }
            State::Held(held) => match self.begin().await {
                Ok(mut flow) => {
                    let head = self.push(&mut flow, held.freeze(), inner.at).await;
                    let both = async { head.and(self.push(&mut flow, data, end).await) }.await;
                    both.map(|()| State::Open(flow))
                }
                Err(e) => Err(e),
            },
            State::Open(mut flow) => self.push(&mut flow, data, end).await.map(|()| State::Open(flow)),
            ended => Ok(ended),
        };
        inner.state = match moved {
            Ok(state) => state,
            Err(e) => {
                inner.state = State::Broken(apart || is_refusal(&e));
                return Err(e);
            }
        };
        inner.at = end;
        drop(inner);
        self.turns.moves();
        Ok(())
    }

    /// Sends what comes before `piece`, which ends at `end`, and `piece` itself where nothing waits.
    async fn push(&self, flow: &mut Flow, piece: Bytes, end: u64) -> Result<()> {
        let due = match &mut flow.told {
            Some((length, _)) if end > *length => {
                return Err(Error::new(ErrorKind::Corrupt)
                    .with_detail("the file is longer than was said when it was opened"));
            }
            Some((_, last)) => std::mem::replace(last, piece),
            None => piece,
        };
        self.send(flow, due).await
    }

    /// The end of data, and all that follows it.
    async fn finish(&self, inner: &mut Inner, options: &CommitOptions) -> Result<Metadata> {
        let attributes = options.attributes.clone().over(std::mem::take(&mut inner.owed));
        let size = inner.at;
        let announced =
            self.options.size_hint.filter(|_| matches!(inner.state, State::Chunks(_) | State::Open(_)));
        if let State::Broken(_) = inner.state {
            return Err(broken());
        }
        let state = std::mem::replace(&mut inner.state, State::Ended);
        if let Some(expected) = [options.expected_size, announced].into_iter().flatten().find(|e| *e != size)
        {
            // Nothing is published: the request is broken off, not ended.
            self.give_up(state, size).await;
            return Err(unlike(size, expected));
        }
        inner.failed = true;
        let in_one = matches!(state, State::Chunks(_) | State::Held(_));
        // Whether the server has taken the time with the file, and what it says of what it has stored.
        let mut stored = None;
        let timed = match state {
            State::Chunks(mut chunked) => {
                if let Some(wanted) = &self.options.if_match
                    && self.remote.look(&self.path).await?.etag.as_ref() != Some(wanted)
                {
                    return Err(ErrorKind::PreconditionFailed.into());
                }
                match chunked.finish(self.options.exclusive, attributes.modified).await {
                    Ok(timed) => timed,
                    Err(e) => return Err(self.why(e).await),
                }
            }
            State::Held(held) => {
                let ask = self.ask(&attributes)?.body(held.freeze());
                let sent = match self.remote.wire.call(ask).await {
                    Ok(answered) => answered.success().await,
                    Err(e) => Err(e),
                };
                match sent {
                    Ok(answered) => {
                        stored = as_sent(&answered, size);
                        took_time(answered).await
                    }
                    Err(e) => return Err(self.why(e).await),
                }
            }
            State::Open(mut flow) => {
                let last = flow.told.take().map(|(_, last)| last).unwrap_or_default();
                match self.end(&mut flow, last).await {
                    Ok(answered) => took_time(answered).await,
                    Err(e) => {
                        inner.stored = !is_refusal(&e);
                        return Err(e);
                    }
                }
            }
            State::Broken(_) | State::Ended => return Err(Error::new(ErrorKind::Closed)),
        };
        (inner.stored, inner.over) = (true, true);
        self.remote.set_properties(&self.path, &attributes).await?;
        match attributes.modified {
            Some(_) if timed && self.remote.times() == Times::Unsure => {
                self.remote.know(Times::By(SetTimes::OwnCloud));
            }
            Some(time) if !timed => {
                let set = self.remote.try_time(&self.path, time).await?;
                // A file that flowed had no header of the time, which this server may take.
                if !set && in_one {
                    self.remote.know(Times::Never);
                }
            }
            _ => {}
        }
        // What was set afterwards is another state than the answer's.
        let is_last = attributes.properties.is_empty() && (timed || attributes.modified.is_none());
        let metadata = match stored.filter(|_| is_last) {
            Some(stored) if self.remote.vouches.get() == Some(&true) => {
                Metadata { modified: attributes.modified.or(stored.modified), ..stored }
            }
            stored => {
                let seen = self.afterwards(&attributes, size).await?;
                if let Some(stored) = stored {
                    let _ = self.remote.vouches.set(seen.etag == stored.etag);
                }
                seen
            }
        };
        inner.failed = false;
        Ok(metadata)
    }

    /// The last piece, the end of the body, and the answer.
    async fn end(&self, flow: &mut Flow, last: Bytes) -> Result<Answered> {
        self.send(flow, last).await?;
        // A body whose length was told has ended by itself.
        let _ = flow.source.send(Piece::End).await;
        self.answered(flow).await
    }

    /// What is there now.
    async fn afterwards(&self, attributes: &Attributes, size: u64) -> Result<Metadata> {
        match self.remote.look(&self.path).await {
            Ok(seen) if seen.is_file() && seen.size == size => Ok(seen),
            Ok(seen) => Err(unlike(seen.size, size)),
            // Where a user may put and not look, or what was put was put away, the server's final word stands.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Unsupported
                ) =>
            {
                Ok(Metadata { modified: attributes.modified, ..Metadata::new(FileType::File, size) })
            }
            Err(e) => Err(e),
        }
    }

    /// Breaks an upload of `sent` bytes off and sees to it that no half file stays where there was none.
    async fn give_up(&self, state: State, sent: u64) {
        let ours = match state {
            State::Chunks(_) | State::Held(_) | State::Broken(true) => false,
            State::Open(_) | State::Broken(false) | State::Ended => true,
        };
        drop(state);
        if !ours || !(self.options.exclusive || self.existed == Some(false)) {
            return;
        }
        // Not what somebody else has put there meanwhile, as far as can be seen.
        if self.remote.look(&self.path).await.is_ok_and(|m| m.is_file() && m.size <= sent) {
            let _ = self.remote.delete(&self.path, false).await;
        }
    }
}

/// What the answer to a PUT of `size` bytes says of the file, where it says that they are there as they were sent.
fn as_sent(answered: &Answered, size: u64) -> Option<Metadata> {
    let etag = answered.header(ETAG).and_then(props::etag)?;
    let modified = answered.header(LAST_MODIFIED).and_then(date::parse_http);
    Some(Metadata { modified, etag: Some(etag.into()), ..Metadata::new(FileType::File, size) })
}

/// Whether the answer to a PUT says that the time that came with it was taken.
async fn took_time(answered: Answered) -> bool {
    let timed = answered.header(OC_MTIME).is_some_and(|v| v.eq_ignore_ascii_case("accepted"));
    let _ = answered.body.beginning().await;
    timed
}

/// Whether the server said no: then nothing of ours is there.
fn is_refusal(e: &Error) -> bool {
    status_of(e).is_some_and(|status| status < 500)
}

fn unlike(size: u64, expected: u64) -> Error {
    Error::new(ErrorKind::Corrupt).with_detail(format!("the file has {size} bytes, {expected} were expected"))
}

#[async_trait]
impl File for WriteFile {
    async fn read_into(&self, _: u64, _: usize, _: BytesMut) -> Result<BytesMut> {
        if !self.options.read {
            return Err(Error::new(ErrorKind::PermissionDenied).with_detail("not opened for reading"));
        }
        Err(Error::unsupported(OperationKind::Read)
            .with_detail("WebDAV cannot read a file while it is written"))
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Error::new(ErrorKind::OutOfRange));
        }
        self.put(offset, data).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        let inner = self.inner.lock().await;
        match inner.state {
            State::Ended => Err(Error::new(ErrorKind::Closed)),
            _ => Ok(Metadata::new(FileType::File, inner.at)),
        }
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        settable(&self.remote, attributes)?;
        let mut inner = self.inner.lock().await;
        if matches!(inner.state, State::Ended) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let owed = std::mem::take(&mut inner.owed);
        inner.owed = attributes.clone().over(owed);
        Ok(())
    }

    async fn commit(&self, options: &CommitOptions) -> Result<Metadata> {
        settable(&self.remote, &options.attributes)?;
        let mut inner = self.inner.lock().await;
        if matches!(inner.state, State::Ended) {
            return Err(Error::new(ErrorKind::Closed));
        }
        let done = self.finish(&mut inner, options).await;
        self.turns.moves();
        done
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

    async fn keep(&self) -> Result<Option<Unfinished>> {
        let mut inner = self.inner.lock().await;
        if inner.kept.is_none()
            && let State::Chunks(chunked) = &mut inner.state
        {
            inner.kept = Some(chunked.keep());
        }
        Ok(inner.kept.as_ref().map(|kept| kept.unfinished(&self.spared)))
    }

    async fn abort(&self) -> Result<()> {
        let mut inner = self.inner.lock().await;
        let state = std::mem::replace(&mut inner.state, State::Ended);
        self.turns.moves();
        if !inner.over
            && let Some(kept) = inner.kept.take()
        {
            inner.failed = false;
            let thrown = match state {
                State::Chunks(chunked) => chunked.abort().await,
                // It broke off half way, and the server has it still.
                _ => self.remote.throw_away(&kept.dir).await,
            };
            if thrown.is_err() {
                inner.kept = Some(kept);
            }
            return thrown;
        }
        match state {
            State::Chunks(chunked) => chunked.abort().await.or(Ok(())),
            State::Ended => {
                if !std::mem::take(&mut inner.failed) {
                    return Err(Error::new(ErrorKind::Closed));
                }
                if inner.stored {
                    self.give_up(State::Ended, inner.at).await;
                }
                Ok(())
            }
            state => {
                self.give_up(state, inner.at).await;
                Ok(())
            }
        }
    }
}
