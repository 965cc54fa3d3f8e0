//! A command as a proxy: the user's shell runs it (`$SHELL -c "exec …"`, else `/bin/sh`), its input and output
//! are the connection (ssh_config(5), `ProxyCommand`).
//!
//! What is put into the line for `%h`, `%n` and `%r` reaches a shell, so a host or user with anything in it
//! that a shell could understand is refused (CVE-2023-51385). The program is killed when its stream is
//! dropped; what it starts itself sees its input end. What it says on its standard error explains a
//! connection that never came about; the rest of it goes to the log.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::error::{Error, ErrorKind, Result};
use crate::path::display_bytes;

/// How much of what a command complains of is kept, bytes.
const WORDS: usize = 1024;
/// How long its complaint is waited for once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the tokens of a line stand for.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// `%h`.
    pub host: &'a str,
    /// `%p`.
    pub port: u16,
    /// `%r`.
    pub user: &'a str,
    /// `%n`: the host as the user wrote it.
    pub written: &'a str,
}

/// Puts the tokens in. Errors: `InvalidArgument` for a token that is none, and for a host or user that a
/// shell could take for more than a word.
pub fn expand(line: &str, tokens: &Tokens<'_>) -> Result<String> {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some('h') => out.push_str(harmless("host", tokens.host)?),
            Some('n') => out.push_str(harmless("host", tokens.written)?),
            Some('r') => out.push_str(harmless("user", tokens.user)?),
            Some('p') => out.push_str(&tokens.port.to_string()),
            other => {
                let token = other.map(String::from).unwrap_or_default();
                return Err(Error::new(ErrorKind::InvalidArgument)
                    .with_detail(format!("a proxy command has no token '%{token}'"))
                    .with_hint("there are %h, %n, %p, %r and %%"));
            }
        }
    }
    Ok(out)
}

fn harmless<'a>(what: &str, text: &'a str) -> Result<&'a str> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "'`\"$\\;&<>|(){}*?~!#".contains(c);
    if text.starts_with('-') || text.contains(odd) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail(format!(
            "the {what} '{}' cannot be given to a proxy command: a shell would read it",
            display_bytes(text.as_bytes())
        )));
    }
    Ok(text)
}

/// Starts a command. Errors: as [`expand`]; those of starting a program.
pub fn start(line: &str, tokens: &Tokens<'_>) -> Result<CommandStream> {
    let line = expand(line, tokens)?;
    let shell = std::env::var_os("SHELL").filter(|s| !s.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let mut child = Command::new(&shell)
        .arg("-c")
        .arg(format!("exec {line}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| {
            let words = format!("the proxy command cannot be started by '{}': {e}", shell.to_string_lossy());
            Error::from(e).with_detail(words)
        })?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(ErrorKind::Internal.into());
    };
    let words = Arc::new(Mutex::new(Vec::new()));
    let heard = tokio::spawn(listen(stderr, Arc::clone(&words)));
    let ended = Box::pin(async move {
        let _ = tokio::time::timeout(LAST_WORDS, heard).await;
        let words = words.lock().unwrap_or_else(PoisonError::into_inner);
        display_bytes(words.trim_ascii())
    });
    Ok(CommandStream { stdin: Some(stdin), stdout, ended, heard: false, _child: child })
}

/// Keeps the beginning of what a program complains of, and reads the rest, so that it never waits for us.
async fn listen(mut stderr: ChildStderr, words: Arc<Mutex<Vec<u8>>>) {
    let mut buf = [0; 512];
    while let Ok(n) = stderr.read(&mut buf).await {
        if n == 0 {
            return;
        }
        let said = buf.get(..n).unwrap_or_default();
        tracing::debug!(words = %display_bytes(said.trim_ascii()), "the proxy command says");
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WORDS.saturating_sub(words.len());
        words.extend_from_slice(said.get(..room.min(n)).unwrap_or_default());
    }
}

/// A running command as a stream.
pub struct CommandStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What it complained of, once it has ended.
    ended: Pin<Box<dyn Future<Output = String> + Send>>,
    /// Something came from it, or its end is explained.
    heard: bool,
    /// Killed when it is dropped.
    _child: Child,
}

impl std::fmt::Debug for CommandStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandStream").finish_non_exhaustive()
    }
}

impl CommandStream {
    /// Why a command ended before it had carried anything.
    fn poll_complaint(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let words = std::task::ready!(self.ended.as_mut().poll(cx));
        self.heard = true;
        let words = if words.is_empty() { "without a word" } else { &words };
        let words = format!("the proxy command ended: {words}");
        Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, words))
    }
}

impl AsyncRead for CommandStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let had = buf.filled().len();
        match Pin::new(&mut this.stdout).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == had && buf.remaining() > 0 && !this.heard => {
                this.poll_complaint(cx).map(Err)
            }
            Poll::Ready(Ok(())) => {
                this.heard = true;
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for CommandStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match &mut this.stdin {
            Some(stdin) => match Pin::new(stdin).poll_write(cx, buf) {
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe && !this.heard => {
                    this.poll_complaint(cx).map(Err)
                }
                other => other,
            },
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe ends by being closed.
        self.get_mut().stdin = None;
        Poll::Ready(Ok(()))
    }
}
