//! Layers: filesystems around filesystems that change what exists or how it looks.
//!
//! What needs only the operation is an interceptor instead. Each layer is its struct, `inner()` and the
//! methods that it changes ([`crate::layer::Layer`]).
pub mod mounts;
pub mod pinned;
pub mod quota;
pub mod rooted;
pub mod staged;
