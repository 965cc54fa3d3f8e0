//! The chain over rotations, restarts, crashes and tampering; full queues and full disks.

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn settings(dir: &Path, format: AuditFormat) -> AuditSettings {
    AuditSettings { file: dir.join("audit.log"), format, ..AuditSettings::default() }
}

fn note(audit: &Audit, n: usize) {
    audit.push(Entry::Note(SystemTime::now(), "test", json!({ "n": n, "text": "a b\u{9b}31m\n" })));
}

/// Ends an audit and waits for its thread: the file is whole then.
fn end(audit: Audit) {
    audit.flush(PATIENCE);
}

fn written(settings: &AuditSettings, notes: usize) {
    let audit = Audit::start(settings).unwrap();
    (0..notes).for_each(|n| note(&audit, n));
    end(audit);
}

const BOTH: [AuditFormat; 2] = [AuditFormat::Json, AuditFormat::W3c];

#[test]
fn a_chain_goes_on_over_files_and_restarts() {
    for format in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let settings = AuditSettings { size: 2000, ..settings(dir.path(), format) };
        for _ in 0..3 {
            written(&settings, 20);
        }
        let all = files(&settings.file);
        assert!(all.len() > 3, "{all:?}");
        let found = verify(&all).unwrap();
        assert_eq!(found.problems, []);
        assert!(found.records >= 63 && found.head.len() == 64);
        for file in &all {
            assert!(std::fs::metadata(file).unwrap().len() < 2600, "{}", file.display());
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.bytes().all(|b| (b' '..0x7f).contains(&b) || b == b'\n'), "{text}");
        }
        // After a restart too, if the last file was set aside.
        let last = all.last().unwrap();
        let aside = last.with_file_name("audit-29990101T000000Z-000000009999.log");
        std::fs::rename(last, aside).unwrap();
        written(&settings, 1);
        assert_eq!(verify(&files(&settings.file)).unwrap().problems, []);
    }
}

#[test]
fn whatever_is_done_to_a_record_is_found() {
    for format in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), format);
        written(&settings, 6);
        let whole = std::fs::read_to_string(&settings.file).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let records: Vec<usize> = (0..lines.len()).filter(|n| !lines[*n].starts_with('#')).collect();
        let (a, b) = (records[2], records[3]);
        let changed = |f: &dyn Fn(&mut Vec<String>)| {
            let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            f(&mut lines);
            std::fs::write(&settings.file, lines.join("\n") + "\n").unwrap();
            verify(std::slice::from_ref(&settings.file)).unwrap().problems.len()
        };
        assert_eq!(changed(&|_| ()), 0);
        assert!(changed(&|l| l[a] = l[a].replace("test", "best")) > 0);
        assert!(changed(&|l| drop(l.remove(a))) > 0);
        assert!(changed(&|l| l.swap(a, b)) > 0);
        assert!(changed(&|l| l.insert(a, l[a].clone())) > 0);
        assert!(changed(&|l| l.insert(a, "anything".into())) > 0);
        assert!(changed(&|l| drop(l.drain(..=records[0]))) > 0);
        // The end cut off shows by the head alone.
        assert_eq!(changed(&|l| drop(l.pop())), 0);
        std::fs::write(&settings.file, &whole).unwrap();
        let head = verify(std::slice::from_ref(&settings.file)).unwrap().head;
        assert!(lines.last().unwrap().contains(&head));
    }
}

#[test]
fn a_file_that_is_missing_in_the_middle_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let settings = AuditSettings { size: 1500, ..settings(dir.path(), AuditFormat::Json) };
    written(&settings, 40);
    let mut all = files(&settings.file);
    assert!(all.len() > 3);
    all.remove(1);
    let found = verify(&all).unwrap();
    assert!(found.problems[0].words.contains("records are missing"), "{found:?}");
}

#[test]
fn a_torn_record_is_told_of_and_no_other_may_pass_for_one() {
    for format in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), format);
        written(&settings, 3);
        let whole = std::fs::read(&settings.file).unwrap();
        std::fs::write(&settings.file, &whole[..whole.len() - 10]).unwrap();
        written(&settings, 1);
        let found = verify(std::slice::from_ref(&settings.file)).unwrap();
        assert_eq!((found.problems, found.torn), (vec![], 1));
        // Somebody takes the torn one away, or makes it longer.
        let text = std::fs::read_to_string(&settings.file).unwrap();
        let torn = text.lines().position(|l| chain::open(l).is_none() && !l.starts_with('#')).unwrap();
        for change in ["", "x"] {
            let lines = text.lines().enumerate().filter(|(n, _)| *n != torn || !change.is_empty());
            let lines =
                lines.map(|(n, l)| if n == torn { format!("{l}{change}\n") } else { format!("{l}\n") });
            std::fs::write(&settings.file, lines.collect::<String>()).unwrap();
            assert!(!verify(std::slice::from_ref(&settings.file)).unwrap().problems.is_empty());
        }
    }
}

#[test]
fn a_new_day_is_a_new_file_and_only_so_many_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let settings = AuditSettings { rotate: Rotate::Day, keep: 2, ..settings(dir.path(), AuditFormat::Json) };
    let mut file = AuditFile::open(&settings).unwrap();
    let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
    for n in 0..5 {
        // The second record of a day, and one that comes late, change nothing.
        for time in [now + day * n, now + day * n, now] {
            assert!(file.note("test", &json!({}), time));
        }
    }
    file.flush().unwrap();
    let all = files(&settings.file);
    assert_eq!(all.len(), 3);
    let found = verify(&all).unwrap();
    assert_eq!((found.problems, found.records), (vec![], 3 * 4));
}

#[test]
fn what_does_not_fit_is_a_record_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), AuditFormat::Json);
    let (queue, entries) = sync_channel(1);
    let audit = Audit { queue, orders: Arc::default() };
    (0..4).for_each(|n| note(&audit, n));
    assert_eq!((audit.dropped(), audit.is_behind()), (3, true));
    let orders = Arc::clone(&audit.orders);
    drop(audit);
    write(&entries, AuditFile::open(&settings).unwrap(), &orders);
    let text = std::fs::read_to_string(&settings.file).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&lines[1]["event"], &lines[1]["count"]), (&"dropped".into(), &3.into()));
    assert_eq!((&lines[2]["n"], lines.len()), (&0.into(), 3));
    assert_eq!(verify(&[settings.file]).unwrap().problems, []);
    assert!(!orders.behind.load(Ordering::Relaxed));
}

#[test]
fn a_disk_that_is_full_loses_nothing_that_was_taken_and_counts_the_rest() {
    // Every write to it fails as on a full disk.
    let full = Path::new("/dev/full");
    let settings = AuditSettings { file: full.into(), ..AuditSettings::default() };
    let audit = Audit::start(&settings).unwrap();
    note(&audit, 1);
    audit.flush(PATIENCE);
    assert!(audit.is_behind());
    assert_eq!(audit.dropped(), 0);
    let big = "x".repeat(1 << 20);
    for _ in 0..8 {
        audit.push(Entry::Note(SystemTime::now(), "test", json!({ "big": big })));
    }
    audit.flush(PATIENCE);
    assert!(audit.dropped() > 0 && audit.dropped() < 8);
}

#[test]
fn a_flush_and_a_reopening_pass_a_full_queue() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), AuditFormat::Json);
    let old = dir.path().join("old");
    let (queue, entries) = sync_channel(1);
    let audit = Audit { queue, orders: Arc::default() };
    let mut file = AuditFile::open(&settings).unwrap();
    file.flush().unwrap();
    note(&audit, 1);
    std::fs::rename(&settings.file, &old).unwrap();
    // The queue is full: nobody reads it yet.
    audit.reopen();
    let orders = Arc::clone(&audit.orders);
    std::thread::scope(|scope| {
        scope.spawn(move || write(&entries, file, &orders));
        audit.flush(PATIENCE);
        drop(audit);
    });
    let records = |file: &Path| std::fs::read_to_string(file).unwrap().lines().count();
    // What waited is in the new file already, after its opening record.
    assert_eq!((records(&old), records(&settings.file)), (1, 2));
    assert_eq!(verify(&[old, settings.file]).unwrap().problems, []);
}
