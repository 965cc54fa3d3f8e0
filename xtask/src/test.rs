//! `cargo xtask test`: everything that must hold, in one command.
//!
//! Stages run in order, all of them even when one fails, so that one run shows everything. It installs
//! what it needs. What is not here is a failure under `CI=true` and a loud line elsewhere ([`Report`]).
//! The last line is `N passed, N failed`: single tests where a stage counts them, checks elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use crate::fault::{Result, bail};
use crate::flags::Flags;
use crate::ours::Build;
use crate::process::Run;
use crate::report::Report;
use crate::{Verdict, deps, fuzz, install, peers, repo, tidy};

pub(crate) const USAGE: &str = "cargo xtask test [--quick] [--only STAGE,…] [--list]

Runs the stages in order and prints a table at the end. All run, even when one fails.
  --quick        only what is quick: tidy, fmt, clippy, unit
  --only STAGE   only these, by name, separated by commas
  --list         prints the stages

With CI=true in the environment a tool or peer that is not here is a failure.";

/// A stage of the test.
struct Stage {
    name: &'static str,
    about: &'static str,
    is_quick: bool,
    run: fn(&mut Report) -> Result<()>,
}

const STAGES: &[Stage] = &[
    Stage { name: "tidy", about: "the house rules", is_quick: true, run: tidy::stage },
    Stage { name: "fmt", about: "rustfmt has nothing to change", is_quick: true, run: fmt },
    Stage { name: "deps", about: "bans, licences, versions, advisories", is_quick: false, run: deps::stage },
    Stage { name: "clippy", about: "no lint, anywhere", is_quick: true, run: clippy },
    Stage { name: "docs", about: "the documentation builds without a warning", is_quick: false, run: docs },
    Stage { name: "unit", about: "the tests of every crate, and the examples", is_quick: true, run: unit },
    Stage { name: "fuzz", about: "every fuzz target, briefly", is_quick: false, run: fuzz::stage },
    Stage { name: "peers", about: "other people's software, both ways", is_quick: false, run: peers::stage },
];

/// What is left of a stage once it ran.
struct Row {
    name: &'static str,
    time: Duration,
    report: Report,
}

pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let quick = flags.flag("--quick");
    let list = flags.flag("--list");
    let only = flags.list("--only")?;
    flags.end()?;
    if list {
        for stage in STAGES {
            println!("{:<8} {}{}", stage.name, stage.about, if stage.is_quick { " (quick)" } else { "" });
        }
        return Ok(Verdict::Good);
    }
    let stages = choose(quick, &only)?;
    let mut rows = Vec::new();
    for stage in stages {
        println!("\n=== {}: {}", stage.name, stage.about);
        let start = Instant::now();
        let mut report = Report::default();
        if let Err(fault) = (stage.run)(&mut report) {
            report.fail(fault);
        }
        let time = start.elapsed();
        println!("--- {}: {} passed, {} failed, {}", stage.name, report.passed, report.failed, shown(time));
        rows.push(Row { name: stage.name, time, report });
    }
    Ok(summary(&rows))
}

fn choose(quick: bool, only: &[String]) -> Result<Vec<&'static Stage>> {
    for name in only {
        if !STAGES.iter().any(|stage| stage.name == name) {
            bail!("no stage `{name}`; `cargo xtask test --list` prints them");
        }
    }
    let is_chosen = |stage: &&Stage| {
        (only.is_empty() || only.iter().any(|name| name == stage.name)) && (stage.is_quick || !quick)
    };
    let chosen: Vec<&Stage> = STAGES.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        bail!("no stage is both quick and chosen");
    }
    Ok(chosen)
}

fn summary(rows: &[Row]) -> Verdict {
    println!("\n=== summary");
    println!("{:<8} {:>7} {:>7} {:>9}", "stage", "passed", "failed", "time");
    for row in rows {
        let (passed, failed) = (row.report.passed, row.report.failed);
        let mark = if failed > 0 { "  FAILED" } else { "" };
        println!("{:<8} {passed:>7} {failed:>7} {:>9}{mark}", row.name, shown(row.time));
    }
    let total: Duration = rows.iter().map(|row| row.time).sum();
    println!("{:<24} {:>9}", "in all", shown(total));
    for row in rows {
        for what in &row.report.missing {
            println!("!!! NOT CHECKED ({}): {what}", row.name);
        }
    }
    let passed: usize = rows.iter().map(|row| row.report.passed).sum();
    let failed: usize = rows.iter().map(|row| row.report.failed).sum();
    println!("{passed} passed, {failed} failed");
    Verdict::from_faults(failed)
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// Runs cargo in the foreground; its exit is one check.
fn cargo(report: &mut Report, args: &[&str]) -> Result<()> {
    let good = cargo_run(args).watch(|_| {})?;
    report.count(good, format!("cargo {}", args.join(" ")));
    Ok(())
}

fn cargo_run(args: &[&str]) -> Run {
    let run = Run::new(repo::cargo()).args(args).dir(repo::root());
    // Its output comes through a pipe of ours, so it cannot see the terminal by itself.
    if std::io::stdout().is_terminal() { run.env("CARGO_TERM_COLOR", "always") } else { run }
}

fn fmt(report: &mut Report) -> Result<()> {
    if !repo::has_cargo_command("fmt") {
        report.lack("formatting: rustfmt is not installed (rustup component add rustfmt)");
        return Ok(());
    }
    cargo(report, &["fmt", "--all", "--check"])
}

fn clippy(report: &mut Report) -> Result<()> {
    if !repo::has_cargo_command("clippy") {
        report.lack("lints: clippy is not installed (rustup component add clippy)");
        return Ok(());
    }
    // What is built only where PAM's library is can be looked at without it.
    let whole = ["clippy", "--workspace", "--all-targets", "--features", "ferryd-pam/pam", "--locked"];
    cargo(report, &[&whole[..], &["--", "-D", "warnings"]].concat())?;
    // In the workspace every feature is on; by itself it shows that it needs no other.
    let portable = ["clippy", "-p", "session-core", "--lib", "--features", "portable", "--locked"];
    cargo(report, &[&portable[..], &["--", "-D", "warnings"]].concat())
}

fn docs(report: &mut Report) -> Result<()> {
    let args = ["doc", "--workspace", "--no-deps", "--locked"];
    let good = cargo_run(&args).env("RUSTDOCFLAGS", "-D warnings").watch(|_| {})?;
    report.count(good, "cargo doc");
    Ok(())
}

/// What tests of the crates start.
const PROGRAMS: &[&str] = &["openssh-client", "openssh-sftp-server"];

fn unit(report: &mut Report) -> Result<()> {
    if let Err(fault) = install::ensure_debian(PROGRAMS) {
        report.lack(format!("tests that start programs: {fault}"));
    }
    let start = Instant::now();
    let has_nextest = repo::has_cargo_command("nextest");
    if has_nextest {
        let built = cargo_run(&["nextest", "run", "--workspace", "--locked", "--no-run"]).watch(|_| {})?;
        println!("building took {}", shown(start.elapsed()));
        if !built {
            report.fail("the tests do not build");
            return Ok(());
        }
        tests(
            report,
            &["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--no-tests=fail"],
            nextest_counts,
        )?;
    } else {
        let built = cargo_run(&["test", "--workspace", "--locked", "--no-run"]).watch(|_| {})?;
        println!("building took {}", shown(start.elapsed()));
        if !built {
            report.fail("the tests do not build");
            return Ok(());
        }
        // Not `--all-targets`: that would leave out nothing but the doctests, which run below.
        tests(
            report,
            &["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"],
            libtest_counts,
        )?;
    }
    tidy::judge(report, "generated documents are fresh", &crate::docs::stale(Build::WithTests)?);
    // nextest knows no doctests.
    tests(report, &["test", "--workspace", "--locked", "--no-fail-fast", "--doc"], libtest_counts)
}

/// Runs tests and counts them by their own words; a failure that they did not count is one more.
fn tests(report: &mut Report, args: &[&str], counts: fn(&str) -> Option<(usize, usize)>) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    let good = cargo_run(args).watch(|line| {
        if let Some((more_passed, more_failed)) = counts(line) {
            passed += more_passed;
            failed += more_failed;
        }
    })?;
    report.passed += passed;
    report.failed += failed;
    if !good && failed == 0 {
        report.fail(format!("cargo {}", args.join(" ")));
    }
    Ok(())
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn libtest_counts(line: &str) -> Option<(usize, usize)> {
    let rest = line.trim().strip_prefix("test result:")?;
    Some((number_before(rest, " passed")?, number_before(rest, " failed")?))
}

/// Reads `Summary [ 1.2s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 0 skipped`.
fn nextest_counts(line: &str) -> Option<(usize, usize)> {
    let (_, rest) = line.trim().strip_prefix("Summary [")?.split_once("run:")?;
    let kinds = [" failed", " timed out", " exec failed"];
    let failed = kinds.iter().filter_map(|kind| number_before(rest, kind)).sum();
    Some((number_before(rest, " passed")?, failed))
}

fn number_before(text: &str, word: &str) -> Option<usize> {
    let head = text.get(..text.find(word)?)?;
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(
            libtest_counts("test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured"),
            Some((3, 1))
        );
        let line = "     Summary [   0.5s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 0 skipped";
        assert_eq!(nextest_counts(line), Some((9, 3)));
        assert_eq!(nextest_counts("     Summary [   0.0s] 1 test run: 1 passed, 0 skipped"), Some((1, 0)));
        assert_eq!(nextest_counts("        PASS [   0.0s] 9 passed"), None);
    }

    #[test]
    fn stages_are_chosen_by_name() {
        let names = |quick, only: &[&str]| -> Option<Vec<&str>> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            Some(choose(quick, &only).ok()?.iter().map(|stage| stage.name).collect())
        };
        assert_eq!(names(true, &[]).unwrap(), ["tidy", "fmt", "clippy", "unit"]);
        assert_eq!(names(false, &["peers", "tidy"]).unwrap(), ["tidy", "peers"]);
        assert_eq!(names(false, &["pears"]), None);
        assert_eq!(names(true, &["peers"]), None);
    }

    #[test]
    fn one_failure_fails_the_whole() {
        let row = |failed| Row {
            name: "x",
            time: Duration::ZERO,
            report: Report { passed: 1, failed, missing: Vec::new() },
        };
        assert_eq!(summary(&[row(0), row(0)]), Verdict::Good);
        assert_eq!(summary(&[row(1), row(0)]), Verdict::Bad);
    }
}
