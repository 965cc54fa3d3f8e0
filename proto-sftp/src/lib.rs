//! SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions: both halves of the protocol.
//!
//! - [`wire`]: bytes ↔ packets, always built, no SSH, no runtime. Fuzz targets depend on it alone.
//! - [`status`]: kinds of errors ↔ status codes, decided there and nowhere else.
//! - `client` (feature `client`): a pure machine, its driver, and a remote filesystem over them.
//! - `server` (feature `server`): a pure machine and the driver that runs it over a guarded filesystem.
//!
//! `PROTOCOL.md` says which extensions are there and where we deviate. Of SCP, which also runs over SSH, the halves
//! stand in `server::scp` and `client::scp`.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "client", feature = "server"))]
pub mod ssh;
pub mod status;
pub mod wire;
