//! The API over TCP: the answers of the control socket, for who shows a token.
//!
//! A listener of its own, apart from every data listener; none unless the configuration asks for it, and TLS
//! unless nobody else can reach it. A token comes as `Authorization: Bearer …` and in no other way: nothing
//! that a browser adds by itself proves anything. Who shows wrong ones is not listened to for a while.
//! Connections, handshakes, heads and bodies are bounded in number, time and size.
//!
//! Deliberately absent: HTTP/2, pages for people, cross-origin requests.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::server_tls::ServerTls;
use session_core::registry::network;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::api::{Caller, ControlState, REQUEST_TIME};
use super::serve::talk;

/// Connections at once; more wait in the socket's queue.
const CONNECTIONS: usize = 64;

/// Wrong tokens of one address before it is not listened to.
const TRIES: u32 = 10;
/// For how long, and in which they are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const MOST: usize = 4096;

/// Who showed wrong tokens, how many, since when.
#[derive(Default)]
struct Failures(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Failures {
    /// One address of IPv4, a /64 of IPv6.
    fn who(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            v6 => network(v6),
        }
    }

    fn is_out(&self, address: IpAddr, now: Instant) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&Self::who(address))
            .is_some_and(|(n, since)| *n >= TRIES && now.duration_since(*since) < WINDOW)
    }

    fn add(&self, address: IpAddr, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        }
        if all.len() >= MOST {
            // A flood from everywhere: the oldest makes room.
            if let Some(oldest) = all.iter().min_by_key(|(_, (_, since))| *since).map(|(a, _)| *a) {
                all.remove(&oldest);
            }
        }
        let entry = all.entry(Self::who(address)).or_insert((0, now));
        if now.duration_since(entry.1) >= WINDOW {
            *entry = (0, now);
        }
        entry.0 += 1;
    }
}

/// Answers on `socket` until `shutdown` fires.
pub async fn serve_network(
    socket: TcpListener,
    tls: Option<Arc<ServerTls>>,
    state: ControlState,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let failures = Arc::<Failures>::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, socket.accept().await)
            } => accepted,
        };
        let (Ok(slot), Ok((stream, peer))) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (state, failures, shutdown) = (state.clone(), Arc::clone(&failures), shutdown.clone());
        let tls = tls.clone();
        tokio::spawn(async move {
            converse(stream, peer, tls, state, failures, shutdown).await;
            drop(slot);
        });
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    state: ControlState,
    failures: Arc<Failures>,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let desk = Arc::clone(&state.desk);
    let who = move |request: &Request<Incoming>| {
        let (id, name, role) = bearer(request, peer, &failures, |text| desk.bearer(text))?;
        let actor = format!("token {id} {name} from {}", peer.ip().to_canonical());
        Ok(Caller { actor, role, token: Some(id) })
    };
    let Some(tls) = tls else {
        return talk(TokioIo::new(stream), state, who, shutdown).await;
    };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    match tokio::time::timeout(REQUEST_TIME, handshake).await {
        Ok(Ok(stream)) => talk(TokioIo::new(stream), state, who, shutdown).await,
        Ok(Err(e)) => tracing::debug!(%peer, error = %e, "a connection to the API did not speak TLS"),
        Err(_) => tracing::debug!(%peer, "a connection to the API said nothing"),
    }
}

/// Whose token the request shows.
fn bearer<T>(
    request: &Request<Incoming>,
    peer: SocketAddr,
    failures: &Failures,
    find: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    let now = Instant::now();
    if failures.is_out(peer.ip(), now) {
        return Err(Error::new(ErrorKind::Throttled).with_detail("too many wrong tokens; try later"));
    }
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let Some(shown) = shown else {
        return Err(Error::new(ErrorKind::Unauthenticated)
            .with_detail("this takes a token: Authorization: Bearer ferry_…")
            .with_hint("`ferryd token add` makes one"));
    };
    let token = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.and_then(|(_, text)| find(text.trim())).ok_or_else(|| {
        failures.add(peer.ip(), now);
        tracing::warn!(address = %peer.ip().to_canonical(), "a wrong token was shown to the API");
        Error::new(ErrorKind::Unauthenticated).with_detail("this token is not good")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_are_counted_by_address_for_a_while() {
        let failures = Failures::default();
        let start = Instant::now();
        let guess = |address: &str, times: u32, at: Duration| {
            (0..times).for_each(|_| failures.add(address.parse().unwrap(), start + at));
        };
        let out = |address: &str, at: Duration| failures.is_out(address.parse().unwrap(), start + at);
        let zero = Duration::ZERO;
        guess("192.0.2.1", TRIES - 1, zero);
        assert!(!out("192.0.2.1", zero));
        guess("::ffff:192.0.2.1", 1, zero);
        assert!(out("192.0.2.1", zero) && !out("192.0.2.2", zero));
        assert!(!out("192.0.2.1", WINDOW), "it ends");
        guess("192.0.2.1", 1, WINDOW);
        assert!(!out("192.0.2.1", WINDOW), "and is counted anew");
        guess("2001:db8::1", TRIES, zero);
        assert!(out("2001:db8::ffff", zero) && !out("2001:db8:0:1::1", zero));
        for n in 0..2 * MOST {
            failures.add(IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]), start);
        }
        assert!(failures.0.lock().unwrap().len() <= MOST);
    }
}
