//! Where things are: the repository, its target folder, its tracked files, its packages.
//!
//! Everything is asked from cargo and git, nothing is remembered between runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::fault::{Result, While, ensure};
use crate::process::Run;

/// Time limit for a question to cargo or git. Long, as cargo may first fetch every dependency.
const ANSWER: Duration = Duration::from_secs(300);

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    let here = PathBuf::from(here);
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// The cargo that runs us, so that a chosen toolchain stays chosen.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// True on machines that test unattended: there nothing may be left out.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// `cargo metadata` of the workspace without dependencies.
pub(crate) fn metadata() -> Result<Value> {
    let text = Run::new(cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .dir(root())
        .limit(ANSWER)
        .text()?;
    serde_json::from_str(&text).doing(|| "reading cargo metadata".to_owned())
}

/// The target folder that cargo uses now.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = metadata()?;
    let dir = metadata.get("target_directory").and_then(Value::as_str).unwrap_or_default();
    ensure!(!dir.is_empty(), "cargo metadata names no target folder");
    Ok(PathBuf::from(dir))
}

/// The tracked files and those that are new but not ignored, relative to the root. From git; in an
/// unpacked archive, where there is no git, by walking.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let listed = Run::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .dir(root())
        .limit(ANSWER)
        .text();
    let mut files: Vec<PathBuf> = match listed {
        Ok(text) => text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect(),
        Err(_) => {
            let mut found = Vec::new();
            walk(&root(), Path::new(""), &mut found)?;
            found
        }
    };
    files.retain(|file| root().join(file).is_file());
    files.sort();
    ensure!(!files.is_empty(), "found no file of the repository in {}", root().display());
    Ok(files)
}

fn walk(dir: &Path, relative: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).doing(|| format!("listing {}", dir.display()))? {
        let entry = entry.doing(|| format!("listing {}", dir.display()))?;
        let name = entry.file_name();
        let path = relative.join(&name);
        let kind = entry.file_type().doing(|| format!("looking at {}", path.display()))?;
        if kind.is_dir() && name != "target" && name != ".git" {
            walk(&entry.path(), &path, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// The packages that cargo would build of the workspace: one line per package as `{p}|…`, by
/// `cargo tree` with the given arguments. The format must begin with `{p}`.
pub(crate) fn tree(args: &[&str]) -> Result<Vec<String>> {
    let text =
        Run::new(cargo()).args(["tree", "--prefix", "none"]).args(args).dir(root()).limit(ANSWER).text()?;
    // What stands there a second time is marked; whole, the trees have millions of lines.
    let lines = text.lines().map(|l| l.strip_suffix(" (*)").unwrap_or(l)).filter(|l| !l.is_empty());
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Whether a cargo subcommand such as `fmt` or `nextest` is there.
pub(crate) fn has_cargo_command(name: &str) -> bool {
    Run::new(cargo())
        .args([name, "--version"])
        .dir(root())
        .limit(Duration::from_secs(60))
        .finish()
        .is_ok_and(|done| done.is_success())
}
