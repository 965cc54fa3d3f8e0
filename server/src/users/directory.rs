//! `Directory`: the accounts of a site, of the file and of the database, as its [`Authenticator`]. Every
//! account is looked up here and nowhere else; the file's stand before stored ones of the same name.
//!
//! A name that does not exist, a disabled account and a wrong address take the time and get the words of a
//! wrong proof: a password is always hashed, for a name without one against a configured hash whose answer
//! is thrown away. Hashing runs on the blocking pool, a few at a time. With `require` the factors are taken
//! in that order only; without, any one will do. An interactive login proves a password, so it stands for
//! that factor; one in which hooks ask other questions only counts where `require` names it.
//!
//! Who has one-time codes is asked for one once another factor was good, and never sooner: nothing tells
//! strangers who has them. FTP has one question (ACCT), so its clients may also write the code behind the
//! password; for that, every password that ends in six digits is judged once more without them. HTTP has no
//! question, and its clients show the same with every request: where the site lets them write a code behind the
//! password (`append_code`), it is taken when a session begins, and not again while that session lasts.
//!
//! A certificate of TLS is an account's own only if the account says so, by its fingerprint or by a name in
//! it; which authorities are believed TLS has judged before. Its factor is that of a key.
//!
//! Accounts that are not here may be those of other directories (`external`), which are asked with the password, and
//! may ask more where the client can be asked: in an interactive login, and once over FTP. What this server keeps for
//! such accounts are entries (`User::directory`): theirs are keys, tokens and one-time codes.
//!
//! Absent: reloading (a site makes a new directory; what codes were used is handed on).

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use session_core::auth::{
    AccessKey, Account, Authenticator, Check, Credential, DigestKeys, Heard, Method, Proof, Question, Secret,
    SignedKey, TlsCertificate, UserCertificate,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::reason::Reason;
use session_core::script::Secrets;
use session_core::session::{Protocol, Session};
use tokio::sync::Semaphore;

use super::external::External;
use super::keys::PublicKey;
use super::password::{self, Memory, PasswordHash};
use super::token::UserToken;
use super::totp::Spent;
use crate::accounts::Accounts;
use crate::config::{Config, Store, User, parse_network};
use crate::hooks;

/// How many passwords are hashed at a time, at most: each needs its memory and a processor.
const HASHERS: usize = 4;

/// How many hashes stand for all where a name without a password is judged.
const DECOYS: usize = 256;

/// The accounts of a site.
pub struct Directory {
    accounts: HashMap<String, Arc<User>>,
    /// What is kept here for accounts of other directories.
    entries: HashMap<String, Arc<User>>,
    /// A one-time code may stand behind the password over WebDAV.
    append_code: bool,
    /// Access keys by their ids.
    keys: HashMap<String, AccessKey>,
    /// Whose tokens are, by their ids.
    tokens: HashMap<String, Arc<str>>,
    /// What keys name by its name.
    secrets: Secrets,
    /// What names without a password are judged by, never accepted: the costs are those of real ones.
    decoys: Vec<PasswordHash>,
    picks: RandomState,
    spent: Arc<Spent>,
    hashing: Arc<Hashing>,
    hashed: Arc<AtomicU64>,
    /// Who vouches for accounts that are not here.
    external: Option<Arc<External>>,
    /// Whether accounts are believed that are none of these, which the file declares.
    belief: Option<(Arc<Accounts>, Arc<HashSet<String>>)>,
    /// Who counts the sessions of accounts on all nodes.
    room: Option<Arc<dyn Room>>,
}

/// Who counts the sessions of accounts that may have only so many, where others do too.
#[async_trait]
pub(crate) trait Room: Send + Sync {
    /// Makes room for a login that is about to be let in, until its session is over. Errors: `Throttled`.
    async fn make(&self, session: &Session, account: &Account) -> Result<()>;
}

/// What all sites of a server hash passwords with: so many at once, in as much memory.
pub struct Hashing {
    permits: Arc<Semaphore>,
    memory: Memory,
}

impl Default for Hashing {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Hashing { permits: Arc::new(Semaphore::new(cores.min(HASHERS))), memory: Memory::default() }
    }
}

impl Hashing {
    /// How many buffers were made for it so far.
    pub fn buffers(&self) -> usize {
        self.memory.made()
    }
}

/// Why a proof is not good, as a number and in words; for the log only.
type Refusal = (Reason, &'static str);

fn wrong(words: &'static str) -> Refusal {
    (Reason::WrongCredentials, words)
}

impl Directory {
    /// The accounts of `config`, their key files read. Blocks. Errors: `InvalidArgument` for a key file that
    /// is missing or not understood, with file and line.
    pub fn new(config: &Config) -> Result<Directory> {
        let secrets = hooks::secrets_of(&config.scripts, BTreeMap::new())?;
        Directory::with(config, Vec::new(), Arc::default(), Arc::default(), secrets)
    }

    /// The same, with accounts that are not in the file, the one-time codes that were used before, and the secrets
    /// that access keys may name.
    pub fn with(
        config: &Config,
        stored: Vec<Arc<User>>,
        spent: Arc<Spent>,
        hashing: Arc<Hashing>,
        secrets: Secrets,
    ) -> Result<Directory> {
        let by_name = |users: Vec<Arc<User>>| users.into_iter().map(|u| (u.name.clone(), u)).collect();
        let (entries, stored): (Vec<_>, Vec<_>) = stored.into_iter().partition(|u| u.directory.is_some());
        let (mut accounts, entries): (HashMap<_, _>, HashMap<_, _>) = (by_name(stored), by_name(entries));
        for user in &config.users {
            let mut user = user.clone();
            if let Some(file) = &user.keys_file {
                let bad = |words: String| Error::new(ErrorKind::InvalidArgument).with_detail(words);
                let text = std::fs::read_to_string(file)
                    .map_err(|e| bad(format!("{}: cannot be read: {e}", file.display())))?;
                let keys = PublicKey::parse_all(&text)
                    .map_err(|(line, words)| bad(format!("{}:{line}: {words}", file.display())))?;
                user.keys.extend(keys);
            }
            accounts.insert(user.name.clone(), Arc::new(user));
        }
        for user in &config.users {
            for key in &user.access_keys {
                if let Some(name) = key.key_secret.as_ref().filter(|name| secrets.get(name).is_none()) {
                    let words =
                        format!("the access key '{}' of '{}' needs the secret '{name}'", key.id, user.name);
                    return Err(Error::new(ErrorKind::InvalidArgument).with_detail(words).with_hint(
                        "it stands in the file that `secrets` of [scripts] names, or in FERRYD_SECRET_…",
                    ));
                }
            }
        }
        Ok(Directory {
            decoys: decoys(&accounts)?,
            keys: access_keys(accounts.values().chain(entries.values()), &secrets),
            tokens: tokens(accounts.values().chain(entries.values())),
            secrets,
            accounts,
            entries,
            append_code: config.webdav.append_code,
            picks: RandomState::new(),
            spent,
            hashing,
            hashed: Arc::default(),
            external: None,
            belief: None,
            room: None,
        })
    }

    /// The same, with others that vouch for accounts that are not here.
    pub(crate) fn and(self, external: Option<Arc<External>>) -> Directory {
        Directory { external, ..self }
    }

    /// The same; stored ones log in only while what is stored is believed.
    pub(crate) fn believing(self, accounts: Arc<Accounts>, config: &Config) -> Directory {
        let declared = config.users.iter().map(|u| u.name.clone()).collect();
        Directory { belief: Some((accounts, Arc::new(declared))), ..self }
    }

    /// The same; who counts sessions on all nodes is asked before somebody is let in.
    pub(crate) fn counting(self, room: Option<Arc<dyn Room>>) -> Directory {
        Directory { room, ..self }
    }

    /// Whether it may be said of an account that it is as it is known here.
    fn is_believed(&self, user: &str) -> bool {
        let Some((accounts, declared)) = &self.belief else { return true };
        let is_stored = self.accounts.contains_key(user) || self.entries.contains_key(user);
        accounts.is_believed() || declared.contains(user) || !is_stored
    }

    /// These accounts, with others in place of some: `None` for those that are gone. Blocks where nobody is
    /// left who has a password. Errors: `Internal`.
    pub(crate) fn changed(&self, changes: Vec<(String, Option<Arc<User>>)>) -> Result<Directory> {
        let (mut accounts, mut entries) = (self.accounts.clone(), self.entries.clone());
        for (name, user) in changes {
            accounts.remove(&name);
            entries.remove(&name);
            match user {
                Some(user) if user.directory.is_some() => entries.insert(name, user),
                Some(user) => accounts.insert(name, user),
                None => None,
            };
        }
        Ok(Directory {
            decoys: decoys(&accounts)?,
            keys: access_keys(accounts.values().chain(entries.values()), &self.secrets),
            tokens: tokens(accounts.values().chain(entries.values())),
            secrets: self.secrets.clone(),
            accounts,
            entries,
            append_code: self.append_code,
            // A name is judged by the same decoy while the decoys are the same.
            picks: self.picks.clone(),
            spent: Arc::clone(&self.spent),
            hashing: Arc::clone(&self.hashing),
            hashed: Arc::clone(&self.hashed),
            external: self.external.as_ref().map(|e| e.anew()),
            belief: self.belief.clone(),
            room: self.room.clone(),
        })
    }

    /// All of them.
    pub(crate) fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.accounts.values()
    }

    /// What is configured for the account: home, store, permissions, limits.
    pub fn account(&self, name: &str) -> Option<Arc<User>> {
        self.accounts.get(name).cloned().or_else(|| self.external.as_ref()?.account(name))
    }

    /// The names of the accounts, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.accounts.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// How many passwords were hashed so far.
    pub fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// The account, if it may log in from there at all.
    fn admitted(&self, user: &str, session: &Session) -> Result<Arc<User>, Refusal> {
        let peer = session.peer_address();
        let user = self.account(user).ok_or((Reason::UnknownUser, "no such user"))?;
        if !self.is_believed(&user.name) {
            let words = "the database of accounts was not reached for too long";
            return Err((Reason::AuthenticatorFailed, words));
        }
        if !user.enabled {
            return Err((Reason::AccountClosed, "the account is disabled"));
        }
        if let Some(refusal) = bars(&user, session.protocol(), session.now()) {
            return Err(refusal);
        }
        let allowed = |ip: IpAddr| user.addresses.iter().any(|net| net.contains(&ip));
        if !user.addresses.is_empty() && !peer.is_some_and(allowed) {
            return Err((Reason::AddressDenied, "the account may not log in from this address"));
        }
        Ok(user)
    }

    /// Always hashes once, whatever the name; but for one that others are asked about.
    async fn password(
        &self,
        session: &Session,
        user: &str,
        password: &Secret,
        may_ask: bool,
    ) -> Result<Given, Refusal> {
        let account = self.accounts.get(user);
        if let (None, Some(external)) = (account, &self.external) {
            return heard(external.proves(user, password, session, may_ask).await);
        }
        let own = account.and_then(|a| a.password.as_ref());
        let hash = match own {
            Some(hash) => Some(hash),
            None => {
                let pick = self.picks.hash_one(user) % self.decoys.len().max(1) as u64;
                self.decoys.get(usize::try_from(pick).unwrap_or(0))
            }
        };
        let (Some(hash), Ok(permit)) =
            (hash.cloned(), Arc::clone(&self.hashing.permits).acquire_owned().await)
        else {
            return Err(wrong("passwords cannot be judged"));
        };
        let (password, hashed, hashing) =
            (password.clone(), Arc::clone(&self.hashed), Arc::clone(&self.hashing));
        // The permit goes with the work: a login that is given up does not make room before it ends.
        let judged = tokio::task::spawn_blocking(move || {
            let good = hash.verify(&password, &hashing.memory);
            hashed.fetch_add(1, Ordering::Relaxed);
            drop(permit);
            good
        });
        let good = judged.await.unwrap_or(false);
        match (account, own) {
            (Some(a), None) if a.takes_any_password() => Ok(Given::password()),
            (_, None) => Err(wrong("the account has no password")),
            (_, Some(_)) if good => Ok(Given::password()),
            (_, Some(_)) => Err(wrong("wrong password")),
        }
    }

    /// Judges every answer, so that the time does not tell which one was wrong; a one-time code last, and
    /// only if everything else was good, so that nothing else wastes it.
    async fn answers(
        &self,
        user: &str,
        answers: &[(Question, Secret)],
        session: &Session,
    ) -> Result<Given, Refusal> {
        let mut result = if answers.is_empty() { Err(wrong("no answers")) } else { Ok(()) };
        let mut given = Given::default();
        let mut proven = |of: Result<Given, Refusal>| {
            let of = of?;
            given.password |= of.password;
            given.asks = of.asks.or(given.asks.take());
            Ok(())
        };
        let mut codes = Vec::new();
        for (question, answer) in answers {
            let judged = match &question.check {
                Check::Equals(wanted) if same(wanted.expose(), answer.expose()) => Ok(()),
                Check::Equals(_) => Err(wrong("wrong answer")),
                Check::Asked(asked) => proven(heard(asked.0.hear(user, answer).await)),
                Check::Password => proven(self.password(session, user, answer, true).await),
                Check::Totp => {
                    codes.push(answer);
                    Ok(())
                }
            };
            result = result.and(judged);
        }
        result?;
        for code in codes {
            given.code = true;
            self.code(user, code, session.now()).await?;
        }
        Ok(given)
    }

    async fn code(&self, user: &str, answer: &Secret, now: SystemTime) -> Result<(), Refusal> {
        let account = self.account(user).ok_or((Reason::UnknownUser, "no such user"))?;
        let key = account.totp.clone().ok_or_else(|| wrong("no one-time codes configured"))?;
        let (spent, answer, of) = (Arc::clone(&self.spent), answer.clone(), Arc::clone(&account));
        let judged =
            tokio::task::spawn_blocking(move || spent.take(&of.name, &key, &of.recovery, &answer, now));
        let used = judged.await.unwrap_or(Err("one-time codes cannot be judged")).map_err(wrong)?;
        match self.spent.is_first(&account.name, &used).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(wrong("this one-time code, or a later one, was used on another node")),
            Err(_) => {
                let words = "it cannot be told whether this code was used on another node";
                Err((Reason::AuthenticatorFailed, words))
            }
        }
    }

    /// An account that shows something else than a password: one of here, or one that its directory knows.
    async fn held(&self, user: &str, key: Option<&str>, session: &Session) -> Result<Arc<User>, Refusal> {
        if let Some(account) = self.accounts.get(user) {
            return Ok(Arc::clone(account));
        }
        let known = match &self.external {
            Some(external) if external.knows(user, key, session).await => external.account(user),
            _ => None,
        };
        known.ok_or((Reason::UnknownUser, "no such user"))
    }

    /// What was shown is kept here for this account; whether there still is one.
    async fn is_there(&self, user: &str, session: &Session) -> Result<(), Refusal> {
        match self.entries.contains_key(user) {
            true => self.held(user, None, session).await.map(|_| ()),
            false => Ok(()),
        }
    }

    /// A password; over FTP perhaps with a code behind it, and over WebDAV where that is taken. The second judging
    /// depends on what was typed only, not on who exists or has codes here.
    async fn password_and_code(
        &self,
        session: &Session,
        user: &str,
        password: &Secret,
    ) -> Result<Given, Refusal> {
        let ftp = matches!(session.protocol(), Protocol::Ftp | Protocol::Ftps);
        let dav = self.append_code && matches!(session.protocol(), Protocol::Webdav | Protocol::Webdavs);
        let outside = self.external.is_some() && !self.accounts.contains_key(user);
        // Over FTP others are not asked twice: they may count wrong passwords, and there is a question for codes.
        let at = password.expose().len().checked_sub(6).filter(|_| dav || (ftp && !outside));
        let parts = at.and_then(|at| password.expose().split_at_checked(at));
        let parts = parts.filter(|(_, code)| code.bytes().all(|b| b.is_ascii_digit()));
        // Nor of whom it is known that a code is due.
        let has_codes = dav && outside && self.account(user).is_some_and(|a| a.totp.is_some());
        let judged = match has_codes && parts.is_some() {
            true => Err(wrong("a one-time code is due")),
            false => self.password(session, user, password, ftp).await,
        };
        match (judged, parts) {
            (Err(_), Some((rest, code))) => {
                self.password(session, user, &Secret::new(rest), false).await?;
                // HTTP shows with every request what let it in: the code was taken when the session began.
                let is_in = session.identity().is_some_and(|i| *i.account().name == *user);
                if !(dav && is_in) {
                    self.code(user, &Secret::new(code), session.now()).await?;
                }
                Ok(Given { code: true, ..Given::password() })
            }
            (judged, _) => judged,
        }
    }

    /// The answer was found to be made with this: whether the account keeps it still.
    fn digest(&self, user: &str, key: &Secret) -> Result<Given, Refusal> {
        let account = self.accounts.get(user).ok_or((Reason::UnknownUser, "no such user"))?;
        match account.digest.iter().any(|k| same(k.hash.expose(), key.expose())) {
            true => Ok(Given::password()),
            false => Err(wrong("the account keeps nothing for Digest")),
        }
    }

    async fn token(&self, user: &str, token: &Secret, session: &Session) -> Result<Given, Refusal> {
        let account = self.accounts.get(user).or_else(|| self.entries.get(user));
        let account = account.ok_or((Reason::UnknownUser, "no such user"))?;
        if !account.tokens.iter().any(|t| t.is(token.expose(), session.now())) {
            return Err(wrong("not a token of this account, or one that has ended"));
        }
        self.is_there(user, session).await.map(|()| Given::default())
    }

    async fn access_key_of(&self, user: &str, id: &str, session: &Session) -> Result<Given, Refusal> {
        match self.keys.get(id) {
            Some(key) if *key.user == *user => self.is_there(user, session).await.map(|()| Given::default()),
            _ => Err(wrong("not an access key of this account")),
        }
    }

    fn certificate(&self, user: &str, certificate: &TlsCertificate) -> Result<Given, Refusal> {
        let account = self.accounts.get(user).ok_or((Reason::UnknownUser, "no such user"))?;
        match account.owns(certificate) {
            true => Ok(Given::default()),
            false => Err(wrong("not a certificate of this account")),
        }
    }

    async fn key(&self, user: &str, key: &SignedKey, session: &Session) -> Result<(), Refusal> {
        let shown = key.certificate.is_none().then_some(&*key.openssh);
        let account = self.held(user, shown, session).await?;
        match &key.certificate {
            Some(certificate) => check_certificate(&account, certificate, session.peer_address()),
            None => {
                let signed = PublicKey::parse(&key.openssh)
                    .map_err(|_| wrong("the key is of a form that is not known"))?;
                if account.keys.contains(&signed) { Ok(()) } else { Err(wrong("not a key of this account")) }
            }
        }
    }
}

/// The access keys of all accounts. An id that two have is the one's whose name comes first; a key whose secret is
/// not there opens nothing.
fn access_keys<'a>(
    accounts: impl Iterator<Item = &'a Arc<User>>,
    secrets: &Secrets,
) -> HashMap<String, AccessKey> {
    let mut keys = HashMap::new();
    let mut users: Vec<_> = accounts.filter(|u| !u.access_keys.is_empty()).collect();
    users.sort_unstable_by_key(|u| &u.name);
    for user in users {
        for key in &user.access_keys {
            let named = key.key_secret.as_deref().and_then(|name| secrets.get(name));
            let Some(secret) = key.secret.as_ref().or(named).cloned() else {
                tracing::warn!(user = %user.name, key = %key.id, "the secret of an access key is not there");
                continue;
            };
            let key = (key.id.clone(), AccessKey { user: user.name.as_str().into(), secret });
            if let Entry::Vacant(place) = keys.entry(key.0) {
                place.insert(key.1);
            } else {
                tracing::warn!(user = %user.name, "another account has an access key of the same id");
            }
        }
    }
    keys
}

/// Whose the tokens of all accounts are. An id that two have is the one's whose name comes first.
fn tokens<'a>(accounts: impl Iterator<Item = &'a Arc<User>>) -> HashMap<String, Arc<str>> {
    let mut tokens = HashMap::new();
    let mut users: Vec<_> = accounts.filter(|u| !u.tokens.is_empty()).collect();
    users.sort_unstable_by_key(|u| &u.name);
    for user in users {
        for token in &user.tokens {
            if let Entry::Vacant(place) = tokens.entry(token.id.clone()) {
                place.insert(user.name.as_str().into());
            } else {
                tracing::warn!(user = %user.name, "another account has a token of the same id");
            }
        }
    }
    tokens
}

/// Hashes that cost what those of the accounts cost, in the same proportions. Errors: `Internal`.
fn decoys(accounts: &HashMap<String, Arc<User>>) -> Result<Vec<PasswordHash>> {
    let mut names: Vec<&String> = accounts.keys().collect();
    names.sort_unstable();
    let hashes = || names.iter().filter_map(|n| accounts.get(*n)?.password.as_ref());
    let step = hashes().count().div_ceil(DECOYS).max(1);
    let mut decoys: Vec<_> = hashes().step_by(step).cloned().collect();
    if decoys.is_empty() {
        let internal = |words| Error::new(ErrorKind::Internal).with_detail(words);
        let made = password::hash(&Secret::default()).map_err(internal)?;
        decoys.push(PasswordHash::parse(&made).map_err(internal)?);
    }
    Ok(decoys)
}

/// What OpenSSH's PROTOCOL.certkeys leaves to the account. The signature, the validity and the type were
/// checked before.
fn check_certificate(
    user: &User,
    certificate: &UserCertificate,
    peer: Option<IpAddr>,
) -> Result<(), Refusal> {
    let authority =
        PublicKey::parse(&certificate.authority).map_err(|_| wrong("the authority's key is not known"))?;
    if !user.authorities.contains(&authority) {
        return Err(wrong("the certificate's authority is not trusted for this account"));
    }
    if !certificate.unknown_critical.is_empty() {
        return Err(wrong("the certificate is not valid, or has a critical option that is not known"));
    }
    // An empty list is nobody, never everybody.
    if !certificate.principals.iter().any(|p| *p == user.name || user.principals.contains(p)) {
        return Err(wrong("the certificate is for other principals"));
    }
    if let Some(list) = &certificate.source_address {
        let networks: Result<Vec<_>, _> = list.split(',').map(|n| parse_network(n.trim())).collect();
        let networks =
            networks.map_err(|_| wrong("the certificate's source addresses are not understood"))?;
        if !peer.is_some_and(|ip| networks.iter().any(|n| n.contains(&ip))) {
            return Err(wrong("the certificate may not be used from this address"));
        }
    }
    Ok(())
}

/// What a proof held.
#[derive(Clone, Default)]
struct Given {
    password: bool,
    code: bool,
    /// What must be answered before any of it counts.
    asks: Option<Question>,
}

impl Given {
    fn password() -> Self {
        Given { password: true, ..Given::default() }
    }
}

/// What another directory says of a proof.
fn heard(heard: Heard) -> Result<Given, Refusal> {
    match heard {
        Heard::Yes => Ok(Given::password()),
        Heard::No => Err(wrong("no directory vouches for it")),
        Heard::Ask(question) => Ok(Given { asks: Some(question), ..Given::default() }),
    }
}

/// Why a good account may not be used now, if it may not.
pub fn bars(user: &User, protocol: Protocol, now: SystemTime) -> Option<(Reason, &'static str)> {
    if user.expires.is_some_and(|end| now >= end) {
        return Some((Reason::AccountClosed, "the account has expired"));
    }
    // SCP is another way of speaking within the same connection of SSH.
    let protocol = if protocol == Protocol::Scp { Protocol::Sftp } else { protocol };
    if !user.protocols.is_empty() && !user.protocols.contains(&protocol) {
        return Some((Reason::ProtocolDenied, "the account may not use this protocol"));
    }
    if !user.hours.is_empty() && !user.hours.iter().any(|w| w.contains(now)) {
        return Some((Reason::OutsideHours, "the account may not be used at this time"));
    }
    None
}

/// What a good proof is worth: everything, a part, or nothing because another was due.
fn worth(user: &User, method: Method, given: &Given, passed: &[Method]) -> Proof {
    if matches!(method, Method::AccessKey | Method::Token) {
        // Made for programs, which have no second factor: whoever gave the account one meant it so.
        return Proof::Complete(account_of(user));
    }
    let password_given = given.password;
    let code_due = user.totp.is_some();
    let both = [Method::Password, Method::Interactive];
    if code_due && given.password && given.code && passed.is_empty() {
        // At one time what is else asked in turn.
        if user.require.is_empty() || user.require == both {
            return Proof::Complete(account_of(user));
        }
    }
    if code_due && user.require.is_empty() {
        return match (passed.is_empty(), given.code) {
            (true, false) if method != Method::Interactive || password_given => {
                Proof::More(vec![Method::Interactive])
            }
            (false, true) => Proof::Complete(account_of(user)),
            (true, _) => Proof::Rejected("another factor comes before the one-time code".into()),
            (false, false) => Proof::Rejected("a one-time code is due".into()),
        };
    }
    if code_due && method == Method::Interactive && !password_given && !given.code {
        return Proof::Rejected("a one-time code is due".into());
    }
    if user.require.is_empty() {
        return match method {
            Method::Interactive if !password_given => {
                Proof::Rejected("answers without a password are a factor only where it is required".into())
            }
            _ => Proof::Complete(account_of(user)),
        };
    }
    let stands_for_password =
        |wanted: Method| wanted == Method::Password && !user.require.contains(&Method::Interactive);
    let mut due = user.require.iter().copied().skip(passed.len());
    let fits = match due.next() {
        None => false,
        Some(wanted) => {
            let asked_password = method == Method::Interactive && password_given;
            let alone = code_due && wanted == Method::Password && !given.code;
            // Where codes are due, questions about the password are not the code.
            (wanted == method && !(code_due && asked_password && !given.code))
                || (asked_password && (stands_for_password(wanted) || alone))
        }
    };
    if !fits {
        return Proof::Rejected("another factor is due first".into());
    }
    match due.next() {
        None => Proof::Complete(account_of(user)),
        Some(next) if stands_for_password(next) => Proof::More(vec![next, Method::Interactive]),
        Some(next) => Proof::More(vec![next]),
    }
}

fn account_of(user: &User) -> Account {
    Account {
        anonymous: user.anonymous,
        shared: user.shared,
        max_sessions: user.sessions,
        home: user.start(),
        groups: user.groups.iter().map(|g| g.as_str().into()).collect(),
        root: match user.store {
            Store::Local if user.gateway.is_none() => Some(user.home.as_path().into()),
            Store::Local | Store::Memory => None,
        },
        custom: user.custom.clone(),
        ..Account::named(user.name.as_str())
    }
}

/// Whether two secrets are the same, in a time that depends on the length offered only.
fn same(wanted: &str, offered: &str) -> bool {
    let mut wanted_bytes = wanted.bytes();
    let mut difference = u8::from(wanted.len() != offered.len());
    for b in offered.bytes() {
        difference |= std::hint::black_box(b ^ wanted_bytes.next().unwrap_or(0));
    }
    std::hint::black_box(difference) == 0
}

#[async_trait]
impl Authenticator for Directory {
    async fn methods(&self, _: &Arc<Session>, _: &str) -> Vec<Method> {
        vec![Method::PublicKey, Method::Password, Method::Interactive]
    }

    async fn questions(&self, _: &Arc<Session>, _: &str) -> Vec<Question> {
        vec![Question { prompt: "Password: ".into(), echo: false, check: Check::Password }]
    }

    async fn more_questions(&self, session: &Arc<Session>, user: &str, passed: &[Method]) -> Vec<Question> {
        let has_codes = self.account(user).is_some_and(|u| u.totp.is_some());
        if passed.is_empty() || !has_codes {
            return self.questions(session, user).await;
        }
        vec![Question { prompt: "One-time code: ".into(), echo: true, check: Check::Totp }]
    }

    async fn verify(
        &self,
        session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        passed: &[Method],
    ) -> Proof {
        // Judged before the account's state is looked at, so that the state does not show in the time.
        let judged = match credential {
            Credential::AccessKey(id) => self.access_key_of(user, id, session).await,
            Credential::Answers(answers) => self.answers(user, answers, session).await,
            Credential::Certificate(certificate) => self.certificate(user, certificate),
            Credential::Digest(key) => self.digest(user, key),
            Credential::Key(key) => self.key(user, key, session).await.map(|()| Given::default()),
            Credential::Password(password) => self.password_and_code(session, user, password).await,
            Credential::Token(token) => self.token(user, token, session).await,
        };
        let judged = match judged {
            // Its account is known once it has the last answer.
            Ok(Given { asks: Some(question), .. }) => return Proof::Ask(question),
            judged => judged,
        };
        match self.admitted(user, session).and_then(|account| Ok((account, judged?))) {
            Ok((account, given)) => worth(&account, credential.method(), &given, passed),
            Err((Reason::WrongCredentials, words)) => Proof::Rejected(words.into()),
            Err((code, words)) => Proof::Barred(code, words.into()),
        }
    }

    async fn access_key(&self, id: &str) -> Option<AccessKey> {
        self.keys.get(id).cloned()
    }

    async fn digest_keys(&self, user: &str, realm: &str) -> DigestKeys {
        let keys =
            || self.accounts.get(user).into_iter().flat_map(|u| &u.digest).filter(|k| k.realm == realm);
        let of = |md5| keys().find(|k| k.is_md5() == md5).map(|k| k.hash.clone());
        DigestKeys { md5: of(true), sha256: of(false) }
    }

    async fn token_owner(&self, token: &Secret) -> Option<Arc<str>> {
        self.tokens.get(UserToken::id_of(token.expose())?).cloned()
    }

    /// Only its owner's, and only as the first factor: a later one is asked for when it is due.
    async fn takes_certificate(&self, _: &Arc<Session>, user: &str, certificate: &TlsCertificate) -> bool {
        let first = |account: &User| account.require.first().is_none_or(|m| *m == Method::PublicKey);
        self.accounts.get(user).is_some_and(|account| first(account) && account.owns(certificate))
    }

    async fn vouched(&self, session: &Arc<Session>, user: &str) -> Option<Account> {
        self.admitted(user, session).ok().map(|user| account_of(&user))
    }

    async fn make_room(&self, session: &Arc<Session>, account: &Account) -> Result<()> {
        match &self.room {
            Some(room) if account.max_sessions != 0 => room.make(session, account).await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
