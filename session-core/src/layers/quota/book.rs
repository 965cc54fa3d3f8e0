//! `Book`: how much every place holds, what is promised to uploads under way, and what it may hold.
//!
//! Data under one mutex. A place has the limits of everybody who names it, and all of them hold; it may belong to
//! groups, whose limits hold for the sum of their places. Asking and promising are one step, so two uploads that
//! fit alone and not together do not both get in. Where several servers count together ([`Book::count_together`])
//! a limit holds for what all of them have, and what would go beyond this server's part waits for a larger one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::share::{Ask, Grant, Grants, Held, Holder, Share};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::StageId;

/// How often something is tried anew because others took what was granted.
const TRIES: u32 = 16;

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

    fn and(self, other: Usage) -> Usage {
        self.plus(other.bytes.into(), other.files.into())
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

/// Limits that somebody has set, and this server's parts of them where several count together.
#[derive(Default)]
struct Bound {
    limits: Limits,
    bytes: Share,
    files: Share,
}

#[derive(Default)]
struct Place {
    published: Usage,
    promised: Usage,
    uploads: HashMap<StageId, Upload>,
    /// By who set them.
    limits: BTreeMap<String, Bound>,
    groups: Vec<String>,
}

#[derive(Default)]
struct Group {
    used: Usage,
    bound: Bound,
}

#[derive(Default)]
struct State {
    places: HashMap<String, Place>,
    groups: HashMap<String, Group>,
    /// Where who sets limits has them: one place each.
    owners: HashMap<String, String>,
}

/// Why something is not counted.
enum Stop {
    /// It does not fit.
    Full,
    /// This server's part is too small.
    Short(Vec<Ask>),
}

/// What a limit is of, in the keys of shares.
const BYTES: &str = "bytes of ";
const FILES: &str = "files of ";
/// What the name of a group follows.
const GROUP: &str = "group ";

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
    /// What counts against them on other servers.
    pub elsewhere: BTreeMap<String, Usage>,
    /// Its groups.
    pub groups: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub struct Book {
    state: Mutex<State>,
    /// Who counts for all servers, where there are several.
    grants: OnceLock<Arc<dyn Grants>>,
}

impl Bound {
    fn elsewhere(&self) -> Usage {
        Usage { bytes: self.bytes.elsewhere, files: self.files.elsewhere }
    }

    /// What there is of it: of which words of a key, limit, part, what is used.
    fn dimensions(&self, used: Usage) -> [(&'static str, u64, Share, u64); 2] {
        [
            (BYTES, self.limits.bytes, self.bytes, used.bytes),
            (FILES, self.limits.files, self.files, used.files),
        ]
    }

    /// The parts, with their limits.
    fn shares(&mut self, used: Usage) -> [(&'static str, u64, &mut Share, u64); 2] {
        [
            (BYTES, self.limits.bytes, &mut self.bytes, used.bytes),
            (FILES, self.limits.files, &mut self.files, used.files),
        ]
    }

    /// What must be asked for before so much more is used.
    fn short(&self, name: &str, used: Usage, bytes: i128, files: i128) -> Vec<Ask> {
        let short = self.dimensions(used).into_iter().zip([bytes, files]);
        let short = short.filter_map(|((of, limit, share, used), more)| {
            let need = u64::try_from((i128::from(used) + more).max(0)).unwrap_or(u64::MAX);
            let is_short = limit > 0 && more > 0 && need > share.may;
            is_short.then(|| Ask { key: format!("{of}{name}"), limit, used, need, until: None })
        });
        short.collect()
    }

    /// What was not asked for yet, at all.
    fn unasked(&self, name: &str, used: Usage) -> Vec<Ask> {
        let unasked =
            self.dimensions(used).into_iter().filter(|(_, limit, share, _)| *limit > 0 && !share.asked);
        unasked
            .map(|(of, limit, _, used)| Ask {
                key: format!("{of}{name}"),
                limit,
                used,
                need: used,
                until: None,
            })
            .collect()
    }
}

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

    /// Each set of limits with what counts against it on this server.
    fn bounds<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (&'a Bound, Usage)> {
        let used = place.used();
        let own = place.limits.values().map(move |l| (l, used));
        own.chain(place.groups.iter().filter_map(|g| self.groups.get(g)).map(|g| (&g.bound, g.used)))
    }

    /// The same with whose they are, as keys of shares have it.
    fn named<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (String, &'a Bound, Usage)> {
        let used = place.used();
        let own = place.limits.iter().map(move |(name, l)| (name.clone(), l, used));
        let groups = place.groups.iter().filter_map(|g| Some((g, self.groups.get(g)?)));
        own.chain(groups.map(|(name, g)| (format!("{GROUP}{name}"), &g.bound, g.used)))
    }

    /// Every part that this server has: whose it is, of what, its limit, and what is used.
    fn each_share(&mut self, mut f: impl FnMut(&str, &'static str, u64, &mut Share, u64)) {
        for place in self.places.values_mut() {
            let used = place.used();
            for (name, bound) in &mut place.limits {
                bound
                    .shares(used)
                    .into_iter()
                    .for_each(|(of, limit, share, used)| f(name, of, limit, share, used));
            }
        }
        for (name, group) in &mut self.groups {
            let (used, name) = (group.used, format!("{GROUP}{name}"));
            let shares = group.bound.shares(used);
            shares.into_iter().for_each(|(of, limit, share, used)| f(&name, of, limit, share, used));
        }
    }

    /// The part that a key is of, of those that hold for a place.
    fn share_of(&mut self, place: &str, key: &str) -> Option<&mut Share> {
        let bytes = key.starts_with(BYTES);
        let name = key.strip_prefix(BYTES).or_else(|| key.strip_prefix(FILES))?;
        let bound = match self.places.get_mut(place)?.limits.get_mut(name) {
            Some(bound) => bound,
            None => &mut self.groups.get_mut(name.strip_prefix(GROUP)?)?.bound,
        };
        Some(if bytes { &mut bound.bytes } else { &mut bound.files })
    }

    /// Asks whether so much more fits; `together` where several servers count.
    fn fits(&self, name: &str, bytes: i128, files: i128, together: bool) -> Result<(), Stop> {
        let Some(place) = self.places.get(name) else { return Ok(()) };
        if self.bounds(place).any(|(bound, used)| exceeded(&bound.limits, used, bytes, files)) {
            return Err(Stop::Full);
        }
        if !together {
            return Ok(());
        }
        let short: Vec<Ask> = self
            .named(place)
            .flat_map(|(name, bound, used)| bound.short(&name, used, bytes, files))
            .collect();
        if short.is_empty() { Ok(()) } else { Err(Stop::Short(short)) }
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits hold over several servers from now on, which are told apart by who grants.
    pub fn count_together(&self, grants: Arc<dyn Grants>) {
        let _ = self.grants.set(grants);
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
            let before = state.owners.insert(by.to_owned(), place.to_owned()).filter(|p| p != place);
            if let Some(before) = before {
                // It is the limit of another place from now on.
                state.place(&before).limits.remove(by);
            }
            state.place(place).limits.entry(by.to_owned()).or_default().limits = limits;
            for (name, limits) in groups {
                state.groups.entry(name.clone()).or_default().bound.limits = *limits;
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
            limits: p.limits.iter().map(|(by, bound)| (by.clone(), bound.limits)).collect(),
            elsewhere: p.limits.iter().map(|(by, bound)| (by.clone(), bound.elsewhere())).collect(),
            groups: p.groups.clone(),
        };
        let mut all: Vec<_> = state.places.iter().map(report).collect();
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all
    }

    /// The place whose limits `by` has set: what it holds with what uploads need, on all servers, and those limits.
    pub fn bound_by(&self, by: &str) -> Option<(Usage, Limits)> {
        let state = self.state();
        let place = state.places.get(state.owners.get(by)?)?;
        let bound = place.limits.get(by)?;
        Some((place.used().and(bound.elsewhere()), bound.limits))
    }

    /// The limits of a group, and the sum of its places with what uploads need.
    pub fn group(&self, name: &str) -> Option<(Limits, Usage)> {
        self.state().groups.get(name).map(|g| (g.bound.limits, g.used))
    }

    /// Who has set the limit that a key of shares is of; a group stands with a word before it.
    pub fn setter(key: &str) -> Option<&str> {
        key.strip_prefix(BYTES).or_else(|| key.strip_prefix(FILES))
    }
}

impl Holder for Book {
    fn give_back(&self, spare: &dyn Fn(u64) -> u64) -> Vec<Held> {
        let mut all = Vec::new();
        self.state().each_share(|name, of, limit, share, used| {
            if limit > 0 && share.asked {
                share.may = share.may.min(used.saturating_add(spare(limit)));
                all.push(Held { key: format!("{of}{name}"), until: None, used, may: share.may.max(used) });
            }
        });
        all
    }

    fn heard(&self, elsewhere: &[(String, u64)]) {
        if elsewhere.is_empty() {
            return;
        }
        let by_key: HashMap<&str, u64> = elsewhere.iter().map(|(key, used)| (key.as_str(), *used)).collect();
        self.state().each_share(|name, of, _, share, _| {
            if let Some(used) = by_key.get(format!("{of}{name}").as_str()) {
                share.elsewhere = *used;
            }
        });
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

    /// Does what may not fit, once there is room for it: `attempt` is made again where this server's part grew.
    async fn within<T>(&self, attempt: impl Fn(&mut State, bool) -> Result<T, Stop>) -> Result<T> {
        let grants = self.book.grants.get();
        for _ in 0..TRIES {
            let tried = attempt(&mut self.book.state(), grants.is_some());
            let asks = match (tried, grants) {
                (Ok(done), _) => return Ok(done),
                (Err(Stop::Short(asks)), Some(_)) => asks,
                (Err(_), _) => return Err(used_up()),
            };
            for ask in asks {
                if self.ask(&ask).await?.may < ask.need {
                    return Err(used_up());
                }
            }
        }
        // Others of this server take whatever is granted.
        Err(used_up())
    }

    async fn ask(&self, ask: &Ask) -> Result<Grant> {
        let Some(grants) = self.book.grants.get() else { return Ok(Grant::default()) };
        let apply = |granted: Grant| {
            if let Some(share) = self.book.state().share_of(&self.place, &ask.key) {
                *share = Share { may: granted.may, elsewhere: granted.elsewhere, asked: true };
            }
        };
        grants.ask(ask, &apply).await
    }

    /// Tells other servers what was found here, where they count together. Errors: nobody can be asked.
    pub async fn join(&self) -> Result<()> {
        let asks: Vec<Ask> = {
            let state = self.book.state();
            let place = self.book.grants.get().and_then(|_| state.places.get(&*self.place));
            let bounds = place.into_iter().flat_map(|place| state.named(place));
            bounds.flat_map(|(name, bound, used)| bound.unasked(&name, used)).collect()
        };
        for ask in asks {
            self.ask(&ask).await?;
        }
        Ok(())
    }

    /// Something new is begun. Errors: `QuotaExceeded` where a soft limit is reached.
    pub(super) fn begin(&self) -> Result<()> {
        let state = self.book.state();
        let Some(place) = state.places.get(&*self.place) else { return Ok(()) };
        let reached = |(bound, used): (&Bound, Usage)| {
            let (l, used) = (&bound.limits, used.and(bound.elsewhere()));
            l.soft_bytes > 0 && used.bytes >= l.soft_bytes || l.soft_files > 0 && used.files >= l.soft_files
        };
        match state.bounds(place).any(reached) {
            true => Err(used_up()),
            false => Ok(()),
        }
    }

    /// Publishes so much more, or less; what is more must fit.
    pub(super) async fn add(&self, bytes: i128, files: i128) -> Result<()> {
        self.within(|state, together| {
            state.fits(&self.place, bytes, files, together)?;
            state.change(&self.place, |p| p.published = p.published.plus(bytes, files));
            Ok(())
        })
        .await
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
    pub(super) async fn grow(&self, id: &StageId, size: u64) -> Result<()> {
        let upload = self.upload(id);
        if size <= upload.size {
            return Ok(());
        }
        self.renew(id, |upload| Upload { size: size.max(upload.size), ..upload }).await
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
    pub(super) async fn aim(&self, id: &StageId, replaces: Option<u64>) -> Result<()> {
        let (replaces, is_new) = (replaces.unwrap_or(0), replaces.is_none());
        self.renew(id, |upload| Upload { replaces, is_new, ..upload }).await
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

    async fn renew(&self, id: &StageId, change: impl Fn(Upload) -> Upload) -> Result<()> {
        self.within(|state, together| {
            let before = state.place(&self.place).uploads.get(id).copied().unwrap_or_default();
            let after = change(before);
            let (had, needs) = (before.needs(), after.needs());
            let more = |a: u64, b: u64| i128::from(a) - i128::from(b);
            let (bytes, files) = (more(needs.bytes, had.bytes), more(needs.files, had.files));
            state.fits(&self.place, bytes, files, together)?;
            state.change(&self.place, |p| p.note(id, Some(after)));
            Ok(())
        })
        .await
    }

    /// The smallest of what is left, and of the limits; `None` where there is no limit. Bytes, then files.
    pub(super) fn left(&self) -> (Left, Left) {
        let state = self.book.state();
        let Some(place) = state.places.get(&*self.place) else { return (None, None) };
        let least = |of: fn(&Limits) -> u64, used: fn(Usage) -> u64| {
            let bound = state.bounds(place).filter(|(b, _)| of(&b.limits) > 0);
            let left = |(b, u): (&Bound, Usage)| {
                (of(&b.limits).saturating_sub(used(u.and(b.elsewhere()))), of(&b.limits))
            };
            bound.map(left).min()
        };
        (least(|l| l.bytes, |u| u.bytes), least(|l| l.files, |u| u.files))
    }
}
