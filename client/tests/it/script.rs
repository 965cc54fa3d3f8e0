//! Scripts as people write them, against our own server, with their output, log and exit code.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::{World, path};
use client::script::{Console, Drives, NAMESPACE, Runner, Settings, XmlLog};
use session_core::batch::Unattended;
use session_core::fs::Follow;
use session_core::metadata::Attributes;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    errors: Vec<String>,
    content: Vec<u8>,
    stop: Option<CancellationToken>,
}

impl Console for Said {
    fn line(&mut self, text: &str) {
        self.lines.push(text.into());
    }

    fn error(&mut self, text: &str) {
        self.errors.push(text.into());
    }

    fn content(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
    }

    fn stop(&mut self) -> Option<CancellationToken> {
        self.stop.clone()
    }
}

struct Ran {
    said: Said,
    xml: String,
    code: u8,
}

/// Runs a script of the corpus with drive D: at `dir`.
async fn run(world: &World, name: &str, dir: &Path, parameters: &[&str]) -> Ran {
    run_until(world, name, dir, parameters, None).await
}

/// The same, with what ends a command that has no end.
async fn run_until(
    world: &World,
    name: &str,
    dir: &Path,
    parameters: &[&str],
    stop: Option<CancellationToken>,
) -> Ran {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name);
    let text = std::fs::read_to_string(file).unwrap();
    let text =
        text.replace("HOSTKEY", &world.fingerprint).replace("HOST", &format!("127.0.0.1:{}", world.port));
    let mut drives = Drives::new();
    drives.add(&format!("D:={}", dir.display())).unwrap();
    let settings = Settings {
        decider: Arc::new(Unattended),
        parameters: parameters.iter().map(|p| (*p).to_string()).collect(),
        drives,
        known_hosts: Some(dir.join("known_hosts")),
        directory: Some(dir.to_path_buf()),
        max_delete: Default::default(),
        sites: None,
    };
    let mut said = Said { stop, ..Said::default() };
    let mut runner = Runner::new(&settings, &mut said, Some(XmlLog::new(true))).unwrap();
    for line in text.lines() {
        if !runner.line(line).await {
            break;
        }
    }
    let code = runner.end().await;
    let xml = runner.take_log();
    check(&xml);
    Ran { said, xml, code }
}

/// The rules of the schema: well-formed, one root, elements where they belong, each operation with one
/// result at its end.
pub fn check(xml: &str) {
    const OPERATIONS: [&str; 14] = [
        "upload",
        "download",
        "touch",
        "chmod",
        "mkdir",
        "rm",
        "mv",
        "cp",
        "ls",
        "stat",
        "checksum",
        "call",
        "cwd",
        "difference",
    ];
    let mut open: Vec<(String, bool)> = Vec::new();
    let mut roots = 0;
    for (n, line) in xml.lines().enumerate() {
        let tag = line.trim();
        let at = || format!("line {}: {tag}", n + 1);
        if n == 0 {
            assert_eq!(tag, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
            continue;
        }
        let name = tag.trim_start_matches(['<', '/']).split([' ', '>']).next().unwrap().to_string();
        let parent = open.last().map(|(p, _)| p.clone()).unwrap_or_default();
        if tag.starts_with("</") {
            let (opened, has_result) = open.pop().unwrap_or_else(|| panic!("{}", at()));
            assert_eq!(opened, name, "{}", at());
            if OPERATIONS.contains(&name.as_str()) {
                assert!(has_result, "{}", at());
            }
            continue;
        }
        match name.as_str() {
            "session" => {
                roots += 1;
                assert!(open.is_empty() && tag.contains(NAMESPACE) && tag.contains(" start=\""), "{}", at());
            }
            // A file's group is a value.
            "group" if parent == "file" => {}
            "group" => assert_eq!(parent, "session", "{}", at()),
            "failure" => assert!(["session", "group"].contains(&parent.as_str()), "{}", at()),
            "message" => assert!(["failure", "result"].contains(&parent.as_str()), "{}", at()),
            "result" => {
                assert!(OPERATIONS.contains(&parent.as_str()), "{}", at());
                let (_, has_result) = open.last_mut().unwrap();
                assert!(!*has_result, "{}", at());
                *has_result = true;
            }
            "files" => assert_eq!(parent, "ls", "{}", at()),
            "file" => assert!(["files", "stat"].contains(&parent.as_str()), "{}", at()),
            // Inside `cwd` stands its value, of the same name.
            "cwd" if parent == "cwd" => {}
            "checksum" if parent == "checksum" => {}
            name if OPERATIONS.contains(&name) => {
                assert!(["session", "group"].contains(&parent.as_str()), "{}", at());
            }
            _ => assert!(tag.contains(" value=\"") && tag.ends_with(" />"), "{}", at()),
        }
        assert!(!open.last().is_some_and(|(_, has_result)| *has_result && name != "result"), "{}", at());
        if !tag.ends_with("/>") && !tag.contains("</") {
            open.push((name, false));
        }
    }
    assert!(open.is_empty() && roots == 1, "{xml}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_with_dates_in_names_removes_what_it_fetched() {
    let world = World::sftp().await;
    for name in ["/logs/a.log", "/logs/b.log", "/logs/c.txt"] {
        world.write(name, name).await;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("backup/archive")).unwrap();
    let ran = run(&world, "backup.txt", dir.path(), &[]).await;
    assert_eq!((ran.code, &ran.said.errors[..]), (0, &[][..]));
    let year = &session_core::event::timestamp(SystemTime::now())[..4];
    let kept = dir.path().join(format!("backup/archive/a-{year}.log"));
    assert_eq!(std::fs::read(kept).unwrap(), b"/logs/a.log");
    assert_eq!(world.tree().await, ["/logs/", "/logs/c.txt"]);
    assert_eq!(ran.xml.matches("<download>").count(), 2);
    assert_eq!(ran.xml.matches("<rm>").count(), 2);
    assert!(!ran.xml.contains("secret"), "{}", ran.xml);
    assert!(ran.xml.contains("<group name=\"lcd &quot;D:\\backup&quot;\""), "{}", ran.xml);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_a_site_is_logged_operation_by_operation() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("site/sub")).unwrap();
    for name in ["site/index.html", "site/sub/x.css", "single.txt"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    let ran = run(&world, "upload.txt", dir.path(), &["D:\\site"]).await;
    assert_eq!((ran.code, &ran.said.errors[..]), (0, &[][..]), "{}", ran.xml);
    let expected = ["/www/", "/www/index.html", "/www/renamed file.txt", "/www/sub/", "/www/sub/x.css"];
    assert_eq!(world.tree().await, expected);
    assert_eq!(ran.said.lines[0], "Sending D:\\site");
    for part in [
        "<filename value=\"/www/sub\" />",
        "<destination value=\"/www/renamed file.txt\" />\n      <size value=\"10\" />\n      <result success=\"true\" />",
        "<permissions value=\"rw-r-----\" />",
        "<checksum value=\"4d0f4f0b",
        "<cwd value=\"/\" />",
    ] {
        let part = part.replace("4d0f4f0b", &sha256_begin(b"single.txt"));
        assert!(ran.xml.contains(&part), "{part}\n{}", ran.xml);
    }
    assert_eq!(ran.xml.matches("<upload>").count(), 3);
    assert!(
        ran.xml.contains("<touch>\n      <filename value=\"/www/renamed file.txt\" />\n      <modification"),
        "{}",
        ran.xml
    );
}

fn sha256_begin(data: &[u8]) -> String {
    let mut hasher = session_core::digest::Hasher::new(session_core::fs::Algorithm::Sha256);
    hasher.update(data);
    session_core::digest::hex(&hasher.finish())[..8].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_end_a_script_or_not_and_always_show_in_its_code() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&world, "failing.txt", dir.path(), &[]).await;
    assert_eq!((ran.code, ran.said.errors.len()), (1, 3), "{:?}", ran.said.errors);
    assert_eq!(world.tree().await, ["/moved/"]);
    assert_eq!(ran.xml.matches("<result success=\"false\">").count(), 2, "{}", ran.xml);
    assert_eq!(ran.xml.matches("<failure>").count(), 1);
    assert_eq!(ran.xml.matches("no such file").count(), 2);
    let ran = run(&world, "aborting.txt", dir.path(), &[]).await;
    assert_eq!(ran.code, 1);
    assert!(!world.has("/never").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sessions_are_open_and_masks_may_have_to_fit() {
    let world = World::sftp().await;
    world.write("/deep/x", "x").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("single.txt"), "single").unwrap();
    let ran = run(&world, "several.txt", dir.path(), &[]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(ran.said.errors.len(), 1, "{:?}", ran.said.errors);
    assert!(ran.said.errors[0].contains("'/*.nothing'"));
    let at = |text: &str| ran.said.lines.iter().position(|l| l == text).unwrap_or_else(|| panic!("{text}"));
    assert!(at("[2] second *") < at("/deep") && at("/deep") < at("/"));
    assert_eq!(world.tree().await, [""; 0]);
    assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latest_file_and_content_to_the_output() {
    let world = World::sftp().await;
    for (name, seconds) in [("/d/old.bin", 1_000_000_000), ("/d/new.bin", 1_200_000_000)] {
        world.write(name, name).await;
        let time = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        world.store.set_attributes(&path(name), &Attributes::times(time, time), Follow::No).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let latest = dir.path().join("latest");
    std::fs::create_dir(&latest).unwrap();
    let ran = run(&world, "latest.txt", dir.path(), &[]).await;
    assert_eq!((ran.code, &ran.said.errors[..]), (0, &[][..]));
    assert_eq!(std::fs::read(latest.join("kept.bin")).unwrap(), b"/d/old.bin");
    assert!(latest.join("new.bin").exists() && !latest.join("old.bin").exists());
    assert_eq!(ran.said.content, b"/d/new.bin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_compared_and_synchronised() {
    let world = World::sftp().await;
    world.write("/backup/gone.txt", "gone").await;
    world.write("/backup/kept.tmp", "kept").await;
    let dir = tempfile::tempdir().unwrap();
    for name in ["data/a.txt", "data/sub/b.txt", "data/c.tmp"] {
        let at = dir.path().join(name);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, name).unwrap();
    }
    std::fs::create_dir(dir.path().join("copy")).unwrap();
    let ran = run(&world, "synchronize.txt", dir.path(), &[]).await;
    assert_eq!((ran.code, &ran.said.errors[..]), (0, &[][..]), "{}", ran.xml);
    let all = ["/backup/", "/backup/a.txt", "/backup/kept.tmp", "/backup/sub/", "/backup/sub/b.txt"];
    assert_eq!(world.tree().await, all);
    assert_eq!(std::fs::read(dir.path().join("copy/sub/b.txt")).unwrap(), b"data/sub/b.txt");
    let count = |what: &str| ran.xml.matches(what).count();
    assert_eq!((count("<difference>"), count("<upload>"), count("<rm>"), count("<download>")), (3, 2, 1, 2));
    assert_eq!(count("<action value=\"uploadnew\" />"), 2);
    assert_eq!(count("<action value=\"deleteremote\" />"), 1);
    assert!(ran.xml.contains("<mkdir>\n      <filename value=\"/backup/sub\" />"), "{}", ran.xml);
}

#[test]
fn the_command_has_two_exit_codes_and_writes_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script.txt");
    let log = dir.path().join("log.xml");
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_ferry"))
            .arg("script")
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    };
    std::fs::write(&script, "\u{feff}echo %1% and %2%\r\nlpwd\r\nhelp mkdir\r\n").unwrap();
    let (code, out, err) = run(&["script.txt", "--parameter", "a", "--parameter", "b c"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("a and b c\n") && out.contains("makes a remote directory"), "{out}");
    let (code, _, err) = run(&["--command", "lcd E:\\x", "--command", "echo no", "--xmllog", "log.xml"]);
    assert_eq!(code, 1);
    assert!(err.contains("--drive E:=DIR"), "{err}");
    let xml = std::fs::read_to_string(&log).unwrap();
    check(&xml);
    assert!(xml.contains("<failure>"), "{xml}");
    let refused = [
        "call ls",
        "put - x",
        "open",
        "open gopher://h",
        "open -rawsettings Tunnel=1 -- sftp://h",
        "mkdir x",
        "nonsense",
        "option color on",
        "get -transfer=morse x",
    ];
    for command in refused {
        let (code, _, err) = run(&["--command", command]);
        assert_eq!(code, 1, "{command}");
        assert!(err.starts_with("error: "), "{command}: {err}");
    }
    assert_eq!(run(&["missing.txt"]).0, 5);
    assert_eq!(run(&[]).0, 2);
    assert_eq!(run(&["script.txt", "--drive", "nonsense"]).0, 2);
}

/// Reads from a text, besides.
#[derive(Default)]
struct Fed {
    said: Said,
    input: Option<&'static [u8]>,
}

impl Console for Fed {
    fn line(&mut self, text: &str) {
        self.said.line(text);
    }

    fn error(&mut self, text: &str) {
        self.said.error(text);
    }

    fn content(&mut self, bytes: &[u8]) {
        self.said.content(bytes);
    }

    fn input(&mut self) -> Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        self.input.take().map(|bytes| Box::new(bytes) as _)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sites_by_name_content_from_a_stream_commands_and_the_latest_file() {
    let world = World::sftp().await;
    world.write("/start/f", "content").await;
    let dir = tempfile::tempdir().unwrap();
    let store = client::sites::Store::at(dir.path().join("sites.toml"));
    let site = client::sites::Site::new("Customers/ACME", world.options()).unwrap();
    store
        .edit(|sites| {
            sites.unlock(&session_core::auth::Secret::new("phrase"))?;
            sites.put(client::sites::Site { directory: Some("/start".into()), ..site })
        })
        .unwrap();
    for (name, age) in [("a.txt", 100), ("b.txt", 10), ("c.txt", 1000)] {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
    }
    std::fs::create_dir(dir.path().join("sub.txt")).unwrap();

    struct Phrase;
    #[async_trait::async_trait]
    impl session_core::batch::Decider for Phrase {
        async fn decide(&self, query: session_core::batch::Query) -> session_core::batch::Answer {
            match query {
                session_core::batch::Query::Passphrase { .. } => {
                    session_core::batch::Answer::Secret(session_core::auth::Secret::new("phrase"))
                }
                other => other.unattended(),
            }
        }
    }
    let settings = Settings {
        decider: Arc::new(Phrase),
        parameters: Vec::new(),
        drives: Drives::new(),
        known_hosts: None,
        directory: Some(dir.path().to_path_buf()),
        max_delete: Default::default(),
        sites: Some(store),
    };
    let mut fed = Fed { input: Some(b"streamed"), ..Fed::default() };
    let mut runner = Runner::new(&settings, &mut fed, Some(XmlLog::new(false))).unwrap();
    for (line, good) in [
        ("option batch continue", true),
        ("open customers/acme", true),
        ("pwd", true),
        ("put - streamed.bin", true),
        ("put - again.bin", false),
        ("put - /start/", false),
        ("put -latest *.txt", true),
        ("put -onlyfile sub.txt", false),
        // Our server has no shell that could change to another directory.
        ("cd /", true),
        ("call sha256sum /start/f", true),
        ("call sha256sum /start/none", false),
        ("close", true),
        ("open site://Customers%2FACME/start/../", true),
        ("open site://nowhere", false),
    ] {
        runner.line(line).await;
        let after = runner.take_log();
        let failed = after.contains("<failure>") || after.contains("success=\"false\"");
        assert_eq!(!failed, good, "{line}: {after}");
        if line.starts_with("call") {
            let code = if good { "0" } else { "1" };
            assert!(after.contains(&format!("<exitcode value=\"{code}\" />")), "{after}");
            assert!(after.contains("<destination value=\"/\" />"), "{after}");
        }
        if line == "put - streamed.bin" {
            assert!(
                after.contains("<filename value=\"-\" />") && after.contains("<size value=\"8\" />"),
                "{after}"
            );
        }
    }
    assert_eq!(runner.end().await, 1);
    assert!(fed.said.lines.iter().any(|l| l == "/start"), "{:?}", fed.said.lines);
    assert_eq!(world.read("/start/streamed.bin").await, b"streamed");
    let all = world.tree().await;
    assert_eq!(all, ["/start/", "/start/b.txt", "/start/f", "/start/streamed.bin"], "only the latest");
}

// Takes a second and more: changes have half a second to settle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_locally_is_sent_until_somebody_ends_it() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("site/deep")).unwrap();
    std::fs::write(at("site/before"), "not sent").unwrap();
    std::fs::write(at("site/deep/gone"), "1").unwrap();
    std::fs::write(at("after.txt"), "after").unwrap();
    world.write("/site/only there", "stays").await;
    world.write("/site/deep/gone", "1").await;
    let stop = CancellationToken::new();
    let ended = stop.clone();
    let work = async {
        // Nobody says when the command has begun to listen: until it does, the change is made again.
        let mut tries = 0;
        while !world.has("/site/deep/new").await {
            if tries % 100 == 0 {
                std::fs::write(at("site/deep/new"), "new").unwrap();
                std::fs::write(at("site/deep/new.tmp"), "new").unwrap();
            }
            tries += 1;
            assert!(tries < 3000, "it is not sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::fs::remove_file(at("site/deep/gone")).unwrap();
        while world.has("/site/deep/gone").await {
            tries += 1;
            assert!(tries < 3000, "it is not removed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(run_until(&world, "keep.txt", dir.path(), &[], Some(ended)), work);
    assert_eq!(ran.code, 0, "{:?}", ran.said.errors);
    // The script went on.
    assert_eq!(world.read("/after.txt").await, b"after");
    assert!(world.has("/site/only there").await && !world.has("/site/before").await);
    assert!(!world.has("/site/deep/new.tmp").await);
    assert!(ran.xml.contains("<upload>") && ran.xml.contains("<rm>"), "{}", ran.xml);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_stands_in_the_group_of_its_command() {
    let world = World::sftp().await;
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&world, "groups.txt", dir.path(), &[]).await;
    assert_eq!(ran.code, 1);
    let groups: Vec<(&str, usize)> = ran
        .xml
        .split("<group name=\"")
        .skip(1)
        .map(|group| (group.split('"').next().unwrap(), group.matches("<failure>").count()))
        .collect();
    let [before, open, made, after, wrong, unread, last] = groups[..] else { panic!("{}", ran.xml) };
    assert_eq!((before, made, after), (("nonsense before", 1), ("mkdir /d", 0), ("nonsense after", 1)));
    assert!(open.0.starts_with("open sftp://u") && open.1 == 0, "{open:?}");
    assert!(wrong.0.starts_with("open sftp://u") && wrong.1 == 1, "{wrong:?}");
    assert_eq!((unread, last), (("open", 1), ("mkdir /e", 0)));
    assert!(!ran.xml.contains("secret") && !ran.xml.contains("wrong@"), "{}", ran.xml);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_script_moves_is_listed_and_can_be_ended() {
    let world = World::sftp().await;
    world.write("/in/x", "").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("large"), vec![7; 8 << 20]).unwrap();
    let ferry = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry"));
        command.args(args).current_dir(dir.path()).env("XDG_RUNTIME_DIR", dir.path()).env("HOME", dir.path());
        command
    };
    let script = format!(
        "option batch continue\nopen sftp://u:secret@127.0.0.1:{}/ -hostkey=\"{}\"\nput -speed=64 large /in/\nmkdir /after\n",
        world.port, world.fingerprint
    );
    std::fs::write(dir.path().join("script"), script).unwrap();
    let mut child = ferry(&["script", "script"]).spawn().unwrap();
    let begin = std::time::Instant::now();
    let job = loop {
        assert!(begin.elapsed() < Duration::from_secs(60), "it is not seen");
        let out = ferry(&["--json", "jobs"]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        if let Some(line) = text.lines().next() {
            break serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    };
    assert_eq!(
        (job["command"].as_str(), job["pid"].as_u64()),
        (Some("put"), Some(child.id().into())),
        "{job}"
    );
    assert!(job["source"].as_str().unwrap().ends_with("/large"), "{job}");
    assert_eq!(job["target"], "u@127.0.0.1:/in");
    let killed = ferry(&["jobs", "kill", job["job"].as_str().unwrap()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(world.has("/after").await && !world.has("/in/large").await);
}
