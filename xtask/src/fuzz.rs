//! `cargo xtask fuzz`: coverage-guided fuzzing by libFuzzer, on the stable toolchain.
//!
//! A fuzz crate is a folder `*/fuzz` outside the workspace whose `[[bin]]`s are the targets. Stable rustc
//! instruments them when LLVM's pass is asked for by name. New inputs go to the target folder; only what a
//! person copies into `fuzz/corpus/TARGET` is kept. Not here: minimising, sanitizers, coverage reports.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use toml::{Table, Value};

use crate::Verdict;
use crate::fault::{Fault, Result, While, bail, ensure};
use crate::flags::Flags;
use crate::install::ensure_debian;
use crate::process::{Run, find_program};
use crate::repo;
use crate::report::Report;

pub(crate) const USAGE: &str = "cargo xtask fuzz [TARGET] [--seconds N] [--list]

Builds the fuzz targets and runs one, or all of them one after the other.
  --seconds N   how long each runs (default 60)
  --list        prints the targets

An input that breaks something is kept in the folder `artifacts` of the target's crate; its path is
printed. To look at one again, run the built target with that file as its argument.";

/// How long each target runs inside `cargo xtask test`.
const SHORT: u64 = 5;
const BUILD: Duration = Duration::from_secs(1800);
/// An input that takes longer (seconds) or more memory (MiB) than this is a fault.
const SLOWEST: u64 = 10;
const MEMORY: u64 = 1024;
/// Naming the target keeps build scripts and macros from being instrumented.
const TRIPLE: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// What makes stable rustc instrument for libFuzzer, with the checks of a debug build left on.
const INSTRUMENT: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on \
    -Coverflow-checks=on";

/// A fuzz crate with its targets.
struct Crate {
    dir: PathBuf,
    targets: Vec<String>,
}

pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let wanted = flags.positional();
    let seconds = flags.value("--seconds")?.unwrap_or(60);
    let list = flags.flag("--list");
    flags.end()?;
    let mut crates = discover(&repo::root())?;
    if list {
        crates.iter().flat_map(|found| &found.targets).for_each(|target| println!("{target}"));
        return Ok(Verdict::Good);
    }
    if let Some(wanted) = wanted {
        crates.iter_mut().for_each(|found| found.targets.retain(|target| *target == wanted));
        crates.retain(|found| !found.targets.is_empty());
        ensure!(!crates.is_empty(), "no fuzz target `{wanted}`; `cargo xtask fuzz --list` prints them");
    }
    let mut report = Report::default();
    run_all(&crates, seconds, &mut report)?;
    Ok(Verdict::from_faults(report.failed))
}

/// A short run of every target.
pub(crate) fn stage(report: &mut Report) -> Result<()> {
    let crates = discover(&repo::root())?;
    if crates.is_empty() {
        println!("no fuzz targets");
        if repo::root().join("proto-sftp/src/wire").exists() {
            report.fail("there are parsers in proto-sftp/src/wire, and no fuzz target");
        }
        return Ok(());
    }
    run_all(&crates, SHORT, report)
}

fn discover(root: &Path) -> Result<Vec<Crate>> {
    let mut crates = Vec::new();
    let entries = std::fs::read_dir(root).doing(|| format!("listing {}", root.display()))?;
    for entry in entries.flatten() {
        let dir = entry.path().join("fuzz");
        let Ok(text) = std::fs::read_to_string(dir.join("Cargo.toml")) else { continue };
        let manifest: Table = text.parse().doing(|| format!("reading {}/Cargo.toml", dir.display()))?;
        let bins = manifest.get("bin").and_then(Value::as_array).into_iter().flatten();
        let names = bins.filter_map(|bin| bin.get("name").and_then(Value::as_str));
        let targets: Vec<String> = names.map(str::to_owned).collect();
        ensure!(!targets.is_empty(), "{}/Cargo.toml has no [[bin]]", dir.display());
        crates.push(Crate { dir, targets });
    }
    crates.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(crates)
}

fn run_all(crates: &[Crate], seconds: u64, report: &mut Report) -> Result<()> {
    if find_program("c++").is_none() {
        // libFuzzer itself is C++.
        if let Err(fault) = ensure_debian(&["g++"]) {
            report.lack(format!("fuzz targets: no C++ compiler: {fault}"));
            return Ok(());
        }
    }
    let built = repo::target_dir()?.join("fuzz");
    let at_a_time = thread::available_parallelism().map_or(1, NonZero::get);
    for found in crates {
        if let Err(fault) = build(found, &built) {
            report.fail(fault);
            continue;
        }
        // Each has one thread.
        for targets in found.targets.chunks(at_a_time) {
            let done: Vec<Result<String>> = thread::scope(|scope| {
                let mut runs = Vec::with_capacity(targets.len());
                for target in targets {
                    runs.push(scope.spawn(|| execute(found, target, &built, seconds)));
                }
                let panicked = |_| Err(Fault::new("the run of a target panicked"));
                runs.into_iter().map(|run| run.join().unwrap_or_else(panicked)).collect()
            });
            for (target, done) in targets.iter().zip(done) {
                match done {
                    Ok(said) => {
                        println!("  {target}: {said}");
                        report.pass();
                    }
                    Err(fault) => report.fail(fault),
                }
            }
        }
    }
    Ok(())
}

fn build(found: &Crate, built: &Path) -> Result<()> {
    println!("building {}", found.dir.display());
    let mut run = Run::new(repo::cargo())
        .args(["build", "--release", "--quiet", "--bins", "--target", TRIPLE, "--target-dir"])
        .arg(built)
        .dir(&found.dir)
        .env("RUSTFLAGS", INSTRUMENT)
        // What is quicker to run is slower to build: five seconds of each are not worth minutes.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .without_env("CARGO_ENCODED_RUSTFLAGS")
        .limit(BUILD);
    if found.dir.join("Cargo.lock").exists() {
        run = run.arg("--locked");
    }
    run.finish()?.succeeded().map(drop)
}

/// Runs one target; returns what libFuzzer reached.
fn execute(found: &Crate, target: &str, built: &Path, seconds: u64) -> Result<String> {
    let fresh = built.join("corpus").join(target);
    let artifacts = found.dir.join("artifacts").join(target);
    for dir in [&fresh, &artifacts] {
        std::fs::create_dir_all(dir).doing(|| format!("making {}", dir.display()))?;
    }
    let mut run = Run::new(built.join(TRIPLE).join("release").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOWEST}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .arg(&fresh)
        .limit(Duration::from_secs(seconds * 2 + 120));
    let committed = found.dir.join("corpus").join(target);
    if committed.is_dir() {
        run = run.arg(committed);
    }
    let done = run.finish()?.succeeded()?;
    let executed = stat(&done.stderr, "stat::number_of_executed_units:");
    // A target that was built without instrumentation runs too, and finds nothing.
    if executed == 0 || !done.stderr.contains("cov: ") {
        bail!("{target} ran without coverage or not at all:\n{}", done.stderr);
    }
    let coverage = done.stderr.lines().rev().find_map(|line| line.split_once("cov: "));
    let coverage = coverage.and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("?");
    Ok(format!("{executed} runs in {seconds} s, {coverage} edges"))
}

fn stat(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{TempDir, write};

    #[test]
    fn fuzz_crates_are_found_by_their_manifest() {
        let root = TempDir::new("fuzz").unwrap();
        std::fs::create_dir_all(root.join("p/fuzz")).unwrap();
        std::fs::create_dir_all(root.join("q/src")).unwrap();
        write(&root.join("p/fuzz/Cargo.toml"), "[[bin]]\nname = 'a'\n[[bin]]\nname = 'b'\n").unwrap();
        let crates = discover(&root.join("")).unwrap();
        assert_eq!(crates.len(), 1);
        assert_eq!(crates[0].targets, ["a", "b"]);
        write(&root.join("p/fuzz/Cargo.toml"), "[package]\n").unwrap();
        assert!(discover(&root.join("")).is_err());
    }

    #[test]
    fn what_libfuzzer_counted_is_read() {
        assert_eq!(stat("x\nstat::number_of_executed_units: 42\n", "stat::number_of_executed_units:"), 42);
    }
}
