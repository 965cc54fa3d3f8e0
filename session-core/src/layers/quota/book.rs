//! `Book`: how much every place holds, what is promised to uploads under way, and what it may hold.
//!
//! Pure data under one mutex; nothing here waits. A place has the limits of everybody who names it, and all of
//! them hold; it may belong to groups, whose limits hold for the sum of their places. Asking and promising are
//! one step, so two uploads that fit alone and not together do not both get in.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::StageId;

/// What is left, and the limit; `None` where there is none.
type Left = Option<(u64, u64)>;

/// How much there may be; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes, never exceeded: what does not fit is refused while it comes.
    pub bytes: u64,
    /// Bytes from which nothing new is begun; what is under way may end.
    pub soft_bytes: u64,
    /// Files and links, never exceeded.
    pub files: u64,
    /// Files and links from which nothing new is begun.
    pub soft_files: u64,
}

/// How much there is: of each name the bytes of its content. Directories do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Files and links.
    pub files: u64,
}

impl Usage {
    fn plus(self, bytes: i128, files: i128) -> Usage {
        let add = |n: u64, d: i128| u64::try_from((i128::from(n) + d).max(0)).unwrap_or(u64::MAX);
        Usage { bytes: add(self.bytes, bytes), files: add(self.files, files) }
    }
}

/// An upload that is not published yet.
#[derive(Clone, Copy, Debug, Default)]
struct Upload {
    size: u64,
    /// The bytes of what it will replace.
    replaces: u64,
    is_new: bool,
}

impl Upload {
    /// What it needs beyond what it replaces.
    fn needs(self) -> Usage {
        Usage { bytes: self.size.saturating_sub(self.replaces), files: u64::from(self.is_new) }
    }
}

#[derive(Default)]
struct Place {
    published: Usage,
    promised: Usage,
    uploads: HashMap<StageId, Upload>,
    /// By who set them.
    limits: BTreeMap<String, Limits>,
    groups: Vec<String>,
}

#[derive(Default)]
struct Group {
    used: Usage,
    limits: Limits,
}

#[derive(Default)]
struct State {
    places: HashMap<String, Place>,
    groups: HashMap<String, Group>,
}

/// What is known of a place.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its name.
    pub place: String,
    /// What it holds.
    pub published: Usage,
    /// What uploads under way need besides.
    pub promised: Usage,
    /// Its limits, by who set them.
    pub limits: BTreeMap<String, Limits>,
    /// Its groups.
    pub groups: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub struct Book(Mutex<State>);

fn exceeded(limits: &Limits, used: Usage, bytes: i128, files: i128) -> bool {
    let over = |limit: u64, used: u64, more: i128| {
        limit > 0 && more > 0 && i128::from(used) + more > i128::from(limit)
    };
    over(limits.bytes, used.bytes, bytes) || over(limits.files, used.files, files)
}

fn used_up() -> Error {
    Error::new(ErrorKind::QuotaExceeded).with_detail("the quota is used up")
}

impl State {
    fn place(&mut self, name: &str) -> &mut Place {
        self.places.entry(name.to_owned()).or_default()
    }

    /// Each set of limits with what counts against it.
    fn bounds<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (&'a Limits, Usage)> {
        let used = place.used();
        let own = place.limits.values().map(move |l| (l, used));
        own.chain(place.groups.iter().filter_map(|g| self.groups.get(g)).map(|g| (&g.limits, g.used)))
    }

    /// Asks whether so much more fits.
    fn fits(&self, name: &str, bytes: i128, files: i128) -> Result<()> {
        let Some(place) = self.places.get(name) else { return Ok(()) };
        match self.bounds(place).any(|(limits, used)| exceeded(limits, used, bytes, files)) {
            true => Err(used_up()),
            false => Ok(()),
        }
    }

    /// Changes a place, and with it the sums of its groups.
    fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Place) -> T) -> T {
        let place = self.place(name);
        let before = place.used();
        let done = change(place);
        let after = place.used();
        if after != before {
            let more = |a: u64, b: u64| i128::from(a) - i128::from(b);
            let (bytes, files) = (more(after.bytes, before.bytes), more(after.files, before.files));
            for name in place.groups.clone() {
                if let Some(group) = self.groups.get_mut(&name) {
                    group.used = group.used.plus(bytes, files);
                }
            }
        }
        done
    }
}

impl Place {
    fn used(&self) -> Usage {
        self.published.plus(self.promised.bytes.into(), self.promised.files.into())
    }

    /// An upload is what it says from now on, or is no more.
    fn note(&mut self, id: &StageId, upload: Option<Upload>) {
        let before = match upload {
            Some(upload) => self.uploads.insert(id.clone(), upload),
            None => self.uploads.remove(id),
        };
        let (before, now) = (before.unwrap_or_default().needs(), upload.unwrap_or_default().needs());
        let add = |a: u64, b: u64| i128::from(a) - i128::from(b);
        self.promised = self.promised.plus(add(now.bytes, before.bytes), add(now.files, before.files));
    }
}

impl Book {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place by name; `by` sets its limits, instead of those it set before. In each of `groups`, with its
    /// limits, it is counted from now on.
    pub fn account(
        self: &Arc<Self>,
        place: &str,
        by: &str,
        limits: Limits,
        groups: &[(String, Limits)],
    ) -> Account {
        {
            let mut state = self.state();
            state.place(place).limits.insert(by.to_owned(), limits);
            for (name, limits) in groups {
                state.groups.entry(name.clone()).or_default().limits = *limits;
                let there = state.place(place);
                if !there.groups.contains(name) {
                    there.groups.push(name.clone());
                    let used = there.used();
                    if let Some(group) = state.groups.get_mut(name) {
                        group.used = group.used.plus(used.bytes.into(), used.files.into());
                    }
                }
            }
        }
        Account { book: Arc::clone(self), place: place.into() }
    }

    /// All places, by name.
    pub fn report(&self) -> Vec<Report> {
        let state = self.state();
        let report = |(name, p): (&String, &Place)| Report {
            place: name.clone(),
            published: p.published,
            promised: p.promised,
            limits: p.limits.clone(),
            groups: p.groups.clone(),
        };
        let mut all: Vec<_> = state.places.iter().map(report).collect();
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all
    }

    /// The place whose limits `by` has set: what it holds with what uploads need, and those limits.
    pub fn bound_by(&self, by: &str) -> Option<(Usage, Limits)> {
        self.state().places.values().find_map(|p| Some((p.used(), *p.limits.get(by)?)))
    }

    /// The limits of a group, and the sum of its places with what uploads need.
    pub fn group(&self, name: &str) -> Option<(Limits, Usage)> {
        self.state().groups.get(name).map(|g| (g.limits, g.used))
    }
}

/// One place of a book. Cheap to clone.
#[derive(Clone)]
pub struct Account {
    book: Arc<Book>,
    place: Arc<str>,
}

impl Account {
    /// Its name in the book.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is published there.
    pub fn published(&self) -> Usage {
        self.book.state().place(&self.place).published
    }

    /// What was found to be published there.
    pub(super) fn set_published(&self, usage: Usage) {
        self.book.state().change(&self.place, |p| p.published = usage);
    }

    /// Something new is begun. Errors: `QuotaExceeded` where a soft limit is reached.
    pub(super) fn begin(&self) -> Result<()> {
        let state = self.book.state();
        let Some(place) = state.places.get(&*self.place) else { return Ok(()) };
        let reached = |(l, used): (&Limits, Usage)| {
            l.soft_bytes > 0 && used.bytes >= l.soft_bytes || l.soft_files > 0 && used.files >= l.soft_files
        };
        match state.bounds(place).any(reached) {
            true => Err(used_up()),
            false => Ok(()),
        }
    }

    /// Publishes so much more, or less; what is more must fit.
    pub(super) fn add(&self, bytes: i128, files: i128) -> Result<()> {
        let mut state = self.book.state();
        state.fits(&self.place, bytes, files)?;
        state.change(&self.place, |p| p.published = p.published.plus(bytes, files));
        Ok(())
    }

    /// Publishes so much more, or less: it is a fact.
    pub(super) fn correct(&self, bytes: i128, files: i128) {
        self.book.state().change(&self.place, |p| p.published = p.published.plus(bytes, files));
    }

    /// An upload that was found, as it is.
    pub(super) fn found(&self, id: &StageId, size: u64) {
        self.book.state().change(&self.place, |p| {
            let known = p.uploads.get(id).copied();
            let upload = known.unwrap_or(Upload { is_new: true, ..Upload::default() });
            p.note(id, Some(Upload { size, ..upload }));
        });
    }

    /// A new upload, which will replace so many bytes, or nothing.
    pub(super) fn open(&self, id: &StageId, replaces: Option<u64>) {
        let upload = Upload { size: 0, replaces: replaces.unwrap_or(0), is_new: replaces.is_none() };
        self.book.state().change(&self.place, |p| p.note(id, Some(upload)));
    }

    /// An upload is at least so long; promised only if it fits.
    pub(super) fn grow(&self, id: &StageId, size: u64) -> Result<()> {
        let upload = self.upload(id);
        if size <= upload.size {
            return Ok(());
        }
        self.renew(id, |upload| Upload { size: size.max(upload.size), ..upload })
    }

    /// An upload is exactly so long.
    pub(super) fn cut(&self, id: &StageId, size: u64) {
        self.book.state().change(&self.place, |p| {
            let upload = p.uploads.get(id).copied().unwrap_or_default();
            p.note(id, Some(Upload { size, ..upload }));
        });
    }

    /// An upload is about to replace so many bytes, or nothing. Errors: `QuotaExceeded` where it does not fit,
    /// because what it was to replace is no longer there.
    pub(super) fn aim(&self, id: &StageId, replaces: Option<u64>) -> Result<()> {
        let (replaces, is_new) = (replaces.unwrap_or(0), replaces.is_none());
        self.renew(id, |upload| Upload { replaces, is_new, ..upload })
    }

    /// An upload was published, and replaced so many bytes, or nothing.
    pub(super) fn publish(&self, id: &StageId, size: u64, replaced: Option<u64>) {
        self.book.state().change(&self.place, |p| {
            p.note(id, None);
            let bytes = i128::from(size) - i128::from(replaced.unwrap_or(0));
            p.published = p.published.plus(bytes, i128::from(replaced.is_none()));
        });
    }

    /// An upload is no more.
    pub(super) fn forget(&self, id: &StageId) {
        self.book.state().change(&self.place, |p| p.note(id, None));
    }

    fn upload(&self, id: &StageId) -> Upload {
        self.book.state().place(&self.place).uploads.get(id).copied().unwrap_or_default()
    }

    fn renew(&self, id: &StageId, change: impl FnOnce(Upload) -> Upload) -> Result<()> {
        let mut state = self.book.state();
        let before = state.place(&self.place).uploads.get(id).copied().unwrap_or_default();
        let after = change(before);
        let (had, needs) = (before.needs(), after.needs());
        let more = |a: u64, b: u64| i128::from(a) - i128::from(b);
        state.fits(&self.place, more(needs.bytes, had.bytes), more(needs.files, had.files))?;
        state.change(&self.place, |p| p.note(id, Some(after)));
        Ok(())
    }

    /// The smallest of what is left, and of the limits; `None` where there is no limit. Bytes, then files.
    pub(super) fn left(&self) -> (Left, Left) {
        let state = self.book.state();
        let Some(place) = state.places.get(&*self.place) else { return (None, None) };
        let least = |of: fn(&Limits) -> u64, used: fn(Usage) -> u64| {
            let bound = state.bounds(place).filter(|(l, _)| of(l) > 0);
            bound.map(|(l, u)| (of(l).saturating_sub(used(u)), of(l))).min()
        };
        (least(|l| l.bytes, |u| u.bytes), least(|l| l.files, |u| u.files))
    }
}
