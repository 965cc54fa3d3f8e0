//! Accounts of PAM, of which `ferryd-pam` asks.
//!
//! Its modules are Debian's, their services files of ours: `libpam-wrapper` has PAM read them from a folder, so that
//! nothing of this machine's own is touched.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Stage;
use super::services::folder;
use crate::fault::{Fault, Result, While, ensure};
use crate::ours::Build;
use crate::peers::cases::says;
use crate::peers::drive;
use crate::peers::servers::{Endpoint, Extra};
use crate::process::{set_mode, write};

/// The folder of this machine's architecture that has a file.
fn library(name: &str) -> Result<PathBuf> {
    let all = std::fs::read_dir("/usr/lib").doing(|| "looking for libraries".to_owned())?;
    let found = all.flatten().map(|dir| dir.path().join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Fault::new(format!("no {name} below /usr/lib")))
}

/// A program that asks PAM with the services of `dir`.
fn wrapped(dir: &Path) -> Result<PathBuf> {
    let (program, asks) = (dir.join("ferryd-pam"), Build::pam()?);
    let script = format!(
        "#!/bin/sh\nexec env LD_PRELOAD={} PAM_WRAPPER=1 PAM_WRAPPER_SERVICE_DIR={} {}\n",
        library("libpam_wrapper.so")?.display(),
        dir.join("services").display(),
        asks.display()
    );
    write(&program, script)?;
    set_mode(&program, 0o755)?;
    Ok(program)
}

fn logs_in(stage: &Stage, endpoint: &Endpoint, user: &str, password: &str) -> Result<bool> {
    let mut at = endpoint.at.clone();
    (at.user, at.password) = (user.to_owned(), password.to_owned());
    let url = drive::ferry_url(&at, "/");
    let run = drive::ferry(stage.kit, stage.ferry, &at).env("FERRY_PASSWORD", password);
    Ok(run.arg("ls").arg(url).finish()?.is_success())
}

/// PAM says who comes in and what keeps an account out; modules that block keep nobody else waiting, and let nobody in;
/// those that want to know more (a code, a new password) are answered by whoever is asked, and by nobody else.
pub(super) fn pam_vouches(stage: &Stage) -> Result<()> {
    let dir = folder(stage, "pam")?;
    let services = folder(stage, "pam/services")?;
    let people = dir.join("people");
    // A name, its password, and the service that its account may use.
    write(&people, "ada:analytical:files\neve:listens:another\n")?;
    let matrix = format!("{} passdb={}", library("pam_wrapper/pam_matrix.so")?.display(), people.display());
    let twice = format!("auth required {matrix}\nauth required pam_exec.so expose_authtok /bin/false\n");
    for (service, lines) in [
        ("files", format!("auth required {matrix}\naccount required {matrix}\n")),
        ("slow", "auth required pam_exec.so /bin/sleep 60\n".to_owned()),
        ("denied", twice + "account required pam_permit.so\n"),
        ("open", "auth required pam_permit.so\naccount required pam_permit.so\n".to_owned()),
        ("codes", format!("auth required {matrix}\n{}account required pam_permit.so\n", codes(&dir)?)),
        (
            "expired",
            format!(
                "auth required {matrix}\naccount required pam_debug.so acct=new_authtok_reqd\n\
                 password required {matrix}\n"
            ),
        ),
    ] {
        write(&services.join(service), lines)?;
    }
    let program = wrapped(&dir)?;
    let start = |service: &str, more: &str| {
        let lines = format!(
            "[[directories]]\nname = \"system\"\nurl = \"pam://{service}\"\nprogram = {program:?}\n\
             groups = [\"here\"]\n{more}\n[[groups]]\nname = \"here\"\n\
             [groups.permissions]\n\"/\" = [\"list\", \"put\", \"get\"]\n"
        );
        stage.start(&Extra { lines: &lines, ..Extra::default() })
    };
    let endpoint = start("files", "")?;
    for (user, password, may) in [
        ("ada", "analytical", true),
        ("ada", "wrong", false),
        ("ada", "", false),
        ("nobody", "analytical", false),
        // The password is right, and the account may not use this service.
        ("eve", "listens", false),
        ("ada", "analytical", true),
    ] {
        let does = logs_in(stage, &endpoint, user, password)?;
        ensure!(does == may, "{user} with `{password}`: {does}, not {may}\n{}", endpoint.tail());
    }
    let log = endpoint.log();
    says(&log, "PAM does not let an account in")?;
    ensure!(!log.contains("cannot be asked"), "{log}");
    ensure!(!log.contains("analytical") && !log.contains("listens"), "a password is in the log");

    for (service, may) in [("open", true), ("denied", false)] {
        let endpoint = start(service, "")?;
        let does = logs_in(stage, &endpoint, "ada", "analytical")?;
        ensure!(does == may, "by {service}: {does}, not {may}\n{}", endpoint.tail());
    }
    let endpoint = start("slow", "time = \"1s\"")?;
    let began = Instant::now();
    ensure!(!logs_in(stage, &endpoint, "ada", "analytical")?, "who says nothing lets in");
    ensure!(began.elapsed() < Duration::from_secs(30), "a module that blocks is waited for");
    says(&endpoint.log(), "a directory cannot be asked")?;

    // RFC 4226, appendix D: the first codes of the secret there; each is good once.
    let endpoint = start("codes", "")?;
    for (code, may) in [("287082", true), ("287082", false), ("755224", false), ("359152", true)] {
        let does = is_let_in(stage, &endpoint, &dir, code)?;
        ensure!(does == may, "with the code {code}: {does}, not {may}\n{}", endpoint.tail());
    }
    ensure!(!logs_in(stage, &endpoint, "ada", "analytical")?, "the password alone lets in");

    let endpoint = start("expired", "")?;
    ensure!(is_let_in(stage, &endpoint, &dir, "")?, "with a new password: no\n{}", endpoint.tail());
    let now = std::fs::read_to_string(&people).doing(|| format!("reading {}", people.display()))?;
    ensure!(now.contains("ada:numerical:"), "the password was not changed: {now}");
    let log = endpoint.log();
    ensure!(!log.contains("analytical") && !log.contains("numerical"), "a password is in the log");
    Ok(())
}

/// The line of a service that asks for one-time codes by counter.
fn codes(dir: &Path) -> Result<String> {
    let users = dir.join("oath");
    write(&users, "HOTP ada - 3132333435363738393031323334353637383930\n")?;
    set_mode(&users, 0o600)?;
    Ok(format!("auth required pam_oath.so usersfile={} window=5 digits=6\n", users.display()))
}

/// Whether OpenSSH's `sftp` gets in as ada, who knows her password, this code and a new password.
fn is_let_in(stage: &Stage, endpoint: &Endpoint, dir: &Path, code: &str) -> Result<bool> {
    let answers = dir.join("answers");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\n*One-time*) echo '{code}';;\n*New*) echo numerical;;\n*) echo analytical;;\nesac\n"
    );
    write(&answers, script)?;
    set_mode(&answers, 0o755)?;
    let mut at = endpoint.at.clone();
    at.user = "ada".to_owned();
    Ok(drive::sftp_asked(stage.kit, &at, &answers, "ls\n")?.finish()?.is_success())
}
