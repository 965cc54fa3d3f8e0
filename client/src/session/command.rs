//! Commands of the server: over SFTP on a further channel of the same connection, over FTP as a line of its dialogue.
//!
//! A command is a line for whoever reads it there: nothing in it is escaped, and nobody but the caller may have
//! written it. It is given no input. What it changes on the server is not known here.

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;
use session_core::path::VPath;

use super::core::{Open, Session};
use crate::connect::{Executor, Exit, Said, quoted};

/// The most that is kept of what a command says, bytes.
const MOST: usize = 64 << 20;
/// The most that is kept of what a program says that computes a digest, bytes.
const LITTLE: usize = 64 << 10;

/// What came of a command. (`CommandExecutionResult`)
#[derive(Clone, Debug, Default)]
pub struct CommandResult {
    /// Its output; of FTP, the server's reply. (`Output`)
    pub output: Vec<u8>,
    /// Its error output. (`ErrorOutput`)
    pub error_output: Vec<u8>,
    /// How it ended; of FTP 0 for a reply that is no failure. `None` where a signal ended it, or the server did not
    /// say. (`ExitCode`)
    pub exit_code: Option<u32>,
    /// What failed: an exit code that is not 0, a signal, a reply that says no.
    pub failures: Vec<Error>,
}

impl CommandResult {
    /// Every failure.
    pub fn failures(&self) -> &[Error] {
        &self.failures
    }

    /// Whether nothing failed.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// The first failure as an error.
    pub fn check(&self) -> Result<()> {
        self.failures.first().map_or(Ok(()), |e| Err(e.clone()))
    }

    /// The output as text; what is not UTF-8 is replaced.
    pub fn output_text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// The error output as text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.error_output).into_owned()
    }
}

impl Session {
    /// Runs a command in a directory of the server; the login folder where it is empty. Over FTP it is a raw line
    /// (`SITE …`) on a connection of its own. Errors: `Unsupported` where the server runs no commands,
    /// `InvalidArgument` for one that is empty, `TooLarge` for one that says more than 64 MiB; those of the
    /// connection. Dropped, its channel is closed, and what the server does then is the server's.
    /// (`ExecuteCommand`)
    pub async fn execute_command(&self, command: &str, directory: impl AsRef<[u8]>) -> Result<CommandResult> {
        let result = self.executed(command, directory.as_ref()).await;
        if let Ok(result) = &result {
            result.failures.iter().for_each(|e| self.hub().failed(e));
        }
        self.told(result)
    }

    async fn executed(&self, command: &str, directory: &[u8]) -> Result<CommandResult> {
        let open = self.opened_now()?;
        let directory = Self::remote(&open, directory)?;
        let executor = open.executor.clone();
        let mut result = CommandResult::default();
        let mut said = 0usize;
        let mut keep = |piece: Said<'_>| {
            let (into, bytes) = match piece {
                Said::Error(bytes) => (&mut result.error_output, bytes),
                Said::Output(bytes) => (&mut result.output, bytes),
            };
            said += bytes.len();
            if said > MOST {
                return Err(Error::new(ErrorKind::TooLarge).with_detail("the command says more than is kept"));
            }
            into.extend_from_slice(bytes);
            Ok(())
        };
        let exit = executor.execute(command.as_bytes(), Some(&directory), &mut keep).await?;
        match exit {
            Exit::Code(code) => result.exit_code = Some(code),
            Exit::Refused(ref e) => result.failures.push(e.clone()),
            Exit::Signal(_) | Exit::Unknown => {}
        }
        if let Some(e) = exit.failure(&result.error_output) {
            result.failures.push(e);
        }
        Ok(result)
    }
}

/// The digest of a file by a program of the server's shell; `None` where there is none, or it could be of another
/// file: what a shell calls by a path is what SFTP calls so only where both begin in the same directory.
pub(super) async fn by_shell(open: &Open, path: &VPath, algorithm: Algorithm) -> Option<Vec<u8>> {
    let (program, size) = match algorithm {
        Algorithm::Md5 => ("md5sum", 16),
        Algorithm::Sha1 => ("sha1sum", 20),
        Algorithm::Sha256 => ("sha256sum", 32),
        Algorithm::Sha384 => ("sha384sum", 48),
        Algorithm::Sha512 => ("sha512sum", 64),
        _ => return None,
    };
    let same = async {
        let said = said_by(&open.executor, b"pwd").await;
        said.is_some_and(|text| text.strip_suffix(b"\n") == Some(open.home.as_bytes()))
    };
    // What the shell sees is another text.
    if open.options.encrypts() || !open.executor.is_shell() || !*open.same_tree.get_or_init(|| same).await {
        return None;
    }
    let command = [program.as_bytes(), b" -b ", &quoted(path.as_bytes())[..]].concat();
    digest_of(&said_by(&open.executor, &command).await?, size)
}

/// What a command says, if it ends well and says little.
async fn said_by(executor: &Executor, command: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut keep = |piece: Said<'_>| {
        if let Said::Output(bytes) = piece {
            text.extend_from_slice(bytes);
        }
        if text.len() > LITTLE { Err(ErrorKind::TooLarge.into()) } else { Ok(()) }
    };
    let ended = executor.execute(command, None, &mut keep).await;
    matches!(ended, Ok(Exit::Code(0))).then_some(text)
}

/// The digest at the beginning of a line of `sha256sum` and its kin. A backslash before it says that the name is
/// written with escapes.
fn digest_of(line: &[u8], size: usize) -> Option<Vec<u8>> {
    let line = line.strip_prefix(b"\\").unwrap_or(line);
    let digits = line.split(|b| *b == b' ').next()?;
    let digest: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => {
                let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        })
        .collect();
    digest.filter(|d| d.len() == size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_from_lines() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        for line in [format!("{md5} */a\n"), format!("{md5}  /a\n"), format!("\\{md5} */a\\nb\n")] {
            assert_eq!(digest_of(line.as_bytes(), 16).map(|d| d.len()), Some(16), "{line}");
            assert_eq!(digest_of(line.as_bytes(), 20), None, "{line}");
        }
        for bad in [
            "",
            "sha256sum: no",
            &md5[1..],
            "zz1d8cd98f00b204e9800998ecf8427e x",
            "+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1 x",
        ] {
            assert_eq!(digest_of(bad.as_bytes(), 16), None, "{bad}");
        }
    }
}
