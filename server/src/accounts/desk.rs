//! What is asked of the accounts, and the answers: the same for the control socket, the API over the network
//! and a command that works while no server runs.
//!
//! A change is judged as a whole before anything is written: an account that could not log in as it stands,
//! a double of one in the file, a group that others still need are refused. Then it is on disk, then in
//! force: sessions of accounts that are gone or switched off end before the answer. A change that has begun
//! is carried through, also if whoever asked hangs up.
//!
//! Deliberately absent: who may ask (`crate::control`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;

use super::token::{Role, plan_token, show_token};
use super::views::{redacted, show_user};
use super::{Accounts, Change, Contents, Key, Stored, bundle, logins, seconds_now, sites};
use crate::config::{AccessKey, Config, Record, group, is_user_name, line};
use crate::users::password;
use crate::users::totp::{Enrolment, recovery_hash};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of paths says what they are")]
pub(crate) enum Asked {
    Users,
    User,
    AddUser,
    ChangeUser,
    RemoveUser,
    Password,
    Codes,
    NoCodes,
    AccessKey,
    NoAccessKeys,
    Digest,
    UserToken,
    NoUserTokens,
    Groups,
    Group,
    AddGroup,
    ChangeGroup,
    RemoveGroup,
    Secrets,
    PutSecret,
    RemoveSecret,
    Tokens,
    AddToken,
    RemoveToken,
    Sites,
    Site,
    AddSite,
    ChangeSite,
    RemoveSite,
    Export,
    Import,
}

/// The filters that go with a question.
pub(crate) fn filters(asked: Asked) -> &'static [&'static str] {
    match asked {
        Asked::Users => &["site", "group", "after", "limit"],
        Asked::Groups => &["site"],
        Asked::Export => &["secrets"],
        Asked::Import => &["replace"],
        Asked::Secrets | Asked::PutSecret | Asked::RemoveSecret => &[],
        Asked::Tokens | Asked::AddToken | Asked::RemoveToken => &[],
        Asked::Sites | Asked::Site | Asked::AddSite | Asked::ChangeSite => &[],
        Asked::RemoveSite => &["accounts"],
        _ => &["site"],
    }
}

/// The users of one answer, at most.
const PAGE: usize = 1000;

/// How often a change is judged anew, at most, because another node was quicker.
const TRIES: u32 = 10;

/// The largest secret, bytes.
const SECRET: usize = 16 << 10;

/// What a change touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// These accounts.
    Users(Vec<Key>),
    /// Any of them.
    AllUsers,
    /// What hooks are given.
    Secrets,
    /// Sites; perhaps their accounts, too.
    Sites,
    /// What nobody holds.
    Nothing,
}

/// The server behind the desk.
#[async_trait]
pub(crate) trait InForce: Send + Sync {
    /// The configuration of the file.
    fn file(&self) -> Arc<Config>;

    /// Secrets of hooks that stand elsewhere, and first.
    fn declared_secrets(&self) -> Vec<String>;

    /// Makes ready what these contents would serve with these sites changed, and throws it away. Errors: what stands
    /// against it, as a file that is missing or a port that is taken.
    async fn rehearse(&self, after: Contents, changed: Vec<String>) -> Result<()>;

    /// Puts in force what was changed. The answer: how many sessions ended by it.
    async fn renew(&self, touched: Touched, actor: &str) -> Result<usize>;
}

/// See the module.
pub(crate) struct Desk {
    pub(super) accounts: Arc<Accounts>,
    pub(super) serving: Arc<dyn InForce>,
}

/// A change that was judged.
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) touched: Touched,
    pub(super) answer: Map<String, Value>,
    /// For the log.
    pub(super) words: String,
}

pub(super) fn bad(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

pub(super) fn missing(what: &str, name: &str) -> Error {
    Error::new(ErrorKind::NotFound).with_detail(format!("there is no {what} '{name}'"))
}

pub(super) fn taken(words: String) -> Error {
    Error::new(ErrorKind::AlreadyExists).with_detail(words)
}

/// One filter.
pub(super) fn asked_for<'a>(query: &'a [(String, String)], key: &str) -> Option<&'a str> {
    query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

fn object(body: Value) -> Result<Record> {
    match body {
        Value::Object(map) => Ok(map),
        _ => Err(bad("the body is an object of JSON")),
    }
}

pub(super) fn text<'a>(body: &'a Record, key: &str) -> Result<&'a str> {
    body.get(key).and_then(Value::as_str).ok_or_else(|| bad(format!("the body names a {key}, as text")))
}

impl Desk {
    /// Over these accounts of this server.
    pub(crate) fn new(accounts: Arc<Accounts>, serving: Arc<dyn InForce>) -> Arc<Self> {
        Arc::new(Desk { accounts, serving })
    }

    /// The token that this text is: its id, who it is for, what it may do.
    pub(crate) fn bearer(&self, text: &str) -> Option<(String, String, Role)> {
        let contents = self.accounts.contents();
        let (id, token) = super::token::find(&contents.tokens, text, seconds_now())?;
        Some((id.to_string(), token.name.clone(), token.role))
    }

    /// Whether the token of this id is good still.
    pub(crate) fn takes(&self, id: &str) -> bool {
        self.accounts.contents().tokens.get(id).is_some_and(|t| !t.is_over(seconds_now()))
    }

    /// Answers. `name` is what the path names. Errors: `InvalidArgument`, `NotFound`, `AlreadyExists`,
    /// `NotEmpty` for a group that is in use, those of the disk.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        asked: Asked,
        name: &str,
        query: Vec<(String, String)>,
        body: Value,
        actor: &str,
    ) -> Result<Value> {
        for (n, (key, _)) in query.iter().enumerate() {
            if !filters(asked).contains(&key.as_str()) || query.iter().take(n).any(|(k, _)| k == key) {
                return Err(bad(format!("'{key}' is no filter here, or comes twice")));
            }
        }
        let (desk, name, actor) = (Arc::clone(self), name.to_string(), actor.to_string());
        let work = async move {
            match asked {
                Asked::Users
                | Asked::User
                | Asked::Groups
                | Asked::Group
                | Asked::Secrets
                | Asked::Tokens
                | Asked::Sites
                | Asked::Site
                | Asked::Export => {
                    let work = tokio::task::spawn_blocking(move || desk.look(asked, &name, &query));
                    work.await.map_err(|_| Error::from(ErrorKind::Internal))?
                }
                _ => desk.change(asked, name, query, body, actor).await,
            }
        };
        tokio::spawn(work).await.map_err(|_| Error::from(ErrorKind::Internal))?
    }

    async fn change(
        self: Arc<Self>,
        asked: Asked,
        name: String,
        query: Vec<(String, String)>,
        body: Value,
        actor: String,
    ) -> Result<Value> {
        let _turn = self.accounts.turn().await;
        let mut tries = 0;
        let (touched, mut answer, words) = loop {
            self.catch_up().await?;
            let (desk, name, query, body) = (Arc::clone(&self), name.clone(), query.clone(), body.clone());
            let work = tokio::task::spawn_blocking(move || desk.plan(asked, &name, &query, body));
            let Plan { changes, touched, answer, words } =
                work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
            let changed = sites::given(&changes);
            // What comes with secrets may need them, and they are in force once they are kept.
            if !changed.is_empty() && touched != Touched::Secrets {
                let mut after = self.accounts.contents().clone();
                changes.iter().for_each(|change| after.apply(change.clone()));
                self.serving.rehearse(after, changed).await?;
            }
            tries += 1;
            match self.accounts.apply(changes, &actor).await {
                Ok(()) => break (touched, answer, words),
                // It was judged by what is no more: another node was quicker.
                Err(e) if e.kind() == ErrorKind::PreconditionFailed && tries < TRIES => {}
                Err(e) => return Err(e),
            }
        };
        tracing::info!(actor, "accounts: {words}");
        match self.serving.renew(touched, &actor).await {
            Ok(ended) => answer.insert("ended".into(), ended.into()),
            Err(e) => {
                tracing::error!("what was changed is kept and not in force yet: {e:#}");
                answer.insert("warning".into(), format!("kept, and not in force yet: {e}").into())
            }
        };
        Ok(Value::Object(answer))
    }

    /// The configurations of the sites that can be: those of the file, and those of the database.
    pub(super) fn sites(&self, contents: &Contents) -> Vec<Arc<Config>> {
        let (config, _) = contents.with_sites(&self.serving.file());
        config.each_site().into_iter().map(Arc::new).collect()
    }

    /// The site that is meant: the one that is named, or the only one.
    fn site(&self, contents: &Contents, query: &[(String, String)]) -> Result<Arc<Config>> {
        let sites = self.sites(contents);
        match asked_for(query, "site") {
            Some(name) => sites.into_iter().find(|s| s.site == name).ok_or_else(|| missing("site", name)),
            None => match sites.as_slice() {
                [one] => Ok(Arc::clone(one)),
                _ => Err(bad("there are several sites: name one")
                    .with_hint(sites.iter().map(|s| s.site.as_str()).collect::<Vec<_>>().join(", "))),
            },
        }
    }

    /// The key of something that may belong to a site that is no longer there.
    fn key(&self, contents: &Contents, query: &[(String, String)], name: &str) -> Result<Key> {
        let site = match asked_for(query, "site") {
            Some(site) => site.to_string(),
            None => self.site(contents, query)?.site.clone(),
        };
        Ok((site, name.to_string()))
    }

    fn look(&self, asked: Asked, name: &str, query: &[(String, String)]) -> Result<Value> {
        let contents = self.accounts.contents();
        Ok(match asked {
            Asked::Users => self.list(&contents, query)?,
            Asked::User => {
                let key = self.key(&contents, query, name)?;
                self.show(&contents, &self.sites(&contents), &key).ok_or_else(|| missing("user", name))?
            }
            Asked::Groups => self.list_groups(&contents, query),
            Asked::Group => {
                let (site, name) = &self.key(&contents, query, name)?;
                let all = self.list_groups(&contents, &[("site".into(), site.clone())]);
                let is = |g: &&Value| g.get("name").is_some_and(|n| n == name);
                let found = all.get("groups").and_then(Value::as_array).and_then(|g| g.iter().find(is));
                found.cloned().ok_or_else(|| missing("group", name))?
            }
            Asked::Secrets => json!({ "secrets": contents.secrets.keys().collect::<Vec<_>>() }),
            Asked::Sites => sites::list(&contents, &self.serving.file()),
            Asked::Site => sites::show(&contents, &self.serving.file(), name)?,
            Asked::Tokens => {
                let tokens = contents.tokens.iter().map(|(id, t)| show_token(id, t));
                json!({ "tokens": tokens.collect::<Vec<_>>() })
            }
            _ => bundle::export(&contents, asked_for(query, "secrets") == Some("yes")),
        })
    }

    fn list(&self, contents: &Contents, query: &[(String, String)]) -> Result<Value> {
        let limit = match asked_for(query, "limit").map(str::parse::<usize>) {
            None => PAGE,
            Some(Ok(n)) if (1..=PAGE).contains(&n) => n,
            Some(_) => return Err(bad(format!("a limit is a number from 1 to {PAGE}"))),
        };
        let sites = self.sites(contents);
        let wanted = asked_for(query, "site");
        let declared = sites.iter().flat_map(|s| s.users.iter().map(|u| (s.site.clone(), u.name.clone())));
        let mut keys: BTreeSet<Key> = declared.collect();
        keys.extend(contents.users.keys().cloned());
        // What comes after `SITE/NAME`.
        let after = asked_for(query, "after").map(|text| text.split_once('/').unwrap_or((text, "")));
        let group = asked_for(query, "group");
        let mut users = Vec::new();
        let mut more = Value::Null;
        for key in keys {
            if wanted.is_some_and(|w| w != key.0) || after.is_some_and(|a| (&*key.0, &*key.1) <= a) {
                continue;
            }
            let Some(view) = self.show(contents, &sites, &key) else { continue };
            let is_in = |g: &str| {
                view.get("groups").and_then(Value::as_array).is_some_and(|all| all.iter().any(|x| x == g))
            };
            if group.is_some_and(|g| !is_in(g)) {
                continue;
            }
            if users.len() == limit {
                let last: Option<&Value> = users.last();
                let part = |k: &str| last.and_then(|u| u.get(k)).and_then(Value::as_str).unwrap_or_default();
                more = format!("{}/{}", part("site"), part("name")).into();
                break;
            }
            users.push(view);
        }
        Ok(json!({ "users": users, "after": more }))
    }

    /// A user of the file or of the database.
    fn show(&self, contents: &Contents, sites: &[Arc<Config>], key: &Key) -> Option<Value> {
        let (site, name) = key;
        let config = sites.iter().find(|s| s.site == *site);
        let declared = config.and_then(|c| c.users.iter().find(|u| u.name == *name));
        let stored = contents.users.get(key);
        if let Some(user) = declared {
            let mut shown = show_user(site, user, "file");
            if stored.is_some()
                && let Some(map) = shown.as_object_mut()
            {
                map.insert("double".into(), "the database has one of this name, which does not count".into());
            }
            return Some(shown);
        }
        let stored = stored?;
        let resolved = match config {
            Some(config) => contents.account(config, name)?,
            None => Err(vec![format!("there is no site '{site}'")]),
        };
        let mut shown = match resolved {
            Ok(user) => show_user(site, &user, "database"),
            Err(faults) => json!({
                "name": name, "site": site, "source": "database", "enabled": false,
                "unusable": faults.join("; "),
            }),
        };
        if let Some(map) = shown.as_object_mut() {
            map.insert("changed".into(), moment(stored.changed).into());
            map.insert("record".into(), Value::Object(redacted(&stored.record)));
        }
        Some(shown)
    }

    fn list_groups(&self, contents: &Contents, query: &[(String, String)]) -> Value {
        let wanted = |site: &str| asked_for(query, "site").is_none_or(|w| w == site);
        let mut groups = Vec::new();
        for config in self.sites(contents).iter().filter(|c| wanted(&c.site)) {
            let declared = config.groups.iter();
            groups.extend(declared.map(|g| json!({ "name": g.name, "site": config.site, "source": "file" })));
        }
        for ((site, name), stored) in contents.groups.iter().filter(|((site, _), _)| wanted(site)) {
            groups.push(json!({
                "name": name, "site": site, "source": "database", "changed": moment(stored.changed),
                "record": stored.record, "users": members(contents, site, name),
            }));
        }
        json!({ "groups": groups })
    }

    fn plan(&self, asked: Asked, name: &str, query: &[(String, String)], body: Value) -> Result<Plan> {
        let before = self.accounts.contents().clone();
        match asked {
            Asked::AddUser
            | Asked::ChangeUser
            | Asked::Password
            | Asked::Codes
            | Asked::NoCodes
            | Asked::AccessKey
            | Asked::NoAccessKeys
            | Asked::Digest
            | Asked::UserToken
            | Asked::NoUserTokens => self.plan_user(before, asked, name, query, body),
            Asked::RemoveUser => {
                let key = self.key(&before, query, name)?;
                if !before.users.contains_key(&key) {
                    self.not_declared(&key, "user")?;
                    return Err(missing("user", name));
                }
                Ok(Plan {
                    changes: vec![Change::User(key.clone(), None)],
                    touched: Touched::Users(vec![key]),
                    answer: Map::from_iter([("removed".into(), name.into())]),
                    words: format!("removed user '{name}'"),
                })
            }
            Asked::AddGroup | Asked::ChangeGroup => self.plan_group(before, asked, name, query, body),
            Asked::RemoveGroup => {
                let key = self.key(&before, query, name)?;
                if !before.groups.contains_key(&key) {
                    self.not_declared(&key, "group")?;
                    return Err(missing("group", name));
                }
                let members = members(&before, &key.0, name);
                if !members.is_empty() {
                    let some = members.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
                    return Err(Error::new(ErrorKind::NotEmpty)
                        .with_detail(format!("{} users are in the group '{name}': {some}", members.len()))
                        .with_hint("take them out of it first"));
                }
                if let Some(other) = groups_in(&before, &key.0, &BTreeSet::from([name])).first() {
                    return Err(Error::new(ErrorKind::NotEmpty)
                        .with_detail(format!("the group '{other}' is in the group '{name}'"))
                        .with_hint("take it out of it first"));
                }
                Ok(Plan {
                    changes: vec![Change::Group(key, None)],
                    touched: Touched::Nothing,
                    answer: Map::from_iter([("removed".into(), name.into())]),
                    words: format!("removed group '{name}'"),
                })
            }
            Asked::PutSecret => self.plan_secret(name, object(body)?),
            Asked::RemoveSecret => {
                before.secrets.get(name).ok_or_else(|| missing("secret", name))?;
                Ok(Plan {
                    changes: vec![Change::Secret(name.into(), None)],
                    touched: Touched::Secrets,
                    answer: Map::from_iter([("removed".into(), name.into())]),
                    words: format!("removed secret '{name}'"),
                })
            }
            Asked::AddSite | Asked::ChangeSite => {
                sites::plan(before, &self.serving.file(), asked, name, object(body)?)
            }
            Asked::RemoveSite => sites::removal(
                before,
                &self.serving.file(),
                name,
                asked_for(query, "accounts") == Some("yes"),
            ),
            Asked::AddToken => plan_token(&object(body)?),
            Asked::RemoveToken => {
                before.tokens.get(name).ok_or_else(|| missing("token", name))?;
                Ok(Plan {
                    changes: vec![Change::Token(name.into(), None)],
                    touched: Touched::Nothing,
                    answer: Map::from_iter([("removed".into(), name.into())]),
                    words: format!("removed token {name}"),
                })
            }
            Asked::Import => {
                let replace = asked_for(query, "replace") == Some("yes");
                bundle::plan(before, &self.serving.file(), &object(body)?, replace)
            }
            _ => Err(ErrorKind::Internal.into()),
        }
    }

    /// Errors: `AlreadyExists` for what stands in the file.
    fn not_declared(&self, (site, name): &Key, what: &str) -> Result<()> {
        if is_declared(&self.serving.file(), site, name, what) {
            return Err(taken(format!("the {what} '{name}' stands in the configuration file"))
                .with_hint("change it there, then `ferryd reload`"));
        }
        Ok(())
    }

    fn plan_user(
        &self,
        before: Contents,
        asked: Asked,
        name: &str,
        query: &[(String, String)],
        body: Value,
    ) -> Result<Plan> {
        let config = self.site(&before, query)?;
        let mut body = match asked {
            Asked::Codes | Asked::NoCodes | Asked::AccessKey | Asked::NoAccessKeys | Asked::NoUserTokens => {
                Map::new()
            }
            _ => object(body)?,
        };
        let name = &match asked {
            Asked::AddUser => {
                let name = text(&body, "name")?.to_string();
                body.remove("name");
                name
            }
            _ => name.to_string(),
        };
        let key = (config.site.clone(), name.clone());
        let there = before.users.get(&key);
        self.not_declared(&key, "user")?;
        let mut record = match (asked, there) {
            (Asked::AddUser, Some(_)) => return Err(taken(format!("there is a user '{name}' already"))),
            (Asked::AddUser, None) => Record::new(),
            (_, Some(stored)) => stored.record.clone(),
            (_, None) => return Err(missing("user", name)),
        };
        let mut answer = Map::new();
        let what = match asked {
            Asked::Password => {
                let password = Secret::new(text(&body, "password")?);
                record.insert("password".into(), hashed(&password)?.into());
                logins::no_digest(&mut record, &mut answer);
                "gave a new password to"
            }
            Asked::Codes => {
                let made = Enrolment::make()?;
                record.insert("totp".into(), made.secret.as_str().into());
                let hashes: Vec<_> = made.recovery.iter().map(|code| recovery_hash(code)).collect();
                record.insert("recovery".into(), json!(hashes));
                answer.insert("secret".into(), made.secret.as_str().into());
                answer.insert("url".into(), made.url(&config.site, name).into());
                answer.insert("recovery".into(), json!(made.recovery));
                "gave one-time codes to"
            }
            Asked::AccessKey => {
                let (id, secret) = AccessKey::make()?;
                let key = json!({ "id": id, "secret": secret.expose() });
                let mut keys =
                    record.get("access_keys").and_then(Value::as_array).cloned().unwrap_or_default();
                keys.push(key);
                record.insert("access_keys".into(), keys.into());
                answer.insert("id".into(), id.into());
                answer.insert("secret".into(), secret.expose().into());
                "gave an access key to"
            }
            Asked::NoAccessKeys => {
                record.remove("access_keys");
                "took the access keys from"
            }
            Asked::Digest => {
                logins::digest(&mut record, &mut answer, &config, name, &body)?;
                "let log in by Digest:"
            }
            Asked::UserToken => {
                logins::token(&mut record, &mut answer, &body)?;
                "gave a token to"
            }
            Asked::NoUserTokens => {
                record.remove("tokens");
                "took the tokens from"
            }
            Asked::NoCodes => {
                record.remove("totp");
                record.remove("recovery");
                "took one-time codes from"
            }
            _ => {
                let new = body.remove("new_password");
                if (new.is_some() || body.contains_key("password")) && !body.contains_key("digest") {
                    logins::no_digest(&mut record, &mut answer);
                }
                merge(&mut record, body);
                if let Some(password) = new {
                    let password = password.as_str().ok_or_else(|| bad("a password is text"))?;
                    record.insert("password".into(), hashed(&Secret::new(password))?.into());
                }
                if asked == Asked::AddUser { "added" } else { "changed" }
            }
        };
        let change = Change::User(key.clone(), Some(Arc::new(Stored { record, changed: seconds_now() })));
        let mut after = before;
        after.apply(change.clone());
        let user = after.account(&config, name).transpose().map_err(|faults| bad(faults.join("; ")))?;
        let user = user.ok_or(ErrorKind::Internal)?;
        answer.insert("user".into(), show_user(&config.site, &user, "database"));
        let words = format!("{what} user '{name}' of site '{}'", config.site);
        Ok(Plan { changes: vec![change], touched: Touched::Users(vec![key]), answer, words })
    }

    fn plan_group(
        &self,
        before: Contents,
        asked: Asked,
        name: &str,
        query: &[(String, String)],
        body: Value,
    ) -> Result<Plan> {
        let config = self.site(&before, query)?;
        let mut body = object(body)?;
        let adds = asked == Asked::AddGroup;
        let name = &if adds { text(&body, "name")?.to_string() } else { name.to_string() };
        if adds {
            body.remove("name");
        }
        let key = (config.site.clone(), name.clone());
        self.not_declared(&key, "group")?;
        let mut record = match (adds, before.groups.get(&key)) {
            (true, Some(_)) => return Err(taken(format!("there is a group '{name}' already"))),
            (true, None) => Record::new(),
            (false, Some(stored)) => stored.record.clone(),
            (false, None) => return Err(missing("group", name)),
        };
        merge(&mut record, body);
        group(name, &record).map_err(bad)?;
        let users = members(&before, &key.0, name);
        let change = Change::Group(key.clone(), Some(Arc::new(Stored { record, changed: seconds_now() })));
        let mut after = before.clone();
        after.apply(change.clone());
        let declared = |name: &str| config.groups.iter().find(|g| g.name == name).cloned();
        let find = |name: &str| declared(name).or_else(|| after.group(&key.0, name));
        line(std::slice::from_ref(name), &find).map_err(|words| bad(format!("groups: {words}")))?;
        let keys: Vec<Key> = users.into_iter().map(|user| (key.0.clone(), user)).collect();
        let sites = self.sites(&before);
        judge((&before, &sites), (&after, &sites), &keys)?;
        let what = if adds { "added" } else { "changed" };
        Ok(Plan {
            changes: vec![change],
            touched: Touched::Users(keys),
            answer: Map::from_iter([("group".into(), name.as_str().into())]),
            words: format!("{what} group '{name}' of site '{}'", config.site),
        })
    }

    fn plan_secret(&self, name: &str, body: Record) -> Result<Plan> {
        if !is_user_name(name) {
            return Err(bad("a secret's name is letters, digits and '.', '_', '@', '-'"));
        }
        let value = text(&body, "value")?;
        if value.is_empty() || value.len() > SECRET {
            return Err(bad(format!("a secret has 1 to {SECRET} bytes")));
        }
        if self.serving.declared_secrets().iter().any(|n| n == name) {
            return Err(taken(format!(
                "the secret '{name}' stands in the file of secrets or the environment"
            )));
        }
        Ok(Plan {
            changes: vec![Change::Secret(name.into(), Some(Secret::new(value)))],
            touched: Touched::Secrets,
            answer: Map::from_iter([("secret".into(), name.into())]),
            words: format!("put secret '{name}'"),
        })
    }
}

/// Whether the file has a user or a group of this name.
pub(super) fn is_declared(file: &Config, site: &str, name: &str, what: &str) -> bool {
    let Some(config) = file.each_site().into_iter().find(|s| s.site == site) else { return false };
    match what {
        "user" => config.users.iter().any(|u| u.name == name),
        _ => config.groups.iter().any(|g| g.name == name),
    }
}

/// Errors: accounts that a change would make unusable, and were not before.
pub(super) fn judge(
    (before, sites_before): (&Contents, &[Arc<Config>]),
    (after, sites_after): (&Contents, &[Arc<Config>]),
    keys: &[Key],
) -> Result<()> {
    let of = |sites: &[Arc<Config>], site: &str| sites.iter().find(|s| s.site == site).cloned();
    let mut faults = Vec::new();
    for key @ (site, name) in keys {
        let Some(config) = of(sites_after, site) else { continue };
        let was_wrong = || {
            let then = of(sites_before, site).and_then(|config| before.account(&config, name));
            before.users.get(key) == after.users.get(key) && matches!(then, Some(Err(_)))
        };
        if let Some(Err(wrong)) = after.account(&config, name)
            && !was_wrong()
        {
            faults.push(format!("user '{name}': {}", wrong.join("; ")));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let rest = faults.len().saturating_sub(10);
    faults.truncate(10);
    if rest > 0 {
        faults.push(format!("and {rest} more"));
    }
    Err(bad(faults.join("\n")))
}

/// Whether a record names one of these groups.
fn names_one(stored: &Stored, groups: &BTreeSet<&str>) -> bool {
    let named = stored.record.get("groups").and_then(Value::as_array).into_iter().flatten();
    named.filter_map(Value::as_str).any(|name| groups.contains(name))
}

/// The stored groups of a site that are in one of these.
fn groups_in<'a>(contents: &'a Contents, site: &str, groups: &BTreeSet<&str>) -> Vec<&'a str> {
    let all = contents.groups.iter().filter(|((s, _), stored)| s == site && names_one(stored, groups));
    all.map(|((_, name), _)| name.as_str()).collect()
}

/// The stored users who get something of a group: who name it, or a group that leads to it.
fn members(contents: &Contents, site: &str, group: &str) -> Vec<String> {
    let mut groups = BTreeSet::from([group]);
    loop {
        let more = groups_in(contents, site, &groups);
        let before = groups.len();
        groups.extend(more);
        if groups.len() == before {
            break;
        }
    }
    let users = contents.users.iter().filter(|((s, _), stored)| s == site && names_one(stored, &groups));
    users.map(|((_, name), _)| name.clone()).collect()
}

/// Keys take the place of those that are there; `null` takes away.
pub(super) fn merge(record: &mut Record, body: Record) {
    for (key, value) in body {
        match value {
            Value::Null => record.remove(&key),
            value => record.insert(key, value),
        };
    }
}

/// Blocks.
fn hashed(password: &Secret) -> Result<String> {
    if password.expose().is_empty() || password.expose().contains(['\r', '\n']) {
        return Err(bad("a password is one line that is not empty"));
    }
    password::hash(password).map_err(bad)
}

pub(super) fn moment(seconds: u64) -> String {
    timestamp(UNIX_EPOCH + Duration::from_secs(seconds))
}
