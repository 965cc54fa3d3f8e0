//! The model of Ferry: one session on both ends of a file transfer.
//!
//! What a client gets from a remote and what a server serves are the same [`fs::Filesystem`]. A
//! [`session::Session`] stands beside it and turns it into a [`gate::SessionFs`], the only thing that
//! engines accept: every operation passes the gate exactly once, and there hooks, policies, statistics
//! and events hang.
//!
//! ```text
//! wire bytes → machine → call → driver → SessionFs ─┬ before: limits → permissions → … → hooks
//!                                                   ├ Filesystem (disk, memory, a remote, a layer)
//!                                                   └ after (reverse): hooks · … · stats · events
//! ```
//!
//! This crate knows no protocol, no socket and no user database. Stores know no session; engines know
//! no store; only the gate knows both.
pub mod auth;
pub mod batch;
pub mod capability;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "digest")]
pub mod digest;
pub mod error;
pub mod event;
pub mod fs;
pub mod fs_ext;
pub mod gate;
pub mod history;
pub mod in_order;
#[cfg(any(feature = "local", feature = "script"))]
mod in_place;
pub mod intercept;
pub mod layer;
pub mod layers;
pub mod lease;
pub mod lifecycle;
pub mod locks;
pub mod media_type;
pub mod metadata;
#[cfg(feature = "dial")]
pub mod net;
pub mod operation;
pub mod path;
pub mod policy;
pub mod reason;
pub mod registry;
#[cfg(feature = "script")]
pub mod script;
pub mod session;
pub mod shell;
pub mod store;
pub mod talk;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trust;
pub mod verdict;
