//! Command-line flags, taken by name and type; what is left over at the end is an error.
//!
//! `--name value` and `--name=value` are the same. No clap here: it would triple the time until the
//! first command of a cold machine runs.

use std::str::FromStr;

use crate::fault::{Result, While, bail};

/// The words after `cargo xtask`, from which a command takes what it knows.
#[derive(Debug)]
pub(crate) struct Flags {
    words: Vec<String>,
}

impl Flags {
    pub(crate) fn from_env() -> Self {
        Self::new(std::env::args().skip(1))
    }

    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self { words: words.into_iter().collect() }
    }

    /// Takes the switch `name`; true if it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// Takes `name VALUE`, parsed. Errors: no value, twice, or not of the type.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>>
    where
        T::Err: std::fmt::Display,
    {
        let prefix = format!("{name}=");
        let Some(at) = self.words.iter().position(|word| word == name || word.starts_with(&prefix)) else {
            return Ok(None);
        };
        let word = self.words.remove(at);
        let text = match word.strip_prefix(&prefix) {
            Some(text) => text.to_owned(),
            None if self.words.get(at).is_some_and(|next| !next.starts_with("--")) => self.words.remove(at),
            None => bail!("{name} needs a value"),
        };
        if self.words.iter().any(|word| word == name || word.starts_with(&prefix)) {
            bail!("{name} is given twice");
        }
        text.parse().map(Some).doing(|| format!("{name} {text}"))
    }

    /// Takes `name A,B,…`; empty if absent.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<String>> {
        let text: Option<String> = self.value(name)?;
        Ok(text
            .iter()
            .flat_map(|text| text.split(','))
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// Takes the first word that is no flag. Ask for it before [`Flags::value`] only where it is first.
    pub(crate) fn positional(&mut self) -> Option<String> {
        let first = self.words.first()?;
        if first.starts_with("--") {
            return None;
        }
        Some(self.words.remove(0))
    }

    /// Says that everything has been taken. Errors: a word nobody knows.
    pub(crate) fn end(self) -> Result<()> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => bail!("`{word}` is not known here; `--help` tells what is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &str) -> Flags {
        Flags::new(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn values_come_typed_in_both_forms() {
        let mut flags = flags("wire --seconds 5 --only=a,b --quick");
        assert_eq!(flags.positional().as_deref(), Some("wire"));
        assert_eq!(flags.value::<u64>("--seconds").unwrap(), Some(5));
        assert_eq!(flags.list("--only").unwrap(), ["a", "b"]);
        assert!(flags.flag("--quick"));
        assert!(!flags.flag("--quick"));
        flags.end().unwrap();
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(flags("--seconds").value::<u64>("--seconds").is_err());
        assert!(flags("--seconds --quick").value::<u64>("--seconds").is_err());
        assert!(flags("--seconds x").value::<u64>("--seconds").is_err());
        assert!(flags("--seconds 1 --seconds 2").value::<u64>("--seconds").is_err());
        assert!(flags("--sceonds 1").end().is_err());
    }
}
