//! Which sessions are asked for, and in which order: the query of a list, live or over.
//!
//! Several filters mean all of them. Deliberately absent: reading of URLs (`super::api`).

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use session_core::error::{Error, ErrorKind, Result};
use session_core::history::Ended;
use session_core::reason::Reason;
use session_core::session::Snapshot;

/// Filters of live sessions.
pub(super) const LIVE: &[&str] =
    &["user", "address", "protocol", "site", "node", "state", "path", "tag", "order"];
/// Filters of sessions that are over.
pub(super) const OVER: &[&str] =
    &["user", "address", "protocol", "site", "node", "path", "tag", "reason", "actor", "order", "limit"];
/// Filters by which sessions are ended.
pub(super) const END: &[&str] = &["user", "address", "site", "node"];

/// What a list can be ordered by.
const ORDERS: &[&str] =
    &["id", "user", "address", "protocol", "site", "node", "state", "command", "up", "down", "age", "idle"];

/// What was asked for.
#[derive(Default)]
pub(super) struct Selection {
    user: Option<String>,
    address: Option<IpNet>,
    protocol: Option<String>,
    site: Option<String>,
    node: Option<String>,
    state: Option<String>,
    path: Option<String>,
    /// A name, and a value where that matters.
    tag: Option<(String, Option<String>)>,
    reason: Option<Reason>,
    actor: Option<String>,
    order: Option<(String, bool)>,
    limit: Option<usize>,
}

fn bad(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

impl Selection {
    /// Errors: `InvalidArgument` for a filter that is not among `known`, comes twice or makes no sense.
    pub(super) fn parse(query: &[(String, String)], known: &[&str]) -> Result<Self> {
        let mut s = Selection::default();
        for (n, (key, value)) in query.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(bad(format!("'{key}' is no filter")));
            }
            if query.iter().take(n).any(|(k, _)| k == key) {
                return Err(bad(format!("name one {key}")));
            }
            let text = || Some(value.clone());
            match key.as_str() {
                "user" => s.user = text(),
                "address" => s.address = Some(network(value)?),
                "protocol" => s.protocol = text(),
                "site" => s.site = text(),
                "node" => s.node = text(),
                "state" => s.state = text(),
                "path" => s.path = Some(value.trim_end_matches('/').to_string()),
                "actor" => s.actor = text(),
                "tag" => {
                    s.tag = Some(match value.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (value.clone(), None),
                    });
                }
                "reason" => {
                    s.reason =
                        Some(Reason::parse(value).ok_or_else(|| bad(format!("'{value}' is no reason")))?);
                }
                "limit" => {
                    s.limit = Some(value.parse().map_err(|_| bad(format!("'{value}' is no number")))?);
                }
                _ => {
                    let (name, down) = value.strip_prefix('-').map_or((&**value, false), |v| (v, true));
                    if !ORDERS.contains(&name) {
                        return Err(bad(format!("nothing is ordered by '{name}'"))
                            .with_hint(format!("one of {}", ORDERS.join(", "))));
                    }
                    s.order = Some((name.to_string(), down));
                }
            }
        }
        Ok(s)
    }

    pub(super) fn matches(&self, s: &Snapshot) -> bool {
        let is =
            |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w.eq_ignore_ascii_case(is));
        let below =
            |path: &str| self.path.as_ref().is_none_or(|p| path.strip_prefix(p.as_str()).is_some_and(under));
        let address = || s.client_ip.parse::<IpAddr>().ok();
        self.user.as_ref().is_none_or(|u| *u == s.account || *u == s.user_name)
            && self.address.is_none_or(|net| address().is_some_and(|a| net.contains(&a)))
            && is(&self.protocol, &s.protocol)
            && is(&self.site, &s.site)
            && is(&self.node, &s.node)
            && is(&self.state, &s.state)
            && (self.path.is_none() || s.transfers.iter().any(|t| below(&t.path)))
            && self.tag.as_ref().is_none_or(|(name, value)| {
                s.tags.get(name).is_some_and(|is| value.as_ref().is_none_or(|wanted| wanted == is))
            })
    }

    pub(super) fn matches_ended(&self, e: &Ended) -> bool {
        self.matches(&e.session)
            && self.reason.is_none_or(|r| r.number() == e.sub_status)
            && self.actor.as_ref().is_none_or(|a| e.actor == *a || e.actor.split(' ').next() == Some(a))
    }

    /// Whether there may be some on this node.
    pub(super) fn may_be_on(&self, node: &str) -> bool {
        self.node.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(node))
    }

    /// Whether there can be some on this node alone.
    pub(super) fn is_only_on(&self, node: &str) -> bool {
        self.node.is_some() && self.may_be_on(node)
    }

    /// Orders what was found and keeps the first ones.
    pub(super) fn arrange<T>(&self, found: &mut Vec<T>, of: impl Fn(&T) -> &Snapshot) {
        if let Some((key, down)) = &self.order {
            found.sort_by(|a, b| {
                let order = compare(key, of(a), of(b));
                if *down { order.reverse() } else { order }
            });
        }
        found.truncate(self.limit.unwrap_or(usize::MAX));
    }
}

/// What comes behind a path that is above or equal.
fn under(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// Compared as addresses: an address has several spellings.
fn network(text: &str) -> Result<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    text.parse().map_err(|_| bad(format!("'{text}' is neither an IP address nor a network")))
}

fn compare(key: &str, a: &Snapshot, b: &Snapshot) -> Ordering {
    let address = |s: &Snapshot| s.client_ip.parse::<IpAddr>().ok();
    let command = |s: &Snapshot| format!("{}{}", s.current_command, s.previous_command);
    let order = match key {
        "user" => a.user_name.cmp(&b.user_name),
        "address" => address(a).cmp(&address(b)),
        "protocol" => a.protocol.cmp(&b.protocol),
        "site" => a.site.cmp(&b.site),
        "node" => a.node.cmp(&b.node),
        "state" => a.state.cmp(&b.state),
        "command" => command(a).cmp(&command(b)),
        "up" => a.bytes_received.cmp(&b.bytes_received),
        "down" => a.bytes_sent.cmp(&b.bytes_sent),
        "age" => a.age_seconds.total_cmp(&b.age_seconds),
        "idle" => a.idle_seconds.total_cmp(&b.idle_seconds),
        _ => Ordering::Equal,
    };
    // Ids rise with time and tell the rest apart.
    order.then_with(|| a.session_id.cmp(&b.session_id))
}
