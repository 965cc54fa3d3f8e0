//! FileZilla's sitemanager.xml: servers in folders.
//!
//! A password stands there in base64, unless a master password encrypts it. "Explicit FTP over TLS if available"
//! becomes explicit TLS or nothing: a site never turns to the clear by itself, and that is noted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use session_core::error::{Error, ErrorKind, Result};

use super::Imported;
use crate::script::Drives;
use crate::session::{FtpMode, FtpSecure, Protocol, SessionOptions};

/// How deep folders may stand in each other.
const DEEPEST: usize = 64;

/// A server, as far as it was read.
#[derive(Default)]
struct Server {
    /// Elements with their text, in order.
    values: Vec<(String, String)>,
    /// How the password is written down.
    encoding: String,
    name: String,
}

impl Server {
    fn get(&self, name: &str) -> &str {
        self.values.iter().rev().find(|(n, _)| n == name).map_or("", |(_, v)| v.trim())
    }
}

fn senseless(words: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(format!("this is no sitemanager.xml: {words}"))
}

/// Reads the text of a sitemanager.xml. Errors: `InvalidArgument` for what is none.
pub fn filezilla(text: &str, drives: &Drives) -> Result<Imported> {
    let mut out = Imported::default();
    let mut reader = Reader::from_str(text);
    // The elements around, the text of the innermost one, the folders, the server.
    let mut path: Vec<String> = Vec::new();
    let mut inner = String::new();
    let mut folders: Vec<String> = Vec::new();
    let mut server: Option<Server> = None;
    let mut seen = false;
    loop {
        match reader.read_event().map_err(senseless)? {
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                seen |= name == "FileZilla3";
                match name.as_str() {
                    "Folder" => {
                        // Its name is the text before its first server.
                        named(&mut folders, &inner, &path);
                        folders.push(String::new());
                        if folders.len() > DEEPEST {
                            return Err(senseless("folders stand in each other without end"));
                        }
                    }
                    "Server" => {
                        named(&mut folders, &inner, &path);
                        server = Some(Server::default());
                    }
                    "Pass" => {
                        if let Some(server) = &mut server {
                            server.encoding = attribute(&start, "encoding");
                        }
                    }
                    _ => {}
                }
                inner.clear();
                path.push(name);
                if path.len() > DEEPEST * 2 {
                    return Err(senseless("elements stand in each other without end"));
                }
            }
            Event::End(_) => {
                let name = path.pop().unwrap_or_default();
                match (name.as_str(), server.take()) {
                    ("Server", Some(mut done)) => {
                        done.name = if done.get("Name").is_empty() {
                            // Old files write it as the server's own text.
                            inner.trim().to_owned()
                        } else {
                            done.get("Name").to_owned()
                        };
                        let name = if done.name.is_empty() { done.get("Host") } else { &done.name };
                        let whole: Vec<&str> = folders.iter().map(String::as_str).chain([name]).collect();
                        let whole: Vec<String> = whole
                            .iter()
                            .map(|n| n.trim().replace('/', "_"))
                            .filter(|n| !n.is_empty())
                            .collect();
                        one(&mut out, &done, &whole.join("/"), drives);
                    }
                    ("Folder", none) => {
                        server = none;
                        folders.pop();
                    }
                    (_, Some(mut open)) => {
                        if path.last().is_some_and(|p| p == "Server") {
                            open.values.push((name, std::mem::take(&mut inner)));
                        }
                        server = Some(open);
                    }
                    (_, None) => {}
                }
                inner.clear();
            }
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Text(text) => inner.push_str(&text),
            Event::CData(text) => inner.push_str(&text),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(senseless)? {
                Some(c) => inner.push(c),
                None => {
                    let name: &str = &reference;
                    let known = resolve_predefined_entity(name);
                    inner.push_str(known.ok_or_else(|| senseless(format!("'&{name};' is not known")))?);
                }
            },
            Event::Eof => break,
        }
    }
    if !seen || !path.is_empty() {
        return Err(senseless("there is no whole 'FileZilla3' in it"));
    }
    Ok(out)
}

/// The text so far is the name of the folder around, if there is one and it has none yet.
fn named(folders: &mut [String], inner: &str, path: &[String]) {
    if path.last().is_some_and(|p| p == "Folder")
        && let Some(last) = folders.last_mut().filter(|f| f.is_empty())
    {
        inner.trim().clone_into(last);
    }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> String {
    let found = start.attributes().flatten().find(|a| a.key.as_ref() == name);
    found.map(|a| a.value.into_owned()).unwrap_or_default()
}

fn one(out: &mut Imported, server: &Server, name: &str, drives: &Drives) {
    let ftp = |secure| SessionOptions::new().protocol(Protocol::Ftp).ftp_secure(secure);
    let mut o = match server.get("Protocol") {
        "" | "0" => {
            out.note(name, "Protocol=0: TLS 'if available' becomes TLS, or no session; edit the site for FTP in the clear");
            ftp(FtpSecure::Explicit)
        }
        "1" => SessionOptions::new(),
        "3" => ftp(FtpSecure::Implicit),
        "4" => ftp(FtpSecure::Explicit),
        "6" => ftp(FtpSecure::None),
        other => return out.note(name, format!("the site is left out: Protocol={other} is not taken over")),
    };
    o = o.host_name(session_core::net::dial::bare(server.get("Host")));
    let port = server.get("Port");
    if !port.is_empty() {
        o = out.apply(name, &format!("Port={port}"), o, |o| o.add_raw_setting("PortNumber", port));
        o.raw.clear();
    }
    let anonymous = server.get("Logontype") == "0";
    let user = server.get("User");
    if !user.is_empty() && !anonymous {
        o = o.user_name(user);
    }
    let (mut directory, ssh) = (None, o.protocol == Protocol::Sftp);
    for (key, value) in &server.values {
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        let what = format!("{key}={value}");
        match (key.as_str(), value) {
            (
                "Host" | "Port" | "Protocol" | "User" | "Name" | "Type" | "Logontype" | "Colour" | "Comments",
                _,
            )
            | ("EncodingType", "Auto" | "UTF-8")
            | ("TimezoneOffset" | "BypassProxy" | "SyncBrowsing" | "DirectoryComparison", "0")
            | ("PasvMode", "MODE_DEFAULT" | "MODE_PASSIVE")
            | ("MaximumMultipleConnections", _) => {}
            ("PasvMode", "MODE_ACTIVE") if !ssh => o = o.ftp_mode(FtpMode::Active),
            ("PasvMode", _) if ssh => {}
            ("Pass", _) if anonymous || user.is_empty() => {}
            ("Pass", text) => match (server.encoding.as_str(), STANDARD.decode(text)) {
                ("base64", Ok(plain)) => match String::from_utf8(plain) {
                    Ok(plain) => o = o.password(plain),
                    Err(_) => out.note(name, "the password: it is not UTF-8"),
                },
                ("", _) => o = o.password(text),
                ("crypt", _) => out.note(name, "the password: a master password encrypts it"),
                _ => out.note(name, "the password: how it is written down is not known"),
            },
            ("Account", account) if !ssh => {
                o = out.apply(name, "Account", o, |o| o.add_raw_setting("FtpAccount", account));
            }
            ("Keyfile", path) if ssh => {
                o = out.apply(name, &what, o, |o| Ok(o.ssh_private_key_path(drives.path(path)?)));
            }
            ("RemoteDir", text) => match remote(text) {
                Some(path) => directory = Some(path),
                None => out.note(name, format!("{what}: it is no path of Unix")),
            },
            ("LocalDir", _) => out.note(name, format!("{what}: a site here has no local directory")),
            ("PostLoginCommands" | "Parameter" | "Bookmark", _) => {
                out.note(name, format!("{key}: there is no such setting here"));
            }
            _ => out.note(name, format!("{what}: there is no such setting here")),
        }
    }
    out.take(name, o, directory);
}

/// A path in FileZilla's form: the kind of server (1 is Unix, 0 the default), the length of a prefix (always 0
/// for these), then each part with its length in front: `1 0 4 home 2 me`.
fn remote(text: &str) -> Option<String> {
    let mut rest = text;
    let mut number = || -> Option<usize> {
        let (digits, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        digits.parse().ok()
    };
    if number()? > 1 || number()? != 0 {
        return None;
    }
    let mut path = String::new();
    loop {
        if rest.is_empty() {
            return Some(if path.is_empty() { "/".to_owned() } else { path });
        }
        let (digits, after) = rest.split_once(' ')?;
        // Lengths count characters.
        let length: usize = digits.parse().ok()?;
        let cut = after.char_indices().nth(length).map_or(after.len(), |(at, _)| at);
        let (part, after) = after.split_at_checked(cut)?;
        if part.is_empty() || part.chars().count() != length || part.contains('/') {
            return None;
        }
        path.push('/');
        path.push_str(part);
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
}
