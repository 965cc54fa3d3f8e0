//! Pipelined requests give the same replies and the same tree as requests sent one by one, whatever the
//! order in which the store's calls end.
#![cfg(feature = "server")]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::*;
use bytes::Bytes;
use proto_sftp::wire::extension::Extended;
use proto_sftp::wire::{Attrs, Reply, Request};

/// Small numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn path(&mut self) -> Bytes {
        let names = ["/d", "/d/a", "/d/b", "/e", "/e/a", "/d/s", "/d/s/x", "/f"];
        Bytes::from_static(names[self.roll(names.len() as u64) as usize].as_bytes())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Open {
    /// Read or written in place; its path is asked for by nobody.
    Private(u64),
    /// Written anew.
    Staged(u64),
    Listing(u64),
}

fn request(dice: &mut Dice, open: &mut Vec<Open>) -> Request {
    let wire = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    if dice.roll(2) == 0 && !open.is_empty() {
        let place = dice.roll(open.len() as u64) as usize;
        let which = open[place];
        let (Open::Private(n) | Open::Staged(n) | Open::Listing(n)) = which;
        let handle = wire(n);
        if let Open::Listing(_) = which {
            if dice.roll(3) > 0 {
                return Request::Readdir { handle };
            }
            open.remove(place);
            return Request::Close { handle };
        }
        let offset = dice.roll(12);
        let len = 1 + dice.roll(8);
        return match dice.roll(10) {
            0 | 1 => Request::Read { handle, offset, len: len as u32 },
            2..=5 => {
                let data = Bytes::from(vec![b'a' + dice.roll(26) as u8; len as usize]);
                Request::Write { handle, offset, data }
            }
            6 => Request::Fstat { handle },
            7 => {
                let attrs = Attrs { size: Some(offset), ..Attrs::default() };
                Request::Fsetstat { handle, attrs }
            }
            8 => Request::Extended(Extended::Fsync { handle }),
            _ => {
                open.remove(place);
                Request::Close { handle }
            }
        };
    }
    let path = dice.path();
    let attrs = Attrs { mode: Some(0o600 + dice.roll(64) as u32), ..Attrs::default() };
    match dice.roll(11) {
        0 => Request::Mkdir { path, attrs },
        1 => Request::Rmdir { path },
        2 => Request::Remove { path },
        3 => Request::Rename { from: path, to: dice.path() },
        4 => Request::Extended(Extended::PosixRename { from: path, to: dice.path() }),
        5 => Request::Setstat { path, attrs },
        6 => Request::Open { path, flags: WRITE | CREATE | TRUNCATE, attrs },
        7 => Request::Opendir { path },
        8 => Request::Open { path, flags: READ, attrs },
        _ => Request::Stat { path },
    }
}

/// Plays rounds of requests; a handle is used from the round after its open on.
async fn play(store: &Arc<Store>, seed: u64, pipelined: bool) -> (Vec<String>, Vec<BTreeMap<u32, Reply>>) {
    store.mkdir("/d");
    store.mkdir("/d/s");
    store.mkdir("/e");
    store.mkdir("/private");
    store.put("/d/a", b"old content");
    store.put("/f", b"f");
    for i in 0..3 {
        store.put(&format!("/private/{i}"), b"0123456789");
    }
    let mut client = Client::connect(guarded(store, vec![]), 1 << 20).await;
    let mut dice = Dice(seed);
    let mut open = Vec::new();
    for i in 0..3 {
        let h = client.open(&format!("/private/{i}"), READ | WRITE).await;
        open.push(Open::Private(u64::from_be_bytes(h[..].try_into().unwrap())));
    }
    let mut log = Vec::new();
    for _ in 0..6 {
        let requests: Vec<_> = (0..12).map(|_| request(&mut dice, &mut open)).collect();
        let replies = if pipelined {
            client.send(0, &requests).await;
            client.replies(requests.len()).await
        } else {
            let mut replies = BTreeMap::new();
            for (i, r) in requests.iter().enumerate() {
                client.send(i as u32, std::slice::from_ref(r)).await;
                replies.append(&mut client.replies(1).await);
            }
            replies
        };
        for (id, reply) in &replies {
            if let Reply::Handle(h) = reply {
                let n = u64::from_be_bytes(h[..].try_into().unwrap());
                match &requests[*id as usize] {
                    Request::Opendir { .. } => open.push(Open::Listing(n)),
                    Request::Open { flags, .. } if flags & WRITE != 0 => open.push(Open::Staged(n)),
                    // Read handles only hold the place; their content may be replaced.
                    _ => {}
                }
            }
        }
        log.push(replies);
    }
    client.finish().await.unwrap();
    (store.dump(), log)
}

#[tokio::test]
async fn pipelined_is_as_one_by_one() {
    let mut differences = 0;
    for seed in 1..=150 {
        let serial = play(&Store::new(), seed, false).await;
        for jitter in 1..=3 {
            let store = Store::with_jitter(seed * 1000 + jitter);
            let pipelined = play(&store, seed, true).await;
            for (round, (a, b)) in serial.1.iter().zip(&pipelined.1).enumerate() {
                assert_eq!(a, b, "seed {seed}, jitter {jitter}, round {round}");
            }
            assert_eq!(serial.0, pipelined.0, "seed {seed}, jitter {jitter}");
        }
        differences += usize::from(serial.0.len() != 8);
    }
    assert!(differences > 50, "the scripts change the tree");
}

/// The three that clients are known to send in one segment.
#[tokio::test]
async fn what_clients_send_in_one_segment() {
    let b = |s: &'static str| Bytes::from_static(s.as_bytes());
    for seed in 1..40 {
        let store = Store::with_jitter(seed);
        let mut c = Client::connect(guarded(&store, vec![]), 1 << 20).await;
        let h = c.open("/part", READ | WRITE | CREATE | TRUNCATE).await;
        c.send(
            0,
            &[
                Request::Write { handle: h.clone(), offset: 0, data: b("content") },
                Request::Read { handle: h.clone(), offset: 0, len: 100 },
                Request::Close { handle: h },
                Request::Rename { from: b("/part"), to: b("/whole") },
                Request::Mkdir { path: b("/new"), attrs: Attrs::default() },
                Request::Open {
                    path: b("/new/file"),
                    flags: WRITE | CREATE | TRUNCATE,
                    attrs: Attrs::default(),
                },
            ],
        )
        .await;
        let replies = c.replies(6).await;
        assert_eq!(replies[&1], Reply::Data(b("content")));
        for id in [0, 2, 3, 4] {
            assert_eq!(code(&replies[&id]), Some(0), "reply {id}");
        }
        assert!(matches!(replies[&5], Reply::Handle(_)));
        assert_eq!(store.content("/whole").as_deref(), Some(&b"content"[..]));
    }
}
