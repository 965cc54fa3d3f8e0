//! Uploads that are looked at before they are published: clamd by itself, and c-icap with clamd behind it.

use std::time::Duration;

use super::{Stage, sftp, sftp_fails};
use crate::fault::{Result, While};
use crate::peers::cases::{bytes, holds, holds_names, make, says};
use crate::peers::program;
use crate::peers::servers::Extra;
use crate::process::{Server, free_port, write};

/// What is found in a file that contains it.
const BODY: &str = "FERRY-TEST-VIRUS-BODY";

/// Time to start.
const READY: Duration = Duration::from_secs(60);

/// clamd with a signature of ours alone.
fn clamd(stage: &Stage<'_>) -> Result<(Server, u16)> {
    let hex: String = BODY.bytes().map(|b| format!("{b:02x}")).collect();
    let dir = stage.kit.join("signatures");
    std::fs::create_dir_all(&dir).doing(|| "making a folder".to_owned())?;
    write(&dir.join("ferry.ndb"), format!("Ferry.Test:0:*:{hex}\n"))?;
    let (settings, port) = (stage.kit.join("clamd.conf"), free_port()?);
    let lines = format!(
        "DatabaseDirectory {}\nTCPSocket {port}\nTCPAddr 127.0.0.1\nForeground yes\nStreamMaxLength 1500K\n",
        dir.display()
    );
    write(&settings, lines)?;
    let mut clamd = Server::start(&program("clamd")?.arg("-c").arg(&settings))?;
    clamd.port(port, READY)?;
    Ok((clamd, port))
}

/// What clamd finds by a signature of ours is refused, and what is too large for it is not published.
pub(super) fn scans_with_clamd(stage: &Stage<'_>) -> Result<()> {
    let (_clamd, port) = clamd(stage)?;
    let scan = format!("[scan]\nclamd = \"127.0.0.1:{port}\"\n");
    let endpoint = stage.start(&Extra { lines: &scan, ..Extra::default() })?;
    let scene = stage.scene(&endpoint)?;
    let (clean, ill, large) = (scene.here("clean"), scene.here("ill"), scene.here("large"));
    make(&clean, 1)?;
    write(&ill, format!("before {BODY} behind"))?;
    write(&large, vec![b'x'; 2 << 20])?;
    let folder = &scene.folder;
    sftp(&scene, &format!("put {} {folder}clean\n", clean.display()))?;
    for file in [&ill, &large] {
        sftp_fails(&scene, &format!("put {} {folder}\n", file.display()))?;
    }
    holds(&scene.there("clean"), &bytes(1))?;
    holds_names(&scene.root, &["clean"])?;
    says(&endpoint.tail(), "Ferry.Test")
}

/// A service of ICAP that asks clamd, and one that gives back what it was shown: with a preview, files that fit into
/// it and files that do not.
pub(super) fn scans_with_icap(stage: &Stage<'_>) -> Result<()> {
    let (_clamd, behind) = clamd(stage)?;
    let (settings, port) = (stage.kit.join("c-icap.conf"), free_port()?);
    let place = |name: &str| stage.kit.join(name).display().to_string();
    std::fs::create_dir_all(stage.kit.join("icap")).doing(|| "making a folder".to_owned())?;
    let modules = format!("/usr/lib/{}-linux-gnu/c_icap", std::env::consts::ARCH);
    let lines = format!(
        "PidFile {}\nCommandsSocket {}\nPort 127.0.0.1:{port}\nTmpDir {}\nServerLog {}\nAccessLog {}\n\
         ModulesDir {modules}\nServicesDir {modules}\nTemplateDir /usr/share/c_icap/templates/\n\
         LoadMagicFile /etc/c-icap/c-icap.magic\nStartServers 1\nMaxServers 2\n\
         Module common clamd_mod.so\nclamd_mod.ClamdHost 127.0.0.1\nclamd_mod.ClamdPort {behind}\n\
         Service echo srv_echo.so\nService antivirus_module virus_scan.so\nServiceAlias avscan virus_scan\n\
         virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE\nvirus_scan.MaxObjectSize 5M\n\
         virus_scan.DefaultEngine clamd\n",
        place("icap/pid"),
        place("icap/control"),
        place("icap"),
        place("icap/log"),
        place("icap/access"),
    );
    write(&settings, lines)?;
    let mut icap = Server::start(&program("c-icap")?.arg("-N").arg("-f").arg(&settings))?;
    icap.port(port, READY)?;
    for (service, finds) in [("avscan", true), ("echo", false)] {
        let scan = format!("[scan]\nicap = \"icap://127.0.0.1:{port}/{service}\"\n");
        let endpoint = stage.start(&Extra { lines: &scan, ..Extra::default() })?;
        let scene = stage.scene(&endpoint)?;
        let files = [
            ("empty", String::new()),
            ("short", "harmless".to_owned()),
            ("long", "harmless ".repeat(100_000)),
            ("ill", format!("before {BODY} behind")),
            ("ill-long", format!("{} {BODY}", "before".repeat(100_000))),
        ];
        let mut there = Vec::new();
        for (name, text) in &files {
            let file = scene.here(name);
            write(&file, text)?;
            let put = format!("put {} {}{name}\n", file.display(), scene.folder);
            if finds && name.starts_with("ill") {
                sftp_fails(&scene, &put)?;
            } else {
                sftp(&scene, &put)?;
                holds(&scene.there(name), text.as_bytes())?;
                there.push(*name);
            }
        }
        there.sort_unstable();
        holds_names(&scene.root, &there)?;
        if finds {
            says(&endpoint.tail(), "Ferry.Test")?;
        }
    }
    Ok(())
}
