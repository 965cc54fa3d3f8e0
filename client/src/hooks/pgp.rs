//! `PGP` of handlers: the system's GnuPG (2.2 or later) as a child for each call.
//!
//! The child has a cleared environment, a process group of its own, and three pipes: content comes and goes through
//! them in pieces, what it says of keys and signatures on the third. What it made is good only if it ended well and
//! its status lines say so (`status`); the log, in which a message may write what it likes, is not read. A
//! passphrase is the first line of its input. No key is looked for outside the home, no option is read from a file.
//! Time, content both ways, status lines and children at once are bounded; whatever ends a call kills the group.
//!
//! GnuPG starts an agent for each home, which outlives its children: [`Agents`] ends those of the homes that were
//! used. Deliberately absent: making, importing and trusting keys, which is done with `gpg` itself; messages for
//! passwords; cleartext signatures.

mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::script::{Fingerprint, Inflow, Outflow, PgpTask};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::process::Command;
use tokio::sync::Semaphore;

use self::status::Status;
use super::exec::Group;

const CHUNK: usize = 128 << 10;

/// The most bytes of a status line, and of all of them.
const LINE: u64 = 16 << 10;
const LINES: u64 = 1 << 20;

/// How long an agent may take to end.
const BYE: Duration = Duration::from_secs(2);

/// Where programs are looked for, which have no environment.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What GnuPG is told in every call.
const ALWAYS: &[&str] = &[
    "--batch",
    "--no-tty",
    "--no-options",
    "--no-auto-key-locate",
    "--no-auto-key-retrieve",
    "--disable-dirmngr",
    "--trust-model",
    "always",
    "--pinentry-mode",
    "loopback",
    "--status-fd",
    "2",
    // Both have the third pipe otherwise, and a line of the log could pass for one of the status.
    "--log-file",
    "/dev/null",
];

/// How GnuPG is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program: a whole path, or a name.
    pub program: PathBuf,
    /// Its home, where the keys are.
    pub home: PathBuf,
    /// What opens secret keys, by their fingerprints.
    pub passphrases: BTreeMap<Fingerprint, Secret>,
    /// The most time of a call, its wait for its turn included.
    pub time: Duration,
    /// The most bytes of content, on either side.
    pub size: u64,
    /// Children at once.
    pub processes: usize,
}

impl Settings {
    /// The `gpg` of this machine with this home, without passphrases; ten minutes, 4 GiB, four at once.
    pub fn at(home: PathBuf) -> Self {
        let (program, passphrases) = ("gpg".into(), BTreeMap::new());
        Settings { program, home, passphrases, time: Duration::from_secs(600), size: 4 << 30, processes: 4 }
    }
}

/// The homes whose agents may run. Dropped, or told to, it ends them.
#[derive(Debug, Default)]
pub struct Agents(Mutex<BTreeSet<(PathBuf, PathBuf)>>);

impl Agents {
    fn note(&self, gpgconf: PathBuf, home: &Path) {
        let mut homes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        homes.insert((gpgconf, home.to_path_buf()));
    }

    /// Ends the agents of all homes that were used since. Blocks, for a bounded time.
    pub fn end(&self) {
        let homes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (gpgconf, home) in homes {
            let mut command = std::process::Command::new(gpgconf);
            command.arg("--homedir").arg(home).args(["--kill", "gpg-agent"]).env_clear().env("PATH", PATH);
            command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // Without the program there is nothing that could be done about an agent.
            let Ok(mut child) = command.spawn() else { continue };
            let end = std::time::Instant::now() + BYE;
            while matches!(child.try_wait(), Ok(None)) {
                if std::time::Instant::now() > end {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.end();
    }
}

/// GnuPG with one home.
#[derive(Debug)]
pub struct Pgp {
    settings: Settings,
    turns: Semaphore,
    agents: Arc<Agents>,
}

fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

/// `gpgconf` where the program is, or as it is found.
fn gpgconf(program: &Path) -> PathBuf {
    let beside = program.parent().filter(|dir| !dir.as_os_str().is_empty()).map(|dir| dir.join("gpgconf"));
    beside.unwrap_or_else(|| "gpgconf".into())
}

impl Pgp {
    /// Looks at the home. Blocks. Errors: `InvalidArgument` for a home that is not there, or that others can look
    /// into.
    pub fn new(settings: Settings, agents: Arc<Agents>) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let home = settings.home.display();
        match std::fs::metadata(&settings.home) {
            Ok(there) if !there.is_dir() => {
                return Err(invalid(format!("the home of PGP {home} is no folder")));
            }
            Ok(there) if there.permissions().mode() & 0o077 != 0 => {
                return Err(invalid(format!("others can look into the home of PGP {home}"))
                    .with_hint("it is for its owner alone: chmod 700"));
            }
            Ok(_) => {}
            Err(e) => return Err(invalid(format!("the home of PGP {home} cannot be used: {e}"))),
        }
        let turns = Semaphore::new(settings.processes);
        Ok(Pgp { settings, turns, agents })
    }

    /// Does what is asked, from one end to the other; which of the wanted signers have signed. Errors: `Corrupt`
    /// for what is no message, or was changed; `Refused` for a signature that is not one of theirs;
    /// `Unauthenticated` for a key that does not open; `InvalidArgument` for one that cannot be used; `TooLarge`,
    /// `TimedOut`; those of both ends. After an error nothing of what went into `to` may be used.
    pub async fn run(&self, task: &PgpTask, from: Inflow, to: &mut Outflow) -> Result<Vec<Fingerprint>> {
        let work = async {
            let _turn = self.turns.acquire().await.map_err(|_| ErrorKind::Closed)?;
            self.call(task, from, to).await
        };
        let late = |_| Error::new(ErrorKind::TimedOut).with_detail("PGP takes too long");
        tokio::time::timeout(self.settings.time, work).await.map_err(late)?
    }

    /// The passphrase of a key; where none is named the only one that there is.
    fn passphrase(&self, task: &PgpTask) -> Option<&Secret> {
        let all = &self.settings.passphrases;
        match task {
            PgpTask::Encrypt { sign: Some(key), .. } | PgpTask::Sign { key, .. } => all.get(key),
            PgpTask::Decrypt { key: Some(key), .. } => all.get(key),
            PgpTask::Decrypt { key: None, .. } => all.values().next().filter(|_| all.len() == 1),
            PgpTask::Encrypt { sign: None, .. } | PgpTask::Verify { .. } => None,
        }
    }

    async fn call(&self, task: &PgpTask, from: Inflow, to: &mut Outflow) -> Result<Vec<Fingerprint>> {
        let passphrase = self.passphrase(task);
        let mut command = Command::new(&self.settings.program);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/").process_group(0);
        command.args(ALWAYS).arg("--homedir").arg(&self.settings.home);
        if passphrase.is_some() {
            command.args(["--passphrase-fd", "0"]);
        }
        command.args(arguments(task));
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped());
        if let PgpTask::Verify { signature, .. } = task {
            command.stdout(held(signature).await?);
        }
        self.agents.note(gpgconf(&self.settings.program), &self.settings.home);
        let program = self.settings.program.display();
        let mut child = command
            .spawn()
            .map_err(|e| Error::from(e).with_detail(format!("'{program}' of [pgp] cannot be started")))?;
        let group = Group::of(&child)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let most = self.settings.size;
        let feed = async {
            match stdin {
                Some(stdin) => pour(from, stdin, passphrase, most).await,
                None => Ok(()),
            }
        };
        let fetch = async {
            match stdout {
                Some(stdout) => collect(stdout, to, most).await,
                None => Ok(()),
            }
        };
        let look = async {
            match stderr {
                Some(stderr) => read_status(stderr).await,
                None => Ok(Status::default()),
            }
        };
        let ((), (), status) = tokio::try_join!(feed, fetch, look)?;
        let ended = child.wait().await?;
        drop(group);
        status.judge(task, ended.success())
    }
}

/// What a task is to GnuPG. Nothing of it is content, and a fingerprint is hexadecimal.
fn arguments(task: &PgpTask) -> Vec<&str> {
    let mut all = Vec::new();
    match task {
        PgpTask::Encrypt { recipients, sign, armor } => {
            all.extend(armor.then_some("--armor"));
            for key in recipients {
                all.extend(["--recipient", key.as_str()]);
            }
            if let Some(key) = sign {
                all.extend(["--local-user", key.as_str(), "--sign"]);
            }
            all.push("--encrypt");
        }
        PgpTask::Decrypt { signers, .. } => {
            // Whoever signed what nobody asks about need not be known.
            all.extend(signers.is_empty().then_some("--skip-verify"));
            all.push("--decrypt");
        }
        PgpTask::Sign { key, armor } => {
            all.extend(armor.then_some("--armor"));
            all.extend(["--local-user", key.as_str(), "--detach-sign"]);
        }
        // The signature is its descriptor 1.
        PgpTask::Verify { .. } => all.extend(["--enable-special-filenames", "--verify", "--", "-&1", "-"]),
    }
    all
}

/// A signature as a descriptor to read: a verification says nothing on its output, which carries it in. Errors: those
/// of pipes; `TooLarge` for what a pipe does not hold.
async fn held(signature: &Bytes) -> Result<Stdio> {
    let (mut into, out) = tokio::net::unix::pipe::pipe()?;
    let all = into.write_all(signature);
    // The whole of it lies in the pipe before anybody reads.
    let fits = tokio::time::timeout(Duration::from_millis(100), all).await;
    fits.map_err(|_| Error::new(ErrorKind::TooLarge).with_detail("the signature is too long"))??;
    Ok(Stdio::from(out.into_blocking_fd()?))
}

fn too_large(most: u64) -> Error {
    let words = format!("PGP moves at most {most} bytes (`size` of [pgp])");
    Error::new(ErrorKind::TooLarge).with_detail(words)
}

/// Writes the passphrase and the content, until the child reads no more: then its status tells why.
async fn pour(
    mut from: Inflow,
    mut to: impl AsyncWrite + Unpin,
    passphrase: Option<&Secret>,
    most: u64,
) -> Result<()> {
    if let Some(passphrase) = passphrase {
        let line = [passphrase.expose().as_bytes(), b"\n"].concat();
        if to.write_all(&line).await.is_err() {
            return Ok(());
        }
    }
    let mut moved = 0;
    loop {
        let piece = from.next().await?;
        moved += piece.len() as u64;
        if moved > most {
            return Err(too_large(most));
        }
        if piece.is_empty() || to.write_all(&piece).await.is_err() {
            return Ok(());
        }
    }
}

async fn collect(mut from: impl AsyncRead + Unpin, to: &mut Outflow, most: u64) -> Result<()> {
    loop {
        let mut piece = BytesMut::with_capacity(CHUNK);
        if from.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        if to.written() + piece.len() as u64 > most {
            return Err(too_large(most));
        }
        to.take(piece.freeze()).await?;
    }
}

async fn read_status(from: impl AsyncRead + Unpin) -> Result<Status> {
    let (mut from, mut status) = (BufReader::new(from.take(LINES)), Status::default());
    let mut line = Vec::new();
    let mut all = 0;
    loop {
        line.clear();
        let read = (&mut from).take(LINE).read_until(b'\n', &mut line).await? as u64;
        all += read;
        if read == LINE || all == LINES {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("GnuPG says more than it should"));
        }
        if read == 0 {
            return Ok(status);
        }
        if let Some(words) = line.strip_prefix(b"[GNUPG:] ") {
            status.line(&String::from_utf8_lossy(words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const ADA: &str = "85ACE7DDC7DC43AD213E57299472AE6F0FE8AD12";
    const DONE: &str = "echo '[GNUPG:] BEGIN_ENCRYPTION 2 9' >&2; echo '[GNUPG:] END_ENCRYPTION' >&2";

    struct World {
        dir: tempfile::TempDir,
        settings: Settings,
    }

    /// A program of these lines. It is made by a child: no other one has it open when it is started.
    fn made(dir: &Path, name: &str, script: &str) -> PathBuf {
        let (text, program) = (dir.join("text"), dir.join(name));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        let done =
            std::process::Command::new("install").args(["-m", "700"]).arg(&text).arg(&program).status();
        assert!(done.unwrap().success());
        program
    }

    /// A `gpg` of these lines.
    fn world(script: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let program = made(dir.path(), "gpg", script);
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        let settings =
            Settings { program, time: Duration::from_secs(20), size: 1 << 20, ..Settings::at(home) };
        World { dir, settings }
    }

    fn key() -> Fingerprint {
        Fingerprint::parse(ADA).unwrap()
    }

    fn encrypt(sign: bool) -> PgpTask {
        PgpTask::Encrypt { recipients: vec![key()], sign: sign.then(key), armor: true }
    }

    async fn run(w: &World, task: &PgpTask, content: &[u8]) -> (Result<Vec<Fingerprint>>, u64) {
        let pgp = Pgp::new(w.settings.clone(), Arc::default()).unwrap();
        let mut to = Outflow::content(16 << 20);
        let result = pgp.run(task, Inflow::content(Bytes::copy_from_slice(content)), &mut to).await;
        (result, to.written())
    }

    #[tokio::test]
    async fn the_child_is_told_what_it_must_and_has_no_environment() {
        let mut w = world(&format!(
            "(env; echo \"$@\"; cat) >\"${{0%/*}}/seen\"; {DONE}; echo '[GNUPG:] SIG_CREATED S' >&2"
        ));
        w.settings.passphrases.insert(key(), Secret::new("open sesame"));
        run(&w, &encrypt(true), b"content").await.0.unwrap();
        let seen = std::fs::read_to_string(w.dir.path().join("seen")).unwrap();
        assert!(seen.ends_with("\nopen sesame\ncontent"), "{seen}");
        assert!(!seen.contains("HOME=") && !seen.contains("CARGO"), "{seen}");
        for words in [
            "--batch --no-tty --no-options",
            "--trust-model always",
            "--passphrase-fd 0",
            "--no-auto-key-locate",
        ] {
            assert!(seen.contains(words), "{seen}");
        }
        assert!(
            seen.contains(&format!("--armor --recipient {ADA} --local-user {ADA} --sign --encrypt\n")),
            "{seen}"
        );
        // Who signs nothing is told no passphrase.
        run(&w, &encrypt(false), b"content").await.0.unwrap();
        let seen = std::fs::read_to_string(w.dir.path().join("seen")).unwrap();
        assert!(!seen.contains("sesame") && !seen.contains("--passphrase-fd"), "{seen}");
    }

    #[tokio::test]
    async fn a_good_end_alone_is_not_good_and_neither_are_good_words() {
        for (script, kind) in [
            ("cat", ErrorKind::Internal),
            (&*format!("cat; {DONE}; exit 2"), ErrorKind::Internal),
            ("echo '[GNUPG:] INV_RECP 5 X' >&2; exit 2", ErrorKind::InvalidArgument),
            // What stands in the middle of a line is nobody's status.
            ("cat; echo 'gpg: [GNUPG:] END_ENCRYPTION' >&2", ErrorKind::Internal),
            ("exec 2>&-; cat", ErrorKind::Internal),
            ("yes '[GNUPG:] KEY_CONSIDERED' >&2", ErrorKind::TooLarge),
            ("cat /dev/zero", ErrorKind::TooLarge),
        ] {
            let (result, _) = run(&world(script), &encrypt(false), b"content").await;
            assert_eq!(result.unwrap_err().kind(), kind, "{script}");
        }
        let (result, written) = run(&world(&format!("cat; {DONE}")), &encrypt(false), b"content").await;
        assert_eq!((result.unwrap(), written), (Vec::new(), 7));
        let much = vec![b'x'; (1 << 20) + 1];
        let (result, _) = run(&world("cat >/dev/null"), &encrypt(false), &much).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge);
        // Who reads nothing is waited for, and judged.
        let (result, _) = run(&world("exit 2"), &encrypt(false), &much[..1 << 20]).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Internal);
    }

    #[tokio::test]
    async fn a_signature_that_stands_apart_comes_by_a_descriptor() {
        let valid = format!("VALIDSIG {ADA} 2026-11-22 1 0 4 0 1 10 00 {ADA}");
        let w = world(&format!(
            "cat <&1 >\"${{0%/*}}/seen\"; cat >>\"${{0%/*}}/seen\"; printf '[GNUPG:] %s\\n' NEWSIG 'GOODSIG 1 x' '{valid}' >&2"
        ));
        let signature = Bytes::from_static(b"signature,");
        let verify =
            |signature: &Bytes| PgpTask::Verify { signers: vec![key()], signature: signature.clone() };
        assert_eq!(run(&w, &verify(&signature), b"content").await.0.unwrap(), [key()]);
        assert_eq!(std::fs::read_to_string(w.dir.path().join("seen")).unwrap(), "signature,content");
    }

    #[tokio::test]
    async fn what_is_late_or_given_up_is_killed_with_all_that_it_started() {
        let mut w = world(
            "sleep 600 & echo $! >\"${0%/*}/new\"; mv \"${0%/*}/new\" \"${0%/*}/pid\"; cat >/dev/null; wait",
        );
        w.settings.time = Duration::from_secs(2);
        let e = run(&w, &encrypt(false), b"content").await.0.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TimedOut);
        let pid = std::fs::read_to_string(w.dir.path().join("pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        for _ in 0..1000 {
            match std::fs::read_to_string(&stat) {
                Ok(text) if !text.contains(") Z ") => tokio::time::sleep(Duration::from_millis(10)).await,
                _ => return,
            }
        }
        panic!("it still runs");
    }

    #[test]
    fn a_home_is_there_and_for_its_owner_alone() {
        let w = world("");
        let opened = |home: PathBuf| Pgp::new(Settings::at(home), Arc::default());
        assert!(opened(w.settings.home.clone()).is_ok());
        for bad in [w.dir.path().join("none"), w.settings.program.clone()] {
            assert_eq!(opened(bad).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        std::fs::set_permissions(&w.settings.home, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(opened(w.settings.home.clone()).unwrap_err().to_string().contains("others"));
    }

    #[test]
    fn the_agents_of_homes_that_were_used_are_ended_once() {
        let w = world("");
        made(w.dir.path(), "gpgconf", "echo \"$@\" >>\"${0%/*}/said\"");
        let agents = Agents::default();
        agents.note(super::gpgconf(&w.settings.program), &w.settings.home);
        agents.end();
        drop(agents);
        let said = std::fs::read_to_string(w.dir.path().join("said")).unwrap();
        assert_eq!(said, format!("--homedir {} --kill gpg-agent\n", w.settings.home.display()));
    }
}
