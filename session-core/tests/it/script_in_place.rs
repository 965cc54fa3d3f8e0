//! Handlers that have been quick run where their event fires. What they do there delays nobody else, ends
//! when its session ends, and leaves the interpreter as good as before.
#![cfg(feature = "script")]

use std::sync::Arc;
use std::time::Duration;

use session_core::auth::{Credential, Secret};
use session_core::intercept::{Chain, Interceptor};
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::script::{Binding, Engine, EngineLimits, Hooks};
use session_core::session::{Actor, Ending, Protocol, Session, Setup};

/// More than there are threads.
const BUSY: usize = 6;
/// More than it takes to be trusted.
const WARM: usize = 500;

fn hooks(source: &str) -> Arc<Hooks> {
    let limits = EngineLimits { time: Some(Duration::from_secs(120)), ..EngineLimits::default() };
    let binding = Binding::new("OnAuthPassword", "hook.js", source);
    Hooks::new(Engine::new(limits), vec![binding]).unwrap()
}

fn session(hooks: &Arc<Hooks>) -> Arc<Session> {
    let mut setup = Setup::new(Protocol::Sftp, "main");
    setup.chain = Chain::new(vec![Arc::clone(hooks) as Arc<dyn Interceptor>]);
    Session::new(setup)
}

async fn ask(session: &Arc<Session>) -> Verdict {
    let credential = Credential::Password(Secret::new("secret"));
    session.decide(Lifecycle::AuthStep { user: "a", credential: &credential }).await
}

/// Handlers stay for ever in what `stays` says: all of them run at once, and whoever asks meanwhile is answered.
async fn delays_nobody(stays: &'static str) {
    let source = format!(
        "if (Session.GetCustomData(0) === 'stay') {{ Session.AddCustomData('in'); {stays} }} \
         if (Session.GetCustomData(0) === 'refuse') {{ Session.BlockOperation('no') }}"
    );
    let hooks = hooks(&source);
    let quick = session(&hooks);
    for _ in 0..WARM {
        assert!(matches!(ask(&quick).await, Verdict::Pass));
    }
    let busy: Vec<_> = (0..BUSY)
        .map(|_| {
            let session = session(&hooks);
            session.add_custom_data("stay".into()).unwrap();
            let asked = Arc::clone(&session);
            (session, tokio::spawn(async move { ask(&asked).await }))
        })
        .collect();
    while !busy.iter().all(|(session, _)| session.custom_data().len() == 2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(ask(&quick).await, Verdict::Pass));
    let refused = session(&hooks);
    refused.add_custom_data("refuse".into()).unwrap();
    assert!(matches!(ask(&refused).await, Verdict::Refuse(_)));
    for (session, task) in &busy {
        assert!(!task.is_finished(), "it did not stay");
        session.cut(Ending::new("enough", Actor::Server));
    }
    for (_, task) in busy {
        assert!(matches!(task.await.unwrap(), Verdict::Refuse(_)));
    }
    for _ in 0..WARM {
        assert!(matches!(ask(&quick).await, Verdict::Pass));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sleeps_delays_nobody() {
    tokio::spawn(delays_nobody("Sleep(10000000)")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_computes_delays_nobody() {
    tokio::spawn(delays_nobody("for (;;) {}")).await.unwrap();
}

/// What a handler throws, and what it does to memory, stays its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_leaves_nothing_behind() {
    let work = async {
        let hooks = hooks(
            "const what = Session.GetCustomData(0); \
             if (what === 'throw') throw new Error('thrown'); \
             if (what === 'eat') { const all = []; for (;;) all.push(new Array(100000).fill(1)); } \
             if (what === 'dive') { (function dive() { dive() + 1 })() }",
        );
        let quick = session(&hooks);
        for round in 0..3 {
            for _ in 0..WARM {
                assert!(matches!(ask(&quick).await, Verdict::Pass), "in round {round}");
            }
            for what in ["throw", "eat", "dive"] {
                let session = session(&hooks);
                session.add_custom_data(what.into()).unwrap();
                assert!(matches!(ask(&session).await, Verdict::Refuse(_)), "{what}");
            }
        }
    };
    tokio::spawn(work).await.unwrap();
}
