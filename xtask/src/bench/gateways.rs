//! What our server needs while large files go through it to another server: its memory must not grow with them.

use super::job::{Ground, Link};
use super::parties::Server;
use super::row::{Row, Spread};
use super::{Bench, Scenario, data, meter};
use crate::fault::{Result, While, ensure};
use crate::peers::drive;
use crate::peers::servers::{self, Address, Endpoint, Extra, Scheme};
use crate::process::{set_mode, write};

/// Towards a server of SFTP.
pub(super) fn sftp(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    through(bench, scenario, Server::Ferryd)
}

/// Towards one of FTP.
pub(super) fn ftp(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    through(bench, scenario, Server::FerrydFtp)
}

/// Towards one of WebDAV.
pub(super) fn dav(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    through(bench, scenario, Server::FerrydDav)
}

/// Towards one of S3.
pub(super) fn s3(bench: &mut Bench, scenario: &Scenario) -> Result<Row> {
    through(bench, scenario, Server::FerrydS3)
}

/// The most memory of a gateway, in MiB: a file of holes is fetched through it by FTP, and one is sent.
fn through(bench: &mut Bench, scenario: &Scenario, far: Server) -> Result<Row> {
    let ground = &mut bench.ground;
    let (down, up) = (ground.sizes.sparse, ground.sizes.sparse_up);
    let at = ground.address(far, Link::Near)?;
    let gateway = gateway(ground, &at)?;
    let way = gateway.by(Scheme::Ftp)?;
    let (large, sent) = (ground.root.join("sparse"), ground.root.join("sparse-up"));
    data::make_sparse(&large, down)?;
    data::make_sparse(&sent, up)?;
    let fetch = drive::curl_by_password(&ground.kit, way, "/far/sparse")?;
    let fetch = fetch.args(["--output", "/dev/null", "--write-out", "%{size_download}"]);
    let came = fetch.limit(super::job::LIMIT).finish()?.succeeded().doing(|| gateway.tail())?.stdout;
    ensure!(came == down.to_string(), "{came} bytes came of {down}");
    println!("    {:.0} MiB at most while it came", meter::peak_of_all(gateway.process())?);
    let send = drive::curl_by_password(&ground.kit, way, "/far/up/sparse")?.arg("--upload-file").arg(&sent);
    send.limit(super::job::LIMIT).finish()?.succeeded().doing(|| gateway.tail())?;
    let arrived = ground.root.join("up/sparse");
    data::same_file(&sent, &arrived)?;
    for file in [&arrived, &sent, &large] {
        data::remove(file)?;
    }
    let most = meter::peak_of_all(gateway.process())?;
    let note = format!("{} GiB through a gateway to {}, and {} GiB back", down >> 30, far.name(), up >> 30);
    let mut row = bench.row(scenario, "ferryd", "-", "MiB", note);
    row.ours = Some(Spread::one(most));
    row.pairs = 1;
    Ok(row)
}

/// One of ours with a folder that is another server's.
fn gateway(ground: &Ground, at: &Address) -> Result<Endpoint> {
    let Some(program) = &ground.ferryd else { crate::fault::bail!("there is no ferryd yet") };
    let secrets = ground.kit.join("gateway-secrets.toml");
    write(&secrets, format!("far = {:?}\n", at.password))?;
    set_mode(&secrets, 0o600)?;
    let lines = format!(
        "[scripts]\nsecrets = {secrets:?}\n[[gateways]]\nname = \"far\"\nurl = {:?}\nhost_keys = [{:?}]\n\
         password_secret = \"far\"\nallow_private = true\nallow_clear = true\n",
        drive::ferry_url(at, at.folder.trim_end_matches('/')),
        if at.scheme == Scheme::Sftp { at.fingerprint.as_str() } else { "" },
    );
    let lines = lines.replace("host_keys = [\"\"]\n", "");
    let user = "[[users.folders]]\npath = \"/far\"\ngateway = \"far\"\nfolder = \"/\"";
    servers::ferryd_with(&ground.kit, program, &Extra { lines: &lines, user, ..Extra::default() })
}
