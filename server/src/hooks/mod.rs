//! What `ferryd` gives its handlers: their files, secrets, and the functions of a host.
//!
//! Everything is read when the configuration is: a running server uses what it was started or reloaded
//! with, and a file that is broken refuses the reload. Deliberately absent: the handlers' own objects,
//! which are `session_core::script`.

mod exec;
mod http;
mod trace;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use serde_json::Value;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File;
use session_core::registry::SessionRegistry;
use session_core::script::{
    Binding, Engine, Grants, Hooks, Host, HostFunction, OnError, ScriptFolder, Secrets, Services, Values,
};
use session_core::verdict::Quarantine;

pub(crate) use self::trace::Traces;
use crate::config::{self, Config, Hook, Scripts};
use crate::control::select;

/// Variables of this prefix are secrets by the rest of their name, in small letters.
const SECRET_VARIABLES: &str = "FERRYD_SECRET_";

/// The functions of the host.
pub(crate) struct ServerHost {
    programs: exec::Programs,
    http: http::Client,
    /// It holds sessions, and those the chain with the handlers.
    registry: Weak<SessionRegistry>,
}

impl ServerHost {
    pub(crate) fn new(scripts: &Scripts, registry: &Arc<SessionRegistry>) -> Self {
        ServerHost {
            programs: exec::Programs::new(scripts),
            http: http::Client::new(scripts.networks.clone()),
            registry: Arc::downgrade(registry),
        }
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
            HostFunction::Sessions => {
                let registry = self.registry.upgrade().ok_or(ErrorKind::Closed)?;
                select::for_handlers(&registry, &arguments)
            }
            HostFunction::Report | HostFunction::Run => Err(Error::new(ErrorKind::Unsupported)
                .with_detail("that is for test files: see `ferryd hooks test`")),
        }
    }
}

fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

/// A field of an object; null where there is none.
pub(crate) fn field<'a>(object: &'a Value, key: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    object.get(key).unwrap_or(&NONE)
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
    pub(crate) registry: Arc<SessionRegistry>,
    /// Who follows them.
    pub(crate) traces: Arc<Traces>,
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
    let services = Services {
        secrets: secrets_of(scripts, reach.stored)?,
        values: reach.values,
        host: Some(Arc::new(ServerHost::new(scripts, &reach.registry))),
        quarantine: Some(reach.quarantine),
        tracer: Some(reach.traces),
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

/// A script's text; of a module, also the folder and its place there. Errors: those of reading, and a
/// module outside the folder.
pub(crate) fn read(file: &Path, folder: &Path) -> Result<(String, Option<(ScriptFolder, String)>)> {
    let unread = |e: Error| {
        Error::new(e.kind()).with_detail(format!("the hook {} cannot be read: {e}", file.display()))
    };
    if file.extension().is_none_or(|e| e != "mjs") {
        let text = std::fs::read_to_string(file).map_err(|e| unread(e.into()))?;
        return Ok((text, None));
    }
    let place = file.strip_prefix(folder).ok().and_then(Path::to_str).ok_or_else(|| {
        invalid(format!("the module {} is not in the scripts folder {}", file.display(), folder.display()))
    })?;
    let folder = ScriptFolder::open(folder).map_err(unread)?;
    let text = folder.read(place).map_err(unread)?;
    Ok((text, Some((folder, place.to_string()))))
}

/// The secrets of a configuration, before stored ones. Blocks. Errors: those of their file.
pub(crate) fn secrets_of(scripts: &Scripts, stored: BTreeMap<String, Secret>) -> Result<Secrets> {
    let mut secrets = stored;
    secrets.extend(declared(scripts.secrets.as_deref(), std::env::vars())?);
    Ok(Secrets::new(secrets))
}

/// The names of the secrets that the file and the environment have, which stand before stored ones.
pub(crate) fn declared_secrets(scripts: &Scripts) -> Vec<String> {
    let declared = declared(scripts.secrets.as_deref(), std::env::vars());
    declared.map(|all| all.into_keys().collect()).unwrap_or_default()
}

fn declared(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, Secret>> {
    let mut all = BTreeMap::new();
    if let Some(file) = file {
        let fault = |words: String| invalid(format!("the secrets in {}: {words}", file.display()));
        let metadata = std::fs::metadata(file).map_err(|e| fault(e.to_string()))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(fault("others may read or write them".into()).with_hint("chmod 600"));
        }
        let text = std::fs::read_to_string(file).map_err(|e| fault(e.to_string()))?;
        // A parser's message quotes the text: only its place is told.
        let parsed: BTreeMap<String, String> = toml::from_str(&text).map_err(|e| {
            let line =
                1 + text.get(..e.span().map_or(0, |s| s.start)).unwrap_or_default().matches('\n').count();
            fault(format!("line {line} is not `name = \"secret\"`"))
        })?;
        all.extend(parsed.into_iter().map(|(name, secret)| (name, Secret::new(secret))));
    }
    for (name, secret) in variables {
        if let Some(name) = name.strip_prefix(SECRET_VARIABLES).filter(|n| !n.is_empty()) {
            all.insert(name.to_ascii_lowercase(), Secret::new(secret));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn secrets_come_from_a_private_file_and_from_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.toml");
        std::fs::write(&file, "a = \"one\"\nb = \"two\"\n").unwrap();
        let read = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let variables = [("FERRYD_SECRET_B", "three"), ("FERRYD_SECRET_", "x"), ("PATH", "p")];
            declared(Some(&file), variables.into_iter().map(|(n, v)| (n.into(), v.into()))).map(Secrets::new)
        };
        assert!(read(0o644).unwrap_err().to_string().contains("others may read"));
        let all = read(0o600).unwrap();
        let get = |name| all.get(name).map(|s| s.expose().to_string());
        assert_eq!((get("a").as_deref(), get("b").as_deref()), (Some("one"), Some("three")));
        assert_eq!(format!("{all:?}"), "{\"a\", \"b\"}");
        std::fs::write(&file, "a = \"one\"\nb = hunter2\n").unwrap();
        let words = read(0o600).unwrap_err().to_string();
        assert!(words.contains("line 2") && !words.contains("hunter2"), "{words}");
    }
}
