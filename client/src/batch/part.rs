//! The temporary file beside a target: its name, whether what it holds is a beginning of the source, and
//! how it comes to its name.
//!
//! The suffix is WinSCP's, `.filepart`: what one of the two left, the other continues. A name that has no
//! room for it has no temporary file. A part is continued only after blocks of it, spread over its length
//! and right before the end of what is trusted, were compared with the source.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use session_core::batch::Guarantee;
use session_core::capability::Capabilities;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File, Filesystem, Follow, OpenOptions, Replace};
use session_core::gate::{SessionFile, SessionFs};
use session_core::path::VPath;

use super::pump::{LEAD, read_exactly};
use super::segments::Segment;

const SUFFIX: &[u8] = b".filepart";
const ASIDE: &[u8] = b".replaced";

/// Before it is continued, this many blocks of it are compared with the source: the first, the last, and
/// others evenly between.
const SAMPLES: u64 = 16;

/// The same where each jump in a file is a transfer of its own (FTP).
const FEW: u64 = 4;

/// Bytes of one such block.
pub(super) const SAMPLE: u64 = 16 << 10;

pub(super) fn beside(target: &VPath, suffix: &[u8], max_name: usize) -> Option<VPath> {
    let mut name = target.name().to_vec();
    if name.is_empty() || name.len() + suffix.len() > max_name {
        return None;
    }
    name.extend_from_slice(suffix);
    target.parent().unwrap_or_else(VPath::root).join(name).ok()
}

/// The temporary name of a target, beside it; `None` where the name would be too long.
pub(crate) fn temporary(target: &VPath, max_name: usize) -> Option<VPath> {
    beside(target, SUFFIX, max_name)
}

/// Whether a file that exists can be continued at its end, or anywhere.
pub(super) fn can_continue(capabilities: &Capabilities) -> bool {
    capabilities.random_write || capabilities.continue_write
}

/// What this job knows of a part that it wrote itself, from an attempt before or from its journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The part is ours, and everything before this offset was taken by the target.
    pub(super) known: Option<u64>,
    /// The old file was moved aside and not yet removed.
    pub(super) aside: bool,
    /// The old file went into the bin; where it went while it may have to come back.
    pub(super) recycled: Option<VPath>,
    /// The same of the segments, of a part that has them.
    pub(super) segments: Vec<Segment>,
    /// The unfinished upload that the target keeps, by its words.
    pub(super) upload: Option<Arc<str>>,
    /// What should be known of it.
    pub(super) note: Option<&'static str>,
}

/// A part that can be continued, and from where.
pub(super) struct Continued {
    pub(super) file: Arc<SessionFile>,
    pub(super) begin: u64,
}

/// What an earlier run left under `part`, if it is a beginning of `source`. Errors: the source's; the
/// target's where the connection was lost.
pub(super) async fn interrupted(
    target: &SessionFs,
    part: &VPath,
    source: &dyn File,
    size: u64,
    kept: &Kept,
) -> Result<Option<Continued>> {
    let capabilities = target.capabilities();
    if !can_continue(&capabilities) {
        return Ok(None);
    }
    let there = match target.stat(part, Follow::No).await {
        Ok(m) if m.is_file() && m.size <= size => m.size,
        Err(e) if is_lost(&e) => return Err(e),
        _ => return Ok(None),
    };
    let begin = match kept.known {
        _ if !capabilities.random_write => there,
        Some(known) => known.min(there),
        // Nobody knows what may be missing near its end.
        None => there.saturating_sub(LEAD),
    };
    if begin == 0 {
        return Ok(None);
    }
    let file = match target.open_file(part, &OpenOptions::update()).await {
        Ok(file) => file,
        Err(e) if is_lost(&e) => return Err(e),
        Err(_) => return Ok(None),
    };
    let samples = if capabilities.random_write { SAMPLES } else { FEW };
    match sampled(source, &*file, begin, samples).await? {
        Sampled::Same => return Ok(Some(Continued { file, begin })),
        // Some servers show nobody what is unfinished. What this job wrote itself is its own.
        Sampled::Unreadable if kept.known.is_some() => return Ok(Some(Continued { file, begin })),
        Sampled::Different | Sampled::Unreadable => {}
    }
    file.park().await?;
    Ok(None)
}

/// Whether the connection broke, which says nothing about the files.
pub(super) fn is_lost(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Disconnected | ErrorKind::TimedOut)
}

/// What comparing said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampled {
    Different,
    Same,
    /// The target gives nothing to compare with.
    Unreadable,
}

/// Whether the first `end` bytes look the same on both sides. Errors are the source's, and a lost
/// connection.
async fn sampled(source: &dyn File, target: &dyn File, end: u64, samples: u64) -> Result<Sampled> {
    let step = end.saturating_sub(SAMPLE) / (samples - 1);
    let spread = (0..samples).map(|n| (n * step, (n * step + SAMPLE).min(end)));
    same_at(source, target, spread.chain([(end.saturating_sub(SAMPLE), end)]).collect()).await
}

/// Whether these ranges look the same on both sides. Errors as above.
pub(super) async fn same_at(
    source: &dyn File,
    target: &dyn File,
    ranges: BTreeSet<(u64, u64)>,
) -> Result<Sampled> {
    let compare = |(from, to): (u64, u64)| async move {
        let ours = read_exactly(source, from, to).await?;
        match read_exactly(target, from, to).await {
            Ok(theirs) if theirs == ours => Ok(Sampled::Same),
            Err(e) if is_lost(&e) => Err(e),
            Err(e) if matches!(e.kind(), ErrorKind::Locked | ErrorKind::PermissionDenied) => {
                Ok(Sampled::Unreadable)
            }
            _ => Ok(Sampled::Different),
        }
    };
    let mut samples: FuturesUnordered<_> = ranges.into_iter().map(compare).collect();
    let mut all = Sampled::Same;
    while let Some(one) = samples.next().await {
        match one? {
            Sampled::Same => {}
            Sampled::Different => return Ok(Sampled::Different),
            Sampled::Unreadable => all = Sampled::Unreadable,
        }
    }
    Ok(all)
}

/// Gives a complete part its name, by the best means there is, and says what that promises.
pub(super) async fn publish(
    target: &SessionFs,
    part: &VPath,
    to: &VPath,
    missing: bool,
    kept: &mut Kept,
) -> Result<Guarantee> {
    let capabilities = target.capabilities();
    let guarantee = if capabilities.rename_replaces {
        target.rename(part, to, Replace::Yes).await?;
        Guarantee::AtomicRename
    } else {
        let free = target.rename(part, to, Replace::No).await;
        match free {
            Ok(()) => Guarantee::RenameNew,
            Err(e) if e.kind() == ErrorKind::AlreadyExists && !missing => {
                by_hand(target, part, to, capabilities.max_name, kept).await?
            }
            Err(e) => return Err(e),
        }
    };
    if kept.aside {
        // An attempt before this one was cut between its two renames.
        if let Some(aside) = beside(to, ASIDE, capabilities.max_name) {
            match target.remove_file(&aside).await {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => kept.aside = false,
            }
        }
        return Ok(Guarantee::RenameWindow);
    }
    Ok(guarantee)
}

/// For a target that cannot replace in one step: the old file steps aside, so that at no moment there is
/// neither the old nor the new content.
async fn by_hand(
    target: &SessionFs,
    part: &VPath,
    to: &VPath,
    max_name: usize,
    kept: &mut Kept,
) -> Result<Guarantee> {
    let aside = beside(to, ASIDE, max_name).ok_or_else(|| {
        Error::new(ErrorKind::InvalidPath).with_detail("the name is too long to be replaced")
    })?;
    target.rename(to, &aside, Replace::No).await?;
    kept.aside = true;
    if let Err(e) = target.rename(part, to, Replace::No).await {
        // Put the old one back; the first error is the one to tell.
        if target.rename(&aside, to, Replace::No).await.is_ok() {
            kept.aside = false;
        }
        return Err(e);
    }
    Ok(Guarantee::RenameWindow)
}
