//! A synchronisation of which any operation fails: its report says what happened, and the next run makes it good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use client::sync::{
    Check, Difference, Direction, MaxDelete, Operation as Told, Outcome, Renames, Runner, Side, Sides,
    SyncOptions,
};
use session_core::batch::Unattended;
use session_core::error::{Error, Result};
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationSet};
use session_core::path::VPath;

use crate::support::{local, local_with};
use crate::sync_jobs::{tree, two};

/// Refuses the operation of this number, from 1.
struct Fails {
    calls: AtomicU64,
    at: u64,
}

#[async_trait]
impl Interceptor for Fails {
    fn interests(&self) -> OperationSet {
        OperationSet::ALL
    }

    async fn before(&self, _: &Cx<'_>, _: Operation<'_>) -> Result<()> {
        match self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            true => Err(Error::refused("not this one")),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_operation_fails_the_report_is_true() {
    for k in 1.. {
        let dir = tempfile::tempdir().unwrap();
        two(dir.path());
        let options = || SyncOptions {
            direction: Direction::To(Side::Right),
            delete: true,
            max_delete: MaxDelete::Unlimited,
            renames: Renames::Digest,
            ..SyncOptions::default()
        };
        let fails = Arc::new(Fails { calls: AtomicU64::new(0), at: k });
        let right = local_with(&dir.path().join("r"), vec![Arc::clone(&fails) as _]);
        let sides = |right| Sides::new((local(&dir.path().join("l")), VPath::root()), (right, VPath::root()));
        let (left, before) = (tree(&dir.path().join("l")), tree(&dir.path().join("r")));
        let runner = Runner::new(sides(right), options(), Arc::new(Unattended), Check::Target).unwrap();
        let report = runner.run().await;
        let now = tree(&dir.path().join("r"));
        let came = fails.calls.load(Ordering::SeqCst) >= k;
        match report {
            // The root itself could not be looked at.
            Err(_) => assert!(came && now == before, "{k}"),
            Ok(report) => {
                assert!(report.failures.len() <= usize::from(came), "{k}: {:?}", report.failures);
                let is_good = report.is_success() && report.notes.is_empty();
                assert!(!is_good || now == left, "{k}: a success that was none: {:?}", now.keys());
                let mut told = 0;
                for Told { difference: d, outcome, .. } in &report.operations {
                    let path = |d: &Difference| String::from_utf8_lossy(d.path(Side::Right)).into_owned();
                    let (place, what) = (path(d), format!("{k}: {d:?} {outcome:?}"));
                    let (is, was, wanted) = (now.get(&place), before.get(&place), left.get(&place));
                    match outcome {
                        Outcome::Done(_) => {
                            assert_eq!(is, wanted, "{what}");
                            let old = d.moved.as_ref().is_some_and(|old| now.contains_key(&path(old)));
                            assert!(!old, "{what}: it is at its old place, too");
                        }
                        // All of it or nothing of it.
                        Outcome::Failed(n) => {
                            told += 1;
                            assert!(*n < report.failures.len() && (is == was || is == wanted), "{what}");
                        }
                        Outcome::Skipped(_) => assert_eq!(is, was, "{what}"),
                    }
                }
                assert!(told <= report.failures.len(), "{k}: a failure twice");
            }
        }
        let runner =
            Runner::new(sides(local(&dir.path().join("r"))), options(), Arc::new(Unattended), Check::Target);
        runner.unwrap().run().await.unwrap().check().unwrap();
        assert!(tree(&dir.path().join("r")) == left, "{k}: the next run makes it good");
        if !came {
            assert!(k > 40, "it has to do more than that");
            break;
        }
    }
}
