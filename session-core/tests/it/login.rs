//! A login of several factors is one user's.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::auth::{
    Account, Authenticator, Credential, Login, Method, Proof, Question, Secret, SignedKey, Step,
};
use session_core::session::{Protocol, Session, Setup};

/// Whoever has a password and a key is in.
struct Two;

#[async_trait]
impl Authenticator for Two {
    async fn methods(&self, _: &Arc<Session>, _: &str) -> Vec<Method> {
        vec![Method::Password, Method::PublicKey]
    }

    async fn questions(&self, _: &Arc<Session>, _: &str) -> Vec<Question> {
        Vec::new()
    }

    async fn verify(&self, _: &Arc<Session>, user: &str, _: &Credential, passed: &[Method]) -> Proof {
        match passed {
            [] => Proof::More(vec![Method::Password, Method::PublicKey]),
            _ => Proof::Complete(Account::named(user)),
        }
    }

    async fn vouched(&self, _: &Arc<Session>, _: &str) -> Option<Account> {
        None
    }
}

fn key() -> Credential {
    let word = || "a key".to_owned();
    Credential::Key(SignedKey { algorithm: word(), fingerprint: word(), openssh: word(), certificate: None })
}

#[tokio::test]
async fn a_factor_of_one_user_is_none_of_another() {
    let password = || Credential::Password(Secret::new("x"));
    let login = || Login::new(Session::new(Setup::new(Protocol::Sftp, "s")), Arc::new(Two), 9);
    let mut honest = login();
    assert!(matches!(honest.attempt("alice", &password()).await, Step::Partial(_)));
    let Step::Accepted(identity) = honest.attempt("alice", &key()).await else { panic!("not let in") };
    assert_eq!(&*identity.account().name, "alice");

    // Who goes over to another name with what the first one has passed gets nowhere, nor back.
    let mut other = login();
    assert!(matches!(other.attempt("alice", &password()).await, Step::Partial(_)));
    for user in ["root", "alice", "root"] {
        assert!(matches!(other.attempt(user, &key()).await, Step::Rejected(_)), "{user}");
    }
    // Before anything was passed a name is only a name.
    let mut wavering = login();
    wavering.begin("root").await;
    assert!(matches!(wavering.attempt("alice", &password()).await, Step::Partial(_)));
}
