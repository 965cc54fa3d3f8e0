//! Commands of the server, on a further channel of a connection (RFC 4254, section 6.5).
//!
//! A command is given no terminal, and input only where it is asked for. Its output and its standard error come in
//! the order in which they arrive; how it ended is known when both have. What it writes waits within the bounds of
//! [`super::channel`], and makes the server wait then. Dropped, its channel is closed; what a server does to the
//! command then is the server's.

use std::future::poll_fn;

use bytes::Bytes;
use russh::client;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::talk::Talk;

pub use super::channel::Exit;
use super::channel::{self, ChannelReader, ChannelWriter};
use super::connect::SshConnection;

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// By its standard error.
    Error(Bytes),
    /// By its standard output.
    Output(Bytes),
}

/// A command that runs.
pub struct Running {
    connection: SshConnection,
    reader: ChannelReader,
    writer: Option<ChannelWriter<client::Msg>>,
    talk: Talk,
}

impl SshConnection {
    /// Starts a command; bytes as the server's shell is to read them. Errors: `InvalidArgument` for one that is empty
    /// or holds a NUL; `Refused` if the server opens no (more) channel, `TimedOut`, `Disconnected`.
    pub async fn execute(&self, command: &[u8]) -> Result<Running> {
        self.run(command, false).await
    }

    /// The same, with input: [`Running::send`] gives it, [`Running::finish`] ends it.
    pub async fn converse(&self, command: &[u8]) -> Result<Running> {
        self.run(command, true).await
    }

    async fn run(&self, command: &[u8], input: bool) -> Result<Running> {
        if command.is_empty() || command.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("that is no command"));
        }
        let talk = self.talk().line();
        talk.sent(|| format!("command: {}", display_bytes(command)));
        let (read, write) = self.open_command(command, input).await?;
        let (reader, writer) = channel::begin_command(read, write, self.flow(), self.transport().clone());
        Ok(Running { connection: self.clone(), reader, writer: Some(writer), talk })
    }
}

impl Running {
    /// What it says next; `None` when it has ended. Errors: `Unsupported` if the server runs no commands,
    /// `Disconnected` if the connection was lost, `Throttled` where more came than was taken
    /// while something else waited to be written. Dropped, nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        match poll_fn(|cx| self.reader.poll_piece(cx)).await {
            Some(Ok((true, data))) => Ok(Some(Piece::Error(data))),
            Some(Ok((false, data))) => Ok(Some(Piece::Output(data))),
            Some(Err(e)) => Err(e),
            // The end of a channel and that of its connection look alike.
            None if self.exit().is_none() && self.connection.transport().is_cancelled() => {
                Err(self.connection.disconnected().await)
            }
            None => {
                self.talk.heard(|| format!("command: {:?}", self.exit()));
                Ok(None)
            }
        }
    }

    /// Gives it all of `bytes`; waits for its window. Errors: `Disconnected` if it takes nothing more, `Canceled`.
    /// Dropped midway, a part may have been sent.
    pub async fn send(&self, bytes: Bytes) -> Result<()> {
        match &self.writer {
            Some(writer) => writer.send_all(bytes).await,
            None => Err(Error::new(ErrorKind::Closed)),
        }
    }

    /// No more input comes. Errors: as for [`Running::send`].
    pub async fn finish(&self) -> Result<()> {
        match &self.writer {
            Some(writer) => writer.finish().await,
            None => Err(Error::new(ErrorKind::Closed)),
        }
    }

    /// Closes its channel, and returns when that is on its way.
    pub async fn close(mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.close().await;
        }
    }

    /// How it ended; `None` before [`Running::next`] gave its last, and where the server did not say.
    pub fn exit(&self) -> Option<Exit> {
        self.reader.exit()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Some(writer), Ok(runtime)) = (self.writer.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = writer.close().await;
            });
        }
    }
}
