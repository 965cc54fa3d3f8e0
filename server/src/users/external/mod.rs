//! `External`: accounts that other directories vouch for (`[[directories]]`).
//!
//! A name that is not an account of this server is asked about with its password, directory by directory, until
//! one says yes. What a directory tells of an account is a record as the database has them: its groups here say the
//! rest. Who has been here is remembered, so that a reload judges sessions that are there by the new rules, and that
//! a good password need not be asked about again for a while; both are bounded, and gone with the process. Of
//! passwords only a keyed digest is kept.
//!
//! What this server keeps for an account of a directory stands in an entry (a stored account with `directory`): keys,
//! tokens, one-time codes, what it may do. It lies over what the directory tells, whose groups and keys are added. Who
//! shows a key or a token is looked up by name in the directories that can be asked so; of one that cannot, the entry
//! alone says who there is.
//!
//! A directory may ask more than the password (PAM); then it has the last word, and its password alone proves nothing
//! later. Who is asked in turn holds a process, so that only so many are at a time.
//!
//! A directory that cannot be asked vouches for nobody. Deliberately absent: whether a key or a code is right
//! (`super::directory`).

mod hook;
mod ldap;
mod pam;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::Uri;
use serde_json::Value;
use session_core::auth::{Asked, Asker, Check, Heard, Question, Secret};
use session_core::error::{Error, ErrorKind, Result};
use session_core::script::Secrets;
use session_core::session::Session;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::accounts::Accounts;
use crate::config::{Config, DirectoryTable, Record, User, is_user_name};

pub(crate) use self::ldap::is_filter;

/// Accounts that are remembered; those who were here least recently go first.
const MOST: usize = 10_000;

/// People whom a directory asks more than their password, at a time: each holds a process while it thinks.
const MOST_ASKED: usize = 64;

/// What a directory may want to know besides name and password.
#[derive(Clone, Copy)]
struct About<'a> {
    address: Option<IpAddr>,
    protocol: &'static str,
    site: &'a str,
    /// The client can be asked more.
    may_ask: bool,
}

/// What a directory says of a name and a password.
enum Word {
    /// They are right; the account's record.
    Yes(Record),
    No,
    /// It wants to know more.
    Asks(Prompt, Box<pam::Talk>),
}

impl From<Option<Record>> for Word {
    fn from(record: Option<Record>) -> Self {
        record.map_or(Word::No, Word::Yes)
    }
}

/// What a directory says of a name alone.
enum Found {
    /// There is one; the account's record.
    Is(Record),
    Nobody,
    /// It says nothing without a password.
    Silent,
}

/// By what somebody is believed to be who it says.
#[derive(Clone, Copy)]
enum By<'a> {
    /// The password alone, which proves it for a while.
    Password(&'a Secret),
    /// The password and more: neither alone proves anything later.
    More,
    /// Something that is not the directory's to judge.
    Else,
}

/// What a client is asked.
struct Prompt {
    text: String,
    echo: bool,
}

/// Somebody who vouches for accounts.
#[async_trait]
trait Vouch: Send + Sync {
    /// Whether name and password are right. Errors: those of asking.
    async fn ask(&self, user: &str, password: &Secret, about: About<'_>) -> Result<Word>;

    /// Whether there is such an account, which shows this key or something that is kept here. Errors: those of asking.
    async fn find(&self, _user: &str, _key: Option<&str>, _about: About<'_>) -> Result<Found> {
        Ok(Found::Silent)
    }
}

struct Directory {
    name: String,
    /// The groups here of all its accounts.
    groups: Vec<String>,
    cache: Duration,
    time: Duration,
    permits: Semaphore,
    /// One for each conversation.
    talks: Arc<Semaphore>,
    vouch: Box<dyn Vouch>,
}

/// A question of a directory that waits for its answer.
struct Waiting {
    external: Arc<External>,
    directory: Arc<Directory>,
    user: String,
    talk: Mutex<Option<(Box<pam::Talk>, OwnedSemaphorePermit)>>,
}

#[async_trait]
impl Asker for Waiting {
    async fn hear(&self, user: &str, answer: &Secret) -> Heard {
        let talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((talk, place)) = talk.filter(|_| user == self.user) else { return Heard::No };
        let directory = &self.directory;
        match directory.within(talk.answer(answer)).await {
            Ok(Word::Yes(record)) => self.external.believe(user, directory, record, By::More),
            Ok(Word::No) => Heard::No,
            Ok(Word::Asks(prompt, talk)) => self.external.waits(user, directory, prompt, (talk, place)),
            Err(e) => directory.cannot_say(&e),
        }
    }
}

/// What is known of one account.
struct Known {
    directory: String,
    record: Record,
    /// A digest of the last good password, and until when it is believed.
    proof: Option<([u8; 32], Instant)>,
    seen: Instant,
}

/// Who has been here; outlives a reload.
pub(crate) struct Remembered {
    key: [u8; 32],
    all: Mutex<HashMap<String, Known>>,
}

impl Remembered {
    /// Errors: `Internal`, where there is no randomness.
    pub(crate) fn new() -> Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|_| ErrorKind::Internal)?;
        Ok(Remembered { key, all: Mutex::default() })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key has a length of its own, and a name no NUL: nothing else has this digest.
    fn digest(&self, user: &str, password: &Secret) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for part in [&self.key[..], user.as_bytes(), &[0], password.expose().as_bytes(), &self.key] {
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    fn is_proven(&self, user: &str, password: &Secret, now: Instant) -> bool {
        let digest = self.digest(user, password);
        self.all().get_mut(user).is_some_and(|known| {
            let is = known.proof.is_some_and(|(proof, until)| proof == digest && now < until);
            if is {
                known.seen = now;
            }
            is
        })
    }

    fn note(&self, user: &str, known: Known) {
        let mut all = self.all();
        if all.len() >= MOST && !all.contains_key(user) {
            let oldest = all.iter().min_by_key(|(_, k)| k.seen).map(|(name, _)| name.clone());
            oldest.and_then(|name| all.remove(&name));
        }
        all.insert(user.to_owned(), known);
    }

    /// The rules may have changed: passwords are asked about again.
    fn forget_proofs(&self) {
        self.all().values_mut().for_each(|known| known.proof = None);
    }
}

type Made = HashMap<String, Arc<User>>;

/// The directories of a site.
pub(crate) struct External {
    config: Arc<Config>,
    accounts: Arc<Accounts>,
    directories: Arc<[Arc<Directory>]>,
    remembered: Arc<Remembered>,
    /// Accounts by the rules in force.
    made: Mutex<Made>,
}

/// Whether a URL is one of a directory; the error says what is wrong.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    if text.starts_with("pam:") {
        let is_one = pam::service(text).is_some();
        return if is_one { Ok(()) } else { Err("a service of PAM is named as pam://SERVICE".into()) };
    }
    let uri: Uri = text.parse().map_err(|_| "this is no URL".to_owned())?;
    match uri.scheme_str() {
        Some("ldap" | "ldaps" | "http" | "https") => {}
        _ => return Err("a directory is asked over ldap:, ldaps:, https: or pam:".into()),
    }
    match uri.authority() {
        Some(a) if a.as_str().contains('@') => Err("nobody logs in by the URL".into()),
        Some(a) if !a.host().is_empty() => Ok(()),
        _ => Err("the URL names no host".into()),
    }
}

fn directory(table: &DirectoryTable, secrets: &Secrets) -> Result<Directory> {
    let vouch: Box<dyn Vouch> = match table.scheme() {
        "ldap" | "ldaps" => Box::new(ldap::Server::new(table, secrets)?),
        "pam" => Box::new(pam::Pam::new(table)?),
        _ => Box::new(hook::Hook::new(table, secrets)?),
    };
    Ok(Directory {
        name: table.name.clone(),
        groups: table.groups.clone(),
        cache: table.cache,
        time: table.time,
        permits: Semaphore::new(table.connections),
        talks: Arc::new(Semaphore::new(MOST_ASKED)),
        vouch,
    })
}

impl External {
    /// `None` where there are no directories. Reaches nothing. Errors: `InvalidArgument` for a secret or a program
    /// that is missing.
    pub(crate) fn new(
        config: &Config,
        accounts: &Arc<Accounts>,
        secrets: &Secrets,
        remembered: Arc<Remembered>,
    ) -> Result<Option<Arc<Self>>> {
        if config.directories.is_empty() {
            return Ok(None);
        }
        remembered.forget_proofs();
        let directories = config.directories.iter().map(|d| directory(d, secrets).map(Arc::new));
        Ok(Some(Arc::new(External {
            directories: directories.collect::<Result<Vec<_>>>()?.into(),
            config: Arc::new(config.clone()),
            accounts: Arc::clone(accounts),
            remembered,
            made: Mutex::default(),
        })))
    }

    /// The same, after groups have changed.
    pub(crate) fn anew(&self) -> Arc<Self> {
        Arc::new(External {
            config: Arc::clone(&self.config),
            accounts: Arc::clone(&self.accounts),
            directories: Arc::clone(&self.directories),
            remembered: Arc::clone(&self.remembered),
            made: Mutex::default(),
        })
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of an account here, and the directory that it is of.
    fn entry(&self, name: &str) -> Option<(String, Record)> {
        let contents = self.accounts.contents();
        let stored = contents.users.get(&(self.config.site.clone(), name.to_owned()))?;
        let directory = stored.record.get("directory")?.as_str()?.to_owned();
        Some((directory, stored.record.clone()))
    }

    /// The directories that may have an account: that of its entry, or all.
    fn asked_about(&self, entry: Option<&(String, Record)>) -> impl Iterator<Item = &Arc<Directory>> {
        let only = entry.map(|(name, _)| name.clone());
        self.directories.iter().filter(move |d| only.as_ref().is_none_or(|name| *name == d.name))
    }

    fn make(&self, name: &str, record: &Record, directory: &str) -> Option<User> {
        let mut record = record.clone();
        // Not a directory's to say.
        record.remove("password");
        record.remove("digest");
        if let Some((_, entry)) = self.entry(name) {
            lay_over(&mut record, entry);
        }
        record.insert("directory".to_owned(), directory.into());
        let stored = |group: &str| self.accounts.contents().group(&self.config.site, group);
        match self.config.account(name, &record, &stored) {
            Ok(user) => Some(user),
            Err(faults) => {
                let faults = faults.join("; ");
                tracing::error!(user = name, "an account of a directory is not usable: {faults}");
                None
            }
        }
    }

    /// An account that has been here, by the rules in force.
    pub(crate) fn account(&self, name: &str) -> Option<Arc<User>> {
        if let Some(made) = self.made().get(name) {
            return Some(made.clone());
        }
        let entry = self.entry(name);
        let (record, directory) = {
            let all = self.remembered.all();
            let known = all.get(name)?;
            let is_there = self.asked_about(entry.as_ref()).any(|d| d.name == known.directory);
            is_there.then(|| (known.record.clone(), known.directory.clone()))?
        };
        let user = self.make(name, &record, &directory)?;
        Some(self.keep(user))
    }

    fn keep(&self, user: User) -> Arc<User> {
        let mut made = self.made();
        if made.len() >= MOST {
            made.clear();
        }
        Arc::clone(made.entry(user.name.clone()).or_insert_with(|| Arc::new(user)))
    }

    /// Whether a password is right; the account is known from then on. Nothing is asked but where that may be.
    pub(crate) async fn proves(
        self: &Arc<Self>,
        name: &str,
        password: &Secret,
        session: &Session,
        may_ask: bool,
    ) -> Heard {
        // A name with anything else in it is nobody's here; an empty password proves nothing over LDAP, where
        // such a login is one of nobody in particular and succeeds.
        if !is_user_name(name) || password.expose().is_empty() {
            return Heard::No;
        }
        if self.remembered.is_proven(name, password, Instant::now()) && self.account(name).is_some() {
            return Heard::Yes;
        }
        let site = session.site();
        let (address, protocol) = (session.peer_address(), session.protocol().name());
        let about = About { address, protocol, site: &site, may_ask };
        for directory in self.asked_about(self.entry(name).as_ref()) {
            match directory.within(directory.vouch.ask(name, password, about)).await {
                Ok(Word::Yes(record)) => {
                    return self.believe(name, directory, record, By::Password(password));
                }
                Ok(Word::No) => {}
                Ok(Word::Asks(prompt, talk)) => match Arc::clone(&directory.talks).try_acquire_owned() {
                    Ok(place) => return self.waits(name, directory, prompt, (talk, place)),
                    Err(_) => {
                        let words = "too many people are being asked";
                        return directory.cannot_say(&Error::new(ErrorKind::Throttled).with_detail(words));
                    }
                },
                Err(e) => {
                    directory.cannot_say(&e);
                }
            }
        }
        Heard::No
    }

    /// Whether there is an account of this name, which shows a key or something that is kept here; it is known from
    /// then on. That what it shows is right is not said.
    pub(crate) async fn knows(self: &Arc<Self>, name: &str, key: Option<&str>, session: &Session) -> bool {
        if !is_user_name(name) {
            return false;
        }
        let site = session.site();
        let (address, protocol) = (session.peer_address(), session.protocol().name());
        let about = About { address, protocol, site: &site, may_ask: false };
        let entry = self.entry(name);
        for directory in self.asked_about(entry.as_ref()) {
            let record = match directory.within(directory.vouch.find(name, key, about)).await {
                Ok(Found::Is(record)) => record,
                Ok(Found::Silent) if entry.is_some() => {
                    if self.account(name).is_some() {
                        return true;
                    }
                    Record::from_iter([("groups".to_owned(), directory.groups.clone().into())])
                }
                Ok(Found::Nobody | Found::Silent) => continue,
                Err(e) => {
                    directory.cannot_say(&e);
                    continue;
                }
            };
            return self.believe(name, directory, record, By::Else) == Heard::Yes;
        }
        false
    }

    /// A directory vouches for an account.
    fn believe(&self, name: &str, directory: &Directory, record: Record, by: By<'_>) -> Heard {
        let Some(user) = self.make(name, &record, &directory.name) else { return Heard::No };
        let now = Instant::now();
        let until = now.checked_add(directory.cache).filter(|_| !directory.cache.is_zero());
        let known = Known {
            directory: directory.name.clone(),
            record,
            proof: match by {
                By::Password(p) => until.map(|until| (self.remembered.digest(name, p), until)),
                By::More => None,
                By::Else => {
                    let all = self.remembered.all();
                    all.get(name).filter(|k| k.directory == directory.name).and_then(|k| k.proof)
                }
            },
            seen: now,
        };
        let changed = {
            let all = self.remembered.all();
            all.get(name).is_none_or(|k| k.record != known.record || k.directory != known.directory)
        };
        if changed {
            self.made().remove(name);
        }
        self.remembered.note(name, known);
        self.keep(user);
        Heard::Yes
    }

    /// A directory asks more, and what it asked waits for its answer.
    fn waits(
        self: &Arc<Self>,
        name: &str,
        directory: &Arc<Directory>,
        prompt: Prompt,
        talk: (Box<pam::Talk>, OwnedSemaphorePermit),
    ) -> Heard {
        let waiting = Waiting {
            external: Arc::clone(self),
            directory: Arc::clone(directory),
            user: name.to_owned(),
            talk: Mutex::new(Some(talk)),
        };
        let check = Check::Asked(Asked(Arc::new(waiting)));
        Heard::Ask(Question { prompt: prompt.text, echo: prompt.echo, check })
    }
}

/// Lays an entry of here over what a directory tells; groups and keys are those of both.
fn lay_over(record: &mut Record, entry: Record) {
    for (key, value) in entry {
        let added = match (key.as_str(), record.get_mut(&key).and_then(Value::as_array_mut), value.as_array())
        {
            ("groups" | "keys", Some(theirs), Some(ours)) => {
                let more: Vec<_> = ours.iter().filter(|one| !theirs.contains(one)).cloned().collect();
                theirs.extend(more);
                true
            }
            _ => false,
        };
        if !added {
            record.insert(key, value);
        }
    }
}

impl Directory {
    /// One question of ours or answer of the client's, in its time.
    async fn within<T>(&self, asking: impl Future<Output = Result<T>>) -> Result<T> {
        let asking = async {
            let _permit = self.permits.acquire().await.map_err(|_| ErrorKind::Closed)?;
            asking.await
        };
        let late = |_| Error::new(ErrorKind::TimedOut).with_detail("it does not answer");
        tokio::time::timeout(self.time, asking).await.map_err(late)?
    }

    fn cannot_say(&self, e: &Error) -> Heard {
        tracing::warn!(directory = self.name, "a directory cannot be asked: {e:#}");
        Heard::No
    }
}

#[cfg(test)]
mod tests;
