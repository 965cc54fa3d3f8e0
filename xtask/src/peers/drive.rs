//! How each of their clients is started against a server: for the cases, for the bench.
//!
//! Every client is told the server's key and refuses another one; none reads the settings of whoever runs
//! the test (`HOME` is a temporary folder), and none asks anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program;
use super::servers::{Address, Kit, Scheme};
use crate::fault::{Result, While, bail, ensure};
use crate::process::{Run, Server, write};

const LIMIT: Duration = Duration::from_secs(60);

fn client(kit: &Kit, name: &str) -> Result<Run> {
    Ok(program(name)?.env("HOME", kit.join("")).without_env("SSH_AUTH_SOCK").limit(LIMIT))
}

/// OpenSSH's options, each to be put behind `-o`.
fn ssh_options(key: &Path, at: &Address) -> Vec<String> {
    vec![
        format!("Port={}", at.port),
        format!("IdentityFile={}", key.display()),
        "IdentitiesOnly=yes".to_owned(),
        format!("UserKnownHostsFile={}", at.known_hosts.display()),
        "GlobalKnownHostsFile=none".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "BatchMode=yes".to_owned(),
    ]
}

/// One of OpenSSH's programs; what follows is up to it.
pub(crate) fn openssh(kit: &Kit, at: &Address, name: &str) -> Result<Run> {
    openssh_as(kit, at, &kit.key, name)
}

fn openssh_as(kit: &Kit, at: &Address, key: &Path, name: &str) -> Result<Run> {
    let options = ssh_options(key, at);
    Ok(client(kit, name)?.args(["-F", "none"]).args(options.iter().flat_map(|option| ["-o", option])))
}

/// OpenSSH's `sftp` with another key.
pub(super) fn sftp_as(kit: &Kit, at: &Address, key: &Path, batch: &str) -> Result<Run> {
    let run = openssh_as(kit, at, key, "sftp")?;
    Ok(run.args(["-b", "-", &format!("{}@127.0.0.1", at.user)]).input(batch))
}

/// OpenSSH's `sftp` with a batch of commands; it ends at the first that fails.
pub(crate) fn sftp(kit: &Kit, at: &Address, batch: &str) -> Result<Run> {
    sftp_with(kit, at, &[], batch)
}

/// The same with more options in front.
pub(crate) fn sftp_with(kit: &Kit, at: &Address, options: &[&str], batch: &str) -> Result<Run> {
    Ok(openssh(kit, at, "sftp")?
        .args(options)
        .args(["-b", "-", &format!("{}@127.0.0.1", at.user)])
        .input(batch))
}

/// OpenSSH's `sftp` with a batch of commands, where a program answers the questions of the server: each is its argument.
pub(super) fn sftp_asked(kit: &Kit, at: &Address, answers: &Path, batch: &str) -> Result<Run> {
    let options = ssh_options(&kit.key, at);
    let options = options.iter().filter(|option| *option != "BatchMode=yes");
    // The first word on a matter counts, and `-b` is one on it.
    let options = options.flat_map(|option| ["-o", option]).chain(["-o", "BatchMode=no"]);
    Ok(client(kit, "sftp")?
        .args(["-F", "none"])
        .args(options)
        .args(["-o", "PreferredAuthentications=keyboard-interactive", "-o", "NumberOfPasswordPrompts=1"])
        .args(["-b", "-", &format!("{}@127.0.0.1", at.user)])
        .env("SSH_ASKPASS", answers)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .input(batch))
}

/// Ours, from a file of the caller's choice; the command follows.
pub(crate) fn ferry(kit: &Kit, program: &Path, at: &Address) -> Run {
    let run = Run::new(program)
        .env("HOME", kit.join(""))
        .without_env("SSH_AUTH_SOCK")
        .without_env("FERRY_PASSWORD")
        .limit(LIMIT)
        .args(["--batch", "--quiet", "--identity"])
        .arg(&kit.key)
        .arg("--known-hosts")
        .arg(&at.known_hosts);
    match at.scheme {
        Scheme::Scp | Scheme::Sftp => run,
        Scheme::Ftp | Scheme::Dav | Scheme::S3 => run.env("FERRY_PASSWORD", &at.password),
        Scheme::Ftpes | Scheme::Ftps | Scheme::Davs => {
            run.env("FERRY_PASSWORD", &at.password).args(["--certificate", &at.fingerprint])
        }
    }
}

/// A path on a server as ours wants it.
pub(crate) fn ferry_url(at: &Address, path: &str) -> String {
    let path = path.replace('%', "%25").replace(' ', "%20").replace('?', "%3F").replace('#', "%23");
    format!("{}://{}@{}:{}{path}", at.scheme.name(), at.user, at.host, at.port)
}

/// A folder of a server, mounted by sshfs while the value lives.
pub(super) struct Mount {
    pub(super) path: PathBuf,
    server: Server,
}

impl Mount {
    pub(super) fn new(kit: &Kit, at: &Address) -> Result<Self> {
        let path = kit.join("mount");
        std::fs::create_dir_all(&path).doing(|| format!("making {}", path.display()))?;
        let options = ssh_options(&kit.key, at);
        let run = client(kit, "sshfs")?
            .args(["-f", "-F", "/dev/null"])
            .args(options.iter().flat_map(|option| ["-o", option]))
            .arg(format!("{}@127.0.0.1:{}", at.user, at.folder))
            .arg(&path);
        let mut mount = Self { path, server: Server::start(&run)? };
        mount.wait()?;
        Ok(mount)
    }

    fn wait(&mut self) -> Result<()> {
        let wanted = format!(" {} ", self.path.display());
        for _ in 0..1_000 {
            let mounts = std::fs::read_to_string("/proc/mounts").doing(|| "reading the mounts".to_owned())?;
            if mounts.contains(&wanted) {
                return Ok(());
            }
            ensure!(!self.server.has_ended()?, "sshfs ended\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("sshfs does not mount\n{}", self.server.log())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Run::new("fusermount3").arg("-uz").arg(&self.path).finish();
        if let Err(fault) = unmounted.and_then(|done| done.succeeded()) {
            eprintln!("{} may still be mounted: {fault}", self.path.display());
        }
    }
}

/// lftp with commands, separated by semicolons; it ends at the first that fails.
pub(crate) fn lftp(kit: &Kit, at: &Address, commands: &str) -> Result<Run> {
    if at.scheme != Scheme::Sftp {
        return lftp_over_ftp(kit, at, commands);
    }
    let ssh = format!("ssh -a -x -F none -o {}", ssh_options(&kit.key, at).join(" -o "));
    let script = format!(
        "set net:max-retries 1; set cmd:fail-exit yes; set sftp:connect-program \"{ssh}\"; \
         open -u {},unused sftp://127.0.0.1:{}; {commands}; bye",
        at.user, at.port
    );
    Ok(client(kit, "lftp")?.args(["--norc", "-c", &script]))
}

fn lftp_over_ftp(kit: &Kit, at: &Address, commands: &str) -> Result<Run> {
    let scheme = if at.scheme == Scheme::Ftps { "ftps" } else { "ftp" };
    let tls = match &at.certificate {
        None => "set ftp:ssl-allow no".to_owned(),
        Some(certificate) => format!(
            "set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set ssl:ca-file \"{}\"",
            certificate.display()
        ),
    };
    let script = format!(
        "set net:max-retries 1; set net:timeout 20; set cmd:fail-exit yes; set ftp:prefer-epsv yes; {tls}; \
         open -u {},\"{}\" {scheme}://{}:{}; {commands}; bye",
        at.user, at.password, at.host, at.port
    );
    Ok(client(kit, "lftp")?.args(["--norc", "-c", &script]))
}

/// curl over FTP or WebDAV, with the address of a path; options follow.
pub(crate) fn curl_by_password(kit: &Kit, at: &Address, path: &str) -> Result<Run> {
    Ok(curl_login(kit, at)?.arg(curl_password_url(at, path)))
}

/// curl over FTP or WebDAV, without an address yet.
pub(crate) fn curl_login(kit: &Kit, at: &Address) -> Result<Run> {
    let login = format!("{}:{}", at.user, at.password);
    let run =
        client(kit, "curl")?.args(["--disable", "--silent", "--show-error", "--fail", "--user", &login]);
    Ok(match &at.certificate {
        None => run,
        Some(certificate) => run.arg("--ssl-reqd").arg("--cacert").arg(certificate),
    })
}

/// The address of a path. Over FTP two slashes begin it at the root, not at the folder of the login.
pub(crate) fn curl_password_url(at: &Address, path: &str) -> String {
    let (scheme, slash) = match at.scheme {
        Scheme::Dav => ("http", ""),
        Scheme::Ftps => ("ftps", "/"),
        _ => ("ftp", "/"),
    };
    format!("{scheme}://{}:{}{slash}{}", at.host, at.port, path.replace('%', "%25").replace(' ', "%20"))
}

/// curl, without an address yet.
pub(crate) fn curl(kit: &Kit, at: &Address) -> Result<Run> {
    let hash = at.fingerprint.trim_start_matches("SHA256:");
    Ok(client(kit, "curl")?
        .args(["--disable", "--silent", "--show-error", "--hostpubsha256", hash, "--pubkey"])
        .arg(kit.join("key.pub"))
        .arg("--key")
        .arg(&kit.key)
        .args(["--user", &format!("{}:", at.user)]))
}

/// The address of a path on a server, with the spaces escaped.
pub(crate) fn curl_url(at: &Address, path: &str) -> String {
    format!("sftp://127.0.0.1:{}{}", at.port, path.replace('%', "%25").replace(' ', "%20"))
}

/// One command of rclone, which tries everything once.
pub(crate) fn rclone(kit: &Kit, command: &str) -> Result<Run> {
    Ok(client(kit, "rclone")?
        .args(["--config", "", "--retries", "1", "--low-level-retries", "1"])
        .arg(command))
}

/// A path on a server in rclone's words.
pub(crate) fn rclone_remote(kit: &Kit, at: &Address, path: &str) -> Result<String> {
    let tls = match at.scheme {
        Scheme::Scp | Scheme::Sftp => return Ok(rclone_sftp(kit, at, path)),
        Scheme::Ftp => "",
        Scheme::Ftpes => ",explicit_tls=true,no_check_certificate=true",
        Scheme::Ftps => ",tls=true,no_check_certificate=true",
        Scheme::S3 => {
            let place = format!("endpoint=\"http://{}:{}\",force_path_style=true", at.host, at.port);
            let (id, secret, path) = (&at.user, &at.password, path.trim_start_matches('/'));
            return Ok(format!(
                ":s3,provider=Other,{place},access_key_id={id},secret_access_key=\"{secret}\":{path}"
            ));
        }
        Scheme::Dav => "",
        Scheme::Davs => bail!("rclone is not asked to speak {}", at.scheme.name()),
    };
    // It takes a password only in a form of its own.
    let secret = rclone(kit, "obscure")?.arg(&at.password).text()?;
    let (port, user, secret) = (at.port, &at.user, secret.trim());
    Ok(match at.scheme {
        Scheme::Dav => {
            format!(":webdav,url=\"http://{}:{port}\",vendor=other,user={user},pass={secret}:{path}", at.host)
        }
        _ => format!(":ftp,host=127.0.0.1,port={port},user={user},pass={secret}{tls}:{path}"),
    })
}

fn rclone_sftp(kit: &Kit, at: &Address, path: &str) -> String {
    format!(
        ":sftp,host=127.0.0.1,port={},user={},key_file=\"{}\",known_hosts_file=\"{}\",shell_type=none:{path}",
        at.port,
        at.user,
        kit.key.display(),
        at.known_hosts.display(),
    )
}

/// One of PuTTY's programs.
pub(super) fn putty(kit: &Kit, at: &Address, name: &str) -> Result<Run> {
    Ok(client(kit, name)?
        .args(["-batch", "-P", &at.port.to_string(), "-hostkey", &at.fingerprint, "-i"])
        .arg(&kit.ppk))
}

/// One command of s5cmd: AWS's protocol with as much at once as it can.
pub(crate) fn s5cmd(kit: &Kit, at: &Address, command: &str) -> Result<Run> {
    let run =
        client(kit, "s5cmd")?.env("AWS_ACCESS_KEY_ID", &at.user).env("AWS_SECRET_ACCESS_KEY", &at.password);
    let run = run
        .env("AWS_REGION", "us-east-1")
        .args(["--endpoint-url", &format!("http://{}:{}", at.host, at.port)]);
    Ok(run.arg(command))
}

/// PuTTY's sftp with a batch of commands; it ends at the first that fails.
pub(super) fn psftp(kit: &Kit, at: &Address, batch: &str) -> Result<Run> {
    let file = kit.join("psftp-batch");
    write(&file, batch)?;
    Ok(putty(kit, at, "psftp")?.arg("-b").arg(&file).arg(format!("{}@127.0.0.1", at.user)))
}

const PARAMIKO: &str = "
import sys, stat, paramiko
port, user, key, hosts, script, *arguments = sys.argv[1:]
client = paramiko.SSHClient()
client.load_host_keys(hosts)
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect('127.0.0.1', int(port), user, key_filename=key, look_for_keys=False, allow_agent=False)
with client.open_sftp() as sftp:
    exec(script)
client.close()
";

const ASYNCSSH: &str = "
import sys, asyncio, textwrap, asyncssh
port, user, key, hosts, script, *arguments = sys.argv[1:]
scope = {'asyncio': asyncio, 'asyncssh': asyncssh, 'arguments': arguments}
exec('async def use(connection, sftp):\\n' + textwrap.indent(script, ' '), scope)
async def main():
    async with asyncssh.connect('127.0.0.1', int(port), username=user, client_keys=[key],
                                known_hosts=hosts, config=None, agent_path=None) as connection:
        async with connection.start_sftp_client() as sftp:
            await scope['use'](connection, sftp)
asyncio.run(main())
";

const PYCURL: &str = "
import sys, os, pycurl
port, user, key, hosts, fingerprint, script, *arguments = sys.argv[1:]
curl = pycurl.Curl()
curl.setopt(curl.USERPWD, user + ':')
curl.setopt(curl.SSH_AUTH_TYPES, curl.SSH_AUTH_PUBLICKEY)
curl.setopt(curl.SSH_PRIVATE_KEYFILE, key)
curl.setopt(curl.SSH_PUBLIC_KEYFILE, key + '.pub')
# CURLOPT_SSH_HOST_PUBLIC_KEY_SHA256, for which there is no name.
curl.setopt(10311, fingerprint.removeprefix('SHA256:'))
def go(url, up=None, down=None, mode='wb'):
    curl.setopt(curl.URL, url)
    with open(up or down, 'rb' if up else mode) as file:
        curl.setopt(curl.UPLOAD, 1 if up else 0)
        if up:
            curl.setopt(curl.READDATA, file)
            curl.setopt(curl.INFILESIZE_LARGE, os.path.getsize(up))
            curl.setopt(curl.SEEKFUNCTION, lambda at, whence: file.seek(at, whence) and 0 or 0)
        else:
            curl.setopt(curl.WRITEDATA, file)
        curl.perform()
exec(script)
";

/// A script that has `curl`, a `pycurl.Curl` that is set up to log in, `go(url, up=… or down=…)`, and
/// `arguments`: what the caller adds.
pub(super) fn pycurl(kit: &Kit, at: &Address, script: &str) -> Result<Run> {
    Ok(python(kit, at, PYCURL, &at.fingerprint)?.arg(script))
}

/// A script that has `sftp`, a `paramiko.SFTPClient`, and `arguments`: what the caller adds.
pub(super) fn paramiko(kit: &Kit, at: &Address, script: &str) -> Result<Run> {
    python(kit, at, PARAMIKO, script)
}

/// A script that has `connection`, `sftp` (an `asyncssh.SFTPClient`) and `arguments`: what the caller adds.
/// It may await.
pub(crate) fn asyncssh(kit: &Kit, at: &Address, script: &str) -> Result<Run> {
    python(kit, at, ASYNCSSH, script)
}

/// A program in Python that is told where the server is, then what the caller adds.
pub(crate) fn python(kit: &Kit, at: &Address, program: &str, script: &str) -> Result<Run> {
    Ok(client(kit, "python")?
        .args(["-c", program, &at.port.to_string(), &at.user])
        .arg(&kit.key)
        .arg(&at.known_hosts)
        .arg(script))
}

/// A program in Python's own libraries that is told where a server of FTP is, then what the caller adds.
pub(crate) fn ftplib(kit: &Kit, at: &Address, program: &str) -> Result<Run> {
    let certificate = at.certificate.as_deref().unwrap_or(Path::new(""));
    let run = client(kit, "python3")?.args(["-c", program, &at.port.to_string(), &at.user, &at.password]);
    Ok(run.arg(certificate))
}
