//! Names, listings and everything that is done by path beside the table's cells.

use super::*;

cases! {
    a_rename_onto_an_upload_takes_its_name
    an_upload_is_renamed_by_the_rules_for_files
    an_exclusive_upload_may_replace_what_its_owner_renamed_it_onto
    a_directory_with_an_upload_is_not_replaced
    nothing_is_made_where_the_owner_sees_an_upload
    a_copy_needs_a_finished_source_and_replaces_a_parked_target
    an_upload_needs_a_directory_to_lie_in
    an_upload_that_is_published_during_a_listing_is_given_once
}

async fn a_rename_onto_an_upload_takes_its_name(new: Make) {
    let b = new();
    b.put("/a", "a").await;
    let file = create(&b.mine, "/b").await;
    write(&file, 0, "lost").await;
    assert_eq!(kind(b.mine.rename(&p("/a"), &p("/b"), Replace::No).await), ErrorKind::AlreadyExists);
    b.mine.rename(&p("/a"), &p("/b"), Replace::Yes).await.unwrap();
    assert_eq!(read(&b.mine, "/b").await.unwrap(), "a");
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/b").await.unwrap(), "a");
    assert_eq!(b.staged().await, 0);
}

async fn an_upload_is_renamed_by_the_rules_for_files(new: Make) {
    let b = new();
    b.put("/taken", "old").await;
    b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    let file = create(&b.mine, "/f").await;
    write(&file, 0, "new").await;
    let to = async |to: &str, replace| b.mine.rename(&p("/f"), &p(to), replace).await;
    assert_eq!(kind(to("/taken", Replace::No).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(to("/d", Replace::Yes).await), ErrorKind::IsADirectory);
    assert_eq!(kind(to("/none/f", Replace::Yes).await), ErrorKind::NotFound);
    assert_eq!(kind(to("/taken/f", Replace::Yes).await), ErrorKind::NotADirectory);
    to("/f", Replace::No).await.unwrap();
    to("/taken", Replace::Yes).await.unwrap();
    assert_eq!(read(&b.other, "/taken").await.unwrap(), "old");
    commit(&file).await.unwrap();
    assert_eq!(read(&b.other, "/taken").await.unwrap(), "new");
}

async fn an_exclusive_upload_may_replace_what_its_owner_renamed_it_onto(new: Make) {
    let b = new();
    b.put("/old", "old").await;
    let file = open(&b.mine, "/f", exclusive()).await.unwrap();
    b.mine.rename(&p("/f"), &p("/old"), Replace::Yes).await.unwrap();
    commit(&file).await.unwrap();
    assert_eq!(size(&b.other, "/old").await, Some(0));
}

async fn a_directory_with_an_upload_is_not_replaced(new: Make) {
    let b = new();
    for dir in ["/a", "/b"] {
        b.mine.create_dir(&p(dir), &Attributes::none()).await.unwrap();
    }
    let file = create(&b.mine, "/b/f").await;
    assert_eq!(kind(b.other.rename(&p("/a"), &p("/b"), Replace::Yes).await), ErrorKind::NotEmpty);
    commit(&file).await.unwrap();
    assert_eq!(size(&b.other, "/b/f").await, Some(0));
}

async fn nothing_is_made_where_the_owner_sees_an_upload(new: Make) {
    let b = new();
    b.parked("/f", "part").await;
    assert_eq!(kind(b.mine.create_dir(&p("/f"), &Attributes::none()).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(b.mine.symlink(b"x", &p("/f")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(b.mine.remove_dir(&p("/f")).await), ErrorKind::NotADirectory);
    b.other.create_dir(&p("/f"), &Attributes::none()).await.unwrap();
}

async fn a_copy_needs_a_finished_source_and_replaces_a_parked_target(new: Make) {
    let b = new();
    b.put("/a", "a").await;
    b.parked("/f", "part").await;
    assert_eq!(kind(b.mine.copy(&p("/f"), &p("/c"), Replace::Yes).await), ErrorKind::Locked);
    assert_eq!(kind(b.mine.copy(&p("/a"), &p("/f"), Replace::No).await), ErrorKind::AlreadyExists);
    b.mine.copy(&p("/a"), &p("/f"), Replace::Yes).await.unwrap();
    assert_eq!(read(&b.mine, "/f").await.unwrap(), "a");
    assert_eq!(b.staged().await, 0);
}

async fn an_upload_needs_a_directory_to_lie_in(new: Make) {
    let b = new();
    b.put("/f", "x").await;
    b.mine.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    assert_eq!(kind(open(&b.mine, "/none/f", OpenOptions::create()).await), ErrorKind::NotFound);
    assert_eq!(kind(open(&b.mine, "/f/g", OpenOptions::create()).await), ErrorKind::NotADirectory);
    assert_eq!(kind(open(&b.mine, "/d", OpenOptions::create()).await), ErrorKind::IsADirectory);
    assert_eq!(kind(open(&b.mine, "/", OpenOptions::create()).await), ErrorKind::IsADirectory);
    assert_eq!(b.staged().await, 0);
}

#[tokio::test]
async fn a_listing_holds_every_entry_once_in_every_order() {
    for ordered in [false, true] {
        let mut store = Little::new();
        store.ordered = ordered;
        let b = Bench::over(Arc::new(store), StagingPolicy::default());
        for name in ["b", "d", "f", "h", "j", "l", "n"] {
            b.put(&format!("/{name}"), "old").await;
        }
        b.mine.create_dir(&p("/e"), &Attributes::none()).await.unwrap();
        let mut files = Vec::new();
        for name in ["a", "b", "e+", "e0", "i", "l", "m", "z"] {
            let file = create(&b.mine, &format!("/{name}")).await;
            write(&file, 0, "staged").await;
            files.push(file);
        }
        files.push(create(&b.mine, "/e/below").await);
        let orders = if ordered { &[Order::Any, Order::Name, Order::Key][..] } else { &[Order::Any] };
        for order in orders.iter().copied() {
            let options = ListOptions { order, ..ListOptions::default() };
            let mut all = listed_by(&b.mine, "/", options).await;
            let names: Vec<_> = all.iter().map(|(n, _)| n.clone()).collect();
            let sorted: &[&str] = match order {
                Order::Key => &["a", "b", "d", "e+", "e", "e0", "f", "h", "i", "j", "l", "m", "n", "z"],
                _ => &["a", "b", "d", "e", "e+", "e0", "f", "h", "i", "j", "l", "m", "n", "z"],
            };
            if order == Order::Any {
                all.sort();
                assert_eq!(all.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), sorted);
            } else {
                assert_eq!(names, sorted);
            }
            let sizes: Vec<_> = all.iter().filter(|(_, s)| *s == 6).map(|(n, _)| n.len()).collect();
            assert_eq!(sizes.len(), 8);
        }
        if ordered {
            let options = ListOptions {
                order: Order::Name,
                after: Some(Bytes::from_static(b"j")),
                ..ListOptions::default()
            };
            let names: Vec<_> = listed_by(&b.mine, "/", options).await.into_iter().map(|(n, _)| n).collect();
            assert_eq!(names, ["l", "m", "n", "z"]);
        }
    }
}

async fn an_upload_that_is_published_during_a_listing_is_given_once(new: Make) {
    // The first page comes before the commit; the store lists the new name late, early, or not at all.
    for name in ["a", "m", "z"] {
        let b = new();
        for other in ["b", "c", "d", "e", "n", "o", "p"] {
            b.put(&format!("/{other}"), "old").await;
        }
        let file = create(&b.mine, &format!("/{name}")).await;
        let gone = create(&b.mine, "/gone").await;
        let mut pages = b.mine.list(&VPath::root(), &ListOptions::default()).await.unwrap();
        let mut names: Vec<_> = pages.next_page().await.unwrap().unwrap();
        commit(&file).await.unwrap();
        gone.abort().await.unwrap();
        while let Some(page) = pages.next_page().await.unwrap() {
            names.extend(page);
        }
        let found = names.iter().filter(|e| e.name == name.as_bytes()).count();
        assert_eq!((found, names.len()), (1, 8));
    }
}
