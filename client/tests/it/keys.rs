//! Keys and fingerprints as whole commands: files, against a server of ours, by ways that a person configures.
#![cfg(feature = "sftp")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use crate::folder::FolderSite;
use crate::proxy::TestProxy;
use async_trait::async_trait;
use proto_sftp::ssh::hostkey::HostKeyKind;
use proto_sftp::ssh::{HostKeys, SshServer, SshServerOptions};
use session_core::auth::*;
use session_core::registry::{Caps, SessionRegistry};
use session_core::session::Session;
use tokio_util::sync::CancellationToken;

/// The password is `right`, and keys are those of `.ssh/authorized_keys` in the directory.
struct Place {
    root: PathBuf,
}

#[async_trait]
impl Authenticator for Place {
    async fn methods(&self, _session: &Arc<Session>, _user: &str) -> Vec<Method> {
        vec![Method::PublicKey, Method::Password]
    }

    async fn questions(&self, _session: &Arc<Session>, _user: &str) -> Vec<Question> {
        Vec::new()
    }

    async fn verify(&self, _: &Arc<Session>, user: &str, credential: &Credential, _: &[Method]) -> Proof {
        let list = std::fs::read_to_string(self.root.join(".ssh/authorized_keys")).unwrap_or_default();
        let good = match credential {
            Credential::Password(p) => p.expose() == "right",
            Credential::Key(k) => list.contains(&k.openssh),
            _ => false,
        };
        if good { Proof::Complete(Account::named(user)) } else { Proof::Rejected("wrong".into()) }
    }

    async fn vouched(&self, _session: &Arc<Session>, _user: &str) -> Option<Account> {
        None
    }
}

struct Bench {
    dir: tempfile::TempDir,
    port: u16,
    keys: HostKeys,
    shutdown: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    for name in ["root", "home", "home/.ssh", "work"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let keys = HostKeys::ephemeral(HostKeyKind::Ed25519).unwrap();
    let root = dir.path().join("root");
    let who = Arc::new(Place { root: root.clone() });
    let site = FolderSite { who, registry: SessionRegistry::new(Caps::default()), root };
    let mut options = SshServerOptions::new(keys.clone());
    options.rejection_time = std::time::Duration::from_millis(10);
    let server = SshServer::new(options, Arc::new(site)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move { server.serve(listener, token).await });
    Bench { dir, port, keys, shutdown }
}

impl Bench {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mode(&self, name: &str) -> u32 {
        self.at(name).metadata().unwrap().permissions().mode() & 0o7777
    }

    async fn ferry_with(&self, args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
        command
            .args(args)
            .current_dir(self.at("work"))
            .env_clear()
            .env("HOME", self.at("home"))
            .env("USER", "ann")
            .envs(environment.iter().copied())
            .stdin(std::process::Stdio::null());
        let Output { status, stdout, stderr } = command.output().await.unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    async fn ferry(&self, args: &[&str]) -> (i32, String, String) {
        self.ferry_with(args, &[]).await
    }

    /// Trusts the server under this name.
    fn know(&self, name: &str) {
        let line = format!("[{name}]:{} {}\n", self.port, self.keys.public_lines()[0]);
        std::fs::write(self.at("home/.ssh/known_hosts"), line).unwrap();
    }
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_key_is_made_converted_and_never_written_over() {
    let b = bench().await;
    let (code, out, err) = b.ferry(&["keygen", "--no-passphrase", "-C", "a comment", "id"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("ssh-ed25519 SHA256:"), "{out}");
    assert_eq!((b.mode("work/id"), b.mode("work/id.pub")), (0o600, 0o644));
    let public = text(b.at("work/id.pub"));
    assert!(public.starts_with("ssh-ed25519 AAAA") && public.ends_with(" a comment\n"), "{public}");
    let before = text(b.at("work/id"));
    let (code, _, err) = b.ferry(&["keygen", "--no-passphrase", "id"]).await;
    assert!(code == 1 && err.contains("no key is overwritten"), "{code} {err}");
    std::fs::rename(b.at("work/id"), b.at("work/moved")).unwrap();
    let (code, ..) = b.ferry(&["keygen", "--no-passphrase", "id"]).await;
    assert_eq!(code, 1, "the public half is there still");
    assert!(!b.at("work/id").exists() && text(b.at("work/moved")) == before);
    // To PuTTY's format with a phrase, and back.
    let phrase = [("FERRY_PASSPHRASE", "correct horse")];
    let (code, _, err) =
        b.ferry_with(&["keygen", "--from", "moved", "--format", "ppk", "id.ppk"], &phrase).await;
    assert_eq!(code, 0, "{err}");
    let ppk = text(b.at("work/id.ppk"));
    assert!(
        ppk.starts_with("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: aes256-cbc\nComment: a comment\n"),
        "{ppk}"
    );
    assert_eq!(text(b.at("work/id.ppk.pub")), public);
    let back = ["keygen", "--from", "id.ppk", "--no-passphrase", "back"];
    let (code, _, err) = b.ferry(&back).await;
    assert!(code == 4 && err.contains("is encrypted"), "{code} {err}");
    let (code, _, err) = b.ferry_with(&back, &[("FERRY_OLD_PASSPHRASE", "wrong")]).await;
    assert!(code == 4 && err.contains("not opened by that phrase") && !err.contains("wrong"), "{code} {err}");
    std::fs::write(b.at("work/phrase"), "correct horse\n").unwrap();
    let with_file = [&back[..], &["--old-passphrase-file", "phrase"]].concat();
    let (code, _, err) = b.ferry(&with_file).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(text(b.at("work/back.pub")), public);
    // Nobody to ask, and nothing said: nothing written.
    let (code, _, err) = b.ferry(&["keygen", "silent"]).await;
    assert!(code == 2 && err.contains("--no-passphrase") && !b.at("work/silent").exists(), "{code} {err}");
    assert_eq!(b.ferry(&["keygen", "-t", "rsa", "-b", "512", "--no-passphrase", "small"]).await.0, 2);
}

#[tokio::test]
async fn a_copied_key_logs_in_and_a_second_copy_changes_nothing() {
    let b = bench().await;
    b.know("127.0.0.1");
    let url = format!("sftp://127.0.0.1:{}/", b.port);
    b.ferry(&["keygen", "--no-passphrase", "id"]).await;
    b.ferry(&["keygen", "--no-passphrase", "other"]).await;
    let none = ["-i", "id", "ls", url.as_str()];
    assert_eq!(b.ferry(&none).await.0, 4, "the key is not known yet");
    let password = [("FERRY_PASSWORD", "right")];
    let copy = ["copy-id", url.as_str(), "id.pub"];
    let (code, out, err) = b.ferry_with(&copy, &password).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(" added"), "{out}");
    assert_eq!((b.mode("root/.ssh"), b.mode("root/.ssh/authorized_keys")), (0o700, 0o600));
    assert_eq!(text(b.at("root/.ssh/authorized_keys")), text(b.at("work/id.pub")));
    assert_eq!(b.ferry(&none).await.0, 0);
    let (code, out, _) = b.ferry_with(&copy, &password).await;
    assert!(code == 0 && out.contains("is there already"), "{out}");
    assert_eq!(text(b.at("root/.ssh/authorized_keys")), text(b.at("work/id.pub")));
    // What is there stays, a last line without its end, too; modes stay as they are.
    let list = b.at("root/.ssh/authorized_keys");
    std::fs::write(&list, "# mine\nfrom=\"10.0.0.1\" ssh-rsa AAAA x").unwrap();
    std::fs::set_permissions(&list, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::write(
        b.at("work/both.pub"),
        text(b.at("work/id.pub")) + "\n# a comment\n" + &text(b.at("work/other.pub")),
    )
    .unwrap();
    assert_eq!(b.ferry_with(&["copy-id", &url, "both.pub"], &password).await.0, 0);
    let want = format!(
        "# mine\nfrom=\"10.0.0.1\" ssh-rsa AAAA x\n{}{}",
        text(b.at("work/id.pub")),
        text(b.at("work/other.pub"))
    );
    assert_eq!(text(&list), want);
    assert_eq!(b.mode("root/.ssh/authorized_keys"), 0o640);
    // A private key does not leave the house.
    let (code, _, err) = b.ferry_with(&["copy-id", &url, "id"], &password).await;
    assert!(code == 2 && err.contains("private key"), "{code} {err}");
    assert_eq!(text(&list), want);
}

#[tokio::test]
async fn what_a_connection_comes_to_is_explained_without_one() {
    let b = bench().await;
    let config = "Host far\n  HostName far.example.org\n  Port 2200\n  User ann-there\n  ProxyJump gate\n  \
                  StrictHostKeyChecking yes\n  IdentityFile ~/.ssh/for-far\n  Ciphers aes256-gcm@openssh.com\n  \
                  Bogus 1\nHost gate\n  HostName 192.0.2.9\n  User keeper\n";
    std::fs::write(b.at("home/.ssh/config"), config).unwrap();
    let (code, out, err) = b.ferry(&["--json", "explain", "sftp://far/x"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("'bogus'"), "what is not understood is said: {err}");
    let lines = crate::lines::checked("explain", &out);
    let says = |name: &str| {
        let line = lines.iter().find(|l| l["name"] == name).unwrap_or_else(|| panic!("{name} in {out}"));
        let values = line["values"].as_array().unwrap();
        values.iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((says("host"), says("written as")), ("far.example.org".into(), "far".into()));
    assert_eq!((says("port"), says("user")), ("2200".into(), "ann-there".into()));
    assert_eq!(says("over"), "keeper@192.0.2.9:22");
    assert_eq!(says("unknown hosts"), "refused");
    assert_eq!(says("ciphers"), "aes256-gcm@openssh.com");
    assert_eq!(says("key files"), format!("{} (missing)", b.at("home/.ssh/for-far").display()));
    assert_eq!(says("password"), "asked for");
    // What is nearer counts, other protocols are explained too, and no secret is shown.
    let pinned = ["explain", "--host-key", &b.keys.fingerprints()[0], "sftp://bob:s3cret@far:22/"];
    let (code, out, _) = b.ferry(&pinned).await;
    assert!(code == 0 && out.contains("trust only") && !out.contains("s3cret"), "{out}");
    assert!(
        out.contains("user                  bob") && out.contains("password              given"),
        "{out}"
    );
    let proxy = [("ALL_PROXY", "socks5://u:s3cret@192.0.2.1:1080")];
    for (url, port) in
        [("davs://h/", "443"), ("ftps://h/", "990"), ("ftpes://h:2121/", "2121"), ("s3://h/b", "443")]
    {
        let (code, out, err) = b.ferry_with(&["explain", url], &proxy).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(&format!("port                  {port}\n")), "{url}: {out}");
        assert!(
            out.contains("proxy                 socks5://192.0.2.1:1080") && !out.contains("s3cret"),
            "{out}"
        );
        assert!(out.contains("the system's authorities"), "{out}");
    }
    assert_eq!(b.ferry(&["explain", "/a/path"]).await.0, 2);
}

#[tokio::test]
async fn a_fingerprint_is_shown_in_all_forms_without_trust() {
    let b = bench().await;
    let url = format!("sftp://127.0.0.1:{}/", b.port);
    let (code, out, err) = b.ferry(&["fingerprint", "--all", &url]).await;
    assert_eq!(code, 0, "{err}");
    let shown = b.keys.fingerprints().remove(0);
    let digest = shown.split(' ').nth(1).unwrap();
    assert!(out.contains(digest) && out.contains("MD5:") && out.contains("ssh-ed25519 255 "), "{out}");
    assert_eq!(out.lines().count(), 4, "one key: {out}");
    assert!(!b.at("home/.ssh/known_hosts").exists());
    let (code, out, _) = b.ferry(&["--json", "fingerprint", &url]).await;
    let json = crate::lines::checked("fingerprint", &out).remove(0);
    assert_eq!((code, json["sha256"].as_str()), (0, Some(digest)));
    // What is shown is what can be pinned.
    let pin = json["winscp"].as_str().unwrap();
    let password = [("FERRY_PASSWORD", "right")];
    assert_eq!(b.ferry_with(&["--host-key", pin, "ls", &url], &password).await.0, 0);
    assert_eq!(b.ferry(&["fingerprint", "ftp://127.0.0.1:1/"]).await.0, 2);
}

#[tokio::test]
async fn the_users_configuration_is_heeded_and_can_be_left_out() {
    let b = bench().await;
    b.ferry(&["keygen", "--no-passphrase", "id"]).await;
    std::fs::create_dir(b.at("root/.ssh")).unwrap();
    std::fs::copy(b.at("work/id.pub"), b.at("root/.ssh/authorized_keys")).unwrap();
    let config = format!(
        "Host far\n  HostName 127.0.0.1\n  Port {}\n  User someone\n  IdentityFile {}\n  HostKeyAlias the-far-one\nHost other\n  Oddity 1\n",
        b.port,
        b.at("work/id").display()
    );
    std::fs::write(b.at("home/.ssh/config"), &config).unwrap();
    std::fs::set_permissions(b.at("home/.ssh/config"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(b.at("home/.ssh/known_hosts"), format!("the-far-one {}\n", b.keys.public_lines()[0]))
        .unwrap();
    let (code, _, err) = b.ferry(&["ls", "sftp://far/"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(err, "", "what stands in a block for others is not warned of");
    let (code, _, err) = b.ferry(&["--ssh-config", "none", "ls", "sftp://far.invalid/"]).await;
    assert_eq!(code, 5, "{err}");
    // One that others may write is not obeyed.
    std::fs::set_permissions(b.at("home/.ssh/config"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let (code, _, err) = b.ferry(&["ls", "sftp://far/"]).await;
    assert!(code != 0 && err.contains("others"), "{code} {err}");
    std::fs::write(b.at("work/conf"), format!("Oddity 1\nOddity 2\n{config}")).unwrap();
    let (code, _, err) = b.ferry(&["--ssh-config", "conf", "ls", "sftp://far/", "sftp://far/.ssh"]).await;
    assert_eq!((code, err.matches("oddity").count()), (0, 1), "{err}");
    let (code, _, err) = b.ferry(&["--ssh-config", "missing", "ls", "sftp://far/"]).await;
    assert_eq!(code, 5, "{err}");
}

#[tokio::test]
async fn proxies_of_the_command_line_and_the_environment() {
    let b = bench().await;
    b.know("server.test");
    let proxy = TestProxy::start(Some(("bea", "hush")), &[]).await;
    let url = format!("sftp://server.test:{}/", b.port);
    let way = format!("socks5://bea:hush@127.0.0.1:{}", proxy.port);
    let password = ("FERRY_PASSWORD", "right");
    let (code, _, err) = b.ferry_with(&["--proxy", &way, "ls", &url], &[password]).await;
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = b.ferry_with(&["ls", &url], &[password, ("ALL_PROXY", &way)]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(proxy.asked().len(), 2);
    for environment in [
        &[password, ("ALL_PROXY", &way), ("no_proxy", ".test")][..],
        &[password, ("all_proxy", "socks5://127.0.0.1:1"), ("ALL_PROXY", &way)],
        &[password],
    ] {
        let (code, _, err) = b.ferry_with(&["ls", &url], environment).await;
        assert!(code != 0, "{environment:?}: {err}");
        assert!(!err.contains("hush"), "{err}");
    }
    let none = ["--proxy", "none", "ls", url.as_str()];
    assert_ne!(b.ferry_with(&none, &[password, ("ALL_PROXY", &way)]).await.0, 0);
    assert_eq!(proxy.asked().len(), 2);
    let (code, _, err) = b.ferry(&["--proxy", "socks5://u:hush@:1", "ls", &url]).await;
    assert!(code == 2 && !err.contains("hush"), "{code} {err}");
}
