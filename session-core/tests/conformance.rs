//! The conformance suite over the stores of this crate.

use std::sync::Arc;

use session_core::conformance::{self, Subject};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;

#[tokio::test(flavor = "multi_thread")]
async fn memory_store() {
    let report = conformance::run_all(&Subject::new(Arc::new(MemoryStore::new()))).await;
    assert!(report.failures().is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_store() {
    let dir = tempfile::tempdir().unwrap();
    for options in [LocalOptions::default(), LocalOptions { in_place: 0, ..LocalOptions::default() }] {
        let store = LocalStore::open(dir.path(), options).unwrap();
        let report = conformance::run_all(&Subject::new(Arc::new(store))).await;
        assert!(report.failures().is_empty(), "{report}");
    }
}

#[test]
fn cases_have_unique_names_and_a_sentence_each() {
    let cases = conformance::cases();
    let names: std::collections::HashSet<_> = cases.iter().map(|c| c.name).collect();
    assert_eq!(names.len(), cases.len());
    for case in cases {
        assert!(case.doc.ends_with('.') && case.doc.len() > 10, "{}", case.name);
    }
}
