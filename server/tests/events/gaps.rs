//! What ways show otherwise than the lists say, each with its reason.
//!
//! The lists are SFTP's, and every way shows them but for what is named here. A gap that makes no difference any more
//! fails, as a difference without a gap does.

use std::collections::HashSet;

use session_core::script::event;

/// What is otherwise.
#[derive(Debug)]
pub enum What {
    /// There are no words for the step: it is refused before anything is asked, and the rest of the list holds.
    Wordless,
    /// The scenario cannot be played.
    NotPlayed,
    /// So many lines of this event are missing, the last ones.
    Fewer(&'static str, usize),
    /// The second event stands where the list has the first.
    Instead(&'static str, &'static str),
    /// These lines stand where the list has those with paths, and after them.
    Other(&'static [&'static str]),
    /// This line stands before the one of the second event.
    Before(&'static str, &'static str),
    /// Lines of this event that the list has not, as many as there are.
    Besides(&'static str),
}

/// One difference.
#[derive(Debug)]
pub struct Gap {
    /// Schemes of the ways; `client`: the handlers run there.
    ways: &'static [&'static str],
    /// Scenarios; none: those where it makes a difference.
    scenarios: &'static [&'static str],
    pub what: What,
    #[allow(dead_code, reason = "for who reads the table")]
    reason: &'static str,
}

const fn gap(
    ways: &'static [&'static str],
    scenarios: &'static [&'static str],
    what: What,
    reason: &'static str,
) -> Gap {
    Gap { ways, scenarios, what, reason }
}

use What::{Before, Besides, Fewer, Instead, NotPlayed, Other, Wordless};

const SCP: &[&str] = &["scp"];
const DAV: &[&str] = &["dav", "davs"];
const S3: &[&str] = &["s3plain", "s3"];
const HTTP: &[&str] = &["dav", "davs", "s3plain", "s3"];
const NO_CHANNELS: &[&str] = &["ftp", "ftps", "dav", "davs", "s3plain", "s3"];

const ASKED_AGAIN: &str =
    "an SSH client that knows the password offers it a second way, as an answer to a question";
const TURNED_AWAY: &str =
    "there is no session before a login: one that fails has one of its own, which the server ends";
const LOOKS: &str = "before it the client looks what there is, which only a listing tells";
const LOOKS_BY_FETCHING: &str =
    "what a file is stands before its content: who only looks begins to fetch it, and declines";
const SCP_ONLY: &str = "beside SCP itself a client needs a shell, and our server has none";
const NO_MODES: &str = "there are no permission bits";
const RENAMED_BY_COPY: &str = "a rename is a copy, which is read and written, and a removal";

/// The table.
const GAPS: &[Gap] = &[
    gap(
        NO_CHANNELS,
        &[],
        Fewer("BeforeOpenSFTP", 1),
        "there are no channels: the filesystem is there after the login",
    ),
    gap(NO_CHANNELS, &["login-bad"], Fewer("OnAuthInteractiveSetQuestions", 2), ASKED_AGAIN),
    gap(NO_CHANNELS, &["login-bad"], Fewer("OnAuthInteractive", 1), ASKED_AGAIN),
    gap(NO_CHANNELS, &["login-bad"], Fewer("OnAuthFail", 1), ASKED_AGAIN),
    gap(HTTP, &["login-bad"], Before("OnSessionTerminated", "OnConnectionClose"), TURNED_AWAY),
    // SCP.
    gap(SCP, &[], Instead("BeforeOpenSFTP", "BeforeOpenCmd"), "what is opened is a command"),
    gap(SCP, &[], Besides("BeforeOpenCmd"), "each step is a command, and some are looks before it"),
    gap(
        SCP,
        &["chmod", "delete", "rename", "rmdir", "veto-chmod", "veto-delete", "veto-rename", "veto-rmdir"],
        Wordless,
        SCP_ONLY,
    ),
    gap(SCP, &["list", "upload-over", "veto-commit"], Besides("BeforeFileDownload"), LOOKS_BY_FETCHING),
    gap(SCP, &["list", "upload-over", "veto-commit"], Besides("AfterFileDownload"), LOOKS_BY_FETCHING),
    // WebDAV.
    gap(DAV, &["chmod", "veto-chmod"], Wordless, NO_MODES),
    gap(DAV, &["rmdir", "veto-rmdir"], Besides("OnDirList"), LOOKS),
    // S3.
    gap(S3, &[], Instead("OnAuthPassword", "OnAuthPKI"), "who logs in has signed with a key"),
    gap(
        S3,
        &["login-bad"],
        Fewer("OnAuthPKI", 1),
        "a signature that is wrong is none: no proof gets as far as a handler",
    ),
    gap(S3, &["chmod", "veto-chmod"], Wordless, NO_MODES),
    gap(
        S3,
        &["rename"],
        Other(&[
            "BeforeFileDownload /f",
            "BeforeFileUpload /g",
            "BeforeCommit /g",
            "BeforeFileDelete /f",
            "AfterFileUpload /g",
            "AfterFileDownload /f",
            "AfterFileDelete /f",
        ]),
        RENAMED_BY_COPY,
    ),
    gap(S3, &["veto-rename"], NotPlayed, RENAMED_BY_COPY),
    gap(
        S3,
        &["upload-cut"],
        NotPlayed,
        "an object arrives in one piece, or in parts that wait under the id of their upload",
    ),
    gap(S3, &[], Besides("OnDirList"), LOOKS),
    gap(S3, &[], Besides("OnNewConnection"), "a session has as many connections as its client opens"),
    // Handlers of a client.
    gap(
        &["client"],
        &["login-bad"],
        Fewer("OnAuthFail", 1),
        "a client knows of one login that failed, in however many ways it tried",
    ),
    gap(
        &["client"],
        &["kill"],
        Fewer("OnSessionTerminated", 1),
        "a client does not hear who ended the session at the server",
    ),
];

/// Those of one way, and which of them have made a difference where.
pub struct Gaps {
    way: &'static str,
    used: HashSet<(usize, String)>,
}

/// Those with paths come from operations.
fn has_path(line: &str) -> bool {
    line.contains(' ')
}

fn is_of(line: &str, event: &str) -> bool {
    line.split(' ').next() == Some(event)
}

impl Gaps {
    pub fn of(way: &'static str) -> Self {
        Gaps { way, used: HashSet::new() }
    }

    fn here(&self, scenario: &str) -> impl Iterator<Item = (usize, &'static Gap)> + use<> {
        let (way, scenario) = (self.way, scenario.to_owned());
        let is_here = move |(_, gap): &(usize, &'static Gap)| {
            gap.ways.contains(&way)
                && (gap.scenarios.is_empty() || gap.scenarios.contains(&scenario.as_str()))
        };
        GAPS.iter().enumerate().filter(is_here)
    }

    fn has(&mut self, scenario: &str, is_it: impl Fn(&What) -> bool) -> bool {
        let found = self.here(scenario).find(|(_, gap)| is_it(&gap.what));
        found.is_some_and(|(n, _)| {
            self.used.insert((n, scenario.to_owned()));
            true
        })
    }

    pub fn is_played(&mut self, scenario: &str) -> bool {
        !self.has(scenario, |what| matches!(what, NotPlayed))
    }

    /// Whether the step has no words.
    pub fn is_wordless(&mut self, scenario: &str) -> bool {
        self.has(scenario, |what| matches!(what, Wordless))
    }

    /// What the way is to show where the list says this.
    pub fn expected(&mut self, scenario: &str, list: &[String]) -> Vec<String> {
        let mut lines = list.to_vec();
        for (n, gap) in self.here(scenario) {
            let before = lines.clone();
            match gap.what {
                Wordless => lines.retain(|line| !has_path(line)),
                Fewer(event, count) => {
                    for _ in 0..count {
                        // What is there besides comes after what is common.
                        if let Some(at) = lines.iter().rposition(|line| is_of(line, event)) {
                            lines.remove(at);
                        }
                    }
                }
                Instead(event, other) => {
                    for line in lines.iter_mut().filter(|line| is_of(line, event)) {
                        *line = line.replacen(event, other, 1);
                    }
                }
                Other(instead) => {
                    let at = lines.iter().position(|line| has_path(line)).unwrap_or(lines.len());
                    lines.retain(|line| !has_path(line));
                    lines.splice(at..at, instead.iter().map(|line| (*line).to_owned()));
                }
                Before(line, event) => {
                    if let Some(at) = lines.iter().position(|line| is_of(line, event)) {
                        lines.insert(at, line.to_owned());
                    }
                }
                Besides(_) | NotPlayed => {}
            }
            if lines != before {
                self.used.insert((n, scenario.to_owned()));
            }
        }
        lines
    }

    /// What was seen without what may be there besides.
    pub fn without_besides(&mut self, scenario: &str, seen: Vec<String>, expected: &[String]) -> Vec<String> {
        let mut lines = seen;
        for (n, gap) in self.here(scenario) {
            let Besides(event) = gap.what else { continue };
            let count = |lines: &[String], line: &String| lines.iter().filter(|l| *l == line).count();
            let mut kept: Vec<String> = Vec::new();
            for line in &lines {
                if !is_of(line, event) || count(&kept, line) < count(expected, line) {
                    kept.push(line.clone());
                }
            }
            if kept.len() < lines.len() {
                self.used.insert((n, scenario.to_owned()));
            }
            lines = kept;
        }
        lines
    }

    /// Gaps that have made no difference, wherever they are named.
    pub fn stale(&self) -> Vec<String> {
        let here = GAPS.iter().enumerate().filter(|(_, gap)| gap.ways.contains(&self.way));
        let is_used = |n: usize, gap: &Gap| match gap.scenarios {
            [] => self.used.iter().any(|(used, _)| *used == n),
            named => named.iter().all(|scenario| self.used.contains(&(n, (*scenario).to_owned()))),
        };
        let stale = here.filter(|(n, gap)| !is_used(*n, gap));
        stale.map(|(_, gap)| format!("it makes no difference any more: {gap:?}")).collect()
    }
}

#[test]
fn gaps_name_events_and_ways_that_are_there() {
    for gap in GAPS {
        let names = match gap.what {
            Fewer(a, _) | Besides(a) => vec![a],
            Instead(a, b) => vec![a, b],
            Before(a, b) => vec![a.split(' ').next().unwrap(), b],
            Other(lines) => lines.iter().map(|line| line.split(' ').next().unwrap()).collect(),
            NotPlayed | Wordless => vec![],
        };
        assert!(names.iter().all(|name| event(name).is_some()), "{gap:?}");
        let is_way = |way: &&str| *way == "client" || crate::support::WAYS.iter().any(|w| w.scheme == *way);
        assert!(gap.ways.iter().all(is_way), "{gap:?}");
    }
}
