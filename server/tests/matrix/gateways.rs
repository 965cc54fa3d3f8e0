//! Stores behind a gateway: a folder of another server of ours, reached as `ferryd` reaches one.
//!
//! The other server stands on memory and stages what it is sent, as one out there does. What can be done through a
//! protocol in front is what both ends of the pair can do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::url::{Location, Url};
use server::config::Gateway;
use server::gateway::{Gateways, Settings};
use session_core::auth::Secret;
use session_core::capability::Capabilities;
use session_core::event::{Event, What};
use session_core::fs::{Filesystem, Follow};
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use session_core::operation::OperationKind;
use session_core::path::VPath;
use session_core::script::Secrets;

use crate::world::{Store, Way, World};

/// The other server, and the way to it: both last as long as this.
pub struct Behind {
    far: World,
    _gateways: Gateways,
}

/// A folder of another server, not staged here. Only what [`Behind`] keeps is reached.
pub async fn behind(way: Way) -> (Store, Behind) {
    let far = World::new(way, Store::memory().staged(), Arc::default()).await;
    let gateways = Gateways::default();
    gateways.set(&settings(&far));
    let folder = gateways.folder("far", VPath::root(), false).unwrap();
    // What it can do is known once it was reached.
    folder.stat(&VPath::root(), Follow::Yes).await.unwrap();
    (Store::Bare(Arc::new(folder)), Behind { far, _gateways: gateways })
}

/// The gateway that leads to a server.
fn settings(far: &World) -> Settings {
    let asked = Gateway {
        name: "far".into(),
        url: url(far),
        host_keys: far.host_key().into_iter().collect(),
        certificates: Vec::new(),
        password_secret: Some("far".into()),
        key_secret: None,
        phrase_secret: None,
        allow_private: true,
        allow_clear: true,
        time: Duration::from_secs(30),
    };
    let secrets = BTreeMap::from([("far".to_owned(), Secret::new("secret"))]);
    Settings::new(&asked, &Secrets::new(secrets)).unwrap()
}

fn url(far: &World) -> Url {
    let scheme = match far.way {
        Way::Sftp => "sftp",
        Way::S3 => "s3plain",
        other => panic!("{other:?} is no gateway here"),
    };
    let base = far.way.base();
    let text =
        format!("{scheme}://gate@127.0.0.1:{}{}", far.port, std::str::from_utf8(base.as_bytes()).unwrap());
    match Location::parse(&text).unwrap() {
        Location::Remote(url) => url,
        Location::Local(_) => panic!("{text} is no URL"),
    }
}

/// What a client of a protocol can do through a server over a store: its own, as far as the store has it too. Copies and
/// digests are made by the server where the store has none.
pub fn both(front: &Capabilities, behind: &Capabilities) -> Capabilities {
    Capabilities {
        write: front.write && behind.write,
        create_dir: front.create_dir && behind.create_dir,
        remove: front.remove && behind.remove,
        rename: front.rename && behind.rename,
        rename_replaces: front.rename_replaces && behind.rename_replaces,
        random_write: front.random_write && behind.random_write,
        continue_write: front.continue_write && behind.continue_write,
        append: front.append && behind.append,
        truncate: front.truncate && behind.truncate,
        set_times: front.set_times && behind.set_times,
        set_mode: front.set_mode && behind.set_mode,
        set_owner: front.set_owner && behind.set_owner,
        symlinks: front.symlinks && behind.symlinks,
        hard_links: front.hard_links && behind.hard_links,
        empty_dirs: front.empty_dirs && behind.empty_dirs,
        conditional_write: front.conditional_write && behind.conditional_write,
        properties: front.properties && behind.properties,
        space: front.space && behind.space,
        mtime_granularity: front.mtime_granularity.max(behind.mtime_granularity),
        max_name: front.max_name.min(behind.max_name),
        max_size: front.max_size.min(behind.max_size),
        ..front.clone()
    }
}

/// Each call in front of a gateway is requests behind it, which are waited for: a new object in a folder that is there
/// is one of them, and nothing is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_is_one_request_behind() {
    let (store, behind) = behind(Way::S3).await;
    let front = World::new(Way::S3, store, Arc::default()).await;
    let (alice, connection) = front.log_in("alice").await;
    let p = |text: &str| VPath::absolute(text).unwrap();
    alice.create_dir(&p("/bucket/d"), &Attributes::none()).await.unwrap();
    let told = || {
        let begun = |e: Event| match e.what {
            What::Started { record, .. } => Some((record.kind(), record.path().display().to_string())),
            _ => None,
        };
        behind.far.events().into_iter().filter_map(begun).collect::<Vec<_>>()
    };
    let before = told().len();
    alice.write_all(&p("/bucket/d/f"), "x".into()).await.unwrap();
    // What the far server itself does for a PUT: a look at what would be replaced, the file, its end.
    let at = "/bucket/bucket/d/f".to_owned();
    let due = [OperationKind::Stat, OperationKind::Open, OperationKind::Commit];
    assert_eq!(told()[before..], due.map(|kind| (kind, at.clone())));
    connection.close().await;
}

/// Links that are met while others look at them: nobody waits for a look that is not wanted any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_meet_a_link_at_a_time() {
    let (store, _behind) = behind(Way::Sftp).await;
    let fs = store.view("alice");
    let p = |text: &str| VPath::absolute(text).unwrap();
    fs.create_dir_all(&p("/d/a/b")).await.unwrap();
    fs.write_all(&p("/d/a/b/c"), "x".into()).await.unwrap();
    fs.symlink(b"d", &p("/l")).await.unwrap();
    let looks = (0..64).map(|_| {
        let fs = Arc::clone(&fs);
        tokio::spawn(async move {
            for _ in 0..50 {
                let e = fs.stat(&VPath::absolute("/l/a/b/c").unwrap(), Follow::Yes).await.unwrap_err();
                assert_eq!(e.as_link().map(|l| l.target.clone()), Some(b"d".to_vec()), "{e:#}");
            }
        })
    });
    let all = futures_util::future::try_join_all(looks);
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap().unwrap();
}
