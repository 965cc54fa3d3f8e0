//! What making and removing promises.

use super::*;
use crate::fs::Follow;

suite! { "dirs";
    /// A directory that was made is there and takes files.
    a_new_one_takes_files(b) needs |_, _| true => {
        let dir = b.dir("d").await?;
        let path = b.file("d/f", b"x").await?;
        same!(b.names(&dir).await?, ["f"]);
        same!(b.content(&path).await?, b"x");
    }
    /// A directory is not made twice, and the first one keeps what it holds.
    twice_is_refused(b) needs |c, _| c.empty_dirs => {
        let dir = b.dir("d").await?;
        b.file("d/f", b"x").await?;
        fails!(b, b.fs.create_dir(&dir, &Attributes::none()).await, AlreadyExists);
        same!(b.names(&dir).await?, ["f"]);
    }
    /// A directory is not made where a file is.
    over_a_file_is_refused(b) needs |_, _| true => {
        let path = b.file("f", b"x").await?;
        fails!(b, b.fs.create_dir(&path, &Attributes::none()).await, AlreadyExists | NotADirectory);
        same!(b.content(&path).await?, b"x");
    }
    /// Only one level is made at a time.
    the_parent_must_exist(b) needs |c, _| c.empty_dirs => {
        fails!(b, b.fs.create_dir(&b.at("a/b")?, &Attributes::none()).await, NotFound);
        check!(!b.fs.exists(&b.at("a")?).await?, "the parent was made");
    }
    /// A directory is not made below a file.
    below_a_file_is_refused(b) needs |_, _| true => {
        b.file("f", b"x").await?;
        fails!(b, b.fs.create_dir(&b.at("f/d")?, &Attributes::none()).await, NotADirectory | NotFound);
    }
    /// The root is there already.
    the_root_is_there(b) needs |_, _| true => {
        fails!(b, b.fs.create_dir(&VPath::root(), &Attributes::none()).await, AlreadyExists | PermissionDenied);
    }
    /// An empty directory is removed.
    an_empty_one_is_removed(b) needs |c, _| c.empty_dirs && c.remove => {
        let dir = b.dir("d").await?;
        b.fs.remove_dir(&dir).await?;
        fails!(b, b.fs.stat(&dir, Follow::Yes).await, NotFound);
        same!(b.names(&b.root).await?.len(), 0);
    }
    /// A directory that holds something is not removed.
    a_full_one_stays(b) needs |c, _| c.remove => {
        let dir = b.dir("d").await?;
        let path = b.file("d/f", b"x").await?;
        fails!(b, b.fs.remove_dir(&dir).await, NotEmpty);
        same!(b.content(&path).await?, b"x");
    }
    /// What is missing cannot be removed.
    a_missing_one_is_not_found(b) needs |c, _| c.empty_dirs && c.remove => {
        fails!(b, b.fs.remove_dir(&b.at("missing")?).await, NotFound);
    }
    /// A file is no directory.
    a_file_is_not_removed_as_a_directory(b) needs |c, _| c.remove => {
        let path = b.file("f", b"x").await?;
        fails!(b, b.fs.remove_dir(&path).await, NotADirectory);
        same!(b.content(&path).await?, b"x");
    }
    /// A directory is no file.
    a_directory_is_not_removed_as_a_file(b) needs |c, _| c.empty_dirs && c.remove => {
        let dir = b.dir("d").await?;
        fails!(b, b.fs.remove_file(&dir).await, IsADirectory);
        check!(b.fs.stat(&dir, Follow::Yes).await?.is_dir(), "the directory is gone");
    }
    /// The root cannot be removed.
    the_root_stays(b) needs |c, _| c.remove => {
        b.file("f", b"x").await?;
        fails!(b, b.fs.remove_dir(&VPath::root()).await, PermissionDenied | NotEmpty | InvalidArgument);
        fails!(b, b.fs.remove_file(&VPath::root()).await, IsADirectory | PermissionDenied);
        same!(b.names(&b.root).await?, ["f"]);
    }
    /// A removed file is gone, and removing it again is "not found".
    a_removed_file_is_gone(b) needs |c, _| c.remove => {
        let path = b.file("f", b"x").await?;
        b.fs.remove_file(&path).await?;
        fails!(b, b.fs.stat(&path, Follow::Yes).await, NotFound);
        fails!(b, b.fs.remove_file(&path).await, NotFound);
    }
    /// A name that was removed can be used for something else.
    a_name_can_be_used_again(b) needs |c, _| c.empty_dirs && c.remove => {
        let path = b.file("x", b"file").await?;
        b.fs.remove_file(&path).await?;
        b.dir("x").await?;
        b.fs.remove_dir(&path).await?;
        b.file("x", b"again").await?;
        same!(b.content(&path).await?, b"again");
    }
    /// Making all levels works, also where some are there.
    all_levels_at_once(b) needs |c, _| c.empty_dirs => {
        let deep = b.at("a/b/c/d")?;
        b.fs.create_dir_all(&deep).await?;
        b.fs.create_dir_all(&deep).await?;
        check!(b.fs.stat(&deep, Follow::Yes).await?.is_dir(), "it is no directory");
        b.file("a/f", b"x").await?;
        fails!(b, b.fs.create_dir_all(&b.at("a/f/g")?).await, NotADirectory);
    }
    /// A whole tree is removed, and nothing beside it.
    a_tree_is_removed(b) needs |c, _| c.empty_dirs && c.remove => {
        b.fs.create_dir_all(&b.at("a/b/c")?).await?;
        b.file("a/f", b"x").await?;
        b.file("a/b/c/g", b"x").await?;
        b.file("ab", b"kept").await?;
        b.fs.remove_dir_all(&b.at("a")?).await?;
        same!(b.names(&b.root).await?, ["ab"]);
    }
}
