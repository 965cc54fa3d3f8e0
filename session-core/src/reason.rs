//! `Reason`: why a session, a login or a command was refused or ended, as a number that reports can count.
//!
//! 0 to 55 are the sub-status codes of IIS's FTP service, with their meaning there and for every protocol
//! here; 40 (isolation by Active Directory) has no counterpart. From 100 on they are ours, for what that
//! list has no number for. A number never changes its meaning. The words are for operators: what a client
//! reads is the error's or the ending's own.
//!
//! Deliberately absent: wire codes (each protocol's `status.rs`).

use crate::error::ErrorKind;

macro_rules! reasons {
    ($( $number:literal $name:ident $code:literal $words:literal; )*) => {
        /// Why something was refused or ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason {
            $(
                #[doc = concat!("`", $code, "`: ", $words, ".")]
                $name = $number,
            )*
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// Its name in JSON, filters and scripts: `connection-limit`.
            pub fn name(self) -> &'static str { match self { $(Reason::$name => $code),* } }

            /// What it means, in words for an operator.
            pub fn words(self) -> &'static str { match self { $(Reason::$name => $words),* } }
        }

        impl Default for Reason {
            fn default() -> Self { Reason::Done }
        }
    };
}

reasons! {
    0 Done "done" "it went well, or the client left by itself";
    1 NotAuthorized "not-authorized" "a rule of the server denied the access";
    2 StoreDenied "store-denied" "the store denied the access";
    3 StoreFailed "store-failed" "the store failed, or has no such entry";
    4 AddressDenied "address-denied" "the client's address is not let in";
    5 RootWrite "root-write" "the root of a virtual folder is not written";
    6 ShortNameFailed "short-name-failed" "the check of a short file name failed";
    7 ShortName "short-name" "short file names are not allowed";
    8 HiddenName "hidden-name" "a part of the path is hidden by a filter";
    9 DeniedSequence "denied-sequence" "the path holds what a filter denies";
    10 HighBytes "high-bytes" "the path holds bytes that are no ASCII or no valid text";
    11 DeniedPattern "denied-pattern" "the name matches a pattern that a filter denies";
    12 PathTooLong "path-too-long" "the path is too long, or cannot exist here";
    13 NotAFile "not-a-file" "what was opened is neither a file nor a directory, or the wrong one of them";
    14 IdleTimeout "idle-timeout" "the session did nothing for too long";
    15 DataTimeout "data-timeout" "nothing moved on a data connection for too long";
    16 LoginTimeout "login-timeout" "the login took too long";
    17 SiteMisconfigured "site-misconfigured" "the configuration of the site cannot be used";
    18 Misconfigured "misconfigured" "the configuration of the server cannot be used";
    19 ConnectionLimit "connection-limit" "there are as many sessions as there may be";
    20 ClientAbort "client-abort" "the client gave a transfer up";
    21 Stopping "stopping" "the site or the server stops";
    22 DataFailed "data-failed" "the server gave a data connection up";
    23 DataLost "data-lost" "the client gave a data connection up";
    24 DataTlsRequired "data-tls-required" "data connections need TLS";
    25 TlsRequired "tls-required" "the connection needs TLS";
    26 CredentialsTlsRequired "credentials-tls-required" "a login needs TLS";
    27 DataTlsDenied "data-tls-denied" "data connections have no TLS";
    28 TlsDenied "tls-denied" "the connection has no TLS";
    29 CredentialsTlsDenied "credentials-tls-denied" "a login has no TLS";
    30 CommandsTlsDenied "commands-tls-denied" "commands have no TLS";
    31 NoCertificate "no-certificate" "the server has no certificate";
    32 HandshakeFailed "handshake-failed" "the connection could not be secured";
    33 NoHome "no-home" "the files of the account cannot be opened";
    34 AuthenticatorFailed "authenticator-failed" "who is asked about users did not answer";
    35 WrongCredentials "wrong-credentials" "the name or the proof is not good";
    36 NoMethod "no-method" "no way to log in is allowed";
    37 UnknownHost "unknown-host" "no site has this name";
    38 AddressDiffers "address-differs" "a data connection came from another address";
    39 TooLarge "too-large" "the file is larger than allowed";
    41 LoginFailed "login-failed" "the login broke off for a fault of ours";
    42 AnonymousDenied "anonymous-denied" "nobody is let in without a name";
    43 ProtBeforeTls "prot-before-tls" "data cannot be protected before the connection is";
    44 CertificateMissing "certificate-missing" "the certificate was not found";
    45 KeyMissing "key-missing" "the certificate's key was not found";
    46 CertificateBad "certificate-bad" "the certificate cannot be used";
    47 ClientCertificateRequired "client-certificate-required" "the client must show a certificate";
    48 ClientCertificateInvalid "client-certificate-invalid" "the client's certificate is not good";
    49 ClientCertificateDiffers "client-certificate-differs"
        "a data connection showed another certificate than its session";
    50 TooSlow "too-slow" "the client is slower than it may be";
    51 CommandDenied "command-denied" "this command is not allowed or not known here";
    52 Administrator "administrator" "an administrator ended it";
    53 ConnectionFailed "connection-failed" "the connection was lost";
    54 Reconfigured "reconfigured" "the configuration was changed";
    55 WeakCipher "weak-cipher" "the two ends have no strong enough algorithms in common";
    100 Hook "hook" "a hook refused or ended it";
    101 Banned "banned" "the address is on the block list";
    102 Quota "quota" "a quota is used up";
    103 TooManyTries "too-many-tries" "too many logins failed";
    104 ProtocolBroken "protocol-broken" "the client broke the protocol";
    105 Internal "internal" "a fault of the server's";
    106 AccountClosed "account-closed" "the account is gone, switched off or past its time";
    107 OutsideHours "outside-hours" "the account may not be used at this time";
    108 ProtocolDenied "protocol-denied" "the account may not use this protocol";
    109 RateLimit "rate-limit" "more connections or requests in a time than there may be";
    110 Canceled "canceled" "it was given up because its session ended";
    111 UnknownUser "unknown-user" "nobody has this name";
    112 AddressLimit "address-limit" "the address or its network has as many sessions as it may";
}

impl Reason {
    /// Its number.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The reason of this name or number.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.parse::<u16>().ok();
        Reason::ALL.iter().copied().find(|r| r.name() == text || Some(r.number()) == number)
    }

    /// What an error of this kind comes to where nobody said more.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Canceled | ErrorKind::Closed => Reason::Canceled,
            ErrorKind::Disconnected => Reason::ConnectionFailed,
            ErrorKind::Internal => Reason::Internal,
            ErrorKind::InvalidPath => Reason::PathTooLong,
            ErrorKind::IsADirectory | ErrorKind::NotADirectory => Reason::NotAFile,
            ErrorKind::PeerMisbehaved | ErrorKind::InvalidArgument | ErrorKind::OutOfRange => {
                Reason::ProtocolBroken
            }
            ErrorKind::PermissionDenied => Reason::StoreDenied,
            ErrorKind::QuotaExceeded => Reason::Quota,
            ErrorKind::Refused => Reason::NotAuthorized,
            ErrorKind::Throttled => Reason::RateLimit,
            ErrorKind::TimedOut => Reason::DataTimeout,
            ErrorKind::TooLarge => Reason::TooLarge,
            ErrorKind::Unauthenticated => Reason::WrongCredentials,
            ErrorKind::Unsupported => Reason::CommandDenied,
            ErrorKind::AlreadyExists
            | ErrorKind::Corrupt
            | ErrorKind::CrossDevice
            | ErrorKind::LinkLoop
            | ErrorKind::Locked
            | ErrorKind::NoSpace
            | ErrorKind::NotEmpty
            | ErrorKind::NotFound
            | ErrorKind::PreconditionFailed => Reason::StoreFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that operators know from IIS.
    #[test]
    fn the_known_numbers_stand() {
        for (number, reason) in [
            (4, Reason::AddressDenied),
            (14, Reason::IdleTimeout),
            (16, Reason::LoginTimeout),
            (19, Reason::ConnectionLimit),
            (21, Reason::Stopping),
            (35, Reason::WrongCredentials),
            (37, Reason::UnknownHost),
            (49, Reason::ClientCertificateDiffers),
            (50, Reason::TooSlow),
            (52, Reason::Administrator),
            (55, Reason::WeakCipher),
        ] {
            assert_eq!(reason.number(), number);
            assert_eq!(Reason::parse(&number.to_string()), Some(reason));
        }
        let vendor = Reason::ALL.iter().filter(|r| r.number() < 100).count();
        assert_eq!(vendor, 55, "0 to 55 without 40");
    }

    #[test]
    fn numbers_rise_and_names_tell_them_apart() {
        assert!(Reason::ALL.windows(2).all(|w| w[0] < w[1]));
        for r in Reason::ALL {
            assert_eq!(Reason::parse(r.name()), Some(*r));
            assert!(
                !r.words().ends_with('.') && r.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            );
        }
        assert_eq!(Reason::parse("40"), None);
    }
}
