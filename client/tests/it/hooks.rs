//! Handlers on the client: what they see, what they refuse, how they fail, and what they may not do.
#![cfg(all(feature = "hooks", feature = "sftp"))]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::World;
use client::hooks::{Binding, Grant, Grants, Handlers, OnError, Reach, Secrets, Traced, Tracer};
use client::session::Session;
use session_core::auth::Secret;
use session_core::batch::Unattended;
use session_core::error::{ErrorKind, Result};
use session_core::session::SessionId;

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Tracer for Told {
    fn follows(&self, _: &SessionId) -> bool {
        true
    }

    fn ran(&self, _: &SessionId, traced: Traced) {
        self.0.lock().unwrap().extend(traced.lines);
    }
}

fn bound(event: &str, source: &str) -> Binding {
    Binding::new(event, "h.js", source)
}

async fn opened(world: &World, bindings: Vec<Binding>, reach: Reach) -> Result<Session> {
    let session = Session::new();
    session.set_handlers(&Handlers::new(bindings, reach).unwrap());
    session.open(world.options(), Arc::new(Unattended)).await?;
    Ok(session)
}

/// What a handler with these grants says of itself.
async fn says(world: &World, source: &str, grants: &[Grant], reach: Reach) -> Vec<String> {
    let told = Arc::new(Told::default());
    let reach = Reach { tracer: Some(Arc::clone(&told) as Arc<dyn Tracer>), ..reach };
    let source = format!("try {{ {source} }} catch (e) {{ Log('thrown', e.message) }}");
    let binding = Binding { grants: Grants::of(grants), ..bound("OnDirList", &source) };
    let session = opened(world, vec![binding], reach).await.unwrap();
    session.list_directory("/").await.unwrap();
    session.close().await.unwrap();
    std::mem::take(&mut told.0.lock().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_knows_the_session_and_refuses_what_it_says() {
    let world = World::sftp().await;
    world.write("/a.txt", "a").await;
    world.write("/b.exe", "b").await;
    let who = "Log(Session.GetUser().GetName(), Session.GetProtocol(), Session.GetVirtualSite(), \
        Session.GetRemoteAddress(), Session.GetRemotePort(), Session.GetUser().GetAuthMethods().join())";
    assert_eq!(
        says(&world, who, &[], Reach::default()).await,
        [format!("u SFTP 127.0.0.1 127.0.0.1 {} password", world.port)]
    );

    let source = "if (ExtractExt(CtxRelPath()) === '.exe') Session.BlockOperation('no programs')";
    let session = opened(&world, vec![bound("BeforeFileDownload", source)], Reach::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = format!("{}/", dir.path().display());
    let got = session.get_files("/*", &to, false, &Default::default()).await.unwrap();
    let failures = got.failures();
    assert_eq!((failures.len(), failures[0].kind()), (1, ErrorKind::Refused), "{failures:?}");
    assert!(failures[0].to_string().contains("no programs"), "{failures:?}");
    assert!(dir.path().join("a.txt").exists() && !dir.path().join("b.exe").exists());
    session.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_fails_or_does_not_end_refuses_and_one_that_may_fail_does_not() {
    let world = World::sftp().await;
    world.write("/a", "a").await;
    for source in ["throw new Error('x')", "for (;;);", "nothing.there()"] {
        let failing = Binding { time: Some(Duration::from_millis(200)), ..bound("BeforeFileDelete", source) };
        let session = opened(&world, vec![failing.clone()], Reach::default()).await.unwrap();
        let e = session.remove_file("/a").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Refused, "{source}: {e:#}");
        assert!(e.to_string().contains("a rule of this client failed"), "{e:#}");
        assert!(world.has("/a").await);
        session.close().await.unwrap();
        let passing = Binding { on_error: OnError::Pass, ..failing };
        let session = opened(&world, vec![passing], Reach::default()).await.unwrap();
        session.remove_file("/a").await.unwrap();
        session.close().await.unwrap();
        world.write("/a", "a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_at_the_door_keeps_the_client_away() {
    let world = World::sftp().await;
    let source = "if (Session.GetRequestedUser() === 'u') Session.BlockOperation('not as u')";
    let e = opened(&world, vec![bound("OnAuthRequest", source)], Reach::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("not as u"), "{e:#}");
    let source = "Session.BlockOperation('no SFTP')";
    let e = opened(&world, vec![bound("BeforeOpenSFTP", source)], Reach::default()).await.unwrap_err();
    assert!(e.to_string().contains("no SFTP"), "{e:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_reached_without_a_grant_and_then_only_what_was_listed() {
    let world = World::sftp().await;
    world.write("/note", "content").await;
    let calls = [
        (Grant::Exec, "Log(Exec('echo', ['hi']).Stdout.trim())", "hi"),
        (Grant::Files, "Log(GetCurrentVFS().ReadFileAsText('/note').Data())", "content"),
        (Grant::Secrets, "Log(GetSecret('s').length)", "5"),
        (Grant::Store, "Log(Store.Increment('n'))", "1"),
    ];
    let reach = || Reach {
        programs: BTreeMap::from([("echo".to_owned(), "/bin/echo".into())]),
        secrets: Secrets::new(BTreeMap::from([("s".to_owned(), Secret::new("12345"))])),
        ..Reach::default()
    };
    for (grant, call, answer) in calls {
        let refused = says(&world, call, &[], reach()).await.join("\n");
        assert!(refused.starts_with("thrown"), "{call}: {refused}");
        assert_eq!(says(&world, call, &[grant], reach()).await, [answer], "{call}");
    }
    for call in ["Exec('sh')", "fetch('http://127.0.0.1:1/')", "Sessions.list()"] {
        let said = says(&world, &format!("await {call}; Log('done')"), Grant::ALL, reach()).await.join("\n");
        assert!(said.starts_with("thrown"), "{call}: {said}");
    }
}

/// Exit code and error output.
async fn ferry(dir: &Path, args: &[&str]) -> (i32, String) {
    let out = tokio::process::Command::new(env!("CARGO_BIN_EXE_ferry"))
        .args(args)
        .current_dir(dir)
        .env("XDG_STATE_HOME", dir.join(".state"))
        .env("HOME", dir)
        .output()
        .await
        .unwrap();
    (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_asks_them_too() {
    let world = World::sftp().await;
    world.write("/f", "f").await;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("all.js", "Log('@', CtxEvent(), CtxRelPath())");
    write("no.js", "Session.BlockOperation('not today')");
    write("broken.js", "if (");
    let digest = world.fingerprint.split(' ').nth(1).unwrap();
    let key = format!("--host-key=SHA256:{digest}");
    let url = format!("sftp://u:secret@127.0.0.1:{}", world.port);
    let f = format!("{url}/f");
    let usual = ["--batch", &key, "--ssh-config=none"];
    let run = |more: &[&str]| {
        let args: Vec<String> = usual.iter().chain(more).map(ToString::to_string).collect();
        let dir = dir.path().to_owned();
        async move { ferry(&dir, &args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let (code, err) = run(&["--hooks", "all.js", "cat", &f]).await;
    assert_eq!(code, 0, "{err}");
    let lines: Vec<_> = err.lines().map(|l| l.trim_start_matches("all.js: @ ").trim_end()).collect();
    // What is not awaited is told when the file is closed or thereafter.
    for line in
        ["OnAuthRequest", "OnAuthSuccess", "BeforeOpenSFTP", "BeforeFileDownload /f", "OnConnectionClose"]
    {
        assert!(lines.contains(&line), "{line} in {err}");
    }
    assert!(lines.contains(&"AfterFileDownload /f"), "{err}");
    let (code, err) = run(&["--hooks", "BeforeFileDownload,BeforeFileDelete=no.js", "rm", &f]).await;
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("not today") && world.has("/f").await, "{err}");
    let (code, err) = run(&["--hooks", "OnDirList=no.js", "rm", &f]).await;
    assert_eq!(code, 0, "{err}");
    for (bad, words) in [
        ("broken.js", "does not compile"),
        ("missing.js", "cannot be read"),
        ("OnNothing=all.js", "is not an event"),
        ("OnNewConnection=all.js", "nobody connects to a client"),
    ] {
        let (code, err) = run(&["--hooks", bad, "ls", &url]).await;
        assert!(code != 0 && err.contains(words), "{bad}: {code} {err}");
    }
    let (code, err) = run(&["--json", "--hooks", "BeforeFileUpload=no.js", "put", "all.js", &f]).await;
    assert_ne!(code, 0, "{err}");
    assert!(!world.has("/f").await);
}

#[tokio::test]
async fn handlers_are_checked_before_they_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("good.js", "Log(Session.GetID()); await 0;");
    write("syntax.js", "let a;\nlet b = ;");
    write("member.js", "\n\nSession.GetIdd();");
    write("import.mjs", "import { x } from './none.mjs';\nexport default () => x;");
    let checked = |args: &[&str]| {
        let args: Vec<String> = ["hooks", "check"].iter().chain(args).map(ToString::to_string).collect();
        let dir = dir.path().to_owned();
        async move {
            let mut ferry = tokio::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
            let out = ferry.args(args).current_dir(&dir).env("HOME", &dir).output().await.unwrap();
            (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
        }
    };
    assert_eq!(checked(&["good.js", "OnDirList=good.js"]).await, (0, "2 checked: good\n".to_owned()));
    for (file, words) in [
        ("syntax.js", "syntax.js:2"),
        ("member.js", "member.js:3: there is no Session.GetIdd (nearest: GetID)"),
        ("import.mjs", "none.mjs"),
        ("missing.js", "cannot be read"),
        ("OnDirLst=good.js", "good.js: 'OnDirLst' is not an event (did you mean 'OnDirList'?)"),
        ("OnDirList,OnNewConnection=good.js", "nobody connects to a client"),
    ] {
        let (code, out) = checked(&["good.js", file]).await;
        assert!(code == 1 && out.contains(words), "{file}: {code} {out}");
    }
    // Everything that is wrong is told at once, by file.
    let (code, out) = checked(&["--json", "good.js", "OnX,OnNewConnection=member.js"]).await;
    let lines: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((code, lines.len(), &lines[0]["good"]), (1, 2, &true.into()));
    assert_eq!((&lines[1]["file"], lines[1]["faults"].as_array().unwrap().len()), (&"member.js".into(), 3));
}

#[tokio::test]
async fn types_for_an_editor_go_to_a_file_or_to_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let types = async |args: &[&str]| {
        let mut ferry = tokio::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
        let out = ferry.args(["hooks", "types"]).args(args).current_dir(dir.path()).output().await.unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, out) = types(&[]).await;
    assert!(code == 0 && out.contains("declare const Session: FerrySession;"), "{out}");
    assert_eq!(types(&["ferry.d.ts"]).await, (0, String::new()));
    assert_eq!(std::fs::read_to_string(dir.path().join("ferry.d.ts")).unwrap(), out);
    assert_eq!(types(&["missing/ferry.d.ts"]).await.0, 5);
}
