//! The flags of the commands on whole trees: `sync`, `plan`, `apply`, `diff`, `find`, `du`, `touch`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{Limit, Proving, limit};
use crate::mask::{Bounds, FileMask};
use crate::sync::{Conflict, Criteria, Direction, MaxDelete, Renames, Side};

/// Where things go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DirectionArg {
    /// A becomes like B
    #[value(alias = "local")]
    Left,
    /// B becomes like A
    #[value(alias = "remote")]
    Right,
    /// The newer one wins; nothing is removed
    Both,
}

impl From<DirectionArg> for Direction {
    fn from(arg: DirectionArg) -> Self {
        match arg {
            DirectionArg::Left => Direction::To(Side::Left),
            DirectionArg::Right => Direction::To(Side::Right),
            DirectionArg::Both => Direction::Both,
        }
    }
}

/// Names that differ only in case.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum CaseArg {
    /// The same name where one side cannot tell them apart
    Auto,
    /// The same name
    Ignore,
    /// Different names
    Tell,
}

/// What is done about a file that has changed on both sides.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum ConflictArg {
    /// Leave it alone and say so
    Skip,
    /// Ask which one stays
    Ask,
    /// The newer one stays
    Newer,
    /// A's stays
    Left,
    /// B's stays
    Right,
    /// Both stay; B's gets a name of its own
    Both,
}

impl From<ConflictArg> for Conflict {
    fn from(arg: ConflictArg) -> Self {
        match arg {
            ConflictArg::Skip => Conflict::Skip,
            ConflictArg::Ask => Conflict::Ask,
            ConflictArg::Newer => Conflict::Newer,
            ConflictArg::Left => Conflict::Left,
            ConflictArg::Right => Conflict::Right,
            ConflictArg::Both => Conflict::Both,
        }
    }
}

/// How it is found that a file was moved.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RenamesArg {
    /// Not at all: it is copied and removed
    Off,
    /// By what --state knows: size and time
    State,
    /// By digests, where both sides have them without moving the content
    Digest,
}

impl From<RenamesArg> for Renames {
    fn from(arg: RenamesArg) -> Self {
        match arg {
            RenamesArg::Off => Renames::Off,
            RenamesArg::State => Renames::Base,
            RenamesArg::Digest => Renames::Digest,
        }
    }
}

/// What takes part in a comparison and what makes a difference.
#[derive(Args, Clone)]
pub(super) struct Comparison {
    /// What takes part, as '*.txt; docs/ | *.bak; tmp/' or '>1M<2D' (see docs/masks.md)
    #[arg(long, value_name = "MASK", value_parser = mask, default_value = "", hide_default_value = true)]
    pub(super) mask: FileMask,
    /// A file in the manner of .gitignore; what it ignores takes no part
    #[arg(long, value_name = "FILE")]
    pub(super) filter_from: Option<PathBuf>,
    /// Names that differ only in case
    #[arg(long, value_enum, default_value = "auto", value_name = "RULE")]
    pub(super) case: CaseArg,
    /// Seconds to be added to the times of B before they are compared
    #[arg(long, default_value_t = 0, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(super) time_shift: i64,
    /// Times that differ by one hour are the same where sizes are: daylight saving reckoned on one side
    #[arg(long)]
    pub(super) ignore_dst: bool,
}

/// How two places are made alike.
#[derive(Args, Clone)]
pub(super) struct Alike {
    #[command(flatten)]
    pub(super) comparison: Comparison,
    /// Where things go
    #[arg(long, value_enum, default_value = "right", value_name = "WHERE")]
    pub(super) direction: DirectionArg,
    /// What makes two files different: time, size, checksum, several with commas, or none (only what is
    /// missing is copied)
    #[arg(long, value_parser = criteria, default_value = "time", value_name = "LIST")]
    pub(super) criteria: Criteria,
    /// Remove what the source does not have
    #[arg(long)]
    pub(super) delete: bool,
    /// Replace also what is newer at the target
    #[arg(long)]
    pub(super) mirror: bool,
    /// Make nothing new: only what is on both sides is replaced
    #[arg(long)]
    pub(super) existing: bool,
    /// Remove at most so many entries, as 500, 20% or unlimited; beyond, none is removed
    /// [default: 10% or 100, whichever is more; none where the source is empty]
    #[arg(long, value_parser = max_delete, value_name = "N")]
    pub(super) max_delete: Option<MaxDelete>,
    /// Do nothing unless both places have this file: one that is not mounted is not taken for an empty one
    #[arg(long, value_name = "NAME")]
    pub(super) marker: Option<String>,
    /// Rename what was moved instead of copying and removing it (it counts with --max-delete)
    #[arg(long, value_enum, default_value = "off", value_name = "HOW")]
    pub(super) renames: RenamesArg,
    /// Keep what is replaced or removed there, on the same side
    #[arg(long, value_name = "DIR")]
    pub(super) backup_dir: Option<String>,
}

/// How files are copied.
#[derive(Args, Clone)]
pub(super) struct Copying {
    /// Files of some size at once; eight times as many small ones
    #[arg(short = 'P', long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) parallel: u16,
    /// Move at most this much a second, both ways together: 500K, 2M (powers of 1024), off; or by the time of
    /// the week: '08:00,512K 18:00,off', 'Mon-08:00,1M Fri-18:00,off'
    #[arg(long, default_value = "off", value_name = "RATE|TIMETABLE", value_parser = limit)]
    pub(super) limit: Limit,
    /// Start interrupted files anew
    #[arg(long)]
    pub(super) no_resume: bool,
    /// Do not keep permission bits
    #[arg(long)]
    pub(super) no_modes: bool,
    /// Files that match, as '*.txt; *.csv', are text: over FTP each side gets its own ends of line. Their sizes
    /// differ then, so '--criteria size' would copy them each time
    #[arg(long, value_name = "MASK", value_parser = mask)]
    pub(super) ascii_mask: Option<FileMask>,
    /// Write under the final name from the start
    #[arg(long)]
    pub(super) no_temporary: bool,
    #[command(flatten)]
    pub(super) proving: Proving,
    /// Stop at the first failure
    #[arg(long)]
    pub(super) fail_fast: bool,
    /// Go on after a failure: what is done anyway, unless --fail-fast stands before it
    #[arg(long = "keep-going", overrides_with = "fail_fast")]
    pub(super) _keep_going: bool,
}

/// `sync`.
#[derive(Args)]
pub(super) struct Sync {
    #[command(flatten)]
    pub(super) alike: Alike,
    #[command(flatten)]
    pub(super) copying: Copying,
    /// With --direction both: keep in this file what both places have in common, so that the next run knows
    /// what was removed and what has changed on both sides
    #[arg(long, value_name = "FILE")]
    pub(super) state: Option<PathBuf>,
    /// With --state: what is done about a file that has changed on both sides
    #[arg(long, value_enum, default_value = "skip", value_name = "HOW", requires = "state")]
    pub(super) conflict: ConflictArg,
    /// Keep no journal: a run that is killed cannot be continued with 'ferry resume'
    #[arg(long)]
    pub(super) no_journal: bool,
    /// Only show what would be done
    #[arg(short = 'n', long, visible_alias = "preview")]
    pub(super) dry_run: bool,
    /// A: a local path or a URL
    #[arg(value_name = "A")]
    pub(super) left: String,
    /// B: a local path or a URL
    #[arg(value_name = "B")]
    pub(super) right: String,
}

/// `plan`.
#[derive(Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) alike: Alike,
    /// A: a local path or a URL
    #[arg(value_name = "A")]
    pub(super) left: String,
    /// B: a local path or a URL
    #[arg(value_name = "B")]
    pub(super) right: String,
}

/// `apply`.
#[derive(Args)]
pub(super) struct Apply {
    #[command(flatten)]
    pub(super) copying: Copying,
    /// Keep no journal: a run that is killed cannot be continued with 'ferry resume'
    #[arg(long)]
    pub(super) no_journal: bool,
    /// Look at what has changed since, show what would be done, and change nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// The plan; '-' is the standard input
    #[arg(value_name = "PLAN")]
    pub(super) plan: PathBuf,
}

/// `watch`.
#[derive(Args)]
pub(super) struct Watch {
    #[command(flatten)]
    pub(super) alike: Alike,
    #[command(flatten)]
    pub(super) copying: Copying,
    /// Let changes settle: wait until nothing more has changed for so many milliseconds
    #[arg(long, default_value_t = 500, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(1..=600_000))]
    pub(super) settle: u32,
    /// Leave what differs already; begin with what changes from now on
    #[arg(long)]
    pub(super) no_initial: bool,
    /// Compare both places every so many seconds, too; needed where what changes is not on a disk of this machine
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) poll: Option<u64>,
    /// A: a local path or a URL
    #[arg(value_name = "A")]
    pub(super) left: String,
    /// B: a local path or a URL; made where it is missing
    #[arg(value_name = "B")]
    pub(super) right: String,
}

/// `diff`.
#[derive(Args)]
pub(super) struct Diff {
    #[command(flatten)]
    pub(super) comparison: Comparison,
    /// What makes two files different: time, size, checksum, several with commas
    #[arg(long, value_parser = criteria, default_value = "time,size", value_name = "LIST")]
    pub(super) criteria: Criteria,
    /// A: a local path or a URL
    #[arg(value_name = "A")]
    pub(super) left: String,
    /// B: a local path or a URL
    #[arg(value_name = "B")]
    pub(super) right: String,
}

/// Which kind of entry.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KindArg {
    /// Files
    #[value(alias = "f")]
    File,
    /// Directories
    #[value(alias = "d")]
    Directory,
    /// Symbolic links
    #[value(alias = "l")]
    Link,
}

/// `find`.
#[derive(Args)]
pub(super) struct Find {
    /// Names that match one of these masks, files and directories alike, as '*.txt; *.html | a*'
    #[arg(long, value_name = "MASK", value_parser = mask)]
    pub(super) name: Option<FileMask>,
    /// Search only where this mask leads, as '|.git/; *.tmp'
    #[arg(long, value_name = "MASK", value_parser = mask, default_value = "", hide_default_value = true)]
    pub(super) mask: FileMask,
    /// Only entries of this kind
    #[arg(long = "type", value_enum, value_name = "KIND")]
    pub(super) kind: Option<KindArg>,
    /// Only files of such a size, as '>1M' or '>=10K<2G'
    #[arg(long, value_name = "BOUNDS", value_parser = bounds)]
    pub(super) size: Option<Bounds>,
    /// Only what was changed since: 2012-01-01, '2012-01-01 08:47', an age as 5D (Y D H N S), today
    #[arg(long, value_name = "TIME", value_parser = newer)]
    pub(super) newer: Option<Bounds>,
    /// Only what was not changed since
    #[arg(long, value_name = "TIME", value_parser = older)]
    pub(super) older: Option<Bounds>,
    /// At most this deep; 1 is what the place holds itself
    #[arg(long, value_name = "LEVELS")]
    pub(super) max_depth: Option<usize>,
    /// End each path with a NUL instead of a line
    #[arg(short = '0', long)]
    pub(super) print0: bool,
    /// Local paths or URLs
    #[arg(value_name = "PLACE", default_value = ".")]
    pub(super) places: Vec<String>,
}

/// `du`.
#[derive(Args)]
pub(super) struct Du {
    /// Show directories down to this depth
    #[arg(short = 'd', long, default_value_t = 0, value_name = "LEVELS")]
    pub(super) depth: usize,
    /// Bytes as plain numbers
    #[arg(short, long)]
    pub(super) bytes: bool,
    /// What is counted
    #[arg(long, value_name = "MASK", value_parser = mask, default_value = "", hide_default_value = true)]
    pub(super) mask: FileMask,
    /// Local paths or URLs
    #[arg(value_name = "PLACE", default_value = ".")]
    pub(super) places: Vec<String>,
}

/// `touch`.
#[derive(Args)]
pub(super) struct Touch {
    /// This time instead of now: 2012-01-01, '2012-01-01 08:47:30' (local), 2012-01-01T08:47:30Z, an age
    /// as 5D, today
    #[arg(short, long, value_name = "TIME", value_parser = moment, conflicts_with = "reference")]
    pub(super) time: Option<std::time::SystemTime>,
    /// The time of this place
    #[arg(short, long, value_name = "PLACE")]
    pub(super) reference: Option<String>,
    /// Make no files
    #[arg(short = 'c', long)]
    pub(super) no_create: bool,
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

fn mask(text: &str) -> Result<FileMask, String> {
    FileMask::parse(text).map_err(|e| e.to_string())
}

fn bounds(text: &str) -> Result<Bounds, String> {
    Bounds::parse(text).map_err(|e| e.to_string())
}

fn newer(text: &str) -> Result<Bounds, String> {
    Bounds::parse(&format!(">={text}")).map_err(|e| e.to_string())
}

fn older(text: &str) -> Result<Bounds, String> {
    Bounds::parse(&format!("<{text}")).map_err(|e| e.to_string())
}

fn moment(text: &str) -> Result<std::time::SystemTime, String> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Ok(timestamp.into());
    }
    crate::mask::moment(text).map_err(|e| e.to_string())
}

fn criteria(text: &str) -> Result<Criteria, String> {
    Criteria::parse(text).map_err(|e| format!("{e:#}"))
}

fn max_delete(text: &str) -> Result<MaxDelete, String> {
    MaxDelete::parse(text).map_err(|e| format!("{e:#}"))
}
