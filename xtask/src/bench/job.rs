//! One measured run: a client of someone's, a server of someone's, a link between them, a task.
//!
//! The time is that of the client's process from its start to its end, login included. What arrived is
//! compared with what was sent after the clock has stopped; a run that moved the wrong bytes is an error.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parties::{Client, GCM, Server};
use super::proxy::Proxy;
use super::sink::Sink;
use super::{data, meter};
use crate::fault::{Result, While, bail, ensure};
use crate::peers::servers::{self, Address, Endpoint, Extra, Kit, Over, Scheme};
use crate::process::{Finished, Run, TempDir, set_mode};

/// One way over the far link; the round trip is twice that.
pub(super) const DELAY: Duration = Duration::from_millis(25);
/// Beyond this a run is an error.
pub(super) const LIMIT: Duration = Duration::from_secs(400);

/// Where servers of FTP are on the far link: at their own ports, so that those for data are found.
const FAR_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Theirs that can list, to find the quickest.
const LISTERS: [Client; 4] = [Client::Curl, Client::Rclone, Client::Sftp(None), Client::Lftp];
/// Theirs that move files and trees both ways over SFTP, to find the best.
const MOVERS: [Client; 3] = [Client::Sftp(GCM), Client::Lftp, Client::Rclone];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    Near,
    /// [`DELAY`] each way.
    Far,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Down,
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// One file; its size depends on the link.
    Big(Way),
    /// One file that is larger than what anybody keeps in flight.
    Huge(Way),
    /// The same bytes in [`data::SEVERAL`] files, each moved by a process of its own, so that no client is what is
    /// waited for.
    Several(Way),
    /// A tree of files of all sizes.
    Mixed(Way),
    /// Finding out that nothing has changed in a tree that is on both sides.
    Same,
    /// The tree of small files for the near link, or the first so many files of the one for the far link.
    Small(Way),
    /// One byte: what a transfer takes without its content.
    Byte(Way),
    /// The names in one big directory.
    List,
}

impl Task {
    /// Bytes are counted, and not files or entries.
    pub(super) fn is_bulk(self) -> bool {
        matches!(self, Task::Big(_) | Task::Huge(_) | Task::Several(_) | Task::Mixed(_))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) link: Link,
    pub(super) task: Task,
}

/// How much is moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) big: u64,
    pub(super) far_big: u64,
    pub(super) huge: u64,
    /// Bytes of the tree of all sizes.
    pub(super) mixed: u64,
    /// Files that are on both sides.
    pub(super) same: usize,
    /// Files of the tree that is there for its number.
    pub(super) many: usize,
    pub(super) files: usize,
    pub(super) dirs: usize,
    /// Small files over the far link, for ours.
    pub(super) far_files: usize,
    /// The same for theirs, whose rate there does not depend on the number: one after the other.
    pub(super) far_files_theirs: usize,
    pub(super) entries: usize,
    pub(super) idle: usize,
    pub(super) idle_theirs: usize,
    /// Idle sessions whose server is weighed as a whole.
    pub(super) crowd: usize,
    /// Sessions that are ended in the middle of what they do.
    pub(super) ended: usize,
    /// Bytes of the files that go through gateways, each way.
    pub(super) sparse: u64,
    pub(super) sparse_up: u64,
    pub(super) idle_wait: Duration,
    pub(super) logins: usize,
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// MB, files or entries per second.
    pub(super) rate: f64,
    /// Seconds of CPU.
    pub(super) client: f64,
    pub(super) server: f64,
}

/// Everything that runs have in common: data, servers, programs.
pub(super) struct Ground {
    pub(super) kit: Kit,
    pub(super) sizes: Sizes,
    pub(super) ferry: Option<PathBuf>,
    pub(super) ferryd: Option<PathBuf>,
    /// What the servers serve; `up` in it is where clients write.
    pub(super) root: PathBuf,
    /// Where clients put what they fetch.
    pub(super) landing: PathBuf,
    /// The other side of the tree that is on both.
    pub(super) twin: PathBuf,
    running: BTreeMap<Server, Endpoint>,
    /// Who is told of uploads.
    pub(super) sink: Sink,
    proxies: BTreeMap<Server, (Vec<Proxy>, Address)>,
    /// By whether it must talk to both servers.
    quickest: BTreeMap<bool, Client>,
    best: BTreeMap<(Server, Link, Task), Client>,
    runs: usize,
    /// Dropped after the servers.
    _dir: TempDir,
}

impl Ground {
    /// In memory where there is a file system for that.
    pub(super) fn new(sizes: Sizes, ferry: Option<PathBuf>, ferryd: Option<PathBuf>) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let dir = TempDir::below(&base, "bench")?;
        let (root, landing) = (dir.join("root"), dir.join("landing"));
        for path in [&root, &landing, &root.join("up")] {
            std::fs::create_dir(path).doing(|| format!("making {}", path.display()))?;
        }
        // Some servers of theirs work with the rights of nobody.
        for (path, mode) in [(dir.join(""), 0o755), (root.clone(), 0o755), (root.join("up"), 0o777)] {
            set_mode(&path, mode)?;
        }
        Ok(Self {
            kit: Kit::measured(&base)?,
            sizes,
            ferry,
            ferryd,
            root,
            twin: landing.join("same"),
            landing,
            running: BTreeMap::new(),
            sink: Sink::start()?,
            proxies: BTreeMap::new(),
            quickest: BTreeMap::new(),
            best: BTreeMap::new(),
            runs: 0,
            _dir: dir,
        })
    }

    /// Errors if the program of ours that it needs is not there.
    pub(super) fn can(&self, job: Job) -> Result<()> {
        ensure!(!job.server.is_ours() || self.ferryd.is_some(), "there is no ferryd yet");
        ensure!(job.client != Client::Ferry || self.ferry.is_some(), "there is no ferry yet");
        Ok(())
    }

    /// A running server; started when first asked for.
    pub(super) fn server(&mut self, which: Server) -> Result<&Endpoint> {
        let which = which.host();
        if !self.running.contains_key(&which) {
            let (kit, root, passive) = (&self.kit, self.root.as_path(), which.passive());
            let over = Over { root: Some(root), passive: Some(passive), lines: &[] };
            let endpoint = match (which, &self.ferryd) {
                (Server::Sshd, _) => servers::sshd_over(kit, root)?,
                (Server::Proftpd, _) => servers::ftp_proftpd(kit, Scheme::Ftp, over)?,
                (Server::ProftpdTls, _) => servers::ftp_proftpd(kit, Scheme::Ftpes, over)?,
                (Server::PureFtpd, _) => servers::pure_ftpd(kit, Scheme::Ftp, over)?,
                (Server::PureFtpdTls, _) => servers::pure_ftpd(kit, Scheme::Ftpes, over)?,
                (Server::Vsftpd, _) => servers::vsftpd(kit, Scheme::Ftp, over)?,
                (Server::VsftpdTls, _) => servers::vsftpd(kit, Scheme::Ftpes, over)?,
                (Server::FerrydTold, Some(program)) => {
                    let (from, to) = passive;
                    let (ftp, lines) = (format!("passive_ports = \"{from}-{to}\""), self.sink.lines(kit)?);
                    let extra = Extra { root: Some(root), ftp: &ftp, lines: &lines, ..Extra::default() };
                    servers::ferryd_with(kit, program, &extra)?
                }
                (Server::FerrydHooked, Some(program)) => {
                    let handlers = super::hooked::handlers()?;
                    let hooks: Vec<_> =
                        handlers.iter().map(|(event, source)| (event.as_str(), *source)).collect();
                    let extra = Extra { root: Some(root), hooks: &hooks, ..Extra::default() };
                    servers::ferryd_with(kit, program, &extra)?
                }
                (Server::Floor, _) => servers::floor(kit, super::floor::NAME)?,
                (Server::Apache, _) => servers::apache(kit, Some(root))?,
                (Server::Nginx, _) => servers::nginx(kit, Some(root))?,
                (Server::S3sFs, _) => servers::s3s_fs(kit, root)?,
                (_, Some(program)) => {
                    let (from, to) = passive;
                    let (ftp, lines) = (format!("passive_ports = \"{from}-{to}\""), http_lines(root));
                    let extra = Extra { root: Some(root), ftp: &ftp, lines: &lines, ..Extra::default() };
                    servers::ferryd_with(kit, program, &extra)?
                }
                (_, None) => bail!("there is no ferryd yet"),
            };
            self.running.insert(which, endpoint);
        }
        self.running.get(&which).ok_or_else(|| crate::fault::Fault::new("the server is gone"))
    }

    /// Ends a server, so that what it holds from earlier rows does not count in the next.
    pub(super) fn stop(&mut self, which: Server) {
        self.proxies.retain(|of, _| of.host() != which.host());
        self.running.remove(&which.host());
    }

    pub(super) fn address(&mut self, which: Server, link: Link) -> Result<Address> {
        let near = self.server(which)?.by(which.scheme())?.clone();
        if link == Link::Near {
            return Ok(near);
        }
        if let Some((_, far)) = self.proxies.get(&which) {
            return Ok(far.clone());
        }
        let (proxies, far) = if near.scheme == Scheme::Sftp {
            let proxy = Proxy::start(near.port, DELAY)?;
            let far = near.behind(proxy.port)?;
            (vec![proxy], far)
        } else {
            let (from, to) = which.host().passive();
            // Those for data; who speaks HTTP has none.
            let data = near.scheme.has_ports_for_data().then_some(from..=to);
            let ports = std::iter::once(near.port).chain(data.into_iter().flatten());
            let proxies = ports.map(|port| Proxy::at((FAR_HOST, port).into(), port, DELAY));
            (proxies.collect::<Result<_>>()?, Address { host: FAR_HOST.to_string(), ..near })
        };
        self.proxies.insert(which, (proxies, far.clone()));
        Ok(far)
    }

    /// The source of a task below the root, made when first asked for, and how much it is: bytes, files or
    /// entries.
    fn source(&self, job: Job) -> Result<(PathBuf, f64)> {
        let sizes = self.sizes;
        let theirs = job.client != Client::Ferry;
        let (name, amount) = match (job.task, job.link) {
            (Task::Big(_), Link::Near) => ("big".to_owned(), sizes.big as f64),
            (Task::Big(_), Link::Far) => ("far-big".to_owned(), sizes.far_big as f64),
            (Task::Huge(_), _) => ("huge".to_owned(), sizes.huge as f64),
            (Task::Several(_), _) => ("several".to_owned(), sizes.big as f64),
            (Task::Mixed(_), _) => ("mixed".to_owned(), sizes.mixed as f64),
            (Task::Same, _) => ("same".to_owned(), sizes.same as f64),
            // One of theirs shakes hands there for seconds on end.
            (Task::Small(_), Link::Near) if job.server == Server::VsftpdTls => {
                ("few".to_owned(), (sizes.files / 10) as f64)
            }
            (Task::Small(_), Link::Near) => ("small".to_owned(), sizes.files as f64),
            (Task::Small(_), Link::Far) => {
                let files = if theirs { sizes.far_files_theirs } else { sizes.far_files };
                (format!("far-small-{files}"), files as f64)
            }
            (Task::Byte(_), _) => ("byte".to_owned(), 1.0),
            (Task::List, _) => ("wide".to_owned(), sizes.entries as f64),
        };
        let path = self.root.join(name);
        if !path.exists() {
            match job.task {
                Task::Big(_) | Task::Huge(_) | Task::Byte(_) => data::make_file(&path, amount as u64)?,
                Task::Several(_) => data::make_several(&path, amount as u64)?,
                Task::Mixed(_) => data::make_mixed(&path, amount as u64)?,
                Task::Same => {
                    data::make_tree(&path, amount as usize, sizes.dirs)?;
                    Run::new("cp").arg("-a").args([&path, &self.twin]).limit(LIMIT).finish()?.succeeded()?;
                }
                Task::Small(_) if job.link == Link::Near => {
                    data::make_tree(&path, amount as usize, sizes.dirs)?;
                }
                Task::Small(_) => data::make_tree(&path, amount as usize, 5)?,
                Task::List => data::make_wide(&path, sizes.entries)?,
            }
        }
        Ok((path, amount))
    }

    /// Runs a job once.
    pub(super) fn run(&mut self, job: Job) -> Result<Sample> {
        let client = self.resolve(job)?;
        let job = Job { client, ..job };
        let at = self.address(job.server, job.link)?;
        let (source, amount) = self.source(job)?;
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.runs += 1;
        let landing = self.landing.join(format!("run-{}", self.runs));
        let upload = format!("up/run-{}", self.runs);
        self.make_room(&job, &source, &upload)?;
        let run = match job.task {
            Task::Big(Way::Down) | Task::Huge(Way::Down) | Task::Byte(Way::Down) => {
                self.get(client, &at, &name, &landing, false)?
            }
            Task::Big(Way::Up) | Task::Huge(Way::Up) | Task::Byte(Way::Up) => {
                self.put(client, &at, &source, &upload, false)?
            }
            Task::Small(Way::Down) | Task::Mixed(Way::Down) => {
                self.get(client, &at, &name, &landing, true)?
            }
            Task::Small(Way::Up) | Task::Mixed(Way::Up) => self.put(client, &at, &source, &upload, true)?,
            Task::Several(Way::Down) => self.get_several(client, &at, &name, &landing)?,
            Task::Several(Way::Up) => self.put_several(client, &at, &source, &upload)?,
            Task::Same => self.sync(client, &at, &name)?,
            Task::List => self.list(client, &at, &name)?,
        };
        let twins = if job.task == Task::Same { data::inodes(&self.twin)? } else { Vec::new() };
        let process = self.server(job.server)?.process();
        let (before, children) = (meter::Tree::of(process)?, meter::Spent::now()?);
        let done = run.limit(LIMIT).finish()?.succeeded();
        let log = || self.running.get(&job.server.host()).map(Endpoint::tail).unwrap_or_default();
        let done = done.doing(log)?;
        let client = children.since()?;
        let server = before.spent_when_settled()?;
        let arrived = match job.task {
            Task::Big(Way::Up)
            | Task::Huge(Way::Up)
            | Task::Several(Way::Up)
            | Task::Small(Way::Up)
            | Task::Mixed(Way::Up)
            | Task::Byte(Way::Up) => self.root.join(&upload),
            _ => landing,
        };
        match job.task {
            Task::Big(_) | Task::Huge(_) | Task::Byte(_) => data::same_file(&source, &arrived)?,
            Task::Mixed(_) | Task::Several(_) => _ = data::same_tree(&source, &arrived)?,
            Task::Small(Way::Up) if job.server == Server::Floor => {}
            Task::Small(_) => {
                let files = data::same_tree(&source, &arrived)?;
                ensure!(files as f64 == amount, "{files} files arrived of {amount}");
            }
            // Whoever copies anything has not seen that nothing changed.
            Task::Same => ensure!(data::inodes(&self.twin)? == twins, "files were replaced by their like"),
            Task::List => names_are_complete(&done, amount as usize)?,
        }
        data::remove(&arrived)?;
        let unit = if job.task.is_bulk() { 1e6 } else { 1.0 };
        Ok(Sample { rate: amount / unit / done.time.as_secs_f64(), client, server })
    }

    /// The directories of a tree, where the client cannot make them: curl over HTTP, and several that would make the
    /// same.
    fn make_room(&self, job: &Job, source: &Path, upload: &str) -> Result<()> {
        let over_http = (job.client, job.server.scheme()) == (Client::Curl, Scheme::Dav);
        match job.task {
            Task::Several(Way::Up) => {}
            Task::Small(Way::Up) if over_http => {}
            _ => return Ok(()),
        }
        data::make_directories_of(source, &self.root.join(upload))
    }

    /// Finds the best of their clients at a job, once: each does it once.
    fn best(&mut self, job: Job) -> Result<Client> {
        let key = (job.server, job.link, job.task);
        if let Some(found) = self.best.get(&key) {
            return Ok(*found);
        }
        let mut rates = Vec::new();
        for client in MOVERS {
            let name = client.name();
            match self.run(Job { client, ..job }) {
                Ok(sample) => {
                    println!("    {name} reaches {}", super::row::shown(sample.rate));
                    rates.push((sample.rate, client));
                }
                Err(fault) => println!("    {name} is left out: {fault}"),
            }
        }
        let best = rates.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, found)) = best else { bail!("none of their clients does it") };
        self.best.insert(key, found);
        Ok(found)
    }

    /// Finds the quickest of their clients at listing, once: each lists from sshd three times.
    fn resolve(&mut self, job: Job) -> Result<Client> {
        let both = match job.client {
            Client::Quickest => false,
            Client::QuickestOfBoth => true,
            Client::Best => return self.best(job),
            client => return Ok(client),
        };
        if let Some(found) = self.quickest.get(&both) {
            return Ok(*found);
        }
        let mut best: Option<(f64, Client)> = None;
        for client in LISTERS {
            let job = Job { server: Server::Sshd, client, link: Link::Near, task: Task::List };
            if let (true, Err(fault)) = (both, self.run(Job { server: Server::Ferryd, ..job })) {
                let words = fault.to_string();
                println!(
                    "    {} is left out: {}",
                    client.name(),
                    words.lines().last().unwrap_or_default().trim()
                );
                continue;
            }
            let mut rate: f64 = 0.0;
            for _ in 0..3 {
                rate = rate.max(self.run(job)?.rate);
            }
            println!("    {} lists {rate:.0} entries/s from sshd", client.name());
            if best.is_none_or(|(so_far, _)| rate > so_far) {
                best = Some((rate, client));
            }
        }
        let Some((_, found)) = best else { bail!("none of their clients lists") };
        self.quickest.insert(both, found);
        Ok(found)
    }

    /// The name of a client as rows show it, with the one that stands for the quickest.
    pub(super) fn shown(&self, job: Job) -> &'static str {
        let found = match job.client {
            Client::Quickest => self.quickest.get(&false),
            Client::QuickestOfBoth => self.quickest.get(&true),
            Client::Best => self.best.get(&(job.server, job.link, job.task)),
            _ => None,
        };
        found.copied().unwrap_or(job.client).name()
    }
}

/// What ours is told beyond a new user's configuration, to speak WebDAV and S3 too. Over S3 the folder is a
/// bucket: it lies in the home of a user for that.
fn http_lines(root: &Path) -> String {
    let home = root.parent().unwrap_or(root);
    let keys = servers::access_keys();
    format!(
        "[[listeners]]\nprotocol = \"webdav\"\nport = 0\n[[listeners]]\nprotocol = \"s3\"\nport = 0\n\
         [[users]]\nname = \"objects\"\nhome = {home:?}\n{keys}\n"
    )
}

/// Errors unless a listing names as many entries as there are.
fn names_are_complete(done: &Finished, entries: usize) -> Result<()> {
    let seen = done.stdout.matches(data::NAME).count();
    ensure!(seen == entries, "`{}` names {seen} of {entries} entries", done.command);
    Ok(())
}
