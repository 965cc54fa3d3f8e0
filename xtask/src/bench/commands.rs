//! What each client is told for each task, of theirs as much at once as ours does.

use std::path::{Path, PathBuf};

use super::data;
use super::job::{Ground, Link};
use super::parties::{Client, Server};
use crate::fault::{Result, bail, ensure};
use crate::peers::drive;
use crate::peers::servers::{Address, Scheme};
use crate::process::{Run, write};

impl Ground {
    fn ferry(&self, command: &str, at: &Address) -> Result<Run> {
        let Some(program) = &self.ferry else { bail!("there is no ferry yet") };
        Ok(drive::ferry(&self.kit, program, at).arg(command))
    }

    pub(super) fn get(
        &self,
        client: Client,
        at: &Address,
        name: &str,
        to: &Path,
        is_tree: bool,
    ) -> Result<Run> {
        let remote = format!("{}{name}", at.folder);
        let flags: &[&str] = if is_tree { &["-r"] } else { &[] };
        match client {
            Client::Ferry => {
                Ok(self.ferry("get", at)?.args(flags).arg(drive::ferry_url(at, &remote)).arg(to))
            }
            Client::Sftp(cipher) => {
                let batch = format!("get {} \"{remote}\" \"{}\"\n", flags.concat(), to.display());
                drive::sftp_with(&self.kit, at, &cipher_flags(cipher), &batch)
            }
            Client::Lftp if is_tree => {
                let to = to.display();
                drive::lftp(&self.kit, at, &format!("{MIRROR} {remote} {to}"))
            }
            Client::Lftp => drive::lftp(&self.kit, at, &format!("get {remote} -o {}", to.display())),
            Client::Curl if is_tree => {
                let twin = self.root.join(name);
                let of = |file: &str| format!("output = {:?}\n", to.join(file).display().to_string());
                self.curl_tree(at, &remote, &twin, of)
            }
            Client::Curl => Ok(drive::curl_by_password(&self.kit, at, &remote)?.arg("--output").arg(to)),
            Client::Rclone => {
                let from = drive::rclone_remote(&self.kit, at, &remote)?;
                Ok(self.rclone(is_tree)?.arg(from).arg(to))
            }
            Client::S5cmd if is_tree => {
                let run = drive::s5cmd(&self.kit, at, "cp")?.arg(format!("s3:/{remote}/*"));
                Ok(run.arg(format!("{}/", to.display())))
            }
            Client::S5cmd => Ok(drive::s5cmd(&self.kit, at, "cp")?.arg(format!("s3:/{remote}")).arg(to)),
            _ => bail!("{} is only asked to list", client.name()),
        }
    }

    /// curl for every file of a tree that `twin` is like, many at a time.
    fn curl_tree(&self, at: &Address, remote: &str, twin: &Path, of: impl Fn(&str) -> String) -> Result<Run> {
        let config = self.kit.join("curl-config");
        write(&config, curl_scripts(at, remote, twin, of)?.concat())?;
        let run = drive::curl_login(&self.kit, at)?.args(["--parallel", "--parallel-immediate"]);
        Ok(run.args(["--parallel-max", "8"]).args(CURL_DIRS).arg("--config").arg(config))
    }

    /// The same with a process for each file.
    fn curls(&self, at: &Address, remote: &str, twin: &Path, of: impl Fn(&str) -> String) -> Result<Run> {
        let mut configs = Vec::new();
        for (number, script) in curl_scripts(at, remote, twin, of)?.into_iter().enumerate() {
            let config = self.kit.join(&format!("curl-config-{number}"));
            write(&config, script)?;
            configs.push(config.display().to_string());
        }
        let each = Run::new("xargs").args(["-P", "0", "-n", "1"]);
        let run = drive::curl_login(&self.kit, at)?.args(CURL_DIRS).arg("--config");
        Ok(run.below(each).input(configs.join("\n")))
    }

    /// Each file of a tree by a process of its own.
    pub(super) fn get_several(&self, client: Client, at: &Address, name: &str, to: &Path) -> Result<Run> {
        ensure!(client == Client::Curl, "{} is not asked for that", client.name());
        let of = |file: &str| format!("output = {:?}\n", to.join(file).display().to_string());
        self.curls(at, &format!("{}{name}", at.folder), &self.root.join(name), of)
    }

    /// The same the other way.
    pub(super) fn put_several(&self, client: Client, at: &Address, from: &Path, name: &str) -> Result<Run> {
        ensure!(client == Client::Curl, "{} is not asked for that", client.name());
        let of = |file: &str| format!("upload-file = {:?}\n", from.join(file).display().to_string());
        self.curls(at, &format!("{}{name}", at.folder), from, of)
    }

    pub(super) fn put(
        &self,
        client: Client,
        at: &Address,
        from: &Path,
        name: &str,
        is_tree: bool,
    ) -> Result<Run> {
        let remote = format!("{}{name}", at.folder);
        let flags: &[&str] = if is_tree { &["-r"] } else { &[] };
        match client {
            Client::Ferry => {
                Ok(self.ferry("put", at)?.args(flags).arg(from).arg(drive::ferry_url(at, &remote)))
            }
            Client::Sftp(cipher) => {
                let batch = format!("put {} \"{}\" \"{remote}\"\n", flags.concat(), from.display());
                drive::sftp_with(&self.kit, at, &cipher_flags(cipher), &batch)
            }
            Client::Lftp if is_tree => {
                let from = from.display();
                drive::lftp(&self.kit, at, &format!("{MIRROR} -R {from} {remote}"))
            }
            Client::Lftp => drive::lftp(&self.kit, at, &format!("put {} -o {remote}", from.display())),
            Client::Curl if is_tree => {
                let of = |file: &str| format!("upload-file = {:?}\n", from.join(file).display().to_string());
                self.curl_tree(at, &remote, from, of)
            }
            Client::Curl => {
                Ok(drive::curl_by_password(&self.kit, at, &remote)?.arg("--upload-file").arg(from))
            }
            Client::Rclone => {
                let to = drive::rclone_remote(&self.kit, at, &remote)?;
                Ok(self.rclone(is_tree)?.arg(from).arg(to))
            }
            Client::S5cmd if is_tree => {
                let run = drive::s5cmd(&self.kit, at, "cp")?.arg(format!("{}/", from.display()));
                Ok(run.arg(format!("s3:/{remote}/")))
            }
            Client::S5cmd => Ok(drive::s5cmd(&self.kit, at, "cp")?.arg(from).arg(format!("s3:/{remote}"))),
            _ => bail!("{} is only asked to list", client.name()),
        }
    }

    /// rclone with as many transfers as ours has; a single file gets the name that is said.
    fn rclone(&self, is_tree: bool) -> Result<Run> {
        let run = drive::rclone(&self.kit, if is_tree { "copy" } else { "copyto" })?;
        Ok(run.args(["--transfers", "8", "--checkers", "16"]))
    }

    /// Makes the twin like the tree `name` of the server.
    pub(super) fn sync(&self, client: Client, at: &Address, name: &str) -> Result<Run> {
        let remote = format!("{}{name}", at.folder);
        match client {
            Client::Ferry => {
                let run = self.ferry("sync", at)?.args(["--direction", "left"]).arg(&self.twin);
                Ok(run.arg(drive::ferry_url(at, &remote)))
            }
            Client::Rclone => {
                let run = drive::rclone(&self.kit, "sync")?.args(["--transfers", "8", "--checkers", "16"]);
                Ok(run.arg(drive::rclone_remote(&self.kit, at, &remote)?).arg(&self.twin))
            }
            _ => bail!("{} is not asked to synchronise", client.name()),
        }
    }

    /// ferry that fetches a tree which is there for the number of its files, and where it puts it.
    pub(super) fn many(&mut self, which: Server) -> Result<(Run, PathBuf)> {
        let at = self.address(which, Link::Near)?;
        let path = self.root.join("many");
        if !path.exists() {
            data::make_many(&path, self.sizes.many)?;
        }
        let landing = self.landing.join("many");
        Ok((self.get(Client::Ferry, &at, "many", &landing, true)?, landing))
    }

    pub(super) fn list(&self, client: Client, at: &Address, name: &str) -> Result<Run> {
        let kit = &self.kit;
        let remote = format!("{}{name}", at.folder);
        match client {
            Client::Ferry => Ok(self.ferry("ls", at)?.arg("-U").arg(drive::ferry_url(at, &remote))),
            Client::Sftp(cipher) => {
                drive::sftp_with(kit, at, &cipher_flags(cipher), &format!("ls -1f \"{remote}\"\n"))
            }
            Client::Rclone => Ok(drive::rclone(kit, "lsf")?.arg(drive::rclone_remote(kit, at, &remote)?)),
            Client::Lftp => drive::lftp(kit, at, &format!("cls -1 \"{remote}\"")),
            Client::Curl if at.scheme == Scheme::Dav => {
                let run = drive::curl_by_password(kit, at, &format!("{remote}/"))?;
                Ok(run.args(["--request", "PROPFIND", "--header", "Depth: 1", "--data", SIZES]))
            }
            Client::S5cmd => Ok(drive::s5cmd(kit, at, "ls")?.arg(format!("s3:/{remote}/*"))),
            Client::Curl if at.scheme != Scheme::Sftp => {
                Ok(drive::curl_by_password(kit, at, &format!("{remote}/"))?.arg("--list-only"))
            }
            Client::Curl => {
                let url = drive::curl_url(at, &format!("{remote}/"));
                Ok(drive::curl(kit, at)?.arg("--list-only").arg(url))
            }
            Client::Quickest | Client::QuickestOfBoth | Client::Best => bail!("the quickest has a name"),
        }
    }
}

/// What curl is told of each file of a tree that `twin` is like.
fn curl_scripts(at: &Address, remote: &str, twin: &Path, of: impl Fn(&str) -> String) -> Result<Vec<String>> {
    let script = |file: String| {
        let url = drive::curl_password_url(at, &format!("{remote}/{file}"));
        format!("url = \"{url}\"\n{}", of(&file))
    };
    Ok(data::names(twin)?.into_iter().map(script).collect())
}

/// Folders are made as they are needed.
const CURL_DIRS: [&str; 2] = ["--create-dirs", "--ftp-create-dirs"];

/// lftp's way with trees, with as many connections as ours has; their modes are the servers' own.
const MIRROR: &str = "set net:connection-limit 0; mirror --parallel=8 --no-perms";

/// What is asked of each entry of a listing by WebDAV.
const SIZES: &str = "<?xml version=\"1.0\"?><propfind xmlns=\"DAV:\"><prop><getcontentlength/><getlastmodified/>\
     <resourcetype/></prop></propfind>";

fn cipher_flags(cipher: Option<&'static str>) -> Vec<&'static str> {
    cipher.map(|cipher| vec!["-q", "-c", cipher]).unwrap_or_else(|| vec!["-q"])
}
