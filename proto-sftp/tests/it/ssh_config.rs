//! What we make of configurations, against what OpenSSH's own `ssh -G` makes of them.
#![cfg(feature = "client")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use proto_sftp::ssh::config::{
    Asked, ConfigFile, Disk, HostConfig, Strictness, as_markdown, assemble, resolve,
};
use proto_sftp::ssh::options::Family;

type Shown = BTreeMap<String, Vec<String>>;

/// Whether OpenSSH's client is there: else loudly nothing, and never in CI.
fn is_there() -> bool {
    let there = Command::new("ssh").arg("-V").output().is_ok();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "ssh is missing: install openssh-client");
        let _ = writeln!(std::io::stderr(), "NOT TESTED against OpenSSH: install openssh-client");
    }
    there
}

/// What `ssh -G` shows; `Err` with its words if it refuses the file.
fn theirs(file: &Path, place: &str) -> Result<Shown, String> {
    let out = Command::new("ssh")
        .args(["-G", "-F"])
        .arg(file)
        .arg(place)
        .env("FERRY_TEST", "value")
        .output()
        .unwrap();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let mut shown = Shown::new();
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        shown.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Ok(shown)
}

fn ours(file: &Path, place: &str) -> Result<HostConfig, String> {
    let (user, host) = match place.split_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, place),
    };
    let me = me();
    let home = std::env::var("HOME").unwrap_or_default();
    let asked = Asked { host, user, port: None, local_user: &me, home: Path::new(&home) };
    resolve(&ConfigFile::only(file, Path::new(&home)), &asked, &Disk).map_err(|e| e.to_string())
}

fn said(program: &str, args: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Who OpenSSH thinks that we are: the user database's word.
fn me() -> String {
    static ME: OnceLock<String> = OnceLock::new();
    ME.get_or_init(|| said("id", &["-un"])).clone()
}

/// Where it thinks that we live.
fn home() -> &'static str {
    static HOME: OnceLock<String> = OnceLock::new();
    HOME.get_or_init(|| said("sh", &["-c", &format!("echo ~{}", me())]))
}

/// What it says without any file.
fn default(dir: &Path, place: &str) -> Shown {
    static DEFAULTS: Mutex<BTreeMap<String, Shown>> = Mutex::new(BTreeMap::new());
    let mut defaults = DEFAULTS.lock().unwrap();
    let make = || {
        let empty = dir.join("empty");
        std::fs::write(&empty, "").unwrap();
        theirs(&empty, place).unwrap()
    };
    defaults.entry(place.to_owned()).or_insert_with(make).clone()
}

fn yes(b: bool) -> String {
    if b { "yes" } else { "no" }.to_owned()
}

/// Our answer in the words of `ssh -G`: every keyword, `None` where the files say nothing.
fn shown(c: &HostConfig) -> Vec<(&'static str, Option<Vec<String>>)> {
    let one = |v: &Option<String>| v.clone().map(|v| vec![v]);
    let list = |v: &[String]| (!v.is_empty()).then(|| v.to_vec());
    vec![
        (
            "addressfamily",
            c.address_family.map(|f| {
                vec![
                    match f {
                        Family::Any => "any",
                        Family::V4 => "inet",
                        Family::V6 => "inet6",
                    }
                    .to_owned(),
                ]
            }),
        ),
        ("bindaddress", one(&c.bind_address)),
        ("certificatefile", list(&c.certificate_files)),
        (
            "connecttimeout",
            c.connect_timeout.map(|t| vec![t.map_or("none".into(), |t| t.as_secs().to_string())]),
        ),
        ("globalknownhostsfile", c.global_known_hosts.as_ref().map(|f| vec![f.join(" ")])),
        ("hashknownhosts", c.hash_known_hosts.map(|b| vec![yes(b)])),
        ("hostkeyalias", one(&c.host_key_alias)),
        ("identitiesonly", c.identities_only.map(|b| vec![yes(b)])),
        ("identityagent", one(&c.identity_agent)),
        ("identityfile", list(&c.identity_files)),
        ("kbdinteractiveauthentication", c.kbd_interactive.map(|b| vec![yes(b)])),
        ("passwordauthentication", c.password.map(|b| vec![yes(b)])),
        ("port", c.port.map(|p| vec![p.to_string()])),
        ("preferredauthentications", one(&c.preferred_authentications)),
        ("proxycommand", one(&c.proxy_command)),
        ("proxyjump", one(&c.proxy_jump)),
        ("pubkeyauthentication", c.pubkey.map(|b| vec![if b { "true" } else { "false" }.to_owned()])),
        ("serveralivecountmax", c.server_alive_count_max.map(|n| vec![n.to_string()])),
        ("serveraliveinterval", c.server_alive_interval.map(|t| vec![t.as_secs().to_string()])),
        (
            "stricthostkeychecking",
            c.strict_host_key_checking.map(|s| {
                vec![
                    match s {
                        Strictness::Yes => "true",
                        Strictness::Ask => "ask",
                        Strictness::AcceptNew => "accept-new",
                    }
                    .to_owned(),
                ]
            }),
        ),
        ("user", one(&c.user)),
        ("userknownhostsfile", c.user_known_hosts.as_ref().map(|f| vec![f.join(" ")])),
    ]
}

fn check(dir: &Path, text: &str, place: &str) {
    let file = dir.join("config");
    std::fs::write(&file, text).unwrap();
    let (theirs_, ours_) = (theirs(&file, place), ours(&file, place));
    let (theirs_, ours_) = match (theirs_, ours_) {
        (Ok(t), Ok(o)) => (t, o),
        (Err(_), Err(_)) => return,
        (t, o) => panic!("for '{place}' in\n{text}\nOpenSSH: {t:?}\nwe: {o:?}"),
    };
    let default = default(dir, place);
    for (key, value) in shown(&ours_) {
        let mut want = theirs_.get(key).cloned();
        let mut have = value;
        if have.is_none() {
            // Not set: OpenSSH, too, says what it says without any file.
            assert_eq!(want, default.get(key).cloned(), "{key} for '{place}' in\n{text}");
            continue;
        }
        // `none` is not shown.
        if matches!(key, "proxycommand" | "proxyjump") && have == Some(vec!["none".into()]) {
            have = None;
        }
        // It shows the names of a jump as it understood them; we keep them as they stand.
        if key == "user" && place.contains('@') {
            have = Some(vec![place.split('@').next().unwrap().to_owned()]);
        }
        if key == "stricthostkeychecking" && want == Some(vec!["false".into()]) {
            want = Some(vec!["accept-new".into()]);
        }
        if key == "pubkeyauthentication"
            && matches!(want.as_deref(), Some([w]) if w == "unbound" || w == "host-bound")
        {
            want = Some(vec!["true".into()]);
        }
        // Of these it shows the tilde replaced.
        if key.ends_with("knownhostsfile") {
            have = have.map(|h| h.iter().map(|h| h.replace("~/", &format!("{}/", home()))).collect());
        }
        assert_eq!(want, have, "{key} for '{place}' in\n{text}");
    }
    assert_eq!(
        theirs_["hostname"][0],
        ours_.host_name.as_deref().unwrap_or_default().to_ascii_lowercase(),
        "{text}"
    );
    for (key, spec, query) in [
        ("ciphers", &ours_.ciphers, "cipher"),
        ("macs", &ours_.macs, "mac"),
        ("kexalgorithms", &ours_.kex_algorithms, "kex"),
        ("hostkeyalgorithms", &ours_.host_key_algorithms, "HostKeyAlgorithms"),
    ] {
        let names =
            |t: &str, by: char| t.split(by).filter(|n| !n.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let usual = names(&default[key][0], ',');
        let made = match spec {
            Some(spec) => {
                let all = Command::new("ssh").args(["-Q", query]).output().unwrap();
                assemble(spec, &usual, &names(&String::from_utf8(all.stdout).unwrap(), '\n'))
            }
            None => usual,
        };
        assert_eq!(names(&theirs_[key][0], ','), made, "{key} in\n{text}");
    }
}

const CORPUS: &[&str] = &[
    "",
    "# only a comment\n\n   \t\n",
    "Host a\n  User one\nHost *\n  User two\n  Port 2222\n",
    "Host *\n  User two\nHost a\n  User one\n",
    "Host a b*\nPort 1\nHost !a *\nPort 2\n",
    "Host * !a\nPort 2\nUser x\nHost a\nPort 3\n",
    "Host b?d\nPort 7\nHost bad\nPort 8\n",
    "Host A\nPort 9\n",
    "HostName=target.example\nPort = 99\nuser\t=\tmallory\n",
    "HostName %h.example.org\n",
    "HostName x%%y\n",
    "HostName \"quoted.example\"\n\"Port\" 17\n",
    "User 'with blank'\nIdentityFile \"~/my keys/id\"\nIdentityFile ~/b\\ c\n",
    "IdentityFile ~/.ssh/one\nIdentityFile ~/.ssh/two\nIdentityFile ~/.ssh/one\nHost a\nIdentityFile %d/.ssh/%h\n",
    "CertificateFile ~/c1\nCertificateFile ~/c2\n",
    "Port 22 # a comment\nUser u#x\n",
    "Port 2 3\n",
    "Port\n",
    "Port 0\n",
    "Port 65536\n",
    "Port x\n",
    "User \"open\n",
    "Host\nPort 4\n",
    "Match\nPort 4\n",
    "Match all\nPort 5\n",
    "Match all host a\nPort 5\n",
    "Match host a,b*\nPort 5\nMatch host *,!a\nPort 6\n",
    "Match host !a\nPort 5\n",
    "Match !host a\nPort 5\nMatch originalhost a\nUser orig\n",
    "Host a\nHostName Real.Example\nMatch host real.example\nPort 77\nMatch originalhost a\nUser found\n",
    "Match user root,joe\nPort 8\nMatch user nobody\nPort 9\n",
    "User joe\nMatch user joe host *\nPort 10\n",
    "Match localuser nobody-of-that-name\nPort 11\nMatch !localuser nobody-of-that-name\nPort 12\n",
    "Match host=a user=*\nPort 13\n",
    "Match host\nPort 1\n",
    "Match final host x.example\nUser last\nMatch final all\nPort 55\nHost a\nHostName x.example\n",
    "Match canonical\nPort 3\n",
    "Match !final\nPort 3\n",
    "ProxyJump one,two@three:4\nProxyCommand nc %h %p\n",
    "ProxyCommand nc %h %p\nProxyJump one\n",
    "ProxyCommand none\nProxyJump one\n",
    "ProxyCommand ssh -o \"A b\" -W %h:%p # not a comment\n",
    "ProxyCommand = nc -X 5 %h %p\n",
    "Host a\nProxyJump one\nHost *\nProxyJump two\n",
    "UserKnownHostsFile ~/k1 ~/k2\nUserKnownHostsFile ~/k3\nGlobalKnownHostsFile /etc/a \"/etc/b c\"\n",
    "UserKnownHostsFile none\n",
    "StrictHostKeyChecking yes\n",
    "StrictHostKeyChecking ask\n",
    "StrictHostKeyChecking accept-new\n",
    "StrictHostKeyChecking no\n",
    "StrictHostKeyChecking off\n",
    "StrictHostKeyChecking maybe\n",
    "ConnectTimeout 5\nServerAliveInterval 1m30s\nServerAliveCountMax 4\n",
    "ConnectTimeout none\nServerAliveInterval 0\n",
    "ConnectTimeout 1h2m3\n",
    "ConnectTimeout 5x\n",
    "ServerAliveInterval -1\n",
    "AddressFamily inet6\nBindAddress ::1\n",
    "AddressFamily inet5\n",
    "IdentitiesOnly yes\nIdentityAgent none\nHashKnownHosts yes\nHostKeyAlias other\n",
    "IdentityAgent $SOCK\n",
    "IdentitiesOnly perhaps\n",
    "PreferredAuthentications publickey,password\nPubkeyAuthentication no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
    "PubkeyAuthentication unbound\nChallengeResponseAuthentication no\n",
    "Ciphers aes256-ctr,aes128-gcm@openssh.com\nMACs hmac-sha2-256\n",
    "Ciphers +aes128-cbc\nMACs -*sha1*,umac*\nKexAlgorithms ^curve25519-sha256\n",
    "Ciphers -aes*-gcm@openssh.com\nHostKeyAlgorithms ^ssh-ed25519,rsa-sha2-512\n",
    "Ciphers ^aes256-ctr\nKexAlgorithms -diffie-hellman-*\nHostKeyAlgorithms +ssh-rsa\n",
    "Host a\nCiphers aes256-ctr\nHost *\nCiphers aes128-ctr\n",
    "SendEnv LANG LC_*\nForwardAgent yes\nControlPath ~/x\nLocalForward 1 a:2\nCompression yes\n",
    "IgnoreUnknown Odd*,Other\nOddity 1\nother 2\nPort 6\n",
];

#[test]
fn every_configuration_means_to_us_what_it_means_to_openssh() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for text in CORPUS {
        for place in ["a", "joe@bad"] {
            check(dir.path(), text, place);
        }
    }
    check(dir.path(), "Host a.B\nPort 3\n", "a.B");
    check(dir.path(), "Host a.b\nPort 3\n", "A.B");
}

#[test]
fn included_files_stand_where_they_are_named() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::fs::write(at("d/1.conf"), "Host a\nPort 31\nUser inner\n").unwrap();
    std::fs::write(at("d/2.conf"), "Port 32\nIdentityFile ~/two\n").unwrap();
    std::fs::write(at("d/.hidden.conf"), "User hidden\n").unwrap();
    std::fs::write(at("d/nested"), format!("Include {}\nUser nested\n", at("d/1.conf"))).unwrap();
    for text in [
        format!("Include {}\nUser outer\n", at("d/*.conf")),
        format!("Host bad\nInclude {}\nHost *\nUser outer\n", at("d/*.conf")),
        format!("Include {} {}\nPort 1\n", at("d/2.conf"), at("d/1.conf")),
        format!("Include {}\n", at("d/nested")),
        format!("Include {}\nPort 1\n", at("not-there")),
        format!("Include {}\nPort 1\n", at("*/?.conf")),
        // A block that an included file begins ends with it.
        format!("Host a\nInclude {}\nIdentityFile ~/after\n", at("d/1.conf")),
        "Include\n".to_owned(),
    ] {
        for place in ["a", "bad"] {
            check(dir.path(), &text, place);
        }
    }
    std::fs::write(at("loop"), format!("Include {}\n", at("loop"))).unwrap();
    check(dir.path(), &format!("Include {}\n", at("loop")), "a");
}

#[test]
fn the_table_in_the_documentation_is_the_one_in_the_code() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ssh-config.md");
    let text = std::fs::read_to_string(&docs).unwrap();
    let (before, _) = text.split_once("| Keyword |").expect("the table is there");
    let want = format!("{before}{}", as_markdown());
    if std::env::var_os("FERRY_WRITE_DOCS").is_some() {
        std::fs::write(&docs, &want).unwrap();
        return;
    }
    assert_eq!(text, want, "run this test with FERRY_WRITE_DOCS=1 to write it anew");
}

#[test]
fn every_keyword_of_openssh_is_in_the_table() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let table = as_markdown().to_ascii_lowercase();
    // Some versions write one of them with a capital letter.
    let keys = theirs(&empty, "h").unwrap().into_keys().map(|k| k.to_ascii_lowercase());
    let missing: Vec<String> =
        keys.filter(|k| k != "host" && !table.contains(&format!("| `{k}` |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
