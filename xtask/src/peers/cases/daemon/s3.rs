//! Clients of S3 on our server: each makes a bucket, sends small and large files, lists, fetches, copies and
//! removes, and what is on the disk is what was sent.

use super::Stage;
use crate::fault::{Result, While, ensure};
use crate::peers::cases::{Scene, bytes, holds, is_absent, make, plain_tree, says};
use crate::peers::servers::{Address, Extra, Scheme, access_keys};
use crate::peers::{drive, program};
use crate::process::{Run, write};

const LISTENER: &str = "[[listeners]]\nprotocol = \"s3\"\nport = 0\n";
/// More than clients send in one part: four of 5 MiB.
fn large() -> Vec<u8> {
    bytes(7).repeat(16)
}

/// Where ours serves S3.
struct Place<'a> {
    stage: &'a Stage<'a>,
    at: &'a Address,
}

impl Place<'_> {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.at.port)
    }

    /// A program that finds its key in the environment.
    fn run(&self, name: &str) -> Result<Run> {
        let run = program(name)?.env("HOME", self.stage.kit.join("")).env("AWS_ACCESS_KEY_ID", &self.at.user);
        let run = run.env("AWS_SECRET_ACCESS_KEY", &self.at.password).env("AWS_DEFAULT_REGION", "us-east-1");
        Ok(run.env("AWS_EC2_METADATA_DISABLED", "true"))
    }

    /// Without the setting it signs URLs as of old, by SHA-1, which ours refuses.
    fn aws(&self) -> Result<Run> {
        let config = self.stage.kit.join("aws-config");
        write(&config, "[default]\ns3 =\n  signature_version = s3v4\n")?;
        Ok(self.run("aws")?.env("AWS_CONFIG_FILE", config).arg("--endpoint-url").arg(self.url()))
    }
}

fn with<T>(stage: &Stage, act: impl FnOnce(&Place, &Scene) -> Result<T>) -> Result<T> {
    let user = access_keys();
    let endpoint = stage.start(&Extra { lines: LISTENER, user: &user, ..Extra::default() })?;
    let at = endpoint.by(Scheme::S3)?;
    let scene = Scene::new(stage.kit, &endpoint, stage.ferry)?;
    act(&Place { stage, at }, &scene).doing(|| endpoint.tail())
}

pub(super) fn aws_works(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        plain_tree(&scene.here("tree"))?;
        write(&scene.here("tree/large"), large())?;
        place.aws()?.args(["s3", "mb", "s3://bucket"]).finish()?.succeeded()?;
        let sync = |from: &str, to: &str| place.aws()?.args(["s3", "sync", from, to]).finish()?.succeeded();
        let (tree, back) = (scene.here("tree"), scene.here("back"));
        sync(&tree.display().to_string(), "s3://bucket/tree")?;
        let root = &scene.endpoint.root;
        holds(&root.join("bucket/tree/large"), &large())?;
        sync("s3://bucket/tree", &back.display().to_string())?;
        holds(&back.join("large"), &large())?;
        let again = place.aws()?.args(["s3", "sync", "--dryrun"]).arg(&tree).arg("s3://bucket/tree");
        ensure!(again.text()?.trim().is_empty(), "a second synchronisation finds something to do");
        place
            .aws()?
            .args(["s3", "cp", "s3://bucket/tree/large", "s3://bucket/copy"])
            .finish()?
            .succeeded()?;
        holds(&root.join("bucket/copy"), &large())?;
        let api = |args: &[&str]| place.aws()?.arg("s3api").args(args).text();
        let head = api(&["head-object", "--bucket", "bucket", "--key", "copy"])?;
        says(&head, &large().len().to_string())?;
        let url = place.aws()?.args(["s3", "presign", "s3://bucket/copy"]).text()?;
        let got = program("curl")?.args(["--silent", "--fail", "--output"]).arg(scene.here("presigned"));
        got.arg(url.trim()).finish()?.succeeded()?;
        holds(&scene.here("presigned"), &large())?;
        place.aws()?.args(["s3", "rb", "--force", "s3://bucket"]).finish()?.succeeded()?;
        is_absent(&root.join("bucket"))
    })
}

pub(super) fn boto3_works(stage: &Stage) -> Result<()> {
    const SCRIPT: &str = "
import boto3, sys
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
url, up, down = sys.argv[1:]
s3 = boto3.client('s3', endpoint_url=url)
s3.create_bucket(Bucket='bucket')
parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
s3.upload_file(up, 'bucket', 'a b/ü+.bin', Config=parts, ExtraArgs={'Metadata': {'colour': 'red'}})
s3.download_file('bucket', 'a b/ü+.bin', down, Config=parts)
head = s3.head_object(Bucket='bucket', Key='a b/ü+.bin')
assert head['Metadata'] == {'colour': 'red'} and head['ETag'].endswith('-4\"'), head
for n in range(25):
    s3.put_object(Bucket='bucket', Key=f'many/{n:02}', Body=b'x' * n, ChecksumAlgorithm='SHA256')
pages = s3.get_paginator('list_objects_v2').paginate(Bucket='bucket', Prefix='many/', PaginationConfig={'PageSize': 7})
keys = [o['Key'] for p in pages for o in p['Contents']]
assert keys == [f'many/{n:02}' for n in range(25)], keys
top = s3.list_objects_v2(Bucket='bucket', Delimiter='/')
assert [p['Prefix'] for p in top['CommonPrefixes']] == ['a b/', 'many/'], top
part = s3.get_object(Bucket='bucket', Key='many/24', Range='bytes=3-5')
assert part['Body'].read() == b'xxx' and part['ContentRange'] == 'bytes 3-5/24'
def fails(code, call, **args):
    try:
        call(Bucket='bucket', **args)
    except ClientError as e:
        assert e.response['Error']['Code'] == code, e
    else:
        raise AssertionError(code)
fails('NoSuchKey', s3.get_object, Key='none')
fails('404', s3.head_object, Key='none')
fails('PreconditionFailed', s3.put_object, Key='many/01', Body=b'', IfNoneMatch='*')
gone = s3.delete_objects(Bucket='bucket', Delete={'Objects': [{'Key': k} for k in keys + ['none']]})
assert len(gone['Deleted']) == 26 and 'Errors' not in gone, gone
s3.delete_object(Bucket='bucket', Key='a b/ü+.bin')
s3.delete_bucket(Bucket='bucket')
print('all of it')
";
    with(stage, |place, scene| {
        write(&scene.here("up"), large())?;
        let run = place.run("python")?.args(["-c", SCRIPT, &place.url()]);
        says(&run.arg(scene.here("up")).arg(scene.here("down")).text()?, "all of it")?;
        holds(&scene.here("down"), &large())
    })
}

pub(super) fn s3cmd_works(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        let host = format!("127.0.0.1:{}", place.at.port);
        write(&scene.here("s3cfg"), "")?;
        let s3cmd = || -> Result<Run> {
            let run =
                place.run("s3cmd")?.arg("--config").arg(scene.here("s3cfg")).args(["--no-ssl", "--host"]);
            let run = run
                .args([&host, "--host-bucket", &host, "--access_key", &place.at.user, "--secret_key"])
                .arg(&place.at.password);
            Ok(run.args(["--multipart-chunk-size-mb", "5", "--no-progress"]))
        };
        let content = make(&scene.here("file"), 1)?;
        write(&scene.here("large"), large())?;
        s3cmd()?.args(["mb", "s3://bucket"]).finish()?.succeeded()?;
        for name in ["file", "large"] {
            s3cmd()?
                .arg("put")
                .arg(scene.here(name))
                .arg(format!("s3://bucket/d/{name}"))
                .finish()?
                .succeeded()?;
        }
        let root = &scene.endpoint.root;
        holds(&root.join("bucket/d/file"), &content)?;
        holds(&root.join("bucket/d/large"), &large())?;
        says(&s3cmd()?.args(["ls", "--recursive", "s3://bucket"]).text()?, "s3://bucket/d/large")?;
        s3cmd()?.args(["get", "s3://bucket/d/large"]).arg(scene.here("back")).finish()?.succeeded()?;
        holds(&scene.here("back"), &large())?;
        s3cmd()?.args(["mv", "s3://bucket/d/file", "s3://bucket/e/moved"]).finish()?.succeeded()?;
        holds(&root.join("bucket/e/moved"), &content)?;
        s3cmd()?.args(["rb", "--recursive", "--force", "s3://bucket"]).finish()?.succeeded()?;
        is_absent(&root.join("bucket"))
    })
}

pub(super) fn rclone_syncs(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        plain_tree(&scene.here("tree"))?;
        write(&scene.here("tree/large"), large())?;
        let kit = place.stage.kit;
        let remote = drive::rclone_remote(kit, place.at, "/bucket/tree")?;
        let parts = ["--s3-chunk-size", "5Mi", "--s3-upload-cutoff", "5Mi"];
        let rclone = |verb: &str| Ok(drive::rclone(kit, verb)?.args(parts));
        rclone("sync")?.arg(scene.here("tree")).arg(&remote).finish()?.succeeded()?;
        holds(&scene.endpoint.root.join("bucket/tree/large"), &large())?;
        rclone("check")?.arg("--download").arg(scene.here("tree")).arg(&remote).finish()?.succeeded()?;
        // By digests alone, as far as ETags are.
        rclone("check")?.arg(scene.here("tree")).arg(&remote).finish()?.succeeded()?;
        rclone("purge")?.arg(&remote).finish()?.succeeded()?;
        is_absent(&scene.endpoint.root.join("bucket/tree"))
    })
}

pub(super) fn s5cmd_works(stage: &Stage) -> Result<()> {
    with(stage, |place, scene| {
        let s5cmd = |verb: &str| drive::s5cmd(place.stage.kit, place.at, verb);
        plain_tree(&scene.here("tree"))?;
        // It knows no directories but those that hold something.
        std::fs::remove_dir(scene.here("tree/empty")).doing(|| "removing the empty directory".to_owned())?;
        write(&scene.here("tree/large"), large())?;
        let root = &scene.endpoint.root;
        s5cmd("mb")?.arg("s3://bucket").finish()?.succeeded()?;
        let up = s5cmd("sync")?.args(["--part-size", "5", "--concurrency", "3"]);
        up.arg(format!("{}/", scene.here("tree").display()))
            .arg("s3://bucket/tree/")
            .finish()?
            .succeeded()?;
        holds(&root.join("bucket/tree/large"), &large())?;
        says(&s5cmd("ls")?.arg("s3://bucket/tree/*").text()?, "large")?;
        s5cmd("cp")?
            .args(["s3://bucket/tree/*"])
            .arg(format!("{}/", scene.here("back").display()))
            .finish()?
            .succeeded()?;
        let same = Run::new("diff").arg("-r").arg(scene.here("tree")).arg(scene.here("back"));
        same.finish()?.succeeded()?;
        s5cmd("mv")?.args(["s3://bucket/tree/large", "s3://bucket/moved"]).finish()?.succeeded()?;
        holds(&root.join("bucket/moved"), &large())?;
        s5cmd("rm")?.arg("s3://bucket/*").finish()?.succeeded()?;
        s5cmd("rb")?.arg("s3://bucket").finish()?.succeeded()?;
        is_absent(&root.join("bucket"))
    })
}

pub(super) fn minio_works(stage: &Stage) -> Result<()> {
    const SCRIPT: &str = "
import io, sys
from minio import Minio
from minio.commonconfig import CopySource
host, key, secret, up, down = sys.argv[1:]
s3 = Minio(host, key, secret, secure=False)
s3.make_bucket('bucket')
assert s3.bucket_exists('bucket') and not s3.bucket_exists('none')
s3.fput_object('bucket', 'd/large', up, part_size=5 << 20)
s3.fget_object('bucket', 'd/large', down)
s3.put_object('bucket', 'd/stream', io.BytesIO(b'y' * 100), -1, part_size=5 << 20)
s3.copy_object('bucket', 'copy', CopySource('bucket', 'd/stream'))
assert s3.get_object('bucket', 'copy').read() == b'y' * 100
names = [o.object_name for o in s3.list_objects('bucket', recursive=True)]
assert names == ['copy', 'd/large', 'd/stream'], names
for name in names:
    s3.remove_object('bucket', name)
s3.remove_bucket('bucket')
print('all of it')
";
    with(stage, |place, scene| {
        write(&scene.here("up"), large())?;
        let host = format!("127.0.0.1:{}", place.at.port);
        let run = place.run("python")?.args(["-c", SCRIPT, &host, &place.at.user, &place.at.password]);
        says(&run.arg(scene.here("up")).arg(scene.here("down")).text()?, "all of it")?;
        holds(&scene.here("down"), &large())
    })
}
