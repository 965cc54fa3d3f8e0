//! One-time codes as a second factor: over SSH by questions, over FTP by ACCT or behind the password.

use std::sync::Arc;
use std::time::SystemTime;

use client::connect::open_url;
use server::users::totp::{TotpKey, recovery_hash};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query, Unattended};

use crate::ftp::Ftp;
use crate::support::*;

const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn config() -> String {
    let codes: Vec<_> = ["AAAABBBBCCCCDDDD", "EEEEFFFFGGGGHHHH"].map(recovery_hash).into();
    format!(
        "listeners = [{{ protocol = \"sftp\", port = 0 }}, {{ protocol = \"ftp\", port = 0 }}]\n\
         [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n{}totp = \"{SECRET}\"\nrecovery = {codes:?}\n{}",
        user("alice"),
        user("bob"),
    )
}

fn code() -> String {
    TotpKey::parse(SECRET).unwrap().code_at(SystemTime::now())
}

/// Answers the password and one code.
struct With(String);

#[async_trait::async_trait]
impl Decider for With {
    async fn decide(&self, query: Query) -> Answer {
        match query {
            Query::Interactive { prompts, .. } => {
                let answer = |(prompt, _): &(String, bool)| {
                    Secret::new(if prompt.contains("code") { self.0.clone() } else { PASSWORD.into() })
                };
                Answer::Answers(prompts.iter().map(answer).collect())
            }
            other => Unattended.decide(other).await,
        }
    }
}

#[tokio::test]
async fn over_ssh_the_code_is_asked_for_after_the_password() {
    let s = Server::configured(&config(), &[]);
    let open = |code: String| open_url(s.options("alice", PASSWORD), Arc::new(With(code)));
    assert!(s.try_login("alice", PASSWORD).await.is_err(), "the password alone");
    assert!(open("000000".into()).await.is_err());
    let once = code();
    put(&open(once.clone()).await.unwrap(), "/f", "x").await.unwrap();
    let line = s.logged(&["logged in", "alice"]).await;
    assert_eq!(line["methods"], "password,keyboard-interactive");
    assert!(open(once).await.is_err(), "a code is good once");
    put(&open("aaaabbbb-ccccdddd".into()).await.unwrap(), "/g", "x").await.unwrap();
    assert!(open("AAAABBBBCCCCDDDD".into()).await.is_err(), "a recovery code too");
    s.login("bob").await;
}

#[tokio::test]
async fn over_ftp_the_code_comes_by_acct_or_behind_the_password() {
    let s = Server::configured(&config(), &[]);
    let (mut ftp, _) = Ftp::connect(s.port_of("ferry", "ftp"));
    assert!(ftp.log_in("alice").starts_with("332"));
    assert!(ftp.ask("ACCT 000000").starts_with("530"));
    assert!(ftp.log_in("alice").starts_with("332"));
    assert!(ftp.ask("ACCT EEEEFFFFGGGGHHHH").starts_with("230"));
    let (mut ftp, _) = Ftp::connect(s.port_of("ferry", "ftp"));
    ftp.ask("USER alice");
    assert!(ftp.ask(&format!("PASS wrong{}", code())).starts_with("530"));
    ftp.ask("USER alice");
    assert!(
        ftp.ask(&format!("PASS {PASSWORD}{}", code())).starts_with("230"),
        "no wrong password spends a code"
    );
    // Who has no code is not asked, and does not get in with one.
    let (mut ftp, _) = Ftp::connect(s.port_of("ferry", "ftp"));
    ftp.ask("USER bob");
    assert!(ftp.ask(&format!("PASS {PASSWORD}{}", code())).starts_with("530"));
    assert!(ftp.log_in("bob").starts_with("230"));
}
