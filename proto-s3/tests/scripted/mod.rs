//! A server of HTTP/1.1 whose answers a test writes.
//!
//! Requests are read by the byte and kept; an answer is bytes. Deliberately not HTTP's own library: what a
//! client must bear is what no library would send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use session_core::auth::Secret;
use session_core::batch::Decider;
use session_core::path::VPath;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use proto_s3::client::{S3ConnectOptions, S3Login, S3Remote, connect};

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

    /// The value of a parameter of the query, as it came.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|p| match p.split_once('=') {
            Some((n, value)) if n == name => Some(value),
            None if p == name => Some(""),
            _ => None,
        })
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Method and path, and what makes it another operation than they say.
    pub fn line(&self) -> String {
        let mut line = format!("{} {}", self.method, self.path());
        for name in ["uploads", "uploadId", "partNumber", "prefix"] {
            if let Some(value) = self.parameter(name) {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        line
    }

    /// The region that it is signed for.
    pub fn region(&self) -> &str {
        self.header("authorization").split('/').nth(2).unwrap_or_default()
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

/// An error of S3.
pub fn error(status: u16, code: &str, headers: &[&str]) -> Answer {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words of it</Message></Error>");
    answer(status, &[&["Content-Type: application/xml"], headers].concat(), body)
}

/// A page of a listing: the objects with their sizes, and the common prefixes.
pub fn listing(objects: &[(&str, usize)], prefixes: &[&str], next: Option<&str>) -> Answer {
    let mut body = "<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType>".to_owned();
    body.push_str(&format!("<IsTruncated>{}</IsTruncated>", next.is_some()));
    for (key, size) in objects {
        body.push_str(&format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>&quot;{key}&quot;</ETag>\
             <LastModified>2026-11-21T17:00:00.000Z</LastModified></Contents>"
        ));
    }
    for prefix in prefixes {
        body.push_str(&format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"));
    }
    if let Some(next) = next {
        body.push_str(&format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    }
    body.push_str("</ListBucketResult>");
    answer(200, &["Content-Type: application/xml"], body)
}

/// The head of an object, without its content.
pub fn head(size: usize, etag: &str) -> Answer {
    Answer::Bytes(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: \"{etag}\"\r\n\
             Last-Modified: Sat, 21 Nov 2026 17:00:00 GMT\r\n\r\n"
        )
        .into_bytes(),
    )
}

type Answers = dyn Fn(&Request) -> Answer + Send + Sync;

pub struct Scripted {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Answers every request so.
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

    /// The lines of what was asked, without queries that tell nothing.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Request::line).collect()
    }

    pub fn options(&self) -> S3ConnectOptions {
        let mut options = S3ConnectOptions::new("127.0.0.1", self.address.port());
        options.secure = false;
        options.home = p("/bucket");
        options.login = S3Login::Key { id: "AKIATEST".into(), secret: Secret::new("s3cr3t"), token: None };
        options
    }

    pub async fn remote(&self) -> S3Remote {
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
