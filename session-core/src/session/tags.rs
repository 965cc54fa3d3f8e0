//! Tags of a session: names with values, which handlers give it and by which it is found in the table.
//!
//! Deliberately absent: tags that come from a client or from an account (`custom` of the account).

use super::{Session, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::path::display_bytes;

/// The longest name of a tag, bytes.
const NAME: usize = 64;
/// The longest value of one, bytes.
const VALUE: usize = 256;
/// The tags of a session, at most.
const MOST: usize = 32;

impl Session {
    /// Gives the session a tag, by which it is found in the table: a name of at most 64 bytes and a value of at most
    /// 256, both shown as one line; an empty value takes it away. Errors: `InvalidArgument` for an empty name;
    /// `TooLarge` for longer ones, and for more than 32 tags.
    pub fn set_tag(&self, name: &str, value: &str) -> Result<()> {
        let (name, value) = (display_bytes(name.as_bytes()), display_bytes(value.as_bytes()));
        if name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("a tag has a name"));
        }
        if name.len() > NAME || value.len() > VALUE {
            return Err(Error::new(ErrorKind::TooLarge)
                .with_detail(format!("the name of a tag has at most {NAME} bytes, its value {VALUE}")));
        }
        let mut m = lock(&self.mutable);
        if value.is_empty() {
            m.tags.remove(&*name);
        } else if m.tags.len() >= MOST && !m.tags.contains_key(&*name) {
            return Err(
                Error::new(ErrorKind::TooLarge).with_detail(format!("a session has at most {MOST} tags"))
            );
        } else {
            m.tags.insert(name.into(), value.into());
        }
        Ok(())
    }

    /// The value of a tag; `None` where there is none of that name.
    pub fn tag(&self, name: &str) -> Option<Box<str>> {
        lock(&self.mutable).tags.get(name).cloned()
    }
}
