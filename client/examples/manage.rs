//! What can be done to entries besides moving their content: made, looked at, renamed, linked, protected, proved.
//!
//! `cargo run --example manage -- 'sftp://user@host' /scratch`
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::error::Error;
use std::sync::Arc;

use client::session::{FilePermissions, Session, SessionOptions};
use session_core::batch::{TransferOptions, Unattended};
use session_core::error::ErrorKind;

/// Works in `dir`, which must not be there yet; gives the digest of what it left.
pub async fn run(options: SessionOptions, dir: &str) -> Result<String, Box<dyn Error>> {
    let session = Session::new();
    session.open(options, Arc::new(Unattended)).await?;
    session.create_directories(format!("{dir}/deep/down")).await?;
    session.remove_empty_directory(format!("{dir}/deep/down")).await?;
    session.put_file(&b"content"[..], format!("{dir}/draft"), &TransferOptions::default()).await?;
    session.move_file(format!("{dir}/draft"), format!("{dir}/final")).await?;
    session.chmod(format!("{dir}/final"), FilePermissions::from_text("rw-r-----")?).await?;
    session.create_symbolic_link(format!("{dir}/latest"), "final").await?;
    // "It is not there" and "it may not be seen" are different answers.
    match session.get_file_info(format!("{dir}/draft")).await {
        Err(e) if e.kind() == ErrorKind::NotFound => println!("the draft is gone"),
        other => println!("the draft: {other:?}"),
    }
    let (digest, proof) = session.calculate_file_checksum("sha-256", format!("{dir}/latest")).await?;
    let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    println!("{digest}, computed by: {}", proof.name());
    session.remove_files(format!("{dir}/deep")).await?.check()?;
    session.close().await?;
    Ok(digest)
}

#[tokio::main]
#[allow(dead_code, reason = "tests call `run`")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("two arguments: URL, directory");
    let (url, dir) = (next()?, next()?);
    run(SessionOptions::parse_url(&url)?, &dir).await?;
    Ok(())
}
