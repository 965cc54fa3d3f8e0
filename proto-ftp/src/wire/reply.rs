//! Replies: a code and lines of text (RFC 959, section 4.2).
