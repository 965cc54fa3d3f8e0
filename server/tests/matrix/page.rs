//! The page of the manual that shows the matrix: `docs/matrix.md`, as the tables here and the filesystems themselves say.
//!
//! A page that is another one fails; `UPDATE=1` writes it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use session_core::capability::Capabilities;
use session_core::conformance;

use crate::gaps::{
    Cell, Gap, Kind, Reach, depends_on_the_disk, not_behind, not_over, otherwise_over, through,
};
use crate::gateways::both;
use crate::world::{Store, Way, World};
use crate::{CELLS, names};

/// One of each protocol: what TLS changes is not what it can do.
const PROTOCOLS: [Way; 5] = [Way::Sftp, Way::Scp, Way::Ftp, Way::Dav, Way::S3];

/// What a pair can do, by the letter that stands for it.
type Can = (char, &'static str, fn(&Capabilities) -> bool);

const CAN: &[Can] = &[
    ('m', "make directories", |c| c.create_dir),
    ('d', "remove", |c| c.remove),
    ('r', "rename, in one step where the store has that", |c| c.rename),
    ('o', "rename over what is there", |c| c.rename_replaces),
    ('w', "write anywhere in a file", |c| c.random_write),
    ('c', "continue a file at its end", |c| c.continue_write),
    ('a', "append", |c| c.append),
    ('z', "set a size", |c| c.truncate),
    ('t', "set times", |c| c.set_times),
    ('p', "set permission bits", |c| c.set_mode),
    ('u', "set owners", |c| c.set_owner),
    ('l', "symbolic links", |c| c.symlinks),
    ('h', "hard links", |c| c.hard_links),
    ('k', "properties", |c| c.properties),
    ('i', "write only if the file is the one that was seen", |c| c.conditional_write),
    ('y', "copy without the content coming to the client", |c| c.server_copy),
    ('s', "tell the room that is left", |c| c.space),
    ('x', "digests without reading", |c| c.checksums),
];

/// What both can.
fn pair(front: &Capabilities, behind: &Capabilities) -> String {
    let can = both(front, behind);
    let letters = CAN.iter().filter(|(_, _, has)| has(&can)).map(|(letter, _, _)| *letter);
    format!("`{}`", letters.collect::<String>())
}

fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let _ = writeln!(out, "| {} |", head.join(" | "));
    let _ = writeln!(out, "|{}", " --- |".repeat(head.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out.push('\n');
}

/// How many cases a cell runs.
fn count(cell: &Cell) -> String {
    let gaps = cell.gaps();
    let skipped = |case: &str| gaps.iter().flat_map(|g| g.cases).any(|name| names(name, case));
    let disk = |case: &str| cell.kind == Kind::Disk && depends_on_the_disk(case);
    let runs = conformance::cases().iter().filter(|c| !skipped(c.name) && !disk(c.name)).count();
    runs.to_string()
}

fn cells(out: &mut String) {
    let mut reaches = vec![("called directly", Reach::Direct), ("through the gate", Reach::Gate)];
    reaches.extend(Way::ALL.map(|way| (way.name(), Reach::Over(way))));
    let stores = [
        (Kind::Memory, false),
        (Kind::Memory, true),
        (Kind::Disk, false),
        (Kind::Disk, true),
        (Kind::Behind(Way::Sftp), true),
        (Kind::Behind(Way::S3), false),
    ];
    let rows = reaches.into_iter().map(|(name, reach)| {
        let columns = stores.map(|(kind, staged)| {
            let cell = Cell { reach, kind, staged };
            if CELLS.iter().any(|(_, c)| *c == cell) { count(&cell) } else { "–".to_owned() }
        });
        std::iter::once(name.to_owned()).chain(columns).collect()
    });
    let head =
        ["", "memory", "memory, staged", "disk", "disk, staged", "gateway to SFTP, staged", "gateway to S3"];
    table(out, &head, &rows.collect::<Vec<_>>());
}

fn gaps<'a>(out: &mut String, all: impl Iterator<Item = &'a Gap>) {
    let listed = |gap: &Gap| gap.cases.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
    let rows: Vec<_> = all.map(|gap| vec![gap.reason.to_owned(), listed(gap)]).collect();
    table(out, &["Reason", "Cases"], &rows);
}

async fn rendered() -> String {
    let mut out = format!(
        "# The matrix\n\n\
         What a filesystem promises is written once, as {} cases ([conformance](../session-core/src/conformance/mod.rs)), \
         and run over each store and each way to it: our server over the store, our client, over loopback. Each number \
         is of the cases that hold; all others are named below with the reason why they cannot. A cell in which \
         another one fails, or one of those that are named holds, fails the test (`cargo nextest run -p server --test \
         matrix`). This page is written by it (`UPDATE=1`).\n\n## Cells\n\n",
        conformance::cases().len()
    );
    cells(&mut out);
    out += "## What a protocol has no words for\n\nBeside these, no way over a network offers `stage` and `publish`, \
            which are a store's own, nor answers with links, which a server follows; and cases of staging are left out \
            where nothing is staged, or the protocol shows nothing of what is under way (S3, SCP).\n\n";
    for way in PROTOCOLS {
        let _ = writeln!(out, "### {}\n", way.name());
        gaps(&mut out, not_over(way).iter().chain(otherwise_over(way)));
    }
    out += "## What a gateway does not have\n\nBeside what the protocol in front has no words for, this is missing \
            where another server stands behind it; what is asked for all the same is refused and changes nothing.\n\n";
    for behind in [Way::Sftp, Way::S3] {
        let _ = writeln!(out, "### A gateway to {}\n", behind.name());
        gaps(&mut out, not_behind(behind).iter());
        for front in PROTOCOLS.into_iter().filter(|front| !through(*front, behind).is_empty()) {
            let _ = writeln!(out, "And with {} in front:\n", front.name());
            gaps(&mut out, through(front, behind).iter());
        }
    }
    out += "## Pairs\n\nWhat our client can do through our server, by what is spoken in front and what is behind: a \
            store of the server itself, or another server as a gateway. A server of SCP has no shell, so little is \
            left behind it.\n\n";
    let mut ways = Vec::new();
    for way in PROTOCOLS {
        let world = World::new(way, Store::memory().staged(), Arc::default()).await;
        let (remote, connection) = world.log_in("alice").await;
        ways.push((way.name(), remote.capabilities()));
        connection.close().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut behind = vec![
        ("memory", Store::memory().staged().view("alice").capabilities()),
        ("disk", Store::local(&dir).staged().view("alice").capabilities()),
    ];
    // A temporary directory may keep no properties; one of a server does.
    behind[1].1.properties = true;
    behind.extend(ways.iter().cloned());
    let head: Vec<_> =
        std::iter::once("behind \\ in front").chain(ways.iter().map(|(name, _)| *name)).collect();
    let rows = behind.iter().map(|(name, store)| {
        let columns = ways.iter().map(|(_, front)| pair(front, store));
        std::iter::once((*name).to_owned()).chain(columns).collect()
    });
    table(&mut out, &head, &rows.collect::<Vec<_>>());
    let rows: Vec<_> =
        CAN.iter().map(|(letter, words, _)| vec![format!("`{letter}`"), (*words).to_owned()]).collect();
    table(&mut out, &["", "can"], &rows);
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manual_shows_the_matrix() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/matrix.md");
    let due = rendered().await;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &due).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == due, "docs/matrix.md is stale: run this test with UPDATE=1");
}
