//! What holds of a session whatever it speaks: it is in the one table, it is ended, what it sends is staged, and
//! handlers meet it. Each is run over every protocol by our client; what cannot hold somewhere is named, with why.
//!
//! Elsewhere: permissions (`permissions`), and the lists of events (`tests/events`).

use bytes::Bytes;
use client::connect::open_url;
use serde_json::{Value, json};
use session_core::batch::Unattended;
use session_core::error::ErrorKind;
use session_core::fs::*;
use session_core::session::{Actor, Ending};

use crate::support::*;

/// What is asked of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    /// Its client says what it is.
    NamesItself,
    /// An upload that was interrupted waits under its name for its owner.
    Parks,
    /// With its last connection a session is over, whatever was under way.
    EndsWithItsClient,
    /// Who goes on with an upload after the end of its session fails.
    EndsItsUploads,
    /// What is spoken is known when somebody logs in.
    KnownAtLogin,
}

/// What does not hold, and why.
const GAPS: &[(&[&str], Promise, &str)] = &[
    (&["s3plain", "s3"], Promise::NamesItself, "the version is the one of Amazon's library"),
    (
        &["s3plain", "s3"],
        Promise::Parks,
        "an upload in parts waits under an id of its own, and nobody sees it",
    ),
    (
        &["s3plain", "s3"],
        Promise::EndsWithItsClient,
        "an upload in parts may be gone on with over another connection",
    ),
    (
        &["s3plain", "s3"],
        Promise::EndsItsUploads,
        "an upload in parts goes on in another session, which a client begins by itself as soon as it may",
    ),
    (&["scp"], Promise::KnownAtLogin, "what a client of SSH wants is known by its first command"),
];

fn holds(way: Way, promise: Promise) -> bool {
    !GAPS.iter().any(|(ways, what, _)| *what == promise && ways.contains(&way.scheme))
}

/// An account for what goes over one way alone.
fn account_of(way: Way) -> String {
    format!("by-{}", way.scheme)
}

fn of<'a>(sessions: &'a [Value], user: &str) -> Vec<&'a Value> {
    sessions.iter().filter(|v| v["userName"] == user).collect()
}

async fn one_session(s: &Server, way: Way, user: &str) -> client::connect::Connected {
    // Its folder for files is there.
    way.on_disk(s, user, "/");
    let options = way.options(s, user, PASSWORD).channels(1);
    let opened = open_url(options, std::sync::Arc::new(Unattended)).await;
    opened.unwrap_or_else(|e| panic!("{user} over {}: {e:#}\n{}", way.scheme, s.log()))
}

fn arrived(s: &Server, user: &str, least: usize) -> bool {
    of(&s.sessions(), user).iter().any(|v| v["bytesReceived"].as_u64().is_some_and(|n| n >= least as u64))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_all_protocols_are_in_one_table() {
    let users: String = WAYS.map(|way| user_everywhere(&account_of(way))).concat();
    let s = Server::configured(&format!("{EVERYWHERE}{users}"), &[]);
    let mut open = Vec::new();
    for way in WAYS {
        let c = one_session(&s, way, &account_of(way)).await;
        put(&c, &way.text("/f"), "12345").await.unwrap();
        assert_eq!(get(&c, &way.text("/f")).await.unwrap(), "12345");
        assert_eq!(get(&c, &way.text("/missing")).await.unwrap_err().kind(), ErrorKind::NotFound);
        open.push(c);
    }
    let all = s.sessions();
    assert_eq!(all.len(), WAYS.len(), "{all:#?}");
    let mut wrong = Vec::new();
    for way in WAYS {
        let user = account_of(way);
        let [it] = of(&all, &user)[..] else { panic!("{user}: {all:#?}") };
        let due = json!({
            "account": user, "bytesReceived": 5, "bytesSent": 5, "clientIp": "127.0.0.1", "inFlight": 0,
            "protocol": way.name, "requestedUser": user, "serverPort": s.port_of("ferry", way.listener),
            "site": "ferry", "state": "ready", "userName": user,
        });
        for (name, due) in due.as_object().unwrap() {
            if it[name] != *due {
                wrong.push(format!("{}: {name} is {} and not {due}", way.scheme, it[name]));
            }
        }
        let text = |name: &str| it[name].as_str().unwrap();
        let id = text("sessionId");
        let shown = s.ask(&["sessions", "show", id]).1;
        let listed = s.ask(&["sessions", "--protocol", way.name, "--json"]).1;
        let alike = WAYS.iter().filter(|other| other.name == way.name).count();
        for (what, holds) in [
            ("cipher", text("cipher").is_empty() == way.clear),
            ("clientVersion", text("clientVersion").contains("Ferry") == holds(way, Promise::NamesItself)),
            ("previousCommand", !text("previousCommand").is_empty()),
            ("lastError", !text("lastError").is_empty() && it["errors"].as_u64().unwrap() > 0),
            ("authMethods", it["authMethods"].as_array().unwrap().len() == 1),
            ("what is shown", shown.contains(&user) && shown.contains(way.name)),
            ("who is of its protocol", listed.contains(id) && listed.lines().count() == alike),
        ] {
            if !holds {
                wrong.push(format!("{}: {what} in {it}", way.scheme));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (way, c) in WAYS.into_iter().zip(open) {
        c.close().await;
        let user = account_of(way);
        until("a session that was left to be gone", || of(&s.sessions(), &user).is_empty()).await;
        let (code, out, err) = s.ask(&["sessions", "history", "--user", &user, "--json"]);
        assert_eq!(code, 0, "{err}");
        let over: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(over.len() == 1 && over[0]["actor"] == "client" && over[0]["protocol"] == way.name, "{out}");
    }
}

/// A session is ended in the midst of an upload: nothing of it is published, and what arrived is kept for its owner.
async fn is_ended(way: Way) {
    let s = Server::configured(&format!("{EVERYWHERE}{}", user_everywhere("alice")), &[]);
    for how in ["id", "user", "address"] {
        let scheme = way.scheme;
        let c = one_session(&s, way, "alice").await;
        let name = format!("/{scheme}-{how}");
        let (file, content) = way.half_uploaded(&c, &name).await.unwrap();
        until("the bytes to arrive", || arrived(&s, "alice", content.len() / 8)).await;
        let all = s.sessions();
        let id = all[0]["sessionId"].as_str().unwrap();
        assert_eq!((all.len(), &all[0]["protocol"]), (1, &way.name.into()), "{all:#?}");
        let selector = match how {
            "id" => vec![id],
            "user" => vec!["--user", "alice"],
            _ => vec!["--address", "127.0.0.1"],
        };
        let (code, out, err) = s.ask(&[&["sessions", "kill", "--reason", "audit"][..], &selector].concat());
        assert!(code == 0 && out.contains(id), "{scheme}: {out}{err}");
        assert!(!s.sessions().iter().any(|v| v["sessionId"] == id), "{scheme}");
        if holds(way, Promise::EndsItsUploads) {
            // A write may only have been queued; the verdict is what counts.
            let half = content.len() / 2;
            let _ = file.write_at(half as u64, content.slice(half..)).await;
            assert!(file.commit(&CommitOptions::default()).await.is_err(), "{scheme} by {how}");
        }
        s.logged(&["session closed", "audit", id]).await;
        assert!(!way.on_disk(&s, "alice", &name).exists(), "{scheme} by {how}");
        drop(file);
        c.close().await;
        // Its owner may come back, and finds what arrived.
        let again = s.login("alice").await;
        let found = again.fs().stat(&way.at(&name), Follow::Yes).await;
        assert_eq!(found.is_ok_and(|m| m.size > 0), holds(way, Promise::Parks), "{scheme} by {how}");
        again.close().await;
        // Or begins anew.
        let again = one_session(&s, way, "alice").await;
        put(&again, &way.text(&name), "anew").await.unwrap_or_else(|e| panic!("{scheme} by {how}: {e:#}"));
        assert_eq!(std::fs::read(way.on_disk(&s, "alice", &name)).unwrap(), b"anew", "{scheme} by {how}");
        again.close().await;
        until("no session to be left", || s.sessions().is_empty()).await;
    }
}

/// Whoever looks, over whatever protocol, sees the old content until the new one is complete; and what was interrupted is
/// its owner's alone.
async fn stages(way: Way) {
    let shared = "home = \"shared\"\n";
    let users = format!("{}{shared}{}{shared}", user_everywhere("alice"), user_everywhere("bob"));
    let s = Server::configured(&format!("{EVERYWHERE}{users}"), &[]);
    // S3 has the same files as the others: those in a folder that it calls a bucket.
    let (there, at) = (s.data.join("shared/bucket"), |way: Way| if way.is_s3() { "/f" } else { "/bucket/f" });
    std::fs::create_dir_all(&there).unwrap();
    let mut readers = Vec::new();
    for way in ["sftp", "scp", "ftp", "dav", "s3plain"].map(Way::of) {
        readers.push((way, way.login(&s, "bob").await));
    }
    let seen = async |content: &str| {
        for (way, bob) in &readers {
            let file = bob.fs().open(&way.at(at(*way)), &OpenOptions::read()).await.unwrap();
            let read = file.read_into(0, 100, bytes::BytesMut::new()).await.unwrap();
            assert_eq!(&read[..content.len().min(read.len())], content.as_bytes(), "over {}", way.scheme);
            let dir = way.at(at(*way)).parent().unwrap().to_string();
            assert_eq!(names(bob, &dir).await.unwrap(), ["f"], "over {}", way.scheme);
        }
    };
    let scheme = way.scheme;
    std::fs::write(there.join("f"), "old").unwrap();
    let alice = one_session(&s, way, "alice").await;
    let (file, content) = way.half_uploaded(&alice, at(way)).await.unwrap();
    until("the bytes to arrive", || arrived(&s, "alice", content.len() / 8)).await;
    seen("old").await;
    let half = content.len() / 2;
    for from in (half..content.len()).step_by(half / 4) {
        file.write_at(from as u64, content.slice(from..from + half / 4)).await.unwrap();
    }
    file.commit(&CommitOptions::default()).await.unwrap_or_else(|e| panic!("{scheme}: {e:#}"));
    drop(file);
    seen("xxxx").await;
    assert!(std::fs::read(there.join("f")).unwrap() == content, "{scheme}");
    // Once more, and the line breaks.
    std::fs::write(there.join("f"), "old").unwrap();
    let (file, content) = way.half_uploaded(&alice, at(way)).await.unwrap();
    until("the bytes to arrive", || arrived(&s, "alice", content.len() * 9 / 8)).await;
    alice.session().cut(Ending::new("lost", Actor::Client));
    drop(file);
    if holds(way, Promise::EndsWithItsClient) {
        until("the end of who was lost", || of(&s.sessions(), "alice").is_empty()).await;
    }
    seen("old").await;
    let again = s.login("alice").await;
    let left = again.fs().stat(&path("/bucket/f"), Follow::Yes).await.unwrap().size;
    assert_eq!(left > 3, holds(way, Promise::Parks), "{scheme}: {left}");
    // And is published where its owner goes on with it.
    if holds(way, Promise::Parks) {
        let options = OpenOptions { truncate: false, ..OpenOptions::create() };
        let file = again.fs().open(&path("/bucket/f"), &options).await.unwrap();
        file.write_at(left, Bytes::from_static(b"end")).await.unwrap();
        file.commit(&CommitOptions::default()).await.unwrap();
        assert_eq!(std::fs::metadata(there.join("f")).unwrap().len(), left + 3, "{scheme}");
    }
    again.close().await;
}

/// Scripts in the form that the vendor's manual gives them: one for each purpose, the same for every protocol.
const SCRIPTS: &[(&str, &str, &str)] = &[
    (
        "OnAuthSuccess",
        "",
        "{
           var sid = Session.GetID();
           Log('Session ID: ' + sid);
           Log('User ID...: ' + Session.GetUser().GetID());
           Log('speaks ' + Session.GetProtocol() + ' at ' + Session.GetVirtualSite() + ' from ' + Session.GetRemoteAddress());
           Session.AddCustomData('arrivals of ' + Session.GetUserID());
         }",
    ),
    (
        "BeforeFileUpload",
        "",
        "{
           if (ExtractExt(CtxRelPath()) == '.exe') {
             Session.BlockOperation();
           }
         }",
    ),
    ("OnDirList", "", "{ Session.RemoveFromListDir('hidden.txt'); }"),
    (
        "AfterFileUpload",
        "grant = [\"files\"]",
        "{
           var vfs = GetCurrentVFS();
           var found = vfs.Stat(CtxRelPath());
           Session.AddCustomData(CtxRelPath() + ' ' + (found.Ok() ? 'found' : found.ErrorMsg()));
           Log('kept ' + CtxRelPath());
         }",
    ),
    ("OnConnectionClose", "", "{ if (Session != null) Log('all: ' + Session.GetAllCustomData().join('; ')); }"),
];

/// Handlers of the established form see, change and refuse what is done.
async fn runs_scripts(way: Way) {
    let mut config = EVERYWHERE.to_owned() + &user_everywhere(&account_of(way));
    let mut files = Vec::new();
    for (event, more, _) in SCRIPTS {
        config += &format!("[[hooks]]\nevent = \"{event}\"\nfile = \"{event}.js\"\n{more}\n");
        files.push(format!("{event}.js"));
    }
    let files: Vec<_> =
        files.iter().zip(SCRIPTS).map(|(name, (_, _, text))| (name.as_str(), *text)).collect();
    let s = Server::configured(&config, &files);
    let (user, scheme) = (account_of(way), way.scheme);
    let user = user.as_str();
    let c = one_session(&s, way, user).await;
    let id = of(&s.sessions(), user)[0]["sessionId"].as_str().unwrap().to_owned();
    s.logged(&[&format!("Session ID: {id}")]).await;
    let spoken = if holds(way, Promise::KnownAtLogin) { way.name } else { "SFTP" };
    s.logged(&[&format!("speaks {spoken} at ferry from 127.0.0.1")]).await;
    assert!(put(&c, &way.text("/bad.exe"), "MZ").await.is_err(), "{scheme}");
    assert!(!way.on_disk(&s, user, "/bad.exe").exists(), "{scheme}");
    for name in ["/hidden.txt", "/seen.txt"] {
        put(&c, &way.text(name), "text").await.unwrap_or_else(|e| panic!("{scheme}: {e:#}\n{}", s.log()));
        s.logged(&[&format!("kept {}", way.text(name)), &id]).await;
    }
    assert_eq!(names(&c, &way.text("/")).await.unwrap(), ["seen.txt"], "{scheme}");
    c.close().await;
    let base = way.base();
    let all = format!("all: arrivals of {user}; {base}/hidden.txt found; {base}/seen.txt found");
    s.logged(&[&all, &id]).await;
}

/// A test for each way.
macro_rules! over_every_way {
    ($($suite:ident)*) => {$(
        mod $suite {
            use crate::support::Way;

            over_every_way! { @ $suite
                sftp "sftp"; scp "scp"; ftp "ftp"; ftps "ftps"; webdav "dav"; webdavs "davs"; s3 "s3plain"; s3s "s3";
            }
        }
    )*};
    (@ $suite:ident $($name:ident $scheme:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$suite(Way::of($scheme)).await;
            }
        )*

        #[test]
        fn no_way_is_left_out() {
            assert!(crate::support::WAYS.iter().map(|way| way.scheme).eq([$($scheme),*]));
        }
    };
}

over_every_way! { is_ended stages runs_scripts }
