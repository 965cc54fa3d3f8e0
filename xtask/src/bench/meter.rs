//! What processes cost, from `/proc`: seconds of CPU and memory of a process with all that it started.
//!
//! A process that ended counts if its parent waited for it: one whose parent ended first is lost, unless the
//! head of the tree adopts orphans. Resolution: 10 ms, the kernel's.

use std::collections::HashMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{Result, While};
use crate::process::read;

/// Ticks per second in `/proc`; the same on every architecture that Debian has.
const TICKS: f64 = 100.0;

/// The CPU of our own children that have ended, at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent(f64);

impl Spent {
    pub(super) fn now() -> Result<Self> {
        let stat = Stat::of("self").doing(|| "reading what children cost".to_owned())?;
        Ok(Self(stat.children))
    }

    /// Seconds since then.
    pub(super) fn since(self) -> Result<f64> {
        Ok(Self::now()?.0 - self.0)
    }
}

/// One line of `/proc/…/stat`, as far as it is used here.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: u32,
    own: f64,
    children: f64,
}

impl Stat {
    fn of(process: &str) -> Result<Self> {
        let path = format!("/proc/{process}/stat");
        Self::parse(&String::from_utf8_lossy(&read(Path::new(&path))?))
            .ok_or_else(|| crate::fault::Fault::new(format!("{path} is not what we know")))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name of the program stands in parentheses and may hold anything, parentheses too.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: seconds(11)? + seconds(12)?,
            children: seconds(13)? + seconds(14)?,
        })
    }
}

/// A process and all below it, with what each costs. Those that end meanwhile are left out.
fn tree(head: u32) -> Result<HashMap<u32, Stat>> {
    let mut all = HashMap::new();
    for entry in std::fs::read_dir("/proc").doing(|| "reading /proc".to_owned())?.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Ok(stat) = Stat::of(&process.to_string()) {
            all.insert(process, stat);
        }
    }
    let is_below = |process: u32| {
        let mut at = process;
        // Parents form no circle; the bound is for what changes while we look.
        for _ in 0..64 {
            if at == head {
                return true;
            }
            match all.get(&at) {
                Some(stat) => at = stat.parent,
                None => return false,
            }
        }
        false
    };
    let below: Vec<u32> = all.keys().copied().filter(|process| is_below(*process)).collect();
    Ok(all.into_iter().filter(|(process, _)| below.contains(process)).collect())
}

/// How long the processes of sessions get to end, at most.
const SETTLE: Duration = Duration::from_secs(3);

/// What a server's processes had cost at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    head: u32,
    spent: f64,
    processes: usize,
}

impl Tree {
    pub(super) fn of(head: u32) -> Result<Self> {
        let tree = tree(head)?;
        let spent = tree.values().map(|stat| stat.own + stat.children).sum();
        Ok(Self { head, spent, processes: tree.len() })
    }

    /// Seconds of CPU since then, of all processes of the tree and of those of them that have ended. Waits
    /// a little for the processes that have come since then to end.
    pub(super) fn spent_when_settled(self) -> Result<f64> {
        let end = Instant::now() + SETTLE;
        loop {
            thread::sleep(Duration::from_millis(30));
            let now = Self::of(self.head)?;
            if now.processes <= self.processes || Instant::now() >= end {
                return Ok(now.spent - self.spent);
            }
        }
    }
}

/// Memory of a process and all below it in kB, each page shared out among those who map it (PSS), and the
/// number of processes.
pub(super) fn memory(head: u32) -> Result<(f64, usize)> {
    let (mut sum, mut count) = (0.0, 0);
    for process in tree(head)?.keys() {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let size = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        sum += size.unwrap_or_default();
        count += 1;
    }
    Ok((sum, count))
}

/// The same of a process and all below it, each counted for itself.
pub(super) fn peak_of_all(head: u32) -> Result<f64> {
    Ok(tree(head)?.keys().filter_map(|process| peak(*process)).sum())
}

/// The most memory that a process has had so far, in MiB; `None` once it has ended.
pub(super) fn peak(process: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Run, Server};

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat =
            Stat::parse("7 (a) b) S 3 7 7 0 -1 4194560 1 0 0 0 100 50 25 25 20 0 1 0 9 0 0 0").unwrap();
        assert_eq!((stat.parent, stat.own, stat.children), (3, 1.5, 0.5));
        assert!(Stat::parse("7 (a").is_none());
    }

    #[test]
    fn children_count_for_their_parent() {
        let script = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exit 0'; echo done; sleep 60";
        let before = Instant::now();
        let mut server = Server::start(&Run::new("sh").args(["-c", script])).unwrap();
        server.line(Duration::from_secs(60), |line| line == "done").unwrap();
        let spent = Tree::of(server.id()).unwrap().spent;
        assert!(spent > 0.0 && spent <= before.elapsed().as_secs_f64() + 0.02, "{spent}");
        let (size, count) = memory(server.id()).unwrap();
        assert!(size > 50.0 && count == 2, "{size} kB in {count} processes");
    }
}
