//! Commands that change the server and move no content.

use session_core::error::{Error, ErrorKind, Result};

use super::{Runner, several};
use crate::script::command::Command;
use crate::script::xml::text_of;
use crate::session::{FilePermissions, Removal};

impl Runner<'_> {
    pub(super) async fn mkdir(&mut self, c: &Command) -> Result<()> {
        let (session, path) = self.at(c.arguments.first().map_or("", String::as_str))?;
        let outcome = session.create_directory(&path).await;
        self.logged("mkdir", &[("filename", &path)], outcome)
    }

    pub(super) async fn ln(&mut self, c: &Command) -> Result<()> {
        let [target, link] = c.arguments.as_slice() else { return Ok(()) };
        let (session, link) = self.at(link)?;
        session.create_symbolic_link(&link, target).await
    }

    pub(super) async fn chmod(&mut self, c: &Command) -> Result<()> {
        let Some((octal, paths)) = c.arguments.split_first() else { return Ok(()) };
        let permissions = FilePermissions::from_octal(octal)?;
        let mut failed = false;
        for path in paths {
            let (session, path) = self.at(path)?;
            let found = session.matching(&path).await?;
            self.some(&path, found.files.is_empty())?;
            for file in found.files {
                let outcome = session.chmod(file.path.as_bytes(), permissions).await;
                let values =
                    [("filename", text_of(file.path.as_bytes())), ("permissions", permissions.text())];
                let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
                failed |= self.logged("chmod", &values, outcome).is_err();
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    pub(super) async fn mv_or_cp(&mut self, c: &Command, name: &'static str) -> Result<()> {
        let Some((to, sources)) = c.arguments.split_last() else { return Ok(()) };
        let mut failed = false;
        for source in sources {
            let (session, source) = self.at(source)?;
            let (_, to) = self.at(to)?;
            let outcome = match name {
                "mv" => session.move_file(&source, &to).await,
                _ => session.duplicate_files(&source, &to).await,
            };
            match outcome {
                Ok(done) => {
                    for (from, to) in done {
                        let (from, to) = (text_of(from.as_bytes()), text_of(to.as_bytes()));
                        self.log(name, &[("filename", &from), ("destination", &to)], None);
                        self.console.line(&format!("{from} -> {to}"));
                    }
                }
                Err(e) => {
                    let values = [("filename", source.as_str()), ("destination", to.as_str())];
                    failed |= self.logged::<()>(name, &values, Err(e)).is_err();
                }
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    pub(super) async fn rm(&mut self, c: &Command) -> Result<()> {
        let mut failed = false;
        for path in &c.arguments {
            let (session, path) = self.at(path)?;
            if c.has("onlyfile") {
                match session.remove_file(&path).await {
                    Ok(removal) => self.removed(&[removal]),
                    Err(e) => failed |= self.logged::<()>("rm", &[("filename", &path)], Err(e)).is_err(),
                }
                continue;
            }
            let result = session.remove_files(&path).await?;
            self.some(&path, result.removals.is_empty() && result.is_success())?;
            failed |= !result.is_success();
            self.removed(&result.removals);
            let alone = self.alone(&result.failures, result.removals.iter().filter_map(|r| r.failure));
            self.failures(&alone);
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    pub(super) async fn rmdir(&mut self, c: &Command) -> Result<()> {
        let mut failed = false;
        for path in &c.arguments {
            let (session, path) = self.at(path)?;
            let found = session.matching(&path).await?;
            let dirs: Vec<_> = found.files.iter().filter(|f| f.is_directory()).collect();
            if !found.masked && dirs.is_empty() {
                let e =
                    Error::new(ErrorKind::NotADirectory).with_detail(format!("'{path}' is not a directory"));
                failed |= self.logged::<()>("rm", &[("filename", &path)], Err(e)).is_err();
                continue;
            }
            self.some(&path, dirs.is_empty())?;
            for dir in dirs {
                let result = session.remove_entry(dir.path.as_bytes()).await?;
                failed |= !result.is_success();
                self.removed(&result.removals);
                let alone = self.alone(&result.failures, result.removals.iter().filter_map(|r| r.failure));
                self.failures(&alone);
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    pub(super) fn removed(&mut self, removals: &[Removal]) {
        for removal in removals {
            let path = text_of(removal.path.as_bytes());
            self.log("rm", &[("filename", &path)], removal.error.as_ref());
            match &removal.error {
                Some(e) => self.console.error(&format!("{e:#}")),
                None => self.console.line(&path),
            }
        }
    }
}
