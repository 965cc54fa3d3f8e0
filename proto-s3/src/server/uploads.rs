//! Multipart uploads under way: where their parts lie, and how long they are kept.
//!
//! An upload is one file, whole or nothing: what its parts write nobody sees, and it is published once. A
//! part lies where it will be read, as far as that can be known: parts have one size but for the last, so part
//! *n* stands at (*n* − 1) × that size. A part that does not fit stands behind all others, and the file is put in
//! order when the upload is completed. A store that can only be written in order takes parts in order: a part
//! waits for the one before it.
//!
//! An upload is its account's, through whichever of its sessions its requests come. Its file is open in one session at
//! a time: that of the request that first needed it. When that session is over the file is kept by the staging of the
//! store under the upload's id, and the next request opens it again in its own ([`Multipart::opened`]). What is known
//! of the parts is written down ([`ledger`](super::ledger)), so that the server may end and begin again, too. It ends
//! when nothing came for too long, or when staging sweeps its file.
//!
//! Where nothing is kept (a shared account's, and stores that cannot: `File::keep`) an upload ends with the session that
//! began it, and keeps that from being idle.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use s3s::dto::Checksum;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File as _;
use session_core::gate::SessionFile;
use session_core::net::http::{Client, Held};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ledger::{Arrived, Known, Ledger, Line, Opening};
use super::object::{Kept, Spot};

/// How often uploads are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How many ends are remembered, for clients that did not hear of theirs.
const ENDS: usize = 256;
/// How far ahead of what is there a part may stand, in parts.
const AHEAD: u64 = 64;

type Alone = tokio::sync::OwnedMutexGuard<()>;

/// Whose an upload is: of one site, of one account, or of one session of a shared one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) site: Arc<str>,
    pub(super) account: Arc<str>,
    pub(super) session: Option<String>,
}

/// A part that has arrived.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) md5: [u8; 16],
    pub(super) sums: Checksum,
    pub(super) modified: SystemTime,
    /// A former run of the server took it.
    pub(super) former: bool,
}

/// The places of parts in the file.
#[derive(Debug, Default)]
struct Places {
    /// What a part may take up where parts have one size.
    slot: Option<u64>,
    /// One did not fit: all that come stand behind the others.
    behind: bool,
    end: u64,
    /// Where a part stands, and how much room there is.
    rooms: HashMap<i32, (u64, u64)>,
}

impl Places {
    /// Where a part of this size goes. One that comes again stands where it stood, if it fits.
    fn place(&mut self, number: i32, size: u64) -> u64 {
        if let Some((at, room)) = self.rooms.get(&number)
            && size <= *room
        {
            return *at;
        }
        let slot = *self.slot.get_or_insert(size);
        let index = u64::try_from(number).unwrap_or(1).saturating_sub(1);
        let at = index.saturating_mul(slot);
        let fits = !self.behind
            && !self.rooms.contains_key(&number)
            && size <= slot
            && at <= self.end.saturating_add(slot.saturating_mul(AHEAD));
        let (at, room) = if fits { (at, slot) } else { (self.end, size) };
        self.behind |= !fits;
        self.end = self.end.max(at.saturating_add(room));
        self.rooms.insert(number, (at, room));
        at
    }

    /// Writes the place of a part down.
    fn tell(&self, part: &mut Arrived) {
        if let Some((at, room)) = self.rooms.get(&part.number) {
            (part.at, part.room) = (*at, *room);
        }
        (part.slot, part.behind) = (self.slot, self.behind);
    }

    /// The place of a part, as it was written down. Parts that were on their way then have none any more.
    fn restore(&mut self, part: &Arrived) {
        self.slot = self.slot.or(part.slot);
        self.behind |= part.behind;
        self.end = self.end.max(part.at.saturating_add(part.room));
        self.rooms.insert(part.number, (part.at, part.room));
    }
}

#[derive(Default)]
struct State {
    places: Places,
    parts: BTreeMap<i32, Part>,
    /// Parts on their way, each alone.
    turns: HashMap<i32, Arc<tokio::sync::Mutex<()>>>,
    /// Of a store that is written in order: the next part and where it begins; 0 once it cannot go on.
    next: (i32, u64),
    /// It is being published, or is over.
    ended: bool,
    used: Option<Instant>,
}

/// The file of an upload, open in a session.
pub(super) struct Opened {
    file: Arc<SessionFile>,
    client: Arc<Client>,
    _held: Option<Held>,
}

/// One upload.
pub(super) struct Multipart {
    pub(super) id: String,
    pub(super) owner: Owner,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) spot: Spot,
    pub(super) kept: Kept,
    pub(super) started: SystemTime,
    /// Its file can be opened again when the session that has it is over.
    lasts: bool,
    /// The store is written in order.
    ordered: bool,
    /// Where it is written down.
    ledger: Option<Ledger>,
    came: Notify,
    state: Mutex<State>,
    open: Mutex<Option<Opened>>,
    /// Held by who opens it again.
    pub(super) opening: tokio::sync::Mutex<()>,
}

/// A part's turn: nobody else writes it.
pub(super) struct Turn {
    pub(super) at: u64,
    /// It was there already.
    anew: bool,
    _alone: Alone,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work on the disk. Errors: its own, `Internal` where it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::new(ErrorKind::Internal))?
}

/// A new id. Errors: `Internal`, without randomness.
pub(super) fn new_id() -> Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness"))?;
    Ok(super::digest::hex(&random))
}

/// What an upload begins with.
pub(super) struct Begun {
    pub(super) id: String,
    pub(super) owner: Owner,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) spot: Spot,
    pub(super) kept: Kept,
    pub(super) file: Arc<SessionFile>,
    pub(super) lasts: bool,
    pub(super) ordered: bool,
    pub(super) client: Arc<Client>,
}

impl Multipart {
    /// One of a former run; `None` where its key leads nowhere any more.
    fn known(known: Known, ledger: &Ledger) -> Option<Multipart> {
        let Known { id, opening, parts, age } = known;
        let mut state = State { next: (1, 0), ..State::default() };
        for (number, part) in &parts {
            let md5 = part.md5()?;
            state.places.restore(part);
            let (sums, modified) = (part.sums(), part.modified());
            let part = Part { at: part.at, size: part.size, md5, sums, modified, former: true };
            state.parts.insert(*number, part);
        }
        let now = Instant::now();
        state.used = now.checked_sub(age).or(Some(now));
        Some(Multipart {
            id,
            owner: Owner {
                site: opening.site.as_str().into(),
                account: opening.account.as_str().into(),
                session: None,
            },
            spot: Spot::of(&opening.bucket, &opening.key).ok()?,
            kept: opening.kept(),
            started: opening.started(),
            bucket: opening.bucket,
            key: opening.key,
            lasts: true,
            ordered: false,
            ledger: Some(ledger.clone()),
            came: Notify::new(),
            state: Mutex::new(state),
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        })
    }

    /// Its file, unless the session that had it is over: then that lets go of it.
    pub(super) fn opened(&self) -> Option<Arc<SessionFile>> {
        let mut open = lock(&self.open);
        if open.as_ref().is_some_and(|o| o.client.session.is_cut()) {
            *open = None;
        }
        open.as_ref().map(|o| Arc::clone(&o.file))
    }

    /// Its file is open in this session from now on.
    pub(super) fn goes_on(&self, file: &Arc<SessionFile>, client: &Arc<Client>) {
        let held = (!self.lasts).then(|| client.hold());
        let opened = Opened { file: Arc::clone(file), client: Arc::clone(client), _held: held };
        *lock(&self.open) = Some(opened);
    }

    /// It ended with its session.
    fn is_lost(&self) -> bool {
        !self.lasts && lock(&self.open).as_ref().is_none_or(|o| o.client.session.is_cut())
    }

    /// Writes down what happened, where that outlives the server. Errors: those of the disk.
    async fn note(&self, line: Line) -> Result<()> {
        let Some(ledger) = self.ledger.clone() else { return Ok(()) };
        let id = self.id.clone();
        blocking(move || ledger.add(&id, &line)).await
    }

    /// Waits for the turn of a part and says where it goes; what was there of it is gone. Errors: `Throttled` where
    /// the parts before it do not come in time, `InvalidArgument` where they came without it; those of the disk.
    pub(super) async fn turn(&self, number: i32, size: u64, patience: Duration) -> Result<Turn> {
        let turn = {
            let mut state = lock(&self.state);
            state.used = Some(Instant::now());
            Arc::clone(state.turns.entry(number).or_default())
        };
        let alone = turn.lock_owned().await;
        let turn = self.placed(number, size, patience, alone).await?;
        if turn.anew {
            // A server that begins again must not believe in what is half another part.
            self.note(Line::Gone(number)).await?;
        }
        Ok(turn)
    }

    async fn placed(&self, number: i32, size: u64, patience: Duration, alone: Alone) -> Result<Turn> {
        let until = Instant::now() + patience;
        loop {
            let notified = self.came.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let mut state = lock(&self.state);
                if state.ended {
                    return Err(Error::new(ErrorKind::NotFound).with_detail("the upload is over"));
                }
                if !self.ordered {
                    let anew = state.parts.remove(&number).is_some();
                    return Ok(Turn { at: state.places.place(number, size), anew, _alone: alone });
                }
                match state.next {
                    (0, _) => {
                        return Err(
                            Error::new(ErrorKind::Corrupt).with_detail("a part of the upload was lost")
                        );
                    }
                    (next, at) if next == number => return Ok(Turn { at, anew: false, _alone: alone }),
                    (next, _) if next > number => {
                        let words = "this store takes every part once, in order";
                        return Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
                    }
                    _ => {}
                }
            }
            if tokio::time::timeout_at(until, notified).await.is_err() {
                let words = "this store takes parts in order: those before this one are missing";
                return Err(Error::new(ErrorKind::Throttled).with_detail(words));
            }
        }
    }

    /// Writes down that a part has arrived. Errors: those of the disk.
    pub(super) async fn keep(&self, number: i32, part: &Part) -> Result<()> {
        let mut arrived = Arrived::new(number, part.size, &part.md5, &part.sums, part.modified);
        lock(&self.state).places.tell(&mut arrived);
        self.note(Line::Part(arrived)).await
    }

    /// A part has arrived; `None` for one that has not.
    pub(super) fn arrived(&self, number: i32, part: Option<Part>) {
        let mut state = lock(&self.state);
        state.used = Some(Instant::now());
        if self.ordered {
            state.next = part.as_ref().map_or((0, 0), |p| (number + 1, p.at + p.size));
        }
        if let Some(part) = part {
            state.parts.insert(number, part);
        }
        drop(state);
        self.came.notify_waiters();
    }

    /// A part is not what it was: it has to come again. Errors: those of the disk.
    pub(super) async fn drop_part(&self, number: i32) -> Result<()> {
        lock(&self.state).parts.remove(&number);
        self.note(Line::Gone(number)).await
    }

    /// The parts by their numbers.
    pub(super) fn parts(&self) -> BTreeMap<i32, Part> {
        lock(&self.state).parts.clone()
    }

    /// It is to be published: by one, once, until `again`. False if it is already.
    pub(super) fn end(&self) -> bool {
        let ended = !std::mem::replace(&mut lock(&self.state).ended, true);
        self.came.notify_waiters();
        ended
    }

    /// It was not published, and may still be.
    pub(super) fn again(&self) {
        lock(&self.state).ended = false;
    }

    fn is_over(&self, keep: Duration) -> bool {
        let state = lock(&self.state);
        self.is_lost() || (!state.ended && state.used.is_some_and(|at| at.elapsed() >= keep))
    }
}

/// All uploads under way, through every change of a server's options.
#[derive(Default)]
pub(super) struct Uploads {
    all: Mutex<HashMap<String, Arc<Multipart>>>,
    /// What was published lately: the upload, whose it was, the ETag.
    ends: Mutex<VecDeque<(String, Owner, String)>>,
    /// The folders of which it is known what stands in them.
    loaded: tokio::sync::Mutex<HashSet<PathBuf>>,
    attended: AtomicBool,
}

impl Uploads {
    /// Takes up what a former run has written down in a folder, once.
    pub(super) async fn load(self: &Arc<Self>, folder: &Path, keep: Duration) {
        let mut loaded = self.loaded.lock().await;
        if loaded.contains(folder) {
            return;
        }
        let ledger = Ledger::new(folder);
        let found = {
            let ledger = ledger.clone();
            blocking(move || ledger.load(keep)).await
        };
        match found {
            Ok(found) => {
                let mut all = lock(&self.all);
                for known in found {
                    let id = known.id.clone();
                    match Multipart::known(known, &ledger) {
                        Some(upload) => drop(all.insert(id, Arc::new(upload))),
                        None => tracing::warn!(upload = id, "an upload cannot be gone on with"),
                    }
                }
            }
            Err(e) => {
                tracing::error!(folder = %folder.display(), "unfinished uploads of a former run are not known: {e:#}")
            }
        }
        loaded.insert(folder.to_owned());
        self.attend(keep);
    }

    /// A new upload, kept for so long after its last part and written down in this folder; an account has so many at
    /// most. Errors: `Throttled`; those of the disk.
    pub(super) async fn begin(
        self: &Arc<Self>,
        begun: Begun,
        folder: Option<&Path>,
        keep: Duration,
        most: usize,
    ) -> Result<Arc<Multipart>> {
        let started = begun.client.session.now();
        let ledger = folder.filter(|_| begun.lasts).map(Ledger::new);
        let upload = Arc::new(Multipart {
            id: begun.id,
            owner: begun.owner,
            bucket: begun.bucket,
            key: begun.key,
            spot: begun.spot,
            kept: begun.kept,
            started,
            lasts: begun.lasts,
            ordered: begun.ordered,
            ledger: ledger.clone(),
            came: Notify::new(),
            state: Mutex::new(State { next: (1, 0), used: Some(Instant::now()), ..State::default() }),
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        });
        upload.goes_on(&begun.file, &begun.client);
        {
            let mut all = lock(&self.all);
            if all.values().filter(|u| u.owner == upload.owner).count() >= most {
                let words = "there are too many uploads under way";
                return Err(Error::new(ErrorKind::Throttled).with_detail(words));
            }
            all.insert(upload.id.clone(), Arc::clone(&upload));
        }
        self.attend(keep);
        if let Some(ledger) = ledger {
            let Owner { site, account, .. } = &upload.owner;
            let object = (upload.bucket.as_str(), upload.key.as_str());
            let opening = Opening::new((site, account), object, &upload.kept, started);
            let id = upload.id.clone();
            let written = blocking(move || ledger.begin(&id, opening)).await;
            if written.is_err() {
                lock(&self.all).remove(&upload.id);
            }
            written?;
        }
        Ok(upload)
    }

    /// The upload of this id, if it is this owner's and of this object.
    pub(super) fn find(&self, id: &str, owner: &Owner, bucket: &str, key: &str) -> Option<Arc<Multipart>> {
        let all = lock(&self.all);
        let is =
            |u: &&Arc<Multipart>| u.owner == *owner && u.bucket == bucket && u.key == key && !u.is_lost();
        all.get(id).filter(is).cloned()
    }

    /// All of an owner in a bucket, by key and beginning.
    pub(super) fn of(&self, owner: &Owner, bucket: &str) -> Vec<Arc<Multipart>> {
        let is = |u: &&Arc<Multipart>| u.owner == *owner && u.bucket == bucket && !u.is_lost();
        let mut all: Vec<_> = lock(&self.all).values().filter(is).cloned().collect();
        all.sort_by(|a, b| (&a.key, a.started, &a.id).cmp(&(&b.key, b.started, &b.id)));
        all
    }

    /// It is over; with its ETag if it was published.
    pub(super) fn over(&self, upload: &Multipart, etag: Option<&str>) {
        lock(&self.all).remove(&upload.id);
        if let Some(ledger) = &upload.ledger {
            // At once: whoever is told that it is over does not find it after a restart.
            ledger.end(&upload.id);
        }
        if let Some(etag) = etag {
            let mut ends = lock(&self.ends);
            if ends.len() >= ENDS {
                ends.pop_front();
            }
            ends.push_back((upload.id.clone(), upload.owner.clone(), etag.to_owned()));
        }
    }

    /// The ETag that an upload of this owner was published with, lately.
    pub(super) fn published(&self, id: &str, owner: &Owner) -> Option<String> {
        let ends = lock(&self.ends);
        ends.iter().find(|(i, o, _)| i == id && o == owner).map(|(_, _, etag)| etag.clone())
    }

    /// Somebody throws away what is over, for as long as there is any.
    fn attend(self: &Arc<Self>, keep: Duration) {
        if !self.attended.swap(true, Ordering::AcqRel) {
            tokio::spawn(Self::sweep(Arc::downgrade(self), keep));
        }
    }

    async fn sweep(this: Weak<Self>, keep: Duration) {
        loop {
            tokio::time::sleep(LOOK.min(keep)).await;
            let Some(this) = this.upgrade() else { return };
            let over: Vec<_> = {
                let all = lock(&this.all);
                all.values().filter(|u| u.is_over(keep)).cloned().collect()
            };
            for upload in over {
                upload.end();
                let open = lock(&upload.open).take();
                this.over(&upload, None);
                // One that is open nowhere is the staging's to throw away.
                if let Some(open) = open {
                    let _ = open.file.abort().await;
                }
            }
            let all = lock(&this.all);
            all.values().for_each(|u| drop(u.opened()));
            if all.is_empty() {
                this.attended.store(false, Ordering::Release);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_size_stand_where_they_will_be_read() {
        let mut places = Places::default();
        for (number, size, at) in [(2, 5, 5), (1, 5, 0), (4, 3, 15), (3, 5, 10), (4, 2, 15), (4, 5, 15)] {
            assert_eq!(places.place(number, size), at, "{number}");
        }
        assert!(!places.behind);
    }

    #[test]
    fn a_part_that_does_not_fit_stands_behind_the_others() {
        let mut places = Places::default();
        assert_eq!(places.place(3, 2), 4, "the last one came first");
        assert_eq!(places.place(1, 5), 6);
        assert_eq!(places.place(2, 5), 11);
        assert_eq!(places.place(1, 4), 6, "again");
        assert_eq!(places.place(1, 6), 16, "again, and larger");
        assert!(places.behind);
        let mut far = Places::default();
        assert_eq!(far.place(1, 10), 0);
        assert_eq!(far.place(10_000, 10), 10, "no hole of any size");
        // Nothing overlaps, whatever comes.
        let mut any = Places::default();
        for n in 0..200i32 {
            let (number, size) = (n * 7 % 41 + 1, u64::try_from(n * 13 % 29 + 1).unwrap());
            any.place(number, size);
            let mut rooms: Vec<_> = any.rooms.values().copied().collect();
            rooms.sort_unstable();
            assert!(rooms.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{rooms:?}");
        }
    }

    #[test]
    fn places_that_were_written_down_are_the_same_places() {
        for sizes in [&[(2, 5), (1, 5), (4, 3)][..], &[(3, 2), (1, 5), (2, 4)], &[(1, 4), (1, 6), (2, 4)]] {
            let (mut places, mut again) = (Places::default(), Places::default());
            let mut written = BTreeMap::new();
            for (number, size) in sizes {
                places.place(*number, *size);
                let sums = Checksum::default();
                let mut part = Arrived::new(*number, *size, &[0; 16], &sums, SystemTime::UNIX_EPOCH);
                places.tell(&mut part);
                written.insert(*number, part);
            }
            written.values().for_each(|part| again.restore(part));
            assert_eq!(again.rooms, places.rooms, "{sizes:?}");
            for (number, size) in [(5, 5), (6, 9), (1, 3)] {
                assert_eq!(again.place(number, size), places.place(number, size), "{sizes:?} {number}");
            }
        }
    }
}
