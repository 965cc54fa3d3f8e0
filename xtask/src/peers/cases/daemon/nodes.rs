//! Several of our servers over one PostgreSQL: what they share, and what holds when it is gone.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::postgres::Postgres;
use super::services::folder;
use super::{Stage, text};
use crate::fault::{Result, ensure};
use crate::peers::cases::says;
use crate::peers::drive;
use crate::peers::servers::{Endpoint, Extra, PASSWORD, Scheme};
use crate::process::{Finished, Run, Server, write};

/// The most time until what one node does holds on another.
const SOON: Duration = Duration::from_secs(20);

pub(super) fn soon(what: &str, nodes: &[&Endpoint], mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + SOON;
    while !holds()? {
        let logs: String = nodes.iter().map(|node| node.tail() + "\n").collect();
        ensure!(Instant::now() < end, "{what}: never\n{logs}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A server of ours over `postgres`.
pub(super) fn node(
    stage: &Stage,
    postgres: &Postgres,
    secrets: &Path,
    name: &str,
    more: &str,
) -> Result<Endpoint> {
    node_with(stage, postgres, secrets, name, &Extra { lines: more, ..Extra::default() })
}

/// The same with more configuration.
pub(super) fn node_with(
    stage: &Stage,
    postgres: &Postgres,
    secrets: &Path,
    name: &str,
    extra: &Extra<'_>,
) -> Result<Endpoint> {
    let lines = format!(
        "[scripts]\nsecrets = {secrets:?}\n[database]\nurl = {:?}\npassword_secret = \"db\"\n\
         authorities = {:?}\nnode = \"{name}\"\n{}\n",
        postgres.url("localhost"),
        postgres.certificate,
        extra.lines
    );
    stage.start(&Extra { lines: &lines, ..*extra })
}

pub(super) fn asks(stage: &Stage, node: &Endpoint, args: &[&str], input: &str) -> Result<Finished> {
    stage.control(node)?.args(args).input(input).finish()
}

/// Whether somebody may log in to a node.
pub(super) fn logs_in(stage: &Stage, node: &Endpoint, user: &str) -> Result<bool> {
    let mut at = node.at.clone();
    user.clone_into(&mut at.user);
    let url = drive::ferry_url(&at, "/");
    let run = drive::ferry(stage.kit, stage.ferry, &at).env("FERRY_PASSWORD", PASSWORD);
    Ok(run.arg("ls").arg(url).finish()?.is_success())
}

/// A download of a user's file from a node, which takes its time.
pub(super) fn session_of(stage: &Stage, node: &Endpoint, user: &str, back: &Path) -> Result<Server> {
    let mut at = node.by(Scheme::Ftp)?.clone();
    user.clone_into(&mut at.user);
    let run = drive::curl_by_password(stage.kit, &at, "/large")?;
    Server::start(&run.args(["--limit-rate", "1M", "--output"]).arg(back))
}

/// Users that one node makes log in to the other; whom it switches off is out everywhere. Without the database
/// those who are known log in for a while, nothing changes, and the log says why; with it again, all goes on.
pub(super) fn accounts_are_shared(stage: &Stage) -> Result<()> {
    let mut postgres = Postgres::start()?;
    let dir = folder(stage, "nodes")?;
    let home = folder(stage, "nodes/home")?;
    std::fs::File::create(home.join("large"))
        .and_then(|f| f.set_len(1 << 30))
        .map_err(|e| crate::fault::Fault::new(format!("a file for the session cannot be made: {e}")))?;
    let secrets = postgres.secret(&dir)?;
    let a = node(stage, &postgres, &secrets, "a", "")?;
    let b = node(stage, &postgres, &secrets, "b", "remember = \"1s\"")?;
    let nodes = [&a, &b];
    let tls = "select count(*), bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) \
               where application_name = 'ferryd'";
    ensure!(postgres.ask(tls)?.trim() == "2|t", "the lines are not under TLS: {}", postgres.ask(tls)?);

    let at_home = format!("home={:?}", home.display().to_string());
    asks(stage, &a, &["group", "add", "staff", &at_home], "")?.succeeded()?;
    asks(stage, &a, &["user", "add", "bob", "groups=staff"], PASSWORD)?.succeeded()?;
    soon("bob at b", &nodes, || logs_in(stage, &b, "bob"))?;
    // Judged by what is there now, whichever node did it.
    let double = asks(stage, &b, &["user", "add", "bob"], PASSWORD)?.refused()?;
    says(&double.stderr, "there is a user 'bob' already")?;
    asks(stage, &b, &["group", "rm", "staff"], "")?.refused()?;
    asks(stage, &b, &["user", "add", "eve", &at_home], PASSWORD)?.succeeded()?;
    soon("eve at a", &nodes, || logs_in(stage, &a, "eve"))?;
    let token = asks(stage, &a, &["token", "add", "ci", "--role", "read"], "")?.succeeded()?.stdout;
    soon("the token at b", &nodes, || {
        Ok(asks(stage, &b, &["token", "list"], "")?.succeeded()?.stdout.contains("ci"))
    })?;
    let secret = token.trim().rsplit('_').next().unwrap_or_default();
    let kept = postgres.ask("select string_agg(record, ' ') from ferry_records")?;
    ensure!(!kept.contains(secret) && !kept.contains(PASSWORD), "a secret is kept as it is");

    let mut client = session_of(stage, &b, "bob", &dir.join("back"))?;
    stage.wait(&b, |sessions| sessions.iter().any(|s| text(s, "userName") == "bob"))?;
    asks(stage, &a, &["user", "disable", "bob"], "")?.succeeded()?;
    stage.wait(&b, <[Value]>::is_empty)?;
    soon("the end of the client", &nodes, || client.has_ended())?;
    let past = asks(stage, &b, &["sessions", "history", "--user", "bob", "--json"], "")?.succeeded()?.stdout;
    says(&past, "\"reasonCode\":\"account-closed\"")?;
    says(&past, " on a\"")?;
    ensure!(!logs_in(stage, &b, "bob")?, "bob is switched off and logs in");
    asks(stage, &b, &["user", "enable", "bob"], "")?.succeeded()?;
    soon("bob at a", &nodes, || logs_in(stage, &a, "bob"))?;
    let exported = |node: &Endpoint| -> Result<String> {
        Ok(asks(stage, node, &["accounts", "export"], "")?.succeeded()?.stdout)
    };
    ensure!(exported(&a)? == exported(&b)?, "the nodes differ");

    // So is a site, with its users.
    asks(stage, &a, &["site", "add", "shop", "listeners=[{protocol=\"sftp\",port=0}]"], "")?.succeeded()?;
    let serves = |node: &Endpoint| -> Result<bool> {
        let status = asks(stage, node, &["status", "--json"], "")?.succeeded()?.stdout;
        Ok(status.contains("\"site\":\"shop\""))
    };
    soon("the shop at b", &nodes, || Ok(serves(&a)? && serves(&b)?))?;
    asks(stage, &b, &["user", "add", "zac", "--site", "shop"], PASSWORD)?.succeeded()?;
    asks(stage, &b, &["site", "rm", "shop"], "")?.refused()?;
    asks(stage, &b, &["site", "rm", "shop", "--accounts"], "")?.succeeded()?;
    soon("the end of the shop", &nodes, || Ok(!serves(&a)? && !serves(&b)?))?;

    // A ban of one node holds on the other, for sessions that are there too, until it is lifted on either.
    let mut client = session_of(stage, &b, "bob", &dir.join("back"))?;
    stage.wait(&b, |sessions| sessions.iter().any(|s| text(s, "userName") == "bob"))?;
    let far = "192.0.2.0/24";
    asks(stage, &b, &["ban", "add", far, "--reason", "far"], "")?.succeeded()?;
    let bans = |node: &Endpoint| -> Result<String> {
        Ok(asks(stage, node, &["ban", "list"], "")?.succeeded()?.stdout)
    };
    soon("the ban at a", &nodes, || Ok(bans(&a)?.contains(far)))?;
    asks(stage, &a, &["ban", "add", "127.0.0.0/8"], "")?.succeeded()?;
    soon("the end of the banned", &nodes, || client.has_ended())?;
    says(&b.log(), "blocked by another node")?;
    for network in [far, "127.0.0.0/8"] {
        asks(stage, &a, &["ban", "remove", network], "")?.succeeded()?;
    }
    soon("nobody banned at b", &nodes, || Ok(bans(&b)?.contains("0 bans")))?;
    // The other lists go the same way.
    for list in ["safe", "allow"] {
        asks(stage, &a, &[list, "add", far, "--reason", "far"], "")?.succeeded()?;
        let on_it = || Ok(asks(stage, &b, &[list, "list"], "")?.succeeded()?.stdout.contains(far));
        soon("the list at b", &nodes, on_it)?;
        asks(stage, &b, &[list, "remove", far], "")?.succeeded()?;
        let gone = || Ok(!asks(stage, &a, &[list, "list"], "")?.succeeded()?.stdout.contains(far));
        soon("the end of it at a", &nodes, gone)?;
    }

    postgres.stop();
    soon("the loss in the log", &nodes, || Ok(b.log().contains("cannot be used")))?;
    ensure!(logs_in(stage, &a, "bob")?, "a does not believe what it knew a moment ago\n{}", a.tail());
    let refused = asks(stage, &a, &["user", "add", "zoe"], PASSWORD)?.refused()?;
    says(&refused.stderr, "the database that nodes share cannot be used")?;
    soon("an end of belief at b", &nodes, || Ok(!logs_in(stage, &b, "bob")?))?;
    says(&b.log(), "was not reached for too long")?;
    ensure!(logs_in(stage, &b, &b.at.user)?, "an account of the file does not log in");
    postgres.go_on()?;
    soon("bob at b again", &nodes, || logs_in(stage, &b, "bob"))?;
    soon("a change at a", &nodes, || {
        Ok(asks(stage, &a, &["user", "add", "zoe", &at_home], PASSWORD)?.is_success())
    })?;
    soon("zoe at b", &nodes, || logs_in(stage, &b, "zoe"))?;
    for log in [a.log(), b.log()] {
        ensure!(!log.contains("hunter2") && !log.contains("argon2"), "a secret is in the log:\n{log}");
    }

    // Without a server the commands change the database themselves, and the nodes hear of it.
    let bare = dir.join("bare.toml");
    let lines = format!(
        "data = {:?}\n[scripts]\nsecrets = {secrets:?}\n[database]\nurl = {:?}\npassword_secret = \"db\"\n",
        dir.join("bare"),
        // On this machine it may be asked in the clear.
        postgres.url("127.0.0.1")
    );
    write(&bare, lines)?;
    let alone = |args: &[&str]| -> Result<Finished> {
        Run::new(stage.ferryd).arg("--config").arg(&bare).args(args).finish()
    };
    alone(&["user", "rm", "zoe"])?.succeeded()?;
    soon("the end of zoe", &nodes, || Ok(!logs_in(stage, &b, "zoe")?))?;
    alone(&["check"])?.succeeded()?;
    // Tables of an older ferryd are brought up to date by who comes first, and what was in them is kept beside them.
    let before = postgres.ask("select count(*) from ferry_records")?;
    postgres.ask(
        "drop table ferry_leases; alter table ferry_strikes drop column site; \
         update ferry_schema set version = 4",
    )?;
    alone(&["user", "list"])?.succeeded()?;
    let after = "select (select count(*) from ferry_records_v4), version > 4 from ferry_schema";
    let after = postgres.ask(after)?;
    ensure!(
        after.trim() == format!("{}|t", before.trim()),
        "{before} records, and of an older ferryd {after}"
    );
    postgres.ask("update ferry_schema set version = 99")?;
    let newer = alone(&["user", "list"])?.refused()?;
    says(&newer.stderr, "a newer ferryd's")
}

/// Tables of an older ferryd are brought up to date as a whole, with copies of what they held, or not at all.
pub(super) fn tables_are_brought_up_to_date(stage: &Stage) -> Result<()> {
    let postgres = Postgres::start()?;
    let dir = folder(stage, "tables")?;
    let (secrets, file) = (postgres.secret(&dir)?, dir.join("bare.toml"));
    let lines = format!(
        "data = {:?}\n[scripts]\nsecrets = {secrets:?}\n[database]\nurl = {:?}\npassword_secret = \"db\"\n",
        dir.join("bare"),
        postgres.url("127.0.0.1")
    );
    write(&file, lines)?;
    let alone = |args: &[&str], input: &str| -> Result<Finished> {
        Run::new(stage.ferryd).arg("--config").arg(&file).args(args).input(input).finish()
    };
    alone(&["user", "add", "ada"], PASSWORD)?.succeeded()?;
    let tells = |question: &str, wanted: &str| -> Result<()> {
        let told = postgres.ask(question)?;
        ensure!(told.trim() == wanted, "{question}: {told}, not {wanted}");
        Ok(())
    };
    let newest = postgres.ask("select version from ferry_schema")?;
    let rows = postgres.ask("select count(*) from ferry_records")?;
    // As the first version left them.
    postgres.ask(
        "do $$ declare t text; begin for t in select tablename from pg_tables where tablename like 'ferry%' \
         and tablename not in ('ferry_schema', 'ferry_state', 'ferry_records') \
         loop execute format('drop table %I cascade', t); end loop; end $$",
    )?;
    postgres.ask("update ferry_schema set version = 1")?;
    // What stands in the way of a later step: nothing of the earlier ones stays.
    postgres.ask("create table ferry_steps (other int)")?;
    alone(&["user", "list"], "")?.refused()?;
    tells("select version from ferry_schema", "1")?;
    tells("select to_regclass('ferry_nodes') is null and to_regclass('ferry_records_v1') is null", "t")?;
    postgres.ask("drop table ferry_steps")?;
    says(&alone(&["user", "list"], "")?.succeeded()?.stdout, "ada")?;
    tells("select version from ferry_schema", newest.trim())?;
    tells("select count(*) from ferry_records_v1", rows.trim())?;
    tells("select to_regclass('ferry_steps_v1') is null", "t")?;
    // The codes that were used are kept as well, from when there are any.
    postgres
        .ask("insert into ferry_steps values ('s', 'ada', 7); insert into ferry_recovery values ('used')")?;
    postgres.ask(
        "drop table ferry_leases; alter table ferry_strikes drop column site; \
         update ferry_schema set version = 4",
    )?;
    alone(&["user", "list"], "")?.succeeded()?;
    tells("select step from ferry_steps_v4", "7")?;
    tells("select hash from ferry_recovery_v4", "used")?;
    tells("select count(*) from ferry_steps", "1")
}
