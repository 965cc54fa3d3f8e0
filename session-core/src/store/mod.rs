//! The stores: filesystems that keep bytes themselves, without a network.

#[cfg(feature = "local")]
pub mod local;
pub mod memory;
#[cfg(feature = "portable")]
pub mod portable;
