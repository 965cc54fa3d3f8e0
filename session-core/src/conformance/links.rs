//! What symbolic and hard links promise, and that a store never follows one by itself.

use super::*;
use crate::fs::{Follow, Replace};
use crate::metadata::FileType;

suite! { "links";
    /// A symbolic link gives back the very bytes that it was made with.
    a_link_keeps_its_text(b) needs |c, _| c.symlinks => {
        for (i, target) in [&b"f"[..], b"../x/./y//", b"/abs", b"missing", b"a b\\c"].iter().enumerate() {
            let link = b.at(format!("l{i}"))?;
            b.fs.symlink(target, &link).await?;
            same!(b.fs.read_link(&link).await?.as_ref(), *target);
        }
    }
    /// A link's text may be bytes that are not UTF-8.
    a_link_may_hold_any_bytes(b) needs |c, p| c.symlinks && p.byte_names => {
        let link = b.at("l")?;
        b.fs.symlink(b"\xff\xfe/x", &link).await?;
        same!(b.fs.read_link(&link).await?.as_ref(), b"\xff\xfe/x");
    }
    /// Asked for itself, a link is a link.
    stat_of_the_link_itself(b) needs |c, _| c.symlinks => {
        b.file("f", b"content").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        same!(b.fs.stat(&link, Follow::No).await?.file_type, FileType::Symlink);
    }
    /// A listing shows a link as a link.
    a_listing_shows_the_link(b) needs |c, _| c.symlinks => {
        b.fs.symlink(b"missing", &b.at("l")?).await?;
        let kinds: Vec<_> = b.fs.list_all(&b.root).await?.iter().map(|e| e.metadata.file_type).collect();
        same!(kinds, [FileType::Symlink]);
    }
    /// A store does not follow a link at the end of a path, it tells of it.
    stat_answers_with_the_link(b) needs |c, p| Bench::sees_links(c, p) => {
        b.file("f", b"x").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        meets_link!(b.fs.stat(&link, Follow::Yes).await, &link, b"f");
    }
    /// A store does not follow a link in the middle of a path, it tells of it.
    a_link_in_the_middle_is_answered(b) needs |c, p| Bench::sees_links(c, p) => {
        b.dir("d").await?;
        b.file("d/f", b"x").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"d", &link).await?;
        let through = b.at("l/f")?;
        meets_link!(b.fs.stat(&through, Follow::No).await, &link, b"d");
        meets_link!(b.fs.open(&through, &OpenOptions::read()).await, &link, b"d");
        meets_link!(b.fs.open(&b.at("l/new")?, &OpenOptions::create()).await, &link, b"d");
        meets_link!(b.fs.remove_file(&through).await, &link, b"d");
        meets_link!(b.fs.create_dir(&b.at("l/new")?, &Attributes::none()).await, &link, b"d");
        meets_link!(b.fs.rename(&through, &b.at("g")?, Replace::No).await, &link, b"d");
        meets_link!(b.fs.rename(&b.at("d/f")?, &b.at("l/g")?, Replace::No).await, &link, b"d");
        same!(b.names(&b.at("d")?).await?, ["f"]);
    }
    /// Opening a link for reading tells of the link.
    open_answers_with_the_link(b) needs |c, p| Bench::sees_links(c, p) => {
        b.file("f", b"x").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        meets_link!(b.fs.open(&link, &OpenOptions::read()).await, &link, b"f");
        meets_link!(b.fs.open(&link, &OpenOptions::create()).await, &link, b"f");
        same!(b.content(&b.at("f")?).await?, b"x");
    }
    /// Listing through a link tells of the link.
    list_answers_with_the_link(b) needs |c, p| Bench::sees_links(c, p) => {
        b.dir("d").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"d", &link).await?;
        meets_link!(b.fs.list(&link, &ListOptions::default()).await, &link, b"d");
    }
    /// Where the other side follows links, a link to a file reads as that file.
    a_followed_link_reads_as_its_target(b) needs |c, p| c.symlinks && p.follows_links => {
        b.file("f", b"content").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        // Not by the other view, which may follow nothing.
        same!(b.fs.read_to_vec(&link, 100).await?, b"content");
    }
    /// Where links are followed, one in the middle of a path is gone through by every call.
    a_followed_link_leads_on(b) needs |c, p| c.symlinks && c.rename && p.follows_links => {
        let dir = b.dir("d").await?;
        b.file("d/f", b"content").await?;
        b.fs.symlink(b"d", &b.at("l")?).await?;
        let through = b.at("l/f")?;
        same!(b.fs.stat(&through, Follow::No).await?.size, 7);
        same!(b.fs.read_to_vec(&through, 100).await?, b"content");
        b.fs.write_all(&b.at("l/new")?, Bytes::from_static(b"new")).await?;
        same!(b.content(&b.at("d/new")?).await?, b"new");
        b.fs.create_dir(&b.at("l/sub")?, &Attributes::none()).await?;
        b.fs.rename(&through, &b.at("l/sub/g")?, Replace::No).await?;
        same!(b.content(&b.at("d/sub/g")?).await?, b"content");
        b.fs.remove_file(&b.at("l/sub/g")?).await?;
        b.fs.remove_dir(&b.at("l/sub")?).await?;
        same!(b.names(&dir).await?, ["new"]);
    }
    /// Where links are followed, a link to a directory lists as that directory.
    a_followed_link_lists_as_its_target(b) needs |c, p| c.symlinks && p.follows_links => {
        b.dir("d").await?;
        b.file("d/f", b"x").await?;
        b.fs.symlink(b"d", &b.at("l")?).await?;
        same!(b.names(&b.at("l")?).await?, ["f"]);
    }
    /// Where links are followed, writing to a link writes its target and leaves the link.
    a_followed_link_is_written_through(b) needs |c, p| c.symlinks && p.follows_links => {
        let path = b.file("f", b"old").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        b.fs.write_all(&link, Bytes::from_static(b"new")).await?;
        same!(b.content(&path).await?, b"new");
        same!(b.fs.stat(&link, Follow::No).await?.file_type, FileType::Symlink);
    }
    /// Where links are followed, attributes set on a link are its target's.
    a_followed_link_gives_attributes_to_its_target(b) needs |c, p| c.symlinks && c.set_mode && p.follows_links => {
        let path = b.file("f", b"x").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        b.fs.set_attributes(&link, &Attributes::mode(0o604), Follow::Yes).await?;
        same!(b.fs.stat(&path, Follow::Yes).await?.mode, Some(0o604));
    }
    /// Where links are followed, links that lead in a circle are an error and nothing else.
    followed_links_in_a_circle_are_an_error(b) needs |c, p| c.symlinks && p.follows_links => {
        b.fs.symlink(b"m", &b.at("l")?).await?;
        b.fs.symlink(b"l", &b.at("m")?).await?;
        fails!(b, b.fs.stat(&b.at("l")?, Follow::Yes).await, LinkLoop | NotFound);
        fails!(b, b.fs.open(&b.at("l")?, &OpenOptions::read()).await, LinkLoop | NotFound);
        fails!(b, b.fs.stat(&b.at("l/f")?, Follow::No).await, LinkLoop | NotFound);
        same!(b.fs.read_link(&b.at("l")?).await?.as_ref(), b"m");
    }
    /// Writing a new file exclusively where a link stands fails, also where the link leads nowhere.
    exclusive_does_not_write_through_a_link(b) needs |c, _| c.symlinks => {
        let link = b.at("l")?;
        b.fs.symlink(b"target", &link).await?;
        let options = OpenOptions { exclusive: true, ..OpenOptions::create() };
        fails!(b, b.fs.open(&link, &options).await, AlreadyExists | LinkLoop);
        check!(!b.fs.exists(&b.at("target")?).await?, "the link's target was made");
    }
    /// Removing a link leaves what it points to.
    remove_takes_the_link_only(b) needs |c, _| c.symlinks => {
        let path = b.file("f", b"x").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"f", &link).await?;
        b.fs.remove_file(&link).await?;
        check!(!b.fs.exists(&link).await?, "the link is still there");
        same!(b.content(&path).await?, b"x");
    }
    /// A link to a directory is no directory to `remove_dir`.
    remove_dir_refuses_a_link(b) needs |c, _| c.symlinks => {
        b.dir("d").await?;
        b.fs.symlink(b"d", &b.at("l")?).await?;
        fails!(b, b.fs.remove_dir(&b.at("l")?).await, NotADirectory);
        check!(b.fs.exists(&b.at("d")?).await?, "the directory behind the link is gone");
    }
    /// Renaming a link moves the link.
    rename_moves_the_link(b) needs |c, _| c.symlinks && c.rename => {
        b.file("f", b"x").await?;
        b.fs.symlink(b"f", &b.at("l")?).await?;
        b.fs.rename(&b.at("l")?, &b.at("m")?, Replace::No).await?;
        same!(b.fs.read_link(&b.at("m")?).await?.as_ref(), b"f");
        same!(b.names(&b.root).await?, ["f", "m"]);
    }
    /// Renaming a file over a link replaces the link, not its target.
    rename_over_a_link_replaces_it(b) needs |c, _| c.symlinks && c.rename_replaces => {
        b.file("f", b"target").await?;
        b.file("new", b"new").await?;
        b.fs.symlink(b"f", &b.at("l")?).await?;
        b.fs.rename(&b.at("new")?, &b.at("l")?, Replace::Yes).await?;
        same!(b.fs.stat(&b.at("l")?, Follow::No).await?.file_type, FileType::File);
        same!(b.content(&b.at("f")?).await?, b"target");
    }
    /// A link is not made over something.
    a_link_replaces_nothing(b) needs |c, _| c.symlinks => {
        let path = b.file("f", b"x").await?;
        fails!(b, b.fs.symlink(b"y", &path).await, AlreadyExists);
        same!(b.content(&path).await?, b"x");
    }
    /// A link that holds nothing cannot be made.
    an_empty_link_is_refused(b) needs |c, _| c.symlinks => {
        fails!(b, b.fs.symlink(b"", &b.at("l")?).await, InvalidArgument | NotFound);
        fails!(b, b.fs.symlink(b"a\0b", &b.at("l")?).await, InvalidArgument | InvalidPath);
        check!(!b.fs.exists(&b.at("l")?).await?, "a link was made");
    }
    /// What is no link has no text.
    read_link_of_a_file_is_refused(b) needs |c, _| c.symlinks => {
        let path = b.file("f", b"x").await?;
        fails!(b, b.fs.read_link(&path).await, InvalidArgument);
        fails!(b, b.fs.read_link(&b.root).await, InvalidArgument);
        fails!(b, b.fs.read_link(&b.at("missing")?).await, NotFound);
    }
    /// A tree is removed without following the links in it.
    remove_all_does_not_follow(b) needs |c, _| c.symlinks => {
        b.dir("kept").await?;
        let kept = b.file("kept/f", b"x").await?;
        b.dir("d").await?;
        b.fs.symlink(b"../kept", &b.at("d/l")?).await?;
        b.fs.remove_dir_all(&b.at("d")?).await?;
        same!(b.content(&kept).await?, b"x");
        same!(b.names(&b.root).await?, ["kept"]);
    }
    /// A hard link is another name of the same content.
    a_hard_link_shares_content(b) needs |c, _| c.hard_links && c.random_write => {
        let one = b.file("one", b"12345").await?;
        let two = b.at("two")?;
        b.fs.hard_link(&one, &two).await?;
        same!(b.content(&two).await?, b"12345");
        if !b.profile.staged {
            let file = b.open(&one, OpenOptions::update()).await?;
            file.write_at(0, Bytes::from_static(b"X")).await?;
            file.commit(&Default::default()).await?;
            same!(b.content(&two).await?, b"X2345");
        }
    }
    /// Removing one name leaves the other with the content.
    a_hard_link_outlives_the_first_name(b) needs |c, _| c.hard_links => {
        let one = b.file("one", b"12345").await?;
        let two = b.at("two")?;
        b.fs.hard_link(&one, &two).await?;
        b.fs.remove_file(&one).await?;
        same!(b.content(&two).await?, b"12345");
        if let Some(links) = b.fs.stat(&two, Follow::Yes).await?.links {
            same!(links, 1);
        }
    }
    /// A hard link replaces nothing, needs a source, and is never of a directory.
    a_hard_link_is_refused_where_it_must_be(b) needs |c, _| c.hard_links => {
        let one = b.file("one", b"1").await?;
        let two = b.file("two", b"2").await?;
        fails!(b, b.fs.hard_link(&one, &two).await, AlreadyExists);
        fails!(b, b.fs.hard_link(&b.at("missing")?, &b.at("x")?).await, NotFound);
        let dir = b.dir("d").await?;
        fails!(b, b.fs.hard_link(&dir, &b.at("x")?).await, IsADirectory | PermissionDenied);
        same!(b.content(&two).await?, b"2");
        check!(!b.fs.exists(&b.at("x")?).await?, "something was made");
    }
    /// Renaming one name of a file over another name of it loses no content.
    rename_between_names_of_one_file(b) needs |c, _| c.hard_links && c.rename_replaces => {
        let one = b.file("one", b"12345").await?;
        let two = b.at("two")?;
        b.fs.hard_link(&one, &two).await?;
        b.fs.rename(&one, &two, Replace::Yes).await?;
        same!(b.content(&two).await?, b"12345");
    }
}
