//! The rule about `docs/security.md`: every test that its table names is there.
//!
//! A test stands in the last column as `crate path::of::test` in backticks. It is looked for by its name in
//! the sources of the crate: that the test tries the attack of its row is for readers to see.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::fault::{Result, While};
use crate::repo;

const PAGE: &str = "docs/security.md";
/// How many attacks the list has.
const ATTACKS: usize = 45;

pub(super) fn rules() -> Result<Vec<(&'static str, Vec<String>)>> {
    let page = std::fs::read_to_string(repo::root().join(PAGE)).doing(|| format!("reading {PAGE}"))?;
    let files = repo::files()?;
    let faults = judge(&page, &|crate_name, test| is_there(&files, crate_name, test));
    Ok(vec![("attacks name tests that are there", faults)])
}

fn judge(page: &str, is_there: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut numbers = BTreeSet::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, _, tests] = cells.as_slice() else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        numbers.insert(number);
        // Between backticks is every second piece.
        for named in tests.split('`').skip(1).step_by(2) {
            let found = named.split_once(' ').is_some_and(|(crate_name, path)| {
                is_there(crate_name, path.rsplit("::").next().unwrap_or(path))
            });
            if !found {
                faults.push(format!("{PAGE}: attack {number}: no test `{named}`"));
            }
        }
    }
    if numbers != (1..=ATTACKS).collect() {
        faults.push(format!("{PAGE}: the table has not the attacks 1 to {ATTACKS}"));
    }
    faults
}

fn is_there(files: &[PathBuf], crate_name: &str, test: &str) -> bool {
    let function = format!("fn {test}(");
    let of_crate = |file: &&PathBuf| {
        file.starts_with(crate_name) && file.extension().is_some_and(|extension| extension == "rs")
    };
    let holds = |file: &Path| {
        std::fs::read_to_string(repo::root().join(file)).is_ok_and(|text| text.contains(&function))
    };
    files.iter().filter(of_crate).any(|file| holds(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_gone_and_a_row_that_is_missing_are_faults() {
        let row = |n: usize| format!("| {n} | a | b | `c it::known`, `c it::gone` |\n");
        let is_known = |crate_name: &str, test: &str| (crate_name, test) == ("c", "known");
        let all: String = (1..=ATTACKS).map(row).collect();
        let faults = judge(&all, &is_known);
        assert_eq!(faults.len(), ATTACKS);
        assert!(faults.iter().all(|f| f.ends_with("no test `c it::gone`")), "{faults:?}");
        let faults = judge("| # | Attack |\n", &is_known);
        assert!(matches!(&faults[..], [one] if one.contains("has not the attacks")), "{faults:?}");
    }
}
