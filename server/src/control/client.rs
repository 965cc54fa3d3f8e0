//! The API's asking side.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
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

    /// Errors: `Disconnected` where no server answers; else the server's, by kind.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// As [`Control::get`]; `Null` sends no body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.call(Method::POST, path, body).await
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let work = self.exchange(method, path, body);
        match tokio::time::timeout(CALL_TIME, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(ErrorKind::TimedOut)
                .with_detail(format!("the ferryd at {} does not answer", self.path.display()))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let nobody = |e: std::io::Error| {
            Error::new(ErrorKind::Disconnected)
                .with_detail(format!("no ferryd answers at {}", self.path.display()))
                .with_source(e)
                .with_hint("start it, or name its socket with --control")
        };
        let lost = |e: hyper::Error| Error::new(ErrorKind::Disconnected).with_source(e);
        let socket = UnixStream::connect(&self.path).await.map_err(nobody)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(lost)?;
        let driving = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "ferryd")
            .body(Full::new(body))
            .map_err(|e| Error::new(ErrorKind::InvalidArgument).with_source(e))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let ok = response.status().is_success();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        driving.abort();
        let body = body
            .map_err(|_| Error::new(ErrorKind::TooLarge).with_detail("the answer is too large"))?
            .to_bytes();
        let value: Value = serde_json::from_slice(&body).map_err(|e| {
            Error::new(ErrorKind::PeerMisbehaved).with_detail("the answer is not JSON").with_source(e)
        })?;
        if ok { Ok(value) } else { Err(problem(&value)) }
    }
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
