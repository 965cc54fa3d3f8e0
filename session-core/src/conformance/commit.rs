//! How writing ends: `commit`, `park`, `abort`, and what others see until then.

use super::*;
use crate::fs::{CommitOptions, Follow};

const DONE: fn() -> CommitOptions = CommitOptions::default;

/// A file that is being written, with some bytes in it.
async fn begun(b: &Bench, name: &str) -> Result<(VPath, Arc<dyn File>), Failure> {
    let path = b.at(name)?;
    let file = b.open(&path, OpenOptions::create()).await?;
    file.write_at(0, Bytes::from_static(b"12345")).await?;
    Ok((path, file))
}

/// Nothing works on a file that has ended.
async fn has_ended(b: &Bench, file: &dyn File) -> Outcome {
    fails!(b, file.write_at(0, Bytes::from_static(b"late")).await, Closed);
    fails!(b, file.commit(&DONE()).await, Closed);
    fails!(b, file.abort().await, Closed);
    fails!(b, file.park().await, Closed);
    Ok(())
}

suite! { "commit";
    /// A commit tells what was published.
    tells_what_was_published(b) needs |_, _| true => {
        let (path, file) = begun(b, "f").await?;
        let metadata = file.commit(&DONE()).await?;
        same!(metadata.size, 5);
        check!(metadata.is_file(), "it is no file");
        same!(b.fs.stat(&path, Follow::Yes).await?.size, 5);
        same!(b.content(&path).await?, b"12345");
    }
    /// A commit that expects the right size succeeds.
    with_the_right_size_succeeds(b) needs |_, _| true => {
        let (path, file) = begun(b, "f").await?;
        file.commit(&CommitOptions { expected_size: Some(5), ..DONE() }).await?;
        same!(b.content(&path).await?, b"12345");
    }
    /// A commit that expects another size fails and says so.
    with_another_size_is_corrupt(b) needs |_, _| true => {
        for (name, size) in [("short", 4), ("long", 6), ("none", 0)] {
            let (_, file) = begun(b, name).await?;
            fails!(b, file.commit(&CommitOptions { expected_size: Some(size), ..DONE() }).await, Corrupt);
        }
    }
    /// A failed commit has ended the file, or leaves it to an abort.
    a_failed_one_is_ended_by_an_abort_at_the_latest(b) needs |_, _| true => {
        let (_, file) = begun(b, "f").await?;
        fails!(b, file.commit(&CommitOptions { expected_size: Some(1), ..DONE() }).await, Corrupt);
        match file.abort().await {
            Err(e) if e.kind() == ErrorKind::Closed => {}
            done => done?,
        }
        has_ended(b, &*file).await?;
    }
    /// A failed commit leaves the old content where writing is staged.
    a_failed_one_keeps_the_old_content(b) needs |_, p| p.is_whole() => {
        let path = b.file("f", b"old").await?;
        let (_, file) = begun(b, "f").await?;
        fails!(b, file.commit(&CommitOptions { expected_size: Some(1), ..DONE() }).await, Corrupt);
        same!(b.content(&path).await?, b"old");
    }
    /// After a commit the file has ended, and late calls change nothing.
    ends_the_file(b) needs |_, _| true => {
        let (path, file) = begun(b, "f").await?;
        file.commit(&DONE()).await?;
        has_ended(b, &*file).await?;
        same!(b.content(&path).await?, b"12345");
    }
    /// After an abort the file has ended.
    abort_ends_the_file(b) needs |_, _| true => {
        let (_, file) = begun(b, "f").await?;
        file.abort().await?;
        has_ended(b, &*file).await?;
    }
    /// After parking the file has ended for this handle.
    park_ends_the_file(b) needs |_, _| true => {
        let (_, file) = begun(b, "f").await?;
        file.park().await?;
        has_ended(b, &*file).await?;
    }
    /// Of many endings at a time exactly one wins.
    the_first_ending_wins(b) needs |_, _| true => {
        let (_, file) = begun(b, "f").await?;
        let endings = (0..12).map(|i| {
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                match i % 3 {
                    0 => file.commit(&DONE()).await.map(drop),
                    1 => file.park().await,
                    _ => file.abort().await,
                }
            })
        });
        let mut won = 0;
        for ending in futures_util::future::join_all(endings).await {
            match ending {
                Ok(Ok(())) => won += 1,
                Ok(Err(e)) => check!(b.is_due(e.kind(), &[ErrorKind::Closed]), "{:?}", e.kind()),
                Err(e) => check!(false, "an ending panicked: {e}"),
            }
        }
        same!(won, 1);
    }
    /// Writes that were accepted before the commit are in it.
    waits_for_writes_in_flight(b) needs |c, _| c.random_write => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        let data = noise(8, 512 * 1024);
        let writes = data.chunks(32 * 1024).enumerate().map(|(i, part)| {
            let (file, part) = (Arc::clone(&file), Bytes::copy_from_slice(part));
            tokio::spawn(async move { file.write_at(i as u64 * 32 * 1024, part).await })
        });
        let mut right = true;
        for write in futures_util::future::join_all(writes).await {
            right &= matches!(write, Ok(Ok(())));
        }
        check!(right, "a write failed");
        same!(file.commit(&DONE()).await?.size, data.len() as u64);
        check!(b.content(&path).await? == data, "the content differs");
    }
    /// A new file that was aborted is not there.
    an_aborted_new_file_is_gone(b) needs |_, _| true => {
        let (path, file) = begun(b, "f").await?;
        file.abort().await?;
        drop(file);
        check!(!b.fs.exists(&path).await?, "the aborted file is there");
        same!(b.names(&b.root).await?.len(), 0);
    }
    /// Aborting a change keeps the old content where writing is staged.
    an_aborted_overwrite_keeps_the_old_content(b) needs |_, p| p.is_whole() => {
        let path = b.file("f", b"old").await?;
        let (_, file) = begun(b, "f").await?;
        file.abort().await?;
        same!(b.content(&path).await?, b"old");
    }
    /// An abort never removes a file that was there before.
    abort_spares_what_was_there(b) needs |c, _| c.random_write => {
        let path = b.file("f", b"old").await?;
        b.open(&path, OpenOptions::update()).await?.abort().await?;
        same!(b.content(&path).await?, b"old");
    }
    /// An abort does not remove a file that somebody else has put in the place meanwhile.
    abort_spares_what_came_meanwhile(b) needs |c, p| c.rename_replaces && p.knows_files => {
        let (path, file) = begun(b, "f").await?;
        let other = b.file("g", b"other").await?;
        b.fs.rename(&other, &path, crate::fs::Replace::Yes).await?;
        file.abort().await?;
        same!(b.content(&path).await?, b"other");
    }
    /// Until the commit, others see the old content where writing is staged.
    is_the_moment_of_change(b) needs |_, p| p.is_whole() => {
        let path = b.file("f", b"old").await?;
        let (_, file) = begun(b, "f").await?;
        if b.other.is_some() {
            same!(b.content(&path).await?, b"old");
        }
        file.commit(&DONE()).await?;
        same!(b.content(&path).await?, b"12345");
    }
    /// A file that was dropped without an ending is not published where writing is staged.
    a_dropped_file_is_not_published(b) needs |_, p| p.is_whole() && !p.close_only => {
        let path = b.file("f", b"old").await?;
        let (_, file) = begun(b, "f").await?;
        drop(file);
        if b.other.is_some() {
            same!(b.content(&path).await?, b"old");
        }
    }
    /// A file opened for reading needs no ending and hinders nobody.
    reading_needs_no_ending(b) needs |c, _| c.remove => {
        let path = b.file("f", b"12345").await?;
        drop(b.open(&path, OpenOptions::read()).await?);
        b.file("f", b"new").await?;
        b.fs.remove_file(&path).await?;
    }
}
