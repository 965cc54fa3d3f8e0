//! Raw site settings by WinSCP's names: one table that says for each what becomes of it.
//!
//! A setting is mapped to a typed option, applied as it is, accepted only with the values that mean what
//! Ferry does anyway, or refused by name with the reason. None is ignored; a name that is not in the table
//! is refused too. The values are checked when a setting is added, not when a session is opened.
//!
//! Not here: settings of the program WinSCP itself (`Interface\…`, `Logging\…`): see
//! [`refuse_configuration`].

use session_core::error::{Error, ErrorKind, Result};

use crate::encrypted::FileKey;

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `0` or `1`.
    Switch,
    /// `0` (on), `1` (off), `2` (by itself).
    Auto,
    /// A whole number within these bounds.
    Number(i64, i64),
    /// Any text.
    Text,
}

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is another name of this option of [`super::SessionOptions`].
    Typed(&'static str),
    /// The session does as it says.
    Applied(&'static str),
    /// The session does as it says, but for these values, which are refused for the reason given.
    Except(&'static [&'static str], &'static str, &'static str),
    /// These values are what Ferry does anyway; others are refused for the reason given.
    Only(&'static [&'static str], &'static str),
    /// It cannot apply here, for the reason given.
    Refused(&'static str),
}

/// One raw setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// WinSCP's name.
    pub name: &'static str,
    /// To what it belongs.
    pub group: &'static str,
    /// What WinSCP takes where it is not given.
    pub default: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// What becomes of it.
    pub support: Support,
}

const fn s(
    group: &'static str,
    name: &'static str,
    default: &'static str,
    kind: Kind,
    support: Support,
) -> Setting {
    Setting { name, group, default, kind, support }
}

use Kind::{Auto, Number, Switch, Text};
use Support::{Applied, Except, Only, Refused, Typed};

const GSSAPI: &str =
    "logins by GSSAPI are not part of Ferry: passwords, keys, certificates and questions are";
const OLD: &str = "dss, DES, arcfour, blowfish and SSH-1 are broken and not part of Ferry";
const PUTTY: &str = "works around faults of servers that PuTTY's code has and Ferry's does not";
const SHELL: &str = "the shell is asked for /bin/sh, which has neither aliases nor a locale of its own";
const LISTING: &str = "how 'ls' writes is found out, and what it complains of is judged by what it says";
const PROXY: &str = "the way to the server; nothing without `ProxyMethod`";
const TUNNEL: &str = "the host to go over, and how it is entered; nothing without `Tunnel`";
const OLD_TLS: &str = "TLS 1.2 is the lowest";
const VMS: &str = "versions of VMS files are not part of Ferry";
const ALGORITHMS: &str = "groups of algorithms, in this order; those behind `WARN`, and those that Ferry does not speak, are not offered";

/// Every setting of WinSCP's sites.
pub const SETTINGS: &[Setting] = &[
    s("connection", "HostName", "", Text, Typed("host_name")),
    s("connection", "PortNumber", "0", Number(0, 65535), Typed("port_number")),
    s("connection", "UserName", "", Text, Typed("user_name")),
    s("connection", "Timeout", "15", Number(1, 6000), Typed("timeout")),
    s(
        "connection",
        "PingIntervalSecs",
        "30",
        Number(1, 3600),
        Applied("how often a silent server is asked; of SFTP"),
    ),
    s(
        "connection",
        "PingType",
        "0",
        Number(0, 2),
        Except(
            &["2"],
            "`1`: a silent server is asked; `0`: it is not, where this is said",
            "a silent server is asked by the protocol's own means, never by a dummy command",
        ),
    ),
    s("connection", "AddressFamily", "0", Number(0, 2), Applied("`1`: IPv4 only, `2`: IPv6 only")),
    s(
        "connection",
        "TcpNoDelay",
        "0",
        Switch,
        Only(&["0", "1"], "small packets never wait, whatever it says"),
    ),
    s(
        "connection",
        "SendBuf",
        "262144",
        Number(0, i64::MAX),
        Only(&["262144"], "the system sizes the buffers of sockets"),
    ),
    s("connection", "SourceAddress", "", Text, Applied("an address of this machine")),
    s(
        "connection",
        "ProtocolFeatures",
        "",
        Text,
        Only(&[""], "what a server can do is learnt from the server"),
    ),
    s(
        "connection",
        "SshSimple",
        "1",
        Switch,
        Only(&["0", "1"], "several channels share a connection, whatever it says"),
    ),
    s(
        "proxy",
        "ProxyMethod",
        "0",
        Number(0, 5),
        Except(
            &["4"],
            "`1`: SOCKS 4, `2`: SOCKS 5, `3`: HTTP, `5`: a command (SFTP only)",
            "telnet proxies are not part of Ferry",
        ),
    ),
    s("proxy", "ProxyHost", "", Text, Applied(PROXY)),
    s("proxy", "ProxyPort", "80", Number(0, 65535), Applied(PROXY)),
    s("proxy", "ProxyUsername", "", Text, Applied(PROXY)),
    s("proxy", "ProxyPassword", "", Text, Applied(PROXY)),
    s(
        "proxy",
        "ProxyPasswordEnc",
        "",
        Text,
        Refused("passwords that only WinSCP can unscramble cannot be read"),
    ),
    s(
        "proxy",
        "ProxyTelnetCommand",
        "",
        Text,
        Applied(
            "the command of `ProxyMethod=5`: `%host`, `%port`, `%proxyhost`, `%proxyport`, `%user`; never `%pass`",
        ),
    ),
    s(
        "proxy",
        "ProxyDNS",
        "2",
        Auto,
        Applied("who resolves names, over SOCKS 4; `1` is refused with the others, where the proxy does"),
    ),
    s("proxy", "ProxyLocalhost", "0", Switch, Applied("this machine, too, is reached by the proxy")),
    s(
        "proxy",
        "FtpProxyLogonType",
        "0",
        Number(0, 8),
        Only(&["0"], "proxies that speak FTP themselves are not part of Ferry"),
    ),
    s(
        "tunnel",
        "Tunnel",
        "0",
        Switch,
        Applied(
            "SFTP over a jump host; its key is checked by itself, also where any key of the server is accepted",
        ),
    ),
    s("tunnel", "TunnelHostName", "", Text, Applied(TUNNEL)),
    s("tunnel", "TunnelPortNumber", "22", Number(0, 65535), Applied(TUNNEL)),
    s("tunnel", "TunnelUserName", "", Text, Applied(TUNNEL)),
    s(
        "tunnel",
        "TunnelPassword",
        "",
        Text,
        Refused("passwords that only WinSCP can unscramble cannot be read"),
    ),
    s("tunnel", "TunnelPasswordPlain", "", Text, Applied(TUNNEL)),
    s("tunnel", "TunnelPublicKeyFile", "", Text, Applied(TUNNEL)),
    s(
        "tunnel",
        "TunnelPassphrase",
        "",
        Text,
        Refused("passwords that only WinSCP can unscramble cannot be read"),
    ),
    s("tunnel", "TunnelPassphrasePlain", "", Text, Applied(TUNNEL)),
    s(
        "tunnel",
        "TunnelLocalPortNumber",
        "0",
        Number(0, 65535),
        Only(&["0"], "a jump needs no port of this machine"),
    ),
    s("tunnel", "TunnelHostKey", "", Text, Applied(TUNNEL)),
    s("SSH login", "TryAgent", "1", Switch, Applied("whether the agent is asked, where one runs")),
    s(
        "SSH login",
        "AgentFwd",
        "0",
        Switch,
        Only(&["0"], "the agent is never lent to a server that only moves files"),
    ),
    s(
        "SSH login",
        "AuthKI",
        "1",
        Switch,
        Applied("whether questions of the server are answered, by the decider"),
    ),
    s(
        "SSH login",
        "AuthKIPassword",
        "1",
        Switch,
        Only(&["1"], "a single hidden question is answered with the password"),
    ),
    s("SSH login", "AuthGSSAPI", "1", Switch, Only(&["0"], GSSAPI)),
    s("SSH login", "AuthGSSAPIKEX", "0", Switch, Only(&["0"], GSSAPI)),
    s("SSH login", "GSSAPIFwdTGT", "0", Switch, Only(&["0"], GSSAPI)),
    s("SSH login", "GSSLibs", "", Text, Refused(GSSAPI)),
    s("SSH login", "GSSCustom", "", Text, Refused(GSSAPI)),
    s(
        "SSH login",
        "LogicalHostName",
        "",
        Text,
        Applied("the name under which the host key is on record; without a port"),
    ),
    s("SSH login", "ChangeUsername", "0", Switch, Only(&["0"], "the user of a login stays the same")),
    s("SSH login", "SshNoUserAuth", "0", Switch, Only(&["0"], "nobody is let in without a login")),
    s("SSH login", "PublicKeyFile", "", Text, Typed("ssh_private_key_path")),
    s(
        "SSH login",
        "DetachedCertificate",
        "",
        Text,
        Applied("the file of the certificate for the private key"),
    ),
    s(
        "SSH algorithms",
        "Compression",
        "0",
        Switch,
        Only(&["0"], "compression below encryption tells of the content"),
    ),
    s(
        "SSH algorithms",
        "Cipher",
        "aes,chacha20,aesgcm,3des,WARN,des,blowfish,arcfour",
        Text,
        Applied(ALGORITHMS),
    ),
    s("SSH algorithms", "KEX", "", Text, Applied(ALGORITHMS)),
    s("SSH algorithms", "HostKey", "", Text, Applied(ALGORITHMS)),
    s(
        "SSH algorithms",
        "RekeyTime",
        "60",
        Number(0, 1440),
        Except(
            &["0"],
            "minutes after which keys are exchanged anew",
            "keys are exchanged anew at least once a day",
        ),
    ),
    s(
        "SSH algorithms",
        "RekeyBytes",
        "1G",
        Text,
        Applied("bytes after which keys are exchanged anew, `1M` to `1G`"),
    ),
    s("SSH algorithms", "SshProt", "3", Number(0, 3), Only(&["2", "3"], OLD)),
    s("SFTP", "SftpServer", "", Text, Applied("a command that serves SFTP, instead of the subsystem `sftp`")),
    s(
        "SFTP",
        "SFTPMaxVersion",
        "-1",
        Number(-1, 6),
        Only(&["-1", "3"], "SFTP is spoken in version 3 with OpenSSH's extensions"),
    ),
    s(
        "SFTP",
        "SFTPMaxPacketSize",
        "0",
        Number(0, i64::MAX),
        Only(&["0"], "the server's limits are asked for"),
    ),
    s(
        "SFTP",
        "SFTPDownloadQueue",
        "32",
        Number(1, 10000),
        Only(&["32"], "the window grows with the delay of the line"),
    ),
    s(
        "SFTP",
        "SFTPUploadQueue",
        "64",
        Number(1, 10000),
        Only(&["64"], "the window grows with the delay of the line"),
    ),
    s(
        "SFTP",
        "SFTPListingQueue",
        "2",
        Number(1, 10000),
        Only(&["2"], "the window grows with the delay of the line"),
    ),
    s("SFTP", "SFTPRealPath", "2", Auto, Only(&["0", "2"], "the server is asked once, for the login folder")),
    s(
        "SFTP",
        "UsePosixRename",
        "0",
        Switch,
        Only(
            &["0", "1"],
            "a rename that replaces uses posix-rename wherever the server has it, one that does not never does",
        ),
    ),
    s("SFTP", "SFTPSymlinkBug", "2", Auto, Only(&["2"], "the order of arguments is known of each server")),
    s("SFTP", "SFTPSignedTSBug", "2", Auto, Only(&["2"], "times are unsigned, as the protocol says")),
    s("SCP", "Shell", "", Text, Only(&["", "/bin/sh"], SHELL)),
    s("SCP", "ReturnVar", "", Text, Only(&["", "?"], SHELL)),
    s("SCP", "ListingCommand", "ls -la", Text, Only(&["ls -la"], LISTING)),
    s("SCP", "ClearAliases", "1", Switch, Only(&["1"], SHELL)),
    s("SCP", "UnsetNationalVars", "1", Switch, Only(&["1"], SHELL)),
    s("SCP", "IgnoreLsWarnings", "1", Switch, Only(&["1"], LISTING)),
    s("SCP", "SCPLsFullTime", "2", Auto, Only(&["2"], LISTING)),
    s("SCP", "Scp1Compatibility", "0", Switch, Only(&["0"], "SCP1 of ssh.com is not spoken")),
    s("SCP", "LookupUserGroups2", "2", Auto, Only(&["2"], "groups are not asked for")),
    s("SCP", "ExitCode1IsError", "0", Switch, Only(&["0"], LISTING)),
    s("files", "Utf", "2", Auto, Only(&["0", "2"], "names are bytes; UTF-8 is what they are shown as")),
    s("files", "EOLType", "0", Number(0, 1), Only(&["0"], "the server's lines end in LF")),
    s(
        "files",
        "ResolveSymlinks",
        "1",
        Switch,
        Applied(
            "`0`: `get_file_info` and its kin tell of a link itself, and no directory behind one is entered",
        ),
    ),
    s(
        "files",
        "FollowDirectorySymlinks",
        "0",
        Switch,
        Applied(
            "`1`: transfers go into directories behind links, and leave a link that leads back to a directory around it; synchronisations refuse it, and so do transfers that remove their sources",
        ),
    ),
    s(
        "files",
        "ConsiderDST",
        "1",
        Number(0, 2),
        Only(&["0", "1", "2"], "times are points in time here; Windows' shifts do not arise"),
    ),
    s(
        "files",
        "TimeDifference",
        "0",
        Text,
        Applied(
            "FTP: days from the times in its listings to those of this machine, as `0.25`; found out by MDTM where it is 0; refused over the others, whose times are in UTC or found out",
        ),
    ),
    s("files", "TimeDifferenceAuto", "1", Switch, Applied("`0`: `TimeDifference` holds, also where it is 0")),
    s(
        "files",
        "DeleteToRecycleBin",
        "0",
        Switch,
        Applied(
            "what `remove_files` and synchronisations remove is moved to RecycleBinPath, of directories that a synchronisation removes the files",
        ),
    ),
    s(
        "files",
        "OverwrittenToRecycleBin",
        "0",
        Switch,
        Applied("files that are replaced on the server are moved to RecycleBinPath first"),
    ),
    s(
        "files",
        "RecycleBinPath",
        "",
        Text,
        Applied("where these go, as `name-yyyymmdd-hhnnss.ext`; a directory that is there"),
    ),
    s(
        "files",
        "PostLoginCommands",
        "",
        Text,
        Applied(
            "run on each connection after its login, one a line, over SSH each in a shell of its own, over FTP as raw lines; one that fails fails the login; refused over WebDAV and S3",
        ),
    ),
    s(
        "files",
        "CacheDirectories",
        "1",
        Switch,
        Only(&["0", "1"], "listings are never cached, so that none is stale"),
    ),
    s("files", "TrimVMSVersions", "0", Switch, Only(&["0"], VMS)),
    s("files", "VMSAllRevisions", "0", Switch, Only(&["0"], VMS)),
    s(
        "files",
        "EncryptKey",
        "",
        Text,
        Applied(
            "64 hexadecimal digits: what is new is encrypted before it leaves, names too, in WinSCP's format, over every protocol; such files are written anew and never continued",
        ),
    ),
    s("FTP", "FtpPasvMode", "1", Switch, Typed("ftp_mode")),
    s(
        "FTP",
        "FtpForcePasvIp2",
        "2",
        Auto,
        Applied("`1`: the address that the server names is taken if it is a public one; else always its own"),
    ),
    s("FTP", "FtpUseMlsd", "2", Auto, Applied("`1`: LIST is used, also where the server has MLSD")),
    s("FTP", "FtpAccount", "", Text, Applied("sent where the server asks for it (ACCT)")),
    s(
        "FTP",
        "FtpPingInterval",
        "30",
        Number(1, 3600),
        Applied("how often an idle connection says that it is there"),
    ),
    s(
        "FTP",
        "FtpPingType",
        "2",
        Number(0, 3),
        Except(&["3"], "`0`: never; else NOOP", "NOOP is sent, never a listing"),
    ),
    s("FTP", "FtpTransferActiveImmediately2", "2", Auto, Only(&["2"], "the order follows the standard")),
    s(
        "FTP",
        "FtpListAll",
        "2",
        Auto,
        Only(&["2"], "hidden files are asked for where the server shows them so"),
    ),
    s("FTP", "FtpHost", "2", Auto, Applied("`0`: HOST is sent before the login; else not")),
    s("FTP", "FtpWorkFromCwd", "2", Auto, Only(&["1", "2"], "paths are absolute")),
    s("FTP", "FtpAnyCodeForPwd", "0", Switch, Only(&["0"], "257 is what PWD answers")),
    s("FTP", "Ftps", "0", Number(0, 3), Typed("ftp_secure")),
    s(
        "TLS",
        "MinTlsVersion",
        "12",
        Number(10, 13),
        Except(&["10", "11"], "the oldest version that is spoken", OLD_TLS),
    ),
    s(
        "TLS",
        "MaxTlsVersion",
        "13",
        Number(10, 13),
        Except(&["10", "11"], "the newest version that is spoken", OLD_TLS),
    ),
    s(
        "TLS",
        "SslSessionReuse",
        "1",
        Switch,
        Applied("FTP: `0`: each data connection shakes hands by itself; refused over the others"),
    ),
    s("TLS", "CompleteTlsShutdown", "2", Auto, Only(&["0", "2"], "TLS is ended in good order")),
    s("TLS", "TlsCertificateFile", "", Text, Typed("tls_client_certificate_path")),
    s(
        "WebDAV",
        "WebDavLiberalEscaping",
        "0",
        Switch,
        Only(&["0"], "every byte of a name is escaped that has to be"),
    ),
    s("WebDAV", "WebDavAuthLegacy", "0", Switch, Only(&["0", "1"], "digests of the old kind are understood")),
    s(
        "WebDAV",
        "WebDavCrossDomainRedirects",
        "0",
        Switch,
        Only(&["0"], "nothing is sent to another server than the one that was named"),
    ),
    s(
        "WebDAV",
        "WebDavUnencryptedRedirects",
        "0",
        Switch,
        Only(&["0"], "nothing that began under TLS goes on without"),
    ),
    s("S3", "S3DefaultRegion", "", Text, Applied("the region; found out without it")),
    s("S3", "S3SessionToken", "", Text, Applied("the token of a key that holds for a time")),
    s("S3", "S3RoleArn", "", Text, Applied("the role to take on, renewed as needed")),
    s("S3", "S3RoleSessionName", "", Text, Applied("the name of the role's session; `ferry` without it")),
    s("S3", "S3Profile", "", Text, Applied("the profile, with `S3CredentialsEnv`")),
    s(
        "S3",
        "S3UrlStyle",
        "0",
        Number(0, 1),
        Applied("`0`: buckets in the host's name, `1`: in the path; without it as the host wants it"),
    ),
    s(
        "S3",
        "S3MaxKeys",
        "2",
        Auto,
        Applied("`0`: pages of 1,000 keys are asked for; else as the store has them"),
    ),
    s(
        "S3",
        "S3CredentialsEnv",
        "0",
        Switch,
        Applied("`1`: without a user, the environment says who logs in, SSO and web identity too"),
    ),
    s("S3", "S3RequesterPays", "0", Switch, Applied("the requester pays")),
];

/// The switches of PuTTY's for faults of servers, one row for all: `BugRekey2`, `BugOldGex2`, …
const BUGS: Setting = s("SSH algorithms", "Bug…", "2", Auto, Only(&["2"], PUTTY));

/// Settings whose values are shown to nobody.
const SECRETS: [&str; 7] = [
    "ProxyPassword",
    "TunnelPassword",
    "TunnelPassphrase",
    "EncryptKey",
    "S3SessionToken",
    "FtpAccount",
    "Password",
];

/// The setting of this name, in any case.
pub fn find(name: &str) -> Option<&'static Setting> {
    let known = SETTINGS.iter().find(|s| s.name.eq_ignore_ascii_case(name));
    let is_bug = || {
        let rest = name.get(..3).filter(|head| head.eq_ignore_ascii_case("bug")).and(name.get(3..));
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    known.or_else(|| is_bug().then_some(&BUGS))
}

/// All rows, for the documentation.
pub fn rows() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain([&BUGS])
}

/// Whether the value of this setting is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|s| name.get(..s.len()).is_some_and(|head| head.eq_ignore_ascii_case(s)))
}

/// Checks a setting. Errors: `Unsupported` with the reason for one that cannot apply, `InvalidArgument`
/// for a name that is not known and for a value that is none of its kind.
pub fn check(name: &str, value: &str) -> Result<&'static Setting> {
    let setting = find(name).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument).with_detail(format!("the raw setting '{name}' is not known"))
    })?;
    let fits = match setting.kind {
        Kind::Switch => matches!(value, "0" | "1"),
        Kind::Auto => matches!(value, "0" | "1" | "2"),
        Kind::Number(least, most) => value.parse::<i64>().is_ok_and(|n| (least..=most).contains(&n)),
        Kind::Text => true,
    };
    if !fits {
        let wanted = match setting.kind {
            Kind::Switch => "0 or 1".to_string(),
            Kind::Auto => "0 (on), 1 (off) or 2 (by itself)".to_string(),
            Kind::Number(least, i64::MAX) => format!("a number of at least {least}"),
            Kind::Number(least, most) => format!("a number from {least} to {most}"),
            Kind::Text => "a text".to_string(),
        };
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("the raw setting '{name}' takes {wanted}")));
    }
    let refuse = |why: &str| {
        Err(Error::new(ErrorKind::Unsupported)
            .with_detail(format!("the raw setting '{name}' is not supported: {why}")))
    };
    if setting.name == "EncryptKey" && !value.is_empty() {
        FileKey::parse(value)?;
    }
    match setting.support {
        Support::Except(values, _, why) if values.contains(&value) => refuse(why),
        Support::Typed(_) | Support::Applied(_) | Support::Except(..) => Ok(setting),
        Support::Only(values, _) if values.contains(&value) => Ok(setting),
        Support::Only(_, why) | Support::Refused(why) => refuse(why),
    }
}

/// Settings of the program, as `AddRawConfiguration` and `/rawconfig` give them (`Interface\…`,
/// `Logging\…`): refused by name. Errors: always `Unsupported`, with the reason.
pub fn refuse_configuration(name: &str) -> Error {
    Error::new(ErrorKind::Unsupported)
        .with_detail(format!(
            "the configuration '{name}' is not supported: there is no program behind a session that could be configured, and no registry"
        ))
        .with_hint("what a site can be told is a raw setting of its options")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_takes_its_own_default_or_says_why_not() {
        for setting in rows() {
            let name = setting.name.replace('…', "X");
            match check(&name, setting.default) {
                Ok(_) => {}
                Err(e) => {
                    // WinSCP's default would be to try what Ferry does not have.
                    let known = matches!(setting.support, Refused(_)) || name == "AuthGSSAPI";
                    assert!(known, "{name}: {e}");
                    assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}");
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_found_in_any_case() {
        let mut names: Vec<_> = SETTINGS.iter().map(|s| s.name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
        assert_eq!(find("sftpmaxversion").unwrap().name, "SFTPMaxVersion");
        assert_eq!(find("BugRekey2").unwrap().name, "Bug…");
        assert!(find("Bug").is_none() && find("Nonsense").is_none());
    }

    #[test]
    fn what_cannot_apply_is_refused_by_name() {
        for (name, value, kind, word) in [
            ("SFTPMaxVersion", "6", ErrorKind::Unsupported, "version 3"),
            ("SFTPMaxVersion", "7", ErrorKind::InvalidArgument, "from -1 to 6"),
            ("AuthGSSAPIKEX", "1", ErrorKind::Unsupported, "GSSAPI"),
            ("GSSLibs", "x", ErrorKind::Unsupported, "GSSAPI"),
            ("Compression", "yes", ErrorKind::InvalidArgument, "0 or 1"),
            ("ProxyMethod", "4", ErrorKind::Unsupported, "telnet"),
            ("ProxyMethod", "6", ErrorKind::InvalidArgument, "from 0 to 5"),
            ("PingType", "2", ErrorKind::Unsupported, "dummy"),
            ("FtpPingType", "3", ErrorKind::Unsupported, "listing"),
            ("Color", "1", ErrorKind::InvalidArgument, "not known"),
            ("MinTlsVersion", "10", ErrorKind::Unsupported, "lowest"),
            ("BugRekey2", "1", ErrorKind::Unsupported, "PuTTY"),
            ("FtpProxyLogonType", "3", ErrorKind::Unsupported, "proxies"),
            ("MaxTlsVersion", "11", ErrorKind::Unsupported, "lowest"),
        ] {
            let e = check(name, value).map(|_| ()).unwrap_err();
            assert_eq!(e.kind(), kind, "{name}: {e}");
            assert!(e.to_string().contains(word) && e.to_string().contains(name), "{e}");
        }
        assert!(check("ConsiderDST", "0").is_ok());
        assert!(refuse_configuration("Interface\\ConfirmOverwriting").to_string().contains("Interface"));
    }
}
