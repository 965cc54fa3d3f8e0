//! Faults and their places, defaults, the sample.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use super::user::full;
use super::*;

fn parse(text: &str) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
    Config::parse(text, Path::new("/etc/ferry/ferryd.toml"), &|_| None)
}

/// The faults of a file that is refused, as they are printed.
fn refused(text: &str) -> Vec<String> {
    parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

const HASH: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

#[test]
fn the_sample_says_what_is_the_default() {
    let (config, faults) = parse(sample()).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(config, parse("").unwrap().0);
    assert_eq!(config, Config::parse("", Path::new("/etc/ferry/x"), &|_| None).unwrap().0);
    let mut defaults = Config::default_for(Path::new("/etc/ferry/data"));
    assert_eq!(config, defaults);
    defaults.complete(Path::new("/elsewhere"));
    assert_eq!(config, defaults, "what is complete stays");
}

/// What stands commented in the sample is right too, and every key of it is known.
#[test]
fn the_sample_without_its_comments_is_right() {
    let (one, several) = sample().split_once("# Several sites").unwrap();
    for line in several.lines().skip(3) {
        let line = line.strip_prefix("# ").unwrap();
        let key = line.split_once(" = ").map_or("name", |(key, _)| key);
        assert!(KEYS.contains(&key), "{key} would not be suggested");
    }
    let text: String = several.lines().skip(3).map(|l| format!("{}\n", &l[2..])).collect();
    let (config, faults) = parse(&text).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(config.each_site()[0].users[0].home, Path::new("/etc/ferry/data/sites/shop/homes/bob"));
    let mut text = String::new();
    for line in one.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let setting = bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
        if setting {
            text.push_str(bare);
            text.push('\n');
        }
    }
    // The keys are shortened in the sample, and top-level keys must precede tables.
    let text = text
        .replace("$argon2id$…", HASH)
        .replace("ssh-ed25519 AAAA… alice", KEY)
        .replace("ssh-ed25519 AAAA… ca", KEY)
        .replace("AA:BB…", &["AA"; 32].join(":"))
        .replace("client_certificates = \"off\"", "client_certificates = \"allow\"")
        .replace("SHA256:…", "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
    let (config, faults) = parse(&text).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let alice = &config.users[0];
    assert_eq!(alice.home, Path::new("/etc/ferry/homes/alice"));
    assert_eq!(alice.keys_file.as_deref(), Some(Path::new("/etc/ferry/keys/alice")));
    assert_eq!(alice.permissions.len(), 2);
    assert_eq!(alice.custom["department"], "shipping");
    assert_eq!(config.hooks[0].file, Path::new("/etc/ferry/hooks/check.js"));
    assert_eq!(config.hooks[0].time, Some(Duration::from_secs(2)));
    for line in text.lines() {
        if let Some((key, _)) = line.split_once(" = ")
            && !key.starts_with('"')
            && key != "department"
            // A fingerprint of PGP is a key, too.
            && session_core::script::Fingerprint::parse(key).is_err()
        {
            assert!(KEYS.contains(&key), "{key} would not be suggested");
        }
    }
}

#[test]
fn the_list_of_keys_is_sorted() {
    assert!(KEYS.windows(2).all(|w| w[0] < w[1]));
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_one() {
    let text = format!(
        "site = \"x\"\ncolour = 1\n[limits]\n  idle_tine = \"1m\"\n[[users]]\nname = \"a\"\n[[users]]\n\
         name = \"b\"\npasword = \"{HASH}\"\n"
    );
    let (config, faults) = parse(&text).unwrap();
    assert_eq!(config.users.len(), 2);
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/etc/ferry/ferryd.toml:2:1: the key 'colour' is not known and has no effect",
            "/etc/ferry/ferryd.toml:4:3: the key 'idle_tine' is not known and has no effect\n\
             hint: did you mean 'idle_time'?",
            "/etc/ferry/ferryd.toml:9:1: the key 'pasword' is not known and has no effect\n\
             hint: did you mean 'password'?",
        ]
    );
}

/// A webhook with these lines.
fn hook(url: &str, events: &str) -> String {
    format!("[[webhooks]]\nname = \"w\"\n{url}\n{events}\nsecret = \"s\"\n")
}

#[test]
fn what_a_webhook_is_called_by_is_not_shown() {
    let text = hook("url = \"https://h.example/T0/very-secret?x=y\"", "events = [\"OnAuthFail\"]");
    let (config, faults) = parse(&text).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let shown = format!("{:?}", config.webhooks);
    assert!(shown.contains("https://h.example/…") && !shown.contains("very-secret"), "{shown}");
    assert_eq!(config.webhooks[0].url.as_str(), "https://h.example/T0/very-secret?x=y");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (text, place, words) in [
        ("site = 1", ":1:8", "string"),
        ("site = \"x\"\nsite = \"y\"", ":2:1", "duplicate"),
        ("[limits]\nidle_time = \"5 parsecs\"", ":2:13", "no duration"),
        ("[limits]\ntries = 0", ":2:1", "at least one"),
        ("[database]\nurl = \"postgres://ferry:hunter2@db/ferry\"", ":2:1", "password_secret"),
        ("[database]\npassword_secret = \"db\"", ":2:1", "'url' says where"),
        ("[database]\nnode = \"a b\"", ":2:1", "a node's name is"),
        ("[database]\npoll = \"0s\"", ":2:1", "takes some time"),
        ("[[directories]]\nname = \"d\"\nurl = \"pam://../x\"", ":3:1", "pam://SERVICE"),
        ("[[directories]]\nname = \"d\"\nurl = \"pam://x\"\npassword_secret = \"s\"", ":4:1", "no secret"),
        ("[[directories]]\nname = \"d\"\nurl = \"https://h/x\"\nprogram = \"p\"", ":4:1", "only PAM"),
        ("[staging]\nin_place = \"maybe\"", ":2:12", "unknown variant"),
        ("[staging]\noff = [\"../x\"]", ":2:7", "virtual path"),
        ("[[listeners]]\nport = 70000", ":2:8", "70000"),
        ("[scan]\ndigest = \"crc\"", ":2:10", "no digest"),
        ("[scan]\nclamd = \"h:1\"\n[staging]\nenabled = false", ":4:1", "must be staged"),
        ("[scan]\nclamd = \"h:1\"\n[staging]\noff = [\"/x\"]", ":4:1", "pass the scanner by"),
        ("[scan]\nclamd = \"h:1\"\n[staging]\nparking = \"publish\"", ":4:1", "published unseen"),
        ("[scan]\nclamd = \"h:1\"\nconnections = 0", ":3:1", "nothing could be scanned"),
        ("[scan]\nicap = \"icap://h/s\"\n[staging]\nenabled = false", ":4:1", "must be staged"),
        ("[scan]\nicap = \"http://h/s\"", ":2:1", "icap://host/service"),
        ("[scan]\nicap = \"icap://h:0/s\"", ":2:1", "icap://host/service"),
        ("[scan]\nicap = \"icap://a:b@h/s\"", ":2:1", "nobody logs in"),
        ("[scan]\nicap = \"icap://h/s\"\nauthorities = \"ca\"", ":3:1", "nobody to vouch for"),
        ("[[users]]\nname = \"..\"", ":2:8", "user's name"),
        ("[[users]]\nname = \"a/b\"", ":2:8", "user's name"),
        ("[[users]]\nname = \"a\"\npassword = \"secret\"", ":3:12", "no password hash"),
        ("[[users]]\nname = \"a\"\naddresses = [\"10.0.0.0/99\"]", ":3:13", "no network"),
        ("[[users]]\nname = \"a\"\nkeys = [\"ssh-rsa AAAA\"]", ":3:8", "no public key"),
        ("[[users]]\nname = \"a\"\ncertificates = [\"aa:bb\"]", ":3:16", "no SHA-256"),
        ("[[users]]\nname = \"a\"\ncertificate_names = [\"\"]", ":3:21", "no name in a certificate"),
        ("[[users]]\nname = \"a\"\nrequire = [\"smell\"]", ":3:11", "no factor"),
        ("[[users]]\nname = \"a\"\nrequire = [\"password\"]", ":3:1", "has none"),
        ("[[users]]\nname = \"a\"\n[users.permissions]\n\"/\" = [\"lst\"]", ":3:1", "did you mean 'list'"),
        ("[[users]]\nname = \"a\"\n\n[[users]]\nname = \"a\"", ":5:1", "another user"),
        ("[protector]\nstrikes = 0", ":2:1", "strikes"),
        ("[protector]\nallow = [\"10.0.0.0/8\"]", ":2:1", "only_allowed"),
        ("[[folders]]\npath = \"/\"\nfolder = \"x\"", ":2:1", "below the root"),
        ("[[folders]]\npath = \"x\"\nfolder = \"x\"", ":2:8", "virtual path"),
        ("[[folders]]\npath = \"/x\"", ":2:1", "said by 'folder'"),
        ("[[folders]]\npath = \"/x\"\nfolder = \"y\"\ngateway = \"z\"", ":4:1", "no gateway 'z'"),
        (
            "[[users]]\nname = \"a\"\n[[users.folders]]\npath = \"/x\"\nfolder = \"y\"\n\
             [[users.folders]]\npath = \"/x\"\nfolder = \"z\"",
            ":7:1",
            "has two folders",
        ),
        ("[[users]]\nname = \"a\"\ngateway = \"z\"\nhome = \"/\"", ":3:1", "no gateway 'z'"),
        ("[[gateways]]\nname = \"g\"\nurl = \"/tmp\"", ":3:7", "no URL"),
        ("[[gateways]]\nname = \"g\"\nurl = \"sftp://u@h/\"\nkey_secret = \"k\"", ":3:1", "must be known"),
        ("[[gateways]]\nname = \"g\"\nurl = \"ftps://u@h/\"", ":3:1", "must be known"),
        ("[[gateways]]\nname = \"g\"\nurl = \"ftp://u@h/\"", ":3:1", "in the clear"),
        ("[[gateways]]\nname = \"g\"\nurl = \"dav://u@h/\"", ":3:1", "in the clear"),
        ("[[gateways]]\nname = \"g\"\nurl = \"s3plain://u@h/\"", ":3:1", "in the clear"),
        (
            "[[gateways]]\nname = \"g\"\nurl = \"ftp://u:hunter2@h/\"\nallow_clear = true",
            ":3:1",
            "does not stand here",
        ),
        (
            "[[gateways]]\nname = \"g\"\nurl = \"sftp://u@h/\"\nhost_keys = [\"x\"]\nkey_secret = \"k\"",
            ":3:1",
            "not a host key fingerprint",
        ),
        ("[[users]]\nname = \"a\"\n[users.quota]\nbytes = 5\nsoft_bytes = 6", ":5:1", "never be reached"),
        (hook("url = \"ftp://h/\"", "events = []").as_str(), ":3:7", "https, or http"),
        (hook("url = \"https://u:hunter2@h/\"", "events = []").as_str(), ":3:7", "password in it"),
        (hook("url = \"http://h/x\"", "events = [\"OnAuthFail\"]").as_str(), ":3:1", "read on the way"),
        (hook("url = \"https://h/x\"", "events = []").as_str(), ":4:1", "told of nothing"),
        (
            hook("url = \"https://h/x\"", "events = [\"OnAuthFial\"]").as_str(),
            ":4:11",
            "did you mean 'OnAuthFail'",
        ),
        (
            "[[commands]]\nname = \"a\"\nprogram = \"sh\"\nevents = [\"OnAuthFail\"]",
            ":3:1",
            "by its whole path",
        ),
        ("[outbox]\nretry = \"2h\"", ":2:1", "not below the first"),
        ("[outbox]\nmost = 0", ":2:1", "nobody would be told"),
        ("[[speeds]]\nnetworks = []", ":1:", "limits nothing"),
        ("[[users]]\nname = \"a\"\n[users.transfer]\nperiod = \"year\"", ":4:10", "unknown variant"),
        ("[[sites]]\nname = \".x\"", ":2:8", "site's name"),
        ("[[sites]]\nname = \"x\"\nhosts = [\"a b\"]", ":3:9", "no name of a host"),
        ("[[sites]]\nname = \"x\"\n[[sites]]\nname = \"X\"", ":4:1", "another site"),
        ("[[sites]]\nname = \"x\"\n[[sites]]\nname = \"y\"\nhosts = [\"X\"]", ":5:10", "another site"),
        ("[[sites]]\nname = \"x\"\n[[users]]\nname = \"a\"", ":3:3", "belongs into one of them"),
        (
            "[[sites]]\nname = \"x\"\n[[sites.users]]\nname = \"a\"\nrequire = [\"password\"]",
            ":5:1",
            "has none",
        ),
        ("[[sites]]\nname = \"x\"\n[sites.limits]\ntries = 0", ":4:1", "at least one"),
        ("[[sites]]\nname = \"x\"\n[sites.protector]\nstrikes = 0", ":4:1", "strikes"),
        (
            "[[sites]]\nname = \"x\"\n[sites.scan]\nclamd = \"/c\"\ntime = \"0s\"",
            ":5:1",
            "nothing could be scanned",
        ),
        (
            "[[sites]]\nname = \"x\"\n[[sites.directories]]\nname = \"d\"\nurl = \"http://h/\"",
            ":5:1",
            "read on the way",
        ),
        ("[[hooks]]\nevent = \"BeforeFileUplaod\"\nfile = \"x\"", ":2:1", "did you mean 'BeforeFileUpload'"),
    ] {
        let told = refused(text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("/etc/ferry/ferryd.toml{place}")), "{text}\n{}", told[0]);
        assert!(told[0].contains(words), "{text}\n{}", told[0]);
    }
}

#[test]
fn a_handler_for_nobody_is_told() {
    let text = "[[users]]\nname = \"alice\"\n[[hooks]]\nevent = \"OnAuthSuccess\"\nfile = \"x\"\n\
                users = [\"alice\", \"alise\"]";
    let told = parse(text).unwrap().1;
    assert_eq!(told.len(), 1);
    let words = "/etc/ferry/ferryd.toml:6:19: there is no user 'alise'\nhint: did you mean 'alice'?";
    assert_eq!(told[0].to_string(), words);
}

#[test]
fn a_secret_is_not_repeated() {
    let text = "[[users]]\nname = \"a\"\npassword = \"hunter2\"";
    assert!(!refused(text)[0].contains("hunter2"));
    let (config, _) = parse(&format!("[[users]]\nname = \"a\"\npassword = \"{HASH}\"")).unwrap();
    assert!(!format!("{config:?}").contains("If6bvum7"));
}

#[test]
fn all_faults_between_values_are_told_at_once() {
    let text = "[limits]\ntries = 0\nlogin_time = \"0s\"\n[[users]]\nname = \"a\"\nrequire = [\"publickey\"]";
    assert_eq!(refused(text).len(), 3);
}

#[test]
fn paths_and_the_environment() {
    let text = "data = \"/srv\"\ncontrol = \"run/c\"\n[[users]]\nname = \"a\"\n[[users]]\nname = \"b\"\nhome = \"h/%u/x\"";
    let config = parse(text).unwrap().0;
    assert_eq!(config.control, Path::new("/etc/ferry/run/c"));
    assert_eq!(config.host_keys, [Path::new("/srv/host_ed25519")]);
    assert_eq!(config.users[0].home, Path::new("/srv/homes/a"));
    assert_eq!(config.users[1].home, Path::new("/etc/ferry/h/b/x"));
    assert_eq!(config.users[0].permissions, full());
    let environment = |name: &str| match name {
        ENV_DATA => Some("/env".into()),
        ENV_LOG => Some("debug".into()),
        _ => None,
    };
    let config = Config::parse(text, Path::new("/etc/ferry/ferryd.toml"), &environment).unwrap().0;
    assert_eq!(config.data, Path::new("/env"));
    assert_eq!(config.users[0].home, Path::new("/env/homes/a"));
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.control, Path::new("/etc/ferry/run/c"));
}

#[test]
fn durations_in_words() {
    assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
    assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
    assert_eq!(parse_duration("0s").unwrap(), Duration::ZERO);
    for bad in ["", "5", "s", "-1s", "1 s", "1y", "99999999999999999999s", "9999999999d"] {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_file_that_is_missing_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Config::load(&dir.path().join("none.toml")).unwrap_err();
    assert!(faults[0].to_string().contains("none.toml: cannot be read"));
    let file = dir.path().join("some.toml");
    std::fs::write(&file, sample()).unwrap();
    assert_eq!(Config::load(&file).unwrap().0.site, "ferry");
}

const TWO_LISTEN: &str = "[[sites]]\nname = \"x\"\n[[sites.listeners]]\nport = 22\n\
                          [[sites]]\nname = \"y\"\n[[sites.listeners]]\nport = 22\n";

#[test]
fn sites_keep_apart_and_take_what_they_do_not_have_from_the_file() {
    assert!(refused(TWO_LISTEN)[0].contains(":7:1: another site listens there"), "{:?}", refused(TWO_LISTEN));
    let text = "[limits]\nper_user = 7\n[ftp]\nbanner = \"all\"\n\
                [[sites]]\nname = \"a\"\n[[sites.listeners]]\nport = 1\n[[sites.users]]\nname = \"u\"\n\
                [[sites]]\nname = \"b\"\n[sites.ftp]\nbanner = \"own\"\n[sites.tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    let (config, told) = parse(text).unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].to_string().starts_with("/etc/ferry/ferryd.toml:12:1: nobody can reach this site"),
        "{}",
        told[0]
    );
    let [a, b] = <[Config; 2]>::try_from(config.each_site()).unwrap();
    assert_eq!((a.site.as_str(), a.limits.per_user, a.ftp.banner.as_str()), ("a", 7, "all"));
    assert_eq!(b.ftp.banner, "own");
    assert_eq!(a.users[0].home, Path::new("/etc/ferry/data/sites/a/homes/u"));
    assert_eq!(b.tls.certificate, Path::new("/etc/ferry/c"));
    assert_eq!(
        (&a.host_keys, a.one_of_several),
        (&vec![PathBuf::from("/etc/ferry/data/host_ed25519")], true)
    );
    let one = parse("[[users]]\nname = \"u\"").unwrap().0.each_site();
    assert!(one.len() == 1 && !one[0].one_of_several && one[0].listeners.len() == 2);
}

#[test]
fn sites_have_their_own_protector_scanners_and_directories_or_those_of_the_file() {
    let text = "[protector]\nstrikes = 7\n[scan]\nclamd = \"run/clamd\"\n\
                [[directories]]\nname = \"d\"\nurl = \"https://h/\"\n\
                [[sites]]\nname = \"a\"\n[[sites.listeners]]\nport = 1\n\
                [[sites]]\nname = \"b\"\ndirectories = []\n[[sites.listeners]]\nport = 2\n\
                [sites.protector]\nrate = 9\n[sites.scan]\nicap = \"icap://h/s\"\n";
    let (config, told) = parse(text).unwrap();
    assert!(told.is_empty(), "{told:?}");
    let [a, b] = <[Config; 2]>::try_from(config.each_site()).unwrap();
    assert_eq!((a.guards_itself, a.protector.strikes, a.directories.len()), (false, 7, 1));
    assert_eq!(a.scan.clamd.as_deref(), Some("/etc/ferry/run/clamd"));
    assert_eq!(a.scan.quarantine, Path::new("/etc/ferry/data/quarantine"));
    assert_eq!((b.guards_itself, b.protector.strikes, b.protector.rate), (true, 15, 9));
    assert_eq!((b.scan.clamd.as_ref(), b.scan.icap.is_some(), b.directories.len()), (None, true, 0));
    assert_eq!(b.scan.quarantine, Path::new("/etc/ferry/data/sites/b/quarantine"));
}

#[test]
fn users_have_what_their_groups_have_and_their_own_stands() {
    let text = "[[groups]]\nname = \"staff\"\nhome = \"h/%username%\"\nread_only = true\nstart = \"/in/%u\"\n\
                sessions = 3\n[groups.permissions]\n\"/\" = [\"list\"]\n\
                [[groups]]\nname = \"night\"\nhours = [\"22:00-06:00\"]\nsessions = 9\n\
                [[users]]\nname = \"a\"\ngroups = [\"staff\", \"night\"]\n\
                [[users]]\nname = \"b\"\ngroups = [\"night\", \"staff\"]\nread_only = false\nhours = []\n\
                [[users]]\nname = \"c\"\n";
    let (config, told) = parse(text).unwrap();
    assert!(told.is_empty(), "{told:?}");
    let [a, b, c] = <[User; 3]>::try_from(config.users).unwrap();
    assert_eq!((a.home.as_path(), a.start().to_string()), (Path::new("/etc/ferry/h/a"), "/in/a".to_string()));
    assert!(a.read_only && a.hours.len() == 1 && a.sessions == 3);
    assert_eq!(
        a.permissions[0].allow,
        session_core::policy::PermissionSet::of(&[session_core::policy::Permission::List])
    );
    assert!(!b.read_only && b.hours.is_empty(), "what a user says stands, also where it is the default");
    assert_eq!((b.sessions, c.sessions), (9, 0));
    assert_eq!((c.permissions, c.start), (full(), "/".to_string()));
    for (text, words) in [
        (
            "[[groups]]\nname = \"x\"\n[[users]]\nname = \"a\"\ngroups = [\"y\"]",
            ":5:11: there is no group 'y'",
        ),
        ("[[groups]]\nname = \"x\"\n[[groups]]\nname = \"x\"", ":4:1: there is another group"),
        ("[[users]]\nname = \"a\"\nstart = \"../x\"", ":3:1: '../x' is no virtual path"),
        ("[[users]]\nname = \"a\"\nrecovery = [\"x\"]", ":3:12: this is no hash"),
        ("[[users]]\nname = \"a\"\nhours = [\"noon\"]", ":3:9: 'noon' is no time"),
        ("[[users]]\nname = \"a\"\nprotocols = [\"gopher\"]", ":3:13: 'gopher' is no protocol"),
        ("[[users]]\nname = \"a\"\nexpires = 12:00:00", ":3:11: "),
        ("[[users]]\nname = \"a\"\ntotp = \"x\"", ":3:8: this is no secret"),
    ] {
        let told = refused(text);
        assert!(told[0].contains(words), "{text}\n{}", told[0]);
    }
    let sites = "[[sites]]\nname = \"s\"\n[[sites.listeners]]\nport = 1\n[[sites.groups]]\nname = \"g\"\nsessions = 2\n\
                 [[sites.users]]\nname = \"u\"\ngroups = [\"g\"]\n";
    assert_eq!(parse(sites).unwrap().0.each_site()[0].users[0].sessions, 2);
}

#[test]
fn groups_are_in_groups_and_not_in_themselves() {
    let groups = "[[groups]]\nname = \"a\"\nspeed_limit = 1\n\
        [[groups]]\nname = \"b\"\ngroups = [\"a\"]\nread_only = true\n\
        [[groups]]\nname = \"c\"\nspeed_limit = 3\nread_only = false\n";
    let (config, faults) =
        parse(&format!("{groups}[[users]]\nname = \"x\"\ngroups = [\"b\", \"c\"]\n")).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let x = &config.users[0];
    assert_eq!((x.speed_limit, x.read_only), (1, true), "the groups of a group come right behind it");
    let round = groups.replacen("speed_limit = 1", "groups = [\"b\"]", 1);
    let faults = refused(&format!("{round}[[users]]\nname = \"x\"\ngroups = [\"b\"]\n"));
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains(":3:1: the group 'a' is in itself, by a, b"), "{faults:?}");
    let faults = refused(&groups.replacen("[\"a\"]", "[\"aa\"]", 1));
    assert_eq!(faults, ["/etc/ferry/ferryd.toml:6:11: there is no group 'aa'\nhint: did you mean 'a'?"]);
}

#[test]
fn users_have_their_folders_then_those_of_groups_then_those_of_the_site() {
    use session_core::policy::Permission as P;
    let text = "[[folders]]\npath = \"/a\"\nfolder = \"site\"\n[[folders]]\npath = \"/b\"\nfolder = \"site/%u\"\n\
                [[groups]]\nname = \"g\"\n[[groups.folders]]\npath = \"/b\"\nfolder = \"/group\"\nread_only = true\n\
                [groups.folders.permissions]\n\"/in\" = \"full\"\n\
                [[users]]\nname = \"u\"\ngroups = [\"g\"]\n[[users.folders]]\npath = \"/c/d\"\nfolder = \"own/%u\"\n\
                [users.permissions]\n\"/\" = \"full\"\n\"/c/d/e\" = []\n[[users]]\nname = \"v\"\n";
    let (config, told) = parse(text).unwrap();
    assert!(told.is_empty(), "{told:?}");
    let of =
        |u: &User| u.folders.iter().map(|f| format!("{}={}", f.path, f.folder.display())).collect::<Vec<_>>();
    let [u, v] = <[User; 2]>::try_from(config.users).unwrap();
    assert_eq!(of(&u), ["/c/d=/etc/ferry/own/u", "/b=/group", "/a=/etc/ferry/site"]);
    assert_eq!(of(&v), ["/a=/etc/ferry/site", "/b=/etc/ferry/site/v"]);
    let permissions = session_core::policy::Permissions::new(rules(&u));
    let may = |at: &str, p| permissions.at(&VPath::absolute(at).unwrap()).contains(p);
    assert!(may("/c/d/x", P::Put) && !may("/c/d/e/x", P::Get));
    // What a folder's rules leave out is refused; what is only read is not written by any rule.
    assert!(!may("/b/x", P::Get) && may("/b/in/x", P::Get) && !may("/b/in/x", P::Put));
    assert!(may("/a/x", P::Put));
}
