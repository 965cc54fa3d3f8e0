//! What mounts hide, show, refuse and pass on.

use std::time::Duration;

use super::*;
use crate::error::Link;
use crate::fs_ext::FilesystemExt as _;
use crate::layer::Layer;
use crate::layers::rooted::Rooted;
use crate::store::memory::MemoryStore;

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

fn store() -> Arc<dyn Filesystem> {
    Arc::new(MemoryStore::new())
}

fn mount(at: &str, fs: &Arc<dyn Filesystem>) -> Mount {
    Mount { at: p(at), fs: Arc::clone(fs), described: true }
}

async fn names(fs: &dyn Filesystem, dir: &str, order: Order, after: Option<&str>) -> Vec<String> {
    let options = ListOptions {
        order,
        after: after.map(|a| Bytes::copy_from_slice(a.as_bytes())),
        ..ListOptions::default()
    };
    let mut pages = fs.list(&p(dir), &options).await.unwrap();
    let mut all = Vec::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        assert!(!page.is_empty());
        all.extend(page.into_iter().map(|e| String::from_utf8(e.name.to_vec()).unwrap()));
    }
    all
}

/// A home with `/f` and a hidden `/shared/secret`, and a folder of two files at `/shared` and `/deep/er/in`.
async fn bench() -> (Arc<dyn Filesystem>, Arc<dyn Filesystem>, Mounts) {
    let (home, shared) = (store(), store());
    home.write_all(&p("/f"), "home".into()).await.unwrap();
    home.create_dir_all(&p("/shared")).await.unwrap();
    home.write_all(&p("/shared/secret"), "hidden".into()).await.unwrap();
    shared.write_all(&p("/a"), "one".into()).await.unwrap();
    shared.create_dir_all(&p("/d")).await.unwrap();
    let mounts = vec![mount("/shared", &shared), mount("/deep/er/in", &shared)];
    let fs = Mounts::new(Arc::clone(&home), mounts).unwrap();
    (home, shared, fs)
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it worked"),
        Err(e) => e.kind(),
    }
}

#[tokio::test]
async fn mount_points_and_what_leads_to_them_are_seen_and_hide_what_was_there() {
    let (_, _, fs) = bench().await;
    assert_eq!(names(&fs, "/", Order::Name, None).await, ["deep", "f", "shared"]);
    assert_eq!(names(&fs, "/", Order::Name, Some("deep")).await, ["f", "shared"]);
    assert_eq!(names(&fs, "/", Order::Key, Some("deep/")).await, ["f", "shared"]);
    assert_eq!(names(&fs, "/", Order::Key, Some("shared/")).await, [""; 0]);
    let mut any = names(&fs, "/", Order::Any, None).await;
    any.sort();
    assert_eq!(any, ["deep", "f", "shared"]);
    assert_eq!(names(&fs, "/shared", Order::Name, None).await, ["a", "d"]);
    assert_eq!(names(&fs, "/deep", Order::Any, None).await, ["er"]);
    assert_eq!(names(&fs, "/deep/er/in", Order::Name, None).await, ["a", "d"]);
    for dir in ["/", "/deep", "/deep/er", "/deep/er/in", "/shared"] {
        assert!(fs.stat(&p(dir), Follow::Yes).await.unwrap().is_dir(), "{dir}");
    }
    for gone in ["/shared/secret", "/deep/x", "/deep/er/a"] {
        assert_eq!(kind(fs.stat(&p(gone), Follow::No).await), ErrorKind::NotFound, "{gone}");
    }
    assert_eq!(fs.read_to_vec(&p("/deep/er/in/a"), 9).await.unwrap(), b"one");
}

#[tokio::test]
async fn a_directory_that_is_there_is_merged_and_a_file_in_the_way_is_hidden() {
    let (home, shared) = (store(), store());
    home.create_dir_all(&p("/real")).await.unwrap();
    home.write_all(&p("/real/own"), "x".into()).await.unwrap();
    home.write_all(&p("/file"), "x".into()).await.unwrap();
    let mounts = vec![mount("/real/m", &shared), mount("/file/m", &shared)];
    let fs = Mounts::new(home, mounts).unwrap();
    assert_eq!(names(&fs, "/", Order::Name, None).await, ["file", "real"]);
    assert_eq!(names(&fs, "/real", Order::Name, None).await, ["m", "own"]);
    assert_eq!(names(&fs, "/file", Order::Any, None).await, ["m"]);
    assert!(fs.stat(&p("/file"), Follow::No).await.unwrap().is_dir());
    assert_eq!(kind(fs.open(&p("/file"), &OpenOptions::read()).await), ErrorKind::IsADirectory);
    assert_eq!(kind(fs.remove_file(&p("/file")).await), ErrorKind::IsADirectory);
}

#[tokio::test]
async fn mount_points_stay_and_nothing_takes_their_place() {
    let (home, shared, fs) = bench().await;
    use ErrorKind as K;
    assert_eq!(kind(fs.remove_dir(&p("/shared")).await), K::PermissionDenied);
    assert_eq!(kind(fs.remove_dir(&p("/deep/er")).await), K::NotEmpty);
    assert_eq!(kind(fs.rename(&p("/shared"), &p("/x"), Replace::No).await), K::PermissionDenied);
    assert_eq!(kind(fs.rename(&p("/deep"), &p("/x"), Replace::No).await), K::PermissionDenied);
    assert_eq!(kind(fs.rename(&p("/f"), &p("/shared"), Replace::Yes).await), K::PermissionDenied);
    assert_eq!(kind(fs.rename(&p("/f"), &p("/deep"), Replace::No).await), K::AlreadyExists);
    assert_eq!(kind(fs.create_dir(&p("/shared"), &Attributes::none()).await), K::AlreadyExists);
    assert_eq!(kind(fs.create_dir(&p("/deep/er"), &Attributes::none()).await), K::AlreadyExists);
    assert_eq!(kind(fs.symlink(b"f", &p("/shared")).await), K::AlreadyExists);
    assert_eq!(kind(fs.open(&p("/deep"), &OpenOptions::create()).await), K::IsADirectory);
    let exclusive = OpenOptions { exclusive: true, ..OpenOptions::create() };
    assert_eq!(kind(fs.open(&p("/shared"), &exclusive).await), K::AlreadyExists);
    // Where only mounts made the directory nothing can be put.
    assert_eq!(kind(fs.open(&p("/deep/new"), &OpenOptions::create()).await), K::PermissionDenied);
    assert_eq!(kind(fs.create_dir(&p("/deep/er/new"), &Attributes::none()).await), K::PermissionDenied);
    assert_eq!(kind(fs.rename(&p("/f"), &p("/deep/f"), Replace::No).await), K::PermissionDenied);
    assert_eq!(kind(fs.remove_dir_all(&p("/deep/er/in")).await), K::PermissionDenied);
    assert_eq!(names(&*home, "/", Order::Name, None).await, ["f", "shared"]);
    assert!(home.exists(&p("/shared/secret")).await.unwrap());
    assert_eq!(names(&*shared, "/", Order::Name, None).await, [""; 0], "what lay in it was asked to go");
}

#[tokio::test]
async fn between_mounts_nothing_is_renamed_or_linked_but_files_are_copied() {
    let (_, shared, fs) = bench().await;
    use ErrorKind as K;
    assert_eq!(kind(fs.rename(&p("/f"), &p("/shared/f"), Replace::No).await), K::CrossDevice);
    assert_eq!(kind(fs.rename(&p("/shared/a"), &p("/a"), Replace::Yes).await), K::CrossDevice);
    // Two views of one store are two all the same.
    assert_eq!(kind(fs.rename(&p("/shared/a"), &p("/deep/er/in/b"), Replace::No).await), K::CrossDevice);
    assert_eq!(kind(fs.rename(&p("/missing"), &p("/shared/f"), Replace::No).await), K::NotFound);
    assert_eq!(kind(fs.hard_link(&p("/f"), &p("/shared/f")).await), K::CrossDevice);
    fs.rename(&p("/shared/a"), &p("/shared/d/b"), Replace::No).await.unwrap();
    fs.copy(&p("/f"), &p("/shared/f"), Replace::No).await.unwrap();
    assert_eq!(shared.read_to_vec(&p("/f"), 9).await.unwrap(), b"home");
    assert_eq!(kind(fs.copy(&p("/shared/d/b"), &p("/f"), Replace::No).await), K::AlreadyExists);
    fs.copy(&p("/shared/d/b"), &p("/f"), Replace::Yes).await.unwrap();
    assert_eq!(fs.read_to_vec(&p("/f"), 9).await.unwrap(), b"one");
    assert_eq!(kind(fs.copy(&p("/shared/d"), &p("/x"), Replace::No).await), K::IsADirectory);
    assert_eq!(kind(fs.copy(&p("/f"), &p("/shared"), Replace::Yes).await), K::IsADirectory);
}

#[tokio::test]
async fn links_lead_into_a_mount_and_never_out_of_one() {
    let (_, _, fs) = bench().await;
    fs.symlink(b"shared/d", &p("/in")).await.unwrap();
    let e = fs.stat(&p("/in/x"), Follow::Yes).await.unwrap_err();
    assert_eq!(e.as_link(), Some(&Link { at: p("/in"), target: b"shared/d".to_vec() }));
    fs.symlink(b"d", &p("/shared/near")).await.unwrap();
    let e = fs.stat(&p("/shared/near"), Follow::Yes).await.unwrap_err();
    assert_eq!(e.as_link().unwrap().at, p("/shared/near"));
    for (n, out) in ["../f", "/f", "/deep/er/in/a", "../../.."].into_iter().enumerate() {
        let at = p(&format!("/shared/out{n}"));
        fs.symlink(out.as_bytes(), &at).await.unwrap();
        let e = fs.stat(&at, Follow::Yes).await.unwrap_err();
        assert_eq!((e.kind(), e.as_link()), (ErrorKind::Refused, None), "{out}");
        assert_eq!(fs.read_link(&at).await.unwrap(), out);
    }
}

/// A store in which upper and lower case are the same.
struct Folding(Arc<dyn Filesystem>);

#[async_trait]
impl Layer for Folding {
    fn inner(&self) -> &dyn Filesystem {
        &*self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            case_sensitive: false,
            mtime_granularity: Duration::from_secs(2),
            ..self.0.capabilities()
        }
    }

    fn capabilities_at(&self, _: &VPath) -> Capabilities {
        Layer::capabilities(self)
    }
}

#[tokio::test]
async fn no_spelling_gets_past_a_mount_where_case_makes_no_difference() {
    let (home, shared) = (store(), store());
    home.create_dir_all(&p("/SHARED")).await.unwrap();
    home.write_all(&p("/SHARED/secret"), "hidden".into()).await.unwrap();
    shared.write_all(&p("/a"), "one".into()).await.unwrap();
    let folding: Arc<dyn Filesystem> = Arc::new(Folding(home));
    let fs = Mounts::new(folding, vec![mount("/Shared", &shared), mount("/sHaReD/Sub", &shared)]).unwrap();
    assert_eq!(names(&fs, "/", Order::Name, None).await, ["Shared"]);
    assert_eq!(names(&fs, "/sharED", Order::Name, None).await, ["Sub", "a"]);
    assert_eq!(kind(fs.stat(&p("/SHARED/secret"), Follow::No).await), ErrorKind::NotFound);
    assert_eq!(kind(fs.remove_dir(&p("/SHARED")).await), ErrorKind::PermissionDenied);
    assert_eq!(fs.read_to_vec(&p("/shared/Sub/a"), 9).await.unwrap(), b"one");
    // In the mounted store it does make one.
    assert_eq!(kind(fs.stat(&p("/Shared/sub"), Follow::No).await), ErrorKind::NotFound);
    assert_eq!(
        kind(
            fs.rename(&p("/SHARED/a"), &p("/shared/b"), Replace::No)
                .await
                .map(|()| 1)
                .and(fs.stat(&p("/Shared/A"), Follow::No).await)
        ),
        ErrorKind::NotFound
    );
    assert!(fs.exists(&p("/Shared/b")).await.unwrap());
    let twice = Mounts::new(Arc::new(Folding(store())), vec![mount("/a", &shared), mount("/A", &shared)]);
    assert_eq!(kind(twice), ErrorKind::InvalidArgument);
    assert_eq!(kind(Mounts::new(store(), vec![mount("/", &shared)])), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn capabilities_and_paths_in_errors_are_those_of_the_place() {
    let (home, shared) = (store(), store());
    let folding: Arc<dyn Filesystem> = Arc::new(Folding(shared));
    let fs = Mounts::new(home, vec![mount("/m", &folding)]).unwrap();
    assert!(fs.capabilities().case_sensitive && fs.capabilities_at(&p("/x")).case_sensitive);
    assert!(!fs.capabilities_at(&p("/m/x")).case_sensitive);
    let rooted = Rooted::new(Arc::new(fs.clone()), p("/m"));
    assert!(!Filesystem::capabilities_at(&rooted, &p("/x")).case_sensitive);
}

/// A store that is away.
struct Dead;

#[async_trait]
impl Filesystem for Dead {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }

    async fn stat(&self, path: &VPath, _: Follow) -> Result<Metadata> {
        Err(Error::new(ErrorKind::Disconnected).at(OperationKind::Stat, Some(path)))
    }

    async fn list(&self, path: &VPath, _: &ListOptions) -> Result<Listing> {
        Err(Error::new(ErrorKind::Disconnected).at(OperationKind::List, Some(path)))
    }

    async fn open(&self, path: &VPath, _: &OpenOptions) -> Result<Arc<dyn File>> {
        Err(Error::new(ErrorKind::Disconnected).at(OperationKind::Open, Some(path)))
    }
}

#[tokio::test]
async fn a_mount_that_is_away_is_an_error_and_nobody_elses_trouble() {
    let dead: Arc<dyn Filesystem> = Arc::new(Dead);
    let inner = store();
    let fs = Mounts::new(store(), vec![mount("/dead", &dead), mount("/dead/in", &inner)]).unwrap();
    assert_eq!(names(&fs, "/", Order::Name, None).await, ["dead"]);
    // Not even where another mount would make the listing more than empty.
    let e = fs.list(&p("/dead"), &ListOptions::default()).await.err().unwrap();
    assert_eq!((e.kind(), e.path()), (ErrorKind::Disconnected, Some(&p("/dead"))));
    let e = fs.open(&p("/dead/f"), &OpenOptions::create()).await.err().unwrap();
    assert_eq!((e.kind(), e.path()), (ErrorKind::Disconnected, Some(&p("/dead/f"))));
    fs.write_all(&p("/dead/in/f"), "x".into()).await.unwrap();
}
