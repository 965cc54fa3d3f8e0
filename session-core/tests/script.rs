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

use session_core::auth::{Account, Credential, Method, Question, Secret};
use session_core::error::ErrorKind;
use session_core::intercept::{Chain, Interceptor};
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::script::{Binding, Engine, EngineLimits, Hooks, OnError};
use session_core::session::{Actor, Ending, Protocol, Session, Setup};

fn binding(event: &str, source: &str) -> Binding {
    Binding {
        event: event.into(),
        name: "hook.js".into(),
        source: source.into(),
        users: vec![],
        priority: 50,
        on_error: OnError::Block,
        time: None,
    }
}

fn limits() -> EngineLimits {
    EngineLimits { time: Duration::from_millis(500), ..EngineLimits::default() }
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
        let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
        let begin = Instant::now();
        let words = refused(&password(&session, "a").await);
        assert_eq!(words.as_deref(), Some("refused: a rule of this server failed"), "{source}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{source}");
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
async fn a_body_cannot_climb_out_of_its_function() {
    for source in ["}); globalThis.x = 1; (function () {", "} {", "let x = ;", "import 'fs'"] {
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
    let source =
        "Session.AddQuestion(1, 'Colour?', 'blue', true); Session.AddQuestionPassword(0, 'Password: ');";
    let (session, _h) = session_with(vec![binding("OnAuthInteractiveSetQuestions", source)]);
    let mut questions: Vec<Question> = Vec::new();
    session.decide(Lifecycle::AuthQuestions { user: "a", questions: &mut questions }).await;
    let prompts: Vec<_> = questions.iter().map(|q| (q.prompt.as_str(), q.echo)).collect();
    assert_eq!(prompts, [("Password: ", false), ("Colour?", true)]);
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
    let mut b = binding("OnAuthPassword", "Sleep(60000)");
    b.time = Some(Duration::from_secs(60));
    let (session, _h) = session_with(vec![b]);
    let cut = Arc::clone(&session);
    let begin = Instant::now();
    let (verdict, _) = tokio::join!(password(&session, "a"), async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cut.cut(Ending::new("test", Actor::Server));
    });
    assert!(refused(&verdict).is_some());
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_sleep_delay_nobody_else() {
    let engine = Engine::new(EngineLimits::default());
    let make = |source: &str| {
        let hooks = Hooks::new(Arc::clone(&engine), vec![binding("OnAuthPassword", source)]).unwrap();
        let mut setup = Setup::new(Protocol::Sftp, "main");
        setup.chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
        Session::new(setup)
    };
    let sleepers: Vec<_> = (0..32)
        .map(|_| {
            let session = make("Sleep(1500)");
            tokio::spawn(async move { password(&session, "a").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let session = make("");
    password(&session, "a").await;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        password(&session, "a").await;
        times.push(begin.elapsed());
    }
    times.sort();
    // A shared machine may stall one call; the median may not wait for any sleeper.
    assert!(times[25] < Duration::from_millis(5), "median {:?}", times[25]);
    for s in sleepers {
        assert!(matches!(s.await.unwrap(), Verdict::Pass));
    }
}
