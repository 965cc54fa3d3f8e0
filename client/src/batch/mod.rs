//! The batch engine: plan (walk the source), run (bounded concurrency), report.
//!
//! There is no local side: a transfer has a source and a target, both guarded filesystems. Every file
//! ends whole or not at all where the target allows it; success means at least that the sizes agree.

mod copy;
mod run;
mod single;
mod tracker;

pub use run::{Batch, Job};
pub use tracker::Tracker;
