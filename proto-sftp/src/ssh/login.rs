//! The client's login: what is tried, in which order, and what is said when nothing of it is enough.
//!
//! A probe learns the methods. Then keys of the agent, key files, a password, questions; after each
//! partial success the rest goes on with the methods that the server then names. Keys that were named
//! come before the agent's others, because servers count tries. A given password also answers a lone
//! prompt that hides its input. RSA signs with SHA-2 or not at all. RFC 4252, 4256, 8332.

use std::sync::Arc;

use russh::client::AuthResult;
use russh::client::{Handle, KeyboardInteractiveAuthResponse, Prompt};
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use tokio::net::UnixStream;

use super::connect::{ConnectOptions, Shared, Watch};
use super::keys::{KeyFile, NotSigned, Signing, default_files, is_rsa};

/// How often a person is asked for the same thing.
const ASKED: u32 = 3;
/// How long the reason for an end may take to arrive.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(100);
/// Factors that are passed in turn, at most.
const FACTORS: u32 = 8;
/// Steps of one interactive attempt, at most.
const STEPS: u32 = 32;

enum Candidate {
    Agent(PublicKey),
    File(KeyFile),
}

/// What came of trying a method.
enum Attempt {
    In,
    Partial(MethodSet),
    /// Nothing more to try with it; what the server takes now.
    Spent(MethodSet),
}

pub(crate) struct ClientLogin<'a> {
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
    ) -> Self {
        ClientLogin {
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
        for kind in [Kind::PublicKey, Kind::Password, Kind::KeyboardInteractive] {
            if !methods.contains(&kind) {
                continue;
            }
            let attempt = match kind {
                Kind::PublicKey => self.public_key(methods).await?,
                Kind::Password => self.with_password(methods, &mut asked).await?,
                // Whoever was asked for the password and did not know it is not asked again in other words.
                _ if asked => continue,
                _ => self.interactive(methods).await?,
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

    /// The keys to try, best first.
    async fn candidates(&mut self) -> Vec<Candidate> {
        let named = !self.options.identities.is_empty();
        let paths = if named { self.options.identities.clone() } else { default_files() };
        let mut files = Vec::new();
        for path in paths {
            match KeyFile::load(&path).await {
                Ok(file) => files.push(file),
                Err(e) => {
                    tracing::debug!(error = %e, "a key file is passed over");
                    if named {
                        self.trouble.get_or_insert(e);
                    }
                }
            }
        }
        let mut of_agent = Vec::new();
        if let Some((agent, keys)) = self.options.agent.keys().await {
            self.agent = Some(agent);
            of_agent = keys;
        }
        let same = |a: &PublicKey, b: &PublicKey| a.key_data() == b.key_data();
        // A key that the agent holds needs no phrase.
        files.retain(|f| !f.public().is_some_and(|p| of_agent.iter().any(|k| same(k, p))) || named);
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for key in of_agent {
            let is_named = named && files.iter().any(|f| f.public().is_some_and(|p| same(p, &key)));
            if is_named {
                files.retain(|f| !f.public().is_some_and(|p| same(p, &key)));
                first.push(Candidate::Agent(key));
            } else {
                rest.push(Candidate::Agent(key));
            }
        }
        let files = files.into_iter().map(Candidate::File);
        if named {
            first.extend(files);
            first.append(&mut rest);
        } else {
            first.append(&mut rest);
            first.extend(files);
        }
        // They are taken from the end.
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
            let decider = Arc::clone(&self.decider);
            let (key, label) = match &mut candidate {
                Candidate::Agent(key) => (key.clone(), "publickey (agent)".to_owned()),
                Candidate::File(file) => {
                    let label = format!("publickey ({})", file.name());
                    if file.public().is_none() {
                        let _asking = self.shared.asking();
                        if let Err(e) = file.unlock(&*decider).await {
                            self.trouble.get_or_insert(e);
                            continue;
                        }
                    }
                    let Some(public) = file.public() else { continue };
                    (public.clone(), label)
                }
            };
            let hash = if is_rsa(&key) {
                match self.rsa().await? {
                    Some(hash) => Some(hash),
                    None => {
                        self.trouble.get_or_insert_with(|| {
                            Error::new(ErrorKind::Unsupported)
                                .with_detail("the server takes RSA keys with SHA-1 only")
                                .with_hint("use an ed25519 key")
                        });
                        continue;
                    }
                }
            } else {
                None
            };
            let asker = Asker { decider, shared: Arc::clone(self.shared) };
            let mut signing = match (&mut candidate, &mut self.agent) {
                (Candidate::File(file), _) => Signing::File(file, &asker),
                (Candidate::Agent(_), Some(agent)) => Signing::Agent(agent),
                (Candidate::Agent(_), None) => continue,
            };
            self.tried.push(label);
            let user = self.options.user.clone();
            let work = self.handle.authenticate_publickey_with(user, key, hash, &mut signing);
            match self.shared.bounded(self.options.timeout, work).await? {
                Ok(result) => match self.judge(result).await? {
                    Attempt::Spent(left) if left.contains(&MethodKind::PublicKey) => methods = left,
                    other => {
                        self.candidates = Some(candidates);
                        return Ok(other);
                    }
                },
                Err(NotSigned::Failed(e)) => {
                    self.trouble.get_or_insert(e);
                }
                Err(NotSigned::Lost) => {
                    let e = self.shared.ended().unwrap_or_else(|| Error::new(ErrorKind::Disconnected));
                    return Err(self.lost(e));
                }
            }
        }
        self.candidates = Some(candidates);
        Ok(Attempt::Spent(methods))
    }

    async fn with_password(&mut self, mut methods: MethodSet, asked: &mut bool) -> Result<Attempt> {
        let who = format!("{}@{}", self.options.user, self.options.host);
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
            let result = self.shared.bounded(self.options.timeout, work).await?;
            match self.judge(result.map_err(|e| self.lost(self.shared.error_of(e)))?).await? {
                Attempt::Spent(left) if left.contains(&MethodKind::Password) => methods = left,
                other => return Ok(other),
            }
        }
    }

    async fn interactive(&mut self, mut methods: MethodSet) -> Result<Attempt> {
        let mut given = self.password.clone();
        self.tried.push("keyboard-interactive".to_owned());
        for _ in 0..ASKED {
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
                        let lone = matches!(prompts.as_slice(), [Prompt { echo: false, .. }]);
                        let answers = if prompts.is_empty() {
                            Vec::new()
                        } else if let Some(password) = given.take_if(|_| lone) {
                            vec![password.expose().to_owned()]
                        } else {
                            person = true;
                            match self.ask(name, instructions, &prompts).await {
                                Some(answers) => answers,
                                None => return Ok(Attempt::Spent(methods)),
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
        }
        Ok(Attempt::Spent(methods))
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
