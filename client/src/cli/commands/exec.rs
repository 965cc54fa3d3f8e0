//! `exec`: a command of the server, what it says as it comes, and how it ended, which is the exit code, as with ssh.

use std::io::Write as _;

use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};

use super::Context;
use crate::cli::args::Exec;
use crate::cli::exit;
use crate::cli::lines;
use crate::cli::render::{Out, complain, error_json};
use crate::connect::{Exit, Said};

pub(super) async fn exec(cx: &mut Context, a: &Exec) -> Result<()> {
    let place = cx.places.open(&a.place).await?;
    let json = cx.global.json;
    if !place.remote {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("'{}' is no server", a.place))
            .with_hint("name one: ferry exec sftp://user@host/ -- command"));
    }
    // As ssh does it: words with blanks between them, for the shell there.
    let command = a.command.join(" ");
    // The root stands for no directory in particular.
    let directory = (!place.path.is_root()).then_some(&place.path);
    let mut out = Out::new();
    let mut errors = Vec::new();
    let mut tell = |said: Said<'_>| {
        match (said, json) {
            (Said::Output(bytes), false) => {
                out.raw(bytes);
                out.flush();
            }
            (Said::Error(bytes), false) => {
                let _ = std::io::stderr().write_all(bytes);
            }
            (Said::Output(bytes), true) => {
                out.json(&lines::OUTPUT, json!({ "text": String::from_utf8_lossy(bytes) }));
                out.flush();
            }
            (Said::Error(bytes), true) => {
                out.json(&lines::ERROR_OUTPUT, json!({ "text": String::from_utf8_lossy(bytes) }));
                out.flush();
            }
        }
        if let Said::Error(bytes) = said {
            errors.extend(bytes.iter().take(512usize.saturating_sub(errors.len())));
        }
        Ok(())
    };
    let ended = cx.places.executor(&place.key)?.execute(command.as_bytes(), directory, &mut tell).await?;
    // What it said itself has been shown.
    let failure = match &ended {
        Exit::Refused(e) => Some(e.clone()),
        other => other.failure(if json { &errors } else { b"" }),
    };
    if json {
        let (code, signal) = match &ended {
            Exit::Code(code) => (Some(*code), None),
            Exit::Signal(name) => (None, Some(name.as_str())),
            Exit::Refused(_) | Exit::Unknown => (None, None),
        };
        let error = failure.as_ref().map(error_json);
        out.json(&lines::EXIT, json!({ "code": code, "signal": signal, "error": error }));
    }
    if let Some(e) = failure {
        out.flush();
        if !json {
            complain(&e, false);
        }
        cx.fail_with(match &ended {
            Exit::Code(code) => exit::of_command(*code),
            Exit::Refused(_) | Exit::Signal(_) | Exit::Unknown => exit::FAILED,
        });
    }
    Ok(())
}
