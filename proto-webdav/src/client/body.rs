//! Bodies: what goes out, whole or as it comes, and what comes in.
//!
//! A body that flows ends only with [`Piece::End`]; if whoever writes it goes away before, the body fails
//! and the connection is broken off, so that no server takes what has arrived for the whole. One whose length
//! was told never has another one. What comes in is read under an idle time-out; a body that was read to its
//! end gives its connection back, any other takes the connection with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use session_core::error::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::lines::Lease;

/// A part of a body that flows.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    End,
}

/// A body that goes out.
#[derive(Debug)]
pub(super) enum Out {
    /// At once; `None` once it was taken.
    Whole(Option<Bytes>),
    /// As it comes; with what is left of the length that was told.
    Flow { pieces: mpsc::Receiver<Piece>, left: Option<u64>, ended: bool },
}

impl Out {
    pub(super) fn whole(bytes: Bytes) -> Out {
        Out::Whole(Some(bytes).filter(|b| !b.is_empty()))
    }

    /// The same once more, where that can be.
    pub(super) fn again(&self) -> Option<Out> {
        match self {
            Out::Whole(bytes) => Some(Out::Whole(bytes.clone())),
            Out::Flow { .. } => None,
        }
    }

    /// A body that flows, and its source. Few pieces wait in between.
    pub(super) fn flow(length: Option<u64>) -> (mpsc::Sender<Piece>, Out) {
        let (source, pieces) = mpsc::channel(4);
        (source, Out::Flow { pieces, left: length, ended: false })
    }
}

fn torn(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, words)
}

impl Body for Out {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Out::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Out::Flow { ended: true, .. } => Poll::Ready(None),
            Out::Flow { pieces, left, ended } => {
                let piece = match pieces.poll_recv(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(piece) => piece,
                };
                match piece {
                    Some(Piece::Data(bytes)) => {
                        if let Some(left) = left {
                            match left.checked_sub(bytes.len() as u64) {
                                Some(less) => *left = less,
                                None => return Poll::Ready(Some(Err(torn("more than was announced")))),
                            }
                        }
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    Some(Piece::End) if left.is_none_or(|left| left == 0) => {
                        *ended = true;
                        Poll::Ready(None)
                    }
                    Some(Piece::End) => Poll::Ready(Some(Err(torn("less than was announced")))),
                    None => Poll::Ready(Some(Err(torn("the upload was given up")))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Out::Whole(bytes) => bytes.is_none(),
            Out::Flow { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Out::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Out::Flow { left: Some(left), .. } => SizeHint::with_exact(*left),
            Out::Flow { .. } => SizeHint::default(),
        }
    }
}

/// A body that comes in.
pub(super) struct In {
    inner: Incoming,
    lease: Option<Lease>,
    timeout: Duration,
    ended: bool,
}

impl In {
    pub(super) fn new(inner: Incoming, lease: Lease, timeout: Duration) -> In {
        In { inner, lease: Some(lease), timeout, ended: false }
    }

    /// Others may open connections as if this one were not there: for what is read at leisure and cannot be
    /// asked for again.
    pub(super) fn keep(mut self) -> In {
        if let Some(lease) = &mut self.lease {
            lease.free();
        }
        self
    }

    /// The next bytes, never none; `None` at the end. Errors: `Disconnected` for a body that breaks off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let frame = match tokio::time::timeout(self.timeout, self.inner.frame()).await {
                Err(_) => {
                    self.lease = None;
                    self.ended = true;
                    return Err(Error::new(ErrorKind::TimedOut)
                        .with_detail("the server stopped in the middle of its answer"));
                }
                Ok(frame) => frame,
            };
            match frame {
                None => {
                    self.ended = true;
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    return Ok(None);
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => {
                        if let Some(lease) = &self.lease {
                            lease.moved();
                        }
                        return Ok(Some(data));
                    }
                    _ => {}
                },
                Some(Err(e)) => {
                    let cut = self.lease.take().is_some_and(|lease| lease.is_cut());
                    self.ended = true;
                    let kind = if cut { ErrorKind::Canceled } else { ErrorKind::Disconnected };
                    return Err(Error::new(kind)
                        .with_detail("the server's answer breaks off")
                        .with_source(e));
                }
            }
        }
    }

    /// All of it, if it is no longer than `most`. Errors: `PeerMisbehaved` for a longer one.
    pub(super) async fn all(mut self, most: usize) -> Result<Bytes> {
        let mut out = BytesMut::new();
        while let Some(part) = self.next().await? {
            if out.len() + part.len() > most {
                return Err(
                    Error::new(ErrorKind::PeerMisbehaved).with_detail("the server's answer is too long")
                );
            }
            out.extend_from_slice(&part);
        }
        Ok(out.freeze())
    }

    /// The beginning of it, for words; what is short is read to its end, so that the connection stays.
    pub(super) async fn beginning(mut self) -> Bytes {
        const WORDS: usize = 16 << 10;
        let mut out = BytesMut::new();
        while out.len() < WORDS {
            match self.next().await {
                Ok(Some(part)) => out.extend_from_slice(&part),
                _ => break,
            }
        }
        out.truncate(WORDS);
        out.freeze()
    }
}
