//! What holds when many work at the same time.

use super::*;
use crate::fs::{Follow, Replace, Stage};

/// Runs `count` calls on tasks of their own, as near to the same moment as can be, and gives what came of
/// them.
async fn race<T, F>(
    b: &Bench,
    count: usize,
    call: impl Fn(Arc<dyn Filesystem>, VPath, usize) -> F,
) -> Result<Vec<Result<T, Error>>, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let tasks = (0..count).map(|i| tokio::spawn(call(Arc::clone(&b.fs), b.root.clone(), i)));
    let done = futures_util::future::join_all(tasks.collect::<Vec<_>>()).await;
    done.into_iter().map(|r| r.map_err(|e| Failure(format!("a call panicked: {e}")))).collect()
}

/// Exactly one won, the others failed in one of these ways.
fn one_won<T>(b: &Bench, done: &[Result<T, Error>], due: &[ErrorKind]) -> Outcome {
    let won = done.iter().filter(|r| r.is_ok()).count();
    check!(won == 1, "{won} won; {:?}", done.iter().filter_map(|r| r.as_ref().err()).collect::<Vec<_>>());
    for e in done.iter().filter_map(|r| r.as_ref().err()) {
        check!(b.is_due(e.kind(), due), "a loser failed with {:?}: {e:#}", e.kind());
    }
    Ok(())
}

suite! { "concurrency";
    /// Many files written at the same time do not mix.
    many_files_at_a_time(b) needs |_, _| true => {
        let done = race(b, 24, |fs, root, i| async move {
            fs.write_all(&root.join(format!("f{i}"))?, Bytes::from(noise(i as u64, 60_000))).await
        });
        for r in done.await? {
            r?;
        }
        for i in 0..24u64 {
            check!(b.content(&b.at(format!("f{i}"))?).await? == noise(i, 60_000), "f{i} differs");
        }
    }
    /// Of many who create the same file exclusively, one does.
    one_exclusive_creation_wins(b) needs |_, p| p.exclusive_creation => {
        let done = race(b, 12, |fs, root, i| async move {
            let options = OpenOptions { exclusive: true, ..OpenOptions::create() };
            let file = fs.open(&root.join("f")?, &options).await?;
            file.write_at(0, Bytes::from(vec![i as u8; 100])).await?;
            file.commit(&Default::default()).await
        });
        // Where writing is staged, some lose at their commit.
        let verdict = if b.profile.staged && b.profile.close_only { ErrorKind::Internal } else { ErrorKind::AlreadyExists };
        one_won(b, &done.await?, &[ErrorKind::AlreadyExists, verdict])?;
        let content = b.content(&b.at("f")?).await?;
        check!(content.len() == 100 && content.iter().all(|x| Some(x) == content.first()), "the content is mixed");
    }
    /// Of many who make the same directory, one does.
    one_directory_is_made(b) needs |c, _| c.empty_dirs => {
        let done = race(b, 12, |fs, root, _| async move {
            fs.create_dir(&root.join("d")?, &Attributes::none()).await
        });
        one_won(b, &done.await?, &[ErrorKind::AlreadyExists])?;
    }
    /// Of many who rename to the same free name, one does, and no file is lost.
    one_rename_wins(b) needs |c, p| c.rename && p.precise_errors && p.whole_renames => {
        for i in 0..12 {
            b.file(format!("f{i}"), format!("{i}").as_bytes()).await?;
        }
        let done = race(b, 12, |fs, root, i| async move {
            fs.rename(&root.join(format!("f{i}"))?, &root.join("to")?, Replace::No).await
        });
        one_won(b, &done.await?, &[ErrorKind::AlreadyExists])?;
        same!(b.names(&b.root).await?.len(), 12);
    }
    /// Of many who rename the same file, one does.
    one_mover_wins(b) needs |c, p| c.rename && p.whole_renames => {
        b.file("f", b"x").await?;
        let done = race(b, 12, |fs, root, i| async move {
            fs.rename(&root.join("f")?, &root.join(format!("to{i}"))?, Replace::No).await
        });
        one_won(b, &done.await?, &[ErrorKind::NotFound])?;
        same!(b.names(&b.root).await?.len(), 1);
    }
    /// Of many who remove the same file, one does.
    one_removal_wins(b) needs |c, p| c.remove && p.whole_renames => {
        b.file("f", b"x").await?;
        let done = race(b, 12, |fs, root, _| async move { fs.remove_file(&root.join("f")?).await });
        one_won(b, &done.await?, &[ErrorKind::NotFound])?;
    }
    /// Two handles write two halves of one file.
    two_handles_write_two_halves(b) needs |c, _| c.random_write => {
        b.file("f", &[0; 200_000]).await?;
        let done = race(b, 2, |fs, root, i| async move {
            let file = fs.open(&root.join("f")?, &OpenOptions::update()).await?;
            for k in 0..10u64 {
                let part = Bytes::from(vec![i as u8 + 1; 10_000]);
                file.write_at(i as u64 * 100_000 + k * 10_000, part).await?;
            }
            file.commit(&Default::default()).await
        });
        for r in done.await? {
            r?;
        }
        let content = b.content(&b.at("f")?).await?;
        check!(content == [vec![1; 100_000], vec![2; 100_000]].concat(), "the halves are mixed");
    }
    /// What two handles append is all there, each piece whole.
    appends_are_not_lost(b) needs |c, _| c.append => {
        b.file("f", b"").await?;
        let done = race(b, 4, |fs, root, i| async move {
            let options = OpenOptions { write: true, append: true, ..Default::default() };
            let file = fs.open(&root.join("f")?, &options).await?;
            for _ in 0..20 {
                file.write_at(0, Bytes::from(vec![b'a' + i as u8; 8])).await?;
            }
            file.commit(&Default::default()).await
        });
        for r in done.await? {
            r?;
        }
        let content = b.content(&b.at("f")?).await?;
        same!(content.len(), 4 * 20 * 8);
        check!(content.chunks(8).all(|c| c.iter().all(|x| Some(x) == c.first())), "pieces are torn");
    }
    /// While a file is published again and again, readers see one whole version.
    publishing_is_never_torn(b) needs |_, p| p.stages => {
        let size = 100_000;
        let path = b.file("f", &vec![0u8; size]).await?;
        let done = race(b, 8, |fs, root, i| async move {
            let to = root.join("f")?;
            for k in 0..5u8 {
                if i % 2 == 0 {
                    let (id, file) = fs.stage(&Stage::New { near: to.clone(), note: Bytes::new() }).await?;
                    file.write_at(0, Bytes::from(vec![i as u8 * 8 + k; 100_000])).await?;
                    file.commit(&Default::default()).await?;
                    fs.publish(&id, &to, Replace::Yes, false).await?;
                } else {
                    let content = fs.read_to_vec(&to, 1 << 20).await?;
                    if content.len() != 100_000 || content.iter().any(|x| Some(x) != content.first()) {
                        return Err(Error::new(ErrorKind::Corrupt).with_detail("a torn version was read"));
                    }
                }
            }
            Ok(())
        });
        for r in done.await? {
            r?;
        }
        same!(b.content(&path).await?.len(), size);
    }
    /// While written files replace each other, one whole version remains where writing is staged.
    overwriting_is_never_torn(b) needs |_, p| p.is_whole() => {
        let done = race(b, 8, |fs, root, i| async move {
            fs.write_all(&root.join("f")?, Bytes::from(vec![i as u8; 100_000])).await
        });
        done.await?;
        let content = b.content(&b.at("f")?).await?;
        check!(content.len() == 100_000 && content.iter().all(|x| Some(x) == content.first()), "a mixture remains");
    }
    /// Many files are open at the same time, each with its own content.
    many_open_files(b) needs |_, _| true => {
        let mut open = Vec::new();
        for i in 0..64u64 {
            let path = b.file(format!("f{i}"), &noise(i, 1000)).await?;
            open.push((i, b.open(&path, OpenOptions::read()).await?));
        }
        for (i, file) in open {
            check!(read_range(&*file, 0, 2000).await? == noise(i, 1000), "f{i} differs");
        }
    }
    /// Trees made and removed at the same time do not disturb each other.
    trees_beside_each_other(b) needs |c, _| c.empty_dirs && c.remove => {
        let done = race(b, 8, |fs, root, i| async move {
            let top = root.join(format!("t{i}"))?;
            for _ in 0..3 {
                fs.create_dir_all(&top.join("a")?.join("b")?).await?;
                fs.write_all(&top.join("a")?.join("f")?, Bytes::from_static(b"x")).await?;
                fs.remove_dir_all(&top).await?;
            }
            Ok(())
        });
        for r in done.await? {
            r?;
        }
        same!(b.names(&b.root).await?.len(), 0);
    }
    /// Many who make the same levels of directories all succeed.
    the_same_levels_at_a_time(b) needs |c, p| c.empty_dirs && p.precise_errors => {
        let done = race(b, 12, |fs, root, i| async move {
            fs.create_dir_all(&root.join("a")?.join("b")?.join(format!("c{i}"))?).await
        });
        for r in done.await? {
            r?;
        }
        same!(b.names(&b.at("a/b")?).await?.len(), 12);
        check!(b.fs.stat(&b.at("a")?, Follow::Yes).await?.is_dir(), "it is no directory");
    }
}
