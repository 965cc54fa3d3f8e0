//! A `ferryd` in front of another one: homes and folders that are elsewhere.

use bytes::Bytes;
use session_core::error::ErrorKind;
use session_core::fs::*;
use session_core::metadata::Attributes;

use crate::support::*;

const SECRETS: &str =
    "far = \"correct horse\"\nfarkey = \"a secret that is long enough\"\nwrong = \"horse\"\n";

/// The server that holds the files.
fn far() -> Server {
    let far = Server::configured(&(EVERYWHERE.to_owned() + &user_everywhere("gate")), &[]);
    std::fs::create_dir_all(far.home("gate").join("bucket")).unwrap();
    far
}

fn gateway(far: &Server, scheme: &str, more: &str) -> String {
    let way = Way::of(scheme);
    let port = far.port_of("ferry", way.listener);
    let known = match scheme {
        "sftp" => format!("host_keys = [\"{}\"]", far.fingerprint_at(port)),
        _ if way.clear => "allow_clear = true".to_owned(),
        _ => format!("certificates = [\"{}\"]", far.fingerprint_at(port)),
    };
    let (base, secret) = (way.base(), if way.is_s3() { "farkey" } else { "far" });
    format!(
        "[[gateways]]\nname = \"far\"\nurl = \"{scheme}://gate@127.0.0.1:{port}{base}/\"\n{known}\n\
         password_secret = \"{secret}\"\ntime = \"5s\"\n{more}\n"
    )
}

/// A server before it, whose user `alice` has her home there and `bob` a folder.
fn near(gateway: &str) -> Server {
    let dir = tempfile::tempdir().unwrap().keep();
    private(&dir.join("secrets.toml"), SECRETS);
    std::fs::write(dir.join("judge.js"), "if (CtxRelPath() === '/bad') Session.BlockOperation('no');")
        .unwrap();
    let config = format!(
        "data = \".\"\n{EVERYWHERE}[scripts]\nsecrets = \"secrets.toml\"\n{gateway}\
         {}gateway = \"far\"\nhome = \"/homes/%u\"\n\
         {}[[users.folders]]\npath = \"/far\"\ngateway = \"far\"\nfolder = \"/shared\"\n",
        user_everywhere("alice"),
        user_everywhere("bob")
    );
    std::fs::write(dir.join("ferryd.toml"), config).unwrap();
    Server::at_own(&dir)
}

fn private(file: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn walks(scheme: &str) {
    let far = far();
    let there = far.home("gate").join(Way::of(scheme).base().trim_start_matches('/'));
    let near = near(&gateway(&far, scheme, "allow_private = true"));
    // The first level of S3 is buckets: this one for alice; for bob the folder is one.
    let alice = near.login("alice").await;
    alice.fs().create_dir(&path("/bucket"), &Attributes::none()).await.unwrap();
    for way in ["sftp", "ftp", "dav", "s3plain"].map(Way::of) {
        let (alice, bob) = (way.login(&near, "alice").await, way.login(&near, "bob").await);
        let (base, front) = (way.base(), way.scheme);
        let at = |path: &str| format!("{base}{path}");
        put(&alice, &at("/f"), "over two servers")
            .await
            .unwrap_or_else(|e| panic!("{front}: {e:#}\n{}", near.log()));
        let file = there.join("homes/alice").join(&at("/f")[1..]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "over two servers", "{front}");
        assert_eq!(get(&alice, &at("/f")).await.unwrap(), "over two servers", "{front}");
        alice.fs().create_dir(&way.at("/d"), &Attributes::none()).await.unwrap();
        alice.fs().rename(&way.at("/f"), &way.at("/d/g"), Replace::No).await.unwrap();
        let seen = names(&alice, &at("/")).await.unwrap();
        assert_eq!(seen.iter().filter(|n| *n != "bucket").collect::<Vec<_>>(), ["d"], "{front}");
        let e = alice.fs().stat(&way.at("/missing"), Follow::Yes).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound, "{front}");
        if !way.is_s3() {
            // Nothing above the folder is reached.
            assert_eq!(names(&alice, "/../..").await.unwrap(), ["bucket", "d"], "{front}");
        }
        alice.fs().remove_file(&way.at("/d/g")).await.unwrap();
        alice.fs().remove_dir(&way.at("/d")).await.unwrap();
        // A folder beside what is here.
        put(&bob, "/far/x", "there").await.unwrap();
        assert_eq!(std::fs::read_to_string(there.join("shared/x")).unwrap(), "there", "{front}");
        bob.fs().remove_file(&path("/far/x")).await.unwrap();
        if !way.is_s3() {
            put(&bob, "/own", "here").await.unwrap();
            assert_eq!(names(&bob, "/").await.unwrap(), ["far", "own"], "{front}");
        }
        let sessions = far.sessions();
        assert!(scheme != "sftp" || sessions.len() == 1, "one connection for all: {sessions:?}");
    }
}

#[tokio::test]
async fn homes_and_folders_are_on_a_server_of_sftp() {
    walks("sftp").await;
}

#[tokio::test]
async fn homes_and_folders_are_on_a_server_of_ftp() {
    walks("ftp").await;
}

#[tokio::test]
async fn homes_and_folders_are_on_a_server_of_webdav() {
    walks("davs").await;
}

#[tokio::test]
async fn homes_and_folders_are_in_a_bucket() {
    walks("s3").await;
}

/// Neither a new start nor a new login is needed for a secret that was changed.
#[tokio::test]
async fn a_stored_secret_reaches_a_gateway_as_soon_as_it_is_changed() {
    let far = far();
    let gateway = gateway(&far, "sftp", "allow_private = true").replace("\"far\"\ntime", "\"kept\"\ntime");
    let dir = tempfile::tempdir().unwrap();
    let folder = "[[users.folders]]\npath = \"/far\"\ngateway = \"far\"\nfolder = \"/shared\"\n";
    let config = format!("data = \".\"\n{EVERYWHERE}{gateway}{}{folder}", user("bob"));
    std::fs::write(dir.path().join("ferryd.toml"), config).unwrap();
    let set = |secret: &str| {
        let (code, out, err) = ferryd_reads(dir.path(), &["secret", "set", "kept"], &format!("{secret}\n"));
        assert_eq!(code, 0, "{out}{err}");
    };
    set(PASSWORD);
    let near = Server::at_own(dir.path());
    let bob = near.login("bob").await;
    put(&bob, "/far/x", "there").await.unwrap_or_else(|e| panic!("{e:#}\n{}", near.log()));
    set("another");
    assert!(get(&bob, "/far/x").await.is_err(), "the old one is not used any more");
    set(PASSWORD);
    assert_eq!(get(&bob, "/far/x").await.unwrap(), "there");
}

/// What is under way has another name over there, and what arrived of it is its owner's to continue.
#[tokio::test]
async fn an_upload_that_is_cut_goes_on_through_a_gateway() {
    let far = far();
    let near = near(&gateway(&far, "sftp", "allow_private = true"));
    let alice = near.login("alice").await;
    let file = begin(&alice, "/f", "first ").await.unwrap();
    file.settle().await.unwrap();
    let (code, _, told) = near.ask(&["sessions", "kill", "--user", "alice"]);
    assert_eq!(code, 0, "{told}");
    assert!(file.write_at(6, "late".into()).await.is_err() || file.sync().await.is_err());
    let home = far.home("gate").join("homes/alice");
    let again = near.login("alice").await;
    assert_eq!(again.fs().stat(&path("/f"), Follow::Yes).await.unwrap().size, 6);
    assert!(!home.join("f").exists());
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    let file = again.fs().open(&path("/f"), &options).await.unwrap();
    file.write_at(6, "second".into()).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(get(&again, "/f").await.unwrap(), "first second");
    assert_eq!(std::fs::read_to_string(home.join("f")).unwrap(), "first second");
    assert_eq!(std::fs::read_dir(home.join(".ferry-staging")).unwrap().count(), 0, "nothing is left of it");
}

/// Whatever is spoken behind it: until an upload is complete and judged, what it replaces stands.
#[tokio::test]
async fn an_upload_through_a_gateway_is_whole_or_nothing_over_there() {
    let far = far();
    for scheme in ["sftp", "ftps", "davs", "s3"] {
        let there = far.home("gate").join(Way::of(scheme).base().trim_start_matches('/')).join("homes/alice");
        let hook = "[[hooks]]\nevent = \"BeforeCommit\"\nfile = \"judge.js\"\n";
        let near = near(&(gateway(&far, scheme, "allow_private = true") + hook));
        let alice = near.login("alice").await;
        put(&alice, "/f", "old").await.unwrap_or_else(|e| panic!("{scheme}: {e:#}\n{}", near.log()));
        let file = begin(&alice, "/f", "new content").await.unwrap();
        let arrived = |v: &serde_json::Value| v["bytesReceived"].as_u64().is_some_and(|n| n >= 14);
        until("the bytes to arrive", || near.sessions().iter().any(arrived)).await;
        assert_eq!(std::fs::read_to_string(there.join("f")).unwrap(), "old", "{scheme}");
        assert_eq!(names(&alice, "/").await.unwrap(), ["f"], "{scheme}");
        file.commit(&CommitOptions::default()).await.unwrap();
        assert_eq!(std::fs::read_to_string(there.join("f")).unwrap(), "new content", "{scheme}");
        put(&alice, "/bad", "x").await.unwrap_err();
        assert!(!there.join("bad").exists(), "{scheme}");
        let (gone, meant) =
            (alice.fs().stat(&path("/.ferry-staging"), Follow::Yes).await, ErrorKind::NotFound);
        assert_eq!(gone.unwrap_err().kind(), meant, "{scheme}");
        alice.fs().remove_file(&path("/f")).await.unwrap();
        let left = std::fs::read_dir(there.join(".ferry-staging")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{scheme}: nothing is left of them");
    }
}

/// Whatever order a client writes in, and whatever is written in order behind it.
#[tokio::test]
async fn what_comes_out_of_order_waits_on_the_disk() {
    let far = far();
    let data: Bytes = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for scheme in ["ftps", "davs", "s3"] {
        let there = far.home("gate").join(Way::of(scheme).base().trim_start_matches('/')).join("homes/alice");
        let near = near(&gateway(&far, scheme, "allow_private = true"));
        let alice = near.login("alice").await;
        let file = alice.fs().open(&path("/f"), &OpenOptions::create()).await.unwrap();
        for at in (0..data.len()).step_by(30_000).rev() {
            let sent = file.write_at(at as u64, data.slice(at..at + 30_000)).await;
            sent.unwrap_or_else(|e| panic!("{scheme}: {at}: {e:#}\n{}", near.log()));
        }
        let done = file.commit(&CommitOptions::default()).await;
        assert_eq!(done.unwrap_or_else(|e| panic!("{scheme}: {e:#}\n{}", near.log())).size, 3_000_000);
        assert!(std::fs::read(there.join("f")).unwrap() == data, "{scheme}");
        // What has a hole is no file.
        let file = alice.fs().open(&path("/g"), &OpenOptions::create()).await.unwrap();
        file.write_at(0, "begin".into()).await.unwrap();
        file.write_at(9, "end".into()).await.unwrap();
        let e = file.commit(&CommitOptions::default()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{scheme}: {e:#}");
        assert!(!there.join("g").exists(), "{scheme}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_and_comes_back() {
    let mut far = far();
    let near = near(&gateway(&far, "sftp", "allow_private = true"));
    let bob = near.login("bob").await;
    put(&bob, "/far/x", "there").await.unwrap();
    far.signal("KILL");
    far.ended().await;
    let e = names(&bob, "/far").await.unwrap_err();
    assert!(format!("{e:#}").contains("not available"), "{e:#}");
    assert!(!format!("{e:#}").contains("127.0.0.1"), "who is behind it is nobody's business: {e:#}");
    assert_eq!(names(&bob, "/").await.unwrap(), ["far"], "the rest goes on");
    put(&bob, "/own", "here").await.unwrap();
}

#[tokio::test]
async fn what_a_gateway_may_not_reach_it_does_not() {
    let far = far();
    // A private address that is not allowed; a wrong password; a server that shows another key.
    let other = "host_keys = [\"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\"]";
    let good = gateway(&far, "sftp", "allow_private = true");
    for (gateway, words) in [
        (gateway(&far, "sftp", ""), "no connection may go"),
        (good.replace("\"far\"\ntime", "\"wrong\"\ntime"), "cannot be opened"),
        (good.replace(&format!("host_keys = [\"{}\"]", far.fingerprint), other), "cannot be opened"),
    ] {
        let near = near(&gateway);
        let bob = near.login("bob").await;
        let e = names(&bob, "/far").await.unwrap_err();
        assert!(format!("{e:#}").contains("not available"), "{e:#}");
        near.logged(&[words]).await;
        assert!(put(&bob, "/far/x", "x").await.is_err());
    }
    assert!(!far.home("gate").join("shared").exists());
}

#[tokio::test]
async fn a_gateway_leads_to_no_port_of_its_own_server() {
    // The port is known only once it listens: the configuration is read anew.
    let near = near(&gateway(&far(), "ftp", "allow_private = true"));
    let file = near.data.join("ferryd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let own = format!("url = \"ftp://bob@127.0.0.1:{}/\"", near.port_of("ferry", "ftp"));
    let text: String =
        text.lines().map(|l| format!("{}\n", if l.starts_with("url = ") { &own } else { l })).collect();
    std::fs::write(&file, &text).unwrap();
    let (code, _, told) = near.ask(&["reload"]);
    assert_eq!(code, 0, "{told}");
    let bob = near.login("bob").await;
    assert!(names(&bob, "/far").await.is_err());
    near.logged(&["no connection may go"]).await;
    // By its key it is known without being asked.
    let own = format!(
        "url = \"sftp://bob@localhost:{}/\"\nhost_keys = [\"{}\"]",
        near.port_of("ferry", "sftp"),
        near.fingerprint
    );
    let text: String =
        text.lines().map(|l| format!("{}\n", if l.starts_with("url = ") { &own } else { l })).collect();
    std::fs::write(&file, &text).unwrap();
    let (code, _, told) = near.ask(&["reload"]);
    assert!(code != 0 && told.contains("leads to this very server"), "{told}");
}
