//! `--hooks`: handlers from the command line, what they may do, and where they speak; the arguments of `ferry hooks`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::json;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;
use session_core::script::Fingerprint;
use session_core::session::SessionId;

use super::lines;
use crate::hooks::{
    EngineLimits, Grant, Grants, Handlers, OnError, Reach, SECRET_VARIABLES, Secrets, Traced, Tracer, bind,
    pgp, secrets,
};

/// Handlers and their bounds.
#[derive(Args, Clone, Default, PartialEq)]
pub(super) struct HookFlags {
    /// Ask this JavaScript about what is done at remotes: for every event, or for the named ones (set apart by
    /// commas). What it refuses, or fails at, is not done (may be given several times)
    #[arg(long, global = true, value_name = "[EVENTS=]FILE")]
    hooks: Vec<String>,
    /// What handlers may do besides deciding: exec, files, http, pgp, secrets, speed, store
    #[arg(long, global = true, value_name = "GRANTS", value_delimiter = ',', value_parser = grant)]
    hooks_grant: Vec<Grant>,
    /// A program that handlers with the grant 'exec' may run (may be given several times)
    #[arg(long, global = true, value_name = "NAME=PATH", value_parser = program)]
    hooks_program: Vec<(String, PathBuf)>,
    /// A private network that handlers with the grant 'http' may reach (may be given several times)
    #[arg(long, global = true, value_name = "NETWORK")]
    hooks_network: Vec<IpNet>,
    /// The secrets for the grant 'secrets': a TOML file that nobody else may read; besides it FERRY_SECRET_NAME
    #[arg(long, global = true, value_name = "FILE")]
    hooks_secrets: Option<PathBuf>,
    /// The home of GnuPG for the grant 'pgp', which nobody else may look into; the passphrase of a key is the secret
    /// 'pgp_' with its fingerprint in small letters
    #[arg(long, global = true, value_name = "DIR")]
    hooks_pgp: Option<PathBuf>,
    /// Seconds that a handler may take, whatever its event allows
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    hooks_time: Option<u64>,
    /// A handler that fails lets pass what it was asked about
    #[arg(long, global = true)]
    hooks_pass: bool,
}

/// `hooks`.
#[derive(Args)]
pub(super) struct Hooks {
    #[command(subcommand)]
    pub(super) command: HooksCommand,
}

/// What to do with handlers, without any remote.
#[derive(Subcommand)]
pub(super) enum HooksCommand {
    /// Report faults of handlers: syntax, imports, members and events that there are not; with their lines
    Check {
        /// Handlers, as --hooks takes them
        #[arg(required = true, value_name = "[EVENTS=]FILE")]
        files: Vec<String>,
    },
    /// Write the types of everything that handlers can call, for an editor
    Types {
        /// Where; without it, to standard output
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

fn grant(text: &str) -> std::result::Result<Grant, String> {
    match Grant::parse(text) {
        Some(Grant::Sessions) => Err("a client has no list of sessions".into()),
        Some(grant) => Ok(grant),
        None => {
            let known: Vec<_> =
                Grant::ALL.iter().filter(|g| **g != Grant::Sessions).map(|g| g.name()).collect();
            Err(format!("there are {}", known.join(", ")))
        }
    }
}

fn program(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name.into(), path.into())),
        _ => Err("a program is NAME=PATH, with its whole path".into()),
    }
}

/// A handler's events, if it names any, and its file. A file whose own name has an equals sign is meant by `./`.
pub(super) fn parts(text: &str) -> (Option<Vec<&str>>, &Path) {
    match text.split_once('=') {
        Some((events, file)) if events.bytes().all(|b| b.is_ascii_alphanumeric() || b == b',') => {
            (Some(events.split(',').collect()), Path::new(file))
        }
        _ => (None, Path::new(text)),
    }
}

impl HookFlags {
    /// Whether there are handlers.
    pub(super) fn are_given(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The handlers, compiled; `None` without any. Errors: `InvalidArgument`; those of reading them.
    pub(super) async fn handlers(&self, json: bool, quiet: bool) -> Result<Option<Handlers>> {
        if !self.are_given() {
            return Ok(None);
        }
        let flags = self.clone();
        let loaded = tokio::task::spawn_blocking(move || flags.load(json, quiet)).await;
        loaded.unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e))).map(Some)
    }

    fn load(self, json: bool, quiet: bool) -> Result<Handlers> {
        let mut bindings = Vec::new();
        for text in &self.hooks {
            let (events, file) = parts(text);
            bindings.extend(bind(file, events.as_deref())?);
        }
        for binding in &mut bindings {
            binding.grants = Grants::of(&self.hooks_grant);
            binding.time = self.hooks_time.map(Duration::from_secs);
            binding.on_error = if self.hooks_pass { OnError::Pass } else { OnError::Block };
        }
        let secrets = secrets(self.hooks_secrets.as_deref(), SECRET_VARIABLES)?;
        let reach = Reach {
            pgp: self.hooks_pgp.map(|home| pgp_at(home, &secrets)).transpose()?,
            programs: self.hooks_program.into_iter().collect::<BTreeMap<_, _>>(),
            networks: self.hooks_network,
            secrets: Secrets::new(secrets),
            limits: EngineLimits::default(),
            tracer: Some(Arc::new(Speaker { json, quiet })),
            ..Reach::default()
        };
        Handlers::new(bindings, reach)
    }
}

/// GnuPG at a home, with its passphrases among the secrets.
fn pgp_at(home: PathBuf, secrets: &BTreeMap<String, Secret>) -> Result<pgp::Settings> {
    let named = secrets.iter().filter_map(|(name, secret)| Some((name.strip_prefix("pgp_")?, secret)));
    let passphrases = named.filter_map(|(key, secret)| Some((Fingerprint::parse(key).ok()?, secret.clone())));
    Ok(pgp::Settings { passphrases: passphrases.collect(), ..pgp::Settings::at(std::path::absolute(home)?) })
}

/// Tells on the error output what handlers log, and why one failed.
struct Speaker {
    json: bool,
    quiet: bool,
}

impl Tracer for Speaker {
    fn follows(&self, _: &SessionId) -> bool {
        true
    }

    fn ran(&self, session: &SessionId, traced: Traced) {
        let failed = traced.outcome == "failed";
        if self.json {
            if failed || !traced.lines.is_empty() {
                let fields = json!({
                    "name": traced.event,
                    "handler": &*traced.handler,
                    "session": session.as_str(),
                    "outcome": traced.outcome,
                    "message": traced.words,
                    "log": traced.lines,
                });
                eprintln!("{}", lines::line(&lines::HOOK, fields));
            }
            return;
        }
        if !self.quiet {
            for line in &traced.lines {
                eprintln!("{}: {line}", traced.handler);
            }
        }
        if failed {
            let words = display_bytes(traced.words.as_bytes());
            eprintln!("error: {} in {}: {words}", traced.handler, traced.event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_stand_before_a_file() {
        let file = |text| parts(text).1.to_str().unwrap();
        assert_eq!(parts("a.js"), (None, Path::new("a.js")));
        assert_eq!(parts("OnDirList,BeforeCommit=a.js").0.unwrap(), ["OnDirList", "BeforeCommit"]);
        assert_eq!(file("OnDirList=d/a=b.js"), "d/a=b.js");
        assert_eq!(parts("./a=b.js"), (None, Path::new("./a=b.js")));
        assert!(grant("http").is_ok() && grant("sessions").is_err() && grant("all").is_err());
        assert!(program("echo=/bin/echo").is_ok() && program("echo=echo").is_err() && program("/x").is_err());
    }
}
