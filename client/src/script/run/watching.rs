//! `keepuptodate`: what changes locally is sent, until somebody ends it.

use session_core::error::Result;
use tokio::sync::mpsc::unbounded_channel;

use super::{Runner, several};
use crate::mask::FileMask;
use crate::script::command::Command;
use crate::script::transfer;
use crate::session::{SynchronizationMode, SynchronizationOptions, SynchronizationResult};

impl Runner<'_> {
    /// What fails is told and tried again; the command has failed if the last round did.
    pub(super) async fn keep_up_to_date(&mut self, c: &Command) -> Result<()> {
        let local = self.local(c.arguments.first().map_or("", String::as_str))?;
        let (session, remote) = self.at(c.arguments.get(1).map_or("", String::as_str))?;
        let session = session.clone();
        let mut options = SynchronizationOptions::new(SynchronizationMode::Remote);
        options.remove_files = c.has("delete");
        options.max_delete = self.settings.max_delete;
        if let Some(Some(mask)) = c.switch("filemask") {
            options.mask = FileMask::parse(mask)?;
        }
        options.transfer = transfer::options(c, self.mode, self.confirm)?;
        // Ended with the command, whatever ends that.
        let stop = self.console.stop().unwrap_or_default();
        let _ended = stop.clone().drop_guard();
        // Emptied after each step of what fills it.
        let (to, mut results) = unbounded_channel();
        let mut tell = |result: SynchronizationResult| drop(to.send(result));
        let keep = session.keep_remote_directory_up_to_date(&local, &remote, &options, &stop, &mut tell);
        tokio::pin!(keep);
        let mut good = true;
        let ended = loop {
            tokio::select! {
                biased;
                Some(result) = results.recv() => good = self.synchronized(&result),
                ended = &mut keep => break ended,
            }
        };
        while let Ok(result) = results.try_recv() {
            good = self.synchronized(&result);
        }
        ended?;
        if good { Ok(()) } else { Err(several()) }
    }
}
