//! What reading promises.

use super::*;

suite! { "read";
    /// What was written is what is read.
    gives_back_what_was_written(b) needs |_, _| true => {
        let data = noise(1, 300_000);
        let path = b.file("f", &data).await?;
        check!(b.content(&path).await? == data, "the content differs");
    }
    /// Every size around the sizes of buffers survives.
    sizes_around_buffers_survive(b) needs |_, _| true => {
        for size in [0usize, 1, 2, 511, 512, 4095, 4096, 4097, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537] {
            let data = noise(size as u64, size);
            let path = b.file(format!("f{size}"), &data).await?;
            check!(b.content(&path).await? == data, "content of {size} bytes differs");
        }
    }
    /// A range in the middle is exactly that range.
    a_range_is_exact(b) needs |_, _| true => {
        let data = noise(2, 200_000);
        let path = b.file("f", &data).await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        for (from, len) in [(0usize, 1usize), (1, 1), (65_535, 2), (65_536, 65_536), (100_000, 70_000), (199_999, 1)] {
            let part = read_range(&*file, from as u64, len).await?;
            check!(data.get(from..from + len) == Some(&part[..]), "{len} bytes from {from} differ");
        }
    }
    /// Reading at the end and beyond gives nothing and is no error.
    at_and_beyond_the_end_is_nothing(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        for offset in [5, 6, 1 << 20, 1 << 40] {
            same!(file.read_into(offset, 10, BytesMut::new()).await?.len(), 0);
        }
    }
    /// A read over the end gives what is there.
    over_the_end_is_short(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        same!(read_range(&*file, 3, 100).await?, b"45");
    }
    /// An empty file gives nothing.
    an_empty_file_gives_nothing(b) needs |_, _| true => {
        let path = b.file("f", b"").await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        same!(file.read_into(0, 100, BytesMut::new()).await?.len(), 0);
    }
    /// What a buffer already holds stays in front.
    appends_to_the_buffer(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        let buf = file.read_into(1, 1, BytesMut::from(&b"head"[..])).await?;
        same!(&buf[..], b"head2");
    }
    /// Never more than was asked for.
    never_more_than_asked(b) needs |_, _| true => {
        let path = b.file("f", &noise(3, 100_000)).await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        for len in [0usize, 1, 7, 4096, 50_000] {
            let got = file.read_into(0, len, BytesMut::new()).await?.len();
            check!(got <= len, "{got} bytes came, {len} were asked for");
        }
    }
    /// Reads may be in flight together and in any order.
    many_at_a_time_do_not_mix(b) needs |_, _| true => {
        let data = noise(4, 256 * 1024);
        let path = b.file("f", &data).await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        let reads = data.chunks(8 * 1024).enumerate().rev().map(|(i, want)| {
            let file = Arc::clone(&file);
            async move { Ok::<_, Failure>(read_range(&*file, i as u64 * 8192, want.len()).await? == want) }
        });
        for right in futures_util::future::join_all(reads).await {
            check!(right?, "a part differs");
        }
    }
    /// A file that was opened stays readable after it was removed, or says that it is gone.
    a_removed_file_is_never_garbage(b) needs |c, _| c.remove => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        b.fs.remove_file(&path).await?;
        if let Ok(buf) = file.read_into(0, 10, BytesMut::new()).await {
            check!(b"12345".starts_with(&buf), "read {buf:?}");
        }
    }
    /// A directory cannot be read as a file.
    a_directory_is_refused(b) needs |_, _| true => {
        let dir = b.dir("d").await?;
        fails!(b, b.fs.open(&dir, &OpenOptions::read()).await, IsADirectory);
        fails!(b, b.fs.open(&VPath::root(), &OpenOptions::read()).await, IsADirectory);
    }
    /// A handle that was opened for writing only does not read.
    needs_a_handle_for_reading(b) needs |_, _| true => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        file.write_at(0, Bytes::from_static(b"x")).await?;
        fails!(b, file.read_into(0, 1, BytesMut::new()).await, PermissionDenied | Unsupported);
        file.commit(&Default::default()).await?;
    }
    /// A lent descriptor is cut to the content.
    a_lent_range_is_within_the_content(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        if let Some(lent) = file.lend(3..100).await? {
            same!(lent.range, 3..5);
        }
        if let Some(lent) = file.lend(50..100).await? {
            check!(lent.range.is_empty(), "{:?} of five bytes was lent", lent.range);
        }
    }
}
