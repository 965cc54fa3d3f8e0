//! Crowds on one path, and callers that give up at each await.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_over_the_little_store() {
    a_crowd_on_one_path_leaves_whole_content_and_nothing_staged(Bench::new).await;
}

#[cfg(feature = "local")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_over_a_directory() {
    a_crowd_on_one_path_leaves_whole_content_and_nothing_staged(Bench::local).await;
}

async fn a_crowd_on_one_path_leaves_whole_content_and_nothing_staged(new: Make) {
    let b = new();
    b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    b.put("/d/f", "old-old-old-").await;
    let mut tasks = Vec::new();
    for i in 0..64usize {
        let fs = Arc::clone([&b.mine, &b.again, &b.other][i % 3]);
        tasks.push(tokio::spawn(async move {
            for round in 0..10 {
                match (i + round) % 8 {
                    0 => drop(fs.remove_file(&p("/d/f")).await),
                    1 => drop(fs.rename(&p("/d/f"), &p("/d/g"), Replace::Yes).await),
                    2 => drop(fs.rename(&p("/d"), &p("/e"), Replace::No).await),
                    3 => drop(fs.rename(&p("/e"), &p("/d"), Replace::No).await),
                    kind => {
                        let options = if kind == 4 { exclusive() } else { OpenOptions::create() };
                        let Ok(file) = open(&fs, "/d/f", options).await else { continue };
                        let part = format!("{i:03}-");
                        for n in 0..3 {
                            write(&file, n * 4, &part).await;
                        }
                        if kind == 5 || commit(&file).await.is_err() {
                            file.abort().await.unwrap();
                        }
                    }
                }
            }
        }));
    }
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("nobody waits for ever").unwrap();
    }
    for path in ["/d/f", "/d/g", "/e/f", "/e/g"] {
        if let Ok(content) = read(&b.other, path).await {
            assert_eq!(content.len(), 12, "{content}");
            assert_eq!(content.get(..4).map(|part| part.repeat(3)), Some(content.clone()));
        }
    }
    // What a dropped call leaves is taken away behind it.
    let taken_away = async {
        while b.staged().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken_away).await.expect("nothing stays behind");
    assert_eq!(b.area.parked(), []);
}

/// Polls `call` at most `n` times, then drops it; whether it ended before.
async fn give_up_after<T>(n: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    for _ in 0..n {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(done) = call.as_mut().poll(&mut cx) {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Runs `step` on a fresh bench giving up after every number of polls until it ends by itself.
async fn at_every_await(policy: StagingPolicy, step: impl AsyncFn(&Bench, usize) -> bool) {
    for n in 0..200 {
        let b = Bench::with(policy.clone());
        b.put("/f", "old").await;
        let ended = step(&b, n).await;
        if ended {
            assert!(n > 2, "the case gives up nowhere");
            return;
        }
    }
    panic!("the step never ended");
}

#[tokio::test]
async fn giving_up_an_open_leaves_nothing() {
    for in_place in [InPlace::Allow, InPlace::Copy] {
        let policy = StagingPolicy { in_place, ..StagingPolicy::default() };
        for options in [OpenOptions::create(), OpenOptions::update(), exclusive()] {
            let path = if options.exclusive { "/n" } else { "/f" };
            at_every_await(policy.clone(), async |b, n| {
                let opened = give_up_after(n, open(&b.mine, path, options.clone())).await;
                let ended = opened.is_some();
                drop(opened);
                assert_eq!(b.staged().await, 0);
                assert_eq!(b.area.parked(), []);
                assert_eq!(read(&b.mine, "/f").await.unwrap(), "old");
                // The path is not held any more.
                create(&b.mine, path).await.abort().await.unwrap();
                ended
            })
            .await;
        }
    }
}

#[tokio::test]
async fn giving_up_a_commit_publishes_all_or_parks() {
    at_every_await(StagingPolicy::default(), async |b, n| {
        let file = create(&b.mine, "/f").await;
        write(&file, 0, "newer").await;
        let ended = give_up_after(n, commit(&file)).await.is_some();
        drop(file);
        let staged = b.staged().await;
        match read(&b.other, "/f").await.unwrap().as_str() {
            "old" => {
                assert_eq!((staged, size(&b.mine, "/f").await), (1, Some(5)));
                let file = open(&b.mine, "/f", resume()).await.unwrap();
                commit(&file).await.unwrap();
                assert_eq!(read(&b.other, "/f").await.unwrap(), "newer");
            }
            "newer" => assert_eq!(staged, 0),
            mixture => panic!("{mixture}"),
        }
        assert_eq!(b.staged().await, 0);
        ended
    })
    .await;
}

#[tokio::test]
async fn giving_up_a_commit_lets_the_same_handle_end() {
    at_every_await(StagingPolicy::default(), async |b, n| {
        let file = create(&b.mine, "/f").await;
        write(&file, 0, "newer").await;
        let ended = give_up_after(n, commit(&file)).await.is_some();
        match file.abort().await {
            Ok(()) => assert_eq!(read(&b.other, "/f").await.unwrap(), "old"),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Closed);
                assert_eq!(read(&b.other, "/f").await.unwrap(), "newer");
            }
        }
        assert_eq!(b.staged().await, 0);
        ended
    })
    .await;
}

#[tokio::test]
async fn giving_up_a_resume_keeps_what_was_parked() {
    at_every_await(StagingPolicy::default(), async |b, n| {
        b.parked("/n", "part").await;
        let opened = give_up_after(n, open(&b.mine, "/n", resume())).await;
        let ended = opened.is_some();
        drop(opened);
        assert_eq!(b.staged().await, 1);
        assert_eq!(size(&b.mine, "/n").await, Some(4));
        let file = open(&b.mine, "/n", resume()).await.unwrap();
        commit(&file).await.unwrap();
        assert_eq!(read(&b.other, "/n").await.unwrap(), "part");
        ended
    })
    .await;
}

#[tokio::test]
async fn giving_up_a_rename_leaves_upload_and_file_together() {
    at_every_await(StagingPolicy::default(), async |b, n| {
        let file = create(&b.mine, "/f").await;
        write(&file, 0, "newer").await;
        let ended = give_up_after(n, b.mine.rename(&p("/f"), &p("/g"), Replace::No)).await.is_some();
        commit(&file).await.unwrap();
        let all = listed(&b.other, "/").await;
        assert!(all == [("f".to_owned(), 5)] || all == [("g".to_owned(), 5)], "{all:?}");
        assert_eq!(b.staged().await, 0);
        ended
    })
    .await;
}

#[tokio::test]
async fn giving_up_a_removal_removes_all_or_nothing() {
    at_every_await(StagingPolicy::default(), async |b, n| {
        let file = create(&b.mine, "/f").await;
        write(&file, 0, "newer").await;
        let ended = give_up_after(n, b.mine.remove_file(&p("/f"))).await.is_some();
        commit(&file).await.unwrap();
        let there = read(&b.other, "/f").await;
        assert!(there == Err(ErrorKind::NotFound) || there == Ok("newer".into()), "{there:?}");
        assert_eq!(b.staged().await, 0);
        ended
    })
    .await;
}

#[tokio::test]
async fn giving_up_an_abort_or_a_park_leaves_no_more_than_a_parked_upload() {
    for abort in [false, true] {
        at_every_await_or_at_once(async |b, n| {
            let file = create(&b.mine, "/n").await;
            write(&file, 0, "part").await;
            let ending = if abort { file.abort() } else { file.park() };
            let ended = give_up_after(n, ending).await.is_some();
            drop(file);
            assert!(b.staged().await <= 1);
            assert_eq!(b.staged().await, b.area.parked().len());
            assert_eq!(size(&b.other, "/n").await, None);
            ended
        })
        .await;
    }
}

/// As `at_every_await`, for what may end at its first poll.
async fn at_every_await_or_at_once(step: impl AsyncFn(&Bench, usize) -> bool) {
    for n in 0..200 {
        if step(&Bench::new(), n).await {
            return;
        }
    }
    panic!("the step never ended");
}

#[tokio::test]
async fn giving_up_a_write_leaves_a_size_that_a_resume_can_trust() {
    at_every_await(StagingPolicy::default(), async |b, n| {
        let file = create(&b.mine, "/n").await;
        write(&file, 0, "part").await;
        let ended = give_up_after(n, file.write_at(4, Bytes::from_static(b"more"))).await.is_some();
        drop(file);
        let told = size(&b.mine, "/n").await.unwrap();
        assert!(told == 4 || told == 8);
        let append = OpenOptions { append: true, ..resume() };
        let file = open(&b.mine, "/n", append).await.unwrap();
        write(&file, 0, &"more!"[told as usize - 4..]).await;
        commit(&file).await.unwrap();
        assert_eq!(read(&b.other, "/n").await.unwrap(), "partmore!");
        ended
    })
    .await;
}

#[tokio::test]
async fn a_write_that_was_given_up_is_waited_for() {
    for parked in [false, true] {
        let store = Arc::new(Little::new());
        let b = Bench::over(Arc::clone(&store) as _, StagingPolicy::default());
        let mut file = create(&b.mine, "/f").await;
        write(&file, 0, "part").await;
        store.slow_writes(60);
        assert!(give_up_after(3, file.write_at(2, Bytes::from_static(b"more"))).await.is_none());
        if parked {
            drop(file);
            // What comes late lies above the size that the client was told, and is cut off.
            assert_eq!(size(&b.mine, "/f").await, Some(4));
            file = open(&b.mine, "/f", resume()).await.unwrap();
            assert_eq!(file.metadata().await.unwrap().size, 4);
        }
        let etag = commit(&file).await.unwrap().etag;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(b.other.stat(&p("/f"), Follow::Yes).await.unwrap().etag, etag);
        assert_eq!(read(&b.other, "/f").await.unwrap(), if parked { "pamo" } else { "pamore" });
        assert_eq!(b.staged().await, 0);
    }
}

#[cfg(feature = "local")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_over_a_directory_leaves_old_or_new() {
    for n in 0..12 {
        let b = Bench::local();
        b.put("/f", "old").await;
        let opened = give_up_after(n % 4, open(&b.mine, "/f", OpenOptions::create())).await;
        drop(opened);
        let file = create(&b.mine, "/f").await;
        write(&file, 0, "newer").await;
        drop(give_up_after(n, commit(&file)).await);
        drop(file);
        // What was handed to the pool ends by itself; then the table and the directory agree.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let staged = b.staged().await;
        assert_eq!(staged, b.area.parked().len());
        match read(&b.other, "/f").await.unwrap().as_str() {
            "old" => assert_eq!(staged, 1),
            "newer" => assert_eq!(staged, 0),
            mixture => panic!("{mixture}"),
        }
    }
}
