//! The natives behind `Session`, its user and the event's own facts, and what a handler decides.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rquickjs::{Ctx, Exception, Function, Object, Result};

use super::{Slot, Text, thrown};
use crate::auth::{Check, Question, Secret};
use crate::path::{VPath, display_bytes, utf16_to_bytes};
use crate::script::grants::Grant;
use crate::script::invocation::Invocation;

/// What a script can ask of its session and its event.
pub(super) fn facts<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
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
                "current" => session.current_command(),
                "previous" => session.previous_command(),
                "requested" => session.requested_user().to_string(),
                "tls" => session.encryption().0,
                "cipher" => session.encryption().1,
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
        "permissions",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, units: Vec<u16>| -> Result<Option<Vec<&'static str>>> {
                let invocation = s.get(&ctx)?;
                let path = path_of(&ctx, &invocation, &units)?;
                Ok(s.session(&ctx)?.rights().map(|rights| rights.permissions(&path)))
            },
        )?,
    )?;
    let s = slot.clone();
    native.set(
        "quota",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<Option<String>> {
            let quota = s.session(&ctx)?.rights().and_then(|rights| rights.quota());
            let most = |n: u64| (n > 0).then_some(n);
            Ok(quota.map(|q| {
                serde_json::json!({
                    "Bytes": q.bytes,
                    "Files": q.files,
                    "MaxBytes": most(q.most_bytes),
                    "MaxFiles": most(q.most_files),
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
            let subject = &invocation.subject;
            let path = if target { &subject.target } else { &subject.path };
            Ok(Text(path.as_ref().map(|p| p.as_bytes().to_vec()).unwrap_or_default()))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "absolute",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, target: bool| -> Result<Text> {
            let invocation = s.get(&ctx)?;
            let subject = &invocation.subject;
            let path = if target { &subject.target } else { &subject.path };
            Ok(Text(path.as_ref().map(|p| on_disk(&invocation, p)).unwrap_or_default()))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "custom",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<Vec<String>> {
            Ok(s.session(&ctx)?.custom_data())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "tag",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| -> Result<String> {
            Ok(s.session(&ctx)?.tag(&name).map(String::from).unwrap_or_default())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "hasSession",
        Function::new(ctx.clone(), move || s.peek().is_some_and(|i| i.session.is_some()))?,
    )?;
    let s = slot.clone();
    native.set(
        "event",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<&'static str> {
            Ok(s.get(&ctx)?.event.name)
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "peer",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<String> {
            let invocation = s.get(&ctx)?;
            let of_session = || invocation.session.as_ref().and_then(|s| s.peer_address());
            Ok(invocation.subject.peer.or_else(of_session).map(|a| a.to_string()).unwrap_or_default())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "facts",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<String> {
            Ok(s.get(&ctx)?.subject.facts.as_ref().map(ToString::to_string).unwrap_or_default())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "size",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<Option<f64>> {
            #[allow(clippy::cast_precision_loss, reason = "a script's number holds 2^53 bytes exactly")]
            Ok(s.get(&ctx)?.subject.size.map(|n| n as f64))
        })?,
    )
}

/// What a script can do.
pub(super) fn effects<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "block",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, reason: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            let words = or_rules(&invocation, "blocked", reason);
            if invocation.event.veto.refuses() {
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
        "setTag",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String, value: String| -> Result<()> {
            let session = s.session(&ctx)?;
            session.set_tag(&name, &value).map_err(|e| Exception::throw_range(&ctx, e.peer_words()))
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
                allowed_here(&ctx, &invocation, "AddQuestion")?;
                invocation.effects().questions.push((position, Question { prompt, echo, check }));
                Ok(())
            },
        )?,
    )?;
    let s = slot.clone();
    native.set(
        "authenticate",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<()> {
            let invocation = s.get(&ctx)?;
            allowed_here(&ctx, &invocation, "AuthenticateUserFromScript")?;
            invocation.effects().authenticated = true;
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "hide",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, units: Vec<u16>| -> Result<()> {
            let invocation = s.get(&ctx)?;
            allowed_here(&ctx, &invocation, "RemoveFromListDir")?;
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
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, level: String, line: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            write_log(&ctx, &invocation, &level, &line)
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "refuse",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, reason: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            allowed_here(&ctx, &invocation, "RefuseConnection")?;
            let words = or_rules(&invocation, "refused", reason);
            invocation.effects().blocked = Some(display_bytes(words.as_bytes()));
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "quarantine",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, reason: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            allowed_here(&ctx, &invocation, "QuarantineUpload")?;
            let words = or_rules(&invocation, "refused", reason);
            invocation.effects().quarantined = Some(display_bytes(words.as_bytes()));
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "findings",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, digests: bool| -> Result<Vec<String>> {
            let invocation = s.get(&ctx)?;
            let findings = invocation.subject.findings.iter();
            Ok(match digests {
                true => findings.map(|f| f.digest_words()).filter(|d| !d.is_empty()).collect(),
                false => findings.map(|f| format!("{}: {}", f.by, f.words)).collect(),
            })
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "softwareId",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, id: String| -> Result<()> {
            let invocation = s.get(&ctx)?;
            allowed_here(&ctx, &invocation, "SetSoftwareID")?;
            invocation.effects().software_id = Some(id);
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "redirect",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, units: Vec<u16>| -> Result<()> {
            let invocation = s.get(&ctx)?;
            allowed_here(&ctx, &invocation, "RedirectTo")?;
            let path = path_of(&ctx, &invocation, &units)?;
            invocation.effects().redirected = Some(path);
            Ok(())
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "speed",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, bytes_per_second: f64| -> Result<()> {
            let invocation = s.get(&ctx)?;
            invocation.needs(Grant::Speed).map_err(|e| thrown(&ctx, &e))?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            s.session(&ctx)?.set_speed_limit(bytes_per_second as u64);
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
                invocation.blocking(|| std::thread::sleep(left.min(Duration::from_millis(20))));
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

/// A path as a script writes it: absolute, or from the user's home.
pub(super) fn path_of(ctx: &Ctx<'_>, invocation: &Invocation, units: &[u16]) -> Result<VPath> {
    let home = invocation.session.as_ref().and_then(|s| s.identity()).map(|i| i.account().home.clone());
    VPath::parse(&home.unwrap_or_else(VPath::root), &utf16_to_bytes(units)).map_err(|e| thrown(ctx, &e))
}

/// The reason that was given, or that it was the rules.
fn or_rules(invocation: &Invocation, done: &str, reason: String) -> String {
    match reason.is_empty() {
        true => format!("{done} by the {}'s rules", invocation.services.owner()),
        false => reason,
    }
}

/// What would have no effect in this event is an error, so that a slip is not silent.
fn allowed_here(ctx: &Ctx<'_>, invocation: &Invocation, call: &str) -> Result<()> {
    let event = invocation.event;
    if event.changes.contains(&call) {
        return Ok(());
    }
    Err(Exception::throw_type(ctx, &format!("{call} has no effect in {}", event.name)))
}

fn write_log(ctx: &Ctx<'_>, invocation: &Invocation, level: &str, line: &str) -> Result<()> {
    let before = invocation.logged.fetch_add(line.len() + 1, Ordering::Relaxed);
    if before > invocation.output {
        return Err(Exception::throw_range(ctx, "this handler has logged too much"));
    }
    let line = display_bytes(invocation.without_secrets(line).as_bytes());
    if invocation.keeps_lines {
        invocation.effects().lines.push(line);
        return Ok(());
    }
    if invocation.traced {
        invocation.effects().lines.push(line.clone());
    }
    let session = invocation.session.as_ref().map(|s| s.id().to_string()).unwrap_or_default();
    // A level is part of a line's identity, so each has a line of its own here.
    macro_rules! write {
        ($level:ident) => {
            tracing::$level!(target: "hook", event = invocation.event.name, handler = %invocation.handler, %session, "{line}")
        };
    }
    match level {
        "debug" => write!(debug),
        "error" => write!(error),
        "warn" => write!(warn),
        _ => write!(info),
    }
    Ok(())
}

pub(super) fn milliseconds(time: SystemTime) -> f64 {
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
