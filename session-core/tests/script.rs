//! Hooks from outside: what a handler sees, what it can stop, and what it cannot do to the server.
#![cfg(feature = "script")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use session_core::auth::{Account, Check, Credential, Method, Question, Secret};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{Filesystem, Follow, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::metadata::Attributes;
use session_core::path::VPath;
use session_core::policy::{Permission, PermissionSet, Permissions, Rule};
use session_core::script::*;
use session_core::session::{Actor, Argument, Ending, Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;

fn binding(event: &str, source: &str) -> Binding {
    Binding { priority: 50, ..Binding::new(event, "hook.js", source) }
}

/// Time that suffices on a busy machine.
fn limits() -> EngineLimits {
    EngineLimits { time: Some(Duration::from_secs(50)), ..EngineLimits::default() }
}

/// For what does not end by itself.
fn short(event: &str, source: &str) -> Binding {
    Binding { time: Some(Duration::from_millis(300)), ..binding(event, source) }
}

fn session_with(bindings: Vec<Binding>) -> (Arc<Session>, Arc<Hooks>) {
    let hooks = Hooks::new(Engine::new(limits()), bindings).unwrap();
    let mut setup = Setup::new(Protocol::Sftp, "main");
    setup.peer = Some(([192, 0, 2, 7], 4321).into());
    setup.chain = Chain::new(vec![Arc::clone(&hooks) as Arc<dyn Interceptor>]);
    (Session::new(setup), hooks)
}

async fn password(session: &Arc<Session>, source_user: &str) -> Verdict {
    let credential = Credential::Password(Secret::new("secret"));
    session.decide(Lifecycle::AuthStep { user: source_user, credential: &credential }).await
}

fn refused(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Refuse(e) => Some(e.peer_words().to_string()),
        _ => None,
    }
}

/// What a handler found is left in the custom data.
async fn found(source: &str) -> Vec<String> {
    let (session, _hooks) = session_with(vec![binding("OnAuthSuccess", source)]);
    session.set_client_version(b"SSH-2.0-Test");
    session.authenticating();
    session.log_in(Account::named("alice"), vec!["password"]).unwrap();
    session.decide(Lifecycle::AuthResult { user: "alice", method: Method::Password, success: true }).await;
    session.custom_data()
}

#[tokio::test]
async fn a_script_of_the_established_form_runs_unchanged() {
    let source = r#"
    {
      var sid = Session.GetID();
      var uid = Session.GetUser().GetID();
      Log("Session ID: " + sid);
      Log("User ID...: " + uid);
      Session.AddCustomData(sid);
      Session.AddCustomData(uid);
      Session.AddCustomData(Session.GetUser().Username);
    }
    "#;
    let found = found(source).await;
    assert_eq!(found[0].len(), 32);
    assert_eq!(found[1..], ["alice", "alice"]);
}

#[tokio::test]
async fn every_member_of_the_session_answers() {
    let members = [
        ("GetProtocol()", "SFTP"),
        ("GetVirtualSite()", "main"),
        ("GetRemoteAddress()", "192.0.2.7"),
        ("GetRemotePort()", "4321"),
        ("GetClientVersion()", "SSH-2.0-Test"),
        ("GetUserID()", "alice"),
        ("GetCustomData(99)", ""),
        ("GetAllCustomData().length", "0"),
        ("GetLastCommand()", ""),
        ("GetLastCommandTime()", "null"),
        ("GetLastError()", ""),
        ("GetLastErrorTime()", "null"),
        ("GetAbsPath()", ""),
        ("GetRelPath()", ""),
        ("GetAbsTargetPath()", ""),
        ("GetRelTargetPath()", ""),
        ("GetBytesReceived()", "0"),
        ("GetBytesSent()", "0"),
        ("GetStartTime() instanceof Date", "true"),
        ("GetLastActivity() >= Session.GetStartTime()", "true"),
        ("GetUser().GetHome()", "/"),
        ("GetUser().GetGroups().length", "0"),
        ("GetUser().GetAuthMethods()[0]", "password"),
        ("GetUser().IsAnonymous()", "false"),
        ("GetUser().GetCustom('none')", ""),
    ];
    for (member, expected) in members {
        let found = found(&format!("Session.AddCustomData(String(Session.{member}));")).await;
        assert_eq!(found, [expected], "{member}");
    }
    assert_eq!(
        found("Session.AddCustomData(CtxRelPath() + CtxRelTargetPath() + ExtractExt('/a.d/b.txt'))").await,
        [".txt"]
    );
}

#[tokio::test]
async fn session_is_null_before_there_is_one_and_user_before_login() {
    let source = "if (Session !== null) throw new Error('not null');";
    let hooks = Hooks::new(Engine::new(limits()), vec![binding("OnNewConnection", source)]).unwrap();
    let chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
    let (peer, local) = (([192, 0, 2, 7], 1).into(), ([192, 0, 2, 1], 22).into());
    assert!(matches!(chain.decide(None, Lifecycle::Connect { peer, local }).await, Verdict::Pass));

    let source = "if (Session.GetUser() !== null || Session.GetUserID() !== '') throw new Error('somebody');";
    let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
    assert!(matches!(password(&session, "alice").await, Verdict::Pass));
}

#[tokio::test]
async fn a_handler_refuses_with_its_words() {
    let (session, _h) =
        session_with(vec![binding("OnAuthPassword", "Session.BlockOperation('not today\\n!')")]);
    assert_eq!(refused(&password(&session, "alice").await).as_deref(), Some("not today\\n!"));
}

#[tokio::test]
async fn blocking_where_nothing_can_be_refused_falls_on_the_next_thing_asked() {
    let (session, _h) = session_with(vec![binding("OnAuthFail", "Session.BlockOperation('enough')")]);
    session.decide(Lifecycle::AuthResult { user: "a", method: Method::Password, success: false }).await;
    assert_eq!(refused(&password(&session, "a").await).as_deref(), Some("enough"));
    assert_eq!(refused(&password(&session, "a").await), None);
}

#[tokio::test]
async fn scripts_that_throw_loop_or_eat_memory_end_themselves_and_block() {
    for source in [
        "throw new Error('x')",
        "throw 'a string'",
        "for (;;) {}",
        "const a = []; for (;;) a.push(new Array(100000).fill(7))",
        "let s = 'x'; for (;;) s += s",
        "(function f() { f(); })()",
        "new Uint8Array(2 ** 31)",
        "Sleep(60000)",
        "for (;;) Log('x'.repeat(1000))",
        "try { for (;;) {} } finally { for (;;) {} }",
        "undefined.x",
        "Session.AddCustomData(7)",
    ] {
        let (session, _h) = session_with(vec![short("OnAuthPassword", source)]);
        let words = refused(&password(&session, "a").await);
        assert_eq!(words.as_deref(), Some("refused: a rule of this server failed"), "{source}");
        // The engine still works.
        assert_eq!(refused(&password(&session, "a").await), words, "{source}");
    }
}

#[tokio::test]
async fn a_failure_passes_where_the_binding_says_so() {
    let mut b = binding("OnAuthPassword", "throw 1");
    b.on_error = OnError::Pass;
    let (session, _h) = session_with(vec![b]);
    assert!(matches!(password(&session, "a").await, Verdict::Pass));
}

#[tokio::test]
async fn exit_is_not_a_failure() {
    let (session, _h) = session_with(vec![binding("OnAuthPassword", "Exit(); throw 1")]);
    assert!(matches!(password(&session, "a").await, Verdict::Pass));
}

#[tokio::test]
async fn nothing_survives_a_call() {
    for source in [
        "globalThis.leak = 1",
        "leak = 1",
        "Array.prototype.leak = 1",
        "Object.prototype.leak = 1",
        "Session.leak = 1",
        "Session.GetID.leak = 1",
        "Log.leak = 1",
        "Math.leak = 1",
        "(function () {}).constructor.prototype.leak = 1",
        "(async function () {}).constructor.prototype.leak = 1",
        "Object.getPrototypeOf([][Symbol.iterator]()).leak = 1",
        "Object.getPrototypeOf(Object.getPrototypeOf(Session.GetUser)).leak = 1",
        "RegExp.prototype.leak = 1",
        "JSON.parse = 1",
        "delete String.prototype.repeat",
    ] {
        let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
        assert!(refused(&password(&session, "a").await).is_some(), "it was let: {source}");
    }
}

#[tokio::test]
async fn what_inherits_from_frozen_things_is_a_scripts_own() {
    let source = "const e = new TypeError('a'); e.message = 'b'; e.name = 'Mine'; const o = {}; o.toString = () => 'o';
        class E extends Error { constructor() { super('c'); this.name = 'E'; } }
        let caught; try { Sleep(Symbol()) } catch (x) { caught = x instanceof TypeError; }
        Session.AddCustomData([String(e), String(o), String(new E()), caught].join());";
    assert_eq!(found(source).await, ["Mine: b,o,E: c,true"]);
    let e = found(
        "try { new Error('x').message; Error.prototype.message = 'y'; } catch { Session.AddCustomData('no') }",
    );
    assert_eq!(e.await, ["no"]);
}

#[tokio::test]
async fn a_body_cannot_climb_out_of_its_function() {
    for source in ["}); globalThis.x = 1; (function () {", "}); (() => {", "} {", "let x = ;", "import 'fs'"]
    {
        let result = Hooks::new(Engine::new(limits()), vec![binding("OnAuthPassword", source)]);
        let e = result.err().unwrap_or_else(|| panic!("it compiled: {source}"));
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
    let e =
        Hooks::new(Engine::new(limits()), vec![binding("OnAuthPassword", "\n\nlet x = ;")]).err().unwrap();
    assert!(e.to_string().contains("hook.js:3"), "{e}");
}

#[tokio::test]
async fn an_unknown_event_is_refused_with_the_nearest_name() {
    let e = Hooks::new(Engine::new(limits()), vec![binding("OnAuthSucces", "")]).err().unwrap();
    assert_eq!(e.hint(), Some("did you mean 'OnAuthSuccess'?"));
}

#[tokio::test]
async fn user_bound_handlers_run_first_then_by_priority() {
    let mut bindings = Vec::new();
    for (name, users, priority) in [
        ("d", vec![], 20),
        ("c", vec![], 10),
        ("b", vec!["alice"], 90),
        ("a", vec!["alice"], 5),
        ("x", vec!["bob"], 1),
    ] {
        let mut b = binding("OnAuthPassword", &format!("Session.AddCustomData('{name}')"));
        b.users = users.into_iter().map(Into::into).collect();
        b.priority = priority;
        bindings.push(b);
    }
    let (session, _h) = session_with(bindings);
    session.decide(Lifecycle::AuthRequest { user: "alice" }).await;
    session.authenticating();
    session.log_in(Account::named("alice"), vec![]).unwrap();
    password(&session, "alice").await;
    assert_eq!(session.custom_data(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn questions_come_from_the_handler() {
    let source = "Session.AddQuestion(1, 'Colour?', 'blue', true); Session.AddQuestionPassword(0, 'Password: ');\
         Session.AddQuestion(2, 'Age?', 42, true);";
    let (session, _h) = session_with(vec![binding("OnAuthInteractiveSetQuestions", source)]);
    let mut questions: Vec<Question> = Vec::new();
    session.decide(Lifecycle::AuthQuestions { user: "a", questions: &mut questions }).await;
    let prompts: Vec<_> = questions.iter().map(|q| (q.prompt.as_str(), q.echo)).collect();
    assert_eq!(prompts, [("Password: ", false), ("Colour?", true), ("Age?", true)]);
    // An answer may be written as a number; it is the text that is typed.
    assert!(matches!(&questions[2].check, Check::Equals(a) if a.expose() == "42"));
}

#[tokio::test]
async fn a_script_can_vouch_for_a_user() {
    let (session, _h) = session_with(vec![binding("OnAuthPassword", "Session.AuthenticateUserFromScript()")]);
    assert!(matches!(password(&session, "a").await, Verdict::Authenticated));
}

#[tokio::test]
async fn the_close_still_has_the_session_and_its_data() {
    let (session, _h) = session_with(vec![
        binding("OnAuthPassword", "Session.AddCustomData('kept')"),
        binding("OnConnectionClose", "Session.AddCustomData(Session.GetCustomData(0) + ' to the end')"),
    ]);
    password(&session, "a").await;
    session.close(Ending::new("bye", Actor::Client)).await;
    assert_eq!(session.custom_data(), ["kept", "kept to the end"]);
}

#[tokio::test]
async fn terminate_stops_a_handler_that_waits() {
    let (session, _h) =
        session_with(vec![binding("OnAuthPassword", "Session.AddCustomData('in'); Sleep(10000000)")]);
    let cut = Arc::clone(&session);
    let stopped = tokio::time::timeout(Duration::from_secs(40), password(&session, "a"));
    let (verdict, ()) = tokio::join!(stopped, async move {
        while cut.custom_data().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cut.cut(Ending::new("test", Actor::Server));
    });
    // The handler's own time would be longer.
    assert!(refused(&verdict.unwrap()).is_some());
}

/// By order, not by time: the empty hook is through while every sleeper still sleeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_sleep_delay_nobody_else() {
    let engine =
        Engine::new(EngineLimits { time: Some(Duration::from_secs(120)), ..EngineLimits::default() });
    let make = |source: &str| {
        let hooks = Hooks::new(Arc::clone(&engine), vec![binding("OnAuthPassword", source)]).unwrap();
        let mut setup = Setup::new(Protocol::Sftp, "main");
        setup.chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
        Session::new(setup)
    };
    let sleepers: Vec<_> = (0..32)
        .map(|_| {
            let session = make("Session.AddCustomData('asleep'); Sleep(100000)");
            let sleeper = Arc::clone(&session);
            (session, tokio::spawn(async move { password(&sleeper, "a").await }))
        })
        .collect();
    while !sleepers.iter().all(|(session, _)| session.custom_data() == ["asleep"]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(password(&make(""), "a").await, Verdict::Pass));
    for (session, task) in &sleepers {
        assert!(!task.is_finished(), "a sleeper has ended before");
        session.cut(Ending::new("enough", Actor::Server));
    }
    for (_, task) in sleepers {
        assert!(refused(&task.await.unwrap()).is_some());
    }
}

/// Those that nobody waits for leave room for those that a client waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_handlers_in_the_background_delay_no_decision() {
    let limits = EngineLimits { threads: 4, ..EngineLimits::default() };
    let bindings = vec![
        binding("AfterDirCreate", "Session.AddCustomData('asleep'); Sleep(100000)"),
        binding("OnAuthPassword", ""),
    ];
    let hooks = Hooks::new(Engine::new(limits), bindings).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..8 {
        let (session, fs) = guarded(&hooks, Account::named("alice"));
        fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        sessions.push(session);
    }
    let asleep = || sessions.iter().filter(|s| s.custom_data() == ["asleep"]).count();
    while asleep() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(password(&sessions[0], "a").await, Verdict::Pass));
    assert_eq!(asleep(), 3);
}

// ---- files, grants, modules

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// A session logged in, with a store in memory behind the handlers and lent to them.
fn guarded(hooks: &Arc<Hooks>, account: Account) -> (Arc<Session>, SessionFs) {
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
    over(hooks, account, store, vec![])
}

/// The same over a store, with these policies.
fn over(
    hooks: &Arc<Hooks>,
    account: Account,
    store: Arc<dyn Filesystem>,
    policies: Vec<Arc<dyn Interceptor>>,
) -> (Arc<Session>, SessionFs) {
    let hook = Arc::clone(hooks) as Arc<dyn Interceptor>;
    let mut setup = Setup::new(Protocol::Sftp, "main");
    setup.chain = Chain::new(vec![Arc::clone(&hook)]);
    let session = Session::new(setup);
    let identity = session.log_in(account, vec!["password"]).unwrap();
    session.lend_files(Arc::clone(&store), Chain::new(policies.clone()));
    let chain = Chain::new(policies.into_iter().chain([hook]).collect());
    let fs = session.guard(&identity, store, chain).unwrap();
    (session, fs)
}

fn granted(event: &str, source: &str, grants: &[Grant]) -> Binding {
    Binding { grants: Grants::of(grants), ..binding(event, source) }
}

fn hooks_of(bindings: Vec<Binding>) -> Arc<Hooks> {
    Hooks::new(Engine::new(limits()), bindings).unwrap()
}

async fn write(fs: &SessionFs, path: &str, text: &str) -> Result<(), Error> {
    fs.write_all(&p(path), Bytes::copy_from_slice(text.as_bytes())).await.map(drop)
}

async fn read(fs: &SessionFs, path: &str) -> String {
    String::from_utf8(fs.read_to_vec(&p(path), 1 << 20).await.unwrap()).unwrap()
}

/// Objects and table agree, both ways: what is in the table is there, and what is there is in the table.
#[tokio::test]
async fn every_member_of_the_table_is_there_and_no_other() {
    let objects = [
        Kind::Session,
        Kind::Sessions,
        Kind::User,
        Kind::Global,
        Kind::Vfs,
        Kind::Remote,
        Kind::RemoteOptions,
        Kind::Store,
        Kind::Console,
    ];
    for kind in objects {
        let object = match kind {
            Kind::Session => "Session",
            Kind::Sessions => "Sessions",
            Kind::User => "Session.GetUser()",
            Kind::Global => "globalThis",
            Kind::Vfs => "GetCurrentVFS()",
            Kind::Remote => "Object.assign(new SftpClient(), new FtpsClient(), new WebDavClient())",
            Kind::RemoteOptions => "new SftpClient().Options",
            Kind::Store => "Store",
            _ => "console",
        };
        let source = format!(
            "const o = {object};\n\
             Session.AddCustomData(Object.getOwnPropertyNames(o).map(n => n + ':' + typeof o[n]).join());"
        );
        let hooks = hooks_of(vec![granted("BeforeDirCreate", &source, Grant::ALL)]);
        let (session, fs) = guarded(&hooks, Account::named("alice"));
        fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        let there = session.custom_data().pop().unwrap();
        let there: Vec<(&str, &str)> = there.split(',').map(|m| m.split_once(':').unwrap()).collect();
        for m in members().filter(|m| m.of == kind) {
            let (_, what) = there.iter().find(|t| t.0 == m.name).unwrap_or_else(|| panic!("no {}", m.name));
            let is_called = m.signature.starts_with('(') || m.signature.starts_with("new ");
            assert_eq!(*what == "function", is_called, "{}", m.name);
        }
        if kind != Kind::Global {
            for (name, _) in there {
                assert!(members().any(|m| m.of == kind && m.name == name), "{name} is not in the table");
            }
        }
    }
}

#[tokio::test]
async fn our_members_of_the_session_answer() {
    let source = "Session.AddCustomData(JSON.stringify([CtxEvent(), Session.GetTLS(), Session.GetCipher(), \
        Session.GetCurrentCommand(), Session.GetPreviousCommand(), Session.GetCommandStartTime() !== null, \
        Session.GetRequestedUser(), CtxRemoteAddress()]));";
    let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
    session.set_tls("TLSv1.3 AES_256_GCM_SHA384");
    drop(session.begin_command("PWD", Argument::None));
    let _running = session.begin_command("CWD", Argument::Path(p("/d")));
    session.ask_for("alice");
    password(&session, "alice").await;
    assert_eq!(
        session.custom_data(),
        [r#"["OnAuthPassword","TLSv1.3","AES_256_GCM_SHA384","CWD /d","PWD",true,"alice","192.0.2.7"]"#]
    );
}

#[tokio::test]
async fn what_needs_a_grant_names_it() {
    for (call, grant) in [
        ("GetCurrentVFS()", Grant::Files),
        ("GetSecret('x')", Grant::Secrets),
        ("Store.Get('x')", Grant::Store),
        ("Store.Set('x', '')", Grant::Store),
        ("Exec('x')", Grant::Exec),
        ("await fetch('http://x/')", Grant::Http),
        ("Session.SetSpeedLimit(1)", Grant::Speed),
        ("new VirtualFS(VfsTypeDisk, '/x')", Grant::Local),
        ("new VirtualFS(VfsTypeMemory)", Grant::Files),
        ("new VirtualFS(VfsTypeSFTP, 'sftp://a@b/')", Grant::Remotes),
        ("GetCurrentVFS().ImportFile('/x/y', '/y')", Grant::Local),
        ("const c = new SftpClient(); c.Host = 'b'; c.Connect()", Grant::Remotes),
        ("SendMail('', 'a@b', '', '')", Grant::Mail),
        ("SqlQuery('a', 'b')", Grant::Sql),
    ] {
        let others: Vec<_> = Grant::ALL.iter().copied().filter(|g| *g != grant).collect();
        let source = format!("try {{ {call} }} catch (e) {{ Session.BlockOperation(e.message) }}");
        let hooks = hooks_of(vec![granted("BeforeDirCreate", &source, &others)]);
        let (_session, fs) = guarded(&hooks, Account::named("alice"));
        let e = fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap_err();
        assert!(e.peer_words().contains(&format!("needs grant = [\"{}\"]", grant.name())), "{call}: {e}");
    }
}

#[tokio::test]
async fn what_has_no_effect_in_an_event_throws() {
    for call in [
        "Session.RedirectTo('/x')",
        "Session.RemoveFromListDir('x')",
        "Session.AddQuestion(0, 'a', 'b', true)",
        "RefuseConnection()",
        "SetSoftwareID('x')",
    ] {
        let source = format!("try {{ {call} }} catch (e) {{ Session.AddCustomData(e.message) }}");
        let (session, _h) = session_with(vec![binding("OnAuthPassword", &source)]);
        password(&session, "a").await;
        assert!(session.custom_data()[0].contains("has no effect in OnAuthPassword"), "{call}");
    }
}

#[tokio::test]
async fn a_connection_is_refused_and_an_identification_is_rewritten() {
    let refuse = "if (Session === null && CtxRemoteAddress() === '192.0.2.7') RefuseConnection('not you');";
    let hooks = hooks_of(vec![
        binding("OnNewConnection", refuse),
        binding("BeforeSendSoftwareID", "SetSoftwareID('SSH-2.0-Other')"),
    ]);
    let chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
    let local = ([192, 0, 2, 1], 22).into();
    let ask = async |last| {
        chain.decide(None, Lifecycle::Connect { peer: ([192, 0, 2, last], 1).into(), local }).await
    };
    assert_eq!(refused(&ask(7).await).as_deref(), Some("not you"));
    assert_eq!(refused(&ask(8).await), None);
    let mut id = "SSH-2.0-Ferry".to_string();
    chain.decide(None, Lifecycle::SoftwareId { id: &mut id }).await;
    assert_eq!(id, "SSH-2.0-Other");
}

#[tokio::test]
async fn an_upload_goes_elsewhere_if_the_user_may() {
    let source = "if (CtxRelPath() !== '/kept') Session.RedirectTo(CtxRelPath().replace('/in/', '/out/'));";
    let hooks = hooks_of(vec![
        binding("BeforeFileUpload", source),
        binding("BeforeFileRename", "Session.RedirectTo('/renamed')"),
    ]);
    let rules = |text: &str| {
        Permissions::new(vec![
            Rule { path: VPath::root(), allow: PermissionSet::full() },
            Rule { path: p(text), allow: PermissionSet::of(&[Permission::List]) },
        ])
    };
    for (closed, lands) in [("/nowhere", true), ("/out", false)] {
        let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
        for dir in ["/in", "/out"] {
            store.create_dir(&p(dir), &Attributes::none()).await.unwrap();
        }
        let policies: Vec<Arc<dyn Interceptor>> = vec![Arc::new(rules(closed))];
        let (_session, fs) = over(&hooks, Account::named("alice"), store, policies);
        assert_eq!(write(&fs, "/in/f", "x").await.is_ok(), lands, "{closed}");
        assert_eq!(fs.exists(&p("/out/f")).await.unwrap(), lands);
        // The client may look at what it uploaded, and at no more.
        assert_eq!(fs.stat(&p("/in/f"), Follow::Yes).await.is_ok(), lands);
        assert!(fs.open(&p("/in/f"), &OpenOptions::read()).await.is_err());
        assert!(fs.remove_file(&p("/in/f")).await.is_err());
        if lands {
            fs.rename(&p("/out/f"), &p("/g"), Replace::No).await.unwrap();
            assert_eq!(read(&fs, "/renamed").await, "x");
        }
    }
}

#[tokio::test]
async fn a_limit_of_speed_holds_from_then_on() {
    let source = "Session.SetSpeedLimit(CtxRelPath() === '/slow' ? 10000 : 0)";
    let hooks = hooks_of(vec![granted("BeforeFileUpload", source, &[Grant::Speed])]);
    let (_session, fs) = guarded(&hooks, Account::named("alice"));
    let begun = Instant::now();
    let file = fs.open(&p("/slow"), &OpenOptions::create()).await.unwrap();
    for n in 0..3 {
        file.write_at(n * 2500, vec![0; 2500].into()).await.unwrap();
    }
    // The burst is a quarter of a second, and so is each chunk.
    assert!(begun.elapsed() >= Duration::from_millis(240), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handler_works_on_the_users_files_with_the_users_permissions() {
    let source = "
      const vfs = GetCurrentVFS(), told = [];
      const tell = (what, r, more) => told.push([what, r.Ok(), r.ErrorMsg() !== '', more]);
      tell('mkdir', vfs.MkdirAll('/a/b'));
      tell('write', vfs.WriteFileAsText('/a/f', 'content'));
      tell('append', vfs.WriteFileAsText('/a/f', '!', 0, FromEnd));
      let r = vfs.ReadFileAsText('/a/f'); tell('read', r, r.Data());
      r = vfs.ReadFileAsText('/a/f', 3, 1); tell('part', r, r.Data());
      r = vfs.ReadFileAsBytes('/a/f', 2, 0, FromEnd); tell('end', r, HexEncode(r.Data()));
      tell('hex', vfs.WriteFileAsHex('/a/g', '00ff'));
      r = vfs.ReadFileAsHex('/a/g'); tell('hex', r, r.Data());
      r = vfs.Stat('/a/g'); tell('stat', r, [r.Info().Name, r.Info().Size, r.Info().IsDir]);
      r = vfs.Stat('/none'); tell('none', r, r.Info());
      tell('rename', vfs.Rename('/a/g', '/a/b/h'));
      r = vfs.ReadDir('/a', SortByNameDirsFirst, SortDesc); tell('dir', r, r.Infos().map(i => i.Name));
      r = vfs.TreeSize('/a'); tell('size', r, r.Size());
      tell('chmod', vfs.Chmod('/a/f', 0o600));
      tell('times', vfs.Chtimes('/a/f', new Date(0), 86400000));
      r = vfs.Stat('/a/f'); tell('stat', r, [r.Info().Mode, r.Info().TimeStamp.getTime()]);
      tell('truncate', vfs.Truncate('/a/f', 2));
      tell('remove', vfs.Remove('/a/f'));
      tell('rmdir', vfs.Rmdir('/a'));
      tell('all', vfs.RemoveAll('/a'));
      tell('closed', vfs.WriteFileAsText('/closed/f', ''));
      Session.AddCustomData(JSON.stringify(told));
    ";
    let hooks = hooks_of(vec![
        granted("BeforeDirCreate", source, &[Grant::Files]),
        binding("BeforeFileUpload", "Session.AddCustomData('fired')"),
    ]);
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
    store.create_dir(&p("/closed"), &Attributes::none()).await.unwrap();
    let rules = Permissions::new(vec![
        Rule { path: VPath::root(), allow: PermissionSet::full() },
        Rule { path: p("/closed"), allow: PermissionSet::of(&[Permission::List]) },
    ]);
    let (session, fs) = over(&hooks, Account::named("alice"), store, vec![Arc::new(rules)]);
    fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    let expected = r#"[["mkdir",true,false,null],["write",true,false,null],["append",true,false,null],["read",true,false,"content!"],["part",true,false,"ont"],["end",true,false,"7421"],["hex",true,false,null],["hex",true,false,"00ff"],["stat",true,false,["g",2,false]],["none",false,true,null],["rename",true,false,null],["dir",true,false,["f","b"]],["size",true,false,10],["chmod",true,false,null],["times",true,false,null],["stat",true,false,[384,86400000]],["truncate",true,false,null],["remove",true,false,null],["rmdir",false,true,null],["all",true,false,null],["closed",false,true,null]]"#;
    assert_eq!(session.custom_data(), [expected]);
    // What the handler moved is not what the client moved.
    assert_eq!(session.stats().uploaded.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_path_without_a_text_goes_through_a_handler_unharmed() {
    let source = "const vfs = GetCurrentVFS(); const r = vfs.ReadDir('/'); const name = r.Infos()[0].Name; \
        vfs.WriteFileAsText('/' + name, name === CtxRelPath().slice(1) ? 'same' : 'other');";
    let hooks = hooks_of(vec![granted("BeforeFileDownload", source, &[Grant::Files])]);
    let (_session, fs) = guarded(&hooks, Account::named("alice"));
    let path = VPath::absolute(b"/a\xff\xfe").unwrap();
    fs.write_all(&path, Bytes::from_static(b"x")).await.unwrap();
    drop(fs.open(&path, &OpenOptions::read()).await.unwrap());
    assert_eq!(fs.read_to_vec(&path, 100).await.unwrap(), b"same");
}

#[tokio::test]
async fn values_are_shared_by_sessions_and_secrets_stay_out_of_words() {
    let values = Arc::<Values>::default();
    let secrets = Secrets::new([("key".to_string(), Secret::new("hunter2"))].into());
    let services = Services { secrets, values, ..Services::default() };
    let source = "const n = Store.Increment('n', 2, 60); Session.AddCustomData(n + GetSecret('key'));\
        if (n > 3) throw new Error('with ' + GetSecret('key'));";
    let engine = Engine::new(limits());
    let grants = [Grant::Store, Grant::Secrets];
    let hooks =
        Hooks::with(Arc::clone(&engine), services.clone(), vec![granted("BeforeDirCreate", source, &grants)])
            .unwrap();
    for (n, passes) in [(2, true), (4, false)] {
        let (session, fs) = guarded(&hooks, Account::named("alice"));
        assert_eq!(fs.create_dir(&p("/d"), &Attributes::none()).await.is_ok(), passes);
        assert_eq!(session.custom_data(), [format!("{n}hunter2")]);
    }
    let source = "Log('the key is', GetSecret('key')); throw new Error(GetSecret('key') + '!')";
    let trial = Trial::new(engine, services, granted("BeforeDirCreate", source, &grants)).unwrap();
    let told = trial.run(Try::default()).await;
    assert_eq!(told.lines, ["the key is •••"]);
    let error = told.error.unwrap();
    assert!(error.contains("•••!") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn digests_and_encodings() {
    let source = "Session.AddCustomData(JSON.stringify([Hash('sha256', 'abc'), Hash('md5', new Uint8Array([97, 98, 99])),
        Base64Encode('äb'), BytesToText(Base64Decode('w6Ri')), Hmac('sha1', HexDecode('0b'.repeat(20)), 'Hi There'),
        HexEncode(TextToBytes('ä')), HexEncode(Base64Decode(Base64Encode(new Uint8Array([0, 255, 128]))))]))";
    assert_eq!(
        found(source).await,
        [
            r#"["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","900150983cd24fb0d6963f7d28e17f72","w6Ri","äb","b617318655057264e28bc0b6fb378c8ef146be00","c3a4","00ff80"]"#
        ]
    );
}

#[tokio::test]
async fn asynchronous_handlers_are_awaited() {
    for source in [
        "const later = async v => v; Session.AddCustomData(await later('a'));",
        "return (async () => { await null; Session.AddCustomData('a'); })();",
        "return new Promise(done => { Promise.resolve().then(() => { Session.AddCustomData('a'); done(); }); });",
        "for await (const v of [Promise.resolve('a')]) Session.AddCustomData(v);",
    ] {
        let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
        assert!(matches!(password(&session, "a").await, Verdict::Pass), "{source}");
        assert_eq!(session.custom_data(), ["a"], "{source}");
    }
    for source in [
        "await null; throw new Error('x')",
        "(async () => { await null; throw new Error('nobody looks'); })();",
        "await new Promise(() => {})",
        "for (;;) await null",
        "const f = () => Promise.resolve().then(f); f(); await new Promise(() => {})",
    ] {
        let (session, _h) = session_with(vec![short("OnAuthPassword", source)]);
        assert!(refused(&password(&session, "a").await).is_some(), "{source}");
    }
    let caught = "try { await Promise.reject(new Error('x')) } catch { } ";
    let (session, _h) = session_with(vec![binding("OnAuthPassword", caught)]);
    assert!(matches!(password(&session, "a").await, Verdict::Pass));
    // Without the word, it is a name like any other.
    let (session, _h) = session_with(vec![binding("OnAuthPassword", "const await_ = 1; Exit();")]);
    assert!(matches!(password(&session, "a").await, Verdict::Pass));
}

fn module(dir: &std::path::Path, event: &str, name: &str) -> Binding {
    let folder = ScriptFolder::open(dir).unwrap();
    let source = folder.read(name).unwrap();
    Binding { module: Some((folder, name.into())), ..Binding::new(event, name, source) }
}

#[tokio::test]
async fn modules_import_inside_their_folder_and_keep_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    put(
        "h.mjs",
        "import { next } from './lib/count.mjs';\nexport default async () => Session.AddCustomData(String(next()));",
    );
    put(
        "lib/count.mjs",
        "import { one } from '../one.mjs';\nlet n = 0;\nexport const next = () => n += one;",
    );
    put("one.mjs", "export const one = 1;");
    let (session, _h) = session_with(vec![module(dir.path(), "OnAuthPassword", "h.mjs")]);
    // What stands on disk now is the business of the next reload.
    put("one.mjs", "export const one = 5;");
    for _ in 0..2 {
        assert!(matches!(password(&session, "a").await, Verdict::Pass));
    }
    assert_eq!(session.custom_data(), ["1", "1"]);
    // A failure says where.
    put("t.mjs", "import './lib/throws.mjs';\nexport default () => {};");
    put("lib/throws.mjs", "\nthrow new Error('oops');");
    let trial =
        Trial::new(Engine::new(limits()), Services::default(), module(dir.path(), "BeforeCommand", "t.mjs"));
    let error = trial.unwrap().run(Try::default()).await.error.unwrap();
    assert!(error.contains("oops") && error.contains("lib/throws.mjs:2"), "{error}");
}

#[tokio::test]
async fn modules_that_do_not_link_are_refused_before_they_run() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("in");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(dir.path().join("outside.mjs"), "export const x = 1;").unwrap();
    std::os::unix::fs::symlink("../outside.mjs", inside.join("link.mjs")).unwrap();
    std::fs::write(inside.join("lib.mjs"), "throw new Error('it was run');\nexport const x = 1;").unwrap();
    let bind = |text: &str| {
        std::fs::write(inside.join("h.mjs"), text).unwrap();
        Hooks::new(Engine::new(limits()), vec![module(&inside, "OnAuthPassword", "h.mjs")])
    };
    for (text, words) in [
        ("import { x } from '../outside.mjs'; export default () => x;", "inside the scripts folder"),
        ("import { x } from './link.mjs'; export default () => x;", "symbolic link"),
        ("import { x } from '/etc/passwd'; export default () => x;", "inside the scripts folder"),
        ("import fs from 'fs'; export default () => fs;", "inside the scripts folder"),
        ("import { x } from './none.mjs'; export default () => x;", "none.mjs"),
        ("import { y } from './lib.mjs'; export default () => y;", "y"),
        ("import { x } from './lib.mjs'; export const f = () => x;", "default"),
        ("\n\nexport default () => {", "h.mjs:3"),
    ] {
        let e = bind(text).err().unwrap_or_else(|| panic!("it was bound: {text}"));
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains(words), "{text}: {e}");
    }
    // Linked, and not run.
    assert!(bind("import { x } from './lib.mjs'; export default () => x;").is_ok());
    // A classic script imports nothing, at no time.
    for call in ["await import('./lib.mjs')", "await import('fs')"] {
        let (session, _h) = session_with(vec![binding("OnAuthPassword", call)]);
        assert!(refused(&password(&session, "a").await).is_some(), "{call}");
    }
    let late = bind("export default async () => { await import('./lib.mjs'); };").unwrap();
    let mut setup = Setup::new(Protocol::Sftp, "main");
    setup.chain = Chain::new(vec![late as Arc<dyn Interceptor>]);
    assert!(refused(&password(&Session::new(setup), "a").await).is_some());
}

#[tokio::test]
async fn an_end_that_is_not_the_clients_is_told_before_the_close() {
    for (actor, told) in
        [(Actor::Client, "OnConnectionClose"), (Actor::Hook, "OnSessionTerminated,OnConnectionClose")]
    {
        let note = "Session.AddCustomData(CtxEvent())";
        let (session, _h) =
            session_with(vec![binding("OnSessionTerminated", note), binding("OnConnectionClose", note)]);
        session.close(Ending::new("x", actor)).await;
        assert_eq!(session.custom_data().join(","), told);
    }
}
