//! The client's login: what is tried, in which order, and what is said when nothing of it is enough.
//!
//! A probe learns the methods. Then keys of the agent, key files, a password, questions, or in the order
//! that was asked for; after each partial success the rest goes on with the methods that the server then
//! names. Keys that were named come before the agent's others, because servers count tries; a key's
//! certificates come before the key. A given password also answers a lone prompt that hides its input. RSA
//! signs with SHA-2 or not at all. RFC 4252, 4256, 8332.
//!
//! A password that has expired is changed by questions: with a new one at hand, they come before the method
//! `password`, and those that say what they ask for get their answers.
//! Not possible: a change within the method `password` (RFC 4252, section 8), whose message russh passes over.

use std::sync::Arc;

use russh::client::AuthResult;
use russh::client::{Handle, KeyboardInteractiveAuthResponse, Prompt};
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use session_core::auth::{Method, Secret};
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::talk::Talk;
use tokio::net::UnixStream;

use super::connect::{ConnectOptions, Shared, Watch};
use super::keys::{KeyFile, NotSigned, Signing, is_rsa, load_certificate};

/// How often a person is asked for the same thing.
const ASKED: u32 = 3;
/// How long the reason for an end may take to arrive.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(100);
/// Factors that are passed in turn, at most.
const FACTORS: u32 = 8;
/// Steps of one interactive attempt, at most.
const STEPS: u32 = 32;

enum With {
    Agent(PublicKey),
    File(KeyFile),
}

/// What a question that hides its answer asks for, as far as its words say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Again,
    Current,
    New,
    Other,
}

fn wanted(prompt: &Prompt) -> Wanted {
    let text = prompt.prompt.to_lowercase();
    let has =
        |all: &[&str]| text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| all.contains(&word));
    if prompt.echo || !has(&["password", "passwort", "passphrase"]) {
        Wanted::Other
    } else if has(&["again", "confirm", "re-enter", "re-type", "reenter", "repeat", "retype", "verify"]) {
        Wanted::Again
    } else if has(&["new"]) {
        Wanted::New
    } else if has(&["current", "old"]) {
        Wanted::Current
    } else {
        Wanted::Other
    }
}

/// A key with its certificates, each with whether the agent holds it as one.
struct Candidate {
    with: With,
    certificates: Vec<(Certificate, bool)>,
    /// The agent has the certificate only.
    bare: bool,
}

fn same(a: &PublicKey, b: &PublicKey) -> bool {
    a.key_data() == b.key_data()
}

/// What came of trying a method.
enum Attempt {
    In,
    Partial(MethodSet),
    /// Nothing more to try with it; what the server takes now.
    Spent(MethodSet),
}

pub(crate) struct ClientLogin<'a> {
    talk: &'a Talk,
    handle: &'a mut Handle<Watch>,
    shared: &'a Arc<Shared>,
    options: &'a ConnectOptions,
    decider: Arc<dyn Decider>,
    agent: Option<AgentClient<UnixStream>>,
    candidates: Option<Vec<Candidate>>,
    rsa: Option<Option<HashAlg>>,
    password: Option<Secret>,
    passed: Vec<&'static str>,
    tried: Vec<String>,
    trouble: Option<Error>,
}

fn name(kind: MethodKind) -> &'static str {
    (&kind).into()
}

fn list(methods: &MethodSet) -> String {
    methods.iter().map(|m| name(*m)).collect::<Vec<_>>().join(", ")
}

impl<'a> ClientLogin<'a> {
    pub(crate) fn new(
        handle: &'a mut Handle<Watch>,
        shared: &'a Arc<Shared>,
        options: &'a ConnectOptions,
        decider: Arc<dyn Decider>,
        talk: &'a Talk,
    ) -> Self {
        ClientLogin {
            talk,
            handle,
            shared,
            options,
            decider,
            agent: None,
            candidates: None,
            rsa: None,
            password: options.password.clone(),
            passed: Vec::new(),
            tried: Vec::new(),
            trouble: None,
        }
    }

    /// Logs in; answers the methods that were passed.
    pub(crate) async fn run(mut self) -> Result<Vec<&'static str>> {
        let begun = tokio::time::Instant::now();
        let user = self.options.user.clone();
        let probe = self.shared.bounded(self.options.timeout, self.handle.authenticate_none(user)).await?;
        self.shared.note_delay(begun.elapsed());
        let mut methods = match probe.map_err(|e| self.lost(self.shared.error_of(e)))? {
            AuthResult::Success => return Ok(vec!["none"]),
            AuthResult::Failure { remaining_methods, .. } => self.alive(remaining_methods).await?,
        };
        for _ in 0..FACTORS {
            match self.factor(methods).await? {
                Attempt::In => return Ok(self.passed),
                Attempt::Partial(next) => methods = next,
                Attempt::Spent(left) => {
                    // A server that has had enough says so just after its last no.
                    return Err(match tokio::time::timeout(LAST_WORDS, self.shared.fate()).await {
                        Ok(e) => self.lost(e),
                        Err(_) => self.failed(&left),
                    });
                }
            }
        }
        Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("the server asks for ever more proofs"))
    }

    /// An empty list is the end of the connection, or about to be.
    async fn alive(&self, methods: MethodSet) -> Result<MethodSet> {
        if !methods.is_empty() {
            return Ok(methods);
        }
        let ended = tokio::time::timeout(LAST_WORDS, self.shared.fate()).await;
        let e = match ended {
            Ok(e) => e,
            Err(_) if self.handle.is_closed() => Error::new(ErrorKind::Disconnected),
            Err(_) => return Ok(methods),
        };
        Err(self.lost(e))
    }

    /// The end of a connection in the midst of a login: after an attempt, its answer.
    fn lost(&self, e: Error) -> Error {
        if self.tried.is_empty() || !matches!(e.kind(), ErrorKind::Disconnected) {
            return e;
        }
        Error::new(ErrorKind::Unauthenticated).with_detail(self.words()).with_source(e)
    }

    fn words(&self) -> String {
        let tried = if self.tried.is_empty() { "nothing".to_owned() } else { self.tried.join(", ") };
        format!("login as '{}' failed; tried: {tried}", display_bytes(self.options.user.as_bytes()))
    }

    fn failed(&self, left: &MethodSet) -> Error {
        let mut words = self.words();
        if !self.passed.is_empty() {
            words += &format!("; passed: {}", self.passed.join(", "));
        }
        words += &format!("; the server takes: {}", list(left));
        let mut e = Error::new(ErrorKind::Unauthenticated).with_detail(words);
        if let Some(trouble) = &self.trouble {
            e = e.with_source(trouble.clone());
        }
        if self.tried.is_empty() {
            e = e.with_hint("give a password or a key file, or start an agent that holds the key");
        }
        e
    }

    /// Tries everything there is for one factor.
    async fn factor(&mut self, mut methods: MethodSet) -> Result<Attempt> {
        type Kind = MethodKind;
        let mut asked = false;
        let kinds = self.options.methods.iter().filter_map(|m| match m {
            Method::PublicKey => Some(Kind::PublicKey),
            Method::Password => Some(Kind::Password),
            Method::Interactive => Some(Kind::KeyboardInteractive),
            Method::AccessKey | Method::None | Method::Token => None,
        });
        let mut kinds: Vec<Kind> = kinds.collect();
        if self.options.new_password.is_some() && methods.contains(&Kind::KeyboardInteractive) {
            // Only there can an expired one be changed.
            let at = |kind| kinds.iter().position(|k| *k == kind);
            if let (Some(password), Some(questions)) = (at(Kind::Password), at(Kind::KeyboardInteractive))
                && password < questions
            {
                kinds.swap(password, questions);
            }
        }
        for kind in kinds.iter().copied() {
            if !methods.contains(&kind) {
                continue;
            }
            let attempt = match kind {
                Kind::PublicKey => self.public_key(methods).await?,
                Kind::Password => self.with_password(methods, &mut asked).await?,
                // Whoever was asked for the password and did not know it is not asked again in other words.
                _ if asked => continue,
                _ => self.interactive(methods, kinds.last() == Some(&kind)).await?,
            };
            match attempt {
                Attempt::In => {
                    self.passed.push(name(kind));
                    return Ok(Attempt::In);
                }
                Attempt::Partial(next) => {
                    self.passed.push(name(kind));
                    return Ok(Attempt::Partial(next));
                }
                Attempt::Spent(left) => methods = self.alive(left).await?,
            }
        }
        Ok(Attempt::Spent(methods))
    }

    async fn judge(&self, result: AuthResult) -> Result<Attempt> {
        // What was tried has its name, and nothing that proves it.
        self.talk.sent(|| format!("login: {}", self.tried.last().map_or("", String::as_str)));
        self.talk.heard(|| match &result {
            AuthResult::Success => "login: accepted".to_owned(),
            AuthResult::Failure { remaining_methods, partial_success } => {
                let words = if *partial_success { "accepted, and wants more" } else { "refused" };
                format!("login: {words}; takes: {}", list(remaining_methods))
            }
        });
        Ok(match result {
            AuthResult::Success => Attempt::In,
            AuthResult::Failure { remaining_methods, partial_success: true } => {
                Attempt::Partial(remaining_methods)
            }
            AuthResult::Failure { remaining_methods, .. } => {
                Attempt::Spent(self.alive(remaining_methods).await?)
            }
        })
    }

    /// Remembers the first thing that went wrong, for the day on which nothing goes right.
    fn note(&mut self, e: Error) {
        tracing::debug!(error = %e, "a key is passed over");
        self.trouble.get_or_insert(e);
    }

    /// The keys to try, the best one last: they are taken from the end.
    async fn candidates(&mut self) -> Vec<Candidate> {
        let options = self.options;
        let named = !options.identities.is_empty() || !options.keys.is_empty();
        let mut files = Vec::new();
        for text in &options.keys {
            match KeyFile::of_text(text.clone()).await {
                Ok(file) => files.push(file),
                Err(e) => self.note(e),
            }
        }
        for path in options.key_files() {
            match KeyFile::load(&path).await {
                Ok(file) => files.push(file),
                Err(e) if named => self.note(e),
                Err(e) => tracing::debug!(error = %e, "a key file is passed over"),
            }
        }
        let mut certificates = Vec::new();
        let paths = options.certificates.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            paths.iter().map(|p| load_certificate(p)).collect::<Vec<_>>()
        });
        for certificate in loaded.await.unwrap_or_default() {
            match certificate {
                Ok(certificate) => certificates.push(certificate),
                Err(e) => self.note(e),
            }
        }
        let (mut of_agent, mut held) = (Vec::new(), Vec::new());
        if let Some((agent, keys, with_certificates)) = self.options.agent.keys().await {
            self.agent = Some(agent);
            of_agent = keys.into_iter().map(|k| (k, false)).collect();
            held = with_certificates;
        }
        // A key that the agent has under its certificate only is one, too.
        for certificate in &held {
            let key = PublicKey::new(certificate.public_key().clone(), "");
            if !of_agent.iter().any(|(k, _)| same(k, &key)) {
                of_agent.push((key, true));
            }
        }
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for (key, bare) in of_agent {
            // A key that the agent holds needs no phrase: its file is not needed.
            let at = files.iter().position(|f| f.public().is_some_and(|p| same(p, &key)));
            let file = at.map(|at| files.remove(at));
            let certified = certificates.iter().any(|c| c.public_key() == key.key_data());
            let chosen = file.is_some() || certified;
            let beside = file.map(|f| f.certificates).unwrap_or_default();
            let candidate = Candidate {
                with: With::Agent(key),
                certificates: beside.into_iter().map(|c| (c, false)).collect(),
                bare,
            };
            if chosen && (named || certified) {
                first.push(candidate);
            } else if chosen || !options.identities_only {
                rest.push(candidate);
            }
        }
        let files = files.into_iter().map(|mut f| {
            let certificates = std::mem::take(&mut f.certificates).into_iter().map(|c| (c, false)).collect();
            Candidate { with: With::File(f), certificates, bare: false }
        });
        if named {
            first.extend(files);
            first.append(&mut rest);
        } else {
            first.append(&mut rest);
            first.extend(files);
        }
        let others = certificates.into_iter().map(|c| (c, false)).chain(held.into_iter().map(|c| (c, true)));
        for (certificate, by_agent) in others {
            let fits = |c: &&mut Candidate| {
                let key = match &c.with {
                    With::Agent(key) => Some(key),
                    With::File(file) => file.public(),
                };
                key.is_some_and(|k| k.key_data() == certificate.public_key())
            };
            match first.iter_mut().find(fits) {
                Some(candidate) if candidate.certificates.iter().all(|(c, _)| *c != certificate) => {
                    candidate.certificates.push((certificate, by_agent));
                }
                Some(_) => {}
                None => self.note(Error::new(ErrorKind::InvalidArgument).with_detail(format!(
                    "the key of the certificate '{}' is not there",
                    display_bytes(certificate.key_id().as_bytes())
                ))),
            }
        }
        first.reverse();
        first
    }

    /// The digest for RSA, by what the server says it takes; `None` if it only takes SHA-1.
    async fn rsa(&mut self) -> Result<Option<HashAlg>> {
        if let Some(known) = self.rsa {
            return Ok(known);
        }
        let best = self.shared.bounded(self.options.timeout, self.handle.best_supported_rsa_hash()).await?;
        let hash = match best.map_err(|e| self.lost(self.shared.error_of(e)))? {
            Some(choice) => choice,
            None => Some(HashAlg::Sha512),
        };
        self.rsa = Some(hash);
        Ok(hash)
    }

    async fn public_key(&mut self, mut methods: MethodSet) -> Result<Attempt> {
        let mut candidates = match self.candidates.take() {
            Some(left) => left,
            None => self.candidates().await,
        };
        while let Some(mut candidate) = candidates.pop() {
            match self.candidate(&mut candidate, methods.clone()).await? {
                Attempt::Spent(left) if left.contains(&MethodKind::PublicKey) => methods = left,
                other => {
                    self.candidates = Some(candidates);
                    return Ok(other);
                }
            }
        }
        self.candidates = Some(candidates);
        Ok(Attempt::Spent(methods))
    }

    /// Tries one key: under each of its certificates, then by itself.
    async fn candidate(&mut self, candidate: &mut Candidate, mut methods: MethodSet) -> Result<Attempt> {
        let decider = Arc::clone(&self.decider);
        let phrase = self.options.phrase.as_ref();
        let (key, label) = match &mut candidate.with {
            With::Agent(key) => (key.clone(), "publickey (agent)".to_owned()),
            With::File(file) if !file.can_sign() => {
                // It only says which of the agent's keys to take, and the agent has it not.
                let words = format!("of the key '{}' there is only the public half", file.name());
                self.note(Error::new(ErrorKind::Unauthenticated).with_detail(words));
                return Ok(Attempt::Spent(methods));
            }
            With::File(file) => {
                let label = format!("publickey ({})", file.name());
                if file.public().is_none() {
                    let _asking = self.shared.asking();
                    if let Err(e) = file.unlock(phrase, &*decider).await {
                        self.note(e);
                        return Ok(Attempt::Spent(methods));
                    }
                }
                let Some(public) = file.public() else { return Ok(Attempt::Spent(methods)) };
                (public.clone(), label)
            }
        };
        let hash = if is_rsa(&key) {
            match self.rsa().await? {
                Some(hash) => Some(hash),
                None => {
                    self.note(
                        Error::new(ErrorKind::Unsupported)
                            .with_detail("the server takes RSA keys with SHA-1 only")
                            .with_hint("use an ed25519 key"),
                    );
                    return Ok(Attempt::Spent(methods));
                }
            }
        } else {
            None
        };
        let asker = Asker { decider, shared: Arc::clone(self.shared) };
        let offers = candidate.certificates.drain(..).map(Some).chain((!candidate.bare).then_some(None));
        for certificate in offers.collect::<Vec<_>>() {
            let mut signing = match (&mut candidate.with, &mut self.agent) {
                (With::File(file), _) => Signing::File(file, phrase, &asker),
                (With::Agent(own), Some(agent)) => {
                    let by_certificate = certificate.as_ref().is_some_and(|(_, by_agent)| *by_agent);
                    Signing::Agent(agent, (!by_certificate).then(|| own.clone()))
                }
                (With::Agent(_), None) => break,
            };
            let user = self.options.user.clone();
            let result = match certificate {
                Some((certificate, _)) => {
                    self.tried.push(format!("{label} with certificate"));
                    let work =
                        self.handle.authenticate_certificate_with(user, certificate, hash, &mut signing);
                    self.shared.bounded(self.options.timeout, work).await?
                }
                None => {
                    self.tried.push(label.clone());
                    let work = self.handle.authenticate_publickey_with(user, key.clone(), hash, &mut signing);
                    self.shared.bounded(self.options.timeout, work).await?
                }
            };
            match result {
                Ok(result) => match self.judge(result).await? {
                    Attempt::Spent(left) if left.contains(&MethodKind::PublicKey) => methods = left,
                    other => return Ok(other),
                },
                Err(NotSigned::Failed(e)) => {
                    self.note(e);
                    break;
                }
                Err(NotSigned::Lost) => {
                    let e = self.shared.ended().unwrap_or_else(|| Error::new(ErrorKind::Disconnected));
                    return Err(self.lost(e));
                }
            }
        }
        Ok(Attempt::Spent(methods))
    }

    async fn with_password(&mut self, mut methods: MethodSet, asked: &mut bool) -> Result<Attempt> {
        let who = self.options.who();
        let mut asks = 0;
        let given = self.password.is_some();
        let questions = methods.contains(&MethodKind::KeyboardInteractive);
        loop {
            let password = match self.password.clone() {
                Some(given) if asks == 0 && !self.tried.iter().any(|t| t == "password") => given,
                // A given password may be the answer to a question, too; then nobody need be asked.
                _ if asks < ASKED && !(given && questions) => {
                    asks += 1;
                    let _asking = self.shared.asking();
                    match self.decider.decide(Query::Password { who: who.clone() }).await {
                        Answer::Secret(secret) => {
                            *asked = true;
                            self.password = Some(secret.clone());
                            secret
                        }
                        _ => return Ok(Attempt::Spent(methods)),
                    }
                }
                _ => return Ok(Attempt::Spent(methods)),
            };
            if !self.tried.iter().any(|t| t == "password") {
                self.tried.push("password".to_owned());
            }
            let work = self.handle.authenticate_password(self.options.user.clone(), password.expose());
            let result = self.shared.bounded(self.options.timeout, work).await.map_err(|e| {
                // What russh passes over in silence.
                let e = e.with_hint("it may want the password changed first: log in with ssh once");
                match self.options.new_password {
                    Some(_) => e.with_detail(
                        "the server does not answer: it may want the new password within the method 'password', \
                         which cannot be told; it does not ask by questions",
                    ),
                    None => e,
                }
            })?;
            match self.judge(result.map_err(|e| self.lost(self.shared.error_of(e)))?).await? {
                Attempt::Spent(left) if left.contains(&MethodKind::Password) => methods = left,
                other => return Ok(other),
            }
        }
    }

    /// `last`: no other method comes after this one.
    async fn interactive(&mut self, mut methods: MethodSet, last: bool) -> Result<Attempt> {
        let mut given = self.password.clone();
        // It may have been changed by now: by us, or by whoever wrote it down.
        let mut changed = self.options.new_password.clone();
        self.tried.push("keyboard-interactive".to_owned());
        for _ in 0..ASKED {
            let mut told = Vec::new();
            let user = self.options.user.clone();
            let start = self.handle.authenticate_keyboard_interactive_start(user, None);
            let mut reply = self.shared.bounded(self.options.timeout, start).await?;
            let mut person = false;
            let used = given.is_some();
            for _ in 0..STEPS {
                match reply.map_err(|e| self.lost(self.shared.error_of(e)))? {
                    KeyboardInteractiveAuthResponse::Success => return Ok(Attempt::In),
                    KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                        if partial_success {
                            return Ok(Attempt::Partial(remaining_methods));
                        }
                        methods = self.alive(remaining_methods).await?;
                        break;
                    }
                    KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts } => {
                        let asks: Vec<Wanted> = prompts.iter().map(wanted).collect();
                        let lone = matches!(prompts.as_slice(), [Prompt { echo: false, .. }])
                            && matches!(asks.as_slice(), [Wanted::Other | Wanted::Current]);
                        let answers = if prompts.is_empty() {
                            Vec::new()
                        } else if let Some(answers) = self.changing(&asks, &mut told, given.is_none()) {
                            given = None;
                            answers
                        } else if let Some(password) = given.take_if(|_| lone) {
                            vec![password.expose().to_owned()]
                        } else {
                            person = true;
                            match self.ask(name, instructions, &prompts).await {
                                Some(answers) => answers,
                                None if last => return Ok(Attempt::Spent(methods)),
                                // russh does nothing else before a question has its answer.
                                None => {
                                    let nothing = vec![String::new(); prompts.len()];
                                    let decline =
                                        self.handle.authenticate_keyboard_interactive_respond(nothing);
                                    let reply = self.shared.bounded(self.options.timeout, decline).await?;
                                    return match reply.map_err(|e| self.lost(self.shared.error_of(e)))? {
                                        KeyboardInteractiveAuthResponse::Failure {
                                            remaining_methods,
                                            ..
                                        } => Ok(Attempt::Spent(self.alive(remaining_methods).await?)),
                                        KeyboardInteractiveAuthResponse::Success => Ok(Attempt::In),
                                        KeyboardInteractiveAuthResponse::InfoRequest { .. } => {
                                            Err(Error::new(ErrorKind::PeerMisbehaved)
                                                .with_detail("the server goes on asking what nobody answers"))
                                        }
                                    };
                                }
                            }
                        };
                        let respond = self.handle.authenticate_keyboard_interactive_respond(answers);
                        reply = self.shared.bounded(self.options.timeout, respond).await?;
                        continue;
                    }
                }
            }
            // Asking the same machine the same again changes nothing.
            if !methods.contains(&MethodKind::KeyboardInteractive) || (!person && !used) {
                break;
            }
            if used && !person {
                given = changed.take();
            }
        }
        Ok(Attempt::Spent(methods))
    }

    /// The answers to questions for a new password, each given once; `None` for other questions, and where there
    /// is no new one. `begun`: the password was told already, and who asks for the current one wants it again.
    fn changing(&mut self, asks: &[Wanted], told: &mut Vec<Wanted>, begun: bool) -> Option<Vec<String>> {
        let (old, new) = (self.options.password.as_ref()?, self.options.new_password.as_ref()?);
        let is_change = asks.iter().any(|a| matches!(a, Wanted::Again | Wanted::New));
        if asks.contains(&Wanted::Other) || !(is_change || asks == [Wanted::Current] && begun) {
            return None;
        }
        if asks.iter().any(|a| told.contains(a)) {
            self.trouble.get_or_insert_with(|| {
                Error::new(ErrorKind::Refused).with_detail("the server does not take the new password")
            });
            return None;
        }
        told.extend(asks);
        let answer = |a: &Wanted| if *a == Wanted::Current { old } else { new }.expose().to_owned();
        Some(asks.iter().map(answer).collect())
    }

    async fn ask(&self, name: String, instructions: String, prompts: &[Prompt]) -> Option<Vec<String>> {
        let clean = |s: &str| display_bytes(s.as_bytes());
        let query = Query::Interactive {
            name: clean(&name),
            instructions: clean(&instructions),
            prompts: prompts.iter().map(|p| (clean(&p.prompt), p.echo)).collect(),
        };
        let _asking = self.shared.asking();
        match self.decider.decide(query).await {
            Answer::Answers(answers) if answers.len() == prompts.len() => {
                Some(answers.iter().map(|a| a.expose().to_owned()).collect())
            }
            Answer::Secret(one) if prompts.len() == 1 => Some(vec![one.expose().to_owned()]),
            _ => None,
        }
    }
}

/// A decider whose questions stop the clock.
struct Asker {
    decider: Arc<dyn Decider>,
    shared: Arc<Shared>,
}

#[async_trait::async_trait]
impl Decider for Asker {
    async fn decide(&self, query: Query) -> Answer {
        let _asking = self.shared.asking();
        self.decider.decide(query).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_for_a_new_password_are_known_by_their_words() {
        for (text, is) in [
            ("(current) UNIX password: ", Wanted::Current),
            ("Current Password: ", Wanted::Current),
            ("Old Password:", Wanted::Current),
            ("New password: ", Wanted::New),
            ("Enter new UNIX password: ", Wanted::New),
            ("Retype new password: ", Wanted::Again),
            ("Re-enter new Password:", Wanted::Again),
            ("Enter the new password again:", Wanted::Again),
            ("Password: ", Wanted::Other),
            ("Renewal password: ", Wanted::Other),
            ("New token code: ", Wanted::Other),
        ] {
            let hidden = Prompt { prompt: text.to_owned(), echo: false };
            assert_eq!(wanted(&hidden), is, "{text}");
            assert_eq!(wanted(&Prompt { echo: true, ..hidden }), Wanted::Other, "{text}");
        }
    }
}
