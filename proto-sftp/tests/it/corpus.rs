//! The committed fuzzing corpus, run as a test. `UPDATE=1` writes the seeds anew; what a fuzzer found
//! is committed beside them under its own name.

use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use proto_sftp::wire::extension::{CheckFile, Checked, Extended, Extension};
use proto_sftp::wire::{Attrs, Init, Name, Reply, Request, Version, fuzz};

fn seeds() -> Vec<(&'static str, String, BytesMut)> {
    let b = Bytes::from_static;
    let attrs = Attrs {
        size: Some(5),
        owner: Some((1, 2)),
        mode: Some(0o100644),
        times: Some((3, 4)),
        extended: vec![(b(b"a@b"), b(b"c"))],
    };
    let mut seeds = Vec::new();
    let mut hello = BytesMut::new();
    Init { version: 3, extensions: vec![(b(b"x"), b(b"y"))] }.encode(&mut hello);
    seeds.push(("from_client", "init".to_owned(), hello.clone()));
    let requests = [
        Request::Open { path: b(b"/a"), flags: 0x1a, attrs: attrs.clone() },
        Request::Write { handle: b(b"hhhhhhhh"), offset: 9, data: b(b"content") },
        Request::Read { handle: b(b"hhhhhhhh"), offset: 9, len: 32768 },
        Request::Rename { from: b(b"a"), to: b(b"b") },
        Request::Fsetstat { handle: b(b"h"), attrs: attrs.clone() },
        Request::Extended(Extended::CheckFileName {
            path: b(b"/a"),
            check: CheckFile { algorithms: b(b"md5,sha1"), offset: 0, len: 0, block_size: 256 },
        }),
        Request::Extended(Extended::CopyData {
            read_handle: b(b"r"),
            read_offset: 0,
            read_len: 0,
            write_handle: b(b"w"),
            write_offset: 0,
        }),
        Request::Extended(Extended::UsersGroupsById { uids: vec![0, 1], gids: vec![2] }),
        Request::Extended(Extended::Lsetstat { path: b(b"/a"), attrs: attrs.clone() }),
        Request::Extended(Extended::Unknown { name: b(b"who@knows"), body: b(b"123") }),
    ];
    let mut stream = hello;
    for (i, request) in requests.iter().enumerate() {
        let mut out = BytesMut::new();
        request.encode(i as u32, &mut out);
        stream.extend_from_slice(&out);
        seeds.push(("from_client", format!("request-{i}"), out));
    }
    seeds.push(("frames", "session".to_owned(), stream));
    let mut version = BytesMut::new();
    let extensions =
        Extension::ALL.iter().map(|e| (b(e.name().as_bytes()), b(e.data().as_bytes()))).collect();
    Version { version: 3, extensions }.encode(&mut version);
    seeds.push(("from_server", "version".to_owned(), version));
    let digest = Checked { algorithm: b(b"md5"), digests: b(b"0123456789abcdef") };
    let replies = [
        Reply::status(2, "no such file"),
        Reply::Handle(b(b"hhhhhhhh")),
        Reply::Data(b(b"content")),
        Reply::Name(vec![Name { name: b(b"a"), longname: b(b"-rw a"), attrs: attrs.clone() }; 2]),
        Reply::Attrs(attrs),
        Reply::Extended(digest.encode(true)),
    ];
    for (i, reply) in replies.iter().enumerate() {
        let mut out = BytesMut::new();
        reply.encode(i as u32, &mut out);
        seeds.push(("from_server", format!("reply-{i}"), out));
    }
    let tree = b"T1000 0 2000 0\nD0750 0 tree\nC4640 3 a b\nxyz\0E\n\x01scp: no\n\x02\n";
    seeds.push(("scp", "tree".to_owned(), BytesMut::from(&tree[..])));
    let file = b"T1000 0 2000 0\nC0640 5 a b\na\nb\0C\0";
    seeds.push(("fetch", "file".to_owned(), BytesMut::from(&file[..])));
    seeds.push((
        "fetch",
        "refused".to_owned(),
        BytesMut::from(&b"\x01scp: /x: No such file or directory\n"[..]),
    ));
    let lines = b"total 8\n\
        drwxr-xr-x 2 root root 4096 2026-11-21 21:05:20.123456789 +0000 .\n\
        lrwxrwxrwx 1 u g 6 2026-11-21 21:05:20.000000000 +0100 a\\ b -> c\\303\\244\n\
        brw-rw---- 1 root disk 254,   0 Nov 21 20:19 vda\n\
        -rw-r--r--@ 1 me  staff  5 Nov 21 21:05:20 2026 x\n\
        -????????? ? ? ? ? ? gone\n";
    seeds.push(("ls", "lines".to_owned(), BytesMut::from(&lines[..])));
    seeds
}

#[test]
fn the_corpus_passes_every_parser() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    if std::env::var_os("UPDATE").is_some() {
        for (target, name, seed) in seeds() {
            fs::create_dir_all(root.join(target)).unwrap();
            // Packets without their length field, streams with it.
            let skip = if matches!(target, "fetch" | "frames" | "ls" | "scp") { 0 } else { 4 };
            fs::write(root.join(target).join(name), &seed[skip..]).unwrap();
        }
    }
    let mut count = 0;
    for target in ["fetch", "frames", "from_client", "from_server", "ls", "scp"] {
        for entry in fs::read_dir(root.join(target)).unwrap() {
            let data = fs::read(entry.unwrap().path()).unwrap();
            match target {
                "fetch" => fuzz::fetch(&data),
                "frames" => fuzz::frames(&data),
                "from_client" => fuzz::from_client(&data),
                "ls" => fuzz::ls(&data),
                "scp" => fuzz::scp(&data),
                _ => fuzz::from_server(&data),
            }
            fuzz::all(&data);
            count += 1;
        }
    }
    assert!(count >= seeds().len(), "{count} files: seeds are missing, run with UPDATE=1");
}
