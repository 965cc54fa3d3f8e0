//! `Invocation`: one call of a handler; what it may see, what it did, and when it must stop.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;

use super::events::EventSpec;
use super::grants::{Grant, Grants};
use super::places::Places;
use super::services::Services;
use crate::auth::{Question, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::File;
use crate::gate::SessionFs;
use crate::path::VPath;
use crate::session::{Actor, Ending, Session};
use crate::verdict::Finding;

/// How often a call that waits looks whether its invocation is over.
const LOOK: Duration = Duration::from_millis(20);

/// How long it may take to put in order what a call left behind.
const TIDY: Duration = Duration::from_secs(1);

/// How long a handler computes on a runtime's thread before the thread's other work is handed on, and how
/// long another thread then has to take it.
const COMPUTES: Duration = Duration::from_millis(1);
const HANDS_ON: Duration = Duration::from_micros(200);

/// What an event is about, as it was when it fired.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    pub(super) path: Option<VPath>,
    pub(super) target: Option<VPath>,
    /// Bytes of content.
    pub(super) size: Option<u64>,
    /// The client, in events without a session.
    pub(super) peer: Option<IpAddr>,
    /// What the protector tells.
    pub(super) facts: Option<Value>,
    /// The upload that is judged.
    pub(super) content: Option<Content>,
    /// What was found when it was judged.
    pub(super) findings: Vec<Finding>,
}

/// An upload's content.
#[derive(Clone)]
pub(super) struct Content(pub(super) Arc<dyn File>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

/// What a handler asked for.
#[derive(Default, Debug)]
pub(super) struct Effects {
    pub(super) blocked: Option<String>,
    pub(super) quarantined: Option<String>,
    pub(super) redirected: Option<VPath>,
    pub(super) software_id: Option<String>,
    pub(super) hidden: Vec<Vec<u8>>,
    pub(super) questions: Vec<(usize, Question)>,
    pub(super) authenticated: bool,
    /// Lines of its log, where they are kept.
    pub(super) lines: Vec<String>,
}

/// One call of a handler.
pub(super) struct Invocation {
    pub(super) event: &'static EventSpec,
    pub(super) session: Option<Arc<Session>>,
    pub(super) subject: Subject,
    pub(super) deadline: Instant,
    /// Bytes of log that it may write.
    pub(super) output: usize,
    pub(super) handler: Arc<str>,
    pub(super) grants: Grants,
    pub(super) services: Services,
    /// Where its waits run; `None` outside a runtime.
    pub(super) runtime: Option<Handle>,
    /// Its lines are kept in its effects.
    pub(super) keeps_lines: bool,
    /// Somebody follows: its lines are kept too.
    pub(super) traced: bool,
    /// The caller went away.
    pub(super) abandoned: AtomicBool,
    pub(super) logged: AtomicUsize,
    pub(super) exited: AtomicBool,
    /// Since when it keeps a runtime's thread from its other work; `None` elsewhere.
    in_place: Mutex<Option<Instant>>,
    pub(super) effects: Mutex<Effects>,
    /// Secrets that it has read.
    read: Mutex<Vec<Secret>>,
    files: OnceLock<Option<SessionFs>>,
    /// What it has opened besides.
    pub(super) places: Places,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Invocation {
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own, named by the fields")]
    pub(super) fn new(
        event: &'static EventSpec,
        session: Option<Arc<Session>>,
        subject: Subject,
        deadline: Instant,
        output: usize,
        handler: Arc<str>,
        grants: Grants,
        services: Services,
    ) -> Self {
        Invocation {
            event,
            session: session.filter(|_| event.session()),
            subject,
            deadline,
            output,
            handler,
            grants,
            services,
            runtime: Handle::try_current().ok(),
            keeps_lines: false,
            traced: false,
            abandoned: AtomicBool::new(false),
            logged: AtomicUsize::new(0),
            exited: AtomicBool::new(false),
            in_place: Mutex::default(),
            effects: Mutex::default(),
            read: Mutex::default(),
            files: OnceLock::new(),
            places: Places::default(),
        }
    }

    pub(super) fn effects(&self) -> MutexGuard<'_, Effects> {
        lock(&self.effects)
    }

    /// Whether the handler must stop now. What tells of the end outlives the cut.
    pub(super) fn is_over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
            || Instant::now() >= self.deadline
            || (self.event.awaited
                && !matches!(self.event.name, "OnConnectionClose" | "OnSessionTerminated")
                && self.session.as_ref().is_some_and(|s| s.is_cut()))
    }

    /// Errors: `Refused`, naming the grant.
    pub(super) fn needs(&self, grant: Grant) -> Result<()> {
        if self.grants.has(grant) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "this handler may not {}: its binding needs grant = [\"{}\"]",
            grant.does(),
            grant.name()
        )))
    }

    /// It runs on a thread of the runtime that has other work.
    pub(super) fn runs_in_place(&self) {
        *lock(&self.in_place) = Some(Instant::now());
    }

    /// It computes: what else its thread has to do goes to another one after a while.
    pub(super) fn goes_on(&self) {
        let is_long = lock(&self.in_place).is_some_and(|since| since.elapsed() > COMPUTES);
        if is_long {
            self.blocking(|| std::thread::sleep(HANDS_ON));
            self.runs_in_place();
        }
    }

    /// Does what may wait; what else its thread has to do goes to another one first.
    pub(super) fn blocking<T>(&self, work: impl FnOnce() -> T) -> T {
        if lock(&self.in_place).is_some() { tokio::task::block_in_place(work) } else { work() }
    }

    /// Waits for `work` on the thread that the handler runs on, no longer than the invocation lasts.
    pub(super) fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(runtime) = &self.runtime else {
            return Err(Error::new(ErrorKind::Unsupported).with_detail("there is nothing that can wait here"));
        };
        let over = async {
            while !self.is_over() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let either = async {
            tokio::select! {
                biased;
                result = work => result,
                () = over => Err(Error::new(ErrorKind::TimedOut).with_detail("interrupted")),
            }
        };
        self.blocking(|| runtime.block_on(either))
    }

    /// Puts in order what a call left behind; the handler's end does not end it, and it is short.
    pub(super) fn tidy(&self, work: impl Future<Output = ()>) {
        if let Some(runtime) = &self.runtime {
            // Late is given up.
            self.blocking(|| runtime.block_on(async { drop(tokio::time::timeout(TIDY, work).await) }));
        }
    }

    /// The files of the session's user behind a gate of their own; `None` before there are any.
    pub(super) fn files(&self) -> Option<SessionFs> {
        let open = || {
            let subject = &self.subject;
            let pin = subject.path.clone().zip(subject.content.as_ref().map(|c| Arc::clone(&c.0)));
            self.session.as_ref()?.files_for_hooks(pin)
        };
        self.files.get_or_init(open).clone()
    }

    /// It knows this secret now.
    pub(super) fn was_read(&self, secret: Secret) {
        let mut read = lock(&self.read);
        if !read.contains(&secret) {
            read.push(secret);
        }
    }

    /// `text` without what must not be seen.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let mut text = text.to_string();
        for secret in lock(&self.read).iter().filter(|s| !s.expose().is_empty()) {
            text = text.replace(secret.expose(), "•••");
        }
        text
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        if let Some(Some(files)) = self.files.get() {
            files.session().cut(Ending::new("the handler is done", Actor::Hook));
        }
    }
}
