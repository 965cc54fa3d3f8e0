//! The conformance suite over what a server stands on and over what a client reaches: one test per cell.
//!
//! A cell is a store (memory, disk; bare or under a staging layer) and a way to it: called directly,
//! through a session's gate, or through SFTP, FTP and WebDAV (our server over the store, our client, loopback TCP).
//! Each cell has a list of the cases that may be skipped; a case that fails names its promise. `laws` holds
//! what is true of any session.
//!
//! Deliberately absent: the bare stores called directly, which are tests of `session-core`; S3;
//! mounts; remotes as stores.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod laws;
#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use session_core::auth::Account;
use session_core::conformance::{self, Profile, Report, Subject};
use session_core::fs::ListOptions;
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};

use crate::laws::is_complete;
use crate::world::{Store, Way, World};

/// Runs everything. Nothing may fail; skipped is what the lists name, and nothing else, but for what
/// depends on the disk below.
async fn all(subject: &Subject, skipped: &[&[&str]]) -> Report {
    let report = conformance::run_all(subject).await;
    assert!(report.failures().is_empty(), "{report}");
    let lists = || skipped.iter().copied().flatten().copied();
    let is_listed = |case: &&str| lists().any(|name| names(name, case));
    let unknown: Vec<_> = report.skipped().into_iter().filter(|case| !is_listed(case)).collect();
    assert!(unknown.is_empty(), "skipped without a reason: {unknown:#?}");
    let is_stale = |name: &&str| !report.skipped().iter().any(|case| names(name, case));
    let stale: Vec<_> = lists().filter(|name| !OF_THE_DISK.contains(name)).filter(is_stale).collect();
    assert!(stale.is_empty(), "to be skipped, and was not: {stale:#?}");
    report
}

/// Whether a name in a list is that of the case, or of its file.
fn names(name: &str, case: &str) -> bool {
    case == name || name.ends_with("::") && case.starts_with(name)
}

/// Needs a kind of filesystem that is in no cell (names without case), or has a test of its own.
const IN_NO_CELL: &[&str] = &[
    "list::a_hundred_thousand_entries",
    "names::case_makes_none",
    // Everything here moves directories at once.
    "rename::a_directory_stays_where_it_cannot_move_at_once",
];

/// What only a staging layer promises.
const NEED_STAGING: &[&str] = &[
    "cancel::an_overwrite_never_mixes",
    "commit::a_dropped_file_is_not_published",
    "commit::a_failed_one_keeps_the_old_content",
    "commit::an_aborted_overwrite_keeps_the_old_content",
    "commit::is_the_moment_of_change",
    "concurrency::overwriting_is_never_torn",
    "staging::",
];

/// A commit that is given up publishes what was written only where it is not staged.
const NOT_STAGED: &[&str] = &["cancel::a_commit_leaves_what_was_written"];

/// `stage` and `publish` are a store's own: a layer, a gate and a client have none.
const NEED_A_STORE: &[&str] = &[
    "cancel::a_publishing_happens_or_not",
    "cancel::a_staged_upload_is_whole_or_absent",
    "concurrency::publishing_is_never_torn",
    "stage::",
];

/// Our stores, layers and gate can do the whole of a change or nothing of it, and publish all at once
/// though the primitives for that are not within reach.
const NOT_OF_OURS: &[&str] = &["honesty::a_half_supported_change_changes_nothing", "honesty::staging_fits"];

/// A gate and a server follow links, so that no call is answered with one: `links::a_followed_…` instead.
const LINKS_ARE_FOLLOWED: &[&str] = &[
    "attributes::through_a_link_answers_with_it",
    "errors::below_a_link_is_answered_everywhere",
    "links::a_link_in_the_middle_is_answered",
    "links::list_answers_with_the_link",
    "links::open_answers_with_the_link",
    "links::stat_answers_with_the_link",
];

/// A store and a staging layer answer with links; nobody follows them.
const LINKS_ARE_ANSWERED: &[&str] = &[
    "links::a_followed_link_gives_attributes_to_its_target",
    "links::a_followed_link_is_written_through",
    "links::a_followed_link_leads_on",
    "links::a_followed_link_lists_as_its_target",
    "links::a_followed_link_reads_as_its_target",
    "links::followed_links_in_a_circle_are_an_error",
];

/// A temporary directory may keep no properties, and lists in no order.
const OF_THE_DISK: &[&str] = &[
    "attributes::properties_are_kept",
    "attributes::properties_survive_a_rename",
    "list::by_key_counts_the_slash",
    "list::by_name_is_sorted",
];

/// What SFTP version 3 has no words for.
const NOT_OVER_SFTP: &[&str] = &[
    // Properties.
    "attributes::properties_are_kept",
    "attributes::properties_survive_a_rename",
    // A copy is an open, a copy of data and a close: it does not appear at once.
    "cancel::a_copy_is_whole_or_absent",
    // The only ending is a close: what is given up is published, where the connection holds.
    "cancel::an_overwrite_never_mixes",
    "commit::a_dropped_file_is_not_published",
    // Which file stands under a name.
    "commit::abort_spares_what_came_meanwhile",
    // Sorted listings.
    "list::by_key_counts_the_slash",
    "list::by_name_is_sorted",
    // Conditions.
    "write::if_match_guards_the_content",
    "write::if_match_of_a_missing_file_fails",
];

// ---- directly

fn direct(store: &Store) -> Subject {
    let mut subject = Subject::new(store.view("alice"));
    subject.other = Some(store.view("bob"));
    subject.again = Some(store.view("alice"));
    subject.profile.staged = store.is_staged();
    subject.profile.stages &= !store.is_staged();
    subject
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_memory() {
    all(
        &direct(&Store::memory().staged()),
        &[IN_NO_CELL, NOT_OF_OURS, NOT_STAGED, NEED_A_STORE, LINKS_ARE_ANSWERED],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NOT_OF_OURS, NOT_STAGED, NEED_A_STORE, LINKS_ARE_ANSWERED, OF_THE_DISK];
    all(&direct(&Store::local(&dir).staged()), skip).await;
}

// ---- through the gate

fn gated(store: &Store) -> Subject {
    let guarded = |account: &'static str| {
        let session = Session::new(Setup::new(Protocol::Local, "test"));
        let identity = session.log_in(Account::named(account), vec![]).unwrap();
        Arc::new(session.guard(&identity, store.view(account), Arc::default()).unwrap())
    };
    let mut subject = Subject::new(guarded("alice"));
    subject.other = Some(guarded("bob"));
    subject.again = Some(guarded("alice"));
    subject.profile.staged = store.is_staged();
    subject.profile.follows_links = true;
    subject.profile.stages = false;
    subject
}

#[tokio::test(flavor = "multi_thread")]
async fn gated_memory() {
    let skip: &[_] = &[IN_NO_CELL, NOT_OF_OURS, NEED_STAGING, NEED_A_STORE, LINKS_ARE_FOLLOWED];
    all(&gated(&Store::memory()), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gated_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NOT_OF_OURS, NEED_STAGING, NEED_A_STORE, LINKS_ARE_FOLLOWED, OF_THE_DISK];
    all(&gated(&Store::local(&dir)), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gated_staged_memory() {
    all(
        &gated(&Store::memory().staged()),
        &[IN_NO_CELL, NOT_OF_OURS, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gated_staged_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NOT_OF_OURS, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, OF_THE_DISK];
    all(&gated(&Store::local(&dir).staged()), skip).await;
}

// ---- through a protocol

/// Runs everything from one user's connections, watched over another user's. `says` is what differs between
/// the protocols, beside what no protocol tells: which file is which, what exactly failed, what is staged.
async fn over(way: Way, store: Store, may_skip: &[&[&str]], says: impl FnOnce(&mut Profile)) {
    let staged = store.is_staged();
    let world = Arc::new(World::new(way, store, Arc::default()).await);
    let (alice, of_alice) = world.log_in("alice").await;
    let (again, of_again) = world.log_in("alice").await;
    let (bob, of_bob) = world.log_in("bob").await;
    let mut subject = Subject::new(alice);
    subject.other = Some(bob);
    subject.again = Some(again);
    subject.profile.staged = staged;
    subject.profile.knows_files = false;
    subject.profile.infers_kinds = true;
    subject.profile.stages = false;
    says(&mut subject.profile);
    let lost = Arc::clone(&world);
    subject.leave = Some(Arc::new(move |path, content| {
        let lost = Arc::clone(&lost);
        Box::pin(async move { lost.loses_an_upload("alice", &path, content).await })
    }));
    all(&subject, may_skip).await;
    drop(subject);
    for connection in [of_alice, of_again, of_bob] {
        connection.close().await;
    }
    world.all_closed().await;
    is_complete(&world.events());
}

// ---- through SFTP

/// Runs everything through SFTP.
async fn over_sftp(store: Store, may_skip: &[&[&str]]) {
    // Version 3 has one ending, CLOSE; attributes that do not tell files apart; and few codes of errors.
    let sftp = |profile: &mut Profile| profile.close_only = true;
    over(Way::Sftp, store, may_skip, sftp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_memory() {
    over_sftp(Store::memory(), &[IN_NO_CELL, NEED_STAGING, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_SFTP])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_local() {
    let dir = tempfile::tempdir().unwrap();
    over_sftp(
        Store::local(&dir),
        &[IN_NO_CELL, NEED_STAGING, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_SFTP],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_staged_memory() {
    let skip: &[_] = &[IN_NO_CELL, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_SFTP];
    over_sftp(Store::memory().staged(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_staged_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_SFTP];
    over_sftp(Store::local(&dir).staged(), skip).await;
}

// ---- through FTP

/// What FTP has no words for, and what its one stream of bytes cannot do.
const NOT_OVER_FTP: &[&str] = &[
    // Sizes are set by writing alone.
    "attributes::a_directory_is_not_cut",
    "attributes::a_file_is_cut",
    "attributes::a_file_is_extended_with_zeros",
    "attributes::a_handle_cuts",
    // Properties.
    "attributes::properties_are_kept",
    "attributes::properties_survive_a_rename",
    // A copy is no one step that ends before its answer.
    "cancel::a_copy_is_whole_or_absent",
    // What is given up breaks the connection off, and with it the upload.
    "cancel::a_write_does_not_harm_the_next",
    // Which file stands under a name.
    "commit::abort_spares_what_came_meanwhile",
    // A link's own times; links in hard form.
    "attributes::a_link_has_its_own_time",
    "links::a_hard_link_is_refused_where_it_must_be",
    "links::a_hard_link_outlives_the_first_name",
    "links::a_hard_link_shares_content",
    "links::rename_between_names_of_one_file",
    // One stream of bytes, from the beginning on.
    "commit::waits_for_writes_in_flight",
    "concurrency::two_handles_write_two_halves",
    "staging::open_is_read_by_its_handle",
    "write::a_gap_reads_as_zeros",
    "write::a_handle_reads_its_own_writes",
    "write::a_later_write_wins",
    "write::an_impossible_offset_is_refused",
    "write::beyond_four_gib",
    "write::in_the_middle_changes_only_that",
    "write::nothing_far_out_does_not_extend",
    "write::out_of_order_parts_end_in_place",
    "commit::abort_spares_what_was_there",
    // 550 stands for most errors: kinds are found by looking, and nothing is promised.
    "concurrency::one_rename_wins",
    "concurrency::the_same_levels_at_a_time",
    "errors::below_a_file_is_refused_everywhere",
    "errors::below_missing_is_not_found_everywhere",
    "errors::missing_is_not_found_everywhere",
    "errors::missing_is_not_worth_a_retry",
    "rename::a_directory_over_an_empty_one_replaces_it",
    // Sorted listings.
    "list::by_key_counts_the_slash",
    "list::by_name_is_sorted",
    // Conditions, and names with ends of lines.
    "concurrency::one_exclusive_creation_wins",
    "names::carriage_return",
    "names::newline",
    "write::if_match_guards_the_content",
    "write::if_match_of_a_missing_file_fails",
];

/// Runs everything through FTP.
async fn over_ftp(way: Way, store: Store, may_skip: &[&[&str]]) {
    // Lines end names, and 550 stands for most errors.
    let ftp = |profile: &mut Profile| {
        profile.line_ends = false;
        profile.link_times = false;
        profile.arrives_later = true;
        // STOR replaces; who looks first may look too early.
        profile.exclusive_creation = false;
    };
    over(way, store, may_skip, ftp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftp_memory() {
    let skip: &[_] = &[IN_NO_CELL, NEED_STAGING, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftp, Store::memory(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftp_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NEED_STAGING, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftp, Store::local(&dir), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftp_staged_memory() {
    let skip: &[_] = &[IN_NO_CELL, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftp, Store::memory().staged(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftp_staged_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftp, Store::local(&dir).staged(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftpes_staged_memory() {
    let skip: &[_] = &[IN_NO_CELL, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftpes, Store::memory().staged(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftpes_staged_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftpes, Store::local(&dir).staged(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftps_staged_memory() {
    let skip: &[_] = &[IN_NO_CELL, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftps, Store::memory().staged(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ftps_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NEED_STAGING, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_FTP];
    over_ftp(Way::Ftps, Store::local(&dir), skip).await;
}

// ---- large

// ---- through WebDAV

/// What WebDAV has no words for, and what its one stream of bytes cannot do.
const NOT_OVER_DAV: &[&str] = &[
    // Sizes are set by writing alone.
    "attributes::a_directory_is_not_cut",
    "attributes::a_file_is_cut",
    "attributes::a_file_is_extended_with_zeros",
    "attributes::a_handle_cuts",
    // Modes, links.
    "attributes::a_link_has_its_own_time",
    "attributes::a_mode_at_creation_is_kept",
    "attributes::a_mode_is_kept",
    "attributes::an_impossible_mode_is_refused",
    "honesty::a_half_supported_change_changes_nothing",
    "links::",
    // Dead properties are the server's only.
    "attributes::properties_are_kept",
    "attributes::properties_survive_a_rename",
    // A file is replaced as a whole, from its beginning to its end.
    "cancel::a_write_does_not_harm_the_next",
    "commit::abort_spares_what_came_meanwhile",
    "commit::abort_spares_what_was_there",
    "commit::waits_for_writes_in_flight",
    "concurrency::appends_are_not_lost",
    "concurrency::two_handles_write_two_halves",
    "write::a_gap_reads_as_zeros",
    "write::a_handle_reads_its_own_writes",
    "write::a_later_write_wins",
    "write::an_impossible_offset_is_refused",
    "write::append_can_create",
    "write::append_goes_to_the_end",
    "write::beyond_four_gib",
    "write::continues_at_the_end",
    "write::continuing_with_nothing_changes_nothing",
    "write::in_the_middle_changes_only_that",
    "write::nothing_far_out_does_not_extend",
    "write::out_of_order_parts_end_in_place",
    // Nobody promises that a copy appears in one step.
    "cancel::a_copy_is_whole_or_absent",
    // Sorted listings.
    "list::by_key_counts_the_slash",
    "list::by_name_is_sorted",
];

/// Runs everything through WebDAV, as one user, watched by another.
async fn over_dav(way: Way, store: Store, may_skip: &[&[&str]]) {
    let staged = store.is_staged();
    let world = Arc::new(World::new(way, store, Arc::default()).await);
    let (alice, of_alice) = world.log_in("alice").await;
    let (again, of_again) = world.log_in("alice").await;
    let (bob, of_bob) = world.log_in("bob").await;
    let mut subject = Subject::new(alice);
    subject.other = Some(bob);
    subject.again = Some(again);
    subject.profile.staged = staged;
    subject.profile.knows_files = false;
    subject.profile.stages = false;
    subject.profile.link_times = false;
    subject.profile.arrives_later = true;
    // A request that is given up is torn, with what had not left yet.
    subject.profile.keeps_given_up = false;
    let lost = Arc::clone(&world);
    subject.leave = Some(Arc::new(move |path, content| {
        let lost = Arc::clone(&lost);
        Box::pin(async move { lost.loses_an_upload("alice", &path, content).await })
    }));
    all(&subject, may_skip).await;
    drop(subject);
    for connection in [of_alice, of_again, of_bob] {
        connection.close().await;
    }
    world.all_closed().await;
    is_complete(&world.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn dav_memory() {
    let skip: &[_] = &[IN_NO_CELL, NEED_STAGING, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_DAV];
    over_dav(Way::Dav, Store::memory(), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dav_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NEED_STAGING, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_DAV];
    over_dav(Way::Dav, Store::local(&dir), skip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn davs_local() {
    let dir = tempfile::tempdir().unwrap();
    let skip: &[_] = &[IN_NO_CELL, NEED_STAGING, NOT_STAGED, NEED_A_STORE, LINKS_ARE_FOLLOWED, NOT_OVER_DAV];
    over_dav(Way::Davs, Store::local(&dir), skip).await;
}

/// A hundred thousand entries, filled in below, since the way there is not what is tried.
#[tokio::test(flavor = "multi_thread")]
async fn sftp_lists_a_hundred_thousand_entries_in_pages() {
    let store = Store::memory();
    let (below, dir) = (store.view("nobody"), VPath::absolute("/many").unwrap());
    below.create_dir(&dir, &Attributes::none()).await.unwrap();
    for i in 0..100_000 {
        below.write_all(&dir.join(format!("f{i:06}")).unwrap(), Bytes::new()).await.unwrap();
    }
    let world = World::new(Way::Sftp, store, Arc::default()).await;
    let (alice, _connection) = world.log_in("alice").await;
    let mut pages = alice.list(&dir, &ListOptions::default()).await.unwrap();
    let (mut names, mut longest) = (BTreeSet::new(), 0);
    while let Some(page) = pages.next_page().await.unwrap() {
        longest = longest.max(page.len());
        for entry in page {
            assert!(names.insert(entry.name), "an entry comes twice");
        }
    }
    assert!(longest < 10_000, "a page has {longest} entries");
    let expected = (0..100_000).map(|i| Bytes::from(format!("f{i:06}")));
    assert!(names.into_iter().eq(expected), "entries are missing");
}
