//! Exit codes, with their one table.

use session_core::error::{Error, ErrorKind};

/// Something failed that has no code of its own, or part of a batch.
pub(super) const FAILED: u8 = 1;
/// The arguments make no sense.
pub(super) const USAGE: u8 = 2;
/// The peer cannot be reached, or was lost.
pub(super) const CONNECTION: u8 = 3;
/// Login or trust failed.
pub(super) const LOGIN: u8 = 4;
/// There is no such file or directory.
pub(super) const NOT_FOUND: u8 = 5;
/// Not allowed, or refused by a rule of the server.
pub(super) const DENIED: u8 = 6;
/// The peer cannot do that.
pub(super) const UNSUPPORTED: u8 = 7;
/// `diff` found differences.
pub(super) const DIFFERENT: u8 = 8;
/// Ctrl-C.
pub(super) const INTERRUPTED: u8 = 130;

/// For `--help` and the man page.
pub(super) const TABLE: &str = "\
Exit codes:
  0    everything was done
  1    something failed (also: part of a batch)
  2    the arguments make no sense
  3    the peer cannot be reached, or the connection was lost
  4    login failed, or the server is not trusted
  5    no such file or directory
  6    permission denied, or refused by a rule of the server
  7    the peer cannot do that
  8    'diff' found differences
  130  interrupted
'exec' ends with the code of the command that it ran.

Colours stand in help and in errors of the command line only, on a terminal; NO_COLOR takes them away.";

/// The code of an error that ended a command.
pub(super) fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Disconnected | ErrorKind::TimedOut | ErrorKind::PeerMisbehaved => CONNECTION,
        ErrorKind::Unauthenticated => LOGIN,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::PermissionDenied | ErrorKind::Refused => DENIED,
        ErrorKind::Unsupported => UNSUPPORTED,
        ErrorKind::InvalidArgument => USAGE,
        ErrorKind::Canceled => INTERRUPTED,
        _ => FAILED,
    }
}

/// The code of a run over many entries with these failures, if there are any: that of the interruption where it
/// was given up; where nothing at all was done and all failed alike, theirs; else 1.
pub(super) fn of_run(failures: &[Error], nothing_done: bool) -> Option<u8> {
    let first = of(failures.first()?.kind());
    if failures.iter().any(|e| e.kind() == ErrorKind::Canceled) {
        return Some(INTERRUPTED);
    }
    let alike = nothing_done && failures.iter().all(|e| of(e.kind()) == first);
    Some(if alike { first } else { FAILED })
}

/// The code of a command of a server that ended with this one: the same, as far as a process can have it.
pub(super) fn of_command(code: u32) -> u8 {
    match u8::try_from(code & 0xff) {
        Ok(low) if low > 0 || code == 0 => low,
        _ => FAILED,
    }
}
