//! Kinds of errors and reply codes, both ways.
