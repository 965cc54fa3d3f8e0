//! Over files that other programs made: `tests/certificates/make.sh` says how.

use std::path::PathBuf;

use super::*;

fn at(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}

fn open(name: &str, phrase: Option<&str>) -> std::result::Result<ClientCertificate, Fault> {
    CertificateFile::read(&at(name)).unwrap().open(phrase.map(Secret::new).as_ref())
}

/// The chain and the key of the file without encryption.
fn truth() -> (Vec<Vec<u8>>, String) {
    let own = open("plain.pem", None).unwrap();
    (own.chain().map(<[u8]>::to_vec).collect(), public_key(&own))
}

/// What a key would prove: the handshake's own judgement of key and certificate.
fn public_key(own: &ClientCertificate) -> String {
    let options = super::super::client_tls::ClientTlsOptions {
        certificate: Some(own.clone()),
        fingerprints: vec![crate::trust::CertificateFingerprint::parse(&["00"; 32].join(":")).unwrap()],
        ..Default::default()
    };
    match super::super::client_tls::ClientTls::new("localhost", 1, &options) {
        Ok(_) => "fits its certificate".into(),
        Err(e) => format!("{e:#}"),
    }
}

#[test]
fn keys_in_text_open_by_their_phrase_and_by_no_other() {
    let (chain, fits) = truth();
    assert_eq!((chain.len(), fits.as_str()), (2, "fits its certificate"));
    for name in [
        "pkcs8-aes256.pem",
        "pkcs8-aes128-sha1.pem",
        "pkcs8-3des.pem",
        "pkcs8-scrypt.pem",
        "pkcs8-pkcs12.pem",
        "old-aes128.pem",
        "old-aes192.pem",
        "old-aes256.pem",
        "old-des3.pem",
    ] {
        let own = open(name, Some("opens-it")).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(own.chain().eq(chain.iter()), "{name}");
        assert_eq!(public_key(&own), fits, "{name}");
        assert_eq!(open(name, None).unwrap_err(), Fault::Encrypted, "{name}");
        for wrong in ["opens-iT", ""] {
            assert_eq!(open(name, Some(wrong)).unwrap_err(), Fault::WrongPhrase, "{name}");
        }
    }
}

#[test]
fn files_of_pkcs12_open_by_their_phrase_and_by_no_other() {
    let (mut chain, fits) = truth();
    chain.push(pem::read(&std::fs::read(at("ca.crt")).unwrap()).ok().unwrap().chain.remove(0));
    for name in ["usual.p12", "legacy.p12", "old-ciphers.p12", "sha512.p12", "no-mac.p12", "java.p12"] {
        let own = open(name, Some("opens-it")).unwrap_or_else(|e| panic!("{name}: {e}"));
        // The file has the authority before the one that it vouches for.
        assert!(own.chain().eq(chain.iter()), "{name}");
        assert_eq!(public_key(&own), fits, "{name}");
        assert_eq!(open(name, None).unwrap_err(), Fault::Encrypted, "{name}");
        assert_eq!(open(name, Some("opens-iT")).unwrap_err(), Fault::WrongPhrase, "{name}");
    }
    for (name, phrases) in [
        ("wide.p12", &[Some("öffne 🔑")][..]),
        ("empty.p12", &[None, Some("")]),
        ("bare.p12", &[None, Some(""), Some("any")]),
    ] {
        for phrase in phrases {
            let own = open(name, *phrase).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(own.chain().eq(chain.iter()), "{name}");
            assert_eq!(public_key(&own), fits, "{name}");
        }
    }
    assert_eq!(open("empty.p12", Some("any")).unwrap_err(), Fault::WrongPhrase);
}

// 600,000 rounds, three times: about a second where nothing is optimised.
#[test]
fn lengths_that_are_not_said_are_found() {
    let own = open("nss.p12", Some("opens-it")).unwrap();
    assert_eq!((own.chain().count(), public_key(&own).as_str()), (3, "fits its certificate"));
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    for (name, phrase, why) in [
        ("pkcs8-des.pem", Some("opens-it"), "DES"),
        ("old-des.pem", Some("opens-it"), "DES"),
        ("rc4.p12", Some("opens-it"), "RC4"),
        ("no-key.p12", Some("opens-it"), "holds no private key"),
    ] {
        let e = open(name, phrase).unwrap_err();
        assert!(e.to_string().contains(why), "{name}: {e}");
    }
    let e = CertificateFile::read(&at("ca.crt")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains("none beside it"), "{e}");
    let e = CertificateFile::read(&at("make.sh")).unwrap_err();
    assert!(e.to_string().contains("holds no certificate"), "{e}");
    assert_eq!(CertificateFile::read(&at("none")).unwrap_err().kind(), ErrorKind::NotFound);
    // What stands in a file is not shown.
    let shown =
        format!("{:?} {:?}", CertificateFile::read(&at("plain.pem")).unwrap(), open("plain.pem", None));
    assert!(!shown.contains("PRIVATE") && shown.contains("plain.pem"), "{shown}");
}

#[test]
fn a_key_may_stand_beside_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(at("old-aes256.pem")).unwrap();
    let (certificates, key) = text.split_at(text.find("-----BEGIN EC").unwrap());
    std::fs::write(dir.path().join("own.crt"), certificates).unwrap();
    std::fs::write(dir.path().join("own.key"), key).unwrap();
    let file = CertificateFile::read(&dir.path().join("own.crt")).unwrap();
    assert!(file.name().ends_with("own.key"), "the phrase is the key's");
    assert!(file.open(Some(&Secret::new("opens-it"))).unwrap().chain().eq(truth().0.iter()));
    std::fs::write(dir.path().join("own.key"), "").unwrap();
    let e = CertificateFile::read(&dir.path().join("own.crt")).unwrap_err();
    assert!(e.to_string().contains("own.key' holds no private key"), "{e}");
}

#[test]
fn broken_files_are_told_and_break_nothing() {
    for name in ["bare.p12", "legacy.p12"] {
        let bytes = std::fs::read(at(name)).unwrap();
        for cut in (0..bytes.len()).step_by(7) {
            assert!(pkcs12::open(&bytes[..cut], Some("opens-it")).is_err(), "{name} to {cut}");
        }
        for at in (0..bytes.len()).step_by(29) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x80;
            let _ = pkcs12::open(&bytes, Some("opens-it"));
        }
    }
    let text = std::fs::read(at("old-aes128.pem")).unwrap();
    // Without the end of its last line it is whole.
    for cut in 0..text.len() - 1 {
        assert!(!pem::read(&text[..cut]).is_ok_and(|found| found.key.is_some()), "{cut}");
    }
    assert!(!pkcs12::is(b"\x30\x82") && !pkcs12::is(b""));
}

#[test]
fn a_file_that_costs_too_much_is_refused() {
    let info = |kdf: &[u8]| {
        let mut algorithm = vec![0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
        let cipher = b"\x30\x1d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a\x04\x10................";
        let inside = [&[0x30, u8::try_from(kdf.len()).unwrap()], kdf, cipher].concat();
        algorithm.extend([&[0x30, u8::try_from(inside.len()).unwrap()], inside.as_slice()].concat());
        let mut out = [&[0x30, u8::try_from(algorithm.len()).unwrap()], algorithm.as_slice()].concat();
        out.extend(b"\x04\x10................");
        [&[0x30, u8::try_from(out.len()).unwrap()], out.as_slice()].concat()
    };
    let phrase = decrypt::Phrase::new("p");
    let costs = Fault::Unsupported("opening it would cost more than is spent on it");
    // PBKDF2 with 16,777,215 rounds, and with none.
    for (rounds, fault) in [(&[2u8, 4, 0, 0xff, 0xff, 0xff][..], &costs), (&[2, 1, 0], &costs)] {
        let inside = [b"\x04\x04salt", rounds].concat();
        let parameters = [&[0x30, u8::try_from(inside.len()).unwrap()], inside.as_slice()].concat();
        let kdf = [b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c", parameters.as_slice()].concat();
        assert_eq!(&decrypt::key(&info(&kdf), &phrase).unwrap_err(), fault);
    }
    // scrypt over 4 GiB, and with costs that are none.
    for n in [&[2u8, 3, 0x40, 0, 0][..], &[2, 1, 0], &[2, 1, 3]] {
        let inside = [b"\x04\x04salt", n, b"\x02\x01\x08\x02\x01\x01"].concat();
        let parameters = [&[0x30, u8::try_from(inside.len()).unwrap()], inside.as_slice()].concat();
        let kdf = [b"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x04\x0b", parameters.as_slice()].concat();
        assert_eq!(decrypt::key(&info(&kdf), &phrase).unwrap_err(), costs);
    }
    assert_eq!(decrypt::rounds(&[0x7f; 9]), Some(Err(costs)));
}
