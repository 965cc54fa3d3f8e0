//! Their servers as hosts of SCP: with the subsystem of SFTP beside it and without, dropbear, and a host whose shell and
//! programs are BusyBox's.

use super::{Endpoint, Kit, Place, Scheme, Starter, dropbear, serve_sshd, sshd};
use crate::fault::{Result, While};
use crate::peers::cases::ours::Trait;
use crate::peers::program;
use crate::process::{find_program, set_mode, write};

pub(in crate::peers) const SCP_SERVERS: &[Starter] = &[
    Starter { name: "scp-sshd", peer: "sshd", start: |kit| by_scp(sshd(kit)), lacks: SCP_LACKS },
    Starter { name: "scp-sshd-no-sftp", peer: "sshd", start: without_sftp, lacks: SCP_LACKS },
    Starter { name: "scp-dropbear", peer: "dropbear", start: |kit| by_scp(dropbear(kit)), lacks: SCP_LACKS },
    Starter { name: "scp-busybox", peer: "busybox", start: busybox, lacks: BUSYBOX_LACKS },
];

/// The cases that take seconds there, of which every run has some.
pub(in crate::peers) const SCP_QUICK: &[&str] =
    &["ferry_lists", "ferry_moves_a_file", "ferry_fails_in_clear_words"];

/// Every file is begun anew.
const SCP_LACKS: &[Trait] = &[Trait::Leftovers];

/// Its `ls` escapes nothing, so that a name with a line end is refused.
const BUSYBOX_LACKS: &[Trait] = &[Trait::Leftovers, Trait::AnyNames];

fn by_scp(endpoint: Result<Endpoint>) -> Result<Endpoint> {
    let mut endpoint = endpoint?;
    endpoint.at.scheme = Scheme::Scp;
    Ok(endpoint)
}

fn without_sftp(kit: &Kit) -> Result<Endpoint> {
    by_scp(serve_sshd(Place::new(kit, "sshd")?, kit, Some("PermitTTY no")))
}

/// Whatever is asked for is run by BusyBox's shell, which finds BusyBox's programs, and `scp`.
fn busybox(kit: &Kit) -> Result<Endpoint> {
    let place = Place::new(kit, "busybox")?;
    let programs = place.path("bin");
    std::fs::create_dir(&programs).doing(|| format!("making {}", programs.display()))?;
    program("busybox")?.args(["--install", "-s"]).arg(&programs).finish()?.succeeded()?;
    if let Some(scp) = find_program("scp") {
        std::os::unix::fs::symlink(scp, programs.join("scp")).doing(|| "linking scp".to_owned())?;
    }
    let login = place.path("login");
    let shell = programs.join("sh");
    let script = format!(
        "#!/bin/sh\nPATH={}; export PATH\ncase \"$SSH_ORIGINAL_COMMAND\" in\n\
         'exec /bin/sh') exec {shell} ;;\n*) exec {shell} -c \"$SSH_ORIGINAL_COMMAND\" ;;\nesac\n",
        programs.display(),
        shell = shell.display(),
    );
    write(&login, script)?;
    set_mode(&login, 0o755)?;
    let forced = format!("ForceCommand {}", login.display());
    by_scp(serve_sshd(place, kit, Some(&forced)))
}
