//! Forms of browsers: signed by hand, each condition of a policy, what does not arrive whole, and where the browser is
//! sent afterwards.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto_s3::server::S3ServerOptions;

use crate::support::*;

const CONTENT: &[u8] = b"some\r\n--content\r\n";

/// A form for the bucket `data`, as a page would have it.
#[derive(Clone)]
struct Form {
    signer: Signer,
    /// Conditions besides those of the signature.
    conditions: Vec<String>,
    expiration: String,
    fields: Vec<(String, String)>,
    signed: bool,
}

impl Form {
    fn new() -> Form {
        Form {
            signer: Signer::new("KEY-demo"),
            conditions: [
                "{\"bucket\": \"data\"}",
                "[\"starts-with\", \"$key\", \"up/\"]",
                "[\"content-length-range\", 1, 100]",
                "[\"starts-with\", \"$Content-Type\", \"text/\"]",
                "{\"x-amz-meta-by\": \"me\"}",
            ]
            .map(str::to_owned)
            .to_vec(),
            expiration: "2099-01-01T00:00:00.000Z".to_owned(),
            fields: [("Key", "up/${filename}"), ("Content-Type", "text/plain"), ("x-amz-meta-by", "me")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .to_vec(),
            signed: true,
        }
    }

    fn field(mut self, name: &str, value: &str) -> Form {
        self.fields.retain(|(n, _)| n != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn condition(mut self, condition: &str) -> Form {
        self.conditions.push(condition.to_owned());
        self
    }

    fn body(&self, content: &[u8]) -> Vec<u8> {
        let stamp = self.signer.stamp();
        let credential = format!("{}/{}/us-east-1/s3/aws4_request", self.signer.key, &stamp[..8]);
        let mut fields = self.fields.clone();
        if self.signed {
            let own = [
                ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
                ("x-amz-credential", credential.as_str()),
                ("x-amz-date", stamp.as_str()),
            ];
            let mut conditions = self.conditions.clone();
            conditions.extend(own.iter().map(|(n, v)| format!("{{\"{n}\": \"{v}\"}}")));
            let policy = format!(
                "{{\"expiration\": \"{}\", \"conditions\": [{}]}}",
                self.expiration,
                conditions.join(", ")
            );
            let policy = STANDARD.encode(policy);
            let signature = self.signer.sign(&policy);
            fields.extend(own.map(|(n, v)| (n.to_owned(), v.to_owned())));
            fields.push(("Policy".into(), policy));
            fields.push(("X-Amz-Signature".into(), signature));
        }
        let mut body = Vec::new();
        for (name, value) in fields {
            body.extend_from_slice(
                format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                    .as_bytes(),
            );
        }
        body.extend_from_slice(
            b"--b0\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.txt\"\r\n\r\n",
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n--b0--\r\n");
        body
    }

    fn head(&self, length: usize) -> String {
        let fields = ["Content-Type: multipart/form-data; boundary=b0", &format!("Content-Length: {length}")];
        format!("{}\r\n", sign::plain("POST /data", &fields))
    }

    async fn send(&self, server: &Running, content: &[u8]) -> Reply {
        let mut c = server.connect().await;
        let body = self.body(content);
        c.send(self.head(body.len())).await;
        c.send(body).await;
        c.reply(false).await.unwrap()
    }
}

async fn bucket(options: S3ServerOptions) -> (Running, Client<tokio::net::TcpStream>) {
    let server = start(options).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    (server, c)
}

#[tokio::test]
async fn a_signed_form_is_an_upload_like_any_other() {
    let (server, mut c) = bucket(options()).await;
    let reply = Form::new().send(&server, CONTENT).await;
    assert_eq!((reply.status, reply.field("location")), (204, Some("http://s3.test/data/up/a%20b.txt")));
    let read = c.get("/data/up/a%20b.txt").await;
    assert_eq!((read.body.as_slice(), read.field("content-type")), (CONTENT, Some("text/plain")));
    assert_eq!((read.field("x-amz-meta-by"), read.field("etag")), (Some("me"), reply.field("etag")));
    // It is one session with what the key does elsewhere, and the digest of what was sent is looked at.
    assert_eq!(server.site.registry.list().len(), 1);
    let sum = Form::new().condition("[\"starts-with\", \"$x-amz-checksum-crc32\", \"\"]");
    let wrong = sum.clone().field("x-amz-checksum-crc32", "AAAAAA==").send(&server, b"abc").await;
    assert_eq!(wrong.failure(), (400, "BadDigest".into()));
    assert_eq!(sum.field("x-amz-checksum-crc32", "NSRBwg==").send(&server, b"abc").await.status, 204);
}

#[tokio::test]
async fn the_browser_is_told_where_to_go_on() {
    let (server, _) = bucket(options()).await;
    let of = |name: &str, value: &str| {
        Form::new().condition(&format!("[\"eq\", \"${name}\", \"{value}\"]")).field(name, value)
    };
    let reply = of("success_action_status", "201").send(&server, CONTENT).await;
    assert_eq!((reply.status, reply.one("Key").as_str()), (201, "up/a b.txt"));
    assert_eq!(reply.one("ETag"), reply.field("etag").unwrap());
    assert_eq!(of("success_action_status", "200").send(&server, CONTENT).await.status, 200);
    assert_eq!(of("success_action_status", "500").send(&server, CONTENT).await.status, 204);
    let reply = of("success_action_redirect", "https://app.test/done?a=b").send(&server, CONTENT).await;
    let to = reply.field("location").unwrap();
    assert!(to.starts_with("https://app.test/done?a=b&bucket=data&key=up%2Fa%20b%2Etxt&etag=%22"), "{to}");
    assert_eq!(reply.status, 303);
    assert_eq!(of("success_action_redirect", "javascript:x").send(&server, CONTENT).await.status, 204);
}

#[tokio::test]
async fn every_condition_must_hold_and_every_field_must_have_one() {
    let (server, mut c) = bucket(options()).await;
    let denied = (403, "AccessDenied".to_owned());
    for (form, due) in [
        (Form::new().field("Key", "elsewhere/x"), denied.clone()),
        (Form::new().field("Content-Type", "text/plain, image/png"), denied.clone()),
        (Form::new().field("x-amz-meta-by", "you"), denied.clone()),
        (Form::new().field("x-amz-meta-more", "1"), denied.clone()),
        (Form::new().condition("{\"acl\": \"private\"}"), denied.clone()),
        (Form::new().condition("[\"eq\", \"$bucket\", \"other\"]"), denied.clone()),
        (Form { expiration: "2001-01-01T00:00:00Z".into(), ..Form::new() }, denied.clone()),
        (Form::new().condition("[\"content-length-range\", 50, 60]"), (400, "EntityTooSmall".into())),
        (Form::new().condition("[\"content-length-range\", 0, 3]"), (400, "EntityTooLarge".into())),
        (Form::new().condition("[\"near\", \"$key\", \"x\"]"), (400, "InvalidPolicyDocument".into())),
        (Form::new().field("key", "up/x"), (400, "InvalidArgument".into())),
        (
            Form::new().condition("{\"acl\": \"public-read\"}").field("acl", "public-read"),
            (400, "AccessControlListNotSupported".into()),
        ),
        (
            Form::new()
                .condition("[\"starts-with\", \"$x-amz-server-side-encryption\", \"\"]")
                .field("x-amz-server-side-encryption", "AES256"),
            (501, "NotImplemented".into()),
        ),
    ] {
        let reply = form.send(&server, CONTENT).await;
        assert_eq!(reply.failure(), due, "{:?} {}", form.conditions, reply.text());
    }
    assert_eq!(Form::new().field("x-ignore-me", "1").send(&server, CONTENT).await.status, 204);
    let listed = c.get("/data?list-type=2").await;
    assert_eq!(listed.all("Key"), ["up/a b.txt"]);
    let failed = server.site.users.lock().unwrap().asked.load(Ordering::SeqCst);
    assert_eq!(failed, 1, "what a policy refuses is no failed login");
}

#[tokio::test]
async fn a_wrong_signature_lets_nobody_in() {
    let (server, _) = bucket(options()).await;
    let with = |signer: Signer| Form { signer, ..Form::new() };
    let good = Signer::new("KEY-demo");
    let wrong = Signer { secret: "another".into(), ..good.clone() };
    let unknown = Signer { key: "KEY-nobody".into(), ..good };
    assert_eq!(with(wrong).send(&server, CONTENT).await.failure(), (403, "SignatureDoesNotMatch".into()));
    assert_eq!(with(unknown).send(&server, CONTENT).await.failure(), (403, "InvalidAccessKeyId".into()));
    let nobody = Form { signed: false, ..Form::new() };
    assert_eq!(nobody.send(&server, CONTENT).await.failure(), (403, "AccessDenied".into()));
    let without = nobody.clone().field("policy", "e30=");
    assert_eq!(without.send(&server, CONTENT).await.failure(), (400, "InvalidArgument".into()));
    let old = nobody.field("signature", "x");
    assert_eq!(old.send(&server, CONTENT).await.failure(), (400, "InvalidRequest".into()));
    assert_eq!(server.site.registry.list().len(), 1);
}

#[tokio::test]
async fn strangers_are_the_account_that_is_named_and_are_sent_nowhere() {
    let (server, mut c) = bucket(S3ServerOptions { anonymous: Some("guest".into()), ..options() }).await;
    let form = Form { signed: false, ..Form::new() }.field("success_action_redirect", "https://evil.test/");
    assert_eq!(form.send(&server, CONTENT).await.status, 204);
    assert_eq!(c.get("/data/up/a%20b.txt").await.body, CONTENT);
}

#[tokio::test]
async fn what_breaks_off_is_not_there() {
    let (server, mut c) = bucket(options()).await;
    let large = vec![b'x'; 3 << 20];
    let form = Form { conditions: Form::new().conditions, ..Form::new() };
    let form = Form {
        conditions: form.conditions.into_iter().filter(|c| !c.contains("range")).collect(),
        ..Form::new()
    };
    let body = form.body(&large);
    let mut line = server.connect().await;
    line.send(form.head(body.len())).await;
    line.send(&body[..2 << 20]).await;
    drop(line);
    // One that ends without its last boundary.
    let short = &body[..body.len() - 10];
    let mut line = server.connect().await;
    line.send(form.head(short.len())).await;
    line.send(short).await;
    assert_eq!(line.reply(false).await.unwrap().failure(), (400, "IncompleteBody".into()));
    // One that is too long is not read to its end.
    let mut line = server.connect().await;
    let bounded = Form::new();
    let body = bounded.body(&large);
    line.send(bounded.head(64 << 20)).await;
    line.send(&body[..1 << 20]).await;
    assert_eq!(line.reply(false).await.unwrap().failure(), (400, "EntityTooLarge".into()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(c.get("/data?list-type=2").await.all("Key"), Vec::<String>::new());
    let whole = form.send(&server, &large).await;
    assert_eq!(whole.status, 204);
    assert!(c.get("/data/up/a%20b.txt").await.body == large);
}

#[tokio::test]
async fn forms_go_to_buckets() {
    let (server, _) = bucket(S3ServerOptions { domains: vec!["s3.test".into()], ..options() }).await;
    let form = Form::new();
    let body = form.body(CONTENT);
    let ask = async |line: &str, host: &str| {
        let mut c = server.connect().await;
        let head = form.head(body.len()).replace("POST /data", line).replace("Host: s3.test", host);
        c.send(head).await;
        c.send(&body).await;
        c.reply(false).await.unwrap()
    };
    assert_eq!(ask("POST /", "Host: data.s3.test").await.status, 204);
    let to = ask("POST /data/up/x", "Host: s3.test").await;
    assert_eq!(to.failure(), (405, "MethodNotAllowed".into()));
    assert_eq!(ask("PUT /data", "Host: s3.test").await.failure(), (405, "MethodNotAllowed".into()));
    assert_eq!(ask("POST /none", "Host: s3.test").await.status, 403);
}
