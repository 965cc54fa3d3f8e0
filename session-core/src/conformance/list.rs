//! What a listing promises: everything, once.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;

use super::*;
use crate::fs::Order;
use crate::metadata::FileType;

/// Makes so many empty files, several at a time.
async fn many(b: &Bench, count: usize) -> Outcome {
    futures_util::stream::iter((0..count).map(Ok::<_, Failure>))
        .try_for_each_concurrent(16, |i| async move { b.file(format!("f{i:06}"), b"").await.map(drop) })
        .await
}

/// All of so many files are listed, each once.
async fn lists_all(b: &Bench, count: usize) -> Outcome {
    many(b, count).await?;
    let names = b.listed(&b.root, &ListOptions::default()).await?;
    same!(names.len(), count);
    let different: BTreeSet<_> = names.iter().collect();
    same!(different.len(), count);
    check!(names.iter().all(|n| n.starts_with(b"f") && n.len() == 7), "a name is not one of ours");
    Ok(())
}

suite! { "list";
    /// An empty directory lists as nothing.
    an_empty_directory_is_empty(b) needs |c, _| c.empty_dirs => {
        let dir = b.dir("d").await?;
        same!(b.listed(&dir, &ListOptions::default()).await?.len(), 0);
    }
    /// Files and directories come with their kinds and sizes, without `.` and `..`.
    gives_kinds_and_sizes(b) needs |c, _| c.empty_dirs => {
        b.file("f", b"12345").await?;
        b.dir("d").await?;
        b.file(".hidden", b"1").await?;
        let found: Vec<_> = b
            .fs
            .list_all(&b.root)
            .await?
            .into_iter()
            .map(|e| (e.name, e.metadata.file_type, if e.metadata.is_file() { e.metadata.size } else { 0 }))
            .collect();
        let due = [
            (Bytes::from_static(b".hidden"), FileType::File, 1),
            (Bytes::from_static(b"d"), FileType::Directory, 0),
            (Bytes::from_static(b"f"), FileType::File, 5),
        ];
        same!(found, due);
    }
    /// Only what is directly in the directory is listed.
    does_not_descend(b) needs |_, _| true => {
        b.dir("d").await?;
        b.file("d/inner", b"x").await?;
        same!(b.names(&b.root).await?, ["d"]);
        same!(b.names(&b.at("d")?).await?, ["inner"]);
    }
    /// A file is no directory to list.
    of_a_file_is_refused(b) needs |_, _| true => {
        let path = b.file("f", b"x").await?;
        fails!(b, b.listed_error(&path).await, NotADirectory);
    }
    /// A missing directory is not an empty one.
    of_a_missing_directory_is_not_found(b) needs |c, _| c.empty_dirs => {
        fails!(b, b.listed_error(&b.at("missing")?).await, NotFound);
    }
    /// The root can be listed and holds what is in it.
    of_the_root_works(b) needs |_, _| true => {
        let top = b.root.segments().next().unwrap_or_default().to_vec();
        let names = b.listed(&VPath::root(), &ListOptions::default()).await?;
        check!(names.iter().any(|n| *n == top), "the root does not list the case's own directory");
    }
    /// A directory of 3,000 files is listed completely, in pages (of fewer, where each takes long).
    three_thousand_entries(b) needs |_, _| true => {
        lists_all(b, b.profile.crowd).await?;
    }
    /// A directory of 100,000 files is listed completely.
    a_hundred_thousand_entries(b) needs |_, p| p.thorough => {
        lists_all(b, 100_000).await?;
    }
    /// A listing that is given up halfway harms nothing.
    can_be_given_up(b) needs |_, _| true => {
        let n = b.profile.crowd / 2;
        many(b, n).await?;
        let mut pages = b.fs.list(&b.root, &ListOptions::default()).await?;
        check!(pages.next_page().await?.is_some(), "there is no first page");
        drop(pages);
        same!(b.listed(&b.root, &ListOptions::default()).await?.len(), n);
    }
    /// After the end there is only the end.
    the_end_stays_the_end(b) needs |_, _| true => {
        b.file("f", b"").await?;
        let mut pages = b.fs.list(&b.root, &ListOptions::default()).await?;
        while pages.next_page().await?.is_some() {}
        check!(pages.next_page().await?.is_none(), "a page came after the end");
    }
    /// Two listings of one directory do not disturb each other.
    two_at_a_time(b) needs |_, _| true => {
        let n = b.profile.crowd / 2;
        many(b, n).await?;
        let options = ListOptions::default();
        let (one, two) = futures_util::future::join(b.listed(&b.root, &options), b.listed(&b.root, &options)).await;
        same!((one?.len(), two?.len()), (n, n));
    }
    /// Entries that stay are listed once, whatever comes and goes meanwhile.
    changes_meanwhile_lose_nothing(b) needs |c, _| c.remove => {
        let n = b.profile.crowd / 2;
        many(b, n).await?;
        let mut pages = b.fs.list(&b.root, &ListOptions::default()).await?;
        let mut names = Vec::new();
        let mut round = 0;
        while let Some(page) = pages.next_page().await? {
            names.extend(page.into_iter().map(|e| e.name));
            b.file(format!("new{round}"), b"").await?;
            b.fs.remove_file(&b.at(format!("new{round}"))?).await?;
            round += 1;
        }
        names.retain(|n| n.starts_with(b"f"));
        same!(names.len(), n);
        same!(names.iter().collect::<BTreeSet<_>>().len(), n);
    }
    /// A removed file is not listed any more.
    a_removed_file_is_gone(b) needs |c, _| c.remove => {
        let path = b.file("f", b"").await?;
        b.file("g", b"").await?;
        b.fs.remove_file(&path).await?;
        same!(b.names(&b.root).await?, ["g"]);
    }
    /// A store that sorts by itself sorts by the bytes of the names.
    by_name_is_sorted(b) needs |c, _| c.ordered_list => {
        for name in ["b", "a", "B", "ä", "a.b", "ab"] {
            b.file(name, b"").await?;
        }
        let options = ListOptions { order: Order::Name, ..ListOptions::default() };
        same!(b.listed(&b.root, &options).await?, ["B", "a", "a.b", "ab", "b", "ä"]);
        let options = ListOptions {
            order: Order::Name,
            after: Some(Bytes::from_static(b"a.b")),
            ..ListOptions::default()
        };
        same!(b.listed(&b.root, &options).await?, ["ab", "b", "ä"]);
    }
    /// In the order of keys a directory sorts as if its name ended in a slash.
    by_key_counts_the_slash(b) needs |c, _| c.ordered_list && c.empty_dirs => {
        b.dir("a").await?;
        b.file("a.b", b"").await?;
        b.file("a0", b"").await?;
        let options = ListOptions { order: Order::Key, ..ListOptions::default() };
        same!(b.listed(&b.root, &options).await?, ["a.b", "a", "a0"]);
    }
}
