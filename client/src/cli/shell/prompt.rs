//! Where the lines come from: an editor with a history on a terminal, else the standard input.
//!
//! The editor blocks, so it has a thread of its own; its history is a file of the state directory that only its
//! owner may read, without lines that may hold a secret (`words::holds_secret`) or begin with a blank.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use session_core::error::{Error, ErrorKind, Result};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::complete::{Helper, Looks};
use super::words::holds_secret;

/// Lines that the history keeps.
const HISTORY: usize = 1000;

/// The longest line.
const LINE: u64 = 1 << 20;

type Asked = (String, oneshot::Sender<Result<Option<String>>>);

/// See the module's header.
pub(super) enum Input {
    Pipe(BufReader<File>),
    Terminal(mpsc::Sender<Asked>),
}

fn unread(e: ReadlineError) -> Error {
    match e {
        ReadlineError::Io(e) => e.into(),
        e => Error::new(ErrorKind::Internal).with_detail(format!("the terminal cannot be read: {e}")),
    }
}

impl Input {
    /// Errors: those of the terminal.
    pub(super) fn new(attended: bool, looks: Arc<Mutex<Looks>>) -> Result<Self> {
        if !attended {
            let input = std::io::stdin().as_fd().try_clone_to_owned()?;
            return Ok(Input::Pipe(BufReader::new(File::from_std(input.into()))));
        }
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map_err(unread)?
            .history_ignore_space(true)
            .completion_type(rustyline::CompletionType::List)
            .auto_add_history(false)
            .build();
        let mut editor = Editor::with_config(config).map_err(unread)?;
        editor.set_helper(Some(Helper::new(looks, Handle::current())));
        let (sender, asked) = mpsc::channel();
        std::thread::Builder::new().name("prompt".into()).spawn(move || edit(&mut editor, &asked))?;
        Ok(Input::Terminal(sender))
    }

    /// The next line; `None` at the end. Errors: those of reading; `Canceled` for Ctrl-C from no terminal.
    pub(super) async fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        match self {
            Input::Pipe(from) => {
                let mut line = Vec::new();
                let mut bounded = from.take(LINE);
                let read = tokio::select! {
                    biased;
                    read = bounded.read_until(b'\n', &mut line) => read?,
                    _ = tokio::signal::ctrl_c() => return Err(ErrorKind::Canceled.into()),
                };
                if read as u64 == LINE {
                    return Err(Error::new(ErrorKind::TooLarge).with_detail("a line is longer than 1 MiB"));
                }
                let text = String::from_utf8(line)
                    .map_err(|_| Error::new(ErrorKind::InvalidArgument).with_detail("a line is not UTF-8"))?;
                Ok((read > 0).then_some(text))
            }
            Input::Terminal(thread) => {
                let (reply, answer) = oneshot::channel();
                let ended = || Error::new(ErrorKind::Closed);
                thread.send((prompt.to_owned(), reply)).map_err(|_| ended())?;
                answer.await.map_err(|_| ended())?
            }
        }
    }

    /// Lets the editor's thread end.
    pub(super) fn end(self) {
        drop(self);
    }
}

/// Where the history is; `None` where there is no place for it.
fn history() -> Option<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let dir = crate::jobs::state_dir().ok()?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    Some(dir.join("history"))
}

fn edit(editor: &mut Editor<Helper, FileHistory>, asked: &mpsc::Receiver<Asked>) {
    let file = history();
    if let Some(file) = &file {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    while let Ok((prompt, reply)) = asked.recv() {
        let line = loop {
            match editor.readline(prompt.as_str()) {
                Ok(line) => break Ok(Some(line)),
                // Ctrl-C at the prompt takes back what was written.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break Ok(None),
                Err(e) => break Err(unread(e)),
            }
        };
        if let Ok(Some(line)) = &line
            && !line.trim().is_empty()
            && !holds_secret(line)
            && editor.add_history_entry(line.as_str()).unwrap_or(false)
            && let Some(file) = &file
        {
            // A history that cannot be written is no reason to stop.
            let _ = editor.append_history(file);
        }
        if reply.send(line).is_err() {
            return;
        }
    }
}
