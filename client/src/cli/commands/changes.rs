//! Commands that change entries: `mkdir`, `mv`, `rm`, `rmdir`, `ln`, `chmod`, `chown`, `touch`; and how every command
//! tells what it changed: with `--json` a line for each thing that was done, was not needed or failed, else failures
//! only.

use std::os::unix::ffi::OsStrExt as _;
use std::time::SystemTime;

use futures_util::stream::{StreamExt as _, iter};
use serde_json::{Map, Value};
use session_core::error::{Error, ErrorKind, Result};
use session_core::event::timestamp;
use session_core::fs::{CommitOptions, File as _, Filesystem, Follow, ListOptions, OpenOptions, Replace};
use session_core::gate::SessionFs;
use session_core::metadata::Attributes;
use session_core::operation::OperationKind;
use session_core::path::{VPath, display_bytes};

use super::{Context, transfer};
use crate::cli::change_args::{Chmod, Chown, Ln, Mkdir, Mv, Owner, Rm, Rmdir};
use crate::cli::lines;
use crate::cli::places::{Place, shown};
use crate::cli::render::{Out, error_json};
use crate::cli::sync_args::Touch;
use crate::sync::plan::bytes_into;

/// Files that are removed at once.
const AT_ONCE: usize = 256;

/// What became of a change that did not fail.
pub(super) enum Became {
    Done,
    /// It was not needed, and why.
    Skipped(&'static str),
}

/// Tells what a command changes.
pub(super) struct Teller {
    out: Out,
    command: &'static str,
    /// Nothing is changed: what is told is what would be.
    dry_run: bool,
}

impl Teller {
    pub(super) fn new(command: &'static str) -> Self {
        Teller { out: Out::new(), command, dry_run: false }
    }

    /// The same of what may only be looked at.
    fn rehearsing(command: &'static str, dry_run: bool) -> Self {
        Teller { dry_run, ..Teller::new(command) }
    }

    /// Tells of one thing, and counts a failure for the exit code. `fields`: what it was, as [`at`] gives it.
    pub(super) fn tell(&mut self, cx: &mut Context, fields: Map<String, Value>, became: Result<Became>) {
        if !cx.global.json {
            let text = |name| fields.get(name).and_then(Value::as_str).map(|s| display_bytes(s.as_bytes()));
            match became {
                Err(e) => {
                    self.out.flush();
                    cx.complain(&e);
                }
                Ok(Became::Done) if self.dry_run && !cx.global.quiet => {
                    let to = text("target").map(|to| format!(" to '{to}'")).unwrap_or_default();
                    let path = text("path").unwrap_or_default();
                    self.out.line(&format!("would {} '{path}'{to}", self.command));
                }
                Ok(_) => {}
            }
            return;
        }
        let mut fields = fields;
        if self.dry_run {
            fields.insert("dry_run".into(), true.into());
        }
        fields.insert("command".into(), self.command.into());
        let outcome = match became {
            Ok(Became::Done) => "done",
            Ok(Became::Skipped(why)) => {
                fields.insert("why".into(), why.into());
                "skipped"
            }
            Err(e) => {
                fields.insert("error".into(), error_json(&e));
                cx.count(&e);
                "failed"
            }
        };
        fields.insert("outcome".into(), outcome.into());
        self.out.json(&lines::CHANGE, Value::Object(fields));
    }

    /// Opens a place; one that cannot be opened is told of.
    async fn open(&mut self, cx: &mut Context, text: &str) -> Option<Place> {
        match cx.places.open(text).await {
            Ok(place) => Some(place),
            Err(e) => {
                self.unopened(cx, text, e);
                None
            }
        }
    }

    /// The same of a place that could not be opened, as it was named.
    pub(super) fn unopened(&mut self, cx: &mut Context, text: &str, e: Error) {
        let mut fields = Map::new();
        if let Some(shown) = shown(text) {
            fields.insert("place".into(), shown.into());
        }
        self.tell(cx, fields, Err(e));
    }

    /// What people read beside failures.
    pub(super) fn line(&mut self, text: &str) {
        self.out.line(text);
    }
}

/// The fields of a change of what is at `path` in a place.
pub(super) fn at(place: &Place, path: &VPath) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("place".into(), place.shown.clone().into());
    bytes_into(&mut fields, "path", path.as_bytes());
    fields
}

/// The same with one more.
pub(super) fn with(
    mut fields: Map<String, Value>,
    name: &str,
    value: impl Into<Value>,
) -> Map<String, Value> {
    fields.insert(name.into(), value.into());
    fields
}

pub(super) async fn mkdir(cx: &mut Context, a: &Mkdir) -> Result<()> {
    let attributes = a.mode.map_or_else(Attributes::none, Attributes::mode);
    let mut teller = Teller::new("mkdir");
    for text in &a.places {
        let Some(place) = teller.open(cx, text).await else { continue };
        let mut made = Vec::new();
        let done = if a.parents {
            parents(&place.fs, &place.path, &attributes, &mut made).await
        } else {
            place.fs.create_dir(&place.path, &attributes).await.map(|()| made.push(place.path.clone()))
        };
        for path in &made {
            teller.tell(cx, at(&place, path), Ok(Became::Done));
        }
        match done {
            Ok(()) if made.is_empty() => {
                teller.tell(cx, at(&place, &place.path), Ok(Became::Skipped("it is there")));
            }
            Ok(()) => {}
            Err(e) => teller.tell(cx, at(&place, &place.path), Err(e)),
        }
    }
    Ok(())
}

/// Makes a directory and those above it; `made` is what was.
async fn parents(fs: &SessionFs, path: &VPath, attributes: &Attributes, made: &mut Vec<VPath>) -> Result<()> {
    // Down from the first ancestor that is there.
    let mut missing = Vec::new();
    let mut at = Some(path.clone());
    while let Some(p) = at {
        match fs.stat(&p, Follow::Yes).await {
            Ok(m) if m.is_dir() => break,
            Ok(_) => return Err(Error::new(ErrorKind::NotADirectory).at(OperationKind::CreateDir, Some(&p))),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                at = p.parent();
                missing.push(p);
            }
            Err(e) => return Err(e),
        }
    }
    for (n, p) in missing.iter().rev().enumerate() {
        let last = n + 1 == missing.len();
        let attributes = if last { attributes.clone() } else { Attributes::none() };
        match fs.create_dir(p, &attributes).await {
            // Somebody else made it meanwhile.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other.map(|()| made.push(p.clone()))?,
        }
    }
    Ok(())
}

pub(super) async fn mv(cx: &mut Context, a: &Mv) -> Result<()> {
    let Some((target, sources)) = a.places.split_last() else { return Ok(()) };
    let target = cx.places.open(target).await?;
    let into = target.slash || target.fs.stat(&target.path, Follow::Yes).await.is_ok_and(|m| m.is_dir());
    if sources.len() > 1 && !into {
        return Err(Error::new(ErrorKind::NotADirectory)
            .with_detail(format!("'{}' is not a directory, and there are several sources", target.shown)));
    }
    let mut teller = Teller::rehearsing("mv", a.dry_run);
    for text in sources {
        let Some(source) = teller.open(cx, text).await else { continue };
        let mut fields = at(&source, &source.path);
        let to = match there(&source, &target, into) {
            Ok(to) => to,
            Err(e) => {
                teller.tell(cx, fields, Err(e));
                continue;
            }
        };
        bytes_into(&mut fields, "target", to.as_bytes());
        match mv_one(cx, &source, &target, to, a).await {
            Ok(Moved::Told) => {}
            Ok(Moved::Renamed) => teller.tell(cx, fields, Ok(Became::Done)),
            Err(e) => teller.tell(cx, fields, Err(e)),
        }
    }
    Ok(())
}

/// Where a source goes. Errors: `CrossDevice`, where that is another filesystem; a name that cannot be.
fn there(source: &Place, target: &Place, into: bool) -> Result<VPath> {
    if source.key != target.key {
        return Err(Error::new(ErrorKind::CrossDevice)
            .with_detail("'mv' renames within one place")
            .with_hint("use 'ferry cp', and 'ferry rm' when it has succeeded"));
    }
    if into { target.path.join(source.path.name()) } else { Ok(target.path.clone()) }
}

/// How something was moved.
enum Moved {
    Renamed,
    /// File by file, with lines of its own.
    Told,
}

async fn mv_one(cx: &mut Context, source: &Place, target: &Place, to: VPath, a: &Mv) -> Result<Moved> {
    let capabilities = source.fs.capabilities_at(&source.path);
    // There a directory moves object by object.
    let by_objects = capabilities.server_copy && capabilities.whole_files;
    if by_objects && let Some(job) = transfer::interrupted_move(source, [&target.path, &to]) {
        return Err(Error::new(ErrorKind::Locked)
            .with_detail(format!("moving '{}' there did not come to its end", source.shown))
            .with_hint(format!("go on with: ferry resume {job}")));
    }
    if a.dry_run {
        source.fs.stat(&source.path, Follow::No).await?;
        return match source.fs.stat(&to, Follow::No).await {
            Ok(_) if a.no_clobber => {
                Err(Error::new(ErrorKind::AlreadyExists).at(OperationKind::Rename, Some(&to)))
            }
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(Moved::Renamed),
        };
    }
    let replace = if a.no_clobber { Replace::No } else { Replace::Yes };
    match source.fs.rename(&source.path, &to, replace).await {
        Err(e) if by_objects && e.kind() == ErrorKind::CrossDevice => {
            transfer::move_dir(cx, source, to, a.no_clobber).await.map(|()| Moved::Told)
        }
        done => done.map(|()| Moved::Renamed),
    }
}

pub(super) async fn rm(cx: &mut Context, a: &Rm) -> Result<()> {
    let mut teller = Teller::rehearsing("rm", a.dry_run);
    for text in &a.places {
        let Some(place) = teller.open(cx, text).await else { continue };
        match rm_one(cx, &mut teller, &place, a.recursive).await {
            Ok(()) => {}
            Err(e) if a.force && e.kind() == ErrorKind::NotFound => {
                teller.tell(cx, at(&place, &place.path), Ok(Became::Skipped("it is missing")));
            }
            Err(e) => teller.tell(cx, at(&place, &place.path), Err(e)),
        }
    }
    Ok(())
}

/// Removes what was named. Errors: what kept the rest from being removed; what has failed alone has been told.
async fn rm_one(cx: &mut Context, teller: &mut Teller, place: &Place, recursive: bool) -> Result<()> {
    let (fs, path, dry_run) = (&place.fs, &place.path, teller.dry_run);
    let m = fs.stat(path, Follow::No).await?;
    if !m.is_dir() {
        if !dry_run {
            fs.remove_file(path).await?;
        }
        teller.tell(cx, at(place, path), Ok(Became::Done));
        return Ok(());
    }
    if !recursive {
        return Err(Error::new(ErrorKind::IsADirectory)
            .with_hint("give -r to remove a directory with all it holds")
            .at(OperationKind::RemoveFile, Some(path)));
    }
    if path.is_root() {
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the root is not removed"));
    }
    // Down first, directories on the way back; a directory whose listing failed is not removed.
    let mut stack = vec![(path.clone(), false)];
    while let Some((dir, listed)) = stack.pop() {
        if listed {
            let removed = if dry_run { Ok(()) } else { fs.remove_dir(&dir).await };
            teller.tell(cx, at(place, &dir), removed.map(|()| Became::Done));
            continue;
        }
        stack.push((dir.clone(), true));
        let mut pages = fs.list(&dir, &ListOptions::default()).await?;
        let mut files = Vec::new();
        while let Some(page) = pages.next_page().await? {
            for entry in page {
                let path = dir.join(&entry.name)?;
                if entry.metadata.is_dir() {
                    stack.push((path, false));
                } else {
                    files.push(path);
                }
            }
        }
        let mut removals = iter(files)
            .map(|path| async move {
                let removed = if dry_run { Ok(()) } else { fs.remove_file(&path).await };
                (path, removed)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((path, removed)) = removals.next().await {
            teller.tell(cx, at(place, &path), removed.map(|()| Became::Done));
        }
    }
    Ok(())
}

pub(super) async fn ln(cx: &mut Context, a: &Ln) -> Result<()> {
    let mut teller = Teller::new("ln");
    let Some(link) = teller.open(cx, &a.link).await else { return Ok(()) };
    let mut fields = at(&link, &link.path);
    let made = if a.symbolic {
        let target = std::ffi::OsStr::new(&a.target).as_bytes();
        bytes_into(&mut fields, "target", target);
        link.fs.symlink(target, &link.path).await
    } else {
        match cx.places.open(&a.target).await {
            Ok(target) if target.key == link.key => {
                bytes_into(&mut fields, "target", target.path.as_bytes());
                link.fs.hard_link(&target.path, &link.path).await
            }
            Ok(_) => Err(Error::new(ErrorKind::CrossDevice).with_detail("a link stays within one place")),
            Err(e) => Err(e),
        }
    };
    teller.tell(cx, fields, made.map(|()| Became::Done));
    Ok(())
}

pub(super) async fn rmdir(cx: &mut Context, a: &Rmdir) -> Result<()> {
    let mut teller = Teller::rehearsing("rmdir", a.dry_run);
    for text in &a.places {
        let Some(place) = teller.open(cx, text).await else { continue };
        let removed = match a.dry_run {
            true => would_rmdir(&place).await,
            false => place.fs.remove_dir(&place.path).await,
        };
        teller.tell(cx, at(&place, &place.path), removed.map(|()| Became::Done));
    }
    Ok(())
}

/// What would keep a directory from being removed, as far as can be seen.
async fn would_rmdir(place: &Place) -> Result<()> {
    let no = |kind| Err(Error::new(kind).at(OperationKind::RemoveDir, Some(&place.path)));
    if !place.fs.stat(&place.path, Follow::No).await?.is_dir() {
        return no(ErrorKind::NotADirectory);
    }
    let mut pages = place.fs.list(&place.path, &ListOptions::default()).await?;
    while let Some(page) = pages.next_page().await? {
        if !page.is_empty() {
            return no(ErrorKind::NotEmpty);
        }
    }
    Ok(())
}

pub(super) async fn chmod(cx: &mut Context, a: &Chmod) -> Result<()> {
    let mut fields = Map::new();
    fields.insert("mode".into(), format!("{:04o}", a.mode).into());
    set_all(cx, Teller::new("chmod"), &a.places, a.recursive, &Attributes::mode(a.mode), &fields).await
}

pub(super) async fn chown(cx: &mut Context, a: &Chown) -> Result<()> {
    let Owner { uid, gid } = a.owner;
    let mut fields = Map::new();
    for (name, number) in [("uid", uid), ("gid", gid)] {
        if let Some(number) = number {
            fields.insert(name.into(), number.into());
        }
    }
    let attributes = Attributes { uid, gid, ..Attributes::none() };
    set_all(cx, Teller::new("chown"), &a.places, a.recursive, &attributes, &fields).await
}

/// Sets attributes of what was named, with all it holds where that is wanted. `said`: what is told of each beside
/// its place.
async fn set_all(
    cx: &mut Context,
    mut teller: Teller,
    places: &[String],
    recursive: bool,
    attributes: &Attributes,
    said: &Map<String, Value>,
) -> Result<()> {
    for text in places {
        let Some(place) = teller.open(cx, text).await else { continue };
        let fields = |path: &VPath| {
            let mut fields = at(&place, path);
            fields.extend(said.clone());
            fields
        };
        let mut todo = vec![place.path.clone()];
        while let Some(path) = todo.pop() {
            let set = place.fs.set_attributes(&path, attributes, Follow::Yes).await;
            let failed = set.is_err();
            teller.tell(cx, fields(&path), set.map(|()| Became::Done));
            if failed || !recursive || !place.fs.stat(&path, Follow::No).await.is_ok_and(|m| m.is_dir()) {
                continue;
            }
            if let Err(e) = below(&place.fs, &path, &mut todo).await {
                teller.tell(cx, fields(&path), Err(e));
            }
        }
    }
    Ok(())
}

/// What is in a directory, links left out. Errors: those of listing it.
async fn below(fs: &SessionFs, dir: &VPath, found: &mut Vec<VPath>) -> Result<()> {
    let mut pages = fs.list(dir, &ListOptions::default()).await?;
    while let Some(page) = pages.next_page().await? {
        for entry in page.iter().filter(|e| !e.metadata.is_symlink()) {
            found.push(dir.join(&entry.name)?);
        }
    }
    Ok(())
}

pub(super) async fn touch(cx: &mut Context, a: &Touch) -> Result<()> {
    let time = match (&a.reference, a.time) {
        (Some(reference), _) => {
            let place = cx.places.open(reference).await?;
            let metadata = place.fs.stat(&place.path, Follow::Yes).await?;
            metadata.modified.ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument).with_detail(format!("'{reference}' has no time"))
            })?
        }
        (None, Some(time)) => time,
        (None, None) => SystemTime::now(),
    };
    let mut teller = Teller::new("touch");
    for text in &a.places {
        let Some(place) = teller.open(cx, text).await else { continue };
        let mut fields = with(at(&place, &place.path), "modified", timestamp(time));
        let touched = touch_one(&place, time, a.no_create).await.map(|touched| match touched {
            Touched::Missing => Became::Skipped("it is missing"),
            Touched::Made => {
                fields.insert("made".into(), true.into());
                Became::Done
            }
            Touched::Set => Became::Done,
        });
        teller.tell(cx, fields, touched);
    }
    Ok(())
}

/// What touching a file came to.
enum Touched {
    Set,
    Made,
    /// It was not there and should not be made.
    Missing,
}

async fn touch_one(place: &Place, time: SystemTime, no_create: bool) -> Result<Touched> {
    let times = Attributes::times(Some(time), Some(time));
    match place.fs.set_attributes(&place.path, &times, Follow::Yes).await {
        Err(e) if e.kind() == ErrorKind::NotFound && no_create => Ok(Touched::Missing),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let options = OpenOptions { exclusive: true, ..OpenOptions::create() };
            let file = place.fs.open_file(&place.path, &options).await?;
            let attributes = if place.fs.capabilities().set_times { times } else { Attributes::none() };
            let commit = CommitOptions { expected_size: Some(0), attributes };
            file.commit(&commit).await.map(|_| Touched::Made)
        }
        other => other.map(|()| Touched::Set),
    }
}
