//! The rules about files: headers, length, owners of TODOs, where unsafe stands, whose paths they name.
//!
//! They look at lines of text, not at syntax: a cheap backstop that a person can follow. Words that a
//! rule looks for are put together here, so that the rule does not find itself.

use std::path::Path;

use crate::fault::Result;
use crate::repo;

/// Lines of code in a file beyond which it is a design question.
const LONGEST: usize = 800;
/// What the header of a longer file must say, followed by the reason.
const LONGER: &str = "beyond 800 lines:";
/// The only file that may hold unsafe code.
const SYSTEM_CALLS: &str = "session-core/src/store/local/sys.rs";
/// Names that examples give to people; a home folder of anybody else is a path of some machine.
const EXAMPLES: [&str; 8] = ["alice", "bob", "carol", "user", "me", "you", "ferry", "anna"];

type Rule = (&'static str, fn(&Path, &str) -> Vec<String>);

const RULES: [Rule; 7] = [
    ("modules have a header", header),
    ("files are short or say why not", length),
    ("no test is switched off", ignored),
    ("nothing is left to be written", unwritten),
    ("a TODO has an owner", todo),
    ("unsafe stands in one file", unsafe_code),
    ("no path of some machine, no registry's host", places),
];

pub(super) fn rules() -> Result<Vec<(&'static str, Vec<String>)>> {
    let mut found: Vec<(&'static str, Vec<String>)> =
        RULES.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for file in repo::files()? {
        let Ok(bytes) = std::fs::read(repo::root().join(&file)) else { continue };
        // What is not text is data, and data has no rules.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for ((_, rule), (_, faults)) in RULES.iter().zip(&mut found) {
            faults.extend(rule(&file, &text).into_iter().map(|fault| format!("{}: {fault}", file.display())));
        }
    }
    Ok(found)
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The lines of code, numbered from 1: not blank, not a comment. String literals are blanked out, or
/// the text of a message would count as code.
fn code(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !is_comment(line));
    lines.map(|(index, line)| (index + 1, without_strings(line)))
}

fn without_strings(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut is_inside = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_inside => drop(chars.next()),
            '"' => is_inside = !is_inside,
            _ if is_inside => {}
            '/' if kept.ends_with('/') => break,
            _ => kept.push(c),
        }
    }
    kept
}

fn header(file: &Path, text: &str) -> Vec<String> {
    let is_module = is_rust(file) && file.components().any(|part| part.as_os_str() == "src");
    if !is_module || text.starts_with("//!") {
        return Vec::new();
    }
    vec!["does not begin with `//!`: what it is, what it promises, what it does not do".to_owned()]
}

fn length(file: &Path, text: &str) -> Vec<String> {
    let lines = if is_rust(file) { code(text).count() } else { 0 };
    let says_why = text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains(LONGER));
    if lines <= LONGEST || says_why {
        return Vec::new();
    }
    vec![format!("{lines} lines of code; split it, or say in its header `{LONGER} reason`")]
}

/// Faults at each line of code that contains one of the words.
fn forbid(file: &Path, text: &str, words: &[&str], why: &str) -> Vec<String> {
    if !is_rust(file) {
        return Vec::new();
    }
    let found = code(text).filter(|(_, line)| words.iter().any(|word| line.contains(word)));
    found.map(|(number, line)| format!("{number}: {why}: {}", line.trim())).collect()
}

fn ignored(file: &Path, text: &str) -> Vec<String> {
    forbid(file, text, &[concat!("#[ig", "nore")], "a test that does not run")
}

fn unwritten(file: &Path, text: &str) -> Vec<String> {
    forbid(file, text, &[concat!("todo", "!("), concat!("unimplemented", "!(")], "not written")
}

fn todo(file: &Path, text: &str) -> Vec<String> {
    let word = concat!("TO", "DO");
    let lines = text.lines().enumerate().filter(|_| is_rust(file));
    let mut faults = Vec::new();
    for (index, line) in lines {
        let is_alone = |at: usize, rest: &str| {
            let before = line.get(..at).and_then(|head| head.chars().next_back());
            !before.is_some_and(char::is_alphanumeric)
                && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        };
        for (at, _) in line.match_indices(word) {
            let rest = line.get(at + word.len()..).unwrap_or_default();
            if is_comment(line) && is_alone(at, rest) && rest != "s" && !rest.starts_with('(') {
                faults.push(format!("{}: nobody's; write `{word}(name): …`", index + 1));
            }
        }
    }
    faults
}

fn unsafe_code(file: &Path, text: &str) -> Vec<String> {
    if file == Path::new(SYSTEM_CALLS) {
        return Vec::new();
    }
    let mut words = Vec::new();
    for what in ["{", "fn ", "impl ", "extern ", "trait "] {
        words.push(format!("{} {what}", concat!("un", "safe")));
    }
    words.push(concat!("allow(un", "safe_code").to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    forbid(file, text, &words, "belongs in the one module of system calls")
}

fn places(file: &Path, text: &str) -> Vec<String> {
    if file.file_name().is_some_and(|name| name == "Cargo.lock") {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(place) = machine_path(line) {
            faults.push(format!("{}: a path of some machine: {place}", index + 1));
        }
        let hosts = [
            concat!("index.crates", ".io"),
            concat!("static.crates", ".io"),
            concat!("pypi", ".org"),
            concat!("files.pythonhosted", ".org"),
            concat!("deb.debian", ".org"),
            concat!("proxy.gol", "ang.org"),
        ];
        for host in hosts.iter().filter(|host| line.contains(**host)) {
            faults.push(format!("{}: the host of a registry: {host}", index + 1));
        }
    }
    faults
}

/// The first absolute path in the line that leads into somebody's own folder.
fn machine_path(line: &str) -> Option<&str> {
    for start in [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")] {
        for (at, _) in line.match_indices(start) {
            let before = line.get(..at)?.chars().next_back();
            let goes_on = before.is_some_and(|c| c.is_alphanumeric() || "._-~})>*".contains(c));
            let rest = line.get(at + start.len()..)?;
            let name: &str = rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').next()?;
            let is_example = start.starts_with("/h") && (name.is_empty() || EXAMPLES.contains(&name));
            if !goes_on && !is_example {
                let end =
                    rest.find(|c: char| c.is_whitespace() || "\"'`),".contains(c)).unwrap_or(rest.len());
                return line.get(at..at + start.len() + end);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(rule: fn(&Path, &str) -> Vec<String>, file: &str, text: &str) -> usize {
        rule(Path::new(file), text).len()
    }

    #[test]
    fn a_module_needs_a_header() {
        assert_eq!(faults(header, "a/src/b.rs", "use x;\n"), 1);
        assert_eq!(faults(header, "a/src/b.rs", "//! It is.\n"), 0);
        assert_eq!(faults(header, "a/tests/b.rs", "use x;\n"), 0);
    }

    #[test]
    fn a_long_file_says_why() {
        let long = "a();\n".repeat(801);
        assert_eq!(faults(length, "a/src/b.rs", &long), 1);
        assert_eq!(faults(length, "a/src/b.rs", &format!("//! Is {LONGER} a table.\n{long}")), 0);
        assert_eq!(faults(length, "a/src/b.rs", &"// why\n\n".repeat(2000)), 0);
    }

    #[test]
    fn words_in_comments_and_strings_are_not_code() {
        let word = concat!("todo", "!()");
        assert_eq!(faults(unwritten, "a.rs", &format!("    {word};")), 1);
        assert_eq!(faults(unwritten, "a.rs", &format!("// {word}\nf(\"a \\\" {word}\"); // {word}")), 0);
        assert_eq!(faults(ignored, "a.rs", concat!("#[ig", "nore = \"slow\"]")), 1);
    }

    #[test]
    fn a_todo_needs_an_owner() {
        let word = concat!("TO", "DO");
        assert_eq!(faults(todo, "a.rs", &format!("// {word}: later")), 1);
        assert_eq!(faults(todo, "a.rs", &format!("// {word}(anna): later\n// {word}_LIST")), 0);
    }

    #[test]
    fn unsafe_has_its_place() {
        let code = concat!("let x = un", "safe { f() };");
        assert_eq!(faults(unsafe_code, "a/src/b.rs", code), 1);
        assert_eq!(faults(unsafe_code, SYSTEM_CALLS, code), 0);
    }

    #[test]
    fn paths_of_a_machine_are_seen() {
        let home = concat!("/ho", "me/");
        let work = concat!("/wo", "rk/");
        for bad in
            [format!("see {work}x"), format!("\"{home}jsmith/a\""), concat!("=/ro", "ot/.ssh").to_owned()]
        {
            assert!(machine_path(&bad).is_some(), "{bad}");
        }
        for good in
            [format!("{home}alice/a"), format!("{home}<name>"), format!("target{work}x"), "/tmp".to_owned()]
        {
            assert!(machine_path(&good).is_none(), "{good}");
        }
    }
}
