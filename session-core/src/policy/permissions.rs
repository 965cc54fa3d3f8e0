//! `Permissions`: what an account may do, by path.
//!
//! Each rule allows a set of permissions at its path and below; the most specific rule alone decides, and
//! where there is none everything is refused. A rename, copy or hard link is asked at both ends, and so is
//! whatever it replaces. Each path that a symbolic link led to needs `follow_symlinks` besides. Renaming and
//! deleting are told apart by what stands there, changing of attributes by which they are.
//!
//! Chunks, syncs and the end of an upload are not asked again: the open was. Listings are not filtered.
//! Absent: a put-only account cannot continue its own parked upload (the store shows it as a file, and a
//! file that exists needs `modify`); rights of single files below a renamed tree are not compared, but a
//! tree that holds rules of its own is not renamed at all.

use std::fmt;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::Replace;
use crate::intercept::{Cx, Interceptor, Peek};
use crate::metadata::Attributes;
use crate::operation::{Operation, OperationKind, OperationSet};
use crate::path::VPath;

macro_rules! permissions {
    ($( $(#[$doc:meta])* $name:ident $code:literal $words:literal; )*) => {
        /// One thing that may be allowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Permission { $( $(#[$doc])* $name, )* }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Permission] = &[$(Permission::$name),*];

            /// The name in configuration: `rename_files`.
            pub fn name(self) -> &'static str { match self { $(Permission::$name => $code),* } }

            /// What is not allowed, in words.
            fn words(self) -> &'static str { match self { $(Permission::$name => $words),* } }
        }
    };
}

permissions! {
    /// See what a directory holds.
    List "list" "listing";
    /// Read the content of files.
    Get "get" "reading files";
    /// Make new files.
    Put "put" "making files";
    /// Change or replace files that exist.
    Modify "modify" "changing existing files";
    /// Make directories.
    Make "make" "making directories";
    /// Give files and links another name.
    RenameFiles "rename_files" "renaming files";
    /// Give directories another name.
    RenameDirs "rename_dirs" "renaming directories";
    /// Remove files and links.
    DeleteFiles "delete_files" "deleting files";
    /// Remove directories.
    DeleteDirs "delete_dirs" "deleting directories";
    /// Set modes.
    Chmod "chmod" "changing modes";
    /// Set owners and groups.
    Chown "chown" "changing owners";
    /// Set times.
    Chtimes "chtimes" "changing times";
    /// Set properties.
    Properties "properties" "changing properties";
    /// Make symbolic links.
    CreateSymlinks "create_symlinks" "making symbolic links";
    /// Read and follow symbolic links.
    FollowSymlinks "follow_symlinks" "following symbolic links";
    /// Copy within the server, also what may not be read or made.
    Copy "copy" "copying";
}

/// Words that allow several things, and other words for one. The first nine are ours and Syncplify's, the
/// others SFTPGo's.
const WORDS: &[(&str, &[Permission])] = {
    use Permission as P;
    &[
        ("rename", &[P::RenameFiles, P::RenameDirs]),
        ("delete", &[P::DeleteFiles, P::DeleteDirs]),
        ("edit_metadata", &[P::Chmod, P::Chown, P::Chtimes, P::Properties]),
        ("symlink", &[P::CreateSymlinks, P::FollowSymlinks]),
        ("full", P::ALL),
        ("*", P::ALL),
        ("download", &[P::Get]),
        ("upload", &[P::Put]),
        ("overwrite", &[P::Modify]),
        ("create_dirs", &[P::Make]),
    ]
};

/// A set of permissions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PermissionSet(u32);

impl PermissionSet {
    /// Nothing is allowed.
    pub const NONE: PermissionSet = PermissionSet(0);

    /// Everything is allowed.
    pub fn full() -> Self {
        Self::of(Permission::ALL)
    }

    /// What a word of the configuration allows, in upper or lower case: the name of a permission, or a word
    /// for several (`rename`, `full`).
    pub fn parse(word: &str) -> Option<Self> {
        let named =
            Permission::ALL.iter().find(|p| p.name().eq_ignore_ascii_case(word)).map(|p| Self::of(&[*p]));
        let several = || WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, p)| Self::of(p));
        named.or_else(several)
    }

    /// Every word that [`PermissionSet::parse`] knows.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Permission::ALL.iter().map(|p| p.name()).chain(WORDS.iter().map(|(w, _)| *w))
    }

    /// These.
    pub fn of(permissions: &[Permission]) -> Self {
        PermissionSet(permissions.iter().fold(0, |set, p| set | 1 << (*p as u32)))
    }

    /// With `permission` too.
    pub fn with(self, permission: Permission) -> Self {
        PermissionSet(self.0 | 1 << (permission as u32))
    }

    /// With all of these too.
    pub fn union(self, other: Self) -> Self {
        PermissionSet(self.0 | other.0)
    }

    /// Only what is in both.
    pub fn intersection(self, other: Self) -> Self {
        PermissionSet(self.0 & other.0)
    }

    /// Whether `permission` is in it.
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << (permission as u32)) != 0
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The permissions in it.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |p| self.contains(*p))
    }
}

impl fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Permission::name)).finish()
    }
}

/// What is allowed at a path and below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub path: VPath,
    /// What.
    pub allow: PermissionSet,
}

/// The interceptor.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// The longest path first, so that the first match is the most specific.
    rules: Vec<Rule>,
}

impl Permissions {
    /// With these rules. Of two for the same path the later one stands.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut kept: Vec<Rule> = Vec::with_capacity(rules.len());
        for rule in rules {
            kept.retain(|r| r.path != rule.path);
            kept.push(rule);
        }
        kept.sort_by_key(|r| std::cmp::Reverse(r.path.depth()));
        Permissions { rules: kept }
    }

    /// What is allowed at `path`.
    pub fn at(&self, path: &VPath) -> PermissionSet {
        self.rules.iter().find(|r| path.starts_with(&r.path)).map_or(PermissionSet::NONE, |r| r.allow)
    }

    fn need(&self, path: &VPath, permission: Permission) -> Result<()> {
        self.need_any(path, &[permission])
    }

    /// Any one of `permissions`; the first gives the words.
    fn need_any(&self, path: &VPath, permissions: &[Permission]) -> Result<()> {
        let here = self.at(path);
        if permissions.iter().any(|p| here.contains(*p)) {
            return Ok(());
        }
        Err(denied(permissions.first().map_or("this", |p| p.words())))
    }

    /// Where content is about to be put: a new file needs `put`, one that exists `modify`.
    async fn need_to_put(&self, peek: Peek<'_>, path: &VPath) -> Result<()> {
        use Permission::{Modify, Put};
        let here = self.at(path);
        if here.contains(Put) && here.contains(Modify) {
            return Ok(());
        }
        match peek.stat(path).await {
            Ok(m) if m.is_symlink() => self.need_any(path, &[Put, Modify]),
            Ok(_) => self.need(path, Modify),
            Err(e) if e.kind() == ErrorKind::NotFound => self.need(path, Put),
            // The store meets the same link next, and the chain is asked again for where it leads.
            Err(e) if e.as_link().is_some() => self.need_any(path, &[Put, Modify]),
            Err(e) => Err(e),
        }
    }

    /// A name that is about to be taken: replacing a file changes it.
    async fn need_to_replace(&self, peek: Peek<'_>, path: &VPath, replace: Replace) -> Result<()> {
        match replace {
            Replace::No => Ok(()),
            Replace::Yes if self.at(path).contains(Permission::Modify) => Ok(()),
            Replace::Yes => match peek.stat(path).await {
                Err(e) if e.kind() == ErrorKind::NotFound || e.as_link().is_some() => Ok(()),
                Err(e) => Err(e),
                Ok(_) => self.need(path, Permission::Modify),
            },
        }
    }

    /// A moved tree would leave the rules of its parts behind.
    fn need_no_rules_below(&self, path: &VPath) -> Result<()> {
        if self.rules.iter().any(|r| r.path != *path && r.path.starts_with(path)) {
            return Err(denied("renaming a directory that holds rules of its own"));
        }
        Ok(())
    }

    /// A second name must not allow what the first one refuses.
    fn need_no_gain(&self, from: &VPath, to: &VPath) -> Result<()> {
        use Permission as P;
        for p in [P::Get, P::Modify, P::Chmod, P::Chown, P::Chtimes, P::Properties] {
            if self.at(to).contains(p) {
                self.need(from, p)?;
            }
        }
        Ok(())
    }

    /// What stands at `path` decides which of the two is needed.
    async fn need_for_kind(
        &self,
        peek: Peek<'_>,
        path: &VPath,
        at: &VPath,
        file: Permission,
        dir: Permission,
    ) -> Result<()> {
        let here = self.at(at);
        match (here.contains(file), here.contains(dir)) {
            (true, true) => return Ok(()),
            (false, false) => return Err(denied(file.words())),
            _ => {}
        }
        match peek.stat(path).await {
            Ok(m) if m.is_dir() => self.need(at, dir),
            Ok(_) => self.need(at, file),
            // Nothing there, or a link on the way, for which the chain is asked again.
            Err(e) if e.kind() == ErrorKind::NotFound || e.as_link().is_some() => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Something that is made from another: by who may copy, or who could read and make it anyway.
    async fn need_to_copy(&self, peek: Peek<'_>, from: &VPath, to: &VPath) -> Result<()> {
        use Permission as P;
        self.need_any(from, &[P::Copy, P::Get])?;
        if self.at(to).contains(P::Get) {
            // What may be read there must have been readable here.
            self.need(from, P::Get)?;
        }
        let target = async {
            if !self.at(to).contains(P::Copy) {
                return self.need_to_put(peek, to).await;
            }
            self.need_to_replace(peek, to, Replace::Yes).await
        };
        target.await.map_err(|e| e.at(OperationKind::Copy, Some(to)))
    }

    fn need_to_set(&self, path: &VPath, attributes: &Attributes) -> Result<()> {
        use Permission as P;
        let asked = [
            (attributes.size.is_some(), P::Modify),
            (attributes.mode.is_some(), P::Chmod),
            (attributes.uid.is_some() || attributes.gid.is_some(), P::Chown),
            (attributes.accessed.is_some() || attributes.modified.is_some(), P::Chtimes),
            (!attributes.properties.is_empty(), P::Properties),
        ];
        if asked.iter().all(|(is, _)| !is) {
            // An empty request is asked too: whether it succeeds tells that the entry exists.
            return self.need_any(path, &[P::Chmod, P::Chown, P::Chtimes, P::Properties]);
        }
        asked.into_iter().filter(|(is, _)| *is).try_for_each(|(_, p)| self.need(path, p))
    }

    async fn check(&self, peek: Peek<'_>, operation: &Operation<'_>) -> Result<()> {
        use Permission as P;
        // Of two paths the error names the source unless it is told otherwise.
        let at = |e: Error, path: &VPath| e.at(operation.kind(), Some(path));
        match operation {
            Operation::Abort(_)
            | Operation::Commit(_)
            | Operation::Park(_)
            | Operation::Read(_)
            | Operation::Sync(_)
            | Operation::Unlock(_)
            | Operation::Write(_) => Ok(()),
            Operation::Canonicalize(r) => self.need_any(&r.path, P::ALL),
            Operation::Checksum(r) => self.need(&r.path, P::Get),
            Operation::Copy(r) => self.need_to_copy(peek, &r.from, &r.to).await,
            Operation::CreateDir(r) => self.need(&r.path, P::Make),
            Operation::HardLink(r) => {
                self.need_no_gain(&r.from, &r.to)?;
                self.need(&r.from, P::Get)?;
                self.need(&r.to, P::Put).map_err(|e| at(e, &r.to))
            }
            Operation::List(r) => self.need(&r.path, P::List),
            // Whoever may change nothing here keeps nobody else from it.
            Operation::Lock(r) => self.need_any(&r.path, &[P::Modify, P::Put, P::Make]),
            Operation::Open(r) => {
                if r.options.read {
                    self.need(&r.path, P::Get)?;
                }
                if r.options.write {
                    self.need_to_put(peek, &r.path).await?;
                }
                Ok(())
            }
            Operation::ReadLink(r) => self.need(&r.path, P::FollowSymlinks),
            Operation::RemoveDir(r) => self.need(&r.path, P::DeleteDirs),
            Operation::RemoveFile(r) => self.need(&r.path, P::DeleteFiles),
            Operation::Rename(r) => {
                let (file, dir) = (P::RenameFiles, P::RenameDirs);
                self.need_for_kind(peek, &r.from, &r.from, file, dir).await?;
                self.need_no_rules_below(&r.from)?;
                let target = async {
                    self.need_for_kind(peek, &r.from, &r.to, file, dir).await?;
                    self.need_no_rules_below(&r.to)?;
                    self.need_to_replace(peek, &r.to, r.replace).await
                };
                target.await.map_err(|e| at(e, &r.to))
            }
            Operation::SetAttributes(r) => self.need_to_set(&r.path, &r.attributes),
            Operation::Space(r) => self.need_any(&r.path, P::ALL),
            Operation::Stat(r) => self.need_any(&r.path, &[P::List, P::Get]),
            Operation::Symlink(r) => self.need(&r.path, P::CreateSymlinks),
        }
    }
}

#[async_trait]
impl Interceptor for Permissions {
    fn interests(&self) -> OperationSet {
        OperationSet::without_chunks()
            .except(OperationKind::Abort)
            .except(OperationKind::Commit)
            .except(OperationKind::Park)
            .except(OperationKind::Sync)
            .except(OperationKind::Unlock)
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if cx.hop > 0 {
            let record = operation.to_record();
            self.need(record.path(), Permission::FollowSymlinks)?;
            if let Some(target) = record.target() {
                self.need(target, Permission::FollowSymlinks)?;
            }
        }
        self.check(cx.peek, &operation).await
    }
}

fn denied(what: &str) -> Error {
    Error::refused(format!("permission denied: {what} is not allowed here"))
}

#[cfg(all(test, feature = "local"))]
mod tests;
