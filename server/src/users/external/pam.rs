//! Logins by PAM, of which a program of its own asks: `ferryd-pam`.
//!
//! Modules of PAM may block, fork or crash: nothing of that reaches this process. Each login has one of its own, which
//! is shown a line of JSON (`{ service, user, password, address, talks }`) and answers with one (`{ answer, … }`: `yes`,
//! `no` or `failed`, or, where it `talks`, `asks` for a question of a module, to which it is told `{ text }`). It has an
//! empty environment, and it and all that it started are killed when its time is over or nobody waits for it any more.
//! Nothing of one login is left for the next.
//!
//! Deliberately absent: groups of the system.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use client::hooks::exec::Dialogue;
use serde::Deserialize;
use serde_json::{Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};

use super::{About, Prompt, Vouch, Word};
use crate::config::{DirectoryTable, Record};

/// The program, beside `ferryd` where no other place is named.
const PROGRAM: &str = "ferryd-pam";

/// The most that the program says in one login, bytes.
const SAID: u64 = 64 << 10;

/// The longest answer to a module, bytes, and the longest question, characters: `PAM_MAX_RESP_SIZE` and
/// `PAM_MAX_MSG_SIZE` of Linux.
const LONGEST: usize = 512;

/// What the program answers.
#[derive(Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
enum Answer {
    Yes,
    No {
        why: String,
    },
    Failed {
        why: String,
    },
    /// A module asks: what it said before, and its question.
    Asks {
        words: String,
        prompt: String,
        echo: bool,
    },
}

pub(super) struct Pam {
    name: String,
    service: String,
    groups: Vec<String>,
    program: PathBuf,
    time: Duration,
}

/// A login that is not decided.
pub(super) struct Talk {
    program: Dialogue,
    directory: String,
    user: String,
    groups: Vec<String>,
    time: Duration,
}

/// The service that a URL names, `pam://SERVICE`: a file of `/etc/pam.d`.
pub(super) fn service(url: &str) -> Option<&str> {
    let service = url.strip_prefix("pam://")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (service.bytes().all(plain) && !service.starts_with('.') && (1..=64).contains(&service.len()))
        .then_some(service)
}

/// What a module says as a client may show it: bounded, one line, and nothing that moves a cursor.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(LONGEST).map(plain).collect()
}

impl Talk {
    /// Tells the program one line and waits for what it says. Errors: `TimedOut`; `Refused` where PAM cannot say,
    /// `PeerMisbehaved` for a program that ends without an answer.
    async fn tell(mut self, line: &Value) -> Result<Word> {
        let program = &mut self.program;
        let heard = async {
            // One that has ended has said why, or nothing.
            let _ = program.say(&line.to_string()).await;
            // A module may say something before.
            while let Some(line) = program.hear().await? {
                if let Ok(answer) = serde_json::from_str(&line) {
                    return Ok(answer);
                }
            }
            // What it said may hold what it was told.
            Err(Error::new(ErrorKind::PeerMisbehaved)
                .with_detail(format!("{PROGRAM} ended without an answer")))
        };
        let late = |_| Error::new(ErrorKind::TimedOut).with_detail("PAM does not answer");
        match tokio::time::timeout(self.time, heard).await.map_err(late)?? {
            Answer::Yes => Ok(Word::Yes(Record::from_iter([("groups".to_owned(), self.groups.into())]))),
            Answer::No { why } => {
                let (directory, user) = (self.directory, self.user);
                tracing::info!(directory, user, why, "PAM does not let an account in");
                Ok(Word::No)
            }
            Answer::Failed { why } => {
                Err(Error::new(ErrorKind::Refused).with_detail(format!("PAM cannot say: {why}")))
            }
            Answer::Asks { words, prompt, echo } => {
                let words = [shown(&words), shown(&prompt)];
                let said: Vec<_> = words.into_iter().filter(|w| !w.is_empty()).collect();
                Ok(Word::Asks(Prompt { text: said.join(" "), echo }, Box::new(self)))
            }
        }
    }

    /// Answers what was asked. Errors: those of asking.
    pub(super) async fn answer(self, answer: &Secret) -> Result<Word> {
        if answer.expose().len() > LONGEST {
            return Ok(Word::No);
        }
        self.tell(&json!({ "text": answer.expose() })).await
    }
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
            program,
            time: table.time,
        })
    }
}

#[async_trait]
impl Vouch for Pam {
    async fn ask(&self, user: &str, password: &Secret, about: About<'_>) -> Result<Word> {
        let question = json!({
            "service": self.service, "user": user, "password": password.expose(), "address": about.address,
            "talks": about.may_ask,
        });
        let talk = Talk {
            program: Dialogue::begin(&self.program, SAID)?,
            directory: self.name.clone(),
            user: user.to_owned(),
            groups: self.groups.clone(),
            time: self.time,
        };
        talk.tell(&question).await
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
    *'\"service\":\"files\"'*'\"user\":\"ada\"'*) ;;
    *) echo '{\"answer\":\"no\",\"why\":\"somebody else\"}'; exit;;
esac
case \"$line\" in
    *'\"password\":\"good\"'*) echo 'a module talks'; echo '{\"answer\":\"yes\"}';;
    *'\"password\":\"bad\"'*) echo '{\"answer\":\"no\",\"why\":\"wrong\"}';;
    *'\"password\":\"broken\"'*) echo '{\"answer\":\"failed\",\"why\":\"no modules\"}';;
    *'\"password\":\"dies\"'*) kill -9 $$;;
    *'\"password\":\"hangs\"'*) sleep 60 & sleep 60;;
    *'\"password\":\"asks\"'*)
        printf '%s\\n' '{\"answer\":\"asks\",\"words\":\"It has expired.\",\"prompt\":\"New \\u001b[1mone: \",\"echo\":false}'
        read -r text
        text=$(printf '%s' \"$text\" | sed 's/[\\\\\"]/\\\\&/g')
        printf '{\"answer\":\"asks\",\"words\":\"\",\"prompt\":\"%s\",\"echo\":true}\\n' \"$text\"
        read -r text
        echo '{\"answer\":\"yes\"}';;
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
        let about = About { address: None, protocol: "SFTP", site: "main", may_ask: true };
        let ask = async |user: &str, password: &str| pam.ask(user, &Secret::new(password), about).await;
        let Word::Yes(record) = ask("ada", "good").await.unwrap() else { panic!("it says yes") };
        assert_eq!(record["groups"], json!(["staff"]));
        for (user, password) in [("eve", "good"), ("ada", "bad")] {
            assert!(matches!(ask(user, password).await.unwrap(), Word::No), "{user} {password}");
        }
        // Questions and answers, until the program decides; what would move a cursor is not shown.
        let Word::Asks(prompt, talk) = ask("ada", "asks").await.unwrap() else { panic!("it asks") };
        assert_eq!((prompt.text.as_str(), prompt.echo), ("It has expired. New  [1mone: ", false));
        let Word::Asks(prompt, talk) = talk.answer(&Secret::new("a\n\"b")).await.unwrap() else {
            panic!("it asks again")
        };
        assert_eq!((prompt.text.as_str(), prompt.echo), (r#"{"text":"a\n\"b"}"#, true));
        assert!(matches!(talk.answer(&Secret::new("c")).await.unwrap(), Word::Yes(_)));
        let Word::Asks(_, talk) = ask("ada", "asks").await.unwrap() else { panic!("it asks") };
        assert!(matches!(talk.answer(&Secret::new("x".repeat(LONGEST + 1))).await.unwrap(), Word::No));
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
