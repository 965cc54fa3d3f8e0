//! What the caller says and what the files say, made into the options of a connection, hosts in between
//! included. The caller stands above the files; a secret of his is for the target only.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use session_core::auth::{Method, Secret};
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::proxy::{Proxy, command, environment};
use session_core::net::reach::Reach;
use session_core::trust::Fingerprint;

use super::super::algorithms::{Algorithms, spoken};
use super::super::keys::Agent;
use super::super::known_hosts::wildcard;
use super::super::options::{ConnectOptions, Family, HostKeyPolicy};
use super::{Asked, ConfigFile, Disk, HostConfig, Source, Strictness, matching, resolve};

/// How many hosts may stand in between.
const MOST_HOPS: usize = 8;

/// Which configuration is read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ConfigUse {
    /// None.
    #[default]
    None,
    /// The user's and the system's.
    Usual,
    /// This file only.
    File(PathBuf),
}

/// A host to jump over: `[user@]host[:port]` or `ssh://[user@]host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The host, without brackets.
    pub host: String,
    /// The user; where it is `None`, as the configuration says, or who runs this program.
    pub user: Option<String>,
    /// The port; where it is `None`, as the configuration says, or 22.
    pub port: Option<u16>,
    /// What it is entered with. Where it is `None`, the caller's keys, and what the configuration says.
    pub login: Option<HopLogin>,
}

/// How a host to jump over is trusted and entered: with this, and with nothing that is meant for the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HopLogin {
    /// Its password; where it is `None` and one is wanted, it is asked for.
    pub password: Option<Secret>,
    /// Key files, before the configuration's.
    pub identities: Vec<PathBuf>,
    /// The phrase to try on keys.
    pub phrase: Option<Secret>,
    /// Trust one of these keys, and no other; where there are none, the records decide.
    pub fingerprints: Vec<Fingerprint>,
}

impl Hop {
    /// Reads hosts set apart by commas, the first to be reached first; `none` is no host. Errors: words.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Hop>, String> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Vec::new());
        }
        text.split(',').map(|hop| Hop::read(hop.trim())).collect()
    }

    /// Reads hosts set apart by commas, the first to be reached first; `none` is no host. Errors:
    /// `InvalidArgument`.
    pub fn parse(text: &str) -> Result<Vec<Hop>> {
        Self::parse_list(text).map_err(|words| Error::new(ErrorKind::InvalidArgument).with_detail(words))
    }

    fn read(text: &str) -> Result<Hop, String> {
        let bad = || format!("'{text}' is not a host to jump over: write [user@]host[:port]");
        let rest = text.strip_prefix("ssh://").map(|r| r.strip_suffix('/').unwrap_or(r)).unwrap_or(text);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) = if let Some(inner) = place.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or_else(bad)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(bad()),
            }
        } else {
            match place.split_once(':') {
                // More colons: an address.
                Some((_, port)) if port.contains(':') => (place, None),
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            }
        };
        let port = match port {
            Some(p) => Some(p.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?),
            None => None,
        };
        if host.is_empty()
            || host.starts_with('-')
            || user.is_some_and(str::is_empty)
            || text.contains(char::is_whitespace)
        {
            return Err(bad());
        }
        Ok(Hop { host: host.to_owned(), user: user.map(str::to_owned), port, login: None })
    }
}

/// What the caller says. Everything but the host may be left open; then the configuration decides, and where
/// it says nothing, [`ConnectOptions::new`].
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The host as written: a name, an address with or without brackets, a `Host` of the configuration.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
    /// Who logs in; else the configuration's, else who runs this program.
    pub user: Option<String>,
    /// The target's password.
    pub password: Option<Secret>,
    /// Key files, before the configuration's; the hosts in between may have them, too.
    pub identities: Vec<PathBuf>,
    /// Private keys as text.
    pub keys: Vec<Secret>,
    /// The phrase to try on keys.
    pub phrase: Option<Secret>,
    /// Certificates, before the configuration's.
    pub certificates: Vec<PathBuf>,
    /// Of the agent's keys only those that are named.
    pub identities_only: Option<bool>,
    /// Where the agent is.
    pub agent: Option<Agent>,
    /// Which methods, in this order.
    pub methods: Option<Vec<Method>>,
    /// Trust one of these keys of the target, and no other.
    pub fingerprints: Vec<Fingerprint>,
    /// Where keys are on record.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// Under which name the target's key is on record.
    pub host_key_alias: Option<String>,
    /// Unknown hosts.
    pub policy: Option<HostKeyPolicy>,
    /// Hide the names that are put on record.
    pub hash_names: Option<bool>,
    /// How long each step may take.
    pub timeout: Option<Duration>,
    /// How often a silent server is asked whether it is there; `Some(None)`: never.
    pub keepalive: Option<Option<Duration>>,
    /// How often it may fail to answer.
    pub keepalive_max: Option<usize>,
    /// Which addresses.
    pub family: Option<Family>,
    /// From which address of this machine.
    pub source: Option<IpAddr>,
    /// Which addresses of the first host may be connected to.
    pub reach: Reach,
    /// The way to the first host; the configuration's ways are then not taken.
    pub proxy: Option<Proxy>,
    /// Hosts in between, the first to be reached first; the configuration's are then not taken.
    pub jump: Option<Vec<Hop>>,
    /// Take the proxy of the environment (`ALL_PROXY`) where nobody names a way.
    pub proxy_of_environment: bool,
    /// As `Ciphers` in ssh_config(5).
    pub ciphers: Option<String>,
    /// As `HostKeyAlgorithms`.
    pub host_key_algorithms: Option<String>,
    /// As `KexAlgorithms`.
    pub kex_algorithms: Option<String>,
    /// As `MACs`.
    pub macs: Option<String>,
    /// Which configuration is read.
    pub config: ConfigUse,
}

/// Where this program runs.
pub(super) struct Place<'a> {
    pub(super) home: PathBuf,
    pub(super) local_user: Option<String>,
    pub(super) local_host: String,
    pub(super) source: &'a dyn Source,
}

impl Given {
    /// For this host.
    pub fn new(host: impl Into<String>) -> Self {
        Given { host: host.into(), ..Given::default() }
    }

    /// Reads the configuration and makes the options; with what is to be warned of. Blocks. Errors: as
    /// [`resolve`]; `InvalidArgument` for values that make no sense, and where nobody is named as user.
    pub fn options(&self) -> Result<(ConnectOptions, Vec<String>)> {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let host_file = std::fs::read_to_string("/proc/sys/kernel/hostname");
        self.options_in(&Place {
            home: set("HOME").map(PathBuf::from).unwrap_or_default(),
            local_user: set("USER").or_else(|| set("LOGNAME")),
            local_host: host_file.map(|h| h.trim().to_owned()).unwrap_or_else(|_| "localhost".to_owned()),
            source: &Disk,
        })
    }

    pub(super) fn options_in(&self, place: &Place<'_>) -> Result<(ConnectOptions, Vec<String>)> {
        let files = match &self.config {
            ConfigUse::None => Vec::new(),
            ConfigUse::Usual => ConfigFile::usual(&place.home),
            ConfigUse::File(path) => ConfigFile::only(path, &place.home),
        };
        let mut build = Build { given: self, place, files, warnings: Vec::new() };
        let host = self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&self.host);
        let target = Hop { host: host.to_owned(), user: self.user.clone(), port: self.port, login: None };
        let options = build.host(&target, self.jump.clone(), true, 0)?;
        Ok((options, build.warnings))
    }
}

struct Build<'a> {
    given: &'a Given,
    place: &'a Place<'a>,
    files: Vec<ConfigFile>,
    warnings: Vec<String>,
}

fn argument(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

impl Build<'_> {
    /// The options for one host. `hops`: those that lead to it; `None` where the configuration decides.
    fn host(
        &mut self,
        at: &Hop,
        hops: Option<Vec<Hop>>,
        target: bool,
        depth: usize,
    ) -> Result<ConnectOptions> {
        if depth > MOST_HOPS {
            return Err(argument(format!("more than {MOST_HOPS} hosts stand in between"))
                .with_hint("does a ProxyJump lead to itself?"));
        }
        let given = self.given;
        let asked = Asked {
            host: &at.host,
            user: at.user.as_deref(),
            port: at.port,
            local_user: self.place.local_user.as_deref().unwrap_or_default(),
            home: &self.place.home,
        };
        let config = resolve(&self.files, &asked, self.place.source)?;
        for words in &config.warnings {
            if !self.warnings.contains(words) {
                self.warnings.push(words.clone());
            }
        }
        let host = config.host_name.clone().unwrap_or_else(|| at.host.clone());
        let user = at.user.clone().or_else(|| config.user.clone()).or_else(|| self.place.local_user.clone());
        let user = user.ok_or_else(|| {
            argument("no user is named").with_hint("write it into the URL: sftp://user@host/path")
        })?;
        let mut options = ConnectOptions::new(host, at.port.or(config.port).unwrap_or(22), user);
        options.written = Some(at.host.clone());
        self.keys(&mut options, &config, at.login.as_ref())?;
        self.trust(&mut options, &config, target)?;
        if let Some(login) = &at.login {
            options.password.clone_from(&login.password);
            options.fingerprints.clone_from(&login.fingerprints);
        }
        options.timeout = given
            .timeout
            .or(config.connect_timeout.flatten())
            .filter(|t| !t.is_zero())
            .unwrap_or(options.timeout);
        options.keepalive = match (given.keepalive, config.server_alive_interval) {
            (Some(given), _) => given,
            (None, Some(every)) => Some(every).filter(|e| !e.is_zero()),
            (None, None) => options.keepalive,
        };
        if let Some(max) = given.keepalive_max.or(config.server_alive_count_max.map(|n| n as usize)) {
            options.keepalive_max = max;
        }
        options.family = given.family.or(config.address_family).unwrap_or_default();
        options.reach = given.reach.clone();
        options.source = match (given.source, &config.bind_address) {
            (Some(source), _) => Some(source),
            (None, Some(text)) => {
                Some(text.parse().map_err(|_| argument(format!("BindAddress '{text}' is not an address")))?)
            }
            (None, None) => None,
        };
        options.algorithms = self.algorithms(&config)?;
        if target {
            options.password = given.password.clone();
        }
        self.way(&mut options, &config, at, hops, depth)?;
        Ok(options)
    }

    fn way(
        &mut self,
        options: &mut ConnectOptions,
        config: &HostConfig,
        at: &Hop,
        hops: Option<Vec<Hop>>,
        depth: usize,
    ) -> Result<()> {
        let given = self.given;
        let mut hops = match hops {
            Some(hops) => hops,
            // A way that was given ends here.
            None if given.proxy.is_some() => Vec::new(),
            None => match &config.proxy_jump {
                Some(text) => {
                    let mut hops = Hop::parse(text)?;
                    for hop in &mut hops {
                        hop.host = self.tokens(&hop.host, options)?;
                    }
                    // A host that is to be reached over itself is reached straight.
                    let is_self = |hop: &Hop| {
                        let name = hop.host.eq_ignore_ascii_case(&at.host)
                            || hop.host.eq_ignore_ascii_case(&options.host);
                        name && hop.port.is_none_or(|p| p == options.port)
                            && hop.user.as_ref().is_none_or(|u| *u == options.user)
                    };
                    if matches!(hops.as_slice(), [one] if is_self(one)) { Vec::new() } else { hops }
                }
                None => Vec::new(),
            },
        };
        if let Some(last) = hops.pop() {
            let before = (!hops.is_empty()).then_some(hops);
            options.jump = Some(Box::new(self.host(&last, before, false, depth + 1)?));
            return Ok(());
        }
        options.proxy = match (&given.proxy, &config.proxy_command, &config.proxy_jump) {
            (Some(proxy), ..) => proxy.clone(),
            (None, Some(line), _) if line.eq_ignore_ascii_case("none") => Proxy::Direct,
            (None, Some(line), _) => Proxy::Command(line.clone()),
            // `ProxyJump none` is a word, too.
            (None, None, None) if given.proxy_of_environment => {
                environment::proxy_for(&options.host, options.port)?
            }
            _ => Proxy::Direct,
        };
        Ok(())
    }

    fn tokens(&self, text: &str, options: &ConnectOptions) -> Result<String> {
        let written = options.written.as_deref().unwrap_or(&options.host);
        let tokens =
            command::Tokens { host: &options.host, port: options.port, user: &options.user, written };
        command::expand(text, &tokens)
    }

    fn keys(
        &self,
        options: &mut ConnectOptions,
        config: &HostConfig,
        login: Option<&HopLogin>,
    ) -> Result<()> {
        let given = self.given;
        let is_none = |name: &&String| !name.eq_ignore_ascii_case("none");
        options.identities.clone_from(login.map_or(&given.identities, |l| &l.identities));
        for name in config.identity_files.iter().filter(is_none) {
            options.identities.push(self.path(name, options)?);
        }
        options.default_identities = config.identity_files.iter().all(|n| is_none(&n));
        if login.is_none() {
            options.certificates.clone_from(&given.certificates);
            options.keys.clone_from(&given.keys);
        }
        for name in config.certificate_files.iter().filter(is_none) {
            options.certificates.push(self.path(name, options)?);
        }
        options.phrase.clone_from(login.map_or(&given.phrase, |l| &l.phrase));
        options.identities_only = given.identities_only.or(config.identities_only).unwrap_or_default();
        options.agent = match (&given.agent, config.identity_agent.as_deref()) {
            (Some(agent), _) => agent.clone(),
            (None, None | Some("SSH_AUTH_SOCK")) => Agent::Environment,
            (None, Some(text)) if text.eq_ignore_ascii_case("none") => Agent::Off,
            (None, Some(text)) => match text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
                Some(name) => {
                    self.place.source.variable(name).map_or(Agent::Off, |p| Agent::Socket(p.into()))
                }
                None => Agent::Socket(self.path(text, options)?),
            },
        };
        let mut methods = match (&given.methods, &config.preferred_authentications) {
            (Some(methods), _) => methods.clone(),
            (None, Some(text)) => text
                .split(',')
                .filter_map(|name| match name.trim() {
                    "publickey" => Some(Method::PublicKey),
                    "password" => Some(Method::Password),
                    "keyboard-interactive" => Some(Method::Interactive),
                    _ => None,
                })
                .collect(),
            (None, None) => options.methods.clone(),
        };
        if given.methods.is_none() {
            for (method, allowed) in [
                (Method::PublicKey, config.pubkey),
                (Method::Password, config.password),
                (Method::Interactive, config.kbd_interactive),
            ] {
                if allowed == Some(false) {
                    methods.retain(|m| *m != method);
                }
            }
        }
        if methods.is_empty() {
            return Err(argument("no method of logging in is left")
                .with_hint("publickey, password and keyboard-interactive are spoken"));
        }
        options.methods = methods;
        Ok(())
    }

    fn trust(&self, options: &mut ConnectOptions, config: &HostConfig, target: bool) -> Result<()> {
        let given = self.given;
        if target {
            options.fingerprints.clone_from(&given.fingerprints);
        }
        options.host_key_alias =
            given.host_key_alias.clone().filter(|_| target).or_else(|| config.host_key_alias.clone());
        options.policy = given.policy.unwrap_or(match config.strict_host_key_checking {
            Some(Strictness::Yes) => HostKeyPolicy::Strict,
            Some(Strictness::AcceptNew) => HostKeyPolicy::AcceptNew,
            Some(Strictness::Ask) | None => HostKeyPolicy::Ask,
        });
        options.hash_names = given.hash_names.or(config.hash_known_hosts).unwrap_or_default();
        options.known_hosts = match (&given.known_hosts, &config.user_known_hosts, &config.global_known_hosts)
        {
            (Some(files), ..) => Some(files.clone()),
            (None, None, None) => None,
            (None, own, global) => {
                let home = self.place.home.display();
                let usual = |files: &Option<Vec<String>>, usual: &[String]| match files {
                    Some(files) => files.clone(),
                    None => usual.to_vec(),
                };
                let own =
                    usual(own, &[format!("{home}/.ssh/known_hosts"), format!("{home}/.ssh/known_hosts2")]);
                let global =
                    usual(global, &["/etc/ssh/ssh_known_hosts".into(), "/etc/ssh/ssh_known_hosts2".into()]);
                let mut files = Vec::new();
                for (i, name) in own.iter().chain(&global).enumerate() {
                    match name.as_str() {
                        // Nothing is known there, and what is added is forgotten.
                        "none" if i == 0 => files.push(PathBuf::from("/dev/null")),
                        "none" => {}
                        name => files.push(self.path(name, options)?),
                    }
                }
                Some(files)
            }
        };
        Ok(())
    }

    fn algorithms(&self, config: &HostConfig) -> Result<Algorithms> {
        let given = self.given;
        let mut algorithms = Algorithms::client();
        type With = fn(Algorithms, &[&str]) -> Result<Algorithms>;
        type Names = (Vec<String>, Vec<String>);
        type List<'a> = (&'a Option<String>, &'a Option<String>, Names, &'static str, With);
        let lists: [List<'_>; 4] = [
            (&given.ciphers, &config.ciphers, spoken::ciphers(), "cipher", Algorithms::with_ciphers),
            (&given.macs, &config.macs, spoken::macs(), "MAC", Algorithms::with_macs),
            (
                &given.kex_algorithms,
                &config.kex_algorithms,
                spoken::kex(),
                "key exchange",
                Algorithms::with_kex,
            ),
            (
                &given.host_key_algorithms,
                &config.host_key_algorithms,
                spoken::keys(),
                "kind of host key",
                Algorithms::with_keys,
            ),
        ];
        for (given, config, (usual, all), what, with) in lists {
            let Some(spec) = given.as_ref().or(config.as_ref()) else { continue };
            let mut names = assemble(spec, &usual, &all);
            // What is beyond the usual is broken: a pattern does not mean it.
            names.retain(|n| {
                usual.contains(n) || spec.trim_start_matches(['+', '^']).split(',').any(|s| s.trim() == n)
            });
            if names.is_empty() {
                return Err(argument(format!("of '{spec}' no {what} is spoken here"))
                    .with_hint(format!("choose from {}", all.join(", "))));
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            algorithms = with(algorithms, &names)?;
        }
        Ok(algorithms)
    }

    /// A path with its tokens, variables and tilde.
    fn path(&self, text: &str, options: &ConnectOptions) -> Result<PathBuf> {
        let bad = |words: String| argument(format!("'{text}': {words}"));
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('%') => out.push('%'),
                Some('d') => out += &self.place.home.display().to_string(),
                Some('h') => out += &options.host,
                Some('i') => out += &rustix::process::getuid().as_raw().to_string(),
                Some('j') => {}
                Some('k') => {
                    out +=
                        options.host_key_alias.as_deref().or(options.written.as_deref()).unwrap_or_default()
                }
                Some('L') => out += self.place.local_host.split('.').next().unwrap_or_default(),
                Some('l') => out += &self.place.local_host,
                Some('n') => out += options.written.as_deref().unwrap_or(&options.host),
                Some('p') => out += &options.port.to_string(),
                Some('r') => out += &options.user,
                Some('u') => out += self.place.local_user.as_deref().unwrap_or_default(),
                other => {
                    return Err(bad(format!(
                        "there is no token '%{}'",
                        other.map(String::from).unwrap_or_default()
                    )));
                }
            }
        }
        let out = matching::tilde(&out, &self.place.home, self.place.source).map_err(bad)?;
        if out.contains('\0') {
            return Err(bad("it holds a NUL".into()));
        }
        Ok(Path::new(&out).to_owned())
    }
}

/// A list of algorithms as ssh_config(5) writes it, against the `default` and `all` there are: `+` adds to
/// the default, `-` takes away, `^` puts in front, else it replaces. Names are patterns; those that are not
/// known fall away, and none comes twice.
pub fn assemble(spec: &str, default: &[String], all: &[String]) -> Vec<String> {
    let listed = |text: &str| {
        text.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect::<Vec<_>>()
    };
    let covers = |pattern: &str, name: &str| wildcard(pattern.as_bytes(), name.as_bytes());
    let patterns = match spec.split_at_checked(1) {
        Some(("+", rest)) => [default.to_vec(), listed(rest)].concat(),
        Some(("^", rest)) => [listed(rest), default.to_vec()].concat(),
        Some(("-", rest)) => {
            let gone = listed(rest);
            default.iter().filter(|d| !gone.iter().any(|p| covers(p, d))).cloned().collect()
        }
        _ => listed(spec),
    };
    let mut out: Vec<String> = Vec::new();
    for pattern in patterns {
        for name in all.iter().filter(|a| covers(&pattern, a)) {
            if !out.contains(name) {
                out.push(name.clone());
            }
        }
    }
    out
}
