//! What writing promises, apart from how it ends.

use super::*;
use crate::fs::{CommitOptions, Follow};

fn done() -> CommitOptions {
    CommitOptions::default()
}

suite! { "write";
    /// Writing a file anew leaves nothing of the old content.
    replaces_all_old_content(b) needs |_, _| true => {
        let path = b.file("f", &noise(1, 100_000)).await?;
        b.file("f", b"short").await?;
        same!(b.content(&path).await?, b"short");
    }
    /// Opening for writing and committing makes an empty file.
    nothing_written_is_an_empty_file(b) needs |_, _| true => {
        let path = b.at("f")?;
        b.open(&path, OpenOptions::create()).await?.commit(&done()).await?;
        same!(b.fs.stat(&path, Follow::Yes).await?.size, 0);
    }
    /// A file is not made where it must exist.
    does_not_create_unasked(b) needs |_, _| true => {
        let path = b.at("f")?;
        fails!(b, b.fs.open(&path, &OpenOptions { write: true, ..Default::default() }).await, NotFound | Unsupported);
        check!(!b.fs.exists(&path).await?, "the file was made");
    }
    /// Exclusive creation fails where a file is, and changes nothing.
    exclusive_keeps_what_is_there(b) needs |_, _| true => {
        let path = b.file("f", b"old").await?;
        let options = OpenOptions { exclusive: true, ..OpenOptions::create() };
        let failed = async {
            let file = b.fs.open(&path, &options).await?;
            file.write_at(0, Bytes::from_static(b"new")).await?;
            file.commit(&done()).await
        };
        fails!(b, failed.await, AlreadyExists);
        same!(b.content(&path).await?, b"old");
    }
    /// Exclusive creation makes a file that is missing.
    exclusive_makes_a_new_file(b) needs |_, _| true => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions { exclusive: true, ..OpenOptions::create() }).await?;
        file.write_at(0, Bytes::from_static(b"new")).await?;
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"new");
    }
    /// A file cannot be written where a directory is.
    a_directory_is_refused(b) needs |_, _| true => {
        let dir = b.dir("d").await?;
        fails!(b, b.fs.write_all(&dir, Bytes::from_static(b"x")).await, IsADirectory | AlreadyExists);
        b.file("d/f", b"x").await?;
    }
    /// A file needs its directory.
    the_parent_must_exist(b) needs |c, _| c.empty_dirs => {
        fails!(b, b.fs.write_all(&b.at("missing/f")?, Bytes::from_static(b"x")).await, NotFound);
        check!(!b.fs.exists(&b.at("missing")?).await?, "the directory was made");
    }
    /// Below a file there is no place.
    below_a_file_is_refused(b) needs |c, _| c.empty_dirs => {
        let path = b.file("f", b"x").await?;
        fails!(b, b.fs.write_all(&b.at("f/g")?, Bytes::from_static(b"x")).await, NotADirectory | NotFound);
        same!(b.content(&path).await?, b"x");
    }
    /// Parts may come in any order.
    out_of_order_parts_end_in_place(b) needs |c, _| c.random_write => {
        let data = noise(5, 100_000);
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        for (i, part) in data.chunks(10_000).enumerate().rev() {
            file.write_at(i as u64 * 10_000, Bytes::copy_from_slice(part)).await?;
        }
        file.commit(&done()).await?;
        check!(b.content(&path).await? == data, "the content differs");
    }
    /// A part written into an existing file leaves the rest as it was.
    in_the_middle_changes_only_that(b) needs |c, _| c.random_write => {
        let path = b.file("f", b"0123456789").await?;
        let file = b.open(&path, OpenOptions::update()).await?;
        file.write_at(3, Bytes::from_static(b"xy")).await?;
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"012xy56789");
    }
    /// Overlapping parts: the later one wins.
    a_later_write_wins(b) needs |c, _| c.random_write => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        file.write_at(0, Bytes::from_static(b"aaaa")).await?;
        file.write_at(2, Bytes::from_static(b"bbbb")).await?;
        file.write_at(1, Bytes::from_static(b"c")).await?;
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"acbbbb");
    }
    /// A gap between two parts reads as zeros.
    a_gap_reads_as_zeros(b) needs |c, _| c.random_write => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        file.write_at(70_000, Bytes::from_static(b"end")).await?;
        file.commit(&done()).await?;
        let content = b.content(&path).await?;
        same!(content.len(), 70_003);
        check!(content.iter().take(70_000).all(|x| *x == 0), "the gap is not zero");
        check!(content.ends_with(b"end"), "the end differs");
    }
    /// Writing nothing changes nothing, not even the size.
    nothing_far_out_does_not_extend(b) needs |c, _| c.random_write => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions::update()).await?;
        file.write_at(1000, Bytes::new()).await?;
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"12345");
    }
    /// A file beyond 4 GiB has its size and its end.
    beyond_four_gib(b) needs |c, p| c.random_write && p.sparse && c.max_size > 5 << 30 => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions { read: true, ..OpenOptions::create() }).await?;
        for at in [(1u64 << 31) - 2, (1 << 32) - 2, 5 << 30] {
            file.write_at(at, Bytes::from_static(b"mark")).await?;
        }
        for at in [(1u64 << 31) - 2, (1 << 32) - 2, 5 << 30] {
            same!(read_range(&*file, at, 4).await?, b"mark");
        }
        file.commit(&done()).await?;
        same!(b.fs.stat(&path, Follow::Yes).await?.size, (5 << 30) + 4);
        let file = b.open(&path, OpenOptions::read()).await?;
        same!(read_range(&*file, (5 << 30) - 2, 10).await?, b"\0\0mark");
        same!(read_range(&*file, 0, 4).await?, b"\0\0\0\0");
    }
    /// An offset that no file can have is refused.
    an_impossible_offset_is_refused(b) needs |c, _| c.random_write => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions::update()).await?;
        fails!(b, file.write_at(u64::MAX, Bytes::from_static(b"x")).await, OutOfRange | TooLarge | InvalidArgument);
        fails!(b, file.write_at(u64::MAX - 1, Bytes::from_static(b"xyz")).await, OutOfRange | TooLarge | InvalidArgument);
        file.park().await?;
        same!(b.content(&path).await?, b"12345");
    }
    /// A file that is there is continued at its end, in order, and keeps what it had.
    continues_at_the_end(b) needs |c, _| c.continue_write => {
        let head = noise(6, 50_000);
        let tail = noise(7, 90_000);
        let path = b.file("f", &head).await?;
        let file = b.open(&path, OpenOptions { write: true, ..Default::default() }).await?;
        let mut at = head.len() as u64;
        for part in tail.chunks(20_000) {
            file.write_at(at, Bytes::copy_from_slice(part)).await?;
            at += part.len() as u64;
            same!(file.metadata().await?.size, at);
        }
        let size = Some(at);
        same!(file.commit(&CommitOptions { expected_size: size, ..done() }).await?.size, at);
        check!(b.content(&path).await? == [head, tail].concat(), "the content differs");
    }
    /// Continuing with nothing leaves the file as it was.
    continuing_with_nothing_changes_nothing(b) needs |c, _| c.continue_write => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions { write: true, ..Default::default() }).await?;
        same!(file.commit(&done()).await?.size, 5);
        same!(b.content(&path).await?, b"12345");
    }
    /// What is appended comes after what was there.
    append_goes_to_the_end(b) needs |c, _| c.append => {
        let path = b.file("f", b"one").await?;
        let options = OpenOptions { write: true, append: true, ..Default::default() };
        let file = b.open(&path, options).await?;
        file.write_at(0, Bytes::from_static(b"two")).await?;
        file.write_at(0, Bytes::from_static(b"three")).await?;
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"onetwothree");
    }
    /// Appending makes a file that is missing, if asked to.
    append_can_create(b) needs |c, _| c.append => {
        let path = b.at("f")?;
        let options = OpenOptions { write: true, append: true, create: true, ..Default::default() };
        let file = b.open(&path, options).await?;
        file.write_at(0, Bytes::from_static(b"one")).await?;
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"one");
    }
    /// A handle sees the size as received so far.
    a_handle_knows_what_arrived(b) needs |_, _| true => {
        let file = b.open(&b.at("f")?, OpenOptions::create()).await?;
        same!(file.metadata().await?.size, 0);
        file.write_at(0, Bytes::from_static(b"12345")).await?;
        same!(file.metadata().await?.size, 5);
        file.write_at(5, Bytes::from_static(b"6")).await?;
        same!(file.metadata().await?.size, 6);
        file.commit(&done()).await?;
    }
    /// A handle for both reads what it wrote.
    a_handle_reads_its_own_writes(b) needs |c, _| c.random_write => {
        let file = b.open(&b.at("f")?, OpenOptions { read: true, ..OpenOptions::create() }).await?;
        file.write_at(0, Bytes::from_static(b"12345")).await?;
        same!(read_range(&*file, 1, 3).await?, b"234");
        file.commit(&done()).await?;
    }
    /// A handle for reading does not write.
    needs_a_handle_for_writing(b) needs |_, _| true => {
        let path = b.file("f", b"old").await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        fails!(b, file.write_at(0, Bytes::from_static(b"new")).await, PermissionDenied | Unsupported);
        same!(b.content(&path).await?, b"old");
    }
    /// Combinations of options that mean nothing are refused.
    senseless_options_are_refused(b) needs |_, _| true => {
        let path = b.file("f", b"old").await?;
        let senseless = [
            OpenOptions::default(),
            OpenOptions { read: true, truncate: true, ..Default::default() },
            OpenOptions { read: true, create: true, ..Default::default() },
            OpenOptions { write: true, exclusive: true, ..Default::default() },
        ];
        for options in senseless {
            fails!(b, b.fs.open(&path, &options).await, InvalidArgument);
        }
        same!(b.content(&path).await?, b"old");
    }
    /// With the right validator a file may be replaced, with a stale one it is not.
    if_match_guards_the_content(b) needs |c, _| c.conditional_write => {
        let path = b.file("f", b"old").await?;
        let etag = b.fs.stat(&path, Follow::Yes).await?.etag;
        check!(etag.is_some(), "conditional writes without an etag");
        let options = OpenOptions { if_match: etag.clone(), ..OpenOptions::create() };
        let file = b.open(&path, options.clone()).await?;
        file.write_at(0, Bytes::from_static(b"newer")).await?;
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"newer");
        fails!(b, b.fs.open(&path, &options).await, PreconditionFailed);
        same!(b.content(&path).await?, b"newer");
    }
    /// What must have a validator must be there.
    if_match_of_a_missing_file_fails(b) needs |c, _| c.conditional_write => {
        let options = OpenOptions { if_match: Some("x".into()), ..OpenOptions::create() };
        fails!(b, b.fs.open(&b.at("f")?, &options).await, PreconditionFailed);
        check!(!b.fs.exists(&b.at("f")?).await?, "the file was made");
    }
    /// A file can be flushed while it is open.
    sync_works_while_open(b) needs |_, _| true => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        file.write_at(0, Bytes::from_static(b"x")).await?;
        match file.sync().await {
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            done => done?,
        }
        file.commit(&done()).await?;
        same!(b.content(&path).await?, b"x");
    }
}
