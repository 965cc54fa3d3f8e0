//! An authority that vouches for clients of TLS. Of tests of several crates.
#![allow(unreachable_pub, reason = "shared by tests")]

use std::path::PathBuf;

use session_core::net::client_tls::ClientCertificate;

/// An authority and what it vouches for.
pub struct Authority {
    dir: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    /// A new one, which nobody knows.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { dir, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Its certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A client's certificate with this common name, perhaps a mail address, and other changes.
    pub fn vouches(
        &self,
        name: &str,
        mail: Option<&str>,
        changed: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> ClientCertificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.subject_alt_names =
            mail.map(|m| rcgen::SanType::Rfc822Name(m.try_into().unwrap())).into_iter().collect();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        changed(&mut params);
        let at = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        std::fs::write(at("crt"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        ClientCertificate::from_pem_files(&at("crt"), &at("key")).unwrap()
    }
}
