//! A page for people: what a directory holds, with links to download it.
//!
//! No script, nothing from elsewhere, not to be framed. Names are escaped in text and in links. The listing is
//! sent as it is read, sorted by name.

use std::fmt::Write as _;
use std::io;

use bytes::Bytes;
use futures_util::stream;
use hyper::header::{self, HeaderName, HeaderValue};
use session_core::error::Error;
use session_core::fs::{Filesystem as _, ListOptions, Listing, Order};
use session_core::metadata::DirEntry;
use session_core::net::http::InFlight;
use session_core::path::display_bytes;

use super::respond::{Answer, broken, empty, full, set, streamed};
use super::service::Call;
use crate::wire::{date, href, xml};

const LISTED: usize = 64 * 1024;
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:1em system-ui,sans-serif;margin:2em}table{border-spacing:1.5em .2em}\
    td+td{color:#666;text-align:right;white-space:nowrap}a{text-decoration:none}";

pub(super) async fn directory(call: Call, with_body: bool) -> Answer {
    let mut response = empty(200);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set(&mut response, HeaderName::from_static("ms-author-via"), "DAV");
    if !with_body {
        return Ok(response);
    }
    let path = &call.target.path;
    let options = ListOptions { order: Order::Name, ..ListOptions::default() };
    let listing = call.fs.list(path, &options).await?;
    let title = xml::escape(&path.display());
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><h1>{title}</h1>\n<table>\n"
    );
    if let Some(parent) = path.parent() {
        let _ = writeln!(out, "<tr><td><a href=\"{}\">..</a></td></tr>", call.href(&parent, true));
    }
    let mut page = Page { listing, out, over: false, _flight: call.flight };
    let first = page.next().await?.unwrap_or_default();
    *response.body_mut() = if page.over {
        full(first)
    } else {
        streamed(stream::unfold((Some(first), Some(page)), |(first, page)| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, page)));
            }
            let mut page = page?;
            match page.next().await {
                Ok(Some(piece)) => Some((Ok(piece), (None, Some(page)))),
                Ok(None) => None,
                Err(e) => Some((Err::<Bytes, io::Error>(broken(e)), (None, None))),
            }
        }))
    };
    Ok(response)
}

struct Page {
    listing: Listing,
    out: String,
    over: bool,
    _flight: InFlight,
}

impl Page {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.over {
            return Ok(None);
        }
        while self.out.len() < LISTED {
            match self.listing.next_page().await? {
                Some(entries) => entries.iter().for_each(|e| row(e, &mut self.out)),
                None => {
                    self.out.push_str("</table>\n</body></html>\n");
                    self.over = true;
                    break;
                }
            }
        }
        Ok(Some(std::mem::take(&mut self.out).into()))
    }
}

/// One entry. The link is relative, and never one to another place: a name with a colon would be a scheme.
fn row(entry: &DirEntry, out: &mut String) {
    let slash = if entry.metadata.is_dir() { "/" } else { "" };
    let _ = write!(
        out,
        "<tr><td><a href=\"./{}{slash}\">{}{slash}</a></td>",
        href::segment(&entry.name),
        xml::escape(&display_bytes(&entry.name))
    );
    let size = if entry.metadata.is_file() { people(entry.metadata.size) } else { String::new() };
    let at = entry.metadata.modified.and_then(date::internet).unwrap_or_default().replace(['T', 'Z'], " ");
    let _ = writeln!(out, "<td>{size}</td><td>{}</td></tr>", at.trim_end());
}

/// A size for people.
fn people(size: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    let mut tenths = size.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::metadata::{FileType, Metadata};

    #[test]
    fn names_break_out_of_nothing() {
        let name = b"<script>\"'&: ../\xff\n.html";
        let entry =
            DirEntry { name: Bytes::from_static(name), metadata: Metadata::new(FileType::File, 1536) };
        let mut out = String::new();
        row(&entry, &mut out);
        assert!(!out.contains("<script>") && out.contains("&lt;script&gt;"));
        assert_eq!(out.matches('"').count(), 2);
        assert!(out.contains("href=\"./%3Cscript%3E%22%27%26%3A%20../%FF%0A.html\""), "{out}");
        assert!(out.contains("1.5 KiB"));
        assert_eq!(people(1023), "1023 B");
        assert!(people(u64::MAX).ends_with(" EiB"));
    }
}
