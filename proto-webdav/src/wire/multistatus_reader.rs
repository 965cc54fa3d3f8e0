//! Reads a multistatus body (RFC 4918, section 13).
