//! The limits of speed that hold for a session: those of its account, of where it comes from, of its site and of the
//! whole server.
//!
//! Each is a `Throttle` that is asked about one direction or both. What sessions share, they share through every
//! reload that leaves its settings as they were. A bucket of an address or an account is there as long as
//! somebody uses it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use session_core::error::Error;
use session_core::intercept::{Cx, Interceptor};
use session_core::operation::{Operation, OperationKind, OperationSet, Outcome, Record};
use session_core::policy::Throttle;
use session_core::session::Session;

use crate::config::{Config, Per, Speed, User};

/// A throttle that is asked about some directions.
pub(crate) struct Directed {
    throttle: Throttle,
    of: OperationSet,
}

#[async_trait]
impl Interceptor for Directed {
    fn interests(&self) -> OperationSet {
        self.of
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        match self.of.contains(operation.kind()) {
            true => self.throttle.before(cx, operation).await,
            false => Ok(()),
        }
    }

    fn after(&self, cx: &Cx<'_>, record: &Record, outcome: &Outcome) {
        if self.of.contains(record.kind()) {
            self.throttle.after(cx, record, outcome);
        }
    }
}

/// What shares buckets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sharer {
    /// All sessions of the server.
    Server,
    /// All of a site.
    Site(String),
    /// Those of a rule of a site, by its place.
    Rule(String, usize),
    /// An address, by such a rule.
    Address(String, usize, String),
    User(String, String),
}

type Buckets = Vec<Arc<Directed>>;

/// The buckets of one sharer: gone when nobody uses them.
type Kept = (Speed, Vec<Weak<Directed>>);

/// The buckets that are shared in a server.
#[derive(Default)]
pub(crate) struct Speeds {
    shared: Mutex<HashMap<Sharer, Kept>>,
    /// Of all sites together.
    total: Mutex<Speed>,
}

fn buckets(speed: Speed) -> Buckets {
    use OperationKind::{Read, Write};
    let each = [(speed.both, &[Read, Write][..]), (speed.download, &[Read]), (speed.upload, &[Write])];
    let wanted = each.into_iter().filter(|(rate, _)| *rate > 0);
    wanted
        .map(|(rate, of)| Arc::new(Directed { throttle: Throttle::new(rate), of: OperationSet::of(of) }))
        .collect()
}

impl Speeds {
    /// How fast the content of all sites together moves, for sessions that log in from now on.
    pub(crate) fn set_total(&self, total: Speed) {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) = total;
    }

    fn shared(&self, by: Sharer, speed: Speed) -> Buckets {
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((had, kept)) = all.get(&by)
            && *had == speed
        {
            let kept: Option<Buckets> = kept.iter().map(Weak::upgrade).collect();
            if let Some(kept) = kept {
                return kept;
            }
        }
        // What nobody uses goes, so that the table is no larger than what is in use.
        all.retain(|_, (_, kept)| kept.iter().any(|w| w.strong_count() > 0));
        let made = buckets(speed);
        all.insert(by, (speed, made.iter().map(Arc::downgrade).collect()));
        made
    }

    /// What limits a session of a user.
    pub(crate) fn of(&self, config: &Config, user: &User, session: &Session) -> Buckets {
        let site = || config.site.clone();
        let total = *self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let of_site = if config.one_of_several { config.limits.speed() } else { Speed::default() };
        let everybodys = [
            (Sharer::Server, total),
            (Sharer::Site(site()), of_site),
            (Sharer::User(site(), user.name.clone()), user.speed()),
        ];
        let limited = everybodys.into_iter().filter(|(_, speed)| !speed.is_none());
        let mut all: Buckets = limited.flat_map(|(by, speed)| self.shared(by, speed)).collect();
        let address = session.peer_address();
        for (n, rule) in config.speeds.iter().enumerate() {
            let fits = |ip| rule.networks.iter().any(|net| net.contains(&ip));
            if !rule.networks.is_empty() && !address.is_some_and(fits) {
                continue;
            }
            all.extend(match (rule.per, address) {
                (Per::All, _) => self.shared(Sharer::Rule(site(), n), rule.speed()),
                (Per::Address, Some(ip)) => {
                    self.shared(Sharer::Address(site(), n, ip.to_string()), rule.speed())
                }
                (Per::Address, None) | (Per::Session, _) => buckets(rule.speed()),
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::session::{Protocol, Setup};

    fn session(ip: [u8; 4]) -> Arc<Session> {
        let mut setup = Setup::new(Protocol::Sftp, "test");
        setup.peer = Some((ip, 4000).into());
        Session::new(setup)
    }

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file).unwrap().0
    }

    #[test]
    fn rules_fit_by_network_and_are_shared_as_they_say() {
        let config = config(
            "[[users]]\nname = \"u\"\nupload_limit = 5\nspeed_limit = 9\n[[users]]\nname = \"v\"\n\
             [[speeds]]\nnetworks = [\"10.0.0.0/8\"]\ndownload = 1\nper = \"address\"\n\
             [[speeds]]\nboth = 7\n[[speeds]]\nupload = 3\nper = \"session\"\n",
        );
        let speeds = Speeds::default();
        let of = |user: usize, ip| speeds.of(&config, &config.users[user], &session(ip));
        let (u, same, v) = (of(0, [10, 0, 0, 1]), of(0, [10, 0, 0, 1]), of(1, [10, 0, 0, 2]));
        let far = of(1, [192, 0, 2, 1]);
        assert_eq!((u.len(), v.len(), far.len()), (5, 3, 2));
        // Of the account, of the address, of all; not of the session.
        let shares =
            |a: &Buckets, b: &Buckets| a.iter().filter(|x| b.iter().any(|y| Arc::ptr_eq(x, y))).count();
        assert_eq!((shares(&u, &same), shares(&u, &v), shares(&v, &far)), (4, 1, 1));
        let asked = |all: &Buckets, kind| all.iter().filter(|d| d.of.contains(kind)).count();
        assert_eq!((asked(&u, OperationKind::Read), asked(&u, OperationKind::Write)), (3, 4));
        drop((u, same, v, far));
        of(1, [192, 0, 2, 1]);
        assert!(speeds.shared.lock().unwrap().len() <= 2, "what nobody uses is forgotten");
    }

    #[test]
    fn sites_share_the_total_of_the_server_and_have_their_own_besides() {
        let config = config(
            "[limits]\nupload_limit = 5\n[[sites]]\nname = \"a\"\n[[sites.users]]\nname = \"u\"\n\
             [[sites]]\nname = \"b\"\n[sites.limits]\nspeed_limit = 3\n[[sites.users]]\nname = \"u\"\n",
        );
        let speeds = Speeds::default();
        speeds.set_total(config.limits.speed());
        let sites = config.each_site();
        let of = |n: usize| speeds.of(&sites[n], &sites[n].users[0], &session([192, 0, 2, 1]));
        let (a, also_a, b) = (of(0), of(0), of(1));
        // Of the server, and of the site: the limits of the file, or its own.
        assert_eq!((a.len(), b.len()), (2, 2));
        assert!(Arc::ptr_eq(&a[0], &b[0]) && !Arc::ptr_eq(&a[1], &b[1]) && Arc::ptr_eq(&a[1], &also_a[1]));
        let asked = |all: &Buckets, kind| all.iter().filter(|d| d.of.contains(kind)).count();
        assert_eq!((asked(&b, OperationKind::Read), asked(&b, OperationKind::Write)), (1, 2));
    }

    #[test]
    fn a_changed_limit_is_a_new_bucket() {
        let text = |n: u32| format!("[[users]]\nname = \"u\"\n[[speeds]]\nboth = {n}\n");
        let (before, after) = (config(&text(7)), config(&text(8)));
        let speeds = Speeds::default();
        let of = |c: &Config| speeds.of(c, &c.users[0], &session([192, 0, 2, 1]));
        let (a, b, c) = (of(&before), of(&after), of(&after));
        assert!(!Arc::ptr_eq(&a[0], &b[0]) && Arc::ptr_eq(&b[0], &c[0]));
    }
}
