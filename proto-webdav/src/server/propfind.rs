//! PROPFIND (RFC 4918, section 9.1): properties of an entry, or of a directory and what is right in it.
//!
//! A listing is sent as it is read; one that fails in the midst breaks the connection, so that no client takes
//! a part for the whole. Trees are not listed in one request (`propfind-finite-depth`).

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use hyper::header::{self, HeaderName, HeaderValue};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{Filesystem as _, Follow, ListOptions, Listing, Space};
use session_core::gate::SessionFs;
use session_core::metadata::{DirEntry, Metadata};
use session_core::net::http::InFlight;
use session_core::path::VPath;

use super::properties::{Subject, is_kept};
use super::respond::{Answer, Failure, XML, broken, empty, set, streamed};
use super::service::Call;
use super::tree;
use crate::wire::depth::Depth;
use crate::wire::href;
use crate::wire::multistatus::{self, Propstat, Value};
use crate::wire::propfind::Propfind;
use crate::wire::xml::{DAV, Name};

/// A listing is sent in pieces of about this many bytes.
const LISTED: usize = 64 * 1024;
/// Entries that are looked at together.
const TOGETHER: usize = 32;

pub(super) async fn find(mut call: Call) -> Answer {
    let depth = match call.field("depth").map(Depth::parse) {
        None => Depth::Infinity,
        Some(Some(depth)) => depth,
        Some(None) => return Err(Failure::new(400, ErrorKind::InvalidArgument, "that is no depth")),
    };
    if depth == Depth::Infinity {
        let words = "trees are not listed in one request";
        let failure = Failure::new(403, ErrorKind::Refused, words);
        return Err(failure.about("propfind-finite-depth", Vec::new()));
    }
    let body = tree::take(&mut call).await?;
    let wanted = Propfind::parse(&body)?;
    let path = call.target.path.clone();
    let metadata = call.fs.stat(&path, Follow::Yes).await?;
    let query = Query::new(&call, wanted);
    let classes = call.classes();
    let space = if query.quota && metadata.is_dir() { call.fs.space(&path).await.ok() } else { None };
    let mut out = multistatus::HEAD.to_owned();
    query.show(&path, &metadata, space, &mut out);
    let listing = if depth == Depth::One && metadata.is_dir() {
        Some(call.fs.list(&path, &ListOptions::default()).await?)
    } else {
        None
    };
    let mut lister = Lister { query, dir: path, listing, out, over: false, _flight: call.flight };
    // What fails at once is told in the status; a short answer goes in one piece.
    let first = lister.next().await?;
    let mut response = empty(207);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(XML));
    // Who asks this first need not ask by OPTIONS.
    set(&mut response, HeaderName::from_static("dav"), &classes);
    let first = first.unwrap_or_default();
    *response.body_mut() = if lister.over {
        super::respond::full(first)
    } else {
        streamed(stream::unfold((Some(first), Some(lister)), |(first, lister)| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, lister)));
            }
            let mut lister = lister?;
            match lister.next().await {
                Ok(Some(piece)) => Some((Ok(piece), (None, Some(lister)))),
                Ok(None) => None,
                Err(e) => Some((Err::<Bytes, io::Error>(broken(e)), (None, None))),
            }
        }))
    };
    Ok(response)
}

/// What is asked of every entry.
struct Query {
    fs: SessionFs,
    wanted: Propfind,
    /// What was set by somebody has to be known.
    kept: bool,
    quota: bool,
    lockable: bool,
    prefix: Arc<str>,
}

impl Query {
    fn new(call: &Call, wanted: Propfind) -> Self {
        let named: &[Name] = match &wanted {
            Propfind::All(names) | Propfind::Named(names) => names,
            Propfind::Names => &[],
        };
        let capabilities = call.fs.capabilities();
        let all = !matches!(wanted, Propfind::Named(_));
        Query {
            fs: call.fs.clone(),
            kept: capabilities.properties && (all || named.iter().any(is_kept)),
            quota: named.iter().any(|n| *n.space == *DAV && n.local.starts_with("quota-")),
            lockable: capabilities.locks,
            prefix: call.options.prefix.as_str().into(),
            wanted,
        }
    }

    fn show(&self, path: &VPath, metadata: &Metadata, space: Option<Space>, out: &mut String) {
        let subject = Subject {
            path,
            metadata,
            locks: if self.lockable { self.fs.locks_at(path) } else { Vec::new() },
            lockable: self.lockable,
            space,
            prefix: &self.prefix,
        };
        let mut found = Propstat { status: 200, properties: Vec::new(), condition: None };
        let mut missing = Propstat { status: 404, properties: Vec::new(), condition: None };
        let names = match &self.wanted {
            Propfind::Named(names) => names.clone(),
            Propfind::Names => subject.names(),
            Propfind::All(more) => {
                let mut names = subject.names();
                names.extend(more.iter().filter(|n| !names.contains(n)).cloned().collect::<Vec<_>>());
                names
            }
        };
        for name in names {
            let value = subject.value(&name);
            match value {
                Some(_) if self.wanted == Propfind::Names => found.properties.push((name, Value::Empty)),
                Some(value) => found.properties.push((name, value)),
                None => missing.properties.push((name, Value::Empty)),
            }
        }
        let href = href::write(path, metadata.is_dir(), &self.prefix);
        multistatus::properties(&href, &[found, missing], out);
    }

    /// What a listed entry is to clients: a link is what it leads to, and one that leads nowhere is itself.
    async fn look(&self, path: VPath, metadata: Metadata) -> Result<Option<(VPath, Metadata)>> {
        let known = metadata.properties.is_some() || !self.kept;
        if !metadata.is_symlink() && known {
            return Ok(Some((path, metadata)));
        }
        match self.fs.look(&path, Follow::Yes).await {
            Ok(Some(there)) => Ok(Some((path, there))),
            Ok(None) if metadata.is_symlink() => Ok(Some((path, metadata))),
            // It is gone since it was listed.
            Ok(None) => Ok(None),
            Err(e) if e.kind() == ErrorKind::Canceled => Err(e),
            Err(_) => Ok(Some((path, metadata))),
        }
    }
}

/// An answer under way.
struct Lister {
    query: Query,
    dir: VPath,
    listing: Option<Listing>,
    out: String,
    over: bool,
    _flight: InFlight,
}

impl Lister {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.over {
            return Ok(None);
        }
        while self.out.len() < LISTED {
            let page = match &mut self.listing {
                Some(listing) => listing.next_page().await?,
                None => None,
            };
            let Some(page) = page else {
                self.out.push_str(multistatus::TAIL);
                self.over = true;
                break;
            };
            self.write(page).await?;
        }
        Ok(Some(std::mem::take(&mut self.out).into()))
    }

    async fn write(&mut self, page: Vec<DirEntry>) -> Result<()> {
        let mut page = page.into_iter();
        loop {
            let some: Vec<_> = page.by_ref().take(TOGETHER).collect();
            if some.is_empty() {
                return Ok(());
            }
            let mut looks = Vec::with_capacity(some.len());
            for entry in some {
                looks.push(self.query.look(self.dir.join(&entry.name)?, entry.metadata));
            }
            for found in join_all(looks).await {
                if let Some((path, metadata)) = found? {
                    self.query.show(&path, &metadata, None, &mut self.out);
                }
            }
        }
    }
}
