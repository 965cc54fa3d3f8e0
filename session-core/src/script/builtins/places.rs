//! The natives behind `new VirtualFS(…)` and the clients of other servers: places are opened, let go of, and
//! files copied from one to another.
//!
//! A copy has any size; it is written beside its name where that is asked for, and what fails on the way leaves
//! nothing that the store can take back. Which place a file may come from or go to was decided when it was
//! opened.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use rquickjs::{Ctx, Exception, Function, Object, Result};
use serde_json::Value;

use super::files::{Answer, CHUNK, answer, at, invalid};
use super::session::path_of;
use super::{Slot, thrown};
use crate::error::{Error, ErrorKind, Result as Outcome};
use crate::fs::*;
use crate::gate::matches_pattern;
use crate::metadata::{Attributes, Metadata};
use crate::path::{VPath, utf16_to_bytes};
use crate::script::grants::Grant;
use crate::script::invocation::Invocation;
use crate::script::places::grant_of;

/// Where a call works.
pub(super) struct Place {
    pub(super) fs: Arc<dyn Filesystem>,
    /// Where relative paths begin.
    pub(super) base: VPath,
}

/// The place of a number; 0 is the user's files. One that was let go of is an answer and no exception.
pub(super) fn place_of(ctx: &Ctx<'_>, invocation: &Invocation, number: usize) -> Result<Outcome<Place>> {
    if number > 0 {
        let opened = invocation.places.at(number);
        return Ok(opened.map(|o| Place { fs: Arc::clone(&o.fs), base: o.base.clone() }));
    }
    invocation.needs(Grant::Files).map_err(|e| thrown(ctx, &e))?;
    let Some(files) = invocation.files() else {
        return Err(Exception::throw_message(ctx, "there are no files in this event"));
    };
    let base = path_of(ctx, invocation, &[])?;
    Ok(Ok(Place { fs: Arc::new(files), base }))
}

pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "mayOpen",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, request: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            read(&request).and_then(|r| invocation.needs(grant_of(&r)?)).map_err(|e| thrown(&ctx, &e))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "open",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, request: String| -> Result<Object<'js>> {
            let invocation = s.get(&ctx)?;
            let request = read(&request).map_err(|e| thrown(&ctx, &e))?;
            let may = grant_of(&request).and_then(|g| invocation.needs(g));
            may.map_err(|e| thrown(&ctx, &e))?;
            let done = open(&invocation, request);
            if invocation.is_over() {
                return Err(Exception::throw_message(&ctx, "interrupted"));
            }
            let place = done.as_ref().copied().unwrap_or_default();
            let told = answer(&ctx, done.map(|_| Answer::Done))?;
            told.set("place", place)?;
            Ok(told)
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "letGo",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, place: usize| -> Result<bool> {
            Ok(s.get(&ctx)?.places.let_go(place))
        })?,
    )?;
    native.set(
        "matches",
        Function::new(ctx.clone(), |pattern: Vec<u16>, name: Vec<u16>| -> bool {
            matches_pattern(&utf16_to_bytes(&pattern), &utf16_to_bytes(&name))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "copy",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  source: usize,
                  from: Vec<u16>,
                  target: usize,
                  to: Vec<u16>,
                  numbers: Vec<f64>|
                  -> Result<Object<'js>> {
                let invocation = s.get(&ctx)?;
                let mut ends = Vec::new();
                for (number, units) in [(source, from), (target, to)] {
                    match place_of(&ctx, &invocation, number)? {
                        Ok(place) => {
                            let path = VPath::parse(&place.base, &utf16_to_bytes(&units));
                            ends.push((place.fs, path.map_err(|e| thrown(&ctx, &e))?));
                        }
                        Err(e) => return answer(&ctx, Err(e)),
                    }
                }
                let [from, to] = ends.as_slice() else { return Err(rquickjs::Error::Unknown) };
                let how = how(&numbers).map_err(|e| thrown(&ctx, &e))?;
                let mut copied = false;
                let done = invocation.wait(async {
                    copied = copy((&*from.0, &from.1), (&*to.0, &to.1), &how).await?;
                    Ok(Answer::Done)
                });
                if invocation.is_over() {
                    return Err(Exception::throw_message(&ctx, "interrupted"));
                }
                let told = answer(&ctx, done)?;
                told.set("copied", copied)?;
                Ok(told)
            },
        )?,
    )
}

fn read(request: &str) -> Outcome<Value> {
    serde_json::from_str(request).map_err(|_| invalid("the request is not right"))
}

fn open(invocation: &Invocation, request: Value) -> Outcome<usize> {
    let is_folder = request.get("kind").is_some_and(|k| k == "disk");
    if let Some(there) = is_folder.then(|| invocation.places.known(&request)).flatten() {
        return Ok(there);
    }
    invocation.places.has_room()?;
    let host = invocation
        .services
        .host
        .clone()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported).with_detail("nothing can be opened here"))?;
    let opened = invocation.wait(async { host.open(&request).await })?;
    Ok(invocation.places.hold(opened, is_folder.then_some(request)))
}

/// Which files give way to a copy.
#[derive(Clone, Copy)]
enum Policy {
    Always,
    IfDifferentSize,
    IfNewer,
    Never,
}

struct How {
    policy: Policy,
    /// The copy gets the source's time.
    keeps_time: bool,
    /// It has another name until it is whole.
    by_temporary_name: bool,
}

/// As the prelude hands it over: the vendor's number of the policy, and two switches.
fn how(numbers: &[f64]) -> Outcome<How> {
    let policy = match at(numbers, 0) {
        Some(0) => Policy::Never,
        Some(1) | None => Policy::Always,
        Some(2) => Policy::IfDifferentSize,
        Some(3) => Policy::IfNewer,
        Some(_) => return Err(invalid("there is no such transfer policy")),
    };
    let is = |n| at(numbers, n).is_some_and(|v| v != 0);
    Ok(How { policy, keeps_time: is(1), by_temporary_name: is(2) })
}

/// Whether the file was copied: a policy may leave it.
async fn copy(from: (&dyn Filesystem, &VPath), to: (&dyn Filesystem, &VPath), how: &How) -> Outcome<bool> {
    let source = from.0.open(from.1, &OpenOptions::read()).await?;
    let told = source.metadata().await?;
    if !told.is_file() {
        return Err(Error::new(ErrorKind::IsADirectory).with_detail("only files are copied"));
    }
    let there = match to.0.stat(to.1, Follow::Yes).await {
        Ok(there) => Some(there),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    if there.as_ref().is_some_and(|there| !gives_way(there, &told, how.policy)) {
        return Ok(false);
    }
    let named = match how.by_temporary_name {
        true => to.1.parent().unwrap_or_else(VPath::root).join([to.1.name(), b".part"].concat())?,
        false => to.1.clone(),
    };
    let options = OpenOptions {
        size_hint: Some(told.size),
        exclusive: matches!(how.policy, Policy::Never) && !how.by_temporary_name,
        ..OpenOptions::create()
    };
    let target = to.0.open(&named, &options).await?;
    // Some stores have only times of their own.
    let time = told.modified.filter(|_| how.keeps_time && to.0.capabilities_at(to.1).set_times);
    if let Err(e) = pour(&*source, &*target, time).await {
        // The first error is the one that tells.
        let _ = target.abort().await;
        return Err(e);
    }
    if how.by_temporary_name {
        let replace = if there.is_some() { Replace::Yes } else { Replace::No };
        to.0.rename(&named, to.1, replace).await?;
    }
    Ok(true)
}

fn gives_way(there: &Metadata, source: &Metadata, policy: Policy) -> bool {
    match policy {
        Policy::Always => true,
        Policy::IfDifferentSize => there.size != source.size,
        // Where a time is not known, nothing says that the source is newer.
        Policy::IfNewer => there.modified.zip(source.modified).is_some_and(|(t, s)| s > t),
        Policy::Never => false,
    }
}

async fn pour(source: &dyn File, target: &dyn File, time: Option<SystemTime>) -> Outcome<()> {
    let mut offset = 0;
    loop {
        let chunk = source.read_into(offset, CHUNK, BytesMut::with_capacity(CHUNK)).await?;
        if chunk.is_empty() {
            break;
        }
        let read = chunk.len() as u64;
        target.write_at(offset, chunk.freeze()).await?;
        offset += read;
    }
    let attributes = Attributes::times(None, time);
    target.commit(&CommitOptions { expected_size: Some(offset), attributes }).await.map(|_| ())
}
