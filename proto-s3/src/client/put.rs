//! What goes to a store with content: options of writing as the SDK has them, parts, and trying again.
//!
//! A part is in memory and can be sent again; whoever streams a file to us could not repeat it. So a part that
//! the store did not take for want of time is sent again here, a few times, and the upload goes on.

use std::time::Duration;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedPart, ObjectCannedAcl, ServerSideEncryption, StorageClass};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use session_core::digest::Hasher;
use session_core::error::{Error, ErrorKind, Result, Retry};
use session_core::fs::Algorithm;
use session_core::media_type;

use super::about::Said;
use super::copy::no_id;
use super::options::Putting;
use super::store::Store;
use super::sums::{algorithm, how};

/// How often a part is sent.
const TRIES: u32 = 5;
/// How long is waited before the second try; doubled each time.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest wait that a store is granted.
const LONGEST: Duration = Duration::from_secs(30);

/// The smallest and the largest part (all but the last), bytes.
const SMALLEST: u64 = 5 << 20;
pub(super) const LARGEST: u64 = 5 << 30;
/// The most parts of an object.
const MOST: u64 = 10_000;
/// What the parts of one file may hold of memory, bytes, where they are not larger by themselves.
const BUDGET: u64 = 64 << 20;

/// Options of writing as the SDK has them.
pub(super) trait Put {
    fn class(&self) -> Option<StorageClass>;
    fn canned(&self) -> Option<ObjectCannedAcl>;
    fn sse(&self) -> Option<ServerSideEncryption>;
    fn tagging(&self) -> String;
    fn media_type(&self, key: &str) -> String;
    /// All of it but the tags, of a new object.
    fn said(&self, key: &str) -> Said;
}

impl Put for Putting {
    fn class(&self) -> Option<StorageClass> {
        self.storage_class.as_deref().map(StorageClass::from)
    }

    fn canned(&self) -> Option<ObjectCannedAcl> {
        self.acl.as_deref().map(ObjectCannedAcl::from)
    }

    fn sse(&self) -> Option<ServerSideEncryption> {
        let named = self.encryption.as_deref();
        // A key says which.
        named.or(self.kms_key.as_ref().map(|_| "aws:kms")).map(ServerSideEncryption::from)
    }

    fn tagging(&self) -> String {
        tagging(self.tags.iter().map(|(k, v)| (k, v)))
    }

    fn media_type(&self, key: &str) -> String {
        let name = key.rsplit('/').next().unwrap_or(key);
        self.content_type.clone().unwrap_or_else(|| media_type::of(name.as_bytes()).to_owned())
    }

    fn said(&self, key: &str) -> Said {
        Said {
            content_type: Some(self.media_type(key)),
            cache_control: self.cache_control.clone(),
            metadata: self.metadata.iter().cloned().collect(),
            class: self.class(),
            encryption: self.sse(),
            kms_key: self.kms_key.clone(),
            acl: self.canned(),
            ..Said::default()
        }
    }
}

/// Tags as a query, which is their form in a header.
pub(super) fn tagging<'a>(tags: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let all: Vec<_> = tags.map(|(k, v)| format!("{}={}", encoded(k), encoded(v))).collect();
    all.join("&")
}

/// Tells the sum of a request that every store knows; newer ones are told theirs besides.
pub(super) fn add_md5(request: &mut HttpRequest) {
    let sum = request.body().bytes().map(|body| {
        let mut hasher = Hasher::new(Algorithm::Md5);
        hasher.update(body);
        STANDARD.encode(hasher.finish())
    });
    if let Some(sum) = sum {
        request.headers_mut().insert("content-md5", sum);
    }
}

/// The size of a part. A file whose size is known has parts of one size, so that it has not too many; one of an
/// unknown size has larger ones the longer it grows.
pub(super) fn part_size(base: u64, known: Option<u64>, number: u64) -> u64 {
    let base = base.clamp(SMALLEST, LARGEST);
    let size = match known {
        Some(size) => base.max(size.div_ceil(MOST).next_multiple_of(1 << 20)),
        None if number <= MOST / 2 => base,
        None if number <= MOST / 5 * 4 => base * 4,
        None => base * 8,
    };
    size.min(LARGEST)
}

/// Whether an object may have a part of this number.
pub(super) fn is_part(number: u64) -> bool {
    (1..=MOST).contains(&number)
}

/// How many parts of this size may be on their way.
pub(super) fn at_a_time(parallel: usize, part: u64) -> usize {
    let fit = usize::try_from(BUDGET / part.max(1)).unwrap_or(1);
    parallel.min(fit).max(1)
}

/// How long to wait after this failure of the given try; `None` where another one does not help.
fn pause(e: &Error, tries: u32) -> Option<Duration> {
    let told = match e.retry() {
        Retry::Never => return None,
        Retry::Later(wait) => wait.unwrap_or_default(),
        Retry::AfterReconnect => Duration::ZERO,
    };
    (tries < TRIES).then(|| told.max(PAUSE * 2u32.pow(tries - 1)).min(LONGEST))
}

impl Store {
    /// Does it again where that can help. A pause ends with the session. Errors: those of the last try; of the pause,
    /// `Canceled` and `Closed`.
    pub(super) async fn again<T, F>(&self, work: impl Fn() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut tries = 1;
        loop {
            let e = match work().await {
                Ok(done) => return Ok(done),
                Err(e) => e,
            };
            let Some(pause) = pause(&e, tries) else { return Err(e) };
            self.lines.pause(pause).await?;
            tries += 1;
        }
    }

    /// Whether bodies go unsigned: under TLS nobody can change them, and a checksum of S3's kind costs less.
    pub(super) fn unsigned_bodies(&self) -> bool {
        self.options.secure
    }

    /// Sends one part, as often as it takes, of an upload that was begun with checksums or without.
    pub(super) async fn upload_part(
        &self,
        (bucket, key): (&str, &str),
        id: &str,
        number: i32,
        data: Bytes,
        summed: bool,
    ) -> Result<CompletedPart> {
        let send = |summed| {
            let data = &data;
            self.again(move || {
                self.call(Some(bucket), move |c| {
                    let asked = c
                        .upload_part()
                        .bucket(bucket)
                        .key(key)
                        .upload_id(id)
                        .part_number(number)
                        .set_checksum_algorithm(algorithm(summed))
                        .set_request_payer(self.payer())
                        .body(ByteStream::from(data.clone()))
                        .customize()
                        .config_override(how(summed));
                    let unsigned = self.unsigned_bodies();
                    async move { if unsigned { asked.disable_payload_signing() } else { asked }.send().await }
                })
            })
        };
        let (told, summed) = if summed { self.sums.sent(send).await? } else { (send(false).await?, false) };
        if summed {
            self.sums.learn(told.checksum_crc32());
        }
        let part = CompletedPart::builder()
            .part_number(number)
            .e_tag(told.e_tag().ok_or_else(no_id)?)
            .set_checksum_crc32(told.checksum_crc32().filter(|_| summed).map(str::to_owned));
        Ok(part.build())
    }

    /// Throws an upload away; one that is not there any more is fine.
    pub(super) async fn throw_away(&self, bucket: &str, key: &str, id: &str) -> Result<()> {
        match self.abort_upload(bucket, key, id).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            thrown => thrown,
        }
    }

    pub(super) async fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> Result<()> {
        self.call(Some(bucket), |c| {
            c.abort_multipart_upload()
                .bucket(bucket)
                .key(key)
                .upload_id(id)
                .set_request_payer(self.payer())
                .send()
        })
        .await
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_never_has_too_many_parts() {
        const MIB: u64 = 1 << 20;
        for size in [1, 5 * MIB, 80_000 * MIB - 1, 80_000 * MIB, 80_001 * MIB, 1 << 40, 5 << 40] {
            let part = part_size(8 * MIB, Some(size), 1);
            assert!(size.div_ceil(part) <= MOST && (SMALLEST..=LARGEST).contains(&part), "{size}: {part}");
            assert!((1..=8).contains(&at_a_time(8, part)));
        }
        assert_eq!(part_size(8 * MIB, Some(1 << 30), 1), 8 * MIB);
        assert_eq!(part_size(1, None, 1), SMALLEST);
        assert!(part_size(8 * MIB, None, 9_000) > part_size(8 * MIB, None, 6_000));
        assert!(is_part(1) && is_part(10_000) && !is_part(0) && !is_part(10_001));
        // What goes in parts of the usual size stays within the budget.
        assert!(at_a_time(100, 8 * MIB) as u64 * 8 * MIB <= BUDGET);
    }

    #[test]
    fn only_what_can_help_is_done_again() {
        let throttled = Error::new(ErrorKind::Throttled);
        assert_eq!(pause(&throttled, 1), Some(PAUSE));
        assert_eq!(pause(&throttled, TRIES - 1), Some(PAUSE * 8));
        assert_eq!(pause(&throttled, TRIES), None);
        let told = throttled.with_retry(Retry::Later(Some(Duration::from_secs(7))));
        assert_eq!(pause(&told, 1), Some(Duration::from_secs(7)));
        let endless = told.with_retry(Retry::Later(Some(Duration::from_secs(7000))));
        assert_eq!(pause(&endless, 1), Some(LONGEST));
        assert_eq!(pause(&Error::new(ErrorKind::Disconnected), 1), Some(PAUSE));
        assert_eq!(pause(&Error::new(ErrorKind::PermissionDenied), 1), None);
    }

    #[test]
    fn tags_are_a_query() {
        let tags = vec![("a b".to_owned(), "1&2".to_owned()), ("c".to_owned(), String::new())];
        assert_eq!(Putting { tags, ..Putting::default() }.tagging(), "a%20b=1%262&c=");
    }
}
