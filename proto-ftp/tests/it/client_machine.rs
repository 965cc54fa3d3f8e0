//! The client's machine against scripted replies, cut at every byte boundary.
#![cfg(feature = "client")]

use proto_ftp::client::machine::{Command, Machine, Output, text_of};
use session_core::error::ErrorKind;

/// A session of several commands, some of them in one flight: what came out, in words.
fn play(script: &[u8], step: usize) -> Vec<String> {
    let (mut machine, greeting) = Machine::new();
    let mut names = vec![(greeting, "greeting")];
    for command in [
        Command::with("USER", "a"),
        Command::secret("PASS", "secret"),
        Command::new("FEAT"),
        Command::with("RETR", "/x"),
        Command::new("NOOP"),
    ] {
        names.push((machine.submit(&command).unwrap(), command.verb()));
    }
    assert_eq!(&machine.to_send()[..], b"USER a\r\nPASS secret\r\nFEAT\r\nRETR /x\r\nNOOP\r\n");
    let mut out = Vec::new();
    for chunk in script.chunks(step) {
        machine.receive(chunk);
        while let Some(output) = machine.poll() {
            let name = |t| names.iter().find(|(n, _)| *n == t).unwrap().1;
            out.push(match output {
                Output::Begun(t, r) => format!("{} begun {}", name(t), r.code),
                Output::Done(t, r) => format!("{} {} {}", name(t), r.code, text_of(&r)),
                Output::Ended(e) => format!("ended {:?}", e.kind()),
            });
        }
    }
    out
}

const WHOLE: &[u8] = b"120 wait\r\n220-Hello\r\n 220 no end\r\n220 there\r\n331 password\r\n230-in\r\n230 now\r\n\
    211-Features\r\n MLST type*;\r\n 211 still not\r\n211 End\r\n150 opening\r\n110 MARK 1 = 2\r\n226 done\r\n200 ok\r\n";

#[test]
fn answers_find_their_commands_at_every_boundary() {
    let whole = play(WHOLE, WHOLE.len());
    assert_eq!(
        whole,
        [
            "greeting 220 Hello 220 no end there",
            "USER 331 password",
            "PASS 230 in now",
            "FEAT 211 Features MLST type*; 211 still not End",
            "RETR begun 150",
            "RETR 226 done",
            "NOOP 200 ok",
        ]
    );
    for step in 1..WHOLE.len() {
        assert_eq!(play(WHOLE, step), whole, "{step}");
    }
}

#[test]
fn what_is_cut_short_answers_nobody_else() {
    for cut in 0..WHOLE.len() {
        let part = play(&WHOLE[..cut], 7);
        let whole = play(WHOLE, 7);
        assert_eq!(part[..], whole[..part.len()], "{cut}");
    }
}

#[test]
fn a_421_ends_the_dialogue_for_everybody_with_the_servers_words() {
    let (mut machine, _) = Machine::new();
    machine.submit(&Command::with("RETR", "/x")).unwrap();
    machine.receive(b"220 hi\r\n150 go\r\n421 too long idle\r\n226 never\r\n");
    let mut last = None;
    while let Some(output) = machine.poll() {
        last = Some(output);
    }
    let Some(Output::Ended(e)) = last else { panic!("{last:?}") };
    assert_eq!((e.kind(), e.wire().unwrap().code), (ErrorKind::Disconnected, 421));
    assert!(e.to_string().contains("too long idle"));
    assert_eq!(machine.submit(&Command::new("NOOP")).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(machine.pending_behind(None), 0);
}

#[test]
fn more_answers_than_questions_end_the_dialogue() {
    let (mut machine, _) = Machine::new();
    machine.receive(b"220 hi\r\n230 you are in already\r\n");
    assert!(matches!(machine.poll(), Some(Output::Done(..))));
    assert!(matches!(machine.poll(), Some(Output::Ended(e)) if e.kind() == ErrorKind::PeerMisbehaved));
    let (mut machine, _) = Machine::new();
    machine.receive(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert!(matches!(machine.poll(), Some(Output::Ended(e)) if e.hint().is_some()));
}

#[test]
fn no_name_becomes_a_command() {
    let (mut machine, _) = Machine::new();
    for bad in ["a\r\nDELE b", "a\nb", "a\rb", "a\0b"] {
        let e = machine.submit(&Command::with("RETR", bad)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidPath, "{bad:?}");
    }
    assert!(machine.to_send().is_empty());
    machine.submit(&Command::with("RETR", &b"/\xffx\xff"[..])).unwrap();
    assert_eq!(&machine.to_send()[..], b"RETR /\xff\xffx\xff\xff\r\n");
    assert_eq!(format!("{:?}", Command::secret("PASS", "hunter2")), "PASS …");
    for _ in 0..62 {
        machine.submit(&Command::new("NOOP")).unwrap();
    }
    assert_eq!(machine.submit(&Command::new("NOOP")).unwrap_err().kind(), ErrorKind::Throttled);
}
