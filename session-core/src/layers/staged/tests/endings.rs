//! Handles, endings, what is parked and for how long.

use super::*;

cases! {
    only_the_last_close_publishes
    a_truncating_open_is_independent_and_the_last_to_commit_wins
    an_exclusive_open_fails_where_a_file_stands_at_open_or_at_commit
    the_first_ending_wins_and_waits_for_calls_in_flight
    a_drop_parks_at_once_and_the_upload_goes_on
    what_was_left_open_does_not_hide_what_was_published_since
    an_append_continues_at_the_received_size
    a_resume_never_begins_above_a_hole
    an_abort_leaves_the_old_content_and_nothing_staged
    an_abort_answers_when_the_room_is_free
    an_empty_file_is_published_and_an_empty_rest_is_not_kept
    a_wrong_size_is_corrupt_and_publishes_nothing
    attributes_of_the_commit_are_published_with_it
    a_condition_is_checked_at_open_and_again_at_commit
    nothing_is_published_after_the_cut
    a_parked_overwrite_hides_the_file_for_an_hour
    a_shared_account_keeps_no_overwrites_and_sees_only_its_session
    a_new_upload_replaces_the_parked_one_when_it_has_something_to_show
    a_restart_parks_what_was_open
    what_is_whole_or_nothing_stands_apart
}

async fn what_is_whole_or_nothing_stands_apart(new: Make) {
    let apart = || OpenOptions { apart: true, ..OpenOptions::create() };
    let b = new();
    b.put("/f", "old").await;
    let one = open(&b.mine, "/f", apart()).await.unwrap();
    write(&one, 0, "one").await;
    // Its owner sees what is published, in listings too, and an upload of the usual kind goes its own way.
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "old");
    assert_eq!(size(&b.mine, "/f").await, Some(3));
    let listed =
        b.mine.list(&VPath::root(), &ListOptions::default()).await.unwrap().next_page().await.unwrap();
    assert_eq!(listed.unwrap()[0].metadata.size, 3);
    let usual = create(&b.again, "/f").await;
    write(&usual, 0, "usual").await;
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "usual");
    drop(usual);
    // The last to commit wins, also over what its owner removes and parks meanwhile.
    b.mine.remove_file(&p("/f")).await.unwrap();
    assert_eq!(commit(&one).await.unwrap().size, 3);
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "one");
    // Without a commit nothing is kept.
    let two = open(&b.mine, "/g", apart()).await.unwrap();
    write(&two, 0, "two").await;
    assert_eq!(kind(b.other.remove_dir(&p("/")).await), ErrorKind::NotEmpty);
    drop(two);
    assert_eq!(size(&b.mine, "/g").await, None);
    assert_eq!(b.staged().await, 0);
}

async fn only_the_last_close_publishes(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let one = create(&b.mine, "/f").await;
    let two = open(&b.again, "/f", resume()).await.unwrap();
    write(&one, 0, "ab").await;
    write(&two, 2, "cd").await;
    assert_eq!(commit(&one).await.unwrap().size, 4);
    assert_eq!(kind(commit(&one).await), ErrorKind::Closed);
    assert_eq!(kind(one.write_at(0, Bytes::from_static(b"x")).await), ErrorKind::Closed);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "old");
    write(&two, 4, "ef").await;
    assert_eq!(commit(&two).await.unwrap().size, 6);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "abcdef");
    assert_eq!(b.staged().await, 0);
}

async fn a_truncating_open_is_independent_and_the_last_to_commit_wins(new: Make) {
    let b = new();
    let one = create(&b.mine, "/f").await;
    write(&one, 0, "one").await;
    let two = create(&b.again, "/f").await;
    write(&two, 0, "two!").await;
    assert_eq!(size(&b.mine, "/f").await, Some(4));
    commit(&two).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "two!");
    commit(&one).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "one");
    assert_eq!(b.staged().await, 0);
}

async fn an_exclusive_open_fails_where_a_file_stands_at_open_or_at_commit(new: Make) {
    let b = new();
    let one = create(&b.mine, "/f").await;
    write(&one, 0, "one").await;
    let two = open(&b.mine, "/f", exclusive()).await.unwrap();
    write(&two, 0, "two").await;
    commit(&one).await.unwrap();
    assert_eq!(kind(commit(&two).await), ErrorKind::AlreadyExists);
    two.abort().await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "one");
    assert_eq!(kind(open(&b.mine, "/f", exclusive()).await), ErrorKind::AlreadyExists);
    b.parked("/g", "part").await;
    assert_eq!(kind(open(&b.mine, "/g", exclusive()).await), ErrorKind::AlreadyExists);
    open(&b.other, "/g", exclusive()).await.unwrap().abort().await.unwrap();
    assert_eq!(b.staged().await, 1);
}

async fn the_first_ending_wins_and_waits_for_calls_in_flight(new: Make) {
    let b = new();
    let file = create(&b.mine, "/f").await;
    let write = |i: u64| file.write_at(i * 2, Bytes::from_static(b"ab"));
    let writes = futures_util::future::join_all((0..20).map(write));
    let (writes, commit, park, abort) = tokio::join!(writes, commit(&file), file.park(), file.abort());
    assert_eq!(commit.unwrap().size, 40);
    assert_eq!(kind(park), ErrorKind::Closed);
    assert_eq!(kind(abort), ErrorKind::Closed);
    assert!(writes.iter().all(|write| write.is_ok()));
    assert_eq!(size(&b.other, "/f").await, Some(40));
}

async fn a_drop_parks_at_once_and_the_upload_goes_on(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "hello ").await;
    drop(file);
    // As an SFTP client resumes: the size, then an open that creates and does not truncate.
    assert_eq!(size(&b.again, "/f").await, Some(6));
    let file = open(&b.again, "/f", resume()).await.unwrap();
    write(&file, 6, "world").await;
    assert_eq!(read(&b.other, "/f").await.unwrap(), "old");
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "hello world");
    assert_eq!(b.staged().await, 0);
}

async fn an_append_continues_at_the_received_size(new: Make) {
    let b = new();
    b.parked("/f", "hello").await;
    let append = OpenOptions { append: true, ..resume() };
    let file = open(&b.mine, "/f", append.clone()).await.unwrap();
    let (x, y) = tokio::join!(
        file.write_at(0, Bytes::from_static(b" big")),
        file.write_at(0, Bytes::from_static(b" world"))
    );
    x.and(y).unwrap();
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "hello big world");
    let file = open(&b.other, "/new", append).await.unwrap();
    write(&file, 77, "a").await;
    write(&file, 0, "b").await;
    commit(&file).await.unwrap();
    assert_eq!(read(&b.mine, "/new").await.unwrap(), "ab");
}

async fn a_resume_never_begins_above_a_hole(new: Make) {
    let b = new();
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "0123").await;
    write(&file, 8, "89").await;
    assert_eq!(size(&b.mine, "/f").await, Some(10));
    drop(file);
    assert_eq!(size(&b.mine, "/f").await, Some(4));
    let file = open(&b.mine, "/f", resume()).await.unwrap();
    assert_eq!(file.metadata().await.unwrap().size, 4);
    write(&file, 4, "45").await;
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "012345");
}

async fn an_abort_leaves_the_old_content_and_nothing_staged(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let one = create(&b.mine, "/f").await;
    write(&one, 0, "new").await;
    let two = open(&b.mine, "/f", resume()).await.unwrap();
    one.abort().await.unwrap();
    assert_eq!(kind(commit(&one).await), ErrorKind::Closed);
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "old");
    assert_eq!(kind(commit(&two).await), ErrorKind::Canceled);
    two.park().await.unwrap();
    assert_eq!(b.staged().await, 0);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "old");
}

async fn an_abort_answers_when_the_room_is_free(new: Make) {
    let b = new();
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new").await;
    file.abort().await.unwrap();
    assert_eq!(b.store.staged().await.unwrap().len(), 0);
}

async fn an_empty_file_is_published_and_an_empty_rest_is_not_kept(new: Make) {
    let b = new();
    let file = create(&b.mine, "/empty").await;
    assert_eq!(commit(&file).await.unwrap().size, 0);
    assert_eq!(size(&b.other, "/empty").await, Some(0));
    b.put("/f", "old").await;
    drop(create(&b.mine, "/f").await);
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "old");
    assert_eq!(b.staged().await, 0);
}

async fn a_wrong_size_is_corrupt_and_publishes_nothing(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new!").await;
    let expect = |n| CommitOptions { expected_size: Some(n), ..CommitOptions::default() };
    assert_eq!(kind(file.commit(&expect(5)).await), ErrorKind::Corrupt);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "old");
    // A verdict ends nothing: the client may send the rest.
    write(&file, 4, "!").await;
    assert_eq!(file.commit(&expect(5)).await.unwrap().size, 5);
    // The size that an early close expects binds the close that seals.
    let one = create(&b.mine, "/f").await;
    let two = open(&b.mine, "/f", resume()).await.unwrap();
    write(&one, 0, "part").await;
    one.commit(&expect(6)).await.unwrap();
    assert_eq!(kind(commit(&two).await), ErrorKind::Corrupt);
    two.abort().await.unwrap();
    assert_eq!(b.staged().await, 0);
}

async fn attributes_of_the_commit_are_published_with_it(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let file = create(&b.mine, "/f").await;
    let options = CommitOptions { attributes: Attributes::mode(0o600), ..CommitOptions::default() };
    assert_eq!(file.commit(&options).await.unwrap().mode, Some(0o600));
    // Those of an open are of a newly made file only.
    let options = OpenOptions { attributes: Attributes::mode(0o640), ..OpenOptions::create() };
    assert_eq!(commit(&open(&b.mine, "/f", options.clone()).await.unwrap()).await.unwrap().mode, Some(0o600));
    assert_eq!(commit(&open(&b.mine, "/n", options).await.unwrap()).await.unwrap().mode, Some(0o640));
}

async fn a_condition_is_checked_at_open_and_again_at_commit(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let etag = b.mine.stat(&p("/f"), Follow::Yes).await.unwrap().etag;
    let options = OpenOptions { if_match: etag, ..OpenOptions::create() };
    let one = open(&b.mine, "/f", options.clone()).await.unwrap();
    let two = open(&b.mine, "/f", options.clone()).await.unwrap();
    commit(&one).await.unwrap();
    assert_eq!(kind(commit(&two).await), ErrorKind::PreconditionFailed);
    two.abort().await.unwrap();
    assert_eq!(kind(open(&b.mine, "/f", options.clone()).await), ErrorKind::PreconditionFailed);
    assert_eq!(kind(open(&b.mine, "/none", options).await), ErrorKind::PreconditionFailed);
    assert_eq!(b.staged().await, 0);
}

#[tokio::test]
async fn a_commit_that_fails_leaves_the_upload_to_be_parked() {
    let store = Arc::new(Little::new());
    let b = Bench::over(Arc::clone(&store) as _, StagingPolicy::default());
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new").await;
    store.fail_publish(ErrorKind::NoSpace);
    assert_eq!(kind(commit(&file).await), ErrorKind::NoSpace);
    drop(file);
    assert_eq!(size(&b.mine, "/f").await, Some(3));
    b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    let file = create(&b.mine, "/d/f").await;
    write(&file, 0, "new").await;
    store.vanish(&p("/d"));
    assert_eq!(kind(commit(&file).await), ErrorKind::NotFound);
    drop(file);
    b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    assert_eq!(commit(&open(&b.mine, "/d/f", resume()).await.unwrap()).await.unwrap().size, 3);
    assert_eq!(b.staged().await, 1);
}

async fn what_was_left_open_does_not_hide_what_was_published_since(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    // A connection that is lost, and the server has not noticed yet; meanwhile its client tries again.
    let lost = create(&b.mine, "/f").await;
    write(&lost, 0, "ne").await;
    let again = create(&b.again, "/f").await;
    write(&again, 0, "newer").await;
    commit(&again).await.unwrap();
    assert_eq!(size(&b.again, "/f").await, Some(5));
    assert_eq!(read(&b.again, "/f").await.unwrap(), "newer");
    drop(lost);
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "newer");
    assert_eq!(b.staged().await, 0);
    // Who does commit later is the last, as on any disk.
    let slow = create(&b.mine, "/f").await;
    write(&slow, 0, "slow").await;
    let quick = create(&b.again, "/f").await;
    write(&quick, 0, "quick").await;
    commit(&quick).await.unwrap();
    commit(&slow).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "slow");
}

#[tokio::test]
async fn what_found_the_disk_full_does_not_keep_its_room() {
    let store = Arc::new(Little::new());
    let b = Bench::over(Arc::clone(&store) as _, StagingPolicy::default());
    b.put("/f", "old").await;
    store.fill(5);
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "four").await;
    assert_eq!(kind(file.write_at(4, Bytes::from_static(b"more")).await), ErrorKind::NoSpace);
    // However it ends: given up by its client, or lost with the connection.
    drop(file);
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "old");
    let begin = std::time::Instant::now();
    while b.staged().await != 0 {
        assert!(begin.elapsed() < Duration::from_secs(5), "the room is not given back");
        tokio::task::yield_now().await;
    }
}

async fn nothing_is_published_after_the_cut(new: Make) {
    let b = new();
    let leases = crate::lease::Leases::new();
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new").await;
    let lease = leases.take().unwrap();
    leases.cut();
    assert_eq!(kind(lease.scope(commit(&file)).await), ErrorKind::Canceled);
    drop(file);
    assert_eq!(size(&b.other, "/f").await, None);
    assert_eq!(size(&b.mine, "/f").await, Some(3));
    leases.quiet().await;
}

#[tokio::test]
async fn after_the_cut_the_store_is_not_even_asked_to_publish() {
    let store = Arc::new(Little::new());
    let b = Bench::over(Arc::clone(&store) as _, StagingPolicy::default());
    let leases = crate::lease::Leases::new();
    let file = create(&b.mine, "/f").await;
    let lease = leases.take().unwrap();
    leases.cut();
    assert_eq!(kind(lease.scope(commit(&file)).await), ErrorKind::Canceled);
    assert_eq!(store.publishes(), 0);
}

#[tokio::test]
async fn a_change_in_place_follows_the_policy() {
    let b = Bench::new();
    b.put("/f", "old").await;
    let file = open(&b.mine, "/f", OpenOptions::update()).await.unwrap();
    write(&file, 0, "new").await;
    assert_eq!(read(&b.other, "/f").await.unwrap(), "new");
    assert_eq!(kind(open(&b.mine, "/none", OpenOptions::update()).await), ErrorKind::NotFound);

    let b = Bench::with(StagingPolicy { in_place: InPlace::Refuse, ..StagingPolicy::default() });
    b.put("/f", "old").await;
    assert_eq!(kind(open(&b.mine, "/f", OpenOptions::update()).await), ErrorKind::Refused);
    let cut = b.mine.set_attributes(&p("/f"), &Attributes::size(1), Follow::Yes).await;
    assert_eq!(kind(cut), ErrorKind::Refused);
    b.mine.set_attributes(&p("/f"), &Attributes::mode(0o600), Follow::Yes).await.unwrap();

    let b = Bench::with(StagingPolicy { in_place: InPlace::Copy, ..StagingPolicy::default() });
    b.put("/f", "old content").await;
    let file = open(&b.mine, "/f", OpenOptions::update()).await.unwrap();
    write(&file, 0, "new").await;
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "new content");
    assert_eq!(read(&b.other, "/f").await.unwrap(), "old content");
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "new content");
    b.mine.set_attributes(&p("/f"), &Attributes::size(3), Follow::Yes).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "new");
    let etag = b.mine.stat(&p("/f"), Follow::Yes).await.unwrap().etag;
    commit(&open(&b.mine, "/f", OpenOptions::update()).await.unwrap()).await.unwrap();
    drop(open(&b.mine, "/f", OpenOptions::update()).await.unwrap());
    assert_eq!(b.mine.stat(&p("/f"), Follow::Yes).await.unwrap().etag, etag);
    assert_eq!(b.staged().await, 0);
}

#[tokio::test]
async fn staging_is_off_where_the_policy_says() {
    let b = Bench::with(StagingPolicy { off: vec![p("/off")], ..StagingPolicy::default() });
    b.mine.create_dir(&p("/off"), &Attributes::none()).await.unwrap();
    let file = create(&b.mine, "/off/f").await;
    write(&file, 0, "seen").await;
    assert_eq!(read(&b.other, "/off/f").await.unwrap(), "seen");
    let file = create(&b.mine, "/offside").await;
    write(&file, 0, "unseen").await;
    assert_eq!(size(&b.other, "/offside").await, None);
}

async fn a_parked_overwrite_hides_the_file_for_an_hour(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    b.parked("/f", "part").await;
    b.later(3599);
    assert_eq!(kind(open(&b.mine, "/f", OpenOptions::read()).await), ErrorKind::Locked);
    assert_eq!(b.area.sweep(b.later(0)).await, Swept { discarded: 0, kept: 1, bytes: 4 });
    let now = b.later(1);
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "old");
    assert_eq!(b.area.sweep(now).await, Swept { discarded: 1, kept: 0, bytes: 0 });
    assert_eq!(b.staged().await, 0);
}

async fn a_shared_account_keeps_no_overwrites_and_sees_only_its_session(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let (one, two) = (b.shared("1"), b.shared("2"));
    for path in ["/f", "/new"] {
        let file = create(&one, path).await;
        write(&file, 0, "part").await;
        assert_eq!(size(&two, path).await, if path == "/f" { Some(3) } else { None });
    }
    assert_eq!(read(&one, "/f").await.unwrap(), "old");
    assert_eq!(size(&one, "/new").await, Some(4));
    assert_eq!(b.staged().await, 1);
    let late = create(&one, "/late").await;
    write(&late, 0, "part").await;
    b.area.forget(&Owner::session("1"));
    assert_eq!(size(&one, "/new").await, None);
    assert_eq!(size(&one, "/late").await, Some(4));
    drop(late);
    assert_eq!(size(&one, "/late").await, None);
    assert_eq!(b.staged().await, 0);
}

#[tokio::test]
async fn parking_follows_the_policy() {
    let b = Bench::with(StagingPolicy { parking: Parking::Discard, ..StagingPolicy::default() });
    b.parked("/f", "part").await;
    assert_eq!(size(&b.mine, "/f").await, None);
    assert_eq!(b.staged().await, 0);

    let b = Bench::with(StagingPolicy { parking: Parking::Publish, ..StagingPolicy::default() });
    b.put("/f", "old").await;
    b.parked("/f", "part").await;
    assert_eq!(b.staged().await, 0);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "part");
    drop(create(&b.mine, "/f").await);
    assert_eq!(b.staged().await, 0);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "part");
}

#[tokio::test]
async fn a_sweep_bounds_age_number_and_bytes_and_keeps_the_newest() {
    let policy = StagingPolicy { max_parked: 3, max_parked_bytes: 10, ..StagingPolicy::default() };
    let b = Bench::with(policy);
    for (i, content) in ["1", "22", "333", "4444", "55555"].iter().enumerate() {
        b.parked(&format!("/f{i}"), content).await;
        b.later(10);
    }
    assert_eq!(b.area.sweep(b.later(0)).await, Swept { discarded: 2, kept: 3, bytes: 10 });
    let left = [("f0".to_owned(), 1), ("f3".to_owned(), 4), ("f4".to_owned(), 5)];
    assert_eq!(listed(&b.mine, "/").await, left);
    assert_eq!(b.staged().await, 3);
    // Newer ones push the oldest out by their number; what lies above a hole needs room as well.
    let file = create(&b.mine, "/g").await;
    write(&file, 0, "1").await;
    write(&file, 4, "1").await;
    file.park().await.unwrap();
    b.later(10);
    assert_eq!(b.area.sweep(b.later(0)).await, Swept { discarded: 2, kept: 2, bytes: 10 });
    b.mine.remove_file(&p("/g")).await.unwrap();
    let open = open(&b.mine, "/f4", resume()).await.unwrap();
    assert_eq!(b.area.sweep(b.later(4 * 24 * 3600)).await, Swept::default());
    commit(&open).await.unwrap();
    assert_eq!(read(&b.other, "/f4").await.unwrap(), "55555");
    assert_eq!(b.staged().await, 0);
}

async fn a_new_upload_replaces_the_parked_one_when_it_has_something_to_show(new: Make) {
    let b = new();
    b.parked("/f", "parked").await;
    let file = create(&b.mine, "/f").await;
    assert_eq!(size(&b.mine, "/f").await, Some(0));
    drop(file);
    assert_eq!(size(&b.mine, "/f").await, Some(6));
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new").await;
    drop(file);
    assert_eq!(size(&b.mine, "/f").await, Some(3));
    assert_eq!(b.staged().await, 1);
    commit(&create(&b.mine, "/f").await).await.unwrap();
    assert_eq!(size(&b.mine, "/f").await, Some(0));
    assert_eq!(b.staged().await, 0);
}

async fn a_restart_parks_what_was_open(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    // What is not flushed a store may lose, as long as it is little.
    for path in ["/f", "/new"] {
        let file = create(&b.mine, path).await;
        write(&file, 0, "part").await;
        file.sync().await.unwrap();
        std::mem::forget(file);
    }
    let lost = create(&b.shared("1"), "/shared").await;
    write(&lost, 0, "x").await;
    lost.sync().await.unwrap();
    std::mem::forget(lost);
    let empty = create(&b.mine, "/empty").await;
    empty.sync().await.unwrap();
    std::mem::forget(empty);
    let apart = OpenOptions { apart: true, ..OpenOptions::create() };
    let whole_or_nothing = open(&b.mine, "/apart", apart).await.unwrap();
    write(&whole_or_nothing, 0, "part").await;
    whole_or_nothing.sync().await.unwrap();
    std::mem::forget(whole_or_nothing);
    let after = b.restarted();
    assert_eq!(after.area.recover().await.unwrap(), 2);
    assert_eq!(after.area.recover().await.unwrap(), 0);
    assert_eq!(after.staged().await, 2);
    assert_eq!(listed(&after.mine, "/").await, [("f".to_owned(), 4), ("new".to_owned(), 4)]);
    assert_eq!(listed(&after.other, "/").await, [("f".to_owned(), 3)]);
    let file = open(&after.mine, "/f", resume()).await.unwrap();
    write(&file, 4, "!").await;
    commit(&file).await.unwrap();
    assert_eq!(read(&after.other, "/f").await.unwrap(), "part!");
    after.later(3600);
    assert_eq!(size(&after.mine, "/new").await, Some(4));
    after.mine.remove_file(&p("/new")).await.unwrap();
    assert_eq!(after.staged().await, 0);
}

#[tokio::test]
async fn an_area_needs_a_store_that_can_stage() {
    struct Flat(Little);
    #[async_trait]
    impl Layer for Flat {
        fn inner(&self) -> &dyn Filesystem {
            &self.0
        }
        fn capabilities(&self) -> crate::capability::Capabilities {
            crate::capability::Capabilities { atomic_commit: false, ..self.0.capabilities() }
        }
    }
    let flat = Arc::new(Flat(Little::new()));
    let area = StagingArea::new(flat, StagingPolicy::default(), Arc::new(SystemTime::now));
    assert_eq!(kind(area), ErrorKind::Unsupported);
    let b = Bench::new();
    assert!(b.mine.capabilities().atomic_commit);
}
