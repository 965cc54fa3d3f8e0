//! Sites from other programs' files: WinSCP.ini, FileZilla's sitemanager.xml, rclone.conf, `ssh_config`.
//!
//! Text in, sites and notes out; nothing is connected to, and nothing is stored. What a file says and a site here
//! cannot hold is a note that names it, never passed over. What gives up security is not taken over. Passwords
//! are unscrambled where the program's way of scrambling is public; whoever stores them seals them.

mod filezilla;
mod ini;
mod rclone;
mod ssh;
mod winscp;

pub use filezilla::filezilla;
pub use rclone::rclone;
#[cfg(feature = "sftp")]
pub use ssh::ssh_config;
pub use winscp::winscp;

use session_core::error::Error;

use super::Site;
use crate::session::SessionOptions;

/// What came of a file.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// The sites, in the order of the file.
    pub sites: Vec<Site>,
    /// What was not carried over, in that order.
    pub notes: Vec<Note>,
}

/// What was not carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of which site; empty for the file as a whole.
    pub site: String,
    /// What, and why; without secrets.
    pub words: String,
}

impl Imported {
    fn note(&mut self, site: &str, words: impl Into<String>) {
        self.notes.push(Note { site: site.to_owned(), words: words.into() });
    }

    /// Takes a site in, or notes why not: also where it could not be opened as it stands.
    fn take(&mut self, name: &str, options: SessionOptions, directory: Option<String>) {
        let site = options.check().and_then(|()| Site::new(name, options));
        match site {
            Ok(site) => self.sites.push(Site { directory, ..site }),
            Err(e) => self.note(name, format!("the site is left out: {}", words_of(&e))),
        }
    }

    /// Applies a setting, or notes why it is left out.
    fn apply(
        &mut self,
        site: &str,
        what: &str,
        options: SessionOptions,
        change: impl FnOnce(SessionOptions) -> Result<SessionOptions, Error>,
    ) -> SessionOptions {
        match change(options.clone()) {
            Ok(changed) => changed,
            Err(e) => {
                self.note(site, format!("{what}: {}", words_of(&e)));
                options
            }
        }
    }
}

fn words_of(e: &Error) -> String {
    e.detail().map_or_else(|| e.to_string(), str::to_owned)
}

/// Percent signs and two digits, decoded; what is none stays. Bytes that are no UTF-8 are replaced.
fn percent(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let value = match (first, tail) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)).map(|(h, l)| h * 16 + l),
            _ => None,
        };
        match value {
            Some(value) => {
                out.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
