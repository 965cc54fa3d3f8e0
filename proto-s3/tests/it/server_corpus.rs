//! The committed fuzzing corpus of what peers send, run as a test, whole and cut everywhere.

use proto_s3::wire::fuzz;

#[test]
fn the_corpus_is_survived() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    session_core::testing::survives(
        &corpus,
        &[
            ("s3_chunks", fuzz::chunks),
            ("s3_forms", fuzz::forms),
            ("s3_keys", fuzz::keys),
            ("s3_signatures", fuzz::signatures),
        ],
    );
}
