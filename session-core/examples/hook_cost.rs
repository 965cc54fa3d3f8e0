//! What an empty hook costs: one awaited event, the hop to its thread included.
#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a measuring program")]
use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::error::Result;
use session_core::intercept::{Chain, Interceptor};
use session_core::lifecycle::Lifecycle;
use session_core::script::{Binding, Engine, EngineLimits, Hooks};
use session_core::session::{Protocol, Session, Setup};

#[tokio::main]
async fn main() -> Result<()> {
    let binding = Binding::new("BeforeCommand", "empty.js", "");
    let hooks = Hooks::new(Engine::new(EngineLimits::default()), vec![binding])?;
    let mut setup = Setup::new(Protocol::Local, "cost");
    setup.chain = Chain::new(vec![hooks as Arc<dyn Interceptor>]);
    let session = Session::new(setup);
    let run = tokio::spawn(async move {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..20_000 {
            let begin = Instant::now();
            session.decide(Lifecycle::Command { verb: "NOOP", argument: "" }).await;
            times.push(begin.elapsed());
        }
        times
    });
    let mut times = run.await.unwrap_or_default();
    times.sort();
    let at = |q: usize| times.get(times.len() * q / 1000).map_or(0.0, |t| t.as_secs_f64() * 1e6);
    println!(
        "{{\"scenario\":\"empty hook\",\"unit\":\"us\",\"median\":{:.1},\"p95\":{:.1},\"p99\":{:.1}}}",
        at(500),
        at(950),
        at(990)
    );
    Ok(())
}
