//! Quotas of content and of transfers over several of our servers with one PostgreSQL.

use std::path::Path;

use serde_json::Value;

use super::Stage;
use super::nodes::{asks, node, soon};
use super::postgres::Postgres;
use super::services::folder;
use crate::fault::{Result, While, ensure};
use crate::peers::cases::says;
use crate::peers::drive;
use crate::peers::servers::{Endpoint, PASSWORD, Scheme};
use crate::process::write;

/// Whether a user may put so much to a node.
fn puts(stage: &Stage, node: &Endpoint, user: &str, name: &str, size: usize) -> Result<bool> {
    let file = stage.kit.join("to-put");
    write(&file, vec![b'x'; size])?;
    let mut at = node.by(Scheme::Ftp)?.clone();
    user.clone_into(&mut at.user);
    let run = drive::curl_by_password(stage.kit, &at, &format!("/{name}"))?;
    Ok(run.arg("--upload-file").arg(Path::new(&file)).finish()?.is_success())
}

/// What a node says of the homes that are counted there.
fn places(stage: &Stage, node: &Endpoint) -> Result<Vec<Value>> {
    let told = asks(stage, node, &["quota", "show", "--json"], "")?.succeeded()?.stdout;
    told.lines().map(|line| serde_json::from_str(line).doing(|| format!("reading `{line}`"))).collect()
}

/// What two nodes hold and move counts once, to the byte, through the death of one and the absence of the database.
pub(super) fn quotas_count_once(stage: &Stage) -> Result<()> {
    let mut postgres = Postgres::start()?;
    let dir = folder(stage, "quotas")?;
    let secrets = postgres.secret(&dir)?;
    let a = node(stage, &postgres, &secrets, "a", "")?;
    let b = node(stage, &postgres, &secrets, "b", "")?;
    let nodes = [&a, &b];
    asks(stage, &a, &["user", "add", "bob", "quota={bytes=1000000, files=5}"], PASSWORD)?.succeeded()?;
    asks(stage, &a, &["user", "add", "eve", "transfer={period=\"month\", upload=1000000}"], PASSWORD)?
        .succeeded()?;
    soon("the users at b", &nodes, || {
        let told = asks(stage, &b, &["user", "list", "--json"], "")?.succeeded()?.stdout;
        Ok(told.contains("\"bob\"") && told.contains("\"eve\""))
    })?;

    // What is held: three of 300,000 bytes, and then no more than what is left, which a must give back to be had.
    let bob = |node: &Endpoint, name: &str, size: usize| puts(stage, node, "bob", name, size);
    for (node, name) in [(&a, "1"), (&b, "2"), (&a, "3")] {
        ensure!(bob(node, name, 300_000)?, "{name} does not fit\n{}", node.tail());
    }
    ensure!(!bob(&b, "4", 100_001)?, "a byte too many is taken");
    ensure!(bob(&b, "4", 100_000)?, "what is left cannot be had\n{}", b.tail());
    ensure!(!bob(&a, "5", 1)? && !bob(&b, "5", 1)?, "there is room beyond the quota");
    soon("what b holds at a", &nodes, || {
        let held = |p: &Value| p.pointer("/elsewhere/user bob of ferry/bytes") == Some(&400_000.into());
        Ok(places(stage, &a)?.iter().any(held))
    })?;
    // Files count as well: four of five, by an empty one, are five.
    ensure!(bob(&a, "5", 0)? && !bob(&b, "6", 0)?, "files are not counted together");

    // What is moved.
    let eve = |node: &Endpoint, name: &str, size: usize| puts(stage, node, "eve", name, size);
    ensure!(eve(&a, "1", 600_000)?, "it does not fit\n{}", a.tail());
    ensure!(!eve(&b, "2", 600_000)?, "both nodes let all of it through");
    let told = asks(stage, &a, &["quota", "transfers", "--json"], "")?.succeeded()?.stdout;
    says(&told, "\"elsewhere\"")?;

    // Without the database a node uses the part that it has and no more; with it again, all goes on.
    postgres.stop();
    soon("the loss in the log", &[&a], || Ok(a.log().contains("cannot be used")))?;
    ensure!(!eve(&a, "3", 350_000)?, "what nobody knows of is let through");
    postgres.go_on()?;
    soon("a part at a", &nodes, || eve(&a, "3", 1))?;
    soon("a part at b", &nodes, || eve(&b, "5", 300_000))?;

    // Who was killed keeps what it may have used, and it comes back when the node does: nothing is lost, nothing is
    // given twice.
    let heard = "select count(*) from ferry_nodes where seen > now() - interval '5 s'";
    soon("both at the database", &nodes, || Ok(postgres.ask(heard)?.trim() == "2"))?;
    drop(b);
    ensure!(!bob(&a, "6", 1)?, "the part of a dead node is given away");
    let early = asks(stage, &a, &["quota", "forget", "b"], "")?;
    ensure!(!early.is_success() && early.stderr.contains("is there"), "{}{}", early.stdout, early.stderr);
    let b = node(stage, &postgres, &secrets, "b", "")?;
    let nodes = [&a, &b];
    // Its home is another one, and empty.
    soon("the room of b", &nodes, || bob(&b, "7", 390_000))?;
    ensure!(!eve(&b, "4", 350_000)?, "what a dead node has moved is forgotten\n{}", b.tail());
    drop(b);
    soon("the end of b", &[&a], || Ok(asks(stage, &a, &["quota", "forget", "b"], "")?.is_success()))?;
    ensure!(bob(&a, "2", 400_000)?, "what was forgotten counts\n{}", a.tail());
    let none = asks(stage, &a, &["quota", "forget", "b"], "")?;
    says(&none.refused()?.stderr, "nothing is counted of a node 'b'")?;
    Ok(())
}
