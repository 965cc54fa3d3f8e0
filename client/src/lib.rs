//! The client library of Ferry: open a place by URL, copy between any two, ask what must be asked.
//!
//! What is opened is a guarded filesystem ([`connect::Connected`]); there is no local side: a transfer has a
//! source and a target. The CLI `ferry` is [`cli`]; it uses nothing that a program could not use.
//!
//! [`session`] is WinSCP's `Session` over that, [`script`] its scripts; [`sync`] compares and synchronises trees,
//! [`watch`] keeps them alike, [`mask`] chooses files, [`sites`] keeps how servers are opened; `hooks` asks scripts.

pub mod batch;
#[cfg(feature = "blocking")]
pub mod blocking;
pub mod cli;
pub mod connect;
pub mod encrypted;
pub mod hash;
#[cfg(feature = "hooks")]
pub mod hooks;
pub mod jobs;
pub mod journal;
pub mod live;
pub mod log;
pub mod mask;
pub mod pooled;
pub mod reconnect;
pub mod script;
pub mod session;
pub mod sites;
pub mod sync;
pub mod url;
pub mod watch;

/// The code of the pages for those who come from elsewhere compiles.
#[cfg(all(doctest, feature = "blocking", feature = "ftp", feature = "sftp", feature = "webdav"))]
mod migrate {
    #[doc = include_str!("../../docs/migrate/opendal.md")]
    struct OpenDal;
    #[doc = include_str!("../../docs/migrate/paramiko.md")]
    struct Paramiko;
    #[doc = include_str!("../../docs/migrate/remotefs.md")]
    struct RemoteFs;
    #[doc = include_str!("../../docs/migrate/ssh2.md")]
    struct Ssh2;
    #[doc = include_str!("../../docs/migrate/suppaftp.md")]
    struct SuppaFtp;
    #[doc = include_str!("../../docs/migrate/winscp-dotnet.md")]
    struct WinScp;
}
