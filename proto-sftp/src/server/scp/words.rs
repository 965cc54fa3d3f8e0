//! A command line as a shell would read it, without a shell: words, quotes, patterns of names.
//!
//! Promises: linear time, no expansion but of `~` at the beginning and of `* ? [ ]` outside quotes.
//! Whatever would make a shell do more (`$`, backquotes, `;`, `|`, `&`, redirections, line ends) is
//! refused outside quotes, and inside double quotes where a shell would look at it there.
//!
//! Deliberately absent: braces, variables, other users' homes. Source: POSIX.1-2017, Shell Command
//! Language, 2.2 (quoting) and 2.13 (patterns).

/// The longest command line.
pub(super) const MAX_COMMAND: usize = 64 * 1024;

/// A word; of each byte it is known whether it stood outside quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(Vec<(u8, bool)>);

/// Takes a command line apart. Errors: what is wrong with it, in words.
pub(super) fn split(line: &[u8]) -> Result<Vec<Word>, &'static str> {
    const SPECIAL: &[u8] = b"$`;|&<>()\n\0";
    if line.len() > MAX_COMMAND {
        return Err("the command is too long");
    }
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if matches!(byte, b' ' | b'\t') {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match byte {
            b'\'' => loop {
                match bytes.next().ok_or("a quote has no end")? {
                    b'\'' => break,
                    inner => word.0.push((inner, false)),
                }
            },
            b'"' => loop {
                match bytes.next().ok_or("a quote has no end")? {
                    b'"' => break,
                    b'$' | b'`' => return Err("there is no shell here: nothing is expanded"),
                    b'\\' => {
                        let next = bytes.next().ok_or("a quote has no end")?;
                        if !matches!(next, b'"' | b'\\' | b'$' | b'`') {
                            word.0.push((b'\\', false));
                        }
                        word.0.push((next, false));
                    }
                    inner => word.0.push((inner, false)),
                }
            },
            b'\\' => word.0.push((bytes.next().ok_or("a backslash at the end")?, false)),
            _ if SPECIAL.contains(&byte) => return Err("there is no shell here: one plain command only"),
            _ => word.0.push((byte, true)),
        }
    }
    words.extend(word);
    Ok(words)
}

impl Word {
    /// Its bytes, quotes taken away.
    pub(super) fn text(&self) -> Vec<u8> {
        self.0.iter().map(|(byte, _)| *byte).collect()
    }

    /// Whether it stands for several names.
    pub(super) fn is_pattern(&self) -> bool {
        self.0.iter().any(|(byte, live)| *live && matches!(byte, b'*' | b'?' | b'['))
    }

    /// The word without `~` or `~/` at its beginning, and whether it had one: then it begins at home.
    /// Errors: another user's home.
    pub(super) fn tilde(mut self) -> Result<(Self, bool), &'static str> {
        if self.0.first() != Some(&(b'~', true)) {
            return Ok((self, false));
        }
        if self.0.get(1).is_some_and(|(byte, _)| *byte != b'/') {
            return Err("other users' homes have no name here");
        }
        self.0.drain(..self.0.len().min(2));
        Ok((self, true))
    }

    /// Its segments between slashes, and whether it begins with one.
    pub(super) fn segments(&self) -> (Vec<Word>, bool) {
        let rooted = self.0.first().is_some_and(|(byte, _)| *byte == b'/');
        let parts = self.0.split(|(byte, _)| *byte == b'/').filter(|part| !part.is_empty());
        (parts.map(|part| Word(part.to_vec())).collect(), rooted)
    }

    /// Whether `name` is one of those that the pattern stands for. A dot at the beginning is matched by a
    /// dot alone.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        if name.first() == Some(&b'.') && self.0.first().is_none_or(|(byte, _)| *byte != b'.') {
            return false;
        }
        let (mut at, mut from) = (0, 0);
        // Where the last star stands, and how much it has taken: the only thing ever to be undone.
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = name.get(from) {
            if self.0.get(at) == Some(&(b'*', true)) {
                star = Some((at, from));
                at += 1;
            } else if let Some(width) = self.one(at, *byte) {
                at += width;
                from += 1;
            } else if let Some((pattern, taken)) = star {
                star = Some((pattern, taken + 1));
                (at, from) = (pattern + 1, taken + 1);
            } else {
                return false;
            }
        }
        self.0.iter().skip(at).all(|c| *c == (b'*', true))
    }

    /// How long the part of the pattern at `at` is that takes this one byte.
    fn one(&self, at: usize, byte: u8) -> Option<usize> {
        match self.0.get(at)? {
            (b'?', true) => Some(1),
            (b'[', true) => match self.class(at, byte) {
                Some((inside, width)) => inside.then_some(width),
                // A bracket that is never closed is itself.
                None => (byte == b'[').then_some(1),
            },
            (literal, _) => (*literal == byte).then_some(1),
        }
    }

    /// Whether a bracket expression holds the byte, and its length.
    fn class(&self, at: usize, byte: u8) -> Option<(bool, usize)> {
        let mut i = at + 1;
        let negated = matches!(self.0.get(i), Some((b'!' | b'^', true)));
        i += usize::from(negated);
        let first = i;
        let mut inside = false;
        loop {
            let (low, live) = *self.0.get(i)?;
            if low == b']' && live && i > first {
                return Some((inside != negated, i + 1 - at));
            }
            let range = self.0.get(i + 1) == Some(&(b'-', true));
            let high = self.0.get(i + 2).filter(|(high, live)| range && !(*high == b']' && *live));
            if let Some((high, _)) = high {
                inside |= (low..=*high).contains(&byte);
                i += 3;
            } else {
                inside |= low == byte;
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line.as_bytes()).unwrap().iter().map(|w| String::from_utf8(w.text()).unwrap()).collect()
    }

    fn word(line: &str) -> Word {
        split(line.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn quotes_are_a_shells() {
        assert_eq!(texts("scp -p  -t '/a b'"), ["scp", "-p", "-t", "/a b"]);
        assert_eq!(texts(r#"a\ b "c \" d" 'e'"'"'f' ''"#), ["a b", "c \" d", "e'f", ""]);
        assert_eq!(texts(r#""a\nb" 'a;b|$c`d'"#), ["a\\nb", "a;b|$c`d"]);
        assert_eq!(texts(r#""\$HOME" \$x \;"#), ["$HOME", "$x", ";"]);
        assert_eq!(texts(""), Vec::<String>::new());
    }

    #[test]
    fn what_a_shell_would_do_is_refused() {
        for line in [
            "a;b", "a|b", "a&", "$x", "\"$x\"", "`x`", "\"`x`\"", "a>b", "a<b", "(a)", "a\nb", "'a", "\"a",
            "a\\",
        ] {
            assert!(split(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(split(&[b'a'; MAX_COMMAND + 1]).is_err());
    }

    #[test]
    fn patterns_are_matched() {
        for (pattern, name, wanted) in [
            ("*.txt", "a.txt", true),
            ("*.txt", ".txt", false),
            (".*", ".txt", true),
            ("*", "a", true),
            ("*", ".a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("?", "", false),
            ("?b", "ab", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("'[a]'", "[a]", true),
            ("'[a]'", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(word(pattern).matches(name.as_bytes()), wanted, "{pattern} {name}");
        }
        // What would take for ever in a matcher that tries everything.
        let pattern = word(&"a*".repeat(40));
        assert!(!pattern.matches(format!("{}b", "a".repeat(200)).replace('a', "c").as_bytes()));
        assert!(!word(&format!("{}b", "*a".repeat(40))).matches("a".repeat(5000).as_bytes()));
    }

    #[test]
    fn a_tilde_is_home_only_where_a_shell_says_so() {
        let home =
            |line: &str| word(line).tilde().map(|(w, home)| (String::from_utf8(w.text()).unwrap(), home));
        assert_eq!(home("~"), Ok((String::new(), true)));
        assert_eq!(home("~/a"), Ok(("a".to_owned(), true)));
        assert_eq!(home("a~"), Ok(("a~".to_owned(), false)));
        assert_eq!(home("'~'/a"), Ok(("~/a".to_owned(), false)));
        assert!(home("~root/a").is_err());
    }
}
