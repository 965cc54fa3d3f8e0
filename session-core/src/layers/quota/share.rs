//! `Share`: what one server may use of a limit that holds over several.
//!
//! Whoever counts for all of them grants each server a part, and the parts together are within the limit; so a
//! server that stays within its part needs to ask nobody. It asks for some more ahead than it needs, and gives
//! back what it does not use. A part is only raised after it was granted, and lowered before that is told, so that
//! what breaks in between leaves room unused and never gives it twice.
//!
//! Absent: who counts, and how servers hear of each other ([`Grants`] is told and answers).

use async_trait::async_trait;

use crate::error::Result;

/// The part of one server of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How much this server may use.
    pub may: u64,
    /// What the others use, as it was told last.
    pub elsewhere: u64,
    /// Whether it was ever asked for.
    pub asked: bool,
}

/// A wish for a larger part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which limit: the same words on every server.
    pub key: String,
    /// How much all servers may use together.
    pub limit: u64,
    /// What this server uses.
    pub used: u64,
    /// What it must be able to use.
    pub need: u64,
    /// When the limit is over by itself, seconds since 1970; `None`: never.
    pub until: Option<i64>,
}

/// What was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// How much this server may use now: less than it needs where there is no more.
    pub may: u64,
    /// What the others use, as they told it last.
    pub elsewhere: u64,
    /// What this server might use until now, also in a former run.
    pub had: u64,
}

/// What a server uses and may use of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub key: String,
    /// As in [`Ask`].
    pub until: Option<i64>,
    /// What it uses.
    pub used: u64,
    /// What it may use.
    pub may: u64,
}

/// How much is asked for ahead of what is needed: a part of the limit, and so much at most.
pub fn ahead(limit: u64, most: u64) -> u64 {
    (limit / 16).min(most)
}

/// Takes what was granted. To be called while nobody gives back ([`Grants::ask`]).
pub type Apply<'a> = &'a (dyn Fn(Grant) + Send + Sync);

/// Whoever counts for all servers.
#[async_trait]
pub trait Grants: Send + Sync {
    /// Has this server's part be `need`, and some more ahead, or as much as there is. `apply` is called with what
    /// was granted, before anything is given back. Errors: nobody can be asked; then nothing was granted.
    async fn ask(&self, ask: &Ask, apply: Apply<'_>) -> Result<Grant>;
}

/// Whoever uses parts.
pub trait Holder: Send + Sync {
    /// Gives back what is not used beyond `spare` (of a limit), and tells what is used and held of all that was
    /// asked for.
    fn give_back(&self, spare: &dyn Fn(u64) -> u64) -> Vec<Held>;

    /// What the others use, by key; keys of others are passed over.
    fn heard(&self, elsewhere: &[(String, u64)]);
}
