//! What handlers open besides their user's files: folders of this machine, memory, and other servers.
//!
//! A folder is one that `folders` of `[scripts]` names, or lies below one; no link leads out of it. Another server
//! must show the host key that the script names, or a certificate that is named or vouched for; it is reached in
//! private networks only where `networks` says so, and in the clear only with `allow_clear`. Neither keys nor
//! known hosts of who runs the server are used. The time is the handler's; what it opened ends with it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::connect::{Connected, Options, S3Options, UrlStyle, open_url};
use client::url::{Location, Url};
use serde_json::Value;
use session_core::auth::{Account, Secret};
use session_core::batch::Unattended;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Filesystem;
use session_core::gate::SessionFs;
use session_core::intercept::Chain;
use session_core::layers::rooted::Rooted;
use session_core::net::reach::Reach;
use session_core::path::VPath;
use session_core::script::Opened;
use session_core::session::{Actor, Ending, Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};
use session_core::store::memory::{MemoryOptions, MemoryStore};
use tokio::runtime::Handle;

use super::{field, invalid};
use crate::config::Scripts;

/// The content of a filesystem in memory, bytes.
const MEMORY: u64 = 64 << 20;

/// How long a good-bye may take.
const BYE: Duration = Duration::from_secs(5);

/// What may be opened.
pub(super) struct Places {
    folders: Vec<PathBuf>,
    reach: Reach,
    allow_clear: bool,
}

/// Ends what a place was opened with.
struct Local(Arc<Session>);

impl Drop for Local {
    fn drop(&mut self) {
        self.0.cut(Ending::new("the handler is done", Actor::Hook));
    }
}

/// A connection, ended in good order behind the back of whoever drops it.
struct Far(Option<Connected>, Handle);

impl Drop for Far {
    fn drop(&mut self) {
        if let Some(connected) = self.0.take() {
            // On a thread of scripts: nothing that needs the runtime may be made outside of it.
            self.1.spawn(async move {
                let _ = tokio::time::timeout(BYE, connected.close()).await;
            });
        }
    }
}

fn behind_a_gate(fs: Arc<dyn Filesystem>) -> Result<(SessionFs, Local)> {
    let session = Session::new(Setup::new(Protocol::Local, "hook"));
    let identity = session.log_in(Account::named("hook"), vec!["hook"])?;
    let fs = session.guard(&identity, fs, Chain::new(Vec::new()))?;
    Ok((fs, Local(session)))
}

fn opened(fs: Arc<dyn Filesystem>) -> Result<Opened> {
    let (fs, held) = behind_a_gate(fs)?;
    Ok(Opened { fs: Arc::new(fs), base: VPath::root(), held: Box::new(held) })
}

impl Places {
    pub(super) fn new(scripts: &Scripts, reach: Reach) -> Self {
        Places { folders: scripts.folders.clone(), reach, allow_clear: scripts.allow_clear }
    }

    /// Errors: `Refused` for what may not be opened; `InvalidArgument`; those of opening it.
    pub(super) async fn open(&self, request: &Value) -> Result<Opened> {
        let text = |key: &str| field(request, key).as_str().unwrap_or_default();
        match text("kind") {
            "disk" => self.folder(Path::new(text("folder"))).await,
            "memory" => {
                let options = MemoryOptions { limit: Some(MEMORY), ..MemoryOptions::default() };
                opened(Arc::new(MemoryStore::with(options)))
            }
            "remote" => self.remote(request).await,
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    async fn folder(&self, asked: &Path) -> Result<Opened> {
        use std::os::unix::ffi::OsStrExt as _;
        let is_plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
        if !asked.is_absolute() || !asked.components().all(is_plain) {
            return Err(invalid("a folder of this machine is named by its whole path, without '..'"));
        }
        let within = self.folders.iter().filter(|f| asked.starts_with(f));
        let Some(root) = within.max_by_key(|f| f.components().count()) else {
            return Err(Error::refused("this folder is none of those that handlers may work in")
                .with_hint("`folders` of [scripts]"));
        };
        let below = asked.strip_prefix(root).unwrap_or(Path::new(""));
        let below = VPath::parse(&VPath::root(), below.as_os_str().as_bytes())?;
        let root = root.clone();
        let store = tokio::task::spawn_blocking(move || LocalStore::open(root, LocalOptions::default()));
        let store: Arc<dyn Filesystem> = Arc::new(store.await.map_err(|_| ErrorKind::Internal)??);
        opened(if below.is_root() { store } else { Arc::new(Rooted::new(store, below)) })
    }

    async fn remote(&self, request: &Value) -> Result<Opened> {
        let (url, options) = self.options(request)?;
        let connected = open_url(options, Arc::new(Unattended)).await?;
        let (home, fs) = (connected.home().clone(), connected.fs().clone());
        let base = url.vpath(&home)?;
        let held = Box::new(Far(Some(connected), Handle::current()));
        let rooted = field(request, "rooted").as_bool().unwrap_or(false);
        Ok(match rooted && !base.is_root() {
            true => Opened { fs: Arc::new(Rooted::new(Arc::new(fs), base)), base: VPath::root(), held },
            false => Opened { fs: Arc::new(fs), base: home, held },
        })
    }

    /// How to reach and trust the server that a script names.
    fn options(&self, request: &Value) -> Result<(Url, Options)> {
        let text = |key: &str| field(request, key).as_str().unwrap_or_default();
        let some = |key: &str| Some(text(key)).filter(|t| !t.is_empty());
        let secret = |key: &str| some(key).map(Secret::new);
        let texts = |key: &str| -> Vec<String> {
            let all = field(request, key).as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let Location::Remote(mut url) = Location::parse(text("url"))? else {
            return Err(invalid("this is no URL of a server"));
        };
        if url.site().is_some() {
            return Err(invalid("sites are the client's"));
        }
        if let Some(user) = some("user") {
            url.user = Some(user.to_owned());
        }
        let (host_keys, certificates) = (texts("hostKeys"), texts("certificates"));
        match url.scheme.as_str() {
            "scp" | "sftp" if host_keys.is_empty() && url.fingerprint.is_none() => {
                return Err(Error::refused("the server must be known: name its host key (HostKeySHA256)"));
            }
            "scp" | "sftp" if url.user.is_none() => return Err(invalid("it does not say who logs in")),
            "ftp" | "dav" | "http" | "s3plain" if !self.allow_clear => {
                return Err(Error::refused("password and content could be read on the way")
                    .with_hint("`allow_clear` of [scripts]"));
            }
            _ => {}
        }
        let options = Options::from_url(&url)?
            .host_keys(&host_keys)?
            .certificates(&certificates)?
            .only_given_keys()
            .password(some("pass").map(str::to_owned))
            .keys(secret("key").into_iter().collect())
            .phrase(secret("phrase"))
            .token(secret("token"))
            .secrets_in_the_clear(self.allow_clear)
            .s3(|usual| S3Options {
                // Nobody of the environment: a script would act as this machine.
                environment: false,
                profile: None,
                session_token: secret("token"),
                region: some("region").map(str::to_owned),
                style: match field(request, "pathStyle").as_bool() {
                    Some(true) => UrlStyle::Path,
                    _ => UrlStyle::Auto,
                },
                ..usual.clone()
            })
            .reach(self.reach.clone());
        Ok((url, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use session_core::fs::Follow;
    use session_core::fs_ext::FilesystemExt as _;

    fn places(folders: &[&Path], allow_clear: bool) -> Places {
        let scripts = Scripts {
            folders: folders.iter().map(|f| f.to_path_buf()).collect(),
            allow_clear,
            ..Scripts::default()
        };
        Places::new(&scripts, Reach { public_only: true, ..Reach::default() })
    }

    #[tokio::test]
    async fn folders_are_those_that_are_named_and_no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("in/deep")).unwrap();
        std::fs::write(at("secret"), "s").unwrap();
        std::fs::write(at("in/near"), "near").unwrap();
        std::os::unix::fs::symlink("../secret", at("in/up")).unwrap();
        std::os::unix::fs::symlink("../near", at("in/deep/beside")).unwrap();
        let places = places(&[&at("in")], false);
        let open = async |path: PathBuf| places.open(&json!({ "kind": "disk", "folder": path })).await;
        let opened = open(at("in")).await.unwrap();
        let fs = &opened.fs;
        assert_eq!(fs.read_to_vec(&VPath::absolute("/near").unwrap(), 10).await.unwrap(), b"near");
        assert!(fs.read_to_vec(&VPath::absolute("/up").unwrap(), 10).await.is_err());
        // A folder below is a root of its own.
        let deep = open(at("in/deep")).await.unwrap();
        let beside = VPath::absolute("/beside").unwrap();
        assert!(deep.fs.read_to_vec(&beside, 10).await.is_err());
        assert!(deep.fs.stat(&beside, Follow::No).await.is_ok());
        for refused in [dir.path().to_path_buf(), at("inside"), PathBuf::from("/")] {
            assert_eq!(open(refused).await.unwrap_err().kind(), ErrorKind::Refused);
        }
        for bad in [at("in/../secret"), PathBuf::from("in"), PathBuf::new()] {
            assert_eq!(open(bad).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        // What is let go of does nothing more.
        let (fs, held) = (Arc::clone(&deep.fs), deep.held);
        drop(held);
        assert!(fs.stat(&beside, Follow::No).await.is_err());
    }

    #[tokio::test]
    async fn a_server_must_be_known_and_reachable() {
        const KEY: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        let open = async |allow_clear: bool, request: Value| {
            let mut request = request;
            request["kind"] = "remote".into();
            places(&[], allow_clear).open(&request).await.unwrap_err()
        };
        let sftp = "sftp://127.0.0.1:1/";
        for url in [sftp, "scp://127.0.0.1:1/"] {
            let e = open(false, json!({ "url": url, "user": "a" })).await;
            assert!(e.kind() == ErrorKind::Refused && e.to_string().contains("HostKeySHA256"), "{e:#}");
        }
        let e = open(false, json!({ "url": sftp, "hostKeys": [KEY] })).await;
        assert!(e.to_string().contains("who logs in"), "{e:#}");
        let known = json!({ "url": sftp, "user": "a", "pass": "b", "hostKeys": [KEY] });
        assert_eq!(open(false, known).await.kind(), ErrorKind::Refused, "a private address");
        for clear in ["ftp", "dav", "http", "s3plain"].map(|scheme| format!("{scheme}://127.0.0.1:1/bucket"))
        {
            let request = json!({ "url": clear, "user": "a", "pass": "b" });
            let e = open(false, request.clone()).await;
            assert!(e.to_string().contains("on the way"), "{e:#}");
            assert_eq!(open(true, request).await.kind(), ErrorKind::Refused, "{clear}: a private address");
        }
        for bad in ["/local", "site://x", "gopher://x/"] {
            let kind = open(true, json!({ "url": bad })).await.kind();
            assert!(matches!(kind, ErrorKind::InvalidArgument | ErrorKind::Unsupported), "{bad}");
        }
    }
}
