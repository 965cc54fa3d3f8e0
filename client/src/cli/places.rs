//! Places named on the command line, opened; one connection for each server.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use session_core::auth::Secret;
use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::net::dial::Family;
use session_core::net::proxy::Proxy;
use session_core::path::VPath;

use super::args::Global;
use super::decide::Terminal;
use super::render::warn;
use crate::connect::{Connected, Executor, Options, RequestLimit, open_local, open_url};
use crate::jobs::Side;
use crate::log::SessionLog;
use crate::sites::Store;
use crate::url::{Location, Url};

/// A place in an open filesystem.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) fs: SessionFs,
    pub(super) path: VPath,
    /// As the user wrote it, without a password.
    pub(super) shown: String,
    /// It ended in a slash: a directory is meant.
    pub(super) slash: bool,
    pub(super) remote: bool,
    /// Equal for places in one filesystem.
    pub(super) key: String,
    /// How the filesystem is found again.
    pub(super) side: Side,
}

/// A place as the user wrote it, without a password; of what is none, nothing is known to be no secret.
pub(super) fn shown(text: &str) -> Option<String> {
    match Location::parse(text).ok()? {
        Location::Local(path) => Some(path.display().to_string()),
        Location::Remote(url) => Some(url.to_string()),
    }
}

/// Opens places and keeps what is open.
pub(super) struct Places {
    global: Global,
    decider: Arc<dyn Decider>,
    open: HashMap<String, Connected>,
    /// Where they begin.
    starts: HashMap<String, VPath>,
    channels: usize,
    lines: usize,
    around: Arc<Chain>,
    /// Of all remotes together, from the first on that is opened.
    requests: OnceLock<Option<Arc<RequestLimit>>>,
    log: Option<SessionLog>,
    warned: BTreeSet<String>,
}

impl Places {
    pub(super) fn new(global: &Global) -> Self {
        let decider = Arc::new(Terminal::new(global.batch));
        Places {
            global: global.clone(),
            decider,
            open: HashMap::new(),
            starts: HashMap::new(),
            channels: 1,
            lines: 1,
            around: Arc::default(),
            requests: OnceLock::new(),
            log: None,
            warned: BTreeSet::new(),
        }
    }

    /// The same, from now on.
    pub(super) fn keep_channels(&mut self, channels: usize) {
        self.channels = channels;
    }

    /// The disk of this machine.
    pub(super) fn local(&mut self) -> Result<SessionFs> {
        if !self.open.contains_key("") {
            self.open.insert(String::new(), open_local()?);
        }
        Ok(self.open.get("").ok_or(ErrorKind::Internal)?.fs().clone())
    }

    /// Ends one connection in good order, if it is there.
    pub(super) async fn close_one(&mut self, key: &str) {
        self.starts.remove(key);
        if let Some(connected) = self.open.remove(key) {
            connected.close().await;
        }
    }

    pub(super) fn with_channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// Opens places over so many connections each, where files in segments are to go over them.
    pub(super) fn with_lines(mut self, lines: usize) -> Self {
        self.lines = lines;
        self
    }

    /// Asks these interceptors about everything at remotes that are opened from now on.
    #[cfg(feature = "hooks")]
    pub(super) fn ask(&mut self, around: Arc<Chain>) {
        self.around = around;
    }

    /// Who is asked.
    pub(super) fn around(&self) -> Arc<Chain> {
        Arc::clone(&self.around)
    }

    /// Writes what is said to remotes, from now on, where the flags say. Errors: those of [`SessionLog::open`].
    pub(super) fn open_log(&mut self) -> Result<()> {
        let open = |path: &std::path::PathBuf| SessionLog::open(path, self.global.log_level);
        self.log = self.global.log.as_ref().map(open).transpose()?;
        Ok(())
    }

    /// Where what is said is written.
    pub(super) fn log(&self) -> Option<SessionLog> {
        self.log.clone()
    }

    /// How much may be asked of all remotes in a second.
    pub(super) fn request_limit(&self) -> Option<Arc<RequestLimit>> {
        let limit = || self.global.limit_requests.0.map(|n| Arc::new(RequestLimit::new(n)));
        self.requests.get_or_init(limit).clone()
    }

    /// The flags that the next places are opened with.
    pub(super) fn global_mut(&mut self) -> &mut Global {
        &mut self.global
    }

    pub(super) fn decider(&self) -> Arc<dyn Decider> {
        Arc::clone(&self.decider)
    }

    /// How a remote is reached: as the URL or the stored site says, and the flags, which stand above a site.
    pub(super) async fn options(&self, url: &Url) -> Result<Options> {
        Ok(self.options_and_start(url).await?.0)
    }

    /// The same, with the directory in which a site begins.
    async fn options_and_start(&self, url: &Url) -> Result<(Options, Option<String>)> {
        let (options, start) = match url.site() {
            Some(name) => {
                let site = Store::of_user()?.open(name, &*self.decider).await?;
                (site.options.to_connect()?, site.directory)
            }
            None => (Options::from_url(url)?, None),
        };
        Ok((self.flagged(options)?, start))
    }

    fn flagged(&self, mut options: Options) -> Result<Options> {
        let (global, way) = (&self.global, &self.global.way);
        options = options
            .host_keys(&global.host_key)?
            .certificates(&global.certificate)?
            .password(global.password.clone())
            .phrase(std::env::var("FERRY_PASSPHRASE").ok().map(Secret::new))
            .proxy_of_environment(true)
            .interceptors(self.around())
            .request_limit(self.request_limit())
            .log(self.log.as_ref())
            .reconnect(std::time::Duration::from_secs(global.reconnect));
        if !global.identity.is_empty() {
            options = options.identities(global.identity.clone());
        }
        if global.known_hosts.is_some() {
            options = options.known_hosts(global.known_hosts.clone());
        }
        if global.accept_new {
            options = options.accept_new(true);
        }
        if let Some(proxy) = &way.proxy {
            options = options.proxy(Some(Proxy::parse(proxy)?));
        }
        if way.bind.is_some() {
            options = options.source(way.bind);
        }
        if way.active {
            options = options.active(true);
        }
        if way.client_certificate.is_some() {
            options = options.client_certificate(way.client_certificate.clone());
        }
        if let Some(seconds) = global.connect_timeout {
            options = options.timeout(std::time::Duration::from_secs(seconds));
        }
        if way.ipv4 || way.ipv6 {
            options = options.family(Some(if way.ipv4 { Family::V4 } else { Family::V6 }));
        }
        #[cfg(feature = "s3")]
        {
            options = options.s3(|place| global.s3.over(place));
        }
        #[cfg(feature = "sftp")]
        {
            use crate::connect::{ConfigUse, Hop};
            if let Some(jump) = &way.jump {
                options = options.jump(Some(Hop::parse(jump)?));
            }
            options = options.ssh_config(match &way.ssh_config {
                None => ConfigUse::Usual,
                Some(file) if file.as_os_str() == "none" => ConfigUse::None,
                Some(file) => ConfigUse::File(file.clone()),
            });
        }
        Ok(options)
    }

    /// Opens the place that `text` names.
    pub(super) async fn open(&mut self, text: &str) -> Result<Place> {
        match Location::parse(text)? {
            Location::Local(path) => {
                let fs = self.local()?;
                let connected = self.open.get("").ok_or(ErrorKind::Internal)?;
                let raw = path.as_os_str().as_bytes();
                if raw.is_empty() {
                    return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a place is empty"));
                }
                Ok(Place {
                    fs,
                    path: VPath::parse(connected.home(), raw)?,
                    shown: path.display().to_string(),
                    slash: raw.ends_with(b"/") || raw == b"." || raw.ends_with(b"/.") || raw == b"..",
                    remote: false,
                    key: String::new(),
                    side: Side::Local,
                })
            }
            Location::Remote(url) => self.open_remote(url).await,
        }
    }

    /// Opens the place that a URL names.
    pub(super) async fn open_remote(&mut self, url: Url) -> Result<Place> {
        let key = format!(
            "{}://{}@{}:{}",
            url.scheme,
            url.user.as_deref().unwrap_or_default(),
            url.host,
            url.port.unwrap_or_default()
        );
        if !self.open.contains_key(&key) {
            let (options, start) = self.options_and_start(&url).await?;
            let options = options.channels(self.channels).lines(self.lines);
            let connected = open_url(options, self.decider()).await?;
            for words in connected.warnings() {
                if self.warned.insert(words.clone()) {
                    warn(&format!("ssh_config: {words}"), self.global.json);
                }
            }
            #[cfg(feature = "webdav")]
            if let Some(remote) = connected.webdav() {
                super::locks::kept(&key).await.into_iter().for_each(|lock| remote.hold_lock(lock));
            }
            let begins = match start {
                // As in URLs, a tilde is the login folder.
                Some(dir) => {
                    VPath::parse(connected.home(), dir.strip_prefix("~/").unwrap_or(&dir).as_bytes())?
                }
                None => connected.home().clone(),
            };
            self.open.insert(key.clone(), connected);
            self.starts.insert(key.clone(), begins);
        }
        let connected = self.open.get(&key).ok_or(ErrorKind::Internal)?;
        let path = match self.starts.get(&key) {
            Some(begins) if url.path.is_empty() => begins.clone(),
            _ => url.vpath(connected.home())?,
        };
        Ok(Place {
            fs: connected.fs().clone(),
            path,
            slash: url.path.is_empty() || url.path.ends_with(b"/"),
            shown: url.to_string(),
            remote: true,
            key,
            side: Side::Remote(Box::new(Url { password: None, ..url })),
        })
    }

    /// What runs commands in an open place.
    pub(super) fn executor(&self, key: &str) -> Result<Executor> {
        Ok(self.open.get(key).ok_or(ErrorKind::Internal)?.executor())
    }

    /// The store of an open place, if it is one of S3.
    #[cfg(feature = "s3")]
    pub(super) fn s3(&self, key: &str) -> Option<Arc<proto_s3::client::S3Remote>> {
        self.open.get(key)?.s3().cloned()
    }

    /// The server of an open place, if it is one of WebDAV.
    #[cfg(feature = "webdav")]
    pub(super) fn webdav(&self, key: &str) -> Option<Arc<proto_webdav::client::WebdavRemote>> {
        self.open.get(key)?.webdav().cloned()
    }

    /// Where relative paths begin in an open place.
    pub(super) fn home(&self, key: &str) -> Result<VPath> {
        Ok(self.open.get(key).ok_or(ErrorKind::Internal)?.home().clone())
    }

    /// Ends every connection in good order.
    pub(super) async fn close(self) {
        for (_, connected) in self.open {
            connected.close().await;
        }
    }
}
