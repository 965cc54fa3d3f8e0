//! `Permissions`: what an account may do, by path.
//!
//! Each rule allows a set of permissions at its path and below; the most specific rule alone decides, and
//! where there is none everything is refused. A rename, copy or hard link is asked at both ends, and so is
//! whatever it replaces. Each path that a symbolic link led to needs `symlink` besides.
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
    ($( $(#[$doc:meta])* $name:ident $code:literal $words:literal $bit:literal )*) => {
        /// One thing that may be allowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Permission { $( $(#[$doc])* $name = $bit, )* }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Permission] = &[$(Permission::$name),*];

            /// The name in configuration: `edit_metadata`.
            pub fn name(self) -> &'static str { match self { $(Permission::$name => $code),* } }

            /// What is not allowed, in words.
            fn words(self) -> &'static str { match self { $(Permission::$name => $words),* } }
        }
    };
}

permissions! {
    /// See what a directory holds.
    List "list" "listing" 0
    /// Read the content of files.
    Get "get" "reading files" 1
    /// Make new files.
    Put "put" "making files" 2
    /// Change or replace files that exist.
    Modify "modify" "changing existing files" 3
    /// Make directories.
    Make "make" "making directories" 4
    /// Give another name.
    Rename "rename" "renaming" 5
    /// Remove files and directories.
    Delete "delete" "deleting" 6
    /// Set mode, owner, times, properties.
    EditMetadata "edit_metadata" "changing attributes" 7
    /// Make, read and follow symbolic links.
    Symlink "symlink" "using symbolic links" 8
}

impl Permission {
    /// The permission called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Permission::ALL.iter().copied().find(|p| p.name() == name)
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PermissionSet(u16);

impl PermissionSet {
    /// Nothing is allowed.
    pub const NONE: PermissionSet = PermissionSet(0);

    /// Everything is allowed.
    pub fn full() -> Self {
        Self::of(Permission::ALL)
    }

    /// These.
    pub fn of(permissions: &[Permission]) -> Self {
        PermissionSet(permissions.iter().fold(0, |set, p| set | 1 << (*p as u16)))
    }

    /// With `permission` too.
    pub fn with(self, permission: Permission) -> Self {
        PermissionSet(self.0 | 1 << (permission as u16))
    }

    /// Whether `permission` is in it.
    pub fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << (permission as u16)) != 0
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
        for p in [Permission::Get, Permission::Modify, Permission::EditMetadata] {
            if self.at(to).contains(p) {
                self.need(from, p)?;
            }
        }
        Ok(())
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
            | Operation::Write(_) => Ok(()),
            Operation::Canonicalize(r) => self.need_any(&r.path, P::ALL),
            Operation::Checksum(r) => self.need(&r.path, P::Get),
            Operation::Copy(r) => {
                self.need(&r.from, P::Get)?;
                self.need_to_put(peek, &r.to).await.map_err(|e| at(e, &r.to))
            }
            Operation::CreateDir(r) => self.need(&r.path, P::Make),
            Operation::HardLink(r) => {
                self.need_no_gain(&r.from, &r.to)?;
                self.need(&r.from, P::Get)?;
                self.need(&r.to, P::Put).map_err(|e| at(e, &r.to))
            }
            Operation::List(r) => self.need(&r.path, P::List),
            Operation::Open(r) => {
                if r.options.read {
                    self.need(&r.path, P::Get)?;
                }
                if r.options.write {
                    self.need_to_put(peek, &r.path).await?;
                }
                Ok(())
            }
            Operation::ReadLink(r) => self.need(&r.path, P::Symlink),
            Operation::RemoveDir(r) => self.need(&r.path, P::Delete),
            Operation::RemoveFile(r) => self.need(&r.path, P::Delete),
            Operation::Rename(r) => {
                self.need(&r.from, P::Rename)?;
                self.need_no_rules_below(&r.from)?;
                let target = async {
                    self.need(&r.to, P::Rename)?;
                    self.need_no_rules_below(&r.to)?;
                    self.need_to_replace(peek, &r.to, r.replace).await
                };
                target.await.map_err(|e| at(e, &r.to))
            }
            Operation::SetAttributes(r) => {
                if r.attributes.size.is_some() {
                    self.need(&r.path, P::Modify)?;
                }
                let rest = Attributes { size: None, ..r.attributes.clone() };
                // An empty request is asked too: whether it succeeds tells that the entry exists.
                if r.attributes.size.is_none() || !rest.is_empty() {
                    self.need(&r.path, P::EditMetadata)?;
                }
                Ok(())
            }
            Operation::Space(r) => self.need_any(&r.path, P::ALL),
            Operation::Stat(r) => self.need_any(&r.path, &[P::List, P::Get]),
            Operation::Symlink(r) => self.need(&r.path, P::Symlink),
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
    }

    async fn before(&self, cx: &Cx<'_>, operation: Operation<'_>) -> Result<(), Error> {
        if cx.hop > 0 {
            let record = operation.to_record();
            self.need(record.path(), Permission::Symlink)?;
            if let Some(target) = record.target() {
                self.need(target, Permission::Symlink)?;
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
