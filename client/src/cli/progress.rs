//! The progress bar: one line for the batch, drawn ten times a second, gone when it is over. Nothing is
//! drawn where the error output is no terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::batch::Tracker;

use super::render::size;

/// Draws until it is dropped.
pub(super) struct Drawn {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl Drawn {
    pub(super) fn new(tracker: &Arc<Tracker>, wanted: bool) -> Option<Self> {
        if !wanted || !std::io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}").ok()?;
        bar.set_style(style);
        let (tracker, drawn) = (Arc::clone(tracker), bar.clone());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                draw(&drawn, &tracker);
            }
        });
        Some(Drawn { bar, task })
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

fn draw(bar: &ProgressBar, tracker: &Tracker) {
    let p = tracker.progress();
    bar.set_length(p.bytes_total.max(1));
    bar.set_position(p.bytes_done);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shown to people")]
    let rate = p.rate.max(0.0) as u64;
    let eta = if p.rate > 1.0 && !p.scanning {
        #[allow(clippy::cast_precision_loss, reason = "shown to people")]
        let seconds = p.bytes_total.saturating_sub(p.bytes_done) as f64 / p.rate;
        format!("  {:.0} s left", seconds.ceil())
    } else {
        String::new()
    };
    let name = match p.current.as_slice() {
        [] => String::new(),
        [(name, ..)] => format!("  {name}"),
        [(name, ..), rest @ ..] => format!("  {name} and {} more", rest.len()),
    };
    let more = if p.scanning { "+" } else { "" };
    bar.set_message(format!(
        "{}/{}{more} files  {}/{}{more}  {}/s{eta}{name}",
        p.files_done,
        p.files_total,
        size(p.bytes_done),
        size(p.bytes_total),
        size(rate),
    ));
}
