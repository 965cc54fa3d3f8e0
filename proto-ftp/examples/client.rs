//! The client half against any server: runs the conformance suite in a directory of its own, moves files there
//! and back, or measures small files and one large one.
//!
//! `client [FLAGS] plain|explicit|implicit HOST PORT USER PASSWORD [WHAT] [DIRECTORY]`, where WHAT is `suite`,
//! `list`, `speed`, `round` (files there and back), `cat` (DIRECTORY is a file), `between` (the file `f` of
//! the login folder becomes `g` there on the server of `--other`). Flags: `--active`, `--certificate=PEM` and
//! `--key=PEM` for the client's own, `--host=NAME` for HOST, `--other=PORT` for a second server with the same
//! login, `--unverified` for copies between servers that do not know each other. The server's certificate is
//! accepted as it is: for trying only.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use proto_ftp::client::{DataMode, FtpConnectOptions, FtpRemote, Security, connect, copy_between};
use session_core::auth::Secret;
use session_core::batch::{Answer, Decider, Query};
use session_core::conformance::{self, Subject};
use session_core::fs::{CommitOptions, Filesystem, ListOptions, OpenOptions, Replace};
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use session_core::net::client_tls::ClientCertificate;
use session_core::path::VPath;
use session_core::trust::TrustDecision;

struct Yes;

#[async_trait]
impl Decider for Yes {
    async fn decide(&self, query: Query) -> Answer {
        match query {
            Query::Certificate { certificate } => {
                eprintln!("accepting {}: {}", certificate.fingerprint(), certificate.why);
                Answer::Trust(TrustDecision::Accept)
            }
            other => other.unattended(),
        }
    }
}

async fn small(remote: &FtpRemote, dir: &VPath, files: usize) {
    let data = Bytes::from(vec![7; 4096]);
    for d in 0..10 {
        let _ = remote.create_dir(&dir.join(format!("d{d}")).unwrap(), &Attributes::none()).await;
    }
    let began = Instant::now();
    let workers = (0..8).map(|w| {
        let (remote, dir, data) = (remote.clone(), dir.clone(), data.clone());
        tokio::spawn(async move {
            for n in (w..files).step_by(8) {
                let path = dir.join(format!("d{}", n % 10)).unwrap().join(format!("f{n}")).unwrap();
                let options = OpenOptions { size_hint: Some(4096), ..OpenOptions::create() };
                let file = remote.open(&path, &options).await.unwrap();
                file.write_at(0, data.clone()).await.unwrap();
                let options = CommitOptions { expected_size: Some(4096), ..CommitOptions::default() };
                file.commit(&options).await.unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    println!("small files up: {:.0}/s", files as f64 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    let workers = (0..8).map(|w| {
        let (remote, dir) = (remote.clone(), dir.clone());
        tokio::spawn(async move {
            for n in (w..files).step_by(8) {
                let path = dir.join(format!("d{}", n % 10)).unwrap().join(format!("f{n}")).unwrap();
                let options = OpenOptions { size_hint: Some(4096), ..OpenOptions::read() };
                let file = remote.open(&path, &options).await.unwrap();
                let got = file.read_into(0, 4096, BytesMut::new()).await.unwrap();
                assert_eq!(got.len(), 4096);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    println!("small files down: {:.0}/s", files as f64 / began.elapsed().as_secs_f64());
}

async fn large(remote: &FtpRemote, dir: &VPath) {
    let path = dir.join("large").unwrap();
    let chunk = Bytes::from(vec![9; 1 << 20]);
    let began = Instant::now();
    let file = remote.open(&path, &OpenOptions::create()).await.unwrap();
    for n in 0..512_u64 {
        file.write_at(n << 20, chunk.clone()).await.unwrap();
    }
    file.commit(&CommitOptions::default()).await.unwrap();
    println!("512 MiB up: {:.0} MB/s", 536.9 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    let file = remote.open(&path, &OpenOptions::read()).await.unwrap();
    let mut at = 0;
    loop {
        let got = file.read_into(at, 1 << 20, BytesMut::with_capacity(1 << 20)).await.unwrap();
        if got.is_empty() {
            break;
        }
        at += got.len() as u64;
    }
    assert_eq!(at, 512 << 20);
    println!("512 MiB down: {:.0} MB/s", 536.9 / began.elapsed().as_secs_f64());
}

/// Files of several sizes there and back, side by side, and out of the way again.
async fn round(remote: &FtpRemote, dir: &VPath) {
    let dir = &dir.join("round").unwrap();
    remote.create_dir(dir, &Attributes::none()).await.unwrap();
    let moves = [0, 1, 70_000, 3 << 20].map(|size: usize| async move {
        let content: Vec<u8> = (0..size).map(|n| (n * 7 + n / 251) as u8).collect();
        let path = dir.join(format!("of {size}")).unwrap();
        let made = remote.write_all(&path, content.clone().into()).await.unwrap();
        assert_eq!(made.size, size as u64);
        assert!(remote.read_to_vec(&path, 4 << 20).await.unwrap() == content, "{size} bytes became others");
        let other = dir.join(format!("was {size}")).unwrap();
        remote.rename(&path, &other, Replace::No).await.unwrap();
    });
    futures_util::future::join_all(moves).await;
    let names: Vec<_> = remote.list_all(dir).await.unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["was 0", "was 1", "was 3145728", "was 70000"]);
    remote.remove_dir_all(dir).await.unwrap();
    println!("there and back");
}

fn connection(args: &[String], flag: &dyn Fn(&str) -> Option<String>) -> FtpConnectOptions {
    let mut options = FtpConnectOptions::new(args[1].as_str(), args[2].parse().unwrap(), args[3].as_str());
    options.password = Some(Secret::new(args[4].as_str()));
    options.security = match args[0].as_str() {
        "plain" => Security::Plain,
        "explicit" => Security::Explicit,
        _ => Security::Implicit,
    };
    if flag("active").is_some() {
        options.mode = DataMode::Active;
    }
    let own = flag("certificate").zip(flag("key"));
    options.tls.certificate = own
        .map(|(chain, key)| ClientCertificate::from_pem_files(chain.as_ref(), key.as_ref()))
        .transpose()
        .unwrap_or_else(|e| panic!("{e:#}"));
    options.host_name = flag("host");
    options.unverified_copies = flag("unverified").is_some();
    options
}

async fn enter(options: FtpConnectOptions) -> FtpRemote {
    match connect(options, Arc::new(Yes)).await {
        Ok(remote) => remote,
        Err(e) => {
            eprintln!("{e:#}");
            std::process::exit(1);
        }
    }
}

#[tokio::main]
async fn main() {
    let (flags, args): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let flag = |name: &str| {
        let rest = flags.iter().find_map(|f| f.strip_prefix("--")?.strip_prefix(name))?;
        Some(rest.trim_start_matches('=').to_owned())
    };
    let options = connection(&args, &flag);
    let remote = enter(options.clone()).await;
    println!("{}", remote.server_version());
    println!("{:?} {:?} home {}", remote.facts().kind, remote.tls_words(), remote.home());
    let what = args.get(5).map_or("suite", String::as_str);
    let dir = VPath::parse(remote.home(), args.get(6).map_or(&b""[..], |d| d.as_bytes())).unwrap();
    match what {
        "suite" => {
            let dir = dir.join("suite").unwrap();
            let _ = remote.remove_dir_all(&dir).await;
            remote.create_dir(&dir, &Attributes::none()).await.unwrap();
            let mut subject = Subject::new(Arc::new(remote.clone()));
            subject.root = dir;
            subject.profile.byte_names = false;
            subject.profile.awkward_names = false;
            let report = conformance::run_all(&subject).await;
            println!("{report}");
            if !report.failures().is_empty() {
                std::process::exit(1);
            }
        }
        "round" => round(&remote, &dir).await,
        "cat" => {
            let content = remote.read_to_vec(&dir, 1 << 20).await.unwrap();
            println!("{}", String::from_utf8_lossy(&content));
        }
        "between" => {
            let mut other = options;
            other.port = flag("other").unwrap().parse().unwrap();
            let other = enter(other).await;
            let (from, to) = (remote.home().join("f").unwrap(), other.home().join("g").unwrap());
            match copy_between(&remote, &from, &other, &to).await {
                Ok(copied) => println!("{} bytes copied", copied.size),
                Err(e) => {
                    eprintln!("{e:#}");
                    std::process::exit(1);
                }
            }
            other.close().await;
        }
        "list" => {
            let began = Instant::now();
            let mut pages = remote.list(&dir, &ListOptions::default()).await.unwrap();
            let mut n = 0;
            while let Some(page) = pages.next_page().await.unwrap() {
                n += page.len();
            }
            println!("{n} entries in {:?}, {} lines skipped", began.elapsed(), remote.skipped_lines());
        }
        _ => {
            let dir = dir.join("speed").unwrap();
            let _ = remote.create_dir(&dir, &Attributes::none()).await;
            small(&remote, &dir, 4000).await;
            large(&remote, &dir).await;
        }
    }
    remote.close().await;
}
