//! What a configuration comes to, made ready and not in force: keys, certificates, rules, handlers, sockets.
//!
//! Sites of the database are made with those of the file. One that cannot be and is not served is left out and told:
//! whoever shares the database must not be kept from serving by it. One that is served and cannot be as it is asked
//! for leaves all as it is. A name that the file has as well is a fault always.
//!
//! Deliberately absent: putting it in force (`super`, `super::reload`).

use std::collections::HashMap;
use std::sync::Arc;

use proto_webdav::server::Sessions;
use session_core::auth::Site;
use session_core::error::{Error, ErrorKind, Result};

use super::Served;
use crate::accounts::Contents;
use crate::config::{Config, Listener, reaches};
use crate::listen::{self, Bound, Identities, Names, Servers};
use crate::site::{Common, FerrySite, Prepared};

/// What was read of the sites, and is not in use.
pub(super) struct Read {
    listening: Vec<(Config, listen::Prepared)>,
}

impl Read {
    /// Blocks. Errors: those of keys and certificates, by name.
    fn new(config: &Config) -> Result<Read> {
        let all = config.each_site();
        let mut listening = Vec::new();
        for site in &all {
            let others: Vec<&Config> =
                all.iter().filter(|o| o.site != site.site && reaches(site, o)).collect();
            listening.push((site.clone(), listen::prepare(site, &others)?));
        }
        let read = Read { listening };
        read.check_gateways(config)?;
        Ok(read)
    }

    /// No gateway leads to this server. Errors: `InvalidArgument`.
    fn check_gateways(&self, config: &Config) -> Result<()> {
        let identities = self.identities();
        let ours: Vec<&str> = identities.values().flat_map(Identities::all).collect();
        for gateway in &config.gateways {
            let pinned =
                gateway.host_keys.iter().chain(&gateway.certificates).chain(&gateway.url.fingerprint);
            if pinned.into_iter().any(|p| ours.iter().any(|own| own.eq_ignore_ascii_case(p.trim()))) {
                let words = format!("the gateway '{}' leads to this very server", gateway.name);
                return Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
            }
        }
        Ok(())
    }

    pub(super) fn identities(&self) -> HashMap<String, Identities> {
        self.listening.iter().map(|(c, p)| (c.site.clone(), p.identities.clone())).collect()
    }

    /// The servers of each site, which lead to the others by name. `sites` are in the order of the file.
    pub(super) fn servers(
        self,
        sites: &[Arc<FerrySite>],
        http: &Arc<Sessions>,
    ) -> Result<HashMap<String, Servers>> {
        let mut servers = HashMap::new();
        let site = |n: usize| sites.get(n).map(|s| Arc::clone(s) as Arc<dyn Site>);
        let configs: Vec<Config> = self.listening.iter().map(|(c, _)| c.clone()).collect();
        for (n, (config, prepared)) in self.listening.into_iter().enumerate() {
            let mut names = config.one_of_several.then(Names::default);
            if let Some(names) = &mut names {
                for (at, other) in configs.iter().enumerate().filter(|(_, other)| reaches(&config, other)) {
                    site(at).into_iter().for_each(|site| names.add(other, &site));
                }
            }
            if let Some(site) = site(n) {
                servers.insert(config.site, prepared.servers(&site, names, http)?);
            }
        }
        Ok(servers)
    }
}

/// A socket that is wanted, for a site.
pub(super) struct Socket {
    pub(super) site: String,
    /// The one that is there already, by its number.
    pub(super) from: Option<usize>,
    /// The one that was made, where none is there.
    pub(super) made: Option<Bound>,
}

/// Everything that serving a configuration takes.
pub(super) struct Ready {
    pub(super) config: Config,
    pub(super) read: Read,
    /// In the order of the configuration, with what those that are there already change to.
    pub(super) sites: Vec<(Arc<FerrySite>, Option<Prepared>)>,
    pub(super) sockets: Vec<Socket>,
}

/// A configuration with the sites of the database. Those that cannot be are left out, and told. Errors: a name that
/// the file has, too; one that is `served` and cannot be.
pub(super) fn with_stored(file: &Config, contents: &Contents, served: Option<&Served>) -> Result<Config> {
    let (config, wrong) = contents.with_sites(file);
    for fault in wrong {
        if fault.double {
            return Err(Error::new(ErrorKind::AlreadyExists).with_detail(fault.to_string()).with_hint(
                "give one of them another name; 'ferryd site rm' removes the one of the database",
            ));
        }
        if served.is_some_and(|s| s.site(&fault.site).is_some()) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail(fault.to_string()));
        }
        left_out(&fault.site, &fault.words);
    }
    Ok(config)
}

fn left_out(site: &str, words: &str) {
    tracing::error!(site, "a site of the database is not served: {words}");
}

/// Makes a configuration ready. `there` is served, on these sockets. Errors: whatever cannot be read, made or bound,
/// by name; then nothing has changed.
pub(super) async fn ready(
    config: &Config,
    there: Option<&Arc<Served>>,
    bound: &[(String, Listener)],
    common: &Arc<Common>,
) -> Result<Ready> {
    let (of, there, shared) = (config.clone(), there.cloned(), Arc::clone(common));
    let work = tokio::task::spawn_blocking(move || {
        let read = Read::new(&of)?;
        let mut sites = Vec::new();
        for site in of.each_site() {
            sites.push(match there.as_ref().and_then(|t| t.site(&site.site)) {
                Some(stays) => (Arc::clone(stays), Some(stays.prepare(site)?)),
                None => (FerrySite::new(site, Arc::clone(&shared))?, None),
            });
        }
        Ok::<_, Error>((of, read, sites))
    });
    let (config, read, sites) = work.await.map_err(|_| Error::from(ErrorKind::Internal))??;
    let asked = |of: &Config| of.listeners.iter().map(|l| (of.site.clone(), l.clone())).collect::<Vec<_>>();
    let asked: Vec<_> = config.each_site().iter().flat_map(asked).collect();
    let mut sockets = Vec::new();
    for ((site, listener), from) in asked.iter().zip(assign(bound, &asked)) {
        let made = match from {
            Some(_) => None,
            None => Some(Bound::new(site, listener).await?),
        };
        sockets.push(Socket { site: site.clone(), from, made });
    }
    Ok(Ready { config, read, sites, sockets })
}

/// The same; sites of the database that are not served and cannot be are left out, and told.
pub(super) async fn ready_without_unusable(
    config: &Config,
    there: Option<&Arc<Served>>,
    bound: &[(String, Listener)],
    common: &Arc<Common>,
) -> Result<Ready> {
    let is_served = |name: &str| there.is_some_and(|t| t.site(name).is_some());
    let (base, more): (Vec<_>, Vec<_>) = config.stored.iter().cloned().partition(|s| is_served(&s.name));
    let whole = ready(config, there, bound, common).await;
    if whole.is_ok() || more.is_empty() {
        return whole;
    }
    // Which of them it is, is seen by what each one adds.
    let mut good = Config { stored: base, ..config.clone() };
    ready(&good, there, bound, common).await?;
    for site in more {
        let name = site.name.clone();
        let mut with = good.clone();
        with.stored.push(site);
        match ready(&with, there, bound, common).await {
            Ok(_) => good = with,
            Err(e) => left_out(&name, &format!("{e:#}")),
        }
    }
    ready(&good, there, bound, common).await
}

/// Which of the sockets that are there each wanted listener takes over, each socket once: one of the same
/// site before one of another.
fn assign(there: &[(String, Listener)], wanted: &[(String, Listener)]) -> Vec<Option<usize>> {
    let mut taken = vec![None; wanted.len()];
    for same_site in [true, false] {
        for (n, (site, listener)) in wanted.iter().enumerate() {
            let fits = |(i, (s, l)): &(usize, &(String, Listener))| {
                l == listener && (!same_site || s == site) && !taken.contains(&Some(*i))
            };
            if taken.get(n) == Some(&None)
                && let Some((i, _)) = there.iter().enumerate().find(fits)
                && let Some(place) = taken.get_mut(n)
            {
                *place = Some(i);
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenerProtocol;

    #[test]
    fn sockets_are_taken_over_once_and_by_their_own_site_first() {
        let of =
            |site: &str, port| (site.to_string(), Listener { port, ..Listener::of(ListenerProtocol::Sftp) });
        let there = [of("a", 0), of("b", 0), of("a", 22)];
        assert_eq!(assign(&there, &[of("b", 0), of("a", 0)]), [Some(1), Some(0)]);
        assert_eq!(assign(&there, &[of("b", 22), of("c", 0), of("a", 0)]), [Some(2), Some(1), Some(0)]);
        assert_eq!(assign(&there, &[of("a", 0), of("a", 0), of("a", 0)]), [Some(0), Some(1), None]);
    }
}
