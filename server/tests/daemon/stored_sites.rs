//! Sites in the database: served at once, and without a restart no more.

use std::sync::Arc;

use client::connect::{Connected, open_url};
use serde_json::Value;
use session_core::batch::Unattended;
use session_core::error::Result;

use crate::support::*;

/// Runs a command and answers its words.
fn ok(s: &Server, args: &[&str], input: &str) -> String {
    let (code, out, err) = ferryd_reads(&s.data, args, input);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    out.trim_end().to_string()
}

/// Where a site listens now.
fn ports(s: &Server, site: &str) -> Vec<u16> {
    let status: Value = serde_json::from_str(&ok(s, &["status", "--json"], "")).unwrap();
    let all = status["listeners"].as_array().unwrap().iter().filter(|l| l["site"] == site);
    all.map(|l| u16::try_from(l["port"].as_u64().unwrap()).unwrap()).collect()
}

async fn log_in(s: &Server, port: u16, user: &str) -> Result<Connected> {
    open_url(s.options_at("sftp", port, user, PASSWORD), Arc::new(Unattended)).await
}

/// Some code of a failure.
const ANY: i32 = -1;

const SFTP: &str = "listeners=[{protocol=\"sftp\",port=0}]";

#[tokio::test]
async fn a_site_comes_changes_and_goes_while_others_go_on() {
    let s = Server::start(&user("alice"), &[]);
    let alice = s.login("alice").await;
    let unfinished = begin(&alice, "/big", "half").await.unwrap();
    assert_eq!(ok(&s, &["site", "add", "shop", SFTP, "hosts=shop.example"], ""), "added site shop");
    ok(&s, &["user", "add", "bob", "--site", "shop"], PASSWORD);
    let [port] = ports(&s, "shop")[..] else { panic!("{:?}", ports(&s, "shop")) };
    let bob = log_in(&s, port, "bob").await.unwrap();
    put(&bob, "/f", "x").await.unwrap();
    assert!(s.data.join("sites/shop/homes/bob/f").exists());
    assert!(log_in(&s, s.port, "bob").await.is_err() && log_in(&s, port, "alice").await.is_err());
    let list = ok(&s, &["site", "list"], "");
    assert!(list.contains("ferry  file") && list.contains("shop   database"), "{list}");
    assert!(list.contains("sftp://127.0.0.1:0  shop.example  1"), "{list}");

    // Another listener and other limits: who is there stays.
    let two = "listeners=[{protocol=\"sftp\",port=0},{protocol=\"webdav\",port=0}]";
    assert_eq!(ok(&s, &["site", "set", "shop", two, "limits={per_user=1}"], ""), "changed site shop");
    assert!(ports(&s, "shop").len() == 2 && ports(&s, "shop").contains(&port), "{:?}", ports(&s, "shop"));
    put(&bob, "/g", "x").await.unwrap();
    assert!(log_in(&s, port, "bob").await.is_err(), "one session for each user");
    log_in(&s, s.port, "alice").await.unwrap().close().await;

    // The file is not read for it.
    std::fs::write(s.data.join("ferryd.toml"), "no = [toml").unwrap();
    ok(&s, &["site", "set", "shop", SFTP, "--unset", "limits"], "");
    let (code, _, err) = s.ask(&["site", "rm", "shop"]);
    assert!(code == 1 && err.contains("has 1 users and 0 groups"), "{err}");
    assert_eq!(
        ok(&s, &["site", "remove", "shop", "--accounts"], ""),
        "removed site shop; 1 sessions were ended"
    );
    assert!(put(&bob, "/h", "x").await.is_err() && log_in(&s, port, "bob").await.is_err());
    assert!(ports(&s, "shop").is_empty() && s.data.join("sites/shop/homes/bob/g").exists());
    let over = ok(&s, &["sessions", "history", "--user", "bob", "--json"], "");
    assert!(over.contains("the site is gone"), "{over}");

    // All the while.
    unfinished.write_at(4, "whole".into()).await.unwrap();
    unfinished.commit(&Default::default()).await.unwrap();
    assert_eq!(get(&alice, "/big").await.unwrap(), "halfwhole");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_and_a_double_is_named() {
    let s = Server::start(&user("alice"), &[]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = format!("listeners=[{{port={}}}]", taken.local_addr().unwrap().port());
    for (args, code, words) in [
        (&["site", "add", "shop", listeners.as_str()][..], 1, "cannot listen on"),
        (&["site", "add", "shop", SFTP, "host_keys=none"], ANY, "none"),
        (
            &["site", "add", "shop", SFTP, "hooks=[{event=\"OnAuthSuccess\",file=\"none.js\"}]"],
            ANY,
            "none.js",
        ),
        (&["site", "add", "ferry", SFTP], 1, "stands in the configuration file"),
        (&["site", "add", "shop", "hots=x"], 2, "did you mean 'hosts'?"),
        (&["site", "set", "shop"], 2, "name what to change"),
        (&["site", "rm", "shop"], 5, "there is no site 'shop'"),
    ] {
        let (got, out, err) = s.ask(args);
        let fits = if code == ANY { got != 0 } else { got == code };
        assert!(fits && err.contains(words), "{args:?}: {got} {out}{err}");
    }
    assert!(!s.data.join("accounts.db").exists(), "nothing was kept");
    ok(&s, &["site", "add", "shop", SFTP], "");
    let file = s.data.join("ferryd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("site = \"shop\"\n{text}")).unwrap();
    for args in [&["reload"][..], &["check"]] {
        let (code, out, err) = s.ask(args);
        assert!(code != 0 && err.contains("the site 'shop' of the database"), "{args:?} {code} {out}{err}");
    }
    put(&s.login("alice").await, "/f", "x").await.unwrap();
}

#[tokio::test]
async fn without_a_server_too_and_one_that_cannot_be_keeps_no_other_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ferryd.toml"), format!("data = \".\"\n{}", user("alice"))).unwrap();
    let run = |args: &[&str], input: &str| {
        let (code, out, err) = ferryd_reads(dir.path(), args, input);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    };
    std::fs::write(dir.path().join("shop.toml"), "hosts = [\"shop.example\"]\n[[listeners]]\nport = 0\n")
        .unwrap();
    let from = dir.path().join("shop.toml");
    run(&["site", "add", "shop", "--from", from.to_str().unwrap()], "");
    run(&["user", "add", "bob", "--site", "shop"], PASSWORD);
    let bundle = run(&["accounts", "export"], "");
    run(&["check"], "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = format!("listeners=[{{port={}}}]", taken.local_addr().unwrap().port());
    run(&["site", "add", "barred", &listeners], "");
    let s = Server::at(dir.path());
    s.logged(&["a site of the database is not served", "barred", "cannot listen on"]).await;
    let bob = log_in(&s, ports(&s, "shop")[0], "bob").await.unwrap();
    put(&bob, "/f", "x").await.unwrap();
    // Once it can be it is, and a reload does not end what is there.
    drop(taken);
    assert_eq!(s.ask(&["reload"]).0, 0);
    assert_eq!(ports(&s, "barred").len(), 1);
    put(&bob, "/g", "x").await.unwrap();
    ok(&s, &["site", "rm", "barred"], "");
    ok(&s, &["site", "rm", "shop", "--accounts"], "");
    ok(&s, &["accounts", "import", "-"], &bundle);
    log_in(&s, ports(&s, "shop")[0], "bob").await.unwrap();
}
