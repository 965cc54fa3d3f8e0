//! The commands that are built in: `scp` and the sums, with the options that clients send.
//!
//! Promises: an option that is not known is refused by name; nothing else is ever run.

use session_core::fs::Algorithm;

use super::words::{Word, split};

/// What `scp` was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// `-r`: trees too.
    pub(super) recursive: bool,
    /// `-p`: times and modes are kept.
    pub(super) preserve: bool,
    /// `-d`: the target is a directory.
    pub(super) directory: bool,
}

/// A command that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `scp -t`: the client sends.
    Sink(Flags, Word),
    /// `scp -f`: the client fetches.
    Source(Flags, Vec<Word>),
    /// `md5sum` and its kin: a line for each file, or for what the client sends.
    Sums(Algorithm, &'static str, Vec<Word>),
}

const SUMS: [(&str, Algorithm); 6] = [
    ("b3sum", Algorithm::Blake3),
    ("md5sum", Algorithm::Md5),
    ("sha1sum", Algorithm::Sha1),
    ("sha256sum", Algorithm::Sha256),
    ("sha384sum", Algorithm::Sha384),
    ("sha512sum", Algorithm::Sha512),
];

/// Reads a command line. Errors: why it is not run, in words.
pub(super) fn parse(line: &[u8]) -> Result<Command, String> {
    let words = split(line)?;
    let mut words = words.into_iter();
    let name = words.next().map(|w| w.text()).unwrap_or_default();
    let (mut options, mut operands, mut ended) = (Vec::new(), Vec::new(), false);
    for word in words {
        let text = word.text();
        if !ended && text == b"--" {
            ended = true;
        } else if !ended && text.len() > 1 && text.first() == Some(&b'-') {
            options.push(text);
        } else {
            operands.push(word);
        }
    }
    if name == b"scp" {
        return scp(&options, operands);
    }
    let sum = SUMS.iter().find(|(known, _)| known.as_bytes() == name);
    let Some((name, algorithm)) = sum else {
        return Err("this server offers SFTP, SCP and checksums, and no other command".to_owned());
    };
    // Binary or text is the same to us, as it is to GNU's.
    let other = options.iter().find(|o| !matches!(o.as_slice(), b"-b" | b"--binary" | b"-t" | b"--text"));
    if let Some(other) = other {
        return Err(unknown(name, other));
    }
    Ok(Command::Sums(*algorithm, name, operands))
}

fn unknown(name: &str, option: &[u8]) -> String {
    format!("{name}: the option {} is not known", session_core::path::display_bytes(option))
}

fn scp(options: &[Vec<u8>], mut operands: Vec<Word>) -> Result<Command, String> {
    let mut flags = Flags::default();
    let (mut sink, mut source) = (false, false);
    for option in options {
        for letter in option.iter().skip(1) {
            match letter {
                b'r' => flags.recursive = true,
                b'p' => flags.preserve = true,
                b'd' => flags.directory = true,
                b't' => sink = true,
                b'f' => source = true,
                // Words for people, and none for us.
                b'v' | b'q' => {}
                _ => return Err(unknown("scp", option)),
            }
        }
    }
    match (sink, source, operands.len()) {
        (true, false, 1) => Ok(Command::Sink(flags, operands.remove(0))),
        (false, true, 1..) => Ok(Command::Source(flags, operands)),
        (true, false, _) => Err("scp: one target, please".to_owned()),
        (false, true, 0) => Err("scp: which file?".to_owned()),
        _ => Err("scp: only the other end of a copy runs here (-t or -f)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_understood() {
        // OpenSSH 9, `scp -O -rp`; PuTTY's pscp; WinSCP.
        let all = Flags { recursive: true, preserve: true, directory: true };
        for line in ["scp -r -p -d -t /x", "scp -v -r -p -d -t -- /x", "scp -rpdt /x"] {
            assert!(matches!(parse(line.as_bytes()), Ok(Command::Sink(flags, _)) if flags == all), "{line}");
        }
        let Ok(Command::Source(flags, files)) = parse(b"scp -p -f 'a b' c*") else { panic!() };
        assert!(flags.preserve && files.len() == 2 && files[1].is_pattern());
        let Ok(Command::Sums(Algorithm::Sha256, "sha256sum", files)) = parse(b"sha256sum -b -- -x") else {
            panic!()
        };
        assert_eq!(files[0].text(), b"-x");
        assert!(matches!(parse(b"md5sum"), Ok(Command::Sums(Algorithm::Md5, _, files)) if files.is_empty()));
    }

    #[test]
    fn nothing_else_is_run() {
        for line in [
            "",
            "ls",
            "bash -c scp",
            "/usr/bin/scp -t x",
            "scp",
            "scp a b",
            "scp -t",
            "scp -t a b",
            "scp -f",
            "scp -t -f x",
            "scp -S prog -t x",
            "scp -o x -t y",
            "md5sum -c x",
            "scp -t x; ls",
            "md5sum < x",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
    }
}
