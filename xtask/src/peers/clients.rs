//! Their clients: each sends a file, fetches it again, and both must be what was sent.
//!
//! Every client is told the server's key and refuses another one; none reads the settings of whoever runs
//! the test (`HOME` is a temporary folder).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program;
use super::servers::{Endpoint, Kit};
use crate::fault::{Result, While, ensure};
use crate::process::{Run, Server, read, write};

const LIMIT: Duration = Duration::from_secs(60);
/// Not a multiple of any block, and more than one packet.
const SIZE: usize = 3_000_017;

/// A client that can be tried.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) peer: &'static str,
    /// Why it cannot work on this machine; `None` if it can.
    pub(super) lacks: fn() -> Option<String>,
    transfer: fn(&Kit, &Endpoint, &Job) -> Result<()>,
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

fn nothing() -> Option<String> {
    None
}

fn no_fuse() -> Option<String> {
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device.err().map(|error| format!("/dev/fuse cannot be used: {error}"))
}

/// Sends a file and fetches it again; errors unless both copies are what was sent.
pub(super) fn round_trip(client: &Client, kit: &Kit, endpoint: &Endpoint) -> Result<()> {
    let name = format!("{} file", client.name);
    let job = Job {
        up: kit.join("up"),
        // A space in every name: clients that build command lines stumble over it.
        remote: format!("{}{name}", endpoint.folder),
        down: kit.join("down"),
    };
    let content = content(client.name.len());
    write(&job.up, &content)?;
    let _ = std::fs::remove_file(&job.down);
    (client.transfer)(kit, endpoint, &job).doing(|| format!("{}\n{}", client.name, endpoint.log()))?;
    ensure!(read(&endpoint.root.join(&name))? == content, "the file that arrived is not what was sent");
    ensure!(read(&job.down)? == content, "the file that came back is not what was sent");
    Ok(())
}

/// Bytes without a short period, so that swapped or repeated blocks show.
fn content(seed: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(SIZE).collect()
}

fn client(kit: &Kit, name: &str) -> Result<Run> {
    Ok(program(name)?.env("HOME", kit.join("")).without_env("SSH_AUTH_SOCK").limit(LIMIT))
}

/// OpenSSH's options, each to be put behind `-o`.
fn ssh_options(kit: &Kit, endpoint: &Endpoint) -> Vec<String> {
    vec![
        format!("Port={}", endpoint.port),
        format!("IdentityFile={}", kit.key.display()),
        "IdentitiesOnly=yes".to_owned(),
        format!("UserKnownHostsFile={}", endpoint.known_hosts.display()),
        "GlobalKnownHostsFile=none".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "BatchMode=yes".to_owned(),
    ]
}

fn openssh(kit: &Kit, endpoint: &Endpoint, name: &str) -> Result<Run> {
    let options = ssh_options(kit, endpoint);
    Ok(client(kit, name)?.args(["-F", "none"]).args(options.iter().flat_map(|option| ["-o", option])))
}

fn sftp(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    let (up, remote, down) = (job.up.display(), &job.remote, job.down.display());
    openssh(kit, endpoint, "sftp")?
        .args(["-b", "-", &format!("{}@127.0.0.1", endpoint.user)])
        .input(format!("put \"{up}\" \"{remote}\"\nget \"{remote}\" \"{down}\"\n"))
        .finish()?
        .succeeded()
        .map(drop)
}

fn scp(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    // `-s`: over SFTP, which Debian 12's scp does anyway.
    let remote = format!("{}@127.0.0.1:{}", endpoint.user, job.remote);
    openssh(kit, endpoint, "scp")?.arg("-s").arg(&job.up).arg(&remote).finish()?.succeeded()?;
    openssh(kit, endpoint, "scp")?.arg("-s").arg(&remote).arg(&job.down).finish()?.succeeded().map(drop)
}

fn sshfs(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    let mount = kit.join("mount");
    std::fs::create_dir_all(&mount).doing(|| format!("making {}", mount.display()))?;
    let options = ssh_options(kit, endpoint);
    let run = client(kit, "sshfs")?
        .args(["-f", "-F", "/dev/null"])
        .args(options.iter().flat_map(|option| ["-o", option]))
        .arg(format!("{}@127.0.0.1:{}", endpoint.user, endpoint.folder))
        .arg(&mount);
    let mut server = Server::start(&run)?;
    let copied = wait_for_mount(&mut server, &mount).and_then(|()| {
        let name = Path::new(&job.remote).file_name().unwrap_or_default();
        // In another process and with a limit: a mount that hangs, hangs who looks at it.
        let there = mount.join(name);
        Run::new("cp").arg(&job.up).arg(&there).limit(LIMIT).finish()?.succeeded()?;
        Run::new("cp").arg(&there).arg(&job.down).limit(LIMIT).finish()?.succeeded().map(drop)
    });
    let unmounted = Run::new("fusermount3").arg("-uz").arg(&mount).finish().and_then(|done| done.succeeded());
    copied.and(unmounted.map(drop))
}

fn wait_for_mount(server: &mut Server, mount: &Path) -> Result<()> {
    let wanted = format!(" {} ", mount.display());
    for _ in 0..1_000 {
        let mounts = std::fs::read_to_string("/proc/mounts").doing(|| "reading the mounts".to_owned())?;
        if mounts.contains(&wanted) {
            return Ok(());
        }
        ensure!(!server.has_ended()?, "sshfs ended\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    crate::fault::bail!("sshfs does not mount\n{}", server.log())
}

fn lftp(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    let options = ssh_options(kit, endpoint);
    let ssh = format!("ssh -a -x -F none -o {}", options.join(" -o "));
    let (up, remote, down) = (job.up.display(), &job.remote, job.down.display());
    let script = format!(
        "set net:max-retries 1; set cmd:fail-exit yes; set sftp:connect-program \"{ssh}\"; \
         open -u {},unused sftp://127.0.0.1:{}; put \"{up}\" -o \"{remote}\"; get \"{remote}\" -o \"{down}\"; bye",
        endpoint.user, endpoint.port
    );
    client(kit, "lftp")?.args(["--norc", "-c", &script]).finish()?.succeeded().map(drop)
}

fn curl(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    let url = format!("sftp://127.0.0.1:{}{}", endpoint.port, job.remote.replace(' ', "%20"));
    let base = || -> Result<Run> {
        let hash = endpoint.fingerprint.trim_start_matches("SHA256:");
        Ok(client(kit, "curl")?
            .args(["--disable", "--silent", "--show-error", "--hostpubsha256", hash, "--pubkey"])
            .arg(kit.join("key.pub"))
            .arg("--key")
            .arg(&kit.key)
            .args(["--user", &format!("{}:", endpoint.user)]))
    };
    base()?.arg("--upload-file").arg(&job.up).arg(&url).finish()?.succeeded()?;
    base()?.arg("--output").arg(&job.down).arg(&url).finish()?.succeeded().map(drop)
}

fn rclone(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    let remote = format!(
        ":sftp,host=127.0.0.1,port={},user={},key_file=\"{}\",known_hosts_file=\"{}\":{}",
        endpoint.port,
        endpoint.user,
        kit.key.display(),
        endpoint.known_hosts.display(),
        job.remote
    );
    let base = || -> Result<Run> {
        Ok(client(kit, "rclone")?.args([
            "--config",
            "",
            "--retries",
            "1",
            "--low-level-retries",
            "1",
            "copyto",
        ]))
    };
    base()?.arg(&job.up).arg(&remote).finish()?.succeeded()?;
    base()?.arg(&remote).arg(&job.down).finish()?.succeeded().map(drop)
}

fn putty(kit: &Kit, endpoint: &Endpoint, name: &str) -> Result<Run> {
    Ok(client(kit, name)?
        .args(["-batch", "-P", &endpoint.port.to_string(), "-hostkey", &endpoint.fingerprint, "-i"])
        .arg(&kit.ppk))
}

fn psftp(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    let (up, remote, down) = (job.up.display(), &job.remote, job.down.display());
    let batch = kit.join("psftp-batch");
    write(&batch, format!("put \"{up}\" \"{remote}\"\nget \"{remote}\" \"{down}\"\n"))?;
    putty(kit, endpoint, "psftp")?
        .arg("-b")
        .arg(&batch)
        .arg(format!("{}@127.0.0.1", endpoint.user))
        .finish()?
        .succeeded()
        .map(drop)
}

fn pscp(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    let remote = format!("{}@127.0.0.1:{}", endpoint.user, job.remote);
    putty(kit, endpoint, "pscp")?.arg("-sftp").arg(&job.up).arg(&remote).finish()?.succeeded()?;
    putty(kit, endpoint, "pscp")?.arg("-sftp").arg(&remote).arg(&job.down).finish()?.succeeded().map(drop)
}

const PARAMIKO: &str = "
import sys, paramiko
port, user, key, hosts, up, remote, down = sys.argv[1:]
client = paramiko.SSHClient()
client.load_host_keys(hosts)
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect('127.0.0.1', int(port), user, key_filename=key, look_for_keys=False, allow_agent=False)
with client.open_sftp() as sftp:
    sftp.put(up, remote)
    sftp.get(remote, down)
client.close()
";

const ASYNCSSH: &str = "
import sys, asyncio, asyncssh
port, user, key, hosts, up, remote, down = sys.argv[1:]
async def main():
    async with asyncssh.connect('127.0.0.1', int(port), username=user, client_keys=[key],
                                known_hosts=hosts, config=None, agent_path=None) as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(up, remote)
            await sftp.get(remote, down)
asyncio.run(main())
";

fn paramiko(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    python(kit, endpoint, job, PARAMIKO)
}

fn asyncssh(kit: &Kit, endpoint: &Endpoint, job: &Job) -> Result<()> {
    python(kit, endpoint, job, ASYNCSSH)
}

fn python(kit: &Kit, endpoint: &Endpoint, job: &Job, script: &str) -> Result<()> {
    client(kit, "python")?
        .args(["-c", script, &endpoint.port.to_string(), &endpoint.user])
        .arg(&kit.key)
        .arg(&endpoint.known_hosts)
        .arg(&job.up)
        .arg(&job.remote)
        .arg(&job.down)
        .finish()?
        .succeeded()
        .map(drop)
}
