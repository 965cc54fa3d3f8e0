//! Who sees what of an upload under way: every cell of the table of a staging layer, row by row.
//!
//! A cell is a row (what is done) and a column: the session that holds the file open, another session of
//! the same account, another account. Each is tried for a new file and for the overwriting of an old one.

use super::*;
use std::time::Duration;

use crate::fs::{Follow, Replace};

type Fs = Arc<dyn Filesystem>;

/// What is published under `f` before: nothing, or this.
const OLD: [Option<&[u8]>; 2] = [None, Some(b"old content")];

/// A continued upload: never emptied.
fn resume() -> OpenOptions {
    OpenOptions { write: true, create: true, ..OpenOptions::default() }
}

/// The account's other session.
fn again(b: &Bench) -> Result<&Fs, Failure> {
    b.again
        .as_ref()
        .ok_or_else(|| Failure("a staging layer is tested with two sessions of an account".into()))
}

/// Another account.
fn others(b: &Bench) -> Result<&Fs, Failure> {
    b.other.as_ref().ok_or_else(|| Failure("a staging layer is tested with two accounts".into()))
}

/// What somebody is told of a path: its size, or that there is nothing.
async fn size(fs: &Fs, path: &VPath) -> Result<Option<u64>, Failure> {
    match fs.stat(path, Follow::Yes).await {
        Ok(metadata) => Ok(Some(metadata.size)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What somebody reads at a path, or that there is nothing.
async fn read(fs: &Fs, path: &VPath) -> Result<Option<Vec<u8>>, Failure> {
    match fs.read_to_vec(path, 1 << 20).await {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What somebody lists in a directory, sorted: names and sizes.
async fn listed(fs: &Fs, dir: &VPath) -> Result<Vec<(Bytes, u64)>, Failure> {
    let entries = fs.list_all(dir).await?;
    let mut all: Vec<_> = entries.into_iter().map(|e| (e.name, e.metadata.size)).collect();
    all.sort();
    Ok(all)
}

async fn mode(fs: &Fs, path: &VPath) -> Result<Option<u32>, Failure> {
    Ok(fs.stat(path, Follow::Yes).await?.mode)
}

async fn set_mode(fs: &Fs, path: &VPath, mode: u32) -> Outcome {
    Ok(fs.set_attributes(path, &Attributes::mode(mode), Follow::Yes).await?)
}

/// Writes, and waits until it has arrived: a client may answer a write before.
async fn write(file: &Arc<dyn File>, offset: u64, content: &'static [u8]) -> Outcome {
    file.write_at(offset, Bytes::from_static(content)).await?;
    file.metadata().await?;
    Ok(())
}

/// Begins an upload, and waits until it is there for its session to see.
async fn begin(
    b: &Bench,
    path: &VPath,
    read: bool,
    content: &'static [u8],
) -> Result<Arc<dyn File>, Failure> {
    let file = b.open(path, OpenOptions { read, ..OpenOptions::create() }).await?;
    write(&file, 0, content).await?;
    if b.profile.arrives_later {
        same!(size_in_the_end(b, &b.fs, path, len(content)).await?, Some(len(content)));
    }
    Ok(file)
}

fn len(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap_or(u64::MAX)
}

/// A fresh directory with an upload of `content` to `f` under way, over what was there before.
struct Under {
    dir: VPath,
    path: VPath,
    file: Arc<dyn File>,
}

impl Under {
    async fn way(b: &Bench, old: Option<&[u8]>, content: &'static [u8]) -> Result<Self, Failure> {
        let (dir, path) = published(b, old).await?;
        let file = begin(b, &path, true, content).await?;
        Ok(Under { dir, path, file })
    }

    async fn commit(&self) -> Outcome {
        self.file.commit(&Default::default()).await?;
        Ok(())
    }
}

/// A fresh directory, and the path of `f` in it with what is published there.
async fn published(b: &Bench, old: Option<&[u8]>) -> Result<(VPath, VPath), Failure> {
    let dir = b.dir(if old.is_some() { "over" } else { "new" }).await?;
    let path = dir.join("f")?;
    if let Some(old) = old {
        others(b)?.write_all(&path, Bytes::copy_from_slice(old)).await?;
    }
    Ok((dir, path))
}

/// Somebody of the account sees the received size under the name, and nothing else in the directory.
async fn shows_received(b: &Bench, fs: fn(&Bench) -> Result<&Fs, Failure>) -> Outcome {
    for old in OLD {
        let up = Under::way(b, old, b"four").await?;
        let fs = fs(b)?;
        same!(size_in_the_end(b, fs, &up.path, 4).await?, Some(4));
        same!(listed(fs, &up.dir).await?, [(Bytes::from_static(b"f"), 4)]);
        write(&up.file, 4, b"more").await?;
        same!(size_in_the_end(b, fs, &up.path, 8).await?, Some(8));
        up.commit().await?;
    }
    Ok(())
}

/// The size that somebody is told once all has arrived, or the last that was told instead.
async fn size_in_the_end(b: &Bench, fs: &Fs, path: &VPath, due: u64) -> Result<Option<u64>, Failure> {
    let begin = std::time::Instant::now();
    loop {
        let told = size(fs, path).await?;
        let late = begin.elapsed() > Duration::from_secs(5);
        if told == Some(due) || late || !b.profile.arrives_later {
            return Ok(told);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Another account sees what is published: in a listing, by name, and when it reads.
async fn shows_published(fs: &Fs, dir: &VPath, path: &VPath, old: Option<&[u8]>) -> Outcome {
    same!(size(fs, path).await?, old.map(len));
    let names: Vec<_> = old.iter().map(|old| (Bytes::from_static(b"f"), len(old))).collect();
    same!(listed(fs, dir).await?, names);
    same!(read(fs, path).await?.as_deref(), old);
    Ok(())
}

/// Somebody of the account renames the path while the file is open.
async fn renamed_by(b: &Bench, by: &Fs) -> Outcome {
    for old in OLD {
        let up = Under::way(b, old, b"new").await?;
        let to = up.dir.join("g")?;
        by.rename(&up.path, &to, Replace::No).await?;
        same!(size(by, &up.path).await?, None);
        same!(read(by, &to).await?.as_deref(), Some(&b"new"[..]));
        // The published file moves as well, with its old content until the commit.
        same!(read(others(b)?, &to).await?.as_deref(), old);
        up.commit().await?;
        same!(listed(others(b)?, &up.dir).await?, [(Bytes::from_static(b"g"), 3)]);
        same!(read(others(b)?, &to).await?.as_deref(), Some(&b"new"[..]));
    }
    Ok(())
}

/// Somebody of the account removes the path while the file is open.
async fn removed_by(b: &Bench, by: &Fs) -> Outcome {
    for old in OLD {
        let up = Under::way(b, old, b"new!").await?;
        by.remove_file(&up.path).await?;
        same!(size(by, &up.path).await?, None);
        write(&up.file, 4, b"more").await?;
        up.commit().await?;
        same!(listed(others(b)?, &up.dir).await?, []);
        same!(listed(&b.fs, &up.dir).await?, []);
    }
    Ok(())
}

/// Somebody of the account sets permission bits by path, while the file is open and while it is parked.
async fn set_by(b: &Bench, by: &Fs) -> Outcome {
    for parked in [false, true] {
        let dir = b.dir(if parked { "parked" } else { "open" }).await?;
        let path = dir.join("f")?;
        others(b)?.write_all(&path, Bytes::from_static(b"old")).await?;
        let before = mode(others(b)?, &path).await?;
        let file = if parked {
            b.leave(&path, b"new").await?;
            None
        } else {
            Some(begin(b, &path, false, b"new").await?)
        };
        set_mode(by, &path, 0o600).await?;
        same!(mode(by, &path).await?, Some(0o600));
        same!(mode(others(b)?, &path).await?, before);
        let file = match file {
            Some(file) => file,
            None => b.open(&path, resume()).await?,
        };
        file.commit(&Default::default()).await?;
        same!(mode(others(b)?, &path).await?, Some(0o600));
        same!(read(others(b)?, &path).await?.as_deref(), Some(&b"new"[..]));
    }
    Ok(())
}

/// Nobody may remove a directory with an upload below it; it goes when the upload is gone.
async fn parent_not_removed_by(b: &Bench, by: &Fs) -> Outcome {
    for parked in [false, true] {
        let dir = b.dir("d").await?;
        let path = dir.join("f")?;
        let file = if parked {
            b.leave(&path, b"part").await?;
            None
        } else {
            Some(begin(b, &path, false, b"part").await?)
        };
        match by.remove_dir(&dir).await {
            Ok(()) => check!(false, "a directory with an upload in it was removed"),
            Err(e) => check!(b.unseen(e.kind(), ErrorKind::NotEmpty), "`NotEmpty` was due, not {e:?}"),
        }
        b.fs.remove_file(&path).await?;
        if let Some(file) = file {
            file.commit(&Default::default()).await?;
        }
        by.remove_dir(&dir).await?;
    }
    Ok(())
}

/// Uploads move along with a directory above them, whoever moves it.
async fn parent_moved_by(b: &Bench, by: &Fs) -> Outcome {
    let (dir, to) = (b.dir("d").await?, b.at("e")?);
    b.file("d-1", b"beside").await?;
    let file = begin(b, &dir.join("f")?, false, b"open").await?;
    b.leave(&dir.join("g")?, b"parked").await?;
    by.rename(&dir, &to, Replace::No).await?;
    same!(listed(&b.fs, &to).await?, [(Bytes::from_static(b"f"), 4), (Bytes::from_static(b"g"), 6)]);
    same!(listed(others(b)?, &to).await?, []);
    file.commit(&Default::default()).await?;
    same!(read(others(b)?, &to.join("f")?).await?.as_deref(), Some(&b"open"[..]));
    let file = again(b)?.open(&to.join("g")?, &resume()).await?;
    write(&file, 6, b"!").await?;
    file.commit(&Default::default()).await?;
    same!(read(others(b)?, &to.join("g")?).await?.as_deref(), Some(&b"parked!"[..]));
    Ok(())
}

suite! { "staging";
    /// An upload under way tells its handle, and its session by path, how much has arrived.
    open_has_its_size_for_its_handle(b) needs |_, p| p.staged => {
        for old in OLD {
            let up = Under::way(b, old, b"four").await?;
            same!(up.file.metadata().await?.size, 4);
            write(&up.file, 4, b"more").await?;
            same!(up.file.metadata().await?.size, 8);
            up.commit().await?;
            b.fs.remove_dir_all(&up.dir).await?;
        }
        shows_received(b, |b| Ok(&b.fs)).await?;
    }
    /// Another session of the account sees how much of an upload has arrived, by name and in a listing.
    open_has_its_size_for_its_owner(b) needs |_, p| p.staged => {
        shows_received(b, again).await?;
    }
    /// Other accounts see the size of the old file, or no file, while an upload is under way.
    open_has_the_old_size_for_others(b) needs |_, p| p.staged => {
        for old in OLD {
            let up = Under::way(b, old, b"four").await?;
            same!(size(others(b)?, &up.path).await?, old.map(len));
            let names: Vec<_> = old.iter().map(|old| (Bytes::from_static(b"f"), len(old))).collect();
            same!(listed(others(b)?, &up.dir).await?, names);
            up.commit().await?;
            same!(listed(others(b)?, &up.dir).await?, [(Bytes::from_static(b"f"), 4)]);
        }
    }
    /// The handle of an upload reads back what was written through it.
    open_is_read_by_its_handle(b) needs |c, p| p.staged && c.random_write => {
        for old in OLD {
            let up = Under::way(b, old, b"written").await?;
            same!(read_range(&*up.file, 0, 100).await?, b"written");
            up.commit().await?;
        }
    }
    /// Another session of the account reads what has been written to an upload.
    open_is_read_by_its_owner(b) needs |_, p| p.staged => {
        for old in OLD {
            let up = Under::way(b, old, b"written").await?;
            same!(read(again(b)?, &up.path).await?.as_deref(), Some(&b"written"[..]));
            up.commit().await?;
        }
    }
    /// Other accounts read the old content, or nothing, until the upload is committed.
    open_reads_as_the_old_for_others(b) needs |_, p| p.staged => {
        for old in OLD {
            let up = Under::way(b, old, b"written").await?;
            same!(read(others(b)?, &up.path).await?.as_deref(), old);
            up.commit().await?;
            same!(read(others(b)?, &up.path).await?.as_deref(), Some(&b"written"[..]));
        }
    }
    /// A parked upload has its received size for its account, and cannot be read but is kept to be continued.
    parked_is_locked_for_its_owner(b) needs |_, p| p.staged => {
        for old in OLD {
            let (dir, path) = published(b, old).await?;
            b.leave(&path, b"part").await?;
            for fs in [&b.fs, again(b)?] {
                same!(size(fs, &path).await?, Some(4));
                same!(listed(fs, &dir).await?, [(Bytes::from_static(b"f"), 4)]);
                match fs.read_to_vec(&path, 100).await {
                    Ok(content) => check!(false, "a parked upload was read: {content:?}"),
                    Err(e) => {
                        check!(b.unseen(e.kind(), ErrorKind::Locked), "`Locked` was due, not {e:?}");
                        check!(format!("{e:#}").contains("not finished"), "it does not say why: {e:#}");
                        // A wire that has no place for a hint has it in its words.
                        let advises = e.hint().is_some() || format!("{e:#}").contains("continue the upload");
                        check!(b.profile.infers_kinds || advises, "there is no hint: {e:?}");
                    }
                }
            }
            let file = again(b)?.open(&path, &resume()).await?;
            write(&file, 4, b"ial").await?;
            file.commit(&Default::default()).await?;
            same!(read(others(b)?, &path).await?.as_deref(), Some(&b"partial"[..]));
        }
    }
    /// A parked upload is hidden from other accounts, which go on with the old version.
    parked_is_hidden_from_others(b) needs |_, p| p.staged => {
        for old in OLD {
            let (dir, path) = published(b, old).await?;
            b.leave(&path, b"part").await?;
            shows_published(others(b)?, &dir, &path, old).await?;
        }
    }
    /// A session that renames what it is uploading has it published under the new name.
    a_rename_by_its_session_moves_the_commit(b) needs |c, p| p.staged && c.rename => {
        renamed_by(b, &b.fs).await?;
    }
    /// What another session of the account renames is published under the new name.
    a_rename_by_its_owner_moves_the_commit(b) needs |c, p| p.staged && c.rename => {
        renamed_by(b, again(b)?).await?;
    }
    /// Another account renames the published file, not the upload.
    a_rename_by_others_is_of_the_published(b) needs |c, p| p.staged && c.rename => {
        let by = others(b)?;
        for old in OLD {
            let up = Under::way(b, old, b"new").await?;
            let to = up.dir.join("g")?;
            let renamed = by.rename(&up.path, &to, Replace::No).await;
            if old.is_some() {
                renamed?;
            } else {
                fails!(b, renamed, NotFound);
            }
            same!(read(by, &to).await?.as_deref(), old);
            same!(read(&b.fs, &up.path).await?.as_deref(), Some(&b"new"[..]));
            up.commit().await?;
            same!(read(by, &up.path).await?.as_deref(), Some(&b"new"[..]));
            same!(read(by, &to).await?.as_deref(), old);
        }
    }
    /// A session that removes what it is uploading can finish, and nothing is published.
    a_removal_by_its_session_publishes_nothing(b) needs |_, p| p.staged => {
        removed_by(b, &b.fs).await?;
    }
    /// When another session of the account removes an upload, it can be finished and nothing is published.
    a_removal_by_its_owner_publishes_nothing(b) needs |_, p| p.staged => {
        removed_by(b, again(b)?).await?;
    }
    /// Another account removes the published file, not the upload.
    a_removal_by_others_is_of_the_published(b) needs |_, p| p.staged => {
        let by = others(b)?;
        for old in OLD {
            let up = Under::way(b, old, b"new").await?;
            let removed = by.remove_file(&up.path).await;
            if old.is_some() {
                removed?;
            } else {
                fails!(b, removed, NotFound);
            }
            same!(size(by, &up.path).await?, None);
            same!(size(&b.fs, &up.path).await?, Some(3));
            up.commit().await?;
            same!(read(by, &up.path).await?.as_deref(), Some(&b"new"[..]));
        }
    }
    /// What a session sets on the path of its upload is published with it.
    attributes_set_by_its_session_are_published(b) needs |c, p| p.staged && c.set_mode => {
        set_by(b, &b.fs).await?;
    }
    /// What another session of the account sets on the path of an upload is published with it.
    attributes_set_by_its_owner_are_published(b) needs |c, p| p.staged && c.set_mode => {
        set_by(b, again(b)?).await?;
    }
    /// What another account sets is set on the published file, and stays when the upload replaces it.
    attributes_set_by_others_are_of_the_published(b) needs |c, p| p.staged && c.set_mode => {
        let by = others(b)?;
        for old in OLD {
            let up = Under::way(b, old, b"new").await?;
            let mine = mode(&b.fs, &up.path).await?;
            let set = by.set_attributes(&up.path, &Attributes::mode(0o400), Follow::Yes).await;
            if old.is_none() {
                fails!(b, set, NotFound);
                up.commit().await?;
                continue;
            }
            set?;
            same!(mode(by, &up.path).await?, Some(0o400));
            same!(mode(&b.fs, &up.path).await?, mine);
            up.commit().await?;
            same!(mode(by, &up.path).await?, Some(0o400));
            same!(read(by, &up.path).await?.as_deref(), Some(&b"new"[..]));
        }
    }
    /// A session cannot remove a directory that it is uploading into.
    the_parent_is_not_removed_by_its_session(b) needs |c, p| p.staged && c.empty_dirs => {
        parent_not_removed_by(b, &b.fs).await?;
    }
    /// Another session of the account cannot remove a directory with an upload in it.
    the_parent_is_not_removed_by_its_owner(b) needs |c, p| p.staged && c.empty_dirs => {
        parent_not_removed_by(b, again(b)?).await?;
    }
    /// Another account cannot remove a directory with an upload in it, though it looks empty.
    the_parent_is_not_removed_by_others(b) needs |c, p| p.staged && c.empty_dirs => {
        parent_not_removed_by(b, others(b)?).await?;
    }
    /// Uploads move along when their session renames the directory above them.
    the_parent_moved_by_its_session_takes_it_along(b) needs |c, p| p.staged && c.rename => {
        parent_moved_by(b, &b.fs).await?;
    }
    /// Uploads move along when another session of the account renames the directory above them.
    the_parent_moved_by_its_owner_takes_it_along(b) needs |c, p| p.staged && c.rename => {
        parent_moved_by(b, again(b)?).await?;
    }
    /// Uploads move along when another account renames the directory above them.
    the_parent_moved_by_others_takes_it_along(b) needs |c, p| p.staged && c.rename => {
        parent_moved_by(b, others(b)?).await?;
    }
    /// The room for an upload is asked for under its name, before the name is published.
    space_is_told_of_an_upload(b) needs |c, p| p.staged && c.space => {
        for old in OLD {
            let up = Under::way(b, old, b"part").await?;
            check!(b.fs.space(&up.path).await?.total > 0, "there is no room at all");
            fails!(b, b.fs.space(&up.dir.join("none")?).await, NotFound);
            up.commit().await?;
        }
    }
}
