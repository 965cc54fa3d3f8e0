//! Sites outside the file: a record is the table of one of `[[sites]]`, as JSON.
//!
//! There is one definition of what a site is, and this reads it from another place, as `super::records` does with
//! accounts: the same keys, the same checks, the same tables of the file where it has none of its own. What differs:
//! the name stands beside the record, a key that nobody knows is a fault, relative paths begin in the site's own data
//! folder (`sites/NAME`), and its users and groups are not in it: they are in the database too, each for itself.
//!
//! Deliberately absent: where records are kept (`crate::accounts`), what becomes of faults.

use std::fmt;

use super::fault::{Fault, Source, Step};
use super::sites::{DOORS, NOBODY, is_reached};
use super::{Config, Record, SiteTable, records};

/// What is wrong with a site of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFault {
    /// Its name.
    pub site: String,
    /// What is wrong, all of it.
    pub words: String,
    /// The file has a site of this name.
    pub double: bool,
}

impl fmt::Display for SiteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the site '{}' of the database: {}", self.site, self.words)
    }
}

impl Config {
    /// This file with these sites of the database, in place of those that it had; beside it, what is wrong with
    /// those that were left out.
    pub fn with_stored<'a>(
        &self,
        stored: impl Iterator<Item = (&'a str, &'a Record)>,
    ) -> (Config, Vec<SiteFault>) {
        let mut config = Config { stored: Vec::new(), ..self.clone() };
        let mut wrong = Vec::new();
        for (name, record) in stored {
            match config.stored_site(name, record) {
                Ok(site) => config.stored.push(site),
                Err(fault) => wrong.push(fault),
            }
        }
        (config, wrong)
    }

    /// The site that `record` means beside those that are here, checked and completed as one of the file.
    fn stored_site(&self, name: &str, record: &Record) -> Result<SiteTable, SiteFault> {
        let others = self.each_site();
        let fault = |words: String| SiteFault { site: name.into(), words, double: false };
        if let Some(other) = self.stored.iter().find(|o| o.name.eq_ignore_ascii_case(name)) {
            return Err(fault(format!("there is another site '{}'", other.name)));
        }
        if others.iter().any(|o| o.site.eq_ignore_ascii_case(name)) {
            let words = "the configuration file has a site of this name".into();
            return Err(SiteFault { double: true, ..fault(words) });
        }
        for (key, command) in [("users", "user"), ("groups", "group")] {
            if record.contains_key(key) {
                return Err(fault(format!(
                    "{key}: these are made each for itself: ferryd {command} add NAME --site {name}"
                )));
            }
        }
        let mut site: SiteTable = records::read(name, record).map_err(fault)?;
        let text = toml::to_string(&records::table(name, record)).map_err(|e| fault(e.to_string()))?;
        let source = Source::unseen(&text);
        let own = site.config(self);
        // Tables that it does not have are defaults there, and without fault.
        let mut faults = site.config(&Config::default()).check_tables(&source);
        faults.extend(own.check_own(&source));
        faults.extend(beside(&own, &others, &source));
        if !faults.is_empty() {
            let told: Vec<_> = faults.into_iter().map(words).collect();
            return Err(fault(told.join("; ")));
        }
        let base = own.data.clone();
        let mut own = own;
        own.complete_site(&base);
        site.take(own);
        Ok(site)
    }

    /// Whether one of its sites is reached by nobody, in words.
    pub fn unreached(&self, site: &str) -> Option<String> {
        let all = self.each_site();
        let alone = all.iter().find(|s| s.site == site).is_some_and(|s| !is_reached(s, &all));
        alone.then(|| format!("{NOBODY}: {DOORS}"))
    }
}

/// Without the file, which is none.
fn words(fault: Fault) -> String {
    match fault.hint {
        Some(hint) => format!("{} ({hint})", fault.words),
        None => fault.words,
    }
}

/// Faults of a site beside others.
fn beside(site: &Config, others: &[Config], source: &Source<'_>) -> Vec<Fault> {
    let key = |k: &str| Step::Key(k.into());
    let mut faults = Vec::new();
    for (n, host) in site.hosts.iter().enumerate() {
        if others.iter().any(|o| o.hosts.contains(host) || o.site.eq_ignore_ascii_case(host)) {
            let words = format!("'{host}' is the name of another site already");
            faults.push(source.fault_at(&[key("hosts"), Step::Index(n)], words));
        }
    }
    if let Some(other) = others.iter().find(|o| o.hosts.iter().any(|h| h.eq_ignore_ascii_case(&site.site))) {
        let words = format!("'{}' is a name of the site '{}' already", site.site, other.site);
        faults.push(source.fault_at(&[key("name")], words));
    }
    for (n, listener) in site.listeners.iter().enumerate().filter(|(_, l)| l.port != 0) {
        let same = |l: &super::Listener| (l.address, l.port) == (listener.address, listener.port);
        if let Some(other) = others.iter().find(|o| o.listeners.iter().any(same)) {
            let words = format!(
                "the site '{}' listens there; a port has one site, others are found by name",
                other.site
            );
            faults.push(source.fault_at(&[key("listeners"), Step::Index(n)], words));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn file(text: &str) -> Config {
        Config::parse(text, Path::new("/etc/ferry/ferryd.toml"), &|_| None).unwrap().0
    }

    fn with(file: &Config, sites: &[(&str, Value)]) -> (Config, Vec<SiteFault>) {
        let sites: Vec<_> = sites.iter().map(|(n, v)| (*n, v.as_object().unwrap().clone())).collect();
        file.with_stored(sites.iter().map(|(n, r)| (*n, r)))
    }

    #[test]
    fn a_file_of_one_site_gets_others_and_stays_where_it_is() {
        let file = file("host_keys = [\"key\"]\n[limits]\nsessions = 9\n[[users]]\nname = \"a\"\n");
        let shop = json!({
            "hosts": ["Shop.Example"], "listeners": [{ "protocol": "sftp", "port": 2222 }],
            "webdav": { "realm": "shop" }, "host_keys": ["own"], "folders": [{ "path": "/f", "folder": "f" }],
        });
        let (config, wrong) = with(&file, &[("shop", shop.clone())]);
        assert_eq!(wrong, []);
        let [one, two] = <[Config; 2]>::try_from(config.each_site()).unwrap();
        assert_eq!((one.site.as_str(), one.data.as_path()), ("ferry", Path::new("/etc/ferry/data")));
        assert!(one.one_of_several && !one.apart && one.users.len() == 1);
        let data = Path::new("/etc/ferry/data/sites/shop");
        assert!(two.one_of_several && two.apart && two.data == data && two.users.is_empty());
        assert_eq!(
            (two.hosts, two.limits.sessions, two.webdav.realm.as_str()),
            (vec!["shop.example".to_string()], 9, "shop")
        );
        assert_eq!((two.host_keys, one.host_keys), (vec![data.join("own")], vec!["/etc/ferry/key".into()]));
        assert_eq!(two.folders[0].folder, data.join("f"));
        // Once more it is the same, and without it the file is what it was.
        assert_eq!(with(&config, &[("shop", shop)]).0, config);
        assert_eq!(with(&config, &[]).0, file);
    }

    #[test]
    fn faults_name_the_site_and_the_key() {
        let file = file(
            "[[sites]]\nname = \"main\"\nhosts = [\"ftp.example\", \"front\"]\nlisteners = [{ port = 2022 }]\n",
        );
        for (name, record, words) in [
            ("Main", json!({}), "the configuration file has a site of this name"),
            ("front", json!({}), "name: 'front' is a name of the site 'main' already"),
            ("a/b", json!({}), "a site's name is"),
            (
                "x",
                json!({ "users": [] }),
                "users: these are made each for itself: ferryd user add NAME --site x",
            ),
            ("x", json!({ "listners": [] }), "the key 'listners' is not known (did you mean 'listeners'?)"),
            ("x", json!({ "sites": [] }), "the key 'sites' is not known"),
            ("x", json!({ "listeners": [{}] }), "listeners[0]: the site 'main' listens there"),
            ("x", json!({ "hosts": ["ftp.example"] }), "hosts[0]: 'ftp.example' is the name of another site"),
            ("x", json!({ "limits": { "tries": 0 } }), "limits.tries: there is at least one try"),
            ("x", json!({ "limits": { "sessions": "many" } }), "limits: "),
            ("x", json!({ "hooks": [{ "event": "None", "file": "x.js" }] }), "hooks[0].event: "),
            (
                "x",
                json!({ "folders": [{ "path": "/", "folder": "f" }] }),
                "folders[0].path: a folder is mounted below",
            ),
        ] {
            let (config, wrong) = with(&file, &[(name, record)]);
            assert!(config.stored.is_empty() && wrong.len() == 1, "{words}: {wrong:?}");
            assert!(
                wrong[0].words.starts_with(words) || wrong[0].words.contains(words),
                "{words}: {}",
                wrong[0]
            );
            assert_eq!(wrong[0].double, name == "Main");
        }
        // Of two that exclude each other the first one is there.
        let (config, wrong) = with(
            &file,
            &[("a", json!({ "listeners": [{ "port": 1 }] })), ("b", json!({ "listeners": [{ "port": 1 }] }))],
        );
        assert_eq!((config.stored.len(), wrong.len(), wrong[0].site.as_str()), (1, 1, "b"));
        assert!(config.unreached("a").is_none());
        assert!(with(&file, &[("z", json!({}))]).0.unreached("z").unwrap().contains("nobody can reach"));
    }
}
