//! What `ferryd` gives its handlers: their files, secrets, and the functions of a host.
//!
//! Everything is read when the configuration is: a running server uses what it was started or reloaded
//! with, and a file that is broken refuses the reload. Deliberately absent: the handlers' own objects,
//! which are `session_core::script`.

mod mail;
mod places;
mod sql;
mod trace;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::hooks::{exec, http, pgp};
pub(crate) use client::hooks::{field, read};
use ipnet::IpNet;
use serde_json::{Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File;
use session_core::net;
use session_core::script::{
    Binding, Engine, Fingerprint, Grants, Hooks, Host, HostFunction, Inflow, OnError, Opened, Outflow,
    PgpTask, Secrets, Services, Values,
};
use session_core::verdict::Quarantine;

pub(crate) use self::trace::Traces;
use crate::config::{self, Config, Hook, Scripts};
use crate::control::Nodes;

/// Variables of this prefix are secrets by the rest of their name, in small letters.
const SECRET_VARIABLES: &str = "FERRYD_SECRET_";

/// The functions of the host.
pub(crate) struct ServerHost {
    programs: exec::Programs,
    http: http::Client,
    mail: mail::Post,
    pgp: Option<pgp::Pgp>,
    places: places::Places,
    sql: sql::Databases,
    /// They hold sessions, and those the chain with the handlers.
    nodes: Weak<Nodes>,
}

impl ServerHost {
    /// Reads files: blocks. Errors: those of the tables of mail, databases and PGP.
    pub(crate) fn new(
        config: &Config,
        secrets: &Secrets,
        nodes: &Arc<Nodes>,
        agents: Arc<pgp::Agents>,
    ) -> Result<Self> {
        let scripts = &config.scripts;
        Ok(ServerHost {
            programs: exec::Programs::new(
                scripts.programs.clone(),
                scripts.program_time,
                scripts.program_output,
            ),
            http: http::Client::new(scripts.networks.clone()),
            mail: mail::Post::new(&config.mail, secrets)?,
            pgp: pgp_of(&config.pgp, secrets, agents)?,
            places: places::Places::new(scripts, reach(&scripts.networks)),
            sql: sql::Databases::new(&config.sql, secrets)?,
            nodes: Arc::downgrade(nodes),
        })
    }
}

#[async_trait]
impl Host for ServerHost {
    async fn call(
        &self,
        function: HostFunction,
        arguments: Value,
        input: Option<Arc<dyn File>>,
    ) -> Result<Value> {
        match function {
            HostFunction::Exec => self.programs.run(&arguments, input).await,
            HostFunction::Fetch => self.http.fetch(&arguments).await,
            HostFunction::Mail => self.mail.send(&arguments, input).await,
            HostFunction::Sessions => {
                let nodes = self.nodes.upgrade().ok_or(ErrorKind::Closed)?;
                nodes.for_handlers(&arguments).await
            }
            HostFunction::Sql => self.sql.ask(&arguments).await,
            HostFunction::Report | HostFunction::Run => Err(Error::new(ErrorKind::Unsupported)
                .with_detail("that is for test files: see `ferryd hooks test`")),
        }
    }

    async fn pgp(&self, task: &PgpTask, from: Inflow, to: &mut Outflow) -> Result<Vec<Fingerprint>> {
        match &self.pgp {
            Some(pgp) => pgp.run(task, from, to).await,
            None => Err(invalid("there is no PGP here: [pgp] names no home")),
        }
    }

    async fn open(&self, request: &Value) -> Result<Opened> {
        self.places.open(request).await
    }
}

/// GnuPG as the configuration has it. Blocks. Errors: `InvalidArgument` for a home that cannot be used, and for a
/// secret that is missing or is no line.
fn pgp_of(asked: &config::Pgp, secrets: &Secrets, agents: Arc<pgp::Agents>) -> Result<Option<pgp::Pgp>> {
    let Some(home) = asked.home.clone() else { return Ok(None) };
    let passphrase = |(key, name): (&Fingerprint, &String)| {
        let secret = secret_named(secrets, name, "[pgp]")?;
        match secret.expose().contains(['\n', '\r', '\0']) {
            true => Err(invalid(format!("the secret '{name}' is no passphrase: it is more than one line"))),
            false => Ok((key.clone(), secret)),
        }
    };
    let settings = pgp::Settings {
        program: asked.program.clone(),
        home,
        passphrases: asked.passphrases.iter().map(passphrase).collect::<Result<_>>()?,
        time: asked.time,
        size: asked.size,
        processes: asked.processes,
    };
    pgp::Pgp::new(settings, agents).map(Some)
}

pub(crate) fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

/// What handlers may connect to: the open internet, and these networks.
fn reach(networks: &[IpNet]) -> net::reach::Reach {
    net::reach::Reach { public_only: true, allowed: networks.into(), ..net::reach::Reach::default() }
}

/// Posts JSON where the configuration says, wherever that is; the status and the body. Errors: those of `fetch`.
pub(crate) async fn post_json(url: &str, body: &Value, token: Option<&Secret>) -> Result<(u16, Vec<u8>)> {
    let mut headers = vec![json!(["content-type", "application/json"])];
    headers.extend(token.map(|t| json!(["authorization", format!("Bearer {}", t.expose())])));
    let request = json!({ "url": url, "method": "POST", "headers": headers, "body": STANDARD.encode(body.to_string()) });
    let everywhere = vec![IpNet::V4(Default::default()), IpNet::V6(Default::default())];
    let told = http::Client::new(everywhere).fetch(&request).await?;
    let status = field(&told, "status").as_u64().and_then(|s| u16::try_from(s).ok());
    let answer = STANDARD.decode(field(&told, "body").as_str().unwrap_or_default());
    Ok((status.unwrap_or_default(), answer.unwrap_or_default()))
}

/// A secret by its name. Errors: `InvalidArgument`, saying who needs it.
pub(crate) fn secret_named(secrets: &Secrets, name: &str, who: &str) -> Result<Secret> {
    secrets.get(name).cloned().ok_or_else(|| {
        invalid(format!("{who} needs the secret '{name}'"))
            .with_hint("it stands in the file that `secrets` of [scripts] names, or in FERRYD_SECRET_…")
    })
}

/// What the handlers of a site reach besides what the configuration says.
pub(crate) struct Reach {
    /// Secrets that are not in the file.
    pub(crate) stored: BTreeMap<String, Secret>,
    /// What they share.
    pub(crate) values: Arc<Values>,
    /// Where uploads go that must not be published.
    pub(crate) quarantine: Arc<dyn Quarantine>,
    /// Everybody's sessions.
    pub(crate) nodes: Arc<Nodes>,
    /// Who follows them.
    pub(crate) traces: Arc<Traces>,
    /// What PGP leaves running.
    pub(crate) agents: Arc<pgp::Agents>,
}

/// The handlers of a configuration, compiled; `None` where there are none. Blocks. Errors: those of
/// reading and compiling them, by file.
pub(crate) fn load(config: &Config, engine: &Arc<Engine>, reach: Reach) -> Result<Option<Arc<Hooks>>> {
    if config.hooks.is_empty() {
        return Ok(None);
    }
    let mut bindings = Vec::new();
    for hook in &config.hooks {
        bindings.push(binding(hook, &config.scripts)?);
    }
    let scripts = &config.scripts;
    let secrets = secrets_of(scripts, reach.stored)?;
    let host = ServerHost::new(config, &secrets, &reach.nodes, reach.agents)?;
    let services = Services {
        secrets,
        values: reach.values,
        host: Some(Arc::new(host)),
        quarantine: Some(reach.quarantine),
        tracer: Some(reach.traces),
        on_client: false,
    };
    Hooks::with(Arc::clone(engine), services, bindings).map(Some)
}

/// A handler as the configuration binds it.
pub(crate) fn binding(hook: &Hook, scripts: &Scripts) -> Result<Binding> {
    let folder = match scripts.folder.as_os_str().is_empty() {
        true => hook.file.parent().unwrap_or(Path::new("/")),
        false => &scripts.folder,
    };
    let (source, module) = read(&hook.file, folder)?;
    Ok(Binding {
        users: hook.users.clone(),
        priority: hook.priority,
        on_error: match hook.on_error {
            config::OnError::Block => OnError::Block,
            config::OnError::Pass => OnError::Pass,
        },
        time: hook.time,
        grants: Grants::of(&hook.grant),
        module,
        ..Binding::new(hook.event.as_str(), hook.file.display().to_string(), source)
    })
}

/// The secrets of a configuration, before stored ones. Blocks. Errors: those of their file.
pub(crate) fn secrets_of(scripts: &Scripts, stored: BTreeMap<String, Secret>) -> Result<Secrets> {
    let mut secrets = stored;
    secrets.extend(client::hooks::secrets(scripts.secrets.as_deref(), SECRET_VARIABLES)?);
    Ok(Secrets::new(secrets))
}

/// The names of the secrets that the file and the environment have, which stand before stored ones.
pub(crate) fn declared_secrets(scripts: &Scripts) -> Vec<String> {
    let declared = client::hooks::secrets(scripts.secrets.as_deref(), SECRET_VARIABLES);
    declared.map(|all| all.into_keys().collect()).unwrap_or_default()
}
