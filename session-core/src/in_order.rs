//! Files that give or take their bytes in order, behind calls that come side by side: each waits for its turn.
//!
//! A write that comes too early waits as long as others write; what nobody can come before is refused, since such a
//! protocol can neither leave bytes out nor write them twice. A read waits for those under way that begin before it;
//! where there are none it may jump, which costs a new answer of the server.

use std::collections::BTreeMap;
use std::sync::{Mutex as StdMutex, MutexGuard as StdGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::operation::OperationKind;

/// How long a call that comes too early waits for the one before it, while nobody writes.
const TURN: Duration = Duration::from_secs(2);

/// Who writes next in one file.
pub struct InOrder {
    protocol: &'static str,
    moved: Notify,
}

impl InOrder {
    /// Of a file of this protocol, as errors name it.
    pub fn new(protocol: &'static str) -> Self {
        InOrder { protocol, moved: Notify::new() }
    }

    /// Waits until a call that writes at `offset` may go on, and gives it the file. `at` says where the file is,
    /// `None` where the call's offset does not matter; its errors end the wait. Errors: `Unsupported` for bytes that
    /// were written before, and for those that nobody comes before. Cancel: the turn is others'.
    pub async fn turn<'a, T>(
        &self,
        file: &'a Mutex<T>,
        offset: u64,
        mut at: impl FnMut(&mut T) -> Result<Option<u64>>,
    ) -> Result<MutexGuard<'a, T>> {
        let mut deadline = Instant::now() + TURN;
        let mut seen = None;
        loop {
            let moved = self.moved.notified();
            let mut inner = file.lock().await;
            let Some(at) = at(&mut inner)?.filter(|at| *at != offset) else { return Ok(inner) };
            drop(inner);
            if offset < at {
                return Err(self.refused("bytes cannot be written twice"));
            }
            if seen.replace(at) != Some(at) {
                deadline = Instant::now() + TURN;
            }
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                return Err(self.refused("bytes cannot be left out"));
            }
        }
    }

    /// The file has moved on, or has ended: those that wait look again.
    pub fn moves(&self) {
        self.moved.notify_waiters();
    }

    /// What such a protocol cannot do.
    pub fn refused(&self, words: &str) -> Error {
        let protocol = self.protocol;
        Error::unsupported(OperationKind::Write)
            .with_detail(format!("{protocol} writes a file in order: {words}"))
    }
}

/// The error of a file in which a write was dropped half way.
pub fn broken() -> Error {
    Error::new(ErrorKind::Canceled).with_detail("an earlier write did not come to its end")
}

/// Who reads in one file.
#[derive(Default)]
pub struct Readers {
    /// Offsets of calls under way, and how many begin there.
    calls: StdMutex<BTreeMap<u64, usize>>,
    moved: Notify,
}

/// A call under way, until it is dropped.
pub struct Reading<'a> {
    readers: &'a Readers,
    offset: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut calls = self.readers.calls();
        if let Some(n) = calls.get_mut(&self.offset) {
            *n -= 1;
            if *n == 0 {
                calls.remove(&self.offset);
            }
        }
        drop(calls);
        self.readers.moved.notify_waiters();
    }
}

impl Readers {
    fn calls(&self) -> StdGuard<'_, BTreeMap<u64, usize>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that reads from `offset` on begins.
    pub fn begin(&self, offset: u64) -> Reading<'_> {
        *self.calls().entry(offset).or_default() += 1;
        Reading { readers: self, offset }
    }

    /// Waits until no call under way reads what lies between the stream and `offset`, and gives the stream. `at` says
    /// where it is; 0 where there is none yet. Cancel: the turn is others'.
    pub async fn turn<'a, T>(
        &self,
        stream: &'a Mutex<T>,
        offset: u64,
        at: impl Fn(&T) -> u64,
    ) -> MutexGuard<'a, T> {
        loop {
            let moved = self.moved.notified();
            let stream = stream.lock().await;
            let at = at(&stream);
            if offset <= at || self.calls().range(at..offset).next().is_none() {
                return stream;
            }
            drop(stream);
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn write(turns: &InOrder, file: &Mutex<Vec<u8>>, offset: u64, data: &[u8]) -> Result<()> {
        turns.turn(file, offset, |f| Ok(Some(f.len() as u64))).await?.extend_from_slice(data);
        turns.moves();
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn calls_side_by_side_write_in_order() {
        let (turns, file) = (InOrder::new("X"), Mutex::default());
        let (a, b, c) = tokio::join!(
            write(&turns, &file, 4, b"ef"),
            write(&turns, &file, 2, b"cd"),
            write(&turns, &file, 0, b"ab")
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(*file.lock().await, b"abcdef");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_have_no_turn_is_refused() {
        let (turns, file) = (InOrder::new("X"), Mutex::new(b"abc".to_vec()));
        let e = write(&turns, &file, 1, b"x").await.unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("written twice"), "{e}");
        let start = Instant::now();
        let e = write(&turns, &file, 9, b"x").await.unwrap_err();
        assert!(e.to_string().contains("X writes a file in order: bytes cannot be left out"), "{e}");
        assert_eq!(start.elapsed(), TURN);
        // As long as others write, one waits.
        let others = async {
            for n in 3..9 {
                tokio::time::sleep(TURN / 2).await;
                write(&turns, &file, n, b".").await.unwrap();
            }
        };
        assert!(tokio::join!(write(&turns, &file, 9, b"x"), others).0.is_ok());
        let any = turns.turn(&file, 0, |_| Ok(None)).await;
        assert_eq!(*any.unwrap(), b"abc......x");
        let ended = turns.turn(&file, 0, |_| Err(ErrorKind::Closed.into())).await;
        assert_eq!(ended.err().map(|e| e.kind()), Some(ErrorKind::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn reads_side_by_side_are_served_in_order() {
        let (readers, stream, served) = (Readers::default(), Mutex::new(0u64), StdMutex::new(Vec::new()));
        let read = async |offset: u64| {
            let _call = readers.begin(offset);
            // All have begun before the first goes on.
            tokio::task::yield_now().await;
            let mut at = readers.turn(&stream, offset, |at| *at).await;
            served.lock().unwrap().push(offset);
            *at = offset + 10;
        };
        tokio::join!(read(20), read(10), read(0));
        assert_eq!(*served.lock().unwrap(), [0, 10, 20]);
        // Nobody comes before: a jump, ahead and back.
        read(500).await;
        read(5).await;
        assert_eq!(*stream.lock().await, 15);
        // Whoever gives up is not waited for.
        let ahead = readers.begin(20);
        tokio::join!(read(30), async { drop(ahead) });
        assert_eq!(*stream.lock().await, 40);
    }
}
