//! What listens: sockets, and one server per protocol, made from the configuration.
//!
//! [`prepare`] reads keys and certificates and changes nothing; [`Prepared::servers`] puts the servers
//! before a site. A named file that is missing is a mistake; only our own key and certificate are made.
//!
//! Deliberately absent: when things are made and replaced (`crate::daemon`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto_ftp::server::{FtpServer, FtpServerOptions, Hosts, Messages};
use proto_s3::server::{Hosted as S3Hosted, S3Server, S3ServerOptions};
use proto_sftp::ssh::hostkey::{HostKeyKind, HostKeys};
use proto_sftp::ssh::listen::{SshServer, SshServerOptions};
use proto_webdav::server::{Hosted, Sessions, WebdavServer, WebdavServerOptions};
use session_core::auth::Site;
use session_core::error::{Error, Result};
use session_core::net::server_tls::{self, ServerTls, ServerTlsOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Listener, ListenerProtocol, speaks_ftp, speaks_s3, speaks_webdav};

/// A socket that is listened on, through every reload.
pub(crate) struct Bound {
    pub(crate) asked: Listener,
    /// Whose clients come here.
    pub(crate) site: String,
    socket: std::net::TcpListener,
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Errors: the address is taken, or not ours.
    pub(crate) async fn new(site: &str, listener: &Listener) -> Result<Self> {
        let asked = SocketAddr::new(listener.address, listener.port);
        let at = |e: std::io::Error| {
            Error::from(e)
                .with_detail(format!("cannot listen on {asked}"))
                .with_hint("another program may have the port; choose another one, or 0 for any")
        };
        let socket = TcpListener::bind(asked).await.and_then(TcpListener::into_std).map_err(at)?;
        let address = socket.local_addr().map_err(at)?;
        Ok(Bound { asked: listener.clone(), site: site.to_string(), socket, address })
    }

    /// The socket once more, for another generation of servers.
    pub(crate) fn listener(&self) -> Result<TcpListener> {
        Ok(TcpListener::from_std(self.socket.try_clone()?)?)
    }
}

/// By what a server is known to those who connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identities {
    /// `SHA256:…` of the host keys.
    host_keys: Vec<String>,
    /// SHA-256 of the certificate.
    certificates: Vec<String>,
}

/// Where it is written down which uploads in parts there are, in the site's data folder.
const S3_UPLOADS: &str = "s3-uploads";

impl Identities {
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.host_keys.iter().chain(&self.certificates).map(String::as_str)
    }

    /// Those of one protocol.
    pub(crate) fn of(&self, protocol: ListenerProtocol) -> &[String] {
        match protocol {
            ListenerProtocol::Sftp => &self.host_keys,
            ListenerProtocol::Ftp
            | ListenerProtocol::Ftps
            | ListenerProtocol::S3s
            | ListenerProtocol::Webdavs => &self.certificates,
            ListenerProtocol::S3 | ListenerProtocol::Webdav => &[],
        }
    }
}

/// Everything that was read, not yet in use.
pub(crate) struct Prepared {
    pub(crate) identities: Identities,
    ssh: SshServerOptions,
    /// `None` where no listener speaks FTP.
    ftp: Option<FtpServerOptions>,
    /// `None` where no listener speaks S3. TLS stands in it where one speaks it over TLS.
    s3: Option<S3ServerOptions>,
    /// `None` where no listener speaks WebDAV. TLS stands in it where one speaks it over TLS.
    webdav: Option<WebdavServerOptions>,
}

/// Reads the keys and certificates that `config` names. Blocks. Errors: those of the files, by name.
///
/// `others` are the sites that may be found by name on the listeners of this one: their certificates are
/// shown to whoever asks for their names.
pub(crate) fn prepare(config: &Config, others: &[&Config]) -> Result<Prepared> {
    let keys = host_keys(config)?;
    let limits = &config.limits;
    let idle = idle(config);
    let ssh = SshServerOptions {
        tries: limits.tries,
        login_time: limits.login_time,
        idle,
        commands: config.ssh.commands,
        ..SshServerOptions::new(keys.clone())
    };
    let mut identities = Identities { host_keys: fingerprints(&keys), certificates: Vec::new() };
    // Without either, no certificate is needed.
    let mut certified = None;
    if speaks_ftp(config) || speaks_webdav(config, true) || speaks_s3(config, true) {
        let tls = tls(config, others)?;
        identities.certificates.push(tls.fingerprint());
        certified = Some(tls);
    }
    let ftp = speaks_ftp(config).then(|| FtpServerOptions {
        tls: certified.clone(),
        tries: limits.tries,
        login_time: limits.login_time,
        idle,
        ..config.ftp.options()
    });
    let s3 =
        speaks_s3(config, false).then(|| S3ServerOptions { tls: certified.clone(), ..s3_options(config) });
    let webdav = speaks_webdav(config, false)
        .then(|| WebdavServerOptions { tls: certified, ..webdav_options(config) });
    Ok(Prepared { identities, ssh, ftp, s3, webdav })
}

/// What [`Limits`](crate::config::Limits) say of idle sessions; `None` for nothing.
fn idle(config: &Config) -> Option<Duration> {
    Some(config.limits.idle_time).filter(|t| !t.is_zero())
}

fn s3_options(config: &Config) -> S3ServerOptions {
    let limits = &config.limits;
    S3ServerOptions {
        tries: limits.tries,
        login_time: limits.login_time,
        idle: idle(config),
        uploads_at: Some(config.data.join(S3_UPLOADS)),
        ..config.s3.options()
    }
}

fn webdav_options(config: &Config) -> WebdavServerOptions {
    let limits = &config.limits;
    WebdavServerOptions {
        tries: limits.tries,
        login_time: limits.login_time,
        idle: idle(config),
        ..config.webdav.options()
    }
}

impl Prepared {
    /// The servers, before a site; `names` leads to other sites, `sessions` are those of HTTP. Errors:
    /// `InvalidArgument` for options that make no sense.
    pub(crate) fn servers(
        self,
        site: &Arc<dyn Site>,
        names: Option<Names>,
        sessions: &Arc<Sessions>,
    ) -> Result<Servers> {
        let ssh = SshServer::new(self.ssh, Arc::clone(site))?;
        let (mut ftp, mut ftps) = (None, None);
        let others = names.as_ref().map(|n| n.sites.clone()).unwrap_or_default();
        if let Some(options) = self.ftp {
            let hosts = names.map(|n| Arc::new(n) as Arc<dyn Hosts>);
            let options = FtpServerOptions { hosts, ..options };
            let implicit = FtpServerOptions { implicit_tls: true, ..options.clone() };
            ftp = Some(FtpServer::new(options, Arc::clone(site))?);
            ftps = Some(FtpServer::new(implicit, Arc::clone(site))?);
        }
        let (mut s3, mut s3s) = (None, None);
        if let Some(options) = self.s3 {
            let hosted = || others.iter().map(Named::s3).collect();
            let plain = S3ServerOptions { tls: None, ..options.clone() };
            s3 = Some(S3Server::with_hosts(plain, Arc::clone(site), sessions, hosted())?);
            if options.tls.is_some() {
                s3s = Some(S3Server::with_hosts(options, Arc::clone(site), sessions, hosted())?);
            }
        }
        let (mut webdav, mut webdavs) = (None, None);
        if let Some(options) = self.webdav {
            let hosted = || others.iter().map(Named::webdav).collect();
            let plain = WebdavServerOptions { tls: None, ..options.clone() };
            webdav = Some(WebdavServer::with_hosts(plain, Arc::clone(site), sessions, hosted())?);
            if options.tls.is_some() {
                webdavs = Some(WebdavServer::with_hosts(options, Arc::clone(site), sessions, hosted())?);
            }
        }
        Ok(Servers { ssh, ftp, ftps, s3, s3s, webdav, webdavs })
    }
}

/// The sites that clients of a listener find by name.
#[derive(Default)]
pub(crate) struct Names {
    messages: HashMap<String, (Arc<dyn Site>, Arc<Messages>)>,
    sites: Vec<Named>,
}

/// One of them, with what protocols over HTTP must know of it.
#[derive(Clone)]
struct Named {
    hosts: Vec<String>,
    s3: S3ServerOptions,
    webdav: WebdavServerOptions,
    site: Arc<dyn Site>,
}

impl Named {
    fn s3(&self) -> S3Hosted {
        S3Hosted { names: self.hosts.clone(), options: self.s3.clone(), site: Arc::clone(&self.site) }
    }

    fn webdav(&self) -> Hosted {
        Hosted { names: self.hosts.clone(), options: self.webdav.clone(), site: Arc::clone(&self.site) }
    }
}

impl Names {
    /// Adds a site under all of its names.
    pub(crate) fn add(&mut self, config: &Config, site: &Arc<dyn Site>) {
        let messages = Arc::new(config.ftp.options().messages);
        let hosts: Vec<String> = config.hosts.iter().chain([&config.site]).cloned().collect();
        for name in &hosts {
            self.messages.insert(name.to_ascii_lowercase(), (Arc::clone(site), Arc::clone(&messages)));
        }
        let (s3, webdav) = (s3_options(config), webdav_options(config));
        self.sites.push(Named { hosts, s3, webdav, site: Arc::clone(site) });
    }
}

impl Hosts for Names {
    fn site(&self, name: &str) -> Option<Arc<dyn Site>> {
        self.messages.get(name).map(|(site, _)| Arc::clone(site))
    }

    fn messages(&self, name: &str) -> Option<Arc<Messages>> {
        self.messages.get(name).map(|(_, messages)| Arc::clone(messages))
    }
}

/// One server per protocol.
pub(crate) struct Servers {
    ssh: SshServer,
    ftp: Option<FtpServer>,
    ftps: Option<FtpServer>,
    s3: Option<S3Server>,
    s3s: Option<S3Server>,
    webdav: Option<WebdavServer>,
    webdavs: Option<WebdavServer>,
}

impl Servers {
    /// Serves what comes to `socket` until `stop`.
    pub(crate) fn serve(&self, protocol: ListenerProtocol, socket: TcpListener, stop: CancellationToken) {
        let (mut ftp, mut s3, mut webdav) = (None, None, None);
        match protocol {
            ListenerProtocol::Sftp => {
                let ssh = self.ssh.clone();
                tokio::spawn(async move { ssh.serve(socket, stop).await });
                return;
            }
            ListenerProtocol::Ftp => ftp = self.ftp.clone(),
            ListenerProtocol::Ftps => ftp = self.ftps.clone(),
            ListenerProtocol::S3 => s3 = self.s3.clone(),
            ListenerProtocol::S3s => s3 = self.s3s.clone(),
            ListenerProtocol::Webdav => webdav = self.webdav.clone(),
            ListenerProtocol::Webdavs => webdav = self.webdavs.clone(),
        }
        // Prepared from the configuration that asked for the listener: it is there.
        if let Some(ftp) = ftp {
            tokio::spawn(async move { ftp.serve(socket, stop).await });
        } else if let Some(s3) = s3 {
            tokio::spawn(async move { s3.serve(socket, stop).await });
        } else if let Some(webdav) = webdav {
            tokio::spawn(async move { webdav.serve(socket, stop).await });
        }
    }
}

/// `SHA256:…` alone: what `--host-key` and other clients take.
fn fingerprints(keys: &HostKeys) -> Vec<String> {
    let bare = |f: String| f.split(' ').next_back().unwrap_or_default().to_string();
    keys.fingerprints().into_iter().map(bare).collect()
}

fn host_keys(config: &Config) -> Result<HostKeys> {
    // A site without host keys has those of the server, whose folder is two above its own.
    let above = if config.apart { 2 } else { 0 };
    let folder = config.data.ancestors().nth(above).unwrap_or(&config.data);
    // Its own, where it names one.
    let own = [folder, &config.data].map(|folder| folder.join("host_ed25519"));
    let mut keys = HostKeys::new();
    for path in &config.host_keys {
        if own.contains(path) {
            let (more, made) = keys.load_or_make(path, HostKeyKind::Ed25519)?;
            keys = more;
            if made {
                tracing::info!("a host key was made: {}", path.display());
            }
        } else {
            keys = keys.load(path)?;
        }
    }
    Ok(keys)
}

/// The TLS of a configuration; `others` add their certificates. Blocks. Errors: those of the files, by name.
pub(crate) fn tls(config: &Config, others: &[&Config]) -> Result<Arc<ServerTls>> {
    let mut certificates = certificates(config)?;
    for other in others {
        let theirs = self::certificates(other)?;
        certificates.extend(theirs.into_iter().filter(|c| !certificates.contains(c)).collect::<Vec<_>>());
    }
    ServerTls::new(ServerTlsOptions {
        certificates,
        client_certificates: config.tls.clients(),
        minimum: config.tls.minimum(),
    })
}

fn certificates(config: &Config) -> Result<Vec<server_tls::CertificateFiles>> {
    let asked = &config.tls;
    let first = if asked.certificate.as_os_str().is_empty() {
        let mut names = asked.names.clone();
        names.extend(config.hosts.iter().cloned());
        names.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
        server_tls::self_signed(&config.data, &names)?
    } else {
        server_tls::CertificateFiles { chain: asked.certificate.clone(), key: asked.key.clone() }
    };
    let more = asked
        .more
        .iter()
        .map(|m| server_tls::CertificateFiles { chain: m.certificate.clone(), key: m.key.clone() });
    Ok(std::iter::once(first).chain(more).collect())
}
