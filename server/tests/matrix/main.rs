//! The conformance suite over what a server stands on and over what a client reaches: one test per cell.
//!
//! A cell is a store (memory, disk, another server of ours as a gateway; bare or under a staging layer) and a way to it:
//! called directly, through a session's gate, or through a protocol (our server over the store, our client, loopback
//! TCP). Which promises a cell
//! does not make stands in tables, with reasons (`gaps`); a case that fails names its promise. `laws` holds what is
//! true of any session, and `page` prints the tables for the manual.
//!
//! Deliberately absent: the bare stores called directly, which are tests of `session-core`; mounts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod gaps;
#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod gateways;
#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod laws;
mod page;
#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use session_core::auth::Account;
use session_core::conformance::{self, Report, Subject, Verdict, run_case};
use session_core::fs::ListOptions;
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};

use crate::gaps::Kind::{Behind, Disk, Memory};
use crate::gaps::{Cell, Reach, depends_on_the_disk};
use crate::gateways::both;
use crate::laws::is_complete;
use crate::world::{Store, Way, World};

/// Runs everything. Nothing may fail; skipped is what the tables name for this cell, and nothing else.
async fn all(subject: &Subject, cell: &Cell) {
    let report = run_cases(subject, cell).await;
    let gaps = cell.gaps();
    let listed = || gaps.iter().flat_map(|gap| gap.cases).copied();
    let is_listed = |case: &&str| listed().any(|name| names(name, case));
    let unknown: Vec<_> = report.skipped().into_iter().filter(|case| !is_listed(case)).collect();
    let is_stale = |name: &&str| !report.skipped().iter().any(|case| names(name, case));
    let stale: Vec<_> = listed().filter(|name| !depends_on_the_disk(name)).filter(is_stale).collect();
    assert!(
        report.failures().is_empty() && unknown.is_empty() && stale.is_empty(),
        "{report}\nskipped without a reason: {unknown:#?}\nto be skipped, and was not: {stale:#?}"
    );
}

/// Every case, but for those that hold otherwise here.
async fn run_cases(subject: &Subject, cell: &Cell) -> Report {
    let otherwise = &|name: &str| cell.otherwise().iter().any(|gap| gap.cases.contains(&name));
    let cases = conformance::cases();
    let verdicts = futures_util::stream::iter(&cases).map(|case| async move {
        let verdict = if otherwise(case.name) { Verdict::Skipped } else { run_case(case, subject).await };
        (case.name, verdict)
    });
    let mut verdicts: Vec<_> = verdicts.buffer_unordered(8).collect().await;
    verdicts.sort_by_key(|(name, _)| *name);
    Report { verdicts }
}

/// Whether a name in a list is that of the case, or of its file.
fn names(name: &str, case: &str) -> bool {
    case == name || name.ends_with("::") && case.starts_with(name)
}

fn direct(store: &Store, cell: &Cell) -> Subject {
    let mut subject = Subject::new(store.view("alice"));
    subject.other = Some(store.view("bob"));
    subject.again = Some(store.view("alice"));
    subject.profile.staged = store.is_staged();
    subject.profile.stages &= !store.is_staged();
    cell.kind.narrows(&mut subject.profile, cell.staged);
    subject
}

fn gated(store: &Store, cell: &Cell) -> Subject {
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
    cell.kind.narrows(&mut subject.profile, cell.staged);
    subject
}

/// Runs everything from one user's connections, watched over another user's.
async fn over(way: Way, store: Store, cell: &Cell) {
    let served = store.view("alice").capabilities();
    let world = Arc::new(World::new(way, store, Arc::default()).await);
    let (alice, of_alice) = world.log_in("alice").await;
    let (again, of_again) = world.log_in("alice").await;
    let (bob, of_bob) = world.log_in("bob").await;
    let mut subject = Subject::new(alice);
    if matches!(cell.kind, Behind(_)) {
        subject.can = Some(both(&subject.fs.capabilities_at(&way.base()), &served));
        subject.profile.time_granularity = subject.profile.time_granularity.max(served.mtime_granularity);
    }
    subject.other = Some(bob);
    subject.again = Some(again);
    subject.root = way.base();
    cell.kind.narrows(&mut subject.profile, cell.staged);
    way.says(&mut subject.profile, cell.staged);
    let lost = Arc::clone(&world);
    subject.leave = Some(Arc::new(move |path, content| {
        let lost = Arc::clone(&lost);
        Box::pin(async move { lost.loses_an_upload("alice", &path, content).await })
    }));
    all(&subject, cell).await;
    drop(subject);
    for connection in [of_alice, of_again, of_bob] {
        connection.close().await;
    }
    world.all_closed().await;
    is_complete(&world.events());
}

async fn run(cell: Cell) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _behind) = match cell.kind {
        Memory => (Store::memory(), None),
        Disk => (Store::local(&dir), None),
        Behind(way) => {
            let (store, behind) = gateways::behind(way).await;
            (store, Some(behind))
        }
    };
    let store = if cell.staged { store.staged() } else { store };
    match cell.reach {
        Reach::Direct => all(&direct(&store, &cell), &cell).await,
        Reach::Gate => all(&gated(&store, &cell), &cell).await,
        Reach::Over(way) => over(way, store, &cell).await,
    }
}

/// A test for each cell.
macro_rules! cells {
    ($($(#[$attribute:meta])* $name:ident $staging:ident $reach:expr, $kind:expr;)*) => {
        /// Every cell, by the name of its test.
        const CELLS: &[(&str, Cell)] = &[$((stringify!($name), Cell::$staging($reach, $kind))),*];

        $(
            #[tokio::test(flavor = "multi_thread")]
            $(#[$attribute])*
            async fn $name() {
                run(Cell::$staging($reach, $kind)).await;
            }
        )*
    };
}

cells! {
    staged_memory staged Reach::Direct, Memory;
    staged_local staged Reach::Direct, Disk;
    gated_memory bare Reach::Gate, Memory;
    gated_local bare Reach::Gate, Disk;
    gated_staged_memory staged Reach::Gate, Memory;
    gated_staged_local staged Reach::Gate, Disk;
    sftp_memory bare Reach::Over(Way::Sftp), Memory;
    sftp_local bare Reach::Over(Way::Sftp), Disk;
    sftp_staged_memory staged Reach::Over(Way::Sftp), Memory;
    sftp_staged_local staged Reach::Over(Way::Sftp), Disk;
    scp_memory bare Reach::Over(Way::Scp), Memory;
    scp_staged_local staged Reach::Over(Way::Scp), Disk;
    ftp_memory bare Reach::Over(Way::Ftp), Memory;
    ftp_local bare Reach::Over(Way::Ftp), Disk;
    ftp_staged_memory staged Reach::Over(Way::Ftp), Memory;
    ftp_staged_local staged Reach::Over(Way::Ftp), Disk;
    ftpes_staged_memory staged Reach::Over(Way::Ftpes), Memory;
    ftpes_staged_local staged Reach::Over(Way::Ftpes), Disk;
    ftps_staged_memory staged Reach::Over(Way::Ftps), Memory;
    ftps_local bare Reach::Over(Way::Ftps), Disk;
    dav_memory bare Reach::Over(Way::Dav), Memory;
    dav_local bare Reach::Over(Way::Dav), Disk;
    dav_staged_memory staged Reach::Over(Way::Dav), Memory;
    davs_local bare Reach::Over(Way::Davs), Disk;
    davs_staged_local staged Reach::Over(Way::Davs), Disk;
    s3_memory bare Reach::Over(Way::S3), Memory;
    s3s_staged_local staged Reach::Over(Way::S3s), Disk;
    staged_behind_sftp staged Reach::Direct, Behind(Way::Sftp);
    sftp_behind_sftp staged Reach::Over(Way::Sftp), Behind(Way::Sftp);
    ftp_behind_sftp staged Reach::Over(Way::Ftp), Behind(Way::Sftp);
    dav_behind_sftp staged Reach::Over(Way::Dav), Behind(Way::Sftp);
    gated_behind_s3 bare Reach::Gate, Behind(Way::S3);
    sftp_behind_s3 bare Reach::Over(Way::Sftp), Behind(Way::S3);
    scp_behind_sftp staged Reach::Over(Way::Scp), Behind(Way::Sftp);
    ftp_behind_s3 bare Reach::Over(Way::Ftp), Behind(Way::S3);
    scp_behind_s3 bare Reach::Over(Way::Scp), Behind(Way::S3);
    dav_behind_s3 bare Reach::Over(Way::Dav), Behind(Way::S3);
    s3_behind_sftp staged Reach::Over(Way::S3), Behind(Way::Sftp);
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
