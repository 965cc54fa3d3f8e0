//! Policies: interceptors that refuse or slow down what an account may not do.
//!
//! They look only at the operation; what they refuse never reaches the store. In a chain they stand
//! before user code.
pub mod filters;
pub mod permissions;
pub mod read_only;
pub mod throttle;

pub use filters::{Filter, Filters, Pattern};
pub use permissions::{Permission, PermissionSet, Permissions, Rule};
pub use read_only::ReadOnly;
pub use throttle::Throttle;
