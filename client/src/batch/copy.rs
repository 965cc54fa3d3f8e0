//! One file from a source to a target: which way it goes, and what is set and checked at its end.
//!
//! A file of some size, and any that replaces another, goes to a temporary name first ([`super::part`]) and is
//! checked there, so that what fails a check never stands under the final name and nothing old is lost to it. A
//! small new one, one whose target is a link or whose directory takes no new names is written in place. A copy that
//! failed may be run again with what it kept: it goes on where the target is known to have everything.
//!
//! A text has other line ends on the other side: it is moved from its beginning to its end, and what proves
//! it is that both sides say so. A size or a digest of the other side would prove nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use session_core::batch::{
    Answer, Decider, Digest, Given, Guarantee, Overwrite, Proof, Query, Resume, TransferOptions, Verify,
};
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::event::OperationId;
use session_core::fs::{Algorithm, CommitOptions, File, Filesystem, Follow, OpenOptions, Replace};
use session_core::gate::{SessionFile, SessionFs};
use session_core::metadata::{Attributes, Metadata};
use session_core::path::VPath;

use super::bin::put_back;
use super::given::keep_owner;
use super::limit::Limiter;
use super::part::{Continued, Kept, can_continue, interrupted, is_lost, publish, temporary};
use super::pump::{Account, Digesting, LEAD, Marks, Pump, changed, read_exactly};
use super::segments::Segment;
use super::tracker::Item;
use super::verify::{Checked, Verifier, is_local, right_size};
use crate::journal::Entry;

/// Read at once when a digest needs what was moved before.
const STEP: u64 = 1 << 20;

/// What is known of the target before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nobody may look: the account puts files and sees none.
    Hidden,
    /// It is not there.
    Missing,
    /// It is there, may be written, and has this size.
    There(u64),
    /// The same, and it is to be continued.
    Beginning(u64),
    /// Nobody looked.
    Unknown,
}

/// Which way a file goes.
#[derive(Debug, PartialEq)]
enum Way {
    /// Under its own name.
    InPlace,
    /// To a temporary name.
    Part,
    /// The same, to replace this.
    Over(Metadata),
}

/// What is copied.
pub(super) struct Copy<'a> {
    pub(super) source: &'a SessionFs,
    pub(super) from: &'a VPath,
    pub(super) metadata: &'a Metadata,
    pub(super) target: &'a SessionFs,
    pub(super) to: &'a VPath,
    pub(super) existing: Existing,
    /// It is text to one of the sides.
    pub(super) text: bool,
    pub(super) options: &'a TransferOptions,
    pub(super) decider: &'a dyn Decider,
    pub(super) verifier: &'a Verifier,
    pub(super) limiter: &'a Limiter,
    pub(super) item: &'a Item,
    pub(super) entry: Option<&'a Entry>,
    /// Where what is replaced goes, if anywhere.
    pub(super) bin: Option<&'a VPath>,
}

/// What came of it.
pub(super) struct Copied {
    /// What the target has, as it was written.
    pub(super) size: u64,
    pub(super) digest: Option<Digest>,
    pub(super) proof: Proof,
    pub(super) guarantee: Guarantee,
    pub(super) operation: OperationId,
    pub(super) given: Given,
}

/// What went over.
pub(super) struct Moved {
    /// How long the content is now, what was there before it not counted.
    pub(super) size: u64,
    pub(super) digest: Option<Digest>,
}

impl Moved {
    async fn new(size: u64, digest: Option<(Algorithm, Digesting)>) -> Result<Moved> {
        let digest = match digest {
            Some((algorithm, digest)) => Some(Digest { algorithm, value: digest.finish().await? }),
            None => None,
        };
        Ok(Moved { size, digest })
    }
}

/// Keeps account of what the target has: in mind, for the next attempt, and now and then in the journal.
pub(super) struct Reached<'a> {
    known: AtomicU64,
    entry: Option<&'a Entry>,
    told: Told,
    noted: Mutex<(u64, Instant)>,
}

/// What the journal is told of.
#[derive(Clone, Copy)]
pub(super) enum Told {
    /// A file in one piece.
    Whole,
    /// One of its segments.
    Segment(Segment),
}

/// The journal is told after so many bytes, or after that time.
const NOTED: (u64, Duration) = (8 << 20, Duration::from_millis(500));

impl<'a> Reached<'a> {
    pub(super) fn new(begin: u64, entry: Option<&'a Entry>, told: Told) -> Self {
        Reached { known: begin.into(), entry, told, noted: Mutex::new((begin, Instant::now())) }
    }

    pub(super) fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// Everything is there, up to the end.
    pub(super) async fn ended(&self, end: u64) {
        self.known.store(end, Ordering::Relaxed);
        self.tell(end).await;
    }

    async fn tell(&self, offset: u64) {
        match (self.entry, self.told) {
            (None, _) => {}
            (Some(entry), Told::Whole) => entry.reached(offset).await,
            (Some(entry), Told::Segment(segment)) => {
                entry.segment(&Segment { known: offset, ..segment }).await
            }
        }
    }

    fn is_due(&self, offset: u64) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let due = offset >= noted.0 + NOTED.0 || noted.1.elapsed() >= NOTED.1;
        if due {
            *noted = (offset, Instant::now());
        }
        due
    }
}

impl Account for Reached<'_> {
    async fn reached(&self, offset: u64) {
        self.known.store(offset, Ordering::Relaxed);
        if self.entry.is_some() && self.is_due(offset) {
            self.tell(offset).await;
        }
    }
}

impl Copy<'_> {
    /// Copies. Dropped in the middle, it leaves at most a temporary file, or, where a file is written in
    /// place, a part of it. Errors: those of either side; `Corrupt` where sizes or digests do not agree in
    /// the end; `Unsupported` where what was asked for cannot be done or proved.
    pub(super) async fn run(&self, kept: &mut Kept) -> Result<Copied> {
        if self.text && self.options.verify == Verify::Strict {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("a text has other line ends at the target, and its content cannot be proved")
                .with_hint("move it as it is, or ask for less than --verify=strict"));
        }
        match (self.options.overwrite, self.existing) {
            (Overwrite::Append, _) => return self.append().await,
            (Overwrite::Continue, Existing::There(size)) | (_, Existing::Beginning(size))
                if !self.text
                    && (1..self.metadata.size).contains(&size)
                    && can_continue(&self.target.capabilities()) =>
            {
                return self.grow(size).await;
            }
            _ => {}
        }
        if self.is_within()
            && let Some(copied) = self.within(kept).await?
        {
            return Ok(copied);
        }
        let Some(part) = self.part() else { return self.in_place(kept).await };
        let way = self.way().await?;
        if way == Way::InPlace {
            return self.in_place(kept).await;
        }
        if let Some(segments) = self.segments(&part, kept).await?
            && let Some(copied) = self.segmented(segments, kept).await?
        {
            return Ok(copied);
        }
        self.through(&part, way, kept).await
    }

    /// Which way it goes: to a temporary name where it is large, or where something is there that shall not be lost
    /// to a failure. Errors: a lost connection.
    async fn way(&self) -> Result<Way> {
        Ok(match self.existing {
            _ if self.metadata.size >= self.options.temporary_from => Way::Part,
            Existing::There(_) | Existing::Beginning(_) => Way::Part,
            Existing::Missing | Existing::Hidden => Way::InPlace,
            Existing::Unknown => self.old().await?.map_or(Way::InPlace, Way::Over),
        })
    }

    /// What the target has under the final name, as far as that can be seen. Errors: a lost connection.
    pub(super) async fn old(&self) -> Result<Option<Metadata>> {
        match self.target.stat(self.to, Follow::No).await {
            Err(e) if is_lost(&e) => Err(e),
            seen => Ok(seen.ok()),
        }
    }

    /// The temporary name, where there can be one.
    fn part(&self) -> Option<VPath> {
        let capabilities = self.target.capabilities_at(self.to);
        let wanted = self.options.temporary_names
            && capabilities.rename
            && !capabilities.whole_files
            && self.existing != Existing::Hidden;
        if wanted { temporary(self.to, capabilities.max_name) } else { None }
    }

    pub(super) async fn open_source(&self) -> Result<Arc<SessionFile>> {
        let options = OpenOptions {
            text: self.text && is_text_at(self.source, self.from),
            size_hint: Some(self.metadata.size),
            ..OpenOptions::read()
        };
        self.source.open_file(self.from, &options).await
    }

    pub(super) fn streams(&self) -> Option<Algorithm> {
        // What is sent is not what the other side has a digest of.
        if self.text { self.options.digest } else { self.verifier.streams(self.source, self.target) }
    }

    /// Whether the store itself copies: source and target are one, which is no disk here, and nobody wants to know a
    /// digest of what then does not pass here.
    fn is_within(&self) -> bool {
        let capabilities = self.target.capabilities_at(self.to);
        self.source.is_same(self.target)
            && capabilities.server_copy
            && !is_local(self.target)
            && !self.text
            && self.existing != Existing::Hidden
            && self.options.digest.is_none()
            && self.options.verify != Verify::Strict
    }

    /// Inside the store: nothing crosses. `None` where it turns out that the store does not.
    async fn within(&self, kept: &mut Kept) -> Result<Option<Copied>> {
        if self.target.capabilities_at(self.to).whole_files {
            return self.within_at_once().await.map(Some);
        }
        let old = self.old().await?;
        let part = self.part().filter(|_| old.as_ref().is_none_or(Metadata::is_file));
        let Some(part) = part else { return Ok(None) };
        if let Some(entry) = self.entry {
            entry.begun(0).await;
        }
        let operation = match self.target.copy_file(self.from, &part, Replace::Yes).await {
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                return Ok(None);
            }
            copied => copied?,
        };
        self.item.at(self.metadata.size);
        let lenient = self.options.ignore_attribute_errors;
        let mut attributes = if lenient { Attributes::none() } else { self.attributes(old.as_ref()) };
        let mode = self.mode().or_else(|| old.as_ref().and_then(|m| m.mode));
        attributes.mode =
            attributes.mode.or(mode.filter(|_| !lenient && self.target.capabilities().set_mode));
        self.set_on_copy(&part, attributes).await?;
        let new = self.target.stat(&part, Follow::No).await?;
        right_size(new.size, self.metadata.size)?;
        keep_owner(self.target, &part, old.as_ref(), &new).await;
        let moved = Moved { size: new.size, digest: None };
        self.check_and_publish(&part, moved, operation, kept).await.map(Some)
    }

    /// The same where what the store copies appears as a whole.
    async fn within_at_once(&self) -> Result<Copied> {
        let free = self.existing == Existing::Missing && self.options.overwrite != Overwrite::Always;
        let replace = if free { Replace::No } else { Replace::Yes };
        let operation = self.target.copy_file(self.from, self.to, replace).await?;
        self.item.at(self.metadata.size);
        let size = self.metadata.size;
        if self.verifier.looks() {
            Verifier::size(self.target, self.to, size).await?;
        }
        let guarantee = Guarantee::AtomicCommit;
        let given = Given::default();
        Ok(Copied { size, digest: None, proof: Proof::Size, guarantee, operation, given })
    }

    /// Sets what a copy shall have. A store that finds out by this that it sets no times has none to set, as for what
    /// is sent to it.
    async fn set_on_copy(&self, part: &VPath, mut attributes: Attributes) -> Result<()> {
        if attributes.is_empty() {
            return Ok(());
        }
        match self.target.set_attributes(part, &attributes, Follow::No).await {
            Err(e) if e.kind() == ErrorKind::Unsupported && !self.target.capabilities().set_times => {
                (attributes.modified, attributes.accessed) = (None, None);
                if attributes.is_empty() {
                    return Ok(());
                }
                self.target.set_attributes(part, &attributes, Follow::No).await
            }
            set => set,
        }
    }

    /// The journal's account, where the target may keep an unfinished upload for a later run: one that shows
    /// files whole. A text is never the same bytes again.
    fn keeper(&self) -> Option<&Entry> {
        let whole = self.target.capabilities_at(self.to).whole_files;
        self.entry.filter(|_| whole && !self.text && self.options.resume != Resume::Off)
    }

    /// Has the unfinished upload kept, and notes by which words: before anything is sent.
    async fn keep(&self, target: &SessionFile, kept: &mut Kept) -> Result<()> {
        let Some(entry) = self.keeper() else { return Ok(()) };
        let words = target.keep().await?.map(|u| u.words);
        if kept.upload != words {
            if kept.upload.is_some() {
                kept.note = Some("what had been sent of it is no longer there: it is sent anew");
            }
            entry.keeps(self.to, words.as_deref()).await;
            kept.upload = words;
        }
        Ok(())
    }

    /// Under its own name from the start.
    async fn in_place(&self, kept: &mut Kept) -> Result<Copied> {
        let source = self.open_source().await?;
        // What cannot be looked at cannot be asked about: only a new file is written, unless any may be.
        let exclusive = self.existing == Existing::Hidden && self.options.overwrite != Overwrite::Always;
        let create = OpenOptions { exclusive, ..OpenOptions::create() };
        if let Some(entry) = self.entry
            && self.options.overwrite != Overwrite::Always
        {
            // A run that takes this up must know its own half file from one that was there before.
            entry.begun(0).await;
        }
        let mut create = self.create_options(create, None);
        create.unfinished = kept.upload.clone();
        self.recycle_old(kept).await?;
        let target = match self.target.open_file(self.to, &create).await {
            Ok(target) => target,
            Err(e) => {
                put_back(self.target, &mut kept.recycled, self.to, &e).await;
                return Err(e);
            }
        };
        self.keep(&target, kept).await?;
        let written = async {
            let digest = self.streams().map(|a| (a, Digesting::new(a, self.metadata.size)));
            let moved = self.pump(&*source, &*target, 0, 0, digest, None).await?;
            self.commit(&*target, moved.size, None).await?;
            Ok(moved)
        };
        let moved: Moved = match written.await {
            // What is kept is kept for as long as it may be of use.
            Err(e) if !is_lost(&e) && (kept.upload.is_none() || e.retry() == Retry::Never) => {
                // Half a file shall not stay under its final name; the first error is the one to tell.
                let thrown = target.abort().await;
                put_back(self.target, &mut kept.recycled, self.to, &e).await;
                if let Some(entry) = self.keeper().filter(|_| thrown.is_ok() && kept.upload.take().is_some())
                {
                    entry.keeps(self.to, None).await;
                }
                return Err(e);
            }
            written => written?,
        };
        if kept.upload.take().is_some()
            && let Some(unfinished) = target.keep().await?
        {
            self.item.spared(unfinished.spared);
        }
        let given = self.given(self.to).await?;
        let size = moved.size;
        let (proof, digest) = self.check(self.to, moved.digest).await?;
        let whole = self.target.capabilities_at(self.to).whole_files;
        let guarantee = if whole { Guarantee::AtomicCommit } else { Guarantee::InPlace };
        Ok(Copied { size, digest, proof, guarantee, operation: target.operation(), given })
    }

    /// What an existing target lacks, at its end.
    async fn grow(&self, begin: u64) -> Result<Copied> {
        let source = self.open_source().await?;
        let options = OpenOptions { write: true, ..OpenOptions::default() };
        let target = self.target.open_file(self.to, &options).await?;
        self.item.at(begin);
        let digest = self.beginning(&*source, begin).await?;
        let moved = self.pump(&*source, &*target, begin, 0, digest, None).await?;
        let size = moved.size;
        self.commit(&*target, size, None).await?;
        let given = self.given(self.to).await?;
        let (proof, digest) = self.check(self.to, moved.digest).await?;
        let guarantee = Guarantee::InPlace;
        Ok(Copied { size, digest, proof, guarantee, operation: target.operation(), given })
    }

    /// The whole source behind what the target holds.
    async fn append(&self) -> Result<Copied> {
        let before = match self.existing {
            Existing::There(size) => size,
            _ => 0,
        };
        let source = self.open_source().await?;
        // At known offsets where that can be: appended chunks would land in the order of their arrival.
        let anywhere = self.target.capabilities().random_write;
        let mut options =
            OpenOptions { write: true, create: true, append: !anywhere, ..OpenOptions::default() };
        options.attributes.mode = self.mode().map(|m| m | 0o200);
        options.text = self.text && is_text_at(self.target, self.to);
        let target = self.target.open_file(self.to, &options).await?;
        let shift = if anywhere { before } else { 0 };
        let digest = self.streams().map(|a| (a, Digesting::new(a, self.metadata.size)));
        let moved = self.pump(&*source, &*target, 0, shift, digest, None).await?;
        self.commit(&*target, before + moved.size, None).await?;
        let given = self.given(self.to).await?;
        if self.options.verify == Verify::Strict {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("what was added to a file cannot be proved on its own")
                .with_hint("ask for less than --verify=strict when appending"));
        }
        Ok(Copied {
            size: moved.size,
            digest: moved.digest,
            proof: if self.text { Proof::Reply } else { Proof::Size },
            guarantee: Guarantee::InPlace,
            operation: target.operation(),
            given,
        })
    }

    /// To a temporary name first.
    async fn through(&self, part: &VPath, way: Way, kept: &mut Kept) -> Result<Copied> {
        let size = self.metadata.size;
        let look = async {
            match way {
                Way::Over(old) => Ok(Some(old)),
                Way::Part | Way::InPlace => self.old().await,
            }
        };
        let (old, source) = tokio::join!(look, self.open_source());
        let (source, old) = (source?, old?);
        if old.as_ref().is_some_and(Metadata::is_symlink) {
            // A rename would replace the link and not what it points to.
            drop(source);
            return self.in_place(kept).await;
        }
        let mut begin = 0;
        let mut target = None;
        if self.options.resume != Resume::Off
            && !self.text
            && let Some(Continued { file, begin: at }) =
                interrupted(self.target, part, &*source, size, kept).await?
        {
            if self.may_continue(at, kept).await? {
                target = Some(file);
                begin = at;
            } else {
                file.park().await?;
            }
        }
        let old = old.filter(Metadata::is_file);
        let target = match target {
            Some(target) => target,
            None => {
                kept.known = None;
                let create = self.create_options(OpenOptions::create(), old.as_ref());
                match self.target.open_file(part, &create).await {
                    Ok(target) => target,
                    // A directory that takes no new names may still let files in it be written.
                    Err(e) if old.is_some() && refuses_names(e.kind()) => {
                        drop(source);
                        return self.in_place(kept).await;
                    }
                    Err(e) => return Err(e),
                }
            }
        };
        if let Some(entry) = self.entry {
            entry.begun(begin).await;
        }
        self.item.at(begin);
        let digest = self.beginning(&*source, begin).await?;
        // Of a text nothing is kept: nobody could say where it goes on.
        let kept_here = if self.text { None } else { Some(&mut *kept) };
        let moved = self.pump(&*source, &*target, begin, 0, digest, kept_here).await?;
        let new = self.commit(&*target, moved.size, old.as_ref()).await?;
        keep_owner(self.target, part, old.as_ref(), &new).await;
        self.check_and_publish(part, moved, target.operation(), kept).await
    }

    /// Whether a part that was found is continued. Errors: `Canceled` where all is given up.
    async fn may_continue(&self, there: u64, kept: &Kept) -> Result<bool> {
        if self.options.resume != Resume::Ask || kept.known.is_some() {
            return Ok(true);
        }
        let query = Query::Resume { target: self.to.clone(), there, size: self.metadata.size };
        match self.decider.decide(query).await {
            Answer::Yes | Answer::YesToAll | Answer::Continue => Ok(true),
            Answer::Abort => Err(ErrorKind::Canceled.into()),
            _ => Ok(false),
        }
    }

    /// Checks a complete part and gives it its name.
    pub(super) async fn check_and_publish(
        &self,
        part: &VPath,
        moved: Moved,
        operation: OperationId,
        kept: &mut Kept,
    ) -> Result<Copied> {
        let size = moved.size;
        let checked = self.check(part, moved.digest).await;
        let (proof, digest) = match checked {
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                // Nobody shall continue it.
                let _ = self.target.remove_file(part).await;
                *kept = Kept::default();
                return Err(e);
            }
            checked => checked?,
        };
        let missing = self.existing == Existing::Missing && self.options.overwrite != Overwrite::Always;
        self.recycle_old(kept).await?;
        let guarantee = match publish(self.target, part, self.to, missing, kept).await {
            Ok(_) if kept.recycled.is_some() => Guarantee::RenameWindow,
            Ok(guarantee) => guarantee,
            Err(e) => {
                put_back(self.target, &mut kept.recycled, self.to, &e).await;
                return Err(e);
            }
        };
        let given = self.given(self.to).await?;
        match (self.verifier.looks(), self.text) {
            (true, true) => drop(self.target.stat(self.to, Follow::Yes).await?),
            (true, false) => Verifier::size(self.target, self.to, size).await?,
            (false, _) => {}
        }
        Ok(Copied { size, digest, proof, guarantee, operation, given })
    }

    /// A digest that has seen everything before `begin`, where one is of use and does not cost moving it
    /// once more.
    async fn beginning(&self, source: &dyn File, begin: u64) -> Result<Option<(Algorithm, Digesting)>> {
        let Some(algorithm) = self.streams() else { return Ok(None) };
        if begin > 0 && !is_local(self.source) {
            return Ok(None);
        }
        let mut digest = Digesting::new(algorithm, self.metadata.size);
        let mut at = 0;
        while at < begin {
            let end = (at + STEP).min(begin);
            digest.feed(read_exactly(source, at, end).await?.freeze()).await;
            at = end;
        }
        Ok(Some((algorithm, digest)))
    }

    async fn pump(
        &self,
        source: &dyn File,
        target: &dyn File,
        begin: u64,
        shift: u64,
        mut digest: Option<(Algorithm, Digesting)>,
        kept: Option<&mut Kept>,
    ) -> Result<Moved> {
        let size = self.metadata.size;
        let account = Reached::new(begin, self.entry.filter(|_| kept.is_some()), Told::Whole);
        let pump = Pump {
            source,
            target,
            size,
            shift,
            item: self.item,
            limiter: self.limiter,
            settles: self.target.capabilities().random_write,
            in_order: !is_local(self.target),
            lead: LEAD,
            account: &account,
        };
        let marks = self.marks();
        if self.text && (is_text_at(self.source, self.from) || marks.any()) {
            let size = pump.to_end(marks, digest.as_mut().map(|(_, d)| d)).await?;
            // For the totals, what was expected is what came.
            self.item.at(self.metadata.size);
            return Moved::new(size, digest).await;
        }
        let is_watched = size >= self.options.temporary_from && self.is_told_by_time();
        let run = pump.run(begin, digest.as_mut().map(|(_, d)| d));
        let (before, moved) = self.watched(is_watched.then_some(source), run).await;
        if let Some(kept) = kept {
            kept.known = Some(account.known());
        }
        if let Err(e) = moved {
            if pump.settles && !is_lost(&e) {
                // What came behind a gap shall not make the rest look like a beginning of the file.
                let whole = Attributes { size: Some(account.known() + shift), ..Attributes::none() };
                let _ = target.set_attributes(&whole).await;
            }
            return Err(e);
        }
        // A source that changed must be noticed where that costs little, and where nothing else was read.
        if let Some(before) = before? {
            self.unchanged(source, &before).await?;
        } else if begin == size || size == 0 {
            self.not_grown(source).await?;
        }
        Moved::new(size, digest).await
    }

    /// Whether an open source tells its time: those of files that can be written in any order, on a disk and over SFTP.
    pub(super) fn is_told_by_time(&self) -> bool {
        is_local(self.source) || self.source.capabilities().random_write
    }

    /// Does work that reads a source, and tells what that was when it began. Of a remote one both are asked for at once.
    pub(super) async fn watched<T>(
        &self,
        source: Option<&dyn File>,
        work: impl Future<Output = T>,
    ) -> (Result<Option<Metadata>>, T) {
        let Some(source) = source else { return (Ok(None), work.await) };
        let look = async { source.metadata().await.map(Some) };
        if is_local(self.source) { (look.await, work.await) } else { tokio::join!(look, work) }
    }

    /// Errors: `Corrupt` where the source is not what it was when it was begun. What was found may have had another
    /// time: who synchronises reckons with wrong clocks.
    pub(super) async fn unchanged(&self, source: &dyn File, before: &Metadata) -> Result<()> {
        let now = source.metadata().await?;
        let is_other = |(a, b): (SystemTime, SystemTime)| a != b;
        if now.size != self.metadata.size || now.modified.zip(before.modified).is_some_and(is_other) {
            return Err(changed());
        }
        Ok(())
    }

    /// Errors: `Corrupt` where there is more than there was.
    async fn not_grown(&self, source: &dyn File) -> Result<()> {
        let extra: BytesMut = source.read_into(self.metadata.size, 1, BytesMut::with_capacity(1)).await?;
        if extra.is_empty() { Ok(()) } else { Err(changed()) }
    }

    async fn check(&self, at: &VPath, digest: Option<Digest>) -> Result<(Proof, Option<Digest>)> {
        if self.text {
            return Ok((Proof::Reply, digest));
        }
        let file = Checked {
            source: self.source,
            from: self.from,
            target: self.target,
            at,
            size: self.metadata.size,
        };
        self.verifier.check(&file, digest).await
    }

    /// What is taken away from a text on its way.
    fn marks(&self) -> Marks {
        let sent = self.text && !is_local(self.target);
        Marks { bom: sent && self.options.remove_bom, ctrl_z: sent && self.options.remove_ctrl_z }
    }

    pub(super) fn create_options(&self, mut options: OpenOptions, old: Option<&Metadata>) -> OpenOptions {
        options.size_hint = Some(self.metadata.size);
        options.text = self.text && is_text_at(self.target, self.to);
        let kept = old.and_then(|m| m.mode).filter(|_| self.target.capabilities().set_mode);
        // The owner's write bit stays on while the file is being written.
        options.attributes.mode = self.mode().or(kept).map(|m| (m & 0o777) | 0o200);
        options
    }

    pub(super) async fn commit(
        &self,
        target: &dyn File,
        size: u64,
        old: Option<&Metadata>,
    ) -> Result<Metadata> {
        let lenient = self.options.ignore_attribute_errors;
        let attributes = if lenient { Attributes::none() } else { self.attributes(old) };
        let options = CommitOptions { expected_size: Some(size), attributes };
        let published = target.commit(&options).await?;
        right_size(published.size, size)?;
        Ok(published)
    }
}

/// Throws away an unfinished upload to `to` that a store keeps; none is fine. Errors: those of the store.
pub async fn throw_away(target: &SessionFs, to: &VPath, words: Arc<str>) -> Result<()> {
    let options = OpenOptions { unfinished: Some(words), ..OpenOptions::create() };
    target.open_file(to, &options).await?.abort().await
}

/// Whether files can be text there.
pub(super) fn is_text_at(side: &SessionFs, path: &VPath) -> bool {
    side.capabilities_at(path).text
}

/// Whether an error may mean that a directory takes no new name, or not this one.
fn refuses_names(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::InvalidPath)
}
