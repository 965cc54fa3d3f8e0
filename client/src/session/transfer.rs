//! Transfers between this machine and the server, by WinSCP's rules for sources and targets, over the one
//! batch engine.
//!
//! A source that is a directory goes with its own name and all it holds; the directory that the target
//! names must be there. With `remove`, each source goes after its own success, and a source directory when
//! nothing is left in it. Dropped or aborted in the middle: files that were done stay; of the others the
//! target has the old content or none, and beside it perhaps a `.filepart`, which a later run continues.
//!
//! Each file is told as it ends; with `remove`, before its source goes.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{StreamExt, iter};
use session_core::batch::{
    Ended, Given, ItemOutcome, Observer, TransferItem, TransferOptions, TransferReport,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem, Follow};
use session_core::fs_ext::{Bounds, FilesystemExt};
use session_core::gate::SessionFs;
use session_core::operation::OperationKind;
use session_core::path::{VPath, display_bytes};

use super::core::{Open, Session};
use super::event::{Event, Hub, TransferProgress};
use super::names::renamed;
use super::result::{Outcome, Removal, Side, Transfer, TransferResult};
use super::source::{Source, local_source, remote_source, target};
use crate::batch::{Batch, Job};
use crate::live::{Live, What};
use crate::sync::Recycle;

/// Sources that are removed at once.
const AT_ONCE: usize = 16;

/// One transfer, its arguments read.
struct Plan<'a> {
    open: &'a Open,
    side: Side,
    source: Source,
    /// The directory at the target, and the operation mask.
    target: (VPath, Vec<u8>),
    remove: bool,
    options: &'a TransferOptions,
}

impl Plan<'_> {
    fn follows_links(&self) -> bool {
        self.options.follow_links || self.open.options.follows_links()
    }

    fn from(&self) -> &SessionFs {
        match self.side {
            Side::Local => self.open.local.fs(),
            Side::Remote => &self.open.fs,
        }
    }

    fn to(&self) -> &SessionFs {
        match self.side {
            Side::Local => &self.open.fs,
            Side::Remote => self.open.local.fs(),
        }
    }

    /// For who looks at what runs.
    fn what(&self, jobs: &[Job]) -> What {
        let first = jobs.first().map(|job| &job.from);
        let more = if jobs.len() > 1 { format!(" and {} more", jobs.len() - 1) } else { String::new() };
        let (dir, _) = &self.target;
        let (command, source, target) = match self.side {
            Side::Local => ("put", first.map(VPath::display), self.open.shown(dir)),
            Side::Remote => ("get", first.map(|from| self.open.shown(from)), dir.display()),
        };
        let source = format!("{}{more}", source.unwrap_or_default());
        What { command: command.into(), source, target }
    }
}

fn joined(dir: &[u8], mask: Option<&str>) -> Vec<u8> {
    let mask = mask.filter(|m| !m.is_empty()).unwrap_or("*");
    let slash: &[u8] = if dir.is_empty() || dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash, mask.as_bytes()].concat()
}

fn directory(dir: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.is_empty() || dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash].concat()
}

impl Session {
    /// Fetches what `remote` names to what `local` names; see the module's header and [`TransferOptions`]. A mask
    /// that nothing fits is a success without transfers. Dropped, files that arrived stay, of others there is the
    /// old content or none, and perhaps a `.filepart`, with which a later run goes on; at the remote only sources
    /// are gone that were to be removed and had arrived. Errors of its own: `Closed`, and arguments that are
    /// none; everything else stands in the result.
    pub async fn get_files(
        &self,
        remote: impl AsRef<[u8]>,
        local: impl AsRef<Path>,
        remove: bool,
        options: &TransferOptions,
    ) -> Result<TransferResult> {
        let open = self.told(self.opened_now())?;
        let to = local.as_ref().as_os_str().as_bytes();
        let target = self.told(target(open.local.home(), to))?;
        let source = remote_source(&open, remote.as_ref(), self.hub()).await;
        self.planned(&open, Side::Remote, source, target, remove, options).await
    }

    /// Sends what `local` names to what `remote` names. Dropped, files that arrived stay; of others the remote
    /// has the old content or none, and perhaps a `.filepart`, with which a later run goes on. Errors: as
    /// [`get_files`](Self::get_files).
    pub async fn put_files(
        &self,
        local: impl AsRef<Path>,
        remote: impl AsRef<[u8]>,
        remove: bool,
        options: &TransferOptions,
    ) -> Result<TransferResult> {
        let open = self.told(self.opened_now())?;
        let target = self.told(target(&open.home, remote.as_ref()))?;
        let source = local_source(&open, local.as_ref().as_os_str().as_bytes(), self.hub()).await;
        self.planned(&open, Side::Local, source, target, remove, options).await
    }

    /// Fetches what a mask fits in a remote directory, directories with all they hold; no mask is everything.
    /// Dropped: as [`get_files`](Self::get_files). Errors: as [`get_files`](Self::get_files); `NotFound` for a
    /// local directory that is not there.
    pub async fn get_files_to_directory(
        &self,
        remote_directory: impl AsRef<[u8]>,
        local_directory: impl AsRef<Path>,
        mask: Option<&str>,
        remove: bool,
        options: &TransferOptions,
    ) -> Result<TransferResult> {
        let local = directory(local_directory.as_ref().as_os_str().as_bytes());
        self.told(self.local_directory(&local).await)?;
        let local = Path::new(std::ffi::OsStr::from_bytes(&local));
        self.get_files(joined(remote_directory.as_ref(), mask), local, remove, options).await
    }

    /// Sends what a mask fits in a local directory. Dropped: as [`put_files`](Self::put_files). Errors: as
    /// [`put_files`](Self::put_files).
    pub async fn put_files_to_directory(
        &self,
        local_directory: impl AsRef<Path>,
        remote_directory: impl AsRef<[u8]>,
        mask: Option<&str>,
        remove: bool,
        options: &TransferOptions,
    ) -> Result<TransferResult> {
        let local = joined(local_directory.as_ref().as_os_str().as_bytes(), mask);
        let local = Path::new(std::ffi::OsStr::from_bytes(&local));
        self.put_files(local, directory(remote_directory.as_ref()), remove, options).await
    }

    /// Fetches one file by its exact name into a directory that is there. Dropped: as
    /// [`get_files`](Self::get_files). Errors: `IsADirectory`, `NotFound`, and whatever the transfer failed with.
    pub async fn get_file_to_directory(
        &self,
        remote: impl AsRef<[u8]>,
        local_directory: impl AsRef<Path>,
        remove: bool,
        options: &TransferOptions,
    ) -> Result<Transfer> {
        let ready = async {
            let open = self.opened_now()?;
            let path = Session::remote(&open, remote.as_ref())?;
            let dir = self.local_directory(local_directory.as_ref().as_os_str().as_bytes()).await?;
            only_file(&open.fs, &path).await?;
            Ok((open, path, dir))
        };
        let (open, path, dir) = self.told(ready.await)?;
        self.one(&open, Side::Remote, path, dir, remove, options).await
    }

    /// Sends one file by its exact name into a directory. Dropped: as [`put_files`](Self::put_files). Errors: as
    /// [`get_file_to_directory`](Self::get_file_to_directory).
    pub async fn put_file_to_directory(
        &self,
        local: impl AsRef<Path>,
        remote_directory: impl AsRef<[u8]>,
        remove: bool,
        options: &TransferOptions,
    ) -> Result<Transfer> {
        let ready = async {
            let open = self.opened_now()?;
            let path = VPath::parse(open.local.home(), local.as_ref().as_os_str().as_bytes())?;
            let dir = Session::remote(&open, remote_directory.as_ref())?;
            only_file(open.local.fs(), &path).await?;
            Ok((open, path, dir))
        };
        let (open, path, dir) = self.told(ready.await)?;
        self.one(&open, Side::Local, path, dir, remove, options).await
    }

    async fn local_directory(&self, path: &[u8]) -> Result<VPath> {
        let open = self.opened_now()?;
        let dir = VPath::parse(open.local.home(), path)?;
        if !open.local.fs().stat(&dir, Follow::Yes).await?.is_dir() {
            return Err(Error::new(ErrorKind::NotADirectory).at(OperationKind::List, Some(&dir)));
        }
        Ok(dir)
    }

    async fn one(
        &self,
        open: &Open,
        side: Side,
        path: VPath,
        dir: VPath,
        remove: bool,
        options: &TransferOptions,
    ) -> Result<Transfer> {
        let source = Source { found: vec![path.clone()], ..Source::default() };
        let mut result = self.planned(open, side, Ok(source), (dir, Vec::new()), remove, options).await?;
        // Its failures were told as they came.
        result.check()?;
        result
            .transfers
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::NotFound).at(OperationKind::Open, Some(&path)))
    }

    async fn planned(
        &self,
        open: &Open,
        side: Side,
        source: Result<Source>,
        target: (VPath, Vec<u8>),
        remove: bool,
        options: &TransferOptions,
    ) -> Result<TransferResult> {
        let mut result = TransferResult::default();
        match source {
            Ok(source) => {
                let plan = Plan { open, side, source, target, remove, options };
                if let Err(e) = self.run(&plan, &mut result).await {
                    self.fail(&mut result, e);
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::InvalidArgument | ErrorKind::Unsupported) => {
                return self.told(Err(e));
            }
            Err(e) => drop(self.fail(&mut result, e)),
        }
        Ok(result)
    }

    /// A failure that the engine does not know of: it is told here.
    fn fail(&self, result: &mut TransferResult, e: Error) -> usize {
        self.hub().failed(&e);
        result.failures.push(e);
        result.failures.len() - 1
    }

    async fn run(&self, plan: &Plan<'_>, result: &mut TransferResult) -> Result<()> {
        let (dir, mask) = &plan.target;
        if plan.source.found.is_empty() && plan.source.links.is_empty() {
            return Ok(());
        }
        if plan.remove && plan.follows_links() {
            return Err(Error::new(ErrorKind::Unsupported).with_detail(
                "what lies behind links that are followed ('FollowDirectorySymlinks') is not removed",
            ));
        }
        // Who may put files and not look cannot be asked.
        match plan.to().stat(dir, Follow::Yes).await {
            Ok(m) if !m.is_dir() => {
                return Err(Error::new(ErrorKind::NotADirectory).at(OperationKind::Open, Some(dir)));
            }
            Err(e) if e.kind() != ErrorKind::PermissionDenied => return Err(e),
            _ => {}
        }
        let mut jobs: Vec<Job> = Vec::new();
        let links = plan.source.links.iter().filter(|_| plan.follows_links());
        for from in plan.source.found.iter().chain(links) {
            match renamed(mask, from.name()).and_then(|name| dir.join(name)) {
                Ok(to) => jobs.push(Job { from: from.clone(), to }),
                Err(e) => drop(self.fail(result, e.at(OperationKind::Open, Some(from)))),
            }
        }
        let mut names: Vec<&VPath> = jobs.iter().map(|j| &j.to).collect();
        names.sort_unstable();
        let one_name = names.windows(2).any(|pair| pair.first() == pair.last());
        let groups = if one_name {
            if plan.remove {
                // All but the last would be gone for good.
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail(format!(
                    "several sources that are to be removed become '{}'",
                    display_bytes(mask)
                )));
            }
            self.hub().warn(format!("several files become '{}'; the last one stays", display_bytes(mask)));
            jobs.into_iter().map(|job| vec![job]).collect()
        } else {
            vec![jobs]
        };
        let options = TransferOptions {
            recursive: true,
            follow_links: plan.follows_links(),
            details: true,
            reconnect: self.reconnect_time(),
            ..plan.options.clone()
        };
        let bin = super::remove::bin(plan.open)?.filter(|bin| bin.replaced && plan.side == Side::Local);
        for jobs in groups {
            let report = self.watched(plan, jobs, options.clone(), bin.as_ref()).await;
            take(plan.side, report, result);
        }
        for link in plan.source.links.iter().filter(|_| !plan.follows_links()) {
            let transfer = Transfer {
                side: plan.side,
                source: link.clone(),
                destination: dir.join(link.name())?,
                length: 0,
                outcome: Outcome::Skipped("a symbolic link to a directory"),
                failure: None,
                error: None,
                touch: None,
                chmod: None,
                removal: None,
            };
            self.hub().emit(Event::FileTransferred(transfer.clone()));
            result.transfers.push(transfer);
        }
        if plan.remove {
            self.remove_sources(plan, result).await;
        }
        Ok(())
    }

    /// Runs the engine and tells how far it is.
    async fn watched(
        &self,
        plan: &Plan<'_>,
        jobs: Vec<Job>,
        options: TransferOptions,
        bin: Option<&Recycle>,
    ) -> TransferReport {
        let decider = Arc::clone(&plan.open.decider);
        let batch = Batch::new(plan.from().clone(), plan.to().clone(), options, decider);
        let told =
            Arc::new(Told { hub: Arc::clone(self.hub()), side: plan.side, failures: AtomicUsize::new(0) });
        batch.observe(Arc::clone(&told) as Arc<dyn Observer>);
        if let Some(recycle) = bin {
            batch.recycle_to(recycle.bin.clone());
        }
        let _entered = self.enter(plan.what(&jobs), Arc::clone(&batch) as Arc<dyn Live>);
        let cancel = tokio_util::sync::CancellationToken::new();
        let tell = |cancel: &tokio_util::sync::CancellationToken| {
            let progress = batch.tracker().progress();
            let progress = TransferProgress { side: plan.side, progress, cancel: cancel.clone() };
            self.hub().emit(Event::Progress(progress));
        };
        let mut tick = tokio::time::interval(self.progress_interval());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let run = batch.run(jobs);
        tokio::pin!(run);
        let mut canceled = false;
        let report = loop {
            tokio::select! {
                biased;
                report = &mut run => break report,
                () = cancel.cancelled(), if !canceled => {
                    canceled = true;
                    batch.cancel();
                }
                _ = tick.tick() => tell(&cancel),
            }
        };
        tell(&cancel);
        // That it was given up is a failure that no observer hears of.
        let heard = told.failures.load(Ordering::SeqCst);
        report.failures.iter().skip(heard).for_each(|e| self.hub().failed(e));
        report
    }
}

async fn only_file(fs: &SessionFs, path: &VPath) -> Result<()> {
    if fs.stat(path, Follow::Yes).await?.is_dir() {
        return Err(Error::new(ErrorKind::IsADirectory).at(OperationKind::Open, Some(path)));
    }
    Ok(())
}

/// Tells what the engine does, as it does it.
struct Told {
    hub: Arc<Hub>,
    side: Side,
    failures: AtomicUsize,
}

impl Observer for Told {
    fn ended(&self, item: &TransferItem, ended: Ended<'_>) {
        let none = Given::default();
        let (outcome, error, given) = match ended {
            Ended::Moved(receipt) => (Outcome::Done(receipt.sent), None, &receipt.given),
            Ended::Made => return,
            Ended::Skipped(why) => (Outcome::Skipped(why), None, &none),
            Ended::Failed(e) => (Outcome::Failed, Some(e), &none),
        };
        if !item.directory {
            let transfer = transfer(self.side, item.clone(), outcome, error.cloned()).with(given);
            self.hub.emit(Event::FileTransferred(transfer));
        }
        if let Some(e) = error {
            self.failed(e);
        }
    }

    fn failed(&self, error: &Error) {
        self.failures.fetch_add(1, Ordering::SeqCst);
        self.hub.failed(error);
    }
}

fn transfer(side: Side, item: TransferItem, outcome: Outcome, error: Option<Error>) -> Transfer {
    Transfer {
        side,
        source: item.source,
        destination: item.target,
        length: item.size,
        outcome,
        failure: None,
        error,
        touch: None,
        chmod: None,
        removal: None,
    }
}

/// What the engine reported, in WinSCP's shape.
fn take(side: Side, report: TransferReport, result: &mut TransferResult) {
    let first = result.failures.len();
    result.failures.extend(report.failures);
    // There is one for each file that was moved, in the same order.
    let mut receipts = report.receipts.iter();
    for (item, outcome) in report.items {
        if item.directory {
            result.directories.push(item.target);
            continue;
        }
        let none = Given::default();
        let mut given = &none;
        let (outcome, failure) = match outcome {
            ItemOutcome::Done(bytes) => {
                given = receipts.next().map_or(&none, |receipt| &receipt.given);
                (Outcome::Done(bytes), None)
            }
            ItemOutcome::Skipped(why) => (Outcome::Skipped(why), None),
            ItemOutcome::Failed(n) => (Outcome::Failed, Some(first + n)),
        };
        let error = failure.and_then(|n| result.failures.get(n)).cloned();
        result.transfers.push(Transfer { failure, ..transfer(side, item, outcome, error).with(given) });
    }
}

impl Session {
    /// Each file that arrived, then the directories that are empty now.
    async fn remove_sources(&self, plan: &Plan<'_>, result: &mut TransferResult) {
        let fs = plan.from();
        let arrived: Vec<(usize, VPath)> = result
            .transfers
            .iter()
            .enumerate()
            .filter(|(_, t)| matches!(t.outcome, Outcome::Done(_)))
            .map(|(n, t)| (n, t.source.clone()))
            .collect();
        let mut removals = iter(arrived)
            .map(|(n, path)| async move {
                let outcome = fs.remove_file(&path).await;
                (n, path, outcome)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((n, path, outcome)) = removals.next().await {
            let error = outcome.err();
            let failure = error.clone().map(|e| self.fail(result, e));
            if let Some(transfer) = result.transfers.get_mut(n) {
                transfer.removal = Some(Removal { path, directory: false, recycled: None, failure, error });
            }
        }
        for root in &plan.source.found {
            if let Err(e) = remove_empty(fs, root).await {
                self.fail(result, e);
            }
        }
    }
}

/// Directories at and below `root` that hold nothing any more, the deepest first.
async fn remove_empty(fs: &SessionFs, root: &VPath) -> Result<()> {
    match fs.stat(root, Follow::No).await {
        Ok(m) if m.is_dir() => {}
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    let below = fs.walk(root, Bounds::default()).await?;
    let dirs = below.into_iter().filter(|(_, m)| m.is_dir()).map(|(path, _)| path);
    let mut dirs: Vec<VPath> = std::iter::once(root.clone()).chain(dirs).collect();
    dirs.reverse();
    for dir in dirs {
        match fs.remove_dir(&dir).await {
            // What was skipped or failed keeps its directory.
            Err(e) if matches!(e.kind(), ErrorKind::NotEmpty | ErrorKind::NotFound) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}
