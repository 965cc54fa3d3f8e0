//! The machine under any script: requests good and bad, outcomes in any order. Nothing panics, every
//! request is answered exactly once, and what is held stays within the bounds.
#![cfg(feature = "server")]

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use proto_sftp::server::machine::{Bounds, Call, Done, Machine, Output, Token};
use proto_sftp::wire::extension::Extended;
use proto_sftp::wire::{Attrs, Frames, FromServer, Init, Reply, Request};
use session_core::error::{Error, ErrorKind};
use session_core::metadata::{DirEntry, FileType, Metadata};

#[derive(Clone, Debug)]
enum Step {
    /// A well-formed request.
    Ask(u8, u8, u8, u16),
    /// A packet of this type with any body.
    Noise(u8, Vec<u8>),
    /// The end of one of the calls that run.
    End(u8, bool),
    /// The transport takes a piece.
    Take,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<(u8, u8, u8, u16)>().prop_map(|(a, b, c, d)| Step::Ask(a, b, c, d)),
        1 => (2u8..=255, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(k, b)| Step::Noise(k, b)),
        4 => any::<(u8, bool)>().prop_map(|(n, ok)| Step::End(n, ok)),
        1 => Just(Step::Take),
    ]
}

fn request(what: u8, a: u8, b: u8, n: u16) -> Request {
    let path = |x: u8| {
        Bytes::from_static([&b"/a"[..], b"/a/b", b"/", b"c/../d", b"/a/b/c", b"\xff"][x as usize % 6])
    };
    let handle = |x: u8| Bytes::copy_from_slice(&(u64::from(x) % 12).to_be_bytes());
    let offset = u64::from(n) * 7;
    match what % 20 {
        0 => Request::Close { handle: handle(a) },
        1 => Request::Fsetstat { handle: handle(a), attrs: Attrs::default() },
        2 => Request::Fstat { handle: handle(a) },
        3 => Request::Mkdir { path: path(a), attrs: Attrs::default() },
        4..=6 => Request::Open { path: path(a), flags: u32::from(b) & 0x3f, attrs: Attrs::default() },
        7 => Request::Opendir { path: path(a) },
        8 | 9 => Request::Read { handle: handle(a), offset, len: u32::from(n) * 16 },
        10 => Request::Readdir { handle: handle(a) },
        11 => Request::Remove { path: path(a) },
        12 => Request::Rename { from: path(a), to: path(b) },
        13 => Request::Stat { path: path(a) },
        14..=16 => {
            Request::Write { handle: handle(a), offset, data: Bytes::from(vec![b; usize::from(n) % 3000]) }
        }
        17 => Request::Extended(Extended::CopyData {
            read_handle: handle(a),
            read_offset: 0,
            read_len: u64::from(n),
            write_handle: handle(b),
            write_offset: offset,
        }),
        18 => Request::Extended(Extended::Fsync { handle: handle(a) }),
        _ => Request::Realpath { path: path(a) },
    }
}

struct Run {
    machine: Machine,
    bounds: Bounds,
    calls: Vec<(Token, Call)>,
    frames: Frames,
    owed: HashMap<u32, usize>,
    answered: usize,
    greeted: bool,
}

impl Run {
    fn new() -> Self {
        let bounds = Bounds {
            max_running: 5,
            max_requests: 12,
            max_handles: 6,
            max_held: 20_000,
            ..Bounds::default()
        };
        Run {
            machine: Machine::new(bounds.clone()),
            bounds,
            calls: Vec::new(),
            frames: Frames::default(),
            owed: HashMap::new(),
            answered: 0,
            greeted: false,
        }
    }

    fn poll(&mut self) {
        while let Some(output) = self.machine.poll() {
            if let Output::Call { token, call, .. } = output {
                self.calls.push((token, call));
            }
        }
        assert!(self.calls.len() <= self.bounds.max_running);
        assert!(self.machine.open_handles() <= self.bounds.max_handles);
    }

    fn take(&mut self) -> bool {
        let Some(piece) = self.machine.take_output() else { return false };
        self.frames.push(piece);
        while let Some(frame) = self.frames.next_frame().expect("whole packets") {
            match FromServer::decode(frame).expect("well formed") {
                FromServer::Version(_) => self.greeted = true,
                FromServer::Reply(id, reply) => {
                    assert!(!matches!(&reply, Reply::Data(d) if d.is_empty()));
                    let owed = self.owed.get_mut(&id).filter(|n| **n > 0);
                    *owed.unwrap_or_else(|| panic!("{id} was not asked, or answered before")) -= 1;
                    self.answered += 1;
                }
            }
        }
        true
    }

    fn end(&mut self, which: u8, ok: bool) {
        if self.calls.is_empty() {
            return;
        }
        let (token, call) = self.calls.remove(usize::from(which) % self.calls.len());
        let entry = DirEntry { name: Bytes::from_static(b"e"), metadata: Metadata::new(FileType::File, 0) };
        let outcome = match call {
            _ if !ok => Err(Error::new(ErrorKind::ALL[usize::from(which) % 27])),
            Call::Read { mut buf, len, .. } => {
                buf.put_bytes(which, len.min(usize::from(which) * 40));
                Ok(Done::Content(buf))
            }
            Call::Page { .. } => Ok(Done::Entries(vec![entry; usize::from(which) % 3], UNIX_EPOCH)),
            Call::Stat { .. } => Ok(Done::Metadata(entry.metadata)),
            _ => Ok(Done::Ok),
        };
        self.machine.complete(token, outcome);
        self.poll();
    }

    fn send(&mut self, packet: BytesMut) {
        self.machine.receive(packet.freeze());
        self.poll();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_is_answered_exactly_once(steps in proptest::collection::vec(any_step(), 0..250)) {
        let mut run = Run::new();
        let mut hello = BytesMut::new();
        Init { version: 3, extensions: vec![] }.encode(&mut hello);
        run.send(hello);
        run.end(0, true);
        let mut asked = 0;
        for (id, step) in steps.iter().enumerate() {
            let id = id as u32;
            match step {
                Step::Ask(..) | Step::Noise(..) if !run.machine.wants_input() => {}
                Step::Ask(what, a, b, n) => {
                    let mut packet = BytesMut::new();
                    request(*what, *a, *b, *n).encode(id, &mut packet);
                    *run.owed.entry(id).or_default() += 1;
                    asked += 1;
                    run.send(packet);
                }
                Step::Noise(kind, body) => {
                    let mut packet = BytesMut::new();
                    packet.put_u32(5 + body.len() as u32);
                    packet.put_u8(*kind);
                    packet.put_u32(id);
                    packet.put_slice(body);
                    *run.owed.entry(id).or_default() += 1;
                    asked += 1;
                    run.send(packet);
                }
                Step::End(which, ok) => run.end(*which, *ok),
                Step::Take => { run.take(); run.poll(); }
            }
        }
        prop_assert!(!run.machine.is_closed(), "no frame was broken");
        run.machine.end_of_input();
        run.poll();
        while run.take() || !run.calls.is_empty() {
            run.poll();
            run.end(7, true);
        }
        prop_assert!(run.greeted && run.machine.is_idle());
        prop_assert_eq!(run.answered, asked);
    }

    #[test]
    fn any_bytes_are_taken(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
        let mut run = Run::new();
        for chunk in chunks {
            run.machine.receive(Bytes::from(chunk));
            run.poll();
            run.end(1, true);
        }
    }
}

#[test]
fn the_order_of_symlink_is_the_clients() {
    for (link_first, expected) in [(false, ("one", "/two")), (true, ("two", "/one"))] {
        let mut machine = Machine::new(Bounds::default()).with_link_first(link_first);
        let mut packets = BytesMut::new();
        Init { version: 3, extensions: Vec::new() }.encode(&mut packets);
        let (first, second) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
        Request::Symlink { target: first, link: second }.encode(1, &mut packets);
        machine.receive(packets.freeze());
        let Some(Output::Call { token, .. }) = machine.poll() else { panic!("INIT was not seen") };
        machine.complete(token, Ok(Done::Ok));
        let asked = machine.poll();
        let Some(Output::Call { call: Call::Symlink { target, link }, .. }) = asked else {
            panic!("no symlink was asked for, but {asked:?}")
        };
        assert_eq!((&target[..], link.as_bytes()), (expected.0.as_bytes(), expected.1.as_bytes()));
    }
}
