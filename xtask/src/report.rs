//! What a stage found: counts, and what could not be checked.
//!
//! The rule for what is missing lives here, once: a failure where nobody watches (`CI=true`), a loud
//! line elsewhere.

use crate::repo;

/// Counts of one stage.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// What could not be checked here, each a sentence.
    pub(crate) missing: Vec<String>,
}

impl Report {
    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }

    /// Counts one fault and prints it.
    pub(crate) fn fail(&mut self, what: impl std::fmt::Display) {
        self.failed += 1;
        println!("FAILED: {what}");
    }

    /// Counts by a condition; a fault has been printed by whoever found it.
    pub(crate) fn count(&mut self, good: bool, what: impl std::fmt::Display) {
        if good { self.pass() } else { self.fail(what) }
    }

    /// A tool or peer is not here: a failure under `CI=true`, a loud line elsewhere.
    pub(crate) fn lack(&mut self, what: impl Into<String>) {
        let what = what.into();
        if repo::is_ci() {
            self.fail(format!("{what} (CI is set: nothing may be left out)"));
        } else {
            self.note(what);
        }
    }

    /// Something is not checked, and that is no failure anywhere: a loud line, repeated at the end.
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("!!! NOT CHECKED: {what}");
        self.missing.push(what);
    }
}
