//! Bytes and what they mean: header fields and XML bodies, both ways.

pub mod multistatus_reader;
