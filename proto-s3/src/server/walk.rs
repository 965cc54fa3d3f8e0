//! The objects below a prefix, one after the other, in the order of their keys.
//!
//! A directory is listed in the order of keys (its name ends in a slash there), so a walk that enters directories
//! where they stand gives all keys in order; nothing is held but one open listing per level. Only segments that
//! are no names (`keyspace`) come where the names stand that they have. Links to files are objects, links to
//! directories are prefixes that a walk does not enter; names that can be no keys are left out. A directory that was
//! made on purpose is a key where the walk gives nothing in it, also if others removed it all while it was listed.
//!
//! A walk can begin behind a position: then each level is begun there, and nothing before it is looked at.

use std::collections::VecDeque;

use bytes::Bytes;
use session_core::error::{ErrorKind, Result};
use session_core::fs::{Filesystem as _, ListOptions, Listing, Order};
use session_core::gate::SessionFs;
use session_core::metadata::{DirEntry, Metadata};
use session_core::path::VPath;

use super::object::{is_implied, look};
use crate::keyspace::{ESCAPE, MAX_KEY, name_of, segment_of};

/// Where a walk goes on: behind this path below the bucket, by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    names: Vec<Vec<u8>>,
    /// Before everything in it: the path is a directory.
    inside: bool,
}

impl Position {
    /// Behind a key, which may be a prefix with a slash at its end.
    pub(super) fn behind(key: &str) -> Position {
        let inside = key.ends_with('/');
        let path = key.strip_suffix('/').unwrap_or(key);
        Position { names: path.split('/').map(|s| name_of(s).into_bytes()).collect(), inside }
    }

    /// The key that it is behind.
    pub(super) fn key(&self) -> Option<String> {
        let segments: Option<Vec<_>> = self.names.iter().map(|n| segment_of(n).ok()).collect();
        Some(format!("{}{}", segments?.join("/"), if self.inside { "/" } else { "" }))
    }

    /// As text that clients give back.
    pub(super) fn token(&self) -> String {
        use base64::Engine as _;
        let mut bytes = vec![if self.inside { b'd' } else { b'o' }];
        bytes.extend_from_slice(&self.names.join(&b'/'));
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for what is no token of ours.
    pub(super) fn parse(token: &str) -> Option<Position> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok()?;
        let (kind, path) = bytes.split_first()?;
        let inside = match kind {
            b'd' => true,
            b'o' => false,
            _ => return None,
        };
        let names: Vec<_> = path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
        names.iter().all(|n| !n.is_empty()).then_some(Position { names, inside })
    }

    /// What is left of it in a directory that it leads into.
    fn below(&self) -> Rest {
        match self.names.get(1..) {
            Some([]) | None => Rest::Inside,
            Some(names) => Rest::Behind(Position { names: names.to_vec(), inside: self.inside }),
        }
    }
}

/// Where in a directory a walk begins.
#[derive(Clone, Debug)]
enum Rest {
    /// At its start.
    Start,
    /// At its start, the prefix itself having been given.
    Inside,
    Behind(Position),
}

/// What a walk comes to.
#[derive(Debug)]
pub(super) enum Step {
    /// An object, or a directory that was made on purpose and is empty.
    Object { key: String, position: Position, metadata: Metadata },
    /// A directory that is not entered: what all keys in it begin with.
    Prefix { key: String, position: Position },
}

impl Step {
    pub(super) fn position(&self) -> &Position {
        match self {
            Step::Object { position, .. } | Step::Prefix { position, .. } => position,
        }
    }
}

struct Level {
    /// The directory, as keys in it begin.
    key: String,
    dir: VPath,
    /// The names that lead to it below the bucket.
    names: Vec<Vec<u8>>,
    pages: Listing,
    ready: VecDeque<DirEntry>,
    rest: Rest,
    /// What segments must begin with.
    filter: String,
    /// What is given if nothing else is: nothing is in it, or nothing is left of it when the walk comes there.
    marker: Option<Metadata>,
    gave: bool,
}

/// A walk under way.
pub(super) struct Walk {
    fs: SessionFs,
    levels: Vec<Level>,
    deep: bool,
    /// Found, and not given yet.
    peeked: Option<Step>,
}

enum Side {
    Before,
    /// The position leads into this directory.
    Into,
    Behind,
}

/// On which side of a position an entry is.
fn side(position: &Position, name: &[u8], is_dir: bool) -> Side {
    let Some(first) = position.names.first() else { return Side::Behind };
    let is_leaf = position.names.len() == 1 && !position.inside;
    if is_dir && !is_leaf && name == &first[..] {
        return Side::Into;
    }
    let key = |name: &[u8], slash: bool| [name, if slash { &b"/"[..] } else { b"" }].concat();
    if key(name, is_dir) > key(first, !is_leaf) { Side::Behind } else { Side::Before }
}

impl Walk {
    /// Of all keys in `bucket` that begin with `prefix`, entering directories if `deep`, behind a position.
    /// Errors: those of the gate; a prefix below which there is nothing is no error, nor a bucket that is none.
    pub(super) async fn begin(
        fs: &SessionFs,
        bucket: &VPath,
        prefix: &str,
        deep: bool,
        behind: Option<Position>,
    ) -> Result<Walk> {
        let mut walk = Walk { fs: fs.clone(), levels: Vec::new(), deep, peeked: None };
        let (above, filter) = match prefix.rfind('/') {
            Some(at) => prefix.split_at(at + 1),
            None => ("", prefix),
        };
        let mut dir = bucket.clone();
        let mut names = Vec::new();
        let mut rest = behind.map_or(Rest::Start, Rest::Behind);
        for segment in above.split_terminator('/') {
            let name = name_of(segment).into_bytes();
            rest = match rest {
                Rest::Behind(position) => match side(&position, &name, true) {
                    Side::Before => return Ok(walk),
                    Side::Into => position.below(),
                    Side::Behind => Rest::Start,
                },
                rest => rest,
            };
            // What is no path is nowhere.
            match dir.join(&name) {
                Ok(deeper) => dir = deeper,
                Err(_) => return Ok(walk),
            }
            names.push(name);
        }
        let Some(there) = look(fs, &dir).await?.filter(Metadata::is_dir) else { return Ok(walk) };
        let marker = !names.is_empty() && !is_implied(&there) && filter.is_empty();
        let marker = marker.then_some(there);
        walk.enter(dir, above.to_owned(), names, rest, filter.to_owned(), marker).await?;
        Ok(walk)
    }

    async fn enter(
        &mut self,
        dir: VPath,
        key: String,
        names: Vec<Vec<u8>>,
        rest: Rest,
        filter: String,
        marker: Option<Metadata>,
    ) -> Result<()> {
        let after = match &rest {
            Rest::Behind(position) => position.names.first().map(|n| Bytes::copy_from_slice(n)),
            _ => None,
        };
        let gave = after.is_some();
        let options = ListOptions { order: Order::Key, after, properties: true };
        let pages = match self.fs.list(&dir, &options).await {
            Ok(pages) => pages,
            // Gone since it was found.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(e) => return Err(e),
        };
        let marker = marker.filter(|_| matches!(rest, Rest::Start));
        self.levels.push(Level {
            key,
            dir,
            names,
            pages,
            ready: VecDeque::new(),
            rest,
            filter,
            marker,
            gave,
        });
        Ok(())
    }

    /// The next one; `None` at the end. Errors: those of the gate.
    pub(super) async fn next(&mut self) -> Result<Option<Step>> {
        match self.peeked.take() {
            Some(step) => Ok(Some(step)),
            None => self.find().await,
        }
    }

    /// Whether there is another one.
    pub(super) async fn has_more(&mut self) -> Result<bool> {
        if self.peeked.is_none() {
            self.peeked = self.find().await?;
        }
        Ok(self.peeked.is_some())
    }

    async fn find(&mut self) -> Result<Option<Step>> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(entry) = level.ready.pop_front() else {
                match level.pages.next_page().await? {
                    Some(page) => level.ready = page.into(),
                    None => {
                        let Some(level) = self.levels.pop() else { return Ok(None) };
                        if let (false, Some(metadata)) = (level.gave, level.marker) {
                            let position = Position { names: level.names, inside: true };
                            return Ok(Some(self.given(Step::Object { key: level.key, position, metadata })));
                        }
                    }
                }
                continue;
            };
            if let Some(step) = self.consider(entry).await? {
                return Ok(Some(self.given(step)));
            }
        }
    }

    /// What the walk is in has something in it.
    fn given(&mut self, step: Step) -> Step {
        for level in &mut self.levels {
            level.gave = true;
        }
        step
    }

    /// What an entry comes to, if it comes to anything.
    async fn consider(&mut self, entry: DirEntry) -> Result<Option<Step>> {
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        let Ok(segment) = segment_of(&entry.name) else { return Ok(None) };
        if !segment.starts_with(&level.filter) {
            // Behind everything that begins so, unless names and segments are in two orders.
            let plain = !level.filter.is_empty() && !level.filter.starts_with(['.', ESCAPE]);
            if plain && &entry.name[..] > level.filter.as_bytes() {
                level.ready.clear();
                level.pages = Box::new(session_core::fs::ListingOf::new(Vec::new()));
            }
            return Ok(None);
        }
        let path = level.dir.join(&entry.name)?;
        let (metadata, is_link) = match entry.metadata.is_symlink() {
            false => (entry.metadata, false),
            true => match look(&self.fs, &path).await {
                Ok(Some(there)) => (there, true),
                // It leads nowhere, or where this account may not go.
                Ok(None) => return Ok(None),
                Err(e) if matches!(e.kind(), ErrorKind::Canceled | ErrorKind::Unauthenticated) => {
                    return Err(e);
                }
                Err(_) => return Ok(None),
            },
        };
        let is_dir = metadata.is_dir();
        let below = match &level.rest {
            Rest::Start => Rest::Start,
            // The key of the directory itself, which was given.
            Rest::Inside if segment.is_empty() && !is_dir => return Ok(None),
            Rest::Inside => Rest::Start,
            Rest::Behind(position) => match side(position, &entry.name, is_dir) {
                Side::Before => return Ok(None),
                Side::Into => position.below(),
                Side::Behind => Rest::Start,
            },
        };
        let key = format!("{}{segment}{}", level.key, if is_dir { "/" } else { "" });
        if key.len() > MAX_KEY || !(is_dir || metadata.is_file()) {
            return Ok(None);
        }
        let mut names = level.names.clone();
        names.push(entry.name.to_vec());
        if !is_dir {
            return Ok(Some(Step::Object { key, position: Position { names, inside: false }, metadata }));
        }
        if !self.deep || is_link {
            // One that was given is not given again.
            let given = matches!(below, Rest::Inside);
            let position = Position { names, inside: true };
            return Ok((!given).then_some(Step::Prefix { key, position }));
        }
        let marker = (!is_implied(&metadata)).then_some(metadata);
        self.enter(path, key, names, below, String::new(), marker).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back() {
        for key in ["a", "a/b", "a/", "a//b", "/", "a/../", "∅"] {
            let position = Position::behind(key);
            assert_eq!(Position::parse(&position.token()), Some(position), "{key}");
        }
        assert_ne!(Position::behind("a/"), Position::behind("a"));
        for odd in ["", "!", "eA", "b28vL2I"] {
            assert_eq!(Position::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn sides_are_those_of_keys() {
        let of = |key: &str, name: &str, is_dir| match side(&Position::behind(key), name.as_bytes(), is_dir) {
            Side::Before => '<',
            Side::Into => '/',
            Side::Behind => '>',
        };
        for (key, name, is_dir, is) in [
            ("b", "a", false, '<'),
            ("b", "b", false, '<'),
            ("b", "b", true, '>'),
            ("b", "b.", false, '>'),
            ("b/c", "b", true, '/'),
            ("b/c", "b", false, '<'),
            ("b/c", "b.x", false, '<'),
            ("b/c", "b.x", true, '<'),
            ("b/c", "b0", false, '>'),
            ("b/", "b", true, '/'),
            ("b/", "b!", false, '<'),
            ("b/", "c", true, '>'),
        ] {
            assert_eq!(of(key, name, is_dir), is, "{name} of {key}");
        }
    }
}
