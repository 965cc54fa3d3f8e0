//! Who may log in: password hashes, public keys, and the directory of accounts.
pub mod keys;
pub mod password;
