//! `[[users]]`: an account, as its table says it. What it has of its groups is put in by `groups`, what is wrong in
//! it is found by `records`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::Deserialize;
use session_core::auth::Method;
use session_core::path::VPath;
use session_core::policy::{Filter, PermissionSet, Rule};
use session_core::session::Protocol;

use super::{AccessKey, Folder, Quota, Speed, Store, Transfer, groups, values};
use crate::users::digest::DigestKey;
use crate::users::hours::Window;
use crate::users::keys::PublicKey;
use crate::users::password::PasswordHash;
use crate::users::token::UserToken;
use crate::users::totp::TotpKey;

/// An account.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct User {
    /// Its name: one plain path segment.
    #[serde(deserialize_with = "values::user_name")]
    pub name: String,
    /// The directory that judges its password, of which it is an entry here; never read from a file.
    #[serde(skip)]
    pub directory: Option<String>,
    /// The hash of its password.
    #[serde(default, deserialize_with = "values::hash")]
    pub password: Option<PasswordHash>,
    /// Its public keys.
    #[serde(default, deserialize_with = "values::keys")]
    pub keys: Vec<PublicKey>,
    /// A file with more of them, read with the directory.
    #[serde(default)]
    pub keys_file: Option<PathBuf>,
    /// Whose certificates are taken.
    #[serde(default, deserialize_with = "values::keys")]
    pub authorities: Vec<PublicKey>,
    /// Names in certificates that are taken besides its own.
    #[serde(default)]
    pub principals: Vec<String>,
    /// SHA-256 of the certificates of TLS that log it in, in pairs of digits with colons.
    #[serde(default, deserialize_with = "values::certificates")]
    pub certificates: Vec<String>,
    /// Names in certificates of TLS that log it in, whatever the certificate.
    #[serde(default, deserialize_with = "values::certificate_names")]
    pub certificate_names: Vec<String>,
    /// What programs sign their requests with (S3); enough by itself, whatever `require` says.
    #[serde(default)]
    pub access_keys: Vec<AccessKey>,
    /// Tokens that programs show as they are (WebDAV); each enough by itself, whatever `require` says.
    #[serde(default)]
    pub tokens: Vec<UserToken>,
    /// What answers to Digest are verified by.
    #[serde(default, deserialize_with = "values::digest")]
    pub digest: Vec<DigestKey>,
    /// The factors that are needed, in turn; empty: any one.
    #[serde(default, deserialize_with = "values::methods")]
    pub require: Vec<Method>,
    /// Where its files are; never empty once loaded.
    #[serde(default)]
    pub home: PathBuf,
    /// On which gateway that is; on this machine without one.
    #[serde(default)]
    pub gateway: Option<String>,
    /// What holds them.
    #[serde(default)]
    pub store: Store,
    /// Other places in its tree; once loaded, with those of its groups and of the site.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// What its home may hold.
    #[serde(default)]
    pub quota: Quota,
    /// What its home and those of others may hold together, by group; never read from its table.
    #[serde(skip)]
    pub total_quotas: Vec<(String, Quota)>,
    /// From where it may log in; empty: from anywhere.
    #[serde(default, deserialize_with = "values::networks")]
    pub addresses: Vec<IpNet>,
    /// Whether it may log in.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The secret of its one-time codes, which are a factor of their own then.
    #[serde(default, deserialize_with = "values::totp")]
    pub totp: Option<TotpKey>,
    /// Hashes of codes that are good once each, in place of one by the clock.
    #[serde(default, deserialize_with = "values::recovery")]
    pub recovery: Vec<String>,
    /// Until when it may be used.
    #[serde(default, deserialize_with = "values::moment")]
    pub expires: Option<SystemTime>,
    /// At what times of the week; empty: at any.
    #[serde(default, deserialize_with = "values::hours")]
    pub hours: Vec<Window>,
    /// Over which protocols; empty: over any.
    #[serde(default, deserialize_with = "values::protocols")]
    pub protocols: Vec<Protocol>,
    /// Its sessions at once, besides the limits of the site; 0 for no limit.
    #[serde(default)]
    pub sessions: usize,
    /// Where relative paths begin.
    #[serde(default = "root")]
    pub start: String,
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Several people use it.
    #[serde(default)]
    pub shared: bool,
    /// Anybody may be it.
    #[serde(default)]
    pub anonymous: bool,
    /// It changes nothing.
    #[serde(default)]
    pub read_only: bool,
    /// Bytes per second over all of its sessions; 0 for no limit.
    #[serde(default)]
    pub speed_limit: u64,
    /// Of them to the server.
    #[serde(default)]
    pub upload_limit: u64,
    /// Of them from the server.
    #[serde(default)]
    pub download_limit: u64,
    /// How much it may move in a period.
    #[serde(default)]
    pub transfer: Transfer,
    /// How much it and others may move together, by group; never read from its table.
    #[serde(skip)]
    pub total_transfers: Vec<(String, Transfer)>,
    /// What it may do.
    #[serde(default = "full", deserialize_with = "values::permissions")]
    pub permissions: Vec<Rule>,
    /// Names that it may use.
    #[serde(default, deserialize_with = "values::filters")]
    pub filters: Vec<Filter>,
    /// Free values for hooks.
    #[serde(default)]
    pub custom: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

fn root() -> String {
    "/".into()
}

pub(super) fn full() -> Vec<Rule> {
    vec![Rule { path: VPath::root(), allow: PermissionSet::full() }]
}

impl User {
    /// Where its relative paths begin.
    pub fn start(&self) -> VPath {
        groups::start_of(self).unwrap_or_else(|_| VPath::root())
    }

    /// How fast its content moves.
    pub fn speed(&self) -> Speed {
        Speed { both: self.speed_limit, download: self.download_limit, upload: self.upload_limit }
    }

    /// Whether any password will do: an anonymous account with nothing to prove.
    pub fn takes_any_password(&self) -> bool {
        self.anonymous && self.password.is_none() && !self.has_key()
    }

    /// Whether it has something to prove with a key: one of SSH, or a certificate of either kind.
    pub fn has_key(&self) -> bool {
        !self.keys.is_empty()
            || self.keys_file.is_some()
            || !self.authorities.is_empty()
            || self.takes_certificates()
    }
}
