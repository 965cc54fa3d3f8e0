//! The batch engine: plan (walk the source), run (bounded concurrency), report.
//!
//! There is no local side: a transfer has a source and a target, both guarded filesystems. Every file
//! ends whole or not at all where the target allows it; success means at least that the sizes agree, and a
//! receipt says what else was seen. A file that was interrupted is continued: in the same run after the
//! connection was lost, in a later one by its temporary file and the job's journal.

mod bin;
mod copy;
mod directories;
mod given;
mod limit;
mod links;
mod part;
mod pump;
mod queue;
mod relocate;
mod run;
mod segments;
mod single;
mod stream;
mod tracker;
mod verify;

pub(crate) use bin::recycle;
pub use copy::throw_away;
pub use limit::Limiter;
pub use run::{Batch, Job};
pub(crate) use segments::Segment;
pub(crate) use stream::{Flow, write as write_stream};
pub use tracker::Tracker;
