//! The way to a server: straight, through a proxy, or over other servers, each of which is checked and
//! entered like any other (ProxyJump in ssh_config(5)).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use session_core::batch::Decider;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::dial::{Dial, Stream, bare};
use session_core::session::{Protocol, Session, Setup};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::{SshConnection, connect};
use super::options::ConnectOptions;

/// How many servers may stand in between.
const MOST_HOPS: usize = 8;

pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// An open way.
pub(super) struct Road {
    pub(super) stream: Box<dyn Transport>,
    /// The connection that carries it.
    pub(super) over: Option<SshConnection>,
    /// The server's address and ours, where nothing stands in between.
    pub(super) ends: Option<(SocketAddr, SocketAddr)>,
}

/// Boxed, because a connection may need another one first.
type Opening<'a> = Pin<Box<dyn Future<Output = Result<Road>> + Send + 'a>>;

/// Opens the way. Errors: those of [`Dial::open`] and, of a server in between, those of [`connect`], saying
/// which one.
pub(super) fn open<'a>(options: &'a ConnectOptions, decider: &'a Arc<dyn Decider>) -> Opening<'a> {
    Box::pin(go(options, decider))
}

async fn go(options: &ConnectOptions, decider: &Arc<dyn Decider>) -> Result<Road> {
    let Some(hop) = &options.jump else {
        let dial = Dial {
            user: options.user.clone(),
            written: options.written.clone(),
            family: options.family,
            source: options.source,
            reach: options.reach.clone(),
            proxy: options.proxy.clone(),
            timeout: options.timeout,
            ..Dial::new(options.host.as_str(), options.port)
        };
        let stream = dial.open().await?;
        let ends = match &stream {
            Stream::Tcp(tcp) if options.proxy.is_direct() => tcp.peer_addr().ok().zip(tcp.local_addr().ok()),
            _ => None,
        };
        return Ok(Road { stream: Box::new(stream), over: None, ends });
    };
    let hops = std::iter::successors(Some(hop), |h| h.jump.as_ref()).take(MOST_HOPS + 1).count();
    if hops > MOST_HOPS {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail(format!("more than {MOST_HOPS} hosts stand in between")));
    }
    let by_way = |e: Error| {
        let words = format!("by way of '{}': {}", hop.host, e.peer_words());
        e.with_detail(words)
    };
    let mut over = (**hop).clone();
    if let (Some(session), None) = (&options.session, &over.session) {
        // What is said to it is told in the same place.
        let setup = Setup::new(Protocol::Sftp, over.host.as_str());
        over.session = Some(Session::new(Setup { talk: session.talk().clone(), ..setup }));
    }
    let connection = connect(over, Arc::clone(decider)).await.map_err(by_way)?;
    let stream = connection.open_tcp(bare(&options.host), options.port).await.map_err(by_way)?;
    Ok(Road { stream: Box::new(stream), over: Some(connection), ends: None })
}
