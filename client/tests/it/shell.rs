//! `ferry shell`, from a pipe and on a terminal: sessions, directories, patterns, exit codes, history, Ctrl-C.
#![cfg(feature = "sftp")]

use std::path::Path;
use std::process::Stdio;

use crate::support::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm")
        .env("FERRY_PASSWORD", "secret")
        .env("XDG_STATE_HOME", dir.join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Where a world is, and the flags that lead there.
fn reach(world: &World) -> (String, Vec<String>) {
    let digest = world.fingerprint.split(' ').nth(1).unwrap();
    let flags = vec![format!("--host-key=SHA256:{digest}"), "--ssh-config=none".to_owned()];
    (format!("sftp://u@127.0.0.1:{}/", world.port), flags)
}

/// What the shell makes of these lines: exit code, output, errors.
async fn piped(dir: &Path, args: &[String], lines: &str) -> (i32, String, String) {
    let mut child = command(env!("CARGO_BIN_EXE_ferry"), dir).args(args).arg("shell").spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).await.unwrap();
    drop(input);
    let out = child.wait_with_output().await.unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_in_the_session_and_its_directory() {
    let world = World::sftp().await;
    for (at, text) in [("/d/a b.txt", "one"), ("/d/c.txt", "two"), ("/d/e.bin", "x"), ("/d/~/t", "tilde")] {
        world.write(at, text).await;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("here")).unwrap();
    std::fs::write(dir.path().join("here/up.txt"), "up").unwrap();
    let (url, flags) = reach(&world);
    let lines = format!(
        "# a comment\n\nopen {url}\npwd\ncd d\npwd\nls\ncat 'a b.txt'\nlcd here\nget *.txt .\n\
         put up.txt\nput *.txt ..\nmkdir new\nmv c.txt new/\nls new\nlls\nlpwd\nstat --json ./~/t\n\
         cat /d/./~/t\nrm -r new\ncd\npwd\nls {url}d/~\n"
    );
    let (code, out, err) = piped(dir.path(), &flags, &lines).await;
    assert_eq!(code, 0, "{out}{err}");
    for part in
        ["/\n/d\na b.txt\nc.txt\ne.bin\n~\none", "c.txt\na b.txt\nc.txt\nup.txt\n", "/here\n", "tilde/\nt\n"]
    {
        assert!(out.contains(part), "{part:?} in {out}");
    }
    assert!(out.contains("\"size\":5"), "{out}");
    assert_eq!(std::fs::read(dir.path().join("here/a b.txt")).unwrap(), b"one");
    assert!(!dir.path().join("here/e.bin").exists());
    assert_eq!(world.read("/d/up.txt").await, b"up");
    assert_eq!((world.read("/up.txt").await, world.has("/a b.txt").await), (b"up".to_vec(), true));
    assert!(!world.has("/d/new").await && !world.has("/d/c.txt").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_failure_ends_it_with_its_code_unless_it_is_forgiven() {
    let world = World::sftp().await;
    world.write("/f", "f").await;
    let dir = tempfile::tempdir().unwrap();
    let (url, mut flags) = reach(&world);
    let run = |lines: &'static str| {
        let (dir, flags) = (dir.path().to_owned(), flags.clone());
        let lines = lines.replace("URL", &url);
        async move { piped(&dir, &flags, &lines).await }
    };
    let (code, out, err) = run("open URL\ncat missing\ncat f\n").await;
    assert_eq!((code, out.as_str()), (5, ""), "{err}");
    assert_eq!(run("open URL\n-cat missing\ncat f\n").await.0, 0);
    assert_eq!(run("open URL\ncat f\nexit\ncat missing\n").await.1, "f");
    assert_eq!(run("open URL\ncat *.none\n").await.0, 5);
    assert_eq!(run("nonsense\n").await.0, 2);
    assert_eq!(run("cat 'f\n").await.0, 2);
    assert_eq!(run("shell\n").await.0, 2);
    assert_eq!(run("pwd\n").await.0, 2);
    assert_eq!(run("open URLmissing\n").await.0, 5);
    assert_eq!(run("open URLf\n").await.0, 1);
    assert_eq!(run("lcd /nonexistent\n").await.0, 5);
    let (code, out, _) = run("help\nhelp cd\nhelp get\n").await;
    assert!(code == 0 && out.contains("lcd [DIR]") && out.contains("--overwrite"), "{out}");
    // Flags of a line hold for that line, those of the shell for all.
    flags.push("--json".to_owned());
    let (code, out, err) = piped(dir.path(), &flags, &format!("open {url}\nls\nls --overwrite\n")).await;
    assert_eq!(code, 2, "{err}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(out.trim()).unwrap()["name"], "f", "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_stand_beside_each_other() {
    let (one, two) = (World::sftp().await, World::sftp().await);
    one.write("/one/x", "1").await;
    two.write("/two/y", "2").await;
    let dir = tempfile::tempdir().unwrap();
    let (first, mut flags) = reach(&one);
    let (second, more) = reach(&two);
    flags.extend(more.into_iter().take(1));
    let lines = format!(
        "open {first}one\nopen {second}two\nls\nsession 1\nls\ncp {second}two/y .\nopen {first}\nclose\n\
         session\nsession 1\nls\nclose 1\nsession\n-ls\nsession 9\n"
    );
    let (code, out, err) = piped(dir.path(), &flags, &lines).await;
    assert_eq!(code, 2, "{out}{err}");
    let names: Vec<_> = out.lines().filter(|l| !l.contains("file")).collect();
    assert_eq!(
        names,
        ["y", "x", " 1 u@127.0.0.1:/one", "*2 u@127.0.0.1:/two", "x", "y", "*2 u@127.0.0.1:/two", "y"],
        "{out}{err}"
    );
}

/// A shell on a terminal, which `script` makes.
struct Terminal {
    child: Child,
    seen: String,
}

impl Terminal {
    fn start(dir: &Path, flags: &[String], place: &str) -> Option<Self> {
        // No shell of its own in between: it would be interrupted, too, and end as if it were the one.
        let line = format!("exec {} {} shell {place}", env!("CARGO_BIN_EXE_ferry"), flags.join(" "));
        let child = command("script", dir).args(["-qec", &line, "/dev/null"]).spawn();
        child.ok().map(|child| Terminal { child, seen: String::new() })
    }

    async fn send(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(text.as_bytes()).await.unwrap();
        input.flush().await.unwrap();
    }

    /// Reads until this has come, and forgets it.
    async fn until(&mut self, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        let mut buf = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return before;
            }
            let read = self.child.stdout.as_mut().unwrap().read(&mut buf);
            let n = tokio::time::timeout_at(deadline, read).await;
            let n = n.unwrap_or_else(|_| panic!("{text:?} never came: {:?}", self.seen)).unwrap();
            assert_ne!(n, 0, "it ended before {text:?}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buf[..n]));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_paths_are_completed_and_ctrl_c_ends_one_command_only() {
    let world = World::sftp().await;
    world.write("/folder/some file.txt", "found it").await;
    let dir = tempfile::tempdir().unwrap();
    let (url, flags) = reach(&world);
    let Some(mut t) = Terminal::start(dir.path(), &flags, "") else {
        eprintln!("there is no 'script' here");
        return;
    };
    t.until("ferry> ").await;
    // What is written is given up, the shell is not.
    t.send("nonsense\x03").await;
    t.until("ferry> ").await;
    t.send(&format!("open {url}\r")).await;
    t.until("u@127.0.0.1:/> ").await;
    t.send("ls missing\r").await;
    t.until("error: ").await;
    t.until("u@127.0.0.1:/> ").await;
    t.send("cat fol\tso\t\r").await;
    t.until("found it").await;
    t.until("u@127.0.0.1:/> ").await;
    // Watching has no end of its own.
    t.send("watch --poll 1 . folder --quiet\r").await;
    t.until("\n").await;
    let live = dir.path().join("state/ferry/live");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !std::fs::read_dir(&live).is_ok_and(|mut entries| entries.next().is_some()) {
        assert!(std::time::Instant::now() < deadline, "it never began to watch");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    t.send("\x03").await;
    t.until("u@127.0.0.1:/> ").await;
    t.send("open sftp://u:geheim@127.0.0.1:1/\r").await;
    t.until("error: ").await;
    t.until("> ").await;
    t.send("pwd\r").await;
    t.until("/\r\n").await;
    t.send("exit\r").await;
    // Its input stays open until it has ended.
    let mut rest = Vec::new();
    t.child.stdout.as_mut().unwrap().read_to_end(&mut rest).await.unwrap();
    let status = t.child.wait().await.unwrap();
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&rest));
    let file = dir.path().join("state/ferry/history");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("ls missing") && !kept.contains("geheim"), "{kept}");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_of_the_place_that_is_opened_first_are_completed_at_once() {
    let world = World::sftp().await;
    world.write("/there", "found it").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("there-not"), "not it").unwrap();
    let (url, flags) = reach(&world);
    let Some(mut t) = Terminal::start(dir.path(), &flags, &url) else {
        eprintln!("there is no 'script' here");
        return;
    };
    t.until("u@127.0.0.1:/> ").await;
    t.send("cat th\t\r").await;
    t.until("found it").await;
    t.send("exit\r").await;
    t.child.wait().await.unwrap();
}
