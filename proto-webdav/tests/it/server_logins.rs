//! Logins other than by Basic: Digest with every way to be refused, and tokens.
#![cfg(feature = "server")]

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use proto_webdav::server::WebdavServerOptions;
use session_core::auth::{DigestKeys, Secret};
use session_core::digest::Hasher;
use session_core::event::What;
use session_core::fs::Algorithm;
use tokio::net::TcpStream;

fn hash(algorithm: Algorithm, text: &str) -> String {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(text.as_bytes());
    hasher.finish().iter().map(|b| format!("{b:02x}")).collect()
}

fn keys(password: &str) -> DigestKeys {
    let of = |algorithm| Some(Secret::new(hash(algorithm, &format!("demo:Ferry:{password}"))));
    DigestKeys { md5: of(Algorithm::Md5), sha256: of(Algorithm::Sha256) }
}

async fn offering() -> Running {
    let running = start(WebdavServerOptions { digest: true, ..options() }).await;
    *running.site.users.lock().unwrap().digest.lock().unwrap() = keys("demo");
    running
}

/// A client that answers challenges.
struct Answers {
    client: Client<TcpStream>,
    user: &'static str,
    password: &'static str,
    algorithm: Algorithm,
    nonce: String,
    count: u32,
}

impl Answers {
    async fn new(running: &Running) -> Answers {
        let mut client = running.connect().await;
        client.login = None;
        let (user, password) = ("demo", "demo");
        let mut it =
            Answers { client, user, password, algorithm: Algorithm::Sha256, nonce: String::new(), count: 0 };
        it.challenged(running).await;
        it
    }

    /// A fresh challenge.
    async fn challenged(&mut self, running: &Running) {
        let mut client = running.connect().await;
        client.login = None;
        let reply = client.ask("OPTIONS /", &[], b"").await;
        assert_eq!(reply.status, 401);
        self.nonce = nonce(&reply);
        self.count = 0;
    }

    fn field(&self, method: &str, uri: &str) -> String {
        let h = |text: &str| hash(self.algorithm, text);
        let (nonce, count) = (&self.nonce, self.count);
        let one = h(&format!("{}:Ferry:{}", self.user, self.password));
        let response = h(&format!("{one}:{nonce}:{count:08x}:c:auth:{}", h(&format!("{method}:{uri}"))));
        let algorithm = if self.algorithm == Algorithm::Md5 { "MD5" } else { "SHA-256" };
        format!(
            "Digest username=\"{}\", realm=\"Ferry\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={algorithm}, \
             qop=auth, nc={count:08x}, cnonce=\"c\", response=\"{response}\"",
            self.user
        )
    }

    async fn ask(&mut self, method: &str, uri: &str) -> Reply {
        self.count += 1;
        let field = self.field(method, uri);
        self.with(method, uri, &field).await
    }

    async fn with(&mut self, method: &str, uri: &str, field: &str) -> Reply {
        self.client.login = Some(field.to_owned());
        self.client.ask(&format!("{method} {uri}"), &[], b"").await
    }
}

fn challenges(reply: &Reply) -> Vec<&str> {
    let is = |name: &str| name.eq_ignore_ascii_case("www-authenticate");
    reply.fields.iter().filter(|(name, _)| is(name)).map(|(_, value)| value.as_str()).collect()
}

fn nonce(reply: &Reply) -> String {
    let all = challenges(reply);
    all[0].split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

fn is_stale(reply: &Reply) -> bool {
    reply.status == 401 && challenges(reply)[0].ends_with(", stale=true")
}

#[tokio::test]
async fn digest_is_offered_before_basic_and_logs_in_by_both_algorithms() {
    let running = offering().await;
    let mut client = running.connect().await;
    client.login = None;
    let offer = client.ask("GET /", &[], b"").await;
    let all = challenges(&offer);
    let begin: Vec<_> = all.iter().map(|c| c.split(' ').next().unwrap()).collect();
    assert_eq!(begin, ["Digest", "Digest", "Basic"]);
    assert!(all[0].contains("algorithm=SHA-256") && all[1].contains("algorithm=MD5"), "{all:?}");
    assert!(all[0].contains("qop=\"auth\"") && !all[0].contains("stale"), "{all:?}");
    let mut answers = Answers::new(&running).await;
    assert_eq!(answers.ask("OPTIONS", "/").await.status, 200);
    assert_eq!(&*running.session().user_id(), "demo");
    // The same session, request by request and over another connection.
    assert_eq!(answers.ask("PROPFIND", "/").await.status, 403, "of infinite depth");
    let mut second = Answers::new(&running).await;
    assert_eq!(second.ask("OPTIONS", "/").await.status, 200);
    assert_eq!(running.site.registry.len(), 1);
    second.algorithm = Algorithm::Md5;
    assert_eq!(second.ask("OPTIONS", "/").await.status, 200);
    // Basic is taken still, and nobody is offered Digest who has not asked for it.
    assert_eq!(running.connect().await.ask("OPTIONS /", &[], b"").await.status, 200);
    let plain = start(options()).await;
    let mut other = Answers { client: plain.connect().await, ..Answers::new(&running).await };
    assert_eq!(challenges(&other.ask("OPTIONS", "/").await).len(), 1);
}

#[tokio::test]
async fn an_answer_is_good_once_for_its_request_and_for_a_while() {
    let running = offering().await;
    let mut answers = Answers::new(&running).await;
    answers.count = 1;
    let first = answers.field("OPTIONS", "/");
    assert_eq!(answers.with("OPTIONS", "/", &first).await.status, 200);
    assert!(is_stale(&answers.with("OPTIONS", "/", &first).await), "played again");
    // What it was made for, it is good for, and for nothing else.
    answers.count = 2;
    let field = answers.field("OPTIONS", "/");
    for (method, uri) in [("OPTIONS", "/other"), ("DELETE", "/"), ("OPTIONS", "/?x")] {
        let reply = answers.with(method, uri, &field).await;
        assert!(reply.status == 401 && !is_stale(&reply), "{method} {uri}: {reply:?}");
    }
    let mut answers = Answers { client: running.connect().await, ..answers };
    assert_eq!(answers.with("OPTIONS", "/", &field).await.status, 200, "nothing of that took it");
    // Counts that overtake each other.
    for count in [9, 5, 7] {
        answers.count = count;
        let field = answers.field("OPTIONS", "/");
        assert_eq!(answers.with("OPTIONS", "/", &field).await.status, 200, "{count}");
    }
    // An old challenge: whoever knows the password hears that, and who does not, nothing.
    let old = start(WebdavServerOptions { digest: true, nonce_time: Duration::ZERO, ..options() }).await;
    *old.site.users.lock().unwrap().digest.lock().unwrap() = keys("demo");
    let mut late = Answers::new(&old).await;
    let reply = late.ask("OPTIONS", "/").await;
    assert!(is_stale(&reply));
    assert_ne!(nonce(&reply), late.nonce);
    late.password = "wrong";
    let reply = late.ask("OPTIONS", "/").await;
    assert!(reply.status == 401 && !is_stale(&reply));
    let failed = |e: &session_core::event::Event| matches!(e.what, What::LoginFailed { .. });
    assert_eq!(old.site.notes.0.lock().unwrap().iter().filter(|e| failed(e)).count(), 1, "staleness is none");
}

#[tokio::test]
async fn who_cannot_answer_hears_the_same_and_is_struck() {
    let running = offering().await;
    let mut heard = Vec::new();
    for (user, password) in [("demo", "wrong"), ("nobody", "demo"), ("other", "demo")] {
        let mut answers = Answers::new(&running).await;
        (answers.user, answers.password) = (user, password);
        let reply = answers.ask("OPTIONS", "/").await;
        let names: Vec<_> = reply.fields.iter().map(|(n, _)| n.clone()).collect();
        heard.push((reply.status, names, reply.text(), is_stale(&reply)));
    }
    assert_eq!((heard[0].0, heard[0].3), (401, false));
    assert!(heard[0] == heard[1] && heard[0] == heard[2], "{heard:?}");
    let failed = |e: &session_core::event::Event| match &e.what {
        What::LoginFailed { user, method, .. } => Some((user.to_string(), method.to_string())),
        _ => None,
    };
    let failed: Vec<_> = running.site.notes.0.lock().unwrap().iter().filter_map(failed).collect();
    let due = ["demo", "nobody", "other"].map(|u| (u.to_owned(), "password".to_owned()));
    assert_eq!(failed, due);
    running.until("the refused to be gone", || running.site.registry.is_empty()).await;
    // Of another realm, of another kind, and nonsense.
    let answers = Answers::new(&running).await;
    let good = answers.field("OPTIONS", "/");
    for (from, to) in [("realm=\"Ferry\"", "realm=\"Other\""), ("qop=auth,", ""), ("Digest ", "Digest =,")] {
        let mut client = Answers { client: running.connect().await, ..Answers::new(&running).await };
        assert_eq!(client.with("OPTIONS", "/", &good.replace(from, to)).await.status, 401, "{to}");
    }
}

#[tokio::test]
async fn another_password_ends_what_digest_has_begun() {
    let running = offering().await;
    let mut answers = Answers::new(&running).await;
    assert_eq!(answers.ask("OPTIONS", "/").await.status, 200);
    let session = running.session();
    let changed = Users::default();
    *changed.digest.lock().unwrap() = keys("new");
    *running.site.users.lock().unwrap() = Arc::new(changed);
    let mut again = Answers::new(&running).await;
    assert_eq!(again.ask("OPTIONS", "/").await.status, 401);
    assert!(session.ending().is_none(), "who has not proven anything ends nothing");
    again.password = "new";
    assert_eq!(again.ask("OPTIONS", "/").await.status, 200);
}

#[tokio::test]
async fn a_token_logs_in_its_owner() {
    let running = start(options()).await;
    *running.site.users.lock().unwrap().token.lock().unwrap() = Some("demo-secret".into());
    let mut client = running.connect().await;
    client.login = Some("Bearer demo-secret".into());
    assert_eq!(client.ask("OPTIONS /", &[], b"").await.status, 200);
    assert_eq!(client.ask("OPTIONS /", &[], b"").await.status, 200);
    assert_eq!(&*running.session().user_id(), "demo");
    for bad in ["Bearer demo-other", "Bearer nobody", "Bearer a b"] {
        let mut client = running.connect().await;
        client.login = Some(bad.into());
        let reply = client.ask("OPTIONS /", &[], b"").await;
        assert_eq!((reply.status, challenges(&reply).len()), (401, 1), "{bad}");
    }
    // Taken away, it ends what it has begun.
    *running.site.users.lock().unwrap() = Arc::default();
    assert_eq!(client.ask("OPTIONS /", &[], b"").await.status, 401);
    running.until("the session to go", || running.site.registry.is_empty()).await;
}
