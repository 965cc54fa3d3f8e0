//! Bytes and what they mean: commands one way, replies the other.

pub mod command;
pub mod fuzz;
pub mod line;
pub mod reply;
pub mod reply_parser;
