//! Uploads that are whole or nothing and outlive their files.

use super::*;

cases! {
    what_lasts_goes_on_by_its_name_and_for_its_owner_alone
    what_lasts_survives_a_restart_and_is_bounded_as_what_is_parked
    whoever_commits_what_lasts_publishes_it
    nothing_lasts_that_nobody_could_come_back_for
}

fn lasting(name: &str) -> OpenOptions {
    OpenOptions { read: true, apart: true, lasting: Some(name.into()), ..OpenOptions::create() }
}

fn again(name: &str) -> OpenOptions {
    OpenOptions { apart: true, unfinished: Some(name.into()), ..OpenOptions::update() }
}

async fn name_of(file: &Arc<dyn File>) -> Option<Arc<str>> {
    file.keep().await.unwrap().map(|kept| kept.words)
}

async fn what_lasts_goes_on_by_its_name_and_for_its_owner_alone(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let file = open(&b.mine, "/f", lasting("one")).await.unwrap();
    assert_eq!(name_of(&file).await.as_deref(), Some("one"));
    write(&file, 10, "tail").await;
    drop(file);
    let beside = open(&b.mine, "/f", lasting("two")).await.unwrap();
    write(&beside, 0, "beside").await;
    beside.park().await.unwrap();
    // Nobody sees it, its owner included, and what is parked in the usual way goes its own way.
    b.parked("/f", "usual").await;
    for (fs, seen) in [(&b.other, Ok("old".to_owned())), (&b.mine, Err(ErrorKind::Locked))] {
        assert_eq!(read(fs, "/f").await, seen);
    }
    b.mine.remove_file(&p("/f")).await.unwrap();
    assert_eq!(listed(&b.mine, "/").await, []);
    assert_eq!(kind(b.other.remove_dir(&p("/")).await), ErrorKind::NotEmpty);
    for (fs, path, name) in [(&b.other, "/f", "one"), (&b.mine, "/g", "one"), (&b.mine, "/f", "three")] {
        assert_eq!(kind(open(fs, path, again(name)).await), ErrorKind::NotFound, "{path} {name}");
    }
    // What was written above a hole is there.
    let file = open(&b.again, "/f", again("one")).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().size, 14);
    write(&file, 0, "0123456789").await;
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "0123456789tail");
    assert_eq!(kind(open(&b.mine, "/f", again("one")).await), ErrorKind::NotFound);
    let file = open(&b.mine, "/f", again("two")).await.unwrap();
    file.abort().await.unwrap();
    assert_eq!(kind(open(&b.mine, "/f", again("two")).await), ErrorKind::NotFound);
    assert_eq!(b.staged().await, 0);
}

async fn what_lasts_survives_a_restart_and_is_bounded_as_what_is_parked(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    for (name, content) in [("one", "part"), ("empty", "")] {
        let file = open(&b.mine, "/f", lasting(name)).await.unwrap();
        write(&file, 0, content).await;
        std::mem::forget(file);
    }
    let after = b.restarted();
    assert_eq!(after.area.recover().await.unwrap(), 2);
    assert_eq!(read(&after.mine, "/f").await.unwrap(), "old");
    let file = open(&after.mine, "/f", again("one")).await.unwrap();
    write(&file, 4, "!").await;
    drop(file);
    // It hides nothing, so what bounds overwrites does not bound it.
    let swept = after.area.sweep(after.later(2 * 24 * 3600)).await;
    assert_eq!((swept.discarded, swept.kept), (0, 2));
    let file = open(&after.mine, "/f", again("empty")).await.unwrap();
    let swept = after.area.sweep(after.later(24 * 3600 + 60)).await;
    assert_eq!((swept.discarded, swept.kept), (1, 0), "the one that is open is not looked at");
    assert_eq!(kind(open(&after.mine, "/f", again("one")).await), ErrorKind::NotFound);
    write(&file, 0, "new").await;
    commit(&file).await.unwrap();
    assert_eq!(read(&after.other, "/f").await.unwrap(), "new");
    assert_eq!(after.staged().await, 0);
}

async fn whoever_commits_what_lasts_publishes_it(new: Make) {
    let b = new();
    let one = open(&b.mine, "/f", lasting("one")).await.unwrap();
    write(&one, 0, "one").await;
    let two = open(&b.again, "/f", again("one")).await.unwrap();
    write(&two, 3, "two").await;
    commit(&two).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "onetwo");
    assert_eq!(kind(one.write_at(0, Bytes::from_static(b"x")).await), ErrorKind::Locked);
    assert_eq!(kind(commit(&one).await), ErrorKind::Canceled);
    drop(one);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "onetwo");
    assert_eq!(b.staged().await, 0);
}

async fn nothing_lasts_that_nobody_could_come_back_for(new: Make) {
    let b = new();
    let file = open(&b.shared("1"), "/f", lasting("one")).await.unwrap();
    assert_eq!(name_of(&file).await, None);
    write(&file, 0, "x").await;
    drop(file);
    assert_eq!(b.staged().await, 0);
}

#[tokio::test]
async fn nothing_lasts_where_it_is_not_to_or_the_store_cannot_promise_it() {
    let discards = Bench::with(StagingPolicy { parking: Parking::Discard, ..StagingPolicy::default() });
    let forgets = Bench::over(Arc::new(Little::forgetting()), StagingPolicy::default());
    for b in [discards, forgets] {
        let file = open(&b.mine, "/f", lasting("one")).await.unwrap();
        assert_eq!(name_of(&file).await, None);
        write(&file, 0, "x").await;
        drop(file);
        assert_eq!(b.staged().await, 0);
    }
    // What is to be published when it breaks off is not, of something that was to be whole.
    let publishes = Bench::with(StagingPolicy { parking: Parking::Publish, ..StagingPolicy::default() });
    let file = open(&publishes.mine, "/f", lasting("one")).await.unwrap();
    write(&file, 0, "x").await;
    drop(file);
    assert_eq!(publishes.staged().await, 1);
    assert_eq!(size(&publishes.mine, "/f").await, None);
}
