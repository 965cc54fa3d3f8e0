//! Our client of S3 on stores of others: moto, AWS's services played by a program of Python's, and s3s-fs, which keeps
//! objects in a folder and is built from its source, which takes minutes, where it is asked for.
//!
//! Each case starts a store of its own. What is there is asked of it in the words of others (botocore), so that ours
//! cannot agree with itself on something wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{holds, make, plain_tree, says};
use crate::fault::{Result, While, ensure};
use crate::peers::program;
use crate::peers::servers::{LOOPBACK, ensure_s3s_fs};
use crate::process::{Run, Server, TempDir, free_port, write};

/// A test of ours on a store of theirs.
pub(in crate::peers) struct S3Case {
    pub(in crate::peers) name: &'static str,
    pub(in crate::peers) run: fn(&Store) -> Result<()>,
}

/// A store of theirs.
pub(in crate::peers) struct S3Store {
    pub(in crate::peers) name: &'static str,
    /// It is built where it is asked for by its name.
    pub(in crate::peers) is_built: bool,
    /// The program at a port, with the key `key` and its secret; it may use this folder.
    run: fn(port: u16, dir: &Path) -> Result<Run>,
    /// Cases that it has nothing for.
    lacks: &'static [&'static str],
}

/// The peer that all cases need, by name: botocore comes with it.
pub(in crate::peers) const PEER: &str = "moto";

pub(in crate::peers) const S3_STORES: &[S3Store] = &[
    S3Store { name: PEER, is_built: false, run: moto, lacks: &[] },
    // Its keys are paths of a folder, and in listings not encoded though it says so; an empty folder is in no
    // listing, so that a tree has no beginning; its objects have neither classes nor tags, and it lists no uploads.
    S3Store { name: "s3s-fs", is_built: true, run: s3s_fs, lacks: &[SAYS, ODD, COUNTS, TREE, SYNCS, NAMES] },
];

const SAYS: &str = "ferry_says_what_an_object_shall_be";
const ODD: &str = "ferry_shows_a_key_that_is_no_path";
const COUNTS: &str = "ferry_leaves_no_part_behind";
const TREE: &str = "ferry_moves_a_tree";
const SYNCS: &str = "ferry_syncs";
const NAMES: &str = "ferry_changes_names";

#[rustfmt::skip]
const S3: &[S3Case] = &[
    S3Case { name: "ferry_moves_a_file", run: moves_a_file },
    S3Case { name: "ferry_moves_a_large_file_in_parts", run: moves_in_parts },
    S3Case { name: COUNTS, run: leaves_no_part },
    S3Case { name: TREE, run: moves_a_tree },
    S3Case { name: ODD, run: shows_odd_keys },
    S3Case { name: SYNCS, run: syncs },
    S3Case { name: NAMES, run: changes_names },
    S3Case { name: SAYS, run: says_what_it_shall_be },
];

impl S3Store {
    /// What it has something for.
    pub(in crate::peers) fn cases(&self) -> impl Iterator<Item = &'static S3Case> + use<> {
        let lacks = self.lacks;
        S3.iter().filter(move |case| !lacks.contains(&case.name))
    }

    /// A case of it, by name.
    pub(in crate::peers) fn case(&self, case: &S3Case) -> String {
        format!("{}::{}", self.name, case.name)
    }
}

fn moto(port: u16, _: &Path) -> Result<Run> {
    Ok(program("moto_server")?.args(["-H", LOOPBACK, "-p", &port.to_string()]))
}

fn s3s_fs(port: u16, dir: &Path) -> Result<Run> {
    ensure_s3s_fs()?;
    let run = program("s3s-fs")?.args(["--access-key", "key", "--secret-key", "secret"]);
    Ok(run.args(["--host", LOOPBACK, "--port", &port.to_string()]).arg(dir).env("RUST_LOG", "error"))
}

const READY: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(120);

/// A store, a bucket in it, and a folder of ours.
pub(in crate::peers) struct Store<'a> {
    ferry: &'a Path,
    port: u16,
    dir: TempDir,
    _server: Server,
}

impl<'a> Store<'a> {
    /// Starts one. Errors: it does not come up.
    pub(in crate::peers) fn start(store: &S3Store, ferry: &'a Path) -> Result<Self> {
        let (port, dir) = (free_port()?, TempDir::new(store.name)?);
        let objects = dir.join("objects");
        std::fs::create_dir(&objects).doing(|| "making a folder".to_owned())?;
        let mut server = Server::start(&(store.run)(port, &objects)?)?;
        server.port(port, READY)?;
        let store = Store { ferry, port, dir, _server: server };
        store.good(&["mkdir", &store.url("")])?;
        Ok(store)
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

    /// What it says, asked by botocore.
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

fn moves_a_file(store: &Store) -> Result<()> {
    let content = make(&store.here("a file"), 1)?;
    store.good(&["put", &text(&store.here("a file")), &store.url("d/a%20name%20%C3%A4.txt")])?;
    let told = store.asks("r = s.get_object(Bucket='bucket', Key='d/a name ä.txt')\nprint(r['ContentType'], len(r['Body'].read()))")?;
    says(&told, &format!("text/plain {}", content.len()))?;
    store.good(&["get", &store.url("d/a%20name%20%C3%A4.txt"), &text(&store.here("back"))])?;
    holds(&store.here("back"), &content)?;
    // Over what is there, and over nothing at all.
    for (name, content) in [("small", &b"abc"[..]), ("none", b"")] {
        write(&store.here(name), content)?;
        store.good(&["put", &text(&store.here(name)), &store.url("d/over")])?;
        store.good(&["get", &store.url("d/over"), &text(&store.here("back"))])?;
        holds(&store.here("back"), content)?;
    }
    let listed = store.good(&["ls", &store.url("d")])?;
    ensure!(listed.lines().eq(["a name ä.txt", "over"]), "ls says:\n{listed}");
    Ok(())
}

fn moves_in_parts(store: &Store) -> Result<()> {
    let content: Vec<u8> = (0..21_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write(&store.here("large"), &content)?;
    store.good(&["put", &text(&store.here("large")), &store.url("large")])?;
    let told = store.asks("print(s.head_object(Bucket='bucket', Key='large')['ContentLength'])")?;
    says(&told, "21000001")?;
    store.good(&["get", &store.url("large"), &text(&store.here("back"))])?;
    holds(&store.here("back"), &content)
}

fn leaves_no_part(store: &Store) -> Result<()> {
    write(&store.here("large"), vec![7; 21_000_001])?;
    store.good(&["put", &text(&store.here("large")), &store.url("large")])?;
    // The etag of what came in parts tells how many.
    let told = store.asks("print(s.head_object(Bucket='bucket', Key='large')['ETag'])\nprint(s.list_multipart_uploads(Bucket='bucket').get('Uploads', []))")?;
    says(&told, "-3\"")?;
    says(&told, "[]")
}

fn moves_a_tree(store: &Store) -> Result<()> {
    plain_tree(&store.here("tree"))?;
    store.good(&["put", "-r", &text(&store.here("tree")), &store.url("tree")])?;
    store.good(&["get", "-r", "--no-times", &store.url("tree"), &text(&store.here("back"))])?;
    let done = Run::new("diff").args(["-r", "tree", "back"]).dir(store.dir.join("")).finish()?.succeeded();
    done.map(drop)?;
    store.good(&["rm", "-r", &store.url("tree")])?;
    let told = store.asks("print(s.list_objects_v2(Bucket='bucket')['KeyCount'])")?;
    ensure!(told.trim() == "0", "{told} objects stay behind");
    Ok(())
}

fn shows_odd_keys(store: &Store) -> Result<()> {
    // It comes to light all the same, by another name.
    store.asks("s.put_object(Bucket='bucket', Key='x//y', Body=b'deep')")?;
    ensure!(store.good(&["cat", &store.url("x/%E2%88%85/y")])? == "deep", "cat says something else");
    // What an encoded listing may take for a space.
    store.asks("s.put_object(Bucket='bucket', Key='plus/a+b c', Body=b'plus')")?;
    says(&store.good(&["ls", &store.url("plus")])?, "a+b c")?;
    Ok(())
}

fn syncs(store: &Store) -> Result<()> {
    std::fs::create_dir_all(store.here("tree/d")).doing(|| "making folders".to_owned())?;
    for name in ["a", "b", "d/c"] {
        write(&store.here(&format!("tree/{name}")), name)?;
    }
    let tree = text(&store.here("tree"));
    store.good(&["sync", &tree, &store.url("tree")])?;
    std::fs::remove_file(store.here("tree/b")).doing(|| "removing a file".to_owned())?;
    write(&store.here("tree/a"), "changed")?;
    // Both files are of the same second.
    store.good(&["sync", "--criteria", "time,size", "--delete", &tree, &store.url("tree")])?;
    let keys = "print(sorted(o['Key'] for o in s.list_objects_v2(Bucket='bucket')['Contents'] if o['Size']))";
    says(&store.asks(keys)?, "['tree/a', 'tree/d/c']")?;
    ensure!(store.good(&["cat", &store.url("tree/a")])? == "changed", "cat says something else");
    Ok(())
}

fn changes_names(store: &Store) -> Result<()> {
    write(&store.here("f"), "content")?;
    store.good(&["put", &text(&store.here("f")), &store.url("f")])?;
    store.good(&["mv", &store.url("f"), &store.url("g%20%2B")])?;
    ensure!(store.good(&["cat", &store.url("g%20%2B")])? == "content", "cat says something else");
    store.good(&["mkdir", &store.url("d")])?;
    store.good(&["put", &text(&store.here("f")), &store.url("d/f")])?;
    store.good(&["mv", &store.url("d"), &store.url("e")])?;
    ensure!(store.good(&["cat", &store.url("e/f")])? == "content", "cat says something else");
    let refused = store.ferry(&["cat", &store.url("d/f")]).finish()?.refused()?;
    says(&refused.stderr, "no such file")?;
    ensure!(!refused.stderr.contains("secret"), "the secret is told: {}", refused.stderr);
    Ok(())
}

fn says_what_it_shall_be(store: &Store) -> Result<()> {
    write(&store.here("f"), "content")?;
    let flags = ["--s3-class", "STANDARD_IA", "--s3-sse", "AES256", "--s3-content-type", "text/x-test"];
    let more = ["--s3-meta", "colour=blue", "--s3-tag", "a=b c", "put"];
    let (from, to) = (text(&store.here("f")), store.url("f"));
    let all: Vec<&str> = flags.into_iter().chain(more).chain([from.as_str(), to.as_str()]).collect();
    store.good(&all)?;
    let told = store.asks(
        "h = s.head_object(Bucket='bucket', Key='f')\n\
         t = s.get_object_tagging(Bucket='bucket', Key='f')['TagSet']\n\
         print(h['StorageClass'], h['ServerSideEncryption'], h['ContentType'], h['Metadata'], t)",
    )?;
    says(&told, "STANDARD_IA AES256 text/x-test {'colour': 'blue'} [{'Key': 'a', 'Value': 'b c'}]")
}
