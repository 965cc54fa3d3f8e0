//! Whether uploads carry checksums of S3's kind (CRC-32): as the options say, or as the store shows.
//!
//! AWS takes them. Elsewhere some stores keep them, some leave them unread, and some refuse what they do not know,
//! in words of many kinds (`NotImplemented`, `InvalidArgument`, `XAmzContentSHA256Mismatch`). So the first thing
//! that is written is written with one; refused, it is sent once more without, and if it is taken then, nothing
//! that follows carries one. A store that does not repeat the checksum has not read it, and gets no more. What was
//! found out holds for the store, whatever the bucket, as long as the connection lasts; that it takes none is told, so
//! that the next connection may know it ([`Lack`]).
//!
//! Not here: checksums of what is read, which only AWS is asked for.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};

use aws_sdk_s3::config::{Builder, RequestChecksumCalculation};
use aws_sdk_s3::types::ChecksumAlgorithm;
use session_core::error::{Error, ErrorKind, Result};

use super::options::{Checksums, Lack, Learns};

const UNKNOWN: u8 = 0;
const TAKEN: u8 = 1;
const NOT_TAKEN: u8 = 2;

/// The checksum that something carries, where it carries one.
pub(super) fn algorithm(carried: bool) -> Option<ChecksumAlgorithm> {
    carried.then_some(ChecksumAlgorithm::Crc32)
}

/// What an operation that carries one, or none, changes of how its client is made.
pub(super) fn how(carried: bool) -> Builder {
    aws_sdk_s3::Config::builder().request_checksum_calculation(calculation(carried))
}

/// When the SDK computes them.
pub(super) fn calculation(carried: bool) -> RequestChecksumCalculation {
    match carried {
        true => RequestChecksumCalculation::WhenSupported,
        false => RequestChecksumCalculation::WhenRequired,
    }
}

/// What is known of a store.
pub(super) struct Sums {
    known: AtomicU8,
    learns: Learns,
}

impl Sums {
    /// By the options and what is known from before; `is_aws` is the store whose answer is known.
    pub(super) fn of(wanted: Checksums, is_aws: bool, lacks: &[Lack], learns: Learns) -> Self {
        let known = AtomicU8::new(match wanted {
            Checksums::Always => TAKEN,
            Checksums::Required => NOT_TAKEN,
            Checksums::Auto if is_aws => TAKEN,
            Checksums::Auto if lacks.contains(&Lack::Checksums) => NOT_TAKEN,
            Checksums::Auto => UNKNOWN,
        });
        Sums { known, learns }
    }

    /// Whether they are sure to be taken.
    pub(super) fn are_taken(&self) -> bool {
        self.known.load(Ordering::Relaxed) == TAKEN
    }

    /// What the store said of the checksum of something that it took. Only the first word counts: a store that
    /// takes them may leave one out of an answer.
    pub(super) fn learn(&self, repeated: Option<&str>) {
        let known = if repeated.is_some() { TAKEN } else { NOT_TAKEN };
        self.know(known);
    }

    /// Writes something, with a checksum if `work` is told so: also whether it was. While nothing is known of the
    /// store, what is refused is tried without. Errors: those of the last try.
    pub(super) async fn sent<T, F>(&self, work: impl Fn(bool) -> F) -> Result<(T, bool)>
    where
        F: Future<Output = Result<T>>,
    {
        let known = self.known.load(Ordering::Relaxed);
        let refused = match work(known != NOT_TAKEN).await {
            Ok(done) => return Ok((done, known != NOT_TAKEN)),
            Err(e) => e,
        };
        if known != UNKNOWN || !may_mean_them(&refused) {
            return Err(refused);
        }
        let done = work(false).await?;
        self.known.store(NOT_TAKEN, Ordering::Relaxed);
        self.learns.tell(Lack::Checksums);
        Ok((done, false))
    }

    /// What nothing was known of before.
    fn know(&self, known: u8) {
        let first = self.known.compare_exchange(UNKNOWN, known, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first && known == NOT_TAKEN {
            self.learns.tell(Lack::Checksums);
        }
    }
}

/// Whether a refusal can be for the checksum. Nothing else of a request is new to a store that let us in.
fn may_mean_them(e: &Error) -> bool {
    let kinds =
        [ErrorKind::Unsupported, ErrorKind::InvalidArgument, ErrorKind::Corrupt, ErrorKind::Unauthenticated];
    e.wire().is_some() && kinds.contains(&e.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wanted: Checksums, is_aws: bool) -> Sums {
        Sums::of(wanted, is_aws, &[], Learns::default())
    }

    fn refused(kind: ErrorKind) -> Error {
        Error::new(kind).with_wire(400, "no")
    }

    #[tokio::test]
    async fn what_is_refused_is_sent_without() {
        let sums = of(Checksums::Auto, false);
        let picky = |with: bool| async move {
            if with { Err(refused(ErrorKind::Unsupported)) } else { Ok("stored") }
        };
        assert_eq!(sums.sent(picky).await.unwrap(), ("stored", false));
        let once = |with: bool| async move { if with { panic!("tried again") } else { Ok(()) } };
        sums.sent(once).await.unwrap();
    }

    #[tokio::test]
    async fn another_failure_says_nothing_of_them() {
        for (kind, tries) in [(ErrorKind::PermissionDenied, 1), (ErrorKind::InvalidArgument, 2)] {
            let sums = of(Checksums::Auto, false);
            let asked = std::sync::atomic::AtomicU32::new(0);
            let work = |_| {
                asked.fetch_add(1, Ordering::Relaxed);
                async move { Err::<(), _>(refused(kind)) }
            };
            assert_eq!(sums.sent(work).await.unwrap_err().kind(), kind);
            assert_eq!(asked.into_inner(), tries);
            assert!(
                sums.sent(|with| async move { Ok(with) }).await.unwrap().1,
                "nothing is known of the store yet"
            );
        }
    }

    #[tokio::test]
    async fn who_said_always_gets_the_refusal() {
        let sums = of(Checksums::Always, false);
        let picky = |_| async { Err::<(), _>(refused(ErrorKind::Unsupported)) };
        assert_eq!(sums.sent(picky).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(sums.are_taken());
    }

    #[tokio::test]
    async fn the_first_word_counts() {
        let sums = of(Checksums::Auto, false);
        sums.learn(Some("AAAAAA=="));
        sums.learn(None);
        assert!(sums.are_taken());
        let deaf = of(Checksums::Auto, false);
        deaf.learn(None);
        assert!(!deaf.sent(|_| async { Ok(()) }).await.unwrap().1);
        let told = of(Checksums::Required, true);
        told.learn(Some("AAAAAA=="));
        assert!(!told.sent(|_| async { Ok(()) }).await.unwrap().1);
    }
}
