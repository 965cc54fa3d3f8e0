//! What a handler can call. The natives read the invocation from the worker's slot, so the objects that
//! scripts see are made once for each context; the prelude shapes them in JavaScript.
//!
//! A native never leaves a lock held while it waits, and its waits end with the invocation. What needs a
//! grant asks for it before it looks at anything else.

mod files;
mod pgp;
mod places;
mod session;
mod tools;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rquickjs::{Ctx, Exception, Function, IntoJs, Object, Result, TypedArray, Value};

use super::invocation::Invocation;
use crate::error::Error;
use crate::path::bytes_to_utf16;
use crate::session::Session;

/// Deadline and invocation as the interrupt handler sees them.
type Watch = Arc<Mutex<Option<(Instant, Option<Arc<Invocation>>)>>>;

/// The invocation that a worker runs now.
#[derive(Clone, Default)]
pub(super) struct Slot {
    current: Arc<Mutex<Option<Arc<Invocation>>>>,
    pub(super) watch: Watch,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub(super) fn enter(&self, invocation: &Arc<Invocation>) {
        *lock(&self.current) = Some(Arc::clone(invocation));
        *lock(&self.watch) = Some((invocation.deadline, Some(Arc::clone(invocation))));
    }

    pub(super) fn leave(&self) {
        *lock(&self.current) = None;
        *lock(&self.watch) = None;
    }

    fn peek(&self) -> Option<Arc<Invocation>> {
        lock(&self.current).clone()
    }

    fn get(&self, ctx: &Ctx<'_>) -> Result<Arc<Invocation>> {
        self.peek().ok_or_else(|| Exception::throw_message(ctx, "this object is used after its event"))
    }

    fn session(&self, ctx: &Ctx<'_>) -> Result<Arc<Session>> {
        let invocation = self.get(ctx)?;
        invocation
            .session
            .clone()
            .ok_or_else(|| Exception::throw_message(ctx, "there is no session in this event"))
    }
}

/// A handler's source as an expression whose first line is the file's first line.
pub(super) fn wrap(source: &str, waits: bool) -> String {
    let keyword = if waits { "async function" } else { "function" };
    format!("({keyword} (Session) {{ 'use strict'; {source}\n}})")
}

/// Shapes the natives.
const PRELUDE: &str = include_str!("prelude.js");

/// Shapes those that reach beyond the session's own files; the prelude calls it.
const OUTBOUND: &str = include_str!("outbound.js");

/// Shapes `PGP`; the prelude calls it.
const PGP: &str = include_str!("pgp.js");

/// Puts the built-ins into a fresh context and freezes it.
pub(super) fn install(ctx: &Ctx<'_>, slot: &Slot) -> Result<()> {
    let native = Object::new(ctx.clone())?;
    session::facts(ctx, &native, slot)?;
    session::effects(ctx, &native, slot)?;
    tools::install(ctx, &native, slot)?;
    files::install(ctx, &native, slot)?;
    places::install(ctx, &native, slot)?;
    pgp::install(ctx, &native, slot)?;
    let outbound: Function = ctx.eval(OUTBOUND)?;
    native.set("outbound", outbound)?;
    let pgp: Function = ctx.eval(PGP)?;
    native.set("shapePgp", pgp)?;
    let prelude: Function = ctx.eval(PRELUDE)?;
    prelude.call((native,))
}

/// An error as an exception, with the words that a client would read.
fn thrown(ctx: &Ctx<'_>, e: &Error) -> rquickjs::Error {
    Exception::throw_message(ctx, e.peer_words())
}

/// Bytes for a script: a string where they are UTF-8, else its code units with lone surrogates.
struct Text(Vec<u8>);

impl<'js> IntoJs<'js> for Text {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text.into_js(ctx),
            Err(_) => bytes_to_utf16(&self.0).into_js(ctx),
        }
    }
}

/// Content as the prelude hands it over: `t` and text, or `b` and one character for each byte.
fn content(ctx: &Ctx<'_>, packed: &rquickjs::String<'_>) -> Result<Vec<u8>> {
    let packed = packed
        .to_string()
        .map_err(|_| Exception::throw_type(ctx, "the text has lone surrogates: it is no text"))?;
    match packed.strip_prefix('b') {
        // What the prelude packs has no character above 255.
        Some(bytes) => Ok(bytes.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()),
        None => Ok(packed.strip_prefix('t').unwrap_or_default().as_bytes().to_vec()),
    }
}

fn bytes<'js>(ctx: &Ctx<'js>, data: Vec<u8>) -> Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx.clone(), data)
}
