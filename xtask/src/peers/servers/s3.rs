//! A server of S3 that is not ours: `s3s-fs`, which shows how a folder may be served with the library that our
//! wire stands on.

use std::path::Path;

use super::{ACCESS_KEY, Address, Endpoint, Kit, LOOPBACK, Place, READY, Scheme};
use crate::fault::Result;
use crate::install::ensure_built;
use crate::peers::program;
use crate::process::Server;

/// The version of the library in ours.
const S3S_FS: &str = "0.14.1";

/// Builds it where it is not here. Errors: as cargo's.
pub(crate) fn ensure_s3s_fs() -> Result<()> {
    ensure_built("s3s-fs", S3S_FS, &["--features", "binary"])
}

/// Over the folder in which `root` lies, so that `root` is a bucket.
pub(crate) fn s3s_fs(kit: &Kit, root: &Path) -> Result<Endpoint> {
    let place = Place { root: root.to_path_buf(), ..Place::new(kit, "s3s-fs")? };
    let run = program("s3s-fs")?.args(["--access-key", ACCESS_KEY.0, "--secret-key", ACCESS_KEY.1]);
    let run = run.args(["--host", LOOPBACK, "--port", &place.port.to_string()]);
    let run = run.arg(root.parent().unwrap_or(root)).env("RUST_LOG", "error");
    let mut server = Server::start(&place.adopted(run)?)?;
    server.port(place.port, READY)?;
    let at = Address {
        scheme: Scheme::S3,
        user: ACCESS_KEY.0.to_owned(),
        password: ACCESS_KEY.1.to_owned(),
        ..place.address("", &bucket(root))?
    };
    Ok(Endpoint {
        at,
        others: Vec::new(),
        owner: None,
        root: place.root,
        control: None,
        server,
        _dir: place.dir,
    })
}

/// A folder as S3 has it, with slashes about it.
pub(super) fn bucket(root: &Path) -> String {
    format!("/{}/", root.file_name().unwrap_or_default().to_string_lossy())
}
