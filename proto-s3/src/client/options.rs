//! How to reach, trust and enter a store, and how it is to be written to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use session_core::auth::Secret;
use session_core::net::client_tls::ClientTlsOptions;
use session_core::net::dial::{Dial, Family, bare};
use session_core::net::proxy::Proxy;
use session_core::net::reach::Reach;
use session_core::path::VPath;
use session_core::session::Session;

/// Who signs the requests.
#[derive(Clone, Debug, Default)]
pub enum S3Login {
    /// Nobody: requests are not signed.
    #[default]
    Anonymous,
    /// An access key.
    Key {
        /// The key's id.
        id: String,
        /// The key's secret.
        secret: Secret,
        /// The token of a session, for keys that hold for a time.
        token: Option<Secret>,
    },
    /// What the environment of this process says, as AWS's own tools find it: variables, the profile (keys,
    /// SSO, a role, a process), web identity, the container's or the machine's own role. Renewed as needed.
    Environment {
        /// The profile; the one that the environment names, or `default`, where it is `None`.
        profile: Option<String>,
    },
}

/// A role to take on with the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Role {
    /// Its ARN.
    pub arn: String,
    /// How the session is called in the account's logs.
    pub session_name: Option<String>,
    /// The external id that the role's owner agreed on.
    pub external_id: Option<String>,
}

/// How a bucket stands in a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlStyle {
    /// As the host wants it: in the host's name at AWS, in the path elsewhere.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host's name.
    Virtual,
}

/// Whether uploads carry a checksum of S3's kind (CRC-32). A signature covers the content besides, in the clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// At AWS, where downloads are checked against theirs, too; elsewhere with the first upload, and with those
    /// after it if the store has not refused it and has repeated it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Only where an operation cannot be without.
    Required,
}

/// What a store was found not to have. Each is asked for anew where nobody says so, at the cost of one request that
/// is refused; a store that has it by now is none the worse for not being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It refuses checksums of S3's kind, or does not read them.
    Checksums,
    /// It takes no removal of many keys in one request.
    ManyRemovals,
}

/// Who is told what a store was found not to have, once each; nobody by default.
#[derive(Clone, Default)]
pub struct Learns(Option<Arc<dyn Fn(Lack) + Send + Sync>>);

impl Learns {
    /// Calls this, within the request that showed it: it must be quick.
    pub fn new(told: impl Fn(Lack) + Send + Sync + 'static) -> Self {
        Learns(Some(Arc::new(told)))
    }

    pub(super) fn tell(&self, lack: Lack) {
        if let Some(told) = &self.0 {
            told(lack);
        }
    }
}

/// What is asked for with every object that is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Putting {
    /// The media type; by the ending of the name where it is `None`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// The storage class (`STANDARD_IA`, `GLACIER`, …).
    pub storage_class: Option<String>,
    /// A canned ACL (`private`, `public-read`, …).
    pub acl: Option<String>,
    /// Encryption at rest: `AES256`, `aws:kms`, `aws:kms:dsse`.
    pub encryption: Option<String>,
    /// The key of `aws:kms`.
    pub kms_key: Option<String>,
    /// Metadata of the user's own.
    pub metadata: Vec<(String, String)>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

/// How to reach, trust and enter a store.
#[derive(Clone)]
pub struct S3ConnectOptions {
    /// The host: a name or an address, an IPv6 address with or without brackets. `s3.amazonaws.com` is AWS in
    /// whatever region.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Over TLS.
    pub secure: bool,
    /// Where relative paths begin: `/bucket/path`. Its bucket is what the connection is tried on.
    pub home: VPath,
    /// The region; found out where it is `None`.
    pub region: Option<String>,
    /// How a bucket stands in a URL.
    pub style: UrlStyle,
    /// Who signs.
    pub login: S3Login,
    /// A role to take on.
    pub role: Option<S3Role>,
    /// The requester pays.
    pub requester_pays: bool,
    /// Checksums of S3's kind.
    pub checksums: Checksums,
    /// What the store is known not to have, from an earlier connection.
    pub lacks: Vec<Lack>,
    /// Who is told what it has not.
    pub learns: Learns,
    /// What is asked for with what is written.
    pub putting: Putting,
    /// Keys of one page of a listing; what the store gives where it is `None`.
    pub page: Option<u16>,
    /// The size of parts, bytes: files up to it go in one piece, larger ones in parts of it. It grows with the
    /// file, since there are 10,000 parts at most.
    pub part_size: u64,
    /// Parts of one file on their way at a time.
    pub parallel: usize,
    /// Which addresses.
    pub family: Family,
    /// The address of this machine from which to connect.
    pub source: Option<IpAddr>,
    /// Which addresses may be connected to; any where nothing else is said.
    pub reach: Reach,
    /// By which way.
    pub proxy: Proxy,
    /// Pinned certificates, versions, the user's own certificate.
    pub tls: ClientTlsOptions,
    /// How long each step may take: reaching the host, the beginning of an answer, each piece of a body. What a
    /// server does with a whole upload or copy may take fifteen times as long.
    pub timeout: Duration,
    /// The session that counts and cuts; one is made where none is given. Cutting it ends all connections
    /// at once.
    pub session: Option<Arc<Session>>,
}

impl std::fmt::Debug for S3ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3ConnectOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("secure", &self.secure)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl S3ConnectOptions {
    /// The usual, for this host: TLS, nobody signs.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        S3ConnectOptions {
            host: host.into(),
            port,
            secure: true,
            home: VPath::root(),
            region: None,
            style: UrlStyle::default(),
            login: S3Login::default(),
            role: None,
            requester_pays: false,
            checksums: Checksums::default(),
            lacks: Vec::new(),
            learns: Learns::default(),
            putting: Putting::default(),
            page: None,
            part_size: 8 << 20,
            parallel: 4,
            family: Family::default(),
            source: None,
            reach: Reach::default(),
            proxy: Proxy::Direct,
            tls: ClientTlsOptions::default(),
            timeout: Duration::from_secs(20),
            session: None,
        }
    }

    /// The host without the brackets that a URL puts around an address.
    pub(super) fn bare_host(&self) -> &str {
        bare(&self.host)
    }

    /// How to reach the store.
    pub(super) fn dial(&self) -> Dial {
        Dial {
            family: self.family,
            source: self.source,
            reach: self.reach.clone(),
            proxy: self.proxy.clone(),
            timeout: self.timeout,
            ..Dial::new(self.bare_host(), self.port)
        }
    }

    /// AWS itself, whatever the region.
    pub(super) fn is_aws(&self) -> bool {
        let host = self.bare_host().to_ascii_lowercase();
        host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
    }

    /// The region that the host's name tells: `s3.REGION.amazonaws.com`, `s3-REGION.amazonaws.com`.
    pub(super) fn region_of_host(&self) -> Option<String> {
        let host = self.bare_host().to_ascii_lowercase();
        let name = host.strip_suffix(".cn").unwrap_or(&host).strip_suffix(".amazonaws.com")?.to_owned();
        let region = name.strip_prefix("s3.").or_else(|| name.strip_prefix("s3-"))?;
        let region = region.strip_prefix("dualstack.").unwrap_or(region);
        (!region.is_empty() && !region.contains('.')).then(|| region.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_is_known_by_its_name() {
        let of = |host: &str| {
            let options = S3ConnectOptions::new(host, 443);
            (options.is_aws(), options.region_of_host())
        };
        assert_eq!(of("s3.amazonaws.com"), (true, None));
        assert_eq!(of("S3.eu-central-1.amazonaws.com"), (true, Some("eu-central-1".into())));
        assert_eq!(of("s3-us-west-2.amazonaws.com"), (true, Some("us-west-2".into())));
        assert_eq!(of("s3.cn-north-1.amazonaws.com.cn"), (true, Some("cn-north-1".into())));
        assert_eq!(of("s3.dualstack.us-east-2.amazonaws.com"), (true, Some("us-east-2".into())));
        assert_eq!(of("amazonaws.com.example.org"), (false, None));
        assert_eq!(of("minio.local"), (false, None));
    }

    #[test]
    fn no_secret_is_shown() {
        let mut options = S3ConnectOptions::new("h", 443);
        options.login = S3Login::Key { id: "AKIA".into(), secret: Secret::new("s3cr3t"), token: None };
        assert!(!format!("{options:?} {:?}", options.login).contains("s3cr3t"));
    }
}
