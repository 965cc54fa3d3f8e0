//! ListObjects and ListObjectsV2: pages of objects and common prefixes.
//!
//! A listing that goes on is kept, open as it is, until its next page is asked for or a minute is over, so that
//! pages do not cost a listing each. What a client gives back to go on says where, too: without the open listing
//! it goes on from there by a new one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, ObjectStorageClass, Timestamp,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};
use session_core::net::http::Client;
use tokio::time::Instant;

use super::buckets;
use super::exchange::{Exchange, refuse};
use super::object::{Found, is_bucket};
use super::walk::{Position, Step, Walk};

/// The most entries of one page.
const MOST: i32 = 1000;
/// How many open listings are kept, of all sessions.
const KEPT: usize = 32;
/// For how long.
const IDLE: Duration = Duration::from_secs(60);
/// What stands in a URL as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// What makes a listing the same as another.
#[derive(Clone, PartialEq, Eq)]
struct Asked {
    bucket: String,
    prefix: String,
    delimiter: String,
}

struct Open {
    client: Arc<Client>,
    asked: Asked,
    at: Position,
    since: Instant,
    walk: Walk,
}

/// Listings that wait for their next page.
#[derive(Default)]
pub(super) struct Walks(Mutex<Vec<Open>>);

impl Walks {
    fn take(&self, client: &Arc<Client>, asked: &Asked, at: &Position) -> Option<Walk> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|o| o.since.elapsed() < IDLE && !o.client.session.is_cut());
        let is = |o: &Open| Arc::ptr_eq(&o.client, client) && o.asked == *asked && o.at == *at;
        let found = open.iter().position(is)?;
        Some(open.remove(found).walk)
    }

    fn keep(&self, client: &Arc<Client>, asked: Asked, at: Position, walk: Walk) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|o| o.since.elapsed() < IDLE && !o.client.session.is_cut());
        if open.len() >= KEPT {
            open.remove(0);
        }
        open.push(Open { client: Arc::clone(client), asked, at, since: Instant::now(), walk });
    }
}

/// One page.
struct Page {
    objects: Vec<(String, Found)>,
    prefixes: Vec<String>,
    /// Where it ends, if more follows: the position, and the key as the first version says it.
    next: Option<(Position, String)>,
}

/// The most entries that a client wants.
fn limit(wanted: Option<i32>) -> S3Result<usize> {
    match wanted.unwrap_or(MOST) {
        n if n < 0 => Err(refuse(S3ErrorCode::InvalidArgument, "a page cannot hold less than nothing")),
        n => Ok(usize::try_from(n.min(MOST)).unwrap_or_default()),
    }
}

/// A page behind a position; `given` is the common prefix that the page before may have ended in.
async fn page(
    x: &Exchange,
    asked: Asked,
    behind: Option<Position>,
    given: Option<String>,
    most: usize,
) -> S3Result<Page> {
    let fs = x.fs()?;
    let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), next: None };
    let bucket = buckets::at(x, &asked.bucket)?;
    if most == 0 {
        is_bucket(fs, &bucket).await.map_err(|e| x.fail_bucket(e))?;
        return Ok(page);
    }
    let client = x.client();
    let kept = client.zip(behind.as_ref()).and_then(|(c, at)| x.service.walks.take(c, &asked, at));
    let deep = asked.delimiter != "/";
    let mut walk = match kept {
        Some(walk) => walk,
        None => Walk::begin(fs, &bucket, &asked.prefix, deep, behind).await.map_err(|e| x.fail(e))?,
    };
    let mut last = None;
    while page.objects.len() + page.prefixes.len() < most {
        let Some(step) = walk.next().await.map_err(|e| x.fail(e))? else { break };
        let position = step.position().clone();
        match step {
            Step::Prefix { key, .. } => {
                last = Some((position, key.clone()));
                page.prefixes.push(key);
            }
            Step::Object { key, metadata, .. } => {
                let marker = metadata.is_dir();
                match common(&key, &asked).filter(|_| deep) {
                    Some(common) => {
                        last = Some((position, common.clone()));
                        if page.prefixes.last() != Some(&common) && given.as_ref() != Some(&common) {
                            page.prefixes.push(common);
                        }
                    }
                    None => {
                        last = Some((position, key.clone()));
                        page.objects.push((key, Found { metadata, marker }));
                    }
                }
            }
        }
    }
    if last.is_none() {
        // What is in it shows a bucket, too.
        is_bucket(fs, &bucket).await.map_err(|e| x.fail_bucket(e))?;
    }
    if walk.has_more().await.map_err(|e| x.fail(e))? {
        page.next = last;
        if let (Some(client), Some((at, _))) = (client, &page.next) {
            x.service.walks.keep(client, asked, at.clone(), walk);
        }
    }
    Ok(page)
}

/// The common prefix that a key is given as, if it is.
fn common(key: &str, asked: &Asked) -> Option<String> {
    let rest = key.strip_prefix(&asked.prefix)?;
    let delimiter = Some(asked.delimiter.as_str()).filter(|d| !d.is_empty())?;
    let end = rest.find(delimiter)? + delimiter.len();
    Some(format!("{}{}", asked.prefix, rest.get(..end)?))
}

/// How keys are written: as they are, or for URLs.
struct Written(bool);

impl Written {
    /// Errors: `InvalidArgument` for a way that is not known.
    fn new(how: Option<&EncodingType>) -> S3Result<Written> {
        match how.map(EncodingType::as_str) {
            None => Ok(Written(false)),
            Some("url") => Ok(Written(true)),
            Some(_) => Err(refuse(S3ErrorCode::InvalidArgument, "keys are encoded for URLs or not at all")),
        }
    }

    fn text(&self, text: String) -> String {
        if self.0 { utf8_percent_encode(&text, PLAIN).to_string() } else { text }
    }

    fn prefixes(&self, prefixes: Vec<String>) -> Vec<CommonPrefix> {
        let one = |p| CommonPrefix { prefix: Some(self.text(p)) };
        prefixes.into_iter().map(one).collect()
    }

    fn objects(&self, objects: Vec<(String, Found)>, owner: Option<&s3s::dto::Owner>) -> Vec<Object> {
        let one = |(key, found): (String, Found)| Object {
            e_tag: Some(ETag::Strong(found.etag())),
            key: Some(self.text(key)),
            last_modified: found.metadata.modified.map(Timestamp::from),
            owner: owner.cloned(),
            size: i64::try_from(found.size()).ok(),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Object::default()
        };
        objects.into_iter().map(one).collect()
    }
}

pub(super) async fn first(
    x: &Exchange,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = req.input;
    let written = Written::new(input.encoding_type.as_ref())?;
    let most = limit(input.max_keys)?;
    let marker = input.marker.clone().filter(|m| !m.is_empty());
    let asked = Asked {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
    };
    let behind = marker.as_deref().map(Position::behind);
    let page = page(x, asked, behind, marker, most).await?;
    let delimited = input.delimiter.is_some();
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(written.text(input.prefix.unwrap_or_default())),
        marker: Some(written.text(input.marker.unwrap_or_default())),
        max_keys: Some(i32::try_from(most).unwrap_or(MOST)),
        is_truncated: Some(page.next.is_some()),
        // Without a delimiter clients go on by the last key.
        next_marker: page.next.filter(|_| delimited).map(|(_, key)| written.text(key)),
        contents: Some(written.objects(page.objects, buckets::owner(x).as_ref())),
        common_prefixes: Some(written.prefixes(page.prefixes)),
        delimiter: input.delimiter.map(|d| written.text(d)),
        encoding_type: input.encoding_type,
        ..ListObjectsOutput::default()
    }))
}

pub(super) async fn second(
    x: &Exchange,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let written = Written::new(input.encoding_type.as_ref())?;
    let most = limit(input.max_keys)?;
    let odd = || refuse(S3ErrorCode::InvalidArgument, "the continuation token is none of ours");
    let token = input.continuation_token.as_deref();
    let token = token.map(|t| Position::parse(t).ok_or_else(odd)).transpose()?;
    let asked = Asked {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
    };
    let given = token.as_ref().and_then(|at| common(&at.key()?, &asked));
    let start = || input.start_after.as_deref().filter(|k| !k.is_empty()).map(Position::behind);
    let page = page(x, asked, token.or_else(start), given, most).await?;
    let owner = buckets::owner(x).filter(|_| input.fetch_owner == Some(true));
    let count = page.objects.len() + page.prefixes.len();
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(written.text(input.prefix.unwrap_or_default())),
        max_keys: Some(i32::try_from(most).unwrap_or(MOST)),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|(position, _)| position.token()),
        contents: Some(written.objects(page.objects, owner.as_ref())),
        common_prefixes: Some(written.prefixes(page.prefixes)),
        delimiter: input.delimiter.map(|d| written.text(d)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|k| written.text(k)),
        ..ListObjectsV2Output::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_for_urls_where_that_is_asked_for() {
        let url = Written::new(Some(&EncodingType::from_static("url"))).unwrap();
        assert_eq!(url.text("a/b c+ä\u{1}.txt".into()), "a/b%20c%2B%C3%A4%01.txt");
        assert_eq!(Written(false).text("a b".into()), "a b");
        assert!(Written::new(Some(&EncodingType::from_static("gzip"))).is_err());
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(limit(None).unwrap(), 1000);
        assert_eq!(limit(Some(5000)).unwrap(), 1000);
        assert_eq!(limit(Some(0)).unwrap(), 0);
        assert!(limit(Some(-1)).is_err());
    }
}
