//! HTTP/1.1 by the byte: a client that sends text and reads answers, and a server whose answers a test writes.
//!
//! Deliberately not HTTP's own library: what either end must bear is what no library would send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};

use super::PATIENCE;

/// An answer that a client got.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its fields as they came.
    pub fields: Vec<(String, String)>,
    /// Its content.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first field of this name, in whatever case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of every element of this name.
    pub fn all(&self, element: &str) -> Vec<String> {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let text = self.text();
        text.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned())).collect()
    }

    /// The text of the first one; empty without one.
    pub fn one(&self, element: &str) -> String {
        self.all(element).into_iter().next().unwrap_or_default()
    }
}

/// The client's end of a connection.
pub struct Line<S> {
    stream: S,
    buf: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Over this stream.
    pub fn new(stream: S) -> Self {
        Line { stream, buf: Vec::new() }
    }

    /// Sends it as it is.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buf));
        !matches!(read.await.expect("an answer in time"), Ok(0) | Err(_))
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buf.iter().position(|b| *b == b'\n') {
                let line: Vec<_> = self.buf.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buf.len() < n {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buf.drain(..n).collect())
    }

    /// The next answer; `None` where the connection is over, or breaks in the midst of it.
    pub async fn reply(&mut self, head_only: bool) -> Option<Reply> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, fields: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            reply.fields.push((name.to_owned(), value.trim().to_owned()));
        }
        if status == 100 {
            return Some(reply);
        }
        if reply.field("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
                let piece = self.take(size + 2).await?;
                reply.body.extend_from_slice(&piece[..size]);
                if size == 0 {
                    break;
                }
            }
        } else if !head_only && status != 304 && status != 204 {
            let length = reply.field("content-length").map_or(0, |n| n.parse().unwrap());
            reply.body = self.take(length).await?;
        }
        Some(reply)
    }

    /// Whether the connection is over.
    pub async fn is_over(&mut self) -> bool {
        self.buf.is_empty() && !self.fill().await
    }
}

/// A request as a server got it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// What it is for, with the query.
    pub target: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its content, without the lengths of chunks.
    pub body: Vec<u8>,
    /// The body broke off.
    pub torn: bool,
    /// Which connection of the server's it came over.
    pub connection: usize,
}

impl Request {
    /// A field; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The value of a parameter of the query, as it came.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|p| match p.split_once('=') {
            Some((n, value)) if n == name => Some(value),
            None if p == name => Some(""),
            _ => None,
        })
    }

    /// What it is for, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Method and path, and those parameters that make it another operation of S3.
    pub fn line(&self) -> String {
        let mut line = format!("{} {}", self.method, self.path());
        for name in ["uploads", "uploadId", "partNumber", "prefix"] {
            if let Some(value) = self.parameter(name) {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        line
    }
}

/// What a test answers.
pub enum Answer {
    /// These bytes; then the connection goes on.
    Bytes(Vec<u8>),
    /// These bytes, and the connection is closed.
    Last(Vec<u8>),
}

/// An answer with a body, whose length is told.
pub fn answer(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
    let mut out = format!("HTTP/1.1 {status} Words\r\nContent-Length: {}\r\n", body.as_ref().len());
    for header in headers {
        out.push_str(header);
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(body.as_ref());
    Answer::Bytes(out)
}

type Answers = dyn Fn(&Request) -> Answer + Send + Sync;

/// A server whose answers a test writes. It keeps what it was asked.
pub struct Script {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Script {
    /// Answers every request so.
    pub async fn new(answers: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answers, kept): (Arc<Answers>, _) = (Arc::new(answers), Arc::clone(&seen));
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                tokio::spawn(serve(stream, connection, Arc::clone(&answers), Arc::clone(&kept)));
            }
        });
        Script { address, seen }
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, connection: usize, answers: Arc<Answers>, seen: Arc<Mutex<Vec<Request>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = receive(&mut stream, connection).await {
        seen.lock().unwrap().push(request.clone());
        let torn = request.torn;
        let (bytes, last) = match answers(&request) {
            Answer::Bytes(bytes) => (bytes, torn),
            Answer::Last(bytes) => (bytes, true),
        };
        if stream.write_all(&bytes).await.is_err() || last {
            return;
        }
    }
}

async fn receive(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let line = read_line(stream).await.filter(|l| !l.is_empty())?;
    let mut words = line.split(' ');
    let mut request = Request {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        connection,
        ..Request::default()
    };
    loop {
        let line = read_line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if request.header("transfer-encoding") == "chunked" {
        loop {
            let Some(size) = read_line(stream).await.and_then(|l| usize::from_str_radix(&l, 16).ok()) else {
                request.torn = true;
                return Some(request);
            };
            let mut chunk = vec![0; size + 2];
            if stream.read_exact(&mut chunk).await.is_err() {
                request.torn = true;
                return Some(request);
            }
            if size == 0 {
                return Some(request);
            }
            request.body.extend_from_slice(&chunk[..size]);
        }
    }
    let length = request.header("content-length").parse().unwrap_or(0);
    let mut body = Vec::new();
    let _ = stream.take(length).read_to_end(&mut body).await;
    request.torn = body.len() as u64 != length;
    request.body = body;
    Some(request)
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(n) if n > 0 => Some(line.trim_end().to_owned()),
        _ => None,
    }
}
