//! The API's asking side: one connection for each call, every answer and every wait bounded.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use session_core::error::{Error, ErrorKind, Result};
use tokio::net::UnixStream;

/// The largest answer that is read, bytes: about a hundred thousand sessions.
const MAX_ANSWER: usize = 256 << 20;

/// Time for one call. A terminate waits a second at most.
const CALL_TIME: Duration = Duration::from_secs(30);

/// A server's control socket.
#[derive(Clone, Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// The socket at `path`.
    pub fn new(path: PathBuf) -> Self {
        Control { path }
    }

    /// Errors: `Disconnected` where no server answers, `TimedOut` where one answers too late,
    /// `PermissionDenied` where the socket is not ours to use; else the server's, by kind.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// As [`Control::get`]; `Null` sends no body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.call(Method::POST, path, body).await
    }

    /// Whether somebody answers there.
    pub async fn is_there(&self) -> bool {
        UnixStream::connect(&self.path).await.is_ok()
    }

    /// Any call; errors as of [`Control::get`].
    pub(crate) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let work = self.exchange(method, path, body);
        match tokio::time::timeout(CALL_TIME, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(ErrorKind::TimedOut)
                .with_detail(format!("the ferryd at {} does not answer", self.path.display()))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let lost = |e: hyper::Error| {
            if e.is_parse() {
                return Error::new(ErrorKind::PeerMisbehaved)
                    .with_detail(format!("who answers at {} is no ferryd", self.path.display()))
                    .with_source(e);
            }
            Error::new(ErrorKind::Disconnected)
                .with_detail(format!("the ferryd at {} hung up", self.path.display()))
                .with_source(e)
        };
        let socket = UnixStream::connect(&self.path).await.map_err(|e| unreached(&self.path, e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(lost)?;
        let driving = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "ferryd")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| Error::new(ErrorKind::InvalidArgument).with_source(e))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let ok = response.status().is_success();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        driving.abort();
        let body = body
            .map_err(|e| match e.downcast_ref::<LengthLimitError>() {
                Some(_) => Error::new(ErrorKind::TooLarge).with_detail("the answer is too large"),
                None => Error::new(ErrorKind::Disconnected).with_detail("the answer ended early"),
            })?
            .to_bytes();
        let value: Value = serde_json::from_slice(&body).map_err(|e| {
            Error::new(ErrorKind::PeerMisbehaved).with_detail("the answer is not JSON").with_source(e)
        })?;
        if ok { Ok(value) } else { Err(problem(&value)) }
    }
}

fn unreached(path: &Path, e: io::Error) -> Error {
    let path = path.display();
    if e.kind() == io::ErrorKind::PermissionDenied {
        return Error::new(ErrorKind::PermissionDenied)
            .with_detail(format!("the control socket {path} may not be used by you"))
            .with_source(e)
            .with_hint("run this as the user that ferryd runs as, or as root");
    }
    Error::new(ErrorKind::Disconnected)
        .with_detail(format!("no ferryd answers at {path}"))
        .with_source(e)
        .with_hint("start it, or name its socket with --control")
}

fn problem(value: &Value) -> Error {
    let text = |key: &str| value.get("error").and_then(|e| e.get(key)).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    let kind = ErrorKind::ALL.into_iter().find(|k| k.name() == kind).unwrap_or(ErrorKind::Internal);
    let e = Error::new(kind).with_detail(text("message").unwrap_or("no reason was given").to_string());
    match text("hint") {
        Some(hint) => e.with_hint(hint.to_string()),
        None => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// A peer that answers every call with these bytes and hangs up.
    async fn asked(answer: &'static str) -> Error {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = socket.read(&mut head).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        let e = Control::new(path).get("/v1/status").await.err().unwrap();
        peer.await.unwrap();
        e
    }

    #[tokio::test]
    async fn a_peer_that_misbehaves_is_told_apart() {
        assert_eq!(asked("").await.kind(), ErrorKind::Disconnected);
        assert_eq!(asked("SSH-2.0-Other\r\n\r\n").await.kind(), ErrorKind::PeerMisbehaved);
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(asked(text).await.kind(), ErrorKind::PeerMisbehaved);
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{";
        assert_eq!(asked(short).await.kind(), ErrorKind::Disconnected);
        let foreign = "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(asked(foreign).await.kind(), ErrorKind::Internal);
        let ours = "HTTP/1.1 404 No\r\nConnection: close\r\n\r\n\
                    {\"error\":{\"kind\":\"not-found\",\"message\":\"gone\",\"hint\":\"look\"}}";
        let e = asked(ours).await;
        assert_eq!((e.kind(), e.detail(), e.hint()), (ErrorKind::NotFound, Some("gone"), Some("look")));
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_path_and_a_cure() {
        let e = Control::new("/nonexistent/c.sock".into()).get("/v1/status").await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Disconnected);
        assert_eq!(e.to_string(), "no ferryd answers at /nonexistent/c.sock");
        assert!(e.hint().unwrap().contains("--control"));
        let e = unreached(Path::new("/c.sock"), io::ErrorKind::PermissionDenied.into());
        assert_eq!(e.kind(), ErrorKind::PermissionDenied);
    }
}
