//! WinSCP's calls when things break: every k-th operation of a removal, or of a raw command of FTP, fails, or the
//! connection dies in it; a command is cut after every so many bytes. What the result says is what happened, and no failure stands in it twice.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use client::session::{Event, RemovalResult, Session};
use session_core::batch::Unattended;
use session_core::error::{Error, Result};
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationSet};
use session_core::session::{Actor, Ending};

use crate::support::World;
use crate::support::shell::Shell;
use crate::support::world::Proxy;

/// What goes wrong on the server, at which of its operations.
#[derive(Default)]
struct Plan {
    calls: AtomicU64,
    /// The number of the operation that fails, from 1; 0 for none.
    at: AtomicU64,
    /// It is not refused: the connection dies, and nobody knows whether it was done.
    cuts: AtomicBool,
}

struct Failing(Arc<Plan>);

#[async_trait]
impl Interceptor for Failing {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, cx: &Cx<'_>, _: Operation<'_>) -> Result<()> {
        let n = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if n != self.0.at.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.0.cuts.load(Ordering::SeqCst) {
            cx.session.cut(Ending::new("cut by the test", Actor::Admin("test".into())));
            return Ok(());
        }
        Err(Error::refused("not this one"))
    }
}

const TREE: [&str; 7] = ["/t/a", "/t/s/b", "/t/s/c", "/t/s/u/d", "/t/v/e", "/1.log", "/2.log"];

/// A session, and how many failures its event told of.
async fn opened(world: &World, reconnect: Duration) -> (Session, Arc<Mutex<usize>>) {
    let session = Session::new();
    session.set_reconnect_time(reconnect);
    session.open(world.options(), Arc::new(Unattended)).await.unwrap();
    let told = Arc::new(Mutex::new(0));
    let count = Arc::clone(&told);
    // It lives as long as the session.
    std::mem::forget(
        session.on_event(move |e| *count.lock().unwrap() += usize::from(matches!(e, Event::Failed(_)))),
    );
    (session, told)
}

/// What the result says is what became of the tree.
fn is_true(result: &RemovalResult, before: &[String], after: &[String], cut: bool, what: &str) {
    let mut numbers: Vec<usize> = result.removals.iter().filter_map(|r| r.failure).collect();
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "{what}: a failure twice");
    assert!(numbers.iter().all(|n| *n < result.failures.len()), "{what}");
    let name = |r: &client::session::Removal| format!("{}{}", r.path, if r.directory { "/" } else { "" });
    let done: Vec<String> = result.removals.iter().filter(|r| r.failure.is_none()).map(name).collect();
    let gone: BTreeSet<&String> = before.iter().filter(|path| !after.contains(path)).collect();
    let told: BTreeSet<&String> = done.iter().collect();
    assert_eq!(told.len(), done.len(), "{what}: a removal twice");
    assert!(told.is_subset(&gone), "{what}: told {told:?}, gone {gone:?}");
    // Of what a connection took with it nobody knows.
    assert!(cut || told == gone, "{what}: told {told:?}, gone {gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_operation_of_a_removal_fails_the_result_is_true() {
    for (target, cuts) in [("/t", false), ("/t/*", false), ("*.log", false), ("/t", true), ("*.log", true)] {
        let plan = Arc::new(Plan::default());
        let world = World::sftp_with(vec![Arc::new(Failing(Arc::clone(&plan)))]).await;
        plan.cuts.store(cuts, Ordering::SeqCst);
        for k in 1.. {
            for path in TREE {
                world.write(path, "").await;
            }
            let (session, events) = opened(&world, Duration::ZERO).await;
            let before = world.tree().await;
            plan.calls.store(0, Ordering::SeqCst);
            plan.at.store(k, Ordering::SeqCst);
            let result = session.remove_files(target).await.unwrap();
            plan.at.store(0, Ordering::SeqCst);
            let (came, what) =
                (plan.calls.load(Ordering::SeqCst) >= k, format!("{target} at {k}, cut {cuts}"));
            is_true(&result, &before, &world.tree().await, cuts, &what);
            assert_eq!(*events.lock().unwrap(), result.failures.len(), "{what}");
            assert_eq!(result.is_success(), !came, "{what}: {:?}", result.failures);
            session.abort();
            if !came {
                assert!(k > 2, "{what}: too few operations to be all");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_cut_anywhere_is_no_success() {
    const CUTS: u64 = 24;
    let Some(shell) = Shell::start(false).await else { return };
    let command = "seq 1 20000; echo err >&2";
    let whole: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let run = async |proxy: &Proxy| {
        let session = Session::new();
        session.set_reconnect_time(Duration::ZERO);
        let options = shell.options().port_number(proxy.port);
        session.open(options, Arc::new(Unattended)).await.ok()?;
        let told = Arc::new(Mutex::new(0));
        let count = Arc::clone(&told);
        let _events =
            session.on_event(move |e| *count.lock().unwrap() += usize::from(matches!(e, Event::Failed(_))));
        let opened = proxy.passed();
        let result = session.execute_command(command, "").await;
        let told = *told.lock().unwrap();
        Some((opened, result, told))
    };
    // How much a login takes, and the command after it.
    let proxy = Proxy::cutting(shell.port, u64::MAX).await;
    let (login, result, told) = run(&proxy).await.unwrap();
    let result = result.unwrap();
    assert!(result.is_success() && result.output_text() == whole && told == 0, "{:?}", result.failures);
    let all = proxy.passed();
    let mut broken = 0;
    for n in 0..CUTS {
        let proxy = Proxy::cutting(shell.port, login + (all - login) * n / CUTS + 1).await;
        // The first of them may still cut the login.
        let Some((_, result, told)) = run(&proxy).await else { continue };
        let what = format!("cut {n} of {CUTS}");
        match result {
            Ok(result) if result.is_success() => {
                assert_eq!((result.exit_code, told), (Some(0), 0), "{what}");
                assert!(result.output_text() == whole && result.error_text() == "err\n", "{what}: not whole");
            }
            Ok(result) => {
                broken += 1;
                assert_eq!((result.failures.len(), told), (1, 1), "{what}: {:?}", result.failures);
                assert!(whole.starts_with(&result.output_text()), "{what}");
            }
            Err(_) => {
                broken += 1;
                assert_eq!(told, 1, "{what}");
            }
        }
    }
    assert!(broken > CUTS / 2, "{broken} of {CUTS} were cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_command_of_ftp_that_is_cut_anywhere_is_no_success() {
    const CUTS: u64 = 24;
    let world = World::ftpes().await;
    let proxy = Proxy::cutting(world.port, u64::MAX).await;
    let session = Session::new();
    session.set_reconnect_time(Duration::ZERO);
    session.open(world.options().port_number(proxy.port), Arc::new(Unattended)).await.unwrap();
    let told = Arc::new(Mutex::new(0));
    let count = Arc::clone(&told);
    let _events =
        session.on_event(move |e| *count.lock().unwrap() += usize::from(matches!(e, Event::Failed(_))));
    // It goes over a connection of its own, whose login is cut, too.
    let before = proxy.passed();
    let whole = session.execute_command("FEAT", "").await.unwrap();
    let all = proxy.passed() - before;
    assert!(whole.is_success() && *told.lock().unwrap() == 0 && whole.output_text().contains("REST STREAM"));
    let whole = whole.output_text();
    let mut broken = 0;
    for n in 0..CUTS {
        proxy.cut_from_now_on(all * n / CUTS + 1);
        *told.lock().unwrap() = 0;
        let what = format!("cut {n} of {CUTS}");
        let result = session.execute_command("FEAT", "").await;
        let told = *told.lock().unwrap();
        match result {
            Ok(result) if result.is_success() => {
                assert!(result.output_text() == whole && told == 0, "{what}: not whole");
            }
            Ok(result) => {
                broken += 1;
                assert_eq!((result.failures.len(), told), (1, 1), "{what}: {:?}", result.failures);
            }
            Err(_) => {
                broken += 1;
                assert_eq!(told, 1, "{what}");
            }
        }
    }
    assert!(broken > CUTS / 2, "{broken} of {CUTS} were cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_operation_of_a_raw_command_fails_the_result_is_true() {
    for (command, cuts) in
        [("MKD /made", false), ("DELE /1.log", false), ("MKD /made", true), ("DELE /1.log", true)]
    {
        let plan = Arc::new(Plan::default());
        let world = World::ftpes_with(vec![Arc::new(Failing(Arc::clone(&plan)))]).await;
        plan.cuts.store(cuts, Ordering::SeqCst);
        for k in 1.. {
            world.write("/1.log", "").await;
            let _ = world.store.remove_dir(&crate::support::path("/made")).await;
            let (session, told) = opened(&world, Duration::from_secs(20)).await;
            let before = world.tree().await;
            plan.calls.store(0, Ordering::SeqCst);
            plan.at.store(k, Ordering::SeqCst);
            let result = session.execute_command(command, "").await;
            let calls = plan.calls.load(Ordering::SeqCst);
            plan.at.store(0, Ordering::SeqCst);
            let what = format!("{command} at {k}, cut {cuts}");
            let good = result.as_ref().is_ok_and(|result| result.is_success());
            let done = world.tree().await != before;
            let told = *told.lock().unwrap();
            session.abort();
            assert_eq!(told, usize::from(!good), "{what}: {result:?}");
            assert!(!good || done, "{what}: a success that was none");
            if calls < k {
                assert!(good && done && k > 1, "{what}: {result:?}");
                break;
            }
            // A reply may still be faster than the cut; and of what a connection took with it nobody knows.
            assert!(cuts || !(good || done), "{what}: {result:?}");
        }
    }
}
