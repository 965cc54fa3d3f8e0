//! `ssh_config`: each host that stands there by name, as the file resolves it.
//!
//! Patterns are no sites; what they say counts for the names that they cover. One host in between becomes a
//! tunnel. What only the file can say, sites leave to it: `ferry` reads it for URLs.
#![cfg(feature = "sftp")]

use std::path::Path;

use proto_sftp::ssh::config::{Asked, ConfigFile, ConfigUse, Disk, Given, Hop, HopLogin, hosts, resolve};
use session_core::error::Result;
use session_core::net::dial::Family;

use super::Imported;
use crate::session::SessionOptions;

/// Reads a file of `ssh_config` and those that it includes. Blocks. Errors: those of reading; `InvalidArgument` with
/// file and line.
pub fn ssh_config(path: &Path) -> Result<Imported> {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_default();
    let files = ConfigFile::only(path, &home);
    let mut out = Imported::default();
    for name in hosts(&files, &home, &Disk)? {
        one(&mut out, &name, path, &files, &home)?;
    }
    Ok(out)
}

fn one(out: &mut Imported, name: &str, path: &Path, files: &[ConfigFile], home: &Path) -> Result<()> {
    let user = std::env::var("USER").unwrap_or_else(|_| "nobody".into());
    let asked = Asked { host: name, user: None, port: None, local_user: &user, home };
    let said = resolve(files, &asked, &Disk)?;
    // Where the file names nobody, the user of the day logs in; here only paths are made of it.
    let given = Given {
        user: said.user.is_none().then(|| user.clone()),
        config: ConfigUse::File(path.into()),
        ..Given::new(name)
    };
    let found = match given.options() {
        Ok((found, _)) => found,
        Err(e) => {
            out.note(name, format!("the site is left out: {}", super::words_of(&e)));
            return Ok(());
        }
    };
    let mut o = SessionOptions::sftp(found.host.clone());
    if found.port != 22 {
        o = o.port_number(found.port);
    }
    if let Some(user) = &said.user {
        o = o.user_name(user.as_str());
    }
    let mut keys = found.identities.iter();
    if let Some(key) = keys.next() {
        o = o.ssh_private_key_path(key);
    }
    for key in keys {
        out.note(name, format!("IdentityFile {}: a site here has one private key", key.display()));
    }
    let mut raw = Vec::new();
    if let Some(alias) = &said.host_key_alias {
        raw.push(("LogicalHostName", alias.clone()));
    }
    match found.family {
        Family::Any => {}
        Family::V4 => raw.push(("AddressFamily", "1".into())),
        Family::V6 => raw.push(("AddressFamily", "2".into())),
    }
    if let Some(source) = found.source {
        raw.push(("SourceAddress", source.to_string()));
    }
    if let Some(every) = said.server_alive_interval.filter(|e| !e.is_zero()) {
        raw.push(("PingType", "1".into()));
        raw.push(("PingIntervalSecs", every.as_secs().to_string()));
    }
    for certificate in &found.certificates {
        raw.push(("DetachedCertificate", certificate.display().to_string()));
    }
    if let Some(hop) = &found.jump {
        if hop.jump.is_some() || !hop.proxy.is_direct() {
            out.note(
                name,
                "ProxyJump: a site here goes over one host; of sftp:// with this name, the file is read",
            );
        } else {
            let login = HopLogin { identities: hop.identities.clone(), ..HopLogin::default() };
            let (user, port) = (Some(hop.user.clone()), Some(hop.port));
            let over = Hop { host: hop.host.clone(), user, port, login: Some(login) };
            o = out.apply(name, "ProxyJump", o, |o| o.with_jump(&over));
        }
    }
    if !found.proxy.is_direct() {
        o = out.apply(name, "ProxyCommand", o, |o| o.with_proxy(&found.proxy));
    }
    for words in &said.warnings {
        out.note(name, words.clone());
    }
    for (setting, value) in raw {
        o = out.apply(name, &format!("{setting}={value}"), o, |o| o.add_raw_setting(setting, &value));
    }
    out.take(name, o, None);
    Ok(())
}
