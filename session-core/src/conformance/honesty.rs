//! Honesty: `Unsupported` if and only if the capability is off, and then nothing has changed.

use super::*;
use crate::fs::{Algorithm, Follow, Replace, Stage};

/// The answer fits the capability.
fn fits<T>(on: bool, what: &str, done: Result<T, Error>) -> Outcome {
    match done {
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            check!(!on, "{what} is unsupported, its capability is on");
        }
        Err(e) if on => check!(false, "{what} is on and failed: {e:#}"),
        Err(e) => check!(false, "{what} is off and failed with {:?} instead of Unsupported", e.kind()),
        Ok(_) => check!(on, "{what} worked, its capability is off"),
    }
    Ok(())
}

/// Nothing but the file `f` with this content is there.
async fn unchanged(b: &Bench) -> Outcome {
    same!(b.names(&b.root).await?, ["f"]);
    same!(b.content(&b.at("f")?).await?, b"content");
    Ok(())
}

suite! { "honesty";
    /// Capabilities do not change while the filesystem is open.
    capabilities_are_stable(b) needs |_, _| true => {
        let before = b.fs.capabilities_at(&b.root);
        b.file("f", b"content").await?;
        same!(b.fs.capabilities_at(&b.root), before);
    }
    /// Renaming works if and only if it is offered.
    rename_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        fits(b.capabilities.rename, "rename", b.fs.rename(&path, &b.at("g")?, Replace::No).await)?;
        if !b.capabilities.rename {
            unchanged(b).await?;
        }
    }
    /// Replacing by a rename works if and only if it is offered.
    rename_replaces_fits(b) needs |c, _| c.rename => {
        let path = b.file("g", b"new").await?;
        let to = b.file("f", b"content").await?;
        fits(b.capabilities.rename_replaces, "rename_replaces", b.fs.rename(&path, &to, Replace::Yes).await)?;
        let due: &[u8] = if b.capabilities.rename_replaces { b"new" } else { b"content" };
        same!(b.content(&to).await?, due);
    }
    /// Times are set if and only if it is offered.
    set_times_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let times = Attributes::times(None, Some(std::time::UNIX_EPOCH));
        fits(b.capabilities.set_times, "set_times", b.fs.set_attributes(&path, &times, Follow::Yes).await)?;
        unchanged(b).await?;
    }
    /// Permission bits are set if and only if it is offered.
    set_mode_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let done = b.fs.set_attributes(&path, &Attributes::mode(0o600), Follow::Yes).await;
        fits(b.capabilities.set_mode, "set_mode", done)?;
        unchanged(b).await?;
    }
    /// An owner is set if and only if it is offered; the store may still refuse.
    set_owner_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let uid = b.fs.stat(&path, Follow::Yes).await?.uid;
        let owner = Attributes { uid: uid.or(Some(0)), ..Attributes::none() };
        match b.fs.set_attributes(&path, &owner, Follow::Yes).await {
            Err(e) if e.kind() == ErrorKind::PermissionDenied && b.capabilities.set_owner => {}
            done => fits(b.capabilities.set_owner, "set_owner", done)?,
        }
        unchanged(b).await?;
    }
    /// A size is set if and only if it is offered.
    truncate_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let done = b.fs.set_attributes(&path, &Attributes::size(7), Follow::Yes).await;
        fits(b.capabilities.truncate, "truncate", done)?;
        unchanged(b).await?;
    }
    /// Properties are kept if and only if it is offered.
    properties_fit(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let properties = [("colour".to_owned(), Some(Bytes::from_static(b"blue")))].into();
        let attributes = Attributes { properties, ..Attributes::none() };
        let done = b.fs.set_attributes(&path, &attributes, Follow::Yes).await;
        fits(b.capabilities.properties, "properties", done)?;
        unchanged(b).await?;
    }
    /// An attribute that cannot be set is told before any other one is set.
    a_half_supported_change_changes_nothing(b) needs |c, _| c.set_mode && !c.properties => {
        let path = b.file("f", b"content").await?;
        b.fs.set_attributes(&path, &Attributes::mode(0o600), Follow::Yes).await?;
        let properties = [("colour".to_owned(), Some(Bytes::from_static(b"blue")))].into();
        let both = Attributes { properties, ..Attributes::mode(0o644) };
        fails!(b, b.fs.set_attributes(&path, &both, Follow::Yes).await, Unsupported);
        same!(b.fs.stat(&path, Follow::Yes).await?.mode, Some(0o600));
    }
    /// Symbolic links are made if and only if they are offered.
    symlinks_fit(b) needs |_, _| true => {
        b.file("f", b"content").await?;
        let link = b.at("l")?;
        fits(b.capabilities.symlinks, "symlinks", b.fs.symlink(b"f", &link).await)?;
        if b.capabilities.symlinks {
            fits(true, "symlinks (read_link)", b.fs.read_link(&link).await)?;
        } else {
            fits(false, "symlinks (read_link)", b.fs.read_link(&b.at("f")?).await)?;
            unchanged(b).await?;
        }
    }
    /// Hard links are made if and only if they are offered.
    hard_links_fit(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        fits(b.capabilities.hard_links, "hard_links", b.fs.hard_link(&path, &b.at("g")?).await)?;
        if !b.capabilities.hard_links {
            unchanged(b).await?;
        }
    }
    /// Copying inside the store works if and only if it is offered.
    copy_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        fits(b.capabilities.server_copy, "server_copy", b.fs.copy(&path, &b.at("g")?, Replace::No).await)?;
        if !b.capabilities.server_copy {
            unchanged(b).await?;
        }
    }
    /// Room is told if and only if it is offered.
    space_fits(b) needs |_, _| true => {
        fits(b.capabilities.space, "space", b.fs.space(&b.root).await)?;
    }
    /// A canonical path is told if and only if it is offered.
    canonicalize_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        fits(b.capabilities.canonicalize, "canonicalize", b.fs.canonicalize(&path).await)?;
        unchanged(b).await?;
    }
    /// Digests are computed if and only if they are offered.
    checksums_fit(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let mut any = false;
        for algorithm in Algorithm::ALL {
            match b.fs.checksum(&path, algorithm, 0..7).await {
                Ok(digest) => {
                    any = true;
                    check!(!digest.is_empty(), "the digest is empty");
                }
                Err(e) => same!(e.kind(), ErrorKind::Unsupported),
            }
        }
        same!(any, b.capabilities.checksums);
    }
    /// Appending works if and only if it is offered.
    append_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let options = OpenOptions { write: true, append: true, ..Default::default() };
        let done = async {
            let file = b.fs.open(&path, &options).await?;
            file.write_at(7, Bytes::from_static(b"!")).await?;
            file.commit(&Default::default()).await
        };
        fits(b.capabilities.append, "append", done.await)?;
        if !b.capabilities.append {
            unchanged(b).await?;
        }
    }
    /// Writing into an existing file works if and only if it is offered.
    random_write_fits(b) needs |_, _| true => {
        let path = b.file("f", b"content").await?;
        let done = async {
            let file = b.fs.open(&path, &OpenOptions { write: true, ..Default::default() }).await?;
            file.write_at(3, Bytes::from_static(b"t")).await?;
            file.commit(&Default::default()).await
        };
        fits(b.capabilities.random_write, "random_write", done.await)?;
        unchanged(b).await?;
    }
    /// A file is continued at its end if and only if it is offered, and it is where any write is.
    continue_write_fits(b) needs |_, _| true => {
        check!(b.capabilities.continue_write || !b.capabilities.random_write, "continuing is a random write");
        let path = b.file("f", b"content").await?;
        let done = async {
            let file = b.fs.open(&path, &OpenOptions { write: true, ..Default::default() }).await?;
            file.write_at(7, Bytes::from_static(b"!")).await?;
            file.commit(&Default::default()).await
        };
        fits(b.capabilities.continue_write, "continue_write", done.await)?;
        if !b.capabilities.continue_write {
            unchanged(b).await?;
        }
    }
    /// Staging works if and only if it is offered.
    staging_fits(b) needs |c, p| p.stages || !c.atomic_commit => {
        b.file("f", b"content").await?;
        let stage = Stage::New { near: b.at("g")?, note: Bytes::new() };
        let done = b.fs.stage(&stage).await;
        if let Ok((id, _)) = &done {
            b.fs.unstage(id).await?;
        }
        fits(b.capabilities.atomic_commit, "atomic_commit", done)?;
        unchanged(b).await?;
    }
}
