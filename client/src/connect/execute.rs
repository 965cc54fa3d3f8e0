//! Commands of a server, whatever it speaks: what says something, and how it ended.
//!
//! Over SFTP a command runs on a further channel of the connection that carries the files, also of one that was
//! had again; over FTP it is a raw line on a connection of its own.

use std::sync::Arc;

use session_core::error::{Error, ErrorKind, Result};
use session_core::lifecycle::{ChannelKind, Lifecycle};
use session_core::path::{VPath, display_bytes};
use session_core::session::{Argument, Session};
pub use session_core::shell::quoted;

use super::steps::let_pass;

/// What a command says.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// By its error output.
    Error(&'a [u8]),
    /// By its output.
    Output(&'a [u8]),
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum Exit {
    /// By itself.
    Code(u32),
    /// FTP: the server said no.
    Refused(Error),
    /// By this signal.
    Signal(String),
    /// The server did not say.
    Unknown,
}

impl Exit {
    /// What of it is a failure, with the first words of the error output. What was refused is its own.
    pub fn failure(&self, errors: &[u8]) -> Option<Error> {
        let first = errors.split(|b| *b == b'\n').find(|l| !l.trim_ascii().is_empty()).unwrap_or_default();
        let first = first.get(..512).unwrap_or(first).trim_ascii();
        let words = match self {
            Exit::Code(0) | Exit::Refused(_) => return None,
            Exit::Code(code) => format!("the command ended with code {code}"),
            Exit::Signal(name) => format!("the command was ended by the signal {name}"),
            Exit::Unknown => "the server did not say how the command ended".to_owned(),
        };
        let words = if first.is_empty() { words } else { format!("{words}: {}", display_bytes(first)) };
        Some(Error::new(ErrorKind::Internal).with_detail(words))
    }
}

/// Who takes what is said; an error ends the waiting.
pub type Sink<'a> = dyn FnMut(Said<'_>) -> Result<()> + Send + 'a;

/// What runs commands at a place.
#[derive(Clone)]
pub struct Executor {
    means: Means,
    session: Arc<Session>,
}

#[derive(Clone)]
pub(super) enum Means {
    #[cfg(feature = "ftp")]
    Ftp(Arc<proto_ftp::client::FtpRemote>),
    None,
    #[cfg(feature = "sftp")]
    Ssh(Arc<super::sftp::Dialer>),
}

impl Executor {
    pub(super) fn new(means: Means, session: Arc<Session>) -> Self {
        Executor { means, session }
    }

    /// The interceptors of the session are asked before a command. Errors: `Refused`.
    async fn ask(&self, command: &[u8]) -> Result<()> {
        let line = display_bytes(command.trim_ascii());
        // A raw line of FTP may carry a secret.
        let line = match line.split_once(' ') {
            Some((verb, _))
                if !self.is_shell() && ["ACCT", "PASS"].iter().any(|s| s.eq_ignore_ascii_case(verb)) =>
            {
                format!("{verb} ***")
            }
            _ => line,
        };
        let _running = self.session.begin_command("EXEC", Argument::Text(line.as_str().into()));
        let step = if self.is_shell() {
            Lifecycle::OpenChannel(ChannelKind::Command)
        } else {
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            Lifecycle::Command { verb, argument }
        };
        let_pass(self.session.decide(step).await)
    }

    /// Runs a command in a directory (SFTP: `cd` goes before it where that is not the login folder, which a shell of
    /// Unix understands) and tells what it says as it comes. Errors: `Unsupported` where there is nobody to run it;
    /// `Refused` by the session's interceptors; those of the connection and of the sink.
    pub async fn execute(
        &self,
        command: &[u8],
        directory: Option<&VPath>,
        sink: &mut Sink<'_>,
    ) -> Result<Exit> {
        if !matches!(self.means, Means::None) {
            self.ask(command).await?;
        }
        match &self.means {
            #[cfg(feature = "ftp")]
            Means::Ftp(remote) => {
                let reply = remote.raw_command(command, directory).await?;
                for line in &reply.lines {
                    sink(Said::Output(line))?;
                    sink(Said::Output(b"\n"))?;
                }
                Ok(match reply.code {
                    400.. => Exit::Refused(proto_ftp::client::error_of_reply(&reply)),
                    _ => Exit::Code(0),
                })
            }
            Means::None => {
                let _ = (command, directory, sink);
                Err(Error::new(ErrorKind::Unsupported).with_detail("commands are run by servers"))
            }
            #[cfg(feature = "sftp")]
            Means::Ssh(dialer) => {
                let line = match directory.filter(|d| Some(*d) != dialer.home().as_ref()) {
                    Some(directory) => [b"cd ", &quoted(directory.as_bytes())[..], b" && ", command].concat(),
                    None => command.to_vec(),
                };
                run(&dialer.connection()?, &line, sink).await
            }
        }
    }

    /// Whether a shell of SSH may be there.
    pub fn is_shell(&self) -> bool {
        #[cfg(feature = "sftp")]
        return matches!(self.means, Means::Ssh(_));
        #[cfg(not(feature = "sftp"))]
        false
    }
}

/// Runs a line by the server's shell. Errors: those of the connection and of the sink.
#[cfg(feature = "sftp")]
pub(super) async fn run(
    connection: &proto_sftp::ssh::connect::SshConnection,
    line: &[u8],
    sink: &mut Sink<'_>,
) -> Result<Exit> {
    use proto_sftp::ssh::exec::{Exit as Ended, Piece};
    let mut running = connection.execute(line).await?;
    while let Some(piece) = running.next().await? {
        match &piece {
            Piece::Error(bytes) => sink(Said::Error(bytes))?,
            Piece::Output(bytes) => sink(Said::Output(bytes))?,
        }
    }
    Ok(match running.exit() {
        Some(Ended::Code(code)) => Exit::Code(code),
        Some(Ended::Signal(name)) => Exit::Signal(name),
        None => Exit::Unknown,
    })
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Executor(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_success_says_why() {
        assert!(Exit::Code(0).failure(b"warning").is_none());
        let e = Exit::Code(3).failure(b"\n  no such thing\nmore").unwrap();
        assert!(e.to_string().contains("code 3: no such thing") && !e.to_string().contains("more"), "{e}");
        assert!(Exit::Signal("KILL".into()).failure(b"").unwrap().to_string().contains("KILL"));
        assert!(Exit::Unknown.failure(b"").is_some());
    }
}
