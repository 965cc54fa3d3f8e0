//! What handlers cost that are bound to every event: many small uploads, and bulk while others make so many calls a
//! second, both beside the server that other rows measure, which has but an empty handler before uploads.
//!
//! Handlers of `Before…` refuse nothing and those of `After…` write nothing; both read the path. The calls beside bulk
//! are those of folders that are made and removed over FTP, by names that make an event of 1 KiB; the same commands
//! are given to that server, so that the two differ by the calls alone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::job::{Ground, Job, Link, Sample, Task, Way};
use super::parties::{Client, GCM, Server};
use super::row::Row;
use super::{Bench, Scenario};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::servers::Address;
use crate::process::read;
use crate::repo;

/// Calls a second of each processor.
const CALLS: usize = 1000;
/// What one command comes to: a handler before and one after it.
const EACH: usize = 2;
/// The names in the path of a folder; together they are about 1 KiB.
const NAMES: usize = 5;
const NAME: usize = 200;

const BEFORE: &str = "if (CtxRelPath() === '/never') Session.BlockOperation('never');\n";
const AFTER: &str = "if (CtxRelPath() === '/never') Log('never');\n";

/// A handler before and one after everything that has such events, by the page that is made from their table.
pub(super) fn handlers() -> Result<Vec<(String, &'static str)>> {
    let page = String::from_utf8_lossy(&read(&repo::root().join("docs/hooks-events.md"))?).into_owned();
    let named = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let bound = named.filter_map(|(event, _)| match event {
        _ if event.starts_with("Before") => Some((event.to_owned(), BEFORE)),
        _ if event.starts_with("After") => Some((event.to_owned(), AFTER)),
        _ => None,
    });
    let bound: Vec<_> = bound.collect();
    ensure!(bound.len() > 20, "the page of events names {} that handlers stand around", bound.len());
    Ok(bound)
}

/// Many small files, up.
pub(super) fn small(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    let job = |server| Job { server, client: Client::Ferry, link: Link::Near, task: Task::Small(Way::Up) };
    bench.ground.can(job(Server::FerrydHooked))?;
    let mut row = bench.row(scenario, "ferryd (hooked)", "ferryd", "files/s", String::new());
    // One at a time: both serve the same folder.
    let side = |server, other| {
        move |ground: &mut Ground| {
            ground.stop(other);
            ground.run(job(server))
        }
    };
    bench.in_turn(
        &mut row,
        side(Server::FerrydHooked, Server::Ferryd),
        side(Server::Ferryd, Server::FerrydHooked),
    )?;
    Ok(row)
}

/// A large file down, while there are calls.
pub(super) fn bulk_down(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    bulk(bench, scenario, Way::Down)
}

/// The same up.
pub(super) fn bulk_up(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    bulk(bench, scenario, Way::Up)
}

fn bulk(bench: &mut Bench, scenario: &Scenario, way: Way) -> Result<Row> {
    let job = |server| Job { server, client: Client::Sftp(GCM), link: Link::Near, task: Task::Big(way) };
    bench.ground.can(job(Server::FerrydHooked))?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let (wanted, mut least) = (CALLS * processors, f64::INFINITY);
    let mut row = bench.row(scenario, "ferryd (hooked)", "ferryd", "MB/s", String::new());
    let hooked = |ground: &mut Ground| {
        ground.stop(Server::Ferryd);
        let (sample, rate) = beside(ground, job(Server::FerrydHooked), wanted / EACH)?;
        least = least.min(rate * EACH as f64);
        Ok(sample)
    };
    let bare = |ground: &mut Ground| {
        ground.stop(Server::FerrydHooked);
        beside(ground, job(Server::Ferryd), wanted / EACH).map(|(sample, _)| sample)
    };
    bench.in_turn(&mut row, hooked, bare)?;
    row.note = format!("at least {least:.0} calls a second meanwhile, of {wanted} wanted");
    ensure!(bench.is_quick || least > wanted as f64 * 0.9, "{}", row.note);
    Ok(row)
}

/// Runs a job while another client gives so many commands a second; how many it gave a second.
fn beside(ground: &mut Ground, job: Job, rate: usize) -> Result<(Sample, f64)> {
    let at = ground.server(job.server)?.by(crate::peers::servers::Scheme::Ftp)?.clone();
    let (mut other, dir) = enter(&at)?;
    let (is_over, given) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (sample, rate) = thread::scope(|scope| {
        let work = scope.spawn(|| -> Result<f64> {
            let begun = Instant::now();
            while !is_over.load(Ordering::SeqCst) {
                let n = given.fetch_add(1, Ordering::SeqCst);
                let verb = if n.is_multiple_of(2) { "MKD" } else { "RMD" };
                say(&mut other, &format!("{verb} {dir}/x"), "25")?;
                let due = Duration::from_secs_f64((n + 1) as f64 / rate as f64);
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            let passed = begun.elapsed().as_secs_f64();
            Ok(given.load(Ordering::SeqCst) as f64 / passed)
        });
        let sample = ground.run(job);
        is_over.store(true, Ordering::SeqCst);
        let rate = work.join().map_err(|_| Fault::new("who gives commands panicked"))??;
        Ok::<_, Fault>((sample?, rate))
    })?;
    Ok((sample, rate))
}

/// A session of FTP in the clear, and a folder whose name is long; what an earlier one left is there still.
fn enter(at: &Address) -> Result<(BufReader<TcpStream>, String)> {
    let stream = TcpStream::connect(("127.0.0.1", at.port)).doing(|| "connecting".to_owned())?;
    stream.set_nodelay(true).doing(|| "connecting".to_owned())?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).doing(|| "connecting".to_owned())?;
    let mut session = BufReader::new(stream);
    answer(&mut session, "220")?;
    say(&mut session, &format!("USER {}", at.user), "331")?;
    say(&mut session, &format!("PASS {}", at.password), "230")?;
    let mut dir = String::from("/up");
    for _ in 0..NAMES {
        dir += &format!("/{}", "n".repeat(NAME));
        // It may be there.
        say(&mut session, &format!("MKD {dir}"), "")?;
    }
    say(&mut session, &format!("RMD {dir}/x"), "")?;
    Ok((session, dir))
}

fn say(session: &mut BufReader<TcpStream>, command: &str, wanted: &str) -> Result<()> {
    let line = format!("{command}\r\n");
    session.get_mut().write_all(line.as_bytes()).doing(|| "giving a command".to_owned())?;
    answer(session, wanted)
}

/// Reads an answer of one line or of several. Errors: it does not begin as `wanted`.
fn answer(session: &mut BufReader<TcpStream>, wanted: &str) -> Result<()> {
    loop {
        let mut line = String::new();
        let n = session.read_line(&mut line).doing(|| "reading an answer".to_owned())?;
        ensure!(n > 0, "the server hung up");
        if line.as_bytes().get(3) == Some(&b' ') {
            ensure!(line.starts_with(wanted), "`{}` is no {wanted}", line.trim_end());
            return Ok(());
        }
    }
}
