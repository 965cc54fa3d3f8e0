//! `complete-place`, which the completions of shells call: what a URL that is being typed may go on with.
//!
//! It never asks, never waits long, takes up no lost connection and tells no failure: where a server cannot be
//! reached and logged in to without a question, nothing is completed. Flags of every command that stand on the
//! line hold for it. A host key that is not known is not trusted, whatever the flags say; a line with handlers
//! is left alone, since they would run.

use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::args::{Cli, Global};
use crate::cli::places::Places;
use crate::cli::render::Out;
use crate::cli::shell::{encode, flags_of, names_of};
use crate::url::Location;

/// How long all of it may take.
const WAIT: Duration = Duration::from_secs(2);

/// Prints what the last of the words, those of a line up to the cursor, may go on with.
pub(super) async fn complete(words: &[String]) {
    let Some((word, before)) = words.split_last() else { return };
    let found = tokio::time::timeout(WAIT, found(word, before)).await;
    let mut out = Out::new();
    for line in found.ok().flatten().unwrap_or_default() {
        out.line(&line);
    }
}

/// Whole words, directories with a slash behind.
async fn found(word: &str, before: &[String]) -> Option<Vec<String>> {
    let Ok(Location::Remote(url)) = Location::parse(word) else { return None };
    let begin = url.path.rsplit(|b| *b == b'/').next()?;
    // The host must be whole: its end is a slash.
    let stem = word.get(..=word.rfind('/').filter(|_| url.path.contains(&b'/'))?)?;
    let mut places = Places::new(&global(before)?);
    let place = places.open(stem).await.ok()?;
    let names = names_of(&place.fs, &place.path).await;
    let fits = |name: &str| {
        name.as_bytes().starts_with(begin) && (begin.starts_with(b".") || !name.starts_with('.'))
    };
    let whole = |(name, is_dir): &(String, bool)| {
        let mut out = stem.to_owned();
        encode(&mut out, name.as_bytes(), b"");
        if *is_dir {
            out.push('/');
        }
        out
    };
    let all = names.iter().filter(|(name, _)| fits(name)).map(whole).collect();
    places.close().await;
    Some(all)
}

/// The flags of every command among the words of a line that is not finished, for one that asks nothing.
fn global(before: &[String]) -> Option<Global> {
    let line = std::iter::once("ferry").chain(before.iter().map(String::as_str));
    let unfinished = Cli::command().ignore_errors(true).try_get_matches_from(line).ok()?;
    let mut words = vec!["ferry".into()];
    words.extend(flags_of(&unfinished));
    words.extend(["ls".into()]);
    let matches = Cli::command().try_get_matches_from(words).ok()?;
    let cli = Cli::from_arg_matches(&matches).ok()?;
    #[cfg(feature = "hooks")]
    if cli.global.hooks.are_given() {
        return None;
    }
    let seconds = Some(WAIT.as_secs());
    Some(Global { batch: true, accept_new: false, reconnect: 0, connect_timeout: seconds, ..cli.global })
}
