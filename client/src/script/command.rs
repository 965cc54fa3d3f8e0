//! Commands of the script language: names, aliases, switches and arguments in one table, and the parser over it.
//!
//! A name may be cut short as long as it means one command. A switch is `-name`, `-name=value` or
//! `-name:value`; `--` ends them. What a table row does not know is an error that names it.

use session_core::error::{Error, ErrorKind, Result};

use super::text::words;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the language's; `TABLE` says what each does")]
pub enum Verb {
    Ascii,
    Binary,
    Call,
    Cd,
    Checksum,
    Chmod,
    Close,
    Cp,
    Echo,
    Exit,
    Get,
    Help,
    KeepUpToDate,
    Lcd,
    Lls,
    Ln,
    Lpwd,
    Ls,
    Mkdir,
    Mv,
    Open,
    Option,
    Put,
    Pwd,
    Rm,
    Rmdir,
    Session,
    Stat,
    Synchronize,
}

/// How a switch takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// One, or none.
    Maybe,
    /// One.
    Value,
    /// Arguments `name=value` after it: as many as `-switch[n]` says, else all up to the next switch.
    Pairs,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// What it does.
    pub verb: Verb,
    /// Its name, then its other names.
    pub names: &'static [&'static str],
    /// Arguments: at least, at most.
    pub arguments: (usize, usize),
    /// Its switches.
    pub switches: &'static [(&'static str, Takes)],
    /// For `help`.
    pub help: &'static str,
}

use Takes::{Maybe, Nothing, Pairs, Value};

const MANY: usize = usize::MAX;

/// Switches of `get`, `put`, `synchronize` and `keepuptodate`.
macro_rules! transfer {
    ($($more:expr),* $(,)?) => {
        &[
            ("permissions", Value), ("nopermissions", Nothing), ("preservetime", Maybe),
            ("nopreservetime", Nothing), ("speed", Value), ("transfer", Value), ("filemask", Value),
            ("resumesupport", Value), ("rawtransfersettings", Pairs), $($more),*
        ]
    };
}

const GET: &[(&str, Takes)] = transfer![
    ("delete", Nothing),
    ("resume", Nothing),
    ("append", Nothing),
    ("neweronly", Nothing),
    ("noneweronly", Nothing),
    ("latest", Nothing),
    ("onlyfile", Nothing),
];

/// Every command.
pub const TABLE: &[Row] = &[
    Row {
        verb: Verb::Ascii,
        names: &["ascii"],
        arguments: (0, 0),
        switches: &[],
        help: "transfers text from now on",
    },
    Row {
        verb: Verb::Binary,
        names: &["binary"],
        arguments: (0, 0),
        switches: &[],
        help: "transfers bytes from now on",
    },
    Row {
        verb: Verb::Call,
        names: &["call", "!"],
        arguments: (1, MANY),
        switches: &[],
        help: "runs a command of the server",
    },
    Row {
        verb: Verb::Cd,
        names: &["cd"],
        arguments: (0, 1),
        switches: &[],
        help: "changes the remote directory; without one, to the login folder",
    },
    Row {
        verb: Verb::Checksum,
        names: &["checksum"],
        arguments: (2, 2),
        switches: &[],
        help: "shows the digest of a remote file",
    },
    Row {
        verb: Verb::Chmod,
        names: &["chmod"],
        arguments: (2, MANY),
        switches: &[],
        help: "changes permissions of remote entries",
    },
    Row { verb: Verb::Close, names: &["close"], arguments: (0, 1), switches: &[], help: "closes a session" },
    Row {
        verb: Verb::Cp,
        names: &["cp"],
        arguments: (2, MANY),
        switches: &[],
        help: "copies within the server",
    },
    Row {
        verb: Verb::Echo,
        names: &["echo"],
        arguments: (0, MANY),
        switches: &[],
        help: "prints its arguments",
    },
    Row {
        verb: Verb::Exit,
        names: &["exit", "bye"],
        arguments: (0, 0),
        switches: &[],
        help: "closes all sessions and ends the script",
    },
    Row {
        verb: Verb::Get,
        names: &["get", "recv", "mget"],
        arguments: (1, MANY),
        switches: GET,
        help: "fetches files",
    },
    Row {
        verb: Verb::Help,
        names: &["help", "man"],
        arguments: (0, 1),
        switches: &[],
        help: "shows commands",
    },
    Row {
        verb: Verb::KeepUpToDate,
        names: &["keepuptodate"],
        arguments: (0, 2),
        switches: transfer![("delete", Nothing)],
        help: "sends what changes locally, until it is stopped",
    },
    Row {
        verb: Verb::Lcd,
        names: &["lcd"],
        arguments: (1, 1),
        switches: &[],
        help: "changes the local directory",
    },
    Row {
        verb: Verb::Lls,
        names: &["lls"],
        arguments: (0, 1),
        switches: &[],
        help: "lists a local directory",
    },
    Row {
        verb: Verb::Ln,
        names: &["ln", "symlink"],
        arguments: (2, 2),
        switches: &[],
        help: "makes a remote symbolic link",
    },
    Row {
        verb: Verb::Lpwd,
        names: &["lpwd"],
        arguments: (0, 0),
        switches: &[],
        help: "shows the local directory",
    },
    Row {
        verb: Verb::Ls,
        names: &["ls", "dir"],
        arguments: (0, 1),
        switches: &[],
        help: "lists a remote directory",
    },
    Row {
        verb: Verb::Mkdir,
        names: &["mkdir"],
        arguments: (1, 1),
        switches: &[],
        help: "makes a remote directory",
    },
    Row {
        verb: Verb::Mv,
        names: &["mv", "rename"],
        arguments: (2, MANY),
        switches: &[],
        help: "moves or renames remote entries",
    },
    Row {
        verb: Verb::Open,
        names: &["open"],
        arguments: (0, 1),
        switches: &[
            ("privatekey", Value),
            ("hostkey", Value),
            ("clientcert", Value),
            ("certificate", Value),
            ("passphrase", Value),
            ("newpassword", Value),
            ("username", Value),
            ("password", Value),
            ("passwordsfromfiles", Nothing),
            ("passive", Maybe),
            ("implicit", Nothing),
            ("explicit", Nothing),
            ("timeout", Value),
            ("rawsettings", Pairs),
            ("filezilla", Nothing),
            ("sessionname", Value),
        ],
        help: "opens a session",
    },
    Row {
        verb: Verb::Option,
        names: &["option"],
        arguments: (0, 2),
        switches: &[],
        help: "shows or sets options of the script",
    },
    Row {
        verb: Verb::Put,
        names: &["put", "send", "mput"],
        arguments: (1, MANY),
        switches: GET,
        help: "sends files",
    },
    Row {
        verb: Verb::Pwd,
        names: &["pwd"],
        arguments: (0, 0),
        switches: &[],
        help: "shows the remote directory",
    },
    Row {
        verb: Verb::Rm,
        names: &["rm"],
        arguments: (1, MANY),
        switches: &[("onlyfile", Nothing)],
        help: "removes remote entries",
    },
    Row {
        verb: Verb::Rmdir,
        names: &["rmdir"],
        arguments: (1, MANY),
        switches: &[],
        help: "removes remote directories",
    },
    Row {
        verb: Verb::Session,
        names: &["session"],
        arguments: (0, 1),
        switches: &[],
        help: "shows sessions, or chooses one",
    },
    Row {
        verb: Verb::Stat,
        names: &["stat"],
        arguments: (1, 1),
        switches: &[],
        help: "shows what a remote entry is",
    },
    Row {
        verb: Verb::Synchronize,
        names: &["synchronize"],
        arguments: (1, 3),
        switches: transfer![
            ("preview", Nothing),
            ("delete", Nothing),
            ("mirror", Nothing),
            ("criteria", Value),
            ("resume", Nothing),
        ],
        help: "makes directories equal: local, remote or both",
    },
];

/// A command that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What it does.
    pub verb: Verb,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its switches, by the names of the table, in order.
    pub switches: Vec<(&'static str, Option<String>)>,
}

impl Command {
    /// The value of a switch; the last one where it was given twice. `Some(None)` for one without a value.
    pub fn switch(&self, name: &str) -> Option<Option<&str>> {
        self.switches.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_deref())
    }

    /// Whether a switch was given.
    pub fn has(&self, name: &str) -> bool {
        self.switch(name).is_some()
    }

    /// The pairs that a switch was followed by.
    pub fn pairs(&self, name: &str) -> Result<Vec<(&str, &str)>> {
        let values = self.switches.iter().filter(|(n, _)| *n == name).filter_map(|(_, v)| v.as_deref());
        values
            .map(|pair| pair.split_once('=').ok_or_else(|| bad(format!("'{pair}' is not 'name=value'"))))
            .collect()
    }
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

/// The row of a name, which may be cut short. Errors: `InvalidArgument` for a name that means nothing, or
/// more than one command.
pub fn row(name: &str) -> Result<&'static Row> {
    let lower = name.to_ascii_lowercase();
    let exact = TABLE.iter().find(|row| row.names.contains(&lower.as_str()));
    if let Some(row) = exact {
        return Ok(row);
    }
    let mut fitting =
        TABLE.iter().filter(|row| !lower.is_empty() && row.names.iter().any(|n| n.starts_with(&lower)));
    match (fitting.next(), fitting.next()) {
        (Some(row), None) => Ok(row),
        (None, _) => Err(bad(format!("there is no command '{name}'")).with_hint("'help' lists all of them")),
        (Some(a), Some(b)) => {
            let names = |row: &Row| row.names.first().copied().unwrap_or_default();
            Err(bad(format!("the command '{name}' may mean '{}' or '{}'", names(a), names(b))))
        }
    }
}

/// Reads one line, filled in. `None` for an empty line or a comment. Errors: `InvalidArgument`.
pub fn parse(line: &str) -> Result<Option<Command>> {
    let line = line.trim_start_matches([' ', '\t', '\u{feff}']).trim_end();
    if line.is_empty() || line.starts_with([';', '#']) {
        return Ok(None);
    }
    // What follows these is theirs, quotes and dashes too.
    let (head, rest) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest),
        None => line.split_once([' ', '\t']).unwrap_or((line, "")),
    };
    if let Ok(Row { verb: verb @ (Verb::Call | Verb::Echo), arguments, names, .. }) = row(head) {
        let rest = rest.trim();
        if rest.is_empty() && arguments.0 > 0 {
            return Err(bad(format!("'{}' needs an argument", names.first().copied().unwrap_or_default())));
        }
        let arguments = if rest.is_empty() { Vec::new() } else { vec![rest.to_string()] };
        return Ok(Some(Command { verb: *verb, arguments, switches: Vec::new() }));
    }
    let mut given = words(line)?.into_iter();
    let Some(name) = given.next() else { return Ok(None) };
    let row = row(&name)?;
    let name = row.names.first().copied().unwrap_or_default();
    let mut command = Command { verb: row.verb, arguments: Vec::new(), switches: Vec::new() };
    let mut ended = false;
    // A switch that takes the words that follow it, and how many it still takes.
    let mut pairs: Option<(&'static str, usize)> = None;
    for word in given {
        let is_switch = !ended && word.len() > 1 && word.starts_with('-');
        if word == "--" && !ended {
            ended = true;
            pairs = None;
        } else if is_switch {
            pairs = switch(row, name, &word, &mut command)?;
        } else if let Some((switch, left)) = pairs {
            command.switches.push((switch, Some(word)));
            pairs = (left > 1).then(|| (switch, left - 1));
        } else {
            command.arguments.push(word);
        }
    }
    let (least, most) = row.arguments;
    if command.arguments.len() < least {
        return Err(bad(format!("'{name}' needs {least} argument{}", if least == 1 { "" } else { "s" })));
    }
    if let Some(extra) = command.arguments.get(most) {
        return Err(bad(format!("'{name}' takes no argument '{extra}'")));
    }
    Ok(Some(command))
}

fn switch(
    row: &'static Row,
    command_name: &str,
    word: &str,
    command: &mut Command,
) -> Result<Option<(&'static str, usize)>> {
    let body = word.get(1..).unwrap_or_default();
    let (name, value) = match body.split_once(['=', ':']) {
        Some((name, value)) => (name, Some(value.to_string())),
        None => (body, None),
    };
    let (name, count) = match name.split_once('[') {
        Some((name, count)) => (name, count.strip_suffix(']').and_then(|n| n.parse::<usize>().ok())),
        None => (name, None),
    };
    let lower = name.to_ascii_lowercase();
    let found = row.switches.iter().find(|(n, _)| *n == lower);
    let (name, takes) = *found.ok_or_else(|| bad(format!("'{command_name}' has no switch '-{name}'")))?;
    match (takes, value) {
        (Nothing, Some(_)) => Err(bad(format!("the switch '-{name}' takes no value"))),
        (Value, None) => Err(bad(format!("the switch '-{name}' needs a value: -{name}=…"))),
        (Pairs, Some(_)) => Err(bad(format!("the switch '-{name}' is followed by 'name=value' words"))),
        (Pairs, None) => Ok(Some((name, count.unwrap_or(usize::MAX))).filter(|(_, n)| *n > 0)),
        (_, value) => {
            command.switches.push((name, value));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Command {
        parse(line).unwrap_or_else(|e| panic!("{line}: {e}")).unwrap()
    }

    #[test]
    fn names_aliases_and_what_is_cut_short() {
        for (line, verb) in [
            ("get a", Verb::Get),
            ("RECV a", Verb::Get),
            ("mget a", Verb::Get),
            ("send a", Verb::Put),
            ("bye", Verb::Exit),
            ("dir", Verb::Ls),
            ("rename a b", Verb::Mv),
            ("symlink a b", Verb::Ln),
            ("sync local", Verb::Synchronize),
            ("keep", Verb::KeepUpToDate),
            ("opt batch on", Verb::Option),
            ("asc", Verb::Ascii),
            ("!ls -l", Verb::Call),
            ("man", Verb::Help),
            ("  \tpwd", Verb::Pwd),
        ] {
            assert_eq!(one(line).verb, verb, "{line}");
        }
        assert!(row("re").unwrap_err().to_string().contains("may mean"));
        for empty in ["", "  ", "; get", "# get", "  # x"] {
            assert_eq!(parse(empty).unwrap(), None, "{empty}");
        }
    }

    #[test]
    fn switches_and_arguments() {
        let c = one("get -delete \"-filemask=*.a; *.b\" /x/* -Speed:10 \"d:\\my files\\\"");
        assert_eq!(c.arguments, ["/x/*", "d:\\my files\\"]);
        assert_eq!(
            (c.has("delete"), c.switch("filemask"), c.switch("speed")),
            (true, Some(Some("*.a; *.b")), Some(Some("10")))
        );
        let c = one("put -preservetime -preservetime=all -- -odd -");
        assert_eq!((c.switch("preservetime"), c.arguments.join("|")), (Some(Some("all")), "-odd|-".into()));
        let c = one("open sftp://h -rawsettings A=1 B=x=y -hostkey=\"ssh-rsa 2048 x\"");
        assert_eq!(c.pairs("rawsettings").unwrap(), [("A", "1"), ("B", "x=y")]);
        assert_eq!(
            (c.arguments.join(""), c.switch("hostkey")),
            ("sftp://h".into(), Some(Some("ssh-rsa 2048 x")))
        );
        let c = one("get -rawtransfersettings[1] A=1 file");
        assert_eq!(
            (c.pairs("rawtransfersettings").unwrap(), c.arguments.join("")),
            (vec![("A", "1")], "file".into())
        );
        assert_eq!(one("echo  -a \"b\"").arguments, ["-a \"b\""]);
        assert_eq!(one("call ls -l").arguments, ["ls -l"]);
        assert_eq!(one("get -").arguments, ["-"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("nonsense", "'nonsense'"),
            ("get", "needs 1 argument"),
            ("get -color a", "'-color'"),
            ("get -delete=1 a", "no value"),
            ("get -speed a", "needs a value"),
            ("pwd x", "'x'"),
            ("call", "needs an argument"),
            ("get \"a", "quote"),
            ("lcd a b", "'b'"),
        ] {
            let e = parse(line).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(e.to_string().contains(word), "{line}: {e}");
        }
        let c = one("open h -rawsettings A");
        assert!(c.pairs("rawsettings").is_err());
    }

    #[test]
    fn every_command_has_one_row() {
        let mut names: Vec<_> = TABLE.iter().flat_map(|r| r.names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_stumble(line in "(get|put|open|opt|call|!|x)?[ a-z\"=:\\[\\]0-9;#-]{0,40}") {
            let _ = parse(&line);
        }
    }
}
