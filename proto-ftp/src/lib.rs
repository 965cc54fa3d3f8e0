//! FTP and FTPS, client and server half (RFC 959, 2228, 2389, 2428, 3659, 4217).
//!
//! Not begun: nothing stands here yet.
