//! A journal's records: what is written is read again, and a torn tail is no fault.

use serde_json::json;

use super::*;

fn p(s: &str) -> VPath {
    VPath::absolute(s).unwrap()
}

fn key(n: u64) -> Key {
    Key::of(&p("/a"), &p("/b"), n, None)
}

#[test]
fn keys_tell_files_apart() {
    let time = |s| Some(UNIX_EPOCH + Duration::from_secs(s));
    let all = [
        Key::of(&p("/a"), &p("/b"), 1, None),
        Key::of(&p("/a"), &p("/b"), 2, None),
        Key::of(&p("/a"), &p("/b"), 1, time(0)),
        Key::of(&p("/a"), &p("/b"), 1, time(1)),
        Key::of(&p("/b"), &p("/a"), 1, None),
        Key::of(&p("/a/b"), &p("/"), 1, None),
    ];
    let unique: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
}

#[tokio::test]
async fn a_job_is_taken_up_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.job");
    let journal = Journal::create(&path, json!({ "what": 1 })).unwrap();
    assert_eq!(Journal::take_up(&path).err().unwrap().kind(), ErrorKind::Locked);
    assert!(look(&path).unwrap().1, "running");
    let (one, two) = (journal.entry(key(1), 10), journal.entry(key(2), 20));
    assert!(!one.was_done() && !one.was_begun());
    one.begun(0).await;
    one.reached(5).await;
    two.begun(0).await;
    two.done().await;
    journal.synced().await;
    let written = std::fs::read(&path).unwrap();
    drop((one, two));
    journal.end("stopped").await;
    assert!(!look(&path).unwrap().1, "given back");

    // As after a kill: no end, a torn record.
    let mut torn = written.clone();
    torn.extend_from_slice(b"1 00000000 {\"t\":\"at\"");
    std::fs::write(&path, &torn).unwrap();
    let (again, spec) = Journal::take_up(&path).unwrap();
    assert_eq!(spec, json!({ "what": 1 }));
    let (one, two) = (again.entry(key(1), 10), again.entry(key(2), 20));
    assert!(two.was_done() && !one.was_done() && one.was_begun());
    assert_eq!(one.known(true), Some(5));
    one.done().await;
    again.end("done").await;
    let (state, running) = look(&path).unwrap();
    assert_eq!((state.done.len(), running, state.end.unwrap().0.as_str()), (2, false, "done"));
}

#[tokio::test]
async fn after_the_machine_went_down_a_local_part_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.job");
    let lines: Vec<u8> = [
        Record::Job(json!(null)),
        Record::Begin { pid: 1, boot: "another".into(), at: 1 },
        Record::Open { key: key(1).0, size: 10 },
        Record::At { key: key(1).0, offset: 5 },
    ]
    .iter()
    .flat_map(Record::line)
    .collect();
    std::fs::write(&path, lines).unwrap();
    let (journal, _) = Journal::take_up(&path).unwrap();
    let one = journal.entry(key(1), 10);
    assert_eq!((one.known(true), one.known(false)), (Some(0), Some(5)));
}

#[tokio::test]
async fn a_long_journal_is_written_anew_and_stays_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.job");
    let journal = Journal::create(&path, json!("spec")).unwrap();
    let entry = journal.entry(key(1), 1 << 40);
    entry.begun(0).await;
    for n in 0..100_000u64 {
        entry.reached(n).await;
    }
    journal.synced().await;
    assert!(std::fs::metadata(&path).unwrap().len() < SHORT + (1 << 20));
    let (state, running) = look(&path).unwrap();
    assert!(running);
    assert_eq!(state.open.values().collect::<Vec<_>>(), [&(1 << 40, 99_999)]);
    assert!(!path.with_extension("new").exists());
}
