//! The staging primitives: invisible until published, published in one step.

use super::*;
use crate::fs::{Follow, Replace, Stage, StageId};

/// A staged file with this content.
async fn staged(b: &Bench, near: &VPath, content: &'static [u8]) -> Result<StageId, Failure> {
    let stage = Stage::New { near: near.clone(), note: Bytes::from_static(b"note \xff") };
    let (id, file) = b.fs.stage(&stage).await?;
    file.write_at(0, Bytes::from_static(content)).await?;
    file.commit(&Default::default()).await?;
    Ok(id)
}

suite! { "stage";
    /// A staged file is seen by nobody.
    is_invisible(b) needs |_, p| p.stages => {
        let to = b.at("f")?;
        let id = staged(b, &to, b"new").await?;
        check!(!b.fs.exists(&to).await?, "the target is there");
        same!(b.names(&b.root).await?.len(), 0);
        b.fs.unstage(&id).await?;
    }
    /// A published file has its name and its content, and is staged no more.
    publish_gives_the_name(b) needs |_, p| p.stages => {
        let to = b.at("f")?;
        let id = staged(b, &to, b"new").await?;
        same!(b.fs.publish(&id, &to, Replace::No, false).await?.size, 3);
        same!(b.content(&to).await?, b"new");
        check!(!b.fs.staged().await?.iter().any(|s| s.id == id), "it is still staged");
        fails!(b, b.fs.publish(&id, &b.at("g")?, Replace::No, false).await, NotFound);
    }
    /// Without leave to replace, the old file stays and the staged one can be published elsewhere.
    publish_replaces_only_with_leave(b) needs |_, p| p.stages => {
        let to = b.file("f", b"old").await?;
        let id = staged(b, &to, b"new").await?;
        fails!(b, b.fs.publish(&id, &to, Replace::No, false).await, AlreadyExists);
        same!(b.content(&to).await?, b"old");
        b.fs.publish(&id, &to, Replace::Yes, false).await?;
        same!(b.content(&to).await?, b"new");
    }
    /// A directory is not replaced by a published file.
    publish_over_a_directory_is_refused(b) needs |_, p| p.stages => {
        let dir = b.dir("d").await?;
        let id = staged(b, &b.at("f")?, b"new").await?;
        fails!(b, b.fs.publish(&id, &dir, Replace::Yes, false).await, IsADirectory);
        check!(b.fs.stat(&dir, Follow::Yes).await?.is_dir(), "the directory is gone");
        b.fs.unstage(&id).await?;
    }
    /// A published file keeps the permission bits of what it replaces, if asked to.
    publish_keeps_the_mode(b) needs |c, p| p.stages && c.set_mode => {
        let to = b.file("f", b"old").await?;
        b.fs.set_attributes(&to, &Attributes::mode(0o604), Follow::Yes).await?;
        let id = staged(b, &to, b"new").await?;
        b.fs.publish(&id, &to, Replace::Yes, true).await?;
        same!(b.fs.stat(&to, Follow::Yes).await?.mode, Some(0o604));
        same!(b.content(&to).await?, b"new");
    }
    /// Who has the old file open goes on reading the old file.
    publish_does_not_disturb_readers(b) needs |_, p| p.stages => {
        let to = b.file("f", b"old content").await?;
        let reader = b.open(&to, OpenOptions::read()).await?;
        let id = staged(b, &to, b"new").await?;
        b.fs.publish(&id, &to, Replace::Yes, false).await?;
        same!(read_range(&*reader, 0, 100).await?, b"old content");
    }
    /// The store tells of its staged files, with note and size.
    staged_files_are_told(b) needs |_, p| p.stages => {
        let id = staged(b, &b.at("f")?, b"12345").await?;
        let found: Vec<_> = b.fs.staged().await?.into_iter().filter(|s| s.id == id).collect();
        same!(found.len(), 1);
        for entry in found {
            same!((entry.size, &entry.note[..]), (5, &b"note \xff"[..]));
        }
        b.fs.unstage(&id).await?;
    }
    /// A parked staged file can be opened again and continued.
    a_parked_one_is_continued(b) needs |_, p| p.stages => {
        let to = b.at("f")?;
        let (id, file) = b.fs.stage(&Stage::New { near: to.clone(), note: Bytes::new() }).await?;
        file.write_at(0, Bytes::from_static(b"one")).await?;
        file.park().await?;
        drop(file);
        let (again, file) = b.fs.stage(&Stage::Reopen(id.clone())).await?;
        same!(again, id);
        same!(read_range(&*file, 0, 10).await?, b"one");
        file.write_at(3, Bytes::from_static(b"two")).await?;
        file.commit(&Default::default()).await?;
        b.fs.publish(&id, &to, Replace::No, false).await?;
        same!(b.content(&to).await?, b"onetwo");
    }
    /// An aborted staged file is thrown away.
    an_aborted_one_is_gone(b) needs |_, p| p.stages => {
        let (id, file) = b.fs.stage(&Stage::New { near: b.at("f")?, note: Bytes::new() }).await?;
        file.abort().await?;
        fails!(b, b.fs.stage(&Stage::Reopen(id)).await, NotFound);
    }
    /// What was thrown away cannot be published, and throwing it away again is fine.
    unstage_throws_away(b) needs |_, p| p.stages => {
        let to = b.at("f")?;
        let id = staged(b, &to, b"new").await?;
        b.fs.unstage(&id).await?;
        b.fs.unstage(&id).await?;
        fails!(b, b.fs.publish(&id, &to, Replace::No, false).await, NotFound);
        check!(!b.fs.exists(&to).await?, "it was published");
    }
    /// An id that the store never gave out leads nowhere.
    a_made_up_id_is_not_found(b) needs |_, p| p.stages => {
        for id in ["", "x", "../../etc/passwd", "memory-x", "0123456789abcdef0123456789abcdef"] {
            let id = StageId(id.into());
            fails!(b, b.fs.stage(&Stage::Reopen(id.clone())).await, NotFound);
            fails!(b, b.fs.publish(&id, &b.at("f")?, Replace::No, false).await, NotFound);
            b.fs.unstage(&id).await?;
        }
        same!(b.names(&b.root).await?.len(), 0);
    }
    /// Staging needs the directory of the target.
    the_parent_must_exist(b) needs |c, p| p.stages && c.empty_dirs => {
        let stage = Stage::New { near: b.at("missing/f")?, note: Bytes::new() };
        fails!(b, b.fs.stage(&stage).await, NotFound);
    }
}
