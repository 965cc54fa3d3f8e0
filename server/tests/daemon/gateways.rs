//! A `ferryd` in front of another one: homes and folders that are elsewhere.

use std::sync::Arc;

use client::connect::{Connected, open_url};
use session_core::batch::Unattended;
use session_core::error::ErrorKind;
use session_core::fs::*;
use session_core::metadata::Attributes;

use crate::support::*;

const SECRETS: &str = "far = \"correct horse\"\nwrong = \"horse\"\n";

const BOTH: &str = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n";

/// The server that holds the files.
fn far() -> Server {
    Server::configured(&format!("{BOTH}[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n{}", user("gate")), &[])
}

fn gateway(far: &Server, scheme: &str, more: &str) -> String {
    let port = far.port_of("ferry", scheme);
    let known = match scheme {
        "sftp" => format!("host_keys = [\"{}\"]", far.fingerprint),
        _ => "allow_clear = true".to_owned(),
    };
    format!(
        "[[gateways]]\nname = \"far\"\nurl = \"{scheme}://gate@127.0.0.1:{port}/\"\n{known}\n\
         password_secret = \"far\"\ntime = \"5s\"\n{more}\n"
    )
}

/// A server before it, whose user `alice` has her home there and `bob` a folder.
fn near(gateway: &str) -> Server {
    let dir = tempfile::tempdir().unwrap().keep();
    private(&dir.join("secrets.toml"), SECRETS);
    let config = format!(
        "data = \".\"\n{BOTH}[ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n[scripts]\nsecrets = \"secrets.toml\"\n{gateway}\
         {}gateway = \"far\"\nhome = \"/homes/%u\"\n\
         {}[[users.folders]]\npath = \"/far\"\ngateway = \"far\"\nfolder = \"/shared\"\n",
        user("alice"),
        user("bob")
    );
    std::fs::write(dir.join("ferryd.toml"), config).unwrap();
    Server::at_own(&dir)
}

fn private(file: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn over(s: &Server, protocol: &str, user: &str) -> Connected {
    let options = s.options_at(protocol, s.port_of("ferry", protocol), user, PASSWORD);
    open_url(options, Arc::new(Unattended)).await.unwrap_or_else(|e| panic!("{e:#}\n{}", s.log()))
}

async fn walks(scheme: &str) {
    let far = far();
    let near = near(&gateway(&far, scheme, "allow_private = true"));
    for protocol in ["sftp", "ftp"] {
        let (alice, bob) = (over(&near, protocol, "alice").await, over(&near, protocol, "bob").await);
        put(&alice, "/f", "over two servers").await.unwrap_or_else(|e| panic!("{e:#}\n{}", near.log()));
        let there = far.home("gate").join("homes/alice/f");
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "over two servers");
        assert_eq!(get(&alice, "/f").await.unwrap(), "over two servers");
        alice.fs().create_dir(&path("/d"), &Attributes::none()).await.unwrap();
        alice.fs().rename(&path("/f"), &path("/d/g"), Replace::No).await.unwrap();
        assert_eq!(names(&alice, "/").await.unwrap(), ["d"]);
        let e = alice.fs().stat(&path("/missing"), Follow::Yes).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        // Nothing above the folder is reached.
        assert_eq!(names(&alice, "/../..").await.unwrap(), ["d"]);
        alice.fs().remove_file(&path("/d/g")).await.unwrap();
        alice.fs().remove_dir(&path("/d")).await.unwrap();
        // A folder beside what is here.
        put(&bob, "/own", "here").await.unwrap();
        put(&bob, "/far/x", "there").await.unwrap();
        assert_eq!(names(&bob, "/").await.unwrap(), ["far", "own"]);
        assert_eq!(std::fs::read_to_string(far.home("gate").join("shared/x")).unwrap(), "there");
        bob.fs().remove_file(&path("/far/x")).await.unwrap();
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

/// Nothing is staged through a gateway: what arrived has its name, as on any plain server, and is continued.
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
    let there = far.home("gate").join("homes/alice/f");
    until("what arrived", || std::fs::read_to_string(&there).is_ok_and(|t| t == "first ")).await;
    let again = near.login("alice").await;
    assert_eq!(again.fs().stat(&path("/f"), Follow::Yes).await.unwrap().size, 6);
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    let file = again.fs().open(&path("/f"), &options).await.unwrap();
    file.write_at(6, "second".into()).await.unwrap();
    file.commit(&CommitOptions::default()).await.unwrap();
    assert_eq!(get(&again, "/f").await.unwrap(), "first second");
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
