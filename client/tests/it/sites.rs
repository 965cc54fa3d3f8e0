//! Sites by name as whole commands: stored, shown, used, imported; what is secret is never seen.
#![cfg(feature = "sftp")]

use std::path::PathBuf;
use std::process::{Output, Stdio};

use crate::support::{USER, World};

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Home { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sites(&self) -> String {
        std::fs::read_to_string(self.at("home/.config/ferry/sites.toml")).unwrap()
    }

    /// Exit code and both streams.
    async fn ferry(&self, args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ferry"));
        command
            .args(args)
            .current_dir(self.at("work"))
            .env_clear()
            .env("HOME", self.at("home"))
            .env("USER", "nobody")
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().await.unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

const PHRASE: (&str, &str) = ("FERRY_SITES_PASSPHRASE", "correct horse");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_site_stands_wherever_a_url_does() {
    let (home, world) = (Home::new(), World::sftp().await);
    world.write("/in/here/f", "content").await;
    let pin = format!("--host-key={}", world.fingerprint);
    let url = format!("sftp://{}@127.0.0.1:{}/in/here/", USER.0, world.port);
    let password = ("FERRY_PASSWORD", USER.1);

    // Asked at each login: nothing secret is stored, nothing is asked for.
    let (code, _, err) = home.ferry(&["sites", "add", "work/plain", &url, &pin], &[password]).await;
    assert_eq!(code, 0, "{err}");
    assert!(!home.sites().contains(USER.1), "{}", home.sites());
    let (code, out, err) = home.ferry(&["ls", "site://work%2Fplain"], &[password]).await;
    assert_eq!((code, out.as_str()), (0, "f\n"), "{err}");
    let (code, _, err) = home.ferry(&["--batch", "ls", "site://work%2Fplain"], &[]).await;
    assert_eq!(code, 4, "{err}");

    // Sealed.
    let sealed = ["sites", "add", "sealed", &url, &pin, "--save-password"];
    let (code, _, err) = home.ferry(&sealed, &[password]).await;
    assert!(code == 4 && err.contains("FERRY_SITES_PASSPHRASE"), "{code} {err}");
    let (code, _, err) = home.ferry(&sealed, &[password, PHRASE]).await;
    assert_eq!(code, 0, "{err}");
    let kept = home.sites();
    assert!(kept.contains("secrets = ") && !kept.replace("secrets = ", "").contains(USER.1), "{kept}");
    for (args, want) in [
        (&["ls", "site://sealed"][..], "f\n"),
        (&["cat", "site://sealed/in/here/f"], "content"),
        (&["cat", "site://SEALED/~/in/here/f"], "content"),
    ] {
        let (code, out, err) = home.ferry(args, &[PHRASE]).await;
        assert_eq!((code, out.as_str()), (0, want), "{args:?}: {err}");
    }
    let (code, _, err) = home.ferry(&["ls", "site://sealed"], &[("FERRY_SITES_PASSPHRASE", "wrong")]).await;
    assert!(code == 4 && !err.contains("wrong"), "{code} {err}");
    std::fs::write(home.at("work/up"), "up").unwrap();
    let (code, _, err) = home.ferry(&["put", "up", "site://sealed"], &[PHRASE]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(world.read("/in/here/up").await, b"up");
    let (code, out, err) = home.ferry(&["fingerprint", "site://work%2Fplain"], &[]).await;
    assert!(code == 0 && out.contains(world.fingerprint.split(' ').next_back().unwrap()), "{out} {err}");

    // By name, and by nothing else.
    let (code, _, err) = home.ferry(&["ls", "site://plain"], &[password]).await;
    assert!(code == 5 && err.contains("work/plain"), "{code} {err}");
    let (code, _, err) = home.ferry(&sealed, &[password, PHRASE]).await;
    assert!(code == 1 && err.contains("--replace"), "{code} {err}");
    let (code, ..) = home.ferry(&[&sealed[..], &["--replace"]].concat(), &[password, PHRASE]).await;
    assert_eq!(code, 0);

    // A new passphrase.
    let new = ("FERRY_NEW_PASSPHRASE", "battery staple");
    let (code, _, err) = home.ferry(&["sites", "passphrase"], &[PHRASE, new]).await;
    assert_eq!(code, 0, "{err}");
    assert_ne!(home.ferry(&["ls", "site://sealed"], &[PHRASE]).await.0, 0);
    assert_eq!(home.ferry(&["ls", "site://sealed"], &[(PHRASE.0, new.1)]).await.0, 0);
}

#[tokio::test]
async fn sites_are_listed_shown_and_forgotten_without_their_secrets() {
    let home = Home::new();
    let add = |name: &'static str, more: &'static [&'static str]| {
        let url = "sftp://u:hunter2;x-PingType=1@h.example:2022/~/dir";
        [&["sites", "add", name, url, "--save-password"], more].concat()
    };
    let flags =
        ["--proxy", "socks5://me:px@p.example:1081", "--jump", "j@gate.example:22", "-i", "key", "-4"];
    let first: Vec<&str> = [&add("a", &[])[..], &flags].concat();
    let (code, _, err) = home.ferry(&first, &[PHRASE]).await;
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = home.ferry(&["sites", "add", "b", "ftpes://h.example/", "--active"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let (_, out, _) = home.ferry(&["sites", "list"], &[]).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines[0].starts_with("a ") && lines[0].contains("sftp://u@h.example:2022/"), "{out}");
    assert!(lines[0].ends_with("(with secrets)") && !lines[1].contains("secrets"), "{out}");
    let (_, shown, _) = home.ferry(&["sites", "show", "a"], &[]).await;
    for word in
        ["site://a", "~/dir", "ProxyHost", "p.example", "1081", "gate.example", "AddressFamily", "work/key"]
    {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let (_, json, _) = home.ferry(&["--json", "sites", "list"], &[]).await;
    for text in [&out, &shown, &json, &home.sites()] {
        assert!(!text.contains("hunter2") && !text.contains("=px") && !text.contains(":px"), "{text}");
    }
    assert_eq!(json.lines().count(), 2);
    assert!(json.contains("\"secrets\":true") && json.contains("\"active\":true"), "{json}");
    // A secret in a URL is not stored by accident.
    let (code, _, err) = home.ferry(&["sites", "add", "c", "sftp://u:hunter2@h/"], &[]).await;
    assert!(code == 2 && err.contains("--save-password") && !err.contains("hunter2"), "{code} {err}");
    let (code, _, err) = home.ferry(&["sites", "rm", "a", "nowhere"], &[]).await;
    assert!(code == 5 && err.contains("nowhere"), "{code} {err}");
    assert_eq!(home.ferry(&["sites", "list"], &[]).await.1.lines().count(), 2, "all or none");
    assert_eq!(home.ferry(&["sites", "rm", "a", "b"], &[]).await.0, 0);
    assert_eq!(home.ferry(&["sites", "list"], &[]).await.1, "");
}

#[tokio::test]
async fn sites_of_other_programs_are_taken_over_and_the_rest_is_named() {
    let home = Home::new();
    let sample = |name: &str| format!("{}/tests/data/sites/{name}", env!("CARGO_MANIFEST_DIR"));
    let (ini, xml, conf) = (sample("WinSCP.ini"), sample("sitemanager.xml"), sample("rclone.conf"));
    let winscp = ["sites", "import", "winscp", &ini, "--drive", "D:=/mnt/d"];
    let (code, out, err) = home.ferry(&[&winscp[..], &["--dry-run"]].concat(), &[]).await;
    assert!(
        code == 0 && out.contains("Customers/ACME web") && err.contains("SFTPMaxVersion=6"),
        "{out} {err}"
    );
    assert!(!home.at("home/.config/ferry/sites.toml").exists());
    let (code, _, err) = home.ferry(&winscp, &[]).await;
    assert!(code == 4 && err.contains("--no-passwords"), "{code} {err}");
    let (code, out, err) = home.ferry(&winscp, &[PHRASE]).await;
    assert_eq!(code, 0, "{err}");
    assert!(!format!("{out}{err}{}", home.sites()).contains("s3cr3t"));
    assert!(home.sites().contains("/mnt/d/keys/id.ppk"), "{}", home.sites());
    let (code, _, err) =
        home.ferry(&["sites", "import", "filezilla", &xml, "--no-passwords", "--into", "fz"], &[]).await;
    assert_eq!(code, 0, "{err}");
    let (_, out, _) = home.ferry(&["sites", "list"], &[]).await;
    assert!(
        out.lines().any(|l| l.starts_with("fz/Work & play/Old/Plain ") && !l.contains("secrets")),
        "{out}"
    );
    // Twice: what is there is left.
    let (code, out, _) = home.ferry(&["--json", "sites", "import", "rclone", &conf], &[PHRASE]).await;
    assert!(code == 0 && out.contains("\"taken\":true") && out.contains("\"event\":\"note\""), "{out}");
    let (code, out, _) = home.ferry(&["--json", "sites", "import", "rclone", &conf], &[PHRASE]).await;
    assert!(code == 0 && !out.contains("\"taken\":true"), "{out}");
    std::fs::create_dir(home.at("home/.ssh")).unwrap();
    std::fs::write(home.at("home/.ssh/config"), "Host db\n  HostName db.example\n  User kim\n").unwrap();
    let (code, _, err) = home.ferry(&["sites", "import", "ssh"], &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(home.sites().contains("sftp://kim@db.example/"), "{}", home.sites());
    assert_eq!(home.ferry(&["sites", "import", "winscp"], &[]).await.0, 2);
    assert_eq!(home.ferry(&["sites", "import", "rclone"], &[]).await.0, 5, "there is no such file");
}
