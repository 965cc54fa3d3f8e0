//! Bodies of requests: read whole within bounds, or piece by piece, at no less than a certain pace.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::reason::Reason;

/// A body that nobody wants is read to its end where it is no larger, so that its connection can go on.
const UNWANTED: u64 = 64 * 1024;
/// How long that may take.
const DRAIN: Duration = Duration::from_secs(2);

/// A body that arrives.
pub struct Intake {
    /// Until it is dropped.
    body: Option<Incoming>,
    /// The client waits for a word before it sends.
    waits: bool,
    time: Duration,
    rate: u64,
    /// How long was waited for the client since the pace was looked at, and what came meanwhile.
    waited: Duration,
    came: u64,
}

impl Intake {
    /// Each piece within `time`, and at least `rate` bytes per second over it. `waits` for a client that waits to
    /// be told before it sends.
    pub fn new(body: Incoming, waits: bool, time: Duration, rate: u64) -> Self {
        Intake { body: Some(body), waits, time, rate, waited: Duration::ZERO, came: 0 }
    }

    /// The next piece; `None` at the end. Errors: `Disconnected`, `TimedOut`.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let slow = || {
                let e = Error::new(ErrorKind::TimedOut).with_detail("nothing came for too long");
                e.because(Reason::DataTimeout)
            };
            let begun = Instant::now();
            let Some(body) = &mut self.body else { return Ok(None) };
            let frame = tokio::time::timeout(self.time, body.frame()).await.map_err(|_| slow())?;
            self.waited += begun.elapsed();
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|e| {
                let gone = Error::new(ErrorKind::Disconnected).with_detail("the client broke off");
                gone.because(Reason::ClientAbort).with_source(e)
            })?;
            // Trailers tell nothing here.
            let Ok(data) = frame.into_data() else { continue };
            self.came += data.len() as u64;
            self.pace()?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    fn pace(&mut self) -> Result<()> {
        if self.waited < self.time {
            return Ok(());
        }
        if self.came < self.waited.as_secs().saturating_mul(self.rate) {
            let e = Error::new(ErrorKind::TimedOut).with_detail("the upload is slower than it may be");
            return Err(e.because(Reason::TooSlow));
        }
        (self.waited, self.came) = (Duration::ZERO, 0);
        Ok(())
    }

    /// All of it that is left. Errors: as of [`Intake::next`]; `TooLarge`.
    pub async fn whole_of(&mut self, most: usize) -> Result<Bytes> {
        let too_large =
            || Error::new(ErrorKind::TooLarge).with_detail("the body of the request is too large");
        if self.announced().is_some_and(|n| n > most as u64) {
            return Err(too_large());
        }
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > most {
                return Err(too_large());
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Whether nothing will come.
    pub fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(|b| b.is_end_stream())
    }

    /// How much will come, where that is said.
    pub fn announced(&self) -> Option<u64> {
        self.body.as_ref()?.size_hint().exact()
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let little = self.announced().is_some_and(|n| n <= UNWANTED);
        if self.waits || self.is_empty() || !little {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Some(mut body) = self.body.take() else { return };
        runtime
            .spawn(tokio::time::timeout(DRAIN, async move { while let Some(Ok(_)) = body.frame().await {} }));
    }
}
