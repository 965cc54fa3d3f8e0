//! Churn: logins, transfers, kills, reloads and bans, and at every sample the table is the truth.
//!
//! Clients work under a lock that is shared; who takes a sample, kills, reloads or bans has it alone, so that
//! between two steps it is known exactly who is connected. `cargo xtask soak` runs this for an hour; here it
//! runs for a few seconds, which is why it takes longer than others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::connect::Connected;
use serde_json::{Value, json};
use server::control::client::Control;
use tokio::sync::{Mutex, RwLock};

use crate::support::*;

/// Clients at once, two for each of the users.
const CLIENTS: usize = 8;
const USERS: usize = 4;

/// What the memory of a server that has warmed up may grow by, whatever it did since.
const GROWTH: u64 = 48 << 20;

/// The most in a debug build with so few clients.
const MOST: u64 = 600 << 20;

/// A client as it knows itself: somebody while it is connected.
type Seat = Arc<Mutex<Option<Connected>>>;

fn name(client: usize) -> String {
    format!("u{}", client % USERS)
}

/// Resident memory of a process, bytes.
fn memory(pid: u64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// One thing that a client does: it connects, or it moves a file, or it leaves, or it just goes away.
async fn step(s: &Server, client: usize, round: usize, seat: &Seat) {
    let mut seat = seat.lock().await;
    let Some(c) = seat.as_ref() else {
        // Over FTP every third time.
        let options = match round % 3 {
            0 => s.options_at("ftp", s.port_of("ferry", "ftp"), &name(client), PASSWORD),
            _ => s.options_at("sftp", s.port_of("ferry", "sftp"), &name(client), PASSWORD),
        };
        let opened = client::connect::open_url(options, Arc::new(session_core::batch::Unattended)).await;
        *seat = Some(opened.unwrap_or_else(|e| panic!("{e:#}\n{}", s.log())));
        return;
    };
    let file = format!("/f{client}-{}", round % 5);
    match round % 7 {
        0..4 => put(c, &file, &"x".repeat(1000 * (round % 9))).await.unwrap(),
        4 => {
            put(c, &file, "to be read").await.unwrap();
            assert_eq!(get(c, &file).await.unwrap(), "to be read");
        }
        5 => seat.take().unwrap().close().await,
        // An upload that breaks off.
        _ => {
            let _begun = begin(c, &file, "half").await.unwrap();
            *seat = None;
        }
    }
}

/// What the clients know: sessions by user.
async fn truth(seats: &[Seat]) -> BTreeMap<String, usize> {
    let mut of = BTreeMap::new();
    for (client, seat) in seats.iter().enumerate() {
        if seat.lock().await.is_some() {
            *of.entry(name(client)).or_default() += 1;
        }
    }
    of
}

/// What the server's table says. Everybody in it is logged in, because nobody is just coming.
async fn table(control: &Control) -> BTreeMap<String, usize> {
    let answer = control.get("/v1/sessions").await.unwrap();
    let mut of = BTreeMap::new();
    for session in answer["sessions"].as_array().unwrap() {
        *of.entry(session["userName"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    of
}

/// Waits until the two are the same: a server hears of a client that went away a moment later.
async fn agree(control: &Control, seats: &[Seat], after: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    let (truth, mut told) = (truth(seats).await, table(control).await);
    while told != truth {
        assert!(Instant::now() < end, "after {after} the table says {told:?}, and it is {truth:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        told = table(control).await;
    }
}

/// Empties the seats that `gone` fits.
async fn leave(seats: &[Seat], gone: impl Fn(usize) -> bool) {
    for (_, seat) in seats.iter().enumerate().filter(|(client, _)| gone(*client)) {
        *seat.lock().await = None;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_the_truth_in_all_the_churn_and_memory_is_bounded() {
    let seconds = std::env::var("FERRY_SOAK_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let users: String = (0..USERS).map(|n| user(&format!("u{n}"))).collect();
    let config = "listeners = [{ protocol = \"sftp\", port = 0 }, { protocol = \"ftp\", port = 0 }]\n\
                  [ftp]\ncontrol = \"allow\"\ndata = \"allow\"\n[limits]\nper_address = 0\n[protector]\nsafe = []\n\
                  level = \"permissive\"\nreset = 0\n"
        .to_owned()
        + &users;
    let s = Arc::new(Server::configured(&config, &[]));
    let control = Control::new(s.data.join("control.sock"));
    let pid = control.get("/v1/status").await.unwrap()["pid"].as_u64().unwrap();
    let seats: Vec<Seat> = (0..CLIENTS).map(|_| Seat::default()).collect();
    let turn = Arc::new(RwLock::new(()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let work = seats.iter().cloned().enumerate().map(|(client, seat)| {
        let (s, turn) = (Arc::clone(&s), Arc::clone(&turn));
        tokio::spawn(async move {
            let mut round = client;
            while Instant::now() < end {
                let _turn = turn.read().await;
                step(&s, client, round, &seat).await;
                round += 1;
            }
            round - client
        })
    });
    let work: Vec<_> = work.collect();
    let (mut samples, mut warm, mut high) = (0_u64, 0, 0);
    let begun = Instant::now();
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _alone = turn.write().await;
        agree(&control, &seats, "the work").await;
        match samples % 4 {
            0 => {
                let who = format!("u{}", samples / 4 % USERS as u64);
                let path = format!("/v1/sessions/terminate?user={who}");
                control.post(&path, &json!({ "reason": "soak" })).await.unwrap();
                assert_eq!(table(&control).await.get(&who), None, "who was ended is still there");
                leave(&seats, |client| name(client) == who).await;
                agree(&control, &seats, "a kill").await;
            }
            1 => {
                control.post("/v1/reload", &Value::Null).await.unwrap();
                agree(&control, &seats, "a reload").await;
            }
            2 => {
                control.post("/v1/bans/add", &json!({ "network": "127.0.0.1" })).await.unwrap();
                assert_eq!(table(&control).await, BTreeMap::new(), "who is banned is still there");
                leave(&seats, |_| true).await;
                assert!(s.try_login("u0", PASSWORD).await.is_err());
                control.post("/v1/bans/remove", &json!({ "network": "127.0.0.1" })).await.unwrap();
                agree(&control, &seats, "a ban").await;
            }
            _ => {}
        }
        samples += 1;
        let now = memory(pid);
        assert!(now < MOST, "{} MiB", now >> 20);
        match begun.elapsed() * 2 < Duration::from_secs(seconds) {
            true => warm = warm.max(now),
            false => high = high.max(now),
        }
    }
    let mut steps = 0;
    for client in work {
        steps += client.await.unwrap();
    }
    agree(&control, &seats, "the end").await;
    assert!(samples > 2 && steps > CLIENTS, "{samples} samples, {steps} steps");
    // A few seconds are no proof of that.
    if seconds >= 60 {
        assert!(high <= warm + GROWTH, "{} MiB grew to {} MiB", warm >> 20, high >> 20);
    }
    let (warm, high) = (warm >> 20, high >> 20);
    println!("{samples} samples, {steps} steps, {warm} MiB in the first half, {high} MiB in the second");
}
