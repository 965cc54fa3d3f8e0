//! Where handlers run: one invocation owns one interpreter until it ends.
//!
//! A handler runs on a script thread until it has been quick often enough; then it runs where its event
//! fired, which saves two changes of thread. What may wait there hands the thread's other work on first
//! (`Invocation::blocking`), and so does a handler that computes for long, when the interpreter looks up.
//! Handlers that nobody waits for have at most three quarters of the threads, so that slow ones leave room
//! for those that a client waits for.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::invocation::Invocation;
use super::modules::ScriptFolder;
use super::runs::{Runs, Tally};
use super::worker::{Body, Handler, Worker};
use crate::error::{Error, ErrorKind};
use crate::in_place::{self, InPlace};

/// How long a script thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(60);

/// How long it looks around before it sleeps.
const SPIN: Duration = Duration::from_micros(15);

/// How long a check of one handler may take.
const COMPILE: Duration = Duration::from_secs(10);

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
    /// Time of one invocation, waiting for a thread included; `None`: what the event's table says.
    pub time: Option<Duration>,
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
            time: None,
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

struct Job {
    handler: Arc<Handler>,
    invocation: Arc<Invocation>,
    reply: oneshot::Sender<Result<(), ScriptError>>,
}

/// The script threads of one server or client.
pub struct Engine {
    limits: EngineLimits,
    permits: Arc<Semaphore>,
    /// Of handlers that nobody waits for.
    background: Arc<Semaphore>,
    waiting: AtomicUsize,
    pool: Arc<Pool>,
    next_id: AtomicU64,
    pub(super) tally: Tally,
}

/// The threads and the interpreters that wait for work, last used first.
#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Thread>>,
    workers: Mutex<Vec<Worker>>,
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

impl Pool {
    /// Runs a handler in an interpreter that has nothing to do.
    fn call(
        &self,
        limits: &EngineLimits,
        handler: &Arc<Handler>,
        invocation: &Arc<Invocation>,
    ) -> Result<(), ScriptError> {
        let spare = lock(&self.workers).pop();
        let mut worker = spare.map_or_else(|| Worker::new(limits), Ok)?;
        let result = worker.call(handler, invocation);
        let stopped =
            matches!(result, Err(ScriptError::TimedOut | ScriptError::Exhausted(_) | ScriptError::Engine(_)));
        // What was stopped from outside may have left the interpreter in any state.
        if !stopped && !self.closed.load(Ordering::SeqCst) {
            lock(&self.workers).push(worker);
        }
        result
    }
}

impl Engine {
    /// An engine; threads are started when there is work for them.
    pub fn new(limits: EngineLimits) -> Arc<Self> {
        Arc::new(Engine {
            permits: Arc::new(Semaphore::new(limits.threads.max(1))),
            background: Arc::new(Semaphore::new((limits.threads - limits.threads / 4).max(1))),
            waiting: AtomicUsize::new(0),
            pool: Arc::default(),
            next_id: AtomicU64::new(0),
            tally: Tally::default(),
            limits,
        })
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &EngineLimits {
        &self.limits
    }

    /// How often its handlers ran, since it was made.
    pub fn runs(&self) -> Vec<Runs> {
        self.tally.list()
    }

    /// Checks that `source` compiles as a handler; a module's imports are read from `folder` and linked.
    /// Blocks. Errors: `InvalidArgument` with file and line.
    pub(super) fn compile(
        &self,
        name: &str,
        source: &str,
        module: Option<(&str, ScriptFolder)>,
    ) -> Result<Arc<Handler>, Error> {
        let checked = Worker::new(&self.limits).and_then(|w| {
            w.until(Instant::now() + COMPILE);
            Ok(match module {
                Some((main, folder)) => {
                    Body::Module { main: main.into(), sources: w.check_module(main, source, folder)? }
                }
                None => Body::Classic { source: source.into(), waits: w.check_classic(name, source)? },
            })
        });
        match checked {
            Ok(body) => {
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::new(Handler { id, name: name.into(), body, known: InPlace::default() }))
            }
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
        let permit = self.permit(invocation).await?;
        let known = &handler.known;
        if known.is_trusted()
            && !known.is_slow()
            && Handle::try_current().is_ok_and(|runtime| in_place::is_possible(&runtime))
        {
            invocation.runs_in_place();
            let begin = Instant::now();
            let result = self.pool.call(&self.limits, handler, invocation);
            known.note(begin.elapsed());
            return result;
        }
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

    /// Leave to run one handler that nobody waits for, until dropped. Its time begins with it.
    pub(super) async fn background(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.background).acquire_owned().await.ok()
    }

    async fn permit(&self, invocation: &Invocation) -> Result<OwnedSemaphorePermit, ScriptError> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.limits.waiting {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(ScriptError::Busy);
        }
        let _waits = Waits(&self.waiting);
        let left = invocation.deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ScriptError::TimedOut),
        }
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
        lock(&self.pool.workers).clear();
    }
}

/// One who waits; counted until dropped.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
    loop {
        let job = match next(jobs) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                // Still in the list: nobody has chosen this thread, so it may go.
                let mut idle = lock(&pool.idle);
                let before = idle.len();
                idle.retain(|t| t.id != me.id);
                // One interpreter less, too: there are as many as were needed at once.
                drop(lock(&pool.workers).pop());
                if idle.len() < before || pool.closed.load(Ordering::SeqCst) {
                    return;
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let begin = Instant::now();
        let result = pool.call(limits, &job.handler, &job.invocation);
        job.handler.known.note(begin.elapsed());
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
