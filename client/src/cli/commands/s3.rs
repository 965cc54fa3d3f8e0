//! `alter`, `presign`, `tag`, `versions`, and what `stat` tells of objects: what S3 has beside files.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_s3::client::{About, Granted, Presign, S3Remote};
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;
use session_core::path::display_bytes;

use super::Context;
use super::changes::{Became, Teller, at, with};
use crate::cli::lines;
use crate::cli::places::Place;
use crate::cli::render::{Out, date};
use crate::cli::s3_args;

async fn open(cx: &mut Context, text: &str) -> Result<(Place, Arc<S3Remote>)> {
    let place = cx.places.open(text).await?;
    let remote = if place.remote { cx.places.s3(&place.key) } else { None };
    let remote = remote.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported)
            .with_detail(format!("'{}' is not in S3", place.shown))
            .with_hint("name an object: s3://bucket/path")
    })?;
    Ok((place, remote))
}

/// What a store says of an object. `None`: the store has no such thing, or does not tell us.
pub(super) struct Known {
    about: About,
    tags: Option<BTreeMap<String, String>>,
    acl: Option<Vec<Granted>>,
}

/// What is known of the object at `place`; `None` where that is not in S3. Errors: those of looking.
pub(super) async fn known(cx: &Context, place: &Place) -> Result<Option<Known>> {
    let remote = if place.remote { cx.places.s3(&place.key) } else { None };
    let Some(remote) = remote else { return Ok(None) };
    let path = &place.path;
    let (about, tags, acl) = tokio::join!(remote.about(path), remote.tags(path), remote.acl(path));
    // Of these, stores have little in common, and each is a permission of its own.
    Ok(Some(Known { about: about?, tags: tags.ok(), acl: acl.ok() }))
}

impl Known {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let a = &self.about;
        let grant = |g: &Granted| json!({ "who": g.who, "permission": g.permission, "owner": g.owner });
        let acl = self.acl.as_ref().map(|all| all.iter().map(grant).collect::<Vec<_>>());
        let all = json!({
            "content_type": a.content_type, "content_encoding": a.content_encoding,
            "content_language": a.content_language, "content_disposition": a.content_disposition,
            "cache_control": a.cache_control, "class": a.storage_class, "encryption": a.encryption,
            "kms_key": a.kms_key, "version": a.version, "restore": a.restore, "metadata": a.metadata,
            "tags": self.tags, "acl": acl,
        });
        let said = all.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        said.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let a = &self.about;
        let mut lines = Vec::new();
        let mut add = |label: &str, text: String| {
            lines.push(format!("  {label:<9} {}", display_bytes(text.as_bytes())));
        };
        let class = Some(a.storage_class.clone());
        for (label, value) in [
            ("media", &a.content_type),
            ("encoding", &a.content_encoding),
            ("language", &a.content_language),
            ("shown as", &a.content_disposition),
            ("cache", &a.cache_control),
            ("class", &class),
            ("encrypted", &a.encryption),
            ("key", &a.kms_key),
            ("version", &a.version),
            ("restore", &a.restore),
        ] {
            if let Some(value) = value {
                add(label, value.clone());
            }
        }
        for (label, pairs) in [("metadata", Some(&a.metadata)), ("tag", self.tags.as_ref())] {
            for (name, value) in pairs.into_iter().flatten() {
                add(label, format!("{name}={value}"));
            }
        }
        for g in self.acl.iter().flatten().filter(|g| !g.owner) {
            add("grant", format!("{} {}", g.permission, g.who));
        }
        lines
    }
}

pub(super) async fn alter(cx: &mut Context, a: &s3_args::Alter) -> Result<()> {
    let wanted = cx.global.s3.putting();
    let mut teller = Teller::new("alter");
    for text in &a.places {
        match open(cx, text).await {
            Ok((place, remote)) => {
                let altered = remote.alter(&place.path, &wanted, &a.unset).await;
                teller.tell(cx, at(&place, &place.path), altered.map(|_| Became::Done));
            }
            Err(e) => teller.unopened(cx, text, e),
        }
    }
    Ok(())
}

pub(super) async fn tag(cx: &mut Context, a: &s3_args::Tag) -> Result<()> {
    let mut out = Out::new();
    for text in &a.places {
        match tag_one(cx, text, a).await {
            Err(e) => {
                out.flush();
                cx.complain(&e);
            }
            Ok((shown, tags)) if cx.global.json => {
                out.json(&lines::TAGS, json!({ "place": shown, "tags": tags }))
            }
            Ok(_) if a.changes() => {}
            Ok((shown, tags)) => {
                if a.places.len() > 1 {
                    out.line(&shown);
                }
                for (name, value) in tags {
                    out.line(&display_bytes(format!("{name}={value}").as_bytes()));
                }
            }
        }
    }
    Ok(())
}

/// The tags of an object, after what was asked for. What somebody else changes in between is lost.
async fn tag_one(
    cx: &mut Context,
    text: &str,
    a: &s3_args::Tag,
) -> Result<(String, BTreeMap<String, String>)> {
    let (place, remote) = open(cx, text).await?;
    let there = if a.clear { BTreeMap::new() } else { remote.tags(&place.path).await? };
    let mut tags = there.clone();
    tags.retain(|name, _| !a.unset.contains(name));
    tags.extend(a.set.iter().cloned());
    if a.clear || tags != there {
        remote.set_tags(&place.path, &tags).await?;
    }
    Ok((place.shown, tags))
}

pub(super) async fn presign(cx: &mut Context, a: &s3_args::Presign) -> Result<()> {
    let mut out = Out::new();
    let what = if a.put { Presign::Put } else { Presign::Get };
    for text in &a.places {
        let made = match open(cx, text).await {
            Ok((place, remote)) => remote.presign(&place.path, what, a.expires).await.map(|url| (place, url)),
            Err(e) => Err(e),
        };
        match made {
            Err(e) => {
                out.flush();
                cx.complain(&e);
            }
            Ok((place, url)) if cx.global.json => out.json(
                &lines::PRESIGNED,
                json!({
                    "place": place.shown, "url": url, "method": if a.put { "PUT" } else { "GET" },
                    "expires": a.expires.as_secs(),
                }),
            ),
            Ok((_, url)) => out.line(&url),
        }
    }
    Ok(())
}

pub(super) async fn versions(cx: &mut Context, a: &s3_args::Versions) -> Result<()> {
    let (place, remote) = open(cx, &a.place).await?;
    if let Some(id) = &a.restore {
        let restored = remote.restore(&place.path, id).await;
        let fields = with(at(&place, &place.path), "version", id.as_str());
        Teller::new("versions").tell(cx, fields, restored.map(|_| Became::Done));
        return Ok(());
    }
    let mut out = Out::new();
    for v in remote.versions(&place.path).await? {
        if cx.global.json {
            out.json(
                &lines::VERSION,
                json!({
                    "id": v.id, "modified": v.modified.map(timestamp), "size": v.size, "etag": v.etag.as_deref(),
                    "latest": v.latest, "removed": v.removed,
                }),
            );
            continue;
        }
        let mark = if v.latest { '*' } else { ' ' };
        let size = if v.removed { "removed".to_owned() } else { v.size.to_string() };
        out.line(&format!("{mark} {:>16} {size:>14} {}", v.modified.map(date).unwrap_or_default(), v.id));
    }
    Ok(())
}
