//! What is no pair of transfers: the link's check of itself, idle sessions, logins, an empty hook.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::job::{DELAY, Ground, Link, Sample};
use super::parties::Server;
use super::row::{Row, Spread};
use super::{Bench, Scenario, meter, proxy};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::drive;
use crate::peers::servers::Scheme;
use crate::process::{self, Run};
use crate::repo;

/// Time for idle sessions to log in, and for each of them besides.
const GATHER: Duration = Duration::from_secs(300);
const LOGIN: Duration = Duration::from_millis(100);
/// The sessions that the bar of a crowd is for.
const CROWD: f64 = 10_000.0;
/// Programs that log in at the same time.
const AT_ONCE: usize = 4;

/// The link under plain TCP. The bar is on the rate; a wrong round trip is an error.
pub(super) fn link(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    let mut checks = Vec::new();
    for _ in 0..3 {
        checks.push(proxy::check(DELAY, 512 << 20)?);
    }
    let trip = Spread::of(checks.iter().map(|check| check.round_trip));
    let trip = trip.ok_or_else(|| Fault::new("no round trip"))?;
    let wanted = 2.0 * DELAY.as_secs_f64() * 1e3;
    let note = format!("round trip {:.1} ms ({:.1}-{:.1})", trip.median, trip.min, trip.max);
    println!("    {note}");
    ensure!((wanted..wanted * 1.1).contains(&trip.median), "{note}: should be {wanted} ms");
    let mut row = bench.row(scenario, "the far link", "-", "MB/s", note);
    row.ours = Spread::of(checks.iter().map(|check| check.rate));
    Ok(row)
}

/// Holds so many sessions, each a connection of its own with SFTP started, until it is killed.
const HOLD: &str = "
import sys, asyncio, resource, asyncssh
port, user, key, hosts, count = sys.argv[1:]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
async def one(room):
    async with room:
        connection = await asyncssh.connect('127.0.0.1', int(port), username=user, client_keys=[key],
            known_hosts=hosts, config=None, agent_path=None, login_timeout=120, keepalive_interval=0)
        sftp = await connection.start_sftp_client()
        await sftp.stat('.')
        held.append((connection, sftp))
async def main():
    room = asyncio.Semaphore(8)
    await asyncio.gather(*[one(room) for _ in range(int(count))])
    print('held', len(held), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
";

/// Holds so many sessions of FTP, logged in, until it is killed.
const HOLD_FTP: &str = "
import sys, ftplib, resource, ssl, time
port, user, password, certificate, count = sys.argv[1:]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for _ in range(int(count)):
    if certificate:
        ftp = ftplib.FTP_TLS(context=ssl.create_default_context(cafile=certificate))
    else:
        ftp = ftplib.FTP()
    ftp.connect('127.0.0.1', int(port))
    ftp.login(user, password)
    ftp.pwd()
    held.append(ftp)
print('held', len(held), flush=True)
while True:
    time.sleep(1000)
";

/// Memory per idle session: what the server's processes need with the sessions, less what they need without.
pub(super) fn idle(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    idle_of(bench, scenario, Server::Ferryd, Server::Sshd)
}

/// The same over FTP in the clear.
pub(super) fn idle_ftp(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    idle_of(bench, scenario, Server::FerrydFtp, Server::Vsftpd)
}

/// The same over FTP with TLS.
pub(super) fn idle_ftps(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    idle_of(bench, scenario, Server::FerrydTls, Server::VsftpdTls)
}

fn idle_of(bench: &mut Bench, scenario: &Scenario, mine: Server, other: Server) -> Result<Row> {
    let sizes = bench.ground.sizes;
    let note = format!(
        "ours of {} sessions, theirs of {}, after {} s",
        sizes.idle,
        sizes.idle_theirs,
        sizes.idle_wait.as_secs()
    );
    let theirs = idle_at(&mut bench.ground, other, sizes.idle_theirs)?;
    let mut row = bench.row(scenario, "ferryd", other.name(), "kB", note);
    row.theirs = Some(Spread::one(theirs));
    match idle_at(&mut bench.ground, mine, sizes.idle) {
        Ok(ours) => {
            row.ours = Some(Spread::one(ours));
            row.ratio = Some(Spread::one(theirs / ours));
            row.pairs = 1;
        }
        Err(fault) => row.note = format!("not measured: {fault}"),
    }
    Ok(row)
}

fn idle_at(ground: &mut Ground, which: Server, count: usize) -> Result<f64> {
    let wait = ground.sizes.idle_wait;
    // A server of its own: another row's peak must not count as memory that was there before.
    ground.stop(which);
    let at = ground.address(which, Link::Near)?;
    let head = ground.server(which)?.process();
    let hold = |wanted: usize| -> Result<process::Server> {
        let count = wanted.to_string();
        let run = match at.scheme {
            Scheme::Sftp => drive::python(&ground.kit, &at, HOLD, &count)?,
            _ => drive::ftplib(&ground.kit, &at, HOLD_FTP)?.arg(&count),
        };
        let mut holder = process::Server::start(&run)?;
        let limit = GATHER + LOGIN * u32::try_from(wanted).unwrap_or(u32::MAX);
        holder.line(limit, |line| line == format!("held {count}"))?;
        Ok(holder)
    };
    // What the first session ever loads is no cost of a session.
    drop(hold(1)?);
    thread::sleep(Duration::from_secs(1));
    let (before, _) = meter::memory(head)?;
    let holder = hold(count)?;
    thread::sleep(wait);
    let (after, processes) = meter::memory(head)?;
    drop(holder);
    ground.stop(which);
    let each = (after - before) / count as f64;
    println!(
        "    {}: {before:.0} kB, {after:.0} kB in {processes} processes: {each:.1} kB each",
        which.name()
    );
    Ok(each)
}

/// Logins per second of a program that logs in, asks one thing and leaves.
pub(super) fn logins(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    logins_of(bench, scenario, Server::Ferryd, Server::Sshd)
}

/// The same over FTP.
pub(super) fn logins_ftp(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    logins_of(bench, scenario, Server::FerrydFtp, Server::PureFtpd)
}

fn logins_of(bench: &mut Bench, scenario: &Scenario, mine: Server, other: Server) -> Result<Row> {
    let mut row = bench.row(scenario, "ferryd", other.name(), "logins/s", String::new());
    ensure!(bench.ground.ferryd.is_some(), "there is no ferryd yet");
    let side = |which: Server| move |ground: &mut Ground| log_in(ground, which);
    bench.in_turn(&mut row, side(mine), side(other))?;
    if let Some((ours, theirs)) = row.cpu {
        let each = 1e3 / bench.ground.sizes.logins as f64;
        row.note = format!(
            "server's CPU per login: {:.1} ms, theirs {:.1} ms",
            ours.server * each,
            theirs.server * each
        );
    }
    Ok(row)
}

fn log_in(ground: &mut Ground, which: Server) -> Result<Sample> {
    let at = ground.address(which, Link::Near)?;
    let head = ground.server(which)?.process();
    let count = ground.sizes.logins;
    let kit = &ground.kit;
    let left = Mutex::new(count);
    let (before, children) = (meter::Tree::of(head)?, meter::Spent::now()?);
    let start = Instant::now();
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let worker = || -> Result<()> {
            loop {
                {
                    let mut left = left.lock().map_err(|_| Fault::new("a login panicked"))?;
                    if *left == 0 {
                        return Ok(());
                    }
                    *left -= 1;
                }
                let run = match at.scheme {
                    Scheme::Sftp => drive::sftp(kit, &at, "pwd\n")?,
                    _ => drive::curl_by_password(kit, &at, &at.folder)?.args(["--head", "--quote", "PWD"]),
                };
                run.finish()?.succeeded()?;
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Fault::new("a login panicked"))))
            .collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    results.into_iter().collect::<Result<Vec<()>>>()?;
    let client = children.since()?;
    Ok(Sample { rate: count as f64 / seconds, client, server: before.spent_when_settled()? })
}

/// An empty hook, in the median.
pub(super) fn hook(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    example(bench, scenario, "hook_cost", "median")
}

/// The same, of a hundred the slowest but one.
pub(super) fn hook_p99(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    example(bench, scenario, "hook_cost", "p99")
}

/// A permission check with 1,000 rules.
pub(super) fn permissions(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    example(bench, scenario, "permission_cost", "median")
}

/// An example of session-core that measures itself and prints one line of JSON, of which `key` is the figure.
fn example(bench: &mut Bench, scenario: &Scenario, name: &str, key: &str) -> Result<Row> {
    let run = |args: &[&str]| {
        Run::new(repo::cargo()).args(args).dir(repo::root()).limit(Duration::from_secs(1_800))
    };
    let example = ["--release", "--locked", "-p", "session-core", "--example", name];
    run(&["build"]).args(example).finish()?.succeeded()?;
    let mut figures = Vec::new();
    let mut note = String::new();
    for _ in 0..bench.pairs {
        let text = run(&["run", "--quiet"]).args(example).text()?;
        let line = text.trim();
        let said: Value = serde_json::from_str(line).doing(|| format!("reading `{line}`"))?;
        ensure!(said.get("unit").and_then(Value::as_str) == Some("us"), "not microseconds: {line}");
        let figure = said.get(key).and_then(Value::as_f64);
        figures.push(figure.ok_or_else(|| Fault::new(format!("no {key}: {line}")))?);
        println!("    {line}");
        let high = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or_default();
        note = format!("in the last run 95 % below {} us, 99 % below {} us", high("p95"), high("p99"));
    }
    let mut row = bench.row(scenario, "session-core", "-", "us", note);
    row.ours = Spread::of(figures);
    row.pairs = bench.pairs;
    Ok(row)
}

/// What a server needs in all with many idle sessions, MiB.
pub(super) fn crowd(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    let (count, wait) = (bench.ground.sizes.crowd, bench.ground.sizes.idle_wait);
    let each = idle_at(&mut bench.ground, Server::Ferryd, count)?;
    let note = format!("{count} sessions, {each:.1} kB each, after {} s", wait.as_secs());
    let mut row = bench.row(scenario, "ferryd", "-", "MiB", note);
    // As many as the bar is for, whatever their number in a quick run.
    row.ours = Some(Spread::one(each * CROWD / 1024.0));
    row.pairs = 1;
    Ok(row)
}

/// The most memory that ferry needs for a tree of very many files, MiB.
pub(super) fn many(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    let count = bench.ground.sizes.many;
    let (run, landing) = bench.ground.many(Server::Sshd)?;
    let mut ferry = process::Server::start(&run)?;
    let begin = Instant::now();
    let mut most: f64 = 0.0;
    while !ferry.has_ended()? {
        most = most.max(meter::peak(ferry.id()).unwrap_or_default());
        thread::sleep(Duration::from_millis(50));
    }
    let time = begin.elapsed().as_secs_f64();
    let arrived = super::data::names(&landing)?.len();
    ensure!(arrived == count, "{arrived} files arrived of {count}\n{}", ferry.log());
    super::data::remove(&landing)?;
    let mut row = bench.row(scenario, "ferry", "-", "MiB", format!("{count} files from sshd in {time:.0} s"));
    row.ours = Some(Spread::one(most));
    row.pairs = 1;
    Ok(row)
}
