//! WebDAV, client and server half (RFC 4918).
//!
//! Not begun: nothing stands here yet.
