//! A server of ICAP (RFC 3507): an upload is shown as the body of a PUT (REQMOD), or of an answer (RESPMOD) where
//! the service takes only that.
//!
//! What a service does it says itself (OPTIONS), which holds for as long as it says, an hour at most. Where it wants
//! a preview the beginning goes ahead, and the rest when it asks. 204 is clean; so is a 200 that gives back the very
//! bytes. A field that names what was found, an answer of HTTP in the content's place and other content are
//! objections; whatever is no answer is a fault. Connections are kept; one that was closed meanwhile is replaced.
//!
//! Deliberately absent: who the client is (X-Client-IP and its kin), lists of extensions (Transfer-…), 206.

mod head;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::Uri;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;
use session_core::net::client_tls::{ClientTls, ClientTlsOptions, TlsLogin};
use session_core::net::dial::Dial;
use session_core::path::display_bytes;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter, ReadHalf, WriteHalf,
};

use self::head::{Head, Part, chunk_size};
use super::{Answer, CHUNK, Fault, Feed, Shown, Stream, fault};
use crate::config::Scan as Settings;
use crate::control::commands::encode;

/// The longest head of an answer, bytes; also all heads in it, and all lines behind its body.
const HEAD: usize = 32 << 10;

/// The longest line of a chunk.
const CHUNK_LINE: usize = 256;

/// The most that goes ahead, whatever the server would take.
const PREVIEW: u64 = 64 << 10;

/// How long it is believed what a service does.
const OPTIONS: Duration = Duration::from_secs(3600);

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(60);

/// How long the scanner's reason is waited for when it takes no more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The longest name of a find that is told.
const NAME: usize = 200;

/// The host of the messages that an upload is shown in: nobody's (RFC 2606).
const PLACE: &str = "ferry.invalid";

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    secure: bool,
    host: String,
    port: u16,
    /// Host and port as they were written.
    authority: String,
    /// All of it.
    uri: String,
}

impl Address {
    /// Whether TLS is spoken.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }
}

/// What a URL says; the error says what is wrong.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let form = "a server of ICAP is icap://host/service or icaps://host/service";
    let uri: Uri = text.parse().map_err(|_| form.to_owned())?;
    let secure = match uri.scheme_str() {
        Some("icap") => false,
        Some("icaps") => true,
        _ => return Err(form.to_owned()),
    };
    let authority = uri.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
    if authority.contains('@') {
        return Err("nobody logs in to a server of ICAP".to_owned());
    }
    let named = uri.host().unwrap_or_default();
    // What is too large for a port is none to the library.
    let says_port = authority.len() > named.len();
    let host = named.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() || (says_port && uri.port_u16().is_none_or(|port| port == 0)) {
        return Err(form.to_owned());
    }
    let port = uri.port_u16().unwrap_or(if secure { 11344 } else { 1344 });
    Ok(Address { secure, host, port, authority, uri: uri.to_string() })
}

/// How an upload is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// As the body of a request: REQMOD.
    Request,
    /// As that of an answer: RESPMOD.
    Response,
}

/// What the service does.
#[derive(Clone, Copy, Debug)]
struct Offered {
    method: Method,
    /// So much goes ahead.
    preview: Option<u64>,
    until: Instant,
}

type Read = BufReader<ReadHalf<Box<dyn Stream>>>;
type Write = BufWriter<WriteHalf<Box<dyn Stream>>>;

/// A connection.
struct Line {
    read: Read,
    write: Write,
    used: Instant,
}

/// Why nothing was heard.
enum Failed {
    /// It hung up before a word: it may have been about to, before it was asked.
    Left,
    Fault(Fault),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Failed::Fault(fault)
    }
}

fn wrong(words: impl Into<String>) -> Fault {
    Fault::Scanner(fault(words))
}

/// The client of one service.
pub(super) struct Icap {
    address: Address,
    tls: Option<TlsLogin>,
    offered: Mutex<Option<Offered>>,
    idle: Mutex<Vec<Line>>,
    most: usize,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Icap {
    /// `None` where none is configured. Blocks: it reads authorities from disk. Errors: those of reading them.
    pub(super) fn new(settings: &Settings) -> Result<Option<Self>> {
        let Some(text) = &settings.icap else { return Ok(None) };
        let address =
            address(text).map_err(|words| Error::new(ErrorKind::InvalidArgument).with_detail(words))?;
        let authorities = settings.authorities.iter().cloned().collect();
        let options = ClientTlsOptions { authorities, ..ClientTlsOptions::default() };
        let tls = address.secure.then(|| ClientTls::new(&address.host, address.port, &options));
        let tls = tls.transpose()?.map(|tls| tls.login(None));
        let most = settings.connections;
        Ok(Some(Icap { address, tls, offered: Mutex::default(), idle: Mutex::default(), most }))
    }

    /// The verdict, and the digest of what is clean.
    pub(super) async fn ask(&self, shown: &Shown<'_>) -> Result<(Answer, Option<(Algorithm, Bytes)>), Fault> {
        loop {
            let kept = self.kept();
            let was_kept = kept.is_some();
            let mut line = match kept {
                Some(line) => line,
                None => self.connect().await.map_err(Fault::Scanner)?,
            };
            let mut feed = Feed::new(shown);
            match self.show(&mut line, shown, &mut feed).await {
                Ok((answer, stays)) => {
                    if stays {
                        self.keep(line);
                    }
                    let digest = if answer == Answer::Clean { feed.digest().await? } else { None };
                    return Ok((answer, digest));
                }
                Err(Failed::Left) if was_kept => {}
                Err(failed) => {
                    // It may have changed its mind about what it does.
                    *lock(&self.offered) = None;
                    return Err(match failed {
                        Failed::Fault(fault) => fault,
                        Failed::Left => wrong("the scanner hung up"),
                    });
                }
            }
        }
    }

    fn kept(&self) -> Option<Line> {
        let mut idle = lock(&self.idle);
        idle.retain(|line| line.used.elapsed() < IDLE);
        idle.pop()
    }

    fn keep(&self, mut line: Line) {
        line.used = Instant::now();
        let mut idle = lock(&self.idle);
        if idle.len() < self.most {
            idle.push(line);
        }
    }

    async fn connect(&self) -> Result<Line> {
        let stream = Dial::new(&self.address.host, self.address.port).tcp().await?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(tls.connect(stream).await?),
            None => Box::new(stream),
        };
        let (read, write) = tokio::io::split(stream);
        Ok(Line { read: BufReader::new(read), write: BufWriter::new(write), used: Instant::now() })
    }

    /// What the service does, asked where that is not known.
    async fn learn(&self, line: &mut Line) -> Result<Offered, Failed> {
        let known = *lock(&self.offered);
        if let Some(offered) = known.filter(|offered| Instant::now() < offered.until) {
            return Ok(offered);
        }
        let Address { uri, authority, .. } = &self.address;
        let asked = format!(
            "OPTIONS {uri} ICAP/1.0\r\nHost: {authority}\r\nUser-Agent: Ferry\r\nEncapsulated: null-body=0\r\n\r\n"
        );
        let sent = async {
            line.write.write_all(asked.as_bytes()).await?;
            line.write.flush().await
        };
        // Whoever does not take it has nothing to say to it.
        sent.await.map_err(|_| Failed::Left)?;
        let head = read_head(&mut line.read).await?.ok_or(Failed::Left)?;
        if !matches!(head.status, 200 | 204) {
            return Err(wrong(format!("the scanner answers OPTIONS with {}", head.status)).into());
        }
        let method = match (head.lists("Methods", "REQMOD"), head.lists("Methods", "RESPMOD")) {
            (true, _) => Method::Request,
            (false, true) => Method::Response,
            (false, false) => return Err(wrong("this service of the scanner's looks at nothing").into()),
        };
        let held = head.number("Options-TTL").map_or(OPTIONS, Duration::from_secs).min(OPTIONS);
        let preview = head.number("Preview").map(|most| most.min(PREVIEW));
        let offered = Offered { method, preview, until: Instant::now() + held };
        *lock(&self.offered) = Some(offered);
        if closes(&head) || head.parts().is_some_and(|parts| parts.body != Part::NoBody) {
            *line = self.connect().await.map_err(Fault::Scanner)?;
        }
        Ok(offered)
    }

    /// The verdict, and whether the connection can be used again.
    async fn show(
        &self,
        line: &mut Line,
        shown: &Shown<'_>,
        feed: &mut Feed<'_>,
    ) -> Result<(Answer, bool), Failed> {
        let offered = self.learn(line).await?;
        let Line { read, write, .. } = line;
        let mut begin = self.request(offered, shown);
        if let Some(most) = offered.preview {
            let whole = shown.size <= most;
            let end: &[u8] = if whole { b"0; ieof\r\n\r\n" } else { b"0\r\n\r\n" };
            let head = match send(write, &begin, feed, most, end).await {
                Ok(()) => read_head(read).await?,
                Err(Fault::Scanner(_)) => last_words(read_head(read)).await.flatten(),
                Err(content) => return Err(content.into()),
            };
            let head = head.ok_or(Failed::Left)?;
            if head.status != 100 {
                return Ok(verdict(&head, read, offered.method, shown).await?);
            }
            if whole {
                return Err(wrong("the scanner asks for more than there is").into());
            }
            begin.clear();
        }
        // It may answer while it is still being told, and what it gives back must be taken off it.
        let hearing = async {
            let head = read_head(read).await?.ok_or(Failed::Left)?;
            verdict(&head, read, offered.method, shown).await.map_err(Failed::Fault)
        };
        let sending = send(write, &begin, feed, u64::MAX, b"0\r\n\r\n");
        tokio::pin!(hearing, sending);
        tokio::select! {
            biased;
            heard = &mut hearing => heard.map(|(answer, _)| (answer, false)),
            sent = &mut sending => match sent {
                Ok(()) => hearing.await,
                Err(Fault::Scanner(_)) => {
                    last_words(hearing).await.map(|(answer, _)| (answer, false)).ok_or(Failed::Left)
                }
                Err(content) => Err(content.into()),
            },
        }
    }

    /// The head of what an upload is shown in.
    fn request(&self, offered: Offered, shown: &Shown<'_>) -> Vec<u8> {
        let Address { uri, authority, .. } = &self.address;
        let (name, size) = (encode(shown.path.name()), shown.size);
        let about = format!("Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n");
        let (verb, heads, list) = match offered.method {
            Method::Request => {
                let head = format!("PUT http://{PLACE}/{name} HTTP/1.1\r\nHost: {PLACE}\r\n{about}");
                let list = format!("req-hdr=0, req-body={}", head.len());
                ("REQMOD", head, list)
            }
            Method::Response => {
                let asked = format!("GET http://{PLACE}/{name} HTTP/1.1\r\nHost: {PLACE}\r\n\r\n");
                let both = format!("{asked}HTTP/1.1 200 OK\r\n{about}");
                let list = format!("req-hdr=0, res-hdr={}, res-body={}", asked.len(), both.len());
                ("RESPMOD", both, list)
            }
        };
        let preview = offered.preview.map(|most| format!("Preview: {most}\r\n")).unwrap_or_default();
        format!(
            "{verb} {uri} ICAP/1.0\r\nHost: {authority}\r\nUser-Agent: Ferry\r\nAllow: 204\r\n{preview}\
             Encapsulated: {list}\r\n\r\n{heads}"
        )
        .into_bytes()
    }
}

/// What is said within a moment by somebody who takes no more.
async fn last_words<T, E>(hearing: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(LAST_WORDS, hearing).await.ok().and_then(Result::ok)
}

fn closes(head: &Head) -> bool {
    head.lists("Connection", "close")
}

/// A head and then content in chunks, `most` at most, and their end.
async fn send(to: &mut Write, head: &[u8], feed: &mut Feed<'_>, most: u64, end: &[u8]) -> Result<(), Fault> {
    to.write_all(head).await?;
    let mut left = most;
    while left > 0 {
        let chunk = feed.next(usize::try_from(left).unwrap_or(CHUNK)).await?;
        if chunk.is_empty() {
            break;
        }
        to.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        to.write_all(&chunk).await?;
        to.write_all(b"\r\n").await?;
        left -= chunk.len() as u64;
    }
    to.write_all(end).await?;
    Ok(to.flush().await?)
}

/// A line with its end, added to `to`, which may have `most` bytes then. How many; 0 where nothing comes any more.
async fn read_line(from: &mut Read, to: &mut Vec<u8>, most: usize) -> Result<usize, Fault> {
    let room = most.saturating_sub(to.len());
    let read = from.take(room as u64).read_until(b'\n', to).await?;
    match to.last() {
        Some(b'\n') => Ok(read),
        _ if read < room => Ok(0),
        _ => Err(wrong("the scanner says too much")),
    }
}

/// The head of the next answer; `None` where it hung up before a word.
async fn read_head(from: &mut Read) -> Result<Option<Head>, Fault> {
    let mut bytes = Vec::new();
    loop {
        let begun = bytes.len();
        match read_line(from, &mut bytes, HEAD).await {
            Ok(0) | Err(Fault::Scanner(_)) if bytes.is_empty() => return Ok(None),
            Ok(0) => return Err(wrong("the scanner hung up")),
            Ok(_) => {}
            Err(e) => return Err(e),
        }
        if matches!(bytes.get(begun..), Some(b"\r\n" | b"\n")) {
            let head = Head::parse(&bytes, "ICAP");
            return head.map(Some).ok_or_else(|| wrong("what the scanner says is no ICAP"));
        }
    }
}

/// The verdict, and whether the connection can be used again.
async fn verdict(
    head: &Head,
    from: &mut Read,
    method: Method,
    shown: &Shown<'_>,
) -> Result<(Answer, bool), Fault> {
    if let Some(name) = head.threat() {
        return Ok((found(&name), false));
    }
    let answer = match head.status {
        204 => Answer::Clean,
        200 => given_back(head, from, method, shown).await?,
        // Of HTTP and not of RFC 3507, and clear enough.
        403 => Answer::Objects("ICAP 403".into()),
        status => return Err(wrong(format!("the scanner answers {status}"))),
    };
    let stays = answer == Answer::Clean && !closes(head);
    Ok((answer, stays))
}

fn found(name: &str) -> Answer {
    Answer::Found(display_bytes(name.as_bytes()).chars().take(NAME).collect())
}

/// What a message means that is given back instead of "nothing to change".
async fn given_back(
    head: &Head,
    from: &mut Read,
    method: Method,
    shown: &Shown<'_>,
) -> Result<Answer, Fault> {
    let parts = head.parts().filter(|parts| parts.heads_end <= HEAD);
    let parts = parts.ok_or_else(|| wrong("the scanner does not say what it gives back"))?;
    let mut heads = vec![0; parts.heads_end];
    from.read_exact(&mut heads).await?;
    for (part, range) in parts.heads {
        if part != Part::ResponseHead {
            continue;
        }
        let http = heads.get(range).and_then(|bytes| Head::parse(bytes, "HTTP"));
        let http = http.ok_or_else(|| wrong("what the scanner gives back is no HTTP"))?;
        if let Some(name) = http.threat() {
            return Ok(found(&name));
        }
        // An answer to a request that is not passed on, or in place of ours.
        if method == Method::Request || http.status != 200 {
            return Ok(Answer::Objects(format!("HTTP {}", http.status)));
        }
    }
    match (parts.body, method) {
        (Part::RequestBody, Method::Request) | (Part::ResponseBody, Method::Response) => {
            is_the_same(from, shown).await
        }
        (Part::NoBody, _) if shown.size == 0 => Ok(Answer::Clean),
        (Part::NoBody, _) => Ok(other()),
        _ => Err(wrong("the scanner gives back what it was not shown")),
    }
}

fn other() -> Answer {
    Answer::Objects("it gives back something else".into())
}

/// Whether the body that comes, in chunks, is the upload.
async fn is_the_same(from: &mut Read, shown: &Shown<'_>) -> Result<Answer, Fault> {
    let hung_up = || wrong("the scanner hung up");
    let (mut offset, mut theirs, mut line) = (0, BytesMut::new(), Vec::new());
    loop {
        line.clear();
        if read_line(from, &mut line, CHUNK_LINE).await? == 0 {
            return Err(hung_up());
        }
        let size = chunk_size(&line).ok_or_else(|| wrong("the scanner's chunks are none"))?;
        if size > shown.size - offset {
            return Ok(other());
        }
        if size == 0 {
            break;
        }
        let end = offset + size;
        while offset < end {
            let most = usize::try_from(end - offset).unwrap_or(CHUNK).min(CHUNK);
            let ours = shown.content.read_into(offset, most, BytesMut::with_capacity(most)).await;
            let ours = ours.map_err(Fault::Content)?;
            if ours.is_empty() {
                return Ok(other());
            }
            theirs.resize(ours.len(), 0);
            from.read_exact(&mut theirs).await?;
            if theirs != ours {
                return Ok(other());
            }
            offset += ours.len() as u64;
        }
        line.clear();
        if !matches!(read_line(from, &mut line, 2).await?, 1 | 2) || !line.trim_ascii().is_empty() {
            return Err(wrong("the scanner's chunks are none"));
        }
    }
    // Fields may follow, up to an empty line.
    line.clear();
    loop {
        let begun = line.len();
        if read_line(from, &mut line, HEAD).await? == 0 {
            return Err(hung_up());
        }
        if matches!(line.get(begun..), Some(b"\r\n" | b"\n")) {
            return Ok(if offset == shown.size { Answer::Clean } else { other() });
        }
    }
}

#[cfg(test)]
mod tests;
