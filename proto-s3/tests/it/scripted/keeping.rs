//! A store that keeps the parts of uploads, and tells of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use session_core::digest::{Hasher, hex};
use session_core::fs::Algorithm;

use super::{Answer, Request, Scripted, answer, error, listing};

pub struct Keeping {
    /// By number, with the content.
    pub parts: Mutex<BTreeMap<u64, Vec<u8>>>,
    pub uploads: AtomicUsize,
    /// Nothing is known of any upload.
    pub gone: AtomicBool,
    /// Parts behind this number are refused, for good.
    pub refuses: AtomicU64,
    /// Parts behind this number are refused, for half a minute.
    pub busy: AtomicU64,
}

impl Default for Keeping {
    fn default() -> Self {
        Keeping {
            parts: Mutex::default(),
            uploads: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            refuses: AtomicU64::new(u64::MAX),
            busy: AtomicU64::new(u64::MAX),
        }
    }
}

fn md5(data: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Md5);
    hasher.update(data);
    hex(&hasher.finish())
}

impl Keeping {
    pub fn answer(&self, r: &Request) -> Answer {
        let number = r.parameter("partNumber").map(|n| n.parse::<u64>().unwrap());
        match (r.method.as_str(), r.parameter("uploadId"), number) {
            ("PUT", Some(_), Some(n)) if n > self.refuses.load(Ordering::SeqCst) => {
                error(403, "AccessDenied", &[])
            }
            ("PUT", Some(_), Some(n)) if n > self.busy.load(Ordering::SeqCst) => {
                error(503, "SlowDown", &["Retry-After: 30"])
            }
            ("PUT", Some(_), Some(n)) => {
                self.parts.lock().unwrap().insert(n, r.body.clone());
                answer(200, &[&format!("ETag: \"{}\"", md5(&r.body))], "")
            }
            ("GET", Some(_), None) if self.gone.load(Ordering::SeqCst) => error(404, "NoSuchUpload", &[]),
            ("GET", Some(_), None) => {
                // One part a page.
                let after = r.parameter("part-number-marker").map_or(0, |m| m.parse().unwrap());
                let parts = self.parts.lock().unwrap();
                let mut body = String::from("<ListPartsResult>");
                if let Some((n, data)) = parts.range(after + 1..).next() {
                    body.push_str(&format!(
                        "<IsTruncated>true</IsTruncated><NextPartNumberMarker>{n}</NextPartNumberMarker>\
                         <Part><PartNumber>{n}</PartNumber><Size>{}</Size><ETag>&quot;{}&quot;</ETag></Part>",
                        data.len(),
                        md5(data)
                    ));
                }
                answer(200, &[], body + "</ListPartsResult>")
            }
            // Whose key this is may not see which buckets there are.
            ("GET", None, None) if r.path() == "/" => error(403, "AccessDenied", &[]),
            ("GET", None, None) => listing(&[], &[], None),
            ("HEAD", ..) if r.path().matches('/').count() < 2 => answer(200, &[], ""),
            ("HEAD", ..) => Answer::Bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
            ("POST", None, None) => {
                let n = self.uploads.fetch_add(1, Ordering::SeqCst) + 1;
                let id = format!("<UploadId>up{n}</UploadId>");
                answer(
                    200,
                    &[],
                    format!("<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"),
                )
            }
            ("POST", ..) => answer(
                200,
                &[],
                "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>",
            ),
            ("PUT", ..) => answer(200, &["ETag: \"one\""], ""),
            ("DELETE", ..) => answer(204, &[], ""),
            _ => error(501, "NotImplemented", &[]),
        }
    }
}

pub async fn keeping() -> (Arc<Keeping>, Scripted) {
    let store = Arc::new(Keeping::default());
    let answering = Arc::clone(&store);
    (store, Scripted::new(move |r| answering.answer(r)).await)
}
