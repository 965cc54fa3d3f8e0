//! Accounts and groups outside the file: a record is the table of a user or a group, as JSON.
//!
//! There is one definition of what an account is, and this reads it from another place: the same keys, the
//! same checks, the same inheritance from groups. What differs: the name stands beside the record, a key
//! that nobody knows is a fault, a date is text, relative paths begin in the data folder, and keys stand in
//! the record itself (`keys_file` is refused). A record may be an entry of a directory's account (`directory`): what this
//! server keeps for it, but for its password.
//!
//! Deliberately absent: where records are kept (`crate::accounts`).

use std::collections::HashSet;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use session_core::auth::Method;

use super::fault::nearest;
use super::{Config, Folder, Group, KEYS, Store, User, far_path, folders, groups, s3};

/// The keys of a user or a group, without its name.
pub type Record = Map<String, Value>;

/// The largest record, bytes of JSON.
const MOST: usize = 64 << 10;

/// Keys whose values are not repeated.
pub const SECRET_KEYS: [&str; 6] = ["access_keys", "digest", "password", "tokens", "totp", "recovery"];

impl Config {
    /// The account that `record` means at this site, with what its groups have, checked and completed as one
    /// of the file; `stored` finds a group that the file does not have. Err: every fault, in words.
    pub fn account(
        &self,
        name: &str,
        record: &Record,
        stored: &dyn Fn(&str) -> Option<Group>,
    ) -> Result<User, Vec<String>> {
        if record.contains_key("keys_file") {
            return Err(vec!["keys_file: keys stand in the record itself: keys = [\"…\"]".into()]);
        }
        let (record, directory) = self.entry_of(record).map_err(|words| vec![words])?;
        let record = &record;
        let mut user: User = read(name, record).map_err(|words| vec![words])?;
        user.directory = directory;
        let declared = |name: &str| self.groups.iter().find(|g| g.name == name).cloned();
        let has: HashSet<String> = record.keys().cloned().collect();
        let given = groups::give_all(&mut user, has, &|name| declared(name).or_else(|| stored(name)));
        folders::add(&self.folders, &mut user);
        let mut faults: Vec<String> =
            given.err().map(|words| format!("groups: {words}")).into_iter().collect();
        let wrong = check_user(&user).into_iter().chain(self.check_gateway(&user));
        faults.extend(wrong.map(|(key, words)| format!("{key}: {words}")));
        faults.extend(self.check_folders(&user).into_iter().map(|words| format!("folders: {words}")));
        if self.one_of_several && !user.certificate_names.is_empty() {
            // Which doors lead to a site is decided by the file alone (`names_are_worth_the_same`).
            let words = "certificate_names: where there are several sites, these stand in the file";
            faults.push(words.into());
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        complete_user(&mut user, &self.data, &self.data);
        Ok(user)
    }
}

impl Config {
    /// A record without the name of the directory that it is an entry of. Err: what is wrong with that.
    fn entry_of(&self, record: &Record) -> Result<(Record, Option<String>), String> {
        let mut record = record.clone();
        let Some(named) = record.remove("directory") else { return Ok((record, None)) };
        let name = named.as_str().ok_or("directory: this is no text")?;
        if !self.directories.iter().any(|d| d.name == name) {
            return Err(format!("directory: there is no directory '{name}'"));
        }
        let theirs = ["password", "digest", "certificates", "certificate_names"];
        match theirs.into_iter().find(|key| record.contains_key(*key)) {
            Some(key) => Err(format!("{key}: not of an account of a directory, which judges its password")),
            None => Ok((record, Some(name.to_owned()))),
        }
    }

    /// Faults of an account whose home is on a gateway: the key, and the words.
    pub(super) fn check_gateway(&self, user: &User) -> Vec<(&'static str, String)> {
        let Some(gateway) = &user.gateway else { return Vec::new() };
        let mut faults = Vec::new();
        if !self.gateways.iter().any(|g| g.name == *gateway) {
            faults.push(("gateway", format!("there is no gateway '{gateway}'")));
        }
        if !user.quota.is_none() {
            faults.push(("quota", "what a gateway holds is not counted".into()));
        }
        if user.store != Store::Local {
            faults.push(("store", "what a gateway holds is not held here".into()));
        }
        if let Err(words) = far_path(&user.home, &user.name) {
            faults.push(("gateway", format!("'home' is a path below the gateway's: {words}")));
        }
        faults
    }

    /// Faults of the folders of an account that is not in the file; those of the file are told with their
    /// lines (`super::folders`).
    fn check_folders(&self, user: &User) -> Vec<String> {
        let fault = |folder: &Folder| {
            if folder.path.is_root() {
                return Some("a folder is mounted below the root; what is at the root is 'home'".to_string());
            }
            if folder.folder.as_os_str().is_empty() {
                return Some(format!("what is mounted at '{}' is said by 'folder'", folder.path));
            }
            let gateway = folder.gateway.as_ref()?;
            if !self.gateways.iter().any(|g| g.name == *gateway) {
                return Some(format!("there is no gateway '{gateway}'"));
            }
            if !folder.quota.is_none() {
                return Some("what a gateway holds is not counted".into());
            }
            far_path(&folder.folder, &user.name).err()
        };
        user.folders.iter().filter_map(fault).collect()
    }
}

/// The group that `record` means. Err: what is wrong, in words.
pub fn group(name: &str, record: &Record) -> Result<Group, String> {
    read(name, record)
}

pub(super) fn read<T: DeserializeOwned>(name: &str, record: &Record) -> Result<T, String> {
    if serde_json::to_vec(record).map_or(true, |text| text.len() > MOST) {
        return Err(format!("a record has at most {MOST} bytes"));
    }
    if record.contains_key("name") {
        return Err("name: stands beside the record, not in it".into());
    }
    let plain = |v: &Value| v.is_string() || v.as_array().is_some_and(|a| a.iter().all(Value::is_string));
    let texts = |v: &Value| v.as_object().is_some_and(|o| o.values().all(Value::is_string));
    let fits = |k: &str, v: &Value| match k {
        "access_keys" | "tokens" => v.as_array().is_some_and(|a| a.iter().all(texts)),
        _ => plain(v),
    };
    if let Some((key, _)) = record.iter().find(|(k, v)| SECRET_KEYS.contains(&k.as_str()) && !fits(k, v)) {
        return Err(format!("{key}: this is no text"));
    }
    let mut unknown = Vec::new();
    let whole = serde_ignored::deserialize(table(name, record), |path| unknown.push(path.to_string()));
    if let Some(key) = unknown.first() {
        let hint = nearest(key, KEYS).map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default();
        return Err(format!("the key '{key}' is not known{hint}"));
    }
    whole.map_err(|e: toml::de::Error| {
        // Keys are read each for itself, so that each alone tells which one it is.
        let alone = |(key, value): (&String, &Value)| {
            let one = Record::from_iter([(key.clone(), value.clone())]);
            let e = T::deserialize(table(name, &one)).err()?;
            Some(format!("{key}: {}", e.message()))
        };
        record.iter().find_map(alone).unwrap_or_else(|| e.message().to_string())
    })
}

pub(super) fn table(name: &str, record: &Record) -> toml::Value {
    let mut table = toml::Table::new();
    table.insert("name".into(), toml::Value::String(name.into()));
    for (key, value) in record {
        let value = match (key.as_str(), value.as_str().map(str::parse)) {
            // JSON has no dates.
            ("expires", Some(Ok(date))) => Some(toml::Value::Datetime(date)),
            _ => to_toml(value),
        };
        if let Some(value) = value {
            table.insert(key.clone(), value);
        }
    }
    toml::Value::Table(table)
}

fn to_toml(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(b) => toml::Value::Boolean(*b),
        Value::Number(n) => match n.as_i64() {
            Some(n) => toml::Value::Integer(n),
            None => toml::Value::Float(n.as_f64()?),
        },
        Value::String(s) => toml::Value::String(s.clone()),
        Value::Array(a) => toml::Value::Array(a.iter().filter_map(to_toml).collect()),
        Value::Object(o) => {
            toml::Value::Table(o.iter().filter_map(|(k, v)| Some((k.clone(), to_toml(v)?))).collect())
        }
    })
}

/// Faults between the values of one account: the key, and the words.
pub(super) fn check_user(user: &User) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let name = &user.name;
    if let Err(words) = groups::start_of(user) {
        faults.push(("start", words));
    }
    if user.totp.is_none() && !user.recovery.is_empty() {
        faults.push(("recovery", format!("'{name}' has no one-time codes that these could stand for")));
    }
    faults.extend(s3::check_keys(&user.access_keys).into_iter().map(|words| ("access_keys", words)));
    for (n, token) in user.tokens.iter().enumerate() {
        if user.tokens.iter().take(n).any(|t| t.id == token.id) {
            faults.push(("tokens", format!("the token '{}' is there twice", token.id)));
        }
    }
    for (n, method) in user.require.iter().enumerate() {
        let mut wrong = |words: String| faults.push(("require", words));
        if user.require.iter().take(n).any(|m| m == method) {
            wrong(format!("{} is required twice", method.name()));
        }
        // What a directory has of it is known once it is asked.
        let is_here = user.directory.is_none();
        if *method == Method::PublicKey && !user.has_key() && is_here {
            wrong(format!("'{name}' must show a key and has none"));
        }
        let codes = user.totp.is_some() && !user.require.contains(&Method::Interactive);
        if codes && n == 0 {
            wrong(format!("the codes of '{name}' need keyboard-interactive here"));
        }
        if *method == Method::Password && user.password.is_none() && !user.takes_any_password() && is_here {
            wrong(format!("'{name}' must give a password and has none"));
        }
    }
    faults
}

/// Fills in the paths: relative ones begin at `base`, the home that is not named is below `data`.
pub(super) fn complete_user(user: &mut User, data: &Path, base: &Path) {
    let join = |path: &Path| base.join(path).components().collect();
    user.home = if user.gateway.is_some() {
        groups::with_name(&user.home.to_string_lossy(), &user.name).into()
    } else if user.home.as_os_str().is_empty() {
        data.join("homes").join(&user.name)
    } else {
        // The name was found to be one plain segment: it cannot lead elsewhere.
        join(Path::new(&groups::with_name(&user.home.to_string_lossy(), &user.name)))
    };
    user.keys_file = user.keys_file.take().map(|f| join(&f));
    for name in &mut user.certificate_names {
        *name = groups::with_name(name, &user.name);
    }
    for folder in &mut user.folders {
        let named = groups::with_name(&folder.folder.to_string_lossy(), &user.name);
        folder.folder = match folder.gateway {
            Some(_) => named.into(),
            None => join(Path::new(&named)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use session_core::path::VPath;

    fn record(value: Value) -> Record {
        value.as_object().unwrap().clone()
    }

    fn file() -> Config {
        let text = "[[groups]]\nname = \"staff\"\nhome = \"staff/%u\"\nread_only = true\n\
                    [[users]]\nname = \"x\"\ngroups = [\"staff\"]\n";
        Config::parse(text, Path::new("/etc/ferry/ferryd.toml"), &|_| None).unwrap().0
    }

    #[test]
    fn a_record_is_the_table_of_the_file() {
        let stored = |name: &str| {
            let more = match name {
                "fast" => json!({ "groups": ["all"], "read_only": false }),
                "all" => json!({ "speed_limit": 7, "groups": ["staff"] }),
                _ => json!({ "groups": ["round"] }),
            };
            (name != "none").then(|| group(name, &record(more)).unwrap())
        };
        let of = json!({
            "groups": ["staff", "fast"], "expires": "2030-12-31", "hours": ["mon-fri 08:00-18:00"],
            "permissions": { "/in": ["put"] }, "custom": { "a": "b" }, "addresses": ["10.0.0.0/8"],
        });
        let user = file().account("bob", &record(of), &stored).unwrap();
        assert_eq!(user.home, Path::new("/etc/ferry/staff/bob"), "a path of the file");
        assert!(user.read_only && user.speed_limit == 7 && user.expires.is_some() && user.enabled);
        assert_eq!(user.permissions[0].path, VPath::absolute("/in").unwrap());
        let plain = file().account("eve", &Record::new(), &stored).unwrap();
        assert_eq!(plain.home, Path::new("/etc/ferry/data/homes/eve"));
        let round = file().account("eve", &record(json!({ "groups": ["fast", "round"] })), &stored);
        assert_eq!(round.unwrap_err(), ["groups: the group 'round' is in itself, by round"]);
        let own = file().account("eve", &record(json!({ "home": "x/%u" })), &stored).unwrap();
        assert_eq!(own.home, Path::new("/etc/ferry/data/x/eve"));
    }

    #[test]
    fn faults_name_their_key_and_repeat_no_secret() {
        for (value, words) in [
            (json!({ "hme": "/x" }), "'hme' is not known (did you mean 'home'?)"),
            (json!({ "home": 7 }), "home: "),
            (json!({ "permissions": { "/": "rite" } }), "permissions: 'rite' is not a permission"),
            (json!({ "groups": ["none"] }), "groups: there is no group 'none'"),
            (json!({ "require": ["publickey"] }), "require: 'bob' must show a key and has none"),
            (json!({ "password": "hunter2" }), "password: this is no password hash"),
            (json!({ "password": 1234567 }), "password: this is no text"),
            (json!({ "directory": "none" }), "directory: there is no directory 'none'"),
            (json!({ "keys_file": "k" }), "keys_file: keys stand in the record itself"),
            (json!({ "name": "other" }), "name: stands beside"),
            (json!({ "expires": "tomorrow" }), "expires: "),
            (json!({ "start": "../x" }), "start: "),
            (json!({ "gateway": "none", "home": "/h" }), "gateway: there is no gateway 'none'"),
            (
                json!({ "folders": [{ "path": "/", "folder": "/x" }] }),
                "folders: a folder is mounted below the root",
            ),
            (
                json!({ "folders": [{ "path": "/f" }] }),
                "folders: what is mounted at '/f' is said by 'folder'",
            ),
            (json!({ "custom": { "a": "x".repeat(MOST) } }), "a record has at most"),
        ] {
            let faults = file().account("bob", &record(value.clone()), &|_| None).unwrap_err().join("\n");
            assert!(faults.contains(words), "{value}: {faults}");
            assert!(!faults.contains("hunter2") && !faults.contains("1234567"), "{faults}");
        }
        assert!(file().account("a/b", &Record::new(), &|_| None).is_err(), "no name");
        assert!(group("g", &record(json!({ "password": "x" }))).unwrap_err().contains("not known"));
    }
}
