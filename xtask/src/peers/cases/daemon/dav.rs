//! Clients of WebDAV on our server.

use super::Stage;
use crate::fault::{Result, While, ensure};
use crate::peers::cases::{Scene, bytes, holds, is_absent, make, plain_tree, says};
use crate::peers::servers::{Endpoint, Extra, Scheme};
use crate::peers::{drive, program};
use crate::process::{Run, write};

const LISTENER: &str = "[[listeners]]\nprotocol = \"webdav\"\nport = 0\n";

/// Ours with WebDAV, and where that is.
struct Place<'a> {
    stage: &'a Stage<'a>,
    endpoint: &'a Endpoint,
    url: String,
}

impl<'a> Place<'a> {
    fn new(stage: &'a Stage<'a>, endpoint: &'a Endpoint) -> Result<Self> {
        let port = endpoint.by(Scheme::Dav)?.port;
        Ok(Place { stage, endpoint, url: format!("http://127.0.0.1:{port}") })
    }

    fn curl(&self, scene: &Scene, name: &str) -> Result<Run> {
        let at = &self.endpoint.at;
        let run = program("curl")?.env("HOME", self.stage.kit.join(""));
        let run = run.args([
            "--silent",
            "--show-error",
            "--fail",
            "--user",
            &format!("{}:{}", at.user, at.password),
        ]);
        Ok(run.arg(format!("{}{}", self.url, scene.remote(name))))
    }
}

fn with<T>(stage: &Stage, act: impl FnOnce(&Place, &Scene) -> Result<T>) -> Result<T> {
    let endpoint = stage.start(&Extra { lines: LISTENER, ..Extra::default() })?;
    let place = Place::new(stage, &endpoint)?;
    let scene = Scene::new(stage.kit, &endpoint, stage.ferry)?;
    act(&place, &scene).doing(|| endpoint.tail())
}

/// The suite of the standard's own tests, all of it.
pub(super) fn litmus_passes(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        let at = &place.endpoint.at;
        let url = format!("{}{}", place.url, scene.folder);
        let run = program("litmus")?.dir(scene.local.clone()).arg("--keep-going");
        let said = run.args([&url, &at.user, &at.password]).finish()?.succeeded()?.stdout;
        for suite in ["basic", "copymove", "props", "locks", "http"] {
            ensure!(said.contains(&format!("summary for `{suite}'")), "{suite} did not run:\n{said}");
        }
        ensure!(!said.contains("FAIL"), "{said}");
        Ok(())
    })
}

pub(super) fn cadaver_works(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        let at = &place.endpoint.at;
        let netrc = format!("machine 127.0.0.1 login {} password \"{}\"\n", at.user, at.password);
        write(&scene.here(".netrc"), netrc)?;
        let content = make(&scene.here("file"), 1)?;
        let here = scene.local.display();
        let commands = format!(
            "mkcol d\nput {here}/file d/a\nlock d/a\npropset d/a colour red\npropget d/a colour\nunlock d/a\n\
             copy d/a d/b\nmove d/b d/c\nget d/c {here}/back\ndelete d/a\nls d\nquit\n"
        );
        let run = program("cadaver")?.env("HOME", &scene.local).dir(scene.local.clone());
        let done = run.arg(format!("{}{}", place.url, scene.folder)).input(commands).finish()?.succeeded()?;
        ensure!(!done.stdout.contains("failed"), "{}", done.stdout);
        says(&done.stdout, "Value of colour is: red")?;
        holds(&scene.here("back"), &content)?;
        holds(&scene.there("d/c"), &content)?;
        is_absent(&scene.there("d/a"))
    })
}

pub(super) fn curl_moves_a_file(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        let content = make(&scene.here("file"), 2)?;
        let file = scene.here("file");
        place.curl(scene, "a%20name")?.arg("--upload-file").arg(&file).finish()?.succeeded()?;
        holds(&scene.there("a name"), &content)?;
        // Without a length, and by HTTP/2.
        let chunked = place.curl(scene, "chunked")?.args(["--header", "Transfer-Encoding: chunked"]);
        chunked.arg("--upload-file").arg(&file).finish()?.succeeded()?;
        holds(&scene.there("chunked"), &content)?;
        let newer = place.curl(scene, "newer")?.arg("--http2-prior-knowledge");
        newer.arg("--upload-file").arg(&file).finish()?.succeeded()?;
        holds(&scene.there("newer"), &content)?;
        // What broke off is gone on with.
        let part = content.get(..content.len() / 3).unwrap_or_default();
        write(&scene.here("back"), part)?;
        let down = place.curl(scene, "newer")?.args(["--continue-at", "-", "--output"]);
        down.arg(scene.here("back")).finish()?.succeeded()?;
        holds(&scene.here("back"), &content)?;
        place.curl(scene, "missing")?.finish()?.refused().map(drop)
    })
}

pub(super) fn rclone_syncs(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        plain_tree(&scene.here("tree"))?;
        write(&scene.here("tree/large"), bytes(3))?;
        let at = place.endpoint.by(Scheme::Dav)?;
        let remote = drive::rclone_remote(stage.kit, at, &scene.remote("tree"))?;
        drive::rclone(stage.kit, "sync")?.arg(scene.here("tree")).arg(&remote).finish()?.succeeded()?;
        drive::rclone(stage.kit, "check")?
            .args(["--download"])
            .arg(scene.here("tree"))
            .arg(&remote)
            .finish()?
            .succeeded()?;
        holds(&scene.there("tree/large"), &bytes(3))?;
        drive::rclone(stage.kit, "purge")?.arg(&remote).finish()?.succeeded()?;
        is_absent(&scene.there("tree"))
    })
}
