//! MKCOL, DELETE, COPY and MOVE (RFC 4918, sections 9.3, 9.6, 9.8, 9.9): entries and whole trees.
//!
//! Each entry is an operation of its own: permissions, locks and hooks are asked about every one. What fails
//! in the midst of a tree does not stop the rest of it; the answer says what failed. A cut does stop it.

use bytes::BytesMut;
use hyper::Response;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{CommitOptions, File as _, Filesystem, Follow, ListOptions, OpenOptions, Replace};
use session_core::fs_ext::MAX_ENTRIES;
use session_core::gate::SessionFs;
use session_core::locks::Lock;
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use super::respond::{Answer, Body, Failure, XML, empty, with_body};
use super::service::Call;
use super::{guard, proppatch};
use crate::status;
use crate::wire::depth::Depth;
use crate::wire::href::{self, Target};
use crate::wire::{multistatus, proppatch as update};

/// Failures that an answer names, at most.
const MAX_FAILURES: usize = 1000;
/// How much is copied at once.
const PIECE: usize = 256 * 1024;

/// MKCOL, with properties of the new directory or without (RFC 5689).
pub(super) async fn make(mut call: Call) -> Answer {
    let path = call.target.path.clone();
    guard::check_target(&call).await?;
    let changes = if call.body.is_empty() {
        Vec::new()
    } else {
        let is_xml = call.field("content-type").is_some_and(|t| {
            let t = t.split(';').next().unwrap_or_default().trim();
            t.eq_ignore_ascii_case("application/xml") || t.eq_ignore_ascii_case("text/xml")
        });
        let body = take(&mut call).await?;
        match is_xml {
            _ if body.is_empty() => Vec::new(),
            true => update::parse_mkcol(&body)?,
            false => return Err(Failure::new(415, ErrorKind::InvalidArgument, "MKCOL takes no such body")),
        }
    };
    let attributes = match proppatch::of_new_directory(&call, &changes) {
        Ok(attributes) => attributes,
        Err(answer) => return Ok(*answer),
    };
    call.fs.create_dir(&path, &attributes).await.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Failure::with_code(e, 405),
        ErrorKind::NotFound => Failure::with_code(e, 409),
        _ => guard::locked(&call, &path, e),
    })?;
    Ok(empty(201))
}

/// The body of XML that a request has.
pub(super) async fn take(call: &mut Call) -> Result<bytes::Bytes> {
    call.body.whole_of(call.options.max_body).await
}

/// What failed below a resource.
#[derive(Default)]
pub(super) struct Failures {
    out: String,
    count: usize,
}

impl Failures {
    /// Errors: the one that means that nothing more is to be tried.
    fn add(&mut self, call: &Call, path: &VPath, is_dir: bool, e: Error) -> Result<()> {
        if matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Unauthenticated) || self.count >= MAX_FAILURES
        {
            return Err(e);
        }
        self.count += 1;
        let about = (e.kind() == ErrorKind::Locked).then_some("lock-token-submitted");
        let (code, words) = (status::code(e.kind()), e.peer_words());
        multistatus::outcome(&call.href(path, is_dir), code, about, words, &mut self.out);
        Ok(())
    }

    /// A lock stands in the way. Its name is told only to who may see it.
    pub(super) async fn in_the_way(&mut self, call: &Call, lock: &Lock, about: &str) {
        if self.count < MAX_FAILURES
            && let Ok(Some(there)) = guard::itself(&call.fs, &lock.root).await
        {
            self.count += 1;
            let (href, e) = (call.href(&lock.root, there.is_dir()), Error::new(ErrorKind::Locked));
            multistatus::outcome(&href, status::code(e.kind()), Some(about), e.peer_words(), &mut self.out);
        }
    }

    /// What was not tried, because of the others (RFC 4918, section 11.4).
    pub(super) fn depends(&mut self, call: &Call, path: &VPath, is_dir: bool) {
        self.count += 1;
        multistatus::outcome(&call.href(path, is_dir), 424, None, "", &mut self.out);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn answer(self, code: u16) -> Response<Body> {
        if self.count == 0 {
            return empty(code);
        }
        with_body(207, XML, format!("{}{}{}", multistatus::HEAD, self.out, multistatus::TAIL))
    }
}

pub(super) async fn delete(call: Call) -> Answer {
    let path = call.target.path.clone();
    if path.is_root() {
        return Err(Failure::new(403, ErrorKind::Refused, "the root is not removed"));
    }
    if call.field("depth").is_some_and(|d| Depth::parse(d) != Some(Depth::Infinity)) {
        return Err(Failure::new(400, ErrorKind::InvalidArgument, "a tree is removed in whole"));
    }
    guard::check_target(&call).await?;
    let is_dir = match call.fs.stat(&path, Follow::No).await {
        Ok(there) => there.is_dir(),
        // Who may remove and not look finds out by removing.
        Err(e) if matches!(e.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied) => false,
        Err(e) => return Err(e.into()),
    };
    if !is_dir {
        call.fs.remove_file(&path).await.map_err(|e| guard::locked(&call, &path, e))?;
        return Ok(empty(204));
    }
    let mut failures = Failures::default();
    remove(&call, &path, &mut failures).await?;
    Ok(failures.answer(204))
}

/// Removes a tree, what is in a directory before it; a directory in which something stays, stays.
async fn remove(call: &Call, path: &VPath, failures: &mut Failures) -> Result<()> {
    enum Step {
        Enter(VPath),
        /// With how many failures there were when it was entered.
        Leave(VPath, usize),
    }
    let mut steps = vec![Step::Enter(path.clone())];
    while let Some(step) = steps.pop() {
        match step {
            Step::Leave(dir, before) => {
                // Why it is not empty has been said.
                if failures.count == before
                    && let Err(e) = call.fs.remove_dir(&dir).await
                    && e.kind() != ErrorKind::NotFound
                {
                    failures.add(call, &dir, true, e)?;
                }
            }
            Step::Enter(dir) => {
                steps.push(Step::Leave(dir.clone(), failures.count));
                let listed = each(&call.fs, &dir).await;
                let entries = match listed {
                    Ok(entries) => entries,
                    // A directory that may not be listed may be empty.
                    Err(e) if matches!(e.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied) => {
                        Vec::new()
                    }
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => {
                        failures.add(call, &dir, true, e)?;
                        continue;
                    }
                };
                for (at, metadata) in entries {
                    if metadata.is_dir() {
                        steps.push(Step::Enter(at));
                    } else if let Err(e) = call.fs.remove_file(&at).await
                        && e.kind() != ErrorKind::NotFound
                    {
                        failures.add(call, &at, false, e)?;
                    }
                }
                if steps.len() > MAX_ENTRIES {
                    return Err(Error::new(ErrorKind::TooLarge).with_detail("there are too many directories"));
                }
            }
        }
    }
    Ok(())
}

/// The entries of a directory, of which there may be so many.
async fn each(fs: &SessionFs, dir: &VPath) -> Result<Vec<(VPath, Metadata)>> {
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    let mut all = Vec::new();
    while let Some(page) = pages.next_page().await? {
        for entry in page {
            all.push((dir.join(&entry.name)?, entry.metadata));
        }
        if all.len() > MAX_ENTRIES {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("the directory holds too many entries"));
        }
    }
    Ok(all)
}

/// Where COPY and MOVE go, and whether they may replace something.
fn destination(call: &Call) -> Result<(Target, bool), Failure> {
    let Some(field) = call.field("destination") else {
        return Err(Failure::new(400, ErrorKind::InvalidArgument, "there is no Destination"));
    };
    let target = href::parse_url(field, &call.host, &call.options.prefix)?;
    let overwrite = match call.field("overwrite").map(str::trim) {
        None | Some("T" | "t") => true,
        Some("F" | "f") => false,
        Some(_) => return Err(Failure::new(400, ErrorKind::InvalidArgument, "Overwrite is T or F")),
    };
    let from = &call.target.path;
    if target.path == *from {
        return Err(Failure::new(403, ErrorKind::InvalidArgument, "source and destination are the same"));
    }
    if from.is_root() || target.path.is_root() {
        return Err(Failure::new(403, ErrorKind::Refused, "the root stays what it is"));
    }
    if target.path.starts_with(from) {
        return Err(Failure::new(403, ErrorKind::InvalidArgument, "a directory does not go into itself"));
    }
    if from.starts_with(&target.path) {
        return Err(Failure::new(403, ErrorKind::InvalidArgument, "the destination holds the source"));
    }
    Ok((target, overwrite))
}

/// What a failure at the destination is called.
fn at_destination(call: &Call, to: &VPath, e: Error) -> Failure {
    match e.kind() {
        ErrorKind::AlreadyExists => Failure::with_code(e, 412),
        ErrorKind::NotFound => Failure::with_code(e, 409),
        _ => guard::locked(call, to, e),
    }
}

/// Makes room at the destination where a replacement in one step is not possible.
async fn make_room(call: &Call, to: &VPath, there: &Metadata) -> Result<Option<Response<Body>>, Failure> {
    if !there.is_dir() {
        call.fs.remove_file(to).await.map_err(|e| guard::locked(call, to, e))?;
        return Ok(None);
    }
    let mut failures = Failures::default();
    remove(call, to, &mut failures).await?;
    Ok((failures.count > 0).then(|| failures.answer(207)))
}

pub(super) async fn rename(call: Call) -> Answer {
    let from = call.target.path.clone();
    if call.field("depth").is_some_and(|d| Depth::parse(d) != Some(Depth::Infinity)) {
        return Err(Failure::new(400, ErrorKind::InvalidArgument, "a tree is moved in whole"));
    }
    let (Target { path: to, .. }, overwrite) = destination(&call)?;
    guard::check_target(&call).await?;
    let source = guard::itself(&call.fs, &from).await?;
    let there = guard::itself(&call.fs, &to).await?;
    if source.is_none() {
        // Its own failure, if it is one: who may rename and not look goes on.
        if let Err(e) = call.fs.stat(&from, Follow::No).await
            && e.kind() == ErrorKind::NotFound
        {
            return Err(e.into());
        }
    }
    if let Some(there) = &there {
        if !overwrite {
            return Err(ErrorKind::PreconditionFailed.into());
        }
        let both_files = !there.is_dir() && source.as_ref().is_none_or(|s| !s.is_dir());
        if !(both_files && call.fs.capabilities().rename_replaces)
            && let Some(failed) = make_room(&call, &to, there).await?
        {
            return Ok(failed);
        }
    }
    let replaces = overwrite && call.fs.capabilities().rename_replaces;
    let replace = if replaces { Replace::Yes } else { Replace::No };
    match call.fs.rename(&from, &to, replace).await {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::CrossDevice => {
            let mut failures = Failures::default();
            copy_tree(&call, &from, &to, true, &mut failures).await?;
            if failures.count > 0 {
                return Ok(failures.answer(207));
            }
            remove(&call, &from, &mut failures).await?;
            if failures.count > 0 {
                return Ok(failures.answer(207));
            }
        }
        Err(e) if e.kind() == ErrorKind::Locked => return not_moved(&call, [&from, &to], e).await,
        Err(e) => return Err(at_destination(&call, &to, e)),
    }
    Ok(empty(if there.is_some() { 204 } else { 201 }))
}

/// Locks keep a tree from being moved: those of the names themselves are one condition that does not hold, those of
/// what is in the trees are told one by one (RFC 4918, section 9.9.6).
async fn not_moved(call: &Call, ends: [&VPath; 2], e: Error) -> Answer {
    let mut locks: Vec<Lock> = ends.iter().flat_map(|end| call.fs.locks_against(end)).collect();
    locks.sort_by(|a, b| a.root.cmp(&b.root));
    locks.dedup_by(|a, b| a.root == b.root);
    let is_within = |lock: &Lock| ends.iter().any(|end| lock.root != **end && lock.root.starts_with(end));
    let mut failures = Failures::default();
    if locks.iter().any(is_within) {
        for lock in &locks {
            failures.in_the_way(call, lock, "lock-token-submitted").await;
        }
    }
    if failures.is_empty() {
        let above = locks.iter().filter(|lock| !is_within(lock));
        let roots: Vec<_> = above.map(|lock| call.href(&lock.root, false)).collect();
        let failure = Failure::from(e);
        // An unfinished upload is no lock that a token would open.
        return Err(if roots.is_empty() { failure } else { failure.about("lock-token-submitted", roots) });
    }
    Ok(failures.answer(207))
}

pub(super) async fn copy(call: Call) -> Answer {
    let from = call.target.path.clone();
    let deep = match call.field("depth").map(Depth::parse) {
        None | Some(Some(Depth::Infinity)) => true,
        Some(Some(Depth::Zero)) => false,
        _ => {
            return Err(Failure::new(
                400,
                ErrorKind::InvalidArgument,
                "a tree is copied in whole, or its root alone",
            ));
        }
    };
    let (Target { path: to, .. }, overwrite) = destination(&call)?;
    guard::check_target(&call).await?;
    let source = match call.fs.stat(&from, Follow::Yes).await {
        Ok(source) => Some(source),
        // Who may copy and not look copies a file.
        Err(e) if matches!(e.kind(), ErrorKind::Refused | ErrorKind::PermissionDenied) => None,
        Err(e) => return Err(e.into()),
    };
    let is_dir = source.as_ref().is_some_and(Metadata::is_dir);
    let there = guard::itself(&call.fs, &to).await?;
    if let Some(there) = &there {
        if !overwrite {
            return Err(ErrorKind::PreconditionFailed.into());
        }
        if (is_dir || there.is_dir())
            && let Some(failed) = make_room(&call, &to, there).await?
        {
            return Ok(failed);
        }
    }
    let done = if there.is_some() { 204 } else { 201 };
    if !is_dir {
        let replace = if overwrite { Replace::Yes } else { Replace::No };
        copy_file(&call.fs, &from, &to, replace).await.map_err(|e| at_destination(&call, &to, e))?;
        return Ok(empty(done));
    }
    let mut failures = Failures::default();
    make_copy(&call.fs, &from, &to).await.map_err(|e| at_destination(&call, &to, e))?;
    if deep {
        copy_tree(&call, &from, &to, false, &mut failures).await?;
    }
    Ok(failures.answer(done))
}

/// A directory like another, without what is in it.
async fn make_copy(fs: &SessionFs, from: &VPath, to: &VPath) -> Result<()> {
    let like = fs.stat(from, Follow::Yes).await?;
    let mut attributes = Attributes::none();
    if fs.capabilities().properties {
        let kept = like.properties.iter().flat_map(|p| p.iter());
        attributes.properties = kept.map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
    }
    fs.create_dir(to, &attributes).await
}

/// Copies what is in `from` into `to`; with `root`, `from` itself, whatever it is.
async fn copy_tree(call: &Call, from: &VPath, to: &VPath, root: bool, failures: &mut Failures) -> Result<()> {
    let mut dirs = Vec::new();
    if root {
        if call.fs.stat(from, Follow::No).await?.is_dir() {
            make_copy(&call.fs, from, to).await?;
        } else {
            return copy_file(&call.fs, from, to, Replace::Yes).await;
        }
    }
    dirs.push((from.clone(), to.clone()));
    while let Some((from, to)) = dirs.pop() {
        let entries = match each(&call.fs, &from).await {
            Ok(entries) => entries,
            Err(e) => {
                failures.add(call, &from, true, e)?;
                continue;
            }
        };
        for (at, metadata) in entries {
            let target = to.join(at.name())?;
            if metadata.is_dir() {
                match make_copy(&call.fs, &at, &target).await {
                    Ok(()) => dirs.push((at, target)),
                    Err(e) => failures.add(call, &target, true, e)?,
                }
            } else if let Err(e) = copy_file(&call.fs, &at, &target, Replace::Yes).await {
                failures.add(call, &target, false, e)?;
            }
        }
        if dirs.len() > MAX_ENTRIES {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("there are too many directories"));
        }
    }
    Ok(())
}

async fn copy_file(fs: &SessionFs, from: &VPath, to: &VPath, replace: Replace) -> Result<()> {
    if fs.capabilities().server_copy {
        return fs.copy(from, to, replace).await;
    }
    let source = fs.open_file(from, &OpenOptions::read()).await?;
    let exclusive = replace == Replace::No;
    let target = fs.open_file(to, &OpenOptions { exclusive, ..OpenOptions::create() }).await?;
    let mut at = 0;
    loop {
        let piece = source.read_into(at, PIECE, BytesMut::with_capacity(PIECE)).await;
        let wrote = match piece {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => {
                let len = piece.len() as u64;
                target.write_at(at, piece.freeze()).await.map(|()| at += len)
            }
            Err(e) => Err(e),
        };
        if let Err(e) = wrote {
            let _ = target.abort().await;
            return Err(e);
        }
    }
    target.commit(&CommitOptions { expected_size: Some(at), ..CommitOptions::default() }).await.map(drop)
}
