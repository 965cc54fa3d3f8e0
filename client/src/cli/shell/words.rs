//! Lines of the shell as words: blanks set them apart, quotes and backslashes keep them together.
//!
//! Single quotes keep everything, double quotes everything but a backslash before `"`, `\`, `*`, `?`. A `*` or `?`
//! outside of quotes makes a word a pattern. Nothing is substituted.

use session_core::error::{Error, ErrorKind, Result};

/// A word of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// It has a `*` or a `?` that is meant as one.
    pub(super) wild: bool,
    /// Where it begins in the line, quotes and all.
    pub(super) start: usize,
}

/// What keeps what follows together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    Double,
    None,
    Single,
}

/// The words of a line; a line that begins with `#` has none. Errors: `InvalidArgument` for a quote that is not
/// closed.
pub(super) fn split(line: &str) -> Result<Vec<Word>> {
    match take(line) {
        (words, Quote::None) => Ok(words),
        _ => Err(Error::new(ErrorKind::InvalidArgument).with_detail("a quote is not closed")),
    }
}

/// The words of a line that is still being written, and whether the last one is.
pub(super) fn begun(line: &str) -> (Vec<Word>, bool) {
    let (words, quote) = take(line);
    let ends = line.ends_with(char::is_whitespace) && !line.ends_with("\\ ") && quote == Quote::None;
    (words, !ends && !line.is_empty())
}

fn take(line: &str) -> (Vec<Word>, Quote) {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<Word>, Quote::None);
    if line.trim_start().starts_with('#') {
        return (words, quote);
    }
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote == Quote::None && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| Word { start: at, ..Word::default() });
        match (quote, c) {
            (Quote::None, '\'') => quote = Quote::Single,
            (Quote::None, '"') => quote = Quote::Double,
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::None, '\\') => word.text.extend(chars.next().map(|(_, c)| c)),
            (Quote::Double, '\\') => match chars.next_if(|(_, c)| matches!(c, '"' | '\\')) {
                Some((_, c)) => word.text.push(c),
                None => word.text.push('\\'),
            },
            (Quote::None, '*' | '?') => {
                word.wild = true;
                word.text.push(c);
            }
            _ => word.text.push(c),
        }
    }
    words.extend(word);
    (words, quote)
}

/// A text as one word of a line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() || matches!(c, '\'' | '"' | '\\' | '*' | '?' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Whether a line may hold a secret, and so is not kept: a password in a URL, and what flags of that kind are given.
pub(super) fn holds_secret(line: &str) -> bool {
    let Ok(words) = split(line) else { return true };
    words.iter().any(|word| {
        let text = word.text.as_str();
        if text.starts_with("--") {
            let name = text.split('=').next().unwrap_or_default().to_ascii_lowercase();
            // A proxy's URL may have a password, too.
            return ["pass", "phrase", "proxy", "secret", "token"].iter().any(|s| name.contains(s));
        }
        let authority = text.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
        authority.and_then(|a| a.rsplit_once('@')).is_some_and(|(login, _)| login.contains(':'))
            || words.first().is_some_and(|w| w.text == "exec")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn words_are_as_in_a_shell() {
        assert_eq!(texts("  get a\\ b 'c d'\"e \\\"f\\x\" '' "), ["get", "a b", "c de \"f\\x", ""]);
        assert_eq!(texts("# get a"), Vec::<String>::new());
        assert_eq!(texts("a#b"), ["a#b"]);
        assert!(split("get 'a").is_err() && split("\"").is_err());
        let wild: Vec<bool> = split("*.txt '*.txt' \\*.txt a?").unwrap().iter().map(|w| w.wild).collect();
        assert_eq!(wild, [true, false, false, true]);
        assert_eq!(split("  a 'b c'").unwrap()[1].start, 4);
    }

    #[test]
    fn what_is_quoted_is_one_word_again() {
        for text in ["a", "a b", "it's", "\"x\"", "a\\b", "*?#", "tab\tnew\u{a0}"] {
            assert_eq!(texts(&format!("x{}", quoted(text))), [format!("x{text}")], "{text:?}");
        }
        assert!(split(&quoted("*")).unwrap().iter().all(|w| !w.wild));
    }

    #[test]
    fn secrets_are_told_from_other_words() {
        for line in [
            "open sftp://u:p@h/",
            "open sftp://u:p%40@h",
            "ls --password x sftp://h",
            "ls --password=x",
            "open 'sftp://u:p@h/",
            "open --proxy socks5://u:p@h:1 sftp://h",
            "exec mysql -psecret",
        ] {
            assert!(holds_secret(line), "{line}");
        }
        for line in ["open sftp://u@h:22/a:b@c", "get a:b", "ls -l", "open sftp://h/", "sync a b --state x"] {
            assert!(!holds_secret(line), "{line}");
        }
    }

    #[test]
    fn an_unfinished_line_has_an_unfinished_word() {
        assert!(begun("get a").1);
        assert!(!begun("get ").1);
        assert!(begun("get 'a ").1);
        assert!(!begun("").1);
    }
}
