//! The committed fuzzing corpus of what peers send, run as a test, whole and cut everywhere.

use proto_webdav::wire::fuzz;

#[test]
fn the_corpus_is_survived() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    session_core::testing::survives(
        &corpus,
        &[
            ("webdav_answers", fuzz::answers),
            ("webdav_bodies", fuzz::bodies),
            ("webdav_fields", fuzz::fields),
        ],
    );
}
