//! How to reach, trust and enter a server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use session_core::auth::Secret;
use session_core::net::client_tls::ClientTlsOptions;
use session_core::net::dial::{Dial, Family, bare};
use session_core::net::proxy::Proxy;
use session_core::net::reach::Reach;
use session_core::path::VPath;
use session_core::session::Session;

/// How a server is told the time of a file. WebDAV has no way of its own: `getlastmodified` is the
/// server's (RFC 4918, section 15.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTimes {
    /// PROPPATCH of `DAV:getlastmodified` (wsgidav, where its `mutable_live_props` name it).
    LastModified,
    /// `X-OC-Mtime` with PUT, PROPPATCH of `DAV:lastmodified` (ownCloud, Nextcloud, SFTPGo, rclone).
    OwnCloud,
    /// PROPPATCH of `Win32LastModifiedTime` (`urn:schemas-microsoft-com:`; IIS, ours).
    Win32,
}

/// How to reach, trust and enter a server.
#[derive(Clone)]
pub struct WebdavConnectOptions {
    /// The host: a name or an address, an IPv6 address with or without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// TLS from the first byte (`davs://`, `https://`).
    pub secure: bool,
    /// Where to look first: paths are those of the server's URLs, and only some of them are WebDAV's.
    pub home: VPath,
    /// Which addresses.
    pub family: Family,
    /// The address of this machine from which to connect.
    pub source: Option<IpAddr>,
    /// Which addresses may be connected to; any where nothing else is said.
    pub reach: Reach,
    /// By which way.
    pub proxy: Proxy,
    /// Who logs in; nobody where it is `None`.
    pub user: Option<String>,
    /// The password; where it is `None` and the server wants one, the decider is asked.
    pub password: Option<Secret>,
    /// A token to show instead of user and password (RFC 6750).
    pub token: Option<Secret>,
    /// A password or token may be sent in the clear over a network (Basic without TLS). To this machine
    /// itself it always may.
    pub secrets_in_the_clear: bool,
    /// Pinned certificates, versions, the user's own certificate.
    pub tls: ClientTlsOptions,
    /// HTTP/2 where TLS agrees on it.
    pub http2: bool,
    /// Requests with a body in flight at most; over HTTP/1.1 each has a connection of its own. At least 2,
    /// so that a file can be read while another is written.
    pub connections: usize,
    /// How long each step may take: reaching the host, the beginning of an answer; also how long a body
    /// may stand still. What a server does with a tree, or with a file that has arrived, may take fifteen
    /// times as long.
    pub timeout: Duration,
    /// Files up to so many bytes are sent in one piece when they are committed: a server sees them whole or
    /// not at all. Larger ones flow from the moment on that this is known. 0: every upload begins at once.
    pub hold: usize,
    /// Files above so many bytes go to Nextcloud in chunks of that size, at least 5 MiB, and can be gone on with; three
    /// chunks wait in memory. 0: in one piece, as elsewhere.
    pub chunk: u64,
    /// How times are set; where it is `None` that is found out, by how the server names itself or with the first
    /// one that is set.
    pub times: Option<SetTimes>,
    /// The session that counts and cuts; one is made where none is given. Cutting it ends all connections
    /// at once.
    pub session: Option<Arc<Session>>,
}

impl std::fmt::Debug for WebdavConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebdavConnectOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("secure", &self.secure)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl WebdavConnectOptions {
    /// The usual, for this host: TLS, nobody logs in.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        WebdavConnectOptions {
            host: host.into(),
            port,
            secure: true,
            home: VPath::root(),
            family: Family::default(),
            source: None,
            reach: Reach::default(),
            proxy: Proxy::Direct,
            user: None,
            password: None,
            token: None,
            secrets_in_the_clear: false,
            tls: ClientTlsOptions::default(),
            http2: true,
            connections: 8,
            timeout: Duration::from_secs(20),
            hold: 256 << 10,
            chunk: 10 << 20,
            times: None,
            session: None,
        }
    }

    /// The host without the brackets that a URL puts around an address.
    pub(super) fn bare_host(&self) -> &str {
        bare(&self.host)
    }

    /// How to reach the server.
    pub(super) fn dial(&self) -> Dial {
        Dial {
            user: self.user.clone().unwrap_or_default(),
            family: self.family,
            source: self.source,
            reach: self.reach.clone(),
            proxy: self.proxy.clone(),
            timeout: self.timeout,
            // A torn upload must not look like a whole one.
            reset_on_drop: false,
            ..Dial::new(self.bare_host(), self.port)
        }
    }

    /// How long the server may be busy with what it was told.
    pub(super) fn patience(&self) -> Duration {
        self.timeout * 15
    }
}
