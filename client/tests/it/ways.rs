//! Ways to a server in WinSCP's words: proxies, a tunnel, keys as text, certificates, the active mode; each reaches a
//! server of ours and moves something.
#![cfg(all(feature = "ftp", feature = "sftp"))]

use std::sync::Arc;

use crate::proxy::TestProxy;
use crate::support::World;
use crate::support::jump::Jump;
use client::session::*;
use proto_sftp::ssh::keyfile::{Format, Kind, UserKey};
use session_core::auth::Secret;
use session_core::batch::Unattended;
use session_core::error::ErrorKind;
use tokio::io::AsyncReadExt as _;

fn with(mut options: SessionOptions, settings: &[(&str, &str)]) -> SessionOptions {
    for (name, value) in settings {
        options = options.add_raw_setting(name, value).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    options
}

/// Opens, lists and reads.
async fn works(world: &World, options: SessionOptions) {
    world.write("/d/f", "content").await;
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(session.list_directory("/d").await.unwrap().files.len(), 1);
    let mut text = String::new();
    session.get_file("/d/f").await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "content");
    session.close().await.unwrap();
}

async fn fails(options: SessionOptions) -> session_core::error::Error {
    Session::new().open(options, Arc::new(Unattended)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_by_their_numbers_on_every_protocol() {
    for world in [World::sftp().await, World::ftpes().await] {
        let proxy = TestProxy::start(Some(("me", "px")), &[]).await;
        let port = proxy.port.to_string();
        let common = [
            ("ProxyHost", "127.0.0.1"),
            ("ProxyPort", port.as_str()),
            ("ProxyUsername", "me"),
            ("ProxyPassword", "px"),
            ("ProxyLocalhost", "1"),
        ];
        for (method, word) in [("2", "socks5"), ("3", "http")] {
            let settings = [&common[..], &[("ProxyMethod", method)]].concat();
            works(&world, with(world.options(), &settings)).await;
            let last = proxy.asked().pop().unwrap();
            assert!(last.starts_with(word), "{last}");
        }
        // Without a word about it, this machine is reached straight.
        let before = proxy.asked().len();
        let straight = [&common[..4], &[("ProxyMethod", "2")]].concat();
        works(&world, with(world.options(), &straight)).await;
        assert_eq!(proxy.asked().len(), before);
        let wrong: Vec<_> =
            common.iter().map(|(n, v)| (*n, if *n == "ProxyPassword" { "no" } else { *v })).collect();
        let e = fails(with(world.options(), &[&wrong[..], &[("ProxyMethod", "2")]].concat())).await;
        assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
        assert!(!format!("{e:#}").contains("px"), "{e:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_entered_with_its_own_login_and_checked_by_itself() {
    let (world, jump) = (World::sftp().await, Jump::start().await);
    let port = jump.port.to_string();
    let tunnel = [
        ("Tunnel", "1"),
        ("TunnelHostName", "127.0.0.1"),
        ("TunnelPortNumber", port.as_str()),
        ("TunnelUserName", "hopper"),
        ("TunnelPasswordPlain", "hop"),
        ("TunnelPublicKeyFile", "/nonexistent"),
        ("TunnelHostKey", jump.fingerprint.as_str()),
        ("TryAgent", "0"),
    ];
    works(&world, with(world.options(), &tunnel)).await;
    assert_eq!(jump.reached(), [format!("127.0.0.1:{}", world.port)]);
    // Any key of the server is not any key of the tunnel.
    let unpinned: Vec<_> = tunnel.iter().copied().filter(|(n, _)| *n != "TunnelHostKey").collect();
    let any = |settings: &[(&str, &str)]| {
        let stranger = SessionOptions::sftp("127.0.0.1")
            .port_number(world.port)
            .user_name(crate::support::USER.0)
            .password(crate::support::USER.1)
            .ssh_private_key_path("/nonexistent")
            .ssh_host_key_policy(SshHostKeyPolicy::GiveUpSecurityAndAcceptAny);
        with(stranger, settings)
    };
    works(&world, any(&tunnel)).await;
    let e = fails(any(&unpinned)).await;
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    // The target's password is not the tunnel's.
    let mute: Vec<_> = tunnel.iter().copied().filter(|(n, _)| *n != "TunnelPasswordPlain").collect();
    let e = fails(with(world.options(), &mute)).await;
    assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    assert!(jump.passwords().iter().all(|p| p == "hop"), "{:?}", jump.passwords());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_as_text_in_every_format_and_their_phrase() {
    let world = World::sftp().await;
    let key = UserKey::generate(Kind::Ed25519, "k").unwrap();
    world.allow(&key.public_line().unwrap());
    let phrase = Secret::new("opens");
    let keyed = || {
        SessionOptions::sftp("127.0.0.1")
            .port_number(world.port)
            .user_name(crate::support::USER.0)
            .ssh_host_key_fingerprint(world.fingerprint.as_str())
            .unwrap()
    };
    for format in [Format::Ppk3, Format::Ppk2, Format::OpenSsh] {
        let open = key.encode(format, None).unwrap();
        works(&world, keyed().ssh_private_key(open.expose())).await;
        let locked = key.encode(format, Some(&phrase)).unwrap();
        works(&world, keyed().ssh_private_key(locked.expose()).private_key_passphrase("opens")).await;
        let e = fails(keyed().ssh_private_key(locked.expose()).private_key_passphrase("wrong")).await;
        assert_eq!(e.kind(), ErrorKind::Unauthenticated, "{e:#}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("k.ppk");
    std::fs::write(&file, key.encode(Format::Ppk3, Some(&phrase)).unwrap().expose()).unwrap();
    works(&world, keyed().ssh_private_key_path(file).private_key_passphrase("opens")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ftp_active_and_versions_of_tls() {
    let world = World::ftpes().await;
    works(&world, world.options().ftp_mode(FtpMode::Active)).await;
    works(&world, with(world.options(), &[("FtpPasvMode", "0"), ("FtpPingType", "0"), ("FtpHost", "0")]))
        .await;
    for version in ["12", "13"] {
        works(&world, with(world.options(), &[("MinTlsVersion", version), ("MaxTlsVersion", version)])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_ones_own_are_taken_and_say_what_is_wrong() {
    let world = World::ftpes().await;
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen_pair();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("both.pem"), format!("{}{}", made.0, made.1)).unwrap();
    std::fs::write(at("c.pem"), &made.0).unwrap();
    std::fs::write(at("c.key"), &made.1).unwrap();
    for name in ["both.pem", "c.pem"] {
        works(&world, world.options().tls_client_certificate_path(at(name))).await;
    }
    std::fs::write(at("alone.pem"), &made.0).unwrap();
    std::fs::write(at("p12"), [0x30, 0x82, 1, 2]).unwrap();
    let locked = made.1.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    std::fs::write(at("locked.pem"), format!("{}{locked}", made.0)).unwrap();
    for (name, kind, word) in [
        ("alone.pem", ErrorKind::InvalidArgument, "alone.pem"),
        ("p12", ErrorKind::InvalidArgument, "PEM"),
        ("locked.pem", ErrorKind::Unauthenticated, "no phrase was given"),
        ("none.pem", ErrorKind::NotFound, "none.pem"),
    ] {
        let e = fails(world.options().tls_client_certificate_path(at(name))).await;
        assert_eq!(e.kind(), kind, "{name}: {e:#}");
        assert!(e.to_string().contains(word), "{name}: {e:#}");
    }
}

/// A certificate and its key.
fn rcgen_pair() -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let made = session_core::net::server_tls::self_signed(dir.path(), &["me".to_string()]).unwrap();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    (read(&made.chain), read(&made.key))
}
