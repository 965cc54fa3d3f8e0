//! The server's machine: bytes at every boundary, endings, bounds.
#![cfg(feature = "server")]

use proptest::prelude::*;
use proto_ftp::server::machine::{Call, Done, Machine, Output, Settings};
use session_core::path::VPath;

/// Answers every call well; what was called and what was replied.
fn drain(machine: &mut Machine, calls: &mut Vec<String>, out: &mut Vec<u8>) {
    while let Some(output) = machine.poll() {
        match output {
            Output::Call(call) => {
                if !matches!(call, Call::Ask { .. }) {
                    calls.push(format!("{call:?}"));
                }
                let done = match call {
                    Call::Password(_) => Done::LoggedIn { home: VPath::root(), words: vec!["in".into()] },
                    Call::Passive { .. } => Done::Address("127.0.0.1:5000".parse().unwrap()),
                    Call::Open(_) => Done::Opened { size: None, name: None },
                    Call::Move => Done::Moved { bytes: 1 },
                    Call::Size(_) | Call::Space(_) => Done::Number(1),
                    Call::Leave | Call::LogOut | Call::Host(_) => Done::Words(vec!["words".into()]),
                    Call::Facts { .. } | Call::Show(_) => Done::Lines(vec!["line".into()]),
                    _ => Done::Ok,
                };
                machine.complete(Ok(done));
            }
            Output::Status { .. } => machine.tell(vec!["status".into()]),
            Output::Close(ending) => calls.push(format!("close {}", ending.reason)),
            Output::Abort | Output::Begin { .. } | Output::End | Output::Failed(_) => {}
        }
        if let Some(bytes) = machine.take_output() {
            out.extend_from_slice(&bytes);
        }
    }
    if let Some(bytes) = machine.take_output() {
        out.extend_from_slice(&bytes);
    }
}

fn feed(parts: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let mut machine = Machine::new(Settings::default());
    let (mut calls, mut out) = (Vec::new(), Vec::new());
    for part in parts {
        machine.receive(part);
        drain(&mut machine, &mut calls, &mut out);
    }
    machine.end_of_input();
    drain(&mut machine, &mut calls, &mut out);
    (calls, out)
}

const SESSION: &[u8] = b"USER demo\r\nPASS demo\r\nTYPE I\r\nEPSV\r\nSTOR a\xff\xffb\r\n\xff\xf4\xff\xf2\
MKD x\r\nRNFR x\r\nRNTO y\nEPSV\r\nLIST -la y\r\nSIZE y\r\nMLST y\r\nFEAT\r\nREIN\r\nUSER demo\r\nQUIT\r\n";

#[test]
fn pipelined_commands_do_not_depend_on_how_bytes_arrive() {
    let whole = feed(&[SESSION]);
    assert!(whole.0.len() > 10 && whole.0.last().unwrap() == "close the client left", "{:?}", whole.0);
    for cut in 0..=SESSION.len() {
        let (a, b) = SESSION.split_at(cut);
        assert_eq!(feed(&[a, b]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = SESSION.chunks(1).collect();
    assert_eq!(feed(&bytes), whole);
}

#[test]
fn what_waits_is_bounded() {
    let mut machine = Machine::new(Settings::default());
    let (mut calls, mut out) = (Vec::new(), Vec::new());
    // Nothing is polled: the machine is busy, as with a slow store.
    let mut taken = 0;
    while machine.wants_input() {
        machine.receive(&b"NOOP\r\n".repeat(100));
        taken += 600;
    }
    assert!((4096..64 * 1024).contains(&taken), "{taken}");
    drain(&mut machine, &mut calls, &mut out);
    assert!(machine.wants_input());
    assert_eq!(out.len() / b"200 Here\r\n".len(), taken / 6);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(parts in proptest::collection::vec(any::<Vec<u8>>(), 0..8), login: bool) {
        let mut parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        if login {
            parts.insert(0, b"USER demo\r\nPASS demo\r\n");
        }
        let (_, out) = feed(&parts);
        // Every line that leaves is whole and one of a reply.
        for line in out.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            prop_assert!(line.ends_with(b"\r"));
            prop_assert!(line[0] == b' ' || line[..3].iter().all(u8::is_ascii_digit));
        }
    }

    #[test]
    fn any_arguments_are_survived(
        lines in proptest::collection::vec(
            (0usize..60, proptest::collection::vec(
                prop_oneof![Just(b' '), Just(b'"'), Just(b'|'), Just(b','), Just(b';'), Just(b'='),
                    Just(b'-'), Just(b'*'), b'0'..=b'9', any::<u8>()], 0..40)), 0..12),
    ) {
        let table = proto_ftp::server::table::TABLE;
        let mut bytes = b"USER demo\r\nPASS demo\r\n".to_vec();
        for (n, argument) in lines {
            bytes.extend_from_slice(table[n % table.len()].name.as_bytes());
            bytes.push(b' ');
            bytes.extend(argument.iter().filter(|b| **b != b'\n'));
            bytes.extend_from_slice(b"\r\n");
        }
        feed(&[&bytes]);
    }
}
