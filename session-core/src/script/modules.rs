//! ES modules of handlers: where they are read from, and the loader that gives an invocation what was read.
//!
//! All sources are read when a handler is bound; what a running server uses changes only by a reload. A
//! name is relative to the importing file (`./`, `../`) and stays inside the scripts folder: neither `..`
//! nor a symbolic link leads out. Only static imports are found; `import()` of anything else fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Exception, Module, Result as JsResult};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::error::{Error, ErrorKind, Result};

/// The largest script.
const LARGEST: u64 = 1 << 20;

/// Modules of one handler.
const MOST: usize = 200;

/// Throws when it is evaluated, so that what is imported after it is linked and not run.
pub(super) const STOP: &str = "ferry:stop";

/// The folder that scripts are read from.
#[derive(Clone, Debug)]
pub struct ScriptFolder {
    folder: Arc<OwnedFd>,
}

impl ScriptFolder {
    /// Opens it. Blocks. Errors: those of opening it.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from)?;
        Ok(ScriptFolder { folder: Arc::new(folder) })
    }

    /// The text of the file at `name`, relative to the folder. Blocks. Errors: `Refused` where the name
    /// leads out or over a symbolic link, `TooLarge`, `InvalidArgument` for what is no text.
    pub fn read(&self, name: &str) -> Result<String> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = openat2(&*self.folder, name, flags, Mode::empty(), resolve).map_err(|e| match e {
            rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => {
                Error::refused("the script lies outside the scripts folder, or behind a symbolic link")
            }
            e => std::io::Error::from(e).into(),
        })?;
        let mut file = File::from(opened);
        if !file.metadata()?.is_file() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("the script is no file"));
        }
        let mut text = Vec::new();
        (&mut file).take(LARGEST + 1).read_to_end(&mut text)?;
        if text.len() as u64 > LARGEST {
            return Err(Error::new(ErrorKind::TooLarge).with_detail("the script is larger than 1 MiB"));
        }
        String::from_utf8(text)
            .map_err(|_| Error::new(ErrorKind::InvalidArgument).with_detail("the script is not UTF-8"))
    }
}

/// The sources of a handler's modules by name.
pub(super) type Sources = Arc<BTreeMap<String, String>>;

/// Where a context's modules come from now.
#[derive(Default)]
enum Origin {
    #[default]
    Nowhere,
    /// Read, and remembered.
    Folder(ScriptFolder, BTreeMap<String, String>),
    Read(Sources),
}

/// The loader's state, shared with the worker that owns it.
#[derive(Clone, Default)]
pub(super) struct Modules(Arc<Mutex<Origin>>);

impl Modules {
    fn origin(&self) -> MutexGuard<'_, Origin> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Modules are read from `folder` until [`Modules::take`]; `name` is known already.
    pub(super) fn read_from(&self, folder: ScriptFolder, name: &str, source: &str) {
        let known = BTreeMap::from([(name.to_string(), source.to_string())]);
        *self.origin() = Origin::Folder(folder, known);
    }

    /// What was read.
    pub(super) fn take(&self) -> BTreeMap<String, String> {
        match std::mem::take(&mut *self.origin()) {
            Origin::Folder(_, read) => read,
            Origin::Nowhere | Origin::Read(_) => BTreeMap::new(),
        }
    }

    /// Modules are these and no others.
    pub(super) fn give(&self, sources: Sources) {
        *self.origin() = Origin::Read(sources);
    }

    /// There are none.
    pub(super) fn close(&self) {
        *self.origin() = Origin::Nowhere;
    }

    fn source(&self, name: &str) -> Result<String> {
        match &mut *self.origin() {
            Origin::Nowhere => Err(Error::new(ErrorKind::Unsupported)
                .with_detail("only a module can import: its file ends in .mjs")),
            Origin::Read(sources) => sources.get(name).cloned().ok_or_else(|| {
                Error::new(ErrorKind::NotFound)
                    .with_detail(format!("'{name}' was not among the imports when the handler was bound"))
            }),
            Origin::Folder(folder, read) => {
                if let Some(source) = read.get(name) {
                    return Ok(source.clone());
                }
                if read.len() >= MOST {
                    return Err(Error::new(ErrorKind::TooLarge).with_detail("too many modules"));
                }
                let source = folder.read(name).map_err(|e| {
                    let words = format!("'{name}' cannot be imported: {}", e.peer_words());
                    Error::new(e.kind()).with_detail(words)
                })?;
                read.insert(name.to_string(), source.clone());
                Ok(source)
            }
        }
    }
}

/// `name` as written in the module `base`, from the folder. `None` where it leads out or is not relative.
fn resolve(base: &str, name: &str) -> Option<String> {
    if !(name.starts_with("./") || name.starts_with("../")) || name.contains('\0') {
        return None;
    }
    let mut path: Vec<&str> = base.split('/').collect();
    path.pop();
    for segment in name.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                path.pop()?;
            }
            segment => path.push(segment),
        }
    }
    Some(path.join("/"))
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> JsResult<String> {
        if name == STOP && base == CHECK {
            return Ok(STOP.into());
        }
        resolve(base, name).ok_or_else(|| {
            let words = format!("'{name}' is not a path from this file inside the scripts folder");
            Exception::throw_reference(ctx, &words)
        })
    }
}

/// The module that links another one without running it; it stands at the folder's root.
pub(super) const CHECK: &str = "check";

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> JsResult<Module<'js, Declared>> {
        if name == STOP {
            return Module::declare(ctx.clone(), STOP, format!("throw '{STOP}'"));
        }
        let source = self.source(name).map_err(|e| Exception::throw_reference(ctx, e.peer_words()))?;
        Module::declare(ctx.clone(), name, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_and_stay_inside() {
        assert_eq!(resolve("a.mjs", "./b.mjs").as_deref(), Some("b.mjs"));
        assert_eq!(resolve("x/a.mjs", "../lib/./b.mjs").as_deref(), Some("lib/b.mjs"));
        for out in ["../b.mjs", "./../b.mjs", "b.mjs", "/etc/passwd", "./x/../../b.mjs", "fs", ""] {
            assert_eq!(resolve("a.mjs", out), None, "{out}");
        }
    }

    #[test]
    fn neither_dots_nor_links_lead_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(dir.path().join("in/a"), "a").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("in/near")).unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("in/far")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("in/up")).unwrap();
        let folder = ScriptFolder::open(&dir.path().join("in")).unwrap();
        assert_eq!(folder.read("a").unwrap(), "a");
        for name in ["../secret", "far", "near", "up/secret", "/etc/passwd"] {
            assert_eq!(folder.read(name).unwrap_err().kind(), ErrorKind::Refused, "{name}");
        }
        assert_eq!(folder.read("none").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
