//! What is sealed for a verdict: nobody changes it, its path may move, and it is published as it was seen.

use super::*;

cases! {
    what_is_sealed_changes_no_more
    only_the_last_close_is_sealed
    a_path_that_moved_or_went_while_it_was_judged
    a_seal_ends_with_a_commit_that_failed
    a_size_that_is_wrong_is_told_before_anybody_looks
    what_was_sealed_and_dropped_is_parked_and_goes_on
}

async fn seal(file: &Arc<dyn File>) -> Result<Sealed> {
    file.seal(&CommitOptions::default()).await
}

async fn content(sealed: Sealed) -> String {
    let Sealed::Content(file) = sealed else { panic!("nothing was sealed") };
    String::from_utf8(file.read_into(0, 1 << 20, BytesMut::new()).await.unwrap().to_vec()).unwrap()
}

async fn what_is_sealed_changes_no_more(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "judged").await;
    let sealed = seal(&file).await.unwrap();
    assert_eq!(kind(file.write_at(0, Bytes::from_static(b"x")).await), ErrorKind::Locked);
    assert_eq!(kind(file.set_attributes(&Attributes::size(1)).await), ErrorKind::Locked);
    assert_eq!(kind(open(&b.again, "/f", resume()).await), ErrorKind::Locked);
    let cut = b.again.set_attributes(&p("/f"), &Attributes::size(1), Follow::Yes).await;
    assert_eq!(kind(cut), ErrorKind::Locked);
    // Times are no content.
    let time = Attributes::times(None, Some(SystemTime::UNIX_EPOCH));
    b.again.set_attributes(&p("/f"), &time, Follow::Yes).await.unwrap();
    // A new upload under the same name is another one.
    let second = create(&b.again, "/f").await;
    write(&second, 0, "second").await;
    assert_eq!(read(&b.other, "/f").await.unwrap(), "old");
    assert_eq!(content(sealed).await, "judged");
    assert_eq!(commit(&file).await.unwrap().size, 6);
    assert_eq!(read(&b.other, "/f").await.unwrap(), "judged");
    commit(&second).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "second");
    assert_eq!(b.staged().await, 0);
}

async fn only_the_last_close_is_sealed(new: Make) {
    let b = new();
    let one = create(&b.mine, "/f").await;
    let two = open(&b.again, "/f", resume()).await.unwrap();
    write(&one, 0, "ab").await;
    assert!(matches!(seal(&one).await.unwrap(), Sealed::Done(m) if m.size == 2));
    assert_eq!(kind(commit(&one).await), ErrorKind::Closed);
    write(&two, 2, "cd").await;
    assert_eq!(content(seal(&two).await.unwrap()).await, "abcd");
    commit(&two).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "abcd");
}

async fn a_path_that_moved_or_went_while_it_was_judged(new: Make) {
    let b = new();
    b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "x").await;
    let _sealed = seal(&file).await.unwrap();
    b.again.rename(&p("/f"), &p("/d/g"), Replace::No).await.unwrap();
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/d/g").await.unwrap(), "x");
    let file = create(&b.mine, "/f").await;
    let _sealed = seal(&file).await.unwrap();
    b.again.remove_file(&p("/f")).await.unwrap();
    commit(&file).await.unwrap();
    assert_eq!(size(&b.mine, "/f").await, None);
    assert_eq!(b.staged().await, 0);
}

async fn a_seal_ends_with_a_commit_that_failed(new: Make) {
    let b = new();
    let file = open(&b.mine, "/f", exclusive()).await.unwrap();
    write(&file, 0, "mine").await;
    let _sealed = seal(&file).await.unwrap();
    b.put("/f", "theirs").await;
    assert_eq!(kind(commit(&file).await), ErrorKind::AlreadyExists);
    write(&file, 0, "more").await;
    assert_eq!(content(seal(&file).await.unwrap()).await, "more");
    file.abort().await.unwrap();
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "theirs");
    assert_eq!(b.staged().await, 0);
}

async fn a_size_that_is_wrong_is_told_before_anybody_looks(new: Make) {
    let b = new();
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "abc").await;
    let options = CommitOptions { expected_size: Some(4), ..CommitOptions::default() };
    assert_eq!(kind(file.seal(&options).await), ErrorKind::Corrupt);
    write(&file, 3, "d").await;
    assert!(matches!(file.seal(&options).await.unwrap(), Sealed::Content(_)));
}

async fn what_was_sealed_and_dropped_is_parked_and_goes_on(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new ").await;
    let sealed = seal(&file).await.unwrap();
    drop(file);
    drop(sealed);
    assert_eq!(b.area.parked()[0].size, 4);
    let file = open(&b.mine, "/f", resume()).await.unwrap();
    write(&file, 4, "content").await;
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "new content");
}
