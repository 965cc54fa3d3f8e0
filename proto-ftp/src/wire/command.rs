//! Commands: a verb and its argument.
