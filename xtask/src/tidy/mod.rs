//! `cargo xtask tidy`: the house rules as code.
//!
//! Each rule is a function from the repository to a list of faults; `cargo test -p xtask` runs them
//! too. What the compiler or clippy already denies (unwrap, panic, indexing, prints) is left to them.

mod attacks;
mod graph;
mod source;

use crate::Verdict;
use crate::fault::Result;
use crate::flags::Flags;
use crate::report::Report;

pub(crate) const USAGE: &str = "cargo xtask tidy

Checks the arrows between the crates, versions in one place, inherited lints, module headers, length of
files, owners of TODOs, where unsafe stands, paths of some machine in files, equal features of shared
dependencies, and that the tests which docs/security.md names are there. That generated documents are fresh says `cargo xtask docs --check`.";

pub(crate) fn run(flags: Flags) -> Result<Verdict> {
    flags.end()?;
    let mut report = Report::default();
    stage(&mut report)?;
    println!("{} rules hold, {} do not", report.passed, report.failed);
    Ok(Verdict::from_faults(report.failed))
}

/// Every rule, each counted once however many faults it finds.
pub(crate) fn stage(report: &mut Report) -> Result<()> {
    for (name, faults) in rules()? {
        judge(report, name, &faults);
    }
    Ok(())
}

/// Counts a rule, and prints where it does not hold.
pub(crate) fn judge(report: &mut Report, name: &str, faults: &[String]) {
    for fault in faults {
        println!("  {fault}");
    }
    report.count(faults.is_empty(), format!("{name}: {} faults", faults.len()));
}

/// The rules that need nothing built.
fn rules() -> Result<Vec<(&'static str, Vec<String>)>> {
    let mut all = graph::rules()?;
    all.extend(source::rules()?);
    all.extend(attacks::rules()?);
    Ok(all)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_tidy() {
        let faults: Vec<String> =
            super::rules().unwrap().into_iter().flat_map(|(_, faults)| faults).collect();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}
