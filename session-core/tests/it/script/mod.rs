//! Hooks from outside: what a handler sees, what it can stop, and what it cannot do to the server.
#![cfg(feature = "script")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use session_core::auth::{Account, Check, Credential, Method, Question, Secret};
use session_core::error::{Error, ErrorKind};
use session_core::fs::{Filesystem, Follow, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::gate::SessionFs;
use session_core::intercept::{Chain, Interceptor};
use session_core::lifecycle::{Lifecycle, Verdict};
use session_core::metadata::Attributes;
use session_core::path::VPath;
use session_core::policy::{Permission, PermissionSet, Permissions, Rule};
use session_core::script::*;
use session_core::session::{Actor, Argument, Ending, Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;

mod decisions;
mod files;
mod limits;
mod members;
mod modules;

fn binding(event: &str, source: &str) -> Binding {
    Binding { priority: 50, ..Binding::new(event, "hook.js", source) }
}

/// Time that suffices on a busy machine.
fn limits() -> EngineLimits {
    EngineLimits { time: Some(Duration::from_secs(50)), ..EngineLimits::default() }
}

/// For what does not end by itself.
fn short(event: &str, source: &str) -> Binding {
    Binding { time: Some(Duration::from_millis(300)), ..binding(event, source) }
}

fn session_with(bindings: Vec<Binding>) -> (Arc<Session>, Arc<Hooks>) {
    let hooks = Hooks::new(Engine::new(limits()), bindings).unwrap();
    let mut setup = Setup::new(Protocol::Sftp, "main");
    setup.peer = Some(([192, 0, 2, 7], 4321).into());
    setup.chain = Chain::new(vec![Arc::clone(&hooks) as Arc<dyn Interceptor>]);
    (Session::new(setup), hooks)
}

async fn password(session: &Arc<Session>, source_user: &str) -> Verdict {
    let credential = Credential::Password(Secret::new("secret"));
    session.decide(Lifecycle::AuthStep { user: source_user, credential: &credential }).await
}

fn refused(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Refuse(e) => Some(e.peer_words().to_string()),
        _ => None,
    }
}

/// What a handler found is left in the custom data.
async fn found(source: &str) -> Vec<String> {
    let (session, _hooks) = session_with(vec![binding("OnAuthSuccess", source)]);
    session.set_client_version(b"SSH-2.0-Test");
    session.authenticating();
    session.log_in(Account::named("alice"), vec!["password"]).unwrap();
    session.decide(Lifecycle::AuthResult { user: "alice", method: Method::Password, success: true }).await;
    session.custom_data()
}

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// A session logged in, with a store in memory behind the handlers and lent to them.
fn guarded(hooks: &Arc<Hooks>, account: Account) -> (Arc<Session>, SessionFs) {
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
    over(hooks, account, store, vec![])
}

/// The same over a store, with these policies.
fn over(
    hooks: &Arc<Hooks>,
    account: Account,
    store: Arc<dyn Filesystem>,
    policies: Vec<Arc<dyn Interceptor>>,
) -> (Arc<Session>, SessionFs) {
    let hook = Arc::clone(hooks) as Arc<dyn Interceptor>;
    let mut setup = Setup::new(Protocol::Sftp, "main");
    setup.chain = Chain::new(vec![Arc::clone(&hook)]);
    let session = Session::new(setup);
    let identity = session.log_in(account, vec!["password"]).unwrap();
    session.lend_files(Arc::clone(&store), Chain::new(policies.clone()));
    let chain = Chain::new(policies.into_iter().chain([hook]).collect());
    let fs = session.guard(&identity, store, chain).unwrap();
    (session, fs)
}

fn granted(event: &str, source: &str, grants: &[Grant]) -> Binding {
    Binding { grants: Grants::of(grants), ..binding(event, source) }
}

fn hooks_of(bindings: Vec<Binding>) -> Arc<Hooks> {
    Hooks::new(Engine::new(limits()), bindings).unwrap()
}

async fn write(fs: &SessionFs, path: &str, text: &str) -> Result<(), Error> {
    fs.write_all(&p(path), Bytes::copy_from_slice(text.as_bytes())).await.map(drop)
}

async fn read(fs: &SessionFs, path: &str) -> String {
    String::from_utf8(fs.read_to_vec(&p(path), 1 << 20).await.unwrap()).unwrap()
}
