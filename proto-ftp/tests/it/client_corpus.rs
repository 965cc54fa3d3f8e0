//! The corpus of listings, line by line; the corpus of the fuzz targets.
#![cfg(feature = "client")]

use std::time::UNIX_EPOCH;

use jiff::civil::DateTime;
use proto_ftp::listing::parse::{ListParser, Listed};
use proto_ftp::listing::{facts_parser, parse};
use proto_ftp::wire::reply_parser;
use session_core::metadata::FileType;

fn shown(l: &Listed) -> String {
    let kind = match l.entry.metadata.file_type {
        FileType::Directory => 'd',
        FileType::File => 'f',
        FileType::Symlink => 'l',
        FileType::Other => 'o',
    };
    let time = match (l.local, l.entry.metadata.modified) {
        (Some(at), _) if l.timed => at.strftime("%Y-%m-%dT%H:%M").to_string(),
        (Some(at), _) => at.strftime("%Y-%m-%d").to_string(),
        (None, Some(at)) => format!("@{}", at.duration_since(UNIX_EPOCH).unwrap().as_secs()),
        (None, None) => "-".to_owned(),
    };
    format!("{kind} {} {time} {}", l.entry.metadata.size, String::from_utf8_lossy(&l.entry.name))
}

#[test]
fn every_line_of_the_corpus_is_read_as_it_is_meant() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let (mut files, mut lines) = (0, 0);
    for file in std::fs::read_dir(corpus).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut parser = ListParser::new(DateTime::constant(2026, 6, 15, 12, 0, 0, 0));
        let mut rest = text.lines().filter(|l| !l.starts_with('#'));
        while let Some(line) = rest.next() {
            let due = rest.next().unwrap();
            let skipped = parser.skipped();
            let got = match parser.line(line.as_bytes()) {
                Some(listed) => format!("> {}", shown(&listed)),
                None if parser.skipped() > skipped => "!".to_owned(),
                None => "-".to_owned(),
            };
            assert_eq!(got, due, "{}: {line} (as {:?})", path.display(), parser.dialect());
            lines += 1;
        }
        files += 1;
    }
    assert!(files >= 7 && lines >= 70, "{files} {lines}");
}

#[test]
fn a_bad_line_is_kept_and_costs_nothing_else() {
    let mut parser = ListParser::new(DateTime::constant(2026, 6, 15, 12, 0, 0, 0));
    let lines: [&[u8]; 3] = [
        b"-rw-r--r--    1 u        g            10 Sep  9  2009 before",
        b"\xff\xfe what is this",
        b"-rw-r--r--    1 u        g            10 Sep  9  2009 \xe4fter\r",
    ];
    let names: Vec<_> = lines.iter().filter_map(|l| parser.line(l)).map(|l| l.entry.name).collect();
    assert_eq!(names, [&b"before"[..], b"\xe4fter"]);
    assert_eq!(parser.skipped(), 1);
    assert_eq!(parser.kept(), [lines[1]]);
}

#[test]
fn nothing_that_a_server_sends_makes_a_parser_fall() {
    // What the fuzz targets run with coverage, here with bytes without plan and with the corpus in pieces.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut seeds: Vec<Vec<u8>> =
        std::fs::read_dir(corpus).unwrap().map(|f| std::fs::read(f.unwrap().path()).unwrap()).collect();
    seeds.push(b"211-F\r\n MLST type*;size*;\r\n211 E\r\n".to_vec());
    seeds.push(b"type=file;size=1;modify=20260101000000.1;unix.mode=0644; a".to_vec());
    for round in 0..3000 {
        let mut data = seeds[round % seeds.len()].clone();
        for _ in 0..8 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed >> 20) as usize % data.len();
            match seed % 3 {
                0 => data[at] = (seed >> 8) as u8,
                1 => data.truncate(at.max(1)),
                _ => data.insert(at, (seed >> 8) as u8),
            }
        }
        parse::fuzz(&data);
        facts_parser::fuzz(&data);
        reply_parser::fuzz(&data);
    }
}
