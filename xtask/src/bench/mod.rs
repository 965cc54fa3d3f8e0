//! `cargo xtask bench`: ours and theirs side by side in one run, as ratios, each with its bar.
//!
//! A table of scenarios; most are pairs of jobs ([`job`]) that are run in turn, A B A B …, at least five
//! times, and up to fifteen where the bar lies within the spread. Rows say what came out ([`row`]); the link
//! with a long round trip is ours ([`proxy`]) and checks itself first; CPU and memory come from `/proc`
//! ([`meter`]). What is no pair of transfers stands in [`special`], what only ours does in [`live`].
//! Absolute figures are those of this machine at this hour: only ratios of one run mean something.

mod commands;
mod data;
pub(crate) mod floor;
mod gateways;
mod hooked;
mod job;
mod live;
mod meter;
mod parties;
mod proxy;
mod row;
mod scenarios;
mod sink;
mod special;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Verdict;
use crate::fault::{Result, While, ensure};
use crate::flags::Flags;
use crate::peers;
use crate::process::Run;
use crate::repo;
use job::{Ground, Job, Sample, Sizes, Task};
use parties::Server;
use row::{Cpu, Row, Spread};
use scenarios::{Measure, SCENARIOS, Scenario};

pub(crate) const USAGE: &str =
    "cargo xtask bench [--only NAME,…] [--pairs N] [--json FILE] [--programs DIR] [--quick] [--list]

Builds ferryd and ferry (release), installs the peers, and runs ours and theirs in turn.
  --only NAME   only scenarios whose name contains NAME
  --pairs N     at least so many pairs (5); where the bar lies within the spread, up to 15
  --json FILE   writes one line per row
  --programs D  measures the ferry and ferryd of this folder, and builds none
  --quick       small sizes and 3 pairs, for development; such figures prove nothing
  --list        prints the scenarios

Exit status: 0 if every bar that was asked for holds. A row whose peer falls below 60 % of what it is known
to reach is void and does not hold: measure on a machine that has nothing else to do. A whole run takes about
half an hour.";

/// Pairs at most.
const MOST_PAIRS: usize = 15;

const FULL: Sizes = Sizes {
    big: 1 << 30,
    far_big: 256 << 20,
    huge: 4 << 30,
    mixed: 1 << 30,
    same: 100_000,
    many: 1_000_000,
    files: 10_000,
    dirs: 100,
    far_files: 500,
    far_files_theirs: 100,
    entries: 100_000,
    idle: 1_000,
    idle_theirs: 100,
    crowd: 10_000,
    ended: 400,
    sparse: 20 << 30,
    sparse_up: 4 << 30,
    idle_wait: Duration::from_secs(60),
    logins: 48,
};

const QUICK: Sizes = Sizes {
    big: 128 << 20,
    far_big: 32 << 20,
    huge: 256 << 20,
    mixed: 64 << 20,
    same: 5_000,
    many: 20_000,
    files: 1_000,
    dirs: 10,
    far_files: 100,
    far_files_theirs: 20,
    entries: 10_000,
    idle: 100,
    idle_theirs: 20,
    crowd: 500,
    ended: 60,
    sparse: 1 << 30,
    sparse_up: 256 << 20,
    idle_wait: Duration::from_secs(3),
    logins: 12,
};

/// A run of the bench.
struct Bench {
    ground: Ground,
    pairs: usize,
    is_quick: bool,
}

pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let is_quick = flags.flag("--quick");
    let list = flags.flag("--list");
    let pairs: Option<usize> = flags.value("--pairs")?;
    let json: Option<PathBuf> = flags.value("--json")?;
    let only = flags.list("--only")?;
    let programs: Option<PathBuf> = flags.value("--programs")?;
    flags.end()?;
    if list {
        for scenario in SCENARIOS {
            println!("{:<20} {}", scenario.name, scenario.about);
        }
        return Ok(Verdict::Good);
    }
    let pairs = pairs.unwrap_or(if is_quick { 3 } else { 5 });
    ensure!((1..=MOST_PAIRS).contains(&pairs), "--pairs is 1 to {MOST_PAIRS}");
    let scenarios: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| only.is_empty() || only.iter().any(|part| scenario.name.contains(part.as_str())))
        .collect();
    ensure!(!scenarios.is_empty(), "no scenario has {} in its name", only.join(" or "));
    let mut file = match &json {
        Some(path) => Some(std::fs::File::create(path).doing(|| format!("making {}", path.display()))?),
        None => None,
    };
    let ssh = ["openssh", "sshd", "rclone", "lftp", "curl", "asyncssh"];
    peers::install(&[&ssh[..], &["vsftpd", "pure-ftpd", "proftpd", "apache2", "nginx", "s5cmd"]].concat())?;
    if scenarios.iter().any(|scenario| scenario.needs(Server::S3sFs)) {
        peers::servers::ensure_s3s_fs()?;
    }
    let (ferry, ferryd) = match programs {
        Some(dir) => {
            let found = |name: &str| Some(dir.join(name)).filter(|program| program.is_file());
            (found("ferry"), found("ferryd"))
        }
        None => build()?,
    };
    let sizes = if is_quick { QUICK } else { FULL };
    let mut bench = Bench { ground: Ground::new(sizes, ferry, ferryd)?, pairs, is_quick };
    let start = Instant::now();
    let mut rows = Vec::new();
    for scenario in scenarios {
        println!("\n=== {}: {}", scenario.name, scenario.about);
        let row = bench.measure(scenario);
        println!("{}\n{}", row::head(), row.line());
        if let Some(file) = &mut file {
            writeln!(file, "{}", row.json(is_quick)).doing(|| "writing the rows".to_owned())?;
        }
        rows.push(row);
    }
    println!(
        "\n=== in {:.0} s{}",
        start.elapsed().as_secs_f64(),
        if is_quick { ", QUICK: proves nothing" } else { "" }
    );
    println!("{}", row::head());
    for row in &rows {
        println!("{}", row.line());
        if !row.note.is_empty() {
            println!("    {}", row.note);
        }
    }
    let missed = rows.iter().filter(|row| row.holds() == Some(false)).count();
    println!("{} bars hold, {missed} do not", rows.iter().filter(|row| row.holds() == Some(true)).count());
    Ok(Verdict::from_faults(missed))
}

/// Builds ours as a new user does; `None` for a program that the workspace does not have yet.
fn build() -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    let built = Run::new(repo::cargo())
        .args(["build", "--release", "--locked", "-p", "client", "-p", "server"])
        .dir(repo::root())
        .watch(|_| {})?;
    ensure!(built, "ferryd and ferry do not build");
    let dir = repo::target_dir()?.join("release");
    let program = |name: &str, package: &str| -> Result<Option<PathBuf>> {
        let sources = ["src/main.rs".to_owned(), format!("src/bin/{name}.rs")];
        if !sources.iter().any(|file| repo::root().join(package).join(file).exists()) {
            return Ok(None);
        }
        let path = dir.join(name);
        ensure!(path.is_file(), "building made no {}", path.display());
        Ok(Some(path))
    };
    Ok((program("ferry", "client")?, program("ferryd", "server")?))
}

impl Bench {
    /// Measures one scenario. What fails becomes a row that does not hold, so that one fault does not lose
    /// the other rows.
    fn measure(&mut self, scenario: &Scenario) -> Row {
        let result = match &scenario.measure {
            Measure::Pair { ours, theirs, known } => self.pair(scenario, *ours, *theirs, *known),
            Measure::Special(measure) => measure(self, scenario),
        };
        result.unwrap_or_else(|fault| {
            println!("    {fault}");
            self.row(scenario, "ferry", "-", "-", format!("not measured: {fault}"))
        })
    }

    /// A row with nothing measured yet.
    fn row(&self, scenario: &Scenario, subject: &str, peer: &str, unit: &'static str, note: String) -> Row {
        Row {
            scenario: scenario.name,
            subject: subject.to_owned(),
            peer: peer.to_owned(),
            ours: None,
            theirs: None,
            unit,
            ratio: None,
            bar: scenario.bar,
            known: None,
            cpu: None,
            pairs: 0,
            note,
        }
    }

    fn pair(&mut self, scenario: &Scenario, ours: Job, theirs: Job, known: f64) -> Result<Row> {
        self.ground.can(ours)?;
        let unit = match ours.task {
            task if task.is_bulk() => "MB/s",
            Task::List => "entries/s",
            _ => "files/s",
        };
        let mut row = self.row(scenario, "", "", unit, String::new());
        row.known = (!self.is_quick).then_some(known);
        self.in_turn(&mut row, |ground| ground.run(ours), |ground| ground.run(theirs))?;
        let name = |job: Job| format!("{} with {}", self.ground.shown(job), job.server.name());
        (row.subject, row.peer) = (name(ours), name(theirs));
        Ok(row)
    }

    /// Runs both in turn and fills the row's numbers.
    fn in_turn(
        &mut self,
        row: &mut Row,
        mut ours: impl FnMut(&mut Ground) -> Result<Sample>,
        mut theirs: impl FnMut(&mut Ground) -> Result<Sample>,
    ) -> Result<()> {
        let mut samples: Vec<(Sample, Sample)> = Vec::new();
        loop {
            let pair = (ours(&mut self.ground)?, theirs(&mut self.ground)?);
            println!("    {:>2}. {}", samples.len() + 1, described(pair, row.unit));
            samples.push(pair);
            row.pairs = samples.len();
            row.ours = Spread::of(samples.iter().map(|(ours, _)| ours.rate));
            row.theirs = Spread::of(samples.iter().map(|(_, theirs)| theirs.rate));
            row.ratio = Spread::of(samples.iter().map(|(ours, theirs)| ours.rate / theirs.rate));
            let ours = middle(samples.iter().map(|(ours, _)| *ours));
            let theirs = middle(samples.iter().map(|(_, theirs)| *theirs));
            row.cpu = ours.zip(theirs);
            let is_enough = samples.len() >= self.pairs && (self.is_quick || !row.is_close());
            if is_enough || samples.len() >= MOST_PAIRS {
                return Ok(());
            }
        }
    }
}

fn described((ours, theirs): (Sample, Sample), unit: &str) -> String {
    let one = |sample: Sample| {
        format!("{} (cpu {:.2} + {:.2} s)", row::shown(sample.rate), sample.client, sample.server)
    };
    format!("{} to {} {unit}, ratio {:.2}", one(ours), one(theirs), ours.rate / theirs.rate)
}

fn middle(samples: impl Iterator<Item = Sample> + Clone) -> Option<Cpu> {
    let client = Spread::of(samples.clone().map(|sample| sample.client))?.median;
    let server = Spread::of(samples.map(|sample| sample.server))?.median;
    Some(Cpu { client, server })
}
