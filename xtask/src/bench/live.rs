//! What only our server does, under load: sessions that are ended, and uploads that others are told of.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::job::{Ground, Job, Link, Task, Way};
use super::parties::{Client, Server};
use super::row::{Row, Spread};
use super::{Bench, Scenario};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::drive;
use crate::process::{self, Run};

/// Time for sessions to log in, and for each of them besides.
const GATHER: Duration = Duration::from_secs(60);
const LOGIN: Duration = Duration::from_millis(200);

/// How long an outbox may take to become empty.
const DELIVERY: Duration = Duration::from_secs(300);

/// Sessions that are not ended: the load for the last of those that are.
const LOAD: usize = 4;

/// So many sessions, each a connection of its own that writes to a file without pause until it is ended.
const WRITE: &str = "
import sys, asyncio, asyncssh
port, user, key, hosts, count = sys.argv[1:]
block, begun = b'x' * 32768, 0
async def one(number, room, ready):
    global begun
    async with room:
        connection = await asyncssh.connect('127.0.0.1', int(port), username=user, client_keys=[key],
            known_hosts=hosts, config=None, agent_path=None, login_timeout=120, keepalive_interval=0)
        sftp = await connection.start_sftp_client()
        file = await sftp.open('ended-%d' % number, 'wb')
        await file.write(block, 0)
    begun += 1
    if begun == int(count):
        ready.set()
    at = 0
    try:
        while True:
            at = (at + len(block)) % (8 << 20)
            await file.write(block, at)
    except (asyncssh.Error, ConnectionError, OSError):
        pass
async def main():
    room, ready = asyncio.Semaphore(8), asyncio.Event()
    work = [asyncio.ensure_future(one(n, room, ready)) for n in range(int(count))]
    await ready.wait()
    print('writing', begun, flush=True)
    await asyncio.gather(*work)
asyncio.run(main())
";

/// Asks the control socket; the answer's JSON.
fn ask(socket: &Path, line: &str, body: &str) -> Result<Value> {
    let asking = || format!("asking {line}");
    let mut stream = UnixStream::connect(socket).doing(asking)?;
    let head = format!(
        "{line} HTTP/1.1\r\nHost: ferryd\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).doing(asking)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).doing(asking)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    ensure!(head.starts_with("HTTP/1.1 200"), "{line} is answered by `{answer}`");
    serde_json::from_str(body).doing(|| format!("reading `{body}`"))
}

fn ids(socket: &Path) -> Result<Vec<String>> {
    let said = ask(socket, "GET /v1/sessions", "")?;
    let sessions = said.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
    let id = |s: &Value| s.get("sessionId").and_then(Value::as_str).map(str::to_owned);
    Ok(sessions.iter().filter_map(id).collect())
}

/// The time from the request until the session is quiet: nothing of it moves, and nothing will.
pub(super) fn terminate(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    let count = bench.ground.sizes.ended;
    let times = terminated(&mut bench.ground, count)?;
    let spread = Spread::of(times.iter().copied()).ok_or_else(|| Fault::new("nobody was ended"))?;
    let slowest_but_one = times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied();
    let note = format!(
        "{count} sessions ended one by one while {LOAD} and more write; median {:.1} ms, the slowest {:.1} ms",
        spread.median, spread.max
    );
    let mut row = bench.row(scenario, "ferryd", "-", "ms", note);
    row.ours = slowest_but_one.map(Spread::one);
    row.pairs = 1;
    Ok(row)
}

/// Milliseconds, the shortest first.
fn terminated(ground: &mut Ground, count: usize) -> Result<Vec<f64>> {
    ground.stop(Server::Ferryd);
    let at = ground.address(Server::Ferryd, Link::Near)?;
    let socket = ground.server(Server::Ferryd)?.control.clone();
    let socket = socket.ok_or_else(|| Fault::new("the ready line names no control socket"))?;
    let all = (count + LOAD).to_string();
    let mut writers = process::Server::start(&drive::python(&ground.kit, &at, WRITE, &all)?)?;
    let limit = GATHER + LOGIN * u32::try_from(count).unwrap_or(u32::MAX);
    writers.line(limit, |line| line == format!("writing {all}"))?;
    let mut times = Vec::new();
    for id in ids(&socket)?.into_iter().take(count) {
        let begun = Instant::now();
        let said = ask(&socket, &format!("POST /v1/sessions/{id}/terminate"), "{\"reason\":\"bench\"}")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        let left = said.pointer("/terminated/0/inFlight").and_then(Value::as_u64);
        ensure!(left == Some(0), "{id} was not quiet: {said}");
    }
    ensure!(times.len() == count, "{} sessions of {count}", times.len());
    let left = ids(&socket)?.len();
    ensure!(left == LOAD, "{left} sessions are left of {LOAD}");
    drop(writers);
    ground.stop(Server::Ferryd);
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// What it costs to tell of each upload: the receiver answers at once, and all of it is told in the end.
pub(super) fn outbox(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    let job = |server| Job { server, client: Client::Ferry, link: Link::Near, task: Task::Small(Way::Up) };
    let (told, untold) = (job(Server::FerrydTold), job(Server::Ferryd));
    bench.ground.can(told)?;
    let (before, mut behind) = (bench.ground.sink.told(), Duration::ZERO);
    let mut row = bench.row(scenario, "ferryd (told)", "ferryd", "files/s", String::new());
    // One at a time: both serve the same folder, and what is still being told is no load for the other.
    let telling = |ground: &mut Ground| {
        ground.stop(Server::Ferryd);
        let sample = ground.run(told)?;
        let begun = Instant::now();
        empty(ground)?;
        behind = behind.max(begun.elapsed());
        Ok(sample)
    };
    let silent = |ground: &mut Ground| {
        ground.stop(Server::FerrydTold);
        ground.run(untold)
    };
    bench.in_turn(&mut row, telling, silent)?;
    let (events, uploads) = (bench.ground.sink.told() - before, row.pairs * bench.ground.sizes.files);
    ensure!(events >= uploads, "{events} events of {uploads} uploads");
    row.note = format!("all {uploads} events told, the last {:.1} s behind at most", behind.as_secs_f64());
    Ok(row)
}

/// Waits until everything is told.
fn empty(ground: &mut Ground) -> Result<()> {
    let program = ground.ferryd.clone().ok_or_else(|| Fault::new("there is no ferryd yet"))?;
    let socket = ground.server(Server::FerrydTold)?.control.clone();
    let socket = socket.ok_or_else(|| Fault::new("the ready line names no control socket"))?;
    let end = Instant::now() + DELIVERY;
    loop {
        let run = Run::new(&program).arg("--control").arg(&socket).args(["outbox", "list", "--json"]);
        let left = run.text()?;
        if left.trim().is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{} events are not told", left.lines().count());
        thread::sleep(Duration::from_millis(200));
    }
}
