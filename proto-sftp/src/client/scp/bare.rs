//! What is left where there is no shell: servers that run `scp` and nothing else, as ours does.
//!
//! A source tells times, mode and size of a file before it waits for an answer, so one entry is looked at by asking for
//! it and hanging up. A source of a tree goes into no directory and sends no file that its other end declines, so
//! a directory is listed by asking for the tree and declining all that is in it. A directory is made by sending an
//! empty one. Links are followed by the source; what is neither file nor directory is not listed.
//!
//! A listing is complete or an error: what the source could not read it names, and that ends it.

use bytes::{Bytes, BytesMut};
use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::{Attributes, DirEntry, FileType, Metadata};
use session_core::path::VPath;
use session_core::shell::quoted;

use super::list::MOST;
use super::read::malformed;
use super::remote::Remote;
use super::shell::Transfer;
use super::words::{kind_of, scp_said};
use crate::wire::scp::{Arrived, Control, Malformed};

/// Not this one, but the next perhaps.
const DECLINED: &[u8] = b"\x01\n";

/// A source or a sink, line by line.
struct Talk {
    transfer: Transfer,
    arrived: Arrived,
    errors: Vec<u8>,
}

impl Talk {
    async fn begin(remote: &Remote, command: &[u8], path: &VPath) -> Result<Talk> {
        let transfer = remote.transfer(&[command, &quoted(path.as_bytes())].concat()).await?;
        Ok(Talk { transfer, arrived: Arrived::default(), errors: Vec::new() })
    }

    async fn say(&self, bytes: &'static [u8]) -> Result<()> {
        self.transfer.send(Bytes::from_static(bytes)).await
    }

    /// The next line; `None` at the end.
    async fn next(&mut self) -> Result<Option<Control>> {
        loop {
            if let Some(control) = self.arrived.control().map_err(malformed)? {
                return Ok(Some(control));
            }
            match self.transfer.next(&mut self.errors).await? {
                Some(piece) => self.arrived.push(&piece),
                None => return Ok(None),
            }
        }
    }

    /// The next entry with its times, before it is answered; `None` at the end of a directory, and of all.
    async fn entry(&mut self) -> Result<Option<(Bytes, Metadata)>> {
        let mut times = None;
        loop {
            let made = |kind, mode, size| Metadata { mode: Some(mode), ..Metadata::new(kind, size) };
            let (name, mut metadata) = match self.next().await? {
                Some(Control::Times { modified, accessed }) => {
                    times = Some((modified, accessed));
                    self.say(&[0]).await?;
                    continue;
                }
                Some(Control::File { mode, size, name }) => (name, made(FileType::File, mode, size)),
                Some(Control::Directory { mode, name }) => (name, made(FileType::Directory, mode, 0)),
                // Gone meanwhile, a link that leads nowhere, or nothing that could be sent.
                Some(Control::Warning(words))
                    if matches!(kind_of(&words), Some(ErrorKind::NotFound | ErrorKind::IsADirectory)) =>
                {
                    continue;
                }
                Some(Control::Warning(words) | Control::Fatal(words)) => return Err(scp_said(&words)),
                Some(Control::End) => return Ok(None),
                Some(Control::Ok) => return Err(malformed(Malformed("an answer where nothing was said"))),
                None => {
                    return Err(
                        Error::new(ErrorKind::Disconnected).with_detail("the server's scp ended early")
                    );
                }
            };
            (metadata.modified, metadata.accessed) = times.unzip();
            return Ok(Some((name, metadata)));
        }
    }
}

/// The entry at `path`, its line not answered.
async fn ask(remote: &Remote, path: &VPath) -> Result<(Talk, Metadata)> {
    let mut talk = Talk::begin(remote, b"scp -p -r -f ", path).await?;
    talk.say(&[0]).await?;
    // Of what was asked for itself, whatever is wrong is an error.
    let mut times = None;
    loop {
        match talk.next().await? {
            Some(Control::Times { modified, accessed }) => {
                times = Some((modified, accessed));
                talk.say(&[0]).await?;
            }
            Some(Control::File { mode, size, .. }) => {
                let (modified, accessed) = times.unzip();
                let m =
                    Metadata { mode: Some(mode), modified, accessed, ..Metadata::new(FileType::File, size) };
                return Ok((talk, m));
            }
            Some(Control::Directory { mode, .. }) => {
                let (modified, accessed) = times.unzip();
                let m = Metadata {
                    mode: Some(mode),
                    modified,
                    accessed,
                    ..Metadata::new(FileType::Directory, 0)
                };
                return Ok((talk, m));
            }
            Some(Control::Warning(words) | Control::Fatal(words)) => return Err(scp_said(&words)),
            Some(_) => return Err(malformed(Malformed("something else than an entry"))),
            None if !talk.errors.trim_ascii().is_empty() => {
                return Err(super::words::error_of(1, &talk.errors));
            }
            None => {
                return Err(Error::new(ErrorKind::Disconnected).with_detail("the server's scp ended early"));
            }
        }
    }
}

/// What is at `path`; links are followed.
pub(super) async fn look(remote: &Remote, path: &VPath) -> Result<Metadata> {
    ask(remote, path).await.map(|(_, metadata)| metadata)
}

/// What is in a directory.
pub(super) async fn list(remote: &Remote, dir: &VPath) -> Result<Vec<DirEntry>> {
    let (mut talk, found) = ask(remote, dir).await?;
    if !found.is_dir() {
        return Err(Error::new(ErrorKind::NotADirectory));
    }
    talk.say(&[0]).await?;
    let mut entries = Vec::new();
    while let Some((name, metadata)) = talk.entry().await? {
        if entries.len() >= MOST {
            return Err(
                Error::new(ErrorKind::TooLarge).with_detail("the directory is too large for SCP alone")
            );
        }
        entries.push(DirEntry { name, metadata });
        talk.say(DECLINED).await?;
    }
    Ok(entries)
}

/// Makes a directory.
pub(super) async fn create_dir(remote: &Remote, path: &VPath, attributes: &Attributes) -> Result<()> {
    let Some(parent) = path.parent() else { return Err(Error::new(ErrorKind::AlreadyExists)) };
    match look(remote, path).await {
        Ok(_) => return Err(Error::new(ErrorKind::AlreadyExists)),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let name = Bytes::copy_from_slice(path.name());
    if name.contains(&b'\n') {
        return Err(Error::new(ErrorKind::InvalidPath).with_detail("SCP sends no name with a line end"));
    }
    // Without a place to put it in, it would be made under the name of that place.
    if !look(remote, &parent).await?.is_dir() {
        return Err(Error::new(ErrorKind::NotADirectory));
    }
    let command: &[u8] = if attributes.mode.is_some() { b"scp -p -r -d -t " } else { b"scp -r -d -t " };
    let mut talk = Talk::begin(remote, command, &parent).await?;
    let mut line = BytesMut::new();
    Control::Directory { mode: attributes.mode.unwrap_or(0o777), name }.encode(&mut line);
    Control::End.encode(&mut line);
    talk.transfer.send(line.freeze()).await?;
    // That it may begin, that the directory is there, that it is complete.
    for _ in 0..3 {
        match talk.next().await? {
            Some(Control::Ok) => {}
            Some(Control::Warning(words) | Control::Fatal(words)) => return Err(scp_said(&words)),
            Some(_) => return Err(malformed(Malformed("an answer that is none"))),
            None => {
                return Err(Error::new(ErrorKind::Disconnected).with_detail("the server's scp ended early"));
            }
        }
    }
    Ok(())
}
