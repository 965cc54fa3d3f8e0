//! The table of open handles, as the machine knows them: what they are and where, not the open files.
//!
//! A handle is eight opaque bytes; numbers are not used twice in a session, so a late request never
//! meets somebody else's file.

use std::collections::HashMap;

use bytes::Bytes;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::VPath;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory being listed.
    Directory,
    /// An open file.
    File {
        /// It may be written, and its CLOSE publishes.
        write: bool,
        /// Writes go to the end, whatever their offset.
        append: bool,
    },
}

/// One handle.
#[derive(Clone, Debug)]
pub struct Handle {
    /// What it is.
    pub kind: Kind,
    /// Its path; a rename by this session moves it.
    pub path: VPath,
    /// A peer may name it: its open succeeded and no CLOSE has arrived.
    pub usable: bool,
}

/// The handles of one session.
#[derive(Debug)]
pub struct Handles {
    max: usize,
    last: u64,
    open: HashMap<u64, Handle>,
}

impl Handles {
    /// An empty table that holds at most `max`.
    pub fn new(max: usize) -> Self {
        Handles { max, last: 0, open: HashMap::new() }
    }

    /// Takes a number for something being opened. Errors: `Throttled` at the limit.
    pub fn reserve(&mut self, kind: Kind, path: VPath) -> Result<u64> {
        if self.open.len() >= self.max {
            return Err(Error::new(ErrorKind::Throttled)
                .with_detail(format!("too many open handles, at most {} are allowed", self.max)));
        }
        self.last += 1;
        self.open.insert(self.last, Handle { kind, path, usable: false });
        Ok(self.last)
    }

    /// The open succeeded.
    pub fn opened(&mut self, number: u64) {
        if let Some(h) = self.open.get_mut(&number) {
            h.usable = true;
        }
    }

    /// A CLOSE arrived: nobody may name it any more.
    pub fn closing(&mut self, number: u64) {
        if let Some(h) = self.open.get_mut(&number) {
            h.usable = false;
        }
    }

    /// It is closed, or was never opened.
    pub fn remove(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// The last number given.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A rename by this session was done. It moves what was opened before the rename arrived, that is
    /// numbers up to `last` then: what came later was opened by what is there now.
    pub fn renamed(&mut self, from: &VPath, to: &VPath, last: u64) {
        for (_, handle) in self.open.iter_mut().filter(|(number, _)| **number <= last) {
            if let Some(path) = handle.path.rebase(from, to) {
                handle.path = path;
            }
        }
    }

    /// The handle that a peer names. Errors: `Closed`.
    pub fn get(&self, wire: &[u8]) -> Result<(u64, &Handle)> {
        let number = <[u8; 8]>::try_from(wire).map(u64::from_be_bytes).ok();
        number
            .and_then(|n| self.open.get(&n).filter(|h| h.usable).map(|h| (n, h)))
            .ok_or_else(|| Error::new(ErrorKind::Closed).with_detail("no such handle"))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

/// A handle's number as a peer sees it.
pub fn to_wire(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}
