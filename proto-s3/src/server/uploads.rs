//! Multipart uploads under way: where their parts lie, and how long they are kept.
//!
//! An upload is one open file, whole or nothing: what its parts write nobody sees, and it is published once. A
//! part lies where it will be read, as far as that can be known: parts have one size but for the last, so part
//! *n* stands at (*n* − 1) × that size. A part that does not fit stands behind all others, and the file is put in
//! order when the upload is completed. A store that can only be written in order takes parts in order: a part
//! waits for the one before it.
//!
//! An upload is its account's, through whichever of its sessions its requests come; it goes on in the session
//! that began it, keeps that from being idle, and ends with it. It ends, too, when nothing came for too long.
//!
//! Deliberately absent: uploads that outlive the server; files that no upload knows any more are swept by the
//! staging area.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use s3s::dto::Checksum;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File as _;
use session_core::gate::SessionFile;
use session_core::net::http::{Client, Held};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::object::{Found, Kept, Spot};

/// How often uploads are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How many ends are remembered, for clients that did not hear of theirs.
const ENDS: usize = 256;
/// How far ahead of what is there a part may stand, in parts.
const AHEAD: u64 = 64;

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

/// One upload.
pub(super) struct Multipart {
    pub(super) id: String,
    pub(super) owner: Owner,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) spot: Spot,
    pub(super) kept: Kept,
    /// What will be replaced.
    pub(super) there: Option<Found>,
    pub(super) started: SystemTime,
    pub(super) file: Arc<SessionFile>,
    /// The store is written in order.
    ordered: bool,
    came: Notify,
    state: Mutex<State>,
    client: Arc<Client>,
    _held: Held,
}

/// A part's turn: nobody else writes it.
pub(super) struct Turn {
    pub(super) at: u64,
    _alone: tokio::sync::OwnedMutexGuard<()>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an upload begins with.
pub(super) struct Begun {
    pub(super) owner: Owner,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) spot: Spot,
    pub(super) kept: Kept,
    pub(super) there: Option<Found>,
    pub(super) file: Arc<SessionFile>,
    pub(super) ordered: bool,
    pub(super) client: Arc<Client>,
}

impl Multipart {
    /// Waits for the turn of a part and says where it goes; what was there of it is gone. Errors: `Throttled` where
    /// the parts before it do not come in time, `InvalidArgument` where they came without it.
    pub(super) async fn turn(&self, number: i32, size: u64, patience: Duration) -> Result<Turn> {
        let turn = {
            let mut state = lock(&self.state);
            state.used = Some(Instant::now());
            Arc::clone(state.turns.entry(number).or_default())
        };
        let alone = turn.lock_owned().await;
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
                    state.parts.remove(&number);
                    return Ok(Turn { at: state.places.place(number, size), _alone: alone });
                }
                match state.next {
                    (0, _) => {
                        return Err(
                            Error::new(ErrorKind::Corrupt).with_detail("a part of the upload was lost")
                        );
                    }
                    (next, at) if next == number => return Ok(Turn { at, _alone: alone }),
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
        self.client.session.is_cut() || (!state.ended && state.used.is_some_and(|at| at.elapsed() >= keep))
    }
}

/// All uploads under way, through every change of a server's options.
#[derive(Default)]
pub(super) struct Uploads {
    all: Mutex<HashMap<String, Arc<Multipart>>>,
    /// What was published lately: the upload, whose it was, the ETag.
    ends: Mutex<VecDeque<(String, Owner, String)>>,
}

impl Uploads {
    /// A new upload, kept for so long after its last part; an account has so many at most. Errors: `Throttled`,
    /// `Internal`.
    pub(super) fn begin(
        self: &Arc<Self>,
        begun: Begun,
        keep: Duration,
        most: usize,
    ) -> Result<Arc<Multipart>> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random)
            .map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness"))?;
        let id = super::digest::hex(&random);
        let mut all = lock(&self.all);
        if all.values().filter(|u| u.owner == begun.owner).count() >= most {
            let words = "there are too many uploads under way";
            return Err(Error::new(ErrorKind::Throttled).with_detail(words));
        }
        let held = begun.client.hold();
        let upload = Arc::new(Multipart {
            id: id.clone(),
            owner: begun.owner,
            bucket: begun.bucket,
            key: begun.key,
            spot: begun.spot,
            kept: begun.kept,
            there: begun.there,
            started: begun.client.session.now(),
            file: begun.file,
            ordered: begun.ordered,
            came: Notify::new(),
            state: Mutex::new(State { next: (1, 0), used: Some(Instant::now()), ..State::default() }),
            client: begun.client,
            _held: held,
        });
        if all.is_empty() {
            tokio::spawn(Self::sweep(Arc::downgrade(self), keep));
        }
        all.insert(id, Arc::clone(&upload));
        Ok(upload)
    }

    /// The upload of this id, if it is this owner's and of this object.
    pub(super) fn find(&self, id: &str, owner: &Owner, bucket: &str, key: &str) -> Option<Arc<Multipart>> {
        let all = lock(&self.all);
        let is = |u: &&Arc<Multipart>| {
            u.owner == *owner && u.bucket == bucket && u.key == key && !u.client.session.is_cut()
        };
        all.get(id).filter(is).cloned()
    }

    /// All of an owner in a bucket, by key and beginning.
    pub(super) fn of(&self, owner: &Owner, bucket: &str) -> Vec<Arc<Multipart>> {
        let is = |u: &&Arc<Multipart>| u.owner == *owner && u.bucket == bucket && !u.client.session.is_cut();
        let mut all: Vec<_> = lock(&self.all).values().filter(is).cloned().collect();
        all.sort_by(|a, b| (&a.key, a.started, &a.id).cmp(&(&b.key, b.started, &b.id)));
        all
    }

    /// It is over; with its ETag if it was published.
    pub(super) fn over(&self, upload: &Multipart, etag: Option<&str>) {
        lock(&self.all).remove(&upload.id);
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

    /// Throws away what is over, until nothing is left.
    async fn sweep(this: Weak<Self>, keep: Duration) {
        loop {
            tokio::time::sleep(LOOK.min(keep)).await;
            let Some(this) = this.upgrade() else { return };
            let over: Vec<_> = {
                let mut all = lock(&this.all);
                let over: Vec<_> = all.values().filter(|u| u.is_over(keep)).cloned().collect();
                over.iter().for_each(|u| {
                    all.remove(&u.id);
                });
                over
            };
            for upload in over {
                upload.end();
                let _ = upload.file.abort().await;
            }
            if lock(&this.all).is_empty() {
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
}
