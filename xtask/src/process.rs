//! Other programs: run one to its end within a time limit, or keep a server while a value lives.
//!
//! Every program runs in a process group of its own, and the whole group is killed at the time limit or
//! when the value is dropped, so nothing outlives its use. Captured output is bounded; what is beyond
//! the bound is read and thrown away, so no program ever blocks on us.
//! Not promised: if this process itself is killed (Ctrl-C), servers stay behind.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{Result, While, bail, ensure};

/// Captured bytes kept per stream.
const KEEP_BYTES: usize = 64 << 20;
/// Lines kept of a server's output.
const KEEP_LINES: usize = 2_000;
/// How often a waiting loop looks.
const TICK: Duration = Duration::from_millis(10);
/// How often a waiting loop looks for the end of a program: its time is measured by that.
const LOOK: Duration = Duration::from_millis(2);
/// How long the output of a finished program may stay open because a child of it holds it.
const LINGER: Duration = Duration::from_secs(2);

/// A program to be run to its end.
#[derive(Debug)]
pub(crate) struct Run {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, Option<OsString>)>,
    dir: Option<PathBuf>,
    input: Vec<u8>,
    limit: Duration,
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) command: String,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// From its start to its end, some 2 ms more at most.
    pub(crate) time: Duration,
}

impl Finished {
    pub(crate) fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// Errors unless it ended with 0; the message carries the end of its output.
    pub(crate) fn succeeded(self) -> Result<Self> {
        ensure!(self.is_success(), "{}", self.describe());
        Ok(self)
    }

    /// Errors unless it ended with something else than 0: for what must be refused.
    pub(crate) fn refused(self) -> Result<Self> {
        ensure!(!self.is_success(), "should have failed, but did not: {}", self.describe());
        Ok(self)
    }

    fn describe(&self) -> String {
        let ended = self.code.map_or("ended by a signal".to_owned(), |code| format!("exit {code}"));
        let mut text = format!("`{}`: {ended}", self.command);
        for (name, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !output.trim().is_empty() {
                let lines: Vec<&str> = output.trim_end().lines().collect();
                let shown = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
                // Writing to a String cannot fail.
                let _ = write!(text, "\n  {name}: {}", shown.join("\n          "));
            }
        }
        text
    }
}

impl Run {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            dir: None,
            input: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    pub(crate) fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), None));
        self
    }

    pub(crate) fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// What it reads on its standard input; nothing by default.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Time limit; 60 s by default.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same program and arguments as arguments of another program.
    pub(crate) fn below(mut self, mut wrapper: Self) -> Self {
        wrapper.args.push(self.program);
        wrapper.args.append(&mut self.args);
        Self { program: wrapper.program, args: wrapper.args, ..self }
    }

    fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for (name, value) in &self.envs {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Runs it and captures its output. Errors: it does not start, or the time limit (then its whole
    /// process group has been killed). A non-zero exit is not an error here: see [`Finished`].
    pub(crate) fn finish(self) -> Result<Finished> {
        let shown = self.shown();
        let start = Instant::now();
        let mut child = self
            .command()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| format!("starting `{shown}`"))?;
        let group = child.id();
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input;
            // A program that does not read its input is no fault of the run.
            thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = capture(child.stdout.take());
        let stderr = capture(child.stderr.take());
        let status = match wait(&mut child, self.limit) {
            Ok(Some(status)) => status,
            outcome => {
                kill_group(group);
                let _ = child.wait();
                let (out, err) = (stdout.take(LINGER), stderr.take(LINGER));
                outcome.doing(|| format!("waiting for `{shown}`"))?;
                let limit = self.limit.as_secs();
                bail!("`{shown}` did not end within {limit} s\n  stdout: {out}\n  stderr: {err}")
            }
        };
        let time = start.elapsed();
        let mut text = stdout.take(LINGER);
        let mut errors = stderr.take(LINGER);
        if !stdout.is_closed() || !stderr.is_closed() {
            kill_group(group);
            text.push_str(&stdout.take(LINGER));
            errors.push_str(&stderr.take(LINGER));
        }
        Ok(Finished { command: shown, code: status.code(), stdout: text, stderr: errors, time })
    }

    /// Its standard output, if it ended with 0.
    pub(crate) fn text(self) -> Result<String> {
        Ok(self.finish()?.succeeded()?.stdout)
    }

    /// Runs it in the foreground: its lines are shown as they come and handed to `line`, both streams
    /// together, without colour codes. No time limit: for what a person watches. True if it ended with 0.
    pub(crate) fn watch(self, mut line: impl FnMut(&str)) -> Result<bool> {
        let shown = self.shown();
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| format!("starting `{shown}`"))?;
        let (sender, lines) = mpsc::sync_channel::<String>(1_000);
        relay(child.stdout.take(), std::io::stdout(), sender.clone());
        relay(child.stderr.take(), std::io::stderr(), sender);
        for text in lines {
            line(&without_colour(&text));
        }
        let status = child.wait().doing(|| format!("waiting for `{shown}`"))?;
        Ok(status.success())
    }
}

fn relay(
    from: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
    sender: mpsc::SyncSender<String>,
) {
    let Some(from) = from else { return };
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // A closed terminal must not stop the program that is watched.
            let _ = to.write_all(&line).and_then(|()| to.flush());
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
}

/// Removes the escape sequences that colour a terminal's text.
fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// A stream that is read in the background into bounded memory.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    closed: Arc<Mutex<bool>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn capture(stream: Option<impl Read + Send + 'static>) -> Captured {
    let captured = Captured { bytes: Arc::default(), closed: Arc::default() };
    let (bytes, closed) = (Arc::clone(&captured.bytes), Arc::clone(&captured.closed));
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        if let Some(mut stream) = stream {
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                let mut bytes = locked(&bytes);
                let room = KEEP_BYTES.saturating_sub(bytes.len()).min(n);
                bytes.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
        }
        *locked(&closed) = true;
    });
    captured
}

impl Captured {
    fn is_closed(&self) -> bool {
        *locked(&self.closed)
    }

    /// What has come, once the stream is closed or `patience` is over.
    fn take(&self, patience: Duration) -> String {
        let end = Instant::now() + patience;
        while !self.is_closed() && Instant::now() < end {
            thread::sleep(TICK);
        }
        String::from_utf8_lossy(&std::mem::take(&mut *locked(&self.bytes))).into_owned()
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + limit;
    let mut tick = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(tick);
        tick = (tick * 2).min(LOOK);
    }
}

/// Kills a process group. By the shell, because the call itself would need `unsafe`. dash, which is Debian's
/// `sh`, takes a negative number behind `-s NAME --` and in no other form that bash takes as well.
fn kill_group(group: u32) {
    // The group may have ended by itself: then there is nothing to do.
    let _ = Command::new("sh")
        .args(["-c", "kill -s KILL -- \"-$1\"", "sh", &group.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// A server that runs until it is dropped. Its output, both streams, is kept line by line.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// How many lines have ever come, so that a reader can go on where it stopped.
    count: usize,
}

impl Server {
    /// Starts `run` (its input and limit are not used). Wait with [`Server::line`] or [`Server::port`].
    pub(crate) fn start(run: &Run) -> Result<Self> {
        let name = run.shown();
        let mut child = run
            .command()
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| format!("starting `{name}`"))?;
        let lines = Arc::new(Mutex::new(Lines::default()));
        keep_lines(child.stdout.take(), Arc::clone(&lines));
        keep_lines(child.stderr.take(), Arc::clone(&lines));
        Ok(Self { name, child, lines })
    }

    /// Waits for a line that `is_wanted`, from the beginning of the output. Errors: the server ends or
    /// the time is over; the message carries what it said.
    pub(crate) fn line(&mut self, limit: Duration, is_wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + limit;
        let mut seen = 0;
        loop {
            let ended = self.has_ended()?;
            {
                let lines = locked(&self.lines);
                let first = lines.count - lines.kept.len();
                let new = lines.kept.iter().skip(seen.max(first) - first);
                if let Some(line) = new.into_iter().find(|line| is_wanted(line)) {
                    return Ok(line.clone());
                }
                seen = lines.count;
            }
            ensure!(!ended, "the server ended\n{}", self.log());
            ensure!(Instant::now() < end, "no ready line within {} s\n{}", limit.as_secs(), self.log());
            thread::sleep(TICK);
        }
    }

    /// Waits until it accepts connections on `port` of the loopback.
    pub(crate) fn port(&mut self, port: u16, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            ensure!(!self.has_ended()?, "the server ended\n{}", self.log());
            ensure!(Instant::now() < end, "no answer on port {port}\n{}", self.log());
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// What it has said lately, under its command line.
    pub(crate) fn log(&self) -> String {
        self.tail(KEEP_LINES)
    }

    /// The last of it.
    pub(crate) fn tail(&self, count: usize) -> String {
        let lines = locked(&self.lines);
        let mut text = format!("  `{}` said:", self.name);
        for line in lines.kept.iter().skip(lines.kept.len().saturating_sub(count)) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n    {line}");
        }
        text
    }

    /// The process at the head of its tree.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().doing(|| format!("looking after `{}`", self.name))?.is_some())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_group(self.child.id());
        let _ = self.child.wait();
    }
}

fn keep_lines(stream: Option<impl Read + Send + 'static>, lines: Arc<Mutex<Lines>>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        // A line without an end is cut, so that a server cannot fill our memory.
        while reader.by_ref().take(64 << 10).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let mut lines = locked(&lines);
            lines.kept.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
            lines.count += 1;
            if lines.kept.len() > KEEP_LINES {
                lines.kept.pop_front();
            }
            line.clear();
        }
    });
}

/// A port of the loopback that was free a moment ago. Prefer a server that takes 0 and says which.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "looking for a port".to_owned())?;
    Ok(listener.local_addr().doing(|| "looking for a port".to_owned())?.port())
}

/// A folder of our own (mode 0700), removed when dropped.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::below(&std::env::temp_dir(), name)
    }

    /// In a folder of the caller's choice instead of the one for temporary files.
    pub(crate) fn below(base: &Path, name: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("ferry-{name}-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .doing(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes a file, with the path in the error.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, content).doing(|| format!("writing {}", path.display()))
}

/// Reads a file, with the path in the error.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).doing(|| format!("reading {}", path.display()))
}

/// Sets the permission bits of a file.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .doing(|| format!("setting the mode of {}", path.display()))
}

/// Finds a program in `PATH` and in the folders where servers are, which users' paths leave out.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_are_captured() {
        let done = Run::new("sh").args(["-c", "cat; echo bad >&2; exit 3"]).input("in").finish().unwrap();
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(3), "in", "bad\n"));
        assert!(done.succeeded().unwrap_err().to_string().contains("exit 3"));
        assert!(Run::new("false").finish().unwrap().refused().is_ok());
        assert!(Run::new("true").finish().unwrap().refused().is_err());
    }

    #[test]
    fn a_time_limit_kills_the_grandchildren_too() {
        let dir = TempDir::new("limit").unwrap();
        let mark = dir.join("alive");
        let script = format!("(sleep 1; touch {}) & sleep 60", mark.display());
        let fault =
            Run::new("sh").args(["-c", &script]).limit(Duration::from_millis(200)).finish().unwrap_err();
        assert!(fault.to_string().contains("did not end within"), "{fault}");
        thread::sleep(Duration::from_millis(1200));
        assert!(!mark.exists());
    }

    #[test]
    fn a_child_that_holds_the_output_does_not_hang_us() {
        let start = Instant::now();
        let done = Run::new("sh").args(["-c", "sleep 60 & echo done"]).finish().unwrap();
        assert_eq!(done.stdout, "done\n");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_server_is_waited_for_and_ends_with_its_value() {
        let dir = TempDir::new("server").unwrap();
        let mark = dir.join("alive");
        let script = format!("(sleep 1; touch {}) & echo starting; echo ready on 7; wait", mark.display());
        let mut server = Server::start(&Run::new("sh").args(["-c", &script])).unwrap();
        let line = server.line(Duration::from_secs(10), |line| line.starts_with("ready")).unwrap();
        assert_eq!(line, "ready on 7");
        drop(server);
        thread::sleep(Duration::from_millis(1200));
        assert!(!mark.exists());
    }

    #[test]
    fn a_server_that_ends_early_says_what_it_said() {
        let mut server = Server::start(&Run::new("sh").args(["-c", "echo broken; exit 1"])).unwrap();
        let fault = server.line(Duration::from_secs(10), |line| line == "ready").unwrap_err();
        assert!(fault.to_string().contains("broken"), "{fault}");
    }

    #[test]
    fn colours_are_removed() {
        assert_eq!(without_colour("\u{1b}[32;1mok\u{1b}[0m 1 passed"), "ok 1 passed");
    }

    #[test]
    fn watched_lines_are_handed_over() {
        let mut lines = Vec::new();
        let good =
            Run::new("sh").args(["-c", "echo a; exit 1"]).watch(|line| lines.push(line.to_owned())).unwrap();
        assert!(!good);
        assert_eq!(lines, ["a"]);
    }
}
