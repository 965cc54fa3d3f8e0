//! A server of ICAP (RFC 3507) that does as a test says: each connection a thread, each request shown to the script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A request, as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Its head.
    pub head: String,
    /// The heads of HTTP in it.
    pub http: String,
    /// The body so far.
    pub body: Vec<u8>,
    /// All of it has come.
    pub whole: bool,
}

/// What it does.
pub enum Reply {
    /// Says this.
    Say(Vec<u8>),
    /// Asks for the rest, and answers then.
    Continue,
    /// Hangs up without a word.
    HangUp,
}

/// What it does with all requests.
enum Does {
    /// Gives chunk by chunk back what it is sent, behind this, without waiting for the end.
    Echo(Vec<u8>),
    /// As the test says.
    Script(Box<dyn Fn(&Asked) -> Reply + Send + Sync>),
}

/// What is wrapped around a connection: nothing, or TLS.
pub type Wrap = dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync;

pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

pub struct IcapServer {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    /// Requests but OPTIONS, once they were whole or answered.
    pub seen: Arc<Mutex<Vec<Asked>>>,
    /// How often it was asked for its options.
    pub options: Arc<AtomicUsize>,
}

/// An answer with these further fields.
pub fn answer(status: &str, fields: &str) -> Vec<u8> {
    format!("ICAP/1.0 {status}\r\nISTag: \"W3E4R7U9\"\r\n{fields}\r\n").into_bytes()
}

/// An answer that gives a message of HTTP back, with this body in two chunks.
pub fn given_back(part: &str, http: &str, body: &[u8]) -> Vec<u8> {
    let at = http.len();
    let mut said = answer("200 OK", &format!("Encapsulated: {part}-hdr=0, {part}-body={at}\r\n"));
    said.extend_from_slice(http.as_bytes());
    let (first, second) = body.split_at(body.len() / 2);
    for chunk in [first, second].iter().filter(|c| !c.is_empty()) {
        said.extend_from_slice(format!("{:X};ext=1\r\n", chunk.len()).as_bytes());
        said.extend_from_slice(chunk);
        said.extend_from_slice(b"\r\n");
    }
    said.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
    said
}

impl IcapServer {
    pub fn start(options: &str, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> IcapServer {
        IcapServer::wrapped(options, script, |stream| Box::new(stream))
    }

    /// One that takes no preview and echoes.
    pub fn echo(options: &str, said: Vec<u8>) -> IcapServer {
        IcapServer::run(options, Does::Echo(said), Arc::new(|stream| Box::new(stream)))
    }

    pub fn wrapped(
        options: &str,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
    ) -> IcapServer {
        IcapServer::run(options, Does::Script(Box::new(script)), Arc::new(wrap))
    }

    fn run(options: &str, does: Does, wrap: Arc<Wrap>) -> IcapServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = IcapServer {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            seen: Arc::default(),
            options: Arc::default(),
        };
        let (connections, seen) = (Arc::clone(&server.connections), Arc::clone(&server.seen));
        let (asked, options) = (Arc::clone(&server.options), answer("200 OK", options));
        let does = Arc::new(does);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (asked, options, seen) = (Arc::clone(&asked), options.clone(), Arc::clone(&seen));
                let (does, wrap) = (Arc::clone(&does), Arc::clone(&wrap));
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(wrap(stream));
                    while let Ok(true) = serve(&mut stream, &does, &seen, (&asked, &options)) {}
                });
            }
        });
        server
    }

    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Lines up to an empty one, that one included.
fn head(stream: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while stream.read_line(&mut head)? > 0 && !head.ends_with("\r\n\r\n") {}
    Ok(head)
}

/// The next chunk; empty at the end, with whether it was the end of all.
fn chunk(stream: &mut impl BufRead) -> std::io::Result<(Vec<u8>, bool)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let (size, ext) = line.trim_end().split_once(';').unwrap_or((line.trim_end(), ""));
    let size = usize::from_str_radix(size, 16).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes)?;
    assert!(bytes.ends_with(b"\r\n"));
    bytes.truncate(size);
    Ok((bytes, ext.trim() == "ieof"))
}

/// Chunks up to an end; whether it was the end of all.
fn rest(stream: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let (bytes, is_end_of_all) = chunk(stream)?;
        if bytes.is_empty() {
            return Ok(is_end_of_all);
        }
        body.extend_from_slice(&bytes);
    }
}

/// Whether the connection goes on.
fn serve(
    stream: &mut BufReader<Box<dyn Stream>>,
    does: &Does,
    seen: &Mutex<Vec<Asked>>,
    (asked, options): (&AtomicUsize, &[u8]),
) -> std::io::Result<bool> {
    let mut now = Asked { head: head(stream)?, ..Asked::default() };
    if now.head.is_empty() {
        return Ok(false);
    }
    if now.head.starts_with("OPTIONS ") {
        asked.fetch_add(1, Ordering::SeqCst);
        stream.get_mut().write_all(options)?;
        return Ok(true);
    }
    let list = now.head.lines().find_map(|l| l.strip_prefix("Encapsulated: ")).unwrap();
    let mut http = vec![0; list.rsplit_once('=').unwrap().1.parse().unwrap()];
    stream.read_exact(&mut http)?;
    now.http = String::from_utf8(http).unwrap();
    let is_preview = now.head.contains("\r\nPreview: ");
    if let Does::Echo(said) = does {
        stream.get_mut().write_all(said)?;
        loop {
            let (bytes, _) = chunk(stream)?;
            let line = format!("{:x}\r\n", bytes.len());
            now.body.extend_from_slice(&bytes);
            stream.get_mut().write_all(&[line.as_bytes(), &bytes, b"\r\n"].concat())?;
            if bytes.is_empty() {
                now.whole = true;
                seen.lock().unwrap().push(now);
                return Ok(true);
            }
        }
    }
    let Does::Script(script) = does else { return Ok(false) };
    now.whole = rest(stream, &mut now.body)? || !is_preview;
    let mut reply = script(&now);
    if matches!(reply, Reply::Continue) && !now.whole {
        stream.get_mut().write_all(b"ICAP/1.0 100 Continue\r\n\r\n")?;
        rest(stream, &mut now.body)?;
        now.whole = true;
        reply = script(&now);
    }
    let Reply::Say(said) = reply else { return Ok(false) };
    seen.lock().unwrap().push(now);
    stream.get_mut().write_all(&said)?;
    Ok(true)
}
