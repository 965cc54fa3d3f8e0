//! Known failures: one file, one line each, `NAME: reason`.
//!
//! A case that is listed must fail; if it passes, the line is out of date and that fails too. A line
//! without a reason is an error, and so is, in a whole run, a line that names no case.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::{Result, While, bail};
use crate::repo;
use crate::report::Report;

const FILE: &str = "xtask/known-failures.txt";

/// The list, by name of the case.
#[derive(Debug)]
pub(super) struct Known {
    reasons: BTreeMap<String, String>,
    judged: BTreeSet<String>,
}

/// What a result means in the light of the list.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Passed,
    FailedAsKnown(String),
    PassedUnexpectedly,
    Failed,
}

impl Known {
    pub(super) fn read() -> Result<Self> {
        let text = std::fs::read_to_string(repo::root().join(FILE)).doing(|| format!("reading {FILE}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut reasons = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // A case's name holds `::`, so the separator is a colon with a space.
            let Some((name, reason)) = line.split_once(": ").filter(|(_, reason)| !reason.trim().is_empty())
            else {
                bail!("{FILE}, line {}: not `NAME: reason`", index + 1)
            };
            if reasons.insert(name.trim().to_owned(), reason.trim().to_owned()).is_some() {
                bail!("{FILE}, line {}: {name} is listed twice", index + 1);
            }
        }
        Ok(Self { reasons, judged: BTreeSet::new() })
    }

    fn look(&self, name: &str, good: bool) -> Judged {
        match (self.reasons.get(name), good) {
            (None, true) => Judged::Passed,
            (None, false) => Judged::Failed,
            (Some(reason), false) => Judged::FailedAsKnown(reason.clone()),
            (Some(_), true) => Judged::PassedUnexpectedly,
        }
    }

    /// Prints and counts one result.
    pub(super) fn judge(&mut self, report: &mut Report, name: &str, result: Result<()>) {
        self.judged.insert(name.to_owned());
        match (self.look(name, result.is_ok()), result) {
            (Judged::Passed, _) => {
                println!("  ok     {name}");
                report.pass();
            }
            (Judged::FailedAsKnown(reason), _) => {
                println!("  known  {name}: {reason}");
                report.pass();
            }
            (Judged::PassedUnexpectedly, _) => {
                report.fail(format!("{name} passes: take it out of {FILE}"));
            }
            (Judged::Failed, result) => {
                let why = result.err().map(|fault| fault.to_string()).unwrap_or_default();
                report.fail(format!("{name}: {why}"));
            }
        }
    }

    /// The listed names that nobody has judged. Ask only after a run that left nothing out.
    pub(super) fn idle(&self) -> Vec<String> {
        self.reasons.keys().filter(|name| !self.judged.contains(*name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_failure_must_fail() {
        let known = Known::parse("# list\n\nlftp::a: it cannot\n").unwrap();
        assert_eq!(known.look("lftp::a", false), Judged::FailedAsKnown("it cannot".to_owned()));
        assert_eq!(known.look("lftp::a", true), Judged::PassedUnexpectedly);
        assert_eq!(known.look("lftp::b", true), Judged::Passed);
        assert_eq!(known.look("lftp::b", false), Judged::Failed);
    }

    #[test]
    fn a_line_without_a_case_is_seen() {
        let mut known = Known::parse("lftp::a: x\nlftp::b: y\n").unwrap();
        let mut report = Report::default();
        known.judge(&mut report, "lftp::a", Err(crate::fault::Fault::new("as ever")));
        assert_eq!((report.passed, report.failed), (1, 0));
        assert_eq!(known.idle(), ["lftp::b"]);
        known.judge(&mut report, "lftp::b", Ok(()));
        assert_eq!((report.passed, report.failed), (1, 1));
    }

    #[test]
    fn a_line_has_a_reason_and_stands_once() {
        assert!(Known::parse("lftp::a").is_err());
        assert!(Known::parse("lftp::a: ").is_err());
        assert!(Known::parse("lftp::a: x\nlftp::a: y").is_err());
        Known::read().unwrap();
    }
}
