//! Sessions of HTTP: one for a credential and an address, seen in the live table, remembered for a while, ended
//! by time, by an administrator, by a change of the account.
#![cfg(feature = "server")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::*;
use proto_webdav::server::WebdavServerOptions;
use session_core::event::What;
use session_core::reason::Reason;
use session_core::session::{Actor, Ending, Protocol};

fn asked(running: &Running) -> usize {
    running.site.users.lock().unwrap().asked.load(Ordering::SeqCst)
}

#[tokio::test]
async fn requests_of_one_client_are_one_session_and_cost_one_login() {
    let running = start(options()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(running.connect().await);
    }
    // All at once: the first one logs in, the others wait for it.
    let answers = clients.iter_mut().map(|c| c.ask("PUT /f", &["User-Agent: cadaver/0.24"], b"hello"));
    let answers = futures_util::future::join_all(answers).await;
    assert!(answers.iter().all(|a| a.status == 201 || a.status == 204), "{answers:?}");
    assert_eq!(asked(&running), 1);
    let session = running.session();
    assert_eq!(session.protocol(), Protocol::Webdav);
    assert_eq!((&*session.user_id(), &*session.client_version()), ("demo", "cadaver/0.24"));
    assert_eq!(session.stats().uploaded.load(Ordering::Relaxed), 20);
    assert_eq!(clients[0].ask("GET /f", &[], b"").await.text(), "hello");
    assert_eq!(session.stats().downloaded.load(Ordering::Relaxed), 5);
    assert_eq!(session.last_command(), "GET /f");
    assert!(session.stats().wire_in.load(Ordering::Relaxed) > 20);
    assert_eq!(session.snapshot().last_error_status, 200);
    // Another password, and another user, are others.
    assert_eq!(clients[1].ask("GET /f", &["X: 1"], b"").await.status, 200);
    let mut other = running.connect().await.is("other", "demo");
    assert_eq!(other.ask("GET /f", &[], b"").await.status, 200);
    assert_eq!(running.site.registry.len(), 2);
}

#[tokio::test]
async fn who_is_not_known_hears_the_same_whatever_is_wrong() {
    let running = start(WebdavServerOptions { tries: 3, ..options() }).await;
    let mut client = running.connect().await;
    client.login = None;
    let none = client.ask("GET /f", &[], b"").await;
    assert_eq!(
        (none.status, none.field("www-authenticate").unwrap()),
        (401, "Basic realm=\"Ferry\", charset=\"UTF-8\"")
    );
    assert_eq!(asked(&running), 0, "nothing was shown");
    let mut wrong = running.connect().await.is("demo", "wrong");
    let mut nobody = running.connect().await.is("nobody", "demo");
    let (a, b) = (wrong.ask("GET /f", &[], b"").await, nobody.ask("GET /f", &[], b"").await);
    assert_eq!((a.status, b.status, a.text()), (401, 401, b.text()));
    assert!(running.site.registry.is_empty(), "a failed login leaves no session");
    let failed = |e: &session_core::event::Event| matches!(e.what, What::LoginFailed { .. });
    assert_eq!(running.site.notes.0.lock().unwrap().iter().filter(|e| failed(e)).count(), 2);
    // So many tries, and the connection ends.
    wrong.ask("GET /f", &[], b"").await;
    wrong.ask("GET /f", &[], b"").await;
    assert!(wrong.is_over().await);
    // What is no credential of ours costs no look at the account.
    let before = asked(&running);
    let mut client = running.connect().await;
    client.login = Some("Bearer abc".into());
    assert_eq!(client.ask("GET /f", &[], b"").await.status, 401);
    assert_eq!(asked(&running), before);
}

#[tokio::test]
async fn a_change_of_the_accounts_is_seen_by_the_next_request() {
    let running = start(options()).await;
    let mut client = running.connect().await;
    client.ask("PUT /f", &[], b"x").await;
    let session = running.session();
    // Other accounts, and the credential is good for them too: the session goes on.
    *running.site.users.lock().unwrap() = Arc::default();
    assert_eq!(client.ask("GET /f", &[], b"").await.status, 200);
    assert_eq!(asked(&running), 1);
    assert!(Arc::ptr_eq(&running.session(), &session));
    let changed = Users::default();
    *changed.password.lock().unwrap() = Some("new".into());
    *running.site.users.lock().unwrap() = Arc::new(changed);
    let mut again = running.connect().await;
    assert_eq!(again.ask("GET /f", &[], b"").await.status, 401);
    assert_eq!(session.ending().unwrap().code, Reason::AccountClosed);
    running.until("the session to go", || running.site.registry.is_empty()).await;
    let mut right = running.connect().await.is("demo", "new");
    assert_eq!(right.ask("GET /f", &[], b"").await.status, 200);
}

#[tokio::test]
async fn what_was_verified_is_believed_for_a_while() {
    let running = start(WebdavServerOptions { remember: Duration::ZERO, ..options() }).await;
    let mut client = running.connect().await;
    for _ in 0..3 {
        client.ask("PUT /f", &[], b"x").await;
    }
    assert_eq!(asked(&running), 3);
    assert_eq!(running.site.registry.len(), 1);
}

#[tokio::test]
async fn a_session_that_is_ended_stays_away_for_a_while_and_its_connections_die() {
    let running = start(WebdavServerOptions { hold: Duration::from_millis(300), ..options() }).await;
    let mut idle = running.connect().await;
    idle.ask("PUT /f", &[], b"x").await;
    let mut busy = running.connect().await;
    busy.begin("PUT /big", &["Content-Length: 1000"], None).await;
    busy.send("some").await;
    let session = running.session();
    running.until("an upload", || !session.transfers().is_empty()).await;
    session.cut(Ending::new("go away", Actor::Admin("root".into())));
    assert!(idle.is_over().await);
    assert!(busy.reply(false).await.is_none_or(|r| r.status >= 400));
    let mut again = running.connect().await;
    let held = again.ask("GET /f", &[], b"").await;
    assert_eq!((held.status, held.field("retry-after")), (503, Some("1")));
    let mut other = running.connect().await.is("other", "demo");
    assert_eq!(other.ask("GET /f", &[], b"").await.status, 200, "others are not held");
    let closed = || {
        let notes = running.site.notes.0.lock().unwrap();
        notes.iter().any(|e| matches!(&e.what, What::Closed(ending) if ending.code == Reason::Administrator))
    };
    running.until("the closing event", closed).await;
    let waits = async {
        loop {
            let mut again = running.connect().await;
            if again.ask("GET /f", &[], b"").await.status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("it comes in again");
}

#[tokio::test]
async fn a_session_ends_soon_after_its_last_connection_where_that_is_wanted() {
    let running = start(WebdavServerOptions { linger: Some(Duration::from_millis(30)), ..options() }).await;
    let mut client = running.connect().await;
    client.ask("PUT /f", &[], b"x").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(running.site.registry.len(), 1, "its connection is there");
    drop(client);
    running.until("the session to go", || running.site.registry.is_empty()).await;
    let ends = |e: &session_core::event::Event| matches!(&e.what, What::Closed(e) if matches!(e.actor, session_core::session::Actor::Client));
    running.until("its end", || running.site.notes.0.lock().unwrap().iter().any(ends)).await;
}

#[tokio::test]
async fn strangers_have_an_account_and_are_asked_who_they_are_where_it_ends() {
    let running = start(WebdavServerOptions { anonymous: Some("guest".into()), ..options() }).await;
    let mut stranger = running.connect().await;
    stranger.login = None;
    assert_eq!(stranger.ask("OPTIONS /", &[], b"").await.status, 200);
    assert_eq!(running.session().snapshot().user_name, "<Anonymous>");
    running.site.links.lock().unwrap().push(Arc::new(session_core::policy::ReadOnly));
    let mut second = running.connect().await.is("guest", "anything");
    let refused = second.ask("PUT /f", &[], b"x").await;
    assert_eq!(refused.status, 401);
    assert!(refused.field("www-authenticate").is_some());
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_takes_no_more() {
    let mut running = start(options()).await;
    let mut busy = running.connect().await;
    busy.begin("PUT /f", &["Content-Length: 8"], None).await;
    busy.send("some").await;
    let mut idle = running.connect().await;
    idle.ask("GET /none", &[], b"").await;
    let session = running.session();
    running.until("an upload", || !session.transfers().is_empty()).await;
    running.shutdown.cancel();
    assert!(idle.is_over().await);
    busy.send("more").await;
    assert_eq!(busy.reply(false).await.unwrap().status, 201);
    assert!(busy.is_over().await);
    let serving = &mut running.serving;
    tokio::time::timeout(PATIENCE, serving).await.expect("it stops").unwrap();
}
