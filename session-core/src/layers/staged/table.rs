//! The table of staged entries: who has what under which path, and who holds which path.
//!
//! Pure data under one mutex of the area; nothing here waits. An entry is listed under its path while it
//! is live; one that was removed or discarded through another handle is known by its number only, until
//! its last handle ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Owner;
use super::finish::finish;
use super::progress::Progress;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, StageId};
use crate::metadata::{Attributes, FileType, Metadata};
use crate::path::VPath;

/// The number of an entry, unique within its area.
pub(super) type Serial = u64;

/// The open file of an entry, shared by its handles.
pub(super) struct Body {
    pub(super) file: Arc<dyn File>,
    pub(super) progress: Mutex<Progress>,
    /// Appends go one after the other: each begins where the one before ended.
    appending: tokio::sync::Mutex<()>,
    changing: Changing,
    /// Being judged: the content changes no more.
    sealed: AtomicBool,
}

/// Read by each change under way, also by one whose caller gave up; written by whoever needs the content
/// to stand still. It belongs to the entry and outlives its open file.
pub(super) type Changing = Arc<tokio::sync::RwLock<()>>;

impl Body {
    pub(super) fn new(file: Arc<dyn File>, progress: Progress, changing: Changing) -> Arc<Self> {
        let appending = tokio::sync::Mutex::new(());
        let sealed = AtomicBool::new(false);
        Arc::new(Body { file, progress: Mutex::new(progress), appending, changing, sealed })
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::SeqCst)
    }

    /// From now on changes of the content are refused; what has begun is waited for by [`Body::still`].
    pub(super) fn seal(&self, sealed: bool) {
        self.sealed.store(sealed, Ordering::SeqCst);
    }

    /// Waits for the changes under way.
    pub(super) async fn still(&self) {
        drop(self.changing.write().await);
    }

    fn may_change(&self) -> Result<()> {
        if self.is_sealed() { Err(judged()) } else { Ok(()) }
    }

    /// Writes `data` at `offset`, or at the end. What has begun goes on if the caller gives up, and is
    /// waited for before the content is published or opened again.
    pub(super) async fn write(self: &Arc<Self>, offset: Option<u64>, data: Bytes) -> Result<()> {
        let under_way = Arc::clone(&self.changing).read_owned().await;
        self.may_change()?;
        let this = Arc::clone(self);
        finish(async move {
            let _under_way = under_way;
            let len = data.len() as u64;
            let (_turn, at) = match offset {
                Some(offset) => (None, offset),
                None => {
                    let turn = this.appending.lock().await;
                    let end = this.progress().size();
                    (Some(turn), end)
                }
            };
            if let Err(e) = this.file.write_at(at, data).await {
                this.progress().lacked_room |=
                    matches!(e.kind(), ErrorKind::NoSpace | ErrorKind::QuotaExceeded);
                return Err(e);
            }
            this.progress().wrote(at, len);
            Ok(())
        })
        .await
    }

    /// Sets attributes, as [`Body::write`] writes.
    pub(super) async fn set_attributes(self: &Arc<Self>, attributes: &Attributes) -> Result<()> {
        let under_way = Arc::clone(&self.changing).read_owned().await;
        if attributes.size.is_some() {
            self.may_change()?;
        }
        let (this, attributes) = (Arc::clone(self), attributes.clone());
        finish(async move {
            let _under_way = under_way;
            this.file.set_attributes(&attributes).await?;
            let mut progress = this.progress();
            progress.touched = true;
            progress.own_mode |=
                attributes.mode.is_some() || attributes.uid.is_some() || attributes.gid.is_some();
            if let Some(size) = attributes.size {
                progress.resized(size);
            }
            Ok(())
        })
        .await
    }

    pub(super) fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a change of a sealed upload is refused.
pub(super) fn judged() -> Error {
    Error::new(ErrorKind::Locked)
        .with_detail("the upload is being checked")
        .with_hint("try again when its sender has been answered")
}

/// What became of an entry while handles are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It can be published.
    Live,
    /// Its path was removed: a commit succeeds and publishes nothing.
    Removed,
    /// Another handle threw it away: a commit fails.
    Discarded,
}

/// An upload that waits for its owner.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) since: SystemTime,
    /// How far it is whole.
    pub(super) size: u64,
    /// How long the staged file is, holes and what lies above them included.
    pub(super) room: u64,
    /// All that the store said of it, once somebody asked.
    pub(super) known: Option<Metadata>,
    /// Being opened again or published; nobody else may take it.
    pub(super) busy: bool,
}

impl Kept {
    pub(super) fn metadata(&self) -> Metadata {
        let mut metadata = self.known.clone().unwrap_or_else(|| Metadata::new(FileType::File, 0));
        metadata.size = self.size;
        metadata.modified = Some(self.since);
        metadata
    }
}

pub(super) enum State {
    Open {
        body: Arc<Body>,
        handles: usize,
        /// The last handle is being committed.
        sealing: bool,
    },
    Parked(Kept),
}

pub(super) struct Slot {
    pub(super) owner: Owner,
    pub(super) path: VPath,
    pub(super) id: StageId,
    pub(super) state: State,
    pub(super) fate: Fate,
    /// A published file stands at the path.
    pub(super) overwrites: bool,
    /// Publishing must not replace.
    pub(super) exclusive: bool,
    /// It was parked before, so parking it again without a byte more keeps it.
    pub(super) was_parked: bool,
    /// Its owner will not come back: it is not kept.
    pub(super) forgotten: bool,
    /// Its owner published something at its path after it was opened: nobody looks at it any more, and it
    /// is not kept. If it is committed all the same, it is the last to commit.
    pub(super) outdated: bool,
    /// It was to be whole or nothing: it is outdated from the start, and names that its owner changes leave it
    /// alone.
    pub(super) apart: bool,
    /// It is apart and kept all the same, for whoever knows this name of it.
    pub(super) lasting: Option<Arc<str>>,
    /// It began as a copy of the published file.
    pub(super) copied: bool,
    /// Mode or owner were set on purpose before it was parked.
    pub(super) own_mode: bool,
    pub(super) changing: Changing,
    pub(super) if_match: Option<Arc<str>>,
    pub(super) expected_size: Option<u64>,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Table {
    slots: HashMap<Serial, Slot>,
    /// Live entries by path, the oldest first.
    paths: BTreeMap<VPath, Vec<Serial>>,
    /// Who holds or waits for which paths, in the order of arrival.
    holds: Vec<(u64, Vec<VPath>)>,
    /// Staged files that nobody knows any more, to be thrown away.
    pub(super) trash: Vec<StageId>,
    /// Parked uploads that the policy publishes.
    pub(super) due: Vec<Serial>,
    next: u64,
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn insert(&mut self, slot: Slot) -> Serial {
        let serial = self.number();
        self.paths.entry(slot.path.clone()).or_default().push(serial);
        self.slots.insert(serial, slot);
        serial
    }

    pub(super) fn get(&self, serial: Serial) -> Option<&Slot> {
        self.slots.get(&serial)
    }

    pub(super) fn get_mut(&mut self, serial: Serial) -> Option<&mut Slot> {
        self.slots.get_mut(&serial)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Serial, &Slot)> {
        self.slots.iter().map(|(serial, slot)| (*serial, slot))
    }

    /// Takes an entry out; its staged file is the caller's business.
    pub(super) fn remove(&mut self, serial: Serial) -> Option<Slot> {
        self.delist(serial);
        self.slots.remove(&serial)
    }

    /// Takes an entry out and has its staged file thrown away.
    pub(super) fn discard(&mut self, serial: Serial) {
        if let Some(slot) = self.remove(serial) {
            self.trash.push(slot.id);
        }
    }

    /// Throws a parked entry away, unless somebody is at it.
    pub(super) fn discard_parked(&mut self, serial: Serial) {
        if matches!(self.get(serial), Some(Slot { state: State::Parked(kept), .. }) if !kept.busy) {
            self.discard(serial);
        }
    }

    fn delist(&mut self, serial: Serial) {
        let Some(slot) = self.slots.get(&serial) else { return };
        if let Some(there) = self.paths.get_mut(&slot.path) {
            there.retain(|s| *s != serial);
            if there.is_empty() {
                self.paths.remove(&slot.path);
            }
        }
    }

    /// Ends an entry by its path: parked, it is discarded; open, its handles live on and publish nothing.
    pub(super) fn doom(&mut self, serial: Serial, fate: Fate) {
        self.delist(serial);
        let Some(slot) = self.slots.get_mut(&serial) else { return };
        slot.fate = fate;
        if matches!(slot.state, State::Parked(_)) {
            self.discard(serial);
        }
    }

    pub(super) fn retarget(&mut self, serial: Serial, path: VPath) {
        self.delist(serial);
        let Some(slot) = self.slots.get_mut(&serial) else { return };
        slot.path = path.clone();
        if slot.fate == Fate::Live {
            self.paths.entry(path).or_default().push(serial);
        }
    }

    /// The live entries of `owner` at `path` that it may see.
    pub(super) fn own(&self, owner: &Owner, path: &VPath) -> Vec<Serial> {
        let there = self.paths.get(path).into_iter().flatten().copied();
        there.filter(|s| self.slots.get(s).is_some_and(|slot| slot.is_of(owner))).collect()
    }

    /// What is at the path of `serial` and was opened before it, by its owner, is outdated.
    pub(super) fn outdate(&mut self, serial: Serial) {
        let Some(slot) = self.slots.get(&serial) else { return };
        let (owner, path) = (slot.owner.clone(), slot.path.clone());
        let there = self.paths.get(&path).into_iter().flatten().copied();
        for older in there.take_while(|older| *older != serial) {
            if let Some(slot) = self.slots.get_mut(&older).filter(|slot| slot.owner == owner) {
                slot.outdated = true;
            }
        }
    }

    /// The entry that `owner` sees at `path`: the newest open one that is not outdated, else the newest
    /// parked one, unless it
    /// stands above a published file for longer than `keep_overwrites`.
    pub(super) fn seen(
        &self,
        owner: &Owner,
        path: &VPath,
        now: SystemTime,
        keep_overwrites: Duration,
    ) -> Option<(Serial, &Slot)> {
        let mut parked = None;
        for serial in self.paths.get(path)?.iter().rev() {
            let Some(slot) = self.slots.get(serial).filter(|slot| slot.owner == *owner) else { continue };
            match &slot.state {
                _ if slot.apart => {}
                State::Open { .. } if slot.outdated => {}
                State::Open { .. } => return Some((*serial, slot)),
                State::Parked(kept) => {
                    if parked.is_none() && !slot.shadow_is_over(kept, now, keep_overwrites) {
                        parked = Some((*serial, slot));
                    }
                }
            }
        }
        parked
    }

    /// The entry of `owner` that will be published at `path` and lasts under `name`.
    pub(super) fn lasting(&self, owner: &Owner, path: &VPath, name: &str) -> Option<(Serial, &Slot)> {
        let there = self.paths.get(path)?.iter().filter_map(|s| Some((*s, self.slots.get(s)?)));
        there.into_iter().find(|(_, slot)| slot.owner == *owner && slot.lasting.as_deref() == Some(name))
    }

    /// Live entries, of anybody, strictly below `dir`.
    pub(super) fn below(&self, dir: &VPath) -> Vec<Serial> {
        self.tree(dir).filter(|(path, _)| *path != dir).flat_map(|(_, there)| there).copied().collect()
    }

    /// The paths directly in `dir` with an entry of `owner`, in the order of their names.
    pub(super) fn children(&self, owner: &Owner, dir: &VPath) -> Vec<Bytes> {
        self.tree(dir)
            .filter(|(path, there)| {
                path.parent().as_ref() == Some(dir)
                    && there.iter().any(|s| self.slots.get(s).is_some_and(|slot| slot.is_of(owner)))
            })
            .map(|(path, _)| Bytes::copy_from_slice(path.name()))
            .collect()
    }

    fn tree<'a>(&'a self, dir: &'a VPath) -> impl Iterator<Item = (&'a VPath, &'a Vec<Serial>)> {
        self.paths
            .range(dir..)
            .take_while(|(path, _)| path.as_bytes().starts_with(dir.as_bytes()))
            .filter(|(path, _)| path.starts_with(dir))
    }

    /// Stands in line for `paths`.
    pub(super) fn stand(&mut self, paths: Vec<VPath>) -> u64 {
        let ticket = self.number();
        self.holds.push((ticket, paths));
        ticket
    }

    /// Whether nobody who came earlier holds or wants a path at, above or below one of this ticket's.
    pub(super) fn granted(&self, ticket: u64) -> bool {
        let Some(at) = self.holds.iter().position(|(t, _)| *t == ticket) else { return false };
        let (earlier, mine) = self.holds.split_at(at);
        let Some((_, mine)) = mine.first() else { return false };
        !earlier
            .iter()
            .flat_map(|(_, theirs)| theirs)
            .any(|t| mine.iter().any(|m| m.starts_with(t) || t.starts_with(m)))
    }

    pub(super) fn release(&mut self, ticket: u64) {
        self.holds.retain(|(t, _)| *t != ticket);
    }
}

impl Slot {
    /// Whether it is one that `owner` may see.
    fn is_of(&self, owner: &Owner) -> bool {
        self.owner == *owner && !self.apart
    }

    /// Whether this parked overwrite no longer hides the published file.
    pub(super) fn shadow_is_over(&self, kept: &Kept, now: SystemTime, keep_overwrites: Duration) -> bool {
        self.overwrites
            && !self.apart
            && !kept.busy
            && now.duration_since(kept.since).is_ok_and(|age| age >= keep_overwrites)
    }
}
