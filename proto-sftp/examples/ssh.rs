//! Serves a directory over SSH to one user, for trying the server with other people's clients.
//!
//! `ssh DIR PORT [KEYFILE]`: the user is `test`, the password `test`, or a key of KEYFILE in the form of
//! `authorized_keys`; a second user, `twice`, must give both, the password as an answer. Host keys are
//! made in DIR's neighbour `DIR.keys`. `get HOST PORT USER PATH` (the second form) is our client: it reads a
//! file and tells its speed.
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/it/support/folder.rs"]
mod folder;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::BytesMut;
use folder::FolderSite;
use futures_util::stream::{self, StreamExt as _};
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::{ConnectOptions, HostKeyPolicy, HostKeys, SshServer, SshServerOptions, connect};
use session_core::auth::*;
use session_core::batch::Unattended;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow, OpenOptions};
use session_core::path::VPath;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::Session;
use tokio_util::sync::CancellationToken;

struct Place {
    keys: Vec<String>,
}

#[async_trait]
impl Authenticator for Place {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::PublicKey, Method::Password, Method::Interactive]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        vec![Question { prompt: "Password: ".into(), echo: false, check: Check::Password }]
    }

    async fn verify(
        &self,
        _session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        passed: &[Method],
    ) -> Proof {
        let good = match credential {
            Credential::Password(p) => p.expose() == "test",
            Credential::AccessKey(_)
            | Credential::Certificate(_)
            | Credential::Digest(_)
            | Credential::Token(_) => false,
            Credential::Answers(a) => a.iter().all(|(_, a)| a.expose() == "test"),
            Credential::Key(k) => self.keys.contains(&k.openssh),
        };
        match user {
            "test" if good => Proof::Complete(Account::named(user)),
            "twice" if good && passed.is_empty() => {
                let all = [Method::PublicKey, Method::Interactive];
                Proof::More(all.into_iter().filter(|m| *m != credential.method()).collect())
            }
            "twice" if good => Proof::Complete(Account::named(user)),
            _ => Proof::Rejected("wrong".into()),
        }
    }

    async fn vouched(&self, _session: &Arc<Session>, _user: &str) -> Option<Account> {
        None
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["get", host, port, user, path] => get(host, port, user, path).await,
        ["idle", host, port, count] => idle(host, port, count).await,
        [root, port, rest @ ..] => serve(root, port, rest.first().copied()).await,
        _ => Err(Error::new(ErrorKind::InvalidArgument).with_detail("ssh DIR PORT [KEYFILE]")),
    };
    if let Err(e) = result {
        eprintln!("{e:#}");
        std::process::exit(1);
    }
}

fn number(text: &str) -> Result<u16> {
    text.parse().map_err(|e| Error::new(ErrorKind::InvalidArgument).with_source(e))
}

async fn serve(root: &str, port: &str, keys: Option<&str>) -> Result<()> {
    let text = keys.map(std::fs::read_to_string).transpose()?.unwrap_or_default();
    let keys = text.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let folder = PathBuf::from(format!("{root}.keys"));
    let kind = HostKeyKind::Ed25519;
    let (host_keys, _) = HostKeys::new().load_or_make(&folder.join(kind.file_name()), kind)?;
    println!("{:?}", host_keys);
    let registry = SessionRegistry::new(Caps::default());
    let who = Arc::new(Place { keys });
    let site = FolderSite { who, registry: Arc::clone(&registry), root: root.into() };
    let server = SshServer::new(SshServerOptions::new(host_keys), Arc::new(site))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", number(port)?)).await?;
    println!("listening on {}", listener.local_addr()?);
    tokio::spawn(async move { server.serve(listener, CancellationToken::new()).await });
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        for session in registry.list() {
            let s = session.snapshot();
            println!("{} {} {} {} {:?}", s.user_name, s.state, s.client_version, s.cipher, s.auth_methods);
        }
    }
}

fn options(host: &str, port: &str, user: &str) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::new(host, number(port)?, user);
    options.policy = HostKeyPolicy::AcceptNew;
    options.known_hosts = Some(vec![std::env::temp_dir().join("ferry-example-known-hosts")]);
    options.password = std::env::var("FERRY_PASSWORD").ok().map(Secret::new);
    options.identities = std::env::var_os("FERRY_KEY").map(PathBuf::from).into_iter().collect();
    Ok(options)
}

async fn get(host: &str, port: &str, user: &str, path: &str) -> Result<()> {
    let c = connect(options(host, port, user)?, Arc::new(Unattended)).await?;
    println!("{} {} {:?}", c.server_version(), c.cipher(), c.methods());
    let remote = c.sftp(&Default::default()).await?;
    let path = VPath::absolute(path)?;
    let size = remote.stat(&path, Follow::Yes).await?.size;
    let file = remote.open(&path, &OpenOptions::read()).await?;
    let begun = Instant::now();
    let piece = 255 * 1024;
    let mut pieces = stream::iter((0..size).step_by(piece))
        .map(|from| {
            let file = Arc::clone(&file);
            let want = piece.min(usize::try_from(size - from).unwrap_or(piece));
            async move {
                let mut data = BytesMut::with_capacity(want);
                // A read may give less before the end.
                while data.len() < want {
                    let had = data.len();
                    data = file.read_into(from + had as u64, want - had, data).await?;
                    if data.len() == had {
                        break;
                    }
                }
                Ok::<_, Error>(data)
            }
        })
        .buffered(64);
    let mut got = 0;
    while let Some(data) = pieces.next().await {
        got += data?.len() as u64;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{got} of {size} bytes, {:.0} MiB/s", got as f64 / seconds / 1048576.0);
    c.close().await;
    Ok(())
}

/// Holds sessions that do nothing, so that the server's memory can be looked at.
async fn idle(host: &str, port: &str, count: &str) -> Result<()> {
    let mut all = Vec::new();
    for _ in 0..number(count)? {
        let c = connect(options(host, port, "test")?, Arc::new(Unattended)).await?;
        let remote = c.sftp(&Default::default()).await?;
        remote.stat(&VPath::root(), Follow::Yes).await?;
        all.push((c, remote));
    }
    println!("{} sessions", all.len());
    tokio::time::sleep(Duration::from_secs(20)).await;
    Ok(())
}
