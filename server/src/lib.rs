//! The server library and the daemon `ferryd`.
