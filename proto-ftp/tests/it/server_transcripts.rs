//! Transcripts: what the server's machine does, line by line, in files under `tests/transcripts`.
//!
//! `C:` what the client sends, several lines in one segment with ` ; ` between them, `C| text` bytes as they
//! are with `\r`, `\n`, `\xNN` · `=` the answer to the call that waits · `E:` the end of input · `@` settings,
//! first. The machine answers with `?` a call it makes · `S:` a reply · `!` a note. `#` is a comment. Hooks
//! are asked and agree, unless a line `= ask refused WORDS` comes first. Lines that the machine makes are
//! checked; `UPDATE=1` writes them anew.
#![cfg(feature = "server")]

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use proto_ftp::server::machine::{Call, Done, Fault, Machine, Output, Settings, Show, Transfer, What};
use proto_ftp::server::{ControlPolicy, DataPolicy};
use session_core::error::{Error, ErrorKind};
use session_core::path::{VPath, display_bytes};

fn settings(words: &str) -> Settings {
    let mut s = Settings::default();
    for word in words.split_whitespace() {
        match word {
            "tls" => s.tls = true,
            "require" => (s.tls, s.control, s.data) = (true, ControlPolicy::Require, DataPolicy::Require),
            "credentials" => (s.tls, s.control) = (true, ControlPolicy::RequireCredentials),
            "data-allow" => s.data = DataPolicy::Allow,
            "active" => s.active = true,
            "foreign" => s.foreign = true,
            "implicit" => (s.tls, s.implicit, s.data) = (true, true, DataPolicy::Require),
            word => panic!("no setting {word}"),
        }
    }
    s
}

fn raw(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let code = &rest[at + 1..];
        let used = match code.as_bytes()[0] {
            b'r' => (out.push(b'\r'), 1).1,
            b'n' => (out.push(b'\n'), 1).1,
            b'x' => (out.push(u8::from_str_radix(&code[1..3], 16).unwrap()), 3).1,
            other => panic!("\\{}", char::from(other)),
        };
        rest = &code[used..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn show(s: &Show) -> String {
    let mut out = format!("{:?} {}", s.form, s.path.display());
    if s.itself {
        out.push_str(" itself");
    }
    if let Some(p) = &s.pattern {
        out.push_str(&format!(" pattern={} prefix={}", display_bytes(p), display_bytes(&s.prefix)));
    }
    out
}

fn transfer(t: &Transfer) -> String {
    let mut out = match &t.what {
        What::Show(s) => format!("show {}", show(s)),
        What::Retrieve { path, range } if range.end == u64::MAX => {
            format!("retrieve {} from {}", path.display(), range.start)
        }
        What::Retrieve { path, range } => format!("retrieve {} {range:?}", path.display()),
        What::Store { path, offset, append, unique, expected } => {
            let mut out = format!("store {} at {offset}", path.display());
            for (flag, word) in [(*append, " append"), (*unique, " unique")] {
                out.push_str(if flag { word } else { "" });
            }
            if let Some(n) = expected {
                out.push_str(&format!(" expected={n}"));
            }
            out
        }
    };
    for (flag, word) in [(t.ascii, " ascii"), (t.level.is_some(), " deflate"), (t.private, " private")] {
        out.push_str(if flag { word } else { "" });
    }
    if let Some(f) = t.foreign {
        out.push_str(if f.begins { " begins" } else { " waits" });
        out.push_str(f.peer.map_or("", |_| " pinned"));
    }
    out
}

fn call(c: &Call) -> String {
    match c {
        Call::Open(t) => format!("open {}", transfer(t)),
        Call::Show(s) => format!("show {}", show(s)),
        Call::Password(s) => format!("password {}", s.expose()),
        Call::Answer(s) => format!("answer {}", s.expose()),
        Call::SetAttributes { path, attributes } => {
            let mut out = format!("set {}", path.display());
            if let Some(mode) = attributes.mode {
                out.push_str(&format!(" mode={mode:o}"));
            }
            if let Some(time) = attributes.modified {
                out.push_str(&format!(" modified={}", time.duration_since(UNIX_EPOCH).unwrap().as_secs()));
            }
            out
        }
        other => format!("{other:?}"),
    }
}

fn answer(text: &str) -> Result<Done, Fault> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let bytes = |s: &str| Bytes::copy_from_slice(s.as_bytes());
    Ok(match word {
        "ok" => Done::Ok,
        "address" => Done::Address(rest.parse().unwrap()),
        "digest" => Done::Digest { digest: bytes(rest), range: 0..10 },
        "exhausted" => Done::Exhausted,
        "lines" => Done::Lines(rest.split('|').map(bytes).collect()),
        "logged-in" => Done::LoggedIn { home: VPath::absolute(rest).unwrap(), words: vec![bytes("Welcome")] },
        "moved" => Done::Moved { bytes: rest.parse().unwrap() },
        "asks" => Done::NeedsAnswer(rest.to_owned()),
        "number" => Done::Number(rest.parse().unwrap()),
        "opened" => Done::Opened { size: rest.parse().ok(), name: None },
        "named" => Done::Opened { size: None, name: Some(VPath::absolute(rest).unwrap()) },
        "rejected" => Done::Rejected,
        "time" => Done::Time(UNIX_EPOCH + Duration::from_secs(rest.parse().unwrap())),
        "words" => Done::Words(rest.split('|').map(bytes).collect()),
        "fail" => {
            let mut words = rest.splitn(3, ' ');
            let first = words.next().unwrap();
            let (code, kind) = match first.parse::<u16>() {
                Ok(code) => (Some(code), words.next().unwrap()),
                Err(_) => (None, first),
            };
            let kind = ErrorKind::ALL.into_iter().find(|k| format!("{k:?}") == kind).expect("a kind");
            let mut error = Error::new(kind);
            if let Some(detail) = words.next() {
                error = error.with_detail(detail.to_owned());
            }
            return Err(Fault { code, error });
        }
        word => panic!("no answer {word}"),
    })
}

/// Everything that the machine has to say now.
fn drain(machine: &mut Machine, refusal: &mut Option<String>, out: &mut Vec<String>) {
    while let Some(output) = machine.poll() {
        match output {
            Output::Abort => out.push("! abort".to_owned()),
            Output::Call(Call::Ask { .. }) => match refusal.take() {
                None => machine.complete(Ok(Done::Ok)),
                Some(words) => machine.complete(Err(Error::refused(words).into())),
            },
            Output::Call(c) => {
                replies(machine, out);
                out.push(format!("? {}", call(&c)));
            }
            Output::Close(ending) => {
                replies(machine, out);
                out.push(format!("! close: {} by {}", ending.reason, ending.actor));
            }
            Output::Status { during } => {
                machine.tell(vec!["Status".into(), format!("during {during:?}").into(), "End".into()]);
            }
            Output::Begin { .. } | Output::End | Output::Failed(_) => {}
        }
    }
    replies(machine, out);
}

fn replies(machine: &mut Machine, out: &mut Vec<String>) {
    if let Some(bytes) = machine.take_output() {
        for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let line = line.strip_suffix(b"\r").expect("lines end with CR LF");
            out.push(format!("S: {}", display_bytes(line)));
        }
    }
}

fn run(text: &str) -> String {
    let first = text.lines().find_map(|l| l.strip_prefix("@ ")).unwrap_or_default();
    let mut machine = Machine::new(settings(first));
    let mut refusal = None;
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.trim_end();
        if line.starts_with("? ") || line.starts_with("S: ") || line.starts_with("! ") {
            continue;
        }
        out.push(line.to_owned());
        if let Some(sent) = line.strip_prefix("C: ") {
            let segment: String = sent.split(" ; ").map(|l| format!("{l}\r\n")).collect();
            machine.receive(segment.as_bytes());
        } else if let Some(sent) = line.strip_prefix("C| ") {
            machine.receive(&raw(sent));
        } else if let Some(words) = line.strip_prefix("= ask refused ") {
            refusal = Some(words.to_owned());
        } else if let Some(text) = line.strip_prefix("= ") {
            machine.complete(answer(text));
        } else if line == "E:" {
            machine.end_of_input();
        } else {
            assert!(line.is_empty() || line.starts_with('#') || line.starts_with("@ "), "{line}");
            continue;
        }
        drain(&mut machine, &mut refusal, &mut out);
    }
    out.join("\n") + "\n"
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
    let expected = std::fs::read_to_string(&path).unwrap();
    let got = run(&expected);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &got).unwrap();
    } else {
        assert_eq!(got, expected, "{name} differs; UPDATE=1 writes it anew");
    }
}

#[test]
fn every_transcript_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mine: Vec<_> = names.iter().filter(|n| n.starts_with("server_")).collect();
    assert!(mine.len() >= 8, "{names:?}");
    for name in mine {
        check(name);
    }
}
