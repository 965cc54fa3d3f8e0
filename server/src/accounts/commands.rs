//! `ferryd site`, `user`, `group`, `secret`, `token` and `accounts`: the commands that ask the desk.
//!
//! With a server running they ask it, and what they change takes effect at once; without one they open the
//! database themselves, hold the lock of the data folder meanwhile, and get the same answers. What is secret
//! comes by standard input or a prompt, never by an argument.
#![allow(clippy::print_stderr, reason = "this is where the program speaks")]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use clap::{Args, Subcommand};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use session_core::error::{Error, ErrorKind, Result};

use super::desk::{InForce, Touched};
use super::site_commands::{self, Sites};
use super::{Accounts, Contents, Desk, Role};
use crate::config::{Config, SECRET_KEYS};
use crate::control::ask_desk;
use crate::control::client::Control;
use crate::control::commands::{encode, pairs, put, session_failure, shown};
use crate::control::table::{counted, headed};
use crate::hooks::declared_secrets;
use crate::shared::Hub;

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Commands {
    /// Sites, of the database and of the configuration file
    Site(Sites),
    /// Users, of the database and of the configuration file
    User(Users),
    /// Groups: what several users have in common
    Group(Groups),
    /// Secrets that hooks get by name
    Secret(Secrets),
    /// Tokens for the API over the network
    Token(Tokens),
    /// All sites, users and groups of the database as one file
    Accounts(Bundles),
}

#[derive(Args)]
pub(crate) struct Users {
    #[command(subcommand)]
    command: UserCommand,
    /// The site, where there are several
    #[arg(long, global = true, value_name = "NAME")]
    site: Option<String>,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Who there is
    List {
        /// Only those of this group
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
    },
    /// Everything about one user but its secrets
    Show {
        /// The user
        name: String,
    },
    /// Add a user to the database; the password is asked for, or read from standard input
    Add {
        /// The user
        name: String,
        /// Keys of the user's table as in the configuration file: home=/srv/a, read_only=true,
        /// 'groups=["staff"]', 'permissions={"/"=["list","get"]}'
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Without a password: by keys alone
        #[arg(long)]
        no_password: bool,
    },
    /// Change a user of the database
    Set {
        /// The user
        name: String,
        /// As with add; the value takes the place of the one that is there
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Keys to take away
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// Let the user log in by HTTP Digest too, which needs its password: it is asked for, or read from standard
        /// input; `--unset digest` and a new password end it
        #[arg(long)]
        digest: bool,
    },
    /// Give a user a new password, which is asked for or read from standard input
    Passwd {
        /// The user
        name: String,
    },
    /// Make one-time codes for a user and show their secret, once
    Totp {
        /// The user
        name: String,
        /// Take them away instead
        #[arg(long)]
        off: bool,
    },
    /// Make an access key, which programs sign requests of S3 with, and show its secret, once
    AccessKey {
        /// The user
        name: String,
        /// Take all of them away instead
        #[arg(long)]
        off: bool,
    },
    /// Make a token by which programs log in over WebDAV, and show it, once
    Token {
        /// The user
        name: String,
        /// What it is for
        #[arg(long = "for", value_name = "WORDS", default_value = "")]
        purpose: String,
        /// How long it is good: 90d, 12h; without it as long as it is there
        #[arg(long, value_name = "TIME")]
        time: Option<String>,
        /// Take all of them away instead
        #[arg(long, conflicts_with_all = ["purpose", "time"])]
        off: bool,
    },
    /// Let a user log in again
    Enable {
        /// The user
        name: String,
    },
    /// Let a user log in no more, and end its sessions
    Disable {
        /// The user
        name: String,
    },
    /// Remove a user and end its sessions; its files stay
    Rm {
        /// The user
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Groups {
    #[command(subcommand)]
    command: GroupCommand,
    /// The site, where there are several
    #[arg(long, global = true, value_name = "NAME")]
    site: Option<String>,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum GroupCommand {
    /// What groups there are
    List,
    /// One group
    Show {
        /// The group
        name: String,
    },
    /// Add a group to the database
    Add {
        /// The group
        name: String,
        /// Keys of the group's table as in the configuration file
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Change a group of the database
    Set {
        /// The group
        name: String,
        /// As with add
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Keys to take away
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Remove a group that nobody is in
    Rm {
        /// The group
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Secrets {
    #[command(subcommand)]
    command: SecretCommand,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum SecretCommand {
    /// Their names
    List,
    /// Put one in place; it is asked for, or read from standard input
    Set {
        /// Its name
        name: String,
    },
    /// Remove one
    Rm {
        /// Its name
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Tokens {
    #[command(subcommand)]
    command: TokenCommand,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// What tokens there are
    List,
    /// Make one and show it, once
    Add {
        /// Who it is for
        name: String,
        /// What its bearer may do
        #[arg(long, value_enum)]
        role: Role,
        /// For how long it is good: 12h, 90d; without it until it is removed
        #[arg(long, value_name = "TIME")]
        time: Option<String>,
    },
    /// Remove one
    Rm {
        /// Its id, as the list shows it
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct Bundles {
    #[command(subcommand)]
    command: BundleCommand,
}

#[derive(Subcommand)]
enum BundleCommand {
    /// Write sites, users and groups as JSON: passwords as hashes, other secrets left out
    Export {
        /// Where, readable by you alone; without it to standard output
        file: Option<PathBuf>,
        /// With the secrets of one-time codes and of hooks
        #[arg(long)]
        secrets: bool,
    },
    /// Take such a file, as a whole or not at all
    Import {
        /// The file; - for standard input
        file: PathBuf,
        /// Put what it holds in place of what the database has of the same name
        #[arg(long)]
        replace: bool,
    },
}

/// Where the answers come from.
pub(super) enum Way {
    Server(Control),
    /// No server runs, and while the file is locked none begins to.
    Here {
        desk: Arc<Desk>,
        _lock: File,
    },
}

/// Nobody serves.
struct Still {
    file: Arc<Config>,
    secrets: Vec<String>,
}

#[async_trait]
impl InForce for Still {
    fn file(&self) -> Arc<Config> {
        Arc::clone(&self.file)
    }

    fn declared_secrets(&self) -> Vec<String> {
        self.secrets.clone()
    }

    /// The next start tells.
    async fn rehearse(&self, _: Contents, _: Vec<String>) -> Result<()> {
        Ok(())
    }

    async fn renew(&self, _: Touched, _: &str) -> Result<usize> {
        Ok(0)
    }
}

impl Way {
    async fn find(control: PathBuf, config: impl FnOnce() -> Result<Config>) -> Result<Way> {
        let control = Control::new(control);
        if control.is_there().await {
            return Ok(Way::Server(control));
        }
        let config = config()?;
        let lock = crate::daemon::own(&config.data)?;
        let hub = Hub::new(&config)?;
        let accounts = Accounts::open(&config, hub.as_ref()).await?;
        let secrets = declared_secrets(&config.scripts);
        let still = Still { file: Arc::new(config), secrets };
        Ok(Way::Here { desk: Desk::new(accounts, Arc::new(still)), _lock: lock })
    }

    pub(super) async fn ask(&self, method: Method, target: &str, body: Value) -> Result<Value> {
        match self {
            Way::Server(control) => {
                let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
                control.call(method, target, body).await
            }
            Way::Here { desk, .. } => {
                let actor = format!("uid {}", rustix::process::getuid().as_raw());
                ask_desk(desk, &method, target, body, &actor).await
            }
        }
    }
}

/// Runs one of the commands.
pub(crate) async fn run(
    what: Commands,
    control: PathBuf,
    config: impl FnOnce() -> Result<Config>,
) -> ExitCode {
    let work = async {
        let way = Way::find(control, config).await?;
        match what {
            Commands::Site(args) => site_commands::run(&way, args).await,
            Commands::User(args) => users(&way, args).await,
            Commands::Group(args) => groups(&way, args).await,
            Commands::Secret(args) => secrets(&way, args).await,
            Commands::Token(args) => tokens(&way, args).await,
            Commands::Accounts(args) => bundles(&way, args.command).await,
        }
    };
    work.await.map_or_else(|e| session_failure(&e), |()| ExitCode::SUCCESS)
}

/// A path, with the site behind it.
pub(super) fn target(path: &str, name: Option<&str>, site: Option<&str>) -> String {
    let name = name.map(|n| format!("/{}", encode(n))).unwrap_or_default();
    let site = site.map(|s| format!("?site={}", encode(s))).unwrap_or_default();
    format!("/v1/{path}{name}{site}")
}

pub(super) fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

/// Keys of which one value alone is meant as a list of it.
const LISTS: &[&str] = &[
    "addresses",
    "authorities",
    "groups",
    "host_keys",
    "hosts",
    "hours",
    "keys",
    "principals",
    "protocols",
    "require",
];

/// `KEY=VALUE` as keys of a record: values as in the file, and without quotes what is no value there.
pub(super) fn settings(words: &[String], unset: &[String]) -> Result<Map<String, Value>> {
    let mut record = Map::new();
    for word in words {
        let (key, text) =
            word.split_once('=').ok_or_else(|| invalid(format!("'{word}' is not KEY=VALUE")))?;
        let key = key.trim();
        if SECRET_KEYS.contains(&key) {
            return Err(invalid(format!("{key}: an argument is seen by others"))
                .with_hint("there are commands for it: `ferryd user passwd`, `totp`, `access-key`, `token` and `set --digest`"));
        }
        let parsed = toml::from_str::<toml::Table>(&format!("v = {text}")).ok();
        let parsed = parsed.filter(|t| t.len() == 1).and_then(|mut t| t.remove("v"));
        let value = parsed.map_or_else(|| text.into(), to_json);
        let value = match value {
            Value::String(one) if LISTS.contains(&key) => json!([one]),
            value => value,
        };
        if record.insert(key.to_string(), value).is_some() {
            return Err(invalid(format!("{key} comes twice")));
        }
    }
    record.extend(unset.iter().map(|key| (key.clone(), Value::Null)));
    Ok(record)
}

pub(super) fn to_json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(s) => s.into(),
        toml::Value::Integer(n) => n.into(),
        toml::Value::Float(n) => n.into(),
        toml::Value::Boolean(b) => b.into(),
        toml::Value::Datetime(d) => d.to_string().into(),
        toml::Value::Array(a) => a.into_iter().map(to_json).collect(),
        toml::Value::Table(t) => t.into_iter().map(|(k, v)| (k, to_json(v))).collect::<Map<_, _>>().into(),
    }
}

/// What a change came to: as it is, or in these words.
pub(super) fn told(answer: &Value, json: bool, words: &str) -> Result<()> {
    if json {
        return put(&format!("{answer}\n")).map(|_| ());
    }
    if let Some(warning) = answer.get("warning").and_then(Value::as_str) {
        eprintln!("warning: {warning}");
    }
    let ended = match answer.get("ended").and_then(Value::as_u64) {
        Some(n) if n > 0 => format!("; {n} sessions were ended"),
        _ => String::new(),
    };
    put(&format!("{words}{ended}\n")).map(|_| ())
}

pub(super) fn print(rows: Vec<Vec<String>>, header: &[&str], what: &str) -> Result<()> {
    let mut t = headed(header.to_vec());
    let count = rows.len();
    rows.into_iter().for_each(|row| {
        t.add_row(row);
    });
    put(&format!("{}\n", counted(&t, count, what))).map(|_| ())
}

/// A list of words within an answer.
pub(super) fn words(v: &Value, key: &str) -> String {
    let all = v.get(key).and_then(Value::as_array).into_iter().flatten();
    let all: Vec<_> = all.filter_map(Value::as_str).collect();
    session_core::path::display_bytes(all.join(",").as_bytes())
}

async fn users(way: &Way, args: Users) -> Result<()> {
    let (site, json) = (args.site.as_deref(), args.json);
    let at = |name: &str| target("users", Some(name), site);
    let below = |name: &str, part: &str| target(&format!("users/{}/{part}", encode(name)), None, site);
    match args.command {
        UserCommand::List { group } => list(way, site, group.as_deref(), json).await,
        UserCommand::Show { name } => {
            let user = way.ask(Method::GET, &at(&name), Value::Null).await?;
            put(&if json { format!("{user}\n") } else { pairs(&user) }).map(|_| ())
        }
        UserCommand::Add { name, settings: given, no_password } => {
            let mut record = settings(&given, &[])?;
            record.insert("name".into(), name.as_str().into());
            if !no_password {
                record.insert("new_password".into(), crate::cli::typed("Password")?.expose().into());
            }
            let answer = way.ask(Method::POST, &target("users", None, site), Value::Object(record)).await?;
            told(&answer, json, &format!("added {name}"))
        }
        UserCommand::Set { name, settings: given, unset, digest } => {
            let record = settings(&given, &unset)?;
            if record.is_empty() && !digest {
                return Err(invalid("name what to change: KEY=VALUE, --unset KEY or --digest"));
            }
            // What is asked for first: nothing is half done for want of it.
            let password = if digest { Some(crate::cli::typed_once("Password")?) } else { None };
            let mut answer = Value::Null;
            if !record.is_empty() {
                answer = way.ask(Method::PATCH, &at(&name), Value::Object(record)).await?;
            }
            if let Some(password) = password {
                let body = json!({ "password": password.expose() });
                answer = way.ask(Method::POST, &below(&name, "digest"), body).await?;
            }
            told(&answer, json, &format!("changed {name}"))
        }
        UserCommand::Passwd { name } => {
            let body = json!({ "password": crate::cli::typed("Password")?.expose() });
            let answer = way.ask(Method::POST, &below(&name, "password"), body).await?;
            told(&answer, json, &format!("{name} has a new password"))
        }
        UserCommand::Totp { name, off: true } => {
            let answer = way.ask(Method::DELETE, &below(&name, "totp"), Value::Null).await?;
            told(&answer, json, &format!("{name} has no one-time codes"))
        }
        UserCommand::Totp { name, off: false } => {
            let answer = way.ask(Method::POST, &below(&name, "totp"), Value::Null).await?;
            let codes = words(&answer, "recovery").replace(',', "\n  ");
            let secret = format!("{}\nrecovery codes, good once each:\n  {codes}", shown(&answer, "url"));
            told(&answer, json, &format!("{name} has one-time codes; this is shown only now:\n{secret}"))
        }
        UserCommand::AccessKey { name, off: true } => {
            let answer = way.ask(Method::DELETE, &below(&name, "access-keys"), Value::Null).await?;
            told(&answer, json, &format!("{name} has no access keys"))
        }
        UserCommand::AccessKey { name, off: false } => {
            let answer = way.ask(Method::POST, &below(&name, "access-keys"), Value::Null).await?;
            let (id, secret) = (shown(&answer, "id"), shown(&answer, "secret"));
            told(
                &answer,
                json,
                &format!("{name} has an access key; its secret is shown only now:\n{id}\n{secret}"),
            )
        }
        UserCommand::Token { name, off: true, .. } => {
            let answer = way.ask(Method::DELETE, &below(&name, "tokens"), Value::Null).await?;
            told(&answer, json, &format!("{name} has no tokens"))
        }
        UserCommand::Token { name, purpose, time, off: false } => {
            let body = json!({ "name": purpose, "time": time });
            let answer = way.ask(Method::POST, &below(&name, "tokens"), body).await?;
            let token = shown(&answer, "token");
            told(&answer, json, &format!("{name} has a token, which is shown only now:\n{token}"))
        }
        UserCommand::Enable { name } => {
            let answer = way.ask(Method::PATCH, &at(&name), json!({ "enabled": true })).await?;
            told(&answer, json, &format!("{name} may log in"))
        }
        UserCommand::Disable { name } => {
            let answer = way.ask(Method::PATCH, &at(&name), json!({ "enabled": false })).await?;
            told(&answer, json, &format!("{name} may not log in"))
        }
        UserCommand::Rm { name } => {
            let answer = way.ask(Method::DELETE, &at(&name), Value::Null).await?;
            told(&answer, json, &format!("removed {name}"))
        }
    }
}

async fn list(way: &Way, site: Option<&str>, group: Option<&str>, json: bool) -> Result<()> {
    let filter =
        |key: &str, value: Option<&str>| value.map(|v| format!("{key}={}&", encode(v))).unwrap_or_default();
    let filters = filter("site", site) + &filter("group", group);
    let (mut after, mut rows, mut faults) = (None::<String>, Vec::new(), Vec::new());
    loop {
        let target = format!("/v1/users?{filters}{}", filter("after", after.as_deref()));
        let page = way.ask(Method::GET, &target, Value::Null).await?;
        for user in page.get("users").and_then(Value::as_array).into_iter().flatten() {
            if json {
                put(&format!("{user}\n"))?;
                continue;
            }
            for key in ["unusable", "double"] {
                if user.get(key).is_some() {
                    faults.push(format!("{}: {}\n", shown(user, "name"), shown(user, key)));
                }
            }
            rows.push(row(user));
        }
        after = page.get("after").and_then(Value::as_str).map(str::to_string);
        if after.is_none() {
            break;
        }
    }
    if json {
        return Ok(());
    }
    print(rows, &["NAME", "SITE", "FROM", "MAY LOG IN", "BY", "GROUPS", "HOME"], "users")?;
    put(&faults.concat()).map(|_| ())
}

fn row(user: &Value) -> Vec<String> {
    let is = |key: &str| user.get(key).is_some_and(|v| v == true);
    let some = |key: &str| user.get(key).and_then(Value::as_u64).is_some_and(|n| n > 0);
    let factors = [
        ("password", is("password")),
        ("key", some("keys")),
        ("certificate", some("authorities")),
        ("code", is("totp")),
    ];
    let factors: Vec<_> = factors.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let enabled = if is("enabled") { "yes" } else { "no" };
    vec![
        shown(user, "name"),
        shown(user, "site"),
        shown(user, "source"),
        enabled.into(),
        factors.join(","),
        words(user, "groups"),
        shown(user, "home"),
    ]
}

async fn groups(way: &Way, args: Groups) -> Result<()> {
    let (site, json) = (args.site.as_deref(), args.json);
    let at = |name: &str| target("groups", Some(name), site);
    match args.command {
        GroupCommand::List => {
            let answer = way.ask(Method::GET, &target("groups", None, site), Value::Null).await?;
            let all = answer.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
            if json {
                return put(&all.iter().map(|g| format!("{g}\n")).collect::<String>()).map(|_| ());
            }
            let row =
                |g: &Value| vec![shown(g, "name"), shown(g, "site"), shown(g, "source"), words(g, "users")];
            print(all.iter().map(row).collect(), &["NAME", "SITE", "FROM", "STORED USERS"], "groups")
        }
        GroupCommand::Show { name } => {
            let group = way.ask(Method::GET, &at(&name), Value::Null).await?;
            put(&if json { format!("{group}\n") } else { pairs(&group) }).map(|_| ())
        }
        GroupCommand::Add { name, settings: given } => {
            let mut record = settings(&given, &[])?;
            record.insert("name".into(), name.as_str().into());
            let answer = way.ask(Method::POST, &target("groups", None, site), Value::Object(record)).await?;
            told(&answer, json, &format!("added group {name}"))
        }
        GroupCommand::Set { name, settings: given, unset } => {
            let record = settings(&given, &unset)?;
            if record.is_empty() {
                return Err(invalid("name what to change: KEY=VALUE or --unset KEY"));
            }
            let answer = way.ask(Method::PATCH, &at(&name), Value::Object(record)).await?;
            told(&answer, json, &format!("changed group {name}"))
        }
        GroupCommand::Rm { name } => {
            let answer = way.ask(Method::DELETE, &at(&name), Value::Null).await?;
            told(&answer, json, &format!("removed group {name}"))
        }
    }
}

async fn secrets(way: &Way, args: Secrets) -> Result<()> {
    match args.command {
        SecretCommand::List => {
            let answer = way.ask(Method::GET, "/v1/secrets", Value::Null).await?;
            if args.json {
                return put(&format!("{answer}\n")).map(|_| ());
            }
            let names = answer.get("secrets").and_then(Value::as_array).into_iter().flatten();
            let lines: String = names.filter_map(Value::as_str).map(|n| format!("{n}\n")).collect();
            put(&lines).map(|_| ())
        }
        SecretCommand::Set { name } => {
            let body = json!({ "value": crate::cli::typed("Secret")?.expose() });
            let answer = way.ask(Method::PUT, &target("secrets", Some(&name), None), body).await?;
            told(&answer, args.json, &format!("put secret {name}"))
        }
        SecretCommand::Rm { name } => {
            let answer = way.ask(Method::DELETE, &target("secrets", Some(&name), None), Value::Null).await?;
            told(&answer, args.json, &format!("removed secret {name}"))
        }
    }
}

async fn tokens(way: &Way, args: Tokens) -> Result<()> {
    match args.command {
        TokenCommand::List => {
            let answer = way.ask(Method::GET, "/v1/tokens", Value::Null).await?;
            let all = answer.get("tokens").and_then(Value::as_array).cloned().unwrap_or_default();
            if args.json {
                return put(&all.iter().map(|t| format!("{t}\n")).collect::<String>()).map(|_| ());
            }
            let row = |t: &Value| ["id", "name", "role", "made", "expires"].map(|k| shown(t, k)).to_vec();
            print(all.iter().map(row).collect(), &["ID", "NAME", "ROLE", "MADE", "UNTIL"], "tokens")
        }
        TokenCommand::Add { name, role, time } => {
            let body = json!({ "name": name, "role": role.name(), "time": time });
            let answer = way.ask(Method::POST, "/v1/tokens", body).await?;
            told(&answer, args.json, &shown(&answer, "token"))
        }
        TokenCommand::Rm { id } => {
            let answer = way.ask(Method::DELETE, &target("tokens", Some(&id), None), Value::Null).await?;
            told(&answer, args.json, &format!("removed token {id}"))
        }
    }
}

async fn bundles(way: &Way, what: BundleCommand) -> Result<()> {
    match what {
        BundleCommand::Export { file, secrets } => {
            let target = if secrets { "/v1/accounts?secrets=yes" } else { "/v1/accounts" };
            let all = way.ask(Method::GET, target, Value::Null).await?;
            let text = serde_json::to_string_pretty(&all)
                .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
            match file {
                None => put(&format!("{text}\n")).map(|_| ()),
                Some(file) => crate::first_run::write_new(&file, &format!("{text}\n")),
            }
        }
        BundleCommand::Import { file, replace } => {
            let mut text = Vec::new();
            let unread =
                |e: std::io::Error| Error::from(e).with_detail(format!("{} cannot be read", file.display()));
            if file == Path::new("-") {
                std::io::stdin().read_to_end(&mut text).map_err(unread)?;
            } else {
                text = std::fs::read(&file).map_err(unread)?;
            }
            let bundle: Value = serde_json::from_slice(&text).map_err(|_| invalid("this is not JSON"))?;
            let target = if replace { "/v1/accounts?replace=yes" } else { "/v1/accounts" };
            let answer = way.ask(Method::POST, target, bundle).await?;
            let count = |key: &str| answer.get(key).and_then(Value::as_u64).unwrap_or(0);
            let off = words(&answer, "switchedOff");
            let mut said = format!(
                "imported {} sites, {} users and {} groups",
                count("sites"),
                count("users"),
                count("groups")
            );
            if !off.is_empty() {
                said.push_str(&format!(
                    "\nswitched off, because their one-time codes were left out: {off}\
                     \n  ferryd user totp NAME makes new ones, ferryd user enable NAME lets them in"
                ));
            }
            told(&answer, false, &said)
        }
    }
}
