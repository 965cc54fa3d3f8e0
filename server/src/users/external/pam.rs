//! Logins by PAM, of which a program of its own asks: `ferryd-pam`.
//!
//! Modules of PAM may block, fork or crash: nothing of that reaches this process. Each question has one of its own,
//! which is shown a line of JSON (`{ service, user, password, address }`) and answers with one (`{ answer, why }`:
//! `yes`, `no` or `failed`); it has an empty environment, and it and all that it started are killed when its time is
//! over. Nothing of one login is left for the next.
//!
//! Deliberately absent: questions of modules beyond one password, groups of the system, passwords that have expired.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::hooks::exec::Programs;
use serde::Deserialize;
use serde_json::{Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::{About, Vouch};
use crate::config::{DirectoryTable, Record};
use crate::hooks::field;

/// The program, beside `ferryd` where no other place is named.
const PROGRAM: &str = "ferryd-pam";

/// The longest answer, bytes.
const ANSWER: usize = 64 << 10;

/// What the program answers.
#[derive(Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
enum Answer {
    Yes,
    No { why: String },
    Failed { why: String },
}

pub(super) struct Pam {
    name: String,
    service: String,
    groups: Vec<String>,
    programs: Programs,
}

/// The service that a URL names, `pam://SERVICE`: a file of `/etc/pam.d`.
pub(super) fn service(url: &str) -> Option<&str> {
    let service = url.strip_prefix("pam://")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (service.bytes().all(plain) && !service.starts_with('.') && (1..=64).contains(&service.len()))
        .then_some(service)
}

impl Pam {
    /// Errors: `InvalidArgument` where the program is not there.
    pub(super) fn new(table: &DirectoryTable) -> Result<Self> {
        let program = match &table.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name(PROGRAM),
        };
        if !program.is_file() {
            let words = format!("the directory '{}' needs the program {}", table.name, program.display());
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail(words).with_hint(
                "'cargo build --release -p ferryd-pam --features pam' makes it; 'program' says where it is",
            ));
        }
        Ok(Pam {
            name: table.name.clone(),
            service: service(&table.url).unwrap_or_default().to_owned(),
            groups: table.groups.clone(),
            programs: Programs::new(BTreeMap::from([(PROGRAM.to_owned(), program)]), table.time, ANSWER),
        })
    }
}

#[async_trait]
impl Vouch for Pam {
    async fn ask(&self, user: &str, password: &Secret, about: About<'_>) -> Result<Option<Record>> {
        let question = json!({
            "service": self.service, "user": user, "password": password.expose(), "address": about.address,
        });
        let input = STANDARD.encode(format!("{question}\n"));
        let asked = json!({ "program": PROGRAM, "arguments": [], "input": input });
        let told = self.programs.run(&asked, None).await?;
        if field(&told, "TimedOut") == &Value::Bool(true) {
            return Err(Error::new(ErrorKind::TimedOut).with_detail("PAM does not answer"));
        }
        // A module may have said something before.
        let line = field(&told, "Stdout").as_str().and_then(|text| text.lines().last()).unwrap_or_default();
        match serde_json::from_str(line) {
            Ok(Answer::Yes) => {
                Ok(Some(Record::from_iter([("groups".to_owned(), self.groups.clone().into())])))
            }
            Ok(Answer::No { why }) => {
                tracing::info!(directory = self.name, user, why, "PAM does not let an account in");
                Ok(None)
            }
            Ok(Answer::Failed { why }) => {
                Err(Error::new(ErrorKind::Refused).with_detail(format!("PAM cannot say: {why}")))
            }
            // What it said may hold what it was told.
            Err(_) => Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail(format!("{PROGRAM} ended without an answer"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    use super::*;

    /// A program that answers by the password.
    const FAKE: &str = "#!/bin/sh
read -r line
case \"$line\" in
    *'\"service\":\"files\",\"user\":\"ada\"'*) ;;
    *) echo '{\"answer\":\"no\",\"why\":\"somebody else\"}'; exit;;
esac
case \"$line\" in
    *'\"password\":\"good\"'*) echo 'a module talks'; echo '{\"answer\":\"yes\"}';;
    *'\"password\":\"bad\"'*) echo '{\"answer\":\"no\",\"why\":\"wrong\"}';;
    *'\"password\":\"broken\"'*) echo '{\"answer\":\"failed\",\"why\":\"no modules\"}';;
    *'\"password\":\"dies\"'*) kill -9 $$;;
    *'\"password\":\"hangs\"'*) sleep 60 & sleep 60;;
    *) echo \"$line\";;
esac
";

    fn table(lines: &str) -> DirectoryTable {
        toml::from_str(&format!("name = \"d\"\nurl = \"pam://files\"\ngroups = [\"staff\"]\n{lines}"))
            .unwrap()
    }

    #[tokio::test]
    async fn the_program_says_yes_and_anything_else_is_no_yes() {
        let dir = tempfile::tempdir().unwrap();
        let fake = dir.path().join("fake");
        std::fs::write(&fake, FAKE).unwrap();
        std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
        let pam = Pam::new(&table(&format!("time = \"1s\"\nprogram = {fake:?}"))).unwrap();
        let about = About { address: None, protocol: "SFTP", site: "main" };
        let ask = async |user: &str, password: &str| pam.ask(user, &Secret::new(password), about).await;
        let record = ask("ada", "good").await.unwrap().unwrap();
        assert_eq!(record["groups"], json!(["staff"]));
        for (user, password) in [("eve", "good"), ("ada", "bad")] {
            assert!(ask(user, password).await.unwrap().is_none(), "{user} {password}");
        }
        for (password, kind) in [
            ("broken", ErrorKind::Refused),
            ("dies", ErrorKind::PeerMisbehaved),
            ("tells it again", ErrorKind::PeerMisbehaved),
        ] {
            let e = ask("ada", password).await.err().unwrap();
            assert_eq!(e.kind(), kind);
            assert!(!format!("{e:#}").contains(password) || password == "broken", "{e:#}");
        }
        let began = Instant::now();
        assert_eq!(ask("ada", "hangs").await.err().unwrap().kind(), ErrorKind::TimedOut);
        assert!(began.elapsed().as_secs() < 30);
    }

    #[test]
    fn without_the_program_nobody_is_asked_and_the_words_say_how_it_is_made() {
        let e = Pam::new(&table("program = \"/nowhere/ferryd-pam\"")).err().unwrap();
        assert!(
            e.to_string().contains("/nowhere/ferryd-pam") && e.hint().unwrap().contains("--features pam")
        );
        for (url, is) in [
            ("pam://sshd", Some("sshd")),
            ("pam://a_b-c.d", Some("a_b-c.d")),
            ("pam://", None),
            ("pam://../shadow", None),
            ("pam://a/b", None),
            ("pam://.a", None),
        ] {
            assert_eq!(service(url), is, "{url}");
        }
    }
}
