//! What `[ssh]` switches, by a client that asks for commands.

use std::sync::Arc;

use russh::ChannelMsg;

use crate::support::*;

/// Trusts every host: it is the one that was just started.
struct Blind;

impl russh::client::Handler for Blind {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// What a command says: output, errors, exit status.
async fn run(port: u16, command: &str) -> (String, String, Option<u32>) {
    let config = Arc::new(russh::client::Config::default());
    let mut c = russh::client::connect(config, ("127.0.0.1", port), Blind).await.unwrap();
    assert!(c.authenticate_password("alice", PASSWORD).await.unwrap().success());
    let mut channel = c.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    let (mut out, mut err, mut status) = (String::new(), String::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => out += std::str::from_utf8(&data).unwrap(),
            ChannelMsg::ExtendedData { data, ext: 1 } => err += std::str::from_utf8(&data).unwrap(),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (out, err, status)
}

#[tokio::test]
async fn commands_are_switched_off_and_on_by_the_configuration() {
    let listen = "[[listeners]]\nport = 0\n";
    let s = Server::configured(&format!("{listen}{}", user("alice")), &[]);
    put(&s.login("alice").await, "/f", "abc").await.unwrap();
    let sum = "900150983cd24fb0d6963f7d28e17f72  /f\n";
    assert_eq!(run(s.port, "md5sum /f").await, (sum.into(), String::new(), Some(0)));
    let off = format!("data = \".\"\n[ssh]\ncommands = false\n{listen}{}", user("alice"));
    std::fs::write(s.data.join("ferryd.toml"), off).unwrap();
    assert_eq!(s.ask(&["reload"]).0, 0);
    for command in ["md5sum /f", "scp -f /f", "scp -t /g"] {
        let refused = (String::new(), "this server offers SFTP only\r\n".into(), Some(1));
        assert_eq!(run(s.port, command).await, refused, "{command}");
    }
    assert_eq!(get(&s.login("alice").await, "/f").await.unwrap(), "abc", "SFTP is served on");
}
