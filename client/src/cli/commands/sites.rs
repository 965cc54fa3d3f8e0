//! `sites`: how servers are opened, by name. What is secret is stored sealed or not at all.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::proxy::Proxy;

use super::Context;
use super::changes::{Became, Teller, with};
use crate::cli::args::Global;
use crate::cli::decide::SITES_PASSPHRASE;
use crate::cli::lines;
use crate::cli::render::Out;
use crate::cli::sites_args::{Add, Import, Program, Sites as Args, SitesCommand};
use crate::script::Drives;
use crate::session::{SessionOptions, SshHostKeyPolicy, parse_script_url};
use crate::sites::import::{self, Imported};
use crate::sites::{Site, Store};
use crate::url::Url;

/// How often a passphrase is asked for.
const PHRASES: u32 = 3;

fn argument(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))
}

pub(super) async fn sites(cx: &mut Context, a: &Args) -> Result<()> {
    let store = Store::of_user()?;
    match &a.what {
        SitesCommand::Add(a) => {
            add(cx, &store, a).await?;
            Teller::new("sites add").tell(cx, of_site(&a.name), Ok(Became::Done));
            Ok(())
        }
        SitesCommand::List => list(cx, &store).await,
        SitesCommand::Show { name } => show(cx, &store, name).await,
        SitesCommand::Rm { names } => {
            let all = names.clone();
            // All of them or none.
            blocking(move || store.edit(|sites| all.iter().try_for_each(|name| sites.remove(name)))).await?;
            let mut teller = Teller::new("sites rm");
            for name in names {
                teller.tell(cx, of_site(name), Ok(Became::Done));
            }
            Ok(())
        }
        SitesCommand::Import(a) => take_over(cx, &store, a).await,
        SitesCommand::Passphrase => {
            passphrase(cx, &store).await?;
            Teller::new("sites passphrase").tell(cx, Map::new(), Ok(Became::Done));
            Ok(())
        }
    }
}

/// The fields of a change of a site.
fn of_site(name: &str) -> Map<String, Value> {
    with(Map::new(), "place", Url::of_site(name).to_string())
}

// ---- secrets

/// Asks on the terminal; `None` where there is nobody.
async fn ask(global: &Global, prompt: &'static str) -> Result<Option<Secret>> {
    if global.batch || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    blocking(move || Ok(rpassword::prompt_password(prompt).ok().map(Secret::new))).await
}

fn nobody(words: &'static str, variable: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated).with_detail(words).with_hint(format!("set {variable}"))
}

async fn new_passphrase(global: &Global, variable: &'static str) -> Result<Secret> {
    if let Ok(given) = std::env::var(variable) {
        return Ok(Secret::new(given));
    }
    let first = ask(global, "Passphrase for stored secrets: ").await?;
    let first = first.ok_or_else(|| nobody("a passphrase for stored secrets is wanted", variable))?;
    if ask(global, "Once more: ").await?.as_ref() != Some(&first) {
        return Err(argument("the two passphrases differ"));
    }
    Ok(first)
}

/// The passphrase of the stored secrets: the one that fits, or a new one where none are stored.
async fn known_passphrase(global: &Global, store: &Store) -> Result<Secret> {
    let file = store.clone();
    if !blocking(move || Ok(file.read()?.has_lock())).await? {
        return new_passphrase(global, SITES_PASSPHRASE).await;
    }
    let given = std::env::var(SITES_PASSPHRASE).ok().map(Secret::new);
    for n in 0..PHRASES {
        let phrase = match given.clone().filter(|_| n == 0) {
            Some(given) => given,
            None => ask(global, "Passphrase of stored secrets: ")
                .await?
                .ok_or_else(|| nobody("the passphrase of the stored secrets is wanted", SITES_PASSPHRASE))?,
        };
        let (file, tried) = (store.clone(), phrase.clone());
        match blocking(move || file.read()?.unlock(&tried)).await {
            Ok(()) => return Ok(phrase),
            Err(e) if e.kind() == ErrorKind::Unauthenticated => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::new(ErrorKind::Unauthenticated)
        .with_detail("that is not the passphrase of the stored secrets"))
}

async fn passphrase(cx: &Context, store: &Store) -> Result<()> {
    let file = store.clone();
    if !blocking(move || Ok(file.read()?.has_lock())).await? {
        return Err(argument("no secrets are stored"));
    }
    let old = known_passphrase(&cx.global, store).await?;
    let new = new_passphrase(&cx.global, "FERRY_NEW_PASSPHRASE").await?;
    let store = store.clone();
    blocking(move || {
        store.edit(|sites| {
            sites.unlock(&old)?;
            sites.change_passphrase(&new)
        })
    })
    .await
}

// ---- add

/// The options of a site: the URL's, and what the flags of every command say.
fn described(global: &Global, a: &Add) -> Result<(SessionOptions, Option<String>)> {
    let (mut o, directory) = parse_script_url(&a.url)?;
    let way = &global.way;
    for raw in &a.raw {
        let (name, value) =
            raw.split_once('=').ok_or_else(|| argument(format!("'{raw}' is not a setting: NAME=VALUE")))?;
        o = o.add_raw_setting(name, value)?;
    }
    match global.identity.as_slice() {
        [] => {}
        [key] => o = o.ssh_private_key_path(std::path::absolute(key)?),
        _ => return Err(argument("a site has one private key")),
    }
    if !global.host_key.is_empty() {
        o = o.ssh_host_key_fingerprint(global.host_key.join(";"))?;
    }
    if !global.certificate.is_empty() {
        o = o.tls_host_certificate_fingerprint(global.certificate.join(";"))?;
    }
    if global.accept_new {
        o = o.ssh_host_key_policy(SshHostKeyPolicy::AcceptNew);
    }
    if let Some(file) = &global.known_hosts {
        o = o.known_hosts(std::path::absolute(file)?);
    }
    if let Some(seconds) = global.connect_timeout {
        o = o.timeout(std::time::Duration::from_secs(seconds))?;
    }
    if let Some(proxy) = &way.proxy {
        o = o.with_proxy(&Proxy::parse(proxy)?)?;
    }
    #[cfg(feature = "sftp")]
    if let Some(jump) = &way.jump {
        match crate::connect::Hop::parse(jump)?.as_slice() {
            [] => {}
            [hop] => o = o.with_jump(hop)?,
            _ => return Err(argument("a site goes over one host").with_hint("give --jump with each command")),
        }
    }
    if way.ipv4 || way.ipv6 {
        o = o.add_raw_setting("AddressFamily", if way.ipv4 { "1" } else { "2" })?;
    }
    if let Some(address) = way.bind {
        o = o.add_raw_setting("SourceAddress", &address.to_string())?;
    }
    if way.active {
        o = o.ftp_mode(crate::session::FtpMode::Active);
    }
    if let Some(file) = &way.client_certificate {
        o = o.tls_client_certificate_path(std::path::absolute(file)?);
    }
    Ok((
        o,
        directory
            .filter(|d| d != "/")
            .map(|d| d.strip_prefix("/~/").map_or(d.clone(), |rest| format!("~/{rest}"))),
    ))
}

async fn add(cx: &Context, store: &Store, a: &Add) -> Result<()> {
    let (mut options, directory) = described(&cx.global, a)?;
    if a.save_password {
        if options.password.is_none() && options.user_name.is_some() {
            let given = cx.global.password.clone().map(Secret::new);
            let given = match given {
                Some(given) => Some(given),
                None => ask(&cx.global, "Password of the site (empty for none): ").await?,
            };
            options.password = given.filter(|p| !p.expose().is_empty());
        }
        let has_key = options.ssh_private_key_path.is_some() || options.tls_client_certificate_path.is_some();
        if let Some(phrase) = std::env::var("FERRY_PASSPHRASE").ok().filter(|_| has_key) {
            options = options.private_key_passphrase(phrase);
        }
    }
    options.check()?;
    let site = Site { directory, ..Site::new(a.name.as_str(), options)? };
    if site.has_secrets() && !a.save_password {
        return Err(argument("a secret stands in what is to be stored").with_hint(
            "--save-password stores it sealed by a passphrase; leave it out to be asked at each login",
        ));
    }
    if a.save_password && !site.has_secrets() {
        return Err(argument("there is no password to be stored")
            .with_hint("set FERRY_PASSWORD, or FERRY_PASSPHRASE for the phrase of a key"));
    }
    let phrase = match site.has_secrets() {
        true => Some(known_passphrase(&cx.global, store).await?),
        false => None,
    };
    let (store, replace) = (store.clone(), a.replace);
    blocking(move || {
        store.edit(|sites| {
            if !replace && sites.names().contains(&site.name.as_str()) {
                return Err(Error::new(ErrorKind::AlreadyExists)
                    .with_detail(format!("there is a site '{}'", site.name))
                    .with_hint("--replace puts another in its place"));
            }
            if let Some(phrase) = &phrase {
                sites.unlock(phrase)?;
            }
            sites.put(site)
        })
    })
    .await
}

// ---- list and show

/// What there is to know of a site, without its secrets.
fn as_json(site: &Site, secrets: bool) -> Value {
    let o = &site.options;
    json!({
        "name": site.name, "url": o.to_url(), "directory": site.directory,
        "private_key": o.ssh_private_key_path.as_ref().map(|p| p.display().to_string()),
        "client_certificate": o.tls_client_certificate_path.as_ref().map(|p| p.display().to_string()),
        "known_hosts": o.known_hosts.as_ref().map(|p| p.display().to_string()),
        "timeout": o.timeout.as_secs(), "active": o.ftp_mode == crate::session::FtpMode::Active,
        "host_key_policy": format!("{:?}", o.ssh_host_key_policy),
        "accept_any_certificate": o.accept_any_certificate, "secrets": secrets,
    })
}

/// The URL without what is only its name.
fn short(site: &Site) -> String {
    let nameless = SessionOptions { name: None, raw: Vec::new(), ..site.options.clone() };
    nameless.to_url()
}

async fn list(cx: &Context, store: &Store) -> Result<()> {
    let file = store.clone();
    let sites = blocking(move || file.read()).await?;
    let mut out = Out::new();
    for name in sites.names() {
        let (site, secrets) = (sites.plain(name)?, sites.has_secrets(name));
        if cx.global.json {
            out.json(&lines::SITE, as_json(&site, secrets));
        } else {
            let mark = if secrets { "  (with secrets)" } else { "" };
            out.line(&format!("{name:<30} {}{mark}", short(&site)));
        }
    }
    Ok(())
}

async fn show(cx: &Context, store: &Store, name: &str) -> Result<()> {
    let (file, wanted) = (store.clone(), name.to_owned());
    let (site, secrets) = blocking(move || {
        let sites = file.read()?;
        let name = sites.find(&wanted).unwrap_or(&wanted);
        Ok((sites.plain(name)?, sites.has_secrets(name)))
    })
    .await?;
    let mut out = Out::new();
    if cx.global.json {
        out.json(&lines::SITE, as_json(&site, secrets));
        return Ok(());
    }
    let o = &site.options;
    let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
    out.line(&format!("{:<20} {}", "name", site.name));
    out.line(&format!("{:<20} {}", "place", Url::of_site(site.name.as_str())));
    out.line(&format!("{:<20} {}", "url", short(&site)));
    for (what, value) in [
        ("begins in", site.directory.clone()),
        ("private key", path(&o.ssh_private_key_path)),
        ("client certificate", path(&o.tls_client_certificate_path)),
        ("known hosts", path(&o.known_hosts)),
        ("secrets", secrets.then(|| "stored, sealed".to_owned())),
    ] {
        if let Some(value) = value {
            out.line(&format!("{what:<20} {value}"));
        }
    }
    if o.ssh_host_key_policy != SshHostKeyPolicy::Check {
        out.line(&format!("{:<20} {:?}", "host key policy", o.ssh_host_key_policy));
    }
    for (name, value) in &o.raw {
        out.line(&format!("{name:<20} {value}"));
    }
    Ok(())
}

// ---- import

fn usual_file(program: Program) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from)?;
    let config = std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    match program {
        Program::Filezilla => Some(config.join("filezilla/sitemanager.xml")),
        Program::Rclone => Some(config.join("rclone/rclone.conf")),
        #[cfg(feature = "sftp")]
        Program::Ssh => Some(home.join(".ssh/config")),
        Program::Winscp => None,
    }
}

fn read_file(program: Program, file: &std::path::Path, drives: &Drives) -> Result<Imported> {
    let text = || {
        let bytes = std::fs::read(file).map_err(|e| {
            let words = format!("cannot read '{}': {e}", file.display());
            Error::from(e).with_detail(words)
        })?;
        crate::script::text::decoded(&bytes)
    };
    match program {
        Program::Filezilla => import::filezilla(&text()?, drives),
        Program::Rclone => import::rclone(&text()?),
        #[cfg(feature = "sftp")]
        Program::Ssh => import::ssh_config(file),
        Program::Winscp => Ok(import::winscp(&text()?, drives)),
    }
}

async fn take_over(cx: &Context, store: &Store, a: &Import) -> Result<()> {
    let file = a.file.clone().or_else(|| usual_file(a.program)).ok_or_else(|| argument("name the file"))?;
    let mut drives = Drives::new();
    for drive in &a.drive {
        drives.add(drive)?;
    }
    let program = a.program;
    let mut all = blocking(move || read_file(program, &file, &drives)).await?;
    for site in &mut all.sites {
        if a.no_passwords {
            site.forget_secrets();
        }
        if let Some(folder) = &a.into {
            site.name = Site::new(format!("{folder}/{}", site.name), SessionOptions::new())?.name;
        }
    }
    let secrets = all.sites.iter().any(Site::has_secrets);
    let phrase = match secrets && !a.dry_run {
        true => Some(known_passphrase(&cx.global, store).await.map_err(|e| {
            if e.kind() == ErrorKind::Unauthenticated {
                e.with_hint(format!("set {SITES_PASSPHRASE}, or leave secrets with --no-passwords"))
            } else {
                e
            }
        })?),
        false => None,
    };
    let (file, replace, dry_run) = (store.clone(), a.replace, a.dry_run);
    let sites = all.sites;
    let outcome = blocking(move || {
        let mut done = Vec::new();
        let work = |into: &mut crate::sites::Sites| {
            if let Some(phrase) = &phrase {
                into.unlock(phrase)?;
            }
            for site in sites {
                let there = into.names().contains(&site.name.as_str());
                let taken = !there || replace;
                done.push((site.name.clone(), short(&site), site.has_secrets(), taken));
                if taken && !dry_run {
                    into.put(site)?;
                }
            }
            Ok(())
        };
        if dry_run {
            work(&mut file.read()?)?;
        } else {
            file.edit(work)?;
        }
        Ok(done)
    })
    .await?;
    let mut out = Out::new();
    for (name, url, secrets, taken) in &outcome {
        if cx.global.json {
            let fields = json!({ "name": name, "url": url, "secrets": secrets, "taken": taken });
            out.json(&lines::SITE_TAKEN, fields);
        } else if !cx.global.quiet {
            let mark = match (taken, secrets) {
                (false, _) => "  left: there is one of this name",
                (true, true) => "  (with secrets)",
                (true, false) => "",
            };
            out.line(&format!("{name:<30} {url}{mark}"));
        }
    }
    out.flush();
    for note in &all.notes {
        if cx.global.json {
            out.json(&lines::SITE_NOTE, json!({ "site": note.site, "words": note.words }));
        } else {
            let site = if note.site.is_empty() { String::new() } else { format!("{}: ", note.site) };
            eprintln!("not taken over: {site}{}", note.words);
        }
    }
    Ok(())
}
