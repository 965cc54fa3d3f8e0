//! What tests of protocols share: a site over a store, and HTTP by the byte, on both ends.
//!
//! Only for tests: it panics where a test would, and promises nothing to anybody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(feature = "http")]
pub mod http;
mod site;

use std::time::Duration;

pub use site::{Notes, TestSite, tls};

use crate::path::VPath;

/// Longer than anything in a test takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An absolute path.
pub fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// Waits until it is `done`, which is `what` there is to wait for. Panics where that takes too long.
pub async fn until(what: &str, done: impl Fn() -> bool) {
    let waits = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
