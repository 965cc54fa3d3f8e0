//! One handler outside a server: what is wrong with it, for `hooks check` of both programs, and what it does when
//! it is run once, for `ferryd hooks test` and for tests of recipes.

use std::net::IpAddr;
use std::sync::Arc;

use super::engine::Engine;
use super::hooks::{Binding, Bound};
use super::invocation::Subject;
use super::members::{Unknown, unknown_members};
use super::services::Services;
use crate::auth::Check;
use crate::error::Result;
use crate::path::{VPath, display_bytes};
use crate::session::Session;

/// A handler made ready.
pub struct Trial {
    engine: Arc<Engine>,
    services: Services,
    bound: Bound,
}

/// What an event is about.
#[derive(Clone, Default)]
pub struct Try {
    /// The session; `None` where the event has none.
    pub session: Option<Arc<Session>>,
    /// The path.
    pub path: Option<VPath>,
    /// The target.
    pub target: Option<VPath>,
    /// Bytes of content.
    pub size: Option<u64>,
    /// The client, in an event without a session.
    pub peer: Option<IpAddr>,
}

/// What a handler did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What was at hand is refused, with these words.
    pub blocked: Option<String>,
    /// The upload goes into quarantine, for this reason.
    pub quarantined: Option<String>,
    /// Where the operation goes instead.
    pub redirected: Option<VPath>,
    /// What is sent as identification.
    pub software_id: Option<String>,
    /// Names and patterns left out of a listing.
    pub hidden: Vec<String>,
    /// Questions by position: prompt, and `password`, `totp` or the answer.
    pub questions: Vec<(usize, String, String)>,
    /// It vouched for the user.
    pub authenticated: bool,
    /// What it logged.
    pub lines: Vec<String>,
    /// Why it did not come to its end.
    pub error: Option<String>,
}

/// What is wrong with a handler, told as `file:line: …`: members that there are not, and why it would not be bound.
/// Blocks.
pub fn faults(engine: &Engine, binding: Binding) -> Vec<String> {
    let unknown = unknown_members(&binding.source).into_iter();
    let name = binding.name.clone();
    let told = |u: Unknown| format!("{name}:{}: there is no {} (nearest: {})", u.line, u.name, u.nearest);
    let mut faults: Vec<String> = unknown.map(told).collect();
    if let Err(e) = Bound::new(engine, binding) {
        let hint = e.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        faults.push(format!("{e}{hint}"));
    }
    faults
}

impl Trial {
    /// Compiles. Blocks. Errors: `InvalidArgument`, as when a server binds it.
    pub fn new(engine: Arc<Engine>, services: Services, binding: Binding) -> Result<Self> {
        let bound = Bound::new(&engine, binding)?;
        Ok(Trial { engine, services, bound })
    }

    /// Runs it. A failure is told, not decided upon.
    pub async fn run(&self, what: Try) -> Told {
        let (path, target) = (what.path, what.target);
        let subject = Subject { path, target, size: what.size, peer: what.peer, ..Subject::default() };
        let mut invocation = self.bound.invocation(&self.engine, &self.services, what.session, subject);
        invocation.keeps_lines = true;
        let (result, effects) = self.bound.run(&self.engine, invocation).await;
        let kind = |check: Check| match check {
            Check::Equals(answer) => answer.expose().to_string(),
            // A handler makes none of these.
            Check::Asked(_) => String::new(),
            Check::Password => "password".into(),
            Check::Totp => "totp".into(),
        };
        Told {
            blocked: effects.blocked,
            quarantined: effects.quarantined,
            redirected: effects.redirected,
            software_id: effects.software_id,
            hidden: effects.hidden.iter().map(|h| display_bytes(h)).collect(),
            questions: effects.questions.into_iter().map(|(n, q)| (n, q.prompt, kind(q.check))).collect(),
            authenticated: effects.authenticated,
            lines: effects.lines,
            error: result.err().map(|e| e.to_string()),
        }
    }
}
