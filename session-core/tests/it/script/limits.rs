//! What a script cannot do to the server: fail, loop, eat memory, keep things, wait for ever, delay others.

use super::*;

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
    // Nor is it slower than alone by more than a busy machine makes it: a turn in a queue would take milliseconds.
    let beside = median_of_empty(&make("")).await;
    for (session, task) in &sleepers {
        assert!(!task.is_finished(), "a sleeper has ended before");
        session.cut(Ending::new("enough", Actor::Server));
    }
    for (_, task) in sleepers {
        assert!(refused(&task.await.unwrap()).is_some());
    }
    let alone = median_of_empty(&make("")).await;
    assert!(beside <= alone * 10, "{beside:?} beside those that sleep, {alone:?} alone");
}

/// How long an empty handler takes.
async fn median_of_empty(session: &Arc<Session>) -> Duration {
    let mut took = Vec::new();
    for _ in 0..51 {
        let begun = std::time::Instant::now();
        assert!(matches!(password(session, "a").await, Verdict::Pass));
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took[took.len() / 2]
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
