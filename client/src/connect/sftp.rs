//! Opening a place over SFTP, or over SCP on the same kind of connection: several channels on a long line, and the
//! whole again when it was lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use proto_sftp::client::Config as SftpConfig;
use proto_sftp::ssh::config::Given;
use proto_sftp::ssh::connect::{ConnectOptions, HostKeyPolicy, SshConnection, connect, host_key_of};
use proto_sftp::ssh::keys::Agent;
use session_core::auth::{Account, Method};
use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Filesystem;
use session_core::lifecycle::ChannelKind;
use session_core::path::VPath;
use session_core::session::{Identity, Protocol};
use session_core::trust::HostKey;

use super::again::lasting;
use super::execute::{Said, run};
use super::steps::{entered, opening};
use super::{CHANNELS, Connected, Line, Options, Scheme, guard};
use crate::pooled::Pooled;
use crate::reconnect::{Connect, Remembering};

/// How much of what a command says after the login is kept, for its failure.
const MOST_SAID: usize = 4096;

/// A line with at least this delay is given several channels.
const LONG_LINE: Duration = Duration::from_millis(8);

/// The options of a connection, with what the configuration adds, and what is to be warned of.
pub(super) async fn options_of(options: Options) -> Result<(ConnectOptions, Vec<String>)> {
    let Options { ssh, .. } = options;
    let given = Given {
        host: options.host,
        port: options.port,
        user: options.user,
        password: options.password,
        identities: ssh.identities,
        keys: ssh.keys,
        phrase: options.phrase,
        certificates: ssh.user_certificates,
        agent: ssh.agent,
        fingerprints: ssh.host_keys,
        host_key_alias: ssh.host_key_alias,
        methods: ssh.no_questions.then(|| vec![Method::PublicKey, Method::Password]),
        known_hosts: ssh.known_hosts.map(|file| vec![file]),
        policy: ssh.accept_new.then_some(HostKeyPolicy::AcceptNew),
        timeout: options.timeout,
        keepalive: options.keepalive,
        keepalive_max: ssh.keepalive_max,
        family: options.family,
        source: options.source,
        reach: options.reach,
        proxy: options.proxy,
        jump: ssh.jump,
        ciphers: ssh.spoken.ciphers,
        kex_algorithms: ssh.spoken.kex,
        host_key_algorithms: ssh.spoken.host_keys,
        proxy_of_environment: options.proxy_of_environment,
        config: ssh.config,
        ..Given::default()
    };
    // The configuration is files.
    let made = tokio::task::spawn_blocking(move || given.options()).await;
    let (mut made, warnings) =
        made.unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))?;
    made.new_password = ssh.new_password;
    made.rekey_bytes = ssh.spoken.rekey_bytes.unwrap_or(made.rekey_bytes);
    made.sftp_server = ssh.spoken.sftp_server;
    made.rekey_time = ssh.spoken.rekey_time.unwrap_or(made.rekey_time);
    if ssh.only_given {
        (made.agent, made.default_identities) = (Agent::Off, false);
    }
    Ok((made, warnings))
}

pub(super) async fn host_key(
    options: Options,
    kinds: &[String],
    decider: Arc<dyn Decider>,
) -> Result<HostKey> {
    let (mut ssh, _) = options_of(options).await?;
    if !kinds.is_empty() {
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        ssh.algorithms = ssh.algorithms.with_keys(&kinds)?;
    }
    host_key_of(&ssh, decider).await
}

/// Connects, the first time and again. What was answered the first time is not asked again.
pub(super) struct Dialer {
    ssh: ConnectOptions,
    scp: bool,
    channels: usize,
    lines: usize,
    decider: Arc<Remembering>,
    after_login: Vec<Vec<u8>>,
    line: Mutex<Vec<SshConnection>>,
    home: Mutex<Option<VPath>>,
}

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let (channels, lines, budget) = (options.channels.unwrap_or(CHANNELS), options.lines, options.reconnect);
    let scp = options.scheme == Scheme::Scp;
    let (around, after_login) = (options.around.clone(), options.after_login.clone());
    let (mut ssh, warnings) = options_of(options).await?;
    let (protocol, channel) = match scp {
        true => (Protocol::Scp, ChannelKind::Command),
        false => (Protocol::Sftp, ChannelKind::Sftp),
    };
    let session = around.session(protocol, &ssh.host);
    ssh.session = Some(Arc::clone(&session));
    let account = Account::named(ssh.user.as_str());
    let decider = Arc::new(Remembering::new(decider));
    let (line, home) = (Mutex::default(), Mutex::default());
    let dialer = Arc::new(Dialer { ssh, scp, channels, lines, decider, after_login, line, home });
    let user = Arc::clone(&account.name);
    let opened = opening(&session, &user, async {
        let connection = dialer.enter().await?;
        let methods = connection.methods().to_vec();
        let identity = entered(&session, account, methods, Some(channel)).await?;
        let (fs, home) = dialer.channels_of(connection).await?;
        Ok((fs, home, identity))
    });
    let (fs, home, identity): (_, _, Identity) = opened.await?;
    let fs = around.files(lasting(fs, Arc::clone(&dialer) as _, budget));
    let mut connected = guard(session, &identity, (fs, home), Line::Ssh(dialer))?;
    connected.warnings = warnings;
    Ok(connected)
}

impl Dialer {
    async fn enter(&self) -> Result<SshConnection> {
        self.decider.begin();
        let connection = connect(self.ssh.clone(), Arc::clone(&self.decider) as Arc<dyn Decider>).await?;
        for line in &self.after_login {
            // Of what it says, the first words of a failure are told.
            let mut errors = Vec::new();
            let mut sink = |said: Said<'_>| {
                if let Said::Error(bytes) = said {
                    let room = MOST_SAID.saturating_sub(errors.len());
                    errors.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                }
                Ok(())
            };
            let exit = run(&connection, line, &mut sink).await?;
            if let Some(e) = exit.failure(&errors) {
                return Err(e.with_hint("a command that runs after each login failed"));
            }
        }
        Ok(connection)
    }

    async fn channels_of(&self, connection: SshConnection) -> Result<(Arc<dyn Filesystem>, VPath)> {
        if self.scp {
            // Its commands have channels of their own.
            let remote = connection.scp().await?;
            let home = remote.home();
            self.stands(vec![connection], &home);
            return Ok((Arc::new(remote), home));
        }
        // A short line is not helped by more channels; a long one is bound by the window of each.
        let more = if connection.delay() >= LONG_LINE { self.channels.saturating_sub(1) } else { 0 };
        let config = SftpConfig::default();
        let others = join_all((0..more).map(|_| connection.sftp(&config)));
        let (first, others) = tokio::join!(connection.sftp(&config), others);
        let first = Arc::new(first?);
        let home = first.home().clone();
        let mut others: Vec<Arc<dyn Filesystem>> =
            others.into_iter().flatten().map(|r| Arc::new(r) as Arc<dyn Filesystem>).collect();
        // As many as the server grants: fewer are slower and nothing else.
        let more = join_all((1..self.lines).map(|_| async {
            let line = connect(self.ssh.clone(), self.decider.silently()).await?;
            let remote = line.sftp(&config).await?;
            Ok::<_, Error>((line, Arc::new(remote) as Arc<dyn Filesystem>))
        }));
        let (more, remotes): (Vec<_>, Vec<_>) = more.await.into_iter().flatten().unzip();
        others.extend(remotes);
        let fs: Arc<dyn Filesystem> =
            if others.is_empty() { first } else { Arc::new(Pooled::new(first, others)) };
        self.stands(std::iter::once(connection).chain(more).collect(), &home);
        Ok((fs, home))
    }

    /// Notes what stands now. What stood before, if anything did, is cut when its last user lets go of it.
    fn stands(&self, lines: Vec<SshConnection>, home: &VPath) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(home.clone());
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    /// The connection that stands. Errors: `Closed` after the good-bye.
    pub(super) fn connection(&self) -> Result<SshConnection> {
        let first = self.line.lock().unwrap_or_else(PoisonError::into_inner).first().cloned();
        first.ok_or_else(|| Error::new(ErrorKind::Closed))
    }

    /// Where its login begins.
    pub(super) fn home(&self) -> Option<VPath> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says good-bye.
    pub(super) async fn close(&self) {
        let lines = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in lines {
            connection.close().await;
        }
    }
}

#[async_trait]
impl Connect for Dialer {
    async fn connect(&self) -> Result<Arc<dyn Filesystem>> {
        let connection = self.enter().await?;
        Ok(self.channels_of(connection).await?.0)
    }
}
