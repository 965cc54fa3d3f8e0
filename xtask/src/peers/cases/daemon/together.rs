//! Several of our servers over one PostgreSQL: sessions that one sees and ends on another, and what they count
//! together.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::nodes::{asks, node, node_with, session_of, soon};
use super::postgres::Postgres;
use super::services::folder;
use super::{Stage, text};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::cases::says;
use crate::peers::drive;
use crate::peers::servers::{Address, Endpoint, Extra, PASSWORD, Scheme};
use crate::process::{Run, Server, read, write};

/// A folder with a file that takes its time.
fn home(stage: &Stage, name: &str) -> Result<String> {
    let home = folder(stage, name)?;
    let file = std::fs::File::create(home.join("large")).and_then(|f| f.set_len(1 << 30));
    file.doing(|| "making a file for the session".to_owned())?;
    Ok(format!("home={:?}", home.display().to_string()))
}

fn of<'a>(sessions: &'a [Value], node: &str, user: &str) -> Option<&'a Value> {
    sessions.iter().find(|s| text(s, "node") == node && text(s, "userName") == user)
}

/// How long what happens on one node takes to be told on another.
const NEWS: Duration = Duration::from_secs(20);

/// The stream of sessions of a node, as `curl` follows it.
fn watch(node: &Endpoint, query: &str) -> Result<Server> {
    let socket = node.control.as_ref().ok_or_else(|| Fault::new("the ready line names no control socket"))?;
    let run = Run::new("curl").args(["--disable", "--silent", "--no-buffer", "--unix-socket"]).arg(socket);
    Server::start(&run.arg(format!("http://ferryd/v1/sessions/watch?{query}")))
}

/// A session of `b` is watched on `a`, and what its handlers do is followed there.
fn followed(stage: &Stage, a: &Endpoint, b: &Endpoint, dir: &Path) -> Result<()> {
    let mut stream = watch(a, "node=b")?;
    for (name, size) in [("first", 3 << 20), ("second", 1)] {
        write(&dir.join(name), vec![b'x'; size])?;
    }
    let mut at = b.by(Scheme::Ftp)?.clone();
    "bob".clone_into(&mut at.user);
    let upload = drive::curl_by_password(stage.kit, &at, "/")?.dir(dir);
    let mut client =
        Server::start(&upload.args(["--limit-rate", "500k", "--upload-file", "{first,second}"]))?;
    let begun = stage.wait(a, |all| of(all, "b", "bob").is_some())?;
    let id = of(&begun, "b", "bob").map(|session| text(session, "sessionId").to_owned()).unwrap_or_default();
    let mut trace = Server::start(&stage.control(a)?.args(["hooks", "trace"]).arg(&id))?;
    trace.line(NEWS, |line| line.contains("BeforeFileUpload") && line.contains("/second"))?;
    soon("the end of the client", &[a, b], || client.has_ended())?;
    let closed =
        |line: &str| line.contains("\"closed\"") && line.contains(&id) && line.contains("\"reason\"");
    stream.line(NEWS, closed)?;
    soon("the end of the trace", &[a, b], || trace.has_ended())
}

/// A node shows the sessions of another, finds and ends them there, in the name of who asked and where. Of one that
/// was killed it says that it does not answer, until it is not heard of any more.
pub(super) fn sessions_are_seen_and_ended(stage: &Stage) -> Result<()> {
    let postgres = Postgres::start()?;
    let dir = folder(stage, "together")?;
    let home = home(stage, "together/home")?;
    let secrets = postgres.secret(&dir)?;
    let audit = dir.join("audit.jsonl");
    let a = node(stage, &postgres, &secrets, "a", "")?;
    let b = node(stage, &postgres, &secrets, "b", &format!("[log]\naudit = {audit:?}"))?;
    for user in ["bob", "eve"] {
        asks(stage, &a, &["user", "add", user, &home], PASSWORD)?.succeeded()?;
        let known = || Ok(asks(stage, &b, &["user", "show", user], "")?.is_success());
        soon("the user at b", &[&a, &b], known)?;
    }
    followed(stage, &a, &b, &dir)?;
    let back = |name: &str| dir.join(name);
    let mut far = session_of(stage, &b, "bob", &back("1"))?;
    let mut near = session_of(stage, &a, "eve", &back("2"))?;
    let all = stage.wait(&a, |all| of(all, "b", "bob").is_some() && of(all, "a", "eve").is_some())?;
    let id = text(of(&all, "b", "bob").ok_or_else(|| Fault::new("bob is gone"))?, "sessionId").to_owned();
    for (filters, found) in [
        (&["--node", "b"][..], "bob"),
        (&["--node", "a"], "eve"),
        (&["--user", "bob", "--site", "ferry"], "bob"),
    ] {
        let args = [&["sessions", "--json"][..], filters].concat();
        let told = asks(stage, &a, &args, "")?.succeeded()?.stdout;
        ensure!(told.lines().count() == 1 && told.contains(found), "{filters:?}: {told}");
    }
    let table = asks(stage, &b, &["sessions", "--order", "user"], "")?.succeeded()?.stdout;
    ensure!(table.contains("NODE") && table.find("bob") < table.find("eve"), "{table}");
    let short = id.get(..31).unwrap_or_default();
    says(&asks(stage, &a, &["sessions", "show", short], "")?.succeeded()?.stdout, "node               b")?;

    let killed = asks(stage, &a, &["sessions", "kill", short, "--reason", "enough"], "")?.succeeded()?.stdout;
    says(&killed, &format!("ended {id} on b"))?;
    soon("the end of bob", &[&a, &b], || far.has_ended())?;
    let past = asks(stage, &a, &["sessions", "history", "--user", "bob", "--json"], "")?.succeeded()?.stdout;
    says(&past, "\"reason\":\"enough\"")?;
    says(&past, " on a\"")?;
    let written = || Ok(String::from_utf8_lossy(&read(&audit)?).contains("\"enough\""));
    soon("the end in the audit of b", &[&b], written)?;
    let gone = asks(stage, &a, &["sessions", "kill", &id], "")?;
    ensure!(gone.code == Some(5), "a session that is over: {}", gone.stderr);

    // All of a user, wherever they are.
    let mut far = session_of(stage, &b, "eve", &back("1"))?;
    stage.wait(&b, |all| of(all, "b", "eve").is_some())?;
    let killed = asks(stage, &b, &["sessions", "kill", "--user", "eve"], "")?.succeeded()?.stdout;
    ensure!(killed.lines().count() == 2 && killed.contains(" on a") && killed.contains(" on b"), "{killed}");
    soon("the end of eve", &[&a, &b], || Ok(far.has_ended()? && near.has_ended()?))?;

    let mut near = session_of(stage, &a, "eve", &back("2"))?;
    stage.wait(&a, |all| of(all, "a", "eve").is_some())?;
    let client = session_of(stage, &b, "eve", &back("1"))?;
    stage.wait(&a, |all| of(all, "b", "eve").is_some())?;
    drop(b);
    drop(client);
    let listed = asks(stage, &a, &["sessions", "--json"], "")?.succeeded()?;
    says(&listed.stderr, "node 'b': it did not answer in time")?;
    ensure!(listed.stdout.lines().count() == 1, "who is dead has no sessions: {}", listed.stdout);
    let killed = asks(stage, &a, &["sessions", "kill", "--user", "eve"], "")?;
    ensure!(killed.code == Some(3) && killed.stdout.contains(" on a"), "{}{}", killed.stdout, killed.stderr);
    soon("the end of eve", &[&a], || near.has_ended())?;
    soon("nobody to wait for", &[&a], || {
        Ok(asks(stage, &a, &["sessions"], "")?.succeeded()?.stderr.is_empty())
    })?;
    // It comes back as another process, and is the same to who asks; a second one of its name is told of.
    let b = node(stage, &postgres, &secrets, "b", "")?;
    let mut client = session_of(stage, &b, "bob", &back("1"))?;
    stage.wait(&a, |all| of(all, "b", "bob").is_some())?;
    ensure!(!b.log().contains("is called as this one"), "who was killed has the name still: {}", b.log());
    let double = node(stage, &postgres, &secrets, "b", "")?;
    soon("the same name in the log", &[&b, &double], || Ok(b.log().contains("is called as this one")))?;
    asks(stage, &double, &["sessions", "kill", "--user", "bob"], "")?.succeeded()?;
    soon("the end of bob", &[&b], || client.has_ended())
}

/// The code of this moment for a secret in base32.
fn code(secret: &str) -> Result<String> {
    let script = "import base64, hmac, struct, sys, time\n\
        mac = hmac.digest(base64.b32decode(sys.argv[1]), struct.pack('>Q', int(time.time()) // 30), 'sha1')\n\
        at = mac[-1] & 15\n\
        print('%06d' % ((struct.unpack('>I', mac[at:at + 4])[0] & 0x7fffffff) % 1000000))";
    Ok(Run::new("python3").args(["-c", script, secret]).text()?.trim().to_owned())
}

fn lists(stage: &Stage, node: &Endpoint, user: &str, password: &str) -> Result<bool> {
    let mut at = node.by(Scheme::Ftp)?.clone();
    user.clone_into(&mut at.user);
    password.clone_into(&mut at.password);
    Ok(drive::curl_by_password(stage.kit, &at, "/")?.finish()?.is_success())
}

/// A code that one node took is good on no other, and an account has its one session on one node only.
pub(super) fn codes_and_sessions_are_counted(stage: &Stage) -> Result<()> {
    let mut postgres = Postgres::start()?;
    let dir = folder(stage, "counted")?;
    let home = home(stage, "counted/home")?;
    let secrets = postgres.secret(&dir)?;
    let a = node(stage, &postgres, &secrets, "a", "")?;
    let b = node(stage, &postgres, &secrets, "b", "")?;
    let nodes = [&a, &b];
    asks(stage, &a, &["user", "add", "bob", &home], PASSWORD)?.succeeded()?;
    let made = asks(stage, &a, &["user", "totp", "bob", "--json"], "")?.succeeded()?.stdout;
    let made: Value = serde_json::from_str(&made).doing(|| format!("reading `{made}`"))?;
    asks(stage, &a, &["user", "add", "one", &home, "sessions=1"], PASSWORD)?.succeeded()?;
    soon("the users at b", &nodes, || {
        let told = asks(stage, &b, &["user", "list", "--json"], "")?.succeeded()?.stdout;
        let has_codes = |line: &str| line.contains("\"bob\"") && line.contains("\"totp\":true");
        Ok(told.contains("\"one\"") && told.lines().any(has_codes))
    })?;

    let with_code = format!("{PASSWORD}{}", code(text(&made, "secret"))?);
    ensure!(lists(stage, &a, "bob", &with_code)?, "the code is not taken\n{}", a.tail());
    ensure!(!lists(stage, &b, "bob", &with_code)?, "a code is good twice");
    says(&b.log(), "was used on another node")?;

    let mut first = session_of(stage, &b, "one", &dir.join("back"))?;
    stage.wait(&a, |all| of(all, "b", "one").is_some())?;
    ensure!(!lists(stage, &a, "one", PASSWORD)?, "one has two sessions");
    says(&a.log(), "over all nodes")?;
    asks(stage, &a, &["sessions", "kill", "--user", "one"], "")?.succeeded()?;
    soon("the end of the first", &nodes, || first.has_ended())?;
    soon("a place at a", &nodes, || lists(stage, &a, "one", PASSWORD))?;
    // And at once again on the same node, whatever the others know.
    ensure!(lists(stage, &a, "one", PASSWORD)?, "its own place stands in its way\n{}", a.tail());
    soon("a place at b", &nodes, || lists(stage, &b, "one", PASSWORD))?;

    // A node that was killed keeps no place for ever.
    let _client = session_of(stage, &b, "one", &dir.join("back"))?;
    stage.wait(&a, |all| of(all, "b", "one").is_some())?;
    drop(b);
    soon("the place of the dead", &[&a], || lists(stage, &a, "one", PASSWORD))?;

    // Without the database no code is taken, and everybody else goes on.
    postgres.stop();
    soon("the loss in the log", &[&a], || Ok(a.log().contains("cannot be used")))?;
    let _client = session_of(stage, &a, "one", &dir.join("back"))?;
    stage.wait(&a, |all| of(all, "a", "one").is_some())?;
    let with_code = format!("{PASSWORD}{}", code(text(&made, "secret"))?);
    ensure!(!lists(stage, &a, "bob", &with_code)?, "a code is taken that cannot be compared");
    // It comes back and has forgotten all that is true for a moment only: it is told anew.
    postgres.go_on()?;
    let b = node(stage, &postgres, &secrets, "b", "")?;
    soon("the session at b", &[&a, &b], || Ok(of(&stage.sessions(&b)?, "a", "one").is_some()))?;
    soon("its place at b", &[&a, &b], || Ok(!lists(stage, &b, "one", PASSWORD)?))
}

/// More than one turn of telling each other what was counted.
const TOLD: Duration = Duration::from_secs(3);

/// Who guesses at several nodes is blocked by what they count together, and a limit of an address is one of all of
/// them.
pub(super) fn strikes_and_limits_are_counted(stage: &Stage) -> Result<()> {
    let postgres = Postgres::start()?;
    let dir = folder(stage, "struck")?;
    let home = home(stage, "struck/home")?;
    let secrets = postgres.secret(&dir)?;
    let extra = Extra {
        limits: "per_address = 2",
        lines: "[protector]\nsafe = []\nstrikes = 5\nlimit = 0\n",
        ..Extra::default()
    };
    let a = node_with(stage, &postgres, &secrets, "a", &extra)?;
    let b = node_with(stage, &postgres, &secrets, "b", &extra)?;
    let nodes = [&a, &b];
    asks(stage, &a, &["user", "add", "bob", &home], PASSWORD)?.succeeded()?;
    soon("the user at b", &nodes, || lists(stage, &b, "bob", PASSWORD))?;

    // Two at one node are two of two, at the other one too, until one has ended.
    let mut sessions =
        [session_of(stage, &a, "bob", &dir.join("1"))?, session_of(stage, &a, "bob", &dir.join("2"))?];
    stage.wait(&a, |all| all.len() == 2)?;
    thread::sleep(TOLD);
    ensure!(!lists(stage, &b, "bob", PASSWORD)?, "an address has three sessions of two");
    asks(stage, &b, &["sessions", "kill", "--user", "bob"], "")?.succeeded()?;
    soon("the end of both", &nodes, || Ok(sessions[0].has_ended()? && sessions[1].has_ended()?))?;
    soon("room at b", &nodes, || lists(stage, &b, "bob", PASSWORD))?;

    // Four guesses are good for either node, and nothing is told of them but how many they were.
    for node in [&a, &a, &a, &b] {
        ensure!(!lists(stage, node, "bob", "wrong")?, "a wrong password is taken");
    }
    thread::sleep(TOLD);
    let may = |node| lists(stage, node, "bob", PASSWORD);
    ensure!(may(&a)? && may(&b)?, "four strikes of five block\n{}", b.tail());
    ensure!(!lists(stage, &b, "bob", "wrong")?, "a wrong password is taken");
    soon("the ban at b", &nodes, || Ok(!may(&b)?))?;
    soon("the ban at a", &nodes, || Ok(!may(&a)?))?;
    let listed = asks(stage, &a, &["ban", "list"], "")?.succeeded()?.stdout;
    says(&listed, "5 strikes on all nodes, the last one for: login")?;
    // Who is let in again begins anew on all of them.
    asks(stage, &a, &["ban", "remove", "127.0.0.1"], "")?.succeeded()?;
    soon("the end of the ban at b", &nodes, || may(&b))?;
    for node in nodes {
        ensure!(!lists(stage, node, "bob", "wrong")?, "a wrong password is taken");
    }
    thread::sleep(TOLD);
    ensure!(may(&a)? && may(&b)?, "what was counted before counts again\n{}", b.tail());
    let left = postgres.ask("select count(*) from ferry_strikes")?;
    ensure!(left.trim() == "2", "{left} strikes are kept, not two");
    Ok(())
}

/// Where a site that came later is served.
fn port_of_shop(stage: &Stage, node: &Endpoint) -> Result<Option<u16>> {
    let status = asks(stage, node, &["status", "--json"], "")?.succeeded()?.stdout;
    let status: Value = serde_json::from_str(&status).doing(|| format!("reading `{status}`"))?;
    let mut listeners = status.get("listeners").and_then(Value::as_array).into_iter().flatten();
    let address = listeners.find(|l| text(l, "site") == "shop").map(|l| text(l, "address"));
    Ok(address.and_then(|address| address.rsplit(':').next()?.parse().ok()))
}

/// A site's own protector counts over all nodes, apart from the server's: whom it blocks is blocked at that site
/// everywhere, also on a node that comes later, and at no other site.
pub(super) fn a_site_counts_its_own(stage: &Stage) -> Result<()> {
    let postgres = Postgres::start()?;
    let dir = folder(stage, "shop")?;
    let home = home(stage, "shop/home")?;
    let secrets = postgres.secret(&dir)?;
    let extra = Extra { lines: "[protector]\nsafe = []\nstrikes = 50\nlimit = 0\n", ..Extra::default() };
    let a = node_with(stage, &postgres, &secrets, "a", &extra)?;
    let b = node_with(stage, &postgres, &secrets, "b", &extra)?;
    let nodes = [&a, &b];
    let (listeners, own) =
        ("listeners=[{protocol=\"webdav\",port=0}]", "protector={safe=[],strikes=5,limit=0}");
    asks(stage, &a, &["site", "add", "shop", listeners, own], "")?.succeeded()?;
    for node in nodes {
        soon("the shop", &nodes, || Ok(port_of_shop(stage, node)?.is_some()))?;
    }
    let tries = |node: &Endpoint, password: &str| -> Result<bool> {
        let port = port_of_shop(stage, node)?.ok_or_else(|| Fault::new("there is no shop"))?;
        let (user, password) = ("bob".to_owned(), password.to_owned());
        let at = Address { scheme: Scheme::Dav, port, user, password, ..node.at.clone() };
        let at = Address { certificate: None, ..at };
        Ok(drive::curl_by_password(stage.kit, &at, "/")?.finish()?.is_success())
    };
    let may = |node| tries(node, PASSWORD);
    asks(stage, &a, &["user", "add", "bob", "--site", "shop", &home], PASSWORD)?.succeeded()?;
    soon("the user at b", &nodes, || may(&b))?;

    for node in [&a, &a, &a, &b] {
        ensure!(!tries(node, "wrong")?, "a wrong password is taken");
    }
    thread::sleep(TOLD);
    ensure!(may(&a)? && may(&b)?, "four strikes of five block\n{}", b.tail());
    ensure!(!tries(&b, "wrong")?, "a wrong password is taken");
    soon("the ban at b", &nodes, || Ok(!may(&b)?))?;
    soon("the ban at a", &nodes, || Ok(!may(&a)?))?;
    for node in nodes {
        ensure!(
            lists(stage, node, &node.at.user, PASSWORD)?,
            "a block of one site holds at another\n{}",
            node.tail()
        );
        let listed = asks(stage, node, &["ban", "list"], "")?.succeeded()?.stdout;
        says(&listed, "5 strikes on all nodes, the last one for: login")?;
        says(&listed, "shop")?;
    }
    let c = node_with(stage, &postgres, &secrets, "c", &extra)?;
    ensure!(
        !may(&c)? && lists(stage, &c, &c.at.user, PASSWORD)?,
        "a new node knows nothing of it\n{}",
        c.tail()
    );
    asks(stage, &c, &["ban", "remove", "127.0.0.1"], "")?.succeeded()?;
    for node in [&a, &b, &c] {
        soon("the end of the ban", &[node], || may(node))?;
    }
    // Who is let in again begins anew.
    ensure!(!tries(&a, "wrong")? && !tries(&b, "wrong")?, "a wrong password is taken");
    thread::sleep(TOLD);
    ensure!(may(&a)? && may(&b)?, "what was counted before counts again\n{}", b.tail());
    let left = postgres.ask("select site, count(*) from ferry_strikes group by site")?;
    ensure!(left.trim() == "shop|2", "{left} strikes are kept, not two of the site");
    Ok(())
}
