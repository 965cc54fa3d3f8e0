//! The protocols by which clients reach a `ferryd`, for what must hold on each of them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use client::connect::{Connected, Options, open_url};
use client::url::Url;
use session_core::batch::Unattended;
use session_core::error::Result;
use session_core::fs::{File, Filesystem as _, OpenOptions};
use session_core::path::VPath;

use super::{PASSWORD, Server, user};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The scheme of its URLs.
    pub scheme: &'static str,
    /// The protocol of its listener.
    pub listener: &'static str,
    /// What its sessions say that they speak.
    pub name: &'static str,
    /// What it says can be read on the way.
    pub clear: bool,
}

/// All of them.
pub const WAYS: [Way; 8] = [
    Way { scheme: "sftp", listener: "sftp", name: "SFTP", clear: false },
    Way { scheme: "scp", listener: "sftp", name: "SCP", clear: false },
    Way { scheme: "ftp", listener: "ftp", name: "FTP", clear: true },
    Way { scheme: "ftps", listener: "ftps", name: "FTPS", clear: false },
    Way { scheme: "dav", listener: "webdav", name: "WEBDAV", clear: true },
    Way { scheme: "davs", listener: "webdavs", name: "WEBDAVS", clear: false },
    Way { scheme: "s3plain", listener: "s3", name: "S3", clear: true },
    Way { scheme: "s3", listener: "s3s", name: "S3", clear: false },
];

/// Listeners for all of them. A session of HTTP is over as soon as its client is, and may come back at once.
pub const EVERYWHERE: &str = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }, \
     { protocol = \"ftps\", port = 0 }, { protocol = \"webdav\", port = 0 }, { protocol = \"webdavs\", port = 0 }, \
     { protocol = \"s3\", port = 0 }, { protocol = \"s3s\", port = 0 }]\n\
     [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n[webdav]\nlinger = \"20ms\"\nhold = \"0s\"\n\
     [s3]\nlinger = \"20ms\"\nhold = \"0s\"\n";

/// The secret of every access key, which is called as its user.
const SECRET: &str = "a secret that is long enough";

/// A `[[users]]` table of a user with the password and an access key; more keys may follow.
pub fn user_everywhere(name: &str) -> String {
    format!("{}access_keys = [{{ id = \"{name}\", secret = \"{SECRET}\" }}]\n", user(name))
}

impl Way {
    pub fn of(scheme: &str) -> Way {
        WAYS.into_iter().find(|w| w.scheme == scheme).unwrap()
    }

    pub fn is_s3(self) -> bool {
        self.listener.starts_with("s3")
    }

    /// Over SSH a client has a session as long as its connection; over HTTP a session has connections.
    pub fn is_http(self) -> bool {
        self.is_s3() || self.listener.starts_with("webdav")
    }

    /// Where in a home files can be: the first level of S3 is buckets.
    pub fn base(self) -> &'static str {
        if self.is_s3() { "/bucket" } else { "" }
    }

    /// A path below the base.
    pub fn at(self, path: &str) -> VPath {
        VPath::absolute(self.text(path)).unwrap()
    }

    /// The same as text.
    pub fn text(self, path: &str) -> String {
        format!("{}{path}", self.base())
    }

    /// Where on the disk that is, in the home of `user`, which is made.
    pub fn on_disk(self, server: &Server, user: &str, path: &str) -> PathBuf {
        let base = server.home(user).join(self.base().trim_start_matches('/'));
        std::fs::create_dir_all(&base).unwrap();
        base.join(path.trim_start_matches('/'))
    }

    /// An upload under way, and its content, of which half is written: so much that no client keeps all of it back.
    pub async fn half_uploaded(self, c: &Connected, at: &str) -> Result<(Arc<dyn File>, Bytes)> {
        // S3 sends what fills a part.
        let half = if self.is_s3() { 9 << 20 } else { 1 << 20 };
        let content = Bytes::from(vec![b'x'; 2 * half]);
        let options = OpenOptions { size_hint: Some(2 * half as u64), ..OpenOptions::create() };
        let file = c.fs().open(&self.at(at), &options).await?;
        for piece in 0..4 {
            let from = piece * half / 4;
            file.write_at(from as u64, content.slice(from..from + half / 4)).await?;
        }
        Ok((file, content))
    }

    /// What a client needs to reach `server` as `user`; what is good over all others is for S3 a secret.
    pub fn options(self, server: &Server, user: &str, password: &str) -> Options {
        let port = server.port_of("ferry", self.listener);
        let url = Url {
            scheme: self.scheme.into(),
            user: Some(user.into()),
            password: None,
            fingerprint: (!self.clear).then(|| server.fingerprint_at(port)),
            host: "127.0.0.1".into(),
            port: Some(port),
            path: format!("{}/", self.base()).into_bytes(),
        };
        let secret = if self.is_s3() && password == PASSWORD { SECRET } else { password };
        Options::from_url(&url).unwrap().password(Some(secret.into())).only_given_keys()
    }

    pub async fn try_login(self, server: &Server, user: &str, password: &str) -> Result<Connected> {
        open_url(self.options(server, user, password), Arc::new(Unattended)).await
    }

    pub async fn login(self, server: &Server, user: &str) -> Connected {
        let connected = self.try_login(server, user, PASSWORD).await;
        connected.unwrap_or_else(|e| panic!("{user} over {}: {e:#}\n{}", self.scheme, server.log()))
    }
}
