//! Installs other people's software where it is absent: Debian packages and PyPI packages. Of packages that
//! exclude each other, as servers of FTP do, one is installed and the others are unpacked beside it.
//!
//! Through the machine's own package managers with their own configuration: which mirror they use is
//! not our business. Services that a package would start are kept from starting. Nothing is upgraded.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::fault::{Fault, Result, While, bail, ensure};
use crate::process::{Run, TempDir, find_program, set_mode, write};
use crate::repo;

const APT: Duration = Duration::from_secs(600);
const PIP: Duration = Duration::from_secs(300);
const BUILD: Duration = Duration::from_secs(1800);
const TRIES: usize = 3;

/// Serialises the package managers, which lock each other out anyway; true once the lists are fresh.
static LISTS_FRESH: Mutex<bool> = Mutex::new(false);

/// Installs the Debian packages that are not installed yet. Needs root or a `sudo` that does not ask.
/// Errors: not a Debian machine, no rights, no such package, no network.
pub(crate) fn ensure_debian(packages: &[&str]) -> Result<()> {
    let mut fresh = LISTS_FRESH.lock().map_err(|_| Fault::new("an installation ended in the middle"))?;
    let absent: Vec<&str> = packages.iter().copied().filter(|name| !is_installed(name)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    ensure!(find_program("apt-get").is_some(), "no apt-get here; needed: {}", absent.join(" "));
    println!("installing {}", absent.join(" "));
    let quiet = QuietServices::begin()?;
    let mut faults: Vec<String> = Vec::new();
    for _ in 0..TRIES {
        // Stale lists name versions that the mirror no longer has, so a failure refreshes them as well.
        if !*fresh || !faults.is_empty() {
            match apt(&["update", "-q"]) {
                Ok(()) => *fresh = true,
                Err(fault) => faults.push(fault.to_string()),
            }
        }
        let mut args = vec!["install", "-q", "-y", "--no-install-recommends", "--no-upgrade", "--"];
        args.extend(&absent);
        match apt(&args) {
            Ok(()) => {
                drop(quiet);
                return Ok(());
            }
            Err(fault) => faults.push(fault.to_string()),
        }
    }
    bail!("installing {}: {}", absent.join(" "), faults.join("\n"))
}

/// Where [`ensure_unpacked`] puts packages.
fn unpacked_dir() -> Result<PathBuf> {
    Ok(repo::target_dir()?.join("xtask").join("unpacked"))
}

/// Fetches a Debian package and unpacks it into a folder of ours, without installing it; what it depends on
/// must be installed by the caller. Errors: as [`ensure_debian`].
pub(crate) fn ensure_unpacked(package: &str) -> Result<()> {
    let dir = unpacked_dir()?.join(package);
    if dir.is_dir() {
        return Ok(());
    }
    ensure!(find_program("apt-get").is_some(), "no apt-get here; needed: {package}");
    println!("unpacking {package}");
    let mut fresh = LISTS_FRESH.lock().map_err(|_| Fault::new("an installation ended in the middle"))?;
    let fetched = TempDir::new("package")?;
    let download = || {
        let run = Run::new("apt-get").args(["-q", "-o", "Acquire::Retries=3", "download", package]);
        run.dir(fetched.join("")).limit(APT).finish()?.succeeded().map(drop)
    };
    if download().is_err() {
        apt(&["update", "-q"])?;
        *fresh = true;
        download()?;
    }
    let mut files = std::fs::read_dir(fetched.join("")).doing(|| format!("looking for {package}"))?;
    let file = files.next().ok_or_else(|| Fault::new(format!("apt-get fetched no {package}")))?;
    let file = file.doing(|| format!("looking for {package}"))?.path();
    let draft = unpacked_dir()?.join(format!("{package}.new"));
    let _ = std::fs::remove_dir_all(&draft);
    std::fs::create_dir_all(&draft).doing(|| format!("making {}", draft.display()))?;
    Run::new("dpkg").arg("-x").arg(&file).arg(&draft).finish()?.succeeded()?;
    std::fs::rename(&draft, &dir).doing(|| format!("making {}", dir.display()))
}

/// A program of a package that was unpacked.
pub(crate) fn unpacked_program(name: &str) -> Option<PathBuf> {
    let packages = std::fs::read_dir(unpacked_dir().ok()?).ok()?;
    let places = packages
        .flatten()
        .flat_map(|package| ["usr/sbin", "usr/bin"].map(|place| package.path().join(place).join(name)));
    places.into_iter().find(|path| path.is_file())
}

fn is_installed(package: &str) -> bool {
    Run::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .finish()
        .is_ok_and(|done| done.is_success() && done.stdout.trim() == "installed")
}

fn apt(args: &[&str]) -> Result<()> {
    let mut run = as_root("apt-get")?
        .args(["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"])
        .args(args)
        .limit(APT);
    run = run.env("DEBIAN_FRONTEND", "noninteractive");
    run.finish()?.succeeded().map(drop)
}

/// A program that runs as root: as it is, or by a sudo that keeps the frontend's setting.
fn as_root(program: &str) -> Result<Run> {
    if is_root() {
        return Ok(Run::new(program));
    }
    ensure!(find_program("sudo").is_some(), "`{program}` needs root, and there is no sudo");
    Ok(Run::new("sudo").args(["-n", "DEBIAN_FRONTEND=noninteractive", program]))
}

/// Whether this process has the rights of root.
pub(crate) fn is_root() -> bool {
    Run::new("id").arg("-u").text().is_ok_and(|id| id.trim() == "0")
}

/// While it lives, packages that are installed start no service: they would take well-known ports of a
/// machine that only wants to run tests. A policy of the machine's own is left alone.
struct QuietServices {
    made: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl QuietServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { made: false });
        }
        let dir = TempDir::new("policy")?;
        let draft = dir.join("policy");
        write(&draft, "#!/bin/sh\nexit 101\n")?;
        set_mode(&draft, 0o755)?;
        as_root("install")?.args(["-m", "0755"]).arg(&draft).arg(POLICY).finish()?.succeeded()?;
        Ok(Self { made: true })
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if self.made {
            let removed = as_root("rm").and_then(|run| run.args(["-f", POLICY]).finish());
            if let Err(fault) = removed {
                eprintln!("{POLICY} stayed behind: {fault}");
            }
        }
    }
}

/// The folder of the Python environment that [`ensure_python`] fills.
pub(crate) fn python_dir() -> Result<PathBuf> {
    Ok(repo::target_dir()?.join("xtask").join("venv"))
}

/// Installs PyPI packages into our own Python environment and returns its `bin` folder. A package is
/// `name` or `name==version`.
pub(crate) fn ensure_python(packages: &[&str]) -> Result<PathBuf> {
    let dir = python_dir()?;
    let bin = dir.join("bin");
    let python = bin.join("python");
    // A script of it, which names its place: an environment that was moved has programs that do not start.
    let works = Run::new(bin.join("pip")).arg("--version").finish().is_ok_and(|done| done.is_success());
    if !works {
        // Debian's own python: another one that is first in the path may lack venv or headers.
        ensure_debian(&["python3", "python3-venv"])?;
        if dir.exists() {
            std::fs::remove_dir_all(&dir).doing(|| format!("removing {}", dir.display()))?;
        }
        Run::new("/usr/bin/python3").args(["-m", "venv"]).arg(&dir).limit(PIP).finish()?.succeeded()?;
    }
    let absent: Vec<&str> =
        packages.iter().copied().filter(|package| !has_python(&python, package)).collect();
    if absent.is_empty() {
        return Ok(bin);
    }
    println!("installing {} from PyPI", absent.join(" "));
    Run::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "3", "--"])
        .args(&absent)
        .limit(PIP)
        .finish()?
        .succeeded()?;
    Ok(bin)
}

/// Asks the package's metadata, which is much quicker than asking pip.
fn has_python(python: &Path, package: &str) -> bool {
    let (name, version) = package.split_once("==").unwrap_or((package, ""));
    let script = "import sys, importlib.metadata as m\n\
                  have = m.version(sys.argv[1])\n\
                  sys.exit(0 if sys.argv[2] in ('', have) else 1)";
    Run::new(python).args(["-c", script, name, version]).finish().is_ok_and(|done| done.is_success())
}

/// Where [`ensure_built`] puts programs.
fn built_dir() -> Result<PathBuf> {
    Ok(repo::target_dir()?.join("xtask").join("built"))
}

/// Builds a program from the registry of crates, which takes minutes, into a folder of ours; `how` are arguments for
/// cargo. Errors: as cargo's.
pub(crate) fn ensure_built(name: &str, version: &str, how: &[&str]) -> Result<()> {
    if built_program(name).is_some() {
        return Ok(());
    }
    println!("building {name} {version}");
    let run = Run::new(repo::cargo()).args(["install", "--quiet", "--locked", name, "--version", version]);
    let run = run.args(how).arg("--root").arg(built_dir()?);
    run.limit(BUILD).finish()?.succeeded().map(drop)
}

/// A program that [`ensure_built`] built.
pub(crate) fn built_program(name: &str) -> Option<PathBuf> {
    built_dir().ok().map(|dir| dir.join("bin").join(name)).filter(|program| program.is_file())
}
