//! A password that has expired: a server that wants a new one by questions, as PAM asks them, or within the method
//! `password`, which nobody hears.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto_sftp::ssh::connect;
use proto_sftp::ssh::connect::{ConnectOptions, HostKeyPolicy};
use russh::keys::{Algorithm, PrivateKey, key::safe_rng};
use russh::server::{Auth, Config, Handler, Response};
use russh::{MethodKind, MethodSet};
use session_core::auth::Secret;
use session_core::batch::Unattended;
use session_core::error::ErrorKind;

use crate::ssh_login::no;

/// What is asked in turn, each a lone hidden question, and what was answered.
#[derive(Clone, Default)]
struct Expired {
    questions: Arc<Vec<&'static str>>,
    /// What must have been answered for the login to succeed.
    good: Arc<Vec<&'static str>>,
    told: Arc<Mutex<Vec<String>>>,
    /// `false`: only the method `password` is spoken, and it does not answer.
    asks: bool,
}

impl Expired {
    fn next(&self) -> Auth {
        let told = self.told.lock().unwrap();
        let Some(question) = self.questions.get(told.len()) else {
            return if *told == *self.good { Auth::Accept } else { self.reject() };
        };
        Auth::Partial {
            name: Cow::Borrowed("expired"),
            instructions: Cow::Borrowed(""),
            prompts: Cow::Owned(vec![(Cow::Borrowed(*question), false)]),
        }
    }

    fn reject(&self) -> Auth {
        let kind = if self.asks { MethodKind::KeyboardInteractive } else { MethodKind::Password };
        Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[kind][..])), partial_success: false }
    }
}

impl Handler for Expired {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        Ok(self.reject())
    }

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, russh::Error> {
        // As a client sees it that passes over the demand for a new one.
        std::future::pending().await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        answers: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        match answers {
            None => self.told.lock().unwrap().clear(),
            Some(answers) => {
                let mut told = self.told.lock().unwrap();
                told.extend(answers.map(|a| String::from_utf8(a.to_vec()).unwrap()));
            }
        }
        Ok(self.next())
    }
}

async fn serve(server: Expired) -> ConnectOptions {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(Config {
        keys: vec![PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()],
        auth_rejection_time: Duration::from_millis(1),
        auth_rejection_time_initial: Some(Duration::ZERO),
        ..Config::default()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(running) = russh::server::run_stream(Arc::clone(&config), stream, server.clone()).await
            {
                let _ = running.await;
            }
        }
    });
    let mut options = ConnectOptions::new("127.0.0.1", port, "ann");
    options.policy = HostKeyPolicy::AcceptNew;
    options.known_hosts = Some(vec!["/dev/null".into()]);
    options.default_identities = false;
    options.agent = proto_sftp::ssh::keys::Agent::Off;
    options.password = Some(Secret::new("old"));
    options.new_password = Some(Secret::new("new"));
    options
}

#[tokio::test]
async fn questions_for_a_new_password_are_answered() {
    for questions in [
        vec!["Password: ", "Current password: ", "New password: ", "Retype new password: "],
        vec!["(current) UNIX password: ", "Enter new UNIX password: ", "Retype new UNIX password: "],
        vec!["Old Password:", "New Password:", "Re-enter new Password:"],
        vec!["Password: "],
    ] {
        let good = questions.iter().map(|q| if q.to_lowercase().contains("new") { "new" } else { "old" });
        let server = Expired {
            good: Arc::new(good.collect()),
            questions: questions.into(),
            asks: true,
            ..Expired::default()
        };
        let told = Arc::clone(&server.told);
        let options = serve(server).await;
        // The connection opens nothing here; that it is let in is enough.
        let e = connect(options, Arc::new(Unattended)).await.map(drop);
        assert!(e.is_ok(), "{:?} after {:?}", e.unwrap_err(), told.lock().unwrap());
    }
}

#[tokio::test]
async fn a_new_password_that_holds_already_is_tried_next() {
    let server = Expired {
        questions: Arc::new(vec!["Password: "]),
        good: Arc::new(vec!["new"]),
        asks: true,
        ..Expired::default()
    };
    connect(serve(server).await, Arc::new(Unattended)).await.unwrap();
}

#[tokio::test]
async fn a_new_password_that_is_not_taken_is_told_once() {
    let asks = ["Password: ", "New password: ", "New password: "];
    let server = Expired {
        questions: Arc::new(asks.to_vec()),
        good: Arc::new(vec!["never"]),
        asks: true,
        ..Expired::default()
    };
    let told = Arc::clone(&server.told);
    let e = no(connect(serve(server).await, Arc::new(Unattended)).await);
    assert_eq!(e.kind(), ErrorKind::Unauthenticated);
    assert!(format!("{e:#}").contains("does not take the new password"), "{e:#}");
    // Nobody was there to say another one.
    assert_eq!(*told.lock().unwrap(), ["old", "new", ""]);
}

#[tokio::test]
async fn a_server_that_asks_within_the_method_is_said_to() {
    let mut options = serve(Expired::default()).await;
    options.timeout = Duration::from_secs(1);
    let e = no(connect(options, Arc::new(Unattended)).await);
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    assert!(format!("{e:#}").contains("within the method 'password'"), "{e:#}");
}
