//! What holds when a call is given up at any of its waits.
//!
//! Each case drops the same call after its first, second, third … poll until it gets through (of many polls, after
//! some), and looks at what is there. Work handed to the operating system may still finish after the drop, so a case
//! asks only for what must hold at every moment: the state before or the state after, never another one.

use std::task::Poll;

use super::*;
use crate::fs::{Follow, Replace, Stage};

/// More waits than any call has.
const MOST: usize = 500;

/// Polls a call at most `polls` times and drops it then; `None` if it was not done.
async fn cut<T>(call: impl Future<Output = T> + Send, polls: usize) -> Option<T> {
    let mut call = Box::pin(call);
    let mut left = polls;
    std::future::poll_fn(move |cx| match call.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => {
            left -= 1;
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

/// Lets what the operating system was given come to its end.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The content of a file that may be changed yet by what was given up: who finds it changed while it is read is told
/// so, in words that not every protocol has, and looks again.
async fn content_at_rest(b: &Bench, path: &VPath) -> Result<Vec<u8>, Failure> {
    for _ in 0..10 {
        match b.view().read_to_vec(path, 64 << 20).await {
            Err(e) if e.kind() != ErrorKind::NotFound => settle().await,
            read => return Ok(read?),
        }
    }
    b.content(path).await
}

/// Numbers of polls: each at first, then fewer, since a call of many waits is one that asks others many times, in much
/// the same way.
fn waits() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |n| Some(n + 1 + n / 12)).take_while(|n| *n <= MOST)
}

/// Gives a call up at each of its waits, until it gets through.
macro_rules! at_every_wait {
    (|$n:ident| $call:expr, $after:expr) => {{
        let mut through = false;
        for $n in waits() {
            let done = cut($call, $n).await;
            settle().await;
            $after;
            if let Some(done) = done {
                done?;
                through = true;
                break;
            }
        }
        check!(through, "the call has more than {MOST} waits");
    }};
}

suite! { "cancel";
    /// A rename that was given up has happened or not; the content is there under one of the names.
    a_rename_happens_or_not(b) needs |c, p| c.rename && p.whole_renames => {
        at_every_wait!(|n| {
            b.file(format!("f{n}"), b"content").await?;
            let to = b.at(format!("g{n}"))?;
            async move { b.fs.rename(&b.at(format!("f{n}"))?, &to, Replace::No).await.map_err(Failure::from) }
        }, {
            let names = b.names(&b.root).await?;
            same!(names.len(), 1);
            for name in names {
                let path = b.root.join(&name)?;
                same!(b.content(&path).await?, b"content");
                b.fs.remove_file(&path).await?;
            }
        });
    }
    /// A replacing rename that was given up leaves the old or the new content in the target.
    a_replacing_rename_never_loses_the_target(b) needs |c, _| c.rename_replaces => {
        let (from, to) = (b.at("f")?, b.at("g")?);
        at_every_wait!(|n| {
            b.file("f", b"new").await?;
            b.file("g", b"old").await?;
            b.fs.rename(&from, &to, Replace::Yes)
        }, {
            let content = content_at_rest(b, &to).await?;
            check!(content == b"new" || content == b"old", "the target holds {content:?}");
        });
    }
    /// A publishing that was given up leaves the old or the new content, whole.
    a_publishing_happens_or_not(b) needs |_, p| p.stages => {
        let to = b.at("f")?;
        let mut last;
        at_every_wait!(|n| {
            b.file("f", &[b'o'; 50_000]).await?;
            let (id, file) = b.fs.stage(&Stage::New { near: to.clone(), note: Bytes::new() }).await?;
            file.write_at(0, Bytes::from(vec![b'n'; 60_000])).await?;
            file.commit(&Default::default()).await?;
            last = id.clone();
            let to = &to;
            async move { b.fs.publish(&id, to, Replace::Yes, false).await }
        }, {
            let content = content_at_rest(b, &to).await?;
            check!(content == [b'o'; 50_000] || content == [b'n'; 60_000], "a mixture is there");
            b.fs.unstage(&last).await?;
        });
    }
    /// A whole upload that is staged and published shows nothing under the name until it is complete.
    a_staged_upload_is_whole_or_absent(b) needs |_, p| p.stages => {
        let to = b.at("f")?;
        at_every_wait!(|n| {
            let to = &to;
            async move {
                let (id, file) = b.fs.stage(&Stage::New { near: to.clone(), note: Bytes::new() }).await?;
                for i in 0..4 {
                    file.write_at(i * 25_000, Bytes::from(vec![b'n'; 25_000])).await?;
                }
                file.commit(&Default::default()).await?;
                b.fs.publish(&id, to, Replace::Yes, false).await.map(drop)
            }
        }, {
            if b.fs.exists(&to).await? {
                same!(content_at_rest(b, &to).await?, vec![b'n'; 100_000]);
                b.fs.remove_file(&to).await?;
            }
        });
    }
    /// An overwrite that was given up leaves the old or the new content where writing is staged.
    an_overwrite_never_mixes(b) needs |_, p| p.is_whole() && !p.close_only => {
        let path = b.at("f")?;
        at_every_wait!(|n| {
            b.file("f", &[b'o'; 50_000]).await?;
            b.fs.write_all(&path, Bytes::from(vec![b'n'; 60_000]))
        }, {
            if b.other.is_some() {
                let content = content_at_rest(b, &path).await?;
                check!(content == [b'o'; 50_000] || content == [b'n'; 60_000], "a mixture is there");
            }
        });
    }
    /// A copy that was given up leaves no half copy.
    a_copy_is_whole_or_absent(b) needs |c, _| c.server_copy && c.atomic_commit => {
        let data = noise(9, 300_000);
        let (from, to) = (b.file("f", &data).await?, b.at("g")?);
        at_every_wait!(|n| b.fs.copy(&from, &to, Replace::No), {
            if b.fs.exists(&to).await? {
                check!(content_at_rest(b, &to).await? == data, "a half copy is there");
                b.fs.remove_file(&to).await?;
            }
        });
        same!(b.content(&from).await?.len(), data.len());
    }
    /// A directory that was being made is there, empty, or it is not.
    a_directory_is_made_or_not(b) needs |c, _| c.empty_dirs && c.remove => {
        at_every_wait!(|n| b.fs.create_dir(&b.at(format!("d{n}"))?, &Attributes::none()), {
            for name in b.names(&b.root).await? {
                let dir = b.root.join(&name)?;
                same!(b.names(&dir).await?.len(), 0);
                b.fs.remove_dir(&dir).await?;
            }
        });
    }
    /// A file that was being removed is gone, or it is whole.
    a_removal_happens_or_not(b) needs |c, _| c.remove => {
        at_every_wait!(|n| {
            // A name of its own: what was given up may arrive later.
            let path = b.file(format!("f{n}"), b"content").await?;
            async move { b.fs.remove_file(&path).await }
        }, {
            match b.view().read_to_vec(&b.at(format!("f{n}"))?, 64).await {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                whole => same!(whole?, b"content"),
            }
        });
    }
    /// An opening that was given up holds nothing: the file can be removed and made anew.
    an_opening_leaves_nothing_held(b) needs |c, _| c.remove => {
        let path = b.at("f")?;
        at_every_wait!(|n| {
            b.file("f", b"content").await?;
            let path = &path;
            async move { b.fs.open(path, &OpenOptions::read()).await }
        }, {
            b.fs.remove_file(&path).await?;
        });
    }
    /// A read that was given up does no harm to the next one.
    a_read_does_not_harm_the_next(b) needs |_, _| true => {
        let data = noise(10, 100_000);
        let path = b.file("f", &data).await?;
        let file = b.open(&path, OpenOptions::read()).await?;
        at_every_wait!(|n| file.read_into(1000, 50_000, BytesMut::new()), {
            let got = read_range(&*file, 0, data.len()).await?;
            check!(got == data, "the next read differs");
        });
    }
    /// A write that was given up leaves each byte old or new, and the next write works.
    a_write_does_not_harm_the_next(b) needs |c, _| c.random_write => {
        let path = b.file("f", &[b'o'; 10_000]).await?;
        let file = b.open(&path, OpenOptions { read: true, ..OpenOptions::update() }).await?;
        at_every_wait!(|n| file.write_at(1000, Bytes::from_static(&[b'n'; 5000])), {
            let got = read_range(&*file, 0, 20_000).await?;
            same!(got.len(), 10_000);
            let untouched = got.iter().enumerate().filter(|(i, _)| !(1000..6000).contains(i));
            check!(untouched.clone().all(|(_, x)| *x == b'o'), "bytes beside the write changed");
            check!(got.iter().all(|x| *x == b'o' || *x == b'n'), "a byte is neither old nor new");
            file.write_at(1000, Bytes::from_static(&[b'o'; 5000])).await?;
        });
        file.commit(&Default::default()).await?;
    }
    /// A commit that was given up has ended the file or not, and its content is what was written.
    a_commit_leaves_what_was_written(b) needs |_, p| !p.staged && p.keeps_given_up => {
        at_every_wait!(|n| {
            let file = b.open(&b.at("f")?, OpenOptions::create()).await?;
            file.write_at(0, Bytes::from_static(b"content")).await?;
            async move { file.commit(&Default::default()).await }
        }, {
            same!(b.content(&b.at("f")?).await?, b"content");
        });
    }
    /// A listing that was given up does no harm to the next one.
    a_listing_does_not_harm_the_next(b) needs |_, _| true => {
        for i in 0..30 {
            b.file(format!("f{i}"), b"").await?;
        }
        let options = ListOptions::default();
        at_every_wait!(|n| b.listed(&b.root, &options), {
            same!(b.names(&b.root).await?.len(), 30);
        });
    }
    /// Attributes that were being set are the old or the new ones.
    a_time_is_set_or_not(b) needs |c, _| c.set_times => {
        let path = b.file("f", b"content").await?;
        let time = |seconds| std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        let (old, new) = (time(1_000_000_000), time(1_200_000_000));
        at_every_wait!(|n| {
            b.fs.set_attributes(&path, &Attributes::times(None, Some(old)), Follow::Yes).await?;
            let path = &path;
            async move { b.fs.set_attributes(path, &Attributes::times(None, Some(new)), Follow::Yes).await }
        }, {
            let seen = b.fs.stat(&path, Follow::Yes).await?.modified;
            check!(seen == Some(old) || seen == Some(new), "{seen:?}");
        });
    }
}
