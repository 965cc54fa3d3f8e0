//! `SendMail`: one mail for a handler, over the server of `[mail]` (RFC 5321, 5322).
//!
//! Addresses, subject and file name are one line each: what would end a header's line is refused, and everything
//! else is encoded as headers want it. Receivers, text and attachment are bounded, and so is the time. Nothing is
//! said to a server that does not turn to TLS, unless `tls = "off"`. Done is what the server has taken; nothing is
//! tried again here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, Mailboxes, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use serde_json::Value;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File;
use session_core::path::display_bytes;
use session_core::script::Secrets;

use super::{field, invalid, secret_named};
use crate::config::{Mail, MailTls};

/// Receivers of one mail.
const RECEIVERS: usize = 100;

/// Bytes of an address, a subject or a file's name.
const LINE: usize = 1000;

const CHUNK: usize = 256 << 10;

/// How mail is sent.
pub(super) struct Post(Option<Server>);

struct Server {
    host: String,
    port: u16,
    tls: MailTls,
    authorities: Option<Certificate>,
    login: Option<(String, Secret)>,
    from: Option<Mailbox>,
    time: Duration,
    size: usize,
}

fn authorities(file: &Path) -> Result<Certificate> {
    let words = |e: &dyn std::fmt::Display| {
        invalid(format!("the authorities in '{}' cannot be read: {e}", file.display()))
    };
    let text = std::fs::read(file).map_err(|e| words(&e))?;
    Certificate::from_pem(&text).map_err(|e| words(&e))
}

fn line<'a>(what: &str, text: &'a str) -> Result<&'a str> {
    if text.chars().any(char::is_control) {
        return Err(invalid(format!("{what} is not one line of text")));
    }
    if text.len() > LINE {
        return Err(Error::new(ErrorKind::TooLarge).with_detail(format!("{what} is too long")));
    }
    Ok(text.trim())
}

fn address(what: &str, text: &str) -> Result<Mailbox> {
    let wrong = || invalid(format!("{what} '{}' is no address", display_bytes(text.as_bytes())));
    line(what, text)?.parse().map_err(|_| wrong())
}

fn addresses(text: &str) -> Result<Mailboxes> {
    let wrong = || invalid(format!("the receiver '{}' is no address", display_bytes(text.as_bytes())));
    line("the receiver", text)?.parse().map_err(|_| wrong())
}

fn failed(e: lettre::transport::smtp::Error) -> Error {
    let refused = |e: &lettre::transport::smtp::Error| {
        let code = e.status().map(|c| format!(" ({c})")).unwrap_or_default();
        format!("the mail server refused it{code}")
    };
    let (kind, words) = match &e {
        e if e.is_permanent() => (ErrorKind::Refused, refused(e)),
        e if e.is_transient() => (ErrorKind::Throttled, refused(e)),
        e if e.is_timeout() => (ErrorKind::TimedOut, "the mail server does not answer".into()),
        e if e.is_tls() => (ErrorKind::Unauthenticated, "the mail server is not believed".into()),
        _ => (ErrorKind::Disconnected, "the mail server cannot be reached".into()),
    };
    Error::new(kind).with_detail(words).with_source(e)
}

impl Post {
    /// Blocks. Errors: `InvalidArgument` for what cannot be read, a sender that is none, a secret that is missing.
    pub(super) fn new(mail: &Mail, secrets: &Secrets) -> Result<Self> {
        let Some((host, port)) = mail.address().map_err(invalid)? else { return Ok(Post(None)) };
        let login = match (&mail.user, &mail.password_secret) {
            (Some(user), Some(name)) => Some((user.clone(), secret_named(secrets, name, "[mail]")?)),
            _ => None,
        };
        Ok(Post(Some(Server {
            host,
            port,
            tls: mail.tls,
            authorities: mail.authorities.as_deref().map(authorities).transpose()?,
            login,
            from: mail.from.as_deref().map(|f| address("the sender", f)).transpose()?,
            time: mail.time,
            size: mail.size,
        })))
    }

    /// Sends one. Errors: `InvalidArgument`, `TooLarge`; `Refused` and `Throttled` of the server, `Unauthenticated`
    /// where it is not believed, `Disconnected`, `TimedOut`. Dropped, the server may have it or not.
    pub(super) async fn send(&self, arguments: &Value, input: Option<Arc<dyn File>>) -> Result<Value> {
        let Some(server) = &self.0 else {
            return Err(invalid("no mail is sent here: [mail] names no server"));
        };
        let attached = match input {
            Some(file) => Some(server.read(&*file).await?),
            None => None,
        };
        let message = server.message(arguments, attached)?;
        let sending = async {
            let transport = server.transport().await?;
            transport.send(message).await.map_err(failed)
        };
        let sent = tokio::time::timeout(server.time, sending).await;
        sent.map_err(|_| Error::new(ErrorKind::TimedOut).with_detail("the mail server takes too long"))??;
        Ok(Value::Null)
    }
}

impl Server {
    fn too_large(&self) -> Error {
        let words = format!("a mail has at most {} bytes (`size` of [mail])", self.size);
        Error::new(ErrorKind::TooLarge).with_detail(words)
    }

    async fn read(&self, file: &dyn File) -> Result<Vec<u8>> {
        let mut all = bytes::BytesMut::new();
        loop {
            let had = all.len();
            all = file.read_into(had as u64, CHUNK, all).await?;
            if all.len() == had {
                return Ok(all.to_vec());
            }
            if all.len() > self.size {
                return Err(self.too_large());
            }
        }
    }

    fn message(&self, arguments: &Value, attached: Option<Vec<u8>>) -> Result<Message> {
        let text = |key: &str| field(arguments, key).as_str().unwrap_or_default();
        let from = match text("from") {
            "" => self.from.clone().ok_or_else(|| invalid("there is no sender: `from` of [mail]"))?,
            from => address("the sender", from)?,
        };
        let body = text("body");
        if body.len() + attached.as_ref().map_or(0, Vec::len) > self.size {
            return Err(self.too_large());
        }
        let id = format!("<{}@{}>", uuid::Uuid::now_v7(), from.email.domain());
        let subject = line("the subject", text("subject"))?;
        let mut message = Message::builder().message_id(Some(id)).from(from).subject(subject);
        let mut receivers = 0;
        for one in field(arguments, "to").as_array().into_iter().flatten().filter_map(Value::as_str) {
            // Both marks part addresses in what people write.
            for part in one.split(';').filter(|p| !p.trim().is_empty()) {
                for mailbox in addresses(part)? {
                    receivers += 1;
                    message = message.to(mailbox);
                }
            }
        }
        if receivers == 0 || receivers > RECEIVERS {
            return Err(invalid(format!("a mail has 1 to {RECEIVERS} receivers")));
        }
        let body = SinglePart::plain(body.to_owned());
        let made = match attached {
            Some(content) => {
                let name = line("the attachment's name", text("attachment"))?.to_owned();
                let kind = ContentType::parse("application/octet-stream");
                let kind = kind.map_err(|_| Error::new(ErrorKind::Internal))?;
                let file = Attachment::new(name).body(content, kind);
                message.multipart(MultiPart::mixed().singlepart(body).singlepart(file))
            }
            None => message.singlepart(body),
        };
        made.map_err(|e| invalid(format!("this is no mail: {e}")))
    }

    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
        let tls = match self.tls {
            MailTls::Off => Tls::None,
            MailTls::Starttls => Tls::Required(self.parameters().await?),
            MailTls::Implicit => Tls::Wrapper(self.parameters().await?),
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port)
            .tls(tls)
            .timeout(Some(self.time));
        Ok(match &self.login {
            Some((user, password)) => {
                builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()))
            }
            None => builder,
        }
        .build())
    }

    /// Reads the system's authorities from disk.
    async fn parameters(&self) -> Result<TlsParameters> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(authorities) = &self.authorities {
            builder = builder.add_root_certificate(authorities.clone());
        }
        let made = tokio::task::spawn_blocking(move || builder.build_rustls()).await;
        made.map_err(|_| Error::new(ErrorKind::Internal))?.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// One conversation of SMTP, as a server; what it was told. `greets`: the first word is still to be said.
    async fn converse(
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        offers: &str,
        said: &mut Vec<String>,
        greets: bool,
    ) -> bool {
        let mut stream = BufReader::new(stream);
        if greets {
            stream.write_all(b"220 sink\r\n").await.unwrap();
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return false;
            }
            let verb = line.split(' ').next().unwrap().trim().to_ascii_uppercase();
            said.push(line.trim_end().to_owned());
            let answer = match verb.as_str() {
                "EHLO" => format!("250-sink\r\n{offers}250 8BITMIME\r\n"),
                "STARTTLS" => "220 go ahead\r\n".to_owned(),
                "AUTH" => "235 welcome\r\n".to_owned(),
                "RCPT" if line.contains("nobody@") => "550 no such user\r\n".to_owned(),
                "DATA" => {
                    stream.write_all(b"354 go ahead\r\n").await.unwrap();
                    loop {
                        let mut line = String::new();
                        assert!(stream.read_line(&mut line).await.unwrap() > 0);
                        if line == ".\r\n" {
                            break;
                        }
                        said.push(line.trim_end().to_owned());
                    }
                    "250 taken\r\n".to_owned()
                }
                _ => "250 good\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if verb == "STARTTLS" {
                return true;
            }
        }
    }

    /// A sink for one connection; its port, and what it was told.
    async fn sink(
        offers: &'static str,
        tls: Option<TlsAcceptor>,
    ) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = Vec::new();
            if converse(&mut stream, offers, &mut said, true).await
                && let Some(tls) = tls
                && let Ok(mut stream) = tls.accept(stream).await
            {
                said.push("(TLS)".into());
                converse(&mut stream, "250-AUTH PLAIN\r\n", &mut said, false).await;
            }
            said
        });
        (port, task)
    }

    fn post(port: u16, more: impl FnOnce(&mut Mail)) -> Post {
        let mut mail = Mail {
            server: Some(format!("localhost:{port}")),
            tls: MailTls::Off,
            from: Some("Ferry <ferry@example.com>".into()),
            time: Duration::from_secs(10),
            size: 1000,
            ..Mail::default()
        };
        more(&mut mail);
        let secrets = BTreeMap::from([("mail".to_owned(), Secret::new("hunter2"))]);
        Post::new(&mail, &Secrets::new(secrets)).unwrap()
    }

    fn mail(to: &[&str], subject: &str, body: &str) -> Value {
        json!({ "from": "", "to": to, "subject": subject, "body": body, "attachment": "" })
    }

    #[tokio::test]
    async fn a_mail_arrives_as_it_was_written() {
        let (port, task) = sink("", None).await;
        let to = ["a@example.com; B <b@example.com>", "c@example.com"];
        let body = "Gr\u{fc}\u{df}e\n.\nBcc: x@example.com";
        post(port, |_| {}).send(&mail(&to, "H\u{f6}he", body), None).await.unwrap();
        let said = task.await.unwrap();
        let has = |line: &str| said.iter().any(|l| l == line);
        for line in [
            "RCPT TO:<a@example.com>",
            "RCPT TO:<b@example.com>",
            "RCPT TO:<c@example.com>",
            "From: Ferry <ferry@example.com>",
            "Subject: =?utf-8?b?SMO2aGU=?=",
        ] {
            assert!(has(line), "{line} in {said:#?}");
        }
        assert!(said.iter().any(|l| l.starts_with("MAIL FROM:<ferry@example.com>")), "{said:#?}");
        let headers = said.iter().position(String::is_empty).unwrap();
        assert!(!said[..headers].iter().any(|l| l.starts_with("Bcc:")), "the body stays the body");
    }

    #[tokio::test]
    async fn a_file_goes_with_it_and_sizes_are_bounded() {
        use session_core::fs::{Filesystem as _, OpenOptions};
        use session_core::fs_ext::FilesystemExt as _;
        let store = session_core::store::memory::MemoryStore::new();
        let at = |name: &str| session_core::path::VPath::absolute(name).unwrap();
        store.write_all(&at("/f"), bytes::Bytes::from_static(b"\x00\xff")).await.unwrap();
        store.write_all(&at("/large"), bytes::Bytes::from(vec![0; 2000])).await.unwrap();
        let (port, task) = sink("", None).await;
        let mut with = mail(&["a@example.com"], "s", "t");
        with["attachment"] = "r\u{e9}sum\u{e9}.bin".into();
        let file = store.open(&at("/f"), &OpenOptions::read()).await.unwrap();
        post(port, |_| {}).send(&with, Some(file)).await.unwrap();
        let said = task.await.unwrap().join("\n");
        assert!(said.contains("Content-Disposition: attachment;") && said.contains("AP8="), "{said}");
        let file = store.open(&at("/large"), &OpenOptions::read()).await.unwrap();
        let e = post(1, |_| {}).send(&with, Some(file)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooLarge);
        let e = post(1, |_| {}).send(&mail(&["a@b"], "s", &"x".repeat(1001)), None).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn nothing_is_slipped_into_headers() {
        let many: Vec<String> = (0..101).map(|n| format!("a{n}@example.com")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (to, subject, from) in [
            (&["a@example.com"][..], "s\r\nBcc: x@example.com", ""),
            (&["a@example.com"], "s\nX: y", ""),
            (&["a@example.com\r\nRCPT TO:<x@example.com>"], "s", ""),
            (&["\"a\r\nBcc: x@example.com\" <a@example.com>"], "s", ""),
            (&["a@example.com"], "s", "a@example.com\r\nX: y"),
            (&["not an address"], "s", ""),
            (&[], "s", ""),
            (&many, "s", ""),
        ] {
            let mut mail = mail(to, subject, "b");
            mail["from"] = from.into();
            let e = post(1, |_| {}).send(&mail, None).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{to:?} {subject:?} {from:?}: {e:#}");
        }
    }

    #[tokio::test]
    async fn a_refusal_of_the_server_is_told() {
        let (port, _task) = sink("", None).await;
        let e = post(port, |_| {}).send(&mail(&["nobody@example.com"], "s", "b"), None).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Refused && e.peer_words().contains("550"), "{e:#}");
        let e = Post::new(&Mail::default(), &Secrets::default()).unwrap();
        assert_eq!(e.send(&mail(&[], "", ""), None).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    fn certificate(dir: &Path) -> (std::path::PathBuf, TlsAcceptor) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = dir.join("ca.pem");
        std::fs::write(&file, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        (file, TlsAcceptor::from(Arc::new(config)))
    }

    #[tokio::test]
    async fn a_login_is_told_under_tls_only_and_only_to_whom_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tls) = certificate(dir.path());
        let login = |authorities: Option<std::path::PathBuf>| {
            move |mail: &mut Mail| {
                mail.tls = MailTls::Starttls;
                mail.authorities = authorities;
                (mail.user, mail.password_secret) = (Some("ferry".into()), Some("mail".into()));
            }
        };
        let one = mail(&["a@example.com"], "s", "b");
        let (port, task) = sink("250-STARTTLS\r\n", Some(tls.clone())).await;
        post(port, login(Some(file.clone()))).send(&one, None).await.unwrap();
        let said = task.await.unwrap();
        let tls_at = said.iter().position(|l| l == "(TLS)").unwrap();
        let login_at = said.iter().position(|l| l.starts_with("AUTH PLAIN")).unwrap();
        assert!(tls_at < login_at && said.iter().any(|l| l == "Subject: s"), "{said:#?}");
        // A server that does not turn to TLS is told nothing, nor one that nobody vouches for.
        for (offers, tls, authorities) in
            [("", None, Some(file.clone())), ("250-STARTTLS\r\n", Some(tls), None)]
        {
            let (port, task) = sink(offers, tls).await;
            post(port, login(authorities)).send(&one, None).await.unwrap_err();
            let said = task.await.unwrap();
            assert!(!said.iter().any(|l| l.starts_with("AUTH") || l.starts_with("MAIL")), "{said:#?}");
        }
    }
}
