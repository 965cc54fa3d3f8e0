//! Serves a directory to whoever holds the other end of standard input, a socket: without SSH.
//!
//! `sftp -D "target/debug/examples/stdio DIR"` runs OpenSSH's client against our server half, and
//! nothing else; so the half can be tried and measured alone.
#![allow(clippy::print_stderr)]

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use proto_sftp::server::{Driver, Outgoing};
use session_core::auth::Account;
use session_core::error::{Error, ErrorKind, Result};
use session_core::intercept::Chain;
use session_core::session::{Protocol, Session, Setup};
use session_core::store::local::{LocalOptions, LocalStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;

struct Socket(OwnedWriteHalf);

impl Outgoing for Socket {
    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        Ok(self.0.write_all(&bytes).await?)
    }
}

#[tokio::main]
async fn main() {
    // A task of its own: one that the runtime blocks on is woken from another thread each time.
    let served = tokio::spawn(serve()).await;
    if let Err(e) = served.unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e))) {
        eprintln!("{e:#}");
        std::process::exit(1);
    }
}

async fn serve() -> Result<()> {
    let Some(root) = std::env::args_os().nth(1) else {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("which directory?"));
    };
    let session = Session::new(Setup::new(Protocol::Sftp, "stdio"));
    let identity = session.log_in(Account::named("local"), vec![])?;
    let store = LocalStore::open(root, LocalOptions::default())?;
    let fs = session.guard(&identity, Arc::new(store), Arc::<Chain>::default())?;

    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let (read, write) = tokio::net::UnixStream::from_std(socket)?.into_split();
    let incoming = stream::unfold(read, |mut read| async move {
        let mut buf = BytesMut::with_capacity(256 * 1024);
        match read.read_buf(&mut buf).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(buf.freeze()), read)),
            Err(e) => Some((Err(Error::from(e)), read)),
        }
    });
    Driver::new(fs).run(Box::pin(incoming), Socket(write)).await
}
