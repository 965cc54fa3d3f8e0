//! Synchronisation against a reference model: random trees, clocks that are wrong, times that are coarse,
//! and a connection that dies at any operation. No wrong removal, no lost update, nothing half-written, and
//! a second run ends where an undisturbed one would have.
//!
//! Three hundred runs by default. A long run, in release mode or not:
//! `FERRY_SYNC_RUNS=100000 cargo test -p client --test sync_model`; `FERRY_SYNC_SEED=n` begins at that
//! seed, and a failure names the seed that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod model;
#[allow(unreachable_pub, reason = "shared by the modules of one test")]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use client::mask::FileMask;
use client::sync::{
    Action, Base, Check, Conflict, Criteria, Direction, MaxDelete, Outcome, Renames, Runner, Side, Sides,
    SyncOptions, SyncReport, compare,
};
use session_core::batch::Unattended;
use session_core::fs::{CommitOptions, Filesystem, Follow, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt;
use session_core::metadata::Attributes;
use session_core::path::VPath;

use crate::model::{Entry, Setting, Tree, contents, expected};
use crate::world::{Dice, Dies, World};

struct Run {
    left: World,
    right: World,
    clock: Arc<AtomicU64>,
    setting: Setting,
    serial: u64,
    /// No two contents have the same size.
    unique_sizes: bool,
}

const ROOT: &str = "/t";

fn root() -> VPath {
    VPath::absolute(ROOT).unwrap()
}

impl Run {
    fn new(dice: &mut Dice) -> Self {
        // Away from midnight, where coarse listings tell the day only.
        let clock = Arc::new(AtomicU64::new(1_700_014_000 + dice.below(10_000)));
        let steps: (u64, u64) = dice.pick(&[(1, 1), (1, 1), (1, 2), (2, 1), (1, 60), (60, 1), (60, 60)]);
        let skew = dice.pick(&[0, 0, 0, -1, 3, -30, 3600, -7200]);
        let left = World::new(&clock, 0, Duration::from_secs(steps.0));
        let right = World::new(&clock, skew, Duration::from_secs(steps.1));
        let direction = dice.pick(&[
            Direction::To(Side::Left),
            Direction::To(Side::Right),
            Direction::To(Side::Right),
            Direction::Both,
        ]);
        let both = direction == Direction::Both;
        let (mask, excluded): (&str, fn(&str, bool) -> bool) = dice.pick(&[
            ("", (|_, _| false) as fn(&str, bool) -> bool),
            ("", |_, _| false),
            ("|b", |path, dir| !dir && path.ends_with('b')),
            ("|d/", |path, dir| dir && path.ends_with('d')),
        ]);
        let criteria = if both {
            Criteria::TIME
        } else {
            dice.pick(&[
                Criteria::TIME,
                Criteria::TIME,
                Criteria::EITHER,
                Criteria::SIZE,
                Criteria::CHECKSUM,
                Criteria::TIME | Criteria::CHECKSUM,
                Criteria::NONE,
            ])
        };
        let delete = !both && dice.one_in(2);
        let backup = !both && dice.one_in(3);
        let options = SyncOptions {
            direction,
            criteria,
            delete,
            mirror: !both && dice.one_in(3),
            existing_only: dice.one_in(6),
            mask: FileMask::parse(mask).unwrap(),
            max_delete: MaxDelete::Unlimited,
            renames: if dice.one_in(2) { Renames::Digest } else { Renames::Off },
            backup_dir: backup.then(|| VPath::absolute("/backup").unwrap()),
            ..SyncOptions::default()
        };
        let setting = Setting { options, steps, excluded };
        Run { left, right, clock, setting, serial: 0, unique_sizes: false }
    }

    async fn fill(&mut self, dice: &mut Dice) {
        for world in [self.left.clone(), self.right.clone()] {
            world.store.create_dir_all(&root()).await.unwrap();
        }
        for _ in 0..dice.below(14) {
            self.change(dice).await;
        }
    }

    /// Somebody works on one of the sides, or the same file comes to both.
    async fn change(&mut self, dice: &mut Dice) {
        let pause = dice.pick(&[0, 1, 2, 5, 90, 4000]);
        self.clock.fetch_add(pause, Ordering::SeqCst);
        self.serial += 1;
        let path = random_path(dice);
        // Sizes are often the same although contents are not.
        let more = if self.unique_sizes { self.serial } else { dice.below(3) };
        let content = format!("{:03}{}", self.serial, "x".repeat(usize::try_from(more).unwrap()));
        let worlds = match dice.below(3) {
            0 => vec![self.left.clone()],
            1 => vec![self.right.clone()],
            _ => vec![self.left.clone(), self.right.clone()],
        };
        for world in worlds {
            let at = VPath::absolute(format!("{ROOT}/{path}")).unwrap();
            let mut above = at.parent();
            // A file may stand where a directory is needed, and the other way round.
            let mut blocked = world.store.stat(&at, Follow::No).await.is_ok_and(|m| m.is_dir());
            while let Some(dir) = above {
                blocked |= world.store.stat(&dir, Follow::No).await.is_ok_and(|m| !m.is_dir());
                above = dir.parent();
            }
            if !blocked {
                world.put(&format!("{ROOT}/{path}"), &content).await;
            }
        }
    }

    fn sides(&self, fuse: Option<&Dies>) -> Sides {
        Sides::new((self.left.open(fuse), root()), (self.right.open(fuse), root()))
    }

    fn runner(&self, fuse: Option<&Dies>) -> Arc<Runner> {
        Runner::new(self.sides(fuse), self.setting.options.clone(), Arc::new(Unattended), Check::Target)
            .unwrap()
    }

    async fn trees(&self) -> (Tree, Tree) {
        (self.left.tree(ROOT).await, self.right.tree(ROOT).await)
    }

    /// Everything that the backup holds.
    async fn kept(&self) -> Vec<String> {
        let mut kept = Vec::new();
        for world in [&self.left, &self.right] {
            kept.extend(world.tree("/backup").await.into_values().filter_map(|e| e.content));
        }
        kept
    }

    /// What must hold whatever happened.
    async fn judge(&self, before: &(Tree, Tree), after: &(Tree, Tree), wanted: &(Tree, Tree)) {
        let kept = self.kept().await;
        for (before, after, wanted) in [(&before.0, &after.0, &wanted.0), (&before.1, &after.1, &wanted.1)] {
            let (before, after, wanted) = (contents(before), contents(after), contents(wanted));
            for (path, content) in &before {
                let now = after.get(path);
                let fine = now == Some(content) || now == wanted.get(path);
                // With a backup, a file may step aside and its successor never come; it is in the backup.
                let aside = now.is_none() && content.as_ref().is_some_and(|c| kept.contains(c));
                assert!(fine || aside, "{path}: {content:?} became {now:?}, not {:?}", wanted.get(path));
                let lost = now != Some(content) && self.setting.options.backup_dir.is_some();
                if let (true, Some(content)) = (lost, content) {
                    // What was moved stands elsewhere.
                    let moved = after.values().flatten().any(|c| c == content);
                    assert!(moved || kept.contains(content), "{path}: {content} is in no backup");
                }
            }
            for (path, content) in &after {
                assert!(
                    before.get(path) == Some(content) || wanted.get(path) == Some(content),
                    "{path} appeared: {content:?}"
                );
            }
        }
    }
}

fn random_path(dice: &mut Dice) -> String {
    let mut path = String::new();
    for _ in 0..dice.below(3) {
        path.push_str(dice.pick(&["d/", "e/", "e/", "a/"]));
    }
    path.push_str(dice.pick(&["a", "b", "c", "d"]));
    path
}

/// Every operation once, every failure once, nothing claimed that is not so.
fn honest(report: &SyncReport, after: &(Tree, Tree)) {
    let mut numbers = std::collections::BTreeSet::new();
    let mut paths = std::collections::BTreeSet::new();
    for operation in &report.operations {
        let d = &operation.difference;
        let side = d.action.side();
        let path = String::from_utf8(d.path(side).to_vec()).unwrap();
        assert!(paths.insert((side, path.clone())), "{path} is listed twice");
        let (source, target) = if side == Side::Left { (&after.1, &after.0) } else { (&after.0, &after.1) };
        match (operation.outcome, d.action) {
            (Outcome::Failed(n), _) => {
                assert!(n < report.failures.len() && numbers.insert(n), "{path}: failure {n}");
            }
            (Outcome::Done(_), Action::Delete(_)) => assert!(!target.contains_key(&path), "{path} is there"),
            (Outcome::Done(_), _) => {
                if let Some(old) = &d.moved {
                    let old = String::from_utf8(old.path(side).to_vec()).unwrap();
                    assert!(!target.contains_key(&old), "{old} was moved and is there");
                }
                let content = |tree: &Tree| tree.get(&path).map(|e| e.content.clone());
                assert!(content(target).is_some(), "{path} is not there");
                assert_eq!(content(target), content(source), "{path}");
            }
            (Outcome::Skipped(_), _) => assert!(!report.is_success(), "{path} was skipped in a success"),
        }
    }
}

/// Tells what a run was about, where it fails.
struct Told<'a>(&'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

async fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut run = Run::new(&mut dice);
    run.fill(&mut dice).await;
    for _ in 0..dice.below(3) {
        move_one(&run, &mut dice).await;
    }
    let before = run.trees().await;
    let wanted = expected(&run.setting, &before.0, &before.1);

    let told = &run.setting.options;
    let setting = format!(
        "{:?} {:?} {:?} delete {} mirror {} existing {} mask '{}' backup {} steps {:?}\n left {:?}\nright {:?}",
        told.direction,
        told.criteria,
        told.renames,
        told.delete,
        told.mirror,
        told.existing_only,
        told.mask,
        told.backup_dir.is_some(),
        run.setting.steps,
        before.0,
        before.1,
    );
    let _told = Told(&setting);

    // The line dies at some operation, or that operation alone fails, or nothing happens.
    let k = i64::try_from(dice.below(120)).unwrap();
    let fuse = Dies { left: Arc::new(AtomicI64::new(k)), for_good: dice.one_in(2) };
    run.clock.fetch_add(10, Ordering::SeqCst);
    let result = run.runner(Some(&fuse)).run().await;
    let mut died = fuse.left.load(Ordering::SeqCst) < 0;
    // A digest that cannot be had is no failure: what may have been moved is copied then.
    if run.setting.options.renames == Renames::Digest && !fuse.for_good {
        died &= !result.as_ref().is_ok_and(SyncReport::is_success);
    }
    let after = run.trees().await;
    run.judge(&before, &after, &wanted).await;
    if let Ok(report) = &result {
        honest(report, &after);
        assert_eq!(report.is_success(), !died, "{:?}", report.failures);
    }
    assert_eq!(result.is_ok_and(|r| r.is_success()), !died);
    if !died {
        assert_eq!(contents(&after.0), contents(&wanted.0));
        assert_eq!(contents(&after.1), contents(&wanted.1));
    }

    // The second run ends where an undisturbed one would have.
    run.clock.fetch_add(10, Ordering::SeqCst);
    let report = run.runner(None).run().await.unwrap();
    report.check().unwrap();
    let end = run.trees().await;
    honest(&report, &end);
    run.judge(&before, &end, &wanted).await;
    // What had stepped aside when the line died is missing there, and so it is new, which may be unwanted.
    if run.setting.options.backup_dir.is_none() {
        assert_eq!((contents(&end.0), contents(&end.1)), (contents(&wanted.0), contents(&wanted.1)));
    }

    // A third one has nothing to do.
    let third = run.runner(None).run().await.unwrap();
    if run.setting.options.criteria.time && !run.setting.options.mirror {
        assert!(third.operations.is_empty(), "{:?}", third.operations);
    }

    // Somebody works between the comparison and the run: that work is not lost, as far as times can tell.
    if run.setting.steps != (1, 1) {
        return;
    }
    let sides = run.sides(None);
    for _ in 0..4 {
        run.change(&mut dice).await;
    }
    let found = compare(&sides, &run.setting.options).await.unwrap();
    run.clock.fetch_add(100, Ordering::SeqCst);
    let before = run.trees().await;
    for _ in 0..3 {
        run.change(&mut dice).await;
    }
    let between = run.trees().await;
    run.runner(None).apply(found).await;
    let after = run.trees().await;
    for (before, between, after) in [(&before.0, &between.0, &after.0), (&before.1, &between.1, &after.1)] {
        for (path, entry) in between {
            if before.get(path) != Some(entry) && entry.content.is_some() {
                assert_eq!(
                    after.get(path).map(|e| &e.content),
                    Some(&entry.content),
                    "{path} was written meanwhile"
                );
            }
        }
    }
}

/// Two ways with a base: what both sides are to hold, and what they have in common then. A conflict is left
/// alone.
fn settled(left: &Tree, right: &Tree, base: &Contents) -> (Contents, Contents, Contents) {
    let (left, right) = (contents(left), contents(right));
    let (mut l, mut r, mut next) = (left.clone(), right.clone(), Contents::new());
    let paths: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let is_dir = |tree: &Contents, path: &str| tree.get(path).map(Option::is_none);
    let clash =
        |path: &str| matches!((is_dir(&left, path), is_dir(&right, path)), (Some(a), Some(b)) if a != b);
    // Backwards, so that what is in a directory is settled before the directory.
    for path in paths.iter().rev().copied() {
        if path.match_indices('/').any(|(at, _)| clash(&path[..at])) {
            continue;
        }
        let old = base.get(path);
        let remember = |next: &mut Contents, what: Option<&Option<String>>| {
            next.extend(what.map(|w| (path.clone(), w.clone())));
        };
        match (left.get(path), right.get(path)) {
            _ if clash(path) => remember(&mut next, old),
            (Some(a), Some(b)) if a == b => remember(&mut next, Some(a)),
            (Some(a), Some(b)) if old == Some(a) => {
                l.insert(path.clone(), b.clone());
                remember(&mut next, Some(b));
            }
            (Some(a), Some(b)) if old == Some(b) => {
                r.insert(path.clone(), a.clone());
                remember(&mut next, Some(a));
            }
            (Some(_), Some(_)) => remember(&mut next, old),
            (Some(one), None) | (None, Some(one)) => {
                let inside = format!("{path}/");
                let holds = [&l, &r].iter().any(|tree| tree.keys().any(|p| p.starts_with(&inside)));
                if old == Some(one) && !holds {
                    l.remove(path);
                    r.remove(path);
                } else {
                    l.insert(path.clone(), one.clone());
                    r.insert(path.clone(), one.clone());
                    remember(&mut next, Some(one));
                }
            }
            (None, None) => {}
        }
    }
    (l, r, next)
}

type Contents = BTreeMap<String, Option<String>>;

/// Removes something from one side, perhaps a whole directory.
async fn remove_one(run: &Run, dice: &mut Dice) {
    let world = if dice.one_in(2) { &run.left } else { &run.right };
    let tree = world.tree(ROOT).await;
    let paths: Vec<&String> = tree.keys().collect();
    if !paths.is_empty() {
        let path = paths[usize::try_from(dice.below(paths.len() as u64)).unwrap()];
        world.store.remove_dir_all(&VPath::absolute(format!("{ROOT}/{path}")).unwrap()).await.unwrap();
    }
}

/// Moves something on one side, perhaps a whole directory; not into itself, nor over something.
async fn move_one(run: &Run, dice: &mut Dice) {
    let world = if dice.one_in(2) { &run.left } else { &run.right };
    let tree = world.tree(ROOT).await;
    let paths: Vec<&String> = tree.keys().collect();
    let to = random_path(dice);
    if paths.is_empty() {
        return;
    }
    let from = paths[usize::try_from(dice.below(paths.len() as u64)).unwrap()];
    let at = |path: &str| VPath::absolute(format!("{ROOT}/{path}")).unwrap();
    let fits = at(&to).parent().is_some_and(|dir| dir == root() || tree.keys().any(|p| at(p) == dir));
    if fits && !tree.contains_key(&to) && !at(&to).starts_with(&at(from)) {
        // Below a file there is no room.
        let _ = world.store.rename(&at(from), &at(&to), Replace::No).await;
    }
}

async fn run_with_base(seed: u64) {
    let mut dice = Dice(seed);
    let mut run = Run::new(&mut dice);
    let renames = dice.pick(&[Renames::Off, Renames::Base, Renames::Base, Renames::Digest]);
    let conflict = dice.pick(&[Conflict::Skip, Conflict::Skip, Conflict::Both, Conflict::Left]);
    // The first run takes for the same what has the same size and time.
    run.unique_sizes = true;
    let mut known = Base::new();
    let mut model = Contents::new();
    run.fill(&mut dice).await;
    let options = |base: &Base| SyncOptions {
        direction: Direction::Both,
        base: Some(Arc::new(base.clone())),
        conflict,
        renames,
        max_delete: MaxDelete::Unlimited,
        ..SyncOptions::default()
    };
    for round in 0..4 {
        let before = run.trees().await;
        let wanted = settled(&before.0, &before.1, &model);
        let setting = format!(
            "{conflict:?} {renames:?} round {round} steps {:?} base {model:?}\n left {:?}\nright {:?}",
            run.setting.steps,
            contents(&before.0),
            contents(&before.1)
        );
        let _told = Told(&setting);
        if dice.one_in(2) {
            let left = Arc::new(AtomicI64::new(i64::try_from(dice.below(100)).unwrap()));
            let fuse = Dies { left, for_good: dice.one_in(2) };
            let runner =
                Runner::new(run.sides(Some(&fuse)), options(&known), Arc::new(Unattended), Check::Target)
                    .unwrap();
            if let Ok(report) = runner.run().await {
                known = report.base.clone().unwrap();
                if conflict == Conflict::Skip {
                    honest(&report, &run.trees().await);
                }
            }
            run.clock.fetch_add(150, Ordering::SeqCst);
        }
        let runner =
            Runner::new(run.sides(None), options(&known), Arc::new(Unattended), Check::Target).unwrap();
        let report = runner.run().await.unwrap();
        report.check().unwrap();
        known = report.base.clone().unwrap();
        let after = run.trees().await;
        let after = (contents(&after.0), contents(&after.1));
        if conflict == Conflict::Skip {
            assert_eq!(after, (wanted.0, wanted.1));
            model = wanted.2;
        } else {
            // Both sides are the same now, but for a file where the other has a directory.
            for (path, content) in &after.0 {
                let other = after.1.get(path);
                let clashes = |path: &str| {
                    let kinds =
                        (after.0.get(path).map(Option::is_none), after.1.get(path).map(Option::is_none));
                    matches!(kinds, (Some(a), Some(b)) if a != b)
                };
                let below = path.match_indices('/').any(|(at, _)| clashes(&path[..at]));
                assert!(
                    other == Some(content) || clashes(path) || below,
                    "{path}: {content:?} against {other:?}"
                );
            }
            // What was changed on either side since the last run is still there.
            for (tree, winner) in [(&before.0, true), (&before.1, conflict == Conflict::Both)] {
                for (path, entry) in
                    tree.iter().filter(|(path, e)| winner && model.get(*path) != Some(&e.content))
                {
                    let kept = [&after.0, &after.1].iter().any(|t| t.values().any(|c| *c == entry.content));
                    assert!(entry.content.is_none() || kept, "{path}: {entry:?} is lost");
                }
            }
            // Where kinds clash, what was known before is still known.
            let known_of = |path: &String, content: &Option<String>| match after.1.get(path) {
                Some(other) if other == content => Some(content.clone()),
                Some(_) => model.get(path).cloned(),
                None => None,
            };
            model = after.0.iter().filter_map(|(p, c)| Some((p.clone(), known_of(p, c)?))).collect();
        }
        run.clock.fetch_add(150, Ordering::SeqCst);
        for _ in 0..dice.below(5) {
            match dice.below(6) {
                0 | 1 => remove_one(&run, &mut dice).await,
                2 => move_one(&run, &mut dice).await,
                _ => run.change(&mut dice).await,
            }
        }
    }

    // Somebody works between the comparison and the run: the run after that knows.
    let found = compare(&run.sides(None), &options(&known)).await.unwrap();
    run.clock.fetch_add(150, Ordering::SeqCst);
    let before = run.trees().await;
    for _ in 0..3 {
        run.change(&mut dice).await;
    }
    let meanwhile = run.trees().await;
    let runner = |base: &Base| {
        Runner::new(run.sides(None), options(base), Arc::new(Unattended), Check::Target).unwrap()
    };
    let report = runner(&known).apply(found).await;
    run.clock.fetch_add(150, Ordering::SeqCst);
    let report = runner(&report.base.unwrap()).run().await.unwrap();
    report.check().unwrap();
    let after = run.trees().await;
    let after = (contents(&after.0), contents(&after.1));
    for (before, meanwhile) in [(&before.0, &meanwhile.0), (&before.1, &meanwhile.1)] {
        for (path, entry) in meanwhile.iter().filter(|(p, e)| before.get(*p) != Some(e)) {
            let kept = [&after.0, &after.1].iter().any(|t| t.values().any(|c| *c == entry.content));
            let beaten = conflict == Conflict::Left;
            assert!(entry.content.is_none() || kept || beaten, "{path}: {entry:?} was written meanwhile");
        }
    }
    // Where the sides still differ, it is said.
    let noted: Vec<String> =
        report.notes.iter().map(|n| String::from_utf8(n.path.to_vec()).unwrap()).collect();
    for path in after.0.keys().chain(after.1.keys()) {
        let told = noted.iter().any(|n| path == n || path.starts_with(&format!("{n}/")));
        assert!(after.0.get(path) == after.1.get(path) || told, "{path} differs and nobody says so");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_base_nothing_changed_is_lost_and_removals_arrive() {
    let first = number("FERRY_SYNC_SEED", 1);
    for seed in first..first + number("FERRY_SYNC_RUNS", 150) {
        if let Err(e) = tokio::spawn(run_with_base(seed)).await {
            eprintln!("seed {seed} fails: FERRY_SYNC_SEED={seed} FERRY_SYNC_RUNS=1");
            std::panic::resume_unwind(e.into_panic());
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wrong_removal_and_no_lost_update() {
    let first = number("FERRY_SYNC_SEED", 1);
    for seed in first..first + number("FERRY_SYNC_RUNS", 300) {
        if let Err(e) = tokio::spawn(run(seed)).await {
            eprintln!("seed {seed} fails: FERRY_SYNC_SEED={seed} FERRY_SYNC_RUNS=1");
            std::panic::resume_unwind(e.into_panic());
        }
    }
}

/// The model's own worlds are what they claim to be.
#[tokio::test]
async fn the_model_tells_times_in_steps() {
    let clock = Arc::new(AtomicU64::new(125));
    let world = World::new(&clock, 10, Duration::from_secs(60));
    world.put("/t/f", "x").await;
    assert_eq!(world.tree("/t").await["f"], Entry { content: Some("x".into()), seconds: 120 });
    let fs = world.open(None);
    let at = VPath::absolute("/t/f").unwrap();
    let file = fs.open(&at, &OpenOptions::create()).await.unwrap();
    let early = SystemTime::UNIX_EPOCH + Duration::from_secs(61);
    let attributes = Attributes::times(None, Some(early));
    file.commit(&CommitOptions { attributes, ..CommitOptions::default() }).await.unwrap();
    assert_eq!(world.tree("/t").await["f"].seconds, 60);
}
