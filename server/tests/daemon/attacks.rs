//! Attacks of the list in `docs/security.md` that no part of the server meets alone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::support::*;

/// Trusts every host: it is the one that was just started.
struct Blind;

impl russh::client::Handler for Blind {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// Attack 19: what one user has passed is nothing for another, nor for the first when the other was tried.
#[tokio::test]
async fn the_user_cannot_be_changed_between_two_factors() {
    let key = || {
        use russh::keys::{Algorithm, PrivateKey, key::safe_rng};
        Arc::new(PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap())
    };
    let (alices, bobs) = (key(), key());
    let both = |name: &str, key: &russh::keys::PrivateKey| {
        let line = key.public_key().to_openssh().unwrap();
        user(name) + &format!("keys = [\"{line}\"]\nrequire = [\"password\", \"publickey\"]\n")
    };
    let s = Server::start(&(both("alice", &alices) + &both("bob", &bobs)), &[]);
    for honest in [true, false] {
        let config = Arc::new(russh::client::Config::default());
        let mut c = russh::client::connect(config, ("127.0.0.1", s.port), Blind).await.unwrap();
        let first = c.authenticate_password("alice", PASSWORD).await.unwrap();
        assert!(
            matches!(first, russh::client::AuthResult::Failure { partial_success: true, .. }),
            "{first:?}"
        );
        for (user, key) in [("bob", &bobs), ("alice", &alices)] {
            if honest && user == "bob" {
                continue;
            }
            let key = russh::keys::PrivateKeyWithHashAlg::new(Arc::clone(key), None);
            // A server may as well hang up.
            let second = c.authenticate_publickey(user, key).await;
            assert_eq!(second.is_ok_and(|r| r.success()), honest, "{user}");
        }
    }
}

/// Attack 30: a name is one argument of a program, whatever is in it.
#[tokio::test]
async fn a_hostile_name_is_one_argument_of_a_program() {
    let source = "Log('run', HexEncode(Exec('printf', ['[%s]', CtxRelPath().slice(1)]).Stdout));";
    let config = user("alice")
        + "[[hooks]]\nevent = \"BeforeFileUpload\"\nfile = \"p.js\"\ngrant = [\"exec\"]\n\
           [scripts.programs]\nprintf = \"/usr/bin/printf\"\n";
    let s = Server::start(&config, &[("p.js", source)]);
    let a = s.login("alice").await;
    for name in ["; rm -rf .", "$(id)", "`id`", "--version", "-v", "a\nb", "a b  'c\" d", "*", "| x > y"] {
        put(&a, &format!("/{name}"), "x").await.unwrap_or_else(|e| panic!("{name}: {e:#}\n{}", s.log()));
        let hex: String = format!("[{name}]").bytes().map(|b| format!("{b:02x}")).collect();
        s.logged(&[&format!("run {hex}\"")]).await;
    }
}

/// Attack 37: neither what lets in nor what was tried in vain stands in the log, even of everything that can
/// be logged, in the audit, or in what handlers and programs are told, over any protocol.
#[tokio::test]
async fn no_password_reaches_log_audit_or_handlers() {
    const WRONG: &str = "another-horse";
    let config = format!(
        "{EVERYWHERE}[log]\nlevel = \"trace\"\naudit = \"audit.jsonl\"\n{}\
         [[hooks]]\nevent = \"OnAuthSuccess\"\nfile = \"all.js\"\n\
         [[commands]]\nname = \"told\"\nprogram = \"/bin/sh\"\narguments = [\"-c\", \"cat >> TOLD\"]\n\
         events = [\"OnAuthFail\", \"OnAuthSuccess\"]\n",
        user_everywhere("alice")
    );
    let all = "for (const n of Object.getOwnPropertyNames(Session).filter(n => n.startsWith('Get'))) \
               try { Log('seen', n, JSON.stringify(Session[n]())); } catch { }";
    let told = tempfile::tempdir().unwrap();
    let file = told.path().join("told");
    let s = Server::configured(&config.replace("TOLD", file.to_str().unwrap()), &[("all.js", all)]);
    let ways = WAYS.into_iter().filter(|w| w.scheme != "scp");
    let mut tries = 0;
    for way in ways {
        way.on_disk(&s, "alice", "/f");
        assert!(way.try_login(&s, "alice", WRONG).await.is_err(), "{}", way.scheme);
        let c = way.login(&s, "alice").await;
        put(&c, &way.text("/f"), "x").await.unwrap();
        c.close().await;
        tries += 1;
    }
    let read = |file: &std::path::Path| std::fs::read_to_string(file).unwrap_or_default();
    until("the program to be told", || read(&file).matches("OnAuthSuccess").count() >= tries).await;
    let audit = read(&s.data.join("audit.jsonl"));
    assert!(audit.matches("\"logged-in\"").count() >= tries && audit.contains("login-failed"), "{audit}");
    let log = s.log();
    assert!(log.contains("seen GetID") && log.contains("login failed"), "{log}");
    let base64 = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    for secret in [PASSWORD, WRONG, "a secret that is long enough", "$2b$"] {
        for basic in [secret.to_owned(), base64(&format!("alice:{secret}"))] {
            for (text, what) in [(&log, "log"), (&audit, "audit"), (&read(&file), "program")] {
                let line = text.lines().find(|l| l.contains(&basic));
                assert!(line.is_none(), "{basic} in the {what}: {}", line.unwrap_or_default());
            }
        }
    }
}

/// Attack 35: who has not even ended the handshake of TLS is ended as anybody else.
#[tokio::test]
async fn a_session_is_ended_in_the_midst_of_a_tls_handshake() {
    let listeners =
        "[[listeners]]\nprotocol = \"ftp\"\nport = 0\n[[listeners]]\nprotocol = \"ftps\"\nport = 0\n";
    let s = Server::configured(&format!("{listeners}{}", user("alice")), &[]);
    for protocol in ["ftp", "ftps"] {
        let mut socket = TcpStream::connect(("127.0.0.1", s.port_of("ferry", protocol))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        if protocol == "ftp" {
            let mut answers = BufReader::new(socket.try_clone().unwrap());
            let mut line = String::new();
            answers.read_line(&mut line).unwrap();
            socket.write_all(b"AUTH TLS\r\n").unwrap();
            line.clear();
            answers.read_line(&mut line).unwrap();
            assert!(line.starts_with("234"), "{line}");
        }
        until("the session to be seen", || s.sessions().len() == 1).await;
        let id = s.sessions()[0]["sessionId"].as_str().unwrap().to_owned();
        let (code, _, err) = s.ask(&["sessions", "kill", &id, "--reason", "in the midst"]);
        assert_eq!(code, 0, "{err}");
        let mut rest = Vec::new();
        // Cut, or reset: what comes is no handshake.
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.len() < 100, "{protocol}: {rest:?}");
        assert!(s.sessions().is_empty(), "{protocol}");
        let past = s.ask(&["sessions", "history", "--json"]).1;
        assert!(past.contains(&id) && past.contains("in the midst"), "{past}");
    }
}
