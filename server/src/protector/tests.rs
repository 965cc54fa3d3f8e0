//! Counting, blocking, growth, bounds; the clock is the test's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use super::*;

/// A protector and its clock, seconds.
fn world(settings: Settings) -> (Arc<Protector>, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let theirs = Arc::clone(&now);
    let clock: Clock = Arc::new(move || UNIX_EPOCH + Duration::from_secs(theirs.load(Ordering::SeqCst)));
    (Protector::new(settings, None, clock).unwrap(), now)
}

fn strict() -> Settings {
    Settings { strikes: 5, safe: vec!["10.0.0.0/8".parse().unwrap()], ..Settings::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn reason(r: Result<()>) -> Option<Reason> {
    r.err().map(|e| e.reason())
}

#[test]
fn enough_strikes_within_the_window_block_the_address() {
    let (p, now) = world(strict());
    let bad = ip("192.0.2.1");
    for _ in 0..4 {
        assert!(p.strike(bad, Strike::Login).is_none());
    }
    // The first four are too old by now.
    now.fetch_add(30 * 60, Ordering::SeqCst);
    for n in 0..5 {
        assert_eq!(p.strike(bad, Strike::Login).is_some(), n == 4);
    }
    assert_eq!(reason(p.admit(bad)), Some(Reason::Banned));
    assert_eq!(reason(p.admit(ip("::ffff:192.0.2.1"))), Some(Reason::Banned));
    assert_eq!(reason(p.admit(ip("192.0.2.2"))), None);
}

#[test]
fn a_name_that_nobody_has_weighs_more() {
    let (p, _) = world(strict());
    assert!(p.strike(ip("192.0.2.1"), Strike::UnknownUser).is_none());
    assert!(p.strike(ip("192.0.2.1"), Strike::UnknownUser).is_none());
    assert!(p.strike(ip("192.0.2.1"), Strike::UnknownUser).is_some());
}

#[test]
fn a_block_ends_and_grows_each_time_its_address_comes_back() {
    let (p, now) = world(strict());
    let bad = ip("192.0.2.1");
    (0..5).for_each(|_| drop(p.strike(bad, Strike::Login)));
    now.fetch_add(29 * 60, Ordering::SeqCst);
    assert!(p.admit(bad).is_err());
    now.fetch_add(2 * 60, Ordering::SeqCst);
    assert!(p.is_banned(bad), "half of it longer, for it came back once");
    now.fetch_add(13 * 60, Ordering::SeqCst);
    assert!(p.is_banned(bad));
    now.fetch_add(60, Ordering::SeqCst);
    assert!(p.admit(bad).is_ok());
    assert!(p.bans().is_empty());
    // However often it comes, not for ever.
    (0..5).for_each(|_| drop(p.strike(bad, Strike::Login)));
    (0..10_000).for_each(|_| drop(p.admit(bad)));
    now.fetch_add(30 * 86_400 + 1, Ordering::SeqCst);
    assert!(p.admit(bad).is_ok());
}

#[test]
fn of_ipv6_the_64_bits_before_an_address_count_together() {
    let (p, _) = world(strict());
    for n in 0..5 {
        p.strike(ip(&format!("2001:db8::{n}:1")), Strike::Login);
    }
    assert_eq!(p.bans()[0].1.network.to_string(), "2001:db8::/64");
    assert!(p.admit(ip("2001:db8::beef")).is_err());
    assert!(p.admit(ip("2001:db8:0:1::1")).is_ok());
}

#[test]
fn who_is_safe_is_neither_struck_nor_blocked() {
    let (p, _) = world(strict());
    (0..100).for_each(|_| assert!(p.strike(ip("10.1.2.3"), Strike::Protocol).is_none()));
    p.add("10.0.0.0/8".parse().unwrap(), None, String::new(), "admin".into()).unwrap();
    assert!(p.admit(ip("10.1.2.3")).is_ok());
}

/// Which offences count at which level; the first column is the offence.
#[test]
fn the_levels_take_in_each_other() {
    use Level::{Normal, Paranoid, Permissive, Strict};
    for (strike, from) in [
        (Strike::Algorithms, Some(Permissive)),
        (Strike::Login, Some(Permissive)),
        (Strike::Protocol, Some(Permissive)),
        (Strike::Command, Some(Normal)),
        (Strike::Missing, Some(Strict)),
        (Strike::Deviation, Some(Paranoid)),
        (Strike::Reset, None),
    ] {
        for level in [Permissive, Normal, Strict, Paranoid] {
            let (p, _) = world(Settings { level, ..strict() });
            let blocked = (0..5).any(|_| p.strike(ip("192.0.2.1"), strike).is_some());
            assert_eq!(blocked, from.is_some_and(|from| level >= from), "{strike:?} at {level:?}");
        }
    }
    let (p, _) = world(Settings { reset: 5, ..strict() });
    assert!(p.strike(ip("192.0.2.1"), Strike::Reset).is_some());
    let (off, _) = world(Settings { enabled: false, ..strict() });
    assert!((0..50).all(|_| off.strike(ip("192.0.2.1"), Strike::Login).is_none()));
}

#[test]
fn only_so_many_connections_in_a_minute() {
    let (p, now) = world(Settings { rate: 6, strikes: 30, ..strict() });
    let one = ip("192.0.2.1");
    (0..6).for_each(|_| p.admit(one).unwrap());
    assert_eq!(reason(p.admit(one)), Some(Reason::RateLimit));
    assert!(p.admit(ip("192.0.2.2")).is_ok());
    now.fetch_add(9, Ordering::SeqCst);
    assert!(p.admit(one).is_err(), "one comes back every ten seconds");
    now.fetch_add(1, Ordering::SeqCst);
    assert!(p.admit(one).is_ok());
    assert!(p.admit(one).is_err());
    // Who does not stop is blocked: that weighs three each time.
    (0..10).for_each(|_| drop(p.admit(one)));
    assert_eq!(reason(p.admit(one)), Some(Reason::Banned));
}

#[test]
fn a_ban_of_an_administrator_stays_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = session_core::session::system_clock();
    let folder = dir.path().to_path_buf();
    let p = Protector::new(strict(), Some(folder.clone()), Arc::clone(&clock)).unwrap();
    let net = "192.0.2.77/24".parse().unwrap();
    p.add(net, None, "spam".into(), "admin uid 0".into()).unwrap();
    p.add("198.51.100.1/32".parse().unwrap(), Some(Duration::from_secs(3600)), String::new(), "a".into())
        .unwrap();
    let again = Protector::new(strict(), Some(folder), clock).unwrap();
    assert_eq!(again.bans(), p.bans());
    assert!(again.admit(ip("192.0.2.200")).is_err() && again.admit(ip("198.51.100.1")).is_err());
    again.remove(&net, "t").unwrap();
    assert!(again.admit(ip("192.0.2.200")).is_ok());
    assert_eq!(again.remove(&net, "t").err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn who_is_put_on_the_safe_list_is_safe_for_as_long_as_that() {
    let (p, now) = world(strict());
    let net: IpNet = "192.0.2.0/24".parse().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    p.watch(Box::new(move |notice, _| heard.lock().unwrap().push((notice.name(), notice.to_json()))));
    p.add(net, None, String::new(), "admin".into()).unwrap();
    p.add_to(List::Safe, net, Some(Duration::from_secs(60)), "partner".into(), "admin uid 0".into()).unwrap();
    assert!(p.admit(ip("192.0.2.9")).is_ok() && !p.is_banned(ip("::ffff:192.0.2.9")));
    assert!((0..9).all(|_| p.strike(ip("192.0.2.9"), Strike::Login).is_none()));
    assert_eq!(p.entries(List::Safe)[0].reason, "partner");
    now.fetch_add(61, Ordering::SeqCst);
    assert_eq!(reason(p.admit(ip("192.0.2.9"))), Some(Reason::Banned));
    assert!(p.entries(List::Safe).is_empty() && p.bans().len() == 1);
    assert_eq!(p.remove_from(List::Safe, &net, "x").err().unwrap().kind(), ErrorKind::NotFound);
    let told = told.lock().unwrap();
    let (name, facts) = &told[1];
    assert_eq!((*name, &facts["list"], &facts["there"]), ("list-changed", &"safe".into(), &true.into()));
    assert_eq!(facts["actor"], "admin uid 0");
}

#[test]
fn where_only_some_may_connect_the_list_is_asked_and_an_empty_one_lets_nobody_in() {
    let (p, now) = world(strict());
    let net: IpNet = "2001:db8:1::/48".parse().unwrap();
    p.add_to(List::Allow, net, None, String::new(), "a".into()).unwrap();
    assert!(p.admit(ip("192.0.2.1")).is_ok(), "the list counts only where the settings say so");
    assert!(!p.declared(List::Allow).1);
    let allow = vec!["198.51.100.0/24".parse().unwrap()];
    p.set(Settings { only_allowed: true, allow, ..strict() });
    for (address, may) in [
        ("192.0.2.1", false),
        ("198.51.100.7", true),
        ("::ffff:198.51.100.7", true),
        ("2001:db8:1:2::3", true),
        ("2001:db8:2::3", false),
        ("10.1.2.3", true),
    ] {
        let refused = reason(p.admit(ip(address)));
        assert_eq!(refused, (!may).then_some(Reason::AddressDenied), "{address}");
    }
    // A time that is over, or the last one taken away, opens nothing.
    p.add_to(
        List::Allow,
        "192.0.2.1/32".parse().unwrap(),
        Some(Duration::from_secs(5)),
        String::new(),
        "a".into(),
    )
    .unwrap();
    assert!(p.admit(ip("192.0.2.1")).is_ok());
    now.fetch_add(6, Ordering::SeqCst);
    p.remove_from(List::Allow, &net, "a").unwrap();
    for address in ["192.0.2.1", "2001:db8:1:2::3"] {
        assert_eq!(reason(p.admit(ip(address))), Some(Reason::AddressDenied));
    }
    // Who is banned is told so first.
    p.add("192.0.2.1/32".parse().unwrap(), None, String::new(), "a".into()).unwrap();
    assert_eq!(reason(p.admit(ip("192.0.2.1"))), Some(Reason::Banned));
}

#[test]
fn each_list_has_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let clock = session_core::session::system_clock();
    let p = Protector::new(strict(), Some(dir.path().into()), Arc::clone(&clock)).unwrap();
    for (n, list) in List::ALL.into_iter().enumerate() {
        let net = IpNet::from(IpAddr::from([192, 0, 2, u8::try_from(n).unwrap()]));
        p.add_to(list, net, None, String::new(), "a".into()).unwrap();
    }
    let again = Protector::new(strict(), Some(dir.path().into()), clock).unwrap();
    for list in List::ALL {
        assert_eq!((again.entries(list).len(), again.entries(list)), (1, p.entries(list)));
        assert!(dir.path().join(format!("{}.json", list.name())).exists());
    }
}

#[test]
fn what_all_nodes_have_counted_together_blocks_as_well() {
    let (p, _) = world(strict());
    let (bad, net) = (ip("2001:db8::7"), ip("2001:db8::"));
    p.lock().tally = Some(Tally::default());
    p.strike(bad, Strike::Login);
    let told = p.lock().tally.as_mut().unwrap().take(9).unwrap().told((p.clock)(), Duration::from_secs(9));
    assert_eq!((told.len(), told[0].address, told[0].weight), (1, net, 1));
    assert!(p.weigh(net, 4, Strike::Login).is_none());
    let ban = p.weigh(net, 5, Strike::Login).unwrap();
    assert_eq!(ban.network.to_string(), "2001:db8::/64");
    assert!(ban.reason.contains("5 strikes on all nodes"), "{}", ban.reason);
    assert_eq!(reason(p.admit(bad)), Some(Reason::Banned));
    assert!(p.weigh(net, 9, Strike::Login).is_none(), "it is blocked");
    // The others are to forget it, and what they say before they have counts for nothing.
    p.remove(&ban.network, "t").unwrap();
    assert!(p.weigh(net, 9, Strike::Login).is_none());
    assert_eq!(p.lock().tally.as_mut().unwrap().take(9).unwrap().anew, [ban.network]);
    assert!(p.weigh(ip("10.1.1.1"), 9, Strike::Login).is_none(), "it is safe");
    assert!(p.weigh(net, 9, Strike::Login).is_some());
    // What was counted for a ban by this node alone is over in the same way.
    let near = ip("192.0.2.1");
    (0..5).for_each(|_| drop(p.strike(near, Strike::Login)));
    let left = p.lock().tally.as_mut().unwrap().take(9).unwrap();
    assert!(left.told((p.clock)(), Duration::from_secs(9)).is_empty() && left.anew.len() == 2);
}

#[test]
fn what_is_counted_is_bounded() {
    let (p, now) = world(strict());
    for n in 0..150_000u32 {
        p.strike(IpAddr::from(n.to_be_bytes().map(|b| b ^ 0xc0)), Strike::Login);
        now.fetch_add(u64::from(n % 50 == 0), Ordering::SeqCst);
    }
    assert!(p.lock().counts.len() <= COUNTED);
}

#[test]
fn a_site_with_its_own_settings_counts_and_blocks_for_itself_and_honours_what_a_person_entered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = world(strict());
    let site = server.of_site("shop", dir.path()).unwrap();
    assert!(Arc::ptr_eq(&site, &server.of_site("shop", dir.path()).unwrap()));
    site.set(Settings { strikes: 2, safe: vec!["172.16.0.0/12".parse().unwrap()], ..Settings::default() });
    let told = Arc::<Mutex<Vec<_>>>::default();
    let hears = Arc::clone(&told);
    server.watch(Box::new(move |notice, of| {
        hears.lock().unwrap().push((notice.name(), of.map(str::to_owned)));
    }));
    let (bad, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
    // Each counts for itself.
    assert!(server.strike(bad, Strike::Login).is_none() && site.strike(bad, Strike::Login).is_none());
    assert!(site.strike(bad, Strike::Login).is_some());
    assert_eq!((reason(site.admit(bad)), reason(server.admit(bad))), (Some(Reason::Banned), None));
    assert_eq!(reason(site.receive(bad)), Some(Reason::Banned));
    (0..5).for_each(|_| drop(server.strike(other, Strike::Login)));
    assert_eq!((reason(site.admit(other)), reason(server.admit(other))), (None, Some(Reason::Banned)));
    let shop = || Some("shop".to_owned());
    assert!(told.lock().unwrap().contains(&("ban-added", shop())));
    assert!(told.lock().unwrap().contains(&("ban-added", None)));
    // Who is safe for one is not for the other.
    let (ours, theirs) = (ip("10.0.0.1"), ip("172.16.0.1"));
    for _ in 0..5 {
        assert!(server.strike(ours, Strike::Login).is_none() && site.strike(theirs, Strike::Login).is_none());
    }
    assert!(site.strike(ours, Strike::UnknownUser).is_some());
    // What a person enters holds for both, behind a block of the protector as well.
    let net = "192.0.2.0/25".parse().unwrap();
    server.add(net, None, String::new(), "admin".into()).unwrap();
    let third = ip("192.0.2.3");
    for address in [other, third] {
        assert_eq!(reason(site.admit(address)), Some(Reason::Banned));
    }
    server.remove(&net, "admin").unwrap();
    assert_eq!(reason(site.admit(third)), None);
    server.add_to(List::Safe, IpNet::from(bad), None, String::new(), "admin".into()).unwrap();
    assert_eq!(reason(site.admit(bad)), None);
    server.remove_from(List::Safe, &IpNet::from(bad), "admin").unwrap();
    site.set(Settings { only_allowed: true, ..Settings::default() });
    assert_eq!((reason(site.admit(third)), reason(server.admit(third))), (Some(Reason::AddressDenied), None));
    server.add_to(List::Allow, IpNet::from(third), None, String::new(), "admin".into()).unwrap();
    assert_eq!(reason(site.admit(third)), None);
    site.set(Settings { strikes: 2, ..Settings::default() });
    // They are listed with their site, outlive it, and are lifted together.
    let listed = |p: &Protector| {
        let of = |(site, ban): &(Option<Arc<str>>, Ban)| (site.as_deref().map(str::to_owned), ban.network);
        p.bans().iter().map(of).collect::<Vec<_>>()
    };
    assert!(listed(&server).contains(&(shop(), IpNet::from(bad))));
    server.save_sites().unwrap();
    let clock = Arc::clone(&server.clock);
    drop((site, server));
    let server = Protector::new(strict(), None, clock).unwrap();
    let site = server.of_site("shop", dir.path()).unwrap();
    assert_eq!(reason(site.admit(bad)), Some(Reason::Banned));
    server.remove(&IpNet::from(bad), "admin").unwrap();
    assert_eq!(reason(site.admit(bad)), None);
    assert_eq!(server.remove(&IpNet::from(bad), "admin").map_err(|e| e.kind()), Err(ErrorKind::NotFound));
    // A site that asks for none any more has none.
    drop(site);
    assert_eq!(listed(&server), []);
}

#[test]
fn a_site_whose_blocks_nodes_share_keeps_them_in_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = world(strict());
    server.lock().tally = Some(Tally::default());
    let site = server.of_site("shop", dir.path()).unwrap();
    site.set(Settings { strikes: 1, ..Settings::default() });
    assert!(site.strike(ip("192.0.2.1"), Strike::Login).is_some());
    server.save_sites().unwrap();
    let file = site.own_file(List::Deny).unwrap();
    assert_eq!(file, dir.path().join("bans.json"));
    assert!(!file.exists() && server.own_file(List::Deny).is_none());
    // What was there before they shared it is in force until they have taken it over.
    drop(site);
    let alone = world(strict()).0;
    let site = alone.of_site("shop", dir.path()).unwrap();
    site.set(Settings { strikes: 1, ..Settings::default() });
    site.strike(ip("192.0.2.2"), Strike::Login).unwrap();
    alone.save_sites().unwrap();
    let site = server.of_site("shop", dir.path()).unwrap();
    assert_eq!(reason(site.admit(ip("192.0.2.2"))), Some(Reason::Banned));
}
