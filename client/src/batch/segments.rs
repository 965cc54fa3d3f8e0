//! A large file in several segments at once, each read by a handle of its own, which a pool of connections
//! spreads over all it has.
//!
//! What was moved has gaps then, so it stands under a name of its own (`NAME.segments.filepart`): nobody, WinSCP
//! included, shall take it for a beginning. How far each segment is, the journal knows, or this run; where
//! neither does, the file is begun anew. The one handle of the target is closed when every segment is in.
//!
//! Not here: files that were begun in one piece (they are continued so), and those whose digest has to be
//! computed while they come from elsewhere, which needs them in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use session_core::batch::{Resume, TransferOptions, Verify};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File, Filesystem, Follow, OpenOptions};
use session_core::gate::SessionFile;
use session_core::metadata::Metadata;
use session_core::path::VPath;

use super::copy::{Copied, Copy, Moved, Reached, Told};
use super::given::keep_owner;
use super::part::{Kept, SAMPLE, Sampled, beside, is_lost, same_at};
use super::pump::{LEAD, Pump};
use super::verify::is_local;

const SUFFIX: &[u8] = b".segments.filepart";

/// The most segments of a file.
pub(super) const MOST: u64 = 16;

/// One segment: from where to where, and before which offset the target has everything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) known: u64,
}

/// The segments of a file of `size` bytes; `None` where it is too small for two.
pub(super) fn plan(size: u64, options: &TransferOptions) -> Option<Vec<Segment>> {
    let most = u64::try_from(options.segments).unwrap_or(MOST).min(MOST);
    let count = (size / options.segment_size.max(1)).min(most);
    if count < 2 {
        return None;
    }
    let cut = |n: u64| if n == count { size } else { size / count * n };
    Some((0..count).map(|n| Segment { begin: cut(n), end: cut(n + 1), known: cut(n) }).collect())
}

/// Whether segments are those of a whole file of `size` bytes.
fn is_whole(segments: &[Segment], size: u64) -> bool {
    let mut at = 0;
    for s in segments {
        if s.begin != at || s.end <= s.begin || !(s.begin..=s.end).contains(&s.known) {
            return false;
        }
        at = s.end;
    }
    at == size
}

impl Copy<'_> {
    /// The segments in which the file goes; `None` for one piece, by way of `part`. Errors: a
    /// lost connection.
    pub(super) async fn segments(&self, part: &VPath, kept: &Kept) -> Result<Option<Vec<Segment>>> {
        let size = self.metadata.size;
        let Some(fresh) = plan(size, self.options) else { return Ok(None) };
        if self.text {
            return Ok(None);
        }
        let in_order = self.options.digest.is_some() || self.options.verify == Verify::Strict;
        if !self.target.capabilities().random_write || (in_order && !is_local(self.source)) {
            return Ok(None);
        }
        if self.options.resume != Resume::Off {
            match self.target.stat(part, Follow::No).await {
                // It was begun in one piece.
                Ok(m) if m.is_file() && m.size > 0 => return Ok(None),
                Err(e) if is_lost(&e) => return Err(e),
                _ => {}
            }
        }
        let known = match (&kept.segments, self.entry) {
            (known, _) if !known.is_empty() => known.clone(),
            (_, Some(entry)) => entry.segments(is_local(self.target)),
            _ => Vec::new(),
        };
        let resumed = self.options.resume != Resume::Off && is_whole(&known, size);
        Ok(Some(if resumed { known } else { fresh }))
    }

    /// Copies in segments. `Ok(None)`: it cannot be, nothing was done.
    pub(super) async fn segmented(
        &self,
        mut segments: Vec<Segment>,
        kept: &mut Kept,
    ) -> Result<Option<Copied>> {
        let size = self.metadata.size;
        let Some(part) = beside(self.to, SUFFIX, self.target.capabilities().max_name) else {
            return Ok(None);
        };
        let (old, source) = tokio::join!(self.old(), self.open_source());
        let (source, old) = (source?, old?);
        if old.as_ref().is_some_and(Metadata::is_symlink) {
            return Ok(None);
        }
        let old = old.filter(Metadata::is_file);
        let target = match self.continued(&part, &*source, &segments).await? {
            Some(target) => target,
            None => {
                for s in &mut segments {
                    s.known = s.begin;
                }
                kept.segments.clear();
                let create = self.create_options(OpenOptions::create(), old.as_ref());
                match self.target.open_file(&part, &create).await {
                    Ok(target) => target,
                    Err(e) if is_lost(&e) || e.kind() == ErrorKind::NoSpace => return Err(e),
                    // The way in one piece knows what to do about it.
                    Err(_) => return Ok(None),
                }
            }
        };
        if let Some(entry) = self.entry {
            entry.begun(0).await;
            for s in &segments {
                entry.segment(s).await;
            }
        }
        self.item.at(segments.iter().map(|s| s.known - s.begin).sum());
        // Fewer handles than segments is no failure: some segments wait for their turn then.
        let others = join_all((1..segments.len()).map(|_| self.open_source())).await;
        let mut sources = vec![source];
        for other in others {
            match other {
                Err(e) if is_lost(&e) => return Err(e),
                other => sources.extend(other.ok()),
            }
        }
        let first = sources.first().filter(|_| self.is_told_by_time()).cloned();
        let pump = self.pump_segments(&sources, &*target, &segments, kept);
        let (before, pumped) = self.watched(first.as_deref().map(|f| f as &dyn File), pump).await;
        pumped?;
        if let (Some(first), Some(before)) = (&first, before?) {
            self.unchanged(&**first, &before).await?;
        }
        let new = self.commit(&*target, size, old.as_ref()).await?;
        keep_owner(self.target, &part, old.as_ref(), &new).await;
        let digest = match self.streams() {
            Some(algorithm) if is_local(self.source) => {
                let value = crate::hash::read(self.source, self.from, algorithm).await?;
                Some(session_core::batch::Digest { algorithm, value })
            }
            _ => None,
        };
        self.check_and_publish(&part, Moved { size, digest }, target.operation(), kept).await.map(Some)
    }

    /// The part that an earlier attempt or run left, if what is known of it looks right.
    async fn continued(
        &self,
        part: &VPath,
        source: &dyn File,
        segments: &[Segment],
    ) -> Result<Option<Arc<SessionFile>>> {
        let begun = segments.iter().filter(|s| s.known > s.begin);
        let Some(furthest) = begun.clone().map(|s| s.known).max() else { return Ok(None) };
        match self.target.stat(part, Follow::No).await {
            Ok(m) if m.is_file() && (furthest..=self.metadata.size).contains(&m.size) => {}
            Err(e) if is_lost(&e) => return Err(e),
            _ => return Ok(None),
        }
        let file = match self.target.open_file(part, &OpenOptions::update()).await {
            Ok(file) => file,
            Err(e) if is_lost(&e) => return Err(e),
            Err(_) => return Ok(None),
        };
        let ranges: BTreeSet<(u64, u64)> = begun
            .flat_map(|s| {
                let last = s.known.saturating_sub(SAMPLE).max(s.begin);
                [(s.begin, (s.begin + SAMPLE).min(s.known)), (last, s.known)]
            })
            .collect();
        if same_at(source, &*file, ranges).await? == Sampled::Same {
            return Ok(Some(file));
        }
        file.park().await?;
        Ok(None)
    }

    async fn pump_segments(
        &self,
        sources: &[Arc<SessionFile>],
        target: &dyn File,
        segments: &[Segment],
        kept: &mut Kept,
    ) -> Result<()> {
        let lead = LEAD / sources.len().max(1) as u64;
        let accounts: Vec<Reached<'_>> =
            segments.iter().map(|s| Reached::new(s.known, self.entry, Told::Segment(*s))).collect();
        let work: Vec<_> = segments.iter().zip(&accounts).collect();
        // Each handle has the segments that fall to it, one after the other.
        let lanes = sources.iter().enumerate().map(|(lane, source)| {
            let mine = work.iter().skip(lane).step_by(sources.len());
            async move {
                for (s, account) in mine {
                    let pump = Pump {
                        source: &**source,
                        target,
                        size: s.end,
                        shift: 0,
                        item: self.item,
                        limiter: self.limiter,
                        settles: self.target.capabilities().random_write,
                        // Its part has gaps by nature, and a name that says so.
                        in_order: false,
                        lead,
                        account: *account,
                    };
                    pump.run(s.known, None).await?;
                    target.settle().await?;
                    account.ended(s.end).await;
                }
                Ok::<_, Error>(())
            }
        });
        let moved = try_join_all(lanes).await;
        kept.segments = segments
            .iter()
            .zip(&accounts)
            .map(|(s, account)| Segment { known: account.known(), ..*s })
            .collect();
        moved.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_the_whole_file() {
        let options =
            |segments, segment_size| TransferOptions { segments, segment_size, ..Default::default() };
        for (size, segments, segment_size, count) in
            [(100, 4, 10, 4), (101, 4, 30, 3), (7, 7, 1, 7), (1000, 100, 1, 16), (u64::MAX, 3, 1, 3)]
        {
            let plan = plan(size, &options(segments, segment_size)).unwrap();
            assert_eq!(plan.len(), count, "{size}");
            assert!(is_whole(&plan, size) && !is_whole(&plan, size - 1) && !is_whole(&plan[1..], size));
        }
        for (size, segments, segment_size) in [(100, 1, 10), (100, 0, 10), (19, 4, 10), (0, 4, 0), (1, 4, 0)]
        {
            assert_eq!(plan(size, &options(segments, segment_size)), None, "{size}");
        }
        let odd = |known| vec![Segment { begin: 0, end: 5, known }];
        assert!(is_whole(&odd(5), 5) && !is_whole(&odd(6), 5) && !is_whole(&[], 5));
    }
}
