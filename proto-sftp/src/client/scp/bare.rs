//! What is left where there is no shell: servers that run `scp` and nothing else, as ours does.
//!
//! A source tells times, mode and size of a file before it waits for an answer, so one entry is looked at by asking for
//! it and hanging up. A source of a tree goes into no directory and sends no file that its other end declines, so
//! a directory is listed by asking for the tree and declining all that is in it. A directory is made by sending an
//! empty one. Links are followed by the source; what is neither file nor directory is not listed.
//!
//! A listing is complete or an error. What the source could not look at it names: that is an entry of which nothing but
//! the name is known, a link as far as anybody can tell, so that whoever wants it looks again and is told why. A
//! complaint that names no entry ends the listing, as does a name with a line end, which has no words.

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

    /// The next entry with its times, before it is answered, or a complaint, which is not answered; `None` at the end
    /// of a directory, and of all.
    async fn entry(&mut self) -> Result<Option<Next>> {
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
                Some(Control::Warning(words)) => match kind_of(&words) {
                    // Gone meanwhile, a link that leads nowhere, or nothing that could be sent.
                    Some(ErrorKind::NotFound | ErrorKind::IsADirectory) => continue,
                    // Its name is another one than the words can hold.
                    Some(ErrorKind::InvalidPath) => return Err(scp_said(&words)),
                    _ => return Ok(Some(Next::Complaint(words))),
                },
                Some(Control::Fatal(words)) => return Err(scp_said(&words)),
                Some(Control::End) => return Ok(None),
                Some(Control::Ok) => return Err(malformed(Malformed("an answer where nothing was said"))),
                None => {
                    return Err(
                        Error::new(ErrorKind::Disconnected).with_detail("the server's scp ended early")
                    );
                }
            };
            (metadata.modified, metadata.accessed) = times.unzip();
            return Ok(Some(Next::Entry(DirEntry { name, metadata })));
        }
    }
}

/// What a source of a tree says of an entry.
enum Next {
    Entry(DirEntry),
    /// That it cannot be had, and why.
    Complaint(Bytes),
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
    while let Some(next) = talk.entry().await? {
        if entries.len() >= MOST {
            return Err(
                Error::new(ErrorKind::TooLarge).with_detail("the directory is too large for SCP alone")
            );
        }
        match next {
            Next::Entry(entry) => {
                entries.push(entry);
                talk.say(DECLINED).await?;
            }
            Next::Complaint(words) => entries.extend(blamed(remote, dir, &words).await?),
        }
    }
    Ok(entries)
}

/// The names that a complaint may be about, the shortest first: words follow the name, and both may have colons in them.
fn names(dir: &VPath, words: &[u8]) -> Vec<Bytes> {
    let above = if dir.is_root() { b"" } else { dir.as_bytes() };
    let path = words.strip_prefix(b"scp: ").and_then(|path| path.strip_prefix(above));
    let Some(rest) = path.and_then(|path| path.strip_prefix(b"/")) else { return Vec::new() };
    // OpenSSH's own puts a slash behind the root.
    let rest = rest.strip_prefix(b"/").filter(|_| dir.is_root()).unwrap_or(rest);
    let ends = rest.windows(2).enumerate().filter(|(_, colon)| *colon == b": ").map(|(at, _)| at);
    let names = ends.filter_map(|end| rest.get(..end));
    let is_name = |name: &&[u8]| !name.is_empty() && !name.contains(&b'/');
    names.take_while(is_name).map(Bytes::copy_from_slice).collect()
}

/// The entry that a complaint is about; none if it is gone. Errors: the complaint, where it names no entry.
async fn blamed(remote: &Remote, dir: &VPath, words: &[u8]) -> Result<Option<DirEntry>> {
    let entry = |name, metadata| Ok(Some(DirEntry { name, metadata }));
    let unknown = Metadata::new(FileType::Symlink, 0);
    let mut names = names(dir, words);
    if names.len() == 1 {
        return names.pop().map_or(Ok(None), |name| entry(name, unknown));
    }
    if names.is_empty() {
        return Err(scp_said(words));
    }
    for name in names {
        match look(remote, &dir.join(&name)?).await {
            Ok(metadata) => return entry(name, metadata),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(_) => return entry(name, unknown),
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_what_it_is_about() {
        let p = |path: &str| VPath::absolute(path).unwrap();
        for (dir, words, due) in [
            ("/d", "scp: /d/f: Permission denied", vec!["f"]),
            ("/d", "scp: /d/a: b: Permission denied", vec!["a", "a: b"]),
            (
                "/d",
                "scp: /d/s: permission denied: listing is not allowed here",
                vec!["s", "s: permission denied"],
            ),
            ("/", "scp: /f: refused", vec!["f"]),
            // As OpenSSH's says it of the root.
            ("/", "scp: //f: Permission denied", vec!["f"]),
            // Of the directory itself, of something deeper or elsewhere, and of nothing.
            ("/d", "scp: /d: Permission denied", vec![]),
            ("/d", "scp: /d/e/f: Permission denied", vec![]),
            ("/d", "scp: /dd/f: Permission denied", vec![]),
            ("/d", "scp: /d/: no", vec![]),
            ("/d", "scp: /d/f", vec![]),
            ("/d", "lost connection", vec![]),
        ] {
            assert_eq!(names(&p(dir), words.as_bytes()), due, "{words}");
        }
    }
}
