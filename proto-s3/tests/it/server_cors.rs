//! Pages of other origins: what browsers are told, and what those get who are not in the list.

use crate::support::*;
use proto_s3::server::S3ServerOptions;

const PAGE: &str = "Origin: https://app.example.org";
const OTHER: &str = "Origin: https://elsewhere.example";
const ASKS: &str = "Access-Control-Request-Method: PUT";

async fn running(cors: &[&str]) -> (Running, Client<tokio::net::TcpStream>) {
    let cors = cors.iter().map(|o| (*o).to_owned()).collect();
    let server = start(S3ServerOptions { cors, ..options() }).await;
    let mut c = server.connect().await;
    c.put("/data", "").await;
    c.put("/data/a", "content").await;
    (server, c)
}

#[tokio::test]
async fn a_browser_is_told_what_a_page_may_ask() {
    let (server, _c) = running(&["https://*.example.org"]).await;
    let mut browser = server.connect().await;
    browser.signer = None;
    let fields = [PAGE, ASKS, "Access-Control-Request-Headers: authorization, x-amz-date"];
    let told = browser.ask("OPTIONS /data/b", &fields, "").await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(told.field("access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(told.field("access-control-allow-headers"), Some("authorization, x-amz-date"));
    assert!(told.field("access-control-allow-methods").unwrap().contains("PUT"));
    assert_eq!(told.field("access-control-allow-credentials"), None);
    for fields in [[OTHER, ASKS], ["Origin: https://example.org", ASKS]] {
        let refused = browser.ask("OPTIONS /data/b", &fields, "").await;
        assert_eq!(refused.failure(), (403, "AccessDenied".to_owned()));
        assert_eq!(refused.field("access-control-allow-origin"), None);
    }
    // That was nobody's session.
    assert_eq!(server.site.registry.list().len(), 1);
}

#[tokio::test]
async fn a_page_reads_answers_and_refusals_alike() {
    let (_server, mut c) = running(&["https://app.example.org"]).await;
    let good = c.ask("GET /data/a", &[PAGE], "").await;
    assert_eq!((good.status, good.text().as_str()), (200, "content"));
    assert_eq!(good.field("access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(good.field("vary"), Some("Origin"));
    let readable = good.field("access-control-expose-headers").unwrap();
    assert!(
        ["etag", "x-amz-request-id", "content-length"].iter().all(|f| readable.contains(f)),
        "{readable}"
    );
    let missing = c.ask("GET /data/none", &[PAGE], "").await;
    assert_eq!(missing.failure(), (404, "NoSuchKey".to_owned()));
    assert_eq!(missing.field("access-control-allow-origin"), Some("https://app.example.org"));
    // Others get what they ask for, and nothing that lets a browser show it.
    for fields in [&[OTHER][..], &[]] {
        let plain = c.ask("GET /data/a", fields, "").await;
        assert_eq!((plain.status, plain.field("access-control-allow-origin")), (200, None));
    }
}

#[tokio::test]
async fn without_a_list_no_page_of_another_origin_gets_in() {
    let (_server, mut c) = running(&[]).await;
    assert_eq!(c.ask("OPTIONS /data/a", &[PAGE, ASKS], "").await.failure().0, 403);
    assert_eq!(c.ask("GET /data/a", &[PAGE], "").await.field("access-control-allow-origin"), None);
    let (_server, mut c) = running(&["*"]).await;
    assert_eq!(c.ask("GET /data/a", &[OTHER], "").await.field("access-control-allow-origin"), Some("*"));
}
