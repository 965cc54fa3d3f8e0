//! The table of the API: every path with its method, who may ask, what it takes. Routing, the check of
//! roles and the description (`GET /v1/openapi.json`) all come from it.
//!
//! Deliberately absent: what the answers are (`super::api`).

use hyper::Method;
use serde_json::{Map, Value, json};

use super::outbox;
use super::select::{END, LIVE, OVER};
use crate::accounts::{Asked, Role, filters};
use crate::protector::List;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Health,
    Ready,
    Metrics,
    Description,
    Status,
    Sessions,
    Watch,
    Session,
    Terminate,
    TerminateMany,
    Trace,
    History,
    Bans,
    AddBan,
    RemoveBan,
    List(List),
    AddTo(List),
    RemoveFrom(List),
    Quotas,
    ForgetNode,
    Rescan,
    Outbox,
    OutboxRetry,
    OutboxDrop,
    Reload,
    Pause,
    Resume,
    Drain,
    Accounts(Asked),
}

/// A path and a method.
pub(super) struct Entry {
    pub(super) method: Method,
    /// With at most one part in braces.
    pub(super) path: &'static str,
    pub(super) call: Call,
    /// `None`: anybody, without a token.
    pub(super) role: Option<Role>,
    about: &'static str,
    /// The keys of the body.
    body: &'static [&'static str],
}

const fn entry(
    method: Method,
    path: &'static str,
    call: Call,
    role: Role,
    about: &'static str,
    body: &'static [&'static str],
) -> Entry {
    Entry { method, path, call, role: Some(role), about, body }
}

const REASON: &[&str] = &["reason"];
const SITE: &[&str] = &["site"];
const RECORD: &[&str] = &["any key of the record", "new_password"];

use Asked as A;
use Call::Accounts as On;
use Method as M;
use Role::{Admin, Operate, Read};

#[rustfmt::skip]
pub(super) static PATHS: &[Entry] = &[
    Entry { method: M::GET, path: "/healthz", call: Call::Health, role: None, about: "Whether the server lives: 200, also while it drains", body: &[] },
    Entry { method: M::GET, path: "/readyz", call: Call::Ready, role: None, about: "Whether sessions are taken: 200, or 503 while the server drains", body: &[] },
    entry(M::GET, "/metrics", Call::Metrics, Read, "Counters and how full limits are, in the text format of Prometheus", &[]),
    entry(M::GET, "/v1/openapi.json", Call::Description, Read, "This description", &[]),
    entry(M::GET, "/v1/status", Call::Status, Read, "Version, listeners, counts and limits", &[]),
    entry(M::GET, "/v1/sessions", Call::Sessions, Read, "Live sessions", &[]),
    entry(M::GET, "/v1/sessions/watch", Call::Watch, Read, "Changes of live sessions as they come: one JSON object a line, until the caller hangs up", &[]),
    entry(M::POST, "/v1/sessions/terminate", Call::TerminateMany, Operate, "End all sessions that the filters name; at least one filter", REASON),
    entry(M::GET, "/v1/sessions/{id}", Call::Session, Read, "One session; one that is over too, while it is remembered. An id may be shortened", &[]),
    entry(M::GET, "/v1/sessions/{id}/trace", Call::Trace, Operate, "What the handlers of a session do, from now on or from the line `after`; waits for something", &[]),
    entry(M::POST, "/v1/sessions/{id}/terminate", Call::Terminate, Operate, "End one session", REASON),
    entry(M::GET, "/v1/history", Call::History, Read, "Sessions that are over, the last one first", &[]),
    entry(M::GET, "/v1/bans", Call::Bans, Read, "The block list", &[]),
    entry(M::POST, "/v1/bans/add", Call::AddBan, Operate, "Keep an address or a network out, and end its sessions", &["network", "time", "reason"]),
    entry(M::POST, "/v1/bans/remove", Call::RemoveBan, Operate, "Let it in again", &["network"]),
    entry(M::GET, "/v1/safe", Call::List(List::Safe), Read, "Who is never struck and never blocked", &[]),
    entry(M::POST, "/v1/safe/add", Call::AddTo(List::Safe), Operate, "Never strike or block an address or a network", &["network", "time", "reason"]),
    entry(M::POST, "/v1/safe/remove", Call::RemoveFrom(List::Safe), Operate, "Treat it as any other again", &["network"]),
    entry(M::GET, "/v1/allow", Call::List(List::Allow), Read, "Who may connect where only they may", &[]),
    entry(M::POST, "/v1/allow/add", Call::AddTo(List::Allow), Operate, "Let an address or a network connect where only some may", &["network", "time", "reason"]),
    entry(M::POST, "/v1/allow/remove", Call::RemoveFrom(List::Allow), Operate, "Let it connect no more; sessions that are there go on", &["network"]),
    entry(M::GET, "/v1/quotas", Call::Quotas, Read, "What homes and folders hold, and what accounts have moved, where that is bounded", &[]),
    entry(M::POST, "/v1/quotas/rescan", Call::Rescan, Operate, "Count anew what is there", &["place"]),
    entry(M::POST, "/v1/quotas/forget", Call::ForgetNode, Operate, "What a node that does not come back held counts no more", &["node"]),
    entry(M::GET, "/v1/outbox", Call::Outbox, Read, "What webhooks and commands are still to be told, in order; `after` of an answer goes on", &[]),
    entry(M::POST, "/v1/outbox/retry", Call::OutboxRetry, Operate, "Try again at once, dead letters too", outbox::BODY),
    entry(M::POST, "/v1/outbox/drop", Call::OutboxDrop, Operate, "Tell it to nobody", outbox::BODY),
    entry(M::POST, "/v1/reload", Call::Reload, Operate, "Read the configuration anew; a bad one changes nothing", &[]),
    entry(M::POST, "/v1/pause", Call::Pause, Operate, "Take no new session, of one site or of all; those that are there go on", SITE),
    entry(M::POST, "/v1/resume", Call::Resume, Operate, "Take new sessions again", SITE),
    entry(M::POST, "/v1/drain", Call::Drain, Operate, "Take no new session, let transfers end within the configured time, and stop; one site: end its sessions, and leave it paused", SITE),
    entry(M::GET, "/v1/sites", On(A::Sites), Read, "Sites of the file and of the database", &[]),
    entry(M::POST, "/v1/sites", On(A::AddSite), Admin, "Add a site to the database, and serve it", &["name", "any key of the record"]),
    entry(M::GET, "/v1/sites/{name}", On(A::Site), Read, "One site, without its secrets", &[]),
    entry(M::PATCH, "/v1/sites/{name}", On(A::ChangeSite), Admin, "Replace keys of a site's record; null takes one away", &["any key of the record"]),
    entry(M::DELETE, "/v1/sites/{name}", On(A::RemoveSite), Admin, "Remove a site and end its sessions; `accounts=yes` with its users and groups; its files stay", &[]),
    entry(M::GET, "/v1/users", On(A::Users), Read, "Users of the file and of the database; `after` goes on behind SITE/NAME", &[]),
    entry(M::POST, "/v1/users", On(A::AddUser), Admin, "Add a user to the database", &["name", "any key of the record", "new_password"]),
    entry(M::GET, "/v1/users/{name}", On(A::User), Read, "One user, without its secrets", &[]),
    entry(M::PATCH, "/v1/users/{name}", On(A::ChangeUser), Admin, "Replace keys of a user's record; null takes one away", RECORD),
    entry(M::DELETE, "/v1/users/{name}", On(A::RemoveUser), Admin, "Remove a user and end its sessions; its files stay", &[]),
    entry(M::POST, "/v1/users/{name}/password", On(A::Password), Admin, "Give a user a new password", &["password"]),
    entry(M::POST, "/v1/users/{name}/totp", On(A::Codes), Admin, "Make one-time codes for a user; the answer alone shows their secret", &[]),
    entry(M::DELETE, "/v1/users/{name}/totp", On(A::NoCodes), Admin, "Take a user's one-time codes away", &[]),
    entry(M::POST, "/v1/users/{name}/access-keys", On(A::AccessKey), Admin, "Make an access key for a user; the answer alone shows its secret", &[]),
    entry(M::DELETE, "/v1/users/{name}/access-keys", On(A::NoAccessKeys), Admin, "Take a user's access keys away", &[]),
    entry(M::POST, "/v1/users/{name}/digest", On(A::Digest), Admin, "Let a user log in by Digest with its password", &["password"]),
    entry(M::POST, "/v1/users/{name}/tokens", On(A::UserToken), Admin, "Make a token by which a user's programs log in; the answer alone shows it", &["name", "time"]),
    entry(M::DELETE, "/v1/users/{name}/tokens", On(A::NoUserTokens), Admin, "Take a user's tokens away", &[]),
    entry(M::GET, "/v1/groups", On(A::Groups), Read, "Groups of the file and of the database", &[]),
    entry(M::POST, "/v1/groups", On(A::AddGroup), Admin, "Add a group to the database", &["name", "any key of the record"]),
    entry(M::GET, "/v1/groups/{name}", On(A::Group), Read, "One group", &[]),
    entry(M::PATCH, "/v1/groups/{name}", On(A::ChangeGroup), Admin, "Replace keys of a group's record; null takes one away", &["any key of the record"]),
    entry(M::DELETE, "/v1/groups/{name}", On(A::RemoveGroup), Admin, "Remove a group that nobody is in", &[]),
    entry(M::GET, "/v1/secrets", On(A::Secrets), Admin, "The names of the secrets of hooks", &[]),
    entry(M::PUT, "/v1/secrets/{name}", On(A::PutSecret), Admin, "Put a secret in place", &["value"]),
    entry(M::DELETE, "/v1/secrets/{name}", On(A::RemoveSecret), Admin, "Remove a secret", &[]),
    entry(M::GET, "/v1/tokens", On(A::Tokens), Admin, "The tokens of this API, without their secrets", &[]),
    entry(M::POST, "/v1/tokens", On(A::AddToken), Admin, "Make a token; the answer alone shows it", &["name", "role", "time"]),
    entry(M::DELETE, "/v1/tokens/{id}", On(A::RemoveToken), Admin, "Remove a token", &[]),
    entry(M::GET, "/v1/accounts", On(A::Export), Admin, "Sites, users and groups of the database as one file; `secrets=yes` for all of it", &[]),
    entry(M::POST, "/v1/accounts", On(A::Import), Admin, "Take such a file, whole or not at all; `replace=yes` over what is there", &["what an export holds"]),
];

/// Why nothing answers.
#[derive(Debug, PartialEq)]
pub(super) enum Miss {
    /// No such path.
    Path,
    /// It takes these methods.
    Method(Vec<&'static Method>),
}

/// The entry for a request and what its path names, decoded. A text after the names is no more than a name:
/// it is compared, never opened.
pub(super) fn find(method: &Method, path: &str) -> Result<(&'static Entry, String), Miss> {
    let fits: Vec<_> = PATHS.iter().filter_map(|e| Some((e, fit(e.path, path)?))).collect();
    if fits.is_empty() {
        return Err(Miss::Path);
    }
    // The word before the name: it stands before it in the table.
    match fits.iter().position(|(e, _)| e.method == *method) {
        Some(n) => fits.into_iter().nth(n).ok_or(Miss::Path),
        None => Err(Miss::Method(fits.iter().map(|(e, _)| &e.method).collect())),
    }
}

/// What stands for the part in braces; empty without one.
fn fit(pattern: &str, path: &str) -> Option<String> {
    let mut named = String::new();
    let mut parts = path.strip_prefix('/')?.split('/');
    for wanted in pattern.split('/').skip(1) {
        let part = parts.next()?;
        if wanted.starts_with('{') {
            named = decode(part).filter(|n| !n.is_empty())?;
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(named)
}

/// `%2F` and its kin; `+` is itself.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b => b,
        });
    }
    String::from_utf8(out).ok()
}

/// The filters that go with a call.
fn query_of(call: Call) -> &'static [&'static str] {
    match call {
        Call::Sessions | Call::Watch => LIVE,
        Call::History => OVER,
        Call::TerminateMany => END,
        Call::Outbox => outbox::FILTERS,
        Call::Trace => &["after"],
        Call::Accounts(asked) => filters(asked),
        _ => &[],
    }
}

/// The API in the words of OpenAPI 3.1.
pub(super) fn description() -> Value {
    let mut paths = Map::new();
    for e in PATHS {
        let text = || json!({ "type": "string" });
        let mut parameters: Vec<Value> = query_of(e.call)
            .iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": text() }))
            .collect();
        let named = e.path.split('/').find_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
        let named = named.map(|n| json!({ "name": n, "in": "path", "required": true, "schema": text() }));
        parameters.extend(named);
        let stream = e.call == Call::Watch;
        let kind = if stream { "application/x-ndjson" } else { "application/json" };
        let failure = json!({ "description": "It failed", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } } } });
        let mut operation = json!({
            "summary": e.about,
            "parameters": parameters,
            "responses": {
                "200": { "description": "Done", "content": { kind: { "schema": { "type": "object" } } } },
                "default": failure,
            },
        });
        if let Some(map) = operation.as_object_mut() {
            match e.role {
                Some(role) => map.insert("x-role".into(), role.name().into()),
                None => map.insert("security".into(), json!([])),
            };
            if !e.body.is_empty() {
                let named = e.body.iter().filter(|k| !k.contains(' '));
                let keys: Map<String, Value> = named.map(|k| ((*k).to_string(), text())).collect();
                let open = e.body.iter().any(|k| k.contains(' '));
                let schema = json!({ "type": "object", "properties": keys, "additionalProperties": open });
                map.insert(
                    "requestBody".into(),
                    json!({ "content": { "application/json": { "schema": schema } } }),
                );
            }
        }
        let methods = paths.entry(e.path).or_insert_with(|| json!({}));
        if let Some(map) = methods.as_object_mut() {
            map.insert(e.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ferryd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sessions, bans and accounts of a running ferryd. Tokens are made by `ferryd token add`; \
                            `x-role` is what a token must be allowed: read, operate or admin, each with what is before it.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Failure": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["kind", "message"],
                            "properties": {
                                "kind": { "type": "string" },
                                "message": { "type": "string" },
                                "hint": { "type": "string" },
                            },
                        },
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_its_own_entry() {
        for e in PATHS {
            let path = e.path.replace("{id}", "0192").replace("{name}", "a%40b");
            let (found, name) = find(&e.method, &path).ok().unwrap();
            assert_eq!((found.path, &found.method), (e.path, &e.method), "{path}");
            let named = if e.path.contains("{name}") {
                "a@b"
            } else if e.path.contains("{id}") {
                "0192"
            } else {
                ""
            };
            assert_eq!(name, named);
        }
        let miss = |method: &Method, path: &str| find(method, path).err();
        for path in [
            "/",
            "",
            "/v1",
            "/v1/users/",
            "/v1//users",
            "/v1/users/a/b",
            "/v2/users",
            "/v1/users/..%2F..%2Fx/y",
            "//v1/users",
            "/v1/users/%zz",
            "/v1/users/%ff",
        ] {
            assert_eq!(miss(&Method::GET, path), Some(Miss::Path), "{path}");
        }
        assert_eq!(miss(&Method::DELETE, "/v1/users"), Some(Miss::Method(vec![&Method::GET, &Method::POST])));
        assert_eq!(find(&Method::GET, "/v1/users/..%2F..%2Fetc").ok().unwrap().1, "../../etc");
    }

    #[test]
    fn what_changes_something_needs_more_than_to_read() {
        for e in PATHS {
            let looks = e.method == Method::GET;
            assert!(looks || e.role.is_some_and(|r| r >= Role::Operate), "{} {}", e.method, e.path);
            let accounts = matches!(e.call, Call::Accounts(_));
            assert!(looks || !accounts || e.role == Some(Role::Admin), "{} {}", e.method, e.path);
        }
    }

    #[test]
    fn the_description_names_every_path_and_what_it_takes() {
        let d = description();
        for e in PATHS {
            let o = &d["paths"][e.path][e.method.as_str().to_lowercase()];
            assert_eq!(o["summary"], e.about);
            assert_eq!(o["x-role"].as_str(), e.role.map(Role::name));
            let names: Vec<_> =
                o["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
            assert!(query_of(e.call).iter().all(|q| names.contains(q)));
            assert_eq!(
                e.path.contains('{'),
                o["parameters"].as_array().unwrap().iter().any(|p| p["in"] == "path")
            );
        }
        assert_eq!(
            d["paths"].as_object().unwrap().values().map(|m| m.as_object().unwrap().len()).sum::<usize>(),
            PATHS.len()
        );
    }
}
