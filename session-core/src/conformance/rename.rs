//! What `rename` and `copy` promise.

use super::*;
use crate::fs::{Follow, Replace};

suite! { "rename";
    /// A renamed file has its content under the new name and none under the old one.
    moves_a_file(b) needs |c, _| c.rename => {
        let from = b.file("f", b"content").await?;
        let to = b.at("g")?;
        b.fs.rename(&from, &to, Replace::No).await?;
        same!(b.names(&b.root).await?, ["g"]);
        same!(b.content(&to).await?, b"content");
    }
    /// A file moves to another directory.
    moves_between_directories(b) needs |c, _| c.rename && c.empty_dirs => {
        b.dir("a").await?;
        b.dir("b").await?;
        let from = b.file("a/f", b"content").await?;
        b.fs.rename(&from, &b.at("b/g")?, Replace::No).await?;
        same!(b.names(&b.at("a")?).await?.len(), 0);
        same!(b.content(&b.at("b/g")?).await?, b"content");
    }
    /// A directory moves with all that is in it.
    moves_a_directory_with_its_content(b) needs |c, p| c.rename && c.empty_dirs && p.whole_renames => {
        b.dir("a").await?;
        b.dir("a/b").await?;
        b.file("a/b/f", b"content").await?;
        b.fs.rename(&b.at("a")?, &b.at("z")?, Replace::No).await?;
        same!(b.names(&b.root).await?, ["z"]);
        same!(b.content(&b.at("z/b/f")?).await?, b"content");
        fails!(b, b.fs.stat(&b.at("a/b/f")?, Follow::Yes).await, NotFound);
    }
    /// Where a directory is not renamed in one step, it is not renamed at all, and whoever asks is told.
    a_directory_stays_where_it_cannot_move_at_once(b) needs |c, p| c.rename && c.empty_dirs && !p.whole_renames => {
        b.dir("a").await?;
        let path = b.file("a/f", b"content").await?;
        fails!(b, b.fs.rename(&b.at("a")?, &b.at("z")?, Replace::No).await, CrossDevice);
        same!(b.names(&b.root).await?, ["a"]);
        same!(b.content(&path).await?, b"content");
    }
    /// Without leave to replace, both files stay as they were.
    without_replace_keeps_both(b) needs |c, _| c.rename => {
        let from = b.file("f", b"one").await?;
        let to = b.file("g", b"two").await?;
        fails!(b, b.fs.rename(&from, &to, Replace::No).await, AlreadyExists);
        same!(b.content(&from).await?, b"one");
        same!(b.content(&to).await?, b"two");
    }
    /// With leave to replace, the target has the new content.
    replaces_an_existing_file(b) needs |c, _| c.rename_replaces => {
        let from = b.file("f", b"one").await?;
        let to = b.file("g", b"two and more").await?;
        b.fs.rename(&from, &to, Replace::Yes).await?;
        same!(b.names(&b.root).await?, ["g"]);
        same!(b.content(&to).await?, b"one");
    }
    /// While one file replaces another again and again, a reader sees one or the other, never neither.
    replacing_is_one_step(b) needs |c, _| c.rename_replaces => {
        let to = b.file("g", b"old").await?;
        let writer = async {
            for i in 0..50 {
                let from = b.file(format!("f{i}"), b"new").await?;
                b.fs.rename(&from, &to, Replace::Yes).await?;
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        };
        let reader = async {
            for _ in 0..100 {
                let content = b.fs.read_to_vec(&to, 100).await?;
                check!(content == b"old" || content == b"new", "read {content:?}");
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        };
        let (one, two) = futures_util::future::join(writer, reader).await;
        one?;
        two?;
    }
    /// What is missing cannot be renamed.
    of_a_missing_entry_is_not_found(b) needs |c, _| c.rename => {
        fails!(b, b.fs.rename(&b.at("missing")?, &b.at("g")?, Replace::No).await, NotFound);
        same!(b.names(&b.root).await?.len(), 0);
    }
    /// A missing entry replaces nothing.
    of_a_missing_entry_keeps_the_target(b) needs |c, _| c.rename_replaces => {
        let to = b.file("g", b"kept").await?;
        fails!(b, b.fs.rename(&b.at("missing")?, &to, Replace::Yes).await, NotFound);
        same!(b.content(&to).await?, b"kept");
    }
    /// The target's directory must be there.
    into_a_missing_directory_is_not_found(b) needs |c, _| c.rename && c.empty_dirs => {
        let from = b.file("f", b"x").await?;
        fails!(b, b.fs.rename(&from, &b.at("missing/g")?, Replace::No).await, NotFound);
        same!(b.content(&from).await?, b"x");
    }
    /// Nothing moves below a file.
    below_a_file_is_refused(b) needs |c, _| c.rename => {
        let from = b.file("f", b"x").await?;
        b.file("g", b"y").await?;
        fails!(b, b.fs.rename(&from, &b.at("g/h")?, Replace::No).await, NotADirectory | NotFound);
        same!(b.names(&b.root).await?, ["f", "g"]);
    }
    /// A directory cannot move into itself.
    into_itself_is_refused(b) needs |c, _| c.rename && c.empty_dirs => {
        b.dir("a").await?;
        b.dir("a/b").await?;
        fails!(b, b.fs.rename(&b.at("a")?, &b.at("a/x")?, Replace::No).await, InvalidArgument);
        fails!(b, b.fs.rename(&b.at("a")?, &b.at("a/b/x")?, Replace::Yes).await, InvalidArgument);
        same!(b.names(&b.root).await?, ["a"]);
        same!(b.names(&b.at("a")?).await?, ["b"]);
    }
    /// What lies in a directory cannot replace that directory.
    over_its_own_parent_is_refused(b) needs |c, _| c.rename_replaces && c.empty_dirs => {
        b.dir("a").await?;
        b.dir("a/b").await?;
        fails!(b, b.fs.rename(&b.at("a/b")?, &b.at("a")?, Replace::Yes).await, NotEmpty | AlreadyExists);
        same!(b.names(&b.at("a")?).await?, ["b"]);
    }
    /// Renaming a file to its own name, with leave to replace, loses nothing.
    to_itself_loses_nothing(b) needs |c, _| c.rename_replaces => {
        let path = b.file("f", b"content").await?;
        b.fs.rename(&path, &path, Replace::Yes).await?;
        same!(b.content(&path).await?, b"content");
    }
    /// Renaming a file to its own name without leave to replace is refused or nothing; it loses nothing.
    to_itself_without_replace_loses_nothing(b) needs |c, _| c.rename => {
        let path = b.file("f", b"content").await?;
        if let Err(e) = b.fs.rename(&path, &path, Replace::No).await {
            check!(b.is_due(e.kind(), &[ErrorKind::AlreadyExists]), "failed with {:?}", e.kind());
        }
        same!(b.content(&path).await?, b"content");
    }
    /// A file does not replace a directory.
    a_file_over_a_directory_is_refused(b) needs |c, _| c.rename_replaces && c.empty_dirs => {
        let from = b.file("f", b"x").await?;
        let dir = b.dir("d").await?;
        fails!(b, b.fs.rename(&from, &dir, Replace::Yes).await, IsADirectory | AlreadyExists);
        fails!(b, b.fs.rename(&from, &dir, Replace::No).await, AlreadyExists | IsADirectory);
        same!(b.names(&b.root).await?, ["d", "f"]);
        check!(b.fs.stat(&dir, Follow::Yes).await?.is_dir(), "the directory is gone");
    }
    /// A directory does not replace a file.
    a_directory_over_a_file_is_refused(b) needs |c, _| c.rename_replaces && c.empty_dirs => {
        let dir = b.dir("d").await?;
        let file = b.file("f", b"x").await?;
        fails!(b, b.fs.rename(&dir, &file, Replace::Yes).await, NotADirectory | AlreadyExists);
        same!(b.content(&file).await?, b"x");
    }
    /// A directory replaces an empty directory.
    a_directory_over_an_empty_one_replaces_it(b) needs |c, p| c.rename_replaces && c.empty_dirs && p.precise_errors && p.whole_renames => {
        b.dir("a").await?;
        b.file("a/f", b"x").await?;
        b.dir("b").await?;
        b.fs.rename(&b.at("a")?, &b.at("b")?, Replace::Yes).await?;
        same!(b.names(&b.root).await?, ["b"]);
        same!(b.content(&b.at("b/f")?).await?, b"x");
    }
    /// A directory never replaces one that holds something.
    a_directory_over_a_full_one_is_refused(b) needs |c, _| c.rename_replaces && c.empty_dirs => {
        b.dir("a").await?;
        b.dir("b").await?;
        let kept = b.file("b/f", b"x").await?;
        fails!(b, b.fs.rename(&b.at("a")?, &b.at("b")?, Replace::Yes).await, NotEmpty | AlreadyExists);
        same!(b.content(&kept).await?, b"x");
    }
    /// The root is neither moved nor replaced.
    the_root_stays(b) needs |c, _| c.rename => {
        let path = b.file("f", b"x").await?;
        fails!(b, b.fs.rename(&VPath::root(), &b.at("g")?, Replace::No).await, InvalidArgument | PermissionDenied);
        fails!(b, b.fs.rename(&path, &VPath::root(), Replace::Yes).await, NotEmpty | IsADirectory | AlreadyExists | PermissionDenied);
        same!(b.content(&path).await?, b"x");
    }
    /// A file that is open stays readable while it is renamed.
    an_open_file_stays_readable(b) needs |c, _| c.rename => {
        let from = b.file("f", b"content").await?;
        let file = b.open(&from, OpenOptions::read()).await?;
        b.fs.rename(&from, &b.at("g")?, Replace::No).await?;
        if let Ok(buf) = file.read_into(0, 100, BytesMut::new()).await {
            check!(b"content".starts_with(&buf), "read {buf:?}");
        }
        same!(b.content(&b.at("g")?).await?, b"content");
    }
    /// A copy has the content, and the source keeps it.
    copy_keeps_the_source(b) needs |c, _| c.server_copy => {
        let data = noise(7, 300_000);
        let from = b.file("f", &data).await?;
        let to = b.at("g")?;
        b.fs.copy(&from, &to, Replace::No).await?;
        check!(b.content(&to).await? == data, "the copy differs");
        check!(b.content(&from).await? == data, "the source differs");
        b.file("f", b"changed").await?;
        check!(b.content(&to).await? == data, "the copy changed with its source");
    }
    /// A copy replaces only with leave.
    copy_replaces_only_with_leave(b) needs |c, _| c.server_copy => {
        let from = b.file("f", b"new").await?;
        let to = b.file("g", b"old").await?;
        fails!(b, b.fs.copy(&from, &to, Replace::No).await, AlreadyExists);
        same!(b.content(&to).await?, b"old");
        b.fs.copy(&from, &to, Replace::Yes).await?;
        same!(b.content(&to).await?, b"new");
    }
    /// A directory is not copied, a missing file neither, and a directory is not replaced.
    copy_is_refused_where_it_must_be(b) needs |c, _| c.server_copy && c.empty_dirs => {
        let dir = b.dir("d").await?;
        let path = b.file("f", b"x").await?;
        fails!(b, b.fs.copy(&dir, &b.at("g")?, Replace::No).await, IsADirectory);
        fails!(b, b.fs.copy(&b.at("missing")?, &b.at("g")?, Replace::No).await, NotFound);
        fails!(b, b.fs.copy(&path, &dir, Replace::Yes).await, IsADirectory | AlreadyExists);
        fails!(b, b.fs.copy(&path, &b.at("missing/g")?, Replace::No).await, NotFound);
        same!(b.names(&b.root).await?, ["d", "f"]);
    }
    /// Copying a file onto itself loses nothing.
    copy_to_itself_loses_nothing(b) needs |c, _| c.server_copy => {
        let path = b.file("f", b"content").await?;
        let _ = b.fs.copy(&path, &path, Replace::Yes).await;
        same!(b.content(&path).await?, b"content");
    }
}
