//! The conformance suite over the stores of this crate, called directly. Staging, the gate and protocols over
//! them are cells of the server's `matrix`.

use std::sync::Arc;

use session_core::conformance::{self, Profile, Report, Subject, Verdict};
use session_core::fs::Filesystem;
use session_core::layers::mounts::{Mount, Mounts};
use session_core::path::VPath;
use session_core::store::local::{FsyncPolicy, LocalOptions, LocalStore};
use session_core::store::memory::MemoryStore;
use session_core::store::portable::PortableStore;

/// Runs everything; what is skipped must be known to be.
async fn all(fs: Arc<dyn Filesystem>, may_skip: &[&str]) -> Report {
    all_of(&Subject::new(fs), may_skip).await
}

async fn all_of(subject: &Subject, may_skip: &[&str]) -> Report {
    all_but(subject, may_skip, &[]).await
}

/// The same for a store that is known to fail these.
async fn all_but(subject: &Subject, may_skip: &[&str], fails: &[&str]) -> Report {
    let report = conformance::run_all(subject).await;
    let failed: Vec<_> = report.failures().iter().map(|f| f.0).collect();
    assert_eq!(failed, fails, "{report}");
    let is_listed = |case: &str| {
        may_skip.iter().any(|name| case == *name || name.ends_with("::") && case.starts_with(name))
    };
    let unknown: Vec<_> = report.skipped().into_iter().filter(|n| !is_listed(n)).collect();
    assert!(unknown.is_empty(), "skipped without a reason: {unknown:?}");
    report
}

/// What a store that keeps bytes itself cannot be asked: another kind of filesystem makes these promises.
const NOT_FOR_STORES: &[&str] = &[
    "cancel::an_overwrite_never_mixes",
    "commit::a_dropped_file_is_not_published",
    "commit::a_failed_one_keeps_the_old_content",
    "commit::an_aborted_overwrite_keeps_the_old_content",
    "commit::is_the_moment_of_change",
    "concurrency::overwriting_is_never_torn",
    "honesty::a_half_supported_change_changes_nothing",
    "links::a_followed_link_gives_attributes_to_its_target",
    "links::a_followed_link_is_written_through",
    "links::a_followed_link_leads_on",
    "links::a_followed_link_lists_as_its_target",
    "links::a_followed_link_reads_as_its_target",
    "links::followed_links_in_a_circle_are_an_error",
    "list::a_hundred_thousand_entries",
    "names::case_makes_none",
    "rename::a_directory_stays_where_it_cannot_move_at_once",
    "staging::",
];

#[tokio::test(flavor = "multi_thread")]
async fn memory_store() {
    let report = all(Arc::new(MemoryStore::new()), NOT_FOR_STORES).await;
    assert!(report.passed() >= 200, "{report}");
}

/// What depends on the disk below: a temporary directory may keep no properties.
fn local_may_skip() -> Vec<&'static str> {
    let of_the_disk = [
        "attributes::properties_are_kept",
        "attributes::properties_survive_a_rename",
        "list::by_key_counts_the_slash",
        "list::by_name_is_sorted",
    ];
    NOT_FOR_STORES.iter().copied().chain(of_the_disk).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    all(Arc::new(store), &local_may_skip()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_store_with_every_call_on_the_pool() {
    let dir = tempfile::tempdir().unwrap();
    let options = LocalOptions { in_place: 0, ..LocalOptions::default() };
    let store = LocalStore::open(dir.path(), options).unwrap();
    all(Arc::new(store), &local_may_skip()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn portable_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut may_skip = local_may_skip();
    // What it cannot do: see its header.
    may_skip.extend(PORTABLE_LACKS);
    let store = Arc::new(PortableStore::open(dir.path()).unwrap());
    let report = all_but(&Subject::new(store), &may_skip, &PORTABLE_FAILS).await;
    assert!(report.passed() >= 250, "{report}");
}

/// What its capabilities promise and it does not keep: the standard library sets no times of a link itself.
const PORTABLE_FAILS: [&str; 1] = ["attributes::a_link_has_its_own_time"];

/// What the standard library alone does not give.
const PORTABLE_LACKS: [&str; 12] = [
    "attributes::space_adds_up",
    "cancel::a_copy_is_whole_or_absent",
    "cancel::a_publishing_happens_or_not",
    "cancel::a_staged_upload_is_whole_or_absent",
    "concurrency::publishing_is_never_torn",
    "rename::copy_is_refused_where_it_must_be",
    "rename::copy_keeps_the_source",
    "rename::copy_replaces_only_with_leave",
    "rename::copy_to_itself_loses_nothing",
    "stage::",
    "write::if_match_guards_the_content",
    "write::if_match_of_a_missing_file_fails",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_local_store_lists_a_hundred_thousand_entries() {
    let dir = tempfile::tempdir().unwrap();
    let options = LocalOptions { fsync: FsyncPolicy::Never, ..LocalOptions::default() };
    let mut subject = Subject::new(Arc::new(LocalStore::open(dir.path(), options).unwrap()));
    subject.profile.thorough = true;
    let cases = conformance::cases();
    let case = cases.iter().find(|c| c.name == "list::a_hundred_thousand_entries").unwrap();
    assert_eq!(conformance::run_case(case, &subject).await, Verdict::Passed);
}

/// Over a tree with mounts, whose root is another store than what is mounted.
async fn mounts(at: &str, may_skip: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let root: Arc<dyn Filesystem> = match at {
        "/" => Arc::new(MemoryStore::new()),
        _ => Arc::new(LocalStore::open(dir.path(), LocalOptions::default()).unwrap()),
    };
    let mount = |at: &str| {
        let (at, fs) = (VPath::absolute(at).unwrap(), Arc::new(MemoryStore::new()));
        Mount { at, fs, described: true }
    };
    let fs = Mounts::new(root, vec![mount("/virtual/memory"), mount("/virtual/memory/other")]).unwrap();
    let mut subject = Subject::new(Arc::new(fs));
    subject.root = VPath::absolute(at).unwrap();
    subject.profile = Profile::of(&subject.fs.capabilities_at(&subject.root));
    // Mounts stand above staging.
    subject.profile.stages = false;
    let listed = ["cancel::a_publishing_happens_or_not", "cancel::a_staged_upload_is_whole_or_absent"];
    let more = ["concurrency::publishing_is_never_torn", "honesty::staging_fits", "stage::"];
    let may_skip: Vec<_> = may_skip.iter().copied().chain(listed).chain(more).collect();
    let report = all_of(&subject, &may_skip).await;
    assert!(report.passed() >= 190, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_with_mounts() {
    mounts("/", NOT_FOR_STORES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_in_a_tree() {
    mounts("/virtual/memory", NOT_FOR_STORES).await;
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
