//! Digests by name: one hasher for every algorithm that the model knows (feature `digest`).

use bytes::Bytes;
use sha2::Digest as _;

use crate::fs::Algorithm;

/// A digest under way.
pub enum Hasher {
    /// BLAKE3.
    Blake3(Box<blake3::Hasher>),
    /// CRC-32.
    Crc32(crc32fast::Hasher),
    /// MD5.
    Md5(md5::Md5),
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-384.
    Sha384(sha2::Sha384),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Blake3 => Hasher::Blake3(Box::default()),
            Algorithm::Crc32 => Hasher::Crc32(crc32fast::Hasher::new()),
            Algorithm::Md5 => Hasher::Md5(md5::Md5::new()),
            Algorithm::Sha1 => Hasher::Sha1(sha1::Sha1::new()),
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => Hasher::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// Takes more content.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Hasher::Blake3(h) => {
                h.update(data);
            }
            Hasher::Crc32(h) => h.update(data),
            Hasher::Md5(h) => h.update(data),
            Hasher::Sha1(h) => h.update(data),
            Hasher::Sha256(h) => h.update(data),
            Hasher::Sha384(h) => h.update(data),
            Hasher::Sha512(h) => h.update(data),
        }
    }

    /// The digest.
    pub fn finish(self) -> Bytes {
        match self {
            Hasher::Blake3(h) => Bytes::copy_from_slice(h.finalize().as_bytes()),
            Hasher::Crc32(h) => Bytes::copy_from_slice(&h.finalize().to_be_bytes()),
            Hasher::Md5(h) => Bytes::copy_from_slice(&h.finalize()),
            Hasher::Sha1(h) => Bytes::copy_from_slice(&h.finalize()),
            Hasher::Sha256(h) => Bytes::copy_from_slice(&h.finalize()),
            Hasher::Sha384(h) => Bytes::copy_from_slice(&h.finalize()),
            Hasher::Sha512(h) => Bytes::copy_from_slice(&h.finalize()),
        }
    }
}

/// Bytes of a digest.
pub const fn len(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Crc32 => 4,
        Algorithm::Md5 => 16,
        Algorithm::Sha1 => 20,
        Algorithm::Blake3 | Algorithm::Sha256 => 32,
        Algorithm::Sha384 => 48,
        Algorithm::Sha512 => 64,
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_true() {
        for a in Algorithm::ALL {
            assert_eq!(Hasher::new(a).finish().len(), len(a), "{}", a.name());
        }
    }

    #[test]
    fn digests_are_the_published_ones() {
        let of = |a| {
            let mut h = Hasher::new(a);
            h.update(b"abc");
            hex(&h.finish())
        };
        assert_eq!(of(Algorithm::Crc32), "352441c2");
        assert_eq!(of(Algorithm::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(of(Algorithm::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(of(Algorithm::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(of(Algorithm::Blake3), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert!(of(Algorithm::Sha384).starts_with("cb00753f45a35e8bb5a03d699ac65007"));
        assert!(of(Algorithm::Sha512).starts_with("ddaf35a193617abacc417349ae204131"));
    }
}
