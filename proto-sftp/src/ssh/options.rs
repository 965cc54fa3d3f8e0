//! How to reach, trust and enter a server: all that a connection wants to know beforehand.
//!
//! Plain values; nothing is looked up before the connection is made. A configuration file fills them by
//! [`super::config`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::Algorithm;
use russh::{Limits, SshId, client};
use session_core::auth::{Method, Secret};
pub use session_core::net::dial::Family;
use session_core::net::dial::bare;
use session_core::net::proxy::Proxy;
use session_core::net::reach::Reach;
use session_core::session::Session;
use session_core::trust::Fingerprint;

use super::algorithms::Algorithms;
use super::keys::{Agent, default_files};
use super::known_hosts::KnownHosts;

/// What to do about a host whose key is not on record. A changed or revoked key is an error always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HostKeyPolicy {
    /// Put it on record and go on.
    AcceptNew,
    /// Ask the decider; unattended, that is a no.
    #[default]
    Ask,
    /// Break off.
    Strict,
}

/// How to reach, trust and enter a server.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The host: a name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The host as the user wrote it, where a configuration leads to another: for `%n`.
    pub written: Option<String>,
    /// Which addresses.
    pub family: Family,
    /// The address of this machine from which to connect.
    pub source: Option<IpAddr>,
    /// Which addresses of the host may be connected to.
    pub reach: Reach,
    /// The way to the host, or to the first host to jump over.
    pub proxy: Proxy,
    /// The host over which this one is reached, which may be reached over another itself. Its key is checked
    /// and its login done by its own options; its own `proxy` holds, not this one's.
    pub jump: Option<Box<ConnectOptions>>,
    /// Who logs in.
    pub user: String,
    /// The password, if it is known beforehand.
    pub password: Option<Secret>,
    /// The password that shall hold from now on, where the server asks for one because the old one has expired:
    /// its questions for the current and the new one are answered, as long as they say which they mean.
    pub new_password: Option<Secret>,
    /// Key files; where none is named, the defaults in `~/.ssh`. One that holds a public key only chooses
    /// among the agent's.
    pub identities: Vec<PathBuf>,
    /// Whether the defaults in `~/.ssh` are looked at where no key is named.
    pub default_identities: bool,
    /// Private keys as text, beside the files or instead of them.
    pub keys: Vec<Secret>,
    /// The phrase that is tried on keys before anybody is asked.
    pub phrase: Option<Secret>,
    /// Certificates for the user's keys, beside those that stand next to their key (`KEY-cert.pub`).
    pub certificates: Vec<PathBuf>,
    /// Of the agent's keys only those that a key file or certificate names.
    pub identities_only: bool,
    /// Which methods are tried, in this order.
    pub methods: Vec<Method>,
    /// Where the agent is.
    pub agent: Agent,
    /// Trust one of these host keys and no other.
    pub fingerprints: Vec<Fingerprint>,
    /// The files of known hosts, the first being the one that is added to. `None`: the user's and the
    /// system's.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// The name by which the host's key is on record, whatever the port.
    pub host_key_alias: Option<String>,
    /// Unknown hosts.
    pub policy: HostKeyPolicy,
    /// Hide the names that are put on record.
    pub hash_names: bool,
    /// How long each step may take: reaching the host, the key exchange, each answer of the login, the
    /// opening of a channel.
    pub timeout: Duration,
    /// How often a silent server is asked whether it is there.
    pub keepalive: Option<Duration>,
    /// How often it may fail to answer.
    pub keepalive_max: usize,
    /// What the server may send on a channel before it is granted more, bytes: rate × delay is lost
    /// above it. A grant, not a buffer.
    pub window: u32,
    /// The largest packet the server may send, 32 to 64 KiB.
    pub max_packet: u32,
    /// Bytes in either direction after which keys are exchanged anew.
    pub rekey_bytes: u64,
    /// The same by time.
    pub rekey_time: Duration,
    /// What serves SFTP: this command, instead of the subsystem `sftp`.
    pub sftp_server: Option<String>,
    /// What is spoken.
    pub algorithms: Algorithms,
    /// The session that counts and cuts; one is made where none is given.
    pub session: Option<Arc<Session>>,
}

impl ConnectOptions {
    /// The usual, for this host and user.
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>) -> Self {
        ConnectOptions {
            host: host.into(),
            port,
            written: None,
            family: Family::default(),
            source: None,
            reach: Reach::default(),
            proxy: Proxy::Direct,
            jump: None,
            user: user.into(),
            password: None,
            new_password: None,
            identities: Vec::new(),
            default_identities: true,
            keys: Vec::new(),
            phrase: None,
            certificates: Vec::new(),
            identities_only: false,
            methods: vec![Method::PublicKey, Method::Password, Method::Interactive],
            agent: Agent::default(),
            fingerprints: Vec::new(),
            known_hosts: None,
            host_key_alias: None,
            policy: HostKeyPolicy::default(),
            hash_names: false,
            timeout: Duration::from_secs(20),
            keepalive: Some(Duration::from_secs(30)),
            keepalive_max: 3,
            window: 16 << 20,
            max_packet: 64 * 1024 - 1,
            rekey_bytes: 1 << 30,
            rekey_time: Duration::from_secs(3600),
            sftp_server: None,
            algorithms: Algorithms::client(),
            session: None,
        }
    }

    /// The key files that are tried: those that are named, else those of `~/.ssh` that are there.
    pub fn key_files(&self) -> Vec<PathBuf> {
        let named = !self.identities.is_empty() || !self.keys.is_empty();
        match named || !self.default_identities {
            true => self.identities.clone(),
            false => default_files(),
        }
    }

    /// Where host keys are looked up; the first is the one that is added to.
    pub fn known_hosts_files(&self) -> Vec<PathBuf> {
        if let Some(files) = &self.known_hosts {
            return files.clone();
        }
        let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
        let own = home.map(|h| PathBuf::from(h).join(".ssh/known_hosts"));
        own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect()
    }

    /// The host without the brackets that a URL puts around an address.
    pub(super) fn bare_host(&self) -> &str {
        bare(&self.host)
    }

    /// Under which name and port the host's key is on record.
    pub(super) fn on_record(&self) -> (&str, u16) {
        match &self.host_key_alias {
            // A name that stands for the host stands for its port, too (ssh_config(5), HostKeyAlias).
            Some(alias) => (alias, 22),
            None => (self.bare_host(), self.port),
        }
    }

    /// Who logs in where, as shown.
    pub(super) fn who(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }

    pub(super) fn config(&self, known: &KnownHosts) -> client::Config {
        let (host, port) = self.on_record();
        let types = known.key_types(host, port);
        let pinned: Vec<String> = self.fingerprints.iter().map(ToString::to_string).collect();
        let mut algorithms = self.algorithms.clone();
        if !types.is_empty() || !pinned.is_empty() {
            algorithms = algorithms.prefer_keys(|a| {
                let name = if matches!(a, Algorithm::Rsa { .. }) { "ssh-rsa" } else { a.as_str() };
                types.contains(&name) || pinned.iter().any(|p| p.split(' ').next() == Some(name))
            });
        }
        if self.fingerprints.is_empty() && known.has_authority(host, port) {
            algorithms = algorithms.ask_for_certificates();
        }
        let rekey = usize::try_from(self.rekey_bytes).unwrap_or(usize::MAX).clamp(1 << 20, 1 << 30);
        client::Config {
            client_id: SshId::Standard("SSH-2.0-Ferry".into()),
            preferred: algorithms.preferred(),
            limits: Limits::new(rekey, rekey, self.rekey_time),
            window_size: self.window.clamp(64 * 1024, 512 << 20),
            maximum_packet_size: self.max_packet.clamp(32 * 1024, 64 * 1024 - 1),
            channel_buffer_size: 128,
            inactivity_timeout: None,
            // Ours: russh asks during the login, too, where a server may take it for an offence.
            keepalive_interval: None,
            nodelay: true,
            ..client::Config::default()
        }
    }
}

impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("proxy", &self.proxy)
            .field("jump", &self.jump)
            .finish_non_exhaustive()
    }
}
