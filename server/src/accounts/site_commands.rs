//! `ferryd site`: the commands that ask the desk about sites.
//!
//! Deliberately absent: how it is asked (`super::commands`), what a site is (`crate::config`).

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value};
use session_core::error::{Error, Result};

use super::commands::{Way, invalid, print, settings, target, to_json, told, words};
use crate::control::commands::{pairs, put, shown};

#[derive(Args)]
pub(crate) struct Sites {
    #[command(subcommand)]
    command: SiteCommand,
    /// JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum SiteCommand {
    /// What sites there are
    List,
    /// One site
    Show {
        /// The site
        name: String,
    },
    /// Add a site to the database; it is served at once
    Add {
        /// The site
        name: String,
        /// Keys of a site's table as in the configuration file: hosts=ftp.shop.example,
        /// 'listeners=[{protocol="sftp",port=2222}]', 'ftp={welcome="Hello"}'
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// A file of TOML with such keys
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Change a site of the database; its sessions go on
    Set {
        /// The site
        name: String,
        /// As with add; the value takes the place of the one that is there
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// As with add
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Keys to take away
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Remove a site and end its sessions; its files stay
    #[command(visible_alias = "remove")]
    Rm {
        /// The site
        name: String,
        /// With its users and groups
        #[arg(long)]
        accounts: bool,
    },
}

/// What is given in words stands before what the file has.
fn record(from: Option<PathBuf>, given: &[String], unset: &[String]) -> Result<Map<String, Value>> {
    let mut record = Map::new();
    if let Some(file) = from {
        let unread =
            |e: std::io::Error| Error::from(e).with_detail(format!("{} cannot be read", file.display()));
        let text = std::fs::read_to_string(&file).map_err(unread)?;
        let table: toml::Table =
            toml::from_str(&text).map_err(|e| invalid(format!("{}: {}", file.display(), e.message())))?;
        record.extend(table.into_iter().map(|(key, value)| (key, to_json(value))));
    }
    record.extend(settings(given, unset)?);
    Ok(record)
}

/// Runs one of them.
pub(super) async fn run(way: &Way, args: Sites) -> Result<()> {
    let json = args.json;
    let at = |name: &str| target("sites", Some(name), None);
    match args.command {
        SiteCommand::List => {
            let answer = way.ask(Method::GET, "/v1/sites", Value::Null).await?;
            let all = answer.get("sites").and_then(Value::as_array).cloned().unwrap_or_default();
            if json {
                return put(&all.iter().map(|s| format!("{s}\n")).collect::<String>()).map(|_| ());
            }
            print(all.iter().map(row).collect(), &["NAME", "FROM", "LISTENS", "HOSTS", "USERS"], "sites")?;
            let unusable = all.iter().filter(|s| s.get("unusable").is_some());
            let faults = unusable.map(|s| format!("{}: {}\n", shown(s, "name"), shown(s, "unusable")));
            put(&faults.collect::<String>()).map(|_| ())
        }
        SiteCommand::Show { name } => {
            let site = way.ask(Method::GET, &at(&name), Value::Null).await?;
            put(&if json { format!("{site}\n") } else { pairs(&site) }).map(|_| ())
        }
        SiteCommand::Add { name, settings: given, from } => {
            let mut record = record(from, &given, &[])?;
            record.insert("name".into(), name.as_str().into());
            let answer = way.ask(Method::POST, "/v1/sites", Value::Object(record)).await?;
            told(&answer, json, &format!("added site {name}"))
        }
        SiteCommand::Set { name, settings: given, from, unset } => {
            let record = record(from, &given, &unset)?;
            if record.is_empty() {
                return Err(invalid("name what to change: KEY=VALUE, --from FILE or --unset KEY"));
            }
            let answer = way.ask(Method::PATCH, &at(&name), Value::Object(record)).await?;
            told(&answer, json, &format!("changed site {name}"))
        }
        SiteCommand::Rm { name, accounts } => {
            let filter = if accounts { "?accounts=yes" } else { "" };
            let answer = way.ask(Method::DELETE, &format!("{}{filter}", at(&name)), Value::Null).await?;
            told(&answer, json, &format!("removed site {name}"))
        }
    }
}

/// A text or a number within an answer.
fn plain(v: &Value, key: &str) -> String {
    match v.get(key) {
        Some(Value::Number(n)) => n.to_string(),
        _ => shown(v, key),
    }
}

fn row(site: &Value) -> Vec<String> {
    let listeners = site.get("listeners").and_then(Value::as_array).into_iter().flatten();
    let listener = |l: &Value| {
        let of = |key: &str| plain(l, key);
        let address = of("address");
        let address = if address.contains(':') { format!("[{address}]") } else { address };
        format!("{}://{address}:{}", of("protocol"), of("port"))
    };
    let listeners: Vec<_> = listeners.map(listener).collect();
    vec![
        shown(site, "name"),
        shown(site, "source"),
        listeners.join(" "),
        words(site, "hosts"),
        plain(site, "users"),
    ]
}
