//! Messages of OpenPGP that a partner's GnuPG has made, opened by a handler on arrival, and made for one that is kept.
//!
//! The handler is the recipe of the manual.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Stage, sftp, sftp_fails};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::cases::{bytes, holds, is_absent, make, says};
use crate::peers::servers::{Endpoint, Extra};
use crate::peers::{drive, program};
use crate::process::{Run, TempDir, read, set_mode, write};
use crate::repo;

/// The phrase of the keeper's key.
const PHRASE: &str = "open sesame";

/// More than the server may keep of it.
const LARGE: usize = 64 << 20;

/// What the server may need for that, in kB.
const MOST: u64 = 48 << 10;

/// A home of GnuPG; dropped, it ends its agent.
struct Home(PathBuf);

impl Home {
    fn new(base: &TempDir, name: &str) -> Result<Self> {
        let dir = base.join(name);
        std::fs::create_dir(&dir).doing(|| format!("making {}", dir.display()))?;
        set_mode(&dir, 0o700)?;
        Ok(Home(dir))
    }

    fn gpg(&self) -> Result<Run> {
        let gpg = program("gpg")?.args(["--batch", "--no-tty", "--no-options", "--trust-model", "always"]);
        Ok(gpg.args(["--pinentry-mode", "loopback", "--homedir"]).arg(&self.0))
    }

    /// Makes a key on an elliptic curve, which takes no time; its fingerprint.
    fn key(&self, name: &str, phrase: &str) -> Result<String> {
        let made = self.gpg()?.args([
            "--passphrase",
            phrase,
            "--quick-gen-key",
            name,
            "future-default",
            "default",
            "never",
        ]);
        made.finish()?.succeeded()?;
        let listed = self.gpg()?.args(["--with-colons", "--list-keys", name]).text()?;
        let line = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::"));
        let key = line.and_then(|line| line.strip_suffix(':'));
        key.map(str::to_owned).ok_or_else(|| Fault::new(format!("there is no fingerprint in:\n{listed}")))
    }

    /// Learns a public key of another home.
    fn learn(&self, from: &Home, key: &str) -> Result<()> {
        let exported = from.gpg()?.args(["--armor", "--export", key]).text()?;
        self.gpg()?.arg("--import").input(exported).finish()?.succeeded().map(drop)
    }

    fn has_agent(&self) -> Result<bool> {
        let asked = program("gpg-connect-agent")?.args(["--no-autostart", "--homedir"]).arg(&self.0);
        let told = asked.args(["GETINFO pid", "/bye"]).finish()?.stdout;
        Ok(told.lines().any(|line| line.starts_with("D ")))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The folder goes next, and an agent with it.
        let _ = Run::new("gpgconf").arg("--homedir").arg(&self.0).args(["--kill", "gpg-agent"]).finish();
    }
}

/// A message of `file` at `to`, with these arguments more.
fn message(home: &Home, file: &Path, to: &Path, recipient: &str, more: &[&str]) -> Result<()> {
    let run = home.gpg()?.args(["--yes", "--recipient", recipient]).args(more).arg("--output").arg(to);
    run.args(["--encrypt"]).arg(file).finish()?.succeeded().map(drop)
}

/// A server with the recipe and this phrase.
fn server(stage: &Stage<'_>, home: &Home, keeper: &str, partner: &str, phrase: &str) -> Result<Endpoint> {
    let dir = stage.kit.join("pgp");
    std::fs::create_dir_all(&dir).doing(|| format!("making {}", dir.display()))?;
    let recipe = read(&repo::root().join("docs/recipes/pgp-on-arrival.js"))?;
    let recipe = String::from_utf8_lossy(&recipe)
        .replace("A9167095A641AA92FB2AA493442A836F61A3D95C", partner)
        .replace("85ACE7DDC7DC43AD213E57299472AE6F0FE8AD12", keeper);
    let (file, secrets) = (dir.join("pgp.js"), dir.join("secrets.toml"));
    write(&file, recipe)?;
    write(&secrets, format!("phrase = {phrase:?}\n"))?;
    set_mode(&secrets, 0o600)?;
    let lines = format!(
        "[[hooks]]\nevent = \"BeforeCommit\"\nfile = {file:?}\ngrant = [\"files\", \"pgp\"]\ntime = \"2m\"\n\
         [scripts]\nsecrets = {secrets:?}\n[pgp]\nhome = {:?}\n[pgp.passphrases]\n{keeper} = \"phrase\"\n",
        home.0
    );
    let endpoint = stage.start(&Extra { lines: &lines, ..Extra::default() })?;
    for folder in ["in", "vault"] {
        std::fs::create_dir_all(endpoint.root.join(folder)).doing(|| format!("making {folder}"))?;
    }
    Ok(endpoint)
}

/// Stops a server in good order; the agent that it needed is gone with it.
fn stop(endpoint: &Endpoint, home: &Home) -> Result<()> {
    ensure!(home.has_agent()?, "no agent was needed");
    Run::new("kill").args(["-s", "TERM", &endpoint.process().to_string()]).finish()?.succeeded()?;
    let end = Instant::now() + Duration::from_secs(20);
    while home.has_agent()? {
        ensure!(Instant::now() < end, "the agent outlives the server\n{}", endpoint.tail());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The most memory that a process has had, in kB.
fn peak(process: u32) -> Result<u64> {
    let text = read(Path::new(&format!("/proc/{process}/status")))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let size = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    size.ok_or_else(|| Fault::new(format!("there is no VmHWM in:\n{text}")))
}

/// See the module's header.
pub(super) fn opened_and_made_on_arrival(stage: &Stage<'_>) -> Result<()> {
    // The socket of an agent stands in its home: its path may not be long.
    let base = TempDir::new("pgp")?;
    let (ours, theirs) = (Home::new(&base, "o")?, Home::new(&base, "t")?);
    let keeper = ours.key("keeper@example.com", PHRASE)?;
    let (partner, stranger) =
        (theirs.key("partner@example.com", "")?, theirs.key("stranger@example.com", "")?);
    theirs.learn(&ours, &keeper)?;
    ours.learn(&theirs, &partner)?;
    let (plain, good) = (base.join("plain"), base.join("good"));
    make(&plain, 1)?;
    message(&theirs, &plain, &good, &keeper, &["--sign", "--local-user", &partner])?;
    drop(Run::new("gpgconf").arg("--homedir").arg(&ours.0).args(["--kill", "gpg-agent"]).finish()?);

    // A phrase that opens nothing: the upload is refused, and what is there stays.
    let endpoint = server(stage, &ours, &keeper, &partner, "open barley")?;
    let scene = stage.scene(&endpoint)?;
    write(&endpoint.root.join("in/a"), "old")?;
    let put = |file: &Path, to: &str| format!("put {} /{to}\n", file.display());
    sftp_fails(&scene, &put(&good, "in/a.pgp"))?;
    // Our client passes the words on.
    let url = drive::ferry_url(&scene.at, "/in/a.pgp");
    let run = drive::ferry(scene.kit, stage.ferry, &scene.at).args(["put", "--no-temporary"]);
    says(&run.arg(&good).arg(url).finish()?.refused()?.stderr, "the passphrase does not open the key")?;
    holds(&endpoint.root.join("in/a"), b"old")?;
    is_absent(&endpoint.root.join("in/a.pgp"))?;
    drop(scene);
    stop(&endpoint, &ours)?;
    drop(endpoint);

    let endpoint = server(stage, &ours, &keeper, &partner, PHRASE)?;
    let scene = stage.scene(&endpoint)?;
    let put = |file: &Path, to: &str| format!("put {} /{to}\n", file.display());
    sftp(&scene, &put(&good, "in/a.pgp"))?;
    holds(&endpoint.root.join("in/a"), &bytes(1))?;
    is_absent(&endpoint.root.join("in/a.pgp"))?;

    let mut changed = read(&good)?;
    let middle = changed.len() / 2;
    if let Some(byte) = changed.get_mut(middle) {
        *byte ^= 1;
    }
    let cut = changed.get(..middle).unwrap_or_default().to_vec();
    let by_stranger = ["--sign", "--local-user", stranger.as_str()];
    let unprotected = ["--rfc2440", "--disable-mdc", "--cipher-algo", "3DES"];
    let bad = |name: &str| base.join(name);
    write(&bad("changed"), changed)?;
    write(&bad("cut"), cut)?;
    message(&theirs, &plain, &bad("stranger"), &keeper, &by_stranger)?;
    message(&theirs, &plain, &bad("nobody"), &keeper, &[])?;
    message(&theirs, &plain, &bad("unprotected"), &keeper, &unprotected)?;
    message(&theirs, &plain, &bad("other"), &partner, &["--sign", "--local-user", &partner])?;
    let signed = theirs.gpg()?.args(["--local-user", &partner, "--output"]).arg(bad("signed")).arg("--sign");
    signed.arg(&plain).finish()?.succeeded()?;
    for name in ["changed", "cut", "stranger", "nobody", "unprotected", "other", "signed", "plain"] {
        sftp_fails(&scene, &put(&bad(name), &format!("in/{name}.pgp")))?;
        is_absent(&endpoint.root.join(format!("in/{name}")))?;
        is_absent(&endpoint.root.join(format!("in/{name}.pgp")))?;
    }

    // A large one passes through, and is kept nowhere.
    let large = base.join("large");
    let content: Vec<u8> = bytes(2).into_iter().cycle().take(LARGE).collect();
    write(&large, &content)?;
    sftp(&scene, &put(&plain, "vault/small"))?;
    let before = peak(endpoint.process())?;
    sftp(&scene, &put(&large, "vault/large"))?;
    let after = peak(endpoint.process())?;
    println!("    64 MiB encrypted: {} kB more at the peak, {before} kB before", after - before);
    ensure!(after - before < MOST, "it needed {} kB more than before", after - before);
    is_absent(&endpoint.root.join("vault/large"))?;
    let back = base.join("back");
    let open = ours.gpg()?.args(["--passphrase", PHRASE, "--output"]).arg(&back).arg("--decrypt");
    open.arg(endpoint.root.join("vault/large.pgp")).finish()?.succeeded()?;
    holds(&back, &content)?;
    // And back: what is encrypted here is opened there.
    message(&theirs, &large, &good, &keeper, &["--sign", "--local-user", &partner])?;
    sftp(&scene, &put(&good, "in/large.pgp"))?;
    holds(&endpoint.root.join("in/large"), &content)?;
    let last = peak(endpoint.process())?;
    ensure!(last - before < MOST, "it needed {} kB more than before", last - before);
    drop(scene);
    stop(&endpoint, &ours)
}
