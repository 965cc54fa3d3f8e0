//! TLS of a server: its certificates, made, loaded and exchanged while it runs.
