//! What a permission check costs with a thousand rules: one path against all of them.
#![allow(clippy::print_stdout, reason = "a measuring program")]
use std::hint::black_box;
use std::time::{Duration, Instant};

use session_core::error::Result;
use session_core::path::VPath;
use session_core::policy::{Permission, PermissionSet, Permissions, Rule};

/// Checks that are timed together: one is shorter than a look at the clock.
const TOGETHER: u32 = 100;

fn main() -> Result<()> {
    let full = PermissionSet::full();
    let mut rules = vec![Rule { path: VPath::root(), allow: full }];
    for n in 0..1000 {
        let path = VPath::absolute(format!("/team{}/project{n}/in", n % 10))?;
        rules.push(Rule { path, allow: if n % 2 == 0 { full } else { PermissionSet::NONE } });
    }
    let permissions = Permissions::new(rules);
    let paths: Vec<VPath> = (0..1000)
        .map(|n| VPath::absolute(format!("/team{}/project{n}/in/2026/11/a-report-{n}.pdf", n % 10)))
        .collect::<Result<_>>()?;
    let mut times: Vec<Duration> = Vec::new();
    for path in paths.iter().cycle().take(20_000) {
        let begin = Instant::now();
        for _ in 0..TOGETHER {
            black_box(permissions.at(black_box(path)).contains(Permission::Put));
        }
        times.push(begin.elapsed() / TOGETHER);
    }
    times.sort();
    let at = |q: usize| times.get(times.len() * q / 1000).map_or(0.0, |t| t.as_secs_f64() * 1e6);
    println!(
        "{{\"scenario\":\"permission check\",\"unit\":\"us\",\"median\":{:.2},\"p95\":{:.2},\"p99\":{:.2}}}",
        at(500),
        at(950),
        at(990)
    );
    Ok(())
}
