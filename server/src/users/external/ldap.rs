//! Servers of LDAP (RFC 4511): an account logs in by its whole name, which a pattern makes or a search finds.
//!
//! What a client types is escaped wherever it goes (RFC 4514, 4515). A search must find exactly one. Groups are read
//! as whoever may: the reader where there is one, else the account itself; so are public keys. Who shows a key is
//! searched for, and nothing but the search says whether the account is good still: what is locked the filter leaves
//! out. `ldap:` turns to TLS before anything is said. A connection serves one question. Not here: referrals.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::Uri;
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions, dn_escape,
    ldap_escape, parse_filter,
};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::{ClientTls, ClientTlsOptions};
use session_core::script::Secrets;

use super::{About, Found, Vouch, Word};
use crate::config::{DirectoryTable, Record};
use crate::hooks::secret_named;
use crate::users::keys::PublicKey;

/// Groups of one account that are looked at.
const GROUPS: i32 = 1000;

/// Keys of one account that are looked at.
const KEYS: usize = 64;

/// No such object, and wrong credentials.
const NOBODY: [u32; 2] = [32, 49];

/// The search found more than it was asked for.
const MORE: u32 = 4;

pub(super) struct Server {
    table: DirectoryTable,
    reader: Option<(String, Secret)>,
    host: String,
    port: u16,
}

/// Whether a filter can be read, with its marks filled in.
pub(crate) fn is_filter(filter: &str) -> bool {
    parse_filter(filled(filter, "u", "cn=u")).is_ok()
}

/// A filter with the name that was typed and the account's whole name in it.
fn filled(pattern: &str, user: &str, dn: &str) -> String {
    fill(pattern, |mark| match mark {
        'u' => Some(ldap_escape(user).into_owned()),
        'd' => Some(ldap_escape(dn).into_owned()),
        _ => None,
    })
}

/// In one pass: what is filled in is not looked at again.
fn fill(pattern: &str, of: impl Fn(char) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let mark = after.chars().next();
        match mark.and_then(&of) {
            Some(text) => {
                out.push_str(&text);
                rest = after.get(mark.map_or(0, char::len_utf8)..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out + rest
}

fn failed(e: LdapError) -> Error {
    Error::new(ErrorKind::Disconnected)
        .with_detail("the directory did not answer as it should")
        .with_source(e)
}

fn said(what: &str, code: u32) -> Error {
    Error::new(ErrorKind::Refused).with_detail(format!("the directory refuses {what} (code {code})"))
}

impl Server {
    /// Errors: `InvalidArgument` for a secret that is missing.
    pub(super) fn new(table: &DirectoryTable, secrets: &Secrets) -> Result<Self> {
        let who = format!("the directory '{}'", table.name);
        let reader = match (&table.reader, &table.password_secret) {
            (Some(reader), Some(name)) => Some((reader.clone(), secret_named(secrets, name, &who)?)),
            _ => None,
        };
        let uri: Uri = table.url.parse().map_err(|_| ErrorKind::InvalidArgument)?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if table.scheme() == "ldaps" { 636 } else { 389 });
        Ok(Server { table: table.clone(), reader, host, port })
    }

    async fn connect(&self) -> Result<Ldap> {
        let table = &self.table;
        let mut settings = LdapConnSettings::new().set_conn_timeout(table.time);
        if table.scheme() == "ldaps" || !table.allow_clear {
            let (host, port) = (self.host.clone(), self.port);
            let authorities: Vec<PathBuf> = table.authorities.iter().cloned().collect();
            // Reads the system's authorities from disk.
            let tls = tokio::task::spawn_blocking(move || {
                ClientTls::new(&host, port, &ClientTlsOptions { authorities, ..ClientTlsOptions::default() })
            });
            let tls = tls.await.map_err(|_| ErrorKind::Internal)??;
            settings = settings.set_config(Arc::new(tls.config())).set_starttls(table.scheme() == "ldap");
        }
        let (line, ldap) = LdapConnAsync::with_settings(settings, &table.url).await.map_err(failed)?;
        tokio::spawn(async move {
            // Its error is that of the question.
            let _ = line.drive().await;
        });
        Ok(ldap)
    }

    async fn log_in(&self, ldap: &mut Ldap, dn: &str, password: &Secret) -> Result<u32> {
        let told = ldap.with_timeout(self.table.time).simple_bind(dn, password.expose()).await;
        told.map(|r| r.rc).map_err(failed)
    }

    async fn log_in_reader(&self, ldap: &mut Ldap) -> Result<()> {
        let Some((dn, password)) = &self.reader else { return Ok(()) };
        match self.log_in(ldap, dn, password).await? {
            0 => Ok(()),
            code => Err(said("its reader", code)),
        }
    }

    async fn search(
        &self,
        ldap: &mut Ldap,
        base: &str,
        scope: Scope,
        filter: &str,
        (attribute, most): (&str, i32),
    ) -> Result<Vec<SearchEntry>> {
        let seconds =
            i32::try_from(self.table.time.max(Duration::from_secs(1)).as_secs()).unwrap_or(i32::MAX);
        ldap.with_search_options(SearchOptions::new().sizelimit(most).timelimit(seconds));
        ldap.with_timeout(self.table.time);
        let found = ldap.search(base, scope, filter, vec![attribute]).await.map_err(failed)?;
        match found.1.rc {
            0 | MORE => Ok(found.0.into_iter().map(SearchEntry::construct).collect()),
            code if NOBODY.contains(&code) => Ok(Vec::new()),
            code => Err(said("the search", code)),
        }
    }

    /// The account's whole name.
    async fn name_of(&self, ldap: &mut Ldap, user: &str) -> Result<Option<String>> {
        if let Some(pattern) = &self.table.bind {
            return Ok(Some(fill(pattern, |mark| (mark == 'u').then(|| dn_escape(user).into_owned()))));
        }
        self.searched(ldap, user).await
    }

    /// The same, found by a search.
    async fn searched(&self, ldap: &mut Ldap, user: &str) -> Result<Option<String>> {
        self.log_in_reader(ldap).await?;
        let filter = filled(&self.table.filter, user, "");
        let found = self.search(ldap, &self.table.base, Scope::Subtree, &filter, ("1.1", 2)).await?;
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.dn.clone())),
            _ => {
                tracing::warn!(directory = self.table.name, user, "a name is that of several accounts");
                Ok(None)
            }
        }
    }

    /// Their groups of an account, as names.
    async fn groups_of(&self, ldap: &mut Ldap, user: &str, dn: &str) -> Result<Vec<String>> {
        if self.table.group_base.is_none() && self.table.member_attribute.is_none() {
            return Ok(Vec::new());
        }
        self.log_in_reader(ldap).await?;
        let mut names = Vec::new();
        if let Some(attribute) = &self.table.member_attribute {
            let of = (attribute.as_str(), 1);
            let found = self.search(ldap, dn, Scope::Base, "(objectClass=*)", of).await?;
            names.extend(found.into_iter().flat_map(|e| values(e, attribute)));
        }
        if let Some(base) = &self.table.group_base {
            let filter = filled(&self.table.group_filter, user, dn);
            let attribute = &self.table.group_attribute;
            let of = (attribute.as_str(), GROUPS);
            for entry in self.search(ldap, base, Scope::Subtree, &filter, of).await? {
                names.push(entry.dn.clone());
                names.extend(values(entry, attribute));
            }
        }
        Ok(names)
    }

    /// The public keys of an account; values that are none are left out.
    async fn keys_of(&self, ldap: &mut Ldap, dn: &str) -> Result<Vec<String>> {
        let Some(attribute) = &self.table.key_attribute else { return Ok(Vec::new()) };
        self.log_in_reader(ldap).await?;
        let found = self.search(ldap, dn, Scope::Base, "(objectClass=*)", (attribute, 1)).await?;
        let mut keys: Vec<_> = found.into_iter().flat_map(|e| values(e, attribute)).collect();
        let all = keys.len();
        keys.retain(|line| PublicKey::parse(line.trim()).is_ok());
        keys.truncate(KEYS);
        if keys.len() < all {
            let (directory, left_out) = (&self.table.name, all - keys.len());
            tracing::debug!(directory, dn, left_out, "values that are no public keys, or too many of them");
        }
        Ok(keys)
    }

    /// What is known of an account; `None` for one that is in none of the groups.
    async fn record(&self, ldap: &mut Ldap, user: &str, dn: &str) -> Result<Option<Record>> {
        let theirs = self.groups_of(ldap, user, dn).await?;
        let keys = self.keys_of(ldap, dn).await?;
        let Some(groups) = self.ours(&theirs) else {
            tracing::info!(directory = self.table.name, user, "an account is in none of the groups");
            return Ok(None);
        };
        let mut record = Record::from_iter([("groups".to_owned(), groups.into())]);
        if !keys.is_empty() {
            record.insert("keys".to_owned(), keys.into());
        }
        Ok(Some(record))
    }

    /// The groups here; `None` where those over there are what counts, and none does.
    fn ours(&self, theirs: &[String]) -> Option<Vec<String>> {
        let mut groups = self.table.groups.clone();
        for (name, ours) in &self.table.group_map {
            if theirs.iter().any(|t| t.eq_ignore_ascii_case(name)) && !groups.contains(ours) {
                groups.push(ours.clone());
            }
        }
        let counts = !self.table.group_map.is_empty();
        if counts && groups.is_empty() { None } else { Some(groups) }
    }
}

/// The values of an attribute, whose name has no case.
fn values(entry: SearchEntry, attribute: &str) -> Vec<String> {
    let of = entry.attrs.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
    of.flat_map(|(_, values)| values).collect()
}

#[async_trait]
impl Vouch for Server {
    async fn ask(&self, user: &str, password: &Secret, _: About<'_>) -> Result<Word> {
        let mut ldap = self.connect().await?;
        let Some(dn) = self.name_of(&mut ldap, user).await? else { return Ok(Word::No) };
        match self.log_in(&mut ldap, &dn, password).await? {
            0 => {}
            code if NOBODY.contains(&code) => return Ok(Word::No),
            code => return Err(said("the login", code)),
        }
        let record = self.record(&mut ldap, user, &dn).await?;
        // It has told all that was asked for.
        let _ = ldap.unbind().await;
        Ok(record.into())
    }

    async fn find(&self, user: &str, _: Option<&str>, _: About<'_>) -> Result<Found> {
        if self.table.base.is_empty() {
            return Ok(Found::Silent);
        }
        let mut ldap = self.connect().await?;
        let Some(dn) = self.searched(&mut ldap, user).await? else { return Ok(Found::Nobody) };
        let record = self.record(&mut ldap, user, &dn).await?;
        let _ = ldap.unbind().await;
        Ok(record.map_or(Found::Nobody, Found::Is))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_stays_a_value() {
        assert_eq!(filled("(&(a=%u)(b=%d))", "x*)(c=%d", "cn=a(b)"), r"(&(a=x\2a\29\28c=%d)(b=cn=a\28b\29))");
        let dn = fill("uid=%u,dc=x", |m| (m == 'u').then(|| dn_escape("a,b=c+d").into_owned()));
        assert!(!dn.contains("a,b") && dn.ends_with(",dc=x"), "{dn}");
        assert_eq!(fill("100%, %x %", |_| None), "100%, %x %");
        assert!(
            is_filter("(&(objectClass=person)(uid=%u))") && !is_filter("(uid=%u") && !is_filter("(|(uid=%u)")
        );
    }
}
