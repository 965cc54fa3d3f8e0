//! Requests and replies in words, for [`Talk`]: a line each, without content.

use session_core::path::display_bytes;
use session_core::talk::Talk;

use super::machine::Negotiated;
use crate::wire::{Reply, Request};

fn hex(handle: &[u8]) -> String {
    handle.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

fn words(request: &Request) -> String {
    let path = |path: &[u8]| format!("'{}'", display_bytes(path));
    match request {
        Request::Close { handle } => format!("CLOSE {}", hex(handle)),
        Request::Extended(extended) => format!("EXTENDED {extended:?}"),
        Request::Fsetstat { handle, attrs } => format!("FSETSTAT {} {attrs:?}", hex(handle)),
        Request::Fstat { handle } => format!("FSTAT {}", hex(handle)),
        Request::Lstat { path: p } => format!("LSTAT {}", path(p)),
        Request::Mkdir { path: p, attrs } => format!("MKDIR {} {attrs:?}", path(p)),
        Request::Open { path: p, flags, attrs } => format!("OPEN {} flags {flags:#x} {attrs:?}", path(p)),
        Request::Opendir { path: p } => format!("OPENDIR {}", path(p)),
        Request::Read { handle, offset, len } => format!("READ {} {len} bytes at {offset}", hex(handle)),
        Request::Readdir { handle } => format!("READDIR {}", hex(handle)),
        Request::Readlink { path: p } => format!("READLINK {}", path(p)),
        Request::Realpath { path: p } => format!("REALPATH {}", path(p)),
        Request::Remove { path: p } => format!("REMOVE {}", path(p)),
        Request::Rename { from, to } => format!("RENAME {} {}", path(from), path(to)),
        Request::Rmdir { path: p } => format!("RMDIR {}", path(p)),
        Request::Setstat { path: p, attrs } => format!("SETSTAT {} {attrs:?}", path(p)),
        Request::Stat { path: p } => format!("STAT {}", path(p)),
        Request::Symlink { target, link } => format!("SYMLINK {} {}", path(target), path(link)),
        Request::Unknown { kind, body } => format!("type {kind}, {} bytes", body.len()),
        Request::Write { handle, offset, data } => {
            format!("WRITE {} {} bytes at {offset}", hex(handle), data.len())
        }
    }
}

/// What the greeting taught, in words.
pub(super) fn greeting(learned: &Negotiated) -> String {
    format!(
        "SFTP begins at '{}'; reads of {}, writes of {} bytes",
        learned.home, learned.read_len, learned.write_len
    )
}

/// What is told of a request before it is handed on: `None` where nobody listens.
pub(super) fn asked(talk: &Talk, request: &Request) -> Option<(String, bool)> {
    let content = matches!(request, Request::Read { .. } | Request::Write { .. });
    talk.tells(content).then(|| (words(request), content))
}

/// Tells a request that was given this id.
pub(super) fn sent(talk: &Talk, id: u32, asked: Option<(String, bool)>) {
    match asked {
        Some((words, true)) => talk.sent_more(|| format!("#{id} {words}")),
        Some((words, false)) => talk.sent(|| format!("#{id} {words}")),
        None => {}
    }
}

/// Tells a reply; `content`: it answers what carried some.
pub(super) fn heard(talk: &Talk, id: u32, reply: &Reply, content: bool) {
    let text = || {
        let words = match reply {
            Reply::Attrs(attrs) => format!("ATTRS {attrs:?}"),
            Reply::Data(data) => format!("DATA {} bytes", data.len()),
            Reply::Extended(body) => format!("EXTENDED_REPLY {} bytes", body.len()),
            Reply::Handle(handle) => format!("HANDLE {}", hex(handle)),
            Reply::Name(names) => match names.as_slice() {
                [only] => format!("NAME '{}'", display_bytes(&only.name)),
                names => format!("NAME {} entries", names.len()),
            },
            Reply::Status { code, message, .. } => format!("STATUS {code} {}", display_bytes(message)),
        };
        format!("#{id} {words}")
    };
    let failed = matches!(reply, Reply::Status { code: 2.., .. });
    // The end of a file or of a listing is no failure.
    match (content || matches!(reply, Reply::Data(_) | Reply::Status { code: 1, .. })) && !failed {
        true => talk.heard_more(text),
        false => talk.heard(text),
    }
}
