//! What is shown of accounts: nothing that is secret.

use serde_json::{Value, json};
use session_core::event::timestamp;

use crate::config::{Record, SECRET_KEYS, Store, User};

/// A record without what is secret.
pub(super) fn redacted(record: &Record) -> Record {
    let hide = |(key, value): (&String, &Value)| {
        let secret = SECRET_KEYS.contains(&key.as_str());
        let shown = match key.as_str() {
            "access_keys" | "tokens" => ids(value),
            _ if secret => "set".into(),
            _ => value.clone(),
        };
        (key.clone(), shown)
    };
    record.iter().map(hide).collect()
}

/// What access keys and tokens are known by.
fn ids(keys: &Value) -> Value {
    keys.as_array().into_iter().flatten().filter_map(|key| key.get("id")).cloned().collect()
}

/// What an account comes to, with what its groups have.
pub(super) fn show_user(site: &str, user: &User, source: &str) -> Value {
    json!({
        "name": user.name,
        "site": site,
        "source": source,
        "directory": user.directory,
        "enabled": user.enabled,
        "groups": user.groups,
        "home": user.home.display().to_string(),
        "store": match user.store { Store::Local => "local", Store::Memory => "memory" },
        "start": user.start().to_string(),
        "password": user.password.is_some(),
        "keys": user.keys.len() + usize::from(user.keys_file.is_some()),
        "authorities": user.authorities.len(),
        "accessKeys": user.access_keys.iter().map(|k| k.id.as_str()).collect::<Vec<_>>(),
        "tokens": user.tokens.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(),
        "digest": !user.digest.is_empty(),
        "totp": user.totp.is_some(),
        "recoveryCodes": user.recovery.len(),
        "require": user.require.iter().map(|m| m.name()).collect::<Vec<_>>(),
        "addresses": user.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "protocols": user.protocols.iter().map(|p| p.name()).collect::<Vec<_>>(),
        "expires": user.expires.map(timestamp),
        "sessions": user.sessions,
        "readOnly": user.read_only,
        "shared": user.shared,
        "anonymous": user.anonymous,
        "speedLimit": user.speed_limit, "uploadLimit": user.upload_limit, "downloadLimit": user.download_limit,
        "custom": user.custom,
    })
}
