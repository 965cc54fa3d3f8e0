//! Questions on the terminal. Without one, or with `--batch`, the answer is that of unattended use.

use std::io::{IsTerminal, Write};

use async_trait::async_trait;
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::path::display_bytes;
use session_core::trust::TrustDecision;

use super::render;
use crate::sites::Store;

/// The variable with the passphrase of stored secrets.
pub(super) const SITES_PASSPHRASE: &str = "FERRY_SITES_PASSPHRASE";

/// Asks on the terminal.
pub(super) struct Terminal {
    attended: bool,
    /// The passphrase of the file of sites, from the environment, and where that file is.
    sites: std::sync::Mutex<Option<(Secret, String)>>,
    /// One question at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Terminal {
    pub(super) fn new(batch: bool) -> Self {
        let attended = !batch && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let sites = Store::of_user().ok().map(|s| s.path().display().to_string());
        let phrase = std::env::var(SITES_PASSPHRASE).ok().map(Secret::new).zip(sites);
        Terminal { attended, sites: std::sync::Mutex::new(phrase), turn: tokio::sync::Mutex::new(()) }
    }

    /// The passphrase of the stored secrets, if that is what is asked for. Given once: it will fit no better later.
    fn of_sites(&self, key: &str) -> Option<Secret> {
        let mut sites = self.sites.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sites.take_if(|(_, path)| path.as_str() == key).map(|(phrase, _)| phrase)
    }
}

#[async_trait]
impl Decider for Terminal {
    async fn decide(&self, query: Query) -> Answer {
        if let Query::Passphrase { key } = &query
            && let Some(phrase) = self.of_sites(key)
        {
            return Answer::Secret(phrase);
        }
        if !self.attended {
            return query.unattended();
        }
        let _turn = self.turn.lock().await;
        let fallback = query.unattended();
        // Reading a terminal blocks: not on a runtime thread.
        tokio::task::spawn_blocking(move || ask(&query)).await.ok().flatten().unwrap_or(fallback)
    }
}

fn ask(query: &Query) -> Option<Answer> {
    match query {
        Query::HostKey { key, .. } => {
            eprintln!(
                "The host '{}' (port {}) is not known.\nIts {} key is {}",
                display_bytes(key.host.as_bytes()),
                key.port,
                key.algorithm,
                key.fingerprint()
            );
            let answer = line("Trust it? [yes: and remember / once / no] ")?;
            Some(Answer::Trust(match answer.as_str() {
                "yes" | "y" => TrustDecision::AcceptAndRemember,
                "once" | "o" => TrustDecision::Accept,
                _ => TrustDecision::Reject,
            }))
        }
        Query::Certificate { certificate } => {
            eprintln!(
                "The certificate of '{}' (port {}) is not trusted: {}\nIt was made for '{}' by '{}'.\nIts SHA-256 is {}",
                display_bytes(certificate.host.as_bytes()),
                certificate.port,
                display_bytes(certificate.why.as_bytes()),
                display_bytes(certificate.subject.as_bytes()),
                display_bytes(certificate.issuer.as_bytes()),
                certificate.fingerprint()
            );
            let answer = line("Trust it? [yes / no] ")?;
            let yes = matches!(answer.as_str(), "yes" | "y");
            Some(Answer::Trust(if yes { TrustDecision::Accept } else { TrustDecision::Reject }))
        }
        Query::Password { who } => secret(&format!("Password of {}: ", display_bytes(who.as_bytes()))),
        Query::Passphrase { key } => secret(&format!("Passphrase of '{key}': ")),
        Query::Interactive { name, instructions, prompts } => {
            for words in [name, instructions] {
                if !words.is_empty() {
                    eprintln!("{}", display_bytes(words.as_bytes()));
                }
            }
            let mut answers = Vec::new();
            for (prompt, echo) in prompts {
                let prompt = display_bytes(prompt.as_bytes());
                answers.push(if *echo {
                    Secret::new(line(&prompt)?)
                } else {
                    Secret::new(rpassword::prompt_password(prompt).ok()?)
                });
            }
            Some(Answer::Answers(answers))
        }
        Query::Overwrite { target, source, existing } => {
            eprintln!(
                "'{target}' exists: {}, {}; the source: {}, {}",
                render::size(existing.0),
                existing.1.map_or_else(|| "no time".into(), render::date),
                render::size(source.0),
                source.1.map_or_else(|| "no time".into(), render::date),
            );
            Some(match line("Replace it, or go on with it? [y/n/c/all/none/quit] ")?.as_str() {
                "c" | "continue" => Answer::Continue,
                "y" | "yes" => Answer::Yes,
                "all" | "a" => Answer::YesToAll,
                "none" => Answer::NoToAll,
                "quit" | "q" => Answer::Abort,
                _ => Answer::Skip,
            })
        }
        Query::Resume { target, there, size } => {
            let part = format!("{} of {}", render::size(*there), render::size(*size));
            eprintln!("of '{target}' {part} are there from an earlier transfer");
            Some(match line("Go on with it? [y/n/quit] ")?.as_str() {
                "y" | "yes" => Answer::Yes,
                "quit" | "q" => Answer::Abort,
                _ => Answer::Skip,
            })
        }
        // A failure is told in the report; nobody sits there to be asked for each.
        Query::Retry { .. } => None,
    }
}

fn line(prompt: &str) -> Option<String> {
    eprint!("{prompt}");
    std::io::stderr().flush().ok()?;
    let mut text = String::new();
    let n = std::io::stdin().read_line(&mut text).ok()?;
    (n > 0).then(|| text.trim().to_lowercase())
}

fn secret(prompt: &str) -> Option<Answer> {
    rpassword::prompt_password(prompt).ok().map(|s| Answer::Secret(Secret::new(s)))
}
