//! Handlers that reach further: other servers, folders of this machine, a database.

use std::path::Path;

use crate::support::*;

/// A server whose handler of uploads is this, with these lines in its configuration.
fn near(dir: &Path, source: &str, grants: &str, lines: &str) -> Server {
    std::fs::write(dir.join("h.js"), source).unwrap();
    let config = format!(
        "data = \".\"\n{}[[hooks]]\nevent = \"BeforeFileRename\"\nfile = \"h.js\"\ngrant = [{grants}]\ntime = \"15s\"\n{lines}",
        user("alice")
    );
    std::fs::write(dir.join("ferryd.toml"), config).unwrap();
    Server::at(dir)
}

/// Renames, which runs the handler; the words of its refusal.
async fn run(s: &Server) -> String {
    use session_core::fs::{Filesystem as _, Replace};
    let alice = s.login("alice").await;
    put(&alice, "/f", "content").await.unwrap();
    let done = alice.fs().rename(&path("/f"), &path("/g"), Replace::Yes).await;
    done.map_or_else(|e| format!("{e:#}"), |()| String::new())
}

#[tokio::test]
async fn a_handler_speaks_to_another_server_that_it_knows() {
    let far = Server::start(&user("gate"), &[]);
    let source = |key: &str| {
        format!(
            "const c = new SftpClient();
             c.Host = '127.0.0.1:{}'; c.User = 'gate'; c.Pass = '{PASSWORD}'; c.HostKeySHA256 = '{key}';
             if (!c.Connect()) {{ Session.BlockOperation(c.LastError); return; }}
             c.MakeDir('/in/deep');
             const r = GetCurrentVFS().CopyToVFS(CtxRelPath(), c.GetVFS(), '/in/deep/copy');
             const vfs = new VirtualFS(VfsTypeSFTP, 'sftp://gate@127.0.0.1:{}/in?hostKeySHA256=' + encodeURIComponent('{key}'), '{{\"pass\":\"{PASSWORD}\"}}');
             const disk = new VirtualFS(VfsTypeDisk, CtxRelPath().length ? '{{out}}' : '');
             const s = vfs.CopyToVFS('/deep/copy', disk, '/copied');
             const up = c.Upload('{{out}}/copied', '/in');
             if (!r.Ok() || !s.Ok() || !up) Session.BlockOperation([r.ErrorMsg(), s.ErrorMsg(), c.LastError].join());",
            far.port, far.port
        )
    };
    let grants = "\"remotes\", \"files\", \"local\"";
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let here = |key: &str| source(key).replace("{out}", out.to_str().unwrap());
    let networks = "[scripts]\nfolders = [\"out\"]\nnetworks = [\"127.0.0.0/8\"]\n";
    let good = here(&far.fingerprint);
    let s = near(dir.path(), &good, grants, networks);
    let words = run(&s).await;
    assert_eq!(words, "", "{}", s.log());
    drop(s);
    let there = far.home("gate").join("in");
    assert_eq!(std::fs::read_to_string(there.join("deep/copy")).unwrap(), "content");
    assert_eq!(std::fs::read_to_string(out.join("copied")).unwrap(), "content");
    assert_eq!(std::fs::read_to_string(there.join("copied")).unwrap(), "content");
    until("the handler's sessions are over", || far.sessions().is_empty()).await;
    // Where private networks are not allowed, where the key is another, and where nothing is granted.
    let words = run(&near(dir.path(), &good, grants, "[scripts]\nfolders = [\"out\"]\n")).await;
    assert!(words.contains("no connection may go"), "{words}");
    let other = here("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
    let words = run(&near(dir.path(), &other, grants, networks)).await;
    assert!(!words.is_empty() && !words.contains("rule of this server failed"), "{words}");
    let s = near(dir.path(), &good, "\"files\"", networks);
    assert!(run(&s).await.contains("a rule of this server failed"));
    s.logged(&[r#"grant = [\"remotes\"]"#]).await;
    assert!(far.sessions().is_empty());
}

#[tokio::test]
async fn a_handler_mirrors_into_a_bucket_of_a_server_that_it_knows() {
    let keys = "access_keys = [{ id = \"KEY\", secret = \"a secret that is long enough\" }]\n";
    let listeners = ["sftp", "s3", "s3s"].map(|p| format!("[[listeners]]\nprotocol = \"{p}\"\nport = 0\n"));
    let far = Server::configured(&(listeners.concat() + &user("gate") + keys), &[]);
    std::fs::create_dir_all(far.home("gate").join("bucket")).unwrap();
    let port = far.port_of("ferry", "s3s");
    let source = |certificate: &str| {
        format!(
            "const c = new S3Client();
             c.Host = '127.0.0.1:{port}'; c.Bucket = 'bucket'; c.APIKeyID = 'KEY';
             c.APIKeySecret = 'a secret that is long enough'; c.CertSHA256 = '{certificate}';
             if (!c.Connect()) {{ Session.BlockOperation(c.LastError); return; }}
             const made = c.MakeDir('/in/deep'), r = GetCurrentVFS().CopyToVFS(CtxRelPath(), c.GetVFS(), '/in/deep/copy');
             const payload = JSON.stringify({{ api_key_id: 'KEY', api_key_secret: c.APIKeySecret, certSHA256: '{certificate}' }});
             const vfs = new VirtualFS(VfsTypeS3, 's3://127.0.0.1:{port}/bucket/in', payload);
             const moved = vfs.Rename('/deep/copy', '/moved'), back = vfs.CopyToVFS('/moved', GetCurrentVFS(), '/back');
             const listed = c.ListFilesR('/', '*').map(f => f.Name).join(), up = c.DelDir('/in/deep');
             Session.BlockOperation([made, r.ErrorMsg(), moved.ErrorMsg(), back.ErrorMsg(), listed, up, c.LastError].join('|'));"
        )
    };
    let certificate = far.fingerprint_at(port);
    let networks = "[scripts]\nnetworks = [\"127.0.0.0/8\"]\n";
    let dir = tempfile::tempdir().unwrap();
    let s = near(dir.path(), &source(&certificate), "\"remotes\", \"files\"", networks);
    let words = run(&s).await;
    assert!(words.contains("true||||in/moved|true|"), "{words}\n{}", s.log());
    assert_eq!(std::fs::read_to_string(s.home("alice").join("back")).unwrap(), "content");
    drop(s);
    let there = far.home("gate").join("bucket/in");
    assert_eq!(std::fs::read_to_string(there.join("moved")).unwrap(), "content");
    // In the clear only where that is said; another certificate never.
    let clear = source("").replace("c.CertSHA256 = ''", "c.TLSMode = TLS_MODE_NONE");
    let clear = clear.replace(&port.to_string(), &far.port_of("ferry", "s3").to_string());
    let words = run(&near(dir.path(), &clear, "\"remotes\", \"files\"", networks)).await;
    assert!(words.contains("could be read on the way"), "{words}");
    let other = certificate.replace(|c: char| c.is_ascii_hexdigit(), "0");
    let words = run(&near(dir.path(), &source(&other), "\"remotes\", \"files\"", networks)).await;
    assert!(!words.is_empty() && !words.contains("true|"), "{words}");
}

#[tokio::test]
async fn a_handler_asks_a_database() {
    let dir = tempfile::tempdir().unwrap();
    // The handler that may write makes the table; a database that is not there is not made.
    std::fs::write(dir.path().join("main.db"), "").unwrap();
    let source = "
        SqlQuery('main', 'create table if not exists seen (name text, at text)');
        SqlQuery('main', 'insert into seen values (?, ?)', [Session.GetUserID(), new Date()]);
        const { Rows } = SqlQuery('look', 'select count(*) as n from seen where name = ?', [Session.GetUserID()]);
        let refused = '';
        try { SqlQuery('look', 'delete from seen') } catch (e) { refused = e.message }
        Session.BlockOperation(Rows[0].n + ' ' + refused);
    ";
    let lines = "[sql.main]\nfile = \"main.db\"\nwrite = true\n[sql.look]\nfile = \"main.db\"\n";
    let s = near(dir.path(), source, "\"sql\"", lines);
    for n in 1..3 {
        let words = run(&s).await;
        assert!(words.contains(&format!("{n} the database: ")) && words.contains("readonly"), "{words}");
    }
}
