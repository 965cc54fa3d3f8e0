//! S3, client and server half (the AWS S3 API over any filesystem).
//!
//! Not begun: nothing stands here yet.
