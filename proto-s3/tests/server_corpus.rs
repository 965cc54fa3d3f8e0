//! The committed fuzzing corpus of what peers send, run as a test, whole and cut everywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proto_s3::wire::fuzz;

#[test]
fn the_corpus_is_survived() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, run) in [
        ("s3_chunks", fuzz::chunks as fn(&[u8])),
        ("s3_keys", fuzz::keys),
        ("s3_signatures", fuzz::signatures),
    ] {
        let mut files = 0;
        for file in std::fs::read_dir(folder.join(target)).unwrap() {
            let data = std::fs::read(file.unwrap().path()).unwrap();
            files += 1;
            for cut in 0..=data.len() {
                run(&data[..cut]);
            }
        }
        assert!(files >= 2, "{target}");
    }
}
