//! Uploads in chunks, as Nextcloud takes them ("Chunked file upload v2" of its developer manual): a folder is made
//! under `uploads/USER`, chunks are put into it by their numbers, and moving its `.file` puts them together where
//! they belong. Nothing shows there before.
//!
//! Such a server is known by the path of its files, `…/remote.php/dav/files/USER/`; one that makes no such folder is
//! not tried again. Several chunks go at a time; what waits in memory is bounded by them. An upload that is given up
//! is thrown away, unless it is kept: then its words (the size of its chunks and of the file, and its id) open it
//! again, from any process. A chunk that is there with its right size is believed: the server tells of no digest, and
//! who goes on with an upload knows that the file is the one that it was begun with. The server itself throws away
//! what nobody has touched for a day; until then what was begun and never ended is listed and thrown away by its id
//! ([`WebdavRemote::uploads`]): the server does not tell where it would have gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use hyper::Method;
use hyper::header::HeaderName;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{OpenOptions, Unfinished};
use session_core::path::VPath;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::call::Ask;
use super::list;
use super::place::encode;
use super::props;
use super::refine::status_of;
use super::remote::{Remote, WebdavRemote};

/// Where ownCloud and its kin are told the time of what is sent, and say that they have taken it.
pub(super) const OC_MTIME: HeaderName = HeaderName::from_static("x-oc-mtime");
const OC_TOTAL_LENGTH: HeaderName = HeaderName::from_static("oc-total-length");
const DESTINATION: HeaderName = HeaderName::from_static("destination");
const OVERWRITE: HeaderName = HeaderName::from_static("overwrite");

/// The least that a chunk may have, the last one apart.
const LEAST: u64 = 5 << 20;
/// The most that one may have, in words that come from elsewhere: it is held in memory.
const LARGEST: u64 = 1 << 30;
/// Chunks of a file, at most.
const MOST: u64 = 10_000;
/// Chunks on their way at a time, and what they may hold together where one is not more than that.
const PARALLEL: u64 = 3;
const IN_MEMORY: u64 = 64 << 20;
/// How often it is looked whether the server has put a file together.
const LOOK: Duration = Duration::from_secs(2);

/// Where a server takes uploads in chunks.
pub(super) struct Chunks {
    /// The user's files.
    files: VPath,
    /// The user's uploads.
    uploads: VPath,
    /// It does not take them after all.
    off: AtomicBool,
}

impl Chunks {
    /// Those of a server whose files are entered at `home`.
    pub(super) fn of(home: &VPath) -> Option<Self> {
        let names: Vec<&[u8]> = home.segments().collect();
        let at = names.windows(4).position(|w| w.starts_with(&[&b"remote.php"[..], b"dav", b"files"]))?;
        let (before, user) = (names.get(..at + 2)?, names.get(at + 3)?);
        let mut dav = VPath::root();
        for name in before {
            dav = dav.join(name).ok()?;
        }
        let of = |kind: &str| dav.join(kind).and_then(|d| d.join(user)).ok();
        Some(Chunks { files: of("files")?, uploads: of("uploads")?, off: AtomicBool::new(false) })
    }

    fn take(&self, path: &VPath) -> bool {
        !self.off.load(Ordering::Relaxed) && *path != self.files && path.starts_with(&self.files)
    }
}

/// What names an upload that is kept, without the path of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words {
    chunk: u64,
    size: u64,
    id: String,
}

impl Words {
    fn text(&self) -> Arc<str> {
        format!("nextcloud 1 {} {} {}", self.chunk, self.size, self.id).into()
    }

    /// `None` for words that are not ours.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("nextcloud 1 ")?;
        let mut fields = rest.splitn(3, ' ');
        let (chunk, size) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let id = fields.next()?;
        let fits = (1..=LARGEST).contains(&chunk)
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !id.is_empty();
        fits.then(|| Words { chunk, size, id: id.to_owned() })
    }
}

/// The size of the chunks of a file.
fn chunk_size(usual: u64, size: u64) -> u64 {
    usual.max(LEAST).max(size.div_ceil(MOST))
}

/// An upload under way.
pub(super) struct Chunked {
    remote: Arc<Remote>,
    to: VPath,
    dir: VPath,
    words: Words,
    /// Chunks on their way. Dropped, they are given up.
    jobs: JoinSet<Result<()>>,
    /// The next chunk, as far as it has come, and its number.
    rest: BytesMut,
    next: u64,
    /// Sizes of the chunks that the server held when the upload was opened again, by number.
    there: HashMap<u64, u64>,
    /// Bytes that did not have to be sent.
    spared: Arc<AtomicU64>,
    /// It outlives its file.
    keeps: bool,
    /// There is nothing to throw away any more.
    over: bool,
}

impl Drop for Chunked {
    /// Nobody goes on with it: it is thrown away, in the background.
    fn drop(&mut self) {
        if self.over || self.keeps {
            return;
        }
        self.jobs.abort_all();
        let (remote, dir) = (Arc::clone(&self.remote), self.dir.clone());
        let mut jobs = std::mem::take(&mut self.jobs);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A chunk that arrives afterwards would stay.
                while jobs.join_next().await.is_some() {}
                let _ = remote.throw_away(&dir).await;
            });
        }
    }
}

impl Chunked {
    /// The upload of a file that is opened like this: the one that its words name, as far as it can be gone on with,
    /// else a new one. `None` where the file goes in one piece. Errors: those of the wire.
    pub(super) async fn open(
        remote: &Arc<Remote>,
        to: &VPath,
        options: &OpenOptions,
        spared: &Arc<AtomicU64>,
    ) -> Result<Option<Self>> {
        let Some(chunks) = remote.chunks.as_ref().filter(|c| c.take(to)) else { return Ok(None) };
        let known = options.unfinished.as_deref().filter(|_| options.truncate).and_then(Words::parse);
        if let Some(words) = known
            && let Some(upload) = Self::reopen(remote, to, options, spared, words).await?
        {
            return Ok(Some(upload));
        }
        let usual = remote.options.chunk;
        let Some(size) = options.size_hint.filter(|size| usual > 0 && *size > usual) else { return Ok(None) };
        let words = Words { chunk: chunk_size(usual, size), size, id: new_id()? };
        let dir = chunks.uploads.join(&words.id)?;
        let ask = Ask::dav("MKCOL", encode(&dir, true))?.with(DESTINATION, &remote.destination(to, false))?;
        match remote.wire.call(ask).await?.done().await {
            Ok(()) => Ok(Some(Self::new(remote, to, dir, words, spared))),
            // No server of that kind, or none that lets this user.
            Err(e) if matches!(status_of(&e), Some(403 | 404 | 405 | 409 | 501)) => {
                chunks.off.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn new(remote: &Arc<Remote>, to: &VPath, dir: VPath, words: Words, spared: &Arc<AtomicU64>) -> Self {
        Chunked {
            remote: Arc::clone(remote),
            to: to.clone(),
            dir,
            words,
            jobs: JoinSet::new(),
            rest: BytesMut::new(),
            next: 1,
            there: HashMap::new(),
            spared: Arc::clone(spared),
            keeps: false,
            over: false,
        }
    }

    /// The one that these words name, if the server still has it and the file has its size; one of another size is
    /// thrown away.
    async fn reopen(
        remote: &Arc<Remote>,
        to: &VPath,
        options: &OpenOptions,
        spared: &Arc<AtomicU64>,
        words: Words,
    ) -> Result<Option<Self>> {
        let Some(chunks) = &remote.chunks else { return Ok(None) };
        let dir = chunks.uploads.join(&words.id)?;
        let fits = options.size_hint.is_none_or(|size| size == words.size);
        let there = match fits {
            true => held(remote, &dir).await.map(Some),
            false => remote.throw_away(&dir).await.map(|()| None),
        };
        match there {
            Ok(Some(there)) => {
                let mut upload = Self::new(remote, to, dir, words, spared);
                (upload.there, upload.keeps) = (there, true);
                Ok(Some(upload))
            }
            Ok(None) => Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether it was begun by an earlier file.
    pub(super) fn goes_on(&self) -> bool {
        self.keeps
    }

    /// Lets the upload outlive its file. Where it is, and its words.
    pub(super) fn keep(&mut self) -> Kept {
        self.keeps = true;
        Kept { dir: self.dir.clone(), words: self.words.text() }
    }

    /// Takes bytes in, and sends what is full. Errors: `Corrupt` for more than was announced; those of chunks before.
    pub(super) async fn take(&mut self, mut data: Bytes) -> Result<()> {
        let full = usize::try_from(self.words.chunk).unwrap_or(usize::MAX);
        while !data.is_empty() {
            if self.rest.is_empty() {
                self.rest.reserve(full);
            }
            let piece = data.split_to(data.len().min(full - self.rest.len()));
            self.rest.extend_from_slice(&piece);
            if self.rest.len() >= full {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Sends the chunk that has come as soon as there is room for it, if the server does not have it.
    async fn send(&mut self) -> Result<()> {
        let (number, data) = (self.next, std::mem::take(&mut self.rest).freeze());
        self.next += 1;
        let begin = (number - 1).saturating_mul(self.words.chunk);
        if begin + data.len() as u64 > self.words.size {
            return Err(Error::new(ErrorKind::Corrupt)
                .with_detail("the file is longer than was said when it was opened"));
        }
        let parallel = (IN_MEMORY / self.words.chunk).clamp(1, PARALLEL);
        while self.jobs.len() as u64 >= parallel {
            self.joined().await?;
        }
        if self.there.get(&number) == Some(&(data.len() as u64)) {
            self.spared.fetch_add(data.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        let at = self.dir.join(format!("{number:05}"))?;
        let ask = Ask::new(Method::PUT, encode(&at, false))
            .with(DESTINATION, &self.remote.destination(&self.to, false))?
            .with(OC_TOTAL_LENGTH, &self.words.size.to_string())?
            .patience(self.remote.options.patience())
            .body(data);
        let remote = Arc::clone(&self.remote);
        self.jobs.spawn(async move { remote.wire.call(ask).await?.done().await });
        Ok(())
    }

    async fn joined(&mut self) -> Result<()> {
        match self.jobs.join_next().await {
            Some(done) => done.map_err(|e| Error::new(ErrorKind::Canceled).with_source(e))?,
            None => Ok(()),
        }
    }

    /// Sends the rest, and has the chunks put together. Whether the server has taken the time. Errors: those of
    /// chunks; the server's refusal.
    pub(super) async fn finish(&mut self, exclusive: bool, modified: Option<SystemTime>) -> Result<bool> {
        if !self.rest.is_empty() {
            self.send().await?;
        }
        while !self.jobs.is_empty() {
            self.joined().await?;
        }
        let remote = &self.remote;
        let mut ask = Ask::dav("MOVE", encode(&self.dir.join(".file")?, false))?
            .with(DESTINATION, &remote.destination(&self.to, false))?
            .with(OVERWRITE, if exclusive { "F" } else { "T" })?
            .with(OC_TOTAL_LENGTH, &self.words.size.to_string())?
            .patience(remote.options.patience())
            .once();
        if let Some(time) = modified {
            ask = ask.with(OC_MTIME, &props::seconds(time)?.to_string())?;
        }
        let ask = remote.under_locks(ask, &[&self.to])?;
        let moved = async {
            let answered = remote.wire.call(ask).await?.success().await?;
            let timed = answered.header(OC_MTIME).is_some_and(|v| v.eq_ignore_ascii_case("accepted"));
            answered.done().await.map(|()| timed)
        };
        let timed = match moved.await {
            Ok(timed) => timed,
            Err(e) => self.outcome(e).await?,
        };
        self.over = true;
        Ok(timed)
    }

    /// What became of a file whose putting together nobody answered for: it may take the server longer than proxies
    /// in front of it wait.
    async fn outcome(&self, e: Error) -> Result<bool> {
        let unsure = matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut)
            || matches!(status_of(&e), Some(502 | 504));
        if !unsure {
            return Err(e);
        }
        let until = Instant::now() + self.remote.options.patience();
        while Instant::now() < until {
            match self.remote.look(&self.dir).await {
                Err(gone) if gone.kind() == ErrorKind::NotFound => {
                    let there = self.remote.look(&self.to).await;
                    return there.is_ok_and(|m| m.size == self.words.size).then_some(false).ok_or(e);
                }
                Err(other) if other.kind() == ErrorKind::Canceled => break,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        Err(e)
    }

    /// Throws it away, and waits for that.
    pub(super) async fn abort(mut self) -> Result<()> {
        self.jobs.shutdown().await;
        let thrown = self.remote.throw_away(&self.dir).await;
        self.over = thrown.is_ok();
        thrown
    }
}

/// An upload that outlives its file.
pub(super) struct Kept {
    pub(super) dir: VPath,
    words: Arc<str>,
}

impl Kept {
    pub(super) fn unfinished(&self, spared: &AtomicU64) -> Unfinished {
        Unfinished { words: Arc::clone(&self.words), spared: spared.load(Ordering::Relaxed) }
    }
}

/// The chunks of an upload that the server holds: their sizes by number. Errors: `NotFound` for an upload that is
/// not there any more.
async fn held(remote: &Remote, dir: &VPath) -> Result<HashMap<u64, u64>> {
    let mut pages = list::open(&remote.wire, dir, false).await?;
    let mut all = HashMap::new();
    while let Some(page) = pages.next_page().await? {
        for entry in page {
            let number = std::str::from_utf8(&entry.name).ok().and_then(|n| n.parse().ok());
            // What has other names is not ours to know; it is bounded by what we put there.
            if let Some(number) = number.filter(|n| (1..=MOST).contains(n)) {
                all.insert(number, entry.metadata.size);
            }
        }
    }
    Ok(all)
}

fn new_id() -> Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|_| Error::new(ErrorKind::Internal).with_detail("no randomness"))?;
    let hex: String = random.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("ferry-{hex}"))
}

impl Remote {
    /// Throws an upload away; none is fine.
    pub(super) async fn throw_away(&self, dir: &VPath) -> Result<()> {
        match self.delete(dir, true).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            thrown => thrown,
        }
    }
}

/// An upload in chunks that was begun and is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its name at the server.
    pub id: String,
    /// When something last came of it, where the server tells.
    pub touched: Option<SystemTime>,
    /// Bytes of it that the server holds.
    pub held: u64,
}

impl Pending {
    /// The size in bytes of the file that is sent, if these words of [`session_core::fs::File::keep`] name this upload.
    pub fn size_by(&self, words: &str) -> Option<u64> {
        Words::parse(words).filter(|words| words.id == self.id).map(|words| words.size)
    }
}

impl WebdavRemote {
    /// The uploads in chunks that this user has begun by whatever program, in the order of their ids. Errors:
    /// `Unsupported` where the server takes none; those of listing.
    pub async fn uploads(&self) -> Result<Vec<Pending>> {
        let (remote, chunks) = self.chunks()?;
        let mut pages = list::open(&remote.wire, &chunks.uploads, false).await?;
        let mut all = Vec::new();
        while let Some(page) = pages.next_page().await? {
            for entry in page.into_iter().filter(|entry| entry.metadata.is_dir()) {
                let there = match held(remote, &chunks.uploads.join(&entry.name)?).await {
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    there => there?,
                };
                let id = String::from_utf8_lossy(&entry.name).into_owned();
                all.push(Pending { id, touched: entry.metadata.modified, held: there.values().sum() });
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Throws an upload away; one that is not there any more is fine. Errors: those of removing.
    pub async fn abort_upload(&self, upload: &Pending) -> Result<()> {
        let (remote, chunks) = self.chunks()?;
        remote.throw_away(&chunks.uploads.join(&upload.id)?).await
    }

    fn chunks(&self) -> Result<(&Remote, &Chunks)> {
        let chunks = self.0.chunks.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported)
                .with_detail("this server takes no uploads in chunks")
                .with_hint("name the files of a Nextcloud: davs://host/remote.php/dav/files/USER")
        })?;
        Ok((&self.0, chunks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(path: &str) -> VPath {
        VPath::absolute(path).unwrap()
    }

    #[test]
    fn the_path_of_the_files_tells_the_server() {
        let found = |home: &str| Chunks::of(&p(home)).map(|c| (c.files, c.uploads));
        let due = Some((p("/nc/remote.php/dav/files/al"), p("/nc/remote.php/dav/uploads/al")));
        assert_eq!(found("/nc/remote.php/dav/files/al"), due);
        assert_eq!(found("/nc/remote.php/dav/files/al/deep/er"), due);
        for none in ["/", "/remote.php/dav/files", "/remote.php/webdav/a/b", "/remote.php/dav/calendars/al"] {
            assert_eq!(found(none), None, "{none}");
        }
        let chunks = Chunks::of(&p("/remote.php/dav/files/al/x")).unwrap();
        assert!(chunks.take(&p("/remote.php/dav/files/al/y")));
        assert!(!chunks.take(&p("/remote.php/dav/files/al")) && !chunks.take(&p("/other/y")));
    }

    #[test]
    fn words_come_back_as_they_were() {
        let words = Words { chunk: 10 << 20, size: 1 << 40, id: new_id().unwrap() };
        assert_eq!(Words::parse(&words.text()), Some(words));
        let huge = format!("nextcloud 1 {} {} a", u64::MAX, u64::MAX);
        for bad in
            ["", "nextcloud 1 5 6 ", "nextcloud 1 0 6 a", "nextcloud 2 5 6 a", "nextcloud 1 5 6 ../a", &huge]
        {
            assert_eq!(Words::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn chunks_are_large_enough_and_not_too_many() {
        assert_eq!(chunk_size(10 << 20, 11 << 20), 10 << 20);
        assert_eq!(chunk_size(1, 11 << 20), LEAST);
        let huge = chunk_size(10 << 20, 1 << 40);
        assert!((1u64 << 40).div_ceil(huge) <= MOST && huge > 10 << 20);
    }
}
