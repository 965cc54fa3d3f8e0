//! Kinds of errors and status codes, both ways (RFC 9110, section 15; RFC 4918, section 11).
