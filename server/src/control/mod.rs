//! The control plane: HTTP and JSON, apart from every data listener.
//!
//! `paths` is the table of the API, `api` its answers; `serve` gives them over a Unix socket that belongs to
//! its owner alone (mode 0600), and `network`, where it is asked for, over TCP to who has a token. `client`
//! asks, `metrics` is the page for Prometheus, `commands` are the subcommands of `ferryd` that ask. The API is versioned by its paths.

mod api;
mod bans;
pub mod client;
pub mod commands;
mod entry;
mod lists;
mod metrics;
mod network;
mod nodes;
mod outbox;
mod paths;
mod quotas;
mod select;
mod serve;
pub mod table;
mod watch;

pub use api::ControlState;
pub(crate) use api::ask_desk;
pub use bans::{Bans, bans};
pub use lists::{Networks, networks};
pub use network::serve_network;
pub(crate) use nodes::Nodes;
pub use outbox::Outboxes;
pub(crate) use outbox::outbox;
pub use quotas::{Quota, quota};
pub use serve::serve;
