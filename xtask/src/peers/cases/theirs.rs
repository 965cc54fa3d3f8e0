//! Their clients on our server: what people do with each of them. Python's stand in [`python`](super::python).
//!
//! The same cases hold on any honest server: `cargo xtask peers --on sshd` tries the cases themselves.

use super::{
    Case, Names, OLD, SIZE, Scene, bytes, has_mode, has_time, holds, holds_names, is_absent, listed, make,
    make_tree, same_tree, says,
};
use crate::fault::{Result, While, ensure};
use crate::peers::drive::{self, Mount};
use crate::process::{Run, read, write};

const fn case(name: &'static str, peer: &'static str, run: fn(&Scene) -> Result<()>) -> Case {
    Case { name, peer, run }
}

pub(in crate::peers) const THEIRS: &[Case] = &[
    case("sftp::moves_a_file", "openssh", sftp_moves_a_file),
    case("sftp::moves_a_tree", "openssh", sftp_moves_a_tree),
    case("sftp::resumes", "openssh", sftp_resumes),
    case("sftp::changes_names", "openssh", sftp_changes_names),
    case("sftp::links", "openssh", sftp_links),
    case("sftp::lists", "openssh", sftp_lists),
    case("sftp::tells_space", "openssh", sftp_tells_space),
    case("sftp::is_refused_in_clear_words", "openssh", sftp_is_refused),
    case("scp::moves_a_tree", "openssh", scp_moves_a_tree),
    case("scp::expands_patterns", "openssh", scp_expands_patterns),
    case("scp_legacy::moves_a_tree", "openssh", scp_legacy_moves_a_tree),
    case("scp_legacy::expands_patterns", "openssh", scp_legacy_expands_patterns),
    case("ssh::tells_sums", "openssh", ssh_tells_sums),
    case("lftp::mirrors", "lftp", lftp_mirrors),
    case("lftp::resumes", "lftp", lftp_resumes),
    case("lftp::changes_names", "lftp", lftp_changes_names),
    case("libcurl::moves_a_file", "libcurl", curl_moves_a_file),
    case("libcurl::takes_a_range", "libcurl", curl_takes_a_range),
    case("libcurl::resumes", "libcurl", curl_resumes),
    case("libcurl::changes_names", "libcurl", curl_changes_names),
    case("rclone::copies_and_checks", "rclone", rclone_copies_and_checks),
    case("rclone::lists", "rclone", rclone_lists),
    case("rclone::syncs", "rclone", rclone_syncs),
    case("psftp::moves_a_tree", "putty", psftp_moves_a_tree),
    case("psftp::resumes", "putty", psftp_resumes),
    case("psftp::changes_names", "putty", psftp_changes_names),
    case("pscp::moves_a_tree", "putty", pscp_moves_a_tree),
    case("pscp_legacy::moves_a_tree", "putty", pscp_legacy_moves_a_tree),
];

/// Needs a machine where file systems can be mounted.
pub(in crate::peers) const MOUNTED: &[Case] = &[case("sshfs::is_a_disk", "sshfs", sshfs_is_a_disk)];

fn sftp(scene: &Scene, batch: &str) -> Result<String> {
    Ok(drive::sftp(scene.kit, &scene.at, batch)?.finish()?.succeeded()?.stdout)
}

/// Runs a batch that must fail; returns what the client said.
fn sftp_fails(scene: &Scene, batch: &str) -> Result<String> {
    let done = drive::sftp(scene.kit, &scene.at, batch)?.finish()?.refused()?;
    Ok(done.stdout + &done.stderr)
}

fn sftp_moves_a_file(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 1)?;
    let (up, remote, down) = (scene.here("file"), scene.remote("name"), scene.here("back"));
    sftp(scene, &format!("put -p {} {remote}\nget -p {remote} {}\n", up.display(), down.display()))?;
    holds(&scene.there("name"), &content)?;
    has_mode(&scene.there("name"), 0o640)?;
    has_time(&scene.there("name"), OLD)?;
    holds(&down, &content)?;
    has_mode(&down, 0o640)?;
    has_time(&down, OLD)?;
    holds_names(&scene.root, &["name"])
}

fn sftp_moves_a_tree(scene: &Scene) -> Result<()> {
    make_tree(&scene.here("tree"), Names::Any)?;
    let (up, remote, down) = (scene.here("tree"), scene.remote("tree"), scene.here("back"));
    sftp(scene, &format!("put -r {} {remote}\nget -r {remote} {}\n", up.display(), down.display()))?;
    same_tree(&up, &scene.there("tree"))?;
    same_tree(&up, &down)
}

fn sftp_resumes(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 2)?;
    let part = content.get(..SIZE / 3).unwrap_or_default();
    write(&scene.here("part"), part)?;
    write(&scene.here("back"), part)?;
    let (part, file) = (scene.here("part"), scene.here("file"));
    let (remote, back) = (scene.remote("name"), scene.here("back"));
    sftp(scene, &format!("put {} {remote}\nreput {} {remote}\n", part.display(), file.display()))?;
    holds(&scene.there("name"), &content)?;
    sftp(scene, &format!("reget {remote} {}\n", back.display()))?;
    holds(&back, &content)
}

fn sftp_changes_names(scene: &Scene) -> Result<()> {
    let one = make(&scene.here("one"), 3)?;
    make(&scene.here("two"), 4)?;
    let folder = &scene.folder;
    let (here_one, here_two) = (scene.here("one"), scene.here("two"));
    sftp(
        scene,
        &format!(
            "cd {folder}\nmkdir a\nmkdir a/b\nput {} a/b/one\nput {} two\nrename a/b/one two\nrename a c\n\
             mkdir gone\nrmdir gone\nput {} rest\nrm rest\nchmod 604 two\n",
            here_one.display(),
            here_two.display(),
            here_two.display(),
        ),
    )?;
    // `rename` replaces, as `posix-rename` does.
    holds(&scene.there("two"), &one)?;
    has_mode(&scene.there("two"), 0o604)?;
    holds_names(&scene.root, &["c", "two"])?;
    holds_names(&scene.there("c/b"), &[])
}

fn sftp_links(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 5)?;
    let (file, back) = (scene.here("file"), scene.here("back"));
    sftp(
        scene,
        &format!(
            "cd {}\nput {} file\nln -s file soft\nln file hard\nget soft {}\n",
            scene.folder,
            file.display(),
            back.display()
        ),
    )?;
    holds(&back, &content)?;
    let target = std::fs::read_link(scene.there("soft")).doing(|| "reading the link".to_owned())?;
    ensure!(target.as_os_str() == "file", "the link leads to {}", target.display());
    use std::os::unix::fs::MetadataExt as _;
    let number = |name: &str| scene.there(name).metadata().map(|found| found.ino()).ok();
    ensure!(number("hard").is_some() && number("hard") == number("file"), "not one file of two names");
    // A link is removed, not what it leads to.
    sftp(scene, &format!("rm {}\n", scene.remote("soft")))?;
    is_absent(&scene.there("soft"))?;
    holds(&scene.there("file"), &content)
}

fn sftp_lists(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 6)?;
    std::fs::create_dir(scene.there("folder")).doing(|| "making a folder".to_owned())?;
    for number in 0..700 {
        write(&scene.there("folder").join(format!("n{number}")), [])?;
    }
    let text = sftp(scene, &format!("ls -ln {}\n", scene.folder))?;
    let line = text.lines().find(|line| line.ends_with("file")).unwrap_or_default();
    for word in ["-rw-r-----", &format!(" {SIZE} "), "2017"] {
        says(line, word)?;
    }
    says(&text, "drwx")?;
    let text = sftp(scene, &format!("ls -1 {}folder\n", scene.folder))?;
    let names = text.lines().filter(|line| line.contains("folder/n")).count();
    ensure!(names == 700, "{names} of 700 names are listed");
    let text = sftp(scene, &format!("cd {}\npwd\n", scene.folder))?;
    says(&text, scene.folder.trim_end_matches('/'))
}

fn sftp_tells_space(scene: &Scene) -> Result<()> {
    let text = sftp(scene, &format!("df {}\n", scene.folder))?;
    let numbers = text.lines().last().unwrap_or_default();
    let size = numbers.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    ensure!(size.is_some_and(|size| size > 0), "no size of the disk:\n{text}");
    Ok(())
}

fn sftp_is_refused(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 7)?;
    std::fs::create_dir_all(scene.there("full/of")).doing(|| "making a folder".to_owned())?;
    let folder = &scene.folder;
    let said = sftp_fails(scene, &format!("get {folder}nothing {}\n", scene.here("x").display()))?;
    says(&said, "not found")?;
    is_absent(&scene.here("x"))?;
    let said = sftp_fails(scene, &format!("rename {folder}nothing {folder}x\n"))?;
    says(&said, "No such file or directory")?;
    says(&sftp_fails(scene, &format!("mkdir {folder}full\n"))?, "Failure")?;
    says(&sftp_fails(scene, &format!("rmdir {folder}full\n"))?, "Failure")?;
    says(&sftp_fails(scene, &format!("rm {folder}nothing\n"))?, "No such file or directory")?;
    sftp_fails(scene, &format!("rm {folder}full\n"))?;
    sftp_fails(scene, &format!("rmdir {folder}file\n"))?;
    holds_names(&scene.root, &["file", "full"])
}

/// `-s`: over SFTP. `-O`: by its own protocol.
fn scp(scene: &Scene, way: &str) -> Result<Run> {
    Ok(drive::openssh(scene.kit, &scene.at, "scp")?.args([way, "-p", "-r"]))
}

fn scp_moves_a_tree(scene: &Scene) -> Result<()> {
    scp_by(scene, "-s", Names::Any)
}

/// A name with a line end cannot be said in lines.
fn scp_legacy_moves_a_tree(scene: &Scene) -> Result<()> {
    scp_by(scene, "-O", Names::Printable)
}

fn scp_by(scene: &Scene, way: &str, names: Names) -> Result<()> {
    make_tree(&scene.here("tree"), names)?;
    make(&scene.here("tree/dated"), 1)?;
    let remote = format!("{}@127.0.0.1:{}", scene.at.user, scene.remote("tree"));
    scp(scene, way)?.arg(scene.here("tree")).arg(&remote).finish()?.succeeded()?;
    same_tree(&scene.here("tree"), &scene.there("tree"))?;
    has_mode(&scene.there("tree/dated"), 0o640)?;
    has_time(&scene.there("tree/dated"), OLD)?;
    scp(scene, way)?.arg(&remote).arg(scene.here("back")).finish()?.succeeded()?;
    same_tree(&scene.here("tree"), &scene.here("back"))?;
    has_time(&scene.here("back/dated"), OLD)
}

fn scp_expands_patterns(scene: &Scene) -> Result<()> {
    scp_patterns_by(scene, "-s")
}

fn scp_legacy_expands_patterns(scene: &Scene) -> Result<()> {
    scp_patterns_by(scene, "-O")
}

fn scp_patterns_by(scene: &Scene, way: &str) -> Result<()> {
    for (number, name) in ["a1", "a2", "b1"].iter().enumerate() {
        make(&scene.there(name), number)?;
    }
    std::fs::create_dir(scene.here("got")).doing(|| "making a folder".to_owned())?;
    let remote = format!("{}@127.0.0.1:{}", scene.at.user, scene.remote("a*"));
    scp(scene, way)?.arg(&remote).arg(scene.here("got")).finish()?.succeeded()?;
    holds_names(&scene.here("got"), &["a1", "a2"])?;
    holds(&scene.here("got/a2"), &bytes(1))
}

fn ssh_tells_sums(scene: &Scene) -> Result<()> {
    make(&scene.there("a file"), 1)?;
    let ours = crate::process::Run::new("sha256sum").arg(scene.there("a file")).text()?;
    let wanted = ours.split_whitespace().next().unwrap_or_default().to_owned();
    let command = format!("sha256sum '{}'", scene.remote("a file"));
    let login = format!("{}@127.0.0.1", scene.at.user);
    says(&drive::openssh(scene.kit, &scene.at, "ssh")?.arg(login).arg(command).text()?, &wanted)
}

fn lftp(scene: &Scene, commands: &str) -> Result<String> {
    Ok(drive::lftp(scene.kit, &scene.at, commands)?.finish()?.succeeded()?.stdout)
}

pub(super) fn lftp_mirrors(scene: &Scene) -> Result<()> {
    // lftp reads names in a character set and lines from ssh: what is no text does not pass.
    make_tree(&scene.here("tree"), Names::Printable)?;
    make(&scene.here("tree/dated"), 1)?;
    let (up, remote, down) = (scene.here("tree"), scene.remote("tree"), scene.here("back"));
    lftp(scene, &format!("mirror -R --parallel=4 {} {remote}", up.display()))?;
    same_tree(&up, &scene.there("tree"))?;
    has_time(&scene.there("tree/dated"), OLD)?;
    lftp(scene, &format!("mirror --parallel=4 {remote} {}", down.display()))?;
    same_tree(&up, &down)?;
    has_time(&down.join("dated"), OLD)
}

pub(super) fn lftp_resumes(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 2)?;
    let part = content.get(..SIZE / 3).unwrap_or_default();
    write(&scene.here("back"), part)?;
    write(&scene.there("name"), part)?;
    let (file, back, remote) = (scene.here("file"), scene.here("back"), scene.remote("name"));
    lftp(scene, &format!("put -c {} -o {remote}", file.display()))?;
    holds(&scene.there("name"), &content)?;
    lftp(scene, &format!("get -c {remote} -o {}", back.display()))?;
    holds(&back, &content)
}

pub(super) fn lftp_changes_names(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 3)?;
    let file = scene.here("file");
    let text = lftp(
        scene,
        &format!(
            "cd {}; mkdir -p a/b; put {} -o a/b/file; mv a/b/file c; chmod 604 c; rmdir a/b; rm -r a; cls -l",
            scene.folder,
            file.display()
        ),
    )?;
    holds(&scene.there("c"), &content)?;
    has_mode(&scene.there("c"), 0o604)?;
    holds_names(&scene.root, &["c"])?;
    says(&text, &SIZE.to_string())
}

/// curl as a library, in a version that knows the MACs of today: the libssh2 of Debian 12 does not.
fn curl(scene: &Scene, name: &str, options: &str) -> Result<()> {
    let script = format!("url = arguments[0]; local = arguments[1]\n{options}");
    let url = drive::curl_url(&scene.at, &scene.remote(name));
    drive::pycurl(scene.kit, &scene.at, &script)?.arg(url).arg(scene.here("")).finish()?.succeeded().map(drop)
}

fn curl_moves_a_file(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 1)?;
    let up = "
curl.setopt(curl.FTP_CREATE_MISSING_DIRS, 1)
go(url, up=local + 'file')
";
    curl(scene, "new/folder/a name", up)?;
    holds(&scene.there("new/folder/a name"), &content)?;
    curl(scene, "new/folder/a name", "go(url, down=local + 'back')")?;
    holds(&scene.here("back"), &content)?;
    let missing = "
try:
    go(url, down=local + 'nothing')
    raise AssertionError('there is a file')
except pycurl.error as error:
    assert error.args[0] == pycurl.E_REMOTE_FILE_NOT_FOUND, error
";
    curl(scene, "nothing", missing)
}

fn curl_takes_a_range(scene: &Scene) -> Result<()> {
    let content = make(&scene.there("file"), 2)?;
    let part = "
curl.setopt(curl.RANGE, '100001-600000')
go(url, down=local + 'part')
";
    curl(scene, "file", part)?;
    holds(&scene.here("part"), content.get(100_001..=600_000).unwrap_or_default())
}

fn curl_resumes(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 3)?;
    let part = content.get(..SIZE / 3).unwrap_or_default();
    write(&scene.here("back"), part)?;
    write(&scene.there("name"), part)?;
    // -1: from the size of what is there, as `--continue-at -` does.
    let up = "
curl.setopt(curl.RESUME_FROM_LARGE, -1)
go(url, up=local + 'file')
";
    curl(scene, "name", up)?;
    holds(&scene.there("name"), &content)?;
    let down = "
curl.setopt(curl.RESUME_FROM_LARGE, os.path.getsize(local + 'back'))
go(url, down=local + 'back', mode='ab')
";
    curl(scene, "name", down)?;
    holds(&scene.here("back"), &content)
}

fn curl_changes_names(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 4)?;
    make(&scene.there("rest"), 5)?;
    let (from, to) = (scene.remote("file"), scene.remote("other"));
    let commands = format!(
        "
curl.setopt(curl.QUOTE, ['mkdir {}', 'rename {from} {to}', 'chmod 604 {to}', 'rm {}'])
curl.setopt(curl.DIRLISTONLY, 1)
go(url, down=local + 'names')
assert set(open(local + 'names').read().split()) - {{'.', '..'}} == {{'folder', 'other'}}
",
        scene.remote("folder"),
        scene.remote("rest")
    );
    curl(scene, "", &commands)?;
    holds(&scene.there("other"), &bytes(4))?;
    has_mode(&scene.there("other"), 0o604)?;
    holds_names(&scene.root, &["folder", "other"])
}

fn rclone(scene: &Scene, command: &str, args: &[&str]) -> Result<String> {
    Ok(drive::rclone(scene.kit, command)?.args(args).finish()?.succeeded()?.stdout)
}

fn rclone_copies_and_checks(scene: &Scene) -> Result<()> {
    // rclone rewrites control characters and what is no text.
    make_tree(&scene.here("tree"), Names::Printable)?;
    make(&scene.here("tree/dated"), 1)?;
    let (up, down) = (scene.here("tree"), scene.here("back"));
    let (up, down) = (up.to_string_lossy(), down.to_string_lossy());
    let remote = drive::rclone_remote(scene.kit, &scene.at, &scene.remote("tree"))?;
    rclone(scene, "copy", &["--create-empty-src-dirs", &up, &remote])?;
    same_tree(&scene.here("tree"), &scene.there("tree"))?;
    has_time(&scene.there("tree/dated"), OLD)?;
    rclone(scene, "check", &["--download", &up, &remote])?;
    rclone(scene, "copy", &["--create-empty-src-dirs", &remote, &down])?;
    same_tree(&scene.here("tree"), &scene.here("back"))?;
    write(&scene.there("tree/large"), bytes(6))?;
    drive::rclone(scene.kit, "check")?.args(["--download", &up, &remote]).finish()?.refused().map(drop)
}

fn rclone_lists(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 2)?;
    let remote = drive::rclone_remote(scene.kit, &scene.at, &scene.folder)?;
    let text = rclone(scene, "lsl", &[&remote])?;
    says(&text, &format!("{SIZE} 2017-07-14"))?;
    let text = rclone(scene, "cat", &["--offset", "7", "--count", "5", &format!("{remote}file")])?;
    let wanted = bytes(2);
    let wanted = String::from_utf8_lossy(wanted.get(7..12).unwrap_or_default()).into_owned();
    ensure!(text == wanted, "rclone reads something else in the middle");
    rclone(scene, "moveto", &[&format!("{remote}file"), &format!("{remote}folder/other")])?;
    holds(&scene.there("folder/other"), &bytes(2))?;
    is_absent(&scene.there("file"))?;
    says(&rclone(scene, "about", &[&remote])?, "Total:")
}

pub(super) fn rclone_syncs(scene: &Scene) -> Result<()> {
    for (number, name) in ["same", "changed", "new"].iter().enumerate() {
        std::fs::create_dir_all(scene.here("tree")).doing(|| "making a folder".to_owned())?;
        make(&scene.here("tree").join(name), number)?;
    }
    std::fs::create_dir_all(scene.there("tree")).doing(|| "making a folder".to_owned())?;
    make(&scene.there("tree/same"), 0)?;
    write(&scene.there("tree/changed"), "old")?;
    write(&scene.there("tree/too much"), "old")?;
    let (up, remote) =
        (scene.here("tree"), drive::rclone_remote(scene.kit, &scene.at, &scene.remote("tree"))?);
    rclone(scene, "sync", &[&up.to_string_lossy(), &remote])?;
    same_tree(&up, &scene.there("tree"))?;
    // Nothing is left to be done.
    let again = drive::rclone(scene.kit, "sync")?.args(["-v", &up.to_string_lossy(), &remote]).finish()?;
    says(&again.succeeded()?.stderr, "There was nothing to transfer")
}

fn psftp(scene: &Scene, batch: &str) -> Result<String> {
    Ok(drive::psftp(scene.kit, &scene.at, batch)?.finish()?.succeeded()?.stdout)
}

fn psftp_moves_a_tree(scene: &Scene) -> Result<()> {
    // psftp takes a backslash for a separator, and refuses some of the others.
    std::fs::create_dir_all(scene.here("tree/in ner/empty")).doing(|| "making a folder".to_owned())?;
    for (number, name) in ["file", "two words", "in ner/ünï 日本"].iter().enumerate() {
        make(&scene.here("tree").join(name), number)?;
    }
    let (up, remote, down) = (scene.here("tree"), scene.remote("tree"), scene.here("back"));
    psftp(scene, &format!("put -r {} {remote}\nget -r {remote} {}\n", up.display(), down.display()))?;
    same_tree(&up, &scene.there("tree"))?;
    same_tree(&up, &down)
}

fn psftp_resumes(scene: &Scene) -> Result<()> {
    let content = make(&scene.here("file"), 2)?;
    let part = content.get(..SIZE / 3).unwrap_or_default();
    write(&scene.here("back"), part)?;
    write(&scene.there("name"), part)?;
    let (file, back, remote) = (scene.here("file"), scene.here("back"), scene.remote("name"));
    psftp(scene, &format!("reput {} {remote}\nreget {remote} {}\n", file.display(), back.display()))?;
    holds(&scene.there("name"), &content)?;
    holds(&back, &content)
}

fn psftp_changes_names(scene: &Scene) -> Result<()> {
    make(&scene.there("file"), 3)?;
    make(&scene.there("rest"), 4)?;
    let text = psftp(
        scene,
        &format!(
            "cd {}\nmkdir a\nmv file a/moved\nchmod 604 a/moved\nrm rest\nmkdir b\nrmdir b\nls a\n",
            scene.folder
        ),
    )?;
    holds(&scene.there("a/moved"), &bytes(3))?;
    has_mode(&scene.there("a/moved"), 0o604)?;
    holds_names(&scene.root, &["a"])?;
    says(&text, "moved")?;
    says(&text, &SIZE.to_string())
}

fn pscp_moves_a_tree(scene: &Scene) -> Result<()> {
    pscp_by(scene, "-sftp")
}

fn pscp_legacy_moves_a_tree(scene: &Scene) -> Result<()> {
    pscp_by(scene, "-scp")
}

fn pscp_by(scene: &Scene, way: &str) -> Result<()> {
    std::fs::create_dir_all(scene.here("tree/inner")).doing(|| "making a folder".to_owned())?;
    for (number, name) in ["file", "inner/two words"].iter().enumerate() {
        make(&scene.here("tree").join(name), number)?;
    }
    std::fs::create_dir(scene.here("back")).doing(|| "making a folder".to_owned())?;
    let pscp = || Ok(drive::putty(scene.kit, &scene.at, "pscp")?.args([way, "-p", "-r"]));
    let remote = |name: &str| format!("{}@127.0.0.1:{}", scene.at.user, scene.remote(name));
    pscp()?.arg(scene.here("tree")).arg(remote("")).finish()?.succeeded()?;
    same_tree(&scene.here("tree"), &scene.there("tree"))?;
    has_time(&scene.there("tree/file"), OLD)?;
    pscp()?.arg(remote("tree")).arg(scene.here("back")).finish()?.succeeded()?;
    same_tree(&scene.here("tree"), &scene.here("back/tree"))
}

fn sshfs_is_a_disk(scene: &Scene) -> Result<()> {
    make_tree(&scene.here("tree"), Names::Any)?;
    let at = crate::peers::servers::Address { folder: scene.folder.clone(), ..scene.at.clone() };
    let mount = Mount::new(scene.kit, &at)?;
    // In another process and with a limit: a mount that hangs, hangs who looks at it.
    let script = "set -e
        cd \"$2\"
        cp -r \"$1\" tree
        diff -r \"$1\" tree
        printf one > file
        printf two >> file
        test \"$(cat file)\" = onetwo
        mv file other
        printf three > old
        mv old other
        test \"$(cat other)\" = three
        dd if=/dev/zero of=hole bs=1 count=1 seek=100000 status=none
        printf middle | dd of=hole bs=1 seek=5000 conv=notrunc status=none
        test \"$(stat -c %s hole)\" = 100001
        truncate -s 5006 hole
        test \"$(tail -c 6 hole)\" = middle
        chmod 604 other
        touch -d @1500000123 other
        mkdir folder
        rmdir folder
        ln -s other link
        test \"$(cat link)\" = three
        df . > /dev/null
        ls -R > /dev/null
        rm -r tree";
    let done = Run::new("sh")
        .args(["-ec", script, "sh"])
        .arg(scene.here("tree"))
        .arg(&mount.path)
        .finish()?
        .succeeded();
    drop(mount);
    done?;
    holds(&scene.there("other"), b"three")?;
    has_mode(&scene.there("other"), 0o604)?;
    has_time(&scene.there("other"), OLD)?;
    let hole = read(&scene.there("hole"))?;
    ensure!(hole.len() == 5_006 && hole.ends_with(b"\0middle"), "the file with a hole is another one");
    let names = listed(&scene.root)?;
    ensure!(names == ["hole", "link", "other"], "there is {names:?}");
    Ok(())
}
