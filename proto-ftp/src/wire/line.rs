//! Lines from a stream: bounded, Telnet bytes removed.
