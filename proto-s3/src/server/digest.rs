//! Digests of what arrives: the MD5 that the ETag is, and what the client says the content must come to.
//!
//! What does not come to that is not published. Digests that come behind the content, in trailing fields, are
//! looked at when it has arrived; one that was announced and did not come is as wrong as another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::Checksum;
use s3s::{S3ErrorCode, S3Result, TrailingHeaders};

use super::exchange::refuse;

/// The digests that a client may send with content.
macro_rules! sums {
    ($input:expr) => {
        s3s::dto::Checksum {
            checksum_crc32: $input.checksum_crc32.clone(),
            checksum_crc32c: $input.checksum_crc32c.clone(),
            checksum_crc64nvme: $input.checksum_crc64nvme.clone(),
            checksum_sha1: $input.checksum_sha1.clone(),
            checksum_sha256: $input.checksum_sha256.clone(),
            ..s3s::dto::Checksum::default()
        }
    };
}
pub(super) use sums;

/// A digest under way.
pub(super) struct Digest {
    md5: Md5,
    sums: ChecksumHasher,
    wanted: Checksum,
    content_md5: Option<[u8; 16]>,
    /// Names of digests that come behind the content.
    announced: Vec<String>,
    trailing: Option<TrailingHeaders>,
}

impl Digest {
    /// Errors: `InvalidDigest` for a `Content-MD5` that is none.
    pub(super) fn new(
        content_md5: Option<&str>,
        wanted: Checksum,
        headers: &HeaderMap,
        trailing: Option<TrailingHeaders>,
    ) -> S3Result<Digest> {
        let bad = || refuse(S3ErrorCode::InvalidDigest, "the Content-MD5 is not one");
        let decode = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        let content_md5 = content_md5.map(|text| decode(text).ok_or_else(bad)).transpose()?;
        let mut announced = Vec::new();
        for names in headers.get_all("x-amz-trailer").iter().filter_map(|f| f.to_str().ok()) {
            let names = names.split(',').map(|n| n.trim().to_ascii_lowercase());
            announced.extend(names.filter(|n| n.starts_with("x-amz-checksum-")));
        }
        let is = |given: &Option<String>, name: &str| {
            given.is_some() || announced.iter().any(|a| a.strip_prefix("x-amz-checksum-") == Some(name))
        };
        let sums = ChecksumHasher {
            crc32: is(&wanted.checksum_crc32, "crc32").then(Crc32::new),
            crc32c: is(&wanted.checksum_crc32c, "crc32c").then(Crc32c::new),
            crc64nvme: is(&wanted.checksum_crc64nvme, "crc64nvme").then(Crc64Nvme::new),
            sha1: is(&wanted.checksum_sha1, "sha1").then(Sha1::new),
            sha256: is(&wanted.checksum_sha256, "sha256").then(Sha256::new),
        };
        Ok(Digest { md5: Md5::new(), sums, wanted, content_md5, announced, trailing })
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.md5.update(data);
        self.sums.update(data);
    }

    /// The MD5 and the digests that were asked for. Errors: `BadDigest`, `InvalidRequest`.
    pub(super) fn finish(self) -> S3Result<([u8; 16], Checksum)> {
        let md5 = self.md5.finalize();
        let sums = self.sums.finalize();
        if self.content_md5.is_some_and(|wanted| wanted != md5) {
            return Err(refuse(S3ErrorCode::BadDigest, "the Content-MD5 is not that of what was received"));
        }
        let pairs = [
            ("x-amz-checksum-crc32", &self.wanted.checksum_crc32, &sums.checksum_crc32),
            ("x-amz-checksum-crc32c", &self.wanted.checksum_crc32c, &sums.checksum_crc32c),
            ("x-amz-checksum-crc64nvme", &self.wanted.checksum_crc64nvme, &sums.checksum_crc64nvme),
            ("x-amz-checksum-sha1", &self.wanted.checksum_sha1, &sums.checksum_sha1),
            ("x-amz-checksum-sha256", &self.wanted.checksum_sha256, &sums.checksum_sha256),
        ];
        let bad = || refuse(S3ErrorCode::BadDigest, "the checksum is not that of what was received");
        for (_, wanted, is) in &pairs {
            if wanted.is_some() && wanted != is {
                return Err(bad());
            }
        }
        let trailing = self.trailing.as_ref().and_then(TrailingHeaders::take).unwrap_or_default();
        for name in &self.announced {
            let Some((_, _, is)) = pairs.iter().find(|(known, _, _)| known == name) else {
                let words = "a digest of this kind is not known here";
                return Err(refuse(S3ErrorCode::InvalidRequest, words));
            };
            let sent = trailing.get(name).and_then(|f| f.to_str().ok());
            let missing = || refuse(S3ErrorCode::InvalidRequest, "a digest that was announced did not come");
            if is.as_deref() != Some(sent.ok_or_else(missing)?) {
                return Err(bad());
            }
        }
        Ok((md5, sums))
    }
}

/// In hexadecimal digits, as an ETag has it.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(content_md5: Option<&str>, wanted: Checksum, trailer: Option<&str>) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        if let Some(names) = trailer {
            headers.insert("x-amz-trailer", names.parse().unwrap());
        }
        let code = |e: s3s::S3Error| e.code().as_str().to_owned();
        let mut digest = Digest::new(content_md5, wanted, &headers, None).map_err(code)?;
        digest.update(b"hello ");
        digest.update(b"world");
        digest.finish().map(|(md5, _)| hex(&md5)).map_err(code)
    }

    #[test]
    fn content_comes_to_what_was_said_of_it() {
        const MD5: &str = "5eb63bbbe01eeed093cb22bb8f5acdc3";
        let none = Checksum::default;
        assert_eq!(judged(None, none(), None), Ok(MD5.into()));
        assert_eq!(judged(Some("XrY7u+Ae7tCTyyK7j1rNww=="), none(), None), Ok(MD5.into()));
        assert_eq!(judged(Some("1B2M2Y8AsgTpgAmY7PhCfg=="), none(), None), Err("BadDigest".into()));
        for odd in ["", "xyz", "AAAA"] {
            assert_eq!(judged(Some(odd), none(), None), Err("InvalidDigest".into()), "{odd}");
        }
        let crc = |sum: &str| Checksum { checksum_crc32: Some(sum.into()), ..none() };
        assert_eq!(judged(None, crc("DUoRhQ=="), None), Ok(MD5.into()));
        assert_eq!(judged(None, crc("AAAAAA=="), None), Err("BadDigest".into()));
        // What was announced must come.
        assert_eq!(judged(None, none(), Some("x-amz-checksum-crc32")), Err("InvalidRequest".into()));
        assert_eq!(judged(None, none(), Some("x-amz-checksum-md7")), Err("InvalidRequest".into()));
    }
}
