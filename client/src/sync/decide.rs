//! What is to be done about one name: a pure function of what both sides hold.
//!
//! Times decide first, then sizes, then contents, as far as they are criteria (WinSCP's order). A time is
//! known to the precision of its side and compared as the span that it stands for; spans less than two
//! seconds apart are the same time. Where a time is missing, sizes stand in for it.

use std::time::{Duration, SystemTime};

use session_core::metadata::{FileType, Metadata};

use super::{Criteria, Direction, Side};

/// Times less far apart than this are the same.
const TOLERANCE: i128 = 2_000_000_000;

const HOUR: i128 = 3_600_000_000_000;

/// What is known of an entry on one side.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What it is. A link to a file is that file; any other link is a link.
    pub kind: FileType,
    /// Size in bytes; 0 for what is no file.
    pub size: u64,
    /// Last change, as the side tells it.
    pub modified: Option<SystemTime>,
    /// Permission bits.
    pub mode: Option<u32>,
}

impl Facts {
    /// What `metadata` says.
    pub fn of(metadata: &Metadata) -> Self {
        let size = if metadata.is_file() { metadata.size } else { 0 };
        Facts { kind: metadata.file_type, size, modified: metadata.modified, mode: metadata.mode }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether an entry that had these facts is still the same, on a side that tells times in steps. Where
    /// the steps are coarse, a second look may tell the time more precisely. The time of a directory changes
    /// with its content and says nothing of it.
    pub fn still(&self, now: &Facts, step: Duration) -> bool {
        if self.kind != now.kind || self.is_dir() {
            return self.kind == now.kind;
        }
        if step < Duration::from_secs(60) {
            return self.size == now.size && self.modified == now.modified;
        }
        let clocks = Clocks { left: step, right: step, ..Clocks::default() };
        let newer = clocks.compare(self.modified, now.modified, true);
        self.size == now.size && newer.is_none_or(|n| n == Newer::Same)
    }
}

/// What is done about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It is missing on that side and is copied there.
    New(Side),
    /// It is replaced on that side.
    Update(Side),
    /// It is removed from that side.
    Delete(Side),
}

impl Action {
    /// The side that changes.
    pub fn side(self) -> Side {
        match self {
            Action::New(side) | Action::Update(side) | Action::Delete(side) => side,
        }
    }

    /// The name in plans and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Action::New(_) => "new",
            Action::Update(_) => "update",
            Action::Delete(_) => "delete",
        }
    }

    /// WinSCP's `SynchronizationAction`, the left side being the local one.
    pub fn winscp(self) -> (u8, &'static str) {
        match self {
            Action::New(Side::Right) => (1, "UploadNew"),
            Action::New(Side::Left) => (2, "DownloadNew"),
            Action::Update(Side::Right) => (3, "UploadUpdate"),
            Action::Update(Side::Left) => (4, "DownloadUpdate"),
            Action::Delete(Side::Right) => (5, "DeleteRemote"),
            Action::Delete(Side::Left) => (6, "DeleteLocal"),
        }
    }

    /// The same difference, settled the other way.
    #[must_use]
    pub fn reverse(self) -> Self {
        match self {
            Action::New(side) => Action::Delete(side.other()),
            Action::Update(side) => Action::Update(side.other()),
            Action::Delete(side) => Action::New(side.other()),
        }
    }
}

/// What [`decide`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Do this.
    Act(Action),
    /// Both have changed since they were the same, unless their contents are equal.
    Conflict,
    /// Both are directories: look inside.
    Descend,
    /// The contents decide: if they differ, this is done.
    Digest(Action),
    /// Nothing is to be done.
    Same,
    /// Something would be to be done and is not, and why.
    Skip(&'static str),
}

/// The rules of a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Where things go.
    pub direction: Direction,
    /// What makes a difference.
    pub criteria: Criteria,
    /// What the source does not have is removed from the target.
    pub delete: bool,
    /// What is newer at the target is replaced, too.
    pub mirror: bool,
    /// Nothing new is made.
    pub existing_only: bool,
    /// How times are compared.
    pub clocks: Clocks,
}

/// How the times of two sides are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Clocks {
    /// The finest step of the left side's times.
    pub left: Duration,
    /// The finest step of the right side's times.
    pub right: Duration,
    /// Seconds to be added to the right side's times.
    pub shift: i64,
    /// Times that differ by one hour (within the tolerance) are the same where sizes are: daylight
    /// saving reckoned on one side only.
    pub ignore_hour: bool,
    /// Where a side tells minutes, it tells only the day of what is older than this: such a time is a
    /// midnight.
    pub days_before: Option<SystemTime>,
}

impl Default for Clocks {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Clocks { left: second, right: second, shift: 0, ignore_hour: false, days_before: None }
    }
}

/// Which of two times is the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newer {
    /// Neither, as far as can be told.
    Same,
    /// That side's.
    On(Side),
}

impl Clocks {
    /// Compares; `None` where a time is missing. `same_size` is what `ignore_hour` asks for.
    pub fn compare(
        &self,
        left: Option<SystemTime>,
        right: Option<SystemTime>,
        same_size: bool,
    ) -> Option<Newer> {
        let left = nanos(left?);
        let right = nanos(right?) + i128::from(self.shift) * 1_000_000_000;
        let (left_end, right_end) = (left + self.span(self.left, left), right + self.span(self.right, right));
        // How far one begins after the other has ended; negative where they overlap.
        let (left_later, right_later) = (left - right_end, right - left_end);
        if self.ignore_hour && same_size {
            let hour = |later: i128| later > HOUR - TOLERANCE && later < HOUR + TOLERANCE;
            if hour(left_later) || hour(right_later) {
                return Some(Newer::Same);
            }
        }
        Some(if left_later >= TOLERANCE {
            Newer::On(Side::Left)
        } else if right_later >= TOLERANCE {
            Newer::On(Side::Right)
        } else {
            Newer::Same
        })
    }

    /// How long after `time` the true moment may be. Steps of up to a second lie within the tolerance.
    fn span(&self, step: Duration, time: i128) -> i128 {
        const DAY: i128 = 24 * HOUR;
        let old = self.days_before.is_some_and(|limit| time < nanos(limit));
        if step <= Duration::from_secs(1) {
            0
        } else if step >= Duration::from_secs(60) && old && time.rem_euclid(DAY) == 0 {
            DAY
        } else {
            i128::try_from(step.as_nanos()).unwrap_or(DAY)
        }
    }
}

fn nanos(time: SystemTime) -> i128 {
    let signed = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX / 4);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => signed(after),
        Err(before) => -signed(before.duration()),
    }
}

/// What is to be done about a name that the sides hold like this. At least one of them holds it.
pub fn decide(left: Option<&Facts>, right: Option<&Facts>, rules: &Rules) -> Verdict {
    match (left, right) {
        (Some(left), Some(right)) => both(left, right, rules),
        (Some(one), None) => alone(one, Side::Left, rules),
        (None, Some(one)) => alone(one, Side::Right, rules),
        (None, None) => Verdict::Same,
    }
}

/// Why an entry that is neither file nor directory takes no part.
pub(super) fn special(facts: &Facts) -> Option<&'static str> {
    match facts.kind {
        FileType::Directory | FileType::File => None,
        FileType::Other => Some("not a regular file"),
        FileType::Symlink => Some("a symbolic link that leads to no file"),
    }
}

fn alone(one: &Facts, on: Side, rules: &Rules) -> Verdict {
    let copied_to = match rules.direction {
        Direction::Both => Some(on.other()),
        Direction::To(target) => (target != on).then_some(target),
    };
    match copied_to {
        Some(target) => match special(one) {
            Some(why) => Verdict::Skip(why),
            None if rules.existing_only => Verdict::Same,
            None => Verdict::Act(Action::New(target)),
        },
        // A link can be removed without a thought for what it leads to.
        None if rules.delete && one.kind == FileType::Other => Verdict::Skip("not a regular file"),
        None if rules.delete => Verdict::Act(Action::Delete(on)),
        None => Verdict::Same,
    }
}

fn both(left: &Facts, right: &Facts, rules: &Rules) -> Verdict {
    if let Some(why) = special(left).or(special(right)) {
        return Verdict::Skip(why);
    }
    match (left.is_dir(), right.is_dir()) {
        (true, true) => return Verdict::Descend,
        (false, false) => {}
        _ => return Verdict::Skip("a file on one side and a directory on the other"),
    }
    let same_size = left.size == right.size;
    let newer = rules.clocks.compare(left.modified, right.modified, same_size);
    let target = match rules.direction {
        Direction::Both => {
            return match newer {
                Some(Newer::On(side)) => Verdict::Act(Action::Update(side.other())),
                Some(Newer::Same) if same_size => Verdict::Same,
                Some(Newer::Same) => Verdict::Skip("the times are the same and the sizes are not"),
                None if same_size => Verdict::Same,
                None => Verdict::Skip("which one is newer is not known"),
            };
        }
        Direction::To(target) => target,
    };
    let update = Action::Update(target);
    let criteria = rules.criteria;
    let mut sizes_count = criteria.size;
    if criteria.time {
        match newer {
            Some(Newer::On(side)) if side != target => return Verdict::Act(update),
            Some(Newer::On(_)) => {
                return if rules.mirror { Verdict::Act(update) } else { Verdict::Same };
            }
            Some(Newer::Same) => {}
            None => sizes_count = true,
        }
    }
    if !same_size && (sizes_count || criteria.checksum) {
        return Verdict::Act(update);
    }
    if criteria.checksum { Verdict::Digest(update) } else { Verdict::Same }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_700_000_000;

    fn file(seconds: u64, size: u64) -> Facts {
        let modified = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        Facts { kind: FileType::File, size, modified, mode: None }
    }

    fn of(kind: FileType) -> Facts {
        Facts { kind, size: 0, modified: None, mode: None }
    }

    fn rules(direction: Direction) -> Rules {
        Rules {
            direction,
            criteria: Criteria::TIME,
            delete: false,
            mirror: false,
            existing_only: false,
            clocks: Clocks::default(),
        }
    }

    const LOCAL: Direction = Direction::To(Side::Left);
    const REMOTE: Direction = Direction::To(Side::Right);

    #[test]
    fn modes_and_missing_entries() {
        use {Action::*, Side::*, Verdict::*};
        let f = file(T, 1);
        // Direction, delete, existing only; what is said of an entry on the left, and on the right.
        for (direction, delete, existing, left, right) in [
            (LOCAL, false, false, Same, Act(New(Left))),
            (LOCAL, true, false, Act(Delete(Left)), Act(New(Left))),
            (LOCAL, true, true, Act(Delete(Left)), Same),
            (REMOTE, false, false, Act(New(Right)), Same),
            (REMOTE, true, false, Act(New(Right)), Act(Delete(Right))),
            (REMOTE, false, true, Same, Same),
            (Direction::Both, false, false, Act(New(Right)), Act(New(Left))),
            (Direction::Both, false, true, Same, Same),
        ] {
            let rules = Rules { delete, existing_only: existing, ..rules(direction) };
            for one in [&f, &of(FileType::Directory)] {
                assert_eq!(decide(Some(one), None, &rules), left, "{rules:?}");
                assert_eq!(decide(None, Some(one), &rules), right, "{rules:?}");
            }
        }
    }

    #[test]
    fn criteria_in_their_order() {
        use {Action::Update, Side::Right, Verdict::*};
        let none = Criteria::NONE;
        let (time, size, sum) = (Criteria::TIME, Criteria::SIZE, Criteria::CHECKSUM);
        let act = Act(Update(Right));
        let (newer, older, same) = (file(T + 10, 1), file(T - 10, 1), file(T, 1));
        let (newer2, older2, same2) = (file(T + 10, 2), file(T - 10, 2), file(T, 2));
        let target = file(T, 1);
        // Source, criteria, mirror; the verdict on a target of time T and one byte.
        for (source, criteria, mirror, wanted) in [
            (&newer2, none, true, Same),
            (&newer, time, false, act),
            (&same, time, false, Same),
            (&older, time, false, Same),
            (&older, time, true, act),
            // Sizes are no criterion.
            (&same2, time, false, Same),
            // The target is newer: sizes do not matter any more.
            (&older2, time | size, false, Same),
            (&older2, time | size, true, act),
            (&same2, time | size, false, act),
            (&same, time | size, false, Same),
            (&newer, size, false, Same),
            (&older2, size, false, act),
            (&newer2, size, false, act),
            (&same, sum, false, Digest(Update(Right))),
            (&older, sum, false, Digest(Update(Right))),
            (&same2, sum, false, act),
            (&same, time | sum, false, Digest(Update(Right))),
            (&older, time | sum, false, Same),
            (&newer, time | sum, false, act),
            (&same, time | size | sum, false, Digest(Update(Right))),
            (&same2, time | size | sum, false, act),
        ] {
            let rules = Rules { criteria, mirror, ..rules(REMOTE) };
            assert_eq!(decide(Some(source), Some(&target), &rules), wanted, "{source:?} {rules:?}");
            // The same the other way round.
            let turned = Rules { direction: LOCAL, ..rules.clone() };
            let mirrored = match wanted {
                Act(a) => Act(Update(a.side().other())),
                Digest(a) => Digest(Update(a.side().other())),
                other => other,
            };
            assert_eq!(decide(Some(&target), Some(source), &turned), mirrored);
        }
    }

    #[test]
    fn both_ways_the_newer_one_wins_and_nothing_is_guessed() {
        use {Action::Update, Side::*, Verdict::*};
        let rules = rules(Direction::Both);
        let untimed = Facts { modified: None, ..file(0, 1) };
        for (left, right, wanted) in [
            (file(T + 2, 1), file(T, 1), Act(Update(Right))),
            (file(T, 1), file(T + 2, 1), Act(Update(Left))),
            (file(T + 2, 1), file(T, 9), Act(Update(Right))),
            (file(T + 1, 1), file(T, 1), Same),
            (file(T + 1, 2), file(T, 1), Skip("the times are the same and the sizes are not")),
            (untimed.clone(), file(T, 1), Same),
            (untimed, file(T, 2), Skip("which one is newer is not known")),
        ] {
            assert_eq!(decide(Some(&left), Some(&right), &rules), wanted);
        }
    }

    #[test]
    fn kinds_that_do_not_agree_are_left_alone() {
        let (f, d) = (file(T, 1), of(FileType::Directory));
        let (link, other) = (of(FileType::Symlink), of(FileType::Other));
        for direction in [LOCAL, REMOTE, Direction::Both] {
            let rules = Rules { delete: direction != Direction::Both, mirror: true, ..rules(direction) };
            for (a, b) in [(&f, &d), (&d, &f), (&link, &f), (&d, &link), (&other, &f), (&link, &link)] {
                assert!(matches!(decide(Some(a), Some(b), &rules), Verdict::Skip(_)), "{a:?} {b:?}");
            }
            assert_eq!(decide(Some(&d), Some(&d), &rules), Verdict::Descend);
        }
        let rules = Rules { delete: true, ..rules(REMOTE) };
        assert!(matches!(decide(Some(&other), None, &rules), Verdict::Skip(_)));
        assert!(matches!(decide(Some(&link), None, &rules), Verdict::Skip(_)));
        assert!(matches!(decide(None, Some(&other), &rules), Verdict::Skip(_)));
        assert_eq!(decide(None, Some(&link), &rules), Verdict::Act(Action::Delete(Side::Right)));
    }

    #[test]
    fn without_a_time_sizes_stand_in() {
        let untimed = Facts { modified: None, ..file(0, 1) };
        let rules = rules(REMOTE);
        assert_eq!(decide(Some(&file(T, 1)), Some(&untimed), &rules), Verdict::Same);
        let update = Verdict::Act(Action::Update(Side::Right));
        assert_eq!(decide(Some(&file(T, 2)), Some(&untimed), &rules), update);
    }

    fn at(seconds: f64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(T - T % 86400) + Duration::from_secs_f64(seconds))
    }

    #[test]
    fn times_are_as_precise_as_their_side() {
        use {Newer::*, Side::*};
        let (nano, second) = (Duration::from_nanos(1), Duration::from_secs(1));
        let (fat, minute) = (Duration::from_secs(2), Duration::from_secs(60));
        for (left, right, l, r, wanted) in [
            (nano, second, 100.9, 100.0, Same),
            (nano, nano, 101.999, 100.0, Same),
            (nano, nano, 102.0, 100.0, On(Left)),
            (nano, nano, 100.0, 102.0, On(Right)),
            // A disk of two seconds, rounded up or down.
            (nano, fat, 101.9, 100.0, Same),
            (nano, fat, 100.1, 102.0, Same),
            (nano, fat, 104.0, 100.0, On(Left)),
            (nano, fat, 99.0, 102.0, On(Right)),
            // A listing that tells minutes.
            (nano, minute, 119.9, 60.0, Same),
            (nano, minute, 60.0, 60.0, Same),
            (nano, minute, 122.0, 60.0, On(Left)),
            (nano, minute, 57.9, 60.0, On(Right)),
            (minute, nano, 60.0, 119.0, Same),
            (minute, minute, 60.0, 180.0, On(Right)),
            // A midnight like any other minute.
            (nano, minute, 80_000.0, 0.0, On(Left)),
        ] {
            let clocks = Clocks { left, right, ..Clocks::default() };
            assert_eq!(clocks.compare(at(l), at(r), true), Some(wanted), "{left:?} {right:?} {l} {r}");
        }
        // A listing that tells only the day of what is old.
        for (l, r, before, wanted) in [
            (80_000.0, 0.0, 1.0, Same),
            (86_402.0, 0.0, 1.0, On(Left)),
            (80_000.0, 60.0, 100.0, On(Left)),
            (80_000.0, 0.0, 0.0, On(Left)),
        ] {
            let clocks = Clocks { left: nano, right: minute, days_before: at(before), ..Clocks::default() };
            assert_eq!(clocks.compare(at(l), at(r), true), Some(wanted), "{l} {r} {before}");
        }
    }

    #[test]
    fn clocks_are_shifted_and_an_hour_may_be_ignored() {
        use {Newer::*, Side::*};
        let shifted = Clocks { shift: 7200, ..Clocks::default() };
        assert_eq!(shifted.compare(at(7200.0), at(0.0), true), Some(Same));
        assert_eq!(shifted.compare(at(0.0), at(0.0), true), Some(On(Right)));
        let clocks = Clocks { ignore_hour: true, ..Clocks::default() };
        for (l, r, same_size, wanted) in [
            (3600.0, 0.0, true, Same),
            (0.0, 3601.0, true, Same),
            (3600.0, 0.0, false, On(Left)),
            (3602.0, 0.0, true, On(Left)),
            (7200.0, 0.0, true, On(Left)),
        ] {
            assert_eq!(clocks.compare(at(l), at(r), same_size), Some(wanted), "{l} {r}");
        }
        assert_eq!(Clocks::default().compare(at(3600.0), at(0.0), true), Some(On(Left)));
        assert_eq!(clocks.compare(None, at(0.0), true), None);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(10);
        assert_eq!(clocks.compare(Some(before), Some(SystemTime::UNIX_EPOCH), true), Some(On(Right)));
    }

    #[test]
    fn reversing_twice_changes_nothing_and_numbers_are_winscps() {
        use {Action::*, Side::*};
        let all = [New(Right), New(Left), Update(Right), Update(Left), Delete(Right), Delete(Left)];
        for (n, action) in all.into_iter().enumerate() {
            assert_eq!(usize::from(action.winscp().0), n + 1);
            assert_eq!(action.reverse().reverse(), action);
        }
        assert_eq!(New(Right).reverse(), Delete(Left));
        assert_eq!(New(Left).reverse(), Delete(Right));
        assert_eq!(Update(Left).reverse(), Update(Right));
    }
}
