//! Opening a place over SFTP: several channels on a long line, and the whole again when it was lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use proto_sftp::client::Config as SftpConfig;
use proto_sftp::ssh::connect::{ConnectOptions, HostKeyPolicy, SshConnection, connect};
use session_core::auth::Account;
use session_core::batch::Decider;
use session_core::error::Result;
use session_core::fs::Filesystem;
use session_core::path::VPath;
use session_core::session::{Protocol, Session, Setup};

use super::{Connected, Line, Options, guard};
use crate::pooled::Pooled;
use crate::reconnect::{Connect, Reconnecting, Remembering, SystemTimer};

/// A line with at least this delay is given several channels.
const LONG_LINE: Duration = Duration::from_millis(8);

/// Connects, the first time and again. What was answered the first time is not asked again.
pub(super) struct Dialer {
    options: Options,
    session: Arc<Session>,
    decider: Arc<Remembering>,
    line: Mutex<Option<SshConnection>>,
}

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let session = Session::new(Setup::new(Protocol::Sftp, options.host.as_str()));
    let (user, budget) = (options.user.clone(), options.reconnect);
    let decider = Arc::new(Remembering::new(decider));
    let dialer = Arc::new(Dialer { options, session: Arc::clone(&session), decider, line: Mutex::default() });
    let (mut fs, home, methods) = dialer.dial().await?;
    if !budget.is_zero() {
        let again = Arc::clone(&dialer) as Arc<dyn Connect>;
        fs = Arc::new(Reconnecting::new(fs, again, budget, Arc::new(SystemTimer)));
    }
    guard(session, Account::named(user.as_str()), methods, (fs, home), Line::Ssh(dialer))
}

impl Dialer {
    async fn dial(&self) -> Result<(Arc<dyn Filesystem>, VPath, Vec<&'static str>)> {
        let options = &self.options;
        let mut ssh = ConnectOptions::new(options.host.clone(), options.port, options.user.clone());
        ssh.password = options.password.clone();
        ssh.identities = options.identities.clone();
        ssh.fingerprints = options.host_keys.clone();
        ssh.known_hosts = options.known_hosts.clone().map(|file| vec![file]);
        if options.accept_new {
            ssh.policy = HostKeyPolicy::AcceptNew;
        }
        ssh.timeout = options.timeout;
        ssh.session = Some(Arc::clone(&self.session));
        self.decider.begin();
        let connection = connect(ssh, Arc::clone(&self.decider) as Arc<dyn Decider>).await?;
        // A short line is not helped by more channels; a long one is bound by the window of each.
        let more = if connection.delay() >= LONG_LINE { options.channels.saturating_sub(1) } else { 0 };
        let config = SftpConfig::default();
        let others = join_all((0..more).map(|_| connection.sftp(&config)));
        let (first, others) = tokio::join!(connection.sftp(&config), others);
        let first = Arc::new(first?);
        let home = first.home().clone();
        let others: Vec<Arc<dyn Filesystem>> =
            others.into_iter().flatten().map(|r| Arc::new(r) as Arc<dyn Filesystem>).collect();
        let fs: Arc<dyn Filesystem> =
            if others.is_empty() { first } else { Arc::new(Pooled::new(first, others)) };
        let methods = connection.methods().to_vec();
        // The one before, if there was one, is cut when its last user lets go of it.
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok((fs, home, methods))
    }

    /// Says good-bye.
    pub(super) async fn close(&self) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = line {
            connection.close().await;
        }
    }
}

#[async_trait]
impl Connect for Dialer {
    async fn connect(&self) -> Result<Arc<dyn Filesystem>> {
        Ok(self.dial().await?.0)
    }
}
