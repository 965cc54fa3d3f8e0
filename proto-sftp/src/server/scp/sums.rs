//! `sha256sum` and its kin: a line for each file, as GNU's print it.
//!
//! Without files the sum is that of the input, which is how clients find out what a server knows.

use bytes::{Bytes, BytesMut};
use futures_util::stream::Stream;
use session_core::digest::{self, Hasher};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Algorithm, OpenOptions};
use session_core::gate::SessionFs;
use session_core::path::{VPath, display_bytes};
use session_core::session::Argument;

use super::words::Word;
use super::{Peer, Terminal};
use crate::server::digest::of_file;
use crate::wire::extension::CheckFile;

/// The most that is taken of an input: it is hashed where it arrives.
const MAX_INPUT: u64 = 1 << 20;

pub(super) async fn run<I, O>(
    peer: &mut Peer<I, O>,
    algorithm: Algorithm,
    name: &'static str,
    files: Vec<Word>,
) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    if files.is_empty() {
        let sum = input(peer, algorithm).await?;
        return peer.outgoing.send(line(&sum, b"-")).await;
    }
    for word in files {
        let text = word.text();
        let paths = match peer.all(word.clone()).await {
            Ok(paths) => paths,
            Err(e) => {
                complain(peer, name, &text, e).await?;
                continue;
            }
        };
        for path in paths {
            // As it was asked for; where a pattern was, as it is.
            let shown = if word.is_pattern() { path.as_bytes() } else { &text };
            match sum(&peer.fs, algorithm, name, &path).await {
                Ok(sum) => peer.outgoing.send(line(&sum, shown)).await?,
                Err(e) => complain(peer, name, shown, e).await?,
            }
        }
    }
    Ok(())
}

async fn sum(fs: &SessionFs, algorithm: Algorithm, name: &'static str, path: &VPath) -> Result<Bytes> {
    let session = fs.session().clone();
    let _running = session.begin_command(name, Argument::Path(path.clone()));
    let file = fs.open_file(path, &OpenOptions::read()).await?;
    of_file(&*file, &CheckFile::default(), algorithm).await
}

async fn input<I, O>(peer: &mut Peer<I, O>, algorithm: Algorithm) -> Result<Bytes>
where
    I: Stream<Item = Result<Bytes>> + Unpin + Send,
    O: Terminal,
{
    let (mut hasher, mut taken) = (Hasher::new(algorithm), 0);
    while let Some(piece) = peer.piece().await? {
        taken += piece.len() as u64;
        if taken > MAX_INPUT {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("only files are summed at length"));
        }
        hasher.update(&piece);
    }
    Ok(hasher.finish())
}

/// A line of output: names that a line cannot hold are escaped, and the line says so.
fn line(sum: &[u8], name: &[u8]) -> Bytes {
    let escaped = name.iter().any(|b| matches!(b, b'\\' | b'\n' | b'\r'));
    let mut out = BytesMut::new();
    if escaped {
        out.extend_from_slice(b"\\");
    }
    out.extend_from_slice(digest::hex(sum).as_bytes());
    out.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            plain => out.extend_from_slice(&[*plain]),
        }
    }
    out.extend_from_slice(b"\n");
    out.freeze()
}

async fn complain<I, O>(peer: &mut Peer<I, O>, name: &str, at: &[u8], error: Error) -> Result<()>
where
    O: Terminal,
{
    if error.kind() == ErrorKind::Canceled {
        return Err(error);
    }
    peer.errors += 1;
    peer.fs.session().note_status(1);
    let words = format!("{name}: {}: {}\n", display_bytes(at), error.peer_words());
    peer.outgoing.complain(words.into()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_gnus() {
        assert_eq!(line(&[0xab, 0x01], b"a b"), "ab01  a b\n");
        assert_eq!(line(&[0xab], b"a\\b\nc"), "\\ab  a\\\\b\\nc\n");
    }
}
