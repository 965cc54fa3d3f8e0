//! `ferryd hooks`: handlers are checked, described to an editor, and tried out without a server.
//!
//! A trial runs a handler once, with a session, an account and files in memory that are made up from JSON,
//! and prints what it did. A test file is a script with `test(…)` and `run(…)`; a trial is what `run` is.
//! Nothing here reaches a running server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};
use session_core::auth::{Account, Secret};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File;
use session_core::fs_ext::FilesystemExt as _;
use session_core::intercept::Chain;
use session_core::path::VPath;
use session_core::script::{
    Binding, EVENTS, Engine, EngineLimits, Fingerprint, Grant, Grants, Host, HostFunction, Inflow, Opened,
    Outflow, PgpTask, Secrets, Services, Told, Trial, Try, Values, event, faults as faults_of, types,
};
use session_core::session::{Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;

use crate::config::Config;
use crate::control::commands;
use crate::hooks::{binding, field, read};

/// How long one trial may take where it does not say.
const TRIAL: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(super) enum Hooks {
    /// Report faults of handlers: syntax, imports, members that there are not; with their lines
    Check {
        /// Scripts; without any, the handlers of the configuration, with their events
        files: Vec<PathBuf>,
    },
    /// Run a handler once with a made-up session, or the tests of a test file
    Test {
        /// The handler, or a file of tests
        file: PathBuf,
        /// The event; without it the file holds tests
        #[arg(long)]
        event: Option<String>,
        /// What the event is about, as JSON; - reads it from standard input
        #[arg(long, value_name = "INPUT", requires = "event")]
        json: Option<String>,
    },
    /// Follow what the handlers of a session do, as they do it, until the session is over
    Trace {
        /// The session's id, or the beginning of it
        session: String,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Write the types of everything that handlers can call, for an editor
    Types {
        /// Where; without it, to standard output
        file: Option<PathBuf>,
    },
}

/// Runs a command. `config` names the configuration file, `control` the socket of the server.
pub(super) async fn run(
    what: Hooks,
    config: impl FnOnce() -> Result<(PathBuf, bool)>,
    control: impl FnOnce() -> Result<PathBuf>,
) -> ExitCode {
    let done = match what {
        Hooks::Check { files } if files.is_empty() => config().and_then(|(file, _)| check_config(&file)),
        Hooks::Check { files } => check_files(&files),
        Hooks::Test { file, event: Some(event), json } => try_one(&file, &event, json.as_deref()).await,
        Hooks::Test { file, event: None, .. } => run_tests(&file).await,
        Hooks::Trace { session, json } => {
            return match control() {
                Ok(control) => commands::trace(control, &session, json).await,
                Err(e) => commands::failure(&e),
            };
        }
        Hooks::Types { file: Some(file) } => {
            std::fs::write(&file, types()).map(|()| true).map_err(Error::from)
        }
        Hooks::Types { file: None } => {
            print!("{}", types());
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => commands::failure(&e),
    }
}

fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

fn report(faults: &[String], checked: usize) -> bool {
    for fault in faults {
        println!("{fault}");
    }
    if faults.is_empty() {
        println!("{checked} checked: good");
    }
    faults.is_empty()
}

/// A file by itself, as if bound to an event that may change nothing.
fn check_files(files: &[PathBuf]) -> Result<bool> {
    let engine = Engine::new(EngineLimits::default());
    let mut faults = Vec::new();
    for file in files {
        let whole = std::path::absolute(file)?;
        let folder = whole.parent().unwrap_or(Path::new("/"));
        match read(&whole, folder) {
            Ok((source, module)) => {
                let name = file.display().to_string();
                let probe = Binding { module, ..Binding::new("BeforeCommand", name, source) };
                faults.extend(faults_of(&engine, probe));
            }
            Err(e) => faults.push(e.to_string()),
        }
    }
    Ok(report(&faults, files.len()))
}

/// The handlers of a configuration.
fn check_config(file: &Path) -> Result<bool> {
    let config = match Config::load(file) {
        Ok((config, _)) => config,
        Err(faults) => return Ok(report(&faults.iter().map(ToString::to_string).collect::<Vec<_>>(), 0)),
    };
    let engine = Engine::new(config.scripts.limits());
    let mut faults = Vec::new();
    for hook in &config.hooks {
        match binding(hook, &config.scripts) {
            Ok(b) => faults.extend(faults_of(&engine, b)),
            Err(e) => faults.push(e.to_string()),
        }
    }
    faults.sort();
    faults.dedup();
    Ok(report(&faults, config.hooks.len()))
}

/// What a trial is given.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    event: String,
    path: Option<String>,
    target: Option<String>,
    size: Option<u64>,
    /// `null`: nobody is logged in.
    user: Option<String>,
    #[serde(rename = "requestedUser")]
    requested_user: Option<String>,
    groups: Vec<String>,
    anonymous: bool,
    custom: BTreeMap<String, String>,
    /// The client's address.
    address: std::net::IpAddr,
    protocol: String,
    #[serde(rename = "clientVersion")]
    client_version: String,
    #[serde(rename = "customData")]
    custom_data: Vec<String>,
    /// What is in the user's home: text by path; a path that ends in `/` is a directory.
    files: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    /// What `Exec`, `fetch` and `SqlQuery` answer, in turn; with none they fail.
    exec: Vec<Value>,
    fetch: Vec<Value>,
    sql: Vec<Value>,
    /// What PGP answers, in turn: `content` and `signers`, or an `error`.
    pgp: Vec<Value>,
    /// What is in folders of this machine, by their paths, and on other servers, by their URLs; no others are there.
    places: BTreeMap<String, BTreeMap<String, String>>,
    grant: Vec<String>,
    /// Milliseconds.
    time: Option<u64>,
}

impl Default for Input {
    fn default() -> Self {
        Input {
            event: String::new(),
            path: None,
            target: None,
            size: None,
            user: Some("alice".into()),
            requested_user: None,
            groups: Vec::new(),
            anonymous: false,
            custom: BTreeMap::new(),
            address: [192, 0, 2, 1].into(),
            protocol: "SFTP".into(),
            client_version: String::new(),
            custom_data: Vec::new(),
            files: BTreeMap::new(),
            secrets: BTreeMap::new(),
            exec: Vec::new(),
            fetch: Vec::new(),
            sql: Vec::new(),
            pgp: Vec::new(),
            places: BTreeMap::new(),
            grant: Grant::ALL.iter().map(|g| g.name().to_string()).collect(),
            time: None,
        }
    }
}

fn protocol(name: &str) -> Result<Protocol> {
    use Protocol::{Ftp, Ftps, S3, Scp, Sftp, Webdav, Webdavs};
    let known = [Ftp, Ftps, S3, Scp, Sftp, Webdav, Webdavs];
    known.into_iter().find(|p| p.name() == name).ok_or_else(|| {
        invalid(format!("'{name}' is not a protocol: {}", known.map(Protocol::name).join(", ")))
    })
}

/// Answers instead of the world.
#[derive(Default)]
struct Pretended {
    exec: Mutex<Vec<Value>>,
    fetch: Mutex<Vec<Value>>,
    sql: Mutex<Vec<Value>>,
    pgp: Mutex<Vec<Value>>,
    none: Mutex<Vec<Value>>,
    places: Mutex<BTreeMap<String, MemoryStore>>,
    /// What was asked for.
    asked: Mutex<Vec<Value>>,
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Host for Pretended {
    async fn call(
        &self,
        function: HostFunction,
        arguments: Value,
        input: Option<Arc<dyn File>>,
    ) -> Result<Value> {
        use base64::Engine as _;
        let (name, answers) = match function {
            HostFunction::Exec => ("exec", &self.exec),
            HostFunction::Fetch => ("fetch", &self.fetch),
            HostFunction::Mail => ("mail", &self.none),
            HostFunction::Sql => ("sql", &self.sql),
            HostFunction::Report | HostFunction::Run | HostFunction::Sessions => {
                return Err(ErrorKind::Unsupported.into());
            }
        };
        let mut asked = arguments;
        let base64 = base64::engine::general_purpose::STANDARD;
        for key in ["body", "input"] {
            // A mail's text is plain.
            let packed = field(&asked, key).as_str().filter(|_| function != HostFunction::Mail);
            let text = packed.and_then(|t| base64.decode(t).ok());
            if let Some(text) = text {
                set(&mut asked, key, String::from_utf8_lossy(&text));
            }
        }
        if let Some(file) = input {
            let size = usize::try_from(file.metadata().await?.size).unwrap_or(usize::MAX);
            let content = file.read_into(0, size.min(16 << 20), BytesMut::new()).await?;
            set(&mut asked, "input", String::from_utf8_lossy(&content));
        }
        set(&mut asked, "function", name);
        lock(&self.asked).push(asked);
        if function == HostFunction::Mail {
            return Ok(Value::Null);
        }
        let mut answers = lock(answers);
        if answers.is_empty() {
            return Err(invalid(format!("the trial's input has no answer for {name}")));
        }
        let answer = answers.remove(0);
        Ok(match function {
            HostFunction::Exec => json!({
                "ExitCode": answer.get("ExitCode").cloned().unwrap_or(json!(0)),
                "Stdout": field(&answer, "Stdout").as_str().unwrap_or_default(),
                "Stderr": field(&answer, "Stderr").as_str().unwrap_or_default(),
                "TimedOut": field(&answer, "TimedOut").as_bool().unwrap_or(false),
                "Truncated": field(&answer, "Truncated").as_bool().unwrap_or(false),
            }),
            HostFunction::Sql => {
                let rows = field(&answer, "Rows").as_array().cloned().unwrap_or_default();
                let keys = |row: &Value| row.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
                let columns = rows.first().and_then(keys).unwrap_or_default();
                let cells = |row: &Value| columns.iter().map(|c| field(row, c).clone()).collect::<Vec<_>>();
                let affected = field(&answer, "Affected").as_u64().unwrap_or(0);
                json!({ "Columns": columns, "Rows": rows.iter().map(cells).collect::<Vec<_>>(), "Affected": affected })
            }
            _ => {
                let headers = field(&answer, "headers").as_object().cloned().unwrap_or_default();
                let headers: Vec<_> = headers.iter().map(|(k, v)| json!([k.to_lowercase(), v])).collect();
                json!({
                    "status": field(&answer, "status").as_u64().unwrap_or(200),
                    "headers": headers,
                    "body": base64.encode(field(&answer, "body").as_str().unwrap_or_default()),
                })
            }
        })
    }

    async fn pgp(&self, task: &PgpTask, mut from: Inflow, to: &mut Outflow) -> Result<Vec<Fingerprint>> {
        let mut asked = serde_json::to_value(task).unwrap_or_default();
        let mut input = Vec::new();
        loop {
            let piece = from.next().await?;
            if piece.is_empty() {
                break;
            }
            input.extend_from_slice(&piece);
        }
        set(&mut asked, "input", String::from_utf8_lossy(&input));
        if let PgpTask::Verify { signature, .. } = task {
            set(&mut asked, "signature", String::from_utf8_lossy(signature));
        }
        set(&mut asked, "function", "pgp");
        lock(&self.asked).push(asked);
        let answer = {
            let mut answers = lock(&self.pgp);
            match answers.is_empty() {
                true => return Err(invalid("the trial's input has no answer for pgp")),
                false => answers.remove(0),
            }
        };
        if let Some(words) = field(&answer, "error").as_str() {
            return Err(Error::refused(words.to_owned()));
        }
        if let Some(content) = field(&answer, "content").as_str() {
            to.take(Bytes::from(content.to_owned())).await?;
        }
        let signers = field(&answer, "signers").as_array().into_iter().flatten().filter_map(Value::as_str);
        signers.map(Fingerprint::parse).collect()
    }

    async fn open(&self, request: &Value) -> Result<Opened> {
        self.place(request).await
    }
}

/// Places of a trial: each is made up in memory, and is the same for all who name it.
impl Pretended {
    async fn place(&self, request: &Value) -> Result<Opened> {
        let name = match field(request, "kind").as_str() {
            Some("disk") => field(request, "folder").as_str().unwrap_or_default(),
            Some("remote") => field(request, "url").as_str().unwrap_or_default(),
            _ => return Ok(opened(MemoryStore::new())),
        };
        let known = lock(&self.places).get(name).cloned();
        let Some(store) = known else {
            return Err(invalid(format!("the trial's input has no place '{name}'")));
        };
        if field(request, "kind") == "remote" {
            let mut asked = request.clone();
            set(&mut asked, "function", "open");
            lock(&self.asked).push(asked);
        }
        Ok(opened(store))
    }
}

fn opened(store: MemoryStore) -> Opened {
    Opened { fs: Arc::new(store), base: VPath::root(), held: Box::new(()) }
}

/// A store with these files in it: text by path; a path that ends in `/` is a directory.
async fn filled(store: &MemoryStore, files: &BTreeMap<String, String>) -> Result<()> {
    for (path, text) in files {
        let at = VPath::absolute(path)?;
        if path.ends_with('/') {
            store.create_dir_all(&at).await?;
            continue;
        }
        if let Some(parent) = at.parent() {
            store.create_dir_all(&parent).await?;
        }
        store.write_all(&at, Bytes::from(text.clone())).await?;
    }
    Ok(())
}

/// One trial from its input to what is told of it. `values` are those that trials share.
async fn trial(engine: &Arc<Engine>, values: &Arc<Values>, file: &Path, input: Input) -> Result<Value> {
    let spec = event(&input.event).ok_or_else(|| {
        let names: Vec<_> = EVENTS.iter().map(|e| e.name).collect();
        invalid(format!("'{}' is not an event: {}", input.event, names.join(", ")))
    })?;
    let grants = input
        .grant
        .iter()
        .map(|name| Grant::parse(name).ok_or_else(|| invalid(format!("there is no grant '{name}'"))));
    let grants = Grants::of(&grants.collect::<Result<Vec<_>>>()?);
    let whole = std::path::absolute(file)?;
    let (source, module) = read(&whole, whole.parent().unwrap_or(Path::new("/")))?;
    let mut binding = Binding::new(spec.name, file.display().to_string(), source);
    (binding.module, binding.grants) = (module, grants);
    binding.time = Some(input.time.map_or(TRIAL, Duration::from_millis));
    let pretended = Arc::new(Pretended {
        exec: Mutex::new(input.exec),
        fetch: Mutex::new(input.fetch),
        sql: Mutex::new(input.sql),
        pgp: Mutex::new(input.pgp),
        none: Mutex::default(),
        places: Mutex::default(),
        asked: Mutex::default(),
    });
    let secrets = input.secrets.into_iter().map(|(name, secret)| (name, Secret::new(secret)));
    let services = Services {
        secrets: Secrets::new(secrets.collect()),
        values: Arc::clone(values),
        host: Some(Arc::clone(&pretended) as Arc<dyn Host>),
        ..Services::default()
    };
    let trial = Trial::new(Arc::clone(engine), services, binding)?;

    let mut setup = Setup::new(protocol(&input.protocol)?, "test");
    setup.peer = Some((input.address, 50_000).into());
    let session = Session::new(setup);
    session.set_client_version(input.client_version.as_bytes());
    let store = Arc::new(MemoryStore::new());
    filled(&store, &input.files).await?;
    for (name, files) in &input.places {
        let place = MemoryStore::new();
        filled(&place, files).await?;
        lock(&pretended.places).insert(name.clone(), place);
    }
    if let Some(asked) = &input.requested_user {
        session.ask_for(asked);
    }
    if let Some(user) = &input.user {
        let account = Account {
            anonymous: input.anonymous,
            groups: input.groups.iter().map(|g| g.as_str().into()).collect(),
            custom: input.custom,
            ..Account::named(user.as_str())
        };
        session.log_in(account, vec!["password"])?;
        session.lend_files(store.clone(), Chain::new(Vec::new()));
    }
    for data in input.custom_data {
        session.add_custom_data(data)?;
    }
    let path = |text: &Option<String>| text.as_ref().map(VPath::absolute).transpose();
    let told = trial
        .run(Try {
            session: Some(Arc::clone(&session)),
            path: path(&input.path)?,
            target: path(&input.target)?,
            size: input.size,
            peer: Some(input.address),
        })
        .await;
    let mut all = json!(told_json(&told));
    set(&mut all, "customData", session.custom_data());
    set(&mut all, "terminated", json!(session.ending().map(|e| e.reason.to_string())));
    set(&mut all, "asked", lock(&pretended.asked).clone());
    set(&mut all, "files", files_of(&store).await?);
    let places: Vec<_> = lock(&pretended.places).iter().map(|(n, p)| (n.clone(), p.clone())).collect();
    let mut told = serde_json::Map::new();
    for (name, place) in places {
        told.insert(name, files_of(&place).await?);
    }
    set(&mut all, "places", told);
    Ok(all)
}

fn set(object: &mut Value, key: &str, to: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.into(), to.into());
    }
}

fn told_json(told: &Told) -> Value {
    json!({
        "blocked": told.blocked,
        "quarantined": told.quarantined,
        "redirected": told.redirected.as_ref().map(VPath::display),
        "softwareId": told.software_id,
        "hidden": told.hidden,
        "questions": told.questions.iter().map(|(n, q, c)| json!([n, q, c])).collect::<Vec<_>>(),
        "authenticated": told.authenticated,
        "log": told.lines,
        "error": told.error,
    })
}

async fn files_of(store: &MemoryStore) -> Result<Value> {
    let mut files = serde_json::Map::new();
    for (path, metadata) in store.walk(&VPath::root(), session_core::fs_ext::Bounds::default()).await? {
        if metadata.is_file() {
            let data = store.read_to_vec(&path, 16 << 20).await?;
            files.insert(path.display(), String::from_utf8_lossy(&data).into());
        } else if metadata.is_dir() {
            files.insert(format!("{}/", path.display()), "".into());
        }
    }
    Ok(files.into())
}

async fn try_one(file: &Path, event: &str, json: Option<&str>) -> Result<bool> {
    let text = match json {
        Some("-") => std::io::read_to_string(std::io::stdin())?,
        Some(text) => text.to_string(),
        None => "{}".into(),
    };
    let mut input: Input =
        serde_json::from_str(&text).map_err(|e| invalid(format!("the input cannot be read: {e}")))?;
    input.event = event.into();
    let engine = Engine::new(EngineLimits::default());
    let told = trial(&engine, &Arc::default(), file, input).await?;
    println!("{told:#}");
    Ok(field(&told, "error").is_null())
}

/// What a test file calls.
struct Runner {
    engine: Arc<Engine>,
    folder: PathBuf,
    /// One table for each test.
    values: Mutex<Arc<Values>>,
    results: Mutex<Vec<(String, Option<String>)>>,
}

#[async_trait]
impl Host for Runner {
    async fn call(
        &self,
        function: HostFunction,
        arguments: Value,
        _: Option<Arc<dyn File>>,
    ) -> Result<Value> {
        match function {
            HostFunction::Run => {
                let mut arguments = arguments;
                let file = field(&arguments, "file").as_str().unwrap_or_default().to_string();
                if let Some(map) = arguments.as_object_mut() {
                    map.remove("file");
                }
                let input: Input = serde_json::from_value(arguments)
                    .map_err(|e| invalid(format!("the input cannot be read: {e}")))?;
                let values = Arc::clone(&lock(&self.values));
                trial(&self.engine, &values, &self.folder.join(file), input).await
            }
            HostFunction::Report => {
                let name = field(&arguments, "name").as_str().unwrap_or_default().to_string();
                let error = field(&arguments, "error").as_str().map(str::to_string);
                lock(&self.results).push((name, error));
                *lock(&self.values) = Arc::default();
                Ok(Value::Null)
            }
            HostFunction::Exec
            | HostFunction::Fetch
            | HostFunction::Mail
            | HostFunction::Sessions
            | HostFunction::Sql => Err(invalid("a test reaches nothing")),
        }
    }
}

/// Stands before a test file, on its first line.
const BEFORE_TESTS: &str = "const tests = []; \
    const test = (name, body) => { tests.push([name, body]); }; \
    const assert = (holds, words = 'it does not hold') => { if (!holds) throw new Error(words); }; \
    const equal = (a, b) => { const [x, y] = [JSON.stringify(a), JSON.stringify(b)]; \
        if (x !== y) throw new Error(x + ' is not ' + y); }; \
    const run = (file, input) => RunHandler(file, input); ";

/// Runs what the file has collected.
const AFTER_TESTS: &str = "\nreturn (async () => { for (const [name, body] of tests) { let error = null; \
    try { await body(); } catch (e) { error = e instanceof Error ? e.message + '\\n' + e.stack : String(e); } \
    Report(name, error); } })();";

/// The results of a test file, in order: each name with `None` or what went wrong.
async fn results_of(file: &Path) -> Result<Vec<(String, Option<String>)>> {
    let whole = std::path::absolute(file)?;
    let text = std::fs::read_to_string(&whole)?;
    let source = format!("{BEFORE_TESTS}{text}{AFTER_TESTS}");
    let runner = Arc::new(Runner {
        engine: Engine::new(EngineLimits::default()),
        folder: whole.parent().unwrap_or(Path::new("/")).to_path_buf(),
        values: Mutex::default(),
        results: Mutex::default(),
    });
    let mut binding = Binding::new("BeforeCommand", file.display().to_string(), source);
    binding.time = Some(Duration::from_secs(600));
    let services = Services { host: Some(Arc::clone(&runner) as Arc<dyn Host>), ..Services::default() };
    let told = Trial::new(Arc::clone(&runner.engine), services, binding)?.run(Try::default()).await;
    for line in &told.lines {
        println!("{line}");
    }
    let mut results = std::mem::take(&mut *lock(&runner.results));
    if let Some(error) = told.error {
        results.push((file.display().to_string(), Some(error)));
    }
    Ok(results)
}

async fn run_tests(file: &Path) -> Result<bool> {
    let results = results_of(file).await?;
    let mut failed = 0;
    for (name, error) in &results {
        match error {
            None => println!("ok     {name}"),
            Some(error) => {
                failed += 1;
                println!("FAILED {name}\n       {}", error.trim_end().replace('\n', "\n       "));
            }
        }
    }
    println!("{} passed, {failed} failed", results.len() - failed);
    if results.is_empty() {
        return Err(
            invalid("the file has no tests").with_hint("name an event with --event to run a handler once")
        );
    }
    Ok(failed == 0)
}
