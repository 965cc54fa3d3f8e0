//! Bytes and what they mean: header fields and XML bodies, both ways.

/// What `DAV` says where properties that are set are kept: a class of our own (RFC 4918, section 10.1).
pub const KEEPS_PROPERTIES: &str = "urn:ferry:dav:properties";

pub mod conditions;
pub mod date;
pub mod depth;
pub mod digest;
pub mod fuzz;
pub mod href;
pub mod if_header;
pub mod lock;
pub mod multistatus;
pub mod multistatus_reader;
pub mod propfind;
pub mod proppatch;
pub mod range;
pub mod xml;
