//! A data connection: a socket, TLS that resumes its login's session, compression (MODE Z).
//!
//! The end of what a server sends is told by the end of the connection, which anybody on the way can forge
//! in the clear; whether all has arrived is the final reply's word, for which `transfer` waits.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use futures_util::FutureExt as _;
use rustix::net::sockopt::set_socket_linger;
use session_core::error::{Error, ErrorKind, Result, Retry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::control::Wire;
use super::login::Dialer;
use super::stream::CutStream;
use session_core::net::client_tls::TlsLogin;

/// How much is read at a time where it is decompressed.
const PIECE: usize = 64 * 1024;

/// How long our end of a finished connection may take.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);

/// How the connection comes about.
pub(super) enum Way {
    /// We connect: the passive port, and where the control connection leads to.
    To(SocketAddr, SocketAddr),
    /// The server connects, from its own address.
    From(TcpListener, SocketAddr),
}

pub(super) struct Data {
    wire: Wire,
    codec: Option<Codec>,
    /// TLS ended without a farewell.
    pub(super) torn: bool,
}

struct Codec {
    inflate: Decompress,
    deflate: Compress,
    raw: BytesMut,
    ended: bool,
}

fn corrupt(e: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

/// Opens it, with TLS where the login has it.
pub(super) async fn open(
    way: Way,
    dialer: &Dialer,
    tls: Option<TlsLogin>,
    compressed: bool,
    uploads: bool,
) -> Result<Data> {
    let timeout = dialer.options.timeout;
    let late = || {
        Error::new(ErrorKind::TimedOut)
            .with_detail("the data connection does not come about")
            .with_hint("a firewall may be in between; try the other mode (active, passive)")
    };
    let opening = async {
        let stream = match way {
            Way::To(address, peer) => dialer.dial_data(address, peer, uploads).await.map_err(|e| {
                let words = format!("the data connection fails: {}", e.peer_words());
                e.with_detail(words)
                    .with_retry(Retry::Later(None))
                    .with_hint("a firewall may be in between, or the server names a wrong address")
            })?,
            Way::From(listener, server) => loop {
                let (stream, from) = listener.accept().await?;
                // Anybody may find the port; only the server is let in.
                if from.ip().to_canonical() == server.ip().to_canonical() {
                    let _ = stream.set_nodelay(true);
                    if uploads {
                        set_socket_linger(&stream, Some(Duration::ZERO)).map_err(io::Error::from)?;
                    }
                    break stream;
                }
                tracing::warn!(%from, "a data connection that is not the server's was refused");
            },
        };
        let stream = CutStream::new(stream, dialer, Some(timeout))?;
        let wire = match tls {
            None => Wire::Plain(stream),
            Some(login) => Wire::Tls(Box::new(login.connect(stream).await.map_err(Error::from)?)),
        };
        let codec = compressed.then(|| Codec {
            inflate: Decompress::new(true),
            deflate: Compress::new(Compression::fast(), true),
            raw: BytesMut::new(),
            ended: false,
        });
        Ok(Data { wire, codec, torn: false })
    };
    tokio::time::timeout(timeout, opening).await.map_err(|_| late())?
}

impl Data {
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Appends up to `len` bytes of content; 0 at the end.
    pub(super) async fn read(&mut self, buf: &mut BytesMut, len: usize) -> io::Result<usize> {
        let Some(codec) = &mut self.codec else {
            return read_raw(&mut self.wire, buf, len, &mut self.torn).await;
        };
        loop {
            if codec.ended {
                return Ok(0);
            }
            if codec.raw.is_empty()
                && read_raw(&mut self.wire, &mut codec.raw, PIECE, &mut self.torn).await? == 0
            {
                let (seen, made) = (codec.inflate.total_in(), codec.inflate.total_out());
                codec.ended = true;
                // Nothing at all is how some servers send an empty file.
                return if seen == 0 && made == 0 { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let had = buf.len();
            let (in_before, out_before) = (codec.inflate.total_in(), codec.inflate.total_out());
            buf.resize(had + len.min(PIECE), 0);
            let out = buf.get_mut(had..).unwrap_or_default();
            let status = codec.inflate.decompress(&codec.raw, out, FlushDecompress::None).map_err(corrupt);
            let made = usize::try_from(codec.inflate.total_out() - out_before).unwrap_or(0);
            let eaten = usize::try_from(codec.inflate.total_in() - in_before).unwrap_or(0);
            buf.truncate(had + made);
            let _ = codec.raw.split_to(eaten.min(codec.raw.len()));
            codec.ended = status? == Status::StreamEnd;
            if made > 0 {
                return Ok(made);
            }
        }
    }

    /// Sends all of `data`.
    pub(super) async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.codec {
            None => self.wire.write_all(data).await,
            Some(codec) => {
                let mut rest = data;
                while !rest.is_empty() {
                    let before = codec.deflate.total_in();
                    codec.raw.clear();
                    let mut out = Vec::with_capacity(PIECE);
                    codec.deflate.compress_vec(rest, &mut out, FlushCompress::None).map_err(corrupt)?;
                    let eaten = usize::try_from(codec.deflate.total_in() - before).unwrap_or(0);
                    rest = rest.get(eaten..).unwrap_or_default();
                    self.wire.write_all(&out).await?;
                }
                Ok(())
            }
        }
    }

    /// Says that this was all.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        if let Some(codec) = &mut self.codec {
            loop {
                let mut out = Vec::with_capacity(PIECE);
                let status =
                    codec.deflate.compress_vec(&[], &mut out, FlushCompress::Finish).map_err(corrupt)?;
                self.wire.write_all(&out).await?;
                if status == Status::StreamEnd {
                    break;
                }
            }
        }
        self.wire.flush().await?;
        if let Some(socket) = self.wire.socket() {
            set_socket_linger(socket, None)?;
        }
        self.wire.shutdown().await
    }

    /// Ends our side after the server has ended its own.
    pub(super) async fn hang_up(&mut self) {
        let _ = tokio::time::timeout(FAREWELL, self.wire.shutdown()).await;
        self.wire = Wire::Gone;
    }

    /// Takes what has arrived, without waiting.
    pub(super) fn take_waiting(&mut self) {
        let mut sink = BytesMut::with_capacity(4096);
        for _ in 0..4 {
            sink.clear();
            if !matches!(self.wire.read_buf(&mut sink).now_or_never(), Some(Ok(n)) if n > 0) {
                return;
            }
        }
    }

    /// Reads what a server says on a connection that only it should be reading from (TLS tickets, its
    /// farewell), until it hangs up. Closing before that could reset the connection under the last bytes.
    pub(super) async fn drain(&mut self) {
        let mut sink = BytesMut::with_capacity(4096);
        while matches!(self.wire.read_buf(&mut sink).await, Ok(n) if n > 0) {
            sink.clear();
        }
    }
}

impl Drop for Data {
    /// TLS tickets that came with the handshake are not lost with a transfer that was given up.
    fn drop(&mut self) {
        if matches!(self.wire, Wire::Tls(_)) {
            self.take_waiting();
        }
    }
}

async fn read_raw(wire: &mut Wire, buf: &mut BytesMut, len: usize, torn: &mut bool) -> io::Result<usize> {
    use bytes::BufMut as _;
    buf.reserve(len);
    match wire.read_buf(&mut buf.limit(len)).await {
        // TLS without a farewell. Whether all is there is what the final reply says, over the control
        // connection, which is protected.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            *torn = true;
            Ok(0)
        }
        read => read,
    }
}
