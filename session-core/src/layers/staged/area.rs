//! `StagingArea`: what the identities of one store share: table, journal, chores, sweep.
//!
//! The journal is the note that the store keeps beside each staged file that a restart would find; after
//! a crash [`StagingArea::recover`] reads it and every upload is parked with its owner. The note cannot
//! be changed later: after a crash an upload that was renamed stands under its first name again.
//!
//! Locking: the table is a mutex that is never held over an await. What must stay true over an await is
//! protected by a [`Hold`] on paths: granted in the order of arrival, all paths at once, against every
//! path at, above or below. A commit holds its path, a rename both of its own, an open for writing its.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::finish::finish;
use super::progress::Progress;
use super::table::{Body, Changing, Fate, Kept, Serial, Slot, State, Table};
use super::{Owner, Parking, StagingPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::*;
use crate::lease;
use crate::metadata::{Attributes, Metadata};
use crate::path::VPath;

/// What tells the time: injected, so that tests can turn it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What an area keeps of an upload that was not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedUpload {
    /// Whose it is.
    pub owner: Owner,
    /// The path that it would be published under.
    pub path: VPath,
    /// How many bytes are whole from its start.
    pub size: u64,
    /// Since when.
    pub since: SystemTime,
    /// Whether a published file stands at the path.
    pub overwrites: bool,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Parked uploads thrown away.
    pub discarded: usize,
    /// Parked uploads that stay.
    pub kept: usize,
    /// The bytes that they take up.
    pub bytes: u64,
}

/// What the store notes beside a staged file.
#[derive(Serialize, Deserialize)]
struct Note {
    owner: String,
    shared: bool,
    /// The path's bytes in base64.
    path: String,
    overwrites: bool,
    /// Nobody will come back for it, unless it is lasting.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    apart: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lasting: Option<String>,
}

/// The staged entries of one store. There must be only one area of a store, also across processes: an
/// area takes every staged file that it finds for its own.
pub struct StagingArea {
    pub(super) store: Arc<dyn Filesystem>,
    pub(super) policy: StagingPolicy,
    clock: Clock,
    table: Mutex<Table>,
    released: Notify,
}

/// Paths kept from others until it is dropped.
pub(super) struct Hold {
    area: Arc<StagingArea>,
    ticket: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.area.table().release(self.ticket);
        self.area.released.notify_waiters();
    }
}

/// What an owner sees at a path.
pub(super) enum View {
    Open(Serial, Arc<Body>),
    Parked(Serial, StageId, Box<Kept>),
}

impl View {
    fn of(serial: Serial, slot: &Slot) -> View {
        match &slot.state {
            State::Open { body, .. } => View::Open(serial, Arc::clone(body)),
            State::Parked(kept) => View::Parked(serial, slot.id.clone(), Box::new(kept.clone())),
        }
    }
}

/// How a handle's commit goes on.
pub(super) enum Closing {
    /// Others are open: this one is done.
    Early,
    /// The path was removed: nothing to publish.
    Removed,
    /// Thrown away through another handle.
    Discarded,
    /// The last one: publish under this path.
    Seal(VPath),
}

/// How a handle leaves its entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Committed,
    Parked,
    Aborted,
}

/// What to stage.
pub(super) struct New {
    pub(super) owner: Owner,
    pub(super) path: VPath,
    pub(super) overwrites: bool,
    pub(super) exclusive: bool,
    pub(super) apart: bool,
    pub(super) lasting: Option<Arc<str>>,
    pub(super) copied: bool,
    pub(super) if_match: Option<Arc<str>>,
    pub(super) attributes: Attributes,
}

impl StagingArea {
    /// The area of `store`. Errors: `Unsupported` where the store lacks `atomic_commit`.
    pub fn new(store: Arc<dyn Filesystem>, policy: StagingPolicy, clock: Clock) -> Result<Arc<Self>> {
        if !store.capabilities().atomic_commit {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("this store cannot stage uploads: it publishes nothing in one step"));
        }
        let table = Mutex::new(Table::default());
        Ok(Arc::new(StagingArea { store, policy, clock, table, released: Notify::new() }))
    }

    /// Takes up what a former run left behind, to be called once before anybody logs in: every staged
    /// file is parked with its owner, but a shared owner's and what was to be whole or nothing, which nobody
    /// could ask for any more, unless it lasts. Gives
    /// the number of parked uploads. Staged files without a note of an area are left alone.
    pub async fn recover(self: &Arc<Self>) -> Result<usize> {
        let found = self.store.staged().await?;
        let now = self.now();
        let mut count = 0;
        {
            let mut table = self.table();
            for entry in found {
                if table.iter().any(|(_, slot)| slot.id == entry.id) {
                    continue;
                }
                let Some((note, path)) = read_note(&entry.note) else {
                    tracing::warn!(id = %entry.id.0, "a staged file has no note of ours and is left alone");
                    continue;
                };
                let is_worth = note.lasting.is_some() || !note.apart && entry.size > 0;
                if note.shared || !is_worth || self.policy.parking == Parking::Discard {
                    table.trash.push(entry.id);
                    continue;
                }
                let since = entry.modified.unwrap_or(now);
                let serial = table.insert(Slot {
                    owner: Owner { name: note.owner.into(), shared: false },
                    path,
                    id: entry.id,
                    state: State::Parked(Kept {
                        since,
                        size: entry.size,
                        room: entry.size,
                        known: None,
                        busy: false,
                    }),
                    fate: Fate::Live,
                    overwrites: note.overwrites,
                    exclusive: false,
                    was_parked: true,
                    forgotten: false,
                    outdated: note.apart,
                    apart: note.apart,
                    lasting: note.lasting.map(Into::into),
                    copied: false,
                    own_mode: false,
                    changing: Changing::default(),
                    if_match: None,
                    expected_size: None,
                });
                if self.policy.parking == Parking::Publish && !note.apart {
                    table.due.push(serial);
                }
                count += 1;
            }
        }
        finish(Arc::clone(self).chores()).await;
        Ok(count)
    }

    /// Throws away what is older than the policy keeps, then, from the newest to the oldest, what does
    /// not fit into its bounds any more, and tries again what could not be thrown away before. A timer calls it.
    pub async fn sweep(self: &Arc<Self>, now: SystemTime) -> Swept {
        let swept = self.condemn(now);
        finish(Arc::clone(self).chores()).await;
        swept
    }

    fn condemn(&self, now: SystemTime) -> Swept {
        let mut table = self.table();
        let mut parked: Vec<_> = table
            .iter()
            .filter_map(|(serial, slot)| match &slot.state {
                State::Parked(kept) if !kept.busy => {
                    let age = now.duration_since(kept.since).unwrap_or_default();
                    let over = age >= self.policy.keep
                        || slot.shadow_is_over(kept, now, self.policy.keep_overwrites);
                    Some((kept.since, serial, kept.room, over))
                }
                _ => None,
            })
            .collect();
        // The newest first: they have the better claim on the room.
        parked.sort_by(|a, b| b.cmp(a));
        let mut swept = Swept::default();
        for (_, serial, room, over) in parked {
            let bytes = swept.bytes.saturating_add(room);
            if over || swept.kept >= self.policy.max_parked || bytes > self.policy.max_parked_bytes {
                table.discard(serial);
                swept.discarded += 1;
            } else {
                swept.kept += 1;
                swept.bytes = bytes;
            }
        }
        swept
    }

    /// Throws away what `owner` parked, and will park: for a shared owner, when its session ends.
    pub fn forget(self: &Arc<Self>, owner: &Owner) {
        {
            let mut table = self.table();
            let theirs = table.iter().filter(|(_, slot)| slot.owner == *owner);
            let theirs: Vec<_> = theirs.map(|(serial, _)| serial).collect();
            for serial in theirs {
                table.discard_parked(serial);
                if let Some(slot) = table.get_mut(serial) {
                    slot.forgotten = true;
                }
            }
        }
        self.kick();
    }

    /// Every parked upload, in no order.
    pub fn parked(&self) -> Vec<ParkedUpload> {
        let table = self.table();
        let parked = table.iter().filter_map(|(_, slot)| match &slot.state {
            State::Parked(kept) => Some(ParkedUpload {
                owner: slot.owner.clone(),
                path: slot.path.clone(),
                size: kept.size,
                since: kept.since,
                overwrites: slot.overwrites,
            }),
            State::Open { .. } => None,
        });
        parked.collect()
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Waits for its turn on `paths`. Dropping the future leaves the line.
    pub(super) async fn hold(self: &Arc<Self>, paths: Vec<VPath>) -> Hold {
        let hold = {
            let ticket = self.table().stand(paths);
            Hold { area: Arc::clone(self), ticket }
        };
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.table().granted(hold.ticket) {
                return hold;
            }
            released.await;
        }
    }

    /// What `owner` sees at `path` that is not published.
    pub(super) fn view(&self, owner: &Owner, path: &VPath) -> Option<View> {
        let table = self.table();
        let (serial, slot) = table.seen(owner, path, self.now(), self.policy.keep_overwrites)?;
        Some(View::of(serial, slot))
    }

    /// The metadata of what an owner sees.
    pub(super) async fn describe(&self, view: View) -> Result<Metadata> {
        let (serial, id, mut kept) = match view {
            View::Open(_, body) => return body.file.metadata().await,
            View::Parked(serial, id, kept) => (serial, id, kept),
        };
        // Size and age are known; mode and owner are asked of the store once.
        if kept.known.is_none()
            && let Ok((_, file)) = self.store.stage(&Stage::Reopen(id)).await
            && let Ok(metadata) = file.metadata().await
        {
            kept.known = Some(metadata.clone());
            if let Some(Slot { state: State::Parked(kept), .. }) = self.table().get_mut(serial) {
                kept.known = Some(metadata);
            }
        }
        Ok(kept.metadata())
    }

    /// Makes a staged file and its entry. To be called with the path held, from `finish`.
    pub(super) async fn stage_new(&self, new: New) -> Result<(Serial, Arc<Body>)> {
        let note = write_note(&new)?;
        let (id, file) = self.store.stage(&Stage::New { near: new.path.clone(), note }).await?;
        let begun = async {
            if !new.attributes.is_empty() {
                file.set_attributes(&new.attributes).await?;
            }
            match new.lasting {
                Some(name) => Ok(file.keep().await?.map(|_| name)),
                None => Ok(None),
            }
        };
        let lasting = match begun.await {
            Ok(lasting) => lasting,
            Err(e) => {
                drop(file);
                if self.store.unstage(&id).await.is_err() {
                    self.table().trash.push(id);
                }
                return Err(e);
            }
        };
        let changing = Changing::default();
        let body = Body::new(file, Progress::default(), Arc::clone(&changing));
        let serial = self.table().insert(Slot {
            owner: new.owner,
            path: new.path,
            id,
            state: State::Open { body: Arc::clone(&body), handles: 1, sealing: false },
            fate: Fate::Live,
            overwrites: new.overwrites,
            exclusive: new.exclusive,
            was_parked: false,
            forgotten: false,
            outdated: new.apart,
            apart: new.apart,
            lasting,
            copied: new.copied,
            own_mode: false,
            changing,
            if_match: new.if_match,
            expected_size: None,
        });
        Ok((serial, body))
    }

    /// The upload of `owner` that will be published at `path` and lasts under `name`.
    pub(super) fn lasting(&self, owner: &Owner, path: &VPath, name: &str) -> Option<View> {
        let table = self.table();
        table.lasting(owner, path, name).map(|(serial, slot)| View::of(serial, slot))
    }

    /// The name under which an entry lasts, if it does.
    pub(super) fn name_of(&self, serial: Serial) -> Option<Arc<str>> {
        self.table().get(serial)?.lasting.clone()
    }

    /// Whether an upload of this owner may last: its owner can come back for it, and what is not finished is kept.
    pub(super) fn may_last(&self, owner: &Owner) -> bool {
        !owner.shared && self.policy.parking != Parking::Discard
    }

    /// One handle more on an open entry; `None` where it was closed or sealed in the meantime.
    pub(super) fn join(&self, serial: Serial, if_match: Option<Arc<str>>) -> Option<Arc<Body>> {
        let mut table = self.table();
        let slot = table.get_mut(serial)?;
        let State::Open { body, handles, .. } = &mut slot.state else { return None };
        if body.is_sealed() {
            return None;
        }
        *handles += 1;
        let body = Arc::clone(body);
        slot.if_match = if_match.or(slot.if_match.take());
        Some(body)
    }

    /// Opens a parked entry again, cut to what is whole. `None` where it is gone. To be called with the
    /// path held, from `finish`.
    pub(super) async fn reopen(
        &self,
        serial: Serial,
        if_match: Option<Arc<str>>,
    ) -> Result<Option<Arc<Body>>> {
        let (id, size, own_mode, changing) = {
            let mut table = self.table();
            let Some(slot) = table.get_mut(serial) else { return Ok(None) };
            let State::Parked(kept) = &mut slot.state else { return Ok(None) };
            if kept.busy {
                return Ok(None);
            }
            kept.busy = true;
            (slot.id.clone(), kept.size, slot.own_mode, Arc::clone(&slot.changing))
        };
        let opened = self.reopen_file(id, size, own_mode, changing).await;
        let mut table = self.table();
        let Some(slot) = table.get_mut(serial) else { return Ok(None) };
        match opened {
            Ok((id, body)) => {
                slot.id = id;
                slot.state = State::Open { body: Arc::clone(&body), handles: 1, sealing: false };
                slot.was_parked = true;
                slot.if_match = if_match;
                slot.expected_size = None;
                Ok(Some(body))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                table.remove(serial);
                Ok(None)
            }
            Err(e) => {
                if let State::Parked(kept) = &mut slot.state {
                    kept.busy = false;
                }
                Err(e)
            }
        }
    }

    async fn reopen_file(
        &self,
        id: StageId,
        size: u64,
        own_mode: bool,
        changing: Changing,
    ) -> Result<(StageId, Arc<Body>)> {
        // A write of the lost connection may still be on its way to the disk.
        drop(changing.write().await);
        let (id, file) = self.store.stage(&Stage::Reopen(id)).await?;
        let there = file.metadata().await?.size;
        if there > size {
            file.set_attributes(&Attributes::size(size)).await?;
        }
        let mut progress = Progress::whole(size.min(there));
        progress.own_mode = own_mode;
        Ok((id, Body::new(file, progress, changing)))
    }

    /// How the commit of one handle goes on. Notes the expected size for the close that seals.
    pub(super) fn closing(&self, serial: Serial, expected_size: Option<u64>) -> Closing {
        Self::close(&mut self.table(), serial, expected_size)
    }

    fn close(table: &mut Table, serial: Serial, expected_size: Option<u64>) -> Closing {
        let Some(slot) = table.get_mut(serial) else { return Closing::Discarded };
        slot.expected_size = expected_size.or(slot.expected_size);
        match (slot.fate, &slot.state) {
            (Fate::Removed, _) => Closing::Removed,
            (Fate::Discarded, _) | (_, State::Parked(_)) => Closing::Discarded,
            (Fate::Live, State::Open { handles: 0 | 1, .. }) => Closing::Seal(slot.path.clone()),
            // Of what is whole or nothing, whoever commits it says that it is whole.
            (Fate::Live, State::Open { .. }) if slot.apart => Closing::Seal(slot.path.clone()),
            (Fate::Live, State::Open { .. }) => Closing::Early,
        }
    }

    /// The same, and if it is the last one its content changes no more: it is about to be judged.
    pub(super) fn sealing(&self, serial: Serial, body: &Body, expected_size: Option<u64>) -> Closing {
        let mut table = self.table();
        let closing = Self::close(&mut table, serial, expected_size);
        if matches!(closing, Closing::Seal(_)) {
            body.seal(true);
        }
        closing
    }

    /// Leaves an entry whose other handles stay open; false if this is the last one by now.
    pub(super) fn leave_early(&self, serial: Serial) -> bool {
        match self.table().get_mut(serial) {
            Some(Slot { fate: Fate::Live, state: State::Open { handles, .. }, .. }) if *handles > 1 => {
                *handles -= 1;
                true
            }
            _ => false,
        }
    }

    /// Begins to publish the entry of a last handle; false if anything changed since it was asked.
    pub(super) fn begin_seal(&self, serial: Serial, at: &VPath) -> bool {
        match self.table().get_mut(serial) {
            Some(Slot {
                fate: Fate::Live,
                path,
                apart,
                state: State::Open { body, handles, sealing },
                ..
            }) if path == at && (*handles == 1 || *apart) => {
                *sealing = true;
                // Other handles write no more.
                body.seal(body.is_sealed() || *apart);
                true
            }
            _ => false,
        }
    }

    /// Publishes the entry of a last handle and settles the table, whatever became of the handle. To be
    /// called after `begin_seal`, with the path held, from `finish`.
    pub(super) async fn seal(self: &Arc<Self>, serial: Serial, body: &Body) -> Result<Metadata> {
        let result = self.publish_sealed(serial, body).await;
        {
            let mut table = self.table();
            if result.is_ok() {
                self.supersede(&mut table, serial);
                table.outdate(serial);
                table.remove(serial);
            } else if let Some(slot) = table.get_mut(serial)
                && let State::Open { handles, sealing, .. } = &mut slot.state
            {
                *sealing = false;
                if *handles == 0 {
                    self.park(&mut table, serial);
                }
            }
        }
        self.kick();
        result
    }

    async fn publish_sealed(&self, serial: Serial, body: &Body) -> Result<Metadata> {
        let gone = || Error::new(ErrorKind::Closed);
        let (path, id, exclusive, copied, if_match, expected, changing) = {
            let table = self.table();
            let slot = table.get(serial).ok_or_else(gone)?;
            let if_match = slot.if_match.clone();
            let (path, id, changing) = (slot.path.clone(), slot.id.clone(), Arc::clone(&slot.changing));
            (path, id, slot.exclusive, slot.copied, if_match, slot.expected_size, changing)
        };
        let _still = changing.write().await;
        lease::current().unless_cut(|| Ok(()))?;
        if let Some(expected) = expected {
            let size = body.file.metadata().await?.size;
            if size != expected {
                return Err(unlike(size, expected));
            }
        }
        if let Some(tag) = if_match {
            match self.store.stat(&path, Follow::No).await {
                Ok(there) if there.etag.as_deref() == Some(&*tag) => {}
                Ok(_) => return Err(changed()),
                Err(e) if e.kind() == ErrorKind::NotFound => return Err(changed()),
                Err(e) => return Err(e),
            }
        }
        if copied && !body.progress().touched {
            match self.store.stat(&path, Follow::No).await {
                // Opened for change, and nothing was changed: the file that stands is the result.
                Ok(there) => {
                    self.table().trash.push(id);
                    return Ok(there);
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        let replace = if exclusive { Replace::No } else { Replace::Yes };
        let keep = !body.progress().own_mode;
        self.store.publish(&id, &path, replace, keep).await
    }

    /// Discards what the owner of an entry parked at its path before.
    fn supersede(&self, table: &mut Table, serial: Serial) {
        let Some(slot) = table.get(serial).filter(|slot| slot.fate == Fate::Live) else { return };
        let (owner, path) = (slot.owner.clone(), slot.path.clone());
        for older in table.own(&owner, &path) {
            if older != serial {
                table.discard_parked(older);
            }
        }
    }

    /// A handle ends without publishing. Does not wait, so that a drop can do it.
    pub(super) fn leave(self: &Arc<Self>, serial: Serial, how: Leave) {
        {
            let mut table = self.table();
            let Some(slot) = table.get_mut(serial) else { return };
            let State::Open { handles, sealing, .. } = &mut slot.state else { return };
            *handles = handles.saturating_sub(1);
            let last = *handles == 0 && !*sealing;
            if how == Leave::Aborted && slot.fate == Fate::Live {
                table.doom(serial, Fate::Discarded);
            }
            if last {
                self.park(&mut table, serial);
            }
        }
        // An abort does the chores itself and waits for them.
        if how != Leave::Aborted {
            self.kick();
        }
    }

    /// The last handle is gone: the entry is kept for its owner, or thrown away.
    fn park(&self, table: &mut Table, serial: Serial) {
        let Some(slot) = table.get_mut(serial) else { return };
        let State::Open { body, .. } = &slot.state else { return };
        let (size, room, touched, lacked_room) = {
            let progress = body.progress();
            slot.own_mode = progress.own_mode;
            // What may be written in any order is known to whoever writes it.
            let whole = if slot.apart { progress.size() } else { progress.arrived() };
            (whole, progress.size(), progress.touched, progress.lacked_room)
        };
        let lasts = slot.lasting.is_some();
        // Nothing to continue from: keeping it would only hide the published file. What found the disk full
        // would keep it full.
        let worth_keeping = (slot.was_parked || lasts || (touched && size > 0)) && !lacked_room;
        let unwanted = match self.policy.parking {
            Parking::Keep => slot.overwrites && slot.owner.shared,
            Parking::Discard => true,
            Parking::Publish => false,
        };
        let outdated = slot.outdated && !lasts;
        if slot.fate != Fate::Live || slot.forgotten || outdated || !worth_keeping || unwanted {
            table.discard(serial);
            return;
        }
        slot.state = State::Parked(Kept { since: self.now(), size, room, known: None, busy: false });
        if lasts {
            return;
        }
        self.supersede(table, serial);
        if self.policy.parking == Parking::Publish {
            table.due.push(serial);
        }
    }

    /// Has the chores done, now if there is a runtime, else at the next sweep.
    pub(super) fn kick(self: &Arc<Self>) {
        let idle = {
            let table = self.table();
            table.trash.is_empty() && table.due.is_empty()
        };
        if !idle && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(Arc::clone(self).chores());
        }
    }

    /// Throws away and publishes what is due. Nobody's lease: it belongs to no session.
    pub(super) async fn chores(self: Arc<Self>) {
        let (trash, due) = {
            let mut table = self.table();
            (std::mem::take(&mut table.trash), std::mem::take(&mut table.due))
        };
        for id in trash {
            if let Err(e) = self.store.unstage(&id).await {
                tracing::warn!(id = %id.0, error = %e, "a staged file could not be thrown away yet");
                self.table().trash.push(id);
            }
        }
        for serial in due {
            self.publish_parked(serial).await;
        }
    }

    async fn publish_parked(self: &Arc<Self>, serial: Serial) {
        let Some(path) = self.table().get(serial).map(|slot| slot.path.clone()) else { return };
        let _hold = self.hold(vec![path.clone()]).await;
        let (id, replace, keep, changing) = {
            let mut table = self.table();
            let Some(slot) = table.get_mut(serial) else { return };
            let State::Parked(kept) = &mut slot.state else { return };
            if kept.busy {
                return;
            }
            if slot.path != path {
                table.due.push(serial);
                return;
            }
            kept.busy = true;
            let replace = if slot.exclusive { Replace::No } else { Replace::Yes };
            (slot.id.clone(), replace, !slot.own_mode, Arc::clone(&slot.changing))
        };
        let _still = changing.write().await;
        let published = self.store.publish(&id, &path, replace, keep).await;
        let mut table = self.table();
        match published {
            Ok(_) => {
                table.remove(serial);
            }
            Err(e) => {
                tracing::warn!(path = %path, error = %e, "an unfinished upload could not be published");
                if let Some(Slot { state: State::Parked(kept), .. }) = table.get_mut(serial) {
                    kept.busy = false;
                }
            }
        }
    }
}

/// The content is not as long as its sender says.
pub(super) fn unlike(size: u64, expected: u64) -> Error {
    Error::new(ErrorKind::Corrupt).with_detail(format!("{size} bytes arrived where {expected} were to come"))
}

/// The content is not the one that the condition names.
pub(super) fn changed() -> Error {
    Error::new(ErrorKind::PreconditionFailed).with_detail("the file has changed in the meantime")
}

fn write_note(new: &New) -> Result<Bytes> {
    let note = Note {
        owner: new.owner.name.to_string(),
        shared: new.owner.shared,
        path: BASE64.encode(new.path.as_bytes()),
        overwrites: new.overwrites,
        apart: new.apart,
        lasting: new.lasting.as_deref().map(str::to_owned),
    };
    let note = serde_json::to_vec(&note).map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
    Ok(note.into())
}

fn read_note(note: &[u8]) -> Option<(Note, VPath)> {
    let note: Note = serde_json::from_slice(note).ok()?;
    let path = VPath::absolute(BASE64.decode(&note.path).ok()?).ok()?;
    Some((note, path))
}
