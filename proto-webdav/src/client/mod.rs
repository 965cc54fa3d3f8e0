//! The client half: [`WebdavRemote`], a [`session_core::fs::Filesystem`] over WebDAV.
//!
//! - `place`: paths and the URLs that stand for them. Pure. `challenge`: what a server asks for. Pure.
//! - `lines`, `stream`, `body`: connections with HTTP/1.1 or HTTP/2, and what moves over them.
//! - `login`, `call`: who we are, and one request with its redirects and its answer to a challenge.
//! - `props`, `kept`, `refine`: properties as metadata, properties that are kept, status codes as errors.
//! - [`remote`]: the filesystem; `list`, `read`, `write` are its parts, `chunks` an upload in many.
//!   `locks`: what it has beside files.
//!
//! What of the HTTP and WebDAV libraries is used, and why not more, stands in `PROTOCOL.md`.

mod body;
mod call;
mod challenge;
mod chunks;
mod kept;
mod lines;
mod list;
mod locks;
mod login;
pub mod options;
mod place;
mod props;
mod read;
mod refine;
pub mod remote;
mod scan;
mod write;

pub use chunks::Pending;
pub use locks::KeptLock;
pub use options::{SetTimes, WebdavConnectOptions};
pub use remote::{WebdavRemote, connect};
pub use scan::certificate_of;
