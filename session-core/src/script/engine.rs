//! The pool of script threads: one invocation owns one runtime until it ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Persistent, Runtime};
use tokio::sync::{Semaphore, oneshot};

use super::builtins::{self, Slot};
use super::events::EventSpec;
use crate::auth::Question;
use crate::error::{Error, ErrorKind};
use crate::path::VPath;
use crate::session::Session;

/// How long a script thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(60);

/// How long it looks around before it sleeps.
const SPIN: Duration = Duration::from_micros(15);

/// How many compiled handlers a thread keeps.
const COMPILED: usize = 256;

/// What a script may use.
#[derive(Clone, Debug)]
pub struct EngineLimits {
    /// Threads, and so invocations at once.
    pub threads: usize,
    /// Invocations that wait for a thread; more are refused.
    pub waiting: usize,
    /// Heap of one runtime, bytes.
    pub memory: usize,
    /// Stack of one runtime, bytes.
    pub stack: usize,
    /// Time of one invocation, waiting for a thread included.
    pub time: Duration,
    /// Bytes of log of one invocation.
    pub output: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        EngineLimits {
            threads: 64,
            waiting: 1024,
            memory: 32 << 20,
            stack: 512 << 10,
            time: Duration::from_secs(10),
            output: 64 << 10,
        }
    }
}

/// Why a handler did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptError {
    /// It threw; the message with its stack.
    Threw(String),
    /// It ran longer than it may, or its caller gave up.
    TimedOut,
    /// Too many invocations wait.
    Busy,
    /// It used more memory or stack than it may.
    Exhausted(String),
    /// The engine itself failed.
    Engine(String),
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScriptError::Threw(m) => write!(f, "the handler threw: {m}"),
            ScriptError::TimedOut => f.write_str("the handler ran too long and was stopped"),
            ScriptError::Busy => f.write_str("too many handlers are running"),
            ScriptError::Exhausted(m) => write!(f, "the handler used too much memory: {m}"),
            ScriptError::Engine(m) => write!(f, "the script engine failed: {m}"),
        }
    }
}

/// A handler, ready to be compiled by each thread that meets it.
pub(super) struct Handler {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) source: String,
}

/// One call of a handler: what it may see, and what it did.
pub(super) struct Invocation {
    pub(super) event: &'static EventSpec,
    pub(super) session: Option<Arc<Session>>,
    pub(super) path: Option<VPath>,
    pub(super) target: Option<VPath>,
    pub(super) deadline: Instant,
    pub(super) output: usize,
    pub(super) handler: String,
    /// The caller went away, or the session was cut.
    pub(super) abandoned: AtomicBool,
    pub(super) logged: AtomicUsize,
    pub(super) exited: AtomicBool,
    pub(super) effects: Mutex<Effects>,
}

/// What a handler asked for.
#[derive(Default, Debug)]
pub(super) struct Effects {
    pub(super) blocked: Option<String>,
    pub(super) hidden: Vec<Vec<u8>>,
    pub(super) questions: Vec<(usize, Question)>,
    pub(super) authenticated: bool,
}

impl Invocation {
    pub(super) fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the handler must stop now. The close of a connection outlives its cut.
    pub(super) fn is_over(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
            || Instant::now() >= self.deadline
            || (self.event.awaited
                && self.event.name != "OnConnectionClose"
                && self.session.as_ref().is_some_and(|s| s.is_cut()))
    }
}

struct Job {
    handler: Arc<Handler>,
    invocation: Arc<Invocation>,
    reply: oneshot::Sender<Result<(), ScriptError>>,
}

/// The script threads of one server or client.
pub struct Engine {
    limits: EngineLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    pool: Arc<Pool>,
    next_id: AtomicU64,
}

/// The threads that wait for work, last used first.
#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Thread>>,
    closed: AtomicBool,
}

#[derive(Clone)]
struct Thread {
    id: u64,
    jobs: mpsc::Sender<Job>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// An engine; threads are started when there is work for them.
    pub fn new(limits: EngineLimits) -> Arc<Self> {
        Arc::new(Engine {
            permits: Arc::new(Semaphore::new(limits.threads.max(1))),
            waiting: AtomicUsize::new(0),
            pool: Arc::default(),
            next_id: AtomicU64::new(0),
            limits,
        })
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &EngineLimits {
        &self.limits
    }

    /// Checks that `source` compiles as a handler. Errors: `InvalidArgument` with file and line.
    pub(super) fn compile(&self, name: &str, source: &str) -> Result<Arc<Handler>, Error> {
        let handler = Arc::new(Handler {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            name: name.to_string(),
            source: source.to_string(),
        });
        let checked = Worker::new(&self.limits).and_then(|w| {
            let deadline = Instant::now() + self.limits.time;
            lock(&w.slot.watch).replace((deadline, None));
            w.context.with(|ctx| {
                let checked = check_body(&ctx, &handler);
                checked.and_then(|()| compile(&ctx, &handler).map(|_| ()))
            })
        });
        match checked {
            Ok(()) => Ok(handler),
            Err(e) => {
                let words = match e {
                    ScriptError::Threw(m) => m,
                    other => other.to_string(),
                };
                Err(Error::new(ErrorKind::InvalidArgument)
                    .with_detail(format!("the handler '{name}' does not compile: {words}")))
            }
        }
    }

    /// Runs a handler. Dropping the future stops it.
    pub(super) async fn run(
        &self,
        handler: &Arc<Handler>,
        invocation: &Arc<Invocation>,
    ) -> Result<(), ScriptError> {
        let _abandon = Abandon(Arc::clone(invocation));
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.limits.waiting {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    return Err(ScriptError::Busy);
                }
                let left = invocation.deadline.saturating_duration_since(Instant::now());
                let permit = tokio::time::timeout(left, Arc::clone(&self.permits).acquire_owned()).await;
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                match permit {
                    Ok(Ok(permit)) => permit,
                    _ => return Err(ScriptError::TimedOut),
                }
            }
        };
        let (reply, answer) = oneshot::channel();
        let mut job = Job { handler: Arc::clone(handler), invocation: Arc::clone(invocation), reply };
        loop {
            let idle = lock(&self.pool.idle).pop();
            let thread = match idle {
                Some(thread) => thread,
                None => self.start()?,
            };
            // A thread that ended between two jobs gives its job back.
            match thread.jobs.send(job) {
                Ok(()) => break,
                Err(mpsc::SendError(back)) => job = back,
            }
        }
        let result = answer.await;
        drop(permit);
        result.unwrap_or_else(|_| Err(ScriptError::Engine("the script thread ended".into())))
    }

    fn start(&self) -> Result<Thread, ScriptError> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let thread = Thread { id: self.next_id.fetch_add(1, Ordering::Relaxed), jobs: sender };
        let (limits, pool, me) = (self.limits.clone(), Arc::clone(&self.pool), thread.clone());
        // The interpreter's own stack check needs room above its limit.
        let stack = limits.stack + (512 << 10);
        std::thread::Builder::new()
            .name("script".into())
            .stack_size(stack)
            .spawn(move || work(&limits, &jobs, &pool, &me))
            .map_err(|e| ScriptError::Engine(format!("no script thread can be started: {e}")))?;
        Ok(thread)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.pool.closed.store(true, Ordering::SeqCst);
        lock(&self.pool.idle).clear();
    }
}

struct Abandon(Arc<Invocation>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}

/// The life of a script thread.
fn work(limits: &EngineLimits, jobs: &mpsc::Receiver<Job>, pool: &Pool, me: &Thread) {
    let mut worker = None;
    loop {
        let job = match next(jobs) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                // Still in the list: nobody has chosen this thread, so it may go.
                let mut idle = lock(&pool.idle);
                let before = idle.len();
                idle.retain(|t| t.id != me.id);
                if idle.len() < before || pool.closed.load(Ordering::SeqCst) {
                    return;
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let result = match worker.take().map_or_else(|| Worker::new(limits), Ok) {
            Ok(mut ready) => {
                let result = ready.call(&job.handler, &job.invocation);
                // What was stopped from outside may have left the runtime in any state.
                if !matches!(
                    result,
                    Err(ScriptError::TimedOut | ScriptError::Exhausted(_) | ScriptError::Engine(_))
                ) {
                    worker = Some(ready);
                }
                result
            }
            Err(e) => Err(e),
        };
        if pool.closed.load(Ordering::SeqCst) {
            let _ = job.reply.send(result);
            return;
        }
        // Ready before the answer is out: who waits for the answer finds this thread again.
        lock(&pool.idle).push(me.clone());
        let _ = job.reply.send(result);
    }
}

/// The next job. Events come in bursts, and to wake a sleeping thread costs more than an empty handler:
/// a short look around pays.
fn next(jobs: &mpsc::Receiver<Job>) -> Result<Job, RecvTimeoutError> {
    let begin = Instant::now();
    while begin.elapsed() < SPIN {
        if let Ok(job) = jobs.try_recv() {
            return Ok(job);
        }
        std::hint::spin_loop();
    }
    jobs.recv_timeout(IDLE)
}

struct Worker {
    compiled: HashMap<u64, Persistent<Function<'static>>>,
    slot: Slot,
    context: Context,
    runtime: Runtime,
}

impl Worker {
    fn new(limits: &EngineLimits) -> Result<Self, ScriptError> {
        let engine = |e: rquickjs::Error| ScriptError::Engine(e.to_string());
        let runtime = Runtime::new().map_err(engine)?;
        runtime.set_memory_limit(limits.memory);
        runtime.set_max_stack_size(limits.stack);
        let slot = Slot::default();
        let watch = Arc::clone(&slot.watch);
        runtime.set_interrupt_handler(Some(Box::new(move || match &*lock(&watch) {
            Some((deadline, invocation)) => {
                Instant::now() >= *deadline || invocation.as_ref().is_some_and(|i| i.is_over())
            }
            None => false,
        })));
        let context = Context::full(&runtime).map_err(engine)?;
        context.with(|ctx| builtins::install(&ctx, &slot).catch(&ctx).map_err(|e| describe(&e)))?;
        Ok(Worker { compiled: HashMap::new(), slot, context, runtime })
    }

    fn call(&mut self, handler: &Arc<Handler>, invocation: &Arc<Invocation>) -> Result<(), ScriptError> {
        if invocation.is_over() {
            return Err(ScriptError::TimedOut);
        }
        self.slot.enter(invocation);
        let result = self.enter(handler, invocation);
        // Promises a handler left behind run now or never.
        for _ in 0..1000 {
            if result.is_err() || !matches!(self.runtime.execute_pending_job(), Ok(true)) {
                break;
            }
        }
        self.slot.leave();
        match result {
            Err(ScriptError::Threw(_)) if invocation.exited.load(Ordering::Relaxed) => Ok(()),
            Err(ScriptError::Threw(_)) if invocation.is_over() => Err(ScriptError::TimedOut),
            other => other,
        }
    }

    fn enter(&mut self, handler: &Arc<Handler>, invocation: &Invocation) -> Result<(), ScriptError> {
        let compiled = &mut self.compiled;
        self.context.with(|ctx| {
            if !compiled.contains_key(&handler.id) {
                if compiled.len() >= COMPILED {
                    compiled.clear();
                }
                compiled.insert(handler.id, compile(&ctx, handler)?);
            }
            let Some(function) = compiled.get(&handler.id).cloned() else {
                return Err(ScriptError::Engine("the handler is gone".into()));
            };
            let call = || {
                let function = function.restore(&ctx)?;
                function.call::<_, ()>((invocation.session.is_some(),))
            };
            call().catch(&ctx).map_err(|e| describe(&e))
        })
    }
}

fn describe(e: &CaughtError<'_>) -> ScriptError {
    match e {
        CaughtError::Exception(x) => {
            let message = x.message().unwrap_or_default();
            let stack = x.stack().unwrap_or_default();
            let text = format!("{message}\n{}", stack.trim_end()).trim_end().to_string();
            if message.contains("out of memory")
                || message.contains("stack overflow")
                || message.contains("Maximum call stack")
            {
                ScriptError::Exhausted(message)
            } else {
                ScriptError::Threw(text)
            }
        }
        CaughtError::Value(v) => {
            let text = v.as_string().and_then(|s| s.to_string().ok());
            match text {
                Some(text) => ScriptError::Threw(text),
                None if v.is_null() || v.is_undefined() => {
                    // An allocation that failed before it could make an exception.
                    ScriptError::Exhausted("out of memory".into())
                }
                None => ScriptError::Threw("a value that is no error".into()),
            }
        }
        CaughtError::Error(e) => ScriptError::Engine(e.to_string()),
    }
}

fn options(handler: &Handler) -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = true;
    options.filename = Some(handler.name.clone());
    options
}

/// A body must be a whole body: what would close the function it is put into is an error.
fn check_body(ctx: &Ctx<'_>, handler: &Handler) -> Result<(), ScriptError> {
    let check = || {
        let probe: Function = ctx.globals().get("__check")?;
        probe.call::<_, ()>((handler.source.as_str(),))
    };
    // The probe's line numbers are not the file's; the real compilation reports first.
    match check().catch(ctx) {
        Ok(()) => Ok(()),
        Err(_) => match compile(ctx, handler) {
            Err(e) => Err(e),
            Ok(_) => Err(ScriptError::Threw("the script is not the body of one function".into())),
        },
    }
}

/// The handler as a function of this context; its first line is the file's first line.
fn compile(ctx: &Ctx<'_>, handler: &Handler) -> Result<Persistent<Function<'static>>, ScriptError> {
    let source = builtins::wrap(&handler.source);
    let make = || {
        let function: Function = ctx.eval_with_options(source.as_str(), options(handler))?;
        let enter: Function = ctx.globals().get("__enter")?;
        let bound: Function = enter.call((function,))?;
        Ok(Persistent::save(ctx, bound))
    };
    make().catch(ctx).map_err(|e| describe(&e))
}
