//! Sites of the database, as the desk judges them.

use super::*;

fn shop() -> Value {
    json!({ "name": "shop", "hosts": ["shop.example"], "listeners": [{ "protocol": "sftp", "port": 2222 }] })
}

fn at(site: &str) -> Vec<(String, String)> {
    vec![("site".into(), site.into())]
}

#[tokio::test]
async fn a_site_is_added_changed_and_removed_with_what_is_its_own() {
    let w = World::new().await;
    let added = w.done(Asked::AddSite, "", shop()).await;
    assert_eq!(
        (&added["site"]["source"], &added["site"]["listeners"][0]["port"], added.get("warning")),
        (&json!("database"), &json!(2222), None)
    );
    assert_eq!(*w.told.touched.lock().unwrap(), [Touched::Sites]);
    // Where there are several, one is named.
    let (kind, words) = w.refused(Asked::AddUser, "", json!({ "name": "bob" })).await;
    assert!(kind == ErrorKind::InvalidArgument && words.contains("several sites"), "{words}");
    let bob = json!({ "name": "bob", "new_password": "x" });
    let bob = w.desk.answer(Asked::AddUser, "", at("shop"), bob, "uid 0").await.unwrap();
    let home = bob["user"]["home"].as_str().unwrap();
    assert!(home.ends_with("/sites/shop/homes/bob"), "{home}");
    let changed = w.done(Asked::ChangeSite, "shop", json!({ "hosts": null, "limits": { "tries": 2 } })).await;
    assert_eq!(
        changed["site"]["record"],
        json!({ "listeners": shop()["listeners"], "limits": { "tries": 2 } })
    );
    // Through a restart.
    let w = w.again().await;
    let all = w.done(Asked::Sites, "", Value::Null).await;
    let of = |n: usize| {
        (all["sites"][n]["name"].clone(), all["sites"][n]["source"].clone(), all["sites"][n]["users"].clone())
    };
    assert_eq!(of(0), (json!("ferry"), json!("file"), json!(1)));
    assert_eq!(of(1), (json!("shop"), json!("database"), json!(1)));
    let (kind, words) = w.refused(Asked::RemoveSite, "shop", Value::Null).await;
    assert!(kind == ErrorKind::NotEmpty && words.contains("1 users and 0 groups"), "{words}");
    let with = vec![("accounts".into(), "yes".into())];
    let removed = w.desk.answer(Asked::RemoveSite, "shop", with, Value::Null, "uid 0").await.unwrap();
    assert_eq!((&removed["removed"], &removed["users"]), (&json!("shop"), &json!(1)));
    assert!(w.accounts.contents().users.is_empty() && w.accounts.contents().sites.is_empty());
    assert_eq!(w.refused(Asked::Site, "shop", Value::Null).await.0, ErrorKind::NotFound);
}

#[tokio::test]
async fn what_cannot_be_a_site_is_refused_and_not_kept() {
    let w = World::at(tempfile::tempdir().unwrap(), "[[groups]]\nname = \"staff\"\n").await;
    w.done(Asked::AddSite, "", shop()).await;
    for (asked, name, body, kind, words) in [
        (
            Asked::AddSite,
            "",
            json!({ "name": "ferry" }),
            ErrorKind::AlreadyExists,
            "stands in the configuration file",
        ),
        (Asked::ChangeSite, "ferry", json!({}), ErrorKind::AlreadyExists, "stands in the configuration file"),
        (
            Asked::RemoveSite,
            "ferry",
            Value::Null,
            ErrorKind::AlreadyExists,
            "stands in the configuration file",
        ),
        (Asked::AddSite, "", shop(), ErrorKind::AlreadyExists, "there is a site 'shop' already"),
        (Asked::ChangeSite, "none", json!({}), ErrorKind::NotFound, "there is no site 'none'"),
        (Asked::AddSite, "", json!({ "name": "../x" }), ErrorKind::InvalidArgument, "a site's name is"),
        (
            Asked::AddSite,
            "",
            json!({ "name": "b", "hosts": ["shop.example"] }),
            ErrorKind::InvalidArgument,
            "another site",
        ),
        (
            Asked::AddSite,
            "",
            json!({ "name": "unservable" }),
            ErrorKind::AlreadyExists,
            "a port that is taken",
        ),
        (
            Asked::ChangeSite,
            "shop",
            json!({ "users": [] }),
            ErrorKind::InvalidArgument,
            "ferryd user add NAME --site shop",
        ),
    ] {
        let (got, said) = w.refused(asked, name, body).await;
        assert!(got == kind && said.contains(words), "{asked:?} {name}: {got:?} {said}");
    }
    assert_eq!(w.accounts.contents().sites.keys().collect::<Vec<_>>(), ["shop"]);
    assert_eq!(w.told.touched.lock().unwrap().len(), 1);
}

/// A name in a certificate says who somebody is only where one site judges certificates.
#[tokio::test]
async fn a_site_that_takes_a_users_way_in_is_refused() {
    let w = World::new().await;
    let bob = json!({ "name": "bob", "certificate_names": ["bob@x"] });
    w.done(Asked::AddUser, "", bob).await;
    let (_, words) = w.refused(Asked::AddSite, "", shop()).await;
    assert!(words.contains("user 'bob': certificate_names"), "{words}");
}

#[tokio::test]
async fn sites_go_with_an_export_and_come_with_an_import() {
    let w = World::new().await;
    let mut told = shop();
    told["webhooks"] = json!([{ "name": "n", "url": "https://h.example/token", "events": ["AfterFileUpload"], "secret": "s" }]);
    let added = w.done(Asked::AddSite, "", told).await;
    assert_eq!(added["site"]["record"]["webhooks"][0]["url"], "https://h.example/…");
    w.desk.answer(Asked::AddGroup, "", at("shop"), json!({ "name": "buyers" }), "uid 0").await.unwrap();
    let bob = json!({ "name": "bob", "groups": ["buyers"] });
    w.desk.answer(Asked::AddUser, "", at("shop"), bob, "uid 0").await.unwrap();
    let bundle = w.done(Asked::Export, "", Value::Null).await;
    let fresh = World::new().await;
    let done = fresh.done(Asked::Import, "", bundle.clone()).await;
    assert_eq!((&done["sites"], &done["users"], &done["groups"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(*fresh.told.touched.lock().unwrap(), [Touched::Sites]);
    assert_eq!(fresh.done(Asked::Export, "", Value::Null).await, bundle);
    // Once more it is a double; a site that stands in the file is one always.
    assert_eq!(fresh.refused(Asked::Import, "", bundle.clone()).await.0, ErrorKind::AlreadyExists);
    let named = World::at(tempfile::tempdir().unwrap(), "site = \"shop\"\n").await;
    let (kind, words) = named.refused(Asked::Import, "", bundle).await;
    assert!(
        kind == ErrorKind::AlreadyExists && words.contains("stands in the configuration file"),
        "{words}"
    );
}
