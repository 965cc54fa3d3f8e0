//! What is measured: a table of scenarios, each with its bar.
//!
//! What a peer is known to reach on two cores stands with each pair; 0 where nobody measured it before.

use super::job::{Job, Link, Task, Way};
use super::parties::{CHACHA, Client, GCM, Server};
use super::row::{Bar, Row};
use super::{Bench, gateways, hooked, live, special};
use crate::fault::Result;

pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) bar: Bar,
    pub(super) measure: Measure,
}

impl Scenario {
    /// Whether a server takes part.
    pub(super) fn needs(&self, server: Server) -> bool {
        matches!(&self.measure, Measure::Pair { ours, theirs, .. } if [ours, theirs].iter().any(|job| job.server == server))
    }
}

/// How a scenario is measured.
pub(super) enum Measure {
    /// Ours and theirs in turn.
    Pair {
        ours: Job,
        theirs: Job,
        /// What theirs is known to reach on two cores, with the sizes of [`super::FULL`].
        known: f64,
    },
    /// Something else; it makes its own row.
    Special(fn(&mut Bench, &Scenario) -> Result<Row>),
}

const fn near(server: Server, client: Client, task: Task) -> Job {
    Job { server, client, link: Link::Near, task }
}

const fn far(server: Server, client: Client, task: Task) -> Job {
    Job { server, client, link: Link::Far, task }
}

const fn pair(
    name: &'static str,
    about: &'static str,
    bar: f64,
    (ours, theirs): (Job, Job),
    known: f64,
) -> Scenario {
    Scenario { name, about, bar: Bar::Ratio(bar), measure: Measure::Pair { ours, theirs, known } }
}

/// Ours beside theirs where there is no bar: what bounds other rows, or what nobody asked for.
const fn beside(name: &'static str, about: &'static str, (ours, theirs): (Job, Job)) -> Scenario {
    Scenario { name, about, bar: Bar::None, measure: Measure::Pair { ours, theirs, known: 0.0 } }
}

/// Ours and theirs as servers under the same client.
const fn servers(client: Client, task: Task) -> (Job, Job) {
    (near(Server::Ferryd, client, task), near(Server::Sshd, client, task))
}

/// Ours against the best of theirs, from or to sshd.
const fn best(link: Link, task: Task) -> (Job, Job) {
    (
        Job { server: Server::Sshd, client: Client::Ferry, link, task },
        Job { server: Server::Sshd, client: Client::Best, link, task },
    )
}

use Server::{
    Apache, Ferryd, FerrydDav, FerrydFtp, FerrydS3, FerrydTls, Floor, Nginx, Proftpd, ProftpdTls, PureFtpd,
    PureFtpdTls, S3sFs, Sshd, Vsftpd, VsftpdTls,
};
use Task::{Big, Byte, Huge, List, Mixed, Same, Several, Small};
use Way::{Down, Up};

const SFTP: Client = Client::Sftp(None);

#[rustfmt::skip]
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "link",
        about: "the far link under plain TCP: 50 ms, and no limit on the rate",
        bar: Bar::AtLeast(300.0),
        measure: Measure::Special(special::link),
    },
    pair("server-down-gcm", "1 GiB from ferryd and sshd, sftp with AES-GCM",
        1.3, servers(Client::Sftp(GCM), Big(Down)), 321.0),
    pair("server-up-gcm", "1 GiB to ferryd and sshd, sftp with AES-GCM",
        1.3, servers(Client::Sftp(GCM), Big(Up)), 322.0),
    pair("server-down-chacha", "1 GiB from ferryd and sshd, sftp with ChaCha20",
        1.1, servers(Client::Sftp(CHACHA), Big(Down)), 268.0),
    pair("server-up-chacha", "1 GiB to ferryd and sshd, sftp with ChaCha20",
        1.1, servers(Client::Sftp(CHACHA), Big(Up)), 169.0),
    // ferry chooses AES-GCM; sftp is told to, which is quicker than its default: the harder comparison.
    pair("client-down", "1 GiB from sshd, ferry and sftp, both with AES-GCM",
        1.2, (near(Sshd, Client::Ferry, Big(Down)), near(Sshd, Client::Sftp(GCM), Big(Down))), 321.0),
    pair("client-up", "1 GiB to sshd, ferry and sftp, both with AES-GCM",
        1.2, (near(Sshd, Client::Ferry, Big(Up)), near(Sshd, Client::Sftp(GCM), Big(Up))), 322.0),
    pair("client-far-down", "256 MiB from sshd over 50 ms, ferry and sftp",
        3.0, (far(Sshd, Client::Ferry, Big(Down)), far(Sshd, Client::Sftp(GCM), Big(Down))), 34.0),
    pair("client-far-up", "256 MiB to sshd over 50 ms, ferry and sftp",
        3.0, (far(Sshd, Client::Ferry, Big(Up)), far(Sshd, Client::Sftp(GCM), Big(Up))), 36.0),
    pair("small-down", "10,000 x 4 KiB in 100 directories from sshd, ferry and sftp -r",
        2.0, (near(Sshd, Client::Ferry, Small(Down)), near(Sshd, SFTP, Small(Down))), 1_870.0),
    pair("small-up", "the same to sshd",
        2.0, (near(Sshd, Client::Ferry, Small(Up)), near(Sshd, SFTP, Small(Up))), 2_190.0),
    // The best of sftp, lftp and rclone at each, all with the same number of files at once.
    pair("best-huge-down", "4 GiB from sshd, ferry and the best of sftp, lftp and rclone",
        1.0, best(Link::Near, Huge(Down)), 0.0),
    pair("best-huge-up", "the same to sshd", 1.0, best(Link::Near, Huge(Up)), 0.0),
    pair("best-mixed-down", "1 GiB in 5,800 files of all sizes from sshd, ferry and the best of theirs",
        1.0, best(Link::Near, Mixed(Down)), 0.0),
    pair("best-mixed-up", "the same to sshd", 1.0, best(Link::Near, Mixed(Up)), 0.0),
    pair("best-small-down", "10,000 x 4 KiB from sshd, ferry and the best of theirs",
        1.0, best(Link::Near, Small(Down)), 0.0),
    pair("best-small-up", "the same to sshd", 1.0, best(Link::Near, Small(Up)), 0.0),
    pair("best-far-down", "256 MiB from sshd over 50 ms, ferry and the best of theirs",
        1.0, best(Link::Far, Big(Down)), 0.0),
    pair("best-far-up", "the same to sshd", 1.0, best(Link::Far, Big(Up)), 0.0),
    pair("best-small-far-down", "500 x 4 KiB from sshd over 50 ms, ferry; 100 of them, the best of theirs",
        1.0, best(Link::Far, Small(Down)), 0.0),
    pair("best-small-far-up", "the same to sshd", 1.0, best(Link::Far, Small(Up)), 0.0),
    pair("rclone-small-down", "10,000 x 4 KiB from sshd, ferry and rclone",
        2.0, (near(Sshd, Client::Ferry, Small(Down)), near(Sshd, Client::Rclone, Small(Down))), 1_450.0),
    pair("rclone-small-up", "the same to sshd",
        2.0, (near(Sshd, Client::Ferry, Small(Up)), near(Sshd, Client::Rclone, Small(Up))), 1_240.0),
    pair("rclone-sync-same", "100,000 files that are the same on both sides, ferry sync and rclone sync",
        2.0, (near(Sshd, Client::Ferry, Same), near(Sshd, Client::Rclone, Same)), 0.0),
    Scenario {
        name: "memory-many",
        about: "the most memory of ferry for a tree of 1,000,000 files",
        bar: Bar::AtMost(256.0),
        measure: Measure::Special(special::many),
    },
    pair("small-down-both", "the same, ferry from ferryd against sftp -r from sshd",
        3.0, (near(Ferryd, Client::Ferry, Small(Down)), near(Sshd, SFTP, Small(Down))), 1_870.0),
    pair("small-up-both", "the same, ferry to ferryd against sftp -r to sshd",
        3.0, (near(Ferryd, Client::Ferry, Small(Up)), near(Sshd, SFTP, Small(Up))), 2_190.0),
    pair("small-far-down", "500 x 4 KiB from sshd over 50 ms, ferry; 100 of them, sftp -r",
        10.0, (far(Sshd, Client::Ferry, Small(Down)), far(Sshd, SFTP, Small(Down))), 4.0),
    pair("small-far-up", "500 x 4 KiB to sshd over 50 ms, ferry; 100 of them, sftp -r",
        10.0, (far(Sshd, Client::Ferry, Small(Up)), far(Sshd, SFTP, Small(Up))), 6.0),
    // curl of Debian 12 cannot log in to ferryd: what is known is of rclone, the next.
    pair("list-server", "a directory of 100,000 entries, ferryd and sshd under the quickest that reaches both",
        1.0, servers(Client::QuickestOfBoth, List), 60_000.0),
    pair("list-client", "the same from sshd, ferry and the quickest of their clients",
        1.0, (near(Sshd, Client::Ferry, List), near(Sshd, Client::Quickest, List)), 88_000.0),
    Scenario {
        name: "idle",
        about: "memory of an idle session, of 1,000 at ferryd and of 100 at sshd",
        bar: Bar::AtMost(100.0),
        measure: Measure::Special(special::idle),
    },
    Scenario {
        name: "logins",
        about: "sftp that logs in and leaves, four at a time",
        bar: Bar::None,
        measure: Measure::Special(special::logins),
    },
    // curl where nothing else may be the limit, lftp where a tree is moved; each of their servers in its
    // packaged defaults, and the harder of the two decides.
    pair("ftp-server-down-pure", "1 GiB from ferryd and Pure-FTPd over plain FTP, curl",
        1.0, (near(FerrydFtp, Client::Curl, Big(Down)), near(PureFtpd, Client::Curl, Big(Down))), 789.0),
    pair("ftp-server-down-vsftpd", "the same from vsftpd",
        1.0, (near(FerrydFtp, Client::Curl, Big(Down)), near(Vsftpd, Client::Curl, Big(Down))), 395.0),
    pair("ftp-server-up-pure", "1 GiB to ferryd and Pure-FTPd over plain FTP, curl",
        1.0, (near(FerrydFtp, Client::Curl, Big(Up)), near(PureFtpd, Client::Curl, Big(Up))), 1_750.0),
    pair("ftp-server-up-vsftpd", "the same to vsftpd",
        1.0, (near(FerrydFtp, Client::Curl, Big(Up)), near(Vsftpd, Client::Curl, Big(Up))), 711.0),
    pair("ftp-server-down-proftpd", "the same from ProFTPD",
        1.0, (near(FerrydFtp, Client::Curl, Big(Down)), near(Proftpd, Client::Curl, Big(Down))), 0.0),
    pair("ftps-server-down-proftpd", "the same over TLS",
        1.2, (near(FerrydTls, Client::Curl, Big(Down)), near(ProftpdTls, Client::Curl, Big(Down))), 0.0),
    pair("ftps-server-down-pure", "1 GiB from ferryd and Pure-FTPd over TLS, curl",
        1.2, (near(FerrydTls, Client::Curl, Big(Down)), near(PureFtpdTls, Client::Curl, Big(Down))), 300.0),
    pair("ftps-server-down-vsftpd", "the same from vsftpd",
        1.2, (near(FerrydTls, Client::Curl, Big(Down)), near(VsftpdTls, Client::Curl, Big(Down))), 300.0),
    pair("ftps-server-up-pure", "1 GiB to ferryd and Pure-FTPd over TLS, curl",
        1.2, (near(FerrydTls, Client::Curl, Big(Up)), near(PureFtpdTls, Client::Curl, Big(Up))), 200.0),
    pair("ftps-server-up-vsftpd", "the same to vsftpd",
        1.2, (near(FerrydTls, Client::Curl, Big(Up)), near(VsftpdTls, Client::Curl, Big(Up))), 200.0),
    // One curl needs a whole processor for TLS, from any server: several show what the servers need.
    pair("ftps-server-several-down-pure", "4 x 256 MiB over TLS from ferryd and Pure-FTPd, four curls at a time",
        1.2, (near(FerrydTls, Client::Curl, Several(Down)), near(PureFtpdTls, Client::Curl, Several(Down))), 0.0),
    pair("ftps-server-several-down-vsftpd", "the same from vsftpd",
        1.2, (near(FerrydTls, Client::Curl, Several(Down)), near(VsftpdTls, Client::Curl, Several(Down))), 0.0),
    pair("ftps-server-several-up-pure", "4 x 256 MiB over TLS to ferryd and Pure-FTPd, four curls at a time",
        1.2, (near(FerrydTls, Client::Curl, Several(Up)), near(PureFtpdTls, Client::Curl, Several(Up))), 0.0),
    pair("ftps-server-several-up-vsftpd", "the same to vsftpd",
        1.2, (near(FerrydTls, Client::Curl, Several(Up)), near(VsftpdTls, Client::Curl, Several(Up))), 0.0),
    pair("ftp-server-small-down-pure", "10,000 x 4 KiB from ferryd and Pure-FTPd, curl with 8 connections",
        1.2, (near(FerrydFtp, Client::Curl, Small(Down)), near(PureFtpd, Client::Curl, Small(Down))), 3_860.0),
    pair("ftp-server-small-down-vsftpd", "the same from vsftpd",
        1.2, (near(FerrydFtp, Client::Curl, Small(Down)), near(Vsftpd, Client::Curl, Small(Down))), 1_410.0),
    pair("ftp-server-small-up-pure", "10,000 x 4 KiB to ferryd and Pure-FTPd, curl with 8 connections",
        1.2, (near(FerrydFtp, Client::Curl, Small(Up)), near(PureFtpd, Client::Curl, Small(Up))), 4_280.0),
    pair("ftp-server-small-up-vsftpd", "the same to vsftpd",
        1.2, (near(FerrydFtp, Client::Curl, Small(Up)), near(Vsftpd, Client::Curl, Small(Up))), 2_670.0),
    // What bounds the rows above: no server can be quicker than one that does nothing with what comes, and no TLS
    // costs less than none.
    beside("ftp-server-small-up-floor",
        "10,000 x 4 KiB to a server that keeps nothing and to Pure-FTPd, curl with 8 connections",
        (near(Floor, Client::Curl, Small(Up)), near(PureFtpd, Client::Curl, Small(Up)))),
    beside("ftp-server-several-down-floor", "4 x 256 MiB without TLS from ferryd and Pure-FTPd, four curls at a time",
        (near(FerrydFtp, Client::Curl, Several(Down)), near(PureFtpd, Client::Curl, Several(Down)))),
    beside("ftp-server-several-up-floor", "the same to them",
        (near(FerrydFtp, Client::Curl, Several(Up)), near(PureFtpd, Client::Curl, Several(Up)))),
    pair("ftp-client-down", "1 GiB from Pure-FTPd, ferry and lftp",
        1.0, (near(PureFtpd, Client::Ferry, Big(Down)), near(PureFtpd, Client::Lftp, Big(Down))), 1_100.0),
    pair("ftp-client-up", "1 GiB to Pure-FTPd, ferry and lftp",
        1.0, (near(PureFtpd, Client::Ferry, Big(Up)), near(PureFtpd, Client::Lftp, Big(Up))), 1_241.0),
    pair("ftp-small-down", "10,000 x 4 KiB from Pure-FTPd, ferry and lftp, 8 connections each",
        1.5, (near(PureFtpd, Client::Ferry, Small(Down)), near(PureFtpd, Client::Lftp, Small(Down))), 2_550.0),
    pair("ftp-small-up", "10,000 x 4 KiB to Pure-FTPd, ferry and lftp, 8 connections each",
        1.5, (near(PureFtpd, Client::Ferry, Small(Up)), near(PureFtpd, Client::Lftp, Small(Up))), 3_140.0),
    pair("ftps-small-down", "the same over TLS from Pure-FTPd",
        10.0, (near(PureFtpdTls, Client::Ferry, Small(Down)), near(PureFtpdTls, Client::Lftp, Small(Down))), 78.0),
    pair("ftps-small-up", "the same over TLS to Pure-FTPd",
        10.0, (near(PureFtpdTls, Client::Ferry, Small(Up)), near(PureFtpdTls, Client::Lftp, Small(Up))), 84.0),
    pair("ftps-small-down-vsftpd", "1,000 x 4 KiB over TLS from vsftpd, ferry and lftp",
        10.0, (near(VsftpdTls, Client::Ferry, Small(Down)), near(VsftpdTls, Client::Lftp, Small(Down))), 78.0),
    pair("ftps-small-up-vsftpd", "the same to vsftpd",
        10.0, (near(VsftpdTls, Client::Ferry, Small(Up)), near(VsftpdTls, Client::Lftp, Small(Up))), 84.0),
    // What bounds the rows above: a client that looks at nothing once it was sent.
    beside("ftp-small-down-floor", "10,000 x 4 KiB from Pure-FTPd, curl and lftp, 8 connections each",
        (near(PureFtpd, Client::Curl, Small(Down)), near(PureFtpd, Client::Lftp, Small(Down)))),
    beside("ftp-small-up-floor", "the same to Pure-FTPd",
        (near(PureFtpd, Client::Curl, Small(Up)), near(PureFtpd, Client::Lftp, Small(Up)))),
    beside("ftps-small-down-floor", "the same over TLS from Pure-FTPd",
        (near(PureFtpdTls, Client::Curl, Small(Down)), near(PureFtpdTls, Client::Lftp, Small(Down)))),
    beside("ftps-small-up-floor", "the same over TLS to Pure-FTPd",
        (near(PureFtpdTls, Client::Curl, Small(Up)), near(PureFtpdTls, Client::Lftp, Small(Up)))),
    pair("ftp-far-down", "256 MiB from Pure-FTPd over 50 ms, ferry and lftp",
        3.0, (far(PureFtpd, Client::Ferry, Big(Down)), far(PureFtpd, Client::Lftp, Big(Down))), 0.0),
    pair("ftp-far-up", "256 MiB to Pure-FTPd over 50 ms, ferry and lftp",
        3.0, (far(PureFtpd, Client::Ferry, Big(Up)), far(PureFtpd, Client::Lftp, Big(Up))), 0.0),
    // What bounds the rows above: the way there and the login, for a file of one byte.
    beside("ftp-far-down-floor", "one byte from Pure-FTPd over 50 ms, ferry and lftp; files a second",
        (far(PureFtpd, Client::Ferry, Byte(Down)), far(PureFtpd, Client::Lftp, Byte(Down)))),
    beside("ftp-far-up-floor", "the same to Pure-FTPd",
        (far(PureFtpd, Client::Ferry, Byte(Up)), far(PureFtpd, Client::Lftp, Byte(Up)))),
    pair("ftp-small-far-down", "500 x 4 KiB from Pure-FTPd over 50 ms, ferry; 100 of them, lftp",
        3.0, (far(PureFtpd, Client::Ferry, Small(Down)), far(PureFtpd, Client::Lftp, Small(Down))), 0.0),
    pair("ftp-small-far-up", "500 x 4 KiB to Pure-FTPd over 50 ms, ferry; 100 of them, lftp",
        3.0, (far(PureFtpd, Client::Ferry, Small(Up)), far(PureFtpd, Client::Lftp, Small(Up))), 0.0),
    beside("ftp-list-server", "a directory of 100,000 entries, ferryd and Pure-FTPd under curl",
        (near(FerrydFtp, Client::Curl, List), near(PureFtpd, Client::Curl, List))),
    beside("ftp-list-client", "the same from Pure-FTPd, ferry and lftp",
        (near(PureFtpd, Client::Ferry, List), near(PureFtpd, Client::Lftp, List))),
    Scenario {
        name: "ftp-idle",
        about: "memory of an idle session of FTP, of 1,000 at ferryd and of 100 at vsftpd",
        bar: Bar::AtMost(40.0),
        measure: Measure::Special(special::idle_ftp),
    },
    Scenario {
        name: "ftps-idle",
        about: "the same under TLS",
        bar: Bar::None,
        measure: Measure::Special(special::idle_ftps),
    },
    Scenario {
        name: "ftp-logins",
        about: "curl that logs in and leaves, four at a time, at ferryd and Pure-FTPd",
        bar: Bar::None,
        measure: Measure::Special(special::logins_ftp),
    },
    // curl moves files one by one or, of a tree, eight at a time. rclone waits between requests of WebDAV, so
    // that its rows say little of small files.
    pair("dav-server-down-nginx", "1 GiB from ferryd and nginx by WebDAV, curl",
        1.0, (near(FerrydDav, Client::Curl, Big(Down)), near(Nginx, Client::Curl, Big(Down))), 1348.0),
    pair("dav-server-down-apache", "the same from Apache",
        1.0, (near(FerrydDav, Client::Curl, Big(Down)), near(Apache, Client::Curl, Big(Down))), 1133.0),
    pair("dav-server-up-nginx", "1 GiB to ferryd and nginx by WebDAV, curl",
        1.0, (near(FerrydDav, Client::Curl, Big(Up)), near(Nginx, Client::Curl, Big(Up))), 1237.0),
    pair("dav-server-up-apache", "the same to Apache",
        1.0, (near(FerrydDav, Client::Curl, Big(Up)), near(Apache, Client::Curl, Big(Up))), 930.0),
    pair("dav-server-small-down-nginx", "10,000 x 4 KiB from ferryd and nginx by WebDAV, curl",
        1.0, (near(FerrydDav, Client::Curl, Small(Down)), near(Nginx, Client::Curl, Small(Down))), 3370.0),
    pair("dav-server-small-down-apache", "the same from Apache",
        1.0, (near(FerrydDav, Client::Curl, Small(Down)), near(Apache, Client::Curl, Small(Down))), 3770.0),
    pair("dav-server-small-up-nginx", "10,000 x 4 KiB to ferryd and nginx by WebDAV, curl",
        1.0, (near(FerrydDav, Client::Curl, Small(Up)), near(Nginx, Client::Curl, Small(Up))), 1920.0),
    pair("dav-server-small-up-apache", "the same to Apache",
        1.0, (near(FerrydDav, Client::Curl, Small(Up)), near(Apache, Client::Curl, Small(Up))), 2730.0),
    pair("dav-server-list-nginx", "a directory of 100,000 entries, ferryd and nginx by WebDAV, curl",
        1.0, (near(FerrydDav, Client::Curl, List), near(Nginx, Client::Curl, List)), 0.0),
    pair("dav-server-list-apache", "the same from Apache",
        1.0, (near(FerrydDav, Client::Curl, List), near(Apache, Client::Curl, List)), 0.0),
    pair("dav-client-down", "1 GiB from nginx by WebDAV, ferry and curl",
        1.0, (near(Nginx, Client::Ferry, Big(Down)), near(Nginx, Client::Curl, Big(Down))), 1348.0),
    pair("dav-client-up", "1 GiB to nginx by WebDAV, ferry and curl",
        1.0, (near(Nginx, Client::Ferry, Big(Up)), near(Nginx, Client::Curl, Big(Up))), 1237.0),
    pair("dav-client-small-down", "10,000 x 4 KiB from nginx by WebDAV, ferry and curl",
        1.0, (near(Nginx, Client::Ferry, Small(Down)), near(Nginx, Client::Curl, Small(Down))), 3370.0),
    pair("dav-client-small-up", "10,000 x 4 KiB to nginx by WebDAV, ferry and curl",
        1.0, (near(Nginx, Client::Ferry, Small(Up)), near(Nginx, Client::Curl, Small(Up))), 1920.0),
    pair("dav-rclone-small-down", "10,000 x 4 KiB from nginx by WebDAV, ferry and rclone",
        2.0, (near(Nginx, Client::Ferry, Small(Down)), near(Nginx, Client::Rclone, Small(Down))), 85.0),
    pair("dav-rclone-small-up", "10,000 x 4 KiB to nginx by WebDAV, ferry and rclone",
        2.0, (near(Nginx, Client::Ferry, Small(Up)), near(Nginx, Client::Rclone, Small(Up))), 30.0),
    pair("dav-far-down", "256 MiB from nginx by WebDAV over 50 ms, ferry and curl",
        1.0, (far(Nginx, Client::Ferry, Big(Down)), far(Nginx, Client::Curl, Big(Down))), 0.0),
    pair("dav-far-up", "256 MiB to nginx by WebDAV over 50 ms, ferry and curl",
        1.0, (far(Nginx, Client::Ferry, Big(Up)), far(Nginx, Client::Curl, Big(Up))), 0.0),
    pair("s3-server-down", "1 GiB from ferryd and s3s-fs by S3, s5cmd",
        1.0, (near(FerrydS3, Client::S5cmd, Big(Down)), near(S3sFs, Client::S5cmd, Big(Down))), 0.0),
    pair("s3-server-up", "1 GiB to ferryd and s3s-fs by S3, s5cmd",
        1.0, (near(FerrydS3, Client::S5cmd, Big(Up)), near(S3sFs, Client::S5cmd, Big(Up))), 0.0),
    pair("s3-server-small-down", "10,000 x 4 KiB from ferryd and s3s-fs by S3, s5cmd",
        1.0, (near(FerrydS3, Client::S5cmd, Small(Down)), near(S3sFs, Client::S5cmd, Small(Down))), 0.0),
    pair("s3-server-small-up", "10,000 x 4 KiB to ferryd and s3s-fs by S3, s5cmd",
        1.0, (near(FerrydS3, Client::S5cmd, Small(Up)), near(S3sFs, Client::S5cmd, Small(Up))), 0.0),
    pair("s3-server-list", "a directory of 100,000 entries, ferryd and s3s-fs by S3, s5cmd",
        1.0, (near(FerrydS3, Client::S5cmd, List), near(S3sFs, Client::S5cmd, List)), 0.0),
    pair("s3-client-down", "1 GiB from s3s-fs by S3, ferry and s5cmd",
        1.0, (near(S3sFs, Client::Ferry, Big(Down)), near(S3sFs, Client::S5cmd, Big(Down))), 0.0),
    pair("s3-client-up", "1 GiB to s3s-fs by S3, ferry and s5cmd",
        1.0, (near(S3sFs, Client::Ferry, Big(Up)), near(S3sFs, Client::S5cmd, Big(Up))), 0.0),
    pair("s3-client-small-down", "10,000 x 4 KiB from s3s-fs by S3, ferry and s5cmd",
        1.0, (near(S3sFs, Client::Ferry, Small(Down)), near(S3sFs, Client::S5cmd, Small(Down))), 0.0),
    pair("s3-client-small-up", "10,000 x 4 KiB to s3s-fs by S3, ferry and s5cmd",
        1.0, (near(S3sFs, Client::Ferry, Small(Up)), near(S3sFs, Client::S5cmd, Small(Up))), 0.0),
    pair("s3-client-list", "a directory of 100,000 entries, s3s-fs by S3, ferry and s5cmd",
        1.0, (near(S3sFs, Client::Ferry, List), near(S3sFs, Client::S5cmd, List)), 0.0),
    pair("s3-rclone-small-down", "10,000 x 4 KiB from s3s-fs by S3, ferry and rclone",
        2.0, (near(S3sFs, Client::Ferry, Small(Down)), near(S3sFs, Client::Rclone, Small(Down))), 0.0),
    pair("s3-rclone-small-up", "10,000 x 4 KiB to s3s-fs by S3, ferry and rclone",
        2.0, (near(S3sFs, Client::Ferry, Small(Up)), near(S3sFs, Client::Rclone, Small(Up))), 0.0),
    pair("s3-far-down", "256 MiB from s3s-fs by S3 over 50 ms, ferry and s5cmd",
        1.0, (far(S3sFs, Client::Ferry, Big(Down)), far(S3sFs, Client::S5cmd, Big(Down))), 0.0),
    pair("s3-far-up", "256 MiB to s3s-fs by S3 over 50 ms, ferry and s5cmd",
        1.0, (far(S3sFs, Client::Ferry, Big(Up)), far(S3sFs, Client::S5cmd, Big(Up))), 0.0),
    Scenario {
        name: "gateway-memory-sftp",
        about: "the most memory of ferryd as a gateway to SFTP while 20 GiB come through it and 4 GiB go",
        bar: Bar::AtMost(128.0),
        measure: Measure::Special(gateways::sftp),
    },
    Scenario {
        name: "gateway-memory-ftp",
        about: "the most memory of ferryd as a gateway to FTP while 20 GiB come through it and 4 GiB go",
        bar: Bar::AtMost(128.0),
        measure: Measure::Special(gateways::ftp),
    },
    Scenario {
        name: "gateway-memory-dav",
        about: "the most memory of ferryd as a gateway to WebDAV while 20 GiB come through it and 4 GiB go",
        bar: Bar::AtMost(128.0),
        measure: Measure::Special(gateways::dav),
    },
    Scenario {
        name: "gateway-memory-s3",
        about: "the most memory of ferryd as a gateway to S3 while 20 GiB come through it and 4 GiB go",
        bar: Bar::AtMost(128.0),
        measure: Measure::Special(gateways::s3),
    },
    Scenario {
        name: "hook",
        about: "an empty hook, the hop to its thread included, in the median",
        bar: Bar::Below(20.0),
        measure: Measure::Special(special::hook),
    },
    Scenario {
        name: "server-hook-p99",
        about: "the same, of a hundred the slowest but one",
        bar: Bar::Below(100.0),
        measure: Measure::Special(special::hook_p99),
    },
    Scenario {
        name: "server-permissions",
        about: "a permission check with 1,000 rules",
        bar: Bar::Below(5.0),
        measure: Measure::Special(special::permissions),
    },
    Scenario {
        name: "server-crowd",
        about: "memory of ferryd for 10,000 idle sessions",
        bar: Bar::Below(1024.0),
        measure: Measure::Special(special::crowd),
    },
    Scenario {
        name: "server-terminate-p99",
        about: "ending a session that uploads, among others that do, of a hundred the slowest but one",
        bar: Bar::Below(100.0),
        measure: Measure::Special(live::terminate),
    },
    Scenario {
        name: "server-outbox",
        about: "10,000 x 4 KiB to ferryd that tells of each through its outbox, and to one that does not",
        bar: Bar::None,
        measure: Measure::Special(live::outbox),
    },
    Scenario {
        name: "server-hooked-small",
        about: "10,000 x 4 KiB to ferryd with a handler on every event before and after something, and to one with none of them",
        bar: Bar::None,
        measure: Measure::Special(hooked::small),
    },
    Scenario {
        name: "server-hooked-down",
        about: "1 GiB from the same two, sftp, while others make 1,000 calls a second of each processor, 1 KiB each",
        bar: Bar::Ratio(0.95),
        measure: Measure::Special(hooked::bulk_down),
    },
    Scenario {
        name: "server-hooked-up",
        about: "1 GiB to them, sftp, meanwhile",
        bar: Bar::Ratio(0.95),
        measure: Measure::Special(hooked::bulk_up),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_names_of_their_own() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn pairs_differ_on_our_side_only() {
        for scenario in SCENARIOS {
            let Measure::Pair { ours, theirs, .. } = &scenario.measure else { continue };
            assert_eq!((ours.task, ours.link), (theirs.task, theirs.link), "{}", scenario.name);
            assert!(theirs.client != Client::Ferry && !theirs.server.is_ours(), "{}", scenario.name);
            // What bounds a row need not be ours.
            let is_free = matches!(scenario.bar, Bar::None);
            let is_alike = ours.client == Client::Ferry || ours.client == theirs.client;
            assert!(is_alike || is_free, "{}", scenario.name);
        }
    }
}
