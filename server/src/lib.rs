//! The server library and the daemon `ferryd`.
pub mod config;
pub mod users;
