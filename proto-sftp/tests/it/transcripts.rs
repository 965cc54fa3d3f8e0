//! Transcripts: what the server's machine does, packet by packet, in files under `tests/transcripts`.
//!
//! `C:` what the client sends, several packets in one segment with ` ; ` between them, `C| hex` bytes as
//! they are · `=` the outcome given to the oldest call of that text · `E:` the end of input. The machine
//! answers with `?` a call it makes · `S:` a packet it sends · `!` a note. `#` is a comment.
//! Lines that the machine makes are checked; `UPDATE=1` writes them anew.
#![cfg(feature = "server")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use proto_sftp::server::machine::{At, Bounds, Call, Done, Machine, Output, Token};
use proto_sftp::wire::extension::{CheckFile, Extended};
use proto_sftp::wire::{Attrs, Frames, FromServer, Init, Reply, Request};
use session_core::error::{Error, ErrorKind};
use session_core::fs::Follow;
use session_core::metadata::{DirEntry, FileType, Metadata};
use session_core::path::display_bytes;

// ---- notation ----

/// Splits a line into words; quoted text is one word, unescaped, and marked by its quote.
fn words(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut chars = line.trim().chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut word = String::from(c);
        let mut quoted = c == '"';
        while let Some(&next) = chars.peek() {
            if next.is_whitespace() && !quoted {
                break;
            }
            word.push(next);
            chars.next();
            if next == '"' {
                quoted = !quoted;
            }
        }
        out.push(word);
    }
    out
}

/// `"text"`, `"x"*5`, `#3` (a handle), `\xNN` inside quotes.
fn bytes(word: &str) -> Bytes {
    if let Some(n) = word.strip_prefix('#') {
        return Bytes::copy_from_slice(&n.parse::<u64>().expect("a handle").to_be_bytes());
    }
    let (text, times) = match word.rsplit_once("\"*") {
        Some((text, times)) => (format!("{text}\""), times.parse().expect("a count")),
        None => (word.to_owned(), 1usize),
    };
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).expect("quoted text");
    let mut out = Vec::new();
    let mut rest = inner.as_bytes();
    while let Some((first, later)) = rest.split_first() {
        if *first == b'\\' && later.first() == Some(&b'x') {
            let hex = std::str::from_utf8(&later[1..3]).unwrap();
            out.push(u8::from_str_radix(hex, 16).expect("two hex digits"));
            rest = &later[3..];
        } else {
            out.push(*first);
            rest = later;
        }
    }
    Bytes::from(out.repeat(times))
}

fn show(b: &[u8]) -> String {
    if b.len() > 24 && b.iter().all(|x| *x == b[0]) {
        return format!("\"{}\"*{}", display_bytes(&b[..1]), b.len());
    }
    format!("\"{}\"", display_bytes(b))
}

fn handle(b: &[u8]) -> String {
    <[u8; 8]>::try_from(b).map_or_else(|_| show(b), |b| format!("#{}", u64::from_be_bytes(b)))
}

fn attrs(words: &[String]) -> Attrs {
    let mut a = Attrs::default();
    for word in words {
        let (key, value) = word.split_once('=').expect("key=value");
        let pair = || value.split_once(',').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap();
        match key {
            "size" => a.size = Some(value.parse().unwrap()),
            "mode" => a.mode = Some(u32::from_str_radix(value, 8).unwrap()),
            "owner" => a.owner = Some(pair()),
            "times" => a.times = Some(pair()),
            _ => panic!("no attribute {key}"),
        }
    }
    a
}

fn show_attrs(a: &Attrs) -> String {
    let mut out = String::new();
    if let Some(size) = a.size {
        write!(out, " size={size}").unwrap();
    }
    if let Some((u, g)) = a.owner {
        write!(out, " owner={u},{g}").unwrap();
    }
    if let Some(mode) = a.mode {
        write!(out, " mode={mode:o}").unwrap();
    }
    if let Some((a, m)) = a.times {
        write!(out, " times={a},{m}").unwrap();
    }
    out
}

fn flags(word: &str) -> u32 {
    word.split('|').fold(0, |set, flag| {
        set | match flag {
            "read" => 1,
            "write" => 2,
            "append" => 4,
            "create" => 8,
            "truncate" => 16,
            "exclusive" => 32,
            _ => panic!("no flag {flag}"),
        }
    })
}

fn packet(text: &str, out: &mut BytesMut) {
    let w = words(text);
    if w[0] == "INIT" {
        Init { version: w[1].parse().unwrap(), extensions: vec![] }.encode(out);
        return;
    }
    let id: u32 = w[0].parse().expect("an id");
    let b = |i: usize| bytes(&w[i]);
    let n = |i: usize| w[i].parse::<u64>().expect("a number");
    let check = |i: usize| CheckFile {
        algorithms: b(i),
        offset: n(i + 1),
        len: n(i + 2),
        block_size: n(i + 3) as u32,
    };
    let request = match w[1].as_str() {
        "OPEN" => Request::Open { path: b(2), flags: flags(&w[3]), attrs: attrs(&w[4..]) },
        "CLOSE" => Request::Close { handle: b(2) },
        "READ" => Request::Read { handle: b(2), offset: n(3), len: n(4) as u32 },
        "WRITE" => Request::Write { handle: b(2), offset: n(3), data: b(4) },
        "STAT" => Request::Stat { path: b(2) },
        "LSTAT" => Request::Lstat { path: b(2) },
        "FSTAT" => Request::Fstat { handle: b(2) },
        "SETSTAT" => Request::Setstat { path: b(2), attrs: attrs(&w[3..]) },
        "FSETSTAT" => Request::Fsetstat { handle: b(2), attrs: attrs(&w[3..]) },
        "OPENDIR" => Request::Opendir { path: b(2) },
        "READDIR" => Request::Readdir { handle: b(2) },
        "REMOVE" => Request::Remove { path: b(2) },
        "MKDIR" => Request::Mkdir { path: b(2), attrs: attrs(&w[3..]) },
        "RMDIR" => Request::Rmdir { path: b(2) },
        "REALPATH" => Request::Realpath { path: b(2) },
        "RENAME" => Request::Rename { from: b(2), to: b(3) },
        "READLINK" => Request::Readlink { path: b(2) },
        "SYMLINK" => Request::Symlink { target: b(2), link: b(3) },
        "posix-rename" => Request::Extended(Extended::PosixRename { from: b(2), to: b(3) }),
        "hardlink" => Request::Extended(Extended::Hardlink { from: b(2), to: b(3) }),
        "fsync" => Request::Extended(Extended::Fsync { handle: b(2) }),
        "limits" => Request::Extended(Extended::Limits),
        "users" => {
            Request::Extended(Extended::UsersGroupsById { uids: (0..n(2) as u32).collect(), gids: vec![] })
        }
        "statvfs" => Request::Extended(Extended::Statvfs { path: b(2) }),
        "fstatvfs" => Request::Extended(Extended::Fstatvfs { handle: b(2) }),
        "lsetstat" => Request::Extended(Extended::Lsetstat { path: b(2), attrs: attrs(&w[3..]) }),
        "expand-path" => Request::Extended(Extended::ExpandPath { path: b(2) }),
        "home-directory" => Request::Extended(Extended::HomeDirectory { user: b(2) }),
        "copy-data" => Request::Extended(Extended::CopyData {
            read_handle: b(2),
            read_offset: n(3),
            read_len: n(4),
            write_handle: b(5),
            write_offset: n(6),
        }),
        "check-file-handle" => {
            Request::Extended(Extended::CheckFileHandle { handle: b(2), check: check(3), old: false })
        }
        "check-file-name" => Request::Extended(Extended::CheckFileName { path: b(2), check: check(3) }),
        "vendor-id" => {
            Request::Extended(Extended::VendorId { vendor: b(2), product: b(3), version: b(4), build: 1 })
        }
        "extended" => Request::Extended(Extended::Unknown { name: b(2), body: Bytes::new() }),
        other => panic!("no packet {other}"),
    };
    request.encode(id, out);
}

fn show_packet(p: &FromServer) -> String {
    match p {
        FromServer::Version(v) => {
            let mut out = format!("VERSION {}", v.version);
            for (name, data) in &v.extensions {
                write!(out, " {}={}", display_bytes(name), display_bytes(data)).unwrap();
            }
            out
        }
        FromServer::Reply(id, reply) => match reply {
            Reply::Attrs(a) => format!("{id} ATTRS{}", show_attrs(a)),
            Reply::Data(d) => format!("{id} DATA {}", show(d)),
            Reply::Extended(b) => format!("{id} EXTENDED {}", show(b)),
            Reply::Handle(h) => format!("{id} HANDLE {}", handle(h)),
            Reply::Name(names) => {
                let mut out = format!("{id} NAME");
                for n in names {
                    write!(out, " {} ({}{})", show(&n.name), show(&n.longname), show_attrs(&n.attrs))
                        .unwrap();
                }
                out
            }
            Reply::Status { code, message, .. } => format!("{id} STATUS {code} {}", show(message)),
        },
    }
}

fn show_call(call: &Call) -> String {
    let at = |at: &At| match at {
        At::Handle(h) => format!("#{h}"),
        At::Path(p) => p.to_string(),
    };
    let follow = |f: &Follow| if *f == Follow::Yes { "" } else { " nofollow" };
    match call {
        Call::CheckFile { at: a, check, old } => format!(
            "check {} {} {}+{} blocks={}{}",
            at(a),
            display_bytes(&check.algorithms),
            check.offset,
            check.len,
            check.block_size,
            if *old { " old" } else { "" }
        ),
        Call::Close { handle } => format!("close #{handle}"),
        Call::Command { verb, argument } => format!("command {verb} {argument}"),
        Call::Commit { handle } => format!("commit #{handle}"),
        Call::CopyData { source, source_offset, len, target, target_offset } => {
            format!("copy #{source} {source_offset}+{len} to #{target} {target_offset}")
        }
        Call::CreateDir { path, attributes } => format!("create-dir {path} mode={:?}", attributes.mode),
        Call::HardLink { from, to } => format!("hard-link {from} {to}"),
        Call::HomeDirectory { user } => format!("home {}", show(user)),
        Call::List { handle, path } => format!("list #{handle} {path}"),
        Call::Names { uids, gids } => format!("names {uids:?} {gids:?}"),
        Call::Open { handle, path, options: o } => {
            let mut out = format!("open #{handle} {path}");
            for (set, name) in [
                (o.read, "read"),
                (o.write, "write"),
                (o.append, "append"),
                (o.create, "create"),
                (o.truncate, "truncate"),
                (o.exclusive, "exclusive"),
            ] {
                if set {
                    write!(out, " {name}").unwrap();
                }
            }
            if let Some(mode) = o.attributes.mode {
                write!(out, " mode={mode:o}").unwrap();
            }
            out
        }
        Call::Page { handle } => format!("page #{handle}"),
        Call::Read { handle, offset, len, .. } => format!("read #{handle} {offset}+{len}"),
        Call::ReadLink { path } => format!("read-link {path}"),
        Call::RemoveDir { path } => format!("remove-dir {path}"),
        Call::RemoveFile { path } => format!("remove-file {path}"),
        Call::Rename { from, to, replace } => format!("rename {from} {to} replace={replace:?}"),
        Call::SetAttributes { at: a, attributes: s, follow: f } => {
            let attrs = Attrs::asking(s, None);
            format!("set {}{}{}", at(a), show_attrs(&attrs), follow(f))
        }
        Call::Space { path } => format!("space {path}"),
        Call::Stat { at: a, follow: f } => format!("stat {}{}", at(a), follow(f)),
        Call::Symlink { target, link } => format!("symlink {link} holding {}", show(target)),
        Call::Sync { handle } => format!("sync #{handle}"),
        Call::Write { handle, offset, data } => format!("write #{handle} {offset} {}", show(data)),
    }
}

fn outcome(text: &str, call: Call) -> Result<Done, Error> {
    let w = words(text);
    Ok(match w[0].as_str() {
        "ok" => Done::Ok,
        "eof" => Done::Eof,
        "body" => Done::Body(bytes(&w[1])),
        "path" => Done::Path(bytes(&w[1])),
        "file" => Done::Metadata(Metadata::new(FileType::File, w[1].parse().unwrap())),
        "directory" => Done::Metadata(Metadata::new(FileType::Directory, 0)),
        "content" => {
            let Call::Read { mut buf, .. } = call else { panic!("content is for a read") };
            if let Some(content) = w.get(1) {
                buf.extend_from_slice(&bytes(content));
            }
            Done::Content(buf)
        }
        "entries" => Done::Entries(
            w[1..]
                .iter()
                .map(|name| DirEntry { name: bytes(name), metadata: Metadata::new(FileType::File, 1) })
                .collect(),
            UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        ),
        "error" => {
            let kind = *ErrorKind::ALL.iter().find(|k| k.name() == w[1]).expect("a kind");
            let e = Error::new(kind);
            return Err(match w.get(2) {
                Some(words) => e.with_detail(String::from_utf8(bytes(words).to_vec()).unwrap()),
                None => e,
            });
        }
        other => panic!("no outcome {other}"),
    })
}

// ---- the runner ----

struct Run {
    machine: Machine,
    calls: Vec<(Token, String, Call)>,
    out: String,
}

impl Run {
    fn settle(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Call { token, call, .. } => {
                    let text = show_call(&call);
                    writeln!(self.out, "? {text}").unwrap();
                    self.calls.push((token, text, call));
                }
                Output::Close(e) => writeln!(self.out, "! close: {:?}: {e}", e.kind()).unwrap(),
                Output::Rejected(e) => writeln!(self.out, "! rejected: {:?}: {e}", e.kind()).unwrap(),
            }
        }
        let mut frames = Frames::default();
        while let Some(piece) = self.machine.take_output() {
            frames.push(piece);
        }
        while let Some(frame) = frames.next_frame().expect("our own packets are well formed") {
            writeln!(self.out, "S: {}", show_packet(&FromServer::decode(frame).unwrap())).unwrap();
        }
        assert_eq!(frames.buffered(), 0, "the machine sends whole packets");
    }
}

fn run(script: &str) -> String {
    let bounds = Bounds { max_handles: 4, max_running: 8, max_requests: 16, ..Bounds::default() };
    let mut run = Run { machine: Machine::new(bounds), calls: Vec::new(), out: String::new() };
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(run.out, "{line}").unwrap();
        } else if let Some(text) = line.strip_prefix("C: ") {
            writeln!(run.out, "{line}").unwrap();
            let mut segment = BytesMut::new();
            for p in text.split(" ; ") {
                packet(p, &mut segment);
            }
            run.machine.receive(segment.freeze());
            run.settle();
        } else if let Some(text) = line.strip_prefix("C| ") {
            writeln!(run.out, "{line}").unwrap();
            let raw: Vec<u8> =
                text.split_whitespace().map(|h| u8::from_str_radix(h, 16).expect("hex")).collect();
            run.machine.receive(Bytes::from(raw));
            run.settle();
        } else if let Some(text) = line.strip_prefix("= ") {
            writeln!(run.out, "{line}").unwrap();
            let (call, answer) = text.split_once(" -> ").expect("call -> outcome");
            let place = run.calls.iter().position(|(_, t, _)| t == call);
            let (token, _, call) =
                run.calls.remove(place.unwrap_or_else(|| panic!("no call '{call}' is open:\n{}", run.out)));
            run.machine.complete(token, outcome(answer, call));
            run.settle();
        } else if line == "E:" {
            writeln!(run.out, "{line}").unwrap();
            run.machine.end_of_input();
            run.settle();
            writeln!(run.out, "! idle={} handles={}", run.machine.is_idle(), run.machine.open_handles())
                .unwrap();
        } else {
            assert!(["? ", "S: ", "! "].iter().any(|p| line.starts_with(p)), "a line of no kind: {line}");
        }
    }
    run.out
}

#[test]
fn transcripts_hold() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 6, "transcripts are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let real = run(&script);
        if real == script {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, real).unwrap();
            continue;
        }
        let line = real.lines().zip(script.lines()).position(|(a, b)| a != b).unwrap_or(0);
        wrong.push(format!(
            "{} line {}:\n  expected {:?}\n  got      {:?}",
            path.file_name().unwrap().display(),
            line + 1,
            script.lines().nth(line),
            real.lines().nth(line)
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same session, its bytes cut at every place: the machine does exactly the same.
#[test]
fn a_segment_may_be_cut_anywhere() {
    let mut bytes = BytesMut::new();
    for p in
        ["INIT 3", "1 STAT \"/a\"", "2 OPEN \"/b\" write|create mode=644", "3 REALPATH \".\"", "4 limits"]
    {
        packet(p, &mut bytes);
    }
    let bytes = bytes.freeze();
    let drive = |pieces: &[Bytes]| {
        let mut run = Run { machine: Machine::default(), calls: Vec::new(), out: String::new() };
        for piece in pieces {
            run.machine.receive(piece.clone());
            run.settle();
            while let Some((token, _, _)) = (!run.calls.is_empty()).then(|| run.calls.remove(0)) {
                run.machine.complete(token, Ok(Done::Ok));
                run.settle();
            }
        }
        run.out
    };
    let whole = drive(std::slice::from_ref(&bytes));
    assert_eq!(whole.matches("S: ").count(), 5, "{whole}");
    let sorted = |out: &str| {
        let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for cut in 1..bytes.len() {
        let pieces = [bytes.slice(..cut), bytes.slice(cut..)];
        assert_eq!(sorted(&drive(&pieces)), sorted(&whole), "cut at {cut}");
    }
    let single: Vec<_> = (0..bytes.len()).map(|i| bytes.slice(i..=i)).collect();
    assert_eq!(sorted(&drive(&single)), sorted(&whole));
}
