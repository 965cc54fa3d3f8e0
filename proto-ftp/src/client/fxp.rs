//! Server to server: one sends to the other, and the content does not come by here (RFC 959, section 2.3).
//!
//! The target listens and the source connects to it. Both servers must allow it, which few do: a server
//! that connects to third parties can be abused, and ours refuses. Data between them is in the clear:
//! where a login asked for TLS, the answer is `Unsupported`, never silently less.

use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Follow;
use session_core::metadata::Metadata;
use session_core::operation::OperationKind;
use session_core::path::VPath;

use super::machine::Command;
use super::options::Security;
use super::passive;
use super::refine::error_of;
use super::remote::FtpRemote;

/// Copies a file from one server to another, directly. The target is replaced. Errors: `Unsupported` where
/// one of them refuses or has TLS, else those of reading and writing; `Corrupt` where the sizes differ
/// afterwards. Dropping the future breaks both transfers off.
pub async fn copy_between(
    source: &FtpRemote,
    from: &VPath,
    target: &FtpRemote,
    to: &VPath,
) -> Result<Metadata> {
    let (source, target) = (source.inner(), target.inner());
    let no = |words: &'static str| Error::unsupported(OperationKind::Copy).with_detail(words);
    for remote in [source, target] {
        if remote.pool.dialer.options.security != Security::Plain {
            return Err(no("two servers cannot be made to protect the data between them"));
        }
        if remote.pool.dialer.learned(|l| l.compressed) {
            return Err(no("the data would be compressed by one server only"));
        }
    }
    let size = source.look(from, Follow::Yes).await?.size;
    let (retr, stor) = (source.wire_path(from)?, target.wire_path(to)?);
    let (mut here, mut there) = tokio::try_join!(source.pool.lease(), target.pool.lease())?;
    for lease in [&mut here, &mut there] {
        if std::mem::take(&mut lease.text) {
            lease.call(&Command::with("TYPE", "I")).await?;
        }
        if let Some((token, _)) = lease.ahead.take() {
            lease.answer(token).await?;
        }
    }
    let reply = there.call(&Command::new("PASV")).await?;
    // The source needs an address it can reach: the target's own word, or where we reach it.
    let told = passive::passive(&reply).ok_or_else(|| error_of(&reply))?;
    let address = passive::target(told, there.peer, true);
    let port = passive::port(address).ok_or_else(|| no("servers can only be joined over IPv4"))?;
    let reply = here.call(&Command::with("PORT", port)).await?;
    if reply.code >= 300 {
        return Err(no("the source does not connect to other servers")
            .with_wire(u32::from(reply.code), super::machine::text_of(&reply)));
    }
    let store = there.submit(&Command::with("STOR", stor))?;
    there.flush().await?;
    let send = here.submit(&Command::with("RETR", retr))?;
    let (begun, stored) = tokio::try_join!(here.begun(send), there.begun(store))?;
    for (goes_on, reply) in [&begun, &stored] {
        if !goes_on && reply.code >= 300 {
            // The other server still waits for data; its connection is given up.
            here.hang_up();
            there.hang_up();
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
    drop(there);
    let copied = target.look(to, Follow::Yes).await?;
    if copied.size != size {
        return Err(Error::new(ErrorKind::Corrupt)
            .with_detail(format!("the file has {} bytes on the target, {size} on the source", copied.size)));
    }
    Ok(copied)
}
