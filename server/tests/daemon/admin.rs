//! The API over the network: tokens, roles, and that it answers as the control socket does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::support::*;

const ADMIN: &str = "[admin]\nenabled = true\nport = 0\n";

fn config(more: &str) -> String {
    format!("[[listeners]]\nport = 0\n{ADMIN}{more}\n{}", user("alice"))
}

fn address(s: &Server) -> (String, String) {
    let status: Value = serde_json::from_str(&s.ask(&["status", "--json"]).1).unwrap();
    let url = status["admin"].as_str().unwrap().to_string();
    let at = url.split("//").nth(1).unwrap().to_string();
    (url, at)
}

fn token(s: &Server, role: &str) -> String {
    let (code, out, err) = s.ask(&["token", "add", "t", "--role", role]);
    assert_eq!(code, 0, "{err}");
    out.trim_end().to_string()
}

fn request(line: &str, token: Option<&str>, body: &str) -> String {
    let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn answer(mut stream: impl std::io::Read + std::io::Write, request: &str) -> (u16, Value, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap(), head.to_lowercase())
}

fn connect(at: &str) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(at: &str, line: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    let (status, value, _) = answer(connect(at), &request(line, token, body));
    (status, value)
}

#[tokio::test]
async fn a_token_may_what_its_role_says_and_nobody_anything_without() {
    let s = Server::configured(&config(""), &[]);
    let (_, at) = address(&s);
    let session = s.login("alice").await;
    let (read, operate, admin) = (token(&s, "read"), token(&s, "operate"), token(&s, "admin"));
    let (status, body, head) = answer(connect(&at), &request("GET /v1/sessions", None, ""));
    assert_eq!((status, &body["error"]["kind"]), (401, &json!("unauthenticated")), "{body}");
    assert!(head.contains("www-authenticate: bearer") && head.contains("cache-control: no-store"), "{head}");
    assert!(!head.contains("access-control") && !head.contains("set-cookie"), "{head}");
    for path in ["healthz", "readyz"] {
        assert_eq!(ask(&at, &format!("GET /{path}"), None, ""), (200, json!({ "status": "ready" })));
    }
    assert_eq!(ask(&at, "GET /v1/nothing", None, "").0, 401, "what there is, is not told");
    for (line, body, needed) in [
        ("GET /v1/sessions", "", 0),
        ("GET /v1/users", "", 0),
        ("GET /v1/openapi.json", "", 0),
        ("POST /v1/sessions/terminate?user=nobody", "{}", 1),
        ("POST /v1/bans/remove", "{\"network\":\"192.0.2.1\"}", 1),
        ("POST /v1/reload", "", 1),
        ("GET /v1/tokens", "", 2),
        ("GET /v1/accounts?secrets=yes", "", 2),
        ("PATCH /v1/users/nobody", "{}", 2),
        ("DELETE /v1/users/alice", "", 2),
        ("POST /v1/users/nobody/password", "{\"password\":\"x\"}", 2),
    ] {
        for (n, token) in [&read, &operate, &admin].into_iter().enumerate() {
            let (status, value) = ask(&at, line, Some(token), body);
            assert_eq!(status == 403, n < needed, "{line}: {status} {value}");
            assert_ne!(status, 401, "{line}");
        }
    }
    put(&session, "/f", "x").await.unwrap();
    let (_, listed) = ask(&at, "GET /v1/sessions?user=alice", Some(&read), "");
    let id = listed["sessions"][0]["sessionId"].as_str().unwrap();
    let line = format!("POST /v1/sessions/{id}/terminate");
    assert_eq!(ask(&at, &line, Some(&operate), "{\"reason\":\"bye\"}").0, 200);
    assert!(put(&session, "/g", "x").await.is_err());
    let past = s.ask(&["sessions", "history", "--json"]).1;
    assert!(past.contains("admin token ") && past.contains(" t from 127.0.0.1"), "{past}");
    let log = s.log();
    assert!(![&read, &operate, &admin].iter().any(|t| log.contains(t.as_str())), "a token in the log");
}

fn page(at: &str, token: &str) -> String {
    let mut stream = connect(at);
    stream.write_all(request("GET /metrics", Some(token), "").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in body.lines().filter(|l| !l.starts_with('#')) {
        assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
    }
    body.to_string()
}

#[track_caller]
fn says(page: &str, line: &str) {
    assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
}

#[tokio::test]
async fn counters_and_limits_are_there_for_prometheus() {
    let more = "[limits]\nsessions = 7\n[[hooks]]\nevent = \"BeforeFileUpload\"\nfile = \"a.js\"\n";
    let block = "if (CtxRelPath() === '/no') Session.BlockOperation();";
    let s = Server::configured(&config(more), &[("a.js", block)]);
    let (_, at) = address(&s);
    let read = token(&s, "read");
    assert_eq!(ask(&at, "GET /metrics", None, "").0, 401);
    let session = s.login("alice").await;
    put(&session, "/f", "12345").await.unwrap();
    assert!(put(&session, "/no", "x").await.is_err());
    let told = page(&at, &read);
    says(&told, "ferryd_sessions{site=\"ferry\",protocol=\"SFTP\",state=\"in\"} 1");
    says(&told, "ferryd_limit_used{limit=\"sessions\"} 1");
    says(&told, "ferryd_limit_max{limit=\"sessions\"} 7");
    says(&told, "ferryd_logins_total{site=\"ferry\",protocol=\"SFTP\",result=\"ok\"} 1");
    says(&told, "ferryd_content_bytes_total{site=\"ferry\",protocol=\"SFTP\",direction=\"upload\"} 5");
    says(&told, "ferryd_accepting{site=\"ferry\"} 1");
    let at_open = |outcome: &str| {
        format!(
            "ferryd_operations_total{{site=\"ferry\",protocol=\"SFTP\",operation=\"open\",outcome=\"{outcome}\"}} 1"
        )
    };
    says(&told, &at_open("ok"));
    says(&told, &at_open("refused"));
    let runs = |outcome: &str| {
        told.lines().any(|l| {
            l.starts_with("ferryd_handler_runs_total{event=\"BeforeFileUpload\",handler=\"")
                && l.ends_with(&format!("a.js\",outcome=\"{outcome}\"}} 1"))
        })
    };
    assert!(runs("passed") && runs("blocked"), "{told}");
    session.close().await;
    until("the end is counted", || {
        let told = page(&at, &read);
        told.contains("ferryd_sessions_closed_total{site=\"ferry\"")
            && told.contains("direction=\"upload\"} 5")
            && !told.contains("ferryd_sessions{")
    })
    .await;
    let other = s.login("alice").await;
    let file = begin(&other, "/g", "x").await.unwrap();
    assert_eq!(s.ask(&["drain"]).0, 0);
    until("no session is taken", || ask(&at, "GET /readyz", None, "").0 == 503).await;
    assert_eq!(ask(&at, "GET /healthz", None, ""), (200, json!({ "status": "draining" })));
    says(&page(&at, &read), "ferryd_accepting{site=\"ferry\"} 0");
    drop(file);
}

#[tokio::test]
async fn accounts_are_made_over_the_network_as_by_the_command() {
    let s = Server::configured(&config(""), &[]);
    let (_, at) = address(&s);
    let admin = token(&s, "admin");
    let body = json!({ "name": "bob@x", "new_password": PASSWORD, "read_only": true }).to_string();
    let (status, made) = ask(&at, "POST /v1/users", Some(&admin), &body);
    assert_eq!((status, &made["user"]["readOnly"]), (200, &json!(true)), "{made}");
    assert_eq!(ask(&at, "POST /v1/users", Some(&admin), &body).0, 409);
    let bob = s.login("bob@x").await;
    assert!(put(&bob, "/f", "x").await.is_err());
    assert_eq!(ask(&at, "PATCH /v1/users/bob%40x", Some(&admin), "{\"read_only\":null}").0, 200);
    put(&s.login("bob@x").await, "/f", "x").await.unwrap();
    assert_eq!(ask(&at, "DELETE /v1/users/bob%40x", Some(&admin), "").1["ended"], 2);
    assert_eq!(ask(&at, "GET /v1/users/bob%40x", Some(&admin), "").0, 404);
    assert_eq!(ask(&at, "GET /v1/users/..%2F..%2Fetc%2Fpasswd", Some(&admin), "").0, 404);
    // What a page of another site can send is no JSON by its own word.
    let form = request("POST /v1/reload", Some(&admin), "").replace("application/json", "text/plain");
    assert_eq!(answer(connect(&at), &form).0, 200, "no body, nothing to read");
    let form = request("POST /v1/users", Some(&admin), &body).replace("application/json", "text/plain");
    assert_eq!(answer(connect(&at), &form).0, 400);
}

#[tokio::test]
async fn who_guesses_is_not_listened_to_and_a_removed_token_is_none() {
    let s = Server::configured(&config(""), &[]);
    let (_, at) = address(&s);
    let read = token(&s, "read");
    assert_eq!(ask(&at, "GET /v1/status", Some(&read), "").0, 200);
    let id = read.split('_').nth(1).unwrap();
    assert_eq!(s.ask(&["token", "rm", id]).0, 0);
    assert_eq!(ask(&at, "GET /v1/status", Some(&read), "").0, 401);
    let good = token(&s, "read");
    for _ in 0..9 {
        assert_eq!(ask(&at, "GET /v1/status", Some("ferry_0000_x"), "").0, 401);
    }
    let (status, _, head) = answer(connect(&at), &request("GET /v1/status", Some(&good), ""));
    assert!(status == 429 && head.contains("retry-after: 60"), "{status} {head}");
    assert_eq!(s.ask(&["status"]).0, 0, "the control socket is another door");
}

#[tokio::test]
async fn changes_of_sessions_come_as_lines() {
    let s = Server::configured(&config(""), &[]);
    let (_, at) = address(&s);
    let read = token(&s, "read");
    let mut stream = connect(&at);
    stream.write_all(request("GET /v1/sessions/watch?user=alice", Some(&read), "").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut alive = 0;
    let mut next = |wanted: &str| loop {
        assert!(alive < 5, "nothing but signs of life before '{wanted}'");
        let line = lines.next().unwrap().unwrap();
        if let Ok(value) = serde_json::from_str::<Value>(&line) {
            alive += u32::from(value["event"] == "alive");
            if value["event"] == wanted {
                return value;
            }
        }
    };
    next("alive");
    let session = s.login("alice").await;
    assert_eq!(next("opened")["session"]["userName"], "alice");
    session.close().await;
    let closed = next("closed");
    assert_eq!(
        (&closed["session"]["userName"], &closed["session"]["reasonCode"]),
        (&json!("alice"), &json!("done"))
    );
}

#[tokio::test]
async fn over_tls_and_only_over_tls_where_others_can_reach_it() {
    let s = Server::configured(&config("tls = true"), &[]);
    let (url, at) = address(&s);
    assert!(url.starts_with("https://"), "{url}");
    let read = token(&s, "read");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(s.data.join("tls.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection =
        rustls::ClientConnection::new(Arc::new(client), "127.0.0.1".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, connect(&at));
    let (status, body, _) = answer(&mut stream, &request("GET /v1/status", Some(&read), ""));
    assert!(status == 200 && body["pid"].is_number(), "{body}");
    // Without TLS nothing is answered.
    let mut plain = connect(&at);
    plain.write_all(request("GET /v1/status", Some(&read), "").as_bytes()).unwrap();
    let mut text = Vec::new();
    let _ = plain.read_to_end(&mut text);
    assert!(!String::from_utf8_lossy(&text).contains("HTTP"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), "[admin]\nenabled = true\naddress = \"0.0.0.0\"\n")
        .unwrap();
    let (code, _, err) = ferryd(dir.path(), &["check"]);
    assert!(code == 2 && err.contains("tokens would cross the network in the clear"), "{err}");
}

#[tokio::test]
async fn a_server_that_drains_says_so_and_ends() {
    let mut s = Server::configured(&config(""), &[]);
    let session = s.login("alice").await;
    let (code, out, err) = s.ask(&["drain"]);
    assert!(code == 0 && out.contains("no session is taken any more"), "{out}{err}");
    assert_eq!(s.ended().await, Some(0));
    drop(session);
}

/// The examples print what the table holds. Takes seconds: three interpreters start three times each.
#[tokio::test]
async fn the_examples_list_the_sessions_of_a_site() {
    let s = Server::configured(&config(""), &[]);
    let (url, _) = address(&s);
    let session = s.login("alice").await;
    put(&session, "/f", "x").await.unwrap();
    let wanted = || {
        let live = s.sessions();
        let text = |key: &str| live[0][key].as_str().unwrap().to_string();
        format!("{}\talice\t{}\n", text("sessionId"), text("previousCommand"))
    };
    until("a previous command", || !wanted().ends_with("\t\n")).await;
    let read = token(&s, "read");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sessions");
    let there =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    let mut ran = 0;
    for (programs, file) in [
        (&["sh", "curl", "jq"][..], "sessions.sh"),
        (&["python3"], "sessions.py"),
        (&["node"], "sessions.mjs"),
    ] {
        if !programs.iter().all(|p| *p == "sh" || there(p)) {
            eprintln!("{file} was not tried: {programs:?} are not here");
            continue;
        }
        let run = |token: &str, site: &str| {
            let mut command = Command::new(programs[0]);
            command.arg(folder.join(file)).arg(site).env("FERRYD_API", &url).env("FERRYD_TOKEN", token);
            command.env("no_proxy", "127.0.0.1").output().unwrap()
        };
        let out = run(&read, "ferry");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(text, wanted(), "{file}: {}", String::from_utf8_lossy(&out.stderr));
        let none = run(&read, "elsewhere");
        assert!(none.status.success() && none.stdout.is_empty(), "{file}");
        assert!(!run("ferry_0_x", "ferry").status.success(), "{file} does not tell a refusal");
        ran += 1;
    }
    assert!(ran > 0, "no interpreter is here");
}
