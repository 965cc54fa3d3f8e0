//! `get`, `put` and `synchronize`, and what they tell of each file.

use std::path::PathBuf;

use session_core::batch::TransferOptions;
use session_core::error::{Error, ErrorKind, Result};

use super::{Runner, bad, several};
use crate::mask::FileMask;
use crate::script::command::Command;
use crate::script::transfer;
use crate::script::xml::text_of;
use crate::session::{
    Comparison, Outcome, RemoteFileInfo, Side, SynchronizationMode, SynchronizationOptions,
    SynchronizationResult, Transfer, TransferResult, remote_path,
};
use crate::sync::{Criteria, Difference};

impl Runner<'_> {
    /// The options of a command. Errors: those of [`transfer::options`]; `Unsupported` for new files in plain in a session
    /// that encrypts them.
    pub(super) fn transfer_options(&self, c: &Command) -> Result<TransferOptions> {
        let in_plain =
            |(name, value): &(&str, &str)| name.eq_ignore_ascii_case("EncryptNewFiles") && *value == "0";
        if c.pairs("rawtransfersettings")?.iter().any(in_plain) && self.slot()?.session.options()?.encrypts()
        {
            return Err(Error::new(ErrorKind::Unsupported).with_detail(
                "'EncryptNewFiles=0': in a session with an 'EncryptKey' what is new is encrypted",
            ));
        }
        transfer::options(c, self.mode, self.confirm)
    }

    pub(super) async fn get(&mut self, c: &Command) -> Result<()> {
        let options = self.transfer_options(c)?;
        let (sources, target) = match c.arguments.as_slice() {
            [only] => (std::slice::from_ref(only), ""),
            [sources @ .., target] => (sources, target.as_str()),
            [] => return Ok(()),
        };
        if target == "-" {
            return self.get_content(sources).await;
        }
        let target = self.local(target)?;
        let mut failed = false;
        for source in sources {
            let (session, source) = self.at(source)?;
            let mut paths = vec![source.clone()];
            if c.has("latest") || c.has("onlyfile") {
                let found = session.matching(&source).await?;
                self.some(&source, found.files.is_empty())?;
                paths = chosen(c, found.files)?;
            }
            for path in paths {
                let result = session.get_files(&path, &target, c.has("delete"), &options).await?;
                failed |= self.transferred(&path, Side::Remote, &result)?;
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    pub(super) async fn put(&mut self, c: &Command) -> Result<()> {
        let options = self.transfer_options(c)?;
        let (sources, target) = match c.arguments.as_slice() {
            [only] => (std::slice::from_ref(only), ""),
            [sources @ .., target] => (sources, target.as_str()),
            [] => return Ok(()),
        };
        if sources.iter().any(|s| s == "-") {
            return match (sources, c.arguments.len()) {
                ([_], 2) => self.put_content(target, &options).await,
                _ => Err(bad("the source '-' stands alone, and its target names a file")),
            };
        }
        let mut failed = false;
        for source in sources {
            let (session, mut target) = self.at(target)?;
            if c.arguments.len() == 1 {
                target.push('/');
            }
            let path = self.local(source)?;
            let mut paths = vec![path.clone()];
            if c.has("latest") || c.has("onlyfile") {
                let found = session.matching_local(&path).await?;
                self.some(source, found.files.is_empty())?;
                paths = picked(c, found.files)?.iter().map(local_name).collect::<Result<_>>()?;
            }
            for path in paths {
                let result = session.put_files(&path, &target, c.has("delete"), &options).await?;
                failed |= self.transferred(&path.to_string_lossy(), Side::Local, &result)?;
            }
        }
        if failed { Err(several()) } else { Ok(()) }
    }

    /// The source `-`: what is read goes to one file.
    async fn put_content(&mut self, target: &str, options: &TransferOptions) -> Result<()> {
        let (session, path) = self.at(target)?;
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() || name.contains(['*', '?', '\\']) {
            return Err(bad("the target of the source '-' names a file"));
        }
        let input = self.console.input().ok_or_else(|| bad("there is no input for the source '-'"))?;
        let outcome = session.put_file(input, &path, options).await;
        let size = outcome.as_ref().map(u64::to_string).unwrap_or_default();
        if outcome.is_ok() {
            self.console.line(&format!("- => {path}, {size} bytes"));
        }
        let values = [("filename", "-"), ("destination", path.as_str()), ("size", size.as_str())];
        self.logged("upload", &values, outcome).map(|_| ())
    }

    async fn get_content(&mut self, sources: &[String]) -> Result<()> {
        use tokio::io::AsyncReadExt as _;
        for source in sources {
            let (session, path) = self.at(source)?;
            let mut reader = session.get_file(&path).await?;
            let mut buf = vec![0; 64 << 10];
            let outcome: Result<u64> = async {
                let mut size = 0;
                loop {
                    let n = reader.read(&mut buf).await?;
                    if n == 0 {
                        return Ok(size);
                    }
                    size += n as u64;
                    self.console.content(buf.get(..n).unwrap_or_default());
                }
            }
            .await;
            let size = outcome.as_ref().map(u64::to_string).unwrap_or_default();
            let values = [("filename", path.as_str()), ("destination", "-"), ("size", size.as_str())];
            self.logged("download", &values, outcome)?;
        }
        Ok(())
    }

    /// Tells and logs what was moved; says whether anything failed.
    fn transferred(&mut self, source: &str, side: Side, result: &TransferResult) -> Result<bool> {
        let nothing = result.transfers.is_empty() && result.directories.is_empty() && result.is_success();
        self.some(source, nothing)?;
        // The schema knows operations of the server.
        for dir in result.directories.iter().filter(|_| side == Side::Local) {
            self.log("mkdir", &[("filename", &text_of(dir.as_bytes()))], None);
        }
        for transfer in &result.transfers {
            self.one(transfer);
        }
        let owned = result
            .transfers
            .iter()
            .flat_map(|t| t.failure.into_iter().chain(t.removal.as_ref().and_then(|r| r.failure)));
        let alone = self.alone(&result.failures, owned);
        self.failures(&alone);
        Ok(!result.is_success())
    }

    fn one(&mut self, t: &Transfer) {
        let name = match t.side {
            Side::Local => "upload",
            Side::Remote => "download",
        };
        let from = text_of(t.source.as_bytes());
        let (to, size) = (text_of(t.destination.as_bytes()), t.length.to_string());
        match &t.outcome {
            Outcome::Skipped(why) => {
                self.console.line(&format!("{from}: left alone: {why}"));
                return;
            }
            Outcome::Done(_) => self.console.line(&format!("{from} => {to}, {size} bytes")),
            Outcome::Failed => {
                if let Some(e) = &t.error {
                    self.console.error(&format!("{e:#}"));
                }
            }
        }
        let values = [("filename", from.as_str()), ("destination", to.as_str()), ("size", size.as_str())];
        self.log(name, &values, t.error.as_ref());
        // The schema knows operations of the server.
        if let Some(chmod) = t.chmod.as_ref().filter(|_| t.side == Side::Local) {
            let permissions = chmod.permissions.text();
            let values = [("filename", to.as_str()), ("permissions", permissions.as_str())];
            self.log("chmod", &values, chmod.error.as_ref());
        }
        if let Some(touch) = t.touch.as_ref().filter(|_| t.side == Side::Local) {
            let modified = session_core::event::timestamp(touch.modified);
            let values = [("filename", to.as_str()), ("modification", modified.as_str())];
            self.log("touch", &values, touch.error.as_ref());
        }
        if let Some(removal) = &t.removal {
            let path = text_of(removal.path.as_bytes());
            if t.side == Side::Remote {
                self.log("rm", &[("filename", &path)], removal.error.as_ref());
            }
            if let Some(e) = &removal.error {
                self.console.error(&format!("{e:#}"));
            }
        }
    }

    pub(super) async fn synchronize(&mut self, c: &Command) -> Result<()> {
        let (mode, places) =
            c.arguments.split_first().ok_or_else(|| bad("'synchronize' needs a direction"))?;
        let mode = match mode.to_ascii_lowercase().as_str() {
            "both" => SynchronizationMode::Both,
            "local" => SynchronizationMode::Local,
            "remote" => SynchronizationMode::Remote,
            other => return Err(bad(format!("'{other}' is not local, remote or both"))),
        };
        let local = self.local(places.first().map_or("", String::as_str))?;
        let (session, remote) = self.at(places.get(1).map_or("", String::as_str))?;
        let mut options = SynchronizationOptions::new(mode);
        options.remove_files = c.has("delete");
        options.mirror = c.has("mirror");
        options.max_delete = self.settings.max_delete;
        if let Some(Some(criteria)) = c.switch("criteria") {
            // The old name of time and size.
            let both = criteria.eq_ignore_ascii_case("both");
            options.criteria = Criteria::parse(if both { "either" } else { criteria })?;
        }
        if let Some(Some(mask)) = c.switch("filemask") {
            options.mask = FileMask::parse(mask)?;
        }
        options.transfer = self.transfer_options(c)?;
        if c.has("preview") {
            let found = session.compare_directories(&local, &remote, &options).await?;
            for difference in &found.differences {
                self.previewed(&found, difference)?;
            }
            return Ok(());
        }
        let result = session.synchronize_directories(&local, &remote, &options).await?;
        if self.synchronized(&result) { Ok(()) } else { Err(several()) }
    }

    /// Tells and logs what was synchronised; whether nothing failed.
    pub(super) fn synchronized(&mut self, result: &SynchronizationResult) -> bool {
        for (side, dir) in &result.directories {
            let dir = text_of(dir.as_bytes());
            if *side == Side::Remote {
                self.log("mkdir", &[("filename", &dir)], None);
            }
            self.console.line(&dir);
        }
        for transfer in result.uploads.iter().chain(&result.downloads) {
            self.one(transfer);
        }
        self.removed(&result.removals);
        for note in &result.notes {
            self.console.line(&format!("{}: left alone: {}", text_of(&note.path), note.why));
        }
        let files = result.uploads.iter().chain(&result.downloads).filter_map(|t| t.failure);
        let alone =
            self.alone(&result.failures, files.chain(result.removals.iter().filter_map(|r| r.failure)));
        self.failures(&alone);
        result.is_success()
    }

    /// One difference of a preview.
    fn previewed(&mut self, found: &Comparison, d: &Difference) -> Result<()> {
        let (_, action) = d.action.winscp();
        let mut values = vec![("action", action.to_ascii_lowercase())];
        for (side, facts) in [(Side::Local, &d.left), (Side::Remote, &d.right)] {
            let Some(facts) = facts else { continue };
            values.push(("type", if facts.is_dir() { "d" } else { "-" }.to_string()));
            values.push(("filename", text_of(found.path(d, side)?.as_bytes())));
            if !facts.is_dir() {
                values.push(("size", facts.size.to_string()));
            }
            if let Some(modified) = facts.modified {
                values.push(("modification", session_core::event::timestamp(modified)));
            }
        }
        let shown: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.log("difference", &shown, None);
        let side = if d.left.is_some() { Side::Local } else { Side::Remote };
        self.console.line(&format!("{action} {}", found.path(d, side)?));
        Ok(())
    }
}

/// Of what a mask fits: the latest with `-latest`, and no directory with `-onlyfile`.
fn chosen(c: &Command, files: Vec<RemoteFileInfo>) -> Result<Vec<String>> {
    let files = picked(c, files)?;
    Ok(files.iter().map(|f| remote_path::escape_file_mask(&text_of(f.path.as_bytes()))).collect())
}

/// A local path for a transfer. Errors: `InvalidArgument` for a name that would be read as a mask.
fn local_name(file: &RemoteFileInfo) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    if file.path.name().iter().any(|b| matches!(b, b'*' | b'?')) {
        return Err(bad(format!("'{}' cannot be named in a script", file.path)));
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(file.path.as_bytes().to_vec())))
}

fn picked(c: &Command, files: Vec<RemoteFileInfo>) -> Result<Vec<RemoteFileInfo>> {
    let mut files = files;
    if c.has("onlyfile")
        && let Some(dir) = files.iter().find(|f| f.is_directory())
    {
        return Err(Error::new(ErrorKind::IsADirectory).with_detail(format!("'{}' is not a file", dir.path)));
    }
    if c.has("latest") {
        files.retain(|f| !f.is_directory());
        let latest = files.into_iter().max_by_key(|f| f.last_write_time());
        files = latest.into_iter().collect();
    }
    Ok(files)
}
