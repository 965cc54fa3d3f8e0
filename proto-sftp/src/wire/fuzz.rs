//! Entries for fuzzing: one for each parser that sees a peer. Each takes any bytes and must return.
//!
//! `fuzz/` holds the targets; the corpus in `fuzz/corpus/` also runs in `cargo test`. Besides not
//! panicking, what was decoded must encode to something that decodes to the same.

use bytes::{Bytes, BytesMut};

use super::codec::Frames;
use super::extension;
use super::fetch::{Event, Fetch};
use super::ls;
use super::packet::{FromClient, FromServer};
use super::scp::{Arrived, Control};

/// The stream of packets, pushed in chunks whose sizes come from the data itself.
pub fn frames(data: &[u8]) {
    let mut frames = Frames::default();
    let mut rest = data;
    while let Some(first) = rest.first() {
        let (chunk, later) = rest.split_at(rest.len().min(1 + usize::from(*first)));
        frames.push(Bytes::copy_from_slice(chunk));
        rest = later;
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => assert!(!frame.is_empty()),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// A packet from a client.
pub fn from_client(data: &[u8]) {
    let Ok(packet) = FromClient::decode(Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    match &packet {
        FromClient::Init(init) => init.encode(&mut out),
        FromClient::Request(id, request) => request.encode(*id, &mut out),
    }
    assert_eq!(FromClient::decode(out.freeze().slice(4..)), Ok(packet));
}

/// A packet from a server, and its body read as each kind of extended reply.
pub fn from_server(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = extension::decode_limits(bytes.clone());
    let _ = extension::decode_statvfs(bytes.clone());
    let _ = extension::decode_names(bytes.clone());
    let _ = extension::Checked::decode(bytes.clone());
    let Ok(packet) = FromServer::decode(bytes) else { return };
    let mut out = BytesMut::new();
    match &packet {
        FromServer::Version(version) => version.encode(&mut out),
        FromServer::Reply(id, reply) => reply.encode(*id, &mut out),
    }
    assert_eq!(FromServer::decode(out.freeze().slice(4..)), Ok(packet));
}

/// All of them.
pub fn all(data: &[u8]) {
    frames(data);
    from_client(data);
    from_server(data);
    scp(data);
    fetch(data);
    ls(data);
}

/// What the other end of `scp` says: lines, and content of the sizes that they tell.
pub fn scp(data: &[u8]) {
    let mut arrived = Arrived::default();
    for piece in data.chunks(7) {
        arrived.push(piece);
        loop {
            match arrived.control() {
                Ok(Some(control)) => {
                    let mut out = BytesMut::new();
                    control.encode(&mut out);
                    let mut again = Arrived::default();
                    again.push(&out);
                    // Times lose their fractions; all else is the same.
                    match (&control, again.control()) {
                        (Control::Times { .. }, Ok(Some(Control::Times { .. }))) => {}
                        (_, other) => assert_eq!(other, Ok(Some(control.clone()))),
                    }
                    if let Control::File { size, .. } = control {
                        let _ = arrived.content(size);
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// What a source of `scp` sends to who asked it for one file.
pub fn fetch(data: &[u8]) {
    let mut fetch = Fetch::default();
    let (mut due, mut complete) = (None, false);
    for piece in data.chunks(5) {
        fetch.push(Bytes::copy_from_slice(piece));
        loop {
            match fetch.next_event() {
                Ok(Some(Event::Begins(head))) => assert!(due.replace(head.size).is_none()),
                Ok(Some(Event::Content(bytes))) => {
                    let left = due.and_then(|left| left.checked_sub(bytes.len() as u64));
                    assert!(left.is_some(), "content after its line, and no more than was announced");
                    due = left;
                }
                Ok(Some(Event::Complete)) => {
                    assert!(due == Some(0) && !complete);
                    complete = true;
                }
                Ok(Some(Event::Failed(_))) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Lines of another host's `ls`.
pub fn ls(data: &[u8]) {
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_295_120);
    for line in data.split(|b| *b == b'\n') {
        for dialect in [ls::Dialect::Bsd, ls::Dialect::Full, ls::Dialect::Gnu, ls::Dialect::Plain] {
            if let ls::Line::Entry { name, .. } = ls::read(line, dialect, now) {
                assert!(session_core::path::check_name(&name).is_ok());
            }
        }
        let _ = ls::read_known(line, now);
    }
}
