//! `ALL_PROXY` and `NO_PROXY`, read as curl reads them: the lower-case names first, an empty value is none.
//!
//! `NO_PROXY` is a list set apart by commas or blanks: `*` is every host; a name covers itself and all below
//! it, with or without a leading dot; an address covers itself, and a network `10.0.0.0/8` what lies in it;
//! `host:port` covers that port only. Names are compared without case and without the final dot; nothing is
//! looked up. Loopback is no exception.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Proxy;
use crate::error::Result;

/// The proxy that the environment names for this host. Errors: as [`Proxy::parse`].
pub fn proxy_for(host: &str, port: u16) -> Result<Proxy> {
    let get = |lower: &str, upper: &str| {
        let set = |n: &str| std::env::var(n).ok().filter(|v| !v.trim().is_empty());
        set(lower).or_else(|| set(upper))
    };
    choose(get("all_proxy", "ALL_PROXY").as_deref(), get("no_proxy", "NO_PROXY").as_deref(), host, port)
}

/// The same from given values.
pub fn choose(all_proxy: Option<&str>, no_proxy: Option<&str>, host: &str, port: u16) -> Result<Proxy> {
    match all_proxy {
        Some(all) if !no_proxy.is_some_and(|list| excludes(list, host, port)) => Proxy::parse(all),
        _ => Ok(Proxy::Direct),
    }
}

/// Whether a list of exceptions covers a host.
pub fn excludes(list: &str, host: &str, port: u16) -> bool {
    let host = super::super::dial::bare(host).trim_end_matches('.').to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let covers = |item: &str| {
        if item == "*" {
            return true;
        }
        // Before anything with colons is taken for a port.
        if let (Some(address), Ok(net)) = (address, item.parse::<IpNet>()) {
            return net.contains(&address);
        }
        if let Ok(ip) = super::super::dial::bare(item).parse::<IpAddr>() {
            return address == Some(ip.to_canonical());
        }
        let (name, only) = match item.rsplit_once(':') {
            Some((name, p)) => match p.parse::<u16>() {
                Ok(p) => (super::super::dial::bare(name), Some(p)),
                Err(_) => return false,
            },
            None => (item, None),
        };
        if only.is_some_and(|p| p != port) {
            return false;
        }
        let name = name.strip_prefix("*.").unwrap_or(name).trim_start_matches('.').trim_end_matches('.');
        let name = name.to_ascii_lowercase();
        if let (Some(address), Ok(ip)) = (address, name.parse::<IpAddr>()) {
            return address == ip.to_canonical();
        }
        let below = || host.strip_suffix(&name).is_some_and(|front| front.ends_with('.'));
        !name.is_empty() && address.is_none() && (host == name || below())
    };
    list.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty()).any(covers)
}
