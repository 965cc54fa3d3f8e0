//! Every cell of the table of who sees what, as cases: each needs a filesystem, the same account's in
//! another session, and another account's.

use super::*;

cases! {
    open_stat_and_list_show_the_received_size_to_the_owner_only
    open_read_shows_what_was_written_to_the_owner_only
    parked_is_seen_and_locked_for_the_owner_and_hidden_from_others
    rename_of_the_path_by_the_owner_moves_what_the_commit_publishes
    rename_of_the_path_by_others_acts_on_the_published_file
    remove_by_the_owner_lets_the_commit_succeed_and_publish_nothing
    remove_by_others_acts_on_the_published_file
    set_attributes_by_the_owner_are_published_with_the_upload
    set_attributes_by_others_act_on_the_published_file_and_stay
    the_parent_cannot_be_removed_by_anybody
    an_entry_moves_along_with_its_parent_whoever_moves_it
}

async fn open_stat_and_list_show_the_received_size_to_the_owner_only(new: Make) {
    let b = new();
    b.put("/old", "old content").await;
    for path in ["/old", "/new"] {
        let file = create(&b.mine, path).await;
        write(&file, 0, "four").await;
        assert_eq!(file.metadata().await.unwrap().size, 4);
        assert_eq!(size(&b.mine, path).await, Some(4));
        assert_eq!(size(&b.again, path).await, Some(4));
        let published = if path == "/old" { Some(11) } else { None };
        assert_eq!(size(&b.other, path).await, published);
        let mine: Vec<_> =
            if path == "/old" { vec![("old".into(), 4)] } else { vec![("new".into(), 4), ("old".into(), 4)] };
        assert_eq!(listed(&b.mine, "/").await, mine);
        assert_eq!(listed(&b.again, "/").await, mine);
        assert_eq!(listed(&b.other, "/").await, [("old".to_owned(), 11)]);
        std::mem::forget(file); // stays open
    }
}

async fn open_read_shows_what_was_written_to_the_owner_only(new: Make) {
    let b = new();
    b.put("/old", "old").await;
    for path in ["/old", "/new"] {
        let options = OpenOptions { read: true, ..OpenOptions::create() };
        let file = open(&b.mine, path, options).await.unwrap();
        write(&file, 0, "written").await;
        assert_eq!(&file.read_into(0, 100, BytesMut::new()).await.unwrap()[..], b"written");
        assert_eq!(read(&b.again, path).await.unwrap(), "written");
        let theirs = read(&b.other, path).await;
        assert_eq!(theirs, if path == "/old" { Ok("old".into()) } else { Err(ErrorKind::NotFound) });
        commit(&file).await.unwrap();
        assert_eq!(read(&b.other, path).await.unwrap(), "written");
    }
    assert_eq!(b.staged().await, 0);
}

async fn parked_is_seen_and_locked_for_the_owner_and_hidden_from_others(new: Make) {
    let b = new();
    let new_mode = b.new_mode().await;
    b.put("/old", "old content").await;
    for path in ["/old", "/new"] {
        b.parked(path, "part").await;
        for mine in [&b.mine, &b.again] {
            assert_eq!(size(mine, path).await, Some(4));
            let locked = open(mine, path, OpenOptions::read()).await.err().unwrap();
            assert_eq!(locked.kind(), ErrorKind::Locked);
            assert!(locked.hint().is_some());
        }
    }
    let mode = b.mine.stat(&p("/new"), Follow::Yes).await.unwrap().mode;
    assert_eq!(mode, new_mode);
    assert_eq!(listed(&b.again, "/").await, [("new".to_owned(), 4), ("old".to_owned(), 4)]);
    assert_eq!(listed(&b.other, "/").await, [("old".to_owned(), 11)]);
    assert_eq!(read(&b.other, "/old").await.unwrap(), "old content");
    assert_eq!(size(&b.other, "/new").await, None);
}

async fn rename_of_the_path_by_the_owner_moves_what_the_commit_publishes(new: Make) {
    for overwrite in [false, true] {
        for session in 0..2 {
            let b = new();
            if overwrite {
                b.put("/f", "old").await;
            }
            let file = create(&b.mine, "/f").await;
            write(&file, 0, "new").await;
            let by = if session == 0 { &b.mine } else { &b.again };
            by.rename(&p("/f"), &p("/g"), Replace::No).await.unwrap();
            assert_eq!(size(by, "/f").await, None);
            assert_eq!(read(by, "/g").await.unwrap(), "new");
            // The published file has moved as well; its content is still the old one.
            let old = read(&b.other, "/g").await;
            assert_eq!(old, if overwrite { Ok("old".into()) } else { Err(ErrorKind::NotFound) });
            commit(&file).await.unwrap();
            assert_eq!(listed(&b.other, "/").await, [("g".to_owned(), 3)]);
            assert_eq!(read(&b.other, "/g").await.unwrap(), "new");
            assert_eq!(b.staged().await, 0);
        }
    }
}

async fn rename_of_the_path_by_others_acts_on_the_published_file(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new").await;
    b.other.rename(&p("/f"), &p("/g"), Replace::No).await.unwrap();
    assert_eq!(read(&b.other, "/g").await.unwrap(), "old");
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "new");
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/f").await.unwrap(), "new");
    let absent = create(&b.mine, "/absent").await;
    write(&absent, 0, "x").await;
    assert_eq!(kind(b.other.rename(&p("/absent"), &p("/h"), Replace::No).await), ErrorKind::NotFound);
}

async fn remove_by_the_owner_lets_the_commit_succeed_and_publish_nothing(new: Make) {
    for overwrite in [false, true] {
        for session in 0..2 {
            let b = new();
            if overwrite {
                b.put("/f", "old").await;
            }
            let file = create(&b.mine, "/f").await;
            write(&file, 0, "new!").await;
            let by = if session == 0 { &b.mine } else { &b.again };
            by.remove_file(&p("/f")).await.unwrap();
            assert_eq!(size(by, "/f").await, None);
            write(&file, 4, "more").await;
            assert_eq!(commit(&file).await.unwrap().size, 8);
            assert_eq!(kind(commit(&file).await), ErrorKind::Closed);
            assert_eq!(listed(&b.other, "/").await, []);
            assert_eq!(listed(&b.mine, "/").await, []);
            assert_eq!(b.staged().await, 0);
        }
    }
}

async fn remove_by_others_acts_on_the_published_file(new: Make) {
    let b = new();
    b.put("/f", "old").await;
    for path in ["/f", "/new"] {
        let file = create(&b.mine, path).await;
        write(&file, 0, "new").await;
        let removed = b.other.remove_file(&p(path)).await;
        if path == "/f" {
            removed.unwrap();
        } else {
            assert_eq!(kind(removed), ErrorKind::NotFound);
        }
        assert_eq!(size(&b.other, path).await, None);
        commit(&file).await.unwrap();
        assert_eq!(read(&b.other, path).await.unwrap(), "new");
    }
}

async fn set_attributes_by_the_owner_are_published_with_the_upload(new: Make) {
    for parked in [false, true] {
        let b = new();
        let new_mode = b.new_mode().await;
        b.put("/f", "old").await;
        let file = create(&b.mine, "/f").await;
        write(&file, 0, "new").await;
        if parked {
            file.park().await.unwrap();
        }
        for (by, mode) in [(&b.mine, 0o640), (&b.again, 0o600)] {
            by.set_attributes(&p("/f"), &Attributes::mode(mode), Follow::Yes).await.unwrap();
            assert_eq!(by.stat(&p("/f"), Follow::Yes).await.unwrap().mode, Some(mode));
            assert_eq!(b.other.stat(&p("/f"), Follow::Yes).await.unwrap().mode, new_mode);
        }
        let file = if parked { open(&b.mine, "/f", resume()).await.unwrap() } else { file };
        assert_eq!(commit(&file).await.unwrap().mode, Some(0o600));
        assert_eq!(b.other.stat(&p("/f"), Follow::Yes).await.unwrap().mode, Some(0o600));
        assert_eq!(read(&b.other, "/f").await.unwrap(), "new");
    }
}

async fn set_attributes_by_others_act_on_the_published_file_and_stay(new: Make) {
    let b = new();
    let new_mode = b.new_mode().await;
    b.put("/f", "old").await;
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new").await;
    b.other.set_attributes(&p("/f"), &Attributes::mode(0o400), Follow::Yes).await.unwrap();
    assert_eq!(b.mine.stat(&p("/f"), Follow::Yes).await.unwrap().mode, new_mode);
    // What replaces a file takes over its mode.
    assert_eq!(commit(&file).await.unwrap().mode, Some(0o400));
    let absent = b.other.set_attributes(&p("/none"), &Attributes::mode(0o400), Follow::Yes).await;
    assert_eq!(kind(absent), ErrorKind::NotFound);
}

async fn the_parent_cannot_be_removed_by_anybody(new: Make) {
    for parked in [false, true] {
        let b = new();
        b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        b.mine.create_dir(&p("/d/e"), &Attributes::none()).await.unwrap();
        let file = create(&b.mine, "/d/e/f").await;
        write(&file, 0, "x").await;
        if parked {
            file.park().await.unwrap();
        }
        for by in [&b.mine, &b.again, &b.other] {
            assert_eq!(kind(by.remove_dir(&p("/d/e")).await), ErrorKind::NotEmpty);
        }
        b.again.remove_file(&p("/d/e/f")).await.unwrap();
        b.other.remove_dir(&p("/d/e")).await.unwrap();
        drop(file);
        assert_eq!(b.staged().await, 0);
    }
}

async fn an_entry_moves_along_with_its_parent_whoever_moves_it(new: Make) {
    for by in 0..3 {
        let b = new();
        b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        b.put("/d-1", "beside").await;
        let file = create(&b.mine, "/d/f").await;
        write(&file, 0, "open").await;
        b.parked("/d/g", "parked").await;
        let mover = [&b.mine, &b.again, &b.other][by];
        mover.rename(&p("/d"), &p("/e"), Replace::No).await.unwrap();
        assert_eq!(listed(&b.mine, "/e").await, [("f".to_owned(), 4), ("g".to_owned(), 6)]);
        assert_eq!(listed(&b.other, "/e").await, []);
        commit(&file).await.unwrap();
        assert_eq!(read(&b.other, "/e/f").await.unwrap(), "open");
        let file = open(&b.again, "/e/g", resume()).await.unwrap();
        write(&file, 6, "!").await;
        commit(&file).await.unwrap();
        assert_eq!(read(&b.other, "/e/g").await.unwrap(), "parked!");
        assert_eq!(b.staged().await, 0);
    }
}
