//! Places that handlers open besides their user's files, and clients of other servers, over a made-up host.

#![cfg(feature = "script")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use session_core::auth::{Account, Secret};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::*;
use session_core::fs_ext::FilesystemExt as _;
use session_core::intercept::Chain;
use session_core::layers::rooted::Rooted;
use session_core::path::VPath;
use session_core::script::*;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::memory::MemoryStore;

fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// A machine with a disk, and servers by URL.
#[derive(Default)]
struct World {
    disk: MemoryStore,
    servers: BTreeMap<String, MemoryStore>,
    asked: Mutex<Vec<Value>>,
    open: Arc<AtomicUsize>,
}

struct Line(Arc<AtomicUsize>);

impl Drop for Line {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Host for World {
    async fn call(&self, _: HostFunction, arguments: Value, input: Option<Arc<dyn File>>) -> Result<Value> {
        let content = match input {
            Some(file) => Some(file.read_into(0, 100, bytes::BytesMut::new()).await?.to_vec()),
            None => None,
        };
        self.asked.lock().unwrap().push(json!([arguments, content.map(|c| String::from_utf8(c).unwrap())]));
        Ok(json!({ "Columns": ["n", "b"], "Rows": [[1, { "bytes": "AP8=" }]], "Affected": 0 }))
    }

    /// What is asked stands before the content; what is bad fails in the middle.
    async fn pgp(&self, task: &PgpTask, mut from: Inflow, to: &mut Outflow) -> Result<Vec<Fingerprint>> {
        let mut asked = serde_json::to_value(task).unwrap();
        if let PgpTask::Verify { signature, .. } = task {
            asked["signature"] = String::from_utf8_lossy(signature).into();
            from.next().await?;
        } else {
            to.take(Bytes::from(format!("[{}] ", asked["what"].as_str().unwrap()))).await?;
        }
        loop {
            let piece = from.next().await?;
            if piece.is_empty() {
                break;
            }
            let is_bad = piece.windows(3).any(|w| w == b"bad");
            to.take(piece).await?;
            if is_bad {
                return Err(Error::refused("it is bad"));
            }
        }
        let signers = asked["signers"].as_array().into_iter().flatten();
        let signers = signers.map(|s| Fingerprint::parse(s.as_str().unwrap())).collect();
        self.asked.lock().unwrap().push(asked);
        signers
    }

    async fn open(&self, request: &Value) -> Result<Opened> {
        let fs: Arc<dyn Filesystem> = match request["kind"].as_str().unwrap() {
            "disk" => {
                let folder = request["folder"].as_str().unwrap();
                if !folder.starts_with("/srv") {
                    return Err(Error::refused("this folder is not for handlers"));
                }
                Arc::new(Rooted::new(Arc::new(self.disk.clone()), p(folder)))
            }
            "memory" => Arc::new(MemoryStore::new()),
            _ => {
                self.asked.lock().unwrap().push(request.clone());
                let url = request["url"].as_str().unwrap();
                let there = self.servers.get(url).ok_or(ErrorKind::Disconnected)?;
                Arc::new(there.clone())
            }
        };
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(Opened { fs, base: VPath::root(), held: Box::new(Line(Arc::clone(&self.open))) })
    }
}

async fn put(store: &MemoryStore, path: &str, text: &str) {
    if let Some(parent) = p(path).parent() {
        store.create_dir_all(&parent).await.unwrap();
    }
    store.write_all(&p(path), Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
}

async fn get(store: &MemoryStore, path: &str) -> Option<String> {
    let read = store.read_to_vec(&p(path), 1 << 20).await.ok()?;
    Some(String::from_utf8(read).unwrap())
}

/// Runs a script of `alice` with everything granted; what it told, and her files.
async fn run(world: &Arc<World>, source: &str) -> (Told, MemoryStore) {
    run_with(world, source, Grant::ALL).await
}

async fn run_with(world: &Arc<World>, source: &str, grants: &[Grant]) -> (Told, MemoryStore) {
    run_in(Services { host: Some(Arc::clone(world) as _), ..Services::default() }, source, grants).await
}

async fn run_in(services: Services, source: &str, grants: &[Grant]) -> (Told, MemoryStore) {
    let mut binding = Binding::new("AfterFileUpload", "hook.js", source);
    binding.grants = Grants::of(grants);
    let trial = Trial::new(Engine::new(EngineLimits::default()), services, binding).unwrap();
    let session = Session::new(Setup::new(Protocol::Sftp, "main"));
    session.log_in(Account::named("alice"), vec!["password"]).unwrap();
    let store = MemoryStore::new();
    put(&store, "/in/a.csv", "one").await;
    put(&store, "/in/b.txt", "two").await;
    session.lend_files(Arc::new(store.clone()), Chain::new(Vec::new()));
    let path = Some(p("/in/a.csv"));
    let told = trial.run(Try { session: Some(session), path, ..Try::default() }).await;
    (told, store)
}

fn good(told: &Told) -> &[String] {
    assert_eq!(told.error, None, "{told:?}");
    &told.lines
}

#[tokio::test]
async fn places_are_filesystems_and_files_go_between_them() {
    let world = Arc::new(World::default());
    put(&world.disk, "/srv/in/there.csv", "there").await;
    let source = "
      const user = GetCurrentVFS(), disk = new VirtualFS(VfsTypeDisk, '/srv/in'), memory = new VirtualFS(VfsTypeMemory);
      const tell = (...all) => Log(...all.map(r => typeof r === 'object' ? r.Ok() + ':' + r.ErrorMsg() : r));
      tell(disk.ReadFileAsText('/there.csv').Data(), disk.ReadFileAsText('there.csv').Data());
      tell(user.CopyToVFS('/in/a.csv', disk, '/copied.csv'), user.CopyToVFS('in/a.csv', disk), user.MoveToVFS('/in/b.txt', memory, '/m'));
      tell(memory.ReadFileAsText('/m').Data(), user.Stat('/in/b.txt').Ok());
      tell(memory.MoveToVFS('/m', user, '/back'), user.ImportFile('/srv/in/there.csv', '/imported'), user.ExportFile('/back', '/srv/out'));
      tell(new VirtualFS(VfsTypeDisk, '/etc').Stat('/passwd'));
      tell(user.ExportFile('/back', '/etc/cron.d/x'));
      try { user.CopyToVFS('/back', {}) } catch (e) { Log(e.message) }
      try { new VirtualFS('R2FS', 'x') } catch (e) { Log(e.message) }
    ";
    put(&world.disk, "/srv/in/in/x", "").await;
    let (told, store) = run(&world, source).await;
    assert_eq!(
        good(&told),
        [
            "there there",
            "true: true: true:",
            "two false",
            "true: true: true:",
            "false:this folder is not for handlers",
            "false:this folder is not for handlers",
            "the target must be a VFS",
            "a VFS of type 'R2FS' cannot be opened here",
        ]
    );
    assert_eq!(get(&world.disk, "/srv/in/copied.csv").await.unwrap(), "one");
    assert_eq!(get(&world.disk, "/srv/in/in/a.csv").await.unwrap(), "one");
    assert_eq!(get(&world.disk, "/srv/out").await.unwrap(), "two");
    assert_eq!(get(&store, "/imported").await.unwrap(), "there");
    assert_eq!(get(&store, "/in/b.txt").await, None);
    assert_eq!(world.open.load(Ordering::SeqCst), 0, "what it opened is closed with it");
}

#[tokio::test]
async fn a_client_of_the_established_form_runs_unchanged() {
    let mut world = World::default();
    world.servers.insert("sftp://sftp.example.com:22/".into(), MemoryStore::new());
    let far = world.servers["sftp://sftp.example.com:22/"].clone();
    for (path, text) in [("/srv/outbox/a.csv", "1"), ("/srv/outbox/b.csv", "2"), ("/srv/outbox/c.txt", "3")] {
        put(&world.disk, path, text).await;
    }
    put(&world.disk, "/srv/outbox/deep/d.csv", "4").await;
    put(&world.disk, "/srv/keys/id", "the key").await;
    put(&far, "/remote/inbox/a.csv", "old").await;
    let world = Arc::new(world);
    let source = "
      var cli = new SftpClient();
      cli.Host = 'sftp.example.com:22';
      cli.User = 'alice';
      cli.KeyFile = '/srv/keys/id';
      cli.HostKeySHA256 = 'SHA256:AAAA';
      if (cli.Connect()) {
        cli.Upload('/srv/outbox/*.csv', '/remote/inbox');
        Log(cli.ListDir('/remote/inbox', LIST_FILES).map(f => f.Name + f.Size).join());
        cli.Options.UploadPolicy = AlwaysOverwrite;
        cli.Options.UploadWithTempName = true;
        Log(cli.UploadR('/srv/outbox/*', '/remote/inbox'), cli.ListFilesR('/remote', '*.csv').map(f => f.Name).join());
        Log(cli.Upload('/srv/outbox/none', '/remote'), cli.LastError !== '', cli.Upload('/srv/outbox/c.txt', '/nowhere'));
        cli.Options.DeleteSourceAfterDownload = true;
        Log(cli.MakeDir('/x/y'), cli.RenDir('/x/y', '/x/z'), cli.DelTree('/x'), cli.DelFile('/remote/inbox/b.csv'));
        Log(cli.Download('/remote/inbox/c.txt', '/srv'), cli.GetVFS().Stat('/remote/inbox/c.txt').Ok());
        Log(cli.Close(), cli.Close(), cli.MakeDir('/z'));
      }
    ";
    let (told, _) = run(&world, source).await;
    let lines: Vec<_> = good(&told).iter().filter(|l| !l.starts_with("sftp.example.com:22: ")).collect();
    assert_eq!(
        lines,
        [
            "a.csv3,b.csv1",
            "true inbox/a.csv,inbox/b.csv,inbox/deep/d.csv",
            "false true false",
            "true true true true",
            "true false",
            "true false false",
        ]
    );
    assert!(told.lines.iter().any(|l| l.starts_with("sftp.example.com:22: /none: ")), "{:?}", told.lines);
    assert_eq!(get(&far, "/remote/inbox/a.csv").await.unwrap(), "1", "replaced, where that is asked for");
    assert_eq!(get(&world.disk, "/srv/c.txt").await.unwrap(), "3");
    let asked = world.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [json!({
            "kind": "remote", "url": "sftp://sftp.example.com:22/", "rooted": false, "user": "alice", "pass": "",
            "key": "the key", "phrase": "", "token": "", "hostKeys": ["SHA256:AAAA"], "certificates": [],
            "region": "", "pathStyle": false,
        })]
    );
    assert_eq!(world.open.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_is_configured_by_a_url_and_json() {
    let mut world = World::default();
    world.servers.insert("sftp://bob@far/data".into(), MemoryStore::new());
    world.servers.insert("ftpes://far:2121/".into(), MemoryStore::new());
    let world = Arc::new(world);
    let source = r#"
      const url = 'sftp://bob@far/data?hostKeySHA256=SHA256%3AAB', secret = '{"pass":"x","private_key":"k"}';
      Log(new SftpClient().Configure(url, secret).Connect());
      Log(new VirtualFS(VfsTypeSFTP, url, secret).ReadDir('/').Ok());
      const ftp = new FtpsClient(); ftp.Host = 'far:2121'; ftp.CertSHA256 = 'aa';
      Log(ftp.Connect(), ftp.Connect());
      for (const bad of [
        () => new SftpClient().Configure(url, 'pass=hunter2'),
        () => new SftpClient().Configure('sftp://far/?colour=red'),
        () => { const c = new FtpsClient(); c.Host = 'far'; c.TLSInsecure = true; c.Connect() },
        () => { const c = new SftpClient(); c.Host = 'far'; c.HostKeySHA1 = 'SHA1:x'; c.Connect() },
        () => new SftpClient().Connect(),
        () => new VirtualFS(VfsTypeSFTP, 'ftp://far/'),
        () => { ftp.Options.OTFE = true; ftp.Upload('/srv/x', '/') },
      ]) { try { bad(); Log('passed') } catch (e) { Log(e.message) } }
      Log(new SftpClient().Configure('sftp://nobody/').Connect());
    "#;
    let (told, _) = run(&world, source).await;
    let lines: Vec<_> = good(&told).iter().filter(|l| !l.contains("Connect:")).map(String::as_str).collect();
    assert_eq!(lines[..4], ["true", "true", "true false", "the payload is no JSON"]);
    assert_eq!(lines[4], "'colour' is not known of a connection");
    assert!(lines[5].contains("CertSHA256") && lines[6].contains("HostKeySHA256"), "{lines:?}");
    assert_eq!(lines[7], "there is no Host");
    assert!(lines[8].contains("sftp://user@host/path"));
    assert_eq!(lines[9..], ["OTFE is not built", "false"]);
    let asked = world.asked.lock().unwrap().clone();
    assert_eq!(asked[0]["hostKeys"], json!(["SHA256:AB"]));
    assert_eq!((&asked[0]["pass"], &asked[0]["key"]), (&json!("x"), &json!("k")));
    assert_eq!((&asked[0]["rooted"], &asked[1]["rooted"]), (&json!(false), &json!(true)));
    assert_eq!((&asked[2]["url"], &asked[2]["certificates"]), (&json!("ftpes://far:2121/"), &json!(["aa"])));
}

#[tokio::test]
async fn a_client_of_a_bucket_runs_as_that_of_a_server() {
    let mut world = World::default();
    let urls = ["s3:///backup", "s3plain://store.example:80/a%20b", "s3://store.example:9000/", "s3://b/in"];
    for url in urls {
        world.servers.insert(url.into(), MemoryStore::new());
    }
    let bucket = world.servers["s3:///backup"].clone();
    put(&bucket, "/in/x", "").await;
    put(&world.disk, "/srv/outbox/a.csv", "1").await;
    let world = Arc::new(world);
    let source = r#"
      var cli = new S3Client();
      cli.Region = 'eu-central-1'; cli.Bucket = 'backup';
      cli.APIKeyID = 'AKIA'; cli.APIKeySecretFromSecret = 'aws';
      cli.UseMetadataWhenListing = true;
      if (cli.Connect()) {
        Log(cli.Upload('/srv/outbox/*.csv', '/in'), cli.ListFiles('/in', '*.csv').map(f => f.Name).join());
        cli.Close();
      }
      const clear = new S3Client();
      clear.Host = 'store.example'; clear.Bucket = 'a b'; clear.TLSMode = TLS_MODE_NONE; clear.PathStyle = true;
      const whole = new S3Client();
      whole.Host = 'store.example:9000'; whole.User = 'U'; whole.Pass = 'P'; whole.Token = 'T';
      Log(clear.Connect(), whole.Connect());
      const secret = '{"api_key_id":"K","api_key_secret":"S","token":"T"}';
      Log(new S3Client().Configure('s3://b/in?region=us-west-2&pathStyle=true', secret).Connect());
      Log(new VirtualFS(VfsTypeS3, 's3://b/in', secret).ReadDir('/').Ok());
      try { new VirtualFS(VfsTypeS3, 'https://b/in', secret) } catch (e) { Log(e.message.includes('s3://')) }
    "#;
    let secrets = Secrets::new([("aws".to_string(), Secret::new("hunter2"))].into());
    let services = Services { host: Some(Arc::clone(&world) as _), secrets, ..Services::default() };
    let (told, _) = run_in(services, source, Grant::ALL).await;
    assert_eq!(good(&told), ["true a.csv", "true true", "true", "true", "true"]);
    assert_eq!(get(&bucket, "/in/a.csv").await.unwrap(), "1");
    let asked = world.asked.lock().unwrap().clone();
    let told = |n: usize, keys: [&str; 6]| keys.map(|k| asked[n][k].clone());
    let keys = ["url", "user", "pass", "token", "region", "pathStyle"];
    let as_values = |all: [&str; 5], style: bool| -> [Value; 6] {
        let [a, b, c, d, e] = all.map(Value::from);
        [a, b, c, d, e, style.into()]
    };
    assert_eq!(told(0, keys), as_values([urls[0], "AKIA", "hunter2", "", "eu-central-1"], false));
    assert_eq!(told(1, keys), as_values([urls[1], "", "", "", ""], true));
    assert_eq!(told(2, keys), as_values([urls[2], "U", "P", "T", ""], false));
    assert_eq!(told(3, keys), as_values([urls[3], "K", "S", "T", "us-west-2"], true));
    assert!(asked.iter().all(|request| request["rooted"] == true), "a bucket is a root of its own");
    // The name of a secret needs the grant that its reading needs.
    let source = "const c = new S3Client(); c.APIKeyID = 'A'; c.APIKeySecretFromSecret = 'aws'; c.Connect()";
    let (told, _) = run_with(&world, source, &[Grant::Remotes]).await;
    assert!(told.error.unwrap().contains("grant = [\"secrets\"]"));
}

#[tokio::test]
async fn places_are_bounded_and_closed_however_a_handler_ends() {
    let world = Arc::new(World::default());
    let source = "
      let n = 0;
      for (;;) { const r = new VirtualFS(VfsTypeMemory).Stat('/'); if (!r.Ok()) { Log(n, r.ErrorMsg()); break; } n++; }
      throw new Error('done');
    ";
    let (told, _) = run(&world, source).await;
    assert_eq!(told.lines, ["16 a handler has at most 16 places open at a time"]);
    assert!(told.error.unwrap().contains("done"));
    assert_eq!(world.open.load(Ordering::SeqCst), 0);
    // A folder that is asked for again is the same place.
    put(&world.disk, "/srv/f", "x").await;
    let source = "for (let i = 0; i < 50; i++) GetCurrentVFS().ImportFile('/srv/f', '/f' + i); \
        Log(GetCurrentVFS().ReadDir('/').Infos().length)";
    let (told, _) = run(&world, source).await;
    assert_eq!(good(&told), ["51"]);
}

#[tokio::test]
async fn mail_and_databases_are_asked_of_the_host() {
    let world = Arc::new(World::default());
    let source = "
      SendMail('a@x', 'b@y', 'List of uploaded files', ['/a', '/b'].toString(), '');
      SendMail('', ['b@y', 'c@y'], 'With a file', 'text', '/in/a.csv');
      const r = SqlQuery('main', 'select ?', [1, 'x', null, true, new Uint8Array([0, 255]), new Date(0)]);
      Log(JSON.stringify(r.Columns), r.Rows[0].n, HexEncode(r.Rows[0].b), r.Affected);
      try { SqlQuery('main', 'x', [{}]) } catch (e) { Log(e.message) }
    ";
    let (told, _) = run(&world, source).await;
    assert_eq!(good(&told)[0], r#"["n","b"] 1 00ff 0"#);
    assert!(told.lines[1].starts_with("a parameter is"));
    let asked = world.asked.lock().unwrap().clone();
    let mail = |from: &str, to: Value, subject: &str, body: &str, attachment: &str| json!({ "from": from, "to": to, "subject": subject, "body": body, "attachment": attachment });
    assert_eq!(asked[0], json!([mail("a@x", json!(["b@y"]), "List of uploaded files", "/a,/b", ""), null]));
    assert_eq!(asked[1], json!([mail("", json!(["b@y", "c@y"]), "With a file", "text", "a.csv"), "one"]));
    let parameters = json!([1, "x", null, true, { "bytes": "AP8=" }, "1970-01-01T00:00:00.000Z"]);
    assert_eq!(asked[2][0], json!({ "connection": "main", "text": "select ?", "parameters": parameters }));
    // The file of a mail is the user's: it needs leave of its own.
    let (told, _) = run_with(&world, "SendMail('', 'b@y', '', '', '/in/a.csv')", &[Grant::Mail]).await;
    assert!(told.error.unwrap().contains("grant = [\"files\"]"));
}

const ADA: &str = "85ACE7DDC7DC43AD213E57299472AE6F0FE8AD12";

#[tokio::test]
async fn pgp_goes_from_place_to_place_and_what_fails_leaves_the_target_as_it_was() {
    let world = Arc::new(World::default());
    put(&world.disk, "/srv/bad", "old").await;
    let source = "
      const user = GetCurrentVFS(), disk = new VirtualFS(VfsTypeDisk, '/srv'), ada = 'ADA';
      const tell = r => Log(r.Ok() + ':' + r.ErrorMsg() + ':' + r.Data() + ':' + r.Signers().join());
      tell(PGP.EncryptFile('/in/a.csv', { vfs: disk, path: '/a.pgp' }, { recipients: [ada], sign: ada, armor: true }));
      tell(PGP.DecryptFile({ vfs: disk, path: '/a.pgp' }, '/in/b.txt', { signers: [ada.toLowerCase()] }));
      tell(PGP.SignFile('in/a.csv', '/in/a.sig', { key: ada }));
      tell(PGP.VerifyFile('/in/a.csv', '/in/a.sig', { signers: [ada] }));
      user.WriteFileAsText('/bad', 'bad');
      tell(PGP.EncryptFile('/bad', { vfs: disk, path: '/bad' }, { recipients: [ada] }));
      tell(PGP.EncryptFile('/bad', '/in/a.csv', { recipients: [ada] }));
      tell(PGP.EncryptFile('/none', '/in/a.csv', { recipients: [ada] }));
      tell(PGP.EncryptFile('/in', '/in/a.csv', { recipients: [ada] }));
      tell(PGP.DecryptText('text'));
      tell(PGP.VerifyText('text', 'signature', { signers: [ada] }));
      Log(user.ReadDir('/').Infos().concat(user.ReadDir('/in').Infos(), disk.ReadDir('/').Infos()).map(e => e.Name).join());
      for (const wrong of [
        () => PGP.EncryptFile('/in/a.csv', '/x', {}), () => PGP.EncryptFile('/in/a.csv', '/x', { recipients: ['ada@example.com'] }),
        () => PGP.VerifyText('a', 'b', { signers: [] }), () => PGP.SignText('a'), () => PGP.EncryptFile({ vfs: {}, path: '/x' }, '/y', {}),
      ]) try { wrong(); Log('taken') } catch (e) { Log(e.message) }
    "
    .replace("ADA", ADA);
    let (told, store) = run(&world, &source).await;
    let lines = good(&told);
    assert_eq!(lines[..4], ["true:::", &format!("true:::{ADA}"), "true:::", &format!("true:::{ADA}")]);
    assert_eq!(lines[4..6], ["false:it is bad::", "false:it is bad::"]);
    assert!(lines[6].starts_with("false:") && lines[7].starts_with("false:"), "{lines:?}");
    assert_eq!(lines[8..10], ["true::[decrypt] text:", &format!("true:::{ADA}")]);
    assert_eq!(lines[10], "bad,in,a.csv,a.sig,b.txt,a.pgp,bad");
    assert!(lines[11].contains("name recipients") && lines[12].contains("whole fingerprint"), "{lines:?}");
    assert!(lines[13].contains("name the signers") && lines[14].contains("key must be"), "{lines:?}");
    assert!(lines[15].contains("must be a VFS") && lines.len() == 16, "{lines:?}");
    assert_eq!(get(&world.disk, "/srv/a.pgp").await.unwrap(), "[encrypt] one");
    assert_eq!(get(&world.disk, "/srv/bad").await.unwrap(), "old");
    assert_eq!(get(&store, "/in/b.txt").await.unwrap(), "[decrypt] [encrypt] one");
    assert_eq!(get(&store, "/in/a.csv").await.unwrap(), "one");
    let asked = world.asked.lock().unwrap().clone();
    assert_eq!(asked[0], json!({ "what": "encrypt", "recipients": [ADA], "sign": ADA, "armor": true }));
    assert_eq!(asked[3]["signature"], "[sign] one");
    // The user's files are the user's: they need leave of their own.
    let (told, _) = run_with(&world, "PGP.SignFile('/in/a.csv', '/x', { key: 'x' })", &[Grant::Pgp]).await;
    assert!(told.error.is_some());
    let source = format!("PGP.SignFile('/in/a.csv', '/x', {{ key: '{ADA}' }})");
    let (told, _) = run_with(&world, &source, &[Grant::Pgp]).await;
    assert!(told.error.unwrap().contains("grant = [\"files\"]"));
}
