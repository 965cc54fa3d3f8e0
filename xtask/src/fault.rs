//! The error of this program: one sentence for a person, with what was tried in front of the cause.
//!
//! No kinds: nobody here decides by them, everything ends at the terminal.

use std::fmt;

/// A sentence that says what could not be done and why.
#[derive(Debug)]
pub(crate) struct Fault(String);

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Puts what was tried in front of a cause.
pub(crate) trait While<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> While<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Fault(format!("{}: {cause}", what())))
    }
}

/// Ends the function with a [`Fault`] made by `format!`.
macro_rules! bail {
    ($($words:tt)*) => { return Err($crate::fault::Fault::new(format!($($words)*))) };
}

/// Ends the function with a [`Fault`] unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($words:tt)*) => { if !$holds { $crate::fault::bail!($($words)*) } };
}

pub(crate) use {bail, ensure};
