//! What tests of protocols share: a site over a store, and HTTP by the byte, on both ends.
//!
//! Only for tests: it panics where a test would, and promises nothing to anybody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(feature = "http")]
pub mod http;
mod site;

use std::path::Path;
use std::time::Duration;

pub use site::{Notes, Running, TestSite, tls};

use crate::path::VPath;

/// Longer than anything in a test takes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An absolute path.
pub fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// What takes any bytes and must return.
pub type Target = fn(&[u8]);

/// Gives every file of the corpus of each target to it, whole and cut everywhere. Panics where a target has no files
/// of its name below the folder.
pub fn survives(corpus: &Path, targets: &[(&str, Target)]) {
    for (name, target) in targets {
        let mut files = 0;
        for file in std::fs::read_dir(corpus.join(name)).unwrap() {
            let data = std::fs::read(file.unwrap().path()).unwrap();
            files += 1;
            for cut in 0..=data.len() {
                target(&data[..cut]);
            }
        }
        assert!(files >= 2, "{name}");
    }
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
