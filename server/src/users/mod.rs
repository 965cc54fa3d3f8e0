//! Who may log in: password hashes, public keys, and the directory of accounts.
pub mod digest;
pub mod directory;
pub(crate) mod external;
pub mod hours;
pub mod keys;
pub mod password;

pub use directory::Directory;
pub mod token;
pub mod totp;
