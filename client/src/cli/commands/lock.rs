//! `lock`, `unlock`: locks of WebDAV that outlive the command.

use std::sync::Arc;
use std::time::Duration;

use proto_webdav::client::WebdavRemote;
use serde_json::Value;
use session_core::error::{Error, ErrorKind, Result};
use session_core::locks::{Lock, LockRequest};

use super::Context;
use super::changes::{Became, Teller, at, with};
use crate::cli::locks::{self, Kept, LockPlaces, Unlock, elsewhere};
use crate::cli::places::Place;

/// What others see of who has the lock.
const WORDS: &str = "ferry";

async fn open(cx: &mut Context, text: &str) -> Result<(Place, Arc<WebdavRemote>)> {
    let place = cx.places.open(text).await?;
    let remote = if place.remote { cx.places.webdav(&place.key) } else { None };
    let remote = remote.ok_or_else(|| elsewhere(&place.shown))?;
    Ok((place, remote))
}

pub(super) async fn lock(cx: &mut Context, a: &LockPlaces) -> Result<()> {
    let mut teller = Teller::new("lock");
    let request = LockRequest { exclusive: !a.shared, deep: a.deep, words: WORDS.into(), time: a.time };
    for text in &a.places {
        let (place, lock) = match lock_one(cx, text, &request).await {
            Ok(made) => made,
            Err(e) => {
                teller.unopened(cx, text, e);
                continue;
            }
        };
        let time = (lock.left != Duration::MAX).then_some(lock.left.as_secs());
        let mut fields = at(&place, &place.path);
        for (name, value) in [
            ("token", Value::from(&*lock.token)),
            ("exclusive", lock.exclusive.into()),
            ("deep", lock.deep.into()),
            ("seconds", time.into()),
        ] {
            fields.insert(name.into(), value);
        }
        teller.tell(cx, fields, Ok(Became::Done));
        if !cx.global.json {
            let time = time.map_or_else(|| "until it is given back".to_owned(), |n| format!("for {n} s"));
            teller.line(&format!("{} {time}: {}", lock.token, place.shown));
        }
    }
    Ok(())
}

async fn lock_one(cx: &mut Context, text: &str, request: &LockRequest) -> Result<(Place, Lock)> {
    let kept = Kept::of_user()?;
    let (place, remote) = open(cx, text).await?;
    let lock = remote.lock(&place.path, request).await?;
    let stays = remote.keep_lock(&lock.token).ok_or(ErrorKind::Internal)?;
    if let Err(e) = kept.keep(&place.key, &stays, lock.left) {
        // Nobody could show it.
        let _ = remote.unlock(&place.path, &lock.token).await;
        return Err(e);
    }
    Ok((place, lock))
}

pub(super) async fn unlock(cx: &mut Context, a: &Unlock) -> Result<()> {
    let mut teller = Teller::new("unlock");
    for text in &a.places {
        if let Err(e) = unlock_one(cx, &mut teller, text, a.token.as_deref()).await {
            teller.unopened(cx, text, e);
        }
    }
    Ok(())
}

/// Gives locks back. Errors: what kept it from trying; what has failed alone has been told.
async fn unlock_one(cx: &mut Context, teller: &mut Teller, text: &str, token: Option<&str>) -> Result<()> {
    let kept = Kept::of_user()?;
    let (place, remote) = open(cx, text).await?;
    let tokens: Vec<Arc<str>> = match token {
        Some(token) => vec![token.into()],
        None => {
            let here = locks::kept(&place.key).await.into_iter().filter(|lock| lock.root == place.path);
            here.map(|lock| lock.token).collect()
        }
    };
    if tokens.is_empty() {
        return Err(Error::new(ErrorKind::NotFound)
            .with_detail(format!("no lock of '{}' is kept here", place.shown))
            .with_hint("one of another program is given back by --token"));
    }
    for token in tokens {
        let given = remote.unlock(&place.path, &token).await;
        // In the second case the server does not know it any more.
        if given.as_ref().err().is_none_or(|e| e.kind() == ErrorKind::PreconditionFailed) {
            kept.forget(&token);
        }
        teller.tell(cx, with(at(&place, &place.path), "token", &*token), given.map(|()| Became::Done));
    }
    Ok(())
}
