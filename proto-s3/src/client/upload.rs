//! An upload in parts: sent several at a time, given up or kept, gone on with.
//!
//! One that is not completed is thrown away with its file, so that no parts are left to be paid for, unless it is
//! kept: then its words (the size of its parts and of the file, and its id) open it again, from any process. What
//! the store holds of it is believed for what it proves: a part of the right size whose etag is the MD5 of what
//! is to be sent, or whose CRC-32 is the right one, is not sent again. Etags that are no MD5 (encrypted by keys
//! of KMS) prove nothing, and such a part goes again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Part};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use session_core::digest::{Hasher, hex};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;
use tokio::task::JoinSet;

use super::put::{LARGEST, is_part};
use super::store::{Store, bare_etag};

/// Pages of parts that are read; an upload has 10,000 parts at most.
const PAGES: usize = 100;

/// What names an upload that is kept, without the path of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// The size of its parts, the last one's apart.
    pub(super) part: u64,
    /// The size of the whole.
    pub(super) size: u64,
    /// Its parts carry checksums of S3's kind.
    pub(super) checksums: bool,
    pub(super) id: String,
}

impl Words {
    /// As text: the version of its form, then the fields, the id last.
    pub(super) fn text(&self) -> Arc<str> {
        let sums = if self.checksums { "crc32" } else { "-" };
        format!("1 {} {} {sums} {}", self.part, self.size, self.id).into()
    }

    /// `None` for an id that does not fit into a line.
    pub(super) fn usable(self) -> Option<Self> {
        Words::parse(&self.text())
    }

    /// `None` for words that are not ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(5, ' ');
        let (version, part, size, sums, id) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let checksums = match sums {
            "crc32" => true,
            "-" => false,
            _ => return None,
        };
        let fits = version == "1" && !id.is_empty() && !id.contains(char::is_control);
        let (part, size) = (part.parse().ok()?, size.parse().ok()?);
        // A part is held in memory.
        (fits && (1..=LARGEST).contains(&part)).then(|| Words { part, size, checksums, id: id.to_owned() })
    }
}

/// A part that the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct There {
    size: u64,
    etag: Arc<str>,
    crc32: Option<String>,
}

impl There {
    fn of(part: &Part) -> Option<(u64, Self)> {
        let number = u64::try_from(part.part_number()?).ok()?;
        Some((
            number,
            There {
                size: u64::try_from(part.size()?).ok()?,
                etag: bare_etag(part.e_tag()?),
                crc32: part.checksum_crc32().map(str::to_owned),
            },
        ))
    }

    /// Whether it is this content.
    fn is(&self, data: &[u8]) -> bool {
        if self.size != data.len() as u64 {
            return false;
        }
        let digest = |algorithm| {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(data);
            hasher.finish()
        };
        self.etag.eq_ignore_ascii_case(&hex(&digest(Algorithm::Md5)))
            || self.crc32.as_deref().is_some_and(|told| STANDARD.encode(digest(Algorithm::Crc32)) == told)
    }

    fn completed(&self, number: i32, checksums: bool) -> CompletedPart {
        CompletedPart::builder()
            .part_number(number)
            .e_tag(format!("\"{}\"", self.etag))
            .set_checksum_crc32(self.crc32.clone().filter(|_| checksums))
            .build()
    }
}

/// An upload in parts.
pub(super) struct Upload {
    store: Arc<Store>,
    bucket: String,
    key: String,
    pub(super) id: String,
    /// It was begun with checksums of S3's kind, so that each part has one.
    pub(super) summed: bool,
    /// Parts on their way. Dropped, they are given up.
    pub(super) jobs: JoinSet<Result<CompletedPart>>,
    done: Vec<CompletedPart>,
    /// The number of the next part.
    pub(super) next: u64,
    /// What the store held of it when it was opened again, by number.
    there: HashMap<u64, There>,
    /// Bytes that did not have to be sent.
    spared: Arc<AtomicU64>,
    /// It outlives its file.
    pub(super) keeps: bool,
    /// Completed: there is nothing to abort any more.
    pub(super) completed: bool,
}

impl Drop for Upload {
    /// Nobody goes on with it: its parts are thrown away, in the background.
    fn drop(&mut self) {
        if self.completed || self.keeps {
            return;
        }
        self.jobs.abort_all();
        let (store, bucket, key, id) =
            (Arc::clone(&self.store), self.bucket.clone(), self.key.clone(), self.id.clone());
        let mut jobs = std::mem::take(&mut self.jobs);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A part that arrives after the abort would stay.
                while jobs.join_next().await.is_some() {}
                let _ = store.abort_upload(&bucket, &key, &id).await;
            });
        }
    }
}

impl Upload {
    /// One that was just begun.
    pub(super) fn new(
        store: &Arc<Store>,
        (bucket, key): (&str, &str),
        id: String,
        summed: bool,
        spared: &Arc<AtomicU64>,
    ) -> Self {
        Upload {
            store: Arc::clone(store),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            id,
            summed,
            jobs: JoinSet::new(),
            done: Vec::new(),
            next: 1,
            there: HashMap::new(),
            spared: Arc::clone(spared),
            keeps: false,
            completed: false,
        }
    }

    /// The one that these words name, if the store still has it and a file of `size` can go on with it; one that
    /// is of no use is thrown away. Errors: a store that cannot be asked now.
    pub(super) async fn reopen(
        store: &Arc<Store>,
        (bucket, key): (&str, &str),
        words: &Words,
        size: Option<u64>,
        spared: &Arc<AtomicU64>,
    ) -> Result<Option<Self>> {
        let fits = size.is_none_or(|s| s == words.size);
        let there = match fits {
            true => store.parts((bucket, key), &words.id).await,
            false => Err(ErrorKind::InvalidArgument.into()),
        };
        match there {
            Ok(there) => {
                let mut upload = Upload::new(store, (bucket, key), words.id.clone(), words.checksums, spared);
                (upload.there, upload.keeps) = (there, true);
                Ok(Some(upload))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            // Who may not look cannot go on with it.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::InvalidArgument | ErrorKind::PermissionDenied | ErrorKind::Unsupported
                ) =>
            {
                store.throw_away(bucket, key, &words.id).await?;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Sends a part as soon as there is room for it, if the store does not have it. Errors: those of parts before
    /// it.
    pub(super) async fn send(&mut self, data: Bytes, parallel: usize) -> Result<()> {
        while let Some(done) = self.jobs.try_join_next() {
            self.done.push(joined(done)?);
        }
        while self.jobs.len() >= parallel {
            match self.jobs.join_next().await {
                Some(done) => self.done.push(joined(done)?),
                None => break,
            }
        }
        if !is_part(self.next) {
            return Err(Error::new(ErrorKind::TooLarge)
                .with_detail("the file has more parts than an object may have")
                .with_hint("parts grow with a file whose size is told beforehand"));
        }
        let number = i32::try_from(self.next).map_err(|_| ErrorKind::TooLarge)?;
        let there = self.there.remove(&self.next);
        self.next += 1;
        let (store, bucket, key, id) =
            (Arc::clone(&self.store), self.bucket.clone(), self.key.clone(), self.id.clone());
        let (spared, summed) = (Arc::clone(&self.spared), self.summed);
        self.jobs.spawn(async move {
            if let Some(there) = there {
                let ours = data.clone();
                let compared = tokio::task::spawn_blocking(move || there.is(&ours).then_some(there));
                if let Ok(Some(there)) = compared.await {
                    spared.fetch_add(data.len() as u64, Ordering::Relaxed);
                    return Ok(there.completed(number, summed));
                }
            }
            store.upload_part((&bucket, &key), &id, number, data, summed).await
        });
        Ok(())
    }

    /// Waits for all parts.
    pub(super) async fn settle(&mut self) -> Result<CompletedMultipartUpload> {
        while let Some(done) = self.jobs.join_next().await {
            self.done.push(joined(done)?);
        }
        let mut parts = std::mem::take(&mut self.done);
        parts.sort_by_key(CompletedPart::part_number);
        Ok(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
    }
}

fn joined(done: std::result::Result<Result<CompletedPart>, tokio::task::JoinError>) -> Result<CompletedPart> {
    done.map_err(|e| Error::new(ErrorKind::Canceled).with_source(e))?
}

impl Store {
    /// The parts that an upload has. Errors: `NotFound` for one that is not there any more; `PeerMisbehaved`.
    async fn parts(&self, (bucket, key): (&str, &str), id: &str) -> Result<HashMap<u64, There>> {
        let mut all = HashMap::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES {
            let told = self
                .call(Some(bucket), |c| {
                    c.list_parts()
                        .bucket(bucket)
                        .key(key)
                        .upload_id(id)
                        .set_part_number_marker(after.clone())
                        .set_request_payer(self.payer())
                        .send()
                })
                .await?;
            all.extend(told.parts().iter().filter_map(There::of));
            let next = told.next_part_number_marker().map(str::to_owned);
            if told.is_truncated() != Some(true) || next.is_none() || next == after {
                return Ok(all);
            }
            after = next;
        }
        Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("the store lists more parts than there can be"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        for id in ["VXBsb2Fk.._-", "with a space", "2~abc"] {
            let words = Words { part: 8 << 20, size: 1 << 40, checksums: id.len() > 9, id: id.into() };
            assert_eq!(Words::parse(&words.text()), Some(words));
        }
        for bad in ["", "1 8 9 - ", "2 8 9 - id", "1 0 9 - id", "1 x 9 - id", "1 8 9 md5 id", "1 8 9 - a\nb"]
        {
            assert_eq!(Words::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_part_is_believed_for_what_it_proves() {
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let there = |size, etag: &str, crc32: Option<&str>| There {
            size,
            etag: etag.into(),
            crc32: crc32.map(str::to_owned),
        };
        assert!(there(3, md5, None).is(b"abc"));
        assert!(there(3, &md5.to_uppercase(), None).is(b"abc"));
        assert!(there(3, "opaque", Some("NSRBwg==")).is(b"abc"));
        for (part, why) in [
            (there(4, md5, None), "another size"),
            (there(3, "opaque", None), "nothing is proved"),
            (there(3, "opaque", Some("AAAAAA==")), "another sum"),
            (there(3, &md5.replace('9', "8"), None), "another content"),
        ] {
            assert!(!part.is(b"abc"), "{why}");
        }
    }
}
