//! Handlers and the user's files: where uploads go, how fast, what is read and written.

use super::*;

#[tokio::test]
async fn an_upload_goes_elsewhere_if_the_user_may() {
    let source = "if (CtxRelPath() !== '/kept') Session.RedirectTo(CtxRelPath().replace('/in/', '/out/'));";
    let hooks = hooks_of(vec![
        binding("BeforeFileUpload", source),
        binding("BeforeFileRename", "Session.RedirectTo('/renamed')"),
    ]);
    let rules = |text: &str| {
        Permissions::new(vec![
            Rule { path: VPath::root(), allow: PermissionSet::full() },
            Rule { path: p(text), allow: PermissionSet::of(&[Permission::List]) },
        ])
    };
    for (closed, lands) in [("/nowhere", true), ("/out", false)] {
        let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
        for dir in ["/in", "/out"] {
            store.create_dir(&p(dir), &Attributes::none()).await.unwrap();
        }
        let policies: Vec<Arc<dyn Interceptor>> = vec![Arc::new(rules(closed))];
        let (_session, fs) = over(&hooks, Account::named("alice"), store, policies);
        assert_eq!(write(&fs, "/in/f", "x").await.is_ok(), lands, "{closed}");
        assert_eq!(fs.exists(&p("/out/f")).await.unwrap(), lands);
        // The client may look at what it uploaded, and at no more.
        assert_eq!(fs.stat(&p("/in/f"), Follow::Yes).await.is_ok(), lands);
        assert!(fs.open(&p("/in/f"), &OpenOptions::read()).await.is_err());
        assert!(fs.remove_file(&p("/in/f")).await.is_err());
        if lands {
            fs.rename(&p("/out/f"), &p("/g"), Replace::No).await.unwrap();
            assert_eq!(read(&fs, "/renamed").await, "x");
        }
    }
}

#[tokio::test]
async fn a_limit_of_speed_holds_from_then_on() {
    let source = "Session.SetSpeedLimit(CtxRelPath() === '/slow' ? 10000 : 0)";
    let hooks = hooks_of(vec![granted("BeforeFileUpload", source, &[Grant::Speed])]);
    let (_session, fs) = guarded(&hooks, Account::named("alice"));
    let begun = Instant::now();
    let file = fs.open(&p("/slow"), &OpenOptions::create()).await.unwrap();
    for n in 0..3 {
        file.write_at(n * 2500, vec![0; 2500].into()).await.unwrap();
    }
    // The burst is a quarter of a second, and so is each chunk.
    assert!(begun.elapsed() >= Duration::from_millis(240), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handler_works_on_the_users_files_with_the_users_permissions() {
    let source = "
      const vfs = GetCurrentVFS(), told = [];
      const tell = (what, r, more) => told.push([what, r.Ok(), r.ErrorMsg() !== '', more]);
      tell('mkdir', vfs.MkdirAll('/a/b'));
      tell('write', vfs.WriteFileAsText('/a/f', 'content'));
      tell('append', vfs.WriteFileAsText('/a/f', '!', 0, FromEnd));
      let r = vfs.ReadFileAsText('/a/f'); tell('read', r, r.Data());
      r = vfs.ReadFileAsText('/a/f', 3, 1); tell('part', r, r.Data());
      r = vfs.ReadFileAsBytes('/a/f', 2, 0, FromEnd); tell('end', r, HexEncode(r.Data()));
      tell('hex', vfs.WriteFileAsHex('/a/g', '00ff'));
      r = vfs.ReadFileAsHex('/a/g'); tell('hex', r, r.Data());
      r = vfs.Stat('/a/g'); tell('stat', r, [r.Info().Name, r.Info().Size, r.Info().IsDir]);
      r = vfs.Stat('/none'); tell('none', r, r.Info());
      tell('rename', vfs.Rename('/a/g', '/a/b/h'));
      r = vfs.ReadDir('/a', SortByNameDirsFirst, SortDesc); tell('dir', r, r.Infos().map(i => i.Name));
      r = vfs.TreeSize('/a'); tell('size', r, r.Size());
      tell('chmod', vfs.Chmod('/a/f', 0o600));
      tell('times', vfs.Chtimes('/a/f', new Date(0), 86400000));
      r = vfs.Stat('/a/f'); tell('stat', r, [r.Info().Mode, r.Info().TimeStamp.getTime()]);
      tell('truncate', vfs.Truncate('/a/f', 2));
      tell('remove', vfs.Remove('/a/f'));
      tell('rmdir', vfs.Rmdir('/a'));
      tell('all', vfs.RemoveAll('/a'));
      tell('closed', vfs.WriteFileAsText('/closed/f', ''));
      Session.AddCustomData(JSON.stringify(told));
    ";
    let hooks = hooks_of(vec![
        granted("BeforeDirCreate", source, &[Grant::Files]),
        binding("BeforeFileUpload", "Session.AddCustomData('fired')"),
    ]);
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
    store.create_dir(&p("/closed"), &Attributes::none()).await.unwrap();
    let rules = Permissions::new(vec![
        Rule { path: VPath::root(), allow: PermissionSet::full() },
        Rule { path: p("/closed"), allow: PermissionSet::of(&[Permission::List]) },
    ]);
    let (session, fs) = over(&hooks, Account::named("alice"), store, vec![Arc::new(rules)]);
    fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
    let expected = r#"[["mkdir",true,false,null],["write",true,false,null],["append",true,false,null],["read",true,false,"content!"],["part",true,false,"ont"],["end",true,false,"7421"],["hex",true,false,null],["hex",true,false,"00ff"],["stat",true,false,["g",2,false]],["none",false,true,null],["rename",true,false,null],["dir",true,false,["f","b"]],["size",true,false,10],["chmod",true,false,null],["times",true,false,null],["stat",true,false,[384,86400000]],["truncate",true,false,null],["remove",true,false,null],["rmdir",false,true,null],["all",true,false,null],["closed",false,true,null]]"#;
    assert_eq!(session.custom_data(), [expected]);
    // What the handler moved is not what the client moved.
    assert_eq!(session.stats().uploaded.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_path_without_a_text_goes_through_a_handler_unharmed() {
    let source = "const vfs = GetCurrentVFS(); const r = vfs.ReadDir('/'); const name = r.Infos()[0].Name; \
        vfs.WriteFileAsText('/' + name, name === CtxRelPath().slice(1) ? 'same' : 'other');";
    let hooks = hooks_of(vec![granted("BeforeFileDownload", source, &[Grant::Files])]);
    let (_session, fs) = guarded(&hooks, Account::named("alice"));
    let path = VPath::absolute(b"/a\xff\xfe").unwrap();
    fs.write_all(&path, Bytes::from_static(b"x")).await.unwrap();
    drop(fs.open(&path, &OpenOptions::read()).await.unwrap());
    assert_eq!(fs.read_to_vec(&path, 100).await.unwrap(), b"same");
}

/// A client that works on while a handler runs changes nothing of what the handler sees, and
/// nothing happens before it has spoken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_sees_its_own_event_whatever_the_client_does_meanwhile() {
    let slow = "const before = CtxRelPath(); Sleep(400);
      Session.AddCustomData(`${CtxEvent()} ${before} ${CtxRelPath()} ${Session.GetRelPath()}`);";
    let quick = "Session.AddCustomData(`${CtxEvent()} ${CtxRelPath()}`);";
    let hooks = hooks_of(vec![binding("BeforeFileUpload", slow), binding("BeforeDirCreate", quick)]);
    let store: Arc<dyn Filesystem> = Arc::new(MemoryStore::new());
    let (session, fs) = over(&hooks, Account::named("alice"), Arc::clone(&store), vec![]);
    let upload = async { fs.write_all(&p("/first"), Bytes::from_static(b"x")).await.unwrap() };
    let meanwhile = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(session.custom_data().is_empty(), "the handler sleeps");
        assert!(!store.exists(&p("/first")).await.unwrap(), "nothing is there before the handler has spoken");
        fs.create_dir(&p("/second"), &Attributes::none()).await.unwrap();
    };
    tokio::join!(upload, meanwhile);
    let mut told = session.custom_data();
    told.sort();
    assert_eq!(told, ["BeforeDirCreate /second", "BeforeFileUpload /first /first /first"]);
    assert!(store.exists(&p("/first")).await.unwrap());
}
