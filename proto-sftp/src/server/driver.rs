//! The driver: runs one SFTP session's machine over a guarded filesystem.
//!
//! Each new call is polled at once, in place: one that is answered from memory or the page cache costs no
//! task hop and no wake-up. Those that must wait run side by side, within the machine's bounds. Replies
//! gather while the transport is busy and leave as few large pieces; while it stays busy, no further
//! calls are begun and no more input is taken.
//!
//! At the end of input everything that arrived is carried out, then written files without a CLOSE are
//! parked. When the session is cut the driver returns at once; dropping the files parks them.
//!
//! Deliberately absent: SSH, time-outs (the session's and the transport's), counting of wire bytes.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, poll_immediate};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File, Filesystem};
use session_core::gate::SessionFs;
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::session::{Argument, Running, Session};

use super::calls::{Object, OpenFile, Shared};
use super::machine::{At, Bounds, Call, Done, Machine, Output, Token};

/// Where replies go.
pub trait Outgoing: Send + 'static {
    /// Sends all of `bytes`, waiting as long as the peer does not take them. Errors: `Disconnected`.
    fn send(&mut self, bytes: Bytes) -> impl Future<Output = Result<()>> + Send;
}

/// The end of what is being sent; `None` if nothing is.
async fn sent<T>(sending: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
    match sending {
        Some(work) => Some(work.await),
        None => None,
    }
}

/// How a call ended, and what it opened.
struct Finished {
    token: Token,
    result: Result<Done>,
    opened: Opened,
}

/// The number of a handle and what it stands for from now on.
type Opened = Option<(u64, Object)>;
type Work = BoxFuture<'static, Finished>;

/// The bulk request that the live view shows: begun once for a run of reads or writes of one file.
struct Bulk {
    verb: &'static str,
    handle: u64,
    _running: Running,
}

/// How many pieces of input or outcomes are taken before replies get their turn.
const TURN: usize = 64;

/// How long nothing must happen before a session gives its buffers back. Sooner, a client that asks for
/// one thing after the other would have them made anew each time.
const QUIET: Duration = Duration::from_millis(200);

/// Whether the client sends SYMLINK in the draft's order. asyncssh does, to servers that are not called
/// OpenSSH or paramiko; read the other way its link would point the wrong way, and nobody would be told.
fn sends_link_first(fs: &SessionFs) -> bool {
    fs.session().client_version().contains("AsyncSSH")
}

/// One SFTP session on the server.
pub struct Driver {
    machine: Machine,
    shared: Arc<Shared>,
    objects: HashMap<u64, Object>,
    bulk: Option<Bulk>,
}

impl Driver {
    /// A driver over `fs`, with the usual bounds.
    pub fn new(fs: SessionFs) -> Self {
        Self::with_bounds(fs, Bounds::default())
    }

    /// A driver with bounds of its own.
    pub fn with_bounds(fs: SessionFs, bounds: Bounds) -> Self {
        let home = fs.session().identity().map_or_else(VPath::root, |i| i.account().home.clone());
        Driver {
            machine: Machine::new(bounds).with_home(home).with_link_first(sends_link_first(&fs)),
            shared: Shared::new(fs),
            objects: HashMap::new(),
            bulk: None,
        }
    }

    fn session(&self) -> &Arc<Session> {
        self.shared.fs.session()
    }

    /// Serves until the peer ends its input and everything is answered.
    ///
    /// Errors: `PeerMisbehaved` (it broke the protocol), `Refused` (INIT was), `Disconnected` (it cannot
    /// be written to), `Canceled` (the session was cut). However it ends, written files without a CLOSE
    /// are parked. Dropping the future has the effect of a cut.
    pub async fn run<I, O>(mut self, mut incoming: I, outgoing: O) -> Result<()>
    where
        I: Stream<Item = Result<Bytes>> + Unpin + Send,
        O: Outgoing,
    {
        let session = Arc::clone(self.session());
        let mut cut = pin!(session.cancel_token().cancelled());
        let mut calls: FuturesUnordered<Work> = FuturesUnordered::new();
        let mut idle = Some(outgoing);
        let mut sending: Option<BoxFuture<'static, (O, Result<()>)>> = None;
        let mut ended = false;
        let mut relaxed = true;
        let mut failure: Option<Error> = None;

        loop {
            // What can be done without waiting, before anything is sent: replies gather meanwhile.
            for _ in 0..TURN {
                self.issue(&mut calls, &mut failure).await;
                if !calls.is_empty()
                    && let Some(Some(finished)) = poll_immediate(calls.next()).await
                {
                    self.finish(finished);
                    continue;
                }
                if ended || !self.machine.wants_input() {
                    break;
                }
                match poll_immediate(incoming.next()).await {
                    Some(chunk) => ended = !self.take_in(chunk, &mut failure),
                    None => break,
                }
            }
            let quiet = self.machine.is_idle();
            if quiet {
                self.bulk = None;
            }
            if let Some(code) = self.machine.take_status() {
                session.note_status(code);
            }
            if let Some(mut to) = idle.take() {
                match self.machine.take_output() {
                    Some(bytes) => {
                        sending = Some(Box::pin(async move {
                            let result = to.send(bytes).await;
                            (to, result)
                        }));
                    }
                    None => idle = Some(to),
                }
            }
            let over = ended || self.machine.is_closed();
            if over && calls.is_empty() && sending.is_none() && (self.machine.is_idle() || idle.is_none()) {
                break;
            }
            tokio::select! {
                biased;
                () = &mut cut => {
                    return Err(Error::new(ErrorKind::Canceled).with_detail("the session has ended"));
                }
                Some(finished) = calls.next(), if !calls.is_empty() => self.finish(finished),
                Some((to, result)) = sent(&mut sending), if sending.is_some() => {
                    sending = None;
                    match result {
                        Ok(()) => idle = Some(to),
                        // Nobody hears us: what runs may finish, nothing more is begun.
                        Err(e) => {
                            failure.get_or_insert(e);
                            self.machine.stop();
                        }
                    }
                }
                chunk = incoming.next(), if !ended && self.machine.wants_input() => {
                    ended = !self.take_in(chunk, &mut failure);
                    relaxed = false;
                }
                () = tokio::time::sleep(QUIET), if quiet && !relaxed => {
                    self.machine.relax();
                    relaxed = true;
                }
            }
        }
        self.park().await;
        failure.map_or(Ok(()), Err)
    }

    /// Gives the machine what arrived; `false` at the end of input.
    fn take_in(&mut self, chunk: Option<Result<Bytes>>, failure: &mut Option<Error>) -> bool {
        match chunk {
            Some(Ok(bytes)) => {
                self.machine.receive(bytes);
                return true;
            }
            Some(Err(e)) => {
                failure.get_or_insert(e);
            }
            None => {}
        }
        self.machine.end_of_input();
        false
    }

    /// Begins what the machine wants, each call polled once where it stands.
    async fn issue(&mut self, calls: &mut FuturesUnordered<Work>, failure: &mut Option<Error>) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Call { token, verb, argument, call } => {
                    let mut work = self.start(token, verb, argument, call);
                    match poll_immediate(&mut work).await {
                        Some(finished) => self.finish(finished),
                        None => calls.push(work),
                    }
                }
                Output::Rejected(e) => self.session().note_error(&e),
                Output::Close(e) => {
                    // What arrived before is still carried out and answered.
                    self.session().note_error(&e);
                    failure.get_or_insert(e);
                }
            }
        }
    }

    fn finish(&mut self, finished: Finished) {
        if let Some((number, object)) = finished.opened {
            self.objects.insert(number, object);
        }
        self.machine.complete(finished.token, finished.result);
    }

    fn file(&self, handle: u64) -> Result<Arc<OpenFile>> {
        match self.objects.get(&handle) {
            Some(Object::File(file)) => Ok(Arc::clone(file)),
            _ => Err(Error::new(ErrorKind::Closed)),
        }
    }

    /// A run of reads or writes of one file counts as one command.
    fn bulk(&mut self, verb: &'static str, handle: u64, argument: Argument) {
        if !self.bulk.as_ref().is_some_and(|b| b.verb == verb && b.handle == handle) {
            let running = self.session().begin_command(verb, argument);
            self.bulk = Some(Bulk { verb, handle, _running: running });
        }
    }

    fn start(&mut self, token: Token, verb: &'static str, argument: Argument, call: Call) -> Work {
        // Bulk first, and small: nothing but the file and its argument.
        match call {
            Call::Read { handle, offset, len, buf } => {
                self.bulk(verb, handle, argument);
                let file = self.file(handle);
                return Box::pin(async move {
                    let result = match file {
                        Ok(file) => file.read(offset, len, buf).await,
                        Err(e) => Err(e),
                    };
                    Finished { token, result, opened: None }
                });
            }
            Call::Write { handle, offset, data } => {
                self.bulk(verb, handle, argument);
                let file = self.file(handle);
                return Box::pin(async move {
                    let result = match file {
                        Ok(file) => file.write(offset, data).await,
                        Err(e) => Err(e),
                    };
                    Finished { token, result, opened: None }
                });
            }
            _ => {}
        }
        let running = self.session().begin_command(verb, argument);
        let work = self.work(call);
        Box::pin(async move {
            let (result, opened) = match work.await {
                Ok((done, opened)) => (Ok(done), opened),
                Err(e) => (Err(e), None),
            };
            drop(running);
            Finished { token, result, opened }
        })
    }

    /// A call as a future of its own. What it needs of the table of objects is taken now.
    fn work(&mut self, call: Call) -> BoxFuture<'static, Result<(Done, Opened)>> {
        let shared = Arc::clone(&self.shared);
        let file = match &call {
            Call::CheckFile { at: At::Handle(h), .. }
            | Call::CopyData { source: h, .. }
            | Call::SetAttributes { at: At::Handle(h), .. }
            | Call::Stat { at: At::Handle(h), .. }
            | Call::Commit { handle: h }
            | Call::Sync { handle: h } => self.file(*h),
            _ => Err(Error::new(ErrorKind::Closed)),
        };
        let other = match &call {
            Call::CopyData { target, .. } => self.file(*target),
            _ => Err(Error::new(ErrorKind::Closed)),
        };
        let directory = match &call {
            Call::Page { handle } => self.objects.get(handle).cloned(),
            _ => None,
        };
        if let Call::Close { handle } | Call::Commit { handle } = &call {
            self.objects.remove(handle);
        }
        Box::pin(async move {
            let fs = &shared.fs;
            let done = match call {
                Call::Open { handle, path, options } => {
                    let object = shared.open(&path, *options).await?;
                    return Ok((Done::Ok, Some((handle, object))));
                }
                Call::List { handle, path } => {
                    let object = shared.list(&path).await?;
                    return Ok((Done::Ok, Some((handle, object))));
                }
                Call::Page { .. } => match directory {
                    Some(Object::Directory(directory)) => shared.page(&directory).await?,
                    _ => return Err(Error::new(ErrorKind::Closed)),
                },
                Call::CheckFile { at: At::Handle(_), check, old } => file?.check(&check, old).await?,
                Call::CheckFile { at: At::Path(path), check, .. } => shared.check_name(&path, &check).await?,
                Call::Close { .. } => Done::Ok,
                Call::Command { verb, argument } => {
                    fs.session().command(verb, &argument).await?;
                    Done::Ok
                }
                Call::Commit { .. } => file?.commit().await?,
                Call::CopyData { source_offset, len, target_offset, .. } => {
                    file?.copy_to(source_offset, len, &*other?, target_offset).await?
                }
                Call::CreateDir { path, attributes } => shared.create_dir(&path, *attributes).await?,
                Call::HardLink { from, to } => fs.hard_link(&from, &to).await.map(|()| Done::Ok)?,
                Call::HomeDirectory { user } => {
                    fs.session().command("HOME-DIRECTORY", "").await?;
                    shared.home(&user)?
                }
                Call::Names { uids, gids } => shared.names(&uids, &gids),
                Call::ReadLink { path } => Done::Path(fs.read_link(&path).await?),
                Call::RemoveDir { path } => fs.remove_dir(&path).await.map(|()| Done::Ok)?,
                Call::RemoveFile { path } => fs.remove_file(&path).await.map(|()| Done::Ok)?,
                Call::Rename { from, to, replace } => {
                    fs.rename(&from, &to, replace).await.map(|()| Done::Ok)?
                }
                Call::SetAttributes { at: At::Handle(_), attributes, .. } => {
                    file?.file().set_attributes(&attributes).await.map(|()| Done::Ok)?
                }
                Call::SetAttributes { at: At::Path(path), attributes, follow } => {
                    fs.set_attributes(&path, &attributes, follow).await.map(|()| Done::Ok)?
                }
                Call::Space { path } => shared.space(&path).await?,
                Call::Stat { at: At::Handle(_), .. } => Done::Metadata(file?.file().metadata().await?),
                Call::Stat { at: At::Path(path), follow } => Done::Metadata(fs.stat(&path, follow).await?),
                Call::Symlink { target, link } => fs.symlink(&target, &link).await.map(|()| Done::Ok)?,
                Call::Sync { .. } => file?.file().sync().await.map(|()| Done::Ok)?,
                // Begun by `start`.
                Call::Read { .. } | Call::Write { .. } => {
                    return Err(Error::unsupported(OperationKind::Read));
                }
            };
            Ok((done, None))
        })
    }

    /// What was written and not closed is kept for its owner.
    async fn park(&mut self) {
        for (_, object) in self.objects.drain() {
            if let Object::File(file) = object
                && file.file().writes()
                && let Err(e) = file.file().park().await
            {
                tracing::debug!(error = %e, "a file could not be parked");
            }
        }
    }
}
