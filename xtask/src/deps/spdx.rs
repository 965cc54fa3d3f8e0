//! Licence expressions (SPDX 2.3, annex D): is there a choice that we allow?
//!
//! `OR` needs one side, `AND` both; `AND` binds closer; `WITH` adds an exception to a licence. The older
//! `MIT/Apache-2.0` is read as `OR`. What is unknown is not allowed.

use crate::fault::{Fault, Result, bail, ensure};

/// Licences that go with MIT OR Apache-2.0 in a program that is given away.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// How deep parentheses may nest.
const DEEPEST: usize = 16;

/// Errors unless the expression leaves a choice that is allowed.
pub(super) fn allowed(expression: &str) -> Result<()> {
    ensure!(!expression.is_empty(), "names no licence");
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = Words { rest: spaced.split_whitespace().collect(), depth: 0 };
    words.rest.reverse();
    let good = words.either().map_err(|fault| Fault::new(format!("`{expression}`: {fault}")))?;
    ensure!(words.rest.is_empty(), "`{expression}` goes on where it should end");
    ensure!(good, "`{expression}` is not an allowed licence");
    Ok(())
}

/// The words not read yet, the next one last.
struct Words<'a> {
    rest: Vec<&'a str>,
    depth: usize,
}

impl Words<'_> {
    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.rest.last().is_some_and(|next| next.eq_ignore_ascii_case(word));
        if is_next {
            self.rest.pop();
        }
        is_next
    }

    fn either(&mut self) -> Result<bool> {
        let mut good = self.both()?;
        while self.takes("OR") {
            good |= self.both()?;
        }
        Ok(good)
    }

    fn both(&mut self) -> Result<bool> {
        let mut good = self.one()?;
        while self.takes("AND") {
            good &= self.one()?;
        }
        Ok(good)
    }

    fn one(&mut self) -> Result<bool> {
        if self.takes("(") {
            self.depth += 1;
            ensure!(self.depth <= DEEPEST, "nests too deep");
            let good = self.either()?;
            ensure!(self.takes(")"), "a parenthesis is not closed");
            self.depth -= 1;
            return Ok(good);
        }
        let Some(licence) = self.rest.pop() else { bail!("ends too early") };
        ensure!(!["OR", "AND", "WITH", ")"].contains(&licence), "`{licence}` where a licence should be");
        if self.takes("WITH") {
            let Some(exception) = self.rest.pop() else { bail!("ends too early") };
            return Ok(ALLOWED.contains(&format!("{licence} WITH {exception}").as_str()));
        }
        Ok(ALLOWED.contains(&licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR GPL-2.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "ISC AND (Apache-2.0 OR ISC)",
        ] {
            assert!(allowed(good).is_ok(), "{good}: {:?}", allowed(good));
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "GPL-2.0-only OR LGPL-2.1 AND MIT",
            "MIT WITH odd-exception",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "AND MIT",
        ] {
            assert!(allowed(bad).is_err(), "{bad}");
        }
        assert!(allowed(&"(".repeat(1000)).is_err());
    }
}
