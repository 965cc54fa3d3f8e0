//! `cargo xtask docs`: sections of the manual that a program writes.
//!
//! A section stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; what is between the
//! two is replaced by the output of a command of ours, so a table is written once, in code. A marker that
//! is absent, doubled or not closed is an error.

use std::path::Path;

use crate::Verdict;
use crate::fault::{Fault, Result, While, ensure};
use crate::flags::Flags;
use crate::ours::{Build, Programs};
use crate::process::{Run, write};
use crate::repo;

pub(crate) const USAGE: &str = "cargo xtask docs [--check]

Runs the commands whose output stands in the manual and replaces the sections between their markers.
  --check   changes nothing; exit 1 if a section is stale";

/// A generated section.
struct Section {
    /// The file, from the root of the repository.
    file: &'static str,
    marker: &'static str,
    /// Whose output is the section.
    program: fn(&Programs) -> &Path,
    args: &'static [&'static str],
}

const SECTIONS: &[Section] = &[
    Section {
        file: "docs/hooks-events.md",
        marker: "events",
        program: |ours| &ours.ferryd,
        args: &["docs", "events"],
    },
    Section {
        file: "docs/hooks.md",
        marker: "members",
        program: |ours| &ours.ferryd,
        args: &["docs", "members"],
    },
    Section {
        file: "docs/ferry.md",
        marker: "reference",
        program: |ours| &ours.ferry,
        args: &["docs", "reference"],
    },
    Section { file: "docs/json.md", marker: "lines", program: |ours| &ours.ferry, args: &["docs", "lines"] },
];

pub(crate) fn run(mut flags: Flags) -> Result<Verdict> {
    let check = flags.flag("--check");
    flags.end()?;
    if check {
        let stale = stale(Build::Alone)?;
        stale.iter().for_each(|fault| println!("{fault}"));
        return Ok(Verdict::from_faults(stale.len()));
    }
    let ours = Build::Alone.programs()?;
    for section in SECTIONS {
        let (old, new) = section.render(&ours)?;
        if old != new {
            write(&repo::root().join(section.file), new)?;
            println!("{}: wrote {}", section.file, section.marker);
        }
    }
    Ok(Verdict::Good)
}

/// The sections that are not what their command prints now.
pub(crate) fn stale(build: Build) -> Result<Vec<String>> {
    let ours = build.programs()?;
    let mut stale = Vec::new();
    for section in SECTIONS {
        let (old, new) = section.render(&ours)?;
        if old != new {
            stale.push(format!(
                "{}: section `{}` is stale: run `cargo xtask docs`",
                section.file, section.marker
            ));
        }
    }
    Ok(stale)
}

impl Section {
    /// The file as it is and as it should be.
    fn render(&self, ours: &Programs) -> Result<(String, String)> {
        let path = repo::root().join(self.file);
        let old = std::fs::read_to_string(&path).doing(|| format!("reading {}", self.file))?;
        let body = Run::new((self.program)(ours)).args(self.args).dir(repo::root()).text()?;
        let new = splice(&old, self.marker, &body).doing(|| self.file.to_owned())?;
        Ok((old, new))
    }
}

/// Replaces what stands between the markers by `body`.
fn splice(text: &str, marker: &str, body: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- generated: {marker} -->"), format!("<!-- end of {marker} -->"));
    ensure!(text.matches(&begin).count() == 1, "`{begin}` must stand there once");
    let (head, rest) = text.split_once(&begin).ok_or_else(|| Fault::new("no marker"))?;
    let (_, tail) = rest.split_once(&end).ok_or_else(|| Fault::new(format!("no `{end}`")))?;
    Ok(format!("{head}{begin}\n{}\n{end}{tail}", body.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let text = "# A\n<!-- generated: t -->\nold\nolder\n<!-- end of t -->\nend\n";
        let new = splice(text, "t", "new\n\n").unwrap();
        assert_eq!(new, "# A\n<!-- generated: t -->\nnew\n<!-- end of t -->\nend\n");
        assert_eq!(splice(&new, "t", "new").unwrap(), new);
    }

    #[test]
    fn broken_markers_are_errors() {
        for text in ["", "<!-- generated: t -->\n", "<!-- end of t --><!-- generated: t -->"] {
            assert!(splice(text, "t", "x").is_err(), "{text}");
        }
        let twice = "<!-- generated: t --><!-- end of t -->".repeat(2);
        assert!(splice(&twice, "t", "x").is_err());
    }

    #[test]
    fn a_section_runs_its_command() {
        let ours = Programs { ferry: "echo".into(), ferryd: "false".into() };
        let of = |program: fn(&Programs) -> &Path| {
            let section = Section { file: "Cargo.toml", marker: "absent", program, args: &["words"] };
            section.render(&ours).unwrap_err().to_string()
        };
        assert!(of(|ours| &ours.ferry).contains("must stand there once"));
        assert!(of(|ours| &ours.ferryd).contains("false words"));
    }
}
