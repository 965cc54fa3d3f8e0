//! SFTP version 3 on the wire: bytes ↔ packets, both directions, bounds checked; and SCP ([`scp`], [`fetch`], [`ls`]).
//!
//! Promises: decoding borrows from the frame (names, DATA and WRITE content are slices of the input,
//! never copies), never panics, and allocates no more than a small multiple of the frame. Names are
//! bytes. What follows the last field of a packet is ignored (newer peers add fields).
//!
//! Deliberately absent: paths (parsed at the machine's edge), what a packet means, versions above 3.
//! Standard: draft-ietf-secsh-filexfer-02; extensions as named in [`extension`].

pub mod attrs;
pub mod codec;
pub mod extension;
pub mod fetch;
pub mod fuzz;
pub mod longname;
pub mod ls;
pub mod packet;
pub mod scp;

pub use attrs::Attrs;
pub use codec::{Frames, MAX_FRAME, Malformed};
pub use extension::{Extended, Extension, Extensions, Limits, Statvfs};
pub use packet::{FromClient, FromServer, Init, Name, Reply, Request, Version};
pub use russh_sftp::protocol::{OpenFlags, StatusCode};
