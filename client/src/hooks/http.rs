//! `fetch`: one HTTP/1.1 request for a handler, over TCP or TLS.
//!
//! The name is resolved once and the connection goes to an address of that answer which may be reached:
//! loopback, private, link-local and other special networks are refused unless the configuration allows
//! them, so that a handler cannot be led inside by a name. No redirect is followed, no proxy used, no
//! cookie kept. Bodies and headers are bounded; the time is the handler's.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::{ClientTls, ClientTlsOptions};
use session_core::net::reach::is_public;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::field;

/// The largest body, either way.
const BODY: usize = 4 << 20;

/// What a handler may not set: they are the connection's.
const OURS: &[&str] =
    &["connection", "content-length", "host", "transfer-encoding", "upgrade", "te", "trailer", "expect"];

/// Who makes them.
#[derive(Debug)]
pub struct Client {
    allowed: Vec<IpNet>,
}

fn invalid(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

fn lost(e: hyper::Error) -> Error {
    let kind = if e.is_parse() { ErrorKind::PeerMisbehaved } else { ErrorKind::Disconnected };
    Error::new(kind).with_detail("the request failed").with_source(e)
}

impl Client {
    /// Public networks may be reached, and these.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Client { allowed }
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|n| n.contains(&address))
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((bare, port)).await.map_err(|e| {
            Error::new(ErrorKind::NotFound).with_detail(format!("'{bare}' has no address")).with_source(e)
        })?;
        let found: Vec<SocketAddr> = found.collect();
        let reachable: Vec<SocketAddr> = found.iter().copied().filter(|a| self.may_reach(a.ip())).collect();
        if reachable.is_empty() {
            return Err(Error::refused(format!("'{bare}' is in a network that handlers may not reach")));
        }
        let mut last = None;
        for address in reachable {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = Some(e),
            }
        }
        let e = Error::new(ErrorKind::Disconnected).with_detail(format!("'{bare}' cannot be reached"));
        Err(match last {
            Some(last) => e.with_source(last),
            None => e,
        })
    }

    /// What `fetch` does: `{ url, method, headers, body }`. Errors: `Refused` for networks that may not be reached;
    /// `InvalidArgument`; those of the connection; `TooLarge`. Dropped, it leaves nothing open.
    pub async fn fetch(&self, arguments: &Value) -> Result<Value> {
        let text = |key: &str| field(arguments, key).as_str().unwrap_or_default();
        let uri: Uri = text("url").parse().map_err(|_| invalid("this is no URL"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid("only http and https are spoken")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("the URL names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("a URL with a password in it is refused: use a header"));
        }
        let host = authority.host().to_string();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let request = request(arguments, &uri, authority.as_str())?;

        let stream = self.connect(&host, port).await?;
        if !https {
            return exchange(stream, request).await;
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_string();
        // Reads the system's authorities from disk.
        let tls =
            tokio::task::spawn_blocking(move || ClientTls::new(&name, port, &ClientTlsOptions::default()));
        let tls = tls.await.map_err(|_| Error::new(ErrorKind::Internal))??;
        let stream = tls.login(None).connect(stream).await.map_err(Error::from)?;
        exchange(stream, request).await
    }
}

fn request(arguments: &Value, uri: &Uri, host: &str) -> Result<Request<Full<Bytes>>> {
    let method = Method::from_bytes(field(arguments, "method").as_str().unwrap_or("GET").as_bytes())
        .map_err(|_| invalid("this is no method"))?;
    if method == Method::CONNECT {
        return Err(invalid("CONNECT is not for handlers"));
    }
    let body = match field(arguments, "body").as_str() {
        Some(text) => STANDARD.decode(text).map_err(|_| invalid("the body is not right"))?,
        None => Vec::new(),
    };
    if body.len() > BODY {
        return Err(Error::new(ErrorKind::TooLarge).with_detail("the body is larger than 4 MiB"));
    }
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(hyper::header::HOST, host)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| invalid(e.to_string()))?;
    for header in field(arguments, "headers").as_array().into_iter().flatten() {
        let part = |n: usize| header.get(n).and_then(Value::as_str);
        let (Some(name), Some(value)) = (part(0), part(1)) else {
            return Err(invalid("a header is a name and a text"));
        };
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("this is no header's name"))?;
        if OURS.contains(&name.as_str()) {
            return Err(invalid(format!("the header '{name}' is not for handlers to set")));
        }
        let mut value =
            HeaderValue::from_str(value).map_err(|_| invalid("a header's value holds what it may not"))?;
        value.set_sensitive(true);
        request.headers_mut().append(name, value);
    }
    let agent = HeaderValue::from_static(concat!("ferryd/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(hyper::header::USER_AGENT).or_insert(agent);
    Ok(request)
}

/// Ends the task when dropped.
struct Driving(tokio::task::JoinHandle<()>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Value> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let _driving = Driving(tokio::spawn(async move {
        // Its error is the request's.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.map_err(lost)?;
    let status = response.status().as_u16();
    let headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let body = Limited::new(response.into_body(), BODY).collect().await.map_err(|e| {
        match e.is::<http_body_util::LengthLimitError>() {
            true => Error::new(ErrorKind::TooLarge).with_detail("the answer is larger than 4 MiB"),
            false => Error::new(ErrorKind::Disconnected).with_detail("the answer broke off"),
        }
    })?;
    Ok(json!({ "status": status, "headers": headers, "body": STANDARD.encode(body.to_bytes()) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn special_networks_are_not_public() {
        let refused = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 \
            192.0.2.1 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 ::1 :: fe80::1 fc00::1 ff02::1 \
            ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::a00:1 2002:7f00:1:: 2001:db8::1 2001::1";
        for address in refused.split(' ').map(str::trim).filter(|a| !a.is_empty()) {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in
            ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// A server that takes one request and gives this answer.
    async fn served(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            let is_whole = |asked: &[u8]| {
                asked.ends_with(b"BODY") || asked.starts_with(b"GET") && asked.ends_with(b"\r\n\r\n")
            };
            while !is_whole(&asked) {
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).await.unwrap();
                if n == 0 {
                    break;
                }
                asked.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        (port, task)
    }

    fn local() -> Client {
        Client::new(vec!["127.0.0.0/8".parse().unwrap()])
    }

    #[tokio::test]
    async fn a_request_goes_out_and_its_answer_comes_back() {
        let (port, task) = served("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nhi").await;
        let told = local()
            .fetch(&json!({
                "url": format!("http://localhost:{port}/hook?a=b"), "method": "POST",
                "headers": [["X-Sign", "abc"]], "body": STANDARD.encode("BODY"),
            }))
            .await
            .unwrap();
        // A redirect is an answer.
        assert_eq!((told["status"].as_u64(), told["body"].as_str()), (Some(302), Some("aGk=")));
        let asked = task.await.unwrap();
        assert!(asked.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{asked}");
        for line in ["x-sign: abc", &format!("host: localhost:{port}"), "content-length: 4"] {
            assert!(asked.contains(&format!("{line}\r\n")), "{line} in {asked}");
        }
    }

    #[tokio::test]
    async fn what_is_inside_is_refused_by_name_and_by_number() {
        for url in
            ["http://127.0.0.1:1/", "http://localhost:1/", "http://[::1]:1/", "http://169.254.169.254/"]
        {
            let e = Client::new(vec![]).fetch(&json!({ "url": url })).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Refused, "{url}: {e:#}");
        }
    }

    #[tokio::test]
    async fn bad_requests_are_refused() {
        for (url, header, value) in [
            ("ftp://localhost/", "a", "b"),
            ("/path", "a", "b"),
            ("http://u:p@localhost/", "a", "b"),
            ("http://localhost/", "Host", "other"),
            ("http://localhost/", "Transfer-Encoding", "chunked"),
            ("http://localhost/", "a", "b\r\nc: d"),
            ("http://localhost/", "a b", "c"),
        ] {
            let e = local().fetch(&json!({ "url": url, "headers": [[header, value]] })).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{url} {header}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        let big: &'static str = Box::leak(format!("{head}{}", "x".repeat(BODY + 1)).into_boxed_str());
        let (port, _task) = served(big).await;
        let e = local().fetch(&json!({ "url": format!("http://localhost:{port}/") })).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooLarge);
    }
}
