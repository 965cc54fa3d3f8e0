//! What scripts can call: the table of members and the objects agree, grants are asked for, values and digests.

use super::*;

#[tokio::test]
async fn a_script_of_the_established_form_runs_unchanged() {
    let source = r#"
    {
      var sid = Session.GetID();
      var uid = Session.GetUser().GetID();
      Log("Session ID: " + sid);
      Log("User ID...: " + uid);
      Session.AddCustomData(sid);
      Session.AddCustomData(uid);
      Session.AddCustomData(Session.GetUser().Username);
    }
    "#;
    let found = found(source).await;
    assert_eq!(found[0].len(), 32);
    assert_eq!(found[1..], ["alice", "alice"]);
}

#[tokio::test]
async fn every_member_of_the_session_answers() {
    let members = [
        ("GetProtocol()", "SFTP"),
        ("GetVirtualSite()", "main"),
        ("GetRemoteAddress()", "192.0.2.7"),
        ("GetRemotePort()", "4321"),
        ("GetClientVersion()", "SSH-2.0-Test"),
        ("GetUserID()", "alice"),
        ("GetCustomData(99)", ""),
        ("GetAllCustomData().length", "0"),
        ("GetLastCommand()", ""),
        ("GetLastCommandTime()", "null"),
        ("GetLastError()", ""),
        ("GetLastErrorTime()", "null"),
        ("GetAbsPath()", ""),
        ("GetRelPath()", ""),
        ("GetAbsTargetPath()", ""),
        ("GetRelTargetPath()", ""),
        ("GetBytesReceived()", "0"),
        ("GetBytesSent()", "0"),
        ("GetStartTime() instanceof Date", "true"),
        ("GetLastActivity() >= Session.GetStartTime()", "true"),
        ("GetUser().GetHome()", "/"),
        ("GetUser().GetGroups().length", "0"),
        ("GetUser().GetAuthMethods()[0]", "password"),
        ("GetUser().IsAnonymous()", "false"),
        ("GetUser().GetCustom('none')", ""),
        ("GetUser().GetPermissions('/')", "null"),
        ("GetUser().GetQuota()", "null"),
    ];
    for (member, expected) in members {
        let found = found(&format!("Session.AddCustomData(String(Session.{member}));")).await;
        assert_eq!(found, [expected], "{member}");
    }
    assert_eq!(
        found("Session.AddCustomData(CtxRelPath() + CtxRelTargetPath() + ExtractExt('/a.d/b.txt'))").await,
        [".txt"]
    );
}

#[tokio::test]
async fn session_is_null_before_there_is_one_and_user_before_login() {
    let source = "if (Session !== null) throw new Error('not null');";
    let hooks = Hooks::new(Engine::new(limits()), vec![binding("OnNewConnection", source)]).unwrap();
    let chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
    let (peer, local) = (([192, 0, 2, 7], 1).into(), ([192, 0, 2, 1], 22).into());
    assert!(matches!(chain.decide(None, Lifecycle::Connect { peer, local }).await, Verdict::Pass));

    let source = "if (Session.GetUser() !== null || Session.GetUserID() !== '') throw new Error('somebody');";
    let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
    assert!(matches!(password(&session, "alice").await, Verdict::Pass));
}

/// Objects and table agree, both ways: what is in the table is there, and what is there is in the table.
#[tokio::test]
async fn every_member_of_the_table_is_there_and_no_other() {
    let objects = [
        Kind::Session,
        Kind::Sessions,
        Kind::User,
        Kind::Global,
        Kind::Vfs,
        Kind::Remote,
        Kind::RemoteOptions,
        Kind::Pgp,
        Kind::PgpResponse,
        Kind::Store,
        Kind::Console,
    ];
    for kind in objects {
        let object = match kind {
            Kind::Session => "Session",
            Kind::Sessions => "Sessions",
            Kind::User => "Session.GetUser()",
            Kind::Global => "globalThis",
            Kind::Vfs => "GetCurrentVFS()",
            Kind::Remote => {
                "Object.assign(new SftpClient(), new FtpsClient(), new S3Client(), new WebDavClient())"
            }
            Kind::RemoteOptions => "new SftpClient().Options",
            Kind::Pgp => "PGP",
            // An answer, whatever it says: there is no such VFS any more.
            Kind::PgpResponse => {
                "(() => { const c = new SftpClient(); return PGP.EncryptFile({ vfs: c.GetVFS(), path: '/' }, '/x', {}); })()"
            }
            Kind::Store => "Store",
            _ => "console",
        };
        let source = format!(
            "const o = {object};\n\
             Session.AddCustomData(Object.getOwnPropertyNames(o).map(n => n + ':' + typeof o[n]).join());"
        );
        let hooks = hooks_of(vec![granted("BeforeDirCreate", &source, Grant::ALL)]);
        let (session, fs) = guarded(&hooks, Account::named("alice"));
        fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap();
        let there = session.custom_data().pop().unwrap();
        let there: Vec<(&str, &str)> = there.split(',').map(|m| m.split_once(':').unwrap()).collect();
        for m in members().filter(|m| m.of == kind) {
            let (_, what) = there.iter().find(|t| t.0 == m.name).unwrap_or_else(|| panic!("no {}", m.name));
            let is_called = m.signature.starts_with('(') || m.signature.starts_with("new ");
            assert_eq!(*what == "function", is_called, "{}", m.name);
        }
        if kind != Kind::Global {
            for (name, _) in there {
                assert!(members().any(|m| m.of == kind && m.name == name), "{name} is not in the table");
            }
        }
    }
}

#[tokio::test]
async fn tags_are_kept_within_bounds_and_shown() {
    let source = "Session.SetTag('partner', 'acme'); Session.SetTag('gone', 'x'); Session.SetTag('gone', '');
      Session.SetTag('line', 'a\\nb'); const told = [Session.GetTag('partner'), Session.GetTag('gone')];
      const refused = f => { try { f(); } catch (e) { told.push(e.message); } };
      refused(() => Session.SetTag('', 'x')); refused(() => Session.SetTag('n'.repeat(65), 'x'));
      refused(() => Session.SetTag('n', 'x'.repeat(257)));
      for (let n = 0; n < 30; n++) Session.SetTag('t' + n, 'x');
      refused(() => Session.SetTag('more', 'x')); Session.SetTag('partner', 'other');
      Session.AddCustomData(JSON.stringify(told));";
    let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
    password(&session, "alice").await;
    let told: Vec<String> = serde_json::from_str(&session.custom_data()[0]).unwrap();
    assert_eq!(told[..2], ["acme", ""]);
    for (words, part) in told[2..].iter().zip(["has a name", "64 bytes", "64 bytes", "at most 32"]) {
        assert!(words.contains(part), "{words}");
    }
    assert_eq!(told.len(), 6);
    let tags = session.snapshot().tags;
    assert_eq!(tags.len(), 32);
    assert_eq!((tags["partner"].as_str(), tags.contains_key("gone")), ("other", false));
    assert!(!tags["line"].contains('\n'), "{tags:?}");
}

#[tokio::test]
async fn our_members_of_the_session_answer() {
    let source = "Session.AddCustomData(JSON.stringify([CtxEvent(), Session.GetTLS(), Session.GetCipher(), \
        Session.GetCurrentCommand(), Session.GetPreviousCommand(), Session.GetCommandStartTime() !== null, \
        Session.GetRequestedUser(), CtxRemoteAddress()]));";
    let (session, _h) = session_with(vec![binding("OnAuthPassword", source)]);
    session.set_tls("TLSv1.3 AES_256_GCM_SHA384");
    drop(session.begin_command("PWD", Argument::None));
    let _running = session.begin_command("CWD", Argument::Path(p("/d")));
    session.ask_for("alice");
    password(&session, "alice").await;
    assert_eq!(
        session.custom_data(),
        [r#"["OnAuthPassword","TLSv1.3","AES_256_GCM_SHA384","CWD /d","PWD",true,"alice","192.0.2.7"]"#]
    );
}

#[tokio::test]
async fn what_needs_a_grant_names_it() {
    for (call, grant) in [
        ("GetCurrentVFS()", Grant::Files),
        ("GetSecret('x')", Grant::Secrets),
        ("Store.Get('x')", Grant::Store),
        ("Store.Set('x', '')", Grant::Store),
        ("Exec('x')", Grant::Exec),
        ("await fetch('http://x/')", Grant::Http),
        ("Session.SetSpeedLimit(1)", Grant::Speed),
        ("new VirtualFS(VfsTypeDisk, '/x')", Grant::Local),
        ("new VirtualFS(VfsTypeMemory)", Grant::Files),
        ("new VirtualFS(VfsTypeSFTP, 'sftp://a@b/')", Grant::Remotes),
        ("GetCurrentVFS().ImportFile('/x/y', '/y')", Grant::Local),
        ("const c = new SftpClient(); c.Host = 'b'; c.Connect()", Grant::Remotes),
        ("const c = new S3Client(); c.Bucket = 'b'; c.Connect()", Grant::Remotes),
        ("SendMail('', 'a@b', '', '')", Grant::Mail),
        ("SqlQuery('a', 'b')", Grant::Sql),
        ("PGP.SignText('a', { key: 'b' })", Grant::Pgp),
    ] {
        let others: Vec<_> = Grant::ALL.iter().copied().filter(|g| *g != grant).collect();
        let source = format!("try {{ {call} }} catch (e) {{ Session.BlockOperation(e.message) }}");
        let hooks = hooks_of(vec![granted("BeforeDirCreate", &source, &others)]);
        let (_session, fs) = guarded(&hooks, Account::named("alice"));
        let e = fs.create_dir(&p("/d"), &Attributes::none()).await.unwrap_err();
        assert!(e.peer_words().contains(&format!("needs grant = [\"{}\"]", grant.name())), "{call}: {e}");
    }
}

#[tokio::test]
async fn what_has_no_effect_in_an_event_throws() {
    for call in [
        "Session.RedirectTo('/x')",
        "Session.RemoveFromListDir('x')",
        "Session.AddQuestion(0, 'a', 'b', true)",
        "RefuseConnection()",
        "SetSoftwareID('x')",
    ] {
        let source = format!("try {{ {call} }} catch (e) {{ Session.AddCustomData(e.message) }}");
        let (session, _h) = session_with(vec![binding("OnAuthPassword", &source)]);
        password(&session, "a").await;
        assert!(session.custom_data()[0].contains("has no effect in OnAuthPassword"), "{call}");
    }
}

#[tokio::test]
async fn values_are_shared_by_sessions_and_secrets_stay_out_of_words() {
    let values = Arc::<Values>::default();
    let secrets = Secrets::new([("key".to_string(), Secret::new("hunter2"))].into());
    let services = Services { secrets, values, ..Services::default() };
    let source = "const n = Store.Increment('n', 2, 60); Session.AddCustomData(n + GetSecret('key'));\
        if (n > 3) throw new Error('with ' + GetSecret('key'));";
    let engine = Engine::new(limits());
    let grants = [Grant::Store, Grant::Secrets];
    let hooks =
        Hooks::with(Arc::clone(&engine), services.clone(), vec![granted("BeforeDirCreate", source, &grants)])
            .unwrap();
    for (n, passes) in [(2, true), (4, false)] {
        let (session, fs) = guarded(&hooks, Account::named("alice"));
        assert_eq!(fs.create_dir(&p("/d"), &Attributes::none()).await.is_ok(), passes);
        assert_eq!(session.custom_data(), [format!("{n}hunter2")]);
    }
    let source = "Log('the key is', GetSecret('key')); throw new Error(GetSecret('key') + '!')";
    let trial = Trial::new(engine, services, granted("BeforeDirCreate", source, &grants)).unwrap();
    let told = trial.run(Try::default()).await;
    assert_eq!(told.lines, ["the key is •••"]);
    let error = told.error.unwrap();
    assert!(error.contains("•••!") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn digests_and_encodings() {
    let source = "Session.AddCustomData(JSON.stringify([Hash('sha256', 'abc'), Hash('md5', new Uint8Array([97, 98, 99])),
        Base64Encode('äb'), BytesToText(Base64Decode('w6Ri')), Hmac('sha1', HexDecode('0b'.repeat(20)), 'Hi There'),
        HexEncode(TextToBytes('ä')), HexEncode(Base64Decode(Base64Encode(new Uint8Array([0, 255, 128]))))]))";
    assert_eq!(
        found(source).await,
        [
            r#"["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","900150983cd24fb0d6963f7d28e17f72","w6Ri","äb","b617318655057264e28bc0b6fb378c8ef146be00","c3a4","00ff80"]"#
        ]
    );
}
