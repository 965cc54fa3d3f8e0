//! The edge to SSH, both ends, on russh: what stands between a socket and the bytes of SFTP.
//!
//! - [`listen`] (feature `server`): accepts, supervises and ends connections; [`auth`] maps SSH's login
//!   to [`session_core::auth::Login`]; [`hostkey`] loads and makes host keys.
//! - [`mod@connect`] (feature `client`): reaches a server, trusts it ([`known_hosts`]), logs in ([`keys`],
//!   [`keyfile`]), as [`options`] say, which a configuration file may fill ([`config`]).
//! - [`stream`], [`channel`], [`algorithms`]: what both ends share.
//!
//! Two rules hold everywhere. The transport is a stream of ours that can be cut at any instant, because
//! russh's own disconnect waits for the peer. And a channel is always drained by a task of its own that
//! never waits for a write, because russh delivers window grants through the same queue as data.
//!
//! Deliberately absent: shells, commands, forwarding of agents and displays, compression; of forwarding
//! ports there is what a client needs to reach a server over another.
//! RFC 4251 to 4254, 4256, 8308, 8332; OpenSSH's `PROTOCOL` and `PROTOCOL.certkeys`.

pub mod algorithms;
#[cfg(feature = "server")]
pub mod auth;
pub mod channel;
#[cfg(feature = "client")]
pub mod config;
#[cfg(feature = "client")]
pub mod connect;
#[cfg(feature = "client")]
pub mod exec;
#[cfg(feature = "server")]
mod greeting;
#[cfg(feature = "server")]
mod handler;
#[cfg(feature = "server")]
pub mod hostkey;
#[cfg(feature = "client")]
pub mod keyfile;
#[cfg(feature = "client")]
pub mod keys;
#[cfg(feature = "client")]
pub mod known_hosts;
#[cfg(feature = "server")]
pub mod listen;
#[cfg(feature = "client")]
mod login;
#[cfg(feature = "client")]
pub mod options;
#[cfg(feature = "client")]
mod route;
pub mod stream;
#[cfg(feature = "client")]
mod trust;

pub use algorithms::Algorithms;
pub use channel::{ChannelReader, ChannelWriter};
#[cfg(feature = "client")]
pub use connect::{ConnectOptions, HostKeyPolicy, SshConnection, connect};
#[cfg(feature = "server")]
pub use hostkey::HostKeys;
#[cfg(feature = "server")]
pub use listen::{SshServer, SshServerOptions};
