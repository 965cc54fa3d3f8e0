//! Our client of S3 on moto, AWS's services played by a program of Python's.
//!
//! Each case starts a moto of its own, whose objects are in its memory: what is there is asked of it in its own
//! words (botocore), so that ours cannot agree with itself on something wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{holds, make, plain_tree, says};
use crate::fault::{Result, While, ensure};
use crate::peers::program;
use crate::peers::servers::{Kit, LOOPBACK};
use crate::process::{Run, Server, TempDir, free_port, write};

/// A test of ours on moto.
pub(in crate::peers) struct S3Case {
    pub(in crate::peers) name: &'static str,
    pub(in crate::peers) run: fn(&Moto) -> Result<()>,
}

/// The peer that all cases need, by name.
pub(in crate::peers) const PEER: &str = "moto";

#[rustfmt::skip]
pub(in crate::peers) const S3: &[S3Case] = &[
    S3Case { name: "moto::ferry_moves_a_file", run: moves_a_file },
    S3Case { name: "moto::ferry_moves_a_large_file_in_parts", run: moves_in_parts },
    S3Case { name: "moto::ferry_moves_a_tree", run: moves_a_tree },
    S3Case { name: "moto::ferry_syncs", run: syncs },
    S3Case { name: "moto::ferry_changes_names", run: changes_names },
    S3Case { name: "moto::ferry_says_what_an_object_shall_be", run: says_what_it_shall_be },
];

const READY: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(120);

/// A moto, a bucket in it, and a folder of ours.
pub(in crate::peers) struct Moto<'a> {
    ferry: &'a Path,
    port: u16,
    dir: TempDir,
    _server: Server,
}

impl<'a> Moto<'a> {
    /// Starts one. Errors: it does not come up.
    pub(in crate::peers) fn start(_: &Kit, ferry: &'a Path) -> Result<Self> {
        let port = free_port()?;
        let run = program("moto_server")?.args(["-H", LOOPBACK, "-p", &port.to_string()]);
        let mut server = Server::start(&run)?;
        server.port(port, READY)?;
        let moto = Moto { ferry, port, dir: TempDir::new("moto")?, _server: server };
        moto.good(&["mkdir", &moto.url("")])?;
        Ok(moto)
    }

    fn url(&self, path: &str) -> String {
        format!("s3plain://key@{LOOPBACK}:{}/bucket/{path}", self.port)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn ferry(&self, args: &[&str]) -> Run {
        Run::new(self.ferry)
            .env("HOME", self.dir.join(""))
            .env("FERRY_PASSWORD", "secret")
            .limit(LIMIT)
            .args(["--batch", "--quiet"])
            .args(args)
    }

    fn good(&self, args: &[&str]) -> Result<String> {
        Ok(self.ferry(args).finish()?.succeeded()?.stdout)
    }

    /// What moto says, asked by botocore.
    fn asks(&self, line: &str) -> Result<String> {
        let script = format!(
            "import boto3\ns = boto3.client('s3', endpoint_url='http://{LOOPBACK}:{}', aws_access_key_id='key', \
             aws_secret_access_key='secret', region_name='us-east-1')\n{line}\n",
            self.port
        );
        program("python")?.args(["-c", &script]).limit(LIMIT).text()
    }
}

/// A path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

fn moves_a_file(moto: &Moto) -> Result<()> {
    let content = make(&moto.here("a file"), 1)?;
    moto.good(&["put", &text(&moto.here("a file")), &moto.url("d/a%20name+%C3%A4.txt")])?;
    let told = moto.asks("r = s.get_object(Bucket='bucket', Key='d/a name+ä.txt')\nprint(r['ContentType'], len(r['Body'].read()))")?;
    says(&told, &format!("text/plain {}", content.len()))?;
    moto.good(&["get", &moto.url("d/a%20name+%C3%A4.txt"), &text(&moto.here("back"))])?;
    holds(&moto.here("back"), &content)?;
    // Over what is there, and over nothing at all.
    for (name, content) in [("small", &b"abc"[..]), ("none", b"")] {
        write(&moto.here(name), content)?;
        moto.good(&["put", &text(&moto.here(name)), &moto.url("d/over")])?;
        moto.good(&["get", &moto.url("d/over"), &text(&moto.here("back"))])?;
        holds(&moto.here("back"), content)?;
    }
    let listed = moto.good(&["ls", &moto.url("d")])?;
    ensure!(listed.lines().eq(["a name+ä.txt", "over"]), "ls says:\n{listed}");
    Ok(())
}

fn moves_in_parts(moto: &Moto) -> Result<()> {
    let content: Vec<u8> = (0..21_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write(&moto.here("large"), &content)?;
    moto.good(&["put", &text(&moto.here("large")), &moto.url("large")])?;
    // The etag of what came in parts tells how many.
    let told = moto.asks("print(s.head_object(Bucket='bucket', Key='large')['ETag'])\nprint(s.list_multipart_uploads(Bucket='bucket').get('Uploads', []))")?;
    says(&told, "-3\"")?;
    says(&told, "[]")?;
    moto.good(&["get", &moto.url("large"), &text(&moto.here("back"))])?;
    holds(&moto.here("back"), &content)
}

fn moves_a_tree(moto: &Moto) -> Result<()> {
    plain_tree(&moto.here("tree"))?;
    moto.good(&["put", "-r", &text(&moto.here("tree")), &moto.url("tree")])?;
    moto.good(&["get", "-r", "--no-times", &moto.url("tree"), &text(&moto.here("back"))])?;
    let done = Run::new("diff").args(["-r", "tree", "back"]).dir(moto.dir.join("")).finish()?.succeeded();
    done.map(drop)?;
    moto.good(&["rm", "-r", &moto.url("tree")])?;
    let told = moto.asks("print(s.list_objects_v2(Bucket='bucket')['KeyCount'])")?;
    ensure!(told.trim() == "0", "{told} objects stay behind");
    // A key that is no path comes to light all the same, by another name.
    moto.asks("s.put_object(Bucket='bucket', Key='x//y', Body=b'deep')")?;
    ensure!(moto.good(&["cat", &moto.url("x/%E2%88%85/y")])? == "deep", "cat says something else");
    Ok(())
}

fn syncs(moto: &Moto) -> Result<()> {
    std::fs::create_dir_all(moto.here("tree/d")).doing(|| "making folders".to_owned())?;
    for name in ["a", "b", "d/c"] {
        write(&moto.here(&format!("tree/{name}")), name)?;
    }
    let tree = text(&moto.here("tree"));
    moto.good(&["sync", &tree, &moto.url("tree")])?;
    std::fs::remove_file(moto.here("tree/b")).doing(|| "removing a file".to_owned())?;
    write(&moto.here("tree/a"), "changed")?;
    // Both files are of the same second.
    moto.good(&["sync", "--criteria", "time,size", "--delete", &tree, &moto.url("tree")])?;
    let keys = "print(sorted(o['Key'] for o in s.list_objects_v2(Bucket='bucket')['Contents'] if o['Size']))";
    says(&moto.asks(keys)?, "['tree/a', 'tree/d/c']")?;
    ensure!(moto.good(&["cat", &moto.url("tree/a")])? == "changed", "cat says something else");
    Ok(())
}

fn changes_names(moto: &Moto) -> Result<()> {
    write(&moto.here("f"), "content")?;
    moto.good(&["put", &text(&moto.here("f")), &moto.url("f")])?;
    moto.good(&["mv", &moto.url("f"), &moto.url("g%20%2B")])?;
    ensure!(moto.good(&["cat", &moto.url("g%20%2B")])? == "content", "cat says something else");
    moto.good(&["mkdir", &moto.url("d")])?;
    moto.good(&["put", &text(&moto.here("f")), &moto.url("d/f")])?;
    moto.good(&["mv", &moto.url("d"), &moto.url("e")])?;
    ensure!(moto.good(&["cat", &moto.url("e/f")])? == "content", "cat says something else");
    let refused = moto.ferry(&["cat", &moto.url("d/f")]).finish()?.refused()?;
    says(&refused.stderr, "no such file")?;
    ensure!(!refused.stderr.contains("secret"), "the secret is told: {}", refused.stderr);
    Ok(())
}

fn says_what_it_shall_be(moto: &Moto) -> Result<()> {
    write(&moto.here("f"), "content")?;
    let flags = ["--s3-class", "STANDARD_IA", "--s3-sse", "AES256", "--s3-content-type", "text/x-test"];
    let more = ["--s3-meta", "colour=blue", "--s3-tag", "a=b c", "put"];
    let (from, to) = (text(&moto.here("f")), moto.url("f"));
    let all: Vec<&str> = flags.into_iter().chain(more).chain([from.as_str(), to.as_str()]).collect();
    moto.good(&all)?;
    let told = moto.asks(
        "h = s.head_object(Bucket='bucket', Key='f')\n\
         t = s.get_object_tagging(Bucket='bucket', Key='f')['TagSet']\n\
         print(h['StorageClass'], h['ServerSideEncryption'], h['ContentType'], h['Metadata'], t)",
    )?;
    says(&told, "STANDARD_IA AES256 text/x-test {'colour': 'blue'} [{'Key': 'a', 'Value': 'b c'}]")
}
