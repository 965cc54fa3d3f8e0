//! The client's login: what the server takes and we have, in the order agent, key files, questions,
//! password; several factors in turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, load_secret_key};
use russh::{MethodKind, MethodSet};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};

use super::connect::{Client, ConnectOptions, Failure, transport};

/// How often a password is asked for.
const PASSWORD_TRIES: u32 = 3;

/// Keys tried at most: servers end the connection after a handful of failures.
const KEY_TRIES: usize = 6;

struct Attempt<'a> {
    handle: &'a mut Handle<Client>,
    options: &'a ConnectOptions,
    decider: &'a Arc<dyn Decider>,
    remaining: MethodSet,
    passed: Vec<&'static str>,
    tried: Vec<&'static str>,
    keys: usize,
    files_done: bool,
    agent_done: bool,
    given_password_used: bool,
}

/// Logs in; gives the methods that were passed, in order. Errors: `Unauthenticated` with what was tried.
pub(super) async fn run(
    handle: &mut Handle<Client>,
    options: &ConnectOptions,
    decider: &Arc<dyn Decider>,
) -> Result<Vec<&'static str>> {
    let first = handle.authenticate_none(options.user.as_str()).await;
    let remaining = match first.map_err(|e| transport(Failure(e), options))? {
        AuthResult::Success => return Ok(vec!["none"]),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    let mut attempt = Attempt {
        handle,
        options,
        decider,
        remaining,
        passed: Vec::new(),
        tried: Vec::new(),
        keys: 0,
        files_done: false,
        agent_done: false,
        given_password_used: false,
    };
    loop {
        match attempt.next_factor().await? {
            Outcome::In => return Ok(attempt.passed),
            Outcome::Partial => {}
            Outcome::Out => return Err(attempt.failure()),
        }
    }
}

enum Outcome {
    In,
    Partial,
    Out,
}

impl Attempt<'_> {
    fn offers(&self, kind: MethodKind) -> bool {
        self.remaining.contains(&kind)
    }

    fn failure(&self) -> Error {
        let who = format!("{}@{}", self.options.user, self.options.host);
        let offered: Vec<&str> = self.remaining.iter().map(Into::into).collect();
        let tried = if self.tried.is_empty() { "nothing".into() } else { self.tried.join(", ") };
        Error::new(ErrorKind::Unauthenticated)
            .with_detail(format!("login as {who} failed"))
            .with_hint(format!("tried: {tried}; the server takes: {}", offered.join(", ")))
    }

    /// Notes the answer; `Some` ends the factor.
    fn take(&mut self, method: &'static str, result: AuthResult) -> Option<Outcome> {
        match result {
            AuthResult::Success => {
                self.passed.push(method);
                Some(Outcome::In)
            }
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.remaining = remaining_methods;
                if partial_success {
                    self.passed.push(method);
                    return Some(Outcome::Partial);
                }
                if !self.tried.contains(&method) {
                    self.tried.push(method);
                }
                None
            }
        }
    }

    async fn next_factor(&mut self) -> Result<Outcome> {
        if self.offers(MethodKind::PublicKey)
            && let Some(outcome) = self.public_keys().await?
        {
            return Ok(outcome);
        }
        // A given password goes by the plain method first; without one, the server's own questions.
        let given = self.options.password.is_some() && !self.given_password_used;
        if given
            && self.offers(MethodKind::Password)
            && let Some(outcome) = self.password().await?
        {
            return Ok(outcome);
        }
        if self.offers(MethodKind::KeyboardInteractive)
            && let Some(outcome) = self.interactive().await?
        {
            return Ok(outcome);
        }
        if !given
            && self.offers(MethodKind::Password)
            && let Some(outcome) = self.password().await?
        {
            return Ok(outcome);
        }
        Ok(Outcome::Out)
    }

    async fn public_keys(&mut self) -> Result<Option<Outcome>> {
        let hash = self.handle.best_supported_rsa_hash().await.ok().flatten().flatten();
        if self.options.agent && !self.agent_done && self.options.identities.is_empty() {
            self.agent_done = true;
            if let Some(outcome) = self.agent(hash).await? {
                return Ok(Some(outcome));
            }
        }
        if self.files_done {
            return Ok(None);
        }
        self.files_done = true;
        let explicit = !self.options.identities.is_empty();
        let files = if explicit { self.options.identities.clone() } else { default_keys() };
        for file in files {
            if self.keys >= KEY_TRIES {
                break;
            }
            let key = match self.load(&file).await {
                Ok(Some(key)) => key,
                Ok(None) => continue,
                Err(e) if explicit => return Err(e),
                Err(_) => continue,
            };
            self.keys += 1;
            let hash =
                if key.algorithm().is_rsa() { hash.or(Some(russh::keys::HashAlg::Sha512)) } else { None };
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
            let result = self.handle.authenticate_publickey(self.options.user.as_str(), key).await;
            let result = result.map_err(|e| transport(Failure(e), self.options))?;
            if let Some(outcome) = self.take("publickey", result) {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    async fn agent(&mut self, hash: Option<russh::keys::HashAlg>) -> Result<Option<Outcome>> {
        let Ok(mut agent) = AgentClient::connect_env().await else { return Ok(None) };
        let Ok(identities) = agent.request_identities().await else { return Ok(None) };
        for identity in identities {
            let AgentIdentity::PublicKey { key, .. } = identity else { continue };
            if self.keys >= KEY_TRIES {
                break;
            }
            self.keys += 1;
            let hash =
                if key.algorithm().is_rsa() { hash.or(Some(russh::keys::HashAlg::Sha512)) } else { None };
            let user = self.options.user.as_str();
            let result = self.handle.authenticate_publickey_with(user, key, hash, &mut agent).await;
            // A key that the agent will not use is not the end of the login.
            let Ok(result) = result else { continue };
            if let Some(outcome) = self.take("publickey", result) {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Reads a key file; `None` where its phrase was not given.
    async fn load(&self, file: &Path) -> Result<Option<PrivateKey>> {
        match load_secret_key(file, None) {
            Ok(key) => return Ok(Some(key)),
            Err(russh::keys::Error::KeyIsEncrypted) => {}
            Err(russh::keys::Error::IO(e)) => {
                return Err(Error::from(e).with_detail(format!("the key {} cannot be read", file.display())));
            }
            Err(e) => {
                return Err(Error::new(ErrorKind::Corrupt)
                    .with_detail(format!("{} is not a private key that is understood", file.display()))
                    .with_source(e));
            }
        }
        for _ in 0..PASSWORD_TRIES {
            let query = Query::Passphrase { key: file.display().to_string() };
            let Answer::Secret(phrase) = self.decider.decide(query).await else { return Ok(None) };
            // Deriving the key takes a second of computing.
            let path = file.to_path_buf();
            let opened =
                tokio::task::spawn_blocking(move || load_secret_key(&path, Some(phrase.expose()))).await;
            if let Ok(Ok(key)) = opened {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    async fn password(&mut self) -> Result<Option<Outcome>> {
        for _ in 0..PASSWORD_TRIES {
            let given = self.options.password.clone().filter(|_| !self.given_password_used);
            self.given_password_used = true;
            let password = match given {
                Some(password) => password,
                None => match self.ask_password().await {
                    Some(password) => password,
                    None => return Ok(None),
                },
            };
            let result =
                self.handle.authenticate_password(self.options.user.as_str(), password.expose()).await;
            let result = result.map_err(|e| transport(Failure(e), self.options))?;
            if let Some(outcome) = self.take("password", result) {
                return Ok(Some(outcome));
            }
            if !self.offers(MethodKind::Password) || self.options.password.is_some() {
                break;
            }
        }
        Ok(None)
    }

    async fn ask_password(&self) -> Option<Secret> {
        let who = format!("{}@{}", self.options.user, self.options.host);
        match self.decider.decide(Query::Password { who }).await {
            Answer::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    async fn interactive(&mut self) -> Result<Option<Outcome>> {
        for _ in 0..PASSWORD_TRIES {
            let start =
                self.handle.authenticate_keyboard_interactive_start(self.options.user.as_str(), None).await;
            let mut step = start.map_err(|e| transport(Failure(e), self.options))?;
            let mut rounds = 0;
            let result = loop {
                match step {
                    KeyboardInteractiveAuthResponse::Success => break AuthResult::Success,
                    KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                        break AuthResult::Failure { remaining_methods, partial_success };
                    }
                    KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts } => {
                        rounds += 1;
                        if rounds > 20 {
                            return Err(Error::new(ErrorKind::PeerMisbehaved)
                                .with_detail("the server asks questions without end"));
                        }
                        let prompts: Vec<_> = prompts.into_iter().map(|p| (p.prompt, p.echo)).collect();
                        let Some(answers) = self.answers(name, instructions, prompts).await else {
                            return Ok(None);
                        };
                        let texts = answers.iter().map(|a| a.expose().to_string()).collect();
                        let next = self.handle.authenticate_keyboard_interactive_respond(texts).await;
                        step = next.map_err(|e| transport(Failure(e), self.options))?;
                    }
                }
            };
            if let Some(outcome) = self.take("keyboard-interactive", result) {
                return Ok(Some(outcome));
            }
            if !self.offers(MethodKind::KeyboardInteractive) || self.options.password.is_some() {
                break;
            }
        }
        Ok(None)
    }

    /// Answers one round; a given password answers a lone question whose typing is not shown.
    async fn answers(
        &mut self,
        name: String,
        instructions: String,
        prompts: Vec<(String, bool)>,
    ) -> Option<Vec<Secret>> {
        if prompts.is_empty() {
            return Some(Vec::new());
        }
        if let ([(_, false)], Some(password)) = (prompts.as_slice(), &self.options.password) {
            return Some(vec![password.clone()]);
        }
        let wanted = prompts.len();
        match self.decider.decide(Query::Interactive { name, instructions, prompts }).await {
            Answer::Answers(answers) if answers.len() == wanted => Some(answers),
            _ => None,
        }
    }
}

fn default_keys() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return Vec::new() };
    let names = ["id_ed25519", "id_ecdsa", "id_rsa"];
    names.iter().map(|n| home.join(".ssh").join(n)).filter(|p| p.exists()).collect()
}
