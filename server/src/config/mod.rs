//! The configuration: one TOML file, and a few environment variables.
//!
//! [`Config::load`] reads, checks and completes it: paths are made absolute, defaults filled in. What makes
//! no sense refuses the whole file, with file, line and column. What has no effect (a key that nobody knows,
//! a handler for a user who does not exist) is told beside the configuration, so that a slip of the pen is
//! not silent. Syntax and single values stop at the first fault; faults between values are told at once.

/// Enums whose words stand in the file.
macro_rules! words {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident ),* $(,)? } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }
    )* };
}

mod admin;
mod audit;
mod certificates;
mod database;
mod directories;
mod fault;
mod folders;
mod ftp;
mod gateways;
mod groups;
mod hooks;
mod known;
mod notify;
mod outbound;
mod pgp;
mod protector;
mod quota;
mod records;
mod s3;
mod scan;
mod sites;
mod speeds;
mod ssh;
mod stored;
#[cfg(test)]
mod tests;
mod transfer;
mod user;
mod values;
mod webdav;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use session_core::path::VPath;
use session_core::registry::Caps;

pub use self::admin::Admin;
pub use self::audit::{Audit, AuditFormat, Full, Rotate};
pub use self::database::Shared;
pub use self::directories::DirectoryTable;
pub use self::fault::Fault;
use self::fault::{Source, Step, nearest, steps};
pub(crate) use self::folders::reading;
pub use self::folders::{Folder, rules};
pub use self::ftp::{CertificateFiles, Clients, Control, Data, Ftp, Minimum, Tls};
pub use self::gateways::Gateway;
pub use self::groups::Group;
pub(crate) use self::groups::line;
pub use self::hooks::{Hook, Scripts};
use self::known::KEYS;
pub use self::notify::{Command, Outbox, Target, Webhook};
pub use self::outbound::{Database, Mail, MailTls};
pub use self::pgp::Pgp;
pub use self::protector::{Level, ProtectorSettings};
pub use self::quota::Quota;
pub use self::records::{Record, SECRET_KEYS, group};
pub use self::s3::{AccessKey, S3};
pub use self::scan::{Infected, Scan};
pub use self::sites::{History, SiteTable, reaches, speaks_ftp, speaks_s3, speaks_webdav};
pub use self::speeds::{Per, Speed, SpeedRule};
pub use self::ssh::Ssh;
pub use self::stored::SiteFault;
pub use self::transfer::{Period, Transfer};
pub use self::user::User;
pub use self::values::{is_user_name, parse_duration, parse_network};
pub use self::webdav::{Clear, Webdav};

/// Which file is read, where no option says so.
pub const ENV_CONFIG: &str = "FERRYD_CONFIG";
/// Replaces `data`; relative to the working directory.
pub const ENV_DATA: &str = "FERRYD_DATA";
/// Replaces `control`; relative to the working directory.
pub const ENV_CONTROL: &str = "FERRYD_CONTROL";
/// Replaces `level` of `[log]`.
pub const ENV_LOG: &str = "FERRYD_LOG";

/// Everything that is configured. Paths are absolute once it was loaded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The site's name.
    pub site: String,
    /// The names by which clients of FTP find it beside other sites: those of HOST, of TLS, of `user@name`.
    #[serde(deserialize_with = "values::hosts")]
    pub hosts: Vec<String>,
    /// The sites, where there are several; then users, listeners and hooks stand in them, and the other
    /// tables hold for those that have none of their own.
    pub sites: Vec<SiteTable>,
    /// Where the server keeps what is its own.
    pub data: PathBuf,
    /// The control socket; never empty once loaded.
    pub control: PathBuf,
    /// The API over the network.
    pub admin: Admin,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Files of host keys, preferred first; never empty once loaded. One that is missing may be made.
    pub host_keys: Vec<PathBuf>,
    /// The TLS of those that speak it.
    pub tls: Tls,
    /// How FTP is served.
    pub ftp: Ftp,
    /// How SSH is served.
    pub ssh: Ssh,
    /// How S3 is served.
    pub s3: S3,
    /// How WebDAV is served.
    pub webdav: Webdav,
    /// Numbers and times.
    pub limits: Limits,
    /// How fast content moves.
    pub speeds: Vec<SpeedRule>,
    /// How uploads appear.
    pub staging: Staging,
    /// When content is forced to disk.
    pub fsync: Fsync,
    /// Virtual folders of every account.
    pub folders: Vec<Folder>,
    /// Other servers, whose folders are homes and virtual folders here.
    pub gateways: Vec<Gateway>,
    /// What several accounts have in common.
    pub groups: Vec<Group>,
    /// The accounts.
    pub users: Vec<User>,
    /// Who vouches for others.
    pub directories: Vec<DirectoryTable>,
    /// The handlers of events.
    pub hooks: Vec<Hook>,
    /// What handlers share.
    pub scripts: Scripts,
    /// URLs that are told of events.
    pub webhooks: Vec<Webhook>,
    /// Programs that are told of events.
    pub commands: Vec<Command>,
    /// What is kept for both.
    pub outbox: Outbox,
    /// How handlers send mail.
    pub mail: Mail,
    /// How handlers encrypt and sign.
    pub pgp: Pgp,
    /// What several nodes have in common.
    pub database: Shared,
    /// The databases that handlers ask, by name.
    pub sql: BTreeMap<String, Database>,
    /// The log.
    pub log: Log,
    /// What keeps misbehaving clients out.
    pub protector: ProtectorSettings,
    /// Who looks at uploads.
    pub scan: Scan,
    /// What is remembered of sessions that are over.
    pub history: History,
    /// Whether this is one site of several; never read from a file.
    #[serde(skip)]
    pub one_of_several: bool,
    /// Whether what this site keeps is below `sites/NAME` in the server's data folder; never read from a file.
    #[serde(skip)]
    pub apart: bool,
    /// Whether this site's protector is its own; never read from a file.
    #[serde(skip)]
    pub guards_itself: bool,
    /// Where no home may be, besides its own quarantine: those of all sites; never read from a file.
    #[serde(skip)]
    pub quarantines: Vec<PathBuf>,
    /// Sites that are not in the file; never read from one.
    #[serde(skip)]
    pub stored: Vec<SiteTable>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            site: "ferry".into(),
            hosts: Vec::new(),
            sites: Vec::new(),
            data: "data".into(),
            control: PathBuf::new(),
            admin: Admin::default(),
            listeners: vec![Listener::default(), Listener::of(ListenerProtocol::Ftp)],
            host_keys: Vec::new(),
            tls: Tls::default(),
            ftp: Ftp::default(),
            ssh: Ssh::default(),
            s3: S3::default(),
            webdav: Webdav::default(),
            limits: Limits::default(),
            speeds: Vec::new(),
            staging: Staging::default(),
            fsync: Fsync::default(),
            folders: Vec::new(),
            gateways: Vec::new(),
            groups: Vec::new(),
            users: Vec::new(),
            directories: Vec::new(),
            hooks: Vec::new(),
            scripts: Scripts::default(),
            webhooks: Vec::new(),
            commands: Vec::new(),
            outbox: Outbox::default(),
            mail: Mail::default(),
            pgp: Pgp::default(),
            database: Shared::default(),
            sql: BTreeMap::new(),
            log: Log::default(),
            protector: ProtectorSettings::default(),
            scan: Scan::default(),
            history: History::default(),
            one_of_several: false,
            apart: false,
            guards_itself: false,
            quarantines: Vec::new(),
            stored: Vec::new(),
        }
    }
}

/// A protocol that is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerProtocol {
    /// FTP; TLS begins when the client asks.
    Ftp,
    /// FTP over TLS from the first byte.
    Ftps,
    /// S3 without TLS.
    S3,
    /// S3 over TLS.
    S3s,
    /// SFTP over SSH.
    #[default]
    Sftp,
    /// WebDAV without TLS.
    Webdav,
    /// WebDAV over TLS.
    Webdavs,
}

impl ListenerProtocol {
    /// Its word in the file.
    pub fn name(self) -> &'static str {
        match self {
            ListenerProtocol::Ftp => "ftp",
            ListenerProtocol::Ftps => "ftps",
            ListenerProtocol::S3 => "s3",
            ListenerProtocol::S3s => "s3s",
            ListenerProtocol::Sftp => "sftp",
            ListenerProtocol::Webdav => "webdav",
            ListenerProtocol::Webdavs => "webdavs",
        }
    }

    /// The port where none is named: one that needs no rights.
    fn port(self) -> u16 {
        match self {
            ListenerProtocol::Ftp => 2021,
            ListenerProtocol::Ftps => 2990,
            ListenerProtocol::S3 => 2900,
            ListenerProtocol::S3s => 2943,
            ListenerProtocol::Sftp => 2022,
            ListenerProtocol::Webdav => 2080,
            ListenerProtocol::Webdavs => 2443,
        }
    }
}

/// One place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken there.
    pub protocol: ListenerProtocol,
    /// The address.
    pub address: std::net::IpAddr,
    /// The port; 0 for any free one.
    pub port: u16,
}

impl Listener {
    /// On this machine alone, at the usual port.
    pub fn of(protocol: ListenerProtocol) -> Self {
        Listener { protocol, address: [127, 0, 0, 1].into(), port: protocol.port() }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Listener::of(ListenerProtocol::default())
    }
}

impl<'de> Deserialize<'de> for Listener {
    /// What is not said follows from the protocol.
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            protocol: ListenerProtocol,
            address: Option<std::net::IpAddr>,
            port: Option<u16>,
        }
        let raw = Raw::deserialize(d)?;
        let usual = Listener::of(raw.protocol);
        Ok(Listener {
            protocol: raw.protocol,
            address: raw.address.unwrap_or(usual.address),
            port: raw.port.unwrap_or(usual.port),
        })
    }
}

/// Numbers and times; 0 means no limit where it makes sense.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Sessions in all.
    pub sessions: usize,
    /// Sessions of one client address.
    pub per_address: usize,
    /// Sessions of one network: 24 bits of IPv4, 64 of IPv6.
    pub per_network: usize,
    /// Sessions of one account.
    pub per_user: usize,
    /// Sessions not logged in.
    pub unauthenticated: usize,
    /// Connections that arrive in a second.
    pub rate: u32,
    /// Bytes a second of all sessions together, in both directions; 0 for no limit.
    pub speed_limit: u64,
    /// The same to the server.
    pub upload_limit: u64,
    /// The same from the server.
    pub download_limit: u64,
    /// Failed attempts to log in before the connection ends; at least 1.
    pub tries: u32,
    /// From connect to login; not zero.
    #[serde(deserialize_with = "values::duration")]
    pub login_time: Duration,
    /// Without any command; zero for no limit.
    #[serde(deserialize_with = "values::duration")]
    pub idle_time: Duration,
    /// How long a stop waits for transfers.
    #[serde(deserialize_with = "values::duration")]
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: 1000,
            per_address: 100,
            per_network: 0,
            per_user: 100,
            unauthenticated: 100,
            rate: 0,
            speed_limit: 0,
            upload_limit: 0,
            download_limit: 0,
            tries: 6,
            login_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(15 * 60),
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// How fast the content of all sessions moves.
    pub fn speed(&self) -> Speed {
        Speed { both: self.speed_limit, download: self.download_limit, upload: self.upload_limit }
    }

    /// What the live table counts.
    pub fn caps(&self) -> Caps {
        Caps {
            total: self.sessions,
            per_address: self.per_address,
            per_network: self.per_network,
            per_user: self.per_user,
            unauthenticated: self.unauthenticated,
        }
    }
}

/// How uploads appear; see [`session_core::layers::staged::StagingPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Staging {
    /// Whether anything is staged.
    pub enabled: bool,
    /// Folders without staging.
    #[serde(deserialize_with = "values::paths")]
    pub off: Vec<VPath>,
    /// Changes of published files.
    pub in_place: InPlace,
    /// Uploads that break off.
    pub parking: Parking,
    /// How long a parked upload is kept.
    #[serde(deserialize_with = "values::duration")]
    pub keep: Duration,
    /// How long one that would replace a file is kept.
    #[serde(deserialize_with = "values::duration")]
    pub keep_overwrites: Duration,
}

impl Default for Staging {
    fn default() -> Self {
        Staging {
            enabled: true,
            off: Vec::new(),
            in_place: InPlace::default(),
            parking: Parking::default(),
            keep: Duration::from_secs(3 * 86_400),
            keep_overwrites: Duration::from_secs(3600),
        }
    }
}

impl Staging {
    /// The layer's policy; bounds that are not configured are its own defaults.
    pub fn policy(&self) -> session_core::layers::staged::StagingPolicy {
        use session_core::layers::staged as s;
        s::StagingPolicy {
            off: if self.enabled { self.off.clone() } else { vec![VPath::root()] },
            in_place: match self.in_place {
                InPlace::Allow => s::InPlace::Allow,
                InPlace::Copy => s::InPlace::Copy,
                InPlace::Refuse => s::InPlace::Refuse,
            },
            parking: match self.parking {
                Parking::Discard => s::Parking::Discard,
                Parking::Keep => s::Parking::Keep,
                Parking::Publish => s::Parking::Publish,
            },
            keep: self.keep,
            keep_overwrites: self.keep_overwrites,
            ..s::StagingPolicy::default()
        }
    }
}

words! {
    /// Changes of published files.
    InPlace {
        /// Written through.
        #[default]
        Allow,
        /// Made on a staged copy.
        Copy,
        /// Refused.
        Refuse,
    }
    /// Uploads that break off.
    Parking {
        /// Thrown away.
        Discard,
        /// Kept for their owner.
        #[default]
        Keep,
        /// Published as they are.
        Publish,
    }
    /// When content is forced to disk.
    Fsync {
        /// The kernel decides.
        #[default]
        Never,
        /// Before a file is published.
        OnCommit,
        /// Names too.
        Full,
    }
    /// What holds an account's files.
    Store {
        /// A directory of this machine.
        #[default]
        Local,
        /// Memory; gone when the server stops.
        Memory,
    }
    /// What a handler's failure means.
    OnError {
        /// What was asked is refused.
        #[default]
        Block,
        /// It goes on.
        Pass,
    }
    /// How the log is written.
    LogFormat {
        /// For people.
        #[default]
        Human,
        /// One JSON object per line.
        Json,
    }
}

impl Fsync {
    /// The local store's word for it.
    pub fn policy(self) -> session_core::store::local::FsyncPolicy {
        use session_core::store::local::FsyncPolicy as P;
        match self {
            Fsync::Never => P::Never,
            Fsync::OnCommit => P::OnCommit,
            Fsync::Full => P::Full,
        }
    }
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Log {
    /// How it is written.
    pub format: LogFormat,
    /// How much: a level, or a filter of `tracing`.
    pub level: String,
    /// Where what happened is recorded, besides.
    pub audit: Option<Audit>,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Human, level: "info".into(), audit: None }
    }
}

impl Config {
    /// Reads `path` with the process's environment. Beside the configuration: what has no effect. Err: what
    /// makes it unusable, never empty. Blocks.
    pub fn load(path: &Path) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
        Config::load_with(path, &|name| std::env::var_os(name))
    }

    /// As [`Config::load`], with the environment given: flags of a command line stand in for variables.
    pub fn load_with(
        path: &Path,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
        let fault = |words| vec![Fault { file: path.to_path_buf(), place: None, words, hint: None }];
        let text = std::fs::read_to_string(path).map_err(|e| fault(format!("cannot be read: {e}")))?;
        let path = std::path::absolute(path).map_err(|e| fault(e.to_string()))?;
        Config::parse(&text, &path, environment)
    }

    /// The defaults with everything below `data_dir`, for a server without a file.
    pub fn default_for(data_dir: &Path) -> Config {
        let base = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
        let mut config = Config { data: base.clone(), ..Config::default() };
        config.complete(&base);
        config
    }

    /// Reads `text` as the content of `file`, an absolute path.
    fn parse(
        text: &str,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
        let source = Source::of(file, text);
        let refuse = |e: toml::de::Error| vec![source.fault(e.span(), e.message())];
        let mut unknown: Vec<Vec<Step>> = Vec::new();
        let reader = toml::Deserializer::parse(text).map_err(refuse)?;
        let mut config: Config =
            serde_ignored::deserialize(reader, |path| unknown.push(steps(&path))).map_err(refuse)?;
        let mut wrong = config.inherit(&source);
        wrong.extend(config.check(&source));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        config.take_environment(environment);
        config.complete(file.parent().unwrap_or(Path::new("/")));
        let mut told: Vec<_> = unknown.iter().map(|steps| unknown_key(&source, steps)).collect();
        told.extend(config.told_of_sites(&source));
        Ok((config, told))
    }

    /// Handlers that can never run.
    fn check_hooks(&self, source: &Source<'_>) -> Vec<Fault> {
        let known: Vec<_> = self.users.iter().map(|u| u.name.as_str()).collect();
        let mut told = Vec::new();
        for (i, hook) in self.hooks.iter().enumerate() {
            for (n, user) in hook.users.iter().enumerate().filter(|(_, u)| !known.contains(&u.as_str())) {
                let steps =
                    [Step::Key("hooks".into()), Step::Index(i), Step::Key("users".into()), Step::Index(n)];
                let mut fault = source.fault_at(&steps, format!("there is no user '{user}'"));
                fault.hint = nearest(user, &known).map(|n| format!("did you mean '{n}'?"));
                told.push(fault);
            }
        }
        told
    }

    /// Faults between values of the tables that sites may leave out.
    fn check_tables(&self, source: &Source<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let key = |k: &str| Step::Key(k.into());
        if self.limits.tries == 0 {
            faults.push(source.fault_at(&[key("limits"), key("tries")], "there is at least one try"));
        }
        if self.limits.login_time.is_zero() {
            let at = [key("limits"), key("login_time")];
            faults.push(source.fault_at(&at, "a login without time is none"));
        }
        if self.tls.certificate.as_os_str().is_empty() != self.tls.key.as_os_str().is_empty() {
            let words = "a certificate needs its key, and a key its certificate";
            faults.push(source.fault_at(&[key("tls")], words));
        }
        let authorities = !self.tls.client_authorities.as_os_str().is_empty();
        if self.tls.client_certificates != Clients::Off && !authorities {
            let at = [key("tls"), key("client_certificates")];
            faults.push(source.fault_at(&at, "whose certificates are taken is said by client_authorities"));
        }
        for (name, zero) in
            [("data_time", self.ftp.data_time.is_zero()), ("passive_time", self.ftp.passive_time.is_zero())]
        {
            if zero {
                faults.push(source.fault_at(&[key("ftp"), key(name)], "this takes some time"));
            }
        }
        for (name, words) in self.s3.check() {
            faults.push(source.fault_at(&[key("s3"), key(name)], words));
        }
        for (name, words) in self.webdav.check() {
            faults.push(source.fault_at(&[key("webdav"), key(name)], words));
        }
        faults.extend(self.protector.check(source));
        faults.extend(self.scripts.check(source));
        faults.extend(directories::check(&self.directories, source));
        faults.extend(outbound::check(&self.mail, &self.sql, source));
        faults.extend(self.pgp.check(source));
        faults.extend(audit::check(self.log.audit.as_ref(), source));
        faults
    }

    /// Faults between values of what a site has for itself.
    fn check_own(&self, source: &Source<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let key = |k: &str| Step::Key(k.into());
        for (i, user) in self.users.iter().enumerate() {
            let mut wrong = |k: &str, words: String| {
                faults.push(source.fault_at(&[key("users"), Step::Index(i), key(k)], words));
            };
            for (k, words) in records::check_user(user) {
                wrong(k, words);
            }
            if self.users.iter().take(i).any(|u| u.name == user.name) {
                wrong("name", format!("there is another user '{}'", user.name));
            }
            let theirs =
                |id: &String| self.users.iter().take(i).find(|u| u.access_keys.iter().any(|k| k.id == *id));
            for id in user.access_keys.iter().map(|k| &k.id) {
                if let Some(other) = theirs(id) {
                    wrong("access_keys", format!("the key '{id}' is one of '{}'", other.name));
                }
            }
            for (k, words) in self.check_gateway(user) {
                wrong(k, words);
            }
        }
        for (i, user) in self.users.iter().enumerate() {
            let at = [key("users"), Step::Index(i), key("quota")];
            faults.extend(user.quota.check(&at, source));
        }
        faults.extend(folders::check(self, source));
        faults.extend(speeds::check(&self.speeds, source));
        faults.extend(hooks::check(&self.hooks, source));
        faults.extend(notify::check(&self.webhooks, &self.commands, &self.staging, source));
        faults.extend(scan::check(&self.scan, &self.staging, &self.hooks, source));
        faults
    }

    fn take_environment(&mut self, environment: &dyn Fn(&str) -> Option<OsString>) {
        let path = |name| {
            let value = environment(name).filter(|v| !v.is_empty())?;
            std::path::absolute(PathBuf::from(value)).ok()
        };
        if let Some(data) = path(ENV_DATA) {
            self.data = data;
        }
        if let Some(control) = path(ENV_CONTROL) {
            self.control = control;
        }
        if let Some(level) = environment(ENV_LOG).filter(|v| !v.is_empty()) {
            self.log.level = level.to_string_lossy().into_owned();
        }
    }

    /// Makes paths absolute and fills in the ones that depend on others.
    fn complete(&mut self, base: &Path) {
        let base = Base(base);
        let data = base.join(&self.data);
        self.control = match self.control.as_os_str().is_empty() {
            true => data.join("control.sock"),
            false => base.join(&self.control),
        };
        if self.host_keys.is_empty() {
            self.host_keys.push(data.join("host_ed25519"));
        }
        self.scripts.complete(|path| base.join(path));
        outbound::complete(&mut self.mail, &mut self.sql, |path| base.join(path));
        self.pgp.complete(|path| base.join(path));
        self.database.complete(|path| base.join(path));
        self.log.audit = self.log.audit.take().map(|a| Audit { file: base.join(&a.file), ..a });
        self.data = data;
        self.complete_site(base.0);
        self.complete_sites(base.0);
    }

    /// The same for what a site may have of its own; its data folder is absolute.
    fn complete_site(&mut self, base: &Path) {
        let base = Base(base);
        for key in &mut self.host_keys {
            *key = base.join(key);
        }
        let more = self.tls.more.iter_mut().flat_map(|m| [&mut m.certificate, &mut m.key]);
        let files = [&mut self.tls.certificate, &mut self.tls.key, &mut self.tls.client_authorities];
        for file in files.into_iter().chain(more).filter(|f| !f.as_os_str().is_empty()) {
            *file = base.join(file);
        }
        self.scan.complete(&self.data, |path| base.join(path));
        directories::complete(&mut self.directories, |path| base.join(path));
        for user in &mut self.users {
            records::complete_user(user, &self.data, base.0);
        }
        // For accounts that are not in the file.
        for home in self.groups.iter_mut().filter(|g| g.gateway.is_none()).filter_map(|g| g.home.as_mut()) {
            *home = base.join(home);
        }
        let of_groups = self.groups.iter_mut().flat_map(|g| &mut g.folders);
        for folder in of_groups.chain(&mut self.folders).filter(|f| f.gateway.is_none()) {
            folder.folder = base.join(&folder.folder);
        }
        for hook in &mut self.hooks {
            hook.file = base.join(&hook.file);
        }
    }
}

/// A path on a gateway, with the name of the user it is for. The error says what is wrong.
pub fn far_path(path: &Path, user: &str) -> Result<VPath, String> {
    values::parse_path(&groups::with_name(&path.to_string_lossy(), user))
}

/// The folder of the configuration.
struct Base<'a>(&'a Path);

impl Base<'_> {
    /// `path` from here, without what says nothing (`.`, doubled slashes).
    fn join(&self, path: &Path) -> PathBuf {
        self.0.join(path).components().collect()
    }
}

fn unknown_key(source: &Source<'_>, steps: &[Step]) -> Fault {
    let name = match steps.last() {
        Some(Step::Key(k)) => k.as_str(),
        _ => "",
    };
    let mut fault = source.fault_at(steps, format!("the key '{name}' is not known and has no effect"));
    // The same word may be a key of another table.
    let others: Vec<_> = KEYS.iter().copied().filter(|k| *k != name).collect();
    fault.hint = nearest(name, &others).map(|n| format!("did you mean '{n}'?"));
    fault
}

/// A commented configuration that says what is the default.
pub fn sample() -> &'static str {
    include_str!("sample.toml")
}
