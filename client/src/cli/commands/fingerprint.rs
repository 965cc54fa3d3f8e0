//! `fingerprint`: what a server shows of itself, in every form in which it can be pinned.
//!
//! Nothing is trusted, put on record or logged in to; hosts to go over are, as ever. What is shown was not
//! checked: compare it with what the server's keeper says.

use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};

use super::Context;
use crate::cli::args::Fingerprint;
use crate::cli::lines;
use crate::cli::render::{Out, date};
use crate::connect;
use crate::url::{Location, Url};

pub(super) async fn fingerprint(cx: &mut Context, a: &Fingerprint) -> Result<()> {
    let mut out = Out::new();
    for text in &a.places {
        let shown = match Location::parse(text) {
            Ok(Location::Remote(url)) => one(cx, &url, a.all, &mut out).await,
            Ok(Location::Local(_)) => Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("'{text}' is not a URL of a server"))),
            Err(e) => Err(e),
        };
        if let Err(e) = shown {
            out.flush();
            cx.complain(&e);
        }
    }
    Ok(())
}

async fn one(cx: &Context, url: &Url, all: bool, out: &mut Out) -> Result<()> {
    let options = cx.places.options(url).await?;
    match options.is_ssh() {
        #[cfg(feature = "sftp")]
        true => host_keys(cx, options, all, out).await,
        #[cfg(any(feature = "ftp", feature = "s3", feature = "webdav"))]
        false => certificate(cx, &options, out).await,
        #[cfg(not(all(any(feature = "ftp", feature = "s3", feature = "webdav"), feature = "sftp")))]
        _ => Err(Error::new(ErrorKind::Unsupported).with_detail("this build does not speak that protocol")),
    }
}

#[cfg(feature = "sftp")]
async fn host_keys(cx: &Context, options: connect::Options, all: bool, out: &mut Out) -> Result<()> {
    let kinds = if all { proto_sftp::ssh::algorithms::spoken::keys().1 } else { Vec::new() };
    let mut keys: Vec<session_core::trust::HostKey> = Vec::new();
    if kinds.is_empty() {
        keys.push(connect::host_key(options.clone(), &[], cx.places.decider()).await?);
    }
    for kind in kinds {
        match connect::host_key(options.clone(), &[kind], cx.places.decider()).await {
            // RSA has two names.
            Ok(key) if keys.iter().any(|k| k.blob == key.blob) => {}
            Ok(key) => keys.push(key),
            // It has none of this kind.
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            Err(e) => return Err(e),
        }
    }
    for key in keys {
        if cx.global.json {
            out.json(&lines::HOST_KEY, json!({
                "host": key.host, "port": key.port, "algorithm": key.algorithm,
                "sha256": key.fingerprint(), "md5": key.md5_fingerprint(), "winscp": key.winscp_fingerprint(),
            }));
            continue;
        }
        out.line(&format!("{}:{}  {}", key.host, key.port, key.algorithm));
        out.line(&format!("  {}", key.fingerprint()));
        out.line(&format!("  {}", key.md5_fingerprint()));
        out.line(&format!("  {}", key.winscp_fingerprint()));
    }
    Ok(())
}

#[cfg(any(feature = "ftp", feature = "s3", feature = "webdav"))]
async fn certificate(cx: &Context, options: &connect::Options, out: &mut Out) -> Result<()> {
    let c = connect::certificate(options).await?;
    if cx.global.json {
        out.json(
            &lines::CERTIFICATE,
            json!({
                "host": c.host, "port": c.port, "subject": c.subject, "issuer": c.issuer,
                "valid": c.validity.map(|(from, to)| [session_core::event::timestamp(from), session_core::event::timestamp(to)]),
                "sha256": c.fingerprint(), "sha1": c.sha1_fingerprint(),
            }),
        );
        return Ok(());
    }
    out.line(&format!("{}:{}  {}", c.host, c.port, c.subject));
    out.line(&format!("  made by {}", c.issuer));
    if let Some((from, to)) = c.validity {
        out.line(&format!("  good from {} to {} UTC", date(from), date(to)));
    }
    out.line(&format!("  SHA-256 {}", c.fingerprint()));
    out.line(&format!("  SHA-1   {}", c.sha1_fingerprint()));
    Ok(())
}
