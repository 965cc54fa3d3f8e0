//! Bytes and texts of S3's own, without any I/O: bodies in chunks, forms, and who signed what.
//!
//! XML, routes and the signatures themselves are the library's.

pub mod chunked;
pub mod form;
pub mod fuzz;
pub mod signing;
