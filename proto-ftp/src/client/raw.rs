//! A line that the caller wrote, and the server's answer (`SITE …` and whatever else a server knows).
//!
//! Each goes over a connection of its own, logged in as the others, which ends with it: what a line may change
//! (directory, type, account, protection) touches no transfer. Lines that move data are refused: nobody would be
//! there to move it.

use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

use super::machine::Command;
use super::refine::error_of;
use super::remote::FtpRemote;
use crate::wire::reply::Reply;

/// Verbs that need a data connection, or prepare one.
const DATA: [&str; 13] =
    ["APPE", "EPRT", "EPSV", "LIST", "MLSD", "NLST", "PASV", "PORT", "REST", "RETR", "STOR", "STOU", "TYPE"];

/// A line as a command. Errors: `InvalidArgument` for one that is empty or holds a line end; `Unsupported` for one that
/// moves data.
pub(super) fn command_of(line: &[u8]) -> Result<Command> {
    let line = line.trim_ascii();
    let verb = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if verb.is_empty() || line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("that is not a line of FTP"));
    }
    if let Some(verb) = DATA.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(verb)) {
        return Err(Error::new(ErrorKind::Unsupported)
            .with_detail(format!("'{verb}' is for data connections, which a line by itself has not")));
    }
    Ok(Command::raw(line.to_vec()))
}

impl FtpRemote {
    /// Sends a line in a directory, or in the login folder, and gives the server's answer, whatever its code.
    /// Errors: `InvalidArgument` for a line that is empty or holds a line end; `Unsupported` for one that moves data;
    /// those of logging in and of changing to the directory.
    pub async fn raw_command(&self, line: &[u8], directory: Option<&VPath>) -> Result<Reply> {
        let command = command_of(line)?;
        let mut control = self.inner().pool.dialer.open(None).await?;
        if let Some(directory) = directory.filter(|d| *d != self.home()) {
            let moved = control.call(&Command::with("CWD", self.inner().wire_path(directory)?)).await?;
            if moved.code >= 300 {
                return Err(error_of(&moved));
            }
        }
        let reply = control.call(&command).await?;
        control.quit().await;
        Ok(reply)
    }
}
