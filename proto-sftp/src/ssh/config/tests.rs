//! The grammar and the merging rules of `ssh_config`, by hand-made files.

use std::collections::BTreeMap;

use session_core::net::proxy::Proxy;

use super::super::keys::Agent;
use super::super::options::{ConnectOptions, HostKeyPolicy};
use super::fill::Place;
use super::*;
use session_core::auth::{Method, Secret};
use session_core::trust::Fingerprint;

/// Files and variables in memory.
#[derive(Default)]
struct Memory(BTreeMap<String, String>);

impl Source for Memory {
    fn read(&self, path: &Path, _checked: bool) -> io::Result<Option<String>> {
        Ok(self.0.get(&path.display().to_string()).cloned())
    }

    fn names(&self, dir: &Path) -> Vec<String> {
        let below = |p: &String| Path::new(p).parent() == Some(dir);
        self.0.keys().filter(|p| below(p)).filter_map(|p| p.rsplit('/').next().map(str::to_owned)).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "SOCK").then(|| "/run/agent".to_owned())
    }
}

fn options(config: &str, given: Given) -> Result<(ConnectOptions, Vec<String>)> {
    let mut source = Memory::default();
    source.0.insert("/home/me/.ssh/config".into(), config.into());
    let given = Given { config: ConfigUse::Usual, ..given };
    given.options_in(&Place {
        home: "/home/me".into(),
        local_user: Some("me".into()),
        local_host: "here.example".into(),
        source: &source,
    })
}

fn of(config: &str, host: &str) -> ConnectOptions {
    options(config, Given::new(host)).unwrap().0
}

fn paths(list: &[PathBuf]) -> Vec<String> {
    list.iter().map(|p| p.display().to_string()).collect()
}

#[test]
fn without_a_file_the_usual_holds() {
    let (o, warnings) = options("", Given::new("[::1]")).unwrap();
    assert_eq!((o.host.as_str(), o.port, o.user.as_str()), ("::1", 22, "me"));
    assert_eq!(
        (o.policy, o.agent, o.known_hosts, warnings.len()),
        (HostKeyPolicy::Ask, Agent::Environment, None, 0)
    );
    assert!(o.jump.is_none() && o.proxy.is_direct() && o.default_identities);
}

#[test]
fn everything_that_is_honoured_reaches_the_connection() {
    let o = of(
        "HostName %h.example\nPort 2022\nUser ann\nIdentityFile ~/.ssh/%n_%r\nIdentityFile %d/k%%\n\
         CertificateFile ${SOCK}-cert.pub\nIdentitiesOnly yes\nIdentityAgent $SOCK\nUserKnownHostsFile ~/k none2\n\
         GlobalKnownHostsFile none\nStrictHostKeyChecking no\nHostKeyAlias al\nHashKnownHosts yes\nConnectTimeout 7\n\
         ServerAliveInterval 11\nServerAliveCountMax 5\nAddressFamily inet\nBindAddress 127.0.0.5\n\
         PreferredAuthentications password,gssapi-with-mic,publickey\nCiphers -*gcm*,chacha*\nMACs ^hmac-sha2-512-etm@openssh.com\n\
         HostKeyAlgorithms rsa-sha2-512,ssh-dss\nProxyCommand nc %h %p\n",
        "short",
    );
    assert_eq!((o.host.as_str(), o.port, o.user.as_str()), ("short.example", 2022, "ann"));
    assert_eq!(paths(&o.identities), ["/home/me/.ssh/short_ann", "/home/me/k%"]);
    assert_eq!(paths(&o.certificates), ["/run/agent-cert.pub"]);
    assert_eq!((o.identities_only, o.agent), (true, Agent::Socket("/run/agent".into())));
    assert_eq!(paths(o.known_hosts.as_deref().unwrap()), ["/home/me/k", "none2"]);
    assert_eq!(
        (o.policy, o.host_key_alias.as_deref(), o.hash_names),
        (HostKeyPolicy::AcceptNew, Some("al"), true)
    );
    assert_eq!(
        (o.timeout, o.keepalive, o.keepalive_max),
        (Duration::from_secs(7), Some(Duration::from_secs(11)), 5)
    );
    assert_eq!((o.family, o.source), (Family::V4, Some("127.0.0.5".parse().unwrap())));
    assert_eq!(o.methods, [Method::Password, Method::PublicKey]);
    assert_eq!((o.proxy, o.written.as_deref()), (Proxy::Command("nc %h %p".into()), Some("short")));
    let p = o.algorithms.preferred();
    let names: Vec<&str> = p.cipher.iter().map(AsRef::as_ref).collect();
    assert_eq!(names, ["aes256-ctr", "aes192-ctr", "aes128-ctr"]);
    assert_eq!(p.mac[0].as_ref(), "hmac-sha2-512-etm@openssh.com");
    assert_eq!(p.key.iter().map(|k| k.as_str()).collect::<Vec<_>>(), ["rsa-sha2-512"]);
}

#[test]
fn the_caller_stands_above_the_files() {
    let given = Given {
        user: Some("bob".into()),
        port: Some(1),
        identities: vec!["/mine".into()],
        known_hosts: Some(vec!["/known".into()]),
        policy: Some(HostKeyPolicy::Strict),
        timeout: Some(Duration::from_secs(3)),
        keepalive: Some(None),
        agent: Some(Agent::Off),
        family: Some(Family::V6),
        methods: Some(vec![Method::Interactive]),
        proxy: Some(Proxy::parse("socks5://p").unwrap()),
        ciphers: Some("aes256-ctr".into()),
        ..Given::new("h")
    };
    let file = "User ann\nPort 2\nIdentityFile /theirs\nUserKnownHostsFile /x\nStrictHostKeyChecking ask\nConnectTimeout 9\n\
                ServerAliveInterval 9\nIdentityAgent /y\nAddressFamily inet\nPasswordAuthentication no\n\
                KbdInteractiveAuthentication no\nProxyJump z\nCiphers aes128-ctr\n";
    let o = options(file, given).unwrap().0;
    assert_eq!((o.user.as_str(), o.port, o.policy), ("bob", 1, HostKeyPolicy::Strict));
    assert_eq!(paths(&o.identities), ["/mine", "/theirs"]);
    assert_eq!(paths(o.known_hosts.as_deref().unwrap()), ["/known"]);
    assert_eq!((o.timeout, o.keepalive, o.agent), (Duration::from_secs(3), None, Agent::Off));
    assert_eq!((o.family, o.methods), (Family::V6, vec![Method::Interactive]));
    assert_eq!((o.jump.is_none(), o.proxy.to_string().as_str()), (true, "socks5://p:1080"));
    assert_eq!(o.algorithms.preferred().cipher.len(), 1);
}

#[test]
fn jumps_are_hosts_of_their_own_and_get_no_secret() {
    let file = "Host target\nProxyJump ann@first:2201,second\nHost second\nHostName real.second\nPort 2202\nUser bea\n\
                IdentityFile /of-second\nProxyJump nowhere\nHost first\nProxyCommand nc %h %p\nHost *\nUser all\n";
    let given = Given {
        password: Some(Secret::new("hush")),
        fingerprints: vec![
            session_core::trust::Fingerprint::parse(&format!("SHA256:{}", "A".repeat(43))).unwrap(),
        ],
        ..Given::new("target")
    };
    let o = options(file, given).unwrap().0;
    assert_eq!((o.user.as_str(), o.proxy.is_direct(), o.password.is_some()), ("all", true, true));
    let second = o.jump.unwrap();
    assert_eq!((second.host.as_str(), second.port, second.user.as_str()), ("real.second", 2202, "bea"));
    assert!(second.password.is_none() && second.fingerprints.is_empty());
    assert_eq!(paths(&second.identities), ["/of-second"]);
    let first = second.jump.unwrap();
    assert_eq!((first.host.as_str(), first.port, first.user.as_str()), ("first", 2201, "ann"));
    assert_eq!((first.jump.is_none(), first.proxy), (true, Proxy::Command("nc %h %p".into())));
    // The caller's hosts replace the file's; the proxy leads to the first.
    let given = Given {
        jump: Some(Hop::parse("x,[::1]:5").unwrap()),
        proxy: Some(Proxy::parse("http://p").unwrap()),
        ..Given::new("target")
    };
    let o = options(file, given).unwrap().0;
    let last = o.jump.unwrap();
    let x = last.jump.unwrap();
    assert_eq!(
        (last.host.as_str(), last.port, x.host.as_str(), x.proxy.to_string().as_str()),
        ("::1", 5, "x", "http://p:80")
    );
}

#[test]
fn a_bastion_for_all_is_not_reached_over_itself() {
    let o = of("Host *\nProxyJump bastion\n", "h");
    let bastion = o.jump.unwrap();
    assert_eq!((bastion.host.as_str(), bastion.jump.is_none()), ("bastion", true));
    let e = options("Host a\nProxyJump b\nHost b\nProxyJump a\n", Given::new("a")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    assert!(of("ProxyJump none\n", "h").jump.is_none());
}

#[test]
fn what_is_not_known_warns_once_and_what_must_not_be_missed_fails() {
    let file = "Oddity 1\nOddity 2\nBindInterface eth0\nCanonicalizeHostname no\nMatch exec \"rm -rf /\"\nPort 5\n\
                Host x\nElsewhere 1\n";
    let (o, warnings) = options(file, Given::new("h")).unwrap();
    assert_eq!(o.port, 22, "what was not run did not match");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings[0].contains("oddity")
            && warnings[1].contains("BindInterface")
            && warnings[2].contains("exec")
    );
    let e = options("RevokedHostKeys /x\n", Given::new("h")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("config:1"), "{e}");
    for (bad, word) in [
        ("Port x\n", "config:1"),
        ("\nUser \"a\n", "config:2"),
        ("Ciphers 3des-cbc\n", "3des"),
        ("IdentityFile ${NOT_SET}/x\n", "NOT_SET"),
        ("IdentityFile ~other/x\n", "other"),
        ("IdentityFile %Q\n", "%Q"),
        ("HostName %p\n", "%p"),
        ("PreferredAuthentications hostbased\n", "method"),
        ("BindAddress eth0\n", "BindAddress"),
        ("ProxyJump a b\n", "jump"),
    ] {
        let e = options(bad, Given::new("h")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}: {e}");
        assert!(e.to_string().contains(word), "{bad}: {e}");
    }
}

#[test]
fn hops_are_read_in_all_their_forms() {
    let hop = |host: &str, user: Option<&str>, port| Hop {
        host: host.into(),
        user: user.map(str::to_owned),
        port,
        login: None,
    };
    for (text, want) in [
        ("h", vec![hop("h", None, None)]),
        ("u@h:2,x", vec![hop("h", Some("u"), Some(2)), hop("x", None, None)]),
        ("u@d@h", vec![hop("h", Some("u@d"), None)]),
        ("ssh://u@h:2/", vec![hop("h", Some("u"), Some(2))]),
        ("[::1]:2,[::2]", vec![hop("::1", None, Some(2)), hop("::2", None, None)]),
        ("fe80::1", vec![hop("fe80::1", None, None)]),
        ("None", vec![]),
    ] {
        assert_eq!(Hop::parse(text).unwrap(), want, "{text}");
    }
    for bad in ["", "a,", "h:0", "h:x", "@h", "-oX", "[::1", "[::1]x", "a b"] {
        assert_eq!(Hop::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
}

#[test]
fn a_hop_with_its_own_login_is_told_nothing_that_is_meant_for_the_target() {
    let secret = |text: &str| Some(Secret::new(text));
    let login = HopLogin {
        password: secret("hop"),
        identities: vec!["/hop".into()],
        phrase: secret("hop-phrase"),
        fingerprints: vec![Fingerprint::parse(&["aa"; 16].join(":")).unwrap()],
    };
    let mut hops = Hop::parse("gate,plain").unwrap();
    hops[0].login = Some(login.clone());
    let given = Given {
        jump: Some(hops),
        password: secret("target"),
        identities: vec!["/target".into()],
        keys: vec![Secret::new("target-key")],
        certificates: vec!["/target-cert".into()],
        phrase: secret("target-phrase"),
        fingerprints: vec![Fingerprint::parse(&["bb"; 16].join(":")).unwrap()],
        ..Given::new("h")
    };
    let o = options("", given).unwrap().0;
    assert_eq!((o.password.clone(), o.identities.clone()), (secret("target"), vec!["/target".into()]));
    let plain = o.jump.unwrap();
    // As ever: the user's keys, and no password.
    assert_eq!((plain.password.clone(), plain.identities.clone()), (None, vec!["/target".into()]));
    assert!(plain.fingerprints.is_empty());
    let gate = plain.jump.unwrap();
    assert_eq!((gate.password.clone(), gate.identities.clone()), (secret("hop"), vec!["/hop".into()]));
    assert_eq!((gate.phrase.clone(), &gate.fingerprints), (secret("hop-phrase"), &login.fingerprints));
    assert!(gate.keys.is_empty() && gate.certificates.is_empty());
}

#[test]
fn no_key_at_all_can_be_wanted() {
    let o = of("IdentityFile none\nIdentityAgent none\n", "h");
    assert!(o.identities.is_empty() && !o.default_identities && o.agent == Agent::Off);
}
