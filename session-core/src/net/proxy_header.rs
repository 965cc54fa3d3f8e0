//! The PROXY protocol, versions 1 and 2: who really connected, told by a proxy that is trusted.
