//! `ferry` on every server: theirs and ours.
//!
//! Every command, over the network as a person types it; the exit codes are those of `ferry --help`. What a
//! server cannot do, it is not asked: its traits say so.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    Names, OLD, SIZE, Scene, bytes, has_mode, has_time, holds, holds_names, is_absent, listed, make,
    make_tree, plain_tree, same_tree, says, set_time,
};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::drive;
use crate::peers::servers::{self, Address};
use crate::process::{Finished, Run, Server, write};

/// A test of ours on any server.
pub(in crate::peers) struct OurCase {
    /// Behind the name of the server: `SERVER::ferry_NAME`.
    pub(in crate::peers) name: &'static str,
    /// What the server must be able to do.
    pub(in crate::peers) needs: &'static [Trait],
    pub(in crate::peers) run: fn(&Scene) -> Result<()>,
}

/// What not every server can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::peers) enum Trait {
    /// A host key of SSH.
    HostKey,
    /// Symbolic links, as they are on the disk.
    Links,
    /// `hardlink@openssh.com`.
    HardLinks,
    /// Permission bits.
    Modes,
    /// `statvfs@openssh.com`.
    Space,
    /// Names with blanks at their ends, quotes, backslashes.
    OddNames,
    /// Names that are no text, or that hold control characters.
    AnyNames,
    /// Names that are no text.
    ByteNames,
    /// Names that begin with a dot, in listings.
    DotNames,
    /// The time that a client sets.
    Times,
    /// An upload into a folder that is not there is refused, and the folder not made.
    Refusals,
    /// An upload that broke off leaves what arrived under the name that the client gave it.
    Leftovers,
}

const fn case(name: &'static str, needs: &'static [Trait], run: fn(&Scene) -> Result<()>) -> OurCase {
    OurCase { name, needs, run }
}

pub(in crate::peers) const OURS: &[OurCase] = &[
    case("ferry_lists", &[], lists),
    case("ferry_lists_hidden_names", &[Trait::DotNames], lists_hidden_names),
    case("ferry_moves_a_file", &[], moves_a_file),
    case("ferry_keeps_times", &[Trait::Times], keeps_times),
    case("ferry_keeps_modes", &[Trait::Modes], keeps_modes),
    case("ferry_moves_a_plain_tree", &[], moves_a_plain_tree),
    case("ferry_moves_a_tree", &[Trait::OddNames, Trait::DotNames], moves_a_tree),
    case("ferry_moves_any_names", &[Trait::AnyNames, Trait::DotNames], moves_any_names),
    case("ferry_moves_what_is_no_text", &[Trait::ByteNames], moves_what_is_no_text),
    case("ferry_resumes_a_download", &[], resumes_a_download),
    case("ferry_resumes_an_upload", &[Trait::Leftovers], resumes_an_upload),
    case("ferry_changes_names", &[], changes_names),
    case("ferry_links", &[Trait::Links], links),
    case("ferry_makes_hard_links", &[Trait::HardLinks], hard_links),
    case("ferry_tells_space", &[Trait::Space], tells_space),
    case("ferry_hashes", &[], hashes),
    case("ferry_copies_to_another_server", &[Trait::DotNames], copies_to_another_server),
    case("ferry_fails_in_clear_words", &[Trait::Refusals], fails_in_clear_words),
    case("ferry_trusts_nobody_else", &[Trait::HostKey], trusts_nobody_else),
];

/// What takes minutes on each server; only where it is asked for by name.
pub(in crate::peers) const LONG: &[OurCase] = &[case("ferry_moves_beyond_4_gib", &[], moves_beyond_4_gib)];

fn ferry(scene: &Scene) -> Run {
    if let Err(fault) = scene.endpoint.hand_over(&scene.root) {
        // The command that follows fails, and this says why.
        eprintln!("{fault}");
    }
    drive::ferry(scene.kit, scene.ferry, &scene.at)
}

fn url(scene: &Scene, name: &str) -> String {
    drive::ferry_url(&scene.at, &scene.remote(name))
}

/// Runs a command that must end well; returns its output.
fn good(run: Run) -> Result<String> {
    Ok(run.finish()?.succeeded()?.stdout)
}

/// Runs a command that must end with this code; returns what it said to the person.
fn ends_with(run: Run, code: i32) -> Result<String> {
    let done: Finished = run.finish()?;
    let told = format!("`{}` ends with {:?}, not {code}:\n{}", done.command, done.code, done.stderr);
    ensure!(done.code == Some(code), "{told}");
    Ok(done.stderr)
}

/// The lines of `--json`, as values.
fn json(run: Run) -> Result<Vec<Value>> {
    let text = good(run.arg("--json"))?;
    text.lines().map(|line| serde_json::from_str(line).doing(|| format!("reading `{line}`"))).collect()
}

fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn lists(scene: &Scene) -> Result<()> {
    let content = make(&scene.there("file"), 1)?;
    std::fs::create_dir_all(scene.there("folder/inner")).doing(|| "making folders".to_owned())?;
    write(&scene.there("folder/inner/deep"), "deep")?;
    let text = good(ferry(scene).arg("ls").arg(url(scene, "")))?;
    ensure!(text.lines().eq(["file", "folder"]), "ls says:\n{text}");
    let text = good(ferry(scene).args(["ls", "-l"]).arg(url(scene, "")))?;
    let line = text.lines().find(|line| line.ends_with(" file")).unwrap_or_default();
    says(line, &format!(" {SIZE} 2017-07-14 02:42 "))?;
    let entries = json(ferry(scene).arg("ls").arg(url(scene, "")))?;
    let entry = entries.iter().find(|entry| field(entry, "name") == "file");
    let entry = entry.ok_or_else(|| Fault::new("the JSON listing has no `file`"))?;
    ensure!(field(entry, "size") == SIZE && field(entry, "type") == "file", "an entry is {entry}");
    let text = good(ferry(scene).arg("tree").arg(url(scene, "")))?;
    says(&text, "└── deep")?;
    let found = json(ferry(scene).arg("stat").arg(url(scene, "folder/inner/deep")))?;
    ensure!(found.first().is_some_and(|found| field(found, "size") == 4), "stat says {found:?}");
    // cat's output is bytes; a text survives our reading it.
    ensure!(good(ferry(scene).arg("cat").arg(url(scene, "folder/inner/deep")))? == "deep", "cat says else");
    let done = good(ferry(scene).arg("cat").arg(url(scene, "file")))?;
    ensure!(done == String::from_utf8_lossy(&content), "cat of a large file says something else");
    Ok(())
}

fn lists_hidden_names(scene: &Scene) -> Result<()> {
    write(&scene.there(".hidden"), "")?;
    write(&scene.there("file"), "")?;
    let text = good(ferry(scene).arg("ls").arg(url(scene, "")))?;
    ensure!(text.lines().eq(["file"]), "ls says:\n{text}");
    let text = good(ferry(scene).args(["ls", "-a"]).arg(url(scene, "")))?;
    ensure!(text.lines().any(|line| line == ".hidden"), "ls -a says:\n{text}");
    Ok(())
}

fn moves_a_file(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("a file"), 2)?;
    good(ferry(scene).arg("put").arg(scene.here("a file")).arg(url(scene, "a name")))?;
    holds(&scene.there("a name"), &content)?;
    // Nothing else stays behind, not the temporary name either.
    holds_names(&scene.root, &["a name"])?;
    good(ferry(scene).arg("get").arg(url(scene, "a name")).arg(scene.here("back")))?;
    holds(&scene.here("back"), &content)?;
    holds_names(&scene.local, &["a file", "back"])?;
    // Over what is there already, smaller and larger, and over nothing at all.
    for (number, size) in [5, 200_000, 0].into_iter().enumerate() {
        let mut content = bytes(number + 10);
        content.truncate(size);
        write(&scene.here("next"), &content)?;
        good(ferry(scene).arg("put").arg(scene.here("next")).arg(url(scene, "a name")))?;
        holds(&scene.there("a name"), &content)?;
        good(ferry(scene).arg("get").arg(url(scene, "a name")).arg(scene.here("back")))?;
        holds(&scene.here("back"), &content)?;
    }
    holds_names(&scene.root, &["a name"])
}

/// A file that a counter of 32 bits cannot count, with nothing in most of it.
fn moves_beyond_4_gib(scene: &Scene) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = scene.here("large");
    let made = std::fs::File::create(&file).and_then(|large| {
        large.set_len((4 << 30) + 70_000)?;
        for at in [0, (2 << 30) - 3, (4 << 30) - 3, (4 << 30) + 69_990] {
            large.write_all_at(b"a mark", at)?;
        }
        Ok(())
    });
    made.doing(|| "making a large file".to_owned())?;
    // Up to 13 GB are written and read: as long as a slow disk takes.
    let long = |run: Run| good(run.limit(Duration::from_secs(900)));
    let same = |other: &std::path::Path| long(Run::new("cmp").arg(&file).arg(other)).map(drop);
    let moved = (|| {
        long(ferry(scene).arg("put").arg(&file).arg(url(scene, "large")))?;
        same(&scene.there("large"))?;
        long(ferry(scene).arg("get").arg(url(scene, "large")).arg(scene.here("back")))?;
        same(&scene.here("back"))
    })();
    // The next server's case needs the room.
    for left in [scene.there("large"), scene.here("back")] {
        let _gone = std::fs::remove_file(left);
    }
    moved
}

fn keeps_times(scene: &Scene) -> Result<()> {
    make(&scene.here("file"), 2)?;
    // As small as to go in one piece where that is another way.
    write(&scene.here("small"), "small")?;
    set_time(&scene.here("small"), OLD)?;
    for name in ["file", "small"] {
        good(ferry(scene).arg("put").arg(scene.here(name)).arg(url(scene, name)))?;
        has_time(&scene.there(name), OLD)?;
        good(ferry(scene).arg("get").arg(url(scene, name)).arg(scene.here("back")))?;
        has_time(&scene.here("back"), OLD)?;
    }
    Ok(())
}

fn keeps_modes(scene: &Scene) -> Result<()> {
    make(&scene.here("file"), 3)?;
    good(ferry(scene).arg("put").arg(scene.here("file")).arg(url(scene, "name")))?;
    has_mode(&scene.there("name"), 0o640)?;
    good(ferry(scene).args(["chmod", "604"]).arg(url(scene, "name")))?;
    has_mode(&scene.there("name"), 0o604)?;
    good(ferry(scene).arg("get").arg(url(scene, "name")).arg(scene.here("back")))?;
    has_mode(&scene.here("back"), 0o604)?;
    good(ferry(scene).args(["mkdir", "-m", "751"]).arg(url(scene, "folder")))?;
    has_mode(&scene.there("folder"), 0o751)
}

fn moves_a_tree(scene: &Scene) -> Result<()> {
    trees(scene, Names::Printable)
}

fn moves_any_names(scene: &Scene) -> Result<()> {
    trees(scene, Names::Any)
}

/// Bytes that are no UTF-8, of which Telnet has one mean more than itself.
fn moves_what_is_no_text(scene: &Scene) -> Result<()> {
    let name = OsStr::from_bytes(b"a \xff \x80");
    let at = url(scene, "x").strip_suffix('x').unwrap_or_default().to_owned() + "a%20%FF%20%80";
    let content = make(&scene.here("file"), 3)?;
    good(ferry(scene).arg("put").arg(scene.here("file")).arg(&at))?;
    holds(&scene.there("").join(name), &content)?;
    good(ferry(scene).arg("get").arg(&at).arg(scene.here("back")))?;
    holds(&scene.here("back"), &content)?;
    good(ferry(scene).arg("rm").arg(&at))?;
    ensure!(!scene.there("").join(name).exists(), "it is there yet");
    Ok(())
}

/// Without what a server's own commands stumble over.
fn moves_a_plain_tree(scene: &Scene) -> Result<()> {
    plain_tree(&scene.here("tree"))?;
    good(ferry(scene).args(["put", "-r"]).arg(scene.here("tree")).arg(url(scene, "tree")))?;
    same_tree(&scene.here("tree"), &scene.there("tree"))?;
    good(ferry(scene).args(["get", "-r"]).arg(url(scene, "tree")).arg(scene.here("back")))?;
    same_tree(&scene.here("tree"), &scene.here("back"))?;
    good(ferry(scene).args(["rm", "-r"]).arg(url(scene, "tree")))?;
    is_absent(&scene.there("tree"))
}

fn trees(scene: &Scene, names: Names) -> Result<()> {
    make_tree(&scene.here("tree"), names)?;
    good(ferry(scene).args(["put", "-r"]).arg(scene.here("tree")).arg(url(scene, "tree")))?;
    same_tree(&scene.here("tree"), &scene.there("tree"))?;
    good(ferry(scene).args(["get", "-r"]).arg(url(scene, "tree")).arg(scene.here("back")))?;
    same_tree(&scene.here("tree"), &scene.here("back"))?;
    // Into a folder that is there: the tree keeps its name.
    std::fs::create_dir(scene.here("into")).doing(|| "making a folder".to_owned())?;
    good(ferry(scene).args(["get", "-r"]).arg(url(scene, "tree")).arg(scene.here("into")))?;
    same_tree(&scene.here("tree"), &scene.here("into/tree"))?;
    good(ferry(scene).args(["rm", "-r"]).arg(url(scene, "tree")))?;
    is_absent(&scene.there("tree"))
}

/// Large enough to be killed in the middle.
const LARGE: usize = 192 << 20;
/// How much has arrived when the client is killed.
const ARRIVED: u64 = 96 << 20;

/// Starts a transfer, kills it when `part` has grown, and runs it again: the rest must do.
fn resumes(scene: &Scene, words: [String; 3], part: &std::path::Path) -> Result<()> {
    let run = || ferry(scene).args(&words).limit(Duration::from_secs(120));
    let transfer = Server::start(&run())?;
    let end = Instant::now() + Duration::from_secs(60);
    while part.metadata().map_or(0, |found| found.len()) < ARRIVED {
        ensure!(Instant::now() < end, "{} does not grow\n{}", part.display(), transfer.log());
        thread::sleep(Duration::from_millis(1));
    }
    drop(transfer);
    let left = part.metadata().doing(|| format!("{} is gone with the client", part.display()))?.len();
    ensure!((left as usize) < LARGE, "the client was done before it was killed");
    let lines = json(run())?;
    let summary = lines.last().ok_or_else(|| Fault::new("ferry says nothing"))?;
    let crossed = field(summary, "bytes").as_u64().unwrap_or(u64::MAX);
    ensure!(crossed < LARGE as u64, "all {crossed} bytes crossed again: {summary}");
    is_absent(part)
}

fn large(path: &std::path::Path) -> Result<Vec<u8>> {
    // Each MiB differs from the next, so that a piece in the wrong place shows.
    let piece = bytes(77);
    let mut content = Vec::with_capacity(LARGE);
    for number in 0..LARGE / (1 << 20) {
        let start = content.len();
        content.extend_from_slice(piece.get(..1 << 20).unwrap_or_default());
        if let Some(head) = content.get_mut(start..start + 8) {
            head.copy_from_slice(&(number as u64).to_le_bytes());
        }
    }
    write(path, &content)?;
    Ok(content)
}

fn resumes_a_download(scene: &Scene) -> Result<()> {
    let content = large(&scene.there("file"))?;
    let words = ["get".to_owned(), url(scene, "file"), scene.here("back").display().to_string()];
    resumes(scene, words, &scene.here("back.filepart"))?;
    holds(&scene.here("back"), &content)
}

fn resumes_an_upload(scene: &Scene) -> Result<()> {
    let content = large(&scene.here("file"))?;
    let words = ["put".to_owned(), scene.here("file").display().to_string(), url(scene, "name")];
    resumes(scene, words, &scene.there("name.filepart"))?;
    holds(&scene.there("name"), &content)?;
    holds_names(&scene.root, &["name"])
}

fn changes_names(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 4)?;
    make(&scene.there("other"), 5)?;
    good(ferry(scene).args(["mkdir", "-p"]).arg(url(scene, "a/b/c")))?;
    good(ferry(scene).args(["mkdir", "-p"]).arg(url(scene, "a/b/c")))?;
    good(ferry(scene).arg("mv").arg(url(scene, "file")).arg(url(scene, "a/b/moved")))?;
    holds(&scene.there("a/b/moved"), &bytes(4))?;
    // Over what is there, and into a folder.
    good(ferry(scene).arg("mv").arg(url(scene, "a/b/moved")).arg(url(scene, "other")))?;
    holds(&scene.there("other"), &bytes(4))?;
    good(ferry(scene).arg("mv").arg(url(scene, "other")).arg(url(scene, "a/b")))?;
    holds(&scene.there("a/b/other"), &bytes(4))?;
    good(ferry(scene).arg("cp").arg(url(scene, "a/b/other")).arg(url(scene, "copy")))?;
    holds(&scene.there("copy"), &bytes(4))?;
    ends_with(ferry(scene).arg("rm").arg(url(scene, "a")), 1)?;
    good(ferry(scene).args(["rm", "-r"]).arg(url(scene, "a")))?;
    ends_with(ferry(scene).arg("rm").arg(url(scene, "a")), 5)?;
    good(ferry(scene).args(["rm", "-f"]).arg(url(scene, "a")))?;
    holds_names(&scene.root, &["copy"])
}

fn links(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 6)?;
    good(ferry(scene).args(["ln", "-s", "file"]).arg(url(scene, "link")))?;
    let target = std::fs::read_link(scene.there("link")).doing(|| "reading the link".to_owned())?;
    ensure!(target.as_os_str() == "file", "the link leads to {}", target.display());
    says(&good(ferry(scene).arg("stat").arg(url(scene, "link")))?, "target    file")?;
    good(ferry(scene).arg("get").arg(url(scene, "link")).arg(scene.here("back")))?;
    holds(&scene.here("back"), &bytes(6))?;
    good(ferry(scene).arg("rm").arg(url(scene, "link")))?;
    holds_names(&scene.root, &["file"])
}

fn hard_links(scene: &Scene) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    make(&scene.there("file"), 7)?;
    good(ferry(scene).arg("ln").arg(url(scene, "file")).arg(url(scene, "hard")))?;
    let number = |name: &str| scene.there(name).metadata().map(|found| found.ino()).ok();
    ensure!(number("hard").is_some() && number("hard") == number("file"), "not one file of two names");
    Ok(())
}

fn tells_space(scene: &Scene) -> Result<()> {
    let found = json(ferry(scene).arg("df").arg(url(scene, "")))?;
    let total = found.first().and_then(|found| field(found, "total").as_u64());
    ensure!(total.is_some_and(|total| total > 0), "df says {found:?}");
    Ok(())
}

fn hashes(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 8)?;
    let text = good(ferry(scene).args(["hash", "-a", "sha256"]).arg(url(scene, "file")))?;
    let wanted = Run::new("sha256sum").arg(scene.there("file")).text()?;
    let digest = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    ensure!(digest(&text) == digest(&wanted), "ferry says {text}, sha256sum {wanted}");
    Ok(())
}

fn copies_to_another_server(scene: &Scene) -> Result<()> {
    make_tree(&scene.there("tree"), Names::Printable)?;
    let other = servers::sshd(scene.kit)?;
    // Both keys in one file, as a person's own has them.
    let known = scene.here("known_hosts");
    // A server of FTP has none.
    let mut keys = crate::process::read(&scene.at.known_hosts).unwrap_or_default();
    keys.push(b'\n');
    keys.extend(crate::process::read(&other.at.known_hosts)?);
    write(&known, keys)?;
    let at = Address { known_hosts: known, ..scene.at.clone() };
    let there = drive::ferry_url(&other.at, &format!("{}copy", other.at.folder));
    let run = drive::ferry(scene.kit, scene.ferry, &at).args(["cp", "-r"]);
    good(run.arg(url(scene, "tree")).arg(there))?;
    same_tree(&scene.there("tree"), &other.root.join("copy"))
}

fn fails_in_clear_words(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 9)?;
    let said = ends_with(ferry(scene).arg("get").arg(url(scene, "nothing")).arg(scene.here("x")), 5)?;
    says(&said, "nothing")?;
    is_absent(&scene.here("x"))?;
    ends_with(ferry(scene).arg("put").arg(scene.here("nothing")).arg(url(scene, "x")), 5)?;
    let file = scene.there("file").display().to_string();
    ends_with(ferry(scene).args(["put", &file]).arg(url(scene, "no/such/folder/x")), 5)?;
    ends_with(ferry(scene).arg("ls").arg(url(scene, "nothing")), 5)?;
    let said = ends_with(ferry(scene).args(["ls", "gopher://127.0.0.1/"]), 7)?;
    says(&said, "gopher")?;
    ends_with(ferry(scene).args(["ls", &format!("{}://127.0.0.1:99999/", scene.at.scheme.name())]), 2)?;
    ends_with(ferry(scene).arg("frobnicate"), 2)?;
    // Nobody listens there.
    let port = crate::process::free_port()?;
    let nobody = Address { port, ..scene.at.clone() };
    ends_with(ferry(scene).arg("ls").arg(drive::ferry_url(&nobody, "/")), 3)?;
    // A part of a batch that fails, fails the batch, and the rest of it is done.
    std::fs::create_dir(scene.here("into")).doing(|| "making a folder".to_owned())?;
    let batch = ferry(scene).arg("get").arg(url(scene, "nothing")).arg(url(scene, "file"));
    ends_with(batch.arg(scene.here("into")), 1)?;
    holds(&scene.here("into/file"), &bytes(9))?;
    ensure!(listed(&scene.root)? == ["file"], "something was left behind");
    Ok(())
}

fn trusts_nobody_else(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 1)?;
    let other_key = scene.here("other-key");
    crate::peers::program("ssh-keygen")?
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&other_key)
        .finish()?
        .succeeded()?;
    // A key of this address that is another one than the server's: changed.
    let public = String::from_utf8_lossy(&crate::process::read(&scene.here("other-key.pub"))?).into_owned();
    let changed = scene.here("changed");
    write(&changed, format!("[127.0.0.1]:{} {public}", scene.at.port))?;
    let at = |known_hosts: &std::path::Path| Address {
        known_hosts: known_hosts.to_path_buf(),
        ..scene.at.clone()
    };
    let ls = |at: &Address| drive::ferry(scene.kit, scene.ferry, at).arg("ls").arg(url(scene, ""));
    let said = ends_with(ls(&at(&changed)), 4)?;
    says(&said, "changed")?;
    ends_with(ls(&at(&changed)).arg("--accept-new"), 4)?;
    // No key at all: refused unless told to accept, and written down then.
    let empty = scene.here("empty");
    write(&empty, "")?;
    ends_with(ls(&at(&empty)), 4)?;
    good(ls(&at(&empty)).arg("--accept-new"))?;
    good(ls(&at(&empty)))?;
    // A fingerprint decides alone.
    good(ls(&at(&changed)).args(["--host-key", &scene.at.fingerprint]))?;
    let wrong = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    ends_with(ls(&scene.at).args(["--host-key", wrong]), 4)?;
    // Another key of the user's.
    let stranger = Run::new(scene.ferry)
        .env("HOME", scene.here(""))
        .without_env("SSH_AUTH_SOCK")
        .without_env("FERRY_PASSWORD")
        .args(["--batch", "--identity"])
        .arg(&other_key)
        .arg("--known-hosts")
        .arg(&scene.at.known_hosts)
        .arg("ls")
        .arg(url(scene, ""));
    ends_with(stranger, 4).map(drop)
}
