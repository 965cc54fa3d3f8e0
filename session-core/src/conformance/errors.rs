//! Errors: one kind for one cause, whatever the operation, and nothing changed.

use super::*;
use crate::error::Retry;
use crate::fs::{Follow, Replace};

/// What every operation on one path says.
async fn all_operations(b: &Bench, path: &VPath) -> Vec<(&'static str, Result<(), Error>)> {
    let c = &b.capabilities;
    let times = Attributes::times(None, Some(std::time::UNIX_EPOCH));
    let to = b.root.join("target").unwrap_or_else(|_| b.root.clone());
    let mut out = vec![
        ("stat", b.fs.stat(path, Follow::Yes).await.map(drop)),
        ("list", b.listed_error(path).await),
        ("read", b.fs.open(path, &OpenOptions::read()).await.map(drop)),
    ];
    if c.remove {
        out.push(("remove_file", b.fs.remove_file(path).await));
        out.push(("remove_dir", b.fs.remove_dir(path).await));
    }
    if c.rename {
        out.push(("rename", b.fs.rename(path, &to, Replace::No).await));
    }
    if c.set_times {
        out.push(("set_attributes", b.fs.set_attributes(path, &times, Follow::Yes).await));
    }
    if c.server_copy {
        out.push(("copy", b.fs.copy(path, &to, Replace::No).await));
    }
    if c.symlinks {
        out.push(("read_link", b.fs.read_link(path).await.map(drop)));
    }
    if c.hard_links {
        out.push(("hard_link", b.fs.hard_link(path, &to).await));
    }
    if c.space {
        out.push(("space", b.fs.space(path).await.map(drop)));
    }
    out
}

suite! { "errors";
    /// Every operation says "not found" of what is missing, and makes nothing.
    missing_is_not_found_everywhere(b) needs |c, p| c.empty_dirs && p.precise_errors => {
        for (name, done) in all_operations(b, &b.at("missing")?).await {
            let kind = done.err().map(|e| e.kind());
            check!(kind == Some(ErrorKind::NotFound), "{name}: {kind:?}");
        }
        same!(b.names(&b.root).await?.len(), 0);
    }
    /// Every operation says "not found" of what is below something missing.
    below_missing_is_not_found_everywhere(b) needs |c, p| c.empty_dirs && p.precise_errors => {
        for (name, done) in all_operations(b, &b.at("missing/too/x")?).await {
            let kind = done.err().map(|e| e.kind());
            check!(kind == Some(ErrorKind::NotFound), "{name}: {kind:?}");
        }
    }
    /// Every operation refuses what is below a file.
    below_a_file_is_refused_everywhere(b) needs |_, p| p.precise_errors => {
        let path = b.file("f", b"x").await?;
        for (name, done) in all_operations(b, &b.at("f/x")?).await {
            let kind = done.err().map(|e| e.kind());
            let due = [Some(ErrorKind::NotADirectory), Some(ErrorKind::NotFound)];
            check!(due.contains(&kind), "{name}: {kind:?}");
        }
        same!(b.content(&path).await?, b"x");
    }
    /// No operation works through a link where links are not followed; each tells of the link.
    below_a_link_is_answered_everywhere(b) needs |c, p| Bench::sees_links(c, p) => {
        b.dir("d").await?;
        b.file("d/x", b"x").await?;
        let link = b.at("l")?;
        b.fs.symlink(b"d", &link).await?;
        for (name, done) in all_operations(b, &b.at("l/x")?).await {
            let at = done.err().and_then(|e| e.as_link().map(|l| l.at.clone()));
            check!(at.as_ref() == Some(&link), "{name}: {at:?}");
        }
        same!(b.content(&b.at("d/x")?).await?, b"x");
    }
    /// Trying again does not help where something is missing.
    missing_is_not_worth_a_retry(b) needs |_, p| p.precise_errors => {
        let failed = b.fs.stat(&b.at("missing")?, Follow::Yes).await;
        same!(failed.err().map(|e| e.retry()), Some(Retry::Never));
    }
    /// The words for a peer tell no path of the machine.
    words_leak_no_real_path(b) needs |_, _| true => {
        let path = b.file("f", b"x").await?;
        let mut seen = all_operations(b, &b.at("missing")?).await;
        seen.extend(all_operations(b, &b.at("f/x")?).await);
        seen.push(("create_dir", b.fs.create_dir(&path, &Attributes::none()).await));
        for (name, done) in seen {
            if let Err(e) = done {
                let words = e.peer_words();
                check!(!words.is_empty(), "{name}: no words");
                check!(!words.contains("/proc") && !words.contains(".ferry"), "{name}: {words}");
                check!(e.path().is_none_or(|p| p.starts_with(&b.root)), "{name}: {:?}", e.path());
            }
        }
    }
    /// A path with a NUL byte or beyond all bounds never comes into being.
    impossible_paths_are_refused(b) needs |_, _| true => {
        for raw in [b"a\0b".to_vec(), vec![b'x'; 5000]] {
            fails!(b, VPath::parse(&b.root, &raw), InvalidPath);
        }
        for name in [&b""[..], b".", b"..", b"a/b"] {
            fails!(b, b.root.join(name), InvalidPath);
        }
    }
    /// Dots that lead out of the root lead to the root.
    dots_do_not_leave_the_root(b) needs |_, _| true => {
        let up = VPath::parse(&b.root, "../".repeat(50).as_bytes())?;
        same!(up, VPath::root());
        b.fs.stat(&up, Follow::Yes).await?;
    }
}
