//! Their clients of FTP on our server: in the clear, with explicit and with implicit TLS.
//!
//! Ours demands that data connections resume the control connection's session; a client that cannot
//! (Python's ftplib) is told so, and works where the demand is switched off ([`super::daemon`]).

use super::theirs::{lftp_changes_names, lftp_mirrors, lftp_resumes, rclone_syncs};
use super::{
    OLD, SIZE, Scene, bytes, has_mode, has_time, holds, holds_names, make, plain_tree, same_tree, says,
};
use crate::fault::{Result, While, ensure};
use crate::peers::servers::Scheme;
use crate::peers::{drive, program};
use crate::process::{Run, write};

/// A test of their client by one way of FTP.
pub(in crate::peers) struct FtpCase {
    pub(in crate::peers) name: &'static str,
    /// The peer that it needs, by name.
    pub(in crate::peers) peer: &'static str,
    pub(in crate::peers) scheme: Scheme,
    pub(in crate::peers) run: fn(&Scene) -> Result<()>,
}

const fn case(
    name: &'static str,
    peer: &'static str,
    scheme: Scheme,
    run: fn(&Scene) -> Result<()>,
) -> FtpCase {
    FtpCase { name, peer, scheme, run }
}

use Scheme::{Ftp, Ftpes, Ftps};

#[rustfmt::skip]
pub(in crate::peers) const FTP: &[FtpCase] = &[
    case("lftp_ftp::mirrors", "lftp", Ftp, lftp_mirrors),
    case("lftp_ftp::resumes", "lftp", Ftp, lftp_resumes),
    case("lftp_ftp::changes_names", "lftp", Ftp, lftp_changes_names),
    case("lftp_ftpes::mirrors", "lftp", Ftpes, lftp_mirrors),
    case("lftp_ftpes::resumes", "lftp", Ftpes, lftp_resumes),
    case("lftp_ftps::mirrors", "lftp", Ftps, lftp_mirrors),
    case("rclone_ftp::copies_and_checks", "rclone", Ftp, rclone_copies_and_checks),
    case("rclone_ftp::syncs", "rclone", Ftp, rclone_syncs),
    case("rclone_ftpes::copies_and_checks", "rclone", Ftpes, rclone_copies_and_checks),
    case("rclone_ftps::syncs", "rclone", Ftps, rclone_syncs),
    case("curl_ftp::moves_a_file", "curl", Ftp, curl_moves_a_file),
    case("curl_ftp::resumes", "curl", Ftp, curl_resumes),
    case("curl_ftp::sends_commands", "curl", Ftp, curl_sends_commands),
    case("curl_ftp::is_told_what_is_not_there", "curl", Ftp, curl_is_refused),
    case("curl_ftpes::moves_a_file", "curl", Ftpes, curl_moves_a_file),
    case("curl_ftpes::resumes", "curl", Ftpes, curl_resumes),
    case("curl_ftps::moves_a_file", "curl", Ftps, curl_moves_a_file),
    case("curl_ftpes::by_either_tls", "curl", Ftpes, curl_by_either_tls),
    case("wget_ftp::fetches_a_tree", "wget", Ftp, wget_fetches_a_tree),
    case("wget_ftpes::fetches_a_tree", "wget", Ftpes, wget_fetches_a_tree),
    case("ncftp::moves_a_tree", "ncftp", Ftp, ncftp_moves_a_tree),
    case("ncftp::lists", "ncftp", Ftp, ncftp_lists),
    case("tnftp::works", "tnftp", Ftp, tnftp_works),
    case("ftplib_ftp::works", "ftplib", Ftp, ftplib_works),
    case("ftplib_ftpes::is_told_to_resume", "ftplib", Ftpes, ftplib_is_told),
];

fn curl(scene: &Scene, name: &str) -> Result<Run> {
    drive::curl_by_password(scene.kit, &scene.at, &scene.remote(name))
}

fn curl_moves_a_file(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 1)?;
    let up = curl(scene, "new/folder/a name")?.arg("--ftp-create-dirs").arg("--upload-file");
    up.arg(scene.here("file")).finish()?.succeeded()?;
    holds(&scene.there("new/folder/a name"), &content)?;
    let down = curl(scene, "new/folder/a name")?.arg("--remote-time").arg("--output");
    down.arg(scene.here("back")).finish()?.succeeded()?;
    holds(&scene.here("back"), &content)?;
    // As a text: every line ends as this machine ends lines.
    write(&scene.there("text"), "one\ntwo\n")?;
    let text = curl(scene, "text")?.arg("--use-ascii").text()?;
    ensure!(text == "one\r\ntwo\r\n" || text == "one\ntwo\n", "the text became {text:?}");
    let names = curl(scene, "")?.arg("--list-only").text()?;
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    ensure!(names == ["new", "text"], "the names are {names:?}");
    // By the older command, and by the other side's connecting to us, which our server does not do.
    let old = curl(scene, "text")?.arg("--disable-epsv").text()?;
    ensure!(old == "one\ntwo\n", "by PASV the text is {old:?}");
    curl(scene, "text")?.args(["--ftp-port", "127.0.0.1"]).finish()?.refused().map(drop)
}

fn curl_resumes(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 3)?;
    let part = content.get(..SIZE / 3).unwrap_or_default();
    write(&scene.here("back"), part)?;
    write(&scene.there("name"), part)?;
    let up = curl(scene, "name")?.args(["--continue-at", "-", "--upload-file"]);
    up.arg(scene.here("file")).finish()?.succeeded()?;
    holds(&scene.there("name"), &content)?;
    let down = curl(scene, "name")?.args(["--continue-at", "-", "--output"]);
    down.arg(scene.here("back")).finish()?.succeeded()?;
    holds(&scene.here("back"), &content)?;
    let middle = curl(scene, "name")?.args(["--range", "100001-600000", "--output"]);
    middle.arg(scene.here("part")).finish()?.succeeded()?;
    holds(&scene.here("part"), content.get(100_001..=600_000).unwrap_or_default())?;
    make(&scene.here("more"), 4)?;
    curl(scene, "name")?
        .arg("--append")
        .arg("--upload-file")
        .arg(scene.here("more"))
        .finish()?
        .succeeded()?;
    holds(&scene.there("name"), &[content, bytes(4)].concat())
}

fn curl_sends_commands(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 4)?;
    make(&scene.there("rest"), 5)?;
    let folder = &scene.folder;
    let commands = [
        format!("MKD {folder}folder"),
        format!("RNFR {folder}file"),
        format!("RNTO {folder}folder/other"),
        format!("SITE CHMOD 604 {folder}folder/other"),
        format!("MFMT 20170714024203 {folder}folder/other"),
        format!("DELE {folder}rest"),
        format!("MKD {folder}gone"),
        format!("RMD {folder}gone"),
    ];
    let mut run = curl(scene, "")?.arg("--list-only");
    for command in &commands {
        run = run.arg("--quote").arg(command);
    }
    ensure!(run.text()?.trim() == "folder", "other names are there");
    holds(&scene.there("folder/other"), &bytes(4))?;
    has_mode(&scene.there("folder/other"), 0o604)?;
    has_time(&scene.there("folder/other"), OLD)?;
    holds_names(&scene.root, &["folder"])
}

fn curl_is_refused(scene: &Scene) -> Result<()> {
    let done = curl(scene, "nothing")?.arg("--output").arg(scene.here("x")).finish()?;
    // 78: the file is not there.
    ensure!(done.code == Some(78), "curl ends with {:?}: {}", done.code, done.stderr);
    let done = drive::curl_by_password(scene.kit, &scene.at, "/")?.args(["--user", "nobody:x"]).finish()?;
    // 67: the login is refused.
    ensure!(done.code == Some(67), "curl ends with {:?}: {}", done.code, done.stderr);
    Ok(())
}

fn curl_by_either_tls(scene: &Scene) -> Result<()> {
    let content = make(&scene.there("file"), 4)?;
    for versions in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let run = curl(scene, "file")?.args(versions).arg("--output").arg(scene.here("back"));
        run.finish()?.succeeded()?;
        holds(&scene.here("back"), &content)?;
    }
    curl(scene, "file")?.args(["--tlsv1.0", "--tls-max", "1.1"]).finish()?.refused().map(drop)
}

fn client(scene: &Scene, name: &str) -> Result<Run> {
    Ok(program(name)?.env("HOME", scene.kit.join("")).dir(&scene.local))
}

fn rclone(scene: &Scene, command: &str, args: &[&str]) -> Result<()> {
    drive::rclone(scene.kit, command)?.args(args).finish()?.succeeded().map(drop)
}

fn rclone_copies_and_checks(scene: &Scene) -> Result<()> {
    plain_tree(&scene.here("tree"))?;
    let (up, down) = (scene.here("tree"), scene.here("back"));
    let (up, down) = (up.to_string_lossy(), down.to_string_lossy());
    let remote = drive::rclone_remote(scene.kit, &scene.at, &scene.remote("tree"))?;
    rclone(scene, "copy", &["--create-empty-src-dirs", &up, &remote])?;
    same_tree(&scene.here("tree"), &scene.there("tree"))?;
    has_time(&scene.there("tree/two words"), OLD)?;
    rclone(scene, "check", &["--download", &up, &remote])?;
    rclone(scene, "copy", &["--create-empty-src-dirs", &remote, &down])?;
    same_tree(&scene.here("tree"), &scene.here("back"))
}

fn wget_fetches_a_tree(scene: &Scene) -> Result<()> {
    std::fs::create_dir_all(scene.there("tree/inner")).doing(|| "making folders".to_owned())?;
    for (number, name) in ["file", "inner/other", "inner/third"].iter().enumerate() {
        make(&scene.there("tree").join(name), number)?;
    }
    let mut run = client(scene, "wget")?.args(["--no-config", "--no-verbose", "--tries=1", "--timeout=20"]);
    run =
        run.arg(format!("--ftp-user={}", scene.at.user)).arg(format!("--ftp-password={}", scene.at.password));
    let scheme = match &scene.at.certificate {
        None => "ftp",
        Some(certificate) => {
            run = run.arg(format!("--ca-certificate={}", certificate.display()));
            // By itself it resumes the control connection's session on data connections.
            "ftps"
        }
    };
    let cut = scene.folder.matches('/').count() - 1;
    run = run.args(["--recursive", "--no-host-directories", &format!("--cut-dirs={cut}")]);
    let url = format!("{scheme}://127.0.0.1:{}{}", scene.at.port, scene.remote("tree/"));
    run.arg(url).finish()?.succeeded()?;
    // It takes times from the listing, which tells the day of what is old.
    same_tree(&scene.there("tree"), &scene.here("tree"))
}

fn ncftp(scene: &Scene, name: &str) -> Result<Run> {
    let run = client(scene, name)?.args(["-V", "-t", "20", "-r", "1", "-P", &scene.at.port.to_string()]);
    Ok(run.args(["-u", &scene.at.user, "-p", &scene.at.password]))
}

fn ncftp_moves_a_tree(scene: &Scene) -> Result<()> {
    plain_tree(&scene.here("tree"))?;
    let put = ncftp(scene, "ncftpput")?.args(["-R", "127.0.0.1", &scene.folder]);
    put.arg(scene.here("tree")).finish()?.succeeded()?;
    same_tree(&scene.here("tree"), &scene.there("tree"))?;
    has_time(&scene.there("tree/two words"), OLD)?;
    std::fs::create_dir(scene.here("back")).doing(|| "making a folder".to_owned())?;
    let get = ncftp(scene, "ncftpget")?.args(["-R", "127.0.0.1"]).arg(scene.here("back"));
    get.arg(scene.remote("tree")).finish()?.succeeded()?;
    same_tree(&scene.there("tree"), &scene.here("back/tree"))
}

fn ncftp_lists(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 2)?;
    let url = format!("ftp://127.0.0.1{}", scene.folder);
    let run = client(scene, "ncftpls")?.args(["-t", "20", "-r", "1", "-P", &scene.at.port.to_string()]);
    let run = run.args(["-u", &scene.at.user, "-p", &scene.at.password, "-l", &url]);
    let text = run.text()?;
    says(&text, "file")?;
    says(&text, &SIZE.to_string())
}

fn tnftp_works(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 3)?;
    let batch = format!(
        "user {} \"{}\"\nbinary\ncd {}\nput file name\nrename name other\nmkdir folder\nls\nget other back\n\
         size other\nmodtime other\nchmod 604 other\nbye\n",
        scene.at.user, scene.at.password, scene.folder
    );
    let port = scene.at.port.to_string();
    let run = client(scene, "tnftp")?.args(["-n", "-v", "-i", "-p", "-P", &port, "127.0.0.1"]).input(batch);
    let said = run.finish()?.succeeded()?.stdout;
    holds(&scene.there("other"), &content)?;
    holds(&scene.here("back"), &content)?;
    has_mode(&scene.there("other"), 0o604)?;
    says(&said, &SIZE.to_string())?;
    holds_names(&scene.root, &["folder", "other"])
}

/// The script has `ftp`, logged in, and `arguments`: the folder here, the folder there.
fn ftplib(scene: &Scene, script: &str) -> Result<Run> {
    let run = drive::ftplib(scene.kit, &scene.at, &format!("{FTPLIB}{script}"))?;
    Ok(run.arg(scene.here("")).arg(&scene.folder))
}

const FTPLIB: &str = "
import sys, ftplib, ssl, io
port, user, password, certificate, *arguments = sys.argv[1:]
if certificate:
    context = ssl.create_default_context(cafile=certificate)
    ftp = ftplib.FTP_TLS(context=context, timeout=20)
else:
    ftp = ftplib.FTP(timeout=20)
ftp.encoding = 'utf-8'
ftp.connect('127.0.0.1', int(port))
ftp.login(user, password)
if certificate:
    ftp.prot_p()
here, there = arguments
ftp.cwd(there)
";

/// What a client does that never resumes TLS sessions, whatever the protocol below.
const FTPLIB_WORKS: &str = "
content = open(here + 'file', 'rb').read()
assert ftp.storbinary('STOR name', io.BytesIO(content)).startswith('226')
assert ftp.size('name') == len(content)
back = io.BytesIO()
ftp.retrbinary('RETR name', back.write)
assert back.getvalue() == content
facts = dict(ftp.mlsd())
assert facts['name']['size'] == str(len(content)), facts
assert ftp.nlst() == ['name'], ftp.nlst()
lines = []
ftp.retrlines('LIST', lines.append)
assert len(lines) == 1 and lines[0].endswith(' name') and lines[0].startswith('-rw'), lines
ftp.storlines('STOR text', io.BytesIO(b'one\\ntwo\\n'))
ftp.rename('text', 'words')
assert ftp.mkd('a \"quoted\" folder') == there + 'a \"quoted\" folder'
ftp.rmd('a \"quoted\" folder')
ftp.delete('words')
tail = io.BytesIO()
ftp.retrbinary('RETR name', tail.write, rest=len(content) - 5)
assert tail.getvalue() == content[-5:]
ftp.quit()
";

pub(super) fn ftplib_works(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 5)?;
    ftplib(scene, FTPLIB_WORKS)?.finish()?.succeeded()?;
    holds(&scene.there("name"), &content)?;
    holds_names(&scene.root, &["name"])
}

fn ftplib_is_told(scene: &Scene) -> Result<()> {
    make(&scene.here("file"), 5)?;
    // Who only sends does not look for the answer before its sending fails.
    ftplib(scene, FTPLIB_WORKS)?.finish()?.refused()?;
    let done = ftplib(scene, "ftp.nlst()")?.finish()?.refused()?;
    says(&done.stderr, "522")?;
    says(&done.stderr, "resume")?;
    holds_names(&scene.root, &[])
}
