//! `script`: runs a script in WinSCP's language, with its XML log and its two exit codes.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use session_core::error::{Error, Result};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::{Context, transfer};
use crate::cli::args::Script;
use crate::cli::exit;
use crate::cli::lines;
use crate::cli::render::Out;
use crate::script::{Console, Drives, Runner, Settings, XmlLog, text};

/// The terminal: output as it comes, errors on the error output.
struct Terminal {
    out: Out,
    json: bool,
    quiet: bool,
    /// The standard input is the script's own, or was given away.
    spent: bool,
}

impl Console for Terminal {
    fn line(&mut self, text: &str) {
        if self.json {
            self.out.json(&lines::OUTPUT, json!({ "text": text }));
        } else if !self.quiet {
            self.out.line(&session_core::path::display_bytes(text.as_bytes()));
        }
        self.out.flush();
    }

    fn error(&mut self, text: &str) {
        if self.json {
            self.out.json(&lines::ERROR_OUTPUT, json!({ "text": text }));
        }
        self.out.flush();
        if !self.json {
            let _ = writeln!(std::io::stderr(), "error: {text}");
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        if self.json {
            self.out.json(&lines::OUTPUT, json!({ "text": String::from_utf8_lossy(bytes) }));
        } else {
            self.out.raw(bytes);
        }
    }

    fn input(&mut self) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
        use std::os::fd::AsFd as _;
        if std::mem::replace(&mut self.spent, true) {
            return None;
        }
        let input = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
        Some(Box::new(tokio::fs::File::from_std(input.into())))
    }

    /// The first Ctrl-C ends the command, and the script goes on.
    fn stop(&mut self) -> Option<CancellationToken> {
        let stop = CancellationToken::new();
        let token = stop.clone();
        let mut running = transfer::Running::begin().ok()?;
        tokio::spawn(async move {
            tokio::select! {
                () = running.interrupted() => token.cancel(),
                () = token.cancelled() => {}
            }
            drop(running);
        });
        Some(stop)
    }
}

/// The log on disk.
struct Log(Option<tokio::fs::File>);

impl Log {
    async fn create(path: Option<&PathBuf>) -> Result<Self> {
        let Some(path) = path else { return Ok(Log(None)) };
        let file = tokio::fs::File::create(path).await;
        file.map(|f| Log(Some(f))).map_err(|e| {
            let words = format!("the log '{}' cannot be written: {e}", path.display());
            Error::from(e).with_detail(words)
        })
    }

    async fn write(&mut self, text: String) -> Result<()> {
        if let Some(file) = &mut self.0 {
            file.write_all(text.as_bytes()).await?;
            file.flush().await?;
        }
        Ok(())
    }
}

pub(super) async fn script(cx: &mut Context, a: &Script) -> Result<()> {
    let mut lines = Vec::new();
    if let Some(file) = &a.file {
        let path = if file.as_os_str() == "-" { PathBuf::from("/dev/stdin") } else { file.clone() };
        let bytes = tokio::fs::read(&path).await.map_err(|e| {
            let words = format!("the script '{}' cannot be read: {e}", file.display());
            Error::from(e).with_detail(words)
        })?;
        lines = text::lines(&bytes)?;
    }
    lines.extend(a.command.iter().cloned());
    let mut drives = Drives::new();
    for drive in &a.drive {
        drives.add(drive)?;
    }
    let settings = Settings {
        decider: cx.places.decider(),
        parameters: a.parameter.clone(),
        drives,
        known_hosts: cx.global.known_hosts.clone(),
        directory: None,
        max_delete: a.max_delete.unwrap_or_default(),
        sites: crate::sites::Store::of_user().ok(),
    };
    let mut log = Log::create(a.xmllog.as_ref()).await?;
    let mut console = Terminal {
        out: Out::new(),
        json: cx.global.json,
        quiet: cx.global.quiet,
        spent: a.file.as_ref().is_some_and(|file| file.as_os_str() == "-"),
    };
    let xml = a.xmllog.as_ref().map(|_| XmlLog::new(a.xmlgroups));
    let mut runner = Runner::new(&settings, &mut console, xml)?;
    runner.ask(cx.places.around());
    runner.limit_requests(cx.places.request_limit());
    runner.log_to(cx.places.log());
    if let Some(table) = &cx.live {
        runner.show_in(Arc::clone(table));
    }
    for line in &lines {
        let goes_on = runner.line(line).await;
        log.write(runner.take_log()).await?;
        if !goes_on {
            break;
        }
    }
    let code = runner.end().await;
    log.write(runner.take_log()).await?;
    if code != 0 {
        cx.fail_with(exit::FAILED);
    }
    Ok(())
}
