//! Order, retries, dead letters, bounds, and what a restart finds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::time::Duration;

use super::database::{self as db, Due};
use super::*;
use crate::notify::receiver::Failure;

fn memory() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let c = db::open(&dir.path().join(FILE), false).unwrap();
    (dir, c)
}

fn intent(id: &str, session: &str, receivers: &[&str]) -> Intent {
    Intent {
        id: id.into(),
        session: session.into(),
        site: "s".into(),
        event: "AfterFileUpload".into(),
        receivers: receivers.iter().map(|r| (*r).to_owned()).collect(),
        body: json!({ "id": id }),
        clue: Value::Null,
    }
}

fn happen(c: &Connection, id: &str, session: &str, receivers: &[&str]) {
    db::intend(c, &[intent(id, session, receivers)], 1000, 1).unwrap();
    db::settle(c, id, &Outcome::Happened(json!({ "id": id })), 1).unwrap();
}

fn due_ids(c: &Connection, receiver: &str, now: i64) -> Vec<String> {
    db::due(c, receiver, now, 100).unwrap().into_iter().map(|d| d.id).collect()
}

#[test]
fn a_session_is_told_in_the_order_of_outcomes_and_others_do_not_wait() {
    let (_dir, c) = memory();
    // The first to begin is the last to end.
    db::intend(&c, &[intent("slow", "a", &["r"])], 1000, 1).unwrap();
    for (id, session) in [("a1", "a"), ("b1", "b"), ("a2", "a")] {
        happen(&c, id, session, &["r", "q"]);
    }
    db::settle(&c, "slow", &Outcome::Happened(json!({})), 1).unwrap();
    assert_eq!(due_ids(&c, "r", 5), ["a1", "b1"]);
    db::delivered(&c, "r", "a1", 5).unwrap();
    assert_eq!(due_ids(&c, "r", 5), ["b1", "a2"]);
    // It fails: what follows it waits, whatever the time.
    db::undelivered(&c, ("r", "a2"), "down", Some(100), 10, 5).unwrap();
    assert_eq!(due_ids(&c, "r", 99), ["b1"]);
    assert_eq!(db::next_due(&c, 5).unwrap(), Some(100));
    assert_eq!(due_ids(&c, "r", 100), ["b1", "a2"]);
    db::delivered(&c, "r", "a2", 100).unwrap();
    assert_eq!(due_ids(&c, "r", 100), ["b1", "slow"]);
    // The other receiver has its own line, and keeps the events.
    assert_eq!(due_ids(&c, "q", 100), ["a1", "b1"]);
    for (receiver, id) in [("r", "b1"), ("r", "slow"), ("q", "a1"), ("q", "b1"), ("q", "a2")] {
        db::delivered(&c, receiver, id, 100).unwrap();
    }
    assert_eq!(db::counts(&c).unwrap(), json!({ "events": 0, "dead": 0, "open": 0 }));
}

#[test]
fn a_dead_letter_lets_the_next_one_pass_and_can_be_tried_again() {
    let (_dir, c) = memory();
    for id in ["1", "2"] {
        happen(&c, id, "a", &["r"]);
    }
    db::undelivered(&c, ("r", "1"), "down", None, 10, 5).unwrap();
    assert_eq!(due_ids(&c, "r", 5), ["2"]);
    let dead = Filter { dead: Some(true), ..Filter::default() };
    let listed = db::list(&c, &dead, None, 10).unwrap();
    assert_eq!((listed.len(), &listed[0]["id"], &listed[0]["state"]), (1, &json!("1"), &json!("dead")));
    assert_eq!((&listed[0]["lastFailure"], &listed[0]["attempts"]), (&json!("down"), &json!(1)));
    assert_eq!(db::counts(&c).unwrap()["dead"], 1);
    assert_eq!(db::retry(&c, &dead, 6).unwrap(), 1);
    assert_eq!(db::counts(&c).unwrap()["dead"], 0);
    assert_eq!(due_ids(&c, "r", 6), ["2", "1"]);
    assert_eq!(db::due(&c, "r", 6, 9).unwrap()[1].attempts, 0);
    assert_eq!(db::drop(&c, &Filter { ids: vec!["1".into()], ..Filter::default() }, 7).unwrap(), 1);
    assert_eq!(due_ids(&c, "r", 7), ["2"]);
    assert_eq!(db::drop(&c, &Filter::default(), 7).unwrap(), 1);
    assert_eq!(db::counts(&c).unwrap()["events"], 0);
}

#[test]
fn what_is_dropped_from_the_middle_of_a_line_holds_nobody_up() {
    let (_dir, c) = memory();
    for id in ["1", "2", "3"] {
        happen(&c, id, "a", &["r"]);
    }
    db::drop(&c, &Filter { ids: vec!["2".into()], ..Filter::default() }, 5).unwrap();
    assert_eq!(due_ids(&c, "r", 5), ["1"]);
    db::drop(&c, &Filter { ids: vec!["1".into()], ..Filter::default() }, 5).unwrap();
    assert_eq!(due_ids(&c, "r", 5), ["3"]);
}

#[test]
fn the_oldest_dead_letters_go_and_a_full_outbox_takes_nothing() {
    let (_dir, c) = memory();
    for id in ["1", "2", "3"] {
        happen(&c, id, id, &["r"]);
        db::undelivered(&c, ("r", id), "down", None, 2, 5).unwrap();
    }
    let ids: Vec<_> =
        db::list(&c, &Filter::default(), None, 10).unwrap().iter().map(|d| d["id"].clone()).collect();
    assert_eq!(ids, ["2", "3"]);
    // Dead letters do not count against what is to come.
    db::intend(&c, &[intent("4", "a", &["r"])], 1, 1).unwrap();
    let e = db::intend(&c, &[intent("5", "a", &["r"])], 1, 1).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NoSpace);
    db::settle(&c, "4", &Outcome::Nothing, 1).unwrap();
    db::intend(&c, &[intent("5", "a", &["r"])], 1, 1).unwrap();
}

#[test]
fn an_outcome_counts_once_and_pages_go_on_where_they_ended() {
    let (_dir, c) = memory();
    happen(&c, "1", "a", &["q", "r"]);
    happen(&c, "2", "a", &["r"]);
    // A recovery that comes too late, and an outcome for nothing.
    db::settle(&c, "1", &Outcome::Happened(json!({ "late": true })), 1).unwrap();
    db::settle(&c, "1", &Outcome::Nothing, 1).unwrap();
    db::settle(&c, "9", &Outcome::Happened(json!({})), 1).unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    while let [one] = db::list(&c, &Filter::default(), after, 1).unwrap().as_slice() {
        seen.push(format!("{} {} {}", one["id"], one["receiver"], one["told"]["late"]));
        after = Some((one["place"].as_i64().unwrap(), one["receiver"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, ["\"1\" \"q\" null", "\"1\" \"r\" null", "\"2\" \"r\" null"]);
}

#[test]
fn pauses_double_within_bounds_and_end() {
    let settings = Settings {
        retry: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        give_up: Duration::from_secs(1000),
        ..Settings::default()
    };
    let due =
        |attempts, first| Due { receiver: "r".into(), id: "i".into(), body: String::new(), attempts, first };
    let failure = |pause| Failure { words: String::new(), pause };
    let again = |due: &Due, now, chance| deliver::again(&settings, due, &failure(None), now, chance);
    for (attempts, least, most) in
        [(0, 500, 1000), (1, 1000, 2000), (5, 16_000, 32_000), (6, 30_000, 60_000), (90, 30_000, 60_000)]
    {
        let due = due(attempts, Some(0));
        assert_eq!(
            (again(&due, 7, 0.0), again(&due, 7, 1.0)),
            (Some(7 + least), Some(7 + most)),
            "{attempts}"
        );
    }
    assert!(again(&due(3, Some(0)), 999_999, 0.5).is_some());
    assert_eq!(again(&due(3, Some(0)), 1_000_000, 0.5), None);
    let asked =
        |pause| deliver::again(&settings, &due(0, None), &failure(Some(Duration::from_secs(pause))), 0, 1.0);
    assert_eq!((asked(10), asked(1_000_000)), (Some(10_000), Some(60_000)));
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE x (y); PRAGMA user_version = 7;").unwrap();
    assert_eq!(db::open(&path, false).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn what_was_answered_is_there_after_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = Outbox::new(dir.path(), Settings::default()).unwrap();
    assert!(!first.exists());
    first.intend(vec![intent("1", "a", &["s/r"]), intent("2", "a", &["s/r"])]).await.unwrap();
    first.settle("2".into(), Outcome::Happened(json!({ "id": "2" })));
    first.tell(intent("3", "a", &["s/r"])).await.unwrap();
    // Its thread holds the file still: another one reads what is on disk.
    let second = Outbox::new(dir.path(), Settings::default()).unwrap();
    let open: Vec<_> = second.intents().await.unwrap().into_iter().map(|i| (i.id, i.receivers)).collect();
    assert_eq!(open, [("1".to_owned(), vec!["s/r".to_owned()])]);
    let kept = second.list(Filter::default(), None, 10).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|d| (d["id"].clone(), d["state"].clone())).collect();
    assert_eq!(kept, [(json!("2"), json!("due")), (json!("3"), json!("waiting"))]);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join(FILE)).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn one_write_that_fails_does_not_take_the_others_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::new(dir.path(), Settings { most: 2, ..Settings::default() }).unwrap();
    let three = vec![intent("a", "x", &["r"]), intent("b", "x", &["r"]), intent("c", "x", &["r"])];
    let (one, many, two) = tokio::join!(
        outbox.intend(vec![intent("1", "x", &["r"])]),
        outbox.intend(three),
        outbox.intend(vec![intent("2", "x", &["r"])]),
    );
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(many.unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(outbox.intents().await.unwrap().len(), 2);
}
