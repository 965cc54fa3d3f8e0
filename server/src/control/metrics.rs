//! `GET /metrics`: what the server counts and how full its limits are, in the text format of Prometheus (0.0.4).
//!
//! Counters begin anew with the server. One that counts a failure is there once it has happened. Names are
//! [`NAMES`], which `docs/metrics.md` shows; labels are data and are escaped. Deliberately absent: anything by account,
//! path or address, of which there is no end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use session_core::error::Result;
use session_core::layers::quota::{Limits, Usage};
use session_core::registry::Fill;
use session_core::script::Runs;

use super::api::ControlState;
use crate::metrics::{Key, Tally};

/// What is told: name, kind, and what it is.
pub(crate) const NAMES: &[(&str, &str, &str)] = &[
    ("ferryd_build_info", "gauge", "Always 1; the version is a label"),
    ("ferryd_uptime_seconds", "gauge", "Since the server began"),
    ("ferryd_accepting", "gauge", "Whether sessions are taken, by site: 0 while it is paused or drained"),
    ("ferryd_sessions", "gauge", "Live sessions, by site, protocol and state (login, in)"),
    ("ferryd_transfers", "gauge", "Files in use, by site, protocol and direction"),
    (
        "ferryd_limit_used",
        "gauge",
        "How many count for a limit of sessions; where it is one for each address, network or user, those of the one that has the most. Without a site: of the whole server",
    ),
    ("ferryd_limit_max", "gauge", "How many may; limits that are not set are left out"),
    ("ferryd_connections_total", "counter", "Sessions that began, by site and protocol"),
    ("ferryd_logins_total", "counter", "Logins by how they ended (ok, failed)"),
    ("ferryd_sessions_closed_total", "counter", "Sessions that ended, by reason"),
    ("ferryd_operations_total", "counter", "Operations by outcome: ok, or the kind of the error"),
    ("ferryd_operation_seconds_total", "counter", "How long operations took together"),
    ("ferryd_files_total", "counter", "Files by direction and end (done, parked, aborted)"),
    ("ferryd_content_bytes_total", "counter", "Content by direction, also of files under way"),
    (
        "ferryd_handler_runs_total",
        "counter",
        "Runs of handlers by event, file and outcome (passed, blocked, quarantined, failed)",
    ),
    ("ferryd_handler_seconds_total", "counter", "How long they took together"),
    (
        "ferryd_quota_used_bytes",
        "gauge",
        "What a place holds, what uploads under way need, and what other nodes have of it",
    ),
    ("ferryd_quota_max_bytes", "gauge", "What it may hold: the smallest hard limit"),
    ("ferryd_quota_used_files", "gauge", "The same in files"),
    ("ferryd_quota_max_files", "gauge", "The same in files"),
    (
        "ferryd_transfer_quota_used_bytes",
        "gauge",
        "What was moved in the present period, by whom and direction (upload, download, both)",
    ),
    ("ferryd_transfer_quota_max_bytes", "gauge", "What may be"),
    ("ferryd_bans", "gauge", "Entries of the block list, of all sites"),
    ("ferryd_parked_uploads", "gauge", "Unfinished uploads that are kept"),
    ("ferryd_outbox_events", "gauge", "Events that are still to be told"),
    ("ferryd_outbox_dead", "gauge", "Deliveries that were given up"),
    ("ferryd_outbox_dropped_total", "counter", "Events that the outbox could not take"),
    (
        "ferryd_audit_dropped",
        "gauge",
        "Records of the audit that were lost, and whose number is not written yet",
    ),
    ("process_cpu_seconds_total", "counter", "Processor time of the server"),
    ("process_resident_memory_bytes", "gauge", "Memory that it has"),
    ("process_open_fds", "gauge", "Descriptors that it has open"),
    ("process_max_fds", "gauge", "Descriptors that it may have open"),
];

/// A sample: its labels, and the value.
type Sample = (Vec<(&'static str, String)>, f64);

#[derive(Default)]
struct Page {
    text: String,
    told: usize,
}

impl Page {
    /// The next of [`NAMES`] with its samples; without any it is left out.
    fn tell(&mut self, name: &str, samples: impl IntoIterator<Item = Sample>) {
        let known = NAMES.get(self.told).filter(|known| known.0 == name);
        debug_assert!(known.is_some(), "{name} is not what comes next");
        self.told += 1;
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        if let Some((_, kind, help)) = known {
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        for (labels, value) in samples {
            self.text.push_str(name);
            for (n, (key, said)) in labels.iter().enumerate() {
                let before = if n == 0 { '{' } else { ',' };
                let _ = write!(self.text, "{before}{key}=\"{}\"", escaped(said));
            }
            let end = if labels.is_empty() { "" } else { "}" };
            let _ = writeln!(self.text, "{end} {value}");
        }
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[allow(clippy::cast_precision_loss, reason = "samples are floating-point numbers")]
fn number(n: u64) -> f64 {
    n as f64
}

fn size(n: usize) -> f64 {
    number(u64::try_from(n).unwrap_or(u64::MAX))
}

fn sample<const N: usize>(labels: [(&'static str, &str); N], value: f64) -> Sample {
    (labels.map(|(key, said)| (key, said.to_owned())).into(), value)
}

/// A number of an answer of the API; 0 for none.
fn of(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn words<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The page. Errors: those of the outbox.
pub(super) async fn page(state: &ControlState) -> Result<String> {
    let (status, outbox) = ((state.status)(), state.outbox.counts().await?);
    let one = |value: u64| [sample([], number(value))];
    let mut page = Page::default();
    page.tell("ferryd_build_info", [sample([("version", env!("CARGO_PKG_VERSION"))], 1.0)]);
    page.tell("ferryd_uptime_seconds", one(of(&status, "/uptimeSeconds")));
    let sites = status.get("sites").and_then(Value::as_array).into_iter().flatten();
    let ready = (state.ready)();
    let accepts = |site: &Value| ready && site.get("paused").and_then(Value::as_bool) != Some(true);
    let accepting = |site| sample([("site", words(site, "name"))], f64::from(u8::from(accepts(site))));
    page.tell("ferryd_accepting", sites.map(accepting));
    live(&mut page, state);
    counted(&mut page, state);
    quotas(&mut page, state);
    page.tell("ferryd_bans", [sample([], size(state.protector.bans().len()))]);
    page.tell("ferryd_parked_uploads", one(of(&status, "/parkedUploads")));
    page.tell("ferryd_outbox_events", one(of(&outbox, "/events")));
    page.tell("ferryd_outbox_dead", one(of(&outbox, "/dead")));
    page.tell("ferryd_outbox_dropped_total", one(of(&outbox, "/dropped")));
    page.tell("ferryd_audit_dropped", one(of(&status, "/auditDropped")));
    process(&mut page);
    Ok(page.text)
}

/// Who is there, and how full it is.
fn live(page: &mut Page, state: &ControlState) {
    let (mut sessions, mut files) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
    for session in state.registry.list() {
        let (site, protocol) = (session.site().to_string(), session.protocol().name());
        for file in session.transfers() {
            *files.entry((site.clone(), protocol, file.direction.name())).or_default() += 1;
        }
        let at = if session.identity().is_some() { "in" } else { "login" };
        *sessions.entry((site, protocol, at)).or_default() += 1;
    }
    for (name, last, counts) in
        [("ferryd_sessions", "state", sessions), ("ferryd_transfers", "direction", files)]
    {
        page.tell(
            name,
            counts.iter().map(|((site, protocol, at), n)| {
                sample([("site", site), ("protocol", protocol), (last, at)], number(*n))
            }),
        );
    }
    let fill = state.registry.fill();
    let limit = |f: &Fill, n| match &f.site {
        Some(site) => sample([("site", site), ("limit", f.limit)], size(n)),
        None => sample([("limit", f.limit)], size(n)),
    };
    page.tell("ferryd_limit_used", fill.iter().map(|f| limit(f, f.used)));
    page.tell("ferryd_limit_max", fill.iter().filter(|f| f.max != 0).map(|f| limit(f, f.max)));
}

/// What events and handlers come to.
fn counted(page: &mut Page, state: &ControlState) {
    let all = state.tallies.list();
    let by = |key: &'static str, more: &[(&'static str, f64)], at: &(Arc<str>, &'static str)| {
        let of =
            |(said, n): &(&'static str, f64)| sample([("site", &at.0), ("protocol", at.1), (key, said)], *n);
        more.iter().map(of).collect::<Vec<_>>()
    };
    let began =
        |(at, t): &(Key, Arc<Tally>)| sample([("site", &at.0), ("protocol", at.1)], number(t.connections()));
    page.tell("ferryd_connections_total", all.iter().map(began));
    let counts = |(said, n): (&'static str, u64)| (said, number(n));
    page.tell(
        "ferryd_logins_total",
        all.iter().flat_map(|(at, t)| by("result", &t.logins().map(counts), at)),
    );
    page.tell(
        "ferryd_sessions_closed_total",
        all.iter().flat_map(|(at, t)| by("reason", &t.closed().map(counts).collect::<Vec<_>>(), at)),
    );
    let operations = all.iter().flat_map(|(at, t)| {
        t.operations().map(|(operation, outcome, n)| {
            let labels =
                [("site", &*at.0), ("protocol", at.1), ("operation", operation), ("outcome", outcome)];
            sample(labels, number(n))
        })
    });
    page.tell("ferryd_operations_total", operations);
    let seconds = |(said, time): (&'static str, Duration)| (said, time.as_secs_f64());
    page.tell(
        "ferryd_operation_seconds_total",
        all.iter().flat_map(|(at, t)| by("operation", &t.times().map(seconds).collect::<Vec<_>>(), at)),
    );
    let files = all.iter().flat_map(|(at, t)| {
        t.files().map(|(direction, end, n)| {
            sample([("site", &at.0), ("protocol", at.1), ("direction", direction), ("end", end)], number(n))
        })
    });
    page.tell("ferryd_files_total", files);
    let moved = state.registry.moved();
    let content = moved.iter().flat_map(|m| {
        [("upload", m.uploaded), ("download", m.downloaded)].map(|(direction, n)| {
            sample([("site", &m.site), ("protocol", m.protocol), ("direction", direction)], number(n))
        })
    });
    page.tell("ferryd_content_bytes_total", content);
    let runs = (state.runs)();
    let run = |r: &Runs, value| {
        sample([("event", r.event), ("handler", &r.handler), ("outcome", r.outcome)], value)
    };
    page.tell("ferryd_handler_runs_total", runs.iter().map(|r| run(r, number(r.count))));
    page.tell("ferryd_handler_seconds_total", runs.iter().map(|r| run(r, r.time.as_secs_f64())));
}

fn quotas(page: &mut Page, state: &ControlState) {
    type Share = fn(&Limits) -> u64;
    type Part = fn(&Usage) -> u64;
    let places = state.stores.quotas.book.report();
    let used = |part: Part| {
        places.iter().map(move |p| {
            let others = p.elsewhere.values().map(part).max().unwrap_or(0);
            let sum =
                [part(&p.published), part(&p.promised), others].into_iter().fold(0, u64::saturating_add);
            sample([("place", &p.place)], number(sum))
        })
    };
    let most = |share: Share| {
        places.iter().filter_map(move |p| {
            let least = p.limits.values().map(share).filter(|n| *n > 0).min()?;
            Some(sample([("place", &p.place)], number(least)))
        })
    };
    page.tell("ferryd_quota_used_bytes", used(|u| u.bytes));
    page.tell("ferryd_quota_max_bytes", most(|l| l.bytes));
    page.tell("ferryd_quota_used_files", used(|u| u.files));
    page.tell("ferryd_quota_max_files", most(|l| l.files));
    let transfers = (state.transfers)();
    let all = || transfers.as_array().into_iter().flatten();
    let ways = ["upload", "download", "both"];
    let moved = all().flat_map(|t| {
        ways.map(|way| {
            let sum = of(t, &format!("/moved/{way}")).saturating_add(of(t, &format!("/elsewhere/{way}")));
            sample([("who", words(t, "who")), ("direction", way)], number(sum))
        })
    });
    page.tell("ferryd_transfer_quota_used_bytes", moved);
    let bounds = all().flat_map(|t| {
        let set = ways.map(|way| (way, of(t, &format!("/limits/{way}")))).into_iter().filter(|l| l.1 != 0);
        set.map(|(way, n)| sample([("who", words(t, "who")), ("direction", way)], number(n)))
            .collect::<Vec<_>>()
    });
    page.tell("ferryd_transfer_quota_max_bytes", bounds);
}

/// What the system says of this process; what it does not say is left out. A few reads of `/proc`, which no disk is
/// behind.
fn process(page: &mut Page) {
    let processor = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = Duration::try_from(processor).unwrap_or_default().as_secs_f64();
    page.tell("process_cpu_seconds_total", [sample([], seconds)]);
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let bytes = resident.map(|n| n.saturating_mul(u64::try_from(rustix::param::page_size()).unwrap_or(0)));
    page.tell("process_resident_memory_bytes", bytes.map(|n| sample([], number(n))));
    // The reading itself has one open.
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1));
    page.tell("process_open_fds", open.map(|n| sample([], size(n))));
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    page.tell("process_max_fds", most.map(|n| sample([], number(n))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_docs_names_what_is_told() {
        let page = include_str!("../../../docs/metrics.md");
        for (name, kind, _) in NAMES {
            assert!(page.contains(&format!("| `{name}` | {kind} |")), "docs/metrics.md lacks {name}, {kind}");
        }
        assert_eq!(page.matches("| `ferryd_").count() + page.matches("| `process_").count(), NAMES.len());
        for (name, kind, _) in NAMES {
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
        }
    }

    #[test]
    fn labels_cannot_end_their_line() {
        let mut page = Page::default();
        page.tell("ferryd_build_info", [sample([("version", "a\"b\\c\nd")], 1.5)]);
        let line = page.text.lines().last().unwrap();
        assert_eq!(line, "ferryd_build_info{version=\"a\\\"b\\\\c\\nd\"} 1.5");
        assert_eq!(page.text.lines().count(), 3);
        page.tell("ferryd_uptime_seconds", []);
        assert!(!page.text.contains("uptime"), "without a sample there is nothing to say");
    }
}
