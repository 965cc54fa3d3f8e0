//! A link with a long round trip, made of threads: what comes in at one end leaves the other some time later.
//!
//! Per connection and direction one thread reads and one writes; between them the bytes wait until they are
//! due. No cap on the rate: everything that is due leaves at once, whatever it came with. At most [`HELD`]
//! bytes wait in a direction, far beyond what a peer's window lets through in one round trip.
//! Not promised: connections that stand when it is dropped live on until an end closes them.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{Result, While, ensure};

/// Bytes that may be under way in one direction: 1.3 GB/s at 50 ms.
const HELD: usize = 64 << 20;
const PIECE: usize = 256 << 10;

/// The link. It takes connections until it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) port: u16,
    own: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on a free port of the loopback and leads to `port` there; every byte takes `delay` each way.
    /// Setting up a connection costs nothing but the time to the first reply.
    pub(super) fn start(port: u16, delay: Duration) -> Result<Self> {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), port, delay)
    }

    /// The same at an address and port of the caller's choice.
    pub(super) fn at(near: SocketAddr, port: u16, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind(near).doing(|| format!("opening the link at {near}"))?;
        let own = listener.local_addr().doing(|| "opening the link".to_owned())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                // An end that has gone shows in the threads.
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
                carry(near, far, delay);
                carry(far_too, near_too, delay);
            }
        });
        Ok(Self { port: own.port(), own, stop })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; if it does not listen any more, it needs no waking.
        let _ = TcpStream::connect(self.own);
    }
}

/// What is under way in one direction.
#[derive(Default)]
struct Line {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the end of the stream is due.
    end: Option<Instant>,
    /// The far end takes nothing more.
    is_broken: bool,
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one direction of a connection.
fn carry(from: TcpStream, to: TcpStream, delay: Duration) {
    let shared = Arc::new(Shared::default());
    let other = Arc::clone(&shared);
    thread::spawn(move || take_in(from, &other, delay));
    thread::spawn(move || let_out(to, &shared));
}

fn take_in(mut from: TcpStream, shared: &Shared, delay: Duration) {
    let mut buffer = vec![0; PIECE];
    loop {
        let n = from.read(&mut buffer).unwrap_or(0);
        let due = Instant::now() + delay;
        let piece = buffer.get(..n).unwrap_or_default().to_vec();
        let mut line = shared.lock();
        while line.bytes > HELD && !line.is_broken {
            line = shared.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        if line.is_broken || n == 0 {
            line.end = Some(due);
            shared.changed.notify_all();
            // The other side may still be sending to it: only this half is over.
            let _ = from.shutdown(Shutdown::Read);
            return;
        }
        line.bytes += n;
        line.pieces.push_back((due, piece));
        shared.changed.notify_all();
    }
}

fn let_out(mut to: TcpStream, shared: &Shared) {
    loop {
        let mut line = shared.lock();
        let due = loop {
            match (line.pieces.front().map(|(due, _)| *due), line.end) {
                (Some(due), _) | (None, Some(due)) => break due,
                (None, None) => line = shared.changed.wait(line).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(line);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut line = shared.lock();
        let Some((_, piece)) = line.pieces.pop_front() else {
            // The end was due.
            let _ = to.shutdown(Shutdown::Write);
            return;
        };
        drop(line);
        let sent = to.write_all(&piece);
        line = shared.lock();
        line.bytes -= piece.len();
        line.is_broken = sent.is_err();
        shared.changed.notify_all();
        if line.is_broken {
            line.pieces.clear();
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// What the link does to plain TCP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// The median of the round trips of one byte, in milliseconds.
    pub(super) round_trip: f64,
    /// One stream in one direction, in MB/s, from the first byte that arrives to the last.
    pub(super) rate: f64,
}

/// Sends bytes through a link of its own. Errors: the bytes do not arrive as they were.
pub(super) fn check(delay: Duration, bytes: usize) -> Result<Checked> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "opening a port".to_owned())?;
    let address = listener.local_addr().doing(|| "opening a port".to_owned())?;
    let proxy = Proxy::start(address.port(), delay)?;
    let mut near = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, proxy.port)))
        .doing(|| "connecting through the link".to_owned())?;
    let (mut far, _) = listener.accept().doing(|| "accepting through the link".to_owned())?;
    for end in [&near, &far] {
        end.set_nodelay(true).doing(|| "setting up the link".to_owned())?;
        end.set_read_timeout(Some(Duration::from_secs(30))).doing(|| "setting up the link".to_owned())?;
    }
    let mut trips = Vec::new();
    for number in 0..20_u8 {
        let start = Instant::now();
        let mut byte = [number];
        near.write_all(&byte).and_then(|()| far.read_exact(&mut byte)).doing(|| "sending".to_owned())?;
        far.write_all(&byte).and_then(|()| near.read_exact(&mut byte)).doing(|| "replying".to_owned())?;
        ensure!(byte == [number], "the link changes a byte");
        trips.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let sender = thread::spawn(move || {
        let piece: Vec<u8> = (0..PIECE).map(|at| (at % 251) as u8).collect();
        for _ in 0..bytes / PIECE {
            if near.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = near.shutdown(Shutdown::Write);
    });
    let expected: Vec<u8> = (0..PIECE).map(|at| (at % 251) as u8).collect();
    let mut buffer = vec![0; PIECE];
    let mut start = None;
    for _ in 0..bytes / PIECE {
        far.read_exact(&mut buffer).doing(|| "receiving through the link".to_owned())?;
        start.get_or_insert_with(Instant::now);
        ensure!(buffer == expected, "the link changes bytes");
    }
    let seconds = start.map_or(f64::INFINITY, |start| start.elapsed().as_secs_f64());
    let end = far.read(&mut buffer).doing(|| "waiting for the end".to_owned())?;
    ensure!(end == 0, "the link adds bytes");
    ensure!(sender.join().is_ok(), "the sender of the check panicked");
    trips.sort_by(f64::total_cmp);
    let round_trip = trips.get(trips.len() / 2).copied().unwrap_or(f64::INFINITY);
    Ok(Checked { round_trip, rate: bytes as f64 / seconds / 1e6 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_arrive() {
        let checked = check(Duration::from_millis(10), 8 << 20).unwrap();
        assert!(checked.round_trip >= 20.0 && checked.round_trip < 60.0, "{checked:?}");
    }

    #[test]
    fn a_closed_end_closes_the_other() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().port(), Duration::from_millis(1)).unwrap();
        let near = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        drop(near);
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    }
}
