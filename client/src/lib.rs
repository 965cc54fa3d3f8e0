//! The client library and the CLI `ferry`.
