//! Files as the programs write them.

use std::path::Path;

use session_core::error::ErrorKind;

use super::*;
use crate::script::Drives;
use crate::session::{FtpMode, FtpSecure, Protocol};

fn site<'a>(imported: &'a Imported, name: &str) -> &'a Site {
    let found = imported.sites.iter().find(|s| s.name == name);
    found.unwrap_or_else(|| {
        panic!("no '{name}' in {:?}", imported.sites.iter().map(|s| &s.name).collect::<Vec<_>>())
    })
}

fn noted(imported: &Imported, site: &str, word: &str) -> bool {
    imported.notes.iter().any(|n| n.site == site && n.words.contains(word))
}

fn password(site: &Site) -> Option<&str> {
    site.options.password.as_ref().map(session_core::auth::Secret::expose)
}

#[test]
fn winscp_ini() {
    let text = include_str!("../../../tests/data/sites/WinSCP.ini");
    let mut drives = Drives::new();
    drives.add("D:=/mnt/d").unwrap();
    let all = winscp(text, &drives);
    let names: Vec<&str> = all.sites.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        ["Customers/ACME web", "behind", "Old FTP", "plink", "cloud", "München"],
        "{:?}",
        all.notes
    );

    let acme = site(&all, "Customers/ACME web");
    assert_eq!(password(acme), Some("s3cr3t;päss=%"));
    assert_eq!(
        (acme.options.host_name.as_str(), acme.options.port_number, acme.options.user_name.as_deref()),
        ("web.example.com", 2222, Some("deploy"))
    );
    assert_eq!(acme.directory.as_deref(), Some("/var/www/acme web"));
    assert_eq!(acme.options.ssh_private_key_path.as_deref(), Some(Path::new("/mnt/d/keys/id.ppk")));
    assert_eq!(acme.options.raw_setting("PingIntervalSecs"), Some("45"));
    assert!(acme.options.raw_setting("HostName").is_none(), "what has an option of its own");
    for word in ["LocalDirectory=C:\\Projects\\acme", "SFTPMaxVersion=6", "SomethingNew"] {
        assert!(noted(&all, &acme.name, word), "{word}: {:?}", all.notes);
    }
    assert!(!noted(&all, &acme.name, "Color"));

    let behind = site(&all, "behind");
    for (name, value) in [
        ("TunnelHostName", "bastion.example.com"),
        ("TunnelPasswordPlain", "gate"),
        ("ProxyMethod", "3"),
        ("ProxyPassword", "px"),
    ] {
        assert_eq!(behind.options.raw_setting(name), Some(value));
    }
    assert!(behind.options.to_connect().is_ok());

    let ftp = site(&all, "Old FTP");
    assert_eq!((ftp.options.ftp_secure, ftp.options.ftp_mode), (FtpSecure::Explicit, FtpMode::Active));
    // It was scrambled for another host.
    assert_eq!(password(ftp), None);
    assert!(noted(&all, "Old FTP", "does not fit"));
    assert!(noted(&all, "plink", "command of Windows"));
    assert_eq!(site(&all, "plink").options.raw_setting("ProxyMethod"), None);
    assert_eq!(
        (site(&all, "cloud").options.protocol, site(&all, "cloud").options.secure),
        (Protocol::Webdav, true)
    );
    assert!(noted(&all, "Desk/0000", "workspace") && noted(&all, "broken", "no host name"));
    assert!(noted(&all, "", "host keys"));

    let unmapped = winscp(text, &Drives::new());
    assert!(noted(&unmapped, "Customers/ACME web", "the drive D:"), "{:?}", unmapped.notes);
    let locked = text.replace("UseMasterPassword=0", "UseMasterPassword=1");
    let locked = winscp(&locked, &drives);
    assert_eq!(password(site(&locked, "Customers/ACME web")), None);
    assert!(noted(&locked, "Customers/ACME web", "master password"));
    for note in all.notes.iter().chain(&locked.notes) {
        assert!(!note.words.contains("s3cr3t") && !note.words.contains("A35C"), "{note:?}");
    }
}

#[test]
fn winscps_mask_comes_off_whatever_stands_there() {
    use super::winscp::unscramble;
    for bad in ["", "A", "A3", "zz", "A35C", "A35C00", "A35D5C5C", "A35E5C5C", "ÄÖ"] {
        assert_eq!(unscramble(bad, ""), None, "{bad}");
    }
    // The oldest form: the length comes first, and no owner stands in front.
    let hide = |bytes: &[u8]| bytes.iter().map(|b| format!("{:02X}", !b ^ 0xA3)).collect::<String>();
    assert_eq!(unscramble(&hide(&[2, 1, 0, b'o', b'k', 9]), "u"), Some("ok".into()));
    // The newest: two bytes of length.
    let long = "p".repeat(300);
    let bytes = [&[0xFF, 2, 1, 45, 0][..], b"u", long.as_bytes()].concat();
    assert_eq!(unscramble(&hide(&bytes), "u"), Some(long));
}

#[test]
fn sitemanager_xml() {
    let text = include_str!("../../../tests/data/sites/sitemanager.xml");
    let all = filezilla(text, &Drives::new()).unwrap();
    let names: Vec<&str> = all.sites.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["Work & play/Web <1>", "Work & play/Old/Plain", "::1", "key"], "{:?}", all.notes);
    let web = site(&all, "Work & play/Web <1>");
    assert_eq!((password(web), web.directory.as_deref()), (Some("pä&ss"), Some("/files/my dir")));
    assert_eq!((web.options.protocol, web.options.port_number), (Protocol::Sftp, 2022));
    assert!(noted(&all, &web.name, "LocalDir"));
    let old = site(&all, "Work & play/Old/Plain");
    assert_eq!((old.options.ftp_secure, old.options.ftp_mode), (FtpSecure::Explicit, FtpMode::Active));
    for word in ["if available", "master password", "EncodingType=Custom"] {
        assert!(noted(&all, &old.name, word), "{word}: {:?}", all.notes);
    }
    let anonymous = site(&all, "::1");
    assert_eq!((anonymous.options.ftp_secure, &anonymous.options.user_name), (FtpSecure::Implicit, &None));
    assert_eq!(password(anonymous), None);
    assert_eq!(site(&all, "key").options.ssh_private_key_path.as_deref(), Some(Path::new("/keys/kim.ppk")));
    assert!(noted(&all, "bucket", "Protocol=7"));
    for bad in ["", "<a/>", "<FileZilla3><Servers>", "<FileZilla3>&nonsense;</FileZilla3>", "nothing"] {
        assert_eq!(filezilla(bad, &Drives::new()).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
    let deep = format!("<FileZilla3>{}", "<Folder>".repeat(100_000));
    assert!(filezilla(&deep, &Drives::new()).unwrap_err().to_string().contains("without end"));
}

#[test]
fn rclone_conf() {
    let all = rclone(include_str!("../../../tests/data/sites/rclone.conf")).unwrap();
    let web = site(&all, "web");
    assert_eq!((password(web), web.options.port_number), (Some("potato"), 2022));
    assert_eq!(web.options.ssh_private_key_path.as_deref(), Some(Path::new("/keys/web")));
    assert!(noted(&all, "web", "shell_type") && noted(&all, "web", "md5sum_command"));
    let ftps = site(&all, "ftps");
    assert_eq!(ftps.options.ftp_secure, FtpSecure::Implicit);
    assert_eq!(ftps.options.raw_setting("ProxyHost"), Some("proxy.example.com"));
    assert_eq!(ftps.options.raw_setting("ProxyPassword"), Some("w"));
    assert!(noted(&all, "ftps", "no_check_certificate") && noted(&all, "ftps", "pass"));
    assert!(!ftps.options.accept_any_certificate, "trust is not imported");
    assert!(noted(&all, "drive", "type 'drive'"));
    let cloud = site(&all, "cloud");
    assert_eq!(cloud.options.to_url(), "davs://ann@cloud.example.com:8443/remote.php/dav/files/ann");
    assert_eq!(password(cloud), Some("potato"));
    assert!(noted(&all, "cloud", "bearer_token") && !noted(&all, "cloud", "vendor"));
    let store = site(&all, "store");
    assert!(store.options.to_url().starts_with("s3plain://AKID"), "{}", store.options.to_url());
    assert_eq!((password(store), store.options.port_number), (Some("s3cret"), 9000));
    assert_eq!(store.options.raw_setting("S3DefaultRegion"), Some("eu-west-1"));
    assert_eq!(store.options.raw_setting("S3UrlStyle"), Some("1"));
    assert!(noted(&all, "store", "storage_class"));
    let aws = site(&all, "aws");
    assert_eq!(aws.options.host_name, "s3.amazonaws.com");
    assert_eq!(aws.options.raw_setting("S3CredentialsEnv"), Some("1"));
    assert!(noted(&all, "nowhere", "no endpoint"));
    let e = rclone("# Encrypted\nRCLONE_ENCRYPT_V0:\nabc").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

#[test]
fn rclones_cover_comes_off() {
    use super::rclone::reveal;
    assert_eq!(reveal("YmJiYmJiYmJiYmJiYmJiYp3gcEWbAw").as_deref(), Some("potato"));
    assert_eq!(reveal("YWFhYWFhYWFhYWFhYWFhYQ").as_deref(), Some(""));
    for bad in ["", "YWFh", "potato!", "====="] {
        assert_eq!(reveal(bad), None, "{bad}");
    }
}

#[test]
#[cfg(feature = "sftp")]
fn hosts_of_ssh_config() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let text = include_str!("../../../tests/data/sites/ssh_config");
    let more = dir.path().join("more");
    std::fs::write(&more, "Host included\n  HostName i.example.com\n").unwrap();
    std::fs::write(&file, text.replace("Include included", &format!("Include {}", more.display()))).unwrap();
    let all = ssh_config(&file).unwrap();
    let names: Vec<&str> = all.sites.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["web", "web-alias", "inner", "far", "odd", "included"], "{:?}", all.notes);
    let web = &site(&all, "web").options;
    assert_eq!(
        (web.host_name.as_str(), web.port_number, web.user_name.as_deref()),
        ("web.example.com", 2022, Some("deploy"))
    );
    assert_eq!(web.ssh_private_key_path.as_deref(), Some(Path::new("/keys/web")));
    assert!(noted(&all, "web", "/keys/other"));
    assert_eq!(web.raw_setting("PingIntervalSecs"), Some("45"));
    let inner = &site(&all, "inner").options;
    for (name, value) in
        [("TunnelHostName", "bastion.example.com"), ("TunnelUserName", "jump"), ("TunnelPortNumber", "2022")]
    {
        assert_eq!(inner.raw_setting(name), Some(value));
    }
    assert!(noted(&all, "far", "ProxyJump"));
    assert_eq!(site(&all, "odd").options.raw_setting("ProxyTelnetCommand"), Some("nc -x gate %host %port"));
    assert_eq!(ssh_config(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}
