//! What programs and shells say when something went wrong → kinds of errors.
//!
//! A message ends with the system's words for the error (the locale is C), and a name that looks like such words stands
//! before them: only ends are looked at. Besides glibc's there are musl's, those of the shells themselves, and
//! those of our own server.

use session_core::error::{Error, ErrorKind};
use session_core::path::display_bytes;

/// How much of a message is kept.
const MOST: usize = 512;

const ENDS: [(&str, ErrorKind); 36] = [
    ("cannot overwrite existing file", ErrorKind::AlreadyExists),
    ("file exists", ErrorKind::AlreadyExists),
    ("command not found", ErrorKind::Unsupported),
    (": not found", ErrorKind::Unsupported),
    ("cross-device link", ErrorKind::CrossDevice),
    ("invalid argument", ErrorKind::InvalidArgument),
    ("file name too long", ErrorKind::InvalidPath),
    ("filename too long", ErrorKind::InvalidPath),
    ("invalid or incomplete multibyte or wide character", ErrorKind::InvalidPath),
    // Our own server's.
    ("a name with a line end cannot be sent by scp", ErrorKind::InvalidPath),
    // `scp` of a device says so too, which is as little a file.
    ("not a regular file", ErrorKind::IsADirectory),
    ("symbolic link loop", ErrorKind::LinkLoop),
    ("too many levels of symbolic links", ErrorKind::LinkLoop),
    // Our own server's.
    ("the link leads back to where one came from", ErrorKind::LinkLoop),
    ("text file busy", ErrorKind::Locked),
    ("device or resource busy", ErrorKind::Locked),
    ("resource busy", ErrorKind::Locked),
    // Our own server's, of what somebody has begun to send.
    ("the upload of this file is not finished", ErrorKind::Locked),
    ("disk full", ErrorKind::NoSpace),
    ("no space left on device", ErrorKind::NoSpace),
    ("no such file", ErrorKind::NotFound),
    ("operation not permitted", ErrorKind::PermissionDenied),
    ("read-only file system", ErrorKind::PermissionDenied),
    ("permission denied", ErrorKind::PermissionDenied),
    // Our own server's, which says what it is that may not be done.
    ("is not allowed here", ErrorKind::PermissionDenied),
    ("disk quota exceeded", ErrorKind::QuotaExceeded),
    ("quota exceeded", ErrorKind::QuotaExceeded),
    ("file too large", ErrorKind::TooLarge),
    ("file size limit exceeded", ErrorKind::TooLarge),
    ("argument list too long", ErrorKind::TooLarge),
    ("too many open files", ErrorKind::Throttled),
    ("cannot allocate memory", ErrorKind::Throttled),
    ("out of memory", ErrorKind::Throttled),
    ("resource temporarily unavailable", ErrorKind::Throttled),
    ("not supported", ErrorKind::Unsupported),
    ("function not implemented", ErrorKind::Unsupported),
];

/// The kind that a message tells, if it tells one.
pub(super) fn kind_of(message: &[u8]) -> Option<ErrorKind> {
    let text = String::from_utf8_lossy(message).to_lowercase();
    let text = text.trim_end().trim_end_matches('.');
    let ours = || ErrorKind::ALL.into_iter().find(|kind| text.ends_with(kind.words()));
    ENDS.iter().find(|(end, _)| text.ends_with(end)).map(|(_, kind)| *kind).or_else(ours)
}

/// The first line that says something.
fn first(message: &[u8]) -> &[u8] {
    let mut lines = message.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    // `scp` says before it that it cannot go on, a shell that it is a shell: the first that has a kind is the one.
    let lines: Vec<_> = lines.by_ref().filter(|line| !line.is_empty()).take(16).collect();
    let telling = lines.iter().find(|line| kind_of(line).is_some()).or(lines.first());
    telling.copied().unwrap_or_default()
}

/// The error of a command that ended with `code` and said `message`.
pub(super) fn error_of(code: u32, message: &[u8]) -> Error {
    let line = first(message);
    let line = line.get(line.len().saturating_sub(MOST)..).unwrap_or(line);
    let kind =
        kind_of(line).unwrap_or(if code == 127 { ErrorKind::Unsupported } else { ErrorKind::Internal });
    let text = display_bytes(line);
    let silent = text.is_empty();
    let e = Error::new(kind).with_wire(code, text);
    if silent {
        e.with_detail(format!("a command of the server ended with code {code} and said nothing"))
    } else {
        e
    }
}

/// The error of `scp`'s words.
pub(super) fn scp_said(words: &[u8]) -> Error {
    error_of(1, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_real_programs_have_their_kinds() {
        use ErrorKind as K;
        for (message, kind) in [
            ("ls: cannot access '/x/Permission denied': No such file or directory", K::NotFound),
            ("ls: /x: Permission denied", K::PermissionDenied),
            ("/bin/sh: 3: cannot open /x: No such file", K::NotFound),
            ("sh: line 2: /x: cannot overwrite existing file", K::AlreadyExists),
            ("dash: 1: cannot create /x: File exists", K::AlreadyExists),
            ("rmdir: failed to remove '/x': Directory not empty", K::NotEmpty),
            ("rm: '/x' is a directory", K::IsADirectory),
            ("rm: cannot remove '/x': Is a directory", K::IsADirectory),
            ("ls: cannot access '/x/y': Not a directory", K::NotADirectory),
            ("mkdir: can't create directory '/x': Read-only file system", K::PermissionDenied),
            ("scp: /x: not a regular file", K::IsADirectory),
            ("scp: /x: No space left on device", K::NoSpace),
            ("mv: cannot move 'a' to 'b': Filename too long", K::InvalidPath),
            ("sh: scp: not found", K::Unsupported),
            ("bash: line 1: scp: command not found", K::Unsupported),
            ("scp: /x: refused", K::Refused),
            ("scp: /x: permission denied: listing is not allowed here", K::PermissionDenied),
            ("scp: /x: the upload of this file is not finished", K::Locked),
            ("scp: /x: the link leads back to where one came from", K::LinkLoop),
            ("scp: /x?y: a name with a line end cannot be sent by SCP", K::InvalidPath),
            ("touch: setting times of '/x': Operation not permitted", K::PermissionDenied),
        ] {
            assert_eq!(error_of(1, message.as_bytes()).kind(), kind, "{message}");
        }
        assert_eq!(error_of(127, b"what?").kind(), K::Unsupported);
        assert_eq!(error_of(2, b"what?").kind(), K::Internal);
        let e = error_of(1, b"\nscp: warning\nls: /x: Permission denied\n");
        assert_eq!((e.kind(), e.wire().map(|w| w.code)), (K::PermissionDenied, Some(1)));
        // Our own server says the words of its kinds.
        for kind in K::ALL {
            let found = kind_of(format!("scp: /x: {}", kind.words()).as_bytes());
            assert_eq!(found, Some(kind), "{kind:?}");
        }
    }
}
