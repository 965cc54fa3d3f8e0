//! Who takes part: servers and clients, ours and theirs, and what they are called in rows.

use crate::peers::servers::Scheme;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Server {
    Ferryd,
    /// The same process, by FTP in the clear.
    FerrydFtp,
    /// The same process, by FTP that turns to TLS.
    FerrydTls,
    /// One that tells every upload to a receiver of the bench's, through its outbox.
    FerrydTold,
    /// One with a handler on every event before and after something.
    FerrydHooked,
    Sshd,
    Proftpd,
    ProftpdTls,
    PureFtpd,
    PureFtpdTls,
    Vsftpd,
    VsftpdTls,
    /// One that keeps nothing: what the client alone costs.
    Floor,
    /// Ours again, by WebDAV in the clear.
    FerrydDav,
    Apache,
    Nginx,
    /// Ours again, by S3 in the clear.
    FerrydS3,
    /// What comes with the library that our server of S3 is built on, over a folder.
    S3sFs,
}

/// Ports for data, of each server.
const PASSIVE: u16 = 2200;
/// Below those that the system hands out.
const FIRST_PASSIVE: u16 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Ferry,
    /// OpenSSH's, with its own choice of cipher or a named one.
    Sftp(Option<&'static str>),
    Rclone,
    Lftp,
    Curl,
    S5cmd,
    /// Whoever of theirs lists quickest from sshd; found out once per run.
    Quickest,
    /// The same of those who can talk to both servers.
    QuickestOfBoth,
    /// Whoever of theirs is quickest at this very task; found out once per run.
    Best,
}

pub(super) const GCM: Option<&str> = Some("aes128-gcm@openssh.com");
pub(super) const CHACHA: Option<&str> = Some("chacha20-poly1305@openssh.com");

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ferryd => "ferryd",
            Self::FerrydFtp => "ferryd (ftp)",
            Self::FerrydTls => "ferryd (ftpes)",
            Self::FerrydTold => "ferryd (told)",
            Self::FerrydHooked => "ferryd (hooked)",
            Self::Sshd => "sshd",
            Self::Proftpd => "proftpd",
            Self::ProftpdTls => "proftpd (tls)",
            Self::PureFtpd => "pure-ftpd",
            Self::PureFtpdTls => "pure-ftpd (tls)",
            Self::Vsftpd => "vsftpd",
            Self::VsftpdTls => "vsftpd (tls)",
            Self::Floor => "one that keeps nothing",
            Self::FerrydDav => "ferryd (webdav)",
            Self::Apache => "apache",
            Self::Nginx => "nginx",
            Self::FerrydS3 => "ferryd (s3)",
            Self::S3sFs => "s3s-fs",
        }
    }

    /// Whether it is ours.
    pub(super) fn is_ours(self) -> bool {
        matches!(self.host(), Self::Ferryd | Self::FerrydTold | Self::FerrydHooked)
    }

    /// Which process it is.
    pub(super) fn host(self) -> Self {
        match self {
            Self::FerrydFtp | Self::FerrydTls | Self::FerrydDav | Self::FerrydS3 => Self::Ferryd,
            other => other,
        }
    }

    /// How it is spoken to.
    pub(super) fn scheme(self) -> Scheme {
        match self {
            Self::Ferryd | Self::FerrydTold | Self::FerrydHooked | Self::Sshd => Scheme::Sftp,
            Self::FerrydFtp | Self::Proftpd | Self::PureFtpd | Self::Vsftpd | Self::Floor => Scheme::Ftp,
            Self::FerrydTls | Self::ProftpdTls | Self::PureFtpdTls | Self::VsftpdTls => Scheme::Ftpes,
            Self::FerrydDav | Self::Apache | Self::Nginx => Scheme::Dav,
            Self::FerrydS3 | Self::S3sFs => Scheme::S3,
        }
    }

    /// Its ports for data.
    pub(super) fn passive(self) -> (u16, u16) {
        let from = FIRST_PASSIVE + PASSIVE * (self as u16);
        (from, from + PASSIVE - 1)
    }
}

impl Client {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ferry => "ferry",
            Self::Sftp(_) => "sftp",
            Self::Rclone => "rclone",
            Self::Lftp => "lftp",
            Self::Curl => "curl",
            Self::S5cmd => "s5cmd",
            Self::Quickest | Self::QuickestOfBoth => "the quickest of theirs",
            Self::Best => "the best of theirs",
        }
    }
}
