//! The committed fuzzing corpus of what a client sends, run as a test.

use proptest::prelude::*;
use proto_ftp::wire::fuzz;

#[test]
fn the_corpus_is_survived() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/from_client");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        fuzz::from_client(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen >= 3);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(data: Vec<u8>) {
        fuzz::from_client(&data);
    }
}
