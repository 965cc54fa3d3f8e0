//! Looking: listings, trees, facts about one entry, digests, space.
//!
//! Nothing here changes the remote. A listing is complete or it is an error. "Missing" and "not allowed" are told
//! apart wherever the server does.

use futures_util::Stream;
use futures_util::stream::unfold;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, Filesystem, Follow, ListOptions, Listing, Space};
use session_core::fs_ext::FilesystemExt;
use session_core::metadata::{DirEntry, Metadata};
use session_core::path::VPath;

use super::command::by_shell;
use super::core::Session;
use super::result::{Matching, RemoteDirectoryInfo, RemoteFileInfo};
use super::source::{local_entries, remote_entries};
use crate::hash::{Proof, digest};
use crate::mask::Wildcard;

/// Levels that an enumeration goes down; a loop of links on the server ends there.
const DEPTH: usize = 256;

/// What [`Session::enumerate_remote_files`] gives. (`EnumerationOptions`)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnumerationOptions {
    /// Go into directories. (`AllDirectories`)
    pub all_directories: bool,
    /// Give directories that fit the mask too. (`MatchDirectories`)
    pub match_directories: bool,
    /// Give every directory, whatever the mask says; needs `all_directories` and excludes
    /// `match_directories`. (`EnumerateDirectories`)
    pub enumerate_directories: bool,
}

/// A directory that is being enumerated.
struct Level {
    dir: VPath,
    listing: Listing,
    page: std::vec::IntoIter<DirEntry>,
}

/// Where an enumeration stands.
struct Walk {
    session: Session,
    mask: Wildcard,
    options: EnumerationOptions,
    levels: Vec<Level>,
    /// A directory to enter before anything else.
    enter: Option<VPath>,
    top: bool,
}

impl Session {
    /// The entries of a directory, by the bytes of their names. Dropped, nothing has changed. Errors: `Closed`,
    /// `NotFound`, `NotADirectory`, `PermissionDenied`; `TooLarge` beyond a million entries (enumerate those).
    pub async fn list_directory(&self, path: impl AsRef<[u8]>) -> Result<RemoteDirectoryInfo> {
        let result = async {
            let open = self.opened_now()?;
            let dir = Session::remote(&open, path.as_ref())?;
            let entries = open.fs.list_all(&dir).await?;
            let info = |e: DirEntry| Ok(RemoteFileInfo { path: dir.join(&e.name)?, metadata: e.metadata });
            Ok(RemoteDirectoryInfo { files: entries.into_iter().map(info).collect::<Result<_>>()? })
        };
        self.told(result.await)
    }

    /// The entries of a directory or of a whole tree, as they arrive: depth first, one page of each open
    /// level in memory. The mask knows `*`, `?` and sets, in any case; nothing and `*.*` are everything.
    /// Links are not entered. A directory below that cannot be listed is an error among the items, and the
    /// rest follows. Errors of its own: `InvalidArgument` for options that contradict each other; an item
    /// that is an error of the first listing is the last.
    pub fn enumerate_remote_files(
        &self,
        path: impl AsRef<[u8]>,
        mask: &str,
        options: EnumerationOptions,
    ) -> Result<impl Stream<Item = Result<RemoteFileInfo>> + Send + Unpin + 'static> {
        if options.enumerate_directories && (!options.all_directories || options.match_directories) {
            return self.told(Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("enumerate_directories needs all_directories and excludes match_directories")));
        }
        let top = self.opened_now().and_then(|open| Session::remote(&open, path.as_ref()));
        let walk = Walk {
            session: self.clone(),
            mask: Wildcard::new(mask.as_bytes()),
            options,
            levels: Vec::new(),
            enter: Some(self.told(top)?),
            top: true,
        };
        Ok(Box::pin(unfold(Some(walk), |walk| async move {
            let mut walk = walk?;
            match walk.next().await {
                Ok(None) => None,
                Ok(Some(info)) => Some((Ok(info), Some(walk))),
                Err(e) => {
                    walk.session.hub().failed(&e);
                    // Nothing follows a first listing that failed, or a session that is over.
                    let over = walk.levels.is_empty() && walk.enter.is_none();
                    let over = over || matches!(e.kind(), ErrorKind::Closed | ErrorKind::Canceled);
                    Some((Err(e), (!over).then_some(walk)))
                }
            }
        })))
    }

    /// The entries that a path names whose last part may be a mask; what is below them is not looked at. A mask
    /// that nothing fits finds nothing. Dropped, nothing has changed. Errors: `NotFound` for a path without a
    /// mask, those of listing.
    pub async fn matching(&self, path: impl AsRef<[u8]>) -> Result<Matching> {
        let result = async { remote_entries(&*self.opened_now()?, path.as_ref(), self.hub()).await };
        self.told(result.await)
    }

    /// The same of a local path, whose mask knows `*` and `?`. Dropped, nothing has changed.
    pub async fn matching_local(&self, path: impl AsRef<std::path::Path>) -> Result<Matching> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = path.as_ref().as_os_str().as_bytes();
        let result = async { local_entries(&*self.opened_now()?, path, self.hub()).await };
        self.told(result.await)
    }

    /// Facts about an entry; of a link, what it leads to, unless `ResolveSymlinks` says no. Dropped, nothing has changed. Errors: `NotFound`,
    /// `PermissionDenied`, `Closed`.
    pub async fn get_file_info(&self, path: impl AsRef<[u8]>) -> Result<RemoteFileInfo> {
        self.told(self.info(path.as_ref()).await)
    }

    /// The same, and `None` for what is missing. What may not be looked at is an error, never "missing". Dropped,
    /// nothing has changed.
    pub async fn try_get_file_info(&self, path: impl AsRef<[u8]>) -> Result<Option<RemoteFileInfo>> {
        match self.info(path.as_ref()).await {
            Ok(info) => Ok(Some(info)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => self.told(Err(e)),
        }
    }

    /// Whether there is an entry, directories too. What may not be looked at is an error, never "no". Dropped,
    /// nothing has changed.
    pub async fn file_exists(&self, path: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.try_get_file_info(path).await?.is_some())
    }

    async fn info(&self, path: &[u8]) -> Result<RemoteFileInfo> {
        let open = self.opened_now()?;
        let path = Session::remote(&open, path)?;
        let follow = if open.options.resolves_links() { Follow::Yes } else { Follow::No };
        let metadata = open.fs.stat(&path, follow).await?;
        Ok(RemoteFileInfo { path, metadata })
    }

    /// What an entry is, a link itself included. Dropped, nothing has changed. Errors: as
    /// [`get_file_info`](Self::get_file_info).
    pub async fn stat(&self, path: impl AsRef<[u8]>, follow: Follow) -> Result<Metadata> {
        let result = async {
            let open = self.opened_now()?;
            open.fs.stat(&Session::remote(&open, path.as_ref())?, follow).await
        };
        self.told(result.await)
    }

    /// The digest of a file and who made it: the server where it can, else this side by reading it. The names are
    /// `sha-256`, `sha1`, `md5`, …, in any case. Dropped, nothing has changed; the server may go on reading for a
    /// while. Errors: `Unsupported` for a name that is not known, `IsADirectory`, and those of reading.
    pub async fn calculate_file_checksum(
        &self,
        algorithm: &str,
        path: impl AsRef<[u8]>,
    ) -> Result<(Vec<u8>, Proof)> {
        let result = async {
            let known = Algorithm::parse(algorithm).ok_or_else(|| {
                let names: Vec<_> = Algorithm::ALL.iter().map(|a| a.name()).collect();
                Error::new(ErrorKind::Unsupported)
                    .with_detail(format!("the digest '{algorithm}' is not known"))
                    .with_hint(format!("known are: {}", names.join(", ")))
            })?;
            let info = self.info(path.as_ref()).await?;
            if info.is_directory() {
                let kind = session_core::operation::OperationKind::Checksum;
                return Err(Error::new(ErrorKind::IsADirectory).at(kind, Some(&info.path)));
            }
            let open = self.opened_now()?;
            if !open.fs.capabilities().checksums
                && let Some(digest) = by_shell(&open, &info.path, known).await
            {
                return Ok((digest, Proof::Shell));
            }
            let (bytes, proof) = digest(&open.fs, &info.path, known).await?;
            Ok((bytes.to_vec(), proof))
        };
        self.told(result.await)
    }

    /// The room there is where a path lies. Dropped, nothing has changed. Errors: `Unsupported` where the server
    /// does not say.
    pub async fn space(&self, path: impl AsRef<[u8]>) -> Result<Space> {
        let result = async {
            let open = self.opened_now()?;
            open.fs.space(&Session::remote(&open, path.as_ref())?).await
        };
        self.told(result.await)
    }
}

impl Walk {
    /// The next entry. After an error of a listing, the walk goes on beside it.
    async fn next(&mut self) -> Result<Option<RemoteFileInfo>> {
        loop {
            if let Some(dir) = self.enter.take() {
                let first = std::mem::take(&mut self.top);
                let open = self.session.opened_now()?;
                let listing = match open.fs.list(&dir, &ListOptions::default()).await {
                    // It was there a moment ago: whoever took it away has nothing to list.
                    Err(e) if e.kind() == ErrorKind::NotFound && !first => continue,
                    listing => listing?,
                };
                self.levels.push(Level { dir, listing, page: Vec::new().into_iter() });
            }
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(entry) = level.page.next() else {
                match level.listing.next_page().await {
                    Ok(Some(page)) => level.page = page.into_iter(),
                    Ok(None) => drop(self.levels.pop()),
                    Err(e) => {
                        self.levels.pop();
                        return Err(e);
                    }
                }
                continue;
            };
            let path = level.dir.join(&entry.name)?;
            let is_dir = entry.metadata.is_dir();
            if is_dir && self.options.all_directories && self.levels.len() < DEPTH {
                self.enter = Some(path.clone());
            }
            let fits = || self.mask.matches(&entry.name);
            let given = match is_dir {
                true if self.options.enumerate_directories => true,
                true => self.options.match_directories && fits(),
                false => fits(),
            };
            if given {
                return Ok(Some(RemoteFileInfo { path, metadata: entry.metadata }));
            }
        }
    }
}
