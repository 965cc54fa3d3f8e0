//! A server of HTTP/1.1 whose answers a test writes.
//!
//! Requests are read by the byte and kept; an answer is bytes. Deliberately not HTTP's own library: what a
//! client must bear is what no library would send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use session_core::batch::Decider;
use session_core::path::VPath;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use proto_webdav::client::{WebdavConnectOptions, WebdavRemote, connect};

/// A request as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// The body broke off.
    pub torn: bool,
    /// Which connection of the server's it came over.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
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

/// A multistatus with these responses: href, and the properties that are told.
pub fn multistatus(responses: &[(&str, &str)]) -> Answer {
    let mut body = "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">".to_owned();
    for (href, properties) in responses {
        body.push_str(&format!(
            "<D:response><D:href>{href}</D:href><D:propstat><D:prop>{properties}</D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        ));
    }
    body.push_str("</D:multistatus>");
    answer(207, &["Content-Type: application/xml"], body)
}

/// Properties of a directory.
pub const DIRECTORY: &str = "<D:resourcetype><D:collection/></D:resourcetype>";

/// Properties of a file.
pub fn file(size: usize) -> String {
    format!("<D:resourcetype/><D:getcontentlength>{size}</D:getcontentlength>")
}

type Answers = dyn Fn(&Request) -> Answer + Send + Sync;

pub struct Scripted {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Answers every request so. Its root is a directory, and OPTIONS names no server, where `answers` says
    /// nothing else (404 to a request for the root).
    pub async fn new(answers: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Scripted {
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
        Scripted { address, seen }
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The lines of what was asked, but for what every login asks.
    pub fn lines(&self) -> Vec<String> {
        let all = self.seen();
        all.iter().skip_while(|r| r.method != "OPTIONS").skip(1).map(Request::line).collect()
    }

    pub fn options(&self) -> WebdavConnectOptions {
        let mut options = WebdavConnectOptions::new("127.0.0.1", self.address.port());
        options.secure = false;
        options
    }

    pub async fn remote(&self) -> WebdavRemote {
        connect(self.options(), decider()).await.unwrap()
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

/// Nobody is there to answer.
pub fn decider() -> Arc<dyn Decider> {
    Arc::new(session_core::batch::Unattended)
}

pub fn p(path: &str) -> VPath {
    VPath::absolute(path).unwrap()
}

/// What every server says at first: the root is a directory; and of files, how large they are.
pub fn usual(r: &Request, files: &[(&str, usize)]) -> Answer {
    match r.method.as_str() {
        "OPTIONS" => answer(200, &["DAV: 1, 2", "Allow: GET, PUT"], ""),
        "PROPFIND" if r.target == "/" => multistatus(&[("/", DIRECTORY)]),
        "PROPFIND" => match files.iter().find(|(path, _)| *path == r.target) {
            Some((path, size)) => multistatus(&[(path, &file(*size))]),
            None => answer(404, &[], ""),
        },
        _ => answer(405, &[], ""),
    }
}

/// Content in which every byte tells where it is.
pub fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 251 + n) as u8).collect()
}

/// A range of the content, as it was asked for; the whole where none was.
pub fn ranged(r: &Request, content: &[u8], etag: &str) -> Answer {
    let etag = format!("ETag: {etag}");
    let Some(from) = r.header("range").strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')) else {
        return answer(200, &[&etag], content);
    };
    let from: usize = from.parse().unwrap();
    if from >= content.len() {
        return answer(416, &[&format!("Content-Range: bytes */{}", content.len())], "");
    }
    let range = format!("Content-Range: bytes {from}-{}/{}", content.len() - 1, content.len());
    answer(206, &[&etag, &range], &content[from..])
}
