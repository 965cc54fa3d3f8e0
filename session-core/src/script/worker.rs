//! `Worker`: one runtime of the interpreter, with the handlers that it has compiled.
//!
//! A classic handler runs in the worker's one context, whose objects are frozen. A module runs in a context
//! of its own, made for the call and thrown away, since a module's variables would outlive it. A handler
//! that answers with a promise is done when the promise is settled; what nobody catches is its failure.
//! A worker serves one call at a time, on any thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rquickjs::context::EvalOptions;
use rquickjs::module::Evaluated;
use rquickjs::promise::PromiseState;
use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Exception, Function, Module, Promise, Runtime, Value,
};

use super::builtins::{self, Slot};
use super::engine::{EngineLimits, ScriptError};
use super::invocation::Invocation;
use super::modules::{CHECK, Modules, STOP, ScriptFolder, Sources};
use crate::in_place::InPlace;

/// How many compiled handlers an interpreter keeps.
const COMPILED: usize = 256;

/// They are kept inside it, where no script sees them, so that it can go from thread to thread.
type Compiled<'js> = RefCell<HashMap<u64, Function<'js>>>;

/// A handler, ready to be compiled by each thread that meets it.
pub(super) struct Handler {
    pub(super) id: u64,
    /// Its name in messages.
    pub(super) name: Arc<str>,
    pub(super) body: Body,
    /// Whether it is quick enough to run where its event fired.
    pub(super) known: InPlace,
}

/// What a handler is made of.
pub(super) enum Body {
    /// The body of a function.
    Classic { source: String, waits: bool },
    /// A module whose default export is the handler.
    Module { main: String, sources: Sources },
}

/// Promises that were rejected and that nobody has caught.
#[derive(Default)]
struct Uncaught {
    count: AtomicI64,
    last: Mutex<String>,
}

pub(super) struct Worker {
    uncaught: Arc<Uncaught>,
    modules: Modules,
    slot: Slot,
    context: Context,
    runtime: Runtime,
}

fn engine(e: &rquickjs::Error) -> ScriptError {
    ScriptError::Engine(e.to_string())
}

impl Worker {
    pub(super) fn new(limits: &EngineLimits) -> Result<Self, ScriptError> {
        let runtime = Runtime::new().map_err(|e| engine(&e))?;
        runtime.set_memory_limit(limits.memory);
        runtime.set_max_stack_size(limits.stack);
        let slot = Slot::default();
        let watch = Arc::clone(&slot.watch);
        runtime.set_interrupt_handler(Some(Box::new(move || {
            let Some((deadline, invocation)) = watch.lock().unwrap_or_else(PoisonError::into_inner).clone()
            else {
                return false;
            };
            if let Some(invocation) = &invocation {
                invocation.goes_on();
            }
            Instant::now() >= deadline || invocation.is_some_and(|i| i.is_over())
        })));
        let uncaught = Arc::<Uncaught>::default();
        let noted = Arc::clone(&uncaught);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |_, _, reason, is_handled| {
            if is_handled {
                noted.count.fetch_sub(1, Ordering::Relaxed);
            } else {
                noted.count.fetch_add(1, Ordering::Relaxed);
                *noted.last.lock().unwrap_or_else(PoisonError::into_inner) = words(&reason);
            }
        })));
        let modules = Modules::default();
        runtime.set_loader(modules.clone(), modules.clone());
        let context = fresh(&runtime, &slot)?;
        let kept = context.with(|ctx| ctx.store_userdata(Compiled::default()).is_ok());
        if !kept {
            return Err(ScriptError::Engine("there is no room for handlers".into()));
        }
        Ok(Worker { uncaught, modules, slot, context, runtime })
    }

    /// Runs a handler to its end.
    pub(super) fn call(
        &mut self,
        handler: &Arc<Handler>,
        invocation: &Arc<Invocation>,
    ) -> Result<(), ScriptError> {
        if invocation.is_over() {
            return Err(ScriptError::TimedOut);
        }
        self.uncaught.count.store(0, Ordering::Relaxed);
        self.slot.enter(invocation);
        let result = match &handler.body {
            Body::Classic { .. } => self.classic(handler, invocation),
            Body::Module { main, sources } => self.module(main, sources, invocation),
        };
        let result = result.and_then(|()| match self.uncaught.count.load(Ordering::Relaxed) > 0 {
            true => {
                let last = self.uncaught.last.lock().unwrap_or_else(PoisonError::into_inner);
                Err(ScriptError::Threw(format!("a promise was rejected and nobody caught it: {last}")))
            }
            false => Ok(()),
        });
        self.slot.leave();
        invocation.places.clear();
        match result {
            Err(ScriptError::Threw(_)) if invocation.exited.load(Ordering::Relaxed) => Ok(()),
            Err(ScriptError::Threw(_)) if invocation.is_over() => Err(ScriptError::TimedOut),
            other => other,
        }
    }

    fn classic(&self, handler: &Handler, invocation: &Invocation) -> Result<(), ScriptError> {
        self.context.with(|ctx| {
            let function = compiled(&ctx, handler)?;
            let call = || function.call::<_, Value>((invocation.session.is_some(),));
            let value = call().catch(&ctx).map_err(|e| describe(&e))?;
            settle(&ctx, invocation, value)
        })
    }

    fn module(&self, main: &str, sources: &Sources, invocation: &Invocation) -> Result<(), ScriptError> {
        self.modules.give(Arc::clone(sources));
        let context = fresh(&self.runtime, &self.slot)?;
        let result = context.with(|ctx| {
            let source = sources.get(main).cloned().unwrap_or_default();
            let evaluate = || Module::declare(ctx.clone(), main, source)?.eval();
            let (module, done) = evaluate().catch(&ctx).map_err(|e| describe(&e))?;
            settle(&ctx, invocation, done.into_value())?;
            let call = || exported(&ctx, &module)?.call::<_, Value>(());
            let value = call().catch(&ctx).map_err(|e| describe(&e))?;
            settle(&ctx, invocation, value)
        });
        self.modules.close();
        result
    }

    /// Runs nothing, and says whether `source` is the body of a function; whether it waits for promises.
    pub(super) fn check_classic(&self, name: &str, source: &str) -> Result<bool, ScriptError> {
        let body = |waits| Body::Classic { source: source.into(), waits };
        // `await` is a name in a function that is not asynchronous: the word decides what is tried first.
        let order: &[bool] = if source.contains("await") { &[true, false] } else { &[false] };
        let mut first = None;
        for waits in order {
            let handler = Handler { id: 0, name: name.into(), body: body(*waits), known: InPlace::default() };
            match self.context.with(|ctx| check_body(&ctx, &handler, source, *waits)) {
                Ok(()) => return Ok(*waits),
                Err(e) => first = first.or(Some(e)),
            }
        }
        Err(first.unwrap_or_else(|| ScriptError::Engine("nothing was checked".into())))
    }

    /// Reads what the module imports, links all of it and runs none of it.
    pub(super) fn check_module(
        &self,
        main: &str,
        source: &str,
        folder: ScriptFolder,
    ) -> Result<Sources, ScriptError> {
        self.modules.read_from(folder, main, source);
        let context = fresh(&self.runtime, &self.slot)?;
        let linked = context.with(|ctx| {
            let check = format!("import '{STOP}';\nimport handler from './{main}';\nhandler;");
            let evaluate = || {
                // Its own faults first, with its own lines.
                Module::declare(ctx.clone(), main, source)?;
                Module::declare(ctx.clone(), CHECK, check)?.eval()
            };
            let (_, done) = evaluate().catch(&ctx).map_err(|e| describe(&e))?;
            while ctx.execute_pending_job() {}
            match done.result::<Value>() {
                Some(Ok(_)) => Err(ScriptError::Engine("the check ran on".into())),
                Some(Err(e)) => match Err::<(), _>(e).catch(&ctx).map_err(|e| describe(&e)) {
                    Err(ScriptError::Threw(words)) if words == STOP => Ok(()),
                    Err(e) => Err(e),
                    Ok(()) => Ok(()),
                },
                None => Err(ScriptError::Engine("the check does not end".into())),
            }
        });
        let sources = self.modules.take();
        linked.map(|()| Arc::new(sources))
    }

    /// How long a check may take.
    pub(super) fn until(&self, deadline: Instant) {
        *self.slot.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some((deadline, None));
    }
}

/// A context with the built-ins.
fn fresh(runtime: &Runtime, slot: &Slot) -> Result<Context, ScriptError> {
    let context = Context::full(runtime).map_err(|e| engine(&e))?;
    context.with(|ctx| builtins::install(&ctx, slot).catch(&ctx).map_err(|e| describe(&e)))?;
    Ok(context)
}

fn exported<'js>(ctx: &Ctx<'js>, module: &Module<'js, Evaluated>) -> rquickjs::Result<Function<'js>> {
    let value: Value = module.get("default")?;
    value
        .into_function()
        .ok_or_else(|| Exception::throw_type(ctx, "a module's default export must be a function"))
}

/// Sees a handler's value through: what is a promise must be settled. Then what it left behind runs.
fn settle(ctx: &Ctx<'_>, invocation: &Invocation, value: Value<'_>) -> Result<(), ScriptError> {
    if let Some(promise) = value.as_promise() {
        while promise.state() == PromiseState::Pending {
            if invocation.is_over() {
                return Err(ScriptError::TimedOut);
            }
            if !ctx.execute_pending_job() && promise.state() == PromiseState::Pending {
                return Err(ScriptError::Threw("it waits for something that never comes".into()));
            }
        }
        outcome(ctx, promise)?;
    }
    while !invocation.is_over() && ctx.execute_pending_job() {}
    Ok(())
}

fn outcome(ctx: &Ctx<'_>, promise: &Promise<'_>) -> Result<(), ScriptError> {
    match promise.result::<Value>() {
        Some(result) => result.catch(ctx).map(|_| ()).map_err(|e| describe(&e)),
        None => Err(ScriptError::Engine("a promise is not settled".into())),
    }
}

/// A value that was thrown, in words.
fn words(value: &Value<'_>) -> String {
    if let Some(x) = value.as_exception() {
        let (message, stack) = (x.message().unwrap_or_default(), x.stack().unwrap_or_default());
        return format!("{message}\n{}", stack.trim_end()).trim_end().to_string();
    }
    match value.as_string().and_then(|s| s.to_string().ok()) {
        Some(text) => text,
        None => "a value that is no error".into(),
    }
}

fn describe(e: &CaughtError<'_>) -> ScriptError {
    match e {
        CaughtError::Exception(x) => {
            let message = x.message().unwrap_or_default();
            if message.contains("out of memory")
                || message.contains("stack overflow")
                || message.contains("Maximum call stack")
            {
                ScriptError::Exhausted(message)
            } else {
                ScriptError::Threw(words(x.as_object().as_value()))
            }
        }
        // An allocation that failed before it could make an exception.
        CaughtError::Value(v) if v.is_null() || v.is_undefined() => {
            ScriptError::Exhausted("out of memory".into())
        }
        CaughtError::Value(v) => ScriptError::Threw(words(v)),
        CaughtError::Error(e) => engine(e),
    }
}

fn options(handler: &Handler) -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = true;
    options.filename = Some(handler.name.to_string());
    options
}

/// A body must be a whole body: what would close the function it is put into is an error. It is read once
/// more as the body of a method, where nothing that could follow there makes sense.
fn check_body(ctx: &Ctx<'_>, handler: &Handler, source: &str, waits: bool) -> Result<(), ScriptError> {
    // The file's own faults first, with its own lines.
    compile(ctx, handler)?;
    let keyword = if waits { "async " } else { "" };
    let probe = format!("(class {{ {keyword}handler(Session) {{ {source}\n}} }})");
    match ctx.eval::<Value, _>(probe).catch(ctx) {
        Ok(_) => Ok(()),
        Err(_) => Err(ScriptError::Threw("the script is not the body of one function".into())),
    }
}

/// The handler's function in this context, which is the interpreter's own.
fn compiled<'js>(ctx: &Ctx<'js>, handler: &Handler) -> Result<Function<'js>, ScriptError> {
    let lost = || ScriptError::Engine("the handlers are gone".into());
    if let Some(known) = ctx.userdata::<Compiled<'js>>().ok_or_else(lost)?.borrow().get(&handler.id) {
        return Ok(known.clone());
    }
    let function = compile(ctx, handler)?;
    let kept = ctx.userdata::<Compiled<'js>>().ok_or_else(lost)?;
    let mut kept = kept.borrow_mut();
    if kept.len() >= COMPILED {
        kept.clear();
    }
    kept.insert(handler.id, function.clone());
    Ok(function)
}

/// The handler as a function of this context; its first line is the file's first line.
fn compile<'js>(ctx: &Ctx<'js>, handler: &Handler) -> Result<Function<'js>, ScriptError> {
    let Body::Classic { source, waits } = &handler.body else {
        return Err(ScriptError::Engine("a module is not compiled as a function".into()));
    };
    let source = builtins::wrap(source, *waits);
    let make = || {
        let function: Function = ctx.eval_with_options(source.as_str(), options(handler))?;
        let enter: Function = ctx.globals().get("__enter")?;
        enter.call((function,))
    };
    make().catch(ctx).map_err(|e| describe(&e))
}
