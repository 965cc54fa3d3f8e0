//! The flags of `uploads`.

use std::time::Duration;

use clap::Args;

/// `uploads`.
#[derive(Args)]
pub(super) struct Uploads {
    /// Only those that were begun so long ago, or of which nothing came for so long: 90s, 15m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = super::args::time_span)]
    pub(super) older: Option<Duration>,
    /// Throw them away, whoever began them
    #[arg(long, requires = "older")]
    pub(super) abort: bool,
    /// A bucket, or what lies below a path in it: s3://bucket/path; or all of a user of a Nextcloud:
    /// davs://host/remote.php/dav/files/USER
    #[arg(value_name = "PLACE")]
    pub(super) place: String,
}
