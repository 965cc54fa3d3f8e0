//! The native behind `PGP`: content of files and texts goes through the host's PGP, and what comes of it appears
//! whole or not at all.
//!
//! A target is written where nobody sees it and published when the host has said that all of it is good; what
//! fails, or is given up, leaves the target as it was. Where a store shows what is being written, it is written
//! under another name (`.ferry-….part`) first.

use std::sync::Arc;

use bytes::Bytes;
use rquickjs::{Ctx, Exception, Function, Object, Result};

use super::files::{Answer, answer};
use super::places::{Place, place_of};
use super::{Slot, content, thrown};
use crate::error::{Error, ErrorKind, Result as Outcome};
use crate::fs::*;
use crate::path::{VPath, utf16_to_bytes};
use crate::script::grants::Grant;
use crate::script::invocation::Invocation;
use crate::script::pgp::{Fingerprint, Inflow, Outflow, PgpTask};
use crate::script::services::Host;

/// The most bytes of a text.
const MOST: usize = 4 << 20;

/// The most bytes of a signature that stands apart.
const SIGNATURE: usize = 32 << 10;

/// One end of a call: a file at its place, or what a script gives or is told.
enum End {
    At(Arc<dyn Filesystem>, VPath),
    Content(Bytes),
}

/// What is written under another name first, to be removed if that is not for long.
type Draft = Option<(Arc<dyn Filesystem>, VPath)>;

pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "pgp",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, task: String, from: Object<'js>, to: Object<'js>| -> Result<Object<'js>> {
                let invocation = s.get(&ctx)?;
                invocation.needs(Grant::Pgp).map_err(|e| thrown(&ctx, &e))?;
                // The words name what is wrong with a fingerprint.
                let task: PgpTask =
                    serde_json::from_str(&task).map_err(|e| Exception::throw_type(&ctx, &e.to_string()))?;
                task.check().map_err(|e| thrown(&ctx, &e))?;
                let Some(host) = invocation.services.host.clone() else {
                    return Err(Exception::throw_message(&ctx, "there is nothing here that does this"));
                };
                let mut ends = Vec::new();
                for object in [from, to] {
                    match end(&ctx, &invocation, &object)? {
                        Ok(end) => ends.push(end),
                        Err(e) => return told(&ctx, Err(e)),
                    }
                }
                let (Some(to), Some(from)) = (ends.pop(), ends.pop()) else {
                    return Err(rquickjs::Error::Unknown);
                };
                let mut draft: Draft = None;
                let done = invocation.wait(carry_out(&*host, task, from, to, &mut draft));
                if let Some((fs, path)) = draft {
                    // It may be gone already.
                    invocation.tidy(async { drop(fs.remove_file(&path).await) });
                }
                if invocation.is_over() {
                    return Err(Exception::throw_message(&ctx, "interrupted"));
                }
                told(&ctx, done)
            },
        )?,
    )
}

/// An end as the prelude describes it: `place` and `path`, or `data`; neither for what is told.
fn end<'js>(ctx: &Ctx<'js>, invocation: &Invocation, object: &Object<'js>) -> Result<Outcome<End>> {
    let path: Option<Vec<u16>> = object.get("path")?;
    let Some(units) = path else {
        let data: Option<rquickjs::String<'js>> = object.get("data")?;
        let given = data.map(|d| content(ctx, &d)).transpose()?.unwrap_or_default();
        return Ok(Ok(End::Content(given.into())));
    };
    match place_of(ctx, invocation, object.get("place")?)? {
        Ok(Place { fs, base }) => {
            let path = VPath::parse(&base, &utf16_to_bytes(&units)).map_err(|e| thrown(ctx, &e))?;
            Ok(Ok(End::At(fs, path)))
        }
        Err(e) => Ok(Err(e)),
    }
}

fn told<'js>(ctx: &Ctx<'js>, done: Outcome<(Vec<u8>, Vec<Fingerprint>)>) -> Result<Object<'js>> {
    let (content, signers) = match done {
        Ok((content, signers)) => (Ok(Answer::Content(content)), signers),
        Err(e) => (Err(e), Vec::new()),
    };
    let object = answer(ctx, content)?;
    object.set("signers", signers.iter().map(|s| s.as_str().to_owned()).collect::<Vec<_>>())?;
    Ok(object)
}

/// The content for a script, and who has signed.
async fn carry_out(
    host: &dyn Host,
    mut task: PgpTask,
    from: End,
    to: End,
    draft: &mut Draft,
) -> Outcome<(Vec<u8>, Vec<Fingerprint>)> {
    let from = match from {
        End::At(fs, path) => Inflow::file(open(&*fs, &path).await?),
        End::Content(given) if given.len() > MOST => return Err(too_large("a text", MOST)),
        End::Content(given) => Inflow::content(given),
    };
    match (&mut task, to) {
        (PgpTask::Verify { signature, .. }, to) => {
            *signature = match to {
                End::At(fs, path) => small(open(&*fs, &path).await?).await?,
                End::Content(given) if given.len() > SIGNATURE => {
                    return Err(too_large("a signature", SIGNATURE));
                }
                End::Content(given) => given,
            };
            let signers = host.pgp(&task, from, &mut Outflow::nowhere()).await?;
            Ok((Vec::new(), signers))
        }
        (_, End::Content(_)) => {
            let mut into = Outflow::content(MOST);
            let signers = host.pgp(&task, from, &mut into).await?;
            Ok((into.into_content(), signers))
        }
        (_, End::At(fs, path)) => {
            let whole = fs.capabilities_at(&path).whole_files;
            let name = format!(".ferry-{}.part", uuid::Uuid::now_v7().simple());
            let named = match whole {
                true => path.clone(),
                false => path.parent().unwrap_or_else(VPath::root).join(name)?,
            };
            let options = OpenOptions { apart: true, exclusive: !whole, ..OpenOptions::create() };
            let file = fs.open(&named, &options).await?;
            *draft = (!whole).then(|| (Arc::clone(&fs), named.clone()));
            let mut into = Outflow::file(Arc::clone(&file));
            let signers = match host.pgp(&task, from, &mut into).await {
                Ok(signers) => signers,
                Err(e) => {
                    // The first error is the one that tells.
                    let _ = file.abort().await;
                    return Err(e);
                }
            };
            let expected_size = Some(into.written());
            file.commit(&CommitOptions { expected_size, ..CommitOptions::default() }).await?;
            if !whole {
                fs.rename(&named, &path, Replace::Yes).await?;
                *draft = None;
            }
            Ok((Vec::new(), signers))
        }
    }
}

fn too_large(what: &str, most: usize) -> Error {
    Error::new(ErrorKind::TooLarge).with_detail(format!("{what} has at most {most} bytes"))
}

async fn open(fs: &dyn Filesystem, path: &VPath) -> Outcome<Arc<dyn File>> {
    let file = fs.open(path, &OpenOptions::read()).await?;
    match file.metadata().await?.is_file() {
        true => Ok(file),
        false => Err(ErrorKind::IsADirectory.into()),
    }
}

async fn small(file: Arc<dyn File>) -> Outcome<Bytes> {
    let (mut from, mut all) = (Inflow::file(file), Vec::new());
    loop {
        let piece = from.next().await?;
        if piece.is_empty() {
            return Ok(all.into());
        }
        all.extend_from_slice(&piece);
        if all.len() > SIGNATURE {
            return Err(too_large("a signature", SIGNATURE));
        }
    }
}
