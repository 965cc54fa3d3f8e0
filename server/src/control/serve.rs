//! The control socket: the API for this machine's administrators.
//!
//! Who may open the socket may do everything. Connections, heads and times are bounded; the answers are
//! those of `super::api`.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, rt};
use hyper_util::rt::TokioIo;
use session_core::error::{Error, ErrorKind, Result};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::api::{self, Caller, ControlState, REQUEST_TIME};
use crate::accounts::Role;

/// Connections at once; more wait in the socket's queue.
const CONNECTIONS: usize = 32;

/// Time for answers under way when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Opens the socket and answers on it until `shutdown` fires; then its file is removed. A socket that
/// nobody answers on is replaced; one that answers is another server's, and what is no socket is left
/// alone. Errors: `AlreadyExists`, and those of the file system.
pub async fn serve(path: PathBuf, state: ControlState, shutdown: CancellationToken) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    make_way(&path).await?;
    let cannot = |e: io::Error| {
        Error::from(e).with_detail(format!("the control socket {} cannot be made", path.display()))
    };
    let listener = UnixListener::bind(&path).map_err(cannot)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    let made = std::fs::symlink_metadata(&path).map_err(cannot)?;
    let file = SocketFile { path, device: made.dev(), inode: made.ino() };
    let owner = made.uid();
    tokio::spawn(async move {
        // Dropped before the listener: while the file is there, somebody answers.
        let listener = listener;
        let _file = file;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = async {
                    let slot = Arc::clone(&slots).acquire_owned().await;
                    (slot, listener.accept().await)
                } => accepted,
            };
            let (Ok(slot), Ok((socket, _))) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let uid = socket.peer_cred().ok().map(|c| c.uid());
            // Between bind and chmod the mode is the umask's.
            if uid.is_some_and(|uid| !admits(owner, uid)) {
                tracing::warn!(uid, "a control connection of another user was refused");
                continue;
            }
            let actor = uid.map(|uid| format!("uid {uid}")).unwrap_or_default();
            let (state, shutdown) = (state.clone(), shutdown.clone());
            tokio::spawn(async move {
                converse(socket, state, actor, shutdown).await;
                drop(slot);
            });
        }
    });
    Ok(())
}

/// Root and the server's own user administer it.
fn admits(owner: u32, uid: u32) -> bool {
    uid == owner || uid == 0
}

/// Removes what a dead server left at `path`, and nothing else.
async fn make_way(path: &Path) -> Result<()> {
    let taken = |words: String| Error::new(ErrorKind::AlreadyExists).with_detail(words);
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(taken(format!("{} is there and is no socket", path.display()))
                .with_hint("name another path for the control socket, or move that file away"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        // Nobody listens: its server is dead. Any other failure may be a server that is busy.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(taken(format!("another ferryd answers on {}", path.display()))
            .with_hint("stop it, or give this one another data folder or --control")),
        Err(e) => Err(taken(format!("{} may belong to another ferryd", path.display())).with_source(e)),
    }
}

/// The file of our socket: removed with this, unless another server has put its own there.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |m: std::fs::Metadata| m.dev() == self.device && m.ino() == self.inode;
        if std::fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn converse(socket: UnixStream, state: ControlState, actor: String, shutdown: CancellationToken) {
    let caller = Caller { actor, role: Role::Admin, token: None };
    talk(TokioIo::new(socket), state, move |_| Ok(caller.clone()), shutdown).await;
}

/// Answers on one connection until it ends; `who` tells whose a request is.
pub(super) async fn talk<I, W>(io: I, state: ControlState, who: W, shutdown: CancellationToken)
where
    I: rt::Read + rt::Write + Unpin + Send + 'static,
    W: Fn(&Request<Incoming>) -> Result<Caller> + Clone + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let (state, who) = (state.clone(), who.clone());
        async move { Ok::<_, Infallible>(api::answer(&state, who, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(64 << 10)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(e) = served {
        tracing::debug!(error = %e, "a control connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Accounts, Contents, Desk, InForce, Touched};
    use crate::config::Config;
    use crate::control::api::MAX_BODY;
    use crate::control::client::Control;
    use crate::protector::Protector;
    use serde_json::{Value, json};
    use session_core::auth::Account;
    use session_core::registry::{Caps, SessionRegistry};
    use session_core::session::{Protocol, Setup, system_clock};

    struct World {
        dir: tempfile::TempDir,
        registry: Arc<SessionRegistry>,
        control: Control,
        _stop: tokio_util::sync::DropGuard,
    }

    fn protector() -> Arc<Protector> {
        Protector::new(crate::protector::Settings::default(), None, system_clock()).unwrap()
    }

    async fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let registry = SessionRegistry::new(Caps::default());
        for (user, port) in [("alice", 1), ("alice", 2), ("bob", 3)] {
            let mut setup = Setup::new(Protocol::Sftp, "s");
            setup.peer = Some(([192, 0, 2, port], 1000).into());
            registry.open(setup).unwrap().log_in(Account::named(user), vec!["password"]).unwrap();
        }
        let state = ControlState {
            status: Arc::new(|| json!({ "ok": true })),
            reload: Arc::new(|_| {
                Box::pin(async { Err(Error::new(ErrorKind::InvalidArgument).with_detail("line 7")) })
            }),
            ..idle_state(&registry)
        };
        let stop = CancellationToken::new();
        let path = dir.path().join("run/control.sock");
        serve(path.clone(), state, stop.clone()).await.unwrap();
        World { dir, registry, control: Control::new(path), _stop: stop.drop_guard() }
    }

    #[tokio::test]
    async fn lists_shows_and_filters() {
        let w = world().await;
        assert_eq!(w.control.get("/v1/status").await.unwrap()["ok"], true);
        let count = |v: Value| v["sessions"].as_array().unwrap().len();
        assert_eq!(count(w.control.get("/v1/sessions").await.unwrap()), 3);
        assert_eq!(count(w.control.get("/v1/sessions?user=alice").await.unwrap()), 2);
        assert_eq!(count(w.control.get("/v1/sessions?address=192.0.2.3&protocol=sftp").await.unwrap()), 1);
        let id = w.registry.list()[0].id().to_string();
        let one = w.control.get(&format!("/v1/sessions/{id}")).await.unwrap();
        assert_eq!((one["sessionId"].as_str(), one["userName"].as_str()), (Some(id.as_str()), Some("alice")));
        let mode = std::fs::metadata(w.dir.path().join("run/control.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn ends_sessions_with_reason_and_actor() {
        let w = world().await;
        let session = w.registry.list().remove(0);
        let path = format!("/v1/sessions/{}/terminate", session.id());
        let done = w.control.post(&path, &json!({ "reason": "bye" })).await.unwrap();
        assert_eq!(done["terminated"][0]["inFlight"], 0);
        let ending = session.ending().unwrap();
        assert_eq!(&*ending.reason, "bye");
        assert!(ending.actor.to_string().starts_with("admin uid "), "{}", ending.actor);
        w.control.post("/v1/sessions/terminate?user=alice", &Value::Null).await.unwrap();
        assert_eq!(w.registry.list().len(), 1);
        w.control.post("/v1/sessions/terminate?address=192.0.2.3", &Value::Null).await.unwrap();
        assert!(w.registry.is_empty());
    }

    #[tokio::test]
    async fn lists_are_shown_and_changed() {
        let w = world().await;
        let body = json!({ "network": "198.51.100.7", "time": "1h", "reason": "ours" });
        let added = w.control.post("/v1/safe/add", &body).await.unwrap();
        assert_eq!(
            (&added["entry"]["network"], &added["inForce"]),
            (&json!("198.51.100.7/32"), &json!(true))
        );
        let shown = w.control.get("/v1/safe").await.unwrap();
        assert_eq!(shown["networks"][0]["reason"], "ours");
        assert!(shown["networks"][0]["by"].as_str().unwrap().starts_with("admin uid "));
        assert_eq!(shown["declared"][0], "127.0.0.0/8");
        let network = json!({ "network": "198.51.100.0/24" });
        assert_eq!(w.control.post("/v1/allow/add", &network).await.unwrap()["inForce"], false);
        assert_eq!(w.control.get("/v1/bans").await.unwrap()["bans"], json!([]), "each list is its own");
        w.control.post("/v1/allow/remove", &network).await.unwrap();
        let kind = |r: Result<Value>| r.err().unwrap().kind();
        assert_eq!(kind(w.control.post("/v1/allow/remove", &network).await), ErrorKind::NotFound);
        assert_eq!(
            kind(w.control.post("/v1/safe/add", &json!({ "network": "x" })).await),
            ErrorKind::InvalidArgument
        );
        assert_eq!(kind(w.control.post("/v1/safe/add", &Value::Null).await), ErrorKind::InvalidArgument);
    }

    #[tokio::test]
    async fn bad_requests_get_clear_errors() {
        let w = world().await;
        let kind = |r: Result<Value>| r.err().unwrap().kind();
        assert_eq!(kind(w.control.get("/v1/sessions/nobody").await), ErrorKind::NotFound);
        assert_eq!(kind(w.control.get("/v2/x").await), ErrorKind::NotFound);
        assert_eq!(kind(w.control.get("/v1/reload").await), ErrorKind::Unsupported);
        assert_eq!(kind(w.control.get("/v1/sessions?colour=red").await), ErrorKind::InvalidArgument);
        assert_eq!(
            kind(w.control.post("/v1/sessions/terminate", &Value::Null).await),
            ErrorKind::InvalidArgument
        );
        let large = json!({ "reason": "x".repeat(MAX_BODY) });
        assert_eq!(kind(w.control.post("/v1/sessions/terminate?user=a", &large).await), ErrorKind::TooLarge);
        let e = w.control.post("/v1/reload", &Value::Null).await.err().unwrap();
        assert!(e.to_string().contains("line 7"), "{e}");
        assert_eq!(w.registry.list().len(), 3);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let w = world().await;
        let state = idle_state(&w.registry);
        let live = w.dir.path().join("run/control.sock");
        let e = serve(live, state.clone(), CancellationToken::new()).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        let stale = w.dir.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        serve(stale.clone(), state, CancellationToken::new()).await.unwrap();
        assert!(Control::new(stale).get("/v1/status").await.is_ok());
        let nobody = Control::new(w.dir.path().join("none")).get("/v1/status").await.err().unwrap();
        assert_eq!(nobody.kind(), ErrorKind::Disconnected);
    }

    struct Nobody;

    #[async_trait::async_trait]
    impl InForce for Nobody {
        fn file(&self) -> Arc<Config> {
            Arc::default()
        }

        fn declared_secrets(&self) -> Vec<String> {
            Vec::new()
        }

        async fn rehearse(&self, _: Contents, _: Vec<String>) -> Result<()> {
            Ok(())
        }

        async fn renew(&self, _: Touched, _: &str) -> Result<usize> {
            Ok(0)
        }
    }

    fn idle_state(registry: &Arc<SessionRegistry>) -> ControlState {
        ControlState {
            registry: Arc::clone(registry),
            nodes: crate::control::Nodes::new(registry, &Arc::default()),
            protector: protector(),
            desk: Desk::new(Accounts::none(), Arc::new(Nobody)),
            stores: Arc::default(),
            outbox: crate::outbox::Outbox::new(Path::new("nowhere"), Default::default()).unwrap(),
            leases: None,
            transfers: Arc::new(|| Value::Null),
            status: Arc::new(|| Value::Null),
            reload: Arc::new(|_| Box::pin(async { Ok(Value::Null) })),
            drain: Arc::new(|| {}),
            admit: Arc::new(|_, _, _| Ok(Value::Null)),
            tallies: Arc::default(),
            runs: Arc::new(Vec::new),
            ready: Arc::new(|| true),
        }
    }

    /// What stands on the wire: status line and headers, and the body.
    async fn raw(w: &World, request: &str) -> (String, Value) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = UnixStream::connect(w.dir.path().join("run/control.sock")).await.unwrap();
        let request = format!("{request}Host: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), serde_json::from_str(body).unwrap())
    }

    #[tokio::test]
    async fn failures_have_their_status_and_shape() {
        let w = world().await;
        for (request, status, kind) in [
            ("GET /v1/sessions/none HTTP/1.1\r\n", "404", "not-found"),
            ("GET /v1/sessions?address=bob HTTP/1.1\r\n", "400", "invalid-argument"),
            ("GET /v1/sessions?user=%zz HTTP/1.1\r\n", "400", "invalid-argument"),
            ("POST /v1/sessions/terminate?user= HTTP/1.1\r\n", "400", "invalid-argument"),
            ("POST /v1/sessions/terminate?protocol=sftp HTTP/1.1\r\n", "400", "invalid-argument"),
            ("DELETE /v1/sessions HTTP/1.1\r\n", "405", "unsupported"),
        ] {
            let (head, body) = raw(&w, request).await;
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{request}: {head}");
            assert!(head.contains("content-type: application/json"), "{head}");
            assert_eq!(body["error"]["kind"], kind, "{request}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
            assert_eq!(head.contains("allow: get"), status == "405", "{head}");
        }
        let (head, _) = raw(&w, "GET /v1/reload HTTP/1.1\r\n").await;
        assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: post"), "{head}");
        assert_eq!(w.registry.len(), 3);
    }

    #[tokio::test]
    async fn an_address_is_compared_whatever_its_spelling() {
        let w = world().await;
        let count = |v: Value| v["sessions"].as_array().unwrap().len();
        assert_eq!(count(w.control.get("/v1/sessions?address=::ffff:192.0.2.1").await.unwrap()), 1);
        assert_eq!(count(w.control.get("/v1/sessions?address=0:0:0:0:0:ffff:c000:0202").await.unwrap()), 1);
        assert_eq!(count(w.control.get("/v1/sessions?address=192.0.2.9").await.unwrap()), 0);
    }

    #[tokio::test]
    async fn a_caller_who_hangs_up_leaves_no_session_alive() {
        let w = world().await;
        let sessions = w.registry.list();
        // Leases hold the sessions busy, so that the answer is a second away.
        let busy: Vec<_> = sessions.iter().map(|s| s.leases().take().unwrap()).collect();
        let work = w.control.post("/v1/sessions/terminate?user=alice", &Value::Null);
        assert!(tokio::time::timeout(Duration::from_millis(300), work).await.is_err());
        assert_eq!(w.registry.len(), 1);
        drop(busy);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let w = world().await;
        let file = w.dir.path().join("precious");
        std::fs::write(&file, "content").unwrap();
        let link = w.dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let stop = CancellationToken::new();
            let e = serve(path.clone(), idle_state(&w.registry), stop).await.err().unwrap();
            assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "content");
    }

    #[tokio::test]
    async fn the_file_goes_at_shutdown_unless_it_is_another_servers() {
        let w = world().await;
        let path = w.dir.path().join("made/here/c.sock");
        let gone = async |path: &Path| {
            for _ in 0..200 {
                if !path.exists() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        };
        let first = CancellationToken::new();
        serve(path.clone(), idle_state(&w.registry), first.clone()).await.unwrap();
        let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        let second = CancellationToken::new();
        serve(path.clone(), idle_state(&w.registry), second.clone()).await.unwrap();
        first.cancel();
        // The first no longer answers, and has not taken the second's file with it.
        let old = Control::new(path.with_extension("old"));
        while old.get("/v1/status").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(Control::new(path.clone()).get("/v1/status").await.is_ok());
        second.cancel();
        assert!(gone(&path).await);
    }

    #[tokio::test]
    async fn connections_are_bounded_and_their_slots_come_back() {
        let w = world().await;
        let path = w.dir.path().join("run/control.sock");
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        let more = w.control.get("/v1/status");
        assert!(tokio::time::timeout(Duration::from_millis(300), more).await.is_err());
        drop(silent);
        assert!(w.control.get("/v1/status").await.is_ok());
    }

    #[test]
    fn only_its_owner_and_root_administer() {
        assert!(admits(1000, 1000) && admits(1000, 0));
        assert!(!admits(1000, 1001) && !admits(0, 1000));
    }
}
