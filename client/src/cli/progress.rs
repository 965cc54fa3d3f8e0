//! The progress bar: one line for the batch and one for each of the first files in work, drawn ten times a second,
//! gone when it is over. Nothing is drawn where the error output is no terminal. No colours.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use session_core::batch::Progress;

use crate::batch::Tracker;

use super::render::size;

/// Files in work that have a line.
const FILES: usize = 4;

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
    bar.set_message(shown(&p));
}

/// What stands beside the bar, and below it a line for each of the files in work.
fn shown(p: &Progress) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shown to people")]
    let rate = p.rate.max(0.0) as u64;
    let eta = if p.rate > 1.0 && !p.scanning {
        #[allow(clippy::cast_precision_loss, reason = "shown to people")]
        let seconds = p.bytes_total.saturating_sub(p.bytes_done) as f64 / p.rate;
        format!("  {:.0} s left", seconds.ceil())
    } else {
        String::new()
    };
    let more = if p.scanning { "+" } else { "" };
    let mut text = format!(
        "{}/{}{more} files  {}/{}{more}  {}/s{eta}",
        p.files_done,
        p.files_total,
        size(p.bytes_done),
        size(p.bytes_total),
        size(rate),
    );
    for (name, done, all) in p.current.iter().take(FILES) {
        let percent = done.saturating_mul(100) / (*all).max(1);
        let _ = write!(text, "\n  {percent:>3}%  {:>8}  {name}", size(*all));
    }
    match p.current.len().saturating_sub(FILES) {
        0 => {}
        others => {
            let _ = write!(text, "\n  and {others} more");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_stands_above_the_files_in_work() {
        let mut p = Progress {
            files_done: 3,
            files_total: 10,
            bytes_done: 1 << 20,
            bytes_total: 3 << 20,
            rate: 1_048_576.0,
            current: vec![("a".into(), 512, 1024), ("b".into(), 0, 0)],
            ..Progress::default()
        };
        let text = shown(&p);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("3/10 files") && lines[0].ends_with("2 s left"), "{text}");
        assert!(lines[1].starts_with("   50%") && lines[1].ends_with("  a"), "{text}");
        assert!(lines[2].starts_with("    0%") && lines.len() == 3, "{text}");
        p.current = (0..7).map(|n| (n.to_string().into(), 0, 1)).collect();
        p.scanning = true;
        let text = shown(&p);
        assert!(text.contains("3/10+ files") && !text.contains("left"), "{text}");
        assert!(text.lines().count() == 2 + FILES && text.ends_with("and 3 more"), "{text}");
    }
}
