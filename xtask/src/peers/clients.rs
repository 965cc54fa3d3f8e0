//! Their clients: each sends a file, fetches it again, and both must be what was sent.
//!
//! How each is started stands in [`super::drive`].

use std::path::{Path, PathBuf};

use super::drive::{self, Mount};
use super::servers::{Address, Endpoint, Kit};
use crate::fault::{Result, While, ensure};
use crate::process::{Run, read, write};

/// Not a multiple of any block, and more than one packet.
const SIZE: usize = 3_000_017;

/// A client that can be tried.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) peer: &'static str,
    /// Why it cannot work on this machine; `None` if it can.
    pub(super) lacks: fn() -> Option<String>,
    transfer: fn(&Kit, &Address, &Job) -> Result<()>,
}

/// What is to be moved.
struct Job {
    /// A local file, to be sent.
    up: PathBuf,
    /// Its name on the server, with the whole path.
    remote: String,
    /// Where it is fetched to.
    down: PathBuf,
}

pub(super) const CLIENTS: &[Client] = &[
    Client { name: "sftp", peer: "openssh", lacks: nothing, transfer: sftp },
    Client { name: "scp", peer: "openssh", lacks: nothing, transfer: scp },
    Client { name: "sshfs", peer: "sshfs", lacks: no_fuse, transfer: sshfs },
    Client { name: "lftp", peer: "lftp", lacks: nothing, transfer: lftp },
    Client { name: "curl", peer: "curl", lacks: nothing, transfer: curl },
    Client { name: "rclone", peer: "rclone", lacks: nothing, transfer: rclone },
    Client { name: "psftp", peer: "putty", lacks: nothing, transfer: psftp },
    Client { name: "pscp", peer: "putty", lacks: nothing, transfer: pscp },
    Client { name: "paramiko", peer: "paramiko", lacks: nothing, transfer: paramiko },
    Client { name: "asyncssh", peer: "asyncssh", lacks: nothing, transfer: asyncssh },
];

/// Those that speak FTP.
pub(super) const FTP_CLIENTS: &[Client] = &[
    Client { name: "lftp", peer: "lftp", lacks: nothing, transfer: lftp },
    Client { name: "curl", peer: "curl", lacks: nothing, transfer: curl_over_ftp },
    Client { name: "rclone", peer: "rclone", lacks: nothing, transfer: rclone },
];

/// Who of them gets along with every server of FTP over TLS. The others lose the end of an upload to vsftpd
/// and pyftpdlib, now and then: both answer a client that only sends, and its system resets what it has not
/// read.
pub(super) const FTPS_CLIENTS: &[Client] =
    &[Client { name: "curl", peer: "curl", lacks: nothing, transfer: curl_over_ftp }];

fn nothing() -> Option<String> {
    None
}

pub(super) fn no_fuse() -> Option<String> {
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.err().map(|error| format!("/dev/fuse cannot be used: {error}"))
}

/// Sends a file and fetches it again; errors unless both copies are what was sent.
pub(super) fn round_trip(client: &Client, kit: &Kit, endpoint: &Endpoint) -> Result<()> {
    let name = format!("{} file", client.name);
    let job = Job {
        up: kit.join("up"),
        // A space in every name: clients that build command lines stumble over it.
        remote: format!("{}{name}", endpoint.at.folder),
        down: kit.join("down"),
    };
    let content = content(client.name.len());
    write(&job.up, &content)?;
    let _ = std::fs::remove_file(&job.down);
    (client.transfer)(kit, &endpoint.at, &job).doing(|| format!("{}\n{}", client.name, endpoint.tail()))?;
    ensure!(read(&endpoint.root.join(&name))? == content, "the file that arrived is not what was sent");
    ensure!(read(&job.down)? == content, "the file that came back is not what was sent");
    Ok(())
}

/// Bytes without a short period, so that swapped or repeated blocks show.
pub(super) fn content(seed: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(SIZE).collect()
}

fn sftp(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let (up, remote, down) = (job.up.display(), &job.remote, job.down.display());
    let batch = format!("put \"{up}\" \"{remote}\"\nget \"{remote}\" \"{down}\"\n");
    drive::sftp(kit, at, &batch)?.finish()?.succeeded().map(drop)
}

fn scp(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    // `-s`: over SFTP, which Debian 12's scp does anyway.
    let remote = format!("{}@127.0.0.1:{}", at.user, job.remote);
    drive::openssh(kit, at, "scp")?.arg("-s").arg(&job.up).arg(&remote).finish()?.succeeded()?;
    drive::openssh(kit, at, "scp")?.arg("-s").arg(&remote).arg(&job.down).finish()?.succeeded().map(drop)
}

fn sshfs(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let mount = Mount::new(kit, at)?;
    let name = Path::new(&job.remote).file_name().unwrap_or_default();
    // In another process and with a limit: a mount that hangs, hangs who looks at it.
    let there = mount.path.join(name);
    Run::new("cp").arg(&job.up).arg(&there).finish()?.succeeded()?;
    Run::new("cp").arg(&there).arg(&job.down).finish()?.succeeded().map(drop)
}

fn lftp(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let (up, remote, down) = (job.up.display(), &job.remote, job.down.display());
    let commands = format!("put \"{up}\" -o \"{remote}\"; get \"{remote}\" -o \"{down}\"");
    drive::lftp(kit, at, &commands)?.finish()?.succeeded().map(drop)
}

fn curl(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let url = drive::curl_url(at, &job.remote);
    drive::curl(kit, at)?.arg("--upload-file").arg(&job.up).arg(&url).finish()?.succeeded()?;
    drive::curl(kit, at)?.arg("--output").arg(&job.down).arg(&url).finish()?.succeeded().map(drop)
}

fn curl_over_ftp(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let curl = || drive::curl_by_password(kit, at, &job.remote);
    curl()?.arg("--upload-file").arg(&job.up).finish()?.succeeded()?;
    curl()?.arg("--output").arg(&job.down).finish()?.succeeded().map(drop)
}

fn rclone(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let remote = drive::rclone_remote(kit, at, &job.remote)?;
    drive::rclone(kit, "copyto")?.arg(&job.up).arg(&remote).finish()?.succeeded()?;
    drive::rclone(kit, "copyto")?.arg(&remote).arg(&job.down).finish()?.succeeded().map(drop)
}

fn psftp(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let (up, remote, down) = (job.up.display(), &job.remote, job.down.display());
    let batch = format!("put \"{up}\" \"{remote}\"\nget \"{remote}\" \"{down}\"\n");
    drive::psftp(kit, at, &batch)?.finish()?.succeeded().map(drop)
}

fn pscp(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let remote = format!("{}@127.0.0.1:{}", at.user, job.remote);
    drive::putty(kit, at, "pscp")?.arg("-sftp").arg(&job.up).arg(&remote).finish()?.succeeded()?;
    drive::putty(kit, at, "pscp")?.arg("-sftp").arg(&remote).arg(&job.down).finish()?.succeeded().map(drop)
}

fn paramiko(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let script = "
up, remote, down = arguments
sftp.put(up, remote)
sftp.get(remote, down)
";
    drive::paramiko(kit, at, script)?
        .arg(&job.up)
        .arg(&job.remote)
        .arg(&job.down)
        .finish()?
        .succeeded()
        .map(drop)
}

fn asyncssh(kit: &Kit, at: &Address, job: &Job) -> Result<()> {
    let script = "
up, remote, down = arguments
await sftp.put(up, remote)
await sftp.get(remote, down)
";
    drive::asyncssh(kit, at, script)?
        .arg(&job.up)
        .arg(&job.remote)
        .arg(&job.down)
        .finish()?
        .succeeded()
        .map(drop)
}
