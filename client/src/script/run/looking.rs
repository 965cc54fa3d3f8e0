//! Commands that change nothing: directories, listings, checksums, and the local directory.

use std::path::PathBuf;

use session_core::error::{Error, ErrorKind, Result};

use super::{Runner, bad, missing};
use crate::mask::Wildcard;
use crate::script::command::Command;
use crate::script::xml::{Files, text_of};
use crate::session::{FilePermissions, RemoteFileInfo};

impl Runner<'_> {
    pub(super) fn pwd(&mut self) -> Result<()> {
        let cwd = self.slot()?.cwd.clone();
        self.console.line(&cwd);
        self.log("cwd", &[("cwd", &cwd)], None);
        Ok(())
    }

    pub(super) async fn cd(&mut self, c: &Command) -> Result<()> {
        let (session, path) = match c.arguments.first() {
            Some(path) => self.at(path)?,
            None => {
                let slot = self.slot()?;
                (slot.session.clone(), text_of(slot.session.home_path()?.as_bytes()))
            }
        };
        let info = session.get_file_info(&path).await?;
        if !info.is_directory() {
            return Err(
                Error::new(ErrorKind::NotADirectory).with_detail(format!("'{path}' is not a directory"))
            );
        }
        let cwd = text_of(info.path.as_bytes());
        let number = self.slot()?.number;
        if let Some(slot) = self.slots.iter_mut().find(|s| s.number == number) {
            slot.cwd.clone_from(&cwd);
        }
        self.console.line(&cwd);
        Ok(())
    }

    pub(super) async fn ls(&mut self, c: &Command) -> Result<()> {
        let (session, path) = self.at(c.arguments.first().map_or("", String::as_str))?;
        let outcome = match session.matching(&path).await {
            // A directory by its name is its content.
            Ok(found) if !found.masked => match found.files.first() {
                Some(info) if info.is_directory() => {
                    session.list_directory(info.path.as_bytes()).await.map(|d| (info.path.clone(), d.files))
                }
                _ => Ok((found.directory, found.files)),
            },
            Ok(found) => Ok((found.directory, found.files)),
            Err(e) => Err(e),
        };
        let (shown, files) = match outcome {
            Ok((dir, files)) => (text_of(dir.as_bytes()), Ok(files)),
            Err(e) => (path, Err(e)),
        };
        if let (Ok(files), Some(log)) = (&files, &mut self.log) {
            log.operation_with("ls", "", &[("destination", &shown)], &[Files::Listing(files)], None);
        }
        let files = match files {
            Ok(files) => files,
            Err(e) => return self.logged("ls", &[("destination", &shown)], Err(e)),
        };
        for file in &files {
            self.console.line(&long(file));
        }
        Ok(())
    }

    pub(super) async fn stat(&mut self, c: &Command) -> Result<()> {
        let (session, path) = self.at(c.arguments.first().map_or("", String::as_str))?;
        let outcome = session.get_file_info(&path).await;
        if let (Ok(info), Some(log)) = (&outcome, &mut self.log) {
            log.operation_with("stat", "", &[("filename", &path)], &[Files::One(info)], None);
        }
        match outcome {
            Ok(info) => self.console.line(&long(&info)),
            Err(e) => return self.logged("stat", &[("filename", &path)], Err(e)),
        }
        Ok(())
    }

    pub(super) async fn checksum(&mut self, c: &Command) -> Result<()> {
        let [algorithm, path] = c.arguments.as_slice() else { return Ok(()) };
        let (session, path) = self.at(path)?;
        let outcome = session.calculate_file_checksum(algorithm, &path).await;
        let digest = outcome.map(|(bytes, _)| session_core::digest::hex(&bytes));
        let text = digest.as_deref().unwrap_or_default().to_string();
        let all =
            [("filename", path.as_str()), ("algorithm", algorithm.as_str()), ("checksum", text.as_str())];
        // One that failed has no digest to show.
        let values = if digest.is_ok() { all.as_slice() } else { all.get(..2).unwrap_or_default() };
        let digest = self.logged("checksum", values, digest)?;
        self.console.line(&format!("{digest} {path}"));
        Ok(())
    }

    pub(super) async fn lcd(&mut self, c: &Command) -> Result<()> {
        let path = self.local(c.arguments.first().map_or("", String::as_str))?;
        let path = tokio::fs::canonicalize(&path).await.map_err(|e| missing(e, &path))?;
        if !tokio::fs::metadata(&path).await?.is_dir() {
            return Err(bad(format!("'{}' is not a directory", path.display())));
        }
        self.lcd = path;
        self.console.line(&self.lcd.to_string_lossy());
        Ok(())
    }

    pub(super) async fn lls(&mut self, c: &Command) -> Result<()> {
        let path = self.local(c.arguments.first().map_or("", String::as_str))?;
        let text = path.to_string_lossy().into_owned();
        let (dir, mask) = match tokio::fs::metadata(&path).await {
            Ok(m) if m.is_dir() => (path, "*".to_string()),
            _ => {
                let (dir, mask) = text.rsplit_once('/').unwrap_or(("", &text));
                (PathBuf::from(format!("{dir}/")), mask.to_string())
            }
        };
        let mask = Wildcard::new(mask.as_bytes());
        let mut entries = tokio::fs::read_dir(&dir).await.map_err(|e| missing(e, &dir))?;
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            use std::os::unix::ffi::OsStrExt;
            if mask.matches(entry.file_name().as_bytes()) {
                let slash = if entry.file_type().await?.is_dir() { "/" } else { "" };
                names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
            }
        }
        names.sort();
        names.iter().for_each(|name| self.console.line(name));
        Ok(())
    }
}

/// One line of a listing.
fn long(file: &RemoteFileInfo) -> String {
    let owner = file.owner().unwrap_or_default();
    let group = file.group().unwrap_or_default();
    let time = file.last_write_time().map(session_core::event::timestamp).unwrap_or_default();
    let letter = match file.file_type() {
        'D' => 'd',
        'L' => 'l',
        other => other,
    };
    format!(
        "{letter}{} {owner:<8} {group:<8} {:>12} {time:<24} {}",
        file.file_permissions().map_or_else(|| "?????????".to_string(), FilePermissions::text),
        file.length(),
        file.name()
    )
}
