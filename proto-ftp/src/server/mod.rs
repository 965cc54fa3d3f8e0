//! The server half.
