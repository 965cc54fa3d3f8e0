//! Opening a place over SFTP: several channels on a long line.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use proto_sftp::client::Config as SftpConfig;
use proto_sftp::ssh::connect::{ConnectOptions, HostKeyPolicy, connect};
use session_core::auth::Account;
use session_core::batch::Decider;
use session_core::error::Result;
use session_core::fs::Filesystem;
use session_core::session::{Protocol, Session, Setup};

use super::{Connected, Line, Options, guard};
use crate::pooled::Pooled;

/// A line with at least this delay is given several channels.
const LONG_LINE: Duration = Duration::from_millis(8);

pub(super) async fn open(options: Options, decider: Arc<dyn Decider>) -> Result<Connected> {
    let session = Session::new(Setup::new(Protocol::Sftp, options.host.as_str()));
    let mut ssh = ConnectOptions::new(options.host.clone(), options.port, options.user.clone());
    ssh.password = options.password.clone();
    ssh.identities = options.identities.clone();
    ssh.fingerprints = options.host_keys.clone();
    ssh.known_hosts = options.known_hosts.clone().map(|file| vec![file]);
    if options.accept_new {
        ssh.policy = HostKeyPolicy::AcceptNew;
    }
    ssh.timeout = options.timeout;
    ssh.session = Some(Arc::clone(&session));
    let connection = connect(ssh, decider).await?;
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
    guard(session, Account::named(options.user.as_str()), methods, (fs, home), Line::Ssh(connection))
}
