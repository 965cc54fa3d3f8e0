//! The client's machine against scripted replies: reordered, doubled, damaged, cut anywhere.
#![cfg(feature = "client")]

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use proto_sftp::client::machine::{Event, Machine, Negotiated, Token};
use proto_sftp::wire::extension::encode_limits;
use proto_sftp::wire::{Extension, Frames, FromClient, Limits, Reply, Request, Version};
use session_core::error::{Error, ErrorKind};

fn encoded(id: u32, reply: &Reply) -> Bytes {
    let mut out = BytesMut::new();
    reply.encode(id, &mut out);
    out.freeze()
}

fn version(extensions: &[Extension]) -> Bytes {
    let mut out = BytesMut::new();
    let extensions = extensions.iter().map(|e| (Bytes::from(e.name()), Bytes::from(e.data()))).collect();
    Version { version: 3, extensions }.encode(&mut out);
    out.freeze()
}

/// All that the machine has to send, as packets.
fn sent(machine: &mut Machine) -> Vec<FromClient> {
    let mut frames = Frames::default();
    while let Some(chunk) = machine.poll_send() {
        frames.push(chunk);
    }
    let mut packets = Vec::new();
    while let Some(frame) = frames.next_frame().unwrap() {
        packets.push(FromClient::decode(frame).unwrap());
    }
    assert_eq!(machine.queued(), 0);
    packets
}

fn ended(machine: &mut Machine) -> Error {
    loop {
        match machine.poll() {
            Some(Event::Ended(e)) => {
                assert!(machine.poll().is_none(), "said once and last");
                return e;
            }
            Some(_) => {}
            None => panic!("the connection goes on"),
        }
    }
}

/// A machine past its greeting, and what it learned.
fn greeted(extensions: &[Extension], limits: Option<Limits>) -> (Machine, Negotiated) {
    let mut machine = Machine::new();
    assert!(matches!(sent(&mut machine)[..], [FromClient::Init(ref i)] if i.version == 3));
    machine.receive(version(extensions));
    for packet in sent(&mut machine) {
        let FromClient::Request(id, request) = packet else { panic!("a second INIT") };
        machine.receive(match request {
            Request::Realpath { path } => {
                assert_eq!(path, "."[..]);
                encoded(id, &Reply::path(Bytes::from_static(b"/home/me")))
            }
            Request::Extended(_) => encoded(id, &Reply::Extended(encode_limits(limits.as_ref().unwrap()))),
            other => panic!("{other:?}"),
        });
    }
    let Some(Event::Ready(negotiated)) = machine.poll() else { panic!("not ready") };
    (machine, (*negotiated).clone())
}

fn ready() -> Machine {
    greeted(&[], None).0
}

fn stat(machine: &mut Machine, path: &'static str) -> Token {
    machine.submit(Request::Stat { path: Bytes::from(path) }).unwrap()
}

fn ok() -> Reply {
    Reply::status(0, "")
}

#[test]
fn learns_home_and_limits_and_stays_within_both_ends_bounds() {
    let (_, plain) = greeted(&[], None);
    assert_eq!((plain.read_len, plain.write_len, plain.max_handles), (32768, 32768, None));
    assert_eq!(plain.home.as_bytes(), b"/home/me");
    assert!(!plain.ordered);
    let limits = |packet, read, write, handles| {
        let limits = Limits {
            max_packet_len: packet,
            max_read_len: read,
            max_write_len: write,
            max_open_handles: handles,
        };
        let n = greeted(&[Extension::Limits, Extension::Fsync], Some(limits)).1;
        (n.read_len, n.write_len, n.max_handles)
    };
    assert_eq!(limits(262_144, 261_120, 261_120, 1019), (261_120, 261_120, Some(1019)));
    // A limit of 0 is none; ours stands. A small packet bounds what it must hold.
    assert_eq!(limits(0, 0, 0, 0), (261_120, 261_120, None));
    assert_eq!(limits(34_000, 261_120, 65_536, 0), (32_976, 32_976, None));
    assert_eq!(limits(u64::MAX, 1 << 40, 100, 0), (261_120, 100, None));
    assert_eq!(limits(1, 1, 1, 1), (1, 1, Some(1)));
}

#[test]
fn a_server_that_will_not_tell_its_limits_gets_the_usual_ones() {
    let mut machine = Machine::new();
    sent(&mut machine);
    machine.receive(version(&[Extension::Limits]));
    for packet in sent(&mut machine) {
        let FromClient::Request(id, _) = packet else { panic!() };
        machine.receive(encoded(id, &Reply::status(8, "no")));
    }
    let Some(Event::Ready(n)) = machine.poll() else { panic!("not ready") };
    assert_eq!((n.read_len, n.home.as_bytes()), (32768, &b"/"[..]));
}

#[test]
fn replies_come_in_any_order_and_find_their_request() {
    let mut machine = ready();
    let tokens: Vec<_> = ["/a", "/b", "/c"].into_iter().map(|p| stat(&mut machine, p)).collect();
    assert_eq!(sent(&mut machine).len(), 3);
    for t in tokens.iter().rev() {
        machine.receive(encoded(t.0, &Reply::status(2, "gone")));
    }
    for t in tokens.iter().rev() {
        assert!(matches!(machine.poll(), Some(Event::Reply(token, _)) if token == *t));
    }
    assert!(machine.poll().is_none());
    assert_eq!(machine.outstanding(), 0);
}

#[test]
fn what_was_not_asked_ends_the_connection_for_every_waiter() {
    let one = |reply: fn(u32) -> Bytes| {
        let mut machine = ready();
        let t = stat(&mut machine, "/a");
        stat(&mut machine, "/b");
        machine.receive(reply(t.0));
        let e = ended(&mut machine);
        assert_eq!(e.kind(), ErrorKind::PeerMisbehaved);
        assert_eq!(machine.outstanding(), 0);
        // For good, whatever else comes.
        machine.receive(encoded(t.0, &ok()));
        assert!(machine.poll().is_none());
        let late = machine.submit(Request::Stat { path: Bytes::new() }).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::PeerMisbehaved);
    };
    one(|id| encoded(id + 77, &Reply::status(2, ""))); // an id of nothing
    one(|id| [encoded(id, &Reply::status(2, "")), encoded(id, &Reply::status(2, ""))].concat().into()); // twice
    one(|id| encoded(id, &Reply::Data(Bytes::from_static(b"x")))); // of the wrong type
    one(|id| encoded(id, &ok())); // ok, where attributes are owed
    one(|_| version(&[])); // a second greeting
    one(|_| Bytes::from_static(b"\0\0\0\0")); // no packet
    one(|_| Bytes::from_static(b"\xff\xff\xff\xff")); // longer than any packet
    one(|_| Bytes::from_static(b"\0\0\0\x05\x63\0\0\0\x01")); // an unknown type
    one(|id| {
        let mut cut = encoded(id, &Reply::Attrs(Default::default())).to_vec();
        cut.pop();
        cut[3] -= 1;
        cut.into() // a field that ends with its packet
    });
}

#[test]
fn more_data_than_asked_is_no_answer() {
    let mut machine = ready();
    let read = |m: &mut Machine| {
        m.submit(Request::Read { handle: Bytes::from_static(b"h"), offset: 0, len: 4 }).unwrap()
    };
    let t = read(&mut machine);
    machine.receive(encoded(t.0, &Reply::Data(Bytes::from_static(b"1234"))));
    assert!(matches!(machine.poll(), Some(Event::Reply(..))));
    let t = read(&mut machine);
    machine.receive(encoded(t.0, &Reply::Data(Bytes::from_static(b"12345"))));
    assert_eq!(ended(&mut machine).kind(), ErrorKind::PeerMisbehaved);
}

#[test]
fn a_forgotten_request_is_answered_into_the_void_and_its_handle_closed() {
    let mut machine = ready();
    let open = Request::Open { path: Bytes::from_static(b"/a"), flags: 1, attrs: Default::default() };
    let t = machine.submit(open).unwrap();
    sent(&mut machine);
    machine.forget(t);
    assert_eq!(machine.outstanding(), 1);
    machine.receive(encoded(t.0, &Reply::Handle(Bytes::from_static(b"late"))));
    assert!(machine.poll().is_none());
    let packets = sent(&mut machine);
    let [FromClient::Request(id, Request::Close { handle })] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!(handle, "late");
    machine.receive(encoded(*id, &ok()));
    assert!(machine.poll().is_none());
    assert_eq!(machine.outstanding(), 0);
    // The connection is as good as before.
    let t = stat(&mut machine, "/b");
    machine.receive(encoded(t.0, &Reply::Attrs(Default::default())));
    assert!(matches!(machine.poll(), Some(Event::Reply(token, _)) if token == t));
}

#[test]
fn content_of_a_large_write_is_not_copied() {
    let mut machine = ready();
    let data = Bytes::from(vec![7u8; 100_000]);
    let handle = Bytes::from_static(b"h");
    machine.submit(Request::Write { handle, offset: 1, data: data.clone() }).unwrap();
    let header = machine.poll_send().unwrap();
    assert!(header.len() < 64);
    assert_eq!(machine.poll_send().unwrap().as_ptr(), data.as_ptr());
    assert_eq!(machine.queued(), 0);
}

#[test]
fn explains_a_login_script_that_talks() {
    let mut machine = Machine::new();
    machine.receive(Bytes::from_static(b"Welcome to example.org!\r\nLast login: today\r\n"));
    let e = ended(&mut machine);
    assert_eq!(e.kind(), ErrorKind::PeerMisbehaved);
    assert!(e.detail().unwrap().contains("'Welcome to example.org!'"), "{e}");
    assert!(e.hint().unwrap().contains("login script"));
    // Also when it stops talking before a packet's worth came, and when it says nothing at all.
    let mut machine = Machine::new();
    machine.receive(Bytes::from_static(b"This"));
    assert!(machine.poll().is_some_and(|e| matches!(e, Event::Ended(_))));
    let machine = Machine::new();
    assert_eq!(machine.eof().kind(), ErrorKind::Disconnected);
    assert!(machine.eof().hint().unwrap().contains("subsystem"));
}

#[test]
fn other_versions_are_refused_by_name() {
    for (offered, kind) in [(2, ErrorKind::Unsupported), (4, ErrorKind::PeerMisbehaved)] {
        let mut machine = Machine::new();
        let mut out = BytesMut::new();
        Version { version: offered, extensions: Vec::new() }.encode(&mut out);
        machine.receive(out.freeze());
        assert_eq!(ended(&mut machine).kind(), kind);
    }
}

/// One conversation with every type of reply: what the server says, and how many replies it is.
fn conversation(machine: &mut Machine) -> Vec<Bytes> {
    let handle = Bytes::from_static(b"h");
    let name = Reply::path(Bytes::from_static(b"/x"));
    let mut replies = Vec::new();
    for (request, reply) in [
        (Request::Stat { path: Bytes::new() }, Reply::Attrs(Default::default())),
        (Request::Opendir { path: Bytes::new() }, Reply::Handle(handle.clone())),
        (
            Request::Read { handle: handle.clone(), offset: 0, len: 9 },
            Reply::Data(Bytes::from_static(b"content")),
        ),
        (Request::Readdir { handle: handle.clone() }, name),
        (Request::Close { handle }, ok()),
    ] {
        let t = machine.submit(request).unwrap();
        replies.push(encoded(t.0, &reply));
    }
    replies
}

fn replies(machine: &mut Machine) -> usize {
    std::iter::from_fn(|| machine.poll()).filter(|e| matches!(e, Event::Reply(..))).count()
}

#[test]
fn a_stream_cut_at_every_byte_gives_what_was_whole() {
    let mut machine = ready();
    let script = conversation(&mut machine).concat();
    for cut in 0..=script.len() {
        let mut machine = ready();
        let whole: Vec<_> = conversation(&mut machine);
        let want = whole
            .iter()
            .scan(0, |at, r| {
                *at += r.len();
                Some(*at)
            })
            .filter(|end| *end <= cut)
            .count();
        machine.receive(Bytes::copy_from_slice(&script[..cut]));
        assert_eq!(replies(&mut machine), want, "cut at {cut}");
        machine.end(machine.eof());
        assert_eq!(ended(&mut machine).kind(), ErrorKind::Disconnected);
    }
}

#[test]
fn a_packet_shortened_at_every_byte_is_an_answer_or_the_end() {
    let count = conversation(&mut ready()).len();
    for which in 0..count {
        let len = conversation(&mut ready())[which].len();
        for keep in 1..len - 4 {
            let mut machine = ready();
            let whole = conversation(&mut machine);
            let mut cut = BytesMut::new();
            cut.put_u32(keep as u32);
            cut.extend_from_slice(&whole[which][4..4 + keep]);
            machine.receive(cut.freeze());
            match machine.poll() {
                Some(Event::Reply(..)) => assert!(machine.poll().is_none()),
                Some(Event::Ended(e)) => assert_eq!(e.kind(), ErrorKind::PeerMisbehaved),
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn chunks_cut_anywhere_say_the_same(cuts in proptest::collection::vec(1usize..30, 1..60)) {
        let mut machine = ready();
        let script = conversation(&mut machine);
        let want = script.len();
        let script = script.concat();
        let mut rest = &script[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            machine.receive(Bytes::copy_from_slice(now));
            rest = later;
        }
        prop_assert_eq!(replies(&mut machine), want);
    }

    #[test]
    fn garbage_never_panics_and_never_answers(garbage in proptest::collection::vec(any::<u8>(), 0..200), greeted: bool) {
        let mut machine = if greeted { ready() } else { Machine::new() };
        machine.receive(Bytes::from(garbage));
        prop_assert_eq!(replies(&mut machine), 0);
    }

    #[test]
    fn damage_never_panics(damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..5)) {
        let mut machine = ready();
        let mut script = conversation(&mut machine).concat();
        for (place, value) in damage {
            let place = usize::from(place) % script.len();
            script[place] = value;
        }
        machine.receive(Bytes::from(script));
        prop_assert!(replies(&mut machine) <= 5);
    }
}
