//! The conformance suite: what every filesystem promises, written once and run over all of them.
//!
//! A [`Case`] is one promise in a user's terms, a condition on the capabilities, and an async function over
//! a [`Bench`]. Cases share nothing: each gets a fresh directory, so they run in parallel and in any order,
//! over a store, a layer or a remote. They never panic; a broken promise is a [`Failure`] with the line
//! that saw it. A [`Profile`] says what a path to a store cannot carry; it loosens checks, it never
//! excuses wrong content.
//!
//! Deliberately absent: speed, and what only one protocol or store promises.

mod attributes;
mod cancel;
mod commit;
mod concurrency;
mod dirs;
mod errors;
mod honesty;
mod links;
mod list;
mod names;
mod read;
mod rename;
mod stage;
mod staging;
mod stat;
mod write;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind};
use crate::fs::{File, Filesystem, ListOptions, OpenOptions};
use crate::fs_ext::FilesystemExt as _;
use crate::metadata::Attributes;
use crate::path::VPath;

/// How long one case may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many cases run at a time.
const AT_A_TIME: usize = 8;

/// A promise that was not kept: where, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(e: Error) -> Self {
        let at = std::panic::Location::caller();
        Failure(format!("{}:{}: unexpected error {:?}: {e:#}", at.file(), at.line(), e.kind()))
    }
}

/// What a case returns.
pub type Outcome = Result<(), Failure>;

/// The body of a case.
pub type Run = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// One promise.
#[derive(Clone, Copy)]
pub struct Case {
    /// `file::what_is_promised`.
    pub name: &'static str,
    /// The promise in a user's terms, one sentence.
    pub doc: &'static str,
    /// Whether a filesystem with these capabilities, reached like that, makes the promise.
    pub needs: fn(&Capabilities, &Profile) -> bool,
    /// Finds out.
    pub run: Run,
}

/// What a filesystem, or the way to it, is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The finest step of a modification time that survives.
    pub time_granularity: Duration,
    /// Names that differ only by case are different names.
    pub case_sensitive: bool,
    /// Links are followed on the other side, so that no call answers with a link.
    pub follows_links: bool,
    /// What is written by path appears at commit only (a staging layer stands above the store).
    pub staged: bool,
    /// What is written shows at its commit, whole, or not at all, though nobody sees it arrive: a staging layer stands
    /// behind a way that has no words for what is under way.
    pub whole: bool,
    /// `stage` and `publish` are within reach (a gate and a protocol's client have none).
    pub stages: bool,
    /// The only ending that the way has is a close: what is let go is published by it, and a verdict on
    /// what was written has no kind of its own.
    pub close_only: bool,
    /// A name that stands for another file than before can be told from one that does not.
    pub knows_files: bool,
    /// Errors carry their exact kind; without, any error will do where one is due.
    pub precise_errors: bool,
    /// A kind that the wire has no word for is found by looking: where there is nothing to see (an upload
    /// of somebody else), an error has its words and no kind.
    pub infers_kinds: bool,
    /// A link has times of its own, which can be set.
    pub link_times: bool,
    /// Names may be any bytes but NUL and slash; without, only UTF-8.
    pub byte_names: bool,
    /// Names may hold control characters, and spaces at their ends.
    pub awkward_names: bool,
    /// Names may hold ends of lines.
    pub line_ends: bool,
    /// Names that differ in Unicode normalisation are different names.
    pub normal_forms: bool,
    /// Bytes that were written are still on their way, and nothing but the end of the file waits for them.
    pub arrives_later: bool,
    /// What was written is there though its commit was given up half way; without, nothing need be.
    pub keeps_given_up: bool,
    /// A file can be created only if it is not there, in one step.
    pub exclusive_creation: bool,
    /// A rename is one step on the other side, of a directory too; without, a file is copied and removed, and a
    /// directory is `CrossDevice`. Nor does a removal tell whether there was something to remove.
    pub whole_renames: bool,
    /// A hole in a file costs nothing, so that very large files can be tried.
    pub sparse: bool,
    /// How many files a large directory has: fewer where each takes long.
    pub crowd: usize,
    /// Also what takes long: directories of 100,000 entries.
    pub thorough: bool,
}

impl Profile {
    /// What the capabilities say, for a filesystem that is called directly.
    pub fn of(capabilities: &Capabilities) -> Self {
        Profile {
            time_granularity: capabilities.mtime_granularity,
            case_sensitive: capabilities.case_sensitive,
            follows_links: capabilities.follows_links,
            staged: false,
            whole: false,
            stages: capabilities.atomic_commit,
            close_only: false,
            knows_files: true,
            precise_errors: capabilities.precise_errors,
            infers_kinds: false,
            link_times: true,
            byte_names: true,
            awkward_names: true,
            line_ends: true,
            normal_forms: true,
            arrives_later: false,
            keeps_given_up: true,
            exclusive_creation: true,
            whole_renames: true,
            sparse: true,
            crowd: 3000,
            thorough: false,
        }
    }

    /// Whether new content appears in one step.
    fn is_whole(&self) -> bool {
        self.staged || self.whole
    }
}

/// Uploads the content to the path in another session of the account, which is lost before the end. Done
/// when the server has noticed.
pub type Leave = Arc<dyn Fn(VPath, Bytes) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Where a case works.
pub struct Bench {
    /// The filesystem under test.
    pub fs: Arc<dyn Filesystem>,
    /// Another view of the same content (another connection, another user), where there is one.
    pub other: Option<Arc<dyn Filesystem>>,
    /// Another session of the same account, where there is one.
    pub again: Option<Arc<dyn Filesystem>>,
    /// How an upload is left unfinished, where a file cannot be parked.
    pub leave: Option<Leave>,
    /// A fresh, empty directory of this case.
    pub root: VPath,
    /// What the filesystem is like.
    pub profile: Profile,
    /// What it says of itself, or is known of it.
    pub capabilities: Capabilities,
}

impl Bench {
    /// The path of `name` in the case's directory.
    #[track_caller]
    fn at(&self, name: impl AsRef<[u8]>) -> Result<VPath, Failure> {
        Ok(VPath::parse(&self.root, name.as_ref())?)
    }

    /// A file with this content.
    async fn file(&self, name: impl AsRef<[u8]> + Send, content: &[u8]) -> Result<VPath, Failure> {
        let path = self.at(name)?;
        self.fs.write_all(&path, Bytes::copy_from_slice(content)).await?;
        Ok(path)
    }

    /// An upload of this content that was not finished and is kept.
    async fn leave(&self, path: &VPath, content: &'static [u8]) -> Outcome {
        let content = Bytes::from_static(content);
        if let Some(leave) = &self.leave {
            leave(path.clone(), content).await;
            return Ok(());
        }
        let file = self.open(path, OpenOptions::create()).await?;
        file.write_at(0, content).await?;
        Ok(file.park().await?)
    }

    /// A directory.
    async fn dir(&self, name: impl AsRef<[u8]> + Send) -> Result<VPath, Failure> {
        let path = self.at(name)?;
        self.fs.create_dir(&path, &Attributes::none()).await?;
        Ok(path)
    }

    /// The other view where there is one.
    fn view(&self) -> &Arc<dyn Filesystem> {
        self.other.as_ref().unwrap_or(&self.fs)
    }

    /// The content of a small file, by the other view where there is one.
    async fn content(&self, path: &VPath) -> Result<Vec<u8>, Failure> {
        Ok(self.view().read_to_vec(path, 64 << 20).await?)
    }

    /// The names in a directory, in order of their bytes.
    async fn names(&self, dir: &VPath) -> Result<Vec<Bytes>, Failure> {
        Ok(self.fs.list_all(dir).await?.into_iter().map(|e| e.name).collect())
    }

    /// All entries of a listing, as they come.
    async fn listed(&self, dir: &VPath, options: &ListOptions) -> Result<Vec<Bytes>, Failure> {
        let mut pages = self.fs.list(dir, options).await?;
        let mut names = Vec::new();
        while let Some(page) = pages.next_page().await? {
            if page.is_empty() {
                return Err(Failure("a page of a listing is empty".into()));
            }
            names.extend(page.into_iter().map(|e| e.name));
        }
        Ok(names)
    }

    /// A listing that is expected to fail, at once or with its first page.
    async fn listed_error(&self, dir: &VPath) -> Result<(), Error> {
        self.fs.list(dir, &ListOptions::default()).await?.next_page().await.map(drop)
    }

    async fn open(&self, path: &VPath, options: OpenOptions) -> Result<Arc<dyn File>, Failure> {
        Ok(self.fs.open(path, &options).await?)
    }

    /// Whether a link at this place must be answered as one.
    fn sees_links(c: &Capabilities, p: &Profile) -> bool {
        c.symlinks && !p.follows_links
    }

    /// Whether `kind` is the one that is due for what cannot be seen.
    fn unseen(&self, kind: ErrorKind, due: ErrorKind) -> bool {
        self.is_due(kind, &[due]) || self.profile.infers_kinds && kind == ErrorKind::Internal
    }

    /// Whether `kind` is one of those that are due.
    fn is_due(&self, kind: ErrorKind, due: &[ErrorKind]) -> bool {
        !self.profile.precise_errors || due.contains(&kind)
    }
}

/// Reads a whole range of an open file, however small the pieces that come.
async fn read_range(file: &dyn File, offset: u64, len: usize) -> Result<Vec<u8>, Failure> {
    let mut buf = BytesMut::new();
    while buf.len() < len {
        let before = buf.len();
        buf = file.read_into(offset + before as u64, len - before, buf).await?;
        if buf.len() == before {
            break;
        }
    }
    Ok(buf.to_vec())
}

/// Bytes without a pattern that a shift or a swap could hide in.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Fails unless a condition holds.
macro_rules! check {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure(
                format!("{}:{}: {}", file!(), line!(), format_args!($($words)+)),
            ));
        }
    };
}

/// Fails unless two values are the same.
macro_rules! same {
    ($left:expr, $right:expr) => {
        // A `match` keeps temporaries alive until the values are shown.
        match (&$left, &$right) {
            (left, right) => check!(
                *left == *right,
                "{} is {:.300}, not {:.300}",
                stringify!($left),
                format!("{left:?}"),
                format!("{right:?}")
            ),
        }
    };
}

/// Fails unless a call failed in one of these ways.
macro_rules! fails {
    ($bench:expr, $call:expr, $($kind:ident)|+) => {
        match $call {
            Ok(_) => check!(false, "{} worked, {} was due", stringify!($call), stringify!($($kind)|+)),
            Err(e) => check!(
                $bench.is_due(e.kind(), &[$($crate::error::ErrorKind::$kind),+]),
                "{} failed with {:?} ({e:#}), {} was due",
                stringify!($call),
                e.kind(),
                stringify!($($kind)|+)
            ),
        }
    };
}

/// Fails unless a call was answered with the link at this path.
macro_rules! meets_link {
    ($call:expr, $at:expr, $target:expr) => {
        match $call {
            Ok(_) => check!(false, "{} worked, a link was due", stringify!($call)),
            Err(e) => match e.as_link() {
                Some(link) => {
                    same!(link.at, *$at);
                    same!(link.target.as_slice(), $target.as_slice());
                }
                None => check!(false, "{} failed with {e:#}, a link was due", stringify!($call)),
            },
        }
    };
}

/// The cases of one file.
macro_rules! suite {
    ($file:literal; $(
        #[doc = $doc:literal]
        $name:ident($bench:ident) needs |$c:pat_param, $p:pat_param| $needs:expr => $body:block
    )*) => {
        pub(super) const CASES: &[$crate::conformance::Case] = &[$(
            $crate::conformance::Case {
                name: concat!($file, "::", stringify!($name)),
                doc: $doc.trim_ascii_start(),
                needs: |$c, $p| $needs,
                run: |$bench| Box::pin(async move { $body Ok(()) }),
            },
        )*];
    };
}

use {check, fails, meets_link, same, suite};

/// Every case.
pub fn cases() -> Vec<Case> {
    let files = [
        attributes::CASES,
        cancel::CASES,
        commit::CASES,
        concurrency::CASES,
        dirs::CASES,
        errors::CASES,
        honesty::CASES,
        links::CASES,
        list::CASES,
        names::LIVES,
        names::CASES,
        read::CASES,
        rename::CASES,
        stage::CASES,
        staging::CASES,
        stat::CASES,
        write::CASES,
    ];
    files.concat()
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise is kept.
    Passed,
    /// The promise is not made.
    Skipped,
    /// The promise is broken.
    Failed(Failure),
}

/// What to test.
#[derive(Clone)]
pub struct Subject {
    /// The filesystem under test.
    pub fs: Arc<dyn Filesystem>,
    /// Another view of the same content, where there is one; of another account where `staged`.
    pub other: Option<Arc<dyn Filesystem>>,
    /// Another session of the same account, where there is one; needed where `staged`.
    pub again: Option<Arc<dyn Filesystem>>,
    /// How an upload is left unfinished, where a file cannot be parked.
    pub leave: Option<Leave>,
    /// A directory that exists and may be written into.
    pub root: VPath,
    /// What the filesystem is like.
    pub profile: Profile,
    /// What it can do, where it cannot know that itself: a client knows its protocol, and not what the store behind the
    /// server can do.
    pub can: Option<Capabilities>,
}

impl Subject {
    /// A filesystem that is called directly, at its root.
    pub fn new(fs: Arc<dyn Filesystem>) -> Self {
        let profile = Profile::of(&fs.capabilities());
        Subject { fs, other: None, again: None, leave: None, root: VPath::root(), profile, can: None }
    }
}

/// Runs one case in a fresh directory, which is removed again when the promise is kept and anything can be removed.
pub async fn run_case(case: &Case, subject: &Subject) -> Verdict {
    let capabilities = subject.can.clone().unwrap_or_else(|| subject.fs.capabilities_at(&subject.root));
    // Without these there is no fresh directory to work in.
    let workable = capabilities.write && capabilities.create_dir;
    if !workable || !(case.needs)(&capabilities, &subject.profile) {
        return Verdict::Skipped;
    }
    let made = async {
        let name = format!("{}-{}", case.name.replace("::", "-"), uuid::Uuid::now_v7().simple());
        let root = subject.root.join(name)?;
        subject.fs.create_dir(&root, &Attributes::none()).await?;
        Ok::<_, Failure>(root)
    };
    let root = match made.await {
        Ok(root) => root,
        Err(failure) => return Verdict::Failed(failure),
    };
    let bench = Bench {
        fs: Arc::clone(&subject.fs),
        other: subject.other.clone(),
        again: subject.again.clone(),
        leave: subject.leave.clone(),
        root: root.clone(),
        profile: subject.profile.clone(),
        capabilities: capabilities.clone(),
    };
    match tokio::time::timeout(PATIENCE, (case.run)(&bench)).await {
        // It stays where nothing can be removed.
        Ok(Ok(())) if !capabilities.remove => Verdict::Passed,
        Ok(Ok(())) => match cleared(subject, &root).await {
            Ok(()) => Verdict::Passed,
            Err(e) => Verdict::Failed(Failure(format!("what the case left cannot be removed: {e:#}"))),
        },
        Ok(Err(failure)) => Verdict::Failed(failure),
        Err(_) => Verdict::Failed(Failure(format!("not done after {} s", PATIENCE.as_secs()))),
    }
}

/// Removes what a case left; where the end of an upload arrives after the call, what it leaves may come meanwhile.
async fn cleared(subject: &Subject, root: &VPath) -> crate::error::Result<()> {
    for _ in 0..10 {
        match subject.fs.remove_dir_all(root).await {
            Err(e) if subject.profile.arrives_later && e.kind() == ErrorKind::NotEmpty => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            removed => return removed,
        }
    }
    subject.fs.remove_dir_all(root).await
}

/// How all cases went, in order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Case and verdict.
    pub verdicts: Vec<(&'static str, Verdict)>,
}

impl Report {
    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.verdicts.iter().filter(|(_, v)| *v == Verdict::Passed).count()
    }

    /// The names of the cases whose promise is not made.
    pub fn skipped(&self) -> Vec<&'static str> {
        self.verdicts.iter().filter(|(_, v)| *v == Verdict::Skipped).map(|(n, _)| *n).collect()
    }

    /// The broken promises.
    pub fn failures(&self) -> Vec<(&'static str, &Failure)> {
        self.verdicts
            .iter()
            .filter_map(|(name, verdict)| match verdict {
                Verdict::Failed(failure) => Some((*name, failure)),
                _ => None,
            })
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.failures();
        write!(f, "{} passed, {} skipped, {} failed", self.passed(), self.skipped().len(), failures.len())?;
        for (name, failure) in failures {
            write!(f, "\n  {name}: {failure}")?;
        }
        Ok(())
    }
}

/// Runs every case, several at a time.
pub async fn run_all(subject: &Subject) -> Report {
    let cases = cases();
    let mut verdicts: Vec<_> = futures_util::stream::iter(&cases)
        .map(|case| async move { (case.name, run_case(case, subject).await) })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    verdicts.sort_by_key(|(name, _)| *name);
    Report { verdicts }
}
