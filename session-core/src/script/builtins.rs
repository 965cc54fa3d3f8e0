//! What a handler can call. The natives read the invocation from the worker's slot, so the objects that
//! scripts see are made once for each runtime; the prelude shapes them in JavaScript.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rquickjs::{Ctx, Exception, Function, Object, Result};

use super::engine::Invocation;
use crate::auth::{Check, Question, Secret};
use crate::path::{VPath, bytes_to_utf16, display_bytes, utf16_to_bytes};
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

    fn get(&self, ctx: &Ctx<'_>) -> Result<Arc<Invocation>> {
        lock(&self.current)
            .clone()
            .ok_or_else(|| Exception::throw_message(ctx, "this object is used after its event"))
    }

    fn session(&self, ctx: &Ctx<'_>) -> Result<Arc<Session>> {
        let invocation = self.get(ctx)?;
        invocation
            .session
            .clone()
            .ok_or_else(|| Exception::throw_message(ctx, "there is no session in this event"))
    }
}

/// The parameters of every handler, in the order in which the prelude passes them.
const PARAMETERS: &str = "Session, Log, CtxRelPath, CtxRelTargetPath, ExtractExt, Sleep, Exit";

/// A handler's source as an expression whose first line is the file's first line.
pub(super) fn wrap(source: &str) -> String {
    format!("(function ({PARAMETERS}) {{ 'use strict'; {source}\n}})")
}

/// Shapes the natives; runs once for each runtime. `text` turns code units into a string, where a path
/// is not UTF-8; `units` is its inverse.
const PRELUDE: &str = r#"
(function (native) {
  'use strict';
  const fromUnits = String.fromCharCode, FunctionOf = Function, DateOf = Date, TypeErrorOf = TypeError;
  const text = v => typeof v === 'string' ? v : fromUnits.apply(null, v);
  const units = s => { const out = []; for (let i = 0; i < s.length; i++) out.push(s.charCodeAt(i)); return out; };
  const string = (v, what) => { if (typeof v !== 'string') throw new TypeErrorOf(what + ' must be a string'); return v; };
  const position = v => { if (!Number.isInteger(v) || v < 0 || v > 99) throw new TypeErrorOf('the position must be 0 to 99'); return v; };
  const date = ms => ms == null ? null : new DateOf(ms);
  const user = () => {
    const json = native.user();
    if (json == null) return null;
    const u = JSON.parse(json);
    const groups = Object.freeze(u.groups), methods = Object.freeze(u.methods);
    return Object.freeze({
      GetID: () => u.id, GetName: () => u.name, GetHome: () => u.home, GetGroups: () => groups,
      GetAuthMethods: () => methods, IsAnonymous: () => u.anonymous,
      GetCustom: key => Object.hasOwn(u.custom, key) ? u.custom[key] : '',
      ID: u.id, UserID: u.id, Username: u.name, HomeDir: u.home,
    });
  };
  const Session = {
    GetID: () => native.fact('id'),
    GetUser: user,
    GetUserID: () => native.fact('user'),
    GetVirtualSite: () => native.fact('site'),
    GetRemoteAddress: () => native.fact('address'),
    GetRemotePort: () => native.number('port'),
    GetClientVersion: () => native.fact('client'),
    GetProtocol: () => native.fact('protocol'),
    GetStartTime: () => date(native.time('start')),
    GetLastActivity: () => date(native.time('activity')),
    BlockOperation: reason => native.block(reason === undefined ? '' : string(reason, 'the reason')),
    AddCustomData: s => native.addCustom(string(s, 'custom data')),
    GetCustomData: i => { const all = native.custom(); return Number.isInteger(i) && i >= 0 && i < all.length ? all[i] : ''; },
    GetAllCustomData: () => native.custom(),
    AddQuestion: (pos, q, a, echo) => native.question(position(pos), string(q, 'the question'), 'equals', string(a, 'the answer'), !!echo),
    AddQuestionPassword: (pos, q) => native.question(position(pos), string(q, 'the question'), 'password', '', false),
    AddQuestionTOTP: (pos, q) => native.question(position(pos), string(q, 'the question'), 'totp', '', false),
    AuthenticateUserFromScript: () => native.authenticate(),
    GetAbsPath: () => text(native.absolute(false)),
    GetRelPath: () => text(native.path(false)),
    GetAbsTargetPath: () => text(native.absolute(true)),
    GetRelTargetPath: () => text(native.path(true)),
    RemoveFromListDir: v => native.hide(units(string(v, 'the name'))),
    GetLastCommand: () => native.fact('command'),
    GetLastCommandTime: () => date(native.time('command')),
    GetLastError: () => native.fact('error'),
    GetLastErrorTime: () => date(native.time('error')),
    GetBytesReceived: () => native.number('received'),
    GetBytesSent: () => native.number('sent'),
    Terminate: reason => native.terminate(reason === undefined ? '' : string(reason, 'the reason')),
  };
  const Log = ((...words) => native.log(words.map(w => typeof w === 'string' ? w : w instanceof Error ? String(w) : typeof w === 'object' && w !== null ? JSON.stringify(w) : String(w)).join(' ')));
  const CtxRelPath = () => text(native.path(false));
  const CtxRelTargetPath = () => text(native.path(true));
  const ExtractExt = path => { const name = string(path, 'the path').slice(path.lastIndexOf('/') + 1); const dot = name.lastIndexOf('.'); return dot > 0 ? name.slice(dot) : ''; };
  const Sleep = ms => native.sleep(Number(ms));
  const Exit = () => native.exit();
  const check = body => { new FunctionOf('"use strict";' + body + '\n'); };
  const enter = handler => hasSession => handler(hasSession ? Session : null, Log, CtxRelPath, CtxRelTargetPath, ExtractExt, Sleep, Exit);
  const freeze = o => {
    if ((typeof o !== 'object' && typeof o !== 'function') || o === null || Object.isFrozen(o)) return;
    Object.freeze(o);
    for (const key of Reflect.ownKeys(o)) {
      const d = Reflect.getOwnPropertyDescriptor(o, key);
      if ('value' in d) freeze(d.value); else { freeze(d.get); freeze(d.set); }
    }
    freeze(Reflect.getPrototypeOf(o));
  };
  const hidden = { enumerable: false, writable: false, configurable: false };
  Object.defineProperty(globalThis, '__check', { ...hidden, value: check });
  Object.defineProperty(globalThis, '__enter', { ...hidden, value: enter });
  for (const sample of [async function () {}, function* () {}, async function* () {}, [][Symbol.iterator](), new Map()[Symbol.iterator](), new Set()[Symbol.iterator](), ''[Symbol.iterator](), /a/[Symbol.matchAll]('a')]) freeze(sample);
  for (const mine of [Session, Log, CtxRelPath, CtxRelTargetPath, ExtractExt, Sleep, Exit, check, enter]) freeze(mine);
  freeze(globalThis);
})
"#;

/// Puts the built-ins into a fresh context and freezes it.
pub(super) fn install(ctx: &Ctx<'_>, slot: &Slot) -> Result<()> {
    let native = Object::new(ctx.clone())?;
    facts(ctx, &native, slot)?;
    effects(ctx, &native, slot)?;
    let prelude: Function = ctx.eval(PRELUDE)?;
    prelude.call((native,))
}

/// What a script can ask of its session and its event.
fn facts<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "fact",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| -> Result<String> {
            let session = s.session(&ctx)?;
            Ok(match name.as_str() {
                "id" => session.id().to_string(),
                "user" => session.user_id().to_string(),
                "site" => session.site().to_string(),
                "address" => session.peer_address().map(|a| a.to_string()).unwrap_or_default(),
                "client" => session.client_version().to_string(),
                "protocol" => session.protocol().name().to_string(),
                "command" => session.last_command(),
                "error" => session.last_error().to_string(),
                _ => String::new(),
            })
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "number",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| -> Result<f64> {
            let session = s.session(&ctx)?;
            let n = match name.as_str() {
                "received" => session.stats().uploaded.load(Ordering::Relaxed),
                "sent" => session.stats().downloaded.load(Ordering::Relaxed),
                _ => session.peer().map_or(0, |p| u64::from(p.port())),
            };
            #[allow(clippy::cast_precision_loss, reason = "a script's number holds 2^53 bytes exactly")]
            Ok(n as f64)
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "time",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| -> Result<Option<f64>> {
            let session = s.session(&ctx)?;
            let time = match name.as_str() {
                "start" => Some(session.started()),
                "activity" => Some(session.last_activity()),
                "command" => session.last_command_time(),
                _ => session.last_error_time(),
            };
            Ok(time.map(milliseconds))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "user",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<Option<String>> {
            let session = s.session(&ctx)?;
            Ok(session.identity().map(|identity| {
                let account = identity.account();
                serde_json::json!({
                    "id": &*account.name,
                    "name": &*account.name,
                    "home": account.home.display(),
                    "groups": account.groups.iter().map(|g| &**g).collect::<Vec<_>>(),
                    "methods": session.auth_methods(),
                    "anonymous": account.anonymous,
                    "custom": &account.custom,
                })
                .to_string()
            }))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "path",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, target: bool| -> Result<Text> {
            let invocation = s.get(&ctx)?;
            let path = if target { &invocation.target } else { &invocation.path };
            Ok(Text(path.as_ref().map(|p| p.as_bytes().to_vec()).unwrap_or_default()))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "absolute",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, target: bool| -> Result<Text> {
            let invocation = s.get(&ctx)?;
            let path = if target { &invocation.target } else { &invocation.path };
            Ok(Text(path.as_ref().map(|p| on_disk(&invocation, p)).unwrap_or_default()))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "custom",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<Vec<String>> {
            Ok(s.session(&ctx)?.custom_data())
        })?,
    )
}

/// What a script can do.
fn effects<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "block",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, reason: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            let words = if reason.is_empty() { "blocked by the server's rules".into() } else { reason };
            if invocation.event.veto {
                invocation.effects().blocked = Some(display_bytes(words.as_bytes()));
            } else if let Some(session) = &invocation.session {
                session.block_next(&display_bytes(words.as_bytes()));
            }
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "addCustom",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, value: String| -> Result<()> {
            if value.len() > 64 << 10 {
                return Err(Exception::throw_range(&ctx, "custom data is at most 64 KiB"));
            }
            let session = s.session(&ctx)?;
            session.add_custom_data(value).map_err(|e| Exception::throw_range(&ctx, e.peer_words()))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "question",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  position: usize,
                  prompt: String,
                  kind: String,
                  answer: String,
                  echo: bool|
                  -> Result<()> {
                let check = match kind.as_str() {
                    "password" => Check::Password,
                    "totp" => Check::Totp,
                    _ => Check::Equals(Secret::new(answer)),
                };
                let invocation = s.get(&ctx)?;
                invocation.effects().questions.push((position, Question { prompt, echo, check }));
                Ok(())
            },
        )?,
    )?;
    let s = slot.clone();
    native.set(
        "authenticate",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<()> {
            s.get(&ctx)?.effects().authenticated = true;
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "hide",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, units: Vec<u16>| -> Result<()> {
            let invocation = s.get(&ctx)?;
            let mut effects = invocation.effects();
            if effects.hidden.len() >= 10_000 {
                return Err(Exception::throw_range(&ctx, "at most 10000 names can be hidden"));
            }
            effects.hidden.push(utf16_to_bytes(&units));
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "terminate",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, reason: String| -> Result<()> {
            let words = if reason.is_empty() { "ended by a hook".into() } else { reason };
            let ending =
                crate::session::Ending::new(display_bytes(words.as_bytes()), crate::session::Actor::Hook);
            s.session(&ctx)?.cut(ending);
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "log",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, line: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            let before = invocation.logged.fetch_add(line.len() + 1, Ordering::Relaxed);
            if before > invocation.output {
                return Err(Exception::throw_range(&ctx, "this handler has logged too much"));
            }
            let session = invocation.session.as_ref().map(|s| s.id().to_string()).unwrap_or_default();
            tracing::info!(
                target: "hook",
                event = invocation.event.name,
                handler = %invocation.handler,
                %session,
                "{}",
                display_bytes(line.as_bytes())
            );
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "sleep",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, ms: f64| -> Result<()> {
            let invocation = s.get(&ctx)?;
            let wanted = if ms.is_finite() && ms > 0.0 { ms.min(86_400_000.0) } else { 0.0 };
            let until = Instant::now() + Duration::from_secs_f64(wanted / 1000.0);
            // In slices, so that the deadline and the end of the session are noticed.
            loop {
                if invocation.is_over() {
                    return Err(Exception::throw_message(&ctx, "interrupted"));
                }
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                std::thread::sleep(left.min(Duration::from_millis(20)));
            }
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "exit",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<()> {
            s.get(&ctx)?.exited.store(true, Ordering::Relaxed);
            Err(Exception::throw_message(&ctx, "Exit"))
        })?,
    )
}

fn milliseconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(d) => d.as_secs_f64() * 1000.0,
        Err(e) => -e.duration().as_secs_f64() * 1000.0,
    }
    .trunc()
}

fn on_disk(invocation: &Invocation, path: &VPath) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let identity = invocation.session.as_ref().and_then(|s| s.identity());
    match identity.as_ref().and_then(|i| i.account().root.clone()) {
        Some(root) => {
            let mut out = root.as_os_str().as_bytes().to_vec();
            if out.last() == Some(&b'/') {
                out.pop();
            }
            out.extend_from_slice(path.as_bytes());
            out
        }
        None => path.as_bytes().to_vec(),
    }
}

/// Bytes for a script: a string where they are UTF-8, else its code units with lone surrogates.
struct Text(Vec<u8>);

impl<'js> rquickjs::IntoJs<'js> for Text {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<rquickjs::Value<'js>> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text.into_js(ctx),
            Err(_) => bytes_to_utf16(&self.0).into_js(ctx),
        }
    }
}
