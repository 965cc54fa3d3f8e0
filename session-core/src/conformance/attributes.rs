//! What setting attributes promises.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::fs::{CommitOptions, Follow};

/// Whether a time survived as precisely as it can.
fn near(b: &Bench, seen: Option<SystemTime>, set: SystemTime) -> Outcome {
    let Some(seen) = seen else { return Err(Failure("no time is told".into())) };
    let apart = seen.duration_since(set).unwrap_or_else(|e| e.duration());
    let step = b.profile.time_granularity;
    check!(apart < step || apart.is_zero(), "{set:?} was set, {seen:?} is told");
    Ok(())
}

fn at(seconds: u64, nanos: u32) -> SystemTime {
    UNIX_EPOCH + Duration::new(seconds, nanos)
}

fn modified(time: SystemTime) -> Attributes {
    Attributes::times(None, Some(time))
}

suite! { "attributes";
    /// A modification time that was set is told, as precisely as the store can.
    a_time_is_kept(b) needs |c, _| c.set_times => {
        let path = b.file("f", b"x").await?;
        for time in [at(1_000_000_000, 0), at(1_700_000_001, 123_456_789), at(4_000_000_000, 999_999_999)] {
            b.fs.set_attributes(&path, &modified(time), Follow::Yes).await?;
            near(b, b.fs.stat(&path, Follow::Yes).await?.modified, time)?;
        }
        same!(b.content(&path).await?, b"x");
    }
    /// The beginning of time can be set.
    the_epoch_is_kept(b) needs |c, _| c.set_times => {
        let path = b.file("f", b"x").await?;
        b.fs.set_attributes(&path, &modified(UNIX_EPOCH), Follow::Yes).await?;
        near(b, b.fs.stat(&path, Follow::Yes).await?.modified, UNIX_EPOCH)?;
    }
    /// A directory has a time, too.
    a_directory_keeps_a_time(b) needs |c, _| c.set_times && c.empty_dirs => {
        let dir = b.dir("d").await?;
        let time = at(1_234_567_890, 0);
        b.fs.set_attributes(&dir, &modified(time), Follow::Yes).await?;
        near(b, b.fs.stat(&dir, Follow::Yes).await?.modified, time)?;
    }
    /// Setting one time leaves the other.
    one_time_leaves_the_other(b) needs |c, _| c.set_times => {
        let path = b.file("f", b"x").await?;
        let (one, two) = (at(1_000_000_000, 0), at(1_100_000_000, 0));
        b.fs.set_attributes(&path, &Attributes::times(Some(one), Some(one)), Follow::Yes).await?;
        b.fs.set_attributes(&path, &modified(two), Follow::Yes).await?;
        let metadata = b.fs.stat(&path, Follow::Yes).await?;
        near(b, metadata.modified, two)?;
        if metadata.accessed.is_some() {
            near(b, metadata.accessed, one)?;
        }
    }
    /// A time given with the commit is the file's time.
    a_time_at_commit_is_kept(b) needs |c, _| c.set_times => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        file.write_at(0, Bytes::from_static(b"x")).await?;
        let time = at(1_234_567_890, 0);
        file.commit(&CommitOptions { attributes: modified(time), ..Default::default() }).await?;
        near(b, b.fs.stat(&path, Follow::Yes).await?.modified, time)?;
    }
    /// A time set on an open file stays, if nothing is written afterwards.
    a_time_on_a_handle_is_kept(b) needs |c, _| c.set_times => {
        let path = b.at("f")?;
        let file = b.open(&path, OpenOptions::create()).await?;
        file.write_at(0, Bytes::from_static(b"x")).await?;
        let time = at(1_234_567_890, 0);
        file.set_attributes(&modified(time)).await?;
        file.commit(&Default::default()).await?;
        near(b, b.fs.stat(&path, Follow::Yes).await?.modified, time)?;
    }
    /// Permission bits that were set are told.
    a_mode_is_kept(b) needs |c, _| c.set_mode => {
        let path = b.file("f", b"x").await?;
        for mode in [0o600, 0o644, 0o755, 0o400, 0o777] {
            b.fs.set_attributes(&path, &Attributes::mode(mode), Follow::Yes).await?;
            same!(b.fs.stat(&path, Follow::Yes).await?.mode, Some(mode));
        }
    }
    /// A file is made with the permission bits asked for.
    a_mode_at_creation_is_kept(b) needs |c, _| c.set_mode => {
        let path = b.at("f")?;
        let options = OpenOptions { attributes: Attributes::mode(0o640), ..OpenOptions::create() };
        b.open(&path, options).await?.commit(&Default::default()).await?;
        same!(b.fs.stat(&path, Follow::Yes).await?.mode, Some(0o640));
        let dir = b.at("d")?;
        b.fs.create_dir(&dir, &Attributes::mode(0o750)).await?;
        same!(b.fs.stat(&dir, Follow::Yes).await?.mode, Some(0o750));
    }
    /// Bits that are no permission bits are refused and change nothing.
    an_impossible_mode_is_refused(b) needs |c, _| c.set_mode => {
        let path = b.file("f", b"x").await?;
        let before = b.fs.stat(&path, Follow::Yes).await?.mode;
        fails!(b, b.fs.set_attributes(&path, &Attributes::mode(0o100_644), Follow::Yes).await, InvalidArgument);
        same!(b.fs.stat(&path, Follow::Yes).await?.mode, before);
    }
    /// A file is cut to a size.
    a_file_is_cut(b) needs |c, _| c.truncate => {
        let path = b.file("f", b"1234567890").await?;
        b.fs.set_attributes(&path, &Attributes::size(4), Follow::Yes).await?;
        same!(b.content(&path).await?, b"1234");
        b.fs.set_attributes(&path, &Attributes::size(0), Follow::Yes).await?;
        same!(b.content(&path).await?, b"");
    }
    /// A file is extended with zeros, also where there was something before it was cut.
    a_file_is_extended_with_zeros(b) needs |c, _| c.truncate => {
        let path = b.file("f", b"1234567890").await?;
        b.fs.set_attributes(&path, &Attributes::size(3), Follow::Yes).await?;
        b.fs.set_attributes(&path, &Attributes::size(6), Follow::Yes).await?;
        same!(b.content(&path).await?, b"123\0\0\0");
    }
    /// A file is cut through an open handle.
    a_handle_cuts(b) needs |c, _| c.truncate && c.random_write => {
        let path = b.file("f", b"1234567890").await?;
        let file = b.open(&path, OpenOptions::update()).await?;
        file.set_attributes(&Attributes::size(4)).await?;
        same!(file.metadata().await?.size, 4);
        file.commit(&Default::default()).await?;
        same!(b.content(&path).await?, b"1234");
    }
    /// A directory has no size to set.
    a_directory_is_not_cut(b) needs |c, _| c.truncate && c.empty_dirs => {
        let dir = b.dir("d").await?;
        fails!(b, b.fs.set_attributes(&dir, &Attributes::size(0), Follow::Yes).await, IsADirectory | InvalidArgument);
    }
    /// What is missing has no attributes.
    of_a_missing_entry_is_not_found(b) needs |c, _| c.set_times => {
        fails!(b, b.fs.set_attributes(&b.at("missing")?, &modified(at(1, 0)), Follow::Yes).await, NotFound);
        check!(!b.fs.exists(&b.at("missing")?).await?, "it was made");
    }
    /// Setting nothing changes nothing.
    nothing_changes_nothing(b) needs |c, _| c.set_times => {
        let path = b.file("f", b"x").await?;
        let before = b.fs.stat(&path, Follow::Yes).await?;
        b.fs.set_attributes(&path, &Attributes::none(), Follow::Yes).await?;
        let after = b.fs.stat(&path, Follow::Yes).await?;
        same!((after.size, after.mode, after.modified), (before.size, before.mode, before.modified));
    }
    /// Attributes are not set through a link by a store that follows none.
    through_a_link_answers_with_it(b) needs |c, p| c.set_mode && Bench::sees_links(c, p) => {
        let path = b.file("f", b"x").await?;
        b.fs.set_attributes(&path, &Attributes::mode(0o600), Follow::Yes).await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        meets_link!(b.fs.set_attributes(&link, &Attributes::mode(0o777), Follow::Yes).await, &link, b"f");
        same!(b.fs.stat(&path, Follow::Yes).await?.mode, Some(0o600));
    }
    /// A link has its own time.
    a_link_has_its_own_time(b) needs |c, p| c.set_times && c.symlinks && p.link_times => {
        let path = b.file("f", b"x").await?;
        let before = b.fs.stat(&path, Follow::Yes).await?.modified;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        let time = at(1_234_567_890, 0);
        b.fs.set_attributes(&link, &modified(time), Follow::No).await?;
        near(b, b.fs.stat(&link, Follow::No).await?.modified, time)?;
        same!(b.fs.stat(&path, Follow::Yes).await?.modified, before);
    }
    /// Properties are kept, changed and removed by name, any bytes.
    properties_are_kept(b) needs |c, _| c.properties => {
        let path = b.file("f", b"x").await?;
        let set = |name: &str, value: Option<&'static [u8]>| Attributes {
            properties: [(name.to_owned(), value.map(Bytes::from_static))].into(),
            ..Attributes::none()
        };
        let get = || async {
            let found = b.fs.stat(&path, Follow::Yes).await?.properties.unwrap_or_default();
            Ok::<_, Failure>(found.iter().map(|(k, v)| (k.clone(), v.to_vec())).collect::<Vec<_>>())
        };
        b.fs.set_attributes(&path, &set("colour", Some(b"blue\xff\0")), Follow::Yes).await?;
        b.fs.set_attributes(&path, &set("a", Some(b"")), Follow::Yes).await?;
        same!(get().await?, [("a".to_owned(), vec![]), ("colour".to_owned(), b"blue\xff\0".to_vec())]);
        b.fs.set_attributes(&path, &set("colour", Some(b"red")), Follow::Yes).await?;
        b.fs.set_attributes(&path, &set("a", None), Follow::Yes).await?;
        same!(get().await?, [("colour".to_owned(), b"red".to_vec())]);
        b.fs.set_attributes(&path, &set("missing", None), Follow::Yes).await?;
    }
    /// Properties move with their file.
    properties_survive_a_rename(b) needs |c, _| c.properties && c.rename => {
        let path = b.file("f", b"x").await?;
        let properties = [("colour".to_owned(), Some(Bytes::from_static(b"blue")))].into();
        b.fs.set_attributes(&path, &Attributes { properties, ..Attributes::none() }, Follow::Yes).await?;
        let to = b.at("g")?;
        b.fs.rename(&path, &to, crate::fs::Replace::No).await?;
        let found = b.fs.stat(&to, Follow::Yes).await?.properties.unwrap_or_default();
        same!(found.get("colour"), Some(&Bytes::from_static(b"blue")));
    }
    /// Free room is at most all room, and names have a bound.
    space_adds_up(b) needs |c, _| c.space => {
        let space = b.fs.space(&b.root).await?;
        check!(space.free <= space.total && space.available <= space.free, "{space:?}");
        check!(space.block_size > 0 && space.max_name > 0, "{space:?}");
        fails!(b, b.fs.space(&b.at("missing")?).await, NotFound);
    }
}
