//! Server to server: one sends to the other, and the content does not come by here (RFC 959, section 2.3).
//!
//! The target listens and the source connects to it. Both servers must allow it, which few do: a server
//! that connects to third parties can be abused, and ours refuses unless told otherwise.
//!
//! Where the logins have TLS, so has the data (SSCN or CPSV: one of the two servers becomes the client of
//! TLS), or the answer is `Unsupported`, never silently less. The two do not know each other. Where both take
//! a fingerprint (ours do, `OPTS SSCN`) each is told the certificate that the other has shown *us*, and lets
//! nobody else in; without that, anybody on the way could be the other server, so it is done only if
//! `unverified_copies` is on.

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Follow;
use session_core::metadata::Metadata;
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::machine::{Command, text_of};
use super::options::Security;
use super::passive;
use super::pool::Lease;
use super::refine::error_of;
use super::remote::{FtpRemote, Remote};

/// Which server becomes the client of TLS, and by which word.
#[derive(Clone, Copy, PartialEq)]
enum Begins {
    Source,
    Target,
    /// For one transfer, by CPSV in place of PASV.
    TargetOnce,
}

fn no(words: &'static str) -> Error {
    Error::unsupported(OperationKind::Copy).with_detail(words)
}

fn is_private(remote: &Remote) -> bool {
    remote.pool.dialer.options.security != Security::Plain
}

fn takes_fingerprints(remote: &Remote) -> bool {
    remote.facts().value("SSCN").to_ascii_uppercase().contains("SHA-256")
}

/// Who begins TLS; `None` where there is none.
fn agree(source: &Remote, target: &Remote) -> Result<Option<Begins>> {
    if !is_private(source) && !is_private(target) {
        return Ok(None);
    }
    if !is_private(source) || !is_private(target) {
        return Err(no("one of the two logins has TLS, so the data between them must have it too"));
    }
    let begins = if target.facts().has("SSCN") {
        Begins::Target
    } else if source.facts().has("SSCN") {
        Begins::Source
    } else if target.facts().has("CPSV") {
        Begins::TargetOnce
    } else {
        return Err(no("neither server can begin TLS with the other (SSCN, CPSV)"));
    };
    let verified = takes_fingerprints(source) && takes_fingerprints(target);
    let allowed = [source, target].iter().all(|r| r.pool.dialer.options.unverified_copies);
    if !verified && !allowed {
        return Err(no("the two servers have no way to make sure of each other")
            .with_hint("copy by way of this computer, or allow unverified copies"));
    }
    Ok(Some(begins))
}

/// Copies a file from one server to another, directly. The target is replaced. Errors: `Unsupported` where
/// one of them refuses or the data cannot be protected as the logins are, else those of reading and writing;
/// `Corrupt` where the sizes differ afterwards. Dropping the future breaks both transfers off.
pub async fn copy_between(
    source: &FtpRemote,
    from: &VPath,
    target: &FtpRemote,
    to: &VPath,
) -> Result<Metadata> {
    let (source, target) = (source.inner(), target.inner());
    let begins = agree(source, target)?;
    for remote in [source, target] {
        if remote.pool.dialer.learned(|l| l.compressed) {
            return Err(no("the data would be compressed by one server only"));
        }
    }
    let size = source.look(from, Follow::Yes).await?.size;
    let (retr, stor) = (source.wire_path(from)?, target.wire_path(to)?);
    // One after the other: within one server nobody may wait with half of what he needs.
    let turn = target.pool.turn().await?;
    let mut there = target.pool.lease().await?;
    there.turn = Some(turn);
    let mut here = source.pool.lease().await?;
    for lease in [&mut here, &mut there] {
        if std::mem::take(&mut lease.text) {
            lease.call(&Command::with("TYPE", "I")).await?;
        }
        if let Some((token, _)) = lease.ahead.take() {
            lease.answer(token).await?;
        }
    }
    let pins = takes_fingerprints(source) && takes_fingerprints(target);
    let proxied = !target.pool.dialer.options.proxy.is_direct();
    let done = async {
        if let Some(begins) = begins {
            introduce(&mut here, &mut there, begins, pins).await?;
        }
        join(&mut here, &mut there, begins, proxied).await?;
        transfer(&mut here, retr, &mut there, stor).await
    };
    if let Err(e) = done.await {
        // One of them may still wait for data, or for the other.
        here.hang_up();
        there.hang_up();
        return Err(e);
    }
    if let Some(begins) = begins {
        part(here, begins == Begins::Source, pins).await;
        part(there, begins == Begins::Target, pins).await;
    } else {
        drop((here, there));
    }
    let copied = target.look(to, Follow::Yes).await?;
    if copied.size != size {
        return Err(Error::new(ErrorKind::Corrupt)
            .with_detail(format!("the file has {} bytes on the target, {size} on the source", copied.size)));
    }
    Ok(copied)
}

async fn agreed(lease: &mut Lease, command: Command) -> Result<()> {
    let reply = lease.call(&command).await?;
    if reply.code >= 300 {
        return Err(no("a server does not take part in a copy to another one")
            .with_wire(u32::from(reply.code), text_of(&reply)));
    }
    Ok(())
}

/// Says who begins TLS and, to each, which certificate the other has.
async fn introduce(here: &mut Lease, there: &mut Lease, begins: Begins, pins: bool) -> Result<()> {
    if pins {
        let print =
            |lease: &Lease| lease.wire().fingerprint().ok_or_else(|| no("a server has shown no certificate"));
        let (of_source, of_target) = (print(here)?, print(there)?);
        agreed(here, Command::with("OPTS", format!("SSCN {of_target}"))).await?;
        agreed(there, Command::with("OPTS", format!("SSCN {of_source}"))).await?;
    }
    match begins {
        Begins::Source => agreed(here, Command::with("SSCN", "ON")).await,
        Begins::Target => agreed(there, Command::with("SSCN", "ON")).await,
        Begins::TargetOnce => Ok(()),
    }
}

/// The connection is an ordinary one again, or it is given up.
async fn part(mut lease: Lease, began: bool, pins: bool) {
    let mut ask = Vec::new();
    if began {
        ask.push(Command::with("SSCN", "OFF"));
    }
    if pins {
        ask.push(Command::with("OPTS", "SSCN"));
    }
    match lease.calls(&ask).await {
        Ok(replies) if replies.iter().all(|r| r.code < 300) => {}
        _ => lease.hang_up(),
    }
}

/// The target listens, the source is told where. `proxied`: we do not reach the target ourselves.
async fn join(here: &mut Lease, there: &mut Lease, begins: Option<Begins>, proxied: bool) -> Result<()> {
    let verb = if begins == Some(Begins::TargetOnce) { "CPSV" } else { "PASV" };
    let reply = there.call(&Command::new(verb)).await?;
    // The source needs an address it can reach: the target's own word, or where we reach it.
    let told = passive::passive(&reply).ok_or_else(|| error_of(&reply))?;
    let peer = if proxied { told } else { there.peer };
    let address = passive::target(told, peer, true);
    let port = passive::port(address).ok_or_else(|| no("servers can only be joined over IPv4"))?;
    let reply = here.call(&Command::with("PORT", port)).await?;
    if reply.code >= 300 {
        return Err(no("the source does not connect to other servers")
            .with_wire(u32::from(reply.code), text_of(&reply)));
    }
    Ok(())
}

async fn transfer(here: &mut Lease, retr: bytes::Bytes, there: &mut Lease, stor: bytes::Bytes) -> Result<()> {
    let store = there.submit(&Command::with("STOR", stor))?;
    there.flush().await?;
    let send = here.submit(&Command::with("RETR", retr))?;
    let (begun, stored) = tokio::try_join!(here.begun(send), there.begun(store))?;
    for (goes_on, reply) in [&begun, &stored] {
        if !goes_on && reply.code >= 300 {
            return Err(error_of(reply));
        }
    }
    // Both say how it ended. How long that takes nobody here can see: as long as both connections stand.
    let patience = std::time::Duration::from_secs(24 * 3600);
    let sent = async { if begun.0 { here.answer_within(send, patience).await } else { Ok(begun.1.clone()) } };
    let kept =
        async { if stored.0 { there.answer_within(store, patience).await } else { Ok(stored.1.clone()) } };
    let (sent, kept) = tokio::try_join!(sent, kept)?;
    for reply in [&sent, &kept] {
        if reply.code >= 300 {
            return Err(error_of(reply));
        }
    }
    Ok(())
}
