//! Staging at the far end of a gateway: an upload has a temporary name there, and the one that it was sent under when it
//! is complete and judged.
//!
//! The temporary names are in a folder beside all others, or, where that cannot be made, in the folder of the file;
//! neither is seen from here. What publishes is a rename, in one step where the other server's is. A part whose
//! protocol writes one stream is closed before it is read, and is not written any more then.
//!
//! Deliberately absent: taking up what a former run left behind, which is told apart by its names alone.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::*;
use session_core::metadata::{Attributes, FileType, Metadata};
use session_core::path::VPath;
use tokio::sync::OnceCell;

use super::Far;

/// Where temporary names are, in the folder that a gateway shows.
const FOLDER: &[u8] = b".ferry-staging";
/// How one begins and ends.
const BEGIN: &[u8] = b".ferry-";
const END: &[u8] = b".part";

/// What no other name has.
fn fresh() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// Whether an entry of this name, directly in the root or deeper, is one of ours.
pub(super) fn is_hidden(name: &[u8], in_root: bool) -> bool {
    in_root && name == FOLDER || is_part(name)
}

fn is_part(name: &[u8]) -> bool {
    let middle = name.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    middle.is_some_and(|m| m.len() == 32 && m.iter().all(u8::is_ascii_hexdigit))
}

/// Errors: `NotFound` for what is not seen from here.
pub(super) fn seen(path: &VPath) -> Result<()> {
    if path.segments().next() == Some(FOLDER) || is_part(path.name()) {
        return Err(ErrorKind::NotFound.into());
    }
    Ok(())
}

/// A name for what will be published at `near`. Errors: `NotFound`, `NotADirectory` of its folder.
pub(super) async fn place(far: &Far, near: &VPath) -> Result<VPath> {
    let parent = near.parent().unwrap_or_else(VPath::root);
    if !far.stat(&parent).await?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    let folder = VPath::root().join(FOLDER)?;
    let own = far.staging.get_or_try_init(|| async {
        match far.create_dir(&folder, &Attributes::none()).await {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(true),
            Err(e) if e.kind() == ErrorKind::Disconnected => Err(e),
            Err(_) => Ok(far.stat(&folder).await.is_ok_and(|there| there.is_dir())),
        }
    });
    let within = if *own.await? { folder } else { parent };
    within.join([BEGIN, fresh().as_bytes(), END].concat())
}

/// An upload under way.
pub(super) struct Part {
    far: Arc<Far>,
    at: VPath,
    /// How it is written.
    options: OpenOptions,
    writer: OnceCell<Arc<dyn File>>,
    /// It is complete over there.
    closed: OnceCell<Metadata>,
    reader: OnceCell<Arc<dyn File>>,
}

impl Part {
    /// A new one, which will be published at `near`. Errors: `NotFound`, `NotADirectory` of its folder.
    pub(super) async fn new(far: &Arc<Far>, near: &VPath) -> Result<Part> {
        let part = Part::of(far, place(far, near).await?, OpenOptions::create()).await?;
        part.writer().await?;
        Ok(part)
    }

    /// One that was left before it was complete. Errors: `NotFound`, also where it cannot be gone on with.
    pub(super) async fn again(far: &Arc<Far>, at: VPath) -> Result<Part> {
        far.stat(&at).await?;
        if !far.known().await?.continue_write {
            // Whoever sends it begins anew.
            return Err(ErrorKind::NotFound.into());
        }
        Part::of(far, at, OpenOptions { write: true, ..OpenOptions::default() }).await
    }

    async fn of(far: &Arc<Far>, at: VPath, options: OpenOptions) -> Result<Part> {
        let options = OpenOptions { read: far.known().await?.random_write, ..options };
        let (writer, closed, reader) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Ok(Part { far: Arc::clone(far), at, options, writer, closed, reader })
    }

    async fn writer(&self) -> Result<&Arc<dyn File>> {
        self.writer.get_or_try_init(|| self.far.open(&self.at, &self.options)).await
    }

    pub(super) fn id(&self) -> StageId {
        StageId(String::from_utf8_lossy(self.at.as_bytes()).into())
    }

    /// All of it is over there.
    pub(super) async fn finish(&self) -> Result<&Metadata> {
        let closing = || async {
            match self.writer.get() {
                Some(writer) => writer.commit(&CommitOptions::default()).await,
                None => self.far.stat(&self.at).await,
            }
        };
        self.closed.get_or_try_init(closing).await
    }

    fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Nobody wants it.
    pub(super) async fn give_up(&self) {
        if let (Some(writer), false) = (self.writer.get(), self.is_closed()) {
            let _ = writer.abort().await;
        }
    }

    async fn reader(&self) -> Result<&Arc<dyn File>> {
        self.finish().await?;
        self.reader.get_or_try_init(|| async { self.far.open(&self.at, &OpenOptions::read()).await }).await
    }
}

#[async_trait]
impl File for Part {
    async fn read_into(&self, offset: u64, len: usize, buf: BytesMut) -> Result<BytesMut> {
        if self.options.read && !self.is_closed() {
            return self.writer().await?.read_into(offset, len, buf).await;
        }
        self.reader().await?.read_into(offset, len, buf).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<()> {
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail("an upload over this gateway is not changed once it was complete"));
        }
        self.writer().await?.write_at(offset, data).await
    }

    async fn metadata(&self) -> Result<Metadata> {
        match (self.closed.get(), self.writer.get()) {
            (Some(metadata), _) => Ok(metadata.clone()),
            (None, Some(writer)) => writer.metadata().await,
            (None, None) => self.far.stat(&self.at).await,
        }
    }

    async fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        if !self.is_closed() {
            match self.writer().await?.set_attributes(attributes).await {
                // Some set them on what is complete.
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                done => return done,
            }
            self.finish().await?;
        }
        self.far.set_attributes(&self.at, attributes).await
    }

    async fn sync(&self) -> Result<()> {
        match self.writer.get() {
            Some(writer) if !self.is_closed() => writer.sync().await,
            _ => Ok(()),
        }
    }

    async fn settle(&self) -> Result<()> {
        match self.writer.get() {
            Some(writer) if !self.is_closed() => writer.settle().await,
            _ => Ok(()),
        }
    }

    async fn commit(&self, _: &CommitOptions) -> Result<Metadata> {
        self.finish().await.cloned()
    }

    async fn park(&self) -> Result<()> {
        match self.writer.get() {
            Some(writer) if !self.is_closed() => writer.park().await,
            _ => Ok(()),
        }
    }

    async fn abort(&self) -> Result<()> {
        self.give_up().await;
        Ok(())
    }
}

/// Gives what is complete at `at` its name. `keep`: with the permission bits of what it replaces.
pub(super) async fn publish(
    far: &Far,
    at: &VPath,
    to: &VPath,
    replace: Replace,
    keep: bool,
) -> Result<Metadata> {
    let can = far.known().await?;
    let there = if replace == Replace::Yes && (keep && can.set_mode || !can.rename_replaces) {
        far.stat(to).await.ok()
    } else {
        None
    };
    if let Some(mode) = there.as_ref().and_then(|t| t.mode).filter(|_| keep && can.set_mode) {
        // Not worth the upload where it is refused.
        let _ = far.set_attributes(at, &Attributes::mode(mode & 0o7777)).await;
    }
    match there {
        Some(there) if !can.rename_replaces && there.file_type == FileType::File => {
            // In two steps, as there is no other way: what stood there comes back if the second one fails.
            let aside =
                at.parent().unwrap_or_else(VPath::root).join([BEGIN, fresh().as_bytes(), END].concat())?;
            far.rename(to, &aside, Replace::No).await?;
            if let Err(e) = far.rename(at, to, Replace::No).await {
                let _ = far.rename(&aside, to, Replace::No).await;
                return Err(e);
            }
            let _ = far.remove_file(&aside).await;
        }
        _ => far.rename(at, to, replace).await?,
    }
    far.stat(to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_not_seen_and_all_others_are() {
        let part = b".ferry-0123456789abcdef0123456789abcdef.part";
        assert!(is_hidden(FOLDER, true) && !is_hidden(FOLDER, false));
        assert!(is_hidden(part, true) && is_hidden(part, false));
        for name in [&b".ferry"[..], b".ferry-x.part", b".ferry-0123456789abcdef0123456789abcdeg.part", b"a"]
        {
            assert!(!is_hidden(name, true), "{}", name.escape_ascii());
        }
        let p = |path: &str| VPath::absolute(path).unwrap();
        assert!(seen(&p("/a/.ferry-staging")).is_ok() && seen(&p("/")).is_ok());
        for path in
            ["/.ferry-staging", "/.ferry-staging/x", "/d/.ferry-0123456789abcdef0123456789abcdef.part"]
        {
            assert_eq!(seen(&p(path)).unwrap_err().kind(), ErrorKind::NotFound, "{path}");
        }
    }
}
