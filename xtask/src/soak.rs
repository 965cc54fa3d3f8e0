//! `cargo xtask soak`: the long forms of two tests of a real `ferryd`, which the tests run for seconds.
//!
//! Churn (logins, transfers, kills, reloads, bans) for an hour, with the table of sessions compared with the
//! truth at every sample and memory bounded; and `kill -9` in the middle of operations, again and again, with
//! no event untold. Both are built as a release is, with the tests' own assertions; where a folder of release
//! programs is named, its `ferryd` is the one that is driven and the tests are built as always.

use std::path::PathBuf;
use std::time::Duration;

use crate::Verdict;
use crate::fault::{Result, ensure};
use crate::flags::Flags;
use crate::process::Run;
use crate::repo;

pub(crate) const USAGE: &str =
    "cargo xtask soak [--seconds N] [--kills N] [--only churn|kills] [--programs DIR]

Runs the tests of ferryd that prove something only when they run long.
  --seconds N   of churn (3600)
  --kills N     of kill -9 (10000); a thousand take about half an hour
  --only NAME   one of the two
  --programs D  drives the ferryd of this folder, and builds only the tests, as a debug build";

/// A test, what tells it how long to run, and how long it may take.
struct Part {
    name: &'static str,
    test: &'static str,
    variable: &'static str,
}

const PARTS: [Part; 2] = [
    Part {
        name: "churn",
        test: "soak::the_table_is_the_truth_in_all_the_churn_and_memory_is_bounded",
        variable: "FERRY_SOAK_SECONDS",
    },
    Part {
        name: "kills",
        test: "webhooks::nothing_is_untold_after_kill_nine_and_what_is_told_twice_has_one_id",
        variable: "FERRY_KILLS",
    },
];

pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let seconds: u64 = flags.value("--seconds")?.unwrap_or(3600);
    let kills: u64 = flags.value("--kills")?.unwrap_or(10_000);
    let only: Option<String> = flags.value("--only")?;
    let programs: Option<PathBuf> = flags.value("--programs")?;
    flags.end()?;
    let ferryd = programs.map(|folder| folder.join("ferryd"));
    if let Some(ferryd) = &ferryd {
        ensure!(ferryd.is_absolute() && ferryd.is_file(), "there is no {}", ferryd.display());
    }
    let is_chosen = |part: &&Part| only.as_ref().is_none_or(|only| only == part.name);
    let chosen: Vec<&Part> = PARTS.iter().filter(is_chosen).collect();
    ensure!(!chosen.is_empty(), "--only is churn or kills");
    let mut failed = 0;
    for part in chosen {
        let (amount, limit) = match part.name {
            "churn" => (seconds, seconds + 600),
            _ => (kills, kills * 10 + 600),
        };
        println!("\n=== {}: {amount}", part.name);
        let mut run = Run::new(repo::cargo()).arg("test");
        run = match &ferryd {
            Some(ferryd) => run.arg("--workspace").env("FERRY_SOAK_FERRYD", ferryd),
            None => run.args(["--release", "-p", "server"]),
        };
        let good = run
            .args(["--locked", "--test", "daemon"])
            .args(["--", "--exact", "--nocapture", part.test])
            .env(part.variable, amount.to_string())
            .dir(repo::root())
            .limit(Duration::from_secs(limit + 3600))
            .watch(|_| {})?;
        println!("--- {}: {}", part.name, if good { "holds" } else { "FAILED" });
        failed += usize::from(!good);
    }
    Ok(Verdict::from_faults(failed))
}
