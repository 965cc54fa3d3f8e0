//! Accounts and certificates of TLS: which are an account's own, and where that makes no sense.
//!
//! That a certificate chains to an authority in `client_authorities` TLS has judged before; an account takes
//! one only if it says so itself. Deliberately absent: certificates of SSH (`authorities`, `principals`).

use session_core::auth::TlsCertificate;

use super::fault::{Fault, Source, Step};
use super::{Clients, Config, User, reaches};

impl User {
    /// Whether certificates of TLS log it in.
    pub fn takes_certificates(&self) -> bool {
        !self.certificates.is_empty() || !self.certificate_names.is_empty()
    }

    /// Whether this certificate of TLS is its own: by the fingerprint, or by a name in it.
    pub fn owns(&self, certificate: &TlsCertificate) -> bool {
        self.certificates.contains(&certificate.fingerprint())
            || self.certificate_names.iter().any(|name| certificate.is_for(name))
    }
}

impl Config {
    /// Accounts whose certificates nobody is asked for, on none of these doors.
    pub(super) fn check_certificates(&self, doors: &[Config], source: &Source<'_>) -> Vec<Fault> {
        let asks = |door: &Config| door.tls.client_certificates != Clients::Off && reaches(door, self);
        if doors.iter().any(asks) {
            return Vec::new();
        }
        let fault = |(i, user): (usize, &User)| {
            let key = if user.certificates.is_empty() { "certificate_names" } else { "certificates" };
            let at = [Step::Key("users".into()), Step::Index(i), Step::Key(key.into())];
            let words = format!("'{}' shall log in by certificate, and nobody is asked for one", user.name);
            let mut fault = source.fault_at(&at, words);
            fault.hint = Some("client_certificates of [tls] asks for them".into());
            fault
        };
        self.users.iter().enumerate().filter(|(_, user)| user.takes_certificates()).map(fault).collect()
    }
}

/// Whether names in certificates that `door` has judged mean the same behind it: a name is worth what the
/// authority is worth that gave it. A fingerprint is what it is everywhere.
pub(super) fn names_are_worth_the_same(door: &Config, to: &Config) -> bool {
    door.tls.client_certificates == Clients::Off
        || door.tls.client_authorities == to.tls.client_authorities
        || to.users.iter().all(|user| user.certificate_names.is_empty())
}
