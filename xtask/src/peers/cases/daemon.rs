//! What only our server does, and what it must withstand: sessions seen and ended, hooks, broken uploads,
//! wrong logins, garbage.
//!
//! Each case starts a server of its own with the configuration that it needs.

mod algorithms;
mod dav;
mod nodes;
mod pam;
mod pgp;
mod postgres;
mod quotas;
mod s3;
mod scanners;
mod services;
mod together;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Scene, bytes, holds, holds_names, is_absent, make, says};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::servers::{Address, Endpoint, Extra, Kit, Scheme, ferryd_with};
use crate::peers::{drive, program};
use crate::process::{Run, Server, write};

/// A test of our server alone.
pub(in crate::peers) struct DaemonCase {
    pub(in crate::peers) name: &'static str,
    /// The peer that it needs, by name.
    pub(in crate::peers) peer: &'static str,
    /// It mounts something.
    pub(in crate::peers) needs_root: bool,
    pub(in crate::peers) run: fn(&Stage) -> Result<()>,
}

const fn case(name: &'static str, peer: &'static str, run: fn(&Stage) -> Result<()>) -> DaemonCase {
    DaemonCase { name, peer, needs_root: false, run }
}

pub(in crate::peers) const DAEMON: &[DaemonCase] = &[
    case("ferryd::stays_below_the_root", "openssh", stays_below_the_root),
    case("ferryd::shows_nothing_of_a_broken_upload", "openssh", broken_upload),
    case("ferryd::shows_and_ends_sessions", "openssh", shows_and_ends_sessions),
    case("ferryd::shows_and_ends_sessions_of_ftp", "curl", |stage| sessions_of_ftp(stage, Scheme::Ftp)),
    case("ferryd::shows_and_ends_sessions_of_ftpes", "curl", |stage| sessions_of_ftp(stage, Scheme::Ftpes)),
    case("ferryd::blocks_by_hook", "openssh", blocks_by_hook),
    case("ferryd::logs_by_hook", "openssh", logs_by_hook),
    case("ferryd::keeps_permissions", "openssh", keeps_permissions),
    case("ferryd::refuses_wrong_logins", "openssh", refuses_wrong_logins),
    case("ferryd::finds_faults_in_its_configuration", "openssh", finds_faults),
    case("ferryd::withstands_garbage_before_login", "openssh", garbage_before_login),
    case("ferryd::withstands_malformed_packets", "asyncssh", malformed_packets),
    DaemonCase { needs_root: true, ..case("ferryd::says_that_the_disk_is_full", "openssh", full_disk) },
    case("ferryd::scans_with_clamd", "clamd", scanners::scans_with_clamd),
    case("ferryd::scans_with_icap", "c-icap", scanners::scans_with_icap),
    case("ferryd::sends_mail", "aiosmtpd", services::mail_arrives),
    case("ferryd::opens_and_makes_pgp", "gnupg", pgp::opened_and_made_on_arrival),
    case("ferryd::asks_postgresql", "postgresql", services::database_is_asked),
    case("ferryd::shares_accounts_by_postgresql", "postgresql", nodes::accounts_are_shared),
    case("ferryd::updates_tables_of_postgresql", "postgresql", nodes::tables_are_brought_up_to_date),
    case("ferryd::shows_sessions_by_postgresql", "postgresql", together::sessions_are_seen_and_ended),
    case("ferryd::counts_together_by_postgresql", "postgresql", together::codes_and_sessions_are_counted),
    case("ferryd::strikes_together_by_postgresql", "postgresql", together::strikes_and_limits_are_counted),
    case("ferryd::strikes_together_at_a_site_by_postgresql", "postgresql", together::a_site_counts_its_own),
    case("ferryd::quotas_together_by_postgresql", "postgresql", quotas::quotas_count_once),
    case("ferryd::asks_a_directory", "slapd", services::directory_vouches),
    case("ferryd::asks_pam", "pam", pam::pam_vouches),
    case("ssh::ferry_reaches_strict_servers", "sshd", algorithms::strict_servers_are_reached),
    case("ssh::ferry_reaches_old_servers_if_named", "sshd", algorithms::old_servers_are_reached_if_named),
    case("ferryd::passes_ssh_audit", "ssh-audit", passes_ssh_audit),
    case("litmus::passes", "litmus", dav::litmus_passes),
    case("cadaver::works", "cadaver", dav::cadaver_works),
    case("curl_dav::moves_a_file", "curl", dav::curl_moves_a_file),
    case("rclone_dav::syncs", "rclone", dav::rclone_syncs),
    case("aws::works", "awscli", s3::aws_works),
    case("boto3::works", "boto3", s3::boto3_works),
    case("s3cmd::works", "s3cmd", s3::s3cmd_works),
    case("rclone_s3::syncs", "rclone", s3::rclone_syncs),
    case("s5cmd::works", "s5cmd", s3::s5cmd_works),
    case("minio::works", "minio", s3::minio_works),
];

/// What a case of ours starts from.
pub(in crate::peers) struct Stage<'a> {
    kit: &'a Kit,
    ferryd: &'a Path,
    ferry: &'a Path,
}

impl<'a> Stage<'a> {
    pub(in crate::peers) fn new(kit: &'a Kit, ferryd: &'a Path, ferry: &'a Path) -> Self {
        Self { kit, ferryd, ferry }
    }

    fn start(&self, extra: &Extra<'_>) -> Result<Endpoint> {
        ferryd_with(self.kit, self.ferryd, extra)
    }

    fn scene(&self, endpoint: &'a Endpoint) -> Result<Scene<'a>> {
        Scene::new(self.kit, endpoint, self.ferry)
    }

    /// `ferryd` as the one who runs the server uses it.
    fn control(&self, endpoint: &Endpoint) -> Result<Run> {
        let socket = endpoint.control.as_ref();
        let socket = socket.ok_or_else(|| Fault::new("the ready line names no control socket"))?;
        Ok(Run::new(self.ferryd).env("HOME", self.kit.join("")).arg("--control").arg(socket))
    }

    /// The live sessions, one JSON object a line.
    fn sessions(&self, endpoint: &Endpoint) -> Result<Vec<Value>> {
        let text = self.control(endpoint)?.args(["sessions", "--json"]).text()?;
        text.lines().map(|line| serde_json::from_str(line).doing(|| format!("reading `{line}`"))).collect()
    }

    /// Waits until the live sessions are as wanted.
    fn wait(&self, endpoint: &Endpoint, is_wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let sessions = self.sessions(endpoint)?;
            if is_wanted(&sessions) {
                return Ok(sessions);
            }
            ensure!(Instant::now() < end, "the sessions stay {sessions:?}\n{}", endpoint.tail());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn text<'a>(session: &'a Value, key: &str) -> &'a str {
    session.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(session: &Value, key: &str) -> u64 {
    session.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn sftp(scene: &Scene, batch: &str) -> Result<String> {
    Ok(drive::sftp(scene.kit, &scene.at, batch)?.finish()?.succeeded()?.stdout)
}

fn sftp_fails(scene: &Scene, batch: &str) -> Result<String> {
    let done = drive::sftp(scene.kit, &scene.at, batch)?.finish()?.refused()?;
    Ok(done.stdout + &done.stderr)
}

/// Above the root is the root, and a link that leads out leads nowhere.
fn stays_below_the_root(stage: &Stage) -> Result<()> {
    let endpoint = stage.start(&Extra::default())?;
    let scene = stage.scene(&endpoint)?;
    says(&sftp(&scene, "cd /../../..\npwd\n")?, "directory: /\n")?;
    let (secret, back) = (scene.here("secret"), scene.here("back"));
    make(&secret, 8)?;
    // A folder outside, beside the root, and a file in it.
    let outside = scene.here("outside");
    std::fs::create_dir(&outside).doing(|| "making a folder".to_owned())?;
    for (link, target) in [("out", &secret), ("folder", &outside)] {
        std::os::unix::fs::symlink(target, scene.there(link)).doing(|| "making a link".to_owned())?;
    }
    sftp_fails(&scene, &format!("get {} {}\n", scene.remote("out"), back.display()))?;
    sftp_fails(&scene, &format!("get {} {}\n", secret.display(), back.display()))?;
    sftp_fails(&scene, &format!("get /../..{} {}\n", secret.display(), back.display()))?;
    is_absent(&back)?;
    make(&scene.here("new"), 9)?;
    let new = scene.here("new");
    sftp_fails(&scene, &format!("put {} {}/inside\n", new.display(), scene.remote("folder")))?;
    holds_names(&outside, &[])?;
    // Either the link is replaced or the upload is refused; what it leads to stays as it was.
    drive::sftp(scene.kit, &scene.at, &format!("put {} {}\n", new.display(), scene.remote("out")))?
        .finish()?;
    holds(&secret, &bytes(8))?;
    // A link that the client makes itself leads no further.
    drive::sftp(scene.kit, &scene.at, &format!("ln -s {} {}\n", secret.display(), scene.remote("own")))?
        .finish()?;
    sftp_fails(&scene, &format!("get {} {}\n", scene.remote("own"), back.display()))?;
    is_absent(&back)
}

/// Starts an upload that takes a minute, and waits until some of it has arrived.
fn slow_upload(stage: &Stage, scene: &Scene, name: &str) -> Result<(Server, Value)> {
    let large = scene.here("large");
    write(&large, vec![b'x'; 60 << 20])?;
    // 8 Mbit per second.
    let batch = format!("put {} {}\n", large.display(), scene.remote(name));
    let script = scene.here("batch");
    write(&script, batch)?;
    let client = drive::openssh(scene.kit, &scene.at, "sftp")?
        .args(["-l", "8000", "-b"])
        .arg(&script)
        .arg(format!("{}@127.0.0.1", scene.at.user));
    let client = Server::start(&client)?;
    let arrived = |session: &Value| number(session, "bytesReceived") > 500_000;
    let sessions = stage.wait(scene.endpoint, |sessions| sessions.iter().any(arrived))?;
    let session = sessions.into_iter().find(arrived);
    Ok((client, session.ok_or_else(|| Fault::new("the session is gone"))?))
}

/// A client dies in the middle: under the name there is what was there before, at every moment, for
/// everybody but the one who sends.
fn broken_upload(stage: &Stage) -> Result<()> {
    let key = String::from_utf8_lossy(&crate::process::read(&stage.kit.public())?).trim().to_owned();
    let folder = crate::process::TempDir::new("shared")?;
    let root = folder.join("root");
    std::fs::create_dir(&root).doing(|| "making a folder".to_owned())?;
    let lines = format!("[[users]]\nname = \"other\"\nkeys = [{key:?}]\nhome = {root:?}\n");
    let endpoint = stage.start(&Extra { root: Some(&root), lines: &lines, ..Extra::default() })?;
    let scene = stage.scene(&endpoint)?;
    let other =
        Scene { at: Address { user: "other".to_owned(), ..scene.at.clone() }, ..stage.scene(&endpoint)? };
    make(&scene.there("old"), 1)?;
    let names = || -> Result<()> {
        holds(&scene.there("old"), &bytes(1))?;
        is_absent(&scene.there("new"))?;
        let listing = sftp(&other, &format!("ls -1a {}\n", scene.folder))?;
        ensure!(!listing.contains("new"), "another user sees the half file:\n{listing}");
        let (old, new) = (other.here("old"), other.here("new"));
        sftp(&other, &format!("get {} {}\n", scene.remote("old"), old.display()))?;
        holds(&old, &bytes(1))?;
        sftp_fails(&other, &format!("get {} {}\n", scene.remote("new"), new.display()))?;
        is_absent(&new)
    };
    for name in ["new", "old"] {
        let (client, _) = slow_upload(stage, &scene, name)?;
        names()?;
        drop(client);
        stage.wait(&endpoint, <[Value]>::is_empty)?;
        names()?;
        // Its owner knows that it is not whole.
        let back = scene.here("back");
        sftp_fails(&scene, &format!("get {} {}\n", scene.remote(name), back.display()))?;
    }
    // And can go on.
    sftp(&scene, &format!("reput {} {}\n", scene.here("large").display(), scene.remote("new")))?;
    holds(&scene.there("new"), &crate::process::read(&scene.here("large"))?)
}

fn shows_and_ends_sessions(stage: &Stage) -> Result<()> {
    let endpoint = stage.start(&Extra::default())?;
    let scene = stage.scene(&endpoint)?;
    ensure!(stage.sessions(&endpoint)?.is_empty(), "there are sessions before the first");
    let (mut client, session) = slow_upload(stage, &scene, "file")?;
    let id = text(&session, "sessionId").to_owned();
    for (key, wanted) in
        [("userName", endpoint.at.user.as_str()), ("protocol", "SFTP"), ("clientIp", "127.0.0.1")]
    {
        ensure!(text(&session, key) == wanted, "`{key}` is not `{wanted}` in {session}");
    }
    let transfer = session.pointer("/transfers/0").cloned().unwrap_or_default();
    ensure!(text(&transfer, "path").ends_with("/file"), "the transfer is not shown: {session}");
    ensure!(text(&transfer, "direction") == "upload", "the direction is not shown: {session}");
    let table = stage.control(&endpoint)?.arg("sessions").text()?;
    says(&table, &endpoint.at.user)?;
    says(&stage.control(&endpoint)?.args(["sessions", "show", &id]).text()?, "127.0.0.1")?;
    // Nobody of that name: an error, and nobody is ended.
    stage.control(&endpoint)?.args(["sessions", "kill", "--user", "nobody-else"]).finish()?.refused()?;
    ensure!(!client.has_ended()?, "somebody else's end was this one's");
    let start = Instant::now();
    let kill = stage.control(&endpoint)?.args(["sessions", "kill", &id, "--reason", "enough of it"]);
    kill.finish()?.succeeded()?;
    stage.wait(&endpoint, <[Value]>::is_empty)?;
    while !client.has_ended()? {
        ensure!(start.elapsed() < Duration::from_secs(5), "the client goes on\n{}", client.log());
        thread::sleep(Duration::from_millis(10));
    }
    is_absent(&scene.there("file"))?;
    says(&endpoint.log(), "enough of it")?;
    // Whoever comes next is served.
    sftp(&scene, "pwd\n").map(drop)
}

/// The table that FTP's sessions were made for, while a download runs; a kill ends both of its connections.
fn sessions_of_ftp(stage: &Stage, scheme: Scheme) -> Result<()> {
    let endpoint = stage.start(&Extra::default())?;
    let scene = Scene { at: endpoint.by(scheme)?.clone(), ..stage.scene(&endpoint)? };
    let (there, here) = (scene.there("file"), scene.here("back"));
    let size = 1 << 30;
    std::fs::File::create(&there).and_then(|file| file.set_len(size)).doing(|| "making a file".to_owned())?;
    // What its kernel has taken already, a few MiB, a client reads to the end whatever happens.
    let path = scene.remote("file");
    let slow = drive::curl_by_password(scene.kit, &scene.at, &path)?
        .args(["--limit-rate", "10M", "--output"])
        .arg(&here);
    let mut client = Server::start(&slow)?;
    let begun = |session: &Value| number(session, "bytesSent") > 500_000;
    let first = stage.wait(&endpoint, |sessions| sessions.iter().any(begun))?;
    let first = first.into_iter().find(begun).unwrap_or_default();
    let id = text(&first, "sessionId").to_owned();
    for (key, wanted) in [
        ("userName", scene.at.user.as_str()),
        ("protocol", if scheme == Scheme::Ftp { "FTP" } else { "FTPS" }),
        ("clientIp", "127.0.0.1"),
        ("currentCommand", "RETR file"),
        ("previousCommand", "SIZE file"),
    ] {
        ensure!(text(&first, key) == wanted, "`{key}` is not `{wanted}` in {first}");
    }
    ensure!(!text(&first, "commandStartTime").is_empty(), "no start of the command in {first}");
    let further = |session: &Value| number(session, "bytesSent") > number(&first, "bytesSent") + 500_000;
    let second = stage.wait(&endpoint, |sessions| sessions.iter().any(further))?;
    let second = second.into_iter().find(further).unwrap_or_default();
    ensure!(text(&second, "sessionId") == id, "another session: {second}");
    ensure!(number(&second, "lastErrorStatus") == 150, "the last reply is not shown in {second}");
    ensure!(number(&second, "bytesReceived") == 0, "bytes move in the wrong direction: {second}");
    let start = Instant::now();
    let kill = stage.control(&endpoint)?.args(["sessions", "kill", &id, "--reason", "enough of it"]);
    kill.finish()?.succeeded()?;
    stage.wait(&endpoint, <[Value]>::is_empty)?;
    while !client.has_ended()? {
        ensure!(start.elapsed() < Duration::from_secs(5), "the client goes on\n{}", client.log());
        thread::sleep(Duration::from_millis(10));
    }
    let got = std::fs::metadata(&here).map_or(0, |file| file.len());
    ensure!(got < size, "the file was sent to its end");
    says(&endpoint.log(), "enough of it")?;
    // Whoever comes next is served.
    drive::curl_by_password(scene.kit, &scene.at, "/")?.arg("--list-only").text().map(drop)
}

const BLOCK: &str = "
if (ExtractExt(CtxRelPath()) === '.exe') {
  Session.BlockOperation('no programs, please');
}
";

fn blocks_by_hook(stage: &Stage) -> Result<()> {
    let endpoint = stage.start(&Extra { hooks: &[("BeforeFileUpload", BLOCK)], ..Extra::default() })?;
    let scene = stage.scene(&endpoint)?;
    make(&scene.here("file"), 1)?;
    let (file, folder) = (scene.here("file"), &scene.folder);
    let said = sftp_fails(&scene, &format!("put {} {folder}a.exe\n", file.display()))?;
    says(&said, "Permission denied")?;
    // Our client passes the words on. The file is small: a larger one goes by a temporary name first, and
    // that is what this event sees; `BeforeFileRename` sees the final one.
    let small = scene.here("small");
    write(&small, "small")?;
    let url = drive::ferry_url(&scene.at, &scene.remote("b.exe"));
    let done = drive::ferry(scene.kit, stage.ferry, &scene.at).arg("put").arg(&small).arg(url).finish()?;
    ensure!(done.code == Some(6), "ferry ends with {:?}, not 6:\n{}", done.code, done.stderr);
    says(&done.stderr, "no programs, please")?;
    sftp(&scene, &format!("put {} {folder}a.txt\n", file.display()))?;
    holds(&scene.there("a.txt"), &bytes(1))?;
    holds_names(&scene.root, &["a.txt"])
}

const LOG: &str = "
{
  Log(Session.GetID());
  Log(Session.GetUser().Username);
}
";

fn logs_by_hook(stage: &Stage) -> Result<()> {
    let wait = "Log('closed ' + Session.GetID())";
    let hooks = [("OnAuthSuccess", LOG), ("OnConnectionClose", wait)];
    let mut endpoint = stage.start(&Extra { hooks: &hooks, ..Extra::default() })?;
    let at = endpoint.at.clone();
    drive::sftp(stage.kit, &at, "pwd\n")?.finish()?.succeeded()?;
    let closed = endpoint.line(|line| line.contains("closed "))?;
    let id: String = closed
        .split_once("closed ")
        .map(|(_, rest)| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect())
        .unwrap_or_default();
    ensure!(id.len() > 8, "no id in `{closed}`");
    let log = endpoint.log();
    let hooked = |word: &str| log.lines().any(|line| line.contains("OnAuthSuccess") && line.contains(word));
    ensure!(hooked(&id) && hooked(&at.user), "the hook did not log id and user:\n{log}");
    Ok(())
}

fn keeps_permissions(stage: &Stage) -> Result<()> {
    let user = "[users.permissions]\n\"/\" = [\"list\", \"get\"]\n\"/in\" = [\"list\", \"put\", \"make\"]\n";
    let endpoint = stage.start(&Extra { user, ..Extra::default() })?;
    std::fs::create_dir(endpoint.root.join("in")).doing(|| "making a folder".to_owned())?;
    make(&endpoint.root.join("file"), 1)?;
    let scene = stage.scene(&endpoint)?;
    make(&scene.here("new"), 2)?;
    let (new, back) = (scene.here("new"), scene.here("back"));
    sftp(&scene, &format!("get /file {}\nput {} /in/new\n", back.display(), new.display()))?;
    holds(&back, &bytes(1))?;
    holds(&endpoint.root.join("in/new"), &bytes(2))?;
    for forbidden in [
        format!("put {} /other\n", new.display()),
        "rm /file\n".to_owned(),
        "rename /file /in/file\n".to_owned(),
        "rm /in/new\n".to_owned(),
        "mkdir /folder\n".to_owned(),
        "chmod 777 /file\n".to_owned(),
        "ln -s /file /in/link\n".to_owned(),
    ] {
        says(&sftp_fails(&scene, &forbidden)?.to_lowercase(), "permission denied")?;
    }
    says(
        &sftp_fails(&scene, &format!("get /in/new {}\n", back.display()))?.to_lowercase(),
        "permission denied",
    )?;
    holds(&endpoint.root.join("file"), &bytes(1))?;
    holds_names(&endpoint.root.join("in"), &["new"])
}

fn refuses_wrong_logins(stage: &Stage) -> Result<()> {
    let mut endpoint = stage.start(&Extra::default())?;
    let scene = Scene::new(stage.kit, &endpoint, stage.ferry)?;
    let stranger = scene.here("stranger");
    program("ssh-keygen")?
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&stranger)
        .finish()?
        .succeeded()?;
    let at = endpoint.at.clone();
    let nobody = Address { user: "nobody-else".to_owned(), ..at.clone() };
    let unknown = drive::sftp(stage.kit, &nobody, "pwd\n")?.finish()?.refused()?;
    says(&unknown.stderr, "Permission denied")?;
    let wrong = drive::sftp_as(stage.kit, &at, &stranger, "pwd\n")?.finish()?.refused()?;
    says(&wrong.stderr, "Permission denied")?;
    let words = |text: &str| {
        let line = text.lines().find(|line| line.contains("Permission denied")).unwrap_or_default();
        line.replace("nobody-else", "").replace(&at.user, "")
    };
    ensure!(
        words(&unknown.stderr) == words(&wrong.stderr),
        "an unknown user reads other words:\n{}\n{}",
        unknown.stderr,
        wrong.stderr
    );
    endpoint.line(|line| line.contains("login failed") && line.contains("nobody-else"))?;
    let secret = String::from_utf8_lossy(&crate::process::read(&stage.kit.key)?).into_owned();
    let inner = secret.lines().nth(1).unwrap_or_default().to_owned();
    ensure!(inner.len() > 20 && !endpoint.log().contains(&inner), "a key is in the log");
    Ok(())
}

fn finds_faults(stage: &Stage) -> Result<()> {
    let endpoint = stage.start(&Extra::default())?;
    let scene = stage.scene(&endpoint)?;
    let check = |text: &str| -> Result<(Option<i32>, String)> {
        let file = scene.here("faulty.toml");
        write(&file, text)?;
        let done = Run::new(stage.ferryd)
            .env("HOME", stage.kit.join(""))
            .arg("--config")
            .arg(&file)
            .arg("check")
            .finish()?;
        Ok((done.code, done.stdout + &done.stderr))
    };
    let (code, said) = check("site = \"x\"\nprot = 5\n")?;
    ensure!(code == Some(2), "an unknown key ends with {code:?}:\n{said}");
    says(&said, "faulty.toml:2")?;
    says(&said, "prot")?;
    let (code, said) = check("[[listeners]]\nport = 70000\n")?;
    ensure!(code == Some(2), "a port beyond all ends with {code:?}:\n{said}");
    says(&said, "faulty.toml:2")?;
    let (code, said) = check("[[users]]\nname = \"a\"\npassword = \"in clear\"\n")?;
    ensure!(code == Some(2), "a password that is no hash ends with {code:?}:\n{said}");
    ensure!(!said.contains("in clear"), "a secret is repeated:\n{said}");
    Ok(())
}

fn garbage_before_login(stage: &Stage) -> Result<()> {
    let endpoint = stage.start(&Extra::default())?;
    let scene = stage.scene(&endpoint)?;
    let noise = bytes(3);
    let banner: &[u8] = b"SSH-2.0-garbage\r\n";
    let long = [b"SSH-2.0-".as_slice(), &[b'a'; 100_000], b"\r\n"].concat();
    let huge = [banner, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], noise.as_slice()].concat();
    let empty_packet = [banner, &[0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let messages: [&[u8]; 7] =
        [b"", b"GET / HTTP/1.1\r\n\r\n", b"SSH-1.5-old\r\n", noise.as_slice(), &long, &huge, &empty_packet];
    for message in messages {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, endpoint.at.port)).doing(|| "connecting".to_owned())?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).doing(|| "setting up".to_owned())?;
        // The server may hang up before it has read all of it.
        let _ = stream.write_all(message).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let end = stream.take(1 << 20).read_to_end(&mut answer);
        let is_over = end.is_ok() || answer.len() < 1 << 20;
        ensure!(is_over, "the server goes on talking to garbage");
        sftp(&scene, "pwd\n")?;
    }
    // Connections that are cut at every stage of a login leave nothing behind.
    stage.wait(&endpoint, <[Value]>::is_empty)?;
    ensure!(!endpoint.log().contains("panicked"), "something panicked:\n{}", endpoint.log());
    Ok(())
}

const MALFORMED: &str = "
import struct
class Ear(asyncssh.SSHClientSession):
    def connection_made(self, channel):
        self.data, self.more = b'', asyncio.Event()
    def data_received(self, data, kind):
        self.data += data
        self.more.set()
    def connection_lost(self, error):
        self.more.set()
def packet(kind, *parts):
    body = bytes([kind]) + b''.join(parts)
    return struct.pack('>I', len(body)) + body
def number(n):
    return struct.pack('>I', n)
init = packet(1, number(3))
async def send(data):
    channel, ear = await connection.create_session(Ear, subsystem='sftp', encoding=None)
    channel.write(data)
    return channel, ear
async def is_closed(data):
    channel, ear = await send(data)
    await asyncio.wait_for(channel.wait_closed(), 15)
async def status(data):
    # The status of the first reply behind that to the greeting.
    channel, ear = await send(init + data)
    async def replies():
        while True:
            at, found = 0, []
            while at + 4 <= len(ear.data):
                size = struct.unpack('>I', ear.data[at:at + 4])[0]
                if at + 4 + size > len(ear.data):
                    break
                found.append(ear.data[at + 4:at + 4 + size])
                at += 4 + size
            if len(found) >= 2:
                return found
            if channel.is_closing():
                return None
            ear.more.clear()
            await ear.more.wait()
    found = await asyncio.wait_for(replies(), 15)
    channel.close()
    if found is None:
        return 'closed'
    assert found[1][0] == 101, found
    return struct.unpack('>I', found[1][5:9])[0]
# What cannot be a packet ends the channel.
await is_closed(b'\\xff\\xff\\xff\\xff' + b'x' * 100)
await is_closed(init + b'\\x7f\\xff\\xff\\xff' + b'x' * 100)
await is_closed(packet(17, number(1), number(0)))
# What is cut short or unknown is told so, or ends the channel.
assert await status(packet(250, number(7))) == 8
assert await status(packet(200, number(7), number(3), b'a@b')) == 8
assert await status(packet(5, number(7), number(4), b'none', b'\\0' * 8, number(100))) in (4, 'closed')
assert await status(packet(4, number(7), number(4), b'none')) in (4, 'closed')
for data in [packet(3, number(7), number(4000), b'short'), packet(17, number(7)), packet(5, number(7), b'x'),
             packet(9, number(7), number(1), b'/', number(0xffffffff)), packet(3), packet(0)]:
    assert await status(data) in (4, 5, 8, 'closed'), data
# An endless path, one with a zero in it.
assert await status(packet(17, number(7), number(20000), b'a/' * 10000)) in (2, 4, 5)
assert await status(packet(17, number(7), number(3), b'a\\0b')) in (2, 4, 5)
# The other session of this connection lives.
assert (await sftp.stat('.')).type == 2
";

fn malformed_packets(stage: &Stage) -> Result<()> {
    let endpoint = stage.start(&Extra::default())?;
    let done =
        drive::asyncssh(stage.kit, &endpoint.at, MALFORMED)?.limit(Duration::from_secs(120)).finish()?;
    done.succeeded().doing(|| endpoint.tail())?;
    ensure!(!endpoint.log().contains("panicked"), "something panicked:\n{}", endpoint.log());
    stage.wait(&endpoint, <[Value]>::is_empty).map(drop)
}

fn passes_ssh_audit(stage: &Stage) -> Result<()> {
    let endpoint = stage.start(&Extra::default())?;
    let done = program("ssh-audit")?
        .env("HOME", stage.kit.join(""))
        .args(["-j", "--skip-rate-test", "-p", &endpoint.at.port.to_string(), "127.0.0.1"])
        .limit(Duration::from_secs(120))
        .finish()?;
    let said: Value =
        serde_json::from_str(&done.stdout).doing(|| format!("reading `{}`{}", done.stdout, done.stderr))?;
    let mut failures = Vec::new();
    let mut warnings = Vec::new();
    let mut seen = 0;
    for part in ["kex", "key", "enc", "mac"] {
        for entry in said.get(part).and_then(Value::as_array).into_iter().flatten() {
            seen += 1;
            let name = text(entry, "algorithm").to_owned();
            let notes = |key: &str| {
                let notes = entry.pointer(&format!("/notes/{key}")).and_then(Value::as_array);
                notes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
            };
            failures.extend(notes("fail").into_iter().map(|note| format!("{name}: {note}")));
            warnings.extend(notes("warn").into_iter().map(|note| format!("{name}: {note}")));
        }
    }
    ensure!(seen >= 8, "ssh-audit saw {seen} algorithms only:\n{}", done.stdout);
    ensure!(failures.is_empty(), "ssh-audit fails: {failures:?}");
    let known =
        |warning: &&String| warning.starts_with("curve25519-sha256") && warning.contains("post-quantum");
    let other: Vec<&String> = warnings.iter().filter(|warning| !known(warning)).collect();
    ensure!(other.is_empty(), "ssh-audit warns: {other:?}");
    Ok(())
}

/// A small disk, until it is dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(path: std::path::PathBuf, size: &str) -> Result<Self> {
        std::fs::create_dir_all(&path).doing(|| format!("making {}", path.display()))?;
        let run = Run::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "none"]);
        run.arg(&path).finish()?.succeeded()?;
        Ok(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(fault) = Run::new("umount").arg("-l").arg(&self.0).finish().and_then(|d| d.succeeded()) {
            eprintln!("{} may still be mounted: {fault}", self.0.display());
        }
    }
}

/// An upload for which there is no room says so, and costs nothing of what was there.
fn full_disk(stage: &Stage) -> Result<()> {
    let disk = SmallDisk::new(stage.kit.join("small-disk"), "4m")?;
    let endpoint = stage.start(&Extra { root: Some(&disk.0), ..Extra::default() })?;
    let scene = stage.scene(&endpoint)?;
    let old = make(&scene.there("name"), 1)?;
    let large = scene.here("large");
    write(&large, vec![b'x'; 8 << 20])?;
    let said = sftp_fails(&scene, &format!("put {} {}\n", large.display(), scene.remote("name")))?;
    says(&said, "Failure")?;
    holds(&scene.there("name"), &old)?;
    let done = drive::ferry(stage.kit, stage.ferry, &scene.at)
        .arg("put")
        .arg(&large)
        .arg(drive::ferry_url(&scene.at, &scene.remote("name")))
        .finish()?
        .refused()?;
    says(&done.stderr, "space")?;
    holds(&scene.there("name"), &old)?;
    holds_names(&scene.root, &["name"])?;
    // What failed does not keep its room: what fits is taken.
    make(&scene.here("small"), 2)?;
    sftp(&scene, &format!("put {} {}\n", scene.here("small").display(), scene.remote("other")))?;
    holds(&scene.there("other"), &bytes(2))
}
