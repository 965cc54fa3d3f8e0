//! TLS of a client: whose certificates are believed.
