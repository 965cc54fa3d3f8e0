//! `[[sites]]`: several sites in one server, each with what is its own.
//!
//! A file without `[[sites]]` is one site. With them, users, listeners and hooks stand in the sites; a table
//! that a site does not have (`tls`, `ftp`, `ssh`, `s3`, `webdav`, `limits`, `staging`, `fsync`, `host_keys`,
//! `protector`, `scan`, `directories`) is the file's.
//! The file's `limits` count for the whole server besides. What a site keeps is below `sites/NAME` in the
//! data folder, so that sites share nothing that nobody told them to share.
//!
//! A site is found by the port of its listeners; over FTP also by name, on the listeners of a site that asks
//! for no less protection ([`reaches`]). Deliberately absent: names over SSH, which has no word for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use session_core::history::HistoryBounds;

use super::certificates::names_are_worth_the_same;
use super::fault::{Fault, Source, Step};
use super::values;
use super::{
    Clients, Command, Config, Control, Data, DirectoryTable, Fsync, Ftp, Hook, Limits, Listener, Minimum,
    ProtectorSettings, S3, Scan, SpeedRule, Ssh, Staging, Tls, User, Webdav, Webhook,
};
use super::{Folder, Group, folders, gateways, groups};

/// A site among several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SiteTable {
    /// Its name.
    #[serde(deserialize_with = "values::site_name")]
    pub name: String,
    /// The names by which clients of FTP find it, besides its own.
    #[serde(default, deserialize_with = "values::hosts")]
    pub hosts: Vec<String>,
    /// Where its clients connect; none where it is found by name only.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Its own host keys.
    pub host_keys: Option<Vec<PathBuf>>,
    /// Its own TLS.
    pub tls: Option<Tls>,
    /// How it serves FTP.
    pub ftp: Option<Ftp>,
    /// How it serves SSH.
    pub ssh: Option<Ssh>,
    /// Its S3.
    pub s3: Option<S3>,
    /// Its WebDAV.
    pub webdav: Option<Webdav>,
    /// Its own limits; those of the file count for the server besides.
    pub limits: Option<Limits>,
    /// How fast content moves there.
    #[serde(default)]
    pub speeds: Vec<SpeedRule>,
    /// How its uploads appear.
    pub staging: Option<Staging>,
    /// When its content is forced to disk.
    pub fsync: Option<Fsync>,
    /// What keeps misbehaving clients out of it, with a block list of its own.
    pub protector: Option<ProtectorSettings>,
    /// Who looks at its uploads.
    pub scan: Option<Scan>,
    /// Who vouches for accounts there; an empty list for nobody.
    pub directories: Option<Vec<DirectoryTable>>,
    /// Virtual folders of each of its accounts.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// What several of its accounts have in common.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Its accounts.
    #[serde(default)]
    pub users: Vec<User>,
    /// Its handlers of events.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// URLs that are told of its events.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    /// Programs that are told of its events.
    #[serde(default)]
    pub commands: Vec<Command>,
}

/// What is remembered of sessions that are over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct History {
    /// At most so many.
    pub count: usize,
    /// For so long; zero for as long as there is room.
    #[serde(deserialize_with = "values::duration")]
    pub time: Duration,
}

impl Default for History {
    fn default() -> Self {
        let HistoryBounds { count, time } = HistoryBounds::default();
        History { count, time }
    }
}

impl History {
    /// As the live table takes it.
    pub fn bounds(&self) -> HistoryBounds {
        HistoryBounds { count: self.count, time: self.time }
    }
}

impl SiteTable {
    /// The configuration of this site alone, with what `file` has for all.
    pub(super) fn config(&self, file: &Config) -> Config {
        Config {
            site: self.name.clone(),
            hosts: self.hosts.clone(),
            sites: Vec::new(),
            stored: Vec::new(),
            one_of_several: true,
            apart: true,
            data: file.data.join("sites").join(&self.name),
            listeners: self.listeners.clone(),
            host_keys: self.host_keys.clone().unwrap_or_else(|| file.host_keys.clone()),
            tls: self.tls.clone().unwrap_or_else(|| file.tls.clone()),
            ftp: self.ftp.clone().unwrap_or_else(|| file.ftp.clone()),
            ssh: self.ssh.clone().unwrap_or_else(|| file.ssh.clone()),
            s3: self.s3.clone().unwrap_or_else(|| file.s3.clone()),
            webdav: self.webdav.clone().unwrap_or_else(|| file.webdav.clone()),
            limits: self.limits.clone().unwrap_or_else(|| file.limits.clone()),
            speeds: self.speeds.clone(),
            staging: self.staging.clone().unwrap_or_else(|| file.staging.clone()),
            fsync: self.fsync.unwrap_or(file.fsync),
            guards_itself: self.protector.is_some(),
            protector: self.protector.clone().unwrap_or_else(|| file.protector.clone()),
            scan: self.scan.clone().unwrap_or_else(|| file.scan.clone()),
            directories: self.directories.clone().unwrap_or_else(|| file.directories.clone()),
            folders: self.folders.clone(),
            groups: self.groups.clone(),
            users: self.users.clone(),
            hooks: self.hooks.clone(),
            webhooks: self.webhooks.clone(),
            commands: self.commands.clone(),
            // What the whole server has.
            ..file.clone()
        }
    }

    /// Takes over what was completed, for what it has of its own.
    pub(super) fn take(&mut self, config: Config) {
        fn own<T>(to: &mut Option<T>, value: T) {
            if to.is_some() {
                *to = Some(value);
            }
        }
        own(&mut self.host_keys, config.host_keys);
        own(&mut self.tls, config.tls);
        own(&mut self.scan, config.scan);
        own(&mut self.directories, config.directories);
        (self.groups, self.users, self.hooks) = (config.groups, config.users, config.hooks);
        self.folders = config.folders;
    }
}

impl Config {
    /// The configuration of each site: those of the file, then those of the database. A file without `[[sites]]`
    /// is one, which keeps what it has in the data folder itself.
    pub fn each_site(&self) -> Vec<Config> {
        let of_file = match self.sites.is_empty() {
            true => vec![self.alone()],
            false => self.sites.iter().map(|site| site.config(self)).collect(),
        };
        let stored = self.stored.iter().map(|site| site.config(self));
        let mut all: Vec<_> = of_file.into_iter().chain(stored).collect();
        let quarantines: Vec<_> = all.iter().map(|site| site.scan.quarantine.clone()).collect();
        all.iter_mut().for_each(|site| site.quarantines.clone_from(&quarantines));
        all
    }

    /// The file that is one site, as that site.
    fn alone(&self) -> Config {
        let one_of_several = self.one_of_several || !self.stored.is_empty();
        Config { stored: Vec::new(), one_of_several, ..self.clone() }
    }

    pub(super) fn complete_sites(&mut self, base: &Path) {
        let mut sites = std::mem::take(&mut self.sites);
        for site in &mut sites {
            let mut config = site.config(self);
            config.complete_site(base);
            site.take(config);
        }
        self.sites = sites;
    }

    /// Gives every account what its groups have. The faults of that.
    pub(super) fn inherit(&mut self, source: &Source<'_>) -> Vec<Fault> {
        let mut faults = groups::inherit(&self.groups, &mut self.users, source);
        self.users.iter_mut().for_each(|user| folders::add(&self.folders, user));
        for (i, site) in self.sites.iter_mut().enumerate() {
            faults.extend(groups::inherit(&site.groups, &mut site.users, &source.below(&steps_to(i))));
            site.users.iter_mut().for_each(|user| folders::add(&site.folders, user));
        }
        faults
    }

    /// Faults between values, of all sites.
    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Fault> {
        let mut faults = self.check_tables(source);
        faults.extend(self.admin.check(source));
        faults.extend(self.database.check(source));
        faults.extend(self.outbox.check(source));
        faults.extend(gateways::check(&self.gateways, source));
        if self.sites.is_empty() {
            faults.extend(self.check_own(source));
            return faults;
        }
        for key in [
            "commands",
            "folders",
            "groups",
            "hooks",
            "hosts",
            "listeners",
            "site",
            "speeds",
            "users",
            "webhooks",
        ]
        .into_iter()
        .filter(|k| source.has(k))
        {
            let words = format!("where there are [[sites]], '{key}' belongs into one of them");
            faults.push(source.fault_at(&[Step::Key(key.into())], words));
        }
        for (i, site) in self.sites.iter().enumerate() {
            let here = source.below(&steps_to(i));
            // Tables that it does not have are defaults there, and without fault.
            faults.extend(site.config(&Config::default()).check_tables(&here));
            faults.extend(site.config(self).check_own(&here));
            let earlier = || self.sites.iter().take(i);
            let key = |k: &str| Step::Key(k.into());
            if earlier().any(|s| s.name.eq_ignore_ascii_case(&site.name)) {
                let words = format!("there is another site '{}'", site.name);
                faults.push(here.fault_at(&[key("name")], words));
            }
            for (n, host) in site.hosts.iter().enumerate() {
                if earlier().any(|s| s.hosts.contains(host) || s.name.eq_ignore_ascii_case(host)) {
                    let words = format!("'{host}' is the name of another site already");
                    faults.push(here.fault_at(&[key("hosts"), Step::Index(n)], words));
                }
            }
            for (n, listener) in site.listeners.iter().enumerate().filter(|(_, l)| l.port != 0) {
                let same = |l: &Listener| (l.address, l.port) == (listener.address, listener.port);
                if earlier().any(|s| s.listeners.iter().any(same)) {
                    let words = "another site listens there; a port has one site, others are found by name";
                    faults.push(here.fault_at(&[key("listeners"), Step::Index(n)], words));
                }
            }
        }
        faults
    }

    /// What has no effect, of all sites.
    pub(super) fn told_of_sites(&self, source: &Source<'_>) -> Vec<Fault> {
        // Whom the file does not know, the database may.
        let stored = self.database.url.is_some() || self.data.join(crate::accounts::FILE).exists();
        if self.sites.is_empty() {
            let mut told = if stored { Vec::new() } else { self.check_hooks(source) };
            told.extend(self.check_certificates(std::slice::from_ref(self), source));
            return told;
        }
        let mut told = Vec::new();
        let all = self.each_site();
        for (i, site) in all.iter().enumerate() {
            let here = source.below(&steps_to(i));
            if !stored {
                told.extend(site.check_hooks(&here));
            }
            told.extend(site.check_certificates(&all, &here));
            if !is_reached(site, &all) {
                let mut fault = here.fault_at(&[Step::Key("name".into())], NOBODY);
                fault.hint = Some(DOORS.into());
                told.push(fault);
            }
        }
        told
    }
}

/// What is said of a site that nobody comes to, and what to do about it.
pub(super) const NOBODY: &str = "nobody can reach this site";
pub(super) const DOORS: &str =
    "give it listeners, or another site listeners of ftp, webdav or s3 with the same protection";

/// Whether anybody comes to a site, of all of these.
pub(super) fn is_reached(site: &Config, all: &[Config]) -> bool {
    let is_door = |c: &Config| speaks_ftp(c) || speaks_s3(c, false) || speaks_webdav(c, false);
    !site.listeners.is_empty() || all.iter().any(|door| is_door(door) && reaches(door, site))
}

fn steps_to(site: usize) -> [Step; 2] {
    [Step::Key("sites".into()), Step::Index(site)]
}

/// Whether anybody comes to this site over FTP.
pub fn speaks_ftp(site: &Config) -> bool {
    use super::ListenerProtocol::{Ftp, Ftps};
    site.listeners.iter().any(|l| matches!(l.protocol, Ftp | Ftps))
}

/// Whether anybody comes to this site over S3; with `tls`, over TLS.
pub fn speaks_s3(site: &Config, tls: bool) -> bool {
    use super::ListenerProtocol::{S3, S3s};
    site.listeners.iter().any(|l| l.protocol == S3s || (!tls && l.protocol == S3))
}

/// Whether anybody comes to this site over WebDAV; with `tls`, over TLS.
pub fn speaks_webdav(site: &Config, tls: bool) -> bool {
    use super::ListenerProtocol::{Webdav, Webdavs};
    site.listeners.iter().any(|l| l.protocol == Webdavs || (!tls && l.protocol == Webdav))
}

/// Whether `to` may be found by name on the listeners of `door`: what protects a connection is decided by
/// the listener before a name is known, so the door must ask for no less than the site behind it.
pub fn reaches(door: &Config, to: &Config) -> bool {
    let control = |c: &Config| match c.ftp.control {
        Control::Allow => 0,
        Control::RequireCredentials => 1,
        Control::Require => 2,
    };
    let (d, t) = (&door.ftp, &to.ftp);
    let (ours, theirs) = (&door.tls, &to.tls);
    let certificates = theirs.client_certificates != Clients::Require
        || (ours.client_certificates == Clients::Require
            && ours.client_authorities == theirs.client_authorities);
    door.site == to.site
        || control(door) >= control(to)
            && (t.data != Data::Require || d.data == Data::Require)
            && (d.require_session_reuse || !t.require_session_reuse)
            && (d.strict_tls_eof || !t.strict_tls_eof)
            && (t.active || !d.active)
            && (t.foreign_data || !d.foreign_data)
            && (ours.minimum == Minimum::V13 || theirs.minimum == Minimum::V12)
            && certificates
            && names_are_worth_the_same(door, to)
}
