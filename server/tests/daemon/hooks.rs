//! Hooks as an administrator writes them.

use crate::support::*;

fn hook(event: &str, file: &str, more: &str) -> String {
    format!("\n[[hooks]]\nevent = \"{event}\"\nfile = \"{file}\"\n{more}\n")
}

#[tokio::test]
async fn uploads_are_blocked_by_extension_with_words() {
    let block = "if (ExtractExt(CtxRelPath()) === '.exe') Session.BlockOperation('no programs here');";
    let s = Server::start(&(user("alice") + &hook("BeforeFileUpload", "b.js", "")), &[("b.js", block)]);
    let a = s.login("alice").await;
    let e = put(&a, "/x.exe", "MZ").await.err().unwrap();
    assert!(format!("{e:#}").contains("no programs here"), "{e:#}");
    put(&a, "/x.txt", "text").await.unwrap();
    assert_eq!(names(&a, "/").await.unwrap(), ["x.txt"]);
}

#[tokio::test]
async fn a_login_is_logged_and_a_listing_loses_names() {
    let log = "Log('session', Session.GetID(), 'is', Session.GetUser().GetName());";
    let hide = "Session.RemoveFromListDir('*.tmp');";
    let config = user("alice") + &hook("OnAuthSuccess", "l.js", "") + &hook("OnDirList", "h.js", "");
    let s = Server::start(&config, &[("l.js", log), ("h.js", hide)]);
    let a = s.login("alice").await;
    let id = s.sessions()[0]["sessionId"].as_str().unwrap().to_string();
    s.logged(&[&format!("session {id} is alice")]).await;
    put(&a, "/a.tmp", "").await.unwrap();
    put(&a, "/b", "").await.unwrap();
    assert_eq!(names(&a, "/").await.unwrap(), ["b"]);
}

#[tokio::test]
async fn a_handler_that_fails_blocks_unless_it_may_pass() {
    let config = user("thrown")
        + &user("looped")
        + &user("passed")
        + &hook("BeforeFileUpload", "t.js", "users = [\"thrown\"]")
        + &hook("BeforeFileUpload", "l.js", "users = [\"looped\"]\ntime = \"200ms\"")
        + &hook("BeforeFileUpload", "t.js", "users = [\"passed\"]\non_error = \"pass\"");
    let s =
        Server::start(&config, &[("t.js", "let a = 1;\nthrow new Error('oops');"), ("l.js", "for (;;) {}")]);
    for name in ["thrown", "looped"] {
        let e = put(&s.login(name).await, "/f", "x").await.err().unwrap();
        assert!(format!("{e:#}").contains("a rule of this server failed"), "{e:#}");
        assert_eq!(
            std::fs::read_dir(s.home(name)).unwrap().flatten().filter(|e| e.file_name() == "f").count(),
            0
        );
    }
    s.logged(&["oops", "t.js", ":2"]).await;
    put(&s.login("passed").await, "/f", "x").await.unwrap();
}

#[tokio::test]
async fn a_refused_commit_keeps_the_old_content_and_after_runs_later() {
    let refuse = "if (CtxRelPath() !== '/ok') Session.BlockOperation('not today');";
    let after = "Log('arrived', CtxRelPath());";
    let config = user("alice") + &hook("BeforeCommit", "r.js", "") + &hook("AfterFileUpload", "a.js", "");
    let s = Server::start(&config, &[("r.js", refuse), ("a.js", after)]);
    std::fs::create_dir_all(s.home("alice")).unwrap();
    std::fs::write(s.home("alice").join("old"), "old").unwrap();
    let a = s.login("alice").await;
    for name in ["/old", "/new"] {
        let e = put(&a, name, "new content").await.err().unwrap();
        assert!(format!("{e:#}").contains("not today"), "{e:#}");
    }
    assert_eq!(std::fs::read_to_string(s.home("alice").join("old")).unwrap(), "old");
    assert!(!s.home("alice").join("new").exists());
    put(&a, "/ok", "x").await.unwrap();
    s.logged(&["arrived /ok"]).await;
    assert!(!s.log().contains("arrived /new"));
}

#[tokio::test]
async fn handlers_of_a_user_run_before_those_of_all() {
    let config = user("alice")
        + &hook("BeforeFileUpload", "all.js", "priority = -5")
        + &hook("BeforeFileUpload", "own.js", "users = [\"alice\"]\npriority = 5");
    let note =
        |s: &str| format!("Session.AddCustomData('{s}'); Log('order ' + Session.GetAllCustomData().join());");
    let s = Server::start(&config, &[("all.js", &note("all")), ("own.js", &note("own"))]);
    put(&s.login("alice").await, "/f", "").await.unwrap();
    s.logged(&["order own,all"]).await;
}

#[tokio::test]
async fn sessions_are_found_by_the_tags_that_handlers_gave_them() {
    let tags = "Session.SetTag('partner', Session.GetUserID() === 'alice' ? 'acme' : 'other');";
    let config = user("alice") + &user("bob") + &hook("OnAuthSuccess", "t.js", "");
    let s = Server::start(&config, &[("t.js", tags)]);
    let (a, b) = (s.login("alice").await, s.login("bob").await);
    let found = |asked: &[&str]| {
        let (code, out, err) = s.ask(&[&["sessions", "--json"], asked].concat());
        assert_eq!(code, 0, "{err}");
        let lines = out.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines
            .map(|s| format!("{} {}", s["userName"].as_str().unwrap(), s["tags"]["partner"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&["--tag", "partner=acme"]), ["alice \"acme\""]);
    assert_eq!(found(&["--tag", "partner"]).len(), 2);
    assert!(found(&["--tag", "partner=ac"]).is_empty() && found(&["--tag", "other"]).is_empty());
    drop((a, b));
    until("both to be over", || found(&[]).is_empty()).await;
    let (code, out, _) = s.ask(&["sessions", "history", "--tag", "partner=other", "--json"]);
    assert!(code == 0 && out.lines().count() == 1 && out.contains("\"bob\""), "{out}");
}

#[tokio::test]
async fn a_scanner_reads_what_nobody_sees_yet() {
    let scan = "const r = Exec('grep', ['-c', 'VIRUS'], { inputFile: CtxRelPath() });\n\
        if (r.ExitCode === 0) Session.BlockOperation('infected: ' + r.Stdout.trim());\n\
        else if (r.ExitCode !== 1) throw new Error(r.Stderr);";
    let config = "[scripts.programs]\ngrep = \"/bin/grep\"\n".to_string()
        + &user("alice")
        + &hook("BeforeCommit", "s.js", "grant = [\"exec\", \"files\"]");
    let s = Server::start(&config, &[("s.js", scan)]);
    let a = s.login("alice").await;
    put(&a, "/f", "clean").await.unwrap();
    let e = put(&a, "/f", "a VIRUS").await.err().unwrap();
    assert!(format!("{e:#}").contains("infected: 1"), "{e:#}");
    assert_eq!(get(&a, "/f").await.unwrap(), "clean");
}

#[tokio::test]
async fn what_follows_an_upload_is_done_though_the_client_has_left() {
    let moved = "const r = GetCurrentVFS().Rename(CtxRelPath(), '/done'); if (!r.Ok()) throw new Error(r.ErrorMsg());\n\
        Log('moved', CtxRelPath(), CtxSize());";
    let config = user("alice") + &hook("AfterFileUpload", "m.js", "grant = [\"files\"]");
    let s = Server::start(&config, &[("m.js", moved)]);
    let a = s.login("alice").await;
    put(&a, "/f", "content").await.unwrap();
    a.session().cut(session_core::session::Ending::new("gone", session_core::session::Actor::Client));
    s.logged(&["moved /f 7"]).await;
    assert_eq!(std::fs::read_to_string(s.home("alice").join("done")).unwrap(), "content");
}

#[tokio::test]
async fn a_reload_gives_new_sessions_new_handlers_and_a_broken_one_changes_nothing() {
    let config = user("alice") + &hook("BeforeFileUpload", "h.js", "");
    let s = Server::start(&config, &[("h.js", "Session.BlockOperation('first')")]);
    let a = s.login("alice").await;
    let refused =
        async |c: &client::connect::Connected| format!("{:#}", put(c, "/f", "").await.err().unwrap());
    assert!(refused(&a).await.contains("first"));
    std::fs::write(s.data.join("h.js"), "let broken = ;").unwrap();
    let (code, out, err) = s.ask(&["reload"]);
    assert!(code != 0 && format!("{out}{err}").contains("h.js:1"), "{out}{err}");
    assert!(refused(&s.login("alice").await).await.contains("first"));
    std::fs::write(s.data.join("h.js"), "Session.BlockOperation('second')").unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert!(refused(&s.login("alice").await).await.contains("second"));
    assert!(refused(&a).await.contains("first"));
}

#[tokio::test]
async fn a_secret_reaches_a_handler_and_not_the_log() {
    let source = "Log('the key is', GetSecret('key')); Session.AddCustomData(Hash('sha256', GetSecret('key')));\n\
        Log('digest', Session.GetCustomData(0));";
    let config = "[scripts]\nsecrets = \"secrets.toml\"\n".to_string()
        + &user("alice")
        + &hook("OnAuthSuccess", "k.js", "grant = [\"secrets\"]");
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.path().join(name), private).unwrap();
    };
    write("secrets.toml", "key = \"abc\"\n");
    write("k.js", source);
    write("ferryd.toml", &format!("data = \".\"\n{config}"));
    let s = Server::at(dir.path());
    s.login("alice").await;
    s.logged(&["digest ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]).await;
    assert!(s.log().contains("the key is •••"), "{}", s.log());
}

#[tokio::test]
async fn a_handler_asks_what_the_user_may_and_what_its_home_holds() {
    let asks = "const user = Session.GetUser();
        Session.BlockOperation([user.GetPermissions('/in'), user.GetPermissions('out'), user.GetQuota()]
            .map(x => JSON.stringify(x)).join(' '));";
    let early =
        "if (Session.GetUser().GetPermissions('/') !== null) throw new Error('before there are files');";
    let config = user("alice")
        + "quota = { bytes = 1000 }\n[users.permissions]\n\"/\" = [\"list\", \"put\"]\n\"/in\" = [\"put\", \"rename\"]\n"
        + &user("bob")
        + "read_only = true\n"
        + &hook("OnDirList", "a.js", "")
        + &hook("OnAuthSuccess", "e.js", "");
    let s = Server::start(&config, &[("a.js", asks), ("e.js", early)]);
    let alice = s.login("alice").await;
    put(&alice, "/f", "12345").await.unwrap();
    let told = async |who| format!("{:#}", names(who, "/").await.err().unwrap());
    let words = told(&alice).await;
    for part in [
        r#"["put","rename_files","rename_dirs"] ["list","put"]"#,
        r#"{"Bytes":5,"Files":1,"MaxBytes":1000,"MaxFiles":null}"#,
    ] {
        assert!(words.contains(part), "{words}");
    }
    let words = told(&s.login("bob").await).await;
    assert!(words.contains(r#"["list","get","follow_symlinks"] null"#), "{words}");
    assert!(!s.log().contains("before there are files"), "{}", s.log());
}
