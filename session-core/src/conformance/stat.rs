//! What `stat` promises.

use std::time::{Duration, SystemTime};

use super::*;
use crate::fs::Follow;
use crate::metadata::FileType;

suite! { "stat";
    /// A file is a file and its size is the number of its bytes.
    of_a_file_tells_kind_and_size(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let metadata = b.fs.stat(&path, Follow::Yes).await?;
        same!(metadata.file_type, FileType::File);
        same!(metadata.size, 5);
    }
    /// An empty file exists and has no bytes.
    of_an_empty_file_is_zero(b) needs |_, _| true => {
        let path = b.file("f", b"").await?;
        let metadata = b.fs.stat(&path, Follow::Yes).await?;
        same!((metadata.file_type, metadata.size), (FileType::File, 0));
    }
    /// A directory is a directory.
    of_a_directory_tells_so(b) needs |c, _| c.empty_dirs => {
        let path = b.dir("d").await?;
        same!(b.fs.stat(&path, Follow::Yes).await?.file_type, FileType::Directory);
        same!(b.fs.stat(&path, Follow::No).await?.file_type, FileType::Directory);
    }
    /// The root is always there and is a directory.
    of_the_root_works(b) needs |_, _| true => {
        same!(b.fs.stat(&VPath::root(), Follow::Yes).await?.file_type, FileType::Directory);
    }
    /// What is not there is not found.
    of_a_missing_entry_is_not_found(b) needs |_, _| true => {
        fails!(b, b.fs.stat(&b.at("missing")?, Follow::Yes).await, NotFound);
        fails!(b, b.fs.stat(&b.at("missing")?, Follow::No).await, NotFound);
    }
    /// What is below a missing directory is not found.
    below_a_missing_directory_is_not_found(b) needs |_, _| true => {
        fails!(b, b.fs.stat(&b.at("missing/f")?, Follow::Yes).await, NotFound);
    }
    /// Nothing is below a file.
    below_a_file_is_an_error(b) needs |_, _| true => {
        b.file("f", b"x").await?;
        fails!(b, b.fs.stat(&b.at("f/x")?, Follow::Yes).await, NotADirectory | NotFound);
    }
    /// The time of the last change of a new file is about now.
    a_new_file_is_of_now(b) needs |_, _| true => {
        let before = SystemTime::now();
        let path = b.file("f", b"x").await?;
        if let Some(modified) = b.fs.stat(&path, Follow::Yes).await?.modified {
            // Granularity, and clocks of remotes that are a little off.
            let slack = b.profile.time_granularity + Duration::from_secs(60);
            check!(modified + slack >= before, "modified {modified:?}, written after {before:?}");
            check!(modified <= SystemTime::now() + slack, "modified in the future: {modified:?}");
        }
    }
    /// A file's attributes do not depend on whether it is asked for by path, by listing or by handle.
    agrees_with_listing_and_handle(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let by_path = b.fs.stat(&path, Follow::Yes).await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        let by_handle = file.metadata().await?;
        same!((by_handle.file_type, by_handle.size), (by_path.file_type, by_path.size));
        let listed = b.fs.list_all(&b.root).await?;
        same!(listed.len(), 1);
        for entry in listed {
            same!((entry.metadata.file_type, entry.metadata.size), (by_path.file_type, by_path.size));
            if let (Some(one), Some(two)) = (entry.metadata.modified, by_path.modified) {
                let apart = one.duration_since(two).unwrap_or_else(|e| e.duration());
                // Some listings tell minutes only.
                check!(apart <= Duration::from_secs(60), "listing and stat differ by {apart:?}");
            }
        }
    }
    /// The validator of unchanged content stays the same.
    an_etag_is_stable(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let first = b.fs.stat(&path, Follow::Yes).await?.etag;
        b.content(&path).await?;
        same!(b.fs.stat(&path, Follow::Yes).await?.etag, first);
    }
    /// The validator changes with the content.
    an_etag_changes_with_the_content(b) needs |_, _| true => {
        let path = b.file("f", b"12345").await?;
        let first = b.fs.stat(&path, Follow::Yes).await?.etag;
        if first.is_some() {
            // Kernels stamp times by a clock that ticks every few milliseconds.
            tokio::time::sleep(b.profile.time_granularity.max(Duration::from_millis(30))).await;
            b.file("f", b"54321").await?;
            check!(b.fs.stat(&path, Follow::Yes).await?.etag != first, "the etag did not change");
        }
    }
}
