//! `keygen` and `copy-id`: keys made, converted, and allowed to log in.
//!
//! No file is overwritten. A phrase comes from a file, the environment or the terminal, never from the
//! command line, where everybody on the machine can read it. `copy-id` adds a line and removes none; run
//! again it does nothing.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto_sftp::ssh::keyfile::{Fault, Format, Kind, PublicLine, UserKey};
use serde_json::json;
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::{File as _, Filesystem as _, Follow, OpenOptions};
use session_core::fs_ext::FilesystemExt as _;
use session_core::metadata::Attributes;
use session_core::path::VPath;

use super::Context;
use crate::cli::args::{CopyId, KeyFormat, KeyType, Keygen};
use crate::cli::lines;
use crate::cli::render::{Out, warn};

/// The largest key file, and the largest list of keys, bytes.
const LARGEST: usize = 4 << 20;

fn argument(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal).with_source(e)))
}

fn read(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| {
        let words = format!("cannot read '{}': {e}", path.display());
        Error::from(e).with_detail(words)
    };
    let bytes = std::fs::read(path).map_err(failed)?;
    if bytes.len() > LARGEST {
        return Err(argument(format!("'{}' is too large for a key", path.display())));
    }
    String::from_utf8(bytes).map_err(|_| argument(format!("'{}' holds no text", path.display())))
}

/// A phrase from a file (its first line) or a variable.
fn phrase_from(file: Option<&PathBuf>, variable: &str) -> Result<Option<Secret>> {
    if let Some(file) = file {
        let text = Secret::new(read(file)?);
        return Ok(Some(Secret::new(text.expose().lines().next().unwrap_or_default())));
    }
    Ok(std::env::var(variable).ok().map(Secret::new))
}

/// Asks on the terminal; `None` where there is nobody.
async fn ask(cx: &Context, prompt: String) -> Result<Option<Secret>> {
    use std::io::IsTerminal as _;
    if cx.global.batch || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    blocking(move || Ok(rpassword::prompt_password(prompt).ok().map(Secret::new))).await
}

pub(super) async fn keygen(cx: &mut Context, a: &Keygen) -> Result<()> {
    let mut public_file = a.file.clone().into_os_string();
    public_file.push(".pub");
    let public_file = PathBuf::from(public_file);
    for file in [&a.file, &public_file] {
        if file.symlink_metadata().is_ok() {
            return Err(exists(file));
        }
    }
    let key = match &a.from {
        Some(from) => existing(cx, a, from).await?,
        None => made(a).await?,
    };
    let phrase = new_phrase(cx, a).await?;
    let format = match a.format {
        KeyFormat::Openssh => Format::OpenSsh,
        KeyFormat::Ppk => Format::Ppk3,
        KeyFormat::Ppk2 => Format::Ppk2,
    };
    let (file, public) = (a.file.clone(), key.public_line()?);
    let (shown, algorithm) = (key.fingerprint(), key.algorithm());
    let (line, at) = (format!("{public}\n"), public_file.clone());
    blocking(move || {
        let text = key.encode(format, phrase.as_ref())?;
        write_new(&file, text.expose(), 0o600)?;
        write_new(&at, &line, 0o644)
    })
    .await?;
    let mut out = Out::new();
    if cx.global.json {
        out.json(
            &lines::KEY,
            json!({
                "file": a.file.display().to_string(), "public_file": public_file.display().to_string(),
                "algorithm": algorithm, "fingerprint": shown, "public": public,
            }),
        );
    } else if !cx.global.quiet {
        out.line(&format!("{} and {}", a.file.display(), public_file.display()));
        out.line(&format!("{algorithm} {shown}"));
    }
    Ok(())
}

fn exists(file: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists)
        .with_detail(format!("'{}' exists, and no key is overwritten", file.display()))
        .with_hint("choose another name, or move it away")
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            return exists(file);
        }
        let words = format!("cannot write '{}': {e}", file.display());
        Error::from(e).with_detail(words)
    };
    let mut out =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
}

async fn made(a: &Keygen) -> Result<UserKey> {
    let kind = match (a.kind, a.bits) {
        (KeyType::Ed25519, None | Some(256)) => Kind::Ed25519,
        (KeyType::Ed25519, Some(_)) => return Err(argument("an Ed25519 key has one size only")),
        (KeyType::Ecdsa, bits) => Kind::Ecdsa(bits.unwrap_or(256)),
        (KeyType::Rsa, bits) => Kind::Rsa(bits.unwrap_or(3072)),
    };
    let comment = a.comment.clone().unwrap_or_else(|| {
        let user = std::env::var("USER").unwrap_or_else(|_| "user".into());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "host".into());
        format!("{user}@{}", host.trim())
    });
    blocking(move || UserKey::generate(kind, &comment)).await
}

async fn existing(cx: &Context, a: &Keygen, from: &Path) -> Result<UserKey> {
    let name = from.display().to_string();
    let text = Secret::new(read(from)?);
    let mut phrase = phrase_from(a.old_passphrase_file.as_ref(), "FERRY_OLD_PASSPHRASE")?;
    if phrase.is_none() && UserKey::is_encrypted(text.expose()) {
        phrase = ask(cx, format!("Passphrase of the key '{name}': ")).await?;
        if phrase.is_none() {
            return Err(Fault::Encrypted
                .of(&name)
                .with_hint("give --old-passphrase-file or FERRY_OLD_PASSPHRASE"));
        }
    }
    let key =
        blocking(move || UserKey::decode(text.expose(), phrase.as_ref()).map_err(|fault| fault.of(&name)))
            .await?;
    Ok(match &a.comment {
        Some(comment) => key.with_comment(comment),
        None => key,
    })
}

async fn new_phrase(cx: &Context, a: &Keygen) -> Result<Option<Secret>> {
    if a.no_passphrase {
        return Ok(None);
    }
    let given = match phrase_from(a.passphrase_file.as_ref(), "FERRY_PASSPHRASE")? {
        Some(given) => Some(given),
        None => match ask(cx, "Passphrase for the new key (empty for none): ".into()).await? {
            Some(first) => {
                let again = ask(cx, "Once more: ".into()).await?;
                if again.as_ref() != Some(&first) {
                    return Err(argument("the two phrases differ"));
                }
                Some(first)
            }
            None => None,
        },
    };
    match given {
        Some(phrase) if phrase.expose().is_empty() => Ok(None),
        Some(phrase) => Ok(Some(phrase)),
        None => Err(argument("there is nobody to ask for a phrase")
            .with_hint("give --passphrase-file, FERRY_PASSPHRASE, or --no-passphrase")),
    }
}

pub(super) async fn copy_id(cx: &mut Context, a: &CopyId) -> Result<()> {
    let file = a.key.clone();
    let keys = blocking(move || {
        PublicLine::parse_all(&read(&file)?).map_err(|words| {
            argument(format!("'{}' {words}", file.display())).with_hint("name the public key: KEY.pub")
        })
    })
    .await?;
    let place = cx.places.open(&a.place).await?;
    if !place.remote || !a.place.to_ascii_lowercase().starts_with("sftp:") {
        return Err(argument("keys are copied over SFTP").with_hint("sftp://user@host/"));
    }
    let list = if place.path.is_root() {
        let home = cx.places.home(&place.key)?;
        VPath::parse(&home, b".ssh/authorized_keys")?
    } else {
        place.path.clone()
    };
    let fs = &place.fs;
    let folder = list.parent().ok_or_else(|| argument("the list of keys is a file"))?;
    match fs.stat(&folder, Follow::Yes).await {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {
            fs.create_dir(&folder, &Attributes { mode: Some(0o700), ..Attributes::default() }).await?;
        }
        Err(e) => return Err(e),
    }
    let old = match fs.read_to_vec(&list, LARGEST).await {
        Ok(old) => Some(old),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let text = String::from_utf8_lossy(old.as_deref().unwrap_or_default()).into_owned();
    let known = |key: &PublicLine| {
        text.lines()
            .map(str::trim)
            .filter(|l| !l.starts_with('#'))
            .any(|l| l.split_whitespace().any(|w| w == key.blob))
    };
    let missing: Vec<&PublicLine> = keys.iter().filter(|k| !known(k)).collect();
    if !missing.is_empty() {
        let mut added = String::new();
        // A last line without its end would swallow ours.
        if !text.is_empty() && !text.ends_with('\n') {
            added.push('\n');
        }
        for key in &missing {
            added += &key.line;
            added.push('\n');
        }
        let attributes = Attributes { mode: Some(0o600), ..Attributes::default() };
        // Appended: what others add at the same time stays.
        let options =
            OpenOptions { write: true, create: true, append: true, attributes, ..OpenOptions::default() };
        let file = fs.open_file(&list, &options).await?;
        let end = old.as_ref().map_or(0, |o| o.len() as u64);
        let written = file.write_at(end, Bytes::from(added)).await;
        match written {
            Ok(()) => file.commit(&Default::default()).await.map(|_| ())?,
            Err(e) => {
                let _ = file.abort().await;
                return Err(e);
            }
        }
    }
    // Servers pass over lists that others may write.
    for path in [&folder, &list] {
        if let Ok(m) = fs.stat(path, Follow::Yes).await
            && m.mode.is_some_and(|mode| mode & 0o022 != 0)
        {
            let words = format!("others may write '{path}' on the server, which may therefore pass over it");
            warn(&words, cx.global.json);
        }
    }
    let mut out = Out::new();
    for key in &keys {
        let added = missing.iter().any(|m| m.blob == key.blob);
        if cx.global.json {
            let fields = json!({ "path": list.to_string(), "fingerprint": key.fingerprint, "added": added });
            out.json(&lines::KEY_ALLOWED, fields);
        } else if !cx.global.quiet {
            let words = if added { "added" } else { "is there already" };
            out.line(&format!("{} {words}", key.fingerprint));
        }
    }
    Ok(())
}
