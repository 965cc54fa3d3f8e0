//! A host with a shell: an SSH server that runs commands by `sh` and serves SFTP by OpenSSH's own `sftp-server`, both
//! beginning in one directory; or one that runs `scp` and nothing else. The password is `shell`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::session::SessionOptions;
use russh::keys::{Algorithm, HashAlg, PrivateKey, key::safe_rng};
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, Sig};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

const PLACES: [&str; 3] =
    ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];

/// What commands are run, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By a login shell that says something first.
    Noisy,
    /// `scp` and nothing else.
    OnlyScp,
    /// By `sh`.
    Plain,
}

pub struct Shell {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub fingerprint: String,
    pub connections: Arc<AtomicUsize>,
}

struct Handler {
    dir: PathBuf,
    /// Where the shell begins.
    shell_dir: PathBuf,
    program: &'static str,
    kind: Kind,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl russh::server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(if password == "shell" { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _ssh: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        ssh: &mut Session,
    ) -> Result<(), Self::Error> {
        let channel = self.channels.remove(&id).unwrap();
        let child = Command::new(self.program)
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        ssh.channel_success(id)?;
        tokio::spawn(async move {
            // All of it, not only its pipes: it is killed where it is dropped.
            let mut child = child;
            let (mut from, mut to) = tokio::io::split(channel.into_stream());
            let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let up = async {
                let _ = tokio::io::copy(&mut from, &mut stdin).await;
                drop(stdin);
            };
            tokio::join!(up, tokio::io::copy(&mut stdout, &mut to)).1.ok();
        });
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        ssh: &mut Session,
    ) -> Result<(), Self::Error> {
        let channel = self.channels.remove(&id).unwrap();
        if command == b"refused" {
            return ssh.channel_failure(id);
        }
        ssh.channel_success(id)?;
        let mut line = command.to_vec();
        match self.kind {
            Kind::OnlyScp if !command.starts_with(b"scp ") => {
                line = b"echo only scp here >&2; exit 127".to_vec()
            }
            Kind::Noisy => {
                line = [b"alias ls='ls -C'; echo; echo Welcome; echo 'last login' >&2; ", command].concat()
            }
            _ => {}
        }
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(OsString::from_vec(line))
            .current_dir(&self.shell_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let handle = ssh.handle();
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(channel.into_stream());
            let mut stdin = child.stdin.take().unwrap();
            let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
            let input = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from, &mut stdin).await;
            });
            let errors = handle.clone();
            let complains = async move {
                let mut buf = vec![0; 4096];
                while let Ok(n @ 1..) = stderr.read(&mut buf).await {
                    let _ = errors.extended_data(id, 1, buf[..n].to_vec()).await;
                }
            };
            tokio::join!(complains, tokio::io::copy(&mut stdout, &mut to)).1.ok();
            let done = child.wait().await.unwrap();
            input.abort();
            let _ = handle.eof(id).await;
            // After the end of its output, as OpenSSH may do it.
            if let Some(code) = done.code() {
                let _ = handle.exit_status_request(id, u32::try_from(code).unwrap()).await;
            } else if done.signal().is_some() {
                let _ = handle.exit_signal_request(id, Sig::KILL, false, String::new(), String::new()).await;
            }
            let _ = handle.close(id).await;
        });
        Ok(())
    }
}

impl Shell {
    /// Nothing where OpenSSH is not installed: loudly, and never in CI. `elsewhere`: the shell begins where SFTP does
    /// not.
    pub async fn start(elsewhere: bool) -> Option<Self> {
        Self::of(Kind::Plain, elsewhere).await
    }

    /// The same, of another kind.
    pub async fn of(kind: Kind, elsewhere: bool) -> Option<Self> {
        let Some(program) = PLACES.into_iter().find(|p| Path::new(p).exists()) else {
            assert!(std::env::var_os("CI").is_none(), "sftp-server is missing: install openssh-sftp-server");
            let _ = writeln!(std::io::stderr(), "NOT TESTED against OpenSSH: install openssh-sftp-server");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        let config = Arc::new(russh::server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::from_millis(10),
            auth_rejection_time_initial: Some(Duration::ZERO),
            nodelay: true,
            ..Default::default()
        });
        let root = dir.path().canonicalize().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let handler = Handler {
                    dir: root.clone(),
                    shell_dir: if elsewhere { "/".into() } else { root.clone() },
                    program,
                    kind,
                    channels: HashMap::new(),
                };
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Ok(running) = russh::server::run_stream(config, stream, handler).await {
                        let _ = running.await;
                    }
                });
            }
        });
        Some(Shell { dir, port, fingerprint, connections })
    }

    pub fn options(&self) -> SessionOptions {
        SessionOptions::sftp("127.0.0.1")
            .port_number(self.port)
            .user_name("u")
            .password("shell")
            .ssh_private_key_path("/nonexistent")
            .ssh_host_key_fingerprint(self.fingerprint.as_str())
            .unwrap()
    }
}
