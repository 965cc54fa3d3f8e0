//! Bytes and what they mean: header fields and XML bodies, both ways.

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
