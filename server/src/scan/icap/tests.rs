//! The client against a server that does as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use session_core::fs::{File, Filesystem as _, OpenOptions};
use session_core::fs_ext::FilesystemExt as _;
use session_core::path::VPath;
use session_core::store::memory::MemoryStore;

use self::icap_server::{Asked, IcapServer, Reply, answer, given_back};
use super::*;

#[path = "../../../tests/support/icap_server.rs"]
#[allow(unreachable_pub, reason = "shared")]
mod icap_server;

const BOTH: &str = "Methods: RESPMOD, REQMOD\r\nAllow: 204\r\nOptions-TTL: 3600\r\n";
const NOTHING: &str = "204 No Content";

fn client_of(server: &IcapServer) -> Icap {
    let icap = Some(format!("icap://127.0.0.1:{}/avscan?mode=strict", server.port));
    Icap::new(&Settings { icap, ..Settings::default() }).unwrap().unwrap()
}

async fn file(name: &str, content: &[u8]) -> (VPath, Arc<dyn File>) {
    let (store, path) = (MemoryStore::new(), VPath::absolute(name).unwrap());
    store.write_all(&path, Bytes::copy_from_slice(content)).await.unwrap();
    let file = store.open(&path, &OpenOptions::read()).await.unwrap();
    (path, file)
}

type Told = Result<(Answer, Option<(Algorithm, Bytes)>), String>;

async fn ask(client: &Icap, content: &[u8]) -> Told {
    let (path, file) = file("/a b.txt", content).await;
    let digest = Some(Algorithm::Sha256);
    let shown = Shown { path: &path, size: content.len() as u64, content: &file, digest };
    client.ask(&shown).await.map_err(|e| format!("{:#}", Error::from(e)))
}

async fn verdict_on(client: &Icap, content: &[u8]) -> Result<Answer, String> {
    ask(client, content).await.map(|(answer, _)| answer)
}

fn text(asked: &Asked) -> String {
    String::from_utf8(asked.body.clone()).unwrap()
}

#[tokio::test]
async fn the_beginning_goes_ahead_and_the_rest_when_it_is_asked_for() {
    let options = format!("{BOTH}Preview: 8\r\nEncapsulated: null-body=0\r\n");
    let server = IcapServer::start(&options, |asked| match asked.body == b"harmless" || asked.whole {
        true => Reply::Say(answer(NOTHING, "Encapsulated: null-body=0\r\n")),
        false => Reply::Continue,
    });
    let client = client_of(&server);
    for content in ["", "short", "8 bytes.", "harmless, and more of it", "the rest is wanted, too"] {
        let (answer, digest) = ask(&client, content.as_bytes()).await.unwrap();
        assert_eq!(answer, Answer::Clean, "{content}");
        let mut hasher = session_core::digest::Hasher::new(Algorithm::Sha256);
        hasher.update(content.as_bytes());
        assert_eq!(digest.unwrap().1, hasher.finish(), "of all of {content}");
    }
    let seen = server.seen.lock().unwrap();
    let bodies: Vec<_> = seen.iter().map(|a| (text(a), a.whole)).collect();
    let whole = |s: &str| (s.to_owned(), true);
    assert_eq!(
        bodies,
        [
            whole(""),
            whole("short"),
            whole("8 bytes."),
            ("harmless".to_owned(), false),
            whole("the rest is wanted, too")
        ]
    );
    let port = server.port;
    let first = &seen[1];
    assert_eq!(
        first.head,
        format!(
            "REQMOD icap://127.0.0.1:{port}/avscan?mode=strict ICAP/1.0\r\nHost: 127.0.0.1:{port}\r\n\
             User-Agent: Ferry\r\nAllow: 204\r\nPreview: 8\r\nEncapsulated: req-hdr=0, req-body={}\r\n\r\n",
            first.http.len()
        )
    );
    assert_eq!(
        first.http,
        "PUT http://ferry.invalid/a%20b.txt HTTP/1.1\r\nHost: ferry.invalid\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\n"
    );
    assert_eq!((server.count(), server.options.load(Ordering::SeqCst)), (1, 1), "one connection for all");
}

#[tokio::test]
async fn a_service_of_answers_is_shown_an_answer() {
    let server = IcapServer::start("Methods: RESPMOD\r\n", |_| Reply::Say(answer(NOTHING, "")));
    assert_eq!(verdict_on(&client_of(&server), b"abc").await.unwrap(), Answer::Clean);
    let seen = server.seen.lock().unwrap();
    let asked = "GET http://ferry.invalid/a%20b.txt HTTP/1.1\r\nHost: ferry.invalid\r\n\r\n";
    let answered = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(seen[0].http, format!("{asked}{answered}"));
    let list = format!("req-hdr=0, res-hdr={}, res-body={}", asked.len(), seen[0].http.len());
    assert!(seen[0].head.contains(&format!("Encapsulated: {list}\r\n")), "{}", seen[0].head);
    assert!(!seen[0].head.contains("Preview"));
}

#[tokio::test]
async fn only_no_change_and_the_very_bytes_are_clean() {
    const PUT: &str = "PUT /x HTTP/1.1\r\nVia: scanner\r\n\r\n";
    const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n";
    let server = IcapServer::start(BOTH, |asked| {
        let same = |body: &[u8]| given_back("req", PUT, body);
        Reply::Say(match asked.body.as_slice() {
            b"found" => answer(
                "200 OK",
                "X-Infection-Found: Type=0; Resolution=2; Threat=Eicar-\x1b[2J;\r\nEncapsulated: null-body=0\r\n",
            ),
            b"found, and passed" => answer(NOTHING, "x-virus-id: Eicar\r\n"),
            b"violates" => answer("200 OK", "X-Violations-Found: 1\r\n\tf.exe\r\n\tEicar\r\n\t0\r\n\t2\r\n"),
            b"violates not" => answer(NOTHING, "X-Violations-Found: 0\r\n"),
            b"answered" => given_back("res", NO, b"<html>no</html>"),
            b"answered with a name" => {
                given_back("res", "HTTP/1.1 403 No\r\nX-Virus-ID: Eicar\r\n\r\n", b"no")
            }
            b"answered well" => given_back("res", "HTTP/1.1 200 OK\r\n\r\n", b"answered well"),
            b"forbidden" => answer("403 Forbidden", ""),
            b"changed" => same(b"changEd"),
            b"longer" => same(b"longer by this"),
            b"shorter" => same(b"short"),
            b"taken away" => {
                let list = format!("Encapsulated: req-hdr=0, null-body={}\r\n", PUT.len());
                [answer("200 OK", &list), PUT.as_bytes().to_vec()].concat()
            }
            b"error" => answer("500 Server Error", ""),
            b"more" => answer("100 Continue", ""),
            b"unsaid" => answer("200 OK", ""),
            b"unsure" => answer("200 OK", "Encapsulated: req-body=0\r\nEncapsulated: res-body=0\r\n"),
            b"large" => answer("200 OK", "Encapsulated: req-hdr=0, req-body=99999999999\r\n"),
            b"not shown" => answer("200 OK", "Encapsulated: opt-body=0\r\n"),
            b"web" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            b"endless" => [b"ICAP/1.0 200 OK\r\nX: ".as_slice(), &vec![b'x'; HEAD], b"\r\n\r\n"].concat(),
            b"chunks" => {
                let list = format!("Encapsulated: req-hdr=0, req-body={}\r\n", PUT.len());
                [answer("200 OK", &list), PUT.as_bytes().to_vec(), b"zz\r\n".to_vec()].concat()
            }
            body => same(body),
        })
    });
    let client = client_of(&server);
    let found = |name: &str| Ok(Answer::Found(name.into()));
    let objects = |why: &str| Ok(Answer::Objects(why.into()));
    let other = || objects("it gives back something else");
    for (content, expected) in [
        ("", Ok(Answer::Clean)),
        ("given back as it is", Ok(Answer::Clean)),
        ("violates not", Ok(Answer::Clean)),
        ("found", found("Eicar-\\u{1b}[2J")),
        ("found, and passed", found("Eicar")),
        ("violates", found("Eicar")),
        ("answered", objects("HTTP 403")),
        ("answered with a name", found("Eicar")),
        ("answered well", objects("HTTP 200")),
        ("forbidden", objects("ICAP 403")),
        ("changed", other()),
        ("longer", other()),
        ("shorter", other()),
        ("taken away", other()),
    ] {
        assert_eq!(verdict_on(&client, content.as_bytes()).await, expected, "{content}");
    }
    for (content, words) in [
        ("error", "answers 500"),
        ("more", "answers 100"),
        ("unsaid", "does not say"),
        ("unsure", "does not say"),
        ("large", "does not say"),
        ("not shown", "was not shown"),
        ("web", "no ICAP"),
        ("endless", "too much"),
        ("chunks", "chunks are none"),
    ] {
        let e = verdict_on(&client, content.as_bytes()).await.unwrap_err();
        assert!(e.contains(words), "{content}: {e}");
    }
}

/// What is given back while it is sent would fill every buffer between the two if nobody took it.
#[tokio::test]
async fn what_is_given_back_meanwhile_is_read_meanwhile() {
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    let list = format!("Encapsulated: res-hdr=0, res-body={}\r\n", ok.len());
    let said = [answer("200 OK", &list), ok.as_bytes().to_vec()].concat();
    let server = IcapServer::echo("Methods: RESPMOD\r\n", said);
    let client = client_of(&server);
    let content: Vec<u8> = (0..24 << 20).map(|n: u32| (n % 251) as u8).collect();
    for _ in 0..2 {
        assert_eq!(verdict_on(&client, &content).await.unwrap(), Answer::Clean);
    }
    assert_eq!(server.seen.lock().unwrap()[0].body.len(), content.len());
}

#[tokio::test]
async fn a_connection_that_was_left_is_replaced_and_a_new_one_is_not() {
    let turn = AtomicUsize::new(0);
    let server = IcapServer::start(BOTH, move |asked| match turn.fetch_add(1, Ordering::SeqCst) {
        // It leaves after its first answer, without having said so.
        1 => Reply::HangUp,
        _ if asked.body == b"never" => Reply::HangUp,
        _ => Reply::Say(answer(NOTHING, "")),
    });
    let client = client_of(&server);
    for _ in 0..3 {
        assert_eq!(verdict_on(&client, b"x").await.unwrap(), Answer::Clean);
    }
    assert_eq!(server.count(), 2);
    let e = verdict_on(&client, b"never").await.unwrap_err();
    assert!(e.contains("hung up"), "{e}");
    assert_eq!(server.count(), 3, "tried anew once");
    // After a fault it is asked again what it does.
    verdict_on(&client, b"x").await.unwrap();
    assert_eq!(server.options.load(Ordering::SeqCst), 2);
    // Where it says that it leaves, nobody tries.
    let server = IcapServer::start(BOTH, |_| Reply::Say(answer(NOTHING, "Connection: close\r\n")));
    let client = client_of(&server);
    for n in 1..3 {
        verdict_on(&client, b"x").await.unwrap();
        assert_eq!(server.count(), n);
    }
}

#[tokio::test]
async fn a_service_that_looks_at_nothing_is_a_fault() {
    for options in ["", "Methods: OPTIONS\r\n"] {
        let server = IcapServer::start(options, |_| Reply::HangUp);
        let e = verdict_on(&client_of(&server), b"x").await.unwrap_err();
        assert!(e.contains("looks at nothing"), "{e}");
    }
}

#[tokio::test]
async fn over_tls_whoever_is_vouched_for_is_asked() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, own.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key);
    let config = Arc::new(config.unwrap());
    let server = IcapServer::wrapped(
        BOTH,
        |_| Reply::Say(answer(NOTHING, "")),
        move |stream| {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            Box::new(rustls::StreamOwned::new(tls, stream))
        },
    );
    for (authorities, believed) in [(Some(ca), true), (None, false)] {
        let icap = Some(format!("icaps://localhost:{}/s", server.port));
        let settings = Settings { icap, authorities, ..Settings::default() };
        let client = Icap::new(&settings).unwrap().unwrap();
        let told = verdict_on(&client, b"x").await;
        assert_eq!(told.is_ok(), believed, "{told:?}");
    }
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

#[test]
fn a_service_is_named_by_a_url() {
    let at = address("icap://av.example/avscan").unwrap();
    assert_eq!((at.secure, at.host.as_str(), at.port), (false, "av.example", 1344));
    let at = address("icaps://[::1]:99/").unwrap();
    assert_eq!((at.secure, at.host.as_str(), at.port, at.authority.as_str()), (true, "::1", 99, "[::1]:99"));
    for bad in
        ["", "av.example", "http://h/s", "icap:///s", "icap://u@h/s", "icap://h:0/s", "icap://h:99999/"]
    {
        assert!(address(bad).is_err(), "{bad}");
    }
}

#[test]
fn heads_are_heads_and_nothing_else_is() {
    let parse = |text: &str| Head::parse(text.as_bytes(), "ICAP");
    let head = parse(
        "ICAP/1.0 200 OK\r\nA: 1\r\nb:\t2 \r\n more\r\nEncapsulated: req-hdr=0, null-body=170\r\n\r\nX",
    );
    let head = head.unwrap();
    assert_eq!((head.status, head.field("a"), head.field("B")), (200, Some("1"), Some("2\nmore")));
    let parts = head.parts().unwrap();
    assert_eq!(
        (parts.heads, parts.body, parts.heads_end),
        (vec![(Part::RequestHead, 0..170)], Part::NoBody, 170)
    );
    assert!(parse("ICAP/1.0 204").is_some_and(|head| head.parts().is_none()));
    for bad in [
        "",
        "ICAP/1.0",
        "ICAP/2.0 200 OK\r\n",
        "ICAP/1.x 200 OK\r\n",
        "ICAP/1.0 20 OK\r\n",
        "ICAP/1.0 099 OK\r\n",
        "ICAP/1.0 2000 OK\r\n",
        "HTTP/1.1 200 OK\r\n",
        "ICAP/1.0 200 OK\r\n: x\r\n\r\n",
        "ICAP/1.0 200 OK\r\nno field\r\n\r\n",
        "ICAP/1.0 200 OK\r\na b: x\r\n\r\n",
        "ICAP/1.0 200 OK\r\n folded: x\r\n\r\n",
    ] {
        assert_eq!(parse(bad), None, "{bad}");
    }
    let parts =
        |list: &str| parse(&format!("ICAP/1.0 200 OK\r\nEncapsulated: {list}\r\n\r\n")).unwrap().parts();
    assert_eq!(parts("req-hdr=0, res-hdr=137, res-body=296").unwrap().heads.len(), 2);
    assert_eq!(parts("opt-body=0").unwrap().body, Part::OptionsBody);
    for bad in [
        "",
        "req-hdr=0",
        "res-body=1",
        "req-hdr=1, req-body=2",
        "res-hdr=0, res-body=9, req-hdr=10",
        "res-hdr=0, res-hdr=5, null-body=9",
        "req-hdr=5, req-body=0",
        "req-hdr=0, res-hdr=9, res-body=8",
        "req-hdr=0, res-body=-1",
        "res-hdr=0, res-body=99999999999999999999999",
        "some-hdr=0, null-body=1",
        "null-body=0, null-body=0",
    ] {
        assert_eq!(parts(bad), None, "{bad}");
    }
    for (line, size) in [
        ("0\r\n", Some(0)),
        ("1f; ieof\r\n", Some(31)),
        ("FFFF ;x=\"y\"\n", Some(0xffff)),
        ("", None),
        ("\r\n", None),
        ("-1\r\n", None),
        ("0x10\r\n", None),
        (" 1\r\n", None),
        ("ffffffffffffffff\r\n", None),
    ] {
        assert_eq!(chunk_size(line.as_bytes()), size, "{line:?}");
    }
}
